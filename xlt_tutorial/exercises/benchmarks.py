"""Exercises of notebook 10: generalized pairs, an error by premises, Holm's correction, and equal work."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np

from xlt_tutorial.batching import Row, TwoStreamBatches
from xlt_tutorial.exercises import Case, Exercise, Mistake
from xlt_tutorial.statistics import _holm, detectable
from xlt_tutorial.tasks import ParallelTask, _datasets, _generalized

Array = np.ndarray
Items = Sequence[tuple[str, str, str]]  # first text, second text, label
Pairs = dict[str, list[tuple[str, str, str]]]


# --- generalized_pairs: two sentences in two languages


def _pairs(rows: Mapping[str, Items], source: str) -> Pairs:
    """Let ``load_task(..., generalized=True)``'s own function make them, from a task of these rows."""
    labels = tuple(sorted({label for *_, label in rows[source]}))
    ids = [str(number) for number in range(len(rows[source]))]
    tables = {
        language: dict(
            zip(("id", "first", "second", "label"), (ids, *map(list, zip(*items, strict=True))), strict=True)
        )
        for language, items in rows.items()
    }
    languages = (source, *(language for language in rows if language != source))
    task = ParallelTask("told", source, languages, labels, ("first", "second"), _datasets({"test": tables}, labels))
    return {
        key: [(row["first"], row["second"], labels[row["label"]]) for row in scored]
        for key, scored in _generalized(task)["test"].items()
    }


def _rows(languages: str, count: int, seed: int) -> dict[str, Items]:
    """Made-up items whose texts name their language, place and number."""
    labels = np.random.default_rng(seed).choice(["entailment", "neutral", "contradiction"], count)
    return {
        language: [(f"{language} premise {i}", f"{language} hypothesis {i}", str(labels[i])) for i in range(count)]
        for language in languages.split()
    }


def _pair_cases() -> Sequence[Case]:
    return [
        Case("English and two targets", (_rows("en de fr", 3, 1), "en")),
        Case("a source that does not stand first", (_rows("sw en th vi", 4, 2), "en")),
        Case("German as the source", (_rows("en de", 2, 3), "de")),
    ]


def _crossed(rows: Mapping[str, Items], one: str, other: str) -> list[tuple[str, str, str]]:
    return [(mine[0], theirs[1], mine[2]) for mine, theirs in zip(rows[one], rows[other], strict=True)]


def _all_pairs(rows: Mapping[str, Items], keep: Callable[[str, str], bool] = lambda one, other: True) -> Pairs:
    return {f"{one}-{other}": _crossed(rows, one, other) for one, other in permutations(rows, 2) if keep(one, other)}


def _alone(rows: Mapping[str, Items], source: str) -> Pairs:
    return {source: list(rows[source])}


# --- premise_se: the error of a paired gain, premises resampled


def _premise_se(method: Array, baseline: Array, premises: Sequence[Any]) -> float:
    told = {
        name: {0: {"source": right, "target": right}} for name, right in (("baseline", baseline), ("method", method))
    }
    return float(detectable(told, "baseline", "source", premises)["method"]["target"]["se"])


def _premise_cases() -> Sequence[Case]:
    draw = np.random.default_rng(5)

    def answers(what: str, sizes: Sequence[int], mixed: bool) -> Case:
        """Rows whose difficulty is partly their premise's, for each method anew, so that the premise matters."""
        premise = np.repeat(np.arange(len(sizes)), sizes)
        rows = len(premise)
        hard = draw.normal(size=rows)
        first, second = (hard + draw.normal(size=len(sizes))[premise] + draw.normal(size=rows) for _ in range(2))
        order = draw.permutation(rows) if mixed else np.arange(rows)
        right = [(first[order] > -0.8), (second[order] > -0.5)]
        return Case(what, (*right, [f"premise {number}" for number in premise[order]]))

    return [
        answers("premises of three rows", [3] * 30, mixed=False),
        answers("premises of unequal size", draw.integers(1, 6, 25).tolist(), mixed=False),
        answers("rows in mixed order", [3] * 24, mixed=True),
    ]


