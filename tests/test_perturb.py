"""The makers of the virtual stream: what they swap, what they must leave, how often, and how bad input is answered."""

import json
import math
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from xlt_tutorial.batching import Row, TwoStreamBatches, row_generator
from xlt_tutorial.encoders import load_encoder
from xlt_tutorial.errors import XltError
from xlt_tutorial.perturb import EmbeddingNoise, NeighbourSwap, SynonymSwap, _whole_words, swap_report

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
# Words, then what looks like one and is not: too short, with digits or signs, the middle of a word.
WORDS = """face Face FACE fáce faces facing rostro visage चेहरा лицо happy Happy heureux smile sourire woman femme
    house casa maison dog chien know won cat three""".split()
NOT_WORDS = [
    "▁ox",
    "▁顔",
    "▁12",
    "▁2024",
    "▁mp3",
    "▁a-b",
    "▁lui-même",
    "ing",
    "face",
    "ness",
    "▁",
    ",",
    ".",
    "'",
    "-",
    "!",
]
LETTERS = [*"abcdefghijklmnopqrstuvwxyzFH0123456789", ")", "("]
VARIANTS = [{"face", "Face", "FACE", "fáce"}, {"happy", "Happy"}]


def tiny_tokenizer(pieces, max_length=64, dropped=(), pair=False):
    vocabulary = [(piece, 0.0) for piece in SPECIALS]
    vocabulary += [(piece, -len(pieces) / 100 - i / 1000) for i, piece in enumerate(pieces) if piece not in dropped]
    vocabulary += [(letter, -20.0) for letter in LETTERS]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s>:0 $A:0 </s>:0 $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=max_length, bos_token="<s>", eos_token="</s>", cls_token="<s>",
        sep_token="</s>", unk_token="<unk>", pad_token="<pad>", mask_token="<mask>",
        model_input_names=["input_ids", *["token_type_ids"][: int(pair)], "attention_mask"],
    )  # fmt: skip


def tiny_encoder(words=WORDS, tokenizer=None, kept_ids=None):
    """An encoder with random embeddings; three rows more than pieces, as the real matrix has rows without a piece."""
    tokenizer = tokenizer or tiny_tokenizer([f"▁{word}" for word in words] + NOT_WORDS)
    generator = torch.Generator().manual_seed(7)
    table = torch.nn.Embedding(len(tokenizer) + 3, 12)
    table.weight.data = torch.randn(table.weight.shape, generator=generator) * torch.rand(len(table.weight), 1) * 3
    model = SimpleNamespace(get_input_embeddings=lambda: table)
    return SimpleNamespace(model=model, tokenizer=tokenizer, kept_ids=kept_ids, fingerprint="tiny-1")


def row_of(tokenizer, *texts, id="r"):
    encoded = tokenizer(*texts)
    types = encoded.get("token_type_ids")
    return Row(id, texts, tuple(encoded["input_ids"]), 0, tuple(types) if types else None)


def copy_of(maker, tokenizer, *texts, seed=0):
    return maker.virtual(row_of(tokenizer, *texts), tokenizer, row_generator(seed, 0, 0, "r"))


@pytest.fixture(scope="module")
def tiny():
    return tiny_encoder()


@pytest.fixture(scope="module")
def swap(tiny):
    return NeighbourSwap.fit(tiny, [" ".join(WORDS)], rate=1.0, neighbours=4)


# --- NeighbourSwap.fit


def loop_neighbours(encoder, word, count):
    """Cosine to every other word, one at a time, sorted."""
    weight = encoder.model.get_input_embeddings().weight.detach().double().numpy()
    family = next((f for f in VARIANTS if word in f), {word})
    scored = []
    for other in WORDS:
        if other not in family:
            a, b = (weight[encoder.tokenizer.convert_tokens_to_ids(f"▁{w}")] for w in (word, other))
            scored.append(
                (-sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b), f"▁{other}")
            )
    return [piece for _, piece in sorted(scored)[:count]]


@pytest.mark.parametrize("count", [1, 4, 10, 1000])
def test_neighbours_equal_a_plain_loop_over_the_matrix(tiny, count):
    table = NeighbourSwap.fit(tiny, WORDS, neighbours=count).table
    assert table == {f"▁{word}": loop_neighbours(tiny, word, count) for word in WORDS}


