"""What the notebooks print: tables of data, recipes, trainings and results, one function each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from artlib import metrics, provenance, results
from artlib.attacks import KEPT, STATUS, Manipulated
from artlib.data import ImageSet
from artlib.measurements import MEASUREMENTS, Measurement, Metric
from artlib.paths import slug
from artlib.trainings import Recipe, title
from artlib.trainings.recipe import authors_rows

if TYPE_CHECKING:
    import pandas as pd

# records[training][seed][measurement] is what `results.measured` returns.
Records = Mapping[str, Mapping[int, Mapping[str, dict]]]


@dataclass(frozen=True)
class Shown:
    """What a notebook shows: HTML, and text where there is none; both the same at every run."""

    text: str
    markup: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.markup


def metric_columns(*, details: bool = True) -> dict[str, tuple[str, Metric]]:
    """Every column of every measurement: the measurement's name, and what the column holds; `details` as they say."""
    every = {name: {**kind.metrics, **(kind.details if details else {})} for name, kind in MEASUREMENTS.items()}
    return {column: (name, metric) for name, columns in every.items() for column, metric in columns.items()}


def paired(records: Records) -> tuple[str, ...]:
    """The metrics of these records that are of the same images in the same order, for `paper.verdicts`.

    Where an image lacks its value for one model, `values` are not pairs any more.
    """

    def whole(column: str, name: str) -> bool:
        each = [seed[name]["values"] for seeds in records.values() for seed in seeds.values() if name in seed]
        return bool(each) and all(None not in v[column] and v["index"] == each[0]["index"] for v in each)

    return tuple(c for c, (name, metric) in metric_columns(details=False).items() if metric.paired and whole(c, name))


def heading(column: str) -> str:
    """A metric's name for readers; from_X of Table 6 is "made on X", another column that no measurement has itself."""
    if column.startswith("from_"):
        return f"made on {title(column.removeprefix('from_'))}"
    found = metric_columns().get(column)
    return found[1].title if found else column


def named(table: "pd.DataFrame", titles: Mapping[str, str] | None = None) -> "pd.DataFrame":
    """The same rows under the names that a figure shows: trainings by `titles`, metrics by headings, a word a line."""
    known, metric = titles or {}, table["metric"].map(heading).str.replace(" ", "\n")
    return table.assign(training=[known.get(t, t) for t in table["training"]], metric=metric)


def counted(table: "pd.DataFrame") -> dict[str, str]:
    """By metric its heading and of how many images it is, the most of a training: "PGD accuracy, 1,000 images"."""
    most = table.groupby("metric", sort=False)["images"].max()
    return {metric: f"{heading(metric)}, {n:,.0f} images" for metric, n in most.items()}


def summary(sets: Sequence[ImageSet]) -> "pd.DataFrame":
    """One row per image set: name, split, images, size, the first digits of its fingerprint, and its note."""
    import pandas as pd

    rows = [provenance.describe(s) | {"classes": len(s.classes)} for s in sets]
    return pd.DataFrame([row | {"fingerprint": row["fingerprint"][:12]} for row in rows])


_PIXELS = ("eps", "step_size")  # shown as 8/255


def compare_recipes(recipes: Mapping[str, Recipe]) -> "pd.DataFrame":
    """The fields in which trainings usually differ, one column a recipe; blank where a training has no such field.

    Recipes of the protocol "authors" have a row more: which of C-7 to C-9 a preset has left them.
    """
    shown = ("arch", "epochs", "batch_size", "lr", "schedule", "augment", "seed")
    columns = {}
    for name, recipe in recipes.items():
        fields = recipe.plain()
        columns[name] = fields["training"] | {f: fields[f] for f in shown}
        if (rows := authors_rows(recipe)) is not None:
            columns[name]["authors' C-7 to C-9"] = ", ".join(row for row, holds in rows.items() if holds) or "none"
    return _settings(columns)


def compare_measurements(measurements: Mapping[str, Measurement]) -> "pd.DataFrame":
    """All settings, one column a measurement; blank where it has no such field."""
    return _settings({name: m.plain() for name, m in measurements.items()})


def _settings(columns: dict[str, dict]) -> "pd.DataFrame":
    import pandas as pd

    for column in columns.values():
        del column["kind"]
        column |= {f: f"{255 * column[f]:.3g}/255" for f in _PIXELS if column.get(f) is not None}
    return pd.DataFrame(columns).fillna("")


def histories(recipes: Mapping[str, Recipe], train: ImageSet) -> "pd.DataFrame":
    """The last epoch of every training: loss, training accuracy, and the parts of the loss; blank where it has none."""
    import pandas as pd

    last = {name: results.training_record(r, train)["history"][-1] for name, r in recipes.items()}
    return pd.DataFrame.from_dict(last, orient="index").drop(columns=["guard"], errors="ignore")


