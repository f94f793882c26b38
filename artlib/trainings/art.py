"""ART (Singh et al., ECCV 2020): images aligned with their input gradients, with every difference between the text and
the released code as a named field. "C-3" in a remark is row C-3 of DIFFERENCES.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artlib import compiled
from artlib.attacks.ascend import gradient_of
from artlib.attributions.gradient import input_gradient, score
from artlib.models.door import check_batch
from artlib.models.statistics import frozen, normalised_by
from artlib.models.surrogate import check_smooth, smooth
from artlib.settings import Count, NotNegative, Positive, Whole
from artlib.trainings.training import PROTOCOLS, Batch, InnerAttack, Losses, _cross_entropy


@dataclass(frozen=True)
class Art(InnerAttack):
    """min E[L_ce(x_adv) + lambda L_attr(x_adv)], x_adv = argmax over the ball of L_attr (ART, Eq. 6, Algorithm 1).

    L_attr is `art_loss`, Eq. 5. The defaults are the text's.
    """

    name, title, color = "art", "ART", "#009E73"
    published = {"cub200": dict(step_size=1.5 / 255, channels="mean")}  # B.1
    released = {"cub200": dict(beta=1.0, attack_topk=15_000, channels="magnitude")}  # C-29, C-33, C-34
    protocols = {
        "paper": dict(statistics="held"),
        "authors": dict(
            step_size=5 / 255,
            attack_topk=1000,
            mining=True,
            anchor="normalized",
            loss_gradient="normalized",
            statistics="batch",
            negative="surrogate",
            threshold=20.0,
            attack_cosine_eps=1e-6,
            loss_cosine_eps=1e-8,
        ),
    }

    steps: Whole = 3  # a of Algorithm 1
    step_size: NotNegative = 1.5 / 255  # C-1: the code uses 5/255
    # statistics, inherited: of the attack and of L_attr (C-11; with "batch" dropout is on, too, C-10)
    weight: NotNegative = 0.5  # lambda of Eq. 6, section 4.1.2
    beta: Positive = 50.0  # softplus sharpness, section 4.1.2
    attack_topk: Count | None = None  # C-2, C-13: input values the attack's cosine sees, chosen by the ReLU gradient
    mining: bool = False  # C-3: x and x_adv, each with the harder of g(x) and g(x_adv), instead of x_adv alone
    anchor: Literal["pixels", "normalized"] = "pixels"  # C-4, C-5: the image in the cosine
    loss_gradient: Literal["pixels", "normalized"] = "pixels"  # C-4: what the loss is differentiated by
    channels: Literal["all", "mean", "magnitude"] = "all"  # C-34: the cosine of all values, or of means over channels
    negative: Literal["clean", "surrogate"] = "clean"  # C-12: i* from f(x), or from softplus logits of the point itself
    threshold: Positive | None = None  # C-14: above beta x = threshold softplus is linear
    attack_cosine_eps: NotNegative = 0.0  # C-15: floor of the norms' product in the attack, for gradients of a mean
    loss_cosine_eps: NotNegative = 0.0  # C-15: added to the norms in the loss, likewise

    @property
    def passes(self) -> float:
        """An ascent step is a backward pass through two input gradients: 6 F."""
        return 12 + 6 * self.steps

    def losses(self, batch: Batch) -> Losses:
        """L_ce + lambda L_attr at the end of the attack; ValueError for a network whose ReLUs escape the surrogate."""
        check_smooth(batch.model, batch.x)
        negative = self._negative(batch)
        x_adv = self.attacked(batch, negative)
        options = dict(settings=self._of_loss, whole=batch.whole, compile=batch.compile)
        total, attr, logits = compiled.loss(self._function, batch.model, batch.x, batch.y, x_adv, negative, **options)
        return Losses(total, logits, {"L_attr": attr})

    @property
    def _function(self) -> Callable:
        """What makes the loss of a model, its batch, x_adv and i*: one that can be compiled."""
        return _losses

    def _negative(self, batch: Batch) -> Tensor | None:
        """i* of the clean images; None where it is that of the attacked ones."""
        if self.negative != "clean":
            return None
        with torch.no_grad(), self.attacking(batch):
            return runner_up(batch.model(batch.x), batch.y)

    def raised(self, batch: Batch, x_adv: Tensor) -> Tensor:
        """L_attr of the attacked images, Eq. 5."""
        with torch.no_grad():
            negative = runner_up(batch.model(batch.x), batch.y)
        settings = replace(self._of_loss, mining=False, loss_cosine_eps=0.0)
        return attribution_loss(batch.model, x_adv, batch.y, settings=settings, negative=negative)

    @property
    def _of_loss(self) -> "Art":
        """What a recorded graph depends on: not the ball, which may grow, nor the loop in it."""
        return replace(self, eps=Art.eps, steps=Art.steps, step_size=Art.step_size)

    def attacked(self, batch: Batch, negative: Tensor | None = None) -> Tensor:
        """Ascent on L_attr; `negative` (N,) are the classes i*, if they are there already."""
        negative = self._negative(batch) if negative is None else negative
        with self.attacking(batch):
            mask = None if self.attack_topk is None else _mask(batch, self)

            def gradient(x_adv: Tensor) -> Tensor:
                options = dict(settings=self._of_loss, whole=batch.whole, compile=batch.compile)
                return compiled.call(_attack_gradient, batch.model, x_adv, batch.y, negative, mask, **options)

            return self.ascend(gradient, batch)


def _mask(batch: Batch, s: Art) -> Tensor:
    """The k values that the attack's cosine sees, chosen once, at the start, by the ReLU network (C-2, C-13)."""
    g = _over_channels(input_gradient(batch.model, batch.start, batch.y), s.channels)
    size = g.abs().flatten(1)
    top = size.topk(min(s.attack_topk, size.shape[1])).indices
    return torch.zeros_like(size, dtype=torch.bool).scatter_(1, top, True).view(g.shape)


