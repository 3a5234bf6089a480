"""Training objectives: a model and a batch in, named loss terms out.

An objective's ``weights`` hold what each term counts; ``total`` adds them up. All of them read the same stacked batch
(``batching``) in one forward, so they see the same data in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from xlt_tutorial.batching import Batch
from xlt_tutorial.encoders import Classifier
from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.losses import PULL_FORMS, PUSH_FORMS, attention_pull, embedding_push
from xlt_tutorial.taps import Captured, embedding_noise, taps

METHODS = ("vanilla", "ear")


class Objective:
    """What the training loop needs to know of a method.

    Attributes:
        name: The method's name in results.
        weights: Weight of each term.
        streams: 1 for the original sentences alone, 2 for the stacked streams.
        virtual: Whether the second stream is made by a maker (else it repeats the first).
        copies: Virtual copies of each sentence in an epoch.
        pad_to: Fixed width of every batch, or ``None``.
    """

    name: str
    weights: dict[str, float]
    streams = 1
    virtual = False
    copies = 1
    pad_to: int | None = None

    def __call__(self, model: Classifier, batch: Batch) -> dict[str, Tensor]:
        """Return the unweighted terms of one batch, each a scalar."""
        raise NotImplementedError

    def check(self, encoder: nn.Module) -> None:
        """Raise an ``XltError`` where this encoder cannot give what the terms read; nothing is computed."""

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms."""
        return sum((self.weights[name] * value for name, value in terms.items()), start=torch.zeros(()))

    def settings(self) -> dict[str, Any]:
        """Return what to record of this objective in a result."""
        return {"name": self.name, **{key: value for key, value in vars(self).items() if key != "name"}}


class Vanilla(Objective):
    """Plain fine-tuning: ``CE(f(x), y)``, or the sum over two dropout passes of the same sentences.

    Args:
        passes: 1, or 2 for the compute-matched control of two-stream methods.

    Relations:
        ``Vanilla(passes=2)`` does the work of ``EAR`` (forwards, backward, steps) without any of its terms; it is EAR
        with all three of them switched off.
    """

    def __init__(self, passes: int = 1) -> None:
        if passes not in (1, 2):
            raise unknown("number of passes", passes, (1, 2))  # type: ignore[arg-type]
        self.name = "vanilla" if passes == 1 else "vanilla-matched"
        self.streams = passes
        self.weights = {"ce": 1.0} if passes == 1 else {"ce": 1.0, "second_pass": 1.0}

    def __call__(self, model: Classifier, batch: Batch) -> dict[str, Tensor]:
        logits = model(**_inputs(batch)).chunk(self.streams)
        return {term: cross_entropy(part, batch["labels"]) for term, part in zip(self.weights, logits, strict=True)}


