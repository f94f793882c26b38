"""Box plots and matrices hold the numbers they were given; tables of values agree with NumPy."""

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb

from artlib import plots, tables
from artlib.trainings import Art


def test_boxes_have_quartiles_means_points_and_colours():
    values = {"IN": {"natural": [0.0, 10, 20, 30, math.nan], "art": [90.0, 95, 100]}, "K": {"art": [1.0, 2]}}
    fig = plots.boxes(values, printed={"IN": {"art": 92.9}}, title="both")
    assert [ax.get_title() for ax in fig.axes] == ["IN", "K"] and fig.axes[0].get_ylabel() == "percent"
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == [plots.label("natural"), plots.label("art")]
    lines = fig.axes[0].get_lines()
    dots = {to_hex(line.get_color()): line.get_ydata() for line in lines if line.get_marker() == "."}
    assert {c: list(v) for c, v in dots.items()} == {
        plots.color("natural").lower(): [0, 10, 20, 30],
        plots.color("art").lower(): [90, 95, 100],
    }
    means = [line.get_ydata()[0] for line in lines if line.get_marker() == "x" and len(line.get_ydata())]
    assert means == [15, 95]
    diamonds = [line.get_xydata()[0] for line in lines if line.get_marker() == "D" and len(line.get_ydata())]
    assert [tuple(d) for d in diamonds if not math.isnan(d[1])] == [(1, 92.9)]  # the paper's, on ART
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["mean", "paper's mean"]
    alone = plots.boxes(values).legends[0]
    assert [text.get_text() for text in alone.get_texts()] == ["mean"]
    low, high = (np.percentile([0, 10, 20, 30], q) for q in (25, 75))
    assert any({low, high} == set(line.get_ydata()) for line in lines if line.get_marker() not in (".", "x", "D"))
    with pytest.raises(ValueError, match="at least one metric with one training"):
        plots.boxes({"IN": {}})


def test_a_matrix_shows_its_numbers():
    table = pd.DataFrame([[0.0, 80.35], [math.nan, 44.07]], index=["a", "b"], columns=["x", "y"])
    fig = plots.matrix(table, xlabel="made on", ylabel="judged by", title="t")
    ax = fig.axes[0]
    assert [t.get_text() for t in ax.texts] == ["0.0", "80.3", "44.1"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["x", "y"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    np.testing.assert_array_equal(ax.images[0].get_array().filled(np.nan), table.to_numpy())
    assert ax.images[0].get_clim() == (0, 100)
    *two, _ = plots.matrix({"ours": table, "theirs": table.iloc[:1]}, title="t").axes  # the last is the scale
    assert [ax.get_title() for ax in two] == ["ours", "theirs"]
    assert [[t.get_text() for t in ax.texts] for ax in two] == [["0.0", "80.3", "44.1"], ["0.0", "80.3"]]


def test_tables_of_values():
    values = {"natural": {"from_art": [100.0, 0, 0, math.nan], "x": [math.nan]}, "art": {"from_art": [1.0, 2, 6]}}
    found = tables.of_values(values, dataset="toy").set_index(["training", "metric"])
    assert found.loc[("natural", "from_art"), ["mean", "images"]].tolist() == [pytest.approx(100 / 3), 3]
    assert found.loc[("art", "from_art"), "mean"] == 3 and math.isnan(found.loc[("natural", "x"), "mean"])
    assert (found["low"] <= found["mean"]).iloc[[0, 2]].all() and (found["mean"] <= found["high"]).iloc[[0, 2]].all()
    assert set(found["dataset"]) == {"toy"} and found.loc[("art", "from_art"), "title"] == "ART"


def test_of_many_points_some_are_drawn_and_all_make_the_box():
    values = list(range(2000))
    ax = plots.boxes({"IN": {"natural": values, "art": values[:500]}}).axes[0]
    told = f"{plots.label('natural')}\n500 of\n{len(values)}\npoints\ndrawn"
    assert [t.get_text() for t in ax.get_xticklabels()] == [told, plots.label("art")]
    dots = next(line for line in ax.lines if line.get_marker() == ".")
    assert len(dots.get_ydata()) == 500 and set(dots.get_ydata()) <= set(values)
    median = [line for line in ax.lines if set(line.get_ydata()) == {999.5}]
    assert median


def test_a_diagram_has_its_boxes_texts_and_arrows():
    boxes = {"a": plots.Box(0, 0, "first"), "b": plots.Box(1, 0, "second", "#56B4E9"), "c": plots.Box(1, 1, "third")}
    arrows = [("a", "b", "-", "there"), ("b", "a", "--", ""), ("b", "c", "-", "")]
    ax = plots.diagram(boxes, arrows, title="t").axes[0]
    assert {t.get_text() for t in ax.texts} == {"first", "second", "third", "there"} and ax.get_title() == "t"
    assert [p.get_linestyle() for p in ax.patches[3:]] == ["-", "--", "-"]
    assert to_hex(ax.patches[1].get_facecolor()) == "#56b4e9"
    assert not plots.diagram(boxes, arrows).legends
    (key,) = plots.diagram(boxes, arrows, key={"blue": "#56B4E9", "a gradient": "--"}).legends
    assert [t.get_text() for t in key.get_texts()] == ["blue", "a gradient"]
    assert to_hex(key.get_patches()[0].get_facecolor()) == "#56b4e9" and key.get_lines()[0].get_linestyle() == "--"
    with pytest.raises(KeyError):
        plots.diagram(boxes, [("a", "d", "-", "")])


def test_the_diagram_of_an_update_follows_the_settings():
    paper, text, authors = (plots.art_update(Art.of("cifar10", protocol=p)) for p in ("paper", "text", "authors"))
    assert paper != text != authors != paper
    assert {"negative"} == set(paper[0]) - set(authors[0]) and {"values"} == set(authors[0]) - set(paper[0])
    for boxes, arrows in (paper, text, authors):
        assert {name for arrow in arrows for name in arrow[:2]} == set(boxes)  # none stands alone
        places = [(box.right, box.down) for box in boxes.values()]
        assert len(set(places)) == len(places)
        kinds = {b.color for b in boxes.values()} - {"white"} | {a[2] for a in arrows}
        assert kinds == set(plots.UPDATE_KEY.values())  # the key has what is drawn, and no more
    for change in (
        dict(eps=0.1),
        dict(steps=5),
        dict(step_size=0.1),
        dict(statistics="batch"),
        dict(weight=2.0),
        dict(beta=7.0),
        dict(attack_topk=9),
        dict(mining=True),
        dict(anchor="normalized"),
        dict(channels="mean"),
        dict(negative="surrogate"),
        dict(threshold=20.0),
    ):
        assert plots.art_update(Art.of("cifar10", **change)) != paper, change


def test_the_fills_of_the_diagram_are_apart_in_grey():
    fills = [fill for fill in plots.UPDATE_KEY.values() if fill.startswith("#")]
    greys = [1.0, *(np.dot(to_rgb(fill), [0.299, 0.587, 0.114]) for fill in fills)]
    assert len(fills) == 2 and min(-np.diff(greys)) > 0.08 and min(greys) > 0.5  # and black text is read on them


def test_the_diagram_takes_the_most_likely_wrong_class_from_the_clean_image():
    boxes, arrows = plots.art_update(Art.of("cifar10"))
    assert {("x", "negative"), ("negative", "g")} <= {arrow[:2] for arrow in arrows} and "f(x)" in boxes[
        "negative"
    ].text
