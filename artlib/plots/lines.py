"""Bars, lines and boxes of numbers that have intervals or images behind them; what the guard saw."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from artlib.plots.style import PALETTE, bar_look, color, distinct, line_look, style
from artlib.trainings import title as label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_WHISKER = {"lw": 1, "capsize": 2}
_PAPER = dict(marker="D", ls="", mfc="white", mec="black")  # what the paper prints
_ZERO = dict(color="black", lw=0.8)  # where a difference turns
MOST_BARS = 5  # in a group; of more, neither colours nor hatches are told apart at a glance


def bars_with_intervals(
    table: "pd.DataFrame", *, ylabel: str = "percent", title: str = "", colored: bool = True
) -> "Figure":
    """Grouped bars: a group per metric, a bar per training with its interval, the paper's value as a diamond.

    Of more than `MOST_BARS` trainings, a panel per metric and a named row per training, with dots for bars; these are
    `colored` by training, or all alike where the rows are no trainings.
    table: one row per metric and training with columns metric, training, mean, low, high and, if known, paper; one unit
    for all. NaN is left out, so a value that was not measured shows no bar. Groups and bars keep the table's order.
    Raises ValueError for missing columns and for two rows with the same metric and training.
    """
    _needs(table, "bars_with_intervals", "metric", "training")
    trainings = list(table["training"].unique())
    colors = distinct(trainings) if colored else dict.fromkeys(trainings, PALETTE[0])
    return (_dots if len(trainings) > MOST_BARS else _bars)(table.reset_index(drop=True), ylabel, title, colors)


def _bars(table: "pd.DataFrame", ylabel: str, title: str, colors: Mapping[str, str]) -> "Figure":
    import matplotlib.pyplot as plt

    metrics, trainings = list(table["metric"].unique()), list(table["training"].unique())
    step = 0.8 / len(trainings)
    legend = 0.08 * max(0, max(len(label(t)) for t in trainings) - 12)  # inches that a long one takes from the bars
    x = table["metric"].map(metrics.index) + (table["training"].map(trainings.index) - (len(trainings) - 1) / 2) * step
    with plt.rc_context(style()):
        fig, ax = plt.subplots(figsize=(1.2 + 1.3 * len(metrics) + legend, 2.8))
        plt.close(fig)
        for training, rows in table.groupby("training", sort=False):
            look = dict(yerr=_errors(rows), label=label(training), error_kw=_WHISKER)
            ax.bar(x[rows.index], rows["mean"], 0.9 * step, **look, **bar_look(colors[training]))
        if (table["low"] < 0).any():
            ax.axhline(0, **_ZERO)
        if _printed(table):
            ax.plot(x, table["paper"], ms=4, label="paper", **_PAPER)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set(xticks=range(len(metrics)), xticklabels=metrics, ylabel=ylabel, title=title)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def _dots(table: "pd.DataFrame", xlabel: str, title: str, colors: Mapping[str, str]) -> "Figure":
    import matplotlib.pyplot as plt

    metrics, trainings = list(table["metric"].unique()), list(table["training"].unique())
    names = [label(t) for t in trainings]
    with plt.rc_context(style()):
        size = (0.08 * max(map(len, names)) + 1.7 * len(metrics) + 0.6, 0.22 * len(names) + 1.1)
        fig, axes = plt.subplots(1, len(metrics), figsize=size, sharey=True, squeeze=False)
        plt.close(fig)
        for ax, metric in zip(axes[0], metrics, strict=True):
            own = table[table["metric"] == metric]
            for training, rows in own.groupby("training", sort=False):
                dot = dict(xerr=_errors(rows), fmt="o", ms=5, mec="black", mew=0.6, elinewidth=1, capsize=2)
                dot |= dict(color=colors[training], ecolor="black")
                ax.errorbar(rows["mean"], [trainings.index(training)] * len(rows), **dot)
            if (own["low"] < 0).any():
                ax.axvline(0, **_ZERO)
            if _printed(table):
                ax.plot(own["paper"], own["training"].map(trainings.index), ms=4.5, label="paper", **_PAPER)
            ax.spines[["top", "right"]].set_visible(False)
            ax.grid(axis="y", lw=0.5, alpha=0.5)
            ax.set(title=metric, xlabel=xlabel)
        axes[0, 0].set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5))
        if _printed(table):
            fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside center right")
        fig.suptitle(title, fontsize=10)
    return fig


def _errors(rows: "pd.DataFrame") -> list:
    return [rows["mean"] - rows["low"], rows["high"] - rows["mean"]]


def _printed(table: "pd.DataFrame") -> bool:
    return "paper" in table and table["paper"].notna().any()


def lines_with_bands(
    table: "pd.DataFrame", *, x: str, xlabel: str = "", ylabel: str = "percent", title: str = ""
) -> "Figure":
    """One line a training with its interval as a band, the paper's values in diamonds: accuracy against epsilon, say.

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
        if _printed(table):
            ax.plot([], [], ms=7, label="paper", **_PAPER)
        ax.set(xlabel=xlabel or x, ylabel=ylabel, title=title)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def _lines(ax, table: "pd.DataFrame", x: str, line: str, colors: Mapping[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    if (table[x] % 1 == 0).all():  # no half steps
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for name, rows in table.groupby(line, sort=False):
        rows, look = rows.sort_values(x), line_look(colors[name])
        ax.fill_between(rows[x], rows["low"], rows["high"], alpha=0.2, lw=0, color=colors[name])
        ax.plot(rows[x], rows["mean"], ms=3.5, lw=1.2, label=label(name), **look)
        if _printed(rows):  # the line's own marker in a diamond
            ax.plot(rows[x], rows["paper"], ms=7, **_PAPER | dict(mec=colors[name]))
            ax.plot(rows[x], rows["paper"], ms=2.5, **look | dict(ls=""))
    ax.spines[["top", "right"]].set_visible(False)


def panels_with_bands(
    table: "pd.DataFrame",
    *,
    x: str,
    panel: str,
    line: str = "training",
    log: bool | Collection[str] = False,
    sharey: bool = False,
    xlabel: str = "",
    ylabel: str = "percent",
    title: str = "",
) -> "Figure":
    """`lines_with_bands` in several panels, one for each value of the column `panel`, one line for each of `line`.

    Lines that are no listed trainings get the free colours of the palette, in the order of the table. log: the axis of
    x is logarithmic, or that of the panels named is, with ticks at their values. sharey: one scale for all panels.
    xlabel: under each panel, the panel's own name unless told, which is else its title.
    Raises ValueError for missing columns and for two rows with the same panel, line and x.
    """
    import matplotlib.pyplot as plt

    _needs(table, "panels_with_bands", panel, line, x)
    names, lines = list(table[panel].unique()), list(table[line].unique())
    chosen = distinct(lines)
    with plt.rc_context(style()):
        size = dict(figsize=(0.9 + 2.1 * len(names), 2.5), squeeze=False)
        fig, axes = plt.subplots(1, len(names), sharex=bool(xlabel), sharey=sharey, **size)
        plt.close(fig)
        for ax, name in zip(axes[0], names, strict=True):
            own, told = table[table[panel] == name], not isinstance(log, bool) and name in log
            _lines(ax, own, x, line, chosen)
            ax.set(xlabel=xlabel or name, title=name if xlabel else "")
            if log is True or told:
                ax.set_xscale("log")
            if told:
                values = sorted(own[x].unique())
                ax.set_xticks(values, labels=[f"{v:g}" for v in values])
            ax.xaxis.set_minor_formatter(plt.NullFormatter())
        axes[0, 0].set_ylabel(ylabel)
        _legend(fig, axes, printed=_printed(table))
        fig.suptitle(title, fontsize=10)
    return fig


def grid_with_bands(
    table: "pd.DataFrame", *, x: str, row: str, column: str, line: str, xlabel: str, title: str = ""
) -> "Figure":
    """`lines_with_bands` in a grid: a row of panels for each value of the column `row`, a column for each of `column`.

    All have one scale, so that heights can be compared. Raises ValueError as `panels_with_bands`.
    """
    import matplotlib.pyplot as plt

    _needs(table, "grid_with_bands", row, column, line, x)
    rows, columns, chosen = table[row].unique(), table[column].unique(), distinct(list(table[line].unique()))
    with plt.rc_context(style()):
        size = dict(figsize=(1.2 + 2.5 * len(columns), 0.6 + 1.8 * len(rows)), squeeze=False)
        fig, axes = plt.subplots(len(rows), len(columns), sharex=True, sharey=True, **size)
        plt.close(fig)
        for (i, j), ax in np.ndenumerate(axes):
            _lines(ax, table[(table[row] == rows[i]) & (table[column] == columns[j])], x, line, chosen)
            ax.set(title=columns[j] if i == 0 else "", xlabel=xlabel if i == len(rows) - 1 else "")
            ax.set_ylabel(f"{rows[i]}\npercent" if j == 0 else "")
        _legend(fig, axes, printed=_printed(table))
        fig.suptitle(title, fontsize=10)
    return fig


def _legend(fig: "Figure", axes: np.ndarray, *, printed: bool) -> None:
    handles = dict(reversed(pair) for ax in axes.flat for pair in zip(*ax.get_legend_handles_labels(), strict=True))
    if printed:
        handles |= {"paper": axes.flat[0].plot([], [], ms=7, **_PAPER)[0]}
    fig.legend(handles.values(), handles.keys(), loc="outside center right")


def guard_lines(table: "pd.DataFrame", *, raised: str = "L_attr", title: str = "") -> "Figure":
    """What the guard of ART saw over a training: a column a training, `raised` above, accuracy below, by epoch.

    One line for each statistics that the network was looked at with: solid at the end of the training's own attack,
    dotted at its start. `raised` has an axis of its own in each: in a collapse it falls by more than an attack gains.
    table: as `tables.guarded` makes it. Raises ValueError for an empty one.
    """
    import matplotlib.pyplot as plt

    if table.empty:
        raise ValueError("the guard has seen nothing: it looks after the first 50 updates, at the end of an epoch")
    names = list(table["training"].unique())
    looks = dict(
        zip(("held", "running", "batch"), zip(("#009E73", "#0072B2", "#D55E00"), "o^s", strict=True), strict=True)
    )
    with plt.rc_context(style()):
        size = dict(figsize=(1.4 + 2.3 * len(names), 3.8), squeeze=False, sharex="col")
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


DOTS = 500  # points beside a box, at most


def boxes(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    printed: Mapping[str, Mapping[str, float]] | None = None,
    ylabel: str = "percent",
    title: str = "",
) -> "Figure":
    """A panel a metric, a box a training, and the images behind it as points: values[metric][training] is (N,).

    The box goes from the first to the third quartile with the median in it, whiskers to the last point within 1.5 of
    its length, a cross is the mean, a diamond what the paper prints of it: printed[metric][training]. NaN is left out;
    of more than `DOTS` points a random `DOTS` are drawn, so that the box is seen, and the figure says of how many.
    Raises ValueError where there is nothing to draw.
    """
    import matplotlib.pyplot as plt

    if not values or not all(values.values()):
        raise ValueError("boxes needs at least one metric with one training")
    noise, known = np.random.default_rng(0), printed or {}
    cross = dict(marker="x", ms=5, mew=1.5, mec="black")
    with plt.rc_context(style()):
        fig, axes = plt.subplots(1, len(values), figsize=(1.2 + 2.6 * len(values), 2.8), squeeze=False)
        plt.close(fig)
        for ax, (metric, trainings) in zip(axes[0], values.items(), strict=True):
            names = []
            for i, (training, each) in enumerate(trainings.items()):
                each = np.asarray(each, dtype=float)
                each = each[np.isfinite(each)]
                dots = each if len(each) <= DOTS else noise.choice(each, DOTS, replace=False)
                ax.plot(i + noise.uniform(-0.22, 0.22, len(dots)), dots, ".", ms=4, alpha=0.5, color=color(training))
                line = dict(color="black", lw=1)
                look = dict(boxprops=line, medianprops=line, whiskerprops=line, capprops=line)
                ax.boxplot([each], positions=[i], widths=0.6, showfliers=False, showmeans=True, meanprops=cross, **look)
                thinned = f"\n{DOTS} of\n{len(each)}\npoints\ndrawn" if len(each) > DOTS else ""
                names.append(label(training) + thinned)
                ax.plot(i, known.get(metric, {}).get(training, np.nan), ms=5, zorder=5, **_PAPER)
            ax.spines[["top", "right"]].set_visible(False)
            ax.set(xticks=range(len(trainings)), xticklabels=names, title=metric)
        axes[0, 0].set_ylabel(ylabel)
        handles = {"mean": axes[0, 0].plot([], [], ls="", **cross)[0]}
        if any(known.values()):
            handles |= {"paper's mean": axes[0, 0].plot([], [], ms=5, **_PAPER)[0]}
        fig.legend(handles.values(), handles.keys(), loc="outside center right")
        fig.suptitle(title, fontsize=10)
    return fig


def _needs(table: "pd.DataFrame", figure: str, *keys: str) -> None:
    if missing := {*keys, "mean", "low", "high"} - set(table):
        raise ValueError(f"{figure} lacks the columns {', '.join(sorted(missing))}; it has {', '.join(table)}")
    if table.duplicated(list(keys)).any():
        raise ValueError(f"two rows with the same {' and '.join(keys)}: draw one figure per data set")
