"""Any classifier can be audited, and what cannot says why; the report stands alone and is what its schema says."""

import copy
import json
import re
import shutil
import subprocess
from contextlib import suppress
from functools import partial
from urllib.error import URLError

import jsonschema
import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from artlib import audit, data, paths, results
from artlib.__main__ import main
from artlib.audit import SCHEMA, Questions
from artlib.audit.remarks import remarks
from artlib.audit.report import METRICS

FEW_AT = dict(images=3, steps=2, ig_steps=2, attributions=("gradient",), objectives=("random", "topk"))
FEW = Questions(**FEW_AT)


@pytest.fixture(autouse=True)
def stored(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "MODELS", tmp_path / "models")
    return tmp_path / "models"


def net(channels: int = 3, classes: int = 4, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(channels, 6, 3, padding=1), activation(), nn.AdaptiveAvgPool2d(4), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(96, classes)).eval()


def pixels(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


WRONG = (net()((255 * pixels(2, 3, 8, 8)).round() / 255).argmax(1) + 1) % 4


class Called(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = net()

    def forward(self, x):
        return self.inner(x).relu()


class One(Called):
    def forward(self, x):
        return self.inner(x)[:, :1]


HALF = dict(mean=(0.5,) * 3, std=(0.5,) * 3)


def run(model, images, **options) -> audit.Audit:
    return audit.audit(model, images, progress=False, device="cpu", **{"questions": FEW} | options)


def vit() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind = torchvision.models.VisionTransformer
        model = kind(image_size=16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, num_classes=4)
        nn.init.normal_(model.heads.head.weight)
    return model.eval()


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (net(), (8, 3, 12, 20)),  # not square
        (net(channels=1), (8, 1, 10, 10)),
        (net(activation=nn.GELU), (8, 3, 10, 10)),
        (vit(), (8, 3, 16, 16)),
        (net().forward, (8, 3, 10, 10)),  # a function
        (net().double(), (8, 3, 10, 10)),
        (net().double().forward, (8, 3, 10, 10)),
    ],
    ids=["not square", "one channel", "GELU", "vision transformer", "function", "float64", "function of float64"],
)
def test_networks_and_images_of_all_kinds(model, shape):
    found = run(model, pixels(*shape))
    rows = found.explanations.set_index(["title", "metric"])
    assert set(rows.index.unique(0)) == {"gradient, random", "gradient, topk"}
    assert set(rows.index.unique(1)) >= {"IN", "K", "recall_1", "diverse_recall_1"}
    assert (rows["images"] == 3).all() and rows["mean"].between(-100, 100).all()
    assert found.accuracy["metric"].tolist() == ["adversarial"]  # natural is 100 by construction
    assert (rows.loc["gradient, topk"].loc["K", "mean"]) < 100
    assert "labels are what the model predicts" in found.about["images"]["note"]
    assert found.about["k"] == {"gradient": shape[2] * shape[3] // 10}


def test_the_numbers_are_those_of_the_measurements():
    x, model = pixels(8, 3, 10, 10), net()
    y = model((255 * x).round() / 255).argmax(1)
    y[0] = (y[0] + 1) % 4
    found = run(model, x, labels=y)
    images = data.ImageSet((255 * x).round().to(torch.uint8), y, tuple("0123"), name="tensors", split="test")
    for title, m in FEW.measurements(images).items():
        values = m(model, images, progress=False)
        if title == "accuracy":
            assert found.accuracy.set_index("metric").loc["natural", "mean"] == 100 * 7 / 8
        else:
            rows = found.explanations.set_index(["title", "metric"])["mean"]
            assert rows[title, "IN"] == pytest.approx(100 * values["IN"].mean().item())


def test_mean_and_std_are_of_pixels():
    plain = run(nn.Sequential(net()), pixels(8, 3, 10, 10))
    same = run(net(), pixels(8, 3, 10, 10), mean=(0.0,) * 3, std=(1.0,) * 3, name="wrapped")
    other = run(net(), pixels(8, 3, 10, 10), mean=(0.4,) * 3, std=(0.2,) * 3)
    k = [a.explanations.set_index(["title", "metric"])["mean"]["gradient, topk", "K"] for a in (plain, same, other)]
    assert k[0] == pytest.approx(k[1], abs=1e-4) and k[0] != pytest.approx(k[2], abs=1e-4)


@pytest.mark.parametrize(
    ("model", "images", "options", "message"),
    [
        (3, pixels(2, 3, 8, 8), {}, "model is of type int; give a module, a function, or a name"),
        (
            "resnet2c_adv",
            pixels(2, 3, 8, 8),
            {},
            "unknown network 'resnet2c_adv'; a name of torchvision.models, or one of",
        ),
        (net(), pixels(2, 3, 8, 8) * 255, {}, "divide by 255"),
        (net(), pixels(2, 3, 8, 8), dict(mean=(0.5,) * 3), "mean and std belong together"),
        ("resnet2b_adv", pixels(2, 3, 8, 8), HALF, "resnet2b_adv has mean and std of its own: leave mean and std out"),
        (
            "squeezenet1_1",
            pixels(2, 3, 8, 8),
            HALF,
            "squeezenet1_1 has mean and std of its own: leave mean and std out",
        ),
        (
            "resnet2b_adv",
            pixels(2, 3, 8, 8),
            dict(weights="a.pt"),
            "resnet2b_adv has weights of its own: leave weights",
        ),
        (__file__, pixels(2, 3, 8, 8), {}, "test_audit.py is a file: give the name of a network in it, too, FILE.py:"),
        (torch.no_grad()(net()), pixels(2, 3, 8, 8), {}, "the network's forward runs without gradients, which explan"),
        (
            lambda x: nn.Conv2d(3, 4, 8)(x.detach()).flatten(1),
            pixels(2, 3, 8, 8),
            {},
            "torch.no_grad, torch.inference_mode or detach out of it",
        ),
        (net(), pixels(0, 3, 8, 8), {}, "there are no images to audit"),
        (net(), pixels(0), dict(labels=torch.tensor([])), "there are no images to audit: the tensor has shape (0,)"),
        (net(), pixels(3, 8, 8), {}, "images have shape (3, 8, 8); give (N, C, H, W), of one image images[None]"),
        (net(), pixels(2, 3, 8, 8) / pixels(2, 1, 1, 1).round(), {}, "1 of 2 images hold NaN or infinite values"),
        (net(), (pixels(2, 3, 8, 8), torch.tensor([0, 1])), {}, "give the first of the two, and the second as labels"),
        (net(), "blossoms", dict(labels=torch.tensor([0])), "labels go with a tensor of images"),
        (nn.Flatten, pixels(2, 3, 8, 8), {}, "model is the class Flatten; give Flatten(), not Flatten"),
        (net(), pixels(2, 3, 8, 8), dict(labels=[0, 1]), "labels are of type list; give a tensor: torch.tensor"),
        (net(), pixels(2, 3, 8, 8), dict(labels=torch.tensor([0, -1])), "labels go from -1; they count from 0"),
        (net(), pixels(2, 3, 8, 8), dict(labels=torch.zeros(2)), "one an image: labels.long()"),
        (net(), pixels(2, 3, 8, 8), dict(labels=torch.eye(2)), "one an image: labels.argmax(1), if these are"),
        (net(), pixels(2, 3, 8, 8), dict(labels=torch.zeros(2, 1)), "one an image: labels.flatten()"),
        (net(), pixels(2, 3, 8, 8), dict(labels=torch.zeros(3)), "they must be int64, (2,), one an image"),
        (net(), pixels(2, 3, 8, 8), dict(labels=WRONG), "classifies none of 2 images correctly: check the order"),
        (net(), pixels(2, 3, 8, 8).numpy(), {}, "images are of type ndarray; give an ImageSet, a tensor, a folder"),
        (net(), pixels(2, 1, 8, 8), {}, "the network does not take images of shape (2, 1, 8, 8): Given groups=1"),
        (net(), pixels(2, 3, 8, 8), dict(labels=torch.tensor([0, 4])), "labels up to 4, the model has 4 outputs"),
        (net(), "blossoms", {}, "the images have 10 classes, the model has 4 outputs; put the images into one folder"),
        (nn.Sequential(net(), nn.Softmax(1)), pixels(2, 3, 8, 8), {}, "seems to end in a softmax"),
        (
            lambda x: net()(x).relu(),
            pixels(2, 3, 8, 8),
            {},
            "the function calls relu (2 times) beside the 0 activation modules that become softplus: the surrogate "
            "would keep those kinks; no module was found in it: give the module itself, or write F.relu(x) as",
        ),
        (Called(), pixels(2, 3, 8, 8), HALF, "Called calls relu (1 times) beside the 1 activation modules"),
        (Called(), pixels(2, 3, 8, 8), {}, "the surrogate would keep those kinks; write F.relu(x) as nn.ReLU()(x)"),
        (One(), pixels(2, 3, 8, 8), {}, "One has a single logit f; two classes are two logits"),
        (lambda x: net()(x)[:1], pixels(2, 3, 8, 8), {}, "returns 1 rows of logits for 2 images"),
        (lambda x: net()(x) * float("nan"), pixels(2, 3, 8, 8), {}, "logits are not finite"),
    ],
    ids=lambda v: None,
)
def test_what_cannot_be_audited_says_why(model, images, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        run(model, images, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(attributions=("lime",)), "unknown attribution 'lime'; choose among gradient"),
        (dict(objectives=("best",)), "unknown objective 'best'; choose among topk"),
    ],
)
def test_wrong_questions(change, message):
    with pytest.raises(ValueError, match=message):
        Questions(**change)


