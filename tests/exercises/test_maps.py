"""The exercises of notebook 08: right answers written in other ways pass, each wrong one gets its own hint.

The answers here are plain loops, scikit-learn and einsum, and share no code with the hints that they must meet.
"""

from __future__ import annotations

import math
from statistics import fmean, pvariance
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.neighbors import NearestNeighbors

from xlt_tutorial.alignment import retrieval
from xlt_tutorial.exercises import check, exercise


def cos(a: Any, b: Any) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


def mean_of(rows: Any) -> list[float]:
    return [fmean(column) for column in zip(*rows, strict=True)]


# --- translation_ranks


def places(near: Any, target: Any, source: Any) -> list[int]:
    """Rank by any nearness of two vectors, by sorting."""
    ranks = []
    for i, query in enumerate(target):
        order = sorted(range(len(source)), key=lambda j: -near(query, source[j]))
        ranks.append(order.index(i) + 1)
    return ranks


def ranks_loop(target: Any, source: Any) -> list[int]:
    return places(cos, target, source)


def ranks_scipy(target: Any, source: Any) -> Any:
    return np.diag(rankdata(cdist(target, source, "cosine"), axis=1)).astype(int)


def ranks_torch(target: Any, source: Any) -> Any:
    t, s = (torch.nn.functional.normalize(torch.from_numpy(cloud)) for cloud in (target, source))
    every = torch.einsum("ih,jh->ij", t, s)
    return 1 + (every > every.diagonal().unsqueeze(1) + 1e-12).sum(dim=1)


def less_mean(cloud: Any) -> Any:
    return np.asarray(cloud) - np.asarray(mean_of(cloud))


RIGHT_RANKS = (ranks_loop, ranks_scipy, ranks_torch)
WRONG_RANKS = {
    "You count from 0": lambda t, s: [rank - 1 for rank in ranks_loop(t, s)],
    "The direction": lambda t, s: ranks_loop(s, t),
    "from the farthest to the nearest": lambda t, s: places(lambda a, b: -cos(a, b), t, s),
    "That is *which* item": lambda t, s: np.argmin(cdist(t, s, "cosine"), axis=1),
    "argsort says which item stands": lambda t, s: [
        row[i] for i, row in enumerate(cdist(t, s, "cosine").argsort(axis=1))
    ],
    "These are dot products": lambda t, s: places(np.dot, t, s),
    "Euclidean distance is another question": lambda t, s: places(lambda a, b: -math.dist(a, b), t, s),
    "You have centred both languages": lambda t, s: ranks_loop(less_mean(t), less_mean(s)),
}


# --- neighbours_kept


def nearest(cloud: Any, k: int, how: str, own: bool = False) -> list[list[int]]:
    table = cdist(cloud, cloud, how)
    return [
        [j for j in sorted(range(len(row)), key=lambda j: (j != i or not own, row[j])) if own or j != i][:k]
        for i, row in enumerate(table)
    ]


def shares(space: Any, plane: Any, k: int, spaces: str = "cosine", planes: str = "euclidean", own: bool = False) -> Any:
    pairs = zip(nearest(space, k, spaces, own), nearest(plane, k, planes, own), strict=True)
    return [len({*one}.intersection(other)) / k for one, other in pairs]


def kept_loop(space: Any, plane: Any, k: int) -> float:
    return fmean(shares(space, plane, k))


def kept_matrix(space: Any, plane: Any, k: int) -> Any:
    """By graphs of neighbours, as 0 and 1."""
    graphs = [
        NearestNeighbors(n_neighbors=k, metric=how).fit(cloud).kneighbors_graph().toarray()
        for cloud, how in ((space, "cosine"), (plane, "euclidean"))
    ]
    return (graphs[0] * graphs[1]).sum() / graphs[1].sum()


def kept_torch(space: Any, plane: Any, k: int) -> Any:
    unit = torch.nn.functional.normalize(torch.from_numpy(space))
    own = torch.eye(len(unit), dtype=torch.bool)
    one = (unit @ unit.T).masked_fill(own, -2).topk(k).indices
    flat = torch.from_numpy(plane)
    two = (-torch.cdist(flat, flat)).masked_fill(own, -torch.inf).topk(k).indices
    return (one[:, :, None] == two[:, None, :]).any(dim=1).double().mean()


def jaccard(space: Any, plane: Any, k: int) -> float:
    pairs = zip(nearest(space, k, "cosine"), nearest(plane, k, "euclidean"), strict=True)
    return fmean(len({*one} & {*other}) / len({*one} | {*other}) for one, other in pairs)


def in_place(space: Any, plane: Any, k: int) -> float:
    one, two = nearest(space, k, "cosine"), nearest(plane, k, "euclidean")
    return fmean(float(one[i][j] == two[i][j]) for i in range(len(one)) for j in range(k))


