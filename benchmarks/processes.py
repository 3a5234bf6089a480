"""Whole processes, as a reader starts them: imports, a first figure, notebooks, the demo; on one core and on two."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from benchmarks import measure, tables
from xlt_tutorial.statistics import markdown_table
from xlt_tutorial.system import versions

sys.path.insert(0, str(measure.ROOT / "tools"))
import publish

LIBRARIES = "import torch, transformers"
NAMES = "[getattr(xlt_tutorial, name) for name in xlt_tutorial.__all__]"
IMPORTS = {
    "Python alone": "",
    "`import torch`": "import torch",
    "`import torch, transformers`": LIBRARIES,
    "`import xlt_tutorial`": "import xlt_tutorial",
    "`import xlt_tutorial`, all public names": f"import xlt_tutorial\n{NAMES}",
    "`import torch, transformers, xlt_tutorial`, all public names": f"{LIBRARIES}, xlt_tutorial\n{NAMES}",
}
BARE, FILLED = list(IMPORTS)[2], list(IMPORTS)[5]

# States of the cache. Each is the state before the process starts.
FIRST = "first time: unpacks the encoder"
UNPACKED = "encoder unpacked, nothing else kept"
AGAIN = "again: what was kept is read"
REPEATED = ("01", "02")  # notebooks that run a second time too: the one that encodes most, and the one that trains most
FIGURE, DEMO = "first figure of notebook 01", "`xlt demo`"

# Runs in a process that starts the kernel. The clock runs from before the kernel starts until it has ended.
NOTEBOOK = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, "tools")
import publish
number, folder, figure = {number!r}, Path({folder!r}), {figure!r}
notebook = publish.read_source(publish.sources([number], folder)[0])
if figure:
    code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    last = next(i for i in code if "\\nshow(" in "\\n" + notebook.cells[i].source)
    notebook.cells = notebook.cells[: last + 1]
start = time.perf_counter()
cost = publish.execute(notebook, folder, timeout=7200, XLT_CACHE={cache!r})
seconds = time.perf_counter() - start
if figure and not any("application/vnd.plotly.v1+json" in o.get("data", {{}}) for o in notebook.cells[-1].outputs):
    raise SystemExit("the cell that should show the first figure shows none")
print(json.dumps([seconds, cost["peak_memory_mb"]]))
"""
DEMO_CODE = """
import runpy, sys
sys.argv = ["xlt", "demo", "--out", {folder!r}]
try:
    runpy.run_module("xlt_tutorial", run_name="__main__")
except SystemExit as done:
    if done.code:
        raise
"""

Job = Callable[[int], tuple[float, float]]  # cores -> seconds, peak memory in MB
Maker = Callable[["Place"], Job]


def run(small: bool = False) -> dict[str, Any]:
    """Measure everything, and save it as it comes; ``small`` imports once on one core and runs nothing else.

    A notebook whose code has not changed since an earlier run on this machine, with these versions, is not run again.
    """
    known = [row for row in earlier() if row["source"] == digest(row["what"])]
    cores = [1] if small else sorted({1, min(2, len(os.sched_getaffinity(0)))})
    rounds = {"imports": 1 if small else 5, "figure": 1}
    imports: dict[str, Job] = {what: _imported(code) for what, code in IMPORTS.items()}
    results: dict[str, Any] = {"rounds": rounds, "imports": in_turns(imports, cores, rounds["imports"])}
    results |= {"figure": [], "whole": []}
    if small:
        return results
    with tempfile.TemporaryDirectory(prefix="xlt-benchmark-") as name:
        place = Place(Path(name))
        figure = {state: place.notebook("01", state, figure=True) for state in (FIRST, UNPACKED, AGAIN)}
        results["figure"] = in_turns(figure, cores, rounds["figure"])
        done = {(row["what"], row["state"], row["cores"]) for row in known}
        results["whole"] = known
        measure.save("processes", results)
        others = [Place(Path(name) / f"core-{at}") for at in range(max(cores))]
        for number in reversed(cores):
            jobs = whole(()) if number == 1 else whole()
            # A second run needs its first before it.
            lacking = {(what, number) for what, state in jobs if (what, state, number) not in done}
            left = {key: job for key, job in jobs.items() if (key[0], number) in lacking}
            results["whole"] = [row for row in results["whole"] if (row["what"], row["cores"]) not in lacking]
            for row in side_by_side(left, others) if number == 1 else one_by_one(left, place, number):
                results["whole"].append(row | {"source": digest(row["what"])})
                measure.save("processes", results)
    return results


