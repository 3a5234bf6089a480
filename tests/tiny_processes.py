"""A tiny run for ``accelerate launch``: masked forms, no dropout, every loss written by the first process."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import torch
from tiny_run import tiny_encoder, tiny_folder, tiny_maker

from xlt_tutorial.objectives import EAR, NormalisedEAR
from xlt_tutorial.tasks import load_task
from xlt_tutorial.training import Recipe, Run, train


def tiny(home: Path, name: str, out: Path | None = None, resume: bool = False) -> Run:
    """Train on 48 rows in batches of 10, so that the last one, of 8, is another size."""
    kind = {"ear": EAR, "normalised": NormalisedEAR}[name]
    objective = kind(layer=1, push="hinge", pull="masked")
    recipe = Recipe(epochs=2, batch_size=10, dropout=0.0, share_every=2, learning_rate=1e-3, max_tokens=60)
    task, maker = load_task(home / "task"), tiny_maker(home / "task")
    return train(task, tiny_encoder(dropout=0.0), objective, maker, recipe, out=out, resume=resume, progress=False)


if __name__ == "__main__":
    from accelerate import Accelerator

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    process = Accelerator()
    place, objective_name = Path(sys.argv[1]), sys.argv[2]
    if process.is_main_process:
        tiny_folder(place / "task")
        tiny_maker(place / "task")
    process.wait_for_everyone()
    run = tiny(place, objective_name, place / "run", resume=len(sys.argv) > 3)
    if process.is_main_process:
        print(json.dumps({"processes": process.num_processes, "history": run.history}))
