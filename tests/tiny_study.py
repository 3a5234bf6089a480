"""A stored study of random answers, as the playground of notebook 07 reads it: for its tests, here and in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from xlt_tutorial.stored import FORMAT

LANGUAGES = ("en", "de", "ja", "ar")
SMALL = {"vanilla": (5, 0.0), "ear": (5, 0.9), "ear-E": (3, 0.0), "ear-R": (3, -0.8), "ear-A": (0, 0.0)}


def marks(rng: np.random.Generator, ease: np.ndarray, lift: float) -> str:
    return "".join("01"[int(value > 0)] for value in ease + lift + rng.normal(0, 0.5, len(ease)))


def study(
    settings: dict[str, tuple[int, float]], languages: tuple[str, ...] = LANGUAGES, items: int = 50
) -> dict[str, Any]:
    """``settings`` is ``{setting: (seeds, how much easier it finds the items)}``."""
    ease = np.random.default_rng(7).normal(0.4, 1, items)
    runs = {}
    for number, (name, (seeds, lift)) in enumerate(settings.items()):
        runs[name] = {}
        for seed in range(seeds):
            rng = np.random.default_rng([number, seed])
            correct = {t: marks(rng, ease, lift - 0.2 * at) for at, t in enumerate(languages)}
            runs[name][str(seed)] = {"correct": correct, "gradient_shares": {"ce": 1.0}, "forwards": 2}
    return {"format": FORMAT, "question": "?", "versions": {}, "platform": {}, "settings": {}, "runs": runs}


def store_tiny_studies(folder: Path) -> Path:
    """Two studies, one of them with seeds and a setting that were not run, and a file that is no grid."""
    folder.mkdir(exist_ok=True)
    other = study({"base": (2, 0.0), "ear": (2, 0.3)}, ("en", "tr"))
    for name, content in (("emoji_methods", study(SMALL)), ("other", other)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "languages.json").write_text(json.dumps({"format": FORMAT, "languages": {}}))  # facts, and no grid
    return folder
