"""artlib.attribution_attacks against a plain transcription, one image at a time, of Chen et al.'s attack."""

import math
from dataclasses import dataclass, replace
from functools import partial

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import nn

from artlib import metrics
from artlib.attacks import (
    KEPT,
    L2,
    MISCLASSIFIED,
    NO_GRADIENT,
    NO_STEP,
    STATUS,
    Adam,
    Box,
    Linf,
    Manipulated,
    Objective,
    Sign,
    TopK,
    explanation,
    ifia,
)
from artlib.attributions import (
    Explainer,
    gradient,
    heatmap,
    input_x_gradient,
    integrated_gradients,
    smoothgrad,
)
from artlib.models import smooth

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


class Piecewise(nn.Module):
    """`net` for most images; a constant, or NaN, where the corner pixel is below a bound."""

    def __init__(self, dead, bound=0.2):
        super().__init__()
        self.net, self.dead, self.bound = network(), dead, bound

    def forward(self, z):
        odd, logits = z[:, 0, 0, 0] < self.bound, self.net(z)
        return logits.index_put((odd,), self.dead(z[odd], logits[odd]))


DEAD = {
    "constant": lambda z, logits: torch.tensor([0.0, 0.0, 1.0], dtype=F64).expand_as(logits),
    "nan-gradient": lambda z, logits: logits.detach() + 0 * (z - z).sum((1, 2, 3)).sqrt()[:, None],
    "saturated": lambda z, logits: logits.detach() + 0 * logits,
}


@pytest.mark.parametrize("dead", DEAD.values(), ids=DEAD)
def test_a_gradient_that_vanishes_or_is_nan_is_no_robustness_and_aborts_nobody_else(dead):
    model, z = Piecewise(dead).eval(), x.clone()
    z[:, 0, 0, 0] = torch.tensor([0.0, 1.0] * 4, dtype=F64)  # 0.12 and paths to black stay on their side
    labels = model(z).argmax(1).detach()
    found = ifia(model, z, labels, **SETTINGS)
    assert (found.status[::2] == NO_GRADIENT).all() and found.kendall[::2].isnan().all()
    assert torch.equal(found.x_adv[::2], z[::2]) and (found.kept_step[::2] == -1).all()
    alone = ifia(model.net, z[1::2], labels[1::2], **SETTINGS)
    assert found.status[1::2].tolist() == alone.status.tolist() and (alone.status == KEPT).any()
    torch.testing.assert_close(found.kendall[1::2], alone.kendall, rtol=0, atol=1e-9)


def test_a_black_image_under_a_map_that_multiplies_by_it_has_no_gradient():
    found = attack(torch.zeros_like(x[:1]), net(torch.zeros_like(x[:1])).argmax(1))
    assert found.status.tolist() == [NO_GRADIENT] and found.kendall.isnan().all()


def test_a_map_that_becomes_nan_on_the_way_is_not_kept_and_aborts_nobody():
    calls = []

    def sometimes(model, images, labels, *, create_graph=False):
        calls.append(create_graph)
        a = IG(model, images, labels, create_graph=create_graph)
        if calls.count(False) > 1 and not create_graph:  # every map after the first
            a = torch.cat([a[:1] * torch.nan, a[1:]])
        return a

    rows = [i for i in range(8) if attack().status[i] == KEPT]
    found, expected = (attack(x[rows], y[rows], attribution=f, compile=False) for f in (sometimes, IG))
    assert found.status[0] == NO_STEP and found.status[1:].tolist() == expected.status[1:].tolist()
    torch.testing.assert_close(found.kendall[1:], expected.kendall[1:], rtol=0, atol=1e-12)


def test_images_that_want_a_gradient_no_images_one_channel_and_images_that_are_not_square():
    leaf = x.clone().requires_grad_()
    for compile in (None, False):
        found = attack(leaf, compile=compile)
        assert not any(v.requires_grad for v in vars(found).values()) and torch.equal(found.x_adv, attack().x_adv)
    empty = attack(x[:0], y[:0])
    assert empty.x_adv.shape == (0, 3, 8, 8) and len(empty.kendall) == 0
    odd = nn.Sequential(nn.Conv2d(1, 4, 3, dtype=F64), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 7, 3, dtype=F64))
    z = torch.rand(3, 1, 6, 9, dtype=F64, generator=torch.Generator().manual_seed(2))
    found = ifia(odd, z, odd(z).argmax(1), **SETTINGS)
    assert found.before.shape == (3, 6, 9) and (found.status == KEPT).any()


def test_the_callers_images_survive_a_first_layer_that_works_in_place():
    model = nn.Sequential(nn.ReLU(inplace=True), *network())
    z, labels = x.clone(), model(x.clone()).argmax(1)
    found, expected = (ifia(m, z, labels, **SETTINGS) for m in (model, network()))
    assert torch.equal(z, x)
    with torch.no_grad():
        assert (model(found.x_adv.clone()).argmax(1) == labels).all()
    assert torch.equal(found.before, expected.before)  # pixels are not negative: that ReLU is the identity


