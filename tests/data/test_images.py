"""`ImageSet` and `batches`."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch

from artlib import data
from artlib.data import Augment, ImageSet, augment, batches, images, info


def made(labels, *, channels=3, size=4, **more):
    """An ImageSet whose image i is the constant i."""
    images = torch.arange(len(labels), dtype=torch.uint8)[:, None, None, None].repeat(1, channels, size, size)
    return ImageSet(images, torch.tensor(labels), tuple("abcdefgh"), **more)


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
        ({"boxes": torch.tensor([[0, 0, 1, 1], [0, float("nan"), 1, 1]])}, "finite numbers, which box 1 is not"),
        ({"boxes": torch.tensor([[0, 0, 1, float("inf")], [0, 0, 1, 1]])}, "finite numbers, which box 0 is not"),
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


def test_images_need_not_be_square(generator):
    images = torch.randint(0, 256, (6, 3, 5, 9), dtype=torch.uint8, generator=generator)
    masks = torch.rand(6, 5, 9, generator=generator) > 0.5
    image_set = ImageSet(images, torch.arange(6) % 2, ("a", "b"), torch.ones(6, 4), masks)
    assert image_set.subset([3]).masks.shape == (1, 5, 9) and len(data.mean_std(image_set)[0]) == 3
    recipe = Augment(crop=1, flip=True, jitter=0.2, rotation=5, translate=1, project=0.2)
    (x, _), *_ = batches(image_set, 4, generator=generator, augment=recipe)
    assert x.shape == (4, 3, 5, 9)
    with pytest.raises(ValueError, match="masks must be"):
        ImageSet(images, image_set.labels, ("a", "b"), masks=masks.mT)


@pytest.mark.parametrize("module", [images, augment, info], ids=lambda module: module.__name__)
def test_what_trainings_need_knows_no_file_formats(module):
    """Digests of code follow imports: a changed reader must not change that of a training."""
    tree = ast.parse(Path(module.__file__).read_text())
    named = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in named if name.startswith("artlib")} <= {"artlib.data.images", "artlib.data.augment"}
