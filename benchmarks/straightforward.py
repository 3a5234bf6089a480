"""EAR written down as the formulas stand: what the package's objective is compared with.

Two forwards of 128 tokens in eager attention, every map and hidden state of every layer kept, float32, AdamW as torch
runs it when nothing is asked for. The losses are those of ``EAR.published`` (tests compare them).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xlt_tutorial.batching import Batch
from xlt_tutorial.encoders import Classifier

ALPHA, BETA, LAYER = 0.1, 1.0, 5


def forward(model: Classifier, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, the mean of the embedding output over real tokens, and the map of one layer."""
    out = model.encoder(input_ids=ids, attention_mask=mask, output_attentions=True, output_hidden_states=True)
    real = mask[:, :, None].float()
    pooled = (out.last_hidden_state * real).sum(1) / real.sum(1)
    embedded = (out.hidden_states[0] * real).sum(1) / real.sum(1)
    return model.head(model.dropout(pooled)), embedded, out.attentions[LAYER]


def loss(model: Classifier, batch: Batch) -> Tensor:
    """Return the loss of a stacked batch; the encoder has to be in eager attention."""
    (ids, virtual_ids), (mask, virtual_mask) = batch["input_ids"].chunk(2), batch["attention_mask"].chunk(2)
    logits, embedded, attention = forward(model, ids, mask)
    virtual_logits, virtual_embedded, virtual_attention = forward(model, virtual_ids, virtual_mask)
    entropy = nn.functional.cross_entropy(logits, batch["labels"])
    robust = nn.functional.cross_entropy(virtual_logits, batch["labels"])
    push = -nn.functional.mse_loss(embedded, virtual_embedded)
    pull = nn.functional.mse_loss(attention, virtual_attention)
    return entropy + robust + ALPHA * push + BETA * pull


def step(model: Classifier, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    """Take one step in eager attention and put the encoder's own attention back."""
    before = model.encoder.config._attn_implementation
    model.encoder.set_attn_implementation("eager")
    try:
        loss(model, batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    finally:
        model.encoder.set_attn_implementation(before)
