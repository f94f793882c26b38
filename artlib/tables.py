"""What the notebooks print: tables of data, recipes, trainings and results, one function each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from artlib import evaluation, metrics, paper, results
from artlib.attacks import STATUS, Manipulated
from artlib.data import ImageSet
from artlib.paths import slug
from artlib.training import Recipe

if TYPE_CHECKING:
    import pandas as pd

# Columns of Table 1 and the part of a record they are in.
METRICS = {
    "IN": "attribution",
    "K": "attribution",
    "natural": "accuracy",
    "adversarial": "accuracy",
}


def summary(sets: Sequence[ImageSet]) -> "pd.DataFrame":
    """One row per image set: name, split, images, size, the first digits of its fingerprint, and its note."""
    import pandas as pd

    rows = [results.describe(s) | {"classes": len(s.classes)} for s in sets]
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


def histories(recipes: dict[str, Recipe], train: ImageSet) -> "pd.DataFrame":
    """The last epoch of every training: loss, L_attr (Eq. 5 of ART; 0 where not trained for) and training accuracy."""
    import pandas as pd

    last = {name: results.training_record(r, train)["history"][-1] for name, r in recipes.items()}
    return pd.DataFrame.from_dict(last, orient="index")


def values(records: dict[str, dict]) -> dict[str, dict[str, list[float]]]:
    """Per-image values in percent, by training and metric of Table 1."""
    return {
        name: {m: [100 * v for v in record[part][m]] for m, part in METRICS.items()} for name, record in records.items()
    }


def table1(records: dict[str, dict], *, dataset: str, seed: int = 0) -> "pd.DataFrame":
    """One row per training and metric: mean in percent, 95% interval over images, number of images.

    The interval is Wilson's for the accuracies, the bootstrap's for IN and K (`metrics.interval`).

    IN and K count an image without a label-preserving step as 1.0; `kept` is the mean without such images and
    `failed` their number (facts C-23).
    """
    import pandas as pd

    rows = []
    for name, measures in values(records).items():
        keep = evaluation.kept(records[name])
        for metric, per_image in measures.items():
            noise = torch.Generator().manual_seed(seed)
            low, high = metrics.interval(torch.tensor(per_image, dtype=torch.float64), unit=100.0, generator=noise)
            row = {"dataset": dataset, "training": name, "metric": metric}
            row |= {"mean": sum(per_image) / len(per_image), "low": low, "high": high, "images": len(per_image)}
            if METRICS[metric] == "attribution":
                left = [v for v, k in zip(per_image, keep, strict=True) if k]
                row |= {"kept": sum(left) / len(left) if left else None, "failed": len(keep) - len(left)}
            rows.append(row)
    return pd.DataFrame(rows)


def one_image(
    models: dict[str, nn.Module], attacked: dict[str, Manipulated], y: torch.Tensor, k: int
) -> "pd.DataFrame":
    """Per model: confidence in y after the attack, status, kept step, IN and K (0 to 1) of one attacked image."""
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


def overview(name: str) -> "pd.DataFrame":
    """A printed table; beside it the recorded reference runs, with preset and note on the data; blank where none is."""
    import pandas as pd

    printed = paper.table(name).drop(columns="approach").set_index(["dataset", "training"])
    recorded = []
    for dataset in printed.index.unique(0):
        run = run_name(name, dataset=dataset, protocol="paper", seed=0)
        if (table := results.reference(run)) is not None:
            recorded.append(table.assign(origin=results.reference_origin(run)))
    if not recorded:
        return printed
    long = pd.concat(recorded)
    wide = long.pivot_table(index=["dataset", "training"], columns="metric", values="mean")
    wide = wide.reindex(index=printed.index, columns=printed.columns)
    wide["recorded with"] = long.groupby(["dataset", "training"])["origin"].first()
    return pd.concat({"paper": printed, "reference": wide}, axis=1)


def run_name(table: str, *, dataset: str, protocol: str, seed: int) -> str:
    """The file name of a table: what is measured, on what, how, and the seed."""
    return f"{table}-{slug(dataset)}-{protocol}-seed{seed}"


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
