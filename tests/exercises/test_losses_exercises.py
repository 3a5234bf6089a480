"""The exercises of notebooks 04 and 05: right answers written in other ways pass, each wrong one gets its own hint.

The answers here are loops, einsum and NumPy, one number at a time where that can be, and share no code with the hints
that they must meet.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from xlt_tutorial.exercises import check, exercise

NAMES = (
    "embedding_push",
    "push_gradient",
    "hinge_push",
    "attention_map",
    "attention_pull",
    "masked_pull",
    "row_kl_pull",
)


def stacked(values: Any) -> Any:
    return torch.stack(list(values))


def ones(mask: Any) -> list[int]:
    """Places of a row's real tokens."""
    return [t for t, real in enumerate(mask.tolist()) if real]


# --- the push and its gradient


def centre(tokens: Any, places: list[int], count: int | None = None) -> Any:
    total = tokens[0] * 0
    for t in places:
        total = total + tokens[t]
    return total / (count or len(places))


def gaps(o: Any, v: Any, m: Any, n: Any) -> list[Any]:
    """Difference of the two means, one for each sentence."""
    return [centre(o[b], ones(m[b])) - centre(v[b], ones(n[b])) for b in range(len(o))]


def average(values: Any) -> Any:
    values = list(values)
    return sum(values[1:], start=values[0]) / len(values)


def mean_square(gap: Any) -> Any:
    return average(x * x for x in gap)


def push_loop(o: Any, v: Any, m: Any, n: Any) -> Any:
    return -average(mean_square(gap) for gap in gaps(o, v, m, n))


def push_einsum(o: Any, v: Any, m: Any, n: Any) -> Any:
    share = [mask.float() / mask.float().sum(1, keepdim=True) for mask in (m, n)]
    gap = torch.einsum("bsd,bs->bd", o, share[0]) - torch.einsum("bsd,bs->bd", v, share[1])
    return -torch.einsum("bd,bd->", gap, gap) / gap.numel()


def push_numpy(o: Any, v: Any, m: Any, n: Any) -> np.ndarray:
    """The gradient on the original's tokens, from the formula."""
    o, v, m, n = (one.detach().numpy().astype(float) for one in (o, v, m, n))
    u, w = ((x * y[:, :, None]).sum(1) / y.sum(1)[:, None] for x, y in ((o, m), (v, n)))
    return -2 * ((u - w) / m.sum(1)[:, None])[:, None, :] * m[:, :, None] / u.size


def gradient_differences(o: Any, v: Any, m: Any, n: Any) -> np.ndarray:
    """The same by finite differences of the loop."""
    o, v = o.detach().double(), v.detach().double()
    found = np.zeros(o.shape)
    for place in np.ndindex(*o.shape):
        ends = []
        for step in (1e-4, -1e-4):
            moved = o.clone()
            moved[place] += step
            ends.append(float(push_loop(moved, v, m, n)))
        found[place] = (ends[0] - ends[1]) / 2e-4
    return found


def gradient_loop(o: Any, v: Any, m: Any, n: Any, change: Callable[[float, int, int], float]) -> np.ndarray:
    """The gradient, one token at a time; ``change(value, real tokens, 1 or 0)`` is the share of a token."""
    found = np.zeros(o.shape)
    for b, gap in enumerate(gaps(o, v, m, n)):
        for t in range(o.shape[1]):
            for d in range(o.shape[2]):
                value = -2 * gap[d].item() / (o.shape[0] * o.shape[2])
                found[b, t, d] = change(value, len(ones(m[b])), int(m[b, t]))
    return found


def wrong_gradient(change: Callable[[float, int, int], float]) -> Callable[..., np.ndarray]:
    return partial(gradient_loop, change=change)


def width_gradient(o: Any, v: Any, m: Any, n: Any) -> np.ndarray:
    return gradient_loop(o, v, m, n, lambda g, real, mask: g * mask / m.shape[1])


