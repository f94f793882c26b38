"""The LENS-aware top-k objective of IFIA."""

from dataclasses import dataclass

from torch import Tensor

from artlib import metrics
from artlib.attacks.objectives.topk import TopK
from artlib.settings import Whole


@dataclass(frozen=True)
class LensTopK(TopK):
    """Minus the sum of the map over N_w(S_k(x)): pixels that LENS would forgive are driven down, too (LENS)."""

    w: Whole = 1  # the released ig_attack_with_lens.py has this one alone

    def aim(self, before: Tensor) -> Tensor:
        """N_w(S_k(x)) as a bool mask (N, H, W); ValueError where maps have fewer pixels than k."""
        return metrics.dilate(super().aim(before), self.w)
