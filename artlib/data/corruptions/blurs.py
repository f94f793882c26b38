"""Blur: out of focus, through glass, of motion, of zooming."""

import numpy as np
import torch
from torch import Generator, Tensor

from artlib.data.corruptions.sampling import correlate, eight_bits, gaussian, grid, motion, pick, uniform, zoomed
from artlib.data.images import send


def defocus_blur(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """The mean over a disk whose edge is smoothed; radius and smoothing are in pixels.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device. severity: 1 to 5, constants of Hendrycks and Dietterich
    (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    i = torch.arange(-2, 3, dtype=torch.float64)  # the largest disk and its edge
    disk = (i[:, None] ** 2 + i**2 <= radius**2).double()
    edge = torch.exp(-0.5 * (i[1:-1] / alias) ** 2)
    edge = edge / edge.sum()
    kernel = torch.nn.functional.conv2d((disk / disk.sum())[None, None], torch.outer(edge, edge)[None, None], padding=1)
    return correlate(x, kernel[0, 0], "mirror")


def glass_blur(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """Every pixel takes the place of a neighbour above or to the left, `times` over, between two Gaussian blurs.

    CIFAR-10-C's code means to swap the two; but what it swaps are two views of one array, so that the first becomes the
    second and the second stays. We do what it does. The first two rows and columns stay.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device. severity: 1 to 5, constants of Hendrycks and Dietterich
    (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    sigma, reach, times = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))[severity - 1]
    n, _, height, width = x.shape
    moves = torch.randint(-reach, reach, (times, 2, n, height, width), generator=generator)
    rows, columns = (g.long() for g in grid(x))
    stays = (rows <= reach) | (columns <= reach)
    x = eight_bits(gaussian(x, sigma))
    for move in send(moves, x.device):
        down, right = move.masked_fill(stays, 0)
        x = pick(x, rows + down, columns + right, "edge")
    return gaussian(x, sigma)


def motion_blur(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """Motion blur in a direction of -45 to 45 degrees, each image's own.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device. severity: 1 to 5, constants of Hendrycks and Dietterich
    (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    angles = uniform(x, len(x), low=-45, high=45, generator=generator)
    return motion(x, angles, radius=radius, sigma=sigma)


def zoom_blur(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """The mean of the image and of enlargements of it by 0, 1, 2, ... percent.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device. severity: 1 to 5, constants of Hendrycks and Dietterich
    (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01)  # rounding decides about its end
    return (x + sum(zoomed(x, factor) for factor in factors)) / (len(factors) + 1)