@pytest.mark.parametrize("activation", [nn.Hardswish, nn.Hardsigmoid])
def test_hard_activations_have_a_second_derivative_in_an_audit(activation):
    """torch's own have none; the values are torch's."""
    x = torch.linspace(-5, 5, 48, dtype=torch.float64).reshape(1, 3, 4, 4)
    plain, found = activation(), audit.classifier(activation())
    torch.testing.assert_close(found(x), plain(x), rtol=0, atol=1e-12)
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(found(leaf).square().sum(), leaf, create_graph=True)
    torch.autograd.grad(g.square().sum(), leaf)
    curved = net(activation=activation)
    curved[0].weight.data *= 20
    assert run(curved, pixels(4, 3, 8, 8)).explanations["mean"].notna().any()


CALLED = net()


def calls(x):
    return CALLED(x)


def given(model, x):
    return model(x)


class Holds:
    """An object, not a module, that has a network."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, x):
        return self.inner(x)

    def first(self, x):
        return self.inner[0]["net"](x)


def test_the_modules_that_a_function_calls_are_known():
    """So that their ReLUs become softplus, and its weights count: of the enclosing function, and global ones."""
    own, x = net(), pixels(4, 3, 8, 8)
    whole = run(own, x)
    for function in (
        lambda v: own(v),
        lambda v: CALLED(v),
        lambda v: calls(v),
        partial(given, own),
        partial(lambda v, model: model(v), model=own),
        Holds(own),
        Holds([{"net": lambda v: own(v)}]).first,
    ):
        found = run(function, x)
        assert found.about["parameters"] == whole.about["parameters"] > 0
        assert found.explanations["mean"].tolist() == whole.explanations["mean"].tolist()


def test_a_network_of_one_channel_sees_photographs_in_grey(tmp_path):
    for i, colour in enumerate([(255, 0, 0), (0, 255, 0), (9, 9, 9)]):
        Image.new("RGB", (12, 12), colour).save(tmp_path / f"{i}.png")
    found = audit.image_set(tmp_path, audit.classifier(net(1), mean=(0.1,), std=(0.3,)), size=8)
    assert found.images[:, 0, 0, 0].tolist() == [76, 150, 9] and found.images.shape[1] == 1
    assert "in grey, as the network takes one channel" in found.note


def test_questions_by_name():
    """The fields of `Questions` beside the images, that of the number of images, too."""
    asked = dict(images=3, steps=2, ig_steps=2, attributions=["gradient"], objectives=["topk"], k=20)
    found = audit.audit(net(), pixels(8, 3, 10, 10), progress=False, device="cpu", **asked)
    assert found.about["questions"] == Questions(**asked).plain()
    assert Questions(objectives="topk", attributions="gradient") == Questions(
        objectives=("topk",), attributions=("gradient",)
    )
    for options, message in (
        (dict(questions=FEW, k=3), r"give questions, or k, not both: questions=Questions\(k=...\)"),
        (dict(epss=3), "does not take 'epss'; its questions are attributions, objectives, images, eps, steps, k, ig"),
        (dict(k=0), "k is 0; it must be an integer, 1 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            audit.audit(net(), pixels(8, 3, 10, 10), **options)


OWN = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, classes=4):
        super().__init__(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, classes))

def make():
    return Net(3)

def logits(x):
    return x.mean((2, 3))

number = 3
"""