def guarded(histories: Mapping[str, Sequence[Mapping]]) -> "pd.DataFrame":
    """What the guard of each training saw, one row an epoch, statistics and point: what the attack raises, accuracy.

    histories: by row, a training record's history. The points are those of `guard.look`: "start", "x~" (the end of the
    training's own attack), "x~ by running statistics" and "x~ of a longer attack". Epochs count from 1; those at which
    it did not look have no row. accuracy in percent.
    """
    import pandas as pd

    points = ("start", "x~", "x~ by running statistics", "x~ of a longer attack")
    rows = [
        {"training": name, "epoch": i + 1, "statistics": statistics, "point": point, "raised": raised}
        | {"accuracy": 100 * accuracy}
        for name, history in histories.items()
        for i, entry in enumerate(history)
        for statistics, seen in entry.get("guard", {}).items()
        for point, raised, accuracy in zip(points, seen["raised"], seen["accuracy"], strict=True)
    ]
    return pd.DataFrame(rows, columns=["training", "epoch", "statistics", "point", "raised", "accuracy"])


def means(record: Mapping[str, dict]) -> dict[str, float]:
    """The mean of every metric of one model's measurements, in the unit of the metric; NaN without a value."""
    found = {}
    for column, each in _columns(record).items():
        finite = [v for v in each if v == v]
        found[column] = sum(finite) / len(finite) if finite else float("nan")
    return found


def _columns(record: Mapping[str, dict], columns: Sequence[str] | None = None) -> dict[str, list[float]]:
    """Per-image values of one model, in the unit of the metric; NaN where there is none."""
    every = metric_columns()
    return {
        column: [float("nan") if v is None else metric.scale * v for v in record[name]["values"][column]]
        for column in columns or metric_columns(details=False)
        for name, metric in (every[column],)
        if name in record
    }


def values(
    records: Records, *, common: bool = False, moved: bool = False, columns: Sequence[str] | None = None
) -> dict[str, dict[str, list[list[float]]]]:
    """Per-image values by training and metric, one list a seed, without the images that have no value.

    `columns` are the metrics; None is all but the details.
    `common` keeps the images that have a value with every training, in one order: pairs. IN and K are else taken on
    what each model classifies correctly, and a mean over easier images is no sign of robustness. `moved` keeps of these
    the images on which every attack found a step that keeps the label: one random draw has no second chance, and the
    100 of an image that it flips would be no robustness.
    """
    found: dict[str, dict[str, list[list[float]]]] = {}
    for training, seeds in records.items():
        for seed, record in seeds.items():
            for column, each in _columns(record, columns).items():
                kept = [v for v in each if v == v]
                if common or moved:
                    by_image = _by_image(record, column)
                    kept = [by_image[i] for i in _shared(records, seed, column, moved=moved)]
                found.setdefault(training, {}).setdefault(column, []).append(kept)
    return found


def _by_image(record: Mapping[str, dict], column: str, *, moved: bool = False) -> dict[int, float]:
    stored = record[metric_columns()[column][0]]["values"]
    rows = zip(stored["index"], _columns(record, [column])[column], strict=True)
    status = stored.get("status") if moved else None
    return {
        i: v for (i, v), s in zip(rows, status or [KEPT] * len(stored["index"]), strict=True) if v == v and s == KEPT
    }


def _shared(records: Records, seed: int, column: str, *, moved: bool = False) -> list[int]:
    """Places of the images that have a value in this column with every training that has this seed."""
    these = (s[seed] for s in records.values() if seed in s)
    return sorted(set.intersection(*(set(_by_image(one, column, moved=moved)) for one in these)))


def table(
    records: Records,
    *,
    dataset: str,
    titles: Mapping[str, str] | None = None,
    columns: Sequence[str] | None = None,
    seed: int = 0,
) -> "pd.DataFrame":
    """One row per training and metric: mean over images and seeds, 95% interval over images, number of images.

    `columns` are the metrics; None is all but the details.

    low, high: Wilson's interval for proportions, else the bootstrap's, as wide as the images of one seed allow, since
    seeds share them; lowest, highest: means of single seeds. IN and K count an image without a label-preserving step as
    1.0; `kept` is the mean without such images, `failed` their number (C-23), `unranked` that of images whose map or
    gradient is constant, zero or not finite: they are in no mean. `common` is the mean over the images that have a
    value with every training. `tied` is the share of the top k that ties decided, in percent.
    """
    import pandas as pd

    rows, shared = [], values(records, common=True, columns=columns)
    for training, measures in values(records, columns=columns).items():
        for metric, by_seed in measures.items():
            noise = torch.Generator().manual_seed(seed)
            pooled = torch.tensor([v for each in by_seed for v in each], dtype=torch.float64)
            row = {"dataset": dataset, "training": training, "title": (titles or {}).get(training) or title(training)}
            row["metric"] = metric
            if len(pooled):
                unit = metric_columns()[metric][1].scale
                low, high = metrics.interval(pooled, unit=unit, seeds=len(by_seed), generator=noise)
                single = [sum(each) / len(each) for each in by_seed if each]
                row |= {"mean": pooled.mean().item(), "low": low, "high": high, "images": len(pooled)}
                row |= {"seeds": len(by_seed), "lowest": min(single), "highest": max(single)}
                same = [v for each in shared[training][metric] for v in each]
                row |= {"common": sum(same) / len(same) if same else float("nan")}
            name = metric_columns()[metric][0]
            rows.append(row | _failures([record[name]["values"] for record in records[training].values()], metric))
    return pd.DataFrame(rows)


