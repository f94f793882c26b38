"""A model is trained once, a measurement made once, and a table says where its numbers come from."""

import copy
import hashlib
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from artlib import files, presets, provenance, results, trainings
from artlib.data import ImageSet
from artlib.measurements import Accuracy, AttributionRobustness, Measurement, Metric
from artlib.paths import ROOT, slug
from artlib.settings import Whole
from artlib.trainings import Pgd, Recipe
from artlib.trainings.checkpoint import State

fitting = sys.modules[trainings.fit.__module__]  # the module, whose name the function has

RECIPE = Recipe(dataset="toy", arch="wrn-10-1", epochs=2, batch_size=8, lr=0.05, milestones=(), precision="float64")
QUICK = AttributionRobustness(images=3, k=10, steps=2, ig_steps=2, attack_ig_steps=2)
ACCURACY = Accuracy(images=8, steps=2)


@dataclass(frozen=True)
class Mean(Measurement):
    """The mean logit, a measurement that costs nothing."""

    name, title = "mean", "Mean logit"
    metrics = {"mean_logit": Metric("mean", bounds=(-100.0, 100.0), paired=True)}
    extra: Whole = 0

    def __call__(self, model, images, *, progress=True):
        with torch.no_grad():
            logits = model(images.images.double() / 255)
        return {"index": torch.arange(len(images)), "mean_logit": logits.mean(1)}


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
    monkeypatch.setattr(results, "RECORDED", tmp_path / "reference" / "models")
    results._say_once.cache_clear()
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


def measured(subject: Recipe | nn.Module = RECIPE, m: Measurement = QUICK, **options) -> dict:
    options = dict(train=toy(), test=toy("test"), progress=False) | options
    return results.measured(subject, m, **options)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(v, w) and v.dtype == w.dtype for v, w in pairs)


# ------------------------------------------------------------------ models


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_model_is_trained_once_and_then_loaded(precision, folders, monkeypatch):
    fits = counted(monkeypatch, trainings, "fit")
    recipe = replace(RECIPE, precision=precision, training=Pgd(steps=1))
    first, second = model(recipe), model(recipe)
    assert len(fits) == 1 and same(first, second)
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
    fits = counted(monkeypatch, trainings, "fit")
    recipe = replace(RECIPE, **changes)
    for command in (model, measured):
        with pytest.raises(ValueError, match=f"the recipe is for {recipe.dataset}, size .*; these are {images}: load"):
            command(recipe)
    assert not fits and not (folders / "models").exists()


@pytest.mark.parametrize(
    "changes", [dict(size=8, limit=16), dict(limit=100), dict(dataset="folder:some/where/flowers")]
)
def test_images_that_fit_the_recipe_are_taken(changes):
    name = "folder:flowers" if "dataset" in changes else "toy"
    recipe = replace(RECIPE, epochs=1, **changes)
    assert not results.model(recipe, replace(toy(), name=name), progress=False).training


def test_a_training_that_was_stopped_is_taken_up(folders, monkeypatch):
    whole = trainings.fit(RECIPE, toy(), progress=False)[0]
    save = State.save

    def save_and_stop(state, path, **options):
        save(state, path, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(State, "save", save_and_stop)
        model()
    assert [p.suffix for p in sorted((folders / "models").iterdir())] == [".checkpoint", ".lock"]
    steps = counted(monkeypatch, fitting, "train_step")
    assert same(model(), whole) and len(steps) == 2  # of 4
    assert not list((folders / "models").glob("*.checkpoint"))


def test_the_record_of_a_training():
    model()
    record = results.training_record(RECIPE, toy())
    assert len(record["history"]) == 2 and record["steps"] == 4 and record["seconds"] > 0
    assert record["recipe"] == json.loads(json.dumps(RECIPE.plain()))
    assert record["data"]["fingerprint"] == toy().fingerprint and record["data"]["images"] == 16
    assert record["machine"]["torch"] == torch.__version__


def test_a_damaged_model_is_named():
    model()
    path = results.model_path(RECIPE, toy())
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"\.safetensors is damaged \(.*\); delete it and run again") as error:
        model()
    assert str(path) in str(error.value)


