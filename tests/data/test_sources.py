"""Every source on tiny files in the official formats."""

import csv
import gzip
import hashlib
import os
import pickle
import pkgutil

import numpy as np
import pytest
import scipy.io
import torch
from tiny_files import batch, birds, encoded, idx, put, signs, tar, trimap, zipped

from artlib.data import AUGMENT, SETS, load
from artlib.data.loading import _balanced_first
from artlib.data.sources.cifar10 import CLASSES
from artlib.data.sources.flower17 import SPLITS


def test_tables_agree():
    assert set(AUGMENT) == {*SETS, "cub200-224"}
    assert all({"train", "test"} <= set(info.images) for info in SETS.values())


def test_blossoms_are_drawn_balanced_and_splits_differ():
    train, test = (load("blossoms", split, limit=20) for split in ("train", "test"))
    assert train.images.shape == (20, 3, 32, 32) and torch.bincount(train.labels).tolist() == [2] * 10
    assert train.fingerprint == load("blossoms", "train", limit=20).fingerprint != test.fingerprint
    assert train.masks.any((1, 2)).all() and train.boxes.shape == (20, 4) and len(train.classes) == 10


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name, folder", [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files(tmp_path, name, folder, packed):
    pixels, labels = np.random.default_rng(0).integers(0, 256, (6, 28, 28)), np.array([3, 1, 4, 1, 5, 9])
    for part, array in (("images-idx3", pixels), ("labels-idx1", labels)):
        file = tmp_path / folder / "raw" / f"t10k-{part}-ubyte"
        put(file.with_name(file.name + ".gz"), gzip.compress(idx(array))) if packed else put(file, idx(array))
    image_set = load(name, "test", root=tmp_path)
    assert np.array_equal(image_set.images[:, 0].numpy(), pixels) and image_set.labels.tolist() == labels.tolist()
    assert image_set.images.shape[1] == SETS[name].channels
    copy = "" if packed else f"{folder} (unpacked copy), "
    assert image_set.note == copy + "6 of 10,000 images"
    assert load(name, "test", root=tmp_path, size=32).images.shape[2:] == (32, 32)


@pytest.mark.parametrize("packed", [True, False])
def test_cifar10_batches(tmp_path, monkeypatch, packed):
    from torchvision.datasets import CIFAR10

    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (2, 3, 3072), dtype=np.uint8), [[0, 1, 2], [7, 8, 9]]
    files = {f"data_batch_{i + 1}": batch(pixels[i], labels[i]) for i in range(2)}
    monkeypatch.setattr(
        CIFAR10, "train_list", [[name, hashlib.md5(content).hexdigest()] for name, content in files.items()]
    )
    if packed:
        tar(tmp_path / CIFAR10.filename, {f"cifar-10-batches-py/{name}": content for name, content in files.items()})
    for name, content in files.items():
        None if packed else put(tmp_path / CIFAR10.base_folder / name, content)
    image_set = load("cifar10", "train", root=tmp_path)
    assert np.array_equal(image_set.images.numpy(), pixels.reshape(6, 3, 32, 32))  # red plane, green plane, blue plane
    assert image_set.labels.tolist() == [0, 1, 2, 7, 8, 9] and image_set.classes[7] == "horse"


def test_foreign_pickles_are_not_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    for number in range(1, 6):
        put(tmp_path / "cifar-10-batches-py" / f"data_batch_{number}", pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="data_batch_1 in .* is not the published file"):
        load("cifar10", "train", root=tmp_path)
    assert not (tmp_path / "ran").exists()


def test_cifar10_jpeg_copy(tmp_path):
    files = {
        f"test/{name}/000{i}.jpg": encoded((40 * i, 0, 0), "JPEG", (32, 32))
        for name in ("cat", "truck")
        for i in (2, 1)
    }
    tar(tmp_path / "cifar10_jpeg.tar.gz", files | {"train/cat/0001.jpg": encoded((255, 255, 255), "JPEG", (32, 32))})
    image_set = load("cifar10", "test", root=tmp_path)
    assert image_set.labels.tolist() == [3, 3, 9, 9] and image_set.note == "CIFAR-10 (JPEG copy), 4 of 10,000 images"
    assert (image_set.images[:, 0].float().mean((1, 2)) - torch.tensor([40, 80, 40, 80])).abs().max() < 3


