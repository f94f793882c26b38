"""The command line trains, finds and measures a model, and ends with one sentence when it cannot."""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace

import pytest
import torch

from artlib import costs, presets, results
from artlib.__main__ import COMMANDS, _parser, main
from artlib.measurements import MEASUREMENTS, Measurement, Metric
from artlib.paths import ROOT
from artlib.trainings import TRAININGS, Natural

SMOKE = ("--preset", "smoke", "--device", "cpu")


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "MODELS", tmp_path / "models")
    monkeypatch.setattr(results, "RECORDED", tmp_path / "recorded")
    return tmp_path / "models"


def lines(text: str) -> list[str]:
    return text.replace("\r", "\n").strip().splitlines()


def test_train_writes_a_model_and_ends_with_its_line(models, capsys):
    main(["train", *SMOKE, "--training", "natural", "--seed", "3"])
    out, err = capsys.readouterr()
    (path,) = models.glob("*.safetensors")
    recipe = presets.recipe("smoke", "natural", dataset="blossoms", seed=3)
    images = presets.images("smoke", "train", dataset="blossoms")
    assert path == results.model_path(recipe, images)
    last = results.training_record(recipe, images)["history"][-1]
    line = f"{path.name} loss {last['loss']:.3f} accuracy {last['accuracy']:.3f}"
    assert lines(out)[-1] == line and not err
    main(["train", *SMOKE, "--training", "natural", "--seed", "3"])
    assert lines(capsys.readouterr().out) == [line]  # found, not trained: nothing else is printed


def test_precision_and_parts_of_a_batch_change_the_recipe(models):
    main(["train", *SMOKE, "--training", "natural", "--precision", "float32", "--micro-batch", "8"])
    (path,) = models.glob("*.safetensors")
    recipe = presets.recipe("smoke", "natural", dataset="blossoms")
    images = presets.images("smoke", "train", dataset="blossoms")
    assert path == results.model_path(replace(recipe, precision="float32", micro_batch=8), images)


def test_judge_prints_the_row_of_table_1(models, capsys):
    command = ["judge", *SMOKE, "--training", "natural"]
    main(command)
    words = lines(capsys.readouterr().out)[-1].split()
    assert words[1::2] == ["IN", "K", "natural", "adversarial"]
    assert all(-100 <= float(value) <= 100 for value in words[2::2])
    assert len(list(models.glob("*.safetensors"))) == 1 and len(list(models.glob("*.json"))) == 2
    main(command)
    assert lines(capsys.readouterr().out) == [" ".join(words)]


def test_a_measurement_of_choice(models, capsys):
    main(["judge", *SMOKE, "--training", "natural", "--measurement", "accuracy"])
    assert lines(capsys.readouterr().out)[-1].split()[1::2] == ["natural", "adversarial"]
    (path,) = models.glob("*.json")
    assert ".accuracy." in path.name


@dataclass(frozen=True)
class Harder(Natural):
    name, title, color = "harder", "Harder", "#000000"


@dataclass(frozen=True)
class Speed(Measurement):
    name, title, metrics = "speed", "Speed", {"pace": Metric("pace", scale=1.0, bounds=(0.0, 9.0))}

    def __call__(self, model, images, *, progress=True):
        return {"index": torch.arange(2), "pace": torch.tensor([3.0, 4.0])}


def test_what_is_added_to_a_list_is_a_choice(monkeypatch, capsys):
    """A training and a measurement of tomorrow: nothing in the command line has to be told."""
    monkeypatch.setitem(TRAININGS, "harder", Harder)
    monkeypatch.setitem(MEASUREMENTS, "speed", Speed)
    monkeypatch.setattr(costs, "announcement", lambda preset, **named: f"{named['trainings']} {named['measurements']}")
    main(["judge", *SMOKE, "--training", "harder", "--measurement", "speed"])
    out = lines(capsys.readouterr().out)
    assert out[0] == "['harder'] ['speed']"
    assert out[-1].startswith("blossoms-harder-") and out[-1].endswith(" pace 3.500")


def test_a_checkpoint_of_edited_code_is_gone_on_with_when_told(monkeypatch):
    asked, make = [], results.model

    def spy(*args, edited, **options):
        asked.append(edited)
        return make(*args, edited=edited, **options)

    monkeypatch.setattr(results, "model", spy)
    for option in ((), ("--resume-edited",)):
        main(["train", *SMOKE, "--training", "natural", *option])
    assert asked == [False, True]


def test_a_damaged_model_is_one_sentence(models):
    main(["train", *SMOKE, "--training", "natural"])
    (path,) = models.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SystemExit, match=f"artlib: .*{path.name} is damaged"):
        main(["train", *SMOKE, "--training", "natural"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--dataset", "cifar11"), "unknown data set 'cifar11': choose one of blossoms, cifar10"),
        (("--dataset", "folder:no/such/folder"), "there is no folder no/such/folder"),
        (("--seed", "-1"), "seed is -1; it must be"),
        (("--micro-batch", "0"), "micro_batch is 0; it must be an integer, 1 or more"),
        (("--device", "tpu"), "device 'tpu' is not available here; choose 'auto' or 'cpu'"),
    ],
)
@pytest.mark.parametrize("command", ["train", "judge"])
def test_what_cannot_be_done_is_one_sentence(command, options, sentence, models, capsys):
    with pytest.raises(SystemExit) as error:
        main([command, *SMOKE, *options])
    message = error.value.code
    assert message.startswith(f"artlib: {sentence}") and "\n" not in message
    assert capsys.readouterr().out == "" and not models.exists()


