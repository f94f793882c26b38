"""A `Recipe` says everything about one training, and its key stands for it in a file's name."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from artlib import models
from artlib.data import AUGMENT
from artlib.settings import Count, NotNegative, Positive, Settings, Share, Whole
from artlib.trainings.natural import Natural
from artlib.trainings.training import PROTOCOLS, Training

Precision = Literal["float64", "float32", "tf32", "bf16"]
PRECISIONS = get_args(Precision)


@dataclass(frozen=True)
class Recipe(Settings):
    """One training, completely: two recipes with the same `key` and the same data give the same weights on one CPU.

    Another processor rounds otherwise, and a training in float32 lets that grow: a row of `grids.factorial` moved by
    ten points of IN.
    Defaults are the paper's for CIFAR-10 (ART, appendix A.3.2).
    """

    dataset: str = "cifar10"
    training: Training = field(default_factory=Natural)
    arch: str = "wrn-28-10"
    size: Count | None = None  # pixels; None: the data set's own
    limit: Count | None = None  # training images; None: all
    epochs: Count = 100
    batch_size: Count = 256  # C-7: the code uses 234
    micro_batch: Count | None = None  # images at once, all processes together: those BN sees; None: the batch
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: Positive = 0.1  # per step, whatever the batch
    last_factor: Positive = 1.0  # times lr, for the last block and the classifier; C-31: the code uses 10
    schedule: Literal["step", "cosine", "one-cycle"] = "step"
    milestones: tuple[tuple[int, float], ...] = ((50, 0.1), (80, 0.1), (150, 0.5))  # epoch, factor; C-9
    momentum: Share = 0.9
    nesterov: bool = False  # C-6: the code uses True
    weight_decay: NotNegative = 2e-4
    augment: str | None = None  # a name in data.AUGMENT; C-8
    per_class: Count | None = None  # images a class an epoch, drawn by resampling
    dropout: Share = 0.0  # C-10: the code uses 0.1
    seed: Whole = 0
    precision: Precision = "float32"  # "float64", or weights in float32, products in "tf32" (a GPU's) or "bf16"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not models.find(self.arch).last and self.last_factor != 1:
            known = ", ".join(a.names for a in models.ARCHITECTURES if a.last)
            raise ValueError(
                f"last_factor is {self.last_factor:g}, but {self.arch} does not name its last block: choose 1, or one "
                f"of {known}"
            )
        if self.augment is not None and self.augment not in AUGMENT:
            raise ValueError(f"unknown augment {self.augment!r}; choose one of {', '.join(AUGMENT)}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}; batch normalisation needs at least 2 images")
        if self.micro_batch is not None and self.micro_batch > self.batch_size:
            raise ValueError(f"micro_batch {self.micro_batch} must be None or from 1 to batch_size, {self.batch_size}")
        if self.optimizer == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("momentum is 0; nesterov=True needs a momentum above 0")

    @property
    def label(self) -> str:
        """The row of a table this training belongs to: natural, pgd-10, art."""
        return self.training.label

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, images and losses."""
        return torch.float64 if self.precision == "float64" else torch.float32

    def relevant(self) -> dict[str, Any]:
        """The differences from the defaults that can change the weights."""
        unused = {"milestones"} if self.schedule != "step" else set()
        unused |= {"momentum", "nesterov"} if self.optimizer == "adam" else set()
        return {k: v for k, v in self.differences().items() if k not in unused}

    def key(self, fingerprint: str) -> str:
        """12 hex digits that stand for `relevant()` and the data's fingerprint."""
        text = json.dumps([self.relevant(), fingerprint], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


# ART, appendix A.3. MNIST and Fashion-MNIST are not in it: theirs is Chen et al.'s of 2019, 100,000 updates, of
# natural training, too, which has 25,000 there. What the papers print about one training alone is with the training.
DIGITS = dict(arch="rar-cnn", batch_size=50, epochs=83, optimizer="adam", lr=1e-4, milestones=(), weight_decay=0.0)
PUBLISHED = {
    "svhn": dict(arch="wrn-40-2", epochs=200),
    "gtsrb": dict(
        batch_size=128, epochs=12, milestones=((4, 0.1), (6, 0.1), (10, 0.5)), augment="gtsrb", per_class=10_000
    ),
    "flower17": dict(
        batch_size=128, epochs=68, milestones=((15, 0.1), (35, 0.1), (50, 0.5)), augment="flower17", per_class=1_000
    ),
    "mnist": DIGITS,
    "fashion_mnist": DIGITS,
}
AUTHORS_SCHEDULE = dict(  # of CIFAR-10
    batch_size=234,
    epochs=101,
    milestones=((50, 0.1), (80, 0.1)),  # C-9: what is reachable of it
    augment="cifar10",
)
AUTHORS = dict(nesterov=True, dropout=0.1)
AUTHORS_CUB = dict(last_factor=10.0, dropout=0.0)  # of networks that name their last block; they have no dropout


def paper_recipe(dataset: str, training: str | Training, *, protocol: str = "paper", **changes: Any) -> Recipe:
    """The recipe of `training` on `dataset` by a protocol: "paper", "text" (ART's text at its barest), "authors".

    Data sets that the paper does not have get CIFAR-10's. The authors' code has ART on CIFAR-10 alone; over other data
    sets and trainings its switches are laid all the same, which is ours. `training` is a name in `TRAININGS`, or
    settings. Raises ValueError for unknown names, and for CUB without an `arch`: B.1 trains several networks (Table 2),
    each with schedules that `presets` has.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    if not isinstance(training, Training):
        training = find(training).of(dataset, protocol=protocol)
    if dataset == "cub200" and "arch" not in changes:
        raise ValueError(
            "cub200 has several published networks, ResNet-50 and VGG (Table 2): name an arch, such as resnet50-stride1"
        )
    values = {**PUBLISHED.get(dataset, {}), **training.recipes.get(dataset, {})}
    if protocol == "authors":
        values |= AUTHORS | (AUTHORS_SCHEDULE if dataset == "cifar10" else {})
        values |= AUTHORS_CUB if dataset == "cub200" and models.find(changes["arch"]).last else {}
    return Recipe(**{"dataset": dataset, "training": training, **values, **changes})


def authors_rows(recipe: Recipe) -> dict[str, bool] | None:
    """Which of C-7 (batch), C-8 (augmentation) and C-9 (schedule) a recipe has from the authors' code for CIFAR-10.

    A preset may lay its own over them. None for a recipe that is not the authors': that protocol's `AUTHORS` tell it.
    """
    if any(getattr(recipe, name) != value for name, value in AUTHORS.items()):
        return None
    code = paper_recipe("cifar10", recipe.training, protocol="authors")
    fields = {"C-7": ("batch_size",), "C-8": ("augment",), "C-9": ("epochs", "schedule", "milestones")}
    return {row: all(getattr(recipe, f) == getattr(code, f) for f in names) for row, names in fields.items()}


def find(name: str) -> type[Training]:
    """The training of that name; ValueError for an unknown one."""
    from artlib.trainings import TRAININGS

    if name not in TRAININGS:
        raise ValueError(f"unknown training {name!r}; choose one of {', '.join(TRAININGS)}")
    return TRAININGS[name]
