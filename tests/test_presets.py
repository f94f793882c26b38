"""Every preset gives recipes and measurements that can run, and `paper` gives the paper's."""

import inspect
import itertools
import math
from dataclasses import dataclass, fields, replace

import pytest
import torch
from PIL import Image

from artlib import attacks, data, models, presets, results
from artlib.data import SETS
from artlib.measurements import MEASUREMENTS, Accuracy, AttributionRobustness, Measurement
from artlib.settings import Count
from artlib.trainings import TRAININGS, Art, InnerAttack, Natural, Pgd, Recipe, learning_rate, paper_recipe
from artlib.trainings.late import LATE, LateArt, LatePgd

EVERY = [
    (preset, dataset, protocol)
    for preset, dataset, protocol in itertools.product(presets.PRESETS, [*SETS, "folder:flowers"], presets.PROTOCOLS)
    if dataset != "cub200" or preset in presets.CPU_PRESETS  # its own networks belong to Table 2
]


def side(preset: str, dataset: str) -> int:
    return presets.image_size(preset, dataset) or (SETS[dataset].size if dataset in SETS else 32)


# ------------------------------------------------------------------ the door


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (dict(preset="fast"), "unknown preset 'fast'; choose one of smoke, quick, cpu, gpu, paper"),
        (dict(preset=3), "preset is 3, a int; it must be of type str"),
        (dict(preset=None), "preset is None, a NoneType; it must be of type str"),
        (dict(protocol="code"), "unknown protocol 'code'; choose one of paper, text, authors"),
        (dict(protocol=["paper"]), r"protocol is \['paper'\], a list; it must be of type str"),
        (dict(dataset=10), "dataset is 10, a int; it must be of type str"),
        (dict(seed="0"), "seed is '0', a str; it must be of type int"),
        (dict(seed=True), "seed is True, a bool; it must be of type int"),
        (dict(seed=0.0), "seed is 0.0, a float; it must be of type int"),
        (dict(seed=-1), "seed is -1; it must be 0 or larger"),
        (dict(seeds=3), "seeds is 3, a int; it must be a list"),
        (dict(seeds="01"), "seeds is '01', a str; it must be a list"),
        (dict(seeds=[0, "1"]), "seed is '1', a str; it must be of type int"),
        (dict(seeds=[0, -1]), "seed is -1; it must be 0 or larger"),
        (dict(trainings="art"), "trainings is 'art', a str; it must be a list"),
        (dict(trainings=["art", "fgsm"]), "unknown training 'fgsm'; choose one of natural, pgd"),
        (dict(device=0), "device is 0, a int; it must be of type str"),
    ],
    ids=str,
)
def test_a_parameter_that_is_wrong_is_named(parameters, message):
    with pytest.raises(ValueError, match=message) as error:
        presets.check(**{"preset": "smoke", **parameters})
    assert "\n" not in str(error.value)


def test_parameters_that_are_right_pass(tmp_path):
    lists = dict(seeds=(0, 1, 2), trainings=list(TRAININGS))
    for preset, protocol in itertools.product(presets.PRESETS, presets.PROTOCOLS):
        presets.check(preset, protocol=protocol, dataset=f"folder:{tmp_path}", seed=0, device="cuda:1", **lists)
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        presets.check("smoke", dataset=f"folder:{tmp_path}/nowhere")


def test_wrong_names_are_refused_wherever_they_are_given():
    with pytest.raises(ValueError, match="unknown preset 'fast'"):
        presets.recipe("fast", "art", dataset="cifar10")
    with pytest.raises(ValueError, match="unknown training 'fgsm'; choose one of natural, pgd"):
        presets.recipe("quick", "fgsm", dataset="cifar10")
    with pytest.raises(ValueError, match="seed is '1'"):
        presets.measurement("quick", "accuracy", dataset="cifar10", seed="1")
    with pytest.raises(ValueError, match="unknown measurement 'speed'; choose one of attribution_robustness, accuracy"):
        presets.measurements("quick", dataset="cifar10", names=["accuracy", "speed"])
    with pytest.raises(ValueError, match="unknown protocol 'code'"):
        presets.measurements("quick", dataset="cifar10", protocol="code")
    with pytest.raises(ValueError, match="unknown protocol 'code'"):
        presets.images("smoke", "train", dataset="blossoms", protocol="code")
    with pytest.raises(ValueError, match="unknown data set 'cifar11': choose one of blossoms, cifar10"):
        presets.images("smoke", "train", dataset="cifar11")


