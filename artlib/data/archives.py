"""File formats and addresses behind `artlib.data.load`: folders and archives are read in place, nothing is unpacked."""

import contextlib
import csv
import gzip
import hashlib
import http.client
import io
import lzma
import os
import re
import tarfile
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image

from artlib import paths

SPLITS = paths.ROOT / "data" / "splits"
CUB = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
FLOWERS = "https://www.robots.ox.ac.uk/~vgg/data/flowers/17/"
GTSRB = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
MD5 = {
    "CUB_200_2011.tgz": "97eceeb196236b17998738112f37df78",
    "17flowers.tgz": "b59a65d8d1a99cd66944d474e1289eab",
    "GTSRB_Final_Training_Images.zip": "f33fd80ac59bff73c82d25ab499e03a3",
    "GTSRB_Final_Test_Images.zip": "c7e4e6327067d32654124b0fe9e82185",
    "GTSRB_Final_Test_GT.zip": "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
}  # trimaps.tgz has no published checksum: the one of the first download is recorded beside it
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FLOWER_CLASSES = (
    *("daffodil", "snowdrop", "lily of the valley", "bluebell", "crocus", "iris", "tigerlily", "tulip", "fritillary"),
    *("sunflower", "daisy", "coltsfoot", "dandelion", "cowslip", "buttercup", "windflower", "pansy"),
)  # the official order: 80 consecutive images each
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError, SyntaxError)

File = Path | bytes  # an encoded image: on disk, or taken out of an archive


@dataclass(frozen=True, eq=False)
class Raw:
    """A split before limit and resizing: uint8 (N,C,H,W) or encoded files; boxes (N,4) xyxy in original pixels."""

    path: Path
    images: torch.Tensor | list[File]
    labels: list[int]
    classes: tuple[str, ...]
    boxes: torch.Tensor | None = None
    trimaps: list[File | None] | None = None
    note: str = ""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a truncated or foreign file makes a decoder raise into one ValueError that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        reason = " ".join(str(error).split())  # tarfile's has line breaks
        raise ValueError(f"{path} is damaged ({reason}): delete it and load again") from None


@contextlib.contextmanager
def opened(file: File, path: Path) -> Iterator[Image.Image]:
    """An encoded image, opened with PIL; `path` is what an error names for an image out of an archive."""
    on_disk = isinstance(file, Path)
    with reading(file if on_disk else path), Image.open(file if on_disk else io.BytesIO(file)) as image:
        yield image


def fetch(path: Path, *urls: str, md5: str | None = None) -> Path:
    """Return `path`, downloading it if it is missing; it appears under its name only when it is whole and checked."""
    record = path.with_name(path.name + ".sha256")
    if path.exists():
        if record.exists() and record.read_text().strip() != _digest(path, "sha256"):
            raise ValueError(f"{path} is not what {record.name} recorded: delete both and load again")
        return path
    for url in urls:
        try:
            response = urllib.request.urlopen(urllib.request.Request(url, headers={"User-Agent": "artlib"}), timeout=30)
        except (OSError, http.client.HTTPException) as error:
            reason = error
            continue
        with response:
            _save(response, path, url, md5)
        if md5 is None:
            record.write_text(_digest(path, "sha256") + "\n")
        return path
    raise FileNotFoundError(
        f"{path.name} is not in {path.parent} and {urls[0]} cannot be reached ({reason}): "
        "put the file there, or name the folder that holds your data sets in ARTLIB_DATA"
    )


def _save(response, path: Path, url: str, md5: str | None) -> None:
    from tqdm import tqdm

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)
    except OSError as error:
        raise PermissionError(
            f"cannot write {path.name} to {path.parent} ({error.strerror}): name a writable folder in ARTLIB_DATA"
        ) from None
    try:
        total = int(response.headers.get("Content-Length") or 0)
        with part, tqdm(total=total or None, unit="B", unit_scale=True, desc=path.name) as bar:
            while chunk := response.read(1 << 18):
                part.write(chunk)
                bar.update(len(chunk))
            size = part.tell()
        got = _digest(Path(part.name), "md5")
        if (total and size != total) or (md5 and got != md5):
            raise OSError(f"{size:,} of {total:,} bytes, md5 {got}" + (f" instead of {md5}" if md5 else ""))
        os.chmod(part.name, 0o644)  # temporary files are private
        os.replace(part.name, path)
    except OSError as error:
        raise OSError(
            f"the download of {path.name} from {url} failed ({error}): nothing was kept, load again"
        ) from None
    finally:
        Path(part.name).unlink(missing_ok=True)


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def members(path: Path, pattern: str) -> dict[str, File]:
    """Files of a folder, tar or zip whose posix name matches `pattern` (re.search), sorted by name.

    Archives are read, never unpacked; a member that points outside the archive's folder raises ValueError.
    """
    found: dict[str, File] = {}
    if path.is_dir():
        walk = os.walk(path, followlinks=True)  # class folders are often links
        files = (Path(folder, name) for folder, _, names in walk for name in names)
        found = {name: file for file in files if re.search(pattern, name := file.relative_to(path).as_posix())}
    elif path.suffix == ".zip":
        with reading(path), zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if re.search(pattern, _inside(name, path)):
                    found[name] = archive.read(name)
    else:
        with reading(path), tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and re.search(pattern, _inside(member.name, path)):
                    found[member.name] = archive.extractfile(member).read()
    return dict(sorted(found.items()))


