"""Projected gradient descent: the attack on the prediction."""

import torch
from torch import Tensor, nn

from artlib.attacks.ascend import ascend, check_attack
from artlib.attacks.balls import Ball
from artlib.attributions import input_gradient
from artlib.models import check_batch, frozen


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    ball: Ball,
    steps: int,
    step_size: float,
    random_start: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient descent on the cross-entropy (Madry et al. 2018; ART, Eq. 7), the model in eval mode.

    x (N, C, H, W) in [0, 1], y (N,); `step_size` in pixel units. Returns x_adv of the same shape, in the ball and in
    [0, 1]. Raises ValueError for images or labels out of range and for impossible attack settings.
    """
    check_attack(ball=ball, steps=steps, step_size=step_size)
    check_batch(x, y, model)
    with frozen(model):
        return ascend(
            lambda x_adv: input_gradient(model, x_adv, y, target="loss"),
            x,
            ball=ball,
            steps=steps,
            step_size=step_size,
            random_start=random_start,
            generator=generator,
        )
