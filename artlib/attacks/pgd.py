"""Projected gradient descent: the attack on the prediction."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from artlib.attacks.ascend import Watched, ascend, check_attack
from artlib.attacks.balls import Ball
from artlib.attacks.steppers import Stepper
from artlib.attributions import input_gradient, score
from artlib.models import check_batch, frozen

LOSSES = {"cross-entropy": "loss", "margin": "margin"}  # and their names in `attributions.score`


@dataclass(frozen=True)
class Attacked:
    """What `pgd` found, one row an image: x_adv (N, C, H, W); logits (N, classes) of x_adv; vanished (N,).

    `vanished` is True where the gradient was 0 or NaN everywhere at every step of every restart: such an image has
    hardly been attacked, and a prediction that stays says nothing.
    """

    x_adv: Tensor
    logits: Tensor
    vanished: Tensor


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    ball: Ball,
    steps: int,
    step_size: float,
    loss: str = "cross-entropy",
    random_start: bool = True,
    restarts: int = 1,
    generator: torch.Generator | None = None,
    stepper: Stepper | None = None,
    batch_size: int | None = None,
    report: bool = False,
) -> Tensor | Attacked:
    """Projected gradient descent on a loss (Madry et al. 2018; ART, Eq. 7), the model in eval mode.

    `loss` is "cross-entropy" or "margin", max over i != y of f(x)_i minus f(x)_y (Carlini and Wagner 2017). Of several
    `restarts` the best end is kept for every image: one that is misclassified, then the highest loss. x (N, C, H, W) in
    [0, 1], y (N,); `step_size` in pixel units; `batch_size` images at a time, all by default, with the same result.
    Returns x_adv of the same shape, in the ball and in [0, 1], or with `report` what `Attacked` says. Raises ValueError
    for images or labels out of range and for impossible settings.
    """
    check_attack(ball=ball, steps=steps, step_size=step_size)
    _check_settings(loss, restarts, random_start, batch_size)
    check_batch(x, y, model)
    x, size = x.detach(), batch_size or max(1, len(x))
    gradient = partial(input_gradient, model, target=LOSSES[loss])
    loop = dict(ball=ball, steps=steps, step_size=step_size, stepper=stepper)
    best = None
    with frozen(model):
        for _ in range(restarts):
            start = ball.random(x, generator=generator) if random_start else x
            batches = zip(x.split(size), y.split(size), start.split(size), strict=True)
            ends = [_ascend(gradient, *batch, **loop) for batch in batches]
            x_adv, vanished = (torch.cat(parts) for parts in zip(*ends, strict=True))
            if restarts == 1 and not report:
                return x_adv
            with torch.no_grad():
                logits = torch.cat([model(part.clone()) for part in x_adv.split(size)])
            found = Attacked(x_adv, logits, vanished)
            best = found if best is None else _better(best, found, y, LOSSES[loss])
    return best if report else best.x_adv


def _ascend(gradient, x, y, start, **loop) -> tuple[Tensor, Tensor]:
    watched = Watched(lambda x_adv: gradient(x_adv, y))
    return ascend(watched, x, start=start, **loop), watched.vanished(x)


def _better(a: Attacked, b: Attacked, y: Tensor, target: str) -> Attacked:
    (wrong_a, loss_a), (wrong_b, loss_b) = (
        (r.logits.argmax(1) != y, score(r.logits, y, target=target)) for r in (a, b)
    )
    # A loss that is NaN is never better, and never worth keeping.
    b_wins = (wrong_b & ~wrong_a) | ((wrong_b == wrong_a) & ((loss_b > loss_a) | (loss_a.isnan() & ~loss_b.isnan())))
    rows = b_wins.reshape(-1, 1, 1, 1)
    x_adv = torch.where(rows, b.x_adv, a.x_adv)
    return Attacked(x_adv, torch.where(b_wins[:, None], b.logits, a.logits), a.vanished & b.vanished)


def _check_settings(loss: str, restarts: int, random_start: bool, batch_size: int | None) -> None:
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}; choose one of {', '.join(LOSSES)}")
    if restarts < 1 or (batch_size is not None and batch_size < 1):
        raise ValueError(f"restarts is {restarts} and batch_size {batch_size}; both are 1 or more")
    if restarts > 1 and not random_start:
        raise ValueError(f"{restarts} restarts without a random start are the same attack; let random_start be True")
