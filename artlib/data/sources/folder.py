"""A user's own images, in folders named by class."""

import csv
import hashlib
import io
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import torch

from artlib.data.archives import FileError, members, text
from artlib.data.pictures import size_of
from artlib.data.raw import Raw

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SIDES = ("x0", "y0", "x1", "y1")
TOLERANCE = 1  # pixels by which a box may overrun its image, where it is cut: some count corners from 1


def folder(path: Path, split: str) -> Raw:
    """Images by class: path/train/<class>/* and path/test/<class>/*, or path/<class>/* with every fifth file as test.

    Without the two folders a file is "test" if sha256("<class>/<file name>") is divisible by 5: adding or removing
    other files never moves it. With path/boxes.csv images have boxes; its columns are file (as below path), and x0, y0,
    x1, y1 in pixels of the file. Raises FileError, with the line, for a row that cannot be meant: an unknown file, a
    second row of one, no four numbers, a box that is empty, normalised, or not within its image.
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
    boxes = _boxes(path / "boxes.csv", files, names)
    return Raw(path, [files[name] for name in names], labels, tuple(classes), boxes=boxes)


def _boxes(path: Path, files: dict[str, Path], names: list[str]) -> torch.Tensor | None:
    """The boxes of `names` out of boxes.csv, all of whose rows are checked; None without the file."""
    if not path.exists():
        return None
    found, lines = {}, {}
    for line, name, box in _rows(path):
        if name not in files:
            _refuse(path, line, f"{name!r}, which is no image of {path.parent}", "name files as they lie below it")
        if name in found:
            _refuse(path, line, f"a second box of {name}; line {lines[name]} has the first", "keep one")
        _check(path, line, name, box, size_of(files[name]))
        found[name], lines[name] = box, line
    if missing := [name for name in names if name not in found]:
        raise FileError(f"{path} lacks {len(missing)} of {len(names)} images, {missing[0]} among them: give each a box")
    return torch.tensor([found[name] for name in names])


def _rows(path: Path) -> Iterator[tuple[int, str, list[float]]]:
    """Line number, file and box of every row; columns may stand in any order, with others beside them."""
    try:
        lines = text(path, path)
    except FileError:  # whose advice is for what was downloaded
        raise FileError(f"{path} is not text in UTF-8: save it anew, in a spreadsheet as CSV UTF-8") from None
    first, reader = (lines.splitlines() or [""])[0], csv.DictReader(io.StringIO(lines, newline=""))
    if not {"file", *SIDES} <= set(reader.fieldnames or ()):
        other = next((told for sign, told in ((";", "semicolons"), ("\t", "tabs")) if sign in first), "")
        hint = f"; it has {other} between columns: save it with commas" if other else ""
        raise FileError(f"{path} has no line 'file,{','.join(SIDES)}' first: line 1 is {first!r}{hint}")
    for row in reader:
        values = [row[side] for side in SIDES]
        try:
            box = [float(value) for value in values]
        except (TypeError, ValueError):
            box = []
        if not (box and all(map(math.isfinite, box))) or None in row:  # None: of fields without a column
            given = ",".join(value for value in [*values, *row.get(None, [])] if value is not None)
            _refuse(path, reader.line_num, f"no four numbers for {row['file']!r}: {given!r}", "write 12.5, not 12,5")
        yield reader.line_num, row["file"], box


def _check(path: Path, line: int, name: str, box: list[float], size: tuple[int, int]) -> None:
    (x0, y0, x1, y1), (width, height) = box, size
    advice = "give pixels of the file"
    if not (x0 < x1 and y0 < y1):
        wrong, advice = "is empty", "x1,y1 are the corner opposite to x0,y0, not width and height"
    elif min(box) >= 0 and max(box) <= 1:
        wrong = "looks normalised"
    elif x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        wrong = "lies outside its image"
    elif min(box) < 0 or x1 > width + TOLERANCE or y1 > height + TOLERANCE:
        wrong, advice = "overruns its image", f"{advice}, and cut the box at its edge"
    else:
        return
    told = f"{','.join(f'{side:g}' for side in box)} in {width} x {height} pixels"
    _refuse(path, line, f"a box of {name} that {wrong}: {told}", advice)


def _refuse(path: Path, line: int, what: str, advice: str) -> NoReturn:
    raise FileError(f"{path}, line {line}, has {what}: {advice}")
