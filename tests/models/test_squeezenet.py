"""SqueezeNet: torchvision's network is the oracle; what is pretrained stays as given when a network is built."""

import math

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn
from torchvision.models.squeezenet import Fire

from artlib import attributions, data, models, paths, trainings
from artlib.models import public, squeezenet

F64 = torch.float64


def images(size: int = 40) -> torch.Tensor:
    return torch.rand(2, 3, size, size, dtype=F64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("version", [0, 1])
def test_it_is_torchvisions_to_the_second_derivative(version):
    """The same keys, logits, input gradients, and gradients of those in the weights."""
    ours = models.build(f"squeezenet1_{version}", 5, size=40, dtype=F64)
    theirs = getattr(torchvision.models, f"squeezenet1_{version}")(num_classes=5).double().eval()
    theirs.load_state_dict(ours[1].state_dict())
    found = []
    for net in (ours, theirs):
        x = images().requires_grad_()
        logits = net(x)
        (g,) = torch.autograd.grad(logits[:, 0].sum(), x, create_graph=True)
        found.append([logits, g, *torch.autograd.grad(g.square().sum(), [p for p in net.parameters() if p.ndim == 4])])
    assert found[0][1].abs().sum() > 0
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_published_sizes():
    """Parameters as torchvision documents them."""
    sizes = {v: models.parameter_count(models.build(f"squeezenet1_{v}", 1000)) for v in (0, 1)}
    assert sizes == {0: 1_248_424, 1: 1_235_496}


@pytest.mark.parametrize("version", [0, 1])
def test_the_smallest_image_passes_and_a_smaller_one_is_refused(version):
    least = squeezenet.SMALLEST[version]
    assert models.build(f"squeezenet1_{version}", 3, size=least, dtype=F64)(images(least)).isfinite().all()
    with pytest.raises(ValueError, match=f"needs images of at least {least} pixels, not {least - 1}"):
        models.build(f"squeezenet1_{version}", 3, size=least - 1)
    with pytest.raises(RuntimeError):
        models.build(f"squeezenet1_{version}", 3, size=least, dtype=F64)(images(least - 1))


@pytest.mark.parametrize("arch", ["squeezenet1_1", "squeezenet-small"])
def test_the_surrogate_reaches_every_activation(arch):
    """Its second derivative in the input is not zero, where that of the network of ReLUs is."""
    model, x, y = models.build(arch, 3, in_channels=1, size=32, dtype=F64), images(32)[:, :1], [0, 1]
    y = torch.tensor(y)

    def curvature() -> float:
        v = x.clone().requires_grad_()
        g = attributions.gradient(model, v, y, create_graph=True)
        (h,) = torch.autograd.grad(g.sum(), v, allow_unused=True, materialize_grads=True)
        return h.abs().sum().item()

    assert curvature() == 0
    with models.smooth(model, 10.0):
        assert curvature() > 0


# ---- the small one


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "side"), [(28, 7), (32, 8), (64, 16)])
def test_the_small_one_has_a_map_a_class_for_every_size(size, side, channels):
    model, x = models.build("squeezenet-small", 5, in_channels=channels, size=size, dtype=F64), images(size)
    x = x[:, :channels]
    maps = model[:-1](x)
    assert maps.shape == (2, 5, side, side)
    torch.testing.assert_close(model(x), maps.mean((2, 3)))


