"""Write docs/results.md from xlt_tutorial/results/studies: ``python tools/results.py``; ``--check`` only compares."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the tools
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the studies

from pages import write_or_check

from studies.__main__ import FACTS
from studies.grids import STUDIES
from studies.languages import ties
from xlt_tutorial.experiment import Setting
from xlt_tutorial.statistics import markdown, markdown_table
from xlt_tutorial.stored import RESULTS, accuracies, study_summary
from xlt_tutorial.stored import stored as load

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results.md"
RULES = {
    "last": "the last epoch",
    "source": "best on English dev",
    "virtual": "best on the virtual dev set",
    "oracle": "oracle: best on the targets",
}
ENCODERS = {"XLM-R base": "FacebookAI/xlm-roberta-base", "mBERT": "google-bert/bert-base-multilingual-cased"}
ROWS = {"xnli": 392_702, "pawsx": 49_401}  # pairs of English train
BLOCKS = 85e6  # weights of twelve blocks of width 768; a look-up in the embedding costs next to nothing
FIVE = 5  # seeds, from which on a rule or an interval over seeds holds
SEEDS, TERAFLOPS = 5, 20  # of the comparison; useful operations a second that the hours are for


def page(folder: Path = RESULTS) -> str:
    """Return the page that the stored studies give."""
    parts = [
        "<!-- Written by tools/results.py from xlt_tutorial/results/studies; do not edit by hand. -->\n\n# Results\n",
        "Every number comes from runs of the package, stored in `xlt_tutorial/results/studies` with settings, versions "
        "and seeds. Training sees English alone; the epoch is chosen on English data that is not trained on; target "
        "languages are only tested. A gain is the difference of target means against vanilla with two dropout passes, "
        "which does the same work. The oracle chooses on the targets and is shown for comparison alone. What a step of "
        "each method costs is in [performance.md](performance.md), where the methods were timed in turns.",
    ]
    for name in STUDIES:
        if (folder / f"{name}.json").exists():
            parts.append(_study(name, load(name, folder), folder))
        else:
            parts.append(f"## {name}\n\n{STUDIES[name].question} Not run yet: `python -m studies {name}`.")
    for name, write in {"frozen": _frozen, "direction": _direction, "audit": _audit}.items():
        stored = load(name, folder) if (folder / f"{name}.json").exists() else None
        parts.append(
            f"## {name}\n\n{FACTS[name]} " + (write(stored) if stored else f"Not run yet: `python -m studies {name}`.")
        )
    parts.append(_not_run())
    return "\n\n".join(parts) + "\n"


def _not_run() -> str:
    """Return what a hub and a GPU are needed for: command, setting, and the hours it should take."""
    lines = []
    for task, rows in ROWS.items():
        setting = Setting.for_task(task, "ear")
        epochs, copies = setting.recipe.epochs, setting.objective().copies
        passes = rows * copies * epochs * 2 * SEEDS * 2  # streams, seeds, methods
        hours = 6 * BLOCKS * passes * setting.recipe.max_length / (TERAFLOPS * 1e12) / 3600
        told = f"{epochs} epoch{'s' * (epochs > 1)}, {copies} cop{'ies' if copies > 1 else 'y'}, lr "
        told += f"{setting.recipe.learning_rate:g}, batch {setting.recipe.batch_size}"
        for name, encoder in ENCODERS.items():
            command = f"xlt compare --task {task} --encoder {encoder} --methods vanilla,ear --seeds 0-{SEEDS - 1}"
            lines.append([f"{name} on full {task}", f"`{command}`", told, f"{hours:.0f}"])
    return (
        "## Not run\n\nA hub and a GPU were not at hand, nor the train split of PAWS-X. The paper's settings, as this "
        f"package would run them, {SEEDS} seeds of both methods. The hours are an estimate and no measurement: six "
        f"operations a weight of the blocks and a token, at a width of 128, on a GPU that reaches {TERAFLOPS} TFLOP/s; "
        "batches of vanilla are narrower, and testing comes on top.\n\n"
        + markdown_table(["what", "command", "setting", "GPU hours"], lines)
    )


def _study(name: str, stored: Mapping[str, Any], folder: Path) -> str:
    heads = ["method", "runs", "forwards", "English", "target mean", "oracle", "gradient shares"]
    lines = [_row(key, list(seeds.values())) for key, seeds in stored["runs"].items() if seeds]
    facts = stored["platform"]
    parts = [
        f"## {name}",
        f"{stored['question']} Accuracy in per cent, mean ± standard deviation over seeds. "
        f"{_counted(facts['cores'], 'core')}, torch {stored['versions']['torch']}.",
        markdown_table(heads, lines),
    ]
    summary = study_summary(stored)
    if summary:
        parts += [_verdict(summary), markdown(summary)]
    five = [key for key, seeds in stored["runs"].items() if len(seeds) >= FIVE]
    if len(five) > 1 and summary and len(summary["seeds"]) < FIVE:
        more = study_summary(stored, five)
        assert more is not None
        parts += ["### Over five seeds", _verdict(more), markdown(more)]
    parts += [part for part in (default_rule(stored), selection_table(stored), settings_table(stored)) if part]
    if summary and name.startswith("emoji") and (folder / "languages.json").exists():
        parts.append(_ties(summary, load("languages", folder)))
    return "\n\n".join(parts)


def _row(key: str, results: list[Mapping[str, Any]]) -> list[str]:
    reached = [_reached(result) for result in results]
    oracle = [max(row["target_mean"] for row in r["epochs"]) for r in results if "target_mean" in r["epochs"][-1]]
    shares = [result["gradient_shares"] for result in results]
    told = ", ".join(f"{term} {np.mean([s[term] for s in shares]):.2%}" for term in shares[0])
    return [
        key, str(len(results)), str(results[0]["forwards"]),
        *(_spread([accuracy[i] for accuracy in reached]) for i in (0, 1)), _spread(oracle), told,
    ]  # fmt: skip


def _reached(run: Mapping[str, Any]) -> tuple[float, float]:
    """Return the source's accuracy and the mean of the targets'."""
    source, *targets = accuracies(run).values()
    return source, float(np.mean(targets))


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    return f"{100 * np.mean(values):.1f}" + (f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def _counted(number: float, what: str) -> str:
    return f"{number:g} {what}{'s' * (number != 1)}"


def _verdict(summary: Mapping[str, Any]) -> str:
    """Say which gains stand out of their intervals, or that none does."""
    entries = summary["rows"]["target_mean"]["gain"]
    if all(entry["interval"] is None for entry in entries.values()):
        best, gain = max(((key, entry["gain"]) for key, entry in entries.items()), key=lambda item: item[1])
        return (
            f"With {_counted(len(summary['seeds']), 'seed')} there is no interval over seeds. The largest mean gain is "
            f"{100 * gain:+.1f} points ({best})."
        )
    up = [f"{key} ({100 * e['gain']:+.1f})" for key, e in entries.items() if e["interval"][0] > 0]
    down = [f"{key} ({100 * e['gain']:+.1f})" for key, e in entries.items() if e["interval"][1] < 0]
    said = [f"Above {summary['baseline']} beyond the interval: {', '.join(up)}." if up else
            f"No method is above {summary['baseline']} beyond its interval."]  # fmt: skip
    return " ".join(said + ([f"Below it: {', '.join(down)}."] if down else []))


def default_rule(stored: Mapping[str, Any]) -> str | None:
    """Return what became of EAR's default by the rule that was set before the studies; ``None`` below five seeds."""
    runs = {key: {seed: _reached(run)[1] for seed, run in seeds.items()} for key, seeds in stored["runs"].items()}
    told, ahead = [], []
    for key, reached in runs.items():
        seeds = sorted(reached.keys() & runs.get("ear", {}).keys())
        if key == "ear" or not stored["settings"][key]["method"].startswith("ear") or len(seeds) < FIVE:
            continue
        gains = 100 * np.array([reached[seed] - runs["ear"][seed] for seed in seeds])
        error = float(gains.std(ddof=1) / np.sqrt(len(gains)))
        told.append(f"{key}: {gains.mean():+.1f} ± {error:.1f}")
        if gains.mean() > error:
            ahead.append(key)
    if not told:
        return None
    return (
        "### The default of EAR\n\nIt stays the published form, unless another setting's target mean over five seeds "
        "is better by more than one standard error. In points against the published form, with the standard error of "
        f"the paired difference: {'; '.join(told)}. "
        + (f"By this rule the default becomes {' or '.join(ahead)}." if ahead else "So it stays.")
    )


