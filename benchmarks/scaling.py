"""How the cost grows: of a training step with length, batch and tapped layers; of the alignment kit with its points."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertModel

from benchmarks import measure, tables
from xlt_tutorial.alignment import Clouds, gap_ratio, knn_mixing, language_probe, retrieval, silhouettes
from xlt_tutorial.batching import Batch
from xlt_tutorial.encoders import Classifier
from xlt_tutorial.objectives import EAR, Objective, Vanilla
from xlt_tutorial.statistics import markdown_table
from xlt_tutorial.taps import taps

FULL: dict[str, Any] = {
    "encoder": {
        "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 1536,
        "vocab_size": 16000, "max_position_embeddings": 512,
    },
    "layer": 5,  # of the pull
    "labels": 8,
    "batch": 8,  # original sentences
    "lengths": [16, 32, 64, 128, 256, 512],
    "batches": [4, 8, 16, 32, 64],
    "length_of_batches": 32,
    "tapped": [0, 1, 2, 4, 8, 12],
    "length_of_taps": 128,
    "rounds": 5,
    "grids": [[10, 250], [10, 1000], [50, 1000], [100, 1000], [200, 1000]],  # languages, sentences in each
    "width": 384,
    "sample": 200,  # sentences that the probe sees
    "budget": 400.0,  # seconds that one call of a measure may be expected to take
    "once": 20.0,  # a call that takes longer than this is not repeated
}  # fmt: skip
SMALL = FULL | {
    "encoder": FULL["encoder"]
    | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99},
    "layer": 1,
    "batch": 2,
    "lengths": [8, 16],
    "batches": [1, 2],
    "length_of_batches": 8,
    "tapped": [0, 2],
    "length_of_taps": 16,
    "rounds": 1,
    "grids": [[3, 20], [4, 20]],
    "width": 16,
    "once": 0.0,
}
TINY_MB = 2.0  # a peak below this is too near the reading's own noise to fit anything to


def run(small: bool = False) -> dict[str, Any]:
    """Measure everything; ``small`` takes a few seconds and says nothing about speed."""
    settings = SMALL if small else FULL
    kit = alignment_kit(settings)
    return {"settings": settings} | training_steps(settings) | {"alignment": kit, "exponents": exponents(kit)}


# --- training steps ------------------------------------------------------------------------------------------------


def training_steps(settings: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Measure forward and backward of both methods, and of a forward with some layers tapped."""
    torch.manual_seed(0)
    encoder = BertModel(BertConfig(**settings["encoder"]), add_pooling_layer=False)
    model = Classifier(encoder, settings["labels"]).train()
    vanilla, ear = Vanilla(passes=2), EAR(layer=settings["layer"])

    def both(length: int, batch: int) -> dict[str, Any]:
        data = stacked(settings, length, batch)
        steps = {"vanilla": partial(step, model, vanilla, data), "ear": partial(step, model, ear, data)}
        return {"length": length, "batch": batch} | measure.medians(steps, settings["rounds"])

    data = stacked(settings, settings["length_of_taps"], settings["batch"])
    tapped = {str(number): partial(tapped_step, model, vanilla, data, number) for number in settings["tapped"]}
    found = measure.medians(tapped, settings["rounds"])
    return {
        "lengths": [both(length, settings["batch"]) for length in settings["lengths"]],
        "batches": [both(settings["length_of_batches"], batch) for batch in settings["batches"]],
        "taps": [{"tapped": number} | found[str(number)] for number in settings["tapped"]],
    }


def stacked(settings: Mapping[str, Any], length: int, batch: int) -> Batch:
    """Return random originals and copies without padding, as ``batching`` stacks them."""
    ids = torch.randint(5, settings["encoder"]["vocab_size"], (2 * batch, length))
    labels = torch.randint(settings["labels"], (batch,))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def step(model: Classifier, objective: Objective, batch: Batch) -> None:
    """Run one forward and one backward; the gradients are dropped, no weight changes."""
    objective.total(objective(model, batch)).backward()
    model.zero_grad(set_to_none=True)


def tapped_step(model: Classifier, objective: Objective, batch: Batch, number: int) -> None:
    """Run a step with the attention maps of the first ``number`` layers captured."""
    with taps(model.encoder, range(number)):
        step(model, objective, batch)


# --- the alignment kit ---------------------------------------------------------------------------------------------


def clouds(languages: int, sentences: int, width: int) -> dict[str, np.ndarray]:
    """Return vectors that are the sum of a concept's, a language's and noise, in float32."""
    rng = np.random.default_rng(0)
    concepts = rng.standard_normal((sentences, width), dtype=np.float32)
    names = [f"language {number}" for number in range(languages)]
    offsets = rng.standard_normal((languages, 1, width), dtype=np.float32)
    noise = (rng.standard_normal((sentences, width), dtype=np.float32) for _ in names)
    return {name: concepts + offset + part for name, offset, part in zip(names, offsets, noise, strict=True)}


