"""Rows, batches and the two streams: aligned, padded right, and random in nothing but (seed, epoch, copy, row id)."""

import random
import warnings
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import BertTokenizer

from xlt_tutorial.batching import Row, TwoStreamBatches, collate, encode_rows, epoch_order, max_tokens, row_generator
from xlt_tutorial.perturb import Virtual

SENTENCES = ["the cat sleeps", "the big red dog sees the small bird here .", "moon", "zebra", "fish and sun and tree"]


@pytest.fixture
def unigram(tiny_bert):
    return tiny_bert().tokenizer


@pytest.fixture
def wordpiece() -> BertTokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sleep", "dog"]
    return BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=12)


def dataset(texts: list[str], **more: list) -> Dataset:
    columns = {"id": [f"row-{i}" for i in range(len(texts))], "label": [i % 3 for i in range(len(texts))]}
    return Dataset.from_dict(columns | {"text": texts} | more)


# --- rows ----------------------------------------------------------------------------------------------------------


def test_rows_keep_ids_labels_and_texts_together(unigram):
    rows = encode_rows(unigram, dataset(SENTENCES), ("text",))
    assert [row.id for row in rows] == ["row-0", "row-1", "row-2", "row-3", "row-4"]
    assert [row.label for row in rows] == [0, 1, 2, 0, 1]
    assert [row.texts for row in rows] == [(text,) for text in SENTENCES]
    for row, text in zip(rows, SENTENCES, strict=True):
        tokens = unigram.convert_ids_to_tokens(list(row.input_ids))
        assert (tokens[0], tokens[-1]) == ("<s>", "</s>")
        assert "".join(tokens[1:-1]).replace("▁", " ").strip() == text
        assert row.token_type_ids is None
    assert unigram.convert_ids_to_tokens(list(rows[0].input_ids)) == ["<s>", "▁the", "▁cat", "▁sleeps", "</s>"]


def test_pairs_have_both_texts_and_the_tokenizers_types(wordpiece):
    pairs = dataset(["the cat", "the dog"], other=["cats sleep", "dogs"])
    first, second = encode_rows(wordpiece, pairs, ("text", "other"))
    assert first.texts == ("the cat", "cats sleep")
    assert first.input_ids == (2, 5, 6, 3, 6, 7, 8, 3)
    assert first.token_type_ids == (0, 0, 0, 0, 1, 1, 1, 1)
    assert second.input_ids == (2, 5, 9, 3, 9, 7, 3)
    assert second.token_type_ids == (0, 0, 0, 0, 1, 1, 1)


@pytest.mark.parametrize("limit", [4, 7])
def test_longer_sequences_are_cut_and_counted_once(unigram, limit):
    with pytest.warns(UserWarning) as told:
        rows = encode_rows(unigram, dataset(SENTENCES), ("text",), max_length=limit)
    whole = encode_rows(unigram, dataset(SENTENCES), ("text",))
    long = [len(row.input_ids) > limit for row in whole]
    assert 0 < sum(long) < len(long)
    assert [str(warning.message) for warning in told] == [
        f"{sum(long)} of 5 sequences are longer than {limit} tokens and were cut."
    ]
    for row, complete, cut in zip(rows, whole, long, strict=True):
        if cut:
            assert row.input_ids == (*complete.input_ids[: limit - 1], complete.input_ids[-1])  # </s> stays
        else:
            assert row == complete
        assert row.texts == complete.texts


def test_a_sequence_of_exactly_the_limit_is_not_cut(unigram):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (row,) = encode_rows(unigram, dataset(["the cat sleeps"]), ("text",), max_length=5)
    assert len(row.input_ids) == 5


def test_pairs_are_cut_to_the_limit_with_both_sides_kept(wordpiece):
    pairs = dataset(["the cat the cat the cat the cat"], other=["dog dog dog dog dog"])
    with pytest.warns(UserWarning, match="1 of 1 sequences are longer than 12 tokens"):  # the tokenizer's own limit
        (row,) = encode_rows(wordpiece, pairs, ("text", "other"))
    assert len(row.input_ids) == len(row.token_type_ids) == 12
    assert {5, 6, 9} <= set(row.input_ids)
    assert row.input_ids.count(3) == 2


