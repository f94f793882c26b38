"""Accuracy under PGD-20, by which appendix C of ART compares JARN and CURE with ART."""

from dataclasses import dataclass

from torch import Tensor, nn

from artlib.data.images import ImageSet
from artlib.measurements.accuracy import Accuracy
from artlib.measurements.measurement import Metric
from artlib.settings import Whole


@dataclass(frozen=True)
class Pgd20(Accuracy):
    """Whether an image is still classified correctly (0 or 1) under PGD of 20 steps; all else as in `Accuracy`."""

    name, title = "pgd_20", "Accuracy under PGD-20"
    metrics = {"pgd_20": Metric("PGD-20", paired=True)}

    steps: Whole = 20

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index, pgd_20 and vanished, as those of `Accuracy`."""
        found = super().columns(model, images, progress=progress)
        return {"index": found["index"], "pgd_20": found["adversarial"], "vanished": found["vanished"]}