def test_search_in_chunks_equals_a_search_at_once():
    """More words than one chunk holds, more queries than one block holds."""
    from xlt_tutorial.perturb import _nearest

    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(9000, 6, generator=generator)
    words = {i: f"▁{chr(97 + i % 26)}{chr(97 + i // 26 % 26)}{chr(97 + i // 676)}w" for i in range(9000)}
    seen = list(range(0, 9000, 15))
    unit = weight / weight.norm(dim=1, keepdim=True)
    cosine = (unit[seen] @ unit.T).numpy()
    cosine[np.arange(len(seen)), seen] = -2
    expected = np.argsort(-cosine, axis=1, kind="stable")[:, :5]
    scores = np.take_along_axis(cosine, np.array(_nearest(weight, seen, words, 5)), 1)
    np.testing.assert_allclose(scores, np.take_along_axis(cosine, expected, 1), atol=1e-5)


def test_no_case_or_accent_variant_is_a_candidate(tiny):
    table = NeighbourSwap.fit(tiny, WORDS, neighbours=1000).table
    for family in VARIANTS:
        for word in family:
            assert not {f"▁{other}" for other in family} & set(table[f"▁{word}"])
            assert "▁faces" in table["▁face"], "an inflected form is another word"


def test_candidates_are_whole_words_of_three_letters(tiny):
    pieces = NeighbourSwap.fit(tiny, WORDS, neighbours=1000).pieces
    assert pieces == {f"▁{word}" for word in WORDS}


def test_specials_and_pieces_without_an_embedding_are_no_candidates():
    tokenizer = tiny_tokenizer(["▁dog", "▁cat", "▁house"])
    encoder = tiny_encoder(tokenizer=tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["▁marker"]})
    tokenizer.add_tokens(["▁late"] + [f"▁late{letter}" for letter in "abcdef"])  # beyond the matrix and its spare rows
    assert len(tokenizer) > len(encoder.model.get_input_embeddings().weight)
    table = NeighbourSwap.fit(encoder, ["dog"], neighbours=20).table
    reachable = {"▁cat", "▁house", "▁late", "▁latea"}  # the two spare rows after the marker's have a piece now
    assert {piece: set(near) for piece, near in table.items()} == {"▁dog": reachable}


def test_fit_keeps_only_what_the_texts_hold(tiny):
    swap = NeighbourSwap.fit(tiny, ["happy face 12 ox", "facing"], neighbours=3)
    assert set(swap.table) == {"▁happy", "▁face", "▁facing"}
    assert (swap.rate, swap.neighbours, swap.only, swap.encoder) == (0.3, 3, None, "tiny-1")
    assert all(len(near) == 3 for near in swap.table.values())


def test_fit_leaves_the_matrix_alone_and_reads_half_precision():
    encoder = tiny_encoder()
    before = encoder.model.get_input_embeddings().weight.detach().clone()
    full = NeighbourSwap.fit(encoder, WORDS).table
    assert torch.equal(before, encoder.model.get_input_embeddings().weight)
    encoder.model.get_input_embeddings().to(torch.bfloat16)
    assert NeighbourSwap.fit(encoder, WORDS).table.keys() == full.keys()


def english_encoder():
    """Neighbours of "house" by construction: the first coordinate falls along this list."""
    order = ["house", "und", "water", "casa", "qqqxq", "people", "the"]
    encoder = tiny_encoder(order)
    weight = encoder.model.get_input_embeddings().weight.data
    weight.zero_()
    for rank, word in enumerate(order):
        angle = rank / 10
        place = encoder.tokenizer.convert_tokens_to_ids(f"▁{word}")
        weight[place, 0], weight[place, 1] = math.cos(angle), math.sin(angle)
    return encoder


def test_only_source_keeps_words_commoner_in_english():
    encoder = english_encoder()
    every = NeighbourSwap.fit(encoder, ["house"], neighbours=6)
    assert every.table == {"▁house": ["▁und", "▁water", "▁casa", "▁qqqxq", "▁people", "▁the"]}
    source = NeighbourSwap.fit(encoder, ["house"], neighbours=6, only="source")
    assert source.table == {"▁house": ["▁people", "▁the"]}, "und is German, water as common in Dutch"
    assert (every.name, source.name) == ("neighbours", "neighbours-source")


def test_only_source_looks_past_the_first_neighbours():
    assert NeighbourSwap.fit(english_encoder(), ["house"], neighbours=1, only="source").table == {"▁house": ["▁people"]}


def test_only_source_without_english_neighbours():
    encoder = tiny_encoder(["house", "und", "casa"])
    assert NeighbourSwap.fit(encoder, ["casa"], only="source").table == {"▁casa": ["▁house"]}
    with pytest.raises(XltError, match="English train and dev"):
        NeighbourSwap.fit(encoder, ["house"], only="source")


