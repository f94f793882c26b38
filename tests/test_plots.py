"""Figures hold what they were given: colours, values, markers and files are read back from Matplotlib."""

import itertools
import json
import math
import os

import numpy as np
import pandas as pd
import pytest
import torch

from artlib import paths, plots
from artlib.trainings import TRAININGS

TABLE = pd.DataFrame(
    {
        "metric": ["IN", "IN", "K", "K"],
        "training": ["natural", "art", "natural", "art"],
        "mean": [40.0, 90.0, 50.0, math.nan],
        "low": [35.0, 88.0, 47.0, math.nan],
        "high": [46.0, 91.0, 52.0, math.nan],
        "paper": [40.25, 92.90, math.nan, 91.76],
    }
)


def bars(fig):
    return {label: container for container, label in zip(*fig.axes[0].get_legend_handles_labels(), strict=True)}


def test_every_training_has_its_own_colour_of_the_palette():
    colors = [plots.color(name) for name in TRAININGS]
    assert len(set(colors)) == len(colors) and set(colors) <= set(plots.PALETTE)
    assert colors == [t.color for t in TRAININGS.values()]
    assert [plots.label(name) for name in TRAININGS] == [t.title for t in TRAININGS.values()]


def test_a_new_training_brings_its_colour_and_others_get_one_that_is_free(monkeypatch):
    class New:
        title, color = "NEW", "#123456"

    monkeypatch.setitem(TRAININGS, "new", New)
    assert (plots.color("new"), plots.label("new")) == ("#123456", "NEW")
    monkeypatch.setitem(TRAININGS, "bare", type("Bare", (), {}))
    taken = {t.color for t in TRAININGS.values() if hasattr(t, "color")}
    for name in ("bare", "mine", "newest", ""):
        assert plots.color(name) == plots.color(name) in set(plots.PALETTE) - taken
        assert plots.label(name) == name
    for c in plots.PALETTE:  # all taken: any of them
        monkeypatch.setitem(TRAININGS, c, type("Other", (), {"color": c}))
    assert plots.color("mine") in plots.PALETTE


def test_colours_differ_in_more_than_hue():
    """The trainings that every figure compares stay apart in grey: their relative luminance (WCAG 2.1) differs."""

    def luminance(color):
        rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    for a, b in itertools.combinations(("natural", "pgd", "art"), 2):
        assert abs(luminance(plots.color(a)) - luminance(plots.color(b))) > 0.1


def test_bars_show_means_intervals_and_paper_values():
    from matplotlib.colors import to_rgba

    fig = plots.bars_with_intervals(TABLE)
    ax = fig.axes[0]
    drawn = bars(fig)
    assert set(drawn) == {"Natural", "ART", "paper"}
    assert [bar.get_height() for bar in drawn["Natural"]] == [40, 50]
    assert drawn["ART"][0].get_facecolor() == to_rgba(plots.color("art"))
    segments = drawn["Natural"].errorbar.lines[2][0].get_segments()
    assert [segment[:, 1].tolist() for segment in segments] == [[35, 46], [47, 52]]
    markers = [line.get_ydata() for line in ax.lines if line.get_marker() == "D"]
    np.testing.assert_array_equal(markers, [[40.25, 92.90, math.nan, 91.76]])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["IN", "K"]


def test_bars_do_not_overlap():
    drawn = bars(plots.bars_with_intervals(TABLE))
    spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for k in ("Natural", "ART") for bar in drawn[k])
    assert all(right <= left for (_, right), (left, _) in itertools.pairwise(spans))


def test_unknown_training_is_drawn_under_its_own_name():
    fig = plots.bars_with_intervals(TABLE.assign(training=["x", "y", "x", "y"]).drop(columns="paper"))
    assert list(bars(fig)) == ["x", "y"]
    names = [f"row {i}" for i in range(4)]
    many = pd.DataFrame({"metric": "IN", "training": ["art", *names], "mean": 1.0, "low": 0.5, "high": 2.0})
    drawn = bars(plots.bars_with_intervals(many)).values()
    for look in (lambda bar: bar.get_facecolor(), lambda bar: bar.get_hatch()):
        assert len({look(bar[0]) for bar in drawn}) == 5  # a figure's rows are told apart, listed or not, in grey too


