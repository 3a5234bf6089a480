"""Exercises of notebook 03: neighbours in the embedding matrix, the swap, how much it replaces, and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlt_tutorial.batching import Row
from xlt_tutorial.exercises import Case, Exercise, Mistake
from xlt_tutorial.perturb import EmbeddingNoise, NeighbourSwap, Virtual, _nearest, _plain, _whole_words, swap_report

Table = Mapping[str, list[str]]


# --- neighbours: the nearest words by cosine, without the word's own variants


def _neighbours(matrix: Tensor, words: Sequence[str], word: str, count: int) -> list[str]:
    (found,) = _nearest(matrix, [words.index(word)], dict(enumerate(words)), count)
    return [words[i] for i in found]


def _neighbour_cases() -> Sequence[Case]:
    draw = torch.Generator().manual_seed(3)
    others = "faces facing rostro visage wajah лицо nose eyes smile head mask surface hand Gesicht mouth kasvot".split()

    def vocabulary(variants: Sequence[str]) -> tuple[Tensor, list[str]]:
        words = [*others, *variants]
        order = torch.randperm(len(words), generator=draw).tolist()
        rows = torch.randn(len(words), 8, generator=draw)
        rows[len(others) :] = rows[-1] + 0.2 * torch.randn(len(variants), 8, generator=draw)  # spelled alike, near
        rows *= 0.3 + 3 * torch.rand(len(words), 1, generator=draw)
        return rows[order], [words[i] for i in order]

    return [
        Case("the four neighbours of a word with variants", (*vocabulary(["FACE", "Face", "fáce", "face"]), "face", 4)),
        Case("a word that itself has accents", (*vocabulary(["resume", "Resume", "résumé"]), "résumé", 6)),
        Case("an inflected word", (*vocabulary(["Face", "fàce", "face"]), "faces", 5)),
    ]


def _ranked(scores: Tensor, words: Sequence[str], count: int, out: Sequence[bool]) -> list[str]:
    """The ``count`` words of the largest scores, but for those left out."""
    order = scores.argsort(descending=True).tolist()
    return [words[i] for i in order if not out[i]][:count]


def _cosines(matrix: Tensor, words: Sequence[str], word: str) -> Tensor:
    return torch.cosine_similarity(matrix, matrix[words.index(word)][None], dim=1)


def _variants(words: Sequence[str], word: str) -> list[bool]:
    return [_plain(other) == _plain(word) for other in words]


def _cut_then_filtered(matrix: Tensor, words: Sequence[str], word: str, count: int) -> list[str]:
    own = dict(zip(words, _variants(words, word), strict=True))
    every = _ranked(_cosines(matrix, words, word), words, count, [False] * len(words))
    return [other for other in every if not own[other]]


# --- swap_tokens: the virtual copy of one row


class _Words:
    """What ``NeighbourSwap.virtual`` asks of a tokenizer, for tokens that are given as strings."""

    def __init__(self, tokens: Sequence[str], table: Table) -> None:
        candidates = {piece for near in table.values() for piece in near}
        self.pieces = ["<unk>", "<s>", "</s>", *sorted({*tokens, *candidates} - {"<unk>", "<s>", "</s>"})]
        self.unk_token_id, self.all_special_ids = 0, [0, 1, 2]

    def convert_tokens_to_ids(self, piece: str) -> int:
        return self.pieces.index(piece)

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [self.pieces[i] for i in ids]


def _swap(tokens: Sequence[str], places: Sequence[int], table: Table, rate: float, seed: int) -> list[str]:
    known: Any = _Words(tokens, table)
    row = Row("", (), tuple(known.convert_tokens_to_ids(token) for token in tokens), 0)
    copy = NeighbourSwap(dict(table), rate).virtual(row, known, np.random.default_rng(seed))
    return list(known.convert_ids_to_tokens(copy.input_ids))


def _swap_cases() -> Sequence[Case]:
    rng = np.random.default_rng(11)
    # "open" has no candidates, and the second "face" is a part of a longer word.
    text = "<s> ▁smil ing ▁face ▁with ▁open ▁hands ▁on ▁face book ▁over ▁water ▁with ▁heart </s>"
    table = {
        f"▁{word}": [f"▁{word}{i}" for i in range(int(rng.integers(2, 9)))]
        for word in ("with", "face", "hands", "over", "water", "heart")
    }

    def case(what: str, text: str, rate: float) -> Case:
        tokens = text.split()
        places = _whole_words(tokens, [token in ("<s>", "</s>") for token in tokens])
        return Case(what, (tokens, places, table, rate, int(rng.integers(1000))))

    return [
        case("a long row at rate 0.5", text, 0.5),
        case("the same row with another seed", text, 0.4),
        case("a row in which every word is swapped", "<s> ▁face ▁with ▁heart </s>", 1.0),
        case("a row without an eligible word", "<s> ▁smil ing ▁on ▁12 </s>", 0.5),
    ]


def _swapped(
    tokens: Sequence[str], places: Sequence[int], coins: Sequence[float], table: Table, rate: float, rng: Any
) -> list[str]:
    new = list(tokens)
    for place, coin in zip(places, coins, strict=True):
        near = table.get(tokens[place])
        if near and coin < rate:
            new[place] = near[int(rng.integers(len(near)))]
    return new


def _interleaved(tokens: Sequence[str], places: Sequence[int], table: Table, rate: float, seed: int) -> list[str]:
    rng, new = np.random.default_rng(seed), list(tokens)
    for place in places:
        near = table.get(tokens[place])
        if rng.random() < rate and near:
            new[place] = near[int(rng.integers(len(near)))]
    return new


def _coins_for(tossed: Callable[..., Iterable[int]], kept: bool = True) -> Callable[..., list[str]]:
    """Return the swap that tosses coins for ``tossed(tokens, places, table)``; with ``kept``, places alone change."""

    def function(tokens: Sequence[str], places: Sequence[int], table: Table, rate: float, seed: int) -> list[str]:
        rng, chosen = np.random.default_rng(seed), list(tossed(tokens, places, table))
        coins = dict(zip(chosen, rng.random(len(chosen)).tolist(), strict=True))
        chosen = [i for i in chosen if i in places or not kept]
        return _swapped(tokens, chosen, [coins[i] for i in chosen], table, rate, rng)

    return function


def _turned(tokens: Sequence[str], places: Sequence[int], table: Table, rate: float, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return _swapped(tokens, places, [-coin for coin in rng.random(len(places))], table, -rate, rng)


def _always(tokens: Sequence[str], places: Sequence[int], table: Table, rate: float, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return _swapped(tokens, places, rng.random(len(places)).tolist(), table, 2.0, rng)


def _first(tokens: Sequence[str], places: Sequence[int], table: Table, rate: float, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    coins = rng.random(len(places)).tolist()
    return _swapped(tokens, places, coins, {piece: near[:1] for piece, near in table.items()}, rate, rng)


def _inserted(tokens: Sequence[str], places: Sequence[int], table: Table, rate: float, seed: int) -> list[str]:
    new = _swap(tokens, places, table, rate, seed)
    both = zip(tokens, new, strict=True)
    return [piece for old, other in both for piece in ([old] if old == other else [old, other])]


# --- share_replaced: swapped over eligible words


def _share(words: Sequence[int], swapped: Sequence[int]) -> float:
    """Let ``swap_report`` count; the stand-in maker makes as many words and swaps as it is told."""
    rows = [Row(str(i), ("",), (0,), 0) for i in range(len(words))]

    def virtual(row: Row, tokenizer: Any, rng: Any) -> Virtual:
        return Virtual(row.input_ids, None, words[int(row.id)], (("old", "new"),) * swapped[int(row.id)])

    maker: Any = SimpleNamespace(name="told", virtual=virtual)
    decoder: Any = SimpleNamespace(decode=lambda ids, skip_special_tokens: "")
    return float(swap_report(maker, rows, decoder)["rate"])


def _share_cases() -> Sequence[Case]:
    rng = np.random.default_rng(5)

    def counts(rows: int, most: int) -> tuple[list[int], list[int]]:
        words = rng.integers(1, most + 1, rows)
        return words.tolist(), rng.integers(0, words + 1).tolist()

    words, swapped = counts(9, 6)
    return [
        Case("rows of one to six words", counts(12, 6)),
        Case("rows of which some have no eligible word", ([0, *words, 0], [0, *swapped, 0])),
        Case("a single row", ([4], [1])),
        Case("rows without any eligible word", ([0, 0], [0, 0])),
    ]


def _rowwise(words: Sequence[int], swapped: Sequence[int], empty: bool) -> float:
    shares = [s / n if n else 0.0 for n, s in zip(words, swapped, strict=True) if n or empty]
    return float(np.mean(shares)) if shares else 0.0


# --- noise_on_sphere: EmbeddingNoise from Gaussian draws


def _noise(gaussian: np.ndarray, radius: float, mean_norm: float, special: np.ndarray) -> np.ndarray:
    tokens, hidden = gaussian.shape
    row = Row("", (), tuple(range(tokens)), 0)
    tokenizer: Any = SimpleNamespace(all_special_ids=np.flatnonzero(special).tolist())
    drawn: Any = SimpleNamespace(standard_normal=lambda shape, dtype: gaussian.astype(dtype))
    noise = EmbeddingNoise(radius, mean_norm, hidden).virtual(row, tokenizer, drawn).noise
    assert noise is not None
    return noise


def _noise_cases() -> Sequence[Case]:
    rng = np.random.default_rng(8)

    def case(what: str, tokens: int, hidden: int, radius: float, mean_norm: float, special: list[int]) -> Case:
        gaussian = rng.standard_normal((tokens, hidden), dtype=np.float32)
        return Case(what, (gaussian, radius, mean_norm, np.isin(np.arange(tokens), special)))

    return [
        case("five tokens, the first and last special", 5, 6, 0.1, 3.5, [0, 4]),
        case("a row without special tokens", 3, 16, 0.7, 0.4, []),
        case("specials in the middle too", 7, 4, 1.5, 2.0, [0, 3, 6]),
    ]


def _made(scale: Any, zero: Any = lambda special: special) -> Any:
    """Noise with ``scale(gaussian)`` in place of the length of a row, and zeros at ``zero(special)``."""

    def function(gaussian: np.ndarray, radius: float, mean_norm: float, special: np.ndarray) -> np.ndarray:
        noise = radius * mean_norm * gaussian / scale(gaussian)
        noise[zero(special)] = 0
        return noise

    return function


def _length(gaussian: np.ndarray) -> np.ndarray:
    return np.linalg.norm(gaussian, axis=1, keepdims=True)


EXERCISES = {
    "neighbours": Exercise(
        answer=_neighbours,
        cases=_neighbour_cases,
        mistakes=(
            Mistake(
                lambda m, words, w, count: _ranked(_cosines(m, words, w), words, count, [False] * len(words)),
                "The nearest of all is the word itself, and its other spellings follow. Leave out all whose plain form "
                "is that of the word.",
            ),
            Mistake(
                lambda m, words, w, count: _ranked(_cosines(m, words, w), words, count, [o == w for o in words]),
                "The word itself is gone, its other spellings are still there: swapping face for Face changes nothing "
                "that a reader would notice.",
            ),
            Mistake(
                lambda m, words, w, count: _ranked(
                    _cosines(m, words, w), words, count, [o.casefold() == w.casefold() for o in words]
                ),
                "Capitals are folded, accents are not: compare the plain forms, which are without both.",
            ),
            Mistake(
                _cut_then_filtered,
                "You take the nearest first and drop variants after that, so the list comes out too short. Drop, then "
                "cut.",
            ),
            Mistake(
                lambda m, words, w, count: _ranked(
                    _cosines(m, words, w), words, count, [_plain(o).startswith(_plain(w)[:4]) for o in words]
                ),
                "You leave out words that only begin alike. An inflected form (faces) is another word and may stay.",
            ),
            Mistake(
                lambda m, words, w, count: _ranked(m @ m[words.index(w)], words, count, _variants(words, w)),
                "That ranks by the dot product, in which long vectors win whatever their direction. Divide by the "
                "lengths.",
            ),
            Mistake(
                lambda m, words, w, count: _ranked(
                    -torch.cdist(m[[words.index(w)]], m)[0], words, count, _variants(words, w)
                ),
                "That ranks by the Euclidean distance, in which the lengths of the vectors count. The cosine compares "
                "directions alone.",
            ),
            Mistake(
                lambda m, words, w, count: _ranked(-_cosines(m, words, w), words, count, _variants(words, w)),
                "These are the words farthest away: sort by falling cosine.",
            ),
            Mistake(
                lambda m, words, w, count: [words.index(o) for o in _neighbours(m, words, w, count)],
                "Right rows, but you return their numbers. Return the words.",
            ),
        ),
        praise="That is the search of `NeighbourSwap.fit`, which does it for all words at once, in chunks.",
    ),
    "swap_tokens": Exercise(
        answer=_swap,
        cases=_swap_cases,
        mistakes=(
            Mistake(
                _interleaved,
                "You toss a coin whenever a word comes up, with draws of candidates in between. Toss the coins of all "
                "places first: then a word's coin depends neither on the table nor on the rate.",
            ),
            Mistake(
                _coins_for(lambda tokens, places, table: [i for i in places if tokens[i] in table]),
                "You toss coins only for words that have candidates. Every place has its coin, so that another table "
                "leaves the coins of the other words as they are.",
            ),
            Mistake(
                _coins_for(lambda tokens, places, table: range(len(tokens))),
                "You toss a coin for every token. One for each of the places is asked for, in their order.",
            ),
            Mistake(
                _coins_for(lambda tokens, places, table: [i for i in range(len(tokens)) if tokens[i] in table], False),
                "You swap every token that the table knows, also where it is a part of a longer word (face in "
                "facebook). Only the places may change.",
            ),
            Mistake(_turned, "Compare the other way round: a word is swapped where its coin is *below* the rate."),
            Mistake(_always, "The rate has no effect: every word with candidates is swapped."),
            Mistake(
                _first,
                "You always take the nearest candidate. One of all the candidates is drawn, each with the same chance.",
            ),
            Mistake(
                _inserted,
                "The new piece stands beside the old one, so the row grows. It takes its place: positions stay.",
            ),
        ),
        praise="That is `NeighbourSwap.virtual`: the same draws, the same row, on every machine.",
    ),
    "share_replaced": Exercise(
        answer=_share,
        cases=_share_cases,
        mistakes=(
            Mistake(
                lambda words, swapped: sum(s > 0 for s in swapped) / len(words),
                "That is the share of rows with a swap. Count words: all swaps over all eligible words.",
            ),
            Mistake(
                lambda words, swapped: sum(swapped) / len(words),
                "That is swaps per row, which may be above 1. Divide by the number of eligible words.",
            ),
            Mistake(
                lambda words, swapped: _rowwise(words, swapped, empty=True),
                "You average the shares of the rows, and rows without a word count as 0. So a row of one word weighs "
                "as much as a row of six. Add up first, divide once.",
            ),
            Mistake(
                lambda words, swapped: _rowwise(words, swapped, empty=False),
                "You average the shares of the rows: a word in a short row counts more than one in a long row. Add up "
                "first, divide once.",
            ),
            Mistake(
                lambda words, swapped: sum(swapped) / sum(words) if sum(words) else float("nan"),
                "Right, but for rows without any eligible word: nothing was replaced there, so say 0, not nan.",
            ),
        ),
        praise="That is `rate` in `swap_report`; it should be close to the rate that was asked for.",
    ),
    "noise_on_sphere": Exercise(
        answer=_noise,
        cases=_noise_cases,
        mistakes=(
            Mistake(
                _made(lambda g: 1.0),
                "The draws are scaled, but their lengths still differ from token to token. Divide each row by its own "
                "length first.",
            ),
            Mistake(
                _made(lambda g: np.sqrt(g.shape[1])),
                "Dividing by the root of the width gives the right length on average. Here every token moves by "
                "exactly the same distance: divide each row by its own length.",
            ),
            Mistake(
                _made(lambda g: np.linalg.norm(g)),
                "You divide by the length of the whole array. Each token has a length of its own: axis=1, "
                "keepdims=True.",
            ),
            Mistake(
                _made(_length, lambda special: np.zeros_like(special)),
                "Special tokens move too. Their rows stay 0.",
            ),
            Mistake(
                _made(_length, lambda special: ~special),
                "You keep the noise at special tokens and set the words to 0: turn the mask round.",
            ),
            Mistake(
                lambda g, radius, mean_norm, special: _noise(g, radius, 1.0, special),
                "The radius is told in units of the mean length of the word embeddings: multiply by `mean_norm`.",
            ),
        ),
        praise="That is `EmbeddingNoise.virtual`: a point on a sphere round each word's embedding.",
    ),
}
