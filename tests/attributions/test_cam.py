"""Class activation maps: the weights of a linear head, captum, pytorch-grad-cam, the sums of Grad-CAM++ written out."""

import warnings

import pytest
import torch
from torch import nn

from artlib import attacks, models
from artlib.attributions import Explainer, cam, grad_cam, grad_cam_pp, positive, signed

F64 = torch.float64
NAMES = ("cam", "grad_cam", "grad_cam_pp")
x = torch.rand(3, 3, 12, 12, dtype=F64, generator=torch.Generator().manual_seed(1))
y = torch.tensor([0, 2, 1])


def net(arch: str = "wrn-10-1") -> nn.Module:
    return models.build(arch, 4, size=12, dtype=F64)


def hooked(model: nn.Module, layer: str) -> torch.Tensor:
    found = []
    hook = model.get_submodule(layer).register_forward_hook(lambda m, i, o: found.append(o.detach()))
    with torch.no_grad():
        model(x)
    hook.remove()
    return found[0]


def last(model: nn.Module) -> str:
    """The name of the module before the mean over places."""
    names = [name for name, m in model.named_children()]
    return names[-3]


def test_cam_is_the_feature_maps_weighted_by_the_linear_layer():
    model = net()
    a, head = hooked(model, last(model)), list(model.children())[-1]
    expected = torch.einsum("nk,nkhw->nhw", head.weight[y], a)
    found = cam(model, x, y)
    assert found.shape == (3, 1, 3, 3)
    torch.testing.assert_close(found[:, 0], expected)
    logits = expected.mean((1, 2)) + head.bias[y]
    torch.testing.assert_close(model(x)[torch.arange(3), y], logits)  # what it explains
    torch.testing.assert_close(grad_cam(model, x, y)[:, 0] * 9, expected)  # for such a head they are one
    assert (expected < 0).any() and torch.equal(positive(found), signed(found).clamp(min=0))


def test_a_squeezenet_has_a_map_for_every_class():
    model = models.build("squeezenet1_1", 4, size=40, dtype=F64)
    some = torch.rand(2, 3, 40, 40, dtype=F64, generator=torch.Generator().manual_seed(1))
    maps = []
    model[1].classifier[2].register_forward_hook(lambda m, i, o: maps.append(o.detach()))
    model(some)
    torch.testing.assert_close(cam(model, some, y[1:])[:, 0], maps[0][[0, 1], y[1:]])


@pytest.mark.parametrize(
    "arch, layer", [("wrn-10-1", None), ("wrn-10-1", "2"), ("rar-cnn", "4"), ("resnet-8", "1.layer2")]
)
def test_grad_cam_is_captums(arch, layer):
    captum = pytest.importorskip("captum.attr")
    model = net(arch)
    at = model.get_submodule(layer or last(model))
    expected = captum.LayerGradCam(model, at).attribute(x.clone().requires_grad_(), y).detach()
    torch.testing.assert_close(grad_cam(model, x, y, layer=layer), expected)


def test_grad_cam_pp_is_its_sums_written_out():
    """With a head that is not linear, so that gradients differ between places; sums over places in plain loops."""
    model, layer = net("rar-cnn"), "4"
    a = hooked(model, layer).requires_grad_()
    v = a
    for m in list(model)[int(layer) + 1 :]:
        v = m(v)
    (g,) = torch.autograd.grad(v[torch.arange(3), y].sum(), a)
    assert g.std((2, 3)).max() > 0
    expected = torch.zeros(3, *a.shape[2:], dtype=F64)
    for n in range(3):
        for k in range(a.shape[1]):
            weight = 0.0
            for i in range(a.shape[2]):
                for j in range(a.shape[3]):
                    d = g[n, k, i, j].item()
                    below = 2 * d**2 + a[n, k].sum().item() * d**3
                    weight += (d**2 / below if below else 0.0) * max(d, 0.0)
            expected[n] += weight * a[n, k].detach()
    torch.testing.assert_close(grad_cam_pp(model, x, y, layer=layer)[:, 0], expected)


