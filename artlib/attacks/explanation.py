"""Attacks on the explanation: the prediction stays, the attribution map does not.

One attack is a loop (`ascend`), a geometry (a ball), an objective that is raised and a criterion by which an iterate is
kept; the last two have lists of their own, `OBJECTIVES` and `CRITERIA`.
"""

import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from artlib import compiled, metrics
from artlib.attacks.ascend import Watched, ascend, check_attack, gradient_of
from artlib.attacks.balls import Ball, Linf
from artlib.attacks.criteria import CRITERIA
from artlib.attacks.objectives import OBJECTIVES, Objective
from artlib.attacks.steppers import Stepper
from artlib.attributions import Explainer
from artlib.data import send
from artlib.models import check_batch, check_smooth, checked, frozen, smooth

KEPT, NO_STEP, MISCLASSIFIED, NO_GRADIENT = 0, 1, 2, 3
STATUS = ("kept", "no label-preserving step that moved the map", "misclassified before", "vanishing or NaN gradient")
CANDIDATES = ("after", "before")


@dataclass(frozen=True)
class Manipulated:
    """What an attack on explanations found, one row an image.

    x_adv (N, C, H, W); before, after (N, H, W) maps of x and x_adv; kendall (N,) their rank correlation; kept_step (N,)
    the iterate that was kept, -1 if none; status (N,) index into STATUS. An image without a kept iterate has x_adv = x
    and after = before. Its kendall is 1 if it was attacked in vain: count it as 1.0 (Chen et al.) or drop it
    (DIFFERENCES.md, C-23). It is NaN if it was not attacked, because it was misclassified before, or could not be,
    because its map was constant or not finite or its gradient 0 or NaN at every step: that is no robustness.
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
    k: int | None = None,
    ball: Ball,
    steps: int,
    step_size: float,
    objective: str | Objective = "topk",
    explainer: Explainer | str | Callable[..., Tensor] = "integrated_gradients",
    attacked: Explainer | str | Callable[..., Tensor] | None = None,
    attribution: Callable[..., Tensor] | None = None,
    beta: float | Callable[[int], float] = 50.0,
    threshold: float | None = None,
    criterion: str | Callable[[Tensor, Tensor, Tensor], Tensor] = "kendall",
    candidates: str = "after",
    random_start: bool = False,
    stepper: Stepper | None = None,
    generator: torch.Generator | None = None,
    batch_size: int = 50,
    rows: int = 2048,
    compile: bool | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manipulated:
    """Iterative feature importance attack (Ghorbani et al. 2019; Chen et al. 2019).

    Ascends `objective`, by default -sum over S_k(x) of the map of x_adv, with the softplus_beta surrogate of the model
    and steps of the ball's direction or of `stepper`. Of the iterates that keep the prediction y, the one with the
    lowest `criterion` is kept; maps that are compared come from the model itself. Images that the model misclassifies
    are not attacked. The model is in eval mode meanwhile.

    x (N, C, H, W) in [0, 1]; y (N,); eps and `step_size` in pixel units. `explainer` makes the maps, `attacked`, by
    default the same, those that are attacked; a name or a function (model, x, y, *, create_graph) becomes an Explainer,
    `attribution` is another word for the latter. `objective` and `criterion` are names, with `k` the number of pixels,
    or your own; objective "random" tries a random corner of the ball at every step; criterion "kendall-on-topk"
    compares maps that are 0 outside S_k(x) (C-21). `beta` is a number or a function of the step 0, 1, ...
    `candidates` "after" are the iterates 1..steps, "before" 0..steps-1 (C-22). `batch_size` images
    are attacked together, and of an attribution that is a sum over points the graphs of at most `rows` points are kept
    at once. `progress(n)` is called with the number of images done. `compile` None means torch's compiler where that
    pays. Raises ValueError for bad images, labels, settings, names, k larger than the map, and for a model whose ReLUs
    escape the surrogate.
    """
    check_attack(ball=ball, steps=steps, step_size=step_size)
    objective = _objective(objective, k)
    if objective.blind and not isinstance(ball, Linf):
        raise ValueError(f"objective 'random' draws corners of an l_inf ball; ball is {ball!r}, use attacks.Linf(eps)")
    if candidates not in CANDIDATES:
        raise ValueError(f"unknown candidates {candidates!r}; choose one of {', '.join(CANDIDATES)}")
    check_batch(x, y, model)
    x, explainer = x.detach(), _explainer(attribution or explainer)
    attacked = explainer if attacked is None else _explainer(attacked)
    loop = dict(ball=ball, steps=steps, step_size=step_size, random_start=random_start, stepper=stepper)
    settings = dict(objective=objective, criterion=_criterion(criterion), beta=beta, threshold=threshold)
    parts = []
    with frozen(model):
        check_smooth(model, x)
        if compile is None:
            passes = _passes(attacked, model, x[:1], y[:1]) if len(x) and not callable(beta) else 0
            compile = bool(passes) and compiled.pays(model, x, passes=steps * len(x) * passes)
        settings |= dict(candidates=candidates, compile=compile, batch_size=batch_size, rows=rows)
        attack = _Attack(explainer=explainer, attacked=attacked, **settings)
        with checked():
            for xb, yb in zip(x.split(batch_size), y.split(batch_size), strict=True):
                parts.append(attack(model, xb, yb, generator=generator, **loop))
                if progress:
                    progress(len(xb))
    return Manipulated.concatenate(parts)


def _explainer(given: Explainer | str | Callable[..., Tensor]) -> Explainer:
    return given if isinstance(given, Explainer) else Explainer(given)


def _objective(given: str | Objective, k: int | None) -> Objective:
    if isinstance(given, str):
        if given not in OBJECTIVES:
            raise ValueError(f"unknown objective {given!r}; choose one of {', '.join(OBJECTIVES)}, or an object")
        kind = OBJECTIVES[given]
        needs = "k" in inspect.signature(kind).parameters
        if needs and k is None:
            raise ValueError(f"objective {given!r} needs k, a number of pixels")
        return kind(k=k) if needs else kind()
    if k is not None:
        raise ValueError(f"k is {k}, but the objective is {given!r}; its settings are its own: leave k out")
    return given


def _criterion(given: str | Callable) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    if callable(given):
        return given
    if given not in CRITERIA:
        raise ValueError(f"unknown criterion {given!r}; choose one of {', '.join(CRITERIA)}, or a function")
    return CRITERIA[given]


def _passes(attacked: Explainer, model, x, y) -> int:
    """Forward passes that the arithmetic of a map's gradient amounts to: reverse over reverse is four a point."""
    points = []
    handle = model.register_forward_pre_hook(lambda _, inputs: points.append(len(inputs[0])))
    try:
        attacked.attribution(model, x, y)
    finally:
        handle.remove()
    return 4 * sum(points)


