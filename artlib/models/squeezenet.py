"""SqueezeNet 1.0 and 1.1 (Iandola et al. 2016) as torchvision has them, drawn anew or with public ImageNet weights.

And a small one of the same modules, which small images and a minute on a CPU are enough to train.
"""

from itertools import pairwise

import torch
from torch import nn

from artlib import paths
from artlib.models import public
from artlib.models.adapted import GivenConv2d, adapted, check_colour, given
from artlib.models.architecture import Architecture
from artlib.models.layers import MeanPool

WIDTHS = (32, 64, 64, 128, 128)  # channels of the small one: of its first convolution, of its fire modules
CAFFE = 58.0  # grey levels in a standard deviation of ImageNet's pixels: how much larger Caffe's activations are
SMALLEST = {0: 21, 1: 17}  # pixels; below them nothing is left after three poolings


def squeezenet(version: int, num_classes: int, *, in_channels: int = 3, size: int = 224, dropout: float = 0.0):
    """torchvision's SqueezeNet 1.`version` with its keys, its convolutions twice differentiable at first-order cost.

    Its logits are means of a ReLU's outputs, so none is below 0. `dropout` is before the last convolution (the
    published networks were trained with 0.5). Raises ValueError for images that three poolings leave nothing of.
    """
    from torchvision.models import SqueezeNet

    if size < SMALLEST[version]:
        raise ValueError(f"squeezenet1_{version} needs images of at least {SMALLEST[version]} pixels, not {size}")
    net = SqueezeNet(f"1_{version}", num_classes, dropout)
    if in_channels != 3:
        first = net.features[0]
        net.features[0] = nn.Conv2d(in_channels, first.out_channels, first.kernel_size, first.stride)
    net.classifier[3] = MeanPool()
    return adapted(net)


def pretrained(version: int, num_classes: int, *, in_channels: int = 3, size: int = 224, dropout: float = 0.0):
    """The same with public ImageNet weights in all layers but the last, which is new.

    They are those of the file below `paths.DATA`, else torchvision's own, another training (`public.imagenet`). Caffe's
    were trained on pixels from 0 to 255, so activations are in the hundreds, and gradient steps of any usual size throw
    them away: the first layer (standard deviation 14 and 6 in 1.1 and 1.0) and all biases are divided by `CAFFE`. Every
    activation is, too, since ReLUs, convolutions and poolings scale, and nothing else changes. Torchvision's were
    trained on normalised pixels, and stay as they are.

    The new layer has no ReLU behind it: with one, a class whose map is 0 everywhere has no gradient and never comes
    back. So its logits are those of the mean and a linear layer. The weights expect ImageNet's mean and standard
    deviation. Raises what `public.load` and `public.imagenet` do where they cannot be had, and ValueError for images
    without three channels.
    """
    check_colour(f"squeezenet1_{version}-pretrained", in_channels)
    net = _fine_tuned(version, num_classes, in_channels=in_channels, size=size, dropout=dropout)
    name = f"squeezenet1_{version}"
    if (paths.DATA / public.PUBLIC[name].file).exists():
        net.features = public.load(name)[1].features
    else:
        weights = public.imagenet(name).items()
        net.features.load_state_dict({k.removeprefix("features."): v for k, v in weights if k.startswith("features.")})
    given(net.features)
    if net.features[0].weight.std() > 1:
        with torch.no_grad():
            net.features[0].weight /= CAFFE
            for module in net.features.modules():
                if isinstance(module, GivenConv2d):
                    module.bias /= CAFFE
    return net


def _fine_tuned(version: int, num_classes: int, **options) -> nn.Module:
    net = squeezenet(version, num_classes, **options)
    net.classifier[2] = nn.Identity()
    return net


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


LAST = ("features.12.", "classifier.")
SQUEEZENET = Architecture(r"squeezenet1_([01])", "squeezenet1_0, squeezenet1_1", squeezenet, LAST)
PRETRAINED = Architecture(
    r"squeezenet1_([01])-pretrained",
    "squeezenet1_0-pretrained, squeezenet1_1-pretrained",
    pretrained,
    LAST,
    _fine_tuned,
)
SMALL = Architecture("squeezenet-small", "squeezenet-small", small)
