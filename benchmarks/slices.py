"""The same step in less memory: EAR at mBERT's size with the widest typical batch of XNLI, cut ever smaller."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from transformers import BertConfig, BertModel

from benchmarks import lengths, steps, straightforward, tables
from benchmarks.measure import medians
from xlt_tutorial.batching import TwoStreamBatches
from xlt_tutorial.encoders import Classifier, load_encoder
from xlt_tutorial.objectives import EAR
from xlt_tutorial.training import Recipe, _optimizer, _step, has_bfloat16

SIZES = (0, 2048, 1024, 512)


def run(small: bool = False) -> dict[str, Any]:
    """Measure steps of each size and the straightforward one in turns; ``small`` is for tests."""
    full = load_encoder()
    shape = steps.SMALL if small else steps.MBERT
    name, width, rounds = ("emoji", 32, 1) if small else ("xnli", 128, 3)
    rows = lengths.rows(name, full, shape["vocab_size"], width)
    torch.manual_seed(0)
    encoder = BertModel(BertConfig(**shape, max_position_embeddings=512), add_pooling_layer=False)
    model = Classifier(encoder, 1 + max(row.label for row in rows)).train()
    maker, accelerator, recipe = steps.RandomSwap(shape["vocab_size"]), Accelerator(), Recipe(share_every=0)
    optimizer, scheduler = _optimizer(model, recipe, 10**6)
    plain = torch.optim.AdamW(model.parameters(), lr=1e-6)
    number = steps._typical(TwoStreamBatches(rows, full.tokenizer, 32, 0), 3)[-1]
    batch, padded = (
        list(TwoStreamBatches(rows, full.tokenizer, 32, 0, 2, maker, 1, pad_to).epoch(0))[number]
        for pad_to in (None, width)
    )
    tokenizer_rows = batch["input_ids"].shape
    del full, rows

    def call(size: int, precision: str) -> object:
        own = replace(recipe, max_tokens=size, precision=precision)
        return _step(accelerator, model, optimizer, scheduler, EAR(), [batch], own, 1)

    precisions = ["float32"] + ["bfloat16"] * has_bfloat16(accelerator.device)
    calls = {
        f"{size}|{precision}": (lambda s=size, p=precision: call(s, p)) for precision in precisions for size in SIZES
    }
    calls["straightforward"] = lambda: straightforward.step(model, plain, padded)
    call(0, "float32")  # both optimisers get their state before anything is measured
    calls["straightforward"]()
    return {"batch": list(tokenizer_rows), "steps": medians(calls, rounds, warm_up=0)}


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
        + tables.markdown(["step", "time", "against the whole batch", "peak", "of straightforward's"], lines)
        + f"\n\nIn float32 the smallest peak is {least[0] / plain['peak_mb']:.0%} of the straightforward one's, with "
        f"slices of {least[1].partition('|')[0]} tokens."
    )
