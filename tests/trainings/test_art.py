"""ART against Eq. 5, Eq. 6 and Algorithm 1 of its paper written out per image with torch.func."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from artlib import attacks, models
from artlib.trainings import PROTOCOLS, Art, Batch, art_loss, cosine_distance, runner_up
from artlib.trainings.art import attribution_loss

F64 = torch.float64
MEAN, STD, CLASSES, BETA = (0.3, 0.5, 0.6), (0.2, 0.25, 0.3), 4, 6.0
m, s = (torch.tensor(v, dtype=F64).reshape(3, 1, 1) for v in (MEAN, STD))
x = torch.rand(3, 3, 6, 6, dtype=F64, generator=torch.Generator().manual_seed(1))
x_adv = (x + 0.1 * torch.randn(x.shape, dtype=F64, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
y = torch.tensor([2, 0, 3])


def network(seed=0):
    g = torch.Generator().manual_seed(seed)
    layers = [nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, CLASSES)]
    net = models.wrap(nn.Sequential(*layers).double(), MEAN, STD)
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=g, dtype=F64) * (2 / max(1, p[0].numel())) ** 0.5
    return net.eval()


@pytest.fixture
def net():
    return network()


@pytest.fixture
def wrn():
    return models.build("wrn-10-1", CLASSES, size=8, mean=MEAN, std=STD, dtype=F64)


def generator():
    return torch.Generator().manual_seed(5)


def noisy(images, eps):
    return attacks.Linf(eps).random(images, generator=generator())


def settings(protocol="text", **changes):
    return Art.of("cifar10", protocol=protocol, **changes)


def art_attack(net, images, labels, *, settings, start):
    """x_adv alone, with i* of the clean images, as inside `Art.losses`."""
    return settings.attacked(Batch(net, images, labels, start=start))


def same(a, b, tol=1e-10):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


# ---- the equations, one image at a time


def logits_of(net, z, beta=None, threshold=1e9):
    """Logits (CLASSES,) of one normalised image z; ReLU where beta is None."""
    act = F.relu if beta is None else lambda v: F.softplus(v, beta, threshold)
    z = act(F.conv2d(z[None], net[1].weight, net[1].bias))
    z = act(F.conv2d(z, net[3].weight, net[3].bias))
    return F.linear(z.flatten(), net[6].weight, net[6].bias)


def jacobian(net, image, beta=None, threshold=1e9):
    """d f(x)_i / d x in pixel units, (CLASSES, 3, H, W)."""
    return torch.func.jacrev(lambda v: logits_of(net, (v - m) / s, beta, threshold))(image)


def best_other(logits, label):
    return max((i for i in range(CLASSES) if i != label), key=lambda i: logits[i].item())


def d(g, v, added=0.0):
    return 1 - (g * v).sum() / ((g.square().sum().sqrt() + added) * (v.square().sum().sqrt() + added))


def eq5(net, image, label, other, beta=BETA):
    g = jacobian(net, image, beta)
    return torch.log(1 + torch.exp(-(d(g[other], image) - d(g[label], image))))


def others(net, images=x):
    return [best_other(logits_of(net, (v - m) / s), label) for v, label in zip(images, y.tolist(), strict=True)]


def mined(net, pair, label, beta=BETA):
    """The code's loss of one image (C-3, C-4, C-12, C-14, C-15): pair is (x, x_adv)."""
    z = [(v - m) / s for v in pair]
    positive, negative = [], []
    for v in z:
        g = torch.func.jacrev(lambda v: logits_of(net, v, beta, 20.0))(v)
        g = g / 6  # the scores' mean over the pairs of three images is differentiated
        positive.append(g[label])
        negative.append(g[best_other(logits_of(net, v, beta, 20.0), label)])
    losses = []
    for anchor in z:
        far = max((d(g, anchor, 1e-8) for g in positive), key=lambda v: v.item())
        near = min((d(g, anchor, 1e-8) for g in negative), key=lambda v: v.item())
        losses.append(torch.log(1 + torch.exp(-(near - far))))
    return sum(losses) / 2


def per_image(f, net, *rows, **options):
    return torch.stack([f(net, *row, **options) for row in zip(*rows, strict=True)])


# ---- pieces


