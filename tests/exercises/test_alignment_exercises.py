"""The exercises of notebook 09: right answers written in other ways pass, each wrong one gets its own hint.

The answers here are plain loops, einsum and NumPy, and share no code with the hints that they must meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from xlt_tutorial.alignment import linear_cka, mexa, retrieval
from xlt_tutorial.exercises import check, exercise
from xlt_tutorial.exercises.values import same

NAMES = ("centred_p1", "linear_cka", "permutation_p", "mexa_chance", "peeking_gain")


# --- centred_p1


def mean_of(rows: Any) -> list[float]:
    return [math.fsum(column) / len(column) for column in zip(*rows, strict=True)]


def less(rows: Any, mean: list[float]) -> list[list[float]]:
    return [[x - m for x, m in zip(row, mean, strict=True)] for row in rows]


def dot(a: Any, b: Any) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def found_by(score: Callable[[Any, Any], float], queries: Any, keys: Any) -> float:
    """Share of queries whose best key is the one of the same number."""
    best = [max(range(len(keys)), key=lambda j: score(query, keys[j])) for query in queries]
    return sum(i == j for i, j in enumerate(best)) / len(best)


def cos(a: Any, b: Any) -> float:
    return dot(a, b) / (math.hypot(*a) * math.hypot(*b))


def p1_loop(source: Any, target: Any) -> float:
    return found_by(cos, less(source, mean_of(source)), less(target, mean_of(target)))


def p1_einsum(source: Any, target: Any) -> Any:
    s, t = (torch.from_numpy(cloud) - torch.from_numpy(cloud).mean(dim=0) for cloud in (source, target))
    cosine = torch.einsum("ih,jh->ij", torch.nn.functional.normalize(s), torch.nn.functional.normalize(t))
    return (cosine.argmax(dim=1) == torch.arange(len(s))).float().mean()


def p1_scipy(source: Any, target: Any) -> Any:
    distance = cdist(source - np.average(source, axis=0), target - np.average(target, axis=0), "cosine")
    return np.mean(np.argmin(distance, axis=1) == np.arange(len(distance)))


def p1_common(source: Any, target: Any) -> float:
    mean = mean_of([*source, *target])
    return found_by(cos, less(source, mean), less(target, mean))


def p1_whitened(source: Any, target: Any) -> Any:
    z = [
        (cloud - cloud.mean(axis=0)) / np.sqrt(np.mean((cloud - cloud.mean(axis=0)) ** 2, axis=0))
        for cloud in (source, target)
    ]
    return np.mean(np.argmin(cdist(*z, "cosine"), axis=1) == np.arange(len(source)))


def p1_unit_first(source: Any, target: Any) -> float:
    s, t = ([[x / math.hypot(*row) for x in row] for row in cloud] for cloud in (source, target))
    return p1_loop(s, t)


def about_source(source: Any, target: Any) -> float:
    return found_by(cos, less(source, mean_of(source)), less(target, mean_of(source)))


def rowwise(source: Any, target: Any) -> float:
    s, t = ([[x - sum(row) / len(row) for x in row] for row in cloud] for cloud in (source, target))
    return found_by(cos, s, t)


def dots(source: Any, target: Any) -> float:
    return found_by(dot, less(source, mean_of(source)), less(target, mean_of(target)))


def straight(source: Any, target: Any) -> float:
    return found_by(lambda a, b: -math.dist(a, b), less(source, mean_of(source)), less(target, mean_of(target)))


RIGHT_P1 = (p1_loop, p1_einsum, p1_scipy)
WRONG_P1 = {
    "P@1 without centring": lambda s, t: found_by(cos, s.tolist(), t.tolist()),
    "lost the mean of the source": about_source,
    "lost one common mean": p1_common,
    "over the coordinates of each vector": rowwise,
    "before they were centred": p1_unit_first,
    "repairs more than a shift": p1_whitened,
    "a long vector wins": dots,
    "Euclidean distance is another question": straight,
    "here each *source* item looks": lambda s, t: p1_loop(t, s),
}


# --- linear_cka


def products(a: Any, b: Any) -> list[list[float]]:
    """a' b by loops, (hidden of a, hidden of b)."""
    return [[dot(left, right) for right in zip(*b, strict=True)] for left in zip(*a, strict=True)]


def size(matrix: Any) -> float:
    return math.sqrt(math.fsum(x * x for row in matrix for x in row))


def cka_of(s: Any, t: Any) -> float:
    return size(products(t, s)) ** 2 / (size(products(s, s)) * size(products(t, t)))


def cka_loop(source: Any, target: Any) -> float:
    return cka_of(less(source, mean_of(source)), less(target, mean_of(target)))


def cka_kernels(source: Any, target: Any) -> Any:
    n = len(source)
    centre = np.eye(n) - np.full((n, n), 1 / n)
    k, l = (centre @ x @ x.T @ centre for x in (source, target))  # noqa: E741
    return np.sum(k * l) / math.sqrt(np.sum(k * k) * np.sum(l * l))


