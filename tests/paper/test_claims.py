"""Claims follow from the printed tables and the words of the text."""

import dataclasses

import pytest

from artlib import paper

BY_ID = {claim.id: claim for claim in paper.CLAIMS}


def test_every_ordered_pair_of_the_table_is_a_claim_once():
    table = paper.table("table1")
    pairs = {
        (dataset, metric, a.training, b.training)
        for dataset, rows in table.groupby("dataset")
        for metric in ("IN", "K", "natural", "adversarial")
        for a in rows.itertuples()
        for b in rows.itertuples()
        if getattr(a, metric) > getattr(b, metric)
    }
    found = [c for c in paper.CLAIMS if c.source.startswith("Table 1")]
    shown = [(c.dataset, c.metric, c.better, c.worse) for c in found]
    assert all(c.object == "table1" and c.printed[0] > c.printed[1] for c in found)
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


def test_a_data_set_the_paper_does_not_have_is_asked_about_cifar10():
    printed, asked = paper.claims("cifar10"), paper.claims("blossoms")
    assert len(asked) == len(printed) > 0
    for theirs, ours in zip(printed, asked, strict=True):
        words = theirs.text.removeprefix("cifar10: ").split(" (printed: ")[0]
        assert ours == dataclasses.replace(theirs, text=f"blossoms, asked of CIFAR-10's table: {words}", printed=None)
        assert ours.printed is None and theirs.printed is not None
    assert {c.dataset for c in paper.claims("flower17")} == {"flower17"}


def test_the_words_name_the_attack_of_the_setting():
    text = BY_ID["text/cifar10/pgd_20/pgd_20/cure>art"].text
    assert text == "cifar10: pgd_20: CURE has a higher PGD-20 accuracy than ART (printed: 41.4 and 37.73)"
    assert "PGD-40 accuracy" in BY_ID["table1/cifar10/adversarial/pgd>art"].text
    assert "PGD-40 accuracy" in BY_ID["text/cifar10/combined/adversarial/art_combined>pgd"].text


def test_further_tables_are_claims_by_their_rows_alone():
    assert {c.object for c in paper.CLAIMS} == set(paper.TABLES)
    claim = BY_ID["table4/cifar10/gradshap/K/art>pgd"]
    assert (claim.setting, claim.metric, claim.printed) == ("gradshap", "K", (62.35, 59.80))
    assert claim.text == "cifar10: gradshap: ART has a higher K than PGD-10 (printed: 62.35 and 59.80)"
    assert claim.source == "Table 4, Section 5"
    assert BY_ID["text/cifar10/other_threats/spatial/art>pgd"].source == "Section 5"
    assert len(paper.claims("cifar10", "table4")) == 4 * 3 and len(paper.claims("cifar10", "table3")) == 15 * 3
    assert {c.setting for c in paper.claims("cifar10", "table4", setting="gradient")} == {"gradient"}
    assert not any(c.better == c.worse or c.printed[0] == c.printed[1] for c in paper.CLAIMS)
    for c in paper.CLAIMS:  # only one sentence is contradicted by its own table
        assert c.printed[0] > c.printed[1] or c.id == "table1/flower17/IN/art>pgd"


def test_a_table_without_cifar10_asks_about_its_own_data_set():
    asked = paper.claims("blossoms", "table2", setting="resnet50")
    assert asked[0].text.startswith("blossoms, asked of CUB-200's table: resnet50: ")
    assert len(asked) == len(paper.claims("cub200", "table2", setting="resnet50")) == 5 * 6
    assert {c.dataset for c in paper.claims("flower17", "text")} == {"flower17"}
    with pytest.raises(ValueError, match="'table9'.*table1"):
        paper.claims("cifar10", "table9")


def test_the_worst_case_is_asked_the_orderings_of_maps_alone_and_nothing_printed():
    asked = paper.claims("cifar10")
    worst = paper.under_the_worst(asked)
    assert {(c.metric, c.better, c.worse) for c in worst} == {
        (f"{c.metric}_worst", c.better, c.worse) for c in asked if c.metric in ("IN", "K")
    }
    assert all(c.printed is None and "printed" not in c.text and "_worst/" in c.id for c in worst)
    assert len({c.id for c in worst} | set(BY_ID)) == len(worst) + len(BY_ID)
