"""The one loop of every attack: a step uphill, then back into the ball."""

from collections.abc import Callable

import torch
from torch import Tensor

from artlib.attacks.balls import Ball, Linf
from artlib.attacks.steppers import Stepper


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
    stepper: Stepper | None = None,
    visit: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """x_adv <- project(x_adv + step_size * direction(gradient(x_adv))), `steps` times (Madry et al. 2018).

    `gradient` maps images (N, C, H, W) to the gradient of what is to be raised; where it is NaN or infinite nothing
    moves. Directions are the ball's, or those of `stepper`. The loop begins at `start`, at a random point of the ball,
    or at x. `visit(step, x_adv)` sees the start (step 0) and every iterate. Returns the last iterate, detached.
    """
    x, direction = x.detach(), stepper.start() if stepper else ball.direction
    if start is None:
        start = ball.random(x, generator=generator) if random_start else x
    x_adv = start.detach().clone()
    for step in range(steps):
        if visit:
            visit(step, x_adv)
        x_adv = ball.project(x_adv + step_size * direction(_finite(gradient(x_adv))), x)
    if visit:
        visit(steps, x_adv)
    return x_adv


def _finite(g: Tensor) -> Tensor:
    return g.where(g.isfinite(), 0.0)


class Watched:
    """A gradient for `ascend` that remembers of every image whether it was of use at any step."""

    def __init__(self, gradient: Callable[[Tensor], Tensor]):
        self.gradient, self.alive = gradient, None

    def __call__(self, x: Tensor) -> Tensor:
        """The gradient at x (N, C, H, W), the same images at every call."""
        g = _finite(self.gradient(x))
        alive = (g != 0).flatten(1).any(1)
        self.alive = alive if self.alive is None else self.alive | alive
        return g

    def vanished(self, x: Tensor) -> Tensor:
        """(N,): whether an image's gradient was 0 or NaN everywhere at every step; False where no step was made."""
        return torch.zeros(len(x), dtype=torch.bool, device=x.device) if self.alive is None else ~self.alive


def check_attack(*, ball: Ball, steps: int, step_size: float) -> None:
    """Raise ValueError for a ball, a number of steps or a step size that cannot be meant."""
    if not isinstance(ball, Ball):
        choices = "attacks.Linf(eps), attacks.L2(eps), eps in pixel units, or attacks.Box()"
        raise ValueError(f"ball is {ball!r}; use {choices}")
    if isinstance(ball, Linf) and not 0 <= ball.eps <= 1:
        raise ValueError(f"eps is {ball.eps}; in pixel units it lies between 0 and 1 (write 8/255, not 8)")
    eps = getattr(ball, "eps", 0.0)
    if not (eps >= 0 and steps >= 0 and step_size >= 0):
        raise ValueError(f"eps {eps}, steps {steps} and step_size {step_size} must not be negative")
