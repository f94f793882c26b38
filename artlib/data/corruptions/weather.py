"""Weather: snow, fog, bright light. Frost, which needs photographs, stands beside."""

import torch
from torch import Generator, Tensor

from artlib.data.corruptions.sampling import eight_bits, motion, normal, uniform, zoomed

GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue


def snow(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """Streaks of flakes, and the same turned round, over an image that is whitened.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device, not cut to [0, 1] yet. severity: 1 to 5, constants of
    Hendrycks and Dietterich (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    mean, std, zoom, threshold, radius, sigma, keep = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    flakes = zoomed(mean + std * normal(x, len(x), 1, *x.shape[2:], generator=generator), zoom)
    flakes = eight_bits(flakes.where(flakes >= threshold, 0.0).clamp(0, 1))
    angles = uniform(x, len(x), low=-135, high=-45, generator=generator)
    flakes = motion(flakes, angles, radius=radius, sigma=sigma)
    grey = torch.einsum("nchw,c->nhw", x, x.new_tensor(GREY))[:, None]
    return keep * x + (1 - keep) * torch.maximum(x, 1.5 * grey + 0.5) + flakes + flakes.flip(2, 3)


def fog(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """A cloud is added, and the sum scaled down so that its brightest possible value is the image's.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device. severity: 1 to 5, constants of Hendrycks and Dietterich
    (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    amount, decay = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))[severity - 1]
    size = 1 << (max(*x.shape[2:], 2) - 1).bit_length()
    cloud = plasma(x, size, decay, generator)[:, None, : x.shape[2], : x.shape[3]]
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + amount * cloud) * brightest / (brightest + amount)


def plasma(x: Tensor, size: int, decay: float, generator: Generator) -> Tensor:
    """Clouds (N, size, size) in [0, 1] by the diamond-square algorithm on a torus; size is a power of 2.

    Each new point is the mean of its four neighbours and a number of +-wibble^2; wibble is 100, divided by `decay` at
    every finer step.
    """
    cloud = x.new_zeros(len(x), size, size)
    step, wibble = size, 100.0

    def mean(four: Tensor) -> Tensor:
        return four / 4 + wibble * uniform(x, *four.shape, low=-wibble, high=wibble, generator=generator)

    while step >= 2:
        half = step // 2
        corners = cloud[:, ::step, ::step]
        sides = corners + corners.roll(-1, 1)
        cloud[:, half::step, half::step] = mean(sides + sides.roll(-1, 2))
        centres = cloud[:, half::step, half::step]
        cloud[:, ::step, half::step] = mean(centres + centres.roll(1, 1) + corners + corners.roll(-1, 2))
        cloud[:, half::step, ::step] = mean(centres + centres.roll(1, 2) + corners + corners.roll(-1, 1))
        step, wibble = half, wibble / decay
    cloud = cloud - cloud.amin((1, 2), keepdim=True)
    return cloud / cloud.amax((1, 2), keepdim=True)


def brightness(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """V of HSV, the largest of the three colours, grows by c of 0.05 to 0.3; hue and saturation stay.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device. severity: 1 to 5, constants of Hendrycks and Dietterich
    (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    value = x.amax(1, keepdim=True)
    brighter = (value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]).clamp_max(1)
    return torch.where(value > 0, x * brighter / value.where(value > 0, 1.0), brighter)