def _map(model, x, y, noise, *, explainer: Explainer) -> Tensor:
    return explainer(model, x, y, noise=noise).detach()


def _gradient(model, x, y, aim, noise, *, explainer: Explainer, objective: Objective, beta, threshold) -> Tensor:
    """Gradient of the objective of the surrogate's maps."""

    def raised(x_adv: Tensor) -> Tensor:
        maps = explainer(model, x_adv, y, create_graph=True, noise=noise)
        return objective(maps, model(x_adv.clone()) if objective.needs_logits else None, y, aim)

    with smooth(model, beta, threshold=threshold):
        return gradient_of(raised, x)


def _gradient_by_parts(model, x, y, aim, noise, parts, *, explainer, objective, beta, threshold) -> Tensor:
    """`_gradient` for an attribution that is the sum of `parts`: the graph of one part is kept at a time.

    What the objective asks of the attribution, its cotangent, is known after a pass without a graph; the gradient of
    their product is linear in the attribution.
    """
    with smooth(model, beta, threshold=threshold):
        attribution = sum(explainer.attribution(model, x, y, noise=noise, points=points) for points in parts)
        attribution.requires_grad_()
        with torch.enable_grad():
            logits = model(x.clone()).detach().requires_grad_() if objective.needs_logits else None
            value = objective(explainer.maps(attribution, x), logits, y, aim).sum()
        asked = torch.autograd.grad(value, [attribution] + [logits] * objective.needs_logits, materialize_grads=True)

        def product(x_adv: Tensor, points) -> Tensor:
            part = explainer.attribution(model, x_adv, y, create_graph=True, noise=noise, points=points)
            return part * asked[0]

        total = sum(gradient_of(lambda z, points=points: product(z, points), x) for points in parts)
        if objective.needs_logits:
            total = total + gradient_of(lambda z: model(z.clone()) * asked[1], x)
        return total


