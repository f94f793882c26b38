"""The league: what is read, paired, tested, resolved and sorted."""

import re
import shutil
import subprocess

import pandas as pd
import pytest
import scipy.stats
import torch

from artlib import league, metrics, presets, results, scoreboard, tables
from artlib.attacks import KEPT
from artlib.trainings import Art


def record(values, *, index=None, correct=None):
    """IN per image, 0 to 1 or None, and accuracy."""
    index = list(range(len(values))) if index is None else index
    blank = {c: values for c in tables.metric_columns() if c.startswith(("recall", "precision", "diverse"))}
    attack = {"index": index, "IN": values, "K": values, **blank, "status": [KEPT] * len(index)}
    found = {"attribution_robustness": {"values": attack}}
    if correct is not None:
        found["accuracy"] = {"values": {"index": list(range(len(correct))), "natural": correct, "adversarial": correct}}
    return found


def drawn(n, shift, seed):
    noise = torch.Generator().manual_seed(seed)
    return (0.5 + shift + 0.1 * torch.randn(n, generator=noise, dtype=torch.float64)).clamp(0, 1).tolist()


A, B, C = drawn(80, 0.1, 1), drawn(80, 0.0, 2), drawn(80, 0.0, 3)
GROUP = {"sets": {"a": {0: record(A)}, "b": {0: record(B)}, "c": {0: record(C)}}}


def test_a_pair_is_tested_and_resolved_as_by_hand():
    found = league.pairs(GROUP, columns=["IN"], samples=4000).set_index(["a", "b"])
    d = 100 * (torch.tensor(A) - torch.tensor(B))
    row = found.loc[("a", "b")]
    assert row["difference"] == pytest.approx(d.mean().item()) and row["images"] == 80
    assert row["resolves"] == pytest.approx(2.8 * d.std().item() / 80**0.5)
    assert row["low"] < row["difference"] < row["high"] and row["p"] < 0.001
    same = found.loc[("b", "c")]
    expected = scipy.stats.ttest_rel(B, C).pvalue  # flipping signs is the t-test's exact counterpart
    assert same["p"] == pytest.approx(expected, abs=0.03) and same["p"] > 0.05
    ordered = found.sort_values("p")
    assert ordered["p_holm"].tolist()[0] == pytest.approx(3 * ordered["p"].iloc[0])
    assert ordered["p_holm"].is_monotonic_increasing and (found["p_holm"] >= found["p"]).all()


def test_what_resolves_is_found_in_four_of_five_samples():
    """Its meaning: a shift of that size, with that scatter, is significant at 5 % in 80 % of all samples."""
    noise, n, found = torch.Generator().manual_seed(0), 60, 0
    for _ in range(400):
        d = 10 * torch.randn(n, generator=noise, dtype=torch.float64) + 2.8 * 10 / n**0.5
        found += scipy.stats.ttest_1samp(d.numpy(), 0).pvalue < 0.05
    assert found / 400 == pytest.approx(0.8, abs=0.05)


def test_pairs_are_of_the_images_and_seeds_that_both_have():
    a = {0: record([0.1, 0.2, 0.9, None], index=[5, 3, 1, 0]), 1: record([0.3, 0.4, 0.9, 0.1], index=[5, 3, 1, 0])}
    b = {0: record([0.8, 0.1, 0.3, 0.6], index=[3, 5, 2, 0])}
    (row,) = league.pairs({"g": {"a": a, "b": b}}, columns=["IN"]).to_dict("records")
    assert row["images"] == 2
    assert row["difference"] == pytest.approx(100 * ((0.2 + 0.3) / 2 - (0.1 + 0.8) / 2))


def test_rows_of_one_group_may_have_different_seeds():
    groups = {"g": {"a": {0: record(A), 1: record(B)}, "b": {0: record(C)}}}
    found = league.table(groups, columns=["IN"]).set_index("title")
    assert found["seeds"].to_dict() == {"a": 2, "b": 1}
    assert found.loc["a", "mean"] == pytest.approx(50 * (sum(A) + sum(B)) / 80)


def test_the_summary_counts_what_is_told_apart():
    found = league.resolved(league.pairs(GROUP, columns=["IN", "K"]))
    assert found["pairs"].tolist() == [3, 3] and found["told_apart"].tolist() == [2, 2]
    assert (found["smallest"] <= found["largest"]).all() and found["images"].tolist() == [80, 80]


def test_the_board_has_a_row_a_training_and_is_blank_where_nothing_was_measured():
    groups = {"one": {"a": {0: record(A, correct=[1, 0, 1, 1])}}, "two": {"b": {0: record(B)}}}
    found = league.table(groups, columns=["IN", "natural"])
    shown = league.board(found)
    assert found.set_index(["group", "metric"])["mean"].to_dict() == pytest.approx(
        {("one", "IN"): 100 * sum(A) / 80, ("one", "natural"): 75.0, ("two", "IN"): 100 * sum(B) / 80}
    )
    assert len(re.findall("<tr>", shown.markup)) == 3 and 'data-v=""' in shown.markup
    assert "75.0" in shown.text and "onclick" in shown.markup


