"""The views of notebooks 07 and 08 on one core: what a change costs in the kernel, and on the way to the picture.

The kernel's part is timed in a process tied to one core. What a reader sees is timed in JupyterLab with the browser
that the tests drive, all of it (server, kernel, browser without a graphics card) on that one core.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from typing import Any

from benchmarks import measure, tables
from xlt_tutorial.statistics import markdown_table

KERNEL = """
import itertools, json
from benchmarks import measure
from xlt_tutorial.widgets import explore
from xlt_tutorial.widgets.playground import grid_playground, toy_playground

view, grid, toy = explore(), grid_playground(), toy_playground()
grid.box, toy.box
layers = itertools.cycle(view.maps.layers)
colours = itertools.cycle(["gap", "label", "language"])
names = itertools.cycle(range(len(view.maps.ids)))
seeds = itertools.cycle([grid.view.seeds[:1], grid.view.seeds])
calls = {
    "explorer: another layer": lambda: view.set(layer=next(layers)),
    "explorer: another colour": lambda: view.set(colour=next(colours)),
    "explorer: another point": lambda: view.set(picked=next(names)),
    "grid: other seeds": lambda: grid.set(seeds=next(seeds)),
    "toy: a frame": toy.step,
}
took = {name: row["seconds"] for name, row in measure.medians(calls, rounds=ROUNDS).items()}
points = int(view.maps.xy.shape[-3] * view.maps.xy.shape[-2])
print(json.dumps({"points": points, "kernel": took}))
"""
# What the browser tests print, by the name of what it tells.
SAID = {
    "explorer: a step of the layer's slider": r"until the picture has changed: (\d+) ms",
    "grid: a click on a seed": r"from a click to the picture: (\d+) ms",
    "toy: frames a second while it plays": r"kernel and browser together: ([\d.]+)",
}


def run(small: bool = False) -> dict[str, Any]:
    """Measure; ``small`` is for tests and leaves the browser out."""
    _, _, printed = measure.child(KERNEL.replace("ROUNDS", "2" if small else "30"), cores=1)
    return {**json.loads(printed.splitlines()[-1]), "browser": {} if small else _browser()}


def _browser() -> dict[str, list[float]]:
    """Run the browser tests of the views twice on one core and return what they tell, or nothing without one."""
    found: dict[str, list[float]] = {}
    core = min(os.sched_getaffinity(0))
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-s", "tests/test_browser_widgets.py",
             "tests/test_browser_playground.py", "-k", "follow_their_controls or follows_clicks or follows_its_dials"],
            cwd=measure.ROOT, text=True, capture_output=True, preexec_fn=lambda: os.sched_setaffinity(0, [core]),
        )  # fmt: skip
        for name, pattern in SAID.items():
            found.setdefault(name, []).extend(map(float, re.findall(pattern, done.stdout)))
    return found


def table(results: dict[str, Any]) -> str:
    """Return the Markdown tables and what they say."""
    lines = [[name, tables.seconds(took), f"{1 / took:,.0f}"] for name, took in results["kernel"].items()]
    parts = [
        f"A change in the kernel, on one core; the explorer shows {results['points']:,} points in each panel.",
        markdown_table(["change", "time", "a second"], lines),
    ]
    seen = {name: values for name, values in results["browser"].items() if values}
    if not seen:
        return "\n\n".join([*parts, "With a browser: not run."])
    rows = [[name, _told(name, statistics.median(values)), str(len(values))] for name, values in seen.items()]
    return "\n\n".join([
        *parts,
        "With JupyterLab and a browser that draws without a graphics card, all on that one core:",
        markdown_table(["until the picture has changed", "median", "times"], rows),
        "On Binder the kernel's part alone runs on the server's core; the browser's runs on the reader's machine.",
    ])  # fmt: skip


def _told(name: str, value: float) -> str:
    return f"{value:.1f} a second" if "frames a second" in name else tables.seconds(value / 1000)