def test_the_constants():
    text, authors = settings(), settings("authors")
    assert text == Art()
    assert (text.weight, text.beta, text.steps, text.step_size) == (0.5, 50, 3, 1.5 / 255)
    assert (authors.weight, authors.beta, authors.steps, authors.step_size) == (0.5, 50, 3, 5 / 255)
    assert (text.attack_topk, text.threshold, text.mining, text.statistics) == (None, None, False, "running")
    assert (text.anchor, text.loss_gradient, text.negative) == ("pixels", "pixels", "clean")
    assert (text.attack_cosine_eps, text.loss_cosine_eps) == (0, 0)
    assert (authors.attack_topk, authors.threshold, authors.mining, authors.statistics) == (1000, 20, True, "batch")
    assert (authors.anchor, authors.loss_gradient, authors.negative) == ("normalized", "normalized", "surrogate")
    assert (authors.attack_cosine_eps, authors.loss_cosine_eps) == (1e-6, 1e-8)
    assert settings("paper") == Art(statistics="held")


def test_runner_up_is_the_best_other_class():
    logits = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [-5.0, -7.0, -6.0]])
    assert runner_up(logits, torch.tensor([0, 1, 0])).tolist() == [1, 0, 2]


def test_cosine_distance_is_torchs_and_one_at_zero():
    a, b = torch.randn(2, 4, 3, 2, 2, dtype=F64, generator=generator())
    a[3] = 0
    expected = 1 - F.cosine_similarity(a.flatten(1), b.flatten(1))
    same(cosine_distance(a, b), expected)
    same(cosine_distance(7 * b, b), torch.zeros(4, dtype=F64))
    same(cosine_distance(-b, b), torch.full((4,), 2.0, dtype=F64))
    product = a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1)
    floor = product.sort().values[2].item() + 0.1
    same(cosine_distance(a, b, floor=floor), 1 - (a * b).sum((1, 2, 3)) / product.clamp_min(floor))
    same(cosine_distance(a, b, added=0.5)[:3], torch.stack([d(*v, 0.5) for v in zip(a[:3], b[:3], strict=True)]))


# ---- L_attr


def test_art_loss_is_equation_5(net):
    found = art_loss(net, x, y, beta=BETA)
    assert found.shape == (3,)
    same(found, per_image(eq5, net, x, y.tolist(), others(net), beta=BETA))
    named = torch.tensor([1, 1, 1])
    same(art_loss(net, x, y, beta=BETA, negative=named), per_image(eq5, net, x, y.tolist(), [1, 1, 1]))
    same(art_loss(net, x, y, beta=50.0), art_loss(net, x, y))
    with torch.no_grad():
        same(art_loss(net, x, y, beta=BETA), found.detach())


def test_the_runner_up_is_that_of_the_clean_image(net):
    net[6].bias.data -= net(torch.cat([x, 1 - x])).detach().mean(0)
    clean, shifted = others(net), 1 - x
    assert clean != others(net, shifted)
    same(art_loss(net, x, y, beta=BETA, x_adv=shifted), per_image(eq5, net, shifted, y.tolist(), clean))


def test_art_loss_gradients_are_finite_differences(net):
    h, v = 1e-6, torch.randn(x.shape, dtype=F64, generator=generator())
    leaf, rows = x.clone().requires_grad_(), (y.tolist(), others(net))
    (g,) = torch.autograd.grad(art_loss(net, leaf, y, beta=BETA).sum(), leaf)
    slope = (per_image(eq5, net, x + h * v, *rows) - per_image(eq5, net, x - h * v, *rows)) / (2 * h)
    same((g * v).sum((1, 2, 3)), slope.detach(), 1e-7)
    assert slope.abs().min() > 1e-4
    art_loss(net, x, y, beta=BETA).sum().backward()
    for weight in list(net.parameters())[:-1]:  # no logit's gradient depends on the last bias
        flat, g = weight.data.view(-1), weight.grad.flatten()
        index, ends = g.abs().argmax(), []
        for shift in (h, -2 * h):
            flat[index] += shift
            ends.append(per_image(eq5, net, x, *rows).sum().item())
        flat[index] += h
        same(g[index].item(), (ends[0] - ends[1]) / (2 * h), 1e-7)
        assert abs(g[index]) > 1e-3


def test_art_loss_reaches_its_bounds_and_stays_inside():
    one = torch.linspace(0.1, 1, 12, dtype=F64).reshape(1, 3, 2, 2)
    linear = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(12, 2, bias=False)).double()
    linear[2].weight.data = torch.stack([one.flatten(), -one.flatten()])
    lowest, highest = (art_loss(linear, one, torch.tensor([i]), beta=1e3).item() for i in (0, 1))
    assert math.isclose(lowest, math.log(1 + math.exp(-2)), rel_tol=1e-9)
    assert math.isclose(highest, math.log(1 + math.exp(2)), rel_tol=1e-9)
    for seed in range(5):
        values = art_loss(network(seed), x, y)
        assert (values >= lowest).all() and (values <= highest).all()


