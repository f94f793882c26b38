"""Where a map says the object is: boxes and masks of maps, and how well they fit the true ones.

Maps are (N, H, W), boxes (N, 4) as x0, y0, x1, y1 in pixels, x1 and y1 being the first column and row behind the box;
masks are bool, (N, H, W). A measure returns one float64 an image, (N,), on the maps' or boxes' device.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from artlib.metrics.rank import check_maps

# Of the curves, shares of a map's range: close together below, where maps with a few large values have their object.
THRESHOLDS = (0.01, 0.02, 0.03, 0.04, *(i / 20 for i in range(1, 20)))


def normalise(maps: Tensor) -> Tensor:
    """Each map from 0 to 1: (m - min) / (max - min), float64; 0 everywhere where it is constant or not finite."""
    if maps.ndim != 3 or 0 in maps.shape[1:]:
        raise ValueError(f"maps must be (N, H, W), got {tuple(maps.shape)}: an Explainer makes them")
    maps = maps.detach().double()
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    usable = (high > low) & (high - low).isfinite()
    return torch.where(usable, (maps - low) / torch.where(usable, high - low, 1.0), 0.0)


def mean_filter(maps: Tensor, size: int = 3) -> Tensor:
    """The mean over size x size pixels (ART, appendix B.1: 3 x 3), at the border over those inside the map.

    Raises ValueError for a size that is not odd.

    >>> import torch
    >>> from artlib.metrics.localization import mean_filter
    >>> mean_filter(torch.tensor([[[9.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]))[0, 1].tolist()
    [1.5, 1.0, 0.0]
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size is {size}; a mean filter has an odd number of pixels: 3 for 3 x 3")
    return F.avg_pool2d(maps[:, None], size, 1, size // 2, count_include_pad=False)[:, 0]


def foreground(maps: Tensor, threshold: float | Tensor) -> Tensor:
    """The pixels of `normalise(maps)` at or above `threshold`; none of a map that is constant or not finite.

    threshold: a number, or one for each map (N,). Raises ValueError outside (0, 1] (0 would be every pixel).
    """
    threshold = torch.as_tensor(threshold, dtype=torch.float64, device=maps.device)
    if not ((threshold > 0) & (threshold <= 1)).all():
        raise ValueError(f"threshold is {threshold.tolist()}; it is a share of the map's range, above 0 and at most 1")
    return normalise(maps) >= threshold.view(-1, 1, 1)


def otsu(maps: Tensor) -> Tensor:
    """The threshold (N,) in (0, 1] of each normalised map that separates best (Otsu 1979); it needs no box at all.

    Of 256 levels the one that maximises the variance between what lies below it and what does not; 1 for a constant
    map.
    """
    levels = (normalise(maps).flatten(1) * 255).round().long()
    share = torch.zeros(len(levels), 256, dtype=torch.float64, device=maps.device)
    share = share.scatter_add_(1, levels, torch.ones_like(levels, dtype=torch.float64)) / levels.shape[1]
    grey = torch.arange(256, dtype=torch.float64, device=maps.device)
    below, mass = share.cumsum(1), (share * grey).cumsum(1)  # up to and with a level
    spread = below * (1 - below)
    between = (mass[:, -1:] * below - mass) ** 2 / spread.where(spread > 1e-12, torch.inf)
    best = between.argmax(1)  # the first of equals
    return torch.where(between.amax(1) > 0, (best + 0.5) / 255, 1.0)


def largest_component(masks: Tensor, *, connectivity: int = 8) -> Tensor:
    """The largest set of connected pixels of each mask, the first in reading order of equals; empty where the mask is.

    connectivity: 8, or 4 for sides alone. Raises ValueError for another one.
    """
    from scipy import ndimage

    if connectivity not in (4, 8):
        raise ValueError(f"connectivity is {connectivity}; 4 (pixels that share a side) or 8 (or a corner)")
    structure = ndimage.generate_binary_structure(2, connectivity // 4)
    found = np.zeros(tuple(masks.shape), dtype=bool)
    for out, mask in zip(found, masks.cpu().numpy(), strict=True):
        labels, count = ndimage.label(mask, structure)
        if count:
            out[:] = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return torch.from_numpy(found).to(masks.device)


def box_of(masks: Tensor) -> Tensor:
    """The smallest box around each mask, (N, 4); (0, 0, 0, 0) for an empty one, which overlaps with nothing.

    >>> import torch
    >>> from artlib.metrics.localization import box_of
    >>> mask = torch.zeros(1, 5, 8, dtype=torch.bool)
    >>> mask[0, 1:3, 4:7] = True  # rows 1 and 2, columns 4 to 6
    >>> box_of(mask).tolist()  # x0, y0, x1, y1
    [[4.0, 1.0, 7.0, 3.0]]
    """
    sides = []
    for along in (1, 2):  # columns, then rows
        any_pixel = masks.any(along)
        first = any_pixel.int().argmax(1)
        last = any_pixel.shape[1] - any_pixel.flip(1).int().argmax(1)
        sides.append([side * any_pixel.any(1) for side in (first, last)])
    (x0, x1), (y0, y1) = sides
    return torch.stack([x0, y0, x1, y1], 1).double()


def bounding_box(maps: Tensor, threshold: float | Tensor, *, connectivity: int = 8) -> Tensor:
    """The box around the largest component of `foreground(maps, threshold)`, (N, 4); (0, 0, 0, 0) for an empty map."""
    return box_of(largest_component(foreground(maps, threshold), connectivity=connectivity))


def area(boxes: Tensor) -> Tensor:
    """Pixels in each box; 0 for one that is turned inside out."""
    return ((boxes[:, 2] - boxes[:, 0]).clamp(min=0) * (boxes[:, 3] - boxes[:, 1]).clamp(min=0)).double()


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes a (N, 4) and b (N, 4), in [0, 1]; 0 where they are disjoint or both empty.

    Raises ValueError for boxes that are not (N, 4), or not as many on each side.

    >>> import torch
    >>> from artlib.metrics.localization import iou
    >>> iou(torch.tensor([[0, 0, 4, 4]]), torch.tensor([[2, 0, 6, 4]])).item()  # 8 of 24 pixels
    0.3333333333333333
    """
    common = _common(a, b)
    union = area(a) + area(b) - common
    return common / union.where(union > 0, 1.0)


def covered(boxes: Tensor, truth: Tensor) -> Tensor:
    """The share of the true box that lies in the other, in [0, 1]; NaN for a true box without area.

    boxes and truth are (N, 4). Raises ValueError where there are not as many boxes as true ones.
    """
    whole = area(truth)
    return torch.where(whole > 0, _common(boxes, truth) / whole, torch.nan)


def _common(a: Tensor, b: Tensor) -> Tensor:
    _check_boxes(a, b)
    a, b = a.double(), b.double()
    return area(torch.cat([torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])], 1))


def _check_boxes(*boxes: Tensor) -> None:
    if any(v.ndim != 2 or v.shape != boxes[0].shape or v.shape[1] != 4 for v in boxes):
        raise ValueError(f"boxes must be (N, 4), x0 y0 x1 y1, as many on each side: {[tuple(v.shape) for v in boxes]}")


def mask_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of masks, in [0, 1]; 0 where both are empty. ValueError for unlike shapes or no masks."""
    if a.shape != b.shape or a.ndim != 3 or a.dtype != torch.bool or b.dtype != torch.bool:
        raise ValueError(f"masks must be bool, (N, H, W), of one shape: {a.dtype} {a.shape} and {b.dtype} {b.shape}")
    return (a & b).sum((1, 2)).double() / (a | b).sum((1, 2)).clamp(min=1)


def box_mask(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixels (N, H, W) whose centre lies in the box; what overruns the image is cut off."""
    (height, width), boxes = size, boxes.double()
    x = torch.arange(width, dtype=torch.float64, device=boxes.device) + 0.5
    y = torch.arange(height, dtype=torch.float64, device=boxes.device) + 0.5
    columns = (boxes[:, :1] <= x) & (x < boxes[:, 2:3])
    rows = (boxes[:, 1:2] <= y) & (y < boxes[:, 3:])
    return rows[:, :, None] & columns[:, None, :]


def carried(
    boxes: Tensor, *, scale: tuple[float, float] = (1.0, 1.0), corner: tuple[float, float] = (0.0, 0.0), size: tuple
) -> Tensor:
    """Boxes after an image is resized by `scale` (x, y) and the window of `size` (H, W) at `corner` (x, y) is cut out.

    Clipped to the window; a box that leaves it is empty, and its IoU with any other is 0. Returns (N, 4), float64.
    Raises ValueError for boxes that are not (N, 4).
    """
    _check_boxes(boxes)
    factor, shift = (torch.tensor([*v, *v], dtype=torch.float64, device=boxes.device) for v in (scale, corner))
    moved = (boxes.double() * factor - shift).clamp(min=0)
    limit = torch.tensor([size[1], size[0]] * 2, dtype=torch.float64, device=boxes.device)
    return torch.minimum(moved, limit)


def inside(maps: Tensor, masks: Tensor) -> Tensor:
    """The energy-based pointing game (Wang et al. 2020): the share of a map's positive sum that lies in the mask.

    masks: bool (N, H, W), True on the object; `box_mask` makes them of boxes. In [0, 1]; NaN for a map without anything
    positive or not finite.
    """
    energy = maps.detach().double().clamp(min=0)
    total = energy.sum((1, 2))
    return torch.where((total > 0) & total.isfinite(), (energy * masks).sum((1, 2)) / total, torch.nan)


def curve(maps: Tensor, boxes: Tensor, *, thresholds: Sequence[float] = THRESHOLDS, connectivity: int = 8) -> Tensor:
    """IoU (N, T) of `bounding_box(maps, t)` with the true boxes (N, 4), for every threshold t.

    Raises ValueError for maps that are not (N, H, W), boxes that are not one a map, and as `bounding_box` does.
    """
    found = [bounding_box(maps, t, connectivity=connectivity) for t in thresholds]
    return torch.stack([iou(each, boxes.to(each)) for each in found], 1)


def mask_curve(maps: Tensor, masks: Tensor, *, thresholds: Sequence[float] = THRESHOLDS) -> Tensor:
    """IoU (N, T) of `foreground(maps, t)` with the true masks, for every threshold t."""
    return torch.stack([mask_iou(foreground(maps, t), masks) for t in thresholds], 1)


def max_box_acc(curves: Tensor, least: Sequence[float] = (0.3, 0.5, 0.7)) -> Tensor:
    """As MaxBoxAccV2 (Choe et al. 2020): for each least IoU the largest share of images, over thresholds, with it.

    curves (N, T) as from `curve`; returns shares (len(least),), in [0, 1]; their mean is the one number of that paper.
    The best threshold is found on the images themselves: the most that one threshold could give, not a measurement. V2
    itself counts the best box of all contours at steps of 0.01; with the largest component's box and the thresholds of
    `curves` this is at most as much.
    """
    return torch.stack([(curves >= each).double().mean(0).amax() for each in least])


def best_threshold(curves: Tensor, *, least: float = 0.5, thresholds: Sequence[float] = THRESHOLDS) -> float:
    """The threshold at which most images have an IoU of at least `least`; of equals the middle one."""
    hits = (curves >= least).double().mean(0)
    best = (hits == hits.amax()).nonzero()[:, 0]
    return thresholds[int(best[len(best) // 2])]


def pixel_ap(maps: Tensor, masks: Tensor) -> float:
    """PxAP (Choe et al. 2020): average precision, in [0, 1], of all pixels of all maps, each map normalised.

    masks: bool (N, H, W), True on the object. Sum over distinct scores, from the highest, of precision times the recall
    gained; NaN without a true pixel. Raises ValueError for maps that are not (N, H, W) or hold NaN.
    """
    check_maps(maps)
    scores, order = normalise(maps).flatten().sort(descending=True)
    truth = masks.flatten()[order].double()
    if not truth.any():
        return float("nan")
    last = torch.cat([scores[1:] != scores[:-1], torch.ones(1, dtype=torch.bool, device=scores.device)])
    hits = truth.cumsum(0)[last]
    precision = hits / (last.nonzero()[:, 0] + 1)
    gained = torch.diff(hits, prepend=hits.new_zeros(1)) / hits[-1]
    return (precision * gained).sum().item()


def centred_gaussian(count: int, size: tuple[int, int], *, sigma: float = 0.25) -> Tensor:
    """The same map `count` times: a Gaussian in the middle, sigma in image sides. What is known without looking."""
    y, x = (((torch.arange(n, dtype=torch.float64) + 0.5) / n - 0.5) / sigma for n in size)
    return torch.exp(-(y[:, None] ** 2 + x[None] ** 2) / 2).expand(count, -1, -1)