def selection_table(stored: Mapping[str, Any]) -> str | None:
    """Return what each rule of choosing an epoch would have given, from the stored epochs; ``None`` without oracle."""
    runs = [
        (key, result["epochs"])
        for key, seeds in stored["runs"].items()
        for result in seeds.values()
        if all({"target_mean", "source", "virtual"} <= set(row) for row in result["epochs"])
    ]
    if not runs:
        return None
    chosen = {rule: [_chosen(epochs, rule)["target_mean"] for _, epochs in runs] for rule in RULES}
    room = np.mean(chosen["oracle"]) - np.mean(chosen["source"])
    won = np.mean(chosen["virtual"]) - np.mean(chosen["source"])
    share = f" That is {won / room:.0%} of the way from English dev to the oracle." if room > 0 else ""
    lines = [[words, _spread(chosen[rule])] for rule, words in RULES.items()]
    return (
        f"### Which epoch to choose\n\nThe virtual dev set is English dev with every eligible word swapped. Over all "
        f"{len(runs)} runs, target mean of the epoch that each rule takes (mean ± standard deviation over runs):\n\n"
        + markdown_table(["rule", "target mean"], lines)
        + f"\n\nAgainst English dev, the virtual dev set gains "
        f"{100 * won:+.2f} points.{share}"
    )


