"""The exercises of notebook 10: right answers written in other ways pass, each wrong one gets its own hint.

The answers here are loops, pandas and NumPy, and share no code with the hints that they must meet.
"""

from __future__ import annotations

import itertools
import math
import statistics
from itertools import combinations as both_of
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from xlt_tutorial.exercises import check, exercise
from xlt_tutorial.exercises.values import same
from xlt_tutorial.statistics import gain_interval, sign_flip
from xlt_tutorial.tasks import load_task

NAMES = ("generalized_pairs", "premise_se", "holm", "optimizer_steps")


# --- generalized_pairs


def pairs_loop(rows: Any, source: str) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {source: [tuple(row) for row in rows[source]]}
    for one in rows:
        for other in rows:
            if one != other:
                made[one + "-" + other] = []
                for i in range(len(rows[source])):
                    made[one + "-" + other].append((rows[one][i][0], rows[other][i][1], rows[source][i][2]))
    return made


def pairs_pandas(rows: Any, source: str) -> dict[str, list[Any]]:
    tables = {language: pd.DataFrame(items) for language, items in rows.items()}
    made = {source: tables[source].values.tolist()}
    for one, other in itertools.product(tables, tables):
        if one is not other:
            table = pd.concat([tables[one][0], tables[other][1], tables[source][2]], axis=1)
            made["-".join((one, other))] = table.values.tolist()
    return made


def only(keep: Any) -> Any:
    """The pairs whose two languages, or whose one code, ``keep`` wants."""

    def answer(rows: Any, source: str) -> dict[str, list[Any]]:
        return {key: items for key, items in pairs_loop(rows, source).items() if keep(key.split("-"), source, [*rows])}

    return answer


def pairs_turned(rows: Any, source: str) -> dict[str, list[Any]]:
    return {"-".join(reversed(key.split("-"))): items for key, items in pairs_loop(rows, source).items()}


def pairs_own(rows: Any, source: str) -> dict[str, list[Any]]:
    return pairs_loop(rows, source) | {f"{language}-{language}": rows[language] for language in rows}


def pairs_doubled_key(rows: Any, source: str) -> dict[str, list[Any]]:
    made = pairs_loop(rows, source)
    made[f"{source}-{source}"] = made.pop(source)
    return made


RIGHT_PAIRS = (pairs_loop, pairs_pandas)
WRONG_PAIRS = {
    "are there once": only(lambda key, source, order: len(key) == 1 or order.index(key[0]) < order.index(key[1])),
    "each language with itself": pairs_own,
    "source alone is missing": only(lambda key, source, order: len(key) == 2),
    "have changed places": pairs_turned,
    "Two targets make pairs too": only(lambda key, source, order: source in key),
    "You pair the targets alone": only(lambda key, source, order: key == [source] or source not in key),
    "keeps its own code": pairs_doubled_key,
}


# --- premise_se


def se_loop(method: Any, baseline: Any, premises: Any) -> float:
    rows = len(premises)
    gain = sum(bool(m) - bool(b) for m, b in zip(method, baseline, strict=True)) / rows
    deviation: dict[Any, float] = {}
    for m, b, premise in zip(method, baseline, premises, strict=True):
        deviation[premise] = deviation.get(premise, 0.0) + (int(m) - int(b) - gain)
    count = len(deviation)
    return math.sqrt(count / (count - 1) * sum(value**2 for value in deviation.values())) / rows


def se_pandas(method: Any, baseline: Any, premises: Any) -> Any:
    table = pd.DataFrame({"premise": premises, "d": method.astype(int) - baseline.astype(int)})
    blocks = (table["d"] - table["d"].mean()).groupby(table["premise"]).sum()
    return np.sqrt(len(blocks) * blocks.var()) / len(table)  # the blocks' mean is 0


def blocks_of(values: list[float], premises: Any) -> list[list[float]]:
    found: dict[Any, list[float]] = {}
    for value, premise in zip(values, premises, strict=True):
        found.setdefault(premise, []).append(value)
    return list(found.values())


def differences(method: Any, baseline: Any) -> list[float]:
    return [float(m) - float(b) for m, b in zip(method, baseline, strict=True)]


def se_rows(method: Any, baseline: Any, premises: Any) -> float:
    d = differences(method, baseline)
    return statistics.stdev(d) / math.sqrt(len(d))


def se_triples(method: Any, baseline: Any, premises: Any) -> float:
    return se_loop(method, baseline, [f"block {i // 3}" for i in range(len(premises))])


