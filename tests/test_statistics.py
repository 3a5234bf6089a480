"""Statistics of gains: recomputed by loops and by scipy, and their error rates by simulation."""

from __future__ import annotations

import json
import math
import statistics as plain
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats

from xlt_tutorial.errors import XltError
from xlt_tutorial.evaluation import Scores
from xlt_tutorial.statistics import detectable, gain_interval, markdown, sign_flip, summary

Results = dict[str, dict[Any, dict[str, np.ndarray]]]
LANGUAGES = ("en", "de", "ja")


def made(
    seeds: int = 5, items: int = 60, gain: float = 0.1, seed: int = 0, methods: tuple[str, ...] = ("vanilla", "ear")
) -> Results:
    """Answers that depend on the item, the seed and chance; every method but the first is right more often."""
    rng = np.random.default_rng(seed)
    hard = rng.uniform(-0.3, 0.3, size=(items, 1))
    out: Results = {}
    for method in methods:
        likely = 0.6 + hard + rng.uniform(-0.1, 0.1, size=(items, 3)) + gain * (method != methods[0])
        out[method] = {}
        for one in range(seeds):
            right = rng.uniform(size=(items, 3)) < likely + rng.uniform(-0.05, 0.05)
            out[method][one] = {language: right[:, at] for at, language in enumerate(LANGUAGES)}
    return out


def pair(baseline: np.ndarray, method: np.ndarray) -> Results:
    """Results of two methods in one target from (seeds, items) each; the source is the same in both."""
    same = np.ones(np.shape(baseline)[1], dtype=bool)
    return {
        name: {seed: {"en": same, "de": np.asarray(row, dtype=bool)} for seed, row in enumerate(rows)}
        for name, rows in (("vanilla", baseline), ("ear", method))
    }


def one_seed(differences: list[int]) -> Results:
    """Results whose differences, item by item, are these: 1, 0 or -1."""
    row = np.array(differences)
    return pair(row[None] < 0, row[None] > 0)


def of(results: Results, language: str, seed: Any, item: int) -> float:
    """Difference of one answer; of the target mean, by hand."""
    if language == "target_mean":
        return sum(of(results, target, seed, item) for target in ("de", "ja")) / 2
    return float(results["ear"][seed][language][item]) - float(results["vanilla"][seed][language][item])


def by_loops(results: Results, language: str, groups: list[Any]) -> tuple[float, float, float]:
    """Gain, standard error and degrees of freedom from sums of squares, term by term."""
    seeds, names, n = list(results["ear"]), sorted(set(groups)), len(groups)
    s, c = len(seeds), len(names)
    gain = sum(of(results, language, seed, i) for seed in seeds for i in range(n)) / s / n
    value = {
        (seed, name): sum(of(results, language, seed, i) - gain for i in range(n) if groups[i] == name) * c / n
        for seed in seeds
        for name in names
    }
    seed_mean = {seed: sum(value[seed, name] for name in names) / c for seed in seeds}
    name_mean = {name: sum(value[seed, name] for seed in seeds) / s for name in names}
    between_names = s * sum(x**2 for x in name_mean.values()) / (c - 1)
    if s == 1:
        return gain, math.sqrt(between_names / c), c - 1
    rest = sum((value[a, b] - seed_mean[a] - name_mean[b]) ** 2 for a in seeds for b in names) / ((s - 1) * (c - 1))
    between_seeds = max(rest, c * sum(x**2 for x in seed_mean.values()) / (s - 1))
    between_names = max(rest, between_names)
    total = between_seeds + between_names - rest
    spread = between_seeds**2 / (s - 1) + between_names**2 / (c - 1) + rest**2 / ((s - 1) * (c - 1))
    return gain, math.sqrt(total / s / c), max(total**2 / spread, min(s, c) - 1)