def test_many_trainings_are_rows_of_dots_with_their_names():
    names = ["natural", "pgd", "art", "trades", "x", "y"]
    cells = [
        dict(metric=m, training=t, mean=10.0 * i, low=10 * i - 2, high=10 * i + 3, paper=5 if t == "art" else math.nan)
        for m in ("IN", "K")
        for i, t in enumerate(names)
    ]
    table = pd.DataFrame(cells).drop(index=7)  # PGD has no K
    fig = plots.bars_with_intervals(table, title="both")
    assert [ax.get_title() for ax in fig.axes] == ["IN", "K"] and fig.axes[0].get_xlabel() == "percent"
    titles = ["Natural", "PGD", "ART", "TRADES", "x", "y"]
    assert [tick.get_text() for tick in fig.axes[0].get_yticklabels()] == titles and not fig.axes[0].patches
    dots = [[line.get_xydata().tolist() for line in ax.lines if line.get_marker() == "o"] for ax in fig.axes]
    assert dots[0] == [[[10 * i, i]] for i in range(6)] and dots[1] == [[[10 * i, i]] for i in (0, 2, 3, 4, 5)]
    ends = [c.get_segments()[0][:, 0].tolist() for c in fig.axes[0].containers for c in c.lines[2]]
    assert ends == [[10 * i - 2, 10 * i + 3] for i in range(6)]
    (paper,) = [line for line in fig.axes[1].lines if line.get_marker() == "D"]
    assert [tuple(p) for p in paper.get_xydata() if not math.isnan(p[0])] == [(5, 2)]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["paper"]
    assert not plots.bars_with_intervals(table.drop(columns="paper")).legends


def test_rows_that_are_no_trainings_have_one_colour():
    rows = pd.DataFrame({"metric": "IN", "training": [f"set {i}" for i in range(7)], "mean": 1.0, "low": 0, "high": 2})
    for colored, different in ((True, 7), (False, 1)):
        fig = plots.bars_with_intervals(rows, colored=colored)
        assert len({line.get_color() for line in fig.axes[0].lines if line.get_marker() == "o"}) == different


def test_lines_differ_by_marker_and_dash_and_bars_by_hatch_as_well_as_by_colour():
    looks = [plots.line_look(color) for color in plots.PALETTE]
    assert len({look["marker"] for look in looks}) == len(plots.PALETTE)
    assert len({plots.bar_look(color)["hatch"] for color in plots.PALETTE}) == len(plots.PALETTE)
    assert "D" not in {look["marker"] for look in looks}  # the paper's
    first = [plots.line_look(plots.color(name)) for name in ("natural", "pgd", "art")]
    assert len({look["ls"] for look in first}) == 3
    assert {plots.bar_look(c)["edgecolor"] for c in ("#FFFFFF", "yellow")} == {"black"}
    assert plots.bar_look("#000000")["edgecolor"] == "white"
    table = LINES.assign(training=LINES["training"].replace("mine", "pgd"))
    for drawn in (plots.lines_with_bands(table, x="eps"), plots.panels_with_bands(table, x="eps", panel="paper")):
        found = {line.get_label(): line for line in drawn.axes[0].lines}
        assert (found["ART"].get_marker(), found["ART"].get_linestyle()) == ("^", "-.")
    found = {line.get_label(): line for line in plots.lines_with_bands(table, x="eps").axes[0].lines}
    assert (found["PGD"].get_marker(), found["PGD"].get_linestyle()) == ("s", "--")


def test_bars_refuse_incomplete_or_ambiguous_tables():
    with pytest.raises(ValueError, match="lacks the columns high, low"):
        plots.bars_with_intervals(TABLE.drop(columns=["low", "high"]))
    with pytest.raises(ValueError, match="one figure per data set"):
        plots.bars_with_intervals(pd.concat([TABLE, TABLE]))


