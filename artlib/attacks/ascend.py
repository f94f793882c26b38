"""The one loop of every attack: a step uphill, then back into the ball."""

from collections.abc import Callable

import torch
from torch import Tensor

from artlib.attacks.balls import L2, Ball, Linf


def gradient_of(objective: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """d sum(objective(x)) / d x, the shape of x, without a graph."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(objective(leaf).sum(), leaf)[0]


def ascend(
    gradient: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    ball: Ball,
    steps: int,
    step_size: float,
    start: Tensor | None = None,
    random_start: bool = False,
    generator: torch.Generator | None = None,
    visit: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """x_adv <- project(x_adv + step_size * direction(gradient(x_adv))), `steps` times (Madry et al. 2018).

    `gradient` maps images (N, C, H, W) to the gradient of what is to be raised. The loop begins at `start`, at a
    random point of the ball, or at x. `visit(step, x_adv)` sees the start (step 0) and every iterate. Returns the
    last iterate, detached.
    """
    x = x.detach()
    if start is None:
        start = ball.random(x, generator=generator) if random_start else x
    x_adv = start.detach().clone()
    for step in range(steps):
        if visit:
            visit(step, x_adv)
        x_adv = ball.project(x_adv + step_size * ball.direction(gradient(x_adv)), x)
    if visit:
        visit(steps, x_adv)
    return x_adv


def check_attack(*, ball: Ball, steps: int, step_size: float) -> None:
    """Raise ValueError for a ball, a number of steps or a step size that cannot be meant."""
    if not isinstance(ball, Linf | L2):
        raise ValueError(f"ball is {ball!r}; use attacks.Linf(eps) or attacks.L2(eps), eps in pixel units")
    if isinstance(ball, Linf) and not 0 <= ball.eps <= 1:
        raise ValueError(f"eps is {ball.eps}; in pixel units it lies between 0 and 1 (write 8/255, not 8)")
    if ball.eps < 0 or steps < 0 or step_size < 0:
        raise ValueError(f"eps {ball.eps}, steps {steps} and step_size {step_size} must not be negative")
