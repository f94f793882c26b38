"""How far a targeted attack moves an explanation, and how near it brings it to another (Figure 10 of ART)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from artlib import metrics
from artlib.attacks.balls import Box, Linf
from artlib.attacks.explanation import Manipulated
from artlib.attacks.targeted import targeted
from artlib.attributions.explainer import Explainer
from artlib.attributions.integrated_gradients import integrated_gradients
from artlib.data.images import ImageSet
from artlib.measurements.attribution_robustness import AttributionRobustness
from artlib.measurements.measurement import Measurement, Metric, floats, predictions
from artlib.progress import bar as progress_bar
from artlib.settings import Count, Positive


@dataclass(frozen=True)
class Targeted(Measurement):
    """Integrated gradients of correctly classified images, driven to those of another image by `attacks.targeted`.

    ART (Section 5, Figure 10) names the attack, 1000 images and permuted targets; settings are Dombrowski et al.'s.
    """

    name, title = "targeted", "Targeted attack on explanations"
    metrics = {
        "IN_targeted": Metric("IN, targeted"),
        "K_targeted": Metric("K, targeted", bounds=(-1.0, 1.0)),
        "to_target": Metric("K with the target", bounds=(-1.0, 1.0)),
        "gained": Metric("the same, gained", bounds=(-2.0, 2.0)),
        "change": Metric("largest change of a pixel", unit="/255", scale=255.0),
    }
    published = {"flower17": dict(k=1000)}  # as in Table 1
    presets = {
        "smoke": dict(images=4, k=50, steps=5, step_size=0.01, points=4),
        "quick": dict(images=16, steps=60, step_size=2e-3, points=8),
        "cpu": dict(images=50, steps=200, step_size=1e-3, points=16),
    }
    loops = {"steps": 1, "points": 1}

    images: Count | None = 1000
    eps: Positive | None = None  # of the l_inf ball; None: the range of pixels alone, as published
    k: Count = 100  # pixels of IN; Figure 10 says 1,000, nearly every pixel of CIFAR-10
    steps: Count = 1500
    step_size: Positive = 2e-4
    points: Count = 30  # of integrated gradients

    def chosen(self, model: nn.Module, images: ImageSet) -> tuple[Tensor, Tensor]:
        """Places of the attacked images and of their targets: each image's target is the next in one random cycle
        through all images, whatever its class, so that an image has the same target with every model."""
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed))
        correct = (predictions(model, images) == images.labels).cpu()[order]
        return order[correct][: self.images], order.roll(-1)[correct][: self.images]

    def attack(
        self, model: nn.Module, images: ImageSet, targets: ImageSet, *, progress: bool = True
    ) -> tuple[Manipulated, Tensor]:
        """What `attacks.targeted` makes of every image, and the maps (N, H, W) of the targets' predicted classes."""
        (x, y), (goals, _) = floats(model, images), floats(model, targets)
        explain = Explainer(integrated_gradients, dict(steps=self.points))
        maps = explain(model, goals, predictions(model, targets)).detach()
        options = dict(ball=Box() if self.eps is None else Linf(self.eps), steps=self.steps, step_size=self.step_size)
        with progress_bar(len(y), self.title, unit="image", shown=progress) as bar:
            return targeted(model, x, y, maps, explainer=explain, progress=bar.update, **options), maps

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index, the metrics, status, kept_step; NaN where maps cannot be ranked.

        IN_targeted and K_targeted compare the map before and after, to_target that after with its target; gained is
        by how much the attack has raised it; change is in [0, 1]. Raises ValueError when no image is correct, and
        for k larger than the map.
        """
        pixels = images.images[0, 0].numel()
        if self.k > pixels:
            raise ValueError(f"k is {self.k}, and a map has {pixels} pixels; give k from 1 to {pixels}")
        chosen, goals = self.chosen(model, images)
        if not len(chosen):
            raise ValueError(f"the model classifies none of {len(images)} test images correctly: nothing to attack")
        some = images.subset(chosen)
        found, target = self.attack(model, some, images.subset(goals), progress=progress)
        compared = AttributionRobustness(k=self.k).compare(found)
        near = metrics.kendall(found.after, target)
        return {
            "index": chosen,
            "IN_targeted": compared["IN"],
            "K_targeted": compared["K"],
            "to_target": near,
            "gained": near - metrics.kendall(found.before, target),
            "change": (found.x_adv - floats(model, some)[0]).abs().amax((1, 2, 3)),
            "status": found.status,
            "kept_step": found.kept_step,
        }
