"""Exercises of notebook 02: right answers written otherwise pass, each wrong one meets its own hint.

The answers here are loops, pandas and scipy, and share no code with the hints that they must meet.
"""

from __future__ import annotations

import math
import statistics

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from xlt_tutorial.exercises import check, exercise


def passes(name, function):
    verdict = check(name, function)
    assert verdict.status == "right", verdict.message


def rejected(name, function, words):
    verdict = check(name, function)
    assert verdict.status == "wrong"
    assert words in verdict.message, verdict.message


@pytest.mark.parametrize("name", ["target_mean", "select_epoch", "gap_interval", "paired_p"])
def test_an_unfinished_answer_says_so(name):
    def stub(*args):
        """Still to be written."""
        ...

    assert check(name, stub).status == "unfinished"


# --- target_mean


def mean_by_loop(accuracy, source):
    total = count = 0
    for language in accuracy:
        if language != source:
            total, count = total + accuracy[language], count + 1
    return total / count


RIGHT_MEANS = [
    mean_by_loop,
    lambda accuracy, source: pd.Series(accuracy).drop(source).mean(),
    lambda accuracy, source: statistics.fmean({**accuracy, source: 0.0}.values()) * len(accuracy) / (len(accuracy) - 1),
    lambda accuracy, source: (math.fsum(accuracy.values()) - accuracy[source]) / (len(accuracy) - 1),
]


@pytest.mark.parametrize("function", RIGHT_MEANS)
def test_target_mean_right(function):
    passes("target_mean", function)


def others(accuracy, source):
    return pd.Series(accuracy).drop(source)


MEANS = {
    "The source language is in your mean": lambda accuracy, source: pd.Series(accuracy).mean(),
    "whichever language stands first": lambda accuracy, source: pd.Series(accuracy).iloc[1:].mean(),
    "count the targets": lambda accuracy, source: (math.fsum(accuracy.values()) - accuracy[source]) / len(accuracy),
    "the sum over the targets": lambda accuracy, source: others(accuracy, source).sum(),
    "the mean gap": lambda accuracy, source: (accuracy[source] - others(accuracy, source)).mean(),
    "median": lambda accuracy, source: statistics.median(others(accuracy, source)),
    "per cent": lambda accuracy, source: others(accuracy, source).mul(100).mean(),
}


@pytest.mark.parametrize("words", MEANS)
def test_target_mean_wrong(words):
    rejected("target_mean", MEANS[words], words)


def test_target_mean_in_place():
    def pops(accuracy, source):
        accuracy.pop(source)
        return np.mean(list(accuracy.values()))

    rejected("target_mean", pops, "in place")


# --- select_epoch


def epoch_by_loop(epochs):
    kept = epochs[0]
    for row in epochs[1:]:
        if row["source"] > kept["source"]:
            kept = row
    return kept["step"]


def epoch_by_pandas(epochs):
    table = pd.DataFrame(epochs).set_index("step")
    return table["source"].idxmax()


def epoch_by_sorting(epochs):
    return sorted(epochs, key=lambda row: (-row["source"], row["step"]))[0]["step"]


@pytest.mark.parametrize("function", [epoch_by_loop, epoch_by_pandas, epoch_by_sorting])
def test_select_epoch_right(function):
    passes("select_epoch", function)


def step_of(column, best="idxmax"):
    """Choose by a column that is made from a table of one row an epoch, with a column ``in XX`` for each target."""

    def function(epochs):
        table = pd.json_normalize(list(epochs)).set_index("step")
        return int(getattr(column(table), best)())

    return function


def of_targets(table):
    return table.filter(like="targets.")


