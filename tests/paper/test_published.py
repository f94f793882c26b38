"""A run's table beside the printed one; the shapes of the printed tables."""

import math

import pandas as pd
import pytest

from artlib import paper
from artlib.trainings import TRAININGS


def test_unknown_table_names_the_known_ones():
    with pytest.raises(ValueError, match="'table9'.*table1"):
        paper.table("table9")


def long(dataset, training, **metrics):
    return pd.DataFrame(
        [{"dataset": dataset, "training": training, "metric": m, "mean": v} for m, v in metrics.items()]
    )


def test_against_paper_joins_and_leaves_blanks():
    run = pd.concat([long("gtsrb", "art", IN=90.0, natural=80.0), long("gtsrb", "jarn", IN=50.0)])
    table = paper.against_paper(run, reference=long("gtsrb", "art", IN=91.0)).set_index(["training", "metric"])
    assert list(table.columns) == ["dataset", "paper", "reference", "run"]
    assert list(table.index.unique(0)) == ["natural", "ig-norm", "ig-sum-norm", "pgd", "art", "jarn"]
    assert list(table.loc[("art", "IN")]) == ["gtsrb", 91.96, 91.0, 90.0]
    assert table.loc[("ig-norm", "K"), "paper"] == 75.55
    assert table.loc["ig-norm", "run"].isna().all() and table.loc["ig-norm", "reference"].isna().all()
    assert math.isnan(table.loc[("jarn", "IN"), "paper"])
    assert len(table) == 5 * 4 + 1


def test_a_data_set_without_printed_rows_has_an_empty_paper_column():
    table = paper.against_paper(
        pd.concat([long("blossoms", "pgd", K=60.0, IN=50.0), long("blossoms", "natural", K=1.0)])
    )
    assert list(zip(table["training"], table["metric"], strict=True)) == [("natural", "K"), ("pgd", "IN"), ("pgd", "K")]
    assert table["paper"].isna().all()


def test_against_paper_refuses_what_it_cannot_join():
    with pytest.raises(ValueError, match="lacks the columns mean"):
        paper.against_paper(long("cifar10", "art", IN=1.0).drop(columns="mean"))
    with pytest.raises(ValueError, match="'table9'"):
        paper.against_paper(long("cifar10", "art", IN=1.0), "table9")


def test_the_long_table_and_the_wide_ones_hold_the_same_numbers():
    long_table = paper.published()
    assert list(long_table) == ["object", "dataset", "setting", "training", "approach", "metric", "value", "where"]
    assert set(long_table["object"]) == set(paper.TABLES) == {*(f"table{i}" for i in range(1, 7)), "text"}
    assert not long_table.duplicated(["object", "dataset", "setting", "training", "metric"]).any()
    assert long_table["value"].between(0, 100).all() and (long_table["where"] != "").all()
    keys = ["dataset", "training", "approach"]
    for name, rows in long_table.groupby("object"):
        wide = paper.table(name)
        settings = ["setting"] if "setting" in wide else []
        assert settings == (["setting"] if rows["setting"].any() else [])
        melted = wide.melt([*keys, *settings]).dropna()
        assert len(melted) == len(rows) and melted["value"].sum() == pytest.approx(rows["value"].sum())


def test_a_table_with_settings_is_joined_by_them():
    run = long("cifar10", "art", IN=70.0).assign(setting="gradshap")
    table = paper.against_paper(run, "table4").set_index(["setting", "training", "metric"])
    assert table.loc[("gradshap", "art", "IN"), ["paper", "run"]].tolist() == [48.31, 70.0]
    assert table.loc[("gradient", "art", "IN"), "paper"] == 76.07 and math.isnan(
        table.loc[("gradient", "art", "IN"), "run"]
    )
    with pytest.raises(ValueError, match="lacks the columns setting"):
        paper.against_paper(long("cifar10", "art", IN=70.0), "table4")


def test_trainings_of_table_1_are_called_as_here():
    """Else a row that was measured stands beside its printed one, not in it."""
    assert set(paper.table("table1")["training"]) <= set(TRAININGS)
