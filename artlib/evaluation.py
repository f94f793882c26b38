"""Evaluation of one model as Table 1 does it: IFIA on correctly classified test images, accuracy, PGD accuracy."""

import sys
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from artlib import metrics
from artlib.attacks import KEPT, STATUS, Linf, Manipulated, ifia, pgd
from artlib.attributions import heatmap, integrated_gradients
from artlib.data import ImageSet, batches


@dataclass(frozen=True)
class Evaluation:
    """How a model is judged; defaults are the paper's for CIFAR-10, SVHN and GTSRB (ART, appendix A.3.5).

    Fields with a C-number are where ART's text and its code differ (facts, section 12).
    """

    images: int = 1000  # correctly classified test images that are attacked
    sample: str = "random"  # C-24: the code takes the "first" ones
    k: int = 100  # pixels of the top-k objective and of the intersection
    eps: float = 8 / 255
    steps: int = 50
    step_size: float = 1 / 255
    beta: float = 50.0
    threshold: float | None = None  # C-14
    ig_steps: int = 100
    ig_rule: str = "right"
    attack_ig_steps: int = 100  # points of the map that is attacked; fewer make the attack cheaper, not the score
    hold_factor: bool = False  # C-26
    selection: str = "kendall"  # C-21
    candidates: str = "after"  # C-22
    random_start: bool = False  # C-25
    score_target: str = "logit"  # C-19: the code scores maps of the loss
    score_rule: str = "right"  # C-19
    accuracy_images: int | None = None  # None: the whole test set
    pgd_steps: int = 40
    pgd_step_size: float = 2 / 255  # C-16: not in the text
    seed: int = 0
    rows: int = 400  # images attacked together times attack_ig_steps: the graph of so many points is kept in memory


AUTHORS_EVALUATION = dict(
    sample="first",
    threshold=20.0,
    hold_factor=True,
    selection="kendall-on-topk",
    candidates="before",
    random_start=True,
    score_target="loss",
    score_rule="trapezoid",
)
PAPER_EVALUATION = {  # ART, A.3.5 and B.1; MNIST, Fashion-MNIST: Chen et al., who attack MNIST with k = 200
    "flower17": dict(k=1000, steps=100),
    "cub200": dict(eps=2 / 255, pgd_step_size=0.5 / 255),
    "mnist": dict(eps=0.3, step_size=0.01, steps=100, pgd_step_size=0.01, k=100),
    "fashion_mnist": dict(eps=0.1, step_size=0.01, steps=100, pgd_step_size=0.01),
}


def paper_evaluation(dataset: str, *, protocol: str = "paper", **changes) -> Evaluation:
    """The evaluation of `dataset` by ART's text ("paper") or its code ("authors"), with `changes`."""
    if protocol not in ("paper", "authors"):
        raise ValueError(f"unknown protocol {protocol!r}; choose one of paper, authors")
    authors = AUTHORS_EVALUATION if protocol == "authors" else {}
    return Evaluation(**{**PAPER_EVALUATION.get(dataset, {}), **authors, **changes})


@torch.no_grad()
def predictions(model: nn.Module, images: ImageSet, *, batch_size: int = 500) -> Tensor:
    """Predicted classes (N,) of a data set, on its device."""
    dtype = next(model.parameters()).dtype
    found = [model(x).argmax(1) for x, _ in batches(images, batch_size, dtype=dtype)]
    return torch.cat(found) if found else images.labels[:0]


def attacked_images(model: nn.Module, images: ImageSet, e: Evaluation) -> Tensor:
    """Indices of the first `e.images` correctly classified images, in a fixed random order or as they come."""
    correct = (predictions(model, images) == images.labels).cpu()
    order = torch.arange(len(images))
    if e.sample == "random":
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(e.seed))
    return order[correct[order]][: e.images]


