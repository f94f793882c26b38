"""The spatial attack: an image is shifted and turned until it is misclassified."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artlib.attributions import score
from artlib.data import send
from artlib.models import check_batch, frozen


def moved(x: Tensor, moves: Tensor) -> Tensor:
    """Images x (N, C, H, W) shifted right and down and turned by `moves` (N, 3): two in pixels, one in degrees.

    Turned counter-clockwise about the middle, then shifted; bilinear, zeros from outside.
    """
    height, width = x.shape[2:]
    right, down, degrees = moves.to(x).unbind(1)
    sin, cos = (degrees * (math.pi / 180)).sin(), (degrees * (math.pi / 180)).cos()
    rows, columns = (torch.arange(n, dtype=x.dtype, device=x.device) - (n - 1) / 2 for n in (height, width))
    rows, columns = rows[None, :, None] - down[:, None, None], columns[None, None, :] - right[:, None, None]
    sin, cos = sin[:, None, None], cos[:, None, None]
    from_columns, from_rows = cos * columns - sin * rows, sin * columns + cos * rows
    grid = torch.stack([2 * from_columns / width, 2 * from_rows / height], -1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@dataclass(frozen=True)
class Moved:
    """What `spatial` found, one row an image: x_adv (N, C, H, W), moves (N, 3), and whether any was misclassified."""

    x_adv: Tensor
    moves: Tensor
    fooled: Tensor


def spatial(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    pixels: float = 3.0,
    degrees: float = 30.0,
    grid: Sequence[int] | None = (5, 5, 31),
    draws: int = 10,
    generator: torch.Generator | None = None,
) -> Moved:
    """The worst of all shifts and turns of a grid, or of random ones, for every image (Engstrom et al. 2019).

    Shifts of up to `pixels` in both directions and turns of up to `degrees`. `grid`: how many of each; None tries
    `draws` uniformly drawn ones, an image's own. The worst is a misclassified one, then that of the highest
    cross-entropy. The model is in eval mode meanwhile. Raises ValueError for bad images, labels and settings.
    """
    if not (pixels >= 0 and degrees >= 0 and draws >= 1 and (grid is None or (len(grid) == 3 and min(grid) >= 1))):
        raise ValueError(f"pixels {pixels}, degrees {degrees}, grid {grid}, draws {draws}: 0 or more, three counts, 1")
    check_batch(x, y, model)
    limits = x.new_tensor([pixels, pixels, degrees])
    if grid is None:
        tried = send(2 * torch.rand(draws, len(x), 3, generator=generator, dtype=x.dtype) - 1, x.device)
    else:
        lines = [torch.linspace(-1, 1, n, dtype=x.dtype) if n > 1 else torch.zeros(1, dtype=x.dtype) for n in grid]
        tried = torch.tensor(list(itertools.product(*(line.tolist() for line in lines))), dtype=x.dtype)
        tried = tried.to(x.device)[:, None].expand(-1, len(x), -1)
    worst = x.new_full((len(x),), -torch.inf)
    found = Moved(x.clone(), torch.zeros_like(limits).repeat(len(x), 1), torch.zeros_like(y, dtype=torch.bool))
    with frozen(model), torch.no_grad():
        for moves in limits * tried:
            images = moved(x, moves).clamp(0, 1)
            logits = model(images.clone())
            wrong, loss = logits.argmax(1) != y, score(logits, y, target="loss")
            better = (wrong & ~found.fooled) | ((wrong == found.fooled) & (loss > worst))
            worst[better], found.fooled[better] = loss[better], wrong[better]
            found.x_adv[better], found.moves[better] = images[better], moves[better]
    return found
