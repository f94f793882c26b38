"""What `artlib.data.load` is made of: a reader finds the files, then they are chosen, decoded and resized."""

import os
import pkgutil
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from artlib.data import blossoms
from artlib.data.images import ImageSet
from artlib.data.info import SetInfo
from artlib.data.pictures import decode, decode_trimap
from artlib.data.raw import Raw


def drawn(info: SetInfo, split: str, size: int, limit: int | None) -> ImageSet:
    """Blossoms; the splits have seeds of their own."""
    count, seed = limit or info.images[split], list(info.images).index(split)
    images, labels, masks, boxes = blossoms.draw(count, size=size, seed=seed, num_classes=info.classes)
    return ImageSet(images, labels, blossoms.CLASSES[: info.classes], boxes, masks, "blossoms", split)


def own(name: str, split: str) -> Raw:
    """A user's folder, by "folder:PATH"."""
    from artlib.data.sources.folder import folder

    raw = folder(Path(os.path.expanduser(name.removeprefix("folder:"))), split)
    if len(raw.classes) < 2:
        raise ValueError(f"{raw.path} holds {len(raw.classes)} class; a classifier needs at least 2 folders of images")
    return raw


def listed(info: SetInfo, split: str, root: Path) -> Raw:
    """What the reader of a data set finds in `root`, with a note if that is not everything."""
    named = f"artlib.data.sources.{info.reader}"
    reader = info.reader if callable(info.reader) else pkgutil.resolve_name(named)
    raw = reader(root.expanduser(), split)
    if len(raw.labels) != (official := info.images[split]):
        note = f"{len(raw.labels):,} of {official:,} images"
        raw = replace(raw, note=f"{raw.note}, {note}" if raw.note else note)
    return raw


def decoded(raw: Raw, name: str, split: str, size: int, limit: int | None) -> ImageSet:
    """The images that `limit` keeps, as size x size, and their boxes and masks with them."""
    labels = torch.tensor(raw.labels)
    keep = _balanced_first(labels, limit) if limit else torch.arange(len(labels))
    boxes = masks = None
    if isinstance(raw.images, Tensor):
        images = _resize(raw.images[keep], size)
    else:
        pairs = [decode(raw.images[i], raw.path, size) for i in keep.tolist()]
        images = torch.stack([pixels for pixels, _ in pairs])
        if raw.boxes is not None:
            scale = size / torch.tensor([shape for _, shape in pairs], dtype=torch.float32)  # (N,2): width, height
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
