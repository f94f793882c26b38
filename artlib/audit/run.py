"""The audit itself: measurements of `artlib.measurements`, each stored once, and the worst images before and after."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from artlib import costs, results, tables
from artlib.attacks import KEPT
from artlib.audit.door import PREDICTED, classifier, image_set, weight_count
from artlib.audit.questions import Questions
from artlib.audit.report import Audit, worst_grid
from artlib.data import ImageSet
from artlib.measurements import Measurement
from artlib.trainings import pick_device

COLUMNS = ("IN", "K", "recall_1", "recall_2", "recall_3", "diverse_recall_1")
WORST = 4  # images shown


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
    own = model.rpartition(":")[2] if isinstance(model, str) else getattr(model, "__name__", type(model).__name__)
    name = name or own
    test = image_set(images, net, labels=labels, size=size, limit=max(1000, 20 * questions.images))
    asked = questions.measurements(test, questions.check(net, test))
    if progress:
        print(_estimate(net, test, asked, device), flush=True)
    options = dict(test=test, name=name, device=device, progress=progress)
    records = {title: results.measured(net, m, **options) for title, m in asked.items()}
    worst = _worst(net, asked, records, test)
    attacked = {t: {0: {"attribution_robustness": r}} for t, r in records.items() if t != "accuracy"}
    table = tables.table(attacked, dataset=test.name, titles={t: t for t in attacked}, columns=COLUMNS)
    held = tables.table({name: {0: {"accuracy": records["accuracy"]}}}, dataset=test.name, titles={name: name})
    if test.note == PREDICTED:  # 100 by construction
        held = held[held["metric"] != "natural"].reset_index(drop=True)
    about = {"model": name, "parameters": weight_count(net), "images": results.describe(test)}
    about |= {"questions": questions.plain(), "k": {m.attribution: m.k for t, m in asked.items() if t != "accuracy"}}
    about |= {"accuracy_images": len(records["accuracy"]["values"]["index"])}
    about |= {"machine": results.machine(device), "seconds": sum(r["seconds"] for r in records.values())}
    return Audit(about, held, table, worst)


def estimate(
    model: nn.Module | Callable[[Tensor], Tensor], images: ImageSet, questions: Questions, *, device: str = "cpu"
) -> str:
    """In one sentence how long an audit of a model from pixels to logits takes here if nothing of it exists yet."""
    net, device = classifier(model).to(device), torch.device(device)
    return _estimate(net, images, questions.measurements(images, questions.check(net, images)), device)


def _estimate(net: nn.Module, images: ImageSet, asked: dict[str, Measurement], device: torch.device | str) -> str:
    seconds, speed = 0.0, {}
    try:
        for title, m in asked.items():
            work = costs.measuring(m, net=net, shape=(1, 1, 2), images=m.count(len(images)))
            work = replace(work, run=partial(_on, work.run, images))
            kind = title.split(",")[0]  # one attack of an attribution is as fast an arithmetic as another
            if kind not in speed:
                speed[kind] = costs.rate(work, device=device)
            seconds += work.images * costs.per_image(work) / speed[kind]
    except (RuntimeError, ValueError, TypeError, NotImplementedError, ZeroDivisionError):
        return "how long this will take cannot be said beforehand: the operations of this network cannot be counted"
    return f"about {seconds / 60:.1f} minutes on this machine if nothing exists yet"


def _on(run: Callable, images: ImageSet, net: nn.Module, noise: ImageSet, **loops: int) -> None:
    """`run` on as many real images as there are of noise, which knows of square ones alone."""
    run(net, images.subset(torch.arange(len(noise)) % len(images)).to(noise.images.device), **loops)


def _worst(net: nn.Module, asked: dict[str, Measurement], records: dict[str, dict], test: ImageSet):
    """The images whose maps the top-k attack, or else the last one, moved most, attacked again to be shown."""
    titles = [t for t in asked if t != "accuracy"]
    title = next((t for t in reversed(titles) if t.endswith(", topk")), titles[-1])
    values = records[title]["values"]
    rows = zip(values["K"], values["index"], values["status"], strict=True)
    ranked = sorted((k, i) for k, i, status in rows if k is not None and status == KEPT)
    some = test.subset([i for _, i in ranked[:WORST]])
    if not len(some):
        return None
    found = asked[title].attack(net, some.to(next(net.parameters()).device), progress=False)
    return worst_grid(some, found, asked[title].k, title=title)
