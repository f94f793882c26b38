"""LENS's first claim: by plain measures a random perturbation looks about as strong as an attack (facts §1)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from artlib.paper.verdicts import verdict

if TYPE_CHECKING:
    import pandas as pd


def random_against_attack(
    random: Mapping[str, Sequence[Any]],
    attack: Mapping[str, Sequence[Any]],
    *,
    plain: str = "IN",
    generator: torch.Generator,
) -> "pd.DataFrame":
    """One row per measure of how alike a map stays: what it loses to a random perturbation and to an attack.

    random, attack: by measure, per-image values of the same model and the same images in the same order, in percent,
    (N,), or a list of these, one a seed.
    Columns: random, attack, their means; explained, in percent: what random loses of what the attack loses (100 where a
    random perturbation is as strong as the attack, which is the claim for plain measures; less for LENS); difference,
    random less attack, with low, high and the verdict of `paper.verdict`; forgiven: what the measure gives back of a
    random perturbation, over the plain one, more than of an attack, with its interval and verdict: above 0 where the
    measure tells them apart better than the plain one. Raises ValueError as `paper.verdict`.
    """
    import pandas as pd

    rows = {}
    for name in random:
        means = [_pooled(side[name]).mean() for side in (random, attack)]
        lost = 100 - means[1]
        row = {"random": means[0], "attack": means[1], "explained": 100 * (100 - means[0]) / lost if lost else np.nan}
        row |= _row(verdict(random[name], attack[name], generator=generator), "difference")
        if name != plain:  # the sums' difference is that of what each side is given back
            sums = [_add(random[name], attack[plain]), _add(attack[name], random[plain])]
            row |= _row(verdict(*sums, generator=generator), "forgiven")
        rows[name] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.astype({c: float for c in table if "verdict" not in c})


def _row(found, name: str) -> dict[str, Any]:
    end = "" if name == "difference" else f" {name}"
    return {name: found.difference, f"low{end}": found.low, f"high{end}": found.high, f"verdict{end}": found.order}


def _pooled(side: Sequence[Any]) -> np.ndarray:
    return np.concatenate([np.atleast_1d(np.asarray(seed, dtype=float)) for seed in side])


def _add(a: Sequence[Any], b: Sequence[Any]) -> list[np.ndarray]:
    nested = np.ndim(a[0]) > 0
    return [np.add(x, y) for x, y in zip(a, b, strict=True)] if nested else [np.add(a, b)]
