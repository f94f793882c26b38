"""The shape that every training has: settings, and its loss on one batch."""

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artlib import compiled
from artlib.attacks.ascend import ascend
from artlib.attacks.balls import Linf
from artlib.models.statistics import frozen, normalised_by
from artlib.settings import NotNegative, Pixels, Settings, Share, Whole

PROTOCOLS = ("paper", "text", "authors")


@dataclass
class Batch:
    """What a loss is made of: a model in train mode, images x (N, C, H, W) in [0, 1], labels y (N,), and the rest.

    start: where an inner attack begins, `Training.start` of the whole batch; whole: its number of images, when x is a
    part of them; helper: the network that is trained beside the model, if there is one; compile: whether torch's
    compiler may have the parts of the loss.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    start: Tensor | None = None
    whole: int | None = None
    helper: nn.Module | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        self.start = self.x if self.start is None else self.start
        self.whole = self.whole or len(self.x)


class Losses(NamedTuple):
    """The mean loss of a batch, a scalar with its graph, the logits it saw, and its parts by their names.

    helper: what the helper network minimises, a scalar with its graph.
    """

    total: Tensor
    logits: Tensor
    parts: dict[str, Tensor] = {}  # noqa: RUF012
    helper: Tensor | None = None


@dataclass(frozen=True)
class Training(Settings):
    """What is minimised. A new one is a file with a subclass, and a line in `trainings.TRAININGS`."""

    name: ClassVar[str]  # of a row in a table, on the command line
    title: ClassVar[str]  # for readers
    color: ClassVar[str]  # in every figure
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # by data set: what the papers print
    recipes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # by data set: of a `Recipe` of its own
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # by protocol: where it departs from the defaults
    released: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # by data set: where "authors" departs once more

    @classmethod
    def of(cls, dataset: str, *, protocol: str = "paper", **changes: Any) -> Self:
        """The settings for a data set: the published ones, over them the protocol's, over them `changes`."""
        return cls(**{**cls.published.get(dataset, {}), **cls._switches(dataset, protocol), **changes})

    @classmethod
    def _switches(cls, dataset: str, protocol: str) -> dict[str, Any]:
        own = cls.released.get(dataset, {}) if protocol == "authors" else {}
        return {**cls.protocols.get(protocol, {}), **own}

    @property
    def label(self) -> str:
        """The name, with the number that a reader wants to see beside it: pgd-10."""
        return self.name

    @property
    def heading(self) -> str:
        """The title, with that number: PGD-10."""
        return self.title + self.label.removeprefix(self.name)

    @property
    def passes(self) -> float:
        """What an update costs an image, about, in forward passes."""
        return 3

    def eased(self, *, steps: int | None = None, warmup: float | None = None) -> Self:
        """The same with a cheaper inner attack, and one that grows, where there is one."""
        return self

    def at(self, progress: float) -> Self:
        """The settings when so large a share of the training is done, 0 to 1; the same throughout unless told."""
        return self

    def start(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        """Where the inner attack begins, for a whole batch; x itself where there is none."""
        return x

    def helper(self, model: nn.Module, x: Tensor) -> tuple[nn.Module, torch.optim.Optimizer] | None:
        """A network that is trained beside `model`, as JARN's discriminator, and its optimiser; x is one image."""
        return None

    def losses(self, batch: Batch) -> Losses:
        """The loss of one batch."""
        raise NotImplementedError


RADIUS = {"cub200": 2 / 255, "mnist": 0.3, "fashion_mnist": 0.1}  # ART, B.1; Chen et al.'s code; else 8/255


@dataclass(frozen=True)
class InnerAttack(Training):
    """A training that sees each image after an attack within an l_inf ball, started at a random point of it."""

    eps: Pixels = 8 / 255
    steps: Whole = 10
    step_size: NotNegative = 2 / 255
    statistics: Literal["running", "batch", "held"] = "running"  # of the attack: models.statistics, C-11
    warmup: Share = 0.0  # share of the training in which eps and step_size grow from 0; not in the papers

    @classmethod
    def of(cls, dataset: str, *, protocol: str = "paper", **changes: Any) -> Self:
        """As `Training.of`, with the data set's radius; a step that is not published keeps its share of it."""
        eps = RADIUS.get(dataset, cls.eps)
        published, switches = cls.published.get(dataset, {}), cls._switches(dataset, protocol)
        values = {**published, **switches}
        if "step_size" in switches or "step_size" not in published:
            values["step_size"] = values.get("step_size", cls.step_size) * eps / cls.eps
        return cls(**{"eps": eps, **values, **changes})

    @property
    def passes(self) -> float:
        """An ascent step is a forward and a backward pass without gradients of the weights: 2 F."""
        return 3 + 2 * self.steps

    def eased(self, *, steps: int | None = None, warmup: float | None = None) -> Self:
        """With at most so many steps, longer by as much as they are fewer, and a ball that grows over `warmup`."""
        n = self.steps if steps is None else min(steps, self.steps)
        step_size = self.step_size * self.steps / n if 0 < n < self.steps else self.step_size
        return replace(self, steps=n, step_size=step_size, warmup=self.warmup if warmup is None else warmup)

    def at(self, progress: float) -> Self:
        """With a smaller ball while the warm-up lasts."""
        if progress >= self.warmup:
            return self
        share = progress / self.warmup
        return replace(self, eps=share * self.eps, step_size=share * self.step_size)

    def start(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        """A uniformly random point of the ball around x."""
        return Linf(self.eps).random(x, generator=generator)

    def attacked(self, batch: Batch) -> Tensor:
        """The end of the inner attack, x_adv (N, C, H, W), in [0, 1] and in the ball around x."""
        raise NotImplementedError

    def raised(self, batch: Batch, x_adv: Tensor) -> Tensor:
        """What the attack raises, per image (N,), of the model in its present mode; the guard looks at it."""
        raise NotImplementedError

    @contextmanager
    def attacking(self, batch: Batch):
        """The model as the attack sees it: weights that need no gradient, normalised by `statistics` of the start."""
        with frozen(batch.model, training=None), normalised_by(self.statistics, batch.model, batch.start):
            yield

    def ascend(self, gradient: Callable[[Tensor], Tensor], batch: Batch) -> Tensor:
        """The end of the ascent, x_adv, inside `attacking`."""
        loop = dict(start=batch.start, ball=Linf(self.eps), steps=self.steps, step_size=self.step_size)
        return ascend(gradient, batch.x, **loop)


def cross_entropy(batch: Batch, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The mean cross-entropy of the batch, at x if given, a scalar with its graph, and the logits."""
    return compiled.loss(_cross_entropy, batch.model, batch.x if x is None else x, batch.y, compile=batch.compile)


def _cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    logits = model(x)
    return F.cross_entropy(logits, y), logits
