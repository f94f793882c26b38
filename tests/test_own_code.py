"""Code outside artlib is known by what it does: an edited cell is made anew, a moved one is not."""

import subprocess
import sys
from functools import partial

import pytest
import torch
from toys import tiny, toy, train

from artlib import attributions, results
from artlib.own_code import own_code
from artlib.trainings import Art, Natural

CELL = """{above}
SCALE = {scale}

def helper(x, more={more}):
    return SCALE * x + {added} + more

def explain(model, x, y):
    return helper(x) if model in {{"a", "b", "c"}} else x

class Own(Natural):
    rate = {rate}

    @property
    def shown(self):
        return {shown}

    def __call__(self):
        return {called}

    @classmethod
    def made(cls):
        return explain("a", 1, 2)
"""


USUAL = dict(added=1, rate=0.1, shown=1, above="", scale=3, more=0, called=1)


def cell(**changes):
    own = {"__name__": "__main__", "Natural": Natural}
    exec(CELL.format(**USUAL | changes), own)
    return own["explain"], own["Own"]


def test_artlibs_own_parts_have_none():
    assert own_code() == own_code(Art(), Natural, attributions.gradient, torch.relu) == ""


CHANGES = dict(added=2, rate=0.2, shown=2, scale=4, more=1, called=2)


@pytest.mark.parametrize("change", [{k: v} for k, v in CHANGES.items()], ids=str)
def test_an_edit_gives_another_digest(change):
    (explain, kind), (explain2, kind2) = cell(), cell(**change)
    assert own_code(kind) != own_code(kind2)
    assert (own_code(explain) == own_code(explain2)) == ({"rate", "shown", "called"} >= {*change})


def test_the_same_code_elsewhere_gives_the_same():
    (explain, kind), (moved, other) = cell(), cell(above="\n\n# a remark\n")
    assert own_code(explain) == own_code(moved) == own_code(partial(moved, y=1)) and own_code(kind) == own_code(other())


def test_another_process_gives_the_same():
    """Sets of strings have another order in each."""
    script = f"from artlib.own_code import own_code\nfrom artlib.trainings import Natural\n{CELL}\nprint(own_code(Own))"
    script = script.format(**USUAL)
    found = {subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout for _ in range(3)}
    assert found == {f"{own_code(cell()[1])}\n"}


def test_an_edited_training_is_another_model(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "MODELS", tmp_path)
    paths = [results.model_path(tiny(kind()), toy()) for kind in (cell()[1], cell()[1], cell(rate=0.2)[1], Natural)]
    assert paths[0] == paths[1] and len({*paths}) == 3
    assert train(tiny(cell()[1]()), toy())[1]["history"]
