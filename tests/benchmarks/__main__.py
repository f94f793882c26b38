"""`make bench`: what the costly parts cost, in forward passes F, beside a floor and peers, interleaved in one run.

F is one forward pass of the same ReLU network on the same batch. The floor is arithmetic alone: operations counted in
convolutions and matrix products, over those of a forward pass. Peers: our own code without the compiler, the same work
on torch's layers, torchattacks, captum, SciPy, a plain loop for LENS, and the papers' released code where a checkout is
given (much of its time on a CPU is spent on subnormal numbers, which ours avoids).
Run it on an idle machine; medians over the repeats, and the range of the ratio to the peer.
"""

import argparse
import copy
import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import captum.attr
import pandas as pd
import scipy.stats
import torch
import torchattacks
from torch import nn
from tqdm import tqdm

from artlib import attacks, attributions, costs, files, metrics, models, provenance, tables
from artlib.paths import FIGURES
from artlib.trainings import Art, Batch, Natural, Pgd, pick_device
from tests.benchmarks import released

STEPS = 4  # of IFIA, whose map of the unchanged image is made once
ATTACK = dict(eps=8 / 255, steps=10, step_size=2 / 255)
CLASSES = 10


@dataclass(frozen=True)
class Work:
    """Something timed: ours, its peers by name, what it is held to, how many images F passes over."""

    name: str
    ours: Callable
    peers: dict[str, Callable]
    target: str = ""
    images: int = 0


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


def with_torch_softplus(work: Callable, *args, **kwargs) -> None:
    ours, models.surrogate.Softplus = models.surrogate.Softplus, TorchSoftplus
    try:
        work(*args, **kwargs)
    finally:
        models.surrogate.Softplus = ours


def art_step(model: nn.Module, x, y, *, protocol: str = "paper", compile: bool = False) -> None:
    """One ART training step, a = 3, with gradients of all weights."""
    art = Art(**Art.protocols[protocol])
    loss = art.losses(Batch(model.train(), x, y, compile=compile)).total
    torch.autograd.grad(loss, list(model.parameters()))


def natural_step(model: nn.Module, x, y, *, compile: bool = False) -> None:
    """One natural training step."""
    loss = Natural().losses(Batch(model.train(), x, y, compile=compile)).total
    torch.autograd.grad(loss, list(model.parameters()))


def pgd_step(model: nn.Module, x, y, *, compile: bool = False) -> None:
    """One PGD-10 training step."""
    loss = Pgd(**ATTACK).losses(Batch(model.train(), x, y, compile=compile)).total
    torch.autograd.grad(loss, list(model.parameters()))


def torchattacks_step(model: nn.Module, x, y) -> None:
    """The same with torchattacks' PGD."""
    attack = torchattacks.PGD(model.eval(), eps=ATTACK["eps"], alpha=ATTACK["step_size"], steps=ATTACK["steps"])
    natural_step(model, attack(x, y), y)


def ifia(model: nn.Module, x, *, points: int, compile: bool = False) -> None:
    """IFIA with integrated gradients of `points` points, the checks of all iterates included."""
    with torch.no_grad():
        y = model.eval()(x).argmax(1)  # what is misclassified is not attacked, and the other rows train
    options = dict(
        k=100, ball=attacks.Linf(8 / 255), steps=STEPS, step_size=1 / 255, batch_size=len(x), compile=compile
    )
    explain = partial(attributions.integrated_gradients, steps=points)
    attacks.ifia(model, x, y, attribution=explain, **options)


def captum_maps(model: nn.Module, x, y, *, points: int) -> None:
    """captum's integrated gradients with the same rule."""
    captum.attr.IntegratedGradients(model.eval()).attribute(x, target=y, n_steps=points, method="riemann_right")


