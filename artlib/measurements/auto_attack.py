"""Accuracy under AutoAttack (Croce & Hein 2020), whose parts come from torchattacks, an optional package."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from artlib.attacks.balls import Linf
from artlib.data.images import ImageSet
from artlib.measurements.accuracy import Accuracy
from artlib.measurements.measurement import Measurement, Metric, at_once, floats, shuffled
from artlib.models.statistics import frozen
from artlib.progress import bar as progress_bar
from artlib.settings import Count, Pixels


@dataclass(frozen=True)
class AutoAttack(Measurement):
    """Whether an image is still classified correctly (0 or 1) after each part of the standard version, one by one.

    Parts see the images that the ones before have left: APGD on cross-entropy, targeted APGD and targeted FAB (nine
    classes), Square. The last column is AutoAttack's robust accuracy. Square
    asks for no gradient: what it alone finds is a sign that gradients are masked.
    """

    name, title = "auto_attack", "Accuracy under AutoAttack"
    metrics = {
        "apgd_ce": Metric("APGD-CE", paired=True),
        "apgd_t": Metric("+ APGD-T", paired=True),
        "fab_t": Metric("+ FAB-T", paired=True),
        "auto_attack": Metric("+ Square: AutoAttack", paired=True),
    }
    published = {name: dict(eps=v["eps"]) for name, v in Accuracy.published.items() if "eps" in v}
    presets = {
        "smoke": dict(images=10, steps=2, queries=4, targets=1),
        "quick": dict(images=50, steps=20, queries=100, targets=3),
        "cpu": dict(images=200, queries=1000),
    }
    loops = {"steps": 1}

    images: Count | None = 1000
    eps: Pixels = 8 / 255
    steps: Count = 100
    queries: Count = 5000  # of Square
    targets: Count = 9  # classes that the targeted parts try, the likeliest first

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index and a column a part. Raises ImportError without torchattacks."""
        order = shuffled(images, self)
        some = images.subset(order)
        (x, y), rows, held = floats(model, some), at_once(self.rows, some), []
        with progress_bar(len(y), self.title, unit="image", shown=progress) as bar, frozen(model):
            for xb, yb in zip(x.split(rows), y.split(rows), strict=True):
                held.append(torch.stack(list(self._parts(model, xb, yb))))
                bar.update(len(xb))
        return {"index": order} | dict(zip(self.metrics, torch.cat(held, 1).double(), strict=True))

    def _parts(self, model: nn.Module, x: Tensor, y: Tensor) -> Iterator[Tensor]:
        """Who is left after each part, (N,)."""
        ball = Linf(self.eps)
        left = _right(model, x, y)
        for attack in self._attacks(_Single(model).eval(), _classes(model, x)):
            if attack and left.any():
                devices = [x.device] if x.is_cuda else []
                with torch.random.fork_rng(devices=devices), torch.enable_grad():  # they seed torch's own generator
                    x_adv = attack(x[left].float(), y[left]).to(x)
                left = left.masked_scatter(left, _right(model, ball.project(x_adv, x[left]), y[left]))
            yield left

    def _attacks(self, model: nn.Module, classes: int) -> list:
        """The four; None for targeted APGD where there are fewer than the four classes that its loss compares."""
        try:
            from torchattacks import APGD, APGDT, FAB, Square
        except ImportError:
            raise ImportError("AutoAttack's parts come from torchattacks: pip install torchattacks") from None
        options = dict(norm="Linf", eps=self.eps, seed=self.seed)
        targeted = options | dict(steps=self.steps, n_classes=min(self.targets + 1, classes))
        return [
            APGD(model, steps=self.steps, **options),
            APGDT(model, **targeted) if classes > 3 else None,
            FAB(model, multi_targeted=True, **targeted),
            Square(model, n_queries=self.queries, **options),
        ]


class _Single(nn.Module):
    """A model in single precision from outside, as torchattacks has its images."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.dtype = model, next(model.parameters()).dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.to(self.dtype)).float()


@torch.no_grad()
def _classes(model: nn.Module, x: Tensor) -> int:
    return model(x[:1].clone()).shape[1]


@torch.no_grad()
def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return model(x.clone()).argmax(1) == y
