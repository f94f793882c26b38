"""Accuracy under PGD: a linear network whose margins are known, and networks whose gradients say nothing."""

from dataclasses import replace

import pytest
import torch
from known_models import Useless, half_bright, halves, network, pictures

from artlib.data import SETS
from artlib.measurements import Accuracy, Pgd20
from artlib.models import BatchNorm2d

QUICK = Accuracy(eps=0.06, steps=5)


def measure(model, images, settings=QUICK) -> dict[str, list]:
    return {name: column.tolist() for name, column in settings(model, images, progress=False).items()}


# ------------------------------------------------------------------ the papers' settings


def test_the_papers_settings():
    """ART, appendix A.3.5: PGD-40 on the whole test set."""
    for dataset in ("cifar10", "svhn", "gtsrb", "flower17"):
        m = Accuracy.of(dataset)
        assert (m.images, m.steps, m.restarts, m.loss) == (None, 40, 1, "cross-entropy")
        assert [255 * v for v in (m.eps, m.step_size)] == pytest.approx([8, 2])
        assert m == Accuracy() == Accuracy.of(dataset, protocol="authors") == Accuracy.of(dataset, protocol="text")
    assert [255 * v for v in (Accuracy.of("cub200").eps, Accuracy.of("cub200").step_size)] == pytest.approx([2, 0.5])


def test_digits_are_measured_as_in_chen_et_al():
    for dataset, eps in (("mnist", 0.3), ("fashion_mnist", 0.1)):
        assert (Accuracy.of(dataset).eps, Accuracy.of(dataset).step_size) == (eps, 0.01)


def test_pgd_20_is_accuracy_under_20_steps():
    assert {Pgd20.of(d, preset=p).steps for d in SETS for p in ("quick", "cpu", "gpu", "paper")} == {20}
    small = dict(eps=0.2, step_size=1 / 255)  # so that 40 steps find more
    found = measure(network(), pictures(), Pgd20(**small))
    in_20, in_40 = (measure(network(), pictures(), Accuracy(steps=s, **small)) for s in (20, 40))
    assert found["index"] == in_20["index"] and found["pgd_20"] == in_20["adversarial"] != in_40["adversarial"]