def cka_einsum(source: Any, target: Any) -> Any:
    s, t = (torch.tensor(cloud) - torch.tensor(cloud).mean(0, keepdim=True) for cloud in (source, target))
    across, own, other = (torch.einsum("ia,ib->ab", a, b).pow(2).sum() for a, b in ((t, s), (s, s), (t, t)))
    return across / (own * other).sqrt()


def cka_spectral(source: Any, target: Any) -> Any:
    s, t = (cloud - cloud.mean(axis=0) for cloud in (source, target))
    largest = [np.linalg.svd(a.T @ b, compute_uv=False)[0] for a, b in ((t, s), (s, s), (t, t))]
    return largest[0] ** 2 / (largest[1] * largest[2])


def cka_lengths(source: Any, target: Any) -> float:
    s, t = less(source, mean_of(source)), less(target, mean_of(target))
    return size(products(t, s)) ** 2 / (size(s) ** 2 * size(t) ** 2)


def cka_items(source: Any, target: Any) -> float:
    s, t = less(source, mean_of(source)), less(target, mean_of(target))
    return cka_of([*zip(*s, strict=True)], [*zip(*t, strict=True)])


def cka_unit(source: Any, target: Any) -> float:
    s, t = less(source, mean_of(source)), less(target, mean_of(target))
    return cka_of(*([[x / math.hypot(*row) for x in row] for row in cloud] for cloud in (s, t)))


def cka_standard(source: Any, target: Any) -> float:
    return cka_of(*((cloud - cloud.mean(axis=0)) / np.sqrt(cloud.var(axis=0)) for cloud in (source, target)))


def cka_rows(source: Any, target: Any) -> float:
    return cka_of(*([[x - sum(row) / len(row) for x in row] for row in cloud] for cloud in (source, target)))


RIGHT_CKA = (cka_loop, cka_kernels, cka_einsum)
WRONG_CKA = {
    "still have their means": lambda s, t: cka_of(s.tolist(), t.tolist()),
    "over the coordinates of each vector": cka_rows,
    "A square is missing": lambda s, t: math.sqrt(cka_loop(s, t)),
    "with itself, not of the clouds": cka_lengths,
    "spectral norm": cka_spectral,
    "compare single items": cka_items,
    "brought to length 1": cka_unit,
    "narrow directions weigh as much": cka_standard,
}


# --- permutation_p


def hits(source: Any, target: Any) -> int:
    return round(found_by(cos, source.tolist(), target.tolist()) * len(source))


def p_loop(source: Any, target: Any, orders: Any) -> float:
    observed, reached = hits(source, target), 1
    for order in orders.tolist():
        reached += hits(source, np.array([target[j] for j in order])) >= observed
    return reached / (len(orders) + 1)


def p_numpy(source: Any, target: Any, orders: Any) -> Any:
    """The cosines once; a new order of the targets is a new order of the columns."""
    cosine = 1 - cdist(source, target, "cosine")
    rows = np.arange(len(source))
    scores = np.array([(cosine[:, order].argmax(axis=1) == rows).mean() for order in [rows, *orders]])
    return np.mean(scores >= scores[0])


def counted(source: Any, target: Any, orders: Any) -> tuple[int, np.ndarray]:
    return hits(source, target), np.array([hits(source, target[order]) for order in orders])


def p_plain(source: Any, target: Any, orders: Any) -> Any:
    observed, drawn = counted(source, target, orders)
    return np.mean(drawn >= observed)


def p_half(source: Any, target: Any, orders: Any) -> Any:
    observed, drawn = counted(source, target, orders)
    return (np.sum(drawn >= observed) + 1) / drawn.size


def p_other_half(source: Any, target: Any, orders: Any) -> Any:
    observed, drawn = counted(source, target, orders)
    return np.sum(drawn >= observed) / (drawn.size + 1)


def p_over(source: Any, target: Any, orders: Any) -> Any:
    observed, drawn = counted(source, target, orders)
    return (np.sum(drawn > observed) + 1) / (drawn.size + 1)


def p_below(source: Any, target: Any, orders: Any) -> Any:
    observed, drawn = counted(source, target, orders)
    return (np.sum(drawn <= observed) + 1) / (drawn.size + 1)


def p_both(source: Any, target: Any, orders: Any) -> float:
    observed = hits(source, target)
    return (1 + sum(hits(source[order], target[order]) >= observed for order in orders)) / (1 + len(orders))


RIGHT_P = (p_loop, p_numpy)
WRONG_P = {
    "never 0": p_plain,
    "above the line and not below": p_half,
    "below the line and not above": p_other_half,
    "exactly as good": p_over,
    "other tail": p_below,
    "every item kept its translation": p_both,
}


# --- mexa_chance


def chance_by_counting(items: int) -> float:
    """The numbers that compete for one item: its row and its column, in which its own stands twice."""
    return 1 / len({*((0, j) for j in range(items)), *((i, 0) for i in range(items))})


RIGHT_CHANCE = (chance_by_counting, lambda items: (items + items - 1) ** -1, lambda n: np.float64(0.5) / (n - 0.5))
WRONG_CHANCE = {
    "the chance of P@1": lambda items: np.reciprocal(float(items)),
    "not independent": lambda items: (1 / items) * (1 / items),
    "and is one number": lambda items: 0.5 / items,
    "counted the rivals": lambda items: 1 / (items - 1 + items - 1),
}