def test_a_network_in_a_file_and_its_weights(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    outputs = {
        name: audit.classifier(f"{tmp_path}/own.py:{name}")(pixels(2, 3, 8, 8)).shape[1]
        for name in ("Net", "make", "logits")
    }
    assert outputs == {"Net": 4, "make": 3, "logits": 3}
    with pytest.raises(ValueError, match="own.py has no module, class or function 'number'"):
        audit.classifier(f"{tmp_path}/own.py:number")
    with pytest.raises(FileNotFoundError, match="there is no file .*other.py: give FILE.py:NAME"):
        audit.classifier(f"{tmp_path}/other.py:Net")
    first = audit.classifier(f"{tmp_path}/own.py:Net")
    tensors = {name.removeprefix("net."): v for name, v in first.state_dict().items()}
    parallel = {f"module.{name}": v for name, v in tensors.items()}
    files = {
        "a.pt": tensors,
        "b.pth": {"state_dict": tensors, "epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        "c.pt": {"model": parallel},
        "d.pt": {f"_orig_mod.{name}": v for name, v in tensors.items()},
    }
    for file, kept in files.items():
        torch.save(kept, tmp_path / file)
    save_file({name: v.half() for name, v in tensors.items()}, tmp_path / "e.safetensors")
    save_file(parallel, tmp_path / "f.safetensors")
    for file in (*files, "f.safetensors"):
        again = audit.classifier(f"{tmp_path}/own.py:Net", weights=tmp_path / file)
        assert torch.equal(again(pixels(2, 3, 8, 8)), first(pixels(2, 3, 8, 8)))
    for wrong, message in (
        (f"{tmp_path}/own.py:make", "does not hold a state_dict of this network"),
        (len, "a function has"),
    ):
        with pytest.raises(ValueError, match=message):
            audit.classifier(wrong, weights=tmp_path / "a.pt")
    half = audit.classifier(f"{tmp_path}/own.py:Net", weights=tmp_path / "e.safetensors")
    assert half.net[0].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        (b"nothing", "does not hold a state_dict: it is damaged, or no file of torch.save"),
        (net(), "holds a whole model or other objects: only tensors are read; save the network's by torch.save(model."),
        (
            {"model": {"a": torch.ones(1)}, "ema": {"a": torch.ones(1)}},
            "holds state_dicts by the names 'model', 'ema'; ",
        ),
        ({"epoch": 3}, "must hold one state_dict, and holds an object of type dict without one; save the one"),
        ([1, 2], "must hold one state_dict, and holds an object of type list without one"),
        ({"0.weight": torch.ones(1)}, "does not hold a state_dict of this network: size mismatch for 0.weight"),
    ],
    ids=lambda v: None,
)
def test_what_weights_are_not_is_said(kept, message, tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(kept) if isinstance(kept, bytes) else torch.save(kept, path)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        audit.classifier(net(), weights=path)
    assert "\n" not in str(error.value) and "http" not in str(error.value)
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a.safetensors is damaged \(.*\); fetch it again"):
        audit.classifier(net(), weights=tmp_path / "a.safetensors")


def test_a_network_of_small_images_is_told_of_the_size(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    small = audit.classifier(nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4)))
    with pytest.raises(
        ValueError, match=r"they are 224 x 224 pixels: give the network's own size, size=... \(--size\)"
    ):
        audit.image_set(tmp_path, small)
    with pytest.raises(ValueError, match=r"they are resized to 9 x 9 pixels"):
        audit.image_set(tmp_path, small, size=9)
    assert len(audit.image_set(tmp_path, small, size=8)) == 1


