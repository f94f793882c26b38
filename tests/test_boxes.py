"""Tables and pictures of boxes and masks, from records written by hand."""

import itertools
import math
from dataclasses import replace

import matplotlib.colors
import matplotlib.patches
import pandas as pd
import pytest
import torch
import torchvision
from torch import nn

from artlib import boxes, models
from artlib.attributions import Explainer, signed
from artlib.data import ImageSet, load
from artlib.measurements import Localization, Segmentation
from artlib.metrics import localization, wilson_interval

AT = localization.THRESHOLDS


def record(*best: float, correct=(1, 1, 0, 1), otsu=(1, 0, 1, 1)) -> dict:
    """Four images; image i has an IoU of 0.8 at thresholds up to best[i], of 0.1 above."""
    curves = [[0.8 if t <= b else 0.1 for t in AT] for b in best]
    values = {"index": [0, 1, 2, 3], "correct": list(correct)}
    for name in ("gradient", "cam"):
        values |= {f"{name}_curve": curves, f"{name}_otsu": list(otsu), f"{name}_gt_known": [1, 0, 0, 1]}
    for name in ("gradient", "ig"):
        values |= {f"{name}_mask_curve": curves, f"{name}_seg_otsu": list(otsu)}
    return {"values": values}


def test_a_threshold_is_chosen_where_it_says():
    """On the training images 0.5 is the last with all four; on the test images all four hold up to 0.1."""
    test, train = {"natural": record(0.1, 0.5, 0.9, 0.9)}, {"natural": record(0.5, 0.5, 0.5, 0.5)}
    found = boxes.by_threshold(test, train).set_index(["explanation", "threshold from"])
    assert len(found) == 8
    for name in ("gradient", "cam"):
        rows = found.loc[name]
        assert rows.loc["training images", "threshold"] == 0.2  # the middle of 0.01 to 0.5, fourteen: the eighth
        assert rows.loc["training images", "mean"] == 75 and rows.loc["test images", "mean"] == 100
        assert rows.loc["each image alone", "mean"] == 75 and math.isnan(rows.loc["each image alone", "threshold"])
        assert rows.loc["released code", "mean"] == 50
        assert rows.loc["released code", "threshold"] == (0.2 if name == "gradient" else 0.1)
        low, high = wilson_interval(3, 4)
        assert rows.loc["training images", ["low", "high"]].tolist() == pytest.approx([100 * low, 100 * high])
        assert boxes.chosen(found.reset_index(), name) == {"natural": 0.2}
    correct = boxes.by_threshold(test, train, "top1_loc").set_index(["explanation", "threshold from"])["mean"]
    assert correct["gradient", "training images"] == 50 and correct["gradient", "test images"] == 75
    assert correct["cam", "released code"] == 50  # images 0 and 3, both classified correctly


def test_records_at_the_chosen_thresholds_are_a_measurement_with_these_settings():
    """The same network measured at thresholds of 0.4 and 0.3 from the beginning."""
    images = load("blossoms", "test", size=28, limit=12)
    net = models.build("wrn-10-1", 10, generator=torch.Generator().manual_seed(4))
    usual, told = Localization(), Localization(gradient_threshold=0.4, cam_threshold=0.3)
    usual, told = (
        {"values": {k: v.tolist() for k, v in m(net, images, progress=False).items()}} for m in (usual, told)
    )
    rows = [{"training": "art", "explanation": e, "threshold from": "training images"} for e in ("gradient", "cam")]
    found = pd.DataFrame(rows).assign(threshold=[0.4, 0.3])
    at = boxes.at_chosen({"art": usual}, found)["art"]["values"]
    for name in ("gradient", "cam"):
        assert at[f"{name}_iou"] == pytest.approx(told["values"][f"{name}_iou"], abs=1e-6)
        for column in ("gt_known", "top1_loc", "otsu"):
            assert at[f"{name}_{column}"] == told["values"][f"{name}_{column}"]
    assert at["gradient_iou"] != usual["values"]["gradient_iou"]


def test_images_without_a_mask_are_left_out():
    test = {"natural": record(0.1, 0.5, 0.9, 0.9, otsu=(None, 0, 1, 1))}
    found = boxes.by_threshold(test, {"natural": record(0.3, 0.3, 0.3, 0.3)}, "top1_seg")
    assert set(found["images"]) == {3} and set(found["explanation"]) == {"gradient", "ig"}
    shown = boxes.side_by_side(found)
    assert list(shown.columns) == ["training images", "test images", "each image alone"]
    assert shown.loc[("Natural", "ig"), "each image alone"].startswith("33.3 (")  # images 1 and 3 are correct: one


