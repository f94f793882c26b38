"""IN and K under the worst of several attacks on each image: is an explanation robust, or the attack weak?"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from artlib.data.images import ImageSet
from artlib.measurements.attribution_robustness import AttributionRobustness
from artlib.measurements.measurement import Metric
from artlib.settings import Count, Whole


@dataclass(frozen=True)
class WorstCase(AttributionRobustness):
    """The least IN, and the least K, that any of `attacks` reaches on an image, beside those of the paper's attack.

    The fields are those of `AttributionRobustness` and describe the paper's attack, the first of them.
    """

    name, title = "worst_case", "Attributional robustness in the worst case"
    metrics = {
        "IN_one": Metric("IN, one attack"),
        "IN_worst": Metric("IN, worst attack"),
        "K_one": Metric("K, one attack", bounds=(-1.0, 1.0)),
        "K_worst": Metric("K, worst attack", bounds=(-1.0, 1.0)),
    }
    details = {}
    presets = {  # fewer images than for one attack
        name: settings | dict(images=images)
        for (name, settings), images in zip(AttributionRobustness.presets.items(), (2, 16, 100), strict=True)
    }

    longer: Count = 3  # times the steps
    restarts: Whole = 2  # from random points of the ball

    @property
    def attacks(self) -> dict[str, AttributionRobustness]:
        """By name: the paper's, then each way in which it might be too weak, all else as in the paper's."""
        paper = AttributionRobustness(**{f.name: getattr(self, f.name) for f in fields(AttributionRobustness)})
        found = {"paper": paper, "longer": replace(paper, steps=self.longer * self.steps)}
        if self.attribution == "integrated_gradients":
            found["other gradient"] = replace(paper, hold_factor=not self.hold_factor)
        if self.objective == "topk":
            criteria = {"kendall", "topk-intersection", "kendall-on-topk"} - {self.criterion}
            found |= {f"kept by {c}": replace(paper, criterion=c) for c in sorted(criteria)}
        starts = range(self.seed + 1, self.seed + 1 + self.restarts)
        return found | {f"start {seed}": replace(paper, random_start=True, seed=seed) for seed in starts}

    @property
    def parts(self) -> tuple[object, ...]:
        """Those of every attack."""
        return tuple(part for attack in self.attacks.values() for part in attack.parts)

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index, the metrics, and found_by: the place in `attacks` of the one with the least IN.

        NaN where the paper's attack did not leave two maps that can be ranked. Raises ValueError when no image is
        correct.
        """
        chosen = self.chosen(model, images)
        if not len(chosen):
            raise ValueError(f"the model classifies none of {len(images)} test images correctly: nothing to attack")
        some = images.subset(chosen)
        found = [self.compare(attack.attack(model, some, progress=progress)) for attack in self.attacks.values()]
        return {"index": chosen} | worst(found)


def worst(found: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """IN and K of the first attack and the least of all, (N,), and which had the least IN.

    NaN of a later attack counts as no attack; where the first left one, there is nothing to compare with.
    """
    columns = {}
    for measure in ("IN", "K"):
        each = torch.stack([one[measure] for one in found])
        each = each.masked_fill(each[0].isnan(), torch.nan)
        least, which = each.nan_to_num(torch.inf).min(0)
        columns |= {f"{measure}_one": each[0], f"{measure}_worst": least.masked_fill(least.isinf(), torch.nan)}
        if measure == "IN":
            columns["found_by"] = which
    return columns
