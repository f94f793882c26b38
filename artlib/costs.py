"""What work costs before it is done: operations in forward passes, seconds, memory, and the hours of a run.

F is one forward pass of the same ReLU network on the same images. Operations are those of convolutions and matrix
products, two for a multiplication and an addition; all else is memory traffic, which shows in the measured rate.
"""

import copy
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from artlib import presets, provenance, trainings
from artlib.data import SETS, ImageSet
from artlib.measurements import Measurement, predictions
from artlib.trainings import Recipe
from artlib.trainings.checkpoint import State
from artlib.trainings.fit import train_step

if TYPE_CHECKING:
    import pandas as pd

# ------------------------------------------------------------------ seconds, memory, operations of anything


def _seconds(function: Callable, device: torch.device | str) -> float:
    started = time.perf_counter()
    function()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def interleaved(
    functions: dict[str, Callable], *, repeats: int, device: torch.device | str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of every function, `repeats` each after one warm-up, in turns: a slow minute of the machine hits all."""
    for function in functions.values():
        _seconds(function, device)
    turns = [{name: _seconds(function, device) for name, function in functions.items()} for _ in range(repeats)]
    return {name: [turn[name] for turn in turns] for name in functions}


def peak_memory(work: Callable, *, device: torch.device | str = "cpu") -> int:
    """The most bytes of tensors that `work()` holds at once, beyond those that were there before.

    CUDA's allocator counts them; for the CPU the profiler sees every allocation, whoever makes it, unlike a process's
    peak, which has the interpreter and freed pages in it.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it greets on stderr
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


class _Counter(TorchDispatchMode):
    """Counts by torch's formulas; its own FlopCounterMode raises where autograd.grad asks for a model's input.

    Convolutions and matrix products are not computed, their results are 0, so that a large network is counted in a
    second.
    """

    flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        packet, aten = func._overloadpacket, torch.ops.aten
        if packet is aten.convolution and not args[6]:
            x, w, _, *spec = args[:6]
            sizes = zip(x.shape[2:], w.shape[2:], *spec, strict=True)
            out = x.new_zeros(len(x), len(w), *((i + 2 * p - d * (k - 1) - 1) // s + 1 for i, k, s, p, d in sizes))
        elif packet is aten.convolution_backward:
            g, x, w, *_, mask = args
            like = (x, w, g.new_zeros(g.shape[1]))
            out = tuple(torch.zeros_like(v) if wanted else None for v, wanted in zip(like, mask, strict=True))
        elif packet in (aten.mm, aten.addmm, aten.bmm):
            left, right = args[-2:]
            out = left.new_zeros(*left.shape[:-1], right.shape[-1])
        else:
            out = func(*args, **(kwargs or {}))
        if packet in flop_registry:
            self.flops += flop_registry[packet](*args, **(kwargs or {}), out_val=out)
        return out


def flops(work: Callable) -> int:
    """Floating-point operations of `work()`, counted while it sees zeros for the result of every convolution.

    >>> import torch
    >>> from artlib import costs
    >>> layer = torch.nn.Linear(100, 10)
    >>> costs.flops(lambda: layer(torch.zeros(4, 100)))  # 2 x 4 x 100 x 10
    8000
    """
    with _Counter() as counter:
        work()
    return counter.flops


# ------------------------------------------------------------------ trainings and evaluations

Shape = tuple[int, int, int]  # channels, pixels a side, classes


@dataclass(frozen=True)
class Work:
    """Something that is done to images, `run(net, images, **loops)`; its cost is linear in each loop's length."""

    name: str
    run: Callable[..., object]
    net: nn.Module
    shape: Shape
    images: int  # in all
    rows: int  # that pass through the network together: images, times points of integrated gradients
    loops: dict[str, tuple[int, int]] = field(default_factory=dict)  # the shortest that can run, the real length

    def on(self, images: int, *, device: torch.device | str = "cpu", **loops: int) -> Callable[[], object]:
        """The work on so many random images, to be called, with real loops or those given.

        On a copy of `net`, which may say by `__deepcopy__` that it cannot be one, as an audited function does.
        """
        lengths = {name: length for name, (_, length) in self.loops.items()} | loops
        return partial(self.run, copy.deepcopy(self.net).to(device), _noise(images, self.shape).to(device), **lengths)


def _noise(images: int, shape: Shape) -> ImageSet:
    channels, size, classes = shape
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, channels, size, size), generator=noise, dtype=torch.uint8)
    return ImageSet(pixels, torch.zeros(images, dtype=torch.int64), tuple(map(str, range(classes))))


def update(recipe: Recipe, *, shape: Shape = (3, 32, 10), images: int = 0, net: nn.Module | None = None) -> Work:
    """The updates of a training on `images` images, epochs counted; `net` is the recipe's, if it is there already."""
    net = net or trainings.build_model(recipe, _noise(2, shape))
    return Work(recipe.label, partial(_update, recipe), net, shape, images, recipe.batch_size)


def _update(recipe: Recipe, net: nn.Module, images: ImageSet) -> None:
    x = images.images.to(next(net.parameters()).dtype) / 255
    state = State(net, torch.optim.SGD(net.parameters()), *(recipe.training.helper(net, x[:1]) or ()))
    forked = torch.random.fork_rng(devices=[x.device] if x.is_cuda else [])  # dropout seeds torch's own generator
    with forked, trainings.arithmetic(recipe.precision, x.device):
        train_step(recipe, state, x, images.labels, 0.0)  # rate 0: the next call finds the same weights
    net.zero_grad()


def measuring(measurement: Measurement, *, net: nn.Module, shape: Shape, images: int) -> Work:
    """A measurement of `images` images in all; its loops are those that it names."""
    loops = {name: (least, getattr(measurement, name)) for name, least in measurement.loops.items()}
    return Work(measurement.title, partial(_measure, measurement), net, shape, images, measurement.rows, loops)


def _measure(measurement: Measurement, net: nn.Module, images: ImageSet, **loops: int) -> None:
    boxes, masks = torch.zeros(len(images), 4), torch.zeros_like(images.images[:, 0], dtype=torch.bool)
    labels = predictions(net.eval(), images)  # only what is correct is attacked
    images = replace(images, labels=labels, boxes=boxes.to(labels.device), masks=masks)
    replace(measurement, images=None, **loops)(net, images, progress=False)


def _predictions(net: nn.Module, images: ImageSet) -> None:
    predictions(net.eval(), images)


def works(
    preset: str,
    *,
    dataset: str,
    protocol: str = "paper",
    sets: tuple[ImageSet, ImageSet] | None = None,
    trainings: Sequence[str] = presets.TABLE1,
    measurements: Sequence[str] = presets.MEASURED,
    seeds: int = 1,
    images: int | None = None,
    **changes: Any,
) -> list[Work]:
    """What a notebook does at a preset: each of `trainings`, and `measurements` of all of them, with so many seeds.

    `sets` are the training and test images; without them official numbers count, and a folder is loaded.
    images: that are attacked, None for the preset's; changes: of the recipes, as of `presets.recipe`.
    Raises ValueError as `presets.recipe` and `data.load` do.
    """
    recipes = [presets.recipe(preset, name, dataset=dataset, protocol=protocol, **changes) for name in trainings]
    train, test, shape = _sizes(preset, dataset, sets)
    found = []
    for r in recipes:
        some = min(train, r.limit or train)
        seen = seeds * r.epochs * (some if r.per_class is None else r.per_class * shape[2])
        seen -= round(seen * getattr(r.training, "natural", 0.0))  # of a late attack: updates without it cost little
        found.append(update(r, shape=shape, images=seen, net=found[0].net if found else None))
    for name, m in presets.measurements(preset, dataset=dataset, protocol=protocol, names=measurements).items():
        if images is not None and name == "attribution_robustness":
            m = replace(m, images=images)
        seen = seeds * len(recipes) * m.count(test)
        found.append(measuring(m, net=found[0].net, shape=shape, images=seen))
    return found


def _sizes(preset: str, dataset: str, sets: tuple[ImageSet, ImageSet] | None) -> tuple[int, int, Shape]:
    if sets is None and dataset not in SETS:
        sets = tuple(presets.images(preset, split, dataset=dataset) for split in ("train", "test"))
    if sets is not None:
        train, test = sets
        return len(train), len(test), (*train.images.shape[1:3], len(train.classes))
    info, (train, test) = SETS[dataset], presets.limits(preset, dataset)
    shape = (info.channels, presets.image_size(preset, dataset) or info.size, info.classes)
    return min(train or math.inf, info.images["train"]), min(test or math.inf, info.images["test"]), shape


# ------------------------------------------------------------------ the forecast


def per_image(work: Work, **loops: int) -> int:
    """Floating-point operations an image, with real loops or those given, counted where all loops are short.

    Two images less one: what is done once a batch, the check of its first image, is left out.
    """
    lengths = {name: length for name, (_, length) in work.loops.items()} | loops

    def count(done: dict[str, int]) -> int:
        if len(done) == len(lengths):
            return flops(work.on(2, **done)) - flops(work.on(1, **done))
        name = list(lengths)[len(done)]
        least = work.loops[name][0]
        if lengths[name] <= least + 1:
            return count(done | {name: lengths[name]})
        low, high = (count(done | {name: n}) for n in (least, least + 1))
        return low + (lengths[name] - least) * (high - low)

    return count({})


def forward_pass(work: Work) -> Work:
    """One forward pass through the network of `work`, of the same images."""
    return replace(work, name="forward pass", run=_predictions, loops={})


def forward(work: Work) -> int:
    """F: floating-point operations of one forward pass of one image through the network of `work`."""
    return per_image(forward_pass(work))


def passes(work: Work) -> float:
    """The cost of `work` an image, in forward passes F."""
    return per_image(work) / forward(work)


def rate(work: Work, *, device: torch.device | str = "cpu") -> float:
    """Floating-point operations a second that `device` reaches in `work`, the best of two to eight runs.

    A GPU runs a real batch, a CPU 16 images, or 4 or 1 where these take a second. Loops are short, but for a GPU's
    points of integrated gradients, few of which would leave it idle.
    """
    cuda = torch.device(device).type == "cuda"
    short = {k: n if cuda and "ig" in k else least + 1 for k, (least, n) in work.loops.items()}
    most = max(1, work.rows // short.get("attack_ig_steps", 1))
    for images in [most] if cuda else sorted({1, min(4, most), min(16, most)}):
        run = work.on(images, device=device, **short)
        runs = [_seconds(run, device) for _ in range(2)]
        while sum(runs) < 2 and len(runs) < 8:  # whatever else the machine does comes and goes
            runs.append(_seconds(run, device))
        taken = min(runs)
        if taken > 1:
            break
    return per_image(work, **short) * images / taken


def forecast(preset: str, *, device: torch.device | str | None = None, **run) -> "pd.DataFrame":
    """What a preset costs, by `works` and in total: images, passes F an image, TFLOP, hours at the measured `rate`.

    `run` is what `works` takes: dataset, protocol, sets, trainings, measurements, seeds, images, changes. Hours are NaN
    without a `device`; loading and augmentation are not in them, and models that exist already are.
    """
    import pandas as pd

    rows = []
    for work in works(preset, **run):
        each = per_image(work)
        total = work.images * each
        hours = total / rate(work, device=device) / 3600 if device else math.nan
        rows.append([work.name, work.images, each / forward(work), total / 1e12, hours])
    table = pd.DataFrame(rows, columns=["work", "images", "passes", "TFLOP", "hours"]).set_index("work")
    table.loc["total", ["TFLOP", "hours"]] = table[["TFLOP", "hours"]].sum(skipna=False)
    return table


SHORT = "under a minute"


def duration(seconds: float) -> str:
    """How long a forecast says something takes, as a reader wants it: hours above 90 minutes, else minutes.

    >>> from artlib import costs
    >>> [costs.duration(seconds) for seconds in (27_260, 4_320, 138, 3)]
    ['about 7.6 hours', 'about 72 minutes', 'about 2.3 minutes', 'under a minute']
    """
    minutes = seconds / 60
    if minutes > 90:
        return f"about {minutes / 60:.1f} hours"
    if minutes < 1:
        return SHORT
    return f"about {minutes:.1f} minutes" if minutes < 9.95 else f"about {minutes:.0f} minutes"


def announcement(preset: str, *, device: torch.device | str, **run) -> str:
    """`forecast` in one line, to be printed before a long run; at smoke, which takes seconds, nothing is measured."""
    if preset == "smoke":
        return "seconds: smoke is for tests"
    hours = forecast(preset, device=device, **run)["hours"]
    about = provenance.machine(device)
    machine = about["device"] if "cuda" in str(device) else f"{about['device']}, {about['threads']} threads"
    total, parts = duration(3600 * hours["total"]), hours.drop("total")
    told = f"{total} on this machine if nothing exists yet ({machine})"
    if total == SHORT:
        return told
    return f"{told}: " + ", ".join(f"{n} {duration(3600 * h).removeprefix('about ')}" for n, h in parts.items())
