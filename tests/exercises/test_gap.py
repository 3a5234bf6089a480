"""Exercises of notebooks 00 and 01: right answers written otherwise pass, each wrong one meets its own hint.

The answers here are loops, einsum, scikit-learn and torch, and share no code with the hints that they must meet.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

from xlt_tutorial.exercises import check


def passes(name, function):
    verdict = check(name, function)
    assert verdict.status == "right", verdict.message


def rejected(name, function, words):
    verdict = check(name, function)
    assert verdict.status == "wrong"
    assert words in verdict.message, verdict.message


NAMES = ("sentence_vector", "hit_share", "label_chance", "gap_ratio", "knn_mixing", "without_specials")


@pytest.mark.parametrize("name", NAMES)
def test_an_unfinished_answer_says_so(name):
    def stub(*args):
        """Still to be written."""
        ...

    assert check(name, stub).status == "unfinished"


# --- sentence_vector


def pooled_by_loop(hidden, mask):
    rows = []
    for text, real in zip(hidden, mask, strict=True):
        rows.append(torch.stack([vector for vector, one in zip(text, real, strict=True) if one]).mean(0))
    return torch.stack(rows)


def pooled_by_einsum(hidden, mask):
    weights = mask / mask.sum(1, keepdim=True)
    return torch.einsum("bt,btw->bw", weights.to(hidden.dtype), hidden)


def pooled_by_numpy(hidden, mask):
    return np.array([np.average(h, axis=0, weights=m) for h, m in zip(hidden.numpy(), mask.numpy(), strict=True)])


def pooled_by_nested(hidden, mask):
    return [h[: int(m.sum())].mean(0) for h, m in zip(hidden, mask, strict=True)]


@pytest.mark.parametrize("function", [pooled_by_loop, pooled_by_einsum, pooled_by_numpy, pooled_by_nested])
def test_sentence_vector_right(function):
    passes("sentence_vector", function)


SENTENCE = {
    "runs over padding": lambda h, m: torch.einsum("btw->bw", h) / h.shape[1],
    "still counts when you divide": lambda h, m: torch.einsum("btw,bt->bw", h, m.float()) / h.shape[1],
    "pieces of the whole batch": lambda h, m: torch.einsum("btw,bt->bw", h, m.float()) / float(m.sum()),
    "one vector for the whole batch": lambda h, m: h[m.bool()].mean(0),
    "a long text gets a long vector": lambda h, m: torch.einsum("btw,bt->bw", h, m.float()),
    "vector of the first piece": lambda h, m: torch.stack([text[0] for text in h]),
    "largest value of each coordinate": lambda h, m: [
        t[: n.sum()].max(dim=0).values for t, n in zip(h, m, strict=True)
    ],
    "Axis 1": lambda h, m: h.numpy().mean(-1),
}


@pytest.mark.parametrize("words", SENTENCE)
def test_sentence_vector_wrong(words):
    rejected("sentence_vector", SENTENCE[words], words)


# --- hit_share


def hits_by_loop(queries, keys):
    hits = 0
    for i, query in enumerate(queries):
        cosines = [query @ key / math.sqrt((query @ query) * (key @ key)) for key in keys]
        hits += max(range(len(keys)), key=cosines.__getitem__) == i
    return hits / len(queries)


def hits_by_sklearn(queries, keys):
    found = NearestNeighbors(n_neighbors=1, metric="cosine").fit(keys).kneighbors(queries, return_distance=False)
    return np.mean(found[:, 0] == np.arange(len(queries)))


def hits_by_torch(queries, keys):
    cosine = torch.cosine_similarity(torch.tensor(queries)[:, None], torch.tensor(keys)[None], dim=-1)
    return (cosine.argmax(1) == torch.arange(len(queries))).double().mean()


@pytest.mark.parametrize("function", [hits_by_loop, hits_by_sklearn, hits_by_torch])
def test_hit_share_right(function):
    passes("hit_share", function)


def nearest_where(queries, keys, near):
    """The share of rows i whose key with the largest ``near(query, key)`` is key i."""
    best = [max(range(len(keys)), key=lambda j: near(query, keys[j])) for query in queries]
    return sum(j == i for i, j in enumerate(best)) / len(best)


def cosine(a, b):
    return float(np.dot(a, b) / math.hypot(*a) / math.hypot(*b))


HITS = {
    "number of hits": lambda q, k: round(hits_by_loop(q, k) * len(q)),
    "share of misses": lambda q, k: sum(j != i for i, j in enumerate(cosine_similarity(q, k).argmax(1))) / len(q),
    "looks the other way": lambda q, k: nearest_where(k, q, cosine),
    "A long vector wins": lambda q, k: nearest_where(q, k, np.dot),
    "not a small distance": lambda q, k: nearest_where(q, k, lambda a, b: -math.dist(a, b)),
    "smallest cosine": lambda q, k: nearest_where(q, k, lambda a, b: -cosine(a, b)),
    "mean cosine of translations": lambda q, k: np.mean([cosine(a, b) for a, b in zip(q, k, strict=True)]),
    "subtract the mean": lambda q, k: nearest_where(q - q.mean(0), k - k.mean(0), cosine),
}


@pytest.mark.parametrize("words", HITS)
def test_hit_share_wrong(words):
    rejected("hit_share", HITS[words], words)


# --- label_chance


def chance_by_pairs(labels):
    pairs = [(i, j) for i in range(len(labels)) for j in range(len(labels)) if i != j]
    return sum(labels[i] == labels[j] for i, j in pairs) / len(pairs)


def chance_by_removal(labels):
    values = np.array(labels)
    return np.mean([(np.delete(values, i) == values[i]).mean() for i in range(len(values))])


@pytest.mark.parametrize("function", [chance_by_pairs, chance_by_removal])
def test_label_chance_right(function):
    passes("label_chance", function)


def first_of_each(labels):
    return Counter(labels).most_common(1)[0][1]


CHANCES = {
    "guess itself": lambda labels: np.mean([one == other for one in labels for other in labels]),
    "One over the number of labels": lambda labels: 1 / len(Counter(labels)),
    "naming the most frequent label": lambda labels: first_of_each(labels) / len(labels),
    "the label is another one": lambda labels: 1 - chance_by_pairs(labels),
    "You add the chances": lambda labels: sum((labels.count(one) - 1) / (len(labels) - 1) for one in labels),
    "one fewer": lambda labels: sum((labels.count(one) - 1) / len(labels) for one in labels) / len(labels),
}


@pytest.mark.parametrize("words", CHANCES)
def test_label_chance_wrong(words):
    rejected("label_chance", CHANCES[words], words)


# --- gap_ratio


def spread(cloud):
    """Mean squared distance to the centre, item by item."""
    centre = [math.fsum(column) / len(cloud) for column in cloud.T]
    return math.fsum(math.dist(row, centre) ** 2 for row in cloud) / len(cloud)


def apart(one, two):
    return math.dist(one.sum(0) / len(one), two.sum(0) / len(two))


def gap_by_loop(one, two):
    return apart(one, two) / math.sqrt((spread(one) + spread(two)) / 2)


def gap_by_torch(one, two):
    a, b = torch.tensor(one), torch.tensor(two)
    variance = (torch.cov(a.T, correction=0).trace() + torch.cov(b.T, correction=0).trace()) / 2
    return torch.dist(a.mean(0), b.mean(0)) / variance.sqrt()


@pytest.mark.parametrize("function", [gap_by_loop, gap_by_torch])
def test_gap_ratio_right(function):
    passes("gap_ratio", function)


GAPS = {
    "mean over the coordinates": lambda a, b: (
        apart(a, b) / math.sqrt((a.var(axis=0).mean() + b.var(axis=0).mean()) / 2)
    ),
    "A root is missing": lambda a, b: apart(a, b) / ((spread(a) + spread(b)) / 2),
    "the square of the gap ratio": lambda a, b: gap_by_loop(a, b) ** 2,
    "the root of it then": lambda a, b: apart(a, b) / (math.sqrt(spread(a)) / 2 + math.sqrt(spread(b)) / 2),
    "a half is missing": lambda a, b: apart(a, b) / math.sqrt(spread(a) + spread(b)),
    "Only one cloud's variance": lambda a, b: apart(a, b) / math.sqrt(spread(a)),
    "n - 1": lambda a, b: apart(a, b) / math.sqrt((np.trace(np.cov(a.T)) + np.trace(np.cov(b.T))) / 2),
    "thrown together": lambda a, b: apart(a, b) / math.sqrt(spread(np.vstack([a, b]))),
    "mean distance of translations": lambda a, b: (
        np.mean([math.dist(x, y) for x, y in zip(a, b, strict=True)]) / math.sqrt((spread(a) + spread(b)) / 2)
    ),
    "In what unit": apart,
}


@pytest.mark.parametrize("words", GAPS)
def test_gap_ratio_wrong(words):
    rejected("gap_ratio", GAPS[words], words)


# --- knn_mixing


def mixing_by(near, first=1, last=0, foreign=True):
    """The measure from sorted neighbours, counted in loops: ranks ``first`` to ``first + k - 1``, not normalised."""

    def function(clouds, k):
        points = [(language, row) for language, cloud in clouds.items() for row in cloud]
        shares = {language: [] for language in clouds}
        for number, (language, row) in enumerate(points):
            others = [j for j in range(len(points)) if j != number]
            ranked = sorted(others, key=lambda j: -near(row, points[j][1]))
            ranked = ([number, *ranked] if first == 0 else ranked)[:k] if not last else ranked[-k:]
            shares[language].append(sum((points[j][0] != language) == foreign for j in ranked) / k)
        return {language: math.fsum(each) / len(each) for language, each in shares.items()}

    return function


def scaled(function, by):
    """Divide by what ``by(languages, items, k)`` expects."""

    def inner(clouds, k):
        n = len(next(iter(clouds.values())))
        return {language: share / by(len(clouds), n, k) for language, share in function(clouds, k).items()}

    return inner


def full(languages, n, k):
    return (languages * n - n) / (languages * n - 1)


def mixing_by_sklearn(clouds, k):
    points, owner = np.concatenate(list(clouds.values())), np.repeat(list(clouds), [len(c) for c in clouds.values()])
    found = NearestNeighbors(n_neighbors=k, metric="cosine").fit(points).kneighbors(return_distance=False)
    foreign = (owner[found] != owner[:, None]).mean(1)
    expected = np.mean([np.mean(np.delete(owner, i) != owner[i]) for i in range(len(owner))])
    return {language: foreign[owner == language].mean() / expected for language in clouds}


@pytest.mark.parametrize("function", [scaled(mixing_by(cosine), full), mixing_by_sklearn])
def test_knn_mixing_right(function):
    passes("knn_mixing", function)


MIXINGS = {
    "its own nearest neighbour": scaled(mixing_by(cosine, first=0), full),
    "share that full mixing would give": mixing_by(cosine),
    "(L - 1) / L": scaled(mixing_by(cosine), lambda languages, n, k: 1 - 1 / languages),
    "You count foreign neighbours": scaled(mixing_by(cosine), lambda languages, n, k: full(languages, n, k) / k),
    "of the same language": scaled(mixing_by(cosine, foreign=False), full),
    "nearest by distance": scaled(mixing_by(lambda a, b: -math.dist(a, b)), full),
    "favour the long ones": scaled(mixing_by(np.dot), full),
    "farthest points": scaled(mixing_by(cosine, last=1), full),
}


@pytest.mark.parametrize("words", MIXINGS)
def test_knn_mixing_wrong(words):
    if words == "You count foreign neighbours":
        counted = MIXINGS[words]({"a": np.eye(3), "b": np.eye(3)[::-1]}, 2)
        assert max(counted.values()) > 1.5, "a count, not a share"
    rejected("knn_mixing", MIXINGS[words], words)


# --- without_specials


def specials_by_loop(mask):
    rows = []
    for row in mask.tolist():
        real = [place for place, one in enumerate(row) if one]
        rows.append([int(one and place not in (real[0], real[-1])) for place, one in enumerate(row)])
    return torch.tensor(rows)


def specials_by_shift(mask):
    padded = torch.nn.functional.pad(mask, (1, 1))
    return padded[:, :-2] * padded[:, 2:] * mask


def specials_by_scatter(mask):
    return mask.clone().scatter(1, mask.sum(1, keepdim=True) - 1, 0).index_fill(1, torch.tensor([0]), 0)


@pytest.mark.parametrize("function", [specials_by_loop, specials_by_shift, specials_by_scatter])
def test_without_specials_right(function):
    passes("without_specials", function)


def kept(first, back):
    """Masks that keep the real places from ``first`` to the number of real pieces minus ``back``."""
    return lambda mask: torch.tensor(
        [[int(first <= place < sum(row) - back) for place in range(len(row))] for row in mask.tolist()]
    )


SPECIALS = {
    "last column is mostly padding": lambda mask: torch.nn.functional.pad(mask[:, 1:-1], (1, 1)),
    "last of n real pieces is at n - 1": kept(1, 2),
    "The first piece is out": kept(1, 0),
    "The last piece is out": kept(0, 1),
    "two pieces off the end": kept(0, 2),
    "must keep its shape": lambda mask: mask.narrow(1, 1, mask.shape[1] - 2),
}


@pytest.mark.parametrize("words", SPECIALS)
def test_without_specials_wrong(words):
    rejected("without_specials", SPECIALS[words], words)


def test_without_specials_in_place():
    def spoils(mask):
        mask[:, 0] = 0
        return mask

    rejected("without_specials", spoils, "in place")
