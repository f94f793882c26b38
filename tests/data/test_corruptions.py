"""Common corruptions: each against SciPy, colorsys, Pillow or a loop over pixels, on the same draws."""

import colorsys
import hashlib
import importlib
import io
import math
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats
from tiny_files import Response, put, tar

from artlib import paths
from artlib.data import blossoms
from artlib.data.corruptions import (
    BESIDE,
    CORRUPTIONS,
    SEVERITIES,
    blurs,
    corrupt,
    download,
    official,
    photographs,
    sampling,
    source_of,
)
from artlib.data.corruptions.weather import plasma
from artlib.paper import table

files = importlib.import_module("artlib.data.corruptions.official")  # the package has its function by that name
each = pytest.mark.parametrize("name", CORRUPTIONS)
each_severity = pytest.mark.parametrize("severity", SEVERITIES)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 2, size: int = 32) -> torch.Tensor:
    """Noise of 8 bits."""
    return torch.randint(0, 256, (n, 3, size, size), generator=seeded(7)).double() / 255


def smooth_pictures(n: int = 8) -> torch.Tensor:
    images, *_ = blossoms.draw(n, size=32, seed=3, num_classes=10)
    return sampling.gaussian(images.double() / 255, 1.5)


def hwc(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def made(name: str, severity: int, x: torch.Tensor) -> np.ndarray:
    """In 8-bit levels."""
    return 255 * corrupt(x, name, severity=severity, generator=seeded()).numpy()


def same(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for values that rounding down may put on either side of a level."""
    expected = 255 * expected.clip(0, 1)
    levels = np.floor(expected + 1e-3)
    np.testing.assert_allclose(found, levels, rtol=0, atol=1e-9)


# ------------------------------------------------------------------ every corruption


def test_they_are_those_of_table_3_in_its_order():
    assert list(CORRUPTIONS) == [c for c in table("table3") if c not in ("dataset", "training", "approach")]
    assert len(CORRUPTIONS) == 15


@pytest.mark.parametrize("name", [*CORRUPTIONS, *BESIDE])
@each_severity
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_type_range_levels_and_seed(name, severity, dtype, ice):
    for shape in ((3, 3, 28, 28), (2, 1, 9, 12), (0, 3, 8, 8)):
        x = torch.rand(shape, generator=seeded(1), dtype=dtype)
        before = x.clone()
        found = corrupt(x, name, severity=severity, generator=seeded())
        assert found.shape == x.shape and found.dtype == dtype and torch.equal(x, before)
        assert found.isfinite().all() and ((0 <= found) & (found <= 1)).all()
        assert ((255 * found).round() - 255 * found).abs().lt(1e-3).all()
        assert torch.equal(found, corrupt(x, name, severity=severity, generator=seeded()))


DRAWN = ("noise", "glass", "motion", "snow", "fog", "elastic")


@each
def test_another_seed_is_another_picture_where_something_is_drawn(name):
    x = pictures()
    a, b = (corrupt(x, name, severity=3, generator=seeded(s)) for s in (0, 1))
    assert torch.equal(a, b) != any(word in name for word in DRAWN)
    if any(word in name for word in DRAWN):  # and two equal images do not get the same draws
        twice = corrupt(x[:1].expand(2, -1, -1, -1), name, severity=3, generator=seeded())
        assert not torch.equal(*twice)


@each
def test_more_severe_is_farther_from_the_image(name):
    """But for two whose constants trade one part for another: glass (blur, shuffles) and elastic (shift, ripples).

    So do those of frost, which has a test of its own.
    """
    x = smooth_pictures(32)
    far = [(corrupt(x, name, severity=s, generator=seeded()) - x).square().mean().item() for s in SEVERITIES]
    if name == "glass_blur":
        far = [far[0], far[3]]
    if name == "elastic_transform":
        far = far[::-1]  # the affine part, which moves everything, shrinks
    assert all(a < b * 1.001 for a, b in zip(far, far[1:], strict=False)) and far[0] < far[-1]


@pytest.mark.parametrize(
    ("name", "severity", "x", "words"),
    [
        ("rain", 1, pictures(), "unknown corruption 'rain'; choose one of gaussian_noise, .*speckle_noise, frost"),
        ("fog", 6, pictures(), "severity is 6; it must be 1, 2, 3, 4 or 5"),
        ("fog", 1, pictures()[0], r"x is torch.float64 of shape \(3, 32, 32\); images are float"),
        ("fog", 1, pictures()[:, :2], "1 or 3"),
    ],
)
def test_what_cannot_be_meant(name, severity, x, words):
    with pytest.raises(ValueError, match=words):
        corrupt(x, name, severity=severity, generator=seeded())


# ------------------------------------------------------------------ noise


@each_severity
def test_noises(severity):
    x, i = pictures(), severity - 1
    n = torch.randn(x.shape, generator=seeded(), dtype=x.dtype).numpy()
    same(made("gaussian_noise", severity, x), x.numpy() + [0.04, 0.06, 0.08, 0.09, 0.10][i] * n)
    same(made("speckle_noise", severity, x), x.numpy() * (1 + [0.06, 0.1, 0.12, 0.16, 0.2][i] * n))


@each_severity
def test_shot_noise_is_poissons(severity):
    """Value by value torch's draws; over many of one grey value SciPy's distribution, in levels."""
    c, x = [500, 250, 100, 75, 50][severity - 1], pictures()
    same(made("shot_noise", severity, x), torch.poisson(c * x, generator=seeded()).numpy() / c)
    k = np.arange(2 * c)
    for value in (0.02, 0.4, 0.9):
        found = made("shot_noise", severity, torch.full((4, 3, 64, 64), value, dtype=torch.float64))
        levels = np.floor(255 * (k / c).clip(0, 1) + 1e-3).astype(int)
        expected = np.bincount(levels, stats.poisson.pmf(k, c * value), minlength=256) * found.size
        seen = np.bincount(found.round().astype(int).ravel(), minlength=256)
        often = expected >= 5
        rest = [found.size - each[often].sum() for each in (seen, expected)]
        test = stats.chisquare([*seen[often], rest[0]], [*expected[often], rest[1]])
        assert test.pvalue > 1e-3, value


@each_severity
def test_impulse_noise_is_salt_and_pepper(severity):
    x, draws = pictures(8), seeded()
    hit, white = (torch.rand(x.shape, generator=draws, dtype=x.dtype).numpy() for _ in range(2))
    expected = x.numpy().copy()
    struck = hit < [0.01, 0.02, 0.03, 0.05, 0.07][severity - 1]
    expected[struck & (white < 0.5)] = 1
    expected[struck & (white >= 0.5)] = 0
    same(made("impulse_noise", severity, x), expected)


# ------------------------------------------------------------------ blur


@pytest.mark.parametrize("sigma", [0, 0.05, 0.25, 0.4, 1.9, 6.4])
@pytest.mark.parametrize("border", ["edge", "reflect", "mirror"])
def test_gaussian_blur_is_scipys(sigma, border):
    x = pictures(1, 9)
    mode = {"edge": "nearest"}.get(border, border)
    expected = ndimage.gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode=mode, truncate=3)
    np.testing.assert_allclose(sampling.gaussian(x, sigma, border=border, truncate=3).numpy(), expected, atol=1e-12)


@each_severity
def test_defocus_blur_is_a_disk(severity):
    radius, alias = [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)][severity - 1]
    y, x = np.mgrid[-8:9, -8:9]
    disk = (x**2 + y**2 <= radius**2) / np.sum(x**2 + y**2 <= radius**2)
    edge = np.array([math.exp(-((i / alias) ** 2) / 2) for i in (-1, 0, 1)])
    kernel = ndimage.convolve(disk, np.outer(edge, edge) / edge.sum() ** 2)
    images = pictures()
    expected = np.stack([[ndimage.correlate(c.numpy(), kernel, mode="mirror") for c in image] for image in images])
    same(made("defocus_blur", severity, images), expected)


@each_severity
def test_glass_blur_is_the_released_loop(severity):
    """With its assignment of views, which copies where it means to swap, and draws in the order of ours."""
    sigma, reach, times = [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)][severity - 1]
    x, blur = pictures(), (0, 0, sigma, sigma)
    moves = torch.randint(-reach, reach, (times, 2, 2, 32, 32), generator=seeded()).tolist()
    levels = np.floor(255 * ndimage.gaussian_filter(x.numpy(), blur, mode="nearest") + 1e-3)
    for n, image in enumerate(levels):
        pixels = image.transpose(1, 2, 0)  # a view
        for time in range(times):
            for i in range(32 - reach, reach, -1):
                for j in range(32 - reach, reach, -1):
                    k, m = i + moves[time][0][n][i][j], j + moves[time][1][n][i][j]
                    pixels[i, j], pixels[k, m] = pixels[k, m], pixels[i, j]
    same(made("glass_blur", severity, x), ndimage.gaussian_filter(levels / 255, blur, mode="nearest"))


@pytest.mark.parametrize("angle", [0, 90, -45, 17, -120])
def test_motion_blur_is_a_line_of_falling_weights(angle):
    """A bright pixel at (y, x) reaches the pixel p where p + offset is it."""
    x = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    x[0, 0, 20, 20] = 1
    found = sampling.motion(x, torch.tensor([angle]), radius=6, sigma=2.5)[0, 0]
    weights = np.exp(-(np.arange(13) ** 2) / (2 * 2.5**2))
    expected = np.zeros((41, 41))
    for i, w in enumerate(weights / weights.sum()):
        down, right = (math.ceil(i * f(math.radians(angle)) - 0.5) for f in (math.sin, math.cos))
        expected[20 - down, 20 - right] += w
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    assert found.sum().item() == pytest.approx(1)


@each_severity
def test_motion_blur(severity, monkeypatch):
    """A loop over the pixels of the line, the border going on. Its end is too faint for 8 bits: its length is asked."""
    radius, sigma = [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)][severity - 1]
    x = pictures(6)
    angles = -45 + 90 * torch.rand(6, generator=seeded(), dtype=x.dtype).numpy()
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    expected, (rows, columns) = np.zeros(x.shape), np.mgrid[:32, :32]
    for n, image in enumerate(x.numpy()):
        for i, w in enumerate(weights / weights.sum()):
            down, right = (math.ceil(i * f(math.radians(angles[n])) - 0.5) for f in (math.sin, math.cos))
            expected[n] += w * image[:, (rows + down).clip(0, 31), (columns + right).clip(0, 31)]
    same(made("motion_blur", severity, x), expected)
    monkeypatch.setattr(blurs, "motion", lambda x, angles, **told: x * (told == dict(radius=radius, sigma=sigma)))
    assert made("motion_blur", severity, x).any()


@pytest.mark.parametrize("factor", [1.0, 1.05, 1.25, 1.75, 2.25])
@pytest.mark.parametrize("size", [28, 32])
def test_zoom_is_scipys(factor, size):
    x = pictures(1, size)
    crop = math.ceil(size / factor)
    top = (size - crop) // 2
    expected = ndimage.zoom(x[0, :, top : top + crop, top : top + crop].numpy(), (1, factor, factor), order=1)
    trim = (expected.shape[1] - size) // 2
    expected = expected[:, trim : trim + size, trim : trim + size]
    np.testing.assert_allclose(sampling.zoomed(x, factor)[0].numpy(), expected, atol=1e-9)


@each_severity
def test_zoom_blur_is_a_mean_of_zooms(severity):
    x, count = pictures(), [7, 12, 16, 21, 26][severity - 1]  # of numpy.arange, which has its end twice, by rounding
    factors = np.arange(1, 1.3, 0.01)[:count]
    expected = (x + sum(sampling.zoomed(x, f) for f in factors)) / (len(factors) + 1)
    same(made("zoom_blur", severity, x), expected.numpy())


# ------------------------------------------------------------------ weather


def test_clouds_are_the_diamond_square_algorithm_point_by_point():
    size, decay, draws = 8, 1.75, seeded()
    found = plasma(torch.zeros(2, 3, 1, 1, dtype=torch.float64), size, decay, seeded())
    clouds = np.zeros((2, size, size))
    step, wibble = size, 100.0
    while step >= 2:
        half, cells = step // 2, size // step
        for kind in ("centre", "top", "left"):
            u = torch.rand(2, cells, cells, generator=draws, dtype=torch.float64).numpy()
            for n, a, b in np.ndindex(2, cells, cells):
                i, j = a * step, b * step
                if kind == "centre":
                    i, j = i + half, j + half
                    near = [(i - half, j - half), (i - half, j + half), (i + half, j - half), (i + half, j + half)]
                else:
                    i, j = (i, j + half) if kind == "top" else (i + half, j)
                    near = [(i - half, j), (i + half, j), (i, j - half), (i, j + half)]
                mean = sum(clouds[n, p % size, q % size] for p, q in near) / 4
                clouds[n, i, j] = mean + wibble * wibble * (2 * u[n, a, b] - 1)
        step, wibble = half, wibble / decay
    clouds -= clouds.min((1, 2), keepdims=True)
    np.testing.assert_allclose(found.numpy(), clouds / clouds.max((1, 2), keepdims=True), atol=1e-9)


@each_severity
def test_fog_adds_a_cloud(severity):
    amount, decay = [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)][severity - 1]
    x = pictures(2, 28)
    cloud = plasma(x, 32, decay, seeded())[:, None, :28, :28].numpy()
    brightest = x.numpy().max((1, 2, 3), keepdims=True)
    same(made("fog", severity, x), (x.numpy() + amount * cloud) * brightest / (brightest + amount))


@each_severity
def test_brightness_is_colorsys(severity):
    x = pictures(1, 8)
    x[0, :, 0, 0] = 0  # black has no hue
    c, expected = [0.05, 0.1, 0.15, 0.2, 0.3][severity - 1], np.zeros((8, 8, 3))
    for i, j in np.ndindex(8, 8):
        h, s, v = colorsys.rgb_to_hsv(*hwc(x[0])[i, j])
        expected[i, j] = colorsys.hsv_to_rgb(h, s, min(v + c, 1))
    same(made("brightness", severity, x)[0].transpose(1, 2, 0), expected)


@each_severity
def test_snow(severity):
    """Zoom and motion blur have tests of their own."""
    mean, std, zoom, threshold, radius, sigma, keep = [
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    ][severity - 1]
    x, draws = pictures(1), seeded()
    layer = sampling.zoomed(torch.randn(1, 1, 32, 32, generator=draws, dtype=x.dtype) * std + mean, zoom).numpy()
    layer[layer < threshold] = 0
    layer = torch.from_numpy(np.floor(255 * layer.clip(0, 1) + 1e-3) / 255)
    angles = -135 + 90 * torch.rand(1, generator=draws, dtype=x.dtype)
    layer = sampling.motion(layer, angles, radius=radius, sigma=sigma)[0, 0].numpy()
    image = hwc(x[0])
    white = np.maximum(image, (image @ [0.299, 0.587, 0.114])[..., None] * 1.5 + 0.5)
    expected = keep * image + (1 - keep) * white + (layer + np.rot90(layer, 2))[..., None]
    same(made("snow", severity, x)[0].transpose(1, 2, 0), expected)


@pytest.fixture
def ice(tmp_path, monkeypatch) -> list[np.ndarray]:
    """Two photographs of noise in the place of CIFAR-10-C's, of different sizes."""
    monkeypatch.setattr(paths, "DATA", tmp_path)
    (tmp_path / "frost").mkdir()
    noise = np.random.default_rng(0)
    found = [noise.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((203, 171), (300, 199))]
    for i, pixels in enumerate(found):
        Image.fromarray(pixels).save(tmp_path / "frost" / f"frost{i + 1}.png")
    (tmp_path / "frost" / "LICENSE").touch()
    return found


@each_severity
def test_frost(severity, ice):
    """In whole levels, as the released code has it; OpenCV's linear resizing to a fifth written as it is defined."""
    a, b = [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)][severity - 1]
    x, draws = pictures(6), seeded()

    def drawn(n: int) -> int:
        return torch.randint(n, (), generator=draws).item()

    small = []
    for photograph in ice:
        height, width = (round(0.2 * n) for n in photograph.shape[:2])
        places = np.meshgrid((np.arange(height) + 0.5) * 5 - 0.5, (np.arange(width) + 0.5) * 5 - 0.5, indexing="ij")
        channels = [ndimage.map_coordinates(photograph[..., c].astype(float), places, order=1) for c in range(3)]
        small.append(np.stack(channels))
    expected = []
    for image in x.numpy():
        texture = small[drawn(2)]
        top, left = drawn(texture.shape[1] - 32), drawn(texture.shape[2] - 32)
        expected.append(a * image + b * texture[:, top : top + 32, left : left + 32] / 255)
    same(made("frost", severity, x), np.stack(expected))


def test_more_severe_frost_leaves_less_of_the_image(ice):
    """Its distance from the image shrinks where its constants darken the image under the same ice: correlation."""
    x = smooth_pictures(32)
    iced = [corrupt(x, "frost", severity=s, generator=seeded()) for s in SEVERITIES]
    left = [torch.corrcoef(torch.stack([x.flatten(), found.flatten()]))[0, 1].item() for found in iced]
    assert 1 > left[0] and all(a > b + 0.005 for a, b in zip(left, left[1:], strict=False)), left


def test_frost_draws_the_first_five_photographs_by_name(ice, tmp_path):
    folder = tmp_path / "frost"
    for i in range(1, 7):
        Image.new("RGB", (200, 200), (30 * i, 0, 0)).save(folder / f"frost{i}.{'png' if i < 4 else 'jpg'}")
    assert [p.name for p in photographs()] == [f"frost{i}.{'png' if i < 4 else 'jpg'}" for i in range(1, 7)]
    found = corrupt(torch.zeros(64, 3, 32, 32), "frost", severity=5, generator=seeded())
    levels = (255 * found[:, 0, 0, 0]).round().int().unique().tolist()
    assert len(levels) == 5 and max(levels) <= 0.45 * 151  # the sixth has 180


def test_frost_without_photographs_says_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "DATA", tmp_path)
    assert photographs() == []
    with pytest.raises(
        FileNotFoundError, match=r"no photograph of frost in .*frost: put frost1.png, .*hendrycks.*speckle"
    ):
        corrupt(pictures(), "frost", severity=1, generator=seeded())


