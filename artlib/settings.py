"""Settings that check themselves when they are made, and say what they are by what differs from their defaults."""

import math
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin


@dataclass(frozen=True)
class Range:
    """The values that a number may have, both ends included."""

    low: float = -math.inf
    high: float = math.inf


Count = Annotated[int, Range(1)]
Whole = Annotated[int, Range(0)]
Positive = Annotated[float, Range(math.ulp(0.0))]
NotNegative = Annotated[float, Range(0)]
Pixels = Annotated[float, Range(0, 1)]  # a distance in units of [0, 1]: 8 / 255, not 8
Share = Annotated[float, Range(0, 1)]


class Settings:
    """A base of frozen dataclasses: a wrong name, type or range raises one ValueError when the object is made.

    Fields say by their type what they allow: Literal names, int, float, Annotated[..., Range], tuples of them, a union
    with None. An integer for a float becomes one and a list a tuple, so that equal settings have one key.
    """

    def __post_init__(self) -> None:
        for field in fields(self):
            value = _checked(field.name, getattr(self, field.name), _hints(type(self))[field.name])
            object.__setattr__(self, field.name, value)

    def differences(self) -> dict[str, Any]:
        """The kind of settings and the fields that differ from the defaults, as JSON can hold them.

        Keys of stored results are made of this, so that a new field with a default orphans no old result. The price: a
        default never changes, a better choice gets a name of its own (a protocol, a preset).
        """
        changed = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != _default(f)}
        return {"kind": type(self).__qualname__} | {name: plain(value) for name, value in changed.items()}

    def plain(self) -> dict[str, Any]:
        """All fields, as JSON can hold them: for provenance."""
        return {"kind": type(self).__qualname__} | {
            f.name: plain(getattr(self, f.name), whole=True) for f in fields(self)
        }


def plain(value: Any, *, whole: bool = False) -> Any:
    """A setting as JSON can hold it: settings by their differences or `whole`, functions by module and name."""
    if isinstance(value, Settings):
        return value.plain() if whole else value.differences()
    if isinstance(value, dict):
        return {str(k): plain(v, whole=whole) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(v, whole=whole) for v in value]
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if is_dataclass(value):
        return {"kind": type(value).__qualname__} | {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    return value


def _default(field: Field) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


def _checked(name: str, value: Any, hint: Any) -> Any:
    if get_origin(hint) in (typing.Union, types.UnionType):
        options = get_args(hint)
        if value is None and type(None) in options:
            return None
        options = [o for o in options if o is not type(None)]
        if len(options) > 1:
            return value  # several kinds: what uses the field tells them apart
        hint = options[0]
    allowed = Range()
    if get_origin(hint) is Annotated:
        hint, allowed = get_args(hint)[:2]
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(map(str, get_args(hint)))}")
    elif get_origin(hint) is tuple:
        return _checked_tuple(name, value, get_args(hint))
    elif hint in (int, float):
        kinds = int if hint is int else int | float
        if isinstance(value, bool) or not isinstance(value, kinds) or not allowed.low <= value <= allowed.high:
            raise ValueError(f"{name} is {value!r}; it must be {_words(hint, allowed)}")
        return hint(value)
    elif isinstance(hint, type) and not isinstance(value, hint) and hint is not Callable:
        raise ValueError(f"{name} is {value!r}, a {type(value).__name__}; it must be of type {hint.__name__}")
    return value


def _checked_tuple(name: str, value: Any, kinds: tuple) -> tuple:
    if not isinstance(value, tuple | list):
        raise ValueError(f"{name} is {value!r}, a {type(value).__name__}; it must be of type tuple")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{name} has {value!r}, {len(value)} values; it must be {len(kinds)}")
    return tuple(_checked(name, v, kind) for v, kind in zip(value, kinds, strict=True))


def _words(hint: type, allowed: Range) -> str:
    kind = "an integer" if hint is int else "a number"
    if allowed.low == math.ulp(0.0):
        return f"{kind} above 0"
    if allowed.high == math.inf:
        return kind if allowed.low == -math.inf else f"{kind}, {allowed.low:g} or more"
    return f"{kind} from {allowed.low:g} to {allowed.high:g}"
