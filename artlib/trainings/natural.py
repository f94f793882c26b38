"""Natural training: cross-entropy of the images as they are."""

from dataclasses import dataclass

from artlib.trainings.training import Batch, Losses, Training, cross_entropy


@dataclass(frozen=True)
class Natural(Training):
    """min E[L_ce(x)]."""

    name, title, color = "natural", "Natural", "#0072B2"

    def losses(self, batch: Batch) -> Losses:
        """Cross-entropy."""
        return Losses(*cross_entropy(batch))
