"""Boxes and masks of maps: small maps by hand, components of scipy and scikit-image, and a window that is cut out."""

import matplotlib
import numpy as np
import pytest
import torch
from scipy import ndimage

from artlib.metrics import localization as loc
from artlib.metrics import localization_authors as authors

F64 = torch.float64


def maps(*texts: str) -> torch.Tensor:
    """Digits as maps."""
    return torch.tensor([[[int(c) for c in row] for row in t.split()] for t in texts], dtype=F64)


FIVE = "00000 09800 07000 00006 00000"  # two diagonal neighbours 9-7 and 9-8 at the left, one pixel at the right
SEVEN = "0000000 0880000 0080000 0000000 0000590 0000990 0009000"


@pytest.mark.parametrize(
    ("threshold", "box"),
    [(0.5, [1, 1, 3, 3]), (0.85, [1, 1, 3, 2]), (0.95, [1, 1, 2, 2]), (1.0, [1, 1, 2, 2])],
)
def test_a_box_of_five_by_five_by_hand(threshold, box):
    assert loc.bounding_box(maps(FIVE), threshold).tolist() == [box]


def test_boxes_of_seven_by_seven_by_hand():
    """With corners four lower pixels hang together (the 5 is below 0.6 of 9), by sides alone three, on each side."""
    found = {c: loc.bounding_box(maps(SEVEN), 0.6, connectivity=c).tolist() for c in (4, 8)}
    assert found[8] == [[3, 4, 6, 7]]  # 9 at (4,5), (5,4), (5,5), (6,3): four pixels
    assert found[4] == [[1, 1, 3, 3]]  # three pixels (1,1), (1,2), (2,2), and three below: the first in reading order
    assert loc.foreground(maps(SEVEN), 0.5).sum().item() == 8  # 5 of 9 is above a half
    with pytest.raises(ValueError, match="connectivity is 6; 4"):
        loc.bounding_box(maps(SEVEN), 0.6, connectivity=6)


@pytest.mark.parametrize("value", [0.0, 3.0, float("nan"), float("inf")])
def test_an_empty_map_has_an_empty_box_that_overlaps_with_nothing(value):
    some = torch.full((1, 5, 5), value, dtype=F64)
    if value == 0:
        some = torch.zeros(1, 5, 5, dtype=F64)
    box = loc.bounding_box(some, 0.2)
    assert box.tolist() == [[0, 0, 0, 0]] and loc.iou(box, torch.tensor([[0, 0, 5, 5]])).tolist() == [0]
    assert loc.iou(box, box).tolist() == [0]


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.01])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(ValueError, match="it is a share of the map's range"):
        loc.bounding_box(maps(FIVE), threshold)


def test_one_bad_map_does_not_touch_the_others():
    both = torch.cat([maps(FIVE), torch.full((1, 5, 5), torch.nan, dtype=F64)])
    assert torch.equal(loc.bounding_box(both, 0.5)[:1], loc.bounding_box(maps(FIVE), 0.5))


@pytest.mark.parametrize("connectivity", [4, 8])
def test_the_largest_component_is_scipys(connectivity, generator):
    masks = torch.rand(30, 9, 12, generator=generator) < 0.4
    found = loc.largest_component(masks, connectivity=connectivity)
    structure = np.ones((3, 3)) if connectivity == 8 else None
    for mask, out in zip(masks.numpy(), found.numpy(), strict=True):
        labels, count = ndimage.label(mask, structure)
        sizes = ndimage.sum(mask, labels, range(1, count + 1))
        assert out.sum() == sizes.max() and len(set(labels[out])) == 1 and mask[out].all()
        rows, columns = ndimage.find_objects(out.astype(int))[0]
        assert loc.box_of(torch.from_numpy(out)[None]).tolist() == [
            [columns.start, rows.start, columns.stop, rows.stop]
        ]


