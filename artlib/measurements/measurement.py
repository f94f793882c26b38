"""The shape that every measurement of a trained model has: settings, and values per image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from artlib.data.images import ImageSet, batches
from artlib.models.statistics import mode
from artlib.settings import Count, Settings, Whole


@dataclass(frozen=True)
class Metric:
    """A column that tables show: its heading, the unit of its values times `scale`, and what values it can have."""

    title: str
    unit: str = "%"
    scale: float = 100.0
    bounds: tuple[float, float] = (0.0, 1.0)
    paired: bool = False  # every model is measured on the same images in the same order


@dataclass(frozen=True)
class Measurement(Settings):
    """What is asked of a model, per image. A new one is a file with a subclass, and a line in `MEASUREMENTS`."""

    name: ClassVar[str]
    title: ClassVar[str]
    metrics: ClassVar[Mapping[str, Metric]]  # by column
    details: ClassVar[Mapping[str, Metric]] = {}  # by column: those that only tables that ask for them show
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # by data set: what the papers print
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # by protocol: where it departs from the defaults
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # by preset: what makes it cheaper
    loops: ClassVar[Mapping[str, int]] = {}  # fields that cost grows with, linearly, and their least value

    images: Count | None = None  # how many are measured; None: all
    seed: Whole = 0  # of the order of the images, and of all that is drawn

    @classmethod
    def of(cls, dataset: str, *, protocol: str = "paper", preset: str = "paper", **changes: Any) -> Self:
        """The settings for a data set: the published ones, over them the protocol's, the preset's, and `changes`."""
        sources = (cls.published.get(dataset, {}), cls.protocols.get(protocol, {}), cls.presets.get(preset, {}))
        return cls(**{k: v for source in (*sources, changes) for k, v in source.items()})

    @property
    def parts(self) -> tuple[object, ...]:
        """What else its code runs through: functions that are looked up by name."""
        return ()

    @property
    def rows(self) -> int:
        """How many images of 32x32 pass through the network together."""
        return 250

    def count(self, available: int) -> int:
        """How many of so many images are measured."""
        return min(self.images or available, available)

    def __call__(self, model: nn.Module, images: ImageSet, *, progress: bool = True) -> dict[str, Tensor]:
        """`columns`, with the model in eval mode; its modes are put back."""
        with mode(model):
            return self.columns(model, images, progress=progress)

    def columns(self, model: nn.Module, images: ImageSet, *, progress: bool) -> dict[str, Tensor]:
        """Columns (n,), float or int, "index" among them: the place of each measured image in `images`."""
        raise NotImplementedError


def shuffled(images: ImageSet, measurement: Measurement) -> Tensor:
    """The places of the measured images, in a fixed random order: the same for every model."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(measurement.seed))
    return order[: measurement.images]


def at_once(rows: int, images: ImageSet) -> int:
    """As many images as fill the memory of `rows` of 32x32."""
    return max(1, rows * 1024 // max(1024, images.images[0, 0].numel() if len(images) else 0))


def floats(model: nn.Module, images: ImageSet) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) in [0, 1], in the dtype of the model, and labels (N,)."""
    return images.images.to(next(model.parameters()).dtype) / 255, images.labels


@torch.no_grad()
def predictions(model: nn.Module, images: ImageSet, *, batch_size: int | None = None) -> Tensor:
    """Predicted classes (N,) of a data set, on its device; the model is in eval mode meanwhile.

    `batch_size` None is 500 for images of 32x32, and fewer for larger ones.
    """
    batch_size = batch_size or at_once(500, images)
    dtype = next(model.parameters()).dtype
    with mode(model):
        found = [model(x).argmax(1) for x, _ in batches(images, batch_size, dtype=dtype)]
    return torch.cat(found) if found else images.labels[:0]


def first_correct(models: Mapping[str, nn.Module], images: ImageSet) -> ImageSet:
    """The first image that every model classifies correctly, as a set of one; ValueError if there is none."""
    right = torch.stack([predictions(m, images) == images.labels for m in models.values()]).all(0).nonzero()
    if not len(right):
        raise ValueError(f"none of {len(images)} images is classified correctly by all of {', '.join(models)}")
    return images.subset(right[0])
