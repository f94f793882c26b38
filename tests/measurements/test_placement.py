"""Placement of a network whose maps are known, and that every method is measured by the metrics of its maps."""

from dataclasses import replace

import pytest
import torch
from test_localization_and_segmentation import LOOKS, SIZE, Looks, by_index, scene
from torch import nn

from artlib.measurements import Placement
from artlib.measurements.placement import MEASURES, METHODS
from artlib.metrics import localization as loc

PLAIN = Placement(points=2, smooth=1)


def test_the_gradient_of_a_network_that_looks_at_the_object_is_placed_perfectly():
    """Its map is 1 in the box of the label and 0 elsewhere; the last image's object is the other box."""
    found = PLAIN(Looks().double(), scene(), progress=False)
    common = (loc.box_mask(LOOKS[:1], (SIZE, SIZE)) & loc.box_mask(LOOKS[1:], (SIZE, SIZE))).sum().item()
    seen, truth = loc.area(LOOKS)[1].item(), loc.area(LOOKS)[0].item()
    overlap = common / (seen + truth - common)
    pixels = SIZE * SIZE
    recall = common / truth
    ap = recall * common / seen + (1 - recall) * truth / pixels  # two levels: the box, then all the rest at once
    for measure, last in (("pointing", common / seen), ("placed_box", overlap), ("placed_mask", overlap), ("ap", ap)):
        assert by_index(found, f"gradient_{measure}") == pytest.approx([1, 1, 1, last]), measure
    assert by_index(found, "cam_pointing") == pytest.approx([1, 1, 1, common / seen])


def test_every_column_is_the_metric_of_the_map_of_its_method(generator):
    images = scene()
    images = replace(images, images=torch.randint(0, 256, images.images.shape, generator=generator).to(torch.uint8))
    model = Looks().double()
    found = Placement(points=3)(model, images, progress=False)
    assert set(found) == {"index"} | {f"{m}_{k}" for m in METHODS for k in MEASURES}
    x = images.images.double() / 255
    for name, explainer in Placement(points=3).explainers().items():
        maps = explainer(model, x, images.labels).detach()
        assert maps.shape == (4, SIZE, SIZE)
        smooth = loc.mean_filter(maps, 3)
        box = loc.iou(loc.bounding_box(smooth, loc.otsu(smooth)), images.boxes)
        assert by_index(found, f"{name}_placed_box") == pytest.approx(box.tolist())
        assert by_index(found, f"{name}_pointing") == pytest.approx(loc.inside(maps, images.masks).tolist())
        each = [loc.pixel_ap(maps[i : i + 1], images.masks[i : i + 1]) for i in range(4)]
        assert by_index(found, f"{name}_ap") == pytest.approx(each)


def test_the_object_is_the_box_without_masks_and_the_mask_without_boxes():
    """The masks of this scene are their boxes, so that all three are one."""
    images, model = scene(), Looks().double()
    both, boxes, masks = (
        PLAIN(model, replace(images, **without), progress=False) for without in ({}, dict(masks=None), dict(boxes=None))
    )
    for column, values in both.items():
        torch.testing.assert_close(boxes[column], values)
        torch.testing.assert_close(masks[column], values)
    with pytest.raises(ValueError, match="toy have neither boxes nor masks; blossoms, cub200 and flower17 have"):
        PLAIN(model, replace(images, boxes=None, masks=None), progress=False)


class Blind(nn.Module):
    """The same for every image: all maps are 0."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.pass_ = nn.Identity()

    def forward(self, x):
        return 0 * self.pass_(x).sum((1, 2, 3))[:, None] + self.weight


def test_empty_maps_and_an_image_without_an_object_are_defined():
    """A constant map is a tie of all pixels: its precision is the object's share, its box overlaps with nothing."""
    images = scene()
    images.masks[1] = False
    found = PLAIN(Blind().double(), images, progress=False)
    share = images.masks.double().mean((1, 2)).tolist()
    for name in METHODS:
        ap, box, pointing = (by_index(found, f"{name}_{m}") for m in ("ap", "placed_box", "pointing"))
        assert [ap[0], *ap[2:]] == pytest.approx([share[0], *share[2:]]) and [box[0], *box[2:]] == [0, 0, 0]
        assert all(v != v for v in (ap[1], box[1], *pointing))
