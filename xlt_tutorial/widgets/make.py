"""Computes the stored maps: trains the stages, encodes the test concepts, measures and projects every layer.

``make_maps`` can be stopped at any moment: what is finished stays in its folder of work and is not computed again.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xlt_tutorial.caching import content_hash
from xlt_tutorial.errors import XltError
from xlt_tutorial.files import is_whole, read_json, sweep, whole_folder, write_json
from xlt_tutorial.projection import METHODS, NEIGHBOURS, project_stages
from xlt_tutorial.widgets.points import neighbours_kept, point_gaps, translation_ranks
from xlt_tutorial.widgets.romanised import romanised
from xlt_tutorial.widgets.stored import GAP_STEPS, Maps, quantised, read_maps, write_maps

if TYPE_CHECKING:
    from xlt_tutorial.batching import Maker
    from xlt_tutorial.encoders import Encoder
    from xlt_tutorial.objectives import Objective
    from xlt_tutorial.tasks import ParallelTask
    from xlt_tutorial.training import Recipe

PAD_TO = 16  # of the published pull on "emoji": the longest English name has 11 tokens
LONGEST = 300  # characters of a text: an array of texts takes for each the room of its longest
AGAIN_NEIGHBOURS = 50  # of the last layer's second layout; in the range of 2 to 100 that umap's documentation names
TITLES = {"encoder": "The encoder as it is", "vanilla": "After vanilla training", "ear": "After EAR"}
SHORT = {"encoder": "as it is", "vanilla": "vanilla", "ear": "EAR"}


def make_maps(
    out: str | Path,
    task: str = "emoji",
    encoder: str = "e5-small",
    method: str = "ear",
    seed: int = 0,
    concepts: int = 250,
    recipe: Recipe | None = None,
    projections: Sequence[str] = METHODS,
    work: str | Path = "runs/maps",
    facts: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Maps:
    """Train what is not trained yet, measure, project, and write ``maps.npz`` and ``maps.json``.

    The stages are the encoder as it is, after vanilla training with two passes, and after ``method``; both trainings
    see the source language alone, the same rows in the same order, and take the last step.

    Args:
        out: Folder of the two files.
        task: A name or folder that ``load_task`` takes.
        encoder: A name or folder that ``load_encoder`` takes.
        method: The last stage, any but ``vanilla`` that ``make_objective`` takes.
        seed: Of trainings, sample and UMAP.
        concepts: How many test concepts the maps show; a seeded sample, the same in all languages. The measures are
            over all of them.
        recipe: Of both trainings; the lab's when ``None``.
        projections: Of ``umap`` and ``pca``.
        work: Folder of what is finished: about 200 MB, and the trained models.
        facts: What else to record of each stage, such as versions and platform.
        progress: Say what goes on.

    Returns:
        The maps, read back from ``out``.
    """
    from xlt_tutorial.training import Recipe

    recipe = recipe or Recipe(share_every=0)
    names = ("encoder", "vanilla", method)
    if len(set(names)) < 3:
        raise XltError(f'"{method}" is a stage already: give another method, such as "ear".')
    setting = {"task": str(task), "encoder": str(encoder), "method": method, "recipe": asdict(recipe), "seed": seed}
    key = content_hash([json.dumps(setting, sort_keys=True), concepts, list(projections)])
    job = _Job(Path(work) / key[:12], seed, concepts, tuple(projections), dict(facts or {}), progress)
    job.folder.mkdir(parents=True, exist_ok=True)
    sweep(job.folder)

    open_stages = [name for name in names if not is_whole(job.folder / f"stage-{name}")]
    if open_stages:
        ready = _prepared(str(task), str(encoder), method)
        for name in open_stages:
            _stage(job, ready, name, recipe)
            gc.collect()
        del ready
    layers = read_json(job.folder / "stage-encoder" / "facts.json")["layers"]
    for layer in range(layers):
        if not is_whole(job.folder / f"layer-{layer}"):
            _layer(job, names, layer, last=layer == layers - 1)
    write_maps(_assembled(job, names, setting), out)
    return read_maps(out)


@dataclass(frozen=True)
class _Prepared:
    """Data, encoder, what makes the virtual stream, and the objective of each stage that is trained."""

    task: ParallelTask
    encoder: Encoder
    maker: Maker
    objectives: Mapping[str, Objective]


def _prepared(name: str, encoder_name: str, method: str) -> _Prepared:
    from xlt_tutorial.encoders import load_encoder
    from xlt_tutorial.objectives import make_objective
    from xlt_tutorial.perturb import NeighbourSwap
    from xlt_tutorial.tasks import load_task

    task = load_task(name)
    splits = [split for split in ("train", "dev") if task.source in task.splits.get(split, {})]
    english = [text for split in splits for text in task.texts(split, task.source)]
    swap = NeighbourSwap.fit(load_encoder(encoder_name), english)
    encoder = load_encoder(encoder_name, trim_to=task, keep=swap.pieces)
    last = make_objective(method)
    if getattr(last, "pull", None) == "published" and name == "emoji":
        last = make_objective(method, pad_to=PAD_TO)
    return _Prepared(task, encoder, swap, {"vanilla": make_objective("vanilla"), method: last})


@dataclass(frozen=True)
class _Job:
    """Where the work is kept, and what is the same in every step of it."""

    folder: Path
    seed: int
    concepts: int
    projections: tuple[str, ...]
    facts: Mapping[str, Any]
    progress: bool

    def say(self, text: str) -> None:
        if self.progress:
            print(text, flush=True)


def _stage(job: _Job, ready: _Prepared, name: str, recipe: Recipe) -> None:
    """Train a stage, encode and measure all test concepts, and keep the vectors of the sample."""
    from xlt_tutorial.alignment import align, sentence_vectors
    from xlt_tutorial.evaluation import evaluate
    from xlt_tutorial.training import train

    task, encoder = ready.task, ready.encoder
    facts: dict[str, Any] = {"seconds": {}, **job.facts}
    facts |= {"fingerprint": task.fingerprint, "encoder_source": encoder.source}
    if objective := ready.objectives.get(name):
        job.say(f"Training {name} on {task.source} alone ...")
        folder = job.folder / f"run-{name}"
        resume = any(folder.glob("*"))
        run = train(
            task, encoder, objective, ready.maker, recipe, job.seed, out=folder, resume=resume, progress=job.progress
        )  # fmt: skip
        facts["seconds"]["train"] = round(run.seconds, 1)
        scores = evaluate(run.model, encoder.tokenizer, task, progress=job.progress)
        facts |= {"accuracy": scores.accuracy, "target_mean": scores.target_mean, "settings": run.settings}
        encoder = run.encoder
    split, start = task.evaluation_split, time.perf_counter()
    job.say(f"Measuring {name} ...")
    vectors = sentence_vectors(encoder.model, encoder.tokenizer, task, split, progress=job.progress)
    items = task[split][task.source]
    drawn = np.sort(np.random.default_rng(job.seed).permutation(len(items))[: job.concepts])
    facts["measures"] = _rounded(align(vectors, list(items["label"]), task.source))
    facts["seconds"]["measure"] = round(time.perf_counter() - start, 1)
    names = list(vectors)
    layers = len(vectors[task.source])
    clouds = [{code: vectors[code][layer] for code in names} for layer in range(layers)]
    numbers = [(point_gaps(cloud, task.source), translation_ranks(cloud, task.source)) for cloud in clouds]
    facts |= {"languages": names, "layers": layers, "test_concepts": len(items), "drawn": drawn.tolist()}
    with whole_folder(job.folder / f"stage-{name}") as target:
        np.save(target / "vectors.npy", np.stack([vectors[code][:, drawn] for code in names], axis=1))
        np.save(target / "gap.npy", np.stack([gaps[:, drawn] for gaps, _ in numbers]))
        np.save(target / "rank.npy", np.stack([ranks[:, drawn] for _, ranks in numbers]))
        if name == "encoder":
            write_json(target / "texts.json", _texts(task, split, drawn.tolist()))
        write_json(target / "facts.json", facts)


def _layer(job: _Job, names: Sequence[str], layer: int, last: bool) -> None:
    """Project one layer of all stages into one frame, by every projection."""
    facts = read_json(job.folder / "stage-encoder" / "facts.json")
    codes, start = facts["languages"], time.perf_counter()
    states = []
    for name in names:
        stored = np.load(job.folder / f"stage-{name}" / "vectors.npy", mmap_mode="r")[layer]
        states.append({code: np.array(stored[at]) for at, code in enumerate(codes)})
    found: dict[str, Any] = {}
    for projection in job.projections:
        job.say(f"Layer {layer}: {projection} ...")
        planes = project_stages(states, projection, job.seed)
        spaces = [np.concatenate(list(state.values())) for state in states]
        pairs = list(zip(spaces, planes, strict=True))
        found[projection] = {
            "xy": quantised(np.stack(planes)),
            "kept": [round(neighbours_kept(space, plane), 4) for space, plane in pairs],
        }
    with whole_folder(job.folder / f"layer-{layer}") as target:
        np.save(target / "xy.npy", np.stack([found[projection]["xy"] for projection in job.projections]))
        if last:
            others = ({"seed": job.seed + 1}, {"seed": job.seed, "neighbours": AGAIN_NEIGHBOURS})
            again = [project_stages(states, job.projections[0], **other)[-1] for other in others]
            np.save(target / "again.npy", np.stack([quantised(plane) for plane in again]))
        kept = {projection: found[projection]["kept"] for projection in job.projections}
        write_json(target / "facts.json", {"kept": kept, "seconds": round(time.perf_counter() - start, 1)})


def _assembled(job: _Job, names: Sequence[str], setting: Mapping[str, Any]) -> Maps:
    stages = {name: read_json(job.folder / f"stage-{name}" / "facts.json") for name in names}
    first = stages["encoder"]
    layers, codes = range(first["layers"]), first["languages"]
    texts = read_json(job.folder / "stage-encoder" / "texts.json")
    shape = (len(names), len(codes), len(first["drawn"]), 2)
    projected = [read_json(job.folder / f"layer-{layer}" / "facts.json") for layer in layers]
    if any(facts["fingerprint"] != first["fingerprint"] for facts in stages.values()):
        raise XltError(f"The stages in {job.folder} were measured on different data: delete that folder and run again.")

    def arrays(kind: str) -> np.ndarray:
        return np.stack([np.load(job.folder / f"stage-{name}" / f"{kind}.npy") for name in names], axis=1)

    xy = np.stack([np.load(job.folder / f"layer-{layer}" / "xy.npy") for layer in layers], axis=1)
    titles = {name: TITLES.get(name, f"After {name}") for name in names}
    info = dict(setting) | {
        "task_fingerprint": first["fingerprint"],
        "encoder_source": first["encoder_source"],
        "languages": codes,
        "layers": list(layers),
        "projections": list(job.projections),
        "test_concepts": first["test_concepts"],
        "neighbours": NEIGHBOURS,
        "again": {"seed": job.seed + 1, "neighbours": AGAIN_NEIGHBOURS},
        "stages": {
            name: {"title": titles[name], "short": SHORT.get(name, name)}
            | {key: facts[key] for key in ("accuracy", "target_mean", "settings") if key in facts}
            for name, facts in stages.items()
        },
        "measures": {name: facts["measures"] for name, facts in stages.items()},
        "neighbours_kept": [[facts["kept"][projection] for facts in projected] for projection in job.projections],
        "seconds": {
            "train": {name: facts["seconds"]["train"] for name, facts in stages.items() if "train" in facts["seconds"]},
            "measure": {name: facts["seconds"]["measure"] for name, facts in stages.items()},
            "project": [facts["seconds"] for facts in projected],
        },
        "umap-learn": metadata.version("umap-learn"),
        **job.facts,
    }
    return Maps(
        info,
        xy=xy.reshape(len(job.projections), len(layers), *shape),
        again=np.load(job.folder / f"layer-{layers[-1]}" / "again.npy").reshape(-1, *shape[1:]),
        gap=np.clip(np.round(arrays("gap") * GAP_STEPS), 0, 255).astype(np.uint8),
        rank=arrays("rank").astype(np.uint16),
        texts=np.array([texts["texts"][code] for code in codes]),
        romanised=np.array([romanised(texts["texts"][code], code) for code in codes]),
        **{name: np.array(texts[name]) for name in ("emoji", "ids", "labels")},
    )


# --- texts ------------------------------------------------------------------------------------------------------------


def _texts(task: ParallelTask, split: str, rows: Sequence[int]) -> dict[str, Any]:
    data = {code: task[split][code].select(rows) for code in task[split]}
    texts = {
        code: [
            " / ".join(parts)[:LONGEST] for parts in zip(*(table[column] for column in task.text_columns), strict=True)
        ]
        for code, table in data.items()
    }
    first = data[task.source]
    faces = list(first["emoji"]) if "emoji" in first.column_names else [""] * len(rows)
    labels = [task.labels[label] for label in first["label"]]
    rest = {"emoji": faces, "ids": list(map(str, first["id"])), "labels": labels}
    return {"texts": texts} | {name: [cell[:LONGEST] for cell in cells] for name, cells in rest.items()}


def _rounded(value: Any) -> Any:
    """Return nested plain values with floats of five places."""
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return round(float(value), 5) if isinstance(value, float | np.floating) else value
