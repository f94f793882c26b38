"""Networks whose robustness is known, or whose gradients are of no use, and images for them."""

import torch
from torch import nn

from artlib.data import ImageSet


def halves() -> nn.Module:
    """f(x) = the sums of x over the upper and the lower half of a 4 x 4 image: linear, as pixels are not negative."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, bias=False), nn.ReLU()).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2).repeat_interleave(8, 1))
    return model.eval()


def half_bright(differences: list[int], labels: list[int]) -> ImageSet:
    """4 x 4 images of grey level 100 whose half `label` is brighter by so many levels."""
    images = torch.full((len(labels), 1, 4, 4), 100, dtype=torch.uint8)
    for image, level, y in zip(images, differences, labels, strict=True):
        image[0, 2 * y : 2 * y + 2] += level
    return ImageSet(images, torch.tensor(labels), ("upper", "lower"), name="halves", split="test")


def network(channels: int = 3) -> nn.Module:
    """A random ReLU network for 6 x 6 images, 3 classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.Flatten()]
        layers += [nn.Linear(216, 12), nn.ReLU(), nn.Linear(12, 3)]
    return nn.Sequential(*layers).double().eval()


def pictures(n: int = 20) -> ImageSet:
    """Noise with the labels that `network` gives it, except for every fifth image; the object is in the middle."""
    images = torch.randint(0, 256, (n, 3, 6, 6), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    labels = network()(images.double() / 255).argmax(1)
    labels[::5] = (labels[::5] + 1) % 3
    masks = torch.zeros(n, 6, 6, dtype=torch.bool)
    masks[:, 1:5, 1:4] = True
    boxes = torch.tensor([[1.0, 1, 4, 5]]).expand(n, -1).clone()
    return ImageSet(images, labels, ("a", "b", "c"), boxes, masks, name="noise", split="test")


class _Backward(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.factor, None


class Useless(nn.Module):
    """A network whose input gradients are multiplied by 0 or NaN: it predicts as before and cannot be attacked."""

    def __init__(self, net: nn.Module, factor: float):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, x):
        return self.net(_Backward.apply(x, self.factor))
