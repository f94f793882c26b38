"""Downloads and checksums."""

import hashlib
import os
import urllib.request

import pytest
from tiny_files import Response, put

from artlib.data import SETS, downloads, load
from artlib.data.downloads import fetch


def serve(monkeypatch, *responses):
    queue = list(responses)
    monkeypatch.setattr(urllib.request, "urlopen", lambda request, **_: queue.pop(0))


def test_download_is_checked_renamed_and_recorded(tmp_path, monkeypatch, capsys):
    path, content = tmp_path / "new" / "file.tgz", b"x" * 1000
    serve(monkeypatch, Response(content))
    assert fetch(path, "http://a", md5=hashlib.md5(content).hexdigest()) == path
    assert path.read_bytes() == content and [p.name for p in path.parent.iterdir()] == ["file.tgz"]
    assert fetch(path, "http://a") == path  # nothing left to serve: not asked again
    unknown = tmp_path / "trimaps.tgz"
    serve(monkeypatch, Response(content))
    fetch(unknown, "http://a")
    fetch(unknown, "http://a")
    unknown.write_bytes(b"changed")
    with pytest.raises(ValueError, match="trimaps.tgz is not what trimaps.tgz.sha256 recorded"):
        fetch(unknown, "http://a")


@pytest.mark.parametrize("response, md5", [(Response(b"x" * 10, 1000), None), (Response(b"x" * 10), "0" * 32)])
def test_truncated_or_changed_download_leaves_nothing(tmp_path, monkeypatch, response, md5, capsys):
    serve(monkeypatch, response)
    with pytest.raises(OSError, match="download of file.tgz from http://a failed .*nothing was kept, load again"):
        fetch(tmp_path / "file.tgz", "http://a", md5=md5)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder_is_named(tmp_path, monkeypatch):
    put(tmp_path / "folder")  # a file in the way: also root cannot write below it
    serve(monkeypatch, Response(b"x"))
    with pytest.raises(PermissionError, match=r"cannot write file.tgz to .*folder .*ARTLIB_DATA"):
        fetch(tmp_path / "folder" / "file.tgz", "http://a")


def test_second_mirror_is_tried(tmp_path, monkeypatch, capsys):
    def first_fails(request, **_):
        if request.full_url == "http://a":
            raise urllib.error.URLError("gone")
        return Response(b"x")

    monkeypatch.setattr(urllib.request, "urlopen", first_fails)
    assert fetch(tmp_path / "f", "http://a", "http://b", md5=hashlib.md5(b"x").hexdigest()).exists()


@pytest.mark.parametrize(
    ("name", "split", "file"),
    [
        ("cifar10", "test", "cifar-10-python.tar.gz"),
        ("svhn", "test", "test_32x32.mat"),
        ("gtsrb", "train", "gtsrb/GTSRB_Final_Training_Images.zip"),
        ("gtsrb", "test", "gtsrb/GTSRB_Final_Test_Images.zip"),
        ("mnist", "test", "MNIST/raw/t10k-images-idx3-ubyte.gz"),
        ("fashion_mnist", "train", "FashionMNIST/raw/train-images-idx3-ubyte.gz"),
        ("flower17", "test", "flower17/17flowers.tgz"),
        ("cub200", "test", "CUB_200_2011.tgz"),
    ],
)
def test_files_placed_by_hand_are_compared_with_the_published_md5(tmp_path, published, name, split, file):
    put(tmp_path / file, b"whatever it is")
    got = hashlib.md5(b"whatever it is").hexdigest()
    with pytest.raises(
        ValueError, match=f"{file} is not the published file .md5 {got} instead of [0-9a-f]+.: delete it"
    ):
        load(name, split, root=tmp_path)


def test_a_file_is_compared_once_until_it_changes(tmp_path, published, monkeypatch):
    path, digested = put(tmp_path / "file", b"x"), []
    digest = downloads._digest
    monkeypatch.setattr(downloads, "_digest", lambda *what: digested.append(what) or digest(*what))
    for _ in range(3):
        fetch(path, md5=hashlib.md5(b"x").hexdigest())
    assert len(digested) == 1
    path.write_bytes(b"xy")
    with pytest.raises(ValueError, match="file is not the published file"):
        fetch(path, md5=hashlib.md5(b"x").hexdigest())


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path, published):
    os.mkfifo(tmp_path / "test_32x32.mat")
    with pytest.raises(ValueError, match="test_32x32.mat is neither a file nor a folder"):
        load("svhn", "test", root=tmp_path)


@pytest.mark.parametrize("name", [name for name in SETS if name != "blossoms"])
def test_a_set_that_is_not_there_is_asked_for_where_its_line_says_so(tmp_path, monkeypatch, name):
    asked = []

    def unreachable(request, **_):
        asked.append(request)
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(FileNotFoundError):
        load(name, "test", root=tmp_path)
    assert bool(asked) == SETS[name].fetched
