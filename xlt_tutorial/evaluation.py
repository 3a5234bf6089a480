"""Accuracy per language and the zero-shot gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xlt_tutorial.batching import Row, collate, encoded_parts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from xlt_tutorial.encoders import Classifier
    from xlt_tutorial.tasks import ParallelTask


@dataclass(frozen=True)
class Scores:
    """Accuracy of one model in every language of a task.

    Attributes:
        source: The language it was trained on.
        split: The split that was scored.
        correct: For each language, ``(items,)`` booleans in the task's row order.
    """

    source: str
    split: str
    correct: dict[str, np.ndarray] = field(repr=False)

    @property
    def accuracy(self) -> dict[str, float]:
        """Share of right answers per language, source first."""
        return {language: float(right.mean()) for language, right in self.correct.items()}

    @property
    def n(self) -> dict[str, int]:
        """Items per language."""
        return {language: len(right) for language, right in self.correct.items()}

    @property
    def targets(self) -> tuple[str, ...]:
        """Every language but the source."""
        return tuple(language for language in self.correct if language != self.source)

    @property
    def target_mean(self) -> float:
        """Mean accuracy over the target languages, each counting the same."""
        return float(np.mean([self.accuracy[language] for language in self.targets]))

    @property
    def gap(self) -> dict[str, float]:
        """Source accuracy minus each target's: the price of zero-shot transfer."""
        return {language: self.accuracy[self.source] - self.accuracy[language] for language in self.targets}

    def as_dict(self) -> dict[str, Any]:
        """Return plain numbers for a result file."""
        return {
            "split": self.split,
            "accuracy": self.accuracy,
            "n": self.n,
            "target_mean": self.target_mean,
            "gap": self.gap,
            "mean_gap": self.accuracy[self.source] - self.target_mean,
        }


def predict(
    model: Classifier, rows: Sequence[Row], pad_id: int, batch_size: int = 64, device: torch.device | str | None = None
) -> np.ndarray:
    """Return the predicted class of each row, ``(rows,)``, in the rows' order; the model's mode is restored."""
    place = device or next(model.parameters()).device
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].input_ids))
    predicted = np.empty(len(rows), dtype=np.int64)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                part = order[start : start + batch_size]
                batch = collate([rows[i] for i in part], pad_id)
                logits = model(**{key: value.to(place) for key, value in batch.items()})
                predicted[part] = logits.argmax(-1).cpu().numpy()
    finally:
        model.train(was_training)
    return predicted


def evaluate(
    model: Classifier,
    tokenizer: PreTrainedTokenizerBase,
    task: ParallelTask,
    split: str | None = None,
    languages: Sequence[str] | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
    progress: bool = False,
) -> Scores:
    """Score a model in every language, a part of each split at a time.

    Args:
        model: A trained classifier.
        tokenizer: The tokenizer it was trained with.
        task: The task; source and targets answer the same items.
        split: ``task.evaluation_split`` when ``None``.
        languages: A subset; all when ``None``.
        batch_size: Sentences in a batch.
        max_length: Longest sequence in tokens.
        progress: Show a bar with the time left.

    Returns:
        The scores, source first.
    """
    from tqdm.auto import tqdm

    split = split or task.evaluation_split
    chosen = sorted(languages or task.languages, key=lambda language: language != task.source)
    pad_id, correct = int(tokenizer.pad_token_id or 0), {}
    with tqdm(total=sum(len(task[split][t]) for t in chosen), desc="testing", disable=not progress) as bar:
        for language in chosen:
            right = []
            for rows in encoded_parts(tokenizer, task[split][language], task.text_columns, max_length):
                right.append(predict(model, rows, pad_id, batch_size) == np.array([row.label for row in rows]))
                bar.update(len(rows))
            correct[language] = np.concatenate(right)
    return Scores(task.source, split, correct)
