"""What goes wrong is one sentence that names the file."""

import contextlib
import errno
import gzip
import io
import os
import pathlib
import re
import tarfile

import numpy as np
import pytest
import scipy.io
from PIL import Image
from tiny_files import birds, encoded, idx, put, signs, tar, zipped

from artlib.data import SETS, load
from artlib.data.archives import members


@pytest.mark.parametrize(
    "name, split, more, message",
    [
        ("cifar", "train", {}, "unknown data set 'cifar': choose one of blossoms, cifar10, .*folder:PATH"),
        ("cifar10", "valid", {}, "cifar10 has no split 'valid': choose one of train, test"),
        ("folder:x", "valid", {}, "choose one of train, test"),
        ("mnist", "test", {"size": 0}, "size must be a positive integer, not 0"),
        ("mnist", "test", {"limit": 2.5}, "limit must be a positive integer, not 2.5"),
    ],
)
def test_load_refuses(name, split, more, message):
    with pytest.raises(ValueError, match=message):
        load(name, split, **more)


@pytest.mark.parametrize("name", [name for name in SETS if name != "blossoms"])
def test_missing_and_offline_is_one_sentence(tmp_path, name):
    with pytest.raises(FileNotFoundError) as caught:
        load(name, "test", root=tmp_path)
    message = str(caught.value)
    assert (
        str(tmp_path) in message
        and ("http" in message or "not to be had by download" in message)
        and "ARTLIB_DATA" in message
        and "\n" not in message
    )
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [0.0, 0.5, 0.95])
@pytest.mark.parametrize(
    "name, file", [("cub200", "CUB_200_2011.tgz"), ("gtsrb", "gtsrb/GTSRB_Final_Training_Images.zip")]
)
def test_truncated_archive_names_the_file(tmp_path, name, file, cut):
    whole = tar(tmp_path / "w", birds()) if name == "cub200" else zipped(tmp_path / "w", signs())
    content = whole.read_bytes()
    put(tmp_path / file, content[: int(cut * len(content))])
    with pytest.raises(ValueError, match=f"{file} is damaged .* delete it and load again") as caught:
        load(name, "train", root=tmp_path)
    assert caught.value.__suppress_context__


