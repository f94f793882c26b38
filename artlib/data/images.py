"""`ImageSet`, one split of a data set as tensors, and `batches` over it: all that trainings and measurements need."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split of a data set: what every training, attack and table works on.

    images uint8 (N,C,H,W); labels int64 (N,) in 0..len(classes)-1; boxes float32 (N,4) x0,y0,x1,y1 in pixels;
    masks bool (N,H,W), True on the object, all False where an image has no annotation; note says how the files differ
    from the official ones. Images need not be square. Raises ValueError for any other type, rank, length or label and
    for boxes that are not finite.
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
            if not (finite := self.boxes.isfinite().all(1)).all():
                raise ValueError(f"boxes must be finite numbers, which box {int((~finite).nonzero()[0])} is not")
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
