"""One house style: a look per training, grids of images and heat maps, bars and lines with intervals, saved files.

Figures are closed before they are returned, so that a notebook shows one by naming it on the last line of a cell.
"""

from artlib.plots.art_update import UPDATE_KEY, art_update
from artlib.plots.diagrams import Box, diagram, matrix
from artlib.plots.lines import (
    bars_with_intervals,
    boxes,
    grid_with_bands,
    guard_lines,
    lines_with_bands,
    panels_with_bands,
)
from artlib.plots.maps import OUTLINE, Panel, attack_grid, heatmap_grid, perturbation
from artlib.plots.saving import save_figure
from artlib.plots.slider import Slider, attack_slider, slider
from artlib.plots.style import PALETTE, bar_look, color, line_look, style
from artlib.trainings import title as label

__all__ = [
    "OUTLINE",
    "PALETTE",
    "UPDATE_KEY",
    "Box",
    "Panel",
    "Slider",
    "art_update",
    "attack_grid",
    "attack_slider",
    "bar_look",
    "bars_with_intervals",
    "boxes",
    "color",
    "diagram",
    "grid_with_bands",
    "guard_lines",
    "heatmap_grid",
    "label",
    "line_look",
    "lines_with_bands",
    "matrix",
    "panels_with_bands",
    "perturbation",
    "save_figure",
    "slider",
    "style",
]
