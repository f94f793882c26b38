"""A user's own folder through the notebooks that need boxes: with a boxes.csv, and without."""

import csv
import json
import subprocess
import sys

import nbformat
import pytest
from PIL import Image, ImageDraw
from test_notebooks import code_cells, display, environment  # noqa: F401

from artlib import results
from artlib.paths import ROOT

NOTEBOOKS = {path.stem[:2]: path for path in (ROOT / "notebooks").glob("*.ipynb")}
NOTEBOOK = NOTEBOOKS["02"]


@pytest.fixture
def own(tmp_path):
    """Two classes of rectangles on grey, 40 x 30 pixels; the box of each is the rectangle."""
    rows = []
    for split, count in (("train", 8), ("test", 5)):
        for label, color in (("red", (200, 20, 20)), ("blue", (20, 20, 200))):
            for i in range(count):
                name, box = f"{split}/{label}/{i}.png", (2 * i, i, 2 * i + 18, i + 15)
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                image = Image.new("RGB", (40, 30), (90, 90, 90))
                ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=color)
                image.save(tmp_path / name)
                rows.append((name, *box))
    with open(tmp_path / "boxes.csv", "w", newline="") as file:
        csv.writer(file).writerows([("file", "x0", "y0", "x1", "y1"), *rows])
    return tmp_path


@pytest.mark.slow
def test_a_folder_with_boxes_goes_through_notebook_02(own, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    options = ["-k", "python3", "-y", json.dumps({"dataset": f"folder:{own}"}), "--no-progress-bar"]
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK), str(out / "out.ipynb"), *options]
    child = subprocess.run(command, cwd=out, env=environment(out), capture_output=True, text=True)
    assert child.returncode == 0, child.stderr[-2000:]
    tables = sorted((out / "figures" / "smoke" / NOTEBOOK.stem).glob("table2-*.csv"))
    (table,) = [path for path in tables if path.stem.endswith("seed0")]
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["images"] for row in rows if "gt_known" in row["metric"]} == {"10"} and len(rows) == 4 * 5
    text = "".join(str(c.get("outputs")) for c in nbformat.read(out / "out.ipynb", as_version=4).cells)
    assert own.name in text and "whole image" in text


@pytest.mark.usefixtures("display")
@pytest.mark.parametrize("number", ["02", "15", "23"])
def test_a_folder_without_boxes_ends_before_anything_is_trained(number, own, tmp_path_factory, monkeypatch):
    (own / "boxes.csv").unlink()
    models = tmp_path_factory.mktemp("models")
    monkeypatch.setattr(results, "MODELS", models)
    first, *rest = code_cells(nbformat.read(NOTEBOOKS[number], as_version=4))
    space = {"__name__": "__main__"}
    exec(first.source, space)
    space["dataset"] = f"folder:{own}"
    with pytest.raises(ValueError, match=f"{own.name} have no boxes; .* a folder:PATH with a boxes.csv"):
        for cell in rest:
            exec(cell.source, space)
    assert not list(models.iterdir())