def test_a_models_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(results, "MODELS", tmp_path / "file" / "models")
    with pytest.raises(
        SystemExit, match="artlib: cannot write .*set ARTLIB_MODELS or ARTLIB_FIGURES to a folder that can be"
    ):
        main(["train", *SMOKE])


@pytest.mark.parametrize(
    ("option", "value"),
    [("--preset", "fast"), ("--training", "fgsm"), ("--protocol", "code"), ("--measurement", "speed")],
)
def test_a_wrong_choice_names_the_choices(option, value, capsys):
    with pytest.raises(SystemExit) as error:
        main(["judge", option, value])
    assert error.value.code == 2
    last = lines(capsys.readouterr().err)[-1]
    assert value in last and "choose from" in last


def test_training_alone_measures_nothing(capsys):
    with pytest.raises(SystemExit) as error:
        main(["train", "--measurement", "accuracy"])
    assert error.value.code == 2 and "unrecognized arguments: --measurement" in capsys.readouterr().err


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("jugde", 2), (None, 2)])
def test_help_and_a_misspelt_command_load_no_torch(argument, status):
    code = "import sys\nfrom artlib.__main__ import main\ntry:\n    main(sys.argv[1:])\nfinally:\n"
    code += "    print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, *filter(None, [argument])]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == status and lines(child.stdout)[-1] == "False"
    assert all(name in child.stdout + child.stderr for name in COMMANDS)
    assert argument == "jugde" or all(
        command.told in " ".join(f"{child.stdout} {child.stderr}".split()) for command in COMMANDS.values()
    )


def test_a_command_is_the_first_to_import_the_library():
    """Whatever it imports first: `results` looks into every module loaded by then, the half-loaded ones, too."""
    command = [sys.executable, "-c", "from artlib.__main__ import main; main(['list'])"]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 0 and "attacks:         topk, lens, mass_center, random, targeted" in child.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches_with_examples_that_the_parser_takes(name, capsys):
    with pytest.raises(SystemExit) as error:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert error.value.code == 0 and COMMANDS[name].told[1:] in " ".join(shown.split()) and "None" not in shown
    examples = re.findall(r"^  python -m artlib (.*?)(?:   .*)?$", COMMANDS[name].examples, re.MULTILINE)
    assert examples
    for line in examples:
        assert line in shown
        assert _parser(name).parse_args(shlex.split(line)).command == name


def test_what_is_stopped_says_so(monkeypatch, capsys):
    def stopped(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(results, "model", stopped)
    with pytest.raises(SystemExit) as error:
        main(["train", *SMOKE])
    assert error.value.code == 130
    assert lines(capsys.readouterr().err) == [
        "artlib: stopped; what is done is kept, and the same command goes on from there"
    ]


def test_status_names_what_is_recorded_stored_and_unfinished(models, capsys, monkeypatch):
    main(["judge", *SMOKE, "--training", "natural", "--measurement", "accuracy"])
    (models / "half.checkpoint").write_bytes(b"")
    capsys.readouterr()
    main(["status"])
    out = capsys.readouterr().out
    (path,) = models.glob("*.safetensors")
    assert re.search(rf"^model     {re.escape(path.name)}: commit [0-9a-f]{{7}}, 0 minutes$", out, re.MULTILINE)
    assert "stopped   half.checkpoint" in out and f"measurements in {models}: 1" in out
    assert "recorded  table1-cifar10-paper-seed0+1: cpu preset" in out
    monkeypatch.setitem(presets.RECIPES["smoke"], "lr", 0.04)
    main(["status"])
    assert re.search(rf"^other     {re.escape(path.name)}: commit", capsys.readouterr().out, re.MULTILINE)


def test_the_exit_status_of_the_command():
    command = [sys.executable, "-m", "artlib", "train", *SMOKE, "--dataset", "cifar11"]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 1 and child.stdout == ""
    assert len(lines(child.stderr)) == 1 and child.stderr.startswith("artlib: unknown data set 'cifar11'")


def test_a_grid_trains_the_rows_that_are_named_and_writes_their_table(models, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(results, "FIGURES", tmp_path / "figures")
    rows = ["art held pixels 1.5", "art running pixels 1.5"]
    main(["grid", "factorial", *SMOKE, "--row", rows[0], "--row", rows[1]])
    *told, table, effects = lines(capsys.readouterr().out)
    assert [line.split(" IN ")[0] for line in told if " IN " in line] == rows
    assert table.endswith("smoke/grid-factorial/grid-factorial-blossoms-seed0.csv") and "-effects.csv" in effects
    assert len(list(models.glob("*.safetensors"))) == 2
    with pytest.raises(SystemExit, match="factorial has no row 'art'; it has natural, pgd held"):
        main(["grid", "factorial", *SMOKE, "--row", "art"])