# --- intervals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("language", ["target_mean", "de"])
def test_the_crossed_bootstrap_by_plain_loops(language: str, grouped: bool) -> None:
    results = made(items=24)
    groups = [i % 7 + (i > 12) for i in range(24)] if grouped else list(range(24))  # unequal groups
    found = gain_interval(results, "vanilla", groups=groups if grouped else None)["ear"][language]
    rng, names = np.random.default_rng(5), sorted(set(groups))
    members = {name: [i for i in range(24) if groups[i] == name] for name in names}
    table = [[of(results, language, seed, i) for i in range(24)] for seed in range(5)]
    gains = []
    for _ in range(8000):
        items = [i for name in rng.choice(names, size=len(names)) for i in members[name]]
        gains.append(sum(table[seed][i] for seed in rng.integers(5, size=5) for i in items) / 5 / len(items))
    gain, error, df = by_loops(results, language, groups)
    assert found["gain"] == pytest.approx(gain)
    tail = stats.norm.cdf(stats.t.ppf(0.025, df))
    ends = [gain + (end - gain) * error / np.std(gains) for end in np.quantile(gains, [tail, 1 - tail])]
    assert found["interval"] == pytest.approx(ends, abs=0.06 * (ends[1] - ends[0]))
    assert found["interval_over"] == "items and seeds"
    assert found["by_seed"] == []


def test_one_seed_is_the_paired_percentile_bootstrap_of_scipy() -> None:
    results = made(seeds=1, items=200)
    found = gain_interval(results, "vanilla")["ear"]["de"]
    assert found["interval"] is None and found["interval_over"] == "items, for each seed"
    difference = results["ear"][0]["de"].astype(float) - results["vanilla"][0]["de"]
    level = 1 - 2 * stats.norm.cdf(-stats.t.ppf(0.975, 199))
    expected = stats.bootstrap(
        (difference,), np.mean, method="percentile", confidence_level=level, rng=np.random.default_rng(1)
    ).confidence_interval
    (only,) = found["by_seed"]
    assert (only["seed"], only["gain"]) == (0, pytest.approx(difference.mean()))
    assert only["interval"] == pytest.approx(list(expected), abs=0.01)
    assert found["over_seeds"] == {"mean": only["gain"], "sd": None, "min": only["gain"], "max": only["gain"]}


@pytest.mark.parametrize("seeds", [2, 4])
def test_below_five_seeds_each_has_its_own_interval_and_the_spread_stands_beside(seeds: int) -> None:
    results = made(seeds=seeds)
    found = gain_interval(results, "vanilla", resamples=500)["ear"]
    for language in ("target_mean", *LANGUAGES):
        entry, gains = found[language], []
        assert entry["interval"] is None
        for seed in range(seeds):
            alone = {method: {seed: results[method][seed]} for method in results}
            expected = gain_interval(alone, "vanilla", resamples=500)["ear"][language]["by_seed"][0]
            assert entry["by_seed"][seed]["seed"] == seed
            assert entry["by_seed"][seed]["interval"] == pytest.approx(expected["interval"])
            gains.append(sum(of(results, language, seed, i) for i in range(60)) / 60)
            assert entry["by_seed"][seed]["gain"] == pytest.approx(gains[-1])
        spread = {"mean": plain.mean(gains), "sd": plain.stdev(gains), "min": min(gains), "max": max(gains)}
        assert entry["over_seeds"] == pytest.approx(spread)


def test_from_five_seeds_on_the_spread_is_there_too() -> None:
    results = made()
    gains = [sum(of(results, "de", seed, i) for i in range(60)) / 60 for seed in range(5)]
    entry = gain_interval(results, "vanilla", resamples=500)["ear"]["de"]
    assert entry["over_seeds"]["sd"] == pytest.approx(plain.stdev(gains))
    assert entry["interval"][0] < entry["gain"] < entry["interval"][1]


def test_items_are_drawn_jointly_over_languages() -> None:
    """What German gains, Japanese loses, item by item: so the target mean is 0 in every resample."""
    results = made()
    for seed in range(5):
        gained = results["ear"][seed]["de"].astype(int) - results["vanilla"][seed]["de"]
        results["vanilla"][seed]["ja"], results["ear"][seed]["ja"] = gained > 0, gained < 0
    found = gain_interval(results, "vanilla", resamples=500)["ear"]
    assert found["target_mean"]["interval"] == pytest.approx([0, 0], abs=1e-12)
    assert found["de"]["interval"][1] - found["de"]["interval"][0] > 0.1
    assert found["ja"]["interval"] == pytest.approx([-found["de"]["interval"][1], -found["de"]["interval"][0]])


