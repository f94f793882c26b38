"""Attributions: (model, x, y) -> one signed importance per input value, shape of x, differentiable on request.

A new one is a file and a line in `ATTRIBUTIONS`. One that is a sum over points or draws says how many (`.count`) and
takes `points`, one that draws takes `noise` and says how it is drawn (`.noise`): see `smoothgrad`.
"""

from artlib.attributions.cam import cam, grad_cam, grad_cam_pp, positive, signed
from artlib.attributions.gradient import TARGETS, gradient, input_gradient, input_x_gradient, score
from artlib.attributions.gradshap import gradshap
from artlib.attributions.heatmap import heatmap
from artlib.attributions.integrated_gradients import RULES, integrate, integrated_gradients, quadrature
from artlib.attributions.smoothgrad import smoothgrad

ATTRIBUTIONS = {
    "gradient": gradient,
    "input_x_gradient": input_x_gradient,
    "integrated_gradients": integrated_gradients,
    "smoothgrad": smoothgrad,
    "cam": cam,
    "grad_cam": grad_cam,
    "grad_cam_pp": grad_cam_pp,
    "gradshap": gradshap,
}

from artlib.attributions.explainer import Explainer  # noqa: E402  it looks names up in the list

__all__ = [
    "ATTRIBUTIONS",
    "RULES",
    "TARGETS",
    "Explainer",
    "cam",
    "grad_cam",
    "grad_cam_pp",
    "gradient",
    "gradshap",
    "heatmap",
    "input_gradient",
    "input_x_gradient",
    "integrate",
    "integrated_gradients",
    "positive",
    "quadrature",
    "score",
    "signed",
    "smoothgrad",
]
