"""Layers that compute what torch's compute, with a double backward of first-order cost: everything in this project
differentiates through an input gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artlib import distributed
from artlib.models.statistics import moments


def _convolution_backward(g: Tensor, x: Tensor, w: Tensor, spec: tuple, mask: list[bool]) -> Tensor:
    stride, padding, dilation, groups = spec
    args = (None, stride, padding, dilation, False, [0, 0], groups)
    return torch.ops.aten.convolution_backward(g, x, w, *args, mask)[mask.index(True)]


class _Conv(torch.autograd.Function):
    """y = x * w. A convolution is bilinear, so its derivatives of every order are `_Conv`, `_ConvInput` and
    `_ConvWeight` again; torch's own double backward rearranges tensors into convolutions no kernel is tuned for."""

    @staticmethod
    def forward(ctx, x, w, spec):
        ctx.save_for_backward(x, w)
        ctx.spec = spec
        return F.conv2d(x, w, None, *spec)

    @staticmethod
    def backward(ctx, g):
        x, w = ctx.saved_tensors
        gx = _ConvInput.apply(g, x, w, ctx.spec) if ctx.needs_input_grad[0] else None
        gw = _ConvWeight.apply(g, x, w, ctx.spec) if ctx.needs_input_grad[1] else None
        return gx, gw, None


class _ConvInput(torch.autograd.Function):
    """The gradient of <g, x * w> with respect to x: bilinear in g and w; of x only the shape counts."""

    @staticmethod
    def forward(ctx, g, x, w, spec):
        ctx.save_for_backward(g, w)
        ctx.spec = spec
        return _convolution_backward(g, x, w, spec, [True, False, False])

    @staticmethod
    def backward(ctx, h):
        g, w = ctx.saved_tensors
        gg = _Conv.apply(h, w, ctx.spec) if ctx.needs_input_grad[0] else None
        gw = _ConvWeight.apply(g, h, w, ctx.spec) if ctx.needs_input_grad[2] else None
        return gg, None, gw, None


class _ConvWeight(torch.autograd.Function):
    """The gradient of <g, x * w> with respect to w: bilinear in g and x; of w only the shape counts."""

    @staticmethod
    def forward(ctx, g, x, w, spec):
        ctx.save_for_backward(g, x)
        ctx.spec = spec
        return _convolution_backward(g, x, w, spec, [False, True, False])

    @staticmethod
    def backward(ctx, h):
        g, x = ctx.saved_tensors
        gg = _Conv.apply(x, h, ctx.spec) if ctx.needs_input_grad[0] else None
        gx = _ConvInput.apply(g, x, h, ctx.spec) if ctx.needs_input_grad[1] else None
        return gg, gx, None, None


def _for_product(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """x and weight in autocast's dtype where it is on: it does not reach inside an autograd.Function."""
    if not torch.is_autocast_enabled(x.device.type):
        return x, weight
    dtype = torch.get_autocast_dtype(x.device.type)
    return x.to(dtype), weight.to(dtype)


class Conv2d(nn.Conv2d):
    """torch's convolution, zero padding in pixels only, with a double backward of first-order cost."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.padding_mode != "zeros" or isinstance(self.padding, str):
            raise ValueError(
                f"padding {self.padding!r}, {self.padding_mode}: only zeros, a number of pixels; use nn.Conv2d"
            )

    def forward(self, x: Tensor) -> Tensor:
        spec = (self.stride, self.padding, self.dilation, self.groups)
        y = _Conv.apply(*_for_product(x, self.weight), spec).to(x.dtype)
        return y if self.bias is None else y + self.bias[:, None, None]


class Linear(nn.Linear):
    """torch's, with a result in the dtype of x, under autocast too."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)


class _Norm(torch.autograd.Function):
    """Batch normalisation in train mode; it moves the running mean and variance."""

    @staticmethod
    def forward(ctx, x, w, b, running_mean, running_var, momentum, eps):
        args = (x, w, b, running_mean, running_var, True, momentum, eps)
        y, mean, rstd = torch.ops.aten._native_batch_norm_legit(*args)
        ctx.save_for_backward(x, w, mean, rstd)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx, g):
        return *_NormBackward.apply(g, *ctx.saved_tensors, ctx.eps), None, None, None, None


def _norm_backward(g: Tensor, x: Tensor, w: Tensor, mean: Tensor, rstd: Tensor, eps: float) -> tuple[Tensor, ...]:
    """w r P(g), sum g z, sum g with z = r (x - mean), r = 1 / std and P(g) = g - mean(g) - z mean(g z), per channel."""
    args = (g, x, w, None, None, mean, rstd, True, eps, [True, True, True])
    return torch.ops.aten.native_batch_norm_backward(*args)


