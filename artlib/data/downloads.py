"""Files that are fetched when they are missing, and compared with their published checksums wherever they are from."""

import functools
import hashlib
import http.client
import os
import tempfile
import urllib.request
from pathlib import Path

from artlib.data.archives import FileError, readable, reading, text


def fetch(path: Path, *urls: str, md5: str | None = None) -> Path:
    """Return `path`, downloading it if it is missing; it appears under its name only when it is whole and checked.

    A file that is there is compared with `md5`, without one with the sha256 of its first download. Raises FileError
    for another file, FileNotFoundError where no address answers, PermissionError and OSError for what cannot be saved.
    """
    record = path.with_name(path.name + ".sha256")
    if path.exists():
        compare(path, md5)
        if record.exists() and text(record, record).strip() != _digest(path, "sha256"):
            raise FileError(f"{path} is not what {record.name} recorded: delete both and load again")
        return path
    for url in urls:
        try:
            response = urllib.request.urlopen(urllib.request.Request(url, headers={"User-Agent": "artlib"}), timeout=30)
        except (OSError, http.client.HTTPException) as error:
            reason = error
            continue
        with response:
            _save(response, path, url, md5)
        if md5 is None:
            record.write_text(_digest(path, "sha256") + "\n")
        return path
    raise missing(path, f"{urls[0]} cannot be reached ({reason})")


def missing(path: Path, why: str) -> FileNotFoundError:
    """The error for a file that is neither there nor to be had."""
    return FileNotFoundError(
        f"{path.name} is not in {path.parent} and {why}: "
        "put the file there, or name the folder that holds your data sets in ARTLIB_DATA"
    )


def compare(path: Path, md5: str | None) -> None:
    """Raise FileError if `path` has another md5, which is computed once in a process."""
    if md5 is None:
        return
    state = readable(path).stat()
    if (got := _remembered(path, state.st_size, state.st_mtime_ns)) != md5:
        raise FileError(f"{path} is not the published file (md5 {got} instead of {md5}): delete it and load again")


@functools.cache
def _remembered(path: Path, size: int, changed: int) -> str:
    return _digest(path, "md5")


def _save(response, path: Path, url: str, md5: str | None) -> None:
    from tqdm import tqdm

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)
    except OSError as error:
        raise PermissionError(
            f"cannot write {path.name} to {path.parent} ({error.strerror}): name a writable folder in ARTLIB_DATA"
        ) from None
    try:
        total = int(response.headers.get("Content-Length") or 0)
        with part, tqdm(total=total or None, unit="B", unit_scale=True, desc=path.name) as bar:
            while chunk := response.read(1 << 18):
                part.write(chunk)
                bar.update(len(chunk))
            size = part.tell()
        got = _digest(Path(part.name), "md5")
        if (total and size != total) or (md5 and got != md5):
            raise OSError(f"{size:,} of {total:,} bytes, md5 {got}" + (f" instead of {md5}" if md5 else ""))
        os.chmod(part.name, 0o644)  # temporary files are private
        os.replace(part.name, path)
    except OSError as error:
        raise OSError(
            f"the download of {path.name} from {url} failed ({error}): nothing was kept, load again"
        ) from None
    finally:
        Path(part.name).unlink(missing_ok=True)


def _digest(path: Path, algorithm: str) -> str:
    with reading(path), open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
