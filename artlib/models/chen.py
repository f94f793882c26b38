"""The two networks of Chen et al. 2019 (their code: jfc43/robust-attribution-regularization)."""

import torch.nn.functional as F
from torch import Tensor, nn

from artlib.models.architecture import Architecture
from artlib.models.layers import Conv2d, Linear, MeanPool, Standardize, conv


def rar_cnn(num_classes: int, *, in_channels: int = 1, size: int = 28) -> nn.Sequential:
    """Chen et al.'s network for size x size digits: conv5x5x32, pool, conv5x5x64, pool, 1024 units."""
    conv = [Conv2d(in_channels, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    conv += [Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*conv, Linear(64 * (size // 4) ** 2, 1024), nn.ReLU(), Linear(1024, num_classes))


class _PlainBlock(nn.Module):
    """Residual block of Chen et al.'s small ResNet: leaky ReLU 0.1, no batch normalisation, zero-padded shortcut."""

    def __init__(self, i: int, o: int, stride: int, *, shared: bool):
        super().__init__()
        self.first, self.shared = nn.LeakyReLU(0.1), shared  # shared: the shortcut, too, starts after the activation
        self.conv1, self.relu, self.conv2 = conv(i, o, 3, stride), nn.LeakyReLU(0.1), conv(o, o, 3)
        self.stride, self.extra = stride, o - i

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        x = a if self.shared else x
        a = self.conv2(self.relu(self.conv1(a)))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride)
        lead = self.extra // 2
        return a + F.pad(x, (0, 0, 0, 0, lead, self.extra - lead))


def rar_resnet(units: int, num_classes: int, *, in_channels: int = 3) -> nn.Sequential:
    """Chen et al.'s ResNet: filters 16, 16, 32, 64, `units` blocks a stage, per-image standardisation.

    Convolutions of stride 2 pad symmetrically; the released TensorFlow code pads one pixel at the far border.
    """
    filters, layers = [16, 16, 32, 64], [Standardize(), conv(in_channels, 16, 3)]
    for stage in range(3):
        for b in range(units):
            i, o = filters[stage + (b > 0)], filters[stage + 1]
            layers.append(_PlainBlock(i, o, 2 if stage and b == 0 else 1, shared=stage + b == 0))
    return nn.Sequential(*layers, nn.LeakyReLU(0.1), MeanPool(), Linear(filters[3], num_classes))


def _cnn(*, num_classes: int, in_channels: int, size: int, dropout: float) -> nn.Sequential:
    return rar_cnn(num_classes, in_channels=in_channels, size=size)


def _resnet(units: int, *, num_classes: int, in_channels: int, size: int, dropout: float) -> nn.Sequential:
    return rar_resnet(units, num_classes, in_channels=in_channels)


CNN = Architecture("rar-cnn", "rar-cnn", _cnn)
RESNET = Architecture(r"rar-resnet-([12])", "rar-resnet-1, rar-resnet-2", _resnet)
