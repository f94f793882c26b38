"""PGD that begins late, for a network that does not survive beginning with it."""

from dataclasses import dataclass, fields, replace
from typing import Self

from artlib.settings import Share
from artlib.trainings.pgd import Pgd


@dataclass(frozen=True)
class LatePgd(Pgd):
    """`Pgd` after a share `natural` of the training in which there is no attack; then the ball grows until `warmup`.

    Not in the papers. Attacked while its last layer is new, SqueezeNet, which has no batch normalisation, comes to give
    every image the same logits, and stays there (notebook 02).
    """

    natural: Share = 0.0

    @classmethod
    def after(cls, pgd: Pgd, *, natural: float, warmup: float) -> Self:
        """The settings of `pgd`, late."""
        own = {f.name: getattr(pgd, f.name) for f in fields(Pgd)}
        return cls(**own | dict(natural=natural, warmup=warmup))

    def at(self, progress: float) -> Self:
        """Without an attack, with a smaller ball, or with the whole one."""
        if progress < self.natural:
            return replace(self, eps=0.0, step_size=0.0, steps=0)
        if progress >= self.warmup:
            return self
        share = (progress - self.natural) / (self.warmup - self.natural)
        return replace(self, eps=share * self.eps, step_size=share * self.step_size)
