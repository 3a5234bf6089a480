"""What a gain is worth: intervals, tests and detectable differences, always paired against a baseline.

Every function takes ``{method: {seed: {language: correct}}}`` with ``correct`` (items,) booleans, the ``correct`` of a
``Scores``. All methods were run with the same seeds and tested on the same items, and item i is the same concept in
every language. So the difference of two methods is taken item by item and seed by seed, and what they share cancels.

Differences and accuracies are shares from 0 to 1. Results hold one entry for ``"target_mean"``, the mean over every
language but the source, and one for each language. Errors are ``XltError``: for an unknown baseline or source, seeds,
languages or items that do not match, values that are not right or wrong (such as NaN), and fewer than two items.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from scipy import stats

from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.styles import markdown_text

Results = Mapping[str, Mapping[Any, Mapping[str, np.ndarray]]]
Entries = dict[str, dict[str, dict[str, Any]]]  # method -> "target_mean" or language -> entry
LEVEL = 0.95  # of an interval; a test rejects at 1 - LEVEL
POWER = 0.8
ENOUGH_SEEDS = 5  # from here on seeds are resampled: 3 of them have only 10 different resamples
EXACT = 13  # so many clusters have 8,192 patterns of signs: no more than are drawn otherwise


def gain_interval(
    results: Results,
    baseline: str,
    source: str = "en",
    groups: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Entries:
    """Bootstrap the gain of each method over the baseline, with a 95 % interval.

    A resample draws items with replacement, the same ones in every language, seed and method. From five seeds on it
    draws seeds too, independently of the items (crossed: Owen, "The Pigeonhole Bootstrap", 2007), and the interval
    speaks of new items and new seeds. Fewer seeds say too little of other seeds: then each seed gets an interval of its
    own over items alone, and the spread over seeds stands beside it, in no interval.

    The interval is the percentile one with two corrections. The tails lie at ``Phi(-t)``, ``t`` the quantile of
    Student's distribution (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015), because five seeds are
    few. The resampled gains are scaled about the gain to the standard error of ``detectable``, because crossed
    resampling counts the noise of single answers three times (Owen, 2007) and the spread of S seeds only (S - 1) / S
    times. Simulated with five seeds, it covers the truth in 93 % of cases where seeds alone differ (the plain one: 86
    %), 95 % to 96 % where items differ, or all together, and 99.6 % where single answers alone do. Not BCa: it has no
    standard form for crossed data, and for means of few values it tends to cover too little (Owen, "Better Bootstrap t
    Confidence Intervals for the Mean", 2025).

    Args:
        results: ``{method: {seed: {language: correct}}}``.
        baseline: The method that the others are compared with.
        source: The source language, which the target mean leaves out.
        groups: One per item; items of one group are drawn together (XNLI: the premise, which three rows share).
        resamples: How many, 100 or more.
        seed: Seed of the resampling.

    Returns:
        ``{method: {"target_mean" | language: entry}}``. An entry has ``gain``; ``interval`` (low, high), ``None``
        below five seeds; ``interval_over``, what it speaks of; ``over_seeds`` with ``mean``, ``sd`` (``None`` of one
        seed), ``min`` and ``max`` of the gains of single seeds; and ``by_seed``, for each seed ``seed``, ``gain`` and
        ``interval`` over items, empty from five seeds on.

    Raises:
        XltError: For input that cannot be paired; see the head of this file.
    """
    runs = _checked(results, baseline, source, groups, resamples)
    out: Entries = {}
    for method in runs.methods:
        cells = runs.differences(method)
        single = cells.sum(1) / runs.sizes.sum()  # gain of each seed: (seeds, columns)
        drawn = _resampled(cells, runs.sizes, resamples, seed)
        if runs.enough:
            found = [_interval(drawn.mean(1), single.mean(0), *_standard_error(cells, runs.sizes))]
        else:
            errors = [_standard_error(cells[[at]], runs.sizes) for at in range(len(cells))]
            found = [_interval(drawn[:, at], single[at], *errors[at]) for at in range(len(cells))]
        out[method] = {}
        for column, name in enumerate(runs.columns):
            gains = single[:, column]
            each = [
                {"seed": one, "gain": float(gain), "interval": found[at][column].tolist()}
                for at, (one, gain) in enumerate(zip(runs.seeds, gains, strict=True))
                if not runs.enough
            ]
            out[method][name] = {
                "gain": float(gains.mean()),
                "interval": found[0][column].tolist() if runs.enough else None,
                "interval_over": "items and seeds" if runs.enough else "items, for each seed",
                "over_seeds": _spread(gains) | {"min": float(gains.min()), "max": float(gains.max())},
                "by_seed": each,
            }
    return out


def sign_flip(
    results: Results,
    baseline: str,
    source: str = "en",
    groups: Sequence[Hashable] | None = None,
    resamples: int = 9_999,
    seed: int = 0,
) -> Entries:
    """Test each gain by flipping signs: had the two methods changed places on an item, would it be as large?

    Where a method is no better than the baseline, their difference on an item is as likely to have the other sign
    (Fisher's paired permutation test; for NLP: Dror et al., "The Hitchhiker's Guide to Testing Statistical
    Significance in Natural Language Processing", 2018). An item, or a group, is flipped in all seeds at once. ``p`` is
    two-sided: the share of sign patterns whose absolute sum reaches the observed one. All patterns are counted where at
    most 13 items or groups differ at all; otherwise ``resamples`` are drawn, and p is ``(1 + reached) / (1 +
    resamples)``, which is never 0 (Phipson and Smyth, "Permutation P-values Should Never Be Zero", 2010).

    ``holm`` corrects p for as many tests as there are languages (Holm, 1979), method by method; the target mean is one
    test of its own and needs no correction (``None``). The seeds are taken as they are: p speaks of new items for
    these trained models. Of new seeds speaks the interval, which can hold 0 where p is small.

    Args:
        results: ``{method: {seed: {language: correct}}}``.
        baseline: The method that the others are compared with.
        source: The source language, which the target mean leaves out.
        groups: One per item; items of one group are flipped together.
        resamples: Sign patterns that are drawn where there are too many to count.
        seed: Seed of the drawing.

    Returns:
        ``{method: {"target_mean" | language: entry}}``; an entry has ``p``, ``holm`` and ``exact``.

    Raises:
        XltError: For input that cannot be paired; see the head of this file.
    """
    runs = _checked(results, baseline, source, groups, resamples)
    out: Entries = {}
    for method in runs.methods:
        rng = np.random.default_rng(seed)
        # In whole numbers, so that equal sums are equal: the target mean comes as a fraction of the targets.
        totals = np.rint(runs.differences(method).sum(0) * runs.targets).astype(np.int64)
        found = [_flipped(total, resamples, rng) for total in totals.T]
        corrected = [None, *_holm([p for p, _ in found[1:]])]
        out[method] = {
            name: {"p": p, "holm": holm, "exact": exact}
            for name, (p, exact), holm in zip(runs.columns, found, corrected, strict=True)
        }
    return out


def detectable(
    results: Results, baseline: str, source: str = "en", groups: Sequence[Hashable] | None = None
) -> Entries:
    """Return the smallest true difference that these seeds and items would have shown: 80 % power at 5 %, two-sided.

    ``difference = (t(0.975, df) + t(0.8, df)) se`` (Bloom, "Minimum Detectable Effects", 1995), t the quantiles of
    Student's distribution. ``se`` is the standard error of the mean paired difference where S seeds are crossed with C
    items (or groups), from the mean squares of a two-way analysis of variance:

        se^2 = (MS_seeds + MS_items - MS_rest) / (S C),

    with MS_seeds and MS_items not below MS_rest, as a variance is not below 0. ``df`` is Satterthwaite's (1946):

        (S C se^2)^2 / (MS_seeds^2 / (S - 1) + MS_items^2 / (C - 1) + MS_rest^2 / ((S - 1) (C - 1))),

    and not below the smaller of S - 1 and C - 1. The values of groups of unequal size are the linearised ones: ``C /
    n`` times the sum over the group's items of the differences less the gain, n items in all. One seed says nothing of
    seeds: then ``se^2 = MS_items / C``, ``df = C - 1``, and new seeds are left out. The 5 % are those of one test: no
    correction for many languages.

    It uses no resampling, hence no seed.

    Args:
        results: ``{method: {seed: {language: correct}}}``.
        baseline: The method that the others are compared with.
        source: The source language, which the target mean leaves out.
        groups: One per item, as in ``gain_interval``.

    Returns:
        ``{method: {"target_mean" | language: entry}}``; an entry has ``difference`` (``None`` where the paired
        differences do not vary, which tells nothing), ``se``, ``df`` and ``over``, what it speaks of.

    Raises:
        XltError: For input that cannot be paired; see the head of this file.
    """
    runs = _checked(results, baseline, source, groups)
    over = "items and seeds" if len(runs.seeds) > 1 else "items"
    out: Entries = {}
    for method in runs.methods:
        errors, freedoms = _standard_error(runs.differences(method), runs.sizes)
        quantiles = stats.t.ppf((1 + LEVEL) / 2, freedoms) + stats.t.ppf(POWER, freedoms)
        out[method] = {
            name: {"difference": float(by * se) if se else None, "se": float(se), "df": float(df), "over": over}
            for name, by, se, df in zip(runs.columns, quantiles, errors, freedoms, strict=True)
        }
    return out


def summary(
    results: Results,
    baseline: str,
    source: str = "en",
    groups: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Collect accuracies, gains, intervals, p-values and detectable differences in one JSON-ready dict.

    Args:
        results: ``{method: {seed: {language: correct}}}``; seeds are whole numbers or strings.
        baseline: The method that the others are compared with.
        source: The source language, which the target mean leaves out.
        groups: One per item, as in ``gain_interval``.
        resamples: Of ``gain_interval``; ``sign_flip`` draws as many where it cannot count.
        seed: Seed of the resampling.

    Returns:
        ``baseline``, ``methods`` (without it), ``source``, ``seeds``, ``n_groups`` (units that are resampled),
        ``level``, ``resamples``, ``seed``, and ``rows``: for ``"target_mean"`` and each language ``n_items``,
        ``n_seeds``, ``accuracy`` ``{method: {"mean", "sd"}}`` (over seeds; ``sd`` is ``None`` of one) and ``gain``
        ``{method: ..}``, an entry of ``gain_interval`` and ``p``, ``holm`` and ``detectable``.

    Raises:
        XltError: For input that cannot be paired; see the head of this file.
    """
    runs = _checked(results, baseline, source, groups)
    gains = gain_interval(results, baseline, source, groups, resamples, seed)
    tests = sign_flip(results, baseline, source, groups, resamples, seed)
    least = detectable(results, baseline, source, groups)
    rows = {}
    for column, name in enumerate(runs.columns):
        accuracy = {method: _spread(right[..., column].mean(1)) for method, right in runs.right.items()}
        gain = {
            method: gains[method][name]
            | {key: tests[method][name][key] for key in ("p", "holm")}
            | {"detectable": least[method][name]["difference"]}
            for method in runs.methods
        }
        shape = {"n_items": len(runs.group), "n_seeds": len(runs.seeds)}
        rows[name] = shape | {"accuracy": accuracy, "gain": gain}
    head = {"baseline": baseline, "methods": runs.methods, "source": source, "seeds": runs.seeds}
    return head | {
        "n_groups": len(runs.sizes), "level": LEVEL, "resamples": resamples, "seed": seed, "rows": rows,
    }  # fmt: skip


def markdown(summary: Mapping[str, Any]) -> str:
    """Return a summary as Markdown: for each method a line that says how to read its table, and the table.

    Accuracies are in per cent, differences in points. Below five seeds the gain shows its spread over seeds, and each
    seed has a column with its own gain and interval over items.
    """
    baseline, rows, seeds = summary["baseline"], summary["rows"], summary["seeds"]
    first, level = rows["target_mean"], f"{100 * summary['level']:.0f} %"
    each = first["gain"][summary["methods"][0]]["by_seed"]
    spread = "mean ± standard deviation over" if len(seeds) > 1 else "of"
    counted = f"{len(seeds)} seed{'s' * (len(seeds) > 1)} ({', '.join(map(str, seeds))})"
    clusters = f" in {summary['n_groups']} groups" * (summary["n_groups"] < first["n_items"])
    told = f"gain [{level} interval over items and seeds]"
    if each:
        told = "gain" + " ± standard deviation (lowest to highest seed)" * (len(seeds) > 1)
        told += f", and of each seed with its [{level} interval over items alone]: it takes {ENOUGH_SEEDS} seeds to"
        told += " speak of others"
    parts = []
    for method in summary["methods"]:
        shown = [markdown_text(one) for one in (baseline, method)]
        heads = ["language", *shown, f"gain [{level}]" if not each else "gain"]
        heads += [f"seed {one['seed']} [{level}]" for one in each] + ["p", "Holm p", "detectable"]
        lines = []
        for name, row in rows.items():
            gain = row["gain"][method]
            safe = markdown_text(name)
            label = {"target_mean": "**target mean**", summary["source"]: f"{safe} (source)"}.get(name, safe)
            cells = [label, *(_accuracy(row["accuracy"][one]) for one in (baseline, method)), _gain(gain)]
            cells += [_points(one["gain"], one["interval"]) for one in gain["by_seed"]]
            least = "" if gain["detectable"] is None else f"{100 * gain['detectable']:.1f}"
            lines.append([*cells, _p(gain["p"]), _p(gain["holm"]), least])
        said = (
            f"**{shown[1]}** against **{shown[0]}**: accuracy in %, {spread} {counted}, {first['n_items']} items"
            f"{clusters} per language; {told}; differences in points; p by sign flips over items; detectable: the"
            f" smallest true difference that had a chance of {100 * POWER:.0f} % to show."
        )
        parts.append(f"{said}\n\n{markdown_table(heads, lines)}")
    return "\n\n".join(parts) + "\n"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown, whose first column is text and whose other columns are numbers."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class _Runs:
    """Results in arrays: ``right[method]`` is (seeds, items, columns), the first column the mean over targets."""

    baseline: str
    seeds: list[Any]
    columns: list[str]
    targets: int
    right: dict[str, np.ndarray]
    group: np.ndarray  # (items,), numbers from 0
    sizes: np.ndarray  # (groups,)

    @property
    def methods(self) -> list[str]:
        return [method for method in self.right if method != self.baseline]

    @property
    def enough(self) -> bool:
        return len(self.seeds) >= ENOUGH_SEEDS

    def differences(self, method: str) -> np.ndarray:
        """Method minus baseline, summed over the items of each group: (seeds, groups, columns)."""
        difference = self.right[method] - self.right[self.baseline]
        sums = np.zeros((len(self.sizes), len(self.seeds), len(self.columns)))
        np.add.at(sums, self.group, difference.transpose(1, 0, 2))
        return sums.transpose(1, 0, 2)


def _standard_error(cells: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of the gain and its degrees of freedom, (columns,) each; the formulas are in ``detectable``."""
    seeds, groups, _ = cells.shape
    gain = cells.sum((0, 1)) / (seeds * sizes.sum())
    value = (cells - gain * sizes[:, None]) * (groups / sizes.sum())
    of_seed, of_group = value.mean(1), value.mean(0)
    ms_items = seeds * (of_group**2).sum(0) / (groups - 1)
    if seeds == 1:
        return np.sqrt(ms_items / groups), np.full(len(gain), groups - 1.0)
    ms_rest = ((value - of_seed[:, None] - of_group) ** 2).sum((0, 1)) / ((seeds - 1) * (groups - 1))
    ms_seeds = np.maximum(groups * (of_seed**2).sum(0) / (seeds - 1), ms_rest)
    ms_items = np.maximum(ms_items, ms_rest)
    total = ms_seeds + ms_items - ms_rest
    parts = ms_seeds**2 / (seeds - 1) + ms_items**2 / (groups - 1) + ms_rest**2 / ((seeds - 1) * (groups - 1))
    df = np.divide(total**2, parts, out=np.zeros(len(gain)), where=parts > 0)
    return np.sqrt(total / (seeds * groups)), np.maximum(df, min(seeds, groups) - 1)


def _resampled(cells: np.ndarray, sizes: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Gains in resampled items, (resamples, seeds, columns); from five seeds on the seeds are resampled ones too."""
    seeds, groups, columns = cells.shape
    items_rng, seeds_rng = np.random.default_rng(seed).spawn(2)
    by_group = cells.transpose(1, 0, 2).reshape(groups, -1)
    parts, step = [], max(1, 2**22 // groups)  # as many at a time as 4 million drawn items: some 100 MB
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = items_rng.integers(groups, size=(count, groups)) + groups * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups).astype(np.float64)
        parts.append((times @ by_group) / (times @ sizes)[:, None])
    gains = np.concatenate(parts).reshape(resamples, seeds, columns)
    if seeds < ENOUGH_SEEDS:
        return gains
    chosen = seeds_rng.integers(seeds, size=(resamples, seeds))
    return np.take_along_axis(gains, chosen[..., None], axis=1)


def _interval(drawn: np.ndarray, gain: np.ndarray, error: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Intervals, (columns, 2), from resampled gains (resamples, columns), in the way that ``gain_interval`` says."""
    tail = stats.norm.cdf(stats.t.ppf((1 - LEVEL) / 2, df))
    spread = drawn.std(0)
    scale = np.divide(error, spread, out=np.ones_like(error), where=spread > 0)
    ends = [np.quantile(column, (one, 1 - one)) for column, one in zip(drawn.T, tail, strict=True)]
    return gain[:, None] + scale[:, None] * (np.array(ends) - gain[:, None])


def _flipped(totals: np.ndarray, resamples: int, rng: np.random.Generator) -> tuple[float, bool]:
    """Two-sided p of whole numbers (groups,) whose signs flip, and whether all patterns were counted."""
    size, count = np.unique(np.abs(totals[totals != 0]), return_counts=True)
    if (differ := int(count.sum())) <= EXACT:
        signs = np.array(list(product((-1, 1), repeat=differ)), dtype=np.int64)
        return float((np.abs(signs @ np.repeat(size, count)) >= abs(totals.sum())).mean()), True
    # Of m groups of one size a binomial number keep their signs: no need to draw each.
    sums = (2 * rng.binomial(count, 0.5, size=(resamples, len(size))) - count) @ size
    return float((1 + (np.abs(sums) >= abs(totals.sum())).sum()) / (1 + resamples)), False


def _holm(p: Sequence[float]) -> list[float]:
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(steps, 1)
    return corrected.tolist()


def _spread(values: np.ndarray) -> dict[str, float | None]:
    return {"mean": float(values.mean()), "sd": float(values.std(ddof=1)) if len(values) > 1 else None}


def _checked(
    results: Results, baseline: str, source: str, groups: Sequence[Hashable] | None, resamples: int = 100
) -> _Runs:
    """The results in arrays, after the rules that every function stands on."""
    if resamples < 100:
        raise XltError(f"resamples={resamples} are too few to read tails from: draw 100 or more, better 10000.")
    if baseline not in results:
        raise unknown("baseline", baseline, results)
    if len(results) < 2:
        raise XltError(f'Here is only the baseline "{baseline}": add the results of a method to compare with it.')
    seeds = [one.item() if isinstance(one, np.generic) else one for one in results[baseline]]
    if not seeds:
        raise XltError(f'"{baseline}" has no seed: give {{method: {{seed: {{language: correct}}}}}}.')
    languages = list(results[baseline][seeds[0]])
    if source not in languages:
        raise unknown("source language", source, languages)
    if not (targets := [language for language in languages if language != source]):
        raise XltError(f"The only language is the source {source}: add a target language.")
    items = np.shape(results[baseline][seeds[0]][source])
    if len(items) != 1 or items[0] < 2:
        raise XltError(f"{baseline}, seed {seeds[0]}, {source}: expected (items,) with two or more, got {items}.")
    right = {}
    for method, by_seed in results.items():
        if odd := set(by_seed) ^ set(seeds):
            raise XltError(
                f'"{method}" has the seeds {_listed(by_seed)}, "{baseline}" {_listed(seeds)}: a paired comparison needs'
                f" the same ones. Run what is missing, or leave out {_listed(odd)}."
            )
        arrays = []
        for seed in seeds:
            where = f"{method}, seed {seed}"
            if odd := set(by_seed[seed]) ^ set(languages):
                raise XltError(f"{where}: {_listed(odd)} is not in all results: test all in the same languages.")
            arrays.append([_marks(by_seed[seed][one], f"{where}, {one}", items[0]) for one in languages])
        by_language = np.array(arrays).transpose(0, 2, 1)
        mean = by_language[..., [languages.index(target) for target in targets]].mean(-1, keepdims=True)
        right[method] = np.concatenate([mean, by_language], -1)
    names = list(range(items[0]) if groups is None else groups)
    if len(names) != items[0]:
        raise XltError(f"{len(names)} groups for {items[0]} items: give one per item, in the order of the rows.")
    number = {name: index for index, name in enumerate(dict.fromkeys(names))}
    if len(number) < 2:
        raise XltError(f"All {len(names)} items are of one group: give groups that differ, or none.")
    group = np.array([number[name] for name in names])
    columns = ["target_mean", *languages]
    return _Runs(baseline, seeds, columns, len(targets), right, group, np.bincount(group).astype(np.float64))


def _marks(correct: np.ndarray, where: str, items: int) -> np.ndarray:
    marks = np.asarray(correct)
    if marks.shape != (items,):
        raise XltError(f"{where}: shape {marks.shape}, elsewhere ({items},): test all on the same items.")
    if marks.dtype != bool and not np.isin(marks, (0, 1)).all():
        raise XltError(f"{where}: an item is right or wrong, but there is NaN or another value: give `Scores.correct`.")
    return marks.astype(np.float64)


def _listed(names: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, names))) or "none"


def _accuracy(value: Mapping[str, float | None]) -> str:
    mean, sd = value["mean"], value["sd"]
    return f"{100 * (mean or 0):.1f}" + ("" if sd is None else f" ± {100 * sd:.1f}")


def _points(gain: float, interval: Sequence[float]) -> str:
    return f"{100 * gain:+.1f} [{100 * interval[0]:+.1f}, {100 * interval[1]:+.1f}]"


def _gain(entry: Mapping[str, Any]) -> str:
    if entry["interval"] is not None:
        return _points(entry["gain"], entry["interval"])
    spread = entry["over_seeds"]
    if spread["sd"] is None:
        return f"{100 * entry['gain']:+.1f}"
    low, high = 100 * spread["min"], 100 * spread["max"]
    return f"{100 * entry['gain']:+.1f} ± {100 * spread['sd']:.1f} ({low:+.1f} to {high:+.1f})"


def _p(value: float | None) -> str:
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"
