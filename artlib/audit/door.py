"""What an audit accepts as a classifier, and one clear sentence for what it does not."""

import copy
import inspect
import re
import runpy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from artlib import models, paths
from artlib.models import public

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and std of torchvision's classifiers


UNKNOWN = "no module was found in it: give the module itself"


class HardGates(TorchFunctionMode):
    """Inside it hard swish and hard sigmoid are made of ReLUs, since torch's own have no second derivative."""

    def __init__(self, relu: nn.ReLU):
        super().__init__()
        self.relu = relu  # a module, which becomes softplus where the others do

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """(ReLU(x + 3) - ReLU(x - 3)) / 6, of hard swish x times that."""
        if func in (F.hardswish, F.hardsigmoid):
            gate = (self.relu(args[0] + 3) - self.relu(args[0] - 3)) / 6
            return args[0] * gate if func is F.hardswish else gate
        return func(*args, **(kwargs or {}))


class Classifier(nn.Module):
    """A module or a function from pixels (N, C, H, W) in [0, 1] to logits (N, classes), ready for second derivatives.

    Attention inside it is made of matrix products, as torch's fused kernels have no second derivative, nor have hard
    swish and hard sigmoid. Of anything else that is called the modules are known that `reached` finds, and their ReLUs
    become softplus where an attack needs that.
    """

    def __init__(self, net: nn.Module | Callable[[Tensor], Tensor]):
        super().__init__()
        self.net, self.title = net, title_of(net)
        if not isinstance(net, nn.Module):
            self.called = nn.ModuleList(reached(net))
        if any(isinstance(m, nn.Hardswish | nn.Hardsigmoid) for m in self.modules()):
            self.gate = nn.ReLU()
        if next(self.parameters(), None) is None:
            self.dtype_of_images = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        hard = HardGates(self.gate) if hasattr(self, "gate") else nullcontext()
        with sdpa_kernel(SDPBackend.MATH), hard:
            return self.net(x)

    def __deepcopy__(self, memo: dict) -> "Classifier":
        """Itself around a function: a copy's modules would not be those that the function calls."""
        if not isinstance(self.net, nn.Module):
            return self
        memo[id(self)] = found = self.__class__.__new__(self.__class__)
        found.__dict__ = copy.deepcopy(self.__dict__, memo)
        return found


def title_of(net: object) -> str:
    """What messages call a network: its class, or the name of a function."""
    if isinstance(net, partial):
        return title_of(net.func)
    name = getattr(net, "__name__", type(net).__name__)
    return "the function" if name == "<lambda>" else name


@contextmanager
def named(model: nn.Module) -> Iterator[None]:
    """In this block a ValueError tells of the network by its own name, and, where no module is known, to give that."""
    try:
        yield
    except ValueError as error:
        found = next((m for m in model.modules() if isinstance(m, Classifier)), None)
        if found is None:
            raise
        told = re.sub(rf"^({type(model).__name__}|Classifier) ", f"{found.title} ", str(error))
        if not isinstance(found.net, nn.Module) and not len(found.called):
            told = told.replace("write F.relu(x)", f"{UNKNOWN}, or write F.relu(x)")
        raise ValueError(told) from None


def reached(model: object) -> list[nn.Module]:
    """The modules that a model calls: itself, or those that a function, method, partial or object has by name.

    Looked into are closures, the global names of a function, what a partial is given, an object's attributes, and lists
    and dicts of a hundred at most, whatever lies in each other.
    """
    found, seen, left = [], {}, [model]
    while left:
        value = left.pop(0)
        if id(value) in seen or isinstance(value, type | ModuleType):
            continue
        seen[id(value)] = value  # held, so that no other object gets its id
        if isinstance(value, nn.Module):
            found.append(value)
        else:
            left += _parts(value)
    return found


def _parts(value: object) -> list[object]:
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if inspect.ismethod(value):
        return [value.__self__, value.__func__]
    if inspect.isfunction(value) and str(value.__module__).split(".")[0] not in ("torch", "torchvision", "artlib"):
        with suppress(ValueError):  # a name that has no value yet
            names = inspect.getclosurevars(value)
            return [*names.nonlocals.values(), *names.globals.values(), *(value.__defaults__ or ())]
        return []
    if isinstance(value, list | tuple | dict):
        return list(value.values() if isinstance(value, dict) else value)[:100]
    if inspect.isroutine(value) or isinstance(value, Tensor) or not hasattr(value, "__dict__"):
        return []
    return [*vars(value).values(), *([value.__call__] if callable(value) else [])]


@contextmanager
def modes_kept(model: object) -> Iterator[None]:
    """On exit, also after an error, every module that a model calls is in train or eval mode as it was."""
    modes = {m: m.training for each in reached(model) for m in each.modules()}
    try:
        yield
    finally:
        for m, training in modes.items():
            m.training = training


def weight_count(net: nn.Module) -> int:
    """How many weights a `classifier` has, as far as they are known: a function's are not."""
    return sum(p.numel() for name, p in net.named_parameters() if name != "dtype_of_images")