def test_folders(tmp_path):
    for name in ("flat", "classes/a", "classes/b"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB" if i else "L", (9, 7), i).save(tmp_path / name / f"{i}.png")
    flat = audit.image_set(tmp_path / "flat", net(), size=8, limit=5)
    assert len(flat) == 5 and flat.images.shape[1:] == (3, 8, 8) and len(flat.classes) == 4
    assert audit.image_set(tmp_path / "classes", net(classes=2), limit=1).images.shape == (1, 3, 224, 224)
    named = audit.image_set(tmp_path / "classes", net(classes=2), size=8)
    assert named.classes == ("a", "b") and set(named.labels.tolist()) <= {0, 1}
    assert named.note == "24 of 24 images are not square: squeezed to 8x8"
    with pytest.raises(FileNotFoundError, match="nowhere is neither a folder nor a data set"):
        audit.image_set("nowhere", net())


def of_classes(folder, *names, number: int = 12, size: tuple[int, int] = (9, 9)) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(number):
            Image.new("RGB", size, (i, 3 * i, len(name))).save(folder / name / f"{i}.png")


def test_all_of_a_folder_is_audited_unless_its_test_part_is_meant(tmp_path):
    of_classes(tmp_path / "own", "a", "b")
    of_classes(tmp_path / "parts", "train/a", "train/b", "test/a", "test/b", number=5)
    model, fifth = net(classes=2), len(data.load(f"folder:{tmp_path / 'own'}", "test"))
    whole = audit.image_set(tmp_path / "own", model, size=8)
    assert (
        len(whole) == 24 and whole.labels.bincount().tolist() == [12, 12] and (whole.split, whole.note) == ("all", "")
    )
    part = audit.image_set(f"folder:{tmp_path / 'own'}", model, size=8)
    assert 0 < len(part) == fifth < 24 and part.note == f"{fifth} of 24 images: the test fifth"
    test = audit.image_set(tmp_path / "parts", model, size=8)
    assert (len(test), test.split, test.note) == (10, "test", "10 of 20 images: those of FOLDER/test")
    some = audit.image_set(tmp_path / "own", model, size=8, limit=6)
    assert some.labels.bincount().tolist() == [3, 3] and some.note == "a random choice of 6 of 24 images"


def test_what_a_folder_holds_in_vain(tmp_path):
    (tmp_path / "empty").mkdir()
    of_classes(tmp_path / "one", "a")
    with pytest.raises(FileNotFoundError, match="empty holds no images .*put them into it as they are, and what the"):
        audit.image_set(tmp_path / "empty", net())
    with pytest.raises(ValueError, match="one holds one folder of images, a; give that folder, to explain what the"):
        audit.image_set(tmp_path / "one", net())


def test_of_images_without_labels_no_more_are_taken_than_are_asked(capsys):
    found = audit.audit(net(), pixels(30, 3, 10, 10), questions=FEW, device="cpu")
    assert found.about["images"]["images"] == found.about["accuracy_images"] == 15
    told = "labels are what the model predicts; a random choice of 15 of 30 images"
    assert capsys.readouterr().out.startswith(f"tensors: {told}\n") and told in found.html()


def test_an_audit_that_is_there_is_not_made_again(stored, monkeypatch):
    first = run(net(), pixels(8, 3, 10, 10))
    monkeypatch.setattr(audit.Questions, "__call__", None, raising=False)
    for name in ("Accuracy.__call__", "AttributionRobustness.__call__", "AttributionRobustness.attack"):
        monkeypatch.setattr(f"artlib.measurements.{name}", lambda *a, **k: pytest.fail("measured again"))
    again = run(net(), pixels(8, 3, 10, 10))
    assert again.worst is not None and again.html().split("<details>")[0] == first.html().split("<details>")[0]
    assert again.explanations.equals(first.explanations) and len(list(stored.glob("*.json"))) == 3


def test_the_report_stands_alone_and_follows_its_schema(tmp_path):
    found = run(net(), pixels(8, 3, 10, 10), name="<net> & co")
    page = found.save(tmp_path / "report").read_text()
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    told = json.loads((tmp_path / "report" / "report.json").read_text())
    jsonschema.validate(told, SCHEMA)
    assert {row["metric"] for row in told["explanations"]} < set(METRICS)
    assert len(told["explanations"]) == 2 * 6 and len(told["accuracy"]) == 1
    assert "3 of 8 images of tensors attacked, accuracy on 8 images" in page and "<th>failed</th>" in page
    assert "..." not in repr(found)
    assert "&lt;net&gt; &amp; co" in page and "<net>" not in page
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))
    assert not re.search(r"https?://|<script|<link", page)
    assert told["about"]["parameters"] == sum(p.numel() for p in net().parameters())
    assert page.index("audited here") < page.index("CIFAR-10 (JPEG copy)") < page.index("200 official test images")
    row = found.explanations.iloc[0]
    assert f"{row['mean']:.1f} <span>({row['low']:.1f}–{row['high']:.1f})</span>" in page
    assert found._repr_html_().count("<table") == 2


