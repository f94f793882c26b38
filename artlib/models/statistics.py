"""How a network is looked at: with frozen weights, and normalised by whose statistics.

L_attr is a function of input gradients, and those depend on the statistics of batch normalisation far more than the
logits do. "running": the averages that the network will be used with. "batch": those of the images at hand, with
gradients through them, so that an image's gradient has a part through everybody else's; what a module in train mode
does. "held": those of the images at hand, measured once and then constant.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from artlib import distributed

STATISTICS = ("running", "batch", "held")


@contextmanager
def mode(model: nn.Module, training: bool | None = False) -> Iterator[nn.Module]:
    """`model` in eval mode, in train mode, or as it is (None); every module's own mode is put back on exit."""
    modes = {m: m.training for m in model.modules()}
    try:
        if training is not None:
            model.train(training)
        yield model
    finally:
        for m, was in modes.items():
            m.training = was


@contextmanager
def frozen(model: nn.Module, *, training: bool | None = False) -> Iterator[nn.Module]:
    """`model` with weights that need no gradient, in eval mode unless `training`; both are put back on exit.

    `training` None leaves every module in its mode.
    """
    weights = [p for p in model.parameters() if p.requires_grad]
    try:
        model.requires_grad_(False)
        with mode(model, training):
            yield model
    finally:
        for p in weights:
            p.requires_grad_(True)


@contextmanager
def normalised_by(statistics: str, model: nn.Module, x: Tensor) -> Iterator[nn.Module]:
    """`model` normalised by "running", "batch" or "held" statistics in a `with` block; x (N, C, H, W): images at hand.

    "batch" leaves the model's present mode, train mode in a training, where frozen layers stay frozen. "held" measures
    every layer that is in train mode, on x, and takes what it measured from then on; running averages do not move, and
    dropout is off as with "running". Raises ValueError for another name.
    """
    if statistics not in STATISTICS:
        raise ValueError(f"unknown statistics {statistics!r}; choose one of {', '.join(STATISTICS)}")
    if statistics == "batch":
        yield model
        return
    layers = [m for m in model.modules() if isinstance(m, _BATCH_NORMS) and m.training]
    layers = [m for m in layers if m.running_mean is not None] if statistics == "held" else []
    before = [(m.running_mean, m.running_var) for m in layers]
    try:
        with mode(model):
            if layers:
                _measure(model, x, layers)
            yield model
    finally:
        for m, (mean, var) in zip(layers, before, strict=True):
            m.running_mean, m.running_var = mean, var


_BATCH_NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def _measure(model: nn.Module, x: Tensor, layers: list[nn.Module]) -> None:
    """One pass in eval mode in which every layer gets the statistics of its input just before it needs them."""

    def take(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        values = inputs[0].detach().to(layer.running_mean.dtype)  # torch's own layers hand over bf16 under autocast
        layer.running_mean, layer.running_var = moments(values)

    hooks = [m.register_forward_pre_hook(take) for m in layers]
    try:
        with torch.no_grad():
            model(x.detach())
    finally:
        for hook in hooks:
            hook.remove()


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (population) variance per channel of x (N, C, ...), over the images of all processes."""
    rest = [d for d in range(x.ndim) if d != 1]
    if distributed.world() == 1:
        var, mean = torch.var_mean(x, rest, correction=0)
        return mean, var
    sums = distributed.total(torch.cat([x.sum(rest), x.new_full((1,), x[:, 0].numel())]))
    mean, n = sums[:-1] / sums[-1], sums[-1]
    centred = x - mean.view(1, -1, *[1] * (x.ndim - 2))
    return mean, distributed.total(centred.square().sum(rest)) / n
