"""ResNet-50 and VGG-GAP: torchvision's networks are the oracle; public weights, from wherever they may lie."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from artlib import attributions, models, trainings
from artlib.models import resnet50, vgg

F64 = torch.float64


def images(size: int = 40, n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, size, size, dtype=F64, generator=torch.Generator().manual_seed(1))


def derivatives(net: nn.Module, weights: list[nn.Parameter]) -> list[torch.Tensor]:
    """Logits, an input gradient, and the gradients of its square in weights."""
    x = images().requires_grad_()
    logits = net(x)
    (g,) = torch.autograd.grad(logits[:, 0].sum(), x, create_graph=True)
    return [logits, g, *torch.autograd.grad(g.square().sum(), weights)]


@pytest.mark.parametrize("training", [False, True])
def test_resnet50_is_torchvisions_to_the_second_derivative(training):
    """The same keys; in train mode the statistics of the batch take part, and the running ones move alike."""
    ours = models.build("resnet50-stride2", 5, size=40, dtype=F64).train(training)
    theirs = torchvision.models.resnet50(num_classes=5).double().train(training)
    theirs.load_state_dict(ours[1].state_dict())
    found = []
    for net in (ours[1], theirs):
        found.append(derivatives(net, [net.conv1.weight, net.layer3[1].conv2.weight, net.layer4[0].bn3.weight]))
    assert found[0][1].abs().sum() > 0
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours[1].state_dict()[key], value)


def test_stride_1_is_the_switch_of_one_layer_and_no_weight():
    """Torchvision's network with both convolutions of layer4 that stride set to 1: a map twice as fine."""
    ours = models.build("resnet50-stride1", 5, size=40, dtype=F64)
    theirs = torchvision.models.resnet50(num_classes=5).double().eval()
    theirs.load_state_dict(ours[1].state_dict())
    coarse = theirs(images())
    theirs.layer4[0].conv2.stride = theirs.layer4[0].downsample[0].stride = (1, 1)
    torch.testing.assert_close(ours(images()), theirs(images()))
    assert not torch.allclose(theirs(images()), coarse)
    maps = [attributions.cam(net, images(64), torch.tensor([0, 1])) for net in (ours, theirs)]
    assert maps[0].shape == (2, 1, 4, 4)
    torch.testing.assert_close(*maps)


def test_another_stride_or_depth_is_refused():
    for make in (resnet50.resnet50, resnet50.with_se, resnet50.pretrained):
        with pytest.raises(ValueError, match="stride is 3; that of layer4 is 1 or 2"):
            make(3, num_classes=4)
    for make in (vgg.vgg_gap, vgg.pretrained):
        with pytest.raises(ValueError, match="depth is 19; VGG-GAP is made of VGG-16 alone"):
            make(19, num_classes=4)


