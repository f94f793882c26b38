"""PGD training (Madry et al. 2018): cross-entropy of the worst image in a ball."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from artlib import compiled
from artlib.attributions.gradient import input_gradient
from artlib.trainings.training import Batch, InnerAttack, Losses, cross_entropy


@dataclass(frozen=True)
class Pgd(InnerAttack):
    """min E[max over the ball of L_ce(x_adv)]; the steps are those of ART's appendix A.3, on CUB of B.1.

    The paper names MadryLab/cifar10_challenge for CIFAR-10, SVHN and Flower; its attack takes batch statistics. "held"
    in `paper` is our choice, so that PGD and ART are attacked alike. "authors" has no PGD training: its switches are
    laid over this one. MNIST and Fashion-MNIST are not in it: theirs are Chen et al.'s (DIFFERENCES.md).
    """

    name, title, color = "pgd", "PGD", "#E69F00"
    published = {
        "svhn": dict(steps=7, step_size=2.5 / 255),
        "gtsrb": dict(steps=7, step_size=2 / 255),
        "flower17": dict(steps=7, step_size=2.5 / 255),
        "cub200": dict(steps=7, step_size=0.5 / 255),
        "mnist": dict(steps=40, step_size=0.01),
        "fashion_mnist": dict(steps=20, step_size=0.01),
    }
    protocols = {"paper": dict(statistics="held"), "authors": dict(statistics="batch")}

    @property
    def label(self) -> str:
        """pgd-10 for ten steps."""
        return f"pgd-{self.steps}"

    def attacked(self, batch: Batch) -> Tensor:
        """Ascent on the cross-entropy."""

        def gradient(x_adv: Tensor) -> Tensor:
            options = dict(target="loss", compile=batch.compile)
            return compiled.call(input_gradient, batch.model, x_adv, batch.y, **options)

        with self.attacking(batch):
            return self.ascend(gradient, batch)

    def raised(self, batch: Batch, x_adv: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(batch.model(x_adv), batch.y, reduction="none")

    def losses(self, batch: Batch) -> Losses:
        """Cross-entropy at the end of the attack."""
        return Losses(*cross_entropy(batch, self.attacked(batch)))
