"""Exercises of notebook 02: the target mean, the epoch to keep, and how sure a gap is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from xlt_tutorial.evaluation import Scores
from xlt_tutorial.exercises import Case, Exercise, Mistake
from xlt_tutorial.statistics import sign_flip

Epochs = Sequence[Mapping[str, Any]]


# --- target_mean


def _target_mean(accuracy: Mapping[str, float], source: str) -> float:
    ends = {language: np.array([share]) for language, share in accuracy.items()}  # one item, right to that share
    return Scores(source, "test", ends).target_mean


def _accuracies() -> Sequence[Case]:
    return [
        Case("English and three targets", ({"en": 0.81, "de": 0.7, "ja": 0.52, "ar": 0.4}, "en")),
        Case("a source that does not stand first", ({"de": 0.62, "ja": 0.55, "en": 0.9, "tr": 0.31}, "en")),
        Case("German as the source", ({"en": 0.74, "de": 0.83, "fr": 0.69, "ru": 0.57, "zh": 0.42}, "de")),
        Case("two languages", ({"en": 0.9, "ko": 0.6}, "en")),
    ]


def _targets(accuracy: Mapping[str, float], source: str) -> list[float]:
    return [share for language, share in accuracy.items() if language != source]


# --- select_epoch


def _epochs(seed: int, count: int, languages: Sequence[str]) -> list[dict[str, Any]]:
    """Rows as of ``Run.epochs``. English, every target and their mean are best at different epochs; English ties."""
    rng = np.random.default_rng(seed)
    best = rng.permutation(count - 1)[: len(languages) + 3]  # never the last
    source, targets = rng.uniform(0.6, 0.8, count).round(3), rng.uniform(0.4, 0.5, (count, len(languages))).round(3)
    source[best[:2]] = 0.85
    targets[best[2]] += 0.1
    targets[best[3:], np.arange(len(languages))] = np.linspace(0.6, 0.7, len(languages)).round(3)
    targets[best[3:]] -= 0.03 * (1 - np.eye(len(languages)))
    return [
        {
            "step": 7 * (number + 1),
            "source": float(source[number]),
            "target_mean": float(targets[number].mean()),
            "targets": dict(zip(languages, targets[number].tolist(), strict=True)),
        }
        for number in range(count)
    ]


def _best(epochs: Epochs, score: Any) -> int:
    return int(max(epochs, key=score)["step"])


# --- gap_interval and paired_p: two languages, the same items


def _answers(seed: int, both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Right or wrong in two languages, so many items right in both, in one alone, in none."""
    pairs = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, first, second, neither], axis=0)
    english, other = np.random.default_rng(seed).permutation(pairs).astype(bool).T
    return english.copy(), other.copy()


def _draws(seed: int, items: int, count: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).integers(items, size=(count, items))


def _gaps(english: np.ndarray, other: np.ndarray, draws: np.ndarray) -> np.ndarray:
    return english[draws].mean(1) - other[draws].mean(1)


def _ends(values: np.ndarray, tail: float = 0.025) -> np.ndarray:
    return np.quantile(values, [tail, 1 - tail])


def _combined(english: np.ndarray, other: np.ndarray, draws: np.ndarray) -> np.ndarray:
    return _ends(english[draws].mean(1)) - _ends(other[draws].mean(1))[::-1]


def _paired_p(english: np.ndarray, other: np.ndarray) -> float:
    results = {name: {0: {"source": right, "target": right}} for name, right in (("en", english), ("t", other))}
    return float(sign_flip(results, "en", "source")["t"]["target"]["p"])


def _alone(english: np.ndarray, other: np.ndarray) -> tuple[int, int]:
    return int((english & ~other).sum()), int((other & ~english).sum())


def _sign_test(heads: int, tosses: int, alternative: str = "two-sided") -> float:
    return float(stats.binomtest(heads, tosses, alternative=alternative).pvalue)


def _mcnemar(english: np.ndarray, other: np.ndarray, correction: int) -> float:
    one, two = _alone(english, other)
    return float(stats.chi2.sf((abs(one - two) - correction) ** 2 / (one + two), 1))


def _unpaired(english: np.ndarray, other: np.ndarray) -> float:
    """The test of two shares, as if they came from different items."""
    n, pooled = len(english), (english.mean() + other.mean()) / 2
    z = (english.mean() - other.mean()) / np.sqrt(2 * pooled * (1 - pooled) / n)
    return float(2 * stats.norm.sf(abs(z)))


