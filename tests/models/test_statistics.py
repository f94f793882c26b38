"""Held statistics against fixed affine maps, measured layer by layer; what a look at a network must leave alone."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from artlib import compiled, models
from artlib.models import STATISTICS, frozen, normalised_by, smooth
from artlib.trainings import Art, Batch

F64, BETA, CLASSES = torch.float64, 6.0, 4
x = torch.rand(5, 3, 6, 6, dtype=F64, generator=torch.Generator().manual_seed(1))
other = torch.rand(3, 3, 6, 6, dtype=F64, generator=torch.Generator().manual_seed(2))
y = torch.tensor([2, 0, 3, 1, 1])


def network(kind=models.BatchNorm2d, dropout=0.0) -> nn.Sequential:
    """In train mode, with weights and running statistics that are not the first ones."""
    layers = [nn.Conv2d(3, 5, 3), kind(5), nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(5, 4, 3), kind(4), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, CLASSES)).double()
    noise = torch.Generator().manual_seed(3)
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=noise, dtype=F64) * (2 / max(1, p[0].numel())) ** 0.5
    for m in norms(net):
        m.running_mean = torch.randn(m.num_features, generator=noise, dtype=F64)
        m.running_var = torch.rand(m.num_features, generator=noise, dtype=F64) + 0.5
    return net.train()


def norms(net: nn.Module) -> list[nn.Module]:
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]


class Fixed(nn.Module):
    """The affine map of a batch normalisation that shares its weights and has constants for statistics."""

    def __init__(self, layer: nn.Module, mean: torch.Tensor, var: torch.Tensor):
        super().__init__()
        self.weight, self.bias, self.mean, self.std = layer.weight, layer.bias, mean, (var + layer.eps).sqrt()

    def forward(self, z):
        def shaped(v):
            return v[None, :, None, None]

        return (z - shaped(self.mean)) / shaped(self.std) * shaped(self.weight) + shaped(self.bias)


def transcribed(net: nn.Sequential, images, *, beta: float | None = None) -> nn.Sequential:
    """`net` with every batch normalisation fixed at mean and biased variance of its input, all layers before it fixed
    likewise; with softplus for ReLU afterwards, if `beta` is given."""
    layers, z = [], images
    for layer in net:
        if isinstance(layer, nn.Dropout):
            continue
        if isinstance(layer, nn.BatchNorm2d) and layer.training:
            layer = Fixed(layer, z.mean((0, 2, 3)).detach(), z.var((0, 2, 3), unbiased=False).detach())
        elif isinstance(layer, nn.BatchNorm2d):
            layer = Fixed(layer, layer.running_mean, layer.running_var)
        z = layer(z).detach()
        layers.append(nn.Softplus(beta, 1e9) if beta and isinstance(layer, nn.ReLU) else layer)
    return nn.Sequential(*layers)


def same(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def derivatives(net, images, *, weights) -> list[torch.Tensor]:
    """Logits, input gradient, and the gradients of both in the weights."""
    leaf = images.clone().requires_grad_()
    logits = net(leaf)
    (g,) = torch.autograd.grad(logits.square().sum(), leaf, create_graph=True)
    first = torch.autograd.grad(logits.sin().sum(), weights, retain_graph=True)
    return [logits, g, *first, *torch.autograd.grad(g.square().sum(), weights, materialize_grads=True)]


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, models.BatchNorm2d])
@pytest.mark.parametrize("images", [x, other], ids=["the measured images", "other images"])
def test_held_statistics_are_fixed_affine_maps(kind, images):
    """No gradient through the statistics, in any order: what the transcription's constants cannot have."""
    net = network(kind)
    weights = list(net.parameters())
    expected = derivatives(transcribed(net, x, beta=BETA), images, weights=weights)
    with normalised_by("held", net, x) as held, smooth(held, BETA):
        found = derivatives(held, images, weights=weights)
    for a, b in zip(found, expected, strict=True):
        same(a, b)
    assert not torch.allclose(found[0], net(images))


def triplet(net, images, labels, negative):
    """Eq. 5 of ART, the mean over images, by torch's own layers and one image's Jacobian at a time."""

    def d(g, v):
        return 1 - F.cosine_similarity(g.flatten(), v.flatten(), dim=0)

    losses = []
    for image, label, wrong in zip(images, labels, negative, strict=True):
        g = torch.func.jacrev(lambda v: net(v[None])[0])(image)
        losses.append(torch.log(1 + torch.exp(d(g[label], image) - d(g[wrong], image))))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, models.BatchNorm2d])
def test_the_gradients_of_l_attr_with_held_statistics_are_finite_differences(kind):
    """The statistics are those of x_adv, here the start of an attack without steps, and do not move with the weights;
    i* is that of the clean images, by the statistics of the start."""
    net = network(kind)
    start = (x + 0.05 * torch.randn(x.shape, dtype=F64, generator=torch.Generator().manual_seed(4))).clamp(0, 1)
    before = copy.deepcopy(net)
    negative = transcribed(before, start)(x).scatter(1, y[:, None], -torch.inf).argmax(1)
    fixed = transcribed(before, start, beta=BETA)
    losses = Art(steps=0, beta=BETA, statistics="held").losses(Batch(net, x, y, start=start))
    same(losses.parts["L_attr"], triplet(fixed, start, y, negative))
    gradients = torch.autograd.grad(losses.parts["L_attr"], list(net.parameters()), materialize_grads=True)
    h = 1e-6
    for p, g in zip(before.parameters(), gradients, strict=True):
        flat, index, ends = p.data.view(-1), g.flatten().abs().argmax(), []
        for shift in (h, -2 * h):
            flat[index] += shift
            ends.append(triplet(fixed, start, y, negative).item())
        flat[index] += h
        same(g.flatten()[index].item(), (ends[0] - ends[1]) / (2 * h), 1e-7)
    assert sum(g.abs().max() > 1e-4 for g in gradients) >= 6