def _inside(name: str, path: Path) -> str:
    if name.startswith("/") or ".." in PurePosixPath(name.replace("\\", "/")).parts:
        raise ValueError(f"{path} holds {name!r}, which points outside its folder: do not use this archive")
    return name


def _text(file: File) -> str:
    return (file if isinstance(file, bytes) else file.read_bytes()).decode("utf-8-sig")


def _first(root: Path, *names: str) -> Path | None:
    return next((root / name for name in names if (root / name).exists()), None)


def _some(found: dict, path: Path, what: str) -> dict:
    if not found:
        raise ValueError(f"{path} holds no {what}: delete it and load again, or put the expected files there")
    return found


def cifar10(root: Path, split: str) -> Raw:
    """CIFAR-10 from the official python batches (folder or tar.gz), or cifar10_jpeg.tar.gz: <split>/<class>/*.jpg."""
    from torchvision.datasets import CIFAR10

    path = _first(root, CIFAR10.base_folder, CIFAR10.filename, "cifar10_jpeg.tar.gz")
    if path and path.name == "cifar10_jpeg.tar.gz":
        files = _some(members(path, rf"^{split}/[^/]+/[^/]+\.jpg$"), path, f"{split}/<class>/*.jpg")
        labels = [CIFAR_CLASSES.index(name.split("/")[1]) for name in files]
        return Raw(path, list(files.values()), labels, CIFAR_CLASSES, note="CIFAR-10 (JPEG copy)")
    path = path or fetch(root / CIFAR10.filename, CIFAR10.url, md5=CIFAR10.tgz_md5)
    batches = CIFAR10.train_list if split == "train" else CIFAR10.test_list
    found = {name.split("/")[-1]: file for name, file in members(path, r"(^|/)(data|test)_batch").items()}
    images, labels = [], []
    for name, md5 in batches:
        pixels, classes = _cifar_batch(path, name, found.get(name, b""), md5)
        images.append(pixels)
        labels += classes
    return Raw(path, torch.from_numpy(np.concatenate(images)), labels, CIFAR_CLASSES)


def _cifar_batch(path: Path, name: str, file: File, md5: str) -> tuple[np.ndarray, list[int]]:
    import pickle

    content = file if isinstance(file, bytes) else file.read_bytes()
    if hashlib.md5(content).hexdigest() != md5:  # unpickling runs code: only the published bytes may
        raise ValueError(f"{name} in {path} is not the published file: delete {path} and load again")
    batch = pickle.loads(content, encoding="latin1")
    return batch["data"].reshape(-1, 3, 32, 32), list(batch["labels"])


def mnist(root: Path, split: str, *, dataset: str = "MNIST") -> Raw:
    """MNIST or FashionMNIST from the idx files in <dataset>/raw, packed (.gz) or not."""
    from torchvision import datasets

    kind = getattr(datasets, dataset)
    arrays = []
    for name, md5 in kind.resources:
        if name.startswith("train" if split == "train" else "t10k"):
            raw = root / dataset / "raw"
            path = _first(raw, name.removesuffix(".gz"))
            path = path or fetch(raw / name, *(mirror + name for mirror in kind.mirrors), md5=md5)
            arrays.append(_idx(path))
    images, labels = arrays
    classes = tuple(kind.classes) if dataset != "MNIST" else tuple(str(digit) for digit in range(10))
    return Raw(path, images[:, None], labels.tolist(), classes)


def fashion_mnist(root: Path, split: str) -> Raw:
    """FashionMNIST; see `mnist`."""
    return mnist(root, split, dataset="FashionMNIST")


