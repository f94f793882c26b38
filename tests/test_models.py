"""artlib.models against torch's own layers, finite differences and the parameter counts of the released classes."""

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from artlib import attributions, models
from artlib.models import BatchNorm2d, Conv2d, Softplus, check_batch, frozen, smooth

F64 = torch.float64


def images(n=2, channels=3, size=8, seed=1):
    return torch.rand(n, channels, size, size, dtype=F64, generator=torch.Generator().manual_seed(seed))


def tiny(arch="wrn-10-1", **changes):
    return models.build(arch, 4, **{"size": 8, "dtype": F64, **changes}).eval()


# ---- the two layers


def derivatives(layer, x, weights):
    """Value, gradients and the gradients of |input gradient|^2 of one layer, by autograd."""
    g = torch.Generator().manual_seed(3)
    x = x.clone().requires_grad_()
    y = layer(x)
    v = torch.rand(y.shape, dtype=F64, generator=g)
    first = torch.autograd.grad((v * y.sin()).sum(), (x, *weights), create_graph=True)
    second = torch.autograd.grad(sum(f.square().sum() for f in first), (x, *weights))
    return [y, *first, *second]


def same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "options",
    [
        dict(kernel_size=3),
        dict(kernel_size=3, padding=1, bias=False),
        dict(kernel_size=3, stride=2, padding=1),
        dict(kernel_size=(3, 2), stride=(1, 2), padding=(0, 1), dilation=(2, 1)),
        dict(kernel_size=3, padding=2, dilation=2, groups=2),
        dict(kernel_size=1, stride=2, bias=False, groups=4),
    ],
    ids=str,
)
def test_conv2d_is_torchs_in_value_gradient_and_double_gradient(options):
    ours, theirs = Conv2d(4, 8, dtype=F64, **options), nn.Conv2d(4, 8, dtype=F64, **options)
    theirs.load_state_dict(ours.state_dict())
    x = images(channels=4, size=7)
    same(derivatives(ours, x, list(ours.parameters())), derivatives(theirs, x, list(theirs.parameters())))


@pytest.mark.parametrize("options", [dict(stride=2, padding=1), dict(dilation=2, padding=1, groups=2)], ids=str)
def test_conv2d_passes_gradcheck_and_gradgradcheck(options):
    layer = Conv2d(2, 2, 3, dtype=F64, **options)
    x, w, b = images(1, 2, 5).requires_grad_(), layer.weight.detach(), layer.bias.detach()

    def f(x, w, b):
        return torch.func.functional_call(layer, {"weight": w, "bias": b}, (x,))

    inputs = (x, w.requires_grad_(), b.requires_grad_())
    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)


def test_a_third_derivative_of_a_convolution_is_right():
    layer, x = Conv2d(1, 1, 2, bias=False, dtype=F64), images(1, 1, 3).requires_grad_()
    y = layer(x).pow(4).sum() / 24  # third derivatives of (w * x)^4 / 24 along v: (w * v)^3 (w * x)
    v = images(1, 1, 3, seed=2)
    for _ in range(3):
        y = (torch.autograd.grad(y, x, create_graph=True)[0] * v).sum()
    assert math.isclose(y.item(), (layer(v) ** 3 * layer(x)).sum().item(), rel_tol=1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_torchs_in_value_gradient_and_double_gradient(training):
    ours, theirs = BatchNorm2d(3, dtype=F64), nn.BatchNorm2d(3, dtype=F64)
    g = torch.Generator().manual_seed(0)
    for name, tensor in ours.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(3, dtype=F64, generator=g) + 0.5)
        theirs.state_dict()[name].copy_(tensor)
    ours.train(training), theirs.train(training)
    x = images(3, 3, 5)
    same(derivatives(ours, x, list(ours.parameters())), derivatives(theirs, x, list(theirs.parameters())))
    same(ours.buffers(), theirs.buffers())
    assert ours.num_batches_tracked == int(training)


