"""Run studies: ``python -m studies emoji_methods massive``; call it again to go on where it was stopped."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import Any

from studies.grids import ROOT, STUDIES
from studies.store import export, export_facts, finished
from xlt_tutorial.compare import run_grid
from xlt_tutorial.stored import RESULTS

FACTS = {  # name -> what it answers; each is a module of this folder with a function run()
    "direction": "Does a swap move English towards other languages more than random pieces of like frequency do?",
    "audit": "What do the makers put into sentences, and how often is the label lost?",
    "frozen": "Which of the four variants does English dev choose, over emoji and sib200?",
    "languages": "What is known of each language before training, to be held against its gain?",
}


def run_study(name: str, folder: Path, results: Path = RESULTS) -> None:
    """Run what a study still lacks, seed by seed, and write its file after each; what the file holds is not run again.

    Runs in progress are in ``folder``, by task and precision, so that studies share the settings that they have in
    common.
    """
    study = STUDIES[name]
    found: dict[str, dict[int, Any]] = {key: {} for key in study.settings} | finished(name, results)
    first = next(iter(study.settings.values()))
    place = folder / f"{Path(first.task).name}-{first.recipe.precision}"
    for seed in sorted({seed for key in study.settings for seed in study.seeds_of(key)}):
        left = {
            key: one for key, one in study.settings.items() if seed in study.seeds_of(key) and seed not in found[key]
        }
        for key, runs in run_grid(left, [seed], place, study.traced, progress=False).items():
            found[key] |= runs
        export(name, found, results)
        print(f"{name}: seed {seed} finished", flush=True)


def main() -> int:
    """Run the studies that are named, or list them."""
    names = sys.argv[1:]
    known = {name: f"{len(study.settings):3} settings  {study.question}" for name, study in STUDIES.items()}
    known |= {name: f"             {question}" for name, question in FACTS.items()}
    if not names or (odd := [name for name in names if name not in known]):
        print("\n".join(f"{name:16} {text}" for name, text in known.items()))
        return bool(names and odd)
    warnings.filterwarnings("ignore", message="The term")
    for name in names:
        if name in STUDIES:
            run_study(name, ROOT / "runs" / "studies")
        else:
            export_facts(name, FACTS[name], importlib.import_module(f"studies.{name}").run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
