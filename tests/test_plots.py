"""Figures hold what they were given: colours, values, markers and files are read back from Matplotlib."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from artlib import paths, plots

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


def test_every_training_has_its_own_colour():
    assert len(set(plots.COLORS.values())) == len(plots.COLORS)
    assert set(plots.LABELS) <= set(plots.COLORS)


def test_colours_differ_in_more_than_hue():
    """The trainings that every figure compares stay apart in grey: their relative luminance (WCAG 2.1) differs."""

    def luminance(color):
        rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    for a, b in itertools.combinations(("natural", "pgd", "art"), 2):
        assert abs(luminance(plots.COLORS[a]) - luminance(plots.COLORS[b])) > 0.1


def test_bars_show_means_intervals_and_paper_values():
    from matplotlib.colors import to_rgba

    fig = plots.bars_with_intervals(TABLE)
    ax = fig.axes[0]
    drawn = bars(fig)
    assert set(drawn) == {"Natural", "ART", "paper"}
    assert [bar.get_height() for bar in drawn["Natural"]] == [40, 50]
    assert drawn["ART"][0].get_facecolor() == to_rgba(plots.COLORS["art"])
    segments = drawn["Natural"].errorbar.lines[2][0].get_segments()
    assert [segment[:, 1].tolist() for segment in segments] == [[35, 46], [47, 52]]
    markers = [line.get_ydata() for line in ax.lines if line.get_marker() == "D"]
    np.testing.assert_array_equal(markers, [[40.25, 92.90, math.nan, 91.76]])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["IN", "K"]


def test_bars_do_not_overlap():
    drawn = bars(plots.bars_with_intervals(TABLE))
    spans = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for k in ("Natural", "ART") for bar in drawn[k])
    assert all(right <= left for (_, right), (left, _) in itertools.pairwise(spans))


def test_unknown_training_is_drawn_grey_under_its_own_name():
    fig = plots.bars_with_intervals(TABLE.assign(training=["x", "y", "x", "y"]).drop(columns="paper"))
    assert list(bars(fig)) == ["x", "y"]


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


@pytest.mark.parametrize("name", ["../bars", "a/b", "", ".."])
def test_names_cannot_leave_the_folder(tmp_path, monkeypatch, name):
    monkeypatch.setattr(paths, "FIGURES", tmp_path)
    with pytest.raises(ValueError, match="plain file name"):
        plots.save_figure(plots.heatmap_grid({"": [torch.zeros(3, 3)]}), name, preset="smoke", notebook="n")
    assert list(tmp_path.iterdir()) == []
