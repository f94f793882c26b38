"""The mass-centre objective of IFIA."""

from dataclasses import dataclass

import torch
from torch import Tensor

from artlib.attacks.objectives.objective import Objective


def mass_center(maps: Tensor) -> Tensor:
    """Centre of mass (row, column) of each map (N, H, W), (N, 2), in pixels from the first one's centre.

    C = sum over pixels of m_ij (i, j) / sum of m_ij (Ghorbani et al. 2019, section 3); maps >= 0; NaN for a map of
    zeros.
    """
    total = maps.sum((1, 2))
    sides = []
    for dim in (1, 2):
        places = torch.arange(maps.shape[dim], dtype=maps.dtype, device=maps.device)
        sides.append((maps.sum(3 - dim) * places).sum(1) / total)
    return torch.stack(sides, 1)


@dataclass(frozen=True)
class MassCenter(Objective):
    """||C(x_adv) - C(x)||^2, C the centre of mass of a map (Ghorbani et al. 2019).

    The released code cuts C(x) to whole pixels, whereby moves of less than one vanish; here it is not cut
    (DIFFERENCES.md, R4).
    """

    def aim(self, before: Tensor) -> Tensor:
        """C(x), (N, 2)."""
        return mass_center(before)

    def __call__(self, maps: Tensor, logits: Tensor | None, y: Tensor, aim: Tensor) -> Tensor:
        """The squared distance in pixels, (N,)."""
        return (mass_center(maps) - aim).square().sum(1)
