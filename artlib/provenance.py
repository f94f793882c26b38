"""Where a number comes from: the commit of the code, the machine, the images."""

import os
import platform
import resource
import subprocess
from functools import cache
from pathlib import Path

import torch

from artlib.data import ImageSet
from artlib.paths import ROOT


@cache
def commit() -> str:
    """The git commit of the code, with "+changes" when the working tree differs; "unknown" outside a checkout."""

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(ROOT), *args], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != ROOT:
            return "unknown"  # some other project's checkout around an installed copy
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", "artlib") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine(device: torch.device | str) -> dict:
    """Versions, device, processor, threads, the machine's memory (GiB) and this process's peak (MiB)."""
    device = torch.device(device)
    cuda = device.type == "cuda"
    peak = (
        torch.cuda.max_memory_allocated(device) / 2**20
        if cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    )
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if cuda else f"CPU {platform.machine()}",
        "processor": _processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "threads": torch.get_num_threads(),
        "process_peak_memory_mib": round(peak),
        "commit": commit(),
    }


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # another system than Linux
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def describe(images: ImageSet) -> dict:
    """Name, split, number, size, fingerprint and note of an image set."""
    height, width = images.images.shape[2:]
    size = height if height == width else [height, width]
    about = {"name": images.name, "split": images.split, "images": len(images), "size": size}
    return about | {"fingerprint": images.fingerprint, "note": images.note}


commit()  # it speaks of the code that was imported: ask now, before somebody edits it under a long run
