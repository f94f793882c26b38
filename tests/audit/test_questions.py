"""What is asked is looked at first: what cannot work says why in one sentence, before minutes are spent."""

import re
from dataclasses import dataclass

import pytest
import torch
import torchvision
from torch import nn

from artlib import attacks, audit, costs, data, results
from artlib.attacks import NO_GRADIENT
from artlib.attacks.objectives import OBJECTIVES, Objective
from artlib.attributions import ATTRIBUTIONS, Explainer, gradient
from artlib.audit import Questions, Targeted


def net(activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 6, 3, padding=1), activation(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(96, 4)]
        return nn.Sequential(*layers).double().eval()


def noise(model: nn.Module) -> data.ImageSet:
    """Four images that the model classifies correctly."""
    pixels = torch.randint(0, 256, (4, 3, 8, 10), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    y = model(pixels.double() / 255).argmax(1)
    return data.ImageSet(pixels, y, tuple("0123"), name="noise", split="test")


X = noise(net())


def asked(**changes) -> Questions:
    return Questions(**{"attributions": ("gradient",), "objectives": ("topk",), "images": 4, "steps": 2} | changes)


# ------------------------------------------------------------------ one's own


def scalar(model, x, y, *, create_graph=False):
    return gradient(model, x, y, create_graph=create_graph).sum()


def without_channels(model, x, y, *, create_graph=False):
    return gradient(model, x, y, create_graph=create_graph).sum(1)


def detached(model, x, y, *, create_graph=False):
    return gradient(model, x, y)


def raising(model, x, y, *, create_graph=False):
    return gradient(model, x, y, create_graph=create_graph) @ torch.zeros(3, 3)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (scalar, "attribution 'own' returns shape (); it must return a number for each input value, (2, 3, 8, 10)"),
        (without_channels, "attribution 'own' returns shape (2, 8, 10); it must return"),
        (lambda model, x, y, *, create_graph=False: None, "attribution 'own' returns a NoneType; it must return"),
        (detached, "attribution 'own' cannot be differentiated, and an attack has to: hand create_graph on"),
        (raising, "attribution 'own' fails on two images: "),
        (lambda model, x: x, "attribution 'own' fails on two images: "),
    ],
)
def test_an_attribution_of_ones_own(function, message, monkeypatch):
    monkeypatch.setitem(ATTRIBUTIONS, "own", function)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        asked(attributions=("own",)).check(net(), X)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "model",
    [nn.Sequential(nn.Flatten(), nn.Linear(240, 4)).double().eval(), lambda x: x.mean((2, 3))],
    ids=["a layer", "a function"],
)
def test_a_linear_network_is_told_so_and_no_blame_is_laid_on_the_attribution(model):
    with pytest.raises(ValueError, match="gradient does not depend on the image, as that of a linear network") as error:
        asked().check(audit.classifier(model), X)
    assert "create_graph" not in str(error.value)


def test_random_signs_ask_for_no_derivative(monkeypatch):
    monkeypatch.setitem(ATTRIBUTIONS, "own", detached)
    assert asked(attributions=("own",), objectives=("random",)).check(net(), X) == {"own": 80}


@dataclass(frozen=True)
class Own(Objective):
    raised: object = None
    fixed: object = None

    def aim(self, before):
        return before if self.fixed is None else self.fixed

    def __call__(self, maps, logits, y, aim):
        return self.raised(maps)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (
            Own(lambda m: m.sum()),
            "objective 'own' returns shape () for 2 maps; it must return one number an image, (N,)",
        ),
        (Own(lambda m: m), "objective 'own' returns shape (2, 8, 10) for 2 maps"),
        (Own(lambda m: 1.0), "objective 'own' returns a float for 2 maps"),
        (Own(lambda m: m.detach().sum((1, 2))), "objective 'own' cannot be differentiated in the maps"),
        (Own(lambda m: m @ m), "objective 'own' fails on two images: "),
        (Own(fixed=torch.tensor(1.0)), "objective 'own' aims at shape () for 2 maps; aim must return one row an image"),
        (Objective(), "objective 'own' fails on two images: NotImplementedError"),
    ],
)
def test_an_objective_of_ones_own(objective, message, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "own", lambda: objective)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        asked(objectives=("own",)).check(net(), X)
    assert "\n" not in str(error.value)