def test_cutting_leaves_the_tokenizer_as_it_was(unigram):
    with pytest.warns(UserWarning):
        encode_rows(unigram, dataset(SENTENCES), ("text",), max_length=4)
    assert len(unigram(SENTENCES[1])["input_ids"]) > 4
    assert len(encode_rows(unigram, dataset(SENTENCES), ("text",))[1].input_ids) > 4


@pytest.mark.parametrize(
    ("own", "wanted", "limit"),
    [(512, None, 512), (512, 32, 32), (64, 128, 64), (10**30, None, 512), (10**30, 128, 128), (10**30, 1024, 512)],
)
def test_the_limit_is_the_smaller_of_the_wanted_and_the_tokenizers(unigram, own, wanted, limit):
    unigram.model_max_length = own
    assert max_tokens(unigram, wanted) == limit


# --- randomness and order ------------------------------------------------------------------------------------------


def test_a_rows_generator_depends_on_each_of_four_values():
    def draw(*key) -> tuple[int, ...]:
        return tuple(row_generator(*key).integers(0, 2**62, 4).tolist())

    keys = list(product((0, 1), (0, 1, 7), (0, 1), ("row-0", "row-1", "行")))
    draws = [draw(*key) for key in keys]
    assert len(set(draws)) == len(keys)
    row_generator(5, 5, 5, "other").random(100)
    torch.manual_seed(1)
    assert [draw(*key) for key in keys] == draws  # and on nothing else


def test_a_rows_generator_is_the_same_on_every_machine():
    """Recorded once: stored results rest on it."""
    assert row_generator(0, 0, 0, "1F600").integers(0, 1000, 5).tolist() == [877, 213, 210, 625, 699]
    assert epoch_order([3, 1, 2, 5, 4, 9], 2, seed=0, epoch=1, bucket=2) == [[1, 2], [0, 5], [4, 3]]


LENGTHS = [int(length) for length in np.random.default_rng(3).integers(3, 40, 203)]


@pytest.mark.parametrize(("batch_size", "bucket"), [(32, 8), (8, 1), (7, 3), (203, 1), (500, 2), (1, 4), (29, 8)])
def test_an_epoch_sees_every_index_once(batch_size, bucket):
    batches = epoch_order(LENGTHS, batch_size, seed=0, epoch=0, bucket=bucket)
    assert Counter(i for batch in batches for i in batch) == Counter(range(203))
    assert [len(batch) for batch in batches[:-1]] == [batch_size] * (203 // batch_size - (203 % batch_size == 0))
    assert len(batches[-1]) == (203 % batch_size or batch_size) if batch_size < 203 else 203


def test_the_short_batch_is_last_in_every_epoch():
    for epoch in range(20):
        assert [len(batch) for batch in epoch_order(LENGTHS, 20, 0, epoch)] == [20] * 10 + [3]


def test_batches_hold_rows_of_similar_length():
    def waste(bucket: int) -> float:
        batches = epoch_order(LENGTHS, 8, seed=0, epoch=0, bucket=bucket)
        return sum(max(LENGTHS[i] for i in batch) * len(batch) for batch in batches) / sum(LENGTHS)

    assert waste(8) < 1.15 < 1.4 < waste(1)
    # One bucket over everything: the lengths of two batches never interleave.
    spans = [[LENGTHS[i] for i in batch] for batch in epoch_order(LENGTHS, 8, 0, 0, bucket=100)]
    assert all(span == sorted(span) for span in spans)
    ordered = sorted(spans, key=lambda span: (min(span), max(span)))
    assert all(max(a) <= min(b) for a, b in pairwise(ordered))
    assert spans != ordered  # but the batches come in random order


def test_the_order_is_that_of_its_seed_and_epoch():
    first = epoch_order(LENGTHS, 8, seed=0, epoch=0)
    assert epoch_order(LENGTHS, 8, seed=0, epoch=0) == first
    others = [epoch_order(LENGTHS, 8, seed, epoch) for seed, epoch in ((0, 1), (0, 2), (1, 0), (1, 1))]
    assert all(other != first for other in others)
    assert len({str(other) for other in others}) == 4
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in others[0]}


# --- collate -------------------------------------------------------------------------------------------------------


