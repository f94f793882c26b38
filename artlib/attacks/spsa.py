"""SPSA: an attack that sees logits alone, and estimates the gradient from them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from artlib.attacks.ascend import ascend, check_attack
from artlib.attacks.balls import Ball
from artlib.attacks.steppers import Adam, Stepper
from artlib.attributions import score
from artlib.data import send
from artlib.models import check_batch, frozen


def spsa_gradient(
    objective: Callable[[Tensor, int], Tensor], x: Tensor, *, samples: int, delta: float, generator: torch.Generator
) -> Tensor:
    """Simultaneous perturbation estimate of d objective / d x, the shape of x (N, C, H, W) (Spall 1992).

    The mean over `samples` / 2 of (f(x + delta v) - f(x - delta v)) / (2 delta) v, v random signs, the same for all
    images. `objective(images, times)` gives (times * N,) for so many copies of the batch, one after the other.
    """
    shape = (samples // 2, *x.shape[1:])
    signs = send(2.0 * torch.randint(0, 2, shape, generator=generator).to(x.dtype) - 1, x.device)[:, None]
    copies = torch.cat([x + delta * signs, x - delta * signs]).flatten(0, 1)
    up, down = objective(copies, samples).view(2, samples // 2, len(x))
    slope = ((up - down) / (2 * delta))[..., None, None, None]
    return (slope * signs).mean(0)


def spsa(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    ball: Ball,
    steps: int = 100,
    samples: int = 128,
    delta: float = 0.01,
    step_size: float = 0.01,
    stepper: Stepper | None = None,
    generator: torch.Generator,
    rows: int = 1024,
) -> Tensor:
    """SPSA on the margin loss (Uesato et al. 2018), the model in eval mode: x_adv of the shape of x, in the ball.

    Raises max over i != y of f(x)_i minus f(x)_y by Adam steps (`stepper`) along `spsa_gradient` of `samples`
    evaluations with a spread of `delta`, both in pixel units; it begins at x. `rows` bounds the images that pass
    through the model at once. ART gives no settings (DIFFERENCES.md, P-12). Raises ValueError for bad images,
    labels and settings.
    """
    check_attack(ball=ball, steps=steps, step_size=step_size)
    if samples < 2 or samples % 2 or not delta > 0:
        raise ValueError(f"samples is {samples} and delta {delta}; an even number from 2 on, and a spread above 0")
    check_batch(x, y, model)
    size, found = max(1, rows // samples), []
    with frozen(model), torch.no_grad():
        for xb, yb in zip(x.split(size), y.split(size), strict=True):

            def margin(images: Tensor, times: int, yb: Tensor = yb) -> Tensor:
                return score(model(images), yb.repeat(times), target="margin")

            def gradient(x_adv: Tensor, margin: Callable = margin) -> Tensor:
                return spsa_gradient(margin, x_adv, samples=samples, delta=delta, generator=generator)

            loop = dict(ball=ball, steps=steps, step_size=step_size, stepper=stepper or Adam())
            found.append(ascend(gradient, xb, **loop))
    return torch.cat(found) if found else x.clone()
