"""A model is trained once, a record made once, and a table says where its numbers come from."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import test_project
import torch
from torch import nn

from artlib import evaluation, results, training
from artlib.data import ImageSet
from artlib.evaluation import Evaluation
from artlib.paths import ROOT, slug
from artlib.training import Recipe

RECIPE = Recipe(dataset="toy", arch="wrn-10-1", epochs=2, batch_size=8, lr=0.05, milestones=(), precision="float64")
QUICK = Evaluation(images=3, k=10, steps=2, ig_steps=2, attack_ig_steps=2, pgd_steps=2, accuracy_images=8)


def toy(split: str = "train") -> ImageSet:
    """Noise with a bright red or blue channel, by class."""
    noise = torch.Generator().manual_seed(["train", "test"].index(split))
    labels = torch.arange(16) % 2
    images = torch.randint(0, 100, (16, 3, 8, 8), generator=noise)
    images[torch.arange(16), 2 * labels] += 150
    return ImageSet(images.to(torch.uint8), labels, ("red", "blue"), name="toy", split=split, note="drawn")


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "MODELS", tmp_path / "models")
    monkeypatch.setattr(results, "FIGURES", tmp_path / "figures")
    monkeypatch.setattr(results, "REFERENCE", tmp_path / "reference")
    return tmp_path


def counted(monkeypatch, module, name) -> list:
    """Calls of module.name from now on."""
    calls, function = [], getattr(module, name)

    def call(*args, **options):
        calls.append(args)
        return function(*args, **options)

    monkeypatch.setattr(module, name, call)
    return calls


def model(recipe: Recipe = RECIPE) -> nn.Module:
    return results.model(recipe, toy(), progress=False)


def judged(recipe: Recipe = RECIPE, e: Evaluation = QUICK, *, test: ImageSet | None = None) -> dict:
    return results.judged(recipe, e, train=toy(), test=test or toy("test"), progress=False)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(v, w) and v.dtype == w.dtype for v, w in pairs)


# ------------------------------------------------------------------ models


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_model_is_trained_once_and_then_loaded(precision, folders, monkeypatch):
    trainings = counted(monkeypatch, training, "fit")
    recipe = replace(RECIPE, precision=precision, training="pgd", pgd_steps=1)
    first, second = model(recipe), model(recipe)
    assert len(trainings) == 1 and same(first, second)
    x = toy().images.to(recipe.dtype) / 255
    assert torch.equal(first(x), second(x))  # same layout, same sums
    assert not first.training and not second.training
    path = results.model_path(recipe, toy())
    assert re.fullmatch(rf"toy-pgd-1-wrn-10-1-seed0-{recipe.key(toy().fingerprint)}\.safetensors", path.name)
    assert {p.name for p in (folders / "models").iterdir()} == {path.name, path.with_suffix(".lock").name}


def test_another_seed_or_other_images_are_another_model():
    paths = {results.model_path(r, s) for r in (RECIPE, replace(RECIPE, seed=1)) for s in (toy(), toy("test"))}
    assert len(paths) == 4


def test_the_name_of_a_folder_data_set_is_one_file_name():
    path = results.model_path(replace(RECIPE, dataset="folder:some/where/flowers"), toy())
    assert path.parent == results.MODELS
    assert re.match(r"folder-flowers-[0-9a-f]{6}-natural-wrn-10-1-seed0-", path.name)


def test_a_slug_is_one_for_each_folder_and_safe_in_a_file_name():
    assert slug("fashion_mnist") == "fashion_mnist"
    spelled = (
        "some/where/flowers",
        "some/where/flowers/",
        "some/../some/where/flowers",
        Path("some/where/flowers").resolve(),
    )
    assert len({slug(f"folder:{path}") for path in spelled}) == 1
    assert slug("folder:~/flowers") == slug(f"folder:{Path.home() / 'flowers'}")
    others = {slug(f"folder:{path}") for path in ("flowers", "some/flowers", "a b/ä:*", "a b/ö:*", ".", "/", "x" * 200)}
    assert len(others) == 7
    assert all(re.fullmatch(r"folder-[A-Za-z0-9._-]{0,40}-[0-9a-f]{6}", name) for name in others)


@pytest.mark.parametrize(
    ("changes", "images"),
    [
        (dict(dataset="cifar10"), "16 of toy, size 8"),
        (dict(dataset="folder:some/where/flowers"), "16 of toy, size 8"),
        (dict(size=28), "16 of toy, size 8"),
        (dict(limit=15), "16 of toy, size 8"),
    ],
    ids=str,
)
def test_images_that_do_not_fit_the_recipe_are_refused_before_training(changes, images, folders, monkeypatch):
    trainings = counted(monkeypatch, training, "fit")
    recipe = replace(RECIPE, **changes)
    for command in (model, judged):
        with pytest.raises(ValueError, match=f"the recipe is for {recipe.dataset}, size .*; these are {images}: load"):
            command(recipe)
    assert not trainings and not (folders / "models").exists()


@pytest.mark.parametrize(
    "changes", [dict(size=8, limit=16), dict(limit=100), dict(dataset="folder:some/where/flowers")]
)
def test_images_that_fit_the_recipe_are_taken(changes):
    name = "folder:flowers" if "dataset" in changes else "toy"
    recipe = replace(RECIPE, epochs=1, **changes)
    assert not results.model(recipe, replace(toy(), name=name), progress=False).training


def test_a_training_that_was_stopped_is_taken_up(folders, monkeypatch):
    whole = training.fit(RECIPE, toy(), progress=False)[0]
    save = training.State.save

    def save_and_stop(state, path, *, key):
        save(state, path, key=key)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.State, "save", save_and_stop)
        model()
    assert [p.suffix for p in sorted((folders / "models").iterdir())] == [".checkpoint", ".lock"]
    steps = counted(monkeypatch, training, "train_step")
    assert same(model(), whole) and len(steps) == 2  # of 4
    assert not list((folders / "models").glob("*.checkpoint"))


def test_the_record_of_a_training():
    model()
    record = results.training_record(RECIPE, toy())
    assert len(record["history"]) == 2 and record["steps"] == 4 and record["seconds"] > 0
    assert record["recipe"] == json.loads(json.dumps(training.asdict(RECIPE)))
    assert record["data"]["fingerprint"] == toy().fingerprint and record["data"]["images"] == 16
    assert record["machine"]["torch"] == torch.__version__


def test_a_damaged_model_is_named():
    model()
    path = results.model_path(RECIPE, toy())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"\.safetensors is damaged \(.*\); delete it and run again") as error:
        model()
    assert str(path) in str(error.value)


def test_weights_of_another_architecture_are_named(monkeypatch):
    model()
    other = replace(RECIPE, arch="rar-resnet-1")
    path = results.model_path(other, toy())
    shutil.copy(results.model_path(RECIPE, toy()), path)
    trainings = counted(monkeypatch, training, "fit")
    with pytest.raises(ValueError, match="holds other weights than rar-resnet-1; delete it and run again") as error:
        model(other)
    assert str(path) in str(error.value) and not trainings


def test_a_model_that_was_not_trained_has_no_record():
    with pytest.raises(FileNotFoundError, match=results.model_path(RECIPE, toy()).name):
        results.training_record(RECIPE, toy())


def test_a_models_folder_that_cannot_be_written_is_found_before_training(folders, monkeypatch):
    (folders / "file").write_text("")
    monkeypatch.setattr(results, "MODELS", folders / "file" / "models")
    trainings = counted(monkeypatch, training, "fit")
    with pytest.raises(PermissionError, match="cannot write .*; set ARTLIB_MODELS to a folder that can be"):
        model()
    assert not trainings


SHARED = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
torch.set_num_threads(1)
from artlib import results, training
from test_results import RECIPE, toy

fit = training.fit

def told(*args, **options):
    print("trained", flush=True)
    time.sleep(0.5)  # the other process comes to the lock meanwhile
    return fit(*args, **options)

training.fit = told
Path({here!r}, sys.argv[1]).touch()
while len(list(Path({here!r}).iterdir())) < 2:
    time.sleep(0.01)
net = results.model(RECIPE, toy(), progress=False)
print(sum(p.double().sum().item() for p in net.parameters()))
"""


