"""The attention-based dropout layer (ADL; Choe and Shim, CVPR 2019), laid over the layers of any network."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from artlib.models.statistics import mode

RATE, THRESHOLD = 0.75, 0.9  # of clovaai/wsolevaluation, on CUB
POSITIONS = {  # as in clovaai/wsolevaluation; of SqueezeNet, which is not there, ours, spread in the same way
    "ResNet": ("layer3.0", "layer4.0", "layer4.2"),
    "VGG": ("features.16", "features.22", "features.29"),  # after pool3, conv4_3, conv5_3
    "SqueezeNet": ("features.8", "features.10", "features.12"),
}
COUNT = 3  # layers, at most, where none are named


def attention_dropout(a: Tensor, *, drop: bool, threshold: float = THRESHOLD) -> Tensor:
    """Feature maps a (N, K, h, w) without their strongest places, or weighted by how strong each place is.

    The attention of a place is the mean over channels. drop: a is 0 where the attention is at least `threshold` times
    the largest of its image; else a times sigmoid(attention), which can be differentiated as often as one likes.
    """
    attention = a.mean(1, keepdim=True)
    if drop:
        return a * (attention < threshold * attention.amax((2, 3), keepdim=True)).to(a)
    return a * attention.sigmoid()


def positions(model: nn.Module, x: Tensor) -> tuple[str, ...]:
    """The names of at most three modules of `model` over whose outputs ADL is laid.

    Those of `POSITIONS` for torchvision's networks, else the last activations whose output is a map of more than one
    place; x (N, C, H, W): images, of which one passes through. Raises ValueError for a network without any.
    """
    for name, module in model.named_modules():
        if type(module).__module__.startswith("torchvision.models") and type(module).__name__ in POSITIONS:
            return tuple(f"{name}.{layer}".lstrip(".") for layer in POSITIONS[type(module).__name__])
    found: list[str] = []

    def seen(name: str):
        def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> None:
            if output.ndim == 4 and output[0, 0].numel() > 1:
                found.append(name)

        return hook

    activations = {n: m for n, m in model.named_modules() if isinstance(m, nn.ReLU | nn.LeakyReLU | nn.Softplus)}
    hooks = [module.register_forward_hook(seen(name)) for name, module in activations.items()]
    try:
        with _disable_current_modes(), mode(model), torch.no_grad():  # whoever counts operations is not to see these
            model(x[:1])
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ValueError(f"{type(model).__name__} has no activation with a map of more than one place: name layers")
    return tuple(found[-COUNT:])


@contextmanager
def adl(
    model: nn.Module, layers: Sequence[str], drops: Sequence[bool], *, threshold: float = THRESHOLD
) -> Iterator[nn.Module]:
    """`model` with ADL behind the modules that `layers` names, inside a `with` block; `drops`: which of them drop.

    ADL has no weights, and a network is used without it: it is part of a training. Raises ValueError for layers that
    `model` does not have.
    """
    modules = dict(model.named_modules())
    if unknown := [name for name in layers if name not in modules]:
        raise ValueError(f"unknown layer {unknown[0]!r}; choose some of {', '.join(name for name in modules if name)}")
    with ExitStack() as stack:
        for name, drop in zip(layers, drops, strict=True):

            def hook(_module: nn.Module, _inputs: tuple, output: Tensor, drop: bool = drop) -> Tensor:
                return attention_dropout(output, drop=drop, threshold=threshold)

            stack.callback(modules[name].register_forward_hook(hook).remove)
        yield model
