"""Every preset gives recipes and evaluations that can run, and `paper` gives the paper's."""

import itertools
import math
from dataclasses import replace

import pytest
from PIL import Image

from artlib import data, models, presets
from artlib.data import SETS
from artlib.evaluation import Evaluation, paper_evaluation
from artlib.training import TRAININGS, Recipe, learning_rate, paper_recipe

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
        (dict(protocol="code"), "unknown protocol 'code'; choose one of paper, authors"),
        (dict(protocol=["paper"]), r"protocol is \['paper'\], a list; it must be of type str"),
        (dict(dataset=10), "dataset is 10, a int; it must be of type str"),
        (dict(seed="0"), "seed is '0', a str; it must be of type int"),
        (dict(seed=True), "seed is True, a bool; it must be of type int"),
        (dict(seed=0.0), "seed is 0.0, a float; it must be of type int"),
        (dict(seed=-1), "seed is -1; it must be 0 or larger"),
        (dict(device=0), "device is 0, a int; it must be of type str"),
    ],
    ids=str,
)
def test_a_parameter_that_is_wrong_is_named(parameters, message):
    with pytest.raises(ValueError, match=message) as error:
        presets.check(**{"preset": "smoke", **parameters})
    assert "\n" not in str(error.value)


def test_parameters_that_are_right_pass():
    for preset, protocol in itertools.product(presets.PRESETS, presets.PROTOCOLS):
        presets.check(preset, protocol=protocol, dataset="folder:flowers", seed=0, device="cuda:1")


def test_wrong_names_are_refused_wherever_they_are_given():
    with pytest.raises(ValueError, match="unknown preset 'fast'"):
        presets.recipe("fast", "art", dataset="cifar10")
    with pytest.raises(ValueError, match="unknown training 'trades'; choose one of natural, pgd, art"):
        presets.recipe("quick", "trades", dataset="cifar10")
    with pytest.raises(ValueError, match="seed is '1'"):
        presets.evaluation("quick", dataset="cifar10", seed="1")
    with pytest.raises(ValueError, match="unknown data set 'cifar11': choose one of blossoms, cifar10"):
        presets.images("smoke", "train", dataset="cifar11")


# ------------------------------------------------------------------ recipes


@pytest.mark.parametrize(("preset", "dataset", "protocol"), EVERY, ids=["-".join(c) for c in EVERY])
def test_every_combination_is_valid(preset, dataset, protocol):
    named = dict(dataset=dataset, protocol=protocol, seed=5)
    recipes = presets.recipes(preset, **named)
    assert list(recipes) == list(TRAININGS)
    for name, r in recipes.items():
        assert isinstance(r, Recipe) and (r.training, r.dataset, r.seed) == (name, dataset, 5)
        assert 0 < r.eps <= 0.3 and 0 < r.pgd_step_size < 2 * r.eps and 0 < r.art.step_size <= r.eps
        assert max(learning_rate(r, epoch, 1) for epoch in range(r.epochs)) <= r.lr
    e = presets.evaluation(preset, **named)
    assert isinstance(e, Evaluation) and e.seed == 5
    assert 1 <= e.k < side(preset, dataset) ** 2 / 4
    assert e.eps == recipes["pgd"].eps  # trained and judged in one ball
    assert e.steps * e.step_size >= 3 / 255 and e.pgd_steps * e.pgd_step_size >= min(0.75 * e.eps, 6 / 255)


def test_every_architecture_can_be_built():
    recipes = [presets.recipe(p, "art", dataset=d, protocol=q) for p, d, q in EVERY]
    for arch in {r.arch for r in recipes}:
        assert models.parameter_count(models.build(arch, 10, in_channels=1 if arch == "rar-cnn" else 3)) > 0


def test_the_training_set_of_recipe_and_images_is_one():
    """What a recipe says about its images is what `images` loads, so that the key tells data sets apart."""
    for preset, dataset, protocol in EVERY:
        r = presets.recipe(preset, "natural", dataset=dataset, protocol=protocol)
        assert (r.size, r.limit) == (presets.image_size(preset, dataset), presets.LIMITS[preset][0])


def test_trainings_of_a_preset_differ_in_their_objective_alone():
    for preset, dataset, protocol in EVERY:
        natural, pgd, art = presets.recipes(preset, dataset=dataset, protocol=protocol).values()
        assert replace(pgd, training="natural") == replace(art, training="natural") == natural


@pytest.mark.parametrize("preset", ["gpu", "paper"])
def test_cub200_does_not_silently_get_the_recipe_of_cifar10(preset):
    with pytest.raises(ValueError, match="no recipe for cub200 yet.*quick"):
        presets.recipe(preset, "art", dataset="cub200")


