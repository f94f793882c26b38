"""What the notebooks print: means with intervals, blanks where nothing was measured, rounding, file names."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch
from test_results import RECIPE, toy

from artlib import metrics, paper, presets, results, tables
from artlib.attacks import KEPT, NO_GRADIENT, NO_STEP, Manipulated
from artlib.measurements import MEASUREMENTS, Accuracy, AttributionRobustness, Measurement, Metric
from artlib.trainings import Art

# ------------------------------------------------------------------ table 1

METRICS = ("IN", "K", "natural", "adversarial")
MEASURED_BY = dict.fromkeys(METRICS[:2], "attribution_robustness") | dict.fromkeys(METRICS[2:], "accuracy")


def record(attribution: list, accuracy: list, failed: tuple[int, ...] = ()) -> dict:
    """What `results.measured` returns of one model: None is an image without a value, `failed` are without a step."""
    status = [NO_GRADIENT if v is None else NO_STEP if i in failed else KEPT for i, v in enumerate(attribution)]
    maps = {"IN": attribution, "K": [None if v is None else v / 2 for v in attribution], "status": status}
    held = {"natural": accuracy, "adversarial": [0] * len(accuracy)}
    each = {"attribution_robustness": maps, "accuracy": held}
    return {n: {"values": {"index": list(range(len(c["K" if "K" in c else "natural"]))), **c}} for n, c in each.items()}


def seeds(*each: dict) -> dict[int, dict]:
    return dict(enumerate(each))


RECORDS = {
    "natural": seeds(record([0.2, 0.4, 1.0, 0.3, 1.0], [1, 1, 0, 1], failed=(2, 4))),
    "art": seeds(record([0.9, 0.7, 0.8], [1, 0, 0, 1])),
    "pgd": seeds(record([1.0, 1.0], [1, 1, 1, 1], failed=(0, 1))),
}


def test_table_1_has_a_row_per_training_and_metric():
    table = tables.table(RECORDS, dataset="toy")
    assert list(zip(table["training"], table["metric"], strict=True)) == [(t, m) for t in RECORDS for m in METRICS]
    assert set(table["dataset"]) == {"toy"} and set(table["title"]) == {"Natural", "ART", "PGD"}
    rows = table.set_index(["training", "metric"])
    for name, r in RECORDS.items():
        for metric, measurement in MEASURED_BY.items():
            per_image = 100 * np.array(r[0][measurement]["values"][metric], dtype=float)
            row = rows.loc[(name, metric)]
            assert row["mean"] == row["lowest"] == row["highest"] == pytest.approx(per_image.mean())
            assert (row["images"], row["seeds"], row["unranked"]) == (len(per_image), 1, 0)
            assert 0 <= row["low"] <= row["mean"] <= row["high"] <= 100
    named = tables.table(RECORDS, dataset="toy", titles={"pgd": "PGD-10"})
    assert set(named["title"]) == {"Natural", "ART", "PGD-10"}


def test_failed_images_count_as_1_in_the_mean_and_not_in_kept():
    rows = tables.table(RECORDS, dataset="toy").set_index(["training", "metric"])
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
    per_image = 100 * np.array(RECORDS["natural"][0]["attribution_robustness"]["values"]["IN"])
    row = tables.table(RECORDS, dataset="toy", seed=7).iloc[0]
    drawn = torch.randint(5, (2000, 5), generator=torch.Generator().manual_seed(7)).numpy()
    low, high = np.percentile(per_image[drawn].mean(1), [2.5, 97.5])
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    theory = 1.96 * per_image.std() / 5**0.5
    assert (row["high"] - row["low"]) / 2 == pytest.approx(theory, rel=0.15)


def test_values_are_per_image_in_percent_by_seed():
    records = {"art": seeds(record([0.9, 0.7], [1, 0]), record([0.5, 0.1], [1, 1]))}
    found = tables.values(records)["art"]
    assert {name: len(each) for name, each in found.items()} == dict.fromkeys(METRICS, 2)
    assert found["IN"] == [pytest.approx([90, 70]), pytest.approx([50, 10])]
    assert found["K"] == [pytest.approx([45, 35]), pytest.approx([25, 5])]
    assert found["natural"] == [[100, 0], [100, 100]] and found["adversarial"] == [[0, 0]] * 2


def test_images_without_a_value_are_in_no_mean_and_counted():
    table = tables.table({"art": seeds(record([0.9, None, 0.7, None, 1.0], [1, 0], failed=(4,)))}, dataset="toy")
    for metric, mean in (("IN", 260 / 3), ("K", 130 / 3)):
        (row,) = [r for _, r in table.iterrows() if r["metric"] == metric]
        assert row["mean"] == pytest.approx(mean) and (row["images"], row["unranked"], row["failed"]) == (3, 2, 1)
        assert row["kept"] == pytest.approx(80 if metric == "IN" else 40)


def test_accuracy_under_an_attack_that_was_none_is_counted_too():
    """`Accuracy` gives None where PGD's gradient vanished."""
    told = record([0.5], [1, 1, 1, 0])
    told["accuracy"]["values"]["adversarial"] = [None, None, 1, 0]
    rows = tables.table({"art": seeds(told)}, dataset="toy").set_index("metric")
    assert (rows.loc["adversarial", "unranked"], rows.loc["adversarial", "images"]) == (2, 2)
    assert (rows.loc["natural", "unranked"], rows.loc["natural", "images"]) == (0, 4)
    assert tables.means(told) == {"IN": 50, "K": 25, "natural": 75, "adversarial": 50}


