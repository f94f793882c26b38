"""Attacks on the prediction and on the explanation of an image."""

from artlib.attacks.ascend import ascend, check_attack, gradient_of
from artlib.attacks.balls import L2, Ball, Linf
from artlib.attacks.explanation import KEPT, MISCLASSIFIED, NO_STEP, STATUS, Manipulated, ifia
from artlib.attacks.pgd import pgd

__all__ = [
    "KEPT",
    "L2",
    "MISCLASSIFIED",
    "NO_STEP",
    "STATUS",
    "Ball",
    "Linf",
    "Manipulated",
    "ascend",
    "check_attack",
    "gradient_of",
    "ifia",
    "pgd",
]