def batch_gradient(o: Any, v: Any, m: Any, n: Any) -> np.ndarray:
    return gradient_loop(o, v, m, n, lambda g, real, mask: g * mask / real * o.shape[0])


def coordinate_gradient(o: Any, v: Any, m: Any, n: Any) -> np.ndarray:
    return gradient_loop(o, v, m, n, lambda g, real, mask: g * mask / real * o.shape[2])


def padded_push(o: Any, v: Any, m: Any, n: Any) -> Any:
    everything = list(range(o.shape[1]))
    return -average(mean_square(centre(o[b], everything) - centre(v[b], everything)) for b in range(len(o)))


def diluted_push(o: Any, v: Any, m: Any, n: Any) -> Any:
    width = o.shape[1]
    found = [centre(o[b], ones(m[b]), width) - centre(v[b], ones(n[b]), width) for b in range(len(o))]
    return -average(map(mean_square, found))


def one_mean_push(o: Any, v: Any, m: Any, n: Any) -> Any:
    tokens = [torch.cat([x[b][ones(y[b])] for b in range(len(x))]) for x, y in ((o, m), (v, n))]
    return -mean_square(tokens[0].mean(0) - tokens[1].mean(0))


# --- the hinge


def hinge_loop(o: Any, v: Any, m: Any, n: Any, margin: float) -> Any:
    return average(-torch.minimum(mean_square(gap), torch.tensor(margin)) for gap in gaps(o, v, m, n))


def hinge_relu(o: Any, v: Any, m: Any, n: Any, margin: float) -> Any:
    distance = torch.einsum("bd->b", stacked(gaps(o, v, m, n)) ** 2) / o.shape[-1]
    return torch.relu(margin - distance).mean() - margin


def hinge_each(rule: Callable[[Any, float], Any]) -> Callable[..., Any]:
    def wrong(o: Any, v: Any, m: Any, n: Any, margin: float) -> Any:
        return average(rule(mean_square(gap), margin) for gap in gaps(o, v, m, n))

    return wrong


def hinge_batch(o: Any, v: Any, m: Any, n: Any, margin: float) -> Any:
    distance = average(mean_square(gap) for gap in gaps(o, v, m, n))
    return -distance if distance < margin else distance * 0 - margin


def hinge_root(o: Any, v: Any, m: Any, n: Any, margin: float) -> Any:
    far = [torch.linalg.vector_norm(gap) for gap in gaps(o, v, m, n)]
    return average(-one if one < margin else one * 0 - margin for one in far)


# --- the map


def map_loop(q: Any, k: Any, m: Any) -> Any:
    batch, heads, seq, width = q.shape
    out = torch.zeros(batch, heads, seq, seq)
    for b in range(batch):
        for h in range(heads):
            for i in range(seq):
                rises = {j: torch.exp(torch.dot(q[b, h, i], k[b, h, j]) / math.sqrt(width)) for j in ones(m[b])}
                for j, rise in rises.items():
                    out[b, h, i, j] = rise / sum(rises.values())
    return out


def map_einsum(q: Any, k: Any, m: Any) -> Any:
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k) * q.shape[-1] ** -0.5
    rises = torch.exp(scores - scores.amax(-1, keepdim=True)) * m[:, None, None]
    return rises / torch.einsum("bhqk->bhq", rises)[..., None]


def map_with(scale: Callable[[int], float] = math.sqrt, axis: int = 3, closed: float | None = -1e9) -> Any:
    """The map with another scale, axis, or score of a closed key (``None`` leaves all open)."""

    def wrong(q: Any, k: Any, m: Any) -> Any:
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / scale(q.shape[-1])
        if closed is not None:
            scores = torch.where(m.bool()[:, None, None].expand_as(scores), scores, torch.tensor(float(closed)))
        return torch.nn.functional.softmax(scores, dim=axis)

    return wrong


def map_zeroed(q: Any, k: Any, m: Any) -> Any:
    return torch.einsum("bhqk,bk->bhqk", map_with(closed=None)(q, k, m), m.float())


