"""artlib.attributions against captum, finite differences, linear models and completeness."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from artlib import attributions, models
from artlib.attributions import (
    ATTRIBUTIONS,
    RULES,
    Explainer,
    gradient,
    heatmap,
    input_x_gradient,
    integrated_gradients,
    quadrature,
    smoothgrad,
)

F64 = torch.float64
CAPTUM = {
    "right": "riemann_right",
    "left": "riemann_left",
    "midpoint": "riemann_middle",
    "trapezoid": "riemann_trapezoid",
    "gauss-legendre": "gausslegendre",
}


def images(n=3, size=8, seed=1):
    return torch.rand(n, 3, size, size, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model():
    return models.build("wrn-10-1", 4, size=8, mean=(0.5,) * 3, std=(0.25,) * 3, dtype=F64).eval()


@pytest.fixture(scope="module")
def soft():
    """A small network whose derivatives of every order exist."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(3.0), nn.Conv2d(4, 3, 3), nn.Flatten(), nn.Linear(12, 4))
    g = torch.Generator().manual_seed(0)
    for p in net.double().parameters():
        p.data = torch.randn(p.shape, generator=g, dtype=F64) / max(1, p[0].numel()) ** 0.5
    return net.eval()


def linear(seed=0):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)).double().eval()
    net[1].weight.data = torch.randn(4, 192, dtype=F64, generator=torch.Generator().manual_seed(seed))
    return net, net[1].weight.detach().reshape(4, 3, 8, 8)


x, y = images(), torch.tensor([2, 0, 3])
ALL = [gradient, input_x_gradient, partial(integrated_gradients, steps=3), partial(smoothgrad, draws=3)]


def same(a, b, tol=1e-10):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


# ---- gradient


def test_gradient_is_captums_saliency_and_input_x_gradient_captums(model):
    from captum.attr import InputXGradient, Saliency

    leaf = x.clone().requires_grad_()
    same(gradient(model, x, y), Saliency(model).attribute(leaf, target=y, abs=False))
    same(input_x_gradient(model, x, y), InputXGradient(model).attribute(leaf, target=y).detach())


@pytest.mark.parametrize("target", ["logit", "loss"])
def test_gradient_is_the_finite_difference(soft, target):
    small = images(size=6)

    def value(z):
        logits = soft(z)
        return logits[range(3), y] if target == "logit" else -logits.log_softmax(1)[range(3), y]

    v, h = images(size=6, seed=2), 1e-5
    slope = (value(small + h * v) - value(small - h * v)) / (2 * h)
    same((gradient(soft, small, y, target=target) * v).sum((1, 2, 3)), slope.detach(), 1e-8)


@pytest.mark.parametrize("attribution", ALL)
def test_differentiable_on_request(soft, attribution):
    small = images(2, 6).requires_grad_()
    f = partial(attribution, soft, y=y[:2], create_graph=True)
    assert torch.autograd.gradcheck(lambda z: heatmap(f(z)), small)
    weight = soft[0].weight
    (g,) = torch.autograd.grad(f(small.detach()).square().sum(), weight)
    assert g.abs().max() > 0


@pytest.mark.parametrize("attribution", ALL)
def test_without_a_request_there_is_no_graph_and_nothing_is_left_behind(model, attribution):
    leaf = x.clone().requires_grad_()
    model.train(), model[-1].eval()
    modes, statistics = [m.training for m in model.modules()], [b.clone() for b in model.buffers()]
    try:
        with torch.no_grad():
            models.check_batch(leaf, y, model)
        assert [m.training for m in model.modules()] == modes
        assert all(torch.equal(a, b) for a, b in zip(statistics, model.buffers(), strict=True))
    finally:
        model.eval()
    found = attribution(model, leaf, y)
    assert not found.requires_grad and found.shape == x.shape
    assert leaf.grad is None and all(p.grad is None and p.requires_grad for p in model.parameters())
    with torch.no_grad():
        assert torch.equal(attribution(model, leaf, y), found)


# ---- quadrature


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_quadrature_weights_sum_to_one_and_points_are_named(rule, steps):
    t, w = quadrature(steps, rule)
    assert len(t) == len(w) == steps + (rule == "trapezoid")
    assert abs(w.sum() - 1) < 1e-14 and t.min() >= 0 and t.max() <= 1
    exact = {"right": 1, "left": 1, "midpoint": 2, "trapezoid": 2, "gauss-legendre": 2 * steps}[rule]
    for power in range(exact):  # polynomials that the rule integrates exactly
        assert abs((w * t**power).sum() - 1 / (power + 1)) < 1e-13


