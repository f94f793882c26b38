"""What an audit found: a table in a notebook, an HTML page that stands alone, JSON."""

import base64
import html
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artlib import files, metrics, plots, results, scoreboard
from artlib.attacks import Manipulated
from artlib.data import ImageSet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

METRICS = {
    "natural": "images that the model classifies correctly; not there if labels are its predictions",
    "adversarial": "images that it still classifies correctly under PGD",
    "IN": "of a map's k largest pixels those that are among them after the attack",
    "K": "Kendall's rank correlation of all pixels of the map before and after, from -100 to 100",
    "recall_1": "LENS-recall@k with w = 1: a pixel counts if one of the k is next to it",
    "recall_2": "the same with w = 2, up to two pixels away",
    "recall_3": "the same with w = 3",
    "diverse_recall_1": "LENS-recall@k with w = 1 on diverse pixels, one a neighbourhood",
}
_ROW = {
    "type": "object",
    "additionalProperties": False,
    "required": ["explanation", "metric", "mean", "low", "high", "images"],
    "properties": {
        "explanation": {"type": "string", "description": "attribution and attack; the model's name for accuracies"},
        "metric": {
            "enum": list(METRICS),
            "description": "in percent: " + "; ".join(f"{name}: {told}" for name, told in METRICS.items()),
        },
        "mean": {"type": ["number", "null"], "description": "percent, over images"},
        "low": {"type": ["number", "null"], "description": "of the 95% interval, percent; null where there is none"},
        "high": {"type": ["number", "null"], "description": "of the same interval, percent"},
        "images": {"type": ["integer", "null"], "description": "how many the mean is over"},
        "failed": {
            "type": ["integer", "null"],
            "description": "without a label-preserving step: they count 100",
        },
        "unranked": {"type": ["integer", "null"], "description": "map or gradient constant, zero or NaN"},
    },
}
_ABOUT = {
    "model": {"type": "string", "description": "its name"},
    "parameters": {"type": "integer", "description": "weights; 0 for a function, whose weights are not known"},
    "images": {"type": "object", "description": "name, split, number, size, fingerprint and note of all images"},
    "accuracy_images": {"type": "integer", "description": "of how many of them accuracy is"},
    "questions": {"type": "object", "description": "the settings of audit.Questions; eps in units of [0, 1]"},
    "k": {
        "type": "object",
        "description": "by attribution: pixels of the top-k",
        "additionalProperties": {"type": "integer", "minimum": 1},
    },
    "machine": {"type": "object", "description": "versions, device, memory, commit of artlib"},
    "seconds": {"type": "number", "description": "that all measurements took, whenever they were made"},
    "remarks": {
        "type": "array",
        "items": {"type": "string"},
        "description": "why an attack has no number: sentences; may be missing",
    },
}
SCHEMA = {  # of report.json, JSON Schema 2020-12
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Audit of a classifier's explanations",
    "description": "written by artlib.audit; numbers are percent, null where there is none",
    "type": "object",
    "required": ["schema", "about", "accuracy", "explanations"],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": "artlib-audit-1", "description": "artlib.audit.SCHEMA, which is this"},
        "about": {
            "description": "what was asked of what, where",
            "type": "object",
            "required": [name for name in _ABOUT if name != "remarks"],
            "properties": _ABOUT,
            "additionalProperties": False,
        },
        "accuracy": {
            "type": "array",
            "items": _ROW,
            "description": "natural, unless labels were predicted; adversarial",
        },
        "explanations": {"type": "array", "items": _ROW, "description": "the other metrics, by attribution and attack"},
    },
}
READING = """Each explanation is a map of how much every pixel matters to the class. An attack changes the image
by at most eps in every pixel, so that the prediction stays and the map does not. IN is the share of the map's k
largest pixels that are still among them, K Kendall's rank correlation of all pixels; 100 is a map that did not
move. An image of which no step keeps the prediction counts as 100; where that is every image there is no
number. LENS-recall forgives shifts of up to w pixels, on diverse pixels it counts one a neighbourhood. "random"
is a random sign in every pixel: an attack that is no worse than that tells more of the measure than of the
model; "topk" pushes the k largest pixels down, "mass_center" moves the map's centre of mass, "targeted" pulls
the map towards itself turned upside down. "failed" counts attacked images of which no step kept the prediction,
"unranked" those whose map or gradient is constant, zero or not finite: they are in no mean. Intervals
are of 95 %: over images by the bootstrap, below 20 images Student's, which takes values for normal and is wide; of one
image, or of some that agree, there is none. Of proportions, or where all are 0 or 100, it is Wilson's, which may reach
far to one side."""


