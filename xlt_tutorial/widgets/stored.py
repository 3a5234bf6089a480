"""The stored maps: coordinates of test concepts at every layer and stage of training, beside the measures of alignment.

Two files: ``maps.npz`` holds coordinates, texts and two numbers per point; ``maps.json`` holds the measures, what was
run, versions, seeds and platform. The picture shows a sample of the concepts, the measures are over all of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.files import write_whole

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1
FOLDER = Path(__file__).resolve().parent.parent / "results"
STEPS = 2**14 - 1  # of a coordinate, from one side of the frame to the other: a panel never has as many pixels
GAP_STEPS = 100  # of a point's gap, in one
ARRAYS = ("xy", "again", "gap", "rank", "texts", "romanised", "emoji", "ids", "labels")
REMEDY = "Compute them anew: set RECOMPUTE = True in notebook 08, or run `python tools/make_maps.py`."


class MapsError(XltError):
    """Raised where the stored maps are missing, damaged or of another version; a notebook shows the sentence alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


@dataclass(frozen=True)
class Maps:
    """What the two files hold. Points are (language, concept), languages in the order of ``languages``.

    Attributes:
        info: What ``maps.json`` holds.
        xy: (projections, layers, stages, languages, concepts, 2), from 0 to ``STEPS``. All stages of one layer and
            projection share a frame; two layers do not.
        again: (2, languages, concepts, 2): the last stage's last layer laid out once more, from another seed and with
            another number of neighbours (``info["again"]``), each in a frame of its own.
        gap: (layers, stages, languages, concepts): ``make.point_gaps`` times ``GAP_STEPS``.
        rank: (layers, stages, languages, concepts): ``make.translation_ranks``, from each point to the source.
        texts: (languages, concepts).
        romanised: (languages, concepts); empty where the text is in Latin letters already.
        emoji: (concepts,), empty where the task has none; ``ids`` and ``labels`` likewise, labels by name.
    """

    info: Mapping[str, Any]
    xy: np.ndarray
    again: np.ndarray
    gap: np.ndarray
    rank: np.ndarray
    texts: np.ndarray
    romanised: np.ndarray
    emoji: np.ndarray
    ids: np.ndarray
    labels: np.ndarray

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes, the source first."""
        return tuple(self.info["languages"])

    @property
    def source(self) -> str:
        """The language that was trained on."""
        return self.languages[0]

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers; 0 is the output of the embedding block."""
        return tuple(self.info["layers"])

    @property
    def stages(self) -> tuple[str, ...]:
        """Keys, in order of training."""
        return tuple(self.info["stages"])

    @property
    def projections(self) -> tuple[str, ...]:
        """Names, such as ``umap``."""
        return tuple(self.info["projections"])

    def title(self, stage: str) -> str:
        """Return what a stage is called in a figure."""
        return str(self.info["stages"][self.stages[self._at("stage", stage)]]["title"])

    def coordinates(self, stage: str, layer: int, projection: str = "umap") -> np.ndarray:
        """Return (languages, concepts, 2) in float32, from 0 to 1 in the frame of this layer and projection."""
        at = self._at("projection", projection), self._at("layer", layer), self._at("stage", stage)
        return self.xy[at].astype(np.float32) / STEPS

    def gaps(self, stage: str, layer: int) -> np.ndarray:
        """Return (languages, concepts): how far each point is from its translation; 0: there, 1: as from strangers."""
        return self.gap[self._at("layer", layer), self._at("stage", stage)].astype(np.float32) / GAP_STEPS

    def ranks(self, stage: str, layer: int) -> np.ndarray:
        """Return (languages, concepts): the place of the translation among the source's nearest points, 1 the best."""
        return self.rank[self._at("layer", layer), self._at("stage", stage)]

    def measures(self, stage: str, layer: int) -> Mapping[str, Any]:
        """Return the row of ``alignment.align`` over all test concepts."""
        found: Mapping[str, Any] = self.info["measures"][self.stages[self._at("stage", stage)]][
            self._at("layer", layer)
        ]
        return found

    def kept(self, stage: str, layer: int, projection: str = "umap") -> float:
        """Return the share of a point's ten nearest on the map that are among its ten nearest in the full space."""
        at = self._at("projection", projection), self._at("layer", layer), self._at("stage", stage)
        return float(np.asarray(self.info["neighbours_kept"])[at])

    def find(self, name: str) -> int:
        """Return the concept of an emoji, an id, or a text of any language, in letters of any case.

        Raises:
            XltError: There is none; the message lists close names in the source language.
        """
        wanted = " ".join(str(name).split()).casefold()
        if wanted in self._names:
            return self._names[wanted]
        near = ", ".join(self.near(wanted))
        raise XltError(f'No item on the map is called "{name}". The nearest names: {near}.')

    def near(self, name: str, count: int = 5) -> list[str]:
        """Return the names in the source language that are closest to a name."""
        import difflib

        names = [str(text) for text in self.texts[0]]
        folded = {text.casefold(): text for text in names}
        holding = [text for low, text in folded.items() if name.casefold() in low]
        close = difflib.get_close_matches(name.casefold(), list(folded), n=count, cutoff=0.3)
        return list(dict.fromkeys([*holding, *(folded[low] for low in close), *names]))[:count]

    def points(
        self, stage: str, layer: int, projection: str = "umap", concepts: Sequence[int] | None = None
    ) -> pd.DataFrame:
        """Return a table of points as ``figures.alignment_map`` and ``before_after_map`` take it.

        Args:
            stage: One of ``stages``.
            layer: One of ``layers``.
            projection: One of ``projections``.
            concepts: Numbers of the concepts to return; all by default.
        """
        import pandas as pd

        chosen = np.arange(len(self.ids)) if concepts is None else np.asarray(concepts, dtype=int)
        xy = self.coordinates(stage, layer, projection)[:, chosen].reshape(-1, 2)
        repeats = len(self.languages)
        table = {
            "x": xy[:, 0],
            "y": xy[:, 1],
            "id": np.tile(self.ids[chosen], repeats),
            "language": np.repeat(self.languages, len(chosen)),
            "label": np.tile(self.labels[chosen], repeats),
            "text": self.texts[:, chosen].ravel(),
            "english": np.tile(self.texts[0, chosen], repeats),
        }
        faces = {"emoji": np.tile(self.emoji[chosen], repeats)} if self.emoji.any() else {}
        return pd.DataFrame(table | faces)

    @cached_property
    def _names(self) -> dict[str, int]:
        """Every way to name a concept; where two concepts share a name, the first has it, the source before others."""
        found: dict[str, int] = {}
        for row in (self.emoji, self.ids, *self.texts, *self.romanised):
            for concept, name in enumerate(row):
                if key := " ".join(str(name).split()).casefold():
                    found.setdefault(key, concept)
        return found

    def _at(self, kind: str, value: Any) -> int:
        valid: Sequence[Any] = {"stage": self.stages, "layer": self.layers, "projection": self.projections}[kind]
        if value not in valid:
            raise unknown(kind, value, map(str, valid))
        return valid.index(value)


