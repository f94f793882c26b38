"""Data sets as two tensors: `load` one by name, iterate over it with `batches`, augment with `Augment`."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from artlib import paths
from artlib.data import archives as _sources


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split of a data set: what every training, attack and table works on.

    images uint8 (N,C,H,W); labels int64 (N,) in 0..len(classes)-1; boxes float32 (N,4) x0,y0,x1,y1 in pixels;
    masks bool (N,H,W), True on the object, all False where an image has no annotation; note says how the files differ
    from the official ones. Raises ValueError for any other type, rank, length or label.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    boxes: Tensor | None = None
    masks: Tensor | None = None
    name: str = ""
    split: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        _check("images", self.images, torch.uint8, 4, None)
        count, size = len(self.images), tuple(self.images.shape[2:])
        _check("labels", self.labels, torch.int64, 1, (count,))
        if self.boxes is not None:
            _check("boxes", self.boxes, torch.float32, 2, (count, 4))
        if self.masks is not None:
            _check("masks", self.masks, torch.bool, 3, (count, *size))
        low, high = (int(self.labels.min()), int(self.labels.max())) if count else (0, -1)
        if low < 0 or high >= len(self.classes):
            raise ValueError(
                f"labels are {low}..{high} but {len(self.classes)} classes allow 0..{len(self.classes) - 1}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property  # a model's path asks for it again and again, and CIFAR-10 has 150 MB to hash
    def fingerprint(self) -> str:
        """sha256 (hex) over shapes and bytes of images, labels, boxes and masks: same number, same data."""
        digest = hashlib.sha256()
        for tensor in (self.images, self.labels, self.boxes, self.masks):
            digest.update(b"None" if tensor is None else str(tuple(tensor.shape)).encode())
            if tensor is not None:
                digest.update(tensor.cpu().contiguous().numpy())
        return digest.hexdigest()

    def subset(self, indices: Sequence[int] | Tensor) -> "ImageSet":
        """The images at `indices` (integers, or a bool mask (N,)), in that order."""
        index = torch.as_tensor(indices, device=self.labels.device)
        index = index if len(index) else index.long()  # an empty list is float
        return self._map(lambda tensor: tensor[index])

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same set with its tensors on `device`."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> "ImageSet":
        tensors = {name: getattr(self, name) for name in ("images", "labels", "boxes", "masks")}
        return replace(self, **{name: None if t is None else function(t) for name, t in tensors.items()})


def _check(name: str, tensor: Tensor, dtype: torch.dtype, rank: int, shape: tuple[int, ...] | None) -> None:
    if (
        not isinstance(tensor, Tensor)
        or tensor.dtype != dtype
        or tensor.ndim != rank
        or shape not in (None, tuple(tensor.shape))
    ):
        got = f"{tensor.dtype} {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else type(tensor).__name__
        raise ValueError(
            f"{name} must be {dtype} of rank {rank}" + (f" and shape {shape}" if shape else "") + f", not {got}"
        )


@dataclass(frozen=True)
class SetInfo:
    """What is published about a data set, and how it is loaded by default."""

    size: int  # pixels, height = width
    classes: int
    images: dict[str, int]  # images a split, of the official files
    mean: tuple[float, ...] | None = None  # [0,1] units; None: not published, use `mean_std`
    std: tuple[float, ...] | None = None
    per_class: int | None = None  # ART, App. A.3: images a class an epoch, after augmentation
    channels: int = 3


SETS = {
    "blossoms": SetInfo(32, 10, {"train": 4000, "test": 1000}),
    "cifar10": SetInfo(32, 10, {"train": 50_000, "test": 10_000}, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "svhn": SetInfo(32, 10, {"train": 73_257, "test": 26_032}),
    "gtsrb": SetInfo(32, 43, {"train": 34_799, "valid": 4_410, "test": 12_630}, per_class=10_000),
    "mnist": SetInfo(28, 10, {"train": 60_000, "test": 10_000}, channels=1),
    "fashion_mnist": SetInfo(28, 10, {"train": 60_000, "test": 10_000}, channels=1),
    "flower17": SetInfo(128, 17, {"train": 1_224, "test": 136}, per_class=1_000),
    "cub200": SetInfo(224, 200, {"train": 5_994, "test": 5_794}),
}


def load(
    name: str, split: str, *, root: Path | str | None = None, size: int | None = None, limit: int | None = None
) -> ImageSet:
    """Load a data set of `SETS`, or a user's own image folder by "folder:PATH", as an `ImageSet`.

    Files are looked for in `root` (default `paths.DATA`, environment variable ARTLIB_DATA) and downloaded to it when
    missing. Images are resized to size x size (bilinear, antialiased, aspect not kept), boxes and masks with them.
    limit=n keeps n images, equally many of each class as far as there are enough, always the same ones, and those of
    a smaller limit come first; blossoms are drawn, so there limit is the number drawn.

    Raises ValueError for an unknown name or split and for damaged files, FileNotFoundError for files that are neither
    there nor reachable, PermissionError for a folder that cannot be written.
    """
    own = name.startswith("folder:")
    if not own and name not in SETS:
        raise ValueError(
            f"unknown data set {name!r}: choose one of {', '.join(SETS)}, or folder:PATH for your own images"
        )
    splits = ("train", "test") if own else tuple(SETS[name].images)
    if split not in splits:
        raise ValueError(f"{name} has no split {split!r}: choose one of {', '.join(splits)}")
    for key, value in (("size", size), ("limit", limit)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ValueError(f"{key} must be a positive integer, not {value!r}")
    size = size or (32 if own else SETS[name].size)
    if name == "blossoms":
        return _blossoms(split, size, limit)
    if own:
        path = Path(name.removeprefix("folder:")).expanduser()
        raw = _sources.folder(path, split)
        if len(raw.classes) < 2:
            raise ValueError(f"{path} holds {len(raw.classes)} class; a classifier needs at least 2 folders of images")
        return _decoded(raw, f"folder:{path.resolve().name}", split, size, limit)
    raw = getattr(_sources, name)(Path(root or paths.DATA).expanduser(), split)
    if len(raw.labels) != (official := SETS[name].images[split]):
        note = f"{len(raw.labels):,} of {official:,} images"
        raw = replace(raw, note=f"{raw.note}, {note}" if raw.note else note)
    return _decoded(raw, name, split, size, limit)


def _blossoms(split: str, size: int, limit: int | None) -> ImageSet:
    from artlib.data import blossoms

    info = SETS["blossoms"]
    count, seed = limit or info.images[split], list(info.images).index(split)
    images, labels, masks, boxes = blossoms.draw(count, size=size, seed=seed, num_classes=info.classes)
    return ImageSet(images, labels, blossoms.CLASSES[: info.classes], boxes, masks, "blossoms", split)


def _decoded(raw: _sources.Raw, name: str, split: str, size: int, limit: int | None) -> ImageSet:
    labels = torch.tensor(raw.labels)
    keep = _balanced_first(labels, limit) if limit else torch.arange(len(labels))
    boxes = masks = None
    if isinstance(raw.images, Tensor):
        images = _resize(raw.images[keep], size)
    else:
        decoded = [_decode(raw.images[i], raw.path, size) for i in keep.tolist()]
        images = torch.stack([pixels for pixels, _ in decoded])
        if raw.boxes is not None:
            scale = size / torch.tensor([shape for _, shape in decoded], dtype=torch.float32)  # (N,2): width, height
            boxes = (raw.boxes[keep] * scale.repeat(1, 2)).clamp(0, size)
        if raw.trimaps is not None:
            masks = torch.stack([_flower_mask(raw.trimaps[i], raw.path, size) for i in keep.tolist()])
    return ImageSet(images, labels[keep], raw.classes, boxes, masks, name, split, raw.note)


def _balanced_first(labels: Tensor, limit: int) -> Tensor:
    """Indices of `limit` images: a fixed shuffle (seed 0), then round and round the classes."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    turn = torch.empty(len(labels), dtype=torch.int64)  # how many of its class come before each image in the shuffle
    for label in labels.unique():
        places = (labels[order] == label).nonzero().ravel()
        turn[places] = torch.arange(len(places))
    return order[torch.argsort(turn, stable=True)][:limit]


