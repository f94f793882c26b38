"""Augmentation by its properties."""

import pytest
import torch
import torch.nn.functional as F

from artlib.data import AUGMENT, Augment
from artlib.data.augment import _homography_grid, _jitter

EACH = [
    Augment(crop=3),
    Augment(flip=True),
    Augment(jitter=0.5),
    Augment(rotation=40),
    Augment(translate=4),
    Augment(project=0.8),
    *dict.fromkeys(recipe for recipe in AUGMENT.values() if recipe != Augment() and not recipe.window),
]


@pytest.fixture
def x(generator):
    image = torch.rand(1, 3, 12, 10, generator=generator, dtype=torch.float64)
    return image.repeat(32, 1, 1, 1)  # the same image, so that only the transforms differ


@pytest.mark.parametrize("augment", EACH, ids=str)
def test_augment_draws_per_image_in_range_and_reproducibly(augment, x, generator):
    seeds = [torch.Generator().manual_seed(s) for s in (3, 3)]
    out, again = (augment(x, generator=seed) for seed in seeds)
    assert out.shape == x.shape and out.dtype == x.dtype and torch.equal(out, again)
    assert out.min() >= 0 and out.max() <= 1
    discrete = {Augment(flip=True): 2, Augment(crop=3): 20, AUGMENT["blossoms"]: 20, AUGMENT["cub200"]: 2}
    assert len({image.numpy().tobytes() for image in out}) >= discrete.get(augment, len(x))


def test_augment_of_nothing_is_the_identity(x, generator):
    assert torch.equal(Augment()(x, generator=generator), x)


@pytest.mark.parametrize("augment", [Augment(rotation=1e-9), Augment(translate=1e-9), Augment(project=1e-9)])
def test_tiny_warp_changes_nothing(augment, x, generator):
    torch.testing.assert_close(augment(x, generator=generator), x, rtol=0, atol=1e-7)


def test_flip_is_exact(x, generator):
    turned = [torch.equal(out, x[0].flip(2)) for out in Augment(flip=True)(x, generator=generator)]
    kept = [torch.equal(out, x[0]) for out in Augment(flip=True)(x, generator=generator)]
    assert 4 < sum(turned) < 28 and 4 < sum(kept) < 28
    outs = Augment(flip=True)(x, generator=generator)
    assert all(torch.equal(out, x[0]) or torch.equal(out, x[0].flip(2)) for out in outs)


def test_crop_is_a_window_of_the_zero_padded_image(x, generator):
    padded = F.pad(x[0], [2] * 4)
    windows = [padded[:, i : i + 12, j : j + 10] for i in range(5) for j in range(5)]
    hits = {
        next(k for k, w in enumerate(windows) if torch.equal(w, out)) for out in Augment(crop=2)(x, generator=generator)
    }
    assert len(hits) > 10


def test_a_window_is_one_of_the_image_and_every_place_is_drawn(x, generator):
    windows = [x[0][:, i : i + 9, j : j + 9] for i in range(4) for j in range(2)]
    out = Augment(window=9)(x.repeat(4, 1, 1, 1), generator=generator)
    assert out.shape == (128, 3, 9, 9)
    assert {next(k for k, w in enumerate(windows) if torch.equal(w, each)) for each in out} == set(range(8))
    assert torch.equal(Augment(window=10)(x[:, :, :10], generator=generator), x[:, :, :10])
    with pytest.raises(ValueError, match=r"a window of 11 pixels is not inside images of \(12, 10\)"):
        Augment(window=11)(x, generator=generator)


def test_cub_is_trained_on_windows_of_224(generator):
    out = AUGMENT["cub200-224"](torch.zeros(2, 3, 256, 256), generator=generator)
    assert out.shape == (2, 3, 224, 224)


def warp(corners, image):
    """Sample `image` (C,H,W) where the grid's corners go to `corners` (4,2)."""
    square = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)
    grid = _homography_grid(square, corners[None], *image.shape[1:])
    return grid, F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]


