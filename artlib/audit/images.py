"""What an audit accepts as images, and one clear sentence for what it does not."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from artlib import data, models
from artlib.audit.door import named
from artlib.data import ImageSet, batches
from artlib.data.loading import _balanced_first, decoded
from artlib.data.pictures import decode
from artlib.data.raw import Raw
from artlib.data.sources.folder import SUFFIXES, folder
from artlib.measurements import predictions
from artlib.measurements.measurement import at_once

PREDICTED = "labels are what the model predicts"


def image_set(
    images: ImageSet | Tensor | Path | str,
    model: nn.Module,
    *,
    labels: Tensor | None = None,
    size: int | None = None,
    limit: int = 1000,
    unlabelled: int | None = None,
) -> ImageSet:
    """At most `limit` images as a set, with the labels that are known, else with what `model` predicts.

    images: an `ImageSet`; pixels (N, C, H, W), uint8 or float in [0, 1], rounded to 8 bits, square or not, with
    `labels` (N,); the name of a data set; or a folder: FOLDER/<class>/*, whose classes in alphabetical order are all
    the model's, or images alone. All of a folder is taken, unless it has FOLDER/test/<class>/*: then that; by
    "folder:PATH" what `data.load` takes for tests, a fifth, for networks that were trained here on the rest. Of more
    than `limit` images (`unlabelled`, if given, where there are no labels) a fixed random choice is taken. A folder's
    files are squeezed to `size` x `size`, 224 unless told, whatever their aspect: the crop of the centre that
    torchvision's networks are usually tested on is not taken. The set's note says what was left out, and how many were
    not square.
    Raises ValueError for pixels outside [0, 1], for labels that the model has no output for, and for no images.

    >>> import torch
    >>> from artlib import audit
    >>> net = audit.classifier(lambda x: x.mean((2, 3)))
    >>> x = torch.zeros(4, 3, 6, 9)
    >>> x[:, 1] = 0.6
    >>> images = audit.image_set(x, net)  # without labels
    >>> images.labels.tolist(), images.note
    ([1, 1, 1, 1], 'labels are what the model predicts')
    """
    few = limit if unlabelled is None else min(limit, unlabelled)
    found = _given(images, labels, size, limit, few)
    most = few if len(found.classes) == 1 else limit
    if len(found) > most:
        note = _joined(found.note, _told(most, len(found)))
        found = replace(found.subset(_choice(len(found), most)), note=note)
    if not len(found):
        raise ValueError("there are no images to audit")
    try:
        found, classes = _taken(model, found)
    except ValueError as error:
        if not isinstance(images, Path | str) or "does not take images" not in str(error):
            raise
        told = f"they are {'resized to ' if size else ''}{' x '.join(map(str, found.images.shape[2:]))} pixels"
        raise ValueError(f"{error}; {told}: give the network's own size, size=... (--size)") from None
    if len(found.classes) == 1:  # none were given
        note = _joined(PREDICTED, found.note)
        found = replace(found, classes=tuple(map(str, range(classes))), note=note)
        device = next(model.parameters()).device
        return replace(found, labels=predictions(model, found.to(device)).to(found.labels.device))
    if int(found.labels.max()) >= classes or not (isinstance(images, Tensor) or len(found.classes) == classes):
        given = (
            f"labels up to {int(found.labels.max())}" if isinstance(images, Tensor) else f"{len(found.classes)} classes"
        )
        raise ValueError(
            f"the images have {given}, the model has {classes} outputs; put the images into one folder without "
            "classes, or leave labels out, to explain what the model predicts"
        )
    return found


def _taken(model: nn.Module, images: ImageSet) -> tuple[ImageSet, int]:
    """The images as the model takes them, in one channel if not in three, and how many classes it tells apart."""
    p = next(model.parameters())
    x = images.images[:2].to(p.device, p.dtype) / 255
    try:
        with named(model):
            models.check_batch(x, torch.zeros_like(images.labels[:2], device=p.device), model)
    except RuntimeError as error:  # the network's own
        if x.shape[1] == 3:
            grey = (images.images * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True).round()
            with suppress(ValueError):
                note = _joined(images.note, "in grey, as the network takes one channel")
                return _taken(model, replace(images, images=grey.to(torch.uint8), note=note))
        raise ValueError(
            f"the network does not take images of shape {tuple(x.shape)}: {error}".split("\n")[0]
        ) from None
    with torch.no_grad():
        logits = model(x)
    if len(logits) != len(x):
        raise ValueError(f"the network returns {len(logits)} rows of logits for {len(x)} images; one a row is needed")
    if not logits.isfinite().all():
        raise ValueError("the network's logits are not finite (NaN or infinite) on the first images")
    return images, logits.shape[1]


def check_correct(model: nn.Module, images: ImageSet) -> None:
    """Raise ValueError where a classifier classifies no image of a set correctly: only what is correct is attacked."""
    p = next(model.parameters())
    with torch.no_grad():
        for x, y in batches(images.to(p.device), at_once(64, images), dtype=p.dtype):
            if (model(x).argmax(1) == y).any():
                return
    names = ", ".join(images.classes[:3]) + (", ..." if len(images.classes) > 3 else "")
    raise ValueError(
        f"the model classifies none of {len(images)} images correctly: check the order of the classes ({names}) and "
        "the normalisation, mean and std; or leave the labels out, a folder's by putting the images into one folder "
        "without classes, to explain what the model predicts"
    )


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _told(most: int, number: int) -> str:
    return f"a random choice of {most:,} of {number:,} images"


def _choice(number: int, most: int) -> Tensor:
    return torch.randperm(number, generator=torch.Generator().manual_seed(0))[:most].sort().values


def _given(images: object, labels: Tensor | None, size: int | None, limit: int, few: int) -> ImageSet:
    """What was given as a set; one without labels has a single class, "" by name."""
    if isinstance(images, Tensor):
        return _of_pixels(images, labels)
    if labels is not None:
        raise ValueError("labels go with a tensor of images; an ImageSet, a folder and a data set have their own")
    if isinstance(images, ImageSet):
        return images
    if isinstance(images, Path | str):
        return _of_name(str(images), size, limit, few)
    told = "give an ImageSet, a tensor, a folder or a data set's name"
    if isinstance(images, tuple | list) and len(images) == 2 and all(isinstance(v, Tensor) for v in images):
        told = "give the first of the two, and the second as labels=..."
    raise ValueError(f"images are of type {type(images).__name__}; {told}")


def _of_pixels(x: Tensor, labels: Tensor | None) -> ImageSet:
    if not x.numel():
        raise ValueError(f"there are no images to audit: the tensor has shape {tuple(x.shape)}")
    if x.ndim != 4:
        raise ValueError(f"images have shape {tuple(x.shape)}; give (N, C, H, W), of one image images[None]")
    if x.is_floating_point():
        if wrong := int((~x.isfinite()).flatten(1).any(1).sum()):
            raise ValueError(f"{wrong} of {len(x)} images hold NaN or infinite values: leave them out, or mend them")
        models.check_batch(x, torch.zeros(len(x), dtype=torch.int64))
        x = (255 * x).round().to(torch.uint8)
    if labels is not None:
        _check_labels(labels, len(x))
    y = torch.zeros(len(x), dtype=torch.int64) if labels is None else labels
    classes = ("",) if labels is None else tuple(map(str, range(max(2, 1 + int(y.max())))))
    return ImageSet(x, y, classes, name="tensors", split="test")


def _check_labels(labels: Tensor, number: int) -> None:
    """Raise ValueError for what is not one label an image, with what makes it one."""
    if not isinstance(labels, Tensor):
        raise ValueError(f"labels are of type {type(labels).__name__}; give a tensor: torch.tensor(labels)")
    way = ""
    if labels.shape == (number, 1):
        way = ": labels.flatten()"
    elif labels.ndim == 2 and len(labels) == number:
        way = ": labels.argmax(1), if these are scores or one-hot rows"
    elif labels.shape == (number,) and labels.dtype != torch.int64:
        way = ": labels.long()"
    if labels.shape != (number,) or way:
        told = f"labels are {labels.dtype} of shape {tuple(labels.shape)}"
        raise ValueError(f"{told}; they must be int64, ({number},), one an image{way}")
    if (low := int(labels.min())) < 0:
        raise ValueError(f"labels go from {low}; they count from 0: leave images without a label out, or add {-low}")


def _of_name(name: str, size: int | None, limit: int, few: int) -> ImageSet:
    path = Path(name.removeprefix("folder:")).expanduser()
    if name in data.SETS:
        return data.load(name, "test", size=size, limit=limit)
    if not path.is_dir():
        raise FileNotFoundError(f"{name} is neither a folder nor a data set ({', '.join(data.SETS)})")
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
    if not files:
        return _of_classes(name, path, size or 224, limit)
    order = _choice(len(files), few)
    pairs = [decode(files[i], path, size or 224) for i in order.tolist()]
    pixels, none = torch.stack([each for each, _ in pairs]), torch.zeros(len(pairs), dtype=torch.int64)
    note = _joined(_told(few, len(files)) if len(files) > few else "", _squeezed([s for _, s in pairs], size or 224))
    return ImageSet(pixels, none, ("",), name=path.resolve().name, split="test", note=note)


def _squeezed(shapes: list[tuple[int, int]], size: int) -> str:
    """How many of the images were not square, given their widths and heights, and what has become of them."""
    number = sum(width != height for width, height in shapes)
    return f"{number:,} of {len(shapes):,} images are not square: squeezed to {size}x{size}" if number else ""


def _shape(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size


def _of_classes(name: str, path: Path, size: int, limit: int) -> ImageSet:
    """FOLDER/<class>/*, all of it; FOLDER/test/<class>/* if there is that; the test part if "folder:" was said."""
    parts = {split: part for split in ("train", "test") if (part := _part(path, split)) is not None}
    if not parts:
        raise FileNotFoundError(
            f"{path} holds no images ({', '.join(SUFFIXES)}): put them into it as they are, and what the model "
            "predicts is explained, or into folders named by class, PATH/<class>/*"
        )
    apart, notes = (path / "test").is_dir(), []
    if apart or name.startswith("folder:"):
        if "test" not in parts:
            raise FileNotFoundError(f"{path} holds no test images; give the folder of those that are meant")
        raw, split, number = parts["test"], "test", sum(len(part.labels) for part in parts.values())
        told = "those of FOLDER/test" if apart else "the test fifth"
        notes.append(f"{len(raw.labels):,} of {number:,} images: {told}")
    else:
        raw, split = _together(list(parts.values())), "all"
    if len(raw.labels) > limit:
        notes.append(_told(limit, len(raw.labels)))
    found = decoded(raw, f"folder:{path.resolve().name}", split, size, limit)
    kept = _balanced_first(torch.tensor(raw.labels), limit).tolist()
    return replace(found, note=_joined(found.note, *notes, _squeezed([_shape(raw.images[i]) for i in kept], size)))


def _part(path: Path, split: str) -> Raw | None:
    """The images of a split of a folder, None if it has none."""
    try:
        raw = folder(path, split)
    except FileNotFoundError:
        return None
    if len(raw.classes) < 2:
        raise ValueError(
            f"{path} holds one folder of images, {raw.classes[0]}; give that folder, to explain what the model "
            "predicts, or one for each of its classes"
        )
    return raw


def _together(parts: list[Raw]) -> Raw:
    images, labels = [i for p in parts for i in p.images], [y for p in parts for y in p.labels]
    boxes = None if parts[0].boxes is None else torch.cat([p.boxes for p in parts])
    return replace(parts[0], images=images, labels=labels, boxes=boxes)
