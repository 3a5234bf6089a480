"""Every method on every kind of encoder: tiny random models of the architectures that readers bring."""

from __future__ import annotations

import warnings

import pytest
import torch
import transformers
from test_objectives import stacked
from test_taps import IN_THE_REGISTRY, OUTSIDE
from test_taps import tiny as encoder

from xlt_tutorial.encoders import Classifier
from xlt_tutorial.errors import XltError
from xlt_tutorial.objectives import EAR, METHODS, Vanilla, make_objective

# Who has them: Bert: mBERT, multilingual MiniLM and e5. XLMRoberta: XLM-R base and large. DebertaV2: mDeBERTa.
# ModernBert: mmBERT. RemBert, EuroBert, MT5Encoder, DistilBert, MPNet, Electra and XLM: encoders of their own names.
ARCHITECTURES = [*IN_THE_REGISTRY, *OUTSIDE]


@pytest.fixture(autouse=True)
def quiet():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has no SDPA attention")
        yield
    torch.set_num_threads(threads)


def learnt(model, objective, batch, steps=8):
    """Terms before and after some steps on one batch, without dropout, and the names of weights without a gradient."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    history, still = [], []
    for _ in range(steps):
        torch.manual_seed(0)
        terms = objective(model, batch)
        objective.total(terms).backward()
        still = [name for name, weight in model.named_parameters() if weight.grad is None]
        assert all(torch.isfinite(w.grad).all() for w in model.parameters() if w.grad is not None)
        optimizer.step()
        optimizer.zero_grad()
        history.append({name: value.item() for name, value in terms.items()})
    return history[0], history[-1], still


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_every_architecture(architecture, method):
    model = Classifier(encoder(architecture), 3, 0.0).train()
    objective = make_objective(method, **({"layer": 1} if method.startswith("ear") else {}))
    objective.check(model.encoder)
    first, last, still = learnt(model, objective, stacked())
    assert last["ce"] < first["ce"] - 0.05, "the batch is learnt"
    plain = learnt(Classifier(encoder(architecture), 3, 0.0).train(), Vanilla(1), half(stacked()), steps=1)[2]
    assert still == plain, "each weight that the encoder uses gets a gradient"
    if method == "ear":
        assert first["push"] < 0 < first["pull"]


def half(batch):
    rows = len(batch["labels"])
    return {name: value[:rows] for name, value in batch.items()}


def test_an_encoder_without_attention_is_told_before_training():
    """FNet mixes tokens by a Fourier transform: it can serve the push and the Robust target, not the pull."""
    shape = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "intermediate_size": 48}
    config = transformers.FNetConfig(**shape, max_position_embeddings=40, type_vocab_size=2, pad_token_id=1)
    torch.manual_seed(0)
    model = transformers.FNetModel(config)
    with pytest.raises(XltError, match=r"FNet.*attention.*pull=False"):
        EAR(layer=1).check(model)
    objective = EAR(layer=1, pull=False)
    objective.check(model)
    first, last, _ = learnt(Classifier(model, 3, 0.0).train(), objective, stacked())
    assert last["ce"] < first["ce"] and first["push"] < 0
