"""Local gradient alignment (Joo et al., AAAI 2023, arXiv 2211.15900): gradients like those of a random neighbour."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from artlib import compiled
from artlib.attacks.balls import Linf
from artlib.attributions.gradient import input_gradient
from artlib.models.statistics import normalised_by
from artlib.settings import NotNegative, Pixels
from artlib.trainings.art import cosine_distance
from artlib.trainings.pgd import Pgd
from artlib.trainings.training import Batch, Losses, Training, _cross_entropy


@dataclass(frozen=True)
class Lga(Training):
    """min E[L_ce(x) + l2 ||g(x) - g(z)||_2^2 + cosine (1 - cos(g(x), g(z))) / 2], z uniform in the l_inf ball around x.

    g = d f(x)_y / d x, per unit of normalised pixel value; g(x) is a constant. Weights, radius and these two choices
    are those of the released code for a ResNet-18 on CIFAR-10 (joshua840/RobustAGA, f488c1d), whose network is of
    softplus with beta 3; ReLU, as in all rows of a table here, and held statistics in `paper` are ours.
    """

    name, title, color = "lga", "l2 + cosine", "#44AA99"
    protocols = Pgd.protocols

    eps: Pixels = 4 / 255
    l2: NotNegative = 0.01
    cosine: NotNegative = 0.1
    statistics: Literal["running", "batch", "held"] = "running"  # of both gradients

    @property
    def passes(self) -> float:
        """Cross-entropy, an input gradient, and one with its derivative in the weights."""
        return 3 + 2 + 7

    def start(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        """The neighbour, for a whole batch."""
        return Linf(self.eps).random(x, generator=generator)

    def losses(self, batch: Batch) -> Losses:
        """Cross-entropy and both distances of the two gradients."""
        settings = dict(l2=self.l2, cosine=self.cosine, statistics=self.statistics)
        options = dict(compile=batch.compile, **settings)
        found = compiled.loss(_losses, batch.model, batch.x, batch.y, batch.start, **options)
        total, square, angle, logits = found
        return Losses(total, logits, {"l2": square, "cosine": angle})


def _losses(
    model: nn.Module, x: Tensor, y: Tensor, near: Tensor, *, l2: float, cosine: float, statistics: str
) -> tuple[Tensor, ...]:
    def distances() -> tuple[Tensor, Tensor]:
        scale = model.normalization.std if hasattr(model, "normalization") else 1.0
        with normalised_by(statistics, model, x):
            here = input_gradient(model, x, y) * scale
            there = input_gradient(model, near.detach().requires_grad_(), y, create_graph=True) * scale
        return (here - there).flatten(1).square().sum(1).mean(), cosine_distance(here, there).mean() / 2

    # As in `art`: with batch statistics in the order of the code, else cross-entropy moves the running ones before.
    found = distances() if statistics == "batch" else None
    ce, logits = _cross_entropy(model, x, y)
    square, angle = distances() if found is None else found
    return ce + l2 * square + cosine * angle, square, angle, logits
