"""Recipes hold the papers' constants, refuse what cannot be meant, and have a key that stands for the weights."""

from dataclasses import replace

import pytest
import torch
from toys import TINY, another, names, same, tiny, toy, train

from artlib import data
from artlib.data import Augment
from artlib.trainings import PROTOCOLS, TRAININGS, Art, Natural, Pgd, Recipe, learning_rate, paper_recipe


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("training", "pgd", "training is 'pgd', a str; it must be of type Training"),
        ("schedule", "linear", "unknown schedule 'linear'; choose one of step, cosine, one-cycle"),
        ("precision", "float16", "unknown precision 'float16'; choose one of float64, float32, tf32, bf16"),
        ("optimizer", "lion", "unknown optimizer 'lion'; choose one of sgd, adam"),
        ("augment", "mixup", "unknown augment 'mixup'; choose one of .*cifar10"),
        ("arch", "vgg", "unknown architecture 'vgg'; choose one of wrn-DEPTH-WIDTH"),
        ("epochs", 0, "epochs is 0; it must be an integer, 1 or more"),
        ("epochs", 1.5, "epochs is 1.5; it must be an integer, 1 or more"),
        ("batch_size", 1, "batch_size is 1; batch normalisation needs at least 2 images"),
        ("micro_batch", 0, "micro_batch is 0; it must be an integer, 1 or more"),
        ("micro_batch", 257, "micro_batch 257 must be None or from 1 to batch_size, 256"),
        ("lr", 0.0, "lr is 0.0; it must be a number above 0"),
        ("dropout", 1.5, "dropout is 1.5; it must be a number from 0 to 1"),
        ("seed", -1, "seed is -1; it must be an integer, 0 or more"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{field: value})


def test_nesterov_needs_a_momentum():
    with pytest.raises(ValueError, match=r"momentum is 0; nesterov=True needs a momentum above 0"):
        Recipe(nesterov=True, momentum=0.0)
    assert Recipe(nesterov=True, momentum=0.0, optimizer="adam").relevant()["optimizer"] == "adam"  # reads neither


def test_labels_are_the_rows_of_a_table():
    assert [Recipe(training=t).label for t in (Natural(), Pgd(steps=7), Art())] == ["natural", "pgd-7", "art"]


# ------------------------------------------------------------------ the key


@pytest.mark.parametrize("field", names(Recipe))
@pytest.mark.parametrize("name", TRAININGS)
def test_the_key_changes_with_every_field_of_a_recipe(name, field):
    recipe = Recipe(training=TRAININGS[name](), arch="squeezenet1_1")  # which names its last block
    changed = replace(recipe, **{field: another(recipe, field)})
    assert changed != recipe and changed.key("data") != recipe.key("data")


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, kind in TRAININGS.items() for field in names(kind)]
)
def test_the_key_changes_with_every_field_of_a_training(name, field):
    training = TRAININGS[name]()
    changed = replace(training, **{field: another(training, field)})
    assert changed != training
    assert Recipe(training=changed).key("data") != Recipe(training=training).key("data")


def test_trainings_of_equal_fields_have_keys_of_their_own():
    keys = {Recipe(training=kind()).key("data") for kind in TRAININGS.values()}
    assert len(keys) == len(TRAININGS)


# What a recipe has and does not use.
UNREAD = [("schedule", "cosine", {"milestones"}), ("schedule", "one-cycle", {"milestones"})]
UNREAD += [("optimizer", "adam", {"momentum", "nesterov"})]


@pytest.mark.parametrize(("field", "value", "unread"), UNREAD)
def test_the_key_does_not_change_with_what_a_recipe_does_not_use(field, value, unread):
    recipe = Recipe(**{field: value, "arch": "squeezenet1_1"})
    for name in set(names(Recipe)) - {field}:
        changed = replace(recipe, **{name: another(recipe, name)})
        assert (changed.key("data") == recipe.key("data")) == (name in unread), name


@pytest.mark.parametrize(("field", "value", "unread"), UNREAD)
def test_a_field_outside_the_key_does_not_change_the_weights(field, value, unread):
    """The other side of the key: what `relevant` leaves out is not read by the training."""
    recipe = tiny(**{field: value, "lr": 0.01})
    other = replace(recipe, **{name: another(recipe, name) for name in unread - {"milestones"}})
    other = replace(other, milestones=((0, 0.5),)) if "milestones" in unread else other
    assert recipe != other and recipe.key("") == other.key("")
    assert same(train(recipe, toy(4))[0], train(other, toy(4))[0])


def test_the_key_is_12_hex_digits_of_recipe_and_data():
    key = Recipe().key("data")
    assert len(key) == 12 and int(key, 16) >= 0
    assert key == Recipe().key("data") != Recipe().key("other data")
    assert Recipe().relevant() == {"kind": "Recipe"} and Recipe(micro_batch=4).relevant()["micro_batch"] == 4


