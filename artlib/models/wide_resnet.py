"""WideResNet of Zagoruyko and Komodakis 2016, the network of ART's tables."""

from torch import Tensor, nn

from artlib.models.architecture import Architecture
from artlib.models.layers import BatchNorm2d, Conv2d, Linear, MeanPool, conv


class _WideBlock(nn.Module):
    """BN-ReLU-conv-BN-ReLU-dropout-conv; a shortcut that must project starts after the first ReLU."""

    def __init__(self, i: int, o: int, stride: int, dropout: float):
        super().__init__()
        self.bn1, self.relu1, self.conv1 = BatchNorm2d(i), nn.ReLU(), conv(i, o, 3, stride)
        self.bn2, self.relu2, self.conv2 = BatchNorm2d(o), nn.ReLU(), conv(o, o, 3)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.shortcut = conv(i, o, 1, stride) if i != o or stride != 1 else None

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu1(self.bn1(x))
        b = self.conv2(self.dropout(self.relu2(self.bn2(self.conv1(a)))))
        return b + (x if self.shortcut is None else self.shortcut(a))


def wide_resnet(
    depth: int, width: int, num_classes: int, *, in_channels: int = 3, dropout: float = 0.0, half: bool = False
) -> nn.Sequential:
    """WideResNet-depth-width of Zagoruyko and Komodakis 2016; depth = 6 n + 4, n blocks in each of three stages.

    `half` sees the images at half the size, by a first convolution of 4x4 and stride 2: a quarter of the work. (With
    3x3 a pixel's gradient would be a sum over one, two or four outputs by its place, and maps would show that grid.)
    """
    if (depth - 4) % 6 or depth < 10 or width < 1:
        raise ValueError(
            f"wrn-{depth}-{width}: depth must be 6 n + 4 (10, 16, 22, 28, 40, ...), width a positive integer"
        )
    n, widths = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
    layers = [Conv2d(in_channels, 16, 4, 2, 1, bias=False) if half else conv(in_channels, 16, 3)]
    for stage in range(3):
        for b in range(n):
            i, o = widths[stage + (b > 0)], widths[stage + 1]
            layers.append(_WideBlock(i, o, 2 if stage and b == 0 else 1, dropout))
    return nn.Sequential(*layers, BatchNorm2d(widths[3]), nn.ReLU(), MeanPool(), Linear(widths[3], num_classes))


def _make(depth: int, width: int, *, num_classes: int, in_channels: int, size: int, dropout: float) -> nn.Sequential:
    return wide_resnet(depth, width, num_classes, in_channels=in_channels, dropout=dropout)


def _half(depth: int, width: int, *, num_classes: int, in_channels: int, size: int, dropout: float) -> nn.Sequential:
    return wide_resnet(depth, width, num_classes, in_channels=in_channels, dropout=dropout, half=True)


WIDE_RESNET = Architecture(r"wrn-(\d+)-(\d+)", "wrn-DEPTH-WIDTH (wrn-28-10, wrn-40-2, wrn-10-1, ...)", _make)
HALF = Architecture(r"wrn-(\d+)-(\d+)-half", "wrn-DEPTH-WIDTH-half", _half)