def earlier() -> list[dict[str, Any]]:
    """Return the stored rows of notebooks, where they are of this machine and these versions."""
    path = measure.RESULTS / "processes.json"
    held = json.loads(path.read_text()) if path.exists() else {"platform": None}
    same = held["platform"] == measure.facts() and held["versions"] == versions()
    return [row for row in held["whole"] if row.get("source")] if same else []


def digest(what: str) -> str | None:
    """Return the sha256 of a notebook's code; ``None`` for what is no notebook."""
    names = {f"notebook {source.stem[:2]}": source for source in publish.sources()}
    return publish.code_sha256(names[what]) if what in names else None


def whole(repeated: Sequence[str] = REPEATED) -> dict[tuple[str, str], Maker]:
    """Return the notebooks in order, those of ``repeated`` once more right after their first run, and the demo."""
    jobs: dict[tuple[str, str], Maker] = {}
    for number in (source.stem[:2] for source in publish.sources()):
        states = (UNPACKED, AGAIN) if number in repeated else (UNPACKED,)
        jobs |= {(f"notebook {number}", state): partial(Place.notebook, number=number, state=state) for state in states}
    return jobs | {(DEMO, UNPACKED): Place.demo}


def one_by_one(jobs: Mapping[tuple[str, str], Maker], place: Place, cores: int) -> Iterator[dict[str, Any]]:
    """Run each job once on so many cores and yield its row."""
    for (what, state), made in jobs.items():
        (row,) = in_turns({what: made(place)}, [cores], 1)
        yield row | {"state": state}


def side_by_side(jobs: Mapping[tuple[str, str], Maker], places: Sequence[Place]) -> Iterator[dict[str, Any]]:
    """Run jobs at the same time, each on a core and in a place of its own, and yield their rows as they come."""
    free: SimpleQueue[tuple[int, Place]] = SimpleQueue()
    for core, place in zip(sorted(os.sched_getaffinity(0)), places, strict=False):
        free.put((core, place))

    def run_one(key: tuple[str, str], made: Maker) -> dict[str, Any]:
        core, place = free.get()
        os.sched_setaffinity(0, {core})  # of this thread, and of what it starts
        (row,) = in_turns({key[0]: made(place)}, [1], 1)
        free.put((core, place))
        return row | {"state": key[1]}

    with ThreadPoolExecutor(free.qsize()) as pool:
        for done in as_completed([pool.submit(run_one, *item) for item in jobs.items()]):
            yield done.result()


class Place:
    """A scratch folder with copies of the notebooks and a cache of its own, so that the reader's is left as it is."""

    def __init__(self, folder: Path) -> None:
        self.notebooks, self.cache, self.unpacked = folder / "notebooks", folder / "cache", folder / "unpacked"
        self.out = folder / "demo"
        folder.mkdir(exist_ok=True)
        shutil.copytree(measure.ROOT / "notebooks", self.notebooks, ignore=shutil.ignore_patterns(".*"))
        code = "from xlt_tutorial import load_encoder\nload_encoder()"
        measure.child(code, env={"XLT_CACHE": str(self.unpacked)})

    def notebook(self, number: str, state: str, figure: bool = False) -> Job:
        """Return a job that runs a notebook, or its cells up to the first figure."""
        code = NOTEBOOK.format(number=number, folder=str(self.notebooks), figure=figure, cache=str(self.cache))

        def job(cores: int) -> tuple[float, float]:
            self._prepare(state)
            printed = measure.child(code, cores)[2]
            seconds, peak = json.loads(printed.splitlines()[-1])
            return seconds, peak

        return job

    def demo(self) -> Job:
        """Return a job that runs the demo."""

        def job(cores: int) -> tuple[float, float]:
            self._prepare(UNPACKED)
            code = DEMO_CODE.format(folder=str(self.out))
            return measure.child(code, cores, {"XLT_CACHE": str(self.cache)})[:2]

        return job

    def _prepare(self, state: str) -> None:
        """Bring the cache into a state; for ``AGAIN`` it stays as the run before left it."""
        if state == AGAIN:
            return
        shutil.rmtree(self.cache, ignore_errors=True)
        if state == UNPACKED:
            shutil.copytree(self.unpacked, self.cache, copy_function=os.link)


