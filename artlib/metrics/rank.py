"""How alike two attribution maps are by the order of their pixels: top-k intersection and rank correlations.

Maps are (N, H, W), any scale, one value a pixel. A measure returns one float64 an image, (N,), on the maps' device.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor


def check_maps(*maps: Tensor, k: int = 1, w: int = 0) -> None:
    """Raise ValueError for maps that are not (N, H, W), unlike or NaN, and for k or w that do not fit them."""
    for m in maps:
        if m.ndim != 3 or 0 in m.shape[1:]:
            raise ValueError(f"maps must be (N, H, W), got {tuple(m.shape)}: attributions.heatmap makes them")
        if m.shape != maps[0].shape:
            raise ValueError(f"the maps must have one shape, got {tuple(maps[0].shape)} and {tuple(m.shape)}")
        if m.is_floating_point() and bool(m.amax((1, 2)).isnan().any()):
            raise ValueError("a map holds NaN, which has no rank: leave that image out and count it as a failure")
    height, width = maps[0].shape[1:]
    if not 1 <= k <= height * width:
        raise ValueError(f"k must be 1 to {height * width}, the pixels of a {height} x {width} map, got {k}")
    if w < 0:
        raise ValueError(f"w, how far a window reaches, must be 0 or more (1 for 3 x 3, 2 for 5 x 5), got {w}")


def in_chunks(function, *maps: Tensor, threads: int = 1) -> Tensor:
    """`function` of the maps, some at a time: in as many threads on a CPU, within its cache or a GPU's memory."""
    on_cpu = maps[0].device.type == "cpu"
    threads, pixels = (threads, 2**17) if on_cpu else (1, 2**24)  # stays in a CPU's cache; bounds the memory
    chunks = min(threads * -(-maps[0].numel() // (threads * pixels)), len(maps[0]))
    parts = [m.tensor_split(max(1, chunks)) for m in maps]
    if min(threads, chunks) <= 1:
        return torch.cat(list(map(function, *parts)))
    with ThreadPoolExecutor(threads) as pool:
        return torch.cat(list(pool.map(function, *parts)))


# Functions of rows (N, n) take tensors and, for the CPU, numpy's arrays: numpy sorts integers 10 times as fast as torch
# there, and its operations keep to one thread and release Python's lock, so that chunks run side by side.


def rows_of(maps: Tensor):
    """Maps as rows (N, n), numpy's on the CPU, with one kind of zero."""
    maps = maps.detach().flatten(1).contiguous()
    if maps.is_floating_point():
        maps = (maps.float() if maps.dtype == torch.bfloat16 else maps) + 0.0  # -0.0 becomes 0.0, its equal
    return maps.numpy() if maps.device.type == "cpu" else maps


def _library(rows):
    return np if isinstance(rows, np.ndarray) else torch


def _places(n: int, rows):
    if _library(rows) is torch:
        return torch.arange(n, dtype=torch.int32, device=rows.device)
    return np.arange(n, dtype=np.int32)


def _sort(rows):
    if _library(rows) is torch:
        return rows.sort(1).values
    rows.sort(1)  # in place
    return rows


def _integers(rows):
    """Integers as wide as the values and in their order: the bits of IEEE floats are, but backwards below 0."""
    xp, bits = _library(rows), 8 * rows.itemsize
    if rows.dtype in (xp.float16, xp.float32, xp.float64):
        rows = rows.view({16: xp.int16, 32: xp.int32, 64: xp.int64}[bits])
        negative = rows >> bits - 1
        negative &= 2 ** (bits - 1) - 1
        rows = xp.bitwise_xor(rows, negative, out=negative)
    return rows


def argsort(rows, *, descending: bool = False):
    """Order of each row, equal values by index, as indices of the flattened rows, for `take`."""
    count, n = rows.shape
    if _library(rows) is torch:
        order = torch.sort(rows, dim=1, stable=True, descending=descending).indices
        return order + n * _places(count, rows)[:, None]
    keys, index_bits = _integers(rows).astype(np.int64), rows.size.bit_length()
    keys = ~keys if descending else keys
    order = keys << 32 if rows.itemsize < 8 else keys >> index_bits << index_bits
    order += np.arange(rows.size).reshape(rows.shape)
    order = _sort(order) & (1 << index_bits) - 1
    if rows.itemsize == 8:
        ordered = keys.take(order)
        if (ordered[:, 1:] < ordered[:, :-1]).any():  # unlike values, but only in the bits that the indices took
            order = keys.argsort(1, kind="stable") + n * np.arange(count)[:, None]
    return order


def _starts(ordered):
    """True where a run of equal values begins, in rows that hold equal values side by side."""
    starts = _library(ordered).ones_like(ordered, dtype=bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return starts


def _before_run(starts):
    """Number of places before the run of every place."""
    begins = starts * _places(starts.shape[1], starts)
    return begins.cummax(1).values if _library(begins) is torch else np.maximum.accumulate(begins, 1, out=begins)


def _untied_pairs(starts):
    """Number (N,) of pairs of unlike values."""
    count, n = starts.shape
    if _library(starts) is torch:
        return _before_run(starts).sum(1)
    others = np.flatnonzero(~starts)  # few in most maps
    index = np.arange(len(others))
    second = _before_run(_starts((others - index)[None]))[0]  # of a run, as an index of others
    tied = np.bincount(others // n, index - second + 1, minlength=count)
    return n * (n - 1) // 2 - tied.astype(np.int64)


def _ranks(rows):
    """Number of smaller minus number of larger values: twice the average rank, less its mean."""
    xp, order = _library(rows), argsort(rows)
    starts = _starts(rows.take(order))
    larger = xp.flip(_before_run(xp.flip(xp.roll(starts, -1, 1), (1,))), (1,))
    ordered = _before_run(starts) - larger
    ranks = xp.empty_like(ordered)
    ranks.reshape(-1)[order.reshape(-1)] = ordered.reshape(-1)
    return ranks


def topk(maps: Tensor, k: int) -> Tensor:
    """Flat indices (N, k) of the k largest pixels, largest first, equal ones by index.

    Raises ValueError for NaN, for a shape other than (N, H, W) and for k outside 1..H*W.
    """
    check_maps(maps, k=k)
    return torch.as_tensor(argsort(rows_of(maps), descending=True)[:, :k] % maps.shape[1:].numel())


def topk_mask(maps: Tensor, k: int) -> Tensor:
    """S_k: the pixels of `topk` as a bool mask (N, H, W)."""
    mask = torch.zeros(maps.shape, dtype=torch.bool, device=maps.device)
    return mask.flatten(1).scatter_(1, topk(maps, k), True).view(maps.shape)


def topk_intersection(a: Tensor, b: Tensor, k: int) -> Tensor:
    """Top-k intersection |S_k(a) & S_k(b)| / k (Ghorbani et al. 2019), in [0, 1]; errors and ties as `topk`.

    Ties go by index in both maps, which makes sparse maps look alike: `tied_share` says how many pixels they decided.
    """
    check_maps(a, b, k=k)
    return (topk_mask(a, k) & topk_mask(b, k)).sum((1, 2)).double() / k


def tied_share(maps: Tensor, k: int) -> Tensor:
    """Share (N,) of the k pixels of `topk` that are there by index alone, in [0, 1]; errors as `topk`.

    Where pixels of the value of the k-th place were left out, all that have this value were chosen by a tie: their
    number / k. 0 where the k largest values are a set without a choice, 1 for a constant map (unless k is all of it).
    """
    lowest, values = topk(maps, k)[:, -1:], maps.flatten(1)
    last = values.gather(1, lowest)
    larger, equal = (values > last).sum(1), (values == last).sum(1)
    return (k - larger).double() / k * (larger + equal > k)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine <a, b> / (|a| |b|) of the flattened maps, in [-1, 1]; NaN where a map is zero everywhere."""
    check_maps(a, b)
    a, b = a.flatten(1).double(), b.flatten(1).double()
    return ((a * b).sum(1) / a.norm(dim=1) / b.norm(dim=1)).clamp(-1, 1)


def spearman(a: Tensor, b: Tensor) -> Tensor:
    """Spearman's rank correlation as scipy.stats.spearmanr, average ranks for ties; range and errors as `kendall`."""
    check_maps(a, b)
    threads = torch.get_num_threads()
    ranks = (in_chunks(lambda part: torch.as_tensor(_ranks(rows_of(part))), m, threads=threads) for m in (a, b))
    return cosine(*(r[:, None] for r in ranks))


def kendall(a: Tensor, b: Tensor) -> Tensor:
    """Kendall's tau-b as scipy.stats.kendalltau, from exact counts, in O(n log(n)^2) for n pixels.

    (concordant - discordant) / sqrt(pairs not tied in a * pairs not tied in b), over pairs of pixels (Kendall 1945).
    In [-1, 1]; NaN where a map is constant (callers count that as a failure). ValueError for NaN and unlike shapes.
    """
    check_maps(a, b)
    counts = in_chunks(_pair_counts, a, b, threads=torch.get_num_threads())
    difference, untied_a, untied_b = counts.double().unbind(1)
    return (difference / untied_a.sqrt() / untied_b.sqrt()).clamp(-1, 1)


def _pair_counts(a: Tensor, b: Tensor) -> Tensor:
    """(N, 3): concordant - discordant pairs; pairs not tied in a; in b.

    With the pixels in the order of (a, b), a pair is discordant if the order of b, stable, inverts it.
    """
    a, b = (_integers(rows) if rows.itemsize < 8 else _ranks(rows) for rows in (rows_of(a), rows_of(b)))  # fit 32 bits
    xp, (count, n) = _library(a), a.shape
    pixels = xp.asarray(a, dtype=xp.int64) << 32
    pixels += b
    pixels += 2**31  # makes the lower half positive
    pixels = _sort(pixels)
    starts = [_starts(pixels >> 32), _starts(pixels)]
    pixels -= 2**31
    pixels <<= 32  # b in the upper half
    pixels += _places(n, a)
    pixels = _sort(pixels)
    discordant = _inversions(xp.asarray(pixels, dtype=xp.int32))
    pixels >>= 32
    untied_a, untied, untied_b = _untied_pairs(xp.concatenate([*starts, _starts(pixels)])).reshape(3, count)
    difference = untied_a + untied_b - untied - 2 * discordant
    return torch.as_tensor(xp.stack([difference, untied_a, untied_b], 1))


def _inversions(p):
    """Number (N,) of pairs i < j with p_i > p_j, in rows (N, n) that are permutations of 0 to n - 1.

    Pairs within a block of 16 places are compared. Then blocks are merged by twos as in merge sort: the elements of a
    second block move to the left, all together, by as many places as they have inversions with the first block.
    """
    xp, (count, n) = _library(p), p.shape
    levels = max(0, (n - 1).bit_length() - 4)
    size = 16 << levels
    narrow = xp.int16 if size <= 2**15 else xp.int32  # for a value
    wide = xp.int32 if size <= 2**17 else xp.int64  # for a value and the number of its first block
    places = xp.asarray(_places(size, p), dtype=wide)
    x = xp.asarray(0 * p[:, :1], dtype=wide) + places
    x[:, :n] = p  # what follows is in order: no more inversions
    columns = xp.asarray(x, dtype=narrow).reshape(-1, 16).T.flatten().reshape(16, -1)
    within = xp.zeros_like(columns, dtype=xp.int8)
    for i in range(1, 16):
        within[i:] += (columns[:-i] > columns[i:]).view(xp.int8)
    within = within.sum(0, dtype=xp.int8)  # at most 120
    x <<= levels
    x += places >> 4
    before, after, second = 0, xp.zeros_like(x), xp.empty_like(x)
    for level in range(levels):
        block = 16 << level
        x = _sort(x.reshape(-1, 2 * block)).reshape(x.shape)
        xp.bitwise_and(x, 1 << level, out=second)  # the bit that numbers in second blocks have
        second *= (places & 2 * block - 1) << levels - level - 1
        after += second  # 2**levels / 2 times the places, so that levels add up
        before += size // 4 * (3 * block - 1)
    return within.reshape(count, size // 16).sum(1) + before - (2 * after.sum(1) >> levels)