def runner_up(logits: Tensor, y: Tensor) -> Tensor:
    """i* = argmax over i != y of f(x)_i (ART, Eq. 5), (N,)."""
    return logits.scatter(1, y[:, None], -torch.inf).argmax(1)


def cosine_distance(g: Tensor, x: Tensor, *, floor: float = 0.0, added: float = 0.0) -> Tensor:
    """d(g, x) = 1 - g.x / (||g|| ||x||) (ART, Eq. 5), (N,) in [0, 2]; d = 1 where g or x is 0.

    `floor` bounds the product of the norms from below, `added` is added to each norm (DIFFERENCES.md, C-15).
    """
    g, x = g.flatten(1), x.flatten(1)
    norms = (_norm(g) + added) * (_norm(x) + added)
    return 1 - (g * x).sum(1) / norms.clamp_min(floor)


def _norm(v: Tensor) -> Tensor:
    # A root's derivative at 0 is infinite: one image whose gradient is 0 must not blow up its batch.
    square = v.square().sum(1)
    return square.where(square > 0, 1.0).sqrt()


def _gradients(model: nn.Module, x: Tensor, y: Tensor, negative: Tensor | None) -> tuple[Tensor, Tensor]:
    """g^y(x) and g^{i*}(x), both with their graph; i* from these logits when `negative` is None."""
    with torch.enable_grad():
        logits = model(x.clone())  # a first layer may work in place
        negative = runner_up(logits.detach(), y) if negative is None else negative
        (positive,) = torch.autograd.grad(score(logits, y).sum(), x, create_graph=True)
        return positive, torch.autograd.grad(score(logits, negative).sum(), x, create_graph=True)[0]


def _pixel_scale(model: nn.Module, s: Art) -> tuple[Tensor | float, Tensor | float]:
    """Mean and standard deviation that `model` normalises by, where these settings ask for them."""
    if "normalized" not in (s.anchor, s.loss_gradient):
        return 0.0, 1.0
    if not hasattr(model, "normalization"):
        raise ValueError(
            f"anchor {s.anchor!r} and loss_gradient {s.loss_gradient!r} need the model's mean and standard deviation, "
            f"which {type(model).__name__} does not tell: give models.wrap(net, mean, std)"
        )
    return model.normalization.mean, model.normalization.std


def _over_channels(v: Tensor, channels: str) -> Tensor:
    """An image or gradient (N, C, H, W) as the cosine sees it."""
    if channels == "all":
        return v
    return (v.abs() if channels == "magnitude" else v).mean(1, keepdim=True)


