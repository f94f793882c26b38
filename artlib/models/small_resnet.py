"""The two small ResNets that Verified-Intelligence/alpha-beta-CROWN trained adversarially on CIFAR-10, at 2/255."""

from torch import Tensor, nn

from artlib.models.architecture import Architecture
from artlib.models.layers import Conv2d, Linear


class _Block(nn.Module):
    """conv-ReLU-conv plus the input, then ReLU; no batch normalisation; a 1x1 convolution where the size changes."""

    def __init__(self, i: int, o: int, stride: int):
        super().__init__()
        self.conv1, self.relu1, self.conv2 = Conv2d(i, o, 3, stride, 1), nn.ReLU(), Conv2d(o, o, 3, 1, 1)
        self.shortcut = nn.Sequential(*[Conv2d(i, o, 1, stride)] * (stride > 1))
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(self.conv2(self.relu1(self.conv1(x))) + self.shortcut(x))


class SmallResNet(nn.Module):
    """A convolution of stride 2, `layers` layers of two blocks that halve the size again, 100 hidden units.

    Its keys are those of the public weights.
    """

    def __init__(self, layers: int, num_classes: int, *, in_channels: int = 3, size: int = 32):
        super().__init__()
        stem, width, side = 8 * layers, 16 * layers, -(-size // 2 ** (layers + 1))
        self.conv1, self.relu1 = Conv2d(in_channels, stem, 3, 2, 1), nn.ReLU()
        self.names = [f"layer{i + 1}" for i in range(layers)]
        for i, name in zip([stem, width], self.names, strict=False):
            self.add_module(name, nn.Sequential(_Block(i, width, 2), _Block(width, width, 1)))
        self.linear1, self.relu2, self.linear2 = Linear(width * side**2, 100), nn.ReLU(), Linear(100, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu1(self.conv1(x))
        for name in self.names:
            x = getattr(self, name)(x)
        return self.linear2(self.relu2(self.linear1(x.flatten(1))))


def _make(blocks: int, *, num_classes: int, in_channels: int, size: int, dropout: float) -> nn.Module:
    return SmallResNet(blocks // 2, num_classes, in_channels=in_channels, size=size)


SMALL_RESNET = Architecture(r"resnet-([24])b", "resnet-2b, resnet-4b", _make)
