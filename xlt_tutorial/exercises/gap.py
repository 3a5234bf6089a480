"""Exercises of notebooks 00 and 01: sentence vectors, look-ups of translations, and measures of the gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from xlt_tutorial import alignment
from xlt_tutorial.encoders import masked_mean
from xlt_tutorial.exercises import Case, Exercise, Mistake

Clouds = Mapping[str, np.ndarray]


def _clouds(seed: int, languages: Sequence[str], items: int, width: int, shift: float = 1.0) -> dict[str, np.ndarray]:
    """Clouds of translations that are near one another, each language with a shift and a spread of its own."""
    rng = np.random.default_rng(seed)
    concepts = rng.normal(size=(items, width))
    clouds = {}
    for number, language in enumerate(languages):
        noise = 0.7 * rng.normal(size=(items, width)) * rng.uniform(0.4, 2.5, size=(items, 1))
        clouds[language] = (1 + 0.6 * number) * (concepts + noise) + shift * rng.normal(size=width)
    return clouds


# --- sentence_vector: the mean over real tokens


def _sentence_cases() -> Sequence[Case]:
    draw = torch.Generator().manual_seed(0)

    def batch(lengths: Sequence[int], width: int) -> tuple[Tensor, Tensor]:
        hidden = torch.randn(len(lengths), max(lengths), width, generator=draw)
        return hidden, (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()

    return [
        Case("two sentences of one length", batch([4, 4], 6)),
        Case("sentences of different lengths", batch([2, 5, 3], 5)),
        Case("a batch of one", batch([3], 7)),
    ]


# --- hit_share: P@1 in one direction


def _pair_cases(seed: int) -> list[Case]:
    sizes = (("forty items", 40, 6), ("a dozen items", 12, 4), ("more numbers than items", 9, 16))
    return [
        Case(what, tuple(_clouds(seed + at, ("en", "de"), items, width).values()))
        for at, (what, items, width) in enumerate(sizes)
    ]


def _unit(cloud: np.ndarray) -> np.ndarray:
    return cloud / np.linalg.norm(cloud, axis=1, keepdims=True)


def _hits(similarity: np.ndarray, axis: int = 1) -> np.ndarray:
    return similarity.argmax(axis) == np.arange(len(similarity))


def _distances(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    return np.linalg.norm(queries[:, None] - keys[None], axis=2)


# --- label_chance: what a blind guess among the others would hit


def _label_chance(labels: Sequence[int]) -> float:
    counts = np.bincount(labels)
    return float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))


def _shares(labels: Sequence[int]) -> np.ndarray:
    return np.bincount(labels) / len(labels)


# --- gap_ratio


def _distance(one: np.ndarray, two: np.ndarray) -> np.floating:
    return np.linalg.norm(one.mean(0) - two.mean(0))


def _variances(*clouds: np.ndarray) -> np.ndarray:
    return np.array([cloud.var(0).sum() for cloud in clouds])


# --- knn_mixing


def _mixing_cases() -> Sequence[Case]:
    return [
        Case("two languages and three neighbours", (_clouds(20, ("en", "de"), 20, 5), 3)),
        Case("four languages and five neighbours", (_clouds(21, ("en", "de", "ja", "ar"), 11, 6), 5)),
        Case("three languages that are well mixed", (_clouds(22, ("en", "ko", "tr"), 9, 4, shift=0.2), 4)),
    ]


def _mixing(
    clouds: Clouds,
    k: int,
    unit: bool = True,
    distance: bool = False,
    itself: bool = False,
    farthest: bool = False,
    own: bool = False,
    expected: str = "others",
) -> dict[str, float]:
    """The measure with one thing wrong at a time."""
    n, languages = len(next(iter(clouds.values()))), len(clouds)
    points = np.concatenate([_unit(cloud) if unit else cloud for cloud in clouds.values()])
    near = -_distances(points, points) if distance else points @ points.T
    near = -near if farthest else near
    if not itself:
        np.fill_diagonal(near, -np.inf)
    owner = np.repeat(np.arange(languages), n)
    foreign = owner[np.argsort(-near, axis=1)[:, :k]] != owner[:, None]
    share = (~foreign if own else foreign).mean(1).reshape(languages, n).mean(1)
    by = {
        "nothing": 1.0,
        "languages": (languages - 1) / languages,
        "others": (languages - 1) * n / (languages * n - 1),
        "k": (languages - 1) * n / (languages * n - 1) / k,
    }[expected]
    return dict(zip(clouds, (share / by).tolist(), strict=True))


# --- without_specials: the mask without the first and the last real token


def _masks() -> Sequence[Case]:
    def mask(lengths: Sequence[int], width: int) -> tuple[Tensor]:
        return ((torch.arange(width) < torch.tensor(lengths)[:, None]).long(),)

    return [
        Case("texts of different lengths", mask([6, 3, 4], 6)),
        Case("a text that fills the width", mask([5, 5], 5)),
        Case("padding in every row", mask([4, 6, 3, 5], 8)),
    ]


def _without_specials(mask: Tensor) -> Tensor:
    place = torch.arange(mask.shape[1], device=mask.device)
    return mask * (place > 0) * (place < mask.sum(1, keepdim=True) - 1)


def _without(mask: Tensor, first: bool, last: str = "") -> Tensor:
    kept, rows, lengths = mask.clone(), torch.arange(len(mask)), mask.sum(1)
    if first:
        kept[:, 0] = 0
    if last == "column":
        kept[:, -1] = 0
    elif last:
        for back in range(1, int(last) + 1):
            kept[rows, lengths - back] = 0
    return kept


EXERCISES = {
    "sentence_vector": Exercise(
        answer=masked_mean,
        cases=_sentence_cases,
        mistakes=(
            Mistake(
                lambda hidden, mask: hidden.mean(1),
                "The mean runs over padding too. Padding is not text: the mask says which positions count.",
            ),
            Mistake(
                lambda hidden, mask: (hidden * mask[..., None]).mean(1),
                "Padding adds nothing to your sum, and still counts when you divide: divide each text by its own "
                "number of real pieces.",
            ),
            Mistake(
                lambda hidden, mask: (hidden * mask[..., None]).sum(1) / mask.sum(),
                "You divide by the real pieces of the whole batch: what else is in the batch must not change a text.",
            ),
            Mistake(
                lambda hidden, mask: (hidden * mask[..., None]).sum((0, 1)) / mask.sum(),
                "This is one vector for the whole batch. Keep the texts apart: take the mean over positions alone.",
            ),
            Mistake(
                lambda hidden, mask: (hidden * mask[..., None]).sum(1),
                "This is a sum: a long text gets a long vector. Divide by the number of real pieces.",
            ),
            Mistake(
                lambda hidden, mask: hidden[:, 0],
                "This is the vector of the first piece. Some encoders are used like that; here it is the mean of all.",
            ),
            Mistake(
                lambda hidden, mask: hidden.masked_fill(mask[..., None] == 0, -torch.inf).amax(1),
                "You take the largest value of each coordinate; the sentence vector takes the mean.",
            ),
            Mistake(
                lambda hidden, mask: hidden.mean(2),
                "You take the mean over the numbers of each piece. Axis 1 is the one that counts the pieces.",
            ),
        ),
        praise="That is the sentence vector; the package has it as `encoders.masked_mean`.",
    ),
    "hit_share": Exercise(
        answer=lambda queries, keys: alignment.retrieval(queries, keys)["from_source"],
        cases=lambda: _pair_cases(0),
        mistakes=(
            Mistake(
                lambda queries, keys: int(_hits(_unit(queries) @ _unit(keys).T).sum()),
                "You return the number of hits. A share is between 0 and 1: divide by the number of rows.",
            ),
            Mistake(
                lambda queries, keys: 1 - _hits(_unit(queries) @ _unit(keys).T).mean(),
                "You return the share of misses.",
            ),
            Mistake(
                lambda queries, keys: _hits(_unit(queries) @ _unit(keys).T, axis=0).mean(),
                "This looks the other way: every query asks, and the keys answer.",
            ),
            Mistake(
                lambda queries, keys: _hits(queries @ keys.T).mean(),
                "A long vector wins every product. The cosine is the product of vectors of length one.",
            ),
            Mistake(
                lambda queries, keys: _hits(-_distances(queries, keys)).mean(),
                "Near means a small angle here, not a small distance: give all vectors length one before you compare.",
            ),
            Mistake(
                lambda queries, keys: _hits(-(_unit(queries) @ _unit(keys).T)).mean(),
                "You take the smallest cosine, which is the farthest point. Nearest is the largest.",
            ),
            Mistake(
                lambda queries, keys: (_unit(queries) * _unit(keys)).sum(1).mean(),
                "This is the mean cosine of translations. Whether it is high depends on all other cosines: count the "
                "hits.",
            ),
            Mistake(
                lambda queries, keys: alignment.retrieval(queries, keys, centred=True)["from_source"],
                "You subtract the mean of each language first. That is the centred form of notebook 01; here take "
                "vectors as they are.",
            ),
        ),
        praise="That is P@1 in one direction; the package has both directions in `alignment.retrieval`.",
    ),
    "label_chance": Exercise(
        answer=_label_chance,
        cases=lambda: [
            Case("labels that are equally frequent", ([0, 1, 2, 0, 1, 2],)),
            Case("one label that is frequent", ([0, 0, 1, 0, 2, 0, 0, 1, 0],)),
            Case("a label that occurs once", ([3, 1, 3, 1, 1, 0, 1],)),
        ],
        mistakes=(
            Mistake(
                lambda labels: float((_shares(labels) ** 2).sum()),
                "You let an item guess itself, which is a sure hit. A wrong answer is one of the *other* items.",
            ),
            Mistake(
                lambda labels: 1 / len(set(labels)),
                "One over the number of labels is right only where all labels are equally frequent, and items many.",
            ),
            Mistake(
                lambda labels: float(_shares(labels).max()),
                "That is what naming the most frequent label would hit. A blind guess draws an *item*, not a label.",
            ),
            Mistake(
                lambda labels: 1 - _label_chance(labels),
                "This is the chance that the label is another one.",
            ),
            Mistake(
                lambda labels: _label_chance(labels) * len(labels),
                "You add the chances of all items up: take their mean.",
            ),
            Mistake(
                lambda labels: float(
                    np.mean([(_shares(labels)[one] * len(labels) - 1) / len(labels) for one in labels])
                ),
                "The item itself is out of the hits, but still among the items that are guessed from: one fewer.",
            ),
        ),
        praise="That is the floor for the misses above: only what is over it shows that misses are near.",
    ),
    "gap_ratio": Exercise(
        answer=alignment.gap_ratio,
        cases=lambda: _pair_cases(10),
        mistakes=(
            Mistake(
                lambda one, two: _distance(one, two) / np.sqrt(_variances(one, two).mean() / one.shape[1]),
                "You take the mean over the coordinates; the total variance is their sum.",
            ),
            Mistake(
                lambda one, two: _distance(one, two) / _variances(one, two).mean(),
                "A root is missing: a distance stands over a variance. Compare lengths with lengths.",
            ),
            Mistake(
                lambda one, two: _distance(one, two) ** 2 / _variances(one, two).mean(),
                "This is the square of the gap ratio: take the root.",
            ),
            Mistake(
                lambda one, two: _distance(one, two) / np.sqrt(_variances(one, two)).mean(),
                "Close: take the mean of the two variances first, and the root of it then.",
            ),
            Mistake(
                lambda one, two: _distance(one, two) / np.sqrt(_variances(one, two).sum()),
                "You divide by the root of the sum of both variances. It is their mean: a half is missing.",
            ),
            Mistake(
                lambda one, two: _distance(one, two) / np.sqrt(_variances(one)[0]),
                "Only one cloud's variance is in your denominator. Take the mean of both: the ratio has no direction.",
            ),
            Mistake(
                lambda one, two: _distance(one, two) / np.sqrt(_variances(one, two).mean() * len(one) / (len(one) - 1)),
                "You divide the squares by n - 1. Here V describes these items alone: divide by n.",
            ),
            Mistake(
                lambda one, two: _distance(one, two) / np.sqrt(np.concatenate([one, two]).var(0).sum()),
                "You take the variance of both clouds thrown together, which holds the gap itself. Take each its own.",
            ),
            Mistake(
                lambda one, two: np.linalg.norm(one - two, axis=1).mean() / np.sqrt(_variances(one, two).mean()),
                "You take the mean distance of translations. The gap ratio asks how far the *centres* are apart.",
            ),
            Mistake(
                lambda one, two: _distance(one, two),
                "This is the distance of the centres. In what unit? Divide it by the clouds' own size.",
            ),
        ),
        praise="That is the gap ratio; the package has it as `alignment.gap_ratio`.",
    ),
    "knn_mixing": Exercise(
        answer=alignment.knn_mixing,
        cases=_mixing_cases,
        mistakes=(
            Mistake(
                lambda clouds, k: _mixing(clouds, k, itself=True),
                "Every point is its own nearest neighbour, and it is never foreign: leave it out.",
            ),
            Mistake(
                lambda clouds, k: _mixing(clouds, k, expected="nothing"),
                "This is the share of foreign neighbours. Divide it by the share that full mixing would give.",
            ),
            Mistake(
                lambda clouds, k: _mixing(clouds, k, expected="languages"),
                "Nearly: (L - 1) / L is the share among all points. A point is not its own neighbour, so among the "
                "others the foreign ones are a little more.",
            ),
            Mistake(
                lambda clouds, k: _mixing(clouds, k, expected="k"),
                "You count foreign neighbours. Take their share of the k neighbours before you divide by the expected "
                "one.",
            ),
            Mistake(
                lambda clouds, k: _mixing(clouds, k, own=True),
                "You count the neighbours of the same language: mixing counts the foreign ones.",
            ),
            Mistake(
                lambda clouds, k: _mixing(clouds, k, unit=False, distance=True),
                "You take the nearest by distance: here, the neighbours are those of the largest cosine.",
            ),
            Mistake(
                lambda clouds, k: _mixing(clouds, k, unit=False),
                "Products of vectors of any length favour the long ones: set all of them to length one first.",
            ),
            Mistake(
                lambda clouds, k: _mixing(clouds, k, farthest=True),
                "These are the farthest points: sort from the largest cosine down.",
            ),
        ),
        praise="That is kNN mixing for any number of languages; the package has it as `alignment.knn_mixing`.",
    ),
    "without_specials": Exercise(
        answer=_without_specials,
        cases=_masks,
        mistakes=(
            Mistake(
                lambda mask: _without(mask, True, "column"),
                "The last column is mostly padding. The last *real* piece stands at another place in every row.",
            ),
            Mistake(
                lambda mask: _without(mask, True, "2"),
                "Two pieces are gone at the end. Counting starts at 0: the last of n real pieces is at n - 1.",
            ),
            Mistake(lambda mask: _without(mask, True), "The first piece is out; the last real one is not."),
            Mistake(lambda mask: _without(mask, False, "1"), "The last piece is out; the first one is not."),
            Mistake(
                lambda mask: _without(mask, False, "2"), "You take two pieces off the end, and `<s>` is at the start."
            ),
            Mistake(
                lambda mask: mask[:, 1:-1],
                "You cut two columns off. The mask must keep its shape to fit the vectors: set entries to 0.",
            ),
        ),
        praise="Whoever pools with this mask averages over the pieces of the text itself.",
    ),
}
