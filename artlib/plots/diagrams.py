"""A table of numbers as a picture, and boxes with arrows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from artlib.plots.style import style

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def matrix(
    table: "pd.DataFrame | Mapping[str, pd.DataFrame]",
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    unit: str = "%",
) -> "Figure":
    """A table of numbers from 0 to 100 as a heat map with the numbers in it, or several by title; NaN stays white."""
    import matplotlib.pyplot as plt

    tables = table if isinstance(table, Mapping) else {title: table}
    wide, high = (max(t.shape[axis] for t in tables.values()) for axis in (1, 0))
    with plt.rc_context(style()):
        size = (1 + (0.8 + 0.8 * wide) * len(tables), 1.2 + 0.5 * high)
        fig, axes = plt.subplots(1, len(tables), figsize=size, squeeze=False)
        plt.close(fig)
        for ax, (name, each) in zip(axes[0], tables.items(), strict=True):
            drawn = ax.imshow(each.to_numpy(float), cmap="cividis", vmin=0, vmax=100, aspect="auto")
            for (i, j), v in np.ndenumerate(each.to_numpy(float)):
                if np.isfinite(v):
                    ax.text(j, i, f"{v:.1f}", ha="center", va="center", color="black" if v > 50 else "white")
            ax.set(xticks=range(each.shape[1]), xticklabels=each.columns, yticks=range(each.shape[0]))
            ax.set(yticklabels=each.index, xlabel=xlabel, ylabel=ylabel, title=name)
        fig.colorbar(drawn, ax=axes, label=unit)
    return fig


@dataclass(frozen=True)
class Box:
    """A box of `diagram`: its middle, in units of boxes to the right and down, its text, its colour."""

    right: float
    down: float
    text: str
    color: str = "white"


def diagram(
    boxes: Mapping[str, Box],
    arrows: Sequence[tuple[str, str, str, str]],
    *,
    key: Mapping[str, str] | None = None,
    title: str = "",
) -> "Figure":
    """Boxes and arrows: (from, to, "-" or "--", what is written beside it).

    key: what a colour of boxes, or "-" or "--", stands for, by its words, for a legend below.
    Raises KeyError for an arrow from or to a box that is not there.
    """
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Patch

    width, height = (max(getattr(b, side) for b in boxes.values()) + 1 for side in ("right", "down"))
    with plt.rc_context(style()):
        fig, ax = plt.subplots(figsize=(2.1 * width, 1.25 * height))
        plt.close(fig)
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), title=title)
        ax.axis("off")
        look, patches = dict(boxstyle="round,pad=0.02", ec="black", lw=1, zorder=2), {}
        for name, box in boxes.items():
            corner = (box.right - 0.36, box.down - 0.28)
            patches[name] = ax.add_patch(FancyBboxPatch(corner, 0.72, 0.56, fc=box.color, **look))
            ax.text(box.right, box.down, box.text, ha="center", va="center", fontsize=8, zorder=3)
        for start, end, line, words in arrows:
            a, b = ((boxes[name].right, boxes[name].down) for name in (start, end))
            bend = "arc3,rad=0.18" if (end, start) in {arrow[:2] for arrow in arrows} else "arc3"  # there and back
            path = dict(connectionstyle=bend, patchA=patches[start], patchB=patches[end], shrinkA=0, shrinkB=0)
            ax.add_patch(
                FancyArrowPatch(a, b, arrowstyle="-|>", mutation_scale=10, ls=line, lw=1.2, color="black", **path)
            )
            middle = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)
            if words:
                beside = dict(fc="white", ec="none", pad=0.5)
                ax.text(*middle, words, ha="center", va="center", fontsize=7, bbox=beside, zorder=4)
        line = dict(color="black", lw=1.2)
        looks = [
            Line2D([], [], ls=v, **line) if v in ("-", "--") else Patch(fc=v, ec="black") for v in (key or {}).values()
        ]
        if key:
            fig.legend(looks, list(key), loc="outside lower center", ncols=len(key), handlelength=3)
    return fig
