"""The end of `make reproduce`: headline numbers, files to open, time taken. `summary.py SECONDS [KEY=VALUE ...]`."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import plan
import yaml

from artlib import paths


def tables(run: dict) -> list[Path]:
    """The tables in figures/<preset>/ that are of this data set and protocol, and of no other seed."""
    name = f"-{paths.slug(run['dataset'])}-{run['protocol']}"
    found = [path for path in sorted((paths.FIGURES / run["preset"]).glob("*/*.csv")) if name in path.stem]
    seeds = {path: re.findall(r"-seed(\d+)", path.stem) for path in found}
    return [path for path in found if set(map(int, seeds[path])) <= set(run["seeds"])]


def headline(path: Path) -> str:
    """Means by training and metric, or how often each verdict was reached; empty for a table of another kind."""
    table = pd.read_csv(path)
    if {"training", "metric", "mean"} <= set(table):
        rows = ["training", "seed"] if "seed" in table else "training"
        return table.pivot_table("mean", index=rows, columns="metric", sort=False).to_string(float_format="%.1f")
    if "verdict" in table:
        return "claims: " + ", ".join(f"{n} {verdict}" for verdict, n in table["verdict"].value_counts().items())
    return ""


def clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def report(run: dict, seconds: float) -> str:
    """The whole text."""
    lines = [f"\n{run['preset']} preset, {run['dataset']}, protocol {run['protocol']}, seeds {run['seeds']}"]
    lines += ["smoke only tests the code: its numbers mean nothing"] if run["preset"] == "smoke" else []
    for path in tables(run):
        if text := headline(path):
            lines += ["", f"{path}", text]
    lines += ["", "open:"]
    for path in sorted(plan.folder(run).glob("*.ipynb")):
        taken = json.loads(path.read_text())["metadata"].get("papermill", {}).get("duration")
        lines.append(f"  {path}" + (f"  (ran {clock(taken)})" if taken else ""))
    return "\n".join([*lines, f"  {paths.FIGURES / run['preset']}", "", f"taken: {clock(seconds)}"])


if __name__ == "__main__":
    words = dict(word.split("=", 1) for word in sys.argv[2:])
    print(report(plan.settings({name: yaml.safe_load(value) for name, value in words.items()}), float(sys.argv[1])))
