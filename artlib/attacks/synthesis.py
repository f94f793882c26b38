"""Images made from a classifier alone: a blurred class mean with noise, and the way uphill to its class."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from artlib.attacks.ascend import ascend, check_attack
from artlib.attacks.balls import L2
from artlib.attributions import input_gradient
from artlib.data import ImageSet, send
from artlib.models import check_batch, frozen

RIDGE = 1e-4  # added to the diagonal of each covariance


@dataclass(frozen=True)
class Seeds:
    """A normal distribution of images per class: mean (D,) and, of its n images, their deviations (n, D)."""

    shape: tuple[int, int, int]
    means: tuple[Tensor, ...]
    deviations: tuple[Tensor, ...]

    @staticmethod
    def fit(images: ImageSet, *, grain: int = 1, per_class: int | None = None) -> "Seeds":
        """N(mu_c, Sigma_c + 1e-4 I) of every class (Santurkar et al. 2019), on the CPU.

        `grain`: images are averaged over grain x grain pixels first, and seeds enlarged again; `per_class` takes the
        first so many images of each class. Raises ValueError for a class without images.
        """
        x = torch.nn.functional.avg_pool2d(images.images.cpu().double() / 255, grain)
        means, deviations = [], []
        for c, name in enumerate(images.classes):
            v = x[images.labels.cpu() == c][:per_class].flatten(1)
            if not len(v):
                raise ValueError(f"no image of class {name!r}: a seed is drawn from the images of its class")
            means.append(v.mean(0))
            deviations.append(v - v.mean(0))
        return Seeds(tuple(images.images.shape[1:]), tuple(means), tuple(deviations))

    def draw(self, y: Tensor | Sequence[int], *, generator: torch.Generator) -> Tensor:
        """Seeds (N, C, H, W) of classes y (N,), float64 in [0, 1], on the CPU.

        Deviations times n standard normal numbers, over sqrt(n - 1), have the covariance Sigma_c: no D x D matrix.
        """
        flat = torch.stack([self._draw(c, generator) for c in torch.as_tensor(y).tolist()])
        channels, height, width = self.shape
        grain = round((channels * height * width / flat.shape[1]) ** 0.5)
        seeds = flat.view(len(flat), channels, height // grain, width // grain)
        return torch.nn.functional.interpolate(seeds, size=(height, width), mode="nearest").clamp(0, 1)

    def _draw(self, c: int, generator: torch.Generator) -> Tensor:
        mean, v = self.means[c], self.deviations[c]
        n, ridge = (torch.randn(k, generator=generator, dtype=v.dtype) for k in v.shape)
        return mean + n @ v / max(1, len(v) - 1) ** 0.5 + RIDGE**0.5 * ridge


def synthesize(
    model: nn.Module, seeds: Tensor, y: Tensor, *, eps: float = 30.0, step_size: float = 0.5, steps: int = 60
) -> Tensor:
    """Targeted PGD in the l2 ball around the seeds, down the cross-entropy of y, the model in eval mode.

    Defaults are those of Santurkar et al. for CIFAR-10 (MadryLab/robustness_applications), in pixel units. Returns
    images of the shape of `seeds`, in [0, 1]. Raises ValueError for bad images, labels and settings.
    """
    ball = L2(eps)
    check_attack(ball=ball, steps=steps, step_size=step_size)
    seeds = send(seeds, next(model.parameters()).device).to(next(model.parameters()).dtype)
    check_batch(seeds, y, model)
    with frozen(model):
        return ascend(
            lambda x: -input_gradient(model, x, y, target="loss"), seeds, ball=ball, steps=steps, step_size=step_size
        )
