"""One house style: a colour per training, grids of images and heat maps, bars and lines with intervals, saved files.

Figures are closed before they are returned, so that a notebook shows one by naming it on the last line of a cell.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from artlib import files, metrics, paths
from artlib.trainings import TRAININGS
from artlib.trainings import title as label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Okabe & Ito's palette, told apart under every common colour blindness; black is for text. Then darker ones of Tol's.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
PALETTE += ("#882255", "#332288", "#999933", "#661100", "#44AA99", "#AA4499", "#DDCC77")
OUTLINE = "#00FFFF"  # in neither blossoms nor the colours of heat maps
_WHISKER = {"lw": 1, "capsize": 2}


def color(training: str) -> str:
    """The colour of a training in every figure: its own, else one of the palette that no listed training has.

    The latter is chosen by the name alone, so that it stays; two unlisted names may share one.
    """
    own = getattr(TRAININGS.get(training), "color", None)
    taken = {getattr(t, "color", None) for t in TRAININGS.values()}
    free = [c for c in PALETTE if c not in taken] or PALETTE
    return own or free[hashlib.sha256(training.encode()).digest()[0] % len(free)]


def _distinct(names: Sequence[str]) -> dict[str, str]:
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


@dataclass(frozen=True)
class Panel:
    """A panel of `heatmap_grid`: an image (C, H, W) or a heat map (H, W), and a bool mask (H, W) to be outlined."""

    values: Any
    outline: Any = None


def perturbation(x: torch.Tensor, x_adv: torch.Tensor, *, times: float = 10.0) -> torch.Tensor:
    """What an attack added to an image, as an image: grey where nothing, lighter where more, `times` as strong.

    x, x_adv: (C, H, W), float in [0, 1]. Returns 0.5 + times (x_adv - x), cut to [0, 1].
    """
    return (0.5 + times * (x_adv - x)).clamp(0, 1)


def heatmap_grid(
    rows: Mapping[str, Sequence[Any]],
    *,
    columns: Sequence[str] | Mapping[str, Sequence[str]] = (),
    captions: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
    size: float = 1.2,
) -> "Figure":
    """Rows of images and heat maps, one label per row, headings over the panels, an optional caption under each.

    rows[label]: panels; (C, H, W) is an image, float in [0, 1] or uint8, C = 1 or 3; (H, W) is a heat map >= 0, drawn
    from 0 to its own 99th percentile, since a few pixels would else hide the rest. None leaves a panel empty. A `Panel`
    is one of these with pixels outlined, such as `metrics.topk_mask`. columns: headings of the first row, or of each
    row by its label. size: inches a panel.
    Raises ValueError for no rows, and for panels and outlines of another shape.
    """
    import matplotlib.pyplot as plt

    if not rows or not any(len(panels) for panels in rows.values()):
        raise ValueError("heatmap_grid needs at least one row with one panel")
    width = max(len(panels) for panels in rows.values())
    headings = columns if isinstance(columns, Mapping) else {next(iter(rows)): columns}
    height = (size + 0.2) * len(rows) + 0.15 * (len(headings) - 1) + 0.3 * bool(title)
    with plt.rc_context(style()):
        fig, axes = plt.subplots(len(rows), width, figsize=(size * width + 0.4, height), squeeze=False)
        plt.close(fig)
        for line, (name, panels) in zip(axes, rows.items(), strict=True):
            for j, ax in enumerate(line):
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
                if j < len(panels) and panels[j] is not None:
                    _panel(ax, panels[j])
                if captions and j < len(captions.get(name, ())):
                    ax.set_xlabel(captions[name][j], fontsize=7, labelpad=2)
            line[0].set_ylabel(name)
            for ax, heading in zip(line, headings.get(name, ()), strict=False):
                ax.set_title(heading)
        fig.suptitle(title, fontsize=10)
    return fig


def _panel(ax, panel: Any) -> None:
    panel, outline = (panel.values, panel.outline) if isinstance(panel, Panel) else (panel, None)
    panel = torch.as_tensor(panel).detach().cpu().numpy()
    if panel.ndim == 2:
        ax.imshow(panel, cmap="inferno", vmin=0, vmax=np.quantile(panel, 0.99) or 1.0, interpolation="nearest")
    elif panel.ndim == 3 and panel.shape[0] in (1, 3):
        top = 255 if panel.dtype == np.uint8 else 1  # named, else Matplotlib stretches each grey image to its own range
        pixels = np.clip(panel, 0, top).transpose(1, 2, 0).squeeze()  # (H, W, 3) or (H, W)
        ax.imshow(pixels, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
    else:
        raise ValueError(f"a panel is an image (C, H, W), C = 1 or 3, or a heat map (H, W), not {tuple(panel.shape)}")
    if outline is not None:
        _outline(ax, torch.as_tensor(outline).detach().cpu().numpy(), panel.shape[-2:])


def _outline(ax, mask: np.ndarray, shape: tuple[int, ...]) -> None:
    """The edges between the pixels of the mask and the others; contour() would cut their corners."""
    from matplotlib.collections import LineCollection

    if mask.shape != tuple(shape) or mask.dtype != bool:
        raise ValueError(f"an outline is a bool mask of its panel's {tuple(shape)}, not {mask.dtype} {mask.shape}")
    inside = np.pad(mask, 1)
    edges = []
    for i, j in zip(*np.nonzero(inside[1:] != inside[:-1]), strict=True):  # between rows i - 1 and i, in column j - 1
        edges.append([(j - 1.5, i - 0.5), (j - 0.5, i - 0.5)])
    for i, j in zip(*np.nonzero(inside[:, 1:] != inside[:, :-1]), strict=True):
        edges.append([(j - 0.5, i - 1.5), (j - 0.5, i - 0.5)])
    for line, width in (("black", 1.3), (OUTLINE, 0.7)):  # seen on bright images and on dark maps
        ax.add_collection(LineCollection(edges, colors=line, linewidths=width, capstyle="projecting"))


def bars_with_intervals(table: "pd.DataFrame", *, ylabel: str = "percent", title: str = "") -> "Figure":
    """Grouped bars: a group per metric, a bar per training with its interval, the paper's value as a diamond.

    table: one row per metric and training with columns metric, training, mean, low, high and, if known, paper; one unit
    for all. NaN is left out, so a value that was not measured shows no bar. Groups and bars keep the table's order.
    Raises ValueError for missing columns and for two rows with the same metric and training.
    """
    import matplotlib.pyplot as plt

    _needs(table, "bars_with_intervals", "metric", "training")
    table = table.reset_index(drop=True)
    metrics, trainings = list(table["metric"].unique()), list(table["training"].unique())
    step, colors = 0.8 / len(trainings), _distinct(trainings)
    x = table["metric"].map(metrics.index) + (table["training"].map(trainings.index) - (len(trainings) - 1) / 2) * step
    with plt.rc_context(style()):
        fig, ax = plt.subplots(figsize=(1.2 + 1.3 * len(metrics), 2.8))
        plt.close(fig)
        for training, rows in table.groupby("training", sort=False):
            errors = [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]
            look = dict(color=colors[training], label=label(training), error_kw=_WHISKER)
            ax.bar(x[rows.index], rows["mean"], 0.9 * step, yerr=errors, **look)
        if "paper" in table and table["paper"].notna().any():
            ax.plot(x, table["paper"], "D", ms=4, mfc="white", mec="black", label="paper")
        ax.spines[["top", "right"]].set_visible(False)
        ax.set(xticks=range(len(metrics)), xticklabels=metrics, ylabel=ylabel, title=title)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def lines_with_bands(
    table: "pd.DataFrame", *, x: str, xlabel: str = "", ylabel: str = "percent", title: str = ""
) -> "Figure":
    """One line a training with its interval as a band, the paper's values as diamonds: accuracy against epsilon, say.

    table: one row per training and x with columns training, `x`, mean, low, high and, if known, paper; one unit for
    all. Points are joined in the order of x; NaN leaves a gap. xlabel: the column's name unless told.
    Raises ValueError for missing columns and for two rows with the same training and x.
    """
    import matplotlib.pyplot as plt

    _needs(table, "lines_with_bands", "training", x)
    with plt.rc_context(style()):
        fig, ax = plt.subplots(figsize=(4.6, 2.8))
        plt.close(fig)
        _lines(ax, table, x, "training", {t: color(t) for t in table["training"].unique()})
        if "paper" in table and table["paper"].notna().any():
            ax.plot([], [], "D", ms=4.5, mfc="white", mec="black", label="paper")
        ax.set(xlabel=xlabel or x, ylabel=ylabel, title=title)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def _lines(ax, table: "pd.DataFrame", x: str, line: str, colors: Mapping[str, str]) -> None:
    for name, rows in table.groupby(line, sort=False):
        rows, look = rows.sort_values(x), dict(color=colors[name])
        ax.fill_between(rows[x], rows["low"], rows["high"], alpha=0.2, lw=0, **look)
        ax.plot(rows[x], rows["mean"], "o-", ms=3, lw=1.2, label=label(name), **look)
        if "paper" in rows and rows["paper"].notna().any():
            ax.plot(rows[x], rows["paper"], "D", ms=4.5, mfc="white", mec=colors[name])
    ax.spines[["top", "right"]].set_visible(False)


def panels_with_bands(
    table: "pd.DataFrame",
    *,
    x: str,
    panel: str,
    line: str = "training",
    log: bool = False,
    xlabel: str = "",
    ylabel: str = "percent",
    title: str = "",
) -> "Figure":
    """`lines_with_bands` in several panels, one for each value of the column `panel`, one line for each of `line`.

    Lines that are no listed trainings get the free colours of the palette, in the order of the table. log: of the axis
    of x. xlabel: under each panel, the panel's own name unless told, which is else its title.
    Raises ValueError for missing columns and for two rows with the same panel, line and x.
    """
    import matplotlib.pyplot as plt

    _needs(table, "panels_with_bands", panel, line, x)
    names, lines = list(table[panel].unique()), list(table[line].unique())
    chosen = _distinct(lines)
    with plt.rc_context(style()):
        fig, axes = plt.subplots(1, len(names), figsize=(0.9 + 2.1 * len(names), 2.5), squeeze=False)
        plt.close(fig)
        for ax, name in zip(axes[0], names, strict=True):
            _lines(ax, table[table[panel] == name], x, line, chosen)
            ax.set(xlabel=xlabel or name, title=name if xlabel else "", xscale="log" if log else "linear")
            ax.xaxis.set_minor_formatter(plt.NullFormatter())
        axes[0, 0].set_ylabel(ylabel)
        handles = dict(reversed(pair) for ax in axes[0] for pair in zip(*ax.get_legend_handles_labels(), strict=True))
        if "paper" in table and table["paper"].notna().any():
            handles |= {"paper": axes[0, 0].plot([], [], "D", ms=4.5, mfc="white", mec="black")[0]}
        fig.legend(handles.values(), handles.keys(), loc="outside center right")
        fig.suptitle(title, fontsize=10)
    return fig


def guard_lines(table: "pd.DataFrame", *, raised: str = "L_attr", title: str = "") -> "Figure":
    """What the guard of ART saw over a training: a column a training, `raised` above, accuracy below, by epoch.

    One line for each statistics that the network was looked at with: solid at the end of the training's own attack,
    dotted at its start. table: as `tables.guarded` makes it. Raises ValueError for an empty one.
    """
    import matplotlib.pyplot as plt

    if table.empty:
        raise ValueError("the guard has seen nothing: it looks after the first 50 updates, at the end of an epoch")
    names = list(table["training"].unique())
    looks = dict(
        zip(("held", "running", "batch"), zip(("#009E73", "#0072B2", "#D55E00"), "o^s", strict=True), strict=True)
    )
    with plt.rc_context(style()):
        size = dict(figsize=(1.4 + 2.3 * len(names), 3.8), squeeze=False, sharex="col", sharey="row")
        fig, axes = plt.subplots(2, len(names), **size)
        plt.close(fig)
        for (name, statistics, point), rows in table.groupby(["training", "statistics", "point"], sort=False):
            if point not in ("start", "x~"):
                continue
            shade, marker = looks[statistics]
            dash = dict(ls="-" if point == "x~" else ":", lw=1.2, marker=marker, ms=3.5, color=shade)
            dash |= {} if point == "x~" else dict(mfc="white")
            where = {"x~": r"$\tilde{x}$", "start": "the start"}[point]
            for ax, column in zip(axes[:, names.index(name)], ("raised", "accuracy"), strict=True):
                ax.plot(rows["epoch"], rows[column], label=f"{statistics}, at {where}", **dash)
        for ax, name in zip(axes[0], names, strict=True):
            ax.set_title(name)
        for ax in axes[1]:
            ax.set(xlabel="epoch", ylim=(-4, 104))
            ax.xaxis.set_major_locator(plt.MaxNLocator(integer=True, min_n_ticks=1))
        axes[0, 0].set_ylabel(raised)
        axes[1, 0].set_ylabel("accuracy, percent")
        handles = dict(reversed(pair) for pair in zip(*axes[0, 0].get_legend_handles_labels(), strict=True))
        legend = fig.legend(handles.values(), handles.keys(), loc="outside center right", title="normalised by")
        legend.get_title().set_fontsize(8)
        fig.suptitle(title, fontsize=10)
    return fig


def boxes(values: Mapping[str, Mapping[str, Sequence[float]]], *, ylabel: str = "percent", title: str = "") -> "Figure":
    """A panel a metric, a box a training, and the images behind it as points: values[metric][training] is (N,).

    The box goes from the first to the third quartile with the median in it, whiskers to the last point within 1.5 of
    its length, a diamond is the mean. NaN is left out. Raises ValueError where there is nothing to draw.
    """
    import matplotlib.pyplot as plt

    if not values or not all(values.values()):
        raise ValueError("boxes needs at least one metric with one training")
    noise = np.random.default_rng(0)
    with plt.rc_context(style()):
        fig, axes = plt.subplots(1, len(values), figsize=(0.6 + 2.6 * len(values), 2.8), squeeze=False)
        plt.close(fig)
        for ax, (metric, trainings) in zip(axes[0], values.items(), strict=True):
            for i, (training, each) in enumerate(trainings.items()):
                each = np.asarray(each, dtype=float)
                each = each[np.isfinite(each)]
                ax.plot(i + noise.uniform(-0.22, 0.22, len(each)), each, ".", ms=4, alpha=0.5, color=color(training))
                line = dict(color="black", lw=1)
                look = dict(boxprops=line, medianprops=line, whiskerprops=line, capprops=line)
                mean = dict(marker="D", markersize=4, markerfacecolor="white", markeredgecolor="black")
                ax.boxplot([each], positions=[i], widths=0.6, showfliers=False, showmeans=True, meanprops=mean, **look)
            ax.spines[["top", "right"]].set_visible(False)
            ax.set(xticks=range(len(trainings)), xticklabels=[label(t) for t in trainings], title=metric)
        axes[0, 0].set_ylabel(ylabel)
        fig.suptitle(title, fontsize=10)
    return fig


def matrix(table: "pd.DataFrame", *, xlabel: str = "", ylabel: str = "", title: str = "", unit: str = "%") -> "Figure":
    """A table of numbers from 0 to 100 as a heat map with the numbers in it; NaN stays white."""
    import matplotlib.pyplot as plt

    with plt.rc_context(style()):
        fig, ax = plt.subplots(figsize=(1.8 + 0.8 * table.shape[1], 1.2 + 0.5 * table.shape[0]))
        plt.close(fig)
        drawn = ax.imshow(table.to_numpy(float), cmap="cividis", vmin=0, vmax=100, aspect="auto")
        for (i, j), v in np.ndenumerate(table.to_numpy(float)):
            if np.isfinite(v):
                ax.text(j, i, f"{v:.1f}", ha="center", va="center", color="black" if v > 50 else "white")
        ax.set(xticks=range(table.shape[1]), xticklabels=table.columns, yticks=range(table.shape[0]))
        ax.set(yticklabels=table.index, xlabel=xlabel, ylabel=ylabel, title=title)
        fig.colorbar(drawn, ax=ax, label=unit)
    return fig


@dataclass(frozen=True)
class Box:
    """A box of `diagram`: its middle, in units of boxes to the right and down, its text, its colour."""

    right: float
    down: float
    text: str
    color: str = "white"


def diagram(boxes: Mapping[str, Box], arrows: Sequence[tuple[str, str, str, str]], *, title: str = "") -> "Figure":
    """Boxes and arrows: (from, to, "-" or "--", what is written beside it)."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

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
    return fig