def classifier(
    model: nn.Module | Callable[[Tensor], Tensor] | str,
    *,
    weights: Path | str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> nn.Module:
    """A model from pixels in [0, 1] to logits, in eval mode, that the attacks of `artlib.attacks` can be run on, too.

    model: a module or a function, of normalised images if `mean` and `std` are given, else of pixels; a name in
    `models.public.PUBLIC`, with its file's weights and normalisation; a name of torchvision's, also one of those whose
    file is not there, with torchvision's weights, normalised as ImageNet unless told otherwise; or "FILE.py:NAME", a
    module or function in a file, or what makes one when called with nothing. `weights` is a file of them: safetensors,
    or what torch.save writes of a state_dict. Raises ValueError for anything else, FileNotFoundError for weights that
    are neither here nor can be downloaded.

    >>> import torch
    >>> from artlib import audit
    >>> net = audit.classifier(lambda x: x.mean((2, 3)), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> net(torch.ones(1, 3, 4, 6)).tolist()
    [[1.0, 1.0, 1.0]]
    """
    if (mean is None) != (std is None):
        raise ValueError("mean and std belong together: give both, or none for a model of pixels in [0, 1]")
    if isinstance(model, str):
        if model in public.PUBLIC and (weights is None or model not in _known()):
            _refuse_beside(model, mean=mean, weights=weights)
            return Classifier(_public(model)).eval()
        path, _, name = model.rpartition(":")
        if path:
            model = _of_file(Path(path).expanduser(), name)
        else:
            model, (mean, std) = _torchvision(model, own=weights is None), (mean or IMAGENET[0], std or IMAGENET[1])
    if isinstance(model, type):
        raise ValueError(f"model is the class {model.__name__}; give {model.__name__}(), not {model.__name__}")
    if not callable(model):
        raise ValueError(f"model is of type {type(model).__name__}; give a module, a function, or a name")
    if weights is not None:
        _load(model, Path(weights).expanduser())
    net = Classifier(model)
    return (net if mean is None else models.wrap(net, mean, std)).eval()


def _refuse_beside(name: str, **given: object) -> None:
    if unused := [each for each, value in given.items() if value is not None]:
        told = "mean and std" if unused[0] == "mean" else unused[0]
        raise ValueError(
            f"{name} has {told} of its own: leave {told} out, or give the network itself, as a module or FILE.py:NAME"
        )


def _of_file(path: Path, name: str) -> nn.Module | Callable[[Tensor], Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: give FILE.py:NAME")
    found = runpy.run_path(str(path)).get(name)
    if not callable(found):
        raise ValueError(f"{path} has no module, class or function {name!r}")
    if isinstance(found, nn.Module):
        return found
    needed = [
        p for p in inspect.signature(found).parameters.values() if p.default is p.empty and p.kind < p.VAR_POSITIONAL
    ]
    return found if needed else found()


def _load(model: nn.Module | Callable, path: Path) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError("weights go with a name of torchvision's or a module; a function has its own")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights {path}")
    found = _unwrapped(_read(path), path)
    for prefix in ("module.", "_orig_mod."):  # of a network that was trained in parallel, or compiled
        if all(k.startswith(prefix) for k in found) and not any(k.startswith(prefix) for k in model.state_dict()):
            found = {k.removeprefix(prefix): v for k, v in found.items()}
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        why = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path} does not hold a state_dict of this network: {why}") from None


WHOLE = """only tensors are read; save the network's by torch.save(model.state_dict(), path), or give
FILE.py:NAME of what makes the network with its weights"""


def _read(path: Path) -> object:
    """What a file of weights holds; ValueError where that is no tensors, such as a pickled model, or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); fetch it again") from None
    except (RuntimeError, UnpicklingError, AttributeError, EOFError) as error:
        if "GLOBAL" in str(error) or "TorchScript" in str(error):
            told = " ".join(WHOLE.split())
            raise ValueError(f"{path} holds a whole model or other objects: {told}") from None
        raise ValueError(f"{path} does not hold a state_dict: it is damaged, or no file of torch.save") from None


def _unwrapped(found: object, path: Path) -> Mapping[str, Tensor]:
    """The one state_dict in what was read, also in a checkpoint that has it beside other things."""

    def weights(value: object) -> bool:
        return isinstance(value, Mapping) and len(value) > 0 and all(isinstance(v, Tensor) for v in value.values())

    if weights(found):
        return found
    names = [name for name, value in found.items() if weights(value)] if isinstance(found, Mapping) else []
    if len(names) == 1:
        return found[names[0]]
    told = (
        f"state_dicts by the names {', '.join(map(repr, names))}"
        if names
        else f"an object of type {type(found).__name__} without one"
    )
    raise ValueError(f"{path} must hold one state_dict, and holds {told}; save the one that is meant alone")


def _public(name: str) -> nn.Module:
    """A network of `PUBLIC` by its file; without that by torchvision's weights, where torchvision has the name."""
    about, path = public.PUBLIC[name], paths.DATA / public.PUBLIC[name].file
    if path.exists():
        return public.load(name)
    if name not in _known():
        address = f"https://github.com/{about.source}"
        way = f"put the weights of {about.title} there, as safetensors; they are from {address}"
        raise FileNotFoundError(f"{path} is not there: {way}, data/README.md says more")
    try:
        return models.wrap(_torchvision(name, own=True), *IMAGENET)
    except FileNotFoundError as error:
        way = f"put the weights of {about.source} there, as safetensors"
        raise FileNotFoundError(f"{path} is not there, and {error}; or {way}") from None


def _known() -> list[str]:
    """The names of torchvision's classifiers."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def _torchvision(name: str, *, own: bool) -> nn.Module:
    import torchvision

    if name not in (known := _known()):
        if Path(name).expanduser().is_file():
            raise ValueError(f"{name} is a file: give the name of a network in it, too, FILE.py:NAME")
        near = list(dict.fromkeys([*public.PUBLIC, *(n for n in known if n[:4] == name[:4])]))[:12]
        raise ValueError(f"unknown network {name!r}; a name of torchvision.models, or one of {', '.join(near)}")
    try:
        return torchvision.models.get_model(name, weights="DEFAULT" if own else None)
    except OSError as error:
        raise FileNotFoundError(
            f"torchvision's weights of {name} cannot be downloaded ({error}): connect to a network, or give a file of "
            "them, weights=FILE (--weights FILE)"
        ) from None
