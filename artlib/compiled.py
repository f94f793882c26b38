"""Functions of a model traced once and handed to torch's compiler, where that pays; the same values either way.

Half the cost of a second derivative is not arithmetic but tensors going to memory and back. `call` follows one run of a
function with `make_fx`, through every derivative it takes, and `torch.compile` fuses what was recorded.
"""

import enum
import math
import types
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
_broken: set[tuple[weakref.ref, Callable]] = set()  # a model and a function of it that cannot be compiled
_said: set[str] = set()  # reasons why something is not compiled, each said once


def pays(model: nn.Module, x: Tensor, *, passes: float) -> bool:
    """Whether `passes` passes of one image of x (N, C, H, W) through `model` are enough work to compile for."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), frozen(model):
        model(x[:1].clone())
    return passes * counter.get_total_flops() > WORTHWHILE.get(x.device.type, math.inf)


def call(function: Callable, model: nn.Module, *tensors: Tensor | None, compile: bool, **settings):
    """function(model, *tensors, **settings), compiled for these shapes, settings and modules if `compile`.

    `function` returns a tensor, or a tuple of them, without a graph, and takes its derivatives itself; buffers it
    changes are changed. Randomness, decisions by value and messages between processes cannot be traced, and what cannot
    be compared with what it was, a tensor in an attribute for one, is not compiled. When there is no compiler, or
    `function` cannot be traced with this model, one line says so and everything goes on without.
    """
    random = any(isinstance(m, nn.Dropout) and m.training and m.p > 0 for m in model.modules())
    if not compile or random or (weakref.ref(model), function) in _broken:
        return function(model, *tensors, **settings)
    try:
        key = _signature(function, model, tensors, settings)
    except _Incomparable as error:
        _say(str(error))
        return function(model, *tensors, **settings)
    try:
        graphs = _graphs.setdefault(model, {})
        if key not in graphs:
            graphs[key] = _trace(partial(function, **settings), model, tensors)
        with torch.no_grad():
            return graphs[key](_state(model), *tensors)
    except Exception as error:
        found = function(model, *tensors, **settings)  # raises if the fault is not the compiler's
        _broken.add((weakref.ref(model), function))
        _say(f"{type(error).__name__}: {str(error).strip()}".splitlines()[0])
        return found


def _say(reason: str) -> None:
    if reason not in _said:
        _said.add(reason)
        print(f"not compiled, slower: {reason}", flush=True)


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


class _Incomparable(Exception):
    pass


def _signature(function: Callable, model: nn.Module, tensors: tuple, settings: dict) -> tuple:
    """All that a recorded graph depends on: a network whose ReLUs, mode or attributes changed is another network."""
    shapes = tuple(None if t is None else _shape(t) for t in tensors)
    names = {id(m): name for name, m in model.named_modules()}
    modules = tuple((name, type(m), _attributes(m, names)) for name, m in model.named_modules())
    weights = tuple((name, _shape(v), v.requires_grad) for name, v in model.named_parameters(remove_duplicate=False))
    buffers = tuple((name, _shape(v)) for name, v in model.named_buffers(remove_duplicate=False))
    device = tensors[0].device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    return function, _value(settings, names), shapes, modules, weights, buffers, autocast


def _shape(t: Tensor) -> tuple:
    return t.shape, t.stride(), t.dtype, t.device


_OF_MODULES = set(vars(nn.Module())) - {"training"}  # tensors and children, which are looked at elsewhere, and hooks
_HOOKS = [name for name in _OF_MODULES if name.endswith(("forward_hooks", "pre_hooks", "backward_hooks"))]
_HOOKS = [name for name in _HOOKS if "state_dict" not in name]
_ATOMS = (types.NoneType, bool, int, float, complex, str, bytes, type, enum.Enum, types.BuiltinFunctionType)
_ATOMS += (torch.dtype, torch.device, torch.memory_format, torch.layout, types.EllipsisType, slice, range)
_ATOMS += (types.ModuleType, types.CodeType, torch.Size)

_SIMPLE = {bool, int, str, types.NoneType}


def _attributes(module: nn.Module, names: dict[int, str]):
    own = vars(module)
    if any(own.get(hooks) for hooks in _HOOKS):
        raise _Incomparable(f"a hook on {type(module).__name__} would not be called")
    return tuple((k, _value(v, names)) for k, v in own.items() if k not in _OF_MODULES)


def _value(value, names: dict[int, str], path: tuple[int, ...] = ()):
    """`value` as something that is equal as long as nothing in it changes; modules of the network by name."""
    kind = type(value)
    if kind in _SIMPLE or (kind is tuple and all(type(v) is int for v in value)):
        return kind, value
    deeper = partial(_value, names=names, path=(*path, id(value)))
    if isinstance(value, float):
        return float, repr(value)  # NaN equals itself, -0.0 is not 0.0
    if isinstance(value, _ATOMS):
        return type(value), value
    if isinstance(value, nn.Module) and id(value) in names:
        return nn.Module, names[id(value)]
    if isinstance(value, tuple | list):
        return type(value), tuple(map(deeper, value))
    if isinstance(value, dict):
        return type(value), tuple((deeper(k), deeper(v)) for k, v in value.items())
    if isinstance(value, set | frozenset):
        return type(value), frozenset(map(deeper, value))
    if isinstance(value, partial):
        return partial, deeper((value.func, value.args, value.keywords))
    if isinstance(value, types.MethodType):
        return types.MethodType, deeper((value.__func__, value.__self__))
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return types.FunctionType, value.__code__, deeper((cells, value.__defaults__, value.__kwdefaults__))
    if isinstance(value, Tensor | nn.Module) or not hasattr(value, "__dict__") or id(value) in path:
        raise _Incomparable(f"a {type(value).__name__} in an attribute or a setting may change unnoticed")
    return type(value), deeper(vars(value))
