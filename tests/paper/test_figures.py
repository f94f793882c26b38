"""What the text says of single figures, as claims that a run can answer."""

import numpy as np
import torch

from artlib import paper
from artlib.measurements import AccuracyCurve


def test_the_curves_are_asked_what_the_paper_says_and_no_more():
    found = {c.id.removeprefix("figure14/cifar10/"): c for c in paper.curves()}
    assert {c.metric for c in found.values()} <= set(AccuracyCurve.metrics)
    alike = {c.metric for c in found.values() if c.same}
    assert alike == {m for m in AccuracyCurve.metrics if m.startswith("linf_") and int(m.removeprefix("linf_")) < 4}
    above = {c.metric for c in found.values() if "l2" in c.metric and (c.better, c.worse) == ("art", "pgd")}
    assert above == {m for m in AccuracyCurve.metrics if m.startswith("l2_")}
    (asked,) = {c.metric for c in found.values()} - alike - above
    assert asked == "linf_8" and len(found) == len(alike) + len(above) + 3


def test_the_curves_at_printed_balls_have_the_printed_values():
    printed = {c.id.removeprefix("figure14/cifar10/"): c.printed for c in paper.curves() if c.printed}
    art, pgd = (paper.table("table1").query(f"dataset == 'cifar10' and training == '{t}'") for t in ("art", "pgd"))
    assert printed["linf_8/pgd>art"] == (pgd["adversarial"].item(), art["adversarial"].item())
    assert printed["l2_1/art>pgd"] == (39.65, 29.68)
    for claim in paper.curves():
        assert ("printed" in claim.text) == (claim.printed is not None)
        assert claim.source.startswith("Table 1" if claim.metric == "linf_8" else "Figure 14, Appendix C")
    for theirs, ours in zip(paper.curves(), paper.curves("blossoms"), strict=True):
        assert (ours.metric, ours.better, ours.worse) == (theirs.metric, theirs.better, theirs.worse)
        assert ours.printed is None and "printed" not in ours.text and ours.text.startswith("blossoms")


def test_curves_drawn_as_the_paper_describes_them_are_reproduced():
    levels = {"natural": dict.fromkeys(AccuracyCurve.metrics, 0), "pgd": {}, "art": {}}
    for metric in AccuracyCurve.metrics:
        levels["pgd"][metric], levels["art"][metric] = (50, 50) if metric in ("linf_1", "linf_2") else (40, 60)
    levels["pgd"]["linf_8"], levels["art"]["linf_8"] = 44, 38
    values = {t: {m: [100.0] * 10 * v + [0.0] * 10 * (100 - v) for m, v in by.items()} for t, by in levels.items()}
    found = paper.verdicts(values, paper.curves(), generator=torch.Generator(), paired=list(AccuracyCurve.metrics))
    assert set(found["order"]) == {"reproduced"}


def test_figure_11_is_asked_for_the_mean_and_for_the_spread(generator):
    """ART higher and narrower than both: all reproduced; with the spread of PGD: its two are not."""
    found = paper.spread()
    assert len(found) == 2 * len([c for c in found if c.spread]) == 8 and {c.better for c in found} == {"art"}
    noise = torch.randn(200, generator=generator, dtype=torch.float64)
    levels = {"natural": (20, 15), "pgd": (50, 10), "art": (70, 5)}
    values = {t: {m: mean + sd * noise for m in ("IN", "K")} for t, (mean, sd) in levels.items()}
    verdicts = paper.verdicts(values, found, paired=["IN", "K"], generator=generator)
    assert set(verdicts["order"]) == {"reproduced"}
    values["pgd"] = {m: 50 + 2 * noise for m in ("IN", "K")}
    verdicts = paper.verdicts(values, found, paired=["IN", "K"], generator=generator)
    lost = set(verdicts.index[verdicts["order"] == "not reproduced"])
    assert lost == {f"figure11/cifar10/standard deviation of {m}/art<pgd" for m in ("IN", "K")}


def test_figure_12_is_asked_for_art_above_both_at_each_epsilon(generator):
    """As the paper draws it, falling with epsilon: reproduced at each; with ART below PGD at one, not there."""
    found = paper.epsilon()
    assert {(c.metric, c.better, c.worse) for c in found} == {
        (m, "art", t) for m in ("IN", "K") for t in ("natural", "pgd")
    }
    assert all(c.printed is None and not c.same and c.object == "figure12" for c in found) and len(found) == 4
    assert [c.id.replace("blossoms", "cifar10") for c in paper.epsilon("blossoms")] == [c.id for c in found]
    for eps in (2, 4, 8, 12):
        levels = {"natural": 60 - 5 * eps, "pgd": 90 - 3 * eps, "art": 95 - 2 * eps}
        if eps == 12:
            levels["art"] = levels["pgd"] - 5
        noise = torch.randn(100, generator=generator, dtype=torch.float64)
        values = {t: {m: level + noise for m in ("IN", "K")} for t, level in levels.items()}
        verdicts = paper.verdicts(values, found, paired=["IN", "K"], generator=generator)["order"]
        lost = {f"figure12/cifar10/{m}/art>pgd" for m in ("IN", "K")} if eps == 12 else set()
        assert set(verdicts.index[verdicts == "not reproduced"]) == lost
        assert (verdicts.drop(list(lost)) == "reproduced").all()


def test_the_text_along_arts_own_row_holds_in_the_printed_values():
    """As it prints them, of 1000 images: SPSA above PGD-40, longer attacks the same; half as much is not the same."""
    found = paper.stronger()
    printed = {c.better: c.printed for c in found}
    assert printed == {"spsa": (44.7, 37.58), "pgd_100": (37.42, 37.58), "pgd_500": (37.18, 37.58)}
    assert {c.better for c in found if c.same} == {"pgd_100", "pgd_500"}

    def of(accuracies):
        order = np.linspace(0, 100, 1000)
        return {c: {"art": 100.0 * (order < a)} for c, a in accuracies.items()}

    paper_has = {"adversarial": 37.58} | {c: p[0] for c, p in printed.items()}
    options = dict(paired=["art"], generator=torch.Generator())
    verdicts = paper.verdicts(of(paper_has), found, **options)
    assert set(verdicts["order"]) == {"reproduced"}
    assert verdicts["extent"].tolist() == ["order and size", "", ""]
    weak = paper.verdicts(of(paper_has | {"pgd_500": 20.0}), found, **options)
    assert weak["order"].tolist() == ["reproduced", "reproduced", "not reproduced"]
    assert all(c.printed is None and "printed" not in c.text for c in paper.stronger("gtsrb"))


def test_table_6_is_asked_along_its_row_the_way_the_text_says():
    """Natural keeps 80.35 under perturbations of PGD-10 and 49.09 under ART's: these hurt it more."""
    (claim,) = paper.transferred()
    assert (claim.metric, claim.better, claim.worse) == ("natural", "from_pgd", "from_art")
    assert (claim.id, claim.printed) == ("table6/cifar10/natural/from_pgd>from_art", (80.35, 49.09))
    (other,) = paper.transferred("gtsrb")
    assert (other.better, other.worse, other.printed) == ("from_pgd", "from_art", None)
