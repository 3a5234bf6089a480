"""Exercises of notebook 08: the rank of a translation, what a map keeps of neighbourhoods, how far a language moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from xlt_tutorial.alignment import gap_ratio
from xlt_tutorial.exercises import Case, Exercise, Mistake
from xlt_tutorial.widgets.points import neighbours_kept, translation_ranks

Array = np.ndarray
Clouds = Mapping[str, Array]


def _unit(cloud: Array) -> Array:
    return cloud / np.linalg.norm(cloud, axis=1, keepdims=True)


# --- translation_ranks: the place of each target item's translation among the source's items


def _ranks(target: Array, source: Array) -> Array:
    return translation_ranks({"source": source, "target": target}, "source")[1]


def _by(near: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Rank by any nearness (target items, source items); larger is nearer."""

    def ranks(target: Array, source: Array) -> Array:
        score = near(target, source)
        return (score > np.diagonal(score)[:, None]).sum(1) + 1

    return ranks


def _cosine(target: Array, source: Array) -> Array:
    return _unit(target) @ _unit(source).T


def _distance(one: Array, other: Array) -> Array:
    return np.linalg.norm(one[:, None] - other[None], axis=2)


def _translations() -> Sequence[Case]:
    draw = np.random.default_rng(0)

    def pair(items: int, noise: float, offset: float) -> tuple[Array, Array]:
        """Translations of lengths of their own, one language beside the other."""
        concepts = draw.normal(size=(items, 7))
        clouds = [concepts + noise * draw.normal(size=concepts.shape) + offset * draw.normal(size=7) for _ in range(2)]
        lengths = np.exp(0.6 * draw.normal(size=(2, items, 1)))
        return tuple(lengths[at] * cloud for at, cloud in enumerate(clouds))

    return [
        Case("two languages that nearly match", pair(30, 0.4, 0.3)),
        Case("two languages far apart", pair(45, 0.8, 1.5)),
        Case("five items", pair(5, 1.2, 0.5)),
    ]


# --- neighbours_kept


def _nearest(distance: Array, k: int, own: bool = False) -> Array:
    """(points, k), nearest first; without the point itself unless ``own``."""
    kept = distance.copy()
    if not own:
        np.fill_diagonal(kept, np.inf)
    return np.argsort(kept, axis=1, kind="stable")[:, :k]


def _overlap(space: Array, plane: Array) -> Array:
    """How many neighbours each point has in both lists."""
    return np.array([len(set(one) & set(other)) for one, other in zip(space.tolist(), plane.tolist(), strict=True)])


def _far(cloud: Array) -> Array:
    return 1 - _cosine(cloud, cloud)


def _kept(of_space: Callable[[Array], Array], of_plane: Callable[[Array], Array], own: bool = False) -> Callable:
    def share(space: Array, plane: Array, k: int) -> float:
        return float(_overlap(_nearest(of_space(space), k, own), _nearest(of_plane(plane), k, own)).mean() / k)

    return share


def _flat(plane: Array) -> Array:
    return _distance(plane, plane)


def _jaccard(space: Array, plane: Array, k: int) -> float:
    both = _overlap(_nearest(_far(space), k), _nearest(_flat(plane), k))
    return float((both / (2 * k - both)).mean())


def _in_place(space: Array, plane: Array, k: int) -> float:
    return float((_nearest(_far(space), k) == _nearest(_flat(plane), k)).mean())


def _all_kept(space: Array, plane: Array, k: int) -> float:
    return float((_overlap(_nearest(_far(space), k), _nearest(_flat(plane), k)) == k).mean())


def _maps() -> Sequence[Case]:
    draw = np.random.default_rng(1)

    def shadow(points: int, hidden: int, k: int) -> tuple[Array, Array, int]:
        """A cloud away from the origin, of vectors of all lengths, and a noisy view of two of its directions."""
        space = np.exp(0.5 * draw.normal(size=(points, 1))) * (draw.normal(size=(points, hidden)) + 0.8)
        return space, _unit(space)[:, :2] + 0.05 * draw.normal(size=(points, 2)) + 1.0, k

    return [
        Case("a map of forty points and five neighbours", shadow(40, 4, 5)),
        Case("a map of sixty points and ten neighbours", shadow(60, 6, 10)),
        Case("two neighbours", shadow(25, 3, 2)),
    ]


# --- centroid_shift: how far the centre of each language moves between two stages


def _shift(before: Clouds, after: Clouds) -> dict[str, float]:
    return {language: gap_ratio(before[language], after[language]) for language in before}


def _moved(one: Array, other: Array) -> float:
    return float(np.linalg.norm(one.mean(0) - other.mean(0)))


def _spread(*clouds: Array) -> float:
    return float(np.sqrt(np.mean([cloud.var(0).sum() for cloud in clouds])))


def _each(number: Callable[[Array, Array], float]) -> Callable[[Clouds, Clouds], dict[str, float]]:
    return lambda before, after: {language: float(number(before[language], after[language])) for language in before}


def _to_first(before: Clouds, after: Clouds) -> dict[str, float]:
    first = next(iter(after))
    return {
        language: _moved(after[first], after[language]) / _spread(after[first], after[language]) for language in after
    }