# --- peeking_gain


def target_means(test: Any, source: str) -> list[float]:
    targets = [language for language in test if language != source]
    return [sum(test[t][k] for t in targets) / len(targets) for k in range(len(test[source]))]


def gain_loop(dev: Any, test: Any, source: str) -> float:
    means, chosen = target_means(test, source), 0
    for k in range(1, len(dev)):
        chosen = k if dev[k] > dev[chosen] else chosen
    return max(means) - means[chosen]


def gain_pandas(dev: Any, test: Any, source: str) -> Any:
    import pandas as pd

    means = pd.DataFrame(test).drop(columns=source).mean(axis=1)
    return means.max() - means[pd.Series(dev).idxmax()]


def gain_with_source(dev: Any, test: Any, source: str) -> float:
    means = [sum(values) / len(values) for values in zip(*test.values(), strict=True)]
    return max(means) - means[int(np.argmax(dev))]


def gain_each(dev: Any, test: Any, source: str) -> float:
    at, targets = int(np.argmax(dev)), [language for language in test if language != source]
    return sum(max(test[t]) - test[t][at] for t in targets) / len(targets)


def oracle_twice(dev: Any, test: Any, source: str) -> float:
    means = target_means(test, source)
    return max(means) - means[means.index(max(means))]


def gain_source_test(dev: Any, test: Any, source: str) -> float:
    return gain_loop(test[source], test, source)


RIGHT_GAIN = (gain_loop, gain_pandas)
WRONG_GAIN = {
    "source language is in your mean": gain_with_source,
    "a checkpoint of its own": gain_each,
    "The sign": lambda dev, test, source: min(0, -gain_loop(dev, test, source)),
    "Both sides were chosen on the targets": oracle_twice,
    "Test items choose nothing": gain_source_test,
    "The last checkpoint": lambda dev, test, source: max(target_means(test, source)) - target_means(test, source)[-1],
    "not the mean of them all": lambda dev, test, source: (
        max(target_means(test, source)) - sum(target_means(test, source)) / len(dev)
    ),
    "Dev accuracy only chooses": lambda dev, test, source: max(target_means(test, source)) - max(dev),
}

RIGHT = dict(zip(NAMES, (RIGHT_P1, RIGHT_CKA, RIGHT_P, RIGHT_CHANCE, RIGHT_GAIN), strict=True))
WRONG = dict(zip(NAMES, (WRONG_P1, WRONG_CKA, WRONG_P, WRONG_CHANCE, WRONG_GAIN), strict=True))


@pytest.mark.parametrize(("name", "number"), [(name, i) for name in NAMES for i in range(len(RIGHT[name]))])
def test_right_answers_written_in_other_ways_pass(name: str, number: int) -> None:
    verdict = check(name, RIGHT[name][number])
    assert verdict.status == "right", verdict.message
    assert verdict.message == exercise(name).praise


@pytest.mark.parametrize(("name", "hint"), [(name, hint) for name in NAMES for hint in WRONG[name]])
def test_each_wrong_answer_gets_its_own_hint(name: str, hint: str) -> None:
    verdict = check(name, WRONG[name][hint])
    assert verdict.status == "wrong"
    assert hint in verdict.message
    assert sum(hint in mistake.hint for mistake in exercise(name).mistakes) == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_mistake_is_met_by_a_wrong_answer_and_differs_from_every_other_one(name: str) -> None:
    task = exercise(name)
    assert len(task.mistakes) == len(WRONG[name])
    cases = list(task.cases())
    values = [
        [function(*case.args) for case in cases] for function in (task.answer, *(m.function for m in task.mistakes))
    ]
    assert not [pair for pair in combinations(values, 2) if same(*pair, task.tolerance)]


@pytest.mark.parametrize("name", NAMES)
def test_an_unfinished_answer_says_so(name: str) -> None:
    def dotted(*args):
        """What to write."""
        ...

    assert check(name, dotted).status == "unfinished"
    assert check(name, lambda *args: None).status == "unfinished"


@pytest.mark.parametrize("name", NAMES)
def test_no_constant_passes(name: str) -> None:
    for value in (0, 1, 0.5, exercise(name).answer(*exercise(name).cases()[0].args)):
        assert check(name, lambda *args, value=value: value).status == "wrong"


def test_the_answers_are_those_of_the_alignment_kit() -> None:
    for case in exercise("centred_p1").cases():
        assert exercise("centred_p1").answer(*case.args) == retrieval(*case.args, centred=True)["from_source"]
        assert exercise("linear_cka").answer(*case.args) == linear_cka(*case.args)


def test_mexa_of_unrelated_clouds_is_the_chance_that_the_exercise_asks_for() -> None:
    draw = np.random.default_rng(0)
    found = np.mean([mexa(*draw.normal(size=(2, 4, 20))) for _ in range(3000)])
    assert exercise("mexa_chance").answer(4) == pytest.approx(1 / 7) == pytest.approx(found, abs=0.02)
