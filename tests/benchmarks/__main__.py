"""`make bench`: what the costly parts cost, in forward passes F, beside a floor and a peer, interleaved in one run.

F is one forward pass of the same ReLU network on the same batch. The floor counts convolutions only, reverse over
reverse (6 F an attack step of ART, 12 F its update). Peers: the same step on torch's own layers, captum, SciPy, and a
plain loop for LENS. Run it on an idle machine; medians over the repeats, and the range of the ratio to the peer.
"""

import argparse
import copy
import json
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

import captum.attr
import pandas as pd
import scipy.stats
import torch
from torch import nn

from artlib import attacks, attribution_attacks, attributions, metrics, models, objectives, results, tables
from artlib.paths import FIGURES

ART = objectives.ArtSettings()


def interleaved(functions: dict[str, Callable], repeats: int) -> dict[str, list[float]]:
    """Seconds of every function, taken in turns so that a slow minute of the machine hits all of them."""
    for f in functions.values():
        f()
    seconds = {name: [] for name in functions}
    for _ in range(repeats):
        for name, f in functions.items():
            started = time.perf_counter()
            f()
            seconds[name].append(time.perf_counter() - started)
    return seconds


class TorchSoftplus(nn.Softplus):
    """torch's softplus in the shape `models.smooth` asks for."""

    def __init__(self, beta: float, *, threshold=None, slope: float = 0.0):
        super().__init__(beta, 20.0 if threshold is None else threshold)
        self.slope = slope


def torch_layers(model: nn.Module) -> nn.Module:
    """A copy of a network with torch's own convolution and batch normalisation, the same weights."""
    plain = copy.deepcopy(model)
    for module in plain.modules():
        if isinstance(module, models.Conv2d):
            module.__class__ = nn.Conv2d
        elif isinstance(module, models.BatchNorm2d):
            module.__class__ = nn.BatchNorm2d
    return plain


def art_step(model: nn.Module, x, y, softplus: type) -> None:
    """One ART training step, a = 3, with gradients of all weights."""
    ours, models.Softplus = models.Softplus, softplus
    try:
        loss, _, _ = objectives.art_step(model, x, y, settings=ART, eps=8 / 255, start=x)
        torch.autograd.grad(loss, list(model.parameters()))
    finally:
        models.Softplus = ours


def pgd_step(model: nn.Module, x, y) -> None:
    """One PGD-10 training step."""
    attack = dict(eps=8 / 255, start=x, steps=10, step_size=2 / 255, train_mode=False)
    x_adv = objectives.pgd_attack(model, x, y, **attack)
    torch.autograd.grad(objectives.natural_step(model, x_adv, y)[0], list(model.parameters()))


def ifia_step(model: nn.Module, x, y, *, points: int) -> None:
    """One IFIA step with integrated gradients of `points` points, the check of the iterate included."""
    explain = partial(attributions.integrated_gradients, steps=points)
    ball = attacks.Linf(8 / 255)
    attribution_attacks.ifia(model, x, y, k=100, ball=ball, steps=1, step_size=1 / 255, attribution=explain)


def greedy_loop(maps: torch.Tensor, k: int, w: int) -> list[set]:
    """Diverse top-k as its definition says it, one pixel at a time."""
    found = []
    for m in maps.tolist():
        left = sorted((-v, i, j) for i, line in enumerate(m) for j, v in enumerate(line))
        chosen: list[tuple[int, int]] = []
        for _, i, j in left:
            if len(chosen) == k:
                break
            if all(abs(i - a) > w or abs(j - b) > w for a, b in chosen):
                chosen.append((i, j))
        found.append(set(chosen))
    return found


