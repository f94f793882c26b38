"""torchvision's networks as this project needs them: its layers, which can be differentiated twice at small cost."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from artlib.models.layers import BatchNorm2d, Conv2d, Linear


class GivenConv2d(_ConvNd):
    """A `Conv2d` whose weights are given: `models.build` draws those of nn.Conv2d and nn.Linear alone."""

    def forward(self, x: Tensor) -> Tensor:
        return Conv2d.forward(self, x)


def adapted(net: nn.Module) -> nn.Module:
    """`net` itself, with the same weights under the same keys: its convolutions, batch normalisations and linear layers
    become those of `models.layers`, and no ReLU works in place any more (the surrogate would have to copy).
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.__class__ = Conv2d
        elif isinstance(module, _BatchNorm):
            module.__class__ = BatchNorm2d
        elif type(module) is nn.Linear:
            module.__class__ = Linear
        elif isinstance(module, nn.ReLU):
            module.inplace = False
    return net


def given(net: nn.Module) -> nn.Module:
    """`net` itself, the weights of whose convolutions stay as they are when it is built."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.__class__ = GivenConv2d
    return net


def check_colour(arch: str, in_channels: int) -> None:
    """Raise ValueError for a network with public weights and images without three channels."""
    if in_channels != 3:
        raise ValueError(f"{arch} is for 3 channels, not {in_channels}; grey images repeat theirs")
