"""What the papers print: published numbers and claims as data, and the verdict that a run gives on each claim.

The numbers are those of ART (Singh et al., ECCV 2020), in percent as printed. Of LENS (Kamath et al., AAAI 2024)
nothing is transcribed, so its side of a comparison stays blank.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from artlib.metrics import bootstrap_means

if TYPE_CHECKING:
    import pandas as pd

TABLES = {path.stem.removeprefix("paper_"): path for path in sorted(Path(__file__).parent.glob("paper_table*.csv"))}
METRICS = ("IN", "K", "natural", "adversarial")  # columns of Table 1; higher is better for each
ROWS = ("natural", "ig_norm", "ig_sum_norm", "pgd", "art")  # the order of the rows of Table 1


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
    means = sum(bootstrap_means(side, samples, generator=generator) for side in sides)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    word = "reproduced" if low > 0 else "not reproduced" if high < 0 else "inconclusive"
    return Verdict(sum(side.mean().item() for side in sides), low, high, word)


def claims(dataset: str) -> tuple[Claim, ...]:
    """The claims about a data set; one that the paper does not have is asked the questions of CIFAR-10, and says so."""
    own = tuple(c for c in CLAIMS if c.dataset == dataset)
    asked = f"{dataset}, asked of CIFAR-10's table:"
    return own or tuple(replace(c, text=c.text.replace("cifar10:", asked)) for c in CLAIMS if c.dataset == "cifar10")


def verdicts(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    claims: Sequence[Claim] = CLAIMS,
    *,
    generator: torch.Generator,
    paired: Sequence[str] = ("natural", "adversarial"),
) -> "pd.DataFrame":
    """One row per claim: text, source, difference, low, high, verdict; blank where a side was not measured.

    values[training][metric]: per-image values of one run, shape (N,). `paired` names the metrics that every training
    was given on the same images in the same order; IN and K are taken on what each model classifies correctly.
    """
    import pandas as pd

    rows = {}
    for claim in claims:
        better, worse = (values.get(side, {}).get(claim.metric) for side in (claim.better, claim.worse))
        row = {"text": claim.text, "source": claim.source}
        if better is not None and worse is not None:
            row |= vars(verdict(better, worse, generator=generator, paired=claim.metric in paired))
        rows[claim.id] = row
    columns = ["text", "source", "difference", "low", "high", "verdict"]
    numbers = {"difference": float, "low": float, "high": float}
    return pd.DataFrame.from_dict(rows, orient="index", columns=None).reindex(columns=columns).astype(numbers)


def against_paper(
    run: "pd.DataFrame", name: str = "table1", *, reference: "pd.DataFrame | None" = None
) -> "pd.DataFrame":
    """A run's table beside the printed one and the recorded reference; rows the run does not have stay blank.

    run, reference: one row a dataset, training and metric, its value in percent in column `mean`, other columns free.
    Returns dataset, training, metric, paper, reference, run and the run's other columns, for the data sets of the run,
    in the paper's order of rows. Raises ValueError for an unknown table or a missing column.
    """
    keys = ["dataset", "training", "metric"]
    for frame in (run, run if reference is None else reference):
        if missing := {*keys, "mean"} - set(frame):
            raise ValueError(f"the table lacks the columns {', '.join(sorted(missing))}; it has {', '.join(frame)}")
    reference = run.iloc[:0] if reference is None else reference
    wide = table(name)
    printed = wide.melt(keys[:2], list(METRICS), "metric", "paper").astype({"paper": float})
    joined = printed[printed["dataset"].isin(run["dataset"])]
    joined = joined.merge(reference[[*keys, "mean"]].rename(columns={"mean": "reference"}), "outer", keys)
    joined = joined[joined["dataset"].isin(run["dataset"])]
    joined = joined.merge(run.rename(columns={"mean": "run"}), "outer", keys)
    orders = (list(dict.fromkeys([*ROWS, *run["training"]])), list(METRICS))
    rank = joined.assign(**{k: joined[k].map(o.index) for k, o in zip(keys[1:], orders, strict=True)})
    return joined.loc[rank.sort_values(keys).index].reset_index(drop=True)
