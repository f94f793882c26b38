"""Functions of a model traced once and handed to torch's compiler, where that pays; the same values either way.

Half the cost of a second derivative is not arithmetic but tensors going to memory and back. `call` follows one run of a
function with `make_fx`, through every derivative it takes, and `torch.compile` fuses what was recorded.
"""

import math
import weakref
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from artlib.models import frozen

# Floating-point operations above which compiling, a minute or two, is won back: about ten minutes of two CPU cores, and
# of a data-centre GPU. Constants, not timings, so that a training takes the same path each time it is run or resumed.
WORTHWHILE = {"cpu": 3e13, "cuda": 1e16}

_graphs: "weakref.WeakKeyDictionary[nn.Module, dict]" = weakref.WeakKeyDictionary()
_broken: set[Callable] = set()


def pays(model: nn.Module, x: Tensor, *, passes: float) -> bool:
    """Whether `passes` passes of one image of x (N, C, H, W) through `model` are enough work to compile for."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), frozen(model):
        model(x[:1])
    return passes * counter.get_total_flops() > WORTHWHILE.get(x.device.type, math.inf)


def call(function: Callable, model: nn.Module, *tensors: Tensor | None, compile: bool, **settings):
    """function(model, *tensors, **settings), compiled for these shapes, settings and modules if `compile`.

    `function` returns a tensor, or a tuple of them, without a graph, and takes its derivatives itself; buffers it
    changes are changed. Randomness, decisions by value and messages between processes cannot be traced. When there is
    no compiler, or `function` cannot be traced, one line says so and everything goes on without.
    """
    random = any(isinstance(m, nn.Dropout) and m.training and m.p > 0 for m in model.modules())
    if not compile or random or function in _broken:
        return function(model, *tensors, **settings)
    graphs, key = _graphs.setdefault(model, {}), _signature(function, model, tensors, settings)
    try:
        if key not in graphs:
            graphs[key] = _trace(partial(function, **settings), model, tensors)
        with torch.no_grad():
            return graphs[key](_state(model), *tensors)
    except Exception as error:
        _broken.add(function)
        reason = f"{type(error).__name__}: {str(error).strip()}".splitlines()[0]
        print(f"not compiled, slower: {reason}", flush=True)
        return function(model, *tensors, **settings)


def loss(function: Callable, model: nn.Module, *tensors: Tensor | None, compile: bool, **settings) -> tuple:
    """As `call`, for a function that returns (loss, ...), the loss with its graph: `loss.backward()` works the same."""
    if not compile:
        return function(model, *tensors, **settings)
    weights = [p for p in model.parameters() if p.requires_grad]
    found = call(_with_gradients, model, *tensors, compile=True, losses=function, **settings)
    outputs, gradients = found[: -len(weights)], found[-len(weights) :]
    return _Known.apply(outputs[0], gradients, *weights), *outputs[1:]


def _with_gradients(model: nn.Module, *tensors, losses: Callable, **settings) -> tuple[Tensor, ...]:
    outputs = losses(model, *tensors, **settings)
    weights = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(outputs[0], weights, materialize_grads=True)
    return *(v.detach() for v in outputs), *gradients


class _Known(torch.autograd.Function):
    """A loss whose gradients in the weights are there already."""

    @staticmethod
    def forward(ctx, value, gradients, *weights):
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    def backward(ctx, g):
        return None, None, *(g * v for v in ctx.saved_tensors)


class _Call(nn.Module):
    def __init__(self, function: Callable, model: nn.Module):
        super().__init__()
        self.function, self.model = function, model

    def forward(self, *tensors):
        return self.function(self.model, *tensors)


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: v.detach() for name, v in [*model.named_parameters(), *model.named_buffers()]}


def _trace(function: Callable, model: nn.Module, tensors: tuple) -> Callable:
    module, weights = _Call(function, model), {name for name, p in model.named_parameters() if p.requires_grad}

    def run(state, *tensors):
        leaves = {f"model.{k}": v.requires_grad_(k in weights) for k, v in state.items()}
        return functional_call(module, leaves, tensors)

    graph = make_fx(run, tracing_mode="fake", _allow_non_fake_inputs=True)(_state(model), *tensors)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return torch.compile(graph, dynamic=False)


def _signature(function: Callable, model: nn.Module, tensors: tuple, settings: dict) -> tuple:
    """All that a recorded graph depends on: a network whose ReLUs or mode changed is another network."""
    shapes = tuple(None if t is None else (t.shape, t.stride(), t.dtype, t.device) for t in tensors)
    modules = tuple((type(m), m.training, m.extra_repr()) for m in model.modules())
    weights = tuple((p.shape, p.dtype, p.device, p.requires_grad) for p in model.parameters())
    device = tensors[0].device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    return function, _hashable(settings), shapes, modules, weights, autocast


def _hashable(value):
    if isinstance(value, dict):
        return tuple((k, _hashable(v)) for k, v in sorted(value.items()))
    if isinstance(value, partial):
        return value.func, value.args, _hashable(value.keywords)
    return value
