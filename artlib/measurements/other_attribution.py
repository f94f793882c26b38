"""IN and K of an attribution with settings of its own: noise, draws, baselines (Table 4 of ART)."""

import inspect
from dataclasses import dataclass, fields

from artlib.attributions import ATTRIBUTIONS
from artlib.attributions.explainer import Explainer
from artlib.measurements.attribution_robustness import AttributionRobustness
from artlib.settings import NotNegative, Pixels


@dataclass(frozen=True)
class OtherAttribution(AttributionRobustness):
    """`AttributionRobustness`, and its columns, of attributions that draw: GradSHAP, SmoothGrad.

    The paper gives none of their settings. The draws are the points of the fields `ig_steps`, of the map that is
    scored, and `attack_ig_steps`, of the attacked one; the attribution's own seed makes them the same for every image,
    before the attack and after it. Raises ValueError, beside what `AttributionRobustness` does, without a baseline, and
    for a setting that the attribution has not.
    """

    sigma: NotNegative | None = None  # standard deviation of the noise, in pixel units; None: the attribution's own
    baselines: tuple[Pixels, ...] | None = None  # grey levels that GradSHAP draws from; None: black alone

    @classmethod
    def like(cls, asked: AttributionRobustness, **changes) -> "OtherAttribution":
        """With the settings of another measurement and `changes`."""
        return cls(**{field.name: getattr(asked, field.name) for field in fields(asked)} | changes)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baselines == ():
            raise ValueError("baselines is (); it must be None or hold a grey level at least, such as (0.0, 0.5)")
        allowed = inspect.signature(ATTRIBUTIONS[self.attribution]).parameters
        for setting, value in self._own.items():
            if setting not in allowed:
                raise ValueError(f"{setting} is {value!r}, which {self.attribution} has not; leave it None")

    @property
    def _own(self) -> dict[str, object]:
        settings = {"sigma": self.sigma, "baselines": self.baselines}
        return {name: value for name, value in settings.items() if value is not None}

    def _explainer(self, **changes) -> Explainer:
        draws = changes.get("steps", self.ig_steps)
        return super()._explainer(**{"draws": draws} | self._own | changes)
