"""CURE (Moosavi-Dezfooli et al., CVPR 2019): a loss whose curvature is small where its gradient points."""

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from artlib import compiled
from artlib.attributions.gradient import input_gradient
from artlib.models.statistics import normalised_by
from artlib.settings import NotNegative, Share
from artlib.trainings.pgd import Pgd
from artlib.trainings.training import Batch, Losses, Training, _cross_entropy


@dataclass(frozen=True)
class Cure(Training):
    """min E[L_ce(x) + weight ||grad L_ce(x + h z) - grad L_ce(x)||_2^2], z = sign(grad L_ce(x)) / ||sign(.)||_2.

    Gradients are in the image. The released code (F-Salehi/CURE_robustness, d825d95) has weight 4, takes running
    statistics there, lets h grow over the first epochs and ends at 3 for images divided by a standard deviation of
    about 0.2, hence 0.6 in pixels; its norm is not squared and of gradients of a mean over the batch, so that its 4 is
    another strength: on a fresh WRN-10-1 the penalty here is about a thousand times as large. It fine-tunes a
    trained network; here, as in all rows of a table, one is trained from its start, which is ours, as are held
    statistics in `paper` and the share of the training in which h grows.
    """

    name, title, color = "cure", "CURE", "#882255"
    protocols = Pgd.protocols

    weight: NotNegative = 4.0  # gamma
    h: NotNegative = 0.6  # l2 length of the step, in pixel units
    statistics: Literal["running", "batch", "held"] = "running"  # of both gradients
    warmup: Share = 0.25  # share of the training in which h grows from 0

    @property
    def passes(self) -> float:
        """Cross-entropy, and two input gradients with their derivatives in the weights: 7 F each."""
        return 17

    def at(self, progress: float) -> "Cure":
        """With a shorter step while the warm-up lasts."""
        return self if progress >= self.warmup else replace(self, h=self.h * progress / self.warmup)

    def losses(self, batch: Batch) -> Losses:
        """Cross-entropy and the curvature, 1 / h^2 of which `weight` holds."""
        h = batch.x.new_tensor(self.h)  # a tensor, so that a step that grows needs no graph of its own
        options = dict(weight=self.weight, statistics=self.statistics, compile=batch.compile)
        total, curvature, logits = compiled.loss(_losses, batch.model, batch.x, batch.y, h, **options)
        return Losses(total, logits, {"curvature": curvature})


def _losses(model: nn.Module, x: Tensor, y: Tensor, h: Tensor, *, weight: float, statistics: str) -> tuple[Tensor, ...]:
    def curvature() -> Tensor:
        with normalised_by(statistics, model, x):
            return _curvature(model, x, y, h).mean()

    # As in `art`: with batch statistics in the order of the code, else cross-entropy moves the running ones before.
    found = curvature() if statistics == "batch" else None
    ce, logits = _cross_entropy(model, x, y)
    found = curvature() if found is None else found
    return ce + weight * found, found, logits


def _curvature(model: nn.Module, x: Tensor, y: Tensor, h: Tensor) -> Tensor:
    """||grad L_ce(x + h z) - grad L_ce(x)||_2^2 per image, (N,), with its graph."""
    options = dict(target="loss", create_graph=True)
    here = input_gradient(model, x.detach().requires_grad_(), y, **options)
    z = here.detach().sign()
    z = z / z.flatten(1).norm(dim=1).clamp_min(1.0).view(-1, 1, 1, 1)  # a gradient of 0 has no direction
    there = input_gradient(model, (x + h * z).detach().requires_grad_(), y, **options)
    return (there - here).flatten(1).square().sum(1)
