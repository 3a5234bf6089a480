"""Numbers of single points: the rank of a translation, its distance, and which neighbours a map keeps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xlt_tutorial.errors import XltError

NEAREST = 10  # neighbours of ``neighbours_kept``


def neighbours_kept(space: np.ndarray, plane: np.ndarray, k: int = NEAREST) -> float:
    """Return the share of a point's k nearest on a map that are among its k nearest in the full space.

    Args:
        space: (points, hidden); nearest by cosine.
        plane: (points, 2), the same points; nearest by distance.
        k: Neighbours, fewer than points.

    Returns:
        The mean over points, from 0 to 1; a map drawn at random has about k / points.
    """
    from sklearn.neighbors import NearestNeighbors

    if not 1 <= k < len(space):
        raise XltError(f"k={k} neighbours do not fit {len(space)} points: choose k from 1 to {len(space) - 1}.")
    near = [
        NearestNeighbors(n_neighbors=k, metric=metric).fit(cloud).kneighbors(return_distance=False)
        for cloud, metric in ((space, "cosine"), (plane, "euclidean"))
    ]
    return float(np.mean([len(np.intersect1d(*pair)) for pair in zip(*near, strict=True)]) / k)


def translation_ranks(clouds: Mapping[str, np.ndarray], source: str) -> np.ndarray:
    """Return where each point finds its translation among the source's points, nearest first by cosine.

    Args:
        clouds: ``{language: (items, hidden)}``, row i the same concept in all.
        source: The language that is searched.

    Returns:
        (languages, items) of whole numbers: 1 where the translation is the nearest, ``items`` where it is the farthest.
        The share of ones is ``alignment.retrieval``'s ``to_source``. The source finds itself: 1.
    """
    own, others = _cosines(clouds, source)
    return np.asarray((others > own[..., None] + 1e-6).sum(-1) + 1)


def point_gaps(clouds: Mapping[str, np.ndarray], source: str) -> np.ndarray:
    """Return each point's cosine distance to its translation, in units of its mean distance to the other source points.

    Args:
        clouds: ``{language: (items, hidden)}``, row i the same concept in all.
        source: The language of the translations.

    Returns:
        (languages, items): 0 on the translation, 1 as far from it as from strangers; the source itself is 0.
    """
    own, others = _cosines(clouds, source)
    items = own.shape[1]
    strangers = (others.sum(-1) - own) / (items - 1)
    return np.asarray(np.clip(1 - own, 0, None) / np.maximum(1 - strangers, 1e-12))


def _cosines(clouds: Mapping[str, np.ndarray], source: str) -> tuple[np.ndarray, np.ndarray]:
    """Cosine of each point with its translation (languages, items), and with all source points (.., items)."""
    unit = {code: cloud / np.linalg.norm(cloud, axis=1, keepdims=True) for code, cloud in clouds.items()}
    every = np.stack([cloud.astype(np.float64) @ unit[source].T.astype(np.float64) for cloud in unit.values()])
    return np.diagonal(every, axis1=1, axis2=2), every