def test_one_image_has_means_without_intervals():
    found = run(net(), pixels(8, 3, 10, 10), questions=Questions(**FEW_AT | dict(images=1)))
    told = found.plain()["explanations"]
    assert all(row["low"] is row["high"] is None and row["mean"] is not None for row in told)
    assert re.fullmatch(r"\d+\.\d", found.board()["IN"].iloc[0])
    assert all("nan" not in shown for shown in (repr(found), found._repr_html_(), found.html().split("<details>")[0]))


OTHER = dict(explanation="gradient, topk", metric="IM", mean=1.0, low=0.0, high=2.0, images=3)


@pytest.mark.parametrize(
    "change",
    [
        dict(schema="artlib-audit-2"),
        dict(more=1),
        dict(accuracy=[{"metric": "IN"}]),
        dict(explanations=[OTHER]),
    ],
)
def test_the_schema_refuses_what_is_not_a_report(change):
    told = run(net(), pixels(8, 3, 10, 10)).plain()
    jsonschema.validate(told, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told | change, SCHEMA)


def test_own_numbers_stand_beside_the_recorded_ones():
    questions = Questions(images=3, steps=2, ig_steps=2, attributions=("integrated_gradients",), objectives=("topk",))
    found = run(net(), pixels(8, 3, 10, 10), questions=questions, name="mine")
    first = audit.beside(found).iloc[0]
    own = found.explanations.set_index("metric").loc["IN"]
    assert (
        first.name == ("audited here", "mine")
        and first["IN"] == f"{own['mean']:.1f} ({own['low']:.1f}–{own['high']:.1f})"
    )
    assert audit.beside(found).iloc[1:].reset_index(drop=True)["IN"].tolist() == audit.beside()["IN"].tolist()


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_the_report_in_a_browser(tmp_path):
    """Opened without a network: the tables are there, the picture is decoded, nothing is wider than the window."""
    page = run(net(), pixels(8, 3, 10, 10), questions=Questions(images=3, steps=2, ig_steps=2)).save(tmp_path)
    asked = """<script>addEventListener("load", () => { const i = document.images[0], d = document.documentElement;
    document.title = [document.querySelectorAll("table").length, i.complete && i.naturalWidth > 300,
    [d, ...document.querySelectorAll("table")].every(e => e.scrollWidth <= e.clientWidth)].join(" ") })</script>
    </body>"""
    page.write_text(page.read_text().replace("</body>", asked))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1200,1400", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert "<title>3 true true</title>" in shown


