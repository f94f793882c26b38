"""GradSHAP: gradients at random points between random baselines and the noisy image."""

import torch
from torch import Tensor, nn

from artlib.attributions.gradient import input_gradient
from artlib.data import send
from artlib.models import check_batch, mode


def gradshap(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 100,
    sigma: float = 0.0,
    baselines: Tensor | tuple[float, ...] = (0.0,),
    seed: int = 0,
    noise: Tensor | None = None,
    target: str = "logit",
    rows: int = 512,
    points: tuple[int, int] | None = None,
    create_graph: bool = False,
) -> Tensor:
    """GradSHAP (Lundberg and Lee 2017; expected gradients): the mean over `steps` draws of (x_n - b) * df(z)_y.

    x_n = x + sigma n, n standard normal, z = b + t (x_n - b), t uniform in [0, 1], b one of `baselines`: grey levels,
    or images (B, C, H, W), in pixel units. `noise` (steps, C + 1, H, W), by default `draw(x, ...)`, holds n and, in the
    corners [C, 0, 0] and [C, 0, 1] of a channel more, t and a uniform number that chooses b: every image gets the same
    draws, so that the maps of an image and of an attacked one differ by the image alone. `points` (first, last) adds up
    those draws alone, `rows` bounds how many copies pass through the model at once. Returns the shape of x; in
    expectation over the draws its sum is the mean of f(x_n)_y - f(b)_y. ART gives no settings. The model is in eval
    mode meanwhile. Raises ValueError as `gradient` does, for steps < 1, sigma < 0 and no baselines.
    """
    _count(steps=steps, sigma=sigma, baselines=baselines)
    check_batch(x, y, model)
    noise = draw(x, steps=steps, seed=seed) if noise is None else noise
    if noise.shape != (expected := _shape(x, steps)):
        raise ValueError(f"noise is {tuple(noise.shape)}; for {steps} draws of these images it is {expected}")
    first, last = points or (0, None)
    x = x if create_graph else x.detach()
    with mode(model, False):
        images = zip(x.split(rows), y.split(rows), strict=True)
        options = (sigma, _images(baselines, x), noise[first:last], target, rows, create_graph)
        return torch.cat([_sum(model, a, b, *options) for a, b in images]) / steps


def _sum(model, x, y, sigma, baselines, noise, target, rows, create_graph) -> Tensor:
    total = torch.zeros_like(x)
    for n in noise.split(max(1, rows // max(1, len(x)))):
        t, choice = n[:, -1, 0, 0], n[:, -1].flatten(1)[:, 1]
        b = baselines[(choice * len(baselines)).long()][:, None]  # (draws, 1, C, H, W)
        difference = x + sigma * n[:, None, :-1] - b
        z = (b + t.view(-1, 1, 1, 1, 1) * difference).flatten(0, 1)
        g = input_gradient(model, z, y.repeat(len(n)), target=target, create_graph=create_graph)
        total = total + (difference * g.unflatten(0, (len(n), len(x)))).sum(0)
    return total


def _images(baselines: Tensor | tuple[float, ...], x: Tensor) -> Tensor:
    baselines = torch.as_tensor(baselines).to(x)
    return baselines if baselines.ndim == 4 else baselines.view(-1, 1, 1, 1).expand(-1, *x.shape[1:])


def _shape(x: Tensor, steps: int) -> tuple[int, ...]:
    return steps, x.shape[1] + 1, *x.shape[2:]


def draw(x: Tensor, *, steps: int = 100, seed: int = 0, **_) -> Tensor:
    """What `gradshap` draws for images x (N, C, H, W), on the CPU from `seed`: (steps, C + 1, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(_shape(x, steps), generator=generator, dtype=x.dtype)
    normal[:, -1] = torch.rand(normal[:, -1].shape, generator=generator, dtype=x.dtype)
    return send(normal, x.device)


def _count(*, steps: int = 100, sigma: float = 0.0, baselines: Tensor | tuple[float, ...] = (0.0,), **_) -> int:
    if steps < 1 or not sigma >= 0 or not len(baselines):
        raise ValueError(f"steps is {steps}, sigma {sigma}, with {len(baselines)} baselines; 1, 0 and 1 are the least")
    return steps


gradshap.count, gradshap.noise = _count, draw
