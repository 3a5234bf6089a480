"""Stored results of the studies: what notebooks and pages read, with the settings, versions and seeds of every run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xlt_tutorial.compare import common_answers
from xlt_tutorial.errors import XltError
from xlt_tutorial.statistics import summary

RESULTS = Path(__file__).resolve().parent / "results" / "studies"
FORMAT = 1


def stored(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Return a stored study.

    Args:
        name: Of the study, such as ``emoji_methods``.
        folder: Where the studies are.

    Returns:
        ``question``, ``versions``, ``platform`` and, for a grid, ``settings`` by name, ``groups`` (a number for each
        test item, where items share a text such as XNLI's premise) and ``runs``
        ``{setting: {seed: {"correct": {language: "0110..."}, "selected", "epochs", "gradient_shares", ..}}}``.

    Raises:
        XltError: There is none, a damaged one, or one that another version of the package wrote; the message has the
            command that makes it anew.
    """
    path = folder / f"{name}.json"
    if not path.exists():
        there = ", ".join(sorted(other.stem for other in folder.glob("*.json"))) or "none"
        raise XltError(f'There is no stored study "{name}" (stored: {there}). {remedy(name)}')
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise XltError(f"{path.name} is damaged ({error}). Delete it; {remedy(name)}") from error
    if content.get("format") != FORMAT:
        raise XltError(f"{path.name} was written by another version of the package. Delete it; {remedy(name)}")
    return content


def remedy(name: str) -> str:
    """Say what makes a stored study."""
    return f"`python -m studies {name}` in a clone of the course makes it."


def study_summary(study: Mapping[str, Any], settings: Iterable[str] | None = None) -> dict[str, Any] | None:
    """Return ``statistics.summary`` against the first setting, over the seeds that all settings named have finished.

    ``None`` where there is no such seed, or nothing to compare.
    """
    chosen = None if settings is None else set(settings)
    runs = {key: seeds for key, seeds in study["runs"].items() if (chosen is None or key in chosen) and seeds}
    correct = common_answers(runs)
    baseline, first = next(iter(correct.items()), ("", {}))
    if not first or len(correct) < 2:
        return None
    return summary(correct, baseline, next(iter(next(iter(first.values())))), study.get("groups"))


def accuracies(run: Mapping[str, Any]) -> dict[str, float]:
    """Return a stored run's accuracy in each language, the source first."""
    return {language: bits.count("1") / len(bits) for language, bits in run["correct"].items()}
