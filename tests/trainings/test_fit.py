"""`fit` follows a recipe and repeats itself; parts and recorded graphs give the same weights, bf16 nearly."""

import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from toys import EACH, OBJECTIVES, curves, fitting, same, tiny, toy, train

from artlib import compiled, models
from artlib.data import ImageSet
from artlib.trainings import (
    PRECISIONS,
    Art,
    Batch,
    InnerAttack,
    Recipe,
    arithmetic,
    build_model,
    learning_rate,
    paper_recipe,
    pick_device,
)

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
        return torch.rand(4, generator=fitting.generator(*key)).tolist()

    keys = [(seed, stream, step) for seed in range(4) for stream in ("data", "attack", "dropout") for step in range(50)]
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)
    assert all(draw(*key) == draw(*key) for key in keys[::50])


def test_a_generator_gives_the_numbers_numpy_derives_for_it():
    """Independent of the machine and of torch's global state: SeedSequence is specified, so is the Mersenne Twister."""
    import numpy as np

    seed = np.random.SeedSequence([3, *b"attack", 17]).generate_state(1)[0]
    torch.manual_seed(99)
    assert fitting.generator(3, "attack", 17).initial_seed() == int(seed)


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("tpu", "cuda:99", ""):
        with pytest.raises(ValueError, match=f"device '{name}' is not available here; choose 'auto' or 'cpu'"):
            pick_device(name)


def test_under_torchrun_each_process_has_the_gpu_of_its_number(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda *size, device: None)
    assert pick_device() == torch.device("cuda:1")


# ------------------------------------------------------------------ fit


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_update_is_sgd_with_momentum_and_weight_decay(nesterov):
    """Two epochs of one batch each, by hand: d = g + wd p; v = m v + d; p -= lr (d + m v if nesterov else v)."""
    images = toy(8)
    recipe = tiny(batch_size=8, nesterov=nesterov, weight_decay=0.01)
    model = build_model(recipe, images).train()
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


def test_the_last_block_and_the_classifier_have_a_rate_of_their_own(tmp_path):
    """C-31. From the same weights and gradients: a tenth of the rate, ten times the factor, the same step there."""
    images, shared = toy(8, size=24), dict(arch="squeezenet1_1", batch_size=8, epochs=1, momentum=0.0, weight_decay=0.0)
    before = build_model(tiny(**shared), images).state_dict()
    one, ten = (train(tiny(**shared, lr=lr, last_factor=f), images)[0] for lr, f in ((0.1, 1.0), (0.01, 10.0)))
    last = 0
    for name, start in before.items():
        a, b = (net.state_dict()[name] - start for net in (one, ten))
        is_last = name.startswith(("1.features.12.", "1.classifier."))
        torch.testing.assert_close(a if is_last else a / 10, b, rtol=1e-9, atol=1e-15, msg=name)
        last += is_last and bool(a.any())
    assert last >= 6


@pytest.mark.parametrize(
    "arch", ["squeezenet1_0", "squeezenet1_1", "resnet50-stride1", "resnet50se-stride2", "vgg16-gap"]
)
def test_what_a_network_calls_its_last_block_is_at_its_end(arch):
    images, recipe = toy(2, size=32), tiny(arch=arch, last_factor=10.0)
    model = build_model(recipe, images)
    groups = fitting.optimizer(recipe, model).param_groups
    assert [g.get("factor") for g in groups] == [None, 10.0] and all(g["params"] for g in groups)
    names = [name.removeprefix("1.") for name, _ in model.named_parameters()][len(groups[0]["params"]) :]
    assert all(name.startswith(models.find(arch).last) for name in names)
    weights = [p for g in groups for p in g["params"]]
    assert all(p is q for p, q in zip(weights, model.parameters(), strict=True))  # as a checkpoint counts them


def test_a_network_that_does_not_name_its_last_block_has_one_rate():
    with pytest.raises(ValueError, match="last_factor is 10, but wrn-10-1 does not name its last block: choose 1"):
        tiny(arch="wrn-10-1", last_factor=10.0)


