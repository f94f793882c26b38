"""Accuracy under common corruptions (Table 3 of ART)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from artlib.data.corruptions import CORRUPTIONS, SEVERITIES, SOURCES, source_of
from artlib.data.images import ImageSet
from artlib.measurements.measurement import Measurement, Metric, at_once, floats, shuffled
from artlib.progress import bar as progress_bar

MEAN = "mean_corruption"
TITLES = {MEAN: "mean of 15"} | {name: name.replace("_", " ") for name in CORRUPTIONS}


@dataclass(frozen=True)
class CorruptionAccuracy(Measurement):
    """Per image and corruption: the share of the five severities at which it is classified correctly.

    source: "drawn", on the fly with CIFAR-10-C's constants (`data.corruptions`), the same for every model, or
    "official", from the released files of CIFAR-10-C, with their labels.
    """

    name, title = "corruptions", "Accuracy under common corruptions"
    metrics = {column: Metric(title, paired=True) for column, title in TITLES.items()}
    presets = {"smoke": dict(images=50), "quick": dict(images=300), "cpu": dict(images=1000)}

    source: Literal["drawn", "official"] = "drawn"

    @classmethod
    def of(cls, dataset: str, *, preset: str = "paper", **changes: Any) -> Self:
        """The settings for a data set, with the `source` that there is; `smoke` has images of 28 pixels, and draws."""
        there = "drawn" if preset == "smoke" else source_of(dataset)
        return super().of(dataset, preset=preset, **{"source": there} | changes)

    @property
    def parts(self) -> tuple[object, ...]:
        """The source and, if they are drawn, every corruption."""
        return SOURCES[self.source], *(CORRUPTIONS.values() if self.source == "drawn" else ())

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index, mean_corruption (over all of them), and one column a corruption.

        Of official files `index` is a place in their own order, that of the official test set, below len(images).
        Raises ValueError for images that they are not of.
        """
        if self.source == "official" and images.images.shape[1:] != (3, 32, 32):
            shape = tuple(images.images.shape[1:])
            raise ValueError(f"CIFAR-10-C is of 3 x 32 x 32, these images are {shape}: source='drawn' corrupts them")
        order = shuffled(images, self)
        x, y = floats(model, images.subset(order))
        rows, found = at_once(self.rows, images), {}
        with progress_bar(len(y) * len(CORRUPTIONS), self.title, unit="image", shown=progress) as bar:
            for name in CORRUPTIONS:
                noise, shares = torch.Generator().manual_seed(self.seed), []
                for xb, yb, index in zip(x.split(rows), y.split(rows), order.split(rows), strict=True):
                    shares.append(_share(model, self._corrupted(xb, yb, index, name, noise)))
                    bar.update(len(xb))
                found[name] = torch.cat(shares)
        return {"index": order, MEAN: torch.stack(list(found.values())).mean(0), **found}

    def _corrupted(
        self, x: Tensor, y: Tensor, index: Tensor, name: str, noise: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for severity in SEVERITIES:
            if self.source == "drawn":
                yield SOURCES["drawn"](x, name, severity=severity, generator=noise), y
            else:
                found = SOURCES["official"](name, severity=severity, index=index).to(x.device)
                yield found.images.to(x.dtype) / 255, found.labels


@torch.no_grad()
def _share(model: nn.Module, severities: Iterator[tuple[Tensor, Tensor]]) -> Tensor:
    return torch.stack([model(x).argmax(1) == y for x, y in severities]).double().mean(0)