def test_truncated_idx_and_image_name_the_file(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    images, labels = gzip.compress(idx(np.zeros((3, 28, 28)))), gzip.compress(idx(np.zeros(3)))
    put(raw / "t10k-labels-idx1-ubyte.gz", labels)
    put(raw / "t10k-images-idx3-ubyte.gz", images[:-9])
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte.gz is damaged .* delete it"):
        load("mnist", "test", root=tmp_path)
    put(raw / "t10k-images-idx3-ubyte.gz", gzip.compress(idx(np.zeros((3, 28, 28)))[:-1]))
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte.gz is not a whole idx file"):
        load("mnist", "test", root=tmp_path)
    whole = encoded((1, 2, 3), "JPEG", (64, 64))
    put(tmp_path / "own" / "train" / "b" / "whole.jpg", whole)
    put(tmp_path / "own" / "train" / "a" / "broken.jpg", whole[: len(whole) - 40])
    with pytest.raises(ValueError, match=r"broken.jpg is damaged"):
        load(f"folder:{tmp_path / 'own'}", "train")


@pytest.mark.parametrize("name", ["../evil.jpg", "/evil.jpg", "a/../../evil.jpg", "..\\evil.jpg"])
def test_archive_that_leaves_its_folder_is_refused(tmp_path, name):
    files = {name: encoded((1, 1, 1), "JPEG")}
    for archive in (tar(tmp_path / "bad.tgz", files), zipped(tmp_path / "bad.zip", files)):
        with pytest.raises(ValueError, match="points outside its folder"):
            members(archive, "jpg$")


def test_links_in_archives_are_not_followed(tmp_path):
    link = tarfile.TarInfo("jpg/image_0001.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    with tarfile.open(tmp_path / "bad.tgz", "w:gz") as archive:
        archive.addfile(link)
    assert members(tmp_path / "bad.tgz", "jpg$") == {}


@pytest.mark.parametrize("kind, suffix", [("gz", "tgz"), ("xz", "tar.xz"), ("bz2", "tar.bz2")])
def test_one_flipped_bit_in_an_archive_is_noticed(tmp_path, kind, suffix):
    image = bytes(range(256)) * 16
    level = {} if kind == "xz" else {"compresslevel": 0 if kind == "gz" else 1}
    path = tmp_path / f"whole.{suffix}"
    with tarfile.open(path, f"w:{kind}", **level) as archive:
        member = tarfile.TarInfo("a.ppm")
        member.size = len(image)
        archive.addfile(member, io.BytesIO(image))
    whole = path.read_bytes()
    assert members(path, "ppm$") == {"a.ppm": image}
    for place in range(20, len(whole), len(whole) // 50 or 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with contextlib.suppress(ValueError):  # in a header that is no part of the contents it may change nothing
            assert members(path, "ppm$") == {"a.ppm": image}


def test_a_flipped_bit_outside_of_what_is_looked_for_is_noticed(tmp_path):
    files = {"CUB_200_2011/README": bytes(100_000)} | birds()
    path = tar(tmp_path / "CUB_200_2011.tgz", files)
    whole = gzip.decompress(path.read_bytes())
    packed = bytearray(gzip.compress(whole, 0))
    packed[1000] ^= 1
    path.write_bytes(packed)
    with pytest.raises(ValueError, match=r"CUB_200_2011.tgz is damaged \(CRC check failed.*delete it and load again"):
        load("cub200", "train", root=tmp_path)


def test_an_encrypted_zip_says_so(tmp_path):
    path = zipped(tmp_path / "gtsrb" / "GTSRB_Final_Training_Images.zip", signs())
    content = path.read_bytes()
    for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        for start in (found.start() for found in re.finditer(re.escape(mark), content)):
            content = content[: start + place] + b"\1" + content[start + place + 1 :]
    path.write_bytes(content)
    with pytest.raises(ValueError, match="GTSRB_Final_Training_Images.zip is encrypted: put the published archive"):
        load("gtsrb", "train", root=tmp_path)


# idx: what a file holds, and the file that the error names

IMAGES, LABELS = np.zeros((3, 28, 28)), np.array([3, 1, 4])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (b"\0\0\x08", idx(LABELS), "t10k-images-idx3-ubyte is not a whole idx file"),
        (b"", idx(LABELS), "t10k-images-idx3-ubyte is not a whole idx file"),
        (idx(IMAGES), b"\0\0\x08\1\0", "t10k-labels-idx1-ubyte is not a whole idx file"),
        (idx(IMAGES[0]), idx(LABELS), "t10k-images-idx3-ubyte is not a whole idx file of bytes and rank 3"),
        (idx(IMAGES), idx(IMAGES), "t10k-labels-idx1-ubyte is not a whole idx file of bytes and rank 1"),
        (idx(IMAGES), idx(LABELS[:2]), "t10k-images-idx3-ubyte .* 3 images but 2 labels"),
        (idx(IMAGES[:2]), idx(LABELS), "t10k-images-idx3-ubyte .* 2 images but 3 labels"),
        (idx(IMAGES), idx(LABELS + 7), "t10k-images-idx3-ubyte .* the label 10, which is none of the 10 classes"),
        (idx(IMAGES[:0]), idx(LABELS[:0]), "t10k-images-idx3-ubyte .* no images"),
        (idx(IMAGES[:, :0]), idx(LABELS), "t10k-images-idx3-ubyte .* no images"),
    ],
)
def test_idx_files_that_are_not_what_they_should_be(tmp_path, images, labels, message):
    put(tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte", images)
    put(tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte", labels)
    with pytest.raises(ValueError, match=message):
        load("mnist", "test", root=tmp_path)


DIGITS = np.zeros((32, 32, 3, 2), np.uint8)


@pytest.mark.parametrize(
    ("mat", "message"),
    [
        ({"X": DIGITS, "y": np.array([[57], [1]])}, "the label 57, but labels are 1 to 10"),
        ({"X": DIGITS, "y": np.array([[0], [1]])}, "the label 0, but labels are 1 to 10"),
        ({"X": DIGITS, "y": np.array([[1.5], [1]])}, "the label 1.5, but"),
        ({"X": DIGITS, "y": np.array([[np.nan], [1]])}, "the label nan, but"),
        ({"X": DIGITS, "y": np.array([[1], [2], [3]])}, "2 images but 3 labels"),
        ({"X": DIGITS, "y": np.array(["one", "two"], object)}, "not images uint8"),
        ({"X": np.array([DIGITS, "cell"], object), "y": np.array([[1], [2]])}, "not images uint8"),
        ({"X": DIGITS / 255, "y": np.array([[1], [2]])}, "holds X float64"),
        ({"X": DIGITS[:, :, 0], "y": np.array([[1], [2]])}, "not images uint8"),
        ({"X": DIGITS}, "is damaged .'y'."),
    ],
)
def test_mat_files_that_are_not_what_they_should_be(tmp_path, mat, message):
    scipy.io.savemat(tmp_path / "test_32x32.mat", mat)
    with pytest.raises(ValueError, match=message) as caught:
        load("svhn", "test", root=tmp_path)
    assert "test_32x32.mat" in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((2, 32, 32, 3), np.uint8)}, "is damaged"),
        ({"images": np.zeros((2, 32, 32, 3)), "labels": np.arange(2)}, "holds images float64"),
        ({"images": np.zeros((2, 3, 32, 32), np.uint8), "labels": np.arange(2)}, "holds images uint8"),
        ({"images": np.zeros((2, 32, 32, 3), np.uint8), "labels": np.arange(2.0)}, "labels float64"),
        ({"images": np.zeros((2, 32, 32, 3), np.uint8), "labels": np.arange(3)}, "2 images but 3 labels"),
        ({"images": np.zeros((2, 32, 32, 3), np.uint8), "labels": np.array([0, 10])}, "the label 10"),
        ({"images": np.zeros((2, 32, 32, 3), np.uint8), "labels": np.array([print, 1])}, "is damaged .*pickle"),
    ],
)
def test_npz_files_that_are_not_what_they_should_be(tmp_path, arrays, message):
    np.savez(put(tmp_path / "cifar10_official_200" / "cifar10_test_200.npz"), **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        load("cifar10_official_200", "test", root=tmp_path)
    assert "cifar10_test_200.npz" in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"Filename;ClassId\r\n00000.ppm;stop\r\n", "is damaged .*'stop'"),
        (b"Filename;ClassId\r\n00000.ppm;43\r\n", "the label 43, which is none of the 43 classes"),
        (b"Filename;ClassId\r\n\xff00000.ppm;4\r\n", "is damaged .*utf-8"),
        (b"", "do not list the same images"),
    ],
)
def test_a_table_of_signs_that_is_not_what_it_should_be(tmp_path, table, message):
    put(tmp_path / "gtsrb/GTSRB/Final_Test/Images/00000.ppm", encoded((0, 0, 0), "PPM"))
    put(tmp_path / "gtsrb/GT-final_test.csv", table)
    with pytest.raises(ValueError, match=message) as caught:
        load("gtsrb", "test", root=tmp_path)
    assert str(tmp_path / "gtsrb") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("bounding_boxes", b"7 40.0", b"7 left", "bounding_boxes.txt is damaged .*'left'"),
        ("bounding_boxes", b"7 40.0", b"7 nan", "CUB_200_2011 .* boxes that are not finite numbers"),
        ("bounding_boxes", b"7 40.0", b"7 inf", "CUB_200_2011 .* boxes that are not finite numbers"),
        ("train_test_split", b"7 0", b"7 2", "CUB_200_2011 are cut or do not belong together"),
        ("classes", b"Crested", b"\xff", "classes.txt is damaged"),
    ],
)
def test_lists_of_birds_that_are_not_what_they_should_be(tmp_path, name, old, new, message):
    for file, content in birds().items():
        put(tmp_path / file, content.replace(old, new) if f"/{name}." in file else content)
    with pytest.raises(ValueError, match=message):
        load("cub200", "test", root=tmp_path)


