"""Directions of an attack's steps, where they are not the steepest ones of its ball."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from artlib.settings import Positive, Settings, Share


class Stepper(Protocol):
    """Settings of a kind of step; `start()` gives one attack's own function from gradient to direction."""

    def start(self) -> Callable[[Tensor], Tensor]:
        """A direction for every gradient that it is given, in their order."""


@dataclass(frozen=True)
class Sign:
    """sign(g), whatever the ball."""

    def start(self) -> Callable[[Tensor], Tensor]:
        """torch.sign."""
        return torch.sign


@dataclass(frozen=True)
class L2Step:
    """g / ||g||_2 of every image, whatever the ball."""

    def start(self) -> Callable[[Tensor], Tensor]:
        """The normalisation, which remembers nothing."""
        return lambda g: g / g.flatten(1).norm(dim=1).clamp_min(1e-12).reshape(-1, 1, 1, 1)


@dataclass(frozen=True)
class Adam(Settings):
    """Kingma and Ba 2015: m / (sqrt(v) + eps) with running means m of g and v of g^2, corrected for their start."""

    beta1: Share = 0.9
    beta2: Share = 0.999
    eps: Positive = 1e-8

    def start(self) -> Callable[[Tensor], Tensor]:
        """Means of this attack alone."""
        m = v = 0.0
        step = 0

        def direction(g: Tensor) -> Tensor:
            nonlocal m, v, step
            step += 1
            m, v = self.beta1 * m + (1 - self.beta1) * g, self.beta2 * v + (1 - self.beta2) * g.square()
            return m / (1 - self.beta1**step) / ((v / (1 - self.beta2**step)).sqrt() + self.eps)

        return direction