def test_the_model_of_another_recipe_under_this_name_is_named(monkeypatch):
    """A file copied over another's name: of the same network it would load without a word."""
    model()
    for other in (replace(RECIPE, seed=1), replace(RECIPE, arch="rar-resnet-1")):
        path = results.model_path(other, toy())
        shutil.copy(results.model_path(RECIPE, toy()), path)
        fits = counted(monkeypatch, trainings, "fit")
        with pytest.raises(ValueError, match="holds the model of another recipe or of other images; delete") as error:
            model(other)
        assert str(path) in str(error.value) and not fits


def rewritten(change) -> Path:
    """The file of the model, its tensors changed, with a digest that fits."""
    path = results.model_path(RECIPE, toy())
    tensors, metadata = files.read_tensors(path)
    files.write_tensors(path, change(tensors), metadata)
    return path


def test_weights_of_another_network_and_values_that_are_not_finite_are_named():
    first = next(iter(model().state_dict()))
    whole = files.read_tensors(results.model_path(RECIPE, toy()))[0]
    for change, message in (
        (lambda t: {k: v * torch.nan if v.is_floating_point() else v for k, v in t.items()}, "values that are not fin"),
        (lambda t: whole | {first: whole[first] / 0}, f"values that are not finite, in {first}"),
        (lambda t: {k: v for k, v in whole.items() if k != first}, "other weights than wrn-10-1"),
        (lambda t: whole | {"more": torch.zeros(1)}, "other weights than wrn-10-1"),
        (lambda t: whole | {first: torch.zeros(2, 2)}, "other weights than wrn-10-1"),
    ):
        path = rewritten(change)
        with pytest.raises(ValueError, match=message) as error:
            model()
        assert str(path) in str(error.value) and "delete it and run again" in str(error.value)


@pytest.mark.parametrize("record", ["", "{", "[]", "{}", '{"code": 1}', '{"code": 1, "history": [], "machine": []}'])
def test_a_record_that_cannot_be_read_is_named(record):
    model()
    path = results.model_path(RECIPE, toy())
    tensors, metadata = files.read_tensors(path)
    files.write_tensors(path, tensors, metadata | {"record": record})
    for read in (model, lambda: results.training_record(RECIPE, toy())):
        with pytest.raises(ValueError, match="is damaged .its record cannot be read.; delete it") as error:
            read()
        assert str(path) in str(error.value)


def test_a_flipped_bit_anywhere_in_a_model_is_found():
    """300 places, a third of them in the header: other weights are never loaded, and every error names the file."""
    whole, path = model(), results.model_path(RECIPE, toy())
    content, draw = path.read_bytes(), random.Random(0)
    header = 8 + int.from_bytes(content[:8], "little")
    loaded = 0
    for i in range(300):
        place = draw.randrange(header) if i % 3 == 0 else draw.randrange(header, len(content))
        damaged = bytearray(content)
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            found = model()
        except ValueError as error:
            assert str(path) in str(error), place
        else:  # a digit of the history, a letter of a name of the machine
            loaded += 1
            assert place < header and same(found, whole), place
    assert loaded < 100


def test_old_weights_that_meet_new_code_are_served_and_one_line_says_so(monkeypatch, capsys):
    first = model()
    model()
    assert capsys.readouterr().out == ""
    fits = counted(monkeypatch, trainings, "fit")
    monkeypatch.setattr(results, "training_code", lambda recipe: "other code")
    assert same(model(), first) and same(model(), first) and not fits
    path = results.model_path(RECIPE, toy())
    said = f"{path.name}: trained by other code (commit {provenance.commit()[:7]}); delete it to renew"
    assert capsys.readouterr().out.splitlines() == [said]


@pytest.fixture
def read_only(monkeypatch):
    """A folder in which nothing can be written; permissions do not bind whoever tests as root."""

    def refuse(path, *args, **options):
        raise PermissionError(f"cannot write {path}")

    def close():
        monkeypatch.setattr(files, "only_one", refuse)
        monkeypatch.setattr(files, "write", refuse)

    return close


