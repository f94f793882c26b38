"""A model is trained once, a record made once, and a table says where its numbers come from."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import test_project
import torch
from torch import nn

from artlib import evaluation, results, training
from artlib.attribution_attacks import Manipulated
from artlib.data import ImageSet
from artlib.evaluation import Evaluation
from artlib.training import Recipe

RECIPE = Recipe(dataset="toy", arch="wrn-10-1", epochs=2, batch_size=8, lr=0.05, milestones=(), dtype="float64")
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_is_trained_once_and_then_loaded(dtype, folders, monkeypatch):
    trainings = counted(monkeypatch, training, "fit")
    recipe = replace(RECIPE, dtype=dtype, training="pgd", pgd_steps=1)
    first, second = model(recipe), model(recipe)
    assert len(trainings) == 1 and same(first, second)
    x = toy().images.to(getattr(torch, dtype)) / 255
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
    assert path.parent == results.MODELS and path.name.startswith("folder_some_where_flowers-natural-")


def test_a_training_that_was_stopped_is_taken_up(folders, monkeypatch):
    whole = training.fit(RECIPE, toy(), progress=False)[0]
    save = training.State.save

    def save_and_stop(state, path):
        save(state, path)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.State, "save", save_and_stop)
        model()
    assert [p.suffix for p in sorted((folders / "models").iterdir())] == [".checkpoint", ".lock"]
    steps = counted(monkeypatch, training, "_update")
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
    words = [out.split() for out, _ in found]
    assert sorted(len(w) for w in words) == [1, 2]  # one trained, one did not
    assert words[0][-1] == words[1][-1]
    assert len(list((folders / "models").glob("*.safetensors"))) == 1


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


# ------------------------------------------------------------------ table 1


def record(attribution: list[float], accuracy: list[int], failed: tuple[int, ...] = ()) -> dict:
    status = ["no label-preserving step" if i in failed else "kept" for i in range(len(attribution))]
    maps = {"IN": attribution, "K": [v / 2 for v in attribution], "status": status}
    return {"attribution": maps, "accuracy": {"natural": accuracy, "adversarial": [0] * len(accuracy)}}


RECORDS = {
    "natural": record([0.2, 0.4, 1.0, 0.3, 1.0], [1, 1, 0, 1], failed=(2, 4)),
    "art": record([0.9, 0.7, 0.8], [1, 0, 0, 1]),
    "pgd": record([1.0, 1.0], [1, 1, 1, 1], failed=(0, 1)),
}


def test_table_1_has_a_row_per_training_and_metric():
    table = tables.table1(RECORDS, dataset="toy")
    assert list(zip(table["training"], table["metric"], strict=True)) == [
        (t, m) for t in RECORDS for m in ("IN", "K", "natural", "adversarial")
    ]
    assert set(table["dataset"]) == {"toy"}
    rows = table.set_index(["training", "metric"])
    for name, r in RECORDS.items():
        for metric, part in tables.METRICS.items():
            per_image = 100 * np.array(r[part][metric], dtype=float)
            row = rows.loc[(name, metric)]
            assert row["mean"] == pytest.approx(per_image.mean())
            assert row["images"] == len(per_image)
            assert per_image.min() <= row["low"] <= row["mean"] <= row["high"] <= per_image.max()


def test_failed_images_count_as_1_in_the_mean_and_not_in_kept():
    rows = tables.table1(RECORDS, dataset="toy").set_index(["training", "metric"])
    told = rows.loc[("natural", "IN")]
    assert told["mean"] == pytest.approx(58) and told["kept"] == pytest.approx(30) and told["failed"] == 2
    assert rows.loc[("natural", "K"), "kept"] == pytest.approx(15)
    assert rows.loc[("art", "IN"), "kept"] == pytest.approx(80) and rows.loc[("art", "IN"), "failed"] == 0
    nothing_left = rows.loc[("pgd", "IN")]
    assert nothing_left["mean"] == 100 and np.isnan(nothing_left["kept"]) and nothing_left["failed"] == 2
    accuracy = rows.xs("natural", level="metric")
    assert accuracy[["kept", "failed"]].isna().all(axis=None)


def test_the_interval_is_the_percentile_bootstrap():
    """NumPy's percentiles of 2000 means of draws with replacement."""
    per_image = 100 * np.array(RECORDS["natural"]["attribution"]["IN"])
    row = tables.table1(RECORDS, dataset="toy", seed=7).iloc[0]
    drawn = torch.randint(5, (2000, 5), generator=torch.Generator().manual_seed(7)).numpy()
    low, high = np.percentile(per_image[drawn].mean(1), [2.5, 97.5])
    assert (row["low"], row["high"]) == (pytest.approx(low), pytest.approx(high))
    theory = 1.96 * per_image.std() / 5**0.5
    assert (row["high"] - row["low"]) / 2 == pytest.approx(theory, rel=0.15)


