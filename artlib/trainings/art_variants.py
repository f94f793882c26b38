"""ART with another objective in the place of Eq. 5: the rows of its Table 5, and an attack that raises L_ce as well."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artlib import compiled
from artlib.attacks.ascend import gradient_of
from artlib.attributions.gradient import input_gradient
from artlib.models.statistics import normalised_by
from artlib.models.surrogate import smooth
from artlib.trainings.art import (
    Art,
    _mask,
    _over_channels,
    _pixel_scale,
    _triplet,
    attribution_loss,
    cosine_distance,
    runner_up,
)
from artlib.trainings.training import Batch, _cross_entropy

WORDS = {
    "change": "Eq. 2",
    "l2": "Eq. 4, l2",
    "cosine": "Eq. 4, cosine",
    "least-likely": "Eq. 5, i* least likely",
    "combined": "attack on L_attr + L_ce",
    "triplet": "Eq. 5",
}
DISTANCES = ("change", "l2", "cosine")  # of one gradient, without a negative


@dataclass(frozen=True)
class ArtVariant(Art):
    """min E[L_ce(x_adv) + lambda L(x_adv)], x_adv = argmax over the ball of L, with another L than ART's Eq. 5.

    g = g^y, d the cosine distance. change: ||g(x_adv) - g(x)||_2, what Eq. 2 maximises; l2: ||g(x_adv) - x_adv||_2, the
    bound of Eq. 4; cosine: d(g(x_adv), x_adv); least-likely: Eq. 5 with i* = argmin over i != y of f(x)_i; combined:
    Eq. 5, its attack on L_attr + L_ce, L_ce of the ReLU network (appendix C); triplet: Eq. 5, which is `Art`.
    Ours, since nothing is printed: lambda and the attack as for Eq. 5, norms not squared, y never its own i*, both
    losses of the attack with weight 1. What `Art` says of cosines and negatives does nothing to the first three.
    """

    name, title, color = "art-variant", "ART variant", "#F0E442"

    objective: Literal["change", "l2", "cosine", "least-likely", "combined", "triplet"] = "cosine"

    @property
    def label(self) -> str:
        """art-variant-cosine, say."""
        return f"{self.name}-{self.objective}"

    @property
    def heading(self) -> str:
        """The row of Table 5."""
        return f"ART, {WORDS[self.objective]}"

    @property
    def passes(self) -> float:
        """One gradient fewer than `Art`, two where its change counts; the steps of "combined" add those of PGD."""
        costs = {"change": (18, 4), "l2": (10, 4), "cosine": (10, 4), "combined": (15, 8)}
        update, step = costs.get(self.objective, (12, 6))
        return update + step * self.steps

    @property
    def _function(self) -> Callable:
        return _losses

    def _negative(self, batch: Batch) -> Tensor | None:
        if self.objective in DISTANCES:
            return None
        if self.objective != "least-likely":
            return super()._negative(batch)
        with torch.no_grad(), self.attacking(batch):
            return least_likely(batch.model(batch.x), batch.y)

    def raised(self, batch: Batch, x_adv: Tensor) -> Tensor:
        """L of the attacked images; with L_ce where the attack raises both."""
        negative = None
        if self.objective not in DISTANCES:
            choose = least_likely if self.objective == "least-likely" else runner_up
            with torch.no_grad():
                negative = choose(batch.model(batch.x), batch.y)
        settings = replace(self._of_loss, mining=False, loss_cosine_eps=0.0)
        found = variant_loss(batch.model, x_adv, batch.y, settings=settings, clean=batch.x, negative=negative)
        if self.objective != "combined":
            return found
        return found + F.cross_entropy(batch.model(x_adv), batch.y, reduction="none")

    def attacked(self, batch: Batch, negative: Tensor | None = None) -> Tensor:
        """Ascent on L; `negative` (N,) are the classes i*, if they are there already."""
        negative = self._negative(batch) if negative is None else negative
        with self.attacking(batch):
            masked = self.attack_topk is not None and self.objective not in DISTANCES
            mask = _mask(batch, self) if masked else None
            clean = None
            if self.objective == "change":
                with smooth(batch.model, self.beta, threshold=self.threshold):
                    clean = input_gradient(batch.model, batch.x, batch.y)

            def gradient(x_adv: Tensor) -> Tensor:
                options = dict(settings=self._of_loss, whole=batch.whole, compile=batch.compile)
                return compiled.call(_attack_gradient, batch.model, x_adv, batch.y, negative, mask, clean, **options)

            return self.ascend(gradient, batch)


def least_likely(logits: Tensor, y: Tensor) -> Tensor:
    """argmin over i != y of f(x)_i, (N,)."""
    return logits.scatter(1, y[:, None], torch.inf).argmin(1)


def variant_loss(
    model: nn.Module,
    x_adv: Tensor,
    y: Tensor,
    *,
    settings: ArtVariant,
    clean: Tensor,
    negative: Tensor | None = None,
    whole: int | None = None,
) -> Tensor:
    """L of `settings.objective` per image, (N,), in the model's present mode; lower is better.

    x_adv, clean (N, C, H, W) in [0, 1], y and negative (N,). A norm of the first two has the unit of a gradient, logits
    per unit of pixel value. Differentiable in x_adv and in the weights.
    """
    s = settings
    if s.objective not in DISTANCES:
        return attribution_loss(model, x_adv, y, settings=s, clean=clean, negative=negative, whole=whole)
    with smooth(model, s.beta, threshold=s.threshold):
        before = _gradient(model, clean, y, s, loss=True) if s.objective == "change" else None
        return _distance(model, x_adv, y, s, before, loss=True)


def _gradient(model: nn.Module, x: Tensor, y: Tensor, s: ArtVariant, *, loss: bool) -> Tensor:
    """g^y(x) with its graph, by what the loss is differentiated by."""
    x = x if x.requires_grad else x.detach().requires_grad_()
    g = input_gradient(model, x, y, create_graph=True)
    return g * _pixel_scale(model, s)[1] if loss and s.loss_gradient == "normalized" else g


def _distance(model: nn.Module, x: Tensor, y: Tensor, s: ArtVariant, before: Tensor | None, *, loss: bool) -> Tensor:
    g, (mean, std) = _over_channels(_gradient(model, x, y, s, loss=loss), s.channels), _pixel_scale(model, s)
    if s.objective == "change":
        return _length(g - _over_channels(before, s.channels))
    anchor = _over_channels((x - mean) / std if s.anchor == "normalized" else x, s.channels)
    return cosine_distance(g, anchor) if s.objective == "cosine" else _length(g - anchor)


def _length(v: Tensor) -> Tensor:
    """||v||_2, (N,), with a derivative of 0 at 0, where a root's is infinite."""
    square = v.flatten(1).square().sum(1)
    return square.where(square > 0, 1.0).sqrt().where(square > 0, 0.0)


def _attack_gradient(model, x_adv, y, negative, mask, clean, *, settings: ArtVariant, whole: int | None) -> Tensor:
    s = settings

    def raised(z: Tensor) -> Tensor:
        if s.objective in DISTANCES:
            return _distance(model, z, y, s, clean, loss=False)
        return _triplet(model, z, y, s, negative, loss=False, mask=mask, whole=whole)

    with smooth(model, s.beta, threshold=s.threshold):
        g = gradient_of(raised, x_adv)
    return g + input_gradient(model, x_adv, y, target="loss") if s.objective == "combined" else g


def _losses(model, x, y, x_adv, negative, *, settings: ArtVariant, whole: int | None) -> tuple[Tensor, Tensor, Tensor]:
    s = settings

    def alignment() -> Tensor:
        with normalised_by(s.statistics, model, x_adv):
            return variant_loss(model, x_adv, y, settings=s, clean=x, negative=negative, whole=whole).mean()

    attr = alignment() if s.statistics == "batch" else None  # the order of `Art`, where it is explained
    ce, logits = _cross_entropy(model, x_adv, y)
    attr = alignment() if attr is None else attr
    return ce + s.weight * attr, attr, logits
