"""The reproducibility card says Yes only where there is evidence."""

import json
import re

from artlib import card, scoreboard
from artlib.paths import REFERENCE, ROOT


def test_every_answer_has_its_evidence_in_the_repository():
    found = card.card()
    assert list(found.index) == list(card.LENS)
    assert (found["here"].drop(["Research Type", "Open Datasets"]) == "Yes").all()
    assert all((ROOT / path).exists() for where in found["where"] for path in where.split(", "))
    assert found.loc["Hardware Specification", "what"].startswith("device ")
    runs = [json.loads((REFERENCE / f"{name}.json").read_text()) for name in scoreboard.runs("*")]
    for run in runs:
        for images in run["data"]:
            assert f"{images['name']} {images['split']} {images['images']:,}" in found.loc["Dataset Splits", "what"]


def test_the_evidence_is_linked_from_the_notebooks():
    found = card.card()
    linked = re.findall(r'href="(.*?)"', card.board(found).markup)
    assert len(linked) == len(found) + 2 and all((ROOT / "notebooks" / where).exists() for where in linked)


def test_each_algorithm_is_in_the_file_that_is_linked():
    words = {"artlib/trainings/art.py": "Algorithm 1", "artlib/attacks/explanation.py": "def ifia("}
    words["artlib/metrics/lens.py"] = "def diverse_topk("
    assert card.card().loc["Pseudocode", "where"].split(", ") == list(words)
    assert all(word in (ROOT / path).read_text() for path, word in words.items())


def test_sets_that_cannot_be_downloaded_are_named(monkeypatch):
    row = card.card().loc["Open Datasets"]
    assert row["here"] == "In part"
    assert row["what"].endswith("; not to be had by download: cifar10_official_200, imagenet_samples")
    monkeypatch.setattr(scoreboard, "runs", lambda table: ["table1-cifar10-paper-seed0+1"])
    row = card.card().loc["Open Datasets"]
    assert row["here"] == "Yes" and row["what"] == "by download, or drawn: CIFAR-10"


def test_a_run_that_does_not_tell_its_machine_turns_the_answer(tmp_path, monkeypatch):
    name = scoreboard.runs("table1")[0]
    told = json.loads((REFERENCE / f"{name}.json").read_text())
    read = {"machine": {}, "measurements": told["measurements"], "data": []}
    monkeypatch.setattr(card.files, "read_json", lambda path: read)
    monkeypatch.setattr(scoreboard, "runs", lambda table: [name])
    found = card.card()["here"]
    assert found["Hardware Specification"] == found["Dataset Splits"] == "No" and found["Experiment Setup"] == "Yes"