def _difference(method: Array, baseline: Array) -> Array:
    return np.asarray(method, dtype=float) - np.asarray(baseline, dtype=float)


def _sums(difference: Array, premises: Sequence[Any]) -> tuple[Array, Array]:
    """Each premise's sum of differences and its number of rows."""
    _, number = np.unique(np.asarray(premises), return_inverse=True)
    return np.bincount(number, difference), np.bincount(number).astype(float)


def _error(sums: Array, sizes: Array, less: int = 1) -> float:
    spread = ((sums - sizes * sums.sum() / sizes.sum()) ** 2).sum()
    return float(math.sqrt(len(sums) / (len(sums) - less) * spread) / sizes.sum())


def _by_place(method: Array, baseline: Array, premises: Sequence[Any]) -> float:
    return _error(*_sums(_difference(method, baseline), [place // 3 for place in range(len(premises))]))


def _means_first(method: Array, baseline: Array, premises: Sequence[Any]) -> float:
    sums, sizes = _sums(_difference(method, baseline), premises)
    return float((sums / sizes).std(ddof=1) / math.sqrt(len(sums)))


def _unpaired(method: Array, baseline: Array, premises: Sequence[Any]) -> float:
    return math.hypot(*(_error(*_sums(np.asarray(one, dtype=float), premises)) for one in (method, baseline)))


def _per_premise(method: Array, baseline: Array, premises: Sequence[Any]) -> float:
    sums, sizes = _sums(_difference(method, baseline), premises)
    return _error(sums, sizes) * sizes.sum() / len(sizes)


# --- holm: p-values of several languages


def _p_values() -> Sequence[Case]:
    draw = np.random.default_rng(9)

    def some(small: int, large: int) -> list[float]:
        values = np.concatenate([draw.uniform(0.001, 0.03, small), draw.uniform(0.2, 0.9, large)])
        return [round(value, 4) for value in draw.permutation(values).tolist()]

    return [
        Case("fourteen languages", (some(6, 8),)),
        Case("five languages, two of them with the same p", ([*some(1, 1), 0.02, 0.6, 0.02],)),
        Case("small values that lie close together", ([0.011, 0.0102, 0.013, 0.0101, 0.0128],)),
        Case("a single language", ([0.031],)),
    ]


def _stepped(
    p: Sequence[float], factors: Callable[[int], Array], running: bool = True, cap: bool = True
) -> list[float]:
    order = np.argsort(p, kind="stable")
    steps = np.asarray(p)[order] * factors(len(p))
    steps = np.maximum.accumulate(steps) if running else steps
    steps = np.minimum(steps, 1) if cap else steps
    return [float(value) for value in steps[np.argsort(order, kind="stable")]]


def _down(count: int) -> Array:
    return np.arange(count, 0, -1)


def _false_discovery(p: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's."""
    order = np.argsort(p)[::-1]
    steps = np.minimum.accumulate(np.asarray(p)[order] * len(p) / _down(len(p)))
    return [float(min(1, value)) for value in steps[np.argsort(order)]]


# --- optimizer_steps


def _steps(rows: int, copies: int, batch_size: int, accumulate: int, epochs: int) -> int:
    """As ``training.train`` counts them."""
    tokenizer: Any = None
    batches = TwoStreamBatches([Row("", (), (0,), 0)] * rows, tokenizer, batch_size, 0, copies=copies)
    return math.ceil(len(batches) / accumulate) * epochs


def _step_cases() -> Sequence[Case]:
    return [
        Case("three copies", (1000, 3, 32, 1, 1)),
        Case("several epochs with gradients accumulated", (701, 1, 16, 3, 8)),
        Case("all of it at once", (501, 3, 64, 5, 4)),
    ]


EXERCISES = {
    "generalized_pairs": Exercise(
        answer=_pairs,
        cases=_pair_cases,
        mistakes=(
            Mistake(
                lambda rows, source: (
                    _alone(rows, source)
                    | {f"{one}-{other}": _crossed(rows, one, other) for one, other in combinations(rows, 2)}
                ),
                "Each two languages are there once. A German premise with a French hypothesis is another question than "
                "a French premise with a German one.",
            ),
            Mistake(
                lambda rows, source: (
                    _alone(rows, source) | {f"{t}-{t}": list(items) for t, items in rows.items()} | _all_pairs(rows)
                ),
                "You also pair each language with itself. That is the plain task, which is scored without generalized.",
            ),
            Mistake(
                lambda rows, source: _all_pairs(rows),
                "The source alone is missing. It is the accuracy that the price of all other pairs is counted from.",
            ),
            Mistake(
                lambda rows, source: (
                    _alone(rows, source)
                    | {f"{one}-{other}": _crossed(rows, other, one) for one, other in permutations(rows, 2)}
                ),
                'The two languages have changed places: in "de-fr" the first text is the German one.',
            ),
            Mistake(
                lambda rows, source: _alone(rows, source) | _all_pairs(rows, lambda one, other: source in (one, other)),
                "You pair the source with each target. Two targets make pairs too, and those are the hardest ones.",
            ),
            Mistake(
                lambda rows, source: (
                    _alone(rows, source) | _all_pairs(rows, lambda one, other: source not in (one, other))
                ),
                "You pair the targets alone. A source premise with a target hypothesis, and the reverse, belong to it.",
            ),
            Mistake(
                lambda rows, source: {f"{source}-{source}": list(rows[source])} | _all_pairs(rows),
                "The source alone keeps its own code as its key: both of its sentences are in one language.",
            ),
        ),
        praise='`load_task("xnli", generalized=True)` scores these pairs; only the source\'s own train is trained on.',
    ),
    "premise_se": Exercise(
        answer=_premise_se,
        cases=_premise_cases,
        mistakes=(
            Mistake(
                lambda method, baseline, premises: _error(*_sums(_difference(method, baseline), range(len(premises)))),
                "You treat every row as a draw of its own. Rows of one premise go right and wrong together: add them "
                "up by premise first.",
            ),
            Mistake(
                _by_place,
                "You take blocks of three by their place in the file. That fails where a premise has more rows or "
                "fewer, or the rows are mixed: go by the premise itself.",
            ),
            Mistake(
                _means_first,
                "You average within each premise first, so a row of a large premise counts less than one of a small "
                "one. The gain is a mean over rows.",
            ),
            Mistake(
                _unpaired,
                "You add the variances of two accuracies, as if each method had been tested on other items. Take the "
                "difference of the two answers to each row first.",
            ),
            Mistake(
                lambda method, baseline, premises: (
                    _premise_se(method, baseline, premises) * math.sqrt(len({*premises}))
                ),
                "That is the spread of single premises. Their mean is surer, by the square root of their number.",
            ),
            Mistake(
                lambda method, baseline, premises: _error(*_sums(_difference(method, baseline), premises), less=0),
                "The deviations are from a mean that the same premises gave, so they are a little small: the factor "
                "C / (C - 1) is missing.",
            ),
            Mistake(
                _per_premise,
                "That is the error of the gain summed over a premise: divide by the number of rows, not by that of "
                "premises.",
            ),
            Mistake(
                lambda method, baseline, premises: 1.96 * _premise_se(method, baseline, premises),
                "That is half of a 95 % interval. The standard error comes without the 1.96.",
            ),
        ),
        praise=(
            "The package has it with seeds crossed in: `statistics.detectable(..., groups=premises)`. `xlt compare` "
            "finds the premises by itself."
        ),
    ),
    "holm": Exercise(
        answer=lambda p: _holm(p),
        cases=_p_values,
        mistakes=(
            Mistake(
                lambda p: [min(1.0, len(p) * value) for value in p],
                "That is Bonferroni: every p times their number. Holm is never worse: the next larger p has one test "
                "less to pay for.",
            ),
            Mistake(
                lambda p: _stepped(p, _down, running=False),
                "A larger p has come out smaller than a lesser one. Once a language fails, no later one may pass: take "
                "the running maximum.",
            ),
            Mistake(
                lambda p: _stepped(p, _down, cap=False),
                "A probability above 1 has come out: cut it off there.",
            ),
            Mistake(
                lambda p: sorted(_stepped(p, _down)),
                "The values are right and in the wrong order: each belongs to the language whose p it was.",
            ),
            Mistake(
                _false_discovery,
                "That is Benjamini and Hochberg's correction, which bounds the share of false finds. Holm bounds the "
                "chance of a single one.",
            ),
            Mistake(
                lambda p: _stepped(p, lambda count: np.arange(1, count + 1)),
                "You have the factors upside down: the *smallest* p is multiplied by the number of all tests.",
            ),
            Mistake(
                lambda p: _stepped(p, lambda count: _down(count) - 1),
                "One too few: the smallest of m p-values is multiplied by m, the largest by 1.",
            ),
            Mistake(
                lambda p: [
                    float(value)
                    for value in np.maximum.accumulate(1 - (1 - np.sort(p)) ** _down(len(p)))[
                        np.argsort(np.argsort(p, kind="stable"), kind="stable")
                    ]
                ],
                "That is the form for independent tests (Šidák's). The languages answer the same items, so they are "
                "not independent.",
            ),
        ),
        praise="`statistics.sign_flip` does this over the languages of each method, and leaves the target mean alone.",
        tolerance=1e-6,
    ),
    "optimizer_steps": Exercise(
        answer=_steps,
        cases=_step_cases,
        mistakes=(
            Mistake(
                lambda rows, copies, batch_size, accumulate, epochs: _steps(rows, 1, batch_size, accumulate, epochs),
                "The copies do not count in yours. A row is visited once for each of its virtual copies, so three "
                "copies are three times the steps.",
            ),
            Mistake(
                lambda rows, copies, batch_size, accumulate, epochs: (
                    max(1, rows * copies // batch_size // accumulate) * epochs
                ),
                "You round down. The last batch of an epoch is short and still a step: nothing is dropped.",
            ),
            Mistake(
                lambda rows, copies, batch_size, accumulate, epochs: math.ceil(
                    rows * copies * epochs / (batch_size * accumulate)
                ),
                "You round once, for the whole run. Each epoch ends with a step of its own, however short.",
            ),
            Mistake(
                lambda rows, copies, batch_size, accumulate, epochs: (
                    math.ceil(math.ceil(rows / batch_size) * copies / accumulate) * epochs
                ),
                "You cut each round of copies into batches by itself. All copies of an epoch are shuffled together, "
                "and only one batch is short.",
            ),
            Mistake(
                lambda rows, copies, batch_size, accumulate, epochs: _steps(rows, copies, batch_size, 1, epochs),
                "Those are batches. With `accumulate`, so many batches make one step.",
            ),
            Mistake(
                lambda rows, copies, batch_size, accumulate, epochs: _steps(rows, copies, batch_size, accumulate, 1),
                "That is one epoch: multiply by their number.",
            ),
            Mistake(
                lambda rows, copies, batch_size, accumulate, epochs: (
                    _steps(rows, copies, batch_size, 1, epochs) * accumulate
                ),
                "More batches to a step make fewer steps, not more: divide.",
            ),
            Mistake(
                lambda rows, copies, batch_size, accumulate, epochs: _steps(
                    rows, copies, 2 * batch_size, accumulate, epochs
                ),
                "You count both streams as rows of the batch. `batch_size` counts original sentences; their copies "
                "come on top.",
            ),
        ),
        praise="Two methods have done the same work where this number and the forwards of a step agree.",
        tolerance=1e-9,
    ),
}
