"""Blossoms, the built-in data set: drawn flowers on natural-looking clutter, with exact masks and boxes.

The kinds differ in shape and in pattern, never in one colour: every kind is drawn in every colour, on every backdrop.

One seed is one data set on every machine. Therefore pixels see only operations that IEEE 754 rounds exactly
(+ - * / sqrt, comparisons, floor) and no sums over axes; angles come from a polynomial, rotations from rational points
of the circle, and random numbers from `torch.rand` in float64, which takes its bits straight from the generator.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

Array = np.ndarray

# One scene is m images of one kind; scalars are (m, 1, 1), planes (m, s, s), colours (3, m, 1, 1) or (3, m, s, s).
BLOCKS = 4  # a chunk holds this many images of every kind
SAMPLES = 2  # per pixel and axis
CELLS = (3, 6, 12, 24, 48)  # noise lattice cells per image width, one octave each
NUMBERS = 2 * sum((cells + 2) ** 2 for cells in CELLS) + 420  # uniform numbers one image may use


@dataclass(frozen=True)
class Kind:
    """One kind of flower: what does not change from image to image."""

    name: str
    petals: tuple[int, int]  # least and most
    outline: str  # of one petal, see OUTLINES
    pattern: str  # on the petals, see PATTERNS
    layers: int = 1  # corollas on top of each other
    disc: float = 0.0  # radius of the middle, in flower radii
    twist: float = 0.0  # how far a petal turns on its way out, in petal widths
    side: bool = False  # seen from the side


KINDS = (
    Kind("daisy", (12, 16), "oar", "plain", disc=0.38),
    Kind("primrose", (5, 5), "heart", "eye", disc=0.10),
    Kind("clematis", (4, 4), "lance", "bar", disc=0.20),
    Kind("tulip", (6, 6), "cup", "flame", layers=2, side=True),
    Kind("dahlia", (9, 12), "lance", "tips", layers=3, disc=0.13),
    Kind("lily", (6, 6), "pointed", "speckles", disc=0.08),
    Kind("pink", (5, 5), "toothed", "ring", disc=0.12),
    Kind("rose", (5, 6), "round", "rim", layers=4, twist=1.3),
    Kind("bellflower", (5, 5), "bell", "veins", side=True),
    Kind("poppy", (4, 4), "round", "blotch", disc=0.16),
    Kind("periwinkle", (5, 5), "blade", "eye", disc=0.08, twist=0.5),
    Kind("gazania", (9, 12), "round", "ring", disc=0.24),
)
CLASSES = tuple(kind.name for kind in KINDS)

# A point is inside where its radius r < outline(r, g); g = 0 on a petal's midline, +-1 where it meets its neighbours.
OUTLINES: dict[str, Callable[[Array, Array], Array]] = {
    "round": lambda r, g: 1 - 0.3 * g * g * g * g,
    "pointed": lambda r, g: 1 - 0.72 * abs(g) * (1.35 - 0.35 * abs(g)),
    "lance": lambda r, g: 1 - 0.3 * abs(g) - 0.25 * g * g,
    "oar": lambda r, g: np.where(abs(g) * (r + 0.25) < 0.85, 1 - 0.35 * g * g, 0.3),
    "heart": lambda r, g: 0.72 + 1.1 * abs(g) - 1.25 * g * g,
    "toothed": lambda r, g: 1 - 0.3 * _wave(2.5 * g + 0.5) - 0.1 * g * g,
    "blade": lambda r, g: 0.8 + 0.2 * g - 0.32 * g * g * g * g,
}

# Share of the second colour at radius r, place g across the petal, depth d inside the outline; `noise` is fine.
PATTERNS: dict[str, Callable[[Array, Array, Array, Array], Array]] = {
    "plain": lambda r, g, d, noise: 0.25 * r,
    "eye": lambda r, g, d, noise: _step(0.46 + 0.10 * abs(g) - r, 12),
    "ring": lambda r, g, d, noise: _step(0.16 - abs(r - 0.5), 14),
    "bar": lambda r, g, d, noise: _step(0.30 - 0.12 * r - abs(g), 9),
    "flame": lambda r, g, d, noise: _step(0.75 - abs(g) - r, 4),
    "tips": lambda r, g, d, noise: _step(r - 0.72, 6),
    "rim": lambda r, g, d, noise: _step(0.10 - d, 12),
    "veins": lambda r, g, d, noise: _step(0.36 - _wave(2.5 * g), 5) * (1 - 0.5 * r),
    "speckles": lambda r, g, d, noise: _step(noise - 0.6, 20) * _step(0.85 - r, 8),
    "blotch": lambda r, g, d, noise: _step(0.42 - 0.35 * g * g - r, 12) * _step(r - 0.05, 9),
}


def _colours(names: str) -> Array:
    return np.array([list(bytes.fromhex(name)) for name in names.split()]) / 255


# white, cream, yellow, orange, coral, red, crimson, pink, magenta, violet, blue, sky
PETAL = _colours("f2f0eb f0e0ad f5d12e f28c1f f07a66 d41f1f 8c0f2e f2a6c2 d13399 8547bd 404dcc 94b3f0")
DISC = _colours("edbd1f b87314 4d2b1a 85992e 291a29")
LEAF = _colours("336b21 5c8a33 1f4a24 859442 4d7354")
STONE = _colours("99948c 6b6157 baad99 734d33 4d4f54")
# dark, light and spots of: foliage, hedge, soil, straw, stone, sky through leaves, meadow in the sun
BACKDROP = _colours(
    "0d210d 477529 809e4d 0a1a17 2e573d 1a291a 291a12 75543b 9e856b"
    " 5c4724 bda366 576b2e 47474a a8a399 5c6b42"
    " 1a381a 527a3d b8d6f2 4d7024 9eb857 dbcc80"
).reshape(-1, 3, 3)
# Stray things: half length from, to; half width in lengths from, to; pointedness; taper; bend.
THINGS = np.array([(0.35, 0.8, 0.02, 0.05, 0.9, 0.7, 0.35),  # blade of grass
                   (0.12, 0.3, 0.25, 0.45, 1.0, 0.2, 0.20),  # leaf
                   (0.04, 0.11, 0.65, 1.0, 0.0, 0.1, 0.00),  # pebble
                   (0.09, 0.22, 0.4, 0.65, 0.4, 0.6, 0.10)])  # fallen petal  # fmt: skip
THING_COLOURS = (LEAF, LEAF, STONE, PETAL)


class _Deal:
    """Hands out the uniform numbers (m, NUMBERS) of m images, column after column."""

    def __init__(self, numbers: Array):
        self.numbers, self.used = numbers, 0

    def take(self, count: int) -> Array:
        self.used += count
        return self.numbers[:, self.used - count : self.used]

    def __call__(self, low: float = 0.0, high: float = 1.0) -> Array:
        return (low + (high - low) * self.take(1))[:, :, None]

    def direction(self, share: float = 1.0, start: float = 0.0) -> tuple[Array, Array]:
        """Cosine and sine of an angle in `start` .. `start + share` turns, about evenly spread.

        Quarter turns, each with ((1 - t^2) / (1 + t^2), 2t / (1 + t^2)) for t in [0, 1).
        """
        turns = self(start, start + share) * 4
        quarter = np.floor(turns)
        t = turns - quarter
        c, s = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
        quarter = quarter - 4 * np.floor(quarter / 4)
        return np.choose(quarter.astype(int), [c, -s, -c, s]), np.choose(quarter.astype(int), [s, c, -s, -c])

    def colour(self, table: Array, jitter: float = 0.08) -> Array:
        """A row of the table, each channel moved by up to `jitter`."""
        row = table[np.floor(self.take(1)[:, 0] * len(table)).astype(int)]
        return (row + jitter * (2 * self.take(3) - 1)).T[:, :, None, None]


def _step(x: Array, slope: float) -> Array:
    """A ramp from 0 to 1 of the given slope, 1/2 at x = 0."""
    return np.minimum(np.maximum(0.5 + slope * x, 0), 1)


def _wave(x: Array) -> Array:
    """Triangle wave of period 1: 0 at integers, 1 in between."""
    return 1 - abs(1 - 2 * (x - np.floor(x)))


def _turn(x: Array, y: Array) -> Array:
    """Angle of (x, y) in turns, [0, 1]: an odd polynomial for arctan on [0, 1] (error 1e-4), then reflections."""
    wide, high = abs(x), abs(y)
    z = np.minimum(wide, high) / np.maximum(np.maximum(wide, high), 1e-12)
    zz = z * z
    turn = z * (0.158994 + zz * (-0.051133 + zz * (0.023494 - zz * 0.006360)))
    turn = np.where(high > wide, 0.25 - turn, turn)
    turn = np.where(x < 0, 0.5 - turn, turn)
    return np.where(y < 0, 1 - turn, turn)


def _noise(deal: _Deal, at: Array, roughness: Array) -> tuple[Array, Array]:
    """Smooth noise about 1/2, octave j weighted roughness^j, and its finest two octaves alone, at the places `at` (s,).

    Random lattices seen through quadratic B-splines, which hide the lattice better than linear interpolation.
    """
    total, fine, weight, weights = 0.0, 0.0, 1.0, 0.0
    for octave, cells in enumerate(CELLS):
        lattice = 2 * deal.take((cells + 2) ** 2).reshape(-1, cells + 2, cells + 2) - 1
        low = np.minimum(np.floor(at * cells).astype(int), cells - 1)
        t = at * cells - low
        taps = 0.5 * (1 - t) * (1 - t), 0.5 + t * (1 - t), 0.5 * t * t
        columns = sum(tap * lattice[:, :, low + i] for i, tap in enumerate(taps))  # (m, cells + 2, s)
        plane = sum(tap[:, None] * columns[:, low + i] for i, tap in enumerate(taps))  # (m, s, s)
        total, weights = total + weight * plane, weights + weight * weight
        fine = fine + 0.6 * plane if octave >= len(CELLS) - 2 else fine
        weight = weight * roughness
    return 0.5 + 0.8 * total / np.sqrt(weights), 0.5 + fine


def _lookup(table: Array, which: Array) -> Array:
    """Looks up (m, k) at whole numbers (m, s, s)."""
    return np.take_along_axis(table, which.reshape(len(which), -1), 1).reshape(which.shape)


def _paint(image: Array, where: Array, colour: Array, shade: Array) -> None:
    for channel in range(3):
        np.copyto(image[channel], colour[channel] * shade, where=where)


def _backdrop(deal: _Deal, at: Array) -> tuple[Array, Array, Array]:
    """Three colours mixed by noise: (3, m, s, s), and two noise planes for later use."""
    coarse, fine = _noise(deal, at, deal(0.4, 0.9))
    other, fleck = _noise(deal, at, deal(0.4, 0.8))
    row = BACKDROP[np.floor(deal.take(1)[:, 0] * len(BACKDROP)).astype(int)]
    row = row + 0.05 * (2 * deal.take(9).reshape(-1, 3, 3) - 1)
    dark, light, spot = (row[:, i].T[:, :, None, None] for i in range(3))
    image = np.ascontiguousarray(dark + (light - dark) * _step(coarse - 0.5, 1.8))  # _thing writes through flat views
    image += (spot - image) * _step(other - deal(0.52, 0.68), 9)
    image *= deal(0.6, 0.95) + deal(0.2, 0.5) * (fine - 0.5)
    return image, fine, fleck


def _thing(deal: _Deal, image: Array, at: Array, fine: Array, types: tuple[int, ...]) -> Array:
    """Paints one stray thing per image, v^2 < w^2 (1 - u^2) (1 - p u^2) (1 + a u) along u, across v; where it lies."""
    types = np.array(types)[np.floor(deal.take(1)[:, 0] * len(types)).astype(int)]
    row = THINGS[types][:, :, None, None]
    length, width = (row[:, i] + (row[:, i + 1] - row[:, i]) * deal() for i in (0, 2))
    colours = np.stack([deal.colour(table) for table in THING_COLOURS])
    colour = colours[types, :, np.arange(len(types))].transpose(1, 0, 2, 3)
    (c, s), x, y = deal.direction(), at - deal(0, 1), at[:, None] - deal(0, 1)
    c, s = c / length, s / length
    u = x * c + y * s
    uu = u * u
    v = y * c - x * s - row[:, 6] * deal(-1, 1) * uu
    half = width * width * (1 - uu) * (1 - row[:, 4] * uu) * (1 + row[:, 5] * u)
    near = np.flatnonzero((uu < 1) & (v * v < 1.3 * half + 0.004))  # the thing and the shadow round it: few pixels
    which = near // fine[0].size
    width, dull, ridge = (part[which, 0, 0] for part in (width, deal(0.45, 0.85), deal(-0.5, 0.5)))
    v, half = v.reshape(-1)[near], half.reshape(-1)[near]
    inside = v * v < half
    shade = dull + ridge * v / width - 0.2 * (abs(v) < 0.12 * width) + 0.5 * fine.reshape(-1)[near]
    for plane, tone in zip(image.reshape(3, -1), colour[:, :, 0, 0], strict=True):
        plane[near] = np.where(inside, tone[which] * shade, 0.7 * plane[near])
    covered = np.zeros(fine.shape, bool)
    covered.reshape(-1)[near] = inside
    return covered


def _corolla(deal: _Deal, kind: Kind, x: Array, y: Array, layer: int) -> tuple[Array, ...]:
    """Petal coordinates of a flower from above: inside, radius r in [0, 1], place g across, depth d, petal number."""
    low, high = kind.petals
    count = low + np.floor(deal() * (high + 1 - low))
    r = np.sqrt(x * x + y * y) / (1 - 0.72 * layer / kind.layers)
    turned = count * _turn(x, y) + deal(0, 1) + kind.twist * (r + 0.15 * deal(-1, 1))
    petal = np.floor(turned)
    g = 2 * (turned - petal) - 1
    number = (petal - count * np.floor(petal / count)).astype(int)
    edge = OUTLINES[kind.outline](r, g) * _lookup(1 - 0.14 * deal.take(high + 1), number)
    return r < edge, r, g, edge - r, number


def _cup(deal: _Deal, kind: Kind, x: Array, y: Array, layer: int) -> tuple[Array, ...]:
    """The same for a flower from the side: a tulip's cup opens upwards, a bell hangs and flares."""
    up = kind.outline == "cup"
    rise = 0.5 - 0.5 * y if up else 0.5 + 0.5 * y  # 0 at the stalk, 1 at the tips
    base, high = np.maximum(1 - rise / 0.42, 0), np.maximum(rise, 0)
    flare = deal(-0.15, 0.1) * high * high if up else deal(0.25, 0.5) * high * high * high
    width = (deal(0.5, 0.7) if up else deal(0.36, 0.5)) * np.sqrt(np.maximum(1 - base * base, 1e-4)) + flare
    across = x / width
    turned = (1.0 if up else 1.5) * across * (0.8 + 0.2 * across * across) + 0.5 * (layer + 1)
    petal = np.floor(turned)
    g = 2 * (turned - petal) - 1
    edge = 1 - (0.3 if up else 0.14) * g * g - 0.08 * abs(g)
    inside = (abs(across) < 1) & (rise > 0) & (rise < edge)
    number = np.minimum(np.maximum(petal + 9, 0), 18).astype(int)
    return inside, rise, g, np.minimum(edge - rise, 1 - abs(across)), number


