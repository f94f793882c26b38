"""The audit itself: measurements of `artlib.measurements`, each stored once, and the worst images before and after."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from artlib import costs, provenance, results, tables
from artlib.audit import worst
from artlib.audit.door import classifier, modes_kept, named, weight_count
from artlib.audit.images import PREDICTED, check_correct, image_set
from artlib.audit.intervals import of_few
from artlib.audit.questions import Questions
from artlib.audit.remarks import remarks, still, without
from artlib.audit.report import Audit
from artlib.data import ImageSet
from artlib.measurements import Measurement
from artlib.trainings import pick_device

COLUMNS = ("IN", "K", "recall_1", "recall_2", "recall_3", "diverse_recall_1")
ACCURACY = 5  # times as many images as are attacked


def audit(
    model: nn.Module | Callable[[Tensor], Tensor] | str,
    images: ImageSet | Tensor | Path | str,
    /,
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
    **by_name: object,
) -> Audit:
    """Accuracy, clean and under PGD, and IN, K and LENS of a classifier's explanations under attack.

    `model`, `weights`, `mean`, `std`: see `classifier`; `images`, `labels`, `size`: see `image_set`. What is asked are
    `questions`, or the fields of `Questions` by name: `audit(net, x, images=20, attributions=["gradient"])`. Says first
    how long it will take. Every measurement is stored when it is done, so that an audit that was stopped goes on, and
    one that is there is shown again. Raises ValueError for what cannot be audited, with the reason: no gradients, a
    softmax at the end, ReLUs called as functions. The network is in eval mode meanwhile, and afterwards as it was.
    """
    questions, device = _questions(questions, by_name), pick_device(device)
    with modes_kept(model):
        net = classifier(model, weights=weights, mean=mean, std=std).to(device)
        own = model.rpartition(":")[2] if isinstance(model, str) else getattr(model, "__name__", type(model).__name__)
        most = dict(limit=max(1000, 20 * questions.images), unlabelled=ACCURACY * questions.images)
        test = image_set(images, net, labels=labels, size=size, **most)
        return _audited(net, test, name or own, questions, device, progress)


def _audited(
    net: nn.Module, test: ImageSet, name: str, questions: Questions, device: torch.device, progress: bool
) -> Audit:
    predicted = test.note.startswith(PREDICTED)
    if not predicted:
        check_correct(net, test)
    with named(net):
        asked = questions.measurements(test, questions.check(net, test))
    there = results.stored(net, asked, test=test, name=name)
    shown = worst.title_of(asked)
    if progress:
        if test.note:
            print(f"{test.name}: {test.note}", flush=True)
        print("finding out how long this takes ... ", end="", flush=True)  # of a large network in minutes
        print(_forecast(net, test, asked, there, shown, device), flush=True)
    options = dict(test=test, name=name, device=device, progress=progress)
    records = {}
    for number, (title, m) in enumerate(asked.items(), 1):
        if progress and there[title][1] is None:
            print(f"{number} of {len(asked)}: {title}", flush=True)
        records[title] = there[title][1] or results.measured(net, m, **options)
    grid = worst.figure(net, asked[shown], records[shown], test, place=there[shown][0], title=shown)
    attacked = {t: {0: {"attribution_robustness": r}} for t, r in records.items() if t != "accuracy"}
    table = tables.table(attacked, dataset=test.name, titles={t: t for t in attacked}, columns=COLUMNS)
    judged = {name: {0: {"accuracy": records["accuracy"]}}}
    held = tables.table(judged, dataset=test.name, titles={name: name})
    table, held = of_few(table, attacked), of_few(held, judged)
    if predicted:  # 100 by construction
        held = held[held["metric"] != "natural"].reset_index(drop=True)
    about = {"model": name, "parameters": weight_count(net), "images": provenance.describe(test)}
    about |= {"questions": questions.plain(), "k": {m.attribution: m.k for t, m in asked.items() if t != "accuracy"}}
    about |= {"accuracy_images": len(records["accuracy"]["values"]["index"])}
    about |= {"machine": provenance.machine(device), "seconds": sum(r["seconds"] for r in records.values())}
    return Audit(about | {"remarks": remarks(records)}, held, without(table, still(records)), grid)


def _questions(questions: Questions | None, by_name: Mapping[str, object]) -> Questions:
    known = [f.name for f in fields(Questions)]
    if unknown := [name for name in by_name if name not in known]:
        raise ValueError(f"an audit does not take {unknown[0]!r}; its questions are {', '.join(known)}")
    if questions is not None and by_name:
        raise ValueError(
            f"give questions, or {', '.join(by_name)}, not both: questions=Questions({next(iter(by_name))}=...)"
        )
    return questions or Questions(**by_name)


def estimate(
    model: nn.Module | Callable[[Tensor], Tensor], images: ImageSet, questions: Questions, *, device: str = "cpu"
) -> str:
    """In one sentence how long an audit of a model from pixels to logits takes here if nothing of it exists yet."""
    with modes_kept(model):
        net, device = classifier(model).to(device), torch.device(device)
        with named(net):
            asked = questions.measurements(images, questions.check(net, images))
        there = {title: (Path(), None) for title in asked}
        return _forecast(net, images, asked, there, worst.title_of(asked), device)


def _forecast(
    net: nn.Module,
    images: ImageSet,
    asked: Mapping[str, Measurement],
    there: Mapping[str, tuple[Path, dict | None]],
    shown: str,
    device: torch.device | str,
) -> str:
    """How long what is not stored yet takes; `shown` is the attack whose worst images are attacked once more."""
    left = [title for title, (_, record) in there.items() if record is None]
    again = worst.left(*there[shown])
    counts = {title: m.count(len(images)) * (title in left) + again * (title == shown) for title, m in asked.items()}
    if not any(counts.values()):
        return "everything is there already"
    found = len(asked) - len(left)
    told = f": {found} of {len(asked)} measurements are there already" if found else ""
    if not left:
        told = ": all measurements are there already, the worst images are attacked once more, to be shown"
    try:
        return f"{costs.duration(_seconds(net, images, asked, counts, device))} on this machine{told}"
    except (RuntimeError, ValueError, TypeError, NotImplementedError, ZeroDivisionError):
        return "how long this will take cannot be said beforehand: the operations of this network cannot be counted"


def _seconds(
    net: nn.Module,
    images: ImageSet,
    asked: Mapping[str, Measurement],
    counts: Mapping[str, int],
    device: torch.device | str,
) -> float:
    seconds, speed = 0.0, {}
    for title, count in counts.items():
        if not count:
            continue
        work = costs.measuring(asked[title], net=net, shape=(1, 1, 2), images=count)
        work = replace(work, run=partial(_on, work.run, images))
        kind = title.split(",")[0]  # one attack of an attribution is as fast an arithmetic as another
        if kind not in speed:
            speed[kind] = costs.rate(work, device=device)
        seconds += work.images * costs.per_image(work) / speed[kind]
    return seconds


def _on(run: Callable, images: ImageSet, net: nn.Module, noise: ImageSet, **loops: int) -> None:
    """`run` on as many real images as there are of noise, which knows of square ones alone."""
    run(net, images.subset(torch.arange(len(noise)) % len(images)).to(noise.images.device), **loops)