def _idx(path: Path) -> torch.Tensor:
    """The idx format: two zero bytes, 8 (uint8), the rank, big-endian sizes, then the values."""
    with reading(path):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rank = content[3] if content[:3] == b"\0\0\x08" else 0
    shape = np.frombuffer(content[4 : 4 + 4 * rank], dtype=">u4").astype(int).tolist()
    if not rank or len(content) != 4 + 4 * rank + int(np.prod(shape)):
        raise ValueError(f"{path} is not a whole idx file of bytes: delete it and load again")
    return torch.from_numpy(np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank).reshape(shape).copy())


def svhn(root: Path, split: str) -> Raw:
    """SVHN cropped digits from <split>_32x32.mat: X (32,32,3,N), y in 1..10 where 10 is the digit 0."""
    import scipy.io
    from torchvision.datasets import SVHN

    url, name, md5 = SVHN.split_list[split]
    path = fetch(root / name, url, md5=md5)
    try:
        mat = scipy.io.loadmat(path)
        images, labels = mat["X"].transpose(3, 2, 0, 1), mat["y"].astype(np.int64).ravel() % 10
    except Exception as error:  # scipy raises a dozen kinds for a truncated file
        raise ValueError(f"{path} is damaged ({error}): delete it and load again") from None
    return Raw(path, torch.from_numpy(images.copy()), labels.tolist(), tuple(str(digit) for digit in range(10)))


def gtsrb(root: Path, split: str) -> Raw:
    """GTSRB whole images (no crop to the Roi) from the official zip files, their folders, or 32x32 copies in tar.xz.

    Training files are <class>/<track>_<frame>.ppm. Of each class every tenth track, from track 0 on, is "valid" and
    the others are "train": a track's frames stay together, and the official 39,209 images give the paper's 34,799 and
    4,410 (App. A.3.3).
    """
    folder, kind = root / "gtsrb", "Test" if split == "test" else "Training"
    archive = f"GTSRB_Final_{kind}_Images.zip"
    copies = sorted(path.name for path in folder.glob(f"GTSRB_Final_{kind}_Images_32x32*.tar.xz"))
    path = _first(folder, f"GTSRB/Final_{kind}/Images", archive, *copies, f"GTSRB/{kind}")
    path = path or fetch(folder / archive, GTSRB + archive, md5=MD5[archive])
    if split == "test":
        pairs = _gtsrb_test(folder, path)
    else:
        files = _some(members(path, r"(^|/)\d{5}/\d{5}_\d{5}\.ppm$"), path, "<class>/<track>_<frame>.ppm")
        keys = {name: PurePosixPath(name) for name in files}
        names = [name for name, key in keys.items() if (int(key.name[:5]) % 10 == 0) == (split == "valid")]
        pairs = [(files[name], int(keys[name].parent.name)) for name in names]
    images, labels = zip(*pairs, strict=True)
    note = "GTSRB (32x32 copy)" if path.name in copies else ""
    return Raw(path, list(images), list(labels), tuple(map(str, range(43))), note=note)


def _gtsrb_test(folder: Path, path: Path) -> list[tuple[File, int]]:
    """Test images with their classes, which are in a file of their own (beside the images in a 32x32 copy)."""
    files = {name.split("/")[-1]: file for name, file in members(path, r"(^|/)\d{5}\.ppm$").items()}
    truth = _first(folder, "GT-final_test.csv", "GTSRB/Final_Test/GT-final_test.csv")
    if truth is None and path.suffix == ".xz":
        truth = path
    name = "GTSRB_Final_Test_GT.zip"
    truth = truth or fetch(folder / name, GTSRB + name, md5=MD5[name])
    tables = [truth] if truth.suffix == ".csv" else list(members(truth, r"(^|/)GT-final_test\.csv$").values())
    rows = [row for table in tables for row in csv.DictReader(io.StringIO(_text(table)), delimiter=";")]
    labels = {row.get("Filename"): int(row["ClassId"]) for row in rows if row.get("ClassId")}
    if not files or labels.keys() != files.keys():
        raise ValueError(f"{path} and {truth} do not list the same images: delete both and load again")
    return [(files[name], labels[name]) for name in files]


