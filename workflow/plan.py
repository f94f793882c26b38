"""What a run is: its settings, checked before a path is made of them, and what each notebook asks for."""

import ast
import json
from pathlib import Path

from artlib import paths

DEFAULTS = {"preset": "quick", "protocol": "paper", "dataset": "blossoms", "device": "auto"}


def settings(config: dict) -> dict:
    """The settings of `--config preset=cpu dataset=cifar10 seeds=[0,1]`: DEFAULTS and a list of seeds.

    `seed=1` is `seeds=[1]`. Raises ValueError for an unknown setting and for seeds that are no list.
    """
    if unknown := sorted(set(config) - {*DEFAULTS, "seed", "seeds"}):
        raise ValueError(f"unknown setting {unknown[0]!r}; choose among {', '.join(DEFAULTS)}, seed or seeds")
    if {"seed", "seeds"} <= set(config):
        raise ValueError("seed and seeds are both given; give one of them")
    seeds = config.get("seeds", [config.get("seed", 0)])
    if not isinstance(seeds, list) or not seeds or len(seeds) > len(set(map(str, seeds))):
        raise ValueError(f"seeds is {seeds!r}; it must be a list of different numbers, seeds=[0,1]")
    seeds = [int(seed) if str(seed).isdecimal() else seed for seed in seeds]  # Snakemake leaves [0,1] as text
    return DEFAULTS | {name: value for name, value in config.items() if name in DEFAULTS} | {"seeds": seeds}


def check(run: dict) -> dict:
    """The same settings, if artlib knows their names. Raises ValueError for a name or a type it does not,
    FileNotFoundError for a folder."""
    from artlib import presets  # torch comes with it, which the summary does without

    presets.check(**run)
    return run


def stem(run: dict) -> str:
    """Preset, protocol and data set as the beginning of a file name, without a slash or a blank."""
    return "-".join([run["preset"], run["protocol"], paths.slug(run["dataset"])])


def folder(run: dict) -> Path:
    """Where the executed notebooks and the logs of a run are kept."""
    return paths.ROOT / "data" / "runs" / f"{stem(run)}-{'+'.join(map(str, run['seeds']))}"


def parameters(notebook: Path) -> dict:
    """The values assigned in the cell of a notebook that is tagged `parameters`."""
    for cell in json.loads(notebook.read_text())["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            body = ast.parse("".join(cell["source"])).body
            return {statement.targets[0].id: ast.literal_eval(statement.value) for statement in body}
    raise ValueError(f"{notebook.name} has no cell tagged parameters")


def given(run: dict, notebook: dict) -> dict:
    """The parameters that a run gives to a notebook: those that it has, and the first seed where it takes but one."""
    return {name: value for name, value in (run | {"seed": run["seeds"][0]}).items() if name in notebook}


def models(run: dict, notebook: dict) -> list[tuple[str, int]]:
    """Training and seed of each model that a notebook needs; its list `trainings` names the cheapest first."""
    values = given(run, notebook)
    seeds = values.get("seeds", [values.get("seed", 0)])
    return [(training, seed) for training in notebook.get("trainings", []) for seed in seeds]