@pytest.mark.parametrize("seeds", [1, 5])
def test_rows_that_are_copies_add_nothing_once_they_are_grouped(seeds: int) -> None:
    single = made(seeds=seeds)
    tripled = {
        method: {seed: {lang: np.repeat(right, 3) for lang, right in row.items()} for seed, row in rows.items()}
        for method, rows in single.items()
    }
    groups = [f"premise {i // 3}" for i in range(180)]
    plainly, grouped = (
        summary(single, "vanilla", resamples=500),
        summary(tripled, "vanilla", groups=groups, resamples=500),
    )
    assert (grouped["n_groups"], grouped["rows"]["de"]["n_items"], plainly["n_groups"]) == (60, 180, 60)
    for language in ("target_mean", *LANGUAGES):
        a, b = plainly["rows"][language]["gain"]["ear"], grouped["rows"][language]["gain"]["ear"]
        assert [a[key] for key in ("p", "holm")] == [b[key] for key in ("p", "holm")]
        assert a["detectable"] == pytest.approx(b["detectable"])
        a, b = (entry if seeds == 5 else entry["by_seed"][0] for entry in (a, b))
        assert a["interval"] == pytest.approx(b["interval"])
    if seeds == 1:
        blind = summary(tripled, "vanilla", resamples=500)["rows"]["de"]["gain"]["ear"]
        assert blind["detectable"] < 0.6 * grouped["rows"]["de"]["gain"]["ear"]["detectable"]


def test_the_seed_of_the_resampling_decides_and_nothing_else() -> None:
    results = made(methods=("vanilla", "ear", "rsda"))
    first = gain_interval(results, "vanilla", resamples=500, seed=1)
    assert gain_interval(results, "vanilla", resamples=500, seed=1) == first
    assert gain_interval(results, "vanilla", resamples=500, seed=2) != first
    alone = {method: results[method] for method in ("ear", "vanilla")}
    assert gain_interval(alone, "vanilla", resamples=500, seed=1) == {"ear": first["ear"]}
    flips = sign_flip(results, "vanilla", resamples=500, seed=1)
    assert sign_flip(results, "vanilla", resamples=500, seed=1) == flips
    assert sign_flip(results, "vanilla", resamples=500, seed=2) != flips
    assert sign_flip(alone, "vanilla", resamples=500, seed=1) == {"ear": flips["ear"]}


def test_parts_of_a_large_resampling_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """65,537 items are drawn in parts of 63 resamples or fewer; equal answers leave nothing to chance."""
    rows = np.arange(2**16 + 1) % 2 == 0
    found = gain_interval(pair(rows[None], np.ones_like(rows)[None]), "vanilla", resamples=130)["ear"]["de"]["by_seed"][
        0
    ]
    error = math.sqrt(0.25 / len(rows))
    assert found["interval"] == pytest.approx(
        [found["gain"] - 1.96 * error, found["gain"] + 1.96 * error], abs=error / 2
    )


def worlds() -> dict[str, Callable[[np.random.Generator], Results]]:
    """Where the difference of two methods comes from; its true value is 0.06 in each."""
    seeds, items = 5, 80

    def of_seeds(rng: np.random.Generator) -> Results:
        """The same luck for both methods: what differs is the seeds' own gain."""
        luck = rng.uniform(size=(seeds, items))
        return pair(luck < 0.5, luck < 0.56 + rng.uniform(-0.3, 0.3, size=(seeds, 1)))

    def of_items(rng: np.random.Generator) -> Results:
        """All seeds answer alike."""
        luck = rng.uniform(size=(2, 1, items)).repeat(seeds, 1)
        return pair(luck[0] < 0.5, luck[1] < 0.56)

    def of_answers(rng: np.random.Generator) -> Results:
        """Each answer is a draw of its own."""
        luck = rng.uniform(size=(2, seeds, items))
        return pair(luck[0] < 0.5, luck[1] < 0.56)

    def of_all(rng: np.random.Generator) -> Results:
        luck = rng.uniform(size=(2, seeds, items))
        gain = rng.uniform(-0.1, 0.1, size=(seeds, 1)) + rng.choice([-0.4, 0.4], size=items)
        return pair(luck[0] < 0.5, luck[1] < 0.5 + 0.06 + gain)

    return {world.__name__: world for world in (of_seeds, of_items, of_answers, of_all)}


@pytest.mark.parametrize(
    ("world", "least", "most"),
    [("of_seeds", 0.90, 0.98), ("of_items", 0.91, 0.98), ("of_answers", 0.94, 1), ("of_all", 0.91, 0.995)],
)
def test_intervals_of_five_seeds_cover_the_truth(world: str, least: float, most: float) -> None:
    rng, covered = np.random.default_rng(0), 0
    for seed in range(300):
        low, high = gain_interval(worlds()[world](rng), "vanilla", resamples=1000, seed=seed)["ear"]["de"]["interval"]
        covered += low <= 0.06 <= high
    assert least <= covered / 300 <= most


