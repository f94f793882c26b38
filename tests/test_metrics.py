"""artlib.metrics against scipy, maps worked by hand, and the plain one-pixel-at-a-time reading of LENS."""

import warnings

import numpy as np
import pytest
import scipy.spatial
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from artlib import metrics

quick = settings(max_examples=40, derandomize=True, deadline=None, database=None)
LENS = [metrics.lens_recall, metrics.lens_precision]
PAIRWISE = [metrics.kendall, metrics.spearman, metrics.cosine]


@st.composite
def pairs(draw, largest=20):
    """Two batches of maps (2, H, W), with few to many ties, of any of the dtypes maps come in."""
    height, width, levels = draw(st.integers(1, largest)), draw(st.integers(1, largest)), draw(st.integers(1, 500))
    g = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    a, b, c = torch.randint(-levels, levels + 1, (3, 2, height, width), generator=g)
    b = draw(st.sampled_from([b, a + b // 3, -a, a * a, a // 5, c]))
    dtypes = st.sampled_from([torch.float64, torch.float32, torch.int64])
    return a.to(draw(dtypes)) / draw(st.sampled_from([1, 7])), b.to(draw(dtypes))


def scipy_rows(function, a, b):
    with warnings.catch_warnings(action="ignore"):  # a constant map's NaN is what we compare
        return np.array([function(x.ravel(), y.ravel()) for x, y in zip(a.numpy(), b.numpy(), strict=True)])


def tau(x, y):
    return scipy.stats.kendalltau(x, y).statistic


def rho(x, y):
    return scipy.stats.spearmanr(x, y).statistic


def random_maps(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def same(left, right):
    torch.testing.assert_close(left, torch.as_tensor(right, dtype=torch.float64), rtol=0, atol=1e-12, equal_nan=True)


# ---- top-k


def test_topk_by_hand():
    a = torch.tensor([[[1.0, 5.0, 5.0], [0.0, 9.0, 5.0], [-1.0, -1.0, 2.0]]])
    assert metrics.topk(a, 4).tolist() == [[4, 1, 2, 5]]
    assert metrics.topk(a, 9).tolist() == [[4, 1, 2, 5, 8, 0, 3, 6, 7]]
    assert metrics.topk_mask(a, 3).int().tolist() == [[[0, 1, 1], [0, 1, 0], [0, 0, 0]]]
    b = torch.tensor([[[9.0, 8.0, 0.0], [0.0, 7.0, 0.0], [0.0, 0.0, 0.0]]])
    assert metrics.topk_intersection(a, b, 3).tolist() == [2 / 3]  # {4, 1, 2} and {0, 1, 4}
    assert metrics.topk_intersection(a, b, 9).tolist() == [1.0]


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int8]
)
def test_ties_go_to_the_lower_index_in_every_dtype(dtype):
    values = torch.tensor([0.0, -3, 2, -0.0, 2, -3, 0, 100, -100])
    if dtype.is_floating_point:
        values[7], values[8] = torch.inf, -torch.inf
    expected = sorted(range(9), key=lambda i: (-values[i].item(), i))
    assert metrics.topk(values.to(dtype).view(1, 3, 3), 9)[0].tolist() == expected


@quick
@given(pairs(), st.floats(0, 1))
def test_topk_is_the_sorted_list(maps, share):
    for m in maps:
        k = max(1, int(share * m[0].numel()))
        plain = [sorted(range(len(row)), key=lambda i, row=row: (-row[i], i))[:k] for row in m.flatten(1).tolist()]
        assert metrics.topk(m, k).tolist() == plain
        assert metrics.topk_mask(m, k).sum((1, 2)).tolist() == [k, k]


def test_two_sparse_maps_of_one_support_share_their_zeros_by_index():
    a, b = torch.zeros(2, 1, 28, 28, dtype=torch.float64)
    a[0, 20], b[0, 20] = torch.arange(1.0, 29), torch.arange(28.0, 0, -1)
    assert metrics.topk_mask(a, 100).flatten().nonzero().flatten().tolist() == [*range(72), *range(560, 588)]
    assert metrics.topk_intersection(a, b, 100).item() == 1.0


# ---- correlations


@quick
@given(pairs())
def test_correlations_equal_scipy(maps):
    a, b = maps
    if a[0].numel() > 1:
        same(metrics.kendall(a, b), scipy_rows(tau, a, b))
        same(metrics.spearman(a, b), scipy_rows(rho, a, b))
    if a.any((1, 2)).all() and b.any((1, 2)).all():
        same(
            metrics.cosine(a, b),
            scipy_rows(lambda x, y: 1 - scipy.spatial.distance.cosine(*(m.astype(float) for m in (x, y))), a, b),
        )


@pytest.mark.parametrize("size", [(128, 128), (128, 256), (181, 182), (256, 512), (1, 131073)])  # to 2**15, 2**17
def test_kendall_of_large_maps(size):
    a = random_maps(1, *size)
    b = (a + random_maps(1, *size, seed=1)).mul(50).round()  # ties in one of the two
    same(metrics.kendall(a, b), scipy_rows(tau, a, b))
    same(metrics.kendall(a, -a), [-1.0])
    same(metrics.kendall(a, a), [1.0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int8, torch.int32])
def test_correlations_of_any_dtype(dtype):
    a, b = (random_maps(2, 3, 12, 12) * 40).round().to(dtype)
    if dtype.is_floating_point:
        a, b = a / 7, b * b.sign().roll(1, 2)  # holds 0.0 and -0.0
    for ours, scipys in ((metrics.kendall, tau), (metrics.spearman, rho)):
        same(ours(a, b), scipy_rows(scipys, a.double(), b.double()))


@quick
@given(pairs())
def test_tensors_and_arrays_agree(maps):
    rows = [m.flatten(1) for m in maps]  # as on a GPU
    arrays = [metrics._rows(m) for m in maps]
    for descending in (False, True):
        for tensor, array in zip(rows, arrays, strict=True):
            order = metrics._argsort(tensor, descending=descending)
            assert order.tolist() == metrics._argsort(array, descending=descending).tolist()
    for tensor, array in zip(rows, arrays, strict=True):
        assert metrics._ranks(tensor).tolist() == metrics._ranks(array).tolist()
    with pytest.MonkeyPatch.context() as patch:
        expected = metrics.kendall(*maps)
        patch.setattr(metrics, "_rows", lambda m: m.flatten(1))
        same(metrics.kendall(*maps), expected)


def test_values_that_differ_in_the_last_bits_are_no_ties():
    a, b = random_maps(2, 2, 20, 20)
    close = 1 + a.flatten(1).argsort(1).argsort(1).view(a.shape).double() * 2.0**-52  # in the order of a
    assert torch.equal(metrics.topk(close, 400), metrics.topk(a, 400))
    same(metrics.kendall(close, b), metrics.kendall(a, b))
    same(metrics.spearman(close, b), metrics.spearman(a, b))


def test_kendall_by_hand():
    a = torch.tensor([[[1, 2, 3]], [[1, 1, 2]], [[1, 2, 3]], [[4, 4, 4]]])
    b = torch.tensor([[[1, 3, 2]], [[1, 2, 2]], [[3, 2, 1]], [[1, 2, 3]]])
    same(metrics.kendall(a, b), [1 / 3, 1 / 2, -1.0, torch.nan])


@pytest.mark.parametrize("threads", [1, 3])
def test_chunks_and_threads_do_not_show(threads):
    a, b = random_maps(2, 300, 30, 30)  # more than one chunk
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for measure in PAIRWISE:
            same(measure(a, b), torch.cat([measure(a[i : i + 7], b[i : i + 7]) for i in range(0, 300, 7)]))
        mask = metrics.diverse_topk(a, 20, 2)
        assert torch.equal(mask[250:], metrics.diverse_topk(a[250:], 20, 2))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_nan_where_a_correlation_is_not_defined():
    a, constant, zero = random_maps(1, 3, 3), torch.full((1, 3, 3), 2.0), torch.zeros(1, 3, 3)
    for rank in (metrics.kendall, metrics.spearman):
        assert rank(a, constant).isnan() and rank(constant, a).isnan() and rank(constant, constant).isnan()
        assert rank(a[:, :1, :1], a[:, :1, :1]).isnan()  # one pixel
    assert metrics.cosine(a, zero).isnan() and metrics.cosine(zero, zero).isnan()
    assert not metrics.cosine(a, constant).isnan()


def test_invariances():
    a, b = random_maps(2, 4, 6, 5)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    mixed_a, mixed_b = (m.flatten(1)[:, order].view(m.shape) for m in (a, b))
    for measure in PAIRWISE:
        same(measure(a, b), measure(b, a))
        same(measure(a, b), measure(mixed_a, mixed_b))
        same(measure(3 * a, b / 7), measure(a, b))
        same(measure(a, -b), -measure(a, b))
        same(measure(a, a), torch.ones(4, dtype=torch.float64))
    for rank in (metrics.kendall, metrics.spearman):
        same(rank(a.exp(), b**3 - 2), rank(a, b))
    same(metrics.topk_intersection(a, b, 7), metrics.topk_intersection(mixed_a, mixed_b, 7))
    same(metrics.topk_intersection(a, b, 7), metrics.topk_intersection(b.exp(), a * 3, 7))


def test_no_images_give_no_numbers():
    none = torch.zeros(0, 4, 4)
    for measure in PAIRWISE:
        assert measure(none, none).shape == (0,)
    assert metrics.lens_recall(none, none, 3, 1, diverse=True).shape == (0,)


def test_maps_that_need_gradients():
    a = random_maps(2, 4, 4).requires_grad_()
    assert metrics.kendall(a, a).tolist() == metrics.spearman(a, a).round(decimals=12).tolist() == [1.0, 1.0]
    assert metrics.topk(a, 3).shape == (2, 3)


# ---- LENS


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


# ---- over images


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


# ---- bad input


@pytest.mark.parametrize("measure", [metrics.topk_intersection, metrics.lens_recall, metrics.lens_precision, *PAIRWISE])
def test_bad_maps_are_refused(measure):
    more = {} if measure in PAIRWISE else {"k": 2} if measure is metrics.topk_intersection else {"k": 2, "w": 1}
    a = random_maps(2, 3, 3)
    for bad, words in (
        (a[:, :2], r"one shape, got \(2, [23], 3\) and \(2, [23], 3\)"),
        (a[:1], "one shape"),
        (a.where(a != a[0, 0, 0], torch.nan), "NaN.*leave that image out"),
    ):
        with pytest.raises(ValueError, match=words):
            measure(a, bad, **more)
    with pytest.raises(ValueError, match=r"must be \(N, H, W\), got \(2, 1, 3, 3\): attributions.heatmap"):
        measure(a[:, None], a[:, None], **more)
    with pytest.raises(ValueError, match=r"got \(2, 0, 3\)"):
        measure(a[:, :0], a[:, :0], **more)


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


def test_bad_values_are_refused():
    g = torch.Generator().manual_seed(0)
    for bad in (torch.tensor([]), torch.tensor([0.5, torch.nan]), torch.ones(2, 2)):
        with pytest.raises(ValueError, match="values must be"):
            metrics.bootstrap_interval(bad, generator=g)
    for settings_ in ({"level": 1.0}, {"level": 95}, {"samples": 0}):
        with pytest.raises(ValueError, match="level must lie in"):
            metrics.bootstrap_interval(torch.ones(3), generator=g, **settings_)
