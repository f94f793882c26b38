"""What every test shares: one thread, no window, the same hypothesis examples, a seeded generator; where time went."""

import os
import re
import time
from collections import Counter

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; the tests' own processes and kernels inherit

import hypothesis
import matplotlib
import pytest
import torch

WHOLE = ("tests/test_distributed.py",)  # files whose tests share something dear: they stay in one worker

matplotlib.use("Agg")  # not by environment: a notebook's kernel has its own
torch.set_num_threads(1)  # sums in one fixed order
hypothesis.settings.register_profile("artlib", derandomize=True, deadline=None, database=None, max_examples=50)
hypothesis.settings.load_profile("artlib")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


# ------------------------------------------------------------------ on all cores


def pytest_generate_tests(metafunc):
    """Workers have to agree on a test's name, and str() of a function has its address in it."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        if mark.kwargs.get("ids") is str:
            mark.kwargs["ids"] = lambda value: re.sub(r" at 0x[0-9a-f]+", "", str(value))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """The cells of a notebook go to one worker, in order; other tests to whoever is free, what is longest first."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file.endswith(".ipynb") or file in WHOLE else nodeid

    return Scheduling(config, log)


# ------------------------------------------------------------------ where the time went


class Clock:
    """CPU and wall seconds by file: a worker writes them into each report, the controller adds them up."""

    def __init__(self):
        self.started, self.files, self.wall = time.monotonic(), Counter(), Counter()
        self.imports = self.last = 0.0

    @staticmethod
    def cpu() -> float:
        """Seconds of this process and of those it has waited for, a notebook's kernel among them."""
        return sum(os.times()[:4])

    def pytest_collection_finish(self):
        self.imports = self.cpu()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self):
        self.last = self.cpu()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self):
        report = yield
        now = self.cpu()
        report.cpu, self.last = now - self.last, now
        report.imports, self.imports = self.imports, 0.0
        return report

    def pytest_runtest_logreport(self, report):
        file = report.nodeid.partition("::")[0]
        self.files[file] += getattr(report, "cpu", 0)
        self.wall[file] += report.duration
        self.files["imports and collection"] += getattr(report, "imports", 0)

    def pytest_terminal_summary(self, terminalreporter):
        taken, most = time.monotonic() - self.started, self.files.most_common(12)
        if taken < 10:
            return
        terminalreporter.section(f"{sum(self.files.values()):.0f} s of CPU in {taken:.0f} s")
        for file, cpu in most:
            terminalreporter.write_line(f"{cpu:6.1f} s of CPU {self.wall[file]:6.1f} s  {file}")
        if others := len(self.files) - len(most):
            rest = sum(self.files.values()) - sum(cpu for _, cpu in most)
            terminalreporter.write_line(f"{rest:6.1f} s of CPU           {others} other files")


def pytest_configure(config):
    config.pluginmanager.register(Clock(), "artlib-clock")


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """No public weights lie in data/weights or cache/checkpoints of `tmp_path`, and none can be fetched."""
    from torch import hub

    from artlib import paths

    def refuse(*args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(paths, "DATA", tmp_path / "data")
    monkeypatch.setattr(hub, "get_dir", lambda: str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "download_url_to_file", refuse)
    return tmp_path
