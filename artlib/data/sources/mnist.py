"""MNIST and Fashion-MNIST: idx files, packed or not."""

import gzip
import math
from pathlib import Path

import numpy as np
import torch

from artlib.data.archives import FileError, content, first, reading
from artlib.data.downloads import fetch
from artlib.data.raw import Raw


def mnist(root: Path, split: str) -> Raw:
    """MNIST; see `_read`."""
    return _read(root, split, "MNIST", tuple(str(digit) for digit in range(10)))


def fashion_mnist(root: Path, split: str) -> Raw:
    """Fashion-MNIST; see `_read`."""
    from torchvision.datasets import FashionMNIST

    return _read(root, split, "FashionMNIST", tuple(FashionMNIST.classes))


def _read(root: Path, split: str, dataset: str, classes: tuple[str, ...]) -> Raw:
    """The idx files in <dataset>/raw, packed (.gz, compared with their published md5) or not (nothing to compare)."""
    from torchvision import datasets

    kind, folder = getattr(datasets, dataset), root / dataset / "raw"
    names = {name: md5 for name, md5 in kind.resources if name.startswith("train" if split == "train" else "t10k")}
    paths = [
        first(folder, name.removesuffix(".gz"))
        or fetch(folder / name, *(mirror + name for mirror in kind.mirrors), md5=md5)
        for name, md5 in names.items()
    ]
    images, labels = (_idx(path, rank) for path, rank in zip(paths, (3, 1), strict=True))
    note = "" if all(path.suffix == ".gz" for path in paths) else f"{dataset} (unpacked copy)"
    return Raw(paths[0], images[:, None], labels.tolist(), classes, note=note)


def _idx(path: Path, rank: int) -> torch.Tensor:
    """The idx format: two zero bytes, 8 (uint8), the rank, big-endian sizes, then the values."""
    whole = content(path)
    if path.suffix == ".gz":
        with reading(path):
            whole = gzip.decompress(whole)
    start = 4 + 4 * rank
    shape = np.frombuffer(whole[4:start], dtype=">u4").tolist() if len(whole) >= start else []
    if whole[:4] != bytes([0, 0, 8, rank]) or not shape or len(whole) != start + math.prod(shape):
        raise FileError(f"{path} is not a whole idx file of bytes and rank {rank}: delete it and load again")
    return torch.from_numpy(np.frombuffer(whole, dtype=np.uint8, offset=start).reshape(shape).copy())
