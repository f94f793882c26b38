"""One league: every training that was measured, by data set, with paired tests and what they can resolve."""

import html
import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch

from artlib import files, metrics, paper, presets, results, scoreboard, tables
from artlib.measurements.attribution_robustness import LENS, WINDOWS
from artlib.models.public import PUBLIC
from artlib.paths import REFERENCE
from artlib.scoreboard import NAMES

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("IN", "K", *(f"{name}_{w}" for name in LENS for w in WINDOWS), "natural", "adversarial")
SHOWN = ("IN", "K", "recall_1", "recall_3", "precision_1", "diverse_recall_1", "natural", "adversarial")  # at once
EXPLAINED = ("IN", "K", "recall_1", "recall_3")
POWER = 2.8  # 1.96 + 0.84: normal quantiles of a two-sided test at 5 % that finds a difference in 80 % of all samples
# Of a recipe, what rows of a group share or what has no say; of a measurement, what does not change a value.
_SHARED = {"dataset", "training", "arch", "size", "limit", "epochs", "batch_size", "seed"}
_SHARED |= {"milestones"}  # of a schedule in steps, which `cpu` has not
_ASIDE = {"images", "chunk"}

Group = dict[str, Mapping[int, Mapping[str, dict]]]  # by row: `tables.Records`


def recorded() -> dict[str, Group]:
    """The per-image measurements behind the recorded runs, by data set with what was trained on it, and by row.

    A column that was not measured is None on every image. Only what was measured as Table 1 is counts, whatever the
    number of images. Rows of one group have the same test images, network, training images and epochs, in whose order
    groups stand; their titles are the training's with every setting that differs from its usual one. Raises ValueError
    for two runs of one title.
    """
    paths = results.RECORDED.glob("*.attribution_robustness.*.json")
    read = [(path.name.split(".")[0], json.loads(path.read_text())) for path in paths]
    read.sort(key=lambda one: len(one[1]["values"]["index"]))  # of one model the measurement of most images is the last
    best = {stem: record for stem, record in read if _as_in_table1(record)}
    found: dict[str, Group] = {}
    for stem, record in sorted(best.items()):
        group, row, seed = _named(stem, record["test"])
        if seed in found.get(group, {}).get(row, {}):
            raise ValueError(
                f"two recorded runs are both called {row!r} in {group!r}: {stem} is one; name what differs"
            )
        record["values"] |= {c: [None] * len(record["values"]["index"]) for c in _missing(record["values"])}
        measured = {"attribution_robustness": record}
        for other in results.RECORDED.glob(f"{stem}.accuracy.*.json"):
            measured["accuracy"] = accuracy = json.loads(other.read_text())
            if accuracy["measurement"].get("steps") == 0:  # no attack was made
                accuracy["values"]["adversarial"] = [None] * len(accuracy["values"]["index"])
        found.setdefault(group, {}).setdefault(row, {})[seed] = measured
    return {group: dict(sorted(found[group].items())) for group in sorted(found, key=_by_number)}


def _by_number(group: str) -> list[str | int]:
    """A group's name with its numbers as numbers: data set, network, images, epochs."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", group.replace(",", ""))]


def _as_in_table1(record: Mapping) -> bool:
    usual = presets.measurement("cpu", "attribution_robustness", dataset=record["test"]["name"]).plain()
    return all(record["measurement"].get(k) == v for k, v in usual.items() if k not in _ASIDE)


def _missing(values: Mapping[str, list]) -> list[str]:
    return [c for c in tables.metric_columns() if c.startswith(("recall", "precision", "diverse")) and c not in values]


def _named(stem: str, test: Mapping) -> tuple[str, str, int]:
    title = test["note"] or NAMES.get(test["name"], test["name"])
    if stem in PUBLIC:
        return f"{title}, networks of others", PUBLIC[stem].title, 0
    told = results.recorded_training(stem)
    recipe, images = told["recipe"], told["data"]["images"]
    epochs = "1 epoch" if recipe["epochs"] == 1 else f"{recipe['epochs']} epochs"
    group = f"{title}, {recipe['arch']}, {images:,} images, {epochs}"
    return group, heading(recipe), recipe["seed"]


def heading(recipe: Mapping) -> str:
    """The title of a recorded recipe's training, with every setting that is not that of its network at preset `cpu`."""
    kind = results.training_kind(recipe)
    training = kind(**{k: v for k, v in recipe["training"].items() if k != "kind"})
    changed = {}
    for protocol in ("paper", "authors"):
        named = dict(dataset=recipe["dataset"], arch=recipe["arch"], protocol=protocol)
        usual = presets.recipe("cpu", kind.name, **named)
        changed[protocol] = _changed(training.plain(), usual.training.plain())
        changed[protocol] += _changed(recipe, usual.plain(), aside=_SHARED)
    if changed["paper"] and not changed["authors"]:
        return f"{training.heading}, authors"
    return ", ".join([training.heading, *(c for c in changed["paper"] if c not in training.heading)])


