"""The reproducibility card of this companion: the variables of the card that LENS was given, filled from provenance."""

from typing import TYPE_CHECKING

from artlib import files, scoreboard
from artlib.data import SETS
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


ALGORITHMS = ("artlib/trainings/art.py", "artlib/attacks/explanation.py", "artlib/metrics/lens.py")


def card() -> "pd.DataFrame":
    """One row a variable: what the card of LENS says, what holds here, and the evidence, a file of the repository.

    Answers are "Yes" only where the evidence is there and says so: hardware and versions in every recorded run, splits
    with fingerprints in every recorded run, and so on; "In part" where some of the data sets cannot be downloaded.
    where: paths, with ", " between them.
    """
    import pandas as pd

    runs = {name: files.read_json(REFERENCE / f"{name}.json") for name in scoreboard.runs("*")}
    machines = [run.get("machine", {}) for run in runs.values()]
    one = f"figures/reference/{next(iter(runs))}.json"  # as of every run
    rows = {
        "Research Type": ("Reproduction, experimental", "", "README.md"),
        "Pseudocode": _present("as code: ART's Algorithm 1, IFIA and LENS's greedy diverse set", *ALGORITHMS),
        "Open Source Code": _present(f"{_license()} licence", "LICENSE"),
        "Open Datasets": _open(runs),
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
    linked = {"where": lambda where: ", ".join(f'<a href="../{path}">{path}</a>' for path in where.split(", "))}
    return Shown(shown.to_string(), shown.to_html(escape=False, formatters=linked))


def _present(what: str, *where: str) -> tuple[str, str, str]:
    return ("Yes" if all((ROOT / path).exists() for path in where) else "No"), what, ", ".join(where)


def _all(runs: dict[str, dict], key: str, what: str, where: str) -> tuple[str, str, str]:
    """Yes where every recorded run tells of it; the oldest one has another word for measurements."""
    silent = [
        name for name, run in runs.items() if not (run.get(key) or run.get(key.replace("measurements", "evaluation")))
    ]
    return ("No" if silent or not runs else "Yes"), (f"not in {silent[0]}" if silent else what), where


def _license() -> str:
    return (ROOT / "LICENSE").read_text().split("\n")[0].removesuffix(" License")


def _open(runs: dict[str, dict]) -> tuple[str, str, str]:
    """Yes where `data.load` downloads or draws every set of the recorded runs; those that it does not are named."""
    used = sorted({each["name"] for run in runs.values() for each in run["data"]})
    fetched = ", ".join(scoreboard.NAMES.get(name, name) for name in used if SETS[name].fetched)
    not_fetched = ", ".join(name for name in used if not SETS[name].fetched)
    answer, what, where = _all(runs, "data", f"by download, or drawn: {fetched}", "data/README.md")
    if answer == "Yes" and not_fetched:
        return "In part", f"{what}; not to be had by download: {not_fetched}", where
    return answer, what, where


def _splits(runs: dict[str, dict]) -> str:
    found = {
        f"{s['name']} {s['split']} {s['images']:,} ({s['fingerprint'][:8]})" for r in runs.values() for s in r["data"]
    }
    return ", ".join(sorted(found))


def _among(machines: list[dict], *keys: str) -> str:
    found = {", ".join(f"{key} {machine[key]}" for key in keys if key in machine) for machine in machines}
    return "; ".join(sorted(found))
