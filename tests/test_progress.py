"""A bar is one line: written over in a terminal, kept once in a stored notebook; silent unless it is to be shown."""

import io
import re
import sys
import types

import pytest

from artlib import progress


def advance(*, shown: bool, n: int = 5) -> None:
    with progress.bar(n, "training", unit="update", shown=shown) as ticks:
        for i in range(n):
            if ticks.update():  # as `fit` does: what is silent has nothing to set
                ticks.set_postfix(loss=f"{i}", refresh=False)


def test_a_terminal_sees_one_line_that_is_written_over(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)  # a plugin of pytest may have it
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    advance(shown=True)
    text = out.getvalue()
    assert text.count("\n") == 1 and text.endswith("\n") and err.getvalue() == ""
    last = [part for part in text.split("\r") if part.strip()][-1]
    assert re.match(r"training: 100%\|.+\| 5/5 \[", last) and len(last.rstrip()) <= 100


@pytest.mark.parametrize("kernel", [False, True])
def test_nothing_is_written_unless_it_is_to_be_shown(kernel, capsys, monkeypatch):
    if kernel:
        monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
        monkeypatch.setattr("IPython.display.display", lambda *_, **options: pytest.fail("shown"))
    advance(shown=False)
    assert capsys.readouterr() == ("", "")


def test_a_notebook_is_given_one_display_and_updates_of_it(capsys, monkeypatch):
    made = []

    class Handle:
        def __init__(self, data, **options):
            assert options == dict(raw=True, display_id=True)
            self.lines = [data["text/plain"]]
            made.append(self)

        def update(self, data, **options):
            self.lines.append(data["text/plain"])

    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setattr("IPython.display.display", Handle)
    advance(shown=True)
    advance(shown=True, n=3)
    assert [handle.lines[-1].partition("[")[0].split()[-1] for handle in made] == ["5/5", "3/3"]
    assert all(line and not set("\r\n") & set(line) for handle in made for line in handle.lines)
    assert capsys.readouterr() == ("", "")


def test_a_resumed_bar_begins_where_it_stopped(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    with progress.bar(10, "training", unit="update", shown=True, initial=7) as ticks:
        ticks.update(3)
    assert "70%" in (text := capsys.readouterr().out) and "10/10" in text


@pytest.mark.slow
def test_a_stored_notebook_keeps_one_line_a_bar():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    cell = """
from artlib.progress import bar
for label in ("first", "second", "hidden"):
    with bar(300, label, unit="update", shown=label != "hidden") as ticks:
        for _ in range(300):
            ticks.update()
            if label != "hidden":
                ticks.refresh()
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=120).execute()
    outputs = notebook.cells[0].outputs
    assert [output.output_type for output in outputs] == ["display_data"] * 2
    texts = [output["data"]["text/plain"] for output in outputs]
    assert all("\n" not in text and "300/300" in text for text in texts)
    assert [text.partition(":")[0] for text in texts] == ["first", "second"]
