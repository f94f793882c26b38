"""Recipes hold the papers' constants; `fit` follows them, repeats itself, and a killed run ends as an unharmed one."""

import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from artlib import compiled, data, objectives, training
from artlib.data import Augment, ImageSet
from artlib.training import Recipe, fit, learning_rate, paper_recipe

TINY = dict(
    dataset="toy", arch="wrn-10-1", epochs=2, batch_size=4, lr=0.05, milestones=((1, 0.1),), precision="float64"
)


def toy(n: int = 12, *, size: int = 12) -> ImageSet:
    """Noise with a bright red or blue channel, by class."""
    noise = torch.Generator().manual_seed(1)
    labels = torch.arange(n) % 2
    images = torch.randint(0, 100, (n, 3, size, size), generator=noise)
    images[torch.arange(n), 2 * labels] += 150
    return ImageSet(images.to(torch.uint8), labels, ("red", "blue"), name="toy", split="train")


def train(recipe: Recipe, images: ImageSet, **options):
    return fit(recipe, images, progress=False, **options)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(v, w) for v, w in pairs)


# ------------------------------------------------------------------ recipes


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("training", "trades", "unknown training 'trades'; choose one of natural, pgd, art"),
        ("schedule", "linear", "unknown schedule 'linear'; choose one of step, cosine, one-cycle"),
        ("precision", "float16", "unknown precision 'float16'; choose one of float64, float32, tf32, bf16"),
        ("augment", "mixup", "unknown augment 'mixup'; choose one of blossoms, cifar10"),
        ("epochs", 0, "epochs 0 must be at least 1"),
        ("batch_size", 1, "batch_size 1 at least 2"),
        ("micro_batch", 0, "micro_batch 0 must be None or from 1 to batch_size, 256"),
        ("micro_batch", 257, "micro_batch 257 must be None or from 1 to batch_size, 256"),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{field: value})


def test_labels_are_the_rows_of_a_table():
    assert [Recipe(training=t, pgd_steps=7).label for t in training.TRAININGS] == ["natural", "pgd-7", "art"]


OTHER = dict(  # a second value of every field
    dataset="svhn",
    training="art",
    arch="wrn-10-1",
    size=28,
    limit=8,
    epochs=3,
    batch_size=8,
    lr=0.2,
    schedule="cosine",
    milestones=((1, 0.1),),
    momentum=0.8,
    nesterov=True,
    weight_decay=1e-4,
    augment="cifar10",
    per_class=10,
    dropout=0.1,
    eps=4 / 255,
    pgd_steps=7,
    pgd_step_size=1 / 255,
    pgd_train_mode=True,
    art=training.objectives.art_settings("authors"),
    seed=1,
    precision="float64",
    micro_batch=16,
)
PGD_FIELDS = {"pgd_steps", "pgd_step_size", "pgd_train_mode"}
IRRELEVANT = {"natural": PGD_FIELDS | {"art", "eps"}, "pgd": {"art"}, "art": PGD_FIELDS}


@pytest.mark.parametrize("field", [f.name for f in fields(Recipe)])
@pytest.mark.parametrize("name", training.TRAININGS)
def test_the_key_changes_with_the_fields_that_can_change_the_weights_and_no_other(name, field):
    recipe = Recipe(training=name)
    value = "natural" if (name, field) == ("art", "training") else OTHER[field]
    changed = replace(recipe, **{field: value})
    assert changed != recipe
    assert (changed.key("data") == recipe.key("data")) == (field in IRRELEVANT[name])


@pytest.mark.parametrize("field", [f.name for f in fields(training.ArtSettings)])
def test_the_key_changes_with_every_constant_of_art(field):
    paper, authors = (training.objectives.art_settings(p) for p in ("paper", "authors"))
    value = getattr(authors, field)
    if value == getattr(paper, field):
        value *= 2
    art = replace(paper, **{field: value})
    assert Recipe(training="art").key("data") != Recipe(training="art", art=art).key("data")


def test_the_key_is_12_hex_digits_of_recipe_and_data():
    key = Recipe().key("data")
    assert len(key) == 12 and int(key, 16) >= 0
    assert key == Recipe().key("data") != Recipe().key("other data")
    assert "micro_batch" not in Recipe().relevant() and Recipe(micro_batch=4).relevant()["micro_batch"] == 4
    cosine = Recipe(schedule="cosine")
    assert cosine.key("data") == replace(cosine, milestones=()).key("data")


