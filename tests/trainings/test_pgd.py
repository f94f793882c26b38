"""Natural and PGD training against cross-entropy written out and against `attacks.pgd`."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from toys import tiny, toy, train

from artlib import attacks, compiled, models
from artlib.models import STATISTICS
from artlib.trainings import TRAININGS, Batch, InnerAttack, Natural, Pgd
from artlib.trainings.late import LATE, late

INNER = [kind for kind in TRAININGS.values() if issubclass(kind, InnerAttack)]

F64, EPS = torch.float64, 0.03
x = torch.rand(3, 3, 8, 8, dtype=F64, generator=torch.Generator().manual_seed(5))
y = torch.tensor([2, 0, 3])


@pytest.fixture
def wrn():
    """In train mode, as every loss gets it, with running statistics of other images."""
    net = models.build("wrn-10-1", 4, size=8, mean=(0.3, 0.5, 0.6), std=(0.2, 0.25, 0.3), dtype=F64).train()
    with torch.no_grad():
        net(1 - x)
    return net


def noise() -> torch.Generator:
    return torch.Generator().manual_seed(6)


def attacked(training, net) -> torch.Tensor:
    """The images that the cross-entropy of a training sees."""
    seen = []
    handle = net.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    training.losses(Batch(net, x, y, start=training.start(x, generator=noise())))
    handle.remove()
    return seen[-1]


def tracked(net) -> set[int]:
    return {b.item() for name, b in net.named_buffers() if name.endswith("tracked")}


def test_natural_training_is_cross_entropy_of_the_batch(wrn):
    twin = copy.deepcopy(wrn)
    loss, logits, parts, helper = Natural().losses(Batch(wrn, x, y))
    assert torch.equal(logits, twin(x)) and parts == {} and helper is None
    expected = torch.stack([v.logsumexp(0) - v[i] for v, i in zip(logits, y, strict=True)]).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    assert Natural().start(x, generator=noise()) is x


@pytest.mark.parametrize("steps", [0, 4])
def test_with_running_statistics_the_attack_is_attacks_pgd_in_eval_mode(wrn, steps):
    options, twin = dict(steps=steps, step_size=0.01), copy.deepcopy(wrn)
    found = attacked(Pgd(eps=EPS, **options), wrn)
    expected = attacks.pgd(twin.eval(), x, y, ball=attacks.Linf(EPS), generator=noise(), **options)
    assert torch.equal(found, expected)
    assert steps == 0 or not torch.equal(found, attacks.Linf(EPS).random(x, generator=noise()))


def test_with_held_statistics_it_is_attacks_pgd_on_a_network_with_those_of_the_start(wrn):
    """The running statistics of a network that has just seen the start, once, at momentum 1, biased."""
    options, start = dict(steps=4, step_size=0.01), attacks.Linf(EPS).random(x, generator=noise())
    twin = copy.deepcopy(wrn)
    norms = [m for m in twin.modules() if isinstance(m, nn.BatchNorm2d)]

    def biased(module, args):
        n = args[0].numel() // args[0].shape[1]
        module.running_var *= (n - 1) / n

    for m in norms:
        m.momentum = 1.0
        m.register_forward_hook(lambda module, args, out: biased(module, args))
    with torch.no_grad():
        twin(start)
    for m in norms:
        m._forward_hooks.clear()
    found, running = (attacked(Pgd(eps=EPS, statistics=s, **options), copy.deepcopy(wrn)) for s in ("held", "running"))
    expected = attacks.pgd(twin.eval(), x, y, ball=attacks.Linf(EPS), generator=noise(), **options)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert not torch.equal(found, running)


@pytest.mark.parametrize("statistics", STATISTICS)
def test_the_attack_moves_the_running_statistics_with_batch_statistics_alone(wrn, statistics):
    before = tracked(wrn).pop()
    Pgd(steps=4, step_size=0.01, statistics=statistics).losses(Batch(wrn, x, y))
    assert tracked(wrn) == {before + 1 + (4 if statistics == "batch" else 0)}  # one is the cross-entropy's


@pytest.mark.parametrize("statistics", STATISTICS)
def test_the_loss_is_cross_entropy_of_a_network_in_train_mode_at_the_end_of_the_attack(wrn, statistics):
    training = Pgd(eps=EPS, steps=3, step_size=0.01, statistics=statistics)
    x_adv = attacked(training, copy.deepcopy(wrn))
    twin = copy.deepcopy(wrn)
    losses = training.losses(Batch(wrn, x, y, start=training.start(x, generator=noise())))
    torch.testing.assert_close(losses.logits, twin(x_adv), rtol=1e-12, atol=1e-12)
    expected = nn.functional.cross_entropy(twin(x_adv), y)
    weights = [list(net.parameters()) for net in (wrn, twin)]
    gradients = (torch.autograd.grad(v, w) for v, w in zip((losses.total, expected), weights, strict=True))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


# ------------------------------------------------------------------ warm-up


@pytest.mark.parametrize("kind", INNER)
def test_the_ball_grows_from_nothing_in_the_warm_up_and_is_whole_after_it(kind):
    training = kind(eps=0.04, step_size=0.01, warmup=0.5)
    for progress, share in ((0.0, 0.0), (0.125, 0.25), (0.25, 0.5), (0.5, 1.0), (0.75, 1.0), (1.0, 1.0)):
        now = training.at(progress)
        assert (now.eps, now.step_size) == pytest.approx((0.04 * share, 0.01 * share))
        assert replace(now, eps=0.04, step_size=0.01) == training
    assert kind().at(0.0) == kind()


@pytest.mark.parametrize("kind", INNER)
def test_a_warm_up_is_followed_update_by_update(kind, monkeypatch):
    """Two epochs of three updates; the first four with a third of the ball more each."""
    seen = []
    losses = kind.losses

    def spy(training, batch):
        seen.append((training.eps, (batch.start - batch.x).abs().max().item()))
        return losses(training, batch)

    monkeypatch.setattr(kind, "losses", spy)
    train(tiny(kind(eps=0.06, steps=1, warmup=0.5)), toy())
    assert [eps for eps, _ in seen] == pytest.approx([0.0, 0.02, 0.04, 0.06, 0.06, 0.06])
    assert all(0.5 * eps <= distance <= eps + 1e-12 for eps, distance in seen)


@pytest.mark.parametrize("kind", LATE)
def test_a_late_training_is_natural_first_then_its_ball_grows_then_it_is_itself(kind):
    usual = kind(eps=0.04, step_size=0.01, statistics="held", steps=2)
    later = late(usual, natural=0.5, warmup=0.75)
    assert later.at(0.0) == later.at(0.49) == Natural()
    assert [later.at(p).eps for p in (0.5, 0.625, 0.75, 1.0)] == pytest.approx([0, 0.02, 0.04, 0.04])
    assert later.at(0.8) == later and later.label == usual.label
    natural, one, two = (
        train(tiny(training, epochs=2), toy())[0].state_dict()
        for training in (Natural(), replace(later, natural=1.0, warmup=1.0), replace(later, natural=0.0, warmup=0.0))
    )
    whole = train(tiny(usual, epochs=2), toy())[0].state_dict()
    for name in whole:
        assert torch.equal(one[name], natural[name]) and torch.equal(two[name], whole[name])
    assert any(not torch.equal(natural[name], whole[name]) for name in whole)


@pytest.mark.parametrize("kind", INNER)
def test_a_warm_up_needs_no_graph_of_its_own_for_each_radius(kind, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)
    recipe = tiny(kind(steps=1, warmup=0.9, statistics="held"), batch_size=6)
    whole = replace(recipe, training=replace(recipe.training, warmup=0.0))
    (eager, _), (fast, _), (still, _) = (train(r, toy(), compile=c) for r, c in ((recipe, 0), (recipe, 1), (whole, 1)))
    for key, value in eager.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[key], value, rtol=0, atol=1e-10, msg=key)
    assert len(compiled._graphs[fast]) == len(compiled._graphs[still]) > 1 and fast not in compiled._broken