# ------------------------------------------------------------------ recipes


@pytest.mark.parametrize(("preset", "dataset", "protocol"), EVERY, ids=["-".join(c) for c in EVERY])
def test_every_combination_is_valid(preset, dataset, protocol):
    named = dict(dataset=dataset, protocol=protocol, seed=5)
    recipes = presets.recipes(preset, trainings=list(TRAININGS), **named)
    assert list(recipes) == list(TRAININGS)
    for name, r in recipes.items():
        assert isinstance(r, Recipe) and (r.training.name, r.dataset, r.seed) == (name, dataset, 5)
        assert max(learning_rate(r, epoch, 1) for epoch in range(r.epochs)) <= r.lr
        assert not isinstance(r.training, InnerAttack) or (
            0 < r.training.eps <= 0.3 and 0 < r.training.step_size < 2 * r.training.eps and r.training.steps > 0
        )
    asked = presets.measurements(preset, names=list(MEASUREMENTS), **named)
    assert list(asked) == list(MEASUREMENTS)
    for name, m in asked.items():
        assert type(m) is MEASUREMENTS[name] and m.seed == 5
    ifia, accuracy = asked["attribution_robustness"], asked["accuracy"]
    assert 1 <= ifia.k < side(preset, dataset) ** 2 / 4
    assert ifia.eps == accuracy.eps == recipes["pgd"].training.eps  # trained and measured in one ball
    assert ifia.steps * ifia.step_size >= 3 / 255
    assert accuracy.steps * accuracy.step_size >= min(0.75 * accuracy.eps, 6 / 255)


def test_table_1_unless_told_otherwise():
    assert tuple(presets.recipes("smoke", dataset="svhn")) == presets.TABLE1 == ("natural", "pgd", "art")
    assert set(presets.TABLE1) <= set(TRAININGS)
    assert list(presets.measurements("smoke", dataset="svhn")) == ["attribution_robustness", "accuracy"]


def test_changes_go_over_the_preset():
    assert presets.recipe("quick", "art", dataset="svhn", epochs=3, lr=0.3).epochs == 3
    assert presets.measurement("quick", "accuracy", dataset="svhn", steps=9, loss="margin").steps == 9
    with pytest.raises(TypeError):
        presets.measurement("quick", "accuracy", dataset="svhn", k=9)


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_settings_of_ones_own_are_taken_for_a_training(preset):
    mine = presets.recipe(preset, Art.of("svhn", weight=0.25), dataset="svhn")
    listed = presets.recipe(preset, "art", dataset="svhn")
    assert mine == replace(listed, training=replace(listed.training, weight=0.25)) != listed


@dataclass(frozen=True)
class Harder(Natural):
    name, title, color = "harder", "Harder", "#000000"
    power: Count = 2
    published = {"svhn": dict(power=3)}
    protocols = {"authors": dict(power=5)}


@dataclass(frozen=True)
class Speed(Measurement):
    name, title, metrics = "speed", "Speed", {}
    k: Count = 900
    published = {"svhn": dict(k=400)}
    presets = {"smoke": dict(k=20)}


