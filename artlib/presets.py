"""The one table that says what the presets mean: `smoke` to `paper`, one code path, only numbers differ.

What a preset makes cheaper inside a measurement stands in its `presets`, beside its settings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from artlib import data, models
from artlib.attributions import ATTRIBUTIONS
from artlib.data import ImageSet
from artlib.measurements import MEASUREMENTS, Measurement
from artlib.models import public
from artlib.trainings import PROTOCOLS, Recipe, Training, paper_recipe
from artlib.trainings.ig_norm import RECIPES as RAR_RECIPES
from artlib.trainings.late import LATE, late
from artlib.trainings.recipe import find

PRESETS = ("smoke", "quick", "cpu", "gpu", "paper")
CPU_PRESETS = ("smoke", "quick", "cpu")
TABLE1 = ("natural", "pgd", "art")  # rows of Table 1 that every data set has
MEASURED = ("attribution_robustness", "accuracy")  # what its columns are made of

# Images by (train, test): how many are loaded; None is all of them.
LIMITS = {"smoke": (64, 128), "quick": (2000, 1000), "cpu": (None, None), "gpu": (None, None), "paper": (None, None)}
CPU_LIMITS = {"mnist": (10_000, None), "fashion_mnist": (10_000, None)}

RECIPES: dict[str, dict[str, Any]] = {
    # nbval, CI: double precision, so that every machine prints the same digits; its numbers mean nothing.
    "smoke": dict(arch="wrn-10-1", epochs=1, batch_size=16, lr=0.05, schedule="cosine", precision="float64"),
    # A first look on a CPU, minutes a training: a 10-layer WideResNet that halves the images first, one cycle.
    "quick": dict(arch="wrn-10-2-half", epochs=12, batch_size=32, lr=0.2, schedule="one-cycle"),
    # The recorded reference of those without a GPU: all images, the paper's attacks, an hour or two on two cores.
    "cpu": dict(arch="wrn-10-1", epochs=3, batch_size=128, lr=0.1, schedule="one-cycle"),
    # A shortened reproduction on one GPU.
    "gpu": dict(arch="wrn-16-4", epochs=30, batch_size=256, lr=0.2, schedule="one-cycle"),
    "paper": dict(),
}
# B.1's learning rate and weight decay, with which public ImageNet weights are fine-tuned at the CPU presets, too.
FINE_TUNED = dict(lr=0.01, weight_decay=1e-4)
PLAIN = dict(optimizer="adam", lr=1e-3)  # of Chen et al.'s networks, rar-..., there: they have no batch normalisation
# Of their ResNets at `cpu`. In batches of 64 and six epochs of 2,500 images of GTSRB natural training ends at 22 %, PGD
# and IG-NORM at chance, and in batches of 16 PGD still does. So it takes more updates, and an attack that begins late.
RAR_RESNET = dict(batch_size=16, epochs=15)
RAR_RESNET_LATE = dict(natural=0.6, warmup=0.9)
# Of their networks at `gpu` and `paper`: Chen et al.'s recipes for all other trainings, too, on Flower17 at the rate
# that natural and PGD training have there; on data sets that they do not have their batches and rate alone.
RAR_PUBLISHED = {name: found | dict(lr=1e-2) for name, found in RAR_RECIPES.items()}
RAR_ELSEWHERE = dict(batch_size=64, lr=1e-2)
# Of squeezenet-small at `cpu`: three epochs of 4,000 flowers in batches of 128 leave it at 52 %, these at 89 %.
SMALL_SQUEEZENET = dict(batch_size=32, epochs=6)
# At `cpu`, where a data set is smaller or has a network of its own.
CPU_RECIPES: dict[str, dict[str, Any]] = {
    "gtsrb": dict(epochs=6, batch_size=64),
    "flower17": dict(arch="wrn-10-2-half", epochs=24, batch_size=32),
    "mnist": dict(arch="rar-cnn", epochs=6, batch_size=64),
    "fashion_mnist": dict(arch="rar-cnn", epochs=6, batch_size=64),
    "cub200": dict(arch="squeezenet1_1-pretrained", epochs=10, batch_size=32),
}
CPU_IMAGES = 300  # that are attacked, of the data sets above
# As published it takes an hour a model and more. Of MNIST and Fashion-MNIST half of the 100 steps, which still reach
# every point of the ball; of CUB's 128 pixels fewer images, too, with the k of Flower17, of the same size.
CPU_ATTACKED = {
    "mnist": dict(images=CPU_IMAGES, steps=50),
    "fashion_mnist": dict(images=CPU_IMAGES, steps=50),
    "cub200": dict(images=60, steps=10, ig_steps=8, attack_ig_steps=4, k=1000),
}
ATTACK_STEPS = {"smoke": 2, "quick": 7, "cpu": 10}  # of a training's inner attack, at most
WARMUP = 0.5  # share of a `quick` training in which its ball grows: with the whole ball at once PGD learns nothing
CPU_WARMUP = ("mnist", "fashion_mnist")  # where it does at `cpu`, too
# Where one training of a fine-tuned network needs settings of its own: attacked from the first update on, SqueezeNet
# gives every image the same logits, and the loss stays at log 50, by SGD and Adam, with a growing ball and without.
# ART, whose attack leaves the prediction alone, learns, and ends at half of the others' accuracy.
CPU_ALONE: dict[tuple[str, str], dict[str, Any]] = {
    ("cub200", "pgd"): dict(optimizer="adam", lr=3e-4, epochs=15),
    ("cub200", "art"): dict(optimizer="adam", lr=3e-4, epochs=15),
    ("flower17", "pgd"): dict(optimizer="adam", lr=3e-4),
}
BEGIN_LATE = dict(natural=0.4, warmup=0.6)  # shares of these trainings: no attack before, the whole ball after
SMALL_SIZE = {"flower17": 64, "cub200": 64}  # pixels, at quick and cpu; at 128 an update costs 16 times one at 32
CPU_SIZE = {"cub200": 128}  # at cpu; 224 pixels cost three times as much
# At gpu and paper images of 256 pixels, squashed, of which networks see 224: a random window in training, the middle in
# tests, with the box carried through (B.1 names no sizes; Choe et al. 2020 train so).
CROPPED = {"cub200": (256, 224)}
# B.1, with the released code's layer4 of stride 1 (C-41).
CUB = FINE_TUNED | dict(
    arch="resnet50-stride1-pretrained", epochs=200, batch_size=128, augment="cub200-224",
    milestones=((60, 0.1), (120, 0.1), (180, 0.1)),
)  # fmt: skip
CUB_ART = dict(batch_size=90, milestones=((40, 0.1), (80, 0.1), (120, 0.1), (160, 0.1)))
THRESHOLD_IMAGES = {"smoke": 200, "quick": 200}  # training images on which a box's or a mask's threshold is chosen
LENS_ATTACKS: dict[str, dict[str, Any]] = {  # that LENS compares, as changes of `AttributionRobustness`
    "random": dict(objective="random", steps=1),
    "mass centre": dict(objective="mass_center"),
    "top-k": dict(objective="topk"),
    "LENS-aware": dict(objective="lens"),
}
SMALL_SIZE_K = 250  # of a measurement of these: 1000 of 128 x 128 pixels


def check(
    preset: str,
    *,
    dataset: str = "blossoms",
    seeds: Sequence[int] = (),
    trainings: Sequence[str] = (),
    arch: str | None = None,
    counts: Mapping[str, int | None] | None = None,
    explanations: Sequence[str] = (),
    attacks: Sequence[str] = (),
    needed: Sequence[str] = (),
    **others: Any,
) -> None:
    """Raise one clear ValueError when a notebook's parameters have a wrong name or type.

    counts: by name, such as limit, epochs and images, None or a positive integer. attacks: names in `LENS_ATTACKS`;
    needed: those that have to be among them. others: protocol, seed, device.
    Raises FileNotFoundError for a folder:PATH that is not there.
    """
    for name, value in (counts or {}).items():
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            kind = type(value).__name__
            raise ValueError(f"{name} is {value!r}, a {kind}; it must be an integer, 1 or more, or None: the preset's")
    if arch is not None:
        if not isinstance(arch, str):
            raise ValueError(
                f"arch is {arch!r}, a {type(arch).__name__}; it must be of type str, or None: the preset's"
            )
        models.find(arch)
    for seed in _list("seeds", seeds):
        _check_names(preset, dataset=dataset, seed=seed)
    _check_names(preset, dataset=dataset, **others)
    for training in _list("trainings", trainings):
        find(training)
    for explanation in _list("explanations", explanations):
        if explanation not in ATTRIBUTIONS:
            raise ValueError(f"unknown explanation {explanation!r}; choose some of {', '.join(ATTRIBUTIONS)}")
    for attack in _list("attacks", attacks):
        if attack not in LENS_ATTACKS:
            raise ValueError(f"unknown attack {attack!r}; choose some of {', '.join(LENS_ATTACKS)}")
    if missing := [a for a in needed if a not in attacks]:
        raise ValueError(f"attacks is {list(attacks)}; {' and '.join(missing)} must be among them")
    data.check(dataset)


def _check_names(preset: str, *, dataset: str, protocol: str = "paper", seed: int = 0, device: str = "auto") -> None:
    for name, value, kind in (
        ("preset", preset, str),
        ("protocol", protocol, str),
        ("dataset", dataset, str),
        ("device", device, str),
        ("seed", seed, int),
    ):
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}, a {type(value).__name__}; it must be of type {kind.__name__}")
    for name, value, allowed in (("preset", preset, PRESETS), ("protocol", protocol, PROTOCOLS)):
        if value not in allowed:
            raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(allowed)}")
    if not dataset.startswith("folder:"):  # settings for a folder need no folder; loading its images does
        data.check(dataset)
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or larger")


def _list(name: str, values: Any) -> Sequence:
    if not isinstance(values, list | tuple):
        way = "papermill takes one with -y 'seeds: [0, 1]'"
        raise ValueError(f"{name} is {values!r}, a {type(values).__name__}; it must be a list ({way})")
    return values


def photographs_or_blossoms(dataset: str, *, network: str) -> str:
    """`dataset`; for imagenet_samples whose photographs or weights of `network` are missing "blossoms", and says so."""
    if dataset == "imagenet_samples":
        try:
            data.load(dataset, "test", limit=1)
            public.load(network)
        except FileNotFoundError as missing:
            print(f"No ImageNet: {missing}. A small SqueezeNet trained on blossoms takes its place.")
            return "blossoms"
    return dataset


def given(**parameters: Any) -> dict[str, Any]:
    """Those of a notebook's parameters that are not None, as `changes` of its recipes: None is the preset's own."""
    return {name: value for name, value in parameters.items() if value is not None}


def image_size(preset: str, dataset: str) -> int | None:
    """The images' side in pixels, None for the data set's own."""
    if preset == "smoke":
        return 28
    small = SMALL_SIZE | CPU_SIZE if preset == "cpu" else SMALL_SIZE
    return small.get(dataset) if preset in ("quick", "cpu") else None


def limits(preset: str, dataset: str) -> tuple[int | None, int | None]:
    """At most how many images are loaded, (train, test); None is all of them."""
    return CPU_LIMITS.get(dataset, LIMITS[preset]) if preset == "cpu" else LIMITS[preset]


def images(
    preset: str,
    split: str,
    *,
    dataset: str,
    limit: int | None = None,
    size: int | None = None,
    protocol: str = "paper",
) -> ImageSet:
    """A split of a data set as the preset wants it: image size and number of images, at most `limit`.

    size: the images' side in pixels, None for the preset's; a recipe for them has the same as a change, `size=`.
    protocol: by "authors" the boxes of the test images that are cut out (`CROPPED`) are carried as in the released code
    (C-39); nothing else depends on it. Raises ValueError for unknown names.
    """
    _check_names(preset, dataset=dataset, protocol=protocol)
    limit = limit or limits(preset, dataset)[0 if split == "train" else 1]
    if size or preset in CPU_PRESETS or dataset not in CROPPED:
        return data.load(dataset, split, size=size or image_size(preset, dataset), limit=limit)
    whole, seen = CROPPED[dataset]
    found = data.load(dataset, split, size=whole, limit=limit)
    if split == "train":
        return found
    cut = data.window(found, seen)
    if protocol != "authors":
        return cut
    return replace(cut, boxes=data.crop.carried_as_released(found.boxes, whole=whole, size=seen).float())


def threshold_images(preset: str, train: ImageSet) -> int | None:
    """On how many training images, at most, a threshold of boxes or masks is chosen; None: on all."""
    return min(THRESHOLD_IMAGES[preset], len(train)) if preset in THRESHOLD_IMAGES else None


def recipe(
    preset: str, training: str | Training, *, dataset: str, protocol: str = "paper", seed: int = 0, **changes: Any
) -> Recipe:
    """The recipe of one training, a name in `TRAININGS` or its settings, at a preset, with `changes`.

    Raises ValueError for unknown names.

    >>> from artlib import presets
    >>> recipe = presets.recipe("quick", "art", dataset="blossoms", epochs=3)
    >>> recipe.arch, recipe.epochs, recipe.training.weight
    ('wrn-10-2-half', 3, 0.5)
    """
    _check_names(preset, protocol=protocol, dataset=dataset, seed=seed)
    if not isinstance(training, Training):
        training = find(training).of(dataset, protocol=protocol)
    values = dict(RECIPES[preset])
    begin = {}
    if preset == "cpu":
        values |= CPU_RECIPES.get(dataset, {})
    if preset in CPU_PRESETS:
        values = dict(optimizer=Recipe.optimizer, weight_decay=Recipe.weight_decay) | values
        arch = changes.get("arch", values["arch"])
        if arch.startswith("rar-"):
            values |= PLAIN
        if arch.startswith("rar-resnet") and preset == "cpu":
            values |= RAR_RESNET
            begin = RAR_RESNET_LATE
        if arch == "squeezenet-small" and preset == "cpu":
            values |= SMALL_SQUEEZENET | CPU_RECIPES.get(dataset, {})
        if arch.endswith("-pretrained"):
            alone = CPU_ALONE.get((dataset, training.name), {}) if preset == "cpu" else {}
            values |= FINE_TUNED | alone
            begin = BEGIN_LATE if alone else {}
        values |= dict(size=image_size(preset, dataset), limit=limits(preset, dataset)[0], augment=None, per_class=None)
    elif dataset == "cub200":
        of_art = CUB_ART if training.name == "art" else {}
        values = {**CUB, **of_art, **{k: v for k, v in values.items() if k in ("epochs", "schedule")}}
    elif preset == "gpu":
        published = paper_recipe(dataset, training, protocol=protocol)
        shorter = dict(epochs=min(values["epochs"], published.epochs), schedule=values["schedule"])
        values = values | shorter if published.arch.startswith("wrn") else shorter
    if preset not in CPU_PRESETS and changes.get("arch", "").startswith("rar-"):
        values |= _as_chen_et_al(training, dataset=dataset, most=values.get("epochs"))
    grows = preset == "quick" or (preset == "cpu" and dataset in CPU_WARMUP)
    training = training.eased(steps=ATTACK_STEPS.get(preset), warmup=WARMUP if grows else None)
    if begin and type(training) in LATE:
        training = late(training, **begin)
    return paper_recipe(dataset, training, protocol=protocol, seed=seed, **values | changes)


def _as_chen_et_al(training: Training, *, dataset: str, most: int | None) -> dict[str, Any]:
    """Their recipe, of at `most` so many epochs, for a training whose published one is for another network."""
    if dataset == "cub200" or paper_recipe(dataset, training).arch.startswith("rar-"):
        return {}
    found = RAR_PUBLISHED.get(dataset, RAR_ELSEWHERE)
    return found | ({"epochs": min(most, found["epochs"])} if most and "epochs" in found else {})


def recipes(
    preset: str,
    *,
    dataset: str,
    trainings: Sequence[str] = TABLE1,
    protocol: str = "paper",
    seed: int = 0,
    **changes: Any,
) -> dict[str, Recipe]:
    """The recipes of several trainings, by name, all with the same `changes`."""
    return {t: recipe(preset, t, dataset=dataset, protocol=protocol, seed=seed, **changes) for t in trainings}


def measurement(
    preset: str,
    name: str,
    *,
    dataset: str,
    protocol: str = "paper",
    seed: int = 0,
    images: int | None = None,
    **changes: Any,
) -> Measurement:
    """A measurement of `MEASUREMENTS` at a preset, with `changes`. Raises ValueError for unknown names.

    images: None is the preset's number.

    >>> from artlib import presets
    >>> m = presets.measurement("quick", "attribution_robustness", dataset="cifar10", steps=5)
    >>> m.images, m.steps, m.k, round(255 * m.eps)
    (64, 5, 100, 8)
    """
    _check_names(preset, protocol=protocol, dataset=dataset, seed=seed)
    if name not in MEASUREMENTS:
        raise ValueError(f"unknown measurement {name!r}; choose one of {', '.join(MEASUREMENTS)}")
    kind, small = MEASUREMENTS[name], {}
    if (
        dataset in SMALL_SIZE
        and image_size(preset, dataset) == SMALL_SIZE[dataset]
        and "k" in {f.name for f in fields(kind)}
    ):
        small = dict(k=SMALL_SIZE_K)
    if preset == "cpu" and dataset in CPU_RECIPES and name == "attribution_robustness":
        small = small | CPU_ATTACKED.get(dataset, dict(images=CPU_IMAGES))
    number = {} if images is None else {"images": images}
    return kind.of(dataset, protocol=protocol, preset=preset, **{"seed": seed, **small, **number, **changes})


def measurements(
    preset: str,
    *,
    dataset: str,
    names: Sequence[str] = MEASURED,
    protocol: str = "paper",
    seed: int = 0,
    images: int | None = None,
) -> dict[str, Measurement]:
    """Several measurements by name; those of Table 1 unless told otherwise. images: None is the preset's number."""
    return {n: measurement(preset, n, dataset=dataset, protocol=protocol, seed=seed, images=images) for n in names}
