"""The softplus surrogate, whose second derivative is not zero where ReLU's is."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _Gate(torch.autograd.Function):
    """g * sigma(beta x), the backward pass of softplus, with its own derivatives in closed form."""

    @staticmethod
    def forward(ctx, g, x, s, beta):
        ctx.save_for_backward(g, s)
        ctx.beta = beta
        return g * s

    @staticmethod
    def backward(ctx, h):
        if torch.is_grad_enabled():  # the saved s carries no graph: a third derivative would be silently wrong
            raise RuntimeError("softplus here has no third derivative; use torch's nn.Softplus(beta) for one")
        g, s = ctx.saved_tensors
        gx = torch.ops.aten.sigmoid_backward(h * g, s).mul_(ctx.beta) if ctx.needs_input_grad[1] else None
        return h * s, gx, None, None


class _Softplus(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, beta, threshold):
        # Where sigma or a product of two would be subnormal it is 0: many CPUs take a hundred times as long over those.
        z = F.threshold_(beta * x, 0.5 * math.log(torch.finfo(x.dtype).tiny), -torch.inf)
        s = z.sigmoid_() if threshold is None else torch.where(z > threshold, 1.0, z.sigmoid())
        ctx.save_for_backward(x, s)
        ctx.beta = beta
        # log(1 + exp(z)) = max(z, 0) - log(sigma(|z|)), exact to eps, in a third of the time of log1p(exp(z)).
        return F.relu(x).sub_(torch.maximum(s, 1 - s).log_(), alpha=1 / beta)

    @staticmethod
    def backward(ctx, g):
        x, s = ctx.saved_tensors
        return _Gate.apply(g, x, s, ctx.beta), None, None


class Softplus(nn.Module):
    """slope x + (1 - slope) log(1 + exp(beta x)) / beta: softplus for ReLU (slope 0), its analogue for leaky ReLU.

    `threshold` None is the exact function; torch's `nn.Softplus` is linear above beta x = 20, where its second
    derivative is 0 (facts C-14). Derivatives up to the second order; a third raises.
    """

    def __init__(self, beta: float = 50.0, *, threshold: float | None = None, slope: float = 0.0):
        super().__init__()
        self.beta, self.threshold, self.slope = beta, threshold, slope

    def extra_repr(self) -> str:
        return f"{self.beta}, threshold={self.threshold}, slope={self.slope}"

    def forward(self, x: Tensor) -> Tensor:
        y = _Softplus.apply(x, self.beta, self.threshold)
        return y if self.slope == 0 else self.slope * x + (1 - self.slope) * y


@contextmanager
def smooth(model: nn.Module, beta: float, *, threshold: float | None = None) -> Iterator[nn.Module]:
    """Replace every ReLU and leaky ReLU of `model` by softplus_beta inside a `with` block (ART, section 3.2).

    Weights are shared, the model itself is changed and its ReLUs are put back on exit, also after an error.
    In-place ReLUs are handled; of nested blocks the inner beta counts. Raises ValueError when there is nothing to
    replace: a ReLU called as a function (`F.relu`) is invisible from outside, and the surrogate would silently be the
    network itself.
    """
    if not beta > 0:
        raise ValueError(f"beta is {beta}; the softplus sharpness must be positive (the paper uses 50)")
    found = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent._modules.items()
        if isinstance(child, nn.ReLU | nn.LeakyReLU) or getattr(child, "surrogate", False)
    ]
    if not found and not any(isinstance(m, Softplus | nn.Softplus) for m in model.modules()):
        raise ValueError(
            f"{type(model).__name__} has no nn.ReLU or nn.LeakyReLU module; write F.relu(x) as nn.ReLU()(x)"
        )
    try:
        for parent, name, child in found:
            slope = getattr(child, "slope", getattr(child, "negative_slope", 0.0))
            parent._modules[name] = Softplus(beta, threshold=threshold, slope=slope)
            parent._modules[name].surrogate = True  # unlike a softplus that is the network's own
        yield model
    finally:
        for parent, name, child in found:
            parent._modules[name] = child