def test_equal_recipes_have_one_key():
    """A whole number may be written either way."""
    for a, b in ((dict(lr=1), dict(lr=1.0)), (dict(training=Art(beta=9)), dict(training=Art(beta=9.0)))):
        assert Recipe(**a) == Recipe(**b) and Recipe(**a).key("data") == Recipe(**b).key("data")
    as_list = Recipe(milestones=[[50, 0.1], [80, 0.1], [150, 0.5]])
    assert as_list == Recipe() and as_list.key("data") == Recipe().key("data") and hash(as_list) == hash(Recipe())


# ------------------------------------------------------------------ the papers

# ART, appendix A.3.2 to A.3.4: arch, batch, epochs, lr, weight decay, milestones, augmentation, images a class;
# PGD steps and step * 255.
STEPS = ((50, 0.1), (80, 0.1), (150, 0.5))
A3 = {
    "cifar10": ("wrn-28-10", 256, 100, 0.1, 2e-4, STEPS, None, None),
    "svhn": ("wrn-40-2", 256, 200, 0.1, 2e-4, STEPS, None, None),
    "gtsrb": ("wrn-28-10", 128, 12, 0.1, 2e-4, ((4, 0.1), (6, 0.1), (10, 0.5)), "gtsrb", 10_000),
    "flower17": ("wrn-28-10", 128, 68, 0.1, 2e-4, ((15, 0.1), (35, 0.1), (50, 0.5)), "flower17", 1_000),
}
PGD = {"cifar10": (10, 2), "svhn": (7, 2.5), "gtsrb": (7, 2), "flower17": (7, 2.5)}


@pytest.mark.parametrize("protocol", ["paper", "text"])
@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("dataset", A3)
def test_the_papers_recipe(dataset, name, protocol):
    r = paper_recipe(dataset, name, protocol=protocol)
    if dataset in r.training.recipes:  # published with one of its own
        return
    told = (r.arch, r.batch_size, r.epochs, r.lr, r.weight_decay, r.milestones, r.augment, r.per_class)
    assert told == A3[dataset]
    assert (r.dataset, type(r.training), r.size, r.limit) == (dataset, TRAININGS[name], None, None)
    assert (r.optimizer, r.schedule, r.momentum, r.nesterov, r.dropout) == ("sgd", "step", 0.9, False, 0.0)
    if name != "lga":  # whose neighbours are nearer
        assert getattr(r.training, "eps", 8 / 255) == 8 / 255
    if hasattr(r.training, "statistics"):  # the text does not say; a published training holds them
        assert r.training.statistics == {"paper": "held", "text": "running"}[protocol]


@pytest.mark.parametrize("dataset", A3)
def test_the_papers_attacks(dataset):
    pgd, art = (paper_recipe(dataset, name).training for name in ("pgd", "art"))
    assert (pgd.steps, 255 * pgd.step_size) == (PGD[dataset][0], pytest.approx(PGD[dataset][1]))
    assert (art.weight, art.beta, art.steps) == (0.5, 50, 3)  # section 4.1.2
    assert 255 * art.step_size == pytest.approx(1.5)


def test_augmentation_is_as_large_as_in_the_work_the_paper_refers_to():
    assert data.AUGMENT["gtsrb"] == data.AUGMENT["flower17"] == Augment(rotation=15, translate=2.5, project=0.8)


def test_digits_take_the_attack_of_chen_et_al_and_keep_the_share_of_the_radius_that_arts_step_has():
    for dataset, eps, steps in (("mnist", 0.3, 40), ("fashion_mnist", 0.1, 20)):
        r = paper_recipe(dataset, "pgd")
        assert (r.arch, r.training.eps, r.training.steps, r.training.step_size) == ("rar-cnn", eps, steps, 0.01)
        art = paper_recipe(dataset, "art").training
        assert art.eps == eps and art.step_size / eps == pytest.approx(1.5 / 8)


def test_cub_has_a_radius_of_its_own():
    """ART, B.1: 2/255, PGD-7 of 0.5/255, ART's step still 1.5/255."""
    pgd, art = (paper_recipe("cub200", name, arch="wrn-10-1").training for name in ("pgd", "art"))
    assert [255 * v for v in (pgd.eps, pgd.step_size, art.eps, art.step_size)] == pytest.approx([2, 0.5, 2, 1.5])
    assert pgd.steps == 7


def test_on_cub_the_attribution_loss_is_of_means_over_channels():
    """B.1; the released code: of magnitudes, with another beta, attack and rate (C-29, C-31, C-33, C-34)."""
    text, code = (paper_recipe("cub200", "art", protocol=p, arch="resnet50-stride1") for p in ("paper", "authors"))
    assert (text.training.channels, text.training.beta, text.training.attack_topk) == ("mean", 50, None)
    assert (code.training.channels, code.training.beta, code.training.attack_topk) == ("magnitude", 1, 15_000)
    assert (text.last_factor, code.last_factor, code.dropout) == (1, 10, 0)
    other = paper_recipe("cub200", "art", protocol="authors", arch="wrn-10-1")
    assert other.last_factor == 1 and paper_recipe("cifar10", "art", protocol="authors").training.channels == "all"


