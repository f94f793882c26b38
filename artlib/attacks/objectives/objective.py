"""What every objective of an attack on an explanation has."""

from typing import ClassVar

from torch import Tensor


class Objective:
    """A frozen dataclass: what it fixes once, from the clean maps, and what is raised at every step."""

    needs_logits: ClassVar[bool] = False  # a pass of the surrogate more; without it `logits` is None
    blind: ClassVar[bool] = False  # no gradient is asked for: every step goes to a random corner of the l_inf ball

    def aim(self, before: Tensor) -> Tensor:
        """What is fixed once, one row an image, from the clean maps (N, H, W), finite."""
        raise NotImplementedError

    def __call__(self, maps: Tensor, logits: Tensor | None, y: Tensor, aim: Tensor) -> Tensor:
        """What is raised, (N,), of the surrogate's maps (N, H, W) and logits (N, classes); differentiable in both."""
        raise NotImplementedError
