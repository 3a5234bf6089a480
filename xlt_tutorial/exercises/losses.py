"""Exercises of notebooks 04 and 05: the embedding push and the attention pull."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from xlt_tutorial.encoders import masked_mean
from xlt_tutorial.exercises import Case, Exercise, Mistake
from xlt_tutorial.losses import attention_pull, embedding_push

# --- what is right ---------------------------------------------------------------------------------------------------


def _push(original: Tensor, virtual: Tensor, original_mask: Tensor, virtual_mask: Tensor) -> Tensor:
    return embedding_push(original, virtual, original_mask, virtual_mask)


def _push_gradient(original: Tensor, virtual: Tensor, original_mask: Tensor, virtual_mask: Tensor) -> Tensor:
    """Return the derivative by the original's embeddings, ``(batch, seq, hidden)``, from autograd."""
    leaf = original.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(embedding_push(leaf, virtual, original_mask, virtual_mask), leaf)
    return gradient


def _hinge(original: Tensor, virtual: Tensor, original_mask: Tensor, virtual_mask: Tensor, margin: float) -> Tensor:
    return embedding_push(original, virtual, original_mask, virtual_mask, "hinge", margin)


def _map(query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    """Return the map ``(batch, heads, query, key)``: torch's own attention over one-hot values."""
    seq = key.shape[-2]
    values = torch.eye(seq, dtype=key.dtype).expand(*key.shape[:2], seq, seq)
    return scaled_dot_product_attention(query, key, values, mask[:, None, None, :].bool().expand(-1, -1, seq, -1))


def _pull(form: str) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    def answer(original: Tensor, virtual: Tensor, original_mask: Tensor, virtual_mask: Tensor) -> Tensor:
        return attention_pull(original, virtual, original_mask, virtual_mask, form)

    return answer


# --- cases -----------------------------------------------------------------------------------------------------------


def _masks(lengths: list[int], width: int) -> Tensor:
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def _streams(draw: torch.Generator, lengths: list[int], others: list[int]) -> tuple[Tensor, ...]:
    width = max(lengths + others)
    values = [torch.randn(len(lengths), width, 6, generator=draw).requires_grad_() for _ in range(2)]
    return (*values, _masks(lengths, width), _masks(others, width))


def _push_cases() -> Sequence[Case]:
    draw = torch.Generator().manual_seed(0)
    return [
        Case("two sentences without padding", _streams(draw, [4, 4], [4, 4])),
        Case("sentences of different lengths", _streams(draw, [2, 5, 3], [3, 5, 1])),
        Case("a batch of one", _streams(draw, [3], [2])),
    ]


def _push_gradient_cases() -> Sequence[Case]:
    return [Case(case.what, tuple(value.detach() for value in case.args)) for case in _push_cases()]


def _hinge_cases() -> Sequence[Case]:
    draw = torch.Generator().manual_seed(1)
    return [
        Case("a margin that no pair has reached", (*_streams(draw, [2, 3], [2, 4]), 40.0)),
        Case("a margin that some pairs have passed", (*_streams(draw, [2, 5, 3, 1], [3, 5, 1, 4]), 0.9)),
    ]


def _map_cases() -> Sequence[Case]:
    draw = torch.Generator().manual_seed(2)

    def tokens(lengths: list[int], width: int) -> tuple[Tensor, ...]:
        values = [torch.randn(len(lengths), 2, width, 8, generator=draw).requires_grad_() for _ in range(2)]
        return (*values, _masks(lengths, width))

    return [
        Case("a sentence without padding", tokens([4], 4)),
        Case("sentences with padded keys", tokens([2, 5, 3], 5)),
    ]


def _pull_cases() -> Sequence[Case]:
    draw = torch.Generator().manual_seed(3)

    def pair(lengths: list[int], others: list[int], width: int) -> tuple[Tensor, ...]:
        masks = [_masks(lengths, width), _masks(others, width)]
        maps = []
        for mask in masks:
            query, key = (torch.randn(len(lengths), 3, width, 4, generator=draw) for _ in range(2))
            maps.append(_map(2 * query, key, mask).requires_grad_())
        return (*maps, *masks)

    return [
        Case("two sentences without padding", pair([4, 4], [4, 4], 4)),
        Case("padded sentences whose copies have their length", pair([2, 5, 3], [2, 5, 3], 6)),
        Case("copies of another length than the sentence", pair([2, 4, 6], [5, 3, 6], 6)),
    ]


# --- typical mistakes ------------------------------------------------------------------------------------------------


def _means(o: Tensor, v: Tensor, m: Tensor, n: Tensor) -> Tensor:
    return masked_mean(o, m) - masked_mean(v, n)


def _over_the_batch(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask[..., None]).sum((0, 1)) / mask.sum()


def _gradient(o: Tensor, v: Tensor, m: Tensor, n: Tensor) -> Tensor:
    """Return the right gradient without the shares of the tokens, ``(batch, 1, hidden)``."""
    return -2 / (len(o) * o.shape[-1]) * _means(o, v, m, n)[:, None]


def _each(m: Tensor) -> Tensor:
    """Return each token's share of its sentence's mean, ``(batch, seq, 1)``."""
    return m[..., None] / m.sum(1)[:, None, None]


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5


def _closed(scores: Tensor, mask: Tensor) -> Tensor:
    return scores.masked_fill(mask[:, None, None, :] == 0, -torch.inf)


# How a cell can be closed: by a score that is filled in or added, or by a zero after the softmax.
_WAYS: tuple[Callable[[Tensor, Tensor, int], Tensor], ...] = (
    lambda scores, cells, axis: scores.masked_fill(cells == 0, -torch.inf).softmax(axis),
    lambda scores, cells, axis: scores.masked_fill(cells == 0, -1e9).softmax(axis),
    lambda scores, cells, axis: (scores - 1e9 * (1 - cells)).softmax(axis),
    lambda scores, cells, axis: scores.softmax(axis) * cells,
)


def _by_column(way: Callable[[Tensor, Tensor, int], Tensor], q: Tensor, k: Tensor, m: Tensor) -> Tensor:
    return way(_scores(q, k), _cells(torch.ones_like(m), m), -2)


def _both_closed(way: Callable[[Tensor, Tensor, int], Tensor], q: Tensor, k: Tensor, m: Tensor) -> Tensor:
    if way is _WAYS[-1]:
        return _closed(_scores(q, k), m).softmax(-1) * m[:, None, :, None]
    return way(_scores(q, k), _cells(m, m), -1)


def _cells(queries: Tensor, keys: Tensor) -> Tensor:
    return (queries[:, None, :, None] * keys[:, None, None, :]).float()


def _mean_over(values: Tensor, cells: Tensor) -> Tensor:
    """Return the mean over a sentence's cells and heads, then over sentences."""
    return ((values * cells).sum((1, 2, 3)) / (values.shape[1] * cells.sum((1, 2, 3)))).mean()


def _squares(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square()


def _shared(m: Tensor, n: Tensor) -> Tensor:
    return _cells(m * n, m * n)


def _kl(a: Tensor, b: Tensor, m: Tensor, n: Tensor, renewed: bool = True) -> Tensor:
    """Return the divergence of each row over the shared keys, ``(batch, heads, query)``, 0 at queries that are not."""
    cells = _shared(m, n)
    p, q = a * cells, b * cells
    if renewed:
        p, q = (rows / rows.sum(-1, keepdim=True).clamp(min=1e-30) for rows in (p, q))
    return torch.where(p > 0, p * (p.clamp(min=1e-30).log() - q.clamp(min=1e-30).log()), 0.0).sum(-1)


def _per_query(rows: Tensor, count: Tensor) -> Tensor:
    return (rows.sum((1, 2)) / (rows.shape[1] * count)).mean()


_NEGATIVE = "The sign: a loss is minimised, so a distance that should {} enters it with a {}."

_COLUMNS = (
    "Softmax along the wrong axis: each query shares its attention out among the keys, so every row sums to one. Yours "
    "sums to one by column."
)
_QUERIES = (
    "You close the padded queries, too. Encoders leave their rows as they are, which is what spoils the published "
    "pull; mask the keys alone."
)

EXERCISES = {
    "embedding_push": Exercise(
        answer=_push,
        cases=_push_cases,
        mistakes=(
            Mistake(lambda o, v, m, n: _means(o, v, m, n).square().mean(), _NEGATIVE.format("grow", "minus")),
            Mistake(
                lambda o, v, m, n: -(o.mean(1) - v.mean(1)).square().mean(),
                "The mean runs over padding too: weight the tokens with the mask and divide by how many are real.",
            ),
            Mistake(
                lambda o, v, m, n: -((o * m[..., None]).mean(1) - (v * n[..., None]).mean(1)).square().mean(),
                "Padding adds nothing to your sums, but it still counts when you divide: divide each sentence by its "
                "own number of real tokens.",
            ),
            Mistake(
                lambda o, v, m, n: -(masked_mean(o, m) - masked_mean(v, m)).square().mean(),
                "Both streams are averaged with the mask of the original: the virtual sentence has a mask of its own.",
            ),
            Mistake(
                lambda o, v, m, n: -_means(o, v, m, n).square().sum(-1).mean(),
                "You add up the squares over the width; the formula takes their mean, so that a wider encoder is not "
                "pushed harder.",
            ),
            Mistake(
                lambda o, v, m, n: -_means(o, v, m, n).norm(dim=-1).mean(),
                "That is the Euclidean distance, with a root; the push is a mean of squares, whose gradient grows with "
                "the distance.",
            ),
            Mistake(
                lambda o, v, m, n: -(_over_the_batch(o, m) - _over_the_batch(v, n)).square().mean(),
                "You average all sentences into one vector first, and their moves cancel out: one mean for each "
                "sentence, and the mean over the batch at the very end.",
            ),
            Mistake(
                lambda o, v, m, n: -_means(o, v, m, n).square().mean(-1),
                "One value for each sentence is right so far; the loss is their mean, a single number.",
            ),
        ),
        praise="That is the published push; the package has it as `losses.embedding_push`.",
    ),
    "push_gradient": Exercise(
        answer=_push_gradient,
        cases=_push_gradient_cases,
        mistakes=(
            Mistake(
                lambda o, v, m, n: -_gradient(o, v, m, n) * _each(m),
                "That is the way down, minus the gradient. The gradient itself points to where the loss grows, and so "
                "towards the virtual sentence.",
            ),
            Mistake(
                lambda o, v, m, n: (_gradient(o, v, m, n) / m.sum(1)[:, None, None]).expand_as(o),
                "Padding gets a gradient, too: a token that is not in the mean cannot change it, so multiply by the "
                "mask.",
            ),
            Mistake(
                lambda o, v, m, n: _gradient(o, v, m, n) * m[..., None],
                "Each token moves the mean by only one n-th of its own move: divide by the sentence's real tokens.",
            ),
            Mistake(
                lambda o, v, m, n: _gradient(o, v, m, n) * m[..., None] / m.shape[1],
                "You divide by the padded width; the mean was taken over the sentence's real tokens.",
            ),
            Mistake(
                lambda o, v, m, n: _gradient(o, v, m, n) * _each(m) * len(o),
                "The loss is a mean over the batch as well, so each sentence's gradient is divided by the batch size.",
            ),
            Mistake(
                lambda o, v, m, n: _gradient(o, v, m, n) * _each(m) / 2,
                "The derivative of a square has a factor of 2.",
            ),
            Mistake(
                lambda o, v, m, n: _gradient(o, v, m, n) * _each(m) * o.shape[-1],
                "The loss is a mean over the width, so every coordinate's derivative is divided by the width.",
            ),
        ),
        praise="Autograd gives the same on `losses.embedding_push`; `tests/test_losses.py` checks it by differences.",
    ),
    "hinge_push": Exercise(
        answer=_hinge,
        cases=_hinge_cases,
        mistakes=(
            Mistake(
                lambda o, v, m, n, c: (c - _means(o, v, m, n).square().mean(-1)).clamp(min=0).mean(),
                "The force is right, the zero point is not: equal sentences should give 0, so take the margin off "
                "after the clamp.",
            ),
            Mistake(
                lambda o, v, m, n, c: (c - _means(o, v, m, n).square().mean()).clamp(min=0) - c,
                "You clamp the mean of the batch. Then one far pair lets all the others off: clamp sentence by "
                "sentence.",
            ),
            Mistake(
                lambda o, v, m, n, c: (_means(o, v, m, n).square().mean(-1) - c).clamp(min=0).mean() - c,
                "This pulls back the pairs beyond the margin and leaves the near ones alone: it is the other way "
                "round.",
            ),
            Mistake(
                lambda o, v, m, n, c: -_means(o, v, m, n).square().mean(-1).clamp(min=c).mean(),
                "This keeps pushing the far pairs and lets go of the near ones: swap which side the clamp cuts off.",
            ),
            Mistake(
                lambda o, v, m, n, c: -_means(o, v, m, n).square().mean(),
                "Nothing stops at the margin yet: this is the published push, without a floor.",
            ),
            Mistake(
                lambda o, v, m, n, c: ((c - _means(o, v, m, n).norm(dim=-1)).clamp(min=0) - c).mean(),
                "The margin is measured in mean squared distance here; you compare it with the Euclidean distance.",
            ),
        ),
        praise="A floor of minus the margin: `losses.embedding_push(..., form='hinge', margin=...)`.",
    ),
    "attention_map": Exercise(
        answer=_map,
        cases=_map_cases,
        mistakes=(
            *(Mistake(partial(_by_column, way), _COLUMNS) for way in _WAYS),
            Mistake(
                lambda q, k, m: _closed(_scores(q, k) * q.shape[-1] ** 0.5, m).softmax(-1),
                "The scores are not scaled: divide the products by the root of the head's width, or the rows get too "
                "sharp.",
            ),
            Mistake(
                lambda q, k, m: _closed(_scores(q, k) / q.shape[-1] ** 0.5, m).softmax(-1),
                "You divide by the head's width; it is its root that keeps the variance of a product at one.",
            ),
            Mistake(
                lambda q, k, m: _scores(q, k).softmax(-1),
                "Padded keys get attention, too: close them before the softmax, with a score of minus infinity.",
            ),
            Mistake(
                lambda q, k, m: _scores(q, k).softmax(-1) * m[:, None, None, :],
                "Zeros put in after the softmax leave rows that no longer sum to one: close the keys before it.",
            ),
            Mistake(
                lambda q, k, m: (_scores(q, k) * m[:, None, None, :]).softmax(-1),
                "A score of zero is not a weight of zero, as exp(0) is 1: closed keys need minus infinity.",
            ),
            *(Mistake(partial(_both_closed, way), _QUERIES) for way in _WAYS),
            Mistake(
                lambda q, k, m: _closed(_scores(k, q), m).softmax(-1),
                "Queries and keys are exchanged: rows are queries, columns are keys.",
            ),
        ),
        praise="That is what `taps` reads before dropout, and what torch's fused attention never shows.",
        tolerance=1e-2,  # its gradient is a small difference of large numbers
    ),
    "attention_pull": Exercise(
        answer=_pull("published"),
        cases=_pull_cases,
        mistakes=(
            Mistake(lambda a, b, m, n: -_squares(a, b).mean(), _NEGATIVE.format("shrink", "plus")),
            Mistake(
                lambda a, b, m, n: _mean_over(_squares(a, b), _shared(m, n)),
                "You leave the padding out. That is the better form, `masked`; the published one averages over all "
                "cells.",
            ),
            Mistake(
                lambda a, b, m, n: _squares(a, b).sum(-1).mean(),
                "You add up along the keys; the published pull is a mean over them, too.",
            ),
            Mistake(
                lambda a, b, m, n: _squares(a, b).sum((1, 2, 3)).mean(),
                "You add up a sentence's cells; the published pull is their mean, over heads, queries and keys.",
            ),
            Mistake(
                lambda a, b, m, n: (a - b).abs().mean(),
                "These are absolute differences; the pull squares them, so that a few large ones count most.",
            ),
            Mistake(
                lambda a, b, m, n: _squares(a.mean(1), b.mean(1)).mean(),
                "You average the heads first, and their differences cancel out: compare head with head.",
            ),
            Mistake(
                lambda a, b, m, n: _squares(a, b).mean((1, 2, 3)).sqrt().mean(),
                "There is a root too many: the pull is a mean of squares.",
            ),
        ),
        praise="That is the published pull, `losses.attention_pull`. Now you know what it averages over.",
    ),
    "masked_pull": Exercise(
        answer=_pull("masked"),
        cases=_pull_cases,
        mistakes=(
            Mistake(
                lambda a, b, m, n: _squares(a, b).mean(),
                "Padding still counts: this is the published form. Keep the cells whose query and key are both real.",
            ),
            Mistake(
                lambda a, b, m, n: (_squares(a, b) * _shared(m, n)).mean(),
                "Padding adds nothing to your sum, but you still divide by all cells: divide by the cells that you "
                "kept.",
            ),
            Mistake(
                lambda a, b, m, n: _mean_over(_squares(a, b), _cells(torch.ones_like(m), m * n)),
                "You close the padded keys alone. Padded queries attend, too, and their rows are still in your mean.",
            ),
            Mistake(
                lambda a, b, m, n: _mean_over(_squares(a, b), _cells(m * n, torch.ones_like(m))),
                "You leave out padded queries alone; each kept row still averages over its padded keys.",
            ),
            Mistake(
                lambda a, b, m, n: _mean_over(_squares(a, b), _cells(m, m)),
                "You ask the original's mask alone: a cell must be real in both sentences.",
            ),
            Mistake(
                lambda a, b, m, n: _mean_over(_squares(a, b), _cells((m + n).clamp(max=1), (m + n).clamp(max=1))),
                "You keep what is real in either sentence: a cell must be real in both of them.",
            ),
            Mistake(
                lambda a, b, m, n: (
                    (_squares(a, b) * _shared(m, n)).sum() / (a.shape[1] * _shared(m, n).sum()).clamp(min=1)
                ),
                "You average over the cells of the whole batch, so a long sentence counts more, with the square of its "
                "length: take each sentence's mean first.",
            ),
            Mistake(
                lambda a, b, m, n: a.shape[1] * _mean_over(_squares(a, b), _shared(m, n)),
                "You add up the heads; divide by their number, too.",
            ),
        ),
        praise="It no longer depends on the padding: `losses.attention_pull(..., form='masked')`.",
    ),
    "row_kl_pull": Exercise(
        answer=_pull("row_kl"),
        cases=_pull_cases,
        mistakes=(
            Mistake(
                lambda a, b, m, n: _per_query(_kl(b, a, m, n), (m * n).sum(1)),
                "The two maps are exchanged: it is the divergence of the virtual row from the original's, weighted by "
                "the original's attention.",
            ),
            Mistake(
                lambda a, b, m, n: _per_query(_kl(a, b, m, n, renewed=False), (m * n).sum(1)),
                "Where the two sentences differ in length, rows over the shared keys no longer sum to one: divide each "
                "row by its sum first.",
            ),
            Mistake(
                lambda a, b, m, n: _kl(a, b, m, n).mean(),
                "You divide by all queries, padded ones included: divide by those that are real in both sentences.",
            ),
            Mistake(
                lambda a, b, m, n: _kl(a, b, m, n).sum((1, 2)).mean(),
                "You add up the queries and the heads: take the mean over both, or a long sentence counts more.",
            ),
            Mistake(
                lambda a, b, m, n: _per_query(_kl(a, b, m, n), (m * n).sum(1)) / torch.log(torch.tensor(2.0)),
                "Those are bits; the package uses natural logarithms.",
            ),
            Mistake(
                lambda a, b, m, n: (a * (a.log() - b.log())).sum(-1).mean(),
                "Padded keys have an attention of exactly zero, and 0 · log 0 is not a number for a computer: use the "
                "shared real keys alone, or bound the values away from zero before the logarithm.",
            ),
        ),
        praise="A divergence between distributions, blind to padding: `losses.attention_pull(..., form='row_kl')`.",
    ),
}