def test_quadrature_by_hand():
    for rule, points, weights in (
        ("right", [0.25, 0.5, 0.75, 1], [0.25] * 4),
        ("left", [0, 0.25, 0.5, 0.75], [0.25] * 4),
        ("midpoint", [0.125, 0.375, 0.625, 0.875], [0.25] * 4),
        ("trapezoid", [0, 0.25, 0.5, 0.75, 1], [0.125, 0.25, 0.25, 0.25, 0.125]),
    ):
        t, w = quadrature(4, rule)
        assert t.tolist() == points and w.tolist() == weights


# ---- integrated gradients


@pytest.mark.parametrize("rule", RULES)
def test_integrated_gradients_are_captums(model, rule):
    from captum.attr import IntegratedGradients

    # captum's trapezoid of n points weighs 1/n each, half at the ends: n - 1 intervals of the wrong width, sum (n-1)/n
    n, factor = (6, 6 / 5) if rule == "trapezoid" else (5, 1)
    baseline = images(seed=5) / 2
    theirs = IntegratedGradients(model).attribute(x, baseline, target=y, n_steps=n, method=CAPTUM[rule]) * factor
    ours = integrated_gradients(model, x, y, steps=5, rule=rule, baseline=baseline)
    same(ours, theirs.detach(), 1e-6)  # captum's points are rounded to single precision


@pytest.mark.parametrize(
    ("rule", "steps"),
    [("right", 40_000), ("left", 40_000), ("midpoint", 200), ("trapezoid", 200), ("gauss-legendre", 16)],
)
@pytest.mark.parametrize("target", ["logit", "loss"])
def test_completeness(soft, rule, steps, target):
    one, label, baseline = images(1, 6), y[:1], 0.3
    found = integrated_gradients(
        soft, one, label, steps=steps, rule=rule, baseline=baseline, target=target, rows=4000
    ).sum()
    ends = [attributions.score(soft(z), label, target=target) for z in (one, torch.full_like(one, baseline))]
    assert abs(found - (ends[0] - ends[1])) < 1e-4
    assert abs(ends[0] - ends[1]) > 0.01


@pytest.mark.parametrize("rule", RULES)
def test_of_a_linear_model_it_is_weight_times_difference(rule):
    net, w = linear()
    same(integrated_gradients(net, x, y, steps=3, rule=rule, baseline=0.25), w[y] * (x - 0.25))
    same(gradient(net, x, y), w[y])


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("baseline", [0.0, 0.5, images(seed=3), images(1, seed=4), images(1, seed=4)[0, :, :1, :1]])
def test_chunks_do_not_matter(model, rows, baseline):
    options = dict(steps=4, rule="trapezoid", baseline=baseline)
    same(
        integrated_gradients(model, x, y, rows=rows, **options),
        torch.cat(
            [
                integrated_gradients(model, x[i : i + 1], y[i : i + 1], **options | dict(baseline=b[None]))
                for i, b in enumerate(torch.as_tensor(baseline, dtype=F64).expand_as(x))
            ]
        ),
    )


@pytest.mark.parametrize(("rows", "largest"), [(1, 1), (2, 2), (5, 3), (6, 6), (1000, 12)])
def test_no_pass_is_larger_than_rows(model, rows, largest):  # 3 images, 4 points
    sizes = []
    handle = model.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    integrated_gradients(model, x, y, steps=4, rows=rows)
    handle.remove()
    assert max(sizes) == largest


@pytest.mark.parametrize("rows", [2, 1000])
def test_hold_factor_is_the_gradient_with_the_factor_detached(soft, rows):
    leaf, cotangent = images(size=6).requires_grad_(), images(size=6, seed=8)

    def by_hand(hold):
        total = 0
        for i in range(1, 5):
            point = i / 4 * leaf
            logits = soft(point)[range(3), y].sum()
            total = total + torch.autograd.grad(logits, point, create_graph=True)[0] / 4
        return (leaf.detach() if hold else leaf) * total

    results = []
    for hold in (True, False):
        ours = integrated_gradients(soft, leaf, y, steps=4, hold_factor=hold, create_graph=True, rows=rows)
        theirs = by_hand(hold)
        same(ours, theirs)
        results.append([torch.autograd.grad((cotangent * v).sum(), leaf)[0] for v in (ours, theirs)])
        same(*results[-1])
    assert (results[0][0] - results[1][0]).abs().max() > 1e-3


def test_loss_target_explains_the_cross_entropy(model):
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(F.cross_entropy(model(leaf), y, reduction="sum"), leaf)
    same(gradient(model, x, y, target="loss"), g)
    same(integrated_gradients(model, x, y, steps=1, target="loss"), x * g)


