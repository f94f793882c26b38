"""Data sets as two tensors: `load` one by name, iterate over it with `batches`, augment with `Augment`.

A new data set is a file in `artlib/data/sources/` and a line in `SETS` that names its reader.
"""

from pathlib import Path

from artlib import paths
from artlib.data.augment import Augment
from artlib.data.crop import window
from artlib.data.images import ImageSet, batches, mean_std, send
from artlib.data.info import SetInfo
from artlib.data.loading import decoded, drawn, listed, own

__all__ = [
    "AUGMENT",
    "SETS",
    "Augment",
    "ImageSet",
    "SetInfo",
    "batches",
    "check",
    "load",
    "mean_std",
    "send",
    "window",
]

# The augmentation is that of the authors' training code; the text names none.
CIFAR = dict(
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    augment=Augment(crop=4, flip=True, jitter=0.25, rotation=2),
)
IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
RAR = dict(augment=Augment(rotation=15, translate=2.5, project=0.8))  # ART, App. A.3.3 "as in" RAR, and A.3.4, likewise
SIGNS = {"train": 34_799, "valid": 4_410, "test": 12_630}

SETS = {
    "blossoms": SetInfo(32, 10, {"train": 4_000, "test": 1_000}, augment=Augment(crop=2, flip=True)),  # drawn, not read
    "cifar10": SetInfo(32, 10, {"train": 50_000, "test": 10_000}, **CIFAR, reader="cifar10:cifar10"),
    "svhn": SetInfo(32, 10, {"train": 73_257, "test": 26_032}, reader="svhn:svhn"),
    "gtsrb": SetInfo(32, 43, SIGNS, per_class=10_000, **RAR, reader="gtsrb:gtsrb"),
    "mnist": SetInfo(28, 10, {"train": 60_000, "test": 10_000}, channels=1, reader="mnist:mnist"),
    "fashion_mnist": SetInfo(28, 10, {"train": 60_000, "test": 10_000}, channels=1, reader="mnist:fashion_mnist"),
    "flower17": SetInfo(128, 17, {"train": 1_224, "test": 136}, per_class=1_000, **RAR, reader="flower17:flower17"),
    "cub200": SetInfo(
        224, 200, {"train": 5_994, "test": 5_794}, **IMAGENET, augment=Augment(flip=True), reader="cub200:cub200"
    ),
    "cifar10_official_200": SetInfo(
        32, 10, {"train": 0, "test": 200}, **CIFAR, reader="cifar10:official_200", fetched=False
    ),
    "imagenet_samples": SetInfo(
        224, 1000, {"train": 0, "test": 250}, **IMAGENET, reader="imagenet:samples", fetched=False
    ),
}
AUGMENT = {name: info.augment for name, info in SETS.items()}
AUGMENT["cub200-224"] = Augment(
    window=224, flip=True
)  # of images of 256 pixels; for the test `window` takes the middle


def check(name: str) -> None:
    """Raise ValueError for a name that is not in `SETS`, FileNotFoundError for a folder:PATH that is not there."""
    if name.startswith("folder:"):
        path = Path(name.removeprefix("folder:")).expanduser()
        if not path.is_dir():
            raise FileNotFoundError(f"there is no folder {path}: give folder:PATH with PATH/<class>/* in it")
    elif name not in SETS:
        names = ", ".join(SETS)
        raise ValueError(f"unknown data set {name!r}: choose one of {names}, or folder:PATH for your own images")


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

    >>> from artlib import data
    >>> test = data.load("blossoms", "test", limit=20, size=28)
    >>> tuple(test.images.shape), len(test.classes), test.labels.bincount().tolist()
    ((20, 3, 28, 28), 10, [2, 2, 2, 2, 2, 2, 2, 2, 2, 2])
    >>> batch, labels = next(data.batches(test, 8))  # float, in [0, 1]
    """
    of_user = name.startswith("folder:")
    if not of_user:  # a folder is looked for when it is read
        check(name)
    splits = ("train", "test") if of_user else SETS[name].splits
    if split not in splits:
        raise ValueError(f"{name} has no split {split!r}: choose one of {', '.join(splits)}")
    for key, value in (("size", size), ("limit", limit)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{key} must be a positive integer, not {value!r}")
    size = size or (32 if of_user else SETS[name].size)
    if name == "blossoms":
        return drawn(SETS[name], split, size, limit)
    raw = own(name, split) if of_user else listed(SETS[name], split, Path(root or paths.DATA))
    return decoded(raw, f"folder:{raw.path.resolve().name}" if of_user else name, split, size, limit)
