"""TRADES (Zhang et al. 2019): clean cross-entropy, and a prediction that stays in a ball."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artlib import compiled
from artlib.attacks.ascend import gradient_of
from artlib.settings import NotNegative
from artlib.trainings.pgd import Pgd
from artlib.trainings.training import Batch, InnerAttack, Losses


@dataclass(frozen=True)
class Trades(InnerAttack):
    """min E[L_ce(x) + weight max over the ball of KL(p(x) || p(x_adv))], p the softmax of the logits (their Eq. 5).

    Neither paper has it. Radius, steps and the uniformly random start are those of PGD training here (the released code
    starts from a small normal noise); the weight is the one that Zhang et al. use on CIFAR-10.
    """

    name, title, color = "trades", "TRADES", "#CC79A7"
    published = Pgd.published
    protocols = Pgd.protocols

    weight: NotNegative = 6.0  # 1 / lambda

    def attacked(self, batch: Batch) -> Tensor:
        """Ascent on the divergence."""
        with self.attacking(batch):
            with torch.no_grad():
                clean = batch.model(batch.x).log_softmax(1)

            def gradient(x_adv: Tensor) -> Tensor:
                return compiled.call(_attack_gradient, batch.model, x_adv, clean, compile=batch.compile)

            return self.ascend(gradient, batch)

    def raised(self, batch: Batch, x_adv: Tensor) -> Tensor:
        """KL(p(x) || p(x_adv))."""
        return _divergence(*(batch.model(v).log_softmax(1) for v in (batch.x, x_adv)))

    def losses(self, batch: Batch) -> Losses:
        """Clean cross-entropy and the divergence at the end of the attack."""
        x_adv = self.attacked(batch)
        options = dict(weight=self.weight, compile=batch.compile)
        total, divergence, logits = compiled.loss(_losses, batch.model, batch.x, batch.y, x_adv, **options)
        return Losses(total, logits, {"KL": divergence})


def _divergence(clean: Tensor, attacked: Tensor) -> Tensor:
    """KL(p || q) per image, (N,), of log probabilities (N, classes)."""
    return F.kl_div(attacked, clean, reduction="none", log_target=True).sum(1)


def _attack_gradient(model: nn.Module, x_adv: Tensor, clean: Tensor) -> Tensor:
    return gradient_of(lambda z: _divergence(clean, model(z).log_softmax(1)), x_adv)


def _losses(model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, *, weight: float) -> tuple[Tensor, Tensor, Tensor]:
    logits = model(x)
    divergence = _divergence(logits.log_softmax(1), model(x_adv).log_softmax(1)).mean()
    return F.cross_entropy(logits, y) + weight * divergence, divergence, logits
