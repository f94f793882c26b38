"""The scoreboard: cells and marks worked out by hand, blanks, the recorded runs, and README's copy of them."""

import re

import pandas as pd
import pytest

from artlib import paper, results, scoreboard
from artlib.paths import ROOT
from workflow import readme


def measured(values: dict[tuple[str, str], float]) -> pd.DataFrame:
    rows = [
        dict(dataset="cifar10", training=t, metric=m, mean=v, low=v - 1, high=v + 1) for (t, m), v in values.items()
    ]
    return pd.DataFrame(rows)


def verdicts(marks: dict[str, str]) -> pd.DataFrame:
    return pd.DataFrame({"mark": marks})


def test_a_cell_is_printed_measured_and_the_worst_mark_of_its_orderings():
    marks = {
        "table1/cifar10/IN/pgd>natural": "✓",
        "table1/cifar10/IN/art>natural": "?",
        "table1/cifar10/IN/art>pgd": "✗",
    }
    found = scoreboard.board(measured({("natural", "IN"): 7.34, ("pgd", "IN"): 61.1}), verdicts(marks))
    assert found["IN"].to_dict() == {
        "Natural": "40.25 | 7.3 (6.3–8.3) ?",
        "PGD-10": "69.00 | 61.1 (60.1–62.1) ✗",
        "ART": "92.90 | ",  # printed, not measured: no mark
    }


def test_a_row_that_the_paper_does_not_have_stands_below_with_its_own_title():
    table = measured({("natural", "IN"): 1.0, ("trades", "IN"): 2.0})
    found = scoreboard.board(table.assign(title=["Natural", "TRADES-6"]), verdicts({}))
    assert list(found.index) == ["Natural", "PGD-10", "ART", "TRADES-6"]
    assert found["IN"]["TRADES-6"] == "2.0 (1.0–3.0)"


def test_a_data_set_that_was_not_measured_has_its_printed_rows_and_nothing_else():
    found = scoreboard.everything("table1")
    (svhn,) = [name for name in found.index.unique(0) if name.startswith("SVHN")]
    assert svhn == "SVHN, not measured" and found.loc[svhn]["IN"].tolist() == ["60.43 | ", "39.67 | ", "61.37 | "]
    assert not [name for name in scoreboard.everything("table1", blank=False).index.unique(0) if "not measured" in name]


@pytest.mark.parametrize("run", scoreboard.runs("table1"))
def test_the_recorded_runs_can_be_shown_and_their_claims_are_the_papers(run):
    dataset = scoreboard.about(run)["dataset"]
    claims = scoreboard.recorded_claims(run)
    assert list(claims.index) == [c.id for c in paper.claims(dataset)]
    assert scoreboard.recorded(run).notna().all(axis=None) and len(scoreboard.about(run)["commit"]) == 7
    shown = scoreboard.claims(claims)
    again = scoreboard.claims(claims)
    assert (repr(shown), shown._repr_html_()) == (repr(again), again._repr_html_()) and " at 0x" not in repr(shown)


def test_tables_of_claims_on_one_page_keep_their_own_colours():
    tables = [scoreboard.claims(scoreboard.recorded_claims(run)) for run in scoreboard.runs("table1")[:2]]
    first, second = (set(re.findall(r'id="(\w+)"', table._repr_html_())) for table in tables)
    assert first and second and not first & second


def test_the_one_claim_of_table_6_along_a_row_names_where_the_images_were_made():
    told = repr(scoreboard.claims(scoreboard.recorded_claims("table6-cifar10-paper-seed0")))
    (row,) = [line for line in told.splitlines() if "made on PGD > made on ART" in line]
    assert row.startswith("accuracy of Natural") and "from_" not in told


def test_readme_has_every_recorded_set_of_real_images():
    found = readme.short(scoreboard.everything("table1", blank=False)).index.str.split(": ").str[0]
    runs = [scoreboard.about(run) for run in scoreboard.runs("table1")]
    real = {scoreboard.NAMES[r["dataset"]] for r in runs if r["protocol"] == "paper" and r["dataset"] != "blossoms"}
    assert {name.split(" (")[0] for name in found} == real
    assert not {name for name in found if name.startswith(("MNIST (", "Fashion-MNIST ("))}  # the paper prints none


def test_a_recorded_run_with_other_settings_says_them():
    run = "table1-rar-resnet-2-of-2500-3-epochs-gtsrb-paper-seed0"
    assert scoreboard._part("table1", run, "gtsrb") == "rar-resnet-2, 2,500 training images, 3 epochs"
    assert scoreboard._part("table1", "table1-of-500-gtsrb-paper-seed0", "gtsrb") == "500 training images"
    assert scoreboard._part("table1", "table1-gtsrb-paper-seed0", "gtsrb") == ""


def test_readme_shows_the_recorded_runs_as_they_are():
    for name, write in (("README.md", readme.written), ("figures/reference/README.md", readme.whole)):
        text = (ROOT / name).read_text()
        assert readme.MARKS.search(text) and write(text) == text, "run: make readme"


def test_a_mean_without_an_interval_stands_alone():
    row = {"dataset": "toy", "training": "art", "metric": "IN", "mean": 40.0, "low": float("nan"), "high": float("nan")}
    assert scoreboard.measured(pd.DataFrame([row])).loc["art"].tolist() == ["40.0"]


