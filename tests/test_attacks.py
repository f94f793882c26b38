"""artlib.attacks against torchattacks from the same start, and what every attack must respect."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from artlib import models
from artlib.attacks import L2, Adam, Box, L2Step, Linf, Sign, ascend, gradient_of, pgd
from artlib.attributions import score
from artlib.trainings import Art, Batch, Pgd

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


def inner(kind, **changes):
    """The attack inside a training."""

    def attack(model, x, y, *, ball, steps, step_size, generator=None):
        training = kind(eps=ball.eps, steps=steps, step_size=step_size, **changes)
        return training.attacked(Batch(model, x, y, start=ball.random(x, generator=generator)))

    return attack


ATTACKS = [  # attack, ball, whether it raises the cross-entropy
    pytest.param(pgd, Linf(8 / 255), True, id="pgd-linf"),
    pytest.param(pgd, L2(0.5), True, id="pgd-l2"),
    pytest.param(inner(Pgd), Linf(8 / 255), True, id="pgd-inner"),
    pytest.param(inner(Art, beta=5.0), Linf(8 / 255), False, id="art"),
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


# ---- steps


def test_adams_steps_are_torchs():
    target = torch.rand(x.shape, dtype=F64, generator=torch.Generator().manual_seed(2))
    weight = x.clone().requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=0.003, betas=(0.8, 0.95), eps=1e-6)
    for _ in range(7):
        optimizer.zero_grad()
        ((weight - target).pow(4).sum()).backward()
        optimizer.step()
    stepper, options = Adam(0.8, 0.95, 1e-6), dict(ball=Linf(1.0), steps=7, step_size=0.003)
    for _ in range(2):  # nothing is left of the first attack
        found = ascend(lambda z: -4 * (z - target) ** 3, x, stepper=stepper, **options)
        same(found, weight.detach().clamp(0, 1) if (weight < 0).any() or (weight > 1).any() else weight.detach())


def test_steppers_of_a_kind_are_those_of_their_ball_and_the_box_binds_nothing_but_pixels():
    def gradient(z):
        return (z - 0.3).cos() - 0.5

    for ball, stepper in ((Linf(0.1), Sign()), (L2(0.7), L2Step())):
        options = dict(ball=ball, steps=5, step_size=ball.eps / 3)
        assert torch.equal(ascend(gradient, x, **options), ascend(gradient, x, stepper=stepper, **options))
    found = ascend(torch.ones_like, x, ball=Box(), steps=50, step_size=0.1)
    assert (found == 1).all() and torch.equal(Box().project(x + 3, x), torch.ones_like(x))
    start = Box().random(torch.zeros(400, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    assert abs(start.mean() - 0.5) < 0.02 and abs(start.var() - 1 / 12) < 0.01


# ---- restarts, losses, reports


@pytest.mark.parametrize("loss", ["cross-entropy", "margin"])
def test_of_restarts_the_best_is_kept_for_every_image(model, loss):
    options = dict(ball=Linf(0.02), steps=2, step_size=0.01, loss=loss, report=True)
    noise = [torch.Generator().manual_seed(3) for _ in range(2)]
    labels = model(x).argmax(1)
    single = [pgd(model, x, labels, generator=noise[0], **options) for _ in range(6)]
    best = pgd(model, x, labels, generator=noise[1], restarts=6, **options)
    target = {"cross-entropy": "loss"}.get(loss, loss)
    rank = [score(f.logits, labels, target=target) + 1e6 * (f.logits.argmax(1) != labels) for f in single]
    choice = torch.stack(rank).argmax(0)
    assert len(set(choice.tolist())) > 1
    same(best.x_adv, torch.stack([single[c].x_adv[i] for i, c in enumerate(choice.tolist())]))
    same(best.logits, model(best.x_adv).detach())


def test_the_margin_is_the_best_others_lead_and_pgd_raises_it(model):
    logits = model(x).detach()
    by_hand = [max(v - row[c] for j, v in enumerate(row) if j != c) for row, c in zip(logits, y.tolist(), strict=True)]
    same(score(logits, y, target="margin"), torch.stack(by_hand))
    found = pgd(model, x, y, ball=Linf(0.05), steps=10, step_size=0.01, loss="margin", random_start=False, report=True)
    assert (score(found.logits, y, target="margin") > score(logits, y, target="margin")).all()
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(score(model(leaf), y, target="margin").sum(), leaf)
    one = pgd(model, x, y, ball=Linf(0.05), steps=1, step_size=0.01, loss="margin", random_start=False)
    same(one, (x + 0.01 * g.sign()).clamp(0, 1))


@pytest.mark.parametrize("restarts", [1, 3])
def test_chunks_do_not_matter(model, restarts):
    def run(size):
        noise = torch.Generator().manual_seed(3)
        options = dict(ball=Linf(0.03), steps=3, step_size=0.01, restarts=restarts, generator=noise)
        return pgd(model, x, y, batch_size=size, **options)

    for size in (1, 3, 4, 100):
        same(run(size), run(None))


class Masked(torch.nn.Module):
    """Gradients of the wrapped network are multiplied: by 0, they vanish; by NaN, nobody can follow them."""

    def __init__(self, model, factor):
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, z):
        if z.requires_grad:
            z.register_hook(lambda g: g * self.factor(g))
        return self.model(z)


@pytest.mark.parametrize("bad", [0.0, math.nan, math.inf])
def test_gradients_that_vanish_or_are_nan_move_nothing_and_are_reported(model, bad):
    def factor(g):
        return torch.tensor([bad, 1.0, bad, 1.0], dtype=F64).reshape(4, 1, 1, 1)

    options = dict(ball=Linf(0.03), steps=3, step_size=0.01, random_start=False)
    found = pgd(Masked(model, factor), x, y, report=True, **options)
    assert found.vanished.tolist() == [True, False, True, False]
    same(found.x_adv[::2], x[::2])
    same(found.x_adv[1::2], pgd(model, x[1::2], y[1::2], **options))
    started = pgd(Masked(model, factor), x, y, report=True, restarts=2, **options | dict(random_start=True))
    assert started.vanished.tolist() == [True, False, True, False] and started.x_adv.isfinite().all()
    assert not pgd(model, x, y, report=True, **options).vanished.any()
    assert not pgd(model, x, y, report=True, **options | dict(steps=0)).vanished.any()  # no gradient was asked for


def test_one_step_of_use_is_enough_and_one_good_value_too(model):
    asked = []

    def factor(g):
        asked.append(1)
        good = torch.full_like(g, math.nan)
        good[:, 0, 0, 0] = 1.0
        return good if len(asked) == 2 else torch.nan

    found = pgd(Masked(model, factor), x, y, ball=Linf(0.1), steps=3, step_size=0.01, random_start=False, report=True)
    assert not found.vanished.any() and torch.equal(found.x_adv.flatten(1)[:, 1:], x.flatten(1)[:, 1:])


def test_no_images_and_images_that_want_a_gradient(model):
    options = dict(ball=Linf(0.03), steps=2, step_size=0.01, random_start=False)
    assert pgd(model, x[:0], y[:0], **options).shape == (0, 3, 8, 8)
    assert len(pgd(model, x[:0], y[:0], report=True, **options).vanished) == 0
    found = pgd(model, x.clone().requires_grad_(), y, report=True, **options)
    assert not any(v.requires_grad for v in vars(found).values()) and torch.equal(
        found.x_adv, pgd(model, x, y, **options)
    )


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
        (dict(step_size=math.nan), "step_size nan"),
        (dict(loss="hinge"), "'hinge'; choose one of cross-entropy, margin"),
        (dict(restarts=0), "restarts is 0"),
        (dict(restarts=2, random_start=False), "2 restarts without a random start"),
        (dict(batch_size=0), "batch_size 0"),
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
