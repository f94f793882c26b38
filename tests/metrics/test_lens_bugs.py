"""What the released LENS scripts compute otherwise than their paper (DIFFERENCES.md, L1 to L7), and that ours does not.

`Released` is their arithmetic on flat indices, with a switch for each slip; without any it is our measure.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maps_for_tests import pairs, quick, random_maps

from artlib import metrics
from artlib.attacks.objectives import OBJECTIVES
from artlib.metrics.lens_authors import Released


def flat(mask: torch.Tensor) -> set[int]:
    return set(mask[0].flatten().nonzero()[:, 0].tolist())


def dot(pixel: int, height: int, width: int) -> torch.Tensor:
    m = torch.zeros(1, height * width, dtype=torch.bool)
    m[0, pixel] = True
    return m.view(1, height, width)


def peaks(*pixels: int, height: int, width: int) -> torch.Tensor:
    """A map whose highest pixels are these, in this order."""
    m = torch.linspace(0, 0.1, height * width).flip(0)
    for rank, pixel in enumerate(pixels):
        m[pixel] = 10 - rank
    return m.view(1, height, width)


# ------------------------------------------------------------------ without slips


@quick
@given(pairs(largest=9), st.integers(0, 3), st.floats(0, 1))
def test_without_the_slips_it_is_our_measure(maps, w, share):
    a, b = maps
    height, width = a.shape[1:]
    k, theirs = max(1, int(share * height * width)), Released.without(height, width)
    expected = [theirs.recall(m, n, k, w) for m, n in zip(a, b, strict=True)]
    assert metrics.lens_recall(a, b, k, w).tolist() == pytest.approx(expected, abs=1e-12)
    expected = [theirs.recall(n, m, k, w) for m, n in zip(a, b, strict=True)]
    assert metrics.lens_precision(a, b, k, w).tolist() == pytest.approx(expected, abs=1e-12)


# ------------------------------------------------------------------ one by one


def test_L1_a_window_goes_round_the_border():
    pixel = 10 * 28  # (10, 0)
    slipped, ours = Released.without(28, 28, L1=True).window(pixel, 1), flat(metrics.dilate(dot(pixel, 28, 28), 1))
    assert {divmod(p, 28) for p in slipped - ours} == {(8, 27), (9, 27), (10, 27)}
    assert {divmod(p, 28) for p in ours} == {(r, c) for r in (9, 10, 11) for c in (0, 1)}
    a, b = peaks(pixel, height=28, width=28), peaks(pixel - 1, height=28, width=28)  # opposite edges of the image
    assert Released.without(28, 28, L1=True).recall(a[0], b[0], 1, 1) == 1.0
    assert metrics.lens_recall(a, b, 1, 1).item() == 0.0


@quick
@given(pairs(largest=9), st.integers(1, 3), st.floats(0, 1))
def test_L1_overstates_lens_and_never_understates_it(maps, w, share):
    a, b = maps
    height, width = a.shape[1:]
    k = max(1, int(share * height * width))
    for m, n, ours in zip(a, b, metrics.lens_recall(a, b, k, w).tolist(), strict=True):
        assert Released.without(height, width, L1=True).recall(m, n, k, w) >= ours - 1e-12


def test_L2_the_first_pixel_never_counts():
    a = peaks(0, height=6, width=7)
    assert Released.without(6, 7, L2=True).recall(a[0], a[0], 1, 1) == 0.0
    assert metrics.lens_recall(a, a, 1, 1).item() == metrics.lens_precision(a, a, 1, 1).item() == 1.0


def test_L3_the_third_row_of_the_largest_window_is_the_fourth():
    pixel = 6 * 128 + 20
    rows = {p // 128 - 6 for p in Released.without(128, 128, L3=True).window(pixel, 3)}
    assert sorted(rows) == [-4, -2, -1, 0, 1, 2, 4]
    assert {p // 128 - 6 for p in flat(metrics.dilate(dot(pixel, 128, 128), 3))} == set(range(-3, 4))
    for away, theirs, ours in ((3, 0.0, 1.0), (4, 1.0, 0.0)):
        a, b = (peaks(p, height=12, width=9) for p in (40, 40 + 9 * away))
        assert Released.without(12, 9, L3=True).recall(a[0], b[0], 1, 3) == theirs
        assert metrics.lens_recall(a, b, 1, 3).item() == ours
    assert Released.without(12, 9, L3=True).window(40, 2) == Released.without(12, 9).window(
        40, 2
    )  # the smaller ones are right


def test_L4_the_second_pick_is_never_in_a_diverse_set():
    order = [24, 0, 6, 42, 48]  # the middle of a 7 x 7 map, then its corners
    a = peaks(*order, height=7, width=7)
    assert Released.without(7, 7, L4=True).diverse(a[0], 3, 2, pool=49) == [24, 6, 42]
    assert Released.without(7, 7).diverse(a[0], 3, 2, pool=49) == [24, 0, 6]
    assert flat(metrics.diverse_topk(a, 3, 2)) == {24, 0, 6}
    for m in random_maps(5, 28, 28):
        slipped, ours = (Released.without(28, 28, L4=on).diverse(m, 20, 1, pool=784) for on in (True, False))
        assert ours[1] not in slipped and slipped[0] == ours[0] and slipped[1:] == [*ours[2:], slipped[-1]]
        assert set(ours) == flat(metrics.diverse_topk(m[None], 20, 1))


def test_L5_a_set_that_cannot_be_filled_is_an_error_and_ours_is_smaller():
    a = peaks(24, height=7, width=7)
    for released in (Released.without(7, 7, L4=True), Released.without(7, 7)):
        with pytest.raises(IndexError):
            released.diverse(a[0], 10, 2, pool=49)  # at most nine fit
    found = metrics.diverse_topk(a, 10, 2)
    assert 1 < found.sum() <= 9
    assert metrics.lens_recall(a, a, 10, 2, diverse=True).item() == 1.0
    with pytest.raises(IndexError):
        Released.without(28, 28).diverse(random_maps(28, 28), 40, 1, pool=45)  # a pool of a few candidates ends sooner
    assert metrics.diverse_topk(random_maps(1, 28, 28), 40, 1).sum() == 40


def test_L6_a_set_that_lost_a_pixel_is_divided_by_k_all_the_same():
    """Pixel 0 is lost (L2): equal maps have a recall below 1 at every w, unless the set's own size divides."""
    a = peaks(0, 20, 41, height=6, width=7)
    for on, expected in ((True, 2 / 3), (False, 1.0)):
        scripts = Released.without(6, 7, L2=True, L6=on)
        assert sorted(scripts.diverse(a[0], 3, 1, pool=42)) == [20, 41]
        assert scripts.diverse_recall(a[0], a[0], 3, 1, pool=42) == pytest.approx(expected)
    for w in (1, 2):
        assert Released.without(6, 7, L2=True).recall(a[0], a[0], 3, w) == 2 / 3
        assert metrics.lens_recall(a, a, 3, w).item() == 1.0
    small = metrics.diverse_topk(a, 30, 2).sum().item()  # and a diverse set's divisor is its own size
    assert small < 30 and metrics.lens_recall(a, a, 30, 2, diverse=True).item() == 1.0


