"""LENS's claims (section 1): by plain measures a random perturbation looks about as strong as an attack; adversarial
training has the more robust attributions on small data sets, an advantage that vanishes on large ones."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from artlib.paper.verdicts import SMALLEST_IMAGES, Verdict, verdict

if TYPE_CHECKING:
    import pandas as pd


PLAIN = ("IN", "K")  # the measures that LENS calls fragile; all others are asked whether they do better
HALF = 50.0  # percent of what an attack takes: a random perturbation that takes more is nearer to it than to nothing


def random_against_attack(
    random: Mapping[str, Sequence[Any]],
    attack: Mapping[str, Sequence[Any]],
    *,
    plain: Sequence[str] = PLAIN,
    generator: torch.Generator,
    samples: int = 2000,
) -> "pd.DataFrame":
    """One row per measure of how alike a map stays: what it loses to a random perturbation and to an attack.

    random, attack: by measure, per-image values of one model on the same images in the same order, in percent, (N,), or
    a list of these, one a seed; the first of `plain` must be among them.
    Columns: random and attack, their means; difference, random less attack, with low and high, as `paper.verdict` has
    them; explained, (100 - random) / (100 - attack) in percent: the part of what the attack takes that a random
    perturbation takes, too, 100 where it is as strong; below, by how much it is below that of the first of `plain`;
    each with its 95 % percentile bootstrap over images. The claim has two halves (LENS, section 1), and
    verdict is about one of them: of a plain measure, that a random perturbation is about as strong: "reproduced" where
    the interval of explained lies above `HALF`, "not reproduced" below; of another, that it tells the two apart better:
    "reproduced" where the interval of below lies above 0, "not reproduced" below. Else, or with fewer than 50 images,
    "inconclusive". NaN where the attack takes nothing. Raises ValueError as `paper.verdict`.
    """
    import pandas as pd

    rows, first = {}, plain[0]
    seeds = len(random[first]) if np.ndim(random[first][0]) else 1
    lost = {name: torch.stack([100 - _pooled(side[name]) for side in (random, attack)]) for name in random}
    images = lost[first].shape[1] // seeds
    draws = torch.randint(images * seeds, (samples, images), generator=generator)
    of_first, first_drawn = _explained(lost[first]).item(), _explained(lost[first][:, draws])
    for name in random:
        found = verdict(random[name], attack[name], generator=generator, samples=samples)
        means = 100 - lost[name].mean(1)
        explained, drawn = _explained(lost[name]).item(), _explained(lost[name][:, draws])
        row = {"random": means[0].item(), "attack": means[1].item()}
        row |= {"difference": found.difference, "low": found.low, "high": found.high, "explained": explained}
        row |= dict(zip(("low explained", "high explained"), _middle(drawn), strict=True))
        if name in plain:
            row["verdict"] = _word(*(row[f"{end} explained"] - HALF for end in ("low", "high")), images)
        else:
            row |= {"below": of_first - explained}
            row |= dict(zip(("low below", "high below"), _middle(first_drawn - drawn), strict=True))
            row["verdict"] = _word(row["low below"], row["high below"], images)
        rows[name] = row
    columns = ["explained", "low explained", "high explained", "below", "low below", "high below", "verdict"]
    return pd.DataFrame.from_dict(rows, orient="index").reindex(
        columns=["random", "attack", "difference", "low", "high", *columns]
    )


def _middle(drawn: torch.Tensor) -> list[float]:
    return drawn.nanquantile(drawn.new_tensor([0.025, 0.975])).tolist()


LARGE = ("ImageNet",)  # in the name of a set that LENS calls large; its small ones have images of 28 to 128 pixels


def adversarial_advantage(
    values: Mapping[str, Mapping[str, Sequence[Any]]],
    *,
    better: str = "pgd",
    worse: str = "natural",
    large: Sequence[str] = LARGE,
    generator: torch.Generator,
) -> "pd.DataFrame":
    """LENS's third claim, one row a data set: what adversarial training gains over natural training in one measure.

    values[dataset][training]: per-image values in percent, pairs, (N,), or a list of these, one a seed. Columns: size
    ("small" or "large"), better and worse, their means, difference with low and high, as `paper.verdict`, images, and
    verdict: on a small data set whether `better` is ahead; on a large one whether its lead has vanished, "reproduced"
    where the interval lies below half the smallest lead of a small data set that has one, "not reproduced" where it
    lies above. "not measured", with blanks, where a side is missing; the first of `large` has a row in any case. A data
    set is large whose name holds a word of `large`, in whatever case.
    """
    import pandas as pd

    def is_large(dataset: str) -> bool:
        return any(word.lower() in dataset.lower() for word in large)

    rows = {}
    for dataset in [*values, *([] if any(map(is_large, values)) else large[:1])]:
        size, sides = "large" if is_large(dataset) else "small", values.get(dataset, {})
        rows[dataset] = {"size": size, "verdict": "not measured"}
        if better in sides and worse in sides:
            found = verdict(sides[better], sides[worse], generator=generator)
            means = {name: _pooled(sides[name]).mean().item() for name in (better, worse)}
            rows[dataset] |= means | {"difference": found.difference, "low": found.low, "high": found.high}
            rows[dataset] |= {"images": found.images, "verdict": found.order}
    leads = [r["difference"] for r in rows.values() if r["size"] == "small" and r["verdict"] == "reproduced"]
    for row in rows.values():
        if row["size"] == "large" and row["verdict"] != "not measured":
            half = min(leads, default=float("nan")) / 2
            enough = row["images"] >= SMALLEST_IMAGES
            vanished, stays = enough and row["high"] < half, enough and row["low"] > half
            row["verdict"] = "reproduced" if vanished else "not reproduced" if stays else "inconclusive"
    columns = ["size", better, worse, "difference", "low", "high", "images", "verdict"]
    return pd.DataFrame.from_dict(rows, orient="index").reindex(columns=columns)


def agreement_or_jitter(
    exact: Mapping[str, Mapping[str, Sequence[Any]]],
    tolerant: Mapping[str, Mapping[str, Sequence[Any]]],
    *,
    forgiven: Mapping[str, float],
    better: str = "art",
    worse: str = "natural",
    generator: torch.Generator,
) -> "pd.DataFrame":
    """Whether more or less of a lead in IN is left by LENS than by chance (asked in neither paper), one row a data set.

    exact, tolerant: per-image values as for `adversarial_advantage`, of IN and of a LENS measure. forgiven: the share
    of pixels that has a partner in its window by chance, in [0, 1] (`league.forgiven`); if pixels that leave the top k
    went anywhere, 1 - forgiven of the lead would be left: *by chance*, taken as it is, without an interval. Columns:
    difference, low and high of both leads, as `paper.verdict`, images, verdict and why. verdict: where the lead in IN
    is reproduced, "agreement" if the interval of the other lies above *by chance* and it is reproduced, too: of the
    pixels that `worse` lost more, fewer found a neighbour than by chance; "jitter" if it lies below, whether or not
    that lead is reproduced: more did; "no lead" where that in IN is not reproduced; else "inconclusive", and why.
    """
    import pandas as pd

    rows = {}
    for dataset, sides in exact.items():
        lead, left = (
            verdict(values[better], values[worse], generator=generator) for values in (sides, tolerant[dataset])
        )
        anywhere = (1 - forgiven[dataset]) * lead.difference
        word, why = _kept(lead, left, anywhere)
        rows[dataset] = {"difference": lead.difference, "low": lead.low, "high": lead.high, "left": left.difference}
        rows[dataset] |= {"low left": left.low, "high left": left.high, "by chance": anywhere, "images": lead.images}
        rows[dataset] |= {"verdict": word, "why": why}
    return pd.DataFrame.from_dict(rows, orient="index")


def _kept(lead: Verdict, left: Verdict, anywhere: float) -> tuple[str, str]:
    """`agreement_or_jitter`'s verdict on two leads, in IN and in LENS, and why it is inconclusive."""
    if lead.order != "reproduced":
        return ("no lead", "") if lead.order == "not reproduced" else ("inconclusive", lead.why)
    if left.images < SMALLEST_IMAGES:
        return "inconclusive", left.why
    if left.high < anywhere:
        return "jitter", ""
    if left.low <= anywhere:
        return "inconclusive", "the interval of left holds by chance"
    return ("agreement", "") if left.order == "reproduced" else ("inconclusive", f"of left: {left.why}")


def _pooled(side: Sequence[Any]) -> torch.Tensor:
    return torch.cat([torch.atleast_1d(torch.as_tensor(np.asarray(seed), dtype=torch.float64)) for seed in side])


def _explained(lost: torch.Tensor) -> torch.Tensor:
    """Of what random and attack take (2, ..., N), their means' ratio in percent, NaN where the attack takes nothing."""
    random, attack = lost.mean(-1)
    return 100 * random / attack.where(attack > 0, torch.nan)


def _word(low: float, high: float, images: int) -> str:
    if images < SMALLEST_IMAGES or not (low > 0 or high < 0):
        return "inconclusive"
    return "reproduced" if low > 0 else "not reproduced"
