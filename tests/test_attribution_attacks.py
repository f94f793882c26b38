"""artlib.attribution_attacks against a plain transcription, one image at a time, of the attack in facts §2."""

import math
from functools import partial

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import nn

from artlib import metrics
from artlib.attacks import KEPT, L2, MISCLASSIFIED, NO_GRADIENT, NO_STEP, STATUS, Linf, Manipulated, ifia
from artlib.attributions import gradient, heatmap, input_x_gradient, integrated_gradients

F64 = torch.float64
BETA, STEPS, STEP, EPS, K, M = 8.0, 6, 0.04, 0.12, 12, 4


def network(seed=0):
    g = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3))
    for p in net.double().parameters():
        p.data = torch.randn(p.shape, generator=g, dtype=F64) * (2 / max(1, p[0].numel())) ** 0.5 * (p.ndim > 1)
    return net.eval()


net = network()
x = torch.rand(8, 3, 8, 8, dtype=F64, generator=torch.Generator().manual_seed(1))
net[5].bias.data -= net(x).detach().mean(0)  # no class wins everywhere: the attack meets the decision boundary
y = net(x).argmax(1).detach()
y[3] = (y[3] + 1) % 3  # misclassified from the start
IG = partial(integrated_gradients, steps=M)
SETTINGS = dict(k=K, ball=Linf(EPS), steps=STEPS, step_size=STEP, beta=BETA, attribution=IG)


def attack(images=x, labels=y, **changes):
    return ifia(net, images, labels, **SETTINGS | changes)


# ---- the transcription: numbers, not batches


def logit(image, label, beta=None):
    act = F.relu if beta is None else lambda v: torch.log1p(torch.exp(beta * v)) / beta
    a = act(F.conv2d(image[None], net[0].weight, net[0].bias))
    a = act(F.conv2d(a, net[2].weight, net[2].bias, stride=2))
    return F.linear(a.flatten(1), net[5].weight, net[5].bias)[0, label]


def saliency(image, label, beta=None, hold=False):
    total = 0
    for i in range(1, M + 1):
        point = i / M * image
        point = point if point.requires_grad else point.requires_grad_()
        total = total + torch.autograd.grad(logit(point, label, beta), point, create_graph=beta is not None)[0] / M
    h = ((image.detach() if hold else image) * total).abs().sum(0)
    return h / h.sum() * 64


def tau(a, b):
    return scipy.stats.kendalltau(a.detach().numpy().ravel(), b.detach().numpy().ravel())[0]


def plain(image, label, *, start=None, eps=EPS, steps=STEPS, on_topk=False, before_update=False, hold=False):
    """(status, kept step, x_adv, kendall of the whole maps)."""

    def predicted(z):
        return max(range(3), key=lambda i: logit(z, i).item())

    if predicted(image) != label:
        return MISCLASSIFIED, -1, image, math.nan
    clean = saliency(image, label)
    top = torch.zeros(64, dtype=F64)
    top[sorted(range(64), key=lambda i: -clean.flatten()[i].item())[:K]] = 1
    top = top.reshape(8, 8)
    weight = top if on_topk else 1.0
    z = image.clone() if start is None else start
    visited = [z]
    for _ in range(steps):
        leaf = z.clone().requires_grad_()
        (g,) = torch.autograd.grad(-(saliency(leaf, label, BETA, hold) * top).sum(), leaf)
        z = (z + STEP * g.sign()).clamp(min=image - eps, max=image + eps).clamp(0, 1)
        visited.append(z)
    best = (1 - 1e-9, -1)  # scipy gives a map's correlation with itself one rounding below 1
    for i, z in enumerate(visited):
        if i == (steps if before_update else 0) or predicted(z) != label:
            continue
        best = min(best, (tau(clean * weight, saliency(z, label) * weight), i))
    if best[1] < 0:
        return NO_STEP, -1, image, 1.0
    z = visited[best[1]]
    return KEPT, best[1], z, tau(clean, saliency(z, label))


def check(found, expected):
    assert found.status.tolist() == [e[0] for e in expected]
    assert found.kept_step.tolist() == [e[1] for e in expected]
    exact = dict(rtol=0, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(found.x_adv, torch.stack([e[2] for e in expected]), **exact)
    torch.testing.assert_close(found.kendall, torch.tensor([e[3] for e in expected], dtype=F64), **exact)


# ---- the attack is the transcription


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        (dict(), dict()),
        (dict(criterion="kendall-on-topk"), dict(on_topk=True)),
        (dict(candidates="before"), dict(before_update=True)),
        (dict(attacked=partial(IG, hold_factor=True)), dict(hold=True)),
        (dict(ball=Linf(0.05)), dict(eps=0.05)),
        (dict(steps=0), dict(steps=0)),
        (dict(steps=1, batch_size=3), dict(steps=1)),
    ],
    ids=str,
)
def test_ifia_is_the_transcription_for_every_image(changes, options):
    check(attack(**changes), [plain(a, b, **options) for a, b in zip(x, y.tolist(), strict=True)])


def test_the_images_meet_every_status_and_the_switches_matter():
    base = attack()
    assert set(base.status.tolist()) == {KEPT, NO_STEP, MISCLASSIFIED} and base.status[3] == MISCLASSIFIED
    assert len(set(base.kept_step.tolist())) > 3
    for changes in (dict(criterion="kendall-on-topk"), dict(candidates="before"), dict(beta=1.0), dict(k=30)):
        assert not torch.equal(attack(**changes).x_adv, base.x_adv)


