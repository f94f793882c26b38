"""`SetInfo`, what is known of a data set before its files are opened."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    # "module:function" in artlib.data.sources, imported when it is needed, or a function: (root, split) -> Raw.
    reader: str | Callable[[Path, str], Any] = ""
    fetched: bool = True  # its files, where they are missing, by `load`; else it says what to put where

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that there are."""
        return tuple(split for split, count in self.images.items() if count)
