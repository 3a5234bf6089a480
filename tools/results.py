"""Write docs/results.md from studies/results: ``python tools/results.py``; ``--check`` only compares."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the tools
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the studies

from pages import write_or_check

from studies.grids import STUDIES
from studies.store import RESULTS, load, study_summary
from xlt_tutorial.statistics import markdown, markdown_table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results.md"
RULES = {
    "last": "the last epoch",
    "source": "best on English dev",
    "virtual": "best on the virtual dev set",
    "oracle": "oracle: best on the targets",
}
NOT_RUN = (
    (
        "XLM-R base on full XNLI",
        "xlt compare --task xnli --methods vanilla,ear --seeds 0-4",
        "1 epoch, 3 copies, lr 2e-5",
    ),
    (
        "XLM-R base on full PAWS-X",
        "xlt compare --task pawsx --methods vanilla,ear --seeds 0-4",
        "30 epochs, 1 copy, lr 2e-5",
    ),
)


def page(folder: Path = RESULTS) -> str:
    """Return the page that the stored studies give."""
    parts = [
        "<!-- Written by tools/results.py from studies/results; do not edit by hand. -->\n\n# Results\n",
        "Every number comes from runs of this package, stored in `studies/results` with settings, versions and seeds. "
        "Training sees English alone; the epoch is chosen on English data that is not trained on; target languages are "
        "only tested. A gain is the difference of target means against vanilla with two dropout passes, which does the "
        "same work. The oracle chooses on the targets and is shown for comparison alone.",
    ]
    for name in STUDIES:
        if (folder / f"{name}.json").exists():
            parts.append(_study(name, load(name, folder)))
        else:
            parts.append(f"## {name}\n\n{STUDIES[name].question} Not run yet: `python -m studies {name}`.")
    rows = [[what, f"`{command}`", setting] for what, command, setting in NOT_RUN]
    parts.append(
        "## Not run\n\nA hub and a GPU were not at hand. The paper's settings, as this package would run them:\n\n"
        + markdown_table(["what", "command", "setting"], rows)
    )
    return "\n\n".join(parts) + "\n"


def _study(name: str, stored: Mapping[str, Any]) -> str:
    heads = ["method", "runs", "forwards", "seconds a step", "English", "target mean", "oracle", "gradient shares"]
    lines = [_row(key, list(seeds.values())) for key, seeds in stored["runs"].items() if seeds]
    facts = stored["platform"]
    parts = [
        f"## {name}",
        f"{stored['question']} Accuracy in per cent, mean ± standard deviation over seeds. {facts['cores']:g} cores, "
        f"torch {stored['versions']['torch']}.",
        markdown_table(heads, lines),
    ]
    summary = study_summary(stored)
    if summary:
        parts += [_verdict(summary), markdown(summary)]
    five = [key for key, seeds in stored["runs"].items() if len(seeds) >= 5]
    if len(five) > 1 and summary and len(summary["seeds"]) < 5:
        more = study_summary(stored, five)
        assert more is not None
        parts += ["### Over five seeds", _verdict(more), markdown(more)]
    selection = selection_table(stored)
    if selection:
        parts.append(selection)
    return "\n\n".join(parts)


def _row(key: str, results: list[Mapping[str, Any]]) -> list[str]:
    accuracies = [_accuracies(result["correct"]) for result in results]
    oracle = [max(row["target_mean"] for row in r["epochs"]) for r in results if "target_mean" in r["epochs"][-1]]
    shares = [result["gradient_shares"] for result in results]
    told = ", ".join(f"{term} {np.mean([s[term] for s in shares]):.2%}" for term in shares[0])
    return [
        key, str(len(results)), str(results[0]["forwards"]),
        f"{np.median([r['seconds']['train'] / r['steps'] for r in results]):.2f}",
        *(_spread([accuracy[i] for accuracy in accuracies]) for i in (0, 1)), _spread(oracle), told,
    ]  # fmt: skip


def _accuracies(correct: Mapping[str, str]) -> tuple[float, float]:
    """Return the source's accuracy and the mean of the targets'."""
    source, *targets = [bits.count("1") / len(bits) for bits in correct.values()]
    return source, float(np.mean(targets))


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    return f"{100 * np.mean(values):.1f}" + (f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def _verdict(summary: Mapping[str, Any]) -> str:
    """Say which gains stand out of their intervals, or that none does."""
    entries = summary["rows"]["target_mean"]["gain"]
    if all(entry["interval"] is None for entry in entries.values()):
        best, gain = max(((key, entry["gain"]) for key, entry in entries.items()), key=lambda item: item[1])
        return (
            f"With {len(summary['seeds'])} seeds there is no interval over seeds. The largest mean gain is "
            f"{100 * gain:+.1f} points ({best})."
        )
    up = [f"{key} ({100 * e['gain']:+.1f})" for key, e in entries.items() if e["interval"][0] > 0]
    down = [f"{key} ({100 * e['gain']:+.1f})" for key, e in entries.items() if e["interval"][1] < 0]
    said = [f"Above {summary['baseline']} beyond the interval: {', '.join(up)}." if up else
            f"No method is above {summary['baseline']} beyond its interval."]  # fmt: skip
    return " ".join(said + ([f"Below it: {', '.join(down)}."] if down else []))


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


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or compare it with what the results give; 1 where it differs."""
    return write_or_check(PAGE, page(), "python tools/results.py", arguments)


if __name__ == "__main__":
    sys.exit(main())