@pytest.mark.parametrize("schedule", ["epoch", "cosine"])
@pytest.mark.parametrize("name", training.TRAININGS)
def test_a_field_outside_the_key_does_not_change_the_weights(name, schedule):
    """The other side of the key: what `relevant` leaves out is not read by the training."""
    recipe = Recipe(**TINY | dict(training=name, pgd_steps=1, epochs=1))
    hidden = {f: OTHER[f] for f in IRRELEVANT[name]}
    if schedule == "cosine":
        recipe, hidden = replace(recipe, schedule="cosine"), hidden | {"milestones": ((0, 0.5),)}
    other = replace(recipe, **hidden)
    assert recipe.key("") == other.key("")
    assert same(train(recipe, toy(4))[0], train(other, toy(4))[0])


# ART, appendix A.3.2 to A.3.4: arch, batch, epochs, lr, weight decay, milestones, PGD steps and step * 255,
# augmentation, images a class.
STEPS = ((50, 0.1), (80, 0.1), (150, 0.5))
A3 = {
    "cifar10": ("wrn-28-10", 256, 100, 0.1, 2e-4, STEPS, 10, 2, None, None),
    "svhn": ("wrn-40-2", 256, 200, 0.1, 2e-4, STEPS, 7, 2.5, None, None),
    "gtsrb": ("wrn-28-10", 128, 12, 0.1, 2e-4, ((4, 0.1), (6, 0.1), (10, 0.5)), 7, 2, "gtsrb", 10_000),
    "flower17": ("wrn-28-10", 128, 68, 0.1, 2e-4, ((15, 0.1), (35, 0.1), (50, 0.5)), 7, 2.5, "flower17", 1_000),
}


@pytest.mark.parametrize("name", training.TRAININGS)
@pytest.mark.parametrize("dataset", A3)
def test_the_papers_recipe(dataset, name):
    r = paper_recipe(dataset, name)
    told = (r.arch, r.batch_size, r.epochs, r.lr, r.weight_decay, r.milestones, r.pgd_steps)
    assert (*told, pytest.approx(255 * r.pgd_step_size), r.augment, r.per_class) == A3[dataset]
    assert (r.dataset, r.training, r.size, r.limit, r.schedule) == (dataset, name, None, None, "step")
    assert (r.momentum, r.nesterov, r.dropout, r.eps, r.pgd_train_mode) == (0.9, False, 0.0, 8 / 255, False)
    art = r.art  # section 4.1.2
    assert (art.weight, art.beta, art.attack_steps) == (0.5, 50, 3)
    assert 255 * art.step_size == pytest.approx(1.5)


def test_augmentation_is_as_large_as_in_the_work_the_paper_refers_to():
    assert data.AUGMENT["gtsrb"] == data.AUGMENT["flower17"] == Augment(rotation=15, translate=2.5, project=0.8)


def test_digits_take_the_attack_of_chen_et_al_and_keep_the_share_of_the_radius_that_arts_step_has():
    for dataset, eps, steps in (("mnist", 0.3, 40), ("fashion_mnist", 0.1, 20)):
        r = paper_recipe(dataset, "pgd")
        assert (r.arch, r.eps, r.pgd_steps, r.pgd_step_size) == ("rar-cnn", eps, steps, 0.01)
        assert paper_recipe(dataset, "art").art.step_size / eps == pytest.approx(1.5 / 8)


def test_cub_has_a_radius_of_its_own():
    """ART, B.1: 2/255, PGD-7 of 0.5/255, ART's step still 1.5/255; the code for CIFAR-10 keeps its share of it."""
    r = paper_recipe("cub200", "pgd")
    assert [255 * v for v in (r.eps, r.pgd_step_size, r.art.step_size)] == pytest.approx([2, 0.5, 1.5])
    assert r.pgd_steps == 7
    code = paper_recipe("cub200", "art", protocol="authors")
    assert code.art.step_size / code.eps == pytest.approx(5 / 8)


