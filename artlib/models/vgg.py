"""VGG-GAP (Zhou et al. 2016): the convolutions of torchvision's VGG-16, one more, the mean over places, one layer."""

import torch
from torch import nn

from artlib.models import public
from artlib.models.adapted import adapted, check_colour, given
from artlib.models.architecture import Architecture
from artlib.models.layers import MeanPool

LAST = 30  # of VGG-16's feature layers: without the fifth pooling, so that the map of 224 pixels is 14 x 14
SMALLEST = 16  # pixels: below them nothing is left after four poolings


def vgg_gap(depth: int, *, num_classes: int, in_channels: int = 3, size: int = 224, dropout: float = 0.0) -> nn.Module:
    """VGG-16 up to the last ReLU before its fifth pooling, 3 x 3 to 1024 channels, mean over places, linear.

    Keys are torchvision's for the first; the new layers are features.30 and classifier. There is no dropout. Raises
    ValueError for another `depth` than 16, and for images that four poolings leave nothing of.
    """
    from torchvision.models import vgg16

    if depth != 16:
        raise ValueError(f"depth is {depth}; VGG-GAP is made of VGG-16 alone")
    if size < SMALLEST:
        raise ValueError(f"vgg16-gap needs images of at least {SMALLEST} pixels, not {size}")
    with torch.device("meta"):  # torchvision draws 130 million weights of layers that are not needed
        net = vgg16(weights=None)
    net.features = nn.Sequential(*net.features[:LAST])
    net.avgpool, net.classifier = MeanPool(), nn.Linear(1024, num_classes)
    net.features.to_empty(device="cpu")
    if in_channels != 3:
        net.features[0] = nn.Conv2d(in_channels, 64, 3, padding=1)
    net.features.extend([nn.Conv2d(512, 1024, 3, padding=1), nn.ReLU()])
    return adapted(net)


def pretrained(depth: int, *, num_classes: int, in_channels: int = 3, size: int = 224, dropout: float = 0.0):
    """The same with torchvision's ImageNet weights in VGG-16's convolutions; the other two layers are new.

    They expect ImageNet's mean and standard deviation. Raises what `public.imagenet` does where they are not, and
    ValueError for images without three channels.
    """
    check_colour("vgg16-gap-pretrained", in_channels)
    net = vgg_gap(depth, num_classes=num_classes, size=size)
    weights = {k.removeprefix("features."): v for k, v in public.imagenet("vgg16").items() if k.startswith("features.")}
    old = net.features[:LAST]
    old.load_state_dict(weights)
    given(old)
    return net


NEW = (f"features.{LAST}.", "classifier.")
VGG = Architecture(r"vgg(16)-gap", "vgg16-gap", vgg_gap, NEW)
PRETRAINED = Architecture(r"vgg(16)-gap-pretrained", "vgg16-gap-pretrained", pretrained, NEW, vgg_gap)
