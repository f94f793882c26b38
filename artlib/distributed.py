"""One training in several processes, one GPU each, started by torchrun; without it there is one process, rank 0."""

import atexit
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

_LONG = timedelta(days=30)  # rank 0 may have to wait for another training, and the others with it
_store: dist.Store | None = None
_turns = 0


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if _store is not None else 0


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if _store is not None else 1


@contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes torchrun started inside a `with` block; an error of all is told by rank 0 alone."""
    global _store
    if not dist.is_torchelastic_launched():
        yield
        return
    store, me, count = next(dist.rendezvous("env://"))
    if torch.cuda.device_count() > (local := int(os.environ["LOCAL_RANK"])):
        torch.cuda.set_device(local)
    dist.init_process_group(store=store, rank=me, world_size=count, timeout=timedelta(hours=1))
    if me == 0:
        atexit.register(store.set, "over", "")  # after its last words
    _store = store
    try:
        yield
        dist.destroy_process_group()
        _store = None
    except Exception:
        if me > 0:
            with suppress(dist.DistStoreError):  # rank 0 goes on: the error is this process's own
                store.wait(["over"], timedelta(seconds=30))
                sys.exit(1)
        raise


@contextmanager
def first() -> Iterator[None]:
    """Rank 0 runs the block while the others wait, without limit; then they run it."""
    global _turns
    _turns += 1
    if rank() > 0:
        _store.wait([f"turn {_turns}"], _LONG)
    yield
    if world() > 1 and rank() == 0:
        _store.set(f"turn {_turns}", "")


def parts(n: int, at_once: int | None) -> list[slice]:
    """The parts of a batch of n images that this process works on, one after another; at most `at_once` in all.

    Sizes differ by one at most, and part i of all processes together is what one process would have as its part i.
    Raises ValueError where a part has fewer images than there are processes.
    """
    count = -(-n // (at_once or n)) * world()
    if count > n:
        raise ValueError(f"a batch of {n} images has not {count} parts for {world()} processes; start fewer processes")
    bounds = [n * i // count for i in range(count + 1)]
    return [slice(bounds[i], bounds[i + 1]) for i in range(rank(), count, world())]


class _Total(torch.autograd.Function):
    """The sum over all processes. So is its derivative, the loss being a sum over the processes, in every order."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return _Total.apply(g)


def total(x: Tensor) -> Tensor:
    """The sum of x over all processes, each of which adds its own losses to that of the batch; differentiable."""
    return x if world() == 1 else _Total.apply(x)


def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace tensors of one dtype by their sums over all processes, in one message."""
    if world() == 1:
        return
    tensors = list(tensors)
    sums = total(torch.cat([t.detach().flatten() for t in tensors])).split([t.numel() for t in tensors])
    for t, s in zip(tensors, sums, strict=True):
        t.copy_(s.view_as(t))
