"""What each term of EAR buys: main effects over the eight subsets of E, A and R.

A term's main effect is the mean of the four subsets that hold it minus the mean of the four that do not (Yates, "The
Design and Analysis of Factorial Experiments", 1937). All eight speak for each term, where a pair of runs uses two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.statistics import Results, summary

TERMS = {"E": "push", "A": "pull", "R": "robust"}  # letter of a term -> its name in a loss
SUBSETS = ("", "E", "A", "R", "EA", "ER", "AR", "EAR")
SETTINGS = dict(zip(SUBSETS, ("vanilla", *(f"ear-{subset}" for subset in SUBSETS[1:-1]), "ear"), strict=True))


def main_effect(values: Mapping[str, float], term: str) -> float:
    """Return the mean of the four values with a term minus the mean of the four without it.

    Args:
        values: One for each of ``SUBSETS``, such as target means; the empty string is vanilla.
        term: ``E``, ``A`` or ``R``.

    Raises:
        XltError: A subset is missing, or there is no such term.
    """
    if term not in TERMS:
        raise unknown("term", term, TERMS)
    _all_there(SUBSETS, values)
    return float(sum(values[subset] if term in subset else -values[subset] for subset in SUBSETS)) / 4


def main_effects(results: Results, source: str = "en", resamples: int = 10_000) -> dict[str, dict[str, Any]]:
    """Return ``{term: statistics.summary}`` of the method ``with`` against ``without``.

    The answers of the four subsets on either side are put end to end, in the same order of the other two terms, and the
    four answers to an item are one group: they are drawn together. So gain, interval, p and detectable difference are
    those of the main effect.

    Args:
        results: ``{setting: {seed: {language: correct}}}`` with the values of ``SETTINGS`` among its settings, all with
            the same seeds.
        source: The source language, which the target mean leaves out.
        resamples: Of ``statistics.summary``.

    Raises:
        XltError: A subset is missing, or the runs cannot be paired.
    """
    _all_there(SETTINGS.values(), results)
    first = results[SETTINGS[""]]
    some = next(iter(first.values()), {})
    if not some:
        raise XltError("No seed was run with all eight subsets yet.")
    groups = np.tile(np.arange(len(next(iter(some.values())))), 4).tolist()
    found = {}
    for term in TERMS:
        without = [subset for subset in SUBSETS if term not in subset]
        sides: Results = {
            name: {
                seed: {t: np.concatenate([results[SETTINGS[one]][seed][t] for one in side]) for t in some}
                for seed in first
            }
            for name, side in (("without", without), ("with", [_with(term, one) for one in without]))
        }
        found[term] = summary(sides, "without", source, groups, resamples)
    return found


def _with(term: str, subset: str) -> str:
    """Return the subset that a term completes: R added to E is ER."""
    return "".join(letter for letter in TERMS if letter in subset + term)


def _all_there(wanted: Any, found: Any) -> None:
    if lacking := [name or "the empty one" for name in wanted if name not in found]:
        raise XltError(f"A main effect needs all eight subsets; missing: {', '.join(lacking)}.")