def test_a_word_without_candidates_is_seen_and_not_swapped():
    encoder = tiny_encoder(["house", "und", "casa"])
    swap = NeighbourSwap.fit(encoder, ["house und casa"], rate=1.0, only="source")
    copy = copy_of(swap, encoder.tokenizer, "house casa und")
    assert copy.words == 3 and copy.swaps == (("casa", "house"), ("und", "house"))


# --- NeighbourSwap.virtual


def test_length_specials_numbers_and_parts_of_words_stay(tiny, swap):
    text = "12 face, happyness ox 2024 mp3 don't facing. house-face a-b лицо!"
    row = row_of(tiny.tokenizer, text)
    copy = swap.virtual(row, tiny.tokenizer, np.random.default_rng(0))
    assert [old for old, _ in copy.swaps] == ["face", "facing", "лицо"]
    assert copy.words == 3 and len(copy.input_ids) == len(row.input_ids)
    old, new = (tiny.tokenizer.convert_ids_to_tokens(list(ids)) for ids in (row.input_ids, copy.input_ids))
    changed = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert changed == [(f"▁{a}", f"▁{b}") for a, b in copy.swaps]


@pytest.mark.parametrize(
    ("tokens", "whole"),
    [
        ("<s> ▁the ▁cat ▁sits </s>", "the cat sits"),
        ("<s> ▁cat s ▁cat </s>", "cat"),  # the first is cut in two
        ("<s> ▁cat , ▁dog ). </s> </s> ▁cow </s>", "cat dog cow"),
        ("<s> ▁cat . com ▁well - known ▁don ' t ▁dog 2 </s>", ""),
        ("<s> ▁ox ▁12 ▁mp3 ▁abc1 ▁ ▁a_b ▁चेहरा ▁चे </s>", "चेहरा"),
        ("[CLS] the cat ##s sits , dog [SEP] cow [SEP]", "the sits dog cow"),
        ("[CLS] don ' t well - known mp3 12 ox ##en cat . [SEP]", "cat"),
        ("[CLS] [SEP]", ""),
    ],
)
def test_whole_words_in_both_kinds_of_vocabulary(tokens, whole):
    tokens = tokens.split()
    places = _whole_words(tokens, [token[0] in "[<" for token in tokens])
    assert " ".join(tokens[i].removeprefix("▁") for i in places) == whole


def test_specials_stay_even_where_they_read_like_words(tiny):
    tokens = ["▁face", "▁house"]
    assert _whole_words(tokens, [True, False]) == [1]
    assert _whole_words(["▁face", "ing"], [False, True]) == [0]


def test_wordpiece_vocabulary_end_to_end():
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cat", "Cat", "##s", "chat", "dog", "hund", "##hund", "12", "ox", ","]
    backend = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    swap = NeighbourSwap.fit(tiny_encoder(tokenizer=tokenizer), ["cat dogs dog, 12 ox"], rate=1.0)
    assert {key: set(near) for key, near in swap.table.items()} == {
        "cat": {"chat", "dog", "hund"},
        "dog": {"cat", "Cat", "chat", "hund"},
    }
    copy = copy_of(swap, tokenizer, "dogs cat, 12")
    assert copy.words == 1 and copy.swaps[0][0] == "cat"


def test_candidates_are_drawn_uniformly(tiny):
    swap = NeighbourSwap({"▁face": ["▁dog", "▁cat", "▁house"]}, rate=1.0)
    row = row_of(tiny.tokenizer, "face " * 20)
    drawn = [new for i in range(150) for _, new in swap.virtual(row, tiny.tokenizer, row_generator(0, i, 0, "r")).swaps]
    assert len(drawn) == 3000
    for word in ("dog", "cat", "house"):
        assert abs(drawn.count(word) - 1000) < 4.5 * math.sqrt(3000 * 2 / 9)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.8])
def test_rate_is_within_binomial_bounds(tiny, swap, rate):
    maker = NeighbourSwap(swap.table, rate=rate)
    rows = [row_of(tiny.tokenizer, "happy woman 12 house, dog", id=f"row{i}") for i in range(1000)]
    report = swap_report(maker, rows, tiny.tokenizer)
    assert report["words"] == 4000
    assert abs(report["rate"] - rate) < 4.5 * math.sqrt(rate * (1 - rate) / 4000)


