"""Ranks of pixels against scipy and against maps worked by hand."""

import warnings

import numpy as np
import pytest
import scipy.spatial
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from maps_for_tests import pairs, quick, random_maps, same

from artlib import metrics
from artlib.metrics import rank

LENS = [metrics.lens_recall, metrics.lens_precision]
PAIRWISE = [metrics.kendall, metrics.spearman, metrics.cosine]


def scipy_rows(function, a, b):
    with warnings.catch_warnings(action="ignore"):  # a constant map's NaN is what we compare
        return np.array([function(x.ravel(), y.ravel()) for x, y in zip(a.numpy(), b.numpy(), strict=True)])


def tau(x, y):
    return scipy.stats.kendalltau(x, y).statistic


def rho(x, y):
    return scipy.stats.spearmanr(x, y).statistic


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


def test_disjoint_sparse_maps_look_alike_and_tied_share_says_so():
    a, b = torch.zeros(2, 1, 28, 28, dtype=torch.float64)
    a[0].view(-1)[600:640], b[0].view(-1)[700:740] = torch.arange(1.0, 41), torch.arange(1.0, 41)
    assert metrics.topk_intersection(a, b, 100).item() == 0.6  # not a pixel in common but zeros
    assert metrics.tied_share(a, 100).item() == metrics.tied_share(b, 100).item() == 0.6
    assert metrics.tied_share(a, 40).item() == 0.0  # the support, without a choice


def test_tied_share_by_hand():
    a = torch.tensor([[[5.0, 5, 5], [9, 7, 0], [0, -0.0, -1]]])
    # ranks: 9 7 5 5 5 0 0 0 -1
    shares = [0, 0, 1 / 3, 2 / 4, 0, 1 / 6, 2 / 7, 0, 0]
    same(torch.cat([metrics.tied_share(a, k) for k in range(1, 10)]), shares)
    constant = torch.full((2, 3, 3), 2.0)
    assert (
        metrics.topk_intersection(constant, constant, 4).tolist() == metrics.tied_share(constant, 4).tolist() == [1, 1]
    )
    assert metrics.tied_share(constant, 9).tolist() == [0, 0]  # all pixels: nothing was left out
    assert metrics.tied_share(torch.zeros(0, 3, 3), 2).shape == (0,)
    with pytest.raises(ValueError, match="k must be 1 to 9"):
        metrics.tied_share(constant, 10)


@quick
@given(pairs(), st.floats(0, 1))
def test_the_other_pixels_are_chosen_whichever_way_ties_go(maps, share):
    for m in maps:
        n = m[0].numel()
        k = max(1, int(share * n))
        flipped = m.flatten(1).flip(1).view(m.shape)  # ties go to the higher index
        both = metrics.topk_mask(m, k).flatten(1) & metrics.topk_mask(flipped, k).flatten(1).flip(1)
        sure = k - (k * metrics.tied_share(m, k)).round()
        assert (both.sum(1) >= sure).all()
        for row, number in zip(m.flatten(1).tolist(), sure.tolist(), strict=True):
            ranked = sorted(row, reverse=True)
            assert number == (k if k == n or ranked[k] < ranked[k - 1] else sum(v > ranked[k] for v in row))


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
    arrays = [rank.rows_of(m) for m in maps]
    for descending in (False, True):
        for tensor, array in zip(rows, arrays, strict=True):
            order = rank.argsort(tensor, descending=descending)
            assert order.tolist() == rank.argsort(array, descending=descending).tolist()
    for tensor, array in zip(rows, arrays, strict=True):
        assert rank._ranks(tensor).tolist() == rank._ranks(array).tolist()
    with pytest.MonkeyPatch.context() as patch:
        expected = metrics.kendall(*maps)
        patch.setattr(rank, "rows_of", lambda m: m.flatten(1))
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
    for measure in (metrics.kendall, metrics.spearman):
        assert measure(a, constant).isnan() and measure(constant, a).isnan() and measure(constant, constant).isnan()
        assert measure(a[:, :1, :1], a[:, :1, :1]).isnan()  # one pixel
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
    for measure in (metrics.kendall, metrics.spearman):
        same(measure(a.exp(), b**3 - 2), measure(a, b))
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
