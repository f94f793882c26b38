"""Measurements of a trained model, per image. A new one is a file and a line in `MEASUREMENTS`."""

from artlib.measurements.accuracy import Accuracy
from artlib.measurements.alignment import Alignment
from artlib.measurements.attribution_robustness import AttributionRobustness
from artlib.measurements.localization import Localization
from artlib.measurements.measurement import Measurement, Metric, first_correct, predictions
from artlib.measurements.segmentation import Segmentation

MEASUREMENTS = {kind.name: kind for kind in (AttributionRobustness, Accuracy, Alignment, Localization, Segmentation)}

__all__ = [
    "MEASUREMENTS",
    "Accuracy",
    "AttributionRobustness",
    "Localization",
    "Measurement",
    "Metric",
    "Segmentation",
    "first_correct",
    "predictions",
]
