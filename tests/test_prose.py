"""Prose holds no result that nobody computes: what is measured stands in code, in generated parts, or is checked here.

Sentences with results are printed by the code that has them (``say``, ``figures.show``), so Markdown needs none. What
numbers it does hold are settings, definitions and questions, listed here; time and memory in the heads are compared
with what was measured.
"""

from __future__ import annotations

import json
import re
import sys

import jupytext
import nbformat
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import publish

SOURCES = publish.sources()
PROCESSES = json.loads((ROOT / "benchmarks" / "results" / "processes.json").read_text())
# A decimal, or a share, that is not part of a longer number or name.
NUMBER = re.compile(r"(?<![\w./-])(?:\d[\d,]*(?:\.\d+)?(?: ?%| points?\b)|\d+\.\d+)(?![\w./])")
# What is no result: `code`, $formulas$, [links](..) and tables' headings aside.
NOT_PROSE = re.compile(r"`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|https?://\S+", re.S)
SETTINGS = {
    "00": {"0 %", "100 %"},  # what the ends of a scale mean
    "01": {"0.8", "0.5"},  # a cosine to ask about; what a random map has by definition
    "02": {"2.5 %", "97.5 %"},  # the ends of an interval
    "03": {"0.3"},  # the rate
    "04": {"30 %", "1 %"},  # the rate; the share below which training warns
    "05": {"30 %"},
    "07": {"10 %", "80 %"},  # shares that normalised EAR asks for; the power that "detectable" is defined by
    "09": {"0.5", "0.7", "95 %", "1.96", "0.02"},  # of the worlds that are built; intervals; what counts as a change
    "10": {"95 %", "5 %", "80 %", "3.7", "4.0"},  # levels and power; the root of 14; a licence
}
MINUTES = {"under 1 minute": 1} | {f"about {n} minute{'s' * (n > 1)}": n for n in range(1, 20)}
README_SETTINGS = {"3.11", "4.0"}  # of Python, of a licence

each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def numbers(text: str) -> set[str]:
    """Decimals and shares that a reader would take for facts."""
    return set(NUMBER.findall(NOT_PROSE.sub(" ", text)))


def test_numbers_are_found_where_they_are():
    text = "EAR gains 1.2 points, 4 %, 12 points or 56.5 %; `0.9` $0.1$ [x](a/0.5.html) v1.2.3 2026.11 are none"
    assert numbers(text) == {"1.2 points", "4 %", "12 points", "56.5 %", "2026.11"}
    assert numbers("layer 12, seed 0, 14 languages, about 3 minutes") == set()


@each_source
def test_markdown_holds_settings_and_no_results(source):
    cells = [cell.source for cell in jupytext.read(source, fmt="py:percent").cells if cell.cell_type == "markdown"]
    body = "\n".join(cells).replace(head_line(source), "")
    assert numbers(body) <= SETTINGS.get(source.stem[:2], set())


def head_line(source):
    head = jupytext.read(source, fmt="py:percent").cells[0].source
    return re.search(r"\*\*Time and memory\*\*: ([^.]+\.\d GB)", head).group(1)


@each_source
def test_the_head_says_what_was_measured(source):
    told = re.fullmatch(r"(\w+ \d+ minutes?) on two cores, about (\d\.\d) GB", head_line(source))
    assert told, head_line(source)
    measured = nbformat.read(ROOT / "notebooks" / f"{source.stem}.ipynb", as_version=4).metadata["xlt"]
    assert float(told[2]) == pytest.approx(measured["peak_memory_mb"] / 1000, abs=0.15)
    rows = [row for row in PROCESSES["whole"] if row["cores"] == 2 and row.get("source") == publish.code_sha256(source)]
    for row in rows[:1]:  # nothing kept from earlier notebooks
        minutes = row["seconds"] / 60
        assert MINUTES[told[1]] - 1.3 <= minutes <= 1.3 * MINUTES[told[1]] + 0.3, f"{minutes:.1f} measured"


def test_readme_holds_no_result_outside_its_generated_parts():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    for part in ("front", "notebooks", "badges"):
        text = re.sub(rf"<!-- {part}: .*?<!-- end of {part} -->", "", text, flags=re.S)
    assert numbers(text) <= README_SETTINGS