def row(i: int, length: int, label: int = 0, types: bool = False) -> Row:
    ids = tuple(range(10 * i + 10, 10 * i + 10 + length))
    return Row(f"row-{i}", (f"text {i}",), ids, label, tuple(k % 2 for k in range(length)) if types else None)


@pytest.mark.parametrize(("width", "expected"), [(None, 5), (5, 5), (8, 8), (3, 5)])
def test_rows_are_padded_on_the_right(width, expected):
    rows = [row(0, 3), row(1, 5), row(2, 1)]
    batch = collate(rows, pad_id=99, labels=[2, 0, 1], width=width)
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    for one, ids, mask in zip(rows, batch["input_ids"].tolist(), batch["attention_mask"].tolist(), strict=True):
        blank = expected - len(one.input_ids)
        assert ids == [*one.input_ids, *[99] * blank]
        assert mask == [1] * len(one.input_ids) + [0] * blank
    assert batch["labels"].tolist() == [2, 0, 1]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_labels_are_absent_where_none_are_given():
    assert set(collate([row(0, 3)], pad_id=0)) == {"input_ids", "attention_mask"}


def test_token_types_are_padded_with_zero_and_filled_where_a_row_has_none():
    batch = collate([row(0, 4, types=True), row(1, 2), row(2, 2, types=True)], pad_id=1, width=5)
    assert batch["token_type_ids"].tolist() == [[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]]


def test_noise_is_padded_with_zeros_and_zero_for_rows_without():
    noise = np.arange(6, dtype=np.float32).reshape(3, 2) + 1
    batch = collate([row(0, 4), Virtual((7, 8, 9), None, 1, (), noise)], pad_id=0, width=5)
    assert batch["noise"].shape == (2, 5, 2)
    assert batch["noise"].dtype == torch.float32
    assert batch["noise"][0].abs().sum() == 0
    assert batch["noise"][1].tolist() == [[1, 2], [3, 4], [5, 6], [0, 0], [0, 0]]
    assert "noise" not in collate([row(0, 4)], pad_id=0)


# --- two streams ---------------------------------------------------------------------------------------------------


class Shuffler:
    """A maker that can be checked: it keeps the specials, marks what it drew, and writes down whom it was asked for."""

    name = "shuffler"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def settings(self) -> dict:
        return {"name": self.name}

    def virtual(self, row: Row, tokenizer, rng: np.random.Generator) -> Virtual:
        self.asked.append(row.id)
        return Virtual((row.input_ids[0], *rng.integers(1000, 10**9, 3).tolist(), row.input_ids[-1]), None, 3, ())


ROWS = [row(i, 2 + i % 5, label=i % 4) for i in range(23)]


def streams(unigram, rows=ROWS, **changes) -> TwoStreamBatches:
    settings = {"batch_size": 4, "seed": 0, "streams": 2, "maker": Shuffler()} | changes
    return TwoStreamBatches(rows, unigram, **settings)


