"""artlib.attacks against torchattacks from the same start, and what every attack must respect."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from artlib import models, objectives
from artlib.attacks import L2, Linf, ascend, gradient_of, pgd

F64 = torch.float64
N = 4
y = torch.tensor([2, 0, 3, 1])


def images(seed=1):  # with many values at 0 and 1, where the pixel range cuts the ball
    return (1.4 * torch.rand(N, 3, 8, 8, dtype=F64, generator=torch.Generator().manual_seed(seed)) - 0.2).clamp(0, 1)


x = images()


@pytest.fixture(scope="module")
def model():
    return models.build("wrn-10-1", 4, size=8, mean=(0.5,) * 3, std=(0.25,) * 3, dtype=F64).eval()


def losses(model, z):
    with torch.no_grad():
        return F.cross_entropy(model(z), y, reduction="none")


def same(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


def distance(ball, a, b):
    return (a - b).flatten(1).norm(dim=1, p=math.inf if isinstance(ball, Linf) else 2)


def art(model, x, y, *, ball, steps, step_size, generator=None):
    s = objectives.art_settings("paper", attack_steps=steps, step_size=step_size, beta=5.0)
    return objectives.art_attack(model, x, y, settings=s, eps=ball.eps, start=ball.random(x, generator=generator))


def inner_pgd(model, x, y, *, ball, steps, step_size, generator=None):
    options = dict(eps=ball.eps, steps=steps, step_size=step_size, train_mode=False)
    return objectives.pgd_attack(model, x, y, start=ball.random(x, generator=generator), **options)


ATTACKS = [  # attack, ball, whether it raises the cross-entropy
    pytest.param(pgd, Linf(8 / 255), True, id="pgd-linf"),
    pytest.param(pgd, L2(0.5), True, id="pgd-l2"),
    pytest.param(inner_pgd, Linf(8 / 255), True, id="pgd-inner"),
    pytest.param(art, Linf(8 / 255), False, id="art"),
]


@pytest.mark.parametrize(("attack", "ball", "raises_loss"), ATTACKS)
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_every_attack(model, attack, ball, raises_loss, steps):
    def run():
        return attack(model, x, y, ball=ball, steps=steps, step_size=ball.eps / 4, generator=g())

    def g():
        return torch.Generator().manual_seed(7)

    model.train()
    model[-1].eval(), model[-1].bias.requires_grad_(False)
    flags, modes = [p.requires_grad for p in model.parameters()], [m.training for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    try:
        found = run()
        assert [p.requires_grad for p in model.parameters()] == flags
        assert [m.training for m in model.modules()] == modes
    finally:
        model.eval(), model[-1].bias.requires_grad_(True)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())  # running statistics too
    assert all(p.grad is None for p in model.parameters())

    assert not found.requires_grad and found.dtype == x.dtype
    assert (distance(ball, found, x) <= ball.eps * (1 + 1e-12)).all() and found.min() >= 0 and found.max() <= 1
    with torch.no_grad():
        assert torch.equal(run(), found)
    start = ball.random(x, generator=g())
    if steps == 0:
        assert torch.equal(found, start)
    else:
        assert (distance(ball, found, start) > 0).all()
    if raises_loss:
        assert (losses(model, found) >= losses(model, start)).all()


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.7)])
def test_random_starts_fill_the_ball_and_come_from_the_generator(ball):
    centre = torch.full((400, 3, 4, 4), 0.5, dtype=F64)
    a, b, c = (ball.random(centre, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    r = distance(ball, a, centre) / ball.eps
    assert r.max() <= 1 and r.max() > 0.98 and abs((a - centre).mean()) < 0.02 * ball.eps
    if isinstance(ball, L2):
        assert abs(r.mean() - 0.5) < 0.05 and r.min() < 0.02
    else:
        assert abs(((a - centre) / ball.eps).var() - 1 / 3) < 0.01


@pytest.mark.parametrize("ball", [Linf(0.1), L2(0.7)])
def test_projection_is_idempotent_and_keeps_what_is_inside(ball):
    inside = ball.random(x, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(ball.project(inside, x), inside, rtol=0, atol=1e-15)
    far = x + torch.randn(x.shape, dtype=F64, generator=torch.Generator().manual_seed(4))
    near = ball.project(far, x)
    assert (distance(ball, near, x) <= ball.eps * (1 + 1e-12)).all() and near.min() >= 0 and near.max() <= 1
    torch.testing.assert_close(ball.project(near, x), near, rtol=0, atol=1e-15)


def test_projection_and_direction_by_hand():
    origin, v = torch.full((1, 1, 1, 2), 0.5, dtype=F64), torch.tensor([[[[0.3, -0.4]]]], dtype=F64)
    same(Linf(0.35).project(origin + v, origin), origin + torch.tensor([0.3, -0.35], dtype=F64))
    same(L2(0.25).project(origin + v, origin), origin + v / 2)
    same(L2(2.0).direction(v), v / 0.5)
    assert Linf(2.0).direction(v).tolist() == [[[[1, -1]]]]
    assert L2(1.0).direction(0 * v).tolist() == Linf(1.0).direction(0 * v).tolist() == [[[[0, 0]]]]


def torchattack(model, ball, *, random_start):
    import torchattacks

    kind = torchattacks.PGD if isinstance(ball, Linf) else torchattacks.PGDL2
    return kind(model, eps=ball.eps, alpha=ball.eps / 3, steps=6, random_start=random_start)


@pytest.mark.parametrize("ball", [Linf(8 / 255), L2(0.5)])
def test_pgd_is_torchattacks_without_a_random_start(model, ball):
    ours = pgd(model, x, y, ball=ball, steps=6, step_size=ball.eps / 3, random_start=False)
    same(ours, torchattack(model, ball, random_start=False)(x, y))


@pytest.mark.parametrize("ball", [Linf(8 / 255), L2(0.5)])
def test_ascend_is_torchattacks_from_the_start_that_torchattacks_draws(model, ball):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        if isinstance(ball, Linf):
            noise = torch.empty_like(x).uniform_(-ball.eps, ball.eps)
        else:
            noise = torch.empty_like(x).normal_()
            norm = noise.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
            noise *= torch.zeros_like(norm).uniform_(0, 1) / norm * ball.eps
        torch.manual_seed(3)
        theirs = torchattack(model, ball, random_start=True)(x, y)
    start = (x + noise).clamp(0, 1)

    def objective(z):
        return F.cross_entropy(model(z), y, reduction="none")

    same(ascend(partial(gradient_of, objective), x, ball=ball, steps=6, step_size=ball.eps / 3, start=start), theirs)


@pytest.mark.parametrize("ball", [Linf(8 / 255), L2(0.5)])
def test_one_image_or_many_makes_no_difference(model, ball):
    options = dict(ball=ball, steps=4, step_size=ball.eps / 3, random_start=False)
    alone = [pgd(model, x[i : i + 1], y[i : i + 1], **options) for i in range(N)]
    same(torch.cat(alone), pgd(model, x, y, **options))


def test_visit_sees_the_start_and_every_iterate_and_the_last_is_returned():
    seen = []
    start = x + 0.01
    found = ascend(
        torch.ones_like,
        x.clone().requires_grad_(),
        ball=Linf(0.1),
        steps=3,
        step_size=0.03,
        start=start,
        visit=lambda i, z: seen.append((i, z)),
    )
    assert [i for i, _ in seen] == [0, 1, 2, 3]
    assert not any(z.requires_grad for _, z in seen) and not found.requires_grad
    assert torch.equal(seen[-1][1], found) and torch.equal(start, x + 0.01)
    for i, z in seen[1:]:
        same(z, torch.minimum(x + 0.01 + 0.03 * i, x + 0.1).clamp(0, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(ball=Linf(8)), "8/255, not 8"),
        (dict(ball=Linf(-0.1)), "eps is -0.1"),
        (dict(ball=Linf(math.nan)), "nan"),
        (dict(ball=L2(-1.0)), "negative"),
        (dict(ball=8 / 255), "attacks.Linf"),
        (dict(steps=-1), "steps -1"),
        (dict(step_size=-0.1), "step_size -0.1"),
    ],
)
def test_impossible_settings(model, changes, message):
    with pytest.raises(ValueError, match=message):
        pgd(model, x, y, **dict(ball=Linf(0.1), steps=1, step_size=0.1) | changes)


@pytest.mark.parametrize(
    ("bad", "labels", "message"), [(255 * x, y, "divide by 255"), (x, y + 1, "classes 0 to 3"), (x, y[:2], "labels")]
)
def test_bad_images_and_labels(model, bad, labels, message):
    with pytest.raises(ValueError, match=message):
        pgd(model, bad, labels, ball=Linf(0.1), steps=1, step_size=0.1)
    assert not model.training and all(p.requires_grad for p in model.parameters())