def _changed(settings: Mapping, usual: Mapping, *, aside: Collection[str] = ()) -> list[str]:
    return [_said(k, v) for k, v in settings.items() if k not in aside and v != usual[k]]


def _said(name: str, value: Any) -> str:
    """A setting in a title: running, step 5/255, lambda 2, mining, no dropout."""
    if isinstance(value, bool) or value is None:
        return name if value else f"no {name}"
    if name in ("eps", "step_size"):
        return f"{name.removesuffix('_size')} {255 * value:g}/255"
    if isinstance(value, str):
        return value
    return f"{'lambda' if name == 'weight' else name} {value:g}" if isinstance(value, float) else f"{name} {value}"


def table(groups: Mapping[str, Group], *, columns: Sequence[str] = COLUMNS) -> "pd.DataFrame":
    """`tables.table` of every group, one below the other, with a column group; rows without a value are left out."""
    import pandas as pd

    parts = []
    for group, records in groups.items():
        titles = {row: row for row in records}
        own = tables.table(records, dataset=group, titles=titles, columns=_had(records, columns))
        parts.append(own.dropna(subset=["mean"]).rename(columns={"dataset": "group"}))
    return pd.concat(parts, ignore_index=True)


def _had(records: Group, columns: Sequence[str]) -> list[str]:
    """The columns whose measurement any row has."""
    made = {m for seeds in records.values() for record in seeds.values() for m in record}
    return [c for c in columns if tables.metric_columns()[c][0] in made]


def pairs(
    groups: Mapping[str, Group], *, columns: Sequence[str] = COLUMNS, samples: int = 2000, seed: int = 0
) -> "pd.DataFrame":
    """One row per group, metric and pair of rows: the difference on the images that both have, and what it is worth.

    difference: mean of a less mean of b, in points; low, high: its 95 % interval (`paper.verdict`); p: of the paired
    test that flips the signs of the images' differences at random (Fisher's), its normal tail where none of `samples`
    flips reaches the difference; p_holm: the same after Holm's correction for all pairs of this group and metric;
    resolves: the smallest difference that as many images, as scattered as these, would show in four of five samples,
    2.8 standard errors; NaN where no image differs. Of several seeds an image's mean.
    """
    import pandas as pd

    noise, rows = torch.Generator().manual_seed(seed), []
    for group, records in groups.items():
        for column in _had(records, columns):
            these = []
            for a, b in combinations(records, 2):
                sides = _common(records, (a, b), column)
                if len(sides[0]) > 1:
                    told = {"group": group, "metric": column, "a": a, "b": b}
                    these.append(told | _pair(*sides, samples=samples, generator=noise))
            corrected = metrics.holm([row["p"] for row in these])
            rows += [row | {"p_holm": p} for row, p in zip(these, corrected, strict=True)]
    return pd.DataFrame(rows)


def _common(records: Group, rows: Sequence[str], column: str) -> list[torch.Tensor]:
    """Per row the means over seeds, in the unit of the metric, on the images with a value in every row and seed."""
    name, metric = tables.metric_columns()[column]
    stored = [[r[name]["values"] for r in records[row].values() if name in r] for row in rows]
    by_image = [[dict(zip(v["index"], v[column], strict=True)) for v in seeds] for seeds in stored]
    whole = [{i for i, v in each.items() if v is not None} for seeds in by_image for each in seeds]
    images = sorted(set.intersection(*whole)) if all(stored) else []
    values = [[[metric.scale * each[i] for i in images] for each in seeds] for seeds in by_image]
    return [torch.tensor(seeds, dtype=torch.float64).mean(0) if images else torch.zeros(0) for seeds in values]


