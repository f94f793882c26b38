"""The worst of several attacks on an explanation."""

import torch
from known_models import network, pictures

from artlib.measurements import AttributionRobustness, OtherAttribution, OtherWorstCase, WorstCase
from artlib.measurements.worst_case import worst

SMALL = dict(images=6, k=8, steps=2, ig_steps=3, attack_ig_steps=3, chunk=64)


def test_the_least_counts_for_in_and_for_k_each_on_its_own_and_nan_is_no_attack():
    nan = torch.nan
    first = {"IN": torch.tensor([0.5, 0.5, nan]), "K": torch.tensor([0.1, 0.1, nan])}
    second = {"IN": torch.tensor([0.2, nan, 0.4]), "K": torch.tensor([0.3, nan, 0.6])}  # no mean over other images
    found = worst([first, second])
    torch.testing.assert_close(found["IN_worst"], torch.tensor([0.2, 0.5, nan]), equal_nan=True)
    torch.testing.assert_close(found["K_worst"], torch.tensor([0.1, 0.1, nan]), equal_nan=True)
    torch.testing.assert_close(found["IN_one"], first["IN"], equal_nan=True)
    assert found["found_by"][:2].tolist() == [1, 0]


def test_one_attack_is_the_papers_and_none_does_worse_than_the_worst():
    asked, model, images = WorstCase(**SMALL), network(), pictures()
    found = asked(model, images, progress=False)
    paper = AttributionRobustness(**SMALL)(model, images, progress=False)
    assert found["index"].tolist() == paper["index"].tolist()
    for measure in ("IN", "K"):
        torch.testing.assert_close(found[f"{measure}_one"], paper[measure], rtol=0, atol=0)
        for attack in asked.attacks.values():
            each = asked.compare(attack.attack(model, images.subset(found["index"]), progress=False))[measure]
            assert (found[f"{measure}_worst"] <= each).all()
    assert (found["K_worst"] < found["K_one"]).any()


def test_every_attack_differs_from_the_papers_and_only_what_goes_together_is_tried():
    attacks = WorstCase(restarts=1).attacks
    assert len(set(attacks.values())) == len(attacks) == 6
    assert all(type(a) is AttributionRobustness for a in attacks.values())
    plain = WorstCase(attribution="gradient", objective="mass_center", restarts=0).attacks
    assert list(plain) == ["paper", "longer"]


def test_maps_that_draw_keep_their_settings_under_every_attack():
    noisy = SMALL | dict(attribution="smoothgrad", sigma=0.3)
    asked, model, images = OtherWorstCase(**noisy), network(), pictures()
    assert {(type(a), a.sigma) for a in asked.attacks.values()} == {(OtherAttribution, 0.3)}
    found, one = (m(model, images, progress=False) for m in (asked, OtherAttribution(**noisy)))
    torch.testing.assert_close(found["IN_one"], one["IN"], rtol=0, atol=0)
    without = OtherWorstCase.like(WorstCase(**SMALL, attribution="smoothgrad"), sigma=0.0)(
        model, images, progress=False
    )
    assert (found["IN_worst"] <= found["IN_one"]).all() and (found["K_one"] != without["K_one"]).any()
