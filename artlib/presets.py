"""The one table that says what the presets mean: `smoke` to `paper`, one code path, only numbers differ."""

from artlib import data
from artlib.data import ImageSet
from artlib.evaluation import Evaluation, paper_evaluation
from artlib.training import TRAININGS, Recipe, paper_recipe

PRESETS = ("smoke", "quick", "cpu", "gpu", "paper")
CPU_PRESETS = ("smoke", "quick", "cpu")
PROTOCOLS = ("paper", "authors")

# Images by (train, test): how many are loaded; None is all of them.
LIMITS = {"smoke": (64, 128), "quick": (2000, 1000), "cpu": (None, None), "gpu": (None, None), "paper": (None, None)}

TRAINING = {
    # nbval, CI: double precision, so that every machine prints the same digits; its numbers mean nothing.
    "smoke": dict(
        arch="wrn-10-1", epochs=1, batch_size=16, lr=0.05, schedule="cosine", pgd_steps=2, precision="float64"
    ),
    # A first look on a CPU, minutes a training: a 10-layer WideResNet, one learning-rate cycle.
    "quick": dict(arch="wrn-10-1", epochs=6, batch_size=32, lr=0.1, schedule="one-cycle", pgd_steps=7),
    # The recorded reference of those without a GPU: all images, the paper's attacks, an hour or two on two cores.
    "cpu": dict(arch="wrn-10-1", epochs=3, batch_size=128, lr=0.1, schedule="one-cycle"),
    # A shortened reproduction on one GPU.
    "gpu": dict(arch="wrn-16-4", epochs=30, batch_size=256, lr=0.2, schedule="one-cycle"),
    "paper": dict(),
}
EVALUATION = {
    "smoke": dict(images=8, k=50, steps=3, ig_steps=4, attack_ig_steps=4, accuracy_images=50, pgd_steps=3),
    "quick": dict(images=64, steps=15, ig_steps=16, attack_ig_steps=8, accuracy_images=300),
    "cpu": dict(images=500, ig_steps=16, attack_ig_steps=8, accuracy_images=1000),
    "gpu": dict(),
    "paper": dict(),
}
QUICK_SIZE = {"flower17": 64, "cub200": 64}  # pixels; at 128 an update costs 16 times as much as at 32


def check(
    preset: str, *, protocol: str = "paper", dataset: str = "blossoms", seed: int = 0, device: str = "auto"
) -> None:
    """Raise one clear ValueError when a notebook's parameters have a wrong name or type."""
    for name, value, kind in (
        ("preset", preset, str),
        ("protocol", protocol, str),
        ("dataset", dataset, str),
        ("seed", seed, int),
        ("device", device, str),
    ):
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}, a {type(value).__name__}; it must be of type {kind.__name__}")
    for name, value, allowed in (("preset", preset, PRESETS), ("protocol", protocol, PROTOCOLS)):
        if value not in allowed:
            raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(allowed)}")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or larger")


def image_size(preset: str, dataset: str) -> int | None:
    """The images' side in pixels, None for the data set's own."""
    if preset == "smoke":
        return 28
    return QUICK_SIZE.get(dataset) if preset == "quick" else None


def images(preset: str, split: str, *, dataset: str) -> ImageSet:
    """A split of a data set as the preset wants it: image size and number of images."""
    check(preset, dataset=dataset)
    limit = LIMITS[preset][0 if split == "train" else 1]
    return data.load(dataset, split, size=image_size(preset, dataset), limit=limit)


def recipe(preset: str, training: str, *, dataset: str, protocol: str = "paper", seed: int = 0) -> Recipe:
    """The recipe of one training at a preset. Raises ValueError for unknown names."""
    check(preset, protocol=protocol, dataset=dataset, seed=seed)
    if training not in TRAININGS:
        raise ValueError(f"unknown training {training!r}; choose one of {', '.join(TRAININGS)}")
    if dataset == "cub200" and preset not in CPU_PRESETS:
        raise ValueError(
            "no recipe for cub200 yet: ART trains ResNet-50 and VGG on it (Table 2); use smoke, quick or cpu"
        )
    published = paper_recipe(dataset, training, protocol=protocol)
    changes = dict(TRAINING[preset])
    if preset in CPU_PRESETS:
        changes |= dict(size=image_size(preset, dataset), limit=LIMITS[preset][0], augment=None, per_class=None)
    if preset == "gpu":
        changes |= dict(epochs=min(changes["epochs"], published.epochs))
    if "pgd_steps" in changes:  # fewer steps, as far as CIFAR-10's ten go: 2.5 eps
        changes |= dict(pgd_step_size=2.5 * published.eps / changes["pgd_steps"])
    return paper_recipe(dataset, training, protocol=protocol, seed=seed, **changes)


def recipes(preset: str, *, dataset: str, protocol: str = "paper", seed: int = 0) -> dict[str, Recipe]:
    """The recipes of all trainings, by the key of their row in Table 1."""
    return {t: recipe(preset, t, dataset=dataset, protocol=protocol, seed=seed) for t in TRAININGS}


def evaluation(preset: str, *, dataset: str, protocol: str = "paper", seed: int = 0) -> Evaluation:
    """The evaluation at a preset; k follows the area where the preset shrinks the images."""
    check(preset, protocol=protocol, dataset=dataset, seed=seed)
    changes = EVALUATION[preset] | dict(seed=seed)
    if preset in CPU_PRESETS:
        changes |= dict(rows=64)  # activations that fit a CPU's cache: a quarter faster than 400
    if preset == "quick" and dataset in QUICK_SIZE:
        changes |= dict(k=250, images=40)  # 1000 of 128 x 128 pixels
    return paper_evaluation(dataset, protocol=protocol, **changes)