def _pose(deal: _Deal, kind: Kind, image: Array, at: Array) -> tuple[Array, Array]:
    """Coordinates in which the flower is the unit disc; paints its shadow, and the stalk if seen from the side."""
    radius = 0.45 - 0.21 * deal() * deal()
    room = 0.9 * radius  # a tenth of the flower may leave the image
    dx, dy = ((axis - (room + (1 - 2 * room) * deal())) / radius for axis in (at, at[:, None]))
    shadow = _step(0.9 - ((dx - 0.3) * (dx - 0.3) + (dy - 0.3) * (dy - 0.3)), 0.6)
    image *= 1 - deal(0.2, 0.6) * shadow
    squash = deal(0.7, 1.0)
    c, s = deal.direction(0.26, -0.13) if kind.side else deal.direction()
    x, y = c * dx + s * dy, c * dy - s * dx
    if not kind.side:
        return x, y / squash
    x = x / (0.75 + 0.25 * squash)
    along = y - 0.8 if kind.outline == "cup" else -0.8 - y
    stalk = (along > 0) & (abs(x + deal(-0.4, 0.4) * along * along) < 0.07)
    _paint(image, stalk, deal.colour(LEAF), 0.9 + 4 * x)
    return x, y


def _flower(deal: _Deal, kind: Kind, image: Array, at: Array, fine: Array, fleck: Array) -> Array:
    """Paints the flower of each image; where it is, bool (m, s, s)."""
    x, y = _pose(deal, kind, image, at)
    main, second, disc = deal.colour(PETAL), deal.colour(PETAL), deal.colour(DISC)
    second = main + (second * deal(0.5, 1) - main) * deal(0.6, 1.0)
    lx, ly = deal.direction()
    light, side, joint, cup = deal(-0.22, 0.22), deal(-0.2, 0.2), deal(0.2, 0.5), deal(-0.15, 0.35)
    tilt = 1 + light * (lx * x + ly * y)
    mask = np.zeros(fine.shape, bool)
    for layer in range(kind.layers):
        inside, r, g, depth, number = (_cup if kind.side else _corolla)(deal, kind, x, y, layer)
        below = 1 - 0.5 * (kind.layers - 1 - layer) / kind.layers
        shade = below * tilt * _lookup(0.86 + 0.2 * deal.take(20), number)  # no two petals are quite alike
        shade = shade * (1 + side * g - joint * g * g * g * g) * (1 - 0.3 * _step(0.06 - depth, 8))
        shade = shade * (0.95 + cup * (r - 0.3) + 0.2 * fine)
        mix = PATTERNS[kind.pattern](r, g, depth, fleck)
        _paint(image, inside, main + (second - main) * mix, shade)
        mask |= inside
    if kind.disc:
        rr = (x * x + y * y) / (kind.disc * kind.disc * deal(0.75, 1.3))
        _paint(image, rr < 1, disc, tilt * (1.1 - 0.45 * rr) * (0.6 + 0.8 * fleck))
        mask |= rr < 1
    return mask


