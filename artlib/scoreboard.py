"""The papers' numbers beside ours: a row a training, a column a metric, both numbers and a mark in a cell; claims."""

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from artlib import paper, results, tables
from artlib.models.public import PUBLIC
from artlib.paths import REFERENCE
from artlib.tables import Shown

if TYPE_CHECKING:
    import pandas as pd

NAMES = {
    "cifar10": "CIFAR-10",
    "cifar10_official_200": "CIFAR-10",
    "svhn": "SVHN",
    "gtsrb": "GTSRB",
    "flower17": "Flower17",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cub200": "CUB-200-2011",
    "imagenet_samples": "ImageNet",
}
APART = ("kind", "ball", "setting", "eps", "attack", "images of")  # columns by which a recorded table repeats its rows
COMMON = "on common images"
NOTHING = Shown("none recorded yet", "none recorded yet")
COLORS = {"✓": "#009E73", "✗": "#D55E00", "?": "#777777"}  # of a mark; the mark itself says the same


def runs(table: str, *, dataset: str | None = None, protocol: str | None = None) -> list[str]:
    """The names of the recorded runs of a table, such as table1-cifar10-paper-seed0+1; real images first.

    >>> from artlib import scoreboard
    >>> "table1-cifar10-paper-seed0+1" in scoreboard.runs("table1", dataset="cifar10")
    True
    """
    middle = f"{dataset or '*'}-{protocol or '*'}"
    found = [p.stem for p in REFERENCE.glob(f"{table}-{middle}-seed*.json")]
    found.sort(key=lambda name: (f"{table}-blossoms-" in name, name))
    whole = (name for name in found if re.search(r"-seed[\d+]+$", name))  # not the claims, tests, ... beside it
    return [name for name in whole if (REFERENCE / f"{name}.csv").exists()]


def about(run: str) -> dict:
    """Data set, title with its note, preset, protocol, networks and commit of a recorded run; `heading`, most of it."""
    told = json.loads((REFERENCE / f"{run}.json").read_text())
    data = told["data"][0]
    name = NAMES.get(data["name"], data["name"])
    note = data["note"].removeprefix(name).translate({ord(c): None for c in "()"}).strip()
    title = f"{name} ({note})" if note else name
    networks = dict.fromkeys(each["recipe"]["arch"] for each in told["trainings"].values())
    if data["name"] == "imagenet_samples":  # trained by others, SqueezeNet 1.1 unless the run's name has another
        networks = [PUBLIC[next((name for name in PUBLIC if name in run), "squeezenet1_1")].title]
    seeds = len({each["recipe"]["seed"] for each in told["trainings"].values()})
    heading = (
        f"{title}, {data['size']} pixels, {told['preset']} preset, protocol {told['protocol']}"
        + f", {seeds} seeds" * (seeds > 1)
    )
    found = {
        "dataset": data["name"],
        "title": title,
        "heading": heading,
        "commit": told["machine"]["commit"][:7],
        "network": ", ".join(networks),
    }
    return found | {k: told[k] for k in ("preset", "protocol")}


def board(
    table: "pd.DataFrame",
    verdicts: "pd.DataFrame | None" = None,
    *,
    printed: str = "table1",
    setting: str | None = None,
) -> "pd.DataFrame":
    """One row a training, one column a metric, cells "69.00 | 61.1 (59.3–62.9) ✓": printed | measured [interval] mark.

    table: as `tables.table` makes it, one data set; verdicts: as `paper.verdicts`, indexed by the claims' ids, or None:
    no marks. The mark
    is that of all orderings in which the cell takes part: ✗ if one is not reproduced, ? if one is inconclusive, else ✓.
    setting: whose printed numbers they are, where a table has several (the network in Table 2).
    What the paper does not print, or was not measured, is blank.
    """
    import pandas as pd

    dataset = table["dataset"].iloc[0]
    known = paper.table(printed)
    known = known[known["dataset"] == dataset]
    known = (known if setting is None else known[known["setting"] == setting]).set_index("training")
    metrics = list(dict.fromkeys(table["metric"]))
    rows = [*known.index, *(t for t in dict.fromkeys(table["training"]) if t not in known.index)]
    measured = table.set_index(["training", "metric"])
    cells = {
        m: [_cell(known, measured, t, m) + _mark(verdicts, t, m, (t, m) in measured.index) for t in rows]
        for m in metrics
    }
    titles = table.set_index("training")["title"].to_dict() if "title" in table else {}
    printed_as = known["approach"].to_dict()
    index = [titles.get(t) or printed_as.get(t) or tables.title(t) for t in rows]
    return pd.DataFrame({tables.heading(m): cells[m] for m in metrics}, index=index)


