"""Accuracy under more steps, without gradients, in the l2 ball, under shifts and turns (Section 5 of ART)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from artlib.attacks.balls import L2, Ball, Linf
from artlib.attacks.pgd import pgd
from artlib.attacks.spatial import spatial
from artlib.attacks.spsa import spsa
from artlib.data.images import ImageSet
from artlib.measurements.accuracy import Accuracy
from artlib.measurements.measurement import Measurement, Metric, at_once, floats, shuffled
from artlib.progress import bar as progress_bar
from artlib.settings import Count, NotNegative, Pixels, Positive, Whole


@dataclass(frozen=True)
class OtherThreats(Measurement):
    """Whether an image is still classified correctly (0 or 1) under each attack; columns as ART's Section 5 has them.

    pgd_100, pgd_500: PGD in the l_inf ball, the long one from `restarts` random starts; spsa: without gradients;
    l2_pgd_40; spatial: the worst of a grid of shifts and turns; spatial_random: the worst of `spatial_draws`. Of
    settings ART gives the eps of l2 alone (DIFFERENCES.md, P-12).
    """

    name, title = "other_threats", "Accuracy under other threats"
    metrics = {
        "pgd_100": Metric("PGD-100", paired=True),
        "pgd_500": Metric("PGD-500", paired=True),
        "spsa": Metric("SPSA", paired=True),
        "l2_pgd_40": Metric("l2 PGD-40", paired=True),
        "spatial": Metric("spatial", paired=True),
        "spatial_random": Metric("spatial, random", paired=True),
    }
    published = Accuracy.published  # the same balls and steps
    presets = {
        "smoke": dict(
            images=50,
            strong_steps=3,
            long_steps=5,
            restarts=1,
            l2_steps=3,
            spsa_steps=2,
            spsa_samples=4,
            spatial_shifts=2,
            spatial_turns=3,
        ),
        "quick": dict(
            images=100,
            strong_steps=50,
            long_steps=100,
            restarts=1,
            spsa_steps=20,
            spsa_samples=32,
            spatial_shifts=3,
            spatial_turns=11,
        ),
        "cpu": dict(images=500, restarts=2, spsa_samples=32),
    }
    loops = {"strong_steps": 0, "long_steps": 0, "l2_steps": 0, "spsa_steps": 0, "spatial_turns": 1}

    images: Count | None = 1000
    eps: Pixels = 8 / 255
    step_size: NotNegative = 2 / 255  # as PGD-40's
    strong_steps: Whole = 100
    long_steps: Whole = 500
    restarts: Count = 5  # of the long one
    l2_eps: NotNegative = 1.0
    l2_steps: Whole = 40
    l2_step_size: NotNegative = 0.25  # a quarter of the ball, as PGD-40's 2/255 is of 8/255
    spsa_steps: Whole = 100
    spsa_samples: Count = 128
    spsa_delta: Positive = 0.01
    spsa_step_size: NotNegative = 0.01
    spatial_shifts: Count = 5  # of the grid, in each of two directions
    spatial_turns: Count = 31
    spatial_draws: Count = 10
    pixels: NotNegative = 3.0
    degrees: NotNegative = 30.0

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index and a column an attack; NaN where its gradient vanished at every step: nothing was attacked."""
        order = shuffled(images, self)
        some = images.subset(order)
        (x, y), rows = floats(model, some), at_once(self.rows, some)
        found = {}
        with progress_bar(len(y) * len(self.metrics), self.title, unit="image", shown=progress) as bar:
            for column, attack in self._attacks().items():
                noise, held = torch.Generator().manual_seed(self.seed), []
                for xb, yb in zip(x.split(rows), y.split(rows), strict=True):
                    held.append(attack(model, xb, yb, generator=noise))
                    bar.update(len(xb))
                found[column] = torch.cat(held)
        return {"index": order, **found}

    def _attacks(self) -> dict[str, Callable[..., Tensor]]:
        """By column: from a batch to whether each image held."""
        linf, moves = Linf(self.eps), dict(pixels=self.pixels, degrees=self.degrees)

        def gradient(ball: Ball, steps: int, step_size: float, restarts: int = 1) -> Callable[..., Tensor]:
            def attack(model, x, y, *, generator):
                options = dict(ball=ball, steps=steps, step_size=step_size, restarts=restarts, generator=generator)
                found = pgd(model, x, y, report=True, **options)
                held = (found.logits.argmax(1) == y).double()
                return held.masked_fill(found.vanished & (steps > 0), torch.nan)

            return attack

        @torch.no_grad()
        def estimated(model, x, y, *, generator):
            options = dict(steps=self.spsa_steps, samples=self.spsa_samples, delta=self.spsa_delta)
            x_adv = spsa(model, x, y, ball=linf, step_size=self.spsa_step_size, generator=generator, **options)
            held = (model(x_adv.clone()).argmax(1) == y).double()
            unmoved = (x_adv == x).flatten(1).all(1) & (self.spsa_steps * self.eps > 0)
            return held.masked_fill(unmoved, torch.nan)  # every estimate was 0

        def moved(model, x, y, *, generator):
            grid = (self.spatial_shifts, self.spatial_shifts, self.spatial_turns)
            return (~spatial(model, x, y, grid=grid, **moves).fooled).double()

        def moved_at_random(model, x, y, *, generator):
            options = dict(grid=None, draws=self.spatial_draws, generator=generator)
            return (~spatial(model, x, y, **options, **moves).fooled).double()

        return {
            "pgd_100": gradient(linf, self.strong_steps, self.step_size),
            "pgd_500": gradient(linf, self.long_steps, self.step_size, self.restarts),
            "spsa": estimated,
            "l2_pgd_40": gradient(L2(self.l2_eps), self.l2_steps, self.l2_step_size),
            "spatial": moved,
            "spatial_random": moved_at_random,
        }