def map_queries(q: Any, k: Any, m: Any) -> Any:
    return torch.einsum("bhqk,bq->bhqk", map_einsum(q, k, m), m.float())


def map_queries_filled(q: Any, k: Any, m: Any) -> Any:
    allowed = torch.einsum("bq,bk->bqk", m.float(), m.float())[:, None]
    return (torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(q.shape[-1]) + (allowed - 1) * 1e9).softmax(3)


def map_columns_emptied(q: Any, k: Any, m: Any) -> Any:
    return torch.einsum("bhqk,bk->bhqk", map_with(closed=None, axis=2)(q, k, m), m.float())


# --- the pull


def pull_loop(
    a: Any,
    b: Any,
    places: Callable[[int], tuple[list[int], list[int]]],
    cost: Callable[[Any], Any] = lambda x: x * x,
    over: str = "cells heads",
) -> Any:
    """The pull cell by cell; ``places(i)`` gives queries and keys of a sentence, ``over`` what divides the sums."""
    found = []
    for i in range(len(a)):
        queries, keys = places(i)
        total = a.sum() * 0
        for h in range(a.shape[1]):
            for q in queries:
                for k in keys:
                    total = total + cost(a[i, h, q, k] - b[i, h, q, k])
        count = len(queries) * len(keys) if "cells" in over else a.shape[2] ** 2 if "all" in over else 1
        count = len(queries) if "queries" in over else count
        found.append(total / (count * (a.shape[1] if "heads" in over else 1)))
    return average(found)


def every(a: Any) -> Callable[[int], tuple[list[int], list[int]]]:
    return lambda i: (list(range(a.shape[2])), list(range(a.shape[2])))


def shared(m: Any, n: Any) -> Callable[[int], tuple[list[int], list[int]]]:
    def places(i: int) -> tuple[list[int], list[int]]:
        both = sorted({*ones(m[i])} & {*ones(n[i])})
        return both, both

    return places


def published_loop(a: Any, b: Any, m: Any, n: Any) -> Any:
    return pull_loop(a, b, every(a))


def published_einsum(a: Any, b: Any, m: Any, n: Any) -> Any:
    gap = a - b
    return torch.einsum("bhqk,bhqk->", gap, gap) / gap.numel()


def heads_first(a: Any, b: Any, m: Any, n: Any) -> Any:
    gap = torch.einsum("bhqk->bqk", a - b) / a.shape[1]
    return torch.einsum("bqk,bqk->", gap, gap) / gap.numel()


def rooted(a: Any, b: Any, m: Any, n: Any) -> Any:
    return average(torch.sqrt(published_einsum(a[i : i + 1], b[i : i + 1], m, n)) for i in range(len(a)))


def masked_loop(a: Any, b: Any, m: Any, n: Any) -> Any:
    return pull_loop(a, b, shared(m, n))


def masked_cut(a: Any, b: Any, m: Any, n: Any) -> Any:
    """Cut the shared square out of each sentence's maps; the masks are prefixes."""
    sizes = [min(len(ones(m[i])), len(ones(n[i]))) for i in range(len(a))]
    return average(((a[i] - b[i])[:, :s, :s] ** 2).mean() for i, s in enumerate(sizes))


def masked_pool(a: Any, b: Any, m: Any, n: Any) -> Any:
    sizes = [min(len(ones(m[i])), len(ones(n[i]))) for i in range(len(a))]
    return torch.cat([((a[i] - b[i])[:, :s, :s] ** 2).flatten() for i, s in enumerate(sizes)]).mean()


def either(m: Any, n: Any) -> Callable[[int], tuple[list[int], list[int]]]:
    def places(i: int) -> tuple[list[int], list[int]]:
        any_ = sorted({*ones(m[i])} | {*ones(n[i])})
        return any_, any_

    return places


def keys_alone(a: Any, b: Any, m: Any, n: Any) -> Any:
    return pull_loop(a, b, lambda i: (every(a)(i)[0], shared(m, n)(i)[1]))


