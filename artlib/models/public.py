"""Networks that nobody here trained, by name: a fair test of every attack and every measure."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

from torch import Tensor, hub

from artlib import models, paths


@dataclass(frozen=True)
class Public:
    """A network with public weights: what it is, where its file lies below the data folder, what it expects."""

    title: str
    arch: str
    file: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    source: str


_IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_CIFAR = dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616))
_AKAMASTER, _CROWN = "akamaster/pytorch_resnet_cifar10", "Verified-Intelligence/alpha-beta-CROWN"

PUBLIC = {
    "resnet20_natural": Public(
        "ResNet-20, natural", "resnet-20", "weights/cifar10/resnet20_natural.safetensors", **_IMAGENET, num_classes=10,
        source=_AKAMASTER,
    ),
    "resnet4b_adv": Public(
        "resnet-4b, adversarial at 2/255", "resnet-4b", "weights/cifar10/resnet4b_adv.safetensors", **_CIFAR,
        num_classes=10, source=_CROWN,
    ),
    "resnet2b_adv": Public(
        "resnet-2b, adversarial at 2/255", "resnet-2b", "weights/cifar10/resnet2b_adv.safetensors", **_CIFAR,
        num_classes=10, source=_CROWN,
    ),
    "squeezenet1_0": Public(
        "SqueezeNet 1.0, Deep Compression", "squeezenet1_0", "weights/squeezenet1_0.safetensors", **_IMAGENET,
        num_classes=1000, source="SqueezeNet v1.0 (Iandola et al.)",
    ),
    "squeezenet1_1": Public(
        "SqueezeNet 1.1", "squeezenet1_1", "weights/squeezenet1_1.safetensors", **_IMAGENET,
        num_classes=1000, source="SqueezeNet v1.1 (Iandola et al.)",
    ),
}  # fmt: skip
CIFAR10 = ("resnet20_natural", "resnet4b_adv", "resnet2b_adv")  # trained on its official pixels


def load(name: str, *, root: Path | str | None = None) -> "models.Wrapped":
    """A network of `PUBLIC` with its weights, from pixels to logits, in eval mode and float32.

    `root` is the folder that its file lies below, `paths.DATA` unless told. Raises ValueError for an unknown name and
    for a file that holds other weights, FileNotFoundError, saying where it is to be had, for one that is not there.
    """
    if name not in PUBLIC:
        raise ValueError(f"unknown network {name!r}; choose one of {', '.join(PUBLIC)}")
    about = PUBLIC[name]
    path = Path(root or paths.DATA) / about.file
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: put the weights of {about.source} there, as safetensors")
    model = models.build(about.arch, about.num_classes, mean=about.mean, std=about.std)
    return load_weights(model, path)


def load_weights(model: "models.Wrapped", path: Path | str) -> "models.Wrapped":
    """`model` with the weights of a safetensors file of the network that it wraps, whatever their precision.

    Raises ValueError naming the file when it is damaged, or holds other names or shapes than the network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); fetch it again") from None
    net = model[1] if len(model) == 2 else model[1:]
    try:
        net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in weights.items()})
    except RuntimeError as error:
        raise ValueError(
            f"{path} holds other weights than this network: {str(error).splitlines()[-1].strip()}"
        ) from None
    return model.eval()


def imagenet(name: str) -> dict[str, Tensor]:
    """The weights that torchvision's network `name` has from ImageNet (IMAGENET1K_V1), in float32, by their keys.

    From weights/<name>.safetensors below `paths.DATA`, else from torch's cache, else from torchvision's address. Raises
    FileNotFoundError, which names both files, where none of them can be had, and ValueError for a damaged file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from torchvision.models import get_model_weights

    path, url = paths.DATA / "weights" / f"{name}.safetensors", get_model_weights(name).IMAGENET1K_V1.url
    cached = Path(hub.get_dir(), "checkpoints", url.rsplit("/", 1)[1])
    try:
        if path.exists():
            return {k: v.float() if v.is_floating_point() else v for k, v in load_file(path).items()}
        return hub.load_state_dict_from_url(url, progress=False, check_hash=True, map_location="cpu", weights_only=True)
    except OSError as error:
        if cached.exists():
            raise
        raise FileNotFoundError(
            f"{path} is not there, nor is {cached}, and {url} cannot be reached ({error}): "
            f"put one of the two there, or train from scratch, with a network that is not -pretrained"
        ) from None
    except (SafetensorError, RuntimeError, EOFError, UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path if path.exists() else cached} is damaged ({reason}); fetch it again") from None