@pytest.mark.parametrize("grouped", [True, False])
def test_intervals_of_grouped_items_cover_the_truth_once_the_groups_are_given(grouped: bool) -> None:
    rng, covered, groups = np.random.default_rng(0), 0, [i // 3 for i in range(180)]
    for seed in range(300):
        luck = rng.uniform(size=(2, 1, 60)).repeat(3, 2)  # three rows of a premise share their fate
        results = pair(luck[0] < 0.5, luck[1] < 0.56)
        found = gain_interval(results, "vanilla", groups=groups if grouped else None, resamples=1000, seed=seed)
        low, high = found["ear"]["de"]["by_seed"][0]["interval"]
        covered += low <= 0.06 <= high
    assert 0.91 <= covered / 300 <= 0.98 if grouped else covered / 300 < 0.85


# --- tests ---------------------------------------------------------------------------------------------------------


def flips_by_loops(totals: list[float]) -> float:
    reached = [
        abs(sum(s * t for s, t in zip(signs, totals, strict=True))) for signs in product((-1, 1), repeat=len(totals))
    ]
    return sum(value >= abs(sum(totals)) - 1e-9 for value in reached) / len(reached)


@pytest.mark.parametrize("seed", range(6))
def test_few_items_are_counted_exactly(seed: int) -> None:
    results = made(seeds=3, items=11, seed=seed)
    found = sign_flip(results, "vanilla")["ear"]
    for language in ("target_mean", *LANGUAGES):
        totals = [sum(of(results, language, s, i) for s in range(3)) for i in range(11)]
        assert found[language]["exact"] is True
        assert found[language]["p"] == pytest.approx(flips_by_loops(totals))
        by_scipy = stats.permutation_test(
            (np.array(totals),), lambda x, axis: x.sum(axis), permutation_type="samples", vectorized=True
        )
        assert found[language]["p"] == pytest.approx(by_scipy.pvalue)


def test_many_items_are_drawn_and_agree_with_scipy() -> None:
    results = made(seeds=3, items=150, gain=0.03)
    found = sign_flip(results, "vanilla", resamples=20_000)["ear"]
    for language in ("target_mean", *LANGUAGES):
        totals = np.array([sum(of(results, language, s, i) for s in range(3)) for i in range(150)])
        by_scipy = stats.permutation_test(
            (totals,), lambda x, axis: x.sum(axis), permutation_type="samples", vectorized=True, batch=500, rng=1
        )
        assert found[language]["exact"] is False
        assert found[language]["p"] == pytest.approx(by_scipy.pvalue, abs=0.02)


@pytest.mark.parametrize(("won", "lost"), [(9, 4), (10, 4), (30, 14), (20, 20), (60, 40)])
def test_of_one_seed_it_is_mcnemars_exact_test(won: int, lost: int) -> None:
    found = sign_flip(one_seed([1] * won + [-1] * lost + [0] * 25), "vanilla", resamples=50_000)["ear"]["de"]
    exact = won + lost <= 13
    assert found["exact"] is exact
    assert found["p"] == pytest.approx(stats.binomtest(won, won + lost).pvalue, abs=1e-12 if exact else 0.01)


def test_p_is_never_0_and_1_where_nothing_differs() -> None:
    assert sign_flip(one_seed([1] * 60), "vanilla", resamples=999)["ear"]["de"]["p"] == 1 / 1000
    assert sign_flip(one_seed([1] * 13), "vanilla")["ear"]["de"]["p"] == 2 / 2**13
    nothing = sign_flip(one_seed([0] * 60), "vanilla")["ear"]
    assert nothing["de"] == nothing["en"] == {"p": 1.0, "holm": 1.0, "exact": True}


def test_seeds_are_flipped_together_so_that_copies_of_a_seed_add_nothing() -> None:
    results = made(seeds=1, items=40)
    copies = {method: {seed: rows[0] for seed in range(5)} for method, rows in results.items()}
    assert sign_flip(copies, "vanilla") == sign_flip(results, "vanilla")


def test_groups_are_flipped_together() -> None:
    results = made(seeds=2, items=33)
    groups = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"] * 3
    found = sign_flip(results, "vanilla", groups=groups)["ear"]
    for language in ("target_mean", *LANGUAGES):
        totals = [sum(of(results, language, s, i) for s in (0, 1) for i in range(at, 33, 11)) for at in range(11)]
        assert found[language] == {"p": pytest.approx(flips_by_loops(totals)), "exact": True} | {
            "holm": found[language]["holm"]
        }


def test_p_of_methods_that_do_not_differ_is_below_a_level_as_often_as_the_level_says() -> None:
    found = []
    for seed in range(400):
        results = made(seeds=2, items=40, gain=0, seed=seed)
        found.append(sign_flip(results, "vanilla", resamples=499, seed=seed)["ear"]["target_mean"]["p"])
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize("seed", range(4))
def test_holm_rejects_what_its_steps_reject(seed: int) -> None:
    entries = sign_flip(made(items=50, gain=0.05, seed=seed), "vanilla", resamples=999)["ear"]
    assert entries["target_mean"]["holm"] is None
    p = {language: entries[language]["p"] for language in LANGUAGES}
    for level in np.linspace(0.001, 0.999, 77):
        rejected, left = set(), dict(p)
        while left and min(left.values()) <= level / len(left):
            smallest = min(left, key=left.__getitem__)
            rejected.add(smallest)
            del left[smallest]
        assert {language for language in LANGUAGES if entries[language]["holm"] <= level} == rejected


# --- what could have been seen -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [1, 2, 5])
@pytest.mark.parametrize("groups", [None, [i % 9 + (i > 30) for i in range(60)]])
def test_detectable_by_sums_of_squares(seeds: int, groups: list[int] | None) -> None:
    results = made(seeds=seeds)
    found = detectable(results, "vanilla", groups=groups)["ear"]
    for language in ("target_mean", *LANGUAGES):
        _, error, df = by_loops(results, language, groups or list(range(60)))
        assert found[language] == {
            "difference": pytest.approx((stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)) * error),
            "se": pytest.approx(error),
            "df": pytest.approx(df),
            "over": "items" if seeds == 1 else "items and seeds",
        }


