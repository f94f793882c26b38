"""The data sets by name. A new one is a file in `artlib/data/sources/` and a line here that names its reader."""

from dataclasses import dataclass

from artlib.data.augment import Augment


@dataclass(frozen=True)
class SetInfo:
    """What is published about a data set, and how it is loaded by default."""

    size: int  # pixels, height = width
    classes: int
    images: dict[str, int]  # images a split, of the official files; 0: there is no such split
    mean: tuple[float, ...] | None = None  # [0,1] units; None: not published, use `mean_std`
    std: tuple[float, ...] | None = None
    per_class: int | None = None  # ART, App. A.3: images a class an epoch, after augmentation
    channels: int = 3
    augment: Augment = Augment()
    reader: str = ""  # "module:function" in artlib.data.sources: (root, split) -> Raw; imported when it is needed

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that there are."""
        return tuple(split for split, count in self.images.items() if count)


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
    "cub200": SetInfo(224, 200, {"train": 5_994, "test": 5_794}, augment=Augment(flip=True), reader="cub200:cub200"),
    "cifar10_official_200": SetInfo(32, 10, {"train": 0, "test": 200}, **CIFAR, reader="cifar10:official_200"),
    "imagenet_samples": SetInfo(224, 1000, {"train": 0, "test": 250}, **IMAGENET, reader="imagenet:samples"),
}
AUGMENT = {name: info.augment for name, info in SETS.items()}
