"""Training on two processes takes the steps that one process takes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_processes import tiny
from tiny_run import tiny_folder, tiny_maker

from xlt_tutorial.batching import process_part

SCRIPT = Path(__file__).with_name("tiny_processes.py")


def launch(home, name, *more):
    """Start two processes on the CPU; ``accelerate launch`` would ask for MPI there, torch's own launcher does not."""
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
         "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", str(SCRIPT), str(home), name, *more],
        env=dict(os.environ) | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["ear", "normalised"])
def test_two_processes_take_the_steps_of_one(tmp_path, name):
    done = launch(tmp_path / "two", name)
    assert done.returncode == 0, done.stderr[-30000:]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert found["processes"] == 2
    tiny_folder(tmp_path / "one" / "task")
    tiny_maker(tmp_path / "one" / "task")
    alone = tiny(tmp_path / "one", name).history
    assert len(found["history"]) == len(alone) == 10
    for row, other in zip(alone, found["history"], strict=True):
        assert other["lr"] == row["lr"]
        if name == "normalised":  # each process measures its own part, so the weights are near those of one, not equal
            assert other["loss"] == pytest.approx(row["loss"], rel=0.01)
        else:
            assert other["terms"] == pytest.approx(row["terms"], abs=1e-5)
            assert other["loss"] == pytest.approx(row["loss"], abs=1e-5)
            assert other["grad_norm"] == pytest.approx(row["grad_norm"], rel=1e-3)


def test_two_processes_resume_and_refuse_as_one_does(tmp_path):
    whole = launch(tmp_path, "ear")
    assert whole.returncode == 0, whole.stderr[-30000:]
    again = launch(tmp_path, "ear")
    assert again.returncode != 0 and "already holds a run" in again.stderr
    newest = max((tmp_path / "run").glob("step-*"))
    shutil.rmtree(newest)
    resumed = launch(tmp_path, "ear", "resume")
    assert resumed.returncode == 0, resumed.stderr[-30000:]
    first, second = (
        json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{"))) for done in (whole, resumed)
    )
    assert first["history"] == second["history"]


@pytest.mark.parametrize(("rows", "count"), [(10, 2), (8, 3), (1, 2)])
def test_the_parts_of_all_processes_are_the_batch(rows, count):
    ids = torch.arange(2 * rows * 4).reshape(2 * rows, 4)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(rows)}
    parts = [process_part(batch, 2, index, count) for index in range(count)]
    assert sum(share for _, share in parts) == pytest.approx(1)
    kept = [part for part, share in parts if share]
    assert sorted(label for part in kept for label in part["labels"].tolist()) == list(range(rows))
    for part, share in parts:
        original, virtual = part["input_ids"].chunk(2)
        assert torch.equal(original, ids[part["labels"]]) and torch.equal(virtual, ids[part["labels"] + rows])
        assert share == (len(part["labels"]) / rows if share else 0)
