"""Trained models by recipe, records of their evaluation, and tables that say where their numbers come from."""

import fcntl
import hashlib
import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from artlib import evaluation, metrics, paper, training
from artlib.attribution_attacks import STATUS, Manipulated
from artlib.data import ImageSet
from artlib.evaluation import Evaluation
from artlib.paths import FIGURES, MODELS, ROOT
from artlib.training import Recipe

if TYPE_CHECKING:
    import pandas as pd

METRICS = {"IN": "attribution", "K": "attribution", "natural": "accuracy", "adversarial": "accuracy"}

# ------------------------------------------------------------------ provenance


@cache
def commit() -> str:
    """The git commit of the code, with "+changes" when the working tree differs; "unknown" outside a checkout."""

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", "artlib") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine(device: torch.device | str) -> dict:
    """Versions, device, threads and peak memory (MiB) of this process."""
    device = torch.device(device)
    cuda = device.type == "cuda"
    peak = (
        torch.cuda.max_memory_allocated(device) / 2**20
        if cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU, {torch.get_num_threads()} threads",
        "peak_memory_mib": round(peak),
        "commit": commit(),
    }


def describe(images: ImageSet) -> dict:
    """Name, split, number, size, fingerprint and note of an image set."""
    about = {"name": images.name, "split": images.split, "images": len(images), "size": images.images.shape[2]}
    return about | {"fingerprint": images.fingerprint, "note": images.note}