def test_what_is_added_to_a_list_is_known(monkeypatch):
    """A training and a measurement of tomorrow: nothing in presets has to be told."""
    monkeypatch.setitem(TRAININGS, "harder", Harder)
    monkeypatch.setitem(MEASUREMENTS, "speed", Speed)
    for preset, dataset, protocol in EVERY:
        presets.check(preset, protocol=protocol, trainings=["harder"])
        named = dict(dataset=dataset, protocol=protocol)
        power = 5 if protocol == "authors" else 3 if dataset == "svhn" else 2
        assert presets.recipe(preset, "harder", **named).training == Harder(power)
        small = presets.image_size(preset, dataset) == 64
        k = 250 if small else 20 if preset == "smoke" else 400 if dataset == "svhn" else 900
        assert presets.measurement(preset, "speed", **named).k == k
    with pytest.raises(ValueError, match="choose one of .*harder"):
        presets.recipe("smoke", "easier", dataset="svhn")


def test_every_architecture_can_be_built():
    recipes = [presets.recipe(p, "art", dataset=d, protocol=q) for p, d, q in EVERY]
    for arch in {r.arch.removesuffix("-pretrained") for r in recipes}:  # whose weights are in nobody's repository
        assert models.parameter_count(models.build(arch, 10, in_channels=1 if arch == "rar-cnn" else 3)) > 0


def test_the_training_set_of_recipe_and_images_is_one():
    """What a recipe says about its images is what `images` loads, so that the key tells data sets apart."""
    for preset, dataset, protocol in EVERY:
        r = presets.recipe(preset, "natural", dataset=dataset, protocol=protocol)
        assert (r.size, r.limit) == (presets.image_size(preset, dataset), presets.limits(preset, dataset)[0])


def test_a_network_of_public_weights_is_fine_tuned_on_any_set_as_on_cub200():
    arch = "squeezenet1_1-pretrained"
    own = presets.recipe("cpu", "natural", dataset="cub200")
    assert own.arch == arch and own == presets.recipe("cpu", "natural", dataset="cub200", arch=arch)
    usual, found = (presets.recipe("cpu", "natural", dataset="flower17", **c) for c in ({}, dict(arch=arch)))
    assert found == replace(usual, arch=arch, lr=own.lr, weight_decay=own.weight_decay) and own.lr == 0.01
    assert presets.recipe("cpu", "natural", dataset="flower17", arch=arch, lr=0.1).lr == 0.1


def test_the_small_squeezenet_has_smaller_batches_at_cpu_where_the_data_set_names_none():
    small = dict(arch="squeezenet-small")
    for preset, batch_size, epochs in (("smoke", 16, 1), ("quick", 32, 12), ("cpu", 32, 6)):
        usual, found = (presets.recipe(preset, "natural", dataset="blossoms", **c) for c in ({}, small))
        assert found == replace(usual, arch="squeezenet-small", batch_size=batch_size, epochs=epochs)
    usual, found = (presets.recipe("cpu", "natural", dataset="flower17", **c) for c in ({}, small))
    assert found == replace(usual, arch="squeezenet-small")  # which has batches and epochs of its own


def test_trainings_of_a_preset_differ_in_their_objective_but_where_the_exceptions_say_more():
    for preset, dataset, protocol in EVERY:
        every = presets.recipes(preset, dataset=dataset, protocol=protocol, trainings=list(TRAININGS))
        for name, r in every.items():
            alone = preset == "cpu" and r.arch.endswith("-pretrained")
            more = presets.CPU_ALONE.get((dataset, name), {}) if alone else {}
            if preset in ("smoke", "quick", "cpu") or dataset not in r.training.recipes:
                assert replace(r, training=Natural()).key("") == replace(every["natural"], **more).key("")
    assert list(presets.CPU_ALONE) == [("cub200", "pgd"), ("cub200", "art"), ("flower17", "pgd")]
    late, usual = (presets.recipe("cpu", "pgd", dataset="cub200", **c) for c in ({}, dict(arch="wrn-10-1")))
    assert isinstance(late.training, LatePgd) and type(usual.training) is Pgd and usual.optimizer == "sgd"
    assert late.training.at(1) == late.training and late.training.name == "pgd"
    art = presets.recipe("cpu", "art", dataset="cub200")
    assert isinstance(art.training, LateArt) and replace(art, training=late.training) == late  # both by one schedule
    assert all(
        getattr(art.training, f.name) == getattr(Art.of("cub200"), f.name) for f in fields(Art) if f.name != "warmup"
    )
    flowers = dict(dataset="flower17", arch="squeezenet1_1-pretrained", size=128)
    late, usual = (presets.recipe("cpu", t, **flowers) for t in ("pgd", "natural"))
    assert isinstance(late.training, LatePgd) and (late.optimizer, late.lr, late.epochs) == ("adam", 3e-4, usual.epochs)
    assert late.size == usual.size == 128 and presets.recipe("cpu", "pgd", dataset="flower17").optimizer == "sgd"