def test_adam_is_torchs_constants_with_weight_decay_in_the_gradient():
    """Two epochs of one batch each, by hand: m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + 1e-8)."""
    images = toy(8)
    recipe = tiny(batch_size=8, optimizer="adam", weight_decay=0.01)
    model = build_model(recipe, images).train()
    x, y = images.images.double() / 255, images.labels
    m, v = ({name: torch.zeros_like(p) for name, p in model.named_parameters()} for _ in range(2))
    for step, lr in ((1, 0.05), (2, 0.005)):
        model.zero_grad()
        F.cross_entropy(model(x), y).backward()
        with torch.no_grad():
            for name, p in model.named_parameters():
                g = p.grad + 0.01 * p
                m[name] = 0.9 * m[name] + 0.1 * g
                v[name] = 0.999 * v[name] + 0.001 * g**2
                p -= lr * m[name] / (1 - 0.9**step) / ((v[name] / (1 - 0.999**step)).sqrt() + 1e-8)
    trained, _ = train(recipe, images)
    for (name, p), q in zip(trained.state_dict().items(), model.state_dict().values(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-9, msg=name)


@pytest.mark.parametrize("name", EACH)
def test_a_seed_gives_one_training(name):
    recipe = tiny(EACH[name], augment="cifar10", dropout=0.2)
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


@pytest.mark.parametrize("name", EACH)
def test_history_has_one_entry_an_epoch_and_steps_are_counted(name):
    _, record = train(tiny(EACH[name], epochs=3), toy(10))
    assert record["steps"] == 3 * 3  # batches of 4, 4 and 2
    assert len(record["history"]) == 3 and record["seconds"] > 0
    for entry in curves(record):
        assert {"loss", "accuracy"} <= set(entry) and all(math.isfinite(v) for v in entry.values())
        assert 0 <= entry["accuracy"] <= 1 and 10 * entry["accuracy"] == pytest.approx(round(10 * entry["accuracy"]))


def test_the_history_of_art_has_its_part():
    _, record = train(tiny(Art()), toy(10))
    for entry in curves(record):
        assert set(entry) == {"loss", "L_attr", "accuracy"}
        assert 0.12 < entry["L_attr"] < 2.13  # log(1 + exp(-+2)), Eq. 5
        assert entry["loss"] > 0.5 * entry["L_attr"]  # Eq. 6: cross-entropy comes on top


def test_an_epoch_of_balanced_classes_has_per_class_images_of_each():
    images = toy(12).subset([0, 1, 2, 4])  # 3 red, 1 blue
    _, record = train(tiny(per_class=10, epochs=1), images)
    assert record["steps"] == 5


def test_natural_training_learns_an_easy_task():
    _, record = train(tiny(epochs=6, milestones=()), toy(16))
    losses = [h["loss"] for h in record["history"]]
    assert losses[-1] < 0.3 * losses[0] and losses[-1] < 0.2
    assert record["history"][-1]["accuracy"] > 0.8


@pytest.mark.parametrize("name", [n for n in EACH if not n.startswith(("cure", "igr"))])
def test_no_image_that_a_training_looks_at_is_farther_than_eps_from_its_own(name):
    """All images that the network sees are in the ball and in [0, 1]; an inner attack moves them on from the start.

    Not those of CURE, whose step is an l2 one, and of IGR, whose paths come from black.
    """
    training, images = EACH[name], toy()
    eps = getattr(training, "eps", 0.0)
    state = fitting.first_state(tiny(training), images)
    x, y = images.images.double() / 255, images.labels
    start, seen = training.start(x, generator=fitting.generator(0, "attack", 0)), []
    state.model.train().register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    training.losses(Batch(state.model, x, y, start=start, helper=state.helper))
    for rows in seen:  # of the batch, of twice the batch, or a first look at its first image
        distance = (rows - torch.cat([x, x])[: len(rows)]).abs().amax((1, 2, 3))
        assert rows.min() >= 0 and rows.max() <= 1 and distance.max() <= eps + 1e-12
    new = [rows for rows in seen if len(rows) == len(x) and not torch.equal(rows, x) and not torch.equal(rows, start)]
    assert bool(new) == isinstance(training, InnerAttack)
    assert all((rows != x).flatten(1).any(1).all() for rows in new)


@pytest.mark.parametrize("name", EACH)
def test_a_loss_leaves_modes_layers_and_gradients_as_they_were(name):
    """A network in train mode, one batch normalisation of which is frozen by its user."""
    training, images = EACH[name], toy(4)
    state = fitting.first_state(tiny(training, dropout=0.1), images)
    model = state.model.train()
    frozen = next(m for m in model.modules() if isinstance(m, models.BatchNorm2d)).eval()
    next(model.parameters()).requires_grad_(False)

    def now():
        return [(m, m.training, len(m._forward_pre_hooks)) for m in model.modules()]

    before, statistics = now(), copy.deepcopy(frozen.state_dict())
    needed = [p.requires_grad for p in model.parameters()]
    x = images.images.double() / 255
    start = training.start(x, generator=fitting.generator(0, "attack", 0))
    losses = training.losses(Batch(model, x, images.labels, start=start, helper=state.helper))
    assert now() == before and [p.requires_grad for p in model.parameters()] == needed
    assert all(torch.equal(v, statistics[k]) for k, v in frozen.state_dict().items())
    assert losses.total.shape == () and losses.total.requires_grad and losses.logits.shape == (4, 2)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("micro_batch", [1, 3])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_batch_in_parts_gives_the_same_weights_where_images_do_not_see_each_other(name, micro_batch):
    """A network without batch normalisation; batches of 8 and 4 in parts of 3, 3, 2 and 2, 2, or image by image."""
    recipe = tiny(OBJECTIVES[name], arch="rar-resnet-1", batch_size=8, augment="cifar10")
    whole, expected = train(recipe, toy())
    cut, record = train(replace(recipe, micro_batch=micro_batch), toy())
    for (key, a), b in zip(whole.state_dict().items(), cut.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-10, msg=key)
    for a, b in zip(curves(expected), curves(record), strict=True):
        assert b == pytest.approx(a, rel=0, abs=1e-10)


def test_batch_normalisation_sees_one_part_at_a_time():
    """One update by hand: statistics and gradients of the parts, the gradients weighted by their share."""
    recipe = tiny(batch_size=8, micro_batch=3, epochs=1, momentum=0.0, weight_decay=0.0)
    images = toy(8)
    model = build_model(recipe, images).train()
    ((_, x, y),) = fitting._batches(recipe, images, 1, start=0)
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
    state = fitting.first_state(recipe, images)
    ((_, x, y),) = fitting._batches(recipe, images, 1, start=0)
    with arithmetic(recipe.precision, x.device):
        fitting.train_step(recipe, state, x, y, 0.0)
    return {name: p.grad for name, p in state.model.named_parameters()}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_products_in_bf16_give_nearly_the_gradients_of_float32(name):
    """Not equal ones: a product's relative error is 2^-9. Weights, gradients and losses stay in float32."""
    recipe = tiny(OBJECTIVES[name], arch="rar-resnet-1", batch_size=16, epochs=1)
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
            models.Conv2d(3, 3, 3, padding=1),
            lambda a, w, b: F.conv2d(a, w, padding=1).float() + b[:, None, None],
        ),
        (models.Linear(8, 8), lambda a, w, b: F.linear(a, w, b.bfloat16()).float()),
    ):
        found = []
        for exact in (False, True):
            leaf, weights = x.clone().requires_grad_(), (layer.weight, layer.bias)
            with arithmetic("float32" if exact else "bf16", x.device):
                y = product(leaf.bfloat16(), layer.weight.bfloat16(), layer.bias) if exact else layer(leaf)
            found.append((y, *torch.autograd.grad((y * v).sum(), (leaf, *weights))))
        for a, b in zip(*found, strict=True):
            assert a.dtype == torch.float32
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("arch", ["rar-resnet-1", "wrn-10-1"])
def test_second_derivatives_in_bf16_are_those_of_float32_up_to_its_rounding(arch):
    """d/dw of |df/dx|^2 through softplus, train-mode batch normalisation included, a weight at a time."""
    x = torch.rand(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    net, found = models.build(arch, 2, size=12).train(), []
    for precision in ("float32", "bf16"):
        leaf = x.clone().requires_grad_()
        with arithmetic(precision, x.device), models.smooth(net, 5.0):
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
    update = fitting.train_step

    def spy(*args, **options):
        inside.append([torch.is_autocast_enabled("cpu"), *(p.fp32_precision for p in products)])
        update(*args, **options)

    monkeypatch.setattr(fitting, "train_step", spy)
    for precision in PRECISIONS:
        train(tiny(precision=precision, epochs=1, batch_size=8), toy(8))
        assert [p.fp32_precision for p in products] == before and not torch.is_autocast_enabled("cpu")
    exact = [False, "ieee", "ieee"]
    assert inside == [exact, exact, [False, "tf32", "tf32"], [True, "ieee", "ieee"]]
    with pytest.raises(KeyError), arithmetic("tf32", torch.device("cpu")):
        raise KeyError
    assert [p.fp32_precision for p in products] == before


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", EACH)
def test_an_update_does_not_wait_for_the_gpu(name, precision):
    changes = dict(precision=precision, augment="cifar10", dropout=0.1, epochs=1, micro_batch=3)
    recipe = tiny(EACH[name], **changes)
    images = toy().to("cuda")
    state = fitting.first_state(recipe, images, "cuda")
    with arithmetic(precision, images.images.device):
        for step, x, y in fitting._batches(recipe, images, 3, start=0):
            fitting.train_step(recipe, state, x, y, 0.1)
            torch.cuda.set_sync_debug_mode("error")  # after the first update, which loads kernels and plans
            state.step = step + 1
    torch.cuda.set_sync_debug_mode("default")
    assert state.totals["images"] == 12


def test_normalisation_is_the_published_one_or_that_of_the_images():
    images = toy()
    first = build_model(tiny(dataset="cifar10"), images)[0]
    assert first.mean.flatten().tolist() == pytest.approx([0.4914, 0.4822, 0.4465])
    own = build_model(tiny(), images)[0]
    channels = images.images.double().transpose(0, 1).flatten(1) / 255
    torch.testing.assert_close(own.mean.flatten(), channels.mean(1))
    torch.testing.assert_close(own.std.flatten(), channels.std(1, correction=0))


# ------------------------------------------------------------------ recorded graphs


@pytest.mark.parametrize("name", EACH)
def test_a_training_by_recorded_graphs_ends_with_the_same_weights(name, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda graph, **_: graph)  # the compiler itself: tests/test_compiled.py
    recipe = tiny(EACH[name], batch_size=5)  # 12 images: a last batch of two
    eager, fast = (train(recipe, toy(), compile=c) for c in (None, True))
    for key, value in eager[0].state_dict().items():
        torch.testing.assert_close(fast[0].state_dict()[key], value, rtol=0, atol=1e-10, msg=key)
    for a, b in zip(curves(eager[1]), curves(fast[1]), strict=True):
        assert b == pytest.approx(a, rel=0, abs=1e-10)
    assert (eager[1]["compiled"], fast[1]["compiled"]) == (False, True)
    expected = {"natural": 1, "pgd": 2, "trades": 2, "art": 2}.get(name.split()[0])  # one that compiles nothing may be
    assert expected in (None, len(compiled._graphs.get(fast[0], ())))  # recorded once, for all updates
    assert fast[0] not in compiled._broken


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pgd held", "art held"])
def test_held_statistics_go_through_the_compiler_itself(name):
    eager, fast = (train(tiny(EACH[name], batch_size=12), toy(), compile=c)[0] for c in (False, True))
    for key, value in eager.state_dict().items():
        torch.testing.assert_close(fast.state_dict()[key], value, rtol=0, atol=1e-10, msg=key)
    assert fast not in compiled._broken
