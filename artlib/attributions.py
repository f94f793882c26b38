"""Attributions: (model, x, y) -> one signed importance per input value, shape of x, differentiable on request."""

from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artlib.models import check_batch, frozen

RULES = ("right", "left", "midpoint", "trapezoid", "gauss-legendre")


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


def quadrature(steps: int, rule: str) -> tuple[Tensor, Tensor]:
    """Points t in [0, 1] and weights, summing to 1, that stand for the integral of Eq. 9 of ART; float64.

    right: i/m, i = 1..m (Chen et al. 2019); left: i = 0..m-1; midpoint: (i - 1/2)/m; trapezoid: m + 1 points from 0
    to 1, half weight at the ends; gauss-legendre: m points. Raises ValueError for steps < 1 or an unknown rule.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; integrated gradients need at least 1")
    if rule not in RULES:
        raise ValueError(f"unknown rule {rule!r}; choose one of {', '.join(RULES)}")
    if rule == "gauss-legendre":
        t, w = np.polynomial.legendre.leggauss(steps)
        return torch.from_numpy((t + 1) / 2), torch.from_numpy(w / 2)
    i = torch.arange(steps + (rule == "trapezoid"), dtype=torch.float64)
    w = torch.full_like(i, 1 / steps)
    if rule == "trapezoid":
        w[0] = w[-1] = 0.5 / steps
    return (i + {"right": 1.0, "midpoint": 0.5}.get(rule, 0.0)) / steps, w


def integrated_gradients(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    steps: int = 100,
    rule: str = "right",
    baseline: Tensor | float = 0.0,
    target: str = "logit",
    rows: int = 512,
    hold_factor: bool = False,
    create_graph: bool = False,
) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017; ART, Eq. 9): (x - x0) * integral over t of df(x0 + t (x - x0))_y.

    The integral is the sum of `quadrature(steps, rule)`. `rows` bounds how many points pass through the model at once
    (memory; with `create_graph` the graph of all of them is kept). `baseline` x0 is a number or a tensor that
    broadcasts to x, in pixel units. `hold_factor` treats the factor x - x0 as a constant when the result is
    differentiated, as Chen et al. do (facts R7). Returns the shape of x; sums to f(x)_y - f(x0)_y (completeness) up to
    the rule's error. Raises ValueError as `gradient` and `quadrature` do.
    """
    check_batch(x, y, model)
    x = x if create_graph else x.detach()  # a graph through the factor alone would be half a derivative
    if len(x) > rows:
        options = dict(steps=steps, rule=rule, target=target, rows=rows, create_graph=create_graph)
        x0 = torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand_as(x)
        parts = zip(x.split(rows), y.split(rows), x0.split(rows), strict=True)
        maps = [integrated_gradients(model, a, b, baseline=c, hold_factor=hold_factor, **options) for a, b, c in parts]
        return torch.cat(maps)
    points, weights = (v.to(x) for v in quadrature(steps, rule))
    difference = x - baseline
    total = torch.zeros_like(x)
    for t, w in zip(*(v.split(max(1, rows // max(1, len(x)))) for v in (points, weights)), strict=True):
        path = (baseline + t.reshape(-1, 1, 1, 1, 1) * difference).flatten(0, 1)  # (points * N, C, H, W)
        g = input_gradient(model, path, y.repeat(len(t)), target=target, create_graph=create_graph)
        total = total + torch.tensordot(w, g.unflatten(0, (len(t), len(x))), dims=1)
    return (difference.detach() if hold_factor else difference) * total


def heatmap(attribution: Tensor) -> Tensor:
    """Importance per pixel (Ghorbani et al. 2019; Chen et al. 2019): sum over channels of |attribution|, scaled.

    (N, C, H, W) -> (N, H, W), non-negative; each map sums to H * W, or is 0 everywhere where the attribution is.
    """
    magnitude = attribution.abs().sum(1)
    total = magnitude.sum((1, 2), keepdim=True)
    return magnitude * (magnitude.shape[1:].numel() / total.where(total > 0, 1.0))