@pytest.mark.parametrize("value", ["ten", 0, -3, True, 2.0])
def test_a_wrong_number_of_images_is_refused_before_anything_is_loaded(value):
    for name in ("limit", "epochs", "images"):
        with pytest.raises(ValueError, match=rf"{name} is {value!r}, a .*1 or more, or None"):
            presets.check("cpu", counts={name: value})
    presets.check("cpu", counts=dict(limit=None, epochs=3), arch="rar-cnn")


def test_a_wrong_network_or_explanation_is_refused_before_anything_is_loaded():
    with pytest.raises(ValueError, match="arch is 5, a int"):
        presets.check("cpu", arch=5)
    with pytest.raises(ValueError, match="resnet-foo"):
        presets.check("cpu", arch="resnet-foo")
    with pytest.raises(ValueError, match="explanations is 'gradshap', a str; it must be a list"):
        presets.check("cpu", explanations="gradshap")
    with pytest.raises(ValueError, match="unknown explanation 'foo'; choose some of gradient"):
        presets.check("cpu", explanations=["gradient", "foo"])


def test_chens_resnets_are_attacked_late_at_cpu():
    signs = dict(dataset="gtsrb", arch="rar-resnet-2")
    every = presets.recipes("cpu", trainings=["natural", "pgd", "art", "ig-norm", "ig-sum-norm"], **signs)
    assert {(r.batch_size, r.epochs, r.optimizer) for r in every.values()} == {(16, 15, "adam")}
    attacked = [every[t].training for t in ("pgd", "art", "ig-norm", "ig-sum-norm")]
    assert [type(t) for t in attacked] == list(LATE.values())
    assert all(t.at(0.59) == Natural() and t.at(0.9) == t and 0 < t.at(0.75).eps < t.eps for t in attacked)
    assert type(presets.recipe("quick", "pgd", **signs).training) is Pgd
    assert presets.recipe("cpu", "pgd", epochs=3, **signs).epochs == 3


def test_chens_resnets_have_their_recipe_at_paper_and_gpu():
    """Of GTSRB 64 images, 0.01 and 10 epochs, of Flower17 16, 0.01 and 66; there IG-NORM has 0.001."""
    chen = {"gtsrb": ("rar-resnet-2", 64, 10, ((9, 0.1),)), "flower17": ("rar-resnet-1", 16, 66, ((56, 0.1),))}
    for dataset, (arch, batch, epochs, milestones) in chen.items():
        for training in ("natural", "pgd", "art", "ig-norm"):
            named = dict(dataset=dataset, arch=arch)
            found = presets.recipe("paper", training, **named)
            lr = 1e-3 if (dataset, training) == ("flower17", "ig-norm") else 1e-2
            expected = (arch, "sgd", lr, batch, epochs, "step", milestones)
            names = ("arch", "optimizer", "lr", "batch_size", "epochs", "schedule", "milestones")
            assert tuple(getattr(found, name) for name in names) == expected
            short = presets.recipe("gpu", training, **named)
            assert (short.lr, short.batch_size, short.epochs) == (lr, batch, min(epochs, 30))
            assert presets.recipe("paper", training, **named, lr=0.5).lr == 0.5
    digits = [presets.recipe(p, "pgd", dataset="mnist", arch="rar-resnet-1") for p in ("gpu", "paper")]
    assert all((r.optimizer, r.lr, r.batch_size) == ("adam", 1e-4, 50) for r in digits)
    other = presets.recipe("paper", "pgd", dataset="cifar10", arch="rar-resnet-1")
    assert (other.lr, other.batch_size, other.epochs) == (0.01, 64, 100)