def buffers(net) -> dict[str, torch.Tensor]:
    return {name: b.clone() for name, b in net.named_buffers()}


def unmoved(net, before) -> bool:
    return all(torch.equal(b, before[name]) for name, b in net.named_buffers())


@pytest.mark.parametrize("statistics", ["held", "running"])
def test_running_averages_do_not_move_and_are_put_back_also_after_an_error(statistics):
    net = network()
    before, objects = buffers(net), [id(b) for b in net.buffers()]
    with pytest.raises(KeyError), normalised_by(statistics, net, x):
        assert not any(m.training for m in net.modules())
        net(other)
        raise KeyError
    assert [id(b) for b in net.buffers()] == objects and unmoved(net, before)
    assert all(m.training for m in net.modules())
    with pytest.raises(RuntimeError), normalised_by(statistics, net, x[:, :2]):  # images that the network cannot see
        net(x[:, :2])
    assert [id(b) for b in net.buffers()] == objects and unmoved(net, before)
    assert all(m.training for m in net.modules()) and not any(m._forward_pre_hooks for m in net.modules())


def test_batch_statistics_are_a_network_in_train_mode():
    net, twin = network(), network()
    with normalised_by("batch", net, other):
        assert torch.equal(net(x), twin(x)) and all(m.training for m in net.modules())
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), twin.buffers(), strict=True))


def test_held_statistics_of_the_measured_images_give_the_logits_of_train_mode():
    net = network()
    with normalised_by("held", net, x):
        held = net(x)
    same(held, net(x))


def test_running_statistics_are_a_network_in_eval_mode():
    net = network()
    with normalised_by("running", net, x):
        found = net(other)
    same(found, net.eval()(other))


@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_frozen_layer_inside_a_network_in_train_mode_stays_frozen(statistics):
    net = network()
    first, second = norms(net)
    first.eval()
    before = buffers(first)
    with normalised_by(statistics, net, x):
        found = net(x)
        assert not first.training and unmoved(first, before)
    assert unmoved(first, before) and not first.training and second.training
    if statistics == "held":
        same(found, transcribed(net, x)(x))
    z = first(net[0](x))
    same(z, Fixed(first, first.running_mean, first.running_var)(net[0](x)))


@pytest.mark.parametrize("statistics", STATISTICS)
def test_a_network_in_eval_mode_is_left_as_it_is(statistics):
    net = network().eval()
    before = buffers(net)
    with normalised_by(statistics, net, x):
        same(net(x), copy.deepcopy(net)(x))
    assert unmoved(net, before) and not any(m.training for m in net.modules())


def test_dropout_is_on_with_batch_statistics_alone():
    for statistics, off in (("held", True), ("running", True), ("batch", False)):
        net = network(dropout=0.5)
        with normalised_by(statistics, net, x):
            assert torch.equal(net(x), net(x)) == off
    net = network(dropout=0.5)
    with normalised_by("held", net, x):
        same(net(x), transcribed(net, x)(x))  # off while measuring, too


def test_layers_without_running_averages_see_the_batch_always():
    net = network()
    net[1] = nn.BatchNorm2d(5, track_running_stats=False).double()
    with normalised_by("held", net, x):
        found = net(x)
        assert net[1].running_mean is None
    same(found, net(x))


def test_batch_norms_of_other_dimensions_are_held_too():
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(108), nn.Linear(108, 3)).double().train()
    flat = x.flatten(1)
    with normalised_by("held", net, x):
        expected = F.linear((flat - flat.mean(0)) / (flat.var(0, unbiased=False) + 1e-5).sqrt(), *net[2].parameters())
        same(net(x), expected)


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, models.BatchNorm2d])
def test_torchs_layers_can_be_held_under_autocast(kind):
    """They hand bf16 from one to the next; statistics stay in the dtype of the weights."""
    net, images = network(kind).float(), x.float()
    with normalised_by("held", net, images):
        exact = net(images)
    with torch.autocast("cpu", torch.bfloat16), normalised_by("held", net, images):
        assert (
            {m.running_mean.dtype for m in norms(net)} == {m.running_var.dtype for m in norms(net)} == {torch.float32}
        )
        torch.testing.assert_close(net(images).float(), exact, rtol=0.1, atol=0.1)


def logits(net, images):
    return net(images).detach()


def test_recorded_graphs_take_the_statistics_that_are_held_at_the_time(monkeypatch):
    """One graph, whatever was measured."""
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)
    net, found = network(), []
    for images in (x, x.flip(3) / 2):
        with frozen(net, training=None), normalised_by("held", net, images):
            found.append(compiled.call(logits, net, other, compile=True))
            same(found[-1], net(other))
    assert len(compiled._graphs[net]) == 1 and net not in compiled._broken and not torch.allclose(*found)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="unknown statistics 'eval'; choose one of running, batch, held"):
        with normalised_by("eval", network(), x):
            pass


def test_modes_that_differ_are_put_back():
    net = network()
    net[4].eval()
    modes = [m.training for m in net.modules()]
    for training in (False, True, None):
        with pytest.raises(KeyError), models.mode(net, training):
            assert training is None or {m.training for m in net.modules()} == {training}
            raise KeyError
        assert [m.training for m in net.modules()] == modes
