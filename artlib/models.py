"""Networks from pixels in [0, 1] to logits, and the softplus surrogate whose second derivative is not zero.

The two layers `Conv2d` and `BatchNorm2d` compute what torch's compute; only their double backward is cheaper, and
everything in this project differentiates through an input gradient.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artlib import distributed

# ------------------------------------------------------------------ layers with a cheap double backward


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
        sums = torch.cat([x.sum((0, 2, 3)), x.new_full((1,), x[:, 0].numel())])
        sums = distributed.total(sums)
        mean, n = sums[:-1] / sums[-1], sums[-1]
        var = distributed.total((x - mean[:, None, None]).square().sum((0, 2, 3))) / n
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1), self.momentum)  # unbiased, as torch keeps it
        return mean, var


def _layout(dtype: torch.dtype) -> torch.memory_format:
    # Channels last is the faster layout everywhere but in double precision, which CPUs convolve channel by channel.
    return torch.contiguous_format if dtype == torch.float64 else torch.channels_last


class Normalize(nn.Module):
    """(x - mean) / std per channel, the first layer of every network here, so that all else sees pixels in [0, 1]."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float64).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float64).reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).contiguous(memory_format=_layout(self.mean.dtype))


class Standardize(nn.Module):
    """Per-image standardisation (Chen et al. 2019): (x - mean) / max(std, 1 / sqrt(n)) of n values from 0 to 255."""

    def forward(self, x: Tensor) -> Tensor:
        x = 255 * x
        centred = x - x.mean((1, 2, 3), keepdim=True)
        variance = centred.square().mean((1, 2, 3), keepdim=True)
        return centred * variance.clamp_min(1 / x[0].numel()).rsqrt()


# ------------------------------------------------------------------ the softplus surrogate


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


@contextmanager
def frozen(model: nn.Module, *, training: bool | None = False) -> Iterator[nn.Module]:
    """`model` with weights that need no gradient, in eval mode unless `training`; both are put back on exit.

    `training` None leaves every module in its mode.
    """
    weights = [p for p in model.parameters() if p.requires_grad]
    modes = {m: m.training for m in model.modules()}
    try:
        model.requires_grad_(False)
        if training is not None:
            model.train(training)
        yield model
    finally:
        for p in weights:
            p.requires_grad_(True)
        for m, mode in modes.items():
            m.training = mode


# ------------------------------------------------------------------ the door


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


# ------------------------------------------------------------------ networks


