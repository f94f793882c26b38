"""The mass-centre objective: centres worked out by hand and by SciPy, and an attack that moves them."""

import scipy.ndimage
import torch
from torch import nn

from artlib import attacks, attributions, models
from artlib.attacks.objectives.mass_center import MassCenter, mass_center

F64 = torch.float64


def test_centres_of_hand_made_maps():
    maps = torch.zeros(3, 3, 5, dtype=F64)
    maps[0, 2, 4] = 7
    maps[1] = 1
    maps[2, 0, 0], maps[2, 0, 4] = 3, 1
    assert mass_center(maps).tolist() == [[2, 4], [1, 2], [0, 1]]
    assert MassCenter()(maps, None, None, mass_center(maps[[0, 0, 0]])).tolist() == [0, 1 + 4, 4 + 9]


def test_centres_are_scipys():
    maps = torch.rand(4, 6, 9, dtype=F64, generator=torch.Generator().manual_seed(0))
    expected = torch.tensor([scipy.ndimage.center_of_mass(m.numpy()) for m in maps], dtype=F64)
    torch.testing.assert_close(mass_center(maps), expected, rtol=1e-12, atol=1e-12)


def test_an_attack_by_name_moves_the_centre_and_keeps_the_prediction():
    x = torch.rand(6, 3, 8, 8, dtype=F64, generator=torch.Generator().manual_seed(1))
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 3)).double()
    noise = torch.Generator().manual_seed(2)
    for p in net.parameters():
        p.data = torch.randn(p.shape, dtype=F64, generator=noise) / p[0].numel() ** 0.5
    model = models.wrap(net, (0.5,) * 3, (0.25,) * 3).eval()
    y = model(x).argmax(1)
    loop = dict(ball=attacks.Linf(8 / 255), steps=10, step_size=1 / 255, beta=20.0)
    found = attacks.ifia(model, x, y, objective="mass_center", explainer=attributions.Explainer("gradient"), **loop)
    moved = (mass_center(found.after) - mass_center(found.before)).norm(dim=1)
    assert (moved > 0.02).sum() >= 4 and (model(found.x_adv).argmax(1) == y).all()
