"""A small SqueezeNet, of torchvision's modules, which small images and a minute on a CPU are enough to train."""

from itertools import pairwise

from torch import nn

from artlib.models.adapted import adapted
from artlib.models.architecture import Architecture
from artlib.models.layers import MeanPool

WIDTHS = (32, 64, 64, 128, 128)  # channels of its first convolution, of its fire modules


def small(*, num_classes: int, in_channels: int = 3, size: int = 32, dropout: float = 0.0) -> nn.Sequential:
    """Four of torchvision's fire modules, of `WIDTHS` channels, between SqueezeNet's poolings; logits are a mean.

    As in SqueezeNet a squeeze has an eighth of a module's channels, 1x1 and 3x3 half of them each, and the last
    convolution makes a map a class, 7 x 7 of 28 pixels. Other than there the first has stride 1, there are two
    poolings, batch normalisation after each module, and no ReLU after the last convolution. `dropout` is before it.
    """
    from torchvision.models.squeezenet import Fire

    layers = [nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()]
    for n, (i, o) in enumerate(pairwise(WIDTHS)):
        layers += [nn.MaxPool2d(3, 2, ceil_mode=True)] * (n in (0, 2))
        layers += [Fire(i, o // 8, o // 2, o // 2), nn.BatchNorm2d(o)]
    layers += [nn.Dropout(dropout)] * (dropout > 0)
    return adapted(nn.Sequential(*layers, nn.Conv2d(WIDTHS[-1], num_classes, 1), MeanPool()))


SMALL_SQUEEZENET = Architecture("squeezenet-small", "squeezenet-small", small)