def test_a_model_without_any_value_has_a_blank_row():
    told = record([None, None], [1, 1])
    rows = tables.table({"natural": RECORDS["natural"], "art": seeds(told)}, dataset="toy")
    rows = rows.set_index(["training", "metric"])
    assert rows.loc[("art", "IN"), ["mean", "low", "high", "images"]].isna().all()
    assert rows.loc[("art", "IN"), "unranked"] == 2
    assert tables.tidy(rows).loc[("art", "IN"), "mean"] == ""
    assert np.isnan(tables.means(told)["IN"])


# ------------------------------------------------------------------ seeds


def test_two_seeds_are_one_mean_and_an_interval_as_wide_as_one_seeds_images():
    draw = np.random.default_rng(0)
    each = [draw.uniform(0.2, 0.8, 40).tolist() for _ in range(3)]
    hits = [draw.integers(0, 2, 40).tolist() for _ in range(3)]
    many = {"art": seeds(*map(record, each, hits))}
    rows = tables.table(many, dataset="toy").set_index("metric")
    row, means = rows.loc["IN"], [100 * np.mean(e) for e in each]
    assert row["mean"] == pytest.approx(np.mean(means)) and (row["images"], row["seeds"]) == (120, 3)
    assert (row["lowest"], row["highest"]) == (pytest.approx(min(means)), pytest.approx(max(means)))
    theory = 1.96 * 100 * np.std(np.ravel(each)) / 40**0.5  # of 40 images, not of 120: seeds share them
    assert (row["high"] - row["low"]) / 2 == pytest.approx(theory, rel=0.1)
    low, high = metrics.wilson_interval(np.mean(hits) * 40, 40)
    assert (rows.loc["natural", "low"], rows.loc["natural", "high"]) == pytest.approx((100 * low, 100 * high))
    twice = tables.table({"art": seeds(*[record(each[0], hits[0])] * 2)}, dataset="toy").set_index("metric")
    once = tables.table({"art": seeds(record(each[0], hits[0]))}, dataset="toy").set_index("metric")
    for end in ("mean", "low", "high", "lowest", "highest"):
        assert twice.loc["natural", end] == pytest.approx(once.loc["natural", end])
    assert twice.loc["IN", "lowest"] == twice.loc["IN", "highest"] == pytest.approx(once.loc["IN", "mean"])


def test_failures_are_counted_over_seeds():
    records = {"art": seeds(record([1.0, 0.5], [1], failed=(0,)), record([None, 0.3], [1]))}
    row = tables.table(records, dataset="toy").set_index("metric").loc["IN"]
    assert (row["failed"], row["unranked"], row["images"]) == (1, 1, 3)
    assert row["kept"] == pytest.approx(40) and row["mean"] == pytest.approx(60)


def test_moved_are_the_images_that_every_attack_moved():
    """A single random draw that flips a label leaves a 1 behind, which would be no robustness."""
    sides = {"random": seeds(record([1.0, 0.8, 0.9], [1], failed=(0,))), "topk": seeds(record([0.2, 0.3, None], [1]))}
    found = tables.values(sides, moved=True)
    assert found["random"]["IN"] == [[80.0]] and found["topk"]["IN"] == [[30.0]]
    assert tables.values(sides, common=True)["random"]["IN"] == [[100.0, 80.0]]
    rows = tables.moved(sides, dataset="toy", columns=["IN"]).set_index("attack")
    assert rows["mean"].to_dict() == pytest.approx({"random": 80, "topk": 30}) and set(rows["images"]) == {1}
    sides["topk"] = seeds(record([None, None, None], [1]))
    assert tables.moved(sides, dataset="toy", columns=["IN"])["mean"].isna().all()


