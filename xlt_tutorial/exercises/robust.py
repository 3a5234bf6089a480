"""Exercises of notebook 06: robust targets, flips, consistency and shares of the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from xlt_tutorial.exercises import Case, Exercise, Mistake
from xlt_tutorial.objectives import EAR, RSDA, Objective
from xlt_tutorial.training import gradient_shares

# --- what is right ---------------------------------------------------------------------------------------------------


class _Fixed:
    """A classifier that gives the same logits whatever it reads."""

    encoder = None

    def __init__(self, original: Tensor, virtual: Tensor) -> None:
        self.logits = torch.cat([original, virtual])

    def __call__(self, **inputs: Tensor) -> Tensor:
        return self.logits


def _terms(objective: Objective, original: Tensor, virtual: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the terms that the package's objective makes of given logits."""
    batch = {"attention_mask": torch.ones(2 * len(labels), 1), "labels": labels}
    fixed: Any = _Fixed(original, virtual)
    return objective(fixed, batch)


def _robust(original: Tensor, virtual: Tensor, labels: Tensor) -> Tensor:
    objective = RSDA()
    return objective.total(_terms(objective, original, virtual, labels))


def _consistency(original: Tensor, virtual: Tensor) -> Tensor:
    objective = EAR(push=False, pull=False, robust=False, consistency=1.0)
    return _terms(objective, original, virtual, torch.zeros(len(original), dtype=torch.long))["kl"]


def _flip_rate(original: np.ndarray, virtual: np.ndarray, labels: np.ndarray, swapped: np.ndarray) -> float:
    """Return the share of swapped rows whose predicted class differs between ``original`` and ``virtual``."""
    return float(np.mean(original[swapped] != virtual[swapped]))


def _unchanged(words: Sequence[int], rate: float) -> float:
    """Return the expected share of rows without any swap, from each row's number of words that can be swapped."""
    return float(np.mean((1 - rate) ** np.asarray(words)))


