"""What the notebooks on localisation show: a measurement at other thresholds, rows without a network, pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from artlib import plots, results
from artlib.attributions import Explainer
from artlib.data import ImageSet
from artlib.measurements import Localization, Segmentation, predictions
from artlib.measurements.localization import check_boxes
from artlib.measurements.placement import MEASURES, METHODS
from artlib.metrics import localization, localization_authors, newcombe_interval, wilson_interval
from artlib.models import public
from artlib.trainings import Recipe, build_model, title

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TRUTH, ESTIMATE = "#D40000", "#00B060"  # the paper's red and green; the estimate is dashed, too
DASHED = (0, (3, 1.5))

_WHERE = {-1: "below", 0: "level with", 1: "above"}
# By what is asked: the explanations, their columns of IoUs over thresholds and by Otsu's, whether the class counts.
_ASKED = {
    "gt_known": (("gradient", "cam"), "curve", "otsu", False),
    "top1_loc": (("gradient", "cam"), "curve", "otsu", True),
    "top1_seg": (("gradient", "ig"), "mask_curve", "seg_otsu", True),
}
Threshold = float | tuple[float, float]  # or two: of images with an even index, and of those with an odd one
_HALF, _ODD = "the other half", "threshold, odd"
_BY_THRESHOLD = ["training", "explanation", "threshold from", "threshold", "mean", "low", "high", "images"]
# The released code's, of which the paper's numbers are (C-36); of masks there are none.
_FIXED = {"gradient": Localization.gradient_threshold, "cam": Localization.cam_threshold}


def by_threshold(
    test: Mapping[str, dict], train: Mapping[str, dict] | None, asked: str = "gt_known", *, least: float = 0.5
) -> "pd.DataFrame":
    """gt_known, top1_loc or top1_seg with the threshold chosen in several ways: one row each.

    test, train: what `results.measured` returns of the test images and of training images, by training. Columns:
    training, explanation, threshold from, threshold, mean, low, high (percent, Wilson's interval), images. "training
    images" is the best threshold on those, "each image alone" Otsu's, which needs no box at all, "test images" the best
    threshold there: an upper bound (MaxBoxAcc). Of boxes "released code" is what the records have at 0.2 and 0.1.

    train None: there are no other images to choose on, and "the other half" stands for "training images". The halves
    are the images with an even and with an odd index. Each image is scored at the threshold that is best on the half it
    is not in: even ones at "threshold", odd ones at "threshold, odd". Near-duplicates may lie in both halves.
    """
    import pandas as pd

    explanations, column, otsu, top1 = _ASKED[asked]
    rows = []
    for training, record in test.items():
        values = record["values"]
        correct = torch.tensor(values["correct"], dtype=torch.bool)
        for name in explanations:
            known = torch.tensor([v is not None for v in values[f"{name}_{otsu}"]])  # not every image has a mask
            curves = _curves(record, f"{name}_{column}")
            alone = torch.tensor([bool(v) for v in values[f"{name}_{otsu}"]])
            best = partial(localization.best_threshold, least=least)
            if train is None:
                odd = torch.tensor(values["index"]) % 2 == 1
                chosen = {_HALF: (best(curves[odd]), best(curves[~odd]))}
            else:
                chosen = {"training images": best(_curves(train[training], f"{name}_{column}"))}
            chosen["test images"] = best(curves[known])
            hits = {how: _at(record, f"{name}_{column}", at) >= least for how, at in chosen.items()}
            hits["each image alone"] = alone
            if asked != "top1_seg":
                chosen["released code"] = _FIXED[name]
                hits["released code"] = torch.tensor(values[f"{name}_gt_known"], dtype=torch.bool)
            for how, hit in hits.items():
                row = {"training": training, "explanation": name, "threshold from": how}
                hit = (hit & correct if top1 else hit)[known]
                at = chosen.get(how, float("nan"))
                told = {"threshold": at[0], _ODD: at[1]} if how == _HALF else {"threshold": at}
                rows.append(row | told | _share(hit))
    return pd.DataFrame(rows, columns=None if rows else _BY_THRESHOLD)


def side_by_side(found: "pd.DataFrame") -> "pd.DataFrame":
    """`by_threshold` for readers: a row a training and explanation, a column a way of choosing, "61.0 (54.0–67.5)"."""
    text = found.assign(cell=[f"{r.mean_:.1f} ({r.low:.1f}–{r.high:.1f})" for r in _rows(found)])
    text["training"] = text["training"].map(title)
    keys = ["training", "explanation"]
    wide = text.pivot(index=keys, columns="threshold from", values="cell")
    order = text[keys].drop_duplicates().apply(tuple, axis=1)
    return wide.loc[list(order), list(dict.fromkeys(found["threshold from"]))].rename_axis(columns="threshold from")


def _rows(found: "pd.DataFrame"):
    return found.rename(columns={"mean": "mean_"}).itertuples()


def _curves(record: dict, column: str) -> Tensor:
    return torch.tensor(record["values"][column], dtype=torch.float64)


def _at(record: dict, column: str, threshold: Threshold) -> Tensor:
    """Each image's IoU at its threshold."""
    even, odd = threshold if isinstance(threshold, tuple) else (threshold, threshold)
    places = [localization.THRESHOLDS.index(odd if i % 2 else even) for i in record["values"]["index"]]
    return _curves(record, column)[torch.arange(len(places)), places]


def _share(hits: Tensor) -> dict[str, float]:
    hits = hits.double()
    low, high = wilson_interval(hits.sum().item(), len(hits))
    return {"mean": 100 * hits.mean().item(), "low": 100 * low, "high": 100 * high, "images": len(hits)}


def hits(record: dict, asked: str, explanation: str, threshold: Threshold, *, least: float = 0.5) -> list[float]:
    """What is asked as in `by_threshold`, at what `chosen` gives: 100 or 0 per image, in the order of the record.

    Images without a mask are left out.
    """
    _, column, otsu, top1 = _ASKED[asked]
    hit = _at(record, f"{explanation}_{column}", threshold) >= least
    known = [v is not None for v in record["values"][f"{explanation}_{otsu}"]]
    right = record["values"]["correct"] if top1 else [1] * len(known)
    return [100.0 * (h and bool(r)) for h, r, k in zip(hit.tolist(), right, known, strict=True) if k]


def chosen(found: "pd.DataFrame", explanation: str) -> dict[str, Threshold]:
    """Of `by_threshold`, the thresholds chosen on training images, or each half's, chosen on the other, by training."""
    rows = found[found["threshold from"].isin(["training images", _HALF]) & (found["explanation"] == explanation)]
    each = rows[["threshold", _ODD]].apply(tuple, axis=1) if _HALF in set(rows["threshold from"]) else rows["threshold"]
    return dict(zip(rows["training"], each, strict=True))


def at_chosen(test: Mapping[str, dict], found: "pd.DataFrame", *, least: float = 0.5) -> dict[str, dict]:
    """Records of `Localization` as if measured at the thresholds that `found` has from training images.

    test, found: of `by_threshold`. iou, gt_known and top1_loc come from each image's curve; all else stays.
    """
    at, records = {name: chosen(found, name) for name in ("gradient", "cam")}, {}
    for training, record in test.items():
        values = dict(record["values"])
        correct = torch.tensor(values["correct"], dtype=torch.bool)
        for name, threshold in at.items():
            overlap = _at(record, f"{name}_curve", threshold[training])
            hit = overlap >= least
            values[f"{name}_iou"], values[f"{name}_gt_known"] = overlap.tolist(), hit.int().tolist()
            values[f"{name}_top1_loc"] = (hit & correct).int().tolist()
        records[training] = record | {"values": values}
    return records


def released(authors: Mapping[str, dict], images: ImageSet) -> "pd.DataFrame":
    """GT-Known and Top-1 Loc through the released code, in percent: the mean of its hits, and what it reports (C-38).

    authors: what `results.measured` returns of `ReleasedBoxes`, by training. Its list goes class by class, so the
    images are put in the order of their labels. A row a training and explanation; columns: mean, "as reported" and the
    mean "by the right IoU" of GT-Known, then of Top-1 Loc.
    """
    import pandas as pd

    rows = {}
    for training, record in authors.items():
        ends = ("index", "correct", "gt_known", "top1_loc", "right")  # others can be blank
        values = {name: torch.tensor(each) for name, each in record["values"].items() if name.endswith(ends)}
        order = images.labels.cpu()[values["index"]].argsort(stable=True)
        for name in ("gradient", "cam"):
            told, right = {}, values[f"{name}_right"]
            every = {"": ("gt_known", right), "Top-1 Loc, ": ("top1_loc", right & values["correct"])}
            for of, (column, by_right) in every.items():
                hits = values[f"{name}_{column}"].double()
                told[f"{of}mean"] = 100 * hits.mean().item()
                told[f"{of}as reported"] = 100 * localization_authors.reported(hits[order])
                told[f"{of}by the right IoU"] = 100 * by_right.double().mean().item()
            rows[title(training), name] = told
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["training", "explanation"])