def test_the_authors_recipe():
    r = paper_recipe("cifar10", "art", protocol="authors")
    assert r.nesterov  # C-6
    assert r.batch_size == 234  # C-7
    assert data.AUGMENT[r.augment] == Augment(crop=4, flip=True, jitter=0.25, rotation=2)  # C-8
    assert r.epochs == 101  # C-9: epochs 0 to 100 at factors 1, 0.1, 0.01; 0.005 is not reached
    factors = [learning_rate(r, epoch, 1) / r.lr for epoch in range(101)]
    assert factors == pytest.approx([1] * 50 + [0.1] * 30 + [0.01] * 21)
    assert r.dropout == 0.1 and r.pgd_train_mode and r.art.train_mode  # C-10, C-11
    assert 255 * r.art.step_size == pytest.approx(5)  # C-1
    assert (r.arch, r.lr, r.momentum, r.weight_decay, r.eps) == ("wrn-28-10", 0.1, 0.9, 2e-4, 8 / 255)


def test_the_authors_switches_leave_another_data_set_its_own_schedule():
    text, code = (paper_recipe("gtsrb", "art", protocol=p) for p in ("paper", "authors"))
    kept = ("arch", "batch_size", "epochs", "milestones", "augment", "per_class")
    assert all(getattr(text, f) == getattr(code, f) for f in kept)
    assert code.nesterov and code.dropout == 0.1


def test_changes_go_over_the_paper_and_unknown_names_are_refused():
    assert paper_recipe("svhn", "pgd", seed=3, epochs=1) == replace(paper_recipe("svhn", "pgd"), seed=3, epochs=1)
    with pytest.raises(ValueError, match="unknown protocol 'code'; choose one of paper, authors"):
        paper_recipe("svhn", "pgd", protocol="code")
    with pytest.raises(ValueError, match="unknown training 'adv'"):
        paper_recipe("svhn", "adv")


# ------------------------------------------------------------------ learning rate, randomness, device


def test_the_step_schedule_of_svhn():
    r = paper_recipe("svhn", "natural")
    printed = [0.1] * 50 + [0.01] * 30 + [0.001] * 70 + [0.0005] * 50
    found = [learning_rate(r, step, 4) for step in range(800)]
    assert found == pytest.approx([lr for lr in printed for _ in range(4)])


def test_the_cosine_schedule_starts_at_lr_and_ends_near_0():
    r = Recipe(epochs=10, lr=0.4, schedule="cosine")
    rates = [learning_rate(r, step, 30) for step in range(300)]
    assert rates[0] == 0.4 and rates[150] == pytest.approx(0.2) and 0 < rates[-1] < 1e-4
    assert sorted(rates, reverse=True) == rates


def test_one_cycle_rises_to_lr_at_30_percent_and_falls_to_0_without_a_jump():
    r = Recipe(epochs=10, lr=0.4, schedule="one-cycle")
    rates = [learning_rate(r, step, 100) for step in range(1000)]
    assert rates[0] == pytest.approx(0.02)
    assert rates.index(max(rates)) == 300 and rates[300] == pytest.approx(0.4)
    assert rates[:301] == sorted(rates[:301]) and rates[300:] == sorted(rates[300:], reverse=True)
    assert max(abs(a - b) for a, b in zip(rates, rates[1:], strict=False)) < 0.4 / 200
    assert rates[-1] < 1e-5


def test_a_generator_is_one_of_its_seed_stream_and_step():
    def draw(*key):
        return torch.rand(4, generator=training.generator(*key)).tolist()

    keys = [(seed, stream, step) for seed in range(4) for stream in ("data", "attack", "dropout") for step in range(50)]
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)
    assert all(draw(*key) == draw(*key) for key in keys[::50])


def test_a_generator_gives_the_numbers_numpy_derives_for_it():
    """Independent of the machine and of torch's global state: SeedSequence is specified, so is the Mersenne Twister."""
    import numpy as np

    seed = np.random.SeedSequence([3, *b"attack", 17]).generate_state(1)[0]
    torch.manual_seed(99)
    assert training.generator(3, "attack", 17).initial_seed() == int(seed)


def test_devices():
    assert training.pick_device("cpu") == torch.device("cpu")
    assert training.pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("tpu", "cuda:99", ""):
        with pytest.raises(ValueError, match=f"device '{name}' is not available here; choose 'auto' or 'cpu'"):
            training.pick_device(name)