@pytest.mark.parametrize("kind", ["neighbours", "synonyms", "noise"])
def test_a_copy_depends_on_seed_epoch_copy_and_row_id_alone(tiny, swap, kind):
    maker = {
        "neighbours": NeighbourSwap(swap.table, rate=0.5),
        "synonyms": SynonymSwap({"happy": ["smile", "dog"], "woman": ["cat", "face"]}, rate=0.5),
        "noise": EmbeddingNoise(0.1, 2.0, 5),
    }[kind]
    rows = [row_of(tiny.tokenizer, "happy woman house dog " * 3, id=f"row{i}") for i in range(20)]

    def copies(rows, seed=0, epoch=0, copy=0, maker=maker):
        made = [maker.virtual(row, tiny.tokenizer, row_generator(seed, epoch, copy, row.id)) for row in rows]
        return {row.id: (v.input_ids, v.swaps, None if v.noise is None else v.noise.tobytes())
                for row, v in zip(rows, made, strict=True)}  # fmt: skip

    first = copies(rows)
    assert copies(rows[::-1]) == first
    assert copies(rows[5:9]) == {row.id: first[row.id] for row in rows[5:9]}
    assert copies(rows, maker=pickle.loads(pickle.dumps(maker))) == first
    for other in (copies(rows, seed=1), copies(rows, epoch=1), copies(rows, copy=1)):
        assert sum(other[row.id] != first[row.id] for row in rows) >= 18
    assert len({value for value in first.values()}) >= 18, "rows with the same text are swapped each on its own"


def test_batches_hold_the_copies_fresh_every_epoch(tiny, swap):
    rows = [row_of(tiny.tokenizer, "happy woman house dog", id=f"row{i}") for i in range(8)]
    batches = TwoStreamBatches(rows, tiny.tokenizer, 8, seed=3, streams=2, maker=swap)
    epochs = [next(iter(batches.epoch(epoch)))["input_ids"] for epoch in (0, 0, 1)]
    assert torch.equal(epochs[0], epochs[1])
    assert torch.equal(epochs[0][:8], epochs[2][:8]), "the originals stay"
    assert not torch.equal(epochs[0][8:], epochs[2][8:])


def test_trimmed_tokenizer_gives_the_same_words(tiny, swap):
    pieces = [f"▁{word}" for word in WORDS] + NOT_WORDS
    maker = NeighbourSwap({"▁happy": swap.table["▁happy"], "▁dog": swap.table["▁dog"]}, rate=0.5)
    unused = [p for p in pieces if p.startswith("▁") and p not in maker.pieces | {"▁happy", "▁dog", "▁"}]
    assert unused
    trimmed = tiny_tokenizer(pieces, dropped=unused)
    for i in range(20):
        whole, part = (
            maker.virtual(row_of(t, "happy dog happy"), t, row_generator(0, i, 0, "r"))
            for t in (tiny.tokenizer, trimmed)
        )
        assert (whole.swaps, whole.words) == (part.swaps, part.words)
        assert tiny.tokenizer.decode(whole.input_ids) == trimmed.decode(part.input_ids)
        assert not whole.swaps or whole.input_ids != part.input_ids


def test_tokenizer_trimmed_without_keep_says_what_to_type(tiny, swap):
    gone = sorted(swap.pieces)[0]
    trimmed = tiny_tokenizer([f"▁{word}" for word in WORDS], dropped=[gone])
    with pytest.raises(XltError, match=rf'lacks 1 of .*"{gone}".*keep=swap.pieces'):
        copy_of(swap, trimmed, "happy")
    copy_of(swap, tiny.tokenizer, "happy")  # the whole tokenizer still works after that


def test_pairs_keep_their_types(swap):
    tokenizer = tiny_tokenizer([f"▁{word}" for word in WORDS] + NOT_WORDS, pair=True)
    row = row_of(tokenizer, "happy dog", "house")
    copy = swap.virtual(row, tokenizer, np.random.default_rng(0))
    assert copy.token_type_ids == row.token_type_ids and set(row.token_type_ids) == {0, 1}
    assert [old for old, _ in copy.swaps] == ["happy", "dog", "house"]


def test_an_empty_text_gives_itself(tiny, swap):
    row = row_of(tiny.tokenizer, "")
    assert swap.virtual(row, tiny.tokenizer, np.random.default_rng(0)).input_ids == row.input_ids


def test_the_vocabulary_is_not_read_for_every_row(tiny, swap, monkeypatch):
    """It has 250,000 pieces: 700 rows would take minutes."""
    rows = [row_of(tiny.tokenizer, "happy woman 12 house, dog", id=f"row{i}") for i in range(20)]
    swap.virtual(rows[0], tiny.tokenizer, np.random.default_rng(0))
    kind, reads = type(tiny.tokenizer), list[str]()
    for name in ("get_vocab", "get_added_vocab", "__len__"):
        plain = getattr(kind, name)
        monkeypatch.setattr(kind, name, lambda self, plain=plain, name=name: reads.append(name) or plain(self))
    len(tiny.tokenizer)
    assert reads, "the count works"
    reads.clear()
    for row in rows:
        swap.virtual(row, tiny.tokenizer, row_generator(0, 0, 0, row.id))
    assert not reads


