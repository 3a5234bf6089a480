"""The main job, whole: compute-matched vanilla and EAR trained on English, tested zero-shot, aligned, and shown."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xlt_tutorial.files import write_json
from xlt_tutorial.system import machine, peak_memory_mb, release_memory, versions

if TYPE_CHECKING:
    import pandas as pd

    from xlt_tutorial.encoders import Encoder
    from xlt_tutorial.tasks import ParallelTask
    from xlt_tutorial.training import Recipe

    Maps = dict[str, dict[int, pd.DataFrame]]

WIDTH = 16  # tokens: longest sequence in training, and the width of EAR's batches; the longest English name has 11
SHARE_EVERY = 20  # steps; each measurement costs four more backwards
MAP_LAYERS = (0, 3, 6, 9, 12)
ONE_SEED = "This is one seed: another may change the size of the difference, or its sign."


def run_demo(
    out: str | Path = "runs/demo",
    seed: int = 0,
    progress: bool = True,
    task: ParallelTask | None = None,
    recipe: Recipe | None = None,
    layers: Sequence[int] | None = None,
    concepts: int = 60,
) -> dict[str, Any]:
    """Train both methods, measure, and write ``results.json`` and ``report.html``.

    Both see the same rows in the same order, take as many steps, and pass two streams through each. Nothing of a target
    language chooses anything: the last step is taken, and the swap's candidates come from English and the encoder.

    Args:
        out: Folder of the results; those of an earlier demo are overwritten.
        seed: Of both runs, and of the draw of concepts for the map.
        progress: Say on the terminal what goes on.
        task: The task "emoji" when ``None``; a smaller one makes a smaller demo.
        recipe: That of the lab, cut to ``WIDTH``, when ``None``. EAR is padded to its ``max_length``.
        layers: Layers to measure and to map; all, and ``MAP_LAYERS``, when ``None``.
        concepts: Test concepts on the map.

    Returns:
        What ``results.json`` holds.
    """
    from xlt_tutorial.batching import encode_rows
    from xlt_tutorial.encoders import load_encoder
    from xlt_tutorial.evaluation import evaluate
    from xlt_tutorial.objectives import EAR, Vanilla
    from xlt_tutorial.perturb import NeighbourSwap, swap_report
    from xlt_tutorial.report import write_report
    from xlt_tutorial.tasks import load_task
    from xlt_tutorial.training import Recipe, train

    folder, recipe = Path(out), recipe or Recipe(max_length=WIDTH, share_every=SHARE_EVERY)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").unlink(missing_ok=True)  # it would not be that of the results beside it
    results: dict[str, Any] = {"finished": False, "seed": seed, "versions": versions(), "platform": machine()}
    results |= {"seconds": {}, "peak_memory_mb": 0.0, "settings": {}}

    @contextmanager
    def stage(name: str, doing: str) -> Iterator[None]:
        print(f"{doing} ...", flush=True) if progress else None
        start = time.perf_counter()
        yield
        release_memory()
        results["seconds"][name] = round(time.perf_counter() - start, 2)
        results["peak_memory_mb"] = round(peak_memory_mb(), 1)
        write_json(folder / "results.json", results)

    with stage("load", "Loading task and encoder, finding what to swap for what"):
        task = task or load_task("emoji")
        swap = NeighbourSwap.fit(load_encoder(), [*task.texts("train", task.source), *task.texts("dev", task.source)])
        release_memory()  # the untrimmed encoder
        encoder = load_encoder(trim_to=task, keep=swap.pieces)
        results["languages"] = list(task.languages)
        test = task[task.evaluation_split][task.source]
        drawn = np.sort(np.random.default_rng(seed).permutation(len(test))[:concepts]).tolist()
    clouds: dict[str, Any] = {}

    def measured(encoder: Encoder, state: str) -> list[dict[str, Any]]:
        """Return the alignment of each layer; of the map's layers and concepts, keep the vectors."""
        from xlt_tutorial.alignment import align, sentence_vectors

        vectors = sentence_vectors(
            encoder.model, encoder.tokenizer, task, task.evaluation_split, layers=layers, progress=progress
        )
        alignment = align(vectors, list(test["label"]), task.source, layers=layers)
        places = {row["layer"]: place for place, row in enumerate(alignment)}
        shown = {layer: places[layer] for layer in layers or MAP_LAYERS}
        clouds[state] = {layer: {t: v[at][drawn] for t, v in vectors.items()} for layer, at in shown.items()}
        return alignment

    with stage("before_alignment", "Measuring the alignment before training"):
        results["before"] = {"alignment": measured(encoder, "before")}
    # EAR first: it needs the most memory, and each stage leaves a little behind.
    for method, objective in {"ear": EAR.published(width=recipe.max_length), "vanilla": Vanilla(passes=2)}.items():
        with stage(f"{method}_train", f"Training {method} on {task.source} alone"):
            run = train(task, encoder, objective, swap, recipe, seed, progress=progress)
        with stage(f"{method}_test", f"Testing {method} in {len(task.languages)} languages"):
            results["settings"][method] = run.settings
            scores = evaluate(run.model, encoder.tokenizer, task, progress=progress)
            results[method] = scores.as_dict() | {"selected": run.selected}
            results[method] |= {"steps": len(run.history), "streams_per_step": objective.streams}
            results[method] |= {"gradient_shares": run.shares(), "history": run.history}
        with stage(f"{method}_alignment", f"Measuring the alignment after {method}"):
            results[method]["alignment"] = measured(run.encoder, method)
        del run
    with stage("map", "Drawing the map"):
        rows = encode_rows(encoder.tokenizer, task["train"][task.source], task.text_columns, recipe.max_length)
        results["ear"]["swap_report"] = swap_report(swap, rows, encoder.tokenizer, seed)
        results["gain"] = results["ear"]["target_mean"] - results["vanilla"]["target_mean"]
        results["gain_note"] = ONE_SEED
        del encoder
        maps = _maps(clouds, task, drawn)
    with stage("report", "Writing the report"):
        write_report(results, maps, folder / "report.html")
    write_json(folder / "results.json", results | {"finished": True})
    return results | {"finished": True}