def test_what_is_right_passes(monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "own", lambda: Own(lambda m: m.square().sum((1, 2))))
    assert asked(objectives=("own", "topk", "targeted")).check(net(), X) == {"gradient": 80}


# ------------------------------------------------------------------ k


def test_k_is_a_tenth_of_each_map_and_never_more_than_the_map():
    both = asked(attributions=("gradient", "cam"))
    pixels = both.check(net(), X)
    assert pixels == {"gradient": 80, "cam": 16}
    assert {m.attribution: m.k for m in list(both.measurements(X, pixels).values())[1:]} == {"gradient": 8, "cam": 1}
    asked(attributions=("cam",), k=16).check(net(), X)
    with pytest.raises(ValueError, match="k is 17; a map of cam has 4 x 4 pixels: choose a smaller k, or none"):
        asked(attributions=("cam",), k=17).check(net(), X)


@pytest.mark.parametrize(
    ("eps", "message"),
    [(8, "eps is 8; pixels are in [0, 1] here: write 8/255"), (1000, "eps is 1000; it must be a number from 0 to 1")],
)
def test_an_eps_of_pixels_from_0_to_255(eps, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Questions(eps=eps)


def test_nothing_asked():
    with pytest.raises(
        ValueError, match="objectives are empty; choose among topk, lens, mass_center, random, targeted"
    ):
        Questions(objectives=())


# ------------------------------------------------------------------ attacks


def test_the_targeted_attack_is_that_of_the_library():
    """Towards the map turned upside down; what it reaches is nearer to that than the map was."""
    model = net()
    m = Targeted(attribution="gradient", images=4, steps=10, eps=0.1, step_size=0.01, ig_steps=4, k=8)
    found = m.attack(model, X, progress=False)
    x, y, explainer = X.images.double() / 255, X.labels, Explainer("gradient")
    target = explainer(model, x, y).flip(1, 2)
    options = dict(explainer=explainer, ball=attacks.Linf(0.1), steps=10, step_size=0.01)
    again = attacks.targeted(model, x, y, target, **options)
    assert torch.equal(found.x_adv, again.x_adv) and torch.equal(found.status, again.status)
    assert (found.x_adv - x).abs().max() <= 0.1 + 1e-12

    def far(maps):
        return (maps - target).square().sum((1, 2))

    kept = found.status == attacks.KEPT
    assert kept.any() and (far(found.after) < far(found.before))[kept].all()


def test_the_centre_of_mass_is_moved_in_a_network_without_kinks():
    """At the image itself the squared distance has no slope, and a smooth network is its own surrogate."""
    model = net(nn.GELU)
    m = asked(objectives=("mass_center",)).measurements(X)["gradient, mass_center"]
    assert (m(model, noise(model), progress=False)["status"] != NO_GRADIENT).all()


def test_vision_transformers_can_be_attacked_outside_an_audit():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind = torchvision.models.VisionTransformer
        vit = kind(
            image_size=16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=4
        ).eval()
        nn.init.normal_(vit.heads.head.weight)
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    y = vit(x).argmax(1)
    attack = dict(k=20, ball=attacks.Linf(8 / 255), steps=2, step_size=4 / 255, explainer="gradient")
    with pytest.raises(RuntimeError, match="derivative"):  # of torch: if it ever has one, this wrapper can go
        attacks.ifia(vit, x, y, **attack)
    found = attacks.ifia(audit.classifier(vit), x, y, **attack)
    assert (found.status == attacks.KEPT).all() and (found.kendall < 1).all()


# ------------------------------------------------------------------ before, while, and after a stop


def test_the_estimate_comes_first_and_the_bars_after_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(results, "MODELS", tmp_path)
    seen = []
    make = results.measured

    def spy(*args, **options):
        seen.append(capsys.readouterr().out)
        return make(*args, **options)

    monkeypatch.setattr(results, "measured", spy)
    audit.audit(net(), X, questions=asked(ig_steps=2), device="cpu")
    told, first, nothing = seen[0].split("\n")
    assert told == "finding out how long this takes ... under a minute on this machine" and not nothing
    assert first == "1 of 2: accuracy" and "2 of 2: " in seen[1]
    bars = seen[1] + capsys.readouterr().out
    assert re.search(r"PGD-2: 100%.* 4/4 ", bars) and re.search(r"attacking explanations: 100%", bars)


def test_the_estimate_counts_the_passes_that_are_made(monkeypatch):
    """Twice the steps are about twice the operations; images that are not square are counted as they are."""
    monkeypatch.setattr(costs, "rate", lambda work, device: 1.0)  # operations a second: minutes count operations
    monkeypatch.setattr(costs, "duration", str)
    counted = [float(audit.estimate(net(), X, asked(steps=steps)).split()[0]) for steps in (10, 20)]
    assert 1.7 < counted[1] / counted[0] < 2.1


def test_the_forecast_is_of_what_is_not_there_yet(tmp_path, monkeypatch, capsys):
    """Nothing, a part, all but the worst images, all: and what is all there is neither counted nor attacked again."""
    monkeypatch.setattr(results, "MODELS", tmp_path)
    monkeypatch.setattr(costs, "rate", lambda work, device: 1.0)
    monkeypatch.setattr(costs, "duration", str)
    small = dict(ig_steps=2, objectives=("random", "topk"))

    def told(**changes) -> str:
        audit.audit(net(), X, questions=asked(**small | changes), device="cpu")
        before, waits, line = capsys.readouterr().out.split("\n")[0].partition("finding out how long this takes ... ")
        assert waits and not before
        return line

    first, more = told(objectives=("random",)), told()
    assert first.endswith(" on this machine") and more.endswith(": 2 of 3 measurements are there already")
    for path in tmp_path.glob("*.worst"):
        path.unlink()
    again = told()
    assert again.endswith(": all measurements are there already, the worst images are attacked once more, to be shown")
    assert 0 < float(again.split()[0]) < float(more.split()[0])
    monkeypatch.setattr(costs, "per_image", lambda *a, **k: pytest.fail("counted"))
    monkeypatch.setattr("artlib.measurements.attribution_robustness.ifia", lambda *a, **k: pytest.fail("attacked"))
    assert told() == "everything is there already"


def test_an_audit_that_was_stopped_goes_on(tmp_path, monkeypatch):
    """Of three measurements the third is cut off; the next audit makes that one alone."""
    monkeypatch.setattr(results, "MODELS", tmp_path)
    questions = asked(objectives=("random", "topk"), ig_steps=2)
    options = dict(questions=questions, device="cpu", progress=False)
    ifia, made = attacks.ifia, []

    def stopped(*args, **given):
        made.append(given["objective"])
        if given["objective"] == "topk":
            raise KeyboardInterrupt
        return ifia(*args, **given)

    with monkeypatch.context() as patch:
        patch.setattr("artlib.measurements.attribution_robustness.ifia", stopped)
        with pytest.raises(KeyboardInterrupt):
            audit.audit(net(), X, **options)
    assert made == ["random", "topk"] and len(list(tmp_path.glob("*.json"))) == 2

    def counted(*args, **given):
        made.append(given["objective"])
        return ifia(*args, **given)

    monkeypatch.setattr("artlib.measurements.attribution_robustness.ifia", counted)
    audit.audit(net(), X, **options)
    assert made[2:] == ["topk", "topk"] and len(list(tmp_path.glob("*.json"))) == 3  # measured, and the worst shown
