"""What code a result ran through: a digest of the modules it needs, found by following their imports.

Comments, docstrings and layout do not count. An `__init__.py` is a list of what there is: its functions and classes
count, its list and its imports do not, so that a new file beside the others changes no digest but its own users'.
"""

import ast
import hashlib
import importlib.util
import sys
from functools import cache
from pathlib import Path


def code_digest(*parts: object) -> str:
    """12 hex digits for the code behind `parts`: functions, classes, instances, or modules by dotted name.

    What is defined outside artlib, a notebook's own training for one, counts by its name alone.
    """
    names = {part if isinstance(part, str) else _module_of(part) for part in parts}
    seen, left = set(), {name for name in names if _file(name)}
    while left:
        seen |= left
        left = {used for name in left for used in _parsed(name)[1]} - seen
    text = [(name, _parsed(name)[0]) for name in sorted(seen)] + sorted(names - seen)
    return hashlib.sha256(repr(text).encode()).hexdigest()[:12]


def _module_of(part: object) -> str:
    part = getattr(part, "func", part)  # a functools.partial
    return getattr(part, "__module__", None) or type(part).__module__


@cache
def _file(name: str) -> Path | None:
    if not (name == "artlib" or name.startswith("artlib.")):
        return None
    loaded = sys.modules.get(name)
    origin = getattr(loaded, "__file__", None)
    if origin is None:
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:  # its parent is a module, not a package
            return None
        origin = spec and spec.origin
    return Path(origin) if origin else None


@cache
def _parsed(name: str) -> tuple[str, frozenset[str]]:
    """The code of a module as one string, and the artlib modules whose names it uses."""
    path = _file(name)
    tree = ast.parse(path.read_text())
    used = frozenset() if path.name == "__init__.py" else _used(tree)
    return _code(tree, only_definitions=path.name == "__init__.py"), used


def _code(tree: ast.Module, *, only_definitions: bool) -> str:
    kinds = ast.FunctionDef | ast.ClassDef
    if only_definitions:
        tree.body = [node for node in tree.body if isinstance(node, kinds)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | kinds) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return repr(_shape(tree))


def _shape(node: object) -> object:
    """A syntax tree without what is empty: `ast.dump` tells of such fields in some versions of Python only."""
    if isinstance(node, list):
        return [_shape(each) for each in node]
    if not isinstance(node, ast.AST):
        return node
    fields = [(name, _shape(value)) for name, value in ast.iter_fields(node) if value not in (None, [])]
    return [type(node).__name__, *fields]


def _used(tree: ast.Module) -> frozenset[str]:
    found, packages = set(), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "artlib":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if _file(whole) and _file(whole).name == "__init__.py":
                    packages[alias.asname or alias.name] = whole
                else:
                    found.add(_home(node.module, alias.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in packages:
            found.add(_home(packages[node.value.id], node.attr))
    return frozenset(found)


def _home(module: str, name: str) -> str:
    """The module where `name` of `module` is written: a submodule, or where a package has it from."""
    if _file(f"{module}.{name}"):
        return f"{module}.{name}"
    if _file(module).name == "__init__.py":
        for node in ast.parse(_file(module).read_text()).body:
            if isinstance(node, ast.ImportFrom) and any((a.asname or a.name) == name for a in node.names):
                return _home(node.module, name) if _file(node.module or "") else module
    return module
