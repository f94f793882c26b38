"""The digest of the code behind a result: what a result ran through changes it, and nothing else."""

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from artlib import digest, models
from artlib.digest import code_digest
from artlib.paths import ROOT
from artlib.trainings import Art, Natural, Pgd, fit

PACKAGE = Path(digest.__file__).parent


@pytest.fixture
def code(tmp_path, monkeypatch):
    """A copy of the package, whose files the digest reads afresh each time."""
    shutil.copytree(PACKAGE, tmp_path / "artlib", ignore=shutil.ignore_patterns("__pycache__"))

    def elsewhere(name):
        path = tmp_path / name.replace(".", "/")
        if name.split(".")[0] != "artlib":
            return None
        return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.exists()), None)

    monkeypatch.setattr(digest, "_file", elsewhere)
    monkeypatch.setattr(digest, "_parsed", digest._parsed.__wrapped__)
    return tmp_path / "artlib"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path.name} has no {old!r} any more: name another line"
    path.write_text(text.replace(old, new, 1))


def both() -> tuple[str, str]:
    return code_digest(fit, Art()), code_digest(fit, Natural())


def test_a_copy_has_the_digest_of_the_package(request):
    before = both()
    request.getfixturevalue("code")
    assert both() == before
    assert all(len(d) == 12 and int(d, 16) >= 0 for d in before) and before[0] != before[1]


def test_parts_may_be_functions_classes_instances_partials_and_modules_in_any_order():
    assert code_digest(Art) == code_digest(Art()) == code_digest(Art(beta=3.0)) == code_digest("artlib.trainings.art")
    assert code_digest(functools.partial(fit, compile=False)) == code_digest(fit) == code_digest("artlib.trainings.fit")
    assert code_digest(fit, Art) == code_digest(Art, fit) != code_digest(fit)


def test_comments_docstrings_and_layout_do_not_count(code):
    before, path = both(), code / "trainings" / "art.py"
    path.write_text(f"# a remark\n\n\n{path.read_text()}\n# another\n")
    edit(
        path,
        '"""What a recorded graph depends on: not the ball, which may grow, nor the loop in it."""',
        '"""Something else."""',
    )
    edit(path, '"""ART (Singh et al.', '"""ART, reworded (Singh et al.')
    edit(
        path,
        "return logits.scatter(1, y[:, None], -torch.inf).argmax(1)",
        "return (\n        logits.scatter(1,\n            y[:, None], -torch.inf).argmax(1)  # why\n    )",
    )
    assert both() == before


@pytest.mark.parametrize(
    ("file", "old", "new", "counts"),
    [
        ("trainings/art.py", "beta: Positive = 50.0", "beta: Positive = 51.0", (True, False)),
        ("trainings/art.py", "return ce + s.weight * attr", "return ce - s.weight * attr", (True, False)),
        ("trainings/fit.py", "if t < 0.3:", "if t < 0.4:", (True, True)),
        ("models/surrogate.py", "0.5 * math.log", "0.6 * math.log", (True, False)),  # one import away
        ("models/statistics.py", "correction=0", "correction=1", (True, True)),
        ("attacks/balls.py", "return g.sign()", "return -g.sign()", (True, True)),  # two: training.py, ascend.py
        ("settings.py", '"a number"', '"a float"', (True, True)),
        ("trainings/pgd.py", "steps=40", "steps=41", (False, False)),
        ("plots/lines.py", "import numpy", "import os, numpy", (False, False)),
        ("results.py", "import", "import os, ", (False, False)),
    ],
)
def test_a_change_counts_for_those_who_run_through_it(file, old, new, counts, code):
    before = both()
    edit(code / file, old, new)
    assert tuple(a != b for a, b in zip(before, both(), strict=True)) == counts


def test_a_new_file_and_its_line_in_a_list_change_nothing_but_its_own_users(code):
    before = both()
    new = (code / "trainings" / "natural.py").read_text().replace("class Natural", "class New")
    (code / "trainings" / "new.py").write_text(new)
    edit(
        code / "trainings" / "__init__.py",
        "from artlib.trainings.pgd",
        "from artlib.trainings.new import New\nfrom artlib.trainings.pgd",
    )
    edit(code / "trainings" / "__init__.py", "Art, ArtVariant)", "Art, ArtVariant, New)")
    edit(code / "models" / "__init__.py", "    small_resnet.SMALL_RESNET,", "    small_resnet.SMALL_RESNET, chen.CNN,")
    assert both() == before
    assert code_digest("artlib.trainings.new") not in before


def test_what_is_written_in_a_packages_init_counts_for_its_users(code):
    before, chen = both(), code_digest(models.find("rar-cnn").make)
    edit(code / "models" / "__init__.py", "bound = (6 / fan)", "bound = (5 / fan)")
    assert all(a != b for a, b in zip(before, both(), strict=True))
    assert code_digest(models.find("rar-cnn").make) == chen


def test_a_network_counts_for_those_who_train_it(code):
    def now():
        return [code_digest(fit, Natural, models.find(arch).make) for arch in ("wrn-28-10", "rar-cnn")]

    before = now()
    edit(code / "models" / "wide_resnet.py", "[16, 16 * width", "[17, 16 * width")
    after = now()
    assert before[0] != after[0] and before[1] == after[1]


def test_what_is_not_artlibs_counts_by_its_name():
    def theirs():
        return None

    assert code_digest(theirs) == code_digest(test_what_is_not_artlibs_counts_by_its_name)
    assert code_digest(theirs) != code_digest("another.module")
    assert code_digest(Pgd, theirs) != code_digest(Pgd)


def test_every_import_of_artlib_is_one_that_the_digest_follows():
    """`from artlib... import`, absolute: the other ways to import are not followed."""
    import ast

    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(alias.name.split(".")[0] == "artlib" for alias in node.names), path
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, path


def test_the_digest_is_that_of_another_process():
    code = "from artlib.trainings import Art, fit; from artlib.digest import code_digest; print(code_digest(Art, fit))"
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert child.stdout.strip() == code_digest(Art, fit)