def test_which_metrics_are_pairs():
    """Accuracy is, of the same images; not where an image has no value, nor where the images are others."""
    same = {name: seeds(record([0.5, 0.6], [1, 0, 1])) for name in ("pgd", "art")}
    assert tables.paired(same) == ("natural", "adversarial") and tables.paired({}) == ()
    vanished = {**same, "art": seeds(record([0.5], [1, 0, 1]))}
    vanished["art"][0]["accuracy"]["values"]["adversarial"] = [None, 0, 1]
    assert tables.paired(vanished) == ("natural",)
    others = {**same, "art": seeds(record([0.5], [1, 0, 1]))}
    others["art"][0]["accuracy"]["values"]["index"] = [2, 1, 0]
    assert tables.paired(others) == ()


def test_verdicts_take_what_tables_give():
    """Also where an image lacks its value: the sides are no pairs then, and nothing breaks."""
    told = {name: seeds(record([0.5] * 60, [1, 0, 1] * 20)) for name in ("natural", "pgd", "art")}
    told["art"][0]["accuracy"]["values"]["adversarial"] = [None, *[1] * 59]
    found = paper.verdicts(
        tables.values(told), paper.claims("cifar10"), generator=torch.Generator(), paired=tables.paired(told)
    )
    assert found["images"].max() == 60 and 59 in found["images"].tolist()


# ------------------------------------------------------------------ any measurement


@dataclass(frozen=True)
class Speed(Measurement):
    name, title = "speed", "Speed"
    metrics = {"pace": Metric("pace", unit="px", scale=1.0, bounds=(0.0, 9.0))}


def test_every_metric_of_a_measurement_is_a_column():
    found = tables.metric_columns()
    for kind in (AttributionRobustness, Accuracy):
        for column, metric in kind.metrics.items():
            assert found[column] == (kind.name, metric)
    assert [tables.heading(c) for c in ("adversarial", "from_pgd", "other")] == ["PGD accuracy", "made on PGD", "other"]


def test_a_measurement_that_is_added_is_known(monkeypatch):
    monkeypatch.setitem(MEASUREMENTS, "speed", Speed)
    records = {"art": seeds(record([0.5], [1]) | {"speed": {"values": {"index": [0, 1, 2], "pace": [3.0, 5.0, None]}}})}
    row = tables.table(records, dataset="toy").set_index("metric").loc["pace"]
    assert (row["mean"], row["images"], row["unranked"]) == (4, 2, 1)
    assert tables.values(records)["art"]["pace"] == [[3, 5]] and tables.means(records["art"][0])["pace"] == 4


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
    recipes = {"natural": RECIPE, "art": replace(RECIPE, training=Art(), augment="cifar10", lr=0.01)}
    for r in recipes.values():
        results.model(r, toy(), progress=False)
    table = tables.histories(recipes, toy())
    assert list(table.index) == ["natural", "art"]
    last = results.training_record(recipes["art"], toy())["history"][-1]
    assert {"loss", "accuracy"} < set(table) and not {"guard"} & set(table)
    for name in set(table) - {"warning"}:
        assert table.loc["art", name] == last[name]
    assert set(results.training_record(recipes["natural"], toy())["history"][-1]) < {*table, "guard"}
    told = tables.summary([toy(), toy("test")])
    assert told["split"].tolist() == ["train", "test"] and told["classes"].tolist() == [2, 2]
    assert told["fingerprint"][0] == toy().fingerprint[:12] and told["note"].tolist() == ["drawn"] * 2
    fields = tables.compare_recipes(recipes)
    assert fields.loc["eps"].tolist() == ["", "8/255"] and fields.loc["step_size"].tolist() == ["", "1.5/255"]
    assert fields.loc["lr"].tolist() == [0.05, 0.01] and fields.loc["weight"].tolist() == ["", 0.5]
    assert fields.loc["attack_cosine_eps"].tolist() == ["", 0.0] and fields.loc["augment"].tolist() == ["", "cifar10"]
    assert fields.loc["steps"].tolist() == ["", 3] and "kind" not in fields.index


@pytest.mark.parametrize(
    ("preset", "dataset", "left"),
    [
        ("smoke", "cifar10", "none"),
        ("cpu", "cifar10", "none"),
        ("gpu", "cifar10", "C-8"),
        ("paper", "cifar10", "C-7, C-8, C-9"),
        ("paper", "svhn", "none"),  # the code has no other data set
    ],
)
def test_the_authors_recipes_say_which_of_their_settings_a_preset_has_left(preset, dataset, left):
    """Batch, augmentation, schedule; other protocols have no such row."""
    authors = tables.compare_recipes(presets.recipes(preset, dataset=dataset, protocol="authors"))
    assert authors.loc["authors' C-7 to C-9"].tolist() == [left] * 3
    for protocol in ("paper", "text"):
        other = tables.compare_recipes(presets.recipes(preset, dataset=dataset, protocol=protocol))
        assert set(authors.index) - set(other.index) == {"authors' C-7 to C-9"}