RIGHT_KEPT = (kept_loop, kept_matrix, kept_torch)
WRONG_KEPT = {
    "among its own neighbours": lambda s, p, k: fmean(shares(s, p, k, own=True)),
    "nearness is the cosine here": lambda s, p, k: fmean(shares(s, p, k, spaces="euclidean")),
    "the angle at the map's origin": lambda s, p, k: fmean(shares(s, p, k, planes="cosine")),
    "divide it by k": lambda s, p, k: fmean(k * share for share in shares(s, p, k)),
    "in either list": jaccard,
    "The order within the k nearest": in_place,
    "whose neighbours are all kept": lambda s, p, k: fmean(float(share > 0.999) for share in shares(s, p, k)),
    "the share that is lost": lambda s, p, k: fmean(1 - share for share in shares(s, p, k)),
}


# --- centroid_shift


def total_variance(cloud: Any) -> float:
    return math.fsum(pvariance(column) for column in zip(*cloud.tolist(), strict=True))


def moved(one: Any, two: Any) -> float:
    return math.dist(mean_of(one.tolist()), mean_of(two.tolist()))


def shift_loop(before: Any, after: Any) -> dict[str, float]:
    found = {}
    for code, cloud in before.items():
        spread = math.sqrt((total_variance(cloud) + total_variance(after[code])) / 2)
        found[code] = moved(cloud, after[code]) / spread
    return found


def shift_torch(before: Any, after: Any) -> dict[str, Any]:
    found = {}
    for code in after:
        pair = [torch.from_numpy(stage[code]) for stage in (before, after)]
        means = [cloud.mean(dim=0) for cloud in pair]
        far = [((cloud - mean) ** 2).sum(dim=1).mean() for cloud, mean in zip(pair, means, strict=True)]
        found[code] = torch.dist(*means) / torch.stack(far).mean().sqrt()
    return found


def per_language(number: Any) -> Any:
    return lambda before, after: {code: number(before[code], after[code]) for code in before}


def root_mean(one: Any, two: Any) -> float:
    return math.sqrt((total_variance(one) + total_variance(two)) / 2)


def gaps_after(before: Any, after: Any) -> dict[str, float]:
    source = next(iter(after))
    return {code: moved(after[source], cloud) / root_mean(after[source], cloud) for code, cloud in after.items()}


RIGHT_SHIFT = (shift_loop, shift_torch)
WRONG_SHIFT = {
    "how far an *item* moves": per_language(
        lambda b, a: fmean(math.dist(x, y) for x, y in zip(b, a, strict=True)) / root_mean(b, a)
    ),
    "has no unit yet": per_language(moved),
    "that of the first stage alone": per_language(lambda b, a: moved(b, a) / math.sqrt(total_variance(b))),
    "that of the second stage alone": per_language(lambda b, a: moved(b, a) / math.sqrt(total_variance(a))),
    "is the *sum* over the coordinates": per_language(
        lambda b, a: moved(b, a) / math.sqrt((np.var(b, axis=0).mean() + np.var(a, axis=0).mean()) / 2)
    ),
    "A root is missing": per_language(lambda b, a: moved(b, a) / root_mean(b, a) ** 2),
    "the gap between languages at the second stage": gaps_after,
}

RIGHT = {"translation_ranks": RIGHT_RANKS, "neighbours_kept": RIGHT_KEPT, "centroid_shift": RIGHT_SHIFT}
WRONG = {"translation_ranks": WRONG_RANKS, "neighbours_kept": WRONG_KEPT, "centroid_shift": WRONG_SHIFT}


@pytest.mark.parametrize(("name", "number"), [(name, i) for name, bank in RIGHT.items() for i in range(len(bank))])
def test_right_answers_pass(name: str, number: int) -> None:
    verdict = check(name, RIGHT[name][number])
    assert verdict, verdict.message


@pytest.mark.parametrize(("name", "hint"), [(name, hint) for name, bank in WRONG.items() for hint in bank])
def test_a_wrong_answer_gets_its_own_hint(name: str, hint: str) -> None:
    verdict = check(name, WRONG[name][hint])
    assert verdict.status == "wrong" and hint in verdict.message, verdict.message
    assert sum(hint in mistake.hint for mistake in exercise(name).mistakes) == 1


@pytest.mark.parametrize("name", RIGHT)
def test_every_mistake_is_in_the_bank_and_dots_are_unfinished(name: str) -> None:
    assert len(exercise(name).mistakes) == len(WRONG[name])

    def mine(*args: Any) -> Any:
        """Unfinished."""
        ...

    assert check(name, mine).status == "unfinished"


def test_the_share_of_first_ranks_is_p1() -> None:
    for case in exercise("translation_ranks").cases():
        target, source = case.args
        ranks = np.array(exercise("translation_ranks").answer(target, source))
        assert (ranks == 1).mean() == pytest.approx(retrieval(source, target)["to_source"])
