"""Zero-shot cross-lingual transfer with virtual multilingual embeddings: the package behind the notebooks.

Public names are imported on first use, so that ``import xlt_tutorial`` stays fast.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__version__ = "0.1.0"

# Read when torch is first imported: threads that wait for one another sleep instead of spinning. Where other programs
# want the same cores, spinning makes a training step tens of times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {
    "load_task": "tasks",
    "ParallelTask": "tasks",
    "load_encoder": "encoders",
    "Encoder": "encoders",
    "Classifier": "encoders",
    "NeighbourSwap": "perturb",
    "SynonymSwap": "perturb",
    "EmbeddingNoise": "perturb",
    "swap_report": "perturb",
    "embedding_push": "losses",
    "attention_pull": "losses",
    "Vanilla": "objectives",
    "EAR": "objectives",
    "Recipe": "training",
    "train": "training",
    "evaluate": "evaluation",
    "sentence_vectors": "alignment",
    "align": "alignment",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