def test_an_unknown_class_of_the_jpeg_copy_is_named(tmp_path):
    tar(tmp_path / "cifar10_jpeg.tar.gz", {"test/lion/1.jpg": encoded((1, 2, 3), "JPEG")})
    with pytest.raises(ValueError, match="cifar10_jpeg.tar.gz holds images of 'lion', which is no class of CIFAR-10"):
        load("cifar10", "test", root=tmp_path)


@pytest.mark.parametrize(
    "number, kind", [(errno.EIO, OSError), (errno.EACCES, PermissionError), (errno.EMFILE, OSError)]
)
def test_an_error_of_the_disk_is_not_called_damage(tmp_path, monkeypatch, number, kind):
    """Deleting the file would be the wrong advice."""
    put(tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte", idx(IMAGES))
    put(tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte", idx(LABELS))
    for name in "ab":
        put(tmp_path / "own" / "train" / name / "1.png", encoded((1, 2, 3)))
    tar(tmp_path / "CUB_200_2011.tgz", birds())

    def refuse(*args, **more):
        raise OSError(number, os.strerror(number))

    for holder, function in ((pathlib.Path, "read_bytes"), (tarfile, "open"), (Image, "open")):
        monkeypatch.setattr(holder, function, refuse)
    for name, file in (
        ("mnist", "t10k-images-idx3-ubyte"),
        (f"folder:{tmp_path / 'own'}", "1.png"),
        ("cub200", ".tgz"),
    ):
        with pytest.raises(kind, match=f"cannot be read, {os.strerror(number)}.*{file}") as caught:
            load(name, "train" if name != "mnist" else "test", root=tmp_path)
        assert "delete" not in str(caught.value) and "damaged" not in str(caught.value)
