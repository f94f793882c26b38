"""One house style: a colour per training, and Matplotlib's settings."""

import hashlib
from collections.abc import Sequence
from typing import Any

from artlib.trainings import TRAININGS

# Okabe & Ito's palette, told apart under every common colour blindness; black is for text. Then darker ones of Tol's.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
PALETTE += ("#882255", "#332288", "#999933", "#661100", "#44AA99", "#AA4499", "#DDCC77")


def color(training: str) -> str:
    """The colour of a training in every figure: its own, else one of the palette that no listed training has.

    The latter is chosen by the name alone, so that it stays; two unlisted names may share one.
    """
    own = getattr(TRAININGS.get(training), "color", None)
    taken = {getattr(t, "color", None) for t in TRAININGS.values()}
    free = [c for c in PALETTE if c not in taken] or PALETTE
    return own or free[hashlib.sha256(training.encode()).digest()[0] % len(free)]


def distinct(names: Sequence[str]) -> dict[str, str]:
    """Colours of the trainings of one figure; those that are not listed get different ones, in their order."""
    own = {n: color(n) for n in names if n in TRAININGS}
    free = [c for c in PALETTE if c not in own.values()]
    others = [n for n in names if n not in own]
    return own | {n: free[i % len(free)] for i, n in enumerate(others)}


def style() -> dict[str, Any]:
    """The house style as Matplotlib settings, for `matplotlib.rc_context(plots.style())`."""
    import seaborn

    sizes = {"figure.dpi": 100, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8, "legend.frameon": False}
    page = {"pdf.fonttype": 42, "figure.constrained_layout.use": True}  # 42: text stays text in the PDF
    return {**seaborn.axes_style("ticks"), **seaborn.plotting_context("paper"), **sizes, **page}
