"""A window of an image set, with its boxes and masks."""

import pytest
import torch
from tiny_files import birds, put

from artlib.data import ImageSet, load, window
from artlib.data.crop import carried_as_released
from artlib.metrics import localization as loc


@pytest.fixture
def some(generator):
    """Images of 30 x 26, each with the mask of one box of whole pixels."""
    boxes = torch.tensor([[3, 4, 19, 20], [0, 0, 30, 26], [25, 2, 29, 9], [0, 20, 5, 26], [9, 9, 10, 10]])
    images = torch.randint(0, 256, (5, 3, 26, 30), generator=generator).to(torch.uint8)
    masks = loc.box_mask(boxes, (26, 30))
    return ImageSet(images, torch.arange(5), tuple("abcde"), boxes.float(), masks, name="toy", split="test")


@pytest.mark.parametrize("corner", [None, (0, 0), (14, 10), (6, 3)])
def test_a_box_carried_through_the_crop_is_the_box_of_the_cut_mask(some, corner):
    found = window(some, 16, corner=corner)
    x, y = corner or (7, 5)
    assert torch.equal(found.images, some.images[:, :, y : y + 16, x : x + 16])
    assert torch.equal(found.masks, some.masks[:, y : y + 16, x : x + 16])
    assert torch.equal(loc.box_mask(found.boxes, (16, 16)), found.masks)
    left = found.masks.flatten(1).any(1)
    assert torch.equal(found.boxes[left], loc.box_of(found.masks)[left].float())
    assert (loc.area(found.boxes) == 0).tolist() == (~left).tolist() and not left.all()
    assert torch.equal(found.labels, some.labels) and found.name == "toy"


def test_a_box_that_leaves_the_crop_is_missed_by_every_box(some):
    found = window(some, 8, corner=(0, 0))
    gone = loc.area(found.boxes) == 0
    assert gone.tolist() == [False, False, True, True, True]
    every = torch.tensor([[0.0, 0.0, 8.0, 8.0]]).expand(3, -1)
    assert loc.iou(found.boxes[gone], every).tolist() == [0, 0, 0]


def test_a_box_carried_through_resize_and_crop_is_the_box_of_the_transformed_mask(tmp_path):
    """Files of 100 x 80 and 80 x 40 become 80 x 80, then the middle 60 x 60 are cut out: resize, then window."""
    for name, content in birds().items():
        put(tmp_path / name, content)
    whole = load("cub200", "train", root=tmp_path, size=80)
    found = window(whole, 60)
    original = torch.tensor([[10.0, 20, 40, 60], [0, 0, 80, 40]])  # of the lists, x0 y0 x1 y1
    for box, (width, height), carried in zip(original, [(100, 80), (80, 40)], found.boxes, strict=True):
        mask = loc.box_mask(box[None], (height, width)).float()
        resized = torch.nn.functional.interpolate(mask[:, None], size=(80, 80), mode="nearest-exact")[:, 0] > 0.5
        torch.testing.assert_close(loc.box_of(resized[:, 10:70, 10:70])[0], carried.double(), rtol=0, atol=1e-4)


def test_sets_without_boxes_or_masks_and_windows_outside(some):
    from dataclasses import replace

    bare = window(replace(some, boxes=None, masks=None), 4)
    assert bare.boxes is bare.masks is None
    for options in (dict(size=27), dict(size=8, corner=(23, 0)), dict(size=8, corner=(-1, 0)), dict(size=0)):
        with pytest.raises(ValueError, match="is not inside images of 30 x 26"):
            window(some, **options)


def test_the_released_code_carries_boxes_beside_the_window():
    """C-39 by hand: 0 -> -15, 128 -> 112.5, 256 -> 240. By 256 and 16 it is -16, 112, 240, cut to 0, 112, 224."""
    boxes = torch.tensor([[0.0, 128.0, 256.0, 256.0], [64.0, 32.0, 192.0, 160.0]])
    found = carried_as_released(boxes)
    assert found.tolist() == [[-15, 112.5, 240, 240], [48.75, 16.875, 176.25, 144.375]]
    assert loc.carried(boxes, corner=(16, 16), size=(224, 224)).tolist() == [[0, 112, 224, 224], [48, 16, 176, 144]]
    other = carried_as_released(torch.tensor([[32.0, 0.0, 64.0, 64.0]]), whole=64, size=32)
    assert other.tolist() == [[32 * 63 / 64 - 15, -15, 48, 48]]