# --- saving


def test_save_and_load_give_the_same_maker(tiny, tmp_path):
    swap = NeighbourSwap.fit(tiny, WORDS, rate=0.4, neighbours=3)
    swap.save(tmp_path / "swap.json")
    loaded = NeighbourSwap.load(tmp_path / "swap.json")
    assert (loaded.name, loaded.table) == ("neighbours", swap.table)
    assert (loaded.rate, loaded.neighbours, loaded.only, loaded.encoder) == (0.4, 3, None, "tiny-1")
    row = row_of(tiny.tokenizer, "happy woman house dog")
    for epoch in range(5):
        one, two = (m.virtual(row, tiny.tokenizer, row_generator(0, epoch, 0, "r")) for m in (swap, loaded))
        assert one == two
    content = json.loads((tmp_path / "swap.json").read_text(encoding="utf-8"))
    assert content["maker"] == "neighbours" and content["encoder"] == "tiny-1"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda c: c.pop("table"), "no 'table'"),
        (lambda c: c.pop("rate"), "no 'rate'"),
        (lambda c: c.pop("maker"), "no 'maker'"),
        (lambda c: c.update(table={}), "empty"),
        (lambda c: c.update(table=["▁face"]), "list of one or more words"),
        (lambda c: c.update(table={"▁face": []}), "list of one or more words"),
        (lambda c: c.update(table={"▁face": [3]}), "list of one or more words"),
        (lambda c: c.update(table={"▁face": "▁dog"}), "list of one or more words"),
        (lambda c: c.update(rate=2), "rate must be"),
        (lambda c: c.update(rate="0.3"), "rate must be"),
        (lambda c: c.update(neighbours=0), "neighbours must be"),
        (lambda c: c.update(only="target"), 'Unknown only "target"'),
        (lambda c: c.update(maker="synonyms"), 'expected the maker "neighbours"'),
        (lambda c: c.update(only="source"), 'expected the maker "neighbours-source"'),
        (lambda c: c.update(encoder=None), "fingerprint"),
    ],
)
def test_load_names_the_file_and_the_broken_rule(tmp_path, change, rule):
    path = tmp_path / "swap.json"
    NeighbourSwap({"▁face": ["▁dog"]}).save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(XltError, match=rule) as caught:
        NeighbourSwap.load(path)
    assert str(path) in str(caught.value) and "swap.save" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "rule"),
    [(b"[]", "holds no NeighbourSwap"), (b"3", "holds no"), (b'{\n"maker": ', "line 2: not JSON"), (b"", "not JSON")],
)
def test_load_of_what_is_no_swap(tmp_path, content, rule):
    (tmp_path / "swap.json").write_bytes(content)
    with pytest.raises(XltError, match=rule):
        NeighbourSwap.load(tmp_path / "swap.json")


def test_load_of_a_missing_file(tmp_path):
    with pytest.raises(XltError, match=r"absent\.json cannot be read .*check the path"):
        NeighbourSwap.load(tmp_path / "absent.json")


# --- bad settings


@pytest.mark.parametrize("rate", [0, -0.1, 1.01, float("nan"), "half", None])
def test_rate_out_of_range(tiny, rate):
    for make in (
        lambda: NeighbourSwap({"▁face": ["▁dog"]}, rate=rate),
        lambda: NeighbourSwap.fit(tiny, WORDS, rate=rate),
        lambda: SynonymSwap({"face": ["dog"]}, rate=rate),
    ):
        with pytest.raises(XltError, match="rate must be a number above 0 and at most 1"):
            make()


@pytest.mark.parametrize("neighbours", [0, -3, 2.5, "ten"])
def test_neighbours_out_of_range(tiny, neighbours):
    with pytest.raises(XltError, match="neighbours must be a whole number, 1 or more"):
        NeighbourSwap.fit(tiny, WORDS, neighbours=neighbours)


def test_unknown_only_lists_the_valid_name(tiny):
    with pytest.raises(XltError, match=r'Unknown only "sorce"\. Did you mean "source"'):
        NeighbourSwap.fit(tiny, WORDS, only="sorce")


def test_fit_refuses_a_trimmed_encoder():
    with pytest.raises(XltError, match=r"trimmed: fit on load_encoder\(name\)"):
        NeighbourSwap.fit(tiny_encoder(kept_ids=torch.arange(5)), WORDS)


def test_fit_refuses_one_string_and_texts_without_words(tiny):
    with pytest.raises(XltError, match="list of sentences"):
        NeighbourSwap.fit(tiny, "happy face")
    for texts in ([], ["12 ox"], [""]):
        with pytest.raises(XltError, match="English train and dev"):
            NeighbourSwap.fit(tiny, texts)