def test_two_processes_train_one_model(folders):
    here = folders / "ready"
    here.mkdir()
    code = SHARED.format(tests=str(Path(__file__).parent), here=str(here))
    environment = os.environ | {"ARTLIB_MODELS": str(folders / "models")}
    options = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    both = [subprocess.Popen([sys.executable, "-c", code, name], **options) for name in "ab"]
    found = [child.communicate(timeout=120) for child in both]
    assert [child.returncode for child in both] == [0, 0], found
    (path,) = (folders / "models").glob("*.safetensors")
    first, second = (out.splitlines() for out, _ in found)
    said = {first[0], second[0]}
    assert said == {"trained", f"waiting for another process that makes {path.name}"}
    assert first[1:] == second[1:] and len(first) == 2  # the sum of the weights


# ------------------------------------------------------------------ evaluations


def test_an_evaluation_is_made_once_for_its_model_settings_images_and_code(monkeypatch):
    judgements = counted(monkeypatch, evaluation, "judge")
    first = judged()
    assert judged() == first and len(judgements) == 1
    assert {"attribution", "accuracy", "seconds", "machine"} == set(first)
    judged(e=replace(QUICK, seed=1))
    assert len(judgements) == 2
    judged(test=toy("test").subset(range(12)))
    assert len(judgements) == 3
    judged(replace(RECIPE, seed=1))
    assert len(judgements) == 4
    monkeypatch.setattr(results, "code_digest", lambda: "other code")
    again = judged()
    assert len(judgements) == 5
    assert (again["attribution"], again["accuracy"]) == (first["attribution"], first["accuracy"])


