"""TRADES against its equation written out, and its two limits."""

import torch
import torch.nn.functional as F
from toys import toy

from artlib.models import build
from artlib.trainings import Batch
from artlib.trainings.trades import Trades


def batch() -> Batch:
    images = toy(6)
    x, noise = images.images.double() / 255, torch.Generator().manual_seed(3)
    model = build("wrn-10-1", 2, size=12, dtype=torch.float64).train()
    return Batch(model, x, images.labels, Trades().start(x, generator=noise))


def test_the_loss_is_the_papers_equation_at_the_attacked_images():
    b = batch()
    settings = Trades(steps=2, weight=3.0)
    x_adv = settings.attacked(b)
    total, logits, parts, _ = settings.losses(b)
    p, q = (b.model(v).softmax(1) for v in (b.x, x_adv))
    divergence = (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(parts["KL"], divergence.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(total, F.cross_entropy(b.model(b.x), b.y) + 3 * divergence, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(logits, b.model(b.x), rtol=1e-10, atol=1e-12)
    assert (x_adv - b.x).abs().max() <= settings.eps + 1e-12 and not torch.equal(x_adv, b.start)


def test_the_attack_raises_the_divergence_of_the_network_it_attacks():
    b = batch()
    b.model.eval()
    settings = Trades(steps=5, step_size=1 / 255)
    start, end = (settings.raised(b, v).mean() for v in (b.start, settings.attacked(b)))
    assert end > 1.05 * start > 0


def test_without_weight_or_without_a_ball_only_cross_entropy_is_left():
    b = batch()
    ce = F.cross_entropy(b.model(b.x), b.y)
    for settings in (Trades(weight=0.0, steps=1), Trades(eps=0.0, steps=1)):
        b.start = settings.start(b.x, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(settings.losses(b).total, ce, rtol=1e-10, atol=1e-12)
