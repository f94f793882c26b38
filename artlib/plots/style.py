"""One house style: a colour, marker, dash and hatch per training, and Matplotlib's settings."""

import hashlib
from collections.abc import Sequence
from typing import Any

from artlib.trainings import TRAININGS

# Okabe & Ito's palette, told apart under every common colour blindness; black is for text. Then darker ones of Tol's.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
PALETTE += ("#882255", "#332288", "#999933", "#661100", "#44AA99", "#AA4499", "#DDCC77")
# Each colour of the palette has its own of these, so that figures can be read in grey, too. "D" is the paper's.
MARKERS = "os^vPX<>phd*8H"
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "//", "..", "\\\\", "xx", "--", "||", "++", "oo", "////", "**", "....", "xxxx", "O")


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


def line_look(color: str) -> dict[str, Any]:
    """Colour, marker and dash of a line, for `Axes.plot`."""
    i = _place(color)
    return dict(color=color, marker=MARKERS[i], ls=DASHES[i % len(DASHES)])


def bar_look(color: str) -> dict[str, Any]:
    """Colour and hatch of a bar, for `Axes.bar`; the hatch is light on dark colours and dark on light ones."""
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(color)
    light = 0.3 * red + 0.6 * green + 0.1 * blue > 0.4
    return dict(color=color, hatch=HATCHES[_place(color)], edgecolor="black" if light else "white", lw=0)


def _place(color: str) -> int:
    known = color in PALETTE
    return PALETTE.index(color) if known else hashlib.sha256(color.encode()).digest()[0] % len(PALETTE)


def style() -> dict[str, Any]:
    """The house style as Matplotlib settings, for `matplotlib.rc_context(plots.style())`."""
    import seaborn

    sizes = {"figure.dpi": 100, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8, "legend.frameon": False}
    page = {"pdf.fonttype": 42, "figure.constrained_layout.use": True}  # 42: text stays text in the PDF
    return {**seaborn.axes_style("ticks"), **seaborn.plotting_context("paper"), **sizes, **page}
