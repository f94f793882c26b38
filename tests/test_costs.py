"""Operations by hand and by torch's own counter, memory, and the arithmetic of the forecast; no second is asserted."""

import itertools
import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from artlib import attributions, costs, data, models, presets
from artlib.measurements import MEASUREMENTS, Accuracy, AttributionRobustness, Measurement, predictions
from artlib.settings import Count
from artlib.trainings import PROTOCOLS, TRAININGS, Art, Natural, Pgd, Recipe, Training, paper_recipe

# A network whose operations are easy to write down, for images of 8 x 8; two for a multiplication and an addition.
FIRST, SECOND, LAST = 2 * (3 * 9) * 4 * 64, 2 * (4 * 9) * 5 * 16, 2 * 5 * 7
F = FIRST + SECOND + LAST
SHAPE = (3, 8, 7)


def tiny() -> nn.Sequential:
    first = [models.Conv2d(3, 4, 3, padding=1), nn.ReLU(), models.Conv2d(4, 5, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 7)).double()


def update(**fields) -> costs.Work:
    return costs.update(Recipe(**fields), shape=SHAPE, net=tiny())


def measuring(m: Measurement, images: int = 1) -> costs.Work:
    return costs.measuring(m, net=tiny(), shape=SHAPE, images=images)


LOOPS = dict(steps=9, ig_steps=9, attack_ig_steps=9)
IFIA = AttributionRobustness(k=9, **LOOPS)
MEASURED = {"ifia": IFIA, "pgd": Accuracy()}


# ------------------------------------------------------------------ operations


