"""The top-k objective of IFIA."""

from dataclasses import dataclass

from torch import Tensor

from artlib import metrics
from artlib.attacks.objectives.objective import Objective
from artlib.settings import Count, Settings


@dataclass(frozen=True)
class TopK(Objective, Settings):
    """Minus the sum of the map over S_k(x), the k largest pixels of the clean map (Ghorbani et al. 2019)."""

    k: Count

    def aim(self, before: Tensor) -> Tensor:
        """S_k(x) as a bool mask (N, H, W); ValueError where maps have fewer pixels than k."""
        height, width = before.shape[1:]
        if self.k > height * width:
            pixels = f"a {height}x{width} map has 1 to {height * width} pixels to choose from"
            raise ValueError(f"k is {self.k}; {pixels}")
        return metrics.topk_mask(before, self.k)

    def __call__(self, maps: Tensor, logits: Tensor | None, y: Tensor, aim: Tensor) -> Tensor:
        """-sum over `aim` of maps (N, H, W), (N,)."""
        return -(maps * aim).sum((1, 2))
