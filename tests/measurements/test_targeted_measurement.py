"""The targeted attack as a measurement: which images, which targets, what is said of the maps."""

from dataclasses import replace

import pytest
import torch
from known_models import network, pictures

from artlib import attributions, metrics
from artlib.measurements import Targeted, predictions

SMALL = dict(k=9, steps=8, step_size=0.02, points=3)


def test_an_image_has_the_same_target_with_every_model_and_never_itself():
    images, model = pictures(), network()
    every = replace(images, labels=predictions(model, images))  # as of a model that is always right
    target = dict(zip(*(places.tolist() for places in Targeted().chosen(model, every)), strict=True))
    assert set(target) == set(target.values()) == set(range(20))
    chosen, goals = (places.tolist() for places in Targeted(images=10).chosen(model, images))
    assert len(chosen) == 10 and not {0, 5, 10, 15} & set(chosen)  # which the network gets wrong
    assert all(target[i] == g != i for i, g in zip(chosen, goals, strict=True))


@pytest.mark.parametrize("eps", [None, 4 / 255])
def test_its_columns_say_what_the_attack_did_to_the_maps(eps):
    images, model = pictures(), network()
    found = Targeted(eps=eps, images=6, **SMALL)(model, images, progress=False)
    chosen, goals = Targeted(images=6).chosen(model, images)
    manipulated, maps = Targeted(eps=eps, **SMALL).attack(model, images.subset(chosen), images.subset(goals))
    x, y = images.images[goals].double() / 255, predictions(model, images)[goals]
    target = attributions.integrated_gradients(model, x, y, steps=3).abs().sum(1)
    unit = (m / m.sum((1, 2), keepdim=True) for m in (maps, target))
    assert torch.allclose(*unit) and torch.equal(found["index"], chosen)
    assert torch.equal(found["K_targeted"], metrics.kendall(manipulated.before, manipulated.after))
    assert torch.equal(found["IN_targeted"], metrics.topk_intersection(manipulated.before, manipulated.after, 9))
    start = metrics.kendall(manipulated.before, target)
    assert torch.allclose(found["to_target"] - found["gained"], start) and found["gained"].mean() > 0
    moved = (manipulated.x_adv - images.images[chosen].double() / 255).abs().amax((1, 2, 3))
    assert torch.equal(found["change"], moved) and (eps is None or moved.max() <= eps + 1e-12)
    assert (moved > 0).any()


def test_nothing_to_attack():
    images = pictures()
    wrong = replace(images, labels=(predictions(network(), images) + 1) % 3)
    with pytest.raises(ValueError, match="k is 37, and a map has 36 pixels"):
        Targeted(k=37)(network(), images, progress=False)
    with pytest.raises(ValueError, match="eps"):
        Targeted(eps=0.0)
    with pytest.raises(ValueError, match="none of 20 test images correctly"):
        Targeted(**SMALL)(network(), wrong, progress=False)