@pytest.mark.parametrize("arch", ["wrn-10-1", "rar-cnn", "rar-resnet-1", "torch"])
def test_operations_are_those_of_torchs_counter_which_computes(arch):
    channels = 1 if arch == "rar-cnn" else 3
    layers = [
        nn.Conv2d(3, 4, (3, 5), stride=(1, 2), padding=2, dilation=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(896, 7),
    ]
    net = nn.Sequential(*layers) if arch == "torch" else models.build(arch, 7, in_channels=channels, size=28)
    x = torch.rand(2, channels, 28, 28)
    x, net = (x[..., :20], net.double()) if arch == "torch" else (x, net.double())
    x = x.double().requires_grad_()

    def step():
        net(2 * x).logsumexp(1).sum().backward()

    with FlopCounterMode(display=False) as oracle:
        step()
    assert costs.flops(step) == oracle.get_total_flops() > 0


def test_natural_training_is_three_passes_but_for_the_gradient_of_the_image():
    work = update()
    assert costs.forward(work) == F
    assert costs.per_image(work) == 3 * F - FIRST
    assert costs.passes(work) == (3 * F - FIRST) / F


@pytest.mark.parametrize("steps", [1, 10])
def test_a_step_of_pgd_is_two_passes(steps):
    assert costs.per_image(update(training=Pgd(steps=steps))) == (2 * steps + 3) * F - FIRST


def test_a_step_of_arts_attack_is_six_passes():
    """Forward, two input gradients, and back through all three. Back, the last layer has nothing to pass: the vectors
    that enter the two gradients are constant, and the loss does not depend on the logits."""
    none, one, three = (costs.per_image(update(training=Art(steps=a))) for a in (0, 1, 3))
    assert one - none == 6 * F - 3 * LAST
    assert three - none == 3 * (one - none)
    # i*, cross-entropy, and L_attr: forward, two gradients, and back through all three for activations and weights
    assert 12 * F < none < 16 * F


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_update_is_proportional_to_the_batch(training, protocol):
    settings = TRAININGS[training].of("cifar10", protocol=protocol).eased(steps=2)
    recipe = paper_recipe("cifar10", settings, protocol=protocol)
    net = models.wrap(tiny(), (0.5,) * 3, (0.25,) * 3)  # the authors' anchor asks for them
    work = costs.update(recipe, shape=SHAPE, net=net)
    assert costs.flops(work.on(5)) == 5 * costs.per_image(work)


@pytest.mark.parametrize("training", TRAININGS)
def test_what_a_training_says_of_its_passes_is_about_what_is_counted(training):
    """`fit` decides by it whether to compile. Counted, the first layer has no gradient to pass on: 0.7 F here.

    A helper's operations are not in it, and little beside those of a network of ordinary size.
    """
    settings = TRAININGS[training].of("cifar10")
    alone = TRAININGS[training].helper is Training.helper
    work = update(training=settings) if alone else costs.update(Recipe(training=settings, arch="wrn-10-1"))
    assert costs.passes(work) == pytest.approx(settings.passes, rel=0.15, abs=0.75)


def test_integrated_gradients_are_two_passes_a_point():
    net, x, y = tiny(), torch.rand(1, 3, 8, 8).double(), torch.zeros(1, dtype=torch.int64)
    net.requires_grad_(False)

    def cost(points: int) -> int:
        return costs.flops(partial(attributions.integrated_gradients, net, x, y, steps=points))

    weighted_sum = 2 * x.numel()
    assert cost(7) - cost(6) == cost(2) - cost(1) == 2 * F + weighted_sum


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", MEASUREMENTS)
def test_the_cost_of_long_loops_follows_exactly_from_short_ones(name, protocol):
    kind = MEASUREMENTS[name]
    changes = {loop: least + 3 + i for i, (loop, least) in enumerate(kind.loops.items())}
    changes |= dict(k=9) if hasattr(kind, "k") else {}
    work = measuring(kind.of("cifar10", protocol=protocol, **changes))
    assert costs.per_image(work) == costs.flops(work.on(2)) - costs.flops(work.on(1))


def test_measurements_in_passes():
    m = AttributionRobustness(steps=3, ig_steps=4, attack_ig_steps=5, k=9)
    # predicted three times, for the labels, the choice and the attack, the map; each step: four passes a point, being
    # one gradient only, then prediction and map
    expected = 3 + 2 * m.ig_steps + m.steps * (4 * m.attack_ig_steps + 1 + 2 * m.ig_steps)
    assert costs.passes(measuring(m)) == pytest.approx(expected, rel=0.03)  # ends, and the sums over the points
    # predicted for the labels, after the attack, and without one
    assert costs.per_image(measuring(Accuracy(steps=40))) == (2 * 40 + 3) * F
    assert costs.per_image(measuring(Accuracy(steps=10, restarts=3))) == (3 * (2 * 10 + 1) + 2) * F


@pytest.mark.parametrize("training", TRAININGS)
def test_counting_leaves_a_network_as_it_was(training):
    """Weights, running statistics, modes, gradients: convolutions return 0 meanwhile, which nobody should learn."""
    mine = models.build("wrn-10-1", 7, size=8)
    mine[1].train()
    mine[2].requires_grad_(False)
    state = {k: v.clone() for k, v in mine.state_dict().items()}
    modes, needs = [m.training for m in mine.modules()], [p.requires_grad for p in mine.parameters()]
    recipe = Recipe(training=TRAININGS[training].of("toy").eased(steps=1), arch="wrn-10-1")
    for work in (
        costs.update(recipe, shape=SHAPE, net=mine),
        costs.measuring(Accuracy(steps=1), net=mine, shape=SHAPE, images=1),
        costs.measuring(
            AttributionRobustness(k=9, steps=1, ig_steps=1, attack_ig_steps=1), net=mine, shape=SHAPE, images=1
        ),
    ):
        assert costs.passes(work) > 0
        work.on(2)()
    assert all(torch.equal(v, state[k]) for k, v in mine.state_dict().items())
    assert [m.training for m in mine.modules()] == modes
    assert [p.requires_grad for p in mine.parameters()] == needs and all(p.grad is None for p in mine.parameters())


def test_neither_weights_nor_torchs_generator_are_touched():
    work = update(training=Art(), dropout=0.5)
    before, state = [p.clone() for p in work.net.parameters()], torch.get_rng_state()
    work.on(3)()
    assert all(map(torch.equal, before, work.net.parameters()))
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in work.net.parameters())


def test_an_update_is_done_in_the_precision_of_its_recipe(monkeypatch):
    asked = []
    monkeypatch.setattr(costs.trainings, "arithmetic", lambda *precision: asked.append(precision) or nullcontext())
    update(precision="bf16").on(2)()
    assert asked == [("bf16", torch.device("cpu"))]


