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
    """Raise ValueError unless x (N, C, H, W) is float in [0, 1] and `model` has logits for the classes y (N,)."""
    if _checked.get():
        return
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"x is {x.dtype} of shape {tuple(x.shape)}; images are float, (N, C, H, W), values in [0, 1]")
    if y.shape != x.shape[:1] or y.dtype != torch.int64:
        raise ValueError(f"y is {y.dtype} of shape {tuple(y.shape)}; labels are int64, ({len(x)},), one an image")
    if len(x) and not (x.min() >= -1e-6 and x.max() <= 1 + 1e-6):  # a NaN fails both comparisons
        low, high = x.min().item(), x.max().item()
        raise ValueError(
            f"x holds values from {low:.3g} to {high:.3g}, images here are in [0, 1]; divide by 255, or if they are "
            "normalised, give pixels and let the model do that: models.wrap(net, mean, std)"
        )
    if model is not None and len(y):
        _check_output(model, x[:1], y)


def _check_output(model: nn.Module, image: Tensor, y: Tensor) -> None:
    name = type(model).__name__
    with torch.no_grad(), frozen(model):
        logits = model(image.clone())  # its first layer may work in place
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        kind = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(f"{name} returns {kind} for one image; wrap it so that it returns logits alone, (N, classes)")
    classes = logits.shape[1]
    if classes == 1:
        raise ValueError(
            f"{name} has a single logit f; two classes are two logits: torch.cat([torch.zeros_like(f), f], 1)"
        )
    if ((logits > 0) & (logits < 1)).all() and (logits.sum() - 1).abs() < 1e-5:
        raise ValueError(
            f"{name} seems to end in a softmax: its outputs lie between 0 and 1 and sum to 1; leave it out, logits are "
            "what is explained and what cross-entropy takes"
        )
    if not (y.min() >= 0 and y.max() < classes):
        low, high = y.min().item(), y.max().item()
        raise ValueError(f"y holds labels from {low} to {high}; the model has classes 0 to {classes - 1}")
