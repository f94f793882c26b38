"""How alike the maps before and after are, to an attack that keeps its best iterate: the lowest.

A criterion maps (before, after, aim), all with one row an image, to (N,); `aim` is what the objective fixed.
A new one is a function and a line in `CRITERIA`.
"""

from torch import Tensor

from artlib import metrics


def kendall(before: Tensor, after: Tensor, aim: Tensor) -> Tensor:
    """Kendall's tau of the whole maps (Chen et al. 2019)."""
    return metrics.kendall(before, after)


def kendall_on_topk(before: Tensor, after: Tensor, aim: Tensor) -> Tensor:
    """Kendall's tau of maps that are 0 outside the mask `aim`, as the released code has it (DIFFERENCES.md, C-21)."""
    _check_mask(before, aim)
    return metrics.kendall(before * aim, after * aim)


def topk_intersection(before: Tensor, after: Tensor, aim: Tensor) -> Tensor:
    """|S_k(after) & aim| / k for a mask `aim` of k pixels an image (Ghorbani et al. 2019)."""
    _check_mask(before, aim)
    k = int(aim[:1].sum()) or 1
    return (metrics.topk_mask(after, k) & aim).sum((1, 2)).double() / k


def _check_mask(maps: Tensor, aim: Tensor) -> None:
    if not aim.dtype.is_floating_point and aim.shape == maps.shape:
        return
    raise ValueError("this criterion looks at the pixels that the objective aims at: it goes with objective 'topk'")


CRITERIA = {"kendall": kendall, "kendall-on-topk": kendall_on_topk, "topk-intersection": topk_intersection}
