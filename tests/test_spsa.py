"""SPSA: its estimate against a true gradient, and an attack on networks whose answer is known."""

import pytest
import torch
from torch import nn

from artlib.attacks import L2, Linf, spsa, spsa_gradient

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_estimate_tends_to_the_gradient_of_a_quadratic():
    """For x' A x / 2 + b x the difference is exact, so that only the signs of other pixels blur it, by 1 / sqrt(n)."""
    a = torch.randn(12, 12, generator=seeded(1), dtype=F64)
    a, b = a + a.T, torch.randn(12, generator=seeded(2), dtype=F64)
    x = torch.rand(3, 3, 2, 2, generator=seeded(3), dtype=F64)
    truth = (x.flatten(1) @ a + b).view_as(x)

    def quadratic(images: torch.Tensor, times: int) -> torch.Tensor:
        assert len(images) == 3 * times
        v = images.flatten(1)
        return ((v @ a) * v).sum(1) / 2 + v @ b

    errors = []
    for samples in (400, 40_000):
        found = spsa_gradient(quadratic, x, samples=samples, delta=0.01, generator=seeded())
        errors.append((found - truth).norm().item() / truth.norm().item())
    assert errors[1] < 0.05 and errors[1] < errors[0] / 5
    with_one = spsa_gradient(quadratic, x, samples=2, delta=0.01, generator=seeded())
    signs = 2.0 * torch.randint(0, 2, (1, 3, 2, 2), generator=seeded()).to(F64) - 1
    slope = (truth * signs).flatten(1).sum(1)
    torch.testing.assert_close(with_one, slope.view(3, 1, 1, 1) * signs)


def linear(weights: torch.Tensor) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(weights.shape[1], 2, bias=False)).double()
    net[1].weight.data = weights
    return net.eval()


def test_it_finds_the_worst_corner_of_a_linear_network():
    w = torch.randn(2, 12, generator=seeded(1), dtype=F64)
    x = 0.3 + 0.4 * torch.rand(5, 3, 2, 2, generator=seeded(2), dtype=F64)
    y = torch.tensor([0, 1, 0, 1, 0])
    options = dict(ball=Linf(0.1), steps=60, samples=64, step_size=0.02, generator=seeded())
    found = spsa(linear(w), x, y, **options)
    worst = x + 0.1 * (w[1 - y] - w[y]).sign().view_as(x)
    margin = lambda images: ((w[1 - y] - w[y]) * images.flatten(1)).sum(1)  # noqa: E731
    gained = (margin(found) - margin(x)) / (margin(worst) - margin(x))
    assert (gained > 0.95).all() and (gained <= 1 + 1e-9).all()


def test_it_stays_in_the_ball_and_in_the_range_and_no_steps_are_no_attack():
    net = linear(torch.randn(2, 12, generator=seeded(1), dtype=F64))
    x, y = torch.rand(4, 3, 2, 2, generator=seeded(2), dtype=F64), torch.zeros(4, dtype=torch.int64)
    found = spsa(net, x, y, ball=L2(0.2), steps=9, samples=8, generator=seeded())
    assert ((found - x).flatten(1).norm(dim=1) <= 0.2 + 1e-9).all() and ((0 <= found) & (found <= 1)).all()
    assert torch.equal(spsa(net, x, y, ball=Linf(0.2), steps=0, samples=8, generator=seeded()), x)
    assert torch.equal(found, spsa(net, x, y, ball=L2(0.2), steps=9, samples=8, generator=seeded()))


def test_it_asks_for_no_gradient():
    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = linear(torch.randn(2, 12, generator=seeded(1), dtype=F64))

        def forward(self, x):
            assert not torch.is_grad_enabled()
            return self.net(x)

    x = torch.rand(2, 3, 2, 2, generator=seeded(2), dtype=F64)
    spsa(Blind(), x, torch.tensor([0, 1]), ball=Linf(0.1), steps=2, samples=4, generator=seeded())


@pytest.mark.parametrize("change", [dict(samples=3), dict(samples=0), dict(delta=0.0), dict(steps=-1)], ids=str)
def test_settings_that_cannot_be_meant(change):
    net, x = linear(torch.zeros(2, 12, dtype=F64)), torch.zeros(1, 3, 2, 2, dtype=F64)
    with pytest.raises(ValueError, match="samples is|must not be negative"):
        spsa(net, x, torch.tensor([0]), ball=Linf(0.1), generator=seeded(), **change)
