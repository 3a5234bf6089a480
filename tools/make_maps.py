"""Compute the stored maps of notebook 08: ``python tools/make_maps.py``; ``--check`` only reads them.

Trains vanilla and EAR on English, measures all layers and projects them; ``maps.json`` records how long each took. It
can be stopped and started again: what is finished stays in ``--work``. Texts in Latin letters are those of the stored
maps; from nothing they need ``uroman``, ``pypinyin`` and ``cutlet[unidic-lite]``, and a warning says which is missing.
"""

from __future__ import annotations

import argparse
import sys

from xlt_tutorial.system import machine, versions
from xlt_tutorial.widgets.make import make_maps
from xlt_tutorial.widgets.stored import FOLDER, Maps, MapsError, read_maps


def told(maps: Maps) -> str:
    """Return what the maps hold, in a few lines."""
    points = len(maps.languages) * len(maps.ids)
    lines = [
        f"{len(maps.stages)} stages, {len(maps.layers)} layers, {len(maps.projections)} projections of {points} points "
        f"({len(maps.ids)} of {maps.info['test_concepts']} test concepts in {len(maps.languages)} languages)"
    ]
    lines += [f"{stage}: {maps.title(stage)}" for stage in maps.stages]
    sizes = [f"{(FOLDER / name).stat().st_size / 1e6:.2f} MB" for name in ("maps.npz", "maps.json")]
    return "\n".join([*lines, " and ".join(sizes)])


def main(arguments: list[str] | None = None) -> int:
    """Compute or read, and print what there is; 1 where the stored maps cannot be read."""
    parser = argparse.ArgumentParser(description="Compute the stored maps of notebook 08.")
    parser.add_argument("--check", action="store_true", help="read the stored maps, compute nothing")
    parser.add_argument("--work", default="runs/maps", help="folder of what is finished")
    options = parser.parse_args(arguments)
    try:
        facts = {"versions": versions(), "platform": machine()}
        print(told(read_maps() if options.check else make_maps(FOLDER, work=options.work, facts=facts)))
    except MapsError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
