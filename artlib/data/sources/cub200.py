"""CUB-200-2011, birds with bounding boxes."""

from pathlib import Path, PurePosixPath

import torch

from artlib.data.archives import FileError, first, members, reading, text
from artlib.data.downloads import fetch
from artlib.data.raw import Raw

URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
MD5 = "97eceeb196236b17998738112f37df78"
LISTS = ("images", "image_class_labels", "bounding_boxes", "train_test_split", "classes")


def cub200(root: Path, split: str) -> Raw:
    """CUB-200-2011 with its boxes and official split, from the folder CUB_200_2011 or the official tgz."""
    path = first(root, "CUB_200_2011") or fetch(root / "CUB_200_2011.tgz", URL, md5=MD5)
    found = members(path, rf"(^|/)(({'|'.join(LISTS)})\.txt|images/.*\.jpg)$")
    files = {"/".join(name.split("/")[-2:]): file for name, file in found.items() if name.endswith(".jpg")}
    images, labels, boxes, train, classes = _lists(path, found)
    ids = [key for key in images if (train[key] == "1") == (split == "train")]
    if missing := {images[key] for key in ids} - files.keys():
        raise FileNotFoundError(f"{len(missing)} images of images.txt are missing in {path}, {min(missing)} among them")
    order = {key: index for index, key in enumerate(classes)}
    with reading(path / "bounding_boxes.txt"):
        xywh = torch.tensor([[float(value) for value in boxes[key].split()] for key in ids]).view(-1, 4)
    return Raw(
        path,
        [files[images[key]] for key in ids],
        [order[labels[key]] for key in ids],
        tuple(name.split(".", 1)[-1].replace("_", " ") for name in classes.values()),
        boxes=torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1),
        note="" if len(classes) == 200 else f"CUB-200-2011 ({len(classes)} of 200 classes)",
    )


def _lists(path: Path, found: dict) -> list[dict[str, str]]:
    """The official lists, each as image number (or class number) -> the rest of the line."""
    texts = {PurePosixPath(name).stem: text(file, path) for name, file in found.items() if name.endswith(".txt")}
    images, labels, boxes, train, classes = lists = [
        dict(line.split(maxsplit=1) for line in texts.get(name, "").splitlines() if len(line.split()) > 1)
        for name in LISTS
    ]
    whole = all(
        labels.get(key) in classes and len(boxes.get(key, "").split()) == 4 and train.get(key) in ("0", "1")
        for key in images
    )
    if not images or not whole:
        raise FileError(f"the lists in {path} are cut or do not belong together: delete it and load again")
    return lists
