"""Exercises of notebook 09: centred P@1, linear CKA, a permutation test, MEXA's chance level, the price of peeking."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from xlt_tutorial.alignment import align, linear_cka, retrieval
from xlt_tutorial.exercises import Case, Exercise, Mistake

Array = np.ndarray


def _unit(cloud: Array) -> Array:
    return cloud / np.linalg.norm(cloud, axis=1, keepdims=True)


def _centred(cloud: Array) -> Array:
    return cloud - cloud.mean(0)


# --- centred_p1: P@1 from the source, each language about its own mean


def _p1(scores: Array) -> float:
    return float((scores.argmax(1) == np.arange(len(scores))).mean())


def _pairs() -> Sequence[Case]:
    draw = np.random.default_rng(0)

    def clouds(items: int, hidden: int, noise: float, offset: float) -> tuple[Array, Array]:
        """Translations with errors, lengths and widths of their own, both languages away from the origin."""
        lengths = np.exp(0.5 * draw.normal(size=(2, items, 1)))
        concepts = draw.normal(size=(items, hidden)) * np.linspace(0.4, 2, hidden)
        errors = noise * draw.normal(size=(2, items, hidden))
        away = offset * draw.normal(size=(2, hidden))
        return tuple(lengths[i] * (concepts + errors[i]) + away[i] for i in range(2))

    return [
        Case("two languages far apart", clouds(70, 12, 0.5, 2.0)),
        Case("two languages that differ in little but noise", clouds(50, 8, 0.7, 0.6)),
        Case("many items in a narrow space", clouds(120, 6, 0.4, 1.2)),
    ]


def _cosines(change: Callable[[Array, Array], tuple[Array, Array]]) -> Callable[[Array, Array], float]:
    def wrong(source: Array, target: Array) -> float:
        s, t = change(source, target)
        return _p1(_unit(s) @ _unit(t).T)

    return wrong


def _nearest(source: Array, target: Array) -> float:
    s, t = _centred(source), _centred(target)
    return _p1(-((s[:, None] - t[None]) ** 2).sum(2))


# --- linear_cka


def _norm(matrix: Array) -> float:
    return float(np.linalg.norm(matrix))


def _ratio(s: Array, t: Array) -> float:
    return _norm(t.T @ s) ** 2 / (_norm(s.T @ s) * _norm(t.T @ t))


def _spectral(source: Array, target: Array) -> float:
    s, t = _centred(source), _centred(target)
    across, own, other = (np.linalg.norm(m, 2) for m in (t.T @ s, s.T @ s, t.T @ t))
    return float(across**2 / (own * other))


def _over_items(source: Array, target: Array) -> float:
    s, t = _centred(source), _centred(target)
    return _norm(s @ t.T) ** 2 / (_norm(s @ s.T) * _norm(t @ t.T))


# --- permutation_p: the p-value of P@1 over given orders of the target's items


def _counted(reaches: Callable[[float, float], bool], together: bool = False) -> Callable[[Array, Array, Array], int]:
    """Count the orders whose P@1 ``reaches`` the observed one; ``together`` puts both languages into that order."""

    def count(source: Array, target: Array, orders: Array) -> int:
        observed = retrieval(source, target)["from_source"]
        drawn = (retrieval(source[order] if together else source, target[order])["from_source"] for order in orders)
        return sum(reaches(value, observed) for value in drawn)

    return count


_reached = _counted(operator.ge)


def _over_draws(count: Callable[[Array, Array, Array], int], above: int = 1, below: int = 1) -> Callable[..., float]:
    return lambda source, target, orders: (above + count(source, target, orders)) / (below + len(orders))


def _permuted() -> Sequence[Case]:
    draw = np.random.default_rng(1)

    def pair(items: int, noise: float, draws: int) -> tuple[Array, Array, Array]:
        source = draw.normal(size=(items, 6)) + 0.3
        target = source + noise * draw.normal(size=(items, 6))
        return source, target, np.array([draw.permutation(items) for _ in range(draws)])

    return [
        Case("two languages that match", pair(20, 0.3, 99)),
        Case("two languages that hardly match", pair(20, 4.0, 199)),
        Case("very few items", pair(6, 2.0, 50)),
    ]


# --- mexa_chance


def _mexa_chance(items: int) -> float:
    draw = np.random.default_rng(0)
    clouds = {language: draw.normal(size=(1, items, 3)) for language in ("en", "de")}
    return float(align(clouds, [0] * items, measures=["mexa"])[0]["chance"]["mexa"])


# --- peeking_gain: what choosing the checkpoint on the targets' test sets buys

Curves = Mapping[str, Array]


def _others(test: Curves, source: str) -> Array:
    """(targets, checkpoints)"""
    return np.array([curve for language, curve in test.items() if language != source])


def _peeking_gain(dev: Array, test: Curves, source: str) -> float:
    mean = _others(test, source).mean(0)
    return float(mean.max() - mean[np.argmax(dev)])


def _every(dev: Array, test: Curves, source: str) -> float:
    mean = np.array(list(test.values())).mean(0)
    return float(mean.max() - mean[np.argmax(dev)])


def _each(dev: Array, test: Curves, source: str) -> float:
    curves = _others(test, source)
    return float(curves.max(1).mean() - curves[:, np.argmax(dev)].mean())


def _source_test(dev: Array, test: Curves, source: str) -> float:
    mean = _others(test, source).mean(0)
    return float(mean.max() - mean[np.argmax(test[source])])


def _from_last(dev: Array, test: Curves, source: str) -> float:
    mean = _others(test, source).mean(0)
    return float(mean.max() - mean[-1])


def _from_average(dev: Array, test: Curves, source: str) -> float:
    mean = _others(test, source).mean(0)
    return float(mean.max() - mean.mean())


def _from_source(dev: Array, test: Curves, source: str) -> float:
    mean = _others(test, source).mean(0)
    return float(mean.max() - np.max(dev))


def _runs() -> Sequence[Case]:
    draw = np.random.default_rng(2)

    def run(checkpoints: int, source: str, others: str) -> tuple[Array, dict[str, Array], str]:
        test = {code: draw.uniform(0.4, 0.8, size=checkpoints) for code in others.split()}
        codes = [source, *test] if checkpoints % 2 else [*test, source]
        test[source] = draw.uniform(0.7, 0.9, size=checkpoints)
        return draw.uniform(0.7, 0.9, size=checkpoints), {code: test[code] for code in codes}, source

    return [
        Case("seven checkpoints and three target languages", run(7, "en", "de ja sw")),
        Case("another source language", run(12, "ja", "en de")),
        Case("one target language", run(5, "en", "tr")),
    ]


EXERCISES = {
    "centred_p1": Exercise(
        answer=lambda source, target: retrieval(source, target, centred=True)["from_source"],
        cases=_pairs,
        mistakes=(
            Mistake(
                _cosines(lambda s, t: (s, t)),
                "That is P@1 without centring: a language that lies beside the other is still beside it.",
            ),
            Mistake(
                _cosines(lambda s, t: (s - s.mean(0), t - s.mean(0))),
                "Both languages lost the mean of the source, so they are as far from each other as before. Each has a "
                "mean of its own.",
            ),
            Mistake(
                _cosines(lambda s, t: (s - (s.mean(0) + t.mean(0)) / 2, t - (s.mean(0) + t.mean(0)) / 2)),
                "Both languages lost one common mean, which leaves the shift between them as it was. Each has a mean "
                "of its own.",
            ),
            Mistake(
                _cosines(lambda s, t: (s - s.mean(1, keepdims=True), t - t.mean(1, keepdims=True))),
                "The mean runs over the coordinates of each vector. A language's mean is one vector, taken over its "
                "items.",
            ),
            Mistake(
                _cosines(lambda s, t: (_centred(_unit(s)), _centred(_unit(t)))),
                "The vectors were brought to length 1 before they were centred. Centre what the encoder gave, then "
                "take the cosine.",
            ),
            Mistake(
                _cosines(lambda s, t: (_centred(s) / s.std(0), _centred(t) / t.std(0))),
                "Each coordinate was divided by its standard deviation too. That repairs more than a shift, and P@1 "
                "would be better than what centring alone can do.",
            ),
            Mistake(
                lambda s, t: _p1(_centred(s) @ _centred(t).T),
                "These are dot products: a long vector wins against nearer ones. Divide by both lengths.",
            ),
            Mistake(_nearest, "Nearest by Euclidean distance is another question: here the angle decides, the cosine."),
            Mistake(
                lambda s, t: _p1(_unit(_centred(t)) @ _unit(_centred(s)).T),
                "The direction: here each *source* item looks for its translation among all target items.",
            ),
        ),
        praise=(
            'The package has both directions of it: `retrieval(source, target, centred=True)["from_source"]` is yours. '
            "Centring takes a pure shift out, so no shift can make this number worse: do not read it alone."
        ),
    ),
    "linear_cka": Exercise(
        answer=linear_cka,
        cases=_pairs,
        mistakes=(
            Mistake(_ratio, "The clouds still have their means: subtract from each its own mean over the items first."),
            Mistake(
                lambda s, t: _ratio(s - s.mean(1, keepdims=True), t - t.mean(1, keepdims=True)),
                "The mean runs over the coordinates of each vector; take it over the items, one mean vector a cloud.",
            ),
            Mistake(
                lambda s, t: float(np.sqrt(linear_cka(s, t))),
                "A square is missing: the norm above the fraction line is squared, those below are not.",
            ),
            Mistake(
                lambda s, t: (
                    _norm(_centred(t).T @ _centred(s)) ** 2 / (_norm(_centred(s)) ** 2 * _norm(_centred(t)) ** 2)
                ),
                "Below the line stand the norms of the products of each cloud with itself, not of the clouds: a cloud "
                "compared with itself must give 1.",
            ),
            Mistake(_spectral, "That is the spectral norm, the largest singular value. The Frobenius norm sums all."),
            Mistake(
                _over_items,
                "The products run over the coordinates, so they compare single items across the languages, and a "
                "rotation changes the value. Sum over the items: the matrices are (hidden, hidden).",
            ),
            Mistake(
                lambda s, t: _ratio(_unit(_centred(s)), _unit(_centred(t))),
                "The vectors were brought to length 1. CKA takes them as they are, but for the mean.",
            ),
            Mistake(
                lambda s, t: _ratio(_centred(s) / s.std(0), _centred(t) / t.std(0)),
                "Each coordinate was divided by its standard deviation, so narrow directions weigh as much as wide "
                "ones. Subtract the mean, no more.",
            ),
        ),
        praise=(
            "The package has it as `linear_cka`. Now try it on a cloud and its own rotation, and on two clouds of "
            "noise with ten items each."
        ),
    ),
    "permutation_p": Exercise(
        answer=_over_draws(_reached),
        cases=_permuted,
        mistakes=(
            Mistake(
                _over_draws(_reached, 0, 0),
                "A p-value is never 0: the order that was observed is one of the possible ones, so it counts above and "
                "below the line.",
            ),
            Mistake(
                _over_draws(_reached, 1, 0),
                "The observed order is counted above the line and not below it: add 1 to the number of draws too.",
            ),
            Mistake(
                _over_draws(_reached, 0, 1),
                "The observed order is counted below the line and not above it: it reaches itself, so add 1 there too.",
            ),
            Mistake(
                _over_draws(_counted(operator.gt)),
                "A draw that is exactly as good as the observation counts too: with few items there are many ties.",
            ),
            Mistake(
                _over_draws(_counted(operator.le)),
                "That is the other tail. Alignment makes P@1 *large*: count the draws that reach it.",
            ),
            Mistake(
                _over_draws(_counted(operator.ge, together=True)),
                "Both languages were put into the same new order, so every item kept its translation. Change the order "
                "of one.",
            ),
        ),
        praise="It holds for any statistic: only the pairs are exchanged, and both clouds stay what they are.",
    ),
    "mexa_chance": Exercise(
        answer=_mexa_chance,
        cases=lambda: [
            Case(f"{n} items", (n,)) for n in (2, 7, *np.random.default_rng(3).integers(20, 900, 3).tolist())
        ],
        mistakes=(
            Mistake(
                lambda n: 1 / n,
                "That is the chance of P@1, which asks about one row. MEXA asks about the column as well.",
            ),
            Mistake(
                lambda n: 1 / n**2,
                "Row and column are not independent: both hold the translation's own cosine, and where it is large, it "
                "wins in both.",
            ),
            Mistake(
                lambda n: 1 / (2 * n),
                "Nearly: the translation's own cosine stands in the row and in the column, and is one number.",
            ),
            Mistake(
                lambda n: 1 / (2 * n - 2),
                "Nearly: you have counted the rivals. The translation's own cosine is one of the numbers too.",
            ),
        ),
        praise="One cosine of 2n - 1 must be the largest. `align` reports it as `chance` beside the value.",
        tolerance=1e-6,
    ),
    "peeking_gain": Exercise(
        answer=_peeking_gain,
        cases=_runs,
        mistakes=(
            Mistake(_every, "The source language is in your mean: the target mean leaves it out."),
            Mistake(
                _each,
                "Here every language picks a checkpoint of its own. One model serves all: take the mean over targets "
                "first, then the best checkpoint.",
            ),
            Mistake(
                lambda dev, test, source: -_peeking_gain(dev, test, source),
                "The sign: it is what peeking *adds*, so it cannot be below 0.",
            ),
            Mistake(
                lambda dev, test, source: 0.0,
                "Both sides were chosen on the targets, so nothing is left between them. The honest side is the "
                "checkpoint that is best on the dev items.",
            ),
            Mistake(
                _source_test,
                "The honest checkpoint was chosen on the source's *test* items. Test items choose nothing, not even "
                "those of the source.",
            ),
            Mistake(_from_last, "The last checkpoint is not the one that the dev items choose."),
            Mistake(
                _from_average, "The honest side is one checkpoint, chosen on the dev items, not the mean of them all."
            ),
            Mistake(
                _from_source,
                "Dev accuracy only chooses. Compare target means on both sides: of the best checkpoint, and of the "
                "chosen one.",
            ),
        ),
        praise="That many points come without any better method. `train(.., oracle=True)` writes both sides down.",
    ),
}
