"""The main job, whole: compute-matched vanilla and EAR trained on English, tested zero-shot, aligned, and shown."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xlt_tutorial.doctor import machine, peak_memory_mb, versions

if TYPE_CHECKING:
    import pandas as pd

    from xlt_tutorial.tasks import ParallelTask
    from xlt_tutorial.training import Recipe

    Maps = dict[str, dict[int, pd.DataFrame]]

WIDTH = 32  # tokens; what the demo cuts to, and what EAR's batches are padded to
MAP_LAYERS = (0, 3, 6, 9, 12)
ONE_SEED = "One seed: a difference of this kind may change in size, or in sign, with another."


def run_demo(
    out: str | Path = "runs/demo",
    seed: int = 0,
    progress: bool = True,
    task: ParallelTask | None = None,
    recipe: Recipe | None = None,
    layers: Sequence[int] | None = None,
    concepts: int = 60,
) -> dict[str, Any]:
    """Train both methods, measure, and write ``results.json`` and ``report.html`` into ``out``.

    Both see the same rows in the same order, take as many steps, and run two forwards a step. Nothing of a target
    language chooses anything: the last step is taken, and the swap's candidates come from English text and the encoder.

    Args:
        out: Folder of the results; an earlier demo in it is overwritten.
        seed: Seed of both runs, of the concepts on the map and of its projection.
        progress: Say on the terminal what is going on.
        task: The task "emoji" when ``None``; a smaller one makes a smaller demo.
        recipe: ``Recipe(max_length=WIDTH)`` when ``None``; EAR is padded to its ``max_length``.
        layers: Those to measure and to put on the map; all, and ``MAP_LAYERS``, when ``None``.
        concepts: How many test concepts the map shows.

    Returns:
        What ``results.json`` holds.
    """
    from xlt_tutorial.encoders import load_encoder
    from xlt_tutorial.objectives import EAR, Vanilla
    from xlt_tutorial.perturb import NeighbourSwap, swap_report
    from xlt_tutorial.report import write_report
    from xlt_tutorial.tasks import load_task
    from xlt_tutorial.training import Recipe, encode_rows, train

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").unlink(missing_ok=True)  # it would not be that of the results beside it
    recipe = recipe or Recipe(max_length=WIDTH)
    results: dict[str, Any] = {"finished": False, "seed": seed, "versions": versions(), "platform": machine()}
    results |= {"seconds": {}, "peak_memory_mb": 0.0, "settings": {}}

    @contextmanager
    def stage(name: str, says: str) -> Iterator[None]:
        if progress:
            print(f"{says} ...", flush=True)
        start = time.perf_counter()
        yield
        gc.collect()
        results["seconds"][name] = round(time.perf_counter() - start, 2)
        results["peak_memory_mb"] = round(peak_memory_mb(), 1)
        write_json(folder / "results.json", results)

    with stage("load", "Loading task and encoder, finding the neighbours to swap for"):
        task = task or load_task("emoji")
        full = load_encoder()
        english = [text for split in ("train", "dev") for text in task.texts(split, task.source)]
        swap = NeighbourSwap.fit(full, english)
        del full
        encoder = load_encoder(trim_to=task, keep=swap.pieces)
        split = task.evaluation_split
        rows = np.sort(np.random.default_rng(seed).permutation(len(task[split][task.source]))[:concepts])
        results["encoder"] = {"name": encoder.name, "source": encoder.source, "fingerprint": encoder.fingerprint}
        results["languages"] = list(task.languages)
    clouds: dict[str, dict[str, np.ndarray]] = {}
    shown = list(layers or MAP_LAYERS)
    with stage("before", "Measuring the alignment before training"):
        alignment, clouds["before"] = _measure(encoder, task, rows, layers, shown)
        results["before"] = {"alignment": alignment}

    objectives = {"vanilla": Vanilla(passes=2), "ear": EAR.published(width=recipe.max_length)}
    for method, objective in objectives.items():
        with stage(f"{method}_train", f"Training {method} on {task.source} alone"):
            run = train(task, encoder, objective, swap, recipe, seed, progress=progress)
        with stage(f"{method}_test", f"Testing {method} in {len(task.languages)} languages"):
            results["settings"][method] = run.settings
            results[method] = _scored(run, encoder, task) | {"history": run.history}
        with stage(f"{method}_after", f"Measuring the alignment after {method}"):
            results[method]["alignment"], clouds["after"] = _measure(run.encoder, task, rows, layers, shown)
        del run
    read = encode_rows(encoder.tokenizer, task["train"][task.source], task.text_columns, recipe.max_length)
    results["ear"]["swap_report"] = swap_report(swap, read, encoder.tokenizer, seed)
    results["gain"] = results["ear"]["target_mean"] - results["vanilla"]["target_mean"]
    results["gain_note"] = ONE_SEED
    del encoder
    with stage("map", "Drawing the map"):
        maps = _maps(clouds, task, rows, shown)
    with stage("report", "Writing the report"):
        write_report(results, maps, folder / "report.html")
    results["finished"] = True
    write_json(folder / "results.json", results)
    return results


def demo_text(results: Mapping[str, Any], folder: str | Path) -> str:
    """Return what the terminal shows at the end: the table, the gain, the cost, and where the report is."""
    minutes = sum(results["seconds"].values()) / 60
    return "\n".join(
        [
            scores_text({method: results[method] for method in ("vanilla", "ear")}),
            f"\nGain of EAR in the target mean: {100 * results['gain']:+.1f} points. {results['gain_note']}",
            f"{minutes:.1f} minutes, at most {results['peak_memory_mb'] / 1024:.2f} GB of memory.",
            f"Results: {Path(folder) / 'results.json'}\nReport:  {Path(folder) / 'report.html'}",
        ]
    )


def scores_text(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of methods by language, in per cent; the scores are those of ``Scores.as_dict``."""
    from xlt_tutorial.figures import language_name

    first = next(iter(scores.values()))
    source, *targets = first["accuracy"]
    rows = [(f"{language_name(source)} (source)", [s["accuracy"][source] for s in scores.values()])]
    rows += [(language_name(t), [s["accuracy"][t] for s in scores.values()]) for t in targets]
    rows.append((f"mean of {len(targets)} targets", [s["target_mean"] for s in scores.values()]))
    rows.append(("gap (source - mean)", [s["mean_gap"] for s in scores.values()]))
    width = max(len(name) for name, _ in rows)
    heads = [*scores, "difference"][: len(scores) + (len(scores) == 2)]
    lines = [f"{'accuracy, %':<{width}}" + "".join(f"{head:>12}" for head in heads)]
    for name, values in rows:
        shown = "".join(f"{100 * value:>12.1f}" for value in values)
        shown += f"{100 * (values[1] - values[0]):>+12.1f}" if len(values) == 2 else ""
        lines.append(f"{name:<{width}}{shown}")
    return "\n".join(lines)