def _chosen(epochs: list[Mapping[str, Any]], rule: str) -> Mapping[str, Any]:
    """Return the epoch that a rule takes, the first of equals, as training does."""
    if rule == "last":
        return epochs[-1]
    key = {"source": "source", "virtual": "virtual", "oracle": "target_mean"}[rule]
    return max(epochs, key=lambda row: row[key])


def settings_table(stored: Mapping[str, Any]) -> str | None:
    """Return which setting English dev, the virtual dev set and the oracle would take; ``None`` below three."""
    means: dict[str, tuple[float, float, float]] = {}
    swap = _swap(stored["settings"][next(iter(stored["runs"]))])
    alike = [key for key in stored["runs"] if _swap(stored["settings"][key]) == swap]
    for key in alike:
        seeds = stored["runs"][key]
        at = [
            next((row for row in run["epochs"] if row["step"] == run["selected"]["step"]), {}) for run in seeds.values()
        ]
        if at and all({"source", "virtual"} <= set(row) for row in at):
            reached = [_reached(run)[1] for run in seeds.values()]
            columns = ([row["source"] for row in at], [row["virtual"] for row in at], reached)
            means[key] = tuple(float(np.mean(values)) for values in columns)  # type: ignore[assignment]
    if len(means) < 3:
        return None
    lines = []
    for place, rule in enumerate((RULES["source"], RULES["virtual"], RULES["oracle"])):
        best = max(means, key=lambda key: means[key][place])
        lines.append([rule, best, f"{100 * means[best][2]:.1f}"])
    table = np.array(list(means.values()))
    rho = [float(spearmanr(table[:, place], table[:, 2]).statistic) for place in (0, 1)]
    others = len(stored["runs"]) - len(alike)
    return (
        "### Which setting to choose\n\nEach rule takes the setting with the best mean over seeds, and gets its target "
        "mean. "
        + (f"Left out: {others} whose swap differs, as their virtual dev set is another.\n\n" if others else "\n\n")
        + markdown_table(["rule", "setting", "target mean"], lines)
        + f"\n\nOver the {len(means)} settings, Spearman's correlation with the target mean is {rho[0]:+.2f} for "
        f"English dev and {rho[1]:+.2f} for the virtual dev set."
    )


