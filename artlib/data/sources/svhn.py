"""SVHN, the cropped house numbers."""

from pathlib import Path

import numpy as np
import torch

from artlib.data.archives import FileError, reading
from artlib.data.downloads import fetch
from artlib.data.raw import Raw


def svhn(root: Path, split: str) -> Raw:
    """SVHN cropped digits from <split>_32x32.mat: X (32,32,3,N), y in 1..10 where 10 is the digit 0."""
    import scipy.io
    from torchvision.datasets import SVHN

    url, name, md5 = SVHN.split_list[split]
    path = fetch(root / name, url, md5=md5)
    with reading(path):
        mat = scipy.io.loadmat(path, variable_names=("X", "y"))
        images, labels = mat["X"], mat["y"].ravel()
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != 3 or labels.dtype.kind not in "iuf":
        raise FileError(
            f"{path} holds X {images.dtype} {images.shape} and y {labels.dtype}, not images uint8 (32, 32, 3, n) and "
            "numbers: delete it and load again"
        )
    if not np.isin(labels, np.arange(1, 11)).all():
        wrong = labels[~np.isin(labels, np.arange(1, 11))][0]
        raise FileError(f"{path} holds the label {wrong}, but labels are 1 to 10: delete it and load again")
    pixels = torch.from_numpy(images.transpose(3, 2, 0, 1).copy())
    return Raw(path, pixels, (labels.astype(np.int64) % 10).tolist(), tuple(str(digit) for digit in range(10)))