def test_a_models_folder_that_can_only_be_read_will_do_when_it_is_complete(read_only):
    first, record = model(), measured()
    read_only()
    assert same(model(), first) and measured() == record
    assert results.training_record(RECIPE, toy())["steps"] == 4
    for missing in (lambda: model(replace(RECIPE, seed=1)), lambda: measured(m=ACCURACY)):
        with pytest.raises(PermissionError, match="cannot write"):
            missing()


def test_recorded_models_and_measurements_are_looked_in_first(folders, monkeypatch, read_only):
    first, record = model(), measured()
    shutil.copytree(results.MODELS, results.RECORDED)
    monkeypatch.setattr(results, "MODELS", folders / "elsewhere")
    read_only()
    fits = counted(monkeypatch, trainings, "fit")
    assert same(model(), first) and measured() == record and not fits
    assert results.model_path(RECIPE, toy()).parent == results.RECORDED
    assert results.model_path(replace(RECIPE, seed=1), toy()).parent == folders / "elsewhere"
    assert not (folders / "elsewhere").exists()


def test_a_model_that_was_not_trained_has_no_record():
    with pytest.raises(FileNotFoundError, match=results.model_path(RECIPE, toy()).name):
        results.training_record(RECIPE, toy())


def test_a_models_folder_that_cannot_be_written_is_found_before_training(folders, monkeypatch):
    (folders / "file").write_text("")
    monkeypatch.setattr(results, "MODELS", folders / "file" / "models")
    fits = counted(monkeypatch, trainings, "fit")
    with pytest.raises(PermissionError, match="cannot write .*; set ARTLIB_MODELS or ARTLIB_FIGURES to a folder"):
        model()
    assert not fits


SHARED = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
torch.set_num_threads(1)
from artlib import results, trainings
from test_results import RECIPE, toy

fit = trainings.fit

def told(*args, **options):
    print("trained", flush=True)
    time.sleep(0.5)  # the other process comes to the lock meanwhile
    return fit(*args, **options)

trainings.fit = told
Path({here!r}, sys.argv[1]).touch()
while len(list(Path({here!r}).iterdir())) < 2:
    time.sleep(0.01)
net = results.model(RECIPE, toy())
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
    assert first[-1] == second[-1] and float(first[-1])  # the sum of the weights; progress is in between


# ------------------------------------------------------------------ measurements


@pytest.mark.parametrize("m", [QUICK, ACCURACY], ids=lambda m: m.name)
def test_a_measurement_is_made_once_for_its_model_settings_images_and_code(m, monkeypatch):
    calls = counted(monkeypatch, type(m), "__call__")
    first = measured(m=m)
    assert measured(m=m) == first and len(calls) == 1
    assert {"values", "seconds", "machine", "measurement", "weights", "test"} == set(first)
    measured(m=replace(m, seed=1))
    assert len(calls) == 2
    measured(m=m, test=toy("test").subset(range(12)))
    assert len(calls) == 3
    measured(replace(RECIPE, seed=1), m)
    assert len(calls) == 4
    monkeypatch.setattr(results, "code_digest", lambda *parts: "other code")
    assert measured(m=m)["values"] == first["values"] and len(calls) == 5


def test_what_a_models_file_is_said_to_be(monkeypatch):
    images = toy()
    results.model(RECIPE, images, progress=False)
    path = results.model_path(RECIPE, images)
    assert results.state(path).startswith("commit ") and "stale" not in results.state(path)
    monkeypatch.setattr(results.trainings, "TRAININGS", {})
    assert results.state(path) == "stale: its training is not listed any more"
    assert not results.named(path)


def test_a_model_is_named_by_a_presets_recipe_until_that_changes(monkeypatch):
    images = presets.images("smoke", "train", dataset="blossoms")
    recipe = presets.recipe("smoke", "natural", dataset="blossoms")
    for one in (recipe, replace(recipe, epochs=2)):
        results.model(one, images, progress=False)
        assert results.named(results.model_path(one, images)) == (one is recipe)
    monkeypatch.setitem(presets.RECIPES["smoke"], "lr", 0.04)
    assert not results.named(results.model_path(recipe, images))