def test_every_random_image_is_attacked(monkeypatch):
    """IFIA leaves alone what is misclassified, and nobody knows the class of noise."""
    attacked, call = [], AttributionRobustness.__call__
    monkeypatch.setattr(AttributionRobustness, "__call__", lambda m, net, images, **o: attacked.append((m, images)))
    work = measuring(AttributionRobustness(images=2))
    work.net[-1].bias.data = torch.arange(7.0).double()  # another class than the first
    work.on(5, steps=3)()
    ((m, images),) = attacked
    assert torch.equal(images.labels, predictions(work.net, images)) and images.labels.min() > 0
    assert (len(images), m.images, m.steps, m.ig_steps) == (5, None, 3, 100)
    found = call(replace(m, k=5, steps=1, ig_steps=1, attack_ig_steps=1), work.net, images, progress=False)
    assert sorted(found["index"].tolist()) == [0, 1, 2, 3, 4]


# ------------------------------------------------------------------ seconds and memory


def test_functions_take_turns_after_one_warm_up_each():
    calls = []
    seconds = costs.interleaved({"a": partial(calls.append, "a"), "b": partial(calls.append, "b")}, repeats=3)
    assert calls == ["a", "b"] * 4
    assert [len(v) for v in seconds.values()] == [3, 3] and min(itertools.chain(*seconds.values())) >= 0


def test_peak_memory_is_what_is_held_at_once():
    kept = torch.zeros(1000)
    big = 8 * 10**6

    def twice():
        for _ in range(3):
            a = torch.ones(10**6, dtype=torch.float64)
            b = a + 1
            del a, b

    assert big * 2 <= costs.peak_memory(twice) < big * 2.01
    assert costs.peak_memory(lambda: kept.add_(1)) < 100
    assert costs.peak_memory(lambda: None) == 0


def test_peak_memory_of_an_update_grows_with_the_batch_evenly():
    work = costs.update(Recipe(arch="wrn-10-1"))
    work.on(2)()
    four, eight, twelve = (costs.peak_memory(work.on(n)) for n in (4, 8, 12))
    saved = 4 * 4 * 16 * 32 * 32  # of four images, by the first convolution alone
    assert twelve - eight == eight - four > saved


@pytest.mark.gpu
def test_a_gpu_is_waited_for_and_its_allocator_read():
    work = costs.update(Recipe(training=Art(), arch="wrn-10-1"))
    assert costs.rate(work, device="cuda") > 0
    a = torch.ones(10**6, device="cuda")
    assert costs.peak_memory(lambda: a + 1, device="cuda") == pytest.approx(4 * 10**6, rel=0.01)


@pytest.mark.parametrize("name", MEASURED)
def test_the_rate_of_a_machine_with_a_known_one(name, monkeypatch):
    """A clock that advances by counted operations; what is done once a batch makes the machine look slower."""
    monkeypatch.setattr(costs, "_seconds", lambda function, device: costs.flops(function) / 5e9)
    assert 4.7e9 < costs.rate(measuring(MEASURED[name])) <= 5e9


@pytest.mark.parametrize(("one", "images"), [(0.01, [1, 4, 16]), (0.3, [1, 4]), (1.2, [1])])
def test_a_rate_is_measured_on_few_images_and_short_loops(one, images, monkeypatch):
    asked = []
    monkeypatch.setattr(costs.Work, "on", lambda work, images, **options: asked.append((images, options)))
    monkeypatch.setattr(costs, "_seconds", lambda function, device: asked[-1][0] * one)
    monkeypatch.setattr(costs, "per_image", lambda work, **loops: 1)
    ifia = measuring(replace(IFIA, chunk=40))
    assert costs.rate(ifia) == pytest.approx(1 / one)
    assert [n for n, _ in asked] == images
    assert asked[0][1] == {"device": "cpu", "steps": 1, "ig_steps": 2, "attack_ig_steps": 2}
    asked.clear()
    costs.rate(replace(ifia, rows=6))
    assert asked[-1][0] == min(3, images[-1])  # three images of two points


# ------------------------------------------------------------------ the forecast

EVERY = [
    (preset, dataset, protocol)
    for preset, dataset, protocol in itertools.product(presets.PRESETS, data.SETS, presets.PROTOCOLS)
    if dataset != "cub200" or preset in presets.CPU_PRESETS
]


