"""How well an image and its input gradient point the same way (Figure 6 of ART)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from artlib.attributions.gradient import gradient
from artlib.data.images import ImageSet
from artlib.measurements.measurement import Measurement, Metric, at_once, floats, predictions, shuffled
from artlib.metrics.rank import cosine
from artlib.progress import bar as progress_bar


@dataclass(frozen=True)
class Alignment(Measurement):
    """cos(x, d f(x)_y / d x) per image, over all pixels and channels; y is the label, or what the model predicts."""

    name, title = "alignment", "Alignment of image and gradient"
    metrics = {"alignment": Metric("alignment", unit="", scale=1.0, bounds=(-1.0, 1.0), paired=True)}
    presets = {"smoke": dict(images=50)}

    target: Literal["label", "prediction"] = "label"

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index, alignment; NaN where the gradient or the image is zero or not finite."""
        order = shuffled(images, self)
        some = images.subset(order)
        x, y = floats(model, some)
        y = predictions(model, some) if self.target == "prediction" else y
        found, rows = [], at_once(self.rows, some)
        with progress_bar(len(y), self.title, unit="image", shown=progress) as bar:
            for xb, yb in zip(x.split(rows), y.split(rows), strict=True):
                g = gradient(model, xb, yb)
                finite = g.isfinite().flatten(1).all(1)
                g[~finite] = 0.0  # a zero gradient has no direction either: NaN
                found.append(cosine(*(v.flatten(1)[:, None] for v in (xb, g))))
                bar.update(len(xb))
        return {"index": order, "alignment": torch.cat(found)}