def measured(table: "pd.DataFrame", titles: Mapping[str, str] | None = None) -> "pd.DataFrame":
    """One row a training, one column a metric, cells "61.1 (59.3–62.9)": what no paper prints.

    table: as `tables.table` makes it; titles: of rows, in the place of their names. A table that has a row more than
    once, by one of `APART`, is shown in as many parts; one without intervals without them.
    """
    import pandas as pd

    if table.duplicated(["training", "metric"]).any():
        apart = next(c for c in APART if c in table)
        parts = table.groupby(apart, sort=False)
        return pd.concat({v: measured(part, titles) for v, part in parts}, names=[apart, "training"])
    nothing, found = pd.DataFrame(), table.set_index(["training", "metric"])
    rows = list(dict.fromkeys(table["training"]))
    cells = {m: [_cell(nothing, found, t, m) for t in rows] for m in dict.fromkeys(table["metric"])}
    index = [(titles or {}).get(t, t) for t in rows]
    return pd.DataFrame({tables.heading(m): each for m, each in cells.items()}, index=index)


def beside(
    table: "pd.DataFrame | None", printed: "pd.DataFrame", titles: Mapping[str, str] | None = None
) -> "pd.DataFrame":
    """`measured` with the printed values before the measured ones, "69.00 | 61.1 (59.3–62.9)", without marks.

    printed: one row a training, one column a metric, as `paper.table` makes it; None for a table: nothing was measured.
    Rows are the printed ones, then those of the table alone; titles: of rows, else what the paper calls them. A table
    that has a row more than once is shown in parts, as by `measured`; printed values without that column are in each.
    """
    import pandas as pd

    if table is not None and table.duplicated(["training", "metric"]).any():
        apart = next(c for c in APART if c in table)
        own = {v: printed[printed[apart] == v] if apart in printed else printed for v in table[apart].unique()}
        parts = {v: beside(table[table[apart] == v], known, titles) for v, known in own.items()}
        return pd.concat(parts, names=[apart, "training"])
    columns = ["training", "metric", "mean", "low", "high"]
    found = (pd.DataFrame(columns=columns) if table is None else table).set_index(["training", "metric"])
    known = printed.set_index("training")
    rows = list(dict.fromkeys([*known.index, *found.index.get_level_values(0)]))
    known = known.apply(pd.to_numeric, errors="coerce").dropna(axis=1, how="all")
    metrics = [m for m in tables.metric_columns() if m in known or m in found.index.get_level_values(1)]
    cells = {tables.heading(m): [_cell(known, found, t, m) for t in rows] for m in metrics}
    names = printed.set_index("training")["approach"].to_dict() | dict(titles or {})
    return pd.DataFrame(cells, index=[names.get(t, t) for t in rows])


def _cell(known: "pd.DataFrame", measured: "pd.DataFrame", training: str, metric: str) -> str:
    printed = known.loc[training, metric] if training in known.index and metric in known else float("nan")
    told = f"{printed:.2f}" if printed == printed else ""
    if (training, metric) not in measured.index:
        return f"{told} | " if told else ""
    r = measured.loc[(training, metric)]
    if r.get("mean") is None or r["mean"] != r["mean"]:  # no image had a value
        return f"{told} | –" if told else "–"
    known_metric = tables.metric_columns().get(metric)
    places = 3 if known_metric and not known_metric[1].unit else 1  # a cosine, not a percentage
    known_width = "low" in r and r["low"] == r["low"]  # of one image nothing tells it
    between = f" ({r['low']:.{places}f}–{r['high']:.{places}f})" if known_width else ""
    ours = f"{r['mean']:.{places}f}{between}"
    return f"{told} | {ours}" if told else ours


def _mark(verdicts: "pd.DataFrame | None", training: str, metric: str, measured: bool) -> str:
    if not measured or verdicts is None:
        return ""
    marks = {
        v["mark"] for claim, v in verdicts.iterrows() if _sides(claim)[0] == metric and training in _sides(claim)[1:]
    }
    return "".join(f" {mark}" for mark in "✗?✓" if mark in marks)[:2]


def _sides(claim: str) -> tuple[str, str, str, str]:
    """Metric, first side, sign (>, < or =) and second side of a claim's id."""
    *_, metric, sides = claim.split("/")
    return metric, *re.split("([<=>])", sides, maxsplit=1)