@pytest.mark.parametrize(("preset", "dataset", "protocol"), EVERY, ids=["-".join(c) for c in EVERY])
def test_images_of_every_preset_and_data_set(preset, dataset, protocol, monkeypatch):
    monkeypatch.setattr(costs.trainings, "build_model", lambda recipe, images: images)
    named = dict(dataset=dataset, protocol=protocol)
    works = costs.works(preset, **named, trainings=list(TRAININGS), measurements=list(MEASUREMENTS))
    info = data.SETS[dataset]
    official = info.images["train"], info.images["test"]
    train, test = (min(n, limit or n) for n, limit in zip(official, presets.limits(preset, dataset), strict=True))
    recipes = presets.recipes(preset, trainings=list(TRAININGS), **named)
    seen = {r.label: r.epochs * (r.per_class * info.classes if r.per_class else train) for r in recipes.values()}
    late = {r.label: getattr(r.training, "natural", 0.0) for r in recipes.values()}
    expected = {name: n - round(n * late[name]) for name, n in seen.items()}
    for m in presets.measurements(preset, names=list(MEASUREMENTS), **named).values():
        expected[m.title] = len(TRAININGS) * min(m.images or test, test)
    assert {w.name: w.images for w in works} == expected
    size = presets.image_size(preset, dataset) or info.size
    assert {w.shape for w in works} == {(1 if "mnist" in dataset else 3, size, info.classes)}
    assert len({id(w.net) for w in works}) == 1


def test_known_sizes():
    names = dict(preset="paper", dataset="gtsrb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs.trainings, "build_model", lambda recipe, images: images)
        assert costs.works(**names)[0].images == 12 * 10_000 * 43
        names["dataset"] = "flower17"
        assert [w.images for w in costs.works(**names)] == [68 * 17_000] * 3 + [3 * 136, 3 * 136]
        assert [w.images for w in costs.works(**names, seeds=2)] == [2 * 68 * 17_000] * 3 + [6 * 136, 6 * 136]


@dataclass(frozen=True)
class Harder(Natural):
    name, title, color = "harder", "Harder", "#000000"


@dataclass(frozen=True)
class Speed(Measurement):
    name, title, metrics, loops = "speed", "Speed", {}, {"rounds": 1}
    presets = {"smoke": dict(images=3)}
    rounds: Count = 4

    def __call__(self, model, images, *, progress=True):
        return [predictions(model, images) for _ in range(self.rounds)]


def test_what_is_added_to_a_list_is_forecast(monkeypatch):
    """A training and a measurement of tomorrow: nothing in costs has to be told."""
    monkeypatch.setitem(TRAININGS, "harder", Harder)
    monkeypatch.setitem(MEASUREMENTS, "speed", Speed)
    table = costs.forecast("smoke", dataset="svhn", trainings=["harder"], measurements=["speed"])
    assert list(table.index) == ["harder", "Speed", "total"] and list(table["images"])[:2] == [64, 3]
    assert table.loc["Speed", "passes"] == 5  # once for the labels


def test_channels_are_those_of_the_files():
    grey = {
        name for name, info in data.SETS.items() if presets.recipe("smoke", "art", dataset=name) and "mnist" in name
    }
    assert {name for name, info in data.SETS.items() if info.channels == 1} == grey


@pytest.mark.parametrize("device", [None, "cpu"])
def test_the_sums_of_a_forecast(device, monkeypatch):
    pgd = replace(measuring(Accuracy(steps=3), images=700), name="PGD-3")
    works = [replace(update(), images=5000), pgd]
    monkeypatch.setattr(costs, "works", lambda preset, dataset: works if (preset, dataset) == ("cpu", "svhn") else [])
    monkeypatch.setattr(costs, "rate", lambda work, device: 2e6)
    table = costs.forecast("cpu", dataset="svhn", device=device)
    assert list(table.index) == ["natural", "PGD-3", "total"] and list(table["images"])[:2] == [5000, 700]
    assert list(table["passes"])[:2] == pytest.approx([3 - FIRST / F, 9])
    tflop = [5000 * (3 * F - FIRST) / 1e12, 700 * 9 * F / 1e12]
    assert list(table["TFLOP"]) == pytest.approx([*tflop, sum(tflop)])
    hours = [t * 1e12 / 2e6 / 3600 for t in (*tflop, sum(tflop))] if device else [math.nan] * 3
    assert list(table["hours"]) == pytest.approx(hours, nan_ok=True)
    assert table.loc["total", ["images", "passes"]].isna().all()


def test_own_images_are_counted(tmp_path):
    for split, label, i in itertools.product(("train", "test"), ("rose", "tulip"), range(3)):
        (tmp_path / split / label).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (i, 0, 0)).save(tmp_path / split / label / f"{i}.png")
    folder = f"folder:{tmp_path}"
    works = costs.works("smoke", dataset=folder)
    assert (works[0].images, works[0].shape, works[3].images) == (6, (3, 28, 2), 3 * 6)
    sets = tuple(presets.images("smoke", split, dataset="blossoms") for split in ("train", "test"))
    sets = sets[0].subset(range(7)), sets[1].subset(range(5))
    works = costs.works("smoke", dataset="blossoms", sets=sets)
    assert [w.images for w in works] == [7, 7, 7, 3 * 5, 3 * 5]


