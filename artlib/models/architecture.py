"""What a file of networks hands to the list in `artlib.models`."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Architecture:
    """A family of networks: the pattern of its names, how a reader is told of them, and what makes one.

    `make(*numbers, num_classes=, in_channels=, size=, dropout=)` returns the network from normalised images to logits;
    `numbers` are the integers that the groups of `pattern` match, `size` is the images' side in pixels. `last`: where
    the names of the parameters of the last block and the classifier begin, for `Recipe.last_factor`. `layers`: the same
    without public weights, where `make` loads some.
    """

    pattern: str
    names: str
    make: Callable[..., nn.Module]
    last: tuple[str, ...] = ()
    layers: Callable[..., nn.Module] | None = None
