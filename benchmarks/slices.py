"""The same step in less memory: EAR at mBERT's size with the widest typical batch of XNLI, cut ever smaller."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import steps, tables
from benchmarks.measure import medians
from xlt_tutorial.encoders import load_encoder
from xlt_tutorial.objectives import EAR
from xlt_tutorial.statistics import markdown_table

SIZES = (0, 2048, 1024, 512)


def run(small: bool = False) -> dict[str, Any]:
    """Measure steps of each size and the straightforward one in turns; ``small`` is for tests."""
    shape, name, width, rounds = (steps.SMALL, "emoji", 32, 1) if small else (steps.MBERT, "xnli", 128, 3)
    rig = steps.Rig.random(load_encoder(), shape, name, width)
    rig.numbers = rig.numbers[-1:]  # the widest
    (batch,), (padded,) = rig.batches(2), rig.batches(2, width)
    rig.warm_up(batch, padded)
    calls: dict[str, Callable[[], object]] = {
        f"{size}|{precision}": partial(rig.package(EAR(), max_tokens=size, precision=precision), batch)
        for precision in ["float32"] + ["bfloat16"] * rig.has_bfloat16
        for size in SIZES
    }
    calls["straightforward"] = partial(rig.straight, padded)
    return {"batch": list(batch["input_ids"].shape), "steps": medians(calls, rounds, warm_up=0)}


def table(results: dict[str, Any]) -> str:
    """Return the Markdown table and what it says."""
    found, (rows, width) = results["steps"], results["batch"]
    plain, whole = found["straightforward"], found["0|float32"]
    lines = []
    for name, row in found.items():
        size, _, precision = name.partition("|")
        what = (
            "straightforward"
            if not precision
            else f"EAR, {precision}, " + ("whole" if size == "0" else f"slices of {int(size):,}")
        )
        lines.append([what, tables.seconds(row["seconds"]), f"{row['seconds'] / whole['seconds']:.2f} x",
                      tables.megabytes(row["peak_mb"]), f"{row['peak_mb'] / plain['peak_mb']:.0%}"])  # fmt: skip
    least = min((row["peak_mb"], name) for name, row in found.items() if name.endswith("float32"))
    return (
        f"One batch of {rows} rows (both streams) of {width} tokens, cut by `Recipe(max_tokens=...)`; the gradients of "
        "the slices add up to the batch's (tests). Memory is the peak above weights and optimiser, with the gradients."
        "\n\n"
        + markdown_table(["step", "time", "against the whole batch", "peak", "of straightforward's"], lines)
        + f"\n\nIn float32 the smallest peak is {least[0] / plain['peak_mb']:.0%} of the straightforward one's, with "
        f"slices of {least[1].partition('|')[0]} tokens."
    )