def test_every_measure_is_on_a_board_and_some_are_folded_away():
    lens = {f"{kind}_{w}" for kind in ("recall", "precision", "diverse_recall", "diverse_precision") for w in (1, 2, 3)}
    assert set(league.SHOWN) < set(league.COLUMNS) == lens | {"IN", "K", "natural", "adversarial"}
    found = league.table({"one": {"a": {0: record(A, correct=[1, 0, 1, 1])}}})
    first, rest = league.boards(found).markup.split("<details>")
    headings = {c: f">{tables.heading(c)}</th>" for c in league.COLUMNS}
    assert all((headings[c] in first) == (c in league.SHOWN) for c in league.COLUMNS)
    assert all((headings[c] in rest) == (c not in league.SHOWN) for c in league.COLUMNS)


def test_groups_stand_by_data_set_network_images_and_epochs():
    names = ["CIFAR-10, wrn-10-1, 5,000 images, 16 epochs", "CIFAR-10, wrn-10-1, 50,000 images, 3 epochs"]
    names += ["MNIST, rar-cnn, 10,000 images, 6 epochs", "CIFAR-10, wrn-10-1, 10,000 images, 6 epochs"]
    names += ["CIFAR-10, wrn-10-1, 5,000 images, 1 epoch", "CIFAR-10, wrn-10-1, 5,000 images, 4 epochs"]
    found = sorted(names, key=league._by_number)
    assert found == [names[i] for i in (4, 5, 0, 3, 1, 2)]
    recorded = list(league.recorded())
    assert recorded == sorted(recorded, key=league._by_number)


