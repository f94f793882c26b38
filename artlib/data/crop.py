"""The window of an image set that a network sees, with its boxes and masks carried through the same crop."""

from dataclasses import replace

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
