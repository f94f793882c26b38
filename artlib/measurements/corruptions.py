"""Accuracy under common corruptions (Table 3 of ART)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from artlib.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from artlib.data.images import ImageSet
from artlib.measurements.measurement import Measurement, Metric, at_once, floats, shuffled
from artlib.progress import bar as progress_bar

MEAN = "mean_corruption"
TITLES = {MEAN: "mean of 15"} | {name: name.replace("_", " ") for name in CORRUPTIONS}


@dataclass(frozen=True)
class CorruptionAccuracy(Measurement):
    """Per image and corruption: the share of the five severities at which it is classified correctly.

    The corruptions are drawn on the fly with CIFAR-10-C's constants (`data.corruptions`), the same for every model.
    """

    name, title = "corruptions", "Accuracy under common corruptions"
    metrics = {column: Metric(title, paired=True) for column, title in TITLES.items()}
    presets = {"smoke": dict(images=50), "quick": dict(images=300), "cpu": dict(images=1000)}

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index, mean_corruption (over all of them), and one column a corruption."""
        order = shuffled(images, self)
        some = images.subset(order)
        (x, y), rows = floats(model, some), at_once(self.rows, some)
        found = {}
        with progress_bar(len(y) * len(CORRUPTIONS), self.title, unit="image", shown=progress) as bar:
            for name in CORRUPTIONS:
                noise, shares = torch.Generator().manual_seed(self.seed), []
                for xb, yb in zip(x.split(rows), y.split(rows), strict=True):
                    shares.append(_share(model, xb, yb, name, noise))
                    bar.update(len(xb))
                found[name] = torch.cat(shares)
        return {"index": order, MEAN: torch.stack(list(found.values())).mean(0), **found}


@torch.no_grad()
def _share(model: nn.Module, x: Tensor, y: Tensor, name: str, noise: torch.Generator) -> Tensor:
    right = [model(corrupt(x, name, severity=s, generator=noise)).argmax(1) == y for s in SEVERITIES]
    return torch.stack(right).double().mean(0)
