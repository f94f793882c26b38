"""What an audit accepts as a classifier and as images, and one clear sentence for what it does not."""

import inspect
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from artlib import data, models
from artlib.data import ImageSet
from artlib.data.pictures import decode
from artlib.data.sources.folder import SUFFIXES
from artlib.measurements import predictions
from artlib.models import public

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and std of torchvision's classifiers


PREDICTED = "labels are what the model predicts"


class Classifier(nn.Module):
    """A module or a function from pixels (N, C, H, W) in [0, 1] to logits (N, classes), ready for second derivatives.

    Attention inside it is made of matrix products, as torch's fused kernels have no second derivative. Of a method the
    module that it belongs to is known, and its ReLUs become softplus where an attack needs that.
    """

    def __init__(self, net: nn.Module | Callable[[Tensor], Tensor]):
        super().__init__()
        self.net = net
        if isinstance(owner := getattr(net, "__self__", None), nn.Module):
            self.owner = owner
        if next(self.parameters(), None) is None:
            self.dtype_of_images = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        with sdpa_kernel(SDPBackend.MATH):
            return self.net(x)


def weight_count(net: nn.Module) -> int:
    """How many weights a `classifier` has, as far as they are known: a function's are not."""
    return sum(p.numel() for name, p in net.named_parameters() if name != "dtype_of_images")


def classifier(
    model: nn.Module | Callable[[Tensor], Tensor] | str,
    *,
    weights: Path | str | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> nn.Module:
    """A model from pixels in [0, 1] to logits, in eval mode, that the attacks of `artlib.attacks` can be run on, too.

    model: a module or a function, of normalised images if `mean` and `std` are given, else of pixels; a name in
    `models.public.PUBLIC`; a name of torchvision's, with its own weights, normalised as ImageNet unless told
    otherwise; or "FILE.py:NAME", a module or function in a file, or what makes one when called with nothing. `weights`
    is a file of them: safetensors, or what torch.save writes of a state_dict. Raises ValueError for anything else.

    >>> import torch
    >>> from artlib import audit
    >>> net = audit.classifier(lambda x: x.mean((2, 3)), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    >>> net(torch.ones(1, 3, 4, 6)).tolist()
    [[1.0, 1.0, 1.0]]
    """
    if (mean is None) != (std is None):
        raise ValueError("mean and std belong together: give both, or none for a model of pixels in [0, 1]")
    if isinstance(model, str):
        if model in public.PUBLIC and weights is None:
            return Classifier(public.load(model)).eval()
        path, _, name = model.rpartition(":")
        if path:
            model = _of_file(Path(path).expanduser(), name)
        else:
            model, (mean, std) = _torchvision(model, own=weights is None), (mean or IMAGENET[0], std or IMAGENET[1])
    if not callable(model):
        raise ValueError(f"model is a {type(model).__name__}; give a module, a function, or a name")
    if weights is not None:
        _load(model, Path(weights).expanduser())
    net = Classifier(model)
    return (net if mean is None else models.wrap(net, mean, std)).eval()


def _of_file(path: Path, name: str) -> nn.Module | Callable[[Tensor], Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: give FILE.py:NAME")
    found = runpy.run_path(str(path)).get(name)
    if not callable(found):
        raise ValueError(f"{path} has no module, class or function {name!r}")
    if isinstance(found, nn.Module):
        return found
    needed = [
        p for p in inspect.signature(found).parameters.values() if p.default is p.empty and p.kind < p.VAR_POSITIONAL
    ]
    return found if needed else found()


def _load(model: nn.Module | Callable, path: Path) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError("weights go with a name of torchvision's or a module; a function has its own")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights {path}")
    if path.suffix == ".safetensors":
        public.load_weights(nn.Sequential(nn.Identity(), model), path)
        return
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(found.get("state_dict", found))
    except (RuntimeError, UnpicklingError, AttributeError, EOFError) as error:
        why = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path} does not hold a state_dict of this network: {why}") from None


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
    than `limit` images a fixed random choice is taken. A folder's files are resized to `size` x `size`, 224 unless
    told, whatever their aspect.
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
        return data.load(f"folder:{path}", "test", size=size or 224, limit=limit)
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0))[:limit].sort().values
    pixels = torch.stack([decode(files[i], path, size or 224)[0] for i in order.tolist()])
    return ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.int64), ("",), name=path.name, split="test")
