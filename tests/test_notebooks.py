"""The notebooks refuse wrong parameters in one sentence, and nobody can alter or strip a stored output unnoticed."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import test_project

from artlib import presets
from artlib.models import public
from artlib.paths import ROOT
from workflow import plan

NOTEBOOKS = test_project.NOTEBOOKS
TABLE1 = ROOT / "notebooks" / "01_table1_attributional_robustness.ipynb"
BAD = {
    "unknown data set": (dict(dataset="cifar11"), "unknown data set 'cifar11': choose one of blossoms, cifar10"),
    "no such folder": (dict(dataset="folder:no/such"), "there is no folder no/such: give folder:PATH"),
    "unknown preset": (dict(preset="fast"), "unknown preset 'fast'; choose one of smoke, quick, cpu, gpu, paper"),
    "unknown protocol": (dict(protocol="code"), "unknown protocol 'code'; choose one of paper"),
    "seed in quotes": (dict(seed="0", seeds=["0"]), "seed is '0', a str; it must be of type int"),
    "unknown device": (dict(device="tpu"), "device 'tpu' is not available here; choose 'auto' or 'cpu'"),
}


def environment(folder: Path) -> dict[str, str]:
    """Models and figures go to a folder of the test, not to the project's."""
    own = {"ARTLIB_MODELS": str(folder / "models"), "ARTLIB_FIGURES": str(folder / "figures")}
    return os.environ | own | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_parameters_are_the_five_that_every_notebook_has(path):
    """Beside them the trainings it needs, its network or images where it takes others, seeds in the place of one."""
    cells = code_cells(nbformat.read(path, as_version=4))
    assert [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])] == [0]
    values = plan.parameters(path)
    for training in values.pop("trainings", []):
        presets.recipe("smoke", training, dataset="blossoms")
    if path.stem == "62_audit":  # empty: the built-in example
        assert [values.pop(name) for name in ("network", "weights", "images")] == ["", "", ""]
    assert all(values.pop(name, None) is None for name in ("images", "size", "limit", "epochs", "arch"))
    assert values.pop("network", "squeezenet1_1") in public.PUBLIC
    assert values.pop("explanations", ["gradient", "integrated_gradients"]) == ["gradient", "integrated_gradients"]
    assert values.pop("attribution", "integrated_gradients") == "integrated_gradients"
    assert values.pop("grid", "") == ""
    assert set(values.pop("attacks", [])) <= set(presets.LENS_ATTACKS)
    if "seeds" in values:
        assert values.pop("seeds") == [0] and "seed" not in values
        values["seed"] = 0
    assert values == dict(preset="smoke", protocol="paper", dataset="blossoms", seed=0, device="auto")


# ------------------------------------------------------------------ wrong parameters


@pytest.fixture
def display():
    """A notebook's own settings of pandas end with the test."""
    import pandas as pd

    names = ("display.width", "display.max_columns", "display.max_colwidth", "display.max_rows", "display.precision")
    with pd.option_context(*(part for name in names for part in (name, pd.get_option(name)))):
        yield


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_wrong_parameter_ends_in_one_sentence_before_anything_is_computed(path, name, display, tmp_path, monkeypatch):
    """The values are put behind the parameters cell, as papermill does; the two cells after it may find them wrong.

    Without a kernel, whose imports are what costs.
    """
    monkeypatch.chdir(tmp_path)
    first, *rest = code_cells(nbformat.read(path, as_version=4))
    given, sentence = BAD[name]
    space = {"__name__": "__main__"}
    exec(first.source, space)
    space |= {key: value for key, value in given.items() if key in space}
    with pytest.raises((ValueError, FileNotFoundError)) as found:
        for cell in rest[:2]:  # the check, and the loading of the images
            exec(cell.source, space)
    assert str(found.value).startswith(sentence) and "\n" not in str(found.value)
    assert found.type is (FileNotFoundError if name == "no such folder" else ValueError)
    assert not list(tmp_path.iterdir())


