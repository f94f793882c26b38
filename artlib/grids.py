"""Grids of trainings that notebooks read: each a dictionary of recipes, made of a preset's by a few changes."""

from dataclasses import replace
from typing import Any

from artlib import presets
from artlib.data import ImageSet
from artlib.measurements import Measurement
from artlib.trainings import Art, Pgd, Recipe, Training

STATISTICS = ("held", "running", "batch")
ANCHORS = ("pixels", "normalized")
STEPS = (1.5, 5.0)  # of ART's inner attack, in 255ths: the text's and the released code's (C-1)
LENGTHS = {"smoke": (1, 2), "cpu": (1, 2, 4, 8, 16)}  # epochs, by preset
WEIGHTS = (2.0, 8.0)  # lambda of Eq. 6, beside the paper's 0.5

# What a recorded run takes instead of the preset's, so that so many trainings take hours and not days.
SMALLER: dict[str, dict[str, dict[str, Any]]] = {
    "factorial": {"cpu": dict(limit=10_000, epochs=6, batch_size=64)},
    "lengths": {"cpu": dict(limit=5_000, batch_size=64)},
}
MEASURED: dict[str, dict[str, dict[str, Any]]] = {  # images by measurement, at `cpu`
    "factorial": {"attribution_robustness": dict(images=200), "accuracy": dict(images=500, restarts=3)},
    "lengths": {"attribution_robustness": dict(images=100), "accuracy": dict(images=500)},
}


def images(preset: str, split: str, grid: str, *, dataset: str) -> ImageSet:
    """A split of the data set as the grid wants it: fewer training images than the preset's."""
    limit = SMALLER[grid].get(preset, {}).get("limit") if split == "train" else None
    return presets.images(preset, split, dataset=dataset, limit=limit)


def measurements(preset: str, grid: str, *, dataset: str) -> dict[str, Measurement]:
    """Those of Table 1, of fewer images at `cpu`."""
    changes = MEASURED[grid] if preset == "cpu" else {}
    return {n: presets.measurement(preset, n, dataset=dataset, **changes.get(n, {})) for n in presets.MEASURED}


def factorial(preset: str, *, dataset: str, seed: int = 0) -> dict[str, Recipe]:
    """ART by statistics x anchor x step, ART as `authors`, PGD by statistics, Natural.

    statistics (C-11), anchor (C-4, C-5) and step (C-1) are where the text is silent, contradicts itself or is not what
    the released code does. All else is protocol `paper`.
    """
    at = dict(dataset=dataset, seed=seed)
    art, pgd = Art.of(dataset), Pgd.of(dataset)
    rows: dict[str, tuple[str | Training, str]] = {"natural": ("natural", "paper")}
    rows |= {f"pgd {s}": (replace(pgd, statistics=s), "paper") for s in STATISTICS}
    for step in STEPS:
        for anchor in ANCHORS:
            for statistics in STATISTICS:
                settings = dict(statistics=statistics, anchor=anchor, step_size=step / 255)
                rows[f"art {statistics} {anchor} {step:g}"] = (replace(art, **settings), "paper")
    rows["art authors"] = ("art", "authors")
    changes = SMALLER["factorial"].get(preset, {})
    return {name: presets.recipe(preset, t, protocol=p, **at, **changes) for name, (t, p) in rows.items()}


def lengths(preset: str, *, dataset: str, seed: int = 0) -> dict[str, Recipe]:
    """Natural, PGD and ART at growing numbers of epochs, a schedule of its own each; ART also with larger lambda.

    The rows with a larger lambda are at the middle length.
    """
    at = dict(dataset=dataset, seed=seed, **SMALLER["lengths"].get(preset, {}))
    epochs = LENGTHS.get(preset, LENGTHS["cpu"])
    rows: dict[str, tuple[str | Training, int]] = {f"{t} {n}": (t, n) for n in epochs for t in presets.TABLE1}
    middle, paper = epochs[len(epochs) // 2], Art.of(dataset)
    rows |= {f"art {middle} lambda {w:g}": (replace(paper, weight=w), middle) for w in WEIGHTS}
    return {name: presets.recipe(preset, t, **at, epochs=n) for name, (t, n) in rows.items()}
