"""The common corruptions of Table 3 of ART: CIFAR-10-C's, five severities each, drawn on the fly or read.

Functions of image batches that follow the code CIFAR-10-C was made with (Hendrycks and Dietterich 2019;
hendrycks/robustness, make_cifar_c.py), without its ImageMagick and OpenCV. Table 3 has speckle noise in the place of
frost, which needs photographs. A new one is a function (x, severity, generator) and a line in `CORRUPTIONS`. Of
CIFAR-10 the released files are taken where they are.
"""

from torch import Generator, Tensor

from artlib import paths
from artlib.data.corruptions.blurs import defocus_blur, glass_blur, motion_blur, zoom_blur
from artlib.data.corruptions.digital import contrast, elastic_transform, jpeg_compression, pixelate
from artlib.data.corruptions.frost import frost, photographs
from artlib.data.corruptions.noises import gaussian_noise, impulse_noise, shot_noise, speckle_noise
from artlib.data.corruptions.official import FOLDER, download, official
from artlib.data.corruptions.sampling import eight_bits
from artlib.data.corruptions.weather import brightness, fog, snow

CORRUPTIONS = {  # in the order of Table 3
    "gaussian_noise": gaussian_noise,
    "shot_noise": shot_noise,
    "impulse_noise": impulse_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
    "speckle_noise": speckle_noise,
}
BESIDE = {"frost": frost}  # in CIFAR-10-C's fifteen, not in Table 3
SEVERITIES = (1, 2, 3, 4, 5)

__all__ = [
    "BESIDE",
    "CORRUPTIONS",
    "SEVERITIES",
    "SOURCES",
    "corrupt",
    "download",
    "official",
    "photographs",
    "source_of",
]


def corrupt(x: Tensor, name: str, *, severity: int, generator: Generator) -> Tensor:
    """Corrupted copies of x (N, C, H, W), float in [0, 1], C = 1 or 3; same shape, dtype and device.

    `severity` 1 to 5. Values are cut to 8 bits, as those of CIFAR-10-C are. All draws come from `generator` (CPU), an
    image's own, for the whole batch at once. The constants are those for 32 x 32 images, whatever the size. Raises
    ValueError for another name or severity, and for images of another kind; frost raises FileNotFoundError where there
    are no photographs of it.
    """
    known = CORRUPTIONS | BESIDE
    if name not in known:
        raise ValueError(f"unknown corruption {name!r}; choose one of {', '.join(known)}")
    if severity not in SEVERITIES:
        raise ValueError(f"severity is {severity!r}; it must be 1, 2, 3, 4 or 5")
    if x.ndim != 4 or not x.is_floating_point() or x.shape[1] not in (1, 3):
        raise ValueError(f"x is {x.dtype} of shape {tuple(x.shape)}; images are float, (N, 1 or 3, H, W), in [0, 1]")
    channels = x.shape[1]
    found = known[name](x.expand(-1, 3, -1, -1), severity, generator)  # colours: a grey image has three equal ones
    return eight_bits(found.clamp(0, 1))[:, :channels]


SOURCES = {"drawn": corrupt, "official": official}  # where corrupted images come from


def source_of(dataset: str) -> str:
    """Of `SOURCES`: "official" for CIFAR-10 where files of the released CIFAR-10-C are in the data folder."""
    there = dataset == "cifar10" and any((paths.DATA / FOLDER).glob("*.npy"))
    return "official" if there else "drawn"
