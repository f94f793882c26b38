"""Accuracy under corruptions, under growing balls, and under other threats, on networks whose answers are known."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from known_models import Useless, half_bright, halves, network, pictures
from torch import nn

from artlib import paths
from artlib.attacks import L2, Linf, pgd, spatial, spsa
from artlib.data import ImageSet, downloads
from artlib.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from artlib.digest import code_digest
from artlib.measurements import Accuracy, AccuracyCurve, CorruptionAccuracy, OtherThreats, predictions, transfer
from artlib.measurements.accuracy_curve import BALLS
from artlib.paper import table


def by_image(model, images, settings) -> dict[str, dict[int, float]]:
    found = settings(model, images, progress=False)
    index = found.pop("index").tolist()
    return {name: dict(zip(index, column.tolist(), strict=True)) for name, column in found.items()}


# ------------------------------------------------------------------ corruptions


def test_the_columns_are_those_of_table_3_and_their_mean():
    assert list(CorruptionAccuracy.metrics)[1:] == list(table("table3"))[3:]
    found = CorruptionAccuracy()(network(), pictures(), progress=False)
    mean = torch.stack([found[name] for name in CORRUPTIONS]).mean(0)
    torch.testing.assert_close(found["mean_corruption"], mean)
    assert 0 < mean.mean() < 1


def test_a_column_is_the_share_of_severities():
    images, model = pictures(), network()
    found = CorruptionAccuracy(images=7, seed=3)(model, images, progress=False)
    x, y = images.images[found["index"]].double() / 255, images.labels[found["index"]]
    for name in ("shot_noise", "fog", "contrast"):
        noise = torch.Generator().manual_seed(3)
        right = [model(corrupt(x, name, severity=s, generator=noise)).argmax(1) == y for s in SEVERITIES]
        assert torch.equal(found[name], torch.stack(right).double().mean(0))


def test_a_network_that_no_corruption_fools():
    """Contrast keeps which half is brighter; halves of one grey level are a tie, which is class 0."""
    found = by_image(halves(), half_bright([100, 90], [0, 1]), CorruptionAccuracy())
    assert set(found["contrast"].values()) == {1.0}


def released(folder: Path, x: torch.Tensor, labels: torch.Tensor) -> None:
    """Images (n, 3, 32, 32) as the released CIFAR-10-C: severity s of corruption c has them 8 (c + s) levels darker."""
    folder.mkdir()
    pixels = x.permute(0, 2, 3, 1).int().numpy()
    for c, name in enumerate(CORRUPTIONS):
        darker = np.concatenate([pixels - 8 * (c + s) for s in SEVERITIES])
        np.save(folder / f"{name}.npy", darker.clip(0, 255).astype(np.uint8))
    np.save(folder / "labels.npy", np.tile(labels.numpy().astype(np.uint8), 5))


def test_official_files_are_read_in_their_own_order_with_their_own_labels(tmp_path, monkeypatch):
    """The clean images are in another order here, as those of the JPEG copy are."""
    monkeypatch.setattr(paths, "DATA", tmp_path)
    monkeypatch.setattr(downloads, "compare", lambda path, md5: None)
    monkeypatch.setattr(importlib.import_module("artlib.data.corruptions.official"), "IMAGES", 20)
    draws = torch.Generator().manual_seed(0)
    x, y = (torch.randint(0, n, s, generator=draws) for n, s in ((256, (20, 3, 32, 32)), (3, (20,))))
    released(tmp_path / "CIFAR-10-C", x, y)
    model, images = nn.Sequential(nn.AvgPool2d(5), network()), ImageSet(x.flip(0).byte(), y.flip(0), tuple("abc"))
    settings = CorruptionAccuracy.of("cifar10", preset="cpu", images=7, seed=3)
    assert settings == CorruptionAccuracy(images=7, seed=3, source="official")
    found = settings(model, images, progress=False)
    x, y = x[found["index"]], y[found["index"]]
    for c, name in enumerate(CORRUPTIONS):
        right = [model((x - 8 * (c + s)).clamp(0, 255).double() / 255).argmax(1) == y for s in SEVERITIES]
        assert torch.equal(found[name], torch.stack(right).double().mean(0))
    assert 0 < found["mean_corruption"].mean() < 1
    with pytest.raises(ValueError, match=r"of 3 x 32 x 32, these images are \(3, 6, 6\): source='drawn' corrupts them"):
        settings(model, pictures(), progress=False)


def test_without_official_files_or_at_smoke_corruptions_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "DATA", tmp_path)
    assert CorruptionAccuracy.of("cifar10", preset="cpu").source == "drawn"
    (tmp_path / "CIFAR-10-C").mkdir()
    (tmp_path / "CIFAR-10-C" / "fog.npy").touch()
    made = [CorruptionAccuracy.of(name, preset=p).source for name, p in (("cifar10", "smoke"), ("gtsrb", "cpu"))]
    assert made == ["drawn", "drawn"] and CorruptionAccuracy.of("cifar10").source == "official"
    assert CorruptionAccuracy.of("cifar10", source="drawn") == CorruptionAccuracy()


def test_what_is_stored_hangs_on_the_code_of_its_own_source():
    """Of drawn corruptions on each of them, and on nothing that reads official files."""
    drawn, official = (CorruptionAccuracy(source=s).parts for s in ("drawn", "official"))
    assert set(CORRUPTIONS.values()) < set(drawn) and code_digest(*drawn) != code_digest(*official)
    assert {part.__module__ for part in official} == {"artlib.data.corruptions.official"}
    assert "artlib.data.corruptions.official" not in {part.__module__ for part in drawn}


# ------------------------------------------------------------------ growing balls


def test_the_curve_is_the_proof_for_a_linear_network():
    """l_inf: 2 eps < d, the difference of the halves; l2: it falls by eps |w_0 - w_1| / 8 = eps / 2."""
    levels = [3, 10, 30, 50, 90, 150]
    found = by_image(halves(), half_bright(levels, [0, 1, 1, 0, 0, 1]), AccuracyCurve())
    for column, ball in BALLS.items():
        falls = 2 * ball.eps if column.startswith("linf") else ball.eps / 2
        expected = {i: float(level / 255 > falls) for i, level in enumerate(levels)}
        assert found[column] == expected, column
    assert set(found["clean"].values()) == {1.0}


def test_the_curve_goes_down_and_agrees_with_accuracy():
    found = by_image(network(), pictures(), AccuracyCurve(steps=40))
    for norm in ("linf", "l2"):
        columns = ["clean", *(c for c in BALLS if c.startswith(norm))]
        for a, b in zip(columns, columns[1:], strict=False):
            assert all(found[b][i] <= found[a][i] for i in range(20))
    one = by_image(network(), pictures(), Accuracy())
    assert found["clean"] == one["natural"]
    assert all(found["linf_8"][i] <= one["adversarial"][i] for i in range(20))


@pytest.mark.parametrize("settings", [AccuracyCurve(steps=3), OtherThreats(strong_steps=3, long_steps=3, spsa_steps=2)])
def test_without_gradients_pgd_gives_no_number(settings):
    found = by_image(Useless(network(), 0.0), pictures(), settings)
    for column in ("linf_8", "l2_1", "pgd_100", "l2_pgd_40"):
        values = found.get(column, {}).values()
        assert all(v == 0 or v != v for v in values)


# ------------------------------------------------------------------ other threats

QUICK = OtherThreats(
    strong_steps=10,
    long_steps=20,
    restarts=1,
    l2_steps=10,
    spsa_steps=30,
    spsa_samples=32,
    spatial_shifts=3,
    spatial_turns=5,
)


def test_threats_on_a_linear_network():
    levels = [4, 40, 12, 30]
    found = by_image(halves(), half_bright(levels, [0, 1, 1, 0]), QUICK)
    proof = {i: float(level > 16) for i, level in enumerate(levels)}  # 2 eps = 16 levels
    assert found["pgd_100"] == found["pgd_500"] == found["spsa"] == proof
    assert set(found["l2_pgd_40"].values()) == {0.0}  # eps 1 takes 127 levels
    assert set(found) == set(OtherThreats.metrics)


def test_each_column_is_its_attack_with_its_settings():
    """On a network that no two of the attacks fool alike, nor one with the settings of another."""
    model, images = other(), pictures(60)
    images = replace(images, labels=predictions(model, images))
    asked = OtherThreats(
        seed=3, eps=16 / 255, step_size=2 / 255, strong_steps=2, long_steps=5, restarts=4,
        l2_eps=0.5, l2_steps=3, l2_step_size=0.15, spsa_steps=4, spsa_samples=8, spsa_delta=0.3, spsa_step_size=0.05,
        spatial_shifts=2, spatial_turns=3, spatial_draws=4, pixels=1.0, degrees=15.0,
    )  # fmt: skip
    found = asked(model, images, progress=False)
    x, y = images.images[found["index"]].double() / 255, images.labels[found["index"]]

    def by(attack, **options):
        return attack(model, x, y, generator=torch.Generator().manual_seed(3), **options)

    in_linf, moves = dict(ball=Linf(16 / 255), step_size=2 / 255), dict(pixels=1.0, degrees=15.0)
    ends = {
        "pgd_100": by(pgd, steps=2, **in_linf),
        "pgd_500": by(pgd, steps=5, restarts=4, **in_linf),
        "spsa": by(spsa, steps=4, samples=8, delta=0.3, **in_linf | dict(step_size=0.05)),
        "l2_pgd_40": by(pgd, ball=L2(0.5), steps=3, step_size=0.15),
        "spatial": by(spatial, grid=(2, 2, 3), **moves).x_adv,
        "spatial_random": by(spatial, grid=None, draws=4, **moves).x_adv,
    }
    expected = {column: (model(end).argmax(1) == y).double() for column, end in ends.items()}
    assert [column for column, held in expected.items() if not torch.equal(found[column], held)] == []
    assert len({tuple(held.tolist()) for held in expected.values()}) == len(OtherThreats.metrics)


def test_the_long_attack_starts_more_than_once_where_its_numbers_mean_something():
    found = {p: OtherThreats.of("cifar10", preset=p).restarts for p in ("smoke", "quick", "cpu", "gpu", "paper")}
    assert list(found.values()) == [1, 1, 2, 5, 5]


def test_what_tries_more_finds_no_less():
    base = by_image(network(), pictures(), QUICK)
    more = by_image(network(), pictures(), replace(QUICK, spatial_shifts=5, spatial_turns=9, restarts=3))
    for column in ("spatial", "pgd_500"):  # the finer grid holds the coarser
        assert all(more[column][i] <= base[column][i] for i in range(20))
    still = replace(QUICK, pixels=0.0, degrees=0.0, eps=0.0, l2_eps=0.0)
    truth = (network()(pictures().images.double() / 255).argmax(1) == pictures().labels).double().tolist()
    for values in by_image(network(), pictures(), still).values():
        assert [values[i] for i in range(20)] == truth


# ------------------------------------------------------------------ transfer


def other() -> torch.nn.Module:
    model = network()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(5), dtype=p.dtype))
    return model


def test_transfer_has_accuracy_on_its_diagonal_and_elsewhere_what_one_model_makes_of_anothers_images():
    attack, models = Accuracy(eps=0.06, steps=5, images=15), {"a": network(), "b": other()}
    found = transfer(models, pictures(), attack=attack, progress=False)
    for name, model in models.items():
        alone = attack(model, pictures(), progress=False)
        torch.testing.assert_close(found[name][f"from_{name}"], 100 * alone["adversarial"])
        torch.testing.assert_close(found[name]["natural"], 100 * alone["natural"].double())
        assert set(found[name]) == {"from_a", "from_b", "natural"}
    x, y = pictures().images[alone["index"]].double() / 255, pictures().labels[alone["index"]]
    for source, target in (("a", "b"), ("b", "a")):
        options = dict(ball=Linf(0.06), steps=5, step_size=2 / 255, generator=torch.Generator().manual_seed(0))
        right = models[target](pgd(models[source], x, y, **options)).argmax(1) == y
        assert torch.equal(found[target][f"from_{source}"], 100 * right.double())
        assert not torch.equal(found[target][f"from_{source}"], found[source][f"from_{source}"])


def test_what_comes_from_itself_comes_from_its_twin():
    attack = Accuracy(eps=0.06, steps=5)
    found = transfer({"a": network(), "twin": network(), "b": other()}, pictures(), attack=attack, progress=False)
    assert torch.equal(found["twin"]["from_a"], found["a"]["from_a"])
    assert torch.equal(found["b"]["from_a"], found["b"]["from_twin"])
    blind = transfer({"a": Useless(network(), 0.0), "b": network()}, pictures(), attack=attack, progress=False)
    assert blind["a"]["from_a"].isnan().any() and not blind["b"]["from_a"].isnan().any()
