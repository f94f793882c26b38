"""Trained models by recipe, records of their evaluation, and tables that say where their numbers come from."""

import fcntl
import hashlib
import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from artlib import distributed, evaluation, training
from artlib.data import ImageSet
from artlib.digest import code_digest
from artlib.evaluation import Evaluation
from artlib.paths import FIGURES, MODELS, REFERENCE, ROOT, slug
from artlib.training import Recipe

if TYPE_CHECKING:
    import pandas as pd

# ------------------------------------------------------------------ provenance


@cache
def commit() -> str:
    """The git commit of the code, with "+changes" when the working tree differs; "unknown" outside a checkout."""

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != ROOT:
            return "unknown"  # some other project's checkout around an installed copy
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
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU {platform.machine()}",
        "threads": torch.get_num_threads(),
        "process_peak_memory_mib": round(peak),
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
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that makes {path.name}", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def model_path(recipe: Recipe, images: ImageSet) -> Path:
    """Where the model of a recipe trained on these images is kept."""
    name = f"{slug(recipe.dataset)}-{recipe.label}-{recipe.arch}-seed{recipe.seed}"
    return MODELS / f"{name}-{recipe.key(images.fingerprint)}.safetensors"


def model(recipe: Recipe, images: ImageSet, *, device: torch.device | str = "cpu", progress: bool = True) -> nn.Module:
    """The trained model of `recipe` on `images`, in eval mode: loaded if it exists, else trained, resumed if killed.

    Of several processes (`distributed.joined`) rank 0 holds the lock and writes the files. Raises ValueError for a
    damaged file and PermissionError for a models folder that cannot be written.
    """
    _check_images(recipe, images)
    path, leads = model_path(recipe, images), distributed.rank() == 0
    with ExitStack() as lock:
        with distributed.first():
            if leads:
                lock.enter_context(only_one(path))
        if path.exists():
            tensors, _ = training.read_tensors(path)
            net = training.build_model(recipe, images)
            try:
                net.load_state_dict(tensors)
            except RuntimeError:
                raise ValueError(f"{path} holds other weights than {recipe.arch}; delete it and run again") from None
            return net.to(device).eval()
        checkpoint = path.with_suffix(".checkpoint")
        net, record = training.fit(recipe, images, device=device, checkpoint=checkpoint, progress=progress)
        if leads:
            record |= {"recipe": asdict(recipe), "data": describe(images), "machine": machine(device)}
            weights = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
            training.write_tensors(path, weights, {"record": json.dumps(record)})
            checkpoint.unlink(missing_ok=True)
        return net


def _check_images(recipe: Recipe, images: ImageSet) -> None:
    named = recipe.dataset
    if named.startswith("folder:"):  # an image set bears the folder's name alone
        named = f"folder:{Path(named.removeprefix('folder:')).expanduser().resolve().name}"
    size, limit = images.images.shape[2], recipe.limit or len(images)
    if images.name != named or recipe.size not in (None, size) or len(images) > limit:
        raise ValueError(
            f"the recipe is for {recipe.dataset}, size {recipe.size or 'any'}, at most {limit} images; these are "
            f"{len(images)} of {images.name}, size {size}: load them with presets.images or change the recipe"
        )


def training_record(recipe: Recipe, images: ImageSet) -> dict:
    """History, seconds, recipe, data and machine of a trained model, as stored with its weights."""
    return json.loads(training.read_tensors(model_path(recipe, images))[1]["record"])


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
    text = json.dumps([asdict(e), test.fingerprint, code_digest(evaluation.judge)], sort_keys=True)
    path = model_path(recipe, train).with_suffix(f".{hashlib.sha256(text.encode()).hexdigest()[:12]}.json")
    net = model(recipe, train, device=device, progress=progress)
    with only_one(path):
        if path.exists():
            return json.loads(path.read_text())
        started = time.monotonic()
        with training.arithmetic("float32", torch.device(device)):  # the measure is exact, however the model was made
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
        raise PermissionError(f"cannot write {path}: {error}; set ARTLIB_FIGURES or ARTLIB_MODELS elsewhere") from None


def provenance(preset, protocol, sets, e: Evaluation, recipes: dict[str, Recipe], records: dict, *, device) -> dict:
    """Where a table comes from: preset, protocol, data, settings, machine, seconds, and how each model was trained."""
    train = sets[0]
    return {
        "preset": preset,
        "protocol": protocol,
        "data": [describe(s) for s in sets],
        "evaluation": asdict(e),
        "trainings": {name: training_record(r, train) for name, r in recipes.items()},
        "evaluations": {name: {k: r[k] for k in ("seconds", "machine")} for name, r in records.items()},
        "machine": machine(device),
    }


def save_table(table: "pd.DataFrame", name: str, *, preset: str, notebook: str, provenance: dict) -> Path:
    """Write figures/<preset>/<notebook>/<name>.csv and, beside it, its provenance as .json; return the csv's path."""
    path = FIGURES / preset / notebook / f"{name}.csv"
    write_text(path, table.to_csv(index=False, float_format="%.6f"))
    write_text(path.with_suffix(".json"), json.dumps(provenance, indent=1, sort_keys=True) + "\n")
    return path


def reference(name: str) -> "pd.DataFrame | None":
    """The recorded reference run figures/reference/<name>.csv, or None where there is none."""
    import pandas as pd

    path = REFERENCE / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else None


def reference_origin(name: str) -> str:
    """How a recorded run came about, in a few words: preset, note on the data, commit; "none recorded" without one."""
    path = REFERENCE / f"{name}.json"
    if not path.exists():
        return "none recorded"
    about = json.loads(path.read_text())
    note = about["data"][0]["note"] or about["data"][0]["name"]
    return f"{about['preset']} preset, {note}, commit {about['machine']['commit'][:7]}"


# Both speak of the code that was imported: ask now, before somebody edits it under a long run.
commit()
code_digest(evaluation.judge)