def test_the_command_line(tmp_path, capsys, monkeypatch):
    for i in range(6):
        noise = (255 * pixels(32, 32, 3).roll(i)).byte().numpy()
        Image.fromarray(noise).save(tmp_path / f"{i}.png")
    monkeypatch.setattr("artlib.audit.run.classifier", lambda *a, **k: net())
    out = tmp_path / "out"
    some = ["--images", "2", "--steps", "1", "--attributions", "gradient", "--objectives", "topk", "--eps", "4"]
    main(["audit", "resnet2b_adv", str(tmp_path), *some, "--size", "16", "--device", "cpu", "--out", str(out)])
    printed = capsys.readouterr().out
    assert printed.count(f"{tmp_path.name}: labels are what the model predicts") == 2  # first, and below the numbers
    monkeypatch.chdir(tmp_path / "out")
    main(["audit", "resnet2b_adv", str(tmp_path), *some, "--size", "16", "--device", "cpu"])
    assert (out / f"audit-of-resnet2b_adv-on-{tmp_path.name}" / "report.html").exists()
    assert printed.strip().endswith("report.html") and "gradient, topk" in printed
    assert json.loads((out / "report.json").read_text())["about"]["questions"]["eps"] == 4 / 255
    with pytest.raises(SystemExit, match="artlib: nowhere is neither a folder"):
        main(["audit", "resnet2b_adv", "nowhere", "--out", str(out)])
    with pytest.raises(SystemExit, match="artlib: --eps is in 255ths of the pixels' range: 0.03 is next to nothing"):
        main(["audit", "resnet2b_adv", str(tmp_path), "--eps", "0.03", "--out", str(out)])
    with pytest.raises(SystemExit, match="artlib: --eps is 300; it is in 255ths of the pixels' range, from 0 to 255"):
        main(["audit", "resnet2b_adv", str(tmp_path), "--eps", "300", "--out", str(out)])


