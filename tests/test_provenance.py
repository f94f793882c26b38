"""Where a number comes from: the commit."""

import re
import subprocess

from artlib import provenance


def test_outside_a_checkout_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.commit.__wrapped__() == "unknown"


def test_the_commit_of_a_project_around_an_installed_copy_is_not_ours(tmp_path, monkeypatch):
    around = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "site-packages").mkdir()
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run([*around, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "site-packages")
    assert provenance.commit.__wrapped__() == "unknown"
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert re.fullmatch(r"[0-9a-f]{40}", provenance.commit.__wrapped__())