def baselines(images: ImageSet, *, train: ImageSet, measurement: Localization | None = None) -> "pd.DataFrame":
    """GT-Known without any network: the whole image as the box, and a Gaussian in its middle.

    The Gaussian's threshold is the best one for the boxes of `train`. Columns: row,
    threshold, mean, low, high (percent, Wilson's interval), images. Raises ValueError without boxes.
    """
    import pandas as pd

    least = (measurement or Localization()).iou
    for each in (images, train):
        check_boxes(each)
    size, truth = tuple(images.images.shape[2:]), images.boxes
    whole = torch.tensor([[0.0, 0.0, size[1], size[0]]]).expand(len(images), -1)
    best = localization.best_threshold(_of_gaussian(train), least=least)
    middle = _of_gaussian(images)[:, localization.THRESHOLDS.index(best)]
    rows = [
        {"row": "whole image", "threshold": float("nan")} | _share(localization.iou(whole, truth) >= least),
        {"row": "Gaussian in the middle", "threshold": best} | _share(middle >= least),
    ]
    return pd.DataFrame(rows)


def _of_gaussian(images: ImageSet) -> Tensor:
    one = localization.centred_gaussian(1, tuple(images.images.shape[2:]))
    found = (localization.bounding_box(one, t).expand(len(images), -1) for t in localization.THRESHOLDS)
    return torch.stack([localization.iou(box, images.boxes) for box in found], 1)


