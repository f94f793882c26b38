"""What a run says to a claim: whether it holds in order, and how far from the printed values the measured ones are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from artlib.metrics import bootstrap_means, newcombe_interval
from artlib.paper.claims import CLAIMS, Claim

if TYPE_CHECKING:
    import pandas as pd

# One image of 50 moves a proportion by 2 points; the bootstrap of fewer gives intervals that are clearly too narrow.
SMALLEST_IMAGES = 50
# Points. The paper itself prints one accuracy of ART as 37.50 and 37.58 (and 37.73 under PGD-20): what is closer than a
# point is within the chance of a single run, however many images say so.
SMALLEST_DIFFERENCE = 1.0
# That is a rule for percentages. By metric, what counts for another: a cosine times 100, whose means are a few points
# at most, counts from the third decimal of the cosine on, the last that tables show.
SMALLEST_OF = {"alignment": 0.1}
# Points. About the half width of an interval of 400 images at 50 %: the printed values have such errors themselves.
# What the paper calls the same may differ by as much.
SIZE_TOLERANCE = 5.0

MARKS = {"reproduced": "✓", "not reproduced": "✗", "inconclusive": "?"}  # for tables


@dataclass(frozen=True)
class Verdict:
    """What follows for a claim. All numbers are points of percent.

    difference: mean of better less mean of worse, over all images and seeds; low, high: its 95 % interval;
    by_seed: the difference in every seed. images: the fewest of a side and seed.
    distance: measured less printed value, of better and of worse; None without printed values.
    same: the claim is that both are the same; `order` then says whether they are.
    """

    difference: float
    low: float
    high: float
    order: str  # "reproduced", "not reproduced" or "inconclusive"
    why: str  # why it is inconclusive, else blank
    by_seed: tuple[float, ...]
    images: int
    distance: tuple[float, float] | None = None
    same: bool = False

    @property
    def extent(self) -> str:
        """Of an order that is reproduced: "order and size", or "order only" if a side is over SIZE_TOLERANCE away."""
        if self.order != "reproduced" or self.distance is None or self.same:
            return ""
        return "order only" if max(map(abs, self.distance)) > SIZE_TOLERANCE else "order and size"

    @property
    def mark(self) -> str:
        """One character for a table, of MARKS."""
        return MARKS[self.order]

    @property
    def verdict(self) -> str:
        """Both parts in words."""
        return f"{self.order}, {self.extent}" if self.extent else self.order


def verdict(
    better: Sequence[Any],
    worse: Sequence[Any],
    *,
    generator: torch.Generator,
    paired: bool = True,
    printed: tuple[float, float] | None = None,
    same: bool = False,
    smallest: float = SMALLEST_DIFFERENCE,
    samples: int = 2000,
) -> Verdict:
    """Whether mean(better) > mean(worse), or is the `same`, and how far both are from the printed values.

    better, worse: per-image values in percent, (N,) and (M,); or of several seeds a list of these, seed by seed.
    paired: both sides hold the same images in the same order (N = M in every seed).

    The rule. A verdict other than "inconclusive" needs SMALLEST_IMAGES images on each side in every seed, a 95 %
    interval of the difference over images without 0, a difference of `smallest`, and its sign in every seed.
    The interval is Newcombe's hybrid score interval where all values are 0 or 100 (`metrics.newcombe_interval`), else
    the percentile bootstrap (Efron & Tibshirani 1993, chapter 13). Several seeds are pooled, but seeds share their
    test images, so that the interval is as wide as that of the images of one seed.
    The same: the whole interval within SIZE_TOLERANCE of 0 is "reproduced", the whole interval beyond it "not
    reproduced", else "inconclusive"; so it is with few images, and where one seed's difference is within and one not.
    Raises ValueError for empty sides, NaN, values that look like fractions of 1, pairs or seeds of unequal number.

    >>> import torch
    >>> from artlib import paper
    >>> ours, theirs = [100.0] * 90 + [0.0] * 10, [100.0] * 60 + [0.0] * 40
    >>> found = paper.verdict(ours, theirs, generator=torch.Generator().manual_seed(0))
    >>> print(found.difference, found.order, found.mark)
    30.0 reproduced ✓
    """
    sides = [_seeds(side) for side in (better, worse)]
    _check(*sides, paired=paired)
    low, high = _interval(*sides, paired=paired, samples=samples, generator=generator)
    means = [torch.cat(side).mean().item() for side in sides]
    by_seed = tuple((a.mean() - b.mean()).item() for a, b in zip(*sides, strict=True))
    difference, images = means[0] - means[1], min(len(seed) for side in sides for seed in side)
    measured = (difference, low, high, by_seed, images)
    why = _doubt_of_same(*measured) if same else _doubt(*measured, smallest=smallest)
    holds = abs(difference) < SIZE_TOLERANCE if same else difference > 0
    order = "inconclusive" if why else "reproduced" if holds else "not reproduced"
    distance = None if printed is None else (means[0] - printed[0], means[1] - printed[1])
    return Verdict(difference, low, high, order, why, by_seed, images, distance, same)


def narrower(
    better: Sequence[Any], worse: Sequence[Any], *, generator: torch.Generator, paired: bool = True, samples: int = 2000
) -> Verdict:
    """Whether the values of better vary less over images: difference is std(worse) - std(better), by `verdict`'s rule.

    better, worse, paired: as there, but that a seed's two standard deviations are subtracted, and these averaged over
    seeds. The interval is the percentile bootstrap over images (of pairs, where they are), averaged over seeds alike:
    seeds share their images, so that their errors may be one.
    Raises ValueError as `verdict`.

    >>> import torch
    >>> from artlib import paper
    >>> near, far = [50.0, 52.0] * 50, [30.0, 70.0] * 50
    >>> paper.narrower(near, far, generator=torch.Generator().manual_seed(0)).verdict
    'reproduced'
    """
    sides = [_seeds(side) for side in (better, worse)]
    _check(*sides, paired=paired)
    by_seed, ends = [], []
    for a, b in zip(*sides, strict=True):
        draws = [torch.randint(len(v), (samples, len(v)), generator=generator) for v in ((a,) if paired else (a, b))]
        found = b[draws[-1]].std(1) - a[draws[0]].std(1)
        ends.append(found.quantile(found.new_tensor([0.025, 0.975])))
        by_seed.append((b.std() - a.std()).item())
    low, high = torch.stack(ends).mean(0).tolist()
    difference, images = sum(by_seed) / len(by_seed), min(len(seed) for side in sides for seed in side)
    measured = (difference, low, high, tuple(by_seed), images)
    why = _doubt(*measured, smallest=SMALLEST_DIFFERENCE)
    order = "inconclusive" if why else "reproduced" if difference > 0 else "not reproduced"
    return Verdict(*measured[:3], order, why, *measured[3:])


def _seeds(side: Sequence[Any]) -> list[Tensor]:
    nested = len(side) > 0 and np.ndim(side[0]) > 0
    return [torch.as_tensor(np.asarray(s), dtype=torch.float64).flatten() for s in (side if nested else [side])]


def _check(better: list[Tensor], worse: list[Tensor], *, paired: bool) -> None:
    if len(better) != len(worse):
        raise ValueError(f"{len(better)} and {len(worse)} seeds: give both sides the values of the same seeds")
    if not all(map(len, better + worse)):
        raise ValueError("a verdict needs at least one image on each side")
    pooled = torch.cat(better + worse)
    if pooled.isnan().any():
        raise ValueError("NaN among the per-image values: drop or fill those images first, and say which")
    if 0 < pooled.abs().max() <= 1:
        raise ValueError("all values lie in [-1, 1]: a verdict counts in points, give it percent")
    for a, b in zip(better, worse, strict=True):
        if paired and len(a) != len(b):
            raise ValueError(f"{len(a)} and {len(b)} images are no pairs; pass paired=False for different images")


def _interval(
    better: list[Tensor], worse: list[Tensor], *, paired: bool, samples: int, generator: torch.Generator
) -> tuple[float, float]:
    seeds, a, b = len(better), torch.cat(better), torch.cat(worse)
    if all(((side == 0) | (side == 100)).all() for side in (a, b)):
        counts = [((side == 100).sum().item() / seeds, len(side) / seeds) for side in (a, b)]
        both = ((a == 100) & (b == 100)).sum().item() / seeds if paired else None
        low, high = newcombe_interval(*counts, both=both)
        return 100 * low, 100 * high
    terms = [a - b] if paired else [a, -b]
    means = sum(bootstrap_means(t, samples, draws=round(len(t) / seeds), generator=generator) for t in terms)
    low, high = means.quantile(means.new_tensor([0.025, 0.975])).tolist()
    return low, high


def _doubt(
    difference: float, low: float, high: float, by_seed: tuple[float, ...], images: int, *, smallest: float
) -> str:
    if images < SMALLEST_IMAGES:
        return f"{images} images, fewer than {SMALLEST_IMAGES}"
    if low <= 0 <= high:
        return "the interval holds 0"
    if abs(difference) < smallest:
        return f"they differ by less than {smallest:g} point"
    if any(d * difference <= 0 for d in by_seed):
        return "the seeds disagree"
    return ""


def _doubt_of_same(difference: float, low: float, high: float, by_seed: tuple[float, ...], images: int) -> str:
    if images < SMALLEST_IMAGES:
        return f"{images} images, fewer than {SMALLEST_IMAGES}"
    if low < SIZE_TOLERANCE < high or low < -SIZE_TOLERANCE < high:
        return f"the interval crosses ±{SIZE_TOLERANCE:g} points"
    if any((abs(d) < SIZE_TOLERANCE) != (abs(difference) < SIZE_TOLERANCE) for d in by_seed):
        return "the seeds disagree"
    return ""


def verdicts(
    values: Mapping[str, Mapping[str, Sequence[Any]]],
    claims: Sequence[Claim] = CLAIMS,
    *,
    generator: torch.Generator,
    paired: Sequence[str] = ("natural", "adversarial"),
) -> "pd.DataFrame":
    """One row per claim; blank where a side was not measured, or has a seed without images.

    values[training][metric]: per-image values in percent (a cosine times 100), (N,), or a list of these, one a seed.
    The smallest difference that counts is SMALLEST_OF the metric, else SMALLEST_DIFFERENCE. `paired` names the
    metrics that every training was given on the same images in the same order; IN and K are taken on what each model
    classifies correctly (paired after `on_common_images`). A table with settings is asked one setting at a time.
    Columns: text, source, difference, low, high, order, extent, verdict (both in words), mark, why, images, seeds,
    lowest and highest difference of a seed, and the distance of better and of worse from the printed values, in points.
    """
    import pandas as pd

    rows = {}
    for claim in claims:
        better, worse = (values.get(side, {}).get(claim.metric) for side in (claim.better, claim.worse))
        row = {"text": claim.text, "source": claim.source}
        if all(side is not None and all(map(len, _seeds(side))) for side in (better, worse)):
            options = dict(paired=claim.metric in paired, generator=generator)
            means = dict(printed=claim.printed, same=claim.same)
            means["smallest"] = SMALLEST_OF.get(claim.metric, SMALLEST_DIFFERENCE)
            row |= _row(
                narrower(better, worse, **options) if claim.spread else verdict(better, worse, **options, **means)
            )
        rows[claim.id] = row
    numbers = ["difference", "low", "high", "lowest", "highest", "distance_better", "distance_worse"]
    columns = ["text", "source", *numbers[:3], "order", "extent", "verdict", "mark", "why", "images", "seeds"]
    table = pd.DataFrame.from_dict(rows, orient="index").reindex(columns=[*columns, *numbers[3:]])
    return table.astype(dict.fromkeys(numbers, float) | {"images": "Int64", "seeds": "Int64"})


def _row(found: Verdict) -> dict[str, Any]:
    words = {k: getattr(found, k) for k in ("order", "extent", "verdict", "mark", "why", "images")}
    numbers = {k: getattr(found, k) for k in ("difference", "low", "high")}
    seeds = {"seeds": len(found.by_seed), "lowest": min(found.by_seed), "highest": max(found.by_seed)}
    distance = dict(zip(("distance_better", "distance_worse"), found.distance or (None, None), strict=True))
    return words | numbers | seeds | distance


def on_common_images(
    values: Mapping[str, Mapping[str, Sequence[float]]], index: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, list[float]]]:
    """The per-image values on the images that all trainings have, in one order, so that they are pairs.

    values[training][metric]: (N,); index[training]: (N,), which test image each is. For measures that are taken on what
    each model classifies correctly: a mean over easier images alone is no sign of robustness.
    Raises ValueError where values and index are of unequal length.
    """
    common = sorted(set.intersection(*(set(index[name]) for name in values))) if values else []
    found: dict[str, dict[str, list[float]]] = {}
    for name, measures in values.items():
        found[name] = {}
        for metric, each in measures.items():
            if len(each) != len(index[name]):
                raise ValueError(f"{name} has {len(each)} values of {metric} and {len(index[name])} indices of images")
            by_image = dict(zip(index[name], each, strict=True))
            found[name][metric] = [by_image[i] for i in common]
    return found