def test_grid_places_panels_labels_and_captions(generator):
    image = torch.rand(3, 4, 5, generator=generator)
    heat = torch.rand(4, 5, generator=generator, dtype=torch.float64)
    grey = torch.full((1, 4, 5), 128, dtype=torch.uint8)
    fig = plots.heatmap_grid(
        {"Natural": [image, heat, None], "ART": [grey]}, columns=["image", "gradient"], captions={"ART": ["K 0.91"]}
    )
    axes = np.array(fig.axes).reshape(2, 3)
    np.testing.assert_allclose(axes[0, 0].images[0].get_array(), image.permute(1, 2, 0))
    np.testing.assert_array_equal(axes[0, 1].images[0].get_array(), heat)
    assert axes[0, 1].images[0].get_clim() == pytest.approx((0, np.quantile(heat, 0.99)))
    assert axes[1, 0].images[0].get_clim() == (0, 255)
    assert [len(ax.images) for ax in axes.flat] == [1, 1, 0, 1, 0, 0]
    assert (axes[0, 0].get_title(), axes[0, 1].get_title()) == ("image", "gradient")
    assert (axes[0, 0].get_ylabel(), axes[1, 0].get_ylabel(), axes[1, 0].get_xlabel()) == ("Natural", "ART", "K 0.91")


def test_grid_takes_an_all_zero_map():
    assert plots.heatmap_grid({"": [torch.zeros(3, 3)]}).axes[0].images[0].get_clim() == (0, 1)


def test_grid_refuses_nothing_and_odd_shapes():
    with pytest.raises(ValueError, match="at least one row"):
        plots.heatmap_grid({})
    with pytest.raises(ValueError, match=r"not \(2, 4, 4\)"):
        plots.heatmap_grid({"": [torch.zeros(2, 4, 4)]})


def segments(ax):
    return {tuple(map(tuple, np.sort(segment, axis=0))) for c in ax.collections for segment in c.get_segments()}


def edges(mask):
    """Of a mask by its definition: the four sides of every pixel, those of two neighbours taken away."""
    sides = []
    for i, j in mask.nonzero().tolist():
        corners = [(j - 0.5, i - 0.5), (j + 0.5, i - 0.5), (j + 0.5, i + 0.5), (j - 0.5, i + 0.5)]
        sides += [tuple(sorted(side)) for side in itertools.pairwise([*corners, corners[0]])]
    return {side for side in sides if sides.count(side) == 1}


def test_outlines_follow_the_edges_of_pixels(generator):
    mask = torch.rand(6, 8, generator=generator) > 0.6
    heat, image = torch.rand(6, 8, generator=generator), torch.rand(3, 6, 8, generator=generator)
    row = [plots.Panel(heat, mask), plots.Panel(image, mask), plots.Panel(heat), plots.Panel(heat, mask & False)]
    axes = plots.heatmap_grid({"": row}).axes
    assert segments(axes[0]) == segments(axes[1]) == edges(mask) != set()
    assert segments(axes[2]) == segments(axes[3]) == set()
    assert segments(plots.heatmap_grid({"": [plots.Panel(heat, mask | True)]}).axes[0]) == edges(mask | True)
    for bad in (mask[:5], mask.float(), mask[None]):
        with pytest.raises(ValueError, match=r"an outline is a bool mask of its panel's \(6, 8\), not"):
            plots.heatmap_grid({"": [plots.Panel(heat, bad)]})


def test_a_perturbation_is_grey_where_nothing_was_added():
    x = torch.tensor([0.2, 0.5, 0.0, 1.0]).view(1, 2, 2)
    moved = x + torch.tensor([0.0, 0.03, 0.2, -0.03]).view(1, 2, 2)
    torch.testing.assert_close(plots.perturbation(x, moved).flatten(), torch.tensor([0.5, 0.8, 1.0, 0.2]))
    torch.testing.assert_close(plots.perturbation(x, moved, times=1).flatten(), torch.tensor([0.5, 0.53, 0.7, 0.47]))