def _resize(images: Tensor, size: int) -> Tensor:
    if tuple(images.shape[2:]) == (size, size):
        return images
    resized = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)


def _decode(file: _sources.File, path: Path, size: int) -> tuple[Tensor, tuple[int, int]]:
    """An encoded image as (3,size,size) uint8 and its original (width, height)."""
    with _sources.opened(file, path) as image:
        shape, image = image.size, image.convert("RGB")
    if shape != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous(), shape


def _flower_mask(file: _sources.File | None, path: Path, size: int) -> Tensor:
    """Palette index 1 of a Flower17 trimap is flower; an image without a trimap has an empty mask."""
    if file is None:
        return torch.zeros(size, size, dtype=torch.bool)
    with _sources.opened(file, path) as image:
        if image.mode not in ("P", "L"):
            raise ValueError(f"a trimap of {path} is {image.mode}, not a palette image: delete it and load again")
        return torch.from_numpy(np.array(image.resize((size, size), Image.Resampling.NEAREST)) == 1)


def mean_std(image_set: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and (population) standard deviation of every channel over all pixels, in [0,1] units."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in image_set.images.transpose(0, 1):
        weight = torch.bincount(channel.ravel().long(), minlength=256).cpu().double()  # exact, whatever the size
        mean = float((weight @ levels) / weight.sum())
        means.append(mean)
        stds.append(float((weight @ (levels - mean) ** 2 / weight.sum()).sqrt()))
    return tuple(means), tuple(stds)


def send(drawn: Tensor, device: torch.device) -> Tensor:
    """What was drawn on the CPU, on `device`: a GPU fetches it from pinned memory, and nobody waits for it."""
    return drawn.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else drawn.to(device)


def batches(
    image_set: ImageSet,
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    augment: Callable[..., Tensor] | None = None,
    per_class: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of (x (B,C,H,W) in [0,1], y (B,)) on the set's device; the last batch may be smaller.

    Shuffled if `generator` (CPU) is given. per_class=n draws n images of every class present: each image is used
    floor(n / count) or ceil(n / count) times. `augment` is called as augment(x, generator=generator).
    """
    if batch_size < 1 or (per_class is not None and per_class < 1):
        raise ValueError(f"batch_size and per_class must be at least 1, not {batch_size} and {per_class}")
    if augment is not None and generator is None:
        raise ValueError("augment needs generator=torch.Generator(): randomness is drawn from nowhere else")
    index = (
        torch.arange(len(image_set)) if per_class is None else _balance(image_set.labels.cpu(), per_class, generator)
    )
    if generator is not None:
        index = index[torch.randperm(len(index), generator=generator)]
    return _epoch(image_set, index.split(batch_size), generator, augment, dtype)


def _epoch(image_set, chunks, generator, augment, dtype) -> Iterator[tuple[Tensor, Tensor]]:
    for chunk in chunks:
        if not len(chunk):
            return
        chunk = send(chunk, image_set.images.device)
        x = image_set.images[chunk].to(dtype) / 255
        yield (x if augment is None else augment(x, generator=generator)), image_set.labels[chunk]


def _balance(labels: Tensor, per_class: int, generator: torch.Generator | None) -> Tensor:
    chosen = []
    for label in labels.unique():
        places = (labels == label).nonzero().ravel()
        if generator is not None:  # which images are used once more than the others
            places = places[torch.randperm(len(places), generator=generator)]
        chosen.append(places.repeat(-(-per_class // len(places)))[:per_class])
    return torch.cat(chosen)


@dataclass(frozen=True)
class Augment:
    """Random changes of a batch x (N,C,H,W) in [0,1], drawn for every image on its own; all zero is the identity.

    Order: warp (rotation, translation, projection in one bilinear resampling, edges repeated), crop, flip, then
    brightness, contrast and saturation. Randomness is drawn on the CPU, the work is done on x's device.
    """

    crop: int = 0  # pixels of zero padding on each side, then a crop back to the size
    flip: bool = False  # left-right, probability 1/2
    jitter: float = 0.0  # factors of brightness, contrast, saturation uniform in 1 -+ jitter
    rotation: float = 0.0  # degrees, uniform in -+ rotation
    translate: float = 0.0  # pixels, each axis uniform in -+ translate
    project: float = 0.0  # corners move by -+ 0.3 u of the side, u uniform in [0, project] for each image

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 <= getattr(self, field.name) < float("inf"):
                raise ValueError(f"{field.name} must be finite and not negative, not {getattr(self, field.name)}")

    def __call__(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        if self.rotation or self.translate or self.project:
            x = self._warp(x, generator)
        if self.crop:
            shift = torch.randint(0, 2 * self.crop + 1, (2, len(x)), generator=generator)
            x = _crop(x, send(shift, x.device), self.crop)
        if self.flip:
            turned = torch.rand(len(x), generator=generator) < 0.5
            x = torch.where(send(turned, x.device)[:, None, None, None], x.flip(3), x)
        if self.jitter:
            x = _jitter(x, 1 + self.jitter * send(_uniform(generator, 3, len(x)).to(x.dtype), x.device))
        return x.clamp(0, 1)

    def _warp(self, x: Tensor, generator: torch.Generator) -> Tensor:
        count, (height, width) = len(x), x.shape[2:]
        half = torch.tensor([width, height], dtype=torch.float64) / 2
        corners = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)  # (4,2) x, y
        angle = torch.deg2rad(self.rotation * _uniform(generator, count))
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(count, 2, 2)
        strength = self.project * torch.rand(count, 1, 1, generator=generator, dtype=torch.float64)
        moved = (corners * half) @ turn.mT + self.translate * _uniform(generator, count, 1, 2)
        moved = moved + 0.3 * strength * 2 * half * _uniform(generator, count, 4, 2)
        grid = send(_homography_grid(corners, moved / half, height, width).to(x.dtype), x.device)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1


def _homography_grid(source: Tensor, target: Tensor, height: int, width: int) -> Tensor:
    """Sampling grid (N,H,W,2) of the homographies that take corners `source` (4,2) to `target` (N,4,2), in [-1,1]."""
    (x, y), (u, v) = source.expand_as(target).unbind(2), target.unbind(2)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    rows_u = torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=2)  # u = (a x + b y + c) / (g x + h y + 1)
    rows_v = torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=2)
    entries = torch.linalg.solve(torch.cat([rows_u, rows_v], dim=1), torch.cat([u, v], dim=1))
    matrix = torch.cat([entries, one[:, :1]], dim=1).view(-1, 3, 3)
    across = (torch.arange(width, dtype=matrix.dtype) + 0.5) * 2 / width - 1
    down = (torch.arange(height, dtype=matrix.dtype) + 0.5) * 2 / height - 1
    points = torch.stack(
        [*torch.meshgrid(across, down, indexing="xy"), torch.ones(height, width, dtype=matrix.dtype)], dim=2
    )
    mapped = points.view(1, -1, 3) @ matrix.mT  # (N,H*W,3)
    return (mapped[..., :2] / mapped[..., 2:]).view(-1, height, width, 2)


def _crop(x: Tensor, shift: Tensor, padding: int) -> Tensor:
    """Each image's own (H,W) window, shift (2,N) in 0..2*padding, of the zero-padded batch."""
    height, width = x.shape[2:]
    padded = F.pad(x, [padding] * 4)
    rows = (shift[0, :, None] + torch.arange(height, device=x.device))[:, None, :, None]
    columns = (shift[1, :, None] + torch.arange(width, device=x.device))[:, None, None, :]
    image = torch.arange(len(x), device=x.device)[:, None, None, None]
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[image, channel, rows, columns]


def _jitter(x: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast, saturation (factors (3,N)): blend with black, the mean grey, the grey image; clamp each."""
    brightness, contrast, saturation = factors[..., None, None, None]
    x = (brightness * x).clamp(0, 1)
    x = (contrast * x + (1 - contrast) * _grey(x).mean((1, 2, 3), keepdim=True)).clamp(0, 1)
    return (saturation * x + (1 - saturation) * _grey(x)).clamp(0, 1)


def _grey(x: Tensor) -> Tensor:
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    luma = send(torch.tensor([0.299, 0.587, 0.114], dtype=x.dtype), x.device)  # ITU-R BT.601
    return (x * luma[:, None, None]).sum(1, keepdim=True)


AUGMENT = {
    "blossoms": Augment(crop=2, flip=True),
    "cifar10": Augment(crop=4, flip=True, jitter=0.25, rotation=2),  # the authors' training code; the text names none
    "svhn": Augment(),
    "gtsrb": Augment(rotation=15, translate=2.5, project=0.8),  # ART, App. A.3.3 "as in" RAR, whose values these are
    "mnist": Augment(),
    "fashion_mnist": Augment(),
    "flower17": Augment(rotation=15, translate=2.5, project=0.8),  # ART, App. A.3.4, likewise
    "cub200": Augment(flip=True),
}
