"""`Raw`, what a reader returns: a split as its files have it, checked once for all readers."""

from dataclasses import dataclass
from pathlib import Path

import torch

from artlib.data.archives import File, FileError


@dataclass(frozen=True, eq=False)
class Raw:
    """A split before limit and resizing: uint8 (N,C,H,W) or encoded files; boxes (N,4) xyxy in original pixels.

    Raises FileError, a ValueError, for no images, unlike lengths, labels outside the classes and boxes not finite.
    """

    path: Path  # what an error names
    images: torch.Tensor | list[File]
    labels: list[int]
    classes: tuple[str, ...]
    boxes: torch.Tensor | None = None
    trimaps: list[File | None] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.images, torch.Tensor) and (self.images.ndim != 4 or self.images.dtype != torch.uint8):
            self._refuse(f"images of shape {tuple(self.images.shape)} and type {self.images.dtype}")
        for name in ("labels", "boxes", "trimaps"):
            part = getattr(self, name)
            if part is not None and len(part) != len(self.images):
                self._refuse(f"{len(self.images):,} images but {len(part):,} {name}")
        if not self.labels or (isinstance(self.images, torch.Tensor) and not self.images.numel()):
            self._refuse("no images of this split")
        if wrong := {label for label in self.labels if not 0 <= label < len(self.classes)}:
            self._refuse(f"the label {min(wrong)}, which is none of the {len(self.classes)} classes")
        if self.boxes is not None and not self.boxes.isfinite().all():
            self._refuse("boxes that are not finite numbers")

    def _refuse(self, what: str) -> None:
        raise FileError(f"{self.path} and what belongs to it hold {what}: put the published files there")
