"""GTSRB, German traffic signs."""

import csv
import io
from pathlib import Path, PurePosixPath

from artlib.data.archives import File, FileError, first, members, reading, some, text
from artlib.data.downloads import fetch
from artlib.data.raw import Raw

URL = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370/"
MD5 = {
    "GTSRB_Final_Training_Images.zip": "f33fd80ac59bff73c82d25ab499e03a3",
    "GTSRB_Final_Test_Images.zip": "c7e4e6327067d32654124b0fe9e82185",
    "GTSRB_Final_Test_GT.zip": "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
}


def gtsrb(root: Path, split: str) -> Raw:
    """GTSRB whole images (no crop to the Roi) from the official zip files, their folders, or 32x32 copies in tar.xz.

    Training files are <class>/<track>_<frame>.ppm. Of each class every tenth track, from track 0 on, is "valid" and
    the others are "train": a track's frames stay together, and the official 39,209 images give the paper's 34,799 and
    4,410 (App. A.3.3).
    """
    folder, kind = root / "gtsrb", "Test" if split == "test" else "Training"
    archive = f"GTSRB_Final_{kind}_Images.zip"
    copies = sorted(path.name for path in folder.glob(f"GTSRB_Final_{kind}_Images_32x32*.tar.xz"))
    path = first(folder, f"GTSRB/Final_{kind}/Images", archive, *copies, f"GTSRB/{kind}")
    if path is None or path.name == archive:
        path = fetch(folder / archive, URL + archive, md5=MD5[archive])
    if split == "test":
        pairs = _test(folder, path)
    else:
        files = some(members(path, r"(^|/)\d{5}/\d{5}_\d{5}\.ppm$"), path, "<class>/<track>_<frame>.ppm")
        keys = {name: PurePosixPath(name) for name in files}
        names = [name for name, key in keys.items() if (int(key.name[:5]) % 10 == 0) == (split == "valid")]
        pairs = [(files[name], int(keys[name].parent.name)) for name in names]
    note = "GTSRB (32x32 copy)" if path.name in copies else ""
    return Raw(path, [file for file, _ in pairs], [label for _, label in pairs], tuple(map(str, range(43))), note=note)


def _test(folder: Path, path: Path) -> list[tuple[File, int]]:
    """Test images with their classes, which are in a file of their own (beside the images in a 32x32 copy)."""
    files = {name.split("/")[-1]: file for name, file in members(path, r"(^|/)\d{5}\.ppm$").items()}
    truth = first(folder, "GT-final_test.csv", "GTSRB/Final_Test/GT-final_test.csv")
    if truth is None and path.suffix == ".xz":
        truth = path
    name = "GTSRB_Final_Test_GT.zip"
    truth = truth or fetch(folder / name, URL + name, md5=MD5[name])
    tables = [truth] if truth.suffix == ".csv" else members(truth, r"(^|/)GT-final_test\.csv$").values()
    with reading(truth):
        rows = [row for table in tables for row in csv.DictReader(io.StringIO(text(table, truth)), delimiter=";")]
        labels = {row.get("Filename"): int(row["ClassId"]) for row in rows if row.get("ClassId")}
    if not files or labels.keys() != files.keys():
        raise FileError(f"{path} and {truth} do not list the same images: delete both and load again")
    return [(files[name], labels[name]) for name in files]
