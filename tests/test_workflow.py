"""The workflow runs what the notebooks ask for, hands no shell a word of its settings, and ends with the numbers."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from test_project import NOTEBOOKS

from artlib import data, paths
from artlib.paths import ROOT
from workflow import plan

DEFAULT = dict(preset="quick", protocol="paper", dataset="blossoms", device="auto", seeds=[0])

# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ({}, {}),
        (dict(seed=1), dict(seeds=[1])),
        (dict(seeds=["0", "1"], preset="gpu", dataset="cifar10"), dict(seeds=[0, 1], preset="gpu", dataset="cifar10")),
    ],
)
def test_settings_are_the_defaults_and_what_is_given(config, changes):
    assert plan.check(plan.settings(config)) == DEFAULT | changes


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        (dict(dataset="x;touch pwned;"), "unknown data set 'x;touch pwned;': choose one of blossoms, cifar10"),
        (dict(dataset="../../x"), "unknown data set '../../x'"),
        (dict(dataset="blossoms/../.."), "unknown data set 'blossoms/../..'"),
        (dict(dataset="folder:no/such"), "there is no folder no/such: give folder:PATH"),
        (dict(dataset=None), "dataset is None"),
        (dict(preset="a/b"), "unknown preset 'a/b'; choose one of smoke, quick"),
        (dict(protocol="$(x)"), "unknown protocol '$(x)'; choose one of paper"),
        (dict(device=1), "device is 1, an int|device is 1, a int"),
        (dict(seed="0/1"), "seed is '0/1'"),
        (dict(seed=-1), "seed is -1; it must be 0 or larger"),
        (dict(seeds=3), "seeds is 3; it must be a list"),
        (dict(seeds=[]), "seeds is []; it must be a list"),
        (dict(seeds=[0, 0]), "seeds is [0, 0]; it must be a list of different numbers"),
        (dict(seeds=[0, True]), "seed is True"),
        (dict(seed=0, seeds=[0]), "seed and seeds are both given"),
        (dict(sed=0), "unknown setting 'sed'; choose among preset, protocol, dataset, device, seed or seeds"),
    ],
)
def test_what_is_unknown_is_refused(config, sentence):
    with pytest.raises((ValueError, FileNotFoundError)) as found:
        plan.check(plan.settings(config))
    assert str(found.value).startswith(tuple(sentence.split("|")))


def test_a_folder_gives_a_name_without_slash_or_blank(tmp_path):
    (tmp_path / "a b;c").mkdir()
    run = plan.settings(dict(dataset=f"folder:{tmp_path}/a b;c", seeds=[0, 1]))
    assert re.fullmatch(r"quick-paper-folder-a_b_c-\w{6}-0\+1", plan.folder(run).name)
    assert plan.folder(run).parent == paths.ROOT / "data" / "runs"


def test_a_notebook_is_given_what_it_has_and_needs_its_trainings_at_its_seeds():
    run = plan.settings(dict(seeds=[2, 3]))
    one = dict(preset="smoke", seed=0, trainings=["natural", "art"])
    many = dict(device="auto", seeds=[0], trainings=["natural", "art"])
    assert plan.given(run, one) == dict(preset="quick", seed=2)
    assert plan.given(run, many) == dict(device="auto", seeds=[2, 3])
    assert plan.models(run, one) == [("natural", 2), ("art", 2)]
    assert plan.models(run, many) == [("natural", 2), ("natural", 3), ("art", 2), ("art", 3)]
    assert plan.models(run, dict(seed=0)) == []


# ------------------------------------------------------------------ `make reproduce`, its two commands replaced

JUDGE = "import sys; print('a bar', file=sys.stderr); print('about 1 minute'); print(*sys.argv[1:])"
PAPERMILL = """
import json, pathlib, shutil, sys
source, target, yaml = sys.argv[1], sys.argv[2], sys.argv[sys.argv.index("-y") + 1]
shutil.copy(source, target)
pathlib.Path(target).with_suffix(".json").write_text(yaml)
print("a warning", file=sys.stderr)
"""
OPTIONS = "judge --preset quick --protocol paper --dataset blossoms --device auto"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy at a path that a shell would take apart; its trainings and its papermill tell how they were called."""
    copy = tmp_path_factory.mktemp("it's a $(touch pwned) project") / "of mine"
    for name in ("artlib", "notebooks", "workflow"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, copy)
    (copy / "artlib" / "__main__.py").write_text(JUDGE)
    (copy / "papermill.py").write_text(PAPERMILL)
    (copy / ".venv" / "bin").mkdir(parents=True)
    for name, command in (("python", ""), ("snakemake", "-m snakemake")):
        script = copy / ".venv" / "bin" / name
        script.write_text(f"#!/bin/sh\nexec '{sys.executable}' {command} \"$@\"\n")
        script.chmod(0o755)
    (copy / ".venv" / "installed").touch()
    return copy


def make(project: Path, config: str | None = None) -> subprocess.CompletedProcess:
    own = {"PYTHONPATH": str(project), "ARTLIB_FIGURES": str(project / "figures")}
    environment = {
        k: v for k, v in os.environ.items() if k not in ("ARTLIB_MODELS", "MAKEFLAGS", "MAKELEVEL", "CONFIG")
    } | own
    command = ["make", "reproduce", *([f"CONFIG={config}"] if config else [])]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=300)