def test_a_measurement_runs_through_the_code_of_its_parts(monkeypatch):
    asked = counted(monkeypatch, results, "code_digest")
    measured()
    assert (QUICK, *QUICK.parts) in asked and len(QUICK.parts) == 3


def test_a_measurement_rounds_no_products_whatever_the_training_did(monkeypatch):
    settings, call = [], Accuracy.__call__

    def spy(*args, **options):
        settings.append((torch.is_autocast_enabled("cpu"), torch.backends.cudnn.conv.fp32_precision))
        return call(*args, **options)

    monkeypatch.setattr(Accuracy, "__call__", spy)
    before = torch.backends.cudnn.conv.fp32_precision
    measured(replace(RECIPE, precision="bf16"), ACCURACY)
    assert settings == [(False, "ieee")] and torch.backends.cudnn.conv.fp32_precision == before != "ieee"


def stored(m: Measurement = QUICK) -> Path:
    measured(m=m)
    (path,) = results.MODELS.glob(f"*.{m.name}.*.json")
    return path


def test_a_measurement_is_read_from_its_file_and_nothing_else_is_left(folders):
    path = stored()
    names = sorted(p.name for p in (folders / "models").iterdir())
    assert [name.rsplit(".", 1)[1] for name in names] == ["json", "lock", "lock", "safetensors"]
    assert path.name.startswith(results.model_path(RECIPE, toy()).stem)
    record = json.loads(path.read_text())
    assert record["measurement"] == json.loads(json.dumps(QUICK.plain()))
    assert record["weights"] == files.tensors_digest(model().state_dict())[:12]
    path.write_text(json.dumps(record | {"seconds": -1}))
    assert measured()["seconds"] == -1


def returning(monkeypatch, *logits: float) -> None:
    column = torch.tensor([*logits, *[1.0] * (16 - len(logits))])
    monkeypatch.setattr(Mean, "__call__", lambda *args, **options: {"index": torch.arange(16), "mean_logit": column})


def test_a_value_that_is_missing_is_null(monkeypatch):
    """Strict JSON has no NaN."""
    returning(monkeypatch, 2.0, float("nan"))
    for _ in range(2):
        assert measured(m=Mean())["values"]["mean_logit"][:3] == [2.0, None, 1.0]


@pytest.mark.parametrize("value", [101.0, float("inf")])
def test_a_value_that_cannot_be_is_not_stored(value, monkeypatch):
    returning(monkeypatch, value)
    with pytest.raises(ValueError, match=r"Mean\(.*\) returned other columns than it says, or values outside"):
        measured(m=Mean())
    assert not list(results.MODELS.glob("*.json"))


def spoilt(record: dict, **columns) -> dict:
    return record | {"values": record["values"] | columns}


SPOILT = {
    "other weights": lambda r: r | {"weights": "0" * 12},
    "no weights": lambda r: {k: v for k, v in r.items() if k != "weights"},
    "no values": lambda r: {k: v for k, v in r.items() if k != "values"},
    "a list": lambda r: [r],
    "nothing": lambda r: None,
    "values as text": lambda r: r | {"values": "none"},
    "a column less": lambda r: r | {"values": {k: v for k, v in r["values"].items() if k != "natural"}},
    "no index": lambda r: r | {"values": {k: v for k, v in r["values"].items() if k != "index"}},
    "a column cut": lambda r: spoilt(r, natural=r["values"]["natural"][:-1]),
    "all columns cut": lambda r: r | {"values": {k: v[:-1] for k, v in r["values"].items()}},
    "empty": lambda r: r | {"values": {k: [] for k in r["values"]}},
    "above 1": lambda r: spoilt(r, natural=[2, *r["values"]["natural"][1:]]),
    "below 0": lambda r: spoilt(r, adversarial=[-0.5, *r["values"]["adversarial"][1:]]),
    "text": lambda r: spoilt(r, natural=["1", *r["values"]["natural"][1:]]),
    "NaN": lambda r: spoilt(r, natural=[float("nan"), *r["values"]["natural"][1:]]),
    "an image that is not there": lambda r: spoilt(r, index=[16, *r["values"]["index"][1:]]),
    "an image twice": lambda r: spoilt(r, index=[r["values"]["index"][1], *r["values"]["index"][1:]]),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_stored_measurement_that_cannot_be_is_named(spoil):
    path = stored(ACCURACY)
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match="does not hold this measurement of this model; delete it") as error:
        measured(m=ACCURACY)
    assert str(path) in str(error.value)


