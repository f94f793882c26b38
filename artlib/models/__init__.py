"""Networks from pixels in [0, 1] to logits. A new one is a file and a line in `ARCHITECTURES`."""

import re

import torch
from torch import nn

from artlib.models import chen, resnet, resnet50, small_resnet, small_squeezenet, squeezenet, vgg, wide_resnet
from artlib.models.architecture import Architecture
from artlib.models.door import check_batch, checked
from artlib.models.layers import BatchNorm2d, Conv2d, Linear, Normalize, Standardize, layout
from artlib.models.statistics import STATISTICS, frozen, mode, normalised_by
from artlib.models.surrogate import Softplus, check_smooth, smooth

__all__ = [
    "ARCHITECTURES",
    "STATISTICS",
    "BatchNorm2d",
    "Conv2d",
    "Linear",
    "Normalize",
    "Softplus",
    "Standardize",
    "Wrapped",
    "build",
    "check_batch",
    "check_smooth",
    "checked",
    "find",
    "frozen",
    "mode",
    "normalised_by",
    "parameter_count",
    "smooth",
    "wrap",
]

ARCHITECTURES = (
    wide_resnet.WIDE_RESNET,
    wide_resnet.HALF,
    chen.CNN,
    chen.RESNET,
    resnet.RESNET,
    small_resnet.SMALL_RESNET,
    small_squeezenet.SMALL_SQUEEZENET,
    squeezenet.SQUEEZENET,
    squeezenet.PRETRAINED,
    resnet50.RESNET50,
    resnet50.SE,
    resnet50.PRETRAINED,
    vgg.VGG,
    vgg.PRETRAINED,
)


class Wrapped(nn.Sequential):
    """`Normalize`, then a network: a classifier of pixels that knows its own mean and standard deviation."""

    @property
    def normalization(self) -> Normalize:
        """The first layer; whoever needs normalised values (DIFFERENCES.md, C-4) asks the model for it."""
        return self[0]


def wrap(net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> Wrapped:
    """A network of normalised images as a classifier of pixels in [0, 1]: x -> net((x - mean) / std).

    `mean` and `std` are one number per channel, in pixel units. Raises ValueError when they are not, or lie outside
    [0, 1], std above 0.

    >>> import torch
    >>> from artlib import models
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))  # of normalised images
    >>> pixels = models.wrap(net, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    >>> pixels(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 10])
    """
    try:
        mean, std = tuple(map(float, mean)), tuple(map(float, std))
        fits = 0 < len(mean) == len(std) and min(mean) >= 0 and max(*mean, *std) <= 1 and min(std) > 0
    except TypeError:
        fits = False
    if not fits:
        raise ValueError(
            f"mean {mean} and std {std} must have one number per channel, from 0 to 1 as pixels are here, std above 0"
        )
    layers = net if type(net) is nn.Sequential else [net]
    wrapped = Wrapped(Normalize(mean, std), *layers)
    weight = next(net.parameters(), None)
    if weight is not None:
        wrapped[0].to(weight.device, weight.dtype)
    return wrapped


def build(
    arch: str,
    num_classes: int,
    *,
    in_channels: int = 3,
    size: int = 32,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
    weights: bool = True,
) -> Wrapped:
    """A freshly initialised network from pixels in [0, 1], (N, in_channels, size, size), to logits (N, num_classes).

    `mean` and `std` (default 0 and 1) are one number per channel, in pixel units. Weights are drawn uniformly with the
    variance of He et al. 2015 from `generator` (default: seed 0). The network is in eval mode. Without
    `weights` a network of public ones does not look for them: whoever has its own puts them in. Raises ValueError for
    an unknown architecture.

    >>> from artlib import models
    >>> net = models.build("wrn-10-1", 10)
    >>> models.parameter_count(net)
    77850
    """
    mean, std = mean or (0.0,) * in_channels, std or (1.0,) * in_channels
    if not len(mean) == len(std) == in_channels:
        raise ValueError(f"mean {mean} and std {std} must have one number for each of {in_channels} channels")
    family = find(arch)
    numbers = map(int, re.fullmatch(family.pattern, arch).groups())
    options = dict(num_classes=num_classes, in_channels=in_channels, size=size, dropout=dropout)
    with torch.random.fork_rng(devices=[]):  # constructors draw from the global generator; nobody else should notice
        make = family.make if weights else family.layers or family.make
        net = make(*numbers, **options).double()
    model = wrap(net, mean, std)
    _initialise(model, generator or torch.Generator().manual_seed(0))
    return model.to(dtype, memory_format=layout(dtype)).eval()


def find(arch: str) -> Architecture:
    """The family of `ARCHITECTURES` that has this name; ValueError where none has."""
    for family in ARCHITECTURES:
        if re.fullmatch(family.pattern, arch):
            return family
    raise ValueError(f"unknown architecture {arch!r}; choose one of {', '.join(f.names for f in ARCHITECTURES)}")


def _initialise(model: nn.Module, generator: torch.Generator) -> None:
    # Uniform, not normal: torch's normal generator gives other last digits under other instruction sets.
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan = module.weight[0].numel()
            bound = (6 / fan) ** 0.5 if isinstance(module, nn.Conv2d) else (3 / fan) ** 0.5
            draw = torch.rand(module.weight.shape, generator=generator, dtype=torch.float64)
            module.weight.data = (2 * draw - 1) * bound
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def parameter_count(model: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(p.numel() for p in model.parameters())
