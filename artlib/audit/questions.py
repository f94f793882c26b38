"""What an audit asks, and a look at every attribution and attack before minutes are spent on one that cannot work."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from artlib.attacks import Linf, Manipulated, targeted
from artlib.attacks.objectives import OBJECTIVES
from artlib.attributions import ATTRIBUTIONS, Explainer, gradient
from artlib.data import ImageSet
from artlib.measurements import Accuracy, AttributionRobustness, Measurement
from artlib.measurements.measurement import floats
from artlib.models import check_batch, check_smooth, frozen
from artlib.progress import bar as progress_bar
from artlib.settings import Count, Pixels, Settings, Whole

TARGETED = "targeted"  # the attack that is no objective of IFIA


def attacks() -> list[str]:
    """The names of attacks that an audit knows: the objectives of IFIA, also those added since, and "targeted"."""
    return [*OBJECTIVES, TARGETED]


@dataclass(frozen=True)
class Targeted(AttributionRobustness):
    """The same measures under `attacks.targeted` (Dombrowski et al. 2019), towards the map itself turned upside down.

    That target has the map's own values and hangs on no other image. `objective`, `beta` and `criterion` mean nothing.
    """

    name, title = "targeted", "Targeted manipulation"

    def attack(self, model: nn.Module, images: ImageSet, *, progress: bool = True) -> Manipulated:
        """`attacks.targeted` in the l_inf ball, with Adam's steps of `step_size`; maps of `ig_steps` points."""
        x, y = floats(model, images)
        explainer, size = self._explainer(), max(1, self.chunk // self.ig_steps)
        maps = [explainer(model, *each).detach() for each in zip(x.split(size), y.split(size), strict=True)]
        options = dict(ball=Linf(self.eps), steps=self.steps, step_size=self.step_size, batch_size=size)
        with progress_bar(len(y), "targeted manipulation", unit="image", shown=progress) as bar:
            target = torch.cat(maps).flip(1, 2)
            return targeted(model, x, y, target, explainer=explainer, progress=bar.update, **options)


@dataclass(frozen=True)
class Questions(Settings):
    """What an audit asks: which explanations under which attacks, how many images, how strong an attack.

    >>> from artlib.audit import Questions
    >>> few = Questions(attributions=("gradient",), objectives=("random", "topk"), images=10, eps=4 / 255)
    >>> Questions(eps=8)
    Traceback (most recent call last):
    ValueError: eps is 8; pixels are in [0, 1] here: write 8/255
    """

    attributions: tuple[str, ...] = ("gradient", "integrated_gradients")
    objectives: tuple[str, ...] = ("random", "topk", "mass_center", TARGETED)
    images: Count = 50  # correctly classified ones that are attacked; accuracy is that of five times as many
    eps: Pixels = 8 / 255
    steps: Whole = 20  # of every attack, of eps / 8 each; random signs are drawn once
    k: Count | None = None  # pixels of the top-k; None: a tenth of the map
    ig_steps: Count = 16
    seed: Whole = 0

    def __post_init__(self) -> None:
        if isinstance(self.eps, int | float) and 1 < self.eps <= 255:
            raise ValueError(f"eps is {self.eps:g}; pixels are in [0, 1] here: write {self.eps:g}/255")
        for name in ("attributions", "objectives"):
            if isinstance(value := getattr(self, name), str):  # one name
                object.__setattr__(self, name, (value,))
        super().__post_init__()
        for name, known in (("attributions", ATTRIBUTIONS), ("objectives", attacks())):
            if not getattr(self, name):
                raise ValueError(f"{name} are empty; choose among {', '.join(known)}")
            for value in getattr(self, name):
                if value not in known:
                    raise ValueError(f"unknown {name[:-1]} {value!r}; choose among {', '.join(known)}")

    def measurements(self, images: ImageSet, pixels: Mapping[str, int] | None = None) -> dict[str, Measurement]:
        """By name: accuracy, and one for every attribution and objective.

        pixels: of each attribution's map, as `check` finds them; those of the image unless told.
        """
        common = dict(eps=self.eps, step_size=self.eps / 8, seed=self.seed)
        maps = dict(images=self.images, ig_steps=self.ig_steps, attack_ig_steps=max(1, self.ig_steps // 2), chunk=64)
        found: dict[str, Measurement] = {"accuracy": Accuracy(images=5 * self.images, steps=self.steps, **common)}
        for attribution in self.attributions:
            size = (pixels or {}).get(attribution, images.images[0, 0].numel())
            kind = dict(attribution=attribution, k=self.k or max(1, size // 10), **maps, **common)
            for objective in self.objectives:
                if objective == TARGETED:
                    found[f"{attribution}, {objective}"] = Targeted(steps=self.steps, **kind)
                    continue
                steps = 1 if objective == "random" else self.steps
                # The distance from the centre of mass has no slope where it is 0: at the image itself.
                start = objective == "mass_center"
                asked = AttributionRobustness(objective=objective, steps=steps, random_start=start, **kind)
                found[f"{attribution}, {objective}"] = asked
        return found

    def check(self, model: nn.Module, images: ImageSet) -> dict[str, int]:
        """How many pixels the map of each attribution has, seen on two images.

        Raises ValueError for what an audit would stumble over later: ReLUs called as functions, an attribution or an
        objective that returns another shape than it should, raises, or cannot be differentiated, and a k larger than
        the map.
        """
        p = next(model.parameters())
        x = images.images[[0, -1]].to(p.device, p.dtype) / 255
        with torch.enable_grad(), frozen(model):
            leaf = x.clone().requires_grad_()
            logits = model(leaf.clone())
        y = logits.detach().argmax(1)
        check_batch(x, y, model)
        if not logits.requires_grad or torch.autograd.grad(logits.sum(), leaf, allow_unused=True)[0] is None:
            raise ValueError(
                "the network's forward runs without gradients, which explanations and attacks are made of: take "
                "torch.no_grad, torch.inference_mode or detach out of it"
            )
        blind = all(o != TARGETED and getattr(OBJECTIVES[o], "blind", False) for o in self.objectives)
        if not blind:
            check_smooth(model, x)
        found = {}
        with frozen(model):
            for attribution in self.attributions:
                maps = _maps(model, x, y, attribution, differentiated=not blind)
                found[attribution] = maps[0].numel()
                if (self.k or 1) > found[attribution]:
                    size = " x ".join(map(str, maps.shape[1:]))
                    raise ValueError(
                        f"k is {self.k}; a map of {attribution} has {size} pixels: choose a smaller k, or none, which "
                        "is a tenth of the map"
                    )
                for objective in self.objectives:
                    if objective != TARGETED:
                        _look(objective, self.k or max(1, maps[0].numel() // 10), maps, model(x), y)
        return found


def _maps(model: nn.Module, x: Tensor, y: Tensor, name: str, *, differentiated: bool) -> Tensor:
    """Maps of two images by an attribution, of one point if it is a sum; ValueError where they cannot be used."""
    explainer, told = Explainer(name), f"attribution {name!r}"
    x = x.clone().requires_grad_()
    options = dict(create_graph=differentiated, points=explainer.parts(len(x), 1)[0])
    found = _tried(told, lambda: explainer.attribution(model, x, y, **options))
    if not isinstance(found, Tensor) or found.ndim != 4 or len(found) != len(x):
        wanted = f"{tuple(x.shape)} for these images, or ({len(x)}, 1, h, w) for a coarser map"
        raise ValueError(f"{told} returns {_kind(found)}; it must return a number for each input value, {wanted}")
    if differentiated and not found.requires_grad and not gradient(model, x, y, create_graph=True).requires_grad:
        raise ValueError(
            f"the network's gradient does not depend on the image, as that of a linear network: {name!r} is the same "
            "for every image, and no attack can move it"
        )
    if differentiated and not found.requires_grad:
        raise ValueError(
            f"{told} cannot be differentiated, and an attack has to: hand create_graph on to what it calls, such as "
            "torch.autograd.grad, and detach nothing"
        )
    return explainer.maps(found, x)


def _look(name: str, k: int, maps: Tensor, logits: Tensor, y: Tensor) -> None:
    """Raise ValueError unless an objective gives one number an image, differentiable in the maps."""
    kind, told = OBJECTIVES[name], f"objective {name!r}"
    objective = kind(k=k) if "k" in inspect.signature(kind).parameters else kind()
    aim = _tried(told, lambda: objective.aim(maps.detach()))
    if not isinstance(aim, Tensor) or aim.shape[:1] != y.shape:
        raise ValueError(f"{told} aims at {_kind(aim)} for {len(y)} maps; aim must return one row an image")
    if objective.blind:
        return
    value = _tried(told, lambda: objective(maps, logits if objective.needs_logits else None, y, aim))
    if not isinstance(value, Tensor) or value.shape != y.shape:
        raise ValueError(f"{told} returns {_kind(value)} for {len(y)} maps; it must return one number an image, (N,)")
    if not value.requires_grad:
        raise ValueError(f"{told} cannot be differentiated in the maps: there is nothing for an attack to climb")


def _tried(told: str, work):
    try:
        return work()
    except (RuntimeError, TypeError, IndexError, AttributeError, NotImplementedError) as error:
        why = (str(error) or type(error).__name__).split("\n")[0]
        raise ValueError(f"{told} fails on two images: {why}") from error


def _kind(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
