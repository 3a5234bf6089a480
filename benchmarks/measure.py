"""Clocks and memory readings that the benchmarks share; Linux alone, as peaks are read and reset through /proc."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from xlt_tutorial.files import write_whole
from xlt_tutorial.system import machine, release_memory, versions

RESULTS = Path(__file__).resolve().parent / "results"
ROOT = RESULTS.parent.parent


def medians(
    variants: Mapping[str, Callable[[], object]], rounds: int = 5, warm_up: int = 1
) -> dict[str, dict[str, Any]]:
    """Call each variant once a round, in turns, so that a slow moment of the machine falls on all of them.

    Returns:
        For each variant the median ``seconds``, every round's ``all`` and the median ``peak_mb`` above what the process
        held before the call.
    """
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    peaks: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(warm_up + rounds):
        for name, call in variants.items():
            took, peak = timed(call)
            if turn >= warm_up:
                seconds[name].append(took)
                peaks[name].append(peak)
    return {
        name: {
            "seconds": statistics.median(seconds[name]),
            "peak_mb": statistics.median(peaks[name]),
            "all": [round(value, 4) for value in seconds[name]],
        }
        for name in variants
    }


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that a call took, and its peak of resident memory above what was held before, in MB."""
    release_memory()  # a peak shall not stand on the last one's ruins
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    start = time.perf_counter()
    call()
    took = time.perf_counter() - start
    return took, _memory("VmHWM") - before


def resident_mb() -> float:
    """Return what the process holds now, in MB of 2**20 bytes."""
    return _memory("VmRSS")


def _memory(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{key}:"))) / 1024


def child(code: str, cores: int | None = None, env: Mapping[str, str] | None = None) -> tuple[float, float, str]:
    """Run Python code in a new process from the root; return seconds, its peak memory in MB and what it printed.

    ``cores`` ties it to that many. Code that fails raises ``CalledProcessError`` with its output.
    """
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    last = "\nprint(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])\n"
    environment = {**os.environ, "OMP_NUM_THREADS": str(len(allowed)), "HF_HUB_OFFLINE": "1", **(env or {})}
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code + last], cwd=ROOT, env=environment, text=True, capture_output=True, check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, allowed),
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        error.add_note(error.stderr)
        raise
    took = time.perf_counter() - start
    *printed, peak = done.stdout.splitlines()
    return took, int(peak) / 1024, "\n".join(printed)


def save(name: str, results: Mapping[str, Any]) -> Path:
    """Write a benchmark's results beside the machine and versions they hold for."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    write_whole(path, json.dumps({"platform": facts(), "versions": versions(), **results}, indent=1) + "\n")
    return path


def facts() -> dict[str, Any]:
    """Return what tells this machine from others."""
    return {"processor": _processor(), **machine()}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")