EPOCHS = {
    "the oracle": step_of(lambda table: of_targets(table).mean(axis=1)),
    "a single target language": step_of(lambda table: of_targets(table).max(axis=1)),
    "The first target language": step_of(lambda table: of_targets(table).iloc[:, 0]),
    "The worst target language": step_of(lambda table: of_targets(table).min(axis=1)),
    "chose together": step_of(lambda table: (table["source"] + table["target_mean"]) / 2),
    "The smallest gap": step_of(lambda table: table["source"] - table["target_mean"], "idxmin"),
    "the last epoch": lambda epochs: max(row["step"] for row in epochs),
    "you keep the last": lambda epochs: sorted(epochs, key=lambda row: (row["source"], row["step"]))[-1]["step"],
    "its place in the list": lambda epochs: [row["step"] for row in epochs].index(epoch_by_loop(epochs)),
    "the best accuracy itself": lambda epochs: sorted(row["source"] for row in epochs)[-1],
}


@pytest.mark.parametrize("words", EPOCHS)
def test_select_epoch_wrong(words):
    rejected("select_epoch", EPOCHS[words], words)


def test_select_epoch_in_place():
    def sorts(epochs):
        epochs.sort(key=lambda row: -row["source"])
        return epochs[0]["step"]

    rejected("select_epoch", sorts, "in place")


def test_the_epochs_of_select_epoch_look_like_those_of_a_run(tiny_bert):
    from datasets import Dataset

    from xlt_tutorial import ParallelTask, Recipe, Vanilla, train

    def rows(texts):
        return Dataset.from_dict(
            {"id": [str(i) for i in range(len(texts))], "text": texts, "label": [i % 2 for i in range(len(texts))]}
        )

    texts = ["the big dog", "a red cat", "the sun", "a fish"]
    test = {"en": rows(texts), "de": rows(texts[::-1])}
    splits = {"train": {"en": rows(texts)}, "dev": {"en": rows(texts)}, "test": test}
    task = ParallelTask("small", "en", ("en", "de"), ("even", "odd"), ("text",), splits)
    recipe = Recipe(epochs=3, batch_size=2, select="source", share_every=0)
    run = train(task, tiny_bert(), Vanilla(), recipe=recipe, oracle=True, progress=False)
    case = exercise("select_epoch").cases()[0].args[0]
    assert case[0].keys() <= run.epochs[0].keys()
    assert exercise("select_epoch").answer(run.epochs) == run.selected["step"]


# --- gap_interval


def interval_by_loop(english, other, draws):
    gaps = sorted(sum(int(english[i]) - int(other[i]) for i in draw) / len(draw) for draw in draws)
    ends = []
    for tail in (0.025, 0.975):
        place = tail * (len(gaps) - 1)
        low = int(place)
        ends.append(gaps[low] + (place - low) * (gaps[min(low + 1, len(gaps) - 1)] - gaps[low]))
    return tuple(ends)


def interval_by_difference(english, other, draws):
    difference = torch.tensor(english).double() - torch.tensor(other).double()
    gaps = difference[torch.tensor(draws)].mean(1)
    return torch.quantile(gaps, torch.tensor([0.025, 0.975], dtype=torch.double))


@pytest.mark.parametrize("function", [interval_by_loop, interval_by_difference])
def test_gap_interval_right(function):
    passes("gap_interval", function)


def shares(right, draws):
    return np.array([right[draw].mean() for draw in draws])


def percentiles(values, low=2.5):
    return list(np.percentile(values, [low, 100 - low]))


def bell(centre, spread):
    return stats.norm(centre, spread).interval(0.95)


def each_alone(english, other, draws):
    (low, high), (low_other, high_other) = (percentiles(shares(right, draws)) for right in (english, other))
    return low - high_other, high - low_other


INTERVALS = {
    "an interval for each language": each_alone,
    "Only the source's items": lambda e, o, draws: percentiles([e[draw].mean() - o.mean() for draw in draws]),
    "Only the other language's items": lambda e, o, draws: percentiles([e.mean() - o[draw].mean() for draw in draws]),
    "its own draw": lambda e, o, draws: percentiles(shares(e, draws) - shares(o, np.flipud(draws))),
    "The sign": lambda e, o, draws: percentiles(shares(o, draws) - shares(e, draws)),
    "exchanged": lambda e, o, draws: percentiles(shares(e, draws) - shares(o, draws))[::-1],
    "an interval of 90 %": lambda e, o, draws: percentiles(shares(e, draws) - shares(o, draws), 5),
    "the smallest and the largest": lambda e, o, draws: (
        min(shares(e, draws) - shares(o, draws)), max(shares(e, draws) - shares(o, draws)),
    ),
    "You count items": lambda e, o, draws: percentiles([e[draw].sum() - int(o[draw].sum()) for draw in draws]),
}  # fmt: skip


