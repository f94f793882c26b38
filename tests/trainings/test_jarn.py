"""JARN against its equation written out for all three networks."""

import pytest
import torch
import torch.nn.functional as F
from toys import fitting, tiny, toy, train

from artlib.trainings import Batch, Jarn
from artlib.trainings.jarn import standardised


def made(settings):
    images = toy(6)
    state = fitting.first_state(tiny(settings), images)
    x = images.images.double() / 255
    start = settings.start(x, generator=torch.Generator().manual_seed(3))
    return Batch(state.model.eval(), x, images.labels, start, helper=state.helper)


def test_the_losses_are_the_papers_for_classifier_adaptor_and_discriminator():
    """min over f and A, max over D, each with the derivatives of the one equation in its own weights."""
    b = made(Jarn(weight=0.7, channels=4))
    total, logits, parts, helper = Jarn(weight=0.7, channels=4).losses(b)
    judge, x = b.helper, b.start.clone().requires_grad_()
    ce = F.cross_entropy(b.model(x), b.y)
    (g,) = torch.autograd.grad(len(x) * ce, x, create_graph=True)
    v = g - g.mean((1, 2, 3), keepdim=True)
    v = v / v.square().mean((1, 2, 3), keepdim=True).sqrt()
    false = judge.discriminator(judge.adaptor(v)).sigmoid()
    true = judge.discriminator(
        (x - x.mean((1, 2, 3), keepdim=True)) / x.flatten(1).std(1, correction=0).view(-1, 1, 1, 1)
    )
    adversarial = true.sigmoid().log().mean() + (1 - false).log().mean()
    torch.testing.assert_close(logits, b.model(x))
    torch.testing.assert_close(total, ce + 0.7 * (1 - false).log().mean(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(parts["judged"], -adversarial.detach(), rtol=1e-9, atol=1e-12)
    weights = list(b.model.parameters())
    pairs = [(torch.autograd.grad(v, weights, retain_graph=True)) for v in (total, ce + 0.7 * adversarial)]
    for a, e in zip(*pairs, strict=True):
        torch.testing.assert_close(a, e, rtol=1e-7, atol=1e-10)
    own = torch.autograd.grad(helper, list(judge.parameters()), retain_graph=True)
    for part, sign in ((judge.adaptor, 1), (judge.discriminator, -1)):
        expected = torch.autograd.grad(sign * adversarial, list(part.parameters()), retain_graph=True)
        found = [g for p, g in zip(judge.parameters(), own, strict=True) if any(p is q for q in part.parameters())]
        for a, e in zip(found, expected, strict=True):
            torch.testing.assert_close(a, e, rtol=1e-7, atol=1e-10)


def test_at_first_it_is_natural_training_on_noisy_images():
    early = Jarn().at(0.5)
    assert early.weight == 0 and Jarn().at(0.9) == Jarn()
    b = made(Jarn())
    total, _, parts, helper = early.losses(b)
    torch.testing.assert_close(total, F.cross_entropy(b.model(b.start), b.y))
    assert parts["judged"] == parts["deceived"] == helper == 0
    assert 0 < (b.start - b.x).abs().max() <= 8 / 255 + 1e-12
    assert all((g == 0).all() for g in torch.autograd.grad(helper, list(b.helper.parameters())))


def test_the_helper_is_the_same_in_every_training_and_leaves_torchs_numbers_alone():
    numbers = torch.get_rng_state()
    a, b = (made(Jarn()).helper.state_dict() for _ in range(2))
    assert all(torch.equal(v, b[k]) for k, v in a.items()) and torch.equal(torch.get_rng_state(), numbers)


@pytest.mark.parametrize("size", [2, 12, 28])
def test_images_of_any_size_are_judged(size):
    images = toy(4, size=size)
    judge, _ = Jarn(channels=2).helper(torch.nn.Identity(), images.images[:1].double() / 255)
    assert judge(images.images.double() / 255).shape == (4,)


def test_a_constant_image_is_standardised_to_0():
    v = torch.stack([torch.full((3, 2, 2), 0.5), torch.arange(12.0).view(3, 2, 2)]).double()
    found = standardised(v)
    assert (found[0] == 0).all() and found[1].mean().abs() < 1e-12 and abs(found[1].square().mean() - 1) < 1e-12


def test_a_training_moves_all_three_networks_at_its_end():
    settings = Jarn(after=0.5, channels=2)
    _, record = train(tiny(settings, epochs=2), toy(8))
    first, last = record["history"]
    assert first["judged"] == 0 and last["judged"] > 0 and last["deceived"] < 0