def _stages() -> Sequence[Case]:
    draw = np.random.default_rng(2)

    def pair(items: int, hidden: int, codes: str, move: float) -> tuple[dict[str, Array], dict[str, Array]]:
        before = {code: draw.normal(size=(items, hidden)) + draw.normal(size=hidden) for code in codes.split()}
        after = {
            code: 1.7 * cloud + 0.5 * draw.normal(size=cloud.shape) + move * draw.normal(size=hidden)
            for code, cloud in before.items()
        }
        return before, after

    return [
        Case("three languages", pair(20, 6, "en de ja", 1.0)),
        Case("two languages that hardly move", pair(35, 9, "en tr", 0.1)),
        Case("two items in a language", pair(2, 4, "ar en", 2.0)),
    ]


EXERCISES = {
    "translation_ranks": Exercise(
        answer=_ranks,
        cases=_translations,
        mistakes=(
            Mistake(
                lambda t, s: _ranks(t, s) - 1,
                "You count from 0. The nearest item has rank 1: how many are nearer than the translation, plus one.",
            ),
            Mistake(
                lambda t, s: _ranks(s, t),
                "The direction: here each item of the *target* language looks for its translation among all source "
                "items.",
            ),
            Mistake(
                lambda t, s: len(s) + 1 - _ranks(t, s),
                "The list runs from the farthest to the nearest. A translation that is the nearest of all has rank 1.",
            ),
            Mistake(
                lambda t, s: _cosine(t, s).argmax(1),
                "That is *which* item is the nearest. The rank says at which place the translation stands.",
            ),
            Mistake(
                lambda t, s: np.diagonal(np.argsort(-_cosine(t, s), axis=1)),
                "argsort says which item stands at each place; you want the place of one item. Count the cosines that "
                "are above its own.",
            ),
            Mistake(
                _by(lambda t, s: t @ s.T),
                "These are dot products, so long vectors come first. Divide by both lengths.",
            ),
            Mistake(
                _by(lambda t, s: -_distance(t, s)),
                "Nearest by Euclidean distance is another question: the maps and P@1 go by the cosine.",
            ),
            Mistake(
                _by(lambda t, s: _cosine(t - t.mean(0), s - s.mean(0))),
                "You have centred both languages first. The rank takes the vectors as they are, shift and all.",
            ),
        ),
        praise=(
            "`Maps.ranks` holds these numbers for every point on the maps. The share of ones is P@1, in the direction "
            "`to_source`; the ranks also tell a near miss from a far one."
        ),
    ),
    "neighbours_kept": Exercise(
        answer=neighbours_kept,
        cases=_maps,
        mistakes=(
            Mistake(
                _kept(_far, _flat, own=True),
                "Every point is among its own neighbours, in both lists: a share that is always found. Leave it out.",
            ),
            Mistake(
                _kept(_flat, _flat),
                "In the full space, nearness is the cosine here, as in all measures of the kit. You have taken the "
                "Euclidean distance.",
            ),
            Mistake(
                _kept(_far, _far),
                "On a map, nearness is what the eye sees, the distance. The cosine is the angle at the map's origin, "
                "which means nothing.",
            ),
            Mistake(
                lambda space, plane, k: k * neighbours_kept(space, plane, k),
                "That is a number of neighbours; divide it by k to make it a share.",
            ),
            Mistake(
                _jaccard,
                "You divide by the neighbours that are in either list. Divide by k: how many of the k on the map are "
                "right?",
            ),
            Mistake(
                _in_place,
                "The order within the k nearest plays no part: a neighbour that is second on the map and third in the "
                "space is kept.",
            ),
            Mistake(
                _all_kept,
                "You count the points whose neighbours are all kept. Take the share for each point, then the mean.",
            ),
            Mistake(
                lambda space, plane, k: 1 - neighbours_kept(space, plane, k),
                "That is the share that is lost.",
            ),
        ),
        praise=(
            "It stands beside the picture as *neighbours kept*. A map drawn at random keeps about k / points; how much "
            "more does this one keep?"
        ),
    ),
    "centroid_shift": Exercise(
        answer=_shift,
        cases=_stages,
        mistakes=(
            Mistake(
                _each(lambda b, a: np.linalg.norm(a - b, axis=1).mean() / _spread(b, a)),
                "That is how far an *item* moves on average. Items may move this way and that, and the centre stay: "
                "take the means first, then one distance.",
            ),
            Mistake(
                _each(_moved),
                "The distance has no unit yet, and a stage whose vectors are longer would always have moved more. "
                "Divide by the spread.",
            ),
            Mistake(
                _each(lambda b, a: _moved(b, a) / _spread(b)),
                "The spread is that of the first stage alone. Both stages count: the root of the mean of their total "
                "variances.",
            ),
            Mistake(
                _each(lambda b, a: _moved(b, a) / _spread(a)),
                "The spread is that of the second stage alone. Both stages count: the root of the mean of their total "
                "variances.",
            ),
            Mistake(
                _each(lambda b, a: _moved(b, a) / np.sqrt(np.mean([b.var(0).mean(), a.var(0).mean()]))),
                "The total variance is the *sum* over the coordinates, not their mean.",
            ),
            Mistake(
                _each(lambda b, a: _moved(b, a) / _spread(b, a) ** 2),
                "A root is missing below the line: a distance is divided by a distance.",
            ),
            Mistake(
                _to_first,
                "That is the gap between languages at the second stage. Here each language is compared with itself, "
                "before and after.",
            ),
        ),
        praise=(
            "It is `alignment.gap_ratio` between a language and its own past. A common move of all languages is in it "
            "too: only what differs between languages changes their alignment."
        ),
    ),
}
