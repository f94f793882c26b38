"""The trends of Figures 8 and 9 as orderings of two settings."""

from itertools import pairwise

import pytest
import torch

from artlib import grids, paper
from artlib.trainings import Art


def test_both_settings_of_a_trend_are_rows_of_the_sweeps_that_differ_in_one_parameter():
    rows = grids.sweeps("cpu", dataset="cifar10")
    found = paper.trends(("IN", "K", "natural", "adversarial"))
    assert len({c.id for c in found}) == len(found)
    for claim in found:
        better, worse = (rows[side].training for side in (claim.better, claim.worse))
        assert sum(getattr(better, f) != getattr(worse, f) for f in grids.FIELDS.values()) == 1, claim.id


# By hand from section 5, sentence by sentence; art is beta 50, lambda 0.5 and 3 steps.
SAID = {
    ("IN", "K", "adversarial"): """
        beta 25 > beta 10, art > beta 10, art > beta 25: initially increases with increasing beta
        beta 100 > beta 200, art > beta 200, art > beta 100: the trend reverses for higher values
        lambda 0.25 > lambda 0, art > lambda 0, lambda 0.75 > lambda 0: increases with increasing lambda
        art > lambda 0.25, lambda 0.75 > lambda 0.25, lambda 0.75 > art: increases with increasing lambda
        lambda 1 = lambda 0.75: and saturates after 0.75
        steps 2 > steps 1, art > steps 1, art > steps 2: saturates after 3
        steps 5 = art, steps 7 = art: saturates after 3""",
    ("natural",): """
        lambda 0 > lambda 0.25, lambda 0 > art, lambda 0 > lambda 0.75, lambda 0 > lambda 1: starts to suffer
        lambda 0.25 > art, lambda 0.25 > lambda 0.75, lambda 0.25 > lambda 1: starts to suffer
        art > lambda 0.75, art > lambda 1, lambda 0.75 > lambda 1: as the magnitude of lambda increases
        steps 5 = art, steps 7 = art: saturates after 3""",
    ("IN", "K"): """
        art > lambda 0.75, art > lambda 1: best-performing values, i.e. 50, 0.5 and 3""",
}


def test_what_is_asked_is_what_the_sentences_say_the_right_way_round():
    expected = {
        f"sweeps/{metric}/{pair.strip().replace(' > ', '>').replace(' = ', '=')}"
        for metrics, lines in SAID.items()
        for metric in metrics
        for line in lines.strip().splitlines()
        for pair in line.split(":")[0].split(",")
    }
    assert {c.id for c in paper.trends(("IN", "K", "natural", "adversarial"))} == expected


def test_every_step_of_a_curve_and_of_the_best_values_has_a_verdict():
    found = {frozenset((c.better, c.worse)) for c in paper.trends(("IN",))}
    for parameter, values in grids.SWEPT.items():
        own = getattr(Art(), grids.FIELDS[parameter])
        curve = ["art" if v == own else f"{parameter} {v:g}" for v in sorted([*values, own])]
        assert {frozenset(("art", row)) for row in curve if row != "art"} <= found
        assert {frozenset(pair) for pair in pairwise(curve)} - found <= {frozenset(("steps 5", "steps 7"))}


def test_every_parameter_of_the_figures_has_a_trend_in_what_they_show():
    for metrics in (("IN", "K"), ("adversarial",)):
        found = paper.trends(metrics)
        assert {c.metric for c in found} == set(metrics)
        assert all(any(p in (c.better + c.worse) for c in found) for p in grids.SWEPT)


def test_a_metric_that_is_none():
    assert paper.trends(("pgd_20",)) == ()  # known, but not in the figures
    with pytest.raises(ValueError, match="unknown metric 'INN'; Figures 8 and 9 have IN, K, adversarial, natural$"):
        paper.trends(("IN", "INN"))


@pytest.mark.parametrize(("gain", "order"), [(20.0, "reproduced"), (-20.0, "not reproduced")])
def test_a_trend_is_judged_like_any_claim(gain, order):
    claim = next(c for c in paper.trends(("IN",)) if c.id == "sweeps/IN/lambda 0.75>lambda 0")
    noise = 5 * torch.randn(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = {"lambda 0": {"IN": 50 + noise}, "lambda 0.75": {"IN": 50 + gain - noise}}
    found = paper.verdicts(values, [claim], generator=torch.Generator().manual_seed(0))
    assert found["order"].tolist() == [order] and found["distance_better"].isna().all()


@pytest.mark.parametrize(("apart", "order"), [(1.0, "reproduced"), (-20.0, "not reproduced")])
def test_what_saturates_is_the_same_at_two_settings(apart, order):
    found = {c.id: c for c in paper.trends(("IN", "K", "natural", "adversarial")) if c.same}
    assert {(c.better, c.worse) for c in found.values()} == {p for _, pairs in paper.SATURATES.values() for p in pairs}
    assert {c.metric for c in found.values() if "lambda 1" in c.id} == {"IN", "K", "adversarial"}
    claim = found["sweeps/natural/steps 5=art"]
    assert claim.text.endswith("saturates after 3 steps: natural accuracy at steps 5 the same as that at art")
    noise = torch.randn(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = {"art": {"natural": 50 + noise}, "steps 5": {"natural": 50 + apart - noise}}
    verdicts = paper.verdicts(values, [claim], generator=torch.Generator().manual_seed(0))
    assert verdicts["order"].tolist() == [order]
