"""How well every kind of explanation is placed on the object, without a threshold that boxes have chosen."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from artlib.attributions.cam import cam, grad_cam, grad_cam_pp, positive, signed
from artlib.attributions.explainer import Explainer
from artlib.attributions.gradient import gradient
from artlib.attributions.gradshap import gradshap
from artlib.attributions.integrated_gradients import integrated_gradients
from artlib.attributions.smoothgrad import smoothgrad
from artlib.data.images import ImageSet
from artlib.measurements.localization import explained
from artlib.measurements.measurement import Measurement, Metric, shuffled
from artlib.metrics import localization
from artlib.settings import Count

METHODS = {
    "gradient": "gradient",
    "ig": "IG",
    "smoothgrad": "SmoothGrad",
    "gradshap": "GradSHAP",
    "cam": "CAM",
    "grad_cam": "Grad-CAM",
    "grad_cam_pp": "Grad-CAM++",
}
MEASURES = {
    "pointing": "energy inside the object",
    "ap": "average precision of pixels",
    "placed_box": "IoU of the box, Otsu",
    "placed_mask": "IoU of the mask, Otsu",
}


@dataclass(frozen=True)
class Placement(Measurement):
    """For each of seven explanations of the true class, per image, four ways of comparing its map with the object.

    pointing: share of the map's positive sum that lies on the object (the energy-based pointing game, Wang et al.
    2020). ap: average precision, in [0, 1], of the map's pixels as guesses of the object's. placed_box, placed_mask:
    IoU of the box around the largest component, and of all pixels, above the map's own threshold (Otsu 1979), which
    needs no box to choose it. The object is the image's mask, and for sets without masks its box.
    """

    name, title, metrics = "placement", "Placement", {}
    details = {
        f"{method}_{measure}": Metric(f"{words}, {MEASURES[measure]}", paired=True)
        for method, words in METHODS.items()
        for measure in MEASURES
    }
    presets = {
        "smoke": dict(images=30, points=3),
        "quick": dict(images=200, points=10),
        "cpu": dict(images=200, points=15),
    }
    loops = {"points": 1}

    points: Count = 30  # of IG's path; samples of SmoothGrad and GradSHAP
    smooth: Count = 3  # pixels of the mean filter before box and mask

    def explainers(self) -> Mapping[str, Explainer]:
        """What makes the maps, by their name in the columns."""
        return {
            "gradient": Explainer(gradient),
            "ig": Explainer(integrated_gradients, {"steps": self.points}),
            "smoothgrad": Explainer(smoothgrad, {"draws": self.points}),
            "gradshap": Explainer(gradshap, {"steps": self.points}),
            "cam": Explainer(cam, reduce=signed, upsample=True),
            "grad_cam": Explainer(grad_cam, reduce=positive, upsample=True),
            "grad_cam_pp": Explainer(grad_cam_pp, reduce=positive, upsample=True),
        }

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index, and for every method the four measures; NaN where an image has no object.

        Raises ValueError for images with neither boxes nor masks.
        """
        if images.boxes is None and images.masks is None:
            raise ValueError(
                f"{images.name or 'the images'} have neither boxes nor masks; blossoms, cub200 and flower17 have, and "
                "a folder:PATH with a boxes.csv"
            )
        order = shuffled(images, self)
        some = images.subset(order)
        found: dict[str, Tensor] = {"index": order}
        for name, explainer in self.explainers().items():
            options = dict(y=some.labels, rows=self.rows, title=METHODS[name], progress=progress)
            for column, value in explained(model, some, explainer, self._judge, **options).items():
                found[f"{name}_{column}"] = value
        return found

    def _judge(self, maps: Tensor, boxes: Tensor | None, masks: Tensor | None) -> dict[str, Tensor]:
        truth = localization.box_mask(boxes, tuple(maps.shape[1:])) if masks is None else masks
        boxes = localization.box_of(truth) if boxes is None else boxes
        smooth = localization.mean_filter(maps, self.smooth)
        level = localization.otsu(smooth)
        usable = localization.normalise(maps)  # 0 where a map is constant or not finite: every pixel is then a tie
        scores = [localization.pixel_ap(m[None], t[None]) for m, t in zip(usable, truth, strict=True)]
        found = {
            "pointing": localization.inside(maps, truth),
            "ap": torch.tensor(scores, dtype=torch.float64, device=maps.device),
            "placed_box": localization.iou(localization.bounding_box(smooth, level), boxes.to(smooth)),
            "placed_mask": localization.mask_iou(localization.foreground(smooth, level), truth),
        }
        known = truth.flatten(1).any(1)
        return {name: value.where(known, torch.nan) for name, value in found.items()}
