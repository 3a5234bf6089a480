"""What a maker does to sentences: how much it replaces, with what, and how often the label may be lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xlt_tutorial.batching import Maker, Row, encode_rows, row_generator
from xlt_tutorial.encoders import Classifier, load_encoder
from xlt_tutorial.evaluation import predict
from xlt_tutorial.objectives import Vanilla
from xlt_tutorial.perturb import NeighbourSwap, swap_report
from xlt_tutorial.tasks import load_task
from xlt_tutorial.trained import trained
from xlt_tutorial.training import Recipe
from xlt_tutorial.wordlists import word_kinds


def audit(
    maker: Maker, rows: Sequence[Row], tokenizer: Any, model: Classifier | None = None, seed: int = 0
) -> dict[str, Any]:
    """Audit one epoch of a maker.

    Args:
        maker: Any maker.
        rows: Tokenised source rows.
        tokenizer: Of the rows.
        model: A classifier trained on the source language without this maker; with it, flips are counted.
        seed: Of the swaps.

    Returns:
        ``words``, the eligible words; ``replaced``, their share that was swapped; ``rows_changed``; ``foreign``, the
        share of new words that are commoner in another language than in English (wordfreq), and ``unknown``, of those
        in no list; ``scripts``; ``flips``, the share of changed rows whose predicted label is another one although the
        model was right before: probable flips, as the model can be wrong about the new sentence.
    """
    copies = [maker.virtual(row, tokenizer, row_generator(seed, 0, 0, row.id)) for row in rows]
    news = Counter(new.lstrip("▁").casefold() for copy in copies for _, new in copy.swaps)
    kinds, known = Counter[str](), word_kinds(news)
    for word, count in news.items():
        kinds[known[word]] += count
    total = max(1, news.total())
    changed = [i for i, (row, copy) in enumerate(zip(rows, copies, strict=True)) if copy.input_ids != row.input_ids]
    report = swap_report(maker, rows, tokenizer, seed)
    found = {"maker": maker.name, "words": report["words"], "replaced": report["rate"], "scripts": report["scripts"]}
    found |= {"rows_changed": len(changed) / len(rows), "foreign": kinds["foreign"] / total}
    found |= {"unknown": kinds["unknown"] / total, "flips": None}
    if model is not None and changed:
        before = [rows[i] for i in changed]
        after = [
            replace(rows[i], input_ids=copies[i].input_ids, token_type_ids=copies[i].token_type_ids) for i in changed
        ]
        labels = np.array([row.label for row in before])
        pad = int(tokenizer.pad_token_id or 0)
        right = predict(model, before, pad) == labels
        found["flips"] = float((right & (predict(model, after, pad) != labels)).sum() / max(1, right.sum()))
    return found


def run() -> dict[str, Any]:
    """Audit the makers on English train of ``emoji`` at their default rate, with the vanilla model of notebook 02.

    ``neighbours`` is the raw stream; ``neighbours-source`` is filtered to pieces that are English words.
    """
    task, full = load_task("emoji"), load_encoder()
    english = [*task.texts("train", "en"), *task.texts("dev", "en")]
    raw = NeighbourSwap.fit(full, english)
    makers = {"neighbours": raw, "neighbours-source": NeighbourSwap.fit(full, english, only="source")}
    encoder = load_encoder(trim_to=task, keep={piece for maker in makers.values() for piece in maker.pieces})
    model = trained(task, encoder, Vanilla(1), recipe=Recipe(select="source", share_every=0), progress=False).model
    rows = encode_rows(encoder.tokenizer, task["train"]["en"], task.text_columns)
    return {"makers": {name: audit(maker, rows, encoder.tokenizer, model) for name, maker in makers.items()}}
