"""Which languages gain: what is known of each before training, held against its gain over vanilla."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from xlt_tutorial.alignment import align, sentence_vectors
from xlt_tutorial.encoders import load_encoder
from xlt_tutorial.tasks import load_task

PROPERTIES = ("gap_ratio", "knn_mixing", "tokens_per_word")


def run() -> dict[str, Any]:
    """Return ``{"languages": {target: {property: value}}}`` for ``emoji``, at the last layer of the encoder as it is.

    ``knn_mixing`` is the pair's, source and target alone. Words are what white space parts, so in Chinese and
    Japanese a name of several words counts as one.
    """
    task, encoder = load_task("emoji"), load_encoder()
    last = int(encoder.model.config.num_hidden_layers)
    vectors = sentence_vectors(encoder.model, encoder.tokenizer, task, "test", layers=[last], progress=False)
    labels = [task.labels[label] for label in task["test"][task.source]["label"]]
    found = {}
    for target in task.targets:
        pair = {language: vectors[language] for language in (task.source, target)}
        row = align(pair, labels, task.source, layers=[last], measures=["gap_ratio", "knn_mixing"])[0]
        texts = task.texts("test", target)
        tokens = sum(len(ids) for ids in encoder.tokenizer(texts, add_special_tokens=False)["input_ids"])
        found[target] = {
            "gap_ratio": row["gap_ratio"][target],
            "knn_mixing": row["knn_mixing"][target],
            "tokens_per_word": tokens / sum(len(text.split()) for text in texts),
        }
    return {"layer": last, "languages": found}


def ties(facts: Mapping[str, Mapping[str, float]], gains: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Return Spearman's correlation of gains with each property, and its range when each language is left out once.

    Args:
        facts: ``{target: {property: value}}``.
        gains: ``{target: gain}``; targets that are not in both are left out.

    Returns:
        ``{property: {"rho", "p", "least", "most", "languages"}}``; ``least`` and ``most`` name the language left out.
    """
    common = [target for target in facts if target in gains]
    found = {}
    for name in PROPERTIES:
        values = [facts[target][name] for target in common]
        whole = spearmanr(values, [gains[target] for target in common])
        left = {out: _rho(values, common, gains, at) for at, out in enumerate(common)}
        least, most = min(left, key=left.__getitem__), max(left, key=left.__getitem__)
        found[name] = {
            "rho": float(whole.statistic), "p": float(whole.pvalue), "languages": len(common),
            "least": [least, left[least]], "most": [most, left[most]],
        }  # fmt: skip
    return found


def _rho(values: Sequence[float], targets: Sequence[str], gains: Mapping[str, float], left_out: int) -> float:
    kept = [at for at in range(len(targets)) if at != left_out]
    return float(spearmanr(np.take(values, kept), [gains[targets[at]] for at in kept]).statistic)
