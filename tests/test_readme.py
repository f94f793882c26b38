"""What README shows can be run: its Python blocks, its commands, the targets it names."""

import re
import shlex

import pytest
import torch
import torchvision
import yaml
from PIL import Image

from artlib import models, presets, results
from artlib.__main__ import _parser
from artlib.paths import ROOT
from workflow import plan

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def blocks_with(word: str) -> str:
    (found,) = [block for block in BLOCKS if word in block]
    return found


def test_the_library_in_a_few_lines(capsys):
    """As it stands, but for a network that is there at once and fewer images."""
    training = 'results.model(presets.recipe("quick", "art", dataset="blossoms"), train)'
    block = blocks_with("attacks.ifia")
    assert training in block and 'presets.images("quick"' in block and '{"steps": 16}' in block
    for old, new in (
        (training, 'models.build("wrn-10-1", 10)'),
        ('presets.images("quick"', 'presets.images("smoke"'),
        ('"steps": 16', '"steps": 2'),
    ):
        block = block.replace(old, new)
    exec(block.replace("test.labels[:8]", "model(test.images[:8] / 255).argmax(1)"), {"models": models})
    statuses, *numbers = capsys.readouterr().out.strip().splitlines()
    assert statuses.count("kept") >= 1 and len(numbers) == 2 and "tensor" in numbers[0]


def test_your_own_network(tmp_path, monkeypatch, capsys):
    """As it stands, but for weights that are drawn and not fetched, and a smaller network and picture."""
    (tmp_path / "photographs").mkdir()
    for i in range(3):
        pixels = torch.randint(0, 256, (40, 40, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
        Image.fromarray(pixels.numpy()).save(tmp_path / "photographs" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "MODELS", tmp_path / "models")
    drawn = torchvision.models.squeezenet1_1
    monkeypatch.setattr(torchvision.models, "squeezenet1_1", lambda weights: drawn(weights=None, num_classes=5))
    block = blocks_with("audit.audit").replace(
        "size=224", "size=40, questions=audit.Questions(images=2, steps=1, ig_steps=2)"
    )
    exec(block, {})
    assert (tmp_path / "audit-of-squeezenet" / "report.html").exists()
    assert (tmp_path / "audit-of-squeezenet" / "report.json").exists() and "minute" in capsys.readouterr().out


COMMANDS = sorted(
    set(re.findall(r"-m artlib ((?:train|judge|grid|audit|estimate|download|list|status)\b[^`|\n]*)", TEXT))
)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_are_those_of_the_command_line(command):
    words = shlex.split(command)
    assert _parser(words[0]).parse_args(words).command == words[0]


def test_the_papermill_command_gives_a_notebook_parameters_that_it_takes():
    """Its notebook runs under nbval; here what the line gives it: names that it has, and values that are allowed."""
    (command,) = re.findall(r"\S*papermill (notebooks/.*?)\n\n", TEXT, re.DOTALL)
    notebook, out, *_ = shlex.split(command.replace("\\\n", " "))
    given = dict(re.findall(r"-p (\w+) (\w+)", command)) | yaml.safe_load(re.search(r"-y '(.*?)'", command)[1])
    known = plan.parameters(ROOT / notebook)
    assert out == "out.ipynb" and set(given) <= set(known)
    presets.check(**{name: value for name, value in (known | given).items() if value is not None})


def test_the_targets_are_those_of_the_makefile():
    known = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^    |`)make ([a-z]+)", TEXT, re.MULTILINE))
    assert {"reproduce", "test", "lab"} <= named <= known


def test_the_files_that_it_links_are_there():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if not link.startswith("http")]
    assert len(links) >= 4 and all((ROOT / link).exists() for link in links)
