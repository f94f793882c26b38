"""Training: a `Recipe` says everything, `fit` follows it and loses at most a minute when it is killed."""

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from artlib import compiled, distributed, models, objectives
from artlib.attacks import Linf
from artlib.data import AUGMENT, SETS, ImageSet, batches, mean_std
from artlib.objectives import ArtSettings

TRAININGS = ("natural", "pgd", "art")
SCHEDULES = ("step", "cosine", "one-cycle")
PRECISIONS = ("float64", "float32", "tf32", "bf16")


@dataclass(frozen=True)
class Recipe:
    """One training, completely: on the CPU, two recipes with the same `key` and the same data give the same weights.

    Defaults are the paper's for CIFAR-10 (ART, appendix A.3.2). Pixel quantities are in units of [0, 1].
    """

    dataset: str = "cifar10"
    training: str = "natural"
    arch: str = "wrn-28-10"
    size: int | None = None  # pixels; None: the data set's own
    limit: int | None = None  # training images; None: all
    epochs: int = 100
    batch_size: int = 256  # C-7: the code uses 234
    micro_batch: int | None = None  # images at once, all processes together: those BN sees; None: the batch
    lr: float = 0.1  # per step, whatever the batch
    schedule: str = "step"
    milestones: tuple[tuple[int, float], ...] = ((50, 0.1), (80, 0.1), (150, 0.5))  # epoch, factor; C-9
    momentum: float = 0.9
    nesterov: bool = False  # C-6: the code uses True
    weight_decay: float = 2e-4
    augment: str | None = None  # a name in data.AUGMENT; C-8
    per_class: int | None = None  # images a class an epoch, drawn by resampling
    dropout: float = 0.0  # C-10: the code uses 0.1
    eps: float = 8 / 255  # radius of the l_inf ball of both inner attacks
    pgd_steps: int = 10
    pgd_step_size: float = 2 / 255
    pgd_train_mode: bool = False  # batch statistics inside the inner attack
    art: ArtSettings = field(default_factory=ArtSettings)
    seed: int = 0
    precision: str = "float32"  # "float64", or weights in float32, products in "tf32" (a GPU's) or "bf16"

    def __post_init__(self) -> None:
        for name, allowed in (("training", TRAININGS), ("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose one of {', '.join(allowed)}")
        if self.augment is not None and self.augment not in AUGMENT:
            raise ValueError(f"unknown augment {self.augment!r}; choose one of {', '.join(AUGMENT)}")
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(f"epochs {self.epochs} must be at least 1, batch_size {self.batch_size} at least 2")
        if self.micro_batch is not None and self.micro_batch not in range(1, self.batch_size + 1):
            raise ValueError(f"micro_batch {self.micro_batch} must be None or from 1 to batch_size, {self.batch_size}")

    @property
    def label(self) -> str:
        """The row of a table this training belongs to: natural, pgd-10, art."""
        return f"pgd-{self.pgd_steps}" if self.training == "pgd" else self.training

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, images and losses."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def relevant(self) -> dict:
        """The fields that can change the weights: a natural training has no attack, PGD no ART constants."""
        values = asdict(self)
        if self.training != "art":
            del values["art"]
        if self.training != "pgd":
            values = {k: v for k, v in values.items() if not k.startswith("pgd_")}
        if self.training == "natural":
            del values["eps"]
        if self.schedule != "step":
            del values["milestones"]
        if self.micro_batch is None:
            del values["micro_batch"]
        return values

    def key(self, fingerprint: str) -> str:
        """12 hex digits that stand for `relevant()` and the data's fingerprint."""
        text = json.dumps([self.relevant(), fingerprint], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


# Appendix A.3 of ART, and B.1 for the attacks on CUB. MNIST and Fashion-MNIST are not in it: architecture, eps and PGD
# are Chen et al.'s (facts §2), the optimiser stays ART's.
PAPER_TRAINING = {
    "cifar10": dict(),
    "svhn": dict(arch="wrn-40-2", epochs=200, pgd_steps=7, pgd_step_size=2.5 / 255),
    "gtsrb": dict(
        batch_size=128,
        epochs=12,
        milestones=((4, 0.1), (6, 0.1), (10, 0.5)),
        augment="gtsrb",
        per_class=10_000,
        pgd_steps=7,
        pgd_step_size=2 / 255,
    ),
    "flower17": dict(
        batch_size=128,
        epochs=68,
        milestones=((15, 0.1), (35, 0.1), (50, 0.5)),
        augment="flower17",
        per_class=1_000,
        pgd_steps=7,
        pgd_step_size=2.5 / 255,
    ),
    "cub200": dict(eps=2 / 255, pgd_steps=7, pgd_step_size=0.5 / 255),
    "mnist": dict(arch="rar-cnn", eps=0.3, pgd_steps=40, pgd_step_size=0.01),
    "fashion_mnist": dict(arch="rar-cnn", eps=0.1, pgd_steps=20, pgd_step_size=0.01),
}
AUTHORS_TRAINING = dict(
    batch_size=234,
    epochs=101,
    milestones=((50, 0.1), (80, 0.1)),  # C-9: what is reachable of it
    nesterov=True,
    augment="cifar10",
    dropout=0.1,
    pgd_train_mode=True,
)


def paper_recipe(dataset: str, training: str, *, protocol: str = "paper", **changes) -> Recipe:
    """The recipe of `training` on `dataset` by ART's text ("paper") or by its code ("authors", facts C-1 to C-16).

    Data sets that the paper does not have get CIFAR-10's. The authors' code trains on CIFAR-10 alone; on other data
    sets its switches are laid over that data set's own schedule. Raises ValueError for unknown names.
    """
    values, art = dict(PAPER_TRAINING.get(dataset, {})), objectives.art_settings(protocol)
    # Where ART or its code has no step for a radius, its step keeps its share of it; CUB's is printed: 1.5/255 in B.1.
    scale = 1 if (dataset, protocol) == ("cub200", "paper") else values.get("eps", Recipe.eps) / Recipe.eps
    values["art"] = replace(art, step_size=art.step_size * scale)
    if protocol == "authors":
        schedule = ("batch_size", "epochs", "milestones", "augment")
        own = {k: v for k, v in AUTHORS_TRAINING.items() if dataset == "cifar10" or k not in schedule}
        values |= own
    return Recipe(**{"dataset": dataset, "training": training, **values, **changes})


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


def build_model(recipe: Recipe, images: ImageSet) -> nn.Module:
    """The untrained network of a recipe; the normalisation is the paper's where published, else the images' own."""
    info = SETS.get(recipe.dataset)
    published = info is not None and info.mean is not None
    mean, std = (info.mean, info.std) if published else mean_std(images)
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
    )


def loss_of(
    recipe: Recipe, model: nn.Module, x: Tensor, y: Tensor, *, start: Tensor, batch: int, compile: bool = False
) -> tuple[Tensor, ...]:
    """The mean training loss of a part of a batch of `batch` images (a scalar with its graph), L_attr and the logits.

    L_attr is 0 where there is none; natural training has no use for `start`.
    """
    if recipe.training == "art":
        options = dict(settings=recipe.art, eps=recipe.eps, start=start, batch=batch, compile=compile)
        return objectives.art_step(model, x, y, **options)
    if recipe.training == "pgd":
        x = objectives.pgd_attack(
            model,
            x,
            y,
            eps=recipe.eps,
            start=start,
            steps=recipe.pgd_steps,
            step_size=recipe.pgd_step_size,
            train_mode=recipe.pgd_train_mode,
            compile=compile,
        )
    loss, logits = objectives.natural_step(model, x, y, compile=compile)
    return loss, torch.zeros((), dtype=x.dtype, device=x.device), logits


@dataclass
class State:
    """Everything a training remembers between two updates."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    seconds: float = 0.0
    totals: Tensor = field(init=False)  # loss, L_attr, correct, images of the epoch so far
    history: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.totals = torch.zeros(4, dtype=torch.float64, device=next(self.model.parameters()).device)

    def tensors(self) -> dict[str, Tensor]:
        """Weights, statistics and momenta by name, contiguous on the CPU."""
        out = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        for name, p in self.model.named_parameters():
            if "momentum_buffer" in self.optimizer.state[p]:
                out[f"momentum.{name}"] = self.optimizer.state[p]["momentum_buffer"]
        out["totals"] = self.totals
        return {k: v.detach().cpu().contiguous() for k, v in out.items()}

    def save(self, path: Path, *, key: str) -> None:
        """Write the checkpoint under a temporary name and rename it: a reader sees the old one or the new one."""
        meta = json.dumps({"key": key, "step": self.step, "seconds": self.seconds, "history": self.history})
        write_tensors(path, self.tensors(), {"state": meta})

    def load(self, path: Path, *, key: str) -> None:
        """Take up what `save` wrote; ValueError if that was another recipe or other data."""
        tensors, meta = read_tensors(path)
        saved = json.loads(meta["state"])
        if saved["key"] != key:
            raise ValueError(f"{path} is the checkpoint of another training; delete it or name another file")
        self.step, self.seconds, self.history = saved["step"], saved["seconds"], saved["history"]
        self.totals = tensors.pop("totals").to(self.totals)
        self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        for name, p in self.model.named_parameters():
            if f"momentum.{name}" in tensors:
                momentum = torch.empty_like(p).copy_(tensors[f"momentum.{name}"])
                self.optimizer.state[p]["momentum_buffer"] = momentum


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file whole or not at all. Raises PermissionError naming the folder that cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):  # the folder itself may be missing
            temporary.unlink()
        raise PermissionError(f"cannot write {path}: {error}; set ARTLIB_MODELS to a folder that can be") from None


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a safetensors file; ValueError naming the file when it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, file.metadata()
    except OSError:
        raise  # missing or unreadable, and its message says so
    except Exception as error:  # safetensors raises its own, undocumented class
        raise ValueError(f"{path} is damaged ({error}); delete it and run again") from None


def fit(
    recipe: Recipe,
    images: ImageSet,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 60.0,
    compile: bool | None = None,
    progress: bool = True,
) -> tuple[nn.Module, dict]:
    """Train by `recipe` on `images`; returns the model in eval mode and a record {history, seconds, steps, ...}.

    With `checkpoint` the state is saved there at every epoch's end and every `checkpoint_seconds`; a run that finds
    the file continues it and, on the CPU, ends with the same weights bit for bit as one that was never interrupted.
    `history` has, per epoch, the mean loss, mean L_attr and accuracy on the batches as the loss saw them.

    Inside `distributed.joined` every process trains on its part of each batch: the weights are those of one process up
    to rounding, dropout apart, which each draws for itself. Without batch normalisation `micro_batch` does not change
    them either; with it the statistics are those of a part. `compile` None hands the steps to torch's compiler where
    that pays, a matter of recipe, data and device alone. Raises ValueError for a batch too small to be cut.
    """
    device = torch.device(device)
    images, key = images.to(device), recipe.key(images.fingerprint)
    model = build_model(recipe, images).to(device)
    momentum = dict(momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=recipe.weight_decay)
    state = State(model, torch.optim.SGD(model.parameters(), lr=recipe.lr, **momentum))
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint, key=key)
    _check_start(state.step, device)
    per_epoch, leads = _steps_per_epoch(recipe, images), distributed.rank() == 0
    quiet = not (progress and leads)
    if compile is None:
        compile = _compiling_pays(recipe, model, images, per_epoch)
    compile = compile and distributed.world() == 1  # messages between processes cannot be traced
    bar = tqdm(total=recipe.epochs * per_epoch, initial=state.step, disable=quiet, file=sys.stdout, mininterval=1)
    bar.set_description(f"{recipe.label} on {recipe.dataset}")
    started = saved = time.monotonic()
    earlier = state.seconds
    forked = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    with forked, arithmetic(recipe.precision, device):
        for step, x, y in _batches(recipe, images, per_epoch, start=state.step):
            train_step(
                recipe,
                state,
                x,
                y,
                learning_rate(recipe, step, per_epoch),
                compile=compile and len(x) == recipe.batch_size,
            )
            state.step = step + 1
            if bar.update() and state.totals[3] > 0:
                loss, _, correct, n = state.totals.tolist()
                bar.set_postfix(loss=f"{loss / n:.3f}", accuracy=f"{correct / n:.1%}", refresh=False)
            epoch_ends = state.step % per_epoch == 0
            if epoch_ends:
                loss, attr, correct, n = state.totals.tolist()
                state.history.append({"loss": loss / n, "attribution_loss": attr / n, "accuracy": correct / n})
                state.totals.zero_()
            now = time.monotonic()  # after the totals: a GPU has then done what it was told
            state.seconds = earlier + now - started
            if checkpoint is not None and leads and (epoch_ends or now - saved >= checkpoint_seconds):
                state.save(checkpoint, key=key)
                saved = now
    bar.close()
    record = {"history": state.history, "seconds": state.seconds, "steps": state.step}
    return model.eval(), record | {"processes": distributed.world(), "compiled": compile}


def _compiling_pays(recipe: Recipe, model: nn.Module, images: ImageSet, per_epoch: int) -> bool:
    inner = {"natural": 0, "pgd": 2 * recipe.pgd_steps, "art": 6 * recipe.art.attack_steps + 9}[recipe.training]
    x = images.images[:1].to(recipe.dtype) / 255
    return compiled.pays(model, x, passes=recipe.epochs * per_epoch * recipe.batch_size * (inner + 3))


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


def train_step(recipe: Recipe, state: State, x: Tensor, y: Tensor, lr: float, *, compile: bool = False) -> None:
    """One update of `state` at learning rate `lr`, by a batch x (N, C, H, W), y (N,) that all processes share."""
    model, optimizer = state.model.train(), state.optimizer
    for group in optimizer.param_groups:
        group["lr"] = lr
    if recipe.dropout:  # dropout draws from the global generator, in each process its own numbers
        stream = f"dropout{distributed.rank() or ''}"
        torch.manual_seed(int(generator(recipe.seed, stream, state.step).initial_seed()))
    start = x
    if recipe.training != "natural":
        start = Linf(recipe.eps).random(x, generator=generator(recipe.seed, "attack", state.step))
    sums = torch.zeros_like(state.totals)
    optimizer.zero_grad(set_to_none=True)
    for part in distributed.parts(len(x), recipe.micro_batch):
        loss, attr, logits = loss_of(recipe, model, x[part], y[part], start=start[part], batch=len(x), compile=compile)
        n, correct = len(logits), (logits.detach().argmax(1) == y[part]).sum()
        (loss * (n / len(x))).backward()
        sums[:3] += torch.stack([loss.detach().double() * n, attr.detach().double() * n, correct.double()])
        sums[3] += n
    distributed.add_up(p.grad for p in model.parameters() if p.grad is not None)
    distributed.add_up([sums])
    optimizer.step()
    state.totals += sums
