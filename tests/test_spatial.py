"""The spatial attack: its moves against SciPy, and its worst case against brute force on toy images."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn

from artlib.attacks import moved, spatial

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 3, size: int = 9) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=seeded(1), dtype=F64)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(243, 3)).double().eval()


def test_no_move_is_the_identity():
    x = pictures()
    torch.testing.assert_close(moved(x, torch.zeros(3, 3)), x, rtol=0, atol=1e-12)


def test_whole_shifts_and_right_angles_are_exact_and_zeros_come_in():
    x = pictures()
    right_and_up = moved(x, torch.tensor([[2.0, -1, 0]]).expand(3, 3))
    expected = torch.zeros_like(x)
    expected[:, :, :-1, 2:] = x[:, :, 1:, :-2]
    torch.testing.assert_close(right_and_up, expected, rtol=0, atol=1e-12)
    for quarters in (1, 2, 3):
        turned = moved(x, torch.tensor([[0.0, 0, 90 * quarters]]).expand(3, 3))
        torch.testing.assert_close(turned, x.rot90(quarters, (2, 3)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("degrees", [-30.0, 12.5])
def test_turns_are_scipys(degrees):
    x = pictures(1)
    found = moved(x, torch.tensor([[0.0, 0, degrees]]))[0].numpy()
    padded = np.pad(x[0].numpy(), ((0, 0), (4, 4), (4, 4)))  # else SciPy takes nothing from less than a pixel outside
    expected = ndimage.rotate(padded, degrees, axes=(1, 2), reshape=False, order=1)[:, 4:-4, 4:-4]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_worst_of_the_grid_is_that_of_brute_force():
    x, net = pictures(), network()
    y = net(x).argmax(1).detach()
    y[2] = (y[2] + 1) % 3  # misclassified as it is
    found = spatial(net, x, y, pixels=2, degrees=20, grid=(3, 2, 5))
    every = list(itertools.product((-2, 0, 2), (-2, 2), (-20, -10, 0, 10, 20)))
    for i in range(3):
        images = torch.cat([moved(x[i : i + 1], torch.tensor([m], dtype=F64)) for m in every])
        logits = net(images).detach()
        wrong = logits.argmax(1) != y[i]
        loss = F.cross_entropy(logits, y[i].expand(len(every)), reduction="none")
        loss[~wrong & wrong.any()] = -torch.inf
        best = int(loss.argmax())
        assert found.moves[i].tolist() == pytest.approx(every[best]) and found.fooled[i] == wrong.any()
        torch.testing.assert_close(found.x_adv[i], images[best])


def test_one_point_of_each_is_the_image_itself():
    x, net = pictures(), network()
    y = net(x).argmax(1).detach()
    found = spatial(net, x, y, grid=(1, 1, 1))
    torch.testing.assert_close(found.x_adv, x, rtol=0, atol=1e-12)
    assert not found.fooled.any() and not found.moves.any()


def test_random_moves_are_an_images_own_within_limits_and_seeded():
    x, net = pictures(), network()
    y = net(x).argmax(1).detach()
    options = dict(grid=None, draws=5, pixels=2, degrees=10)
    found = spatial(net, x, y, generator=seeded(), **options)
    again = spatial(net, x, y, generator=seeded(), **options)
    assert torch.equal(found.x_adv, again.x_adv) and len({tuple(m) for m in found.moves.tolist()}) == 3
    assert (found.moves.abs() <= torch.tensor([2.0, 2, 10])).all()
    torch.testing.assert_close(found.x_adv, moved(x, found.moves))
    more = spatial(net, x, y, generator=seeded(), **options | dict(draws=50))
    assert (more.fooled | ~found.fooled).all()


@pytest.mark.parametrize("change", [dict(pixels=-1), dict(draws=0), dict(grid=(5, 5)), dict(grid=(0, 1, 1))], ids=str)
def test_settings_that_cannot_be_meant(change):
    with pytest.raises(ValueError, match="0 or more, three counts, 1"):
        spatial(network(), pictures(), torch.zeros(3, dtype=torch.int64), **change)
