"""The exercises of notebook 03: right answers written in other ways pass, each wrong one gets its own hint.

The answers here are written with plain loops and NumPy and share no code with the hints that they must meet.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from xlt_tutorial.exercises import check, exercise

NAMES = ("neighbours", "swap_tokens", "share_replaced", "noise_on_sphere")


def folded(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", word.lower()) if not unicodedata.combining(c))


# --- neighbours


def cosine_loop(matrix: Any, words: list[str], word: str) -> list[tuple[float, str]]:
    """(cosine, word) of every word but the asked one's variants, largest first."""
    rows = matrix.tolist()
    query, scored = rows[words.index(word)], []
    for row, other in zip(rows, words, strict=True):
        if folded(other) != folded(word):
            dot = sum(a * b for a, b in zip(row, query, strict=True))
            scored.append((dot / (math.hypot(*row) * math.hypot(*query)), other))
    return sorted(scored, reverse=True)


def neighbours_loop(matrix: Any, words: list[str], word: str, count: int) -> list[str]:
    return [other for _, other in cosine_loop(matrix, words, word)[:count]]


def neighbours_einsum(matrix: Any, words: list[str], word: str, count: int) -> list[str]:
    unit = matrix / matrix.norm(dim=1, keepdim=True)
    cosine = torch.einsum("vh,h->v", unit, unit[words.index(word)])
    cosine[[folded(other) == folded(word) for other in words]] = -2
    return [words[i] for i in cosine.topk(count).indices]


def neighbours_numpy(matrix: Any, words: list[str], word: str, count: int) -> Any:
    table = matrix.numpy() / np.sqrt((matrix.numpy() ** 2).sum(1, keepdims=True))
    keep = np.array([folded(other) != folded(word) for other in words])
    order = np.argsort(-(table @ table[words.index(word)]))
    return np.array(words)[order][keep[order]][:count]


def numpy_neighbours(
    score: Callable[..., np.ndarray], out: Callable[[str, str], bool], filter_first: bool = True
) -> Any:
    """A search with another score or another rule of what is left out."""

    def function(matrix: Any, words: list[str], word: str, count: int) -> list[str]:
        table = matrix.numpy().astype(float)
        order = list(np.argsort(-score(table, table[words.index(word)])))
        if filter_first:
            return [words[i] for i in order if not out(words[i], word)][:count]
        return [words[i] for i in order[:count] if not out(words[i], word)]

    return function


def np_cosine(table: np.ndarray, query: np.ndarray) -> np.ndarray:
    return table @ query / np.sqrt((table**2).sum(1))


def variant(other: str, word: str) -> bool:
    return folded(other) == folded(word)


def numbers(matrix: Any, words: list[str], word: str, count: int) -> list[int]:
    return [words.index(other) for other in neighbours_loop(matrix, words, word, count)]


WRONG_NEIGHBOURS = {
    "The nearest of all is the word itself": numpy_neighbours(np_cosine, lambda other, word: False),
    "its other spellings are still there": numpy_neighbours(np_cosine, lambda other, word: other == word),
    "accents are not": numpy_neighbours(np_cosine, lambda other, word: other.lower() == word.lower()),
    "comes out too short": numpy_neighbours(np_cosine, variant, filter_first=False),
    "only begin alike": numpy_neighbours(np_cosine, lambda other, word: folded(other)[:4] == folded(word)[:4]),
    "dot product": numpy_neighbours(lambda table, query: (table * query).sum(1), variant),
    "Euclidean": numpy_neighbours(lambda table, query: -((table - query) ** 2).sum(1), variant),
    "farthest": numpy_neighbours(lambda table, query: -np_cosine(table, query), variant),
    "return their numbers": numbers,
}


# --- swap_tokens


def swap_loop(tokens: list[str], places: list[int], table: Any, rate: float, seed: int) -> list[str]:
    rng, new = np.random.default_rng(seed), []
    coins = [rng.random() for _ in places]  # one at a time: the same numbers as all at once
    for i, token in enumerate(tokens):
        if i in places and token in table and coins[places.index(i)] < rate:
            token = table[token][rng.integers(0, len(table[token]))]
        new.append(token)
    return new


