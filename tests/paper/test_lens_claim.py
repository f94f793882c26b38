"""The comparison behind LENS's first claim, on values made so that it holds, and so that it does not."""

import numpy as np
import pytest
import torch

from artlib import paper


def found(random, attack):
    return paper.random_against_attack(random, attack, generator=torch.Generator().manual_seed(0))


def values(n=100, *, lens=(90, 40)):
    """Plain: both lose about 60 points. Another measure: random and attack have these means."""
    noise = np.random.default_rng(0).normal(0, 3, (4, n))
    return {"IN": 40 + noise[0], "recall_1": lens[0] + noise[1]}, {"IN": 40 + noise[2], "recall_1": lens[1] + noise[3]}


def test_a_measure_that_tells_them_apart():
    random, attack = values()
    table = found(random, attack)
    assert list(table.index) == ["IN", "recall_1"]
    plain, lens = table.loc["IN"], table.loc["recall_1"]
    assert plain["low"] < 0 < plain["high"] and plain["explained"] == pytest.approx(100, abs=2)
    assert plain["verdict"] == "reproduced" and np.isnan(plain["below"])
    assert 50 < plain["low explained"] < plain["explained"] < plain["high explained"]
    assert lens["difference"] == pytest.approx(50, abs=1) and lens["explained"] == pytest.approx(100 / 6, abs=1)
    assert lens["below"] == pytest.approx(plain["explained"] - lens["explained"])
    assert lens["low below"] < lens["below"] < lens["high below"] and lens["verdict"] == "reproduced"


def test_its_interval_is_that_of_the_delta_method():
    """Of the ratio of two independent means, r/a: variance (var r + (r/a)^2 var a) / a^2."""
    random, attack = values(400)
    lens = found(random, attack).loc["recall_1"]
    variance = 0
    for name in random:
        r, a = (100 - side[name] for side in (random, attack))
        variance += (r.var() + (r.mean() / a.mean()) ** 2 * a.var()) / a.mean() ** 2 / 400
    half = 100 * 1.96 * variance**0.5
    assert lens["low below"] == pytest.approx(lens["below"] - half, abs=0.15 * half)
    assert lens["high below"] == pytest.approx(lens["below"] + half, abs=0.15 * half)


@pytest.mark.parametrize(
    ("lens", "n", "word"),
    [((70, 70), 100, "inconclusive"), ((60, 90), 100, "not reproduced"), ((90, 40), 49, "inconclusive")],
)
def test_one_that_does_not(lens, n, word):
    """That forgives both the same, that forgives the attack more, and with too few images."""
    assert found(*values(n, lens=lens)).loc["recall_1", "verdict"] == word


@pytest.mark.parametrize(("taken", "word"), [(58, "reproduced"), (30, "inconclusive"), (2, "not reproduced")])
def test_of_plain_measures_it_is_asked_whether_random_is_about_as_strong(taken, word):
    """The attack takes 60 points: nearly all of it, about half, next to nothing. K is plain, too."""
    noise = np.random.default_rng(0).normal(0, 3, (4, 100))
    sides = {"IN": 40 + noise[0], "K": 100 - taken + noise[1]}, {"IN": 40 + noise[2], "K": 40 + noise[3]}
    table = found(*sides)
    assert table["verdict"].to_dict() == {"IN": "reproduced", "K": word} and table["below"].isna().all()


