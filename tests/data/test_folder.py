"""A user's own images."""

import io
import os
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_files import encoded, put

from artlib.data import load
from artlib.data.archives import FileError


def test_own_folder_with_given_split(tmp_path):
    for name in ("train/cat/1.png", "train/dog/1.png", "train/dog/deep/2.JPG", "test/dog/9.png"):
        put(tmp_path / name, encoded((9, 9, 9), "JPEG" if name.endswith("JPG") else "PNG"))
    put(tmp_path / "train/cat/notes.txt", b"no image")
    train, test = (load(f"folder:{tmp_path}", split) for split in ("train", "test"))
    assert train.labels.tolist() == [0, 1, 1] and test.labels.tolist() == [1] and test.classes == ("cat", "dog")
    assert train.images.shape == (3, 3, 32, 32) and train.name == f"folder:{tmp_path.name}"
    put(tmp_path / "test/cow/1.png", encoded((9, 9, 9)))
    with pytest.raises(ValueError, match="classes that .*train has not: cow"):
        load(f"folder:{tmp_path}", "test")


def test_own_folder_with_boxes(tmp_path):
    """In pixels of the file, whose 8 x 8 become 4 x 4; for both splits, in any order, and every image needs one."""
    names = ("train/cat/1.png", "train/dog/a b.png", "test/dog/9.png")
    for i, name in enumerate(names):
        put(tmp_path / name, encoded((i, 9, 9)))
    with Image.open(tmp_path / names[0]) as image:
        width, height = image.size
    rows = [f"{name},{i},0,{width},{height / 2}" for i, name in enumerate(names)]
    put(tmp_path / "boxes.csv", "\r\n".join(["file,x0,y0,x1,y1", *rows[::-1]]).encode())
    train, test = (load(f"folder:{tmp_path}", split, size=4) for split in ("train", "test"))
    assert train.boxes.tolist() == [[0, 0, 4, 2], [4 / width, 0, 4, 2]] and test.boxes.tolist() == [
        [8 / width, 0, 4, 2]
    ]
    put(tmp_path / "boxes.csv", "\n".join(["file,x0,y0,x1,y1", *rows]).encode("utf-16"))
    with pytest.raises(ValueError, match="boxes.csv is not text in UTF-8: save it anew") as found:
        load(f"folder:{tmp_path}", "test", size=4)
    assert "delete" not in str(found.value)


