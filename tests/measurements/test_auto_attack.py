"""AutoAttack's parts on a network whose robustness is known."""

import sys

import pytest
import torch
from known_models import Useless, half_bright, halves, network, pictures

from artlib.measurements import AutoAttack

pytest.importorskip("torchattacks")


def test_of_a_linear_network_those_fall_whose_halves_differ_by_less_than_two_eps():
    images = half_bright([10, 15, 17, 40], [0, 1, 0, 1])  # eps 8: 16 levels
    found = AutoAttack(steps=10, queries=20, targets=1)(halves(), images, progress=False)
    expected = [[0.0, 0.0, 1.0, 1.0][i] for i in found["index"].tolist()]
    for name in AutoAttack.metrics:
        assert found[name].tolist() == expected, name


def test_every_part_leaves_at_most_what_the_one_before_has_left_and_torchs_generator_is_left_alone():
    state = torch.get_rng_state()
    found = AutoAttack(eps=2 / 255, steps=3, queries=10, targets=2)(network(), pictures(), progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    each = [found[name] for name in AutoAttack.metrics]
    assert all((b <= a).all() for a, b in zip(each, each[1:], strict=False)) and each[0].sum() > 0


def test_square_finds_what_useless_gradients_hide():
    asked = AutoAttack(eps=64 / 255, steps=3, queries=200, targets=1)
    found = asked(Useless(network(), 0.0), pictures(), progress=False)
    left = {name: found[name].sum() for name in AutoAttack.metrics}
    assert left["auto_attack"] < left["fab_t"] - 3, left


def test_without_the_package_the_way_out_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(ImportError, match="pip install torchattacks"):
        AutoAttack(images=2)(network(), pictures(), progress=False)