def test_the_authors_loss_is_the_plain_loop(net):
    found = art_loss(net, x, y, beta=BETA, protocol="authors", x_adv=x_adv)
    expected = per_image(mined, net, zip(x, x_adv, strict=True), y.tolist())
    same(found, expected)
    parameters = list(net.parameters())[:-1]  # no logit's gradient depends on the last bias
    for a, b in zip(*(torch.autograd.grad(v.mean(), parameters) for v in (found, expected)), strict=True):
        same(a, b)
    same(art_loss(net, x, y, beta=BETA, protocol="authors"), per_image(mined, net, zip(x, x, strict=True), y.tolist()))
    harder = art_loss(net, x, y, beta=BETA, protocol="authors")
    assert (found - harder).abs().min() > 1e-6 and (found - art_loss(net, x, y, beta=BETA)).abs().min() > 1e-6


def test_the_threshold_matters_where_softplus_bends_beyond_it(net):
    exact = attribution_loss(net, x, y, settings=settings(beta=50.0))
    torchs = attribution_loss(net, x, y, settings=settings(beta=50.0, threshold=20.0))
    assert 0 < (exact - torchs).abs().max() < 1e-6


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_art_loss_leaves_the_model_alone(wrn, protocol):
    images = torch.rand(3, 3, 8, 8, dtype=F64, generator=generator())
    wrn.eval()
    state, children = {k: v.clone() for k, v in wrn.state_dict().items()}, list(wrn.modules())
    art_loss(wrn, images, y, protocol=protocol, beta=BETA).sum().backward()
    assert all(torch.equal(v, state[k]) for k, v in wrn.state_dict().items())
    assert list(wrn.modules()) == children and not wrn.training
    assert all(p.grad is not None and p.grad.isfinite().all() for n, p in wrn.named_parameters() if n != "8.bias")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_gradient_of_zero_gives_neither_nan_nor_an_explosion(net, protocol):
    with torch.no_grad():
        net[6].weight[:2] = 0  # two logits that depend on nothing, yet whose gradients depend on these weights
        net[6].bias.copy_(torch.tensor([2.0, 3.0, 0.0, 0.0]))
    labels = torch.tensor([0, 1, 2])
    leaf = torch.cat([x[:2], torch.zeros_like(x[:1])]).requires_grad_()  # and an image of norm 0
    found = art_loss(net, leaf, labels, beta=BETA, protocol=protocol)
    same(found[:2], torch.full((2,), math.log(2), dtype=F64))
    for g in torch.autograd.grad(found.sum(), [leaf, *net.parameters()], allow_unused=True):
        assert g is None or (g.isfinite().all() and g.abs().max() < 1e3)


# ---- the attack


def by_algorithm_1(net, *, eps, steps, step_size):
    z, rows = noisy(x, eps), (y.tolist(), others(net))
    for _ in range(steps):
        g = torch.func.grad(lambda v: per_image(eq5, net, v, *rows).sum())(z)
        z = torch.clamp(z + step_size * g.sign(), x - eps, x + eps).clamp(0, 1)
    return z


@pytest.mark.parametrize("protocol", ["text", "paper"])  # without batch normalisation they are one
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_the_attack_is_algorithm_1_from_the_same_noise(net, steps, protocol):
    art = settings(protocol, eps=0.05, beta=BETA, steps=steps, step_size=0.02)
    found = art_attack(net, x, y, settings=art, start=noisy(x, 0.05))
    same(found, by_algorithm_1(net, eps=0.05, steps=steps, step_size=0.02))


def test_the_attack_stays_in_the_ball_and_raises_the_loss(net):
    negative = torch.tensor(others(net))
    art, start = settings(beta=BETA, eps=0.03, steps=5, step_size=0.005), noisy(x, 0.03)
    found = art_attack(net, x, y, settings=art, start=start)
    assert (found - x).abs().max() <= 0.03 + 1e-12 and found.min() >= 0 and found.max() <= 1
    values = [art_loss(net, v, y, beta=BETA, negative=negative) for v in (found, start)]
    assert (values[0] > values[1] + 1e-4).all()


