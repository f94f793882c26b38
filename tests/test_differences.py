"""The table of differences: every row is there, every field exists, effects are recorded; DIFFERENCES.md holds it."""

import re

import pandas as pd
import pytest
import torch

import artlib
from artlib import grids, measurements, metrics, paper, presets, results, scoreboard
from artlib.metrics import lens_authors
from artlib.paths import ROOT
from artlib.settings import Settings
from workflow import readme

ROWS = paper.differences()
NUMBERED = [f"C-{n}" for n in range(1, 48)] + [f"P-{n}" for n in range(1, 13)]
NUMBERED += [f"L{n}" for n in range(1, 18)] + [f"R{n}" for n in range(1, 12)]


def test_no_row_is_missing_or_there_twice():
    assert sorted(ROWS["id"]) == sorted([*NUMBERED, "C-19 to C-26"])
    assert (ROWS["text"] != "").all() and (ROWS.loc[ROWS["topic"] != "inside the paper", "code"] != "").all()


@pytest.mark.parametrize("name", sorted({n for names in ROWS["field"] for n in names.split("; ") if n}))
def test_a_named_field_exists(name):
    found = artlib
    for part in name.split("."):
        assert hasattr(found, part), f"{part} of {name}"
        owner, found = found, getattr(found, part)
    if isinstance(owner, type) and issubclass(owner, Settings):
        assert part in {*owner.__dataclass_fields__}


def test_what_is_measured_where_can_be_looked_up():
    factors = {"step", "anchor", "statistics"} | {*grids.SWITCHES, "C-23"} | {"L1", "L2", "L3", "L4"}
    for row in ROWS.itertuples():
        kind, _, level = row.measured.partition(": ")
        if row.measured.startswith("notebook "):
            assert (ROOT / "notebooks" / f"{row.measured.split()[1]}.ipynb").exists()
        elif row.measured and kind != "none":
            assert level in factors and (ROOT / "figures" / "reference" / f"{kind}.csv").exists()


def test_the_page_holds_the_table_and_the_recorded_effects():
    page = (ROOT / "DIFFERENCES.md").read_text()
    assert readme.differences(page) == page, "run make readme"
    told = re.findall(r"^\| ((?:C-|P-|L|R)\d+(?: to C-26)?) \|", page, re.MULTILINE)
    assert set(ROWS["id"]) <= set(told)
    assert set(readme.TABLE.findall(page)[i][1] for i in range(8)) == {*ROWS["topic"], "effects"}


def test_effects_are_the_recorded_numbers():
    found = scoreboard.effects()
    recorded = results.reference("grid-factorial-cifar10-seed0-effects")
    one = recorded[(recorded["metric"] == "IN") & (recorded["to"] == "batch")].iloc[0]
    assert found.loc[("C-11", "batch, not held"), "IN"].startswith(f"{one['effect']:+.1f} ({one['low']:+.1f} to ")


def test_an_effect_without_an_interval_stands_alone(monkeypatch):
    row = {"factor": "art", "from": "paper", "to": "C-23", "metric": "IN", "effect": -0.4, "low": float("nan")}
    monkeypatch.setattr(results, "reference", lambda name: pd.DataFrame([row | {"high": float("nan")}]))
    assert scoreboard.effects().loc[("C-23", "ART"), "IN"] == "-0.4"
    monkeypatch.setattr(results, "reference", lambda name: None)
    assert scoreboard.effects().empty


# ------------------------------------------------------------------ switches of measuring


def test_every_switch_differs_from_the_text_in_what_it_names():
    asked = grids.switches("paper", dataset="cifar10")
    plain = asked.pop("paper")
    for row, measurement in asked.items():
        changed = {k: v for k, v in measurement.plain().items() if v != plain.plain()[k]}
        switch = {k: v for k, v in grids.SWITCHES[row].items() if k not in ("protocol", "sample")}
        assert switch.items() <= changed.items() and (row == "authors" or len(changed) == len(switch))
    whole = {k for row in grids.SWITCHES.values() for k in row} - {"protocol", "sample"}
    authors = measurements.AttributionRobustness.protocols["authors"]
    assert {*authors} == whole | {"sample"}  # C-24
    assert all(authors[k] == v for row in grids.SWITCHES.values() for k, v in row.items() if k in whole)


def test_at_cpu_the_first_row_is_the_recorded_one():
    asked = grids.switches("cpu", dataset="cifar10")
    assert asked["paper"] == presets.measurement("cpu", "attribution_robustness", dataset="cifar10")
    assert {m.images for row, m in asked.items() if row != "paper"} == {grids.SWITCHED["cpu"]}


# ------------------------------------------------------------------ the scripts of LENS


@pytest.mark.parametrize("diverse", [False, True])
def test_the_scripts_without_slips_are_our_measure(diverse, generator):
    before, after = torch.rand(2, 3, 12, 12, generator=generator, dtype=torch.float64)
    ours = metrics.lens_recall(before, after, 15, 1, diverse=diverse)
    assert lens_authors.recall(before, after, 15, 1, diverse=diverse).tolist() == pytest.approx(ours.tolist())
    slipped = lens_authors.recall(before, after, 15, 1, diverse=diverse, L4=True)
    assert (slipped.tolist() == pytest.approx(ours.tolist())) != diverse
