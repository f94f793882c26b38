"""Folders and archives are read in place, nothing is unpacked; whatever is wrong with a file names it."""

import contextlib
import errno
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

File = Path | bytes  # an encoded image: on disk, or taken out of an archive


class FileError(ValueError):
    """A file that cannot be used; the message names it and the way out."""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a truncated or foreign file makes a decoder raise into one ValueError that names the file.

    An error of the disk (no permission, a broken sector) stays an OSError: the contents may be whole.
    """
    try:
        yield
    except (FileError, FileNotFoundError):
        raise
    except MemoryError:
        raise FileError(f"{path} does not fit into memory: free some, or put the published file there") from None
    except Exception as error:  # decoders raise two dozen kinds
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a place before the start
            raise OSError(error.errno, f"cannot be read, {error.strerror}", str(path)) from None
        reason = " ".join(str(error).split()) or type(error).__name__  # tarfile's has line breaks
        raise FileError(f"{path} is damaged ({reason}): delete it and load again") from None


def first(root: Path, *names: str) -> Path | None:
    """The first of these files and folders that is there."""
    return next((readable(root / name) for name in names if (root / name).exists()), None)


def readable(path: Path) -> Path:
    """`path`, if it is a file or a folder; reading a pipe or a device would wait for ever."""
    if not (path.is_file() or path.is_dir()):
        raise FileError(f"{path} is neither a file nor a folder (a broken link, a pipe, a device): remove it")
    return path


def some(found: dict, path: Path, what: str) -> dict:
    """`found`, if it is not empty."""
    if not found:
        raise FileError(f"{path} holds no {what}: delete it and load again, or put the expected files there")
    return found


def content(file: File) -> bytes:
    """The bytes of a file."""
    if isinstance(file, bytes):
        return file
    with reading(file):
        return file.read_bytes()


def text(file: File, path: Path) -> str:
    """The text of a file; `path` is what an error names for a file out of an archive."""
    with reading(file if isinstance(file, Path) else path):
        return content(file).decode("utf-8-sig")


def members(path: Path, pattern: str) -> dict[str, File]:
    """Files of a folder, tar, zip or npz whose posix name matches `pattern` (re.search), sorted by name.

    Archives are read to their end, where the checksum is. Raises FileError for damaged and encrypted archives, a
    member that points outside the archive's folder, and what `_in_folder` refuses.
    """
    wanted = re.compile(pattern).search
    if path.is_dir():
        found = _in_folder(path, wanted)
    else:
        with reading(path):
            found = (_in_zip if path.suffix in (".zip", ".npz") else _in_tar)(path, wanted)
    return dict(sorted(found.items()))


def _in_zip(path: Path, wanted: Callable) -> dict[str, bytes]:
    found = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if wanted(_inside(member.filename, path)):
                if member.flag_bits & 1:
                    raise FileError(f"{path} is encrypted: put the published archive there, or its unpacked files")
                found[member.filename] = archive.read(member)
    return found


def _in_tar(path: Path, wanted: Callable) -> dict[str, bytes]:
    found = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if member.isfile() and wanted(_inside(member.name, path)):
                found[member.name] = archive.extractfile(member).read()
        while archive.fileobj.read(1 << 20):  # the checksum of a .gz is compared where the stream ends
            pass
    return found


def _inside(name: str, path: Path) -> str:
    if name.startswith("/") or ".." in PurePosixPath(name.replace("\\", "/")).parts:
        raise FileError(f"{path} holds {name!r}, which points outside its folder: do not use this archive")
    return name


def _in_folder(path: Path, wanted: Callable) -> dict[str, Path]:
    """Links are followed, since class folders are often links, but no file is met twice: it could be on both sides.

    Raises FileError for a link to a folder or file met before or to a folder that holds `path`, and for a wanted name
    that is no file; OSError for a folder that cannot be listed.
    """
    found, met = {}, {}
    top = os.path.realpath(path)
    for folder, folders, names in os.walk(path, followlinks=True, onerror=_raise):
        here = os.path.realpath(folder)
        if here in met or (here != top and Path(top).is_relative_to(here)):
            raise FileError(f"{folder} is the folder {met.get(here, here)} again, by a link: remove the link")
        met[here] = folder
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(folder, name)
            if wanted(key := file.relative_to(path).as_posix()):
                plain = stat.S_ISREG(file.lstat().st_mode)
                real = os.path.join(here, name) if plain else os.path.realpath(readable(file))
                if real in met:
                    raise FileError(f"{file} is the file {met[real]} again, by a link: remove the link")
                found[key] = met[real] = file
    return found


def _raise(error: OSError) -> None:
    raise error