def queries_alone(a: Any, b: Any, m: Any, n: Any) -> Any:
    return pull_loop(a, b, lambda i: (shared(m, n)(i)[0], every(a)(i)[1]))


def row_loop(
    a: Any,
    b: Any,
    m: Any,
    n: Any,
    renew: bool = True,
    over: Callable[[int, int, int], float] = lambda heads, queries, seq: heads * queries,
    base: float = math.e,
) -> Any:
    """KL row by row; ``over(heads, queries, seq)`` is what a sentence's sum is divided by."""
    found = []
    for i in range(len(a)):
        both, total = shared(m, n)(i)[0], a.sum() * 0
        for h in range(a.shape[1]):
            for q in both:
                p, r = a[i, h, q][both], b[i, h, q][both]
                if renew:
                    p, r = p / p.sum(), r / r.sum()
                for x, y in zip(p, r, strict=True):
                    total = total + x * torch.log(x / y) / math.log(base)
        found.append(total / over(a.shape[1], len(both), a.shape[2]))
    return average(found)


def row_torch(a: Any, b: Any, m: Any, n: Any) -> Any:
    found = []
    for i in range(len(a)):
        s = min(len(ones(m[i])), len(ones(n[i])))
        p, q = (torch.nn.functional.normalize(one[i, :, :s, :s], p=1, dim=-1) for one in (a, b))
        found.append(torch.nn.functional.kl_div(q.log(), p, reduction="sum") / (a.shape[1] * s))
    return average(found)


BANK: dict[str, dict[str, list[Callable[..., Any]]]] = {
    "embedding_push": {
        "sign": [lambda *x: -push_loop(*x)],
        "runs over padding too": [padded_push],
        "still counts when you divide": [diluted_push],
        "mask of its own": [lambda o, v, m, n: push_loop(o, v, m, m)],
        "mean, so that a wider encoder": [lambda o, v, m, n: o.shape[-1] * push_einsum(o, v, m, n)],
        "Euclidean": [lambda *x: -average(torch.sqrt((gap * gap).sum()) for gap in gaps(*x))],
        "into one vector first": [one_mean_push],
        "One value for each sentence": [lambda *x: -stacked(mean_square(gap) for gap in gaps(*x))],
    },
    "push_gradient": {
        "way down": [wrong_gradient(lambda g, real, mask: -g * mask / real)],
        "Padding gets a gradient": [wrong_gradient(lambda g, real, mask: g / real)],
        "one n-th of its own move": [wrong_gradient(lambda g, real, mask: g * mask)],
        "padded width": [width_gradient],
        "divided by the batch size": [batch_gradient],
        "factor of 2": [wrong_gradient(lambda g, real, mask: g * mask / real / 2)],
        "divided by the width": [coordinate_gradient],
    },
    "hinge_push": {
        "zero point": [hinge_each(lambda d, c: torch.relu(c - d))],
        "mean of the batch": [hinge_batch],
        "other way round": [hinge_each(lambda d, c: torch.relu(d - c) - c)],
        "keeps pushing the far pairs": [hinge_each(lambda d, c: -torch.maximum(d, torch.tensor(c)))],
        "without a floor": [hinge_each(lambda d, c: (c - d) - c)],
        "Euclidean": [hinge_root],
    },
    "attention_map": {
        "wrong axis": [map_with(axis=2), map_columns_emptied, map_with(axis=2, closed=-math.inf)],
        "not scaled": [map_with(scale=lambda width: 1.0)],
        "it is its root": [map_with(scale=float)],
        "Padded keys get attention": [map_with(closed=None)],
        "after the softmax": [map_zeroed],
        "exp(0) is 1": [map_with(closed=0.0)],
        "padded queries, too": [map_queries, map_queries_filled],
        "exchanged": [lambda q, k, m: map_einsum(k, q, m)],
    },
    "attention_pull": {
        "sign": [lambda *x: -published_loop(*x)],
        "You leave the padding out": [masked_loop],
        "along the keys": [lambda a, b, m, n: pull_loop(a, b, every(a), over="queries heads")],
        "sentence's cells": [lambda a, b, m, n: pull_loop(a, b, every(a), over="")],
        "absolute": [lambda a, b, m, n: pull_loop(a, b, every(a), cost=abs)],
        "heads first": [heads_first],
        "root too many": [rooted],
    },
    "masked_pull": {
        "Padding still counts": [published_loop],
        "still divide by all cells": [lambda a, b, m, n: pull_loop(a, b, shared(m, n), over="all heads")],
        "padded keys alone": [keys_alone],
        "padded queries alone": [queries_alone],
        "the original's mask alone": [lambda a, b, m, n: pull_loop(a, b, shared(m, m))],
        "in either sentence": [lambda a, b, m, n: pull_loop(a, b, either(m, n))],
        "whole batch": [masked_pool],
        "add up the heads": [lambda a, b, m, n: pull_loop(a, b, shared(m, n), over="cells")],
    },
    "row_kl_pull": {
        "maps are exchanged": [lambda a, b, m, n: row_loop(b, a, m, n)],
        "no longer sum to one": [partial(row_loop, renew=False)],
        "padded ones included": [partial(row_loop, over=lambda heads, queries, seq: heads * seq)],
        "queries and the heads": [partial(row_loop, over=lambda heads, queries, seq: 1.0)],
        "bits": [partial(row_loop, base=2.0)],
        "0 · log 0": [lambda a, b, m, n: torch.einsum("bhqk,bhqk->", a, a.log() - b.log()) / (a.numel() / a.shape[-1])],
    },
}


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("embedding_push", push_loop),
        ("embedding_push", push_einsum),
        ("push_gradient", push_numpy),
        ("push_gradient", gradient_differences),
        ("hinge_push", hinge_loop),
        ("hinge_push", hinge_relu),
        ("attention_map", map_loop),
        ("attention_map", map_einsum),
        ("attention_map", map_with()),
        ("attention_pull", published_loop),
        ("attention_pull", published_einsum),
        ("masked_pull", masked_loop),
        ("masked_pull", masked_cut),
        ("row_kl_pull", row_loop),
        ("row_kl_pull", row_torch),
    ],
)
def test_right_answers_written_differently_pass(name: str, right: Callable[..., Any]) -> None:
    verdict = check(name, right)
    assert verdict, verdict.message
    assert verdict.message == exercise(name).praise


