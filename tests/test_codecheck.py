"""codecheck.yml lists every recorded result, and what Binder reads installs what the lock says.

The rules named are those of CODECHECK's configuration 2.0.
"""

import os
import re
import shlex

import pytest
import test_project
import yaml

from artlib.__main__ import _parser
from artlib.paths import ROOT

TEXT = (ROOT / "codecheck.yml").read_text()
FOUND = yaml.safe_load(TEXT)
MANIFEST = FOUND["manifest"]
RESULTS = {".csv", ".png", ".html"}


def test_its_form():
    assert TEXT.startswith("---\n")  # CC-CFG-002
    assert FOUND["version"] == "https://codecheck.org.uk/spec/config/2.0/"  # CC-CFG-014
    assert not re.search(r"FIXME|TODO|XXXX", TEXT)  # CC-CFG-023
    links = [FOUND["paper"]["reference"], *FOUND["paper"]["reference-other"]]
    assert all(re.fullmatch(r"https://\S+(?<!\.pdf)", link) for link in links)  # CC-CFG-021, 022, 029, 030
    assert set(FOUND) == {"version", "paper", "manifest"}  # the others are a codechecker's: said in its comment


def test_the_paper_is_that_of_the_citation():
    (art, lens) = yaml.safe_load((ROOT / "CITATION.cff").read_text())["references"]
    assert FOUND["paper"]["title"] == art["title"] and lens["title"] in TEXT
    names = [f"{a['given-names']} {a['family-names']}" for a in art["authors"]]
    assert [a["name"] for a in FOUND["paper"]["authors"]] == names


def test_every_recorded_result_is_listed_once_and_is_there():
    files = [item["file"] for item in MANIFEST]
    reference = ROOT / "figures" / "reference"
    there = [f"figures/reference/{p.name}" for p in reference.iterdir() if p.suffix in RESULTS]
    assert sorted(files) == sorted(there)  # CC-CFG-005, CC-CFG-006, CC-BUN-001


@pytest.mark.parametrize("item", MANIFEST, ids=lambda item: item["file"].rpartition("/")[2])
def test_a_result_says_what_makes_it(item):
    """A notebook that is there, a command that the command line knows, a target of the Makefile or the benchmarks."""
    comment = item["comment"]
    for command in re.findall(r"python -m artlib ([^;(]+)", comment):
        words = shlex.split(command)
        assert _parser(words[0]).parse_args(words).command == words[0]
    for notebook in re.findall(r"notebooks/\w+\.ipynb", comment):
        assert (ROOT / notebook).exists()
    assert re.search(r"python -m artlib|papermill notebooks/|make reproduce|tests\.benchmarks", comment)


def test_the_readme_marks_the_notebooks_with_a_recorded_run_on_real_images():
    """Its own, or a grid's, of which it reads the files; built-in images are drawn, a benchmark is no run."""
    runs = re.findall(r"notebooks/(\w+)\.ipynb out\.ipynb -p preset \w+ -p dataset (?!blossoms)", TEXT)
    for grid in set(re.findall(r"reference/(grid-\w+-(?!blossoms)\w+)-seed", TEXT)):
        runs += [p.stem for p in sorted((ROOT / "notebooks").glob("*.ipynb")) if f'real = \\"{grid}-' in p.read_text()]
    marked = re.findall(r"^      (\w+)\.ipynb +● ", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert marked == sorted(set(runs))


def test_what_binder_reads():
    environment = yaml.safe_load((ROOT / ".binder" / "environment.yml").read_text())
    python, pip = environment["dependencies"]
    least = re.fullmatch(r">=(.+)", test_project.PROJECT["requires-python"])[1]
    assert pip == "pip" and python.startswith(f"python ={least}")
    script = ROOT / ".binder" / "postBuild"
    assert os.access(script, os.X_OK) and (ROOT / "requirements.lock").exists()
    (extra,) = re.findall(r'--constraint requirements\.lock --editable "\.\[(\w+)\]"', script.read_text())
    assert extra in test_project.PROJECT["optional-dependencies"]
