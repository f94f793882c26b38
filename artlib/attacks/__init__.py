"""Attacks on the prediction and on the explanation of an image: a loop, a ball, what is raised and what is kept."""

from artlib.attacks.ascend import Watched, ascend, check_attack, gradient_of
from artlib.attacks.balls import L2, Ball, Box, Linf
from artlib.attacks.criteria import CRITERIA
from artlib.attacks.explanation import (
    KEPT,
    MISCLASSIFIED,
    NO_GRADIENT,
    NO_STEP,
    STATUS,
    Manipulated,
    ifia,
)
from artlib.attacks.objectives import OBJECTIVES, Objective, TopK
from artlib.attacks.pgd import LOSSES, Attacked, pgd
from artlib.attacks.spatial import Moved, moved, spatial
from artlib.attacks.spsa import spsa, spsa_gradient
from artlib.attacks.steppers import Adam, L2Step, Sign, Stepper
from artlib.attacks.synthesis import Seeds, synthesize
from artlib.attacks.targeted import growing, shuffled_targets, targeted

__all__ = [
    "CRITERIA",
    "KEPT",
    "L2",
    "LOSSES",
    "MISCLASSIFIED",
    "NO_GRADIENT",
    "NO_STEP",
    "OBJECTIVES",
    "STATUS",
    "Adam",
    "Attacked",
    "Ball",
    "Box",
    "L2Step",
    "Linf",
    "Manipulated",
    "Moved",
    "Objective",
    "Seeds",
    "Sign",
    "Stepper",
    "TopK",
    "Watched",
    "ascend",
    "check_attack",
    "gradient_of",
    "growing",
    "ifia",
    "moved",
    "pgd",
    "shuffled_targets",
    "spatial",
    "spsa",
    "spsa_gradient",
    "synthesize",
    "targeted",
]
