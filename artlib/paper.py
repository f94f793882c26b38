"""What the papers print: published numbers and claims as data, and the verdict that a run gives on each claim.

The numbers are those of ART (Singh et al., ECCV 2020), in percent as printed. Of LENS (Kamath et al., AAAI 2024)
nothing is transcribed, so its side of a comparison stays blank.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    import pandas as pd

TABLES = {path.stem.removeprefix("paper_"): path for path in sorted(Path(__file__).parent.glob("paper_table*.csv"))}
METRICS = ("IN", "K", "natural", "adversarial")  # columns of Table 1; higher is better for each
_KEYS = ["dataset", "training"]


def table(name: str) -> "pd.DataFrame":
    """A printed table, one row per dataset and training, percent as printed, NaN where the paper has no value.

    Table 1: IN = top-k intersection and K = Kendall's tau of integrated gradients before and after IFIA, natural =
    clean accuracy, adversarial = accuracy under PGD-40; `approach` is the printed row name.
    Raises ValueError for an unknown name.
    """
    import pandas as pd

    return pd.read_csv(_path(name))


def _path(name: str) -> Path:
    if name not in TABLES:
        raise ValueError(f"no printed table {name!r}; transcribed so far: {', '.join(TABLES)}")
    return TABLES[name]


@dataclass(frozen=True)
class Claim:
    """One comparison that the paper makes: on `dataset`, `better` scores higher than `worse` in `metric`."""

    id: str
    text: str
    source: str  # where the paper says or shows it
    dataset: str
    metric: str
    better: str
    worse: str


def _table1_claims() -> list[Claim]:
    """Every pair that Table 1 orders, favourable to ART or not, and every comparison in the words of Section 4.1.3."""
    with _path("table1").open(newline="") as file:
        rows = list(csv.DictReader(file))
    claims = []
    for a, b in combinations(rows, 2):
        for metric in METRICS if a["dataset"] == b["dataset"] else ():
            high, low = sorted((a, b), key=lambda row: -float(row[metric]))
            stated = next((pair for pair in ((a, b), (b, a)) if _stated(metric, *pair)), None)
            if stated and stated[0] is not high:  # the text contradicts the table: both are claims
                claims.append(_claim(metric, *stated, source="Section 4.1.3"))
            if high[metric] != low[metric]:
                in_words = stated is not None and stated[0] is high
                claims.append(_claim(metric, high, low, source="Table 1, Section 4.1.3" if in_words else "Table 1"))
    return claims


def _stated(metric: str, better: Mapping, worse: Mapping) -> bool:
    """Section 4.1.3: ART leads every baseline in IN and K, PGD in test accuracy, Natural in accuracy under PGD-40."""
    rivals = {"natural": ["pgd"], "adversarial": ["natural"]}
    return better["training"] == "art" and worse["training"] in rivals.get(metric, [worse["training"]])


def _claim(metric: str, better: Mapping, worse: Mapping, *, source: str) -> Claim:
    name = {"IN": "IN", "K": "K", "natural": "natural accuracy", "adversarial": "PGD-40 accuracy"}[metric]
    dataset = better["dataset"]
    return Claim(
        id=f"table1/{dataset}/{metric}/{better['training']}>{worse['training']}",
        text=f"{dataset}: {better['approach']} has a higher {name} than {worse['approach']}"
        f" (printed: {better[metric]} and {worse[metric]})",
        source=source,
        dataset=dataset,
        metric=metric,
        better=better["training"],
        worse=worse["training"],
    )


CLAIMS: tuple[Claim, ...] = tuple(_table1_claims())


@dataclass(frozen=True)
class Verdict:
    """Difference of the means (better - worse), its 95 % bootstrap interval and what follows for the claim."""

    difference: float
    low: float
    high: float
    verdict: str  # "reproduced", "not reproduced" or "inconclusive"


def verdict(
    better: Sequence[float],
    worse: Sequence[float],
    *,
    generator: torch.Generator,
    paired: bool = True,
    samples: int = 2000,
) -> Verdict:
    """Whether mean(better) > mean(worse), by the 95 % percentile bootstrap (Efron & Tibshirani 1993, chapter 13).

    better, worse: per-image values, shapes (N,) and (M,), one unit for both. paired: both hold the same images in the
    same order (N = M), resampled together; otherwise each side by itself. An interval of the difference above 0
    reproduces the claim, one below 0 contradicts it, else there are too few images to tell. Only images are resampled:
    the interval knows nothing of other seeds, and one from a handful of images is too narrow.
    Raises ValueError for empty sides, NaN, or pairs of unequal length.
    """
    better, worse = (torch.as_tensor(np.asarray(side), dtype=torch.float64).flatten() for side in (better, worse))
    if not len(better) or not len(worse):
        raise ValueError("a verdict needs at least one image on each side")
    if better.isnan().any() or worse.isnan().any():
        raise ValueError("NaN among the per-image values: drop or fill those images first, and say which")
    if paired and len(better) != len(worse):
        raise ValueError(f"{len(better)} and {len(worse)} images are no pairs; pass paired=False for different images")
    sides = [better - worse] if paired else [better, -worse]
    means = sum(_bootstrap_means(side, samples, generator) for side in sides)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    word = "reproduced" if low > 0 else "not reproduced" if high < 0 else "inconclusive"
    return Verdict(sum(side.mean().item() for side in sides), low, high, word)


def _bootstrap_means(values: torch.Tensor, samples: int, generator: torch.Generator) -> torch.Tensor:
    """Means of `samples` draws with replacement from values (N,). Returns (samples,)."""
    n = len(values)
    return torch.stack([values[torch.randint(n, (n,), generator=generator)].mean() for _ in range(samples)])


def verdicts(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    claims: Sequence[Claim] = CLAIMS,
    *,
    generator: torch.Generator,
    paired: bool = True,
) -> "pd.DataFrame":
    """One row per claim: id, text, source, difference, low, high, verdict; blank where a side was not measured.

    values[training][metric]: per-image values of one run, shape (N,). Sides of unequal length are compared unpaired.
    """
    import pandas as pd

    rows = []
    for claim in claims:
        better, worse = (values.get(side, {}).get(claim.metric) for side in (claim.better, claim.worse))
        row = {"id": claim.id, "text": claim.text, "source": claim.source}
        if better is not None and worse is not None:
            together = paired and len(better) == len(worse)
            row |= vars(verdict(better, worse, generator=generator, paired=together))
        rows.append(row)
    columns = ["id", "text", "source", "difference", "low", "high", "verdict"]
    return pd.DataFrame(rows, columns=columns).astype({"difference": float, "low": float, "high": float})


def against_paper(
    run: "pd.DataFrame", name: str = "table1", *, reference: "pd.DataFrame | None" = None, dataset: str | None = None
) -> "pd.DataFrame":
    """A run's table beside the recorded reference run and the printed table.

    Returns columns dataset, training, metric, run, reference, paper; one row per value of the run.
    run, reference: columns dataset, training and any of the printed metrics, in percent. A value that the paper or the
    reference does not have is NaN. dataset: the printed data set to set a stand-in beside (the built-in images have no
    printed rows of their own). Raises ValueError for an unknown table or data set, or a run without metrics.
    """
    printed = table(name)
    if dataset is not None and dataset not in set(printed["dataset"]):
        raise ValueError(f"{name} has no data set {dataset!r}; it has {', '.join(printed['dataset'].unique())}")
    columns = list(printed.select_dtypes("number"))
    metrics = [column for column in columns if column in run]
    if not metrics:
        raise ValueError(f"the run has none of the columns {', '.join(columns)}; it has {', '.join(run)}")
    long = _long(run, metrics, "run")
    long["printed"] = dataset or long["dataset"]
    if reference is None:
        reference = run.iloc[:0]
    paper = _long(printed, metrics, "paper").rename(columns={"dataset": "printed"})
    long = long.merge(_long(reference, metrics, "reference"), how="left", on=[*_KEYS, "metric"])
    return long.merge(paper, how="left", on=["printed", "training", "metric"]).drop(columns="printed")


def _long(frame: "pd.DataFrame", metrics: list[str], value: str) -> "pd.DataFrame":
    """One row per dataset, training and metric, in the frame's order of rows."""
    present = [metric for metric in metrics if metric in frame]
    long = frame.melt(id_vars=_KEYS, value_vars=present, var_name="metric", value_name=value, ignore_index=False)
    return long.sort_index(kind="stable").reset_index(drop=True).astype({value: float})
