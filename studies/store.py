"""Results of studies as small files: one JSON for each study, written anew whenever a seed is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studies.grids import STUDIES, data_folder
from xlt_tutorial.compare import common_answers
from xlt_tutorial.doctor import machine, versions
from xlt_tutorial.files import write_json
from xlt_tutorial.statistics import summary

RESULTS = Path(__file__).resolve().parent / "results"
KEPT = ("selected", "correct", "gradient_shares", "forwards", "steps", "seconds")


def export(name: str, runs: Mapping[str, Mapping[int, Mapping[str, Any]]], folder: Path = RESULTS) -> Path:
    """Write what a study has found so far; ``runs`` is ``{setting: {seed: result}}`` as ``run_grid`` returns it."""
    some = next(result for seeds in runs.values() for result in seeds.values())
    content: dict[str, Any] = {"question": STUDIES[name].question}
    content |= {key: some[key] for key in ("versions", "platform")}
    content["settings"] = {key: _portable(setting.as_dict()) for key, setting in STUDIES[name].settings.items()}
    content["runs"] = {
        key: {str(seed): _small(result) for seed, result in seeds.items()} for key, seeds in runs.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", content)
    return folder / f"{name}.json"


def export_facts(name: str, question: str, found: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write what a module of this folder has found, with the versions and the machine it holds for."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"question": question, "versions": versions(), "platform": machine(), **found}
    write_json(folder / f"{name}.json", content)
    return folder / f"{name}.json"


def load(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Return a stored study."""
    stored: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return stored


def finished(name: str, folder: Path = RESULTS) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the stored runs of a study whose settings are still those of the study, ``{setting: {seed: result}}``."""
    if not (folder / f"{name}.json").exists():
        return {}
    stored = load(name, folder)
    facts = {key: stored[key] for key in ("versions", "platform")}
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for key, setting in STUDIES[name].settings.items():
        if stored["settings"].get(key) == json.loads(json.dumps(_portable(setting.as_dict()))):
            found[key] = {int(seed): {**facts, **result} for seed, result in stored["runs"].get(key, {}).items()}
    return found


def study_summary(stored: Mapping[str, Any], settings: list[str] | None = None) -> dict[str, Any] | None:
    """Return ``statistics.summary`` against the first setting, over the seeds that all settings named have finished.

    ``None`` where there is no such seed, or nothing to compare.
    """
    runs = {key: seeds for key, seeds in stored["runs"].items() if (settings is None or key in settings) and seeds}
    correct = common_answers(runs)
    baseline, first = next(iter(correct.items()), ("", {}))
    if not first or len(correct) < 2:
        return None
    return summary(correct, baseline, next(iter(next(iter(first.values())))))


def _small(result: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what the questions need; accuracies to four digits."""
    small = {key: result[key] for key in KEPT}
    small["gradient_shares"] = {term: round(share, 6) for term, share in result["gradient_shares"].items()}
    small["epochs"] = [
        {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items() if key != "targets"}
        for row in result["epochs"]
    ]
    return small


def _portable(setting: dict[str, Any]) -> dict[str, Any]:
    """Name real data by its task, not by the folder that it lies in on this machine."""
    if Path(setting["task"]).parent == data_folder():
        setting["task"] = f"XLT_DATA/{Path(setting['task']).name}"
    return setting