def flower17(root: Path, split: str) -> Raw:
    """Oxford Flower17 from flower17/jpg (or 17flowers.tgz) and its trimaps; label = (image number - 1) // 80.

    The paper's split (72 + 8 images a class) is not published; data/splits/flower17_test.txt is ours.
    """
    folder = root / "flower17"
    path = _first(folder, "jpg") or fetch(folder / "17flowers.tgz", FLOWERS + "17flowers.tgz", md5=MD5["17flowers.tgz"])
    maps = _first(folder, "trimaps", "trimaps_256") or fetch(folder / "trimaps.tgz", FLOWERS + "trimaps.tgz")
    test = set((SPLITS / "flower17_test.txt").read_text().split())
    trimaps = {PurePosixPath(name).stem: file for name, file in members(maps, r"image_\d{4}\.png$").items()}
    files = {PurePosixPath(name).stem: file for name, file in members(path, r"image_\d{4}\.jpg$").items()}
    names = list(_some({name: 0 for name in files if (name in test) == (split == "test")}, path, "image_*.jpg"))
    return Raw(
        path,
        [files[name] for name in names],
        [(int(name[-4:]) - 1) // 80 for name in names],
        FLOWER_CLASSES,
        trimaps=[trimaps.get(name) for name in names],
        note="Flower17 (resized JPEG copy)" if maps.name == "trimaps_256" else "",
    )


def cub200(root: Path, split: str) -> Raw:
    """CUB-200-2011 with its boxes and official split, from the folder CUB_200_2011 or the official tgz."""
    path = _first(root, "CUB_200_2011") or fetch(root / "CUB_200_2011.tgz", CUB, md5=MD5["CUB_200_2011.tgz"])
    lists = r"(^|/)(images|image_class_labels|bounding_boxes|train_test_split|classes)\.txt$"
    lists = {PurePosixPath(name).stem: _text(file) for name, file in members(path, lists).items()}
    images, labels, boxes, train, classes = (
        dict(line.split(maxsplit=1) for line in lists.get(name, "").splitlines() if " " in line.strip())
        for name in ("images", "image_class_labels", "bounding_boxes", "train_test_split", "classes")
    )
    whole = all(labels.get(key) in classes and len(boxes.get(key, "").split()) == 4 and key in train for key in images)
    if not images or not whole:
        raise ValueError(f"the lists in {path} are cut or do not belong together: delete it and load again")
    ids = [key for key in images if (train[key] == "1") == (split == "train")]
    files = {"/".join(name.split("/")[-2:]): file for name, file in members(path, r"(^|/)images/.*\.jpg$").items()}
    if missing := {images[key] for key in ids} - files.keys():
        raise FileNotFoundError(f"{len(missing)} images of images.txt are missing in {path}, {min(missing)} among them")
    order = {key: index for index, key in enumerate(classes)}
    xywh = torch.tensor([[float(value) for value in boxes[key].split()] for key in ids])
    return Raw(
        path,
        [files[images[key]] for key in ids],
        [order[labels[key]] for key in ids],
        tuple(name.split(".", 1)[-1].replace("_", " ") for name in classes.values()),
        boxes=torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1),
        note="" if len(classes) == 200 else f"CUB-200-2011 ({len(classes)} of 200 classes)",
    )


def folder(path: Path, split: str) -> Raw:
    """Images by class: path/train/<class>/* and path/test/<class>/*, or path/<class>/* with every fifth file as test.

    Without the two folders a file is "test" if sha256("<class>/<file name>") is divisible by 5: adding or removing
    other files never moves it.
    """
    if not path.is_dir():
        raise FileNotFoundError(
            f"there is no folder {path}: give folder:PATH with PATH/<class>/* or PATH/train/<class>/*"
        )
    given = (path / "train").is_dir() or (path / "test").is_dir()
    files = {
        name: file
        for name, file in members(path, r"^[^.][^/]*(/[^./][^/]*)+$").items()
        if file.suffix.lower() in SUFFIXES
    }
    keys = {
        name: name.split("/")[1:] if given and name.startswith(("train/", "test/")) else name.split("/")
        for name in files
    }
    if given:
        names = [name for name in files if name.startswith(split + "/") and len(keys[name]) > 1]
        classes = sorted({key[0] for name, key in keys.items() if name.startswith("train/") and len(key) > 1})
    else:
        stable = {name: int(hashlib.sha256(name.encode()).hexdigest(), 16) % 5 == 0 for name in files}
        names = [name for name in files if stable[name] == (split == "test")]
        classes = sorted({key[0] for key in keys.values()})
    if not names:
        raise FileNotFoundError(f"{path} holds no {split} images ({', '.join(SUFFIXES)}) in folders named by class")
    if unknown := {keys[name][0] for name in names} - set(classes):
        raise ValueError(f"{path}/{split} has classes that {path}/train has not: {', '.join(sorted(unknown))}")
    return Raw(path, [files[name] for name in names], [classes.index(keys[name][0]) for name in names], tuple(classes))