def beside_no_network(found: "pd.DataFrame", alone: "pd.DataFrame") -> "pd.DataFrame":
    """What trainings add to knowing that objects are large and central: `by_threshold` less `baselines`, in points.

    A row a training and explanation, the threshold from training images. difference: from the Gaussian in the middle,
    with Newcombe's interval as for different images: too wide where hits go together; the remark is its sign.
    """
    gaussian = alone.set_index("row").loc["Gaussian in the middle"]
    rows = found[found["threshold from"] == "training images"].reset_index(drop=True)
    told = rows[["explanation"]].assign(training=rows["training"].map(title))
    told["GT-Known"] = [f"{r.mean_:.1f} ({r.low:.1f}–{r.high:.1f})" for r in _rows(rows)]
    other = (gaussian["mean"] / 100 * gaussian["images"], gaussian["images"])
    ends = [newcombe_interval((r.mean_ / 100 * r.images, r.images), other) for r in _rows(rows)]
    differences = rows["mean"] - gaussian["mean"]
    told["difference"] = [
        f"{d:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})" for d, (low, high) in zip(differences, ends, strict=True)
    ]
    where = [int(low > 0) - int(high < 0) for low, high in ends]
    told["remark"] = [f"{_WHERE[sign]} a Gaussian that sees no image" for sign in where]
    return told.set_index(["training", "explanation"])