def originals(batch: dict) -> list[int]:
    """Which rows the first half holds, told by their first id."""
    ids = batch["input_ids"][: len(batch["labels"]), 0].tolist()
    return [i // 10 - 1 for i in ids]


def virtuals(batches: TwoStreamBatches, epoch: int, **where) -> dict[str, list[list[int]]]:
    """Row id -> its virtual rows in the order of the epoch."""
    found: dict[str, list[list[int]]] = {}
    for batch in batches.epoch(epoch, **where):
        for i, ids in zip(originals(batch), batch["input_ids"][len(batch["labels"]) :].tolist(), strict=True):
            found.setdefault(f"row-{i}", []).append(ids[:5])
    return found


def same(one: list[dict], other: list[dict]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in zip(one, other, strict=True)
    )


def test_the_second_half_is_the_virtual_rows_in_the_same_order(unigram):
    batches = streams(unigram)
    assert len(batches) == 6 == len(list(batches.epoch(0)))
    for batch in batches.epoch(0):
        half = len(batch["labels"])
        rows = [ROWS[i] for i in originals(batch)]
        assert batch["labels"].tolist() == [one.label for one in rows]
        assert batch["input_ids"].shape[0] == batch["attention_mask"].shape[0] == 2 * half
        for k, one in enumerate(rows):
            length = len(one.input_ids)
            assert batch["input_ids"][k].tolist()[:length] == list(one.input_ids)
            assert batch["attention_mask"][k].sum() == length
            drawn = row_generator(0, 0, 0, one.id).integers(1000, 10**9, 3).tolist()
            copy = [one.input_ids[0], *drawn, one.input_ids[-1]]
            assert batch["input_ids"][half + k].tolist()[:5] == copy
            assert batch["attention_mask"][half + k].sum() == 5
        padding = batch["attention_mask"] == 0
        assert (batch["input_ids"][padding] == unigram.pad_token_id).all()
        assert batch["input_ids"].shape[1] == max(5, *(len(one.input_ids) for one in rows))


def test_one_stream_and_the_repeated_stream_need_no_maker(unigram):
    for batch in streams(unigram, streams=1, maker=None).epoch(0):
        assert len(batch["input_ids"]) == len(batch["labels"])
    maker = Shuffler()
    assert all(len(batch["input_ids"]) == len(batch["labels"]) for batch in streams(unigram, streams=1).epoch(0))
    assert maker.asked == []
    for batch in streams(unigram, maker=None).epoch(0):
        first, second = batch["input_ids"].chunk(2)
        assert torch.equal(first, second)
        assert len(first) == len(batch["labels"])


def test_the_originals_come_in_the_same_order_whatever_the_streams(unigram):
    """The compute-matched control and the method see the same sentences at the same step."""
    orders = [
        [originals(batch) for batch in streams(unigram, **changes).epoch(2)]
        for changes in ({}, {"maker": None}, {"streams": 1, "maker": None})
    ]
    assert orders[0] == orders[1] == orders[2]


def test_each_epoch_visits_every_row_once_and_swaps_afresh(unigram):
    batches = streams(unigram)
    first, second = virtuals(batches, 0), virtuals(batches, 1)
    assert first.keys() == second.keys() == {one.id for one in ROWS}
    assert all(len(found) == 1 for found in first.values())
    assert all(first[name] != second[name] for name in first)
    assert virtuals(streams(unigram, seed=1), 0) != first
    assert virtuals(streams(unigram), 0) == first


def test_copies_visit_a_row_once_for_each_copy_with_other_swaps(unigram):
    batches = streams(unigram, copies=3)
    assert len(batches) == -(-23 * 3 // 4) == len(list(batches.epoch(0)))
    found = virtuals(batches, 0)
    assert all(len(copies) == 3 for copies in found.values())
    for name, copies in found.items():
        drawn = [row_generator(0, 0, copy, name).integers(1000, 10**9, 3).tolist() for copy in range(3)]
        assert sorted(ids[1:4] for ids in copies) == sorted(drawn)


def test_a_start_in_the_middle_continues_the_same_stream(unigram):
    whole = list(streams(unigram).epoch(1))
    for start in (0, 1, 4, 6):
        assert same(list(streams(unigram).epoch(1, start=start)), whole[start:])
    maker = Shuffler()
    list(streams(unigram, maker=maker).epoch(1, start=5))
    assert len(maker.asked) == 3  # the batches before are not made again


def test_swaps_do_not_depend_on_the_order_in_which_rows_are_listed(unigram):
    listed, backwards = streams(unigram), streams(unigram, rows=ROWS[::-1])
    assert virtuals(listed, 3) == virtuals(backwards, 3)
    assert virtuals(streams(unigram, batch_size=7), 3) == virtuals(listed, 3)
    few = virtuals(streams(unigram, rows=ROWS[5:12]), 3)
    assert few == {name: copies for name, copies in virtuals(listed, 3).items() if name in few}


def test_a_fixed_width_pads_every_batch_to_it(unigram):
    assert {batch["input_ids"].shape[1] for batch in streams(unigram, pad_to=16).epoch(0)} == {16}
    assert {batch["input_ids"].shape[1] for batch in streams(unigram, maker=None).epoch(0)} <= {2, 3, 4, 5, 6}


def test_the_global_generators_are_left_alone(unigram):
    before = torch.random.get_rng_state(), str(np.random.get_state()), random.getstate()  # noqa: NPY002
    list(streams(unigram).epoch(0))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1:] == (str(np.random.get_state()), random.getstate())  # noqa: NPY002