def measures(vectors: Clouds, sample: int) -> dict[str, Callable[[], object]]:
    """Return each measure as a call without arguments; those of a pair run over all targets."""
    source, *targets = vectors.values()
    labels = [number % 10 for number in range(len(source))]
    return {
        "gap_ratio": lambda: [gap_ratio(source, target) for target in targets],
        "retrieval": lambda: [retrieval(source, target) for target in targets],
        "silhouettes": lambda: silhouettes(vectors, labels),
        "knn_mixing": lambda: knn_mixing(vectors),
        "language_probe": lambda: language_probe(vectors, sample=sample),
    }


def alignment_kit(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Measure each measure on each grid, but where the grid before lets expect more than ``budget`` seconds."""
    for call in measures(clouds(3, 20, settings["width"]), settings["sample"]).values():
        call()  # what is imported or set up at the first call is none of its cost
    rows: list[dict[str, Any]] = []
    last: dict[str, dict[str, Any]] = {}
    for languages, sentences in settings["grids"]:
        vectors = clouds(languages, sentences, settings["width"])
        points, input_mb = languages * sentences, sum(cloud.nbytes for cloud in vectors.values()) / 2**20
        for name, call in measures(vectors, settings["sample"]).items():
            row = {"measure": name, "languages": languages, "sentences": sentences, "points": points}
            row |= {"input_mb": input_mb}
            if reason := too_long(last.get(name), points, settings["budget"]):
                row |= {"skipped": reason}
            else:
                row |= repeated(call, settings["once"])
            last[name] = row
            rows.append(row)
    return rows


def too_long(before: Mapping[str, Any] | None, points: int, budget: float) -> str:
    """Return why a size is skipped, or nothing; time is taken to grow with the square of the points at worst."""
    if before is None:
        return ""
    if "skipped" in before:
        return "a smaller size was skipped"
    expected = before["seconds"] * (points / before["points"]) ** 2
    return f"up to {expected:.0f} s expected, over the limit of {budget:.0f} s" if expected > budget else ""


def repeated(call: Callable[[], object], once: float) -> dict[str, Any]:
    """Return the medians of three calls after a first one, or the first alone where it took over ``once`` seconds."""
    seconds, peak = measure.timed(call)
    if seconds > once:
        return {"seconds": seconds, "peak_mb": peak, "all": [round(seconds, 4)]}
    return measure.medians({"call": call}, rounds=3, warm_up=0)["call"]


def exponents(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return, for each measure, the power of the points that memory and time grew with between its last two sizes."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(row["measure"] for row in rows):
        done = [row for row in rows if row["measure"] == name and "skipped" not in row][-2:]
        if len(done) < 2:
            continue
        first, second = done
        grown = math.log(second["points"] / first["points"])
        kept = ["seconds"] + ["peak_mb"] * (min(first["peak_mb"], second["peak_mb"]) >= TINY_MB)
        found[name] = {"points": [first["points"], second["points"]]}
        found[name] |= {key: math.log(second[key] / first[key]) / grown for key in kept}
    return found


# --- the page ------------------------------------------------------------------------------------------------------


def table(results: Mapping[str, Any]) -> str:
    """Return the results as Markdown."""
    return "\n\n".join([*_steps_text(results), *_taps_text(results), *_kit_text(results)])


def _steps_text(results: Mapping[str, Any]) -> list[str]:
    settings = results["settings"]
    shape = settings["encoder"]
    text = [
        "### A step against length and batch",
        f"One forward and one backward, without the optimiser, of a random BERT with {shape['num_hidden_layers']} "
        f"layers of width {shape['hidden_size']} and {shape['vocab_size']:,} pieces. Vanilla is the compute-matched "
        "one: both methods pass two streams, so a batch of 8 is a forward of 16 rows. No row is padded. Medians of "
        f"{settings['rounds']} rounds in turns. Memory is the peak above what the process held before the step, "
        "gradients included.",
    ]
    for key, varied in (("lengths", "length"), ("batches", "batch")):
        rows = results[key]
        cells = [[str(row["length"]), str(row["batch"]), *_both(row)] for row in rows]
        head = ["length", "batch", "vanilla", "EAR", "EAR / vanilla", "vanilla, MB", "EAR, MB", "EAR / vanilla, MB"]
        text.append(markdown_table(head, cells))
        ratios = {row[varied]: row["ear"]["seconds"] / row["vanilla"]["seconds"] for row in rows}
        least, most = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
        before, after = rows[-2:]
        text.append(
            f"EAR takes {ratios[least]:.2f} times as long as vanilla at {varied} {least}, and {ratios[most]:.2f} times "
            f"at {varied} {most}; all others lie between. From {varied} {before[varied]} to {after[varied]}, EAR's "
            f"time grows {after['ear']['seconds'] / before['ear']['seconds']:.2f} times and its memory "
            f"{after['ear']['peak_mb'] / before['ear']['peak_mb']:.2f} times."
        )
    return text


def _both(row: Mapping[str, Any]) -> list[str]:
    vanilla, ear = row["vanilla"], row["ear"]
    times = [tables.seconds(method["seconds"]) for method in (vanilla, ear)]
    memory = [f"{method['peak_mb']:,.0f}" for method in (vanilla, ear)]
    ratios = [f"{ear[key] / vanilla[key]:.2f}" if vanilla[key] > 0 else "" for key in ("seconds", "peak_mb")]
    return [*times, ratios[0], *memory, ratios[1]]


def _taps_text(results: Mapping[str, Any]) -> list[str]:
    settings, rows = results["settings"], results["taps"]
    none, most = rows[0], rows[-1]
    cells = []
    for row in rows:
        ratio, above = row["seconds"] / none["seconds"], row["peak_mb"] - none["peak_mb"]
        numbers = [tables.seconds(row["seconds"]), f"{ratio:.2f}", tables.megabytes(row["peak_mb"]), f"{above:+.1f} MB"]
        cells.append([str(row["tapped"]), *numbers])
    layers = most["tapped"] - none["tapped"]
    return [
        "### A step against tapped layers",
        f"The vanilla step at length {settings['length_of_taps']} and batch {settings['batch']}, with the attention "
        "maps of some layers captured and none of them used. EAR taps one.",
        markdown_table(["tapped layers", "time", "times that of none", "memory", "against none"], cells),
        f"A tapped layer costs {100 * (most['seconds'] / none['seconds'] - 1) / layers:+.1f} % of the step's time and "
        f"{(most['peak_mb'] - none['peak_mb']) / layers:+.1f} MB, on the average of {layers}.",
    ]


def _kit_text(results: Mapping[str, Any]) -> list[str]:
    settings, rows, fits = results["settings"], results["alignment"], results["exponents"]
    names = list(dict.fromkeys(row["measure"] for row in rows))
    sizes: dict[tuple[int, int], dict[str, Any]] = {}
    for row in rows:
        sizes.setdefault((row["languages"], row["sentences"]), {})[row["measure"]] = row

    def cells(write: Callable[[Mapping[str, Any]], str]) -> list[list[str]]:
        out = []
        for (languages, sentences), held in sizes.items():
            facts = held[names[0]]
            values = ["skipped" if "skipped" in held[name] else write(held[name]) for name in names]
            out.append([f"{languages} x {sentences}", f"{facts['points']:,}", f"{facts['input_mb']:,.1f}", *values])
        return out

    head = ["languages x sentences", "points", "input, MB", *names]
    skipped = [
        f"- {row['measure']}, {row['languages']} x {row['sentences']}: {row['skipped']}."
        for row in rows
        if "skipped" in row
    ]
    powers = [
        [name, *[f"{points:,}" for points in fit["points"]], f"{fit['seconds']:.2f}", _power(fit)]
        for name, fit in fits.items()
    ]
    text = [
        "### The alignment kit against points",
        f"Random vectors of width {settings['width']} in float32: a concept's, plus a language's, plus noise. A "
        "measure of a pair runs over all targets. The probe sees "
        f"{settings['sample']} sentences of each language, drawn from all, as by default. Medians of three calls; a "
        f"call of over {settings['once']:.0f} s ran once. Time:",
        markdown_table(head, cells(lambda row: tables.seconds(row["seconds"]))),
        "Peak memory above what was held before, the input not counted, and in multiples of the input:",
        markdown_table(head, cells(lambda row: f"{row['peak_mb']:,.0f} MB, {row['peak_mb'] / row['input_mb']:.1f}")),
        *(["\n".join(["Skipped:", "", *skipped])] if skipped else []),
        "The power of the number of points that each grew with between its last two sizes; 1 is linear, 2 quadratic:",
        markdown_table(["measure", "from", "to", "time", "memory"], powers),
    ]
    fitted = {name: fit["peak_mb"] for name, fit in fits.items() if "peak_mb" in fit}
    if fitted:
        steepest = max(fitted, key=fitted.__getitem__)
        text.append(f"No measure's memory grows faster than with the power {fitted[steepest]:.2f} ({steepest}).")
    return text


def _power(fit: Mapping[str, Any]) -> str:
    return f"{fit['peak_mb']:.2f}" if "peak_mb" in fit else f"under {TINY_MB:.0f} MB"