def of_torchvision(classes: int) -> nn.Sequential:
    """The small one of 3 channels, of torchvision's and torch's own modules."""

    def fires(i: int, o: int) -> list[nn.Module]:
        squeeze, expand = o // 8, o // 2
        both = Fire(i, squeeze, expand, expand), Fire(o, squeeze, expand, expand)
        return [nn.MaxPool2d(3, 2, ceil_mode=True), both[0], nn.BatchNorm2d(o), both[1], nn.BatchNorm2d(o)]

    first = [nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), *fires(32, 64), *fires(64, 128)]
    return nn.Sequential(*first, nn.Conv2d(128, classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()


@pytest.mark.parametrize("training", [True, False])
def test_the_small_one_is_made_of_torchvisions_parts_to_the_second_derivative(training):
    """The same keys, logits, input gradients, and gradients of those in the weights, in both modes."""
    ours, theirs = models.build("squeezenet-small", 5, dtype=F64)[1:].train(training), of_torchvision(5).train(training)
    assert len(ours) == len(theirs) - 1  # pools and flattens in one
    values = ours.state_dict().values()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    assert [type(m) for m in ours if isinstance(m, Fire)] == [Fire] * 4
    found = []
    for net in (ours, theirs):
        x = images().requires_grad_()
        logits = net(x)
        (g,) = torch.autograd.grad(logits[:, 0].square().sum(), x, create_graph=True)
        weights = [p for p in net.parameters() if p.ndim == 4]
        found.append([logits, g, *torch.autograd.grad(g.square().sum(), weights), *net.buffers()])
    assert found[0][1].abs().sum() > 0 and (found[0][0] < 0).any()
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11)


def test_the_small_one_learns_few_images():
    """From the loss of a guess, log 12, to a tenth of it."""
    train = data.load("blossoms", "train", size=28, limit=36)
    recipe = trainings.Recipe(
        dataset="blossoms", arch="squeezenet-small", size=28, limit=36, epochs=30, batch_size=12, lr=0.1,
        schedule="one-cycle",
    )  # fmt: skip
    _, record = trainings.fit(recipe, train, progress=False)
    assert record["history"][-1]["loss"] < math.log(12) / 10


# ---- with public weights


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Random weights where the public ones would lie, the first layer as large as Caffe's."""
    monkeypatch.setattr(paths, "DATA", tmp_path)
    net = models.build("squeezenet1_1", 1000, generator=torch.Generator().manual_seed(5))[1]
    net.features[0].weight.data *= squeezenet.CAFFE
    path = tmp_path / public.PUBLIC["squeezenet1_1"].file
    path.parent.mkdir(parents=True)
    save_file({k: v.half().contiguous() for k, v in net.state_dict().items()}, path)
    return {k: v.half().float() for k, v in net.state_dict().items()}


def test_pretrained_layers_are_as_given_and_the_head_is_drawn(given):
    a, b = (models.build("squeezenet1_1-pretrained", 4, generator=torch.Generator().manual_seed(s))[1] for s in (0, 1))
    for key, value in a.state_dict().items():
        same = torch.equal(value, b.state_dict()[key])
        if key.startswith("features"):
            scale = squeezenet.CAFFE if key.endswith("bias") or key == "features.0.weight" else 1
            assert same and torch.equal(value, given[key] / scale)
        else:
            assert value.shape[0] == 4 and same == key.endswith("bias")
    assert all(p.requires_grad for p in a.parameters())


def test_the_features_are_the_public_ones_up_to_one_factor(given):
    """Biases of the public weights would be 0 if they were drawn; here they are not."""
    public_net = models.build("squeezenet1_1", 1000)[1]
    weights = {k: v + 5 if k.endswith("bias") else v for k, v in given.items()}
    save_file({k: v.half().contiguous() for k, v in weights.items()}, paths.DATA / public.PUBLIC["squeezenet1_1"].file)
    public_net.load_state_dict({k: v.half().float() for k, v in weights.items()})
    fine = models.build("squeezenet1_1-pretrained", 4)[1]
    x = images().float()
    expected = public_net.features(x)
    assert expected.abs().sum() > 0
    torch.testing.assert_close(squeezenet.CAFFE * fine.features(x), expected, rtol=1e-4, atol=1e-3)


def test_pretrained_and_drawn_networks_differ_by_the_last_relu_alone(given):
    fine, plain = (models.build(arch, 4, dtype=F64) for arch in ("squeezenet1_1-pretrained", "squeezenet1_1"))
    plain.load_state_dict(fine.state_dict())
    y = torch.tensor([0, 3])
    assert (fine(images()) < 0).any() and (plain(images()) >= 0).all()
    plain[1].classifier[2] = torch.nn.Identity()
    for function in (lambda m: m(images()), lambda m: attributions.gradient(m, images(), y)):
        assert torch.equal(function(fine), function(plain))


def test_a_training_starts_from_what_is_given(given):
    """One tiny step moves the layers by no more than it is long; the normalisation is that of ImageNet."""
    train = data.load("blossoms", "train", size=28, limit=4)
    recipe = trainings.Recipe(
        dataset="blossoms", arch="squeezenet1_1-pretrained", size=28, limit=4, epochs=1, batch_size=4, lr=1e-9,
        schedule="cosine",
    )  # fmt: skip
    model, _ = trainings.fit(recipe, train, progress=False)
    assert model[0].mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert model[0].std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    for key, value in model[1].features.state_dict().items():
        scale = squeezenet.CAFFE if key.endswith("bias") or key == "0.weight" else 1
        torch.testing.assert_close(value, given[f"features.{key}"] / scale, rtol=0, atol=1e-6)


def test_a_trained_network_is_loaded_without_the_public_weights(given, tmp_path, monkeypatch):
    """The same logits from its own file alone."""
    from artlib import results

    monkeypatch.setattr(results, "MODELS", tmp_path / "models")
    train = data.load("blossoms", "train", size=28, limit=4)
    recipe = trainings.Recipe(
        dataset="blossoms", arch="squeezenet1_1-pretrained", size=28, limit=4, epochs=1, batch_size=4, lr=1e-3,
        schedule="cosine",
    )  # fmt: skip
    trained = results.model(recipe, train, progress=False)
    (paths.DATA / public.PUBLIC["squeezenet1_1"].file).unlink()
    monkeypatch.setattr(public, "imagenet", lambda name: pytest.fail(f"the weights of {name} are asked for"))
    found = results.model(recipe, train, progress=False)
    assert torch.equal(found(images(28).float()), trained(images(28).float()))


@pytest.mark.parametrize("family", models.ARCHITECTURES, ids=lambda family: family.names)
def test_a_network_without_its_public_weights_has_its_layers(family, tmp_path, monkeypatch):
    """By the name of one network of the family: keys and shapes are those of the network it is trained from."""
    if family.layers is None:
        return
    monkeypatch.setattr(paths, "DATA", tmp_path)
    arch = family.names.split(", ")[0]
    bare, plain = (
        models.build(arch, 3, size=64, weights=False),
        models.build(arch.removesuffix("-pretrained"), 3, size=64),
    )
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in (bare, plain)]
    assert shapes[0] == shapes[1]


def test_what_is_wrong_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "DATA", tmp_path)
    with pytest.raises(ValueError, match="squeezenet1_1-pretrained is for 3 channels, not 1"):
        models.build("squeezenet1_1-pretrained", 4, in_channels=1)