def test_without_other_images_each_half_takes_the_threshold_of_the_other():
    """Images 0 and 2 both hold from 0.01 to 0.1: six thresholds, of which 0.04 is the fourth; images 1 and 3 at 0.01.

    So 0 and 2 are scored at 0.01 and hit, 1 and 3 at 0.04 and miss. All four hold at 0.01: chosen on themselves, 100 %.
    """
    alone = record(0.1, 0.9, 0.01, 0.02, correct=(1, 0, 1, 1))
    alone["values"]["index"] = [0, 2, 1, 3]
    found = boxes.by_threshold({"art": alone}, None).set_index(["explanation", "threshold from"])
    for name in ("gradient", "cam"):
        row = found.loc[(name, "the other half")]
        assert row[["threshold", "threshold, odd", "mean", "images"]].tolist() == [0.01, 0.04, 50, 4]
        assert found.loc[(name, "test images"), ["threshold", "mean"]].tolist() == [0.01, 100]
        assert (name, "training images") not in found.index
    at = boxes.at_chosen({"art": alone}, found.reset_index())["art"]["values"]
    assert at["cam_gt_known"] == [1, 1, 0, 0] and at["cam_iou"] == [0.8, 0.8, 0.1, 0.1]
    masks = boxes.by_threshold({"art": alone}, None, "top1_seg")  # image 2 is classified wrongly
    assert boxes.chosen(masks, "ig") == {"art": (0.01, 0.04)}
    assert boxes.hits(alone, "top1_seg", "ig", (0.01, 0.04)) == [100, 0, 0, 0]
    assert boxes.side_by_side(masks).loc[("ART", "ig"), "the other half"].startswith("25.0 (")


def birds(*truth) -> ImageSet:
    images = torch.zeros(len(truth), 3, 20, 20, dtype=torch.uint8)
    return ImageSet(images, torch.zeros(len(truth), dtype=torch.int64), ("a", "b"), torch.tensor(truth), name="birds")


def test_rows_that_need_no_network():
    """The whole image has half of itself in common with a box of 15 x 20, a quarter with one of 10 x 10."""
    some = birds((0.0, 0, 15, 20), (0.0, 0, 10, 10), (5.0, 5, 15, 15))
    found = boxes.baselines(some, train=some).set_index("row")
    assert found.loc["whole image", "mean"] == pytest.approx(100 / 3)
    assert found.loc["Gaussian in the middle", "mean"] == pytest.approx(100 / 3 * 2)  # the first at a low threshold
    bare = ImageSet(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.tensor([0]), ("a",))
    for images, train in ((bare, some), (some, bare)):
        with pytest.raises(ValueError, match="have no boxes"):
            boxes.baselines(images, train=train)


def test_the_gaussians_threshold_is_that_of_the_training_images():
    """Trained on small boxes in the middle its box is small, too, and misses large ones; and the other way round."""
    small, large = birds((8.0, 8, 12, 12)), birds((1.0, 1, 19, 19))
    hits = {
        (a, b): boxes.baselines(test, train=train)["mean"][1]
        for (a, test), (b, train) in itertools.product(dict(small=small, large=large).items(), repeat=2)
    }
    assert hits == {("small", "small"): 100, ("small", "large"): 0, ("large", "small"): 0, ("large", "large"): 100}


def test_a_remark_says_what_no_network_can_do_as_well():
    """Three of four images say nothing; 750 of 1000 are fewer than 80 %, more than 70, and not told from 74."""
    found = boxes.by_threshold({"art": record(0.1, 0.5, 0.9, 0.9)}, {"art": record(0.5, 0.5, 0.5, 0.5)})
    for images, mean, word in (
        (4, 90, "level with"),
        (1000, 80, "below"),
        (1000, 74, "level with"),
        (1000, 70, "above"),
    ):
        alone = pd.DataFrame([{"row": "Gaussian in the middle", "mean": mean, "images": images}])
        told = boxes.beside_no_network(found.assign(images=images), alone)
        assert told.index.tolist() == [("ART", "gradient"), ("ART", "cam")]
        assert set(told["remark"]) == {f"{word} a Gaussian that sees no image"}
        assert told["difference"].iloc[0].startswith(f"{75 - mean:+.1f} (")
        assert told["GT-Known"].iloc[0].startswith("75.0 (")


