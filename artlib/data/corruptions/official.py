"""The released CIFAR-10-C: read where its files are in the data folder, downloaded where that is asked for."""

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from artlib import paths
from artlib.data import downloads
from artlib.data.images import ImageSet
from artlib.data.sources.cifar10 import CLASSES

FOLDER, IMAGES = "CIFAR-10-C", 10_000  # test images, five times over in each file: severity 1 first
URL = "https://zenodo.org/records/2535967/files/CIFAR-10-C.tar"
TAR = "56bf5dcef84df0e2308c6dcbcbbd8499"  # md5, of 2,918,471,680 bytes, as Zenodo lists it
MD5 = {  # of the files in it, as in torch-uncertainty's cifar_c.py
    "brightness": "0a81ef75e0b523c3383219c330a85d48",
    "contrast": "3c8262171c51307f916c30a3308235a8",
    "defocus_blur": "7d1322666342a0702b1957e92f6254bc",
    "elastic_transform": "9421657c6cd452429cf6ce96cc412b5f",
    "fog": "7b397314b5670f825465fbcd1f6e9ccd",
    "frost": "31f6ab3bce1d9934abfb0cc13656f141",
    "gaussian_blur": "c33370155bc9b055fb4a89113d3c559d",
    "gaussian_noise": "ecaf8b9a2399ffeda7680934c33405fd",
    "glass_blur": "7361fb4019269e02dbf6925f083e8629",
    "impulse_noise": "2090e01c83519ec51427e65116af6b1a",
    "jpeg_compression": "2b9cc4c864e0193bb64db8d7728f8187",
    "labels": "c439b113295ed5254878798ffe28fd54",
    "motion_blur": "fffa5f852ff7ad299cfe8a7643f090f4",
    "pixelate": "0f14f7e2db14288304e1de10df16832f",
    "saturate": "1cfae0964219c5102abbb883e538cc56",
    "shot_noise": "3a7239bb118894f013d9bf1984be7f11",
    "snow": "bb238de8555123da9c282dea23bd6e55",
    "spatter": "8a5a3903a7f8f65b59501a6093b4311e",
    "speckle_noise": "ef00b87611792b00df09c0b0237a1e30",
    "zoom_blur": "6ea8e63f1c5cdee1517533840641641b",
}


def official(name: str, *, severity: int, index: Tensor | None = None, root: Path | str | None = None) -> ImageSet:
    """Test images under one corruption of the released CIFAR-10-C, from <root>/CIFAR-10-C/<name>.npy.

    index: their places (n,) in the official test set, whose order the files have, with labels of their own; all 10,000
    by default. `root` is `paths.DATA` by default; nothing is downloaded here, see `download`. Raises FileNotFoundError
    where a file is not there, ValueError for another name or severity and for a file that is not the published one.
    """
    if severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"severity is {severity!r}; it must be 1, 2, 3, 4 or 5")
    if name not in MD5 or name == "labels":
        raise ValueError(f"CIFAR-10-C has no {name!r}; it has {', '.join(n for n in MD5 if n != 'labels')}")
    folder = Path(root or paths.DATA) / FOLDER
    images, labels = _read(folder, name, (32, 32, 3)), _read(folder, "labels", ()).reshape(5, IMAGES)
    if (labels != labels[0]).any() or labels.min() < 0 or labels.max() >= len(CLASSES):
        raise ValueError(f"{folder / 'labels.npy'} does not hold the same {IMAGES} labels below 10 five times over")
    places = np.arange(IMAGES) if index is None else index.cpu().numpy()
    pixels = torch.from_numpy(np.ascontiguousarray(images[(severity - 1) * IMAGES + places].transpose(0, 3, 1, 2)))
    labels = torch.from_numpy(labels[0][places].astype(np.int64))
    note = f"CIFAR-10-C, {name}, severity {severity}"
    return ImageSet(pixels, labels, CLASSES, name="cifar10", split="test", note=note)


def _read(folder: Path, part: str, shape: tuple[int, ...]) -> np.ndarray:
    path, expected = folder / f"{part}.npy", (5 * IMAGES, *shape)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: `python -m artlib download cifar10_c` fetches the released CIFAR-10-C; without the "
            f"folder {folder} the corruptions are drawn"
        )
    downloads.compare(path, MD5[part])
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if found.dtype.kind not in "iu" or (shape and found.dtype != np.uint8) or found.shape != expected:
        raise ValueError(
            f"{path} holds {found.dtype} {found.shape} instead of uint8 {expected}: put the published file there"
        )
    return found


def download(root: Path | str | None = None) -> Path:
    """The folder <root>/CIFAR-10-C with every published file in it; what is missing comes from the tar beside it.

    CIFAR-10-C.tar (2.9 GB) is fetched if it is not there, compared with its md5, and stays. A file appears under its
    name only when it is whole. Raises as `downloads.fetch` does.
    """
    root = Path(root or paths.DATA)
    folder = root / FOLDER
    missing = [part for part in MD5 if not (folder / f"{part}.npy").exists()]
    if not missing:
        return folder
    tar = downloads.fetch(root / f"{FOLDER}.tar", URL, md5=TAR)
    folder.mkdir(exist_ok=True)
    with tarfile.open(tar) as archive:
        for part in missing:
            unfinished = folder / f".{part}.npy.{os.getpid()}"
            with archive.extractfile(f"{FOLDER}/{part}.npy") as packed, open(unfinished, "wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
            os.replace(unfinished, folder / f"{part}.npy")
    return folder
