"""JARN (Chan et al., ICLR 2020): input gradients that a second network takes for images."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artlib.attacks.balls import Linf
from artlib.models.statistics import frozen
from artlib.settings import Count, NotNegative, Pixels, Share
from artlib.trainings.training import Batch, Losses, Training


@dataclass(frozen=True)
class Jarn(Training):
    """min over f and A, max over D of E[L_ce(x)] + weight (E[log D(x)] + E[log(1 - D(A(J(x))))]), J = grad_x L_ce(x).

    A, the adaptor, is a convolution of 1 x 1 and tanh, D a discriminator; x has uniform noise of eps. From the released
    code (alvinchangw/JARN_ICLR2020, 2f6a6a8): the weight 1, the noise, five convolutions of stride 2 with 32 to 512
    channels and leaky ReLU, the first 7/8 of the training with L_ce alone. It takes the gradient of y's probability for
    J, 4 x 4 filters with batch normalisation, and moves D once in 20 updates. Ours: J as in the paper, each image's J
    and x of mean 0 and variance 1 before the other networks, 3 x 3 filters without batch normalisation and half the
    channels, D and A by Adam at 1e-3 with every update, from the same start in every training.
    """

    name, title, color = "jarn", "JARN", "#999933"

    weight: NotNegative = 1.0  # lambda_adv
    eps: Pixels = 8 / 255  # of the noise
    after: Share = 0.875  # share of the training that is natural
    channels: Count = 16  # of the discriminator's first convolution

    @property
    def passes(self) -> float:
        """An input gradient and its derivatives in the weights, without the other networks."""
        return 8

    def at(self, progress: float) -> "Jarn":
        """Without the other networks' part at first."""
        return self if progress >= self.after else replace(self, weight=0.0)

    def start(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        """The images with their noise, which is all that this training sees of them."""
        return Linf(self.eps).random(x, generator=generator)

    def helper(self, model: nn.Module, x: Tensor) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Adaptor and discriminator, and their optimiser."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            judge = Judge(*x.shape[1:], channels=self.channels)
        judge = judge.to(x)
        return judge, _Waiting(judge.parameters(), lr=1e-3)

    def losses(self, batch: Batch) -> Losses:
        """Cross-entropy and what the discriminator says of the gradients; the helper's is its own and the adaptor's."""
        x = batch.start.detach().requires_grad_()
        logits = batch.model(x.clone())
        each = F.cross_entropy(logits, batch.y, reduction="none")
        if not self.weight:
            nothing = sum(0 * p.sum() for p in batch.helper.parameters())
            zero = torch.zeros_like(each[0])
            return Losses(each.mean(), logits, {"deceived": zero, "judged": zero}, nothing)
        (g,) = torch.autograd.grad(each.sum(), x, create_graph=True)
        deceived = -F.softplus(batch.helper(g)).mean()  # log(1 - D)
        judged = batch.helper.judged(g.detach(), batch.start)
        parts = {"deceived": deceived.detach(), "judged": judged.detach()}
        helper = judged - F.softplus(batch.helper(g.detach(), adapting=True)).mean()
        return Losses(each.mean() + self.weight * deceived, logits, parts, helper)


class _Waiting(torch.optim.Adam):
    """Adam that counts no step while there is nothing to learn: its means would begin with zeros."""

    def step(self, closure=None):
        if any(p.grad is not None and bool(p.grad.any()) for group in self.param_groups for p in group["params"]):
            return super().step(closure)
        return None


class Judge(nn.Module):
    """A discriminator's logit, (N,), that an adapted input gradient is an image."""

    def __init__(self, in_channels: int, height: int, width: int, *, channels: int):
        super().__init__()
        self.adaptor = nn.Sequential(nn.Conv2d(in_channels, in_channels, 1), nn.Tanh())
        sizes, layers = [in_channels, *(channels * 2**i for i in range(5))], []
        for before, after in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.LeakyReLU(0.1)]
            height, width = (height + 1) // 2, (width + 1) // 2
        self.discriminator = nn.Sequential(*layers, nn.Flatten(), nn.Linear(sizes[-1] * height * width, 1))

    def forward(self, g: Tensor, *, adapting: bool = False) -> Tensor:
        """Of input gradients (N, C, H, W); while `adapting` the discriminator's weights take no part in the graph."""
        images = self.adaptor(standardised(g))
        if not adapting:
            return self.discriminator(images)[:, 0]
        with frozen(self.discriminator, training=None):
            return self.discriminator(images)[:, 0]

    def judged(self, g: Tensor, x: Tensor) -> Tensor:
        """What the discriminator minimises, -E[log D(x) + log(1 - D(A(g)))], a scalar without the adaptor's graph."""
        false = self.discriminator(self.adaptor(standardised(g)).detach())
        return F.softplus(false).mean() + F.softplus(-self.discriminator(standardised(x))).mean()


def standardised(v: Tensor) -> Tensor:
    """Each image of v (N, C, H, W) with mean 0 and variance 1; a constant one becomes 0."""
    v = v - v.mean((1, 2, 3), keepdim=True)
    square = v.square().mean((1, 2, 3), keepdim=True)
    return v / square.where(square > 0, 1.0).sqrt()