def test_what_the_released_code_reports_depends_on_the_order_of_classes():
    """Hits 1 0 1 1 of labels 1 0 0 1: in class order 0 1 1 1, running means 0, 1/2, 2/3, 3/4."""
    images = ImageSet(torch.zeros(4, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1, 1, 0]), ("a", "b"))
    values = {"index": [1, 0, 3, 2], "gradient_gt_known": [1, 0, 1, 1], "cam_gt_known": [1, 1, 1, 1]}
    values |= {"gradient_top1_loc": [1, 0, 0, 0], "cam_top1_loc": [1, 0, 1, 1]}  # in class order 0 0 1 0, then 0 1 1 1
    values |= {"gradient_right": [1, 0, 0, 1], "cam_right": [0, 0, 1, 1], "correct": [1, 0, 1, 0]}
    values["cam_inside"] = [0.5, None, 0.5, 0.5]
    found = boxes.released({"art": {"values": values}}, images)
    running = 100 * (0 + 1 / 2 + 2 / 3 + 3 / 4) / 4
    columns = ["mean", "as reported", "by the right IoU"]
    assert list(found) == [*columns, *(f"Top-1 Loc, {c}" for c in columns)]
    top1 = [25, 100 * (0 + 0 + 1 / 3 + 1 / 4) / 4]
    assert found.loc[("ART", "gradient")].tolist() == pytest.approx([75, running, 50, *top1, 25])
    assert found.loc[("ART", "cam")].tolist() == pytest.approx([100, 100, 50, 75, running, 25])


def test_max_box_acc_and_curves():
    found = boxes.max_box_acc({"art": record(0.1, 0.5, 0.9, 0.9)})
    assert found.loc[("ART", "cam")].tolist() == [100, 100, 100, 100]
    lines = boxes.over_thresholds({"art": record(0.1, 0.5, 0.9, 0.9)}, "cam_curve").set_index("threshold")["mean"]
    assert [lines[t] for t in (0.1, 0.15, 0.5, 0.55, 0.95)] == [100, 75, 75, 50, 0]


class Says(nn.Module):
    """A network whose feature map is the image's brightness."""

    def __init__(self, answer: int):
        super().__init__()
        self.features, self.bias = nn.Identity(), nn.Parameter(torch.tensor([0.0, 9.0 * answer]))

    def forward(self, x):
        return self.features(x).mean((2, 3))[:, :2] + self.bias


def test_a_picture_has_the_true_box_and_the_estimated_one():
    images = load("blossoms", "test", size=28, limit=3)
    images = ImageSet(images.images, images.labels % 2, ("a", "b"), images.boxes, images.masks)
    explainer, m = Explainer("cam", reduce=signed, upsample=True), Localization()
    figure = boxes.picture({"natural": Says(1)}, images, explainer, threshold=0.5, measurement=m, title="t")
    assert len(figure.axes) == 6
    drawn = [[p for p in ax.patches if isinstance(p, matplotlib.patches.Rectangle)] for ax in figure.axes]
    assert [len(d) for d in drawn] == [2, 2, 2, 4, 4, 4]
    maps = localization.mean_filter(explainer(Says(1), images.images.float() / 255, images.labels))
    found = localization.bounding_box(maps, 0.5)
    for ax, box, true in zip(drawn[3:], found, images.boxes, strict=True):
        for rectangle, expected in ((ax[1], true), (ax[3], box)):
            x0, y0, x1, y1 = expected.tolist()
            assert rectangle.get_bbox().bounds == pytest.approx((x0 - 0.5, y0 - 0.5, x1 - x0, y1 - y0))
    right = [int(label) == 1 for label in images.labels]
    told = [ax.get_xlabel() for ax in figure.axes[3:]]
    assert [t.endswith("×") for t in told] == [not r for r in right]
    assert [float(t[:4]) for t in told] == pytest.approx(localization.iou(found, images.boxes).tolist(), abs=0.005)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["true box", "estimated box"]
    for line, corner in zip(figure.legends[0].get_lines(), (drawn[3][1], drawn[3][3]), strict=True):
        assert line.get_color() == matplotlib.colors.to_hex(corner.get_edgecolor()).upper()
    assert figure.get_supxlabel() == "below: IoU; ×: wrong class"
    bare = boxes.picture({}, images, explainer, threshold=0.5, measurement=m, captions=False)
    assert not bare.get_supxlabel() and bare.legends


def test_a_picture_with_maps_has_both_boxes_on_them_too():
    images = load("blossoms", "test", size=28, limit=2)
    images = ImageSet(images.images, images.labels % 2, ("a", "b"), images.boxes, images.masks)
    options = dict(threshold=0.5, measurement=Localization(), maps=True)
    explainer = Explainer("cam", reduce=signed, upsample=True)
    figure = boxes.picture({"art": Says(1)}, images, explainer, **options)
    assert [ax.get_ylabel() for ax in figure.axes[::2]] == ["true", "ART", "ART, map"]
    drawn = [[p.get_bbox().bounds for p in ax.patches] for ax in figure.axes]
    assert drawn[4:] == drawn[2:4] and all(len(d) == 4 for d in drawn[2:])
    smooth = localization.mean_filter(explainer(Says(1), images.images.float() / 255, images.labels))
    shown = torch.as_tensor(figure.axes[4].images[0].get_array().data)
    torch.testing.assert_close(shown, smooth[0].detach(), check_dtype=False)


