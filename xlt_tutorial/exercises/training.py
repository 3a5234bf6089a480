"""Exercises of notebook 07: paired gains and their error, main effects, and weights for a share of the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from xlt_tutorial.ablation import SUBSETS, main_effect
from xlt_tutorial.exercises import Case, Exercise, Mistake
from xlt_tutorial.objectives import NormalisedEAR
from xlt_tutorial.statistics import detectable, gain_interval

Seeds = Mapping[int, Mapping[str, np.ndarray]]  # {seed: {language: (items,) booleans}}
Numbers = Mapping[str, float]

# --- what is right ---------------------------------------------------------------------------------------------------


def _paired_gain(method: Seeds, baseline: Seeds, source: str) -> float:
    sides = {"baseline": baseline, "method": method}
    both = {name: {seed: side[seed] for seed in baseline if seed in method} for name, side in sides.items()}
    return float(gain_interval(both, "baseline", source, resamples=100)["method"]["target_mean"]["gain"])


def _paired_error(method: np.ndarray, baseline: np.ndarray) -> float:
    answers = {"baseline": {0: {"source": baseline, "target": baseline}}}
    answers["method"] = {0: {"source": baseline, "target": method}}
    return float(detectable(answers, "baseline", "source")["method"]["target"]["se"])


def _weight_for_share(norms: Numbers, weights: Numbers, term: str, share: float) -> float:
    both = {"push": True, "pull": True, "alpha": weights["push"], "beta": weights["pull"]}
    objective = NormalisedEAR(shares={term: share}, **both)
    objective.adapt(norms)
    return objective.current_weights()[term]


# --- cases -----------------------------------------------------------------------------------------------------------


def _gain_cases() -> Sequence[Case]:
    rng = np.random.default_rng(0)

    def runs(seeds: Sequence[int], languages: Sequence[str], ease: float) -> dict[int, dict[str, np.ndarray]]:
        at = {language: ease - 0.11 * number for number, language in enumerate(languages)}
        return {seed: {t: rng.random(60) < at[t] + 0.04 * rng.normal() for t in languages} for seed in seeds}

    return [
        Case(
            "three seeds and one that the baseline lacks",
            (runs((0, 1, 2, 7), ("en", "de", "ja", "ar"), 0.84), runs((0, 1, 2), ("en", "de", "ja", "ar"), 0.76), "en"),
        ),
        Case(
            "German as the source, and a seed of its own on either side",
            (runs((1, 4, 6), ("en", "de", "tr"), 0.61), runs((4, 1, 9), ("en", "de", "tr"), 0.72), "de"),
        ),
    ]


def _error_cases() -> Sequence[Case]:
    rng = np.random.default_rng(1)
    cases = []
    for what, items, changed in (("twelve items", 12, 0.5), ("two hundred items", 200, 0.15)):
        baseline = rng.random(items) < 0.6
        method = np.where(rng.random(items) < changed, rng.random(items) < 0.85, baseline)
        cases.append(Case(what, (method, baseline)))
    return cases


def _effect_cases() -> Sequence[Case]:
    rng = np.random.default_rng(2)
    cases = []
    for what, term in (("R", "R"), ("E", "E"), ("A", "A")):
        values = {subset: float(rng.normal(0.6, 0.05)) for subset in SUBSETS}
        cases.append(Case(f"the term {what}", (values, term)))
    return cases


def _weight_cases() -> Sequence[Case]:
    weights = {"ce": 1.0, "robust": 1.0, "push": 0.1, "pull": 1.0}
    return [
        Case("a tenth for the push", ({"ce": 1.7, "robust": 1.6, "push": 0.02, "pull": 0.3}, weights, "push", 0.1)),
        Case("a third for the pull", ({"ce": 0.4, "robust": 0.6, "push": 0.3, "pull": 0.05}, weights, "pull", 1 / 3)),
    ]


# --- typical mistakes ------------------------------------------------------------------------------------------------


def _means(runs: Seeds, source: str | None) -> dict[int, float]:
    """Return the mean accuracy of each seed over every language but the source."""
    return {
        seed: float(np.mean([marks.mean() for language, marks in found.items() if language != source]))
        for seed, found in runs.items()
    }


def _both(method: Seeds, baseline: Seeds, source: str | None) -> tuple[list[float], list[float]]:
    """Return the means of both sides over the seeds that both have."""
    one, other = _means(method, source), _means(baseline, source)
    return [one[seed] for seed in other if seed in one], [mean for seed, mean in other.items() if seed in one]


def _gap(method: Seeds, baseline: Seeds, source: str | None) -> float:
    one, other = _both(method, baseline, source)
    return float(np.mean(one) - np.mean(other))


def _all_seeds(method: Seeds, baseline: Seeds, source: str) -> float:
    return float(np.mean(list(_means(method, source).values())) - np.mean(list(_means(baseline, source).values())))


def _best_seeds(method: Seeds, baseline: Seeds, source: str) -> float:
    one, other = _both(method, baseline, source)
    return max(one) - max(other)


def _relative(method: Seeds, baseline: Seeds, source: str) -> float:
    one, other = _both(method, baseline, source)
    return float(np.mean(one) / np.mean(other) - 1)


def _source_alone(method: Seeds, baseline: Seeds, source: str) -> float:
    return float(np.mean([method[s][source].mean() - baseline[s][source].mean() for s in baseline if s in method]))


def _deviation(values: np.ndarray, less: int = 1) -> float:
    """Return the standard error of a mean."""
    return float(values.std(ddof=less) / len(values) ** 0.5)


def _difference(method: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    return method.astype(float) - baseline.astype(float)


def _average(values: Numbers, subsets: Sequence[str]) -> float:
    return float(np.mean([values[subset] for subset in subsets]))


def _with(term: str) -> list[str]:
    return [subset for subset in SUBSETS if term in subset]


def _without(term: str) -> list[str]:
    return [subset for subset in SUBSETS if term not in subset]


def _rest(norms: Numbers, weights: Numbers, term: str) -> float:
    """Return the sum of the other terms' weighted norms."""
    return sum(weights[name] * norm for name, norm in norms.items() if name != term)


