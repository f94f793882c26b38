"""Training losses: natural, PGD and ART, with every difference between ART's text and its code as a named field."""

from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artlib import compiled
from artlib.attacks import Linf, ascend, gradient_of
from artlib.attributions import input_gradient, score
from artlib.models import Normalize, check_batch, frozen, smooth


@dataclass(frozen=True)
class ArtSettings:
    """The constants of ART; a field's remark names its place in the text or in the facts' list of differences."""

    weight: float = 0.5  # lambda of Eq. 6, section 4.1.2
    beta: float = 50.0  # softplus sharpness, section 4.1.2
    attack_steps: int = 3  # a of Algorithm 1
    step_size: float = 1.5 / 255  # C-1: the code uses 5/255
    attack_topk: int | None = None  # C-2, C-13: input values the attack's cosine sees, chosen by the ReLU gradient
    mining: bool = False  # C-3: x and x_adv, each with the harder of g(x) and g(x_adv), instead of x_adv alone
    anchor: str = "pixels"  # C-4, C-5: the image in the cosine, as "pixels" or "normalized"
    loss_gradient: str = "pixels"  # C-4: gradient of the loss with respect to "pixels" or "normalized" values
    train_mode: bool = False  # C-10, C-11: batch statistics and dropout inside the attack and L_attr
    negative: str = "clean"  # C-12: i* from the ReLU logits of "clean" x, or from softplus logits of the point itself
    threshold: float | None = None  # C-14: above beta x = threshold softplus is linear
    attack_cosine_eps: float = 0.0  # C-15: floor of the norms' product in the attack, for gradients of a mean
    loss_cosine_eps: float = 0.0  # C-15: added to the norms in the loss, likewise


ART_SETTINGS = {
    "paper": ArtSettings(),
    "authors": ArtSettings(
        step_size=5 / 255,
        attack_topk=1000,
        mining=True,
        anchor="normalized",
        loss_gradient="normalized",
        train_mode=True,
        negative="surrogate",
        threshold=20.0,
        attack_cosine_eps=1e-6,
        loss_cosine_eps=1e-8,
    ),
}


def art_settings(protocol: str, **changes) -> ArtSettings:
    """The settings of `protocol` "paper" (ART's text) or "authors" (its code), with `changes`; ValueError otherwise."""
    if protocol not in ART_SETTINGS:
        raise ValueError(f"unknown protocol {protocol!r}; choose one of {', '.join(ART_SETTINGS)}")
    return replace(ART_SETTINGS[protocol], **changes)


def runner_up(logits: Tensor, y: Tensor) -> Tensor:
    """i* = argmax over i != y of f(x)_i (ART, Eq. 5), (N,)."""
    return logits.scatter(1, y[:, None], -torch.inf).argmax(1)


def cosine_distance(g: Tensor, x: Tensor, *, floor: float = 0.0, added: float = 0.0) -> Tensor:
    """d(g, x) = 1 - g.x / (||g|| ||x||) (ART, Eq. 5), (N,) in [0, 2]; d = 1 where g or x is 0.

    `floor` bounds the product of the norms from below, `added` is added to each norm (facts C-15).
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
        logits = model(x)
        negative = runner_up(logits.detach(), y) if negative is None else negative
        (positive,) = torch.autograd.grad(score(logits, y).sum(), x, create_graph=True)
        return positive, torch.autograd.grad(score(logits, negative).sum(), x, create_graph=True)[0]


def _pixel_scale(model: nn.Module) -> tuple[Tensor | float, Tensor | float]:
    first = next((m for m in model.modules() if isinstance(m, Normalize)), None)
    return (0.0, 1.0) if first is None else (first.mean, first.std)


def _triplet(model, x, y, s: ArtSettings, negative, *, loss: bool, mask=None, batch: int | None = None) -> Tensor:
    mean, std = _pixel_scale(model)
    positive, other = _gradients(model, x, y, negative)
    if loss and s.loss_gradient == "normalized":
        positive, other = positive * std, other * std  # chain rule: x = mean + std * normalised x
    anchor = (x - mean) / std if s.anchor == "normalized" else x
    if mask is not None:
        anchor, positive, other = anchor * mask, positive * mask, other * mask
    if s.attack_cosine_eps or s.loss_cosine_eps:  # set for gradients of a mean over the batch, 1 / N of ours
        positive, other = positive / (batch or len(x)), other / (batch or len(x))
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
    protocol: str = "paper",
    x_adv: Tensor | None = None,
    negative: Tensor | None = None,
) -> Tensor:
    """L_attr of ART, Eq. 5, per image: log(1 + exp(-(d(g^i*(x), x) - d(g^y(x), x)))), d the cosine distance.

    g^i = d f_i / d x of the softplus_beta surrogate; i* = argmax over i != y of f(x)_i, or `negative` (N,) if given.
    x (N, C, H, W) in [0, 1]; y (N,). Returns (N,), between log(1 + exp(-2)) and log(1 + exp(2)); lower is better.
    With protocol="authors" x and x_adv (default x) are both anchors, each is compared with the gradients at both, the
    harder one counts, and the two losses are averaged (facts C-3). i* of the clean x comes from the model in eval mode,
    L_attr from its present mode. Differentiable in x and in the weights. Raises ValueError for bad images, labels or
    names.
    """
    settings = art_settings(protocol, beta=beta)
    check_batch(x, y, model)
    if negative is None and settings.negative == "clean":
        with torch.no_grad(), frozen(model):
            negative = runner_up(model(x), y)
    return attribution_loss(model, x if x_adv is None else x_adv, y, settings=settings, clean=x, negative=negative)


def attribution_loss(
    model, x_adv, y, *, settings: ArtSettings, clean=None, negative=None, batch: int | None = None
) -> Tensor:
    """`art_loss` for given settings, without its checks and in the model's present mode."""
    s = settings
    if s.mining:
        batch = 2 * (batch or len(x_adv))
        x_adv, y = torch.cat([clean, x_adv]), torch.cat([y, y])
        negative = None if negative is None else torch.cat([negative, negative])
    x_adv = x_adv if x_adv.requires_grad else x_adv.detach().requires_grad_()
    with smooth(model, s.beta, threshold=s.threshold):
        return _triplet(model, x_adv, y, s, negative, loss=True, batch=batch)


