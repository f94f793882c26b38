"""Files that are whole or not there, say when they are damaged, and are made by one process at a time."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_ELSEWHERE = "set ARTLIB_MODELS or ARTLIB_FIGURES to a folder that can be"


def write(path: Path, how: Callable[[Path], object]) -> None:
    """Let `how` write a temporary file, then rename it: a reader sees the old file or the new one.

    Raises PermissionError naming the file that cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        how(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise PermissionError(f"cannot write {path}: {error}; {_ELSEWHERE}") from None
    finally:
        with suppress(OSError):  # renamed, or never made: the folder itself may be missing
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write(path, lambda temporary: temporary.write_text(text))


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, with a digest of all that is in it, whole or not at all."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    metadata = metadata | {"digest": _digest(tensors, metadata)}
    write(path, lambda temporary: save_file(tensors, temporary, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a file of `write_tensors`; ValueError naming the file when it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors, metadata = {k: file.get_tensor(k) for k in file.keys()}, file.metadata() or {}
    except OSError:
        raise  # missing or unreadable, and its message says so
    except Exception as error:  # safetensors raises its own, undocumented class
        raise _damaged(path, error) from None
    if metadata.pop("digest", None) != _digest(tensors, metadata):
        raise _damaged(path, "it does not hold what was written")
    return tensors, metadata


def read_json(path: Path) -> Any:
    """The contents of a JSON file; ValueError naming the file when it is cut short or altered."""
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise _damaged(path, error) from None


def _damaged(path: Path, why: object) -> ValueError:
    return ValueError(f"{path} is damaged ({why}); delete it and run again")


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps([tensors_digest(tensors), metadata], sort_keys=True).encode()).hexdigest()


def tensors_digest(tensors: dict[str, Tensor]) -> str:
    """sha256 (hex) over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def only_one(path: Path, *, tell: bool = True) -> Iterator[None]:
    """Hold a lock beside `path`, so that two notebooks that need the same file wait for one computation.

    Whoever waits says so, if `tell`: stored outputs of tests must not depend on who came first.
    """
    lock = path.with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = open(lock, "w")
    except OSError as error:
        raise PermissionError(f"cannot write {lock}: {error}; {_ELSEWHERE}") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if tell:
                print(f"waiting for another process that makes {path.name}", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
