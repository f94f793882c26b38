"""CURE against its equation written out one image at a time, and against the curvature it stands for."""

import pytest
import torch
import torch.nn.functional as F
from toys import toy

from artlib.models import build, normalised_by
from artlib.trainings import Batch, Cure
from artlib.trainings.cure import _curvature


def batch() -> Batch:
    images = toy(6)
    model = build("wrn-10-1", 2, size=12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.train()(1 - images.images.double() / 255)
    return Batch(model, images.images.double() / 255, images.labels)


def written(model, x, y, h: float) -> torch.Tensor:
    """One image at a time, the model in eval mode."""

    def slope(image, label):
        leaf = image.detach()[None].requires_grad_()
        return torch.autograd.grad(F.cross_entropy(model(leaf), label[None]), leaf, create_graph=True)[0][0]

    found = []
    for image, label in zip(x, y, strict=True):
        g = slope(image, label).detach()
        z = h * g.sign() / g.sign().norm()
        found.append((slope(image + z, label) - slope(image, label)).square().sum())
    return torch.stack(found)


def test_the_loss_is_the_equation_with_its_derivatives_in_the_weights():
    b, settings = batch(), Cure(weight=3.0, h=0.4)
    b.model.eval()
    total, logits, parts, _ = settings.losses(b)
    curvature = written(b.model, b.x, b.y, 0.4).mean()
    expected = F.cross_entropy(b.model(b.x), b.y) + 3 * curvature
    torch.testing.assert_close(parts["curvature"], curvature, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(logits, b.model(b.x))
    weights = list(b.model.parameters())
    for a, e in zip(*(torch.autograd.grad(v, weights, allow_unused=True) for v in (total, expected)), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-7, atol=1e-10)
    assert curvature > 1e-6


def test_with_held_statistics_it_is_the_curvature_of_the_network_with_those_of_the_batch():
    """Held ones are constant, so that each image can be asked alone; running and held curvature differ."""
    found = {s: Cure(h=0.4, statistics=s).losses(batch()).parts["curvature"] for s in ("running", "held")}
    other = batch()
    with normalised_by("held", other.model.train(), other.x):
        expected = written(other.model, other.x, other.y, 0.4).mean()
    torch.testing.assert_close(found["held"], expected, rtol=1e-9, atol=1e-12)
    assert abs(found["running"] / found["held"] - 1) > 0.01


def test_for_a_small_step_it_is_the_hessian_times_the_direction():
    """Cross-entropy of a linear map has the Hessian W'(diag(p) - pp')W."""
    w = torch.randn(3, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3, bias=False)).double()
    model[1].weight.data = w
    x, y = torch.rand(1, 3, 2, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64), torch.tensor([1])
    p = model(x).softmax(1)[0]
    hessian = w.T @ (p.diag() - p[:, None] * p) @ w
    g = w.T @ (p - F.one_hot(y, 3)[0])
    z = g.sign() / 12**0.5
    h = 1e-4
    found = _curvature(model, x, y, torch.tensor(h, dtype=torch.float64)) / h**2
    torch.testing.assert_close(found[0], (hessian @ z).square().sum(), rtol=1e-3, atol=0)


@pytest.mark.parametrize("settings", [Cure(weight=0.0), Cure(h=0.0)])
def test_without_weight_or_a_step_only_cross_entropy_is_left(settings):
    b = batch()
    torch.testing.assert_close(settings.losses(b).total, F.cross_entropy(b.model(b.x), b.y), rtol=1e-12, atol=1e-12)


def test_the_step_grows_over_the_warm_up():
    settings = Cure(h=0.8, warmup=0.5)
    assert [settings.at(t).h for t in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.4, 0.8, 0.8]


def test_an_image_without_a_gradient_gives_nothing_that_is_not_finite():
    b = batch()
    with torch.no_grad():
        b.model[-1].weight.zero_()
    gradients = torch.autograd.grad(Cure().losses(b).total, list(b.model.parameters()))
    assert all(g.isfinite().all() for g in gradients)