def test_where_pixel_0_is_the_first_the_scripts_do_not_skip_the_second():
    """It stays in the pool, is the head once more, and what they record after it is the second pick, not the third."""
    a = peaks(0, 20, 41, 38, height=6, width=7)
    assert Released.without(6, 7, L2=True, L4=True).diverse(a[0], 2, 1, pool=42) == [20]
    assert Released.without(6, 7, L4=True).diverse(a[0], 2, 1, pool=42) == [0, 41]


def test_L7_the_attacks_mask_has_the_bottom_row_of_what_looks_at_the_top():
    released = Released.without(28, 28, L1=True, L7=True)
    slipped = {p % 784 for p in released.near([5], 1)}  # as an index from the end
    assert {p // 28 for p in slipped} == {0, 1, 27}
    ours = OBJECTIVES["lens"](k=1).aim(peaks(5, height=28, width=28).double())
    assert {p // 28 for p in flat(ours)} == {0, 1} and flat(ours) == Released.without(28, 28).near([5], 1)


def test_all_of_them_together_move_the_measure_of_ordinary_maps():
    """Smooth maps of the size of MNIST, the second a shift of the first: what is published and what was meant."""
    noise = random_maps(20, 1, 40, 40)
    a = torch.nn.functional.avg_pool2d(noise, 13, stride=1)[:, 0].abs()  # 28 x 28, with mass at the border
    b = a.roll((3, 2), (1, 2))
    ours = metrics.lens_recall(a, b, 100, 1)
    theirs = torch.tensor([Released(28, 28).recall(m, n, 100, 1) for m, n in zip(a, b, strict=True)])
    assert 0 < (theirs - ours).abs().mean() < 0.05