def test_trainings_alone():
    assert [w.name for w in costs.works("smoke", dataset="blossoms", trainings=("art",), measurements=())] == ["art"]


def test_the_announcement(monkeypatch):
    import pandas as pd

    hours = pd.DataFrame({"hours": [0.2, 1.0, 1.2]}, index=["natural", "art", "total"])
    monkeypatch.setattr(costs, "forecast", lambda preset, device, dataset: hours)
    monkeypatch.setattr(costs.provenance, "machine", lambda device: {"device": "CPU x86_64", "threads": 2})
    line = costs.announcement("quick", dataset="blossoms", device="cpu")
    machine = "on this machine if nothing exists yet (CPU x86_64, 2 threads)"
    assert line == f"about 72 minutes {machine}: natural 12 minutes, art 60 minutes"
    hours *= 0.01
    line = costs.announcement("quick", dataset="blossoms", device=torch.device("cpu"))
    assert line == f"under a minute {machine}"


@pytest.mark.parametrize(
    ("minutes", "told"),
    [(454.3, "about 7.6 hours"), (90, "about 90 minutes"), (9.96, "about 10 minutes"), (1.04, "about 1.0 minutes")]
    + [(0.9, "under a minute"), (0, "under a minute")],
)
def test_a_time_is_told_in_a_unit_that_fits(minutes, told):
    assert costs.duration(60 * minutes) == told


def test_smoke_measures_nothing(monkeypatch):
    monkeypatch.delattr(costs, "forecast")
    assert costs.announcement("smoke", dataset="blossoms", device="cpu") == "seconds: smoke is for tests"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (dict(preset="fast"), "unknown preset 'fast'; choose one of smoke"),
        (dict(dataset="cifar11"), "unknown data set 'cifar11': choose one of blossoms"),
        (dict(protocol="code"), "unknown protocol 'code'; choose one of paper, text, authors"),
        (dict(trainings=("fgsm",)), "unknown training 'fgsm'; choose one of natural"),
        (dict(measurements=("speed",)), "unknown measurement 'speed'; choose one of attribution_robustness, accuracy"),
    ],
)
def test_unknown_names_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        costs.forecast(**{"preset": "smoke", "dataset": "blossoms"} | names)


def test_another_network_fewer_images_and_epochs_are_forecast():
    usual = dict(dataset="gtsrb", trainings=["natural"], measurements=["attribution_robustness"])
    asked = dict(arch="rar-resnet-2", limit=100, epochs=2)
    natural, attacked = costs.works("cpu", **usual)
    own, few = costs.works("cpu", images=7, **usual, **asked)
    assert few.images == 7 < attacked.images and own.images == 2 * 100
    recipe = presets.recipe("cpu", "natural", dataset="gtsrb", **asked)
    assert costs.forward(own) == costs.forward(costs.update(recipe, shape=(3, 32, 43))) != costs.forward(natural)


def test_of_a_late_attack_only_the_updates_with_it_are_forecast():
    asked = dict(dataset="gtsrb", trainings=["natural", "pgd"], measurements=[], limit=100, epochs=10)
    assert [w.images for w in costs.works("cpu", arch="rar-resnet-2", **asked)] == [1000, 400]
    assert [w.images for w in costs.works("cpu", **asked)] == [1000, 1000]
