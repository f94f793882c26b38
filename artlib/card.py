"""The reproducibility card of this companion: the variables of the card that LENS was given, filled from provenance."""

from typing import TYPE_CHECKING

from artlib import files, scoreboard
from artlib.paths import REFERENCE, ROOT
from artlib.tables import Shown

if TYPE_CHECKING:
    import pandas as pd

# What the card of LENS says of the paper (the one given to its archive copy).
LENS = {
    "Research Type": "Experimental",
    "Pseudocode": "No",
    "Open Source Code": "Yes",
    "Open Datasets": "Yes",
    "Dataset Splits": "No",
    "Hardware Specification": "No",
    "Software Dependencies": "No",
    "Experiment Setup": "Yes",
}


def card() -> "pd.DataFrame":
    """One row a variable: what the card of LENS says, what holds here, and the evidence, a file of the repository.

    Answers are "Yes" only where the evidence is there and says so: hardware and versions in every recorded run, splits
    with fingerprints in every recorded run, and so on.
    """
    import pandas as pd

    runs = {name: files.read_json(REFERENCE / f"{name}.json") for name in scoreboard.runs("*")}
    machines = [run.get("machine", {}) for run in runs.values()]
    one = f"figures/reference/{next(iter(runs))}.json"  # as of every run
    rows = {
        "Research Type": ("Reproduction, experimental", "", "README.md"),
        "Pseudocode": _present("Algorithm 1, IFIA and the greedy diverse set as code", "artlib/metrics/lens.py"),
        "Open Source Code": _present(f"{_license()} licence", "LICENSE"),
        "Open Datasets": _all(runs, "data", _sets(runs), "artlib/data/__init__.py"),
        "Dataset Splits": _all(runs, "data", _splits(runs), one),
        "Hardware Specification": _all(runs, "machine", _among(machines, "device", "processor", "threads"), one),
        "Software Dependencies": _present(_among(machines, "python", "torch"), "requirements.lock"),
        "Experiment Setup": _all(
            runs, "measurements", "every setting of every training and measurement", "artlib/presets.py"
        ),
    }
    found = pd.DataFrame(
        {name: [LENS[name], *row] for name, row in rows.items()}, index=["LENS", "here", "what", "where"]
    )
    return found.T.rename_axis("variable")


def board(found: "pd.DataFrame") -> Shown:
    """A `card` as LENS and this companion answer, with links to the evidence, as seen from the folder notebooks/."""
    shown = found[["LENS", "here", "where"]]
    linked = {"where": lambda where: f'<a href="../{where}">{where}</a>'}
    return Shown(shown.to_string(), shown.to_html(escape=False, formatters=linked))


def _present(what: str, where: str) -> tuple[str, str, str]:
    return ("Yes" if (ROOT / where).exists() else "No"), what, where


def _all(runs: dict[str, dict], key: str, what: str, where: str) -> tuple[str, str, str]:
    """Yes where every recorded run tells of it; the oldest one has another word for measurements."""
    silent = [
        name for name, run in runs.items() if not (run.get(key) or run.get(key.replace("measurements", "evaluation")))
    ]
    return ("No" if silent or not runs else "Yes"), (f"not in {silent[0]}" if silent else what), where


def _license() -> str:
    return (ROOT / "LICENSE").read_text().split("\n")[0].removesuffix(" License")


def _sets(runs: dict[str, dict]) -> str:
    return ", ".join(sorted({scoreboard.NAMES.get(s["name"], s["name"]) for run in runs.values() for s in run["data"]}))


def _splits(runs: dict[str, dict]) -> str:
    found = {
        f"{s['name']} {s['split']} {s['images']:,} ({s['fingerprint'][:8]})" for r in runs.values() for s in r["data"]
    }
    return ", ".join(sorted(found))


def _among(machines: list[dict], *keys: str) -> str:
    found = {", ".join(f"{key} {machine[key]}" for key in keys if key in machine) for machine in machines}
    return "; ".join(sorted(found))