def test_homography_of_turned_corners_is_a_quarter_turn():
    image = torch.rand(3, 8, 8, dtype=torch.float64)
    _, out = warp(torch.tensor([[1, -1], [1, 1], [-1, 1], [-1, -1]], dtype=torch.float64), image)
    torch.testing.assert_close(out, image.rot90(1, (1, 2)))


def test_homography_meets_the_affine_grid_and_its_own_corners(generator):
    theta = torch.tensor([[[0.8, -0.3, 0.1], [0.2, 1.1, -0.2]]], dtype=torch.float64)
    square = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)
    grid, _ = warp(square @ theta[0, :, :2].T + theta[0, :, 2], torch.zeros(1, 6, 9, dtype=torch.float64))
    torch.testing.assert_close(grid, F.affine_grid(theta, (1, 1, 6, 9), align_corners=False))
    target = square + 0.4 * torch.rand(4, 2, generator=generator, dtype=torch.float64)
    grid, _ = warp(target, torch.zeros(1, 2001, 2001, dtype=torch.float64))
    reached = torch.stack([grid[0, 0, 0], grid[0, 0, -1], grid[0, -1, -1], grid[0, -1, 0]])
    torch.testing.assert_close(reached, target, rtol=0, atol=2e-3)  # pixel centres lie half a pixel inside the corners


def test_translation_moves_by_at_most_its_pixels(generator):
    ramp = torch.arange(32, dtype=torch.float64).expand(64, 1, 32, 32) / 31
    moved = (Augment(translate=3)(ramp, generator=generator) - ramp)[:, 0, 16, 16] * 31
    assert 2.5 < moved.abs().max() <= 3 + 1e-9 and moved.min() < -1 and moved.max() > 1


def test_rotation_keeps_the_centre_and_turns_no_further_than_asked(generator):
    dot = torch.zeros(64, 1, 33, 33, dtype=torch.float64)
    dot[:, :, 16, 28] = 1  # 12 pixels right of the centre
    out = Augment(rotation=30)(dot, generator=generator)[:, 0]
    grid = torch.arange(33, dtype=torch.float64) - 16
    mass = out.sum((1, 2))
    angle = torch.rad2deg(torch.atan2((out.sum(2) @ grid) / mass, (out.sum(1) @ grid) / mass))
    assert 25 < angle.abs().max() < 31 and angle.min() < -10 and angle.max() > 10


def test_jitter_factors_by_hand():
    x = (
        torch.tensor([[0.2, 0.4], [0.6, 0.1]], dtype=torch.float64).expand(1, 3, 2, 2)
        * torch.tensor([1, 0.5, 0.2])[:, None, None]
    )
    one = torch.ones(3, 1, dtype=torch.float64)
    torch.testing.assert_close(_jitter(x, one), x)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    grey = torch.einsum("c,nchw->nhw", weights, x)
    for row, blend in enumerate((torch.zeros(()), grey.mean(), grey)):
        factors = one.clone()
        factors[row] = 0.75
        torch.testing.assert_close(_jitter(x, factors), 0.75 * x + 0.25 * blend)


def test_augment_keeps_grey_grey_and_refuses_negative(generator):
    grey = torch.rand(4, 1, 8, 8, generator=generator).repeat(1, 3, 1, 1)
    out = AUGMENT["cifar10"](grey, generator=generator)
    torch.testing.assert_close(out[:, 0], out[:, 2])
    with pytest.raises(ValueError, match="rotation must be finite and not negative, not -1"):
        Augment(rotation=-1)


@pytest.mark.gpu
@pytest.mark.parametrize("augment", EACH, ids=str)
def test_augment_is_the_same_on_the_gpu(augment, x):
    here, there = (augment(part, generator=torch.Generator().manual_seed(3)) for part in (x, x.cuda()))
    torch.testing.assert_close(here, there.cpu())