def test_presets_and_changes_go_over_the_paper():
    assert Accuracy.of("cub200", preset="smoke", steps=2) == replace(Accuracy.of("cub200"), images=50, steps=2)
    assert {Accuracy.of(d, preset="paper").images for d in SETS} == {None}
    with pytest.raises(TypeError):
        Accuracy.of("cifar10", top=7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(eps=8.0), "eps is 8.0; it must be a number from 0 to 1"),
        (dict(steps=-1), "steps is -1; it must be an integer, 0 or more"),
        (dict(restarts=0), "restarts is 0; it must be an integer, 1 or more"),
        (dict(images=0), "images is 0; it must be an integer, 1 or more"),
        (dict(loss="hinge"), "unknown loss 'hinge'; choose one of cross-entropy, margin"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant(change, message):
    with pytest.raises(ValueError, match=message):
        replace(QUICK, **change)


# ------------------------------------------------------------------ what is measured


@pytest.mark.parametrize("loss", ["cross-entropy", "margin"])
def test_pgd_flips_exactly_the_images_whose_margin_is_below_2_eps(loss):
    """Every pixel moves by eps, so bright minus dark falls by 2 eps = 16 levels: a proof for this linear network."""
    levels = [4, 40, 15, 17, 8, 18]
    found = measure(halves(), half_bright(levels, [0, 1, 1, 0, 0, 1]), Accuracy(loss=loss))
    assert found["natural"] == [1] * 6 and found["vanished"] == [0] * 6
    by_index = dict(zip(found["index"], found["adversarial"], strict=True))
    assert by_index == {i: int(level > 16) for i, level in enumerate(levels)}


def test_accuracy_is_over_a_fixed_random_part_of_the_test_set():
    images = pictures()
    whole = measure(network(), images)
    assert sorted(whole["index"]) == list(range(20)) != whole["index"]
    truth = (network()(images.images.double() / 255).argmax(1) == images.labels).int()
    assert whole["natural"] == truth[whole["index"]].tolist() and sum(whole["natural"]) == 16
    wide = measure(network(), images, replace(QUICK, eps=0.5, step_size=0.2))
    assert sum(wide["adversarial"]) < 16 and wide["natural"] == whole["natural"]
    assert all(a <= n for a, n in zip(wide["adversarial"], wide["natural"], strict=True))
    part = measure(network(), images, replace(QUICK, images=7))
    assert part["index"] == whole["index"][:7] and part["natural"] == whole["natural"][:7]
    assert measure(network(), images, replace(QUICK, images=100))["index"] == whole["index"]


def test_two_models_are_measured_on_the_same_images_in_one_order():
    other = network()
    with torch.no_grad():
        other[-1].bias.add_(torch.tensor([5.0, 0, 0]))
    a, b = (measure(m, pictures(), replace(QUICK, images=9)) for m in (network(), other))
    assert a["index"] == b["index"] and a["natural"] != b["natural"]


def test_without_steps_nothing_has_vanished():
    """What is measured is the random start, here a ball of one point."""
    found = measure(network(), pictures(), replace(QUICK, steps=0, eps=0.0))
    assert found["adversarial"] == found["natural"] and not any(found["vanished"])


def test_a_seed_gives_one_result():
    assert measure(network(), pictures()) == measure(network(), pictures())
    orders = {tuple(measure(network(), pictures(), replace(QUICK, seed=s, steps=0))["index"]) for s in range(3)}
    assert len(orders) == 3


def test_more_restarts_are_never_weaker():
    one, five = (measure(network(), pictures(), replace(QUICK, eps=0.1, restarts=r)) for r in (1, 5))
    assert all(b <= a for a, b in zip(one["adversarial"], five["adversarial"], strict=True))


# ------------------------------------------------------------------ gradients that say nothing


@pytest.mark.parametrize("factor", [float("nan"), 0.0])
def test_a_model_without_gradients_does_not_score(factor):
    """It predicts as the network does, PGD cannot move a pixel uphill, and that is no accuracy under attack."""
    found = measure(Useless(network(), factor), pictures())
    honest = measure(network(), pictures())
    assert found["natural"] == honest["natural"] and sum(found["natural"]) == 16
    assert found["vanished"] == [1] * 20
    for natural, adversarial in zip(found["natural"], found["adversarial"], strict=True):
        assert adversarial != adversarial or not natural
    assert not any(v == 1 for v in found["adversarial"])


def test_an_image_without_gradient_is_counted_alone():
    """Cross-entropy that is 0 in the last bit has a gradient of 0: saturated, not robust. The margin still has one."""
    model = halves()
    with torch.no_grad():
        model[1].weight.mul_(1e4)
    images = half_bright([150, 0], [0, 1])  # the second: a tie, misclassified as 0
    found = measure(model, images, Accuracy(steps=3))
    by_index = {i: (v, a) for i, v, a in zip(found["index"], found["vanished"], found["adversarial"], strict=True)}
    assert by_index[0][0] == 1 and by_index[0][1] != by_index[0][1] and by_index[1] == (0, 0)
    sure = measure(model, images, Accuracy(steps=3, loss="margin"))
    assert sure["vanished"] == [0, 0] and dict(zip(sure["index"], sure["adversarial"], strict=True)) == {0: 1, 1: 0}


# ------------------------------------------------------------------ the model is left as it was


def test_a_model_in_train_mode_is_measured_in_eval_mode_and_left_as_it_was():
    model = torch.nn.Sequential(BatchNorm2d(3), torch.nn.Dropout(0.9), network()).double()
    images, eval_mode = pictures(), measure(model.eval(), pictures())
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert measure(model.train(), images) == eval_mode
    assert model.training and model[0].training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
