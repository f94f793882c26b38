"""The worst of several attacks on an attribution with settings of its own."""

from dataclasses import dataclass

from artlib.measurements.attribution_robustness import AttributionRobustness
from artlib.measurements.other_attribution import OtherAttribution
from artlib.measurements.worst_case import WorstCase


@dataclass(frozen=True)
class OtherWorstCase(WorstCase, OtherAttribution):
    """`WorstCase`, and its columns, of attributions that draw, with the settings of `OtherAttribution`."""

    @property
    def attacks(self) -> dict[str, AttributionRobustness]:
        """As of `WorstCase`, on maps with these settings."""
        return {name: OtherAttribution.like(attack, **self._own) for name, attack in super().attacks.items()}