def test_one_seed_has_the_standard_error_of_a_mean() -> None:
    results = made(seeds=1)
    difference = results["ear"][0]["de"].astype(float) - results["vanilla"][0]["de"]
    assert detectable(results, "vanilla")["ear"]["de"]["se"] == pytest.approx(stats.sem(difference))


def test_its_standard_error_is_that_of_the_gains_of_new_seeds_and_items() -> None:
    rng = np.random.default_rng(0)
    found = [worlds()["of_all"](rng) for _ in range(600)]
    gains = [np.mean([of(results, "de", s, i) for s in range(5) for i in range(80)]) for results in found[:600]]
    squares = [detectable(results, "vanilla")["ear"]["de"]["se"] ** 2 for results in found]
    assert np.mean(gains) == pytest.approx(0.06, abs=0.01)
    assert np.mean(squares) == pytest.approx(np.var(gains), rel=0.15)


def test_a_true_difference_of_that_size_is_shown_four_times_in_five() -> None:
    rng, items = np.random.default_rng(0), 150

    def world(gain: float) -> Results:
        luck = rng.uniform(size=(2, 1, items))
        return pair(luck[0] < 0.5 - gain / 2, luck[1] < 0.5 + gain / 2)

    sizes = [detectable(world(0.15), "vanilla")["ear"]["de"]["difference"] for _ in range(100)]
    shown = []
    for seed in range(500):
        results = world(float(np.mean(sizes)))
        shown.append(sign_flip(results, "vanilla", resamples=499, seed=seed)["ear"]["de"]["p"] <= 0.05)
    assert np.mean(shown) == pytest.approx(0.8, abs=0.05)


def test_what_does_not_vary_tells_nothing() -> None:
    entry = detectable(one_seed([0] * 20), "vanilla")["ear"]["de"]
    assert (entry["difference"], entry["se"]) == (None, 0)
    results = {method: {seed: rows[0] for seed in range(5)} for method, rows in one_seed([0] * 20).items()}
    assert detectable(results, "vanilla")["ear"]["de"]["difference"] is None
    assert gain_interval(results, "vanilla", resamples=100)["ear"]["de"]["interval"] == [0, 0]


