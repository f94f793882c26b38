"""Tiny files in the official formats, written here; augmentation by its properties; failures by their messages."""

import csv
import gzip
import hashlib
import io
import os
import pickle
import tarfile
import urllib.request
import zipfile

import numpy as np
import pytest
import scipy.io
import torch
import torch.nn.functional as F
from PIL import Image

from artlib import _sources, data
from artlib.data import AUGMENT, SETS, Augment, ImageSet, batches, load


def made(labels, *, channels=3, size=4, **more):
    """An ImageSet whose image i is the constant i."""
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].repeat(1, channels, size, size)
    return ImageSet(images, torch.tensor(labels), tuple("abcdefgh"), **more)


def encoded(value, kind="PNG", size=(4, 4), mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, size, value).save(file, kind)
    return file.getvalue()


def put(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tar(path, files, mode="w:gz"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def zipped(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def idx(array):
    shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + shape + array.astype(np.uint8).tobytes()


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(request, **_):
        raise urllib.error.URLError("offline")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


class Response(io.BytesIO):
    """What urlopen returns, with a Content-Length that may be wrong."""

    def __init__(self, content, length=None):
        super().__init__(content)
        self.headers = {"Content-Length": str(len(content) if length is None else length)}


def serve(monkeypatch, *responses):
    queue = list(responses)
    monkeypatch.setattr(urllib.request, "urlopen", lambda request, **_: queue.pop(0))


# ImageSet


def test_subset_keeps_everything_aligned():
    boxes, masks = torch.rand(3, 4), torch.rand(3, 4, 4) > 0.5
    whole = made([0, 1, 2], boxes=boxes, masks=masks, name="n", split="s", note="x")
    part = whole.subset([2, 0])
    assert part.images[:, 0, 0, 0].tolist() == part.labels.tolist() == [2, 0]
    assert torch.equal(part.boxes, boxes[[2, 0]]) and torch.equal(part.masks, masks[[2, 0]])
    assert (part.name, part.split, part.note) == ("n", "s", "x")
    assert whole.subset(whole.labels > 0).labels.tolist() == [1, 2]
    assert len(whole.subset([])) == 0 and whole.to("cpu").fingerprint == whole.fingerprint


def test_fingerprint_sees_every_part():
    boxes, masks = torch.zeros(2, 4), torch.zeros(2, 4, 4, dtype=torch.bool)
    sets = [
        made([0, 1]),
        made([1, 0]),
        made([0, 1], size=8).subset([0, 1]),
        made([0, 1], boxes=boxes),
        made([0, 1], boxes=boxes + 1),
        made([0, 1], masks=masks),
        made([0, 1], masks=~masks),
        ImageSet(made([0, 1]).images + 1, torch.tensor([0, 1]), ("a", "b")),
    ]
    assert len({s.fingerprint for s in sets}) == len(sets)
    assert made([0, 1]).fingerprint == made([0, 1]).fingerprint and len(sets[0].fingerprint) == 64


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": torch.zeros(2, 3, 4, 4)}, "images must be torch.uint8"),
        ({"images": torch.zeros(2, 4, 4, dtype=torch.uint8)}, "rank 4"),
        ({"images": [1, 2]}, "not list"),
        ({"labels": torch.zeros(2, dtype=torch.int32)}, "labels must be torch.int64"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"shape \(2,\)"),
        ({"labels": torch.tensor([0, 2])}, r"labels are 0\.\.2 but 2 classes allow 0\.\.1"),
        ({"labels": torch.tensor([-1, 0])}, r"labels are -1\.\.0"),
        ({"boxes": torch.zeros(2, 3)}, "boxes must be"),
        ({"boxes": torch.zeros(2, 4, dtype=torch.float64)}, "boxes must be torch.float32"),
        ({"masks": torch.zeros(2, 4, 5, dtype=torch.bool)}, "masks must be"),
        ({"masks": torch.zeros(2, 4, 4)}, "masks must be torch.bool"),
    ],
)
def test_image_set_refuses(change, message):
    good = {"images": torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "labels": torch.tensor([0, 1]), "classes": ("a", "b")}
    ImageSet(**good)
    with pytest.raises(ValueError, match=message):
        ImageSet(**{**good, **change})


def test_mean_std_against_numpy():
    images = torch.randint(0, 256, (5, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    mean, std = data.mean_std(ImageSet(images, torch.zeros(5, dtype=torch.int64), ("a",)))
    x = images.numpy() / 255
    np.testing.assert_allclose(mean, x.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, x.std((0, 2, 3)), rtol=1e-12)


# batches


def test_batches_cover_every_image_once(generator):
    image_set = made([0, 1, 2, 0, 1, 2, 0])
    plain = list(batches(image_set, 3))
    assert [len(y) for _, y in plain] == [3, 3, 1]
    assert torch.equal(torch.cat([x for x, _ in plain]), image_set.images / 255)
    assert torch.equal(torch.cat([y for _, y in plain]), image_set.labels)
    x = torch.cat([x for x, _ in batches(image_set, 3, generator=generator, dtype=torch.float64)])
    order = (x[:, 0, 0, 0] * 255).round().long().tolist()
    assert x.dtype == torch.float64 and sorted(order) == list(range(7)) and order != list(range(7))
    assert list(batches(image_set.subset([]), 3)) == []


@pytest.mark.parametrize("per_class", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("shuffled", [False, True])
def test_balanced_epoch_uses_images_floor_or_ceil_times(per_class, shuffled, generator):
    image_set = made([0, 0, 0, 2, 5, 5])
    epoch = list(batches(image_set, 4, generator=generator if shuffled else None, per_class=per_class))
    y = torch.cat([y for _, y in epoch])
    uses = torch.bincount((torch.cat([x for x, _ in epoch])[:, 0, 0, 0] * 255).round().long(), minlength=6)
    assert torch.bincount(y, minlength=6).tolist() == [per_class, 0, per_class, 0, 0, per_class]
    count = torch.tensor([3, 3, 3, 1, 2, 2])
    assert ((uses == per_class // count) | (uses == -(-per_class // count))).all()


def test_batches_are_reproducible_and_augmented(generator):
    image_set, seeds = made([0, 1, 2, 3]), [torch.Generator().manual_seed(s) for s in (5, 5, 6)]
    recipe = Augment(crop=1, jitter=0.5)
    a, b, c = (next(batches(image_set, 4, generator=g, augment=recipe))[0] for g in seeds)
    assert torch.equal(a, b) and not torch.equal(a, c)
    with pytest.raises(ValueError, match="augment needs generator"):
        batches(image_set, 4, augment=recipe)
    for wrong in ({"batch_size": 0}, {"batch_size": 2, "per_class": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            batches(image_set, **wrong)


# Augment


EACH = [
    Augment(crop=3),
    Augment(flip=True),
    Augment(jitter=0.5),
    Augment(rotation=40),
    Augment(translate=4),
    Augment(project=0.8),
    *dict.fromkeys(recipe for recipe in AUGMENT.values() if recipe != Augment()),
]


@pytest.fixture
def x(generator):
    image = torch.rand(1, 3, 12, 10, generator=generator, dtype=torch.float64)
    return image.repeat(32, 1, 1, 1)  # the same image, so that only the transforms differ


@pytest.mark.parametrize("augment", EACH, ids=str)
def test_augment_draws_per_image_in_range_and_reproducibly(augment, x, generator):
    seeds = [torch.Generator().manual_seed(s) for s in (3, 3)]
    out, again = (augment(x, generator=seed) for seed in seeds)
    assert out.shape == x.shape and out.dtype == x.dtype and torch.equal(out, again)
    assert out.min() >= 0 and out.max() <= 1
    discrete = {Augment(flip=True): 2, Augment(crop=3): 20, AUGMENT["blossoms"]: 20, AUGMENT["cub200"]: 2}
    assert len({image.numpy().tobytes() for image in out}) >= discrete.get(augment, len(x))


def test_augment_of_nothing_is_the_identity(x, generator):
    assert torch.equal(Augment()(x, generator=generator), x)


@pytest.mark.parametrize("augment", [Augment(rotation=1e-9), Augment(translate=1e-9), Augment(project=1e-9)])
def test_tiny_warp_changes_nothing(augment, x, generator):
    torch.testing.assert_close(augment(x, generator=generator), x, rtol=0, atol=1e-7)


def test_flip_is_exact(x, generator):
    turned = [torch.equal(out, x[0].flip(2)) for out in Augment(flip=True)(x, generator=generator)]
    kept = [torch.equal(out, x[0]) for out in Augment(flip=True)(x, generator=generator)]
    assert 4 < sum(turned) < 28 and 4 < sum(kept) < 28
    outs = Augment(flip=True)(x, generator=generator)
    assert all(torch.equal(out, x[0]) or torch.equal(out, x[0].flip(2)) for out in outs)


def test_crop_is_a_window_of_the_zero_padded_image(x, generator):
    padded = F.pad(x[0], [2] * 4)
    windows = [padded[:, i : i + 12, j : j + 10] for i in range(5) for j in range(5)]
    hits = {
        next(k for k, w in enumerate(windows) if torch.equal(w, out)) for out in Augment(crop=2)(x, generator=generator)
    }
    assert len(hits) > 10


def warp(corners, image):
    """Sample `image` (C,H,W) where the grid's corners go to `corners` (4,2)."""
    square = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)
    grid = data._homography_grid(square, corners[None], *image.shape[1:])
    return grid, F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]


def test_homography_of_turned_corners_is_a_quarter_turn():
    image = torch.rand(3, 8, 8, dtype=torch.float64)
    _, out = warp(torch.tensor([[1, -1], [1, 1], [-1, 1], [-1, -1]], dtype=torch.float64), image)
    torch.testing.assert_close(out, image.rot90(1, (1, 2)))


def test_homography_meets_the_affine_grid_and_its_own_corners(generator):
    theta = torch.tensor([[[0.8, -0.3, 0.1], [0.2, 1.1, -0.2]]], dtype=torch.float64)
    square = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)
    grid, _ = warp(square @ theta[0, :, :2].T + theta[0, :, 2], torch.zeros(1, 6, 9, dtype=torch.float64))
    torch.testing.assert_close(grid, F.affine_grid(theta, (1, 1, 6, 9), align_corners=False))
    target = square + 0.4 * torch.rand(4, 2, generator=generator, dtype=torch.float64)
    grid, _ = warp(target, torch.zeros(1, 2001, 2001, dtype=torch.float64))
    reached = torch.stack([grid[0, 0, 0], grid[0, 0, -1], grid[0, -1, -1], grid[0, -1, 0]])
    torch.testing.assert_close(reached, target, rtol=0, atol=2e-3)  # pixel centres lie half a pixel inside the corners


def test_translation_moves_by_at_most_its_pixels(generator):
    ramp = torch.arange(32, dtype=torch.float64).expand(64, 1, 32, 32) / 31
    moved = (Augment(translate=3)(ramp, generator=generator) - ramp)[:, 0, 16, 16] * 31
    assert 2.5 < moved.abs().max() <= 3 + 1e-9 and moved.min() < -1 and moved.max() > 1


def test_rotation_keeps_the_centre_and_turns_no_further_than_asked(generator):
    dot = torch.zeros(64, 1, 33, 33, dtype=torch.float64)
    dot[:, :, 16, 28] = 1  # 12 pixels right of the centre
    out = Augment(rotation=30)(dot, generator=generator)[:, 0]
    grid = torch.arange(33, dtype=torch.float64) - 16
    mass = out.sum((1, 2))
    angle = torch.rad2deg(torch.atan2((out.sum(2) @ grid) / mass, (out.sum(1) @ grid) / mass))
    assert 25 < angle.abs().max() < 31 and angle.min() < -10 and angle.max() > 10


def test_jitter_factors_by_hand():
    x = (
        torch.tensor([[0.2, 0.4], [0.6, 0.1]], dtype=torch.float64).expand(1, 3, 2, 2)
        * torch.tensor([1, 0.5, 0.2])[:, None, None]
    )
    one = torch.ones(3, 1, dtype=torch.float64)
    torch.testing.assert_close(data._jitter(x, one), x)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    grey = torch.einsum("c,nchw->nhw", weights, x)
    for row, blend in enumerate((torch.zeros(()), grey.mean(), grey)):
        factors = one.clone()
        factors[row] = 0.75
        torch.testing.assert_close(data._jitter(x, factors), 0.75 * x + 0.25 * blend)


def test_augment_keeps_grey_grey_and_refuses_negative(generator):
    grey = torch.rand(4, 1, 8, 8, generator=generator).repeat(1, 3, 1, 1)
    out = AUGMENT["cifar10"](grey, generator=generator)
    torch.testing.assert_close(out[:, 0], out[:, 2])
    with pytest.raises(ValueError, match="rotation must be finite and not negative, not -1"):
        Augment(rotation=-1)


@pytest.mark.gpu
@pytest.mark.parametrize("augment", EACH, ids=str)
def test_augment_is_the_same_on_the_gpu(augment, x):
    here, there = (augment(part, generator=torch.Generator().manual_seed(3)) for part in (x, x.cuda()))
    torch.testing.assert_close(here, there.cpu())


# load: formats


def test_tables_agree():
    assert set(SETS) == set(AUGMENT)
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
    assert image_set.images.shape[1] == data.SETS[name].channels
    assert image_set.note == "6 of 10,000 images" and load(name, "test", root=tmp_path, size=32).images.shape[2:] == (
        32,
        32,
    )


def batch(pixels, labels):
    return pickle.dumps({"data": pixels, "labels": labels})


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


def signs():
    """Two classes, 12 and 1 tracks of 3 frames; red = class, green = track."""
    tracks = [(0, track) for track in range(12)] + [(42, 0)]
    return {f"{c:05}/{t:05}_{f:05}.ppm": encoded((c, t, f), "PPM", (9, 7)) for c, t in tracks for f in range(3)}


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


def trimap(width, height):
    """Upper half flower (1), lower half background (3)."""
    rows = np.repeat([[1], [3]], [height // 2, height - height // 2], axis=0)
    image = Image.fromarray(rows.repeat(width, axis=1).astype(np.uint8))
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("packed", [True, False])
def test_flower17_with_masks(tmp_path, packed):
    test = (_sources.SPLITS / "flower17_test.txt").read_text().split()
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


def test_flower17_split_is_the_written_one():
    text = (_sources.SPLITS / "flower17_test.txt").read_text()
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "0449f463aea293d4c1b5cb4a81cccb68b9b824fca6fecb0be6e1af49d8d579f6"
    )
    with open(_sources.SPLITS / "flower17_near_duplicates.csv") as file:
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


def birds():
    """Three images of two classes, one of them greyscale; image 7 is for testing."""
    return {
        "CUB_200_2011/classes.txt": b"1 001.Black_footed_Albatross\n5 005.Crested_Auklet\n",
        "CUB_200_2011/images.txt": b"3 001.B/a.jpg\n5 005.C/b.jpg\n7 005.C/c.jpg\n",
        "CUB_200_2011/image_class_labels.txt": b"3 1\n5 5\n7 5\n",
        "CUB_200_2011/train_test_split.txt": b"3 1\n5 1\n7 0\n",
        "CUB_200_2011/bounding_boxes.txt": b"3 10.0 20.0 30.0 40.0\n5 0.0 0.0 80.0 40.0\n7 40.0 10.0 50.0 40.0\n",
        "CUB_200_2011/images/001.B/a.jpg": encoded((90, 0, 0), "JPEG", (100, 80)),
        "CUB_200_2011/images/005.C/b.jpg": encoded(70, "JPEG", (80, 40), "L"),
        "CUB_200_2011/images/005.C/c.jpg": encoded((0, 90, 0), "JPEG", (80, 40)),
    }


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


@pytest.mark.parametrize("limit", [1, 2, 5, 9, 12, 100])
def test_limit_is_balanced_and_nested(limit):
    labels = torch.tensor([0] * 50 + [1] * 4 + [2] * 20)
    kept = data._balanced_first(labels, limit)
    counts = torch.bincount(labels[kept], minlength=3)
    assert len(kept) == min(limit, 74) == len(set(kept.tolist()))
    assert counts.max() - counts.min() <= 1 or counts[1] == 4
    assert torch.equal(data._balanced_first(labels, 74)[:limit], kept) and kept.tolist() != list(range(len(kept)))


# load: what goes wrong


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
    assert str(tmp_path) in message and "http" in message and "ARTLIB_DATA" in message and "\n" not in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert list(tmp_path.iterdir()) == []


def test_download_is_checked_renamed_and_recorded(tmp_path, monkeypatch, capsys):
    path, content = tmp_path / "new" / "file.tgz", b"x" * 1000
    serve(monkeypatch, Response(content))
    assert _sources.fetch(path, "http://a", md5=hashlib.md5(content).hexdigest()) == path
    assert path.read_bytes() == content and [p.name for p in path.parent.iterdir()] == ["file.tgz"]
    assert _sources.fetch(path, "http://a") == path  # nothing left to serve: not asked again
    unknown = tmp_path / "trimaps.tgz"
    serve(monkeypatch, Response(content))
    _sources.fetch(unknown, "http://a")
    _sources.fetch(unknown, "http://a")
    unknown.write_bytes(b"changed")
    with pytest.raises(ValueError, match="trimaps.tgz is not what trimaps.tgz.sha256 recorded"):
        _sources.fetch(unknown, "http://a")


@pytest.mark.parametrize("response, md5", [(Response(b"x" * 10, 1000), None), (Response(b"x" * 10), "0" * 32)])
def test_truncated_or_changed_download_leaves_nothing(tmp_path, monkeypatch, response, md5, capsys):
    serve(monkeypatch, response)
    with pytest.raises(OSError, match="download of file.tgz from http://a failed .*nothing was kept, load again"):
        _sources.fetch(tmp_path / "file.tgz", "http://a", md5=md5)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_folder_is_named(tmp_path, monkeypatch):
    put(tmp_path / "folder")  # a file in the way: also root cannot write below it
    serve(monkeypatch, Response(b"x"))
    with pytest.raises(PermissionError, match=r"cannot write file.tgz to .*folder .*ARTLIB_DATA"):
        _sources.fetch(tmp_path / "folder" / "file.tgz", "http://a")


def test_second_mirror_is_tried(tmp_path, monkeypatch, capsys):
    def first_fails(request, **_):
        if request.full_url == "http://a":
            raise urllib.error.URLError("gone")
        return Response(b"x")

    monkeypatch.setattr(urllib.request, "urlopen", first_fails)
    assert _sources.fetch(tmp_path / "f", "http://a", "http://b", md5=hashlib.md5(b"x").hexdigest()).exists()


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
            _sources.members(archive, "jpg$")


def test_links_in_archives_are_not_followed(tmp_path):
    link = tarfile.TarInfo("jpg/image_0001.jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    with tarfile.open(tmp_path / "bad.tgz", "w:gz") as archive:
        archive.addfile(link)
    assert _sources.members(tmp_path / "bad.tgz", "jpg$") == {}
