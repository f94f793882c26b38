"""The window of an image set that a network sees, with its boxes and masks carried through the same crop."""

from dataclasses import replace

import torch
from torch import Tensor

from artlib.data.images import ImageSet
from artlib.metrics.localization import carried


def window(images: ImageSet, size: int, *, corner: tuple[int, int] | None = None) -> ImageSet:
    """size x size pixels of every image from `corner` (x, y), its upper left; None: the middle, as ART tests on CUB.

    Boxes are cut at the window's edges. One that lies outside has no area: its IoU with any box is 0, so that the image
    counts as missed, and its place in the set stays. Raises ValueError for a window that the images do not hold.
    """
    height, width = images.images.shape[2:]
    x, y = ((width - size) // 2, (height - size) // 2) if corner is None else corner
    if size < 1 or x < 0 or y < 0 or x + size > width or y + size > height:
        raise ValueError(f"a window of {size} pixels from ({x}, {y}) is not inside images of {width} x {height}")
    rows, columns = slice(y, y + size), slice(x, x + size)
    return replace(
        images,
        images=images.images[:, :, rows, columns].contiguous(),
        boxes=None if images.boxes is None else carried(images.boxes, corner=(x, y), size=(size, size)).float(),
        masks=None if images.masks is None else images.masks[:, rows, columns].contiguous(),
    )


def carried_as_released(boxes: Tensor, *, whole: int = 256, size: int = 224) -> Tensor:
    """C-39: boxes (N, 4) of images of `whole` pixels in the middle window of `size`, as ART's released code has them.

    x (whole - 1) / whole - floor((whole - 1 - size) / 2), y alike: 255 and 15 in the place of 256 and 16, so that a box
    of w pixels is moved by 1 - x/256 and is w/256 narrower. Not cut at the window's edges. Returns (N, 4), float64.
    `presets.images` takes it by protocol "authors".
    """
    return boxes.to(torch.float64) * ((whole - 1) / whole) - (whole - 1 - size) // 2
