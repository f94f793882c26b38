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


def test_running_statistics_of_another_network_are_seen():
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(*layers).double().eval()
    images = pictures()
    model.train()(images.images.double() / 255)
    model.eval()
    model[1].running_mean += 3 * torch.randn(4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before = model[1].running_mean.clone()
    found = Masking(**SMALL)(model, images, progress=False)
    assert found["natural_running"].tolist() != found["natural_held"].tolist()
    assert torch.equal(model[1].running_mean, before) and not model.training
