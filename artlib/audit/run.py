"""The audit itself: measurements of `artlib.measurements`, each stored once, and the worst images before and after."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from artlib import costs, results, tables
from artlib.attacks import KEPT
from artlib.attacks.objectives import OBJECTIVES
from artlib.attributions import ATTRIBUTIONS
from artlib.audit.door import PREDICTED, classifier, image_set
from artlib.audit.report import Audit, worst_grid
from artlib.data import ImageSet
from artlib.measurements import Accuracy, AttributionRobustness, Measurement
from artlib.models import check_smooth
from artlib.settings import Count, Pixels, Settings, Whole
from artlib.trainings import pick_device

COLUMNS = ("IN", "K", "recall_1", "recall_2", "recall_3", "diverse_recall_1")
WORST = 4  # images shown


@dataclass(frozen=True)
class Questions(Settings):
    """What an audit asks: which explanations under which attacks, how many images, how strong an attack."""

    attributions: tuple[str, ...] = ("gradient", "integrated_gradients")
    objectives: tuple[str, ...] = ("random", "topk", "mass_center")
    images: Count = 50  # correctly classified ones that are attacked; accuracy is that of five times as many
    eps: Pixels = 8 / 255
    steps: Whole = 20  # of every attack, of eps / 8 each; random signs are drawn once
    k: Count | None = None  # pixels of the top-k; None: a tenth of the map
    ig_steps: Count = 16
    seed: Whole = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("attributions", ATTRIBUTIONS), ("objectives", OBJECTIVES)):
            for value in getattr(self, name):
                if value not in known:
                    raise ValueError(f"unknown {name[:-1]} {value!r}; choose among {', '.join(known)}")

    def measurements(self, images: ImageSet) -> dict[str, Measurement]:
        """By name: accuracy, and one for every attribution and objective."""
        common = dict(eps=self.eps, step_size=self.eps / 8, seed=self.seed)
        pixels = images.images[0, 0].numel()
        maps = dict(images=self.images, k=self.k or max(1, pixels // 10), ig_steps=self.ig_steps)
        maps |= dict(attack_ig_steps=max(1, self.ig_steps // 2), chunk=64)
        found: dict[str, Measurement] = {"accuracy": Accuracy(images=5 * self.images, steps=self.steps, **common)}
        for attribution in self.attributions:
            for objective in self.objectives:
                steps = 1 if objective == "random" else self.steps
                kind = dict(attribution=attribution, objective=objective, steps=steps)
                found[f"{attribution}, {objective}"] = AttributionRobustness(**kind, **maps, **common)
        return found


@contextmanager
def _twice_differentiable():
    """Attention by matrix products: torch's fused kernels have no second derivative."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield


def audit(
    model: nn.Module | Callable[[Tensor], Tensor] | str,
    images: ImageSet | Tensor | Path | str,
    *,
    labels: Tensor | None = None,
    weights: Path | str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    size: int | None = None,
    name: str = "",
    questions: Questions | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Audit:
    """Accuracy, clean and under PGD, and IN, K and LENS of a classifier's explanations under attack.

    `model`, `weights`, `mean`, `std`: see `classifier`; `images`, `labels`, `size`: see `image_set`. Says first how
    long it will take. Every measurement is stored when it is done, so that an audit that was stopped goes on. Raises
    ValueError for what cannot be audited, with the reason: no gradients, a softmax at the end, ReLUs called as
    functions.
    """
    questions, device = questions or Questions(), pick_device(device)
    net = classifier(model, weights=weights, mean=mean, std=std).to(device)
    name = name or (model if isinstance(model, str) else getattr(model, "__name__", type(model).__name__))
    test = image_set(images, net, labels=labels, size=size, limit=max(1000, 20 * questions.images))
    asked = questions.measurements(test)
    if set(questions.objectives) - {"random"}:  # now, and not after minutes of measuring
        check_smooth(net, test.images[:1].to(next(net.parameters()).device, next(net.parameters()).dtype) / 255)
    if progress:
        print(estimate(net, test, questions, device=device), flush=True)
    options = dict(test=test, name=name, device=device, progress=progress)
    with _twice_differentiable():
        records = {title: results.measured(net, m, **options) for title, m in asked.items()}
        worst = _worst(net, asked, records, test)
    attacked = {t: {0: {"attribution_robustness": r}} for t, r in records.items() if t != "accuracy"}
    table = tables.table(attacked, dataset=test.name, titles={t: t for t in attacked}, columns=COLUMNS)
    held = tables.table({name: {0: {"accuracy": records["accuracy"]}}}, dataset=test.name, titles={name: name})
    if test.note == PREDICTED:  # 100 by construction
        held = held[held["metric"] != "natural"].reset_index(drop=True)
    about = {"model": name, "parameters": sum(p.numel() for p in net.parameters()), "images": results.describe(test)}
    about |= {"questions": questions.plain(), "k": next(m.k for t, m in asked.items() if t != "accuracy")}
    about |= {"accuracy_images": len(records["accuracy"]["values"]["index"])}
    about |= {"machine": results.machine(device), "seconds": sum(r["seconds"] for r in records.values())}
    return Audit(about, held, table, worst)


def estimate(model: nn.Module, images: ImageSet, questions: Questions, *, device: torch.device | str = "cpu") -> str:
    """In one sentence how long an audit takes on this machine if nothing of it exists yet."""
    shape, seconds = (*images.images.shape[1:3], len(images.classes)), 0.0
    try:
        with _twice_differentiable():
            for m in questions.measurements(images).values():
                work = costs.measuring(m, net=model, shape=shape, images=m.count(len(images)))
                seconds += work.images * costs.per_image(work) / costs.rate(work, device=device)
    except (RuntimeError, ValueError, TypeError, NotImplementedError):  # a network whose operations cannot be counted
        return "how long this will take cannot be said beforehand"
    return f"about {seconds / 60:.1f} minutes on this machine if nothing exists yet"


def _worst(net: nn.Module, asked: dict[str, Measurement], records: dict[str, dict], test: ImageSet):
    """The images whose maps the last attack but random ones moved most, attacked again to be shown."""
    title = next((t for t, m in reversed(asked.items()) if t != "accuracy" and m.objective == "topk"), None)
    title = title or next(t for t in reversed(asked) if t != "accuracy")
    values = records[title]["values"]
    rows = zip(values["K"], values["index"], values["status"], strict=True)
    ranked = sorted((k, i) for k, i, status in rows if k is not None and status == KEPT)
    some = test.subset([i for _, i in ranked[:WORST]])
    if not len(some):
        return None
    found = asked[title].attack(net, some.to(next(net.parameters()).device), progress=False)
    return worst_grid(some, found, asked[title].k, title=title)
