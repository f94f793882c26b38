"""What the notebooks print: means with intervals, blanks where nothing was measured, rounding, file names."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from test_results import RECIPE, toy

from artlib import results, tables
from artlib.attacks import Manipulated

# ------------------------------------------------------------------ table 1


def record(attribution: list[float], accuracy: list[int], failed: tuple[int, ...] = ()) -> dict:
    status = ["no label-preserving step" if i in failed else "kept" for i in range(len(attribution))]
    maps = {"IN": attribution, "K": [v / 2 for v in attribution], "status": status}
    return {"attribution": maps, "accuracy": {"natural": accuracy, "adversarial": [0] * len(accuracy)}}


RECORDS = {
    "natural": record([0.2, 0.4, 1.0, 0.3, 1.0], [1, 1, 0, 1], failed=(2, 4)),
    "art": record([0.9, 0.7, 0.8], [1, 0, 0, 1]),
    "pgd": record([1.0, 1.0], [1, 1, 1, 1], failed=(0, 1)),
}


def test_table_1_has_a_row_per_training_and_metric():
    table = tables.table1(RECORDS, dataset="toy")
    assert list(zip(table["training"], table["metric"], strict=True)) == [
        (t, m) for t in RECORDS for m in ("IN", "K", "natural", "adversarial")
    ]
    assert set(table["dataset"]) == {"toy"}
    rows = table.set_index(["training", "metric"])
    for name, r in RECORDS.items():
        for metric, part in tables.METRICS.items():
            per_image = 100 * np.array(r[part][metric], dtype=float)
            row = rows.loc[(name, metric)]
            assert row["mean"] == pytest.approx(per_image.mean())
            assert row["images"] == len(per_image)
            assert 0 <= row["low"] <= row["mean"] <= row["high"] <= 100


def test_failed_images_count_as_1_in_the_mean_and_not_in_kept():
    rows = tables.table1(RECORDS, dataset="toy").set_index(["training", "metric"])
    told = rows.loc[("natural", "IN")]
    assert told["mean"] == pytest.approx(58) and told["kept"] == pytest.approx(30) and told["failed"] == 2
    assert rows.loc[("natural", "K"), "kept"] == pytest.approx(15)
    assert rows.loc[("art", "IN"), "kept"] == pytest.approx(80) and rows.loc[("art", "IN"), "failed"] == 0
    nothing_left = rows.loc[("pgd", "IN")]
    assert nothing_left["mean"] == 100 and np.isnan(nothing_left["kept"]) and nothing_left["failed"] == 2
    accuracy = rows.xs("adversarial", level="metric")
    assert (accuracy["mean"] == 0).all() and (accuracy["low"] == 0).all() and (accuracy["high"] > 40).all()  # 0 of 4
    accuracy = rows.xs("natural", level="metric")
    assert accuracy[["kept", "failed"]].isna().all(axis=None)


def test_the_interval_is_the_percentile_bootstrap():
    """NumPy's percentiles of 2000 means of draws with replacement."""
    per_image = 100 * np.array(RECORDS["natural"]["attribution"]["IN"])
    row = tables.table1(RECORDS, dataset="toy", seed=7).iloc[0]
    drawn = torch.randint(5, (2000, 5), generator=torch.Generator().manual_seed(7)).numpy()
    low, high = np.percentile(per_image[drawn].mean(1), [2.5, 97.5])
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    theory = 1.96 * per_image.std() / 5**0.5
    assert (row["high"] - row["low"]) / 2 == pytest.approx(theory, rel=0.15)


def test_values_are_per_image_in_percent():
    assert tables.values({"art": RECORDS["art"]})["art"] == {
        "IN": pytest.approx([90, 70, 80]),
        "K": pytest.approx([45, 35, 40]),
        "natural": [100, 0, 0, 100],
        "adversarial": [0, 0, 0, 0],
    }


# ------------------------------------------------------------------ print


def printed(*values, decimals: int = 2) -> list[str]:
    return tables.tidy(pd.DataFrame({"v": list(values)}), decimals)["v"].tolist()


def test_the_last_bits_of_two_machines_print_alike():
    for value in (66.125, 0.005, 1.0, 0.0, 99.995, 12.34, -0.125):
        for digits in (2, 3):
            assert len(set(printed(value - 1e-12, value, value + 1e-12, decimals=digits))) == 1


