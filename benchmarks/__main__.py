"""``python -m benchmarks [names]``: measure, keep the numbers in benchmarks/results, rewrite docs/performance.md."""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from benchmarks import measure

NAMES = ("steps", "slices", "trainer", "methods", "scaling", "widgets", "processes")


def main(arguments: list[str] | None = None) -> int:
    """Run the named benchmarks, all by default; each is saved as soon as it is finished."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed and memory.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}; all when none is given")
    chosen = parser.parse_args(arguments).names or NAMES
    if odd := [name for name in chosen if name not in NAMES]:
        parser.error(f"no benchmark {', '.join(odd)}; there are {', '.join(NAMES)}")
    for name in chosen:
        print(f"{name} ...", flush=True)
        start = time.perf_counter()
        path = measure.save(name, importlib.import_module(f"benchmarks.{name}").run())
        print(f"{path.name}, {time.perf_counter() - start:.0f} s", flush=True)
    sys.path.insert(0, str(measure.ROOT / "tools"))
    return int(importlib.import_module("performance").main([]))


if __name__ == "__main__":
    sys.exit(main())
