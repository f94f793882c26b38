"""Integrated gradients: the gradients along the straight path from a baseline to the image."""

import numpy as np
import torch
from torch import Tensor, nn

from artlib.attributions.gradient import input_gradient
from artlib.models import check_batch, mode

RULES = ("right", "left", "midpoint", "trapezoid", "gauss-legendre")


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
    points: tuple[int, int] | None = None,
    create_graph: bool = False,
) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017; ART, Eq. 9): (x - x0) * integral over t of df(x0 + t (x - x0))_y.

    The integral is the sum of `quadrature(steps, rule)`; `points` (first, last) takes those alone, so that a sum may be
    made part by part. `rows` bounds how many points pass through the model at once (memory; with `create_graph` the
    graph of all of them is kept). `baseline` x0 is a number or a tensor that broadcasts to x, in pixel units.
    `hold_factor` treats the factor x - x0 as a constant when the result is differentiated, as Chen et al. do
    (DIFFERENCES.md, R7). Returns the shape of x; sums to f(x)_y - f(x0)_y (completeness) up to the rule's error. The
    model is in eval mode meanwhile. Raises ValueError as `gradient` and `quadrature` do.
    """
    check_batch(x, y, model)
    options = dict(steps=steps, rule=rule, baseline=baseline, target=target, rows=rows, hold_factor=hold_factor)
    with mode(model, False):
        return integrate(model, x, y, points=points, create_graph=create_graph, **options)


def integrate(model, x, y, *, steps, rule, baseline, target, rows, hold_factor, points=None, create_graph) -> Tensor:
    """`integrated_gradients` without its checks and in the model's present mode."""
    x = x if create_graph else x.detach()  # a graph through the factor alone would be half a derivative
    if len(x) > rows:
        options = dict(steps=steps, rule=rule, target=target, rows=rows, hold_factor=hold_factor, points=points)
        x0 = torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand_as(x)
        parts = zip(x.split(rows), y.split(rows), x0.split(rows), strict=True)
        return torch.cat(
            [integrate(model, a, b, baseline=c, create_graph=create_graph, **options) for a, b, c in parts]
        )
    first, last = points or (0, None)
    ts, weights = (v.to(x)[first:last] for v in quadrature(steps, rule))
    difference = x - baseline
    total = torch.zeros_like(x)
    for t, w in zip(*(v.split(max(1, rows // max(1, len(x)))) for v in (ts, weights)), strict=True):
        path = (baseline + t.reshape(-1, 1, 1, 1, 1) * difference).flatten(0, 1)  # (points * N, C, H, W)
        g = input_gradient(model, path, y.repeat(len(t)), target=target, create_graph=create_graph)
        total = total + torch.tensordot(w, g.unflatten(0, (len(t), len(x))), dims=1)
    return (difference.detach() if hold_factor else difference) * total


def _count(*, steps: int = 100, rule: str = "right", **_) -> int:
    return len(quadrature(steps, rule)[0])


integrated_gradients.count = _count  # of the points whose sum it is; `Explainer` makes parts of them