def test_under_torchrun_each_process_has_the_gpu_of_its_number(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert training.pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda *size, device: None)
    assert training.pick_device() == torch.device("cuda:1")


# ------------------------------------------------------------------ fit


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_update_is_sgd_with_momentum_and_weight_decay(nesterov):
    """Two epochs of one batch each, by hand: d = g + wd p; v = m v + d; p -= lr (d + m v if nesterov else v)."""
    images = toy(8)
    recipe = Recipe(**TINY | dict(batch_size=8, nesterov=nesterov, weight_decay=0.01))
    model = training.build_model(recipe, images).train()
    x, y = images.images.double() / 255, images.labels
    velocity = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    losses = []
    for lr in (0.05, 0.005):
        model.zero_grad()
        losses.append(F.cross_entropy(model(x), y))
        losses[-1].backward()
        with torch.no_grad():
            for name, p in model.named_parameters():
                d = p.grad + 0.01 * p
                velocity[name] = 0.9 * velocity[name] + d
                p -= lr * (d + 0.9 * velocity[name] if nesterov else velocity[name])
    trained, record = train(recipe, images)
    for (name, p), q in zip(trained.state_dict().items(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-11, msg=name)
    assert [h["loss"] for h in record["history"]] == pytest.approx([v.item() for v in losses], rel=1e-10)


@pytest.mark.parametrize("name", training.TRAININGS)
def test_a_seed_gives_one_training(name):
    recipe = Recipe(**TINY | dict(training=name, pgd_steps=2, augment="cifar10", dropout=0.2))
    torch.manual_seed(1)
    first, record = train(recipe, toy())
    torch.manual_seed(2)  # the global generator is neither read nor moved
    second, again = train(recipe, toy())
    after = torch.rand(1)
    torch.manual_seed(2)
    assert torch.equal(after, torch.rand(1))
    assert same(first, second) and record["history"] == again["history"]
    other, _ = train(replace(recipe, seed=1), toy())
    assert not same(first, other)
    assert not first.training and all(p.requires_grad for p in first.parameters())


def test_history_has_one_entry_an_epoch_and_steps_are_counted():
    recipe = Recipe(**TINY | dict(training="art", epochs=3))
    _, record = train(recipe, toy(10))
    assert record["steps"] == 3 * 3  # batches of 4, 4 and 2
    assert len(record["history"]) == 3 and record["seconds"] > 0
    for entry in record["history"]:
        assert set(entry) == {"loss", "attribution_loss", "accuracy"}
        assert 0 <= entry["accuracy"] <= 1 and 10 * entry["accuracy"] == pytest.approx(round(10 * entry["accuracy"]))
        assert 0.12 < entry["attribution_loss"] < 2.13  # log(1 + exp(-+2)), Eq. 5
        assert entry["loss"] > 0.5 * entry["attribution_loss"]  # Eq. 6: cross-entropy comes on top


def test_an_epoch_of_balanced_classes_has_per_class_images_of_each():
    images = toy(12).subset([0, 1, 2, 4])  # 3 red, 1 blue
    _, record = train(Recipe(**TINY | dict(per_class=10, epochs=1)), images)
    assert record["steps"] == 5


def test_natural_training_learns_an_easy_task():
    _, record = train(Recipe(**TINY | dict(epochs=6, milestones=())), toy(16))
    losses = [h["loss"] for h in record["history"]]
    assert losses[-1] < 0.3 * losses[0] and losses[-1] < 0.2
    assert record["history"][-1]["accuracy"] > 0.8


@pytest.mark.parametrize("name", ["pgd", "art"])
def test_a_training_attacks_within_eps_of_the_batch(name, monkeypatch):
    """The images that the cross-entropy sees are in the ball, and are not the clean ones."""
    seen = []
    step = training.objectives._cross_entropy

    def spy(model, x, y):
        seen.append(x)
        return step(model, x, y)

    monkeypatch.setattr(training.objectives, "_cross_entropy", spy)
    train(Recipe(**TINY | dict(training=name, pgd_steps=2, batch_size=12, epochs=1, eps=0.02)), toy())
    (x_adv,) = seen
    clean = toy().images.double() / 255
    distance = (x_adv[:, None] - clean).abs().amax((2, 3, 4)).amin(1)
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    assert (distance > 0).all() and (distance <= 0.02 + 1e-12).all()


AUTHORS = training.objectives.art_settings("authors")
OBJECTIVES = {
    "natural": dict(training="natural"),
    "pgd": dict(training="pgd", pgd_steps=2),
    "art": dict(training="art"),
    "authors": dict(training="art", art=replace(AUTHORS, attack_cosine_eps=10.0)),  # 8 of it bound the norms, 3 do not
}


@pytest.mark.parametrize("micro_batch", [1, 3])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_in_parts_gives_the_same_weights_where_images_do_not_see_each_other(name, micro_batch):
    """A network without batch normalisation; batches of 8 and 4 in parts of 3, 3, 2 and 2, 2, or image by image."""
    changes = dict(arch="rar-resnet-1", batch_size=8, augment="cifar10")
    recipe = Recipe(**TINY | OBJECTIVES[name] | changes)
    whole, expected = train(recipe, toy())
    cut, record = train(replace(recipe, micro_batch=micro_batch), toy())
    for (key, a), b in zip(whole.state_dict().items(), cut.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-10, msg=key)
    for a, b in zip(expected["history"], record["history"], strict=True):
        assert b == pytest.approx(a, rel=0, abs=1e-10)


def test_batch_normalisation_sees_one_part_at_a_time():
    """One update by hand: statistics and gradients of the parts, the gradients weighted by their share."""
    recipe = Recipe(**TINY | dict(batch_size=8, micro_batch=3, epochs=1, momentum=0.0, weight_decay=0.0))
    images = toy(8)
    model = training.build_model(recipe, images).train()
    ((_, x, y),) = training._batches(recipe, images, 1, start=0)
    for part in (slice(0, 2), slice(2, 5), slice(5, 8)):
        (F.cross_entropy(model(x[part]), y[part], reduction="sum") / 8).backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 0.05 * p.grad
    trained, _ = train(recipe, images)
    for (key, a), b in zip(model.state_dict().items(), trained.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11, msg=key)


# ------------------------------------------------------------------ precision, the GPU


def gradients(recipe: Recipe, images: ImageSet) -> dict[str, torch.Tensor]:
    """Of the weights, in the first update."""
    state = training.State(training.build_model(recipe, images), torch.optim.SGD([torch.zeros(1)]))
    ((_, x, y),) = training._batches(recipe, images, 1, start=0)
    with training.arithmetic(recipe.precision, x.device):
        training.train_step(recipe, state, x, y, 0.0)
    return {name: p.grad for name, p in state.model.named_parameters()}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_products_in_bf16_give_nearly_the_gradients_of_float32(name):
    """Not equal ones: a product's relative error is 2^-9. Weights, gradients and losses stay in float32."""
    recipe = Recipe(**TINY | OBJECTIVES[name] | dict(arch="rar-resnet-1", batch_size=16, epochs=1))
    exact, rounded = (gradients(replace(recipe, precision=p), toy(16)) for p in ("float32", "bf16"))
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in rounded.values())
    a, b = (torch.cat([g.flatten() for g in found.values()]) for found in (exact, rounded))
    assert 0.99 < F.cosine_similarity(a, b, dim=0) < 0.999999
    model, record = train(replace(recipe, precision="bf16"), toy(16))
    assert all(v.dtype == torch.float32 for v in model.state_dict().values()) and len(record["history"]) == 1