def test_columns_may_be_given_per_row():
    heat = torch.ones(3, 3)
    axes = plots.heatmap_grid({"a": [heat, heat], "b": [heat]}, columns={"a": ["one", "two"], "b": ["three"]}).axes
    assert [ax.get_title() for ax in axes] == ["one", "two", "three", ""]
    axes = plots.heatmap_grid({"a": [heat], "b": [heat]}, columns=["one"]).axes
    assert [ax.get_title() for ax in axes] == ["one", ""]


LINES = pd.DataFrame(
    {
        "eps": [8, 0, 4, 0, 4, 8],
        "training": ["art", "art", "art", "mine", "mine", "mine"],
        "mean": [38.0, 90.0, 60.0, 95.0, math.nan, 0.0],
        "low": [35.0, 88.0, 57.0, 94.0, math.nan, 0.0],
        "high": [41.0, 92.0, 63.0, 96.0, math.nan, 1.0],
        "paper": [37.58, 89.84, math.nan, 95.26, math.nan, math.nan],
    }
)


def test_lines_join_the_points_in_order_within_their_bands():
    ax = plots.lines_with_bands(LINES, x="eps", xlabel="eps (/255)").axes[0]
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert list(lines) == ["ART", "mine", "paper"] and ax.get_xlabel() == "eps (/255)"
    np.testing.assert_array_equal(lines["ART"].get_xydata(), [[0, 90], [4, 60], [8, 38]])
    np.testing.assert_array_equal(lines["mine"].get_xydata(), [[0, 95], [4, math.nan], [8, 0]])
    assert [lines[n].get_color() for n in ("ART", "mine")] == [plots.color("art"), plots.color("mine")]
    band = {tuple(v) for v in ax.collections[0].get_paths()[0].vertices}
    assert {(0, 88), (0, 92), (4, 57), (4, 63), (8, 35), (8, 41)} <= band
    diamonds = [line for line in ax.lines if line.get_marker() == "D" and len(line.get_xdata())]
    assert [line.get_markeredgecolor() for line in diamonds] == [plots.color("art"), plots.color("mine")]
    np.testing.assert_array_equal(diamonds[0].get_xydata(), [[0, 89.84], [4, math.nan], [8, 37.58]])
    without = plots.lines_with_bands(LINES.drop(columns="paper"), x="eps").axes[0]
    assert without.get_xlabel() == "eps" and not any(line.get_marker() == "D" for line in without.lines)


def test_lines_refuse_incomplete_or_ambiguous_tables():
    with pytest.raises(ValueError, match="lines_with_bands lacks the columns beta, low; it has"):
        plots.lines_with_bands(LINES.drop(columns="low"), x="beta")
    with pytest.raises(ValueError, match="two rows with the same training and eps"):
        plots.lines_with_bands(pd.concat([LINES, LINES]), x="eps")


def test_no_figure_stays_open():
    import matplotlib.pyplot as plt

    plots.bars_with_intervals(TABLE)
    plots.heatmap_grid({"": [torch.zeros(3, 3)]})
    assert plt.get_fignums() == []


def test_the_style_does_not_leak():
    import matplotlib

    before = dict(matplotlib.rcParams)
    plots.bars_with_intervals(TABLE)
    assert dict(matplotlib.rcParams) == before


