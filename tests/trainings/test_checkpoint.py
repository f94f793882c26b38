"""A killed training ends with the weights of an unharmed one; what cannot be gone on with is named or put aside."""

import json
import math
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from toys import fitting, same, tiny, toy, train

from artlib import files, models
from artlib.settings import Positive
from artlib.trainings import Art, Batch, Losses, Natural, Training
from artlib.trainings.checkpoint import State
from artlib.trainings.training import cross_entropy


@dataclass(frozen=True)
class Judged(Training):
    """As JARN, in small: a second network tells input gradients from images, the first one must deceive it."""

    name, title, color = "judged", "Judged", "#000000"
    helpers: ClassVar[list[nn.Module]] = []
    weight: Positive = 1.0

    def helper(self, model: nn.Module, x: torch.Tensor):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            judge = nn.Sequential(nn.Conv2d(x.shape[1], 4, 3), nn.Softplus(), nn.Flatten(), nn.LazyLinear(1)).to(x)
            judge(x)
        self.helpers.append(judge)
        return judge, torch.optim.Adam(judge.parameters(), lr=0.01)

    def losses(self, batch: Batch) -> Losses:
        x = batch.x.detach().requires_grad_()
        with models.smooth(batch.model, 5.0):
            scores = F.cross_entropy(batch.model(x), batch.y)
        (g,) = torch.autograd.grad(scores, x, create_graph=True)
        false = batch.helper(g / g.detach().abs().amax())
        true = batch.helper(batch.x)
        loss, logits = cross_entropy(batch)
        deceived = F.softplus(-false).mean()
        helper = (F.softplus(false) + F.softplus(-true)).mean()
        return Losses(loss + self.weight * deceived, logits, {"deceived": deceived, "judged": helper}, helper)


RESUMED = {
    "natural": tiny(Natural(), epochs=3, augment="cifar10", dropout=0.3, precision="float32"),
    "art": tiny(Art(statistics="held"), epochs=3, nesterov=True),
    "adam": tiny(Natural(), epochs=3, optimizer="adam", lr=0.01, weight_decay=0.01, precision="float32"),
    "judged": tiny(Judged(), epochs=3),
    "judged adam": tiny(Judged(), epochs=3, optimizer="adam", lr=0.01),
}
KILLED = """
import os, signal, sys
sys.path[:0] = {tests!r}
import torch
torch.set_num_threads(1)
from pathlib import Path
from test_checkpoint import RESUMED, State, toy, train

save = State.save

def save_and_die(state, path, **about):
    save(state, path, **about)
    if state.step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

State.save = save_and_die
train(RESUMED[{name!r}], toy(), checkpoint=Path({path!r}), checkpoint_seconds=0)
"""


def steps_of(recipe, images, **options):
    """Model, record, and the steps that were made."""
    steps, update = [], fitting.train_step

    def counted(recipe, state, *args, **options):
        steps.append(state.step)
        update(recipe, state, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "train_step", counted)
        return *train(recipe, images, **options), steps


def stopped(recipe, images, path, *, at: int = 5) -> None:
    """A training that is interrupted after the checkpoint of step `at`."""
    save = State.save

    def save_and_stop(state, path, **about):
        save(state, path, **about)
        if state.step == at:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(State, "save", save_and_stop)
        train(recipe, images, checkpoint=path, checkpoint_seconds=0)


@pytest.mark.parametrize("name", ["natural", "art"])
def test_a_killed_training_ends_with_the_same_weights(name, tmp_path):
    """SIGKILL in the middle of the second of three epochs, 3 steps each; then the rest in this process."""
    path, recipe, here = tmp_path / "a.checkpoint", RESUMED[name], Path(__file__).parent
    code = KILLED.format(tests=[str(here), str(here.parent)], name=name, path=str(path))
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.checkpoint"]
    resumed, record, steps = steps_of(recipe, toy(), checkpoint=path)
    assert steps == [5, 6, 7, 8]
    whole, expected = train(recipe, toy())
    assert same(resumed, whole)
    assert record["history"] == expected["history"] and record["steps"] == expected["steps"]
    assert record["seconds"] > 0


@pytest.mark.parametrize("name", ["adam", "judged", "judged adam"])
def test_a_stopped_training_ends_with_the_same_weights_of_all_its_networks(name, tmp_path):
    recipe, path = RESUMED[name], tmp_path / "a.checkpoint"
    Judged.helpers.clear()
    whole, expected = train(recipe, toy())
    stopped(recipe, toy(), path)
    resumed, record, steps = steps_of(recipe, toy(), checkpoint=path)
    assert steps == [5, 6, 7, 8]
    assert same(resumed, whole) and record["history"] == expected["history"]
    if isinstance(recipe.training, Judged):
        first, _, last = Judged.helpers
        assert same(first, last)


