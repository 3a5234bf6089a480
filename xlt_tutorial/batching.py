"""Tokenised rows and the batches that training and evaluation read.

A training batch stacks the two streams: rows 0..B-1 are the original sentences, rows B..2B-1 their virtual
copies in the same order. Everything random is a function of (seed, epoch, copy, row id) alone.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from xlt_tutorial.perturb import Virtual

Batch = dict[str, Any]
PART = 4096  # rows that are tokenised, and sorted by length, at a time


@dataclass(frozen=True)
class Row:
    """One tokenised example: ids with special tokens, and the texts they came from."""

    id: str
    texts: tuple[str, ...]
    input_ids: tuple[int, ...]
    label: int
    token_type_ids: tuple[int, ...] | None = None


class Maker(Protocol):
    """What turns a row into its virtual copy; see ``perturb``."""

    name: str

    def virtual(self, row: Row, tokenizer: PreTrainedTokenizerBase, rng: np.random.Generator) -> Virtual: ...

    def settings(self) -> dict[str, Any]: ...


def max_tokens(tokenizer: PreTrainedTokenizerBase, wanted: int | None = None) -> int:
    """Return the longest sequence to feed: ``wanted``, but never more than the tokenizer's own limit."""
    limit = int(min(tokenizer.model_max_length, 512 if tokenizer.model_max_length > 10**6 else 10**6))
    return limit if wanted is None else min(wanted, limit)


def encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    text_columns: Sequence[str],
    max_length: int | None = None,
) -> list[Row]:
    """Tokenise a split once.

    Args:
        tokenizer: A fast tokenizer.
        dataset: Columns ``id``, ``label`` and the text columns.
        text_columns: One column, or two for sentence pairs.
        max_length: Longest sequence in tokens, specials included; the tokenizer's limit when ``None``.

    Returns:
        One row per example, in order. Longer sequences are cut, and one warning counts them.
    """
    return list(chain.from_iterable(encoded_parts(tokenizer, dataset, text_columns, max_length)))


def encoded_parts(
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    text_columns: Sequence[str],
    max_length: int | None = None,
    size: int = PART,
) -> Iterator[list[Row]]:
    """Tokenise a split ``size`` rows at a time, so that memory does not grow with its length; as ``encode_rows``."""
    limit, long = max_tokens(tokenizer, max_length), 0
    for start in range(0, len(dataset), size):
        part = dataset[start : start + size]
        columns = [part[column] for column in text_columns]
        encoded = tokenizer(*columns, truncation=False, verbose=False)
        if cut := sum(len(ids) > limit for ids in encoded["input_ids"]):
            long += cut
            encoded = tokenizer(*columns, truncation=True, max_length=limit)
        types = encoded.get("token_type_ids")
        yield [
            Row(
                id=str(part["id"][i]),
                texts=tuple(column[i] for column in columns),
                input_ids=tuple(encoded["input_ids"][i]),
                label=int(part["label"][i]),
                token_type_ids=tuple(types[i]) if types is not None else None,
            )
            for i in range(len(part["id"]))
        ]
    if long:
        warnings.warn(f"{long} of {len(dataset)} sequences are longer than {limit} tokens and were cut.", stacklevel=3)


def row_generator(seed: int, epoch: int, copy: int, row_id: str) -> np.random.Generator:
    """Return the generator of one virtual copy; it depends on these four values and nothing else."""
    return np.random.default_rng([seed, epoch, copy, zlib.crc32(row_id.encode())])


def epoch_order(lengths: Sequence[int], batch_size: int, seed: int, epoch: int, bucket: int = 8) -> list[list[int]]:
    """Cut one epoch into batches of similar length; every index appears exactly once.

    Args:
        lengths: Length of each example in tokens.
        batch_size: Examples in a batch; the last batch of the epoch may be smaller.
        seed: Seed of the shuffle.
        epoch: Number of the epoch; each has its own shuffle.
        bucket: Batches sorted by length together; 1 gives a plain shuffle.

    Returns:
        Batches of indices. The order of batches is shuffled too.
    """
    rng = np.random.default_rng([seed, epoch, 0x5EED])
    order = rng.permutation(len(lengths))
    width = batch_size * bucket
    batches: list[list[int]] = []
    for start in range(0, len(order), width):
        part = order[start : start + width]
        part = part[np.argsort([lengths[i] for i in part], kind="stable")]
        batches += [part[i : i + batch_size].tolist() for i in range(0, len(part), batch_size)]
    # The short batch, if any, stays last, so that an epoch's steps do not depend on the shuffle.
    short = [batch for batch in batches if len(batch) < batch_size]
    full = [batch for batch in batches if len(batch) == batch_size]
    return [full[i] for i in rng.permutation(len(full))] + short


