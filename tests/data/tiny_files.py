"""Tiny files in the official formats, written here."""

import io
import pickle
import tarfile
import zipfile

import numpy as np
from PIL import Image


def encoded(value, kind="PNG", size=(4, 4), mode="RGB"):
    file = io.BytesIO()
    Image.new(mode, size, value).save(file, kind)
    return file.getvalue()


def put(path, content=b""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def tar(path, files, mode="w:gz"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def zipped(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def idx(array):
    shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + shape + array.astype(np.uint8).tobytes()


class Response(io.BytesIO):
    """What urlopen returns, with a Content-Length that may be wrong."""

    def __init__(self, content, length=None):
        super().__init__(content)
        self.headers = {"Content-Length": str(len(content) if length is None else length)}


def batch(pixels, labels):
    return pickle.dumps({"data": pixels, "labels": labels})


def signs():
    """Two classes, 12 and 1 tracks of 3 frames; red = class, green = track."""
    tracks = [(0, track) for track in range(12)] + [(42, 0)]
    return {f"{c:05}/{t:05}_{f:05}.ppm": encoded((c, t, f), "PPM", (9, 7)) for c, t in tracks for f in range(3)}


def trimap(width, height):
    """Upper half flower (1), lower half background (3)."""
    rows = np.repeat([[1], [3]], [height // 2, height - height // 2], axis=0)
    image = Image.fromarray(rows.repeat(width, axis=1).astype(np.uint8))
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def birds():
    """Three images of two classes, one of them greyscale; image 7 is for testing."""
    return {
        "CUB_200_2011/classes.txt": b"1 001.Black_footed_Albatross\n5 005.Crested_Auklet\n",
        "CUB_200_2011/images.txt": b"3 001.B/a.jpg\n5 005.C/b.jpg\n7 005.C/c.jpg\n",
        "CUB_200_2011/image_class_labels.txt": b"3 1\n5 5\n7 5\n",
        "CUB_200_2011/train_test_split.txt": b"3 1\n5 1\n7 0\n",
        "CUB_200_2011/bounding_boxes.txt": b"3 10.0 20.0 30.0 40.0\n5 0.0 0.0 80.0 40.0\n7 40.0 10.0 50.0 40.0\n",
        "CUB_200_2011/images/001.B/a.jpg": encoded((90, 0, 0), "JPEG", (100, 80)),
        "CUB_200_2011/images/005.C/b.jpg": encoded(70, "JPEG", (80, 40), "L"),
        "CUB_200_2011/images/005.C/c.jpg": encoded((0, 90, 0), "JPEG", (80, 40)),
    }
