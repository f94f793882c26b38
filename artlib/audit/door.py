"""What an audit accepts as a classifier and as images, and one clear sentence for what it does not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from artlib import data, models
from artlib.data import ImageSet
from artlib.data.pictures import decode
from artlib.data.sources.folder import SUFFIXES
from artlib.measurements import predictions
from artlib.models import public

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and std of torchvision's classifiers


PREDICTED = "labels are what the model predicts"


class Function(nn.Module):
    """A function from pixels (N, C, H, W) in [0, 1] to logits (N, classes), as a module.

    Of a method the module that it belongs to is known, and its ReLUs become softplus where an attack needs that.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function
        if isinstance(owner := getattr(function, "__self__", None), nn.Module):
            self.owner = owner
        self.dtype_of_images = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def classifier(
    model: nn.Module | Callable[[Tensor], Tensor] | str,
    *,
    weights: Path | str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> nn.Module:
    """A model from pixels in [0, 1] to logits, in eval mode.

    model: a module or a function, of normalised images if `mean` and `std` are given, else of pixels; a name in
    `models.public.PUBLIC`; or a name of torchvision's, with a safetensors file of `weights`, or torchvision's own,
    normalised as ImageNet unless told otherwise. Raises ValueError for anything else, and for a mean without a std.
    """
    if (mean is None) != (std is None):
        raise ValueError("mean and std belong together: give both, or none for a model of pixels in [0, 1]")
    if isinstance(model, str):
        if model in public.PUBLIC and weights is None:
            return public.load(model)
        model, (mean, std) = _torchvision(model, own=weights is None), (mean or IMAGENET[0], std or IMAGENET[1])
    elif not isinstance(model, nn.Module):
        if not callable(model):
            raise ValueError(f"model is a {type(model).__name__}; give a module, a function, or a name")
        model = Function(model)
    wrapped = model if mean is None else models.wrap(model, mean, std)
    if weights is not None:
        if mean is None:
            raise ValueError("weights go with a name of torchvision's; load them into your module yourself")
        public.load_weights(wrapped, weights)
    return wrapped.eval()


def _torchvision(name: str, *, own: bool) -> nn.Module:
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = [*public.PUBLIC, *(n for n in known if n[:4] == name[:4])][:12]
        raise ValueError(f"unknown network {name!r}; a name of torchvision.models, or one of {', '.join(near)}")
    try:
        return torchvision.models.get_model(name, weights="DEFAULT" if own else None)
    except OSError as error:
        raise FileNotFoundError(
            f"torchvision's weights of {name} cannot be had here ({error}); give weights=FILE.safetensors"
        ) from None


def image_set(
    images: ImageSet | Tensor | Path | str,
    model: nn.Module,
    *,
    labels: Tensor | None = None,
    size: int | None = None,
    limit: int = 1000,
) -> ImageSet:
    """At most `limit` images as a set, with the labels that are known, else with what `model` predicts.

    images: an `ImageSet`; pixels (N, C, H, W), uint8 or float in [0, 1], rounded to 8 bits, square or not, with
    `labels` (N,); the name of a data set; or a folder: FOLDER/<class>/*, whose classes in alphabetical order are all
    the model's (without FOLDER/test the fifth of the images that `data.load` takes for tests), or images alone. Of more
    than `limit` images a fixed random choice is taken. Files are resized to `size` x `size`, whatever their aspect.
    Raises ValueError for pixels outside [0, 1], for labels that the model has no output for, and for no images.
    """
    note = PREDICTED
    if not isinstance(images, ImageSet | Tensor | Path | str):
        raise ValueError(
            f"images are a {type(images).__name__}; give an ImageSet, a tensor, a folder or a data set's name"
        )
    if isinstance(images, Tensor):
        found = _of_pixels(images, labels)
    elif isinstance(images, ImageSet):
        found, note = images, images.note
    else:
        found = _of_name(str(images), size, limit)
    chosen = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[:limit].sort().values
    found = found.subset(chosen)
    if not len(found):
        raise ValueError("there are no images to audit")
    x = found.images[:1].to(next(model.parameters()).dtype) / 255
    try:
        models.check_batch(x, found.labels[:1] * 0, model)
    except RuntimeError as error:  # the network's own
        raise ValueError(
            f"the network does not take images of shape {tuple(x.shape)}: {error}".split("\n")[0]
        ) from None
    with torch.no_grad():
        classes = model(x).shape[1]
    if len(found.classes) == 1:  # none were given
        found = replace(found, classes=tuple(map(str, range(classes))), note=note)
        return replace(found, labels=predictions(model, found))
    if int(found.labels.max()) >= classes or not (isinstance(images, Tensor) or len(found.classes) == classes):
        given = (
            f"labels up to {int(found.labels.max())}" if isinstance(images, Tensor) else f"{len(found.classes)} classes"
        )
        raise ValueError(
            f"the images have {given}, the model has {classes} outputs; put the images into one folder without "
            "classes, or leave labels out, to explain what the model predicts"
        )
    return found


def _of_pixels(x: Tensor, labels: Tensor | None) -> ImageSet:
    if x.is_floating_point():
        models.check_batch(x, torch.zeros(len(x), dtype=torch.int64))
        x = (255 * x).round().to(torch.uint8)
    y = torch.zeros(len(x), dtype=torch.int64) if labels is None else labels
    classes = ("",) if labels is None else tuple(map(str, range(max(2, 1 + int(y.max())))))
    return ImageSet(x, y, classes, name="tensors", split="test")


def _of_name(name: str, size: int | None, limit: int) -> ImageSet:
    path = Path(name.removeprefix("folder:")).expanduser()
    if name in data.SETS:
        return data.load(name, "test", size=size, limit=limit)
    if not path.is_dir():
        raise FileNotFoundError(f"{name} is neither a folder nor a data set ({', '.join(data.SETS)})")
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith("."))
    if not files:
        return data.load(f"folder:{path}", "test", size=size, limit=limit)
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0))[:limit].sort().values
    pixels = torch.stack([decode(files[i], path, size or 224)[0] for i in order.tolist()])
    return ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.int64), ("",), name=path.name, split="test")
