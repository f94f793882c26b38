"""Objectives of attacks on explanations. A new one is a file and a line in `OBJECTIVES`."""

from artlib.attacks.objectives.lens import LensTopK
from artlib.attacks.objectives.mass_center import MassCenter
from artlib.attacks.objectives.objective import Objective
from artlib.attacks.objectives.random_sign import RandomSign
from artlib.attacks.objectives.topk import TopK

OBJECTIVES = {"topk": TopK, "lens": LensTopK, "mass_center": MassCenter, "random": RandomSign}

__all__ = ["OBJECTIVES", "Objective", "TopK"]
