"""Accuracy under perturbations that were made on another model (Table 6 of ART)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from artlib.attacks.balls import Linf
from artlib.attacks.pgd import pgd
from artlib.data.images import ImageSet
from artlib.measurements.accuracy import Accuracy
from artlib.measurements.measurement import at_once, floats, predictions, shuffled
from artlib.models.statistics import mode
from artlib.progress import bar as progress_bar


def transfer(
    models: Mapping[str, nn.Module], images: ImageSet, *, attack: Accuracy, progress: bool = True
) -> dict[str, dict[str, Tensor]]:
    """Per model and image, in percent (0 or 100): "natural", and "from_X" under PGD made on model X, itself included.

    `attack` says which images, ball and steps: `presets.measurement(preset, "accuracy", ...)`. All models see the same
    images in one order, and all attacks begin at the same points. An image whose gradient vanished at every step in X
    is NaN in the row of X itself, as in `Accuracy`; to the others it is an image of the ball like any.
    """
    some = images.subset(shuffled(images, attack))
    found = {name: {} for name in models}
    options = dict(ball=Linf(attack.eps), steps=attack.steps, step_size=attack.step_size, report=True)
    options |= dict(restarts=attack.restarts, loss=attack.loss)
    with progress_bar(len(some) * len(models), "transfer", unit="image", shown=progress) as bar:
        for source, model in models.items():
            (x, y), rows = floats(model, some), at_once(attack.rows, some)
            noise, held = torch.Generator().manual_seed(attack.seed), {name: [] for name in models}
            for xb, yb in zip(x.split(rows), y.split(rows), strict=True):
                made = pgd(model, xb, yb, generator=noise, **options)
                for target, other in models.items():
                    right = _right(other, made.x_adv, yb)
                    lost = made.vanished & (target == source) & (attack.steps > 0)
                    held[target].append(right.masked_fill(lost, torch.nan))
                bar.update(len(xb))
            for target in models:
                found[target][f"from_{source}"] = 100 * torch.cat(held[target])
    for name, model in models.items():
        found[name]["natural"] = 100 * (predictions(model, some) == some.labels).double()
    return found


@torch.no_grad()
def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with mode(model):
        return (model(x.to(next(model.parameters()).dtype)).argmax(1) == y).double()