def se_means(method: Any, baseline: Any, premises: Any) -> float:
    means = [statistics.fmean(block) for block in blocks_of(differences(method, baseline), premises)]
    return statistics.stdev(means) / math.sqrt(len(means))


def se_apart(method: Any, baseline: Any, premises: Any) -> float:
    nothing = np.zeros(len(premises), dtype=int)
    return math.sqrt(se_loop(method, nothing, premises) ** 2 + se_loop(baseline, nothing, premises) ** 2)


def se_spread(method: Any, baseline: Any, premises: Any) -> float:
    return se_loop(method, baseline, premises) * len(set(premises)) ** 0.5


def se_biased(method: Any, baseline: Any, premises: Any) -> float:
    count = len(set(premises))
    return se_loop(method, baseline, premises) * math.sqrt((count - 1) / count)


def se_summed(method: Any, baseline: Any, premises: Any) -> float:
    return se_loop(method, baseline, premises) * len(premises) / len(set(premises))


RIGHT_SE = (se_loop, se_pandas)
WRONG_SE = {
    "every row as a draw of its own": se_rows,
    "by their place in the file": se_triples,
    "average within each premise first": se_means,
    "variances of two accuracies": se_apart,
    "spread of single premises": se_spread,
    "C / (C - 1) is missing": se_biased,
    "divide by the number of rows": se_summed,
    "without the 1.96": lambda m, b, p: 1.96 * se_loop(m, b, p),
}


# --- holm


def holm_loop(p: Any) -> list[float]:
    """Each p against all the smaller ones: the largest of the products up to it."""
    ranked = sorted(range(len(p)), key=lambda i: (p[i], i))
    out = [0.0] * len(p)
    worst = 0.0
    for rank, i in enumerate(ranked):
        worst = max(worst, (len(p) - rank) * p[i])
        out[i] = min(1.0, worst)
    return out


def holm_by_levels(p: Any) -> Any:
    """The smallest level at which the step-down procedure still rejects: for each p a search over all products."""
    values = np.asarray(p)
    found = []
    for value in values:
        smaller = np.sort(values[values <= value])
        found.append(max((len(values) - k) * q for k, q in enumerate(smaller)))
    return np.clip(found, 0, 1)


def holm_bare(p: Any) -> list[float]:
    ranked = sorted(range(len(p)), key=lambda i: (p[i], i))
    return [min(1.0, (len(p) - ranked.index(i)) * p[i]) for i in range(len(p))]


def holm_open(p: Any) -> list[float]:
    ranked = sorted(range(len(p)), key=lambda i: (p[i], i))
    return [max((len(p) - k) * p[j] for k, j in enumerate(ranked[: ranked.index(i) + 1])) for i in range(len(p))]


def holm_backwards(p: Any) -> list[float]:
    ranked = sorted(range(len(p)), key=lambda i: (p[i], i))
    out, worst = [0.0] * len(p), 0.0
    for rank, i in enumerate(ranked, 1):
        worst = max(worst, rank * p[i])
        out[i] = min(1.0, worst)
    return out


def holm_short(p: Any) -> list[float]:
    ranked = sorted(range(len(p)), key=lambda i: (p[i], i))
    out, worst = [0.0] * len(p), 0.0
    for rank, i in enumerate(ranked, 1):
        worst = max(worst, (len(p) - rank) * p[i])
        out[i] = min(1.0, worst)
    return out


def holm_independent(p: Any) -> list[float]:
    ranked = sorted(range(len(p)), key=lambda i: (p[i], i))
    out, worst = [0.0] * len(p), 0.0
    for rank, i in enumerate(ranked):
        worst = max(worst, 1 - math.prod([1 - p[i]] * (len(p) - rank)))
        out[i] = worst
    return out


RIGHT_HOLM = (holm_loop, holm_by_levels)
WRONG_HOLM = {
    "That is Bonferroni": lambda p: np.minimum(np.array(p) * len(p), 1),
    "the running maximum": holm_bare,
    "A probability above 1": holm_open,
    "in the wrong order": lambda p: sorted(holm_loop(p)),
    "Benjamini and Hochberg": lambda p: stats.false_discovery_control(p),
    "factors upside down": holm_backwards,
    "One too few": holm_short,
    "for independent tests": holm_independent,
}


# --- optimizer_steps


def steps_loop(rows: int, copies: int, batch_size: int, accumulate: int, epochs: int) -> int:
    steps = 0
    for _ in range(epochs):
        batches, left = 0, rows * copies
        while left > 0:
            left, batches = left - batch_size, batches + 1
        while batches > 0:
            batches, steps = batches - accumulate, steps + 1
    return steps


