"""Makers of the virtual stream: a row goes in, its virtual copy comes out.

What a maker draws depends on the generator it is handed alone: see ``batching.row_generator``.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from xlt_tutorial.batching import Maker, Row, max_tokens, row_generator
from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.files import read_json, read_text
from xlt_tutorial.wordlists import word_kinds

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from xlt_tutorial.encoders import Encoder

SPACE, CONTINUES = "▁", "##"  # U+2581 opens a word in SentencePiece vocabularies, ## continues one in WordPiece
JOINERS = set("'’-‐‑_")  # what follows one of these still belongs to the word: don't, well-known
CLOSING = set('.,;:!?)]}»”"…')  # "face," is the whole word "face"
WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:['’][^\W\d_]+)*(?!\w)")


@dataclass(frozen=True)
class Virtual:
    """A virtual copy: ids and types as in ``Row``, the eligible ``words`` seen, each ``(old, new)`` word of ``swaps``.

    ``noise`` ``(len, hidden)`` float32 is to be added to the word embeddings; ``None`` for makers that swap.
    """

    input_ids: tuple[int, ...]
    token_type_ids: tuple[int, ...] | None
    words: int
    swaps: tuple[tuple[str, str], ...]
    noise: np.ndarray | None = field(default=None, compare=False)


class _Recorded:
    """What results record of a maker."""

    def settings(self) -> dict[str, Any]:
        """Return the maker's settings as plain values; a table is recorded by its size and sha256."""
        plain = {"name": self.name} | {key: getattr(self, key) for key in self.__match_args__}  # type: ignore[attr-defined]
        table = plain.pop("table", None)
        if table is not None:
            digest = hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
            plain |= {"table_words": len(table), "table_sha256": digest}
        return plain