def test_published_sizes():
    """Torchvision's 25,557,032 of ResNet-50; SE adds 2 C C/16 + C/16 + C weights a block of C channels."""
    names = ("resnet50-stride1", "resnet50se-stride1")
    sizes = {arch: models.parameter_count(models.build(arch, 1000)) for arch in names}
    extra = sum(n * (c * c // 8 + c // 16 + c) for n, c in ((3, 256), (4, 512), (6, 1024), (3, 2048)))
    assert sizes == {"resnet50-stride1": 25_557_032, "resnet50se-stride1": 25_557_032 + extra}
    convolutions = sum(p.numel() for p in torchvision.models.vgg16().features.parameters())
    added = 512 * 1024 * 9 + 1024 + 1024 * 7 + 7
    assert models.parameter_count(models.build("vgg16-gap", 7)) == convolutions + added


def test_se_scales_channels_by_a_number_of_the_image():
    block = resnet50.SqueezeExcitation(32).double()
    x = torch.randn(2, 32, 3, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    h = (x.mean((2, 3)) @ block.fc1.weight.T + block.fc1.bias).clamp(min=0)
    scale = 1 / (1 + torch.exp(-(h @ block.fc2.weight.T + block.fc2.bias)))
    torch.testing.assert_close(block(x), torch.einsum("nchw,nc->nchw", x, scale))


def test_vgg_gap_is_torchvisions_vgg_and_three_layers():
    ours = models.build("vgg16-gap", 5, size=40, dtype=F64)
    features = torchvision.models.vgg16().features[:30].double()
    features.load_state_dict(ours[1].features[:30].state_dict())
    last = ours[1].features[30]
    map_ = torch.nn.functional.conv2d(features(images()), last.weight, last.bias, padding=1).relu()
    head = ours[1].classifier
    torch.testing.assert_close(ours(images()), map_.mean((2, 3)) @ head.weight.T + head.bias)
    y = torch.tensor([0, 3])
    cam = torch.einsum("nkhw,nk->nhw", map_, head.weight[y])  # Zhou et al.: no gradient in it
    torch.testing.assert_close(attributions.cam(ours, images(), y)[:, 0], cam)
    with pytest.raises(ValueError, match="vgg16-gap needs images of at least 16 pixels, not 15"):
        models.build("vgg16-gap", 5, size=15)


@pytest.mark.parametrize("arch", ["resnet50-stride1", "resnet50se-stride1", "vgg16-gap"])
def test_the_surrogate_reaches_every_activation_and_grey_images_pass(arch):
    model = models.build(arch, 3, in_channels=1, size=32, dtype=F64)
    x, y = images(32)[:1, :1], torch.tensor([1])

    def curvature() -> float:
        v = x.clone().requires_grad_()
        g = attributions.gradient(model, v, y, create_graph=True)
        (h,) = torch.autograd.grad(g.sum(), v, allow_unused=True, materialize_grads=True)
        return h.abs().sum().item()

    assert "se" in arch or curvature() == 0
    models.check_smooth(model, x)
    with models.smooth(model, 10.0):
        assert curvature() > 0


# ------------------------------------------------------------------ public weights

PUBLIC = {"resnet50-stride1-pretrained": "resnet50", "vgg16-gap-pretrained": "vgg16"}
PUBLIC |= {f"squeezenet1_{v}-pretrained": f"squeezenet1_{v}" for v in (0, 1)}


@pytest.fixture
def folders(nobody):
    """Nothing is there, and nobody can be reached."""
    (nobody / "data" / "weights").mkdir(parents=True)
    (nobody / "cache" / "checkpoints").mkdir(parents=True)
    return nobody


def public_weights(name: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return getattr(torchvision.models, name)().state_dict()


def put(folder, name: str, weights: dict, where: str) -> None:
    if where == "data":
        halves = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
        save_file(halves, folder / "data" / "weights" / f"{name}.safetensors")
    else:
        url = torchvision.models.get_model_weights(name).IMAGENET1K_V1.url
        torch.save(weights, folder / "cache" / "checkpoints" / url.rsplit("/", 1)[1])


@pytest.mark.parametrize("where", ["data", "cache"])
def test_resnet50_takes_all_layers_but_the_last(folders, where):
    weights = public_weights("resnet50")
    put(folders, "resnet50", weights, where)
    a, b = (models.build("resnet50-stride1-pretrained", 4, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    for key, value in a[1].state_dict().items():
        same = torch.equal(value, b[1].state_dict()[key])
        if key.startswith("fc."):
            assert value.shape[0] == 4 and same == key.endswith("bias")
        else:
            rounded = where == "data" and weights[key].is_floating_point()
            assert same and torch.equal(value, weights[key].half().float() if rounded else weights[key])
    assert all(p.requires_grad for p in a.parameters())


def test_vgg_takes_its_convolutions(folders):
    weights = public_weights("vgg16")
    put(folders, "vgg16", {k: v for k, v in weights.items() if k.startswith("features")}, "cache")
    net = models.build("vgg16-gap-pretrained", 4)[1]
    own = net.state_dict()
    for key, value in weights.items():
        assert not key.startswith("features") or torch.equal(own[key], value)
    assert own["features.30.weight"].abs().sum() > 0 and own["features.30.bias"].abs().sum() == 0


@pytest.mark.parametrize("version", [0, 1])
def test_squeezenet_takes_torchvisions_features_unscaled(folders, version):
    """Where its own file is not there; what torchvision's network makes of normalised images, ours does."""
    name = f"squeezenet1_{version}"
    weights = {k: v + 0.1 if k.endswith("bias") else v for k, v in public_weights(name).items()}
    put(folders, name, weights, "cache")
    net = models.build(f"{name}-pretrained", 4)[1]
    theirs = getattr(torchvision.models, name)().eval()
    theirs.load_state_dict(weights)
    torch.testing.assert_close(net.features(images().float()), theirs.features(images().float()))
    assert [k for k, v in net.state_dict().items() if v.shape != weights[k].shape] == [
        "classifier.1.weight", "classifier.1.bias"
    ]  # fmt: skip
    assert all(p.requires_grad for p in net.parameters())
    put(folders, name, weights, "data")
    kept = models.build(f"{name}-pretrained", 4)[1].features[0].weight
    assert torch.equal(kept, weights["features.0.weight"].half().float())


@pytest.mark.parametrize("arch", PUBLIC)
def test_missing_damaged_and_grey_is_said(folders, arch):
    name = PUBLIC[arch]
    said = (
        rf"weights/{name}\.safetensors is not there, nor is .*checkpoints/{name}-\w+\.pth, and https://\S+ cannot be "
    )
    with pytest.raises(
        FileNotFoundError, match=said + r"reached \(no route to host\): put one of the two there, or train"
    ):
        models.build(arch, 4)
    with pytest.raises(ValueError, match=f"{arch} is for 3 channels, not 1"):
        models.build(arch, 4, in_channels=1)
    path = folders / "data" / "weights" / f"{name}.safetensors"
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=rf"weights/{name}\.safetensors is damaged"):
        models.build(arch, 4)
    path.unlink()
    put(folders, name, {}, "cache")
    (cached,) = (folders / "cache" / "checkpoints").iterdir()
    cached.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=rf"{cached.name} is damaged"):
        models.build(arch, 4)
    with pytest.raises(ValueError, match="choose one of .*resnet50-stride1, resnet50-stride2"):
        trainings.Recipe(arch="resnet50")
