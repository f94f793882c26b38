"""Each grid varies what it says and nothing else, and no two of its rows are one training unless they must be."""

from dataclasses import fields, replace

import pandas as pd
import pytest
from toys import fitting

from artlib import grids, paper, presets
from artlib.trainings import TRAININGS, Art, ArtVariant, Natural, Recipe

GRIDS = {name: getattr(grids, name) for name in grids.SMALLER}
PRESETS = ("smoke", "quick", "cpu", "gpu", "paper")


def differing(a: Recipe, b: Recipe) -> set[str]:
    """The fields in which two trainings, or else their recipes, differ."""
    x, y = (a.training, b.training) if type(a.training) is type(b.training) else (a, b)
    return {f.name for f in fields(x) if getattr(x, f.name) != getattr(y, f.name)}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", GRIDS)
def test_no_two_rows_are_one_training(name, preset):
    rows = GRIDS[name](preset, dataset="cifar10")
    assert len({r.key("data") for r in rows.values()}) == len(rows)
    other = GRIDS[name](preset, dataset="cifar10", seed=1)
    assert list(other) == list(rows) and all(r.seed == 1 for r in other.values())


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", GRIDS)
def test_recipes_and_images_are_of_one_size(name, preset):
    """Whatever a grid changes, `results.model` takes its recipes with its images."""
    changes = grids.SMALLER[name].get(preset, {})
    for recipe in GRIDS[name](preset, dataset="blossoms").values():
        assert recipe.limit == changes.get("limit", presets.limits(preset, "blossoms")[0])
        assert recipe.size == presets.image_size(preset, "blossoms")
    if preset in ("smoke", "quick"):
        train, test = (grids.images(preset, split, name, dataset="blossoms") for split in ("train", "test"))
        assert len(train) == changes["limit"] and len(test) == presets.limits(preset, "blossoms")[1]


@pytest.mark.parametrize("name", GRIDS)
def test_what_is_measured_differs_from_table_1_in_the_number_of_images_alone(name):
    for preset in PRESETS:
        found = grids.measurements(preset, name, dataset="cifar10")
        assert list(found) == [*presets.MEASURED, *(["pgd_20"] if name == "others" else [])]
        for key, m in found.items():
            same = presets.measurement(preset, key, dataset="cifar10")
            allowed = {"images", "restarts"} | ({"steps"} if preset == "smoke" else set())
            assert {f.name for f in fields(m) if getattr(m, f.name) != getattr(same, f.name)} <= allowed
            assert preset in ("gpu", "paper") or m.images <= same.images


def test_the_live_rows_are_rows():
    for name, make in GRIDS.items():
        for preset in PRESETS:
            rows = make(preset, dataset="blossoms")
            found = grids.live(name, preset, rows)
            assert set(found) <= set(rows) and (preset in ("smoke", "quick") or list(found) == list(rows))


@pytest.mark.parametrize("preset", ["smoke", "cpu", "paper"])
def test_a_grid_that_is_none(preset):
    words = "unknown grid 'sweep'; choose one of factorial, lengths, sweeps, objectives, others$"
    for ask in (
        lambda: grids.rows("sweep", preset, dataset="blossoms"),
        lambda: grids.images(preset, "test", "sweep", dataset="blossoms"),
        lambda: grids.measurements(preset, "sweep", dataset="blossoms"),
        lambda: grids.live("sweep", preset, {}),
    ):
        with pytest.raises(ValueError, match=words):
            ask()


# ------------------------------------------------------------------ one grid at a time


@pytest.mark.parametrize("preset", ["cpu", "gpu"])
@pytest.mark.parametrize("dataset", ["cifar10", "svhn"])
def test_factorial(preset, dataset):
    rows = grids.factorial(preset, dataset=dataset)
    assert len(rows) == 1 + 3 + 12 + 1
    changes = grids.SMALLER["factorial"].get(preset, {})
    for name, row in (("art held pixels 1.5", "art"), ("pgd held", "pgd"), ("natural", "natural")):
        assert rows[name] == replace(presets.recipe(preset, row, dataset=dataset), **changes)
    authors = presets.recipe(preset, "art", dataset=dataset, protocol="authors")
    assert rows["art authors"] == replace(authors, **changes)
    base = rows["art held pixels 1.5"]
    for name, cell in grids.CELLS.items():
        t = rows[name].training
        assert (t.statistics, t.anchor, f"{255 * t.step_size:g}/255") == tuple(cell.values())
        assert differing(rows[name], base) <= {"statistics", "anchor", "step_size"}
        assert replace(rows[name], training=base.training) == base
    assert [rows[f"pgd {s}"].training.statistics for s in grids.STATISTICS] == list(grids.STATISTICS)