def swap_choice(tokens: list[str], places: list[int], table: Any, rate: float, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    hit = [place for place, heads in zip(places, rng.random(len(places)) < rate, strict=True) if heads]
    return [str(rng.choice(table[t])) if i in hit and t in table else t for i, t in enumerate(tokens)]


def one_by_one(tokens: list[str], places: list[int], table: Any, rate: float, seed: int) -> list[str]:
    rng, new = np.random.default_rng(seed), tokens.copy()
    for i in places:
        coin = rng.random()
        if tokens[i] in table and coin < rate:
            new[i] = rng.choice(table[tokens[i]])
    return new


def known_only(tokens: list[str], places: list[int], table: Any, rate: float, seed: int) -> list[str]:
    return swap_loop(tokens, [i for i in places if tokens[i] in table], table, rate, seed)


def coin_per_token(tokens: list[str], places: list[int], table: Any, rate: float, seed: int) -> list[str]:
    rng, new = np.random.default_rng(seed), tokens.copy()
    coins = rng.random(len(tokens))
    for i in places:
        if tokens[i] in table and coins[i] < rate:
            new[i] = table[tokens[i]][rng.integers(len(table[tokens[i]]))]
    return new


def anywhere(tokens: list[str], places: list[int], table: Any, rate: float, seed: int) -> list[str]:
    return swap_loop(tokens, [i for i, token in enumerate(tokens) if token in table], table, rate, seed)


def swap_if(test: Callable[[float, float], bool], nearest: bool = False, grow: bool = False) -> Any:
    def function(tokens: list[str], places: list[int], table: Any, rate: float, seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        coins = dict(zip(places, rng.random(len(places)), strict=True))
        new = []
        for i, token in enumerate(tokens):
            swap = i in coins and token in table and test(coins[i], rate)
            new += [token] if grow or not swap else []
            new += [table[token][0 if nearest else rng.integers(len(table[token]))]] if swap else []
        return new

    return function


WRONG_SWAPS = {
    "whenever a word comes up": one_by_one,
    "only for words that have candidates": known_only,
    "a coin for every token": coin_per_token,
    "every token that the table knows": anywhere,
    "other way round": swap_if(lambda coin, rate: coin > rate),
    "The rate has no effect": swap_if(lambda coin, rate: True),
    "always take the nearest": swap_if(lambda coin, rate: coin < rate, nearest=True),
    "so the row grows": swap_if(lambda coin, rate: coin < rate, grow=True),
}


# --- share_replaced


def share_loop(words: list[int], swapped: list[int]) -> float:
    eligible = hits = 0
    for n, s in zip(words, swapped, strict=True):
        eligible, hits = eligible + n, hits + s
    return hits / eligible if eligible else 0.0


def share_numpy(words: list[int], swapped: list[int]) -> Any:
    """Rows weighted by their words."""
    return np.average([s / max(1, n) for n, s in zip(words, swapped, strict=True)], weights=words) if any(words) else 0


def row_means(empty: float | None) -> Any:
    def function(words: list[int], swapped: list[int]) -> float:
        total = rows = 0.0
        for n, s in zip(words, swapped, strict=True):
            if n or empty is not None:
                total, rows = total + (s / n if n else empty or 0.0), rows + 1
        return total / rows if rows else 0.0

    return function


WRONG_SHARES = {
    "share of rows with a swap": lambda words, swapped: float(np.mean(np.array(swapped) > 0)),
    "swaps per row": lambda words, swapped: float(np.mean(swapped)),
    "rows without a word count as 0": row_means(0.0),
    "a word in a short row counts more": row_means(None),
    "say 0, not nan": lambda words, swapped: torch.tensor(float(sum(swapped))) / sum(words),
}


# --- noise_on_sphere


def noise_loop(gaussian: Any, radius: float, mean_norm: float, special: Any) -> list[list[float]]:
    rows = []
    for row, leave in zip(gaussian.tolist(), special, strict=True):
        length = math.hypot(*row)
        rows.append([0.0 if leave else value / length * radius * mean_norm for value in row])
    return rows


def noise_torch(gaussian: Any, radius: float, mean_norm: float, special: Any) -> Any:
    unit = torch.nn.functional.normalize(torch.tensor(gaussian), dim=-1)
    return torch.where(torch.tensor(special)[:, None], 0.0, radius * mean_norm * unit)


def noise_by(length: Callable[..., Any], keep: Callable[..., Any] = lambda s: ~s, unit: Any = None) -> Any:
    def function(gaussian: Any, radius: float, mean_norm: float, special: Any) -> Any:
        norm = mean_norm if unit is None else unit
        return np.einsum("th,t->th", gaussian, keep(special) * radius * norm / length(gaussian))

    return function


def lengths(gaussian: Any) -> Any:
    return np.sqrt(np.einsum("th,th->t", gaussian, gaussian))


WRONG_NOISE = {
    "still differ from token to token": noise_by(lambda g: np.ones(len(g))),
    "right length on average": noise_by(lambda g: np.full(len(g), math.sqrt(g.shape[-1]))),
    "length of the whole array": noise_by(lambda g: np.full(len(g), math.sqrt(float((g**2).sum())))),
    "Special tokens move too": noise_by(lengths, keep=lambda s: np.ones(len(s))),
    "turn the mask round": noise_by(lengths, keep=lambda s: s * 1.0),
    "multiply by `mean_norm`": noise_by(lengths, unit=1.0),
}


BANK: dict[str, dict[str, Any]] = dict(
    zip(NAMES, (WRONG_NEIGHBOURS, WRONG_SWAPS, WRONG_SHARES, WRONG_NOISE), strict=True)
)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("neighbours", neighbours_loop),
        ("neighbours", neighbours_einsum),
        ("neighbours", neighbours_numpy),
        ("swap_tokens", swap_loop),
        ("swap_tokens", swap_choice),
        ("share_replaced", share_loop),
        ("share_replaced", share_numpy),
        ("noise_on_sphere", noise_loop),
        ("noise_on_sphere", noise_torch),
    ],
)
def test_right_answers_written_differently_pass(name: str, right: Any) -> None:
    verdict = check(name, right)
    assert verdict, verdict.message
    assert verdict.message == exercise(name).praise


