"""One house style: a colour per training, grids of images and heat maps, bars with intervals, files without dates.

Figures are closed before they are returned, so that a notebook shows one by naming it on the last line of a cell.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from artlib import paths

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Okabe & Ito's palette, told apart under every common colour blindness; a training keeps its colour in every figure.
COLORS = {
    "natural": "#0072B2",
    "pgd": "#E69F00",
    "art": "#009E73",
    "ig_norm": "#CC79A7",
    "ig_sum_norm": "#D55E00",
    "jarn": "#56B4E9",
    "cure": "#F0E442",
}
LABELS = {"natural": "Natural", "pgd": "PGD", "art": "ART", "ig_norm": "IG-NORM", "ig_sum_norm": "IG-SUM-NORM"}
_OTHER = "#777777"  # a training without a colour of its own
_WHISKER = {"lw": 1, "capsize": 2}


def style() -> dict[str, Any]:
    """The house style as Matplotlib settings, for `matplotlib.rc_context(plots.style())`."""
    import seaborn

    sizes = {"figure.dpi": 100, "axes.titlesize": 9, "axes.labelsize": 9, "legend.fontsize": 8, "legend.frameon": False}
    page = {"pdf.fonttype": 42, "figure.constrained_layout.use": True}  # 42: text stays text in the PDF
    return {**seaborn.axes_style("ticks"), **seaborn.plotting_context("paper"), **sizes, **page}


def heatmap_grid(
    rows: Mapping[str, Sequence[Any]],
    *,
    columns: Sequence[str] = (),
    captions: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
    size: float = 1.2,
) -> "Figure":
    """Rows of images and heat maps, one label per row, one heading per column, an optional caption under each panel.

    rows[label]: panels; (C, H, W) is an image, float in [0, 1] or uint8, C = 1 or 3; (H, W) is a heat map >= 0, drawn
    from 0 to its own 99th percentile, since a few pixels would else hide the rest. None leaves a panel empty.
    size: inches a panel.
    Raises ValueError for no rows and for panels of another shape.
    """
    import matplotlib.pyplot as plt

    if not rows or not any(len(panels) for panels in rows.values()):
        raise ValueError("heatmap_grid needs at least one row with one panel")
    width = max(len(panels) for panels in rows.values())
    with plt.rc_context(style()):
        fig, axes = plt.subplots(
            len(rows), width, figsize=(size * width + 0.4, (size + 0.2) * len(rows) + 0.3 * bool(title)), squeeze=False
        )
        plt.close(fig)
        for line, (label, panels) in zip(axes, rows.items(), strict=True):
            for j, ax in enumerate(line):
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
                if j < len(panels) and panels[j] is not None:
                    _panel(ax, panels[j])
                if captions and j < len(captions.get(label, ())):
                    ax.set_xlabel(captions[label][j], fontsize=7, labelpad=2)
            line[0].set_ylabel(label)
        for ax, heading in zip(axes[0], columns, strict=False):
            ax.set_title(heading)
        fig.suptitle(title, fontsize=10)
    return fig


def _panel(ax, panel: Any) -> None:
    panel = torch.as_tensor(panel).detach().cpu().numpy()
    if panel.ndim == 2:
        ax.imshow(panel, cmap="inferno", vmin=0, vmax=np.quantile(panel, 0.99) or 1.0, interpolation="nearest")
    elif panel.ndim == 3 and panel.shape[0] in (1, 3):
        top = 255 if panel.dtype == np.uint8 else 1  # named, else Matplotlib stretches each grey image to its own range
        pixels = np.clip(panel, 0, top).transpose(1, 2, 0).squeeze()  # (H, W, 3) or (H, W)
        ax.imshow(pixels, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
    else:
        raise ValueError(f"a panel is an image (C, H, W), C = 1 or 3, or a heat map (H, W), not {tuple(panel.shape)}")


def bars_with_intervals(table: "pd.DataFrame", *, ylabel: str = "percent", title: str = "") -> "Figure":
    """Grouped bars: a group per metric, a bar per training with its interval, the paper's value as a diamond.

    table: one row per metric and training with columns metric, training, mean, low, high and, if known, paper; one unit
    for all. NaN is left out, so a value that was not measured shows no bar. Groups and bars keep the table's order.
    Raises ValueError for missing columns and for two rows with the same metric and training.
    """
    import matplotlib.pyplot as plt

    missing = {"metric", "training", "mean", "low", "high"} - set(table)
    if missing:
        raise ValueError(
            f"bars_with_intervals lacks the columns {', '.join(sorted(missing))}; it has {', '.join(table)}"
        )
    if table.duplicated(["metric", "training"]).any():
        raise ValueError("two rows with the same metric and training: draw one figure per data set")
    table = table.reset_index(drop=True)
    metrics, trainings = list(table["metric"].unique()), list(table["training"].unique())
    step = 0.8 / len(trainings)
    x = table["metric"].map(metrics.index) + (table["training"].map(trainings.index) - (len(trainings) - 1) / 2) * step
    with plt.rc_context(style()):
        fig, ax = plt.subplots(figsize=(1.2 + 1.3 * len(metrics), 2.8))
        plt.close(fig)
        for training, rows in table.groupby("training", sort=False):
            errors = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
            color, label = COLORS.get(training, _OTHER), LABELS.get(training, training)
            ax.bar(x[rows.index], rows["mean"], 0.9 * step, color=color, label=label, yerr=errors, error_kw=_WHISKER)
        if "paper" in table and table["paper"].notna().any():
            ax.plot(x, table["paper"], "D", ms=4, mfc="white", mec="black", label="paper")
        ax.spines[["top", "right"]].set_visible(False)
        ax.set(xticks=range(len(metrics)), xticklabels=metrics, ylabel=ylabel, title=title)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def save_figure(fig: "Figure", name: str, *, preset: str, notebook: str) -> list[Path]:
    """Write figures/<preset>/<notebook>/<name>.png and .pdf and return their paths.

    The same figure gives the same bytes: no dates, no program version. Each file is written under a temporary name and
    renamed, so that none is ever half-written.
    Raises ValueError for a name, preset or notebook that is not a plain file name.
    """
    for part in (name, preset, notebook):
        if part != Path(part).name or part in ("", ".", ".."):
            raise ValueError(f"{part!r} is not a plain file name: no folders in name, preset or notebook")
    folder = paths.FIGURES / preset / notebook
    folder.mkdir(parents=True, exist_ok=True)
    dateless = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
    written = []
    for kind, metadata in dateless.items():
        path = folder / f"{name}.{kind}"
        temporary = path.with_name(f".{path.name}.partial")
        fig.savefig(temporary, format=kind, dpi=150, bbox_inches="tight", metadata=metadata)
        written.append(temporary.replace(path))
    return written
