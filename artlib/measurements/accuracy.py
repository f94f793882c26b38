"""Clean accuracy, and accuracy under projected gradient descent (Table 1 of ART)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from artlib.attacks.balls import Linf
from artlib.attacks.pgd import pgd
from artlib.data.images import ImageSet
from artlib.measurements.measurement import Measurement, Metric, at_once, floats, predictions, shuffled
from artlib.progress import bar as progress_bar
from artlib.settings import Count, NotNegative, Pixels, Whole


@dataclass(frozen=True)
class Accuracy(Measurement):
    """natural: whether the image is classified correctly; adversarial: whether it still is under PGD (0 or 1).

    Defaults are the paper's for CIFAR-10 (ART, A.3.5).
    """

    name, title = "accuracy", "Accuracy"
    metrics = {
        "natural": Metric("natural accuracy", paired=True),
        "adversarial": Metric("PGD accuracy", paired=True),
    }
    published = {  # ART, B.1; Chen et al.'s code (2019)
        "cub200": dict(eps=2 / 255, step_size=0.5 / 255),
        "mnist": dict(eps=0.3, step_size=0.01),
        "fashion_mnist": dict(eps=0.1, step_size=0.01),
    }
    presets = {"smoke": dict(images=50, steps=3), "quick": dict(images=300), "cpu": dict(images=1000)}
    loops = {"steps": 0}

    eps: Pixels = 8 / 255
    steps: Whole = 40
    step_size: NotNegative = 2 / 255  # C-16: not in the text
    restarts: Count = 1
    loss: Literal["cross-entropy", "margin"] = "cross-entropy"

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index, natural, adversarial, and vanished: whether PGD's gradient was 0 or NaN at every step (0 or 1).

        Where it vanished nothing was attacked, and adversarial is NaN, whatever the prediction.
        """
        order = shuffled(images, self)
        some = images.subset(order)
        x, y = floats(model, some)
        noise = torch.Generator().manual_seed(self.seed)
        attack = dict(ball=Linf(self.eps), steps=self.steps, step_size=self.step_size, loss=self.loss)
        attack |= dict(restarts=self.restarts, generator=noise, report=True)
        held, vanished, rows = [], [], at_once(self.rows, some)
        with progress_bar(len(y), f"PGD-{self.steps}", unit="image", shown=progress) as bar:
            for xb, yb in zip(x.split(rows), y.split(rows), strict=True):
                found = pgd(model, xb, yb, **attack)
                held.append((found.logits.argmax(1) == yb).double())
                vanished.append(found.vanished)
                bar.update(len(xb))
        adversarial, lost = torch.cat(held), torch.cat(vanished) & (self.steps > 0)
        adversarial[lost] = torch.nan
        natural = predictions(model, some) == y
        return {"index": order, "natural": natural, "adversarial": adversarial, "vanished": lost}