HEADER = "file,x0,y0,x1,y1"
BOX = "test/dog/9.png,0,0,5,5"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([BOX], r"has no line 'file,x0,y0,x1,y1' first: line 1 is 'test/dog/9.png,0,0,5,5'$"),
        ([], r"first: line 1 is ''$"),
        ([HEADER.replace(",", ";")], r"first: line 1 is 'file;x0;.*; it has semicolons .*: save it with commas"),
        ([HEADER.replace(",", "\t")], r"it has tabs between columns"),
        ([HEADER.replace("x1", "w")], r"first: line 1 is 'file,x0,y0,w,y1'$"),
        ([HEADER, "train/cat/1.png,0,0,9,7"], r"boxes.csv lacks 1 of 1 images, test/dog/9.png among them"),
        ([HEADER, BOX, "test/dog/8.png,0,0,5,5"], r"boxes.csv, line 3, has 'test/dog/8.png', which is no image of"),
        ([HEADER, BOX, "", BOX], r", line 4, has a second box of test/dog/9.png; line 2 has the first"),
        ([HEADER, "test/dog/9.png,3,1,wide,4"], r", line 2, has no four numbers for 'test/dog/9.png': '3,1,wide,4'"),
        ([HEADER, "test/dog/9.png,0,0,inf,4"], r", line 2, has no four numbers for .*: '0,0,inf,4'"),
        ([HEADER, "test/dog/9.png,0,0,nan,4"], r", line 2, has no four numbers for .*: '0,0,nan,4'"),
        ([HEADER, "test/dog/9.png,3,1,3"], r", line 2, has no four numbers for .*: '3,1,3'"),
        ([HEADER, BOX + ",5,5"], r", line 2, has no four numbers for .*: '0,0,5,5,5,5': write 12.5, not 12,5"),
        ([HEADER, "test/dog/9.png,3,1,3,4"], r", line 2, has a box of test/dog/9.png that is empty: 3,1,3,4 in 9 x 7"),
        ([HEADER, "test/dog/9.png,5,1,3,4"], r"is empty: 5,1,3,4 in .*, not width and height"),
        ([HEADER, "test/dog/9.png,0.1,0,1,0.9"], r", line 2, .* that looks normalised: 0.1,0,1,0.9 .*: give pixels"),
        ([HEADER, "test/dog/9.png,9,0,9.5,5"], r", line 2, .* that lies outside its image: 9,0,9.5,5 in 9 x 7 pixels"),
        ([HEADER, "test/dog/9.png,2,-8,5,-1"], r", line 2, .* that lies outside its image: 2,-8,5,-1"),
        ([HEADER, "test/dog/9.png,0,0,10.5,7"], r", line 2, .* that overruns its image: 0,0,10.5,7 in 9 x 7 pixels"),
        ([HEADER, "test/dog/9.png,0,0,9,8.1"], r", line 2, .* that overruns its image: 0,0,9,8.1"),
        ([HEADER, "test/dog/9.png,-1,0,9,7"], r", line 2, .* that overruns its image: -1,0,9,7"),
        ([HEADER, BOX, "train/cat/1.png,0,0,50,70"], r", line 3, .* train/cat/1.png that overruns"),  # of another split
    ],
)
def test_what_is_wrong_with_boxes_is_told_by_its_line(tmp_path, lines, message):
    for name in ("train/cat/1.png", "train/dog/2.png", "test/dog/9.png"):
        put(tmp_path / name, encoded((1, 9, 9), size=(9, 7)))
    put(tmp_path / "boxes.csv", "\n".join(lines).encode())
    with pytest.raises(FileError, match=message):
        load(f"folder:{tmp_path}", "test", size=4)


def test_a_box_that_overruns_by_a_pixel_is_cut(tmp_path):
    """As of who counts corners from 1; columns in another order, and one more."""
    for name in ("train/cat/1.png", "train/dog/2.png", "test/dog/9.png"):
        put(tmp_path / name, encoded((1, 9, 9), size=(9, 7)))
    put(tmp_path / "boxes.csv", b"x0,y0,x1,y1,file,by\n4.5,0,10,8,test/dog/9.png,me\n")
    assert load(f"folder:{tmp_path}", "test", size=4).boxes.tolist() == [[2, 0, 4, 4]]


def test_own_folder_of_one_class_is_refused(tmp_path):
    for i in range(20):
        put(tmp_path / "roses" / f"{i}.png", encoded((i, 2, 3)))
    for split in ("train", "test"):
        with pytest.raises(ValueError, match="holds 1 class; a classifier needs at least 2 folders of images"):
            load(f"folder:{tmp_path}", split)


def test_own_folder_is_split_stably(tmp_path):
    for i in range(100):
        put(tmp_path / f"{'ab'[i % 2]}/{i}.png", encoded((i, 0, 0)))
    train, test = (load(f"folder:{tmp_path}", split, size=4) for split in ("train", "test"))
    before = set(test.images[:, 0, 0, 0].tolist())
    assert (
        10 <= len(test) <= 30 and before.isdisjoint(train.images[:, 0, 0, 0].tolist()) and len(train) + len(test) == 100
    )
    for i in range(0, 100, 3):
        (tmp_path / f"{'ab'[i % 2]}/{i}.png").unlink()
    after = set(load(f"folder:{tmp_path}", "test", size=4).images[:, 0, 0, 0].tolist())
    assert after == {i for i in before if i % 3}
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load("folder:nowhere", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no test images"):
        load(f"folder:{tmp_path / 'empty'}", "test")


@pytest.fixture
def own(tmp_path):
    """20 images in two classes, and what both splits of them look like."""
    for i in range(20):
        put(tmp_path / "own" / "ab"[i % 2] / f"{i}.png", encoded((i, 0, 0)))
    return tmp_path / "own"


def count(own):
    return [len(load(f"folder:{own}", split)) for split in ("train", "test")]


def test_class_folders_may_be_links(own, tmp_path):
    before = count(own)
    (own / "a").rename(tmp_path / "elsewhere")
    (own / "a").symlink_to(tmp_path / "elsewhere")
    put(tmp_path / "one.png", encoded((99, 0, 0)))
    (own / "b" / "one.png").symlink_to(tmp_path / "one.png")
    assert sum(before) == 20 and sum(count(own)) == 21


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("a/again", "own/a"),
        ("again", "own"),
        ("a/up", "."),
        ("c", "own/a"),
        ("a/across", "own/b"),
        ("b/x.png", "own/a/0.png"),
    ],
)
def test_a_link_never_puts_an_image_on_both_sides(own, tmp_path, link, target):
    (own / link).symlink_to(tmp_path / target)
    with pytest.raises(ValueError, match=r"/own/.* is the (folder|file) .* again, by a link: remove the link"):
        count(own)


