"""The built-in data set: exact masks and boxes, independence of n, balance, and the same bytes on every machine."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from artlib.data import blossoms
from artlib.paths import ROOT

# A snapshot on purpose: it is what "one seed is one data set on every machine" means. Change it only with the drawing.
FINGERPRINT = "4f8aacf2a5d1306310ca255625cdcda6296d24f3930d705e8d4f67915e4de550"
PRINT_FINGERPRINT = """
import hashlib
from artlib.data import blossoms
print(hashlib.sha256(b"".join(part.numpy().tobytes() for part in blossoms.draw(64, size=32, seed=0))).hexdigest())
"""


@pytest.fixture(scope="module")
def drawn():
    return blossoms.draw(200, size=32, seed=5)


@pytest.mark.parametrize("size", [28, 32, 45, 64, 128])
def test_types_shapes_and_contrast(size):
    images, labels, masks, boxes = blossoms.draw(3, size=size, seed=1)
    assert images.shape == (3, 3, size, size) and images.dtype == torch.uint8
    assert labels.shape == (3,) and labels.dtype == torch.int64
    assert masks.shape == (3, size, size) and masks.dtype == torch.bool
    assert boxes.shape == (3, 4) and boxes.dtype == torch.float32
    assert images.float().std((1, 2, 3)).min() > 10  # grey levels: nothing is flat


def test_boxes_are_the_tight_bounds_of_the_masks(drawn):
    _, _, masks, boxes = drawn
    for mask, box in zip(masks, boxes, strict=True):
        y, x = mask.nonzero(as_tuple=True)
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_flowers_are_large_enough_to_see_and_leave_room_for_clutter(drawn):
    _, _, masks, boxes = drawn
    share = masks.float().mean((1, 2))
    assert share.min() > 0.02 and share.max() < 0.65
    width = (boxes[:, 2:] - boxes[:, :2]).amax(1) / 32
    assert 0.5 < width.mean() < 0.75 and width.max() - width.min() > 0.3


def test_masks_follow_the_flower(drawn):
    """Across the mask's outline neighbouring pixels differ more than elsewhere."""
    images, _, masks, _ = drawn
    step = (images[..., 1:].float() - images[..., :-1].float()).abs().mean(1)
    outline = masks[..., 1:] != masks[..., :-1]
    assert step[outline].mean() > 1.5 * step[~outline].mean()


@pytest.mark.parametrize("n", [1, 5, 41])
def test_an_image_does_not_depend_on_how_many_are_drawn(drawn, n):
    for few, many in zip(blossoms.draw(n, size=32, seed=5), drawn, strict=True):
        assert torch.equal(few, many[:n])


def test_seeds_and_chunks_differ(drawn):
    images = torch.cat([drawn[0], blossoms.draw(200, size=32, seed=6)[0]])
    assert len(torch.unique(images.flatten(1), dim=0)) == 400


@pytest.mark.parametrize(("n", "num_classes"), [(60, 10), (57, 10), (25, 12), (33, 2)])
def test_labels_are_balanced_and_shuffled(n, num_classes):
    labels = blossoms.draw(n, size=28, num_classes=num_classes)[1]
    counts = torch.bincount(labels, minlength=num_classes)
    assert len(counts) == num_classes and counts.max() - counts.min() <= 1
    assert not torch.equal(labels, torch.arange(n) % num_classes)


def test_colour_does_not_give_the_kind_away():
    """The nearest class mean in mean colour, learnt on 600 images, is about as good as chance (10 %) on 200 others."""
    images, labels, _, _ = blossoms.draw(800, size=28, seed=2)
    colour = images.double().mean((2, 3))
    means = torch.stack([colour[:600][labels[:600] == kind].mean(0) for kind in range(10)])
    assert (torch.cdist(colour[600:], means).argmin(1) == labels[600:]).double().mean() < 0.2


def test_polynomial_angle():
    x, y = np.random.default_rng(0).normal(size=(2, 1000))
    error = blossoms._turn(x, y) - np.arctan2(y, x) / (2 * np.pi)
    assert np.abs(error - np.round(error)).max() < 1e-4
    assert blossoms._turn(np.zeros(1), np.zeros(1)) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n = 0"),
        ({"n": 3, "size": 27}, "size = 27"),
        ({"n": 3, "num_classes": 1}, "num_classes = 1"),
        ({"n": 3, "num_classes": len(blossoms.CLASSES) + 1}, f"2 to {len(blossoms.CLASSES)}"),
    ],
)
def test_impossible_requests_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        blossoms.draw(**arguments)


def test_same_bytes_as_everywhere():
    drawn = blossoms.draw(64, size=32, seed=0)
    assert hashlib.sha256(b"".join(part.numpy().tobytes() for part in drawn)).hexdigest() == FINGERPRINT


def test_same_bytes_without_vector_units():
    """NumPy without the instruction sets it dispatches to, PyTorch with its plainest kernels."""
    dispatched = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    plain = {"NPY_DISABLE_CPU_FEATURES": " ".join(dispatched), "ATEN_CPU_CAPABILITY": "default"}
    run = [sys.executable, "-W", "error::ImportWarning", "-c", PRINT_FINGERPRINT]
    done = subprocess.run(run, env=os.environ | plain, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == FINGERPRINT
