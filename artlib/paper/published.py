"""The printed numbers, one file an object (a table, or the text), one row a number; and a run's table beside them."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

DIFFERENCES = Path(__file__).parent / "differences.csv"  # of texts and released code: no printed numbers
TABLES = {p.stem: p for p in sorted(Path(__file__).parent.glob("*.csv")) if p != DIFFERENCES}  # objects by name


def read(name: str) -> list[dict[str, str]]:
    """The rows of an object as text, in the printed order. Raises ValueError for an unknown name."""
    if name not in TABLES:
        raise ValueError(f"no printed table {name!r}; transcribed so far: {', '.join(TABLES)}")
    with TABLES[name].open(newline="") as file:
        return list(csv.DictReader(file))


def published() -> "pd.DataFrame":
    """All printed numbers: object, dataset, setting, training, approach, metric, value, where; percent as printed.

    setting is what else a number depends on: the network in Table 2, the attribution in Table 4 and for segmentation,
    the experiment in the text; blank in the other tables. approach is the printed name of the row. In every metric
    higher is better: IN = top-k intersection and K = Kendall's tau before and after IFIA; natural = clean accuracy;
    adversarial = accuracy under PGD-40 of 8/255; from_X = accuracy under perturbations made on model X; IN_targeted,
    K_targeted = IN and K under the targeted attack; *_gt_known, *_top1_loc = localisation; top1_seg = segmentation
    (printed as fractions); other names of attacks and corruptions = accuracy under them.
    """
    import pandas as pd

    rows = [{"object": name, **row} for name in TABLES for row in read(name)]
    return pd.DataFrame(rows).astype({"value": float})


def differences() -> "pd.DataFrame":
    """Where a text and the code released with it differ, one row each: id, topic, text, code, field, measured.

    field: what switches it in artlib, below `artlib`, several with a semicolon between them; a function or a class
    where it is no setting. measured: "RUN: LEVEL" of a recorded run of effects, "notebook NAME" that shows it, or
    "none: WHY". Blank: nothing to switch, not measured. DIFFERENCES.md is written from it (`make readme`).
    """
    import pandas as pd

    return pd.read_csv(DIFFERENCES, dtype=str, keep_default_na=False)


def table(name: str) -> "pd.DataFrame":
    """A printed table, one row per dataset, setting and training, one column a metric; NaN where nothing is printed.

    Metrics and units as in `published`; rows and columns as printed; no column `setting` where the table has none.
    Raises ValueError for an unknown name.

    >>> from artlib import paper
    >>> table1 = paper.table("table1").query("dataset == 'cifar10'").set_index("training")
    >>> table1.loc["art", ["IN", "K"]].tolist()  # percent, as printed
    [92.9, 91.76]
    """
    import pandas as pd

    long = pd.DataFrame(read(name)).astype({"value": float})
    rows = ["dataset", "setting", "training", "approach"]
    wide = long.pivot(index=rows, columns="metric", values="value")
    wide = wide.reindex(index=pd.MultiIndex.from_frame(long[rows].drop_duplicates()), columns=long["metric"].unique())
    wide = wide.rename_axis(columns=None).reset_index()
    return wide if long["setting"].any() else wide.drop(columns="setting")


def against_paper(
    run: "pd.DataFrame", name: str = "table1", *, reference: "pd.DataFrame | None" = None
) -> "pd.DataFrame":
    """A run's table beside the printed one and the recorded reference; rows the run does not have stay blank.

    run, reference: one row a dataset, training and metric (and setting, where the printed table has one), the value in
    percent in column `mean`, other columns free. Returns these keys, paper, reference, run and the run's other columns,
    for the data sets of the run, in the paper's order of rows. Raises ValueError for an unknown table or a missing
    column.
    """
    import pandas as pd

    printed = pd.DataFrame(read(name)).astype({"value": float}).rename(columns={"value": "paper"})
    keys = [k for k in ("dataset", "setting", "training", "metric") if printed[k].any()]
    for frame in (run, run if reference is None else reference):
        if missing := {*keys, "mean"} - set(frame):
            raise ValueError(f"the table lacks the columns {', '.join(sorted(missing))}; it has {', '.join(frame)}")
    reference = run.iloc[:0] if reference is None else reference
    joined = printed[[*keys, "paper"]]
    joined = joined.merge(reference[[*keys, "mean"]].rename(columns={"mean": "reference"}), "outer", keys)
    joined = joined[joined["dataset"].isin(run["dataset"])]
    joined = joined.merge(run.rename(columns={"mean": "run"}), "outer", keys)
    own = printed[printed["dataset"].isin(run["dataset"])]  # a table's data sets differ in their order of trainings
    orders = {k: list(dict.fromkeys([*own[k], *printed[k], *run[k]])) for k in keys[1:]}
    rank = joined.assign(**{k: joined[k].map(order.index) for k, order in orders.items()})
    return joined.loc[rank.sort_values(keys).index].reset_index(drop=True)
