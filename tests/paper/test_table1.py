"""Table 1 as printed, line by line, against artlib.paper."""

import pytest

from artlib import paper

PRINTED = """
CIFAR-10 Natural 40.25 49.17 95.26 0.
PGD-10 69.00 72.27 87.32 44.07
ART 92.90 91.76 89.84 37.58
SVHN Natural 60.43 56.50 95.66 0.
PGD-7 39.67 55.56 92.84 50.12
ART 61.37 72.60 95.47 43.56
GTSRB Natural 68.74 76.48 99.43 19.9
IG Norm 74.81 75.55 97.02 75.24
IG-SUM Norm 74.04 76.84 95.68 77.12
PGD-7 86.13 88.42 98.36 87.49
ART 91.96 89.34 98.47 84.66
Flower Natural 38.22 56.43 93.91 0.
IG Norm 64.68 75.91 85.29 24.26
IG-SUM Norm 66.33 79.74 82.35 47.06
PGD-7 80.84 84.14 92.64 69.85
ART 79.84 84.87 93.21 33.08
""".strip().splitlines()
DATASETS = {"CIFAR-10": "cifar10", "SVHN": "svhn", "GTSRB": "gtsrb", "Flower": "flower17"}


def printed_rows():
    dataset = None
    for line in PRINTED:
        *words, in_, k, natural, adversarial = line.split()
        if words[0] in DATASETS:
            dataset = DATASETS[words.pop(0)]
        yield dataset, " ".join(words), float(in_), float(k), float(natural), float(adversarial)


def test_every_printed_line_is_a_row_in_the_same_order():
    table = paper.table("table1")
    columns = ["dataset", "approach", *paper.METRICS]
    assert [tuple(row) for row in table[columns].itertuples(index=False)] == list(printed_rows())


@pytest.mark.parametrize("approach", ["Natural", "PGD-10", "PGD-7", "ART", "IG Norm", "IG-SUM Norm"])
def test_a_printed_approach_has_one_training_name(approach):
    table = paper.table("table1")
    assert table.loc[table["approach"] == approach, "training"].nunique() == 1