def test_values_are_per_image_in_percent():
    assert tables.values({"art": RECORDS["art"]})["art"] == {
        "IN": pytest.approx([90, 70, 80]),
        "K": pytest.approx([45, 35, 40]),
        "natural": [100, 0, 0, 100],
        "adversarial": [0, 0, 0, 0],
    }


# ------------------------------------------------------------------ print


def printed(*values, decimals: int = 2) -> list[str]:
    return tables.tidy(pd.DataFrame({"v": list(values)}), decimals)["v"].tolist()


def test_the_last_bits_of_two_machines_print_alike():
    for value in (66.125, 0.005, 1.0, 0.0, 99.995, 12.34, -0.125):
        for digits in (2, 3):
            assert len(set(printed(value - 1e-12, value, value + 1e-12, decimals=digits))) == 1


def test_tidy_rounds_floats_and_leaves_the_rest():
    table = pd.DataFrame(
        {
            "text": ["a", None],
            "mean": [12.3456, np.nan],
            "images": [8, 9],
            "failed": [2.0, np.nan],
            "flag": [True, False],
        }
    )
    assert tables.tidy(table).values.tolist() == [["a", "12.35", "8", "2", "True"], ["", "", "9", "", "False"]]
    assert printed(1 / 3, 2.0, decimals=3) == ["0.333", "2.000"]
    assert table["mean"].tolist()[0] == 12.3456  # the table itself is as it was


def test_histories_and_summary_and_recipes():
    recipes = {"natural": RECIPE, "art": replace(RECIPE, training="art", augment="cifar10", lr=0.01)}
    for r in recipes.values():
        model(r)
    table = tables.histories(recipes, toy())
    assert list(table.index) == ["natural", "art"] and list(table) == ["loss", "attribution_loss", "accuracy"]
    last = results.training_record(recipes["art"], toy())["history"][-1]
    assert table.loc["art"].to_dict() == last and table.loc["natural", "attribution_loss"] == 0
    told = tables.summary([toy(), toy("test")])
    assert told["split"].tolist() == ["train", "test"] and told["classes"].tolist() == [2, 2]
    assert told["fingerprint"][0] == toy().fingerprint[:12] and told["note"].tolist() == ["drawn"] * 2
    fields = tables.compare_recipes(recipes)
    assert fields.loc["eps"].tolist() == ["", "8/255"] and fields.loc["step_size"].tolist() == ["", "1.5/255"]
    assert fields.loc["lr"].tolist() == [0.05, 0.01] and fields.loc["weight"].tolist() == ["", 0.5]
    assert fields.loc["attack_cosine_eps"].tolist() == ["", 0.0] and fields.loc["augment"].tolist() == ["", "cifar10"]
    assert "pgd_steps" in fields.index and set(fields.loc["pgd_steps"]) == {""}


class Says(nn.Module):
    """Predicts the class given for each image, told apart by its first pixel."""

    def __init__(self, answers: list[int]):
        super().__init__()
        self.answers = nn.Parameter(torch.tensor(answers).double())

    def forward(self, x):
        index = (255 * x[:, 0, 0, 0]).round().long()
        return nn.functional.one_hot(self.answers.detach()[index].long(), 3).double()


