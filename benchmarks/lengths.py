"""Rows with the real length distributions of XNLI and PAWS-X (the folder of real data), and of the task "emoji"."""

from __future__ import annotations

import numpy as np

from studies.grids import data_folder
from xlt_tutorial.batching import Row, encode_rows
from xlt_tutorial.encoders import Encoder
from xlt_tutorial.tasks import load_task

SPLITS = {"xnli": "train", "pawsx": "dev", "emoji": "train"}


def rows(name: str, encoder: Encoder, vocabulary: int, max_length: int = 128, limit: int = 4000) -> list[Row]:
    """Return the English rows of a data set, tokenised by the XLM-R vocabulary of e5-small.

    Ids are folded into ``vocabulary``, as the benchmark's weights are random: lengths are what counts.
    """
    task = load_task(name if name == "emoji" else data_folder() / name)
    split = task[SPLITS[name]][task.source]
    split = split.select(range(min(limit, len(split))))
    found = encode_rows(encoder.tokenizer, split, task.text_columns, max_length)
    return [Row(row.id, row.texts, tuple(i % vocabulary for i in row.input_ids), row.label) for row in found]


def summary(rows: list[Row]) -> dict[str, float]:
    """Return mean, median and 95th percentile of the lengths in tokens."""
    lengths = np.array([len(row.input_ids) for row in rows])
    return {
        "rows": len(lengths),
        "mean": round(float(lengths.mean()), 1),
        "median": float(np.median(lengths)),
        "p95": float(np.quantile(lengths, 0.95)),
        "longest": int(lengths.max()),
    }
