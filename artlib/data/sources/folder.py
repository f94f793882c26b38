"""A user's own images, in folders named by class."""

import hashlib
import os
import re
from pathlib import Path

from artlib.data.archives import FileError, members
from artlib.data.raw import Raw

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def folder(path: Path, split: str) -> Raw:
    """Images by class: path/train/<class>/* and path/test/<class>/*, or path/<class>/* with every fifth file as test.

    Without the two folders a file is "test" if sha256("<class>/<file name>") is divisible by 5: adding or removing
    other files never moves it.
    """
    if not path.is_dir():
        raise FileNotFoundError(
            f"there is no folder {path}: give folder:PATH with PATH/<class>/* or PATH/train/<class>/*"
        )
    given = (path / "train").is_dir() or (path / "test").is_dir()
    endings = "|".join(re.escape(suffix) for suffix in SUFFIXES)
    files = members(path, rf"^[^.][^/]*(/[^./][^/]*)*/[^./][^/]*(?i:{endings})\Z")
    keys = {
        name: name.split("/")[1:] if given and name.startswith(("train/", "test/")) else name.split("/")
        for name in files
    }
    if given:
        names = [name for name in files if name.startswith(split + "/") and len(keys[name]) > 1]
        classes = sorted({key[0] for name, key in keys.items() if name.startswith("train/") and len(key) > 1})
    else:
        stable = {name: int(hashlib.sha256(os.fsencode(name)).hexdigest(), 16) % 5 == 0 for name in files}
        names = [name for name in files if stable[name] == (split == "test")]
        classes = sorted({key[0] for key in keys.values()})
    if not names:
        raise FileNotFoundError(f"{path} holds no {split} images ({', '.join(SUFFIXES)}) in folders named by class")
    if unknown := {keys[name][0] for name in names} - set(classes):
        raise FileError(f"{path}/{split} has classes that {path}/train has not: {', '.join(sorted(unknown))}")
    return Raw(path, [files[name] for name in names], [classes.index(keys[name][0]) for name in names], tuple(classes))
