"""A user's own images, in folders named by class."""

import csv
import hashlib
import io
import os
import re
from pathlib import Path

import torch

from artlib.data.archives import FileError, members, text
from artlib.data.raw import Raw

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def folder(path: Path, split: str) -> Raw:
    """Images by class: path/train/<class>/* and path/test/<class>/*, or path/<class>/* with every fifth file as test.

    Without the two folders a file is "test" if sha256("<class>/<file name>") is divisible by 5: adding or removing
    other files never moves it. With path/boxes.csv images have boxes; its columns are file (as below path), and x0, y0,
    x1, y1 in pixels of the file.
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
    labels = [classes.index(keys[name][0]) for name in names]
    return Raw(path, [files[name] for name in names], labels, tuple(classes), boxes=_boxes(path / "boxes.csv", names))


def _boxes(path: Path, names: list[str]) -> torch.Tensor | None:
    if not path.exists():
        return None
    found, sides = {}, ("x0", "y0", "x1", "y1")
    try:
        lines = text(path, path)
    except FileError:  # whose advice is for what was downloaded
        raise FileError(f"{path} is not text in UTF-8: save it anew, in a spreadsheet as CSV UTF-8") from None
    for row in csv.DictReader(io.StringIO(lines)):
        try:
            found[row["file"]] = [float(row[side]) for side in sides]
        except (KeyError, TypeError, ValueError):
            raise FileError(f"{path} has no line 'file,{','.join(sides)}' first, or no four numbers a file") from None
        x0, y0, x1, y1 = found[row["file"]]
        if not (x0 < x1 and y0 < y1):
            raise FileError(f"{path} has a box of {row['file']} that is empty: {x0:g},{y0:g},{x1:g},{y1:g}")
    if missing := [name for name in names if name not in found]:
        raise FileError(f"{path} lacks {len(missing)} of {len(names)} images, {missing[0]} among them: give each a box")
    return torch.tensor([found[name] for name in names])
