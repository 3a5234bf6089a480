"""Does a swap move English towards other languages? The cosine with the way to their centroids, beside a null.

For each layer, ``d`` is the mean over English test sentences of h(x') - h(x), with every eligible word swapped, and
``c_t`` the way from English's centroid to that of target t, over the same concepts. The null swaps for random pieces
that are as frequent: for each candidate, one drawn from the 100 whole-word pieces nearest to it in the tokenizer's own
log-probability. What the null shows too is the effect of any disturbance, not of translations.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from xlt_tutorial.alignment import pooled_layers, sentence_vectors
from xlt_tutorial.batching import Row, collate, encode_rows, row_generator
from xlt_tutorial.encoders import Encoder, load_encoder
from xlt_tutorial.perturb import NeighbourSwap
from xlt_tutorial.tasks import ParallelTask, load_task

WINDOW = 50  # pieces on either side in the order of log-probability


def run(nulls: int = 20, layers: tuple[int, ...] = (0, 3, 6, 9, 12)) -> dict[str, Any]:
    """Return ``{"streams": {stream: {layer: {"cosine": {target: ..}, "mean": .., "length": ..}}}}``, with the nulls.

    ``length`` is that of ``d`` over that of the mean ``c_t``. Streams: ``neighbours``, ``neighbours-source``, and
    ``null 0`` to ``null n-1``, each a draw of its own.
    """
    task, full = load_task("emoji"), load_encoder()
    english = [*task.texts("train", "en"), *task.texts("dev", "en"), *task.texts("test", "en")]
    swap = replace(NeighbourSwap.fit(full, english), rate=1.0)
    streams = {"neighbours": swap}
    streams["neighbours-source"] = replace(NeighbourSwap.fit(full, english, only="source"), rate=1.0)
    streams |= {f"null {i}": frequency_matched(swap, full, seed=i) for i in range(nulls)}
    vectors = sentence_vectors(full.model, full.tokenizer, task, "test", layers=layers)
    centroids = {language: stack.mean(1) for language, stack in vectors.items()}  # (layers, hidden)
    rows = encode_rows(full.tokenizer, task["test"]["en"], task.text_columns)
    found: dict[str, Any] = {}
    for name, maker in streams.items():
        moved = _moved(full, rows, maker, task, layers).mean(1) - centroids["en"]
        found[name] = {}
        for at, layer in enumerate(layers):
            ways = {t: centroids[t][at] - centroids["en"][at] for t in task.languages if t != "en"}
            cosines = {
                t: float(moved[at] @ way / np.linalg.norm(moved[at]) / np.linalg.norm(way)) for t, way in ways.items()
            }
            mean_way = np.mean(list(ways.values()), axis=0)
            found[name][layer] = {
                "cosine": cosines,
                "mean": float(np.mean(list(cosines.values()))),
                "length": float(np.linalg.norm(moved[at]) / np.linalg.norm(mean_way)),
            }
    return {"nulls": nulls, "streams": found}


def frequency_matched(swap: NeighbourSwap, encoder: Encoder, seed: int) -> NeighbourSwap:
    """Return the swap with each candidate replaced by a random whole-word piece of like log-probability."""
    model = json.loads(encoder.tokenizer.backend_tokenizer.to_str())["model"]
    words = [
        (score, piece)
        for piece, score in model["vocab"]
        if piece.startswith("▁") and piece[1:].isalpha() and len(piece) > 3
    ]
    words.sort()
    place = {piece: at for at, (_, piece) in enumerate(words)}
    rng = np.random.default_rng([seed, 0xF4E9])
    table = {}
    for piece, near in swap.table.items():
        drawn = []
        for candidate in near:
            at = place.get(candidate)
            if at is None:  # as "▁l'eau": no match in frequency, so it stays out of the null
                continue
            low = max(0, min(at - WINDOW, len(words) - 2 * WINDOW - 1))
            drawn.append(words[low + int(rng.integers(2 * WINDOW + 1))][1])
        if drawn:
            table[piece] = drawn
    return replace(swap, table=table)


def _moved(
    encoder: Encoder, rows: list[Row], maker: NeighbourSwap, task: ParallelTask, layers: tuple[int, ...]
) -> np.ndarray:
    """Return the sentence vectors of virtual rows, (layers, rows, hidden)."""
    copies = [maker.virtual(row, encoder.tokenizer, row_generator(0, 0, 0, row.id)) for row in rows]
    parts = []
    with torch.inference_mode():
        for start in range(0, len(copies), 64):
            batch = collate(copies[start : start + 64], int(encoder.tokenizer.pad_token_id or 0))
            parts.append(pooled_layers(encoder.model, batch, layers).numpy())
    return np.concatenate(parts, axis=1)