@dataclass(eq=False)
class NeighbourSwap(_Recorded):
    """Swaps whole words for their nearest neighbours in the encoder's input embeddings.

    A multilingual encoder keeps translations near each other, so English text and the encoder alone make a multilingual
    stream. Eligible is a word that is one piece of three letters or more; specials, numbers and words cut into several
    pieces stay, and so do words without candidates. One piece takes the place of one piece: lengths are kept.

    Args:
        table: Piece -> candidate pieces, nearest first. Strings, so that the table outlives a vocabulary trim.
        rate: Probability that an eligible word is swapped, each on its own; above 0, at most 1.
        neighbours: The most candidates of a piece; one is drawn uniformly.
        only: ``"source"`` where candidates are English words alone, else ``None``.
        encoder: Fingerprint of the encoder whose embeddings were searched.

    Raises:
        XltError: A setting out of range, or an empty table.

    Source:
        This package's own. The published method swaps for synonyms: ``SynonymSwap``.
    """

    table: dict[str, list[str]]
    rate: float = 0.3
    neighbours: int = 10
    only: str | None = None
    encoder: str = ""
    name: str = field(init=False)

    def __post_init__(self) -> None:
        _check(self.rate, self.neighbours, self.only)
        _check_table(self.table)
        self.name = f"neighbours-{self.only}" if self.only else "neighbours"
        self._known: tuple[Any, frozenset[int], dict[str, int]] | None = None

    @classmethod
    def fit(
        cls, encoder: Encoder, texts: Iterable[str], rate: float = 0.3, neighbours: int = 10, only: str | None = None
    ) -> NeighbourSwap:
        """Find the whole-word pieces nearest by cosine to each eligible piece, case and accent variants of it left out.

        Args:
            encoder: Untrimmed; its matrix ``(vocabulary, hidden)`` is read in chunks and never copied whole.
            texts: English train and dev texts alone: words of any other text would break zero-shot.
            rate, neighbours: As for the class.
            only: ``"source"`` searches ten times as many and keeps the words that the small lists of ``wordfreq`` find
                commoner in English than in any other language.

        Raises:
            XltError: A trimmed encoder, a vocabulary that marks no words, no candidate, or a setting out of range.
        """
        _check(rate, neighbours, only)
        if isinstance(texts, str):
            raise XltError("texts must be a list of sentences: write NeighbourSwap.fit(encoder, [text]).")
        if encoder.kept_ids is not None:
            raise XltError(
                "NeighbourSwap.fit searches the whole vocabulary, and this one is trimmed: fit on load_encoder(name), "
                "then train on load_encoder(name, trim_to=task, keep=swap.pieces)."
            )
        weight: Tensor = encoder.model.get_input_embeddings().weight.detach()  # type: ignore[operator]
        words = _vocabulary_words(encoder.tokenizer, len(weight))
        seen = sorted(_eligible_ids(encoder.tokenizer, list(texts)) & words.keys())
        found = _nearest(weight, seen, words, neighbours if only is None else 10 * neighbours)
        table = {words[i]: [words[j] for j in near] for i, near in zip(seen, found, strict=True)}
        if only == "source":
            kinds = word_kinds({_text(piece) for near in table.values() for piece in near})
            table = {
                piece: [other for other in near if kinds[_text(other)] == "english"] for piece, near in table.items()
            }
        table = {piece: near[:neighbours] for piece, near in table.items() if near}
        if not table:
            raise XltError("No word of these texts has a neighbour to swap for: give the English train and dev texts.")
        return cls(table, rate, neighbours, only, encoder.fingerprint)

    @property
    def pieces(self) -> set[str]:
        """All candidate pieces, for ``load_encoder(keep=swap.pieces)``."""
        return {piece for near in self.table.values() for piece in near}

    def virtual(self, row: Row, tokenizer: PreTrainedTokenizerBase, rng: np.random.Generator) -> Virtual:
        """Return a copy of the same length; ``words`` counts eligible words, with candidates or without.

        Raises:
            XltError: The tokenizer lacks candidates: it was trimmed without ``keep``, or is another encoder's.
        """
        specials, ids = self._ids(tokenizer)
        tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(list(row.input_ids))]
        places = _whole_words(tokens, [i in specials for i in row.input_ids])
        new, swaps = list(row.input_ids), []
        for place, draw in zip(places, rng.random(len(places)), strict=True):
            near = self.table.get(tokens[place])
            if near and draw < self.rate:
                piece = near[int(rng.integers(len(near)))]
                new[place] = ids[piece]
                swaps.append((_text(tokens[place]), _text(piece)))
        return Virtual(tuple(new), row.token_type_ids, len(places), tuple(swaps))

    def _ids(self, tokenizer: PreTrainedTokenizerBase) -> tuple[frozenset[int], dict[str, int]]:
        """Return special ids and candidate ids, looked up once for the tokenizer in use."""
        if self._known is None or self._known[0] is not tokenizer:
            ids: dict[str, Any] = {piece: tokenizer.convert_tokens_to_ids(piece) for piece in sorted(self.pieces)}
            missing = [piece for piece, i in ids.items() if i is None or i == tokenizer.unk_token_id]
            if missing:
                raise XltError(
                    f'The tokenizer lacks {len(missing)} of {len(ids)} candidate pieces, such as "{missing[0]}": trim '
                    "with load_encoder(name, trim_to=task, keep=swap.pieces); for another encoder, fit a new swap."
                )
            self._known = (tokenizer, frozenset(tokenizer.all_special_ids), ids)
        return self._known[1:]

    def save(self, path: str | Path) -> None:
        """Write maker, settings, the encoder's fingerprint and the table as JSON."""
        content = {"maker": self.name} | {key: getattr(self, key) for key in self.__match_args__}
        Path(path).write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> NeighbourSwap:
        """Read what ``save`` wrote; XltError with the file and the rule where it is missing or damaged."""
        content = read_json(Path(path))
        try:
            swap = cls(**{key: content[key] for key in cls.__match_args__})
            if content["maker"] != swap.name or not isinstance(swap.encoder, str):
                raise XltError(f'expected the maker "{swap.name}" and a fingerprint')
        except (KeyError, TypeError, XltError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else error
            raise XltError(f"{path} holds no NeighbourSwap ({what}). Fit one and write it with swap.save.") from error
        return swap


@dataclass(eq=False)
class SynonymSwap(_Recorded):
    """Swaps words for synonyms of a table and tokenises again: the virtual stream of the published EAR.

    The case of a first letter or of a word in capitals is carried over. No table is shipped; the licence of the one you
    bring is your matter.

    Args:
        table: Word in lower case -> synonyms; one is drawn uniformly.
        rate: Probability that a word of the table is swapped, each on its own; above 0, at most 1.
        max_length: Longest sequence in tokens, as given to ``encode_rows``; the tokenizer's own limit when ``None``.

    Raises:
        XltError: ``rate`` out of range, or an empty table.
    """

    table: dict[str, list[str]]
    rate: float = 0.3
    max_length: int | None = None
    name: str = field(default="synonyms", init=False)

    def __post_init__(self) -> None:
        _check(self.rate)
        _check_table(self.table)

    @classmethod
    def from_file(cls, path: str | Path, rate: float = 0.3, max_length: int | None = None) -> SynonymSwap:
        """Read a table: JSON ``{"word": ["synonym", ...]}`` or ``{"word": {"synonym": score}}``, or TSV.

        ``.json`` is read as JSON (scores are not used), any other file as one ``word<TAB>synonym`` a line. Keys of
        several words or with digits, and words given as their own synonym, are left out.

        Raises:
            XltError: The file is missing, not UTF-8, of another shape, or empty; names file, line and rule.
        """
        pairs: list[tuple[str, str]] = []
        if str(path).lower().endswith(".json"):
            content = read_json(Path(path))
            entries: dict[str, Any] = content if isinstance(content, dict) else {"the file": None}
            for word, near in entries.items():
                scored = isinstance(near, dict) and all(isinstance(score, int | float) for score in near.values())
                if not (scored or isinstance(near, list)) or not all(isinstance(x, str) and x.strip() for x in near):
                    rule = '{"word": ["synonym", ...]} or {"word": {"synonym": score}}'
                    raise XltError(f"{path}: {word!r} is not of the form {rule}.")
                pairs += [(word, synonym) for synonym in near]
        else:
            for number, line in enumerate(read_text(Path(path)).split("\n"), start=1):
                parts = [part.strip() for part in line.split("\t")]
                if any(parts) and (len(parts) != 2 or not all(parts)):
                    raise XltError(f"{path}, line {number}: expected word<TAB>synonym (a JSON table is named *.json).")
                pairs += [(parts[0], parts[1])] if any(parts) else []
        table: dict[str, list[str]] = {}
        for word, synonym in ((word.strip().lower(), synonym.strip()) for word, synonym in pairs):
            if WORD.fullmatch(word) and synonym.lower() != word and synonym not in table.setdefault(word, []):
                table[word].append(synonym)
        try:
            return cls(table, rate, max_length)
        except XltError as error:
            raise XltError(f"{path}: {error}") from error

    def virtual(self, row: Row, tokenizer: PreTrainedTokenizerBase, rng: np.random.Generator) -> Virtual:
        """Return a copy of the row, both texts of a pair swapped; ``words`` counts the words of the table."""
        seen: list[tuple[str, str]] = []

        def swap(match: re.Match[str]) -> str:
            old = new = match[0]
            near = self.table.get(old.lower())
            if near and rng.random() < self.rate:
                new = near[int(rng.integers(len(near)))]
                first = new[:1].upper() if old[:1].isupper() else new[:1]
                new = new.upper() if len(old) > 1 and old.isupper() else first + new[1:]
            seen.extend([(old, new)] if near else [])
            return new

        texts = [WORD.sub(swap, text) for text in row.texts]
        swaps = tuple((old, new) for old, new in seen if old != new)
        if not swaps:
            return Virtual(row.input_ids, row.token_type_ids, len(seen), ())
        encoded = tokenizer(*texts, truncation=True, max_length=max_tokens(tokenizer, self.max_length))
        types = encoded.get("token_type_ids")
        return Virtual(tuple(encoded["input_ids"]), tuple(types) if types else None, len(seen), swaps)


@dataclass(eq=False)
class EmbeddingNoise(_Recorded):
    """Moves each token's word embedding by ``radius * mean_norm`` in a uniformly random direction; ids stay.

    ``mean_norm`` is the mean Euclidean norm of the encoder's word embeddings and ``hidden`` their width, both measured
    by ``fit``. XltError where a value is not above 0.

    Source:
        Random perturbation in a ball round the word embeddings, RSRP of Huang et al. (2021), "Improving Zero-Shot
        Cross-Lingual Transfer Learning via Robust Training"; here on the sphere, so that the radius is the distance.
    """

    radius: float
    mean_norm: float
    hidden: int
    name: str = field(default="noise", init=False)

    def __post_init__(self) -> None:
        if not all(isinstance(x, int | float) and 0 < x < np.inf for x in (self.radius, self.mean_norm, self.hidden)):
            raise XltError(f"{self}: each number must be above 0; write EmbeddingNoise.fit(encoder, radius=0.1).")

    @classmethod
    def fit(cls, encoder: Encoder, radius: float = 0.1) -> EmbeddingNoise:
        """Measure the mean norm over the rows of the encoder's input-embedding matrix."""
        weight: Tensor = encoder.model.get_input_embeddings().weight.detach()  # type: ignore[operator]
        total = sum(float(part.float().norm(dim=1).sum()) for part in weight.split(8192))
        return cls(radius, total / len(weight), weight.shape[1])

    def virtual(self, row: Row, tokenizer: PreTrainedTokenizerBase, rng: np.random.Generator) -> Virtual:
        """Return the same ids with ``noise`` (len, hidden), zero at special tokens; no word counts as eligible."""
        noise = rng.standard_normal((len(row.input_ids), self.hidden), dtype=np.float32)
        noise *= self.radius * self.mean_norm / np.linalg.norm(noise, axis=1, keepdims=True)
        noise[np.isin(row.input_ids, tokenizer.all_special_ids)] = 0
        return Virtual(row.input_ids, row.token_type_ids, 0, (), noise)


def swap_report(
    maker: Maker, rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase, seed: int = 0, epoch: int = 0
) -> dict[str, Any]:
    """Say what a maker does to rows.

    Returns:
        ``maker``; ``rate``, swapped over eligible words (0 where there are none); ``words``, the eligible words;
        ``scripts``, the share of each script among new words; ``examples``, up to ten (text, decoded virtual text).
    """
    words, scripts, examples = 0, Counter[str](), list[tuple[str, str]]()
    for row in rows:
        copy = maker.virtual(row, tokenizer, row_generator(seed, epoch, 0, row.id))
        words += copy.words
        scripts.update(_script(new) for _, new in copy.swaps)
        if copy.swaps and len(examples) < 10:
            decoded = tokenizer.decode(list(copy.input_ids), skip_special_tokens=True)
            examples.append((" ".join(row.texts), str(decoded)))
    swapped = scripts.total()
    shares = {script: count / swapped for script, count in scripts.most_common()}
    rate = swapped / words if words else 0.0
    return {"maker": maker.name, "rate": rate, "words": words, "scripts": shares, "examples": examples}


def _whole_words(tokens: Sequence[str], special_mask: Sequence[bool]) -> list[int]:
    """Return the places of whole words of three letters or more, in a SentencePiece or a WordPiece row."""
    spaced = any(token.startswith(SPACE) for token in tokens)

    def opens(i: int) -> bool:
        if i >= len(tokens) or special_mask[i]:
            return True
        if spaced:
            return tokens[i].startswith(SPACE)
        return not tokens[i].startswith(CONTINUES) and JOINERS.isdisjoint(tokens[max(i - 1, 0) : i + 1])

    places = []
    for i, token in enumerate(tokens):
        if not special_mask[i] and opens(i) and _is_word(_text(token)):
            after = i + 1
            while after < len(tokens) and set(tokens[after]) <= CLOSING:
                after += 1
            places += [i] if opens(after) else []
    return places


def _text(piece: str) -> str:
    return piece.removeprefix(SPACE)


@lru_cache(maxsize=1 << 15)
def _is_word(text: str) -> bool:
    """Three letters or more, and nothing but letters and combining marks."""
    kinds = [unicodedata.category(character)[0] for character in text]
    return set(kinds) <= {"L", "M"} and kinds.count("L") >= 3


def _plain(text: str) -> str:
    """Fold case and accents, so that variants of one word come out equal."""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(letter for letter in letters if unicodedata.category(letter)[0] != "M")


def _vocabulary_words(tokenizer: PreTrainedTokenizerBase, rows: int) -> dict[int, str]:
    """Return id -> piece, by id, of every whole-word piece that has a row in the embedding matrix."""
    vocabulary, specials = tokenizer.get_vocab(), set(tokenizer.all_special_ids)
    spaced, continuing = (sum(piece.startswith(mark) for piece in vocabulary) for mark in (SPACE, CONTINUES))
    if not spaced and not continuing:
        rule = f'NeighbourSwap reads vocabularies that mark words with "{SPACE}" (XLM-R) or "{CONTINUES}" (mBERT)'
        raise XltError(f"{rule}; this one does not. Use EmbeddingNoise or SynonymSwap.")
    mark = SPACE if spaced > continuing else ""
    usable = sorted((i, piece) for piece, i in vocabulary.items() if i < rows and i not in specials)
    return {i: piece for i, piece in usable if piece.startswith(mark) and _is_word(piece.removeprefix(mark))}


def _eligible_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> set[int]:
    specials, eligible = set(tokenizer.all_special_ids), set[int]()
    for start in range(0, len(texts), 1024):
        for ids in tokenizer(texts[start : start + 1024], truncation=False, verbose=False)["input_ids"]:
            places = _whole_words(tokenizer.convert_ids_to_tokens(ids), [i in specials for i in ids])
            eligible.update(ids[place] for place in places)
    return eligible


def _nearest(weight: Tensor, seen: list[int], words: dict[int, str], count: int) -> list[list[int]]:
    """Return ids of the ``count`` words nearest to each seen one, nearest first; ``weight (vocabulary, hidden)``."""
    classes: dict[str, int] = {}
    variant = {i: classes.setdefault(_plain(_text(piece)), len(classes)) for i, piece in words.items()}
    found = []
    for start in range(0, len(seen), 512):  # 512 x 8,192 cosines at a time: 16 MB
        block = torch.tensor(seen[start : start + 512])
        queries = normalize(weight[block.to(weight.device)].float().cpu(), dim=1)
        own = torch.tensor([[variant[i]] for i in block.tolist()])
        scores, ids = torch.empty(len(block), 0), torch.empty(len(block), 0, dtype=torch.long)
        for part in torch.tensor(list(words)).split(8192):
            cosine = queries @ normalize(weight[part.to(weight.device)].float().cpu(), dim=1).T
            cosine[own == torch.tensor([variant[i] for i in part.tolist()])] = -torch.inf
            best, order = cosine.topk(min(count, len(part)), dim=1)
            scores, ids = torch.cat([scores, best], 1), torch.cat([ids, part[order]], 1)
            scores, order = scores.topk(min(count, scores.shape[1]), dim=1)
            ids = ids.gather(1, order)
        found += [row[score > -torch.inf].tolist() for row, score in zip(ids, scores, strict=True)]
    return found


def _script(word: str) -> str:
    letter = next((letter for letter in word if letter.isalpha()), " ")
    return unicodedata.name(letter, "UNKNOWN").split()[0]


def _check(rate: float, neighbours: int = 1, only: str | None = None) -> None:
    if not isinstance(rate, int | float) or not 0 < rate <= 1:
        raise XltError(f"rate must be a number above 0 and at most 1, not {rate!r}.")
    if not isinstance(neighbours, int) or neighbours < 1:
        raise XltError(f"neighbours must be a whole number, 1 or more, not {neighbours!r}.")
    if only not in (None, "source"):
        raise unknown("only", only, ("source",))


def _check_table(table: Any) -> None:
    shaped = isinstance(table, dict) and all(isinstance(near, list) and near for near in table.values())
    if not shaped or not all(isinstance(word, str) and word for near in table.values() for word in near):
        raise XltError("the table must give each word a list of one or more words.")
    if not table:
        raise XltError("the table is empty: give words and what to swap them for.")
