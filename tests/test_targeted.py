"""Targeted manipulation: it goes to its target, keeps the prediction and the ball; its loss against a transcription."""

import pytest
import torch
from torch import nn

from artlib.attacks import KEPT, MISCLASSIFIED, NO_GRADIENT, Linf, growing, shuffled_targets, targeted
from artlib.attributions import Explainer

F64 = torch.float64
IG = Explainer("integrated_gradients", dict(steps=4))
x = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(1), dtype=F64)


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(216, 12),
            nn.ReLU(),
            nn.Linear(12, 3),
        ]
        return nn.Sequential(*layers).double().eval()


def unit(maps: torch.Tensor) -> torch.Tensor:
    return maps / maps.sum((1, 2), keepdim=True)


def distance(maps, targets) -> torch.Tensor:
    return (unit(maps) - unit(targets)).square().sum((1, 2))


@pytest.mark.parametrize("ball", [None, Linf(0.05)], ids=["range alone", "l_inf"])
def test_it_comes_nearer_to_the_target_and_keeps_the_prediction(model, ball):
    y = model(x).argmax(1)
    targets = shuffled_targets(IG(model, x, y), generator=torch.Generator().manual_seed(3))
    found = targeted(model, x, y, targets, explainer=IG, ball=ball, steps=60, step_size=0.01)
    assert (found.status == KEPT).all() and torch.equal(model(found.x_adv).argmax(1), y)
    assert (distance(found.after, targets) < 0.8 * distance(found.before, targets)).all()
    torch.testing.assert_close(found.after, IG(model, found.x_adv, y))
    torch.testing.assert_close(found.before, IG(model, x, y))
    assert (found.kendall < 1).all() and ((0 <= found.x_adv) & (found.x_adv <= 1)).all()
    if ball:
        assert (found.x_adv - x).abs().max() <= 0.05 + 1e-12
        free = targeted(model, x, y, targets, explainer=IG, steps=60, step_size=0.01)
        assert distance(free.after, targets).sum() < distance(found.after, targets).sum()


def test_the_first_step_is_down_both_terms(model):
    """With plain gradient steps: the loss written out, of softplus networks, by finite differences."""
    y = model(x).argmax(1)
    targets = shuffled_targets(IG(model, x, y), generator=torch.Generator().manual_seed(3))

    class Raw:
        def start(self):
            return lambda g: g

    options = dict(explainer=IG, beta=7.0, weight=3.0, keep_weight=0.5, stepper=Raw(), steps=1, step_size=1e-3)
    start = (0.1 + 0.8 * x[:1]).clone()
    found = targeted(model, start, y[:1], targets[:1], **options)
    soft = nn.Sequential(*[nn.Softplus(7.0, threshold=1e9) if isinstance(m, nn.ReLU) else m for m in model])
    probability = model(start).softmax(1).detach()

    def loss(image: torch.Tensor) -> float:
        moved = (soft(image).softmax(1) - probability).square().mean()
        return (3 * (unit(IG(soft, image, y[:1])) - unit(targets[:1])).square().mean() + 0.5 * moved).item()

    step = (found.x_adv - start) / 1e-3
    for place in ((0, 0, 2, 3), (0, 2, 5, 0), (0, 1, 3, 3)):
        nudge = torch.zeros_like(start)
        nudge[place] = 1e-5
        slope = (loss(start + nudge) - loss(start - nudge)) / 2e-5
        assert -step[place].item() == pytest.approx(slope, rel=1e-4, abs=1e-9)


def test_what_is_misclassified_or_has_no_second_derivative_is_not_attacked(model):
    y = model(x).argmax(1)
    y[0] = (y[0] + 1) % 3
    targets = IG(model, x, y).flip(2)
    found = targeted(model, x, y, targets, explainer=IG, steps=3, step_size=0.01, keep_weight=0.0, weight=0.0)
    assert found.status.tolist() == [MISCLASSIFIED, *[NO_GRADIENT] * 3] and found.kendall.isnan().all()
    assert torch.equal(found.x_adv, x)


def test_the_logits_decide_where_probabilities_tie(model):
    model[-1].weight.data.mul_(1e-20), model[-1].bias.data.mul_(1e-20)
    logits = model(x)
    y = logits.argmax(1)
    assert (y != 0).any() and (logits.softmax(1) == 1 / 3).all()
    found = targeted(model, x, y, IG(model, x, y).flip(1), explainer=IG, steps=2, step_size=0.01)
    assert (found.status != MISCLASSIFIED).all()


def test_batches_do_not_matter(model):
    y = model(x).argmax(1)
    targets = IG(model, x, y).flip(2)
    options = dict(explainer=IG, steps=5, step_size=0.01)
    a, b = (targeted(model, x, y, targets, batch_size=n, **options) for n in (4, 3))
    torch.testing.assert_close(a.x_adv, b.x_adv)


def test_betas_grow_exponentially():
    assert [growing(10, 100, 3)(i) for i in range(3)] == pytest.approx([10, 10 * 10**0.5, 100])
    assert growing(10, 100, 1)(0) == 10


def test_no_map_is_its_own_target():
    maps = torch.arange(7.0).view(7, 1, 1).expand(7, 2, 2)
    for seed in range(5):
        targets = shuffled_targets(maps, generator=torch.Generator().manual_seed(seed))
        assert (targets != maps).all() and sorted(targets[:, 0, 0].tolist()) == list(range(7))


def test_targets_that_cannot_be_meant(model):
    y = model(x).argmax(1)
    for targets in (torch.ones(3, 6, 6), -torch.ones(4, 6, 6), torch.full((4, 6, 6), torch.nan), torch.ones(4, 5, 5)):
        with pytest.raises(ValueError, match="target_maps are"):
            targeted(model, x, y, targets.double(), explainer=IG, steps=1)
