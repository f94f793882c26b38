"""Main effects against sums written out, intervals against what pairing implies."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest

from artlib import effects, metrics, paper

CELLS = {f"{a}{b}": dict(first=a, second=b) for a, b in itertools.product(("low", "middle", "high"), ("off", "on"))}


def record(values: dict[int, float | None]) -> dict:
    """Per-image values of `natural`, in shares, as `results.measured` returns them."""
    return {"accuracy": {"values": {"index": list(values), "natural": list(values.values())}}}


def noise(n: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(n)


def records(shift, images=60, seeds=1, base=None) -> dict:
    """The same images in every cell, each value moved by what `shift` says of the cell."""
    base = noise(images) if base is None else base
    return {
        name: {s: record({i: v + shift(**cell) for i, v in enumerate(base)}) for s in range(seeds)}
        for name, cell in CELLS.items()
    }


def found(rec, **options) -> pd.DataFrame:
    return effects.main_effects(rec, CELLS, columns=["natural"], **options).set_index(["factor", "to"])


def additive(first, second):
    return {"low": 0.0, "middle": 0.1, "high": -0.2}[first] + (second == "on") * 0.05


def test_effects_of_an_additive_table_are_its_terms_and_pairing_leaves_no_doubt():
    """Images differ a lot, cells by constants: paired by image the interval is a point."""
    table = found(records(additive))
    for key, effect in ((("first", "middle"), 10), (("first", "high"), -20), (("second", "on"), 5)):
        row = table.loc[key]
        assert row["effect"] == pytest.approx(effect) == pytest.approx(row["low"]) == pytest.approx(row["high"])
        assert row["images"] == 60 and row["metric"] == "natural"
    assert list(table.index) == [("first", "middle"), ("first", "high"), ("second", "on")]
    assert set(table["from"]) == {"low", "off"}


def test_an_interaction_is_averaged_over_the_other_factor():
    table = found(records(lambda first, second: 0.3 * (first == "high") * (second == "on")))
    assert table.loc[("first", "high"), "effect"] == pytest.approx(15)
    assert table.loc[("second", "on"), "effect"] == pytest.approx(10)
    assert table.loc[("first", "middle"), "effect"] == pytest.approx(0)


def test_the_interval_is_that_of_a_paired_difference():
    """Two cells: the bootstrap of the per-image differences, by numpy with other draws."""
    cells, a, b = {"x": dict(f="0"), "y": dict(f="1")}, noise(80, 1), noise(80, 2)
    rec = {"x": {0: record(dict(enumerate(a)))}, "y": {0: record(dict(enumerate(a + 0.3 * b)))}}
    row = effects.main_effects(rec, cells, columns=["natural"], samples=4000).iloc[0]
    draws = np.random.default_rng(3).integers(80, size=(4000, 80))
    low, high = np.quantile(100 * (0.3 * b)[draws].mean(1), [0.025, 0.975])
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.15)
    assert row["high"] - row["low"] < 5 < 100 * 2 * 1.96 * a.std() / 80**0.5  # unpaired it would be wider


def test_images_without_a_value_count_where_they_have_one():
    rec = records(additive, images=4)
    rec["lowoff"] = {0: record({0: 0.5, 1: None, 7: 0.7})}
    means = {
        name: np.mean([v for v in r[0]["accuracy"]["values"]["natural"] if v is not None]) for name, r in rec.items()
    }
    table = found(rec)
    by_hand = 50 * (means["highoff"] + means["highon"] - means["lowoff"] - means["lowon"])
    assert table.loc[("first", "high"), "effect"] == pytest.approx(by_hand)
    assert (table["images"] == 5).all() and (table["low"] <= table["high"]).all()


def test_seeds_share_their_images_so_that_more_of_them_do_not_narrow_the_interval():
    rec = records(additive)
    rec["highon"] = {0: record(dict(enumerate(noise(seed=5))))}
    one = found(rec)
    three = found({name: {s: seeds[0] for s in range(3)} for name, seeds in rec.items()})
    pd.testing.assert_frame_equal(one, three)
    assert (one.loc[("first", "high"), "high"] - one.loc[("first", "high"), "low"]) > 1


def test_the_same_seed_gives_the_same_interval():
    rec = records(additive)
    rec["highon"] = {0: record(dict(enumerate(noise(seed=5))))}
    pd.testing.assert_frame_equal(found(rec), found(rec))
    assert not found(rec).equals(found(rec, seed=1))


def test_what_cannot_be_averaged_is_refused():
    rec = records(additive)
    with pytest.raises(ValueError, match=r"5 cells are no full factorial of first \(3\), second \(2\)"):
        effects.main_effects(rec, {k: v for k, v in CELLS.items() if k != "lowon"})
    with pytest.raises(ValueError, match="no records of lowon: every cell"):
        effects.main_effects({k: v for k, v in rec.items() if k != "lowon"}, CELLS)
    rec["lowon"] = {0: record({0: None})}
    with pytest.raises(ValueError, match="no image has a natural in lowon"):
        effects.main_effects(rec, CELLS, columns=["natural"])


def test_all_metrics_of_the_records_unless_told():
    rec = records(additive)
    for seeds in rec.values():
        seeds[0]["accuracy"]["values"]["adversarial"] = seeds[0]["accuracy"]["values"]["natural"]
    assert list(effects.main_effects(rec, CELLS)["metric"].unique()) == ["natural", "adversarial"]


def both(values: dict[str, dict]) -> dict:
    """Records of rows by name, the same per-image values as clean and as adversarial accuracy."""
    rec = {name: {0: record(v)} for name, v in values.items()}
    for seeds in rec.values():
        seeds[0]["accuracy"]["values"]["adversarial"] = seeds[0]["accuracy"]["values"]["natural"]
    return rec


def test_every_art_row_is_asked_what_table_1_says_of_art_and_pgd():
    values = {"pgd held": 0.3 + 0.2 * noise(), "art good": 0.6 + 0.2 * noise(seed=1), "art bad": 0.1 * noise(seed=2)}
    rec = both({name: dict(enumerate(v)) for name, v in values.items()})
    found = effects.verdicts(rec, "factorial", dataset="cifar10", seed=0)
    assert len(found) == 2 * sum({c.better, c.worse} == {"art", "pgd"} for c in paper.claims("cifar10"))
    assert found["order"].dropna().to_dict() == {
        "factorial/natural/art good>pgd held": "reproduced",
        "factorial/natural/art bad>pgd held": "not reproduced",
        "factorial/adversarial/pgd held>art good": "not reproduced",
        "factorial/adversarial/pgd held>art bad": "reproduced",
    }
    assert found["distance_better"].isna().all()


def test_each_two_rows_are_compared_on_the_images_that_these_two_have():
    every, half = dict(enumerate(noise())), dict(enumerate(noise()[:30]))
    rec = both({"lambda 0": every, "lambda 1": every, "lambda 0.25": half})
    found = effects.verdicts(rec, "sweeps", dataset="cifar10", seed=0, metrics=["natural"])
    assert found["images"].dropna().to_dict() == {
        "sweeps/natural/lambda 0.25>lambda 1": 30,
        "sweeps/natural/lambda 0>lambda 1": 60,
        "sweeps/natural/lambda 0>lambda 0.25": 30,
    }


def test_a_spread_is_judged_on_the_images_that_both_have():
    """Natural's values vary more over its own 60 images, less over the 50 that ART has, too."""
    values = np.tile([0.45, 0.55], 30)
    rec = both({"art": dict(enumerate(np.tile([0.4, 0.6], 25))), "natural": dict(enumerate(values))})
    rec["natural"][0]["accuracy"]["values"]["natural"][50:] = [0.0, 1.0] * 5
    claim = dataclasses.replace(next(c for c in paper.spread() if c.spread), metric="natural")
    found = effects.judged(rec, [claim], seed=0).iloc[0]
    assert (found["images"], found["order"]) == (50, "not reproduced")
    assert found["difference"] == pytest.approx(-5 * (50 / 49) ** 0.5)


