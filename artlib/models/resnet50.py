"""ResNet-50 (He et al. 2016) as torchvision has it, for photographs, with a finer last map and with SE if asked."""

import torch
from torch import Tensor, nn

from artlib.models import public
from artlib.models.adapted import adapted, check_colour, given
from artlib.models.architecture import Architecture
from artlib.models.layers import MeanPool


class SqueezeExcitation(nn.Module):
    """x times sigmoid(W2 relu(W1 mean of x)), per channel (Hu et al. 2018), a sixteenth of them between."""

    def __init__(self, channels: int):
        super().__init__()
        between = channels // 16
        self.pool, self.relu = MeanPool(), nn.ReLU()
        self.fc1, self.fc2 = nn.Linear(channels, between), nn.Linear(between, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(self.relu(self.fc1(self.pool(x)))).sigmoid()[:, :, None, None]


def resnet50(
    stride: int,
    *,
    num_classes: int,
    in_channels: int = 3,
    size: int = 224,
    dropout: float = 0.0,
    se: bool = False,
) -> nn.Module:
    """torchvision's ResNet-50 with its keys, and `stride` 2 (its own) or 1 in layer4.

    With 1 the last map of 224 pixels is 14 x 14, as in the released code of ART and ADL (C-41); the weights are the
    same. `se`: squeeze-and-excitation at the end of every block. There is no dropout. Raises ValueError for another
    stride.
    """
    from torchvision.models import resnet50

    if stride not in (1, 2):
        raise ValueError(f"stride is {stride}; that of layer4 is 1 or 2")
    with torch.device("meta"):  # torchvision draws weights that `models.build` draws again
        net = resnet50(weights=None, num_classes=num_classes)
    net.to_empty(device="cpu")
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    if stride == 1:
        net.layer4[0].conv2.stride = net.layer4[0].downsample[0].stride = (1, 1)
    if in_channels != 3:
        net.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
    if se:
        for block in (b for stage in (net.layer1, net.layer2, net.layer3, net.layer4) for b in stage):
            block.bn3 = nn.Sequential(block.bn3, SqueezeExcitation(block.bn3.num_features))
    net.avgpool = MeanPool()
    return adapted(net)


def with_se(stride: int, **options) -> nn.Module:
    """The network of Choe and Shim 2019 on CUB, ResNet50-SE; torchvision has no weights of it."""
    return resnet50(stride, se=True, **options)


def pretrained(stride: int, *, num_classes: int, in_channels: int = 3, size: int = 224, dropout: float = 0.0):
    """`resnet50` with torchvision's ImageNet weights in all layers but the last, which is new.

    They expect ImageNet's mean and standard deviation. Raises what `public.imagenet` does where they are not, and
    ValueError for images without three channels.
    """
    check_colour(f"resnet50-stride{stride}-pretrained", in_channels)
    net = resnet50(stride, num_classes=num_classes, size=size)
    weights = public.imagenet("resnet50")
    net.load_state_dict(weights | {f"fc.{k}": v for k, v in net.fc.state_dict().items()})
    return given(net)


LAST = ("layer4.", "fc.")
RESNET50 = Architecture(r"resnet50-stride([12])", "resnet50-stride1, resnet50-stride2", resnet50, LAST)
SE = Architecture(r"resnet50se-stride([12])", "resnet50se-stride1, resnet50se-stride2", with_se, LAST)
PRETRAINED = Architecture(
    r"resnet50-stride([12])-pretrained",
    "resnet50-stride1-pretrained, resnet50-stride2-pretrained",
    pretrained,
    LAST,
    resnet50,
)
