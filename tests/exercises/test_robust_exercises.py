"""The exercises of notebook 06: right answers written in other ways pass, each wrong one gets its own hint.

The answers here are loops and NumPy, and share no code with the hints that they must meet.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from xlt_tutorial.exercises import check, exercise

NAMES = ("robust_target", "flip_rate", "unchanged", "consistency", "gradient_shares")


def average(values: Any) -> Any:
    values = list(values)
    return sum(values[1:], start=values[0]) / len(values)


# --- the robust target


def surprise(row: Any, label: int) -> Any:
    """Minus the log of the probability of a label, from one row of logits."""
    return torch.log(sum(torch.exp(x - row[label]) for x in row))


def ce(logits: Any, labels: Any) -> Any:
    return average(surprise(row, int(label)) for row, label in zip(logits, labels, strict=True))


def robust_gather(o: Any, v: Any, y: Any) -> Any:
    rows = torch.arange(len(y))
    return -(torch.log_softmax(o, 1)[rows, y] + torch.log_softmax(v, 1)[rows, y]).mean()


def own_answer(o: Any, v: Any, y: Any) -> Any:
    return ce(o, y) + ce(v, [max(range(len(row)), key=lambda c: row[c].item()) for row in o])


def two_softmaxes(o: Any, v: Any, y: Any) -> Any:
    return sum(ce([torch.exp(row) / torch.exp(row).sum() for row in logits], y) for logits in (o, v))


def out_of_step(o: Any, v: Any, y: Any) -> Any:
    """The labels twice each, as if the streams were dealt out in turns."""
    rows, doubled = [*o, *v], [int(label) for label in y for _ in range(2)]
    return 2 * average(surprise(row, label) for row, label in zip(rows, doubled, strict=True))


# --- flips


def flips_loop(o: Any, v: Any, y: Any, s: Any) -> float:
    seen = [(a, b) for a, b, touched in zip(o, v, s, strict=True) if touched]
    return sum(a != b for a, b in seen) / len(seen)


def flips_masked(o: Any, v: Any, y: Any, s: Any) -> Any:
    return ((o != v) & s).sum() / s.sum()


def among(rule: Callable[[int, int, int], bool]) -> Callable[..., float]:
    """The share of swapped rows of which ``rule(before, after, label)`` is true."""

    def found(o: Any, v: Any, y: Any, s: Any) -> float:
        rows = [rule(a, b, c) for a, b, c, touched in zip(o, v, y, s, strict=True) if touched]
        return sum(rows) / len(rows)

    return found


def lost_accuracy(o: Any, v: Any, y: Any, s: Any) -> float:
    return among(lambda a, b, c: a == c)(o, v, y, s) - among(lambda a, b, c: b == c)(o, v, y, s)


# --- rows without a swap


def unchanged_loop(words: Sequence[int], rate: float) -> float:
    return sum(math.prod([1 - rate] * k) for k in words) / len(words)


def unchanged_exp(words: Sequence[int], rate: float) -> Any:
    return np.exp(np.array(words) * math.log1p(-rate)).mean()


# --- consistency


def kl(row: Any, other: Any) -> Any:
    p, q = (torch.exp(one) / torch.exp(one).sum() for one in (row, other))
    return sum(x * torch.log(x / y) for x, y in zip(p, q, strict=True))


def consistency_loop(o: Any, v: Any) -> Any:
    return average((kl(a, b) + kl(b, a)) / 2 for a, b in zip(o, v, strict=True))


def consistency_jeffreys(o: Any, v: Any) -> Any:
    p, q = torch.softmax(o, 1), torch.softmax(v, 1)
    return torch.einsum("bc,bc->", p - q, torch.log(p) - torch.log(q)) / (2 * len(o))


# --- shares


def shares_loop(norms: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
    total = 0.0
    for name in norms:
        total += math.fabs(weights[name] * norms[name])
    return {name: math.fabs(weights[name] * norms[name]) / total for name in norms}


def shares_numpy(norms: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, Any]:
    sizes = np.abs([norms[name] * weights[name] for name in norms])
    return dict(zip(norms, sizes / np.linalg.norm(sizes, 1), strict=True))


def shares_with(size: Callable[[float, float], float], whole: Callable[[list[float]], float] = sum) -> Any:
    def wrong(norms: Mapping[str, float], weights: Mapping[str, float]) -> dict[str, float]:
        sizes = [size(norm, weights[name]) for name, norm in norms.items()]
        return {name: one / whole(sizes) for name, one in zip(norms, sizes, strict=True)}

    return wrong


BANK: dict[str, dict[str, Callable[..., Any]]] = {
    "robust_target": {
        "the mean of the two cross-entropies": lambda o, v, y: average([ce(o, y), ce(v, y)]),
        "original sentence is missing": lambda o, v, y: ce(v, y),
        "the model's own answer": own_answer,
        "Two softmaxes": two_softmaxes,
        "hang on its size": lambda o, v, y: len(y) * (ce(o, y) + ce(v, y)),
        "out of step": out_of_step,
    },
    "flip_rate": {
        "Rows without a swap cannot flip": lambda o, v, y, s: flips_loop(o, v, y, [True] * len(o)),
        "loss of accuracy": lost_accuracy,
        "from right to wrong alone": among(lambda a, b, c: a == c and b != c),
        "error rate under the swap": among(lambda a, b, c: b != c),
        "share that stays": among(lambda a, b, c: a == b),
    },
    "unchanged": {
        "into the power": lambda words, rate: math.pow(1 - rate, sum(words) / len(words)),
        "Chances do not add up": lambda words, rate: sum(max(0.0, 1 - k * rate) for k in words) / len(words),
        "asked for are the others": lambda words, rate: 1 - unchanged_loop(words, rate),
        "every word is swapped": lambda words, rate: unchanged_loop(words, 1 - rate),
    },
    "consistency": {
        "half of their sum": lambda o, v: 2 * consistency_loop(o, v),
        "KL(p || p') alone": lambda o, v: average(map(kl, o, v)),
        "KL(p' || p) alone": lambda o, v: average(map(kl, v, o)),
        "mean over the classes": lambda o, v: consistency_loop(o, v) / o.shape[1],
        "add up the rows": lambda o, v: consistency_loop(o, v) * o.shape[0],
        "squared distance": lambda o, v: average(
            ((torch.exp(a) / torch.exp(a).sum() - torch.exp(b) / torch.exp(b).sum()) ** 2).sum()
            for a, b in zip(o, v, strict=True)
        ),
    },
    "gradient_shares": {
        "weights are missing": shares_with(lambda norm, weight: norm),
        "share out squares": shares_with(lambda norm, weight: (norm * weight) ** 2),
        "at right angles": shares_with(lambda norm, weight: abs(norm * weight), lambda sizes: math.hypot(*sizes)),
        "turns a gradient around": shares_with(lambda norm, weight: norm * weight),
        "by the largest": shares_with(lambda norm, weight: abs(norm * weight), max),
        "divide each by their sum": shares_with(lambda norm, weight: abs(norm * weight), lambda sizes: 1.0),
    },
}


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("robust_target", lambda o, v, y: ce(o, y) + ce(v, y)),
        ("robust_target", robust_gather),
        ("flip_rate", flips_loop),
        ("flip_rate", flips_masked),
        ("unchanged", unchanged_loop),
        ("unchanged", unchanged_exp),
        ("consistency", consistency_loop),
        ("consistency", consistency_jeffreys),
        ("gradient_shares", shares_loop),
        ("gradient_shares", shares_numpy),
    ],
)
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
        assert not re.search(r"np\.|torch\.|lambda|for \w+ in|\(dim=", mistake.hint)


def test_a_target_that_cannot_train_is_told() -> None:
    assert "no gradient" in check("robust_target", lambda o, v, y: robust_gather(o, v, y).item()).message
