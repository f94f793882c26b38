"""What comes in at the door: images, labels and networks are checked once, with a sentence that says the way out."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from artlib.models.statistics import frozen

_checked = ContextVar("checked", default=False)


@contextmanager
def checked() -> Iterator[None]:
    """Inside this block `check_batch` lets everything through: the loops of an attack look at values once, before."""
    token = _checked.set(True)
    try:
        yield
    finally:
        _checked.reset(token)


def check_batch(x: Tensor, y: Tensor, model: nn.Module | None = None) -> None:
    """Raise ValueError unless x (N, C, H, W) is float in [0, 1] and y (N,) holds classes that `model` has."""
    if _checked.get():
        return
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"x is {x.dtype} of shape {tuple(x.shape)}; images are float, (N, C, H, W), values in [0, 1]")
    if y.shape != x.shape[:1] or y.dtype != torch.int64:
        raise ValueError(f"y is {y.dtype} of shape {tuple(y.shape)}; labels are int64, ({len(x)},), one an image")
    if len(x) and not (x.min() >= -1e-6 and x.max() <= 1 + 1e-6):  # a NaN fails both comparisons
        low, high = x.min().item(), x.max().item()
        raise ValueError(
            f"x holds values from {low:.3g} to {high:.3g}; divide by 255 or undo the normalisation: [0, 1]"
        )
    if model is None or not len(y):
        return
    with torch.no_grad(), frozen(model):
        classes = model(x[:1]).shape[1]
    if not (y.min() >= 0 and y.max() < classes):
        low, high = y.min().item(), y.max().item()
        raise ValueError(f"y holds labels from {low} to {high}; the model has classes 0 to {classes - 1}")