def test_links_in_a_circle_end(own):
    (own / "a" / "x").symlink_to(own / "b")
    (own / "b" / "y").symlink_to(own / "a")
    with pytest.raises(ValueError, match="again, by a link"):
        count(own)


@pytest.mark.parametrize("kind", ["pipe", "broken link"])
def test_pipes_and_broken_links_are_named(own, kind):
    file = own / "a" / "odd.png"
    os.mkfifo(file) if kind == "pipe" else file.symlink_to("nowhere.png")
    with pytest.raises(ValueError, match=r"/own/a/odd.png is neither a file nor a folder .* remove it"):
        count(own)


def test_what_is_no_image_may_be_anything(own):
    before = count(own)
    os.mkfifo(own / "a" / "notes.txt")
    (own / ".cache").mkdir()
    (own / ".cache" / "loop").symlink_to(own)
    assert count(own) == before


def test_a_folder_that_cannot_be_listed_is_named(own, monkeypatch):
    listed = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("/own/b"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="/own/b"):
        count(own)


def test_names_of_any_bytes(own):
    put(own / "a" / os.fsdecode(b"\xff.png"), encoded((50, 0, 0)))
    assert sum(count(own)) == 21


# Pixels


def levels(kind, values):
    """One row of grey levels, as 16 bits in a file of that kind."""
    array = np.array([values] * 4, dtype=np.uint16)
    if kind == "PGM":
        return b"P5 %d 4 65535\n" % len(values) + array.astype(">u2").tobytes()
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PGM"])
def test_sixteen_bits_are_scaled(own, kind):
    values = [0, 128, 129, 257, 32768, 65407, 65535]
    put(own / "train" / "a" / f"grey.{kind.lower()}", levels(kind, values))
    put(own / "train" / "b" / f"rgb.{kind.lower()}", levels(kind, values))
    image_set = load(f"folder:{own}", "train", size=4)
    exact = load(f"folder:{own}", "train", size=7)
    assert image_set.images.float().mean() < 200
    assert exact.images[0, 0, 3].tolist() == [round(value / 257) for value in values] == [0, 0, 1, 1, 128, 255, 255]
    assert torch.equal(exact.images[0, 0], exact.images[0, 2])


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_of_unknown_range_are_refused(own, dtype):
    Image.fromarray(np.ones((4, 4), dtype)).save(own / "a" / "odd.tiff")
    with pytest.raises(ValueError, match=r"/own/a/odd.tiff has pixels of 32 bits.*save it with 8 or 16 bits"):
        count(own)


@pytest.mark.parametrize("side", [10_000, 30_000])
def test_an_image_that_is_too_large_is_named(own, side):
    content = encoded((1, 2, 3))
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + content[24:29]
    put(own / "a" / "huge.png", content[:12] + header + zlib.crc32(header).to_bytes(4, "big") + content[33:])
    with pytest.raises(ValueError, match=r"/own/a/huge.png is too large: save it with at most 89,478,485 pixels"):
        count(own)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_other_kinds_of_pixels_are_read_and_made_square(own, mode):
    kind = "TIFF" if mode == "CMYK" else "PNG"
    for name in "ab":
        put(own / "train" / name / f"{mode}.{kind.lower()}", encoded(0, kind, (6, 3), mode))
    assert load(f"folder:{own}", "train", size=5).images.shape == (2, 3, 5, 5)
