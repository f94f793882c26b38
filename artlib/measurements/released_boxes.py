"""Boxes through ART's released pipeline, by its IoU and by the right one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from artlib.measurements.localization import Localization
from artlib.metrics import localization, localization_authors


@dataclass(frozen=True)
class ReleasedBoxes(Localization):
    """`Localization` by the released code (C-35 to C-37); gradient_right, cam_right: its boxes' hits by the right IoU.

    The released IoU counts a pixel more on each side and does not clip the intersection of disjoint boxes at 0.
    """

    pipeline: Literal["authors"] = "authors"

    def _judge(self, name: str) -> Callable[..., dict[str, Tensor]]:
        judge = super()._judge(name)
        levels_of, threshold = {
            "gradient": (lambda maps: localization_authors.grey(maps[:, None]), self.gradient_threshold),
            "cam": (localization_authors.coloured, self.cam_threshold),
        }[name]

        def judge_twice(maps: Tensor, boxes: Tensor, masks: Tensor | None) -> dict[str, Tensor]:
            found = localization_authors.bounding_box(levels_of(maps), threshold)
            return judge(maps, boxes, masks) | {"right": localization.iou(found, boxes.to(found)) >= self.iou}

        return judge_twice