@pytest.mark.parametrize("connectivity", [4, 8])
def test_the_box_is_that_of_scikit_images_largest_region(connectivity, generator):
    """Its labels go in reading order, so that of equal regions the first is both packages'."""
    measure = pytest.importorskip("skimage.measure")
    some, neighbours = torch.rand(30, 11, 14, generator=generator, dtype=F64), {4: 1, 8: 2}[connectivity]
    found = loc.bounding_box(some, 0.6, connectivity=connectivity)
    masks = loc.foreground(some, 0.6)
    kept = loc.largest_component(masks, connectivity=connectivity)
    for mask, box, out in zip(masks.numpy(), found.tolist(), kept.numpy(), strict=True):
        labels = measure.label(mask, connectivity=neighbours)
        largest = max(measure.regionprops(labels), key=lambda region: region.area)
        assert np.array_equal(out, labels == largest.label)
        y0, x0, y1, x1 = largest.bbox
        assert box == [x0, y0, x1, y1]


def test_maps_that_differ_by_scale_and_offset_have_one_box(generator):
    some = torch.rand(5, 9, 9, generator=generator, dtype=F64)
    for t in (0.3, 0.7):
        assert torch.equal(loc.bounding_box(some, t), loc.bounding_box(7 * some - 3, t))


def test_mean_filter_by_hand():
    found = loc.mean_filter(maps("900 000 000"))[0]
    expected = [[9 / 4, 9 / 6, 0], [9 / 6, 1, 0], [0, 0, 0]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=F64))
    with pytest.raises(ValueError, match="size is 4; a mean filter has an odd"):
        loc.mean_filter(maps(FIVE), 4)


def boxes(*rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=F64)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7),
        ((0, 0, 4, 4), (1, 1, 3, 3), 1 / 4),
        ((0, 0, 20, 20), (40, 40, 60, 60), 0),  # disjoint along the diagonal: C-37
        ((0, 0, 2, 2), (2, 0, 4, 2), 0),
        ((3, 3, 3, 3), (3, 3, 3, 3), 0),
        ((5, 5, 2, 2), (0, 0, 9, 9), 0),  # inside out
    ],
)
def test_iou_of_boxes_by_hand(a, b, expected):
    assert loc.iou(boxes(a), boxes(b)).item() == pytest.approx(expected)
    assert loc.iou(boxes(b), boxes(a)).item() == pytest.approx(expected)


def test_iou_of_boxes_is_that_of_their_masks(generator):
    corner = torch.randint(0, 8, (50, 2, 2), generator=generator)
    a, b = (torch.cat([corner[:, i], corner[:, i] + torch.tensor([3, 4])], 1) for i in (0, 1))
    masks = [loc.box_mask(v, (14, 14)) for v in (a, b)]
    torch.testing.assert_close(loc.iou(a, b), loc.mask_iou(*masks))
    assert torch.equal(loc.box_of(masks[0]), a.double())
    with pytest.raises(ValueError, match=r"boxes must be \(N, 4\)"):
        loc.iou(a, b[:3])
    with pytest.raises(ValueError, match="masks must be bool"):
        loc.mask_iou(masks[0], masks[1][:, 1:])


def test_the_share_of_the_object_that_a_box_covers():
    found = loc.covered(
        boxes((1, 1, 3, 5), (0, 0, 9, 9), (3, 3, 5, 5), (0, 0, 9, 9)), boxes(*[(2, 2, 4, 4)] * 3, [2, 2, 2, 4])
    )
    assert found[:3].tolist() == [0.5, 1, 0.25] and found[3].isnan()


@pytest.mark.parametrize("corner", [(0, 0), (4, 6), (18, 2)])
def test_a_carried_box_is_the_box_of_the_transformed_mask(corner):
    """A box of whole pixels, the image doubled, then a window of 16 x 20 cut out; at the last corner it is gone."""
    box = torch.tensor([[3, 4, 9, 10]])
    mask = loc.box_mask(box, (14, 20)).repeat_interleave(2, 1).repeat_interleave(2, 2)
    window = mask[:, corner[1] : corner[1] + 16, corner[0] : corner[0] + 20]
    found = loc.carried(box, scale=(2, 2), corner=corner, size=(16, 20))
    assert torch.equal(loc.box_mask(found, (16, 20)), window)
    if window.any():
        assert torch.equal(found, loc.box_of(window))
    else:
        assert loc.iou(found, boxes((0, 0, 20, 16))).item() == 0


