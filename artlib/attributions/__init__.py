"""Attributions: (model, x, y) -> one signed importance per input value, shape of x, differentiable on request."""

from artlib.attributions.gradient import gradient, input_gradient, input_x_gradient, score
from artlib.attributions.heatmap import heatmap
from artlib.attributions.integrated_gradients import RULES, integrated_gradients, quadrature

__all__ = [
    "RULES",
    "gradient",
    "heatmap",
    "input_gradient",
    "input_x_gradient",
    "integrated_gradients",
    "quadrature",
    "score",
]