@pytest.mark.parametrize(("name", "hint"), [(name, hint) for name, wrong in BANK.items() for hint in wrong])
def test_each_wrong_answer_gets_its_own_hint(name: str, hint: str) -> None:
    verdict = check(name, BANK[name][hint])
    assert verdict.status == "wrong"
    assert hint in verdict.message


@pytest.mark.parametrize("name", NAMES)
def test_every_hint_is_met_once(name: str) -> None:
    hints = [mistake.hint for mistake in exercise(name).mistakes]
    assert [sum(part in hint for part in BANK[name]) for hint in hints] == [1] * len(hints)
    assert len(set(hints)) == len(hints) == len(BANK[name])


@pytest.mark.parametrize("name", NAMES)
def test_an_unfinished_answer_says_so(name: str) -> None:
    def dots(*_: Any) -> Any:
        """Return something."""
        ...

    def nothing(*_: Any) -> Any:
        np.random.default_rng(0)

    assert check(name, dots).status == check(name, nothing).status == "unfinished"


@pytest.mark.parametrize("name", NAMES)
def test_the_hints_do_not_give_the_code_away(name: str) -> None:
    for mistake in exercise(name).mistakes:
        assert not re.search(r"np\.|torch\.|lambda|for \w+ in", mistake.hint)


def test_a_swap_in_place_is_told() -> None:
    def spoils(tokens: list[str], places: list[int], table: Any, rate: float, seed: int) -> list[str]:
        tokens[:] = swap_loop(tokens, places, table, rate, seed)
        return tokens

    assert "in place" in check("swap_tokens", spoils).message


def test_more_swaps_with_a_higher_rate_keep_the_coins() -> None:
    """What the hint on coins claims: raising the rate only adds swapped places."""
    tokens, table = [f"▁{word}" for word in "aaa bbb ccc ddd eee fff".split()], {}
    table = {token: [f"{token}{i}" for i in range(5)] for token in tokens}
    swapped = []
    for rate in (0.2, 0.5, 0.9):
        new = exercise("swap_tokens").answer(tokens, list(range(6)), table, rate, 3)
        swapped.append({i for i in range(6) if new[i] != tokens[i]})
    assert swapped[0] <= swapped[1] <= swapped[2] and len(swapped[0]) < len(swapped[2])
