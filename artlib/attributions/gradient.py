"""The gradient of a score in the input, and the attribution it is times the input."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artlib.models import check_batch, frozen


def score(logits: Tensor, y: Tensor, *, target: str = "logit") -> Tensor:
    """What is explained, (N,): the logit f(x)_y, or with target="loss" the cross-entropy (facts C-19)."""
    if target == "logit":
        return logits.gather(1, y[:, None])[:, 0]
    if target == "loss":
        return F.cross_entropy(logits, y, reduction="none")
    raise ValueError(f"unknown target {target!r}; choose 'logit' or 'loss'")


def input_gradient(
    model: nn.Module, x: Tensor, y: Tensor, *, target: str = "logit", create_graph: bool = False
) -> Tensor:
    """`gradient` without its checks and in the model's present mode: the inner loop of attacks and trainings."""
    if not (create_graph and x.requires_grad):
        x = x.detach().requires_grad_()
    # Without a graph nobody asks for the weights' gradients, a third of the work, which `Conv2d` cannot know.
    with torch.enable_grad(), nullcontext() if create_graph else frozen(model, training=None):
        return torch.autograd.grad(score(model(x), y, target=target).sum(), x, create_graph=create_graph)[0]


def gradient(model: nn.Module, x: Tensor, y: Tensor, *, target: str = "logit", create_graph: bool = False) -> Tensor:
    """Input gradient, the "simple gradient" of Simonyan et al. 2014: d f(x)_y / d x.

    x (N, C, H, W) in [0, 1], y (N,). Returns the shape of x, in logits per unit of pixel value. The model's mode is
    kept. Raises ValueError for images of the wrong rank or range and for labels that the model does not have.
    """
    check_batch(x, y, model)
    return input_gradient(model, x, y, target=target, create_graph=create_graph)


def input_x_gradient(model: nn.Module, x: Tensor, y: Tensor, *, create_graph: bool = False) -> Tensor:
    """Input times gradient (Shrikumar et al. 2016): x * d f(x)_y / d x, in logits. Arguments as for `gradient`."""
    g = gradient(model, x, y, create_graph=create_graph)
    return (x if create_graph else x.detach()) * g