def _needs(table: "pd.DataFrame", figure: str, *keys: str) -> None:
    if missing := {*keys, "mean", "low", "high"} - set(table):
        raise ValueError(f"{figure} lacks the columns {', '.join(sorted(missing))}; it has {', '.join(table)}")
    if table.duplicated(list(keys)).any():
        raise ValueError(f"two rows with the same {' and '.join(keys)}: draw one figure per data set")


def save_figure(
    fig: "Figure", name: str, *, preset: str, notebook: str, numbers: "Mapping | pd.DataFrame | None" = None
) -> list[Path]:
    """Write figures/<preset>/<notebook>/<name>.png, .pdf and, of the numbers it draws, -numbers.json; their paths.

    numbers: a table (its rows become records) or a mapping of numbers, arrays and text; kept to 6 digits, NaN as null.
    The same figure gives the same bytes: no dates, no program version. Each file is written under a temporary name of
    this process and renamed, so that none is ever half-written and two processes may save the same figure.
    Raises ValueError for a name, preset or notebook that is not a plain file name, PermissionError for a file that
    cannot be written.
    """
    for part in (name, preset, notebook):
        if part != Path(part).name or part in ("", ".", ".."):
            raise ValueError(f"{part!r} is not a plain file name: no folders in name, preset or notebook")
    folder = paths.FIGURES / preset / notebook
    written, beside = [folder / f"{name}.png", folder / f"{name}.pdf"], folder / f"{name}-numbers.json"
    text = None if numbers is None else json.dumps(_plain(numbers), indent=1) + "\n"
    beside.unlink(missing_ok=True)  # no figure beside the numbers of another one
    dateless = ({"Software": None}, {"CreationDate": None, "Producer": None, "Creator": None})
    for path, metadata in zip(written, dateless, strict=True):
        options = dict(format=path.suffix[1:], dpi=150, bbox_inches="tight", metadata=metadata)
        files.write(path, lambda temporary, options=options: fig.savefig(temporary, **options))
    if text is None:
        return written
    files.write_text(beside, text)
    return [*written, beside]


