"""An attribution with its settings, as one thing that can be stored, compared, attacked and printed."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from artlib import attributions
from artlib.attributions.gradient import check_target
from artlib.attributions.heatmap import heatmap

_GIVEN = ("model", "x", "y", "create_graph", "points", "noise")  # by whoever explains, not by settings


@dataclass(frozen=True, repr=False)
class Explainer:
    """From images to maps: `reduce` of an attribution (N, C, h, w) with `options`, (N, H, W).

    `attribute` is a name in `attributions.ATTRIBUTIONS` or a function (model, x, y, *, create_graph=False); a
    `functools.partial` of one gives its keywords to `options`, a mapping of numbers, names and tuples. `upsample`
    interpolates maps smaller than the image bilinearly to its size. Compares and hashes by value; its repr is the same
    in every process. Raises ValueError for an unknown name, for options that the attribution does not have, and for
    values that it refuses.
    """

    attribute: str | Callable[..., Tensor] = "integrated_gradients"
    options: Mapping[str, object] | tuple[tuple[str, object], ...] = ()
    reduce: Callable[[Tensor], Tensor] = heatmap
    upsample: bool = False

    def __post_init__(self) -> None:
        attribute, options = self.attribute, dict(self.options)
        while isinstance(attribute, partial) and not attribute.args and all(map(_plain, attribute.keywords.values())):
            attribute, options = attribute.func, {**attribute.keywords, **options}
        names = {f: name for name, f in attributions.ATTRIBUTIONS.items()}
        if callable(attribute) and _plain(attribute):
            attribute = names.get(attribute, attribute)
        object.__setattr__(self, "attribute", attribute)
        object.__setattr__(self, "options", tuple(sorted(options.items())))
        if not callable(attribute) and attribute not in attributions.ATTRIBUTIONS:
            names = ", ".join(attributions.ATTRIBUTIONS)
            raise ValueError(f"unknown attribution {attribute!r}; choose one of {names}, or a function")
        self._check_options()

    def _check_options(self) -> None:
        parameters = inspect.signature(self.function).parameters
        allowed = [name for name in parameters if name not in _GIVEN]
        for name, value in self.options:
            if name not in allowed and not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                raise ValueError(f"{_name(self.function)} has no option {name!r}; it has {', '.join(allowed)}")
            if not _plain(value):
                raise ValueError(
                    f"option {name} is a {type(value).__name__}; options are numbers, names and tuples, which can be "
                    "compared: write a function (model, x, y, *, create_graph) that knows it"
                )
        target = dict(self.options).get("target", "logit")
        if "target" in allowed and self.function in attributions.ATTRIBUTIONS.values():
            check_target(target)
        if hasattr(self.function, "count"):
            self.function.count(**dict(self.options))

    @property
    def function(self) -> Callable[..., Tensor]:
        """The attribution itself, without options."""
        return attributions.ATTRIBUTIONS[self.attribute] if isinstance(self.attribute, str) else self.attribute

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, *, create_graph: bool = False, noise: Tensor | None = None
    ) -> Tensor:
        """Maps (N, H, W) of images x (N, C, H, W) for classes y (N,); `noise` as from `self.noise(x)`."""
        return self.maps(self.attribution(model, x, y, create_graph=create_graph, noise=noise), x)

    def attribution(self, model, x, y, *, create_graph=False, noise=None, points=None) -> Tensor:
        """The attribution before it is reduced; of the sum that it is, `points` (first, last) alone."""
        given = {"noise": noise, "points": points}
        given = {name: value for name, value in given.items() if value is not None}
        return self.function(model, x, y, create_graph=create_graph, **given, **dict(self.options))

    def maps(self, attribution: Tensor, x: Tensor) -> Tensor:
        """Maps (N, H, W) of an attribution of x."""
        maps = self.reduce(attribution)
        if self.upsample and maps.shape[1:] != x.shape[2:]:
            maps = F.interpolate(maps[:, None], size=x.shape[2:], mode="bilinear", align_corners=False)[:, 0]
        return maps

    def noise(self, x: Tensor) -> Tensor | None:
        """What the attribution draws for images like x, the same at every call; None where it draws nothing."""
        draw = getattr(self.function, "noise", None)
        return draw(x, **dict(self.options)) if draw else None

    def parts(self, images: int, rows: int) -> list[tuple[int, int] | None]:
        """`points` of parts that add up to the attribution, each of at most `rows` points of so many images."""
        count = self.function.count(**dict(self.options)) if hasattr(self.function, "count") else 1
        size = max(1, rows // max(1, images))
        return [None] if size >= count else [(i, min(i + size, count)) for i in range(0, count, size)]

    def __repr__(self) -> str:
        shown = [_name(self.attribute)] + [f"{name}={_name(value)}" for name, value in self.options]
        shown += [f"reduce={_name(self.reduce)}"] * (self.reduce is not heatmap) + ["upsample=True"] * self.upsample
        return f"Explainer({', '.join(shown)})"


def _plain(value: object) -> bool:
    if isinstance(value, Tensor):
        return False
    try:
        return isinstance(hash(value), int)
    except TypeError:
        return False


def _name(value: object) -> str:
    """As repr, but without addresses: functions by module and name."""
    if isinstance(value, partial):
        options = [*map(_name, value.args), *(f"{k}={_name(v)}" for k, v in sorted(value.keywords.items()))]
        return f"partial({', '.join([_name(value.func), *options])})"
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if callable(value) and type(value).__repr__ is object.__repr__:
        return f"{type(value).__module__}.{type(value).__qualname__}"
    return repr(value)
