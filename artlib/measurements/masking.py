"""Signs that a network hides its gradients instead of being robust (Athalye et al. 2018; Carlini et al. 2019)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artlib.attacks.balls import Linf
from artlib.attacks.pgd import pgd
from artlib.attributions.gradient import gradient
from artlib.data.images import ImageSet, send
from artlib.measurements.accuracy import Accuracy
from artlib.measurements.measurement import Measurement, Metric, at_once, floats, shuffled
from artlib.metrics.rank import cosine
from artlib.models.statistics import mode, normalised_by
from artlib.models.surrogate import smooth
from artlib.progress import bar as progress_bar
from artlib.settings import Count, NotNegative, Pixels, Positive, Whole

_NATS = dict(unit="", scale=1.0, bounds=(0.0, torch.inf), paired=True)


@dataclass(frozen=True)
class Masking(Measurement):
    """Per image: the cross-entropy in nats at x, at the worst of random corners of the ball, and along PGD.

    PGD starts at x, so that its losses tell steps apart and no start. In a sound network every one is above the one
    before; a random corner that does as well as PGD, or a loss that still rises much between `steps` and `longer` times
    as many, says that gradients mislead. softplus: the cosine of the input gradients of f_y of the network and of its
    softplus_beta surrogate: near 0, attacks through the surrogate see another network. *_running, *_held: accuracy at x
    and at the end of PGD with the statistics of batch normalisation that are used, and with those measured on the
    images at hand: far apart, what was trained is not the network that is used.
    """

    name, title = "masking", "Signs of masked gradients"
    metrics = {
        "loss_clean": Metric("loss, clean", **_NATS),
        "loss_random": Metric("loss, random corner", **_NATS),
        "loss_one": Metric("loss, 1 step", **_NATS),
        "loss_pgd": Metric("loss, PGD", **_NATS),
        "loss_long": Metric("loss, long PGD", **_NATS),
        "softplus": Metric("cosine with softplus", unit="", scale=1.0, bounds=(-1.0, 1.0), paired=True),
        "natural_running": Metric("clean, running statistics", paired=True),
        "natural_held": Metric("clean, held statistics", paired=True),
        "adversarial_running": Metric("PGD, running statistics", paired=True),
        "adversarial_held": Metric("PGD, held statistics", paired=True),
    }
    published = Accuracy.published  # the same balls and steps
    presets = {"smoke": dict(images=20, steps=3), "quick": dict(images=100), "cpu": dict(images=500)}
    loops = {"steps": 0, "corners": 1}

    eps: Pixels = 8 / 255
    steps: Whole = 40
    step_size: NotNegative = 2 / 255
    longer: Count = 5  # times the steps
    corners: Count = 10
    beta: Positive = 50.0

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index and the metrics; softplus is NaN where a gradient is 0."""
        order = shuffled(images, self)
        some = images.subset(order)
        (x, y), rows = floats(model, some), at_once(self.rows, some)
        noise, parts = torch.Generator().manual_seed(self.seed), []
        with progress_bar(len(y), self.title, unit="image", shown=progress) as bar:
            for xb, yb in zip(x.split(rows), y.split(rows), strict=True):
                parts.append(self._batch(model, xb, yb, generator=noise))
                bar.update(len(xb))
        return {"index": order} | {name: torch.cat([part[name] for part in parts]) for name in self.metrics}

    def _batch(self, model: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> dict[str, Tensor]:
        ball = Linf(self.eps)

        def loss(at: Tensor) -> Tensor:
            with torch.no_grad():
                return F.cross_entropy(model(at.clone()), y, reduction="none")

        def corner() -> Tensor:
            signs = torch.rand(x.shape, generator=generator, dtype=x.dtype) < 0.5
            return ball.project(x + self.eps * (1 - 2 * send(signs, x.device).to(x)), x)

        def end(steps: int, step_size: float = self.step_size) -> Tensor:
            return pgd(model, x, y, ball=ball, steps=steps, step_size=step_size, random_start=False)

        found = {"loss_clean": loss(x), "loss_random": loss(corner())}
        for _ in range(self.corners - 1):
            found["loss_random"] = torch.maximum(found["loss_random"], loss(corner()))
        x_adv = end(self.steps)
        found |= {"loss_one": loss(end(1, self.eps)), "loss_pgd": loss(x_adv)}
        found["loss_long"] = loss(end(self.longer * self.steps))
        return found | {"softplus": self._softplus(model, x, y)} | _by_statistics(model, x, x_adv, y)

    def _softplus(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        with smooth(model, self.beta):
            g = gradient(model, x, y)
        return cosine(*(v.flatten(1)[:, None] for v in (gradient(model, x, y), g)))


@torch.no_grad()
def _by_statistics(model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor) -> dict[str, Tensor]:
    found = {}
    for name, at in (("natural", x), ("adversarial", x_adv)):
        found[f"{name}_running"] = (model(at.clone()).argmax(1) == y).double()
        with mode(model, True), normalised_by("held", model, at):
            found[f"{name}_held"] = (model(at.clone()).argmax(1) == y).double()
    return found