def test_maps_that_say_nothing_are_counted_and_shown_as_nothing():
    model = net()
    nn.init.zeros_(model[-1].weight)
    model[-1].bias.data[1] = 1.0
    found = run(model, pixels(8, 3, 10, 10))
    assert (found.board()["IN"] == "–").all() and (found.board()["unranked"] == 3).all() and found.worst is None
    assert "nan" not in found.html().lower().split("beside others")[0]
    assert found.about["remarks"] == ["the gradient is zero for every image: is the last layer trained?"]
    assert all(found.about["remarks"][0] in shown for shown in (repr(found), found.html(), found._repr_html_()))


def test_an_attack_without_a_map_to_rank_says_so_beside_others_that_have():
    ranked, none = ({"values": {"K": [k] * 2, "status": [status] * 2}} for k, status in ((0.5, 0), (None, 3)))
    told = remarks({"accuracy": {"values": {"vanished": [0, 1]}}, "gradient, topk": ranked, "own, topk": none})
    why = "the map or the attack's gradient is constant, zero or not finite in every image"
    assert told == [f"own, topk: – as {why}"]


def test_where_no_attack_moved_anything_there_is_no_number():
    """At eps 0 every image has failed: a mean of 100 would read as perfectly robust, and no picture pretends so."""
    still = Questions(images=3, steps=2, ig_steps=2, eps=0.0, attributions=("gradient",), objectives=("topk",))
    found = run(net(), pixels(8, 3, 10, 10), questions=still)
    assert found.board()["failed"].tolist() == [3] and found.worst is None
    assert found.board()["IN"].tolist() == found.board()["K"].tolist() == ["–"]
    assert all(row["mean"] is None and row["images"] == 3 for row in found.plain()["explanations"])
    told = "gradient, topk: – as no step that kept the prediction moved the map of any image"
    assert told in found.html() and told in repr(found)
    jsonschema.validate(found.plain(), SCHEMA)


