"""Seeds have the mean and the covariance of their class, and synthesis goes down the loss inside its ball."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from artlib.attacks import Seeds, synthesize
from artlib.data import ImageSet

F64 = torch.float64


def images(n: int = 400, size: int = 4) -> ImageSet:
    noise = torch.Generator().manual_seed(1)
    y = torch.arange(n) % 2
    common = torch.randint(-40, 41, (n, 1, 1, 1), generator=noise)  # neighbours go together
    pixels = 60 + 80 * y.view(-1, 1, 1, 1) + common + torch.randint(-10, 11, (n, 1, size, size), generator=noise)
    return ImageSet(pixels.to(torch.uint8), y, ("dark", "bright"), name="two", split="test")


def test_seeds_are_normal_with_the_moments_of_their_class():
    some = images()
    seeds = Seeds.fit(some).draw(torch.ones(20_000, dtype=torch.int64), generator=torch.Generator().manual_seed(0))
    v, truth = seeds.flatten(1), some.images[some.labels == 1].flatten(1).double() / 255
    torch.testing.assert_close(v.mean(0), truth.mean(0), rtol=0, atol=0.005)
    expected = truth.T.cov() + 1e-4 * torch.eye(16, dtype=F64)
    torch.testing.assert_close(v.T.cov(), expected, rtol=0.06, atol=2e-4)
    assert seeds.shape == (20_000, 1, 4, 4) and ((0 <= seeds) & (seeds <= 1)).all()


def test_grain_and_limits():
    coarse = Seeds.fit(images(), grain=2, per_class=5)
    assert [m.shape for m in coarse.means] == [(4,), (4,)] and coarse.deviations[0].shape == (5, 4)
    drawn = coarse.draw([0, 1], generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn[..., ::2], drawn[..., 1::2]) and drawn.shape == (2, 1, 4, 4)
    with pytest.raises(ValueError, match="no image of class 'bright'"):
        Seeds.fit(images().subset(torch.arange(0, 10, 2)))


def test_synthesis_goes_down_the_loss_of_its_class_inside_the_ball():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    y = torch.tensor([0, 1, 1])
    seeds = Seeds.fit(images()).draw(y, generator=torch.Generator().manual_seed(0))
    found = synthesize(model, seeds, y, eps=0.5, step_size=0.1, steps=20)
    losses = [F.cross_entropy(model(v), y, reduction="none") for v in (seeds, found)]
    assert (losses[1] < losses[0]).all() and model.training
    assert ((found - seeds).flatten(1).norm(dim=1) <= 0.5 + 1e-9).all() and ((0 <= found) & (found <= 1)).all()
    first = synthesize(model, seeds, y, eps=0.5, step_size=1e-4, steps=1)
    leaf = seeds.clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(model(leaf), y, reduction="sum"), leaf)
    inside = (seeds > 0.01) & (seeds < 0.99)
    expected = -1e-4 * g / g.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    torch.testing.assert_close((first - seeds)[inside], expected[inside])