EXERCISES = {
    "target_mean": Exercise(
        answer=_target_mean,
        cases=_accuracies,
        mistakes=(
            Mistake(
                lambda accuracy, source: np.mean(list(accuracy.values())),
                "The source language is in your mean, where it hides a part of the price: leave it out.",
            ),
            Mistake(
                lambda accuracy, source: np.mean(list(accuracy.values())[1:]),
                "You leave out whichever language stands first. Leave out the source by its name.",
            ),
            Mistake(
                lambda accuracy, source: sum(_targets(accuracy, source)) / len(accuracy),
                "The sum leaves the source out, and the number that you divide by does not: count the targets.",
            ),
            Mistake(
                lambda accuracy, source: sum(_targets(accuracy, source)),
                "This is the sum over the targets: divide it by how many they are.",
            ),
            Mistake(
                lambda accuracy, source: accuracy[source] - np.mean(_targets(accuracy, source)),
                "This is the mean gap, the source's accuracy minus the target mean. Here it is the target mean itself.",
            ),
            Mistake(
                lambda accuracy, source: float(np.median(_targets(accuracy, source))),
                "This is the median of the targets: in the mean every language counts the same, the worst one too.",
            ),
            Mistake(
                lambda accuracy, source: 100 * np.mean(_targets(accuracy, source)),
                "You return per cent. The accuracies come as shares from 0 to 1: stay with shares.",
            ),
        ),
        praise="That is `Scores.target_mean` of `evaluation`: the number that methods are compared by.",
    ),
    "select_epoch": Exercise(
        answer=lambda epochs: _best(epochs, lambda row: row["source"]),
        cases=lambda: [
            Case("eight epochs and two targets", (_epochs(0, 8, ("de", "ja")),)),
            Case("twelve epochs and four targets", (_epochs(3, 12, ("fr", "zh", "ar", "tr")),)),
            Case("ten epochs and one target", (_epochs(5, 10, ("ko",)),)),
        ],
        mistakes=(
            Mistake(
                lambda epochs: _best(epochs, lambda row: row["target_mean"]),
                "The target languages chose this epoch. That is the oracle: nobody who transfers zero-shot has these "
                "labels.",
            ),
            Mistake(
                lambda epochs: _best(epochs, lambda row: max(row["targets"].values())),
                "The best score of a single target language chose this epoch. One labelled target is a target, too.",
            ),
            Mistake(
                lambda epochs: _best(epochs, lambda row: next(iter(row["targets"].values()))),
                "The first target language chose this epoch. Its labels may measure at the end, and choose nothing.",
            ),
            Mistake(
                lambda epochs: _best(epochs, lambda row: min(row["targets"].values())),
                "The worst target language chose this epoch. That would be kind to it, and it would need its labels.",
            ),
            Mistake(
                lambda epochs: _best(epochs, lambda row: row["source"] + row["target_mean"]),
                "Source and targets chose together. With any weight on the targets, they select.",
            ),
            Mistake(
                lambda epochs: min(epochs, key=lambda row: row["source"] - row["target_mean"])["step"],
                "The smallest gap chose this epoch. A gap is made of target accuracies, so the targets have chosen.",
            ),
            Mistake(
                lambda epochs: epochs[-1]["step"],
                "This is the last epoch. That is a fair rule, too, but not the one asked for: take the best on source "
                "data.",
            ),
            Mistake(
                lambda epochs: _best(epochs[::-1], lambda row: row["source"]),
                "Of epochs that are equally good, you keep the last. Keep the first, which has trained least.",
            ),
            Mistake(
                lambda epochs: int(np.argmax([row["source"] for row in epochs])),
                "The epoch is right, and you return its place in the list. Return its `step`.",
            ),
            Mistake(
                lambda epochs: max(row["source"] for row in epochs),
                "You return the best accuracy itself. Return the `step` of that epoch.",
            ),
        ),
        praise='That is what `Recipe(select="source")` keeps: the first of the epochs that are best on source data.',
    ),
    "gap_interval": Exercise(
        answer=lambda english, other, draws: _ends(_gaps(english, other, draws)),
        cases=lambda: [
            Case("eighty items", (*_answers(0, 44, 17, 6, 13), _draws(1, 80))),
            Case("answers that go together", (*_answers(2, 60, 9, 1, 30), _draws(3, 100))),
            Case("a language that is better than the source", (*_answers(4, 20, 3, 12, 15), _draws(5, 50))),
        ],
        mistakes=(
            Mistake(
                _combined,
                "You make an interval for each language and take their ends. Then the gap seems less sure than it is: "
                "an item that is hard in both languages moves both, and not the gap.",
            ),
            Mistake(
                lambda english, other, draws: _ends(english[draws].mean(1) - other.mean()),
                "Only the source's items are drawn. Draw the same items in both languages.",
            ),
            Mistake(
                lambda english, other, draws: _ends(english.mean() - other[draws].mean(1)),
                "Only the other language's items are drawn. Draw the same items in both languages.",
            ),
            *(
                Mistake(
                    lambda english, other, draws, again=again: _ends(
                        english[draws].mean(1) - other[again(draws)].mean(1)
                    ),
                    "Each language gets its own draw of items. They answered the same ones: use one draw for both.",
                )
                for again in (lambda draws: draws[::-1], lambda draws: np.roll(draws, 1, axis=0))
            ),
            Mistake(
                lambda english, other, draws: _ends(-_gaps(english, other, draws)),
                "The sign: the gap is the source minus the other language.",
            ),
            Mistake(
                lambda english, other, draws: _ends(_gaps(english, other, draws))[::-1],
                "Both ends are right, and exchanged: the lower one comes first.",
            ),
            Mistake(
                lambda english, other, draws: _ends(_gaps(english, other, draws), 0.05),
                "You leave 5 % out at each end: an interval of 90 %. For one of 95 %, leave out 2.5 % at each end.",
            ),
            *(
                Mistake(
                    lambda english, other, draws, centre=centre: (
                        centre(english, other, draws) + 1.96 * _gaps(english, other, draws).std() * np.array([-1, 1])
                    ),
                    "You lay a bell curve over the draws. That comes close; here, read the two ends off the draws.",
                )
                for centre in (
                    lambda english, other, draws: english.mean() - other.mean(),
                    lambda english, other, draws: _gaps(english, other, draws).mean(),
                )
            ),
            Mistake(
                lambda english, other, draws: _ends(_gaps(english, other, draws), 0.0),
                "These are the smallest and the largest of all draws: the more you draw, the wider they get.",
            ),
            Mistake(
                lambda english, other, draws: _ends(_gaps(english, other, draws)) * len(english),
                "You count items: divide by how many there are.",
            ),
        ),
        praise="That is a paired bootstrap. `statistics.gain_interval` does it for methods, with groups and seeds.",
    ),
    "paired_p": Exercise(
        answer=_paired_p,
        cases=lambda: [
            Case("most differences on one side", _answers(0, 30, 9, 2, 19)),
            Case("a language that is better than the source", _answers(1, 20, 1, 7, 12)),
            Case("as many on either side", _answers(2, 10, 5, 5, 5)),
            Case("few differences", _answers(3, 50, 4, 1, 5)),
        ],
        mistakes=(
            Mistake(
                lambda english, other: _sign_test(max(_alone(english, other)), sum(_alone(english, other)), "greater"),
                "This is one-sided. Nobody said beforehand which one is better, so both directions count as extreme.",
            ),
            Mistake(
                lambda english, other: _sign_test(_alone(english, other)[0], sum(_alone(english, other)), "greater"),
                "This asks only whether the source is better. Count both directions as extreme.",
            ),
            Mistake(
                lambda english, other: _sign_test(int(english.sum()), int(english.sum() + other.sum())),
                "You compare all right answers. Items that are right in both languages, or in none, say nothing about "
                "the difference: leave them out.",
            ),
            Mistake(
                lambda english, other: _sign_test(_alone(english, other)[0], len(english)),
                "The coin is tossed once for every item that *differs*, not for every item.",
            ),
            Mistake(
                _unpaired,
                "This treats the two languages as if they had answered different items, and forgets the pairs.",
            ),
            Mistake(
                lambda english, other: stats.ttest_rel(english.astype(float), other.astype(float)).pvalue,
                "A paired t-test takes the differences for a bell curve. They are -1, 0 and 1, and few: count exactly.",
            ),
            Mistake(
                lambda english, other: _mcnemar(english, other, 0),
                "That is McNemar's test with a chi-squared curve, made for many differences. Count these few exactly.",
            ),
            Mistake(
                lambda english, other: _mcnemar(english, other, 1),
                "That is McNemar's test with the continuity correction: a curve still. Count these few exactly.",
            ),
            Mistake(
                lambda english, other: stats.binom.pmf(_alone(english, other)[0], sum(_alone(english, other)), 0.5),
                "This is the chance of exactly this split. A p-value adds all splits that are at least as uneven.",
            ),
        ),
        praise=(
            "That is the exact McNemar test. `statistics.sign_flip` counts the same signs, for many methods and seeds."
        ),
    ),
}
