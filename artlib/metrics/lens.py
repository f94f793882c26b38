"""LENS (Kamath et al., AAAI 2024): top-k intersection that forgives small shifts, and diverse top-k; maps (N, H, W)."""

import torch
from torch import Tensor

from artlib.metrics.rank import argsort, check_maps, in_chunks, rows_of, topk_mask


def dilate(mask: Tensor, w: int) -> Tensor:
    """N_w(S): every pixel within w rows and columns of one in S, clipped at the border; (N, H, W), bool or maximum."""
    check_maps(mask, w=w)
    for dim in (1, 2):
        best, size = mask.clone(), mask.shape[dim]
        for d in range(1, min(w, size - 1) + 1):
            for to, source in ((d, 0), (0, d)):
                part = best.narrow(dim, to, size - d)
                torch.maximum(part, mask.narrow(dim, source, size - d), out=part)
        mask = best
    return mask


def diverse_topk(maps: Tensor, k: int, w: int) -> Tensor:
    """D_k of LENS: k times, take the highest pixel left and delete its (2w+1) x (2w+1) window; a bool mask (N, H, W).

    Windows are clipped at the border, ties go by index, all pixels are in the pool. When none is left the set stays
    smaller, at most ceil(H/(w+1)) ceil(W/(w+1)); `.sum((1, 2))` gives its sizes. Errors as `lens_recall`.
    """
    check_maps(maps, k=k, w=w)
    return in_chunks(lambda m: _greedy(m, k, w), maps)


def _greedy(maps: Tensor, k: int, w: int) -> Tensor:
    """All window maxima at once, again and again: the same set as one pixel at a time.

    What is higher in the window of a maximum has been deleted, so nothing will delete that maximum: greedy takes it.
    Greedy's first k are its k highest; they delete k (2w+1)^2 pixels at most, so no lower rank is needed.
    """
    n = maps.shape[1] * maps.shape[2]
    falling = torch.arange(n, 0, -1, dtype=torch.int32, device=maps.device).expand(len(maps), -1)
    order = torch.as_tensor(argsort(rows_of(maps), descending=True))
    ranks = torch.empty_like(falling).put_(order, falling).view(maps.shape)
    left = ranks.masked_fill(ranks <= n - k * (2 * w + 1) ** 2, 0)
    chosen = torch.zeros_like(ranks)
    while left.amax((1, 2)).any():
        peaks = left == dilate(left, w)  # also where nothing is left in the window: no harm
        chosen += left * peaks
        left = left * ~dilate(peaks, w)
    lowest = chosen.flatten(1).topk(k).values[:, -1]  # 0 where the set is smaller than k
    return (chosen > 0) & (chosen >= lowest[:, None, None])


def lens_recall(a: Tensor, b: Tensor, k: int, w: int, *, diverse: bool = False) -> Tensor:
    """w-LENS-recall@k = |N_w(S_k(a)) & S_k(b)| / |S_k(b)|, in [0, 1]; w = 0 is the top-k intersection.

    Rethinking Robustness of Model Attributions, AAAI 2024. a: maps of the images, b: of the perturbed images.
    diverse=True takes D_k of `diverse_topk` for S_k of `topk_mask`, and divides by its own size.
    Raises ValueError for NaN, unlike shapes, k outside 1..H*W and w < 0.
    """
    check_maps(a, b, k=k, w=w)
    near, found = (diverse_topk(m, k, w) if diverse else topk_mask(m, k) for m in (a, b))
    return (dilate(near, w) & found).sum((1, 2)).double() / found.sum((1, 2))


def lens_precision(a: Tensor, b: Tensor, k: int, w: int, *, diverse: bool = False) -> Tensor:
    """w-LENS-prec@k = |S_k(a) & N_w(S_k(b))| / |S_k(a)|: `lens_recall` with a and b changed over."""
    return lens_recall(b, a, k, w, diverse=diverse)
