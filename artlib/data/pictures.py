"""Encoded images (JPEG, PNG and other common formats) as tensors of 8 bits; whatever is wrong names the file."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from artlib.data.archives import File, FileError, reading

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # not those whose decoders run other programs


def decode(file: File, path: Path, size: int) -> tuple[Tensor, tuple[int, int]]:
    """An encoded image as (3,size,size) uint8 and its original (width, height).

    Grey of 16 bits is scaled, 65535 -> 255. `path` is what an error names for an image out of an archive. Raises
    FileError for damaged files, more than `PIL.Image.MAX_IMAGE_PIXELS` pixels, and pixels of 32 bits.
    """
    image = _opened(file, path)
    with reading(named := file if isinstance(file, Path) else path):
        shape, image = image.size, _eight_bits(image, named)
        if shape != (size, size):
            image = image.resize((size, size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous(), shape


def size_of(file: Path) -> tuple[int, int]:
    """The (width, height) that an image's header gives, without its pixels. Raises FileError as `decode`."""
    return _opened(file, file, whole=False).size


def decode_trimap(file: File | None, path: Path, size: int) -> Tensor:
    """Palette index 1 of a Flower17 trimap is flower; an image without a trimap has an empty mask.

    Stretched to a square as its image is, so that it may have any size, the whole image's view taken for granted.
    """
    if file is None:
        return torch.zeros(size, size, dtype=torch.bool)
    image = _opened(file, path)
    if image.mode not in ("P", "L"):
        named = file if isinstance(file, Path) else path
        raise FileError(f"a trimap of {named} is {image.mode}, not a palette image: delete it and load again")
    return torch.from_numpy(np.array(image.resize((size, size), Image.Resampling.NEAREST)) == 1)


def _opened(file: File, path: Path, *, whole: bool = True) -> Image.Image:
    named, source = (file, file) if isinstance(file, Path) else (path, io.BytesIO(file))
    with reading(named), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd metadata: only pixels are wanted
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(source, formats=FORMATS) as image:
                if whole:
                    image.load()
                return image
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise FileError(
                f"{named} is too large: save it with at most {Image.MAX_IMAGE_PIXELS:,} pixels (width x height)"
            ) from None


def _eight_bits(image: Image.Image, named: Path) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        if not (image.mode.startswith("I;16") or image.format in ("PNG", "PPM")):  # "I": 16 of 32 bits in use
            raise FileError(f"{named} has pixels of 32 bits, whose range is unknown: save it with 8 or 16 bits")
        levels = np.asarray(image).astype(np.int64)
        image = Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transparency is left out
        return image.convert("RGB")