def test_more_images_than_were_asked_for_are_named():
    path = stored()
    record = json.loads(path.read_text())
    values = {k: v * 2 for k, v in record["values"].items()} | {"index": list(range(6))}
    path.write_text(json.dumps(record | {"values": values}))
    with pytest.raises(ValueError, match="does not hold this measurement"):
        measured()


def test_a_measurement_that_is_cut_short_is_named():
    path = stored()
    whole = path.read_bytes()
    for content in (b"", whole[:1], whole[: len(whole) // 2], whole[:-1], b"\xff" + whole[1:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"\.json is damaged \(.*\); delete it and run again") as error:
            measured()
        assert str(path) in str(error.value)


def own() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2)).double()


def test_any_model_can_be_measured_and_is_known_by_its_weights(monkeypatch):
    calls, net = counted(monkeypatch, Mean, "__call__"), own()
    first = measured(net, Mean(), train=None)
    assert measured(copy.deepcopy(net), Mean(), train=None) == first and len(calls) == 1
    assert next(results.MODELS.iterdir()).name.startswith("Sequential.mean.")
    with torch.no_grad():
        net[1].weight[0, 0] += 1e-9
    changed = measured(net, Mean(), train=None)
    assert len(calls) == 2 and changed["weights"] != first["weights"]
    measured(nn.Sequential(nn.Flatten(), nn.ReLU(), net[1]), Mean(), train=None)
    assert len(calls) == 3  # the same weights in another network
    measured(net, Mean(), train=None, name="mine")
    assert list(results.MODELS.glob("mine.mean.*.json"))


def test_a_new_field_with_a_default_orphans_no_measurement(monkeypatch):
    """The key is made of what differs from the defaults."""
    monkeypatch.setattr(results, "code_digest", lambda *parts: "code")
    monkeypatch.setattr(results, "own_code", lambda *parts: "")
    path = stored(Mean())

    @dataclass(frozen=True)
    class Wider(Mean):
        further: Whole = 3

    Wider.__qualname__ = Mean.__qualname__
    calls = counted(monkeypatch, Mean, "__call__")
    measured(m=Wider())
    assert not calls and list(results.MODELS.glob("*.mean.*.json")) == [path]
    measured(m=Wider(further=4))
    assert len(calls) == 1


def test_a_models_folder_that_is_not_there_is_made(folders):
    assert not results.MODELS.exists()
    measured(own(), Mean(), train=None)
    assert results.MODELS.exists()


# ------------------------------------------------------------------ tables


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
    files.write_text(results.REFERENCE / "run.json", json.dumps(about))
    assert results.reference_origin("run") == "cpu preset, 1,000 of 50,000 images, commit 0123456"
    about["data"][0]["note"] = ""
    files.write_text(results.REFERENCE / "run.json", json.dumps(about))
    assert results.reference_origin("run") == "cpu preset, cifar10, commit 0123456"


def saved(name: str = "table1-toy", *, table: pd.DataFrame = TABLE, **provenance) -> Path:
    return results.save_table(table, name, preset="smoke", notebook="01_table1", provenance=provenance)


def test_a_table_is_saved_with_its_provenance(folders):
    path = saved(b=[1.5], a={"seed": 0})
    assert path == folders / "figures" / "smoke" / "01_table1" / "table1-toy.csv"
    assert sorted(p.name for p in path.parent.iterdir()) == ["table1-toy.csv", "table1-toy.json"]
    pd.testing.assert_frame_equal(pd.read_csv(path), TABLE, rtol=0, atol=1e-6)
    about = json.loads(path.with_suffix(".json").read_text())
    assert about.pop("table") == hashlib.sha256(path.read_bytes()).hexdigest()
    assert about == {"a": {"seed": 0}, "b": [1.5]}
    before = path.read_bytes()
    assert saved().read_bytes() == before