@pytest.mark.parametrize("dataset", ["cub200", "mnist"])
def test_the_authors_step_keeps_its_share_of_another_radius(dataset):
    code = paper_recipe(dataset, "art", protocol="authors", arch="wrn-10-1").training
    assert code.step_size / code.eps == pytest.approx(5 / 8)


def test_the_authors_recipe():
    r = paper_recipe("cifar10", "art", protocol="authors")
    assert r.nesterov  # C-6
    assert r.batch_size == 234  # C-7
    assert data.AUGMENT[r.augment] == Augment(crop=4, flip=True, jitter=0.25, rotation=2)  # C-8
    assert r.epochs == 101  # C-9: epochs 0 to 100 at factors 1, 0.1, 0.01; 0.005 is not reached
    factors = [learning_rate(r, epoch, 1) / r.lr for epoch in range(101)]
    assert factors == pytest.approx([1] * 50 + [0.1] * 30 + [0.01] * 21)
    pgd = paper_recipe("cifar10", "pgd", protocol="authors").training
    assert r.dropout == 0.1 and pgd.statistics == r.training.statistics == "batch"  # C-10, C-11
    assert 255 * r.training.step_size == pytest.approx(5)  # C-1
    assert (r.arch, r.lr, r.momentum, r.weight_decay, r.training.eps) == ("wrn-28-10", 0.1, 0.9, 2e-4, 8 / 255)


def test_the_authors_switches_leave_another_data_set_its_own_schedule():
    text, code = (paper_recipe("gtsrb", "art", protocol=p) for p in ("text", "authors"))
    kept = ("arch", "batch_size", "epochs", "milestones", "augment", "per_class")
    assert all(getattr(text, f) == getattr(code, f) for f in kept)
    assert code.nesterov and code.dropout == 0.1


def test_changes_go_over_the_paper_and_unknown_names_are_refused():
    assert paper_recipe("svhn", "pgd", seed=3, epochs=1) == replace(paper_recipe("svhn", "pgd"), seed=3, epochs=1)
    assert paper_recipe("svhn", Pgd(steps=2)).training == Pgd(steps=2)
    with pytest.raises(ValueError, match="unknown protocol 'code'; choose one of paper, text, authors"):
        paper_recipe("svhn", "pgd", protocol="code")
    with pytest.raises(ValueError, match="unknown training 'adv'; choose one of natural, pgd, .*art"):
        paper_recipe("svhn", "adv")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", TRAININGS)
def test_every_training_has_settings_for_every_protocol_and_what_readers_need(name, protocol):
    kind = TRAININGS[name]
    assert kind.name == name and kind.title and kind.color.startswith("#")
    for dataset in (*kind.published, "cifar10", "some other"):
        assert isinstance(kind.of(dataset, protocol=protocol), kind)
    assert kind().passes >= 3 and kind().label.startswith(name)


@pytest.mark.parametrize("name", ["pgd", "art"])
def test_an_eased_attack_goes_as_far_in_fewer_steps(name):
    full = TRAININGS[name](steps=9, step_size=0.01)
    eased = full.eased(steps=3, warmup=0.5)
    assert (eased.steps, eased.step_size, eased.warmup) == (3, pytest.approx(0.03), 0.5)
    assert full.eased(steps=9) == full.eased(steps=20) == full.eased() == full and full.eased(steps=0).steps == 0
    assert Natural().eased(steps=1, warmup=0.5) == Natural() and eased.passes < full.passes


def test_weights_are_in_the_dtype_of_the_precision():
    found = {p: Recipe(precision=p).dtype for p in ("float64", "float32", "tf32", "bf16")}
    assert found.pop("float64") == torch.float64 and set(found.values()) == {torch.float32}
    assert Recipe(**TINY).dtype == torch.float64


CHEN = {  # their configurations; epochs are their updates times their batch over the images of an epoch
    "mnist": ("rar-cnn", 50, round(100_000 * 50 / 60_000), "adam", 1e-4, 0.0, ()),
    "fashion_mnist": ("rar-cnn", 50, round(100_000 * 50 / 60_000), "adam", 1e-4, 0.0, ()),
    "gtsrb": ("rar-resnet-2", 64, round(70_001 * 64 / 430_000), "sgd", 1e-2, 2e-4, ((9, 0.1),)),
    "flower17": ("rar-resnet-1", 16, round(70_001 * 16 / 17_000), "sgd", 1e-3, 2e-4, ((56, 0.1),)),
}


@pytest.mark.parametrize("name", ["ig-norm", "ig-sum-norm"])
@pytest.mark.parametrize("dataset", CHEN)
def test_the_recipes_of_chen_et_al(dataset, name):
    r = paper_recipe(dataset, name)
    assert (r.arch, r.batch_size, r.epochs, r.optimizer, r.lr, r.weight_decay, r.milestones) == CHEN[dataset]
    assert (r.training.points, r.training.attack_points) == (50, 10 if "mnist" in dataset else 5)
    weight = {"gtsrb": (1, 1), "flower17": (0.1, 0.1)}.get(dataset, (1, 0.1))[name == "ig-sum-norm"]
    assert r.training.weight == weight