def test_saved_twice_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)

    def save():
        files = plots.save_figure(plots.bars_with_intervals(TABLE), "bars", preset="smoke", notebook="01_table1")
        return {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in files}

    first = save()
    assert list(first) == ["smoke/01_table1/bars.png", "smoke/01_table1/bars.pdf"]
    assert first["smoke/01_table1/bars.png"].startswith(b"\x89PNG")
    assert first["smoke/01_table1/bars.pdf"].startswith(b"%PDF")
    assert save() == first
    assert sorted(p.name for p in (tmp_path / "smoke/01_table1").iterdir()) == ["bars.pdf", "bars.png"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    fig = plots.bars_with_intervals(TABLE)
    png, _ = plots.save_figure(fig, "bars", preset="smoke", notebook="n")
    old = png.read_bytes()

    def broken(file, **_):
        file.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(fig, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        plots.save_figure(fig, "bars", preset="smoke", notebook="n")
    assert png.read_bytes() == old


def test_the_numbers_lie_beside_the_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    fig, where = plots.bars_with_intervals(TABLE), dict(preset="smoke", notebook="n")
    *_, path = plots.save_figure(fig, "bars", **where, numbers=TABLE.assign(images=pd.array([1, 2, None, 4], "Int64")))
    assert path == tmp_path / "smoke" / "n" / "bars-numbers.json"
    first, last = json.loads(path.read_text())[:: len(TABLE) - 1]
    assert first == dict(metric="IN", training="natural", mean=40, low=35, high=46, paper=40.25, images=1)
    assert last["mean"] is None and last["images"] == 4
    named = TABLE.set_index("metric")[["mean"]]
    numbers = {
        "third": 1 / 3,
        "small": 1e-9 / 3,
        1: [np.float32(0.1), torch.tensor([[2.0, math.inf]]), np.arange(2), True],
        "table": named,
    }
    text = plots.save_figure(fig, "bars", **where, numbers=numbers)[-1].read_text()
    found = json.loads(text)
    assert (found["third"], found["small"]) == (0.333333, 3.33333e-10)
    assert found["1"] == [0.1, [[2.0, None]], [0, 1], True]
    assert found["table"][0] == {"metric": "IN", "mean": 40}
    noise = {k: v * (1 + 1e-14) if isinstance(v, float) else v for k, v in numbers.items()}
    assert plots.save_figure(fig, "bars", **where, numbers=noise)[-1].read_text() == text
    assert len(plots.save_figure(fig, "bars", **where)) == 2 and not path.exists()  # no numbers of another figure


def test_two_processes_that_save_one_figure_do_not_meet(tmp_path, monkeypatch):
    """The second saves the same figure whole while the first is at each of its files."""
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    fig, draw = plots.bars_with_intervals(TABLE), plots.bars_with_intervals(TABLE).savefig
    first, where = os.getpid(), dict(preset="smoke", notebook="n", numbers={"a": 1.0})

    def meanwhile(file, **options):
        draw(file, **options)
        if os.getpid() == first:
            with monkeypatch.context() as other:
                other.setattr(os, "getpid", lambda: first + 1)
                plots.save_figure(fig, "bars", **where)

    monkeypatch.setattr(fig, "savefig", meanwhile)
    written = plots.save_figure(fig, "bars", **where)
    assert sorted(p.name for p in (tmp_path / "smoke/n").iterdir()) == sorted(p.name for p in written)
    assert all(p.stat().st_size for p in written)


@pytest.mark.parametrize("name", ["../bars", "a/b", "", ".."])
def test_names_cannot_leave_the_folder(tmp_path, monkeypatch, name):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    with pytest.raises(ValueError, match="plain file name"):
        plots.save_figure(plots.heatmap_grid({"": [torch.zeros(3, 3)]}), name, preset="smoke", notebook="n")
    assert list(tmp_path.iterdir()) == []


def test_panels_hold_their_own_rows_and_share_a_legend():
    rows = [
        dict(parameter=p, metric=m, value=v, mean=10 * v, low=9 * v, high=11 * v, paper=math.nan)
        for p, values in (("beta", (1.0, 2.0)), ("steps", (3.0, 5.0, 7.0)))
        for m in ("IN", "K")
        for v in values
    ]
    fig = plots.panels_with_bands(pd.DataFrame(rows), x="value", panel="parameter", line="metric")
    first, second = fig.axes
    assert [ax.get_xlabel() for ax in fig.axes] == ["beta", "steps"] and first.get_ylabel() == "percent"
    assert [line.get_xdata().tolist() for line in second.lines] == [[3, 5, 7]] * 2
    assert first.lines[0].get_ydata().tolist() == [10, 20]
    assert [line.get_color() for line in first.lines] == list(plots.PALETTE[:2])
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["IN", "K"]
    assert first.get_ylim() != second.get_ylim()
    assert all(tick == int(tick) for tick in second.get_xticks())
    first, second = plots.panels_with_bands(
        pd.DataFrame(rows), x="value", panel="parameter", line="metric", log=["beta"], sharey=True
    ).axes
    assert first.get_ylim() == second.get_ylim() and [ax.get_xscale() for ax in (first, second)] == ["log", "linear"]
    assert [tick.get_text() for tick in first.get_xticklabels()] == ["1", "2"] and first.get_xticks().tolist() == [1, 2]
    with pytest.raises(ValueError, match="lacks the columns panel"):
        plots.panels_with_bands(pd.DataFrame(rows), x="value", panel="panel", line="metric")


def test_a_grid_of_panels_has_one_scale_and_names_its_rows_and_columns():
    rows = [
        dict(measure=m, explanation=e, attack=a, eps=eps, mean=eps * n, low=eps * n, high=eps * n)
        for m in ("IN", "LENS")
        for n, e in enumerate(("gradient", "IG", "SHAP"), 1)
        for a in ("random", "top-k")
        for eps in (1, 2)
    ]
    look = dict(x="eps", row="measure", column="explanation", line="attack", xlabel="radius")
    fig = plots.grid_with_bands(pd.DataFrame(rows), **look)
    assert len(fig.axes) == 6 and len({ax.get_ylim() for ax in fig.axes}) == 1
    assert [ax.get_title() for ax in fig.axes] == ["gradient", "IG", "SHAP", "", "", ""]
    assert [ax.get_xlabel() for ax in fig.axes] == ["", "", "", "radius", "radius", "radius"]
    assert [ax.get_ylabel() for ax in fig.axes] == ["IN\npercent", "", "", "LENS\npercent", "", ""]
    assert fig.axes[2].lines[0].get_ydata().tolist() == [3, 6]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["random", "top-k"]
    with pytest.raises(ValueError, match="grid_with_bands lacks the columns panel"):
        plots.grid_with_bands(pd.DataFrame(rows), **look | dict(row="panel"))


def test_panels_of_trainings_have_their_colours_and_the_papers_point():
    table = pd.DataFrame(
        [dict(metric=m, training=t, F=1e3, mean=5.0, low=4.0, high=6.0) for m in ("IN", "K") for t in ("pgd", "art")]
    )
    printed = pd.DataFrame([dict(metric="IN", training="art", F=1e6, mean=math.nan, paper=92.9)])
    fig = plots.panels_with_bands(pd.concat([table, printed]), x="F", panel="metric", log=True, xlabel="passes")
    assert all(ax.get_xscale() == "log" and ax.get_xlabel() == "passes" for ax in fig.axes)
    assert [ax.get_title() for ax in fig.axes] == ["IN", "K"]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["PGD", "ART", "paper"]
    (diamond,) = [line for line in fig.axes[0].lines if line.get_marker() == "D" and len(line.get_xdata())]
    assert dict(zip(diamond.get_xdata(), diamond.get_ydata(), strict=True))[1e6] == 92.9
    assert fig.axes[1].lines[1].get_color() == plots.color("art")


def test_guard_lines_show_start_and_end_by_statistics():
    points = ("start", "x~", "x~ by running statistics", "x~ of a longer attack")
    table = pd.DataFrame(
        [
            dict(training=t, epoch=e, statistics=s, point=p, raised=e + 0.1 * i, accuracy=90.0 - e)
            for t in ("art held", "art batch")
            for e in (2, 3)
            for s in ("running", "batch", "held")
            for i, p in enumerate(points)
        ]
    )
    fig = plots.guard_lines(table)
    top, bottom = fig.axes[0], fig.axes[2]
    assert [ax.get_title() for ax in fig.axes[:2]] == ["art held", "art batch"]
    assert len(top.lines) == len(bottom.lines) == 6
    assert [line.get_ydata().tolist() for line in top.lines[:2]] == [[2, 3], [2.1, 3.1]]
    assert bottom.lines[0].get_ydata().tolist() == [88, 87] and bottom.get_xlabel() == "epoch"
    assert len({line.get_color() for line in top.lines}) == 3 == len({line.get_marker() for line in top.lines})
    with pytest.raises(ValueError, match="the guard has seen nothing"):
        plots.guard_lines(table.iloc[:0])
