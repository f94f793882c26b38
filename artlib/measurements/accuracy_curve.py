"""Accuracy against the size of the l_inf and of the l2 ball (Figure 14 of ART)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from artlib.attacks.balls import L2, Ball, Linf
from artlib.attacks.pgd import pgd
from artlib.data.images import ImageSet
from artlib.measurements.measurement import Measurement, Metric, at_once, floats, predictions, shuffled
from artlib.progress import bar as progress_bar
from artlib.settings import Count, Positive, Whole

BALLS: dict[str, Ball] = {f"linf_{e}": Linf(e / 255) for e in (1, 2, 4, 8, 12, 16)}  # the paper names no values
BALLS |= {f"l2_{e:g}": L2(e) for e in (0.25, 0.5, 1.0, 1.5, 2.0)}
_UNITS = {"linf": "l_inf, {}/255", "l2": "l2, {}"}
CLEAN = "clean"


@dataclass(frozen=True)
class AccuracyCurve(Measurement):
    """Whether an image is classified correctly by itself and under PGD in balls of growing size (0 or 1).

    An image that a smaller ball has lost is lost in a larger one of the same norm, which holds the smaller.
    """

    name, title = "accuracy_curve", "Accuracy against epsilon"
    metrics = {CLEAN: Metric("clean", paired=True)} | {
        column: Metric(_UNITS[column.split("_")[0]].format(column.split("_")[1]), paired=True) for column in BALLS
    }
    presets = {
        "smoke": dict(images=50, steps=3),
        "quick": dict(images=200, steps=20),
        "cpu": dict(images=500),
    }
    loops = {"steps": 0}

    steps: Whole = 40
    reach: Positive = 10.0  # steps * step_size in units of epsilon: PGD-40 of 2/255 in 8/255
    restarts: Count = 1
    loss: Literal["cross-entropy", "margin"] = "cross-entropy"

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index, clean, and a column a ball; NaN where the image was not lost and PGD's gradient vanished."""
        order = shuffled(images, self)
        some = images.subset(order)
        x, y = floats(model, some)
        found = {CLEAN: (predictions(model, some) == y).double()}
        with progress_bar(len(y) * len(BALLS), self.title, unit="image", shown=progress) as bar:
            for column, ball in BALLS.items():
                held = torch.cat([self._held(model, *batch, ball, bar) for batch in self._batches(x, y, some)])
                smaller = next((c for c in reversed(found) if c.split("_")[0] == column.split("_")[0]), CLEAN)
                found[column] = torch.where(found[smaller] == 0, 0.0, held)
        return {"index": order, **found}

    def _batches(self, x: Tensor, y: Tensor, images: ImageSet) -> list[tuple[Tensor, Tensor, torch.Generator]]:
        noise, rows = torch.Generator().manual_seed(self.seed), at_once(self.rows, images)
        return [(xb, yb, noise) for xb, yb in zip(x.split(rows), y.split(rows), strict=True)]

    def _held(self, model: nn.Module, x: Tensor, y: Tensor, noise: torch.Generator, ball: Ball, bar) -> Tensor:
        step_size = self.reach * ball.eps / max(1, self.steps)
        options = dict(ball=ball, steps=self.steps, step_size=step_size, restarts=self.restarts, loss=self.loss)
        found = pgd(model, x, y, generator=noise, report=True, **options)
        held = (found.logits.argmax(1) == y).double()
        bar.update(len(x))
        return held.masked_fill(found.vanished & (held > 0) & (self.steps > 0), torch.nan)