def _imported(code: str) -> Job:
    return lambda cores: measure.child(code, cores)[:2]


def in_turns(jobs: Mapping[str, Job], cores: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Run each job once a round on each number of cores, one after the other, and return the medians."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for number in cores:
            for name, job in jobs.items():
                found.setdefault((name, number), []).append(job(number))
    return [
        {
            "what": name,
            "cores": number,
            "seconds": statistics.median(seconds for seconds, _ in values),
            "peak_mb": statistics.median(peak for _, peak in values),
            "all": [round(seconds, 3) for seconds, _ in values],
        }
        for (name, number), values in found.items()
    ]


# --- the page ------------------------------------------------------------------------------------------------------


def table(results: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    imports, figure, whole = results["imports"], results["figure"], results["whole"]
    by_key = {(row["what"], row["cores"]): row for row in imports}
    text = [
        "### Imports",
        f"From the start of Python to its end; {_medians(results['rounds']['imports'])}. Memory is the peak of the "
        "resident size.",
        _grid(imports, ["what"]),
    ]
    for cores in dict.fromkeys(row["cores"] for row in imports):
        bare, filled = by_key[BARE, cores], by_key[FILLED, cores]
        text.append(
            f"On {_cores(cores)}, the package with all its public names adds "
            f"{1000 * (filled['seconds'] - bare['seconds']):+.0f} ms "
            f"({100 * (filled['seconds'] / bare['seconds'] - 1):+.1f} %) and "
            f"{filled['peak_mb'] - bare['peak_mb']:+.0f} MB to torch and transformers."
        )
    if figure:
        text += [
            f"### The {FIGURE}",
            "From the start of the kernel to its end after that cell; "
            f"{_medians(results['rounds']['figure'])}. The memory is the kernel's. No state is one of a cold disk: the "
            "system still holds the files.",
            _grid(figure, ["what"]),
        ]
    if whole:
        whole = sorted(whole, key=lambda row: (row["what"] == DEMO, row["what"], row["state"] == AGAIN))
        beside = "; on one core, two ran beside each other, each on a core of its own"
        beside = beside if any(row["cores"] == 1 for row in whole) else ""
        text += [
            "### Whole notebooks and the demo",
            f"Each ran once{beside}. A notebook's time and memory are its kernel's, the demo's those of the whole "
            "command.",
            _grid(whole, ["what", "state"]),
        ]
        text += [_speed_up(whole)] if len({row["cores"] for row in whole}) > 1 else []
    return "\n\n".join(text)


def _grid(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    cores = sorted({row["cores"] for row in rows})
    lines: dict[tuple[str, ...], dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault(tuple(row[key] for key in keys), {})[row["cores"]] = row
    head = ["process", *[text for n in cores for text in (_cores(n), "memory")]]
    cells = [[", ".join(name)] + [text for n in cores for text in _cost(held.get(n))] for name, held in lines.items()]
    return markdown_table(head, cells)


def _cost(row: Mapping[str, Any] | None) -> tuple[str, str]:
    return (tables.seconds(row["seconds"]), tables.megabytes(row["peak_mb"])) if row else ("", "")


def _speed_up(rows: Sequence[Mapping[str, Any]]) -> str:
    low, high = min(row["cores"] for row in rows), max(row["cores"] for row in rows)
    slow = {(row["what"], row["state"]): row["seconds"] for row in rows if row["cores"] == low}
    fast = {(row["what"], row["state"]): row["seconds"] for row in rows if row["cores"] == high}
    gains = [slow[key] / fast[key] for key in slow if key in fast]
    return f"{_cores(high).capitalize()} are {min(gains):.2f} to {max(gains):.2f} times as fast as {_cores(low)}."


def _cores(number: int) -> str:
    return {1: "one core", 2: "two cores"}.get(number, f"{number} cores")


def _medians(rounds: int) -> str:
    return "one run" if rounds == 1 else f"medians of {rounds} runs in turns"
