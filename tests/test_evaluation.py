"""One model is judged as Table 1 does it: on networks whose robustness is known, and against SciPy and plain loops."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import nn

from artlib import evaluation
from artlib.data import ImageSet
from artlib.evaluation import Evaluation, judge, manipulate, paper_evaluation

QUICK = Evaluation(images=6, k=5, steps=4, step_size=0.02, eps=0.06, ig_steps=4, attack_ig_steps=4, pgd_steps=5)


def halves() -> nn.Module:
    """f(x) = the sums of x over the upper and the lower half of a 4 x 4 image: linear, as pixels are not negative."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False), nn.ReLU()).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2).repeat_interleave(8, 1))
    return model.eval()


def half_bright(differences: list[int], labels: list[int]) -> ImageSet:
    """4 x 4 images of grey level 100 whose half `label` is brighter by so many levels."""
    images = torch.full((len(labels), 1, 4, 4), 100, dtype=torch.uint8)
    for image, level, y in zip(images, differences, labels, strict=True):
        image[0, 2 * y : 2 * y + 2] += level
    return ImageSet(images, torch.tensor(labels), ("upper", "lower"), name="halves", split="test")


def network(channels: int = 3) -> nn.Module:
    """A random ReLU network for 6 x 6 images, 3 classes."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(216, 12), nn.ReLU(), nn.Linear(12, 3)
    )
    return model.double().eval()


def pictures(n: int = 20) -> ImageSet:
    """Noise with the labels that `network` gives it, except for every fifth image."""
    images = torch.randint(0, 256, (n, 3, 6, 6), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    labels = network()(images.double() / 255).argmax(1)
    labels[::5] = (labels[::5] + 1) % 3
    return ImageSet(images, labels, ("a", "b", "c"), name="noise", split="test")


def quiet(function, *args):
    return function(*args, progress=False)


# ------------------------------------------------------------------ the papers' settings


@pytest.mark.parametrize(
    ("dataset", "k", "steps"), [("cifar10", 100, 50), ("svhn", 100, 50), ("gtsrb", 100, 50), ("flower17", 1000, 100)]
)
def test_the_papers_evaluation(dataset, k, steps):
    """ART, appendix A.3.5."""
    e = paper_evaluation(dataset)
    assert (e.k, e.steps, e.images, e.sample, e.pgd_steps, e.accuracy_images) == (k, steps, 1000, "random", 40, None)
    assert [255 * v for v in (e.eps, e.step_size)] == pytest.approx([8, 1])
    assert (e.beta, e.threshold, e.random_start, e.candidates, e.selection) == (50, None, False, "after", "kendall")
    assert (e.score_target, e.score_rule, e.ig_rule, e.ig_steps) == ("logit", "right", "right", 100)


def test_the_authors_evaluation():
    e = paper_evaluation("cifar10", protocol="authors")
    assert e.threshold == 20  # C-14
    assert (e.score_target, e.score_rule, e.ig_rule) == ("loss", "trapezoid", "right")  # C-19
    assert (e.selection, e.candidates) == ("kendall-on-topk", "before")  # C-21, C-22
    assert (e.sample, e.random_start, e.hold_factor) == ("first", True, True)  # C-24 to C-26


def test_digits_are_judged_as_in_chen_et_al():
    for dataset, eps in (("mnist", 0.3), ("fashion_mnist", 0.1)):
        e = paper_evaluation(dataset)
        assert (e.eps, e.step_size, e.steps, e.k) == (eps, 0.01, 100, 100)


def test_changes_go_over_the_paper_and_unknown_names_are_refused():
    assert paper_evaluation("flower17", k=7) == replace(paper_evaluation("flower17"), k=7)
    with pytest.raises(ValueError, match="unknown protocol 'code'; choose one of paper, authors"):
        paper_evaluation("cifar10", protocol="code")
    with pytest.raises(TypeError):
        paper_evaluation("cifar10", top=7)


def test_settings_are_plain_data():
    assert Evaluation(**json.loads(json.dumps(asdict(QUICK)))) == QUICK


# ------------------------------------------------------------------ which images


def test_attacked_images_are_correct_ones_in_order():
    images = half_bright([40] * 10, [0, 1] * 5)
    images = replace(images, labels=torch.tensor([0, 1, 1, 1, 0, 0, 0, 1, 0, 0]))  # 2, 5 and 9 are wrong
    right = {0, 1, 3, 4, 6, 7, 8}
    first = evaluation.attacked_images(halves(), images, Evaluation(sample="first", images=5))
    assert first.tolist() == [0, 1, 3, 4, 6]
    drawn = evaluation.attacked_images(halves(), images, Evaluation(images=1000)).tolist()
    assert set(drawn) == right and len(drawn) == len(right) and drawn != sorted(drawn)
    assert evaluation.attacked_images(halves(), images, Evaluation(images=3)).tolist() == drawn[:3]
    orders = {tuple(evaluation.attacked_images(halves(), images, Evaluation(seed=s)).tolist()) for s in range(5)}
    assert len(orders) == 5 and tuple(drawn) in orders


def test_two_models_are_attacked_in_one_order():
    """What both classify correctly comes in the same order, so that their tables speak of the same images."""
    images = half_bright([40] * 12, [0, 1] * 6)
    both = evaluation.attacked_images(halves(), images, Evaluation()).tolist()
    one_sided = halves()
    with torch.no_grad():
        one_sided[1].weight[0] += 1  # always "upper"
    some = evaluation.attacked_images(one_sided, images, Evaluation()).tolist()
    assert some == [i for i in both if images.labels[i] == 0]


def test_predictions():
    images = half_bright([3, 1, 2, 9, 5], [0, 1, 1, 0, 1])
    for size in (1, 2, 500):
        assert evaluation.predictions(halves(), images, batch_size=size).tolist() == [0, 1, 1, 0, 1]
    assert evaluation.predictions(halves(), images.subset([])).shape == (0,)


# ------------------------------------------------------------------ accuracy


@pytest.mark.parametrize("sample", ["random", "first"])
def test_pgd_flips_exactly_the_images_whose_margin_is_below_2_eps(sample):
    """Every pixel moves by eps, so bright minus dark falls by 2 eps = 16 levels: a proof for this linear network."""
    levels = [4, 40, 15, 17, 8, 18]
    e = replace(QUICK, eps=8 / 255, pgd_steps=40, pgd_step_size=2 / 255, sample=sample)
    record = quiet(judge, halves(), half_bright(levels, [0, 1, 1, 0, 0, 1]), e)["accuracy"]
    assert record["natural"] == [1] * 6
    by_index = dict(zip(record["index"], record["adversarial"], strict=True))
    assert by_index == {i: int(level > 16) for i, level in enumerate(levels)}


def test_accuracy_is_over_a_fixed_random_part_of_the_test_set():
    images = pictures()
    whole = quiet(judge, network(), images, QUICK)["accuracy"]
    assert sorted(whole["index"]) == list(range(20))
    truth = (network()(images.images.double() / 255).argmax(1) == images.labels).int()
    assert whole["natural"] == truth[whole["index"]].tolist() and sum(whole["natural"]) == 16
    wide = quiet(judge, network(), images, replace(QUICK, eps=0.5, pgd_step_size=0.2))["accuracy"]
    assert sum(wide["adversarial"]) < 16 and wide["natural"] == whole["natural"]
    assert all(a <= n for a, n in zip(wide["adversarial"], wide["natural"], strict=True))
    part = quiet(judge, network(), images, replace(QUICK, accuracy_images=7, images=2))["accuracy"]
    assert part["index"] == whole["index"][:7] and part["natural"] == whole["natural"][:7]


def test_pgd_with_radius_0_changes_no_prediction():
    record = quiet(judge, network(), pictures(), replace(QUICK, eps=0.0))["accuracy"]
    assert record["adversarial"] == record["natural"]


# ------------------------------------------------------------------ attribution


def intersection(a: np.ndarray, b: np.ndarray, k: int) -> float:
    tops = [set(np.argsort(-m.ravel(), kind="stable")[:k]) for m in (a, b)]
    return len(tops[0] & tops[1]) / k


@pytest.mark.parametrize("protocol", ["paper", "authors"])
def test_the_measures_are_those_of_the_maps(protocol):
    e = replace(QUICK, **evaluation.AUTHORS_EVALUATION) if protocol == "authors" else QUICK
    images = pictures()
    record = quiet(judge, network(), images, e)["attribution"]
    assert len(record["index"]) == 6 and {len(column) for column in record.values()} == {6}
    assert not set(record["index"]) & {0, 5, 10, 15}  # the misclassified ones
    found = quiet(manipulate, network(), images.subset(record["index"]), e)
    assert "kept" in record["status"]
    for i, (a, b) in enumerate(zip(found.before.numpy(), found.after.numpy(), strict=True)):
        assert record["IN"][i] == pytest.approx(intersection(a, b, e.k))
        assert record["K"][i] == pytest.approx(scipy.stats.kendalltau(a, b).statistic, abs=1e-12)
        assert record["spearman"][i] == pytest.approx(scipy.stats.spearmanr(a, b, axis=None).statistic, abs=1e-12)
        assert record["cosine"][i] == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-12)
    x = images.images[record["index"]].double() / 255
    assert (found.x_adv - x).abs().max() <= e.eps + 1e-12
    kept = network()(found.x_adv).argmax(1) == images.labels[record["index"]]
    assert kept.all()


def plain_map(x: torch.Tensor, y: torch.Tensor, m: int, protocol: str) -> torch.Tensor:
    """Integrated gradients from 0, image by image: right sum of the logit, or trapezoid of the cross-entropy (C-19)."""
    points = {"paper": range(1, m + 1), "authors": range(m + 1)}[protocol]
    total = torch.zeros_like(x)
    for i in points:
        at = (x * i / m).requires_grad_()
        out = network()(at)
        value = out[0, y] if protocol == "paper" else F.cross_entropy(out, y[None])
        weight = 0.5 if protocol == "authors" and i in (0, m) else 1.0
        total += weight / m * torch.autograd.grad(value, at)[0]
    saliency = (x * total).abs().sum((0, 1))
    return saliency * saliency.numel() / saliency.sum()


@pytest.mark.parametrize("protocol", ["paper", "authors"])
def test_maps_that_are_scored(protocol):
    e = replace(QUICK, **evaluation.AUTHORS_EVALUATION) if protocol == "authors" else QUICK
    images = pictures().subset([1, 2, 3])
    found = quiet(manipulate, network(), images, e)
    x = images.images.double() / 255
    for i, y in enumerate(images.labels):
        torch.testing.assert_close(found.before[i], plain_map(x[i : i + 1], y, e.ig_steps, protocol))
        torch.testing.assert_close(found.after[i], plain_map(found.x_adv[i : i + 1], y, e.ig_steps, protocol))


def test_ifia_lowers_the_correlation_and_a_wider_ball_lowers_it_more():
    means = []
    for eps in (0.01, 0.1):
        e = replace(QUICK, images=16, eps=eps, steps=8, step_size=eps / 4)
        means.append(np.mean(quiet(judge, network(), pictures(), e)["attribution"]["K"]))
    assert means[1] < means[0] < 1


@pytest.mark.parametrize("protocol", ["paper", "authors"])
def test_an_image_without_a_kept_step_counts_as_unmoved(protocol):
    e = replace(QUICK, **evaluation.AUTHORS_EVALUATION) if protocol == "authors" else QUICK
    record = quiet(judge, network(), pictures(), replace(e, steps=0))
    attribution = record["attribution"]
    assert attribution["status"] == ["no label-preserving step"] * 6
    for measure in ("IN", "K", "spearman", "cosine"):
        assert attribution[measure] == pytest.approx([1] * 6)
    assert evaluation.kept(record) == [False] * 6


@pytest.mark.parametrize("protocol", ["paper", "authors"])
def test_a_black_image_has_a_constant_map_and_counts_as_unmoved(protocol):
    """x = 0 is its own baseline: its map is 0 everywhere and has no rank correlation."""
    images = half_bright([40, 40], [0, 1])
    images = replace(images, images=images.images * torch.tensor([0, 1], dtype=torch.uint8).reshape(2, 1, 1, 1))
    e = replace(QUICK, **evaluation.AUTHORS_EVALUATION) if protocol == "authors" else QUICK
    record = quiet(judge, halves(), images, e)["attribution"]
    (black,) = [i for i, index in enumerate(record["index"]) if index == 0]
    assert record["status"][black] == "no label-preserving step"
    assert [record[measure][black] for measure in ("IN", "K", "spearman", "cosine")] == [1] * 4


def test_kept_tells_the_images_that_moved():
    status = ["kept", "no label-preserving step", "misclassified before", "kept"]
    assert evaluation.kept({"attribution": {"status": status}}) == [True, False, False, True]


def test_a_seed_gives_one_record_and_it_is_plain_data():
    e = replace(QUICK, random_start=True)
    record = quiet(judge, network(), pictures(), e)
    assert json.loads(json.dumps(record)) == record == quiet(judge, network(), pictures(), e)
    assert quiet(judge, network(), pictures(), replace(e, seed=1)) != record
    assert set(record) == {"attribution", "accuracy"}
    for measure in ("IN", "K", "spearman", "cosine"):
        low = 0 if measure == "IN" else -1
        assert all(low <= v <= 1 for v in record["attribution"][measure])


def test_batches_do_not_change_the_maps():
    images = pictures().subset([1, 2, 3, 4])
    one, all_ = (quiet(manipulate, network(), images, replace(QUICK, rows=rows)) for rows in (4, 200))
    torch.testing.assert_close(one.x_adv, all_.x_adv, rtol=0, atol=1e-12)
    assert one.kept_step.tolist() == all_.kept_step.tolist()


@pytest.mark.parametrize(("rows", "points", "batch"), [(400, 8, 50), (400, 100, 4), (9, 4, 2), (3, 4, 1)])
def test_as_many_images_are_attacked_together_as_rows_allow(rows, points, batch, monkeypatch):
    attacked = []

    def spy(*args, batch_size, **options):
        attacked.append(batch_size)
        return ifia(*args, batch_size=batch_size, **options)

    ifia = evaluation.ifia
    monkeypatch.setattr(evaluation, "ifia", spy)
    e = replace(QUICK, rows=rows, attack_ig_steps=points, steps=1)
    quiet(manipulate, network(), pictures().subset([1, 2]), e)
    assert attacked == [batch]


# ------------------------------------------------------------------ one image for several models


class Says(nn.Module):
    """Predicts the class given for each image, told apart by its first pixel."""

    def __init__(self, answers: list[int]):
        super().__init__()
        self.answers = nn.Parameter(torch.tensor(answers).double())

    def forward(self, x):
        index = (255 * x[:, 0, 0, 0]).round().long()
        return F.one_hot(self.answers.detach()[index].long(), 3).double()


def test_the_first_image_that_all_classify_correctly():
    images = torch.zeros(5, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(5)
    images = ImageSet(images, torch.tensor([0, 1, 2, 0, 1]), ("a", "b", "c"), name="five", split="test")
    models = {"one": Says([1, 1, 2, 0, 1]), "two": Says([0, 0, 2, 0, 1])}
    one = evaluation.first_correct(models, images)  # 3 and 4 would do as well
    assert isinstance(one, ImageSet) and (one.name, one.split, one.classes) == ("five", "test", images.classes)
    assert one.labels.tolist() == [2] and torch.equal(one.images, images.images[2:3])
    with pytest.raises(ValueError, match="none of 5 images is classified correctly by all of one, two, three"):
        evaluation.first_correct(models | {"three": Says([1, 2, 0, 1, 2])}, images)


# ------------------------------------------------------------------ errors


def test_k_larger_than_the_map():
    with pytest.raises(ValueError, match="k is 37; images of 6x6 have 36 pixels: lower k"):
        quiet(judge, network(), pictures(), replace(QUICK, k=37))


def test_a_model_that_is_never_right():
    images = half_bright([40, 40], [0, 1])
    images = replace(images, labels=1 - images.labels)
    with pytest.raises(ValueError, match="classifies none of 2 test images correctly: nothing to attack"):
        quiet(judge, halves(), images, QUICK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(eps=8.0), "write 8/255, not 8"),
        (dict(selection="best"), "unknown selection 'best'"),
        (dict(ig_rule="simpson"), "unknown rule 'simpson'"),
        (dict(score_target="probability"), "unknown target 'probability'"),
    ],
)
def test_settings_that_cannot_be_meant(change, message):
    with pytest.raises(ValueError, match=message):
        quiet(judge, network(), pictures(), replace(QUICK, **change))