def test_a_network_whose_relus_are_functions_is_refused_at_the_door():
    class Functional(nn.Sequential):
        def forward(self, z):
            return F.relu(super().forward(z) + 5) - 5

    with pytest.raises(ValueError, match="Functional calls relu"):
        ifia(Functional(*network()), x, y, **SETTINGS)


# ---- loop x geometry x objective x criterion


@pytest.mark.parametrize("explainer", [IG, partial(IG, hold_factor=True), partial(smoothgrad, draws=M)], ids=str)
@pytest.mark.parametrize("rows", [1, 8, 16])
def test_the_gradient_in_parts_is_that_of_the_whole(explainer, rows):
    whole = explanation._Attack(**PARTS | dict(attacked=Explainer(explainer), rows=10**6))
    parts = replace(whole, rows=rows)
    aim = metrics.topk_mask(heatmap(IG(net, x, y)), K)
    with torch.no_grad():
        a, b = (f.gradient(net, y, aim)(x) for f in (whole, parts))
    assert len(parts.attacked.parts(8, rows)) == (2 if rows == 16 else M) and a.abs().max() > 1e-3
    torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-10)


def test_no_more_points_than_rows_are_in_memory_at_once():
    sizes = []
    handle = net.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    attack(rows=9, batch_size=4, steps=2, attribution=partial(integrated_gradients, steps=20, rows=9))
    handle.remove()
    assert max(sizes) <= 9 and sizes.count(8) > 20  # 2 points of 4 images, or 2 of 3 where one is misclassified


@dataclass(frozen=True)
class Wanted(Objective):
    """A map's first column, and the second logit."""

    needs_logits = True

    def aim(self, before):
        return before[:, :, 0]

    def __call__(self, maps, logits, y, aim):
        return (maps[:, :, 0] * aim).sum(1) + logits[:, 1] ** 2


PARTS = dict(explainer=Explainer(IG), objective=TopK(K), criterion=None, beta=BETA, threshold=None)
PARTS |= dict(candidates="after", compile=False, batch_size=8)


def test_an_objective_of_maps_and_logits():
    whole = explanation._Attack(**PARTS | dict(attacked=Explainer(IG), objective=Wanted(), rows=10**6))
    aim = Wanted().aim(heatmap(IG(net, x, y)))
    leaf = x.clone().requires_grad_()
    with smooth(net, BETA):
        maps = heatmap(IG(net, leaf, y, create_graph=True))
        (expected,) = torch.autograd.grad(((maps[:, :, 0] * aim).sum(1) + net(leaf)[:, 1] ** 2).sum(), leaf)
    for rows in (10**6, 8):
        found = replace(whole, rows=rows).gradient(net, y, aim)(x)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    found = attack(k=None, objective=Wanted(), criterion=lambda before, after, aim: -after[:, :, 0].sum(1))
    kept = found.status == KEPT
    assert kept.any() and (found.after[kept][:, :, 0].sum(1) > found.before[kept][:, :, 0].sum(1)).all()


def test_the_criterion_decides_which_iterate_is_kept():
    for name, measure in (("kendall", metrics.kendall), ("topk-intersection", partial(metrics.topk_intersection, k=K))):
        best = {c: attack(criterion=c) for c in ("kendall", "kendall-on-topk", "topk-intersection")}
        kept = torch.stack([f.status == KEPT for f in best.values()]).all(0)
        values = {c: measure(f.before, f.after)[kept] for c, f in best.items()}
        assert kept.sum() > 2 and all((values[name] <= v + 1e-12).all() for v in values.values())


def test_beta_may_follow_a_schedule():
    constant = attack(beta=lambda step: BETA)
    assert torch.equal(constant.x_adv, attack().x_adv)
    seen = []
    attack(beta=lambda step: seen.append(step) or 1.0 + step, steps=3)
    assert seen == [0, 1, 2]
    assert not torch.equal(attack(beta=lambda step: 1.0 + 10 * step).x_adv, constant.x_adv)


def test_steppers_and_the_box():
    adam = attack(ball=Box(), stepper=Adam(), step_size=0.02)
    assert (adam.status == KEPT).any() and adam.x_adv.min() >= 0 and adam.x_adv.max() <= 1
    assert torch.equal(attack(stepper=Sign()).x_adv, attack().x_adv)


def test_the_noise_of_an_attribution_is_common_to_before_and_after():
    noisy = Explainer("smoothgrad", {"draws": 3, "sigma": 0.05, "seed": 4})
    found = attack(explainer=noisy, attribution=None, batch_size=3)
    torch.testing.assert_close(found.before, noisy(net, x, y), rtol=0, atol=1e-9)
    torch.testing.assert_close(found.after, noisy(net, found.x_adv, y), rtol=0, atol=1e-9)
    assert (found.status == KEPT).any()


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
        (dict(k=2.5), "k is 2.5"),
        (dict(k=None), "'topk' needs k"),
        (dict(objective=TopK(3)), "leave k out"),
        (dict(attribution="grad"), "'grad'"),
        (dict(objective=Wanted(), k=None, criterion="kendall-on-topk"), "goes with objective 'topk'"),
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