# ------------------------------------------------------------------ models and evaluations, made once


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold a lock beside `path`, so that two notebooks that need the same file wait for one computation."""
    lock = path.with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = open(lock, "w")
    except OSError as error:
        raise PermissionError(f"cannot write {lock}: {error}; set ARTLIB_MODELS to a folder that can be") from None
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def model_path(recipe: Recipe, images: ImageSet) -> Path:
    """Where the model of a recipe trained on these images is kept."""
    name = recipe.dataset.replace("/", "_").replace(":", "_")
    return (
        MODELS / f"{name}-{recipe.label}-{recipe.arch}-seed{recipe.seed}-{recipe.key(images.fingerprint)}.safetensors"
    )


def model(recipe: Recipe, images: ImageSet, *, device: torch.device | str = "cpu", progress: bool = True) -> nn.Module:
    """The trained model of `recipe` on `images`, in eval mode: loaded if it exists, else trained, resumed if killed.

    Raises ValueError for a damaged file and PermissionError for a models folder that cannot be written.
    """
    path = model_path(recipe, images)
    with only_one(path):
        if path.exists():
            tensors, _ = training.read_tensors(path)
            net = training.build_model(recipe, images)
            net.load_state_dict(tensors)
            return net.to(device).eval()
        checkpoint = path.with_suffix(".checkpoint")
        net, record = training.fit(recipe, images, device=device, checkpoint=checkpoint, progress=progress)
        record |= {"recipe": asdict(recipe), "data": describe(images), "machine": machine(device)}
        weights = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
        training.write_tensors(path, weights, {"record": json.dumps(record)})
        checkpoint.unlink(missing_ok=True)
        return net


def training_record(recipe: Recipe, images: ImageSet) -> dict:
    """History, seconds, recipe, data and machine of a trained model, as stored with its weights."""
    return json.loads(training.read_tensors(model_path(recipe, images))[1]["record"])


@cache
def code_digest() -> str:
    """sha256 over the modules an evaluation runs through: a stored record of other code is not used."""
    names = ("metrics", "models", "attributions", "attacks", "attribution_attacks", "evaluation")
    text = b"".join((Path(__file__).parent / f"{name}.py").read_bytes() for name in names)
    return hashlib.sha256(text).hexdigest()


def judged(
    recipe: Recipe,
    e: Evaluation,
    *,
    train: ImageSet,
    test: ImageSet,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> dict:
    """`evaluation.judge` of the recipe's model on `test`, stored per image beside the weights and made only once.

    Returns {"attribution", "accuracy", "seconds", "machine"}. A stored record is used only when model, evaluation,
    test images and evaluating code are the same.
    """
    text = json.dumps([evaluation.settings(e), test.fingerprint, code_digest()], sort_keys=True)
    path = model_path(recipe, train).with_suffix(f".{hashlib.sha256(text.encode()).hexdigest()[:12]}.json")
    net = model(recipe, train, device=device, progress=progress)
    with only_one(path):
        if path.exists():
            return json.loads(path.read_text())
        started = time.monotonic()
        record = evaluation.judge(net, test.to(device), e, progress=progress)
        record |= {"seconds": time.monotonic() - started, "machine": machine(device)}
        write_text(path, json.dumps(record))
        return record


# ------------------------------------------------------------------ tables


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all. Raises PermissionError naming the folder that cannot be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise PermissionError(f"cannot write {path}: {error}") from None


def values(records: dict[str, dict]) -> dict[str, dict[str, list[float]]]:
    """Per-image values in percent, by training and metric of Table 1."""
    return {
        name: {m: [100 * v for v in record[part][m]] for m, part in METRICS.items()} for name, record in records.items()
    }


def table1(records: dict[str, dict], *, dataset: str, seed: int = 0) -> "pd.DataFrame":
    """One row per training and metric: mean in percent, bootstrap 95% interval over images, number of images.

    IN and K count an image without a label-preserving step as 1.0; `kept` is the mean without such images and
    `failed` their number (facts C-23).
    """
    import pandas as pd

    rows = []
    for name, measures in values(records).items():
        keep = evaluation.kept(records[name])
        for metric, per_image in measures.items():
            noise = torch.Generator().manual_seed(seed)
            low, high = metrics.bootstrap_interval(torch.tensor(per_image, dtype=torch.float64), generator=noise)
            row = {"dataset": dataset, "training": name, "metric": metric}
            row |= {"mean": sum(per_image) / len(per_image), "low": low, "high": high, "images": len(per_image)}
            if METRICS[metric] == "attribution":
                left = [v for v, k in zip(per_image, keep, strict=True) if k]
                row |= {"kept": sum(left) / len(left) if left else None, "failed": len(keep) - len(left)}
            rows.append(row)
    return pd.DataFrame(rows)


def tidy(table: "pd.DataFrame", decimals: int = 2) -> "pd.DataFrame":
    """The table as text for print, blank where nothing was measured.

    Numbers are rounded to 9 digits first, so that the last bits of two machines end in the same printed digit.
    """

    def text(v) -> str:
        if v != v or v is None:
            return ""
        return f"{round(v, 9):z.{decimals}f}" if isinstance(v, float) else str(v)

    whole = [
        c for c in table.select_dtypes("float") if (table[c].dropna() % 1 == 0).all() and c in ("images", "failed")
    ]
    return table.astype({c: "Int64" for c in whole}).astype(object).where(table.notna(), None).map(text)


def histories(recipes: dict[str, Recipe], train: ImageSet) -> "pd.DataFrame":
    """The last epoch of every training: loss, L_attr (Eq. 5 of ART; 0 where not trained for) and training accuracy."""
    import pandas as pd

    last = {name: training_record(r, train)["history"][-1] for name, r in recipes.items()}
    return pd.DataFrame.from_dict(last, orient="index")


def summary(sets: Sequence[ImageSet]) -> "pd.DataFrame":
    """One row per image set: name, split, images, size, the first digits of its fingerprint, and its note."""
    import pandas as pd

    rows = [describe(s) | {"classes": len(s.classes)} for s in sets]
    return pd.DataFrame([row | {"fingerprint": row["fingerprint"][:12]} for row in rows])


def compare_recipes(recipes: dict[str, Recipe]) -> "pd.DataFrame":
    """The fields in which trainings usually differ, one column a recipe; blank where a training has no such field."""
    import pandas as pd

    fields = ("arch", "epochs", "batch_size", "lr", "schedule", "augment", "eps", "pgd_steps", "pgd_step_size", "seed")
    pixels = ("eps", "pgd_step_size", "step_size")
    columns = {
        name: {f: r.relevant().get(f, "") for f in fields} | r.relevant().get("art", {}) for name, r in recipes.items()
    }
    for column in columns.values():
        column |= {f: f"{255 * column[f]:.3g}/255" for f in pixels if isinstance(column.get(f), float)}
    return pd.DataFrame(columns).fillna("")


def first_correct(models: dict[str, nn.Module], images: ImageSet) -> tuple[torch.Tensor, torch.Tensor]:
    """The first image (1, C, H, W) that every model classifies correctly, and its label; ValueError without one."""
    right = torch.stack([evaluation.predictions(m, images) == images.labels for m in models.values()]).all(0).nonzero()
    if not len(right):
        raise ValueError(f"none of {len(images)} images is classified correctly by all of {', '.join(models)}")
    dtype = next(next(iter(models.values())).parameters()).dtype
    one = images.subset(right[0])
    return one.images.to(dtype) / 255, one.labels


def one_image(models, attacked: dict[str, Manipulated], y: torch.Tensor, *, k: int) -> "pd.DataFrame":
    """Per model: confidence in y before and after, status, kept step, IN and K of the one attacked image."""
    import pandas as pd

    rows = {}
    for name, found in attacked.items():
        with torch.no_grad():
            after = models[name](found.x_adv).softmax(1)[0, y.item()].item()
        rows[name] = {
            "confidence after": after,
            "status": STATUS[found.status.item()],
            "step kept": found.kept_step.item(),
            "IN": metrics.topk_intersection(found.before, found.after, k).item(),
            "K": found.kendall.item(),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def seeded(seed: int) -> torch.Generator:
    """A CPU generator that starts at `seed`."""
    return torch.Generator().manual_seed(seed)


def run_name(table: str, *, dataset: str, protocol: str, seed: int) -> str:
    """The file name of a table: what is measured, on what, how, and the seed."""
    plain = Path(dataset.removeprefix("folder:")).expanduser().resolve().name
    return f"{table}-{plain}-{protocol}-seed{seed}"


def overview(name: str) -> "pd.DataFrame":
    """A printed table with, beside each value, that of the recorded reference run where there is one."""
    import pandas as pd

    printed = paper.table(name).drop(columns="approach").set_index(["dataset", "training"])
    recorded = [pd.read_csv(f) for f in sorted((ROOT / "figures" / "reference").glob(f"{name}-*-paper-seed0.csv"))]
    if not recorded:
        return printed
    wide = pd.concat(recorded).pivot_table(index=["dataset", "training"], columns="metric", values="mean", sort=False)
    return pd.concat({"paper": printed, "reference": wide.reindex(columns=printed.columns)}, axis=1)


def provenance(preset, protocol, sets, e: Evaluation, recipes: dict[str, Recipe], records: dict, *, device) -> dict:
    """Where a table comes from: preset, protocol, data, settings, machine, seconds, and how each model was trained."""
    train = sets[0]
    return {
        "preset": preset,
        "protocol": protocol,
        "data": [describe(s) for s in sets],
        "evaluation": evaluation.settings(e),
        "trainings": {name: training_record(r, train) for name, r in recipes.items()},
        "evaluations": {name: {k: r[k] for k in ("seconds", "machine")} for name, r in records.items()},
        "machine": machine(device),
    }


def recorded_figure(name: str):
    """The committed figure figures/reference/<name>.png, as an object a notebook shows; None where there is none."""
    from IPython.display import Image

    path = ROOT / "figures" / "reference" / f"{name}.png"
    return Image(filename=path) if path.exists() else None


def save_table(table: "pd.DataFrame", name: str, *, preset: str, notebook: str, provenance: dict) -> Path:
    """Write figures/<preset>/<notebook>/<name>.csv and, beside it, its provenance as .json; return the csv's path."""
    path = FIGURES / preset / notebook / f"{name}.csv"
    write_text(path, table.to_csv(index=False, float_format="%.6f"))
    write_text(path.with_suffix(".json"), json.dumps(provenance, indent=1, sort_keys=True) + "\n")
    return path


def reference(name: str) -> "pd.DataFrame | None":
    """The recorded reference run figures/reference/<name>.csv, or None where there is none."""
    import pandas as pd

    path = ROOT / "figures" / "reference" / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else None
