"""The gradient of a score in the input, and the attribution it is times the input."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artlib.models import check_batch, frozen, mode

TARGETS = ("logit", "loss", "margin")


def score(logits: Tensor, y: Tensor, *, target: str = "logit") -> Tensor:
    """What is explained or attacked, (N,): the logit f(x)_y, or by another `target` how wrong the prediction is.

    "loss": cross-entropy (DIFFERENCES.md, C-19); "margin": max over i != y of f(x)_i, minus f(x)_y, above 0 where
    misclassified (Carlini and Wagner 2017). Raises ValueError for another name.
    """
    check_target(target)
    if target == "logit":
        return logits.gather(1, y[:, None])[:, 0]
    if target == "loss":
        return F.cross_entropy(logits, y, reduction="none")
    return logits.scatter(1, y[:, None], -torch.inf).amax(1) - score(logits, y)


def check_target(target: str) -> None:
    """Raise ValueError for a name that `score` does not know."""
    if target not in TARGETS:
        raise ValueError(f"unknown target {target!r}; choose one of {', '.join(map(repr, TARGETS))}")


def input_gradient(
    model: nn.Module, x: Tensor, y: Tensor, *, target: str = "logit", create_graph: bool = False
) -> Tensor:
    """`gradient` without its checks and in the model's present mode: the inner loop of attacks and trainings."""
    if not (create_graph and x.requires_grad):
        x = x.detach().requires_grad_()
    # Without a graph nobody asks for the weights' gradients, a third of the work, which `Conv2d` cannot know.
    with torch.enable_grad(), nullcontext() if create_graph else frozen(model, training=None):
        logits = model(x.clone())  # a first layer that works in place must not reach x
        return torch.autograd.grad(score(logits, y, target=target).sum(), x, create_graph=create_graph)[0]


def gradient(model: nn.Module, x: Tensor, y: Tensor, *, target: str = "logit", create_graph: bool = False) -> Tensor:
    """Input gradient, the "simple gradient" of Simonyan et al. 2014: d f(x)_y / d x, the model in eval mode.

    x (N, C, H, W) in [0, 1], y (N,). Returns the shape of x, in logits per unit of pixel value. With `create_graph` it
    can be differentiated, in the weights too. The model's mode is put back. Raises ValueError for images of the wrong
    rank or range, for labels that the model does not have, and for outputs that are not logits.
    """
    check_batch(x, y, model)
    with mode(model, False):
        return input_gradient(model, x, y, target=target, create_graph=create_graph)


def input_x_gradient(
    model: nn.Module, x: Tensor, y: Tensor, *, target: str = "logit", create_graph: bool = False
) -> Tensor:
    """Input times gradient (Shrikumar et al. 2016): x * d f(x)_y / d x, in logits. Arguments as for `gradient`."""
    g = gradient(model, x, y, target=target, create_graph=create_graph)
    return (x if create_graph else x.detach()) * g