# --- summary -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_the_summary_is_what_the_functions_say_and_goes_into_json(seeds: int) -> None:
    results = made(seeds=seeds, methods=("ear", "vanilla", "rsda"))
    found = summary(results, "vanilla", resamples=500, seed=3)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    rows = found.pop("rows")
    assert found == {
        "baseline": "vanilla", "methods": ["ear", "rsda"], "source": "en", "seeds": list(range(seeds)),
        "n_groups": 60, "level": 0.95, "resamples": 500, "seed": 3,
    }  # fmt: skip
    assert list(rows) == ["target_mean", *LANGUAGES]
    gains = gain_interval(results, "vanilla", resamples=500, seed=3)
    tests = sign_flip(results, "vanilla", resamples=500, seed=3)
    least = detectable(results, "vanilla")
    for language, row in rows.items():
        assert (row["n_items"], row["n_seeds"], set(row)) == (60, seeds, {"n_items", "n_seeds", "accuracy", "gain"})
        for method in results:
            scores = [Scores("en", "test", results[method][seed]) for seed in range(seeds)]
            values = [one.target_mean if language == "target_mean" else one.accuracy[language] for one in scores]
            spread = plain.stdev(values) if seeds > 1 else None
            assert row["accuracy"][method] == {"mean": pytest.approx(plain.mean(values)), "sd": pytest.approx(spread)}
        for method in ("ear", "rsda"):
            expected = {"p": tests[method][language]["p"], "holm": tests[method][language]["holm"]}
            expected["detectable"] = least[method][language]["difference"]
            assert row["gain"][method] == gains[method][language] | expected
            means = row["accuracy"]
            assert row["gain"][method]["gain"] == pytest.approx(means[method]["mean"] - means["vanilla"]["mean"])


