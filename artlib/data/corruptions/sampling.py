"""What several corruptions share: draws, values between pixels and beyond borders, Gaussian and motion blur."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from artlib.data.images import send


def uniform(x: Tensor, *shape: int, low: float = 0.0, high: float = 1.0, generator: Generator) -> Tensor:
    """Uniform numbers of this shape, with the dtype and on the device of x, drawn on the CPU."""
    return send(low + (high - low) * torch.rand(shape, generator=generator, dtype=x.dtype), x.device)


def normal(x: Tensor, *shape: int, generator: Generator) -> Tensor:
    """Standard normal numbers, as `uniform`."""
    return send(torch.randn(shape, generator=generator, dtype=x.dtype), x.device)


def eight_bits(x: Tensor) -> Tensor:
    """The next multiple of 1/255 that is not larger, as when a float becomes an 8-bit integer; x in [0, 1]."""
    return (255 * x + 1e-3).floor() / 255  # what is a multiple already may have lost its last bits


def fold(i: Tensor, n: int, border: str) -> Tensor:
    """Indices of pixels 0..n-1 that stand for those at i, integers beyond the border: of a line 0 1 2 "mirror" goes
    on with 1 0, "reflect" with 2 1 0, "edge" with 2 2."""
    if border == "edge":
        return i.clamp(0, n - 1)
    period = max(1, 2 * (n - 1)) if border == "mirror" else 2 * n
    i = i % period
    return torch.minimum(i, period - i if border == "mirror" else period - 1 - i)


def pick(x: Tensor, rows: Tensor, columns: Tensor, border: str) -> Tensor:
    """x (N, C, H, W) at integer places (N, H', W') of its own image each; (N, C, H', W')."""
    rows, columns = fold(rows, x.shape[2], border), fold(columns, x.shape[3], border)
    image = torch.arange(len(x), device=x.device).view(-1, 1, 1)
    return x.permute(0, 2, 3, 1)[image, rows, columns].permute(0, 3, 1, 2)


def bilinear(x: Tensor, rows: Tensor, columns: Tensor, border: str) -> Tensor:
    """x at places (N, H', W') between its pixels, whose centres are integers."""
    top, left = rows.floor(), columns.floor()
    down, right = (rows - top)[:, None], (columns - left)[:, None]
    i, j = top.long(), left.long()
    above, below = ((1 - right) * pick(x, k, j, border) + right * pick(x, k, j + 1, border) for k in (i, i + 1))
    return (1 - down) * above + down * below


def grid(x: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of every pixel, (1, H, W) each, in the dtype of x."""
    rows, columns = (torch.arange(n, dtype=x.dtype, device=x.device) for n in x.shape[2:])
    return tuple(g[None] for g in torch.meshgrid(rows, columns, indexing="ij"))


def correlate(x: Tensor, kernel: Tensor, border: str) -> Tensor:
    """Every channel of x with a kernel (2a + 1, 2b + 1)."""
    for axis, size in zip((2, 3), kernel.shape, strict=True):
        reach, n = size // 2, x.shape[axis]
        x = x.index_select(axis, fold(torch.arange(-reach, n + reach, device=x.device), n, border))
    weight = kernel.to(x)[None, None].expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(x, weight, groups=x.shape[1])


def gaussian(x: Tensor, sigma: float, *, border: str = "edge", truncate: float = 4.0) -> Tensor:
    """Gaussian blur with a kernel that ends at `truncate` sigmas, as scipy.ndimage's and scikit-image's."""
    reach = int(truncate * sigma + 0.5)
    i = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (i / max(sigma, 1e-9)) ** 2)
    weights = weights / weights.sum()
    return correlate(correlate(x, weights[:, None], border), weights[None], border)


def motion(x: Tensor, angles: Tensor, *, radius: int, sigma: float) -> Tensor:
    """Motion blur as ImageMagick's: the mean of 2 radius + 1 pixels in direction `angles` (N,), in degrees.

    Their weights fall off on one side like a normal density of `sigma`; places are rounded to whole pixels, and the
    border goes on.
    """
    radians = angles.double() * (math.pi / 180)
    width = 2 * radius + 1
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(width)]
    rows, columns = (g.long() for g in grid(x))
    total = torch.zeros_like(x)
    for i, weight in enumerate(weights):
        down, right = ((i * f(radians) - 0.5).ceil().long().view(-1, 1, 1) for f in (torch.sin, torch.cos))
        total = total + weight / sum(weights) * pick(x, rows + down, columns + right, "edge")
    return total


def zoomed(x: Tensor, factor: float) -> Tensor:
    """The middle of x enlarged to its size, linearly between the corners' centres as scipy.ndimage.zoom does."""
    crops = [math.ceil(n / factor) for n in x.shape[2:]]
    x, sizes = _middle(x, crops), x.shape[2:]
    larger = [round(n * factor) for n in crops]
    return _middle(F.interpolate(x, size=larger, mode="bilinear", align_corners=True), sizes)


def _middle(x: Tensor, sizes: Sequence[int]) -> Tensor:
    top, left = ((n - size) // 2 for n, size in zip(x.shape[2:], sizes, strict=True))
    return x[:, :, top : top + sizes[0], left : left + sizes[1]]