@pytest.mark.parametrize("attribution", ALL)
def test_explaining_is_done_in_eval_mode_and_the_mode_is_put_back(attribution):
    net = models.build("wrn-10-1", 4, size=8, dropout=0.3, dtype=F64)
    expected = attribution(net, x, y)
    net.train(), net[-1].eval(), net[-1].bias.requires_grad_(False)
    modes, state = [m.training for m in net.modules()], {k: v.clone() for k, v in net.state_dict().items()}
    same(attribution(net, x, y), expected)
    found = attribution(net, x, y, create_graph=True)
    same(found.detach(), expected)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert [n for n, p in net.named_parameters() if not p.requires_grad] == [f"{len(net) - 1}.bias"]
    (g,) = torch.autograd.grad(found.square().sum(), net[1].weight)
    assert g.abs().max() > 0
    with pytest.raises(ValueError, match="labels"):
        attribution(net, x, y[:1])
    assert [m.training for m in net.modules()] == modes


@pytest.mark.parametrize("attribution", ALL)
@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 1, 6, 9), (1, 3, 7, 4)])
def test_no_images_one_channel_and_images_that_are_not_square(attribution, shape):
    net = nn.Sequential(nn.Conv2d(shape[1], 4, 3, dtype=F64), nn.ReLU(), models.layers.MeanPool())
    z = torch.rand(shape, dtype=F64, generator=torch.Generator().manual_seed(1))
    found = attribution(net, z, y[: len(z)])
    assert found.shape == z.shape and heatmap(found).shape == (shape[0], *shape[2:])


@pytest.mark.parametrize("attribution", [partial(integrated_gradients, steps=7), partial(smoothgrad, draws=7)])
def test_parts_add_up_to_the_whole(model, attribution):
    parts = [attribution(model, x, y, points=p) for p in ((0, 3), (3, 6), (6, 7))]
    same(sum(parts), attribution(model, x, y))
    assert min(p.abs().max() for p in parts) > 0


# ---- smoothgrad


def test_smoothgrad_by_hand_and_one_noise_for_every_image_of_every_batch(model):
    noise = torch.randn(4, 3, 8, 8, dtype=F64, generator=torch.Generator().manual_seed(5))
    by_hand = sum(attributions.input_gradient(model, x + 0.02 * n, y) for n in noise) / 4
    options = dict(draws=4, sigma=0.02, seed=5)
    same(smoothgrad(model, x, y, **options), by_hand)
    same(smoothgrad(model, x, y, noise=noise, **options), by_hand)
    same(torch.cat([smoothgrad(model, x[i : i + 1], y[i : i + 1], rows=3, **options) for i in range(3)]), by_hand)
    assert not torch.equal(smoothgrad(model, x, y, draws=4, sigma=0.02, seed=6), by_hand)


def test_smoothgrad_of_a_quadratic_is_its_gradient_at_the_mean_copy():
    class Quadratic(nn.Module):
        def forward(self, z):
            return torch.stack([z.square().sum((1, 2, 3)), z.sum((1, 2, 3))], 1)

    noise = torch.randn(6, 3, 8, 8, dtype=F64, generator=torch.Generator().manual_seed(0))
    same(smoothgrad(Quadratic(), x, 0 * y, draws=6, sigma=0.1), 2 * x + 0.2 * noise.mean(0))


# ---- explainers


def double_gradient(model, x, y, *, create_graph=False):
    return 2 * gradient(model, x, y, create_graph=create_graph)


def signed(attribution):
    return attribution.sum(1)


def test_an_explainer_is_its_attribution_reduced(model):
    ig = dict(steps=3, rule="midpoint")
    expected = heatmap(integrated_gradients(model, x, y, **ig))
    assert torch.equal(Explainer("integrated_gradients", ig)(model, x, y), expected)
    assert torch.equal(Explainer(partial(integrated_gradients, **ig))(model, x, y), expected)
    same(Explainer(double_gradient, reduce=signed)(model, x, y), 2 * gradient(model, x, y).sum(1))
    assert set(ATTRIBUTIONS) == {"gradient", "input_x_gradient", "integrated_gradients", "smoothgrad", "gradshap"}
    for name in ATTRIBUTIONS:
        assert Explainer(name)(model, x, y).shape == (3, 8, 8)


def test_explainers_compare_and_hash_by_value_and_print_alike_everywhere():
    ig = Explainer("integrated_gradients", {"steps": 3, "rule": "left"})
    for equal in (
        Explainer(integrated_gradients, {"rule": "left", "steps": 3}),
        Explainer(partial(integrated_gradients, steps=3), {"rule": "left"}),
        Explainer(partial(partial(integrated_gradients, steps=8, rule="left"), steps=3)),
        Explainer("integrated_gradients", ig.options),
    ):
        assert equal == ig and hash(equal) == hash(ig) and repr(equal) == repr(ig)
    assert repr(ig) == "Explainer('integrated_gradients', rule='left', steps=3)"
    assert repr(Explainer("gradient", upsample=True)) == "Explainer('gradient', upsample=True)"
    here = __name__
    assert repr(Explainer(double_gradient, reduce=signed)) == f"Explainer({here}.double_gradient, reduce={here}.signed)"
    assert ig != Explainer("integrated_gradients", {"steps": 3}) and ig != Explainer("gradient")
    assert "0x" not in repr(Explainer(partial(integrated_gradients, baseline=torch.zeros(3, 1, 1))))


