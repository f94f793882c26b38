"""How far an attack moves the explanation while the prediction stays: IN and K of Table 1 of ART."""

import inspect
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from artlib import metrics
from artlib.attacks.balls import Linf
from artlib.attacks.criteria import CRITERIA
from artlib.attacks.explanation import KEPT, NO_STEP, Manipulated, ifia
from artlib.attacks.objectives import OBJECTIVES
from artlib.attributions import ATTRIBUTIONS
from artlib.attributions.explainer import Explainer
from artlib.attributions.integrated_gradients import RULES
from artlib.data.images import ImageSet
from artlib.measurements.measurement import Measurement, Metric, floats, predictions
from artlib.progress import bar as progress_bar
from artlib.settings import Count, NotNegative, Pixels, Positive, Whole

WINDOWS = (1, 2, 3)  # w of LENS
LENS = {  # the measure, and whether it is taken on diverse pixels
    "recall": (metrics.lens_recall, False),
    "precision": (metrics.lens_precision, False),
    "diverse_recall": (metrics.lens_recall, True),
    "diverse_precision": (metrics.lens_precision, True),
}


@dataclass(frozen=True)
class AttributionRobustness(Measurement):
    """IFIA on correctly classified images; defaults are the paper's for CIFAR-10, SVHN and GTSRB (ART, A.3.5).

    Fields with a C-number are where ART's text and its code differ (DIFFERENCES.md).
    """

    name, title = "attribution_robustness", "Attributional robustness"
    metrics = {"IN": Metric("IN"), "K": Metric("K", bounds=(-1.0, 1.0))}
    details = {f"{name}_{w}": Metric(f"LENS-{name.replace('_', ' ')}, w = {w}") for name in LENS for w in WINDOWS}
    published = {  # ART, A.3.5 and B.1; MNIST, Fashion-MNIST: Chen et al., who attack MNIST with k = 200
        "flower17": dict(k=1000, steps=100),
        "cub200": dict(eps=2 / 255),
        "mnist": dict(eps=0.3, step_size=0.01, steps=100),
        "fashion_mnist": dict(eps=0.1, step_size=0.01, steps=100),
    }
    protocols = {
        "authors": dict(
            sample="first",
            threshold=20.0,
            hold_factor=True,
            criterion="kendall-on-topk",
            candidates="before",
            random_start=True,
            score_target="loss",
            score_rule="trapezoid",
        )
    }
    presets = {  # 64 rows: activations that fit a CPU's cache, a quarter faster than 400
        "smoke": dict(images=8, k=50, steps=3, ig_steps=4, attack_ig_steps=4, chunk=64),
        "quick": dict(images=64, steps=15, ig_steps=16, attack_ig_steps=8, chunk=64),
        "cpu": dict(images=500, ig_steps=16, attack_ig_steps=8, chunk=64),
    }
    loops = {"steps": 0, "ig_steps": 1, "attack_ig_steps": 1}

    attribution: str = "integrated_gradients"
    images: Count | None = 1000  # correctly classified test images that are attacked
    sample: Literal["random", "first"] = "random"  # C-24: the code takes the first ones
    k: Count = 100  # pixels of the top-k objective and of the intersection
    eps: Pixels = 8 / 255
    steps: Whole = 50
    step_size: NotNegative = 1 / 255
    objective: str = "topk"
    beta: Positive = 50.0
    threshold: Positive | None = None  # C-14
    ig_steps: Count = 100
    ig_rule: str = "right"
    attack_ig_steps: Count = 100  # points of the map that is attacked; fewer make the attack cheaper, not the score
    hold_factor: bool = False  # C-26
    criterion: str = "kendall"  # C-21
    candidates: Literal["after", "before"] = "after"  # C-22
    random_start: bool = False  # C-25
    score_target: Literal["logit", "loss"] = "logit"  # C-19: the code scores maps of the loss
    score_rule: str = "right"  # C-19
    chunk: Count = 400  # images attacked together times attack_ig_steps: the graph of so many points is in memory

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, allowed in (
            ("attribution", ATTRIBUTIONS),
            ("objective", OBJECTIVES),
            ("criterion", CRITERIA),
            ("ig_rule", RULES),
            ("score_rule", RULES),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(allowed)}")
        if self.criterion in ("kendall-on-topk", "topk-intersection") and self.objective != "topk":
            raise ValueError(
                f"criterion {self.criterion!r} looks at the top k, which objective {self.objective!r} has not"
            )

    @property
    def parts(self) -> tuple[object, ...]:
        """The attribution, the objective and the criterion."""
        return ATTRIBUTIONS[self.attribution], OBJECTIVES[self.objective], CRITERIA[self.criterion]

    @property
    def rows(self) -> int:
        """As many images as `chunk` points of the attacked map are."""
        return self.chunk

    def _explainer(self, **changes) -> Explainer:
        """With those of the settings that the attribution has."""
        options = dict(steps=self.ig_steps, rule=self.ig_rule, rows=self.chunk) | changes
        allowed = inspect.signature(ATTRIBUTIONS[self.attribution]).parameters
        return Explainer(self.attribution, options={k: v for k, v in options.items() if k in allowed})

    def chosen(self, model: nn.Module, images: ImageSet) -> Tensor:
        """Places of the correctly classified images that are attacked, in a fixed random order or as they come."""
        correct = (predictions(model, images) == images.labels).cpu()
        order = torch.arange(len(images))
        if self.sample == "random":
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed))
        return order[correct[order]][: self.images]

    def attack(self, model: nn.Module, images: ImageSet, *, progress: bool = True) -> Manipulated:
        """IFIA on every image of the set; the maps are those that are scored (C-19).

        Raises ValueError when k is larger than the map.
        """
        x, y = floats(model, images)
        with progress_bar(len(y), "attacking explanations", unit="image", shown=progress) as bar:
            found = ifia(
                model,
                x,
                y,
                k=self.k,
                ball=Linf(self.eps),
                steps=self.steps,
                step_size=self.step_size,
                objective=self.objective,
                explainer=self._explainer(),
                attacked=self._explainer(steps=self.attack_ig_steps, hold_factor=self.hold_factor),
                beta=self.beta,
                threshold=self.threshold,
                criterion=self.criterion,
                candidates=self.candidates,
                random_start=self.random_start,
                generator=torch.Generator().manual_seed(self.seed),
                batch_size=max(1, self.chunk // self.attack_ig_steps),
                rows=self.chunk,
                progress=bar.update,
            )
        if (self.score_target, self.score_rule) == ("logit", self.ig_rule):
            return found
        score = self._explainer(rule=self.score_rule, target=self.score_target)
        before, after = score(model, x, y), score(model, found.x_adv, y)
        found = replace(found, before=before, after=after)
        return replace(found, kendall=self.compare(found)["K"])

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """index, IN, K, spearman, cosine (in [-1, 1]), LENS (see `details`), tied, status, kept_step.

        tied: the share of the top k that ties decided, of the map before or after, the larger. diverse_size_w: of how
        many pixels the smaller diverse set consists, k unless the windows fill the map first.

        Where the attack found no step that keeps the label the maps are equal and the measures 1 (C-23). Where a map
        is constant or not finite there is nothing to compare: NaN. Raises ValueError when no image is correct.
        """
        chosen = self.chosen(model, images)
        if not len(chosen):
            raise ValueError(f"the model classifies none of {len(images)} test images correctly: nothing to attack")
        found = self.attack(model, images.subset(chosen), progress=progress)
        return {"index": chosen, **self.compare(found), "status": found.status, "kept_step": found.kept_step}

    def compare(self, found: Manipulated) -> dict[str, Tensor]:
        """The measures of the maps before and after, (N,); NaN where one of them cannot be ranked."""
        usable = _usable(found.before, found.after, found.status)
        a, b = found.before[usable], found.after[usable]
        measures = {
            "IN": metrics.topk_intersection(a, b, self.k),
            "K": metrics.kendall(a, b),
            "spearman": metrics.spearman(a, b),
            "cosine": metrics.cosine(a, b),
            "tied": torch.maximum(*(metrics.tied_share(m, self.k) for m in (a, b))),
            **_lens(a, b, self.k),
        }
        column = torch.full(usable.shape, torch.nan, dtype=torch.float64, device=usable.device)
        return {name: column.masked_scatter(usable, values) for name, values in measures.items()}


def _lens(a: Tensor, b: Tensor, k: int) -> dict[str, Tensor]:
    found = {}
    for w in WINDOWS:
        for name, (measure, diverse) in LENS.items():
            found[f"{name}_{w}"] = measure(a, b, k, w, diverse=diverse)
        sizes = [metrics.diverse_topk(m, k, w).sum((1, 2)) for m in (a, b)]
        found[f"diverse_size_{w}"] = torch.minimum(*sizes).double()
    return found


def _usable(before: Tensor, after: Tensor, status: Tensor) -> Tensor:
    """Images that were attacked, and whose two maps can be ranked."""
    usable = (status == KEPT) | (status == NO_STEP)
    for m in (before.flatten(1), after.flatten(1)):
        usable = usable & m.isfinite().all(1) & (m != m[:, :1]).any(1)
    return usable