def assert_nothing_was_injected(project: Path):
    assert not [path for path in (*project.parent.rglob("pwned"), project.parent.parent / "pwned") if path.exists()]
    assert not (ROOT / "pwned").exists()


@pytest.mark.slow
def test_a_path_with_a_blank_is_no_hindrance(project):
    """From nothing, then again: all get their parameters, the terminal a line a start and an end, and the numbers."""
    first = make(project, "seeds=[0,1]")
    assert first.returncode == 0, first.stdout + first.stderr
    runs = project / "data" / "runs" / "quick-paper-blossoms-0+1"
    wanted = {path.stem: plan.parameters(path) for path in NOTEBOOKS}
    run = plan.settings(dict(seeds=[0, 1]))
    assert {path.stem for path in runs.glob("*.ipynb")} == set(wanted)
    for name, parameters in wanted.items():
        assert json.loads((runs / f"{name}.json").read_text()) == plan.given(run, parameters)
        assert (runs / f"{name}.log").read_text() == "a warning\n"
    models = {model for parameters in wanted.values() for model in plan.models(run, parameters)}
    for training, seed in models:
        last = f"{OPTIONS} --training {training} --seed {seed}"
        assert (runs / f"{training}-seed{seed}.log").read_text().splitlines()[-1] == last
    said = re.findall(r"^([\w-]+), seed (\d): (?:train|\d+ s, judge)", first.stdout, re.MULTILINE)
    assert sorted(said) == sorted(2 * [(training, str(seed)) for training, seed in models])
    assert said[0][0] == "art" and "a bar" not in first.stdout + first.stderr
    again = make(project, "seeds=[0,1]")
    assert again.returncode == 0 and "judge" not in again.stdout
    for done in (first, again):
        assert all(str(runs / f"{name}.ipynb") in done.stdout for name in wanted)
        assert re.fullmatch(r"taken: \d+ s", done.stdout.splitlines()[-1])
    assert_nothing_was_injected(project)


@pytest.mark.slow
def test_a_command_in_a_setting_is_refused_in_one_sentence_and_not_run(project):
    """Neither by make's shell nor by Snakemake's: without a blank, so that it would be one word for xargs."""
    child = make(project, "dataset=x;>pwned;")
    assert child.returncode != 0 and "Traceback" not in child.stderr + child.stdout
    (sentence,) = [line for line in child.stderr.splitlines() if not line.startswith(("make", "Using profile"))]
    assert sentence.startswith("artlib: unknown data set 'x;>pwned;': choose one of blossoms")
    assert_nothing_was_injected(project)


# ------------------------------------------------------------------ the end


def test_the_summary_shows_this_run_and_no_other(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "workflow")
    import summary

    monkeypatch.setattr(paths, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    folder = tmp_path / "figures" / "quick" / "01_table1"
    folder.mkdir(parents=True)
    rows = [("natural", "IN", 12.34), ("natural", "K", 23.45), ("art", "IN", 67.89), ("art", "K", 78.91)]
    table = pd.DataFrame(rows, columns=["training", "metric", "mean"])
    table.to_csv(folder / "table1-blossoms-paper-seed0.csv")
    for other in ("blossoms-paper-seed1", "cifar10-paper-seed0", "blossoms-authors-seed0"):
        table.assign(mean=99.9).to_csv(folder / f"table1-{other}.csv")
    verdicts = pd.DataFrame({"verdict": ["reproduced", "inconclusive", "reproduced"]})
    verdicts.to_csv(folder / "table1-blossoms-paper-seed0-claims.csv")
    pd.DataFrame({"x": [1]}).to_csv(folder / "speed-blossoms-paper-seed0.csv")
    run = plan.settings({})
    plan.folder(run).mkdir(parents=True)
    (plan.folder(run) / "01_table1.ipynb").write_text(json.dumps({"metadata": {"papermill": {"duration": 83.2}}}))
    lines = summary.report(run, 3671).splitlines()
    assert [line.split() for line in lines if line.startswith(("natural", "art"))] == [
        ["natural", "12.3", "23.4"],
        ["art", "67.9", "78.9"],
    ]
    assert "claims: 2 reproduced, 1 inconclusive" in lines
    assert not [line for line in lines if "99.9" in line or "speed" in line]
    assert f"  {plan.folder(run) / '01_table1.ipynb'}  (ran 1 min 23 s)" in lines
    assert lines[-1] == "taken: 61 min 11 s"


def test_the_workflow_names_no_training_and_no_notebook():
    """A new one is a new file."""
    text = "".join(path.read_text() for path in (ROOT / "workflow").glob("*") if path.is_file())
    assert not [name for name in ("natural", "pgd", "art") if f'"{name}"' in text]
    assert not [path.stem for path in NOTEBOOKS if path.stem in text]
    assert set(data.SETS) & set(re.findall(r"\w+", text)) == {"blossoms", "cifar10"}  # default, example
