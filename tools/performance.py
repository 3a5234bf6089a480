"""Write docs/performance.md from benchmarks/results: ``python tools/performance.py``. ``--check`` only compares.

Every number on the page comes from the results. Each benchmark turns its own into Markdown, by its ``table``.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the tools
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the benchmarks

from pages import write_or_check

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "performance.md"
SECTIONS = {
    "steps": "The training step",
    "slices": "A step in slices",
    "trainer": "The training loop",
    "methods": "The methods",
    "scaling": "How the cost grows",
    "widgets": "The interactive views",
    "processes": "Whole processes",
    "gpu": "On a GPU",
}
INTRO = """\
<!-- Written by tools/performance.py from benchmarks/results; do not edit by hand. -->

# Speed and memory

How long the parts of the package take and how much memory they need: a training step and the training loop, how the
cost grows with the size of the input, and whole processes as a reader starts them.

The figures that matter are ratios. What is compared was measured in one run on one machine, in turns, and each number
is a median of several rounds where no other count is given. Seconds alone say little about another machine. MB are
2^20 bytes. What bfloat16 does to accuracy is the study `emoji_precision` in [results.md](results.md).

To repeat all of it, close other programs and run `make bench`; one part alone is `make bench ARGS=scaling`. That writes
the numbers to `benchmarks/results` and this page."""


def page(results: Path) -> str:
    """Return the page that the JSON files of a folder give."""
    found = {name: json.loads(path.read_text()) for name in SECTIONS if (path := results / f"{name}.json").exists()}
    parts = [INTRO, "## Machine and versions", _machines(found)]
    for name, title in SECTIONS.items():
        parts += [f"## {title}", _section(name, found.get(name))]
    return "\n\n".join(parts) + "\n"


def _section(name: str, results: Mapping[str, Any] | None) -> str:
    if results is None:
        return "Not run: no GPU was at hand." if name == "gpu" else f"Not run yet: `make bench ARGS={name}`."
    return str(importlib.import_module(f"benchmarks.{name}").table(results)).strip()


def _machines(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Say on what each section was measured, once for those that share it."""
    shared: dict[str, list[str]] = {}
    for name, results in found.items():
        facts = [f"- {key}: {value}" for key, value in results["platform"].items()]
        held = [f"{key} {value}" for key, value in results["versions"].items() if value is not None]
        shared.setdefault("\n".join([*facts, f"- versions: {', '.join(held)}"]), []).append(SECTIONS[name])
    if len(shared) < 2:
        return next(iter(shared), "Nothing has been measured yet.")
    return "\n\n".join(f"{', '.join(titles)}:\n\n{facts}" for facts, titles in shared.items())


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or compare it with what the results give; 1 where it differs."""
    return write_or_check(PAGE, page(RESULTS), "python tools/performance.py", arguments)


if __name__ == "__main__":
    sys.exit(main())