@pytest.mark.parametrize("words", INTERVALS)
def test_gap_interval_wrong(words):
    rejected("gap_interval", INTERVALS[words], words)


def test_gap_interval_by_a_bell_curve():
    def of_all_items(e, o, draws):
        return np.mean(e) - np.mean(o) + 1.96 * np.std(shares(e, draws) - shares(o, draws)) * np.array([-1.0, 1.0])

    def of_draws(e, o, draws):
        gaps = shares(e, draws) - shares(o, draws)
        return gaps.mean() - 1.96 * gaps.std(), gaps.mean() + 1.96 * gaps.std()

    rejected("gap_interval", of_all_items, "bell curve")
    rejected("gap_interval", of_draws, "bell curve")


# --- paired_p


def tally(english, other):
    one = sum(bool(e) and not o for e, o in zip(english, other, strict=True))
    two = sum(bool(o) and not e for e, o in zip(english, other, strict=True))
    return one, two


def p_by_counting(english, other):
    one, two = tally(english, other)
    n = one + two
    as_uneven = [k for k in range(n + 1) if abs(2 * k - n) >= abs(one - two)]
    return sum(math.comb(n, k) for k in as_uneven) / 2**n


def p_by_scipy(english, other):
    one, two = tally(english, other)
    return stats.binomtest(one, one + two, 0.5).pvalue


def p_by_tails(english, other):
    one, two = tally(english, other)
    return min(1.0, 2 * stats.binom.cdf(min(one, two), one + two, 0.5))


@pytest.mark.parametrize("function", [p_by_counting, p_by_scipy, p_by_tails])
def test_paired_p_right(function):
    passes("paired_p", function)


def at_least(heads, tosses):
    """The chance of so many heads or more."""
    return sum(math.comb(tosses, k) for k in range(heads, tosses + 1)) / 2**tosses


def as_uneven(heads, tosses):
    return min(1.0, 2 * at_least(max(heads, tosses - heads), tosses))


def two_shares(english, other):
    table = [[english.sum(), (~english).sum()], [other.sum(), (~other).sum()]]
    return stats.chi2_contingency(table, correction=False).pvalue


def chi_squared(english, other, less=0):
    """McNemar's statistic is a squared standard normal one, whose two tails are an error function."""
    one, two = tally(english, other)
    return math.erfc(abs(abs(one - two) - less) / math.sqrt(2 * (one + two)))


P_VALUES = {
    "This is one-sided": lambda e, o: at_least(max(tally(e, o)), sum(tally(e, o))),
    "only whether the source is better": lambda e, o: at_least(tally(e, o)[0], sum(tally(e, o))),
    "You compare all right answers": lambda e, o: as_uneven(int(e.sum()), int(e.sum()) + int(o.sum())),
    "every item that *differs*": lambda e, o: as_uneven(tally(e, o)[0], len(e)),
    "forgets the pairs": two_shares,
    "paired t-test": lambda e, o: stats.ttest_1samp(np.subtract(e, o, dtype=float), 0).pvalue,
    "with a chi-squared curve": chi_squared,
    "continuity correction": lambda e, o: chi_squared(e, o, 1),
    "exactly this split": lambda e, o: math.comb(sum(tally(e, o)), tally(e, o)[0]) / 2 ** sum(tally(e, o)),
}


@pytest.mark.parametrize("words", P_VALUES)
def test_paired_p_wrong(words):
    rejected("paired_p", P_VALUES[words], words)