def test_measurements_side_by_side():
    fields = tables.compare_measurements({"one": Accuracy(), "two": AttributionRobustness(eps=2 / 255)})
    assert fields.loc["eps"].tolist() == ["8/255", "2/255"] and fields.loc["step_size"].tolist() == ["2/255", "1/255"]
    assert fields.loc["k"].tolist() == ["", 100] and fields.loc["restarts"].tolist() == [1, ""]


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
        return tables.run_name("table1", dataset=dataset, protocol="paper", seeds=[3])

    assert name("cifar10") == "table1-cifar10-paper-seed3"
    assert re.fullmatch(r"table1-folder-flowers-[0-9a-f]{6}-paper-seed3", name("folder:some/where/flowers"))
    assert name("folder:some/where/flowers") == name("folder:some/where/flowers/") != name("folder:flowers")
    several = tables.run_name("table1", dataset="svhn", protocol="authors", seeds=(0, 1, 2))
    assert several == "table1-svhn-authors-seed0+1+2"
    assert tables.run_name("table1", dataset="svhn", protocol="text") == "table1-svhn-text-seed0"
    assert tables.run_name("table2", "vgg", "", 64, dataset="svhn", protocol="text") == "table2-vgg-64-svhn-text-seed0"


def test_what_the_guard_saw_is_one_row_an_epoch_statistics_and_point():
    seen = {s: {"raised": [0.1, 0.2, 0.3, 0.4], "accuracy": [1.0, 0.5, 0.25, 0.0]} for s in ("running", "held")}
    found = tables.guarded({"art": [{"warning": ""}, {"guard": seen, "warning": "no"}], "natural": [{"loss": 1.0}]})
    assert len(found) == 2 * 4 and set(found["training"]) == {"art"} and set(found["epoch"]) == {2}
    row = found[(found["statistics"] == "held") & (found["point"] == "x~")].iloc[0]
    assert (row["raised"], row["accuracy"]) == (0.2, 50)
    assert found.groupby("statistics")["accuracy"].apply(list)["running"] == [100, 50, 25, 0]
    assert list(tables.guarded({}).columns) == list(found.columns)


def test_a_number_and_its_interval_in_one_cell():
    nan = float("nan")
    columns = ["of", "difference", "low", "high", "explained", "low explained", "high explained", "verdict"]
    rows = [["IN", 1.04, -0.96, 3.0, 50.0, 40.0, 60.0, "?"], ["K", -2.0, nan, nan, nan, nan, nan, None]]
    found = tables.joined(pd.DataFrame(rows, columns=columns))
    assert list(found) == ["of", "difference", "explained", "verdict"]
    assert found.loc[0].tolist() == ["IN", "1.0 (-1.0 to 3.0)", "50.0 (40.0 to 60.0)", "?"]
    assert found.loc[1].tolist() == ["K", "-2.0", "", ""]


def test_a_figure_shows_names():
    table = pd.DataFrame({"training": ["art", "other"], "metric": ["adversarial", "IN"], "mean": [1.0, 2.0]})
    found = tables.named(table, {"art": "ART"})
    assert found["training"].tolist() == ["ART", "other"] and found["metric"].tolist() == ["PGD\naccuracy", "IN"]
    assert tables.named(table)["training"].tolist() == ["art", "other"] and found["mean"].tolist() == [1.0, 2.0]


def test_metrics_with_the_most_images_of_a_training():
    records = {"art": seeds(record([0.9, None], [1] * 1200)), "pgd": seeds(record([0.5, 0.5], [1] * 1000))}
    found = tables.counted(tables.table(records, dataset="toy"))
    assert list(found.items())[1:3] == [("K", "K, 2 images"), ("natural", "natural accuracy, 1,200 images")]


def test_a_square_keeps_the_order_of_rows_and_columns():
    import pandas as pd

    cells = [("PGD", "from_b"), ("PGD", "from_a"), ("ART", "from_b"), ("ART", "from_a")]
    table = pd.DataFrame([dict(title=t, metric=m, mean=i) for i, (t, m) in enumerate(cells)])
    found = tables.square(table)
    assert list(found.index) == ["PGD", "ART"] and list(found) == ["from_b", "from_a"]
    assert found.values.tolist() == [[0, 1], [2, 3]]
