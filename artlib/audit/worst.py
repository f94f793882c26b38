"""The images whose maps an attack moved most, attacked once more to be shown, and stored beside the measurement."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from artlib import files, results
from artlib.attacks import KEPT, Manipulated
from artlib.audit.report import worst_grid
from artlib.data import ImageSet
from artlib.measurements import AttributionRobustness

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 4  # images


def title_of(titles: Iterable[str]) -> str:
    """The attack whose images are shown: the last one of the top-k, or else the last one."""
    attacks = [t for t in titles if t != "accuracy"]
    return next((t for t in reversed(attacks) if t.endswith(", topk")), attacks[-1])


def left(place: Path, record: dict | None) -> int:
    """How many images are still to be attacked, given where their measurement is kept, and what is there."""
    if record is None:
        return SHOWN
    return 0 if _file(place).exists() else len(_places(record))


def figure(
    net: nn.Module, asked: AttributionRobustness, record: dict, test: ImageSet, *, place: Path, title: str
) -> "Figure | None":
    """Their maps before and after; None where no map moved."""
    some = test.subset(_places(record))
    if not len(some):
        return None
    path = _file(place)
    if path.exists():
        found = Manipulated(**files.read_tensors(path)[0])
    else:
        made = asked.attack(net, some.to(next(net.parameters()).device), progress=False)
        found = Manipulated(**{f.name: getattr(made, f.name).cpu() for f in fields(made)})
        with suppress(PermissionError):  # what is measured may lie in a folder that can only be read
            files.write_tensors(path, vars(found), {})
    return worst_grid(some, found, asked.k, title=title)


def _file(place: Path) -> Path:
    return results.MODELS / place.with_suffix(".worst").name


def _places(record: dict) -> list[int]:
    values = record["values"]
    rows = zip(values["K"], values["index"], values["status"], strict=True)
    return [i for _, i in sorted((k, i) for k, i, status in rows if k is not None and status == KEPT)[:SHOWN]]
