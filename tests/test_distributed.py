"""Two processes train what one trains; they resume together, and fail with one message."""

import json
import os
import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import AUTHORS, EACH, curves, fitting, tiny, toy, train

from artlib import distributed
from artlib.files import read_tensors
from artlib.paths import ROOT
from artlib.trainings.checkpoint import State

# Batches of 5, 5 and 2: parts that differ by one image, and one image a process at the end.
SMALL = dict(batch_size=5, epochs=1)
RECIPES = {name: tiny(training, **SMALL) for name, training in EACH.items()} | {
    "natural": tiny(EACH["natural"], **SMALL, precision="float32", augment="cifar10"),
    "natural adam": tiny(EACH["natural"], **SMALL, optimizer="adam", lr=0.01),
    "art running": tiny(EACH["art running"], **SMALL, nesterov=True),
    "authors in parts": tiny(replace(AUTHORS, steps=1), **SMALL, micro_batch=3),
}
RESUMED = replace(RECIPES["pgd batch"], epochs=2)
SHOWN = "art held"
TRAIN = """
import json, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from artlib import distributed
from artlib.files import write_tensors
from test_distributed import RECIPES, RESUMED, SHOWN, State, fitting, toy

def write(name, net, record):
    path = Path(f"{{name}}-{{distributed.rank()}}.safetensors")
    write_tensors(path, net.state_dict(), {{"record": json.dumps(record)}})

save = State.save

def told(state, path, **about):
    Path(f"saved-{{distributed.rank()}}-{{state.step}}").touch()
    save(state, path, **about)

State.save = told
with distributed.joined():
    for name, recipe in RECIPES.items():
        write(name, *fitting.fit(recipe, toy(12, size=8), progress=name == SHOWN))
    write("resumed", *fitting.fit(RESUMED, toy(12, size=8), checkpoint=Path("a.checkpoint"), progress=False))
"""


