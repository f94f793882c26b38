"""Settings refuse a bad value when they are made, and their differences do not move when a field is added."""

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Literal

import pytest
import torch

from artlib.settings import Count, NotNegative, Pixels, Positive, Settings, Share, Whole, plain


@dataclass(frozen=True)
class Inner(Settings):
    size: int = 3


@dataclass(frozen=True)
class Toy(Settings):
    kind_of: Literal["red", "blue"] = "red"
    count: Count = 1
    whole: Whole = 0
    number: int = 0
    positive: Positive = 1.0
    not_negative: NotNegative = 0.0
    pixels: Pixels = 8 / 255
    share: Share = 0.9
    any_float: float = 0.0
    flag: bool = False
    text: str = "a"
    maybe: Count | None = None
    either: int | str | None = None
    inner: Inner = field(default_factory=Inner)
    pairs: tuple[tuple[int, Positive], ...] = ((1, 0.1),)
    function: Callable = torch.relu


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("kind_of", "green", "unknown kind_of 'green'; choose one of red, blue"),
        ("kind_of", None, "unknown kind_of None; choose one of red, blue"),
        ("count", 0, "count is 0; it must be an integer, 1 or more"),
        ("count", 1.0, "count is 1.0; it must be an integer, 1 or more"),
        ("count", True, "count is True; it must be an integer, 1 or more"),
        ("count", "1", "count is '1'; it must be an integer, 1 or more"),
        ("count", None, "count is None; it must be an integer, 1 or more"),
        ("whole", -1, "whole is -1; it must be an integer, 0 or more"),
        ("number", 0.5, "number is 0.5; it must be an integer"),
        ("positive", 0, "positive is 0; it must be a number above 0"),
        ("positive", float("nan"), "positive is nan; it must be a number above 0"),
        ("not_negative", -1e-9, "not_negative is -1e-09; it must be a number, 0 or more"),
        ("pixels", 8, "pixels is 8; it must be a number from 0 to 1"),
        ("pixels", float("nan"), "pixels is nan; it must be a number from 0 to 1"),
        ("share", 1.01, "share is 1.01; it must be a number from 0 to 1"),
        ("any_float", "x", "any_float is 'x'; it must be a number"),
        ("any_float", torch.ones(()), r"any_float is tensor\(1.\); it must be a number"),
        ("flag", 1, "flag is 1, a int; it must be of type bool"),
        ("text", 3, "text is 3, a int; it must be of type str"),
        ("maybe", 0, "maybe is 0; it must be an integer, 1 or more"),
        ("inner", "x", "inner is 'x', a str; it must be of type Inner"),
        ("inner", Inner, "inner is .*, a type; it must be of type Inner"),
        ("pairs", 3, "pairs is 3, a int; it must be of type tuple"),
        ("pairs", ((1, 2, 3),), r"pairs has \(1, 2, 3\), 3 values; it must be 2"),
        ("pairs", ((1, 0.0),), "pairs is 0.0; it must be a number above 0"),
    ],
)
def test_a_bad_value_gives_one_error_when_the_object_is_made(name, value, message):
    for make in (lambda: Toy(**{name: value}), lambda: replace(Toy(), **{name: value})):
        with pytest.raises(ValueError, match=f"^{message}$"):
            make()


@pytest.mark.parametrize(
    ("name", "value"),
    [("count", 1), ("whole", 0), ("pixels", 0.0), ("pixels", 1.0), ("share", 1.0), ("positive", 5e-324), ("maybe", 2)]
    + [("maybe", None), ("either", 1), ("either", "x"), ("either", None), ("number", -3), ("any_float", -1e9)],
)
def test_the_ends_of_a_range_and_every_kind_of_a_union_are_allowed(name, value):
    assert getattr(Toy(**{name: value}), name) == value


def test_settings_do_not_change_and_can_be_keys():
    with pytest.raises(FrozenInstanceError):
        Toy().count = 2
    assert len({Toy(), Toy(count=1), Toy(count=2)}) == 2
    with pytest.raises(TypeError, match="unexpected keyword argument 'counts'"):
        Toy(counts=2)


def test_equal_settings_are_written_alike():
    """An integer where a float belongs, a list where a tuple does."""
    spelled = (Toy(positive=2, pairs=[[1, 2]]), Toy(positive=2.0, pairs=((1, 2.0),)))
    assert len(set(spelled)) == 1
    assert len({json.dumps(s.differences()) for s in spelled}) == 1 == len({json.dumps(s.plain()) for s in spelled})


def test_differences_are_the_fields_that_are_not_the_defaults():
    assert Toy().differences() == {"kind": "Toy"}
    assert Toy(count=1, text="a").differences() == {"kind": "Toy"}
    found = Toy(count=2, inner=Inner(size=4), pairs=((2, 0.5),), function=torch.nn.functional.gelu).differences()
    assert json.loads(json.dumps(found)) == {
        "kind": "Toy",
        "count": 2,
        "inner": {"kind": "Inner", "size": 4},
        "pairs": [[2, 0.5]],
        "function": plain(torch.nn.functional.gelu),
    }


def test_a_new_field_with_a_default_changes_no_differences():
    @dataclass(frozen=True)
    class Grown(Toy):
        new: Positive = 3.0
        inner: Inner = field(default_factory=Inner)

    Grown.__qualname__ = "Toy"  # the same class, a version later
    for changes in ({}, dict(count=2), dict(inner=Inner(size=4), kind_of="blue")):
        assert Grown(**changes).differences() == Toy(**changes).differences()
    assert Grown(new=4.0).differences() == {"kind": "Toy", "new": 4.0}


def test_another_kind_with_the_same_fields_differs():
    @dataclass(frozen=True)
    class Other(Inner):
        pass

    assert Toy(inner=Other()).differences()["inner"] == {"kind": Other.__qualname__}


def test_provenance_has_every_field():
    found = json.loads(json.dumps(Toy(count=2).plain()))
    assert found["count"] == 2 and found["share"] == 0.9 and found["inner"] == {"kind": "Inner", "size": 3}
    assert set(found) == {"kind", *Toy.__dataclass_fields__}


def test_functions_are_told_by_module_and_name():
    assert plain(plain) == "artlib.settings.plain"
    assert plain({"a": (1, [plain])}) == {"a": [1, ["artlib.settings.plain"]]}
