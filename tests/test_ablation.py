"""Main effects: by the formula, item by item, and against numbers that were put in."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from xlt_tutorial.ablation import SETTINGS, SUBSETS, TERMS, main_effect, main_effects
from xlt_tutorial.errors import XltError
from xlt_tutorial.objectives import make_objective

PUT_IN = {"E": 0.02, "A": -0.05, "R": 0.11}


def test_the_subsets_are_all_eight_and_their_settings_have_these_terms():
    assert {frozenset(subset) for subset in SUBSETS} == {frozenset(c) for k in range(4) for c in combinations("EAR", k)}
    for subset, name in SETTINGS.items():
        terms = set(make_objective(name).weights) - {"ce", "second_pass"}
        assert terms == {TERMS[letter] for letter in subset}, name


def test_additive_values_give_back_what_was_put_in():
    values = {subset: 0.5 + sum(PUT_IN[letter] for letter in subset) for subset in SUBSETS}
    assert {term: main_effect(values, term) for term in PUT_IN} == pytest.approx(PUT_IN)
    values["EAR"] += 0.08  # an interaction is shared out: each term's mean of four pairs holds it once
    assert main_effect(values, "R") == pytest.approx(PUT_IN["R"] + 0.02)


@pytest.mark.parametrize(("values", "term", "said"), [
    (dict.fromkeys(SUBSETS, 0.0), "X", 'Unknown term "X".*E, A, R'),
    (dict.fromkeys(SUBSETS[1:-1], 0.0), "E", "missing: the empty one, EAR"),
])  # fmt: skip
def test_what_is_missing_is_named(values: dict[str, float], term: str, said: str):
    with pytest.raises(XltError, match=said):
        main_effect(values, term)


def answers(seeds: int, items: int = 40, languages: tuple[str, ...] = ("en", "de", "ja")) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    ease = rng.normal(0.5, 1, items)
    lift = {subset: 6 * sum(PUT_IN[letter] for letter in subset) for subset in SUBSETS}
    return {
        SETTINGS[subset]: {
            seed: {t: ease + lift[subset] + rng.normal(0, 0.6, items) > 0 for t in languages} for seed in range(seeds)
        }
        for subset in SUBSETS
    }


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_item_by_item_is_the_formula_on_accuracies(seeds: int):
    found = answers(seeds)
    effects = main_effects(found, "en", resamples=200)
    assert list(effects) == ["E", "A", "R"]
    for row in ("target_mean", "en", "de", "ja"):
        languages = ("de", "ja") if row == "target_mean" else (row,)
        values = {
            subset: float(np.mean([run[t].mean() for run in found[name].values() for t in languages]))
            for subset, name in SETTINGS.items()
        }
        for term, effect in effects.items():
            entry = effect["rows"][row]["gain"]["with"]
            assert entry["gain"] == pytest.approx(main_effect(values, term), abs=1e-12)
            low, high = entry["interval"] or entry["by_seed"][0]["interval"]
            assert low <= high and (entry["interval"] is None) == (seeds < 5)
    assert effects["R"]["n_groups"] == 40, "an item's four answers are drawn together"
    assert effects["R"]["rows"]["target_mean"]["gain"]["with"]["p"] < 0.02


def test_runs_that_cannot_be_compared_are_told():
    found = answers(2)
    with pytest.raises(XltError, match="missing: ear-EA"):
        main_effects({name: runs for name, runs in found.items() if name != "ear-EA"})
    with pytest.raises(XltError, match="No seed was run with all eight"):
        main_effects({name: {} for name in SETTINGS.values()})