class EAR(Objective):
    """Embedding-Push, Attention-Pull and Robust targets over the stacked original and virtual streams.

    ``loss = CE(f(x), y) + CE(f(x'), y) + alpha * push + beta * pull``, any of the last three switched off by
    ``robust``, ``push`` and ``pull``. With all three off it is ``Vanilla(passes=2)``: still one forward of two streams.

    Args:
        push: Form of the embedding push (``losses.PUSH_FORMS``), ``True`` for the published one, ``False`` for none.
        pull: Form of the attention pull (``losses.PULL_FORMS``), likewise.
        robust: Whether the virtual sentence must be classified too.
        alpha: Weight of the push.
        beta: Weight of the pull.
        layer: 0-based layer of the pull; 5 is the sixth block.
        copies: Virtual copies of a sentence in an epoch.
        margin: Of the hinge push.
        pad_to: Fixed width, which the published pull depends on; ``None`` pads to the longest row.

    References:
        Ding et al., "A Simple and Effective Method to Improve Zero-Shot Cross-Lingual Transfer Learning", COLING 2022.

    Example:
        >>> objective = EAR.published()
        >>> terms = objective(model, batch)  # {"ce": .., "robust": .., "push": .., "pull": ..}
        >>> objective.total(terms).backward()
    """

    def __init__(
        self,
        push: str | bool = "published",
        pull: str | bool = "published",
        robust: bool = True,
        alpha: float = 0.1,
        beta: float = 1.0,
        layer: int = 5,
        copies: int = 1,
        margin: float = 1.0,
        pad_to: int | None = None,
    ) -> None:
        self.push, self.pull = _form("push", push, PUSH_FORMS), _form("pull", pull, PULL_FORMS)
        self.robust, self.layer, self.margin, self.pad_to = robust, layer, margin, pad_to
        if copies < 1:
            raise XltError(f"copies is {copies}; it must be 1 or more.")
        self.copies, self.streams = copies, 2
        self.virtual = bool(self.push or self.pull or robust)
        weights = {"robust": 1.0 if robust else None, "push": alpha if self.push else None}
        weights |= {"pull": beta if self.pull else None}
        self.weights = {"ce": 1.0} | {term: weight for term, weight in weights.items() if weight is not None}
        if not self.virtual:
            self.weights["second_pass"] = 1.0
        letters = [letter for letter, on in zip("EAR", (self.push, self.pull, robust), strict=True) if on]
        named = "ear" if len(letters) == 3 else f"ear-{''.join(letters)}"
        self.name = named if letters else "vanilla-matched"

    @classmethod
    def published(cls, copies: int = 1, width: int | None = 128) -> EAR:
        """Return the published setting: alpha 0.1, beta 1, layer 5, batches always padded to ``width`` tokens.

        ``copies`` was 3 on XNLI. The padding is part of the method here, because the published pull averages over it.
        """
        return cls(copies=copies, pad_to=width)

    def check(self, encoder: nn.Module) -> None:
        """Raise an ``XltError`` where the encoder lacks the pulled layer, or blocks to read."""
        with self._taps(encoder):
            pass

    def __call__(self, model: Classifier, batch: Batch) -> dict[str, Tensor]:
        with self._taps(model.encoder) as captured:
            with embedding_noise(model.encoder, batch.get("noise")):
                original, virtual = model(**_inputs(batch)).chunk(2)
        terms = {"ce": cross_entropy(original, batch["labels"])}
        if self.robust:
            terms["robust"] = cross_entropy(virtual, batch["labels"])
        elif not self.virtual:
            terms["second_pass"] = cross_entropy(virtual, batch["labels"])
        mask, virtual_mask = batch["attention_mask"].chunk(2)
        if self.push:
            assert captured.embeddings is not None
            first, second = captured.embeddings.chunk(2)
            terms["push"] = embedding_push(first, second, mask, virtual_mask, self.push, self.margin)
        if self.pull:
            attention = captured.attention[self.layer]
            first, second = attention.before_dropout.chunk(2)
            if self.pull == "published":
                first, second = attention.after_dropout.chunk(2)
            terms["pull"] = attention_pull(first, second, mask, virtual_mask, self.pull)
        return terms

    def _taps(self, encoder: nn.Module) -> AbstractContextManager[Captured]:
        return taps(encoder, [self.layer] if self.pull else [], embeddings=bool(self.push))


def make_objective(method: str, **options: Any) -> Objective:
    """Return the objective of a method's name: ``vanilla`` (compute-matched unless ``passes=1``) or ``ear``."""
    if method == "vanilla":
        return Vanilla(**{"passes": 2, **options})
    if method == "ear":
        return EAR(**options)
    raise unknown("method", method, METHODS)


def _form(term: str, value: str | bool, forms: tuple[str, ...]) -> str:
    chosen = forms[0] if value is True else (value or "")
    if chosen and chosen not in forms:
        raise unknown(f"{term} form", chosen, forms)
    return chosen


def _inputs(batch: Batch) -> dict[str, Tensor]:
    return {key: batch[key] for key in ("input_ids", "attention_mask", "token_type_ids") if key in batch}