def test_seeds_are_pooled_and_make_the_interval_no_narrower():
    random, attack = values()
    one, two = found(random, attack), found(*({n: [v, v] for n, v in side.items()} for side in (random, attack)))
    for column in ("random", "attack", "explained", "difference", "below"):
        np.testing.assert_allclose(one[column], two[column])
    widths = [(t["high below"] - t["low below"])["recall_1"] for t in (one, two)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_an_attack_that_takes_nothing_explains_nothing():
    same = {"IN": np.full(60, 100.0)}
    assert np.isnan(found(same, same).loc["IN", "explained"])


# ------------------------------------------------------------------ the third claim


def around(mean, n=100, seed=0):
    noise = torch.Generator().manual_seed(seed)
    return (mean + 5 * torch.randn(n, generator=noise, dtype=torch.float64)).tolist()


def advantage(**sets):
    return paper.adversarial_advantage(sets, large=("big",), generator=torch.Generator().manual_seed(0))


def test_the_advantage_vanishes_stays_or_was_not_measured():
    small = {"pgd": around(60), "natural": around(30, seed=1)}
    gone = advantage(small=small, big={"pgd": around(31, seed=2), "natural": around(30, seed=3)})
    assert gone["verdict"].to_dict() == {"small": "reproduced", "big": "reproduced"}
    assert gone.loc["small", "difference"] == pytest.approx(30, abs=2) and gone["size"].tolist() == ["small", "large"]
    stays = advantage(small=small, big={"pgd": around(60, seed=2), "natural": around(30, seed=3)})
    assert stays.loc["big", "verdict"] == "not reproduced"
    between = advantage(small=small, big={"pgd": around(45, seed=2), "natural": around(30, seed=3)})
    few = advantage(small=small, big={"pgd": around(31, 20), "natural": around(30, 20)})
    assert between.loc["big", "verdict"] == few.loc["big", "verdict"] == "inconclusive"
    blank = advantage(small=small)
    assert blank.loc["big", "verdict"] == "not measured" and blank.loc["big"].isna().sum() == 6
    named = {"CIFAR-10, 10,000 images": small, "ImageNet_samples, quick preset": {k: around(31) for k in small}}
    told = paper.adversarial_advantage(named, generator=torch.Generator().manual_seed(0))
    assert told["size"].tolist() == ["small", "large"] and told["verdict"].tolist() == ["reproduced", "reproduced"]
    half = advantage(small={"pgd": around(60)}, big={"pgd": around(31), "natural": around(30)})
    assert half["verdict"].tolist() == ["not measured", "inconclusive"]  # no small lead to compare with


def kept(of_art, of_natural, images=80, seeds=1, forgiven=0.6):
    """IN and LENS of both, as means: what `agreement_or_jitter` says of one data set."""
    exact, tolerant = (
        {
            "set": {
                "art": [around(a, images, seed) for seed in range(seeds)],
                "natural": [around(n, images, 9 + seed) for seed in range(seeds)],
            }
        }
        for a, n in zip(of_art, of_natural, strict=True)
    )
    chance, noise = {"set": forgiven}, torch.Generator().manual_seed(0)
    return paper.agreement_or_jitter(exact, tolerant, forgiven=chance, generator=noise).loc["set"]


def test_a_lead_that_lens_forgives_more_than_chance_does_was_jitter():
    assert kept((60, 90), (30, 70), seeds=2)["verdict"] == "agreement"
    gone = kept((60, 90), (30, 90))
    assert gone["verdict"] == "jitter" and gone["by chance"] == pytest.approx(0.4 * gone["difference"])
    assert kept((30, 90), (60, 90))["verdict"] == "no lead"
    few = kept((60, 90), (30, 90), images=20)
    assert few["verdict"] == "inconclusive" and "20 images" in few["why"]
    assert kept((60, 90), (60, 90))["verdict"] == "inconclusive"
    nothing = kept((60, 90), (30, 90), forgiven=0.99)  # would be left by chance
    assert nothing["verdict"] == "inconclusive" and nothing["why"] == "the interval of left holds by chance"
    told = kept((60, 91), (30, 90))
    assert told["difference"] == pytest.approx(30, abs=2) and told["left"] == pytest.approx(1, abs=2)


def test_a_lead_of_which_less_is_left_than_by_chance_is_no_agreement():
    """Of 30 points chance leaves 12: 4 are jitter though they are a lead themselves, 12 tell nothing, 20 agreement."""
    words = {left: kept((60, 70 + left), (30, 70)) for left in (4, 12, 20)}
    assert all(row["left"] == pytest.approx(left, abs=2) and row["low left"] > 1 for left, row in words.items())
    assert [row["verdict"] for row in words.values()] == ["jitter", "inconclusive", "agreement"]
    assert [row["why"] for row in words.values()] == ["", "the interval of left holds by chance", ""]
    assert kept((60, 70), (30, 90))["verdict"] == "jitter"  # by LENS the other is ahead
    small = kept((60, 70.5), (30, 70), images=4000, forgiven=0.999)  # above by chance, and less than a point
    assert small["verdict"] == "inconclusive" and small["why"].startswith("of left: ")
