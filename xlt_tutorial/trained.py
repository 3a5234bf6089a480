"""Training runs that are kept: what one notebook has trained, the next one reads."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlt_tutorial.caching import content_hash, keep, kept, model_hash
from xlt_tutorial.encoders import Classifier, Encoder
from xlt_tutorial.system import versions
from xlt_tutorial.training import Recipe, Run, run_settings, train

if TYPE_CHECKING:
    from xlt_tutorial.batching import Maker
    from xlt_tutorial.objectives import Objective
    from xlt_tutorial.tasks import ParallelTask

FIELDS = ("history", "settings", "selected", "oracle", "seconds", "epochs")


def trained(
    task: ParallelTask,
    encoder: Encoder,
    objective: Objective,
    maker: Maker | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    oracle: bool = False,
    progress: bool = True,
) -> Run:
    """Return the run of ``training.train`` with these arguments, from the cache where it was trained before.

    The key is everything that decides the run: the task's and the weights' fingerprints, every setting and the versions
    of the packages. A run with its oracle also serves where none was asked for. A run takes about 110 MB with the
    trimmed ``e5-small``; those that were not used for longest go first.

    Args:
        task: As of ``train``, like all that follow. Checkpoints are not written: for a run that can be resumed, call
            ``train`` with a folder.

    Returns:
        The run; ``seconds`` are those of the training itself, scoring for the oracle included.

    Raises:
        XltError: As ``train`` does.
    """
    recipe = recipe or Recipe()
    settings = run_settings(task, encoder, objective, maker, recipe, seed)
    parts = [json.dumps(settings, sort_keys=True), model_hash(encoder.model), sorted(versions().items())]
    plain, traced = (content_hash([*parts, asked]) for asked in (False, True))
    if entry := kept("runs", traced) or (None if oracle else kept("runs", plain)):
        return _read(entry, task, encoder, recipe)
    run = train(task, encoder, objective, maker, recipe, seed, oracle=oracle, progress=progress)
    if run.main:
        keep("runs", traced if oracle else plain, lambda folder: _write(folder, run))
    return run


def _write(folder: Path, run: Run) -> None:
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in run.model.state_dict().items()}, folder / "model.safetensors")
    content = {name: getattr(run, name) for name in FIELDS}
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")


def _read(folder: Path, task: ParallelTask, encoder: Encoder, recipe: Recipe) -> Run:
    from safetensors.torch import load_file

    content: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    model = Classifier(copy.deepcopy(encoder.model), len(task.labels), recipe.dropout).eval()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    after = Encoder(model.encoder, encoder.tokenizer, encoder.name, encoder.source, encoder.fingerprint)  # type: ignore[arg-type]
    return Run(model, after, **content)