def test_a_figure_that_is_recorded_is_shown_with_its_numbers_and_pictures():
    found = scoreboard.shown("figure6")
    assert (
        "CIFAR-10 (JPEG copy), 32 pixels, cpu preset" in repr(found)
        and found._repr_html_().count("data:image/png;base64,") == 1
    )
    assert repr(scoreboard.shown("figure99")) == "none recorded yet" == repr(scoreboard.pictures("figure99"))
    assert repr(scoreboard.pictures("figure6")) == "figure6-cifar10-paper-seed0+1"
    wide = repr(scoreboard.shown("figure14")).splitlines()  # twelve columns: turned, a line each
    assert wide[1].split() == ["Natural", "PGD", "ART"] and wide[2].startswith("clean")


def test_printed_values_and_verdicts_of_a_run_stand_with_its_numbers():
    lines = repr(scoreboard.shown("table4", printed=paper.table("table4"))).splitlines()
    (natural,) = [line for line in lines if line.startswith("gradient ") and " Natural " in line]
    assert "13.72 | " in natural and " 9.50 | " in natural  # Table 4, gradient
    (ours,) = [line for line in lines if line.startswith("input_x_gradient ")]
    assert " | " not in ours  # which the paper does not have
    told = [line for line in lines if line.startswith("verdicts")]
    assert told == ["verdicts, setting gradient", "verdicts, setting gradshap"]
    markup = scoreboard.shown("table4").markup
    assert markup.index("verdicts, setting") < markup.index("<img") and "13.72" not in markup


def test_recorded_verdicts_are_parted_by_the_column_that_repeats_them(tmp_path, monkeypatch):
    for module in (scoreboard, results):
        monkeypatch.setattr(module, "REFERENCE", tmp_path)
    row = dict(claim="text/cifar10/targeted/K/art>pgd", low=1.0, high=3.0, mark="✓", verdict="reproduced", why=None)
    found = pd.DataFrame([row | dict(ball=ball, difference=d) for ball, d in (("pixels", 2.0), ("l2", 2.5))])
    found.to_csv(tmp_path / "run-claims.csv", index=False)
    parts = dict(scoreboard._verdicts("run"))
    assert list(parts) == ["verdicts, ball pixels", "verdicts, ball l2"]
    assert ["+2.0 (" in repr(part) for part in parts.values()] == [True, False]
    assert scoreboard._verdicts("none") == []


def test_a_table_that_repeats_its_rows_is_shown_in_parts_and_one_without_intervals_without():
    rows = {
        "training": ["art"] * 2,
        "metric": ["IN"] * 2,
        "mean": [50.0, 40.0],
        "low": [45.0, 35.0],
        "high": [55.0, 45.0],
    }
    found = scoreboard.measured(pd.DataFrame(rows | {"eps": [2, 8]}), {"art": "ART"})
    assert found["IN"].to_dict() == {(2, "ART"): "50.0 (45.0–55.0)", (8, "ART"): "40.0 (35.0–45.0)"}
    printed = pd.DataFrame({"training": ["art"], "approach": ["ART"], "IN": [92.9], "eps": [8]})
    found = scoreboard.beside(pd.DataFrame(rows | {"eps": [2, 8]}), printed)
    assert found["IN"].to_dict() == {(2, "art"): "50.0 (45.0–55.0)", (8, "ART"): "92.90 | 40.0 (35.0–45.0)"}
    found = scoreboard.beside(pd.DataFrame(rows | {"ball": ["l2", "box"]}), printed.drop(columns="eps"))
    assert all(cell.startswith("92.90 | ") for cell in found["IN"])  # the paper does not name the ball: beside each
    bare = scoreboard.measured(pd.DataFrame({"training": ["art"], "metric": ["IN"], "mean": [50.0]}))
    assert bare["IN"].tolist() == ["50.0"]


def test_what_lies_beside_a_run_is_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr(scoreboard, "REFERENCE", tmp_path)
    for end in ("", "-claims", "-tests", "-methods"):
        for kind in ("csv", "json"):
            (tmp_path / f"table2-cub200-paper-seed0+1{end}.{kind}").write_text("{}")
    assert scoreboard.runs("table2") == ["table2-cub200-paper-seed0+1"]


def test_a_table_in_markdown():
    table = pd.DataFrame({"a": ["1 | 2"], "b": [3]}, index=["row"])
    assert scoreboard.markdown(table) == "|  | a | b |\n|---|---|---|\n| row | 1 / 2 | 3 |"


def test_what_no_paper_prints_is_shown_with_its_interval():
    rows = [dict(training=t, metric=m, mean=61.1, low=59.3, high=62.94) for t in ("a", "b") for m in ("IN", "K")][:3]
    found = scoreboard.measured(pd.DataFrame(rows), {"b": "B"})
    assert list(found.index) == ["a", "B"] and found.iloc[0, 0] == "61.1 (59.3–62.9)" and found.iloc[1, 1] == ""


def test_printed_values_stand_before_measured_ones_and_neither_is_made_up():
    printed = pd.DataFrame(
        [dict(training="a", approach="A", IN=69.0, K=float("nan")), dict(training="b", approach="B", IN=1.0, K=2.0)]
    )
    table = pd.DataFrame([dict(training=t, metric="IN", mean=61.1, low=59.3, high=62.94) for t in ("a", "c")])
    found = scoreboard.beside(table, printed, {"b": "other"})
    assert found["IN"].to_dict() == {"A": "69.00 | 61.1 (59.3–62.9)", "other": "1.00 | ", "c": "61.1 (59.3–62.9)"}
    assert found["K"].tolist() == ["", "2.00 | ", ""]
    assert scoreboard.beside(None, printed)["IN"].tolist() == ["69.00 | ", "1.00 | "]
    assert list(scoreboard.beside(table, printed.assign(K=float("nan")))) == ["IN"]  # a column of blanks is none
