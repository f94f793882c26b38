"""A look at a training from outside, once an epoch: does its attack attack the network that will be used?

Both ways in which ART failed here were invisible in its loss. With running statistics inside attack and loss the
optimiser breaks the network at those statistics; with batch statistics the attack exploits what the images of a batch
do to each other, and is harmless to the network that is used. So a fixed batch is attacked as the training attacks, and
the result is looked at under all three `models.STATISTICS`.
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from artlib.data.images import ImageSet
from artlib.models.statistics import STATISTICS, normalised_by
from artlib.trainings.training import Batch, InnerAttack, Training

SHARE = 0.25  # of what the same attack gains with running statistics: less, and the training's own does not attack
MODES_APART = 0.15  # between what the loss raises under the training's statistics and under running ones, relative
LONGER = 3  # times the steps


def probe(training: Training, images: ImageSet, *, dtype: torch.dtype, generator: torch.Generator) -> Batch | None:
    """The batch that is looked at: 16 to 64 images, one in 400, on their device; None where there is no attack."""
    if not isinstance(training, InnerAttack):
        return None
    n = min(len(images), max(16, min(64, len(images) // 400)))
    some = images.subset(torch.randperm(len(images), generator=generator)[:n])
    x = some.images.to(dtype) / 255
    return Batch(nn.Identity(), x, some.labels, training.start(x, generator=generator))


def look(training: InnerAttack, model: nn.Module, batch: Batch) -> dict[str, dict[str, list[float]]]:
    """Per statistics: what the attack raises, its mean, and accuracy, each at four points.

    The points: the start, the end of the training's own attack, the end of one with running statistics, and of one of
    `LONGER` times the steps. The model is not changed.
    """

    def fresh() -> Batch:
        """With the model as it is: batch statistics move the running ones, which the next look would take for its."""
        return replace(batch, model=copy.deepcopy(model).train())

    with torch.random.fork_rng(devices=[batch.x.device] if batch.x.is_cuda else []):  # dropout draws in train mode
        own = training.attacked(fresh())
        running = own
        if training.statistics != "running":
            running = replace(training, statistics="running").attacked(fresh())
        longer = replace(training, steps=LONGER * training.steps).attacked(fresh())
        points = (batch.start, own, running, longer)
        pairs = {s: [_at(training, fresh(), s, x) for x in points] for s in STATISTICS}
    return {s: {"raised": [p[0] for p in each], "accuracy": [p[1] for p in each]} for s, each in pairs.items()}


def _at(training: InnerAttack, batch: Batch, statistics: str, x: Tensor) -> tuple[float, float]:
    with normalised_by(statistics, batch.model, x):
        raised = training.raised(batch, x).mean().item()
        with torch.no_grad():
            return raised, (batch.model(x).argmax(1) == batch.y).double().mean().item()


def warning(training: InnerAttack, found: dict[str, dict[str, list[float]]]) -> str:
    """One sentence when something is wrong, else ""."""
    start, own, running, _ = found["running"]["raised"]
    clean, attacked = found["running"]["accuracy"][:2]
    if running > start and own - start < SHARE * (running - start) and attacked >= clean - 0.05:
        return (
            f"the inner attack ({training.statistics} statistics) hardly attacks the network that will be used: it "
            f"raises its objective by {own - start:.3f}, with running statistics it would by {running - start:.3f}"
        )
    if training.statistics == "running":
        held = found["held"]["raised"][1]
        if abs(held - own) > MODES_APART * max(abs(held), abs(own)):
            return (
                f"the loss speaks of another network: {own:.3f} with the running statistics of this moment, {held:.3f} "
                "with statistics measured on the images themselves"
            )
    return ""
