"""Robustness of model attributions: ART (Singh et al., ECCV 2020) and LENS (Kamath et al., AAAI 2024).

Begin with `artlib.audit` for a network of your own, with `artlib.presets` and `artlib.results` for the trainings and
measurements of the papers. A module imports only from those before it:

    paths, files, settings, progress, digest, own_code, metrics, paper, distributed
    -> data -> provenance -> models -> compiled -> attributions -> attacks
    -> trainings -> measurements -> presets -> grids -> results -> costs, tables
    -> effects -> plots -> boxes -> scoreboard -> league, card, audit

Modules load on first use (`import artlib; artlib.metrics.kendall`), so that `import artlib` itself costs nothing.
"""

import importlib

__version__ = "0.1.0"

MODULES = (  # in the order of the flow; tests hold every import to it
    "paths",
    "files",
    "settings",
    "progress",
    "digest",
    "own_code",
    "metrics",
    "paper",
    "distributed",
    "data",
    "provenance",
    "models",
    "compiled",
    "attributions",
    "attacks",
    "trainings",
    "measurements",
    "presets",
    "grids",
    "results",
    "costs",
    "tables",
    "effects",
    "plots",
    "boxes",
    "scoreboard",
    "league",
    "card",
    "audit",
)


def __getattr__(name: str):
    if name in MODULES:
        return importlib.import_module(f"artlib.{name}")
    raise AttributeError(f"artlib has no {name!r}; its modules are {', '.join(MODULES)}")


def __dir__() -> list[str]:
    return sorted([*MODULES, "__version__"])
