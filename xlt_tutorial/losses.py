"""The two alignment losses of EAR: embedding push and attention pull.

Each first gives one value per example and then their mean over the batch, so that a form which leaves padding out
never lets it into an average. ``form="published"`` is the formula that the released code of the paper computes
(Ding et al., "A Simple and Effective Method to Improve Zero-Shot Cross-Lingual Transfer Learning", COLING 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor

from xlt_tutorial.encoders import masked_mean
from xlt_tutorial.errors import XltError, unknown

PUSH_FORMS = ("published", "hinge", "cosine")
PULL_FORMS = ("published", "masked", "row_kl")


def embedding_push(
    original: Tensor,
    virtual: Tensor,
    original_mask: Tensor,
    virtual_mask: Tensor,
    form: str = "published",
    margin: float = 1.0,
    reduction: str = "mean",
) -> Tensor:
    """Push the virtual sentence away from the original in embedding space.

    With ``u`` and ``v`` the masked means of the two embedding outputs over their real tokens:

    - ``published``: ``-mean_d (u_d - v_d)^2``; without a lower bound.
    - ``hinge``: ``max(0, margin - mean_d (u_d - v_d)^2) - margin``; no more force once ``margin`` is reached.
    - ``cosine``: ``cos(u, v) - 1``, between -2 and 0; blind to length.

    Args:
        original: Embedding-block output of x, ``(batch, seq, hidden)``.
        virtual: The same of x', ``(batch, seq', hidden)``.
        original_mask: ``(batch, seq)``, 1 at real tokens.
        virtual_mask: ``(batch, seq')``.
        form: One of ``PUSH_FORMS``.
        margin: Mean squared distance at which the hinge lets go (``hinge`` alone).
        reduction: ``mean`` over the batch, or ``none``.

    Returns:
        A scalar, zero for equal sentences and negative otherwise (it is to be minimised); ``(batch,)`` with ``none``.

    Raises:
        XltError: Unknown form or reduction, or shapes that do not match.

    Relations:
        ``attention_pull`` keeps the structure that this loss moves. Alone, the published form can grow for ever.
    """
    if form not in PUSH_FORMS:
        raise unknown("push form", form, PUSH_FORMS)
    _check_mask("original", original, original_mask, original.shape[:2])
    _check_mask("virtual", virtual, virtual_mask, virtual.shape[:2])
    u, v = masked_mean(original, original_mask), masked_mean(virtual, virtual_mask)
    if form == "cosine":
        return _reduce(torch.cosine_similarity(u, v, dim=-1) - 1, reduction)
    distance = (u - v).square().mean(-1)
    if form == "hinge":
        return _reduce((margin - distance).clamp(min=0) - margin, reduction)
    return _reduce(-distance, reduction)


def attention_pull(
    original: Tensor,
    virtual: Tensor,
    original_mask: Tensor,
    virtual_mask: Tensor,
    form: str = "published",
    reduction: str = "mean",
) -> Tensor:
    """Pull the attention map of the virtual sentence towards the original's.

    - ``published``: mean of ``(A - A')^2`` over heads and all cells, padding included.
    - ``masked``: the same over cells whose query and key are real in both sentences.
    - ``row_kl``: ``KL(A[q] || A'[q])`` over those keys, rows made to sum to one, mean over heads and those queries.

    Args:
        original: Map of x, ``(batch, heads, seq, seq)``.
        virtual: Map of x', the same shape (the streams are padded together).
        original_mask: ``(batch, seq)``, 1 at real tokens.
        virtual_mask: ``(batch, seq)``.
        form: One of ``PULL_FORMS``. ``published`` is meant for maps after dropout, the others for maps before it.
        reduction: ``mean`` over the batch, or ``none``.

    Returns:
        A scalar, never negative; ``(batch,)`` with ``none``.

    Raises:
        XltError: Unknown form or reduction, or shapes that do not match.

    Relations:
        The published value falls as padding grows, because padded queries enter the mean; the others do not change.
    """
    if form not in PULL_FORMS:
        raise unknown("pull form", form, PULL_FORMS)
    if original.shape != virtual.shape:
        raise XltError(
            f"The attention maps have shapes {tuple(original.shape)} and {tuple(virtual.shape)}; "
            "pad both streams to one width before the forward."
        )
    _check_mask("original", original, original_mask, (original.shape[0], original.shape[-1]))
    _check_mask("virtual", virtual, virtual_mask, (virtual.shape[0], virtual.shape[-1]))
    if form == "published":
        return _reduce((original - virtual).square().mean((1, 2, 3)), reduction)
    real = original_mask.bool() & virtual_mask.bool()
    cells = (real[:, None, :, None] & real[:, None, None, :]).to(original.dtype)
    heads = original.shape[1]
    if form == "masked":
        total = ((original - virtual).square() * cells).sum((1, 2, 3))
        return _reduce(total / (heads * cells.sum((1, 2, 3))).clamp(min=1), reduction)
    p, q = (_rows(attention, cells) for attention in (original, virtual))
    rows = (p * (p.log() - q.log()) * cells).sum(-1)
    queries = real.sum(-1).to(original.dtype).clamp(min=1)
    return _reduce(rows.sum((1, 2)) / (heads * queries), reduction)


def _rows(attention: Tensor, cells: Tensor) -> Tensor:
    """Make each row a distribution over the real keys, its values bounded away from zero for the logarithm."""
    floor = torch.finfo(attention.dtype).tiny
    kept = attention * cells
    return (kept / kept.sum(-1, keepdim=True).clamp(min=floor)).clamp(min=floor**0.5)


def _check_mask(stream: str, values: Tensor, mask: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(mask.shape) != tuple(shape):
        raise XltError(
            f"The {stream} mask has shape {tuple(mask.shape)}, but values of shape {tuple(values.shape)} need "
            f"{tuple(shape)}, one entry per token."
        )


def _reduce(values: Tensor, reduction: str) -> Tensor:
    if reduction not in ("mean", "none"):
        raise unknown("reduction", reduction, ("mean", "none"))
    return values.mean() if reduction == "mean" else values