def read_maps(folder: str | Path = FOLDER) -> Maps:
    """Read the stored maps; a second or less, and neither umap nor the encoder is loaded.

    Args:
        folder: Where ``maps.npz`` and ``maps.json`` are; the package's own by default.

    Raises:
        MapsError: One is missing or damaged, they do not belong together, or another version of the package wrote them;
            says how to compute them anew.
    """
    base = Path(folder)
    try:
        info = json.loads((base / "maps.json").read_text(encoding="utf-8"))
        packed = (base / "maps.npz").read_bytes()
    except FileNotFoundError as error:
        raise MapsError(f"The stored maps are missing: there is no {Path(error.filename).name}. {REMEDY}") from None
    except (OSError, ValueError) as error:
        raise MapsError(f"The stored maps cannot be read ({error}). {REMEDY}") from None
    found = info.get("format") if isinstance(info, dict) else None
    if found != FORMAT:
        raise MapsError(f"The stored maps are of version {found}, this package reads version {FORMAT}. {REMEDY}")
    if info.get("npz_sha256") != hashlib.sha256(packed).hexdigest():
        raise MapsError(f"maps.npz and maps.json do not belong together: one of them was changed. {REMEDY}")
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as arrays:
            return Maps(info, **{name: arrays[name] for name in ARRAYS})
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise MapsError(f"The stored maps are damaged ({error}). {REMEDY}") from None


def write_maps(maps: Maps, folder: str | Path) -> None:
    """Write both files; one of an earlier run is replaced once the new one is whole."""
    base = Path(folder)
    base.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    np.savez_compressed(packed, **{name: getattr(maps, name) for name in ARRAYS})
    part = base / "maps.npz.part"
    part.write_bytes(packed.getvalue())
    os.replace(part, base / "maps.npz")
    info = {**maps.info, "format": FORMAT, "npz_sha256": hashlib.sha256(packed.getvalue()).hexdigest()}
    write_whole(base / "maps.json", json.dumps(info, ensure_ascii=False, separators=(",", ":")) + "\n")


def quantised(coordinates: np.ndarray) -> np.ndarray:
    """Return coordinates (..., 2) of one frame in int16 from 0 to ``STEPS``: one scale for both axes, all in view."""
    flat = coordinates.reshape(-1, 2)
    low, span = flat.min(0), max(float(np.ptp(flat, axis=0).max()), 1e-12)
    middle = (1 - np.ptp(flat, axis=0) / span) / 2  # the shorter axis in the middle of the frame
    return np.round(((coordinates - low) / span + middle) * STEPS).astype(np.int16)
