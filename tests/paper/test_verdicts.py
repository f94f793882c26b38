"""Verdicts agree with normal theory, with hand-made cases and with the rule that they state."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from artlib import metrics, paper


@pytest.mark.parametrize("paired", [True, False])
def test_interval_agrees_with_normal_theory(generator, paired):
    a = torch.randn(400, generator=generator, dtype=torch.float64) + 2.1
    b = torch.randn(400, generator=generator, dtype=torch.float64)
    result = paper.verdict(a, b, generator=generator, paired=paired)
    variance = (a - b).var() if paired else a.var() + b.var()
    half = 1.96 * math.sqrt(variance / 400)
    difference = (a.mean() - b.mean()).item()
    assert result.difference == pytest.approx(difference, abs=1e-12)
    assert result.low == pytest.approx(difference - half, abs=0.1 * half)  # 2000 resamples: a few percent of the width
    assert result.high == pytest.approx(difference + half, abs=0.1 * half)


def test_pairing_removes_what_the_images_share(generator):
    image = torch.randn(200, generator=generator, dtype=torch.float64) * 20
    assert paper.verdict(image + 1.05, image, generator=generator).verdict == "reproduced"
    assert paper.verdict(image + 1.05, image, generator=generator, paired=False).verdict == "inconclusive"


def hits(*runs):
    """Values of images: pairs of a value and how often."""
    return np.repeat([float(v) for v, _ in runs], [n for _, n in runs])


def test_verdict_words(generator):
    for better, worse, order, why in (
        ((100, 80), (0, 80), "reproduced", ""),
        ((0, 80), (100, 80), "not reproduced", ""),
        ((0, 80), (0, 80), "inconclusive", "the interval holds 0"),
        ((90.0, 80), (40.0, 80), "reproduced", ""),
    ):
        found = paper.verdict(hits(better), hits(worse), generator=generator)
        assert (found.order, found.why, found.mark) == (order, why, paper.MARKS[order])
        assert found.low <= found.difference <= found.high


@pytest.mark.parametrize("paired", [True, False])
def test_four_of_a_thousand_against_none_is_no_verdict(generator, paired):
    better, worse = hits((100, 4), (0, 996)), hits((0, 1000))
    found = paper.verdict(better, worse, generator=generator, paired=paired)
    assert found.order == "inconclusive" and found.low < 0 < found.difference == pytest.approx(0.4)
    more = paper.verdict(hits((100, 40), (0, 960)), worse, generator=generator, paired=paired)
    assert more.order == "reproduced" and more.low > 2


def test_few_images_are_no_verdict(generator):
    for n in (1, 3, paper.SMALLEST_IMAGES - 1):
        found = paper.verdict([100.0] * n, [0.0] * n, generator=generator)
        assert (found.order, found.images, found.mark) == ("inconclusive", n, "?")
        assert found.why == f"{n} images, fewer than 50" and found.low <= found.difference == 100
    found = paper.verdict([90.0] * 500, [40.0] * 49, generator=generator, paired=False)
    assert found.order == "inconclusive" and found.images == 49


def test_a_difference_that_is_sure_but_small_is_no_verdict(generator):
    image = torch.rand(500, generator=generator, dtype=torch.float64) * 100
    found = paper.verdict(image + 0.9, image, generator=generator)
    assert (found.order, found.why) == ("inconclusive", "they differ by less than 1 point") and found.low > 0
    assert paper.verdict(image + 1.1, image, generator=generator).order == "reproduced"
    assert paper.verdict(image - 1.1, image, generator=generator).order == "not reproduced"


def test_what_counts_as_a_difference_is_the_metrics_own(generator):
    """Half a point, for sure: of percentages nothing, of cosines times 100 five times the smallest that counts."""
    image = torch.rand(500, generator=generator, dtype=torch.float64) * 10
    asked = [("IN", 0.5, "inconclusive"), ("alignment", 0.5, "reproduced"), ("alignment", -0.5, "not reproduced")]
    for metric, gain, order in (*asked, ("alignment", 0.09, "inconclusive")):
        values = {"art": {metric: image + gain}, "pgd": {metric: image}}
        claim = dataclasses.replace(next(c for c in paper.alignment() if c.worse == "pgd"), metric=metric)
        found = paper.verdicts(values, [claim], paired=[metric], generator=generator).iloc[0]
        assert found["order"] == order and found["low"] == pytest.approx(gain)
    assert found["why"] == "they differ by less than 0.1 point"


@pytest.mark.parametrize("paired", [True, False])
def test_proportions_get_newcombes_interval(generator, paired):
    better, worse = hits((100, 70), (0, 30)), hits((100, 45), (0, 25), (100, 5), (0, 25))
    found = paper.verdict(better, worse, generator=generator, paired=paired)
    expected = metrics.newcombe_interval((70, 100), (50, 100), both=45 if paired else None)
    assert (found.low, found.high) == pytest.approx([100 * v for v in expected])


def test_extent_is_the_distance_of_both_sides():
    distance = {"order and size": (89.0, 37.0), "order only": (89.0, 43.5)}
    for extent, (better, worse) in distance.items():
        generator = torch.Generator().manual_seed(0)
        found = paper.verdict([better] * 60, [worse] * 60, generator=generator, printed=(92.9, 37.58))
        assert found.extent == extent and found.verdict == f"reproduced, {extent}"
        assert found.distance == pytest.approx((better - 92.9, worse - 37.58))
    blank = paper.verdict([worse] * 60, [better] * 60, generator=generator, printed=(92.9, 37.58))
    assert (blank.extent, blank.verdict) == ("", "not reproduced") and blank.distance is not None
    assert paper.verdict([better] * 60, [worse] * 60, generator=generator).extent == ""


# ---- the same


@pytest.mark.parametrize(
    "difference, half, order",
    [
        (0.0, 4.0, "reproduced"),
        (-3.0, 1.0, "reproduced"),  # sure to differ, by less than counts
        (9.0, 3.0, "not reproduced"),
        (-9.0, 3.0, "not reproduced"),
        (4.0, 3.0, "inconclusive"),
        (-6.0, 3.0, "inconclusive"),
        (0.0, 9.0, "inconclusive"),
    ],
)
def test_two_are_the_same_where_the_whole_interval_is_small(generator, difference, half, order):
    """By hand: 200 pairs apart by `difference` plus or minus s have an interval of half width 1.96 s / 200^0.5."""
    apart = difference + half * 200**0.5 / 1.96 * hits((1, 100), (-1, 100))
    base = np.random.default_rng(0).uniform(20, 60, 200)
    found = paper.verdict(base + apart, base, generator=generator, same=True)
    assert (found.low, found.high) == pytest.approx((difference - half, difference + half), abs=0.2 * half)
    assert (found.order, found.why) == (order, "" if order != "inconclusive" else "the interval crosses ±5 points")


def test_few_images_or_one_seed_apart_are_no_sameness(generator):
    assert paper.verdict([50.0] * 49, [50.0] * 49, generator=generator, same=True).why == "49 images, fewer than 50"
    flat, up, down = hits((50.0, 80)), hits((58.0, 80)), hits((42.0, 80))
    split = paper.verdict([up, down], [flat, flat], generator=generator, same=True)
    assert -5 < split.low <= split.difference == 0 <= split.high < 5
    assert (split.order, split.why) == ("inconclusive", "the seeds disagree")
    assert paper.verdict([flat, flat], [flat, flat], generator=generator, same=True).order == "reproduced"


def test_of_a_sameness_only_the_order_is_judged():
    found = paper.verdict([60.0] * 60, [61.0] * 60, generator=torch.Generator(), same=True, printed=(37.4, 37.6))
    assert (found.order, found.extent, found.verdict) == ("reproduced", "", "reproduced")
    assert found.distance == pytest.approx((22.6, 23.4))


# ---- the spread over images


@pytest.mark.parametrize("paired", [True, False])
def test_spread_agrees_with_normal_theory(generator, paired):
    """The standard deviation of n normal values has a standard error of sigma / sqrt(2 n); independent sides."""
    near, far = (torch.randn(1000, generator=generator, dtype=torch.float64) * s + 50 for s in (10, 15))
    found = paper.narrower(near, far, generator=generator, paired=paired)
    half = 1.96 * math.sqrt((10**2 + 15**2) / 2000)
    assert found.difference == pytest.approx((far.std() - near.std()).item())
    assert (found.low, found.high) == pytest.approx((found.difference - half, found.difference + half), abs=0.2 * half)
    assert (found.order, found.images) == ("reproduced", 1000)
    assert paper.narrower(far, near, generator=generator, paired=paired).order == "not reproduced"


def test_the_spread_of_pairs_is_blind_to_the_mean_and_sure_of_a_scale(generator):
    image = torch.randn(200, generator=generator, dtype=torch.float64) * 20
    moved = paper.narrower(image + 30, image, generator=generator)
    assert (moved.difference, moved.low, moved.high) == pytest.approx((0, 0, 0), abs=1e-9)
    assert moved.order == "inconclusive"
    scaled = paper.narrower(image, 1.1 * image + 7, generator=generator)
    assert scaled.difference == pytest.approx(0.1 * image.std().item()) and scaled.order == "reproduced"
    assert paper.narrower(image, 1.1 * image, generator=generator, paired=False).order == "inconclusive"


def test_the_spread_of_seeds_is_that_within_each(generator):
    """A model that is better as a whole with another seed does not vary more over its images."""
    image = torch.randn(300, generator=generator, dtype=torch.float64) * 10
    wide = [1.5 * image, 1.5 * image]
    found = paper.narrower([image, image + 40], wide, generator=generator)
    assert found.by_seed == pytest.approx([0.5 * image.std().item()] * 2) and found.order == "reproduced"
    one = paper.narrower(image, wide[0], generator=generator)
    assert found.high - found.low == pytest.approx(one.high - one.low, rel=0.15)
    assert paper.narrower([image, 3 * image], wide, generator=generator).why in (
        "the seeds disagree",
        "the interval holds 0",
    )
    assert paper.narrower([1.0] * 49, [2.0] * 49, generator=generator).why == "49 images, fewer than 50"


# ---- seeds


def test_seeds_must_agree_in_sign(generator):
    up, flat, down = hits((60.0, 80)), hits((50.0, 80)), hits((48.0, 80))
    agreed = paper.verdict([up, up, up], [flat, down, flat], generator=generator)
    assert agreed.order == "reproduced" and agreed.by_seed == (10, 12, 10)
    split = paper.verdict([up, up, down], [flat, flat, flat], generator=generator)
    assert (split.order, split.why) == ("inconclusive", "the seeds disagree")
    assert split.low > 0 and split.by_seed == (10, 10, -2)
    assert paper.verdict([up, up, flat], [flat] * 3, generator=generator).order == "inconclusive"  # no sign is no yes


@pytest.mark.parametrize("paired", [True, False])
def test_the_same_images_under_several_seeds_count_once(generator, paired):
    """Three copies of one seed are as sure as that seed alone: bootstrap to a few percent, proportions exactly."""
    a, b = (torch.rand(200, generator=generator, dtype=torch.float64) * 100 for _ in range(2))
    for better, worse, tolerance in ((a, b, 0.1), ((a > 40) * 100.0, (b > 50) * 100.0, 1e-9)):
        one = paper.verdict(better, worse, generator=generator, paired=paired)
        three = paper.verdict([better] * 3, [worse] * 3, generator=generator, paired=paired)
        assert three.high - three.low == pytest.approx(one.high - one.low, rel=tolerance)
        assert three.images == one.images == 200 and three.difference == pytest.approx(one.difference)


def test_seeds_may_differ_in_the_number_of_images_unless_paired(generator):
    better, worse = [[70.0] * 60, [72.0] * 80], [[50.0] * 55, [51.0] * 90]
    found = paper.verdict(better, worse, generator=generator, paired=False)
    assert (found.order, found.images) == ("reproduced", 55) and found.by_seed == (20, 21)
    with pytest.raises(ValueError, match="60 and 55 images are no pairs"):
        paper.verdict(better, worse, generator=generator)
    with pytest.raises(ValueError, match="2 and 1 seeds"):
        paper.verdict(better, worse[:1], generator=generator, paired=False)


# ---- tables of verdicts


def test_same_generator_same_interval():
    values = np.linspace(0, 100, 50), np.linspace(0, 10, 50) ** 2
    first, second = (paper.verdict(*values, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "better, worse, message",
    [
        ([], [1.0], "at least one"),
        ([[]], [[1.0]], "at least one"),
        ([math.nan], [1.0], "NaN"),
        ([10.0, 20.0], [1.0], "2 and 1 images.*paired=False"),
        ([True, False], [False, False], "give it percent"),
        ([0.4, -0.2], [0.1, 0.9], "give it percent"),
    ],
)
def test_bad_values_are_refused(generator, better, worse, message):
    with pytest.raises(ValueError, match=message):
        paper.verdict(better, worse, generator=generator)


def test_verdicts_leave_the_unmeasured_blank(generator):
    values = {"art": {"IN": np.full(90, 90.0)}, "natural": {"IN": np.full(70, 40.0), "K": np.full(70, 50.0)}}
    claims = [c for c in paper.claims("cifar10") if c.metric in ("IN", "K")]
    table = paper.verdicts(values, claims, generator=generator)
    assert len(table) == 6
    row = table.loc["table1/cifar10/IN/art>natural"]
    assert (row["difference"], row["low"], row["high"], row["order"], row["mark"]) == (50, 50, 50, "reproduced", "✓")
    assert (row["extent"], row["verdict"]) == ("order and size", "reproduced, order and size")
    assert (row["distance_better"], row["distance_worse"]) == pytest.approx((90 - 92.9, 40 - 40.25))
    assert (row["images"], row["seeds"], row["lowest"], row["highest"]) == (70, 1, 50, 50)
    others = table.drop(index=row.name)
    assert others.drop(columns=["text", "source"]).isna().all(axis=None)


def test_no_claim_or_no_values_still_give_the_columns(generator):
    empty = paper.verdicts({}, (), generator=generator)
    assert len(empty) == 0 and list(empty) == list(paper.verdicts({}, generator=generator))


def test_common_images_are_pairs():
    values = {"natural": {"IN": [1.0, 2.0, 3.0], "K": [4.0, 5.0, 6.0]}, "art": {"IN": [7.0, 8.0]}}
    found = paper.on_common_images(values, {"natural": [30, 10, 20], "art": [20, 30]})
    assert found == {"natural": {"IN": [3.0, 1.0], "K": [6.0, 4.0]}, "art": {"IN": [7.0, 8.0]}}
    assert paper.on_common_images(values, {"natural": [1, 2, 3], "art": [4, 5]})["art"] == {"IN": []}
    assert paper.on_common_images({}, {}) == {}
    with pytest.raises(ValueError, match="natural has 3 values of IN and 2 indices"):
        paper.on_common_images(values, {"natural": [1, 2], "art": [1, 2]})


def test_the_recorded_kind_of_record_fits(generator):
    """values[training][metric] as tables.values gives them, one claim a pair of rows of Table 1."""
    values = {t: {m: [v] * 60 for m in ("IN", "K")} for t, v in (("natural", 30.0), ("pgd", 60.0), ("art", 80.0))}
    table = paper.verdicts(values, paper.claims("blossoms"), generator=generator).dropna(subset="order")
    assert len(table) == 6 and set(table["order"]) == {"reproduced"} and set(table["extent"]) == {""}
    assert table["distance_better"].isna().all()  # printed for other images