@pytest.mark.parametrize("protocol", presets.PROTOCOLS)
@pytest.mark.parametrize("dataset", [name for name in SETS if name != "cub200"])
def test_paper_is_the_paper(dataset, protocol):
    for name in TRAININGS:
        found = presets.recipe("paper", name, dataset=dataset, protocol=protocol, seed=2)
        assert found == paper_recipe(dataset, name, protocol=protocol, seed=2)
    found = presets.evaluation("paper", dataset=dataset, protocol=protocol, seed=2)
    assert found == paper_evaluation(dataset, protocol=protocol, seed=2)
    assert presets.LIMITS["paper"] == (None, None) and presets.image_size("paper", dataset) is None


def test_art_has_its_papers_constants_at_every_preset():
    for preset, dataset, protocol in EVERY:
        published = paper_recipe(dataset, "art", protocol=protocol)
        found = presets.recipe(preset, "art", dataset=dataset, protocol=protocol)
        assert (found.art, found.eps) == (published.art, published.eps)


def test_a_shorter_pgd_reaches_as_far():
    for preset in ("smoke", "quick"):
        r = presets.recipe(preset, "pgd", dataset="cifar10")
        assert r.pgd_steps < 10 and r.pgd_steps * r.pgd_step_size == pytest.approx(2.5 * r.eps)
    for preset in ("cpu", "gpu"):
        r = presets.recipe(preset, "pgd", dataset="svhn")
        assert (r.pgd_steps, r.pgd_step_size) == (7, 2.5 / 255)


def test_the_gpu_preset_never_trains_longer_than_the_paper():
    assert presets.recipe("gpu", "art", dataset="gtsrb").epochs == 12
    assert presets.recipe("gpu", "art", dataset="gtsrb").per_class == 10_000
    assert presets.recipe("gpu", "art", dataset="svhn").epochs == 30


def test_smoke_is_in_double_precision_and_small():
    for name in TRAININGS:
        r = presets.recipe("smoke", name, dataset="cifar10")
        assert r.precision == "float64" and r.epochs * math.ceil(r.limit / r.batch_size) <= 4 and r.size == 28


# ------------------------------------------------------------------ evaluation


def test_k_follows_the_area_of_flower17():
    """1000 of 128 x 128 pixels in the paper."""
    e = presets.evaluation("quick", dataset="flower17")
    assert e.k / side("quick", "flower17") ** 2 == 1000 / 128**2
    assert presets.evaluation("cpu", dataset="flower17").k == 1000
    assert presets.evaluation("quick", dataset="cifar10").k == 100


def test_the_protocol_reaches_every_preset():
    for preset, dataset in {(preset, dataset) for preset, dataset, _ in EVERY}:
        text, code = (presets.evaluation(preset, dataset=dataset, protocol=p) for p in presets.PROTOCOLS)
        assert (text.score_target, code.score_target) == ("logit", "loss")
        assert (text.sample, code.sample) == ("random", "first")
        text, code = (presets.recipe(preset, "art", dataset=dataset, protocol=p) for p in presets.PROTOCOLS)
        assert (text.nesterov, code.nesterov, text.art.mining, code.art.mining) == (False, True, False, True)


# ------------------------------------------------------------------ images


def test_smoke_images_are_few_and_small():
    train, test = (presets.images("smoke", split, dataset="blossoms") for split in ("train", "test"))
    assert train.images.shape == (64, 3, 28, 28) and test.images.shape == (128, 3, 28, 28)
    assert train.fingerprint != test.fingerprint


@pytest.mark.parametrize("dataset", SETS)
@pytest.mark.parametrize("preset", presets.PRESETS)
def test_size_and_limit_reach_the_loader(preset, dataset, monkeypatch):
    asked = []
    monkeypatch.setattr(data, "load", lambda name, split, **options: asked.append((name, split, options)))
    for split in ("train", "test"):
        presets.images(preset, split, dataset=dataset)
    train, test = presets.LIMITS[preset]
    small = 64 if dataset in ("flower17", "cub200") else None
    size = {"smoke": 28, "quick": small}.get(preset)
    assert asked == [(dataset, "train", dict(size=size, limit=train)), (dataset, "test", dict(size=size, limit=test))]


def test_an_image_folder(tmp_path):
    for split, label in itertools.product(("train", "test"), ("rose", "tulip")):
        (tmp_path / split / label).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (40, 30), (i, 0, 0)).save(tmp_path / split / label / f"{i}.png")
    smoke, quick = (presets.images(p, "train", dataset=f"folder:{tmp_path}") for p in ("smoke", "quick"))
    assert smoke.images.shape == (4, 3, 28, 28) and quick.images.shape == (4, 3, 32, 32)
    assert smoke.classes == ("rose", "tulip")