def _pair(a: torch.Tensor, b: torch.Tensor, *, samples: int, generator: torch.Generator) -> dict:
    d, n = a - b, len(a)
    found = paper.verdict(a.tolist(), b.tolist(), generator=generator, samples=samples)
    signs = 2.0 * torch.randint(2, (samples, n), generator=generator).double() - 1
    more = ((signs @ d).abs() >= d.sum().abs() * (1 - 1e-12)).sum().item()
    p = (1 + more) / (1 + samples)
    if not more:  # a count of none says too little where Holm multiplies it by more than a hundred pairs
        p = min(p, math.erfc((d.sum().abs() / d.square().sum().sqrt()).item() / math.sqrt(2)))
    numbers = {"difference": found.difference, "low": found.low, "high": found.high, "images": n}
    return numbers | {"p": p, "resolves": POWER * d.std().item() / n**0.5 or float("nan")}


def resolved(found: "pd.DataFrame", *, level: float = 0.05) -> "pd.DataFrame":
    """By group and metric: pairs, those that Holm's test tells apart, and the smallest and largest `resolves`."""
    apart = found.assign(apart=found["p_holm"] < level).groupby(["group", "metric"], sort=False)
    kinds = dict(pairs=("apart", "size"), told_apart=("apart", "sum"), images=("images", "min"))
    return apart.agg(**kinds, smallest=("resolves", "min"), largest=("resolves", "max")).reset_index()


def board(found: "pd.DataFrame") -> tables.Shown:
    """A `table` as one row a group and training, one column a metric, "61.1 (59.3–62.9)": a click on a head sorts."""
    keys, metrics = ["group", "title"], list(dict.fromkeys(found["metric"]))
    found = found.assign(
        text=[f"{m:.1f} ({a:.1f}–{b:.1f})" for m, a, b in found[["mean", "low", "high"]].round(9).to_numpy()]
    )
    text = found.pivot(index=keys, columns="metric", values="text").reindex(columns=metrics).fillna("")
    means = found.pivot(index=keys, columns="metric", values="mean").reindex(columns=metrics)
    order = list(dict.fromkeys(map(tuple, found[keys].to_numpy())))
    return sortable(text.reindex(order).rename(columns=tables.heading), means.reindex(order))


def boards(found: "pd.DataFrame") -> tables.Shown:
    """`board` of the metrics in `SHOWN`, and below it, folded away, of all others."""
    at_once = found["metric"].isin(SHOWN)
    first, rest = board(found[at_once]), scoreboard.folded("The other measures", board(found[~at_once]))
    return tables.Shown(f"{first.text}\n\n{rest.text}", first.markup + rest.markup)


_SORT = (
    "const t=this.closest('table'),i=this.cellIndex,s=this.dataset.s=-(this.dataset.s||1),v=r=>r.cells[i].dataset.v;"
    "[...t.tBodies[0].rows].sort((a,b)=>{const x=v(a),y=v(b),n=x===''||y==='';"
    "return n?(x==='')-(y===''):s*(isNaN(x)?x.localeCompare(y):x-y)}).forEach(r=>t.tBodies[0].append(r))"
)


def sortable(text: "pd.DataFrame", values: "pd.DataFrame") -> tables.Shown:
    """A table of text as HTML whose rows a click on a column's head sorts by `values`, largest first, blanks last.

    Both have the same index and columns in the same order. The script is in the heads: a notebook runs it where it is
    trusted, a page always.
    """
    names = [str(n or "") for n in text.index.names]
    click = f'onclick="{html.escape(_SORT)}" style="cursor: pointer"'
    head = "".join(f"<th {click}>{html.escape(str(c))}</th>" for c in (*names, *text.columns))
    body = []
    for index, cells, numbers in zip(text.index, text.to_numpy(), values.to_numpy(), strict=True):
        index = index if isinstance(index, tuple) else (index,)
        named = [(str(v), html.escape(str(v)), "; min-width: 10em") for v in index]
        told = zip(map(html.escape, cells), numbers, strict=True)
        told = [("" if v != v else f"{v:.6f}", c.replace(" (", "<br>("), "; white-space: nowrap") for c, v in told]
        tds = (f'<td data-v="{html.escape(v)}" style="text-align: left{s}">{c}</td>' for v, c, s in named + told)
        body.append(f"<tr>{''.join(tds)}</tr>")
    markup = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    return tables.Shown(text.to_string(), markup)