def test_a_product_in_bf16_is_torchs_of_rounded_factors():
    g = torch.Generator().manual_seed(0)
    x, v = torch.randn(2, 2, 3, 8, 8, generator=g)
    for layer, product in (
        (
            training.models.Conv2d(3, 3, 3, padding=1),
            lambda a, w, b: F.conv2d(a, w, padding=1).float() + b[:, None, None],
        ),
        (training.models.Linear(8, 8), lambda a, w, b: F.linear(a, w, b.bfloat16()).float()),
    ):
        found = []
        for exact in (False, True):
            leaf, weights = x.clone().requires_grad_(), (layer.weight, layer.bias)
            with training.arithmetic("float32" if exact else "bf16", x.device):
                y = product(leaf.bfloat16(), layer.weight.bfloat16(), layer.bias) if exact else layer(leaf)
            found.append((y, *torch.autograd.grad((y * v).sum(), (leaf, *weights))))
        for a, b in zip(*found, strict=True):
            assert a.dtype == torch.float32
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("arch", ["rar-resnet-1", "wrn-10-1"])
def test_second_derivatives_in_bf16_are_those_of_float32_up_to_its_rounding(arch):
    """d/dw of |df/dx|^2 through softplus, train-mode batch normalisation included, a weight at a time."""
    x = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    net, found = training.models.build(arch, 2, size=12).train(), []
    for precision in ("float32", "bf16"):
        leaf = x.clone().requires_grad_()
        with training.arithmetic(precision, x.device), training.models.smooth(net, 5.0):
            logits = net(leaf)
            (g,) = torch.autograd.grad(logits[:, 0].sum(), leaf, create_graph=True)
            assert logits.dtype == g.dtype == torch.float32
            weights = [p for p in net.parameters() if p.ndim > 1]
            found.append(torch.autograd.grad(g.square().sum(), weights))
    for a, b in zip(*found, strict=True):
        assert b.dtype == torch.float32
        assert 1e-6 < (a - b).norm() / a.norm() < 0.1