def test_a_random_start_is_reproducible_and_a_candidate_before_the_first_update():
    options = dict(random_start=True, candidates="before")
    a, b, c = (attack(generator=torch.Generator().manual_seed(s), **options) for s in (3, 3, 4))
    assert torch.equal(a.x_adv, b.x_adv) and not torch.equal(a.x_adv, c.x_adv)
    rows = [i for i in range(8) if a.status[i] != MISCLASSIFIED]
    starts = Linf(EPS).random(x[rows], generator=torch.Generator().manual_seed(3))
    expected = [plain(x[i], y[i].item(), start=s, before_update=True) for i, s in zip(rows, starts, strict=True)]
    expected.insert(3, (MISCLASSIFIED, -1, x[3], math.nan))
    check(a, expected)


def test_images_in_one_batch_do_not_meet():
    together = attack()
    for size in (1, 3):
        for a, b in zip(together.__dict__.values(), attack(batch_size=size).__dict__.values(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-9, equal_nan=True)


# ---- what every result obeys


@pytest.mark.parametrize("ball", [Linf(EPS), L2(0.8)])
@pytest.mark.parametrize("attribution", [IG, gradient, input_x_gradient], ids=["ig", "gradient", "input-x-gradient"])
def test_properties(ball, attribution):
    found = attack(ball=ball, step_size=ball.eps / 3, attribution=attribution)
    with torch.no_grad():
        prediction = net(found.x_adv).argmax(1)
    kept = found.status == KEPT
    norm = (found.x_adv - x).flatten(1).norm(dim=1, p=float("inf") if isinstance(ball, Linf) else 2)
    assert 2 < kept.sum() < 8 and (norm <= ball.eps * (1 + 1e-9)).all()
    assert found.x_adv.min() >= 0 and found.x_adv.max() <= 1
    assert (prediction == y)[kept].all() and (found.kendall[kept] < 1).all() and (found.kept_step[kept] >= 1).all()
    assert torch.equal(found.x_adv[~kept], x[~kept]) and torch.equal(found.after[~kept], found.before[~kept])
    assert (found.kendall[found.status == NO_STEP] == 1).all() and (found.kept_step[~kept] == -1).all()
    assert found.kendall[3].isnan()  # misclassified, not attacked
    same = dict(rtol=0, atol=1e-9)
    torch.testing.assert_close(found.before, heatmap(attribution(net, x, y)), **same)
    torch.testing.assert_close(found.after, heatmap(attribution(net, found.x_adv, y)), **same)
    taus = torch.tensor([tau(a, b) for a, b in zip(found.before, found.after, strict=True)], dtype=F64)
    torch.testing.assert_close(found.kendall[y == net(x).argmax(1)], taus[y == net(x).argmax(1)], **same)


def test_the_attack_lowers_the_mass_on_the_top_pixels():
    found = attack(candidates="after")
    top = metrics.topk_mask(found.before, K)
    kept = found.status == KEPT
    assert ((found.after * top).sum((1, 2)) < (found.before * top).sum((1, 2)))[kept].all()


def test_the_model_and_the_autograd_mode_are_left_as_they_were():
    net.train()
    net[0].bias.requires_grad_(False)
    try:
        with torch.no_grad():
            inside = attack()
        assert net.training and net[3].training and not net[0].bias.requires_grad and net[0].weight.requires_grad
    finally:
        net.eval(), net[0].bias.requires_grad_(True)
    assert all(p.grad is None for p in net.parameters()) and isinstance(net[1], nn.ReLU)
    assert torch.equal(inside.x_adv, attack().x_adv)
    assert not any(v.requires_grad for v in inside.__dict__.values())


def test_a_constant_map_is_not_a_success():
    with torch.no_grad():  # a network that sees nothing has the same, empty, map everywhere
        blind = network()
        blind[0].weight.zero_()
    labels = blind(x).argmax(1)
    found = ifia(blind, x, labels, **SETTINGS)
    assert (found.status == NO_GRADIENT).all() and found.kendall.isnan().all() and (found.before == 0).all()


def test_all_misclassified_and_progress():
    seen = []
    found = attack(labels=(net(x).argmax(1) + 1) % 3, batch_size=3, progress=seen.append)
    assert (found.status == MISCLASSIFIED).all() and torch.equal(found.x_adv, x) and seen == [3, 3, 2]


def test_records_of_batches_concatenate():
    parts = [attack(x[:3], y[:3]), attack(x[3:], y[3:])]
    joined = Manipulated.concatenate(parts)
    torch.testing.assert_close(joined.x_adv, attack().x_adv, rtol=0, atol=1e-9)
    assert joined.status.tolist() == attack().status.tolist() and len(STATUS) == 4


def test_the_surrogate_attacks_what_it_is_told_to():
    calls = []

    def watched(name):
        def attribution(model, images, labels, *, create_graph=False):
            calls.append((name, create_graph, model[1](torch.zeros(1)).item() == 0))
            return gradient(model, images, labels, create_graph=create_graph)

        return attribution

    attack(attribution=watched("relu"), attacked=watched("soft"), steps=1, compile=False)
    assert calls == [("relu", False, True), ("soft", True, False), ("relu", False, True)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(k=65), "k is 65; a 8x8 map has 1 to 64"),
        (dict(k=0), "k is 0"),
        (dict(objective="mass"), "objective 'mass'.*topk"),
        (dict(criterion="spearman"), "criterion 'spearman'.*kendall-on-topk"),
        (dict(candidates="all"), "candidates 'all'.*before"),
        (dict(ball=Linf(8)), "8/255"),
        (dict(steps=-1), "steps"),
        (dict(beta=0.0), "beta"),
        (dict(images=255 * x), "divide by 255"),
        (dict(labels=y + 5), "classes 0 to 2"),
        (dict(labels=y[:3]), "labels"),
    ],
)
def test_bad_input_gets_one_clear_error(changes, message):
    with pytest.raises(ValueError, match=message):
        attack(**changes)
    assert all(p.requires_grad for p in net.parameters())