def masked(net, k, *, eps, steps, step_size, floor):
    """The code's attack (C-2, C-4, C-12 to C-15), one image at a time."""
    out = []
    for image, z, label in zip(x, noisy(x, eps), y.tolist(), strict=True):
        relu = jacobian(net, z)[label].abs().flatten().tolist()
        top = torch.zeros(len(relu), dtype=F64)
        top[sorted(range(len(relu)), key=lambda i: -relu[i])[:k]] = 1
        top = top.reshape(z.shape)

        def loss(v, label=label, top=top):
            other = best_other(logits_of(net, (v.detach() - m) / s, BETA, 20.0), label)
            g, anchor = jacobian(net, v, BETA, 20.0) * top, (v - m) / s * top
            distance = [
                1 - (g[i] * anchor).sum() / (g[i].norm() * anchor.norm()).clamp_min(floor) for i in (other, label)
            ]
            return torch.log(1 + torch.exp(distance[1] - distance[0]))

        for _ in range(steps):
            leaf = z.clone().requires_grad_()
            (g,) = torch.autograd.grad(loss(leaf), leaf)
            z = torch.clamp(z + step_size * g.sign(), image - eps, image + eps).clamp(0, 1)
        out.append(z)
    return torch.stack(out)


@pytest.mark.parametrize("floor", [1e-6, 9.0])
def test_the_authors_attack_is_the_plain_loop(net, floor):
    art = settings("authors", eps=0.05, beta=BETA, attack_topk=30, step_size=0.02, attack_cosine_eps=floor)
    found = art_attack(net, x, y, settings=art, start=noisy(x, 0.05))
    same(found, masked(net, 30, eps=0.05, steps=3, step_size=0.02, floor=3 * floor))  # 3 images: gradients of a mean


@pytest.mark.parametrize("channels", ["mean", "magnitude"])
def test_on_cub_the_cosine_is_of_means_over_channels(net, channels):
    """ART, B.1, and its code (C-34): one value a place, of image and gradients alike, in loss and attack."""

    def over(v):
        return (v.abs() if channels == "magnitude" else v).mean(0)

    def loss(image, label, other):
        g = jacobian(net, image, BETA)
        return torch.log(1 + torch.exp(d(over(g[label]), over(image)) - d(over(g[other]), over(image))))

    art, negative = settings(beta=BETA, channels=channels, eps=0.05, steps=1, step_size=0.01), torch.tensor(others(net))
    found = attribution_loss(net, x_adv, y, settings=art, clean=x, negative=negative)
    same(found, per_image(lambda net, *row: loss(*row), net, x_adv, y.tolist(), others(net)))
    start = noisy(x, 0.05)
    g = per_image(lambda net, *row: torch.func.grad(loss)(*row), net, start, y.tolist(), others(net))
    moved = torch.clamp(start + 0.01 * g.sign(), x - 0.05, x + 0.05).clamp(0, 1)
    same(art_attack(net, x, y, settings=art, start=start), moved)


def test_a_mask_of_means_over_channels_has_one_value_a_place(net):
    few = [settings(eps=0.05, beta=BETA, attack_topk=k, channels="mean") for k in (None, 6 * 6, 5)]
    whole, all_places, five = (art_attack(net, x, y, settings=s, start=noisy(x, 0.05)) for s in few)
    assert torch.equal(whole, all_places) and not torch.equal(whole, five)


def test_a_mask_of_every_value_changes_nothing_and_a_small_one_does(net):
    def run(k):
        art = settings(eps=0.05, beta=BETA, attack_topk=k)
        return art_attack(net, x, y, settings=art, start=noisy(x, 0.05))

    assert torch.equal(run(None), run(3 * 6 * 6)) and torch.equal(run(None), run(1000))
    assert not torch.equal(run(None), run(20))


# ---- the loss of a training


def test_the_loss_is_equation_6(net):
    art = settings(eps=0.05, beta=BETA, weight=0.7, step_size=0.02)
    loss, logits, parts, _ = art.losses(Batch(net, x, y, start=noisy(x, 0.05)))
    adv = by_algorithm_1(net, eps=0.05, steps=3, step_size=0.02)
    same(logits, net(adv))
    same(parts["L_attr"], per_image(eq5, net, adv, y.tolist(), others(net)).mean())
    expected = F.cross_entropy(net(adv), y) + 0.7 * per_image(eq5, net, adv, y.tolist(), others(net)).mean()
    same(loss, expected)
    parameters = list(net.parameters())
    for a, b in zip(*(torch.autograd.grad(v, parameters) for v in (loss, expected)), strict=True):
        same(a, b)


