"""A figure as files, with the numbers it draws beside it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artlib import files, paths

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def save_figure(
    fig: "Figure", name: str, *, preset: str, notebook: str, numbers: "Mapping | pd.DataFrame | None" = None
) -> list[Path]:
    """Write figures/<preset>/<notebook>/<name>.png, .pdf and, of the numbers it draws, -numbers.json; their paths.

    numbers: a table (its rows become records) or a mapping of numbers, arrays and text; kept to 6 digits, NaN as null.
    The same figure gives the same bytes: no dates, no program version. Each file is written under a temporary name of
    this process and renamed, so that none is ever half-written and two processes may save the same figure.
    Raises ValueError for a name, preset or notebook that is not a plain file name, PermissionError for a file that
    cannot be written.
    """
    for part in (name, preset, notebook):
        if part != Path(part).name or part in ("", ".", ".."):
            raise ValueError(f"{part!r} is not a plain file name: no folders in name, preset or notebook")
    folder = paths.FIGURES / preset / notebook
    written, beside = [folder / f"{name}.png", folder / f"{name}.pdf"], folder / f"{name}-numbers.json"
    text = None if numbers is None else json.dumps(_plain(numbers), indent=1) + "\n"
    beside.unlink(missing_ok=True)  # no figure beside the numbers of another one
    dateless = ({"Software": None}, {"CreationDate": None, "Producer": None, "Creator": None})
    for path, metadata in zip(written, dateless, strict=True):
        options = dict(format=path.suffix[1:], dpi=150, bbox_inches="tight", metadata=metadata)
        files.write(path, lambda temporary, options=options: fig.savefig(temporary, **options))
    if text is None:
        return written
    files.write_text(beside, text)
    return [*written, beside]


def _plain(value: Any) -> Any:
    """What JSON can hold, with floats of 6 digits, so that the last bits of two machines do not show."""
    if hasattr(value, "to_dict"):  # a DataFrame: an index with a name is a column
        value = value.reset_index() if any(value.index.names) else value
        value = value.astype(object).where(value.notna(), None)
        return [_plain(dict(zip(map(str, value.columns), row, strict=True))) for row in value.to_numpy(object)]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):  # an array or tensor, or a number of one
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
