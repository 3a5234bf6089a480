"""Synthetic languages with a known gap: the same concepts, distorted in one way at a time, to try measures on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from xlt_tutorial.errors import XltError

SOURCE = "en"


def concept_space(vectors: np.ndarray, content: int = 96, beside: int = 32) -> tuple[np.ndarray, float]:
    """Turn sentence vectors into concepts with room beside them: their widest directions, then empty ones.

    Args:
        vectors: (items, hidden), of one language.
        content: Principal directions to keep.
        beside: Directions to add in which no concept differs from another.

    Returns:
        Concepts (items, content + beside), centred, of mean squared length 1; and the share of variance that was kept.

    Raises:
        XltError: For more directions of content than ``min(items - 1, hidden)``.
    """
    cloud = np.asarray(vectors, dtype=np.float64)
    if cloud.ndim != 2 or not 1 <= content <= min(len(cloud) - 1, cloud.shape[1]) or beside < 0:
        raise XltError(
            f"{content} directions of content and {beside} beside it do not fit vectors of shape {cloud.shape}: give "
            "(items, hidden) and a content from 1 to min(items - 1, hidden)."
        )
    left, size, _ = np.linalg.svd(cloud - cloud.mean(0), full_matrices=False)
    kept = left[:, :content] * size[:content]
    unit = kept / np.sqrt((kept**2).sum(1).mean())
    return np.pad(unit, ((0, 0), (0, beside))), float((size[:content] ** 2).sum() / (size**2).sum())


def synthetic_languages(
    concepts: np.ndarray,
    targets: int = 4,
    *,
    noise: float = 0.0,
    turn: float = 0.0,
    scale: float = 1.0,
    shift: float = 0.0,
    mark: float = 0.0,
    collapse: float = 0.0,
    rogue: float = 0.0,
    shuffle: float = 0.0,
    labels: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Make a source language and targets out of concepts; undistorted, each of them is the concepts themselves.

    Lengths are in units of the concepts' spread, the root of their total variance: a ``shift`` or a ``mark`` alone
    makes every ``gap_ratio`` to the source exactly that. Everything is about the centroid. All that is random follows
    from ``seed`` and the number of the language: worlds that differ in one strength differ in nothing else.

    Args:
        concepts: (items, hidden), as ``concept_space`` makes them.
        targets: Number of target languages.
        noise: Spread of noise in all languages, the source too; it is as wide in every direction as the concepts are.
        turn: Degrees by which each vector of a target turns, noise included, each target in planes of its own.
        scale: Factor of a target, noise included.
        shift: Offset of a target along a direction of its own in which concepts differ (a random mixture of them).
        mark: Offset of a target along a direction of its own in which no concept differs from another.
        collapse: 0 to 1. In all languages, the source too, everything but the noise moves that far to the mean of its
            label: whatever is not the label shrinks, the item and the language alike.
        rogue: Spread of one direction beside the content, the same in all languages, the source too. The value that a
            vector has there means nothing.
        shuffle: Share of a target's vectors that change places, none of which keeps its own. The cloud stays as a set.
        labels: One per item, for ``collapse``.
        seed: Seed of everything random.

    Returns:
        ``{"en": .., "L1": .., "L2": ..}``, each (items, hidden) in float64.

    Raises:
        XltError: For concepts that are all the same, a strength out of range, ``collapse`` without labels, a ``turn``
            where ``hidden`` is odd, and a ``mark`` or ``rogue`` without a direction beside the content for it.
    """
    cloud = np.asarray(concepts, dtype=np.float64)
    if cloud.ndim != 2 or not cloud.var(0).any():
        raise XltError(
            f"Concepts are (items, hidden) and differ from one another; got {cloud.shape}: see concept_space."
        )
    n, hidden = cloud.shape
    if not (0 <= shuffle <= 1 and 0 <= collapse <= 1 and scale > 0 and noise >= 0 and rogue >= 0):
        raise XltError("shuffle and collapse go from 0 to 1, scale is above 0, noise and rogue are not below 0.")
    if turn and hidden % 2:
        raise XltError(f"A turn takes directions two by two, and {hidden} is odd: add one with beside=.")
    empty = np.flatnonzero(cloud.var(0) <= 1e-12 * cloud.var(0).max())
    if len(empty) < (needed := (targets if mark else 0) + bool(rogue)):
        raise XltError(
            f"mark and rogue need {needed} directions beside the content, not {len(empty)}: add with beside=."
        )
    if collapse and (labels is None or len(labels) != n):
        raise XltError(f"collapse needs a label for each of the {n} concepts: pass labels=.")
    centre = cloud.mean(0)
    cloud = cloud - centre
    spread = float(np.sqrt((cloud**2).sum(1).mean()))
    given = [] if labels is None else list(labels)
    names = list(dict.fromkeys(given))
    group = np.array([names.index(label) for label in given])
    languages = {}
    for number in range(targets + 1):
        draw = np.random.default_rng([seed, number])
        order, mixture, value = draw.permutation(n), draw.normal(size=n), draw.normal(size=n)
        blur = noise * draw.normal(size=(n, n)) @ cloud / np.sqrt(n)
        x = cloud.copy()
        if number:
            planes = np.linalg.qr(draw.normal(size=(hidden, hidden)))[0] if turn else None
            x, blur = (scale * (part if planes is None else _turned(part, planes, turn)) for part in (x, blur))
            along = mixture @ cloud
            x += shift * spread * along / np.linalg.norm(along)
            if mark:
                x[:, empty[number - 1]] += mark * spread
        if collapse:
            means = np.array([cloud[group == one].mean(0) for one in range(len(names))])
            x = (1 - collapse) * x + collapse * means[group]
        if rogue:
            x[:, empty[-1]] += rogue * spread * value
        x += centre + blur
        if number:
            moved = order[: round(shuffle * n)]
            x[moved] = x[np.roll(moved, 1)]
        languages[f"L{number}" if number else SOURCE] = x
    return languages


def _turned(x: np.ndarray, planes: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate each vector by the same angle: the orthonormal columns of ``planes`` span planes two by two."""
    y = x @ planes
    across = np.empty_like(y)
    across[:, ::2], across[:, 1::2] = -y[:, 1::2], y[:, ::2]
    angle = np.radians(degrees)
    return (np.cos(angle) * y + np.sin(angle) * across) @ planes.T
