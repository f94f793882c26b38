"""CIFAR-10: the official batches, a copy as JPEG files, and 200 test images with their official pixels."""

import hashlib
import io
import pickle
from pathlib import Path

import numpy as np
import torch

from artlib.data.archives import File, FileError, content, first, members, reading, some
from artlib.data.downloads import fetch, missing
from artlib.data.raw import Raw

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COPY = "cifar10_jpeg.tar.gz"


def cifar10(root: Path, split: str) -> Raw:
    """CIFAR-10 from the official python batches (folder or tar.gz), or cifar10_jpeg.tar.gz: <split>/<class>/*.jpg."""
    from torchvision.datasets import CIFAR10

    path = first(root, CIFAR10.base_folder, CIFAR10.filename, COPY)
    if path and path.name == COPY:
        return _jpeg(path, split)
    if path is None or path.name == CIFAR10.filename:
        path = fetch(root / CIFAR10.filename, CIFAR10.url, md5=CIFAR10.tgz_md5)
    batches = CIFAR10.train_list if split == "train" else CIFAR10.test_list
    found = {name.split("/")[-1]: file for name, file in members(path, r"(^|/)(data|test)_batch").items()}
    images, labels = [], []
    for name, md5 in batches:
        pixels, classes = _batch(path, name, found.get(name, b""), md5)
        images.append(pixels)
        labels += classes
    return Raw(path, torch.from_numpy(np.concatenate(images)), labels, CLASSES)


def _batch(path: Path, name: str, file: File, md5: str) -> tuple[np.ndarray, list[int]]:
    pickled = content(file)
    if hashlib.md5(pickled).hexdigest() != md5:  # unpickling runs code: only the published bytes may
        raise FileError(f"{name} in {path} is not the published file: delete {path} and load again")
    batch = pickle.loads(pickled, encoding="latin1")
    return batch["data"].reshape(-1, 3, 32, 32), list(batch["labels"])


def _jpeg(path: Path, split: str) -> Raw:
    files = some(members(path, rf"^{split}/[^/]+/[^/]+\.jpg$"), path, f"{split}/<class>/*.jpg")
    names = [name.split("/")[1] for name in files]
    if unknown := set(names) - set(CLASSES):
        raise FileError(f"{path} holds images of {min(unknown)!r}, which is no class of CIFAR-10: {', '.join(CLASSES)}")
    return Raw(path, list(files.values()), [CLASSES.index(n) for n in names], CLASSES, note="CIFAR-10 (JPEG copy)")


def official_200(root: Path, split: str) -> Raw:
    """200 test images with their official pixels: arrays `images` uint8 (200,32,32,3) and `labels` of an npz file."""
    path = first(root / "cifar10_official_200", "cifar10_test_200.npz")
    if path is None:
        path = root / "cifar10_official_200" / "cifar10_test_200.npz"
        raise missing(path, "it is not to be had by download (the official set is: cifar10)")
    files = members(path, r"^(images|labels)\.npy$")
    with reading(path):
        images, labels = (
            np.load(io.BytesIO(files[f"{name}.npy"]), allow_pickle=False) for name in ("images", "labels")
        )
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3) or labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise FileError(
            f"{path} holds images {images.dtype} {images.shape} and labels {labels.dtype} {labels.shape} instead of "
            "uint8 (n, 32, 32, 3) and integers (n,): put the right file there"
        )
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return Raw(path, pixels, labels.tolist(), CLASSES, note=f"CIFAR-10 ({len(images)} official test images)")