EXERCISES: dict[str, Exercise] = {
    "paired_gain": Exercise(
        answer=_paired_gain,
        cases=_gain_cases,
        mistakes=(
            Mistake(
                lambda method, baseline, source: _gap(method, baseline, None),
                "The source language is in your means. A method that only learns English better would look like one "
                "that transfers.",
            ),
            Mistake(
                lambda method, baseline, source: -_gap(method, baseline, source),
                "The sign is turned around: a gain is what the method has more than the baseline.",
            ),
            Mistake(
                _all_seeds,
                "You use seeds that only one side has. A lucky seed of one side then counts as a gain: keep those that "
                "both have.",
            ),
            Mistake(
                _best_seeds,
                "You compare the best seed of each side. The best of several is lucky by choice; take the mean.",
            ),
            Mistake(
                _relative,
                "That is a gain in per cent of the baseline. Points are differences of accuracies, and they add up "
                "over languages and seeds.",
            ),
            Mistake(
                _source_alone,
                "That is the gain in the source language, which was trained on. Asked for is the mean of the others.",
            ),
        ),
        praise="`statistics.gain_interval` gives this number, and the interval that it needs beside it.",
        tolerance=1e-6,
    ),
    "paired_error": Exercise(
        answer=_paired_error,
        cases=_error_cases,
        mistakes=(
            Mistake(
                lambda method, baseline: (_deviation(method) ** 2 + _deviation(baseline) ** 2) ** 0.5,
                "You add the variances of two accuracies, as if each side had its own items. Both answered the same "
                "ones: what they share cancels, item by item.",
            ),
            Mistake(
                lambda method, baseline: float(_difference(method, baseline).std(ddof=1)),
                "That is how much a single item varies. The gain is a mean of many items, and a mean varies less.",
            ),
            Mistake(
                lambda method, baseline: _deviation(method),
                "That is the error of the method's accuracy alone; asked for is that of the difference.",
            ),
            Mistake(
                lambda method, baseline: _deviation(np.abs(_difference(method, baseline))),
                "Without their signs the differences only count disagreement: an item lost and an item won look alike.",
            ),
            Mistake(
                lambda method, baseline: _deviation(_difference(method, baseline), 0),
                "Almost: the mean was taken from the same items, so the squares are shared out among one item less "
                "than there are.",
            ),
            Mistake(
                lambda method, baseline: float((method != baseline).sum() ** 0.5 / len(method)),
                "That is the error if there were no gain at all: you square the differences without taking their mean "
                "away first.",
            ),
        ),
        praise="Twice this number on either side is roughly the interval of one seed.",
        tolerance=1e-5,
    ),
    "main_effect": Exercise(
        answer=main_effect,
        cases=_effect_cases,
        mistakes=(
            Mistake(
                lambda values, term: values["EAR"] - values["EAR".replace(term, "")],
                "That is what the term adds to the other two: one pair of the four. The main effect is the mean over "
                "all four pairs.",
            ),
            Mistake(
                lambda values, term: values[term] - values[""],
                "That is what the term does alone: one pair of the four. Take the mean over all of them.",
            ),
            Mistake(
                lambda values, term: _average(values, _with(term)) - _average(values, SUBSETS),
                "You compare with the mean of all eight, half of which hold the term: that gives half of the effect.",
            ),
            Mistake(
                lambda values, term: 4 * (_average(values, _with(term)) - _average(values, _without(term))),
                "You add the four pairs up; take their mean.",
            ),
            Mistake(
                lambda values, term: _average(values, _without(term)) - _average(values, _with(term)),
                "The sign is turned around: what holds the term comes first.",
            ),
            Mistake(
                lambda values, term: _average(values, _with(term)) - values[""],
                "You compare with vanilla alone: the other two terms are then on one side alone, and are counted too.",
            ),
        ),
        praise="`ablation.main_effect`; `ablation.main_effects` does it item by item, for an interval.",
        tolerance=1e-6,
    ),
    "weight_for_share": Exercise(
        answer=_weight_for_share,
        cases=_weight_cases,
        mistakes=(
            Mistake(
                lambda norms, weights, term, share: share * _rest(norms, weights, term) / norms[term],
                "The share is one of the whole, and the term is part of the whole: with this weight it gets less. "
                "Write down the share as a fraction and solve it for the weight.",
            ),
            Mistake(
                lambda norms, weights, term, share: (
                    share * (_rest(norms, weights, term) + weights[term] * norms[term]) / norms[term]
                ),
                "Your whole holds the term at its old weight. With the new weight the whole is another: solve for it.",
            ),
            Mistake(
                lambda norms, weights, term, share: (
                    share / (1 - share) * sum(norm for name, norm in norms.items() if name != term) / norms[term]
                ),
                "The other terms have weights too: what they bring to the gradient is weight times norm.",
            ),
            Mistake(
                lambda norms, weights, term, share: share / (1 - share) * _rest(norms, weights, term),
                "That is the weighted norm that the term should have; its weight is that, divided by its norm.",
            ),
            Mistake(
                lambda norms, weights, term, share: share / (1 - share) / norms[term],
                "How large the others are is missing: the same share of a larger gradient takes a larger weight.",
            ),
        ),
        praise="`objectives.NormalisedEAR` sets its weights so, anew at every measurement of the gradients.",
        tolerance=1e-6,
    ),
}