def recorded(run: str, *, printed: str = "table1", setting: str | None = None) -> "pd.DataFrame | Shown":
    """`board` of a recorded run; a sentence where there is none.

    >>> from artlib import scoreboard
    >>> board = scoreboard.recorded("table1-cifar10-paper-seed0+1")
    >>> board.loc["ART", "IN"].split(" | ")[0]  # what the paper prints stands before what was measured
    '92.90'
    """
    table = results.reference(run)
    if table is None:
        return NOTHING
    return board(table, recorded_claims(run), printed=printed, setting=setting)


def shown(table: str, *, printed: "pd.DataFrame | None" = None, metrics: Sequence[str] | None = None) -> "Shown":
    """Every recorded run of a figure or table: numbers, verdicts and pictures; a sentence where there is none.

    printed: the paper's values, as `paper.table` makes them: those of a run's data set stand before its own.
    metrics: those that are shown, without pictures; None for all. A run of a part of the table (table-part-dataset-...)
    says which.
    """
    text, markup = [], []
    for run in runs(table):
        told, found = about(run), results.reference(run)
        found = found if metrics is None else found[found["metric"].isin(metrics)]
        titles = dict(zip(found["training"], found.get("title", found["training"]), strict=True))
        known = None if printed is None else printed[printed["dataset"] == told["dataset"]]
        numbers = measured(found, titles) if known is None else beside(found, known, titles)
        numbers = numbers.T if numbers.shape[1] > 8 else numbers  # else every cell would break into three lines
        verdicts = _verdicts(run, metrics, titles)
        title = titled(table, run) + _images(found)
        text += [f"{title}\n{numbers.to_string()}", *(f"{name}\n{part.text}" for name, part in verdicts)]
        markup.append(f"<p>{html.escape(title)}</p>{numbers.to_html()}")
        markup += [f"<p>{html.escape(name)}</p>{part.markup}" for name, part in verdicts]
        markup += [pictures(run).markup] if metrics is None and any(REFERENCE.glob(f"{run}*.png")) else []
    return Shown("\n\n".join(text), "".join(markup)) if text else NOTHING


def verdicts(table: str) -> "Shown":
    """The verdicts of every recorded run of a figure or table; a sentence where there is none."""
    parts = [(titled(table, run), name, part) for run in runs(table) for name, part in _verdicts(run)]
    text = "\n\n".join(f"{title}\n{name}\n{part.text}" for title, name, part in parts)
    markup = "".join(f"<p>{html.escape(f'{title}; {name}')}</p>{part.markup}" for title, name, part in parts)
    return Shown(text, markup) if parts else NOTHING


def titled(table: str, run: str) -> str:
    """Of which part of the table a recorded run is, if it is one, and what it is made of."""
    told = about(run)
    part = _part(table, run, told["dataset"])
    return ": ".join(filter(None, [part, f"{told['heading']}, commit {told['commit']}"]))


def _part(table: str, run: str, dataset: str) -> str:
    """What a run's name has between its table and its data set, as `tables.run_name` made it: other settings."""
    part = run.removeprefix(table).split(f"-{dataset}-")[0].strip("-")
    part = re.sub(r"-?\bof-(\d+)", lambda found: f", {int(found[1]):,} training images", part)
    return re.sub(r"-(\d+)-epochs", r", \1 epochs", part).removeprefix(", ")


def _images(found: "pd.DataFrame") -> str:
    """ ", 100 images", or ", 100 to 1,000 images", where a recorded table says of how many its means are."""
    counts = sorted(found["images"].dropna().astype(int).unique()) if "images" in found else []
    return f", {' to '.join(f'{n:,}' for n in dict.fromkeys((counts[0], counts[-1])))} images" if counts else ""


def worst_case(table: str, *, accuracy: bool = False) -> "Shown":
    """IN and K under the worst of several attacks in the recorded runs of notebook 33, of a table or a grid.

    accuracy: under PGD-40 and AutoAttack, too.
    """
    from artlib.measurements import WorstCase

    beside = ["adversarial_running", "auto_attack"] if accuracy else []
    return shown(f"stronger-{table}", metrics=[*WorstCase.metrics, *beside])


def _verdicts(
    run: str, metrics: Sequence[str] | None = None, titles: Mapping[str, str] | None = None
) -> list[tuple[str, Shown]]:
    """The recorded claims of a run under headings: by the column that repeats them, else by the setting in their id."""
    found = recorded_claims(run)
    if found is None:
        return []
    apart = next((c for c in APART if c in found), "setting")
    of = found[apart] if apart in found else found.index.str.split("/").str[2:-2].str.join("/")
    parts = found.groupby(of, sort=False)
    named = {f"verdicts, {apart} {value}" if value else "verdicts": part for value, part in parts}
    return [(name, claims(part, metrics=metrics, titles=titles)) for name, part in named.items()]


