"""The softplus surrogate, whose second derivative is not zero where ReLU's is."""

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from artlib.models.statistics import mode


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
    derivative is 0 (DIFFERENCES.md, C-14). Derivatives up to the second order; a third raises.
    """

    def __init__(self, beta: float = 50.0, *, threshold: float | None = None, slope: float = 0.0):
        super().__init__()
        self.beta, self.threshold, self.slope = beta, threshold, slope

    def extra_repr(self) -> str:
        return f"{self.beta}, threshold={self.threshold}, slope={self.slope}"

    def forward(self, x: Tensor) -> Tensor:
        y = _Softplus.apply(x, self.beta, self.threshold)
        return y if self.slope == 0 else self.slope * x + (1 - self.slope) * y


_ACTIVATIONS = nn.ReLU | nn.LeakyReLU | nn.ReLU6 | nn.PReLU


def _smooth_forward(module: nn.Module, beta: float, threshold: float | None) -> Callable[[Tensor], Tensor]:
    soft = Softplus(beta, threshold=threshold, slope=getattr(module, "negative_slope", 0.0))

    def forward(x: Tensor) -> Tensor:
        if isinstance(module, nn.ReLU6):  # relu6(x) = relu(x) - relu(x - 6)
            return soft(x) - soft(x - 6)
        if isinstance(module, nn.PReLU):
            slope = module.weight if x.ndim < 2 else module.weight.view(-1, *[1] * (x.ndim - 2))
            return slope * x + (1 - slope) * soft(x)
        return soft(x)

    if not getattr(module, "inplace", False):
        return forward
    return lambda x: x.copy_(forward(x.clone()))  # whoever holds on to x sees the new values, as with the ReLU


@contextmanager
def _instead(modules: list[nn.Module], forward: Callable[[nn.Module], Callable]) -> Iterator[None]:
    """`modules` compute `forward(module)` in this block; they stay in their place, with their hooks and weights."""
    before = [m.__dict__.get("forward") for m in modules]
    try:
        for m in modules:
            m.__dict__["forward"] = forward(m)
        yield
    finally:
        for m, own in zip(modules, before, strict=True):
            m.__dict__.pop("forward", None)
            if own is not None:
                m.__dict__["forward"] = own


@contextmanager
def smooth(model: nn.Module, beta: float, *, threshold: float | None = None) -> Iterator[nn.Module]:
    """Make every ReLU, leaky ReLU, ReLU6 and PReLU of `model` softplus_beta inside a `with` block (ART, section 3.2).

    The modules themselves compute something else meanwhile, so weights and hooks stay; all is as before on exit, also
    after an error. Of nested blocks the inner beta counts. A network of smooth activations is its own surrogate. Raises
    ValueError for a beta that is not positive, and, at the first pass of a network that has not been looked at,
    whatever `check_smooth` raises.
    """
    if not beta > 0:
        raise ValueError(f"beta is {beta}; the softplus sharpness must be positive (the paper uses 50)")
    found = [m for m in model.modules() if isinstance(m, _ACTIVATIONS)]
    look = None
    if _seen.get(model) != _kinds(model):
        look = model.register_forward_pre_hook(lambda _, inputs: check_smooth(model, inputs[0]))
    try:
        with _instead(found, partial(_smooth_forward, beta=beta, threshold=threshold)):
            yield model
    finally:
        if look:
            look.remove()


_seen: "weakref.WeakKeyDictionary[nn.Module, tuple]" = weakref.WeakKeyDictionary()


def _kinds(model: nn.Module) -> tuple[type, ...]:
    return tuple(map(type, model.modules()))


def check_smooth(model: nn.Module, x: Tensor) -> None:
    """Raise ValueError if a ReLU, or the like of it, of `model` escapes `smooth`: one called as a function.

    Its surrogate would be a network with flat pieces left, whose attacks find nothing. Looks at every operation of one
    pass over the first image of x (N, C, H, W), once a model. Max pooling passes, as in the papers' networks.
    """
    if not len(x) or _seen.get(model) == _kinds(model):
        return
    _seen[model] = _kinds(model)  # already now: the pass below must not ask again
    try:
        _look(model, x[:1].detach())
    except BaseException:
        _seen.pop(model, None)
        raise


def _look(model: nn.Module, image: Tensor) -> None:
    replaced = [m for m in model.modules() if isinstance(m, _ACTIVATIONS | Softplus)]
    # Whoever records or counts operations at present, a compiler or a meter, is not to see these.
    with _disable_current_modes(), mode(model), torch.enable_grad(), _instead(replaced, lambda _: F.softplus):
        leaf = image.clone().requires_grad_()  # without gradients, torch fuses a transformer's layers with their ReLUs
        with _Watch(image) as watch:
            model(leaf.clone())
    if watch.found:
        names = ", ".join(f"{name} ({n} times)" for name, n in watch.found.items())
        raise ValueError(
            f"{type(model).__name__} calls {names} beside the {len(replaced)} activation modules that become softplus: "
            "the surrogate would keep those kinks; write F.relu(x) as nn.ReLU()(x), a module of the network"
        )


class _Watch(TorchDispatchMode):
    """Counts operations that are piecewise linear with a kink at 0, whatever function they were called by."""

    KINKS = ("relu", "relu_", "relu6", "leaky_relu", "leaky_relu_", "prelu", "_prelu_kernel", "hardtanh", "hardtanh_")
    KINKS += ("threshold", "threshold_", "rrelu", "rrelu_", "rrelu_with_noise", "rrelu_with_noise_", "abs", "abs_")
    CLAMPS = ("clamp", "clamp_", "clamp_min", "clamp_min_", "maximum")

    def __init__(self, image: Tensor):
        super().__init__()
        self.image, self.found = image, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name in self.KINKS or (name in self.CLAMPS and self._at_zero(*args, **(kwargs or {}))):
            self.found[name] = self.found.get(name, 0) + 1
        return func(*args, **(kwargs or {}))

    def _at_zero(self, x: Tensor, low=None, high=None, **kwargs) -> bool:
        low, high = kwargs.get("min", low), kwargs.get("max", high)
        if low is None or x.shape == self.image.shape and torch.equal(x, self.image):  # an image kept in its range
            return False
        return bool((torch.as_tensor(low) == 0).all()) or bool((x == 0).all() and isinstance(low, Tensor))
