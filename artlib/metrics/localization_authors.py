"""ART's released pipeline from maps to a percentage (DIFFERENCES.md, C-36 to C-38), to show what it does."""

import torch
import torch.nn.functional as F
from torch import Tensor

from artlib.metrics.localization import box_of, largest_component


def grey(attribution: Tensor) -> Tensor:
    """C-36: an input gradient (N, C, H, W) of a whole batch as grey levels 0 to 255, (N, H, W), float64.

    Mean over channels of magnitudes, min-max over the batch, z-score per image, cut at the 2nd and 98th percentile,
    min-max over the batch, 3 x 3 mean with zeros around the map, Gaussian of 3 pixels, then `coloured`. Through those
    zeros a map's border depends on the other images of its batch. A batch that is constant is 0.
    """
    from scipy import ndimage

    maps = _batch_range(attribution.detach().double().abs().mean(1))
    mean, std = maps.mean((1, 2), keepdim=True), maps.std((1, 2), keepdim=True)
    maps = (maps - mean) / std.where(std > 0, 1.0)
    low, high = (torch.quantile(maps.flatten(1), q, dim=1)[:, None, None] for q in (0.02, 0.98))
    maps = F.avg_pool2d(_batch_range(torch.minimum(torch.maximum(maps, low), high))[:, None], 3, 1, 1)[:, 0]
    return coloured(torch.from_numpy(ndimage.gaussian_filter(maps.cpu().numpy(), (0, 3, 3))))


def coloured(maps: Tensor) -> Tensor:
    """C-36: maps (N, H, W), signed, as grey levels: min-max per image, the colours of "cubehelix", their luminance.

    All that is done to CAM.
    """
    import matplotlib

    maps = maps.detach().double().cpu()
    maps = maps - maps.amin((1, 2), keepdim=True)
    peak = maps.amax((1, 2), keepdim=True)
    rgb = matplotlib.colormaps["cubehelix"]((maps / peak.where(peak > 0, 1.0)).numpy())[..., :3]
    return (torch.from_numpy(rgb * 255).floor() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)).round()


def _batch_range(maps: Tensor) -> Tensor:
    low, high = maps.amin(), maps.amax()
    return (maps - low) / (high - low if high > low else 1.0)


def bounding_box(levels: Tensor, threshold: float = 0.2) -> Tensor:
    """C-36: the box of the largest component above int(threshold * max) of grey levels; (0, 0, 1, 1) without one.

    levels (N, H, W), 0 to 255, as from `grey` and `coloured`; returns (N, 4), float64. The largest by its pixels; the
    released code takes the area inside OpenCV's contour.
    """
    cut = (threshold * levels.amax((1, 2), keepdim=True)).floor()
    boxes = box_of(largest_component(levels > cut))
    boxes[boxes[:, 2] == 0] = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=boxes.dtype)
    return boxes


def iou(a: Tensor, b: Tensor) -> Tensor:
    """C-37: intersection over union of boxes with both corners included, the intersection not clipped at 0.

    a and b (N, 4), x0 y0 x1 y1; returns (N,), float64, which can be below 0 or above 1.
    Two negative sides make a positive area: disjoint boxes can score.
    """
    a, b = a.double(), b.double()
    width, height = ((torch.minimum(a, b)[:, 2 + i] - torch.maximum(a, b)[:, i] + 1) for i in (0, 1))
    areas = [(v[:, 2] - v[:, 0] + 1) * (v[:, 3] - v[:, 1] + 1) for v in (a, b)]
    return width * height / (areas[0] + areas[1] - width * height)


def reported(hits: Tensor) -> float:
    """C-38: the mean of the running means of hits (N,), in the order of the list: what is printed for their mean.

    Each image counts through all that follow it, so that the first classes of a list decide.
    """
    hits = hits.double()
    return (hits.cumsum(0) / torch.arange(1, len(hits) + 1, dtype=torch.float64, device=hits.device)).mean().item()
