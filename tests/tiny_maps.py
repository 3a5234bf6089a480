"""Stored maps small enough for a test, made of random vectors: seven items, four languages, three layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xlt_tutorial.alignment import align
from xlt_tutorial.projection import project_stages
from xlt_tutorial.widgets.points import neighbours_kept, point_gaps, translation_ranks
from xlt_tutorial.widgets.stored import GAP_STEPS, Maps, quantised, read_maps, write_maps

CODES = ("en", "de", "ja", "ar")
STAGES = {"encoder": "The encoder as it is", "vanilla": "After vanilla training", "ear": "After EAR"}
NAMES = ("fox", "red apple", "rice ball", "moon", "train", "kite", "door")
FACES = "🦊 🍎 🍙 🌙 🚆 🪁 🚪".split()
LABELS = ["animals", "food", "food", "places", "places", "toys", "objects"]
JA = ("きつね", "赤りんご", "おにぎり", "月", "電車", "凧", "ドア")
AR = ("ثعلب", "تفاحة حمراء", "كرة أرز", "قمر", "قطار", "طائرة ورقية", "باب")
TEXTS = {"en": NAMES, "de": tuple(f"das {name}" for name in NAMES), "ja": JA, "ar": AR}
LAYERS = (0, 1, 2)


def tiny_vectors(stage: int, layer: int) -> dict[str, np.ndarray]:
    """Vectors of one stage and layer: languages draw closer from stage to stage."""
    shared = np.random.default_rng(layer).normal(size=(len(NAMES), 6))
    rng = np.random.default_rng(100 * stage + layer)
    apart = (3 - stage) * 0.6
    return {
        code: shared + apart * rng.normal(size=6) * bool(at) + 0.3 * rng.normal(size=shared.shape)
        for at, code in enumerate(CODES)
    }


def tiny_maps() -> Maps:
    """The maps of these vectors, by PCA under both names, with all numbers computed."""
    every = [[tiny_vectors(stage, layer) for stage in range(3)] for layer in LAYERS]
    planes = [project_stages(states, "pca") for states in every]
    xy = np.stack([quantised(np.stack(stages)).reshape(3, len(CODES), len(NAMES), 2) for stages in planes])
    kept = [
        [neighbours_kept(np.concatenate(list(v.values())), plane) for v, plane in zip(states, flat, strict=True)]
        for states, flat in zip(every, planes, strict=True)
    ]
    measures = {
        stage: [align({c: v[None] for c, v in every[at][number].items()}, LABELS, "en", k=3)[0] | {"layer": layer}
                for at, layer in enumerate(LAYERS)]
        for number, stage in enumerate(STAGES)
    }  # fmt: skip
    info = {
        "task": "tiny", "encoder": "tiny", "seed": 0, "languages": list(CODES), "layers": list(LAYERS),
        "projections": ["umap", "pca"], "test_concepts": len(NAMES),
        "neighbours": 15, "again": {"seed": 1, "neighbours": 50},
        "stages": {key: {"title": title, "short": key} for key, title in STAGES.items()},
        "measures": measures, "neighbours_kept": [kept, kept],
    }  # fmt: skip
    for stage, mean in (("vanilla", 0.61), ("ear", 0.64)):
        info["stages"][stage] |= {"target_mean": mean, "accuracy": {code: mean for code in CODES} | {"en": 0.8}}
    roman = [[""] * 7, [""] * 7, [f"ja {name}" for name in NAMES], [f"ar {name}" for name in NAMES]]
    return Maps(
        info,
        xy=np.stack([xy, xy[..., ::-1]]),
        again=np.stack([xy[-1, -1], xy[-1, -1, ..., ::-1]]),
        gap=np.stack([[point_gaps(v, "en") for v in states] for states in every])
        .__mul__(GAP_STEPS)
        .round()
        .astype("u1"),
        rank=np.stack([[translation_ranks(v, "en") for v in states] for states in every]).astype(np.uint16),
        texts=np.array([TEXTS[code] for code in CODES]),
        romanised=np.array(roman),
        emoji=np.array(FACES),
        ids=np.array([f"c{i}" for i in range(7)]),
        labels=np.array(LABELS),
    )


def stored_tiny_maps(folder: Path) -> Maps:
    """The same, written and read back."""
    write_maps(tiny_maps(), folder)
    return read_maps(folder)