def manipulate(model: nn.Module, images: ImageSet, e: Evaluation, *, progress: bool = True) -> Manipulated:
    """IFIA by `e` on every image of the set; the maps are those that are scored (facts C-19)."""
    dtype = next(model.parameters()).dtype
    x, y = images.images.to(dtype) / 255, images.labels
    if e.k > x[0, 0].numel():
        raise ValueError(f"k is {e.k}; images of {x.shape[2]}x{x.shape[3]} have {x[0, 0].numel()} pixels: lower k")
    attribution = partial(integrated_gradients, steps=e.ig_steps, rule=e.ig_rule, rows=e.rows)
    surrogate = partial(integrated_gradients, steps=e.attack_ig_steps, rule=e.ig_rule, hold_factor=e.hold_factor)
    with tqdm(total=len(y), desc="attacking explanations", unit="image", disable=not progress, file=sys.stdout) as bar:
        found = ifia(
            model,
            x,
            y,
            k=e.k,
            ball=Linf(e.eps),
            steps=e.steps,
            step_size=e.step_size,
            attribution=attribution,
            attacked=surrogate,
            beta=e.beta,
            threshold=e.threshold,
            criterion=e.selection,
            candidates=e.candidates,
            random_start=e.random_start,
            generator=torch.Generator().manual_seed(e.seed),
            batch_size=max(1, e.rows // e.attack_ig_steps),
            progress=bar.update,
        )
    if (e.score_target, e.score_rule) == ("logit", e.ig_rule):
        return found
    score = partial(integrated_gradients, model, steps=e.ig_steps, rule=e.score_rule, target=e.score_target)
    before, after = heatmap(score(x, y)), heatmap(score(found.x_adv, y))
    kendall = metrics.kendall(before, after).nan_to_num(1.0)  # NaN: a constant map
    return Manipulated(found.x_adv, before, after, kendall, found.kept_step, found.status)


@torch.no_grad()
def adversarial_predictions(model: nn.Module, images: ImageSet, e: Evaluation, *, progress: bool = True) -> Tensor:
    """Predicted classes (N,) under PGD-`e.pgd_steps`: cross-entropy, random start, the same eps as IFIA."""
    dtype, noise = next(model.parameters()).dtype, torch.Generator().manual_seed(e.seed)
    found = []
    with tqdm(total=len(images), desc=f"PGD-{e.pgd_steps}", unit="image", disable=not progress, file=sys.stdout) as bar:
        for x, y in batches(images, 250, dtype=dtype):
            attack = dict(ball=Linf(e.eps), steps=e.pgd_steps, step_size=e.pgd_step_size, generator=noise)
            found.append(model(pgd(model, x, y, **attack)).argmax(1))
            bar.update(len(x))
    return torch.cat(found)


def judge(model: nn.Module, images: ImageSet, e: Evaluation, *, progress: bool = True) -> dict[str, dict[str, list]]:
    """Everything Table 1 needs of one model, per image: {"attribution": {...}, "accuracy": {...}}, plain lists.

    attribution: index, status, IN, K, spearman, cosine, in [-1, 1], of the attacked images; where the attack found no
    step the maps are equal and the measures 1. accuracy: index, natural, adversarial (0 or 1) of
    `e.accuracy_images` test images in the same fixed order.
    """
    chosen = attacked_images(model, images, e)
    if not len(chosen):
        raise ValueError(f"the model classifies none of {len(images)} test images correctly: nothing to attack")
    found = manipulate(model, images.subset(chosen), e, progress=progress)
    a, b = found.before, found.after
    attribution = {
        "index": chosen,
        "IN": metrics.topk_intersection(a, b, e.k),
        "K": found.kendall,  # 1 where no step was kept, a constant map included
        "spearman": metrics.spearman(a, b).nan_to_num(1.0),
        "cosine": metrics.cosine(a, b).nan_to_num(1.0),
        "status": found.status,
    }
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(e.seed))[: e.accuracy_images]
    some = images.subset(order)
    hits = {
        "natural": predictions(model, some) == some.labels,
        "adversarial": adversarial_predictions(model, some, e, progress=progress) == some.labels,
    }
    accuracy = {"index": order, **{k: v.int() for k, v in hits.items()}}
    record = {
        "attribution": {k: v.tolist() for k, v in attribution.items()},
        "accuracy": {k: v.tolist() for k, v in accuracy.items()},
    }
    record["attribution"]["status"] = [STATUS[s] for s in record["attribution"]["status"]]
    return record


def kept(record: dict[str, dict[str, list]]) -> list[bool]:
    """Which attacked images have a label-preserving iterate that lowered the correlation."""
    return [status == STATUS[KEPT] for status in record["attribution"]["status"]]


def first_correct(models: dict[str, nn.Module], images: ImageSet) -> ImageSet:
    """The first image that every model classifies correctly, as a set of one; ValueError if there is none."""
    right = torch.stack([predictions(m, images) == images.labels for m in models.values()]).all(0).nonzero()
    if not len(right):
        raise ValueError(f"none of {len(images)} images is classified correctly by all of {', '.join(models)}")
    return images.subset(right[0])
