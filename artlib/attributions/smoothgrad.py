"""SmoothGrad: the mean gradient of noisy copies of the image."""

import torch
from torch import Tensor, nn

from artlib.attributions.gradient import input_gradient
from artlib.data import send
from artlib.models import check_batch, mode


def smoothgrad(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    draws: int = 50,
    sigma: float = 0.15,
    seed: int = 0,
    noise: Tensor | None = None,
    target: str = "logit",
    rows: int = 512,
    points: tuple[int, int] | None = None,
    create_graph: bool = False,
) -> Tensor:
    """SmoothGrad (Smilkov et al. 2017): mean over `draws` of d f(x + sigma n)_y / d x, n standard normal.

    `sigma` in pixel units, of which an image spans 1 (theirs: 0.1 to 0.2 of the range); noisy copies are not clipped.
    n is `noise` (draws, C, H, W), by default `standard_normal(x, draws=draws, seed=seed)`: every image gets the same
    draws whatever batch it is in, so that the maps of an image and of an attacked one differ by the image alone.
    `points` (first, last) adds up those draws alone, `rows` bounds how many copies pass through the model at once.
    Returns the shape of x, in logits per unit of pixel value; the model is in eval mode meanwhile. Raises ValueError as
    `gradient` does, and for draws < 1 or sigma < 0.
    """
    _count(draws=draws, sigma=sigma)
    check_batch(x, y, model)
    noise = standard_normal(x, draws=draws, seed=seed) if noise is None else noise
    if noise.shape != (draws, *x.shape[1:]):
        raise ValueError(f"noise is {tuple(noise.shape)}; {draws} draws of these images are {(draws, *x.shape[1:])}")
    first, last = points or (0, None)
    x = x if create_graph else x.detach()
    with mode(model, False):
        images = zip(x.split(rows), y.split(rows), strict=True)
        sums = [_sum(model, a, b, sigma * noise[first:last], target, rows, create_graph) for a, b in images]
    return torch.cat(sums) / draws


def _sum(model, x, y, noise, target, rows, create_graph) -> Tensor:
    total = torch.zeros_like(x)
    for n in noise.split(max(1, rows // max(1, len(x)))):
        copies = (x + n[:, None]).flatten(0, 1)  # (draws * N, C, H, W)
        g = input_gradient(model, copies, y.repeat(len(n)), target=target, create_graph=create_graph)
        total = total + g.unflatten(0, (len(n), len(x))).sum(0)
    return total


def standard_normal(x: Tensor, *, draws: int = 50, seed: int = 0, **_) -> Tensor:
    """Noise (draws, C, H, W) for images x (N, C, H, W), drawn on the CPU from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    return send(torch.randn(draws, *x.shape[1:], generator=generator, dtype=x.dtype), x.device)


def _count(*, draws: int = 50, sigma: float = 0.15, **_) -> int:
    if draws < 1 or not sigma >= 0:
        raise ValueError(f"draws is {draws} and sigma {sigma}; at least 1 draw, a sigma of 0 or more (0.1 to 0.2)")
    return draws


smoothgrad.count, smoothgrad.noise = _count, standard_normal