def demo_text(results: Mapping[str, Any], folder: str | Path) -> str:
    """Return what the terminal shows at the end."""
    minutes, memory = sum(results["seconds"].values()) / 60, results["peak_memory_mb"] / 1024
    return (
        f"{scores_text({method: results[method] for method in ('vanilla', 'ear')})}\n\n"
        f"Gain of EAR in the target mean: {100 * results['gain']:+.1f} points. {results['gain_note']}\n"
        f"{minutes:.1f} minutes, at most {memory:.2f} GB of memory.\nReport: {Path(folder) / 'report.html'}"
    )


def scores_text(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of accuracies in per cent by language; for each method, ``Scores.as_dict`` of the same task."""
    from xlt_tutorial.figures import language_name

    table = list(scores.values())
    source, *targets = table[0]["accuracy"]
    rows = {language_name(t): [s["accuracy"][t] for s in table] for t in (source, *targets)}
    rows |= {f"mean of {len(targets)} targets": [s["target_mean"] for s in table]}
    rows |= {f"gap ({source} - mean)": [s["mean_gap"] for s in table]}
    lines = [f"{'accuracy, %':<20}" + "".join(f"{name:>16}" for name in [*scores, "difference"][: 2 * len(scores) - 1])]
    for name, values in rows.items():
        difference = f"{100 * (values[1] - values[0]):+16.1f}" if len(values) == 2 else ""
        lines.append(f"{name:<20}" + "".join(f"{100 * value:16.1f}" for value in values) + difference)
    return "\n".join(lines)


def _maps(clouds: Mapping[str, Any], task: ParallelTask, drawn: list[int]) -> Maps:
    """Return state -> layer -> points; both states of a layer are projected into one frame."""
    from xlt_tutorial.projection import map_points, project_aligned

    maps: Maps = {"before": {}, "after": {}}
    for layer, before in clouds["before"].items():
        for state, xy in zip(maps, project_aligned(before, clouds["ear"][layer]), strict=True):
            maps[state][layer] = map_points(xy, task, task.evaluation_split, rows=drawn)
    return maps
