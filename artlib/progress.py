"""Progress bars: one line that is written over, also in a notebook, which then stores that line alone."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def bar(total: int, label: str, *, unit: str, shown: bool, initial: int = 0) -> Iterator[Any]:
    """A tqdm bar on standard output, or in the cell of a notebook; silent unless `shown`, and where tqdm is missing."""
    try:
        from tqdm import tqdm
    except ImportError:
        shown = False
    if not shown:
        yield _Silent()
        return
    where = _Cell() if "ipykernel" in sys.modules else sys.stdout
    with tqdm(total=total, initial=initial, desc=label, unit=unit, file=where, mininterval=1, ncols=100) as found:
        yield found


class _Silent:
    def update(self, n: int = 1) -> bool:
        """Nothing is shown."""
        return False


class _Cell:
    """A file whose last line is what a notebook's cell shows: a stored notebook keeps that line, not hundreds."""

    def __init__(self) -> None:
        self.handle = None

    def write(self, text: str) -> None:
        from IPython.display import display

        if not (line := text.strip("\r\n ")):
            return
        if self.handle is None:
            self.handle = display({"text/plain": line}, raw=True, display_id=True)
        else:
            self.handle.update({"text/plain": line}, raw=True)

    def flush(self) -> None:
        """Nothing is held back."""
