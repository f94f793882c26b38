"""How far an attack may go: the l_inf ball, the l2 ball, the pixel range alone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from artlib.data import send


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


@dataclass(frozen=True)
class Box:
    """Pixels stay in [0, 1], and nothing else binds them (Dombrowski et al. 2019)."""

    def random(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Uniformly drawn pixels."""
        return send(torch.rand(x.shape, generator=generator, dtype=x.dtype), x.device)

    def direction(self, g: Tensor) -> Tensor:
        """sign(g), as in the l_inf ball that a box is."""
        return g.sign()

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The nearest point of the pixel range."""
        return x_adv.clamp(0, 1)


Ball = Linf | L2 | Box
