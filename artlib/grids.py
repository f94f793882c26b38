"""Grids that notebooks read: recipes, or ways to measure, made of a preset's by a few changes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from artlib import paper, presets
from artlib.data import ImageSet
from artlib.measurements import Measurement
from artlib.trainings import Art, ArtVariant, Igr, Pgd, Recipe, Training

if TYPE_CHECKING:
    import pandas as pd

STATISTICS = ("held", "running", "batch")
ANCHORS = ("pixels", "normalized")
STEPS = (1.5, 5.0)  # of ART's inner attack, in 255ths: the text's and the released code's (C-1)
CELLS = {  # of the factorial: where ART's rows stand
    f"art {statistics} {anchor} {step:g}": dict(statistics=statistics, anchor=anchor, step=f"{step:g}/255")
    for step in STEPS
    for anchor in ANCHORS
    for statistics in STATISTICS
}
RIVAL = "pgd held"  # of the factorial's ART rows
LENGTHS = {"smoke": (1, 2), "quick": (1, 2), "cpu": (1, 2, 4, 8, 16)}  # epochs, by preset
WEIGHTS = (2.0, 8.0)  # lambda of Eq. 6, beside the paper's 0.5
RATES = (0.1, 3.0)  # times the learning rate, of Natural and PGD among `others`
# Around the paper's 50, 0.5 and 3 (section 5); the text names none of the values that Figures 8 and 9 sweep.
SWEPT = {"beta": (10.0, 25.0, 100.0, 200.0), "lambda": (0.0, 0.25, 0.75, 1.0), "steps": (1, 2, 5, 7)}
FIELDS = {"beta": "beta", "lambda": "weight", "steps": "steps"}  # of `Art`, by what Figures 8 and 9 call them
OBJECTIVES = {  # of Table 5, and the text's L_attr + L_ce, by their names in `paper`
    "art_eq2": "change",
    "art_l2": "l2",
    "art_cosine": "cosine",
    "art_least_likely": "least-likely",
    "art_combined": "combined",
}

# What a recorded run takes instead of the preset's, so that so many trainings take hours and not days; what `quick`
# takes, minutes; at `smoke` what the guard needs to say something, or almost nothing.
_QUICK, _TINY = dict(limit=256, epochs=4, batch_size=16), dict(limit=8, batch_size=8)
SMALLER: dict[str, dict[str, dict[str, Any]]] = {
    "factorial": {
        "smoke": dict(limit=8, epochs=13, batch_size=2),  # 50 updates, after which the guard looks
        "quick": _QUICK,
        "cpu": dict(limit=10_000, epochs=6, batch_size=64),
    },
    "lengths": {
        "smoke": _TINY,
        "quick": dict(limit=256, batch_size=16),
        "cpu": dict(limit=5_000, batch_size=64),
        "paper": dict(schedule="one-cycle"),
    },
    "sweeps": {"smoke": _TINY, "quick": _QUICK, "cpu": dict(limit=5_000, epochs=4, batch_size=64)},
    "objectives": {"smoke": _TINY, "quick": _QUICK, "cpu": dict(limit=5_000, epochs=4, batch_size=64)},
    "others": {
        "smoke": dict(limit=8, epochs=4, batch_size=4),  # JARN is natural for seven of eight updates
        "quick": _QUICK,
        "cpu": dict(limit=5_000, epochs=4, batch_size=64),
    },
}
_FEW = {"attribution_robustness": dict(images=100), "accuracy": dict(images=500)}
MEASURED: dict[str, dict[str, dict[str, Any]]] = {  # images by measurement, at `cpu`
    "factorial": {"attribution_robustness": dict(images=200), "accuracy": dict(images=500, restarts=3)},
    "lengths": _FEW,
    "sweeps": _FEW,
    "objectives": _FEW,
    "others": _FEW | {"pgd_20": dict(images=500)},
}
FEWER = {  # of every grid, by preset
    "smoke": {
        "attribution_robustness": dict(images=2, steps=1),
        "accuracy": dict(images=20),
        "pgd_20": dict(images=20),
    },
    "quick": {name: dict(images=n) for name, n in (("attribution_robustness", 16), ("accuracy", 100), ("pgd_20", 100))},
}
LIVE = {  # the rows that a notebook trains itself, where not all
    "factorial": dict.fromkeys(
        ("smoke", "quick"), ("art running pixels 1.5", "art batch pixels 1.5", "art held pixels 1.5")
    ),
    "lengths": {"quick": ("natural 1", "natural 2", "pgd 1", "pgd 2", "art 1", "art 2")},
    "sweeps": {"quick": ("art", "beta 10", "beta 200", "lambda 0", "lambda 1", "steps 1")},
    "objectives": {"quick": ("art_l2", "art_cosine", "art_least_likely", "art")},
    "others": {"quick": ("natural", "pgd", "trades", "cure", "jarn", "igr", "lga", "art", "art_combined")},
}
# What the released code does otherwise when it measures IN and K, one switch at a time, by row of DIFFERENCES.md.
SWITCHES: dict[str, dict[str, Any]] = {
    "C-14": dict(threshold=20.0),
    "C-19": dict(score_target="loss", score_rule="trapezoid"),
    "C-21": dict(criterion="kendall-on-topk"),
    "C-22": dict(candidates="before"),
    "C-25": dict(random_start=True),
    "C-26": dict(hold_factor=True),
    "authors": dict(protocol="authors", sample="random"),  # all of them; JPEG copies come in the order of classes
}
SWITCHED = {"smoke": 2, "quick": 8, "cpu": 24}  # images, by preset


def switches(preset: str, *, dataset: str) -> dict[str, Measurement]:
    """IN and K as the text has them ("paper"), and with each of `SWITCHES`, of fewer images but for the first."""
    few = {"images": SWITCHED[preset]} if preset in SWITCHED else {}
    asked = {"paper": {} if preset == "cpu" else few} | {row: few | switch for row, switch in SWITCHES.items()}
    return {
        row: presets.measurement(preset, "attribution_robustness", dataset=dataset, **changes)
        for row, changes in asked.items()
    }


def images(preset: str, split: str, grid: str, *, dataset: str) -> ImageSet:
    """A split of the data set as the grid wants it: fewer training images. Raises ValueError for an unknown grid."""
    _check(grid)
    limit = SMALLER[grid].get(preset, {}).get("limit") if split == "train" else None
    return presets.images(preset, split, dataset=dataset, limit=limit)


def measurements(preset: str, grid: str, *, dataset: str) -> dict[str, Measurement]:
    """Those of Table 1, of fewer images; of `others` PGD-20, too, by which appendix C compares them.

    Raises ValueError for an unknown grid.
    """
    _check(grid)
    changes = MEASURED[grid] if preset == "cpu" else FEWER.get(preset, {})
    names = (*presets.MEASURED, *(["pgd_20"] if grid == "others" else []))
    return {n: presets.measurement(preset, n, dataset=dataset, **changes.get(n, {})) for n in names}


def rivals(grid: str, rows: Collection[str]) -> dict[str, str]:
    """By row of ART: the row of PGD that it is judged against, of the factorial and, of as many epochs, of lengths."""
    found = {row: RIVAL if grid == "factorial" else f"pgd {row.split()[1]}" for row in rows if row.startswith("art ")}
    return {row: rival for row, rival in found.items() if rival in rows}


def live(grid: str, preset: str, recipes: Mapping[str, Recipe]) -> dict[str, Recipe]:
    """The rows of a grid that a notebook trains itself at a preset: few where minutes count, else all.

    Raises ValueError for an unknown grid.
    """
    _check(grid)
    return {name: recipes[name] for name in LIVE[grid].get(preset, recipes)}


def factorial(preset: str, *, dataset: str, seed: int = 0) -> dict[str, Recipe]:
    """ART by statistics x anchor x step, ART as `authors`, PGD by statistics, Natural.

    statistics (C-11), anchor (C-4, C-5) and step (C-1) are where the text is silent, contradicts itself or is not what
    the released code does. All else is protocol `paper`.
    """
    at = dict(dataset=dataset, seed=seed)
    art, pgd = Art.of(dataset), Pgd.of(dataset)
    rows: dict[str, tuple[str | Training, str]] = {"natural": ("natural", "paper")}
    rows |= {f"pgd {s}": (replace(pgd, statistics=s), "paper") for s in STATISTICS}
    for name, cell in CELLS.items():
        settings = dict(statistics=cell["statistics"], anchor=cell["anchor"], step_size=float(cell["step"][:-4]) / 255)
        rows[name] = (replace(art, **settings), "paper")
    rows["art authors"] = ("art", "authors")
    changes = SMALLER["factorial"].get(preset, {})
    return {name: presets.recipe(preset, t, protocol=p, **at, **changes) for name, (t, p) in rows.items()}


def lengths(preset: str, *, dataset: str, seed: int = 0) -> dict[str, Recipe]:
    """Natural, PGD and ART at growing numbers of epochs, a schedule of its own each; ART also with other settings.

    At every length with the released code's step (C-1), with which one of two trainings of the factorial has ART above
    PGD; at the middle length with a larger lambda.
    """
    at = dict(dataset=dataset, seed=seed, **SMALLER["lengths"].get(preset, {}))
    epochs = LENGTHS.get(preset, LENGTHS["cpu"])
    rows: dict[str, tuple[str | Training, int]] = {f"{t} {n}": (t, n) for n in epochs for t in presets.TABLE1}
    middle, art = epochs[len(epochs) // 2], Art.of(dataset)
    rows |= {f"art {n} step {STEPS[-1]:g}": (replace(art, step_size=STEPS[-1] / 255), n) for n in epochs}
    rows |= {f"art {middle} lambda {w:g}": (replace(art, weight=w), middle) for w in WEIGHTS}
    return {name: presets.recipe(preset, t, **at, epochs=n) for name, (t, n) in rows.items()}


def by_length(
    table: "pd.DataFrame", recipes: Mapping[str, Recipe], histories: Mapping[str, Sequence[Mapping]], *, images: int
) -> "pd.DataFrame":
    """A table of `lengths` with the training's name in the place of the row's, and columns epochs and F.

    F: forward passes of single images that the training took, about. Another lambda or step is another training.
    histories: by row, of its training record; what the guard saw last at the end of ART's own attack, L_attr with the
    running statistics, those of the network that is used, becomes a metric.
    """
    import pandas as pd

    rows = [
        {"training": n, "metric": "L_attr", "mean": h[-1]["guard"]["running"]["raised"][1]}
        for n, h in histories.items()
        if "L_attr" in h[-1] and "guard" in h[-1]
    ]
    parts = (
        pd.DataFrame(rows, columns=["training", "metric", "mean"])
        .astype({"mean": float})
        .assign(low=lambda t: t["mean"], high=lambda t: t["mean"])
    )
    found = pd.concat([table[["training", "metric", "mean", "low", "high"]], parts], ignore_index=True)
    own = found["training"].map(recipes)
    found["epochs"] = own.map(lambda r: r.epochs)
    found["F"] = own.map(lambda r: images * r.epochs * r.training.passes)
    found["training"] = found["training"].str.replace(r" \d+(?= |$)", "", n=1, regex=True)
    return found


def sweeps(preset: str, *, dataset: str, seed: int = 0) -> dict[str, Recipe]:
    """ART, and ART with one of beta, lambda and the attack's steps changed (Figures 8 and 9); the rest as `paper`.

    The number of steps is the named one at every preset, each as long as the paper's.
    """
    at = dict(dataset=dataset, seed=seed, **SMALLER["sweeps"].get(preset, {}))
    art = Art.of(dataset)
    rows = {"art": art}
    rows |= {f"{p} {v:g}": replace(art, **{FIELDS[p]: v}) for p, values in SWEPT.items() for v in values}
    found = {name: presets.recipe(preset, t, **at) for name, t in rows.items()}
    attack = {name: dict(steps=t.steps, step_size=t.step_size) for name, t in rows.items()}
    return {name: replace(r, training=replace(r.training, **attack[name])) for name, r in found.items()}


def swept(table: "pd.DataFrame") -> "pd.DataFrame":
    """A table of `sweeps` with columns parameter and value in the place of the row's name; ART itself in each sweep.

    Column paper: what Table 1 prints of ART, at its own point; NaN elsewhere and of other data sets.
    """
    import pandas as pd

    known = paper.published().query("object == 'table1' and training == 'art'")
    keys = ["dataset", "training", "metric"]
    table = table.merge(known.rename(columns={"value": "paper"})[[*keys, "paper"]], how="left", on=keys)
    art, parts = Art(), []
    for parameter, field in FIELDS.items():
        own = table["training"].str.startswith(f"{parameter} ")
        values = table["training"].where(own, f"{parameter} {getattr(art, field)}").str.split().str[-1].astype(float)
        parts.append(table.assign(parameter=parameter, value=values)[own | (table["training"] == "art")])
    return pd.concat(parts).sort_values(["parameter", "metric", "value"], kind="stable").reset_index(drop=True)


def objectives(preset: str, *, dataset: str, seed: int = 0) -> dict[str, Recipe]:
    """The rows of Table 5 by their names in `paper`, and ART whose attack raises L_attr + L_ce (appendix C)."""
    at = dict(dataset=dataset, seed=seed, **SMALLER["objectives"].get(preset, {}))
    rows: dict[str, Training] = {n: ArtVariant.of(dataset, objective=o) for n, o in OBJECTIVES.items()}
    return {name: presets.recipe(preset, t, **at) for name, t in (rows | {"art": Art.of(dataset)}).items()}


def others(preset: str, *, dataset: str, seed: int = 0) -> dict[str, Recipe]:
    """Trainings that ART's appendix C compares with, and newer ones, beside those of Table 1.

    IGR on PGD and on TRADES; `art_combined` as in `objectives`, of which it and `art` are rows. Natural and PGD with
    other learning rates are cheap controls: what they gain needs no other loss.
    """
    at = dict(dataset=dataset, seed=seed, **SMALLER["others"].get(preset, {}))
    rows: dict[str, str | Training] = {t: t for t in ("natural", "pgd", "trades", "cure", "jarn", "igr", "lga")}
    rows |= {"igr_trades": Igr.of(dataset, on="trades"), "art": "art"}
    rows |= {"art_combined": ArtVariant.of(dataset, objective="combined")}
    found = {name: presets.recipe(preset, t, **at) for name, t in rows.items()}
    rates = {f"{t} lr x{f:g}": replace(found[t], lr=f * found[t].lr) for t in ("natural", "pgd") for f in RATES}
    return found | rates


GRIDS = {grid.__name__: grid for grid in (factorial, lengths, sweeps, objectives, others)}


def _check(grid: str) -> None:
    if grid not in GRIDS:
        raise ValueError(f"unknown grid {grid!r}; choose one of {', '.join(GRIDS)}")


def rows(
    grid: str, preset: str, *, dataset: str, names: Collection[str] | None = None, seed: int = 0
) -> dict[str, Recipe]:
    """The rows of a grid that are named, all where None. Raises ValueError for an unknown grid or row."""
    _check(grid)
    found = GRIDS[grid](preset, dataset=dataset, seed=seed)
    if unknown := [row for row in names or () if row not in found]:
        raise ValueError(f"{grid} has no row {unknown[0]!r}; it has {', '.join(found)}")
    return {row: found[row] for row in names or found}