def test_an_evaluation_rounds_no_products_whatever_the_training_did(monkeypatch):
    settings, judge = [], evaluation.judge

    def spy(*args, **options):
        settings.append((torch.is_autocast_enabled("cpu"), torch.backends.cudnn.conv.fp32_precision))
        return judge(*args, **options)

    monkeypatch.setattr(evaluation, "judge", spy)
    before = torch.backends.cudnn.conv.fp32_precision
    judged(replace(RECIPE, precision="bf16"))
    assert settings == [(False, "ieee")] and torch.backends.cudnn.conv.fp32_precision == before != "ieee"


def test_the_code_digest_follows_every_module_that_an_evaluation_imports(folders, monkeypatch):
    """`data` is left out: the images themselves are in the fingerprint."""
    source, code = Path(results.__file__).parent, folders / "code"
    shutil.copytree(source, code, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(results, "__file__", str(code / "results.py"))
    digest = results.code_digest.__wrapped__
    whole, followed = digest(), set()
    for path in code.glob("*.py"):
        text = path.read_text()
        path.write_text(text + "\n")
        followed |= {path.stem} if digest() != whole else set()
        path.write_text(text)
    assert digest() == whole
    needed, new = set(), {"evaluation"}
    while new:
        needed |= new
        names = [name for stem in new for name in test_project.imports(source / f"{stem}.py")]
        new = {name.split(".")[1] for name in names if name.startswith("artlib.")} - needed - {"data"}
    assert followed == needed


def test_a_record_is_read_from_its_file_and_nothing_else_is_left(folders):
    judged()
    files = sorted(p.name for p in (folders / "models").iterdir())
    assert [name.rsplit(".", 1)[1] for name in files] == ["json", "lock", "lock", "safetensors"]
    (path,) = (folders / "models").glob("*.json")
    path.write_text('{"read": 1}')
    assert judged() == {"read": 1}


# ------------------------------------------------------------------ files


TABLE = pd.DataFrame({"training": ["natural", "art"], "mean": [1 / 3, 92.9], "images": [8, 8], "kept": [None, 0.5]})


def test_a_recorded_run_is_read_or_there_is_none(folders):
    assert results.reference("table1-toy-paper-seed0") is None
    (folders / "reference").mkdir()
    TABLE.to_csv(folders / "reference" / "table1-toy-paper-seed0.csv", index=False)
    pd.testing.assert_frame_equal(results.reference("table1-toy-paper-seed0"), TABLE)


def test_the_origin_of_a_recorded_run():
    """Preset, the note on the training data or its name, 7 digits of the commit."""
    assert results.reference_origin("run") == "none recorded"
    train = {"name": "cifar10", "note": "1,000 of 50,000 images"}
    about = {"preset": "cpu", "data": [train, {"name": "x", "note": "y"}], "machine": {"commit": "0123456789" * 4}}
    results.write_text(results.REFERENCE / "run.json", json.dumps(about))
    assert results.reference_origin("run") == "cpu preset, 1,000 of 50,000 images, commit 0123456"
    about["data"][0]["note"] = ""
    results.write_text(results.REFERENCE / "run.json", json.dumps(about))
    assert results.reference_origin("run") == "cpu preset, cifar10, commit 0123456"


def test_a_table_is_saved_with_its_provenance(folders):
    options = dict(preset="smoke", notebook="01_table1")
    path = results.save_table(TABLE, "table1-toy", provenance={"b": [1.5], "a": {"seed": 0}}, **options)
    assert path == folders / "figures" / "smoke" / "01_table1" / "table1-toy.csv"
    assert sorted(p.name for p in path.parent.iterdir()) == ["table1-toy.csv", "table1-toy.json"]
    pd.testing.assert_frame_equal(pd.read_csv(path), TABLE, rtol=0, atol=1e-6)
    assert json.loads(path.with_suffix(".json").read_text()) == {"a": {"seed": 0}, "b": [1.5]}
    before = path.read_bytes()
    results.save_table(TABLE, "table1-toy", provenance={}, **options)
    assert path.read_bytes() == before


def test_a_file_is_written_whole_or_not_at_all(folders, monkeypatch):
    path = folders / "a.csv"
    results.write_text(path, "old")

    def full(source, target):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(PermissionError, match=r"cannot write .*a\.csv: no space left"):
        patch.setattr(os, "replace", full)
        results.write_text(path, "new")
    assert path.read_text() == "old" and [p.name for p in folders.iterdir()] == ["a.csv"]
    (folders / "file").write_text("")
    with pytest.raises(PermissionError, match="cannot write"):
        results.write_text(folders / "file" / "figures" / "a.csv", "new")


def test_provenance_says_where_a_table_comes_from():
    recipes = {"natural": RECIPE, "pgd": replace(RECIPE, training="pgd", pgd_steps=1, seed=4)}
    records = {name: judged(r) for name, r in recipes.items()}
    about = results.provenance("smoke", "paper", [toy(), toy("test")], QUICK, recipes, records, device="cpu")
    results.write_text(results.REFERENCE / "run.json", json.dumps(about))
    assert results.reference_origin("run") == f"smoke preset, drawn, commit {results.commit()[:7]}"
    about = json.loads(json.dumps(about))
    assert (about["preset"], about["protocol"]) == ("smoke", "paper")
    train, test = about["data"]
    assert (train["name"], train["split"], test["split"], train["images"], train["size"]) == (
        "toy",
        "train",
        "test",
        16,
        8,
    )
    assert (train["fingerprint"], test["fingerprint"]) == (toy().fingerprint, toy("test").fingerprint)
    assert Evaluation(**about["evaluation"]) == QUICK  # number of images and seed among the settings
    assert [t["recipe"]["seed"] for t in about["trainings"].values()] == [0, 4]
    assert about["trainings"]["pgd"]["recipe"]["pgd_steps"] == 1
    machines = [
        about["machine"],
        *(t["machine"] for part in ("trainings", "evaluations") for t in about[part].values()),
    ]
    assert len(machines) == 5
    for m in machines:
        assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?|unknown", m["commit"])
        assert m["torch"] == torch.__version__ and m["python"] == ".".join(map(str, sys.version_info[:3]))
        assert m["device"] == f"CPU {platform.machine()}" and m["threads"] == 1 and m["process_peak_memory_mib"] > 50
    assert all(t["seconds"] > 0 for part in ("trainings", "evaluations") for t in about[part].values())


def test_outside_a_checkout_the_commit_is_unknown(folders, monkeypatch):
    monkeypatch.setattr(results, "ROOT", folders)
    assert results.commit.__wrapped__() == "unknown"


def test_the_commit_of_a_project_around_an_installed_copy_is_not_ours(folders, monkeypatch):
    around = ["git", "-C", str(folders), "-c", "user.name=a", "-c", "user.email=a@b"]
    (folders / "site-packages").mkdir()
    subprocess.run(["git", "init", "-q", str(folders)], check=True)
    subprocess.run([*around, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    monkeypatch.setattr(results, "ROOT", folders / "site-packages")
    assert results.commit.__wrapped__() == "unknown"
    monkeypatch.setattr(results, "ROOT", folders)
    assert re.fullmatch(r"[0-9a-f]{40}", results.commit.__wrapped__())


def test_commit_and_code_are_asked_for_at_import():
    """Later the files may be others than those that run."""
    code = "from artlib import results as r; print(r.commit.cache_info().currsize, r.code_digest.cache_info().currsize)"
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert child.stdout.split() == ["1", "1"]
