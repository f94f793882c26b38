"""Trained models and measurements, each made once and stored with where it comes from."""

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from artlib import distributed, files, models, presets, trainings
from artlib.data import ImageSet
from artlib.digest import code_digest
from artlib.measurements import MEASUREMENTS, Measurement
from artlib.models import mode
from artlib.own_code import own_code
from artlib.paths import FIGURES, MODELS, REFERENCE, slug
from artlib.provenance import describe, machine
from artlib.settings import plain
from artlib.trainings import Recipe
from artlib.trainings.fit import training_code
from artlib.trainings.late import LATE

if TYPE_CHECKING:
    import pandas as pd

RECORDED = REFERENCE / "models"  # small models behind recorded runs, and what was measured of them; committed

# ------------------------------------------------------------------ models, made once


def model_path(recipe: Recipe, images: ImageSet) -> Path:
    """Where the model of a recipe trained on these images is kept: among the recorded ones, or in `paths.MODELS`.

    A training written outside artlib is known by its code, too: an edited one is trained anew.
    """
    name = f"{slug(recipe.dataset)}-{recipe.label}-{recipe.arch}-seed{recipe.seed}"
    own = own_code(recipe.training, models.find(recipe.arch).make)
    return _place("-".join(filter(None, [name, recipe.key(images.fingerprint), own])) + ".safetensors")


def _place(name: str) -> Path:
    return RECORDED / name if (RECORDED / name).exists() else MODELS / name


def model(
    recipe: Recipe,
    images: ImageSet,
    *,
    device: torch.device | str = "cpu",
    edited: bool = False,
    progress: bool = True,
) -> nn.Module:
    """The trained model of `recipe` on `images`, in eval mode: loaded if it exists, else trained, resumed if killed.

    One line says so when it was trained by other code than there is now; `edited` goes on with a checkpoint of other
    code, too. Of several processes (`distributed.joined`) rank 0 holds the lock and writes the files. Raises ValueError
    for a damaged file or one of another recipe, and PermissionError for a folder that cannot be written.
    """
    _check_images(recipe, images)
    path, leads = model_path(recipe, images), distributed.rank() == 0
    if distributed.world() == 1 and path.exists():  # a folder that can only be read will do
        return _loaded(recipe, images, path).to(device)
    with ExitStack() as lock:
        with distributed.first():
            if leads:
                lock.enter_context(files.only_one(path, tell=progress))
        if path.exists():
            return _loaded(recipe, images, path).to(device)
        checkpoint = path.with_suffix(".checkpoint")
        options = dict(device=device, checkpoint=checkpoint, edited=edited, progress=progress)
        net, record = trainings.fit(recipe, images, **options)
        if leads:
            record |= {"recipe": recipe.plain(), "data": describe(images), "machine": machine(device)}
            metadata = {"record": json.dumps(record), "key": recipe.key(images.fingerprint)}
            files.write_tensors(path, net.state_dict(), metadata)
            checkpoint.unlink(missing_ok=True)
        return net


def _loaded(recipe: Recipe, images: ImageSet, path: Path) -> nn.Module:
    tensors, metadata = files.read_tensors(path)
    if metadata.get("key") != recipe.key(images.fingerprint):
        raise ValueError(f"{path} holds the model of another recipe or of other images; delete it and run again")
    if broken := [name for name, value in tensors.items() if not value.isfinite().all()]:
        raise ValueError(f"{path} holds values that are not finite, in {broken[0]}; delete it and run again")
    net = trainings.build_model(recipe, images, weights=False)  # which the file has
    try:
        net.load_state_dict(tensors)
    except RuntimeError:
        raise ValueError(f"{path} holds other weights than {recipe.arch}; delete it and run again") from None
    record = _record(path, metadata)
    if record["code"] != training_code(recipe) and path.parent != RECORDED:  # whose commit its table names
        _say_once(f"{path.name}: trained by other code (commit {record['machine']['commit'][:7]}); delete it to renew")
    return net.eval()


def _record(path: Path, metadata: dict[str, str]) -> dict:
    try:
        record = json.loads(metadata["record"])
        whole = {"history", "code", "machine"} <= set(record) and "commit" in record["machine"]
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged (its record cannot be read); delete it and run again")
    return record


def training_kind(recipe: Mapping) -> type[trainings.Training]:
    """The class of a recorded recipe's training. Raises ValueError where it is not listed any more."""
    for kind in (*trainings.TRAININGS.values(), *LATE.values()):
        if kind.__qualname__ == recipe["training"]["kind"]:
            return kind
    raise ValueError("its training is not listed any more")