def test_torchs_settings_are_those_of_before_after_a_training(monkeypatch):
    products, inside = (torch.backends.cuda.matmul, torch.backends.cudnn.conv), []
    before = [p.fp32_precision for p in products]
    update = training.train_step

    def spy(*args, **options):
        inside.append([torch.is_autocast_enabled("cpu"), *(p.fp32_precision for p in products)])
        update(*args, **options)

    monkeypatch.setattr(training, "train_step", spy)
    for precision in training.PRECISIONS:
        train(Recipe(**TINY | dict(precision=precision, epochs=1, batch_size=8)), toy(8))
        assert [p.fp32_precision for p in products] == before and not torch.is_autocast_enabled("cpu")
    exact = [False, "ieee", "ieee"]
    assert inside == [exact, exact, [False, "tf32", "tf32"], [True, "ieee", "ieee"]]
    with pytest.raises(KeyError), training.arithmetic("tf32", torch.device("cpu")):
        raise KeyError
    assert [p.fp32_precision for p in products] == before


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_update_does_not_wait_for_the_gpu(name, precision):
    changes = dict(precision=precision, augment="cifar10", dropout=0.1, epochs=1, micro_batch=3)
    recipe = Recipe(**TINY | OBJECTIVES[name] | changes)
    images = toy().to("cuda")
    model = training.build_model(recipe, images).cuda()
    state = training.State(model, torch.optim.SGD(model.parameters(), momentum=0.9))
    with training.arithmetic(precision, images.images.device):
        for step, x, y in training._batches(recipe, images, 3, start=0):
            training.train_step(recipe, state, x, y, 0.1)
            torch.cuda.set_sync_debug_mode("error")  # after the first update, which loads kernels and plans
            state.step = step + 1
    torch.cuda.set_sync_debug_mode("default")
    assert state.totals[3] == 12


def test_normalisation_is_the_published_one_or_that_of_the_images():
    images = toy()
    first = training.build_model(Recipe(**TINY | dict(dataset="cifar10")), images)[0]
    assert first.mean.flatten().tolist() == pytest.approx([0.4914, 0.4822, 0.4465])
    own = training.build_model(Recipe(**TINY), images)[0]
    channels = images.images.double().transpose(0, 1).flatten(1) / 255
    torch.testing.assert_close(own.mean.flatten(), channels.mean(1))
    torch.testing.assert_close(own.std.flatten(), channels.std(1, correction=0))


# ------------------------------------------------------------------ checkpoints

KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from artlib import training
from test_training import RESUMED, toy

save = training.State.save

def save_and_die(state, path, *, key):
    save(state, path, key=key)
    if state.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

