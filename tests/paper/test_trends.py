"""The trends of Figures 8 and 9 as orderings of two settings."""

import pytest
import torch

from artlib import grids, paper


def test_both_settings_of_a_trend_are_rows_of_the_sweeps_that_differ_in_one_parameter():
    rows = grids.sweeps("cpu", dataset="cifar10")
    found = paper.trends(("IN", "K", "natural", "adversarial"))
    assert len({c.id for c in found}) == len(found)
    for claim in found:
        better, worse = (rows[side].training for side in (claim.better, claim.worse))
        assert sum(getattr(better, f) != getattr(worse, f) for f in grids.FIELDS.values()) == 1, claim.id


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
