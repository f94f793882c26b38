"""LENS's first claim: by plain measures a random perturbation looks about as strong as an attack (facts §1)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from artlib.paper.verdicts import SMALLEST_IMAGES, verdict

if TYPE_CHECKING:
    import pandas as pd


def random_against_attack(
    random: Mapping[str, Sequence[Any]],
    attack: Mapping[str, Sequence[Any]],
    *,
    plain: str = "IN",
    generator: torch.Generator,
    samples: int = 2000,
) -> "pd.DataFrame":
    """One row per measure of how alike a map stays: what it loses to a random perturbation and to an attack.

    random, attack: by measure, per-image values of one model on the same images in the same order, in percent, (N,), or
    a list of these, one a seed.
    Columns: random and attack, their means; difference, random less attack, with low and high, as `paper.verdict` has
    them; explained, (100 - random) / (100 - attack) in percent: the part of what the attack takes that a random
    perturbation takes, too, 100 where it is as strong. The claim is that it is near 100 for plain measures and lower
    for LENS: below, by how much it is below that of `plain`, with low below and high below, the 95 % percentile
    bootstrap over images; told apart, "reproduced" where that interval lies above 0, "not reproduced" where below, else
    or with fewer than 50 images "inconclusive". NaN where the attack takes nothing. Raises ValueError as
    `paper.verdict`.
    """
    import pandas as pd

    rows, seeds = {}, len(random[plain]) if np.ndim(random[plain][0]) else 1
    lost = {name: torch.stack([100 - _pooled(side[name]) for side in (random, attack)]) for name in random}
    images = lost[plain].shape[1] // seeds
    draws = torch.randint(images * seeds, (samples, images), generator=generator)
    for name in random:
        found = verdict(random[name], attack[name], generator=generator)
        means = 100 - lost[name].mean(1)
        row = {"random": means[0].item(), "attack": means[1].item()}
        row |= {"difference": found.difference, "low": found.low, "high": found.high}
        row |= {"explained": _explained(lost[name]).item()}
        if name != plain:
            drawn = _explained(lost[plain][:, draws]) - _explained(lost[name][:, draws])
            low, high = drawn.nanquantile(drawn.new_tensor([0.025, 0.975])).tolist()
            row |= {"below": (_explained(lost[plain]) - _explained(lost[name])).item()}
            row |= {"low below": low, "high below": high, "told apart": _word(low, high, images)}
        rows[name] = row
    return pd.DataFrame.from_dict(rows, orient="index").fillna({"told apart": ""})


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
