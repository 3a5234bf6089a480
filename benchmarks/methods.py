"""What a training step of each method costs, at e5-small's size on the task "emoji"."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from benchmarks.measure import medians
from benchmarks.steps import SMALL, Rig
from xlt_tutorial.batching import Batch
from xlt_tutorial.encoders import load_encoder
from xlt_tutorial.objectives import METHODS, Objective, Vanilla, make_objective
from xlt_tutorial.statistics import markdown_table

WIDTH = 16  # of the published pull, as in the studies


def objectives() -> dict[str, Objective]:
    """Return every method, the published pulls padded to ``WIDTH``, and vanilla with one pass."""
    found: dict[str, Objective] = {"vanilla, one pass": Vanilla(passes=1)}
    for name in METHODS:
        found[name] = make_objective(name)
        if getattr(found[name], "pull", None) == "published":
            found[name] = make_objective(name, pad_to=WIDTH)
    return found


def run(small: bool = False) -> dict[str, Any]:
    """Time the methods in turns on the same typical batches; ``small`` is a narrow random model, for tests."""
    full = load_encoder()
    rig = Rig.random(full, SMALL, "emoji", width=32, pick=1) if small else Rig.emoji(full)
    rig.warm_up(rig.batches(2)[0], rig.batches(2, rig.width)[0])
    calls: dict[str, Callable[[], object]] = {}
    numbers: dict[str, int] = {}
    for name, objective in objectives().items():
        own = rig.batches(objective.streams, getattr(objective, "pad_to", None))
        numbers[name] = len(own)
        calls |= {f"{name}|{i}": _call(rig.package(objective), batch) for i, batch in enumerate(own)}
    found = medians(calls, rounds=1 if small else 5)
    rows = []
    for name, objective in objectives().items():
        parts = [found[f"{name}|{i}"] for i in range(numbers[name])]
        cost = {"seconds": statistics.fmean(part["seconds"] for part in parts)}
        cost |= {"peak_mb": max(part["peak_mb"] for part in parts)}
        rows.append({"method": name, "forwards": objective.forwards, **cost, "all": [part["all"] for part in parts]})
    return {"width": WIDTH, "methods": rows}


def _call(step: Callable[[Batch], object], batch: Batch) -> Callable[[], object]:
    return lambda: step(batch)


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    base = next(row for row in results["methods"] if row["method"] == "vanilla")
    lines = [
        [row["method"], str(row["forwards"]), f"{row['seconds']:.3g}", f"{row['seconds'] / base['seconds']:.2f} x",
         f"{row['peak_mb']:,.0f}"]
        for row in results["methods"]
    ]  # fmt: skip
    return (
        'One optimiser step at batch 32, e5-small with its vocabulary trimmed, task "emoji"; `vanilla` has two dropout '
        f"passes, the published pull is padded to {results['width']}. `ear-normalised` also measures gradient norms "
        "every `share_every` steps, which is not in its step here.\n\n"
        + markdown_table(["method", "forwards", "seconds", "against vanilla", "peak, MB"], lines)
    )