def test_batch_norm_in_train_mode_passes_gradcheck_and_gradgradcheck_of_all_its_gradients():
    layer = BatchNorm2d(2, dtype=F64)
    w, b = images(2, 2, 1)[..., 0, 0]
    inputs = tuple(v.detach().requires_grad_() for v in (images(3, 2, 3), w, b))

    def f(x, w, b):
        return torch.func.functional_call(layer, {"weight": w, "bias": b}, (x,))

    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)
    (first,) = torch.autograd.grad(f(*inputs).square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match="no third derivative"):
        torch.autograd.grad(first.sum(), inputs[0], create_graph=True)


def test_batch_norm_leaves_to_torch_what_it_does_not_do():
    with pytest.raises(ValueError, match="more than 1 value"):
        BatchNorm2d(2)(torch.zeros(1, 2, 1, 1))
    ours, theirs = (kind(2, momentum=None, dtype=F64) for kind in (BatchNorm2d, nn.BatchNorm2d))
    for seed in (1, 2):
        same([ours(images(3, 2, 3, seed=seed))], [theirs(images(3, 2, 3, seed=seed))])
    same(ours.buffers(), theirs.buffers())


# ---- softplus


@pytest.mark.parametrize("beta", [1.0, 50.0, 400.0])
def test_softplus_is_log1p_exp_and_torchs_below_the_threshold(beta):
    x = torch.linspace(-30, 30, 601, dtype=F64) / beta
    torch.testing.assert_close(Softplus(beta)(x), torch.log1p(torch.exp(beta * x)) / beta, rtol=1e-12, atol=1e-16)
    torch.testing.assert_close(Softplus(beta)(x), F.softplus(x, beta, 1e9), rtol=1e-12, atol=1e-16)


def test_softplus_passes_gradcheck_and_gradgradcheck():
    x = torch.linspace(-2, 2, 13, dtype=F64, requires_grad=True)
    for layer in (Softplus(2.0), Softplus(7.0, slope=0.1), Softplus(3.0, threshold=4.1, slope=0.2)):
        assert torch.autograd.gradcheck(layer, x)
        assert torch.autograd.gradgradcheck(layer, x)