@pytest.mark.parametrize(
    ("name", "hint", "number"),
    [(name, hint, i) for name, wrong in BANK.items() for hint, all_ in wrong.items() for i in range(len(all_))],
)
def test_each_wrong_answer_gets_its_own_hint(name: str, hint: str, number: int) -> None:
    verdict = check(name, BANK[name][hint][number])
    assert verdict.status == "wrong"
    assert hint in verdict.message


@pytest.mark.parametrize("name", NAMES)
def test_every_hint_is_met_once(name: str) -> None:
    hints = {mistake.hint for mistake in exercise(name).mistakes}
    assert sorted(sum(part in hint for part in BANK[name]) for hint in hints) == [1] * len(BANK[name])


@pytest.mark.parametrize("name", NAMES)
def test_an_unfinished_answer_says_so(name: str) -> None:
    def dots(*_: Any) -> Any:
        """Return something."""
        ...

    assert check(name, dots).status == "unfinished"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "push_gradient"])
def test_an_answer_that_cannot_train_is_told(name: str) -> None:
    right = {"hinge_push": hinge_loop, "attention_map": map_loop}.get(
        name, push_loop if "push" in name else masked_loop
    )
    verdict = check(name, lambda *x: right(*x).detach())
    assert verdict.status == "wrong"
    assert "no gradient" in verdict.message


@pytest.mark.parametrize("name", NAMES)
def test_the_hints_do_not_give_the_code_away(name: str) -> None:
    for mistake in exercise(name).mistakes:
        assert not re.search(r"np\.|torch\.|lambda|for \w+ in|\(dim=", mistake.hint)
