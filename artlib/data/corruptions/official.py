"""The released CIFAR-10-C, where its files are in the data folder."""

from pathlib import Path

import numpy as np
import torch

from artlib import paths
from artlib.data.images import ImageSet
from artlib.data.sources.cifar10 import CLASSES

FOLDER, IMAGES = "CIFAR-10-C", 10_000  # test images, five times over in each file: severity 1 first


def official(name: str, *, severity: int, root: Path | str | None = None) -> ImageSet:
    """The 10,000 test images under one corruption of the released CIFAR-10-C, from <root>/CIFAR-10-C/<name>.npy.

    `root` is `paths.DATA` by default. They are in the order of the official test set. Nothing is downloaded. Raises
    FileNotFoundError where a file is not there, and ValueError for one that is not what it should be.
    """
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"severity is {severity!r}; it must be 1, 2, 3, 4 or 5")
    folder = Path(root or paths.DATA) / FOLDER
    images, labels = (_read(folder / f"{part}.npy", shape) for part, shape in ((name, (32, 32, 3)), ("labels", ())))
    labels = labels.reshape(5, IMAGES)
    if (labels != labels[0]).any() or labels.max() >= len(CLASSES):
        raise ValueError(f"{folder / 'labels.npy'} does not hold the same {IMAGES} labels below 10 five times over")
    some = images[(severity - 1) * IMAGES : severity * IMAGES]
    pixels = torch.from_numpy(np.ascontiguousarray(some.transpose(0, 3, 1, 2)))
    note = f"CIFAR-10-C, {name}, severity {severity}"
    return ImageSet(
        pixels, torch.from_numpy(labels[0].astype(np.int64)), CLASSES, name="cifar10", split="test", note=note
    )


def _read(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: put the released CIFAR-10-C (zenodo record 2535967) into {path.parent}, or let "
            "corruptions.corrupt draw the corruptions"
        )
    found, expected = np.load(path, mmap_mode="r", allow_pickle=False), (5 * IMAGES, *shape)
    if found.dtype != np.uint8 or found.shape != expected:
        raise ValueError(
            f"{path} holds {found.dtype} {found.shape} instead of uint8 {expected}: put the right file there"
        )
    return found