class _NormBackward(torch.autograd.Function):
    """The backward pass of `_Norm`, with derivatives in closed form: dz = r P(dx), dr = -r^2 mean(z dx), P = P^T.

    torch's own double backward is made of two dozen passes over memory; this is one backward pass more and four.
    """

    @staticmethod
    def forward(ctx, g, x, w, mean, rstd, eps):
        gradients = _norm_backward(g, x, w, mean, rstd, eps)
        ctx.save_for_backward(g, x, w, mean, rstd, *gradients[1:])
        ctx.eps = eps
        ctx.set_materialize_grads(False)
        return gradients

    @staticmethod
    def backward(ctx, h, h_weight, h_bias):
        if torch.is_grad_enabled():  # what is saved carries no graph
            raise RuntimeError("batch normalisation here has no third derivative in train mode; use nn.BatchNorm2d")
        g, x, w, mean, r, gz, g_sum = ctx.saved_tensors
        h, n = torch.zeros_like(x) if h is None else h, x.numel() // x.shape[1]
        gg, hz, h_sum = _norm_backward(h, x, w, mean, r, ctx.eps)
        hPg = (h * g).sum((0, 2, 3)) - (h_sum * g_sum + hz * gz) / n
        a, b, c = -w * r * r * gz / n, -w * r * r * hz / n, -w * r**3 * (hPg - 2 * hz * gz / n) / n
        shift = -(a * h_sum + b * g_sum) / n - c * mean
        gx = _per_channel(h, a, shift).addcmul_(g, b[:, None, None]).addcmul_(x, c[:, None, None])
        if h_weight is not None:
            gg = gg + _per_channel(x, h_weight * r, -h_weight * r * mean)
            gx = gx + _norm_backward(g, x, h_weight, mean, r, ctx.eps)[0]
        if h_bias is not None:
            gg = gg + h_bias[:, None, None]
        return gg, gx, r * hPg, None, None, None


def _per_channel(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift[:, None, None], x, scale[:, None, None])


class BatchNorm2d(nn.BatchNorm2d):
    """torch's batch normalisation; with given statistics it is one multiplication and one addition.

    In train mode the statistics are those of the batch of all processes (`distributed`).
    """

    def forward(self, x: Tensor) -> Tensor:
        plain = self.weight is None or self.running_var is None or self.momentum is None
        if plain or (self.training and x.numel() == x.shape[1]):  # torch refuses a single value
            return super().forward(x)
        if self.training:
            self.num_batches_tracked.add_(1)
        if self.training and distributed.world() == 1:
            buffers = self.running_mean, self.running_var
            return _Norm.apply(x, self.weight, self.bias, *buffers, self.momentum, self.eps)
        mean, var = self._statistics(x) if self.training else (self.running_mean, self.running_var)
        scale = self.weight * (var + self.eps).rsqrt()
        return _per_channel(x, scale, self.bias - mean * scale)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = moments(x)
        n = distributed.total(x.new_full((), x[:, 0].numel()))
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1), self.momentum)  # unbiased, as torch keeps it
        return mean, var


def layout(dtype: torch.dtype) -> torch.memory_format:
    """How images and filters lie in memory."""
    # Channels last is the faster layout everywhere but in double precision, which CPUs convolve channel by channel.
    return torch.contiguous_format if dtype == torch.float64 else torch.channels_last


class Normalize(nn.Module):
    """(x - mean) / std per channel, the first layer of every network here, so that all else sees pixels in [0, 1]."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float64).reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).contiguous(memory_format=layout(self.mean.dtype))


class Standardize(nn.Module):
    """Per-image standardisation (Chen et al. 2019): (x - mean) / max(std, 1 / sqrt(n)) of n values from 0 to 255."""

    def forward(self, x: Tensor) -> Tensor:
        x = 255 * x
        centred = x - x.mean((1, 2, 3), keepdim=True)
        variance = centred.square().mean((1, 2, 3), keepdim=True)
        return centred * variance.clamp_min(1 / x[0].numel()).rsqrt()


def conv(i: int, o: int, size: int, stride: int = 1) -> Conv2d:
    """A convolution without bias that keeps the size at stride 1."""
    return Conv2d(i, o, size, stride, size // 2, bias=False)


class MeanPool(nn.Module):
    """Mean over (H, W); adaptive average pooling has no deterministic double backward on CUDA."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))