def value_and_two_derivatives(f, x):
    x = x.clone().requires_grad_()
    y = f(x)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return y.detach(), first.detach(), torch.autograd.grad(first.sum(), x)[0]


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_softplus_does_not_overflow(dtype):
    x = torch.tensor([-1e4, -800.0, 0.0, 800.0, 1e4], dtype=dtype)
    y, first, second = value_and_two_derivatives(Softplus(1.0), x)
    torch.testing.assert_close(y, torch.tensor([0, 0, math.log(2), 800, 1e4], dtype=dtype))
    assert first.tolist() == [0, 0, 0.5, 1, 1] and second.tolist() == [0, 0, 0.25, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("threshold", [None, 20.0])
def test_softplus_makes_no_subnormal_numbers_on_which_cpus_are_slow(dtype, threshold):
    tiny = torch.finfo(dtype).tiny
    edge = -math.log(tiny)
    x = torch.linspace(-1.1 * edge, 1.1 * edge, 1001, dtype=dtype) / 50
    assert ((0 < (50 * x).sigmoid()) & ((50 * x).sigmoid() < tiny)).any()  # the sigmoid itself makes some
    for v in value_and_two_derivatives(Softplus(50.0, threshold=threshold), x):
        assert not ((0 < v.abs()) & (v.abs() < tiny)).any()


def test_threshold_20_is_torchs_softplus_with_its_vanishing_second_derivative():
    x = torch.linspace(-1, 1, 400, dtype=F64)  # not 0.4 itself, where rounding decides
    ours = value_and_two_derivatives(Softplus(50.0, threshold=20.0), x)
    same(ours, value_and_two_derivatives(nn.Softplus(50.0, 20.0), x))
    assert (ours[2][x > 0.4] == 0).all()  # linear there (C-14), where the exact function still bends
    exact = value_and_two_derivatives(Softplus(50.0), torch.tensor([0.41], dtype=F64))[2]
    assert math.isclose(exact.item(), 50 * math.exp(-50 * 0.41), rel_tol=1e-6)


def test_leaky_softplus_is_a_blend_and_tends_to_leaky_relu():
    x = torch.linspace(-1, 1, 41, dtype=F64)
    same([Softplus(5.0, slope=0.1)(x)], [0.1 * x + 0.9 * F.softplus(x, 5.0, 1e9)])
    torch.testing.assert_close(Softplus(1e5, slope=0.1)(x), F.leaky_relu(x, 0.1), rtol=0, atol=1e-5)


def test_a_third_derivative_raises_rather_than_being_wrong():
    x = torch.tensor([0.3], dtype=F64, requires_grad=True)
    (first,) = torch.autograd.grad(Softplus(2.0)(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no third derivative"):
        torch.autograd.grad(first.sum(), x, create_graph=True)


def test_nested_smooth_takes_the_inner_beta_and_puts_the_outer_back():
    net, x = nn.Sequential(nn.LeakyReLU(0.1)), torch.tensor([0.3], dtype=F64)
    with smooth(net, 5.0):
        outer = net(x)
        with smooth(net, 1.0):
            torch.testing.assert_close(net(x), Softplus(1.0, slope=0.1)(x))
        torch.testing.assert_close(net(x), outer)
    assert isinstance(net[0], nn.LeakyReLU)


def test_smooth_leaves_a_softplus_of_the_networks_own():
    net, x = nn.Sequential(nn.ReLU(), Softplus(3.0)), torch.tensor([0.3], dtype=F64)
    with smooth(net, 5.0), smooth(net, 1.0):
        torch.testing.assert_close(net(x), Softplus(3.0)(Softplus(1.0)(x)))


def test_what_the_convolution_cannot_do_is_refused():
    for bad in ({"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}):
        with pytest.raises(ValueError, match="only zeros"):
            models.Conv2d(1, 1, 3, **bad)


# ---- smooth


class Twice(nn.Module):
    """One in-place ReLU object under two names in two parents, and a leaky one."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 3, 1, dtype=F64), nn.ReLU(inplace=True)
        self.inner = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 3, dtype=F64), self.act), nn.LeakyReLU(0.3))

    def forward(self, x):
        return self.inner(self.act(self.conv(x)) - 0.2).mean((2, 3))


def test_smooth_replaces_nested_shared_in_place_and_leaky_activations_and_restores_them():
    model, x = Twice(), images()
    relu, leaky, before = model.act, model.inner[1], model(x)
    with smooth(model, 5.0) as inside:
        assert inside is model and relu(torch.zeros(1)) > 0 and leaky(torch.zeros(1)) > 0
        found = model(x)
        conv = model.inner[0][0]
    hidden = conv(F.softplus(model.conv(x), 5.0, 1e9) - 0.2)
    a = F.softplus(hidden, 5.0, 1e9)
    same([found], [(0.3 * a + 0.7 * F.softplus(a, 5.0, 1e9)).mean((2, 3))])
    assert model.act is relu and model.inner[0][1] is relu and model.inner[1] is leaky
    assert torch.equal(model(x), before)


def test_smooth_restores_after_an_exception():
    model = Twice()
    children, variables = list(model.modules()), [dict(vars(m)) for m in model.modules()]
    with pytest.raises(KeyError), smooth(model, 50.0):
        raise KeyError
    assert list(model.modules()) == children and [dict(vars(m)) for m in model.modules()] == variables


SMOOTH = [nn.GELU(), nn.SiLU(), nn.ELU(), nn.Softplus(), nn.Tanh(), nn.Sigmoid(), nn.Mish(), Softplus(3.0)]


@pytest.mark.parametrize("activation", SMOOTH, ids=str)
def test_a_smooth_network_is_its_own_surrogate(activation):
    net, x = nn.Sequential(nn.Conv2d(3, 4, 1, dtype=F64), activation, nn.Flatten()), images()
    before = net(x)
    models.check_smooth(net, x)
    with smooth(net, 5.0):
        assert torch.equal(net(x), before)


class Functional(nn.Module):
    """Three ReLU modules and one kink that is called as a function."""

    def __init__(self, kink):
        super().__init__()
        self.body = nn.Sequential(*[nn.Conv2d(3, 3, 1, dtype=F64), nn.ReLU()] * 2, nn.MaxPool2d(2))
        self.kink = kink

    def forward(self, x):
        return self.kink(self.body(x) - 0.1).flatten(1)


KINKS = {
    "relu": F.relu,
    "method": lambda v: v.relu_(),
    "relu6": F.relu6,
    "leaky_relu": lambda v: F.leaky_relu(v, 0.1),
    "prelu": lambda v: F.prelu(v, torch.tensor([0.1], dtype=F64)),
    "clamp": lambda v: v.clamp(min=0),
    "clamp_min": lambda v: v.clamp_min(0.0),
    "clamp6": lambda v: torch.clamp(v, 0, 6),
    "maximum": lambda v: torch.maximum(v, torch.zeros_like(v)),
    "zeros": lambda v: torch.maximum(torch.zeros((), dtype=F64), v),
    "hardtanh": F.hardtanh,
    "threshold": lambda v: F.threshold(v, 0.0, 0.0),
    "abs": torch.abs,
    "module": nn.Hardtanh(),
}


@pytest.mark.parametrize("kink", KINKS.values(), ids=KINKS)
def test_a_kink_that_is_called_as_a_function_is_refused(kink):
    net, x = Functional(kink), images()
    with pytest.raises(ValueError, match="Functional calls .*nn.ReLU"):
        models.check_smooth(net, x)
    with pytest.raises(ValueError, match="Functional calls .*nn.ReLU"), smooth(net, 5.0):  # and without being asked
        net(x)
    assert isinstance(net(x), torch.Tensor) and net.training


def test_what_only_looks_like_a_kink_passes():
    class Careful(nn.Sequential):
        def forward(self, x):
            x = x.clamp(0, 1)  # an image kept in its range
            return super().forward(x / x.std((1, 2, 3), keepdim=True).clamp_min(1e-6)).clamp(min=-50, max=50)

    models.check_smooth(Careful(nn.Conv2d(3, 4, 1, dtype=F64), nn.ReLU(), nn.Flatten()), images())


def test_the_look_is_one_pass_a_network_and_another_after_a_change():
    net, x, passes = nn.Sequential(nn.Conv2d(3, 4, 1, dtype=F64), nn.ReLU()), images(), []
    net[0].register_forward_hook(lambda *_: passes.append(1))
    for _ in range(3):
        models.check_smooth(net, x)
        with smooth(net, 5.0):
            net(x)
    assert len(passes) == 1 + 3
    net[1] = nn.Hardtanh()
    with pytest.raises(ValueError, match="hardtanh"):
        models.check_smooth(net, x)


def test_torchvisions_densenet_and_vgg():
    net, x = torchvision.models.densenet121(weights=None).double().eval(), images(1, 3, 32)
    with pytest.raises(ValueError, match=r"DenseNet calls relu_ \(1 times\) beside the 120"):
        models.check_smooth(net, x)
    models.check_smooth(torchvision.models.vgg11(weights=None, num_classes=4).double().eval(), x)


def test_relu6_and_prelu_have_surrogates_that_tend_to_them():
    x = torch.linspace(-2, 9, 45, dtype=F64).reshape(1, 3, 15, 1)
    slopes = torch.tensor([0.1, -0.3, 0.7], dtype=F64)
    prelu = nn.PReLU(3, dtype=F64)
    prelu.weight.data = slopes
    by_hand = {
        nn.ReLU6(): F.softplus(x, 4.0, 1e9) - F.softplus(x - 6, 4.0, 1e9),
        prelu: slopes.reshape(3, 1, 1) * x + (1 - slopes.reshape(3, 1, 1)) * F.softplus(x, 4.0, 1e9),
    }
    for module, expected in by_hand.items():
        net = nn.Sequential(module)
        with smooth(net, 4.0):
            same([net(x)], [expected])
        with smooth(net, 1e5):
            torch.testing.assert_close(net(x), module(x), rtol=0, atol=1e-4)
    with smooth(net, 4.0):  # the weight learns through its surrogate
        (g,) = torch.autograd.grad(net(x).sum(), prelu.weight)
    same([g], [(x - F.softplus(x, 4.0, 1e9)).sum((0, 2, 3))])


def test_smooth_fires_the_hooks_of_the_relus():
    net, x, seen = nn.Sequential(nn.Conv2d(3, 4, 1, dtype=F64), nn.ReLU()), images(), []
    net[1].register_forward_hook(lambda module, inputs, output: seen.append((module, output)))
    net[1].register_full_backward_hook(lambda module, *_: seen.append((module, None)))
    models.check_smooth(net, x)
    seen.clear()
    with smooth(net, 5.0):
        out = net(x.requires_grad_())
        out.sum().backward()
    assert [m for m, _ in seen] == [net[1]] * 2 and torch.equal(seen[0][1], out)
    same([out], [F.softplus(net[0](x), 5.0, 1e9)])


class Alias(nn.Module):
    """o = relu_(v); v + o is 2 relu(v), because the ReLU works in place."""

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 3, 1, dtype=F64), nn.ReLU(inplace=True)

    def forward(self, x):
        v = self.conv(x)
        return v + self.act(v)


def test_an_in_place_relu_whose_input_is_used_again_keeps_its_meaning():
    net, x = Alias(), images()
    with smooth(net, 1e5):
        torch.testing.assert_close(net(x), 2 * F.relu(net.conv(x)), rtol=0, atol=1e-4)
    with smooth(net, 3.0):
        leaf = x.clone().requires_grad_()
        found = derivatives(lambda z: net(z), leaf, list(net.parameters()))
    expected = derivatives(lambda z: 2 * F.softplus(net.conv(z), 3.0, 1e9), leaf, list(net.parameters()))
    same(found, expected)


@pytest.mark.parametrize("beta", [0.0, -1.0, math.nan])
def test_smooth_raises_for_a_beta_that_is_not_positive(beta):
    with pytest.raises(ValueError, match="beta"), smooth(Twice(), beta):
        pass


@pytest.mark.parametrize("arch", ["wrn-10-1", "rar-cnn", "rar-resnet-1"])
def test_surrogate_logits_tend_to_the_relu_logits(arch):
    model, x = tiny(arch), images()
    gaps = []
    for beta in (10.0, 100.0, 1e3, 1e4):
        with smooth(model, beta):
            gaps.append((model(x) - tiny(arch)(x)).abs().max().item())
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > 1e-3 > gaps[-1]


def y0(x):
    return torch.zeros(len(x), dtype=torch.int64)


def hessian_vector(model, x, v):
    x = x.clone().requires_grad_()
    g = attributions.input_gradient(model, x, y0(x), create_graph=True)
    return torch.autograd.grad((g * v).sum(), x)[0]


def test_the_relu_networks_hessian_is_zero_and_the_surrogates_is_the_finite_difference():
    model, x, v, h = tiny(), images(), images(seed=9), 1e-5
    assert (hessian_vector(model, x, v) == 0).all()
    with smooth(model, 5.0):
        found = hessian_vector(model, x, v)
        up, down = (attributions.input_gradient(model, x + s * h * v, y0(x)) for s in (1, -1))
    assert found.abs().max() > 1e-3
    torch.testing.assert_close(found, (up - down) / (2 * h), rtol=1e-5, atol=1e-8)


# ---- frozen


def test_frozen_restores_flags_and_mixed_modes_also_after_an_exception():
    model = tiny()
    model.train()
    model[-1].bias.requires_grad_(False)
    list(model.modules())[3].eval()
    flags, modes = [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]
    assert False in modes and True in modes
    for training in (False, True, None):
        with pytest.raises(KeyError), frozen(model, training=training) as inside:
            assert inside is model and not any(p.requires_grad for p in model.parameters())
            assert [m.training for m in model.modules()] == (modes if training is None else [training] * len(modes))
            raise KeyError
        assert [p.requires_grad for p in model.parameters()] == flags
        assert [m.training for m in model.modules()] == modes


# ---- check_batch


class Four(nn.Module):
    def forward(self, x):
        return x.new_zeros(len(x), 4)


FOUR = Four()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(3, 8, 8), torch.zeros(3, dtype=torch.int64), "of shape"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "float"),
        (torch.full((2, 3, 8, 8), 255.0), torch.zeros(2, dtype=torch.int64), "divide by 255"),
        (torch.full((2, 3, 8, 8), -0.5), torch.zeros(2, dtype=torch.int64), "-0.5"),
        (torch.full((2, 3, 8, 8), math.nan), torch.zeros(2, dtype=torch.int64), "nan"),
        (torch.zeros(2, 3, 8, 8), torch.zeros(2), "y is torch.float32 .*labels are int64"),
        (torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int32), "y is torch.int32 .*labels are int64"),
        (torch.zeros(2, 3, 8, 8), torch.zeros(3, dtype=torch.int64), r"\(2,\)"),
        (torch.zeros(2, 3, 8, 8), torch.tensor([0, 4]), "from 0 to 4; the model has classes 0 to 3"),
        (torch.zeros(2, 3, 8, 8), torch.tensor([-1, 3]), "from -1 to 3"),
    ],
)
def test_check_batch_names_what_is_wrong(x, y, message):
    with pytest.raises(ValueError, match=message):
        check_batch(x, y, FOUR)


class Returns(nn.Module):
    def __init__(self, f):
        super().__init__()
        self.f = f

    def forward(self, x):
        return self.f(x)


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda x: (x.flatten(1), None), "Returns returns a tuple .*logits alone"),
        (lambda x: {"out": x}, "Returns returns a dict"),
        (lambda x: x, r"shape \(1, 3, 8, 8\) for one image"),
        (lambda x: x.sum((1, 2, 3))[:, None], "single logit"),
        (lambda x: x.flatten(1).softmax(1), "softmax"),
        (lambda x: x.flatten(1).softmax(1) - 0.01, None),
    ],
)
def test_outputs_that_are_not_logits_get_a_sentence(f, message):
    x, y = images(), torch.zeros(2, dtype=torch.int64)
    if message is None:
        return check_batch(x, y, Returns(f))
    with pytest.raises(ValueError, match=message):
        check_batch(x, y, Returns(f))


def test_normalised_images_are_told_of_wrap():
    with pytest.raises(ValueError, match=r"models\.wrap\(net, mean, std\)"):
        check_batch((images() - 0.5) / 0.25, torch.zeros(2, dtype=torch.int64))


def test_a_first_layer_that_works_in_place_does_not_reach_the_callers_images():
    net, x, y = nn.Sequential(nn.Threshold(0.5, 0.0, inplace=True), nn.Flatten()), images(), torch.zeros(2).long()
    before = x.clone()
    check_batch(x, y, net)
    attributions.gradient(net, x, y)
    attributions.integrated_gradients(net, x, y, steps=2)
    assert torch.equal(x, before)


def test_check_batch_accepts_the_whole_range():
    x = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    check_batch(x, torch.tensor([0, 3]), FOUR)
    check_batch(x[:0], torch.zeros(0, dtype=torch.int64), FOUR)


def test_inside_checked_nothing_is_looked_at_and_outside_it_is_again():
    bad = torch.full((2, 3, 8, 8), 255.0), torch.zeros(2, dtype=torch.int64)
    with models.checked():
        check_batch(*bad)
    with pytest.raises(ValueError, match="divide by 255"):
        check_batch(*bad)


# ---- build


@pytest.mark.parametrize(("build", "count"), [((28, 10, 10), 36_479_194), ((40, 2, 10), 2_243_546)])
def test_parameter_counts_are_the_released_ones(build, count):  # ART's classes
    with torch.device("meta"):
        assert models.parameter_count(models.wide_resnet.wide_resnet(*build)) == count


def test_rar_networks_have_the_published_layers():  # by Chen et al.
    with torch.device("meta"):
        cnn, one, two = models.chen.rar_cnn(10), models.chen.rar_resnet(1, 17), models.chen.rar_resnet(2, 43)
    assert models.parameter_count(cnn) == 26 * 32 + (25 * 32 + 1) * 64 + (7 * 7 * 64 + 1) * 1024 + 1025 * 10
    units = 9 * (16 * 16 + 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64)
    assert models.parameter_count(one) == 27 * 16 + units + 65 * 17
    assert models.parameter_count(two) == 27 * 16 + units + 2 * 9 * (16**2 + 32**2 + 64**2) + 65 * 43


@pytest.mark.parametrize(
    ("arch", "channels"), [("wrn-10-1", 3), ("wrn-16-2", 1), ("rar-cnn", 1), ("rar-resnet-1", 3), ("rar-resnet-2", 3)]
)
def test_build_gives_logits_of_the_right_shape_and_type(arch, channels):
    model = models.build(arch, 7, in_channels=channels, size=12)
    y = model(images(2, channels, 12).float())
    assert y.shape == (2, 7) and y.dtype == torch.float32


def test_the_normalisation_is_inside():
    mean, std, x = (0.1, 0.5, 0.7), (0.2, 0.3, 0.4), images()
    plain, normalised = tiny(), tiny(mean=mean, std=std)
    m, s = (torch.tensor(v, dtype=F64).reshape(3, 1, 1) for v in (mean, std))
    same([normalised(x)], [plain((x - m) / s)])
    same([normalised[0].mean.flatten()], [m.flatten()])


def test_standardize_ignores_brightness_and_contrast_and_bounds_flat_images():
    x = images()
    z = models.Standardize()(x)
    one = torch.ones(2, dtype=F64)
    same([z], [models.Standardize()(0.5 * x + 0.2)])
    same([z.mean((1, 2, 3)), z.var((1, 2, 3), correction=0)], [0 * one, one])
    flat = models.Standardize()(torch.full((1, 3, 8, 8), 0.5, dtype=F64))
    assert (flat == 0).all()


def test_the_same_generator_gives_the_same_weights_and_the_global_one_is_untouched():
    state = torch.random.get_rng_state()
    a, b, c = (models.build("wrn-10-1", 4, generator=torch.Generator().manual_seed(s)).state_dict() for s in (5, 5, 6))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["1.weight"], c["1.weight"])


def test_float32_weights_are_the_float64_weights_rounded():
    single, double = (models.build("wrn-10-1", 4, dtype=d).state_dict() for d in (torch.float32, F64))
    assert all(torch.equal(single[k], double[k].to(single[k].dtype)) for k in single)


def test_convolutions_start_with_the_variance_of_he():
    for m in tiny("wrn-10-2").modules():
        if isinstance(m, nn.Conv2d) and m.weight.numel() > 5000:
            assert abs(m.weight.var().item() * m.weight[0].numel() / 2 - 1) < 0.05


def test_dropout_only_where_asked():
    assert sum(isinstance(m, nn.Dropout) for m in tiny("wrn-16-1").modules()) == 0
    drops = [m for m in tiny("wrn-16-1", dropout=0.1).modules() if isinstance(m, nn.Dropout)]
    assert len(drops) == 6 and {m.p for m in drops} == {0.1}


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("wrn-11-1", {}, r"6 n \+ 4"),
        ("wrn-10-0", {}, "positive"),
        ("resnet18", {}, "unknown architecture 'resnet18'"),
        ("rar-resnet-3", {}, "unknown architecture"),
        ("wrn-10-1", dict(mean=(0.5,)), "3 channels"),
        ("wrn-10-1", dict(in_channels=1, std=(0.5, 0.5, 0.5)), "1 channels"),
    ],
)
def test_build_errors(arch, options, message):
    with pytest.raises(ValueError, match=message):
        models.build(arch, 4, **options)


# ---- somebody else's network


def test_a_torchvision_resnet_works_with_smooth_and_gradient():
    torch.manual_seed(0)
    model, x, y = (
        torchvision.models.resnet18(weights=None, num_classes=4).double().eval(),
        images(2, 3, 32),
        torch.tensor([1, 3]),
    )
    assert model.relu.inplace
    before, relu = model(x), attributions.gradient(model, x, y)
    with smooth(model, 20.0):
        a, b = attributions.gradient(model, x, y), model(x)
        leaf = x.clone().requires_grad_()
        (second,) = torch.autograd.grad(attributions.gradient(model, leaf, y, create_graph=True).square().sum(), leaf)
    assert torch.equal(model(x), before) and torch.equal(attributions.gradient(model, x, y), relu)
    assert second.abs().max() > 0 and (b - before).abs().max() > 0
    assert F.cosine_similarity(a.flatten(), relu.flatten(), dim=0) < 1 - 1e-9
