"""Run studies: ``python -m studies emoji_methods massive``; call it again to go on where it was stopped."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from studies.grids import ROOT, STUDIES
from studies.store import export
from xlt_tutorial.compare import run_grid


def run_study(name: str, folder: Path) -> None:
    """Run what a study still lacks, seed by seed, and write its file after each."""
    study = STUDIES[name]
    found: dict[str, dict[int, dict]] = {key: {} for key in study.settings}
    for seed in sorted({seed for key in study.settings for seed in study.seeds_of(key)}):
        settings = {key: setting for key, setting in study.settings.items() if seed in study.seeds_of(key)}
        for key, results in run_grid(settings, [seed], folder / name, study.oracle, progress=False).items():
            found[key] |= results
        print(f"{name}: seed {seed} finished, {export(name, found)}", flush=True)


def main() -> int:
    """Run the studies that are named, or list them."""
    names = sys.argv[1:]
    if not names or (odd := [name for name in names if name not in STUDIES]):
        print(
            "\n".join(
                f"{name:16} {len(study.settings):3} settings  {study.question}" for name, study in STUDIES.items()
            )
        )
        return bool(names and odd)
    warnings.filterwarnings("ignore", message="The term")
    for name in names:
        run_study(name, ROOT / "runs" / "studies")
    return 0


if __name__ == "__main__":
    sys.exit(main())
