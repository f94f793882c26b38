"""Intervals of an audit's means, which are often of few images: Student's t where the bootstrap is too narrow."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from artlib import tables

if TYPE_CHECKING:
    import pandas as pd

FEW = 20  # images; below, a percentile bootstrap of 95 % covers the mean too seldom: 51 % of 2 images, 85 % of 5
LEVEL = 0.95
LOWEST = {"K": -100.0}  # of a measure in percent; of the others 0


def of_few(table: "pd.DataFrame", records: tables.Records) -> "pd.DataFrame":
    """A table of these records with `student_interval` for every mean of fewer than `FEW` images.

    Wilson's intervals of proportions stay: they are for few images, too. Of one image there is none, nor of several
    that agree on another value than 0 and 100.
    """
    each = tables.values(records, columns=list(dict.fromkeys(table["metric"])))
    table = table.copy()
    for place, row in table.iterrows():
        values = each[row["training"]][row["metric"]][0]  # of the one seed
        if 0 < len(values) < FEW and (len(values) == 1 or not {0.0, 100.0} >= set(values)):
            table.loc[place, ["low", "high"]] = student_interval(values, lowest=LOWEST.get(row["metric"], 0.0))
    return table


def student_interval(
    values: Sequence[float], *, lowest: float = 0.0, highest: float = 100.0, level: float = LEVEL
) -> tuple[float, float]:
    """Student's interval (low, high) of the mean, mean -+ t s / sqrt(n), cut to what the measure can be (Student 1908).

    s: the standard deviation with n - 1; t: the quantile of n - 1 degrees of freedom. (nan, nan) where s tells nothing:
    of one value, and of values that are all alike.

    >>> from artlib.audit.intervals import student_interval
    >>> low, high = student_interval([40.0, 50.0, 60.0])
    >>> f"{low:.1f} to {high:.1f}"
    '25.2 to 74.8'
    """
    from scipy.stats import t

    n = len(values)
    if n < 2 or not (spread := stdev(values)):
        return math.nan, math.nan
    half = t.ppf((1 + level) / 2, n - 1).item() * spread / math.sqrt(n)
    return max(lowest, fmean(values) - half), min(highest, fmean(values) + half)