def test_images_of_another_size_fit_a_recipe_with_the_same_change():
    for preset, dataset in (("smoke", "blossoms"), ("paper", "blossoms")):
        images = presets.images(preset, "train", dataset=dataset, size=40, limit=12)
        assert tuple(images.images.shape) == (12, 3, 40, 40)
        results._check_images(presets.recipe(preset, "natural", dataset=dataset, size=40), images)
        with pytest.raises(ValueError, match="load them with presets.images or change the recipe"):
            results._check_images(presets.recipe(preset, "natural", dataset=dataset, size=24), images)
    for t in TRAININGS:  # what is recorded is of these
        assert presets.recipe("cpu", t, dataset="flower17") == presets.recipe("cpu", t, dataset="flower17", size=64)


def test_cub200_at_paper_is_appendix_b_1():
    """Batch 128 and a tenth every 60 epochs; of ART 90 and every 40; 200 epochs at 0.01 with 1e-4."""
    natural, art = (presets.recipe("paper", t, dataset="cub200") for t in ("natural", "art"))
    for recipe, batch, every in ((natural, 128, 60), (art, 90, 40)):
        assert (recipe.epochs, recipe.batch_size, recipe.lr, recipe.weight_decay) == (200, batch, 0.01, 1e-4)
        rates = [learning_rate(recipe, epoch, 1) for epoch in range(200)]
        assert rates == pytest.approx([0.01 * 0.1 ** (epoch // every) for epoch in range(200)])
        assert recipe.momentum == 0.9 and recipe.arch.startswith("resnet50")
    assert [255 * v for v in (art.training.eps, art.training.step_size)] == pytest.approx([2, 1.5])
    assert presets.recipe("gpu", "art", dataset="cub200").epochs == 30


C_39 = [-15.0, 20 * 255 / 256 - 15, 100 * 255 / 256 - 15, 240]  # the box 0, 20, 100, 256 as the released code has it


def test_cub200_at_paper_is_squashed_to_256_and_cut_to_224(monkeypatch):
    whole = data.ImageSet(
        torch.zeros(1, 3, 256, 256, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), ("a", "b"),
        torch.tensor([[0.0, 20.0, 100.0, 256.0]]),
    )  # fmt: skip
    monkeypatch.setattr(data, "load", lambda name, split, *, size, limit: whole if size == 256 else None)
    for protocol, box in (("paper", [0.0, 4, 84, 224]), ("text", [0.0, 4, 84, 224]), ("authors", C_39)):
        named = dict(dataset="cub200", protocol=protocol)
        train, test = (presets.images("paper", split, **named) for split in ("train", "test"))
        assert train is whole and test.images.shape[2:] == (224, 224)
        torch.testing.assert_close(test.boxes, torch.tensor([box]))


@pytest.mark.parametrize("protocol", presets.PROTOCOLS)
@pytest.mark.parametrize("dataset", [name for name in SETS if name != "cub200"])
def test_paper_is_the_paper(dataset, protocol):
    for name in TRAININGS:
        found = presets.recipe("paper", name, dataset=dataset, protocol=protocol, seed=2)
        assert found == paper_recipe(dataset, name, protocol=protocol, seed=2)
    for name, kind in MEASUREMENTS.items():
        found = presets.measurement("paper", name, dataset=dataset, protocol=protocol, seed=2)
        assert found == kind.of(dataset, protocol=protocol, seed=2)
    assert presets.LIMITS["paper"] == (None, None) and presets.image_size("paper", dataset) is None


# Settings that other works publish, of attacks and trainings, and of ART's Section 5.
SPSA = dict(steps=100, samples=128, delta=0.01, step_size=0.01)  # the usual numbers: neither paper gives any
THREATS = dict(images=1000, eps=8 / 255, strong_steps=100, long_steps=500, l2_eps=1.0, l2_steps=40)
MOVES = dict(pixels=3, degrees=30)
MANIPULATION = dict(steps=1500, step_size=2e-4)
PUBLISHED = [
    (attacks.targeted, dict(weight=1e11, keep_weight=1e6, beta=(10, 100), ball=None, **MANIPULATION)),
    (MEASUREMENTS["targeted"], dict(images=1000, eps=None, points=30, **MANIPULATION)),
    (attacks.spsa, SPSA),
    (MEASUREMENTS["other_threats"], THREATS | {f"spsa_{name}": value for name, value in SPSA.items()}),
    (attacks.spatial, dict(grid=(5, 5, 31), draws=10, **MOVES)),
    (MEASUREMENTS["other_threats"], dict(spatial_shifts=5, spatial_turns=31, spatial_draws=10, **MOVES)),
    (attacks.synthesize, dict(eps=30, step_size=0.5, steps=60)),  # Santurkar et al. for CIFAR-10
    (TRAININGS["cure"], dict(weight=4, h=0.6)),  # 3 of images divided by a standard deviation of 0.2
    (TRAININGS["lga"], dict(eps=4 / 255, l2=0.01, cosine=0.1)),
    (TRAININGS["trades"], dict(weight=6)),  # 1 / lambda
]


@pytest.mark.parametrize(("of", "told"), PUBLISHED, ids=[of.__name__ for of, _ in PUBLISHED])
def test_settings_of_other_works_are_the_published_ones(of, told):
    if isinstance(of, type):
        found = {f.name: getattr(of.of("cifar10"), f.name) for f in fields(of)}
    else:
        found = {name: parameter.default for name, parameter in inspect.signature(of).parameters.items()}
    assert {name: found[name] for name in told} == told


def test_art_has_its_papers_constants_at_every_preset():
    for preset, dataset, protocol in EVERY:
        published = Art.of(dataset, protocol=protocol)
        found = presets.recipe(preset, "art", dataset=dataset, protocol=protocol).training
        cheaper = {"steps", "step_size", "warmup"}
        for name in {f.name for f in fields(Art)} - (cheaper if preset in presets.CPU_PRESETS else set()):
            assert getattr(found, name) == getattr(published, name), name
        assert found.steps * found.step_size == pytest.approx(published.steps * published.step_size)


def test_a_shorter_pgd_reaches_as_far():
    for preset in ("smoke", "quick"):
        t = presets.recipe(preset, "pgd", dataset="cifar10").training
        assert t.steps < 10 and t.steps * t.step_size == pytest.approx(2.5 * t.eps)
    for preset in ("cpu", "gpu"):
        t = presets.recipe(preset, "pgd", dataset="svhn").training
        assert (t.steps, t.step_size) == (7, 2.5 / 255)


def test_the_ball_grows_at_quick_and_for_the_large_balls_of_mnist_at_cpu():
    for preset, dataset in itertools.product(presets.PRESETS, ("cifar10", "gtsrb", "mnist", "fashion_mnist")):
        found = {presets.recipe(preset, name, dataset=dataset).training.warmup for name in ("pgd", "art")}
        assert found == {0.5 if preset == "quick" or (preset == "cpu" and "mnist" in dataset) else 0.0}


def test_the_gpu_preset_never_trains_longer_than_the_paper():
    assert presets.recipe("gpu", "art", dataset="gtsrb").epochs == 12
    assert presets.recipe("gpu", "art", dataset="gtsrb").per_class == 10_000
    assert presets.recipe("gpu", "art", dataset="svhn").epochs == 30


def test_smoke_is_in_double_precision_and_small():
    for name in TRAININGS:
        r = presets.recipe("smoke", name, dataset="cifar10")
        assert r.precision == "float64" and r.epochs * math.ceil(r.limit / r.batch_size) <= 4 and r.size == 28


# ------------------------------------------------------------------ measurements


def test_k_follows_the_area_of_flower17():
    """1000 of 128 x 128 pixels in the paper."""

    def measurement(preset, dataset):
        return presets.measurement(preset, "attribution_robustness", dataset=dataset)

    assert measurement("quick", "flower17").k / side("quick", "flower17") ** 2 == 1000 / 128**2
    assert measurement("gpu", "flower17").k == 1000 and measurement("cpu", "flower17").k == 250
    assert measurement("quick", "cifar10").k == 100
    assert measurement("smoke", "flower17").k == measurement("smoke", "cifar10").k == 50


def test_images_of_a_measurement_by_preset():
    for preset, images in {"smoke": (8, 50), "quick": (64, 300), "cpu": (500, 1000), "gpu": (1000, None)}.items():
        ifia, accuracy = presets.measurements(preset, dataset="cifar10").values()
        assert isinstance(ifia, AttributionRobustness) and isinstance(accuracy, Accuracy)
        assert (ifia.images, accuracy.images) == images
    assert presets.measurement("cpu", "attribution_robustness", dataset="gtsrb").images == 300
    few = presets.measurements("cpu", dataset="gtsrb", images=7).values()
    assert [m.images for m in few] == [7, 7]


def test_the_protocol_reaches_every_preset():
    for preset, dataset in {(preset, dataset) for preset, dataset, _ in EVERY}:
        named = [dict(dataset=dataset, protocol=p) for p in presets.PROTOCOLS]
        text, bare, code = (presets.measurement(preset, "attribution_robustness", **n) for n in named)
        assert (text.score_target, code.score_target) == ("logit", "loss") and bare == text
        assert (text.sample, code.sample) == ("random", "first")
        text, bare, code = (presets.recipe(preset, "art", **n) for n in named)
        assert (text.nesterov, bare.nesterov, code.nesterov) == (False, False, True)
        assert (text.training.mining, bare.training.mining, code.training.mining) == (False, False, True)


# ------------------------------------------------------------------ images


def test_smoke_images_are_few_and_small():
    train, test = (presets.images("smoke", split, dataset="blossoms") for split in ("train", "test"))
    assert train.images.shape == (64, 3, 28, 28) and test.images.shape == (128, 3, 28, 28)
    assert train.fingerprint != test.fingerprint


@pytest.mark.parametrize(("preset", "dataset"), dict.fromkeys((p, d) for p, d, _ in EVERY if d in SETS))
def test_size_and_limit_reach_the_loader(preset, dataset, monkeypatch):
    asked = []
    monkeypatch.setattr(data, "load", lambda name, split, **options: asked.append((name, split, options)))
    for split in ("train", "test"):
        presets.images(preset, split, dataset=dataset)
    train, test = presets.limits(preset, dataset)
    small = 64 if dataset in ("flower17", "cub200") else None
    size = {"smoke": 28, "quick": small, "cpu": 128 if dataset == "cub200" else small}.get(preset)
    assert asked == [(dataset, "train", dict(size=size, limit=train)), (dataset, "test", dict(size=size, limit=test))]


def test_an_image_folder(tmp_path):
    for split, label in itertools.product(("train", "test"), ("rose", "tulip")):
        (tmp_path / split / label).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (40, 30), (i, 0, 0)).save(tmp_path / split / label / f"{i}.png")
    smoke, quick = (presets.images(p, "train", dataset=f"folder:{tmp_path}") for p in ("smoke", "quick"))
    assert smoke.images.shape == (4, 3, 28, 28) and quick.images.shape == (4, 3, 32, 32)
    assert smoke.classes == ("rose", "tulip")


def test_without_photographs_or_weights_blossoms_take_their_place_and_it_is_said(nobody, capsys):
    assert presets.photographs_or_blossoms("gtsrb", network="squeezenet1_1") == "gtsrb"
    assert not capsys.readouterr().out
    assert presets.photographs_or_blossoms("imagenet_samples", network="squeezenet1_1") == "blossoms"
    said = capsys.readouterr().out
    assert said.startswith("No ImageNet: ") and str(nobody) in said and "blossoms" in said
