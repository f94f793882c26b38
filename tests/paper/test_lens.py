"""The comparison behind LENS's first claim, on values made so that it holds, and so that it does not."""

import numpy as np
import pytest
import torch

from artlib import paper


def found(random, attack):
    return paper.random_against_attack(random, attack, generator=torch.Generator().manual_seed(0))


def values(n=100):
    """Plain: both lose 60 points. A tolerant measure: random is forgiven all but 10 of them, the attack nothing."""
    noise = np.random.default_rng(0).normal(0, 3, n)
    return {"IN": 40 + noise, "recall_1": 90 + noise}, {"IN": 40 - noise, "recall_1": 40 - noise}


def test_a_measure_that_tells_them_apart():
    table = found(*values())
    assert list(table.index) == ["IN", "recall_1"]
    plain, lens = table.loc["IN"], table.loc["recall_1"]
    assert plain["verdict"] == "inconclusive" and plain["low"] < 0 < plain["high"]
    assert plain["explained"] == pytest.approx(100, abs=3) and plain["forgiven"] != plain["forgiven"]
    assert lens["verdict"] == lens["verdict forgiven"] == "reproduced" and lens["difference"] == pytest.approx(
        50, abs=2
    )
    assert lens["forgiven"] == pytest.approx(lens["difference"] - plain["difference"])
    assert lens["explained"] == pytest.approx(100 * (100 - lens["random"]) / (100 - lens["attack"]))
    assert lens["explained"] < 20
    assert lens["low forgiven"] < lens["forgiven"] < lens["high forgiven"]


def test_a_measure_that_forgives_both_the_same():
    random, attack = values()
    random["recall_1"], attack["recall_1"] = random["IN"] + 20, attack["IN"] + 20
    lens = found(random, attack).loc["recall_1"]
    assert lens["forgiven"] == pytest.approx(0, abs=1e-9) and lens["verdict forgiven"] == "inconclusive"


def test_seeds_are_pooled():
    random, attack = values()
    two = [{name: [v, v] for name, v in side.items()} for side in (random, attack)]
    one, both = found(random, attack), found(*two)
    for column in ("random", "attack", "explained", "difference", "forgiven"):
        np.testing.assert_allclose(one[column], both[column])


def test_an_attack_that_does_nothing_explains_nothing():
    same = {"IN": np.full(60, 100.0)}
    assert np.isnan(found(same, same).loc["IN", "explained"])
