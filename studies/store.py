"""Results of studies as small files: one JSON for each study, written anew whenever a seed is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from studies.grids import STUDIES, data_folder
from xlt_tutorial.compare import item_groups
from xlt_tutorial.files import write_json
from xlt_tutorial.stored import FORMAT, RESULTS, stored
from xlt_tutorial.system import machine, versions

KEPT = ("selected", "correct", "gradient_shares", "forwards", "steps", "seconds")


def export(name: str, runs: Mapping[str, Mapping[int, Mapping[str, Any]]], folder: Path = RESULTS) -> Path:
    """Write what a study has found so far; ``runs`` is ``{setting: {seed: result}}`` as ``run_grid`` returns it."""
    some = next(result for seeds in runs.values() for result in seeds.values())
    content: dict[str, Any] = {"format": FORMAT, "question": STUDIES[name].question}
    content |= {key: some[key] for key in ("versions", "platform")}
    content["settings"] = {key: _portable(setting.as_dict()) for key, setting in STUDIES[name].settings.items()}
    if groups := item_groups(next(iter(STUDIES[name].settings.values()))):
        content["groups"] = np.unique(groups, return_inverse=True)[1].tolist()
    content["runs"] = {
        key: {str(seed): _small(result) for seed, result in seeds.items()} for key, seeds in runs.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", content)
    return folder / f"{name}.json"


def export_facts(name: str, question: str, found: Mapping[str, Any], folder: Path = RESULTS) -> Path:
    """Write what a module of this folder has found, with the versions and the machine it holds for."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, "question": question, "versions": versions(), "platform": machine(), **found}
    write_json(folder / f"{name}.json", content)
    return folder / f"{name}.json"


def finished(name: str, folder: Path = RESULTS) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the stored runs that a study needs, ``{setting: {seed: result}}``: its own, then those of other studies.

    What counts is the setting and not its name. A run whose study traced it serves where that was not asked for.
    """
    study = STUDIES[name]
    wanted = {key: json.loads(json.dumps(_portable(one.as_dict()))) for key, one in study.settings.items()}
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for other in [name, *(one for one in STUDIES if one != name)]:
        if not (folder / f"{other}.json").exists():
            continue
        held = stored(other, folder)
        facts = {key: held[key] for key in ("versions", "platform")}
        for key, setting in wanted.items():
            for theirs in (one for one, values in held["settings"].items() if values == setting):
                for seed, result in held["runs"].get(theirs, {}).items():
                    traced = "target_mean" in result["epochs"][-1]
                    if int(seed) in study.seeds_of(key) and (traced or key not in study.traced):
                        found.setdefault(key, {}).setdefault(int(seed), {**facts, **result})
    return found


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