@dataclass(frozen=True)
class Audit:
    """about: model, images, questions, machine; accuracy and explanations: one row a metric, see `tables.table`.

    Where an attack moved no map at all its measures are NaN, not the 100 of an image that no attack can move;
    about["remarks"] says so.
    """

    about: dict[str, Any]
    accuracy: "pd.DataFrame"
    explanations: "pd.DataFrame"
    worst: "Figure | None" = None

    def board(self) -> "pd.DataFrame":
        """One row an attribution and attack, one column a metric, with intervals, in percent.

        attacked: images; failed: of these without a step that kept the prediction, which count as 100; unranked: images
        whose map or gradient is constant, zero or not finite, in no mean.
        """
        found = scoreboard.board(self.explanations)
        first = self.explanations.drop_duplicates("title").set_index("title").reindex(found.index)
        counts = first.reindex(columns=["images", "failed", "unranked"]).fillna(0).astype(int)
        attacked = counts["images"] + counts["unranked"]
        return found.assign(attacked=attacked, failed=counts["failed"], unranked=counts["unranked"])

    def plain(self) -> dict[str, Any]:
        """As `SCHEMA` says."""
        return {
            "schema": "artlib-audit-1",
            "about": self.about,
            "accuracy": _rows(self.accuracy),
            "explanations": _rows(self.explanations),
        }

    def html(self) -> str:
        """One page without anything that is fetched from elsewhere."""
        a, q = self.about, self.about["questions"]
        attacked, of = int(self.board()["attacked"].max()), a["images"]
        line = (
            f"{attacked} of {of['images']} images of {of['name']} attacked, accuracy on {a['accuracy_images']} images; "
        )
        line += f"{of['note'] or 'labels as given'}; eps {255 * q['eps']:.3g}/255, {q['steps']} steps, k = "
        line += ", ".join(map(str, sorted(set(a["k"].values())))) + "; "
        line += f"commit {a['machine']['commit'][:7]}"
        parts = [
            f"<h1>How fragile are the explanations of {html.escape(a['model'])}?</h1><p>{html.escape(line)}</p>",
            "<h2>Accuracy</h2>" + _wrapped(scoreboard.board(self.accuracy)),
            "<h2>Explanations under attack</h2>" + _wrapped(self.board()) + self._remarks(),
            f"<p>{html.escape(READING)}</p>",
        ]
        if self.worst is not None:
            parts.append(
                f'<h2>The images that suffered most</h2><img alt="maps before and after" src="{_png(self.worst)}">'
            )
        parts.append("<h2>Beside others</h2>" + _wrapped(beside(self)) + f"<p>{html.escape(_told_beside(q))}</p>")
        asked = html.escape(json.dumps(self.about, indent=1))
        parts.append(f"<details><summary>settings and machine</summary><pre>{asked}</pre></details>")
        return _PAGE.format(title=html.escape(f"Audit of {a['model']}"), body="\n".join(parts))

    def save(self, folder: Path | str) -> Path:
        """Write report.html and report.json into a folder; returns the page's path.

        Every field and metric of report.json, with its unit, is described in `audit.SCHEMA`, a JSON Schema.
        """
        folder = Path(folder)
        files.write_text(folder / "report.json", json.dumps(self.plain(), indent=1) + "\n")
        files.write_text(folder / "report.html", self.html())
        return folder / "report.html"

    def __repr__(self) -> str:
        parts = [scoreboard.board(self.accuracy).to_string(), "", self.board().to_string()]
        return "\n".join(parts + self._told())

    def _repr_html_(self) -> str:
        return scoreboard.board(self.accuracy).to_html() + self.board().to_html() + self._remarks()

    def _told(self) -> list[str]:
        """The note of the images, such as that labels are predictions, and the remarks."""
        images = self.about["images"]
        return [f"{images['name']}: {images['note']}"] * bool(images["note"]) + self.about.get("remarks", [])

    def _remarks(self) -> str:
        return "".join(f"<p>{html.escape(remark)}</p>" for remark in self._told())


BESIDE = """Recorded runs of this companion on other images, integrated gradients under the top-k attack of
8/255 in {topk} steps, k = 100 of 32 x 32 pixels; PGD of {pgd} steps{here}. What is seen here can be held against
them in its order of magnitude only."""
STEPS = {"topk": 50, "pgd": 40}  # of the recorded attacks
OUTLINED = 500  # pixels of the top-k, at most, that are outlined on a map
COMPARED = "integrated_gradients, topk"  # the attack of Table 1