def test_the_first_image_that_all_classify_correctly():
    images = torch.zeros(5, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(5)
    images = ImageSet(images, torch.tensor([0, 1, 2, 0, 1]), ("a", "b", "c"))
    models = {"one": Says([1, 1, 2, 0, 0]), "two": Says([0, 0, 2, 0, 1])}
    x, y = evaluation.first_correct(models, images)
    assert y.tolist() == [2] and x.shape == (1, 1, 2, 2) and x.dtype == torch.float64
    assert 255 * x[0, 0, 0, 0].item() == pytest.approx(2)
    with pytest.raises(ValueError, match="none of 5 images is classified correctly by all of one, two, three"):
        evaluation.first_correct(models | {"three": Says([1, 2, 0, 1, 2])}, images)


def test_one_image():
    before, after = torch.tensor([[[4.0, 3.0], [2.0, 1.0]]]), torch.tensor([[[4.0, 2.0], [3.0, 1.0]]])
    x = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    found = Manipulated(x, before, after, torch.tensor([2 / 3]), torch.tensor([5]), torch.tensor([0]))
    row = tables.one_image({"art": Says([1, 0])}, {"art": found}, torch.tensor([1]), k=2).loc["art"]
    assert row["confidence after"] == pytest.approx(np.e / (np.e + 2))
    assert (row["status"], row["step kept"], row["IN"], row["K"]) == ("kept", 5, 0.5, pytest.approx(2 / 3))


def test_run_names():
    def name(dataset):
        return tables.run_name("table1", dataset=dataset, protocol="paper", seed=3)

    assert name("cifar10") == "table1-cifar10-paper-seed3"
    for folder in ("folder:some/where/flowers", "folder:some/where/flowers/", "folder:flowers", "folder:flowers/."):
        assert name(folder) == "table1-flowers-paper-seed3"
    assert "/" not in name("folder:.") and "." not in name("folder:.")


def test_a_seed_starts_a_generator():
    assert torch.equal(torch.rand(3, generator=results.seeded(4)), torch.rand(3, generator=results.seeded(4)))


# ------------------------------------------------------------------ files


@pytest.fixture
def reference(folders, monkeypatch):
    """The folder of recorded runs of a project of its own."""
    monkeypatch.setattr(results, "ROOT", folders)
    (folders / "figures" / "reference").mkdir(parents=True)
    return folders / "figures" / "reference"


def test_a_recorded_run_is_read_or_there_is_none(reference):
    assert results.reference("table1-toy-paper-seed0") is None
    assert results.recorded_figure("table1-toy-paper-seed0") is None
    table = tables.table1(RECORDS, dataset="toy")
    table.to_csv(reference / "table1-toy-paper-seed0.csv", index=False)
    pd.testing.assert_frame_equal(results.reference("table1-toy-paper-seed0"), table)


def test_the_overview_holds_recorded_runs_of_the_papers_protocol_and_blanks(reference):
    assert len(tables.overview("table1")) == 16 and "reference" not in tables.overview("table1")
    for protocol, better in (("paper", 0.0), ("authors", 30.0)):
        table = tables.table1(RECORDS, dataset="svhn").assign(mean=lambda t, b=better: t["mean"] + b)
        table.to_csv(reference / f"table1-svhn-{protocol}-seed0.csv", index=False)
    table.to_csv(reference / "table1-svhn-paper-seed0-claims.csv", index=False)
    told = tables.overview("table1")
    assert told.loc[("svhn", "natural"), ("reference", "IN")] == pytest.approx(58)
    assert told.loc[("svhn", "natural"), ("paper", "IN")] == 60.43
    assert told["reference"].loc["cifar10"].isna().all(axis=None)


def test_a_table_is_saved_with_its_provenance(folders):
    table = tables.table1(RECORDS, dataset="toy")
    options = dict(preset="smoke", notebook="01_table1")
    path = results.save_table(table, "table1-toy", provenance={"b": [1.5], "a": {"seed": 0}}, **options)
    assert path == folders / "figures" / "smoke" / "01_table1" / "table1-toy.csv"
    assert sorted(p.name for p in path.parent.iterdir()) == ["table1-toy.csv", "table1-toy.json"]
    pd.testing.assert_frame_equal(pd.read_csv(path), table, rtol=0, atol=1e-6)
    assert json.loads(path.with_suffix(".json").read_text()) == {"a": {"seed": 0}, "b": [1.5]}
    before = path.read_bytes()
    results.save_table(table, "table1-toy", provenance={}, **options)
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
        assert m["device"] == "CPU, 1 threads" and m["peak_memory_mib"] > 50
    assert all(t["seconds"] > 0 for part in ("trainings", "evaluations") for t in about[part].values())


def test_outside_a_checkout_the_commit_is_unknown(folders, monkeypatch):
    monkeypatch.setattr(results, "ROOT", folders)
    assert results.commit.__wrapped__() == "unknown"
