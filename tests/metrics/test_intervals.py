"""Intervals against scipy, exact enumeration of what they cover, and normal theory."""

import math

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from maps_for_tests import quick

from artlib import metrics

# ---- proportions


@quick
@given(st.integers(1, 2000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_is_scipys(count, share, level):
    hits = round(share * count)
    expected = scipy.stats.binomtest(hits, count).proportion_ci(level, method="wilson")
    assert metrics.wilson_interval(hits, count, level=level) == pytest.approx(tuple(expected), abs=1e-12)


def test_no_hit_of_a_thousand_is_not_certainty():
    low, high = metrics.wilson_interval(0, 1000)
    assert low == 0 and 0.003 < high < 0.004
    assert metrics.wilson_interval(1000, 1000) == (pytest.approx(1 - high), 1)
    assert metrics.wilson_interval(1 / 3, 1000)[1] > high  # shares of an image


def test_the_interval_that_fits_the_values(generator):
    zeros, hits = torch.zeros(1000), torch.tensor([0.0] * 7 + [1.0] * 3)
    assert metrics.interval(zeros, generator=generator) == metrics.wilson_interval(0, 1000)
    assert metrics.interval(100 * hits, unit=100.0, generator=generator) == pytest.approx(
        [100 * v for v in metrics.wilson_interval(3, 10)]
    )
    other = torch.linspace(0, 1, 50)
    seeded = [torch.Generator().manual_seed(1) for _ in range(2)]
    assert metrics.interval(other, generator=seeded[0]) == metrics.bootstrap_interval(other, generator=seeded[1])
    with pytest.raises(ValueError, match="values must be"):
        metrics.interval(hits * torch.nan, generator=generator)


def coverage(tables, probabilities, difference):
    """Probability that the interval of a table holds the true difference; tables: (first, second, both) arguments."""
    held = 0.0
    for (first, second, both), probability in zip(tables, probabilities, strict=True):
        low, high = metrics.newcombe_interval(first, second, both=both)
        held += probability * (low <= difference <= high)
    return held


@pytest.mark.parametrize("p, q", [(0.5, 0.3), (0.9, 0.85), (0.02, 0.0), (0.0, 0.0), (1.0, 0.97), (0.7, 0.7)])
def test_newcombe_covers_the_difference_of_different_images(p, q):
    n, m = 50, 40
    hits = [(i, j) for i in range(n + 1) for j in range(m + 1)]
    probabilities = [scipy.stats.binom.pmf(range(c + 1), c, r).tolist() for c, r in ((n, p), (m, q))]
    weights = [probabilities[0][i] * probabilities[1][j] for i, j in hits]
    assert coverage([((i, n), (j, m), None) for i, j in hits], weights, p - q) > 0.925


@pytest.mark.parametrize(
    "both, first, second", [(0.3, 0.2, 0.1), (0.6, 0.05, 0.05), (0.0, 0.04, 0.0), (0.9, 0.06, 0.0), (0.1, 0.3, 0.4)]
)
def test_newcombe_covers_the_difference_of_the_same_images(both, first, second):
    """Exact over all 2 x 2 tables of 24 images."""
    n = 24
    cells = [(a, b, c, n - a - b - c) for a in range(n + 1) for b in range(n + 1 - a) for c in range(n + 1 - a - b)]
    law = scipy.stats.multinomial(n, [both, first, second, 1 - both - first - second])
    tables = [((a + b, n), (a + c, n), a) for a, b, c, _ in cells]
    assert coverage(tables, law.pmf(cells).tolist(), first - second) > 0.925


@quick
@given(st.lists(st.integers(0, 60), min_size=4, max_size=4).filter(any))
def test_newcombe_properties(cells):
    both, one, two, neither = cells
    n = sum(cells)
    first, second = (both + one, n), (both + two, n)
    for shared in (None, both):
        low, high = metrics.newcombe_interval(first, second, both=shared)
        assert -1 - 1e-12 <= low <= (one - two) / n <= high <= 1 + 1e-12 and low < high
        assert metrics.newcombe_interval(second, first, both=shared) == pytest.approx((-high, -low), abs=1e-12)
    if one == two:
        assert low < 0 < high


def test_newcombe_by_hand():
    """Square and add of Wilson's limits; the same images with r = 0.3 in the phi of their table narrow it."""
    p, q = 0.7, 0.5
    (a, b), (c, d) = metrics.wilson_interval(70, 100), metrics.wilson_interval(50, 100)
    apart = p - q - math.hypot(p - a, d - q), p - q + math.hypot(b - p, q - c)
    assert metrics.newcombe_interval((70, 100), (50, 100)) == pytest.approx(apart)
    phi = (45 * 25 - 25 * 5 - 50) / math.sqrt(70 * 30 * 50 * 50)
    low = p - q - math.sqrt((p - a) ** 2 - 2 * phi * (p - a) * (d - q) + (d - q) ** 2)
    high = p - q + math.sqrt((b - p) ** 2 - 2 * phi * (b - p) * (q - c) + (q - c) ** 2)
    assert metrics.newcombe_interval((70, 100), (50, 100), both=45) == pytest.approx((low, high))
    assert apart[0] < low < high < apart[1]
    low, high = metrics.newcombe_interval((4, 1000), (0, 1000), both=0)
    assert low < 0 < high


def test_impossible_counts_are_refused():
    for hits, count in ((-1, 5), (6, 5), (0, 0)):
        with pytest.raises(ValueError, match="0 <= hits <= count"):
            metrics.wilson_interval(hits, count)
    with pytest.raises(ValueError, match="level"):
        metrics.wilson_interval(1, 5, level=95)
    for both, count in ((6, 10), (-1, 10), (2, 11), (0, 10)):
        with pytest.raises(ValueError, match=f"both={both} does not go with 5 and 8 hits"):
            metrics.newcombe_interval((5, 10), (8, count), both=both)


# ---- means


def test_bootstrap_interval():
    values = torch.rand(400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def interval(data, **settings):
        return metrics.bootstrap_interval(data, generator=torch.Generator().manual_seed(1), **settings)

    low, high = interval(values)
    assert (
        (low, high)
        == interval(values)
        != metrics.bootstrap_interval(values, generator=torch.Generator().manual_seed(2))
    )
    assert low < values.mean().item() < high
    normal = 2 * 1.96 * values.std().item() / 20  # the width that the central limit theorem gives
    assert high - low == pytest.approx(normal, rel=0.1)
    narrow = interval(values, level=0.5)
    assert low < narrow[0] < narrow[1] < high
    assert interval(torch.full((9,), 0.25)) == (0.25, 0.25)
    assert interval(3 * values + 1) == pytest.approx((3 * low + 1, 3 * high + 1))


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    g = torch.Generator().manual_seed(0)
    draws = torch.rand(300, 50, dtype=torch.float64, generator=g)
    intervals = torch.tensor([metrics.bootstrap_interval(d, level=0.9, samples=300, generator=g) for d in draws])
    covered = ((intervals[:, 0] < 0.5) & (intervals[:, 1] > 0.5)).double().mean()
    assert 0.84 < covered < 0.95


def test_bad_values_are_refused():
    g = torch.Generator().manual_seed(0)
    for bad in (torch.tensor([]), torch.tensor([0.5, torch.nan]), torch.ones(2, 2)):
        with pytest.raises(ValueError, match="values must be"):
            metrics.bootstrap_interval(bad, generator=g)
    for settings_ in ({"level": 1.0}, {"level": 95}, {"samples": 0}):
        with pytest.raises(ValueError, match="level must lie in"):
            metrics.bootstrap_interval(torch.ones(3), generator=g, **settings_)


def test_holm_by_hand_and_in_the_order_given():
    """By hand: 0.01 x 4, then 0.02 x 3, 0.03 x 2 and 0.2, none below the one before it, none above 1."""
    assert metrics.holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert metrics.holm([0.9, 0.8]) == [1.0, 1.0] and metrics.holm([]) == []
