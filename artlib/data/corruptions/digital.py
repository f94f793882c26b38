"""What cameras, programs and files do: contrast, elastic deformation, coarse pixels, JPEG."""

import io

import torch
from PIL import Image
from torch import Generator, Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from artlib.data.corruptions.sampling import bilinear, gaussian, grid, uniform


def contrast(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """The distance from the mean of each colour, times c of 0.75 to 0.15.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device. severity: 1 to 5, constants of Hendrycks and Dietterich
    (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    mean = x.mean((2, 3), keepdim=True)
    return mean + (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1] * (x - mean)


def elastic_transform(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """An affine map that moves three points by up to `shift`, then a smooth field of displacements.

    Lengths are shares of the image's side; `strength` multiplies uniform noise that a Gaussian of `sigma` smooths.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device. severity: 1 to 5, constants of Hendrycks and Dietterich
    (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    side = min(x.shape[2:])
    strength, sigma, shift = (
        side * share
        for share in ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))[
            severity - 1
        ]
    )
    rows, columns = grid(x)
    middle, square = x.new_tensor([n // 2 for n in reversed(x.shape[2:])]), side // 3
    before = middle + square * x.new_tensor([[1, 1], [1, -1], [-1, -1]])  # (x, y) of three points
    after = before + uniform(x, len(x), 3, 2, low=-shift, high=shift, generator=generator)
    ones = x.new_ones(len(x), 3, 1)
    back = torch.linalg.solve(torch.cat([after, ones], 2).double(), before.double().expand_as(after)).to(x)
    places = torch.stack([columns, rows, torch.ones_like(rows)], -1).expand(len(x), -1, -1, -1)
    from_columns, from_rows = torch.einsum("nhwi,nij->jnhw", places, back)
    x = bilinear(x, from_rows, from_columns, "mirror")
    right, down = (uniform(x, len(x), 1, *x.shape[2:], low=-1, high=1, generator=generator) for _ in range(2))
    right, down = (strength * gaussian(v, sigma, border="reflect", truncate=3)[:, 0] for v in (right, down))
    return bilinear(x, rows + down, columns + right, "reflect")


def pixelate(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """Fewer pixels and back, each the mean of those that it covers.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device. severity: 1 to 5, constants of Hendrycks and Dietterich
    (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    height, width = x.shape[2:]

    def coarse(image: Image.Image) -> Image.Image:
        fewer = (max(1, int(width * share)), max(1, int(height * share)))
        return image.resize(fewer, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)

    return _by_image(x, coarse)


def jpeg_compression(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """Through a JPEG file of quality 80 to 40.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device. severity: 1 to 5, constants of Hendrycks and Dietterich
    (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """

    def through_file(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
        return Image.open(file)

    return _by_image(x, through_file)


def _by_image(x: Tensor, change) -> Tensor:
    pixels = (255 * x).round().to(torch.uint8).cpu()
    found = [pil_to_tensor(change(to_pil_image(image))) for image in pixels]
    return (torch.stack(found) if found else pixels).to(x) / 255
