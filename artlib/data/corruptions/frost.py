"""Frost: a piece of a photograph of ice is laid over the image. The photographs are not ours to ship."""

from pathlib import Path

import torch
from PIL import Image
from torch import Generator, Tensor
from torchvision.transforms.functional import pil_to_tensor

from artlib import paths
from artlib.data.archives import FileError, reading

FOLDER, DRAWN = "frost", 5  # CIFAR-10-C's code has six photographs, and draws from the first five


def photographs() -> list[Path]:
    """The .png and .jpg files of <paths.DATA>/frost, by name; none where there is no such folder."""
    return sorted(p for p in (paths.DATA / FOLDER).glob("*") if p.suffix.lower() in (".png", ".jpg"))


def frost(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """a x + b t, t a random piece of one of the first five `photographs` at a fifth of its size.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device, not cut to [0, 1] yet. severity: 1 to 5, constants of
    Hendrycks and Dietterich (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError, no
    photographs FileNotFoundError, one that is damaged or too small ValueError.
    """
    a, b = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    if not (files := photographs()[:DRAWN]):
        raise FileNotFoundError(
            f"there is no photograph of frost in {paths.DATA / FOLDER}: put frost1.png, frost2.png, frost3.png, "
            "frost4.jpg and frost5.jpg of github.com/hendrycks/robustness, ImageNet-C/create_c there; Table 3 of ART "
            "does without frost, and has speckle_noise in its place"
        )
    height, width = x.shape[2:]
    textures, ice = [_fifth(path, height, width) for path in files], torch.empty_like(x)
    for piece in ice:
        texture = textures[_below(len(textures), generator)]
        top, left = (_below(n - m, generator) for n, m in zip(texture.shape[1:], (height, width), strict=True))
        piece.copy_(texture[:, top : top + height, left : left + width] / 255)
    return a * x + b * ice


def _below(n: int, generator: Generator) -> int:
    return int(torch.randint(n, (), generator=generator))


def _fifth(path: Path, height: int, width: int) -> Tensor:
    """What OpenCV's linear resizing to a fifth leaves: the pixels in the middle of every 5 x 5."""
    with reading(path):
        texture = pil_to_tensor(Image.open(path).convert("RGB"))[:, 2::5, 2::5]
    if texture.shape[1] <= height or texture.shape[2] <= width:
        raise FileError(f"{path} is too small: a fifth of it must be larger than {height} x {width}, put another there")
    return texture.double()
