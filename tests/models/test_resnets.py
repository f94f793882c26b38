"""The ResNets for CIFAR-10 of others: their keys and shapes, and their equations written out."""

import pytest
import torch
import torch.nn.functional as F

from artlib import models

F64 = torch.float64
x = torch.rand(2, 3, 32, 32, dtype=F64, generator=torch.Generator().manual_seed(1))


def net(arch: str) -> torch.nn.Module:
    """Without the normalisation, every parameter and statistic drawn at random."""
    found, noise = models.build(arch, 10, dtype=F64)[1], torch.Generator().manual_seed(2)
    for name, value in found.state_dict().items():
        if value.is_floating_point():
            value.copy_(0.5 * torch.rand(value.shape, generator=noise, dtype=F64) - 0.2 * (value.ndim > 1))
            value += "running_var" in name
    return found


def batch_norm(w: dict, name: str, v: torch.Tensor) -> torch.Tensor:
    keys = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(v, *(w[f"{name}.{k}"] for k in keys))


@pytest.mark.parametrize("depth", [8, 20])
def test_resnet_is_he_et_als_with_option_a(depth):
    found = net(f"resnet-{depth}")
    w = found.state_dict()
    v = F.relu(batch_norm(w, "bn1", F.conv2d(x, w["conv1.weight"], padding=1)))
    for stage in (1, 2, 3):
        for block in range((depth - 2) // 6):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            a = F.relu(batch_norm(w, f"{name}.bn1", F.conv2d(v, w[f"{name}.conv1.weight"], None, stride, 1)))
            a = batch_norm(w, f"{name}.bn2", F.conv2d(a, w[f"{name}.conv2.weight"], padding=1))
            if stride == 2:  # half of the new channels before, half after
                zeros = torch.zeros_like(v[:, : v.shape[1] // 2, ::2, ::2])
                v = torch.cat([zeros, v[:, :, ::2, ::2], zeros], 1)
            v = F.relu(a + v)
    expected = F.linear(F.avg_pool2d(v, 8).flatten(1), w["linear.weight"], w["linear.bias"])
    torch.testing.assert_close(found(x), expected, rtol=1e-10, atol=1e-10)


def test_resnet_20_has_the_published_number_of_weights():
    assert models.parameter_count(models.build("resnet-20", 10)) == 269_722  # akamaster/pytorch_resnet_cifar10: 0.27M


def test_a_depth_that_is_no_resnet_is_refused():
    with pytest.raises(ValueError, match=r"resnet-18: depth must be 6 n \+ 2"):
        models.build("resnet-18", 10)


SHAPES = {  # of the public weights
    "resnet-2b": {
        "conv1": (8, 3, 3, 3),
        "layer1.0.conv1": (16, 8, 3, 3),
        "layer1.0.conv2": (16, 16, 3, 3),
        "layer1.0.shortcut.0": (16, 8, 1, 1),
        "layer1.1.conv1": (16, 16, 3, 3),
        "layer1.1.conv2": (16, 16, 3, 3),
        "linear1": (100, 1024),
        "linear2": (10, 100),
    },
    "resnet-4b": {
        "conv1": (16, 3, 3, 3),
        "layer1.0.conv1": (32, 16, 3, 3),
        "layer1.0.conv2": (32, 32, 3, 3),
        "layer1.0.shortcut.0": (32, 16, 1, 1),
        "layer1.1.conv1": (32, 32, 3, 3),
        "layer1.1.conv2": (32, 32, 3, 3),
        "layer2.0.conv1": (32, 32, 3, 3),
        "layer2.0.conv2": (32, 32, 3, 3),
        "layer2.0.shortcut.0": (32, 32, 1, 1),
        "layer2.1.conv1": (32, 32, 3, 3),
        "layer2.1.conv2": (32, 32, 3, 3),
        "linear1": (100, 512),
        "linear2": (10, 100),
    },
}


@pytest.mark.parametrize("arch", SHAPES)
def test_the_small_resnets_have_the_public_keys_and_their_equations(arch):
    found = net(arch)
    w = found.state_dict()
    weights = {f"{k}.weight": shape for k, shape in SHAPES[arch].items()}
    biases = {f"{k}.bias": shape[:1] for k, shape in SHAPES[arch].items()}
    assert {k: tuple(v.shape) for k, v in w.items()} == weights | biases

    def conv(name: str, v: torch.Tensor, stride: int = 1, padding: int = 1) -> torch.Tensor:
        return F.conv2d(v, w[f"{name}.weight"], w[f"{name}.bias"], stride, padding)

    v = F.relu(conv("conv1", x, 2))
    for block in [k[:8] for k in SHAPES[arch] if k.endswith(".conv1")]:
        first = block.endswith("0")
        a = conv(f"{block}.conv2", F.relu(conv(f"{block}.conv1", v, 2 if first else 1)))
        v = F.relu(a + (conv(f"{block}.shortcut.0", v, 2, 0) if first else v))
    hidden = F.relu(F.linear(v.flatten(1), w["linear1.weight"], w["linear1.bias"]))
    expected = F.linear(hidden, w["linear2.weight"], w["linear2.bias"])
    torch.testing.assert_close(found(x), expected, rtol=1e-10, atol=1e-10)
