"""Whether the explanation of a prediction lies where the object is: boxes (Table 2 and Figure 5 of ART)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from artlib.attributions.cam import cam, grad_cam, grad_cam_pp, signed
from artlib.attributions.explainer import Explainer
from artlib.attributions.gradient import gradient
from artlib.data.images import ImageSet
from artlib.measurements.measurement import Measurement, Metric, at_once, floats, predictions, shuffled
from artlib.metrics import localization, localization_authors
from artlib.progress import bar as progress_bar
from artlib.settings import Count, Share

EXPLANATIONS = ("gradient", "cam")
CAMS = {"cam": cam, "grad_cam": grad_cam, "grad_cam_pp": grad_cam_pp}


def _metrics(title: str, column: str, **options) -> dict[str, Metric]:
    words = {"gradient": "gradient", "cam": "CAM"}
    return {f"{e}_{column}": Metric(f"{title}, {words[e]}", **options) for e in EXPLANATIONS}


@dataclass(frozen=True)
class Localization(Measurement):
    """gt_known: whether the box of the map of the true class has an IoU of at least `iou` with the true box (0 or 1).

    top1_loc: whether that holds and the image is classified correctly. Both for the gradient's map and for CAM's
    (ART, section 4.2 and appendix B.1): channels' mean magnitude, 3 x 3 mean, each map's own range, pixels at or above
    a threshold, the box around the largest component. The thresholds of the defaults are the released code's (C-36);
    `columns` also gives the IoU at every one of `metrics.localization.THRESHOLDS`, from which others can be chosen.
    """

    name, title = "localization", "Localization"
    metrics = _metrics("GT-Known", "gt_known", paired=True) | _metrics("Top-1 Loc", "top1_loc", paired=True)
    details = {
        **_metrics("IoU of the box", "iou"),
        **_metrics("GT-Known by Otsu's threshold", "otsu"),
        **_metrics("share inside the box", "inside"),
        **_metrics("share of the object in the box", "covered"),
    }
    protocols = {"authors": dict(pipeline="authors")}
    presets = {"smoke": dict(images=50)}

    cam: Literal["cam", "grad_cam", "grad_cam_pp"] = "cam"
    layer: str | None = None  # of CAM; None: the last feature map
    gradient_threshold: Share = 0.2
    cam_threshold: Share = 0.1
    smooth: Count = 3  # pixels of the mean filter, on maps of the images' size
    iou: Share = 0.5
    connectivity: Literal[8, 4] = 8
    pipeline: Literal["right", "authors"] = "right"  # "authors": C-35 to C-37

    @property
    def parts(self) -> tuple[object, ...]:
        """The CAM it takes."""
        return (CAMS[self.cam],)

    def explainers(self) -> Mapping[str, Explainer]:
        """What makes the maps, by their name in the columns."""
        of_gradient = {"target": "loss"} if self.pipeline == "authors" else {}  # C-35
        return {
            "gradient": Explainer(gradient, of_gradient),
            "cam": Explainer(CAMS[self.cam], {"layer": self.layer} if self.layer else {}, signed, upsample=True),
        }

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index, correct, and for gradient and cam: gt_known, top1_loc, iou, covered, otsu, inside, and curve (n, T).

        Raises ValueError for images without boxes.
        """
        check_boxes(images)
        order = shuffled(images, self)
        some = images.subset(order)
        predicted = predictions(model, some)
        correct = (predicted == some.labels).cpu()
        found: dict[str, Tensor] = {"index": order, "correct": correct}
        for name, explainer in self.explainers().items():
            y = predicted if (name, self.pipeline) == ("gradient", "authors") else some.labels  # C-35
            options = dict(y=y, rows=self.rows, title=name, progress=progress)
            each = explained(model, some, explainer, self._judge(name), **options)
            found |= {f"{name}_{column}": value for column, value in each.items()}
            found[f"{name}_top1_loc"] = found[f"{name}_gt_known"] & correct
        return found

    def _judge(self, name: str) -> Callable[..., dict[str, Tensor]]:
        threshold = self.gradient_threshold if name == "gradient" else self.cam_threshold

        def judge(maps: Tensor, boxes: Tensor, _masks: Tensor | None) -> dict[str, Tensor]:
            smooth = localization.mean_filter(maps, self.smooth)
            options = dict(connectivity=self.connectivity)
            if self.pipeline == "authors":
                levels = (
                    localization_authors.coloured(maps) if name == "cam" else localization_authors.grey(maps[:, None])
                )
                found = localization_authors.bounding_box(levels, threshold)
                overlap = localization_authors.iou(found, boxes)
            else:
                found = localization.bounding_box(smooth, threshold, **options)
                overlap = localization.iou(found, boxes)
            curves = localization.curve(smooth, boxes, **options)
            by_otsu = localization.bounding_box(smooth, localization.otsu(smooth), **options)
            return {
                "gt_known": overlap >= self.iou,
                "iou": overlap.clamp(0, 1),
                "covered": localization.covered(found, boxes.to(found)),
                "otsu": localization.iou(by_otsu, boxes) >= self.iou,
                "inside": localization.inside(maps, localization.box_mask(boxes, tuple(maps.shape[1:]))),
                "curve": curves.round(decimals=6),
            }

        return judge


def check_boxes(images: ImageSet) -> None:
    """Raise ValueError for images without boxes."""
    if images.boxes is None:
        raise ValueError(
            f"{images.name or 'the images'} have no boxes; blossoms and cub200 have, and a folder:PATH with a boxes.csv"
        )


def explained(
    model: nn.Module,
    images: ImageSet,
    explainer: Explainer,
    judge: Callable[..., dict[str, Tensor]],
    *,
    y: Tensor,
    rows: int,
    title: str,
    progress: bool,
) -> dict[str, Tensor]:
    """Columns of `judge(maps, boxes, masks)` over the maps (N, H, W) of all images for the classes y."""
    x, _ = floats(model, images)
    parts, step = [], at_once(rows, images)
    with progress_bar(len(y), title, unit="image", shown=progress) as bar:
        for places in torch.arange(len(y), device=y.device).split(step):
            maps = explainer(model, x[places], y[places]).detach()
            truth = [None if t is None else t[places] for t in (images.boxes, images.masks)]
            parts.append({name: value.cpu() for name, value in judge(maps, *truth).items()})
            bar.update(len(places))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