def _attack_gradient(model, x_adv, y, negative, mask, *, settings: ArtSettings, batch: int | None) -> Tensor:
    s = settings
    with smooth(model, s.beta, threshold=s.threshold):
        return gradient_of(lambda z: _triplet(model, z, y, s, negative, loss=False, mask=mask, batch=batch), x_adv)


def art_attack(
    model, x, y, *, settings: ArtSettings, eps: float, start: Tensor, negative=None, batch=None, compile=False
) -> Tensor:
    """The inner maximisation of Eq. 6: from `start`, x_adv in the l_inf ball that raises L_attr (Algorithm 1)."""
    s, mask = settings, None
    with frozen(model, training=s.train_mode):
        if s.attack_topk is not None:  # C-2, C-13: chosen once, at the start, by the ReLU network
            g = input_gradient(model, start, y)
            size = g.abs().flatten(1)
            top = size.topk(min(s.attack_topk, size.shape[1])).indices
            mask = torch.zeros_like(size, dtype=torch.bool).scatter_(1, top, True).view(g.shape)

        def gradient(x_adv: Tensor) -> Tensor:
            constants = dict(settings=s, batch=batch, compile=compile)
            return compiled.call(_attack_gradient, model, x_adv, y, negative, mask, **constants)

        return ascend(gradient, x, start=start, ball=Linf(eps), steps=s.attack_steps, step_size=s.step_size)


def pgd_attack(
    model, x, y, *, eps: float, start: Tensor, steps: int, step_size: float, train_mode: bool, compile: bool = False
) -> Tensor:
    """The inner maximisation of PGD training (Madry et al. 2018): from `start`, cross-entropy in the l_inf ball."""
    with frozen(model, training=train_mode):
        gradient = partial(compiled.call, input_gradient, model, target="loss", compile=compile)
        return ascend(
            lambda x_adv: gradient(x_adv, y), x, start=start, ball=Linf(eps), steps=steps, step_size=step_size
        )


def natural_step(model: nn.Module, x: Tensor, y: Tensor, *, compile: bool = False) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the batch, a scalar, and its logits."""
    return compiled.loss(_cross_entropy, model, x, y, compile=compile)


def _cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    logits = model(x)
    return F.cross_entropy(logits, y), logits


def art_step(
    model, x, y, *, settings: ArtSettings, eps: float, start: Tensor, batch: int | None = None, compile: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """L_ce(x_adv) + lambda L_attr(x_adv) (ART, Eq. 6), a scalar; L_attr alone; the ReLU logits of x_adv.

    `batch` is the number of images when x is a part of them; `compile` hands both halves to torch's compiler.
    """
    s, negative = settings, None
    if s.negative == "clean":
        with torch.no_grad(), frozen(model, training=s.train_mode):
            negative = runner_up(model(x), y)
    shared = dict(settings=s, batch=batch, compile=compile)
    x_adv = art_attack(model, x, y, eps=eps, start=start, negative=negative, **shared)
    return compiled.loss(_art_losses, model.train(), x, y, x_adv, negative, **shared)


def _art_losses(model, x, y, x_adv, negative, *, settings: ArtSettings, batch) -> tuple[Tensor, Tensor, Tensor]:
    s = settings

    def alignment() -> Tensor:
        model.train(s.train_mode)
        return attribution_loss(model, x_adv, y, settings=s, clean=x, negative=negative, batch=batch).mean()

    # Both move the running statistics in train mode, L_attr first in the code (C-11). In eval mode the graph of L_attr
    # holds on to them, so cross-entropy moves them before.
    attr = alignment() if s.train_mode else None
    ce, logits = _cross_entropy(model.train(), x_adv, y)
    attr = alignment() if attr is None else attr
    model.train()
    return ce + s.weight * attr, attr, logits