def test_two_measurements_of_one_training_are_paired_by_image():
    """SPSA is asked of fewer images, in another order, and once in vain."""
    record = {
        "accuracy": {"values": {"index": [4, 2, 7, 1], "adversarial": [1, 0, 0, 1]}},
        "other_threats": {"values": {"index": [7, 4, 2], "spsa": [1, None, 0]}},
    }
    found = effects.along({0: record, 3: record}, ["spsa", "adversarial"], name="art")
    assert found == {"spsa": {"art": [[0, 100]] * 2}, "adversarial": {"art": [[0, 0]] * 2}}  # images 2 and 7
    assert effects.along({}, ["spsa"], name="art") == {"spsa": {"art": []}}


def test_gaps_between_attacks_are_of_the_images_that_have_all_of_them():
    held = {"index": list(range(40)), "spsa": [1] * 20 + [0] * 20, "pgd_100": [1] * 10 + [0] * 30}
    adversarial = {"index": [*range(50)][::-1], "adversarial": [1] * 35 + [0] * 15}  # of the 40, images 15 to 39
    record = {"accuracy": {"values": adversarial}, "other_threats": {"values": held}}
    pairs = [("pgd_100", "adversarial"), ("pgd_100", "spsa"), ("spsa", "pgd_100")]
    found = effects.gaps({"pgd": {0: record}, "own": {0: record}}, pairs, seed=0)
    assert found["training"].tolist() == ["PGD"] * 3 + ["own"] * 3
    assert found["attacks"].tolist()[:2] == ["PGD-100 less PGD accuracy", "PGD-100 less SPSA"]
    assert found["difference"].tolist() == [-37.5, -25, 25] * 2 and set(found["images"]) == {40}
    interval = metrics.newcombe_interval((20, 40), (10, 40), both=10)
    assert found.loc[2, ["low", "high"]].tolist() == pytest.approx([100 * end for end in interval])


