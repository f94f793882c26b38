"""Samples of ImageNet: photographs named by their class."""

from pathlib import Path

from artlib.data.archives import FileError, first, members, some, text
from artlib.data.downloads import missing
from artlib.data.raw import Raw


def samples(root: Path, split: str) -> Raw:
    """Photographs imagenet_samples/III_<WordNet id>_<class>.jpg, III the class; classes.txt: III, WordNet id, name."""
    path = first(root, "imagenet_samples")
    if path is None:
        raise missing(root / "imagenet_samples", "it is not to be had by download")
    names = path / "classes.txt"
    if not names.exists():
        raise missing(names, "without it the classes have no names")
    rows = [line.split(maxsplit=2) for line in text(names, names).splitlines()]
    if any(len(row) != 3 or row[0] != str(index) for index, row in enumerate(rows)) or not rows:
        raise FileError(f"{names} is not the list of lines 'number id name' from 0 on: put the whole list there")
    files = some(members(path, r"^\d{3}_n\d{8}_[^/]*\.jpg$"), path, "III_<WordNet id>_<class>.jpg")
    for name in files:
        index, wordnet, _ = name.split("_", 2)
        if int(index) >= len(rows) or rows[int(index)][1] != wordnet:
            raise FileError(f"{path / name} is not of class {int(index)} by {names.name}: put the whole list there")
    classes = tuple(row[2].replace("_", " ") for row in rows)
    return Raw(path, list(files.values()), [int(n[:3]) for n in files], classes, note="ImageNet (samples, not a split)")