def state(path: Path) -> str:
    """In a few words what a model's file is: the commit that trained it, and why it is stale if it is."""
    try:
        record = _record(path, files.read_tensors(path)[1])
        recipe = record["recipe"]
        kind = training_kind(recipe)
        code = code_digest(trainings.fit, kind, models.find(recipe["arch"]).make)
    except (ValueError, KeyError) as error:
        return f"stale: {error}"
    told = f"commit {record['machine']['commit'][:7]}, {record['seconds'] / 60:.0f} minutes"
    if code == record["code"]:
        return told
    stale = "" if path.parent == RECORDED else "stale: "  # a recorded one is what its table names
    return f"{told}; {stale}the training code has changed since"


def named(path: Path) -> bool:
    """Whether a recipe of a preset, as presets are now, names this model, with its network; a grid's rows none does."""
    try:
        metadata = files.read_tensors(path)[1]
        record = _record(path, metadata)
        recipe, training = record["recipe"], training_kind(record["recipe"]).name
        same = dict(dataset=recipe["dataset"], seed=recipe["seed"], arch=recipe["arch"])
        asked = [presets.recipe(p, training, protocol=o, **same) for p in presets.PRESETS for o in trainings.PROTOCOLS]
        return metadata["key"] in [one.key(record["data"]["fingerprint"]) for one in asked]
    except (ValueError, KeyError):
        return False


@cache
def _say_once(sentence: str) -> None:
    print(sentence, flush=True)


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
    path = model_path(recipe, images)
    return _record(path, files.read_tensors(path)[1])


def recorded_training(stem: str) -> dict:
    """The same of a recorded model by its file's name; STEM.training.json where its weights are too large to commit."""
    path = RECORDED / f"{stem}.safetensors"
    if path.exists():
        return _record(path, files.read_tensors(path)[1])
    return files.read_json(path.with_suffix(".training.json"))


# ------------------------------------------------------------------ measurements, made once


