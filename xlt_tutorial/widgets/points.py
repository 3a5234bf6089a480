"""Numbers of single points, and the projection of several stages of training into one frame."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from xlt_tutorial.errors import XltError
from xlt_tutorial.projection import NEIGHBOURS, _pca, _stacked

NEAREST = 10  # neighbours of ``neighbours_kept``


def project_stages(states: Sequence[Mapping[str, np.ndarray]], method: str, seed: int = 0) -> list[np.ndarray]:
    """Project several states of the same points into one frame, as ``projection.project_aligned`` does two.

    Args:
        states: For each, ``{language: (items, hidden)}``; the same languages and items.
        method: ``umap`` is one ``AlignedUMAP`` in which every point is tied to itself in the next state; ``pca`` has
            the two widest axes of all states together, each state centred on its own mean.
        seed: Of UMAP.

    Returns:
        Coordinates of each state, (points, 2), language by language.
    """
    if len({json.dumps({code: np.shape(cloud) for code, cloud in state.items()}) for state in states}) != 1:
        raise XltError("All stages must hold the same languages and items: encode them with the same arguments.")
    clouds = [_stacked(state, method) for state in states]
    if method == "pca":
        return _pca(clouds)
    import umap

    # The vectors have length 1: Euclidean distance ranks neighbours as the cosine does, and umap is far faster with it.
    points = len(clouds[0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value")
        mapper = umap.AlignedUMAP(n_neighbors=min(NEIGHBOURS, points - 1), metric="euclidean", random_state=seed)
        mapper.fit(clouds, relations=[{i: i for i in range(points)}] * (len(clouds) - 1))
    return [np.asarray(embedding, dtype=np.float64) for embedding in mapper.embeddings_]


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
