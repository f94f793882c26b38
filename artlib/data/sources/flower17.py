"""Oxford Flower17."""

from pathlib import Path, PurePosixPath

from artlib import paths
from artlib.data.archives import first, members, some
from artlib.data.downloads import fetch
from artlib.data.raw import Raw

URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/17/"
MD5 = "b59a65d8d1a99cd66944d474e1289eab"  # trimaps.tgz has none: that of the first download is recorded beside it
SPLITS = paths.ROOT / "data" / "splits"
CLASSES = (
    *("daffodil", "snowdrop", "lily of the valley", "bluebell", "crocus", "iris", "tigerlily", "tulip", "fritillary"),
    *("sunflower", "daisy", "coltsfoot", "dandelion", "cowslip", "buttercup", "windflower", "pansy"),
)  # the official order: 80 consecutive images each


def flower17(root: Path, split: str) -> Raw:
    """Oxford Flower17 from flower17/jpg (or 17flowers.tgz) and its trimaps; label = (image number - 1) // 80.

    The paper's split (72 + 8 images a class) is not published; data/splits/flower17_test.txt is ours.
    """
    folder = root / "flower17"
    path = first(folder, "jpg") or fetch(folder / "17flowers.tgz", URL + "17flowers.tgz", md5=MD5)
    maps = first(folder, "trimaps", "trimaps_256") or fetch(folder / "trimaps.tgz", URL + "trimaps.tgz")
    test = set((SPLITS / "flower17_test.txt").read_text().split())
    trimaps = {PurePosixPath(name).stem: file for name, file in members(maps, r"image_\d{4}\.png$").items()}
    files = {PurePosixPath(name).stem: file for name, file in members(path, r"image_\d{4}\.jpg$").items()}
    names = list(some({name: 0 for name in files if (name in test) == (split == "test")}, path, "image_*.jpg"))
    return Raw(
        path,
        [files[name] for name in names],
        [(int(name[-4:]) - 1) // 80 for name in names],
        CLASSES,
        trimaps=[trimaps.get(name) for name in names],
        note="Flower17 (resized JPEG copy)" if maps.name == "trimaps_256" else "",
    )
