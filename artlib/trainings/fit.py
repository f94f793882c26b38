"""`fit` follows a `Recipe` and loses at most a minute when it is killed."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from artlib import compiled, distributed, models
from artlib.data import AUGMENT, IMAGENET, SETS, ImageSet, batches, mean_std
from artlib.digest import code_digest
from artlib.progress import bar as progress_bar
from artlib.trainings import guard
from artlib.trainings.checkpoint import State, saved_code
from artlib.trainings.recipe import Recipe
from artlib.trainings.training import Batch, Training

SETTLED = 50  # updates after which running averages, at torch's momentum of 0.1, say something about the network


def pick_device(name: str = "auto") -> torch.device:
    """ "auto" is the GPU when there is one, under torchrun each process's own; else a name torch knows ("cuda:1")."""
    if name == "auto":
        gpu = f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
        name = gpu if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise ValueError(f"device {name!r} is not available here; choose 'auto' or 'cpu'") from None
    return device


@contextmanager
def arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Convolutions and matrix products in `precision` inside a `with` block; torch's settings are put back on exit.

    "tf32" rounds their factors to 11 bits on a GPU, and does nothing on a CPU; "bf16" rounds them to 8 bits; the others
    round nothing, though torch's default is TF32 for a GPU's convolutions. All else has the dtype of the weights.
    """
    products = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [p.fp32_precision for p in products]
    try:
        for p in products:
            p.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        # No cache: its casts of the weights, made without a graph, would be used where one is needed.
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
            yield
    finally:
        for p, value in zip(products, before, strict=True):
            p.fp32_precision = value


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The learning rate of update `step` (from 0): step-wise by epoch, half a cosine, or one-cycle (peak at 30%)."""
    if recipe.schedule == "step":
        return recipe.lr * math.prod(f for epoch, f in recipe.milestones if step // steps_per_epoch >= epoch)
    t = step / (recipe.epochs * steps_per_epoch)
    if recipe.schedule == "one-cycle":
        if t < 0.3:
            return recipe.lr * (0.05 + 0.95 * t / 0.3)
        t = (t - 0.3) / 0.7
    return recipe.lr * (1 + math.cos(math.pi * t)) / 2


def generator(seed: int, stream: str, step: int) -> torch.Generator:
    """A generator for one purpose at one step: nothing but the step number has to be remembered to resume."""
    state = np.random.SeedSequence([seed, *stream.encode(), step]).generate_state(1)[0]
    return torch.Generator().manual_seed(int(state))


def build_model(recipe: Recipe, images: ImageSet, *, weights: bool = True) -> models.Wrapped:
    """The untrained network of a recipe; the normalisation is the paper's where published, else the images' own.

    Public weights expect ImageNet's, whatever the images; without `weights` they are not looked for.
    """
    info = SETS.get(recipe.dataset)
    if recipe.arch.endswith("-pretrained"):
        mean, std = IMAGENET["mean"], IMAGENET["std"]
    elif info is not None and info.mean is not None:
        mean, std = info.mean, info.std
    else:
        mean, std = mean_std(images)
    return models.build(
        recipe.arch,
        len(images.classes),
        in_channels=images.images.shape[1],
        size=images.images.shape[2],
        mean=mean,
        std=std,
        dropout=recipe.dropout,
        dtype=recipe.dtype,
        generator=generator(recipe.seed, "weights", 0),
        weights=weights,
    )


def optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum, or Adam with torch's constants, with the recipe's weight decay added to the gradient.

    The last block and the classifier, which every network has at its end, can have a rate of their own, times `factor`.
    """
    shared, weights = dict(lr=recipe.lr, weight_decay=recipe.weight_decay), [*model.parameters()]
    groups: list[dict] = [{"params": weights}]
    if recipe.last_factor != 1:
        last = tuple(f"1.{name}" for name in models.find(recipe.arch).last)  # behind the normalisation
        at = next(i for i, (name, _) in enumerate(model.named_parameters()) if name.startswith(last))
        groups = [{"params": weights[:at]}, {"params": weights[at:], "factor": recipe.last_factor}]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, **shared)
    return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.nesterov, **shared)


def training_code(recipe: Recipe) -> str:
    """The digest of the code that a training runs through: its loss, its network, and this file."""
    return code_digest(fit, recipe.training, models.find(recipe.arch).make)


def first_state(recipe: Recipe, images: ImageSet, device: torch.device | str = "cpu") -> State:
    """The networks and optimisers of a recipe before the first update."""
    model = build_model(recipe, images).to(device)
    state = State(model, optimizer(recipe, model))
    if extra := recipe.training.helper(model, images.images[:1].to(device, recipe.dtype) / 255):
        state.helper, state.helper_optimizer = extra
    return state


def fit(
    recipe: Recipe,
    images: ImageSet,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    edited: bool = False,
    compile: bool | None = None,
    progress: bool = True,
) -> tuple[nn.Module, dict]:
    """Train by `recipe` on `images`; returns the model in eval mode and a record {history, seconds, steps, ...}.

    With `checkpoint` the state is saved there at every epoch's end and every `checkpoint_seconds`; a run that finds
    the file continues it and, on the CPU, ends with the same weights bit for bit as one that was never interrupted.
    A checkpoint that other training code wrote is put aside and the training begins anew, unless `edited` says to go
    on with it. `history` has, per epoch, means of the loss and its parts, the accuracy on what the loss saw, and
    what the `guard` found.

    Inside `distributed.joined` every process trains on its part of each batch: the weights are those of one process up
    to rounding, dropout apart, which each draws for itself. Without batch normalisation `micro_batch` does not change
    them either; with it the statistics are those of a part. `compile` None hands the steps to torch's compiler where
    that pays, a matter of recipe, data and device alone. Raises ValueError for a batch too small to be cut.
    """
    device, key, code = torch.device(device), recipe.key(images.fingerprint), training_code(recipe)
    images = images.to(device)
    state, leads = first_state(recipe, images, device), distributed.rank() == 0
    if checkpoint is not None and _continues(checkpoint, code, edited=edited):
        state.load(checkpoint, key=key)
    _check_start(state.step, device)
    per_epoch = _steps_per_epoch(recipe, images)
    if compile is None:
        x = images.images[:1].to(recipe.dtype) / 255
        updates = recipe.epochs * per_epoch * recipe.batch_size
        compile = compiled.pays(state.model, x, passes=updates * recipe.training.passes)
    compile = compile and distributed.world() == 1  # messages between processes cannot be traced
    watched = guard.probe(recipe.training, images, dtype=recipe.dtype, generator=generator(recipe.seed, "guard", 0))
    started, saved, earlier = time.monotonic(), time.monotonic(), state.seconds
    forked = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    label, shown = f"{recipe.label} on {recipe.dataset}", progress and leads
    bar = progress_bar(recipe.epochs * per_epoch, label, unit="update", shown=shown, initial=state.step)
    with bar as ticks, forked, arithmetic(recipe.precision, device):
        for step, x, y in _batches(recipe, images, per_epoch, start=state.step):
            rate, whole = learning_rate(recipe, step, per_epoch), len(x) == recipe.batch_size
            done = step / (recipe.epochs * per_epoch)
            train_step(recipe, state, x, y, rate, progress=done, compile=compile and whole)
            state.step = step + 1
            if ticks.update():
                means = state.means()
                ticks.set_postfix(loss=f"{means['loss']:.3f}", accuracy=f"{means['accuracy']:.1%}", refresh=False)
            if epoch_ends := state.step % per_epoch == 0:
                state.history.append(state.means() | _guarded(recipe, state, watched, done, tell=shown))
                state.totals = {}
            now = time.monotonic()  # after the totals: a GPU has then done what it was told
            state.seconds = earlier + now - started
            if checkpoint is not None and leads and (epoch_ends or now - saved >= checkpoint_seconds):
                state.save(checkpoint, key=key, code=code)
                saved = now
    record = {"history": state.history, "seconds": state.seconds, "steps": state.step, "code": code}
    return state.model.eval(), record | {"processes": distributed.world(), "compiled": compile}


def _guarded(recipe: Recipe, state: State, watched: Batch | None, done: float, *, tell: bool) -> dict:
    """What the guard sees at the end of an epoch, for the history; its warning goes there and to the reader.

    It looks with the whole ball, and so says nothing while the ball still grows.
    """
    if watched is None:
        return {}
    if state.step < SETTLED:
        return {"warning": ""}
    found = guard.look(recipe.training, state.model, watched)
    grown = recipe.training.at(done) == recipe.training
    told = guard.warning(recipe.training, found) if grown else ""
    if told and tell:
        print(f"epoch {len(state.history) + 1}: {told}", flush=True)
    return {"guard": found, "warning": told}


def _continues(checkpoint: Path, code: str, *, edited: bool) -> bool:
    """Whether there is a checkpoint to go on with; one of other code is put aside, by rank 0 for all."""
    if not checkpoint.exists():
        return False
    if edited or saved_code(checkpoint) == code:
        return True
    with distributed.first():
        if checkpoint.exists() and saved_code(checkpoint) != code:
            aside = checkpoint.with_name(f"{checkpoint.name}.of-other-code")
            print(f"the training code has changed since {checkpoint.name}: beginning anew, it is kept as {aside.name}")
            checkpoint.replace(aside)
    return False


def _check_start(step: int, device: torch.device) -> None:
    """All processes have read the checkpoint before one writes it, and it was one checkpoint."""
    steps = torch.tensor([step], device=device)
    distributed.add_up([steps])
    if steps.item() != distributed.world() * step:
        raise ValueError("the processes found different checkpoints; set ARTLIB_MODELS to a folder that all can see")


def _steps_per_epoch(recipe: Recipe, images: ImageSet) -> int:
    n = len(images)
    if recipe.per_class is not None:
        n = recipe.per_class * len(images.labels.unique())
    steps = math.ceil(n / recipe.batch_size)
    for size in {min(n, recipe.batch_size), n - (steps - 1) * recipe.batch_size}:  # the last batch may be smaller
        distributed.parts(size, recipe.micro_batch)
    return steps


def _batches(recipe: Recipe, images: ImageSet, per_epoch: int, *, start: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(step, x, y) from step `start` to the end; batches of a half-done epoch are drawn again and skipped."""
    for epoch in range(start // per_epoch, recipe.epochs):
        order = batches(
            images,
            recipe.batch_size,
            generator=generator(recipe.seed, "data", epoch),
            augment=AUGMENT[recipe.augment] if recipe.augment else None,
            per_class=recipe.per_class,
            dtype=recipe.dtype,
        )
        for i, (x, y) in enumerate(order):
            if epoch * per_epoch + i >= start:
                yield epoch * per_epoch + i, x, y


def train_step(
    recipe: Recipe, state: State, x: Tensor, y: Tensor, lr: float, *, progress: float = 1.0, compile: bool = False
) -> None:
    """One update of `state` at learning rate `lr`, by a batch x (N, C, H, W), y (N,) that all processes share.

    `progress`: the share of the training that is done.
    """
    state.model.train()
    training = recipe.training.at(progress)
    for group in state.optimizer.param_groups:
        group["lr"] = lr * group.get("factor", 1.0)
    if recipe.dropout:  # dropout draws from the global generator, in each process its own numbers
        stream = f"dropout{distributed.rank() or ''}"
        torch.manual_seed(int(generator(recipe.seed, stream, state.step).initial_seed()))
    start = training.start(x, generator=generator(recipe.seed, "attack", state.step))
    networks = [net for net in (state.model, state.helper) if net is not None]
    for net in networks:
        net.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    for part in distributed.parts(len(x), recipe.micro_batch):
        batch = Batch(state.model, x[part], y[part], start[part], len(x), state.helper, compile)
        for name, value in _backward(training, batch).items():
            sums[name] = sums[name] + value if name in sums else value
    distributed.add_up(p.grad for net in networks for p in net.parameters() if p.grad is not None)
    total = torch.stack(list(sums.values()))
    distributed.add_up([total])
    state.optimizer.step()
    if state.helper_optimizer is not None:
        state.helper_optimizer.step()
    state.add(dict(zip(sums, total, strict=True)))


def _backward(training: Training, batch: Batch) -> dict[str, Tensor]:
    """Add the gradients of a part of a batch; sums over its images of loss, parts of the loss, and correct ones."""
    losses = training.losses(batch)
    n, share = len(batch.x), len(batch.x) / batch.whole
    for net, loss in ((batch.model, losses.total), (batch.helper, losses.helper)):
        if net is not None:  # each loss leaves gradients in its own network alone
            weights = [p for p in net.parameters() if p.requires_grad]
            (loss * share).backward(inputs=weights, retain_graph=batch.helper is not None)
    found = {"loss": losses.total, **losses.parts}
    sums = {name: value.detach().double() * n for name, value in found.items()}
    correct = (losses.logits.detach().argmax(1) == batch.y).sum().double()
    return sums | {"correct": correct, "images": correct.new_full((), n)}