def test_both_networks_are_trained_each_by_its_own_loss():
    """One update by hand, the helper's by Adam, whose first step is lr sign(g) where g is not small."""
    Judged.helpers.clear()
    recipe, images = tiny(Judged(), batch_size=8, epochs=1, weight_decay=0.0, momentum=0.0), toy(8)
    state = fitting.first_state(recipe, images)
    model, judge = state.model.train(), state.helper
    x, y = images.images.double() / 255, images.labels
    losses = Judged().losses(Batch(model, x, y, helper=judge))
    weights, theirs = list(model.parameters()), list(judge.parameters())
    gradients = torch.autograd.grad(losses.total, weights, retain_graph=True)
    judged = torch.autograd.grad(losses.helper, theirs)
    expected = [p - 0.05 * g for p, g in zip(weights, gradients, strict=True)]
    trained, record = train(recipe, images)
    for p, q in zip(trained.parameters(), expected, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-12)
    for before, after, g in zip(theirs, Judged.helpers[-1].parameters(), judged, strict=True):
        torch.testing.assert_close(after, before - 0.01 * g / (g.abs() + 1e-8), rtol=1e-7, atol=1e-9)
    assert set(record["history"][0]) == {"loss", "accuracy", "deceived", "judged"}
    assert record["history"][0]["judged"] == pytest.approx(losses.helper.item())


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_a_helper_in_parts_has_the_same_weights(micro_batch):
    """Its own gradient is the share of each part, too; without batch normalisation."""

    @dataclass(frozen=True)
    class Sum(Judged):  # an image's gradient has a scale of its own
        def losses(self, batch):
            loss, logits = cross_entropy(batch)
            true = batch.helper(batch.x)
            return Losses(loss, logits, {}, F.softplus(-true).mean() + true.square().mean())

    Judged.helpers.clear()
    recipe = tiny(Sum(), arch="rar-resnet-1", batch_size=8)
    train(recipe, toy())
    train(replace(recipe, micro_batch=micro_batch), toy())
    whole, cut = Judged.helpers
    for a, b in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(b, a, rtol=0, atol=1e-8)


def test_a_finished_checkpoint_is_taken_as_it_is(tmp_path):
    first, record = train(tiny(), toy(4), checkpoint=tmp_path / "new" / "a.checkpoint")
    second, again = train(tiny(), toy(4), checkpoint=tmp_path / "new" / "a.checkpoint")
    assert same(first, second) and again == record


def test_without_a_pause_the_state_is_saved_at_the_end_of_every_epoch(tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(State, "save", lambda state, path, **about: saved.append(state.step))
    train(tiny(), toy(), checkpoint=tmp_path / "a.checkpoint")
    assert saved == [3, 6]
    saved.clear()
    train(tiny(), toy(), checkpoint=tmp_path / "a.checkpoint", checkpoint_seconds=0)
    assert saved == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_of_another_recipe_or_of_other_images_is_refused(tmp_path):
    path, recipe = tmp_path / "a.checkpoint", tiny(epochs=1)
    train(recipe, toy(4), checkpoint=path)
    whole = path.read_bytes()
    for other, images in ((replace(recipe, seed=1), toy(4)), (replace(recipe, lr=0.1), toy(4)), (recipe, toy(6))):
        with pytest.raises(ValueError, match=r"a\.checkpoint is the checkpoint of another training; delete it"):
            train(other, images, checkpoint=path)
    assert path.read_bytes() == whole


# ------------------------------------------------------------------ other code


def test_a_checkpoint_of_other_code_is_put_aside_and_the_training_begun_anew(tmp_path, monkeypatch, capsys):
    path = tmp_path / "a.checkpoint"
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "training_code", lambda recipe: "other code")
        stopped(tiny(), toy(), path, at=2)
    old = path.read_bytes()
    _, record, steps = steps_of(tiny(), toy(), checkpoint=path)
    assert steps == [0, 1, 2, 3, 4, 5] and record["code"] != "other code"
    assert {p.name for p in tmp_path.iterdir()} == {"a.checkpoint", "a.checkpoint.of-other-code"}
    assert path.with_name("a.checkpoint.of-other-code").read_bytes() == old
    assert capsys.readouterr().out == (
        "the training code has changed since a.checkpoint: beginning anew, it is kept as a.checkpoint.of-other-code\n"
    )
    assert steps_of(tiny(), toy(), checkpoint=path)[2] == []  # which is a checkpoint of this code


def test_an_edited_training_may_go_on(tmp_path, monkeypatch, capsys):
    path = tmp_path / "a.checkpoint"
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "training_code", lambda recipe: "other code")
        stopped(tiny(), toy(), path, at=2)
    resumed, record, steps = steps_of(tiny(), toy(), checkpoint=path, edited=True)
    assert steps == [2, 3, 4, 5] and capsys.readouterr().out == ""
    assert same(resumed, train(tiny(), toy())[0]) and [p.name for p in tmp_path.iterdir()] == ["a.checkpoint"]
    assert json.loads(files.read_tensors(path)[1]["state"])["code"] == record["code"]


# ------------------------------------------------------------------ damage


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "one bit"])
@pytest.mark.parametrize("edited", [False, True])
def test_a_damaged_checkpoint_is_named(damage, edited, tmp_path):
    path = tmp_path / "a.checkpoint"
    train(tiny(epochs=1), toy(4), checkpoint=path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 4
    bad = {"truncated": whole[: len(whole) // 2], "text": b"not a checkpoint", "empty": b"", "one bit": flipped}
    path.write_bytes(bad[damage])
    with pytest.raises(ValueError, match=r"a\.checkpoint is damaged \(.*\); delete it and run again") as error:
        train(tiny(epochs=1), toy(4), checkpoint=path, edited=edited)
    assert str(path) in str(error.value) and path.read_bytes() == bad[damage]


def test_a_training_that_diverged_is_taken_up_like_any_other(tmp_path):
    """Its weights and losses are not numbers, and its file is not damaged."""
    recipe, path = tiny(lr=1e200, milestones=()), tmp_path / "a.checkpoint"
    whole, expected = train(recipe, toy())
    stopped(recipe, toy(), path)
    resumed, record, steps = steps_of(recipe, toy(), checkpoint=path)
    assert steps == [5] and math.isnan(record["history"][-1]["loss"])
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())
    histories = ([sorted(entry.items()) for entry in found["history"]] for found in (record, expected))
    assert repr(next(histories)) == repr(next(histories))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "models"):
        with pytest.raises(PermissionError, match="set ARTLIB_MODELS or ARTLIB_FIGURES to a folder that") as error:
            train(tiny(epochs=1), toy(4), checkpoint=folder / "a.checkpoint")
        assert str(folder) in str(error.value)
