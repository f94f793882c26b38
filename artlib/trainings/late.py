"""Trainings whose attack begins late, for a network that does not survive beginning with it."""

from dataclasses import dataclass, fields, replace

from artlib.settings import Share
from artlib.trainings.art import Art
from artlib.trainings.ig_norm import IgNorm, IgSumNorm
from artlib.trainings.natural import Natural
from artlib.trainings.pgd import Pgd
from artlib.trainings.training import InnerAttack, Training


@dataclass(frozen=True)
class _Late:
    """Natural training for a share `natural`; then the ball grows until `warmup`. Not in the papers.

    Attacked from the first update on, networks without batch normalisation, SqueezeNet (notebook 02) and Chen et al.'s
    (notebook 42), come to give every image the same logits, and stay there.
    """

    natural: Share = 0.0

    def at(self, progress: float) -> Training:
        if progress < self.natural:
            return Natural()
        if progress >= self.warmup:
            return self
        share = (progress - self.natural) / (self.warmup - self.natural)
        return replace(self, eps=share * self.eps, step_size=share * self.step_size)


@dataclass(frozen=True)
class LatePgd(_Late, Pgd):
    """`Pgd` that begins late."""


@dataclass(frozen=True)
class LateArt(_Late, Art):
    """`Art` that begins late, with all of its loss."""


@dataclass(frozen=True)
class LateIgNorm(_Late, IgNorm):
    """`IgNorm` that begins late, with all of its loss."""


@dataclass(frozen=True)
class LateIgSumNorm(_Late, IgSumNorm):
    """`IgSumNorm` that begins late, with all of its loss."""


LATE = {Pgd: LatePgd, Art: LateArt, IgNorm: LateIgNorm, IgSumNorm: LateIgSumNorm}


def late(training: InnerAttack, *, natural: float, warmup: float) -> InnerAttack:
    """The settings of a training of `LATE`, late. Raises KeyError for another one."""
    own = {f.name: getattr(training, f.name) for f in fields(training)}
    return LATE[type(training)](**own | dict(natural=natural, warmup=warmup))