def test_a_box_that_overruns_the_image_is_cut():
    assert loc.carried(boxes((-3, 2, 30, 8)), size=(10, 20)).tolist() == [[0, 2, 20, 8]]
    assert loc.box_mask(boxes((-3, 2, 30, 8)), (10, 20)).sum().item() == 6 * 20


def test_energy_in_the_box_by_hand():
    some, truth = maps("120 340 000"), loc.box_mask(boxes((0, 0, 1, 3)), (3, 3))
    assert loc.inside(some, truth).item() == pytest.approx(4 / 10)
    assert loc.inside(-some, truth).isnan().all() and loc.inside(0 * some, truth).isnan().all()


def test_curves_and_what_is_made_of_them(generator):
    some, truth = torch.rand(6, 9, 9, generator=generator, dtype=F64), boxes(*[(2, 2, 7, 7)] * 6)
    found = loc.curve(some, truth, thresholds=(0.2, 0.6))
    torch.testing.assert_close(found[:, 1], loc.iou(loc.bounding_box(some, 0.6), truth))
    by_hand = torch.tensor([[0.2, 0.6, 0.4], [0.8, 0.5, 0.1], [0.9, 0.4, 0.35], [0.0, 0.2, 0.6]], dtype=F64)
    assert loc.max_box_acc(by_hand).tolist() == [0.75, 0.5, 0.5]
    assert loc.best_threshold(by_hand, thresholds=(0.1, 0.2, 0.3)) == 0.2  # two of four, as at 0.1: the later of two
    assert loc.best_threshold(by_hand, least=0.7, thresholds=(0.1, 0.2, 0.3)) == 0.1


def test_pixel_ap_by_hand():
    """Scores 1, 2/3, 1/3, 0; truth at the first and third: 1/2 * 1 + 1/2 * 2/3. With a tie of the last three: 5/8."""
    truth = torch.tensor([[[True, False], [True, False]]])
    assert loc.pixel_ap(maps("32 10"), truth) == pytest.approx(1 / 2 + 1 / 3)
    assert loc.pixel_ap(maps("30 00"), truth) == pytest.approx(1 / 2 + 1 / 2 * 2 / 4)
    assert np.isnan(loc.pixel_ap(maps("30 00"), truth & False))


def test_otsu_separates_two_levels_and_gives_up_on_one():
    """Every cut between two levels is as good; of three, by hand: 0 0 0 | 8 9 9."""
    found = loc.otsu(maps("009 900 000", "000 899 000", "555 555 555"))
    above = (loc.normalise(maps("009 900 000", "000 899 000")) >= found[:2, None, None]).sum((1, 2))
    assert above.tolist() == [2, 3]
    assert found[2] == 1 and 0 < found[0] <= 1


def test_otsu_maximises_the_variance_between(generator):
    m = torch.rand(1, 8, 8, generator=generator, dtype=F64) ** 3
    levels = (loc.normalise(m) * 255).round().flatten()

    def between(t):
        high = levels / 255 >= t
        if high.all() or not high.any():
            return 0.0
        return (
            high.double().mean() * (~high).double().mean() * (levels[high].mean() - levels[~high].mean()) ** 2
        ).item()

    best = max(between((i + 0.5) / 255) for i in range(255))
    assert between(loc.otsu(m).item()) == pytest.approx(best)


def test_a_centred_gaussian_is_centred():
    found = loc.centred_gaussian(2, (9, 13))
    torch.testing.assert_close(found, found.flip(1).flip(2))
    assert found[0, 4, 6] == found.max() == 1
    assert loc.bounding_box(found, 0.5)[0].tolist() == [3, 2, 10, 7]


# ------------------------------------------------------------------ the authors' pipeline