def beside(audit: Audit | None = None) -> "pd.DataFrame":
    """IN, K and accuracies of the recorded networks on CIFAR-10, ours and those of others; first those of an audit.

    Of an audit that did not ask for integrated gradients under the top-k attack it is the accuracies alone.
    """
    import pandas as pd

    names = [n for t in ("table1", "networks-of-others") for n in scoreboard.runs(t) if "cifar10" in n]
    found = {}
    if audit is not None:
        name, asked = audit.about["model"], audit.explanations
        both = pd.concat([asked[(asked["title"] == COMPARED) & asked["metric"].isin(["IN", "K"])], audit.accuracy])
        found["audited here"] = scoreboard.board(both.assign(training=name, title=name, dataset="as measured"))
    for name in names:
        table = results.reference(name)
        told = scoreboard.about(name)
        chosen = table[table["metric"].isin(["IN", "K", "natural", "adversarial"])]
        found[f"{told['title']}, protocol {told['protocol']}"] = scoreboard.board(chosen.assign(dataset="as measured"))
    return pd.concat(found).fillna("") if found else pd.DataFrame()


def _told_beside(questions: Mapping[str, Any]) -> str:
    """`BESIDE`, with what this audit asked otherwise."""
    apart = [f"{questions['steps']} steps"] if {questions["steps"]} != set(STEPS.values()) else []
    if abs(questions["eps"] - 8 / 255) > 1e-9:
        apart.append(f"eps {255 * questions['eps']:.3g}/255")
    here = f"; the attacks of this audit have {' and '.join(apart)}" if apart else ""
    return " ".join(BESIDE.format(**STEPS, here=here).split())


def worst_grid(images: ImageSet, found: Manipulated, k: int, *, title: str) -> "Figure":
    """Image, change x 10, map before and after with their top k outlined, if few enough to leave the map to be seen."""
    rows, captions = {}, {}
    few = k <= OUTLINED
    top = [metrics.topk_mask(m, k) if few else [None] * len(m) for m in (found.before, found.after)]
    shared = metrics.topk_intersection(found.before, found.after, k)
    for i in range(len(images)):
        x = images.images[i].to(found.x_adv) / 255
        name = images.classes[int(images.labels[i])]
        name = f"class {name}" if name.isdigit() else name
        panels = [plots.Panel(m[i], t[i]) for m, t in zip((found.before, found.after), top, strict=True)]
        rows[f"{i + 1}: {name}"[:24]] = [x, plots.perturbation(x, found.x_adv[i]), *panels]
        captions[f"{i + 1}: {name}"[:24]] = ["", "", "", f"IN {shared[i]:.0%}, K {found.kendall[i]:.2f}"]
    columns = ["image", "change × 10", f"map, top {k}" if few else "map", "map after"]
    return plots.heatmap_grid(rows, columns=columns, captions=captions, title=title, size=1.9)


def _rows(table: "pd.DataFrame") -> list[dict[str, Any]]:
    numbers, counts = ("mean", "low", "high"), ("images", "failed", "unranked")
    rows = []
    for row in table.to_dict("records"):
        found = {"explanation": row["title"], "metric": row["metric"]}
        found |= {n: float(row[n]) if row.get(n) == row.get(n) and row.get(n) is not None else None for n in numbers}
        found |= {n: int(row[n]) if row.get(n) == row.get(n) and row.get(n) is not None else None for n in counts}
        rows.append(found)
    return rows


def _wrapped(table: "pd.DataFrame") -> str:
    """A table whose cells go into two lines where the page is narrow, the number above its interval."""
    return re.sub(r"\(([^()<>]*–[^()<>]*)\)</td>", r"<span>(\1)</span></td>", table.to_html())


def _png(figure: "Figure") -> str:
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=160, bbox_inches="tight")
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; font-size: .8rem; display: block; overflow-x: auto; border: 0; }}
th, td {{ border: 0; border-bottom: 1px solid #ddd; padding: .25rem .4rem; text-align: left; }}
td span {{ white-space: nowrap; }}
img {{ max-width: 100%; }} pre {{ overflow-x: auto; font-size: .8rem; }}
h1 {{ font-size: 1.5rem; }} h2 {{ font-size: 1.15rem; }}
</style></head><body>
{body}
</body></html>
"""