@dataclass(frozen=True)
class _Attack:
    """The settings of `ifia` on one batch."""

    explainer: Explainer
    attacked: Explainer
    objective: Objective
    criterion: Callable[[Tensor, Tensor, Tensor], Tensor]
    beta: float | Callable[[int], float]
    threshold: float | None
    candidates: str
    compile: bool
    batch_size: int
    rows: int

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, **loop) -> Manipulated:
        before = self.maps(model, x, y)
        with torch.no_grad():
            correct = model(x.clone()).argmax(1) == y
        flat = before.flatten(1)
        seen = flat.isfinite().all(1) & (flat != flat[:, :1]).any(1)  # a map that is constant has no order to change
        best = Manipulated(
            x_adv=x.clone(),
            before=before,
            after=before.clone(),
            kendall=torch.where(correct & seen, 1.0, torch.nan).double(),
            kept_step=torch.full((len(x),), -1, device=x.device),
            status=torch.where(correct, torch.where(seen, NO_STEP, NO_GRADIENT), MISCLASSIFIED),
        )
        rows = (correct & before.isfinite().flatten(1).all(1)).nonzero()[:, 0]
        if len(rows) and loop["steps"] >= 0:
            self.ascend(model, x[rows], y[rows], rows, best, **loop)
        return best

    def maps(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        compile = self.compile and len(x) == self.batch_size  # one shape: another would be compiled anew
        return compiled.call(_map, model, x, y, self.explainer.noise(x), explainer=self.explainer, compile=compile)

    def gradient(self, model: nn.Module, y: Tensor, aim: Tensor) -> Callable[[Tensor], Tensor]:
        """The gradient of the objective, by the number of times it was asked for."""
        step = itertools.count()

        def gradient(x_adv: Tensor) -> Tensor:
            beta = self.beta(next(step)) if callable(self.beta) else self.beta
            constants = dict(explainer=self.attacked, objective=self.objective, beta=beta, threshold=self.threshold)
            tensors = x_adv, y, aim, self.attacked.noise(x_adv)
            parts = self.attacked.parts(len(x_adv), self.rows)
            if len(parts) > 1:
                return _gradient_by_parts(model, *tensors, parts, **constants)
            compile = self.compile and len(x_adv) == self.batch_size
            return compiled.call(_gradient, model, *tensors, compile=compile, **constants)

        return gradient

    def ascend(self, model, x: Tensor, y: Tensor, rows: Tensor, best: Manipulated, **loop) -> None:
        """Attack x (rows of the batch) and write what is found into `best`."""
        before, skipped = best.before[rows], 0 if self.candidates == "after" else loop["steps"]
        aim = self.objective.aim(before)
        lowest = self.criterion(before, before, aim).double().nan_to_num(1.0)

        def visit(step: int, x_adv: Tensor) -> None:
            if step == skipped:
                return
            with torch.no_grad():
                preserved = model(x_adv.clone()).argmax(1) == y
            after = self.maps(model, x_adv, y)
            found = self.of_finite(before, after, aim).to(lowest)
            # NaN is never lower; 1e-12, as a map's correlation with itself may round to less than 1.
            better = preserved & (found < lowest - 1e-12)
            chosen = rows[better]
            lowest[better], best.x_adv[chosen], best.after[chosen] = found[better], x_adv[better], after[better]
            best.kept_step[chosen], best.status[chosen] = step, KEPT

        if self.objective.blind:
            loop |= dict(stepper=None, step_size=2 * loop["ball"].eps)  # from anywhere in the ball to a corner of it
            watched = Watched(lambda _: send(torch.randn(x.shape, generator=loop["generator"]), x.device).to(x))
        else:
            watched = Watched(self.gradient(model, y, aim))
        ascend(watched, x, visit=visit, **loop)
        kept = best.status == KEPT
        best.kendall[kept] = metrics.kendall(best.before[kept], best.after[kept]).to(best.kendall)
        vanished = rows[watched.vanished(x) & ~kept[rows]]
        best.kendall[vanished], best.status[vanished] = torch.nan, NO_GRADIENT

    def of_finite(self, before: Tensor, after: Tensor, aim: Tensor) -> Tensor:
        """The criterion where the map after is finite, NaN elsewhere."""
        fine = after.isfinite().flatten(1).all(1)
        if fine.all():
            return self.criterion(before, after, aim)
        found = torch.full((len(after),), torch.nan, dtype=torch.float64, device=after.device)
        found[fine] = self.criterion(before[fine], after[fine], aim[fine]).double()
        return found
