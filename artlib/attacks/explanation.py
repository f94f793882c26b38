"""Attacks on the explanation: the prediction stays, the attribution map does not."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from artlib import compiled, metrics
from artlib.attacks.ascend import ascend, check_attack, gradient_of
from artlib.attacks.balls import Ball
from artlib.attributions import heatmap, integrated_gradients
from artlib.models import check_batch, checked, frozen, smooth

KEPT, NO_STEP, MISCLASSIFIED = 0, 1, 2
STATUS = ("kept", "no label-preserving step", "misclassified before")
SELECTIONS = ("kendall", "kendall-on-topk")


@dataclass(frozen=True)
class Manipulated:
    """What an attribution attack found, one row an image.

    x_adv (N, C, H, W); before, after (N, H, W) heat maps of x and x_adv; kendall (N,) their rank correlation;
    kept_step (N,) the iterate that was kept, -1 if none; status (N,) index into STATUS. An image without a kept
    iterate has x_adv = x, after = before, kendall = 1: count it as 1.0 (Chen et al.) or drop it (facts C-23).
    """

    x_adv: Tensor
    before: Tensor
    after: Tensor
    kendall: Tensor
    kept_step: Tensor
    status: Tensor

    @staticmethod
    def concatenate(parts: list["Manipulated"]) -> "Manipulated":
        """The records of several batches as one."""
        return Manipulated(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Manipulated)))


def ifia(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    k: int,
    ball: Ball,
    steps: int,
    step_size: float,
    objective: str = "topk",
    attribution: Callable[..., Tensor] = integrated_gradients,
    surrogate_attribution: Callable[..., Tensor] | None = None,
    beta: float = 50.0,
    threshold: float | None = None,
    selection: str = "kendall",
    candidates: str = "after",
    random_start: bool = False,
    generator: torch.Generator | None = None,
    batch_size: int = 50,
    compile: bool | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manipulated:
    """Iterative feature importance attack, top-k variant (Ghorbani et al. 2019; Chen et al. 2019; facts §2).

    Ascends -sum over S_k(x) of heatmap(x_adv), the map of the softplus_beta surrogate, with `ball.direction` steps.
    Of the iterates that keep the prediction y, the one with the smallest Kendall correlation to the map of x is kept;
    maps that are compared come from the ReLU network itself. Images that the model misclassifies are not attacked.

    x (N, C, H, W) in [0, 1]; y (N,); eps and `step_size` in pixel units. `attribution(model, x, y, create_graph=...)`
    makes the maps, `surrogate_attribution` (default the same) those that are attacked. `selection` "kendall" compares
    whole maps, "kendall-on-topk" maps that are 0 outside S_k(x) (C-21). `candidates` "after" are the iterates
    1..steps, "before" 0..steps-1 (C-22). `progress(n)` is called with the number of images done. `compile` None means
    torch's compiler where that pays. Raises ValueError for bad images, labels, settings, names, and for k larger than
    the map.
    """
    check_attack(ball=ball, steps=steps, step_size=step_size)
    for name, value, allowed in (
        ("objective", objective, ("topk",)),
        ("selection", selection, SELECTIONS),
        ("candidates", candidates, ("after", "before")),
    ):
        if value not in allowed:
            raise ValueError(f"unknown {name} {value!r}; choose one of {', '.join(allowed)}")
    check_batch(x, y, model)
    height, width = x.shape[2:]
    if not 1 <= k <= height * width:
        raise ValueError(f"k is {k}; a {height}x{width} map has 1 to {height * width} pixels to choose from")
    options = dict(k=k, ball=ball, steps=steps, step_size=step_size, attribution=attribution, beta=beta)
    surrogate_attribution = surrogate_attribution or attribution
    options |= dict(surrogate_attribution=surrogate_attribution, threshold=threshold)
    options |= dict(selection=selection, candidates=candidates, random_start=random_start, generator=generator)
    parts = []
    with frozen(model):
        if compile is None and len(x):
            passes = _passes(surrogate_attribution, model, x[:1], y[:1])
            compile = compiled.pays(model, x, passes=steps * len(x) * passes)
        options |= dict(compile=compile, batch_size=batch_size)
        with checked():
            for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
                parts.append(_ifia_batch(model, xb, yb, **options))
                if progress:
                    progress(len(xb))
    return Manipulated.concatenate(parts)


def _passes(attribution, model, x, y) -> int:
    """Forward passes that the arithmetic of a map's gradient amounts to: reverse over reverse is four a point."""
    points = []
    handle = model.register_forward_pre_hook(lambda _, inputs: points.append(len(inputs[0])))
    try:
        attribution(model, x, y)
    finally:
        handle.remove()
    return 4 * sum(points)


def _map(model, x, y, *, attribution) -> Tensor:
    return heatmap(attribution(model, x, y)).detach()


def _topk_gradient(model, x, y, focus, *, attribution, beta, threshold) -> Tensor:
    """Gradient of -sum over `focus` of the surrogate's heat map."""

    def objective(x_adv: Tensor) -> Tensor:
        with smooth(model, beta, threshold=threshold):
            maps = heatmap(attribution(model, x_adv, y, create_graph=True))
        return -(maps * focus).sum((1, 2))

    return gradient_of(objective, x)


def _ifia_batch(
    model,
    x,
    y,
    *,
    attribution,
    surrogate_attribution,
    k,
    beta,
    threshold,
    selection,
    candidates,
    compile,
    batch_size,
    **loop,
) -> Manipulated:
    # One shape: another would be compiled anew.
    before = compiled.call(_map, model, x, y, attribution=attribution, compile=compile and len(x) == batch_size)
    top = metrics.topk_mask(before, k)
    with torch.no_grad():
        logits = model(x)
        correct = logits.argmax(1) == y
    best = Manipulated(
        x_adv=x.clone(),
        before=before,
        after=before.clone(),
        kendall=torch.ones(len(x), dtype=torch.float64, device=x.device),
        kept_step=torch.full((len(x),), -1, device=x.device),
        status=torch.where(correct, NO_STEP, MISCLASSIFIED),
    )
    rows = correct.nonzero()[:, 0]
    if not len(rows):
        return best
    steps, focus, yr = loop["steps"], top[rows], y[rows]

    compile = compile and len(rows) == batch_size

    def gradient(x_adv: Tensor) -> Tensor:
        constants = dict(attribution=surrogate_attribution, beta=beta, threshold=threshold)
        return compiled.call(_topk_gradient, model, x_adv, yr, focus, compile=compile, **constants)

    def visit(step: int, x_adv: Tensor) -> None:
        if step == (0 if candidates == "after" else steps):
            return
        with torch.no_grad():
            preserved = model(x_adv).argmax(1) == yr
        after = compiled.call(_map, model, x_adv, yr, attribution=attribution, compile=compile)
        pair = (before[rows], after) if selection == "kendall" else (before[rows] * focus, after * focus)
        tau = metrics.kendall(*pair).to(best.kendall)
        # NaN, a constant map, is never smaller; 1e-12, as a map's correlation with itself may round to less than 1.
        better = preserved & (tau < best.kendall[rows] - 1e-12)
        chosen = rows[better]
        best.x_adv[chosen], best.after[chosen] = x_adv[better], after[better]
        best.kendall[chosen], best.kept_step[chosen], best.status[chosen] = tau[better], step, KEPT

    ascend(gradient, x[rows], visit=visit, **loop)
    if selection != "kendall":  # what is reported is the correlation of the whole maps
        kept = best.status == KEPT
        best.kendall[kept] = metrics.kendall(before[kept], best.after[kept]).to(best.kendall)
    return best
