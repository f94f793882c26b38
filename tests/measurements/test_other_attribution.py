"""IN and K of attributions that draw."""

from dataclasses import replace

import pytest
import torch
from known_models import network, pictures

from artlib.attributions import gradshap, heatmap, smoothgrad
from artlib.measurements import AttributionRobustness, LensAttack, OtherAttribution
from artlib.measurements.measurement import floats

SMALL = dict(images=6, k=8, steps=2, ig_steps=5, attack_ig_steps=3, chunk=64)


@pytest.mark.parametrize("attribution", ["gradient", "gradshap", "integrated_gradients"])
def test_without_settings_it_is_the_measurement_of_table_1(attribution):
    plain, model, images = AttributionRobustness(**SMALL, attribution=attribution), network(), pictures()
    other = OtherAttribution.like(plain)
    assert other.name == plain.name and other.differences() != plain.differences()  # its columns; a file of its own
    found = other(model, images, progress=False)
    for name, column in plain(model, images, progress=False).items():
        torch.testing.assert_close(found[name], column, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    "attribution, settings, function, options",
    [
        ("gradshap", dict(sigma=0.1, baselines=(0.0, 0.7)), gradshap, dict(steps=5, sigma=0.1, baselines=(0.0, 0.7))),
        ("smoothgrad", dict(sigma=0.3), smoothgrad, dict(draws=5, sigma=0.3)),
    ],
)
def test_settings_and_draws_reach_the_maps_that_are_scored(attribution, settings, function, options):
    asked, model, images = OtherAttribution(**SMALL, attribution=attribution, **settings), network(), pictures()
    found = asked.attack(model, images, progress=False)
    x, y = floats(model, images)
    for scored, at in ((found.before, x), (found.after, found.x_adv)):
        torch.testing.assert_close(scored, heatmap(function(model, at, y, **options)))
    own = {k: v for k, v in options.items() if k not in settings}
    assert not torch.allclose(found.before, heatmap(function(model, x, y, **own)))


@pytest.mark.parametrize("attribution", ["gradshap", "smoothgrad"])
def test_the_draws_are_common_to_all_images_before_and_after(attribution):
    """The same image has the same map at another place of another batch."""
    explain, model = OtherAttribution(**SMALL, attribution=attribution, sigma=0.2)._explainer(), network()
    x, y = floats(model, pictures())
    both = explain(model, torch.cat([x, x[:1]]), torch.cat([y, y[:1]]))
    torch.testing.assert_close(both[-1], both[0])
    torch.testing.assert_close(explain(model, x[:1], y[:1])[0], both[0])


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(attribution="gradient", sigma=0.1), "sigma is 0.1, which gradient has not"),
        (dict(attribution="smoothgrad", baselines=(0.5,)), "baselines is (0.5,), which smoothgrad has not"),
        (dict(attribution="gradshap", baselines=()), "must be None or hold a grey level"),
        (dict(attribution="gradshap", baselines=(1.5,)), "from 0 to 1"),
        (dict(attribution="gradshap", sigma=-0.1), "sigma is -0.1"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_at_the_door(settings, words):
    with pytest.raises(ValueError) as caught:
        OtherAttribution(**SMALL, **settings)
    assert words in str(caught.value)


def test_of_lens_the_attack_has_t_pixels_and_the_measures_k():
    """With t = k it is the plain measurement; else the images are those of an attack of t pixels, scored on k."""
    plain, model, images = AttributionRobustness(**SMALL, attribution="gradient"), network(), pictures()
    same, other = (LensAttack.like(plain, t=t) for t in (plain.k, 20))
    x, wide = (m.attack(model, images, progress=False).x_adv for m in (plain, replace(plain, k=20)))
    torch.testing.assert_close(same.attack(model, images, progress=False).x_adv, x, rtol=0, atol=0)
    found = other.attack(model, images, progress=False)
    torch.testing.assert_close(found.x_adv, wide, rtol=0, atol=0)
    assert not torch.equal(wide, x)
    torch.testing.assert_close(other.compare(found), plain.compare(found), equal_nan=True)