def collate(
    rows: Sequence[Row | Virtual], pad_id: int, labels: Sequence[int] | None = None, width: int | None = None
) -> Batch:
    """Pad rows to the longest (or to ``width``) and stack them.

    Returns:
        ``input_ids`` and ``attention_mask`` of shape (rows, width); ``token_type_ids`` where the tokenizer has them;
        ``labels`` (labels,) where given; ``noise`` (rows, width, hidden) where a maker asked for it.
    """
    longest = max(len(row.input_ids) for row in rows)
    width = max(width or 0, longest)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row.input_ids)] = torch.tensor(row.input_ids)
        mask[i, : len(row.input_ids)] = 1
    batch: Batch = {"input_ids": ids, "attention_mask": mask}
    if any(row.token_type_ids is not None for row in rows):
        types = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            types[i, : len(row.input_ids)] = torch.tensor(row.token_type_ids or [0] * len(row.input_ids))
        batch["token_type_ids"] = types
    noises = [getattr(row, "noise", None) for row in rows]
    first = next((noise for noise in noises if noise is not None), None)
    if first is not None:
        stacked = torch.zeros(len(rows), width, first.shape[-1])
        for i, noise in enumerate(noises):
            if noise is not None:
                stacked[i, : len(noise)] = torch.as_tensor(noise)
        batch["noise"] = stacked
    if labels is not None:
        batch["labels"] = torch.tensor(labels)
    return batch


def slices(batch: Batch, streams: int, max_tokens: int) -> Iterator[tuple[Batch, float]]:
    """Cut a stacked batch into parts of at most ``max_tokens`` padded tokens; an original and its copy stay together.

    Args:
        batch: From ``collate``, with labels.
        streams: 1 or 2, as in ``TwoStreamBatches``.
        max_tokens: Rows times width, both streams counted; 0 does not cut. A single pair is never cut.

    Yields:
        Each part, padded as the batch is, and its share of the batch's rows. Every loss term is a mean over rows, so
        the terms and gradients of the parts, times their shares, add up to those of the batch.
    """
    rows, width = len(batch["labels"]), batch["input_ids"].shape[1]
    size = max(1, max_tokens // (streams * width)) if max_tokens else rows
    for part in torch.arange(rows).split(size):
        yield _rows(batch, streams, part), len(part) / rows


def process_part(batch: Batch, streams: int, index: int, count: int) -> tuple[Batch, float]:
    """Return the rows ``index, index + count, ...`` of a stacked batch, padded as it is, and their share of its rows.

    A process that gets no row of a small batch gets the first one, with a share of 0, so that all take the same steps.
    """
    rows = len(batch["labels"])
    own = torch.arange(index, rows, count) if index < rows else torch.zeros(1, dtype=torch.long)
    return _rows(batch, streams, own), len(range(index, rows, count)) / rows


def _rows(batch: Batch, streams: int, chosen: torch.Tensor) -> Batch:
    """Return the chosen originals of a stacked batch and their copies."""
    if len(chosen) == len(batch["labels"]):
        return batch
    stacked = torch.cat([chosen + stream * len(batch["labels"]) for stream in range(streams)])
    return {key: value[chosen if key == "labels" else stacked] for key, value in batch.items()}


class TwoStreamBatches:
    """The training batches of any epoch, rebuilt from (seed, epoch) alone so that a resumed run sees the same ones.

    Args:
        rows: The tokenised training rows.
        tokenizer: The encoder's tokenizer.
        batch_size: Originals in a batch.
        seed: Seed of order and swaps.
        streams: 1 for originals only, 2 to repeat each row as its own second stream or as a virtual copy.
        maker: Makes the virtual rows; ``None`` repeats the original in the second stream.
        copies: Virtual copies of a row in an epoch; the row is visited once for each.
        pad_to: Fixed width; ``None`` pads to the longest row.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        seed: int,
        streams: int = 1,
        maker: Maker | None = None,
        copies: int = 1,
        pad_to: int | None = None,
    ) -> None:
        self.rows, self.tokenizer, self.batch_size, self.seed = rows, tokenizer, batch_size, seed
        self.streams, self.maker, self.copies, self.pad_to = streams, maker, copies, pad_to
        self._lengths = [len(row.input_ids) for row in rows] * copies

    def __len__(self) -> int:
        return -(-len(self._lengths) // self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from number ``start`` on."""
        for indices in epoch_order(self._lengths, self.batch_size, self.seed, epoch)[start:]:
            yield self._batch(indices, epoch)

    def _batch(self, indices: list[int], epoch: int) -> Batch:
        originals = [self.rows[i % len(self.rows)] for i in indices]
        stream: list[Any] = list(originals)
        if self.streams == 2 and self.maker is None:
            stream += originals
        elif self.streams == 2:
            assert self.maker is not None
            for i, row in zip(indices, originals, strict=True):
                rng = row_generator(self.seed, epoch, i // len(self.rows), row.id)
                stream.append(self.maker.virtual(row, self.tokenizer, rng))
        pad_id = int(self.tokenizer.pad_token_id or 0)
        return collate(stream, pad_id, [row.label for row in originals], self.pad_to)
