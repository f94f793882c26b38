"""IGR against its equation written out, and against the trainings it is on."""

import copy

import pytest
import torch
import torch.nn.functional as F
from toys import toy

from artlib import attributions
from artlib.models import build
from artlib.trainings import Batch, Igr, Pgd, Trades

ON = {"pgd": Pgd, "trades": Trades}


def batch(settings) -> Batch:
    images = toy(6)
    model = build("wrn-10-1", 2, size=12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = images.images.double() / 255
    return Batch(model.eval(), x, images.labels, settings.start(x, generator=torch.Generator().manual_seed(3)))


@pytest.mark.parametrize("on", ON)
def test_the_loss_is_that_of_its_base_and_a_cosine_of_integrated_gradients(on):
    attack = dict(steps=2, step_size=0.01)
    settings, base = Igr(on=on, weight=0.6, points=3, **attack), ON[on](**attack)
    b = batch(settings)
    x_adv = base.attacked(b)
    assert torch.equal(settings.attacked(b), x_adv)
    torch.testing.assert_close(settings.raised(b, x_adv), base.raised(b, x_adv))
    total, _, parts, _ = settings.losses(b)
    maps = []
    for v in (b.x, x_adv):
        points = [(k / 3 * v).requires_grad_() for k in (1, 2, 3)]
        scores = [b.model(p).gather(1, b.y[:, None]).sum() for p in points]
        slopes = [torch.autograd.grad(f, p, create_graph=True)[0] for f, p in zip(scores, points, strict=True)]
        maps.append((v * sum(slopes) / 3).flatten(1))
    distance = (1 - F.cosine_similarity(*maps)).mean()
    expected = base.losses(b).total + 0.6 * distance
    torch.testing.assert_close(parts["IG"], distance, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(total, expected, rtol=1e-9, atol=1e-12)
    ours = attributions.integrated_gradients(b.model, b.x, b.y, steps=3)
    torch.testing.assert_close(maps[0].view_as(ours), ours)
    weights = list(b.model.parameters())
    for a, e in zip(*(torch.autograd.grad(v, weights) for v in (total, expected)), strict=True):
        torch.testing.assert_close(a, e, rtol=1e-7, atol=1e-10)
    assert distance > 1e-6


@pytest.mark.parametrize("statistics", ["running", "batch", "held"])
@pytest.mark.parametrize("on", ON)
def test_without_weight_its_base_is_left(on, statistics):
    settings, base = (kind(steps=1, statistics=statistics) for kind in (Igr, ON[on]))
    settings = Igr(on=on, weight=0.0, points=2, steps=1, statistics=statistics)
    b = batch(settings)
    found = [t.losses(Batch(copy.deepcopy(b.model).eval(), b.x, b.y, b.start)).total for t in (settings, base)]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_in_an_empty_ball_the_maps_are_the_same():
    settings = Igr(eps=0.0, steps=1)
    parts = settings.losses(batch(settings)).parts
    assert abs(parts["IG"].item()) < 1e-12


def test_labels_and_what_is_eased():
    assert (Igr().label, Igr(on="trades").label) == ("igr", "igr-trades")
    eased = Igr().eased(steps=7)
    assert (eased.steps, eased.points) == (7, 3) and Igr().eased(steps=1).points == 1
    assert Igr().eased() == Igr() and Igr(points=9).passes > Igr().passes
