"""What the numbers of an audit do not say by themselves: where nothing was attacked, or nothing could be."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from artlib.attacks import KEPT

if TYPE_CHECKING:
    import pandas as pd

NO_GRADIENT = "the gradient is zero for every image: is the last layer trained?"


def remarks(records: Mapping[str, dict]) -> list[str]:
    """A sentence for every attack without a number, or one for all of them; records: by title, "accuracy" among them.

    >>> from artlib.audit.remarks import remarks
    >>> remarks({"gradient, topk": {"values": {"K": [1.0, 1.0, None], "status": [1, 1, 3]}}})
    ['gradient, topk: – as no step that kept the prediction moved the map of any image']
    """
    attacked = {t: r["values"] for t, r in records.items() if t != "accuracy"}
    unranked = [t for t, v in attacked.items() if all(k is None for k in v["K"])]
    flat = records.get("accuracy", {}).get("values", {}).get("vanished", [0])
    if len(unranked) == len(attacked) and all(flat):
        return [NO_GRADIENT]
    why = "the map or the attack's gradient is constant, zero or not finite in every image"
    told = {t: why for t in unranked}
    told |= {t: "no step that kept the prediction moved the map of any image" for t in still(records)}
    return [f"{t}: – as {told[t]}" for t in attacked if t in told]


def still(records: Mapping[str, dict]) -> list[str]:
    """The attacks that moved no map: where each measure is 100 by convention, and says nothing of robustness."""
    found = []
    for title, record in records.items():
        values = record["values"]
        if title != "accuracy" and any(k is not None for k in values["K"]):
            rows = zip(values["K"], values["status"], strict=True)
            if all(status != KEPT for k, status in rows if k is not None):
                found.append(title)
    return found


def without(table: "pd.DataFrame", titles: list[str]) -> "pd.DataFrame":
    """A table without the means and intervals of these attacks; their counts stay."""
    numbers = [c for c in ("mean", "low", "high", "lowest", "highest", "common") if c in table]
    table = table.copy()
    table.loc[table["title"].isin(titles), numbers] = float("nan")
    return table
