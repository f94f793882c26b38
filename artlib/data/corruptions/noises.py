"""Noise, drawn for every value."""

import torch
from torch import Generator, Tensor

from artlib.data.corruptions.sampling import normal, uniform
from artlib.data.images import send


def gaussian_noise(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """x + c n, n standard normal, c of 0.04 to 0.10.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device, not cut to [0, 1] yet. severity: 1 to 5, constants of
    Hendrycks and Dietterich (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    return x + (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1] * normal(x, *x.shape, generator=generator)


def shot_noise(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """Poisson(c x) / c, c of 500 to 50.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device, not cut to [0, 1] yet. severity: 1 to 5, constants of
    Hendrycks and Dietterich (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    c = (500, 250, 100, 75, 50)[severity - 1]
    return send(torch.poisson(c * x.cpu(), generator=generator), x.device) / c


def impulse_noise(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """A share c of the values, of 0.01 to 0.07, becomes 0 or 1, with equal chance.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device. severity: 1 to 5, constants of Hendrycks and Dietterich
    (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    hit, white = (uniform(x, *x.shape, generator=generator) for _ in range(2))
    return torch.where(hit < (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1], (white < 0.5).to(x), x)


def speckle_noise(x: Tensor, severity: int, generator: Generator) -> Tensor:
    """x + c x n, n standard normal, c of 0.06 to 0.2.

    x (N, 3, H, W), in [0, 1]; the same shape, dtype and device, not cut to [0, 1] yet. severity: 1 to 5, constants of
    Hendrycks and Dietterich (2019). It is `corrupt` that checks; here a severity above 5 raises IndexError.
    """
    return x + (0.06, 0.1, 0.12, 0.16, 0.2)[severity - 1] * x * normal(x, *x.shape, generator=generator)