def network_rows(arch: str, batch: int, points: int, repeats: int) -> list[dict]:
    """The rows that are measured in F."""
    model = models.build(arch, 10)
    x = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = model.eval()(x).argmax(1)
    plain = torch_layers(model)
    few, labels = x[: max(1, batch // points)], y[: max(1, batch // points)]
    captum_ig = captum.attr.IntegratedGradients(model)
    works = {  # name: (ours, peer, peer's name, floor in F, F passes over how many images)
        "ART step, a = 3": (
            lambda: art_step(model.train(), x, y, models.Softplus),
            lambda: art_step(plain.train(), x, y, TorchSoftplus),
            "torch's layers",
            30,
            batch,
        ),
        "PGD-10 step": (
            lambda: pgd_step(model.train(), x, y),
            lambda: pgd_step(plain.train(), x, y),
            "torch's layers",
            23,
            batch,
        ),
        f"IFIA step, {points} points": (
            lambda: ifia_step(model.eval(), few, labels, points=points),
            lambda: ifia_step(plain.eval(), few, labels, points=points),
            "torch's layers",
            6 * points,
            len(few),
        ),
        f"integrated gradients, {points} points": (
            lambda: attributions.integrated_gradients(model.eval(), few, labels, steps=points),
            lambda: captum_ig.attribute(few, target=labels, n_steps=points, method="riemann_right"),
            "captum",
            2 * points,
            len(few),
        ),
    }
    rows = []
    for name, (ours, peer, peer_name, floor, images) in works.items():

        def forward():
            with torch.no_grad():
                model.eval()(x)

        seconds = interleaved({"F": forward, "ours": ours, "peer": peer}, repeats)
        forward_pass = statistics.median(seconds["F"]) * images / batch
        rows.append(row(name, seconds, forward_pass, floor, peer_name))
    return rows


def row(name: str, seconds: dict[str, list[float]], unit: float | None, floor: float | None, peer: str) -> dict:
    """One line of the table: medians in F, and how many times faster than the peer, with the range over repeats."""
    ratios = sorted(p / o for p, o in zip(seconds["peer"], seconds["ours"], strict=True))
    median = {k: statistics.median(v) for k, v in seconds.items()}
    return {
        "work": name,
        "floor F": floor,
        "ours F": median["ours"] / unit if unit else None,
        "peer F": median["peer"] / unit if unit else None,
        "ours ms": 1e3 * median["ours"],
        "peer": peer,
        "times faster": statistics.median(ratios),
        "from": ratios[0],
        "to": ratios[-1],
    }


def metric_rows(repeats: int) -> list[dict]:
    """The rows of rank correlation and LENS, per batch of maps."""
    rows, noise = [], torch.Generator().manual_seed(0)
    for size, count in ((32, 200), (128, 40)):
        a, b = torch.rand(2, count, size, size, generator=noise)

        def loop(a=a, b=b):
            for p, q in zip(a.flatten(1).numpy(), b.flatten(1).numpy(), strict=True):
                scipy.stats.kendalltau(p, q)

        seconds = interleaved({"ours": lambda a=a, b=b: metrics.kendall(a, b), "peer": loop}, repeats)
        rows.append(row(f"Kendall, {count} maps of {size}x{size}", seconds, None, None, "scipy loop"))
    maps = torch.rand(4, 128, 128, generator=noise)
    works = {"ours": lambda: metrics.diverse_topk(maps, 1000, 1), "peer": lambda: greedy_loop(maps, 1000, 1)}
    rows.append(row("diverse top-1000, 4 maps of 128x128", interleaved(works, repeats), None, None, "plain loop"))
    return rows


def main() -> None:
    """Measure, print the table, and write it with its provenance to figures/bench/."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--arch", default="wrn-10-1")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--points", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    table = pd.DataFrame(network_rows(a.arch, a.batch, a.points, a.repeats) + metric_rows(a.repeats))
    print(tables.tidy(table).to_string(index=False))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    about = vars(a) | {"machine": results.machine("cpu"), "peak_memory_mib": round(peak)}
    path = FIGURES / "bench" / "bench.json"
    results.write_text(path, json.dumps({"rows": table.to_dict("records"), **about}, indent=1) + "\n")
    results.write_text(path.with_suffix(".csv"), table.to_csv(index=False))


if __name__ == "__main__":
    main()
