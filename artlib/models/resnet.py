"""The ResNet of He et al. 2016 for CIFAR-10: three stages of n blocks, shortcuts without weights (option A)."""

import torch.nn.functional as F
from torch import Tensor, nn

from artlib.models.architecture import Architecture
from artlib.models.layers import BatchNorm2d, Linear, conv


class _Block(nn.Module):
    """conv-BN-ReLU-conv-BN, plus the input: at stride 2 every other pixel, and zeros for half of the channels."""

    def __init__(self, i: int, o: int, stride: int):
        super().__init__()
        self.conv1, self.bn1, self.relu1 = conv(i, o, 3, stride), BatchNorm2d(o), nn.ReLU()
        self.conv2, self.bn2, self.relu2 = conv(o, o, 3), BatchNorm2d(o), nn.ReLU()
        self.stride, self.extra = stride, (o - i) // 2

    def forward(self, x: Tensor) -> Tensor:
        a = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra, self.extra))
        return self.relu2(a + shortcut)


class ResNet(nn.Module):
    """ResNet-(6 n + 2), widths 16, 32, 64 (He et al., section 4.2), with the keys of akamaster's public weights."""

    def __init__(self, depth: int, num_classes: int, *, in_channels: int = 3):
        super().__init__()
        if (depth - 2) % 6 or depth < 8:
            raise ValueError(f"resnet-{depth}: depth must be 6 n + 2 (8, 14, 20, 32, 44, 56, ...)")
        self.conv1, self.bn1, self.relu = conv(in_channels, 16, 3), BatchNorm2d(16), nn.ReLU()
        n = (depth - 2) // 6
        for stage, (i, o) in enumerate([(16, 16), (16, 32), (32, 64)], start=1):
            blocks = [_Block(i, o, 2 if stage > 1 else 1), *(_Block(o, o, 1) for _ in range(n - 1))]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.linear = Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def _make(depth: int, *, num_classes: int, in_channels: int, size: int, dropout: float) -> nn.Module:
    return ResNet(depth, num_classes, in_channels=in_channels)


RESNET = Architecture(r"resnet-(\d+)", "resnet-DEPTH (resnet-20, resnet-32, ...)", _make)
