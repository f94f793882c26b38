"""What every measurement has, whichever is listed: settings that are plain data, columns of one length, a seed."""

import json
from dataclasses import dataclass, fields, replace

import pytest
import torch
import torch.nn.functional as F
from known_models import half_bright, halves, network, pictures
from torch import nn

from artlib.data import SETS, ImageSet
from artlib.measurements import MEASUREMENTS, Measurement, first_correct, predictions
from artlib.models import BatchNorm2d
from artlib.presets import PRESETS
from artlib.trainings import PROTOCOLS

SMALL = dict(images=5, k=5, steps=2, ig_steps=2, attack_ig_steps=2)  # of fields that a measurement may have
each_kind = pytest.mark.parametrize("kind", MEASUREMENTS.values(), ids=MEASUREMENTS)


def small(kind: type[Measurement]) -> Measurement:
    names = {f.name for f in fields(kind)}
    return kind(**{k: v for k, v in SMALL.items() if k in names})


# ------------------------------------------------------------------ every measurement


@each_kind
def test_columns_are_of_one_length_and_their_metrics_within_bounds(kind):
    m, images = small(kind), pictures()
    columns = m(network(), images, progress=False)
    assert {*m.metrics, "index"} <= set(columns)
    assert {len(c) for c in columns.values()} == {m.count(20)} == {5}
    index = columns["index"].tolist()
    assert len(set(index)) == 5 and all(0 <= i < 20 for i in index)
    for name, metric in m.metrics.items():
        low, high = metric.bounds
        finite = columns[name][columns[name].double().isfinite()]
        assert len(finite) and ((low <= finite) & (finite <= high)).all()
    again = m(network(), images, progress=False)
    assert all(torch.equal(columns[name], again[name]) for name in columns)


@each_kind
def test_settings_are_plain_data(kind):
    m = small(kind)
    plain = json.loads(json.dumps(m.plain()))
    assert plain.pop("kind") == kind.__qualname__ and kind(**plain) == m
    assert json.loads(json.dumps(kind().differences())) == {"kind": kind.__qualname__}
    assert {"kind", "images"} <= set(m.differences())


@each_kind
def test_what_classes_name_are_fields(kind):
    """Tables of presets, protocols and loops speak of settings that exist, and of names that exist."""
    names = {f.name for f in fields(kind)}
    assert set(kind.loops) <= names and all(least >= 0 for least in kind.loops.values())
    assert (
        set(kind.presets) <= set(PRESETS) and set(kind.protocols) <= set(PROTOCOLS) and set(kind.published) <= set(SETS)
    )
    for changes in (*kind.presets.values(), *kind.protocols.values(), *kind.published.values()):
        assert set(changes) <= names
    assert kind.name == next(n for n, k in MEASUREMENTS.items() if k is kind) and kind.title


def test_no_two_measurements_have_a_column_of_one_name():
    """Tables know a metric by its column alone."""
    columns = [column for kind in MEASUREMENTS.values() for column in kind.metrics]
    assert len(columns) == len(set(columns))


@each_kind
def test_a_model_in_train_mode_is_measured_in_eval_mode_and_left_as_it_was(kind):
    model, m = nn.Sequential(BatchNorm2d(3), nn.Dropout(0.5), network()).double(), small(kind)
    columns = m(model.eval(), pictures(), progress=False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    again = m(model.train(), pictures(), progress=False)
    assert all(torch.equal(c.nan_to_num(7), again[name].nan_to_num(7)) for name, c in columns.items())
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_measurement_measures_all_or_as_many_as_there_are():
    @dataclass(frozen=True)
    class Bare(Measurement):
        name, title, metrics = "bare", "Bare", {}

    assert [Bare().count(7), Bare(images=5).count(7), Bare(images=9).count(7)] == [7, 5, 7]
    assert Bare.of("svhn", preset="quick", protocol="authors", images=3) == replace(Bare(), images=3)


# ------------------------------------------------------------------ predictions


def test_predictions():
    images = half_bright([3, 1, 2, 9, 5], [0, 1, 1, 0, 1])
    for size in (1, 2, 500):
        assert predictions(halves(), images, batch_size=size).tolist() == [0, 1, 1, 0, 1]
    assert predictions(halves(), images.subset([])).shape == (0,)


# ------------------------------------------------------------------ one image for several models


class Says(nn.Module):
    """Predicts the class given for each image, told apart by its first pixel."""

    def __init__(self, answers: list[int]):
        super().__init__()
        self.answers = nn.Parameter(torch.tensor(answers).double())

    def forward(self, x):
        index = (255 * x[:, 0, 0, 0]).round().long()
        return F.one_hot(self.answers.detach()[index].long(), 3).double()


def test_the_first_image_that_all_classify_correctly():
    images = torch.zeros(5, 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(5)
    images = ImageSet(images, torch.tensor([0, 1, 2, 0, 1]), ("a", "b", "c"), name="five", split="test")
    models = {"one": Says([1, 1, 2, 0, 1]), "two": Says([0, 0, 2, 0, 1])}
    one = first_correct(models, images)  # 3 and 4 would do as well
    assert isinstance(one, ImageSet) and (one.name, one.split, one.classes) == ("five", "test", images.classes)
    assert one.labels.tolist() == [2] and torch.equal(one.images, images.images[2:3])
    with pytest.raises(ValueError, match="none of 5 images is classified correctly by all of one, two, three"):
        first_correct(models | {"three": Says([1, 2, 0, 1, 2])}, images)
