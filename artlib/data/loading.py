"""`load` a data set by name: its reader finds the files, here they are chosen, decoded and resized."""

import os
import pkgutil
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from artlib import paths
from artlib.data import blossoms
from artlib.data.images import ImageSet
from artlib.data.pictures import decode, decode_trimap
from artlib.data.raw import Raw
from artlib.data.sets import SETS


def load(
    name: str, split: str, *, root: Path | str | None = None, size: int | None = None, limit: int | None = None
) -> ImageSet:
    """Load a data set of `SETS`, or a user's own image folder by "folder:PATH", as an `ImageSet`.

    Files are looked for in `root` (default `paths.DATA`, environment variable ARTLIB_DATA) and downloaded to it when
    missing. Images are resized to size x size (bilinear, antialiased, aspect not kept), boxes and masks with them.
    limit=n keeps n images, equally many of each class as far as there are enough, always the same ones, and those of
    a smaller limit come first; blossoms are drawn, so there limit is the number drawn.

    Raises ValueError for an unknown name or split and for files that are damaged, too large or not the published ones,
    FileNotFoundError for files that are neither there nor reachable, PermissionError for a folder that cannot be
    written, OSError where the disk fails or a download breaks off; each names the file.
    """
    own = name.startswith("folder:")
    if not own and name not in SETS:
        raise ValueError(
            f"unknown data set {name!r}: choose one of {', '.join(SETS)}, or folder:PATH for your own images"
        )
    splits = ("train", "test") if own else SETS[name].splits
    if split not in splits:
        raise ValueError(f"{name} has no split {split!r}: choose one of {', '.join(splits)}")
    for key, value in (("size", size), ("limit", limit)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{key} must be a positive integer, not {value!r}")
    size = size or (32 if own else SETS[name].size)
    if name == "blossoms":
        return _blossoms(split, size, limit)
    raw = _own(name, split) if own else _listed(name, split, Path(root or paths.DATA))
    return _decoded(raw, f"folder:{raw.path.resolve().name}" if own else name, split, size, limit)


def _blossoms(split: str, size: int, limit: int | None) -> ImageSet:
    info = SETS["blossoms"]
    count, seed = limit or info.images[split], list(info.images).index(split)
    images, labels, masks, boxes = blossoms.draw(count, size=size, seed=seed, num_classes=info.classes)
    return ImageSet(images, labels, blossoms.CLASSES[: info.classes], boxes, masks, "blossoms", split)


def _own(name: str, split: str) -> Raw:
    from artlib.data.sources.folder import folder

    raw = folder(Path(os.path.expanduser(name.removeprefix("folder:"))), split)
    if len(raw.classes) < 2:
        raise ValueError(f"{raw.path} holds {len(raw.classes)} class; a classifier needs at least 2 folders of images")
    return raw


def _listed(name: str, split: str, root: Path) -> Raw:
    info = SETS[name]
    raw = pkgutil.resolve_name(f"artlib.data.sources.{info.reader}")(root.expanduser(), split)
    if len(raw.labels) != (official := info.images[split]):
        note = f"{len(raw.labels):,} of {official:,} images"
        raw = replace(raw, note=f"{raw.note}, {note}" if raw.note else note)
    return raw


def _decoded(raw: Raw, name: str, split: str, size: int, limit: int | None) -> ImageSet:
    labels = torch.tensor(raw.labels)
    keep = _balanced_first(labels, limit) if limit else torch.arange(len(labels))
    boxes = masks = None
    if isinstance(raw.images, Tensor):
        images = _resize(raw.images[keep], size)
    else:
        decoded = [decode(raw.images[i], raw.path, size) for i in keep.tolist()]
        images = torch.stack([pixels for pixels, _ in decoded])
        if raw.boxes is not None:
            scale = size / torch.tensor([shape for _, shape in decoded], dtype=torch.float32)  # (N,2): width, height
            boxes = (raw.boxes[keep] * scale.repeat(1, 2)).clamp(0, size)
        if raw.trimaps is not None:
            masks = torch.stack([decode_trimap(raw.trimaps[i], raw.path, size) for i in keep.tolist()])
    return ImageSet(images, labels[keep], raw.classes, boxes, masks, name, split, raw.note)


def _balanced_first(labels: Tensor, limit: int) -> Tensor:
    """Indices of `limit` images: a fixed shuffle (seed 0), then round and round the classes."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    turn = torch.empty(len(labels), dtype=torch.int64)  # how many of its class come before each image in the shuffle
    for label in labels.unique():
        places = (labels[order] == label).nonzero().ravel()
        turn[places] = torch.arange(len(places))
    return order[torch.argsort(turn, stable=True)][:limit]


def _resize(images: Tensor, size: int) -> Tensor:
    if tuple(images.shape[2:]) == (size, size):
        return images
    resized = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)