def max_box_acc(test: Mapping[str, dict]) -> "pd.DataFrame":
    """`localization.max_box_acc` in percent: a row a training and explanation; IoU 0.3, 0.5, 0.7 and their mean."""
    import pandas as pd

    rows = {}
    for training, record in test.items():
        for name in ("gradient", "cam"):
            found = 100 * localization.max_box_acc(_curves(record, f"{name}_curve"))
            rows[title(training), name] = dict(zip(("IoU 0.3", "IoU 0.5", "IoU 0.7"), found.tolist(), strict=True))
            rows[title(training), name] |= {"mean": found.mean().item()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["training", "explanation"])


def before_training(
    recipe: Recipe, measurement: Localization, *, train: ImageSet, test: ImageSet, **options
) -> dict[str, dict]:
    """What `results.measured` returns of a recipe's network before its first update: what any training has to add to.

    A network of `models.public.PUBLIC` with a new last layer has a second row: with its own, each image explained for
    the class of ImageNet that it is given, so that the box is that of the predicted class, and every image counts as
    classified correctly. options: of `results.measured`. A row whose public weights are not at hand is left out, and a
    line says so.
    """
    own = recipe.arch.removesuffix("-pretrained")
    try:
        net = build_model(recipe, train)
    except FileNotFoundError as error:  # a recorded network is loaded without them
        _say_once(f"no row of the network before training: {error}")
        return {}
    name = f"{recipe.arch}-untrained"
    found = {"before training": results.measured(net, measurement, test=test, name=name, **options)}
    if own != recipe.arch and own in public.PUBLIC:
        try:
            net = public.load(own)
        except FileNotFoundError as error:  # torchvision's weights, from which a training may begin, are others
            _say_once(f"no row of ImageNet's classes: {error}")
            return found
        labels = predictions(net, test).to(test.labels.device)
        named = replace(test, labels=labels, classes=tuple(map(str, range(public.PUBLIC[own].num_classes))))
        found["ImageNet's classes"] = results.measured(net, measurement, test=named, name=own, **options)
    return found


@cache
def _say_once(sentence: str) -> None:
    print(sentence, flush=True)


def methods(table: "pd.DataFrame") -> "pd.DataFrame":
    """Every method of `Placement` in one table: a row a training and method, a column a measure, "61.0 (54.0–67.5)".

    table: as `tables.table` makes it with `columns=list(Placement.details)`.
    """
    import pandas as pd

    cells = {
        (r["title"], r["metric"]): f"{r['mean']:.1f} ({r['low']:.1f}–{r['high']:.1f})" for _, r in table.iterrows()
    }
    rows = {
        (name, METHODS[method]): {words: cells.get((name, f"{method}_{m}"), "") for m, words in MEASURES.items()}
        for name in dict.fromkeys(table["title"])
        for method in METHODS
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["training", "explanation"])


def over_thresholds(test: Mapping[str, dict], column: str, *, least: float = 0.5) -> "pd.DataFrame":
    """The share of images with an IoU of at least `least` at every threshold, for `plots.lines_with_bands`."""
    import pandas as pd

    rows = []
    for training, record in test.items():
        hits = _curves(record, column) >= least
        rows += [
            {"training": training, "threshold": t} | _share(hits[:, i]) for i, t in enumerate(localization.THRESHOLDS)
        ]
    return pd.DataFrame(rows)


