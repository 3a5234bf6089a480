"""Reads the embedding output and the attention maps of chosen layers during a forward.

Every layer runs on SDPA, which hands out no map; only the tapped layers compute theirs. This works through
transformers' registry of attention functions, so the model's own code is untouched. Architectures outside the registry,
such as DeBERTa, compute every map anyway: theirs is read around its dropout.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xlt_tutorial.errors import XltError

_NAME = "xlt_tapped"


@dataclass
class AttentionMap:
    """One layer's attention ``(batch, heads, query, key)``, before and after dropout; in float32 under autocast too."""

    before_dropout: Tensor
    after_dropout: Tensor


@dataclass
class Captured:
    """What one forward left behind.

    Attributes:
        embeddings: Embedding-block output after LayerNorm and dropout, ``(batch, seq, hidden)``: the input of block 0.
        attention: Maps by 0-based layer.
    """

    embeddings: Tensor | None = None
    attention: dict[int, AttentionMap] = field(default_factory=dict)


_noted: set[str] = set()
_active: ContextVar[tuple[dict[int, int], Captured] | None] = ContextVar("xlt_taps", default=None)


def _tapped_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """Attend by SDPA, or step by step where this module's layer is tapped."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    active = _active.get()
    layer = active[0].get(id(module)) if active is not None else None
    if active is None or layer is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    groups = getattr(module, "num_key_value_groups", 1)
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scaling, bias = kwargs.get("scaling"), kwargs.get("position_bias")
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if bias is not None:
        scores = scores + bias
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        # Added, not filled in: a padded query outside every local window attends to nothing, and eager attention lets
        # the gradient of its even row through.
        attention_mask = torch.zeros_like(scores[:, :1]).masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    if attention_mask is not None:
        scores = scores + attention_mask
    before = scores.softmax(-1, dtype=torch.float32)
    after = nn.functional.dropout(before, kwargs.get("dropout", 0.0), module.training)
    active[1].attention[layer] = AttentionMap(before, after)
    return (after.to(value.dtype) @ value).transpose(1, 2).contiguous(), None


def _blocks(model: nn.Module) -> list[nn.Module]:
    """Return the encoder's blocks in order of depth: the outermost list with one module for each."""
    depth = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return list(module)
    raise XltError(
        f"{type(model).__name__} keeps no list of its {depth or ''} blocks, so neither the embedding push nor the "
        "attention pull can read it. Choose an encoder of the BERT, XLM-R, DeBERTa or ModernBERT kind, or vanilla."
    )


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, _tapped_attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)


@contextmanager
def taps(model: nn.Module, attention: Iterable[int] = (), embeddings: bool = False) -> Iterator[Captured]:
    """Capture the embedding output and chosen attention maps of the next forward.

    Args:
        model: A transformers base encoder.
        attention: 0-based layers whose maps are wanted (5 is the sixth block).
        embeddings: Whether to keep the embedding-block output.

    Yields:
        A ``Captured`` that each forward inside the block overwrites.

    Raises:
        XltError: A layer that the encoder does not have, or an architecture without a list of blocks.

    Example:
        >>> with taps(encoder.model, attention=[5], embeddings=True) as captured:
        ...     encoder.model(**batch)
        >>> captured.attention[5].before_dropout.shape  # (batch, heads, seq, seq)
    """
    captured, layers = Captured(), sorted(set(attention))
    if not layers and not embeddings:
        yield captured
        return
    blocks = _blocks(model)
    wrong = [layer for layer in layers if not 0 <= layer < len(blocks)]
    if wrong:
        raise XltError(
            f"The encoder has attention layers 0 to {len(blocks) - 1}, not {wrong[0]}. "
            f"Choose one of them, such as layer={min(5, len(blocks) - 1)}."
        )
    with ExitStack() as stack:
        if embeddings:
            stack.enter_context(_tapped_embeddings(blocks[0], captured))
        tapped = {layer: blocks[layer] for layer in layers}
        if tapped and getattr(model, "_supports_sdpa", False):
            stack.enter_context(_tapped_registry(model, tapped, captured))
        elif tapped:
            _note_plain(type(model).__name__)
            for layer, block in tapped.items():
                stack.enter_context(_tapped_dropout(block, layer, captured))
        yield captured


@contextmanager
def _tapped_embeddings(first: nn.Module, captured: Captured) -> Iterator[None]:
    """Keep what goes into the first block: what transformers calls ``hidden_states[0]``, and so layer 0 everywhere."""

    def keep(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        captured.embeddings = args[0] if args else kwargs["hidden_states"]

    hook = first.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def _tapped_registry(model: nn.Module, tapped: dict[int, nn.Module], captured: Captured) -> Iterator[None]:
    """Let the model look up ``_tapped_attention`` instead of SDPA."""
    _register()
    config: Any = model.config
    before = config._attn_implementation
    parts = {id(part): layer for layer, block in tapped.items() for part in block.modules()}
    token = _active.set((parts, captured))
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _active.reset(token)


class _DropoutOfMaps(TorchFunctionMode):
    """Sees a block's calls of ``dropout``; the one on a square ``(batch, heads, seq, seq)`` is on its attention map."""

    def __init__(self, layer: int, captured: Captured) -> None:
        super().__init__()
        self.layer, self.captured = layer, captured

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function is nn.functional.dropout:
            before = args[0] if args else (kwargs or {})["input"]
            if before.ndim == 4 and before.shape[-1] == before.shape[-2]:
                self.captured.attention[self.layer] = AttentionMap(before, result)
        return result


@contextmanager
def _tapped_dropout(block: nn.Module, layer: int, captured: Captured) -> Iterator[None]:
    """Read the map around its dropout, for architectures that compute every map in their own code."""
    watch = _DropoutOfMaps(layer, captured)
    hooks = [
        block.register_forward_pre_hook(lambda *_: watch.__enter__() and None),
        block.register_forward_hook(lambda *_: watch.__exit__(None, None, None), always_call=True),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _note_plain(architecture: str) -> None:
    if architecture not in _noted:
        _noted.add(architecture)
        warnings.warn(
            f"{architecture} has no SDPA attention in transformers: each of its layers computes its map in the plain "
            "way. The results are the same, at more time and memory.",
            stacklevel=5,
        )


@contextmanager
def embedding_noise(model: nn.Module, noise: Tensor | None) -> Iterator[None]:
    """Add ``noise`` ``(batch, seq, hidden)`` to the word embeddings of the forwards inside the block."""
    if noise is None:
        yield
        return
    words: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
    reached: list[bool] = []

    def add(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        reached.append(True)
        return output + noise.to(output)

    # T5 looks words up in a second module that shares its weight with the one it names.
    twins = [part for part in model.modules() if getattr(part, "weight", None) is words.weight]
    hooks = [part.register_forward_hook(add) for part in twins]
    try:
        yield
        if not reached:
            raise XltError(
                f"{type(model).__name__} does not look its words up in the embeddings that it names, so nothing could "
                "be added to them: choose a method without perturbed embeddings, such as EAR with a swap."
            )
    finally:
        for hook in hooks:
            hook.remove()
