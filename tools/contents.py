"""Write the tables of the notebooks: ``python tools/contents.py``; ``--check`` only compares.

``notebooks/README.md`` has titles, objectives, minutes and memory; ``README.md`` a shorter table between two marks.
Titles and objectives are the heads of the sources. Minutes come from benchmarks/results/processes.json, where the same
code was measured with an unpacked encoder and nothing else kept. Memory is that of publishing.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import jupytext
import nbformat

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the tools

import publish
from pages import write_or_check

from xlt_tutorial.statistics import markdown_table

ROOT = Path(__file__).resolve().parent.parent
PROCESSES = ROOT / "benchmarks" / "results" / "processes.json"
PAGE, README = ROOT / "notebooks" / "README.md", ROOT / "README.md"
BEGIN, END = "<!-- notebooks: written by tools/contents.py -->\n", "<!-- end of notebooks -->"
INTRO = """\
<!-- Written by tools/contents.py; do not edit by hand. -->

# The notebooks

Read them in order, or open the one you need: each runs by itself, from top to bottom. What an earlier one has trained
is read from the cache where it is there, and trained again where it is not. Exercises stand at the end of each; an
unfinished one says so and does not stop the notebook. The sources are in `src`."""


@dataclass(frozen=True)
class Entry:
    """What the tables say of one notebook; seconds are ``None`` where they were not measured."""

    name: str
    title: str
    subtitle: str
    objectives: tuple[str, ...]
    memory_mb: float
    one_core: float | None
    two_cores: float | None


def entries(folder: Path = publish.NOTEBOOKS, processes: Path = PROCESSES) -> list[Entry]:
    """Read the heads of the sources, and what their notebooks took."""
    rows = json.loads(processes.read_text(encoding="utf-8"))["whole"] if processes.exists() else []
    timed: dict[tuple[str, int], float] = {}
    for row in rows:  # the first state of each is the one without kept results
        if row.get("source"):
            timed.setdefault((row["source"], row["cores"]), row["seconds"])
    found = []
    for source in publish.sources(None, folder):
        head = jupytext.read(source, fmt="py:percent").cells[0].source
        title, subtitle = re.match(r"# (.+)\n\n((?:.+\n)+)", head).groups()  # type: ignore[union-attr]
        told = head.split("**What you will learn**\n", 1)[1].split("\n\n", 1)[0]
        objectives = [
            " ".join(part.split()).rstrip(";.") for part in re.split(r"^- ", told, flags=re.M) if part.strip()
        ]
        cost = nbformat.read(folder / f"{source.stem}.ipynb", as_version=4).metadata["xlt"]
        code = publish.code_sha256(source)
        seconds = (timed.get((code, 1)), timed.get((code, 2)))
        entry = Entry(
            source.stem, title, " ".join(subtitle.split()), tuple(objectives), cost["peak_memory_mb"], *seconds
        )
        found.append(entry)
    return found


def minutes(seconds: float | None) -> str:
    """Write seconds as minutes: whole ones, or "under 1"; a dash for what was not measured."""
    return "-" if seconds is None else "under 1" if seconds < 60 else f"{seconds / 60:.0f}"


def page(found: list[Entry]) -> str:
    """Return ``notebooks/README.md``."""
    lines = [
        [f"[{one.name}]({one.name}.ipynb)", one.title, minutes(one.one_core), minutes(one.two_cores),
         f"{one.memory_mb / 1000:.1f}"]
        for one in found
    ]  # fmt: skip
    table = markdown_table(["notebook", "title", "minutes, one core", "minutes, two cores", "GB"], lines)
    parts = [INTRO, table.replace("| --- | ---: |", "| --- | --- |", 1)]  # the second column is words
    for one in found:
        goals = "\n".join(f"- {goal}" for goal in one.objectives)
        parts.append(f"## [{one.name[:2]} {one.title}]({one.name}.ipynb)\n\n{one.subtitle}\n\n{goals}")
    return "\n\n".join(parts) + "\n"


def readme(found: list[Entry], text: str) -> str:
    """Return README.md with the table between its marks renewed."""
    lines = [[f"[{one.name}](notebooks/{one.name}.ipynb)", one.subtitle, minutes(one.one_core)] for one in found]
    before, rest = text.split(BEGIN, 1)
    table = markdown_table(["notebook", "what it shows", "minutes on one core"], lines)
    table = table.replace("| --- | ---: |", "| --- | --- |", 1)  # the middle column is words
    seconds = [one.one_core for one in found]
    whole = "Minutes are of the running time alone, with nothing kept from another notebook."
    if all(seconds):
        whole = f"All of them run for {sum(filter(None, seconds)) / 60:.0f} minutes on one core. {whole}"
    return f"{before}{BEGIN}\n{table}\n\n{whole}\n\n{END}{rest.split(END, 1)[1]}"


def main(arguments: list[str] | None = None) -> int:
    """Write both tables, or compare them; 1 where one differs."""
    found = entries()
    command = "python tools/contents.py"
    texts = {PAGE: page(found), README: readme(found, README.read_text(encoding="utf-8"))}
    return max(write_or_check(path, text, command, arguments) for path, text in texts.items())


if __name__ == "__main__":
    sys.exit(main())
