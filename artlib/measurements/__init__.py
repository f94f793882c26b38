"""Measurements of a trained model, per image. A new one is a file and a line in `MEASUREMENTS`."""

from artlib.measurements.accuracy import Accuracy
from artlib.measurements.alignment import Alignment
from artlib.measurements.attribution_robustness import AttributionRobustness
from artlib.measurements.measurement import Measurement, Metric, first_correct, predictions

MEASUREMENTS = {kind.name: kind for kind in (AttributionRobustness, Accuracy, Alignment)}

__all__ = [
    "MEASUREMENTS",
    "Accuracy",
    "AttributionRobustness",
    "Measurement",
    "Metric",
    "first_correct",
    "predictions",
]
