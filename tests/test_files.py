"""Files are whole or not there, a damaged one is named, and one process at a time makes one."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError

from artlib import files
from artlib.files import only_one, read_json, read_tensors, tensors_digest, write_tensors, write_text

TENSORS = {
    "weights": torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)),
    "double": torch.tensor([1 / 3], dtype=torch.float64),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "none": torch.zeros(0, 5),
}


def test_tensors_come_back_as_they_were_with_their_metadata(tmp_path):
    path = tmp_path / "new" / "folder" / "a.safetensors"
    write_tensors(path, TENSORS, {"b": "c"})
    found, metadata = read_tensors(path)
    assert found.keys() == TENSORS.keys() and metadata["b"] == "c"
    assert all(torch.equal(found[k], v) and found[k].dtype == v.dtype for k, v in TENSORS.items())
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_tensors_of_any_layout_and_with_a_graph_are_written(tmp_path):
    weights = TENSORS["weights"].to(memory_format=torch.channels_last)
    write_tensors(tmp_path / "a", {"a": weights, "b": weights[:, 1].requires_grad_(), "c": weights.mT}, {})
    found, _ = read_tensors(tmp_path / "a")
    assert torch.equal(found["a"], weights) and torch.equal(found["b"], weights[:, 1])
    assert torch.equal(found["c"], weights.mT)


def test_not_a_number_and_infinity_are_values_like_others(tmp_path):
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0])
    write_tensors(tmp_path / "a", {"a": odd}, {})
    found, _ = read_tensors(tmp_path / "a")
    assert torch.equal(found["a"].view(torch.int32), odd.view(torch.int32))


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_a_damaged_file_is_named(damage, tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, TENSORS, {})
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"not tensors", "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"a\.safetensors is damaged \(.*\); delete it and run again") as error:
        read_tensors(path)
    assert str(path) in str(error.value)


def test_every_flipped_bit_of_the_tensors_is_found(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.arange(3, dtype=torch.int16)}, {})
    whole = path.read_bytes()
    for byte in range(len(whole) - 6, len(whole)):
        for bit in range(8):
            other = bytearray(whole)
            other[byte] ^= 1 << bit
            path.write_bytes(other)
            with pytest.raises(ValueError, match="it does not hold what was written"):
                read_tensors(path)


def test_tensors_of_another_writer_are_not_taken(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "a")
    with pytest.raises(ValueError, match="a is damaged"):
        read_tensors(tmp_path / "a")


def test_a_missing_file_is_not_called_damaged(tmp_path):
    for read in (read_tensors, read_json):
        with pytest.raises(FileNotFoundError, match=r"a\.safetensors"):
            read(tmp_path / "a.safetensors")


def test_the_digest_is_of_names_types_shapes_and_values():
    a = torch.arange(6.0)
    others = [{"a": a + 1}, {"b": a}, {"a": a.double()}, {"a": a.reshape(2, 3)}, {"a": a, "b": a}, {}]
    assert len({tensors_digest(t) for t in [{"a": a}, *others]}) == len(others) + 1
    assert tensors_digest({"a": a, "b": 2 * a}) == tensors_digest({"b": 2 * a, "a": a})
    square = a.reshape(2, 3)
    assert tensors_digest({"a": square}) == tensors_digest({"a": square.T.contiguous().T})


def test_json_comes_back_and_a_damaged_one_is_named(tmp_path):
    path, value = tmp_path / "a.json", {"a": [1, 2.5, None, "ü"], "b": float("inf")}
    write_text(path, json.dumps(value))
    assert read_json(path) == value
    for content in (b"", b'{"a": 1', b"\xff\xfe", b"{}}"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.json is damaged \(.*\); delete it and run again") as error:
            read_json(path)
        assert str(path) in str(error.value)


def test_a_text_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    write_text(path, "old")

    def full(source, target):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(PermissionError, match=r"cannot write .*a\.csv: no space left"):
        patch.setattr(os, "replace", full)
        write_text(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_tensors_whose_writing_fails_leave_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.arange(3)}, {"b": "c"})

    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise SafetensorError("I/O error: no space left on device")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(PermissionError, match=r"cannot write .*a\.safetensors: .*no space left"):
        write_tensors(path, {"a": torch.zeros(3)}, {})
    assert list(tmp_path.iterdir()) == [path]
    tensors, metadata = read_tensors(path)
    assert torch.equal(tensors["a"], torch.arange(3)) and metadata["b"] == "c"


def test_an_interruption_leaves_no_half_file(tmp_path):
    """As a notebook's stop button does."""

    def interrupted(file):
        file.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "a.csv", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    way_out = "set ARTLIB_MODELS or ARTLIB_FIGURES to a folder that can be"
    for folder in (tmp_path / "file", tmp_path / "file" / "models"):
        with pytest.raises(PermissionError, match=f"cannot write .*a: .*; {way_out}") as error:
            write_text(folder / "a", "")
        assert str(folder) in str(error.value)
        with pytest.raises(PermissionError, match=f"cannot write .*; {way_out}"), only_one(folder / "a.json"):
            pass


# ------------------------------------------------------------------ one process at a time

SHARED = """
import sys, time
from pathlib import Path
from artlib.files import only_one, write_text

path = Path(sys.argv[1])
path.with_suffix(f".{sys.argv[2]}").touch()
while len(list(path.parent.glob("made.*"))) < 2:
    time.sleep(0.01)
with only_one(path):
    if not path.exists():
        print("made", flush=True)
        time.sleep(0.5)  # the other process comes to the lock meanwhile
        write_text(path, "{}")
"""


def test_two_processes_make_one_file(tmp_path):
    path = tmp_path / "made.json"
    options = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    both = [subprocess.Popen([sys.executable, "-c", SHARED, str(path), name], **options) for name in "ab"]
    found = [child.communicate(timeout=120) for child in both]
    assert [child.returncode for child in both] == [0, 0], found
    said = sorted(out.strip() for out, _ in found)
    assert said == ["made", "waiting for another process that makes made.json"]


def test_the_lock_is_given_back_also_after_an_error(tmp_path, capsys):
    for _ in range(2):
        with pytest.raises(KeyError), only_one(tmp_path / "a.json"):
            raise KeyError
    assert capsys.readouterr().out == "" and [p.name for p in tmp_path.iterdir()] == ["a.lock"]
