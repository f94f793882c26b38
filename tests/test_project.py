"""What holds the project together: versions, import order, the notebooks' skeleton, and no trace of one machine."""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import artlib
from artlib.paths import ROOT

CORE = {"torch", "torchvision", "numpy", "scipy", "pandas", "safetensors", "tqdm", "matplotlib", "seaborn"}
CORE |= {"PIL"}  # torchvision cannot be installed without it
OPTIONAL = {  # by module: what it asks for when it is used, and says how to get
    "progress": "IPython",
    "auto_attack": "torchattacks",
    "by_captum": "captum",
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [line for group in PROJECT["optional-dependencies"].values() for line in group]
BOUNDS = [Requirement(line) for line in PROJECT["dependencies"] + EXTRAS]
LOCK = (ROOT / "requirements.lock").read_text()
SOURCES = sorted((ROOT / "artlib").rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TEXT = {".py", ".ipynb", ".md", ".toml", ".yml", ".yaml", ".lock", ".txt", ".cfg", ".json", ".csv", ".cff", ".sh", ""}


def by_name(paths):
    return pytest.mark.parametrize("path", paths, ids=[str(path.relative_to(ROOT).with_suffix("")) for path in paths])


# --- pyproject.toml, requirements.lock, environment.yml


def locked() -> list[Requirement]:
    return [Requirement(line) for line in LOCK.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.name)
def test_the_lock_has_each_dependency_within_its_bounds(bound):
    found = [pin for pin in locked() if canonicalize_name(pin.name) == canonicalize_name(bound.name)]
    assert found, f"{bound.name} is not in requirements.lock: make it anew with the command in its head"
    for pin in found:
        assert all(bound.specifier.contains(exact.version) for exact in pin.specifier)


def test_the_lock_is_exact_and_names_no_address():
    pins = locked()
    assert all(len(pin.specifier) == 1 and next(iter(pin.specifier)).operator == "==" for pin in pins)
    assert not [pin.name for pin in pins if pin.url]
    assert not re.search(r"://|--(index|extra|find)|^-", LOCK, re.MULTILINE)


def test_the_environment_lists_what_the_project_needs_and_says_who_needs_it():
    text = (ROOT / "environment.yml").read_text()
    *conda, pip = yaml.safe_load(text)["dependencies"]
    assert conda == [f"python {PROJECT['requires-python']}", "pip"]
    options = [line for line in pip["pip"] if line.startswith("-")]
    assert options == ["--constraint requirements.lock", "--editable ."]
    names = [line for line in pip["pip"] if line not in options]
    assert sorted(names) == sorted({bound.name for bound in BOUNDS})
    for name in names:
        assert re.search(rf"^ +- {re.escape(name)} +# \w", text, re.MULTILINE), f"{name} lacks its remark"


def test_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == artlib.__version__ == citation["version"]


# --- the modules of artlib


@cache
def imports(path: Path) -> list[str]:
    """Dotted name of every import in a file, inside functions too; `from artlib import x` gives artlib.x."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(filter(None, ["artlib" if node.level else "", node.module]))
            found += [f"artlib.{alias.name}" for alias in node.names] if package == "artlib" else [package]
    return found


def room(path: Path) -> str:
    """The module or folder of the flow that a file belongs to."""
    return path.relative_to(ROOT / "artlib").parts[0].removesuffix(".py")


def test_the_flow_names_every_room():
    assert {room(path) for path in SOURCES if not room(path).startswith("__")} == set(artlib.MODULES)


@by_name(SOURCES)
def test_a_module_imports_only_from_its_left(path):
    if room(path).startswith("__"):
        return
    own = {name.split(".")[1] for name in imports(path) if name.startswith("artlib.")} - {room(path)}
    assert not own - set(artlib.MODULES[: artlib.MODULES.index(room(path))])


@by_name(SOURCES)
def test_a_module_needs_the_core_only(path):
    allowed = CORE | {"artlib"} | sys.stdlib_module_names
    allowed |= {OPTIONAL.get(path.stem)}
    assert not [name for name in imports(path) if name.split(".")[0] not in allowed]


def python(code: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"ARTLIB_MODELS": folder}
        command = [sys.executable, "-c", code]
        child = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment)
    return child.stdout.split()


def test_import_artlib_is_free_and_its_modules_load_on_use():
    assert python("import sys, artlib; print(*{'torch', 'numpy', 'pandas'} & set(sys.modules))") == []
    assert python("import artlib; print(artlib.paths.__name__, 'paper' in dir(artlib))") == ["artlib.paths", "True"]
    with pytest.raises(AttributeError, match="its modules are paths"):
        artlib.nothing  # noqa: B018


def test_all_modules_together_do_without_the_slow_imports():
    """pandas, Matplotlib, seaborn and SciPy wait for the function that needs them."""
    slow = "{'pandas', 'matplotlib', 'seaborn', 'scipy'} & set(sys.modules)"
    assert python(f"import sys, artlib; [getattr(artlib, name) for name in artlib.MODULES]; print(*{slow})") == []


def test_a_machine_with_torch_alone_can_train_and_measure():
    """What is missing there is imported by the function that needs it, and a bar is left out."""
    missing = ["pandas", "matplotlib", "seaborn", "tqdm", "scipy", "IPython"]
    code = f"""
import sys
sys.modules.update(dict.fromkeys({missing}))
from artlib import presets, results
train, test = (presets.images("smoke", split, dataset="blossoms") for split in ("train", "test"))
recipe = presets.recipe("smoke", "natural", dataset="blossoms")
asked = presets.measurement("smoke", "accuracy", dataset="blossoms")
print(len(results.measured(recipe, asked, train=train, test=test)["values"]["natural"]))
"""
    assert python(code) == ["50"]


# --- the notebooks


def code_cells(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@by_name(NOTEBOOKS)
def test_a_notebook_is_stored_as_run_from_top_to_bottom(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]


@by_name(NOTEBOOKS)
def test_a_notebook_has_one_cell_of_plain_parameters(path):
    (cell,) = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    parameters = {}
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign) and len(statement.targets) == 1
        parameters[statement.targets[0].id] = ast.literal_eval(statement.value)
    assert json.loads(json.dumps(parameters)) == parameters
    assert parameters["preset"] == "smoke"


@by_name(NOTEBOOKS)
def test_a_notebook_is_short_cells_with_prose_between(path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    assert max(len(cell.source.strip().splitlines()) for cell in code_cells(path)) <= 20
    assert all(cell.source.strip() for cell in notebook.cells)


@by_name(NOTEBOOKS)
def test_a_notebook_says_nothing_twice(path):
    """As a careless merge makes it."""
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells]
    assert len(set(cells)) == len(cells)
    long = [[line for line in cell.splitlines() if len(line) > 40] for cell in cells]
    assert [lines for lines in long if len(set(lines)) < len(lines)] == []


# --- the repository


def test_the_readme_lists_every_room_and_every_notebook():
    """A room of artlib is a module or a folder: a new file in a folder needs no line here."""
    readme = (ROOT / "README.md").read_text()
    listed = [path.name for path in NOTEBOOKS]
    for path in SOURCES:
        folder = path.relative_to(ROOT / "artlib").parent
        listed.append(f"{folder.parts[0]}/" if folder.parts else path.name)
    assert not [name for name in listed if name not in readme]


def test_the_first_notebook_maps_the_others_in_the_words_of_the_readme():
    first = "\n".join(cell.source for cell in nbformat.read(NOTEBOOKS[0], as_version=4).cells)
    listed = re.findall(r"^      (\d\d_\w+)\.ipynb +(?:● )?(.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert [name for name, _ in listed] == [path.stem for path in NOTEBOOKS]
    assert [name for name, words in listed[1:] if f"| `{name}` | {words} |" not in first] == []


def tracked() -> list[Path]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_no_file_holds_a_path_of_one_machine_or_an_index_address():
    machine = re.compile(r"(?<![\w.])/(?:work|root|tmp|home|Users)/\w")
    index = re.compile(r"https?://\S+/(?:simple|packages)\b")
    texts = {path: path.read_text() for path in tracked() if path.suffix in TEXT}
    assert ROOT / "pyproject.toml" in texts
    found = [str(path.relative_to(ROOT)) for path, text in texts.items() if machine.search(text) or index.search(text)]
    assert not found


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_no_tracked_file_is_large():
    assert not [path.name for path in tracked() if path.stat().st_size > 3_100_000]