def test_tidy_rounds_floats_and_leaves_the_rest():
    table = pd.DataFrame(
        {
            "text": ["a", None],
            "mean": [12.3456, np.nan],
            "images": [8, 9],
            "failed": [2.0, np.nan],
            "flag": [True, False],
        }
    )
    assert tables.tidy(table).values.tolist() == [["a", "12.35", "8", "2", "True"], ["", "", "9", "", "False"]]
    assert printed(1 / 3, 2.0, decimals=3) == ["0.333", "2.000"]
    assert table["mean"].tolist()[0] == 12.3456  # the table itself is as it was


def test_histories_and_summary_and_recipes(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "MODELS", tmp_path)
    recipes = {"natural": RECIPE, "art": replace(RECIPE, training="art", augment="cifar10", lr=0.01)}
    for r in recipes.values():
        results.model(r, toy(), progress=False)
    table = tables.histories(recipes, toy())
    assert list(table.index) == ["natural", "art"] and list(table) == ["loss", "attribution_loss", "accuracy"]
    last = results.training_record(recipes["art"], toy())["history"][-1]
    assert table.loc["art"].to_dict() == last and table.loc["natural", "attribution_loss"] == 0
    told = tables.summary([toy(), toy("test")])
    assert told["split"].tolist() == ["train", "test"] and told["classes"].tolist() == [2, 2]
    assert told["fingerprint"][0] == toy().fingerprint[:12] and told["note"].tolist() == ["drawn"] * 2
    fields = tables.compare_recipes(recipes)
    assert fields.loc["eps"].tolist() == ["", "8/255"] and fields.loc["step_size"].tolist() == ["", "1.5/255"]
    assert fields.loc["lr"].tolist() == [0.05, 0.01] and fields.loc["weight"].tolist() == ["", 0.5]
    assert fields.loc["attack_cosine_eps"].tolist() == ["", 0.0] and fields.loc["augment"].tolist() == ["", "cifar10"]
    assert "pgd_steps" in fields.index and set(fields.loc["pgd_steps"]) == {""}


def test_one_image():
    def says_1(x):
        return torch.tensor([[0.0, 1.0, 0.0]], dtype=x.dtype)

    before, after = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]]), torch.tensor([[[4.0, 2.0], [3.0, 1.0]]])
    x = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    found = Manipulated(x, before, after, torch.tensor([2 / 3]), torch.tensor([5]), torch.tensor([0]))
    row = tables.one_image({"art": says_1}, {"art": found}, torch.tensor([1]), k=2).loc["art"]
    assert row["confidence after"] == pytest.approx(np.e / (np.e + 2))
    assert (row["status"], row["step kept"], row["IN"], row["K"]) == ("kept", 5, 0.5, pytest.approx(2 / 3))


def test_run_names():
    def name(dataset):
        return tables.run_name("table1", dataset=dataset, protocol="paper", seed=3)

    assert name("cifar10") == "table1-cifar10-paper-seed3"
    assert re.fullmatch(r"table1-folder-flowers-[0-9a-f]{6}-paper-seed3", name("folder:some/where/flowers"))
    assert name("folder:some/where/flowers") == name("folder:some/where/flowers/") != name("folder:flowers")


# ------------------------------------------------------------------ recorded runs


def test_the_overview_holds_recorded_runs_of_the_papers_protocol_and_blanks(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "REFERENCE", tmp_path)
    assert len(tables.overview("table1")) == 16 and "reference" not in tables.overview("table1")
    for protocol, better in (("paper", 0.0), ("authors", 30.0)):
        table = tables.table1(RECORDS, dataset="svhn").assign(mean=lambda t, b=better: t["mean"] + b)
        table.to_csv(tmp_path / f"table1-svhn-{protocol}-seed0.csv", index=False)
    table.to_csv(tmp_path / "table1-svhn-paper-seed0-claims.csv", index=False)
    told = tables.overview("table1")
    assert told.loc[("svhn", "natural"), ("reference", "IN")] == pytest.approx(58)
    assert told.loc[("svhn", "natural"), ("paper", "IN")] == 60.43
    assert told.loc[("svhn", "natural"), ("reference", "recorded with")] == "none recorded"
    assert told["reference"].loc["cifar10"].isna().all(axis=None)
    about = {"preset": "gpu", "data": [{"name": "svhn", "note": ""}], "machine": {"commit": "0123456789" * 4}}
    (tmp_path / "table1-svhn-paper-seed0.json").write_text(json.dumps(about))
    told = tables.overview("table1")["reference"]
    assert told.loc[("svhn", "art"), "recorded with"] == "gpu preset, svhn, commit 0123456"
    assert told["recorded with"].notna().sum() == len(told.loc["svhn"]) == len(RECORDS)
