"""Absolute folders, so that a notebook finds the same files under Jupyter, papermill and nbval."""

import hashlib
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("ARTLIB_DATA", ROOT / "data")).resolve()  # data sets: local files first, downloads second
MODELS = Path(os.environ.get("ARTLIB_MODELS", ROOT / "data" / "models")).resolve()  # trained weights, by recipe
FIGURES = Path(os.environ.get("ARTLIB_FIGURES", ROOT / "figures")).resolve()  # figures/<preset>/<notebook>/
REFERENCE = ROOT / "figures" / "reference"  # the recorded runs, committed


def slug(dataset: str) -> str:
    """A data set's name as part of a file name: "folder:PATH" becomes folder-NAME-DIGITS, one for each path.

    >>> from artlib.paths import slug
    >>> slug("cifar10"), slug("folder:my photographs")[:21]
    ('cifar10', 'folder-my_photographs')
    """
    if not dataset.startswith("folder:"):
        return dataset
    path = Path(dataset.removeprefix("folder:")).expanduser().resolve()
    digits = hashlib.sha256(str(path).encode()).hexdigest()[:6]
    return f"folder-{re.sub(r'[^A-Za-z0-9._-]+', '_', path.name)[:40]}-{digits}"