def _shares(norms: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    return gradient_shares(norms, weights)


# --- cases -----------------------------------------------------------------------------------------------------------


def _logits(draw: torch.Generator, rows: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    original, virtual = (3 * torch.randn(rows, classes, generator=draw) for _ in range(2))
    return original.requires_grad_(), virtual.requires_grad_(), torch.arange(rows) % classes


def _robust_cases() -> Sequence[Case]:
    draw = torch.Generator().manual_seed(0)
    return [Case("a batch of five", _logits(draw, 5, 4)), Case("a batch of two", _logits(draw, 2, 3))]


def _consistency_cases() -> Sequence[Case]:
    draw = torch.Generator().manual_seed(1)
    first, second, _ = _logits(draw, 4, 3)
    same = torch.randn(2, 5, generator=draw).requires_grad_()
    return [
        Case("two different predictions", (first, second)),
        Case("equal predictions", (same, same.detach().clone().requires_grad_())),
    ]


def _flip_cases() -> Sequence[Case]:
    rng = np.random.default_rng(2)
    cases = []
    for what, rows in (("a hundred items", 100), ("twenty items", 20)):
        labels = rng.integers(0, 4, rows)
        original = np.where(rng.random(rows) < 0.6, labels, rng.integers(0, 4, rows))
        swapped = rng.random(rows) < 0.6
        moved = np.where(rng.random(rows) < 0.5, rng.integers(0, 4, rows), original)
        cases.append(Case(what, (original, np.where(swapped, moved, original), labels, swapped)))
    return cases


def _unchanged_cases() -> Sequence[Case]:
    return [
        Case("names of one to four words, rate 0.3", ([1, 2, 1, 4, 3, 1], 0.3)),
        Case("names of which some have no word to swap, rate 0.6", ([0, 2, 1, 0, 5], 0.6)),
    ]


def _shares_cases() -> Sequence[Case]:
    norms = {"ce": 1.7, "robust": 1.6, "push": 0.02, "pull": 0.3}
    return [
        Case("the published weights", (norms, {"ce": 1.0, "robust": 1.0, "push": 0.1, "pull": 1.0})),
        Case("a negative weight", ({"ce": 2.0, "adversary": 1.5}, {"ce": 1.0, "adversary": -0.5})),
    ]


# --- typical mistakes ------------------------------------------------------------------------------------------------


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q) of two rows of logits, the mean over rows."""
    return kl_div(q.log_softmax(-1), p.log_softmax(-1), log_target=True, reduction="batchmean")


def _normed(values: Mapping[str, float], whole: float) -> dict[str, float]:
    return {name: value / whole for name, value in values.items()}


def _weighted(norms: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    return {name: abs(weights[name]) * norm for name, norm in norms.items()}


def _signed(norms: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    return {name: weights[name] * norm for name, norm in norms.items()}


def _squared(norms: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    return {name: value**2 for name, value in _weighted(norms, weights).items()}


EXERCISES = {
    "robust_target": Exercise(
        answer=_robust,
        cases=_robust_cases,
        mistakes=(
            Mistake(
                lambda o, v, y: (cross_entropy(o, y) + cross_entropy(v, y)) / 2,
                "You take the mean of the two cross-entropies; the loss is their sum. Only the fair control (two "
                "dropout passes, summed) then has the same learning signal.",
            ),
            Mistake(
                lambda o, v, y: cross_entropy(v, y),
                "The original sentence is missing: the robust target is added to its cross-entropy, not put in its "
                "place.",
            ),
            Mistake(
                lambda o, v, y: cross_entropy(o, y) + cross_entropy(v, o.argmax(-1)),
                "You teach the virtual sentence the model's own answer. The target is the true label, also where the "
                "model is wrong.",
            ),
            Mistake(
                lambda o, v, y: cross_entropy(o.softmax(-1), y) + cross_entropy(v.softmax(-1), y),
                "Two softmaxes: `cross_entropy` takes logits and makes probabilities of them itself.",
            ),
            Mistake(
                lambda o, v, y: cross_entropy(o, y, reduction="sum") + cross_entropy(v, y, reduction="sum"),
                "Each cross-entropy is a mean over the batch, not a sum, or the learning rate would hang on its size.",
            ),
            Mistake(
                lambda o, v, y: 2 * cross_entropy(torch.cat([o, v]), y.repeat_interleave(2)),
                "Labels and rows are out of step: the streams are stacked one after the other, so the labels repeat "
                "as a block, `labels.repeat(2)`.",
            ),
        ),
        praise="`objectives.RSDA` is exactly this loss; in `objectives.EAR` its second part is the term `robust`.",
    ),
    "flip_rate": Exercise(
        answer=_flip_rate,
        cases=_flip_cases,
        mistakes=(
            Mistake(
                lambda o, v, y, s: float(np.mean(o != v)),
                "Rows without a swap cannot flip, and they water your share down: count among the swapped ones alone.",
            ),
            Mistake(
                lambda o, v, y, s: float(np.mean(o[s] == y[s]) - np.mean(v[s] == y[s])),
                "That is the loss of accuracy. Flips from wrong to right and from one wrong class to another do not "
                "show in it.",
            ),
            Mistake(
                lambda o, v, y, s: float(np.mean((o[s] == y[s]) & (v[s] != y[s]))),
                "You count the flips from right to wrong alone. A flip is any change; the labels are not needed.",
            ),
            Mistake(
                lambda o, v, y, s: float(np.mean(v[s] != y[s])),
                "That is the error rate under the swap. A flip compares the two predictions with each other, not with "
                "the label.",
            ),
            Mistake(
                lambda o, v, y, s: float(np.mean(o[s] == v[s])),
                "That is the share that stays; flips are the others.",
            ),
        ),
        praise="It needs no labels, so it can be measured on unlabelled English, too.",
    ),
    "unchanged": Exercise(
        answer=_unchanged,
        cases=_unchanged_cases,
        mistakes=(
            Mistake(
                lambda words, rate: (1 - rate) ** float(np.mean(words)),
                "You put the mean number of words into the power. Do it row by row and take the mean at the end: short "
                "names stay unchanged far more often.",
            ),
            Mistake(
                lambda words, rate: float(np.mean(np.maximum(0, 1 - rate * np.asarray(words)))),
                "Chances do not add up: two words at 0.3 are both left alone with 0.7 · 0.7.",
            ),
            Mistake(
                lambda words, rate: 1 - float(np.mean((1 - rate) ** np.asarray(words))),
                "That is the share with at least one swap; asked for are the others.",
            ),
            Mistake(
                lambda words, rate: float(np.mean(rate ** np.asarray(words))),
                "That is the chance that every word is swapped: a word stays with 1 - rate.",
            ),
        ),
        praise="Measure it before you train: it says how much of the second stream is only a second pass.",
        tolerance=1e-6,
    ),
    "consistency": Exercise(
        answer=_consistency,
        cases=_consistency_cases,
        mistakes=(
            Mistake(
                lambda o, v: _divergence(o, v) + _divergence(v, o),
                "Both directions are there; the term takes half of their sum.",
            ),
            Mistake(
                lambda o, v: _divergence(o, v),
                "That is KL(p || p') alone. The term is symmetrical: add KL(p' || p) and halve the sum.",
            ),
            Mistake(
                lambda o, v: _divergence(v, o),
                "That is KL(p' || p) alone; `kl_div` takes its second argument for the reference. Add KL(p || p') and "
                "halve the sum.",
            ),
            Mistake(
                lambda o, v: (_divergence(o, v) + _divergence(v, o)) / 2 / o.shape[-1],
                "You take the mean over the classes, too (the default of `kl_div`): sum over classes, mean over rows.",
            ),
            Mistake(
                lambda o, v: (_divergence(o, v) + _divergence(v, o)) / 2 * len(o),
                "You add up the rows; the term is their mean.",
            ),
            Mistake(
                lambda o, v: (o.softmax(-1) - v.softmax(-1)).square().sum(-1).mean(),
                "That is a squared distance of probabilities. A divergence weighs the *logarithms* of their ratio.",
            ),
        ),
        praise="It is the term `kl` of `EAR(consistency=...)`; in `RDrop`, x' is x under another dropout mask.",
    ),
    "gradient_shares": Exercise(
        answer=_shares,
        cases=_shares_cases,
        mistakes=(
            Mistake(
                lambda norms, weights: _normed(norms, sum(norms.values())),
                "The weights are missing: what the optimiser sees is the *weighted* gradient.",
            ),
            Mistake(
                lambda norms, weights: _normed(_squared(norms, weights), sum(_squared(norms, weights).values())),
                "You share out squares. The share is one of norms; squares make a weak term look weaker still.",
            ),
            Mistake(
                lambda norms, weights: _normed(
                    _weighted(norms, weights), sum(value for value in _squared(norms, weights).values()) ** 0.5
                ),
                "You divide by the root of the sum of squares, as if the gradients were at right angles; divide by the "
                "sum of the norms.",
            ),
            Mistake(
                lambda norms, weights: _normed(_signed(norms, weights), sum(_signed(norms, weights).values())),
                "A negative weight turns a gradient around and makes it no smaller: take the size of weight times "
                "norm.",
            ),
            Mistake(
                lambda norms, weights: _normed(_weighted(norms, weights), max(_weighted(norms, weights).values())),
                "You divide by the largest; shares add up to one.",
            ),
            Mistake(
                _weighted,
                "Those are the weighted norms; divide each by their sum.",
            ),
        ),
        praise="`training.gradient_shares`; the loop logs it every `Recipe.share_every` steps.",
        tolerance=1e-6,
    ),
}
