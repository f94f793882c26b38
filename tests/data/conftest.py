"""No network, and files of a few bytes in the place of the published ones."""

import urllib.request

import pytest

from artlib.data import downloads


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(request, **_):
        raise urllib.error.URLError("offline")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


@pytest.fixture(autouse=True)
def unpublished(request, monkeypatch):
    """Tiny files under the official names have other checksums; tests that ask for `published` compare them."""
    if "published" not in request.fixturenames:
        monkeypatch.setattr(downloads, "compare", lambda path, md5: None)


@pytest.fixture
def published():
    """Asked for by the tests in which files are compared with their published checksums."""