def torchrun(*command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([*start, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def assert_same(found: dict, expected: dict, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=tolerance, msg=key)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Both processes' weights of every recipe, one of them taken up where a single process was stopped."""
    folder, save = tmp_path_factory.mktemp("trained"), State.save

    def save_and_stop(state, path, **about):
        save(state, path, **about)
        if state.step == 4:
            raise KeyboardInterrupt

    options = dict(checkpoint=folder / "a.checkpoint", checkpoint_seconds=0)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(State, "save", save_and_stop)
        train(RESUMED, toy(12, size=8), **options)
    (folder / "train.py").write_text(TRAIN.format(tests=str(Path(__file__).parent)))
    run = torchrun(str(folder / "train.py"), folder=folder)
    assert run.returncode == 0, run.stderr
    return folder, run


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_end_with_the_weights_of_one(name, trained):
    """Batch normalisation with the statistics of both, differentiated twice in the authors' protocol."""
    expected, alone = train(RECIPES[name], toy(12, size=8))
    tolerance = 1e-5 if RECIPES[name].precision == "float32" else 1e-10
    for rank in (0, 1):
        tensors, metadata = read_tensors(trained[0] / f"{name}-{rank}.safetensors")
        assert_same(tensors, expected.state_dict(), tolerance)
        record = json.loads(metadata["record"])
        assert (record["processes"], alone["processes"], record["steps"]) == (2, 1, alone["steps"])
        for a, b in zip(curves(record), curves(alone), strict=True):
            assert a == pytest.approx(b, rel=0, abs=tolerance)


@pytest.mark.slow
def test_one_process_shows_the_bar(trained):
    shown = trained[1].stdout
    assert shown.count("art on toy:   0%|") == 1 and "art on toy: 100%|" in shown  # a slow machine draws its end twice


@pytest.mark.slow
def test_a_stopped_training_is_taken_up_by_all_and_saved_by_one(trained):
    expected, _ = train(RESUMED, toy(12, size=8))
    for rank in (0, 1):
        tensors, metadata = read_tensors(trained[0] / f"resumed-{rank}.safetensors")
        assert_same(tensors, expected.state_dict(), 1e-10)
        assert json.loads(metadata["record"])["steps"] == 6
    assert [p.name for p in trained[0].glob("saved-*")] == ["saved-0-6"]  # the end of the epoch it found half done


# ------------------------------------------------------------------ the command line

SMOKE = ("-m", "artlib", "judge", "--preset", "smoke", "--training", "natural", "--device", "cpu")


def ours(text: str) -> list[str]:
    """Without what torchrun itself says when a process has failed."""
    return [line for line in text.splitlines() if line.startswith("artlib:")]


@pytest.mark.slow
def test_the_command_line_writes_one_model_and_says_one_line(tmp_path):
    from artlib import presets, results

    run = torchrun(*SMOKE, folder=tmp_path, ARTLIB_MODELS=str(tmp_path / "models"))
    assert run.returncode == 0, run.stderr
    said = [line for line in run.stdout.replace("\r", "\n").splitlines() if ".safetensors" in line]
    (path,) = (tmp_path / "models").glob("*.safetensors")
    assert len(said) == 1 and said[0].startswith(path.name) and said[0].split()[1::2][:2] == ["IN", "K"]
    assert len(list((tmp_path / "models").glob("*.json"))) == 2  # attributional robustness, accuracy
    recipe = presets.recipe("smoke", "natural", dataset="blossoms")
    images = presets.images("smoke", "train", dataset="blossoms")
    tensors, metadata = read_tensors(path)
    assert path.name == results.model_path(recipe, images).name
    assert_same(tensors, train(recipe, images)[0].state_dict(), 1e-10)
    assert json.loads(metadata["record"])["processes"] == 2


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_ends_all_processes_with_one_message(tmp_path):
    """Rank 0 finds out while the others wait for it."""
    (tmp_path / "file").touch()
    run = torchrun(*SMOKE, folder=tmp_path, ARTLIB_MODELS=str(tmp_path / "file" / "models"))
    assert run.returncode != 0 and ".safetensors" not in run.stdout and "rank1]" not in run.stderr
    (line,) = ours(run.stderr)
    assert re.search("cannot write .*ARTLIB_MODELS", line)


FAIL = """
import sys, time
from artlib import distributed
try:
    with distributed.joined():
        time.sleep(3 * (distributed.rank() == 0))
        raise ValueError(f"told by {distributed.rank()}")
except ValueError as error:
    sys.exit(f"artlib: {error}")
"""


@pytest.mark.slow
def test_what_all_processes_find_out_is_told_by_rank_0_though_it_comes_last(tmp_path):
    (tmp_path / "fail.py").write_text(FAIL)
    run = torchrun(str(tmp_path / "fail.py"), folder=tmp_path)
    assert run.returncode != 0 and ours(run.stderr) == ["artlib: told by 0"]


# ------------------------------------------------------------------ parts


def as_if(monkeypatch, rank: int, world: int) -> None:
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "world", lambda: world)


@pytest.mark.parametrize(("n", "at_once", "world"), [(8, None, 1), (8, 3, 1), (7, None, 3), (23, 8, 3), (6, 6, 6)])
def test_the_parts_of_all_processes_are_the_batch_and_part_i_is_everywhere_the_same(n, at_once, world, monkeypatch):
    whole = [range(n)[part] for part in distributed.parts(n, at_once)]
    found = []
    for rank in range(world):
        as_if(monkeypatch, rank, world)
        found.append([range(n)[part] for part in distributed.parts(n, at_once)])
    assert [[i for piece in pieces for i in piece] for pieces in zip(*found, strict=True)] == [list(p) for p in whole]
    assert sum(map(len, whole)) == n and max(map(len, whole)) <= (at_once or n)
    sizes = [len(piece) for pieces in found for piece in pieces]
    assert max(sizes) - min(sizes) <= 1 <= min(sizes)


def test_a_batch_with_fewer_images_than_processes_is_refused_before_training(monkeypatch):
    """12 images in batches of 10: the last has 2."""
    as_if(monkeypatch, 0, 3)
    with pytest.raises(ValueError, match="a batch of 2 images has not 3 parts for 3 processes; start fewer"):
        fitting._steps_per_epoch(tiny(batch_size=10), toy(12))
    with pytest.raises(ValueError, match="a batch of 5 images has not 9 parts for 3 processes"):
        fitting._steps_per_epoch(tiny(batch_size=5, micro_batch=2), toy(10))
    assert fitting._steps_per_epoch(tiny(batch_size=9), toy(12)) == 2


def test_a_process_that_does_not_lead_writes_nothing(tmp_path, monkeypatch):
    from artlib import results, trainings

    as_if(monkeypatch, 1, 2)
    net = torch.nn.ReLU()
    monkeypatch.setattr(distributed, "first", nullcontext)
    monkeypatch.setattr(results, "MODELS", tmp_path)
    monkeypatch.setattr(trainings, "fit", lambda *args, **options: (net, {}))
    assert results.model(RECIPES["art held"], toy(12)) is net and not list(tmp_path.iterdir())


def test_without_torchrun_there_is_one_process():
    with distributed.joined(), distributed.first():
        assert (distributed.rank(), distributed.world()) == (0, 1)
        x = torch.ones(2)
        assert distributed.total(x) is x
