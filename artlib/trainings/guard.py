"""A look at a training from outside, once an epoch: does its attack attack the network that will be used?

Both ways in which ART failed here were invisible in its loss. With running statistics inside attack and loss the
optimiser breaks the network at those statistics; with batch statistics the attack exploits what the images of a batch
do to each other, and is harmless to the network that is used. So a fixed batch is attacked as the training attacks, and
the result is looked at under all three `models.STATISTICS`.

Its cost, counted in forward passes F: with three steps ART's look is 185 F an image of the probe (attacks of 3, 3 and
9 steps are 6 F a step, 90 F and their start; L_attr and a prediction at 12 points the rest), its update 36 F an image.
Of 10,000 images the probe has 20: 20 x 185 / (10,000 x 36) = 1.0 % of an epoch; of 50,000 it has 64: 0.7 %. PGD-10: 130
and 24 F, 1.1 and 0.7 %. Updates that are compiled take up to half the time, the look is not: then up to twice that. A
probe has 16 images at least, 1.6 % of an epoch of 5,000 and 6.7 % of one of 1,224, whose trainings are short.
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn

from artlib.data.images import ImageSet
from artlib.models.statistics import STATISTICS, normalised_by
from artlib.trainings.training import Batch, InnerAttack, Training

# Of what the same attack gains with running statistics: less, and the training's own does not attack. In what is
# recorded sound trainings (held statistics, and PGD) gain 0.45 of it in every look, those of batch statistics 0.1 to
# 0.5; so it speaks in each of these and in none of those (tests/trainings/test_guard.py).
SHARE = 0.4
SPARED = 0.05  # of the images: if the attack makes more of them fail, it does attack
LAG = 2 / 3  # of the accuracy with held statistics: less with running ones, and these are not yet the network's
BELOW = 0.15  # of what is raised with held statistics: so far below with running ones, the network is broken at those
LONGER = 3  # times the steps


def probe(training: Training, images: ImageSet, *, dtype: torch.dtype, generator: torch.Generator) -> Batch | None:
    """The batch that is looked at: 16 to 64 images, one in 500, on their device; None where there is no attack."""
    if not isinstance(training, InnerAttack):
        return None
    n = min(len(images), max(16, min(64, len(images) // 500)))
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
    """One sentence when something is wrong, else "".

    An attack is judged by the larger gain of two, with running statistics and with held ones, which are what the
    running averages come to: these lag behind the weights, in a sound training, too. Where they lag far, while the rate
    is high, the network of those averages is not the one that will be used, and nothing is said of the attack.
    """
    start, own, running, _ = found["running"]["raised"]
    before, held = found["held"]["raised"][:2]
    lags = found["running"]["accuracy"][0] < LAG * found["held"]["accuracy"][0]
    spared = all(a >= clean - SPARED for clean, a, *_ in (found[s]["accuracy"] for s in ("running", "held")))
    gained, possible = max(own - start, held - before), running - start
    if not lags and spared and possible > 0 and gained < SHARE * possible:
        return (
            f"the inner attack ({training.statistics} statistics) hardly attacks the network that will be used: it "
            f"raises its objective by {gained:.3f}, with running statistics it would by {possible:.3f}"
        )
    if training.statistics == "running" and held - own > BELOW * held:
        return (
            f"the attack and the loss see another network: what the attack raised is {own:.3f} with the running "
            f"statistics of this moment, {held:.3f} with statistics measured on the images themselves"
        )
    return ""