def pictures(name: str, *, width: str = "32em") -> "Shown":
    """The recorded pictures whose files' names begin so, at most `width` wide; a sentence where there is none."""
    data = {path.stem: _embedded(path) for path in sorted(REFERENCE.glob(f"{name}*.png"))}
    style = f'style="max-width: {width}"'
    markup = [f'<img alt="{html.escape(stem)}" src="{address}" {style}>' for stem, address in data.items()]
    return Shown(", ".join(data), "".join(markup)) if data else NOTHING


def _embedded(path: Path, *, most: int = 1000) -> str:
    """A recorded PNG as the address of an `img`; a wider one smaller and as JPEG, as a notebook holds it as text."""
    from PIL import Image

    kind, written = "png", io.BytesIO(path.read_bytes())
    with Image.open(written) as picture:
        if picture.width > most:
            small = picture.convert("RGB").resize((most, round(most * picture.height / picture.width)))
            kind, written = "jpeg", io.BytesIO()
            small.save(written, "JPEG", quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(written.getvalue()).decode()}"


def recorded_claims(run: str) -> "pd.DataFrame | None":
    """The verdicts of a recorded run, indexed by the claims' ids; None for a run without claims."""
    found = results.reference(f"{run}-claims")
    if found is None:
        return None
    found = found.set_index("claim")
    return found.astype(object).where(found.notna(), None)


def everything(table: str = "table1", *, blank: bool = True) -> "pd.DataFrame":
    """`recorded` of every recorded run of a table, one below the other; if `blank`, also printed sets without one."""
    import pandas as pd

    found = {}
    for run in runs(table):
        told = about(run)
        heading = ", ".join(filter(None, [told["heading"], _part(table, run, told["dataset"])]))
        found[heading] = recorded(run, printed=table)
    printed, measured = paper.table(table), {about(run)["dataset"] for run in runs(table)}
    for dataset in [d for d in printed["dataset"].unique() if blank and d not in measured]:
        rows = printed[printed["dataset"] == dataset]
        columns = [c for c in rows if c in tables.metric_columns()]
        cells = {tables.heading(c): [f"{v:.2f} | " for v in rows[c]] for c in columns}
        found[f"{NAMES.get(dataset, dataset)}, not measured"] = pd.DataFrame(cells, index=rows["approach"].tolist())
    return pd.concat(found, names=["data", "training"]).fillna("")


def with_common(verdicts: "pd.DataFrame", common: "pd.DataFrame") -> "pd.DataFrame":
    """Verdicts, and in a column more what the same claims come to on images that their models have in common.

    common: those verdicts, indexed alike, of `effects.judged` or of `tables.values(records, common=True)`.
    """
    same = common.loc[verdicts.index]
    rows = zip(same["difference"], same["mark"], same["images"], strict=True)
    told = [f"{d:+.1f} {mark}{f' ({n:.0f} images)' if mark == '?' else ''}" if d == d else "" for d, mark, n in rows]
    return verdicts.assign(**{COMMON: told})