def _fours(plane: Array) -> Array:
    """Sums of 2 x 2 samples, always in the same order."""
    return plane[..., ::2, ::2] + plane[..., ::2, 1::2] + plane[..., 1::2, ::2] + plane[..., 1::2, 1::2]


def _scene(numbers: Array, kind: Kind, size: int) -> tuple[Array, Array]:
    """Draws m images of one kind from their numbers (m, NUMBERS): uint8 (m, 3, size, size), bool (m, size, size)."""
    deal = _Deal(numbers)
    at = (np.arange(SAMPLES * size) + 0.5) / (SAMPLES * size)
    image, fine, fleck = _backdrop(deal, at)
    for _ in range(4):
        _thing(deal, image, at, fine, (0, 0, 1, 1, 2, 3))
    mask = _flower(deal, kind, image, at, fine, fleck)
    for types in ((0,), (0, 3)):
        mask &= ~_thing(deal, image, at, fine, types)
    (lx, ly), (sx, sy), x, y = deal.direction(), deal.direction(), at - 0.5, at[:, None] - 0.5
    light = deal(0.9, 1.3) * (1 + deal(0, 0.4) * (lx * x + ly * y))
    image *= light * (1 - deal(0, 0.4) * _step(sx * x + sy * y + deal(-0.6, 0.2), deal(2, 8)))  # a straight shadow
    image = _fours(image) / 4 * np.stack([deal(0.92, 1.08) for _ in range(3)])
    mask = _fours(mask.astype(np.int8)) >= 2
    image = np.floor(np.minimum(np.maximum(image, 0), 1) * 255 + 0.5).astype(np.uint8)
    return image.transpose(1, 0, 2, 3), mask


