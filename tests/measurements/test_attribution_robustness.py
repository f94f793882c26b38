"""IN and K under IFIA: against SciPy and plain loops, and on maps and gradients that say nothing."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from known_models import Useless, half_bright, halves, network, pictures

from artlib.attacks import KEPT, MISCLASSIFIED, NO_GRADIENT, NO_STEP, STATUS
from artlib.attributions import ATTRIBUTIONS, Explainer
from artlib.digest import code_digest
from artlib.measurements import AttributionRobustness
from artlib.measurements.attribution_robustness import WINDOWS

QUICK = AttributionRobustness(images=6, k=5, steps=4, step_size=0.02, eps=0.06, ig_steps=4, attack_ig_steps=4)
MEASURES = ("IN", "K", "spearman", "cosine")
PROTOCOLS = {"paper": QUICK, "authors": replace(QUICK, **AttributionRobustness.protocols["authors"])}
each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
module = sys.modules[AttributionRobustness.__module__]


def measure(model, images, settings=QUICK) -> dict[str, list]:
    return {name: column.tolist() for name, column in settings(model, images, progress=False).items()}


# ------------------------------------------------------------------ the papers' settings


@pytest.mark.parametrize(
    ("dataset", "k", "steps"), [("cifar10", 100, 50), ("svhn", 100, 50), ("gtsrb", 100, 50), ("flower17", 1000, 100)]
)
def test_the_papers_settings(dataset, k, steps):
    """ART, appendix A.3.5."""
    m = AttributionRobustness.of(dataset)
    assert (m.k, m.steps, m.images, m.sample) == (k, steps, 1000, "random")
    assert [255 * v for v in (m.eps, m.step_size)] == pytest.approx([8, 1])
    assert (m.beta, m.threshold, m.random_start, m.candidates, m.criterion) == (50, None, False, "after", "kendall")
    assert (m.score_target, m.score_rule, m.ig_rule, m.ig_steps, m.objective) == (
        "logit",
        "right",
        "right",
        100,
        "topk",
    )
    assert m == AttributionRobustness.of(dataset, protocol="text")


def test_the_authors_settings():
    m = AttributionRobustness.of("cifar10", protocol="authors")
    assert m.threshold == 20  # C-14
    assert (m.score_target, m.score_rule, m.ig_rule) == ("loss", "trapezoid", "right")  # C-19
    assert (m.criterion, m.candidates) == ("kendall-on-topk", "before")  # C-21, C-22
    assert (m.sample, m.random_start, m.hold_factor) == ("first", True, True)  # C-24 to C-26


def test_digits_are_measured_as_in_chen_et_al():
    for dataset, eps in (("mnist", 0.3), ("fashion_mnist", 0.1)):
        m = AttributionRobustness.of(dataset)
        assert (m.eps, m.step_size, m.steps, m.k) == (eps, 0.01, 100, 100)


def test_changes_go_over_the_preset_over_the_protocol_over_the_paper():
    found = AttributionRobustness.of("flower17", protocol="authors", preset="smoke", k=7)
    assert (found.k, found.steps, found.ig_steps, found.threshold) == (7, 3, 4, 20.0)
    with pytest.raises(TypeError):
        AttributionRobustness.of("cifar10", top=7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(eps=8.0), "eps is 8.0; it must be a number from 0 to 1"),
        (dict(k=0), "k is 0; it must be an integer, 1 or more"),
        (dict(beta=0.0), "beta is 0.0; it must be a number above 0"),
        (dict(sample="Random"), "unknown sample 'Random'; choose one of random, first"),
        (dict(criterion="best"), "unknown criterion 'best'; choose one of kendall, kendall-on-topk"),
        (dict(objective="best"), "unknown objective 'best'; choose one of topk"),
        (dict(candidates="all"), "unknown candidates 'all'; choose one of after, before"),
        (dict(ig_rule="simpson"), "unknown ig_rule 'simpson'; choose one of .*right"),
        (dict(score_rule="simpson"), "unknown score_rule 'simpson'; choose one of .*trapezoid"),
        (dict(score_target="probability"), "unknown score_target 'probability'; choose one of logit, loss"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_meant_are_refused_when_they_are_made(change, message):
    with pytest.raises(ValueError, match=message):
        replace(QUICK, **change)


# ------------------------------------------------------------------ which images


def test_attacked_images_are_correct_ones_in_order():
    images = half_bright([40] * 10, [0, 1] * 5)
    images = replace(images, labels=torch.tensor([0, 1, 1, 1, 0, 0, 0, 1, 0, 0]))  # 2, 5 and 9 are wrong
    right = {0, 1, 3, 4, 6, 7, 8}
    first = AttributionRobustness(sample="first", images=5).chosen(halves(), images)
    assert first.tolist() == [0, 1, 3, 4, 6]
    drawn = AttributionRobustness(images=1000).chosen(halves(), images).tolist()
    assert set(drawn) == right and len(drawn) == len(right) and drawn != sorted(drawn)
    assert AttributionRobustness(images=None).chosen(halves(), images).tolist() == drawn
    assert AttributionRobustness(images=3).chosen(halves(), images).tolist() == drawn[:3]
    orders = {tuple(AttributionRobustness(seed=s).chosen(halves(), images).tolist()) for s in range(5)}
    assert len(orders) == 5 and tuple(drawn) in orders


def test_two_models_are_attacked_in_one_order():
    """What both classify correctly comes in the same order, so that their tables speak of the same images."""
    images, m = half_bright([40] * 12, [0, 1] * 6), replace(QUICK, images=12)
    both = m.chosen(halves(), images).tolist()
    one_sided = halves()
    with torch.no_grad():
        one_sided[1].weight[0] += 1  # always "upper"
    assert m.chosen(one_sided, images).tolist() == [i for i in both if images.labels[i] == 0]


# ------------------------------------------------------------------ the measures


def intersection(a: np.ndarray, b: np.ndarray, k: int) -> float:
    tops = [set(np.argsort(-m.ravel(), kind="stable")[:k]) for m in (a, b)]
    return len(tops[0] & tops[1]) / k


def top_pixels(m: np.ndarray, k: int, w: int) -> list[tuple[int, int]]:
    return [divmod(int(i), m.shape[1]) for i in np.argsort(-m, axis=None)[:k]]


def greedy_pixels(m: np.ndarray, k: int, w: int) -> list[tuple[int, int]]:
    left, found = m.copy(), []
    while len(found) < k and np.isfinite(left).any():
        r, c = divmod(int(left.argmax()), m.shape[1])
        found.append((r, c))
        left[max(0, r - w) : r + w + 1, max(0, c - w) : c + w + 1] = -np.inf
    return found


def test_any_attribution_can_be_measured():
    kept = {}
    for name in ATTRIBUTIONS:
        m, images = replace(QUICK, attribution=name), pictures()
        record = measure(network(), images, m)
        found = m.attack(network(), images.subset(record["index"]), progress=False)
        x, y = images.images[record["index"]].double() / 255, images.labels[record["index"]]
        options = dict(steps=m.ig_steps) if name in ("integrated_gradients", "gradshap") else {}
        before = Explainer(name, options=options)(network(), x, y)
        torch.testing.assert_close(found.before, before)
        kept[name] = record["K"]
    other = replace(QUICK, attribution="smoothgrad")
    assert code_digest(other, *other.parts) != code_digest(QUICK, *QUICK.parts)  # its code belongs to the result
    assert len({tuple(k) for k in kept.values()}) == len(kept)  # each its own


@each_protocol
def test_the_measures_are_those_of_the_maps(protocol):
    m, images = PROTOCOLS[protocol], pictures()
    record = measure(network(), images, m)
    assert len(record["index"]) == 6 and {len(column) for column in record.values()} == {6}
    assert not set(record["index"]) & {0, 5, 10, 15}  # the misclassified ones
    found = m.attack(network(), images.subset(record["index"]), progress=False)
    assert KEPT in record["status"] and record["status"] == found.status.tolist()
    assert record["kept_step"] == found.kept_step.tolist()
    for i, (a, b) in enumerate(zip(found.before.numpy(), found.after.numpy(), strict=True)):
        assert record["IN"][i] == pytest.approx(intersection(a, b, m.k))
        assert record["K"][i] == pytest.approx(scipy.stats.kendalltau(a, b).statistic, abs=1e-12)
        assert record["spearman"][i] == pytest.approx(scipy.stats.spearmanr(a, b, axis=None).statistic, abs=1e-12)
        assert record["cosine"][i] == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-12)
        assert record["tied"][i] == 0  # noise has no ties
        assert found.kendall[i] == pytest.approx(record["K"][i], abs=1e-12)
        for w in WINDOWS:
            for name, of in (("recall", top_pixels), ("diverse_recall", greedy_pixels)):
                for column, near, counted in ((name, a, b), (name.replace("recall", "precision"), b, a)):
                    near, counted = (of(m_, m.k, w) for m_ in (near, counted))
                    hit = [any(max(abs(r - i_), abs(c - j_)) <= w for i_, j_ in near) for r, c in counted]
                    assert record[f"{column}_{w}"][i] == pytest.approx(np.mean(hit)), (column, w)
            sizes = [len(greedy_pixels(m_, m.k, w)) for m_ in (a, b)]
            assert record[f"diverse_size_{w}"][i] == min(sizes)
    x = images.images[record["index"]].double() / 255
    assert (found.x_adv - x).abs().max() <= m.eps + 1e-12
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


@each_protocol
def test_maps_that_are_scored(protocol):
    m, images = PROTOCOLS[protocol], pictures().subset([1, 2, 3])
    found = m.attack(network(), images, progress=False)
    x = images.images.double() / 255
    for i, y in enumerate(images.labels):
        torch.testing.assert_close(found.before[i], plain_map(x[i : i + 1], y, m.ig_steps, protocol))
        torch.testing.assert_close(found.after[i], plain_map(found.x_adv[i : i + 1], y, m.ig_steps, protocol))


def test_ifia_lowers_the_correlation_and_a_wider_ball_lowers_it_more():
    means = []
    for eps in (0.01, 0.1):
        m = replace(QUICK, images=16, eps=eps, steps=8, step_size=eps / 4)
        means.append(np.mean(measure(network(), pictures(), m)["K"]))
    assert means[1] < means[0] < 1


@each_protocol
def test_an_image_without_a_kept_step_counts_as_unmoved(protocol):
    record = measure(network(), pictures(), replace(PROTOCOLS[protocol], steps=0))
    assert record["status"] == [NO_STEP] * 6 and STATUS[NO_STEP] == "no label-preserving step that moved the map"
    for name in MEASURES:
        assert record[name] == pytest.approx([1] * 6)
    assert record["kept_step"] == [-1] * 6


def test_a_seed_gives_one_record():
    m = replace(QUICK, random_start=True)
    assert measure(network(), pictures(), m) == measure(network(), pictures(), m)
    record = measure(network(), pictures(), replace(m, seed=1))
    assert record != measure(network(), pictures(), m)
    for name in MEASURES:
        assert all((0 if name == "IN" else -1) <= v <= 1 for v in record[name])


def test_batches_do_not_change_the_maps():
    images = pictures().subset([1, 2, 3, 4])
    one, all_ = (replace(QUICK, chunk=c).attack(network(), images, progress=False) for c in (4, 200))
    torch.testing.assert_close(one.x_adv, all_.x_adv, rtol=0, atol=1e-12)
    assert one.kept_step.tolist() == all_.kept_step.tolist()


@pytest.mark.parametrize(("chunk", "points", "batch"), [(400, 8, 50), (400, 100, 4), (9, 4, 2), (3, 4, 1)])
def test_as_many_images_are_attacked_together_as_a_chunk_allows(chunk, points, batch, monkeypatch):
    attacked, ifia = [], module.ifia

    def spy(*args, batch_size, **options):
        attacked.append(batch_size)
        return ifia(*args, batch_size=batch_size, **options)

    monkeypatch.setattr(module, "ifia", spy)
    m = replace(QUICK, chunk=chunk, attack_ig_steps=points, steps=1)
    m.attack(network(), pictures().subset([1, 2]), progress=False)
    assert attacked == [batch]


# ------------------------------------------------------------------ maps and gradients that say nothing


@each_protocol
def test_a_black_image_has_a_constant_map_and_no_value(protocol):
    """x = 0 is its own baseline: its map is 0 everywhere, cannot be attacked, and does not count as robust."""
    images = half_bright([40, 40], [0, 1])
    images = replace(images, images=images.images * torch.tensor([0, 1], dtype=torch.uint8).reshape(2, 1, 1, 1))
    record = measure(halves(), images, PROTOCOLS[protocol])
    (black,) = [i for i, index in enumerate(record["index"]) if index == 0]
    assert record["status"][black] == NO_GRADIENT
    assert all(np.isnan(record[name][black]) for name in (*MEASURES, "tied"))
    assert not np.isnan(record["IN"][1 - black])


@pytest.mark.parametrize("factor", [float("nan"), 0.0])
@each_protocol
def test_a_model_without_gradients_has_no_values(factor, protocol):
    record = measure(Useless(network(), factor), pictures(), PROTOCOLS[protocol])
    assert record["status"] == [NO_GRADIENT] * 6 and record["kept_step"] == [-1] * 6
    assert all(np.isnan(record[name]).all() for name in MEASURES)


def test_what_was_not_attacked_has_no_value():
    """A set with misclassified images, attacked as it is."""
    found = QUICK.attack(network(), pictures().subset([0, 1, 5]), progress=False)
    assert (found.status == MISCLASSIFIED).tolist() == [True, False, True]
    for values in (found.kendall, *QUICK.compare(found).values()):
        assert values.isnan().tolist() == [True, False, True]


def test_ties_are_reported():
    """A map that is 0 but for one pixel: of its top 5 four are there by index alone."""
    found = QUICK.attack(network(), pictures().subset([1, 2]), progress=False)
    after = torch.zeros_like(found.after)
    after[:, 2, 3] = 1.0
    tied = QUICK.compare(replace(found, after=after))["tied"]
    assert tied.tolist() == pytest.approx([4 / 5] * 2)


# ------------------------------------------------------------------ errors


def test_k_larger_than_the_map():
    with pytest.raises(ValueError, match="37.*36.*pixels|36.*pixels.*37"):
        measure(network(), pictures(), replace(QUICK, k=37))


def test_a_model_that_is_never_right():
    images = half_bright([40, 40], [0, 1])
    images = replace(images, labels=1 - images.labels)
    with pytest.raises(ValueError, match="classifies none of 2 test images correctly: nothing to attack"):
        measure(halves(), images)
