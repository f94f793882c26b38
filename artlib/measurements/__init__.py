"""Measurements of a trained model, per image. A new one is a file and a line in `MEASUREMENTS`."""

from artlib.measurements.accuracy import Accuracy
from artlib.measurements.accuracy_curve import AccuracyCurve
from artlib.measurements.alignment import Alignment
from artlib.measurements.attribution_robustness import AttributionRobustness
from artlib.measurements.auto_attack import AutoAttack
from artlib.measurements.corruptions import CorruptionAccuracy
from artlib.measurements.lens_attack import LensAttack
from artlib.measurements.localization import Localization
from artlib.measurements.masking import Masking
from artlib.measurements.measurement import Measurement, Metric, first_correct, predictions
from artlib.measurements.other_attribution import OtherAttribution
from artlib.measurements.other_threats import OtherThreats
from artlib.measurements.other_worst_case import OtherWorstCase
from artlib.measurements.pgd_20 import Pgd20
from artlib.measurements.placement import Placement
from artlib.measurements.released_boxes import ReleasedBoxes
from artlib.measurements.segmentation import Segmentation
from artlib.measurements.targeted import Targeted
from artlib.measurements.transfer import transfer
from artlib.measurements.worst_case import WorstCase

MEASUREMENTS = {
    kind.name: kind
    for kind in (
        AttributionRobustness,
        Accuracy,
        Pgd20,
        Alignment,
        CorruptionAccuracy,
        AccuracyCurve,
        OtherThreats,
        Localization,
        Placement,
        Segmentation,
        Targeted,
        WorstCase,
        Masking,
        AutoAttack,
    )
}

__all__ = [
    "MEASUREMENTS",
    "Accuracy",
    "AccuracyCurve",
    "Alignment",
    "AttributionRobustness",
    "AutoAttack",
    "CorruptionAccuracy",
    "LensAttack",
    "Localization",
    "Masking",
    "Measurement",
    "Metric",
    "OtherAttribution",
    "OtherThreats",
    "OtherWorstCase",
    "Pgd20",
    "Placement",
    "ReleasedBoxes",
    "Segmentation",
    "Targeted",
    "WorstCase",
    "first_correct",
    "predictions",
    "transfer",
]