def _swap(setting: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a virtual dev set depends on."""
    return setting["task"], setting["maker"], sorted(setting["maker_options"].items())


def _ties(summary: Mapping[str, Any], stored: Mapping[str, Any]) -> str:
    """Return the correlations of the languages' gains with what is known of them."""
    lines = []
    for method in summary["methods"]:
        gains = {t: row["gain"][method]["gain"] for t, row in summary["rows"].items() if t in stored["languages"]}
        cells = [
            f"{tie['rho']:+.2f} ({tie['least'][1]:+.2f} without {tie['least'][0]}, {tie['most'][1]:+.2f} without "
            f"{tie['most'][0]})"
            for tie in ties(stored["languages"], gains).values()
        ]
        lines.append([method, *cells])
    return (
        "### Which languages gain\n\nSpearman's correlation, over the target languages, of a method's gain with what "
        "was known before training; in brackets the least and the most when one language is left out.\n\n"
        + markdown_table(["method", "gap ratio", "kNN mixing", "tokens a word"], lines)
    )


def _frozen(stored: Mapping[str, Any]) -> str:
    """Return what English dev says of the variants, and which was frozen."""
    scores = stored["english_dev"]
    names = list(next(iter(scores.values())))
    lines = [
        [variant, *(f"{100 * row[name]:.1f}" for name in names), f"{100 * np.mean(list(row.values())):.1f}"]
        for variant, row in scores.items()
    ]
    return (
        f"English dev accuracy at the selected epoch, mean over seeds. Frozen: **{stored['variant']}**.\n\n"
        + markdown_table(["variant", *names, "mean"], lines)
    )


def _direction(stored: Mapping[str, Any]) -> str:
    """Return the cosines of the swap beside those of its null."""
    streams = stored["streams"]
    real = [name for name in streams if not name.startswith("null")]
    nulls = [stream for name, stream in streams.items() if name.startswith("null")]
    lines = []
    for layer in streams[real[0]]:
        null = [stream[layer]["mean"] for stream in nulls]
        cells = []
        for name in real:
            mean = streams[name][layer]["mean"]
            above = sum(value >= mean for value in null)
            cells.append(f"{mean:+.3f} (p = {(above + 1) / (len(null) + 1):.2f})")
        lines.append([layer, *cells, f"{np.mean(null):+.3f}, up to {max(null):+.3f}"])
    return (
        "The cosine between the mean move of the English sentence vectors under the swap and the way to a target's "
        f"centroid, mean over the targets. The null is {len(nulls)} draws of random pieces of like frequency; p is the "
        "share of draws at or above, the swap itself counted.\n\n" + markdown_table(["layer", *real, "null"], lines)
    )


def _audit(stored: Mapping[str, Any]) -> str:
    """Return what the makers do to English train."""
    heads = [
        "maker",
        "eligible words",
        "replaced",
        "rows changed",
        "foreign",
        "in no word list",
        "probable flips",
        "scripts",
    ]
    lines = []
    for name, found in stored["makers"].items():
        scripts = sorted(found["scripts"].items(), key=lambda item: -item[1])[:4]
        shares = (f"{found[key]:.1%}" for key in ("replaced", "rows_changed", "foreign", "unknown"))
        lines.append([
            name, f"{found['words']:,}", *shares,
            "" if found["flips"] is None else f"{found['flips']:.1%}",
            ", ".join(f"{script} {share:.0%}" for script, share in scripts),
        ])  # fmt: skip
    return (
        "Shares are of the eligible words, the rows and the new words; flips are of changed rows that were right.\n\n"
        + (markdown_table(heads, lines))
    )


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or compare it with what the results give; 1 where it differs."""
    return write_or_check(PAGE, page(), "python tools/results.py", arguments)


if __name__ == "__main__":
    sys.exit(main())