@pytest.mark.parametrize(
    "name, theirs", [("cam", "HiResCAM"), ("grad_cam", "GradCAM"), ("grad_cam_pp", "GradCAMPlusPlus")]
)
def test_maps_are_those_of_pytorch_grad_cam(name, theirs, monkeypatch):
    """HiResCAM lacks the factor h w. Large logits, since its Grad-CAM++ adds 1e-6 below the line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports'
        package = pytest.importorskip("pytorch_grad_cam")
    kind, raw = getattr(package, theirs), []

    def keep(self, *args, made=kind.get_cam_image):  # before it is cut at 0, scaled and enlarged
        raw.append(torch.from_numpy(made(self, *args)))
        return raw[-1].numpy()

    monkeypatch.setattr(kind, "get_cam_image", keep)
    model = net("rar-cnn")
    with torch.no_grad():
        model[-1].weight *= 1e5
    asked = [package.utils.model_targets.ClassifierOutputTarget(int(label)) for label in y]
    kind(model, [model.get_submodule("4")])(x, asked)
    found = {"cam": cam, "grad_cam": grad_cam, "grad_cam_pp": grad_cam_pp}[name](model, x, y, layer="4")[:, 0]
    factor = found[0].numel() if name == "cam" else 1
    torch.testing.assert_close(found, factor * raw[0])
    assert raw[0].abs().amax((1, 2)).min() > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_derivative_is_that_of_finite_differences(name):
    model, v = net(), x[:1].clone().requires_grad_()
    direction = torch.randn(v.shape, dtype=F64, generator=torch.Generator().manual_seed(3))
    with models.smooth(model, 5.0):
        weights = torch.linspace(1, 2, 9, dtype=F64).view(3, 3)
        explain = Explainer(name, reduce=signed)
        value = (explain(model, v, y[:1], create_graph=True) * weights).sum()
        slope = (torch.autograd.grad(value, v)[0] * direction).sum().item()
        ends = [(explain(model, v.detach() + t * direction, y[:1]) * weights).sum().item() for t in (1e-6, -1e-6)]
    assert slope != 0 and (ends[0] - ends[1]) / 2e-6 == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_map_of_the_size_of_the_image_and_a_model_left_as_it_was(name):
    model = net().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    maps = Explainer(name, reduce=positive, upsample=True)(model, x, y)
    assert maps.shape == (3, 12, 12) and (maps >= 0).all() and not maps.requires_grad
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks for m in model.modules())
    for i in range(3):  # an image's map does not depend on its batch
        torch.testing.assert_close(
            maps[i : i + 1], Explainer(name, reduce=positive, upsample=True)(model, x[i:][:1], y[i:][:1])
        )


def test_they_can_be_attacked():
    """IFIA lowers what is in the largest pixels of a Grad-CAM."""
    model = net()
    predicted = model(x).argmax(1)
    explainer = Explainer("grad_cam", reduce=positive, upsample=True)
    options = dict(ball=attacks.Linf(0.05), steps=4, step_size=0.02, explainer=explainer, k=20)
    found = attacks.ifia(model, x, predicted, **options)
    assert found.before.shape == (3, 12, 12) and (found.kendall < 1).any()


def test_what_is_wrong_is_said():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(432, 4)).double()
    with pytest.raises(ValueError, match="no layer of Sequential returns a feature map"):
        cam(flat, x, y)
    with pytest.raises(ValueError, match="unknown layer 'conv9'; choose one of 0, 1"):
        grad_cam(flat, x, y, layer="conv9")
    with pytest.raises(ValueError, match="0 returns a feature map|1 returns a feature map"):
        grad_cam(flat, x, y, layer="1")
    with pytest.raises(ValueError, match="has no option 'layers'; it has layer, target"):
        Explainer("cam", {"layers": 3})