def test_papermill_ends_with_that_sentence(tmp_path):
    """As the workflow calls it."""
    options = ["-k", "python3", "-y", '{"preset": "smoke", "dataset": "cifar11"}', "--no-progress-bar"]
    command = [sys.executable, "-m", "papermill", str(TABLE1), str(tmp_path / "out.ipynb"), *options]
    child = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
    assert child.returncode != 0
    last = re.sub(r"\x1b\[[\d;]*m", "", child.stderr).strip().splitlines()[-1]
    assert last.startswith("ValueError: unknown data set 'cifar11': choose one of blossoms, cifar10")
    assert not (tmp_path / "models").exists()


# ------------------------------------------------------------------ altered outputs


def other_digit(text: str) -> str:
    """The text with the last digit of its first number with decimals changed."""
    end = re.search(r"\d\.\d+", text).end()
    return text[: end - 1] + str((int(text[end - 1]) + 1) % 10) + text[end:]


def with_decimals(cell) -> dict | None:
    """The data of a cell's one output, if it is a table, as text and as HTML, of numbers with decimals."""
    data = cell.outputs[0].get("data", {}) if len(cell.outputs) == 1 else {}
    return data if all(re.search(r"\d\.\d", data.get(kind, "")) for kind in ("text/plain", "text/html")) else None


@pytest.mark.slow
def test_nbval_notices_one_digit_and_one_missing_output_and_nothing_else(tmp_path):
    """On the cells down to the first table, two notebooks in two workers as in `make test`."""
    notebook = nbformat.read(TABLE1, as_version=4)
    last = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and with_decimals(cell))
    two = nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=1)
    notebook.cells[last + 1 :] = [nbformat.v4.new_code_cell("1 + 1", execution_count=1, outputs=[two])]
    other, count = copy.deepcopy(notebook), len(code_cells(notebook))
    for changed, kind in ((notebook, "text/plain"), (other, "text/html")):
        data = with_decimals(changed.cells[last])
        data[kind] = other_digit(data[kind])
    notebook.cells[-1].outputs = []
    nbformat.write(notebook, tmp_path / "plain.ipynb")
    nbformat.write(other, tmp_path / "html.ipynb")
    options = ["-q", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "-p", "tests.conftest", "-n", "2"]
    command = [sys.executable, "-m", "pytest", *options, "--nbval", "--nbval-current-env", str(tmp_path)]
    child = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True)
    assert child.returncode == 1
    failed = set(re.findall(r"^FAILED .*?(\w+)\.ipynb::Cell (\d+)", child.stdout, re.MULTILINE))
    altered = {(name, str(count - 2)) for name in ("plain", "html")}
    assert failed == altered | {("plain", str(count - 1))}, child.stdout
    assert f"3 failed, {2 * count - 3} passed" in child.stdout


def stripped(notebook):
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None


def outputs_stripped(notebook):
    for cell in code_cells(notebook):
        cell.outputs = []


def run_out_of_order(notebook):
    a, b = code_cells(notebook)[1:3]
    a.execution_count, b.execution_count = b.execution_count, a.execution_count


def stored_with_an_error(notebook):
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    code_cells(notebook)[-1].outputs.append(error)


def stored_with_a_warning(notebook):
    warning = nbformat.v4.new_output("stream", name="stderr", text="UserWarning: slow")
    code_cells(notebook)[-1].outputs.append(warning)


@pytest.mark.parametrize(
    "change", [stripped, outputs_stripped, run_out_of_order, stored_with_an_error, stored_with_a_warning]
)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_rule_for_stored_outputs_catches(change, path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    rule = test_project.test_a_notebook_is_stored_as_run_from_top_to_bottom
    nbformat.write(notebook, tmp_path / "same.ipynb")
    rule(tmp_path / "same.ipynb")
    changed = copy.deepcopy(notebook)
    change(changed)
    nbformat.write(changed, tmp_path / "changed.ipynb")
    with pytest.raises(AssertionError):
        rule(tmp_path / "changed.ipynb")
