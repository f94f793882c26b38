"""Intervals over images: Wilson's and Newcombe's for proportions, the bootstrap for other means."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import torch
from torch import Tensor


def interval(
    values: Tensor,
    *,
    unit: float = 1.0,
    seeds: int = 1,
    level: float = 0.95,
    samples: int = 2000,
    generator: torch.Generator,
) -> tuple[float, float]:
    """Interval (low, high) of the mean over images: `wilson_interval` for a proportion, else `bootstrap_interval`.

    values: (N,), finite, any unit; a proportion where all are 0 or `unit` (1, or 100 for percent). The bootstrap of
    0 hits of 1000 would be (0, 0). seeds: of how many models the values are; they share their images, so that the
    interval is as wide as that of N / seeds images. Raises ValueError as `bootstrap_interval`.

    >>> import torch
    >>> from artlib import metrics
    >>> correct = torch.tensor([100.0] * 80 + [0.0] * 20)  # percent, an image each
    >>> low, high = metrics.interval(correct, unit=100.0, generator=torch.Generator().manual_seed(0))
    >>> f"{correct.mean():.0f} ({low:.1f} to {high:.1f})"
    '80 (71.1 to 86.7)'
    """
    values = _checked(values, level, samples)
    if not ((values == 0) | (values == unit)).all():
        draws = round(len(values) / seeds)
        return bootstrap_interval(values, level=level, samples=samples, draws=draws, generator=generator)
    hits = (values == unit).sum().item()
    low, high = wilson_interval(hits / seeds, len(values) / seeds, level=level)
    return unit * low, unit * high


def wilson_interval(hits: float, count: float, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (low, high) of the proportion hits / count, in [0, 1] (Wilson 1927).

    Those p for which |hits/count - p| <= z sqrt(p (1 - p) / count). It has a width at 0 and at count hits, too. Shares
    of an image are allowed. Raises ValueError unless 0 <= hits <= count, count > 0 and 0 < level < 1.

    >>> from artlib.metrics import wilson_interval
    >>> low, high = wilson_interval(0, 100)
    >>> f"{low:.3f} to {high:.3f}"
    '0.000 to 0.037'
    """
    if not (0 <= hits <= count and count > 0 and 0 < level < 1):
        raise ValueError(f"0 <= hits <= count, count > 0 and 0 < level < 1, not hits={hits}, {count=}, {level=}")
    z, p = NormalDist().inv_cdf((1 + level) / 2), hits / count
    shrink = 1 + z * z / count
    middle = (p + z * z / (2 * count)) / shrink
    half = z * math.sqrt(p * (1 - p) / count + (z / (2 * count)) ** 2) / shrink
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == count else middle + half)  # exact at both ends


def newcombe_interval(
    first: tuple[float, float], second: tuple[float, float], *, both: float | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Interval (low, high) of the difference of two proportions, made of their Wilson intervals, in [-1, 1].

    first, second: (hits, count). both: for the same images on both sides, the number that is a hit on both.
    Newcombe, Statistics in Medicine 17 (1998): method 10 of pages 873-890 for different images; method 10 of pages
    2635-2650 for the same, where phi of the 2 x 2 table, less a continuity correction, correlates the two errors. It
    behaves at 0 and 1, where the bootstrap's and the normal theory's intervals have no width.
    Raises ValueError as `wilson_interval`, and for a `both` that the hits do not allow.

    >>> from artlib.metrics import newcombe_interval
    >>> low, high = newcombe_interval((60, 100), (40, 100))  # 60 % of some images, 40 % of others
    >>> f"{low:.2f} to {high:.2f}"
    '0.06 to 0.33'
    """
    (hits, count), (others, other_count) = first, second
    (low, high), (other_low, other_high) = (wilson_interval(*side, level=level) for side in (first, second))
    p, q = hits / count, others / other_count
    phi = 0.0 if both is None else _phi(both, hits, others, count, other_count)
    down = [p - low, other_high - q]
    up = [high - p, q - other_low]
    lengths = [math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b)) for a, b in (down, up)]
    return p - q - lengths[0], p - q + lengths[1]


def _phi(both: float, hits: float, others: float, count: float, other_count: float) -> float:
    neither = count - hits - others + both
    if count != other_count or min(both, hits - both, others - both, neither) < -1e-9:
        raise ValueError(f"{both=} does not go with {hits} and {others} hits of {count} and {other_count} images")
    scale = math.sqrt(hits * (count - hits) * others * (count - others))
    excess = both * neither - (hits - both) * (others - both)
    excess = max(excess - count / 2, 0.0) if excess > 0 else excess
    return excess / scale if scale else 0.0


def bootstrap_means(values: Tensor, samples: int, *, draws: int | None = None, generator: torch.Generator) -> Tensor:
    """Means (samples,) of as many draws with replacement from values (N,), of `draws` values each, N unless told."""
    size = (samples, len(values) if draws is None else draws)
    return values[torch.randint(len(values), size, generator=generator)].mean(1)


def bootstrap_interval(
    values: Tensor,
    *,
    level: float = 0.95,
    samples: int = 2000,
    draws: int | None = None,
    generator: torch.Generator,
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of the mean over images (Efron 1979), drawn with replacement.

    values: (N,), finite; level in (0, 1); draws: how many make a mean, N unless told; a generator on the CPU, so that a
    seed gives one interval on every device.
    """
    values = _checked(values, level, samples)
    means = bootstrap_means(values, samples, draws=draws, generator=generator)
    low, high = means.quantile(means.new_tensor([(1 - level) / 2, (1 + level) / 2])).tolist()
    return low, high


def _checked(values: Tensor, level: float, samples: int) -> Tensor:
    values = torch.as_tensor(values).detach().cpu().double()
    if values.ndim != 1 or len(values) == 0 or not bool(values.isfinite().all()):
        raise ValueError(f"values must be (N,), N > 0, and finite, got {tuple(values.shape)}: fill or drop failures")
    if not 0 < level < 1 or samples < 1:
        raise ValueError(f"level must lie in (0, 1) and samples be 1 or more, got level={level}, samples={samples}")
    return values


def holm(p: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected so that the chance of one false find among all is kept (Holm 1979).

    The i-th smallest of m, counted from 0, becomes the largest of (m - j) p_j over j <= i, at most 1; in p's order.

    >>> from artlib import metrics
    >>> [round(v, 3) for v in metrics.holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    found, highest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        found[i] = highest
    return found
