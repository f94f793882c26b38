"""LENS against the plain one-pixel-at-a-time reading of its definitions."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from maps_for_tests import pairs, quick, random_maps, same

from artlib import metrics

LENS = [metrics.lens_recall, metrics.lens_precision]


def window(pixel, shape, w):
    """All pixels within w rows and w columns, as (row, column), from the definition."""
    return {
        (row, column)
        for row in range(shape[0])
        for column in range(shape[1])
        if abs(row - pixel[0]) <= w and abs(column - pixel[1]) <= w
    }


def plain_diverse(m, k, w):
    """LENS's top-k-div as it is told: the highest pixel left, without its window, k times."""
    pixels = [(row, column) for row in range(m.shape[0]) for column in range(m.shape[1])]
    left, taken = sorted(pixels, key=lambda p: (-m[p].item(), p)), []
    while left and len(taken) < k:
        taken.append(left[0])
        gone = window(left[0], m.shape, w)
        left = [pixel for pixel in left if pixel not in gone]
    return taken


def as_sets(mask):
    return [{tuple(pixel) for pixel in m.nonzero().tolist()} for m in mask]


@quick
@given(pairs(largest=9), st.integers(0, 4), st.floats(0, 1))
def test_diverse_topk_is_the_greedy_set(maps, w, share):
    for m in maps:
        k = max(1, int(share * m[0].numel()))
        mask = metrics.diverse_topk(m, k, w)
        assert as_sets(mask) == [set(plain_diverse(each, k, w)) for each in m]
        for members in as_sets(mask):
            assert all(len(window(p, m.shape[1:], w) & members) == 1 for p in members)  # more than w apart
        height, width = m.shape[1:]
        assert mask.sum((1, 2)).max() <= min(k, -(-height // (w + 1)) * -(-width // (w + 1)))


def test_diverse_topk_by_hand():
    a = torch.tensor([[[9.0, 8.0, 7.0, 6.0], [1.0, 2.0, 3.0, 5.0], [4.0, 0.0, 0.0, 0.0]]])
    assert as_sets(metrics.diverse_topk(a, 2, 1)) == [{(0, 0), (0, 2)}]  # the second pick is the second, not the third
    assert as_sets(metrics.diverse_topk(a, 12, 1)) == [{(0, 0), (0, 2), (2, 0), (2, 2)}]  # four fit, twelve were asked
    assert as_sets(metrics.diverse_topk(a, 12, 9)) == [{(0, 0)}]
    flat = torch.zeros(1, 5, 5)
    assert as_sets(metrics.diverse_topk(flat, 25, 1)) == [{(r, c) for r in (0, 2, 4) for c in (0, 2, 4)}]


def test_diverse_topk_on_a_full_size_map_and_its_limits():
    a = random_maps(3, 28, 28)
    for w, bound in ((1, 196), (2, 100), (3, 49)):
        sizes = metrics.diverse_topk(a, 784, w).sum((1, 2))
        assert sizes.tolist() == [len(plain_diverse(m, 784, w)) for m in a]
        assert sizes.max() <= bound and sizes.min() >= -(-784 // (2 * w + 1) ** 2)
    assert torch.equal(metrics.diverse_topk(a, 50, 0), metrics.topk_mask(a, 50))


@quick
@given(pairs(largest=8), st.integers(0, 3), st.floats(0, 1), st.booleans())
def test_lens_is_the_definition_on_sets(maps, w, share, diverse):
    a, b = maps
    k = max(1, int(share * a[0].numel()))
    shape = a.shape[1:]
    if diverse:
        sets = [[set(plain_diverse(each, k, w)) for each in m] for m in maps]
    else:
        sets = [as_sets(metrics.topk_mask(m, k)) for m in maps]
    near = [[set().union(*(window(p, shape, w) for p in s)) for s in each] for each in sets]
    same(
        metrics.lens_recall(a, b, k, w, diverse=diverse),
        [len(n & s) / len(s) for n, s in zip(near[0], sets[1], strict=True)],
    )
    same(
        metrics.lens_precision(a, b, k, w, diverse=diverse),
        [len(s & n) / len(s) for s, n in zip(sets[0], near[1], strict=True)],
    )


@quick
@given(pairs(largest=12), st.floats(0, 1), st.booleans())
def test_lens_properties(maps, share, diverse):
    a, b = maps
    k = max(1, int(share * a[0].numel()))
    plain = metrics.topk_intersection(a, b, k)
    same(metrics.lens_recall(a, b, k, 0), plain)
    same(metrics.lens_precision(a, b, k, 0), plain)
    for lens in LENS:
        values = torch.stack([plain, *(lens(a, b, k, w) for w in range(5))])
        assert (values.diff(dim=0) >= 0).all() and (values <= 1).all()  # monotone in w, from the plain one to 1
        assert (lens(a, a, k, 2, diverse=diverse) == 1).all()
        assert (lens(a, b, k, 12) == 1).all()  # the window is the map
    recall = metrics.lens_recall(a, b, k, 2, diverse=diverse)
    same(recall, metrics.lens_precision(b, a, k, 2, diverse=diverse))
    flipped = metrics.lens_recall(a.mT * 3, b.mT, k, 2)  # ties aside, rows and columns are alike
    if all(len(set(m.flatten().tolist())) == m.numel() for m in (*a, *b)):
        same(flipped, metrics.lens_recall(a, b, k, 2))


@quick
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(-3, 3), st.integers(-3, 3), st.integers(1, 40))
def test_a_shift_of_at_most_w_pixels_away_from_the_border_is_forgiven(seed, w, down, across, k):
    """Recall and precision stay 1 where the plain measure falls; one pixel farther than w, and a lone pixel is lost."""
    a = torch.zeros(1, 16, 15, dtype=torch.float64)
    a[:, 3:13, 3:12] = random_maps(10, 9, seed=seed).exp()
    b = a.roll((down, across), (1, 2))
    forgiven = max(abs(down), abs(across)) <= w
    for lens in LENS:
        assert not forgiven or lens(a, b, k, w).item() == 1.0
        assert (lens(a, b, 1, w).item() == 1.0) == forgiven
    if forgiven and k <= metrics.diverse_topk(a, 90, w).sum():  # their members shift, too
        inside = metrics.diverse_topk(a, k, w)[:, 3:13, 3:12].sum() == k
        assert not inside or metrics.lens_recall(a, b, k, w, diverse=True).item() == 1.0


def test_correlations_of_window_means_and_maxima_fall_with_w_on_noisy_maps():
    """Why LENS is not carried over to rank correlations so: on moved maps they rise, on noisy ones they fall."""
    noise = torch.Generator().manual_seed(0)
    a, other = torch.rand(2, 100, 16, 16, generator=noise, dtype=torch.float64)
    for pool, least in ((mean_of_windows, 0.4), (F.max_pool2d, 0.9)):
        rises, falls = (steps_of_w(pool, a, b) for b in (a.roll((1, -1), (1, 2)), a + 0.5 * other))
        assert (rises > 0).double().mean() > 0.9 and (falls < 0).double().mean() > least


def mean_of_windows(maps, size, stride, padding):
    return F.avg_pool2d(maps, size, stride, padding, count_include_pad=False)


def steps_of_w(pool, a, b):
    """What Spearman's correlation of windows' values gains from w = 0 to 1 and 1 to 2."""
    return torch.stack([metrics.spearman(*(pool(m, 2 * w + 1, 1, w) for m in (a, b))) for w in range(3)]).diff(dim=0)


def test_windows_stop_at_the_border():
    mask = torch.zeros(1, 28, 28, dtype=torch.bool)
    mask[0, 10, 0] = True
    assert as_sets(metrics.dilate(mask, 1)) == [{(r, c) for r in (9, 10, 11) for c in (0, 1)}]  # no (9, 27)
    mask = torch.zeros(1, 9, 12, dtype=torch.bool)
    for pixel in ((0, 5), (8, 11), (4, 4)):
        mask[:] = False
        mask[(0, *pixel)] = True
        for w in (0, 1, 2, 3, 20):
            assert as_sets(metrics.dilate(mask, w)) == [window(pixel, (9, 12), w)]


def test_the_first_pixel_counts_and_a_neighbour_is_forgiven():
    a, b = torch.zeros(2, 1, 6, 6, dtype=torch.float64)
    a[0, 0, 0], b[0, 0, 0] = 1, 1
    assert metrics.lens_recall(a, b, 1, 1).item() == metrics.lens_recall(a, b, 1, 1, diverse=True).item() == 1.0
    b = b.roll((1, 1), (1, 2))
    assert metrics.topk_intersection(a, b, 1).item() == 0.0
    assert [lens(a, b, 1, 1).item() for lens in LENS] == [1.0, 1.0]


def test_recall_and_precision_differ():
    a, b = torch.zeros(2, 1, 7, 7, dtype=torch.float64)
    a[0, 3, 3], a[0, 0, 0] = 2, 1
    b[0, 3, 2], b[0, 3, 4] = 2, 1  # both beside a's first, none beside its second
    assert metrics.lens_recall(a, b, 2, 1).item() == 1.0
    assert metrics.lens_precision(a, b, 2, 1).item() == 0.5


def test_bad_k_and_w_are_refused():
    a = random_maps(2, 3, 4)
    for k in (0, -1, 13):
        for call in (
            lambda k=k: metrics.topk(a, k),
            lambda k=k: metrics.topk_mask(a, k),
            lambda k=k: metrics.topk_intersection(a, a, k),
            lambda k=k: metrics.diverse_topk(a, k, 1),
            lambda k=k: metrics.lens_recall(a, a, k, 1),
        ):
            with pytest.raises(ValueError, match=f"k must be 1 to 12, the pixels of a 3 x 4 map, got {k}"):
                call()
    with pytest.raises(ValueError, match="w, how far a window reaches, must be 0 or more .* got -1"):
        metrics.lens_recall(a, a, 2, -1)
    with pytest.raises(ValueError, match="w, how far"):
        metrics.dilate(a > 0, -2)
    with pytest.raises(ValueError, match="NaN"):
        metrics.topk(a / (a != a[0, 0, 0]) * 0, 2)