def test_fit_refuses_a_vocabulary_that_marks_no_words():
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "Ġface": 1, "house": 2}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")
    with pytest.raises(XltError, match="EmbeddingNoise or SynonymSwap"):
        NeighbourSwap.fit(tiny_encoder(tokenizer=tokenizer), ["house"])


# --- SynonymSwap


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.json", '{"Happy": ["smile", "sourire", "happy"], "dog": ["chien"], "hot dog": ["x"], "mp3": ["x"]}'),
        ("t.JSON", '{"happy": {"smile": 0.9, "sourire": 1}, "dog": {"chien": -2.5}}'),
        ("t.tsv", "happy\tsmile\n\ndog\tchien\nhappy\tsourire\r\nhappy\tsmile\nhappy\tHappy\nhot dog\tx\n"),
        ("t.txt", "\ufeffHAPPY \t smile\nHappy\tsourire\ndog\tchien"),
    ],
)
def test_tables_of_every_format(tmp_path, name, content):
    maker = SynonymSwap.from_file(write(tmp_path, name, content), rate=0.7, max_length=9)
    assert maker.table == {"happy": ["smile", "sourire"], "dog": ["chien"]}
    assert (maker.name, maker.rate, maker.max_length) == ("synonyms", 0.7, 9)


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("t.json", '{"a": ["b"],\n"c": [}', "line 2: not JSON"),
        ("t.json", '["a", "b"]', "not of the form"),
        ("t.json", '{"happy": "smile"}', "'happy' is not of the form"),
        ("t.json", '{"happy": ["smile", 3]}', "'happy' is not of the form"),
        ("t.json", '{"happy": [" "]}', "'happy' is not of the form"),
        ("t.json", '{"happy": {"smile": "often"}}', "'happy' is not of the form"),
        ("t.json", "{}", "empty"),
        ("t.json", '{"happy": [], "hot dog": ["sausage"], "dog": ["Dog"]}', "empty"),
        ("t.json", b'{"happy":\n["s\xff"]}', "line 2: not UTF-8"),
        ("t.tsv", "happy\tsmile\ndog chien\n", "line 2: expected word<TAB>synonym"),
        ("t.tsv", "happy\tsmile\tsourire\n", "line 1: expected word<TAB>synonym"),
        ("t.tsv", "\n\nhappy\t\n", "line 3: expected word<TAB>synonym"),
        ("t.tsv", "", "empty"),
        ("t.tsv", b"happy\tsmile\n\ndog\tch\xe9n\n", "line 3: not UTF-8"),
        ("t.tsv", '{"happy": ["smile"]}', r"line 1: .*named \*.json"),
    ],
)
def test_a_bad_table_names_file_line_and_rule(tmp_path, name, content, rule):
    path = write(tmp_path, name, content)
    with pytest.raises(XltError, match=rule) as caught:
        SynonymSwap.from_file(path)
    assert str(path) in str(caught.value)


def test_a_missing_table(tmp_path):
    for path in (tmp_path / "absent.tsv", tmp_path):
        with pytest.raises(XltError, match="cannot be read"):
            SynonymSwap.from_file(path)


def replaced(table, text, tokenizer):
    """Return the words that took the place of words of the table, in order."""
    return [new for _, new in copy_of(SynonymSwap(table, rate=1.0), tokenizer, text).swaps]


def test_case_is_carried_over(tiny):
    table = {"happy": ["smile"], "i": ["me"], "dog": ["iPad"], "été": ["hiver"]}
    text = "happy Happy HAPPY hAPPY I dog Dog DOG Été"
    expected = ["smile", "Smile", "SMILE", "smile", "Me", "iPad", "IPad", "IPAD", "Hiver"]
    assert replaced(table, text, tiny.tokenizer) == expected


def test_words_are_whole_and_numbers_stay(tiny):
    table = {"happy": ["smile"], "don": ["x"], "mp": ["x"], "don't": ["refuse"]}
    text = "unhappy happy-go happy's don't DON’T mp3 3mp happy_x (happy) 12"
    assert replaced(table, text, tiny.tokenizer) == ["smile", "refuse", "smile"]


