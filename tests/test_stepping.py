"""A notebook run cell by cell in JupyterLab, by a real browser; what is wrong in one is noticed."""

import nbformat
import pytest

from artlib.paths import ROOT
from workflow import step

pytestmark = [pytest.mark.slow, pytest.mark.skipif(step.chromium() is None, reason="needs Chromium")]

FAULTY = {
    "1 / 0": "ZeroDivisionError: division by zero",
    "import sys; print('no', file=sys.stderr)": "stderr: no",
    "from IPython.display import Image; Image(data=b'no picture', format='png')": "0 of 1 figures drawn",
}


def test_a_notebook_of_the_project_and_a_faulty_one(tmp_path):
    step.copies(["12_figure2_block_diagram"], tmp_path, ["seed = 1"])
    copy = nbformat.read(tmp_path / "12_figure2_block_diagram.ipynb", as_version=4)
    first = next(cell for cell in copy.cells if cell.cell_type == "code")
    assert first.source.endswith("\nseed = 1") and not first.outputs
    faulty = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in ["1 + 1", *FAULTY]])
    faulty.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(faulty, tmp_path / "faulty.ipynb")
    with step.browser() as page, step.lab(tmp_path) as address:
        assert step.step(page, address, "12_figure2_block_diagram", shots=tmp_path) == []
        found = step.step(page, address, "faulty", shots=tmp_path)
    assert [fault.partition(": ")[2].strip() for fault in found] == list(FAULTY.values())
    assert (tmp_path / "12_figure2_block_diagram.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_browser_it_says_so(monkeypatch):
    monkeypatch.setattr(step, "chromium", lambda: None)
    with pytest.raises(FileNotFoundError, match="needs Chromium"), step.browser():
        pass


def test_every_notebook_has_a_name_that_it_can_be_called_by():
    assert all(path.stem.replace("_", "").isalnum() for path in (ROOT / "notebooks").glob("*.ipynb"))