def test_objectives_are_asked_what_table_5_says():
    rec = both({"art": dict(enumerate(noise() + 0.5)), "art_l2": dict(enumerate(noise()))})
    found = effects.verdicts(rec, "objectives", dataset="cifar10", seed=0)
    assert set(found.index) == {c.id for c in paper.claims("cifar10", "table5")}
    assert found["order"].dropna().to_dict() == {
        "table5/cifar10/natural/art_l2>art": "not reproduced",
        "table5/cifar10/adversarial/art>art_l2": "reproduced",
    }
    asked = effects.verdicts(rec, "objectives", dataset="gtsrb", seed=0)
    assert len(asked["order"].dropna()) == 2 and asked["distance_better"].isna().all()


def test_other_trainings_are_asked_what_appendix_c_says():
    rec = both({n: dict(enumerate(noise(seed=i) + i)) for i, n in enumerate(("jarn", "art", "cure", "pgd", "trades"))})
    for seeds in rec.values():
        natural = seeds[0]["accuracy"]["values"]
        seeds[0]["pgd_20"] = {"values": {"index": natural["index"], "pgd_20": natural["natural"]}}
    found = effects.verdicts(rec, "others", dataset="cifar10", seed=0)["order"].dropna()
    assert found.to_dict() == {
        "text/cifar10/pgd_20/pgd_20/art>jarn": "reproduced",
        "text/cifar10/pgd_20/pgd_20/cure>art": "reproduced",
        "text/cifar10/pgd_20/pgd_20/cure>jarn": "reproduced",
        "text/cifar10/pgd_20/natural/art>cure": "not reproduced",
        "text/cifar10/pgd_20/natural/jarn>art": "not reproduced",
        "text/cifar10/pgd_20/natural/jarn>cure": "not reproduced",
    }


def test_deviations_are_those_of_the_images_and_lie_in_their_intervals():
    values = {"index": list(range(60)), "IN": [i / 60 for i in range(60)], "K": [0.5] * 60}
    records = {"art": {0: {"attribution_robustness": {"values": values}}}}
    found = effects.deviations(records, ["IN", "K"], seed=0).set_index("metric")
    spread, none = found.loc["standard deviation of IN"], found.loc["standard deviation of K"]
    assert spread["mean"] == pytest.approx(100 * np.std(values["IN"], ddof=1))
    assert spread["low"] < spread["mean"] < spread["high"] and spread["title"] == "ART"
    assert none[["mean", "low", "high"]].tolist() == [0, 0, 0]
