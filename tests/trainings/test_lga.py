"""Local gradient alignment against its equation written out one image at a time."""

import copy

import pytest
import torch
import torch.nn.functional as F
from toys import toy

from artlib.models import build
from artlib.trainings import Batch, Lga


def batch(settings: Lga) -> Batch:
    images = toy(6)
    model = build("wrn-10-1", 2, size=12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = images.images.double() / 255
    with torch.no_grad():
        model.train()(1 - x)
    return Batch(model, x, images.labels, settings.start(x, generator=torch.Generator().manual_seed(3)))


def test_the_loss_is_the_equation_with_its_derivatives_in_the_weights():
    settings = Lga(l2=0.3, cosine=0.7)
    b = batch(settings)
    b.model.eval()
    assert 0 < (b.start - b.x).abs().max() <= 4 / 255 + 1e-12
    std = b.model.normalization.std.flatten(1)[0].view(-1, 1, 1)

    def slope(image, label):
        leaf = image.detach()[None].requires_grad_()
        return torch.autograd.grad(b.model(leaf)[0, label], leaf, create_graph=True)[0][0] * std

    square, angle = [], []
    for x, z, y in zip(b.x, b.start, b.y, strict=True):
        here, there = slope(x, y).detach(), slope(z, y)
        square.append((here - there).square().sum())
        angle.append((1 - F.cosine_similarity(here.flatten(), there.flatten(), dim=0)) / 2)
    square, angle = torch.stack(square).mean(), torch.stack(angle).mean()
    expected = F.cross_entropy(b.model(b.x), b.y) + 0.3 * square + 0.7 * angle
    total, _, parts, _ = settings.losses(b)
    torch.testing.assert_close(parts["l2"], square, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(parts["cosine"], angle, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-12)
    weights = list(b.model.parameters())
    for a, e in zip(*(torch.autograd.grad(v, weights, allow_unused=True) for v in (total, expected)), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-7, atol=1e-10)
    assert square > 1e-9 and angle > 1e-9


@pytest.mark.parametrize("statistics", ["running", "batch", "held"])
def test_a_neighbour_that_is_the_image_costs_nothing(statistics):
    settings = Lga(eps=0.0, statistics=statistics)
    b = batch(settings)
    again = Batch(copy.deepcopy(b.model), b.x, b.y)
    total, logits, parts, _ = settings.losses(b)
    assert parts["l2"].item() == pytest.approx(0, abs=1e-20) and parts["cosine"].item() == pytest.approx(0, abs=1e-9)
    if statistics != "batch":  # one pass more would move the running ones, and nothing else
        torch.testing.assert_close(total, F.cross_entropy(again.model(b.x), b.y), rtol=1e-9, atol=1e-9)
    assert torch.equal(logits, again.model(b.x)) or statistics == "batch"


def test_the_statistics_are_a_choice():
    found = {s: Lga(statistics=s).losses(batch(Lga())).parts["l2"].item() for s in ("running", "held")}
    assert found["running"] != pytest.approx(found["held"], rel=1e-3)
    assert Lga.of("cifar10").statistics == "held" and Lga.of("cifar10", protocol="text").statistics == "running"