def test_every_method_is_a_row():
    from artlib import tables
    from artlib.measurements.placement import MEASURES, METHODS, Placement

    values = {c: [0.25, 0.75, None] for c in Placement.details} | {"index": [0, 1, 2]}
    table = tables.table(
        {"art": {0: {"placement": {"values": values}}}}, dataset="toy", columns=list(Placement.details)
    )
    found = boxes.methods(table)
    assert list(found.index) == [("ART", words) for words in METHODS.values()] and list(found) == [*MEASURES.values()]
    assert all(cell.startswith("50.0 (") for cell in found.to_numpy().ravel())


def test_a_picture_of_masks():
    images = load("blossoms", "test", size=28, limit=2)
    images = ImageSet(images.images, images.labels % 2, ("a", "b"), images.boxes, images.masks)
    explainer = Explainer("cam", reduce=signed, upsample=True)
    figure = boxes.picture({"art": Says(0)}, images, explainer, threshold={"art": 0.6}, measurement=Segmentation())
    assert [len(ax.collections) for ax in figure.axes] == [2] * 4  # the outline, black below
    images.masks[1] = False  # as an image of Flower17 without a trimap has it
    figure = boxes.picture({"art": Says(0)}, images, explainer, threshold={"art": 0.6}, measurement=Segmentation())
    told = [ax.get_xlabel().removesuffix(" ×") for ax in figure.axes[2:]]
    assert float(told[0]) > 0 and told[1] == "–"
    with pytest.raises(ValueError, match="have no boxes"):
        bare = ImageSet(images.images, images.labels, images.classes)
        boxes.picture({}, bare, explainer, threshold=0.5, measurement=Localization())


def test_the_network_before_its_training(tmp_path, monkeypatch):
    """With ImageNet's classes each image has the label that the network gives it: all are correct."""
    from artlib import paths, results, trainings
    from artlib.models import public

    monkeypatch.setattr(results, "MODELS", tmp_path / "models")
    monkeypatch.setattr(paths, "DATA", tmp_path)
    path = tmp_path / public.PUBLIC["squeezenet1_1"].file
    path.parent.mkdir(parents=True)
    from safetensors.torch import save_file

    net = models.build("squeezenet1_1", 1000, generator=torch.Generator().manual_seed(5))[1]
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, path)
    train, test = (load("blossoms", split, size=40, limit=10) for split in ("train", "test"))
    recipe = trainings.Recipe(dataset="blossoms", arch="squeezenet1_1-pretrained", size=40, limit=10)
    options = dict(train=train, test=test, progress=False)
    found = boxes.before_training(recipe, Localization(), **options)
    assert list(found) == ["before training", "ImageNet's classes"]
    assert found["ImageNet's classes"]["values"]["correct"] == [1] * 10 != found["before training"]["values"]["correct"]
    assert list(boxes.before_training(replace(recipe, arch="squeezenet1_1"), Localization(), **options)) == [
        "before training"
    ]


def test_without_public_weights_there_is_no_row_before_training(nobody, tmp_path, capsys):
    """Once for both parts of a data set, and `by_threshold` of nothing is a table without rows."""
    from artlib import trainings

    images = load("blossoms", "train", size=40, limit=10)
    recipe = trainings.Recipe(dataset="blossoms", arch="squeezenet1_1-pretrained", size=40, limit=10)
    for _ in range(2):
        assert boxes.before_training(recipe, Localization(), train=images, test=images) == {}
    told = capsys.readouterr().out
    assert told.count("no row of the network before training: ") == 1 and str(tmp_path) in told
    found = boxes.by_threshold({}, {})
    assert found.empty and list(found) == list(boxes.by_threshold(*[{"art": record(0.1, 0.5, 0.9, 0.9)}] * 2))


def test_with_other_public_weights_than_the_file_there_is_no_row_of_its_classes(nobody, monkeypatch, capsys):
    """A training may begin from torchvision's, which are not the network whose classes the second row explains."""
    from artlib import trainings
    from artlib.models import public

    images = load("blossoms", "train", size=40, limit=10)
    recipe = trainings.Recipe(dataset="blossoms", arch="squeezenet1_1-pretrained", size=40, limit=10)
    weights = torchvision.models.squeezenet1_1().state_dict()
    monkeypatch.setattr(public, "imagenet", lambda name: weights)
    options = dict(train=images, test=images, progress=False)
    assert list(boxes.before_training(recipe, Localization(), **options)) == ["before training"]
    assert "no row of ImageNet's classes" in capsys.readouterr().out
