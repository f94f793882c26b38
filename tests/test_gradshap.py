"""GradSHAP: one point of integrated gradients, captum's on the same draws, completeness, common noise."""

import pytest
import torch
from torch import nn

from artlib.attacks import Linf, ifia
from artlib.attributions import Explainer, gradient, gradshap, input_x_gradient, integrated_gradients

F64 = torch.float64


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 64, 4)]
        return nn.Sequential(*layers).double().eval()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


x = torch.rand(3, 3, 8, 8, generator=seeded(1), dtype=F64)
y = torch.tensor([0, 3, 1])


def fixed(*, t, choice=0.0, n=None, steps=1) -> torch.Tensor:
    noise = torch.zeros(steps, 4, 8, 8, dtype=F64)
    noise[:, -1, 0, 0], noise[:, -1, 0, 1] = torch.as_tensor(t, dtype=F64), torch.as_tensor(choice, dtype=F64)
    noise[:, :3] = 0 if n is None else n
    return noise


def test_with_a_zero_baseline_no_noise_and_one_place_it_is_one_point_of_ig(model):
    steps, i = 4, 2
    one = integrated_gradients(model, x, y, steps=steps, points=(i - 1, i))
    torch.testing.assert_close(gradshap(model, x, y, steps=1, noise=fixed(t=i / steps)), steps * one)
    places = fixed(t=[k / steps for k in range(1, steps + 1)], steps=steps)
    torch.testing.assert_close(
        gradshap(model, x, y, steps=steps, noise=places), integrated_gradients(model, x, y, steps=4)
    )
    torch.testing.assert_close(gradshap(model, x, y, steps=1, noise=fixed(t=1.0)), input_x_gradient(model, x, y))


def test_noise_moves_the_end_and_the_choice_the_baseline(model):
    n = torch.randn(3, 8, 8, generator=seeded(2), dtype=F64)
    images = torch.rand(2, 3, 8, 8, generator=seeded(3), dtype=F64)
    for choice, b in ((0.1, images[0]), (0.9, images[1])):
        noise = fixed(t=0.3, choice=choice, n=n)
        found = gradshap(model, x, y, steps=1, sigma=0.01, baselines=images, noise=noise)
        end = x + 0.01 * n
        expected = (end - b) * gradient(model, (b + 0.3 * (end - b)).clamp(0, 1), y)
        torch.testing.assert_close(found, expected)


def test_it_is_captums_on_the_same_draws(model, monkeypatch):
    """captum draws its places with NumPy, one an image."""
    captum = pytest.importorskip("captum.attr")
    import numpy as np

    noise = Explainer("gradshap", dict(steps=6)).noise(x)
    t = noise[:, -1, 0, 0].tolist()
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: np.array(t))
    found = [
        captum.GradientShap(model).attribute(x[i : i + 1], 0 * x[:1], n_samples=6, stdevs=0.0, target=int(y[i]))
        for i in range(3)
    ]
    torch.testing.assert_close(gradshap(model, x, y, steps=6, noise=noise), torch.cat(found), rtol=1e-5, atol=1e-6)


def test_it_is_complete_in_expectation(model):
    """The mean of f(x) - f(b) over the baselines drawn."""
    images = torch.rand(2, 3, 8, 8, generator=seeded(3), dtype=F64)
    noise = Explainer("gradshap", dict(steps=4000)).noise(x)
    found = gradshap(model, x, y, steps=4000, baselines=images, noise=noise).sum((1, 2, 3))
    share = (noise[:, -1, 0, 1] >= 0.5).double().mean()
    value = lambda z: model(z).gather(1, y[: len(z), None])[:, 0]  # noqa: E731
    baseline = torch.stack([value(b.expand(3, -1, -1, -1)) for b in images])
    expected = value(x) - (1 - share) * baseline[0] - share * baseline[1]
    torch.testing.assert_close(found, expected.detach(), rtol=0.01, atol=0.01)


def test_parts_add_up_whatever_the_rows(model):
    whole = gradshap(model, x, y, steps=7, sigma=0.1)
    parts = [gradshap(model, x, y, steps=7, sigma=0.1, points=p) for p in ((0, 2), (2, 7))]
    torch.testing.assert_close(sum(parts), whole)
    torch.testing.assert_close(gradshap(model, x, y, steps=7, sigma=0.1, rows=2), whole)
    explainer = Explainer("gradshap", dict(steps=7, sigma=0.1))
    assert explainer.parts(3, 9) == [(0, 3), (3, 6), (6, 7)]
    torch.testing.assert_close(explainer.attribution(model, x, y), whole)


def test_an_image_has_the_same_draws_in_every_batch_and_before_and_after(model):
    alone = gradshap(model, x[1:2], y[1:2], steps=5, sigma=0.1)
    torch.testing.assert_close(gradshap(model, x, y, steps=5, sigma=0.1)[1:2], alone)
    assert not torch.equal(gradshap(model, x, y, steps=5, seed=1), gradshap(model, x, y, steps=5))
    explainer = Explainer("gradshap", dict(steps=5, sigma=0.1, baselines=(0.0, 1.0)))
    y_model = model(x).argmax(1)
    found = ifia(model, x, y_model, k=9, ball=Linf(0.05), steps=3, step_size=0.02, explainer=explainer)
    torch.testing.assert_close(found.after, explainer(model, found.x_adv, y_model))
    assert (found.kendall < 1).all()


def test_it_can_be_differentiated(model):
    smooth = nn.Sequential(*[nn.Softplus(5) if isinstance(m, nn.ReLU) else m for m in model])
    noise = Explainer("gradshap", dict(steps=2)).noise(x[:1])
    options = dict(steps=2, sigma=0.05, noise=noise, create_graph=True)
    leaf = (0.2 + 0.6 * x[:1, :, :4, :4]).requires_grad_()

    def value(z: torch.Tensor) -> torch.Tensor:
        return gradshap(smooth, torch.nn.functional.pad(z, (2, 2, 2, 2)), y[:1], **options).square().sum()

    assert torch.autograd.gradcheck(value, leaf, atol=1e-6)


@pytest.mark.parametrize(
    "change", [dict(steps=0), dict(sigma=-0.1), dict(baselines=()), dict(noise=x)], ids=lambda c: next(iter(c))
)
def test_settings_that_cannot_be_meant(model, change):
    with pytest.raises(ValueError, match="are the least|noise is"):
        gradshap(model, x, y, **{"steps": 2, **change})