def measured(
    subject: Recipe | nn.Module,
    measurement: Measurement,
    *,
    test: ImageSet,
    train: ImageSet | None = None,
    name: str = "",
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> dict:
    """`measurement` of a recipe's model (trained on `train`), or of any model, on `test`; stored, and made only once.

    A model without a recipe is known by its weights, its layers and its logits of the first images.
    Returns {"values": {column: list}, "seconds", "machine", ...}; None stands for NaN. What is stored is used only when
    weights, measurement, images and measuring code are the same. `name` is a model's part of the file name.
    Raises ValueError for a stored file that is damaged, and for values that the measurement says cannot be.
    """
    if not isinstance(measurement, Measurement):
        raise ValueError(f"measurement is {measurement!r}; presets.measurement makes one of {', '.join(MEASUREMENTS)}")
    if name != Path(name).name:
        raise ValueError(f"name is {name!r}; it becomes part of a file name: no folders in it")
    if isinstance(subject, Recipe) and train is None:
        raise ValueError("a recipe's model is one of its training images: give train, or a model")
    if isinstance(subject, Recipe):
        net = model(subject, train, device=device, progress=progress)
        name = model_path(subject, train).stem
    else:
        net, name = subject.to(device), name or type(subject).__name__
    weights = files.tensors_digest(net.state_dict())[:12]
    known = "" if isinstance(subject, Recipe) else [repr(net), _behaviour(net, test)]
    path = _measurement_path(name, measurement, test, weights, known)
    if path.exists():
        return _checked(path, measurement, test, weights)
    with files.only_one(path, tell=progress):
        if path.exists():
            return _checked(path, measurement, test, weights)
        started = time.monotonic()
        with trainings.arithmetic("float32", torch.device(device)):  # exact, however the model was made
            columns = measurement(net, test.to(device), progress=progress)
        record = {"values": {k: _list(v) for k, v in columns.items()}, "seconds": time.monotonic() - started}
        record |= {"measurement": measurement.plain(), "weights": weights, "machine": machine(device)}
        record = json.loads(json.dumps(record | {"test": describe(test)}))  # as it will be read
        if not _fits(record, measurement, test, weights):
            raise ValueError(f"{measurement} returned other columns than it says, or values outside their bounds")
        files.write_text(path, json.dumps(record))
        return record


def stored(
    net: nn.Module, asked: Mapping[str, Measurement], *, test: ImageSet, name: str
) -> dict[str, tuple[Path, dict | None]]:
    """Where `measured` keeps each measurement of a model without a recipe, by title, and what is there, if anything."""
    weights, known = files.tensors_digest(net.state_dict())[:12], [repr(net), _behaviour(net, test)]
    paths = {title: _measurement_path(name, m, test, weights, known) for title, m in asked.items()}
    return {t: (p, _checked(p, asked[t], test, weights) if p.exists() else None) for t, p in paths.items()}


def _measurement_path(name: str, measurement: Measurement, test: ImageSet, weights: str, known: str | list) -> Path:
    parts = (measurement, *measurement.parts)
    code = code_digest(*parts) + own_code(*parts)
    told = [measurement.differences(), test.fingerprint, code, weights, known]
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
    return _place(f"{name}.{measurement.name}.{key}.json")


@torch.no_grad()
def _behaviour(net: nn.Module, images: ImageSet) -> str:
    """A digest of the logits of the first images: what `forward` does is in neither weights nor layers."""
    with mode(net):
        p = next(net.parameters())
        logits = net(images.images[:8].to(p.device, p.dtype) / 255)
    return files.tensors_digest({"logits": logits})[:12]


def _list(column: Tensor) -> list:
    column = column.int() if column.dtype == torch.bool else column
    return [None if v != v else v for v in column.tolist()]


def _checked(path: Path, measurement: Measurement, test: ImageSet, weights: str) -> dict:
    record = files.read_json(path)
    if not _fits(record, measurement, test, weights):
        raise ValueError(f"{path} does not hold this measurement of this model; delete it and run again")
    return record


def _fits(record: dict, measurement: Measurement, test: ImageSet, weights: str) -> bool:
    """Whether a record names these weights, and has the columns of the measurement with values that can be."""
    try:
        columns = record["values"]
        lengths = {len(column) for column in columns.values()}
        metrics = {**measurement.metrics, **measurement.details}
        fits = len(lengths) == 1 and {*metrics, "index"} <= set(columns) and record["weights"] == weights
        for column, metric in metrics.items():
            low, high = metric.bounds
            fits = fits and all(v is None or low <= v <= high for v in columns[column])
        return fits and _indices_fit(columns["index"], measurement, len(test))
    except (KeyError, TypeError, AttributeError):
        return False


def _indices_fit(index: list[int], measurement: Measurement, available: int) -> bool:
    """Different images of the set, as many as are measured; fewer where not every image is asked."""
    most = measurement.count(available)
    least = most if any(metric.paired for metric in measurement.metrics.values()) else 1
    return least <= len(set(index)) == len(index) <= most and all(0 <= i < available for i in index)


# ------------------------------------------------------------------ tables


def provenance(
    preset: str,
    protocol: str,
    sets: tuple[ImageSet, ...],
    measurements: Mapping[str, Measurement],
    recipes: Mapping[str, Recipe],
    records: Mapping[str, Mapping[str, dict]],
    *,
    device: torch.device | str,
) -> dict:
    """Where a table comes from: preset, protocol, data, settings, machine, seconds, and how each model was trained.

    recipes: by row of the table; records: by row and measurement.
    """
    return {
        "preset": preset,
        "protocol": protocol,
        "data": [describe(s) for s in sets],
        "measurements": plain(dict(measurements), whole=True),
        "trainings": {name: training_record(r, sets[0]) for name, r in recipes.items()},
        "measured": {
            row: {name: {k: r[k] for k in ("seconds", "machine", "weights")} for name, r in each.items()}
            for row, each in records.items()
        },
        "machine": machine(device),
    }


def save_table(table: "pd.DataFrame", name: str, *, preset: str, notebook: str, provenance: dict) -> Path:
    """Write figures/<preset>/<notebook>/<name>.csv and, beside it, its provenance as .json; return the csv's path.

    The provenance holds the digest of the table, so that the two cannot be of different runs unnoticed.
    """
    path, text = FIGURES / preset / notebook / f"{name}.csv", table.to_csv(index=False, float_format="%.6f")
    provenance = provenance | {"table": hashlib.sha256(text.encode()).hexdigest()}
    files.write_text(path.with_suffix(".json"), json.dumps(provenance, indent=1, sort_keys=True) + "\n")
    files.write_text(path, text)
    return path


def reference(name: str) -> "pd.DataFrame | None":
    """The recorded reference run figures/reference/<name>.csv, or None where there is none.

    Raises ValueError when table and provenance are of different runs.

    >>> from artlib import results
    >>> found = results.reference("table1-cifar10-paper-seed0+1").query("metric == 'IN'")
    >>> found["training"].tolist()
    ['natural', 'pgd', 'art']
    >>> results.reference("table1-imagenet-paper-seed0") is None
    True
    """
    import pandas as pd

    path = REFERENCE / f"{name}.csv"
    if not path.exists():
        return None
    about = path.with_suffix(".json")
    told = files.read_json(about).get("table") if about.exists() else None
    if told and told != hashlib.sha256(path.read_bytes()).hexdigest():
        raise ValueError(f"{path} and its .json are of different runs; record both again")
    return pd.read_csv(path)


def reference_origin(name: str) -> str:
    """How a recorded run came about, in a few words: preset, note on the data, commit; "none recorded" without one."""
    path = REFERENCE / f"{name}.json"
    if not path.exists():
        return "none recorded"
    about = files.read_json(path)
    note = about["data"][0]["note"] or about["data"][0]["name"]
    return f"{about['preset']} preset, {note}, commit {about['machine']['commit'][:7]}"


# It speaks of the code that was imported: ask now, before somebody edits it under a long run.
code_digest(*(name for name in list(sys.modules) if name.startswith("artlib.")))