def write_json(path: Path, content: Any) -> None:
    """Write a file that is always whole: aside first, then put in place."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    os.replace(part, path)


def _scored(run: Any, encoder: Any, task: ParallelTask) -> dict[str, Any]:
    from xlt_tutorial.evaluation import evaluate

    scores = evaluate(run.model, encoder.tokenizer, task).as_dict()
    steps = {"steps": len(run.history), "forwards_per_step": 2, "selected": run.selected}
    return scores | {"gradient_shares": run.shares(), "train_seconds": round(run.seconds, 2)} | steps


def _measure(
    encoder: Any, task: ParallelTask, rows: np.ndarray, layers: Sequence[int] | None, shown: list[int]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Return the alignment of each layer, and the vectors of the concepts and layers that the map shows."""
    from xlt_tutorial.alignment import align, sentence_vectors

    split = task.evaluation_split
    vectors = sentence_vectors(encoder.model, encoder.tokenizer, task, split, layers=layers)
    labels = list(task[split][task.source]["label"])
    alignment = align(vectors, labels, task.source, layers=layers)
    places = [[row["layer"] for row in alignment].index(layer) for layer in shown]
    return alignment, {language: v[places][:, rows] for language, v in vectors.items()}


def _maps(clouds: dict[str, dict[str, np.ndarray]], task: ParallelTask, rows: np.ndarray, drawn: list[int]) -> Maps:
    """Return the points of the map, state -> layer -> table; both states of a layer are projected into one frame."""
    from xlt_tutorial.projection import map_points, project_aligned

    maps: Maps = {"before": {}, "after": {}}
    for number, layer in enumerate(drawn):
        before, after = ({language: v[number] for language, v in cloud.items()} for cloud in clouds.values())
        for state, xy in zip(maps, project_aligned(before, after), strict=True):
            maps[state][layer] = map_points(xy, task, task.evaluation_split, rows=rows.tolist())
    return maps