def picture(
    models: Mapping[str, nn.Module],
    images: ImageSet,
    explainer: Explainer,
    *,
    threshold: float | Mapping[str, float],
    measurement: Localization | Segmentation,
    captions: bool = True,
    maps: bool = False,
    title: str = "",
    size: float = 1.1,
) -> "Figure":
    """A row of images, then a row a model: with `Localization` boxes (true red, estimated green, dashed) on the image,
    with `Segmentation` the image with the estimated mask outlined.

    threshold: one for all, or by model. maps: below a model's boxes a row with the maps that they are drawn around.
    Below each panel stand the IoU, a dash without a true mask, and a cross where the class is wrong. With boxes a
    legend and a footnote say so. Raises ValueError for images without boxes, or masks.
    """
    x, boxes = images.images.float() / 255, isinstance(measurement, Localization)
    if boxes:
        check_boxes(images)
    elif images.masks is None:
        raise ValueError(f"{images.name or 'the images'} have no masks; blossoms and flower17 have")
    rows: dict[str, list] = {
        "true": [plots.Panel(v, None if boxes else m) for v, m in zip(x, _truth(images, boxes), strict=True)]
    }
    names = [images.classes[int(label)] for label in images.labels]
    told, drawn = {"true": [n if len(n) < 18 else f"{n[:16]}…" for n in names]}, {"true": images.boxes}
    for name, model in models.items():
        p = next(model.parameters())
        batch = x.to(p.device, p.dtype)
        smooth = localization.mean_filter(explainer(model, batch, images.labels.to(p.device)).cpu(), measurement.smooth)
        at = threshold[name] if isinstance(threshold, Mapping) else threshold
        with torch.no_grad():
            right = (model(batch).argmax(1).cpu() == images.labels).tolist()
        heading = plots.label(name)
        if boxes:
            drawn[heading] = localization.bounding_box(smooth, at, connectivity=measurement.connectivity)
            overlap = localization.iou(drawn[heading], images.boxes)
            rows[heading] = [plots.Panel(v) for v in x]
            if maps:
                rows[f"{heading}, map"], drawn[f"{heading}, map"] = list(smooth), drawn[heading]
        else:
            masks = localization.foreground(smooth, at)
            overlap = localization.mask_iou(masks, images.masks)
            rows[heading] = [plots.Panel(v, m) for v, m in zip(x, masks, strict=True)]
        known = [True] * len(x) if boxes else images.masks.flatten(1).any(1).tolist()
        values = [f"{v:.2f}" if k else "–" for v, k in zip(overlap.tolist(), known, strict=True)]
        told[heading] = [v if ok else f"{v} ×" for v, ok in zip(values, right, strict=True)]
    figure = plots.heatmap_grid(rows, captions=told if captions else None, title=title, size=size)
    if boxes:
        axes = iter(figure.axes)
        for heading in rows:
            for i in range(len(x)):
                ax = next(axes)
                _rectangle(ax, images.boxes[i], TRUTH, "-")
                if heading != "true":
                    _rectangle(ax, drawn[heading][i], ESTIMATE, DASHED)
        _legend(figure, captions)
    return figure


def _legend(figure: "Figure", captions: bool) -> None:
    from matplotlib.lines import Line2D

    looks = {"true box": (TRUTH, "-"), "estimated box": (ESTIMATE, DASHED)}
    lines = [Line2D([], [], color=color, ls=style, lw=1.4) for color, style in looks.values()]
    figure.legend(lines, looks, loc="outside lower left", ncols=2, fontsize=7, frameon=False, borderaxespad=0)
    if captions:
        figure.supxlabel("below: IoU; ×: wrong class", fontsize=7, x=0.99, ha="right")


def _truth(images: ImageSet, boxes: bool) -> Sequence[Tensor | None]:
    return [None] * len(images) if boxes else images.masks


def _rectangle(ax, box: Tensor, color: str, style) -> None:
    from matplotlib.patches import Rectangle

    x0, y0, x1, y1 = box.tolist()
    corner, sides = (x0 - 0.5, y0 - 0.5), (x1 - x0, y1 - y0)  # pixel 0 is drawn from -0.5 to 0.5
    for width, edge in ((2.4, "white"), (1.4, color)):
        line = style if edge == color else "-"
        ax.add_patch(Rectangle(corner, *sides, fill=False, lw=width, ec=edge, ls=line, clip_on=False))
