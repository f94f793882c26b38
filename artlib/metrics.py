"""How alike two attribution maps are: top-k intersection, rank correlations, LENS; and intervals over images.

Maps are (N, H, W), any scale, one value a pixel. A measure returns one float64 an image, (N,), on the maps' device.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def _check(*maps: Tensor, k: int = 1, w: int = 0) -> None:
    for m in maps:
        if m.ndim != 3 or 0 in m.shape[1:]:
            raise ValueError(f"maps must be (N, H, W), got {tuple(m.shape)}: attributions.heatmap makes them")
        if m.shape != maps[0].shape:
            raise ValueError(f"the maps must have one shape, got {tuple(maps[0].shape)} and {tuple(m.shape)}")
        if m.is_floating_point() and bool(torch.isnan(m).any()):
            raise ValueError("a map holds NaN, which has no rank: leave that image out and count it as a failure")
    height, width = maps[0].shape[1:]
    if not 1 <= k <= height * width:
        raise ValueError(f"k must be 1 to {height * width}, the pixels of a {height} x {width} map, got {k}")
    if w < 0:
        raise ValueError(f"w, how far a window reaches, must be 0 or more (1 for 3 x 3, 2 for 5 x 5), got {w}")


def _in_chunks(function, *maps: Tensor) -> Tensor:
    pixels = 2**17 if maps[0].device.type == "cpu" else 2**24  # stays in a CPU's cache; bounds the memory
    rows = max(1, pixels // maps[0].shape[1:].numel())
    return torch.cat([function(*parts) for parts in zip(*(m.split(rows) for m in maps), strict=True)])


def _argsort(rows: Tensor, *, descending: bool = False) -> Tensor:
    """Order of each row (N, n), equal values by index; on the CPU by numpy's radix sort, 4 times torch.sort's speed."""
    if rows.is_floating_point():
        rows = rows.detach() + 0.0  # -0.0 becomes 0.0, its equal
    if rows.device.type != "cpu":
        return torch.sort(rows, dim=1, stable=True, descending=descending).indices
    bits, keys = 8 * rows.element_size(), rows
    if rows.is_floating_point():  # the bits of IEEE floats are integers in their order, but backwards below 0
        integers = {16: torch.int16, 32: torch.int32, 64: torch.int64}[bits]
        keys = rows.view(integers) ^ (rows.view(integers) >> bits - 1 & torch.iinfo(integers).max)
    keys = keys.to(torch.int16) if bits == 8 else keys
    digits = (~keys if descending else keys).contiguous().view(torch.int16).unflatten(1, (rows.shape[1], -1)).unbind(2)
    order = None
    for i, digit in enumerate(digits, 1):  # the least significant 16 bits first; the sign is in the last
        digit = digit.contiguous() if order is None else digit.gather(1, order)
        digit = digit.numpy() if i == len(digits) else digit.numpy().view(np.uint16)
        step = torch.from_numpy(digit.argsort(1, kind="stable"))
        order = step if order is None else order.gather(1, step)
    return order


def _starts(ordered: Tensor) -> Tensor:
    """True where a run of equal values begins, in rows that hold equal values side by side."""
    return F.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0), value=True)


def _before_run(starts: Tensor) -> Tensor:
    """Number of places before the run of every place, int32; their sum is the number of pairs that are not tied."""
    return (starts * torch.arange(starts.shape[1], dtype=torch.int32, device=starts.device)).cummax(1).values


def _centred_ranks(rows: Tensor) -> Tensor:
    """Number of smaller minus number of larger values: twice the average rank, less its mean."""
    order = _argsort(rows)
    starts = _starts(rows.gather(1, order))
    ends = F.pad(starts[:, 1:], (0, 1), value=True)
    return torch.empty_like(order).scatter_(1, order, (_before_run(starts) - _before_run(ends.flip(1)).flip(1)).long())


def topk(maps: Tensor, k: int) -> Tensor:
    """Flat indices (N, k) of the k largest pixels, largest first, equal ones by index; errors as `lens_recall`."""
    _check(maps, k=k)
    return _argsort(maps.flatten(1), descending=True)[:, :k]


def topk_mask(maps: Tensor, k: int) -> Tensor:
    """S_k: the pixels of `topk` as a bool mask (N, H, W)."""
    mask = torch.zeros(maps.shape, dtype=torch.bool, device=maps.device)
    return mask.flatten(1).scatter_(1, topk(maps, k), True).view(maps.shape)


def topk_intersection(a: Tensor, b: Tensor, k: int) -> Tensor:
    """Top-k intersection |S_k(a) & S_k(b)| / k (Ghorbani et al. 2019), in [0, 1]; errors and ties as `topk`."""
    return lens_recall(a, b, k, 0)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine <a, b> / (|a| |b|) of the flattened maps, in [-1, 1]; NaN where a map is zero everywhere."""
    _check(a, b)
    a, b = a.flatten(1).double(), b.flatten(1).double()
    return ((a * b).sum(1) / a.norm(dim=1) / b.norm(dim=1)).clamp(-1, 1)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation as scipy.stats.spearmanr, average ranks for ties; range and errors as `kendall`."""
    _check(a, b)
    return cosine(*(_in_chunks(_centred_ranks, m.flatten(1))[:, None] for m in (a, b)))


def kendall(a: Tensor, b: Tensor) -> Tensor:
    """Kendall's tau-b as scipy.stats.kendalltau, from exact counts, in O(n sqrt(n)) for n pixels.

    (concordant - discordant) / sqrt(pairs not tied in a * pairs not tied in b), over pairs of pixels (Kendall 1945).
    In [-1, 1]; NaN where a map is constant (callers count that as a failure). ValueError for NaN and unlike shapes.
    """
    _check(a, b)
    return _in_chunks(_tau_b, a.flatten(1), b.flatten(1))


def _tau_b(a: Tensor, b: Tensor) -> Tensor:
    """A pair is discordant if the orders by (a, b, index) and by (b, a, index) have it in opposite ways."""
    by_a = _argsort(a)
    new_a = _starts(a.gather(1, by_a))
    rank_a = torch.empty_like(by_a).scatter_(1, by_a, _before_run(new_a).long())
    by_b = by_a.gather(1, _argsort(b.gather(1, by_a)))  # of equal b by a
    small = torch.int16 if a.shape[1] <= 2**15 else torch.int32  # sorts faster
    to_a = _argsort(rank_a.to(small).gather(1, by_b))  # of equal a by b
    b = b.gather(1, by_b)
    new_b, new_both = _starts(b), new_a | _starts(b.gather(1, to_a))
    untied_a, untied_b, untied = (_before_run(new).sum(1) for new in (new_a, new_b, new_both))
    difference = untied_a + untied_b - untied - 2 * _inversions(to_a)  # concordant - discordant
    return (difference / untied_a.double().sqrt() / untied_b.double().sqrt()).clamp(-1, 1)


def _inversions(p: Tensor) -> Tensor:
    """Number (N,) of pairs i < j with p_i > p_j in rows (N, n) that are permutations of 0..n-1.

    Places and values are cut into blocks of about sqrt(n). A pair lies in one block of places; or in two, but in one
    block of values; or in two of both, and then the number of points in each (block of places, block of values) tells.
    """
    count, n = p.shape
    shift = (n - 1).bit_length() // 2
    block, blocks = 1 << shift, (n - 1 >> shift) + 1
    places = torch.arange(blocks * block, device=p.device).expand(count, -1)
    p = torch.cat([p, places[:, n:]], 1)  # the end is in order: no more inversions
    inverse = torch.empty_like(p).scatter_(1, p, places)
    cells = (places >> shift) * blocks + (p >> shift)
    table = torch.zeros(count, blocks * blocks, dtype=torch.int64, device=p.device)
    table = table.scatter_add_(1, cells, torch.ones_like(p)).view(count, blocks, blocks)
    earlier = table.cumsum(1) - table
    apart = table * (earlier.sum(2, keepdim=True) - earlier.cumsum(2))  # larger values in earlier blocks
    within = torch.stack([p, inverse >> shift]).to(torch.int16 if n <= 2**15 else torch.int32)  # compares faster
    within = within.view(2, count, blocks, block).permute(3, 0, 1, 2).contiguous()  # long rows for the loop
    larger, tallies = torch.empty_like(within), torch.zeros_like(within)
    for i in range(block - 1):
        tallies[i + 1 :].add_(torch.gt(within[i], within[i + 1 :], out=larger[i + 1 :]))  # not bool, which is slower
    return apart.sum((1, 2)) + tallies.sum((0, 1, 3))


def dilate(mask: Tensor, w: int) -> Tensor:
    """N_w(S): every pixel within w rows and columns of one in S, clipped at the border; (N, H, W), bool or maximum."""
    _check(mask, w=w)
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
    _check(maps, k=k, w=w)
    return _in_chunks(lambda m: _greedy(m, k, w), maps)


def _greedy(maps: Tensor, k: int, w: int) -> Tensor:
    """All window maxima at once, again and again: the same set as one pixel at a time.

    What is higher in the window of a maximum has been deleted, so nothing will delete that maximum: greedy takes it.
    Greedy's first k are its k highest; they delete k (2w+1)^2 pixels at most, so no lower rank is needed.
    """
    n = maps.shape[1] * maps.shape[2]
    falling = torch.arange(n, 0, -1, dtype=torch.int32, device=maps.device).expand(len(maps), -1)
    ranks = torch.empty_like(falling).scatter_(1, _argsort(maps.flatten(1), descending=True), falling).view(maps.shape)
    left = ranks.masked_fill(ranks <= n - k * (2 * w + 1) ** 2, 0)
    chosen = torch.zeros_like(ranks)
    while left.any():
        peaks = (left == dilate(left, w)) & (left > 0)
        chosen += left * peaks
        left = left.masked_fill(dilate(peaks, w), 0)
    lowest = chosen.flatten(1).topk(k).values[:, -1]  # 0 where the set is smaller than k
    return (chosen > 0) & (chosen >= lowest[:, None, None])


def lens_recall(a: Tensor, b: Tensor, k: int, w: int, *, diverse: bool = False) -> Tensor:
    """w-LENS-recall@k = |N_w(S_k(a)) & S_k(b)| / |S_k(b)|, in [0, 1]; w = 0 is the top-k intersection.

    Rethinking Robustness of Model Attributions, AAAI 2024. a: maps of the images, b: of the perturbed images.
    diverse=True takes D_k of `diverse_topk` for S_k of `topk_mask`, and divides by its own size.
    Raises ValueError for NaN, unlike shapes, k outside 1..H*W and w < 0.
    """
    _check(a, b, k=k, w=w)
    near, found = (diverse_topk(m, k, w) if diverse else topk_mask(m, k) for m in (a, b))
    return (dilate(near, w) & found).sum((1, 2)).double() / found.sum((1, 2))


def lens_precision(a: Tensor, b: Tensor, k: int, w: int, *, diverse: bool = False) -> Tensor:
    """w-LENS-prec@k = |S_k(a) & N_w(S_k(b))| / |S_k(a)|: `lens_recall` with a and b changed over."""
    return lens_recall(b, a, k, w, diverse=diverse)


def bootstrap_means(values: Tensor, samples: int, *, generator: torch.Generator) -> Tensor:
    """Means (samples,) of as many draws of N values with replacement from values (N,)."""
    return values[torch.randint(len(values), (samples, len(values)), generator=generator)].mean(1)


def bootstrap_interval(
    values: Tensor, *, level: float = 0.95, samples: int = 2000, generator: torch.Generator
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of the mean over images (Efron 1979), drawn with replacement.

    values: (N,), finite; level in (0, 1); a generator on the CPU, so that a seed gives one interval on every device.
    """
    values = torch.as_tensor(values).detach().cpu().double()
    if values.ndim != 1 or len(values) == 0 or not bool(values.isfinite().all()):
        raise ValueError(f"values must be (N,), N > 0, and finite, got {tuple(values.shape)}: fill or drop failures")
    if not 0 < level < 1 or samples < 1:
        raise ValueError(f"level must lie in (0, 1) and samples be 1 or more, got level={level}, samples={samples}")
    means = bootstrap_means(values, samples, generator=generator)
    low, high = means.quantile(means.new_tensor([(1 - level) / 2, (1 + level) / 2])).tolist()
    return low, high
