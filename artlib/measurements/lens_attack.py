"""IN, K and LENS under the top-t attack of LENS, whose t is not the k of the measures."""

from dataclasses import dataclass, replace

from torch import nn

from artlib.attacks.explanation import Manipulated
from artlib.data.images import ImageSet
from artlib.measurements.other_attribution import OtherAttribution
from artlib.settings import Count


@dataclass(frozen=True)
class LensAttack(OtherAttribution):
    """`AttributionRobustness`, and its columns, under the attack of LENS's set-up: t = 200 and k = 100 on MNIST."""

    t: Count = 200  # pixels of the attack's objective

    def attack(self, model: nn.Module, images: ImageSet, *, progress: bool = True) -> Manipulated:
        """As `AttributionRobustness.attack`, of the top t. Raises ValueError when t is larger than the map."""
        return super(LensAttack, replace(self, k=self.t)).attack(model, images, progress=progress)
