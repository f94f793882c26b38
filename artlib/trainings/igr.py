"""IGR (Wang & Kong, NeurIPS 2022, arXiv 2205.07279): integrated gradients that keep their direction under attack."""

from dataclasses import dataclass, fields, replace
from typing import Literal

from torch import Tensor, nn

from artlib import compiled
from artlib.attributions.integrated_gradients import integrate
from artlib.models.statistics import normalised_by
from artlib.settings import Count, NotNegative
from artlib.trainings import trades
from artlib.trainings.art import cosine_distance
from artlib.trainings.pgd import Pgd
from artlib.trainings.training import Batch, InnerAttack, Losses, _cross_entropy


@dataclass(frozen=True)
class Igr(InnerAttack):
    """min E[L_on(x, x_adv) + weight (1 - cos(IG(x), IG(x_adv)))], x_adv the end of the attack of `on`.

    on = "pgd": L_ce(x_adv), as `Pgd`; "trades": L_ce(x) + 6 KL(p(x) || p(x_adv)), as `Trades`. IG are the integrated
    gradients of f(x)_y from a black image, a right Riemann sum. The paper (arXiv 2205.07279) adds its regularizer to
    adversarial trainings; no code of it was found, and the weight, the number of points and the ReLU network are ours.
    """

    name, title, color = "igr", "IGR", "#332288"
    published = Pgd.published
    protocols = Pgd.protocols

    on: Literal["pgd", "trades"] = "pgd"
    weight: NotNegative = 1.0
    points: Count = 5

    @property
    def label(self) -> str:
        """igr, or igr-trades."""
        return self.name if self.on == "pgd" else f"{self.name}-{self.on}"

    @property
    def passes(self) -> float:
        """Those of what it is on, and an input gradient with its derivative in the weights, 7 F, for each point."""
        return self._base.passes + 14 * self.points

    def eased(self, *, steps: int | None = None, warmup: float | None = None) -> "Igr":
        """As `InnerAttack.eased`, with at most half as many points as steps."""
        eased = super().eased(steps=steps, warmup=warmup)
        return eased if steps is None else replace(eased, points=min(self.points, max(1, steps // 2)))

    @property
    def _base(self) -> InnerAttack:
        kind = Pgd if self.on == "pgd" else trades.Trades
        return kind(**{f.name: getattr(self, f.name) for f in fields(InnerAttack)})

    def attacked(self, batch: Batch) -> Tensor:
        """Ascent on the cross-entropy, or on the divergence."""
        return self._base.attacked(batch)

    def raised(self, batch: Batch, x_adv: Tensor) -> Tensor:
        """Cross-entropy, or the divergence."""
        return self._base.raised(batch, x_adv)

    def losses(self, batch: Batch) -> Losses:
        """The loss of what it is on, and the distance of the two attributions' directions."""
        x_adv = self.attacked(batch)
        settings = dict(on=self.on, weight=self.weight, points=self.points, statistics=self.statistics)
        options = dict(compile=batch.compile, **settings)
        total, distance, logits = compiled.loss(_losses, batch.model, batch.x, batch.y, x_adv, **options)
        return Losses(total, logits, {"IG": distance})


def _losses(
    model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, *, on: str, weight: float, points: int, statistics: str
) -> tuple[Tensor, ...]:
    def distance() -> Tensor:
        options = dict(steps=points, rule="right", baseline=0.0, target="logit", rows=512, hold_factor=False)
        with normalised_by(statistics, model, x_adv):
            a, b = (integrate(model, v.detach().requires_grad_(), y, create_graph=True, **options) for v in (x, x_adv))
            return cosine_distance(a, b).mean()

    found = distance() if statistics == "batch" else None  # the order of `art`, where it is explained
    if on == "pgd":
        loss, logits = _cross_entropy(model, x_adv, y)
    else:
        loss, _, logits = trades._losses(model, x, y, x_adv, weight=trades.Trades.weight)
    found = distance() if found is None else found
    return loss + weight * found, found, logits
