"""DeepLIFT and LRP through captum against what both are on networks where that is known."""

import sys

import pytest
import torch
from torch import nn

from artlib import attributions, models
from artlib.attributions import Explainer
from artlib.attributions.by_captum import deep_lift, lrp

pytest.importorskip("captum")

F64 = torch.float64
x = torch.rand(3, 3, 16, 16, dtype=F64, generator=torch.Generator().manual_seed(1))
y = torch.tensor([2, 0, 3])
MEAN, STD = (0.3, 0.5, 0.6), (0.2, 0.25, 0.3)


def network(*middle, bias=True) -> models.Wrapped:
    layers = [models.Conv2d(3, 5, 3, bias=bias), *middle, nn.Flatten(), models.Linear(5 * 14 * 14, 4, bias=bias)]
    g = torch.Generator().manual_seed(0)
    net = models.wrap(nn.Sequential(*layers).double(), MEAN, STD)
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=g, dtype=F64) / max(1, p[0].numel()) ** 0.5
    return net


def same(a, b, tol=1e-8):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


def logit(net, v):
    return attributions.score(net(v), y).detach()


def test_on_a_linear_network_deep_lift_is_weight_times_difference():
    net = network()
    g = attributions.gradient(net, x, y)
    same(deep_lift(net, x, y, baseline=0.25), g * (x - 0.25))
    same(deep_lift(net, x, y), attributions.input_x_gradient(net, x, y))


def test_deep_lift_adds_up_to_the_difference_of_logits():
    pooled = network(nn.ReLU(), nn.MaxPool2d(2), nn.Upsample(scale_factor=2))
    for net in (models.build("wrn-10-1", 4, size=16, dtype=F64), network(nn.ReLU()), pooled):
        found = deep_lift(net, x, y, baseline=0.5)
        same(found.sum((1, 2, 3)), logit(net, x) - logit(net, torch.full_like(x, 0.5)))
        assert found.abs().sum() > 1e-3


def test_deep_lift_does_not_add_up_where_windows_overlap():
    """captum's rule for max pooling; where it does one day, the docstring may say so."""
    net = models.build("squeezenet1_1", 4, size=24, dtype=F64)
    v = torch.nn.functional.interpolate(x, 24)
    off = deep_lift(net, v, y, baseline=0.5).sum((1, 2, 3)) - logit(net, v) + logit(net, torch.full_like(v, 0.5))
    assert off.isfinite().all() and off.abs().max() > 1e-3


def test_on_a_network_without_biases_lrp_is_input_times_gradient_of_the_normalised_image():
    """Ancona et al. 2018, for the epsilon rule and ReLUs; its sum is the logit."""
    net = network(nn.ReLU(), bias=False)
    z = net[0](x).detach()
    leaf = z.clone().requires_grad_()
    (g,) = torch.autograd.grad(attributions.score(net[1:](leaf), y).sum(), leaf)
    found = lrp(net, x, y)
    same(found, z * g, 1e-6)
    same(found.sum((1, 2, 3)), logit(net, x), 1e-6)
    assert (found - attributions.input_x_gradient(net, x, y)).abs().max() > 0.01  # of pixels, another thing


@pytest.mark.parametrize("arch", ["squeezenet1_1", "squeezenet-small", "wrn-10-1"])
def test_lrp_of_the_networks_here_is_finite_and_leaves_no_trace(arch):
    net = models.build(arch, 4, size=24, dtype=F64)
    v, before = torch.nn.functional.interpolate(x, 24), {k: t.clone() for k, t in net.state_dict().items()}
    first = lrp(net, v, y)
    assert first.isfinite().all() and first.abs().sum() > 0
    assert all(torch.equal(t, before[k]) for k, t in net.state_dict().items())
    assert not any(hasattr(m, "rule") or m._forward_hooks or m._backward_hooks for m in net.modules())
    assert all(p.requires_grad for p in net.parameters())
    assert torch.equal(first, lrp(net, v, y))


@pytest.mark.parametrize("function", [deep_lift, lrp])
def test_they_are_explainers(function):
    net = network(nn.ReLU())
    assert Explainer(function)(net, x, y).shape == (3, 16, 16)
    with pytest.raises(ValueError, match="cannot be attacked by its gradient, use objective 'random'"):
        Explainer(function)(net, x, y, create_graph=True)


@pytest.mark.parametrize("function", [deep_lift, lrp])
def test_without_captum_they_say_how_to_get_it(function, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ModuleNotFoundError, match=f"{function.__name__} needs captum.*pip install captum$"):
        function(network(nn.ReLU()), x, y)


def test_lrp_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="lrp: Module of type <class 'torch.nn.modules.activation.GELU'> has no rule"):
        lrp(network(nn.GELU()), x, y)
    with pytest.raises(ValueError, match="needs a network of models.wrap"):
        lrp(nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).double(), x, y)