def steps_numpy(rows: int, copies: int, batch_size: int, accumulate: int, epochs: int) -> Any:
    batches = np.array_split(np.arange(rows * copies), np.arange(batch_size, rows * copies, batch_size))
    return epochs * len(range(0, len(batches), accumulate))


def steps_in_rounds(rows: int, copies: int, batch_size: int, accumulate: int, epochs: int) -> int:
    batches = sum(len(range(0, rows, batch_size)) for _ in range(copies))
    return epochs * len(range(0, batches, accumulate))


RIGHT_STEPS = (steps_loop, steps_numpy)
WRONG_STEPS = {
    "The copies do not count": lambda n, c, b, a, e: steps_loop(n, 1, b, a, e),
    "You round down": lambda n, c, b, a, e: e * int(n * c / b / a),
    "once, for the whole run": lambda n, c, b, a, e: len(range(0, n * c * e, b * a)),
    "each round of copies": steps_in_rounds,
    "Those are batches": lambda n, c, b, a, e: e * len(range(0, n * c, b)),
    "That is one epoch": lambda n, c, b, a, e: steps_loop(n, c, b, a, e) // e,
    "not more: divide": lambda n, c, b, a, e: e * a * len(range(0, n * c, b)),
    "both streams as rows": lambda n, c, b, a, e: steps_loop(n, c, b + b, a, e),
}

RIGHT = dict(zip(NAMES, (RIGHT_PAIRS, RIGHT_SE, RIGHT_HOLM, RIGHT_STEPS), strict=True))
WRONG: dict[str, dict[str, Any]] = dict(zip(NAMES, (WRONG_PAIRS, WRONG_SE, WRONG_HOLM, WRONG_STEPS), strict=True))


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
    assert not [pair for pair in both_of(values, 2) if same(*pair, task.tolerance)]


@pytest.mark.parametrize("name", NAMES)
def test_an_unfinished_answer_says_so(name: str) -> None:
    def dotted(*args):
        """What to write."""
        ...

    assert check(name, dotted).status == "unfinished"
    assert check(name, lambda *args: None).status == "unfinished"


# --- the answers are what the package does -------------------------------------------------------------------------


def test_pairs_are_those_that_load_task_scores(tmp_path: Any) -> None:
    rows = {
        language: [(f"{language} a{i}", f"{language} b{i}", "yn"[i % 2]) for i in range(3)]
        for language in "en de fr".split()
    }
    for language, items in rows.items():
        lines = ["id\tone\ttwo\tlabel", *(f"{i}\t{a}\t{b}\t{label}" for i, (a, b, label) in enumerate(items))]
        (tmp_path / f"test.{language}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    task = load_task(tmp_path, generalized=True)
    scored = {
        key: [(row["one"], row["two"], task.labels[row["label"]]) for row in task["test"][key]]
        for key in task.languages
    }
    assert exercise("generalized_pairs").answer(rows, "en") == scored == pairs_loop(rows, "en")


def test_the_error_is_that_of_drawing_premises_again() -> None:
    """Half the width of the package's interval, which draws premises, is 1.96 of these errors or a little more."""
    for case in exercise("premise_se").cases():
        method, baseline, premises = case.args
        told = {"a": {0: {"en": baseline, "de": baseline}}, "b": {0: {"en": method, "de": method}}}
        entry = gain_interval(told, "a", groups=premises, resamples=4000)["b"]["de"]
        low, high = entry["by_seed"][0]["interval"]
        error = exercise("premise_se").answer(*case.args)
        # Student's quantile of so few premises
        assert (high - low) / 2 / error == pytest.approx(stats.t.ppf(0.975, len(set(premises)) - 1), rel=0.08)
        drawn = np.random.default_rng(0)
        groups = [np.flatnonzero(np.array(premises) == name) for name in dict.fromkeys(premises)]
        d = method.astype(float) - baseline
        gains = [
            d[np.concatenate([groups[i] for i in drawn.integers(len(groups), size=len(groups))])].mean()
            for _ in range(4000)
        ]
        assert np.std(gains) == pytest.approx(error, rel=0.08)


def test_holm_is_what_sign_flip_reports() -> None:
    rng = np.random.default_rng(4)
    right = {language: rng.random(60) < 0.6 for language in ("en", "de", "ja", "sw", "tr")}
    better = {language: value | (rng.random(60) < 0.05 * at) for at, (language, value) in enumerate(right.items())}
    rows = sign_flip({"a": {0: right}, "b": {0: better}}, "a")["b"]
    rows.pop("target_mean")
    assert [row["holm"] for row in rows.values()] == pytest.approx(holm_loop([row["p"] for row in rows.values()]))
