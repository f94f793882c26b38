"""Random changes of a batch of images, drawn anew each epoch."""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from artlib.data.images import send


@dataclass(frozen=True)
class Augment:
    """Random changes of a batch x (N,C,H,W) in [0,1], drawn for every image on its own; all zero is the identity.

    Order: warp (rotation, translation, projection in one bilinear resampling, edges repeated), window, crop, flip, then
    brightness, contrast and saturation. Randomness is drawn on the CPU, the work is done on x's device.
    """

    crop: int = 0  # pixels of zero padding on each side, then a crop back to the size
    flip: bool = False  # left-right, probability 1/2
    jitter: float = 0.0  # factors of brightness, contrast, saturation uniform in 1 -+ jitter
    rotation: float = 0.0  # degrees, uniform in -+ rotation
    translate: float = 0.0  # pixels, each axis uniform in -+ translate
    project: float = 0.0  # corners move by -+ 0.3 u of the side, u uniform in [0, project] for each image
    window: int = 0  # pixels: of every image so many rows and columns from a place of its own; 0: all of it

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < float("inf"):
                raise ValueError(f"{field.name} must be finite and not negative, not {getattr(self, field.name)}")

    def __call__(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        if self.rotation or self.translate or self.project:
            x = self._warp(x, generator)
        if self.window:
            x = self._cut(x, generator)
        if self.crop:
            shift = torch.randint(0, 2 * self.crop + 1, (2, len(x)), generator=generator)
            x = _windows(F.pad(x, [self.crop] * 4), send(shift, x.device), *x.shape[2:])
        if self.flip:
            turned = torch.rand(len(x), generator=generator) < 0.5
            x = torch.where(send(turned, x.device)[:, None, None, None], x.flip(3), x)
        if self.jitter:
            x = _jitter(x, 1 + self.jitter * send(_uniform(generator, 3, len(x)).to(x.dtype), x.device))
        return x.clamp(0, 1)

    def _warp(self, x: Tensor, generator: torch.Generator) -> Tensor:
        count, (height, width) = len(x), x.shape[2:]
        half = torch.tensor([width, height], dtype=torch.float64) / 2
        corners = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)  # (4,2) x, y
        angle = torch.deg2rad(self.rotation * _uniform(generator, count))
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(count, 2, 2)
        strength = self.project * torch.rand(count, 1, 1, generator=generator, dtype=torch.float64)
        moved = (corners * half) @ turn.mT + self.translate * _uniform(generator, count, 1, 2)
        moved = moved + 0.3 * strength * 2 * half * _uniform(generator, count, 4, 2)
        grid = send(_homography_grid(corners, moved / half, height, width).to(x.dtype), x.device)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def _cut(self, x: Tensor, generator: torch.Generator) -> Tensor:
        room = torch.tensor(x.shape[2:]) - self.window
        if (room < 0).any():
            raise ValueError(f"a window of {self.window} pixels is not inside images of {tuple(x.shape[2:])}")
        shift = torch.rand(2, len(x), generator=generator, dtype=torch.float64) * (room[:, None] + 1)
        return _windows(x, send(shift.long(), x.device), self.window, self.window)


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1


def _homography_grid(source: Tensor, target: Tensor, height: int, width: int) -> Tensor:
    """Sampling grid (N,H,W,2) of the homographies that take corners `source` (4,2) to `target` (N,4,2), in [-1,1]."""
    (x, y), (u, v) = source.expand_as(target).unbind(2), target.unbind(2)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    rows_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=2)  # u = (a x + b y + c) / (g x + h y + 1)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=2)
    entries = torch.linalg.solve(torch.cat([rows_u, rows_v], dim=1), torch.cat([u, v], dim=1))
    matrix = torch.cat([entries, one[:, :1]], dim=1).view(-1, 3, 3)
    across = (torch.arange(width, dtype=matrix.dtype) + 0.5) * 2 / width - 1
    down = (torch.arange(height, dtype=matrix.dtype) + 0.5) * 2 / height - 1
    points = torch.stack(
        [*torch.meshgrid(across, down, indexing="xy"), torch.ones(height, width, dtype=matrix.dtype)], dim=2
    )
    mapped = points.view(1, -1, 3) @ matrix.mT  # (N,H*W,3)
    return (mapped[..., :2] / mapped[..., 2:]).view(-1, height, width, 2)


def _windows(x: Tensor, shift: Tensor, height: int, width: int) -> Tensor:
    """Each image's own window (N,C,height,width) of x, from row and column shift (2,N)."""
    rows = (shift[0, :, None] + torch.arange(height, device=x.device))[:, None, :, None]
    columns = (shift[1, :, None] + torch.arange(width, device=x.device))[:, None, None, :]
    image = torch.arange(len(x), device=x.device)[:, None, None, None]
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return x[image, channel, rows, columns]


def _jitter(x: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast, saturation (factors (3,N)): blend with black, the mean grey, the grey image; clamp each."""
    brightness, contrast, saturation = factors[..., None, None, None]
    x = (brightness * x).clamp(0, 1)
    x = (contrast * x + (1 - contrast) * _grey(x).mean((1, 2, 3), keepdim=True)).clamp(0, 1)
    return (saturation * x + (1 - saturation) * _grey(x)).clamp(0, 1)


def _grey(x: Tensor) -> Tensor:
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    luma = send(torch.tensor([0.299, 0.587, 0.114], dtype=x.dtype), x.device)  # ITU-R BT.601
    return (x * luma[:, None, None]).sum(1, keepdim=True)
