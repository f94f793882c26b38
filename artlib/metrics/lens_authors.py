"""The released LENS scripts' arithmetic on flat indices (DIFFERENCES.md, L1 to L7), to show what it does."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Released:
    """Windows, sets and recall of the scripts for maps of `height` x `width` pixels numbered row by row.

    Every way in which they are not what the paper defines is a switch; `Released.without` has them all off and is
    `metrics.lens_recall` then.
    """

    height: int
    width: int
    L1: bool = True  # a window is offsets of the number: no look at the column
    L2: bool = True  # pixel 0 is not above 0
    L3: bool = True  # the third row of a 7 x 7 window is four rows away
    L4: bool = True  # a diverse set deletes the head's window, then records what has become the head
    L6: bool = True  # a diverse set that lost pixel 0 is divided by k all the same
    L7: bool = False  # of the attack's mask alone: what is below 0 is kept, and counts from the end

    @classmethod
    def without(cls, height: int, width: int, **slips: bool) -> Self:
        """The definitions of the paper, with the given switches on."""
        return replace(cls(height, width, *[False] * 5), **slips)

    def window(self, pixel: int, w: int) -> set[int]:
        """The numbers of the pixels in the window of one, w on each side."""
        found = set()
        for row in range(-w, w + 1):
            far = row + (row > 0) - (row < 0) if self.L3 and w == 3 and abs(row) == 3 else row
            for column in range(-w, w + 1):
                inside = 0 <= pixel % self.width + column < self.width
                if self.L1 or inside:
                    found.add(pixel + far * self.width + column)
        lowest = 1 if self.L2 else -self.height * self.width if self.L7 else 0
        return {p for p in found if lowest <= p < self.height * self.width}

    def near(self, pixels, w: int) -> set[int]:
        """All windows together."""
        return set().union(*(self.window(p, w) for p in pixels))

    def top(self, m: Tensor, k: int) -> list[int]:
        """The k largest pixels of a map (H, W), the larger first, equal ones by their place."""
        flat = m.flatten().tolist()
        return sorted(range(len(flat)), key=lambda p: (-flat[p], p))[:k]

    def diverse(self, m: Tensor, k: int, w: int, *, pool: int) -> list[int]:
        """k diverse pixels of a map (H, W) out of its `pool` largest; IndexError where these run out (L5).

        With L2 pixel 0 is in no window and taken out of the set in the end; with L4, too, it stays in the pool when it
        is the first, and is the next head once more.
        """
        left = self.top(m, pool)
        taken = [left[0]]
        gone = self.window(left[0], w) | (set() if self.L4 else {left[0]})
        left = [p for p in left if p not in gone]
        while len(taken) < k:
            head = left[0]
            if not self.L4:
                taken.append(head)
            gone = self.window(head, w) | {0 if self.L2 else head}
            left = [p for p in left if p not in gone]
            if self.L4:
                taken.append(left[0])
        return [p for p in taken if p or not self.L2]

    def recall(self, a: Tensor, b: Tensor, k: int, w: int) -> float:
        """w-LENS-recall@k of two maps (H, W), in [0, 1]."""
        return len(self.near(self.top(a, k), w) & set(self.top(b, k))) / k

    def diverse_recall(self, a: Tensor, b: Tensor, k: int, w: int, *, pool: int) -> float:
        """w-LENS-recall@k-div of two maps (H, W), in [0, 1]."""
        one, other = (set(self.diverse(m, k, w, pool=pool)) for m in (a, b))
        return len(self.near(one, w) & other) / (k if self.L6 else len(other))


def recall(before: Tensor, after: Tensor, k: int, w: int, *, diverse: bool = False, **slips: bool) -> Tensor:
    """w-LENS-recall@k of maps (N, H, W) with the given switches of `Released` on, (N,) float64.

    diverse: of the k diverse pixels, from all pixels; k must not be more than fit. Map by map: slow.
    """
    scripts, pool = Released.without(*before.shape[1:], **slips), before[0].numel()
    pairs = zip(before, after, strict=True)
    if diverse:
        found = [scripts.diverse_recall(a, b, k, w, pool=pool) for a, b in pairs]
    else:
        found = [scripts.recall(a, b, k, w) for a, b in pairs]
    return torch.tensor(found, dtype=torch.float64)
