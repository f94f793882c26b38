"""Targeted manipulation of explanations: the map becomes that of another image, the prediction stays."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from artlib import metrics
from artlib.attacks.ascend import Watched, ascend, check_attack, gradient_of
from artlib.attacks.balls import Ball, Box
from artlib.attacks.explanation import KEPT, MISCLASSIFIED, NO_GRADIENT, NO_STEP, Manipulated
from artlib.attacks.steppers import Adam, Stepper
from artlib.attributions import Explainer
from artlib.models import check_batch, check_smooth, checked, frozen, smooth

BETAS = (10.0, 100.0)  # of the surrogate, at the first and the last step


def growing(first: float, last: float, steps: int) -> Callable[[int], float]:
    """Softplus betas that grow exponentially from `first`, at step 0, to `last`, at the last of `steps`."""
    return lambda step: first * (last / first) ** (step / max(1, steps - 1))


def shuffled_targets(maps: Tensor, *, generator: torch.Generator) -> Tensor:
    """Each map (N, H, W) is the target of another image: a random cycle through all, so that none is its own."""
    order = torch.randperm(len(maps), generator=generator).to(maps.device)
    targets = torch.empty_like(maps)
    targets[order] = maps[order.roll(1)]
    return targets


def targeted(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    target_maps: Tensor,
    *,
    explainer: Explainer | None = None,
    ball: Ball | None = None,
    steps: int = 1500,
    step_size: float = 2e-4,
    beta: float | Callable[[int], float] | tuple[float, float] = BETAS,
    weight: float = 1e11,
    keep_weight: float = 1e6,
    stepper: Stepper | None = None,
    batch_size: int = 25,
    progress: Callable[[int], None] | None = None,
) -> Manipulated:
    """Dombrowski et al. 2019: lowers weight MSE(h(x_adv), target) + keep_weight MSE(p(x_adv), p(x)).

    h: maps of sum 1, by default of integrated gradients of the logit (theirs are of the softmax) with 30 right
    endpoints; p: the softmax; at x_adv both of the softplus surrogate, at x of the model itself. The surrogate's `beta`
    grows exponentially from its first to its last value (without it second derivatives are 0). Steps are Adam's
    (`stepper`), and `ball` is the pixel range alone unless given: attacks.Linf(eps) binds it. The last iterate counts;
    where it changes the prediction, the last one that did not. target_maps (N, H, W) of any sum; `step_size` in pixel
    units. Returns what `ifia` does: maps of the model itself, kept_step, status; images that the model misclassifies,
    and those whose map is constant or not finite, are not attacked. Raises ValueError for bad images, labels, settings,
    and targets that are not finite, negative, or of another shape than the maps.
    """
    ball, stepper = ball or Box(), stepper or Adam()
    check_attack(ball=ball, steps=steps, step_size=step_size)
    check_batch(x, y, model)
    explainer = explainer or Explainer("integrated_gradients", dict(steps=30))
    betas = growing(*beta, steps) if isinstance(beta, tuple) else beta if callable(beta) else lambda _: beta
    _check_targets(target_maps, len(x))
    parts, size = [], max(1, batch_size)
    with frozen(model), checked():
        check_smooth(model, x)
        for batch in zip(x.detach().split(size), y.split(size), _unit(target_maps).split(size), strict=True):
            loop = dict(ball=ball, steps=steps, step_size=step_size, stepper=stepper)
            parts.append(_attack(model, *batch, explainer, betas, (weight, keep_weight), loop))
            if progress:
                progress(len(batch[0]))
    return Manipulated.concatenate(parts)


def _attack(model, x, y, target, explainer, betas, weights, loop) -> Manipulated:
    before = explainer(model, x, y).detach()
    if before.shape != target.shape:
        raise ValueError(f"target_maps are {tuple(target.shape[1:])}, the explainer's {tuple(before.shape[1:])}")
    with torch.no_grad():
        logits = model(x.clone())
    p, correct, step = logits.softmax(1), logits.argmax(1) == y, -1  # probabilities can tie where logits do not
    flat = before.flatten(1)
    seen = flat.isfinite().all(1) & (flat != flat[:, :1]).any(1)  # as in `ifia`: a constant map has no order
    best = Manipulated(
        x_adv=x.clone(),
        before=before,
        after=before.clone(),
        kendall=torch.where(correct & seen, 1.0, torch.nan).double(),
        kept_step=torch.full((len(x),), -1, device=x.device),
        status=torch.where(correct, torch.where(seen, NO_STEP, NO_GRADIENT), MISCLASSIFIED),
    )

    def raised(x_adv: Tensor) -> Tensor:
        maps = explainer(model, x_adv, y, create_graph=True)
        far = (_unit(maps) - target).square().flatten(1).mean(1)
        moved = (model(x_adv.clone()).softmax(1) - p).square().mean(1)
        return -(weights[0] * far + weights[1] * moved)

    def gradient(x_adv: Tensor) -> Tensor:
        nonlocal step
        step += 1
        with smooth(model, betas(step)):
            return gradient_of(raised, x_adv)

    def visit(at: int, x_adv: Tensor) -> None:
        with torch.no_grad():
            kept = correct & (model(x_adv.clone()).argmax(1) == y) & (at > 0)
        best.x_adv[kept], best.kept_step[kept], best.status[kept] = x_adv[kept], at, KEPT

    watched = Watched(gradient)
    ascend(watched, x, visit=visit, **loop)
    kept, lost = best.status == KEPT, correct & watched.vanished(x)
    if kept.any():
        best.after[kept] = explainer(model, best.x_adv[kept], y[kept]).detach()
        best.kendall[kept] = metrics.kendall(best.before[kept], best.after[kept]).to(best.kendall)
    best.kendall[lost], best.status[lost] = torch.nan, NO_GRADIENT
    return best


def _check_targets(maps: Tensor, count: int) -> None:
    if maps.ndim != 3 or len(maps) != count or not (maps.isfinite().all() and (maps >= 0).all()):
        raise ValueError(f"target_maps are {tuple(maps.shape)}; give one finite, non-negative (H, W) for each image")


def _unit(maps: Tensor) -> Tensor:
    """The same maps with a sum of 1."""
    total = maps.sum((1, 2), keepdim=True)
    return maps / total.where(total > 0, 1.0)