def test_the_authors_loss_adds_the_mined_loss_of_the_pair(net):
    art = settings("authors", eps=0.05, beta=BETA, attack_topk=30)
    loss, _, parts, _ = art.losses(Batch(net, x, y, start=noisy(x, 0.05)))
    adv = masked(net, 30, eps=0.05, steps=3, step_size=5 / 255, floor=3e-6)
    same(parts["L_attr"], per_image(mined, net, zip(x, adv, strict=True), y.tolist()).mean())
    same(loss, F.cross_entropy(net(adv), y) + 0.5 * parts["L_attr"])


def watch(model):
    """Mode, batch size and activation of every forward pass from now on."""
    seen = []

    def note(module, args):
        soft = all("forward" in v.__dict__ for v in module.modules() if isinstance(v, nn.ReLU))
        seen.append((module.training, len(args[0]), "softplus" if soft else "relu"))

    model.register_forward_pre_hook(note)
    return seen


@pytest.mark.parametrize(
    ("protocol", "updates"),
    [
        ("text", [(3, "relu")]),  # the cross-entropy alone
        ("paper", [(3, "relu")]),
        ("authors", [(3, "relu"), *[(3, "softplus")] * 3, (6, "softplus"), (3, "relu")]),  # C-11's six
    ],
)
def test_running_statistics_move_only_when_they_should(wrn, protocol, updates):
    images = torch.rand(3, 3, 8, 8, dtype=F64, generator=generator())
    wrn.train()
    before, seen = copy.deepcopy(wrn), watch(wrn)
    art, start = settings(protocol, eps=0.03, beta=BETA), noisy(images, 0.03)
    loss, logits, parts, _ = art.losses(Batch(wrn, images, y, start=start))
    assert [(n, act) for training, n, act in seen if training] == updates
    counts = {b.item() for n, b in wrn.named_buffers() if n.endswith("tracked")}
    assert counts == {len(updates)} and wrn.training
    loss.backward()
    assert all(p.grad.isfinite().all() for p in wrn.parameters())
    if protocol != "authors":  # and they are exactly those of one pass over the attacked batch
        adv = art_attack(copy.deepcopy(before), images, y, settings=art, start=start)
        after = copy.deepcopy(before)
        same(after(adv), logits)
        for a, b in zip(after.buffers(), wrn.buffers(), strict=True):
            same(a, b)
    if protocol == "text":  # L_attr sees the moved ones, i* those of before
        with torch.no_grad():
            negative = runner_up(copy.deepcopy(before).eval()(images), y)
        same(parts["L_attr"], art_loss(after.eval(), adv, y, beta=BETA, negative=negative).mean())


def test_cross_entropy_has_the_same_gradient_whatever_the_statistics_of_l_attr(wrn):
    """Its own layers are in train mode: weight 0 leaves cross-entropy with batch statistics, from one start."""
    images, found = torch.rand(3, 3, 8, 8, dtype=F64, generator=generator()), []
    for statistics in models.STATISTICS:
        net = copy.deepcopy(wrn).train()
        losses = Art(steps=0, weight=0.0, statistics=statistics).losses(Batch(net, images, y, start=images))
        found.append(torch.autograd.grad(losses.total, list(net.parameters())))
    for gradients in found[1:]:
        for a, b in zip(found[0], gradients, strict=True):
            same(a, b)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_same_generator_gives_the_same_loss(wrn, protocol):
    images, results = torch.rand(3, 3, 8, 8, dtype=F64, generator=generator()), []
    art = settings(protocol, eps=0.03)
    for seed in (1, 1, 2):
        start = art.start(images, generator=torch.Generator().manual_seed(seed))
        results.append(art.losses(Batch(copy.deepcopy(wrn).train(), images, y, start=start)).total.item())
    assert results[0] == results[1] != results[2]


class Functional(nn.Module):
    """A ReLU that no surrogate can see."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return F.relu(self.net(x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: art_loss(n, 255 * x, y), "divide by 255"),
        (lambda n: art_loss(n, x, y + 2), "classes 0 to 3"),
        (lambda n: art_loss(n, x, y.double()), "labels"),
        (lambda n: art_loss(n, x, y, protocol="code"), "'code'.*paper, text, authors"),
        (lambda n: art_loss(n, x, y, beta=0.0), "beta is 0.0; it must be a number above 0"),
        (lambda n: art_loss(Functional(n), x, y), r"Functional calls relu \(1 times\).* as nn\.ReLU"),
    ],
)
def test_bad_input_gets_one_clear_error(net, call, message):
    with pytest.raises(ValueError, match=message):
        call(net)
