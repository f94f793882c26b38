"""The notebooks refuse wrong parameters in one sentence, and nobody can alter or strip a stored output unnoticed."""

import ast
import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import test_project
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from artlib.paths import ROOT

NOTEBOOKS = test_project.NOTEBOOKS
TABLE1 = ROOT / "notebooks" / "01_table1_attributional_robustness.ipynb"
BAD = {
    "unknown data set": (dict(dataset="cifar11"), "unknown data set 'cifar11': choose one of blossoms, cifar10"),
    "no such folder": (dict(dataset="folder:no/such"), "there is no folder no/such: give folder:PATH"),
    "unknown preset": (dict(preset="fast"), "unknown preset 'fast'; choose one of smoke, quick, cpu, gpu, paper"),
    "unknown protocol": (dict(protocol="code"), "unknown protocol 'code'; choose one of paper, authors"),
    "seed in quotes": (dict(seed="0"), "seed is '0', a str; it must be of type int"),
    "unknown device": (dict(device="tpu"), "device 'tpu' is not available here; choose 'auto' or 'cpu'"),
}


def environment(folder: Path) -> dict[str, str]:
    """Models and figures go to a folder of the test, not to the project's."""
    own = {"ARTLIB_MODELS": str(folder / "models"), "ARTLIB_FIGURES": str(folder / "figures"), "OMP_NUM_THREADS": "1"}
    return os.environ | own


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_parameters_are_the_five_that_every_notebook_has(path):
    cells = code_cells(nbformat.read(path, as_version=4))
    assert [i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])] == [0]
    values = {s.targets[0].id: ast.literal_eval(s.value) for s in ast.parse(cells[0].source).body}
    assert values == dict(preset="smoke", protocol="paper", dataset="blossoms", seed=0, device="auto")


# ------------------------------------------------------------------ wrong parameters


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def client(request, tmp_path_factory):
    """One notebook with its kernel, for all its wrong parameters: the imports are what costs."""
    folder = tmp_path_factory.mktemp("kernel")
    notebook = nbformat.read(request.param, as_version=4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    with client.setup_kernel(env=environment(folder)):
        yield client
    assert not (folder / "models").exists() and not (folder / "figures").exists()


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_parameter_ends_in_one_sentence_before_anything_is_computed(client, name):
    """The given values are put behind the parameters cell, as papermill does; then cell after cell until one fails."""
    given, sentence = BAD[name]
    assign = nbformat.v4.new_code_cell("\n".join(f"{key} = {value!r}" for key, value in given.items()))
    first, *rest = code_cells(client.nb)
    client.nb.cells, failed = [first, assign, *rest], None
    for index, cell in enumerate(client.nb.cells):
        try:
            client.execute_cell(cell, index)
        except CellExecutionError as error:
            failed = (index, error)
            break
    client.nb.cells = [first, *rest]
    assert failed is not None and failed[0] <= 3  # the check, or the loading of the images
    last = re.sub(r"\x1b\[[\d;]*m", "", str(failed[1])).strip().splitlines()[-1]
    kind = "FileNotFoundError" if name == "no such folder" else "ValueError"
    assert last.startswith(f"{kind}: {sentence}")


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


def cell_with(notebook, words: str) -> tuple[int, dict]:
    """Place among the code cells, and the one displayed value, of the first cell whose source holds these words."""
    index, cell = next((i, c) for i, c in enumerate(code_cells(notebook)) if words in c.source)
    (output,) = [output for output in cell.outputs if output.output_type == "execute_result"]
    return index, output.data


@pytest.mark.slow
def test_nbval_notices_one_digit_and_one_missing_output_and_nothing_else(tmp_path):
    notebook = nbformat.read(TABLE1, as_version=4)
    digit, data = cell_with(notebook, "tables.tidy(table)")
    data["text/plain"] = other_digit(data["text/plain"])
    html, data = cell_with(notebook, "tables.histories")
    data["text/html"] = other_digit(data["text/html"])
    stripped, _ = cell_with(notebook, "tables.summary")
    code_cells(notebook)[stripped].outputs = []
    nbformat.write(notebook, tmp_path / "altered.ipynb")
    options = ["-q", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"]
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path / "altered.ipynb")]
    child = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
    assert child.returncode == 1
    failed = {int(n) for n in re.findall(r"^FAILED .*::Cell (\d+)", child.stdout, re.MULTILINE)}
    assert failed == {digit, html, stripped}, child.stdout
    assert f"3 failed, {len(code_cells(notebook)) - 3} passed" in child.stdout


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