def test_a_photograph_of_frost_that_is_too_small_or_damaged(ice, tmp_path):
    with pytest.raises(ValueError, match="frost1.png is too small: a fifth of it must be larger than 40 x 34"):
        corrupt(torch.zeros(1, 3, 40, 34), "frost", severity=1, generator=seeded())
    (tmp_path / "frost" / "frost2.png").write_bytes(b"no png")
    with pytest.raises(ValueError, match="frost2.png is damaged"):
        corrupt(pictures(), "frost", severity=1, generator=seeded())


# ------------------------------------------------------------------ digital


@each_severity
def test_contrast(severity):
    x, c = pictures(), [0.75, 0.5, 0.4, 0.3, 0.15][severity - 1]
    mean = x.numpy().mean((2, 3), keepdims=True)
    same(made("contrast", severity, x), (x.numpy() - mean) * c + mean)


@each_severity
def test_elastic_transform_is_scipys(severity):
    """map_coordinates for both parts; the affine map solved from its three points."""
    strength, sigma, shift = [
        (0, 0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    ][severity - 1]
    x, draws = pictures(), seeded()
    moved, u, v = (
        2 * torch.rand(shape, generator=draws, dtype=x.dtype).numpy() - 1
        for shape in ((2, 3, 2), *[(2, 1, 32, 32)] * 2)
    )
    before = np.array([[26, 26], [26, 6], [6, 6]])  # (x, y)
    grid = np.mgrid[:32, :32].astype(float)
    for n, image in enumerate(x.numpy()):
        after = before + 32 * shift * moved[n]
        back = np.linalg.solve(np.c_[after, np.ones(3)], before)  # (x, y, 1) of the result to (x, y) of the image
        columns, rows = np.einsum("ihw,ij->jhw", np.stack([grid[1], grid[0], np.ones((32, 32))]), back)
        right, down = (
            32 * strength * ndimage.gaussian_filter(w[n, 0], 32 * sigma, mode="reflect", truncate=3) for w in (u, v)
        )
        expected = []
        for channel in image:
            affine = ndimage.map_coordinates(channel, [rows, columns], order=1, mode="mirror")
            expected.append(ndimage.map_coordinates(affine, [grid[0] + down, grid[1] + right], order=1, mode="reflect"))
        same(made("elastic_transform", severity, x)[n], np.stack(expected))


@each_severity
def test_pixels_and_jpeg_are_pillows(severity):
    x = pictures()
    fewer = int(32 * [0.95, 0.9, 0.85, 0.75, 0.65][severity - 1])
    for n in range(2):
        image, file = Image.fromarray(np.uint8(np.round(255 * hwc(x[n])))), io.BytesIO()
        image.save(file, "JPEG", quality=[80, 65, 58, 50, 40][severity - 1])
        coarse = image.resize((fewer, fewer), Image.BOX).resize((32, 32), Image.BOX)
        for name, expected in (("jpeg_compression", Image.open(file)), ("pixelate", coarse)):
            np.testing.assert_allclose(made(name, severity, x)[n].transpose(1, 2, 0), np.asarray(expected), atol=1e-9)


# ------------------------------------------------------------------ the released files


@pytest.fixture
def few(monkeypatch) -> dict[str, np.ndarray]:
    """CIFAR-10-C of four images a severity: their arrays, of which pixel (0, 0) says the place in the file."""
    monkeypatch.setattr(files, "IMAGES", 4)
    arrays = {name: np.full((20, 32, 32, 3), i, dtype=np.uint8) for i, name in enumerate(files.MD5)}
    for array in arrays.values():
        array[:, 0, 0, 0] = np.arange(20)
    return arrays | {"labels": np.tile(np.array([3, 8, 8, 0], dtype=np.uint8), 5)}


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def put_all(root: Path, arrays: dict[str, np.ndarray]) -> Path:
    for name, array in arrays.items():
        put(root / "CIFAR-10-C" / f"{name}.npy", npy(array))
    return root / "CIFAR-10-C"


def test_official_files_have_their_own_order_and_labels(tmp_path, few):
    put_all(tmp_path, few)
    found = official("fog", severity=3, root=tmp_path)
    assert found.images[:, 0, 0, 0].tolist() == [8, 9, 10, 11] and found.labels.tolist() == [3, 8, 8, 0]
    assert (found.images[:, 1:] == list(files.MD5).index("fog")).all() and found.images.shape == (4, 3, 32, 32)
    assert (found.name, found.split, found.note) == ("cifar10", "test", "CIFAR-10-C, fog, severity 3")
    some = official("fog", severity=5, index=torch.tensor([3, 1]), root=tmp_path)
    assert some.images[:, 0, 0, 0].tolist() == [19, 17] and some.labels.tolist() == [0, 8]


@pytest.mark.parametrize(
    ("name", "severity", "changed", "words"),
    [
        ("fog", 0, {}, "severity is 0; it must be 1, 2, 3, 4 or 5"),
        ("rain", 1, {}, "CIFAR-10-C has no 'rain'; it has brightness, .*frost"),
        ("labels", 1, {}, "CIFAR-10-C has no 'labels'"),
        ("fog", 3, {"labels": [0] * 19 + [1]}, "does not hold the same 4 labels below 10 five times over"),
        ("fog", 3, {"labels": [10] * 20}, "does not hold the same 4 labels below 10"),
        ("fog", 3, {"labels": [0] * 4}, r"labels.npy holds uint8 \(4,\) instead of uint8 \(20,\)"),
        (
            "fog",
            3,
            {"fog": np.zeros((20, 3, 32, 32))},
            r"fog.npy holds uint8 \(20, 3, 32, 32\) instead of uint8 \(20, 32",
        ),
    ],
)
def test_official_files_that_cannot_be_meant(tmp_path, few, name, severity, changed, words):
    put_all(tmp_path, few | {k: np.array(v, dtype=np.uint8) for k, v in changed.items()})
    with pytest.raises(ValueError, match=words):
        official(name, severity=severity, root=tmp_path)


@pytest.mark.parametrize("part", ["fog", "labels"])
def test_an_official_file_that_is_not_there(tmp_path, few, part):
    (put_all(tmp_path, few) / f"{part}.npy").unlink()
    with pytest.raises(FileNotFoundError, match=f"{part}.npy is not there: `python -m artlib download cifar10_c`"):
        official("fog", severity=1, root=tmp_path)


def test_an_official_file_is_compared_with_its_md5(tmp_path, few, published):
    put_all(tmp_path, few)
    with pytest.raises(ValueError, match="fog.npy is not the published file .md5 .* instead of 7b397314"):
        official("fog", severity=1, root=tmp_path)


def test_the_download_is_checked_and_unpacked_once(tmp_path, few, monkeypatch, capsys):
    content = tar(tmp_path / "elsewhere.tar", {f"CIFAR-10-C/{n}.npy": npy(a) for n, a in few.items()}, "w").read_bytes()
    asked = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda r, **_: asked.append(r.full_url) or Response(content))
    with pytest.raises(OSError, match="CIFAR-10-C.tar from https://zenodo.org/.* failed .*nothing was kept"):
        download(tmp_path)  # the toy has another md5
    monkeypatch.setattr(files, "TAR", hashlib.md5(content).hexdigest())
    assert sorted(p.name for p in download(tmp_path).iterdir()) == sorted(f"{n}.npy" for n in few)
    assert torch.equal(official("snow", severity=2, root=tmp_path).images[:, 0, 0, 0], torch.arange(4, 8).byte())
    put(tmp_path / "CIFAR-10-C" / "fog.npy", b"mine")
    (tmp_path / "CIFAR-10-C" / "snow.npy").unlink()
    download(tmp_path)
    assert (tmp_path / "CIFAR-10-C" / "fog.npy").read_bytes() == b"mine" and len(asked) == 2
    assert torch.equal(official("snow", severity=2, root=tmp_path).images[:, 0, 0, 0], torch.arange(4, 8).byte())


def test_the_source_is_official_where_there_are_files(tmp_path, few, monkeypatch):
    monkeypatch.setattr(paths, "DATA", tmp_path)
    assert [source_of(name) for name in ("cifar10", "gtsrb")] == ["drawn", "drawn"]
    put_all(tmp_path, few)
    assert [source_of(name) for name in ("cifar10", "gtsrb")] == ["official", "drawn"]
