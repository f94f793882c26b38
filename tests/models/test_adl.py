"""ADL: its equation by hand, where it is laid, that it can be differentiated twice, and that it goes away."""

import pytest
import torch
from torch import nn

from artlib import data, models, trainings
from artlib.models import adl

F64 = torch.float64


def images(size: int = 32, n: int = 3) -> torch.Tensor:
    return torch.rand(n, 3, size, size, dtype=F64, generator=torch.Generator().manual_seed(1))


def test_both_of_its_ways_by_hand():
    a = torch.tensor([[[[4.0, 0.0], [1.0, 2.0]], [[6.0, 0.0], [3.0, 7.0]]]], dtype=F64)  # attention 5 0, 2 4.5
    kept = adl.attention_dropout(a, drop=True, threshold=0.9)  # 4.5 is 0.9 times 5: dropped, too
    assert kept.tolist() == [[[[0, 0], [1, 0]], [[0, 0], [3, 0]]]]
    kept = adl.attention_dropout(a, drop=True, threshold=0.95)
    assert kept.tolist() == [[[[0, 0], [1, 2]], [[0, 0], [3, 7]]]]
    weights = 1 / (1 + torch.exp(-torch.tensor([[5, 0], [2, 4.5]], dtype=F64)))
    torch.testing.assert_close(adl.attention_dropout(a, drop=False), a * weights)


def test_the_largest_attention_is_that_of_each_image():
    a = torch.tensor([1.0, 0.5, 100.0, 99.0], dtype=F64).view(2, 1, 1, 2)
    assert adl.attention_dropout(a, drop=True, threshold=0.9).flatten().tolist() == [0, 0.5, 0, 0]


@pytest.mark.parametrize("drop", [False, True])
def test_its_second_derivatives_are_finite_differences(drop, generator):
    a = torch.rand(1, 2, 2, 3, dtype=F64, generator=generator).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda v: adl.attention_dropout(v, drop=drop).square(), a)


@pytest.mark.parametrize(
    ("arch", "size", "expected"),
    [
        ("resnet50-stride1", 64, ("1.layer3.0", "1.layer4.0", "1.layer4.2")),
        ("vgg16-gap", 32, ("1.features.16", "1.features.22", "1.features.29")),
        ("squeezenet1_1", 64, ("1.features.8", "1.features.10", "1.features.12")),
        ("wrn-10-1", 32, ("4.relu1", "4.relu2", "6")),
    ],
)
def test_positions(arch, size, expected):
    """After pool3 (256 maps), conv4_3 and conv5_3 of VGG, and those that wsolevaluation names of ResNet."""
    model = models.build(arch, 4, size=size, dtype=F64)
    assert adl.positions(model, images(size)) == expected
    found = {}
    modules = dict(model.named_modules())
    hooks = [modules[n].register_forward_hook(lambda m, i, o, n=n: found.update({n: o})) for n in expected]
    plain = model(images(size))
    for hook in hooks:
        hook.remove()
    assert all(found[n].ndim == 4 and found[n][0, 0].numel() > 1 for n in expected)
    if arch.startswith("vgg"):
        assert found["1.features.16"].shape[1:] == (256, 4, 4)
    with adl.adl(model, expected, [True, False, True]):
        assert not torch.allclose(model(images(size)), plain)
    assert torch.equal(model(images(size)), plain)


def test_it_goes_away_after_an_error():
    model = models.build("wrn-10-1", 4, dtype=F64)
    plain = model(images())
    with pytest.raises(RuntimeError), adl.adl(model, ["4.relu1"], [True]):
        raise RuntimeError
    assert torch.equal(model(images()), plain)


def test_what_is_wrong_is_said():
    model = models.build("wrn-10-1", 4, dtype=F64)
    with (
        pytest.raises(ValueError, match=r"unknown layer 'layer9'; choose some of 0, 1, 2"),
        adl.adl(model, ["layer9"], [True]),
    ):
        pass
    few = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).double()
    assert adl.positions(few, images()) == ("1",)
    with pytest.raises(ValueError, match="Linear has no activation with a map of more than one place: name layers"):
        adl.positions(nn.Linear(32, 2).double(), images())


# ------------------------------------------------------------------ the training


def batch(training: trainings.Adl, model: nn.Module, seed: int = 0) -> trainings.Batch:
    x = images()
    start = training.start(x, generator=torch.Generator().manual_seed(seed))
    return trainings.Batch(model, x, torch.tensor([0, 1, 2]), start)


@pytest.mark.parametrize(("rate", "drop"), [(0.0, False), (1.0, True)])
def test_its_loss_is_the_cross_entropy_under_adl(rate, drop):
    model = models.build("wrn-10-1", 4, dtype=F64).train()
    found = trainings.Adl(drop_rate=rate).losses(b := batch(trainings.Adl(), model))
    with adl.adl(model, adl.positions(model, b.x), [drop] * 3):
        logits = model(b.x)
    torch.testing.assert_close(found.total, nn.functional.cross_entropy(logits, b.y))
    torch.testing.assert_close(found.logits, logits)
    assert not torch.allclose(logits, model(b.x))


def test_each_layer_drops_as_often_as_it_should_and_all_images_alike():
    training = trainings.Adl()
    draws = torch.stack([training.start(images(), generator=torch.Generator().manual_seed(s)) for s in range(300)])
    assert draws.shape == (300, 3, 3) and (draws == draws[:, :1]).all()
    rates = (draws[:, 0] < training.drop_rate).double().mean(0)
    assert ((rates - 0.75).abs() < 4 * (0.75 * 0.25 / 300) ** 0.5).all()


def test_art_can_be_trained_through_it():
    """The gradient of L_attr in the weights, of an input gradient that has passed through all three layers."""
    model = models.build("wrn-10-1", 4, dtype=F64)
    b = batch(trainings.Adl(), model)
    layers = adl.positions(model, b.x)
    for drops in ([False] * 3, [True] * 3):
        with adl.adl(model, layers, drops):
            loss = trainings.art_loss(model, b.x, b.y).mean()
            assert loss.isfinite()
            grads = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        assert any(g is not None and g.abs().sum() > 0 for g in grads)


def test_a_resumed_training_ends_where_it_would_have(tmp_path):
    train = data.load("blossoms", "train", size=28, limit=8)
    recipe = trainings.Recipe(
        dataset="blossoms", training=trainings.Adl(), arch="wrn-10-1", size=28, limit=8, epochs=2, batch_size=4,
        schedule="cosine", precision="float64",
    )  # fmt: skip
    whole, record = trainings.fit(recipe, train, progress=False)

    class Killed(Exception):
        pass

    calls = []

    def losses(self, given):
        calls.append(1)
        if len(calls) == 4:
            raise Killed
        return original(self, given)

    original, path = trainings.Adl.losses, tmp_path / "checkpoint"
    trainings.Adl.losses = losses
    try:
        with pytest.raises(Killed):
            trainings.fit(recipe, train, checkpoint=path, progress=False)
    finally:
        trainings.Adl.losses = original
    again, _ = trainings.fit(recipe, train, checkpoint=path, progress=False)
    for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert len(record["history"]) == 2