def test_the_cells_are_a_full_factorial():
    assert len(grids.CELLS) == 12 == len({tuple(cell.values()) for cell in grids.CELLS.values()})
    assert {k for cell in grids.CELLS.values() for k in cell} == {"statistics", "anchor", "step"}


def test_at_smoke_and_quick_the_guard_has_something_to_say():
    for preset in ("smoke", "quick"):
        recipe = grids.factorial(preset, dataset="blossoms")["art held pixels 1.5"]
        updates = recipe.epochs * -(-recipe.limit // recipe.batch_size)
        assert updates >= fitting.SETTLED
        assert list(grids.live("factorial", preset, grids.factorial(preset, dataset="blossoms")))[-1].startswith(
            "art held"
        )


def test_lengths():
    rows = grids.lengths("cpu", dataset="cifar10")
    assert [r.epochs for n, r in rows.items() if n.startswith("natural")] == [1, 2, 4, 8, 16]
    for name, recipe in rows.items():
        kind, epochs, *changed = name.split()
        same = presets.recipe("cpu", kind, dataset="cifar10", epochs=int(epochs), limit=5_000, batch_size=64)
        if changed:
            field, unit = {"lambda": ("weight", 1), "step": ("step_size", 255)}[changed[0]]
            same = replace(same, training=replace(same.training, **{field: float(changed[1]) / unit}))
        assert recipe == same
    assert {n for n in rows if "lambda" in n} == {"art 4 lambda 2", "art 4 lambda 8"}
    assert [n for n in rows if "step" in n] == [f"art {n} step 5" for n in grids.LENGTHS["cpu"]]


@pytest.mark.parametrize("preset", PRESETS)
def test_each_sweep_changes_one_field_of_the_papers_art(preset):
    rows = grids.sweeps(preset, dataset="cifar10")
    base, paper_art = rows["art"], Art.of("cifar10")
    assert (base.training.steps, base.training.step_size) == (3, 1.5 / 255)
    assert (base.training.beta, base.training.weight) == (paper_art.beta, paper_art.weight) == (50, 0.5)
    for name in list(rows)[1:]:
        parameter, value = name.split()
        assert differing(rows[name], base) == {grids.FIELDS[parameter]}
        assert getattr(rows[name].training, grids.FIELDS[parameter]) == float(value)
        assert replace(rows[name], training=base.training) == base
    if preset in ("cpu", "gpu", "paper"):
        changes = grids.SMALLER["sweeps"].get(preset, {})
        assert base == replace(presets.recipe(preset, "art", dataset="cifar10"), **changes)


def test_a_table_of_sweeps_has_the_papers_point_in_each():
    names = ["art", "beta 10", "lambda 0", "lambda 0.75", "steps 7"]
    table = pd.DataFrame({"dataset": "cifar10", "training": names, "metric": "IN", "mean": [1.0, 2.0, 3.0, 4.0, 5.0]})
    found = grids.swept(table)
    got = {p: list(zip(rows["value"], rows["mean"], strict=True)) for p, rows in found.groupby("parameter")}
    assert got["beta"] == [(10, 2), (50, 1)] and got["steps"] == [(3, 1), (7, 5)]
    assert got["lambda"] == [(0, 3), (0.5, 1), (0.75, 4)]


def test_a_table_of_sweeps_has_what_table_1_prints_of_art_at_its_point_alone():
    printed = {"IN": 92.90, "K": 91.76, "natural": 89.84, "adversarial": 37.58}
    rows = [
        {"dataset": "cifar10", "training": t, "metric": m, "mean": 1.0} for t in ("art", "beta 10") for m in printed
    ]
    found = grids.swept(pd.DataFrame(rows)).dropna(subset="paper")
    assert set(found["training"]) == {"art"}
    for _, own in found.groupby("parameter"):
        assert dict(zip(own["metric"], own["paper"], strict=True)) == printed
    assert grids.swept(pd.DataFrame(rows).assign(dataset="blossoms"))["paper"].isna().all()


def test_objectives_are_the_rows_of_table_5_and_of_the_text():
    rows = grids.objectives("cpu", dataset="cifar10")
    printed = set(paper.table("table5")["training"])
    assert set(rows) == printed | {"art_combined"}
    assert "art_combined" in set(paper.table("text")["training"])
    art = rows["art"].training
    for name, recipe in rows.items():
        assert replace(recipe, training=Natural()) == replace(rows["art"], training=Natural())
        if name == "art":
            continue
        assert isinstance(recipe.training, ArtVariant)
        assert all(getattr(recipe.training, f.name) == getattr(art, f.name) for f in fields(Art))
    assert [r.training.objective for n, r in rows.items() if n != "art"] == list(grids.OBJECTIVES.values())
    approach = paper.table("table5").set_index("training")["approach"]
    words = {n: r.training.heading for n, r in rows.items()}
    assert approach["art_eq2"] == "Equation 2" and words["art_eq2"] == "ART, Eq. 2"
    assert "l2" in approach["art_l2"] and words["art_l2"] == "ART, Eq. 4, l2"
    assert "argmin" in approach["art_least_likely"] and "least likely" in words["art_least_likely"]


def test_a_table_of_lengths_has_costs_and_the_last_l_attr():
    rows = grids.lengths("cpu", dataset="cifar10")
    names = ["natural 2", "art 2", "art 16", "art 4 lambda 2"]
    table = pd.DataFrame({"training": names, "metric": "IN", "mean": 5.0, "low": 4.0, "high": 6.0, "images": 7})
    seen = [{"running": {"raised": [0.6, raised, 0.0, 0.0]}} for raised in (0.9, 0.7)]
    histories = {n: [{"loss": 1.0, "L_attr": 0.8, "guard": guard} for guard in seen] for n in names[1:]}
    found = grids.by_length(table, rows, histories | {"natural 2": [{"loss": 1.0}]}, images=100)
    assert found["training"].tolist()[:4] == ["natural", "art", "art", "art lambda 2"]
    assert found["epochs"].tolist()[:4] == [2, 2, 16, 4]
    assert found["F"].tolist()[:3] == [100 * 2 * 3, 100 * 2 * 30, 100 * 16 * 30]
    attr = found[found["metric"] == "L_attr"]
    assert len(attr) == 3 and (attr[["mean", "low", "high"]] == 0.7).all(axis=None)


def test_art_is_judged_against_pgd_of_as_many_epochs():
    rows = ["natural 2", "pgd 2", "art 2", "art 2 lambda 8", "art 4"]
    assert grids.rivals("lengths", rows) == {"art 2": "pgd 2", "art 2 lambda 8": "pgd 2"}
    assert grids.rivals("factorial", ["pgd held", "art authors"]) == {"art authors": "pgd held"}
    assert all(grids.rivals(grid, ["art", "pgd", "lambda 1"]) == {} for grid in grids.GRIDS)


def test_others_share_their_rows_with_the_objectives():
    rows, objectives = (make("cpu", dataset="cifar10") for make in (grids.others, grids.objectives))
    assert rows["art"] == objectives["art"] and rows["art_combined"] == objectives["art_combined"]
    assert {n for n in rows if n in TRAININGS} >= {"natural", "pgd", "art", "trades", "cure", "jarn", "igr", "lga"}
    controls = {name: name.split(" lr x") for name in rows if " lr x" in name}
    assert len(controls) == 4
    for name, (training, factor) in controls.items():
        assert rows[name] == replace(rows[training], lr=float(factor) * rows[training].lr)
    for name, recipe in rows.items():
        if name in controls:
            continue
        assert replace(recipe, training=Natural()) == rows["natural"]
        assert recipe.training.name == {"igr_trades": "igr", "art_combined": "art-variant"}.get(name, name)
    assert rows["igr_trades"].training == replace(rows["igr"].training, on="trades")
    text = paper.table("text").query("setting in ['pgd_20', 'combined']")
    assert set(text["training"]) - {"pgd"} <= set(rows)


def test_rows_by_name():
    every = grids.objectives("cpu", dataset="cifar10")
    assert grids.rows("objectives", "cpu", dataset="cifar10") == every
    assert grids.rows("objectives", "cpu", dataset="cifar10", names=["art"]) == {"art": every["art"]}
    with pytest.raises(ValueError, match="objectives has no row 'pgd'; it has art_eq2"):
        grids.rows("objectives", "cpu", dataset="cifar10", names=["pgd"])
    with pytest.raises(ValueError, match="unknown grid 'table5'; choose one of factorial"):
        grids.rows("table5", "cpu", dataset="cifar10")