def _plain(value: Any) -> Any:
    """What JSON can hold, with floats of 6 digits, so that the last bits of two machines do not show."""
    if hasattr(value, "to_dict"):  # a DataFrame: an index with a name is a column
        value = value.reset_index() if any(value.index.names) else value
        value = value.astype(object).where(value.notna(), None)
        return [_plain(dict(zip(map(str, value.columns), row, strict=True))) for row in value.to_numpy(object)]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):  # an array or tensor, or a number of one
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def attack_grid(
    x: torch.Tensor,
    attacked: Mapping[str, Any],
    confidences: Mapping[str, tuple[float, float]],
    *,
    k: int,
    title: str = "",
    size: float = 1.7,
) -> "Figure":
    """One image under attack, a row a training: image, change x 10, attacked image, its map before and after.

    x: (C, H, W) in [0, 1]; attacked[training]: a `Manipulated` of that one image; confidences[training]: that of its
    class before and after. The k largest pixels of each map are outlined; IN and K stand under the last panel.
    """
    rows, captions = {}, {}
    for name, found in attacked.items():
        before, after = (Panel(m[0], metrics.topk_mask(m, k)[0]) for m in (found.before, found.after))
        heading = label(name)
        rows[heading] = [x, perturbation(x, found.x_adv[0]), found.x_adv[0], before, after]
        shared = metrics.topk_intersection(found.before, found.after, k).item()
        told = [f"confidence {c:.1%}" for c in confidences[name]]
        captions[heading] = [told[0], "", told[1], "", f"IN {shared:.0%}, K {found.kendall.item():.2f}"]
    columns = ["image", "change × 10", "attacked image", f"map, top {k}", f"map after, top {k}"]
    return heatmap_grid(rows, columns=columns, captions=captions, title=title, size=size)