def _boxes(masks: Array) -> Array:
    """Tight half-open boxes x0, y0, x1, y1 of bool masks (n, s, s)."""
    columns, rows, size = masks.any(1), masks.any(2), masks.shape[1]
    ends = [columns.argmax(1), rows.argmax(1), size - columns[:, ::-1].argmax(1), size - rows[:, ::-1].argmax(1)]
    return np.stack(ends, 1).astype(np.float32)


def draw(n: int, *, size: int = 32, seed: int = 0, num_classes: int = 10) -> tuple[torch.Tensor, ...]:
    """Draws n flowers with labels, masks of the visible flower, and the masks' tight boxes.

    Chunk k holds images k*m .. (k+1)*m - 1, m = 4 * num_classes, and has its own generator, seeded with
    (seed * 1_000_003 + k) mod 2^32. It is always drawn whole, so image i does not depend on n; every num_classes
    consecutive labels from a multiple of num_classes on are a permutation of the classes, so labels are balanced.

    Returns images uint8 (n, 3, size, size), labels int64 (n,), masks bool (n, size, size) and boxes float32 (n, 4):
    x0, y0, x1, y1 in pixels, x1 and y1 exclusive. Raises ValueError for n < 1, size < 28 or an impossible num_classes.
    """
    if n < 1:
        raise ValueError(f"n = {n}: ask for at least 1 image")
    if size < 28:
        raise ValueError(f"size = {size}: petals cannot be told apart below 28 pixels; draw at 28 or more and resize")
    if not 2 <= num_classes <= len(KINDS):
        raise ValueError(f"num_classes = {num_classes}: allowed are 2 to {len(KINDS)}, the kinds in blossoms.CLASSES")
    per_chunk = BLOCKS * num_classes
    images = np.empty((n, 3, size, size), np.uint8)
    labels, masks = np.empty(n, np.int64), np.empty((n, size, size), bool)
    for start in range(0, n, per_chunk):
        generator = torch.Generator().manual_seed((seed * 1_000_003 + start // per_chunk) % 2**32)
        order = torch.rand(BLOCKS, num_classes, generator=generator, dtype=torch.float64).numpy()
        chunk = order.argsort(1, kind="stable").reshape(-1)[: n - start]
        numbers = torch.rand(per_chunk, NUMBERS, generator=generator, dtype=torch.float64).numpy()
        labels[start : start + per_chunk] = chunk
        for label in range(num_classes):
            (where,) = np.nonzero(chunk == label)
            if len(where):
                images[start + where], masks[start + where] = _scene(numbers[where], KINDS[label], size)
    return tuple(torch.from_numpy(part) for part in (images, labels, masks, _boxes(masks)))
