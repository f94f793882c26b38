"""The rows of Table 5 against their equations written out per image, and against Eq. 5 where they are it."""

import copy
from dataclasses import replace
from typing import get_args, get_type_hints

import pytest
import torch
import torch.nn.functional as F
from test_art import (
    BETA,
    best_other,
    d,
    eq5,
    jacobian,
    logits_of,
    m,
    network,
    noisy,
    per_image,
    s,
    same,
    wrn,
    x,
    x_adv,
    y,
)

from artlib import costs, models
from artlib.trainings import Art, ArtVariant, Batch, Recipe
from artlib.trainings.art_variants import DISTANCES, WORDS, least_likely, variant_loss

OBJECTIVES = get_args(get_type_hints(ArtVariant)["objective"])
EPS = 0.05
__all__ = ["wrn"]  # a fixture


@pytest.fixture
def net():
    return network()


def variant(objective: str, **changes) -> ArtVariant:
    return ArtVariant(**dict(objective=objective, eps=EPS, beta=BETA, step_size=0.02, weight=0.7) | changes)


# ---- the equations, one image at a time: net, attacked image, label, clean image


def others(net):
    return [best_other(logits_of(net, (v - m) / s), label) for v, label in zip(x, y.tolist(), strict=True)]


def worst(net, image, label):
    scores = logits_of(net, (image - m) / s)
    return min((i for i in range(len(scores)) if i != label), key=lambda i: scores[i].item())


def change(net, z, label, clean):
    return (jacobian(net, z, BETA)[label] - jacobian(net, clean, BETA)[label]).square().sum().sqrt()


def l2(net, z, label, clean):
    return (jacobian(net, z, BETA)[label] - z).square().sum().sqrt()


def cosine(net, z, label, clean):
    return d(jacobian(net, z, BETA)[label], z)


def least(net, z, label, clean):
    return eq5(net, z, label, worst(net, clean, label))


def triplet(net, z, label, clean):
    return eq5(net, z, label, best_other(logits_of(net, (clean - m) / s), label))


WRITTEN = {"change": change, "l2": l2, "cosine": cosine, "least-likely": least, "combined": triplet, "triplet": triplet}


def written(objective, net, images=x_adv):
    return per_image(WRITTEN[objective], net, images, y.tolist(), x)


def attack(objective, net, *, steps=3, step_size=0.02):
    """Sign steps on the objective, on L_ce of the ReLU network too where both are raised."""
    z = noisy(x, EPS)
    for _ in range(steps):
        g = torch.func.grad(lambda v: written(objective, net, v).sum())(z)
        if objective == "combined":
            g = g + torch.func.grad(lambda v: F.cross_entropy(net(v), y, reduction="sum"))(z)
        z = torch.clamp(z + step_size * g.sign(), x - EPS, x + EPS).clamp(0, 1)
    return z


# ---- tests


def test_every_objective_is_written_out_and_has_words():
    assert set(OBJECTIVES) == set(WRITTEN) == set(WORDS) and set(DISTANCES) < set(WRITTEN)


def test_the_least_likely_class_is_never_the_label():
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [-5.0, -7.0, -6.0]])
    assert least_likely(logits, torch.tensor([0, 2, 1])).tolist() == [2, 1, 2]