def table(text: str) -> list[dict[str, str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_the_table_of_five_seeds_shows_mean_spread_and_gain_with_its_interval() -> None:
    found = summary(made(), "vanilla", resamples=500)
    text = markdown(found)
    shown = table(text)
    assert [row["language"] for row in shown] == ["**target mean**", "en (source)", "de", "ja"]
    for line, row in zip(shown, found["rows"].values(), strict=True):
        for method in ("vanilla", "ear"):
            assert line[method] == "{mean:.1f} ± {sd:.1f}".format(
                **{k: 100 * v for k, v in row["accuracy"][method].items()}
            )
        gain = row["gain"]["ear"]
        assert line["gain [95 %]"] == "{:+.1f} [{:+.1f}, {:+.1f}]".format(
            *(100 * x for x in (gain["gain"], *gain["interval"]))
        )
        assert line["p"] == ("<0.001" if gain["p"] < 0.001 else f"{gain['p']:.3f}")
        assert line["detectable"] == f"{100 * gain['detectable']:.1f}"
        assert set(line) == {"language", "vanilla", "ear", "gain [95 %]", "p", "Holm p", "detectable"}
    assert shown[0]["Holm p"] == "" != shown[1]["Holm p"]
    head = text.splitlines()[0]
    assert "5 seeds (0, 1, 2, 3, 4), 60 items per language; gain [95 % interval over items and seeds]" in head
    assert markdown(json.loads(json.dumps(found))) == text


def test_the_table_of_few_seeds_shows_each_and_their_spread() -> None:
    found = summary(made(seeds=3), "vanilla", groups=[i // 3 for i in range(60)], resamples=500)
    text = markdown(found)
    assert (
        "60 items in 20 groups per language" in text and "each seed with its [95 % interval over items alone]" in text
    )
    for line, row in zip(table(text), found["rows"].values(), strict=True):
        gain = row["gain"]["ear"]
        numbers = [100 * gain["over_seeds"][key] for key in ("mean", "sd", "min", "max")]
        assert line["gain"] == "{:+.1f} ± {:.1f} ({:+.1f} to {:+.1f})".format(*numbers)
        for seed in range(3):
            one = gain["by_seed"][seed]
            expected = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * x for x in (one["gain"], *one["interval"])))
            assert line[f"seed {seed} [95 %]"] == expected


def test_each_method_has_a_table_and_what_is_not_known_stays_empty() -> None:
    results = made(seeds=1, methods=("vanilla", "ear", "rsda"))
    results["rsda"] = results["vanilla"]
    ear, rsda = (part for part in markdown(summary(results, "vanilla", resamples=500)).split("\n\n**"))
    assert ear.startswith("**ear** against **vanilla**") and rsda.startswith("rsda** against **vanilla**")
    for line in table(rsda):
        assert (line["gain"], line["seed 0 [95 %]"], line["p"]) == ("+0.0", "+0.0 [+0.0, +0.0]", "1.000")
        assert line["detectable"] == "" and "±" not in line["rsda"]


def test_seeds_of_numpy_go_into_json_too() -> None:
    results = {method: {np.int64(seed): row for seed, row in rows.items()} for method, rows in made().items()}
    assert json.loads(json.dumps(summary(results, "vanilla", resamples=100)))["seeds"] == [0, 1, 2, 3, 4]


# --- input that cannot be paired -----------------------------------------------------------------------------------


def without(results: Results, *path: Any) -> Results:
    copy: Any = {method: {seed: dict(row) for seed, row in rows.items()} for method, rows in results.items()}
    place = copy
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return copy


def with_value(results: Results, method: str, seed: int, language: str, value: Any) -> Results:
    copy: Any = {method: {seed: dict(row) for seed, row in rows.items()} for method, rows in results.items()}
    copy[method][seed][language] = value
    return copy


GOOD = made(seeds=2, items=6)
NAN = np.array([1, 0, np.nan, 1, 0, 1])


@pytest.mark.parametrize(
    ("results", "options", "message"),
    [
        (GOOD, {"baseline": "vanila"}, r'Unknown baseline "vanila"\. Did you mean "vanilla"\?'),
        ({"vanilla": GOOD["vanilla"]}, {}, "only the baseline .vanilla.: add the results of a method"),
        (GOOD | {"vanilla": {}}, {}, '"vanilla" has no seed'),
        (without(GOOD, "ear", 1), {}, r'"ear" has the seeds 0, "vanilla" 0, 1: .* same ones\. Run .* or leave out 1'),
        (without(GOOD, "vanilla", 1), {}, r'"ear" has the seeds 0, 1, "vanilla" 0: .* or leave out 1'),
        (GOOD, {"source": "fr"}, r'Unknown source language "fr"'),
        (without(without(GOOD, "ear", 1, "de"), "ear", 1, "ja"), {}, "ear, seed 1: de, ja is not in all results"),
        (with_value(GOOD, "vanilla", 1, "fr", NAN > 0), {}, "vanilla, seed 1: fr is not in all results"),
        (with_value(GOOD, "ear", 1, "de", np.ones(5, bool)), {}, r"ear, seed 1, de: shape \(5,\), elsewhere \(6,\)"),
        (with_value(GOOD, "vanilla", 0, "ja", np.ones(7, bool)), {}, r"vanilla, seed 0, ja: shape \(7,\)"),
        (with_value(GOOD, "ear", 0, "de", np.ones((6, 1), bool)), {}, r"ear, seed 0, de: shape \(6, 1\)"),
        (with_value(GOOD, "ear", 0, "de", NAN), {}, "ear, seed 0, de: an item is right or wrong, but there is NaN"),
        (with_value(GOOD, "ear", 0, "de", np.full(6, 0.5)), {}, r"give `Scores\.correct`"),
        (made(seeds=2, items=1), {}, r"vanilla, seed 0, en: expected \(items,\) with two or more, got \(1,\)"),
        (GOOD, {"groups": [0, 1]}, "2 groups for 6 items: give one per item"),
        (GOOD, {"groups": ["a"] * 6}, "All 6 items are of one group"),
    ],
)
def test_input_that_cannot_be_paired_is_refused_with_a_remedy(results: Results, options: Any, message: str) -> None:
    for function in (gain_interval, sign_flip, detectable, summary):
        with pytest.raises(XltError, match=message):
            function(results, **{"baseline": "vanilla"} | options)


def test_a_source_alone_and_too_few_resamples_are_refused() -> None:
    english = {method: {0: {"en": rows[0]["en"]}} for method, rows in GOOD.items()}
    with pytest.raises(XltError, match="The only language is the source en: add a target"):
        detectable(english, "vanilla")
    for function in (gain_interval, sign_flip, summary):
        with pytest.raises(XltError, match="resamples=99 are too few"):
            function(GOOD, "vanilla", resamples=99)


def test_zeros_and_ones_do_as_well_as_booleans() -> None:
    numbers: Results = {
        method: {seed: {lang: right.astype(int) for lang, right in row.items()} for seed, row in rows.items()}
        for method, rows in GOOD.items()
    }
    assert summary(numbers, "vanilla", resamples=100) == summary(GOOD, "vanilla", resamples=100)
