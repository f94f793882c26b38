"""Signs of masked gradients, on networks that have none and on one whose gradients are of no use."""

import torch
import torch.nn.functional as F
from known_models import Useless, half_bright, halves, network, pictures
from torch import nn

from artlib.attacks import Linf, pgd
from artlib.measurements import Accuracy, Masking

SMALL = dict(steps=4, longer=3, corners=3)


def test_of_a_linear_network_one_step_does_all_and_every_loss_is_above_the_one_before():
    images = half_bright([10, 30, 50], [0, 1, 0])
    found = Masking(eps=8 / 255, steps=4, step_size=8 / 255)(halves(), images, progress=False)
    difference = (found["loss_long"] - found["loss_one"]).abs()
    assert difference.max() < 1e-12 and (found["loss_pgd"] - found["loss_one"]).abs().max() < 1e-12
    assert (found["loss_random"] < found["loss_one"]).all() and (found["loss_clean"] < found["loss_one"]).all()


def test_losses_are_those_of_one_step_of_the_steps_and_of_so_many_times_as_many():
    """Twelve steps of half a level are still inside the ball, so that every one counts."""
    images, model = pictures(), network()
    found = Masking(steps=4, longer=3, step_size=0.5 / 255)(model, images, progress=False)
    x, y = images.images[found["index"]].double() / 255, images.labels[found["index"]]
    for column, steps, step_size in (("one", 1, 8 / 255), ("pgd", 4, 0.5 / 255), ("long", 12, 0.5 / 255)):
        x_adv = pgd(model, x, y, ball=Linf(8 / 255), steps=steps, step_size=step_size, random_start=False)
        torch.testing.assert_close(found[f"loss_{column}"], F.cross_entropy(model(x_adv), y, reduction="none"))
    assert (found["loss_pgd"] < found["loss_long"] - 1e-4).all()


def test_of_a_network_without_batch_normalisation_the_statistics_do_not_matter():
    asked = Masking(**SMALL)
    found = asked(network(), pictures(), progress=False)
    for name in ("natural", "adversarial"):
        assert found[f"{name}_running"].tolist() == found[f"{name}_held"].tolist()
    accuracy = Accuracy(steps=0)(network(), pictures(), progress=False)
    assert found["natural_running"].tolist() == accuracy["natural"].double().tolist()
    assert (found["softplus"] > 0.5).all()


def test_with_useless_gradients_a_random_corner_does_better_than_pgd():
    found = Masking(**SMALL)(Useless(network(), 0.0), pictures(), progress=False)
    assert found["loss_pgd"].tolist() == found["loss_clean"].tolist()
    assert (found["loss_random"] > found["loss_pgd"]).double().mean() > 0.5
    assert found["softplus"].isnan().all()


def normalised() -> nn.Module:
    """A random network whose batch normalisation runs on statistics that are not those of `pictures`."""
    with torch.random.fork_rng():
        torch.manual_seed(13)
        layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)]
        model = nn.Sequential(*layers).double()
        model.train()(pictures().images.double() / 255)
        with torch.no_grad():
            model[1].running_mean.add_(0.2 * torch.randn(4))
            model[1].weight.copy_(1 + torch.rand(4))
            model[1].bias.copy_(torch.randn(4))
    return model.eval()


@torch.no_grad()
def by_hand(model: nn.Module, x: torch.Tensor, statistics: str) -> torch.Tensor:
    """The classes of x, with the layer's running averages or with mean and population variance of x itself."""
    convolution, norm, *rest = model
    z = convolution(x)
    mean, var = norm.running_mean, norm.running_var
    if statistics == "held":
        var, mean = torch.var_mean(z, (0, 2, 3), correction=0)
    mean, var, weight, bias = (v.view(1, -1, 1, 1) for v in (mean, var, norm.weight, norm.bias))
    return nn.Sequential(*rest)(weight * (z - mean) / (var + norm.eps).sqrt() + bias).argmax(1)


def test_running_and_held_statistics_at_the_images_and_at_the_end_of_pgd():
    model, images = normalised(), pictures(60)
    before = {name: v.clone() for name, v in model.state_dict().items()}
    found = Masking(**SMALL)(model, images, progress=False)
    assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items()) and not model.training
    x, y = images.images[found["index"]].double() / 255, images.labels[found["index"]]
    x_adv = pgd(model, x, y, ball=Linf(8 / 255), steps=4, step_size=2 / 255, random_start=False)
    expected = {
        f"{name}_{statistics}": (by_hand(model, at, statistics) == y).double().tolist()
        for name, at in (("natural", x), ("adversarial", x_adv))
        for statistics in ("running", "held")
    }
    assert {column: found[column].tolist() for column in expected} == expected
    assert len({*map(tuple, expected.values())}) == 4