@pytest.mark.parametrize("objective", DISTANCES)
def test_the_loss_of_an_image_is_its_equation_with_all_derivatives(net, objective):
    found = variant_loss(net, x_adv, y, settings=variant(objective), clean=x)
    expected = written(objective, net)
    assert found.shape == (3,)
    same(found, expected)
    parameters = list(net.parameters())[:-1]  # no logit's gradient depends on the last bias
    for a, b in zip(*(torch.autograd.grad(v.mean(), parameters) for v in (found, expected)), strict=True):
        same(a, b)
    h, v = 1e-6, torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(4))
    leaf = x_adv.clone().requires_grad_()
    (g,) = torch.autograd.grad(variant_loss(net, leaf, y, settings=variant(objective), clean=x).sum(), leaf)
    slope = (written(objective, net, x_adv + h * v) - written(objective, net, x_adv - h * v)) / (2 * h)
    same((g * v).sum((1, 2, 3)), slope.detach(), 1e-6)
    assert slope.abs().min() > 1e-4


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_training_is_cross_entropy_and_the_objective_where_the_attack_ends(net, objective):
    settings = variant(objective)
    loss, logits, parts, _ = settings.losses(Batch(net, x, y, start=noisy(x, EPS)))
    end = attack(objective, net)
    same(logits, net(end))
    same(parts["L_attr"], written(objective, net, end).mean())
    expected = F.cross_entropy(net(end), y) + 0.7 * written(objective, net, end).mean()
    same(loss, expected)
    parameters = list(net.parameters())
    for a, b in zip(*(torch.autograd.grad(v, parameters) for v in (loss, expected)), strict=True):
        same(a, b)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_the_guard_is_told_is_what_the_attack_raises(net, objective):
    batch, settings = Batch(net, x, y, start=noisy(x, EPS)), variant(objective, steps=4, step_size=0.005)
    found = settings.raised(batch, x_adv)
    expected = written(objective, net)
    if objective == "combined":
        expected = expected + F.cross_entropy(net(x_adv), y, reduction="none")
    same(found, expected)
    end = settings.attacked(batch)
    assert (end - x).abs().max() <= EPS + 1e-12 and 0 <= end.min() and end.max() <= 1
    assert settings.raised(batch, end).mean() > settings.raised(batch, batch.start).mean() + 1e-4


@pytest.mark.parametrize("protocol", ["text", "paper", "authors"])
@pytest.mark.parametrize("statistics", models.STATISTICS)
def test_the_triplet_is_art(wrn, protocol, statistics):
    images = torch.rand(3, 3, 8, 8, dtype=x.dtype, generator=torch.Generator().manual_seed(5))
    art = Art.of("cifar10", protocol=protocol, eps=0.03, beta=BETA, statistics=statistics)
    same_settings = ArtVariant.of("cifar10", protocol=protocol, eps=0.03, beta=BETA, statistics=statistics)
    found = []
    for training in (art, replace(same_settings, objective="triplet")):
        net = copy.deepcopy(wrn).train()
        losses = training.losses(Batch(net, images, y, start=noisy(images, 0.03)))
        found.append([losses.total, *torch.autograd.grad(losses.total, list(net.parameters())), *net.buffers()])
        assert training.passes == art.passes
    for a, b in zip(*found, strict=True):
        same(a, b, 1e-12)


def test_with_two_classes_there_is_one_negative_alone():
    net = models.build("wrn-10-1", 2, size=8, dtype=x.dtype)
    images, labels = torch.rand(3, 3, 8, 8, dtype=x.dtype, generator=torch.Generator().manual_seed(5)), y % 2
    rows = [Art(eps=0.03), ArtVariant(eps=0.03, objective="least-likely")]
    a, b = (t.losses(Batch(net.eval(), images, labels, start=noisy(images, 0.03))).total for t in rows)
    same(a, b, 1e-12)


def test_without_change_the_first_equation_is_0_and_its_derivative_too(net):
    found = variant_loss(net, x, y, settings=variant("change"), clean=x)
    assert (found == 0).all()
    gradients = torch.autograd.grad(found.sum(), list(net.parameters()), allow_unused=True)
    assert all(g is None or (g == 0).all() for g in gradients)


def test_a_normalised_anchor_and_gradient(net):
    """C-4 and C-5, as for Eq. 5."""
    settings = variant("l2", anchor="normalized", loss_gradient="normalized")
    expected = [(jacobian(net, z, BETA)[i] * s - (z - m) / s).norm() for z, i in zip(x_adv, y.tolist(), strict=True)]
    same(variant_loss(net, x_adv, y, settings=settings, clean=x), torch.stack(expected))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_passes_are_about_what_is_counted(objective):
    training = ArtVariant.of("cifar10", objective=objective)
    work = costs.update(Recipe(training=training, arch="wrn-10-1"))
    assert costs.passes(work) == pytest.approx(training.passes, rel=0.2)
    assert training.label == f"art-variant-{objective}" and training.heading.startswith("ART, ")
