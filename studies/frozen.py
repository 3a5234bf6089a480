"""Which of the four variants English data alone chooses, over two tasks; what is confirmed afterwards is this one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xlt_tutorial.errors import XltError
from xlt_tutorial.stored import stored

SOURCES = ("emoji_variants", "sib200_variants")


def run() -> dict[str, Any]:
    """Choose from the stored studies, and return ``{"variant": name, "english_dev": {variant: {study: accuracy}}}``."""
    return choose({name: stored(name) for name in SOURCES})


def choose(studies: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Take the variant with the best mean of the studies' English dev accuracies; the first named of equals.

    Args:
        studies: As stored. The first setting of each is the baseline, which is no variant.

    Raises:
        XltError: The studies differ in their variants, or a variant has not run with all seeds that the others have.
    """
    found: dict[str, dict[str, float]] = {}
    for name, study in studies.items():
        _, *variants = study["settings"]
        seeds = {variant: sorted(study["runs"].get(variant, {})) for variant in variants}
        if len({str(of) for of in seeds.values()}) != 1 or not all(seeds.values()):
            raise XltError(f"{name} is not finished: `python -m studies {name}` goes on.")
        for variant in variants:
            runs = study["runs"][variant].values()
            found.setdefault(variant, {})[name] = float(np.mean([run["selected"]["accuracy"] for run in runs]))
    if any(len(scores) != len(studies) for scores in found.values()):
        raise XltError(f"{' and '.join(studies)} do not hold the same variants.")
    best = max(found, key=lambda variant: np.mean(list(found[variant].values())))
    return {"variant": best, "english_dev": found}