def test_a_click_sorts_by_numbers_and_puts_blanks_last(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    cells = [[["x", ""], ["b", "9.5"]], [["y", ""], ["a", ""]], [["z", ""], ["c", "10.0"]]]
    script = f"""
const rows = {[[c[1][1] for c in [r]] for r in cells]}.map(v => ({{cells: [{{dataset: {{v: v[0]}}}}], v: v[0]}}));
const body = {{rows, order: [], append(r) {{ this.order.push(r.v); }}}};
const head = {{closest: () => ({{tBodies: [body]}}), cellIndex: 0, dataset: {{}}}};
const click = function() {{ {league._SORT} }};
click.call(head); console.log(JSON.stringify(body.order));
body.order = []; click.call(head); console.log(JSON.stringify(body.order));
"""
    (tmp_path / "sort.js").write_text(script)
    out = subprocess.run([node, tmp_path / "sort.js"], capture_output=True, text=True, check=True).stdout.split()
    assert out == ['["10.0","9.5",""]', '["9.5","10.0",""]']


def test_text_in_a_table_is_escaped():
    text = pd.DataFrame({"<m>": ["<b>"]}, index=pd.Index(['"x"'], name="row"))
    markup = league.sortable(text, text.map(lambda _: float("nan"))).markup
    assert "<b>" not in markup and "&lt;b&gt;" in markup and "&lt;m&gt;" in markup and "&quot;x&quot;" in markup


def test_the_recorded_measurements_are_read_with_their_trainings():
    groups = league.recorded()
    run = scoreboard.runs("table1", dataset="cifar10", protocol="paper")[0]
    table = scoreboard.results.reference(run).set_index(["title", "metric"])["mean"]
    group = next(g for name, g in groups.items() if "50,000 images" in name and "ART" in g)
    found = league.table({"g": group}).set_index(["title", "metric"])["mean"]
    for title in ("Natural", "ART"):
        for metric in ("IN", "K", "natural", "adversarial"):
            assert found[title, metric] == pytest.approx(table[title, metric], abs=1e-4)
    assert any("networks of others" in name for name in groups)
    stored = {p.name.split(".")[0] for p in results.RECORDED.glob("*.attribution_robustness.*.json")}
    assert sum(len(seeds) for rows in groups.values() for seeds in rows.values()) == len(stored)
    assert {"ART", "ART, step 5/255", "ART, authors", "PGD-10, running"} <= set().union(*groups.values())
    assert not any("None" in name or "None" in row for name, g in groups.items() for row in g)


def test_an_attack_of_no_steps_is_no_robust_accuracy():
    """On CUB accuracy was measured without one, for Table 2."""
    table = league.table(league.recorded())
    birds = table[table["group"].str.startswith("CUB")]
    assert "natural" in set(birds["metric"]) and not birds.query("metric == 'adversarial'")["mean"].notna().any()


def test_two_runs_of_one_title_end_in_an_error(monkeypatch):
    monkeypatch.setattr(league, "heading", lambda recipe: "ART")
    with pytest.raises(ValueError, match="two recorded runs are both called 'ART' in 'CIFAR-10"):
        league.recorded()


@pytest.mark.parametrize(
    ("training", "changes", "title"),
    [
        (Art.of("cifar10"), {}, "ART"),
        (Art.of("cifar10", step_size=5 / 255, statistics="batch"), {}, "ART, step 5/255, batch"),
        (Art.of("cifar10", weight=2.0, mining=True), dict(dropout=0.1), "ART, lambda 2.0, mining, dropout 0.1"),
        ("natural", dict(lr=0.3), "Natural, lr 0.3"),
        ("art", dict(protocol="authors"), "ART, authors"),
    ],
)
def test_a_title_names_what_is_not_usual(training, changes, title):
    recipe = presets.recipe("cpu", training, dataset="cifar10", **changes)
    assert league.heading(recipe.plain()) == title.replace("2.0", "2")


def test_many_pairs_are_told_apart_where_the_difference_is_large():
    """17 rows are 136 pairs: a count of 2,000 flips alone could tell no pair apart after Holm's correction."""
    rows = {f"row {i}": {0: record(drawn(80, 0.02 * i, i))} for i in range(17)}
    found = league.pairs({"g": rows}, columns=["IN"], samples=500).set_index(["a", "b"])
    assert len(found) == 136 and found.loc[("row 0", "row 16"), "p_holm"] < 1e-6
    assert found["p_holm"].gt(0.05).any()


def test_what_a_random_sign_explains_is_read_where_it_was_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(league, "REFERENCE", tmp_path)
    assert league.explained() is None
    monkeypatch.setattr(league.results, "REFERENCE", tmp_path)
    pd.DataFrame({"measure": ["IN"], "explained": [90.0]}).to_csv(
        tmp_path / "lens-x-paper-seed0-claim.csv", index=False
    )
    assert league.explained().to_dict("records") == [{"measure": "IN", "explained": 90.0, "run": "lens-x-paper-seed0"}]


def test_what_a_random_sign_explains_is_a_row_a_run_and_training():
    found = league.explained()
    table = league.explained_by_run(found)
    assert len(table) == len(found.query("measure == 'IN'")) and table.index.is_unique
    assert list(table.columns) == [tables.heading(c) for c in league.EXPLAINED]
    run, of = "ImageNet (samples, not a split), SqueezeNet 1.1, 224 pixels", "simple gradient, ε 1/255"
    own = found[found["run"] == "lens-imagenet-imagenet_samples-paper-seed0"]
    own = own[(own["explanation"] == "simple gradient") & (own["ε in 1/255"] == 1)].set_index("measure")
    for measure in ("IN", "recall_3"):
        row, cell = own.loc[measure], table.loc[(run, of), tables.heading(measure)]
        assert cell.startswith(f"{row['explained']:.1f} ({row['low explained']:.1f} to ") and cell.endswith(") ✓")
    assert table.loc[(run, of), "K"] == ""
    assert "Fashion-MNIST, rar-cnn, 2,500 images" in table.index.get_level_values("run")


def test_trainings_are_found_by_title_and_seed():
    rows = {"Natural": {0: record(A)}, "PGD-10": {0: record(B), 1: record(C)}, "PGD-7, running": {0: record(C)}}
    groups = {"g": rows, "without": {"Natural": {0: record(A)}}, "blank": rows | {"PGD-10": {0: record([None] * 80)}}}
    groups["other seed"] = {"Natural": {0: record(A)}, "PGD-10": {1: record(B)}}
    found = league.sides(groups, "IN", trainings=["natural", "pgd"])
    assert list(found) == ["g"] and found["g"]["natural"] == [pytest.approx([100 * v for v in A])]
    assert found["g"]["pgd"] == [pytest.approx([100 * v for v in B])]
    two = {"g": {"Natural": {0: record(A), 1: record(C)}, "PGD-10": {0: record(B), 1: record(A)}}}
    assert [len(each) for each in league.sides(two, "IN", trainings=["natural", "pgd"])["g"].values()] == [2, 2]


def test_what_lens_forgives_by_chance_is_what_random_maps_show():
    told = {"measurement": {"k": 60}, "test": {"size": 40}}
    groups = {"g": {"Natural": {0: {"attribution_robustness": told}}}}
    noise = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 200, 40, 40, generator=noise, dtype=torch.float64)
    for w in (0, 1, 2):
        shown = metrics.lens_recall(a, b, k=60, w=w).mean().item()
        assert league.forgiven(groups, w=w)["g"] == pytest.approx(shown, abs=0.03)