def test_synonyms_are_tokenised_again_with_specials_and_the_same_limit():
    tokenizer = tiny_tokenizer([f"▁{word}" for word in WORDS] + NOT_WORDS, max_length=7, pair=True)
    row = row_of(tokenizer, "happy dog", "dog 12")
    maker = SynonymSwap({"dog": ["chien"], "happy": ["happyness"]}, rate=1.0)
    copy = maker.virtual(row, tokenizer, np.random.default_rng(0))
    expected = tokenizer("happyness chien", "chien 12", truncation=True, max_length=7)
    assert list(copy.input_ids) == expected["input_ids"]
    assert list(copy.token_type_ids) == expected["token_type_ids"]
    assert len(copy.input_ids) == 7 and copy.words == 3
    assert copy.swaps == (("happy", "happyness"), ("dog", "chien"), ("dog", "chien"))
    short = SynonymSwap(maker.table, 1.0, max_length=6).virtual(row, tokenizer, np.random.default_rng(0))
    assert len(short.input_ids) == 6


def test_a_row_without_swaps_is_returned_as_it_is(tiny):
    row = Row("r", ("house happy",), (0, 9, 2), 0)  # ids of a row that was cut short
    maker = SynonymSwap({"dog": ["chien"]}, rate=1.0)
    copy = maker.virtual(row, tiny.tokenizer, np.random.default_rng(0))
    assert copy.input_ids == row.input_ids and (copy.words, copy.swaps) == (0, ())


def test_synonyms_keep_their_rate_among_words_of_the_table(tiny):
    maker = SynonymSwap({"dog": ["chien", "cat"], "house": ["casa"]}, rate=0.3)
    rows = [row_of(tiny.tokenizer, "the dog face house", id=f"row{i}") for i in range(1500)]
    report = swap_report(maker, rows, tiny.tokenizer)
    assert report["words"] == 3000
    assert abs(report["rate"] - 0.3) < 4.5 * math.sqrt(0.3 * 0.7 / 3000)


# --- EmbeddingNoise


def test_noise_has_its_length_everywhere_but_at_specials(tiny):
    weight = tiny.model.get_input_embeddings().weight.detach().double()
    mean = sum(float(row.norm()) for row in weight) / len(weight)
    maker = EmbeddingNoise.fit(tiny, radius=0.25)
    assert maker.hidden == 12 and maker.mean_norm == pytest.approx(mean, rel=1e-6)
    row = row_of(tiny.tokenizer, "happy dog", "12 face")
    copy = maker.virtual(row, tiny.tokenizer, np.random.default_rng(0))
    assert (copy.input_ids, copy.words, copy.swaps) == (row.input_ids, 0, ())
    assert copy.noise.shape == (len(row.input_ids), 12) and copy.noise.dtype == np.float32
    for i, noise in zip(row.input_ids, copy.noise, strict=True):
        assert np.linalg.norm(noise) == pytest.approx(0 if i < len(SPECIALS) else 0.25 * mean, rel=1e-5)


def test_noise_has_no_preferred_direction(tiny):
    maker = EmbeddingNoise(1.0, 1.0, 3)
    row = Row("r", ("",), (9,) * 20000, 0)
    noise = maker.virtual(row, tiny.tokenizer, np.random.default_rng(0)).noise
    # On the unit sphere each coordinate has mean 0 and variance 1/3, the coordinates are uncorrelated, and one
    # coordinate in three dimensions is uniform in [-1, 1].
    assert np.abs(noise.mean(0)).max() < 4.5 * math.sqrt(1 / 3 / 20000)
    np.testing.assert_allclose(noise.T @ noise / 20000, np.eye(3) / 3, atol=0.015)
    assert np.abs(np.histogram(noise[:, 0], 10, (-1, 1))[0] - 2000).max() < 4.5 * math.sqrt(20000 * 0.09)


@pytest.mark.parametrize(
    ("radius", "norm", "hidden"), [(0, 1, 4), (-1, 1, 4), (math.inf, 1, 4), (1, 0, 4), ("1", 1, 4)]
)
def test_noise_out_of_range(radius, norm, hidden):
    with pytest.raises(XltError, match="above 0"):
        EmbeddingNoise(radius, norm, hidden)


# --- swap_report


def test_report_counts_scripts_and_shows_examples(tiny):
    maker = NeighbourSwap({"▁face": ["▁चेहरा"], "▁dog": ["▁chien"], "▁happy": ["▁лицо"]}, rate=1.0)
    rows = [row_of(tiny.tokenizer, "face dog dog happy house", id=f"row{i}") for i in range(12)]
    report = swap_report(maker, [row_of(tiny.tokenizer, "house 12", id="none"), *rows], tiny.tokenizer)
    assert report["maker"] == "neighbours"
    assert report["words"] == 61 and report["rate"] == 48 / 61
    assert report["scripts"] == {"LATIN": 0.5, "DEVANAGARI": 0.25, "CYRILLIC": 0.25}
    assert len(report["examples"]) == 10
    text, virtual = report["examples"][0]
    assert text == "face dog dog happy house"
    assert virtual.replace("▁", " ").split() == ["चेहरा", "chien", "chien", "лицо", "house"]
    json.dumps(report)