def network_works(a: argparse.Namespace, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Iterator[Work]:
    """The rows that are measured in F."""
    plain, few = torch_layers(model), slice(0, max(1, a.batch // a.points))
    fast, layers, m = not a.eager, "torch's layers", a.points
    peers = {"without compiler": partial(art_step, model, x, y)} if fast else {}
    peers[layers] = partial(with_torch_softplus, art_step, plain, x, y)
    same = {k: partial(f, protocol="authors") for k, f in peers.items()}
    attack = {"without compiler": partial(ifia, model, x[few], points=m)} if fast else {}
    attack[layers] = partial(with_torch_softplus, ifia, plain, x[few], points=m)
    if a.art_checkout:
        depth, width = map(int, a.arch.removeprefix("wrn-").split("-"))
        theirs = released.network(a.art_checkout, model, depth=depth, width=width)
        peers["released code"] = same["released code"] = partial(released.art_step(a.art_checkout), theirs, x, y)
        attack["released code"] = partial(released.ifia(a.art_checkout, points=m, steps=STEPS), theirs, x[few], y[few])
    images = len(x[few])
    ours = partial(art_step, model, x, y, compile=fast)
    yield Work("ART step, a = 3", ours, peers, "36; 4x released", a.batch)
    ours = partial(art_step, model, x, y, protocol="authors")  # twice the images, batch statistics: minutes to compile
    same.pop("without compiler", None)
    yield Work("ART step, a = 3, as its code", ours, same, "", a.batch)
    peers = {"without compiler": partial(pgd_step, model, x, y)} if fast else {}
    peers["torchattacks"] = partial(torchattacks_step, plain, x, y)
    yield Work("PGD-10 step", partial(pgd_step, model, x, y, compile=fast), peers, "26", a.batch)
    ours = partial(ifia, model, x[few], points=m, compile=fast)
    name = f"a step of IFIA, {STEPS} in all, {m} points"
    yield Work(name, ours, attack, f"{8 * m}; 8x released", STEPS * images)
    ours = partial(attributions.integrated_gradients, model.eval(), x[few], y[few], steps=m)
    peers = {"captum": partial(captum_maps, plain, x[few], y[few], points=m)}
    yield Work(f"integrated gradients, {m} points", ours, peers, "1x captum", images)


def scipy_loop(a: torch.Tensor, b: torch.Tensor) -> None:
    """Kendall's tau, one pair of maps at a time."""
    for p, q in zip(a.flatten(1).cpu().numpy(), b.flatten(1).cpu().numpy(), strict=True):
        scipy.stats.kendalltau(p, q)


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


def metric_works(a: argparse.Namespace, device: torch.device) -> Iterator[Work]:
    """Rank correlation and LENS, per batch of maps."""
    noise = torch.Generator().manual_seed(0)
    target = "50x" if device.type == "cuda" else "5x"
    for size, count in ((32, 1000), (128, 100)):
        p, q = torch.rand(2, count, size, size, generator=noise).to(device)
        peers = {"SciPy loop": partial(scipy_loop, p, q)}
        yield Work(f"Kendall, {count} maps of {size}x{size}", partial(metrics.kendall, p, q), peers, target)
    maps = torch.rand(4, 128, 128, generator=noise)
    peers = {"plain loop": partial(greedy_loop, maps, 1000, 1)}
    if a.lens_checkout:
        peers["released code"] = partial(released.diverse_topk(a.lens_checkout, 1000), maps)
    ours = partial(metrics.diverse_topk, maps.to(device), 1000, 1)
    yield Work("diverse top-1000, 4 maps of 128x128", ours, peers, "50x released")


def python(code: str) -> None:
    """Run code in a fresh interpreter."""
    subprocess.run([sys.executable, "-c", code], check=True)


def import_works() -> Iterator[Work]:
    """What a user waits for first."""
    modules = "from artlib import presets, results, tables, trainings, plots, paper"
    peers = {"torch, torchvision": partial(python, "import torch, torchvision")}
    yield Work("import artlib", partial(python, modules), peers, "at most 1.1 times as long")


def rows(work: Work, forward: Callable | None, a: argparse.Namespace, device: torch.device) -> list[dict]:
    """Lines of the table, one a peer: medians in F, how many times faster we are, and the range over the repeats."""
    functions = {"ours": work.ours, **work.peers} | ({"F": forward} if forward else {})
    seconds = costs.interleaved(functions, repeats=a.repeats, device=device)
    median = {k: statistics.median(v) for k, v in seconds.items()}
    unit = median["F"] * work.images / a.batch if forward else None
    first = {"work": work.name, "target": work.target, "ours ms": 1e3 * median["ours"]}
    if forward:
        eager = work.peers.get("without compiler", work.ours)
        first["floor F"] = costs.flops(eager) / costs.flops(forward) * a.batch / work.images
        first |= {
            "ours F": median["ours"] / unit,
            "ours MiB": round(costs.peak_memory(work.ours, device=device) / 2**20),
        }
    found = []
    for peer in work.peers:
        ratios = sorted(p / o for p, o in zip(seconds[peer], seconds["ours"], strict=True))
        line = first | {"peer": peer} | ({"peer F": median[peer] / unit} if forward else {})
        found.append(line | {"times faster": statistics.median(ratios), "from": ratios[0], "to": ratios[-1]})
    return found


def main() -> None:
    """Measure, print the table, and write it with its provenance to figures/bench/."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--arch", default="wrn-10-1")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--points", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--eager", action="store_true", help="leave the compiler out, and the minutes it takes")
    parser.add_argument("--art-checkout", help=f"folder of {released.ART}")
    parser.add_argument("--lens-checkout", help=f"folder of {released.LENS}")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    device = pick_device(a.device)
    model = models.build(a.arch, CLASSES, mean=released.MEAN, std=released.STD).to(device)
    x = torch.rand(a.batch, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(x)

    table = []
    works = [(w, forward) for w in network_works(a, model, x, forward().argmax(1))]
    works += [(w, None) for w in [*metric_works(a, device), *import_works()]]
    with tqdm(works, file=sys.stdout, bar_format="{desc:50} {n}/{total} {elapsed}") as bar:
        for work, unit in bar:
            bar.set_description(work.name)
            table += rows(work, unit, a, device)
    order = [
        "work",
        "target",
        "floor F",
        "ours F",
        "ours ms",
        "ours MiB",
        "peer",
        "peer F",
        "times faster",
        "from",
        "to",
    ]
    table = pd.DataFrame(table)[order]
    print(tables.tidy(table).to_string(index=False))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    about = {k: v for k, v in vars(a).items() if "checkout" not in k}
    about |= {"machine": provenance.machine(device), "process_peak_memory_mib": round(peak)}
    path = FIGURES / "bench" / "bench.json"
    files.write_text(path, json.dumps({"rows": json.loads(table.to_json(orient="records")), **about}, indent=1) + "\n")
    files.write_text(path.with_suffix(".csv"), table.to_csv(index=False))


if __name__ == "__main__":
    main()
