"""Absolute folders, so that a notebook finds the same files under Jupyter, papermill and nbval."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("ARTLIB_DATA", ROOT / "data")).resolve()  # data sets: local files first, downloads second
MODELS = Path(os.environ.get("ARTLIB_MODELS", ROOT / "data" / "models")).resolve()  # trained weights, by recipe
FIGURES = Path(os.environ.get("ARTLIB_FIGURES", ROOT / "figures")).resolve()  # figures/<preset>/<notebook>/
