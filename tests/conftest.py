"""What every test shares: one thread, no window, the same hypothesis examples each time, a seeded generator."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")  # before matplotlib is imported

import hypothesis
import pytest
import torch

torch.set_num_threads(1)  # sums in one fixed order
hypothesis.settings.register_profile("artlib", derandomize=True, deadline=None, database=None, max_examples=50)
hypothesis.settings.load_profile("artlib")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
