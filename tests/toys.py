"""What the tests of trainings share: a small task, a quick recipe, and every training there is, small enough to run."""

import sys
from dataclasses import fields, replace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import torch
from torch import nn

from artlib.data import ImageSet
from artlib.models import STATISTICS
from artlib.trainings import TRAININGS, Art, Natural, Pgd, Recipe, Training, fit

fitting = sys.modules[fit.__module__]  # the module, whose name the function has

TINY = dict(
    dataset="toy", arch="wrn-10-1", epochs=2, batch_size=4, lr=0.05, milestones=((1, 0.1),), precision="float64"
)
AUTHORS = Art.of("toy", protocol="authors")


def toy(n: int = 12, *, size: int = 12) -> ImageSet:
    """Noise with a bright red or blue channel, by class."""
    noise = torch.Generator().manual_seed(1)
    labels = torch.arange(n) % 2
    images = torch.randint(0, 100, (n, 3, size, size), generator=noise)
    images[torch.arange(n), 2 * labels] += 150
    return ImageSet(images.to(torch.uint8), labels, ("red", "blue"), name="toy", split="train")


def tiny(training: Training | None = None, **changes: Any) -> Recipe:
    """A recipe for `toy`, natural unless `training` says otherwise."""
    return Recipe(**TINY | dict(training=training or Natural()) | changes)


def train(recipe: Recipe, images: ImageSet, **options) -> tuple[nn.Module, dict]:
    return fit(recipe, images, progress=False, **options)


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(v, w) for v, w in pairs)


def curves(record: dict) -> list[dict[str, float]]:
    """The numbers of every epoch, without what a guard of its attack says."""
    return [{k: v for k, v in entry.items() if isinstance(v, float)} for entry in record["history"]]


def names(kind: type) -> list[str]:
    """The fields of settings."""
    return [f.name for f in fields(kind)]


def each_statistics() -> dict[str, Training]:
    """Every training of `TRAININGS`, by each statistics it can have, and the authors' ART."""
    found = {}
    for name, kind in TRAININGS.items():
        quick = kind.of("toy").eased(steps=2)
        if "statistics" in names(kind):
            found |= {f"{name} {s}": replace(quick, statistics=s) for s in STATISTICS}
        else:
            found[name] = quick
    return found | {"art authors": AUTHORS}


EACH = each_statistics()
OBJECTIVES = {name: kind.of("toy").eased(steps=2) for name, kind in TRAININGS.items()} | {
    "art authors": replace(AUTHORS, attack_cosine_eps=10.0)  # 8 of it bound the norms, 3 do not
}

# What no type tells: a second name, other milestones, another training.
_NAMED = dict(dataset="svhn", arch="wrn-10-1", augment="cifar10", milestones=((1, 0.1),))


def another(settings: Any, name: str) -> Any:
    """A value of the field `name` other than the one that `settings` has, made from its type."""
    now = getattr(settings, name)
    if isinstance(settings, Recipe) and name in _NAMED:
        return _NAMED[name]
    if isinstance(now, Training):
        return Pgd() if isinstance(now, Natural) else Natural()
    hint = get_type_hints(type(settings), include_extras=True)[name]
    if type(None) in get_args(hint):
        hint = next(option for option in get_args(hint) if option is not type(None))
    low = 0
    if get_origin(hint) is Annotated:
        hint, allowed = get_args(hint)[:2]
        low = allowed.low
    if get_origin(hint) is Literal:
        return next(option for option in get_args(hint) if option != now)
    if hint is bool:
        return not now
    if hint is int:
        return int(max(low, 1)) if now is None else now + 1
    if hint is float:
        return now / 2 if now else 0.5
    if hint == tuple[str, ...]:
        return (*now, "another")
    raise AssertionError(f"{type(settings).__name__}.{name}: a {hint} needs a second value in tests/toys.py")