def test_disjoint_boxes_score_with_the_authors():
    """C-37: boxes of 20 pixels, 20 apart along the diagonal, are a hit; overlapping ones are as they should be."""
    a, b = boxes((0, 0, 20, 20)), boxes((40, 40, 60, 60))
    assert authors.iou(a, b).item() == pytest.approx(361 / 521) and loc.iou(a, b).item() == 0
    assert authors.iou(a, a).item() == 1


def test_the_authors_average_is_inflated():
    """C-38: classes whose hit rate falls evenly along the list from 95.6 to 54.4 %: true 75.0, reported 85.3.

    The running mean at share t is 0.75 + 0.206 (1 - t), whose mean is 0.853. In the other direction it deflates.
    """
    rates = torch.linspace(0.956, 0.544, 5794, dtype=F64)
    assert 100 * rates.mean().item() == pytest.approx(75.0)
    assert 100 * authors.reported(rates) == pytest.approx(85.3, abs=0.05)
    assert 100 * authors.reported(rates.flip(0)) == pytest.approx(64.7, abs=0.05)
    assert authors.reported(torch.ones(9)) == 1


def unit(maps: np.ndarray) -> np.ndarray:
    return (maps - maps.min()) / (maps.max() - maps.min())


def levels_written_out(maps: np.ndarray) -> np.ndarray:
    """C-36: what `coloured` rounds: the luminance of cubehelix's whole numbers, each map by itself."""
    red, green, blue = np.floor(255 * np.stack([matplotlib.colormaps["cubehelix"](unit(m))[..., :3] for m in maps])).T
    return (0.299 * red + 0.587 * green + 0.114 * blue).T


def smoothed_written_out(gradient: np.ndarray) -> np.ndarray:
    """C-36: what `grey` colours."""
    maps = unit(np.abs(gradient).mean(1))
    maps = [(m - m.mean()) / m.std(ddof=1) for m in maps]
    maps = unit(np.stack([m.clip(*np.percentile(m, [2, 98])) for m in maps]))
    maps = [ndimage.convolve(m, np.full((3, 3), 1 / 9), mode="constant") for m in maps]
    return np.stack([ndimage.gaussian_filter(m, 3) for m in maps])


def test_the_authors_levels_are_the_steps_of_the_released_code_written_out(generator):
    x = torch.randn(3, 3, 24, 20, generator=generator, dtype=F64) * torch.tensor([1.0, 5, 0.2]).view(-1, 1, 1, 1)
    for found, of in ((authors.grey(x), smoothed_written_out(x.numpy())), (authors.coloured(x[:, 0]), x[:, 0].numpy())):
        assert torch.equal(found, found.round())
        np.testing.assert_allclose(found.numpy(), levels_written_out(of), rtol=0, atol=0.5 + 1e-9)


def test_what_is_batch_wide_in_the_authors_map_cancels(generator):
    """C-36: z-scores, and the range that is the image's own in the end, undo both ranges of the batch."""
    x = torch.rand(4, 3, 20, 20, generator=generator, dtype=F64)
    alone, among = authors.grey(x[:1]), authors.grey(torch.cat([x[:1], 50 * x[1:]]))[:1]
    assert (alone - among).abs().max() <= 1  # a grey level, by rounding
    assert alone.min() == 0 and alone.max() == 255


def test_the_authors_box_is_around_the_blob_and_too_large(generator):
    assert authors.bounding_box(authors.grey(torch.zeros(1, 3, 9, 9))).tolist() == [[0, 0, 1, 1]]
    blob = torch.zeros(1, 3, 40, 40, dtype=F64)
    blob[:, :, 10:20, 5:25] = 1 + 0.1 * torch.rand(3, 10, 20, generator=generator, dtype=F64)
    found = authors.bounding_box(authors.grey(blob))[0]
    assert (found[:2] < torch.tensor([5, 10])).all() and (found[2:] > torch.tensor([25, 20])).all()
    assert 0.3 < loc.iou(found[None], boxes((5, 10, 25, 20))).item() < 0.8  # smoothed by 3 pixels
