"""Alignment of image and input gradient, on a linear classifier whose gradient is its weights."""

import pytest
import torch
from torch import nn

from artlib.data import ImageSet
from artlib.measurements.alignment import Alignment

F64 = torch.float64


def images(n: int = 5) -> ImageSet:
    pixels = torch.randint(1, 256, (n, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return ImageSet(pixels, torch.arange(n) % 2, ("a", "b"), name="toy", split="test")


def linear(weights: torch.Tensor) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2, bias=False)).double()
    net[1].weight.data = weights
    return net.eval()


def test_alignment_is_the_cosine_with_the_weights_of_the_class():
    weights = torch.randn(2, 48, dtype=F64, generator=torch.Generator().manual_seed(1))
    some, model = images(), linear(weights)
    x = some.images.double().flatten(1) / 255
    for target, y in (("label", some.labels), ("prediction", (x @ weights.T).argmax(1))):
        found = Alignment(target=target)(model, some, progress=False)
        assert sorted(found["index"].tolist()) == list(range(5))
        expected = torch.cosine_similarity(x, weights[y], dim=1)[found["index"]]
        torch.testing.assert_close(found["alignment"], expected, rtol=1e-10, atol=1e-12)


def test_a_gradient_that_is_the_image_is_aligned_and_one_that_is_zero_or_nan_has_no_alignment():
    some = images(1)
    x = some.images.double().flatten() / 255
    for weight, expected in ((x, 1.0), (-3 * x, -1.0)):
        found = Alignment()(linear(torch.stack([weight, 0 * x])), some, progress=False)["alignment"]
        assert found.tolist() == pytest.approx([expected], abs=1e-12)
    for weight in (0 * x, torch.nan * x):
        found = Alignment()(linear(torch.stack([weight, x])), some, progress=False)["alignment"]
        assert found.isnan().all()
