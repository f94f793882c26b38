"""ADL (Choe and Shim, CVPR 2019): cross-entropy of a network that may not lean on its strongest places alone."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from artlib.models import adl
from artlib.settings import Share
from artlib.trainings.training import Batch, Losses, Training


@dataclass(frozen=True)
class Adl(Training):
    """min E[L_ce(x)] of the network with `models.adl` behind three of its layers; the network is used without it.

    At each update every layer either drops its strongest places, with probability `drop_rate`, or weights all by their
    attention. Rate, threshold and positions: clovaai/wsolevaluation's. ART's rows (Table 2) say no more than that.
    """

    name, title, color = "adl", "ADL", "#661100"

    drop_rate: Share = adl.RATE
    threshold: Share = adl.THRESHOLD
    layers: tuple[str, ...] = ()  # names of the network's modules; none: `models.adl.positions`

    def start(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        """What decides which layers drop, (N, layers): the same for all images of an update."""
        return torch.rand(1, len(self.layers) or adl.COUNT, generator=generator).expand(len(x), -1)

    def losses(self, batch: Batch) -> Losses:
        """Cross-entropy under ADL."""
        layers = self.layers or adl.positions(batch.model, batch.x)
        drops = (batch.start[0] < self.drop_rate).tolist()[: len(layers)]
        with adl.adl(batch.model, layers, drops, threshold=self.threshold):
            logits = batch.model(batch.x)
        return Losses(F.cross_entropy(logits, batch.y), logits)