def recorded(path: Path) -> pd.DataFrame | None:
    results.REFERENCE.mkdir(exist_ok=True)
    for file in (path, path.with_suffix(".json")):
        shutil.copy(file, results.REFERENCE)
    return results.reference(path.stem)


def test_a_table_and_the_provenance_of_another_run_are_noticed(monkeypatch):
    """A run that is killed between its two files, or whose second one does not fit on the disk."""
    path = saved(run=1)
    pd.testing.assert_frame_equal(recorded(path), TABLE, rtol=0, atol=1e-6)
    write = files.write_text

    def full(path, text):
        if path.suffix == ".csv":
            raise PermissionError("no space left on device")
        write(path, text)

    with monkeypatch.context() as patch, pytest.raises(PermissionError, match="no space"):
        patch.setattr(files, "write_text", full)
        saved(run=2, table=TABLE.assign(mean=0.0))
    with pytest.raises(ValueError, match=r"table1-toy\.csv and its \.json are of different runs; record both again"):
        recorded(path)
    saved(run=2, table=TABLE.assign(mean=0.0))
    assert recorded(path)["mean"].tolist() == [0, 0]


def test_provenance_says_where_a_table_comes_from():
    recipes = {"natural": RECIPE, "pgd": replace(RECIPE, training=Pgd(steps=1), seed=4)}
    asked = {m.name: m for m in (QUICK, ACCURACY)}
    records = {name: {k: measured(r, m) for k, m in asked.items()} for name, r in recipes.items()}
    about = results.provenance("smoke", "paper", (toy(), toy("test")), asked, recipes, records, device="cpu")
    files.write_text(results.REFERENCE / "run.json", json.dumps(about))
    assert results.reference_origin("run") == f"smoke preset, drawn, commit {provenance.commit()[:7]}"
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
    assert about["measurements"] == json.loads(json.dumps({k: m.plain() for k, m in asked.items()}))
    assert [t["recipe"]["seed"] for t in about["trainings"].values()] == [0, 4]
    assert about["trainings"]["pgd"]["recipe"]["training"]["steps"] == 1
    parts = [*about["trainings"].values(), *(m for row in about["measured"].values() for m in row.values())]
    machines = [about["machine"], *(part["machine"] for part in parts)]
    assert len(machines) == 7
    for m in machines:
        assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?|unknown", m["commit"])
        assert m["torch"] == torch.__version__ and m["python"] == ".".join(map(str, sys.version_info[:3]))
        assert m["device"] == f"CPU {platform.machine()}" and m["threads"] == 1 and m["process_peak_memory_mib"] > 50
    assert all(part["seconds"] > 0 for part in parts)
    weights = {name: files.tensors_digest(model(r).state_dict())[:12] for name, r in recipes.items()}
    assert {row: {m["weights"] for m in each.values()} for row, each in about["measured"].items()} == {
        name: {w} for name, w in weights.items()
    }


def test_a_recorded_training_is_known_with_its_weights_and_without(folders):
    net, record = model(RECIPE), results.training_record(RECIPE, toy())
    path = results.model_path(RECIPE, toy())
    shutil.copytree(results.MODELS, results.RECORDED)
    assert results.recorded_training(path.stem) == record
    (results.RECORDED / path.name).unlink()
    (results.RECORDED / f"{path.stem}.training.json").write_text(json.dumps(record))
    assert results.recorded_training(path.stem) == record
    assert files.tensors_digest(model(RECIPE).state_dict()) == files.tensors_digest(net.state_dict())


def test_commit_and_code_are_asked_for_at_import():
    """Later the files may be others than those that run."""
    code = "from artlib import digest, provenance, results as r; print(provenance.commit.cache_info().currsize);"
    code += "before = digest._parsed.cache_info().misses; from artlib.trainings import TRAININGS, Recipe;"
    code += "from artlib.measurements import MEASUREMENTS; [digest.code_digest(m()) for m in MEASUREMENTS.values()];"
    code += "[r.training_code(Recipe(training=t())) for t in TRAININGS.values()];"
    code += "print(digest._parsed.cache_info().misses - before)"
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert child.stdout.split() == ["1", "0"]
