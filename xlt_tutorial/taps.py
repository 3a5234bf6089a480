"""Reads the embedding output and the attention maps of chosen layers during a forward.

Every layer runs on SDPA, which never materialises its map; only the tapped layers compute theirs. This works
through transformers' registry of attention functions, so the model's own code is untouched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from xlt_tutorial.errors import XltError

_NAME = "xlt_tapped"


@dataclass
class AttentionMap:
    """One layer's attention ``(batch, heads, query, key)``, before and after dropout."""

    before_dropout: Tensor
    after_dropout: Tensor


@dataclass
class Captured:
    """What one forward left behind.

    Attributes:
        embeddings: Embedding-block output after LayerNorm and dropout, ``(batch, seq, hidden)``.
        attention: Maps by 0-based layer.
    """

    embeddings: Tensor | None = None
    attention: dict[int, AttentionMap] = field(default_factory=dict)


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
    scaling = kwargs.get("scaling") or query.shape[-1] ** -0.5
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    before = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    after = nn.functional.dropout(before, kwargs.get("dropout", 0.0), module.training)
    active[1].attention[layer] = AttentionMap(before, after)
    return (after @ value).transpose(1, 2).contiguous(), None


def _attention_modules(model: nn.Module) -> list[nn.Module]:
    """Return the module that calls the attention function in each block, in order of depth."""
    # A block and its attention may both carry the index; the attention is the innermost.
    modules = [
        module
        for module in model.modules()
        if hasattr(module, "layer_idx")
        and not any(hasattr(m, "layer_idx") for m in module.modules() if m is not module)
    ]
    if not modules:
        raise XltError(f"{type(model).__name__} numbers no attention layers, so the attention pull cannot read a map.")
    return modules


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
        XltError: A layer that the encoder does not have, or an architecture without the attention registry.

    Example:
        >>> with taps(encoder.model, attention=[5], embeddings=True) as captured:
        ...     encoder.model(**batch)
        >>> captured.attention[5].before_dropout.shape  # (batch, heads, seq, seq)
    """
    captured, layers = Captured(), sorted(set(attention))
    hook = _tap_embeddings(model, captured) if embeddings else None
    config: Any = getattr(model, "config", None)
    try:
        if not layers:
            yield captured
            return
        modules = _attention_modules(model)
        wrong = [layer for layer in layers if not 0 <= layer < len(modules)]
        if wrong:
            raise XltError(
                f"The encoder has attention layers 0 to {len(modules) - 1}, not {wrong[0]}. "
                f"Choose one of them, such as layer={min(5, len(modules) - 1)}."
            )
        if not getattr(model, "_supports_sdpa", False):
            raise XltError(f"{type(model).__name__} has no SDPA attention, so its maps cannot be tapped.")
        _register()
        plain = config._attn_implementation
        token = _active.set(({id(modules[layer]): layer for layer in layers}, captured))
        config._attn_implementation = _NAME
        try:
            yield captured
        finally:
            config._attn_implementation = plain
            _active.reset(token)
    finally:
        if hook is not None:
            hook.remove()


def _tap_embeddings(model: nn.Module, captured: Captured) -> Any:
    block = getattr(model, "embeddings", None)
    if not isinstance(block, nn.Module):
        raise XltError(f"{type(model).__name__} has no embedding block, so the embedding push cannot read its output.")

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        captured.embeddings = output

    return block.register_forward_hook(keep)


@contextmanager
def embedding_noise(model: nn.Module, noise: Tensor | None) -> Iterator[None]:
    """Add ``noise`` ``(batch, seq, hidden)`` to the word embeddings of the forwards inside the block."""
    if noise is None:
        yield
        return
    words: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
    hook = words.register_forward_hook(lambda _module, _inputs, output: output + noise.to(output))
    try:
        yield
    finally:
        hook.remove()
