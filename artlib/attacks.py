"""Attacks on the prediction: one loop, two balls, projected gradient descent."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from artlib.attributions import input_gradient
from artlib.data import send
from artlib.models import check_batch, frozen


def _norm(v: Tensor) -> Tensor:
    return v.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, 1, 1, 1)


@dataclass(frozen=True)
class Linf:
    """|x_adv - x| <= eps for every value, and pixels stay in [0, 1]; eps in pixel units (8/255)."""

    eps: float

    def random(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """A start drawn uniformly from the ball, clipped to the pixel range."""
        noise = send(torch.rand(x.shape, generator=generator, dtype=x.dtype), x.device)
        return (x + self.eps * (2 * noise - 1)).clamp(0, 1)

    def direction(self, g: Tensor) -> Tensor:
        """Steepest ascent in this norm: sign(g)."""
        return g.sign()

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The nearest point of the ball around x, then of the pixel range."""
        return torch.minimum(torch.maximum(x_adv, x - self.eps), x + self.eps).clamp(0, 1)


@dataclass(frozen=True)
class L2:
    """||x_adv - x||_2 <= eps per image, and pixels stay in [0, 1]; eps in pixel units."""

    eps: float

    def random(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """A start in a uniformly drawn direction at a uniformly drawn distance, clipped to the pixel range."""
        noise = send(torch.randn(x.shape, generator=generator, dtype=x.dtype), x.device)
        radius = send(torch.rand(len(x), 1, 1, 1, generator=generator, dtype=x.dtype), x.device)
        return (x + self.eps * radius * noise / _norm(noise)).clamp(0, 1)

    def direction(self, g: Tensor) -> Tensor:
        """Steepest ascent in this norm: g / ||g||_2."""
        return g / _norm(g)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The nearest point of the ball around x, then of the pixel range."""
        delta = x_adv - x
        return (x + delta * (self.eps / _norm(delta)).clamp_max(1)).clamp(0, 1)


Ball = Linf | L2


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