def _triplet(model, x, y, s: Art, negative, *, loss: bool, mask=None, whole: int | None = None) -> Tensor:
    mean, std = _pixel_scale(model, s)
    positive, other = _gradients(model, x, y, negative)
    if loss and s.loss_gradient == "normalized":
        positive, other = positive * std, other * std  # chain rule: x = mean + std * normalised x
    anchor = (x - mean) / std if s.anchor == "normalized" else x
    anchor, positive, other = (_over_channels(v, s.channels) for v in (anchor, positive, other))
    if mask is not None:
        anchor, positive, other = anchor * mask, positive * mask, other * mask
    if s.attack_cosine_eps or s.loss_cosine_eps:  # set for gradients of a mean over the batch, 1 / N of ours
        positive, other = positive / (whole or len(x)), other / (whole or len(x))
    if loss and s.mining:
        return _mined(anchor, positive, other, added=s.loss_cosine_eps)
    constants = dict(added=s.loss_cosine_eps) if loss else dict(floor=s.attack_cosine_eps)
    far, near = (cosine_distance(g, anchor, **constants) for g in (other, positive))
    return F.softplus(near - far)


def _mined(anchor: Tensor, positive: Tensor, other: Tensor, *, added: float) -> Tensor:
    """Rows are [x, x_adv]; for each: the larger d(., g^y) and the smaller d(., g^i*) of g(x) and g(x_adv) (C-3)."""

    def pairs(g: Tensor) -> Tensor:
        return torch.stack([cosine_distance(h.repeat(2, 1, 1, 1), anchor, added=added) for h in g.chunk(2)])

    losses = F.softplus(pairs(positive).amax(0) - pairs(other).amin(0))
    return losses.unflatten(0, (2, -1)).mean(0)


def art_loss(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    beta: float = 50.0,
    protocol: str = "text",
    x_adv: Tensor | None = None,
    negative: Tensor | None = None,
) -> Tensor:
    """L_attr of ART, Eq. 5, per image: log(1 + exp(-(d(g^i*(x), x) - d(g^y(x), x)))), d the cosine distance.

    g^i = d f_i / d x of the softplus_beta surrogate; i* = argmax over i != y of f(x)_i, or `negative` (N,) if given.
    x (N, C, H, W) in [0, 1]; y (N,). Returns (N,), between log(1 + exp(-2)) and log(1 + exp(2)); lower is better.
    With protocol="authors" x and x_adv (default x) are both anchors, each is compared with the gradients at both, the
    harder one counts, and the two losses are averaged (DIFFERENCES.md, C-3). i* of the clean x comes from the model
    in eval mode, L_attr from its present mode. Differentiable in x and in the weights. Raises ValueError for bad
    images, labels or names.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    settings = Art(**Art.protocols.get(protocol, {}) | dict(beta=beta))
    check_batch(x, y, model)
    check_smooth(model, x)
    if negative is None and settings.negative == "clean":
        with torch.no_grad(), frozen(model):
            negative = runner_up(model(x.clone()), y)
    return attribution_loss(model, x if x_adv is None else x_adv, y, settings=settings, clean=x, negative=negative)


def attribution_loss(model, x_adv, y, *, settings: Art, clean=None, negative=None, whole: int | None = None) -> Tensor:
    """`art_loss` for given settings, without its checks and in the model's present mode."""
    s = settings
    if s.mining:
        whole = 2 * (whole or len(x_adv))
        x_adv, y = torch.cat([clean, x_adv]), torch.cat([y, y])
        negative = None if negative is None else torch.cat([negative, negative])
    x_adv = x_adv if x_adv.requires_grad else x_adv.detach().requires_grad_()
    with smooth(model, s.beta, threshold=s.threshold):
        return _triplet(model, x_adv, y, s, negative, loss=True, whole=whole)


def _attack_gradient(model, x_adv, y, negative, mask, *, settings: Art, whole: int | None) -> Tensor:
    s = settings
    with smooth(model, s.beta, threshold=s.threshold):
        return gradient_of(lambda z: _triplet(model, z, y, s, negative, loss=False, mask=mask, whole=whole), x_adv)


def _losses(model, x, y, x_adv, negative, *, settings: Art, whole: int | None) -> tuple[Tensor, Tensor, Tensor]:
    s = settings

    def alignment() -> Tensor:
        with normalised_by(s.statistics, model, x_adv):
            return attribution_loss(model, x_adv, y, settings=s, clean=x, negative=negative, whole=whole).mean()

    # With batch statistics both move the running ones, L_attr first in the code (C-11). Else the graph of L_attr holds
    # on to the running ones, so cross-entropy moves them before.
    attr = alignment() if s.statistics == "batch" else None
    ce, logits = _cross_entropy(model, x_adv, y)
    attr = alignment() if attr is None else attr
    return ce + s.weight * attr, attr, logits