def claims(
    verdicts: "pd.DataFrame | None",
    common: "pd.DataFrame | None" = None,
    *,
    metrics: Sequence[str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> "Shown":
    """The orderings of a table and what a run says to them, grouped by metric, with a mark and its colour.

    common: as for `with_common`, whose column is shown where the verdicts have it.
    metrics: those that are shown, None for all. titles: of rows that `tables.title` does not know. Verdicts that are
    None, as `recorded_claims` has them of a run without, are a sentence.
    """
    import pandas as pd

    if verdicts is None:
        return NOTHING
    verdicts = verdicts if common is None else with_common(verdicts, common)
    rows, named, every = [], titles or {}, tables.metric_columns()
    for claim, v in verdicts.iterrows():
        metric, *sides = _sides(claim)
        if pd.isna(v["difference"]) or (metrics is not None and metric not in metrics):  # a side was not measured
            continue
        along = sides[0].startswith("from_") or {*sides[::2]} <= {*every}  # two attacks on the training `metric`
        title = [named.get(s) or (tables.heading if along else tables.title)(s) for s in sides[::2]]
        row = {
            "metric": f"accuracy of {tables.title(metric)}" if along else tables.heading(metric),
            "claim": f" {sides[1]} ".join(title),
            "difference": f"{v['difference']:+.1f} ({v['low']:+.1f} to {v['high']:+.1f})",
        }
        row |= {"": v["mark"] or "", "verdict": v["verdict"] or "", "why": v["why"] or ""}
        if COMMON in verdicts:
            row[COMMON] = v[COMMON] or ""
        rows.append(row)
    if not rows:
        return Shown(
            "no ordering of the paper has both sides in this run", "no ordering of the paper has both sides here"
        )
    found = pd.DataFrame(rows).sort_values("metric", kind="stable", key=lambda c: c.map(_first_seen(rows)))
    found = found.set_index(["metric", "claim"])
    text = found.to_string()
    own = hashlib.sha256(text.encode()).hexdigest()[:8]  # stored outputs stay equal, tables of one page keep apart
    style = found.style.set_uuid(f"claims_{own}")
    style = style.map(lambda mark: f"color: {COLORS.get(mark, 'inherit')}; font-weight: bold", subset=[""])
    left = [{"selector": "th, td", "props": [("text-align", "left"), ("vertical-align", "top")]}]
    return Shown(text, style.set_table_styles(left).to_html())


def effects() -> "pd.DataFrame":
    """What every row of `paper.differences` that was measured does to the numbers, by id and network or level.

    One column a metric, cells "-33.2 (-36.2 to -30.3)", in percentage points: the code's way, less ours, with the 95 %
    interval over images, paired. The recorded runs have one row a metric, factor and level, as `effects.main_effects`
    makes them; a row of `paper.differences` names the run and a level, or the factor of several.
    """
    import pandas as pd

    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in paper.differences().to_dict("records"):
        run, _, level = row["measured"].partition(": ")
        found = None if run.startswith("none") else results.reference(run)
        for r in [] if found is None else found.to_dict("records"):
            if level not in (r["factor"], r["to"]):
                continue
            what = tables.title(r["factor"]) if r["to"] == level else f"{r['to']}, not {r['from']}"
            between = f" ({r['low']:+z.1f} to {r['high']:+z.1f})" if r["low"] == r["low"] else ""
            cells.setdefault((row["id"], what), {})[tables.heading(r["metric"])] = f"{r['effect']:+z.1f}{between}"
    index = pd.MultiIndex.from_tuples(cells, names=["row", "of"])
    return pd.DataFrame(list(cells.values()), index=index).fillna("") if cells else pd.DataFrame()


def differences() -> "pd.DataFrame":
    """`paper.differences` for readers, by topic and id: fields by their short names, "below" where `effects` has it.

    A row with a field and without an effect says "not measured"; one without a field changes nothing here.
    """
    rows, found = paper.differences(), effects()
    fields = rows["field"].str.replace(r"\w+\.(?=[A-Z][a-z])", "", regex=True).str.split("; ")
    recorded = rows["measured"].str.contains(r"^(?!none)\S+: ")
    known = rows["id"].isin(found.index.get_level_values(0) if len(found) else [])
    rows["in artlib"] = fields.map(lambda names: ", ".join(f"`{name}`" for name in names if name))
    told = rows["measured"].str.replace(r"^notebook (\w+)$", r"`\1`", regex=True)
    told = told.mask((told == "") & (rows["field"] != ""), "not measured")
    rows["effect on numbers"] = told.mask(recorded, "").mask(known, "below")
    return rows.drop(columns=["field", "measured"]).set_index(["topic", "id"])


def differences_shown() -> "Shown":
    """`differences`, each topic folded away."""
    parts = []
    for topic, own in differences().groupby("topic", sort=False):
        own = own.droplevel("topic")
        own = own.loc[:, (own != "").any()].replace(r"[`*]", "", regex=True)
        parts.append(folded(f"{topic}: {len(own)} rows, {own.index[0]} to {own.index[-1]}", own, left=True))
    return Shown("\n\n".join(p.text for p in parts), "".join(p.markup for p in parts))


def _first_seen(rows: Sequence[Mapping[str, str]]) -> dict[str, int]:
    return {metric: i for i, metric in enumerate(dict.fromkeys(row["metric"] for row in rows))}


def folded(title: str, table: "pd.DataFrame | Shown", *, left: bool = False) -> Shown:
    """A table that a notebook shows folded away, under a title; `left` aligned, as words are read."""
    cells = table.markup if isinstance(table, Shown) else table.to_html()
    if left:
        cells = re.sub("<(td|th)>", r'<\1 style="text-align: left">', cells)
    return Shown(f"{title}\n{table}", f"<details><summary>{html.escape(title)}</summary>{cells}</details>")


def markdown(found: "pd.DataFrame") -> str:
    """A table of text as the README holds it, with the index as its first column."""
    head = ["", *map(str, found.columns)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for index, row in zip(found.index, found.values, strict=True):
        lines.append("| " + " | ".join([str(index), *(str(v).replace("|", "/") for v in row)]) + " |")
    return "\n".join(lines)
