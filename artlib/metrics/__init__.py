"""How alike two attribution maps are, and how sure a mean over images is.

Maps are (N, H, W), any scale, one value a pixel. A measure returns one float64 an image, (N,), on the maps' device.
"""

from artlib.metrics.intervals import (
    bootstrap_interval,
    bootstrap_means,
    holm,
    interval,
    newcombe_interval,
    wilson_interval,
)
from artlib.metrics.lens import dilate, diverse_topk, lens_precision, lens_recall
from artlib.metrics.rank import cosine, kendall, spearman, tied_share, topk, topk_intersection, topk_mask

__all__ = [
    "bootstrap_interval",
    "bootstrap_means",
    "cosine",
    "dilate",
    "diverse_topk",
    "holm",
    "interval",
    "kendall",
    "lens_precision",
    "lens_recall",
    "newcombe_interval",
    "spearman",
    "tied_share",
    "topk",
    "topk_intersection",
    "topk_mask",
    "wilson_interval",
]
