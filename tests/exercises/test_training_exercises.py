"""The exercises of notebook 07: right answers written in other ways pass, each wrong one gets its own hint.

The answers here are loops and plain arithmetic, and share no code with the hints that they must meet.
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from xlt_tutorial.exercises import check, exercise

NAMES = ("paired_gain", "paired_error", "main_effect", "weight_for_share")


# --- the paired gain


def rate(marks: Any) -> float:
    return sum(map(bool, marks)) / len(marks)


def gain_loop(method: Any, baseline: Any, source: str) -> float:
    gains = []
    for seed, theirs in baseline.items():
        if seed in method:
            for language, marks in theirs.items():
                if language != source:
                    gains.append(rate(method[seed][language]) - rate(marks))
    return sum(gains) / len(gains)


def gain_stacked(method: Any, baseline: Any, source: str) -> Any:
    seeds = sorted(set(method) & set(baseline))
    targets = [t for t in baseline[seeds[0]] if t != source]
    cube = [np.array([[side[s][t] for t in targets] for s in seeds], dtype=float) for side in (method, baseline)]
    return np.einsum("sti->", cube[0] - cube[1]) / cube[0].size


def targets_mean(found: Mapping[str, Any], without: str | None) -> float:
    return statistics.fmean(rate(marks) for language, marks in found.items() if language != without)


def gain_by(
    put: Callable[[list[float]], float], pairs: bool = True, without: bool = True, divide: bool = False
) -> Callable[..., float]:
    def wrong(method: Any, baseline: Any, source: str) -> float:
        left = source if without else None
        both = set(method) & set(baseline)
        one, other = (
            put([targets_mean(found, left) for seed, found in side.items() if seed in both or not pairs])
            for side in (method, baseline)
        )
        return one / other - 1 if divide else one - other

    return wrong


def source_alone(method: Any, baseline: Any, source: str) -> float:
    return statistics.fmean(rate(method[s][source]) - rate(baseline[s][source]) for s in method if s in baseline)


# --- its error


def error_loop(method: Any, baseline: Any) -> float:
    apart = [int(a) - int(b) for a, b in zip(method, baseline, strict=True)]
    middle = sum(apart) / len(apart)
    return math.sqrt(sum((x - middle) ** 2 for x in apart) / (len(apart) - 1) / len(apart))


def error_counts(method: Any, baseline: Any) -> float:
    """From the four cells of the table of two answers."""
    n = len(method)
    won, lost = int(np.sum(method & ~baseline)), int(np.sum(~method & baseline))
    return math.sqrt((won + lost - (won - lost) ** 2 / n) / (n - 1) / n)


def of_one(marks: Any) -> float:
    share = rate(marks)
    return share * (1 - share) / (len(marks) - 1)


def root_of_all(method: Any, baseline: Any) -> float:
    return math.sqrt(len(method)) * error_loop(method, baseline)


def disagreement(method: Any, baseline: Any) -> float:
    return math.sqrt(of_one([a != b for a, b in zip(method, baseline, strict=True)]))


# --- the main effect


def effect_pairs(values: Mapping[str, float], term: str) -> float:
    pairs = []
    for others in itertools.chain.from_iterable(
        itertools.combinations([t for t in "EAR" if t != term], k) for k in range(3)
    ):
        together = "".join(t for t in "EAR" if t in (*others, term))
        pairs.append(values[together] - values["".join(t for t in "EAR" if t in others)])
    return sum(pairs) / len(pairs)


def effect_signs(values: Mapping[str, float], term: str) -> float:
    names = list(values)
    signs = np.array([1.0 if term in name else -1.0 for name in names])
    return float(signs @ np.array([values[name] for name in names])) / 4


def effect_regression(values: Mapping[str, float], term: str) -> float:
    """The slope of a linear model with all three terms."""
    design = np.array([[1.0, *(float(t in name) for t in "EAR")] for name in values])
    return float(np.linalg.lstsq(design, np.array(list(values.values())), rcond=None)[0][1 + "EAR".index(term)])


def means(values: Mapping[str, float], term: str) -> tuple[float, float]:
    return (
        statistics.fmean(v for name, v in values.items() if term in name),
        statistics.fmean(v for name, v in values.items() if term not in name),
    )


# --- the weight


def weight_bisected(norms: Mapping[str, float], weights: Mapping[str, float], term: str, share: float) -> float:
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        tried = {**weights, term: middle}
        got = tried[term] * norms[term] / sum(tried[name] * norm for name, norm in norms.items())
        low, high = (middle, high) if got < share else (low, middle)
    return low


def weight_solved(norms: Mapping[str, float], weights: Mapping[str, float], term: str, share: float) -> float:
    others = np.dot(*zip(*[(weights[name], norm) for name, norm in norms.items() if name != term], strict=True))
    return others / norms[term] / (1 / share - 1)


def others(norms: Mapping[str, float], weights: Mapping[str, float], term: str) -> float:
    return math.fsum(weights[name] * norms[name] for name in norms if name != term)


def odds(share: float) -> float:
    return share / (1 - share)


BANK: dict[str, dict[str, Callable[..., Any]]] = {
    "paired_gain": {
        "source language is in your means": gain_by(statistics.fmean, without=False),
        "sign is turned around": lambda method, baseline, source: gain_loop(baseline, method, source),
        "seeds that only one side has": gain_by(statistics.fmean, pairs=False),
        "best seed of each side": gain_by(max),
        "in per cent of the baseline": gain_by(statistics.fmean, divide=True),
        "gain in the source language": source_alone,
    },
    "paired_error": {
        "add the variances": lambda method, baseline: math.sqrt(of_one(method) + of_one(baseline)),
        "how much a single item varies": root_of_all,
        "the method's accuracy alone": lambda method, baseline: math.sqrt(of_one(method)),
        "only count disagreement": disagreement,
        "one item less": lambda method, baseline: error_loop(method, baseline) * math.sqrt(1 - 1 / len(method)),
        "no gain at all": lambda method, baseline: (
            math.sqrt(sum((int(a) - int(b)) ** 2 for a, b in zip(method, baseline, strict=True))) / len(method)
        ),
    },
    "main_effect": {
        "adds to the other two": lambda v, term: v["EAR"] - v["".join(t for t in "EAR" if t != term)],
        "does alone": lambda v, term: v[term] - v[""],
        "half of the effect": lambda v, term: means(v, term)[0] - statistics.fmean(v.values()),
        "add the four pairs up": lambda v, term: 4 * effect_pairs(v, term),
        "sign is turned around": lambda v, term: -effect_signs(v, term),
        "compare with vanilla alone": lambda v, term: means(v, term)[0] - v[""],
    },
    "weight_for_share": {
        "part of the whole": lambda n, w, t, s: s * others(n, w, t) / n[t],
        "at its old weight": lambda n, w, t, s: s * math.fsum(w[name] * n[name] for name in n) / n[t],
        "other terms have weights too": lambda n, w, t, s: odds(s) * (sum(n.values()) - n[t]) / n[t],
        "divided by its norm": lambda n, w, t, s: odds(s) * others(n, w, t),
        "How large the others are": lambda n, w, t, s: odds(s) / n[t],
    },
}

RIGHT: Sequence[tuple[str, Callable[..., Any]]] = [
    ("paired_gain", gain_loop),
    ("paired_gain", gain_stacked),
    ("paired_error", error_loop),
    ("paired_error", error_counts),
    ("main_effect", effect_pairs),
    ("main_effect", effect_signs),
    ("main_effect", effect_regression),
    ("weight_for_share", weight_bisected),
    ("weight_for_share", weight_solved),
]


@pytest.mark.parametrize(("name", "right"), RIGHT)
def test_right_answers_written_differently_pass(name: str, right: Callable[..., Any]) -> None:
    verdict = check(name, right)
    assert verdict, verdict.message
    assert verdict.message == exercise(name).praise


@pytest.mark.parametrize(("name", "hint"), [(name, hint) for name, wrong in BANK.items() for hint in wrong])
def test_each_wrong_answer_gets_its_own_hint(name: str, hint: str) -> None:
    verdict = check(name, BANK[name][hint])
    assert verdict.status == "wrong"
    assert hint in verdict.message


@pytest.mark.parametrize("name", NAMES)
def test_every_hint_is_met_once(name: str) -> None:
    hints = [mistake.hint for mistake in exercise(name).mistakes]
    assert [sum(part in hint for part in BANK[name]) for hint in hints] == [1] * len(hints)
    assert len(set(hints)) == len(hints) == len(BANK[name])


@pytest.mark.parametrize("name", NAMES)
def test_an_unfinished_answer_says_so(name: str) -> None:
    def dots(*_: Any) -> Any:
        """Return something."""
        ...

    assert check(name, dots).status == "unfinished"


@pytest.mark.parametrize("name", NAMES)
def test_the_hints_do_not_give_the_code_away(name: str) -> None:
    for mistake in exercise(name).mistakes:
        assert not re.search(r"np\.|torch\.|lambda|for \w+ in|\*\*|sqrt\(", mistake.hint)


def test_the_weight_gives_the_share_that_was_asked_for() -> None:
    from xlt_tutorial.training import gradient_shares

    for case in exercise("weight_for_share").cases():
        norms, weights, term, share = case.args
        weight = exercise("weight_for_share").answer(*case.args)
        assert gradient_shares(norms, {**weights, term: weight})[term] == pytest.approx(share)