def test_svhn(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    scipy.io.savemat(tmp_path / "test_32x32.mat", {"X": pixels, "y": np.array([[1], [10], [9], [10]])})
    image_set = load("svhn", "test", root=tmp_path)
    assert image_set.labels.tolist() == [1, 0, 9, 0]
    assert np.array_equal(image_set.images[2, 1].numpy(), pixels[:, :, 1, 2])
    put(tmp_path / "train_32x32.mat", (tmp_path / "test_32x32.mat").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"train_32x32.mat is damaged .* delete it"):
        load("svhn", "train", root=tmp_path)


@pytest.mark.parametrize("form", ["zip", "folder", "copy"])
def test_gtsrb_training_keeps_tracks_on_one_side(tmp_path, form):
    files = {f"GTSRB/Final_Training/Images/{name}": content for name, content in signs().items()}
    if form == "zip":
        zipped(tmp_path / "gtsrb" / "GTSRB_Final_Training_Images.zip", files)
    elif form == "copy":
        tar(tmp_path / "gtsrb" / "GTSRB_Final_Training_Images_32x32_part.tar.xz", files, "w:xz")
    for name, content in files.items():
        None if form != "folder" else put(tmp_path / "gtsrb" / name, content)
    train, valid = (load("gtsrb", split, root=tmp_path) for split in ("train", "valid"))
    sides = [{(int(r), int(g)) for r, g, _ in part.images[:, :, 0, 0]} for part in (train, valid)]
    assert sides[1] == {(0, 0), (0, 10), (42, 0)} and not sides[0] & sides[1]
    assert (len(train), len(valid)) == (30, 9) and torch.equal(train.labels, train.images[:, 0, 0, 0].long())
    assert train.note.startswith("GTSRB (32x32 copy)") == (form == "copy")


@pytest.mark.parametrize("form", ["zip", "copy"])
def test_gtsrb_test(tmp_path, form):
    files = {f"GTSRB/Final_Test/Images/{i:05}.ppm": encoded((i, 0, 0), "PPM", (9, 7)) for i in (1, 0, 2)}
    table = b"Filename;Width;ClassId\r\n00000.ppm;9;7\r\n00001.ppm;9;42\r\n00002.ppm;9;0\r\n"
    if form == "zip":
        hidden = {"GTSRB/Final_Test/Images/GT-final_test.test.csv": b"Filename;Width\r\n"}
        zipped(tmp_path / "gtsrb" / "GTSRB_Final_Test_Images.zip", files | hidden)
        zipped(tmp_path / "gtsrb" / "GTSRB_Final_Test_GT.zip", {"GT-final_test.csv": table})
    else:
        whole = files | {"GTSRB/Final_Test/GT-final_test.csv": table}
        tar(tmp_path / "gtsrb" / "GTSRB_Final_Test_Images_32x32.tar.xz", whole, "w:xz")
    image_set = load("gtsrb", "test", root=tmp_path)
    assert image_set.images[:, 0, 0, 0].tolist() == [0, 1, 2] and image_set.labels.tolist() == [7, 42, 0]
    put(tmp_path / "gtsrb" / "GT-final_test.csv", table[:-20])
    with pytest.raises(ValueError, match="do not list the same images"):
        load("gtsrb", "test", root=tmp_path)


@pytest.mark.parametrize("packed", [True, False])
def test_flower17_with_masks(tmp_path, packed):
    test = (SPLITS / "flower17_test.txt").read_text().split()
    names = [test[0], test[8], "image_0002"]  # classes 0 and 1; image 2 has a near-duplicate, so it is for training
    jpg = {f"jpg/{name}.jpg": encoded((200, 0, 0), "JPEG", (40, 30)) for name in names}
    maps = {f"trimaps/{test[0]}.png": trimap(40, 30)}
    if packed:
        tar(tmp_path / "flower17" / "17flowers.tgz", jpg | {"jpg/files.txt": b""})
        tar(tmp_path / "flower17" / "trimaps.tgz", maps | {"trimaps/imlist.mat": b""})
    for name, content in (jpg | maps).items():
        None if packed else put(tmp_path / "flower17" / name, content)
    image_set = load("flower17", "test", root=tmp_path)
    assert image_set.images.shape == (2, 3, 128, 128) and image_set.labels.tolist() == [0, 1]
    assert image_set.masks[0, :64].all() and not image_set.masks[0, 64:].any()
    assert not image_set.masks[1].any()  # no trimap
    small = load("flower17", "train", root=tmp_path, size=16)
    assert small.images.shape == (1, 3, 16, 16) and small.masks.shape == (1, 16, 16) and small.labels.tolist() == [0]


def test_a_trimap_of_another_size_than_its_image_is_the_same_mask(tmp_path):
    """Image and trimap are both stretched to a square, so that one already squashed fits as well."""
    name = (SPLITS / "flower17_test.txt").read_text().split()[0]
    put(tmp_path / "flower17" / f"jpg/{name}.jpg", encoded((200, 0, 0), "JPEG", (40, 30)))
    masks = []
    for size in ((40, 30), (64, 64), (30, 40)):
        put(tmp_path / "flower17" / f"trimaps/{name}.png", trimap(*size))
        masks.append(load("flower17", "test", root=tmp_path, size=16).masks)
    assert masks[0][0, :8].all() and not masks[0][0, 8:].any()
    assert torch.equal(masks[0], masks[1]) and torch.equal(masks[0], masks[2])


def test_flower17_split_is_the_written_one():
    text = (SPLITS / "flower17_test.txt").read_text()
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "0449f463aea293d4c1b5cb4a81cccb68b9b824fca6fecb0be6e1af49d8d579f6"
    )
    with open(SPLITS / "flower17_near_duplicates.csv") as file:
        pairs = {f"image_{int(row[key]):04}" for row in csv.DictReader(file) for key in ("image_a", "image_b")}
    free = [name for name in (f"image_{i:04}" for i in range(1, 1361)) if name not in pairs]
    rule = [
        name
        for label in range(17)
        for name in sorted(
            sorted(
                (n for n in free if (int(n[6:]) - 1) // 80 == label), key=lambda n: hashlib.sha256(n.encode()).digest()
            )[:8]
        )
    ]
    assert text.split() == rule and len(set(rule)) == 136


@pytest.mark.parametrize("packed", [True, False])
def test_cub200_with_boxes(tmp_path, packed):
    tar(tmp_path / "CUB_200_2011.tgz", birds()) if packed else [put(tmp_path / n, c) for n, c in birds().items()]
    train = load("cub200", "train", root=tmp_path)
    assert train.images.shape == (2, 3, 224, 224) and train.labels.tolist() == [0, 1]
    assert train.classes == ("Black footed Albatross", "Crested Auklet") and "2 of 200 classes" in train.note
    assert (train.images[1] == 70).all()  # greyscale
    torch.testing.assert_close(train.boxes, 224 * torch.tensor([[0.1, 0.25, 0.4, 0.75], [0, 0, 1, 1]]))
    test = load("cub200", "test", root=tmp_path, size=8)
    torch.testing.assert_close(test.boxes, torch.tensor([[4.0, 2.0, 8.0, 8.0]]))  # clipped at the right border


@pytest.mark.parametrize(
    "name, cut",
    [("images", 7), ("image_class_labels", 3), ("bounding_boxes", 7), ("train_test_split", 3), ("classes", 22)],
)
def test_cub200_with_a_cut_list(tmp_path, name, cut):
    for file, content in birds().items():
        put(tmp_path / file, content[:-cut] if f"/{name}." in file else content)
    with pytest.raises((ValueError, FileNotFoundError), match="cut or do not belong together|are missing"):
        load("cub200", "test", root=tmp_path)


@pytest.mark.parametrize("limit", [1, 2, 5, 9, 12, 100])
def test_limit_is_balanced_and_nested(limit):
    labels = torch.tensor([0] * 50 + [1] * 4 + [2] * 20)
    kept = _balanced_first(labels, limit)
    counts = torch.bincount(labels[kept], minlength=3)
    assert len(kept) == min(limit, 74) == len(set(kept.tolist()))
    assert counts.max() - counts.min() <= 1 or counts[1] == 4
    assert torch.equal(_balanced_first(labels, 74)[:limit], kept) and kept.tolist() != list(range(len(kept)))


def test_cifar10_official_200(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    file = put(tmp_path / "cifar10_official_200" / "cifar10_test_200.npz")
    np.savez_compressed(file, images=pixels, labels=np.array([9, 0, 3]))
    image_set = load("cifar10_official_200", "test", root=tmp_path)
    assert np.array_equal(image_set.images.numpy(), pixels.transpose(0, 3, 1, 2))
    assert image_set.labels.tolist() == [9, 0, 3] and image_set.classes == CLASSES
    assert image_set.note == "CIFAR-10 (3 official test images), 3 of 200 images"


def photographs():
    return {
        "imagenet_samples/classes.txt": b"0 n01440764 tench\n1 n01443537 goldfish\n2 n01484850 great_white_shark\n",
        "imagenet_samples/002_n01484850_great_white_shark.jpg": encoded((200, 0, 0), "JPEG", (40, 30)),
        "imagenet_samples/000_n01440764_tench.jpg": encoded((0, 200, 0), "JPEG", (30, 40)),
    }


def test_imagenet_samples(tmp_path):
    for name, content in photographs().items():
        put(tmp_path / name, content)
    image_set = load("imagenet_samples", "test", root=tmp_path)
    assert image_set.images.shape == (2, 3, 224, 224) and image_set.labels.tolist() == [0, 2]
    assert image_set.classes == ("tench", "goldfish", "great white shark")
    assert image_set.images[:, :, 9, 9].argmax(1).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("list_of_classes", "message"),
    [
        (b"0 n01440764 tench\n", "002_n01484850_great_white_shark.jpg is not of class 2 by classes.txt"),
        (b"0 n01440764 tench\n2 n01484850 shark\n", "classes.txt is not the list"),
        (b"0 n01440764\n", "classes.txt is not the list"),
        (b"", "classes.txt is not the list"),
        (b"\xff", "classes.txt is damaged"),
        (None, "classes.txt is not in .* the classes have no names"),
    ],
)
def test_imagenet_samples_with_a_wrong_list(tmp_path, list_of_classes, message):
    for name, content in photographs().items():
        if "classes" not in name or list_of_classes is not None:
            put(tmp_path / name, list_of_classes if "classes" in name else content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load("imagenet_samples", "test", root=tmp_path)


@pytest.mark.parametrize("name", ["cifar10_official_200", "imagenet_samples"])
def test_a_set_without_training_images_says_so(name):
    with pytest.raises(ValueError, match=f"{name} has no split 'train': choose one of test$"):
        load(name, "train")


@pytest.mark.parametrize("name", [name for name in SETS if name != "blossoms"])
def test_every_reader_is_there(name):
    assert callable(pkgutil.resolve_name(f"artlib.data.sources.{SETS[name].reader}"))
