"""Maps that the tests of metrics share."""

import torch
from hypothesis import settings
from hypothesis import strategies as st

quick = settings(max_examples=40, derandomize=True, deadline=None, database=None)


@st.composite
def pairs(draw, largest=20):
    """Two batches of maps (2, H, W), with few to many ties, of any of the dtypes maps come in."""
    height, width, levels = draw(st.integers(1, largest)), draw(st.integers(1, largest)), draw(st.integers(1, 500))
    g = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    a, b, c = torch.randint(-levels, levels + 1, (3, 2, height, width), generator=g)
    b = draw(st.sampled_from([b, a + b // 3, -a, a * a, a // 5, c]))
    dtypes = st.sampled_from([torch.float64, torch.float32, torch.int64])
    return a.to(draw(dtypes)) / draw(st.sampled_from([1, 7])), b.to(draw(dtypes))


def random_maps(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def same(left, right):
    torch.testing.assert_close(left, torch.as_tensor(right, dtype=torch.float64), rtol=0, atol=1e-12, equal_nan=True)