def test_report_of_a_maker_that_swaps_nothing(tiny):
    report = swap_report(EmbeddingNoise(0.1, 1.0, 4), [row_of(tiny.tokenizer, "face")], tiny.tokenizer)
    assert report == {"maker": "noise", "rate": 0.0, "words": 0, "scripts": {}, "examples": []}


def test_scripts_of_new_words():
    from xlt_tutorial.perturb import _script

    scripts = {
        _script(word): word for word in ("rostro", "лицо", "顔です", "かお", "カオ", "चेहरा", "وجه", "얼굴", "12")
    }
    assert set(scripts) == {
        "LATIN",
        "CYRILLIC",
        "CJK",
        "HIRAGANA",
        "KATAKANA",
        "DEVANAGARI",
        "ARABIC",
        "HANGUL",
        "SPACE",
    }


def test_settings_name_the_table_by_its_sum(swap):
    settings = swap.settings()
    assert settings["name"] == "neighbours" and settings["table_words"] == len(swap.table) and "table" not in settings
    other = NeighbourSwap({**swap.table, "▁face": ["▁dog"]}, swap.rate, swap.neighbours, swap.only, swap.encoder)
    assert other.settings()["table_sha256"] != settings["table_sha256"]
    assert EmbeddingNoise(0.1, 2.0, 5).settings() == {"name": "noise", "radius": 0.1, "mean_norm": 2.0, "hidden": 5}


# --- on the real encoder


TEXTS = ["grinning face, with big eyes", "red heart 12", "the house and the dog", "woman: red hair"]


@pytest.fixture(scope="module")
def e5_swap(full_encoder):
    return NeighbourSwap.fit(full_encoder, TEXTS, rate=1.0)


def test_real_neighbours_are_translations(full_encoder, e5_swap):
    table = e5_swap.table
    assert {"▁rostro", "▁visage", "▁wajah"} <= set(table["▁face"])
    assert {"▁casa", "▁maison"} <= set(table["▁house"])
    assert len(table["▁face"]) == 10 and not {"▁Face", "▁FACE"} & set(table["▁face"])
    assert "▁grin" not in table, "grin-ning is cut in two"
    assert e5_swap.encoder == full_encoder.fingerprint != ""


def test_real_stream_is_multilingual_and_only_source_is_latin(full_encoder, e5_swap):
    rows = [row_of(full_encoder.tokenizer, text, id=f"{i}-{k}") for i, text in enumerate(TEXTS) for k in range(25)]
    report = swap_report(e5_swap, rows, full_encoder.tokenizer)
    assert report["rate"] > 0.99 and len(report["scripts"]) >= 5
    source = NeighbourSwap.fit(full_encoder, TEXTS, rate=1.0, only="source")
    assert source.table["▁house"] and not {"▁casa", "▁maison"} & source.pieces
    assert set(swap_report(source, rows, full_encoder.tokenizer)["scripts"]) == {"LATIN"}


def test_real_candidates_do_not_see_target_languages(full_encoder):
    """Candidates come from English train and dev texts: a task with its targets, or without, gives the same ones."""
    from xlt_tutorial.tasks import load_task

    task = load_task("emoji")

    def fitted(splits):
        texts = [text for split in ("train", "dev") for text in splits[split][task.source]["text"]]
        return NeighbourSwap.fit(full_encoder, texts).table

    without = {split: {task.source: languages[task.source]} for split, languages in task.splits.items()}
    assert fitted(task.splits) == fitted(without)


def test_real_trimmed_encoder_swaps_the_same_words(full_encoder, e5_swap):
    class Task:
        def texts(self):
            return TEXTS

    trimmed = load_encoder("e5-small", trim_to=Task(), keep=e5_swap.pieces)
    assert len(trimmed.tokenizer) < 1000
    for i, text in enumerate(TEXTS * 5):
        whole, part = (e5_swap.virtual(row_of(t, text), t, row_generator(0, i, 0, "r"))
                       for t in (full_encoder.tokenizer, trimmed.tokenizer))  # fmt: skip
        assert whole.swaps == part.swaps and whole.words == part.words
        assert full_encoder.tokenizer.decode(whole.input_ids) == trimmed.tokenizer.decode(part.input_ids)
    without = load_encoder("e5-small", trim_to=Task())
    with pytest.raises(XltError, match=r"keep=swap\.pieces"):
        copy_of(e5_swap, without.tokenizer, TEXTS[0])
    with pytest.raises(XltError, match="trimmed"):
        NeighbourSwap.fit(trimmed, TEXTS)
