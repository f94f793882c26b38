"""Random signs and the LENS-aware objective: corners of the ball, masks dilated by hand."""

import pytest
import torch
from torch import nn

from artlib import attacks, attributions, metrics, models
from artlib.attacks.objectives import OBJECTIVES

F64 = torch.float64


@pytest.fixture(scope="module")
def scene():
    x = torch.rand(6, 3, 8, 8, dtype=F64, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 3)).double()
    noise = torch.Generator().manual_seed(2)
    for p in net.parameters():
        p.data = torch.randn(p.shape, dtype=F64, generator=noise) / p[0].numel() ** 0.5
    model = models.wrap(net, (0.5,) * 3, (0.25,) * 3).eval()
    return model, x, model(x).argmax(1)


def attack(scene, objective, *, steps=5, seed=0, **options):
    model, x, y = scene
    loop = dict(ball=attacks.Linf(0.02), steps=steps, step_size=0.005, explainer=attributions.Explainer("gradient"))
    loop |= dict(objective=objective, generator=torch.Generator().manual_seed(seed))
    return attacks.ifia(model, x, y, **loop | options)


def test_random_signs_are_corners_of_the_ball_and_asks_for_no_gradient(scene):
    model, x, y = scene
    found = attack(scene, "random")
    kept = found.status == attacks.KEPT
    assert kept.sum() >= 4
    away = (found.x_adv - x)[kept].abs()
    torch.testing.assert_close(away, torch.full_like(away, 0.02))
    signs = (found.x_adv - x)[kept].sign().mean((1, 2, 3))
    assert (signs.abs() < 4 / 192**0.5).all()  # fair coins: four standard deviations
    assert (model(found.x_adv).argmax(1) == y).all()


def test_more_random_tries_find_worse_maps_and_the_seed_decides(scene):
    one, many, again, other = (attack(scene, "random", steps=n, seed=s) for n, s in ((1, 0), (30, 0), (30, 0), (30, 1)))
    assert (many.kendall <= one.kendall + 1e-12).all() and (many.kendall < one.kendall).any()
    assert torch.equal(many.x_adv, again.x_adv) and not torch.equal(many.x_adv, other.x_adv)


def test_an_attack_beats_random_signs(scene):
    assert attack(scene, "topk", k=10, steps=20).kendall.mean() < attack(scene, "random", steps=20).kendall.mean()


def test_random_signs_need_an_linf_ball(scene):
    with pytest.raises(ValueError, match=r"corners of an l_inf ball; ball is L2\(eps=1.0\), use attacks.Linf"):
        attack(scene, "random", ball=attacks.L2(1.0))


def test_the_lens_objective_looks_at_the_neighbours_too():
    maps = torch.zeros(1, 5, 6, dtype=F64)
    maps[0, 0, 0], maps[0, 3, 5] = 2, 1
    aim = OBJECTIVES["lens"](k=2).aim(maps)
    expected = torch.zeros(5, 6, dtype=torch.bool)
    expected[:2, :2] = expected[2:5, 4:6] = True
    assert torch.equal(aim[0], expected)
    assert OBJECTIVES["lens"](k=2, w=0).aim(maps).sum() == 2
    assert OBJECTIVES["lens"](k=2)(maps + 1, None, None, aim).tolist() == [-(2 + 1 + 4 + 6)]


@pytest.mark.parametrize("k", [6, 10])
def test_the_lens_attack_lowers_lens_more_than_the_plain_one(scene, k):
    """It leaves less LENS-recall, and less of the map's mass near the old top pixels, which is what it aims at."""
    recall, mass = {}, {}
    for objective in ("topk", "lens"):
        found = attack(scene, objective, k=k, steps=40)
        near = OBJECTIVES["lens"](k=k).aim(found.before)
        recall[objective] = metrics.lens_recall(found.before, found.after, k=k, w=1).mean()
        mass[objective] = ((found.after * near).sum((1, 2)) / found.after.sum((1, 2))).mean()
    assert recall["lens"] < recall["topk"] - 0.02 and mass["lens"] < mass["topk"]
