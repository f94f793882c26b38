"""Files with bytes changed, cut out, doubled or cut off: a reader loads them or says in one documented error which."""

import gzip
import io
import random

import numpy as np
import pytest
import scipy.io
from tiny_files import birds, encoded, idx, put, signs, tar, trimap, zipped

from artlib.data import load
from artlib.data.sources.flower17 import SPLITS

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
TABLE = b"Filename;Width;ClassId\r\n00000.ppm;9;7\r\n00001.ppm;9;42\r\n00002.ppm;9;0\r\n"
KINDS = {"png": "PNG", "jpg": "JPEG", "ppm": "PPM", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP"}


def saved(save, *what, **more):
    file = io.BytesIO()
    save(file, *what, **more)
    return file.getvalue()


def idx_files(packed):
    files = {"images-idx3": idx(PIXELS[..., 0]), "labels-idx1": idx(np.array([3, 1, 4]))}
    pack, ending = (gzip.compress, ".gz") if packed else (bytes, "")
    return {f"MNIST/raw/t10k-{name}-ubyte{ending}": pack(content) for name, content in files.items()}


def flowers():
    first, second = (SPLITS / "flower17_test.txt").read_text().split()[:9:8]
    jpg = {f"flower17/jpg/{name}.jpg": encoded((200, 0, 0), "JPEG", (40, 30)) for name in (first, second)}
    return jpg | {f"flower17/trimaps/{first}.png": trimap(40, 30)}


def packed(pack, path, files):
    """The bytes of an archive, as the one file of a source."""
    return lambda folder: {path: pack(folder / "packed", files).read_bytes()}


TEST_SIGNS = {f"gtsrb/GTSRB/Final_Test/Images/{i:05}.ppm": encoded((i, 0, 0), "PPM", (9, 7)) for i in range(3)}
SOURCES = {  # data set, split, its files
    "idx": ("mnist", "test", lambda _: idx_files(packed=False)),
    "idx.gz": ("mnist", "test", lambda _: idx_files(packed=True)),
    "mat": ("svhn", "test", lambda _: {"test_32x32.mat": saved(scipy.io.savemat, {
        "X": PIXELS.transpose(1, 2, 3, 0), "y": np.array([[1], [10], [9]])})}),
    "mat packed": ("svhn", "test", lambda _: {"test_32x32.mat": saved(scipy.io.savemat, {
        "X": PIXELS.transpose(1, 2, 3, 0), "y": np.array([[1], [10], [9]])}, do_compression=True)}),
    "npz": ("cifar10_official_200", "test", lambda _: {"cifar10_official_200/cifar10_test_200.npz": saved(
        np.savez, images=PIXELS, labels=np.array([9, 0, 3]))}),
    "jpg in tar.gz": ("cifar10", "test", packed(tar, "cifar10_jpeg.tar.gz", {
        f"test/cat/{i}.jpg": encoded((i, 0, 0), "JPEG") for i in range(3)})),
    "ppm in zip": ("gtsrb", "train", packed(zipped, "gtsrb/GTSRB_Final_Training_Images.zip", signs())),
    "ppm in tar.xz": ("gtsrb", "train", packed(lambda path, files: tar(path, files, "w:xz"),
        "gtsrb/GTSRB_Final_Training_Images_32x32.tar.xz", signs())),
    "ppm and csv": ("gtsrb", "test", lambda _: TEST_SIGNS | {"gtsrb/GT-final_test.csv": TABLE}),
    "jpg and trimaps": ("flower17", "test", lambda _: flowers()),
    "lists": ("cub200", "train", lambda _: birds()),
    "lists in tgz": ("cub200", "test", packed(tar, "CUB_200_2011.tgz", birds())),
    "jpg and classes": ("imagenet_samples", "test", lambda _: {
        "imagenet_samples/classes.txt": b"0 n01440764 tench\n1 n01443537 goldfish\n",
        "imagenet_samples/001_n01443537_goldfish.jpg": encoded((200, 0, 0), "JPEG", (40, 30))}),
    "own": ("own", "train", lambda _: {
        f"own/train/{name}/{ending}.{ending}": encoded((9, 99, 200), kind, (20, 10))
        for name in "ab" for ending, kind in KINDS.items()}),
}  # fmt: skip


def mutated(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        start = rng.randrange(len(changed)) if changed else 0
        end = start + rng.choice((1, 2, 4, 30))
        kind = rng.randrange(6)
        if kind == 0 and changed:
            changed[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[start:end] = rng.randbytes(end - start)
        elif kind == 2:
            del changed[start:end]
        elif kind == 3:
            changed[start:start] = changed[start:end]
        elif kind == 4:
            changed[start:end] = rng.choice((b"\0", b"\xff")) * (end - start)
        else:
            del changed[start:]
    return bytes(changed)


def fuzz(source, folder, times):
    name, split, files = SOURCES[source]
    name = f"folder:{folder / 'own'}" if name == "own" else name
    whole, rng, refused = files(folder), random.Random(source), 0
    for path, content in whole.items():
        put(folder / path, content)
    assert len(load(name, split, root=folder, size=8))
    for _ in range(times):
        path = rng.choice(list(whole))
        put(folder / path, mutated(whole[path], rng))
        try:
            load(name, split, root=folder, size=8)
        except (ValueError, FileNotFoundError) as error:  # anything else is a traceback of somebody's internals
            assert str(folder) in str(error) and "\n" not in str(error), repr(error)
            refused += 1
        put(folder / path, whole[path])
    assert refused > times / 20
    assert len(load(name, split, root=folder, size=8))


@pytest.mark.parametrize("source", SOURCES)
def test_a_few_changed_files(source, tmp_path):
    fuzz(source, tmp_path, 20)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
def test_a_thousand_changed_files(source, tmp_path):
    fuzz(source, tmp_path, 1000)
