"""Whether the explanation of a prediction covers the object: masks (Figure 7 and Top-1 Seg of ART, section 5)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from artlib.attributions.explainer import Explainer
from artlib.attributions.gradient import gradient
from artlib.attributions.integrated_gradients import integrated_gradients
from artlib.data.images import ImageSet
from artlib.measurements.localization import explained
from artlib.measurements.measurement import Measurement, Metric, predictions, shuffled
from artlib.metrics import localization
from artlib.settings import Count, Share

EXPLANATIONS = {"gradient": "gradient", "ig": "IG"}


def _metrics(title: str, column: str, **options) -> dict[str, Metric]:
    return {f"{e}_{column}": Metric(f"{title}, {words}", **options) for e, words in EXPLANATIONS.items()}


@dataclass(frozen=True)
class Segmentation(Measurement):
    """top1_seg: whether an image is classified correctly and the mask of its map has an IoU of at least `iou`.

    The mask is every pixel of the smoothed map at or above a threshold of its range. The paper states neither its
    threshold nor its filter (DIFFERENCES.md, P-12): both are ours, and `columns` gives the IoU at every one of
    `metrics.localization.THRESHOLDS`, so that a threshold can be chosen on other images.
    """

    name, title = "segmentation", "Segmentation"
    metrics = _metrics("Top-1 Seg", "top1_seg", paired=True)
    details = {
        **_metrics("IoU of the mask", "mask_iou"),
        **_metrics("Top-1 Seg by Otsu's threshold", "seg_otsu"),
        **_metrics("share inside the mask", "inside_mask"),
    }
    presets = {"smoke": dict(images=50, ig_steps=4), "quick": dict(images=300, ig_steps=20), "cpu": dict(ig_steps=30)}
    loops = {"ig_steps": 1}

    gradient_threshold: Share = 0.2
    ig_threshold: Share = 0.2
    smooth: Count = 5  # pixels of the mean filter
    iou: Share = 0.5
    ig_steps: Count = 100

    def explainers(self) -> Mapping[str, Explainer]:
        """What makes the maps, by their name in the columns."""
        return {
            "gradient": Explainer(gradient),
            "ig": Explainer(integrated_gradients, {"steps": self.ig_steps}),
        }

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index, correct, and for gradient and ig: top1_seg, mask_iou, seg_otsu, inside_mask, mask_curve (n, T).

        All NaN where an image has no mask. Raises ValueError where none has.
        """
        if images.masks is None:
            raise ValueError(f"{images.name or 'the images'} have no masks; blossoms and flower17 have")
        order = shuffled(images, self)
        some = images.subset(order)
        correct = (predictions(model, some) == some.labels).cpu()
        bare = ~some.masks.flatten(1).any(1).cpu()
        found: dict[str, Tensor] = {"index": order, "correct": correct}
        for name, explainer in self.explainers().items():
            options = dict(y=some.labels, rows=self.rows, title=name, progress=progress)
            for column, value in explained(model, some, explainer, self._judge(name), **options).items():
                value = value.double()
                if column in ("top1_seg", "seg_otsu"):
                    value = value * correct
                value[bare] = torch.nan
                found[f"{name}_{column}"] = value
        for name in EXPLANATIONS:
            found[f"{name}_mask_curve"] = found[f"{name}_mask_curve"].nan_to_num(0.0)
        return found

    def _judge(self, name: str):
        threshold = self.gradient_threshold if name == "gradient" else self.ig_threshold

        def judge(maps: Tensor, _boxes: Tensor | None, masks: Tensor) -> dict[str, Tensor]:
            smooth = localization.mean_filter(maps, self.smooth)
            overlap = localization.mask_iou(localization.foreground(smooth, threshold), masks)
            by_otsu = localization.mask_iou(localization.foreground(smooth, localization.otsu(smooth)), masks)
            return {
                "top1_seg": overlap >= self.iou,
                "mask_iou": overlap,
                "seg_otsu": by_otsu >= self.iou,
                "inside_mask": localization.inside(maps, masks),
                "mask_curve": localization.mask_curve(smooth, masks).round(decimals=6),
            }

        return judge