def test_small_maps_are_interpolated_to_the_size_of_the_image(model):
    def small(model, x, y, *, create_graph=False):
        return F.avg_pool2d(gradient(model, x, y, create_graph=create_graph), 4)

    coarse = heatmap(F.avg_pool2d(gradient(model, x, y), 4))
    assert torch.equal(Explainer(small)(model, x, y), coarse)
    found = Explainer(small, upsample=True)(model, x, y)
    same(found, F.interpolate(coarse[None], size=(8, 8), mode="bilinear")[0])


def test_an_explainers_noise_is_that_of_its_settings_and_its_parts_cover_its_points(model):
    noisy = Explainer("smoothgrad", {"draws": 5, "seed": 3})
    noise = noisy.noise(x)
    assert noise.shape == (5, 3, 8, 8) and torch.equal(noise, noisy.noise(x[:1]))
    assert torch.equal(noisy(model, x, y, noise=noise), noisy(model, x, y))
    assert not torch.equal(noisy(model, x, y, noise=0 * noise), noisy(model, x, y))
    assert Explainer("gradient").noise(x) is None and Explainer("gradient").parts(10, 1) == [None]
    ig = Explainer("integrated_gradients", {"steps": 7, "rule": "trapezoid"})
    assert ig.parts(4, 32) == [None] and ig.parts(4, 12) == [(0, 3), (3, 6), (6, 8)]
    assert ig.parts(5, 1) == [(i, i + 1) for i in range(8)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Explainer("grad"), "'grad'; choose one of gradient, input_x_gradient, integrated_gradients, smooth"),
        (lambda: Explainer("gradient", {"steps": 3}), "gradient has no option 'steps'; it has target"),
        (lambda: Explainer("gradient", {"create_graph": True}), "no option 'create_graph'"),
        (lambda: Explainer("integrated_gradients", {"rule": "simpson"}), "'simpson'"),
        (lambda: Explainer("integrated_gradients", {"steps": 0}), "steps is 0"),
        (lambda: Explainer("integrated_gradients", {"target": "probability"}), "'probability'"),
        (lambda: Explainer("integrated_gradients", {"baseline": torch.zeros(1)}), "baseline is a Tensor"),
        (lambda: Explainer("smoothgrad", {"draws": 0}), "draws is 0"),
        (lambda: Explainer("smoothgrad", {"sigma": -1.0}), "sigma -1.0"),
        (lambda: Explainer(3), "unknown attribution 3"),
    ],
)
def test_an_explainer_checks_itself_when_it_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- heat maps


def test_heatmap_is_the_channel_sum_scaled_to_the_number_of_pixels():
    a = images(2, 4) - 0.5
    h = heatmap(a)
    expected = a.abs()[:, 0] + a.abs()[:, 1] + a.abs()[:, 2]
    same(h, torch.stack([m / m.sum() * 16 for m in expected]))
    same(h.sum((1, 2)), torch.full((2,), 16.0, dtype=F64))
    same(heatmap(1e-30 * a), h)
    assert heatmap(a[:0]).shape == (0, 4, 4)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_zero_map_stays_zero_with_a_finite_gradient(dtype):
    a = torch.zeros(2, 3, 32, 32, dtype=dtype)
    a[1, 0, 0, 0] = 2
    a.requires_grad_()
    h = heatmap(a)
    assert (h[0] == 0).all() and h[1, 0, 0] == 32 * 32
    (g,) = torch.autograd.grad((h * torch.rand(32, 32)).sum(), a)
    assert g.isfinite().all()


# ---- errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: gradient(m, x * 255, y), "divide by 255"),
        (lambda m: gradient(m, x[0], y), "of shape"),
        (lambda m: gradient(m, x, y + 2), "classes 0 to 3"),
        (lambda m: gradient(m, x, y, target="probability"), "'probability'"),
        (lambda m: input_x_gradient(m, x, y[:2]), "labels"),
        (lambda m: integrated_gradients(m, x, y.double()), "labels"),
        (lambda m: integrated_gradients(m, x, y, steps=0), "steps is 0"),
        (lambda m: integrated_gradients(m, x, y, rule="simpson"), "'simpson'.*gauss-legendre"),
        (lambda m: smoothgrad(m, x, y, draws=0), "draws is 0"),
        (lambda m: smoothgrad(m, x, y, draws=2, noise=torch.zeros(3, 3, 8, 8)), r"noise is \(3, 3, 8, 8\); 2 draws"),
    ],
)
def test_bad_input_gets_one_clear_error(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)