def square(table: "pd.DataFrame") -> "pd.DataFrame":
    """Means of a table as `table` makes it: a row a training, by its title, a column a metric, in the table's order."""
    wide = table.pivot(index="title", columns="metric", values="mean")
    return wide.reindex(index=table["title"].unique(), columns=table["metric"].unique())


def of_values(values: Mapping[str, Mapping[str, Sequence[float]]], *, dataset: str, seed: int = 0) -> "pd.DataFrame":
    """`table` of what no measurement stored: values[training][metric] are per-image values in percent, (N,).

    NaN is in no mean.
    """
    import pandas as pd

    rows = []
    for training, measures in values.items():
        for metric, each in measures.items():
            each = torch.as_tensor(each, dtype=torch.float64)
            kept, noise = each[each.isfinite()], torch.Generator().manual_seed(seed)
            row = {"dataset": dataset, "training": training, "title": title(training), "metric": metric}
            low, high = metrics.interval(kept, unit=100.0, generator=noise) if len(kept) else (math.nan, math.nan)
            rows.append(row | {"mean": kept.mean().item(), "low": low, "high": high, "images": len(kept)})
    return pd.DataFrame(rows)


def moved(records: Records, *, dataset: str, columns: Sequence[str]) -> "pd.DataFrame":
    """`table` of the images on which every attack found a step that keeps the label (`values`), of the first seed.

    records: by attack, in the place of a training.
    """
    found = values(records, moved=True, columns=columns)
    first = {attack: {c: each[0] for c, each in measures.items()} for attack, measures in found.items()}
    return of_values(first, dataset=dataset).rename(columns={"training": "attack"}).drop(columns="title")


def _failures(columns: list[dict], metric: str) -> dict[str, float]:
    found = {"unranked": sum(v is None for each in columns for v in each[metric])}
    if "status" not in columns[0]:
        return found
    scale = metric_columns()[metric][1].scale
    pairs = [pair for each in columns for pair in zip(each[metric], each["status"], strict=True)]
    kept = [scale * v for v, status in pairs if status == KEPT and v is not None]
    failed = sum(status != KEPT and v is not None for v, status in pairs)
    found |= {"kept": sum(kept) / len(kept) if kept else float("nan"), "failed": failed}
    if metric == "IN" and "tied" in columns[0]:
        tied = [100 * v for each in columns for v in each["tied"] if v is not None]
        found["tied"] = sum(tied) / len(tied) if tied else float("nan")
    return found


def one_image(
    models: Mapping[str, nn.Module], attacked: Mapping[str, Manipulated], y: torch.Tensor, k: int
) -> "pd.DataFrame":
    """Per model: confidence in y after the attack, status, kept step, IN and K (0 to 1) of one attacked image."""
    import pandas as pd

    rows = {}
    for name, found in attacked.items():
        rows[name] = {
            "confidence after": confidence(models[name], found.x_adv, y),
            "status": STATUS[found.status.item()],
            "step kept": found.kept_step.item(),
            "IN": metrics.topk_intersection(found.before, found.after, k).item(),
            "K": found.kendall.item(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


@torch.no_grad()
def confidence(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """The probability, 0 to 1, that `model` gives to class y (1,) of the one image x (1, C, H, W)."""
    return model(x).softmax(1)[0, y.item()].item()


def run_name(*table: object, dataset: str, protocol: str, seeds: Sequence[int] = (0,)) -> str:
    """The file name of a table: what is measured, in parts, empty ones left out, on what, how, and the seeds."""
    parts = [*map(str, filter(None, table)), slug(dataset), protocol, f"seed{'+'.join(map(str, seeds))}"]
    return "-".join(parts)


def tidy(table: "pd.DataFrame", decimals: int = 2) -> "pd.DataFrame":
    """The table as text for print, blank where nothing was measured.

    Numbers are rounded to 9 digits first, so that the last bits of two machines end in the same printed digit.
    """
    counts = {"images", "failed", "unranked", "seeds"}

    def text(v) -> str:
        if v != v or v is None:
            return ""
        return f"{round(v, 9):z.{decimals}f}" if isinstance(v, float) else str(v)

    whole = [c for c in table.select_dtypes("float") if c in counts and (table[c].dropna() % 1 == 0).all()]
    return table.astype({c: "Int64" for c in whole}).astype(object).where(table.notna(), None).map(text)


def joined(table: "pd.DataFrame", decimals: int = 1) -> "pd.DataFrame":
    """`tidy` with a number and its interval in one cell: "71.9 (70.4 to 73.5)" of explained, low and high explained.

    A plain low and high are those of the column before them.
    """
    found = tidy(table, decimals)
    for low in [c for c in found if f"{c} ".startswith("low ")]:
        high, own = low.replace("low", "high", 1), low.removeprefix("low").strip()
        own = own or found.columns[found.columns.get_loc(low) - 1]
        ends = zip(found[own], found.pop(low), found.pop(high), strict=True)
        found[own] = [f"{v} ({a} to {b})" if a else v for v, a, b in ends]
    return found
