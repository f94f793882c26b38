"""A digest of code that lies outside artlib: a notebook's training, a script's attribution.

`digest` knows modules by their files; a cell has none. Here functions count by what Python made of them, with the
functions and constants of their own module that they use, and classes by their methods and constants: an edit gives
another digest, another cell or line number does not.
"""

import hashlib
from types import CodeType, FunctionType


def own_code(*parts: object) -> str:
    """8 hex digits for those of `parts`, functions, classes or instances, that artlib does not define; "" for none."""
    seen: dict[str, object] = {}
    for part in parts:
        part = getattr(part, "func", part)  # a functools.partial
        _follow(part if isinstance(part, type | FunctionType) else type(part), seen)
    return hashlib.sha256(repr(sorted(seen.items())).encode()).hexdigest()[:8] if seen else ""


def _follow(part: type | FunctionType, seen: dict[str, object]) -> None:
    name = f"{part.__module__}.{part.__qualname__}"
    if part.__module__.split(".")[0] in ("artlib", "builtins", "torch", "captum") or name in seen:
        return
    seen[name] = None
    if isinstance(part, type):
        members = {k: _function(v) or v for k, v in vars(part).items()}
        seen[name] = _constants({k: v for k, v in members.items() if not k.startswith("__")})
        found = [v for v in members.values() if isinstance(v, FunctionType)] + list(part.__bases__)
    else:
        used = {word: part.__globals__.get(word) for word in part.__code__.co_names}
        defaults = dict(enumerate(part.__defaults__ or ())) | (part.__kwdefaults__ or {})
        seen[name] = [_shape(part.__code__), _constants(defaults), _constants(used)]
        found = [f for f in used.values() if isinstance(f, FunctionType) and f.__module__ == part.__module__]
    for each in found:
        _follow(each, seen)


def _constants(values: dict) -> list[tuple[str, str]]:
    """Those whose `repr` says what they are, by name."""
    plain = bool | int | float | str | tuple
    return sorted((str(name), repr(v)) for name, v in values.items() if isinstance(v, plain))


def _function(member: object) -> FunctionType | None:
    """What a property, a static or a class method is made of."""
    for inside in ("fget", "__func__", "func"):
        member = getattr(member, inside, member)
    return member if isinstance(member, FunctionType) else None


def _shape(code: CodeType) -> list:
    """Instructions, names and constants; of a set its sorted members, whose order is another in every process."""
    constants = [_shape(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    constants = [sorted(map(repr, c)) if isinstance(c, frozenset) else repr(c) for c in constants]
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]
