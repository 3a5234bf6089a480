"""Two-dimensional views of sentence vectors, by UMAP or PCA, and the table of points that the maps draw.

A map shows which points are neighbours. Distances between clusters, their sizes and their shapes in UMAP mean nothing,
and two axes of PCA show a part of the variance: claims come from the numbers of ``alignment``.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from xlt_tutorial.caching import cached, content_hash
from xlt_tutorial.errors import XltError, unknown

if TYPE_CHECKING:
    import pandas as pd

    from xlt_tutorial.tasks import ParallelTask

METHODS = ("umap", "pca")
NEIGHBOURS = 15  # umap's own default
TRANSFORM_SEED = 42  # likewise, and so that of seed 0


def project(vectors: Mapping[str, np.ndarray], method: str = "umap", seed: int = 0) -> np.ndarray:
    """Project one layer to the plane.

    Args:
        vectors: ``{language: (items, hidden)}``. Vectors are scaled to length 1 first, as the measures use cosines.
        method: ``umap`` (cosine distance, single-threaded, so that a seed gives the same picture each time) or ``pca``.
        seed: Seed of UMAP.

    Returns:
        Coordinates (points, 2), language by language in the order of ``vectors``; a UMAP that was computed before is
        read from the cache.

    Raises:
        XltError: For an unknown method, too few points, NaN, or vectors of different width.
    """
    cloud = _stacked(vectors, method)
    if method == "pca":
        return _pca([cloud])[0]
    settings = {"n_neighbors": min(NEIGHBOURS, len(cloud) - 1), "metric": "cosine", "random_state": seed}

    def fit() -> np.ndarray:
        import umap

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="n_jobs value")
            return np.asarray(umap.UMAP(**settings, n_jobs=1).fit_transform(cloud), dtype=np.float64)

    return cached("maps", content_hash([metadata.version("umap-learn"), settings, cloud]), fit)


def project_aligned(
    before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], method: str = "umap", seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Project two states of the same points, such as one layer before and after training, into one frame.

    Returns:
        Coordinates before and after, each (points, 2); computed, cached and refused as ``project_stages`` does.
    """
    first, second = project_stages([before, after], method, seed)
    return first, second


def project_stages(
    states: Sequence[Mapping[str, np.ndarray]], method: str = "umap", seed: int = 0, neighbours: int = NEIGHBOURS
) -> list[np.ndarray]:
    """Project several states of the same points, such as one layer at each stage of training, into one frame.

    ``umap`` is one ``AlignedUMAP`` in which every point is tied to itself in the next state. ``pca`` has common axes,
    fitted on all states together, each centred on its own mean: else the first axis would go to the move of everything
    at once.

    Args:
        states: For each, ``{language: (items, hidden)}``; the same languages and items. Vectors are scaled to length 1.
        method: ``umap`` or ``pca``.
        seed: Of UMAP.
        neighbours: Of a point in UMAP, fewer than points.

    Returns:
        Coordinates of each state, (points, 2), language by language in the order of the first; a UMAP that was
        computed before is read from the cache.

    Raises:
        XltError: Where the states differ in languages or items, and as ``project`` does.
    """
    shapes = [{code: np.shape(cloud) for code, cloud in state.items()} for state in states]
    if not shapes or any(shape != shapes[0] for shape in shapes):
        raise XltError("All states must hold the same languages and items: encode them with the same arguments.")
    clouds = [_stacked({code: state[code] for code in states[0]}, method) for state in states]
    if method == "pca":
        return _pca(clouds)
    points = len(clouds[0])
    # On vectors of length 1, Euclidean distance ranks neighbours as the cosine does, and umap is far faster with it.
    # AlignedUMAP draws from ``transform_seed``: ``random_state`` alone would give every seed the same picture.
    settings = {"n_neighbors": min(neighbours, points - 1), "metric": "euclidean", "random_state": seed}
    settings["transform_seed"] = TRANSFORM_SEED + seed

    def fit() -> np.ndarray:
        import umap

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="n_jobs value")
            mapper = umap.AlignedUMAP(**settings)
            mapper.fit(clouds, relations=[{i: i for i in range(points)}] * (len(clouds) - 1))
        return np.stack([np.asarray(embedding, dtype=np.float64) for embedding in mapper.embeddings_])

    return list(cached("maps", content_hash([metadata.version("umap-learn"), settings, *clouds]), fit))


def map_points(
    coordinates: np.ndarray,
    task: ParallelTask,
    split: str = "test",
    languages: Sequence[str] | None = None,
    rows: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Put coordinates beside what they stand for, as ``figures.alignment_map`` and ``before_after_map`` take it.

    Args:
        coordinates: (points, 2), language by language, as ``project`` returns them.
        task: Where the texts are; the two texts of a pair are joined by a slash.
        split: The split that was encoded.
        languages: The languages that were projected, in order; all of the split by default.
        rows: Numbers of the items that were projected, in order; all by default.

    Returns:
        One row per point: ``x``, ``y``, ``id``, ``language``, ``label`` (its name), ``text``, ``english`` (the text
        of the source language) and, where the task has it, ``emoji``.
    """
    import pandas as pd

    chosen = list(task[split] if languages is None else languages)
    tables = []
    for language in chosen:
        data = task[split][language]
        table = pd.DataFrame({name: list(data[name]) for name in data.column_names})
        source = task[split][task.source]
        table["text"] = [" / ".join(texts) for texts in zip(*(data[name] for name in task.text_columns), strict=True)]
        table["english"] = [" / ".join(t) for t in zip(*(source[name] for name in task.text_columns), strict=True)]
        table["label"] = [task.labels[label] for label in table["label"]]
        table["language"] = language
        tables.append(table if rows is None else table.iloc[list(rows)])
    points = pd.concat(tables, ignore_index=True)
    if np.shape(coordinates) != (len(points), 2):
        raise XltError(
            f"{len(coordinates)} coordinates for {len(points)} points ({len(chosen)} languages, "
            f"{len(points) // len(chosen)} items each): pass the languages and rows that were projected."
        )
    points["x"], points["y"] = np.asarray(coordinates, dtype=np.float64).T
    columns = ("x", "y", "id", "language", "label", "text", "english", "emoji")
    return points[[column for column in columns if column in points]]


def _stacked(vectors: Mapping[str, np.ndarray], method: str) -> np.ndarray:
    if method not in METHODS:
        raise unknown("projection", method, METHODS)
    least = {"umap": 10, "pca": 3}[method]
    if len({np.shape(cloud)[1:] for cloud in vectors.values()}) != 1 or any(np.ndim(c) != 2 for c in vectors.values()):
        raise XltError("A projection takes one layer, {language: (items, hidden)} of equal width: v[6] of each.")
    cloud = np.concatenate([np.asarray(rows, dtype=np.float64) for rows in vectors.values()])
    if len(cloud) < least:
        raise XltError(f"{method} needs {least} points or more and got {len(cloud)}: choose more items or languages.")
    if not np.isfinite(cloud).all():
        raise XltError("Some vectors hold NaN or infinity. Has training diverged?")
    return cloud / np.maximum(np.linalg.norm(cloud, axis=1, keepdims=True), 1e-12)


def _pca(clouds: list[np.ndarray]) -> list[np.ndarray]:
    """Coordinates of each cloud on the first two axes of all of them; the largest weight of an axis is positive."""
    centred = [cloud - cloud.mean(0) for cloud in clouds]
    pooled = np.concatenate(centred)
    axes = np.linalg.eigh(pooled.T @ pooled)[1][:, :-3:-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    return [cloud @ axes for cloud in centred]