training.State.save = save_and_die
training.fit(RESUMED[{name!r}], toy(), checkpoint=Path({path!r}), checkpoint_seconds=0, progress=False)
"""
RESUMED = {
    "natural": Recipe(**TINY | dict(epochs=3, augment="cifar10", dropout=0.3, precision="float32")),
    "art": Recipe(**TINY | dict(epochs=3, training="art", nesterov=True)),
}


@pytest.mark.parametrize("protocol", ["paper", "authors"])
def test_a_training_by_recorded_graphs_ends_with_the_same_weights(protocol, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)  # the compiler itself: tests/test_compiled.py
    art = objectives.art_settings(protocol, attack_topk=None)
    recipe = Recipe(**TINY | dict(training="art", art=art, batch_size=5))  # 12 images: a last batch of two
    eager, fast = (fit(recipe, toy(), compile=c, progress=False) for c in (None, True))
    for key, value in eager[0].state_dict().items():
        torch.testing.assert_close(fast[0].state_dict()[key], value, rtol=0, atol=1e-10, msg=key)
    assert (eager[1]["compiled"], fast[1]["compiled"]) == (False, True)
    assert len(compiled._graphs[fast[0]]) == 2 and not compiled._broken


@pytest.mark.parametrize("name", RESUMED)
def test_a_killed_training_ends_with_the_same_weights(name, tmp_path):
    """SIGKILL in the middle of the second of three epochs, 3 steps each; then the rest in this process."""
    path, recipe = tmp_path / "a.checkpoint", RESUMED[name]
    code = KILLED.format(tests=str(Path(__file__).parent), name=name, path=str(path))
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.checkpoint"]
    steps = []
    update = training.train_step

    def counted(recipe, state, *args, **options):
        steps.append(state.step)
        update(recipe, state, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "train_step", counted)
        resumed, record = train(recipe, toy(), checkpoint=path)
    assert steps == [5, 6, 7, 8]
    whole, expected = train(recipe, toy())
    assert same(resumed, whole)
    assert record["history"] == expected["history"] and record["steps"] == expected["steps"]
    assert record["seconds"] > 0


def test_a_finished_checkpoint_is_taken_as_it_is(tmp_path):
    recipe = Recipe(**TINY)
    first, record = train(recipe, toy(4), checkpoint=tmp_path / "new" / "a.checkpoint")
    second, again = train(recipe, toy(4), checkpoint=tmp_path / "new" / "a.checkpoint")
    assert same(first, second) and again == record


def test_without_a_pause_the_state_is_saved_at_the_end_of_every_epoch(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(training.State, "save", lambda state, path, key: saved.append(state.step))
    train(Recipe(**TINY), toy(), checkpoint=tmp_path / "a.checkpoint")
    assert saved == [3, 6]
    saved.clear()
    train(Recipe(**TINY), toy(), checkpoint=tmp_path / "a.checkpoint", checkpoint_seconds=0)
    assert saved == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_of_another_recipe_or_of_other_images_is_refused(tmp_path):
    path, recipe = tmp_path / "a.checkpoint", Recipe(**TINY | dict(epochs=1))
    train(recipe, toy(4), checkpoint=path)
    whole = path.read_bytes()
    for other, images in ((replace(recipe, seed=1), toy(4)), (replace(recipe, lr=0.1), toy(4)), (recipe, toy(6))):
        with pytest.raises(ValueError, match=r"a\.checkpoint is the checkpoint of another training; delete it"):
            train(other, images, checkpoint=path)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_damaged_checkpoint_is_named(damage, tmp_path):
    path = tmp_path / "a.checkpoint"
    train(Recipe(**TINY | dict(epochs=1)), toy(4), checkpoint=path)
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"not a checkpoint", "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"a\.checkpoint is damaged \(.*\); delete it and run again") as error:
        train(Recipe(**TINY), toy(4), checkpoint=path)
    assert str(path) in str(error.value)


def test_a_missing_file_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.safetensors"):
        training.read_tensors(tmp_path / "a.safetensors")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "models"):
        with pytest.raises(PermissionError, match="set ARTLIB_MODELS to a folder that can be") as error:
            train(Recipe(**TINY | dict(epochs=1)), toy(4), checkpoint=folder / "a.checkpoint")
        assert str(folder) in str(error.value)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    training.write_tensors(path, {"a": torch.arange(3)}, {"b": "c"})

    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise training.SafetensorError("I/O error: no space left on device")

    monkeypatch.setattr(training, "save_file", full)
    with pytest.raises(PermissionError, match=r"cannot write .*a\.safetensors: .*no space left"):
        training.write_tensors(path, {"a": torch.zeros(3)}, {})
    assert list(tmp_path.iterdir()) == [path]
    tensors, metadata = training.read_tensors(path)
    assert torch.equal(tensors["a"], torch.arange(3)) and metadata == {"b": "c"}