def explained() -> "pd.DataFrame | None":
    """What a random sign takes of what an attack takes, from every recorded run that asked; None where none did.

    `paper.random_against_attack` as the runs wrote it, with a column run.
    """
    import pandas as pd

    names = sorted(p.stem for p in REFERENCE.glob("lens-*-claim.csv"))
    found = [results.reference(name).assign(run=name.removesuffix("-claim")) for name in names]
    return pd.concat(found, ignore_index=True) if found else None


def explained_by_run(found: "pd.DataFrame", *, columns: Sequence[str] = EXPLAINED) -> "pd.DataFrame":
    """`explained` as one row a run and training, or explanation and size: cells "71.0 (69.5 to 72.6) ✓", with marks.

    Runs are called by data set, network, number of training images or pixels, and gradients where these are explained.
    """
    found = found[found["measure"].isin(columns)].round(9)
    title = {run: _title(run) for run in found["run"].unique()}
    cells = zip(found["explained"], found["low explained"], found["high explained"], found["verdict"], strict=True)
    text = [f"{v:.1f} ({low:.1f} to {high:.1f}) {paper.MARKS[word]}" for v, low, high, word in cells]
    told = found.assign(run=found["run"].map(title), of=found.apply(_of, axis=1), text=text)
    keys = ["run", "of"]
    wide = told.pivot(index=keys, columns="measure", values="text").reindex(columns=columns).fillna("")
    return wide.reindex(list(dict.fromkeys(map(tuple, told[keys].to_numpy())))).rename(columns=tables.heading)


def _title(run: str) -> str:
    told, record = scoreboard.about(run), files.read_json(REFERENCE / f"{run}.json")
    if not record["trainings"]:
        return f"{told['title']}, {told['network']}, {record['data'][0]['size']} pixels"
    images = [f"{each['images']:,} images" for each in record["data"] if each["split"] == "train"]
    of = {m["attribution"] for m in record["measurements"].values() if "attribution" in m}
    return ", ".join([told["title"], told["network"], *images, *(["gradients"] if of == {"gradient"} else [])])


def _of(row: "pd.Series") -> str:
    if isinstance(row.get("explanation"), str):
        return f"{row['explanation']}, ε {row['ε in 1/255']:g}/255"
    return row["training"]


def sides(
    groups: Mapping[str, Group], column: str, *, trainings: Sequence[str]
) -> dict[str, dict[str, list[list[float]]]]:
    """By group the values of several trainings, as named in `TRAININGS`, one list a seed, on the images that all have.

    Of a training its row without further settings: PGD-10, not "PGD-10, running"; of seeds those that all have. For
    `paper.adversarial_advantage` and `paper.agreement_or_jitter`. Groups without a row, a seed or a value of `column`
    for one of them are left out.
    """
    usual = [re.compile(rf"{re.escape(tables.title(t))}(-\d+)?") for t in trainings]
    found = {}
    for group, records in groups.items():
        rows = [next((row for row in records if each.fullmatch(row)), None) for each in usual]
        seeds = set() if None in rows else set.intersection(*(set(records[row]) for row in rows))
        each = [_common({r: {s: records[r][s]} for r in rows}, rows, column) for s in sorted(seeds)]
        if each and all(len(values[0]) for values in each):
            found[group] = {name: [v[i].tolist() for v in each] for i, name in enumerate(trainings)}
    return found


def forgiven(groups: Mapping[str, Group], *, w: int) -> dict[str, float]:
    """By group the share of pixels that LENS-recall forgives by chance, 1 - (1 - k / P)^((2w + 1)^2).

    P: pixels of a map. That one of the top k is in a window of 2w + 1, if they lie anywhere, away from the border.
    """
    some = {group: next(iter(next(iter(records.values())).values())) for group, records in groups.items()}
    told = {group: record["attribution_robustness"] for group, record in some.items()}
    pixels = {group: each["measurement"]["k"] / each["test"]["size"] ** 2 for group, each in told.items()}
    return {group: 1 - (1 - share) ** ((2 * w + 1) ** 2) for group, share in pixels.items()}