def _conv(i: int, o: int, size: int, stride: int = 1) -> Conv2d:
    return Conv2d(i, o, size, stride, size // 2, bias=False)


class _WideBlock(nn.Module):
    """BN-ReLU-conv-BN-ReLU-dropout-conv; a shortcut that must project starts after the first ReLU."""

    def __init__(self, i: int, o: int, stride: int, dropout: float):
        super().__init__()
        self.bn1, self.relu1, self.conv1 = BatchNorm2d(i), nn.ReLU(), _conv(i, o, 3, stride)
        self.bn2, self.relu2, self.conv2 = BatchNorm2d(o), nn.ReLU(), _conv(o, o, 3)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.shortcut = _conv(i, o, 1, stride) if i != o or stride != 1 else None

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu1(self.bn1(x))
        b = self.conv2(self.dropout(self.relu2(self.bn2(self.conv1(a)))))
        return b + (x if self.shortcut is None else self.shortcut(a))


class _MeanPool(nn.Module):
    """Mean over (H, W); adaptive average pooling has no deterministic double backward on CUDA."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def wide_resnet(
    depth: int, width: int, num_classes: int, *, in_channels: int = 3, dropout: float = 0.0
) -> nn.Sequential:
    """WideResNet-depth-width of Zagoruyko and Komodakis 2016; depth = 6 n + 4, n blocks in each of three stages."""
    if (depth - 4) % 6 or depth < 10 or width < 1:
        raise ValueError(
            f"wrn-{depth}-{width}: depth must be 6 n + 4 (10, 16, 22, 28, 40, ...), width a positive integer"
        )
    n, widths = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
    layers = [_conv(in_channels, 16, 3)]
    for stage in range(3):
        for b in range(n):
            i, o = widths[stage + (b > 0)], widths[stage + 1]
            layers.append(_WideBlock(i, o, 2 if stage and b == 0 else 1, dropout))
    return nn.Sequential(*layers, BatchNorm2d(widths[3]), nn.ReLU(), _MeanPool(), Linear(widths[3], num_classes))


def rar_cnn(num_classes: int, *, in_channels: int = 1, size: int = 28) -> nn.Sequential:
    """Chen et al.'s network for size x size digits: conv5x5x32, pool, conv5x5x64, pool, 1024 units (facts §2)."""
    conv = [Conv2d(in_channels, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    conv += [Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*conv, Linear(64 * (size // 4) ** 2, 1024), nn.ReLU(), Linear(1024, num_classes))


class _PlainBlock(nn.Module):
    """Residual block of Chen et al.'s small ResNet: leaky ReLU 0.1, no batch normalisation, zero-padded shortcut."""

    def __init__(self, i: int, o: int, stride: int, *, shared: bool):
        super().__init__()
        self.first, self.shared = nn.LeakyReLU(0.1), shared  # shared: the shortcut, too, starts after the activation
        self.conv1, self.relu, self.conv2 = _conv(i, o, 3, stride), nn.LeakyReLU(0.1), _conv(o, o, 3)
        self.stride, self.extra = stride, o - i

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x)
        x = a if self.shared else x
        a = self.conv2(self.relu(self.conv1(a)))
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride)
        lead = self.extra // 2
        return a + F.pad(x, (0, 0, 0, 0, lead, self.extra - lead))


def rar_resnet(units: int, num_classes: int, *, in_channels: int = 3) -> nn.Sequential:
    """Chen et al.'s ResNet: filters 16, 16, 32, 64, `units` blocks a stage, per-image standardisation (facts §2).

    Convolutions of stride 2 pad symmetrically; the released TensorFlow code pads one pixel at the far border.
    """
    filters, layers = [16, 16, 32, 64], [Standardize(), _conv(in_channels, 16, 3)]
    for stage in range(3):
        for b in range(units):
            i, o = filters[stage + (b > 0)], filters[stage + 1]
            layers.append(_PlainBlock(i, o, 2 if stage and b == 0 else 1, shared=stage + b == 0))
    return nn.Sequential(*layers, nn.LeakyReLU(0.1), _MeanPool(), Linear(filters[3], num_classes))


ARCHITECTURES = "wrn-DEPTH-WIDTH (wrn-28-10, wrn-40-2, wrn-10-1, ...), rar-cnn, rar-resnet-1, rar-resnet-2"


def build(
    arch: str,
    num_classes: int,
    *,
    in_channels: int = 3,
    size: int = 32,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """A freshly initialised network from pixels in [0, 1], (N, in_channels, size, size), to logits (N, num_classes).

    `mean` and `std` (default 0 and 1) are one number per channel, in pixel units. Weights are drawn uniformly with the
    variance of He et al. 2015 from `generator` (default: seed 0). Raises ValueError for an unknown architecture.
    """
    mean, std = mean or (0.0,) * in_channels, std or (1.0,) * in_channels
    if not len(mean) == len(std) == in_channels:
        raise ValueError(f"mean {mean} and std {std} must have one number for each of {in_channels} channels")
    with torch.random.fork_rng(devices=[]):  # constructors draw from the global generator; nobody else should notice
        if match := re.fullmatch(r"wrn-(\d+)-(\d+)", arch):
            depth, width = map(int, match.groups())
            net = wide_resnet(depth, width, num_classes, in_channels=in_channels, dropout=dropout)
        elif match := re.fullmatch(r"rar-resnet-([12])", arch):
            net = rar_resnet(int(match[1]), num_classes, in_channels=in_channels)
        elif arch == "rar-cnn":
            net = rar_cnn(num_classes, in_channels=in_channels, size=size)
        else:
            raise ValueError(f"unknown architecture {arch!r}; choose one of {ARCHITECTURES}")
    model = nn.Sequential(Normalize(mean, std), *net).double()
    _initialise(model, generator or torch.Generator().manual_seed(0))
    return model.to(dtype, memory_format=_layout(dtype))


def _initialise(model: nn.Module, generator: torch.Generator) -> None:
    # Uniform, not normal: torch's normal generator gives other last digits under other instruction sets.
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan = module.weight[0].numel()
            bound = (6 / fan) ** 0.5 if isinstance(module, nn.Conv2d) else (3 / fan) ** 0.5
            draw = torch.rand(module.weight.shape, generator=generator, dtype=torch.float64)
            module.weight.data = (2 * draw - 1) * bound
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def parameter_count(model: nn.Module) -> int:
    """Number of trainable weights."""
    return sum(p.numel() for p in model.parameters())
