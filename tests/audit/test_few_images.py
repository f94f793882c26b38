"""The intervals of an audit of few images: Student's t, written out, and none where nothing tells how wide it is."""

import math

import pytest
import torch

from artlib import metrics, tables
from artlib.attacks import KEPT
from artlib.audit.intervals import FEW, of_few, student_interval

T_2 = 0.95 * math.sqrt(2 / (1 - 0.95**2))  # the 97.5 % quantile of two degrees of freedom, whose law has a closed form


def test_three_images_by_hand():
    """40, 43 and 46: mean 43, s = 3. Of 10, 40 and 70 s = 30, and 4.30 * 30 / sqrt(3) = 74.5 is cut to what can be."""
    assert T_2 == pytest.approx(4.3027, abs=1e-4)
    low, high = student_interval([40.0, 43.0, 46.0])
    assert (low, high) == pytest.approx((43 - T_2 * 3 / math.sqrt(3), 43 + T_2 * 3 / math.sqrt(3)), abs=1e-9)
    assert student_interval([10.0, 40.0, 70.0]) == (0.0, 100.0)
    assert student_interval([10.0, 40.0, 70.0], lowest=-100.0)[0] == pytest.approx(40 - T_2 * 30 / math.sqrt(3))


@pytest.mark.parametrize("values", [[55.0], [55.0, 55.0, 55.0]])
def test_one_image_and_images_that_agree_have_no_interval(values):
    assert all(map(math.isnan, student_interval(values)))


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_it_covers_the_mean_as_often_as_it_says(count):
    """Of normal values, of which Student's interval is exact; the bootstrap's is not."""
    draws = 50 + 5 * torch.randn(1000, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covered = sum(low < 50 < high for low, high in map(student_interval, draws.tolist())) / len(draws)
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / len(draws))


def table_of(overlap, kendall):
    """A table and its records: IN and K, in [0, 1], of one attack."""
    values = {"index": [*range(len(overlap))], "IN": overlap, "K": kendall, "status": [KEPT] * len(overlap)}
    records = {"gradient, topk": {0: {"attribution_robustness": {"values": values}}}}
    return tables.table(records, dataset="toy", columns=("IN", "K")), records


def test_a_table_of_few_images_has_students_intervals():
    table, records = table_of([0.4, 0.43, 0.46], [-0.98, -0.95, -0.5])
    found = of_few(table, records).set_index("metric")
    assert tuple(found.loc["IN", ["low", "high"]]) == pytest.approx(student_interval([40.0, 43.0, 46.0]))
    assert found.loc["K", "low"] == -100 and found.loc["K", "high"] > -50
    assert found["mean"].tolist() == table["mean"].tolist()


def test_proportions_keep_wilsons_interval_and_one_image_has_none():
    found = of_few(*table_of([1.0, 1.0, 1.0], [0.5, 0.6, None])).set_index("metric")
    assert tuple(found.loc["IN", ["low", "high"]]) == pytest.approx([100 * v for v in metrics.wilson_interval(3, 3)])
    assert tuple(found.loc["K", ["low", "high"]]) == pytest.approx(student_interval([50.0, 60.0], lowest=-100.0))
    assert of_few(*table_of([1.0, None], [0.5, None]))[["low", "high"]].isna().all(axis=None)


def test_a_table_without_values_and_one_of_many_images_stay():
    for some in ([None, None], [i / 40 for i in range(FEW)]):
        table, records = table_of(some, some)
        assert of_few(table, records).equals(table)