def test_other_steps_than_the_recorded_ones_are_told():
    page = run(net(), pixels(8, 3, 10, 10), questions=Questions(**FEW_AT | {"eps": 4 / 255})).html()
    assert "attack of 8/255 in 50 steps, k = 100" in page and "PGD of 40 steps; the attacks of this audit have" in page
    assert "this audit have 2 steps and eps 4/255. What is seen here" in page
    for name in ("table1-cifar10-paper-seed0+1", "networks-of-others-cifar10_official_200-paper-seed0"):
        asked = json.loads((results.REFERENCE / f"{name}.json").read_text())["measurements"]
        assert (asked["attribution_robustness"]["steps"], asked["accuracy"]["steps"]) == (50, 40)


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """No weights below the data folder, none in torch's cache, and no network."""

    def offline(*args, **options):
        raise URLError("no network")

    monkeypatch.setattr(paths, "DATA", tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return tmp_path


def test_a_public_name_without_its_file_takes_torchvisions_weights(nothing_here):
    own = torchvision.models.squeezenet1_1()
    address = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url
    cached = nothing_here / "cache" / "hub" / "checkpoints" / address.rsplit("/", 1)[1]
    cached.parent.mkdir(parents=True)
    torch.save(own.state_dict(), cached)
    x, (mean, std) = pixels(1, 3, 32, 32), (torch.tensor(v)[:, None, None] for v in audit.IMAGENET)
    torch.testing.assert_close(audit.classifier("squeezenet1_1")(x), own.eval()((x - mean) / std))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "squeezenet1_1",
            "squeezenet1_1.safetensors is not there, and torchvision's weights of squeezenet1_1 cannot be downloaded "
            "(<urlopen error no network>): connect to a network, or give a file of them, weights=FILE (--weights FILE);"
            " or put the weights of SqueezeNet v1.1 (Iandola et al.) there, as safetensors",
        ),
        ("resnet2b_adv", "there, as safetensors; they are from https://github.com/Verified-Intelligence/alpha-beta-"),
        ("resnet18", "torchvision's weights of resnet18 cannot be downloaded (<urlopen error no network>): connect to"),
    ],
)
def test_weights_that_cannot_be_had_name_the_ways_out(name, message, nothing_here):
    with pytest.raises(FileNotFoundError, match=re.escape(message)) as error:
        audit.classifier(name)
    assert "\n" not in str(error.value)


def test_how_long_an_audit_takes_is_said_of_a_function_too():
    """It is counted on a copy of a module, and on a function itself, which goes on calling its own modules."""
    own, images = net(), data.load("blossoms", "test", size=28, limit=4)
    for model in (own, lambda x: own(x), own.forward):
        assert audit.estimate(model, images, FEW).endswith(" on this machine")
    copied = copy.deepcopy(audit.classifier(own))
    assert copied.net is not own and torch.equal(copied.net[0].weight, own[0].weight)


def test_the_network_is_left_in_the_modes_that_it_had(tmp_path):
    """Module by module, of a function's, too, and after an error."""
    own = net()
    own[0].train()
    before = [m.training for m in own.modules()]
    for model, images in ((own, pixels(4, 3, 8, 8)), (lambda x: own(x), pixels(4, 3, 8, 8)), (own, pixels(2, 1, 8, 8))):
        with suppress(ValueError):
            run(model, images)
        assert [m.training for m in own.modules()] == before and True in before and False in before


def test_photographs_that_are_squeezed_are_counted(tmp_path, capsys):
    of_classes(tmp_path / "own", "a", "b", number=3, size=(9, 7))
    Image.new("RGB", (9, 9)).save(tmp_path / "own" / "a" / "square.png")
    told = "6 of 7 images are not square: squeezed to 8x8"
    assert audit.image_set(tmp_path / "own", net(classes=2), size=8).note == told
    found = audit.audit(net(), tmp_path / "own" / "a", size=8, questions=FEW, device="cpu")
    told = "a: labels are what the model predicts; 3 of 4 images are not square: squeezed to 8x8"
    assert capsys.readouterr().out.startswith(f"{told}\n")
    assert told in repr(found) and told in found._repr_html_() and told.removeprefix("a: ") in found.html()
    assert found.plain()["about"]["images"]["note"] == told.removeprefix("a: ")


def test_every_field_of_the_report_is_described():
    row = SCHEMA["properties"]["explanations"]["items"]["properties"]
    about = SCHEMA["properties"]["about"]["properties"]
    for fields in (SCHEMA["properties"], row, about):
        assert [name for name, field in fields.items() if not field.get("description")] == []
