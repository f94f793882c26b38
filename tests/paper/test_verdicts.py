"""Claims follow from the printed table; verdicts agree with normal theory and with hand-made cases."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch

from artlib import paper

BY_ID = {claim.id: claim for claim in paper.CLAIMS}


def test_unknown_table_names_the_known_ones():
    with pytest.raises(ValueError, match="'table9'.*table1"):
        paper.table("table9")


def test_every_ordered_pair_of_the_table_is_a_claim_once():
    table = paper.table("table1")
    pairs = {
        (dataset, metric, a.training, b.training)
        for dataset, rows in table.groupby("dataset")
        for metric in paper.METRICS
        for a in rows.itertuples()
        for b in rows.itertuples()
        if getattr(a, metric) > getattr(b, metric)
    }
    shown = [(c.dataset, c.metric, c.better, c.worse) for c in paper.CLAIMS if "Table 1" in c.source]
    assert len(shown) == len(set(shown))
    assert set(shown) == pairs
    assert len(BY_ID) == len(paper.CLAIMS)


def test_claims_against_art_are_kept():
    assert BY_ID["table1/flower17/IN/pgd>art"].source == "Table 1"  # the table
    assert BY_ID["table1/flower17/IN/art>pgd"].source == "Section 4.1.3"  # the text, which the table contradicts
    for dataset in ("cifar10", "svhn", "gtsrb", "flower17"):
        assert f"table1/{dataset}/natural/natural>art" in BY_ID
        assert f"table1/{dataset}/adversarial/pgd>art" in BY_ID
    assert "table1/svhn/IN/natural>pgd" in BY_ID


def test_only_one_statement_of_the_text_contradicts_the_table():
    assert [c.id for c in paper.CLAIMS if c.source == "Section 4.1.3"] == ["table1/flower17/IN/art>pgd"]


def test_statements_of_the_text_are_marked():
    assert "4.1.3" in BY_ID["table1/cifar10/natural/art>pgd"].source
    assert "4.1.3" in BY_ID["table1/gtsrb/adversarial/art>natural"].source
    assert "4.1.3" not in BY_ID["table1/cifar10/adversarial/pgd>natural"].source


def test_claims_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        paper.CLAIMS[0].better = "art"


@pytest.mark.parametrize("paired", [True, False])
def test_interval_agrees_with_normal_theory(generator, paired):
    a = torch.randn(400, generator=generator, dtype=torch.float64) + 0.1
    b = torch.randn(400, generator=generator, dtype=torch.float64)
    result = paper.verdict(a, b, generator=generator, paired=paired)
    variance = (a - b).var() if paired else a.var() + b.var()
    half = 1.96 * math.sqrt(variance / 400)
    difference = (a.mean() - b.mean()).item()
    assert result.difference == pytest.approx(difference, abs=1e-12)
    assert result.low == pytest.approx(difference - half, abs=0.1 * half)  # 2000 resamples: a few percent of the width
    assert result.high == pytest.approx(difference + half, abs=0.1 * half)


def test_pairing_removes_what_the_images_share(generator):
    image = torch.randn(200, generator=generator, dtype=torch.float64)
    assert paper.verdict(image + 0.05, image, generator=generator).verdict == "reproduced"
    assert paper.verdict(image + 0.05, image, generator=generator, paired=False).verdict == "inconclusive"


@pytest.mark.parametrize(
    "better, worse, word",
    [([1, 1, 1], [0, 0, 0], "reproduced"), ([0, 0], [1, 1], "not reproduced"), ([0, 0], [0, 0], "inconclusive")],
)
def test_verdict_words(generator, better, worse, word):
    result = paper.verdict(np.array(better, dtype=bool), worse, generator=generator)
    assert result.verdict == word
    assert result.low <= result.difference <= result.high


def test_same_generator_same_interval():
    values = np.linspace(0, 1, 50), np.linspace(0, 1, 50) ** 2
    first, second = (paper.verdict(*values, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "better, worse, message",
    [([], [1.0], "at least one"), ([math.nan], [1.0], "NaN"), ([1.0, 2.0], [1.0], "2 and 1 images.*paired=False")],
)
def test_bad_values_are_refused(generator, better, worse, message):
    with pytest.raises(ValueError, match=message):
        paper.verdict(better, worse, generator=generator)


def test_verdicts_leave_the_unmeasured_blank(generator):
    values = {"art": {"IN": np.full(9, 90.0)}, "natural": {"IN": np.full(7, 40.0), "K": np.ones(7)}}
    claims = [c for c in paper.claims("cifar10") if c.metric in ("IN", "K")]
    table = paper.verdicts(values, claims, generator=generator)
    assert len(table) == 6
    row = table.loc["table1/cifar10/IN/art>natural"]
    assert (row["difference"], row["low"], row["high"], row["verdict"]) == (50, 50, 50, "reproduced")
    others = table.drop(index=row.name)
    assert others[["difference", "low", "high", "verdict"]].isna().all(axis=None)


def test_a_data_set_the_paper_does_not_have_is_asked_about_cifar10():
    printed, asked = paper.claims("cifar10"), paper.claims("blossoms")
    assert len(asked) == len(printed) > 0
    for theirs, ours in zip(printed, asked, strict=True):
        words = theirs.text.removeprefix("cifar10: ")
        assert ours == dataclasses.replace(theirs, text=f"blossoms, asked of CIFAR-10's table: {words}") != theirs
    assert {c.dataset for c in paper.claims("flower17")} == {"flower17"}


def long(dataset, training, **metrics):
    return pd.DataFrame(
        [{"dataset": dataset, "training": training, "metric": m, "mean": v} for m, v in metrics.items()]
    )


def test_against_paper_joins_and_leaves_blanks():
    run = pd.concat([long("gtsrb", "art", IN=90.0, natural=80.0), long("gtsrb", "jarn", IN=50.0)])
    table = paper.against_paper(run, reference=long("gtsrb", "art", IN=91.0)).set_index(["training", "metric"])
    assert list(table.columns) == ["dataset", "paper", "reference", "run"]
    assert list(table.index.unique(0)) == ["natural", "ig_norm", "ig_sum_norm", "pgd", "art", "jarn"]
    assert list(table.loc[("art", "IN")]) == ["gtsrb", 91.96, 91.0, 90.0]
    assert table.loc[("ig_norm", "K"), "paper"] == 75.55
    assert table.loc["ig_norm", "run"].isna().all() and table.loc["ig_norm", "reference"].isna().all()
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
