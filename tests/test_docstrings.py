"""Every example in a docstring does what it shows: what a reader copies works."""

import doctest
import importlib

import pytest

from artlib.paths import ROOT

NAMES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "artlib").rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of(name):
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = finder.find(importlib.import_module(name))
    assert any(each.examples for each in examples), f"{name} has a >>> that is in no docstring"
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for each in examples:
        runner.run(each, out=said.append)
    assert not runner.failures, "".join(said)


def test_a_newcomer_meets_examples_in_every_part():
    parts = {name.split(".")[1] for name in NAMES}
    assert {"audit", "data", "metrics", "models", "paper", "presets", "results", "scoreboard"} <= parts
