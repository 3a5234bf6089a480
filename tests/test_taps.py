"""Taps against the maps and hidden states that transformers itself hands out, on tiny random encoders."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import transformers

from xlt_tutorial import taps as taps_module
from xlt_tutorial.encoders import Classifier
from xlt_tutorial.errors import XltError
from xlt_tutorial.objectives import EAR
from xlt_tutorial.taps import taps

SHAPE = dict(
    vocab_size=60, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=40, pad_token_id=1,
)  # fmt: skip
SPECIALS = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
IN_THE_REGISTRY = {
    "Bert": SHAPE,
    "XLMRoberta": SHAPE,
    "Electra": SHAPE | {"embedding_size": 16},
    "ModernBert": SHAPE | SPECIALS | {"global_attn_every_n_layers": 2, "local_attention": 6},
    "EuroBert": SHAPE | SPECIALS | {"mask_token_id": 4, "num_key_value_heads": 2},  # grouped queries
    "DistilBert": {"vocab_size": 60, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48, "pad_token_id": 1},
    "MT5Encoder": {"vocab_size": 60, "d_model": 32, "num_layers": 3, "num_heads": 4, "d_kv": 8, "d_ff": 48},  # biases
}
OUTSIDE = {
    "DebertaV2": SHAPE | {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]},
    "RemBert": SHAPE | SPECIALS | {"input_embedding_size": 16},
    "MPNet": SHAPE | SPECIALS,
    "XLM": {"vocab_size": 60, "emb_dim": 32, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 40},
}
OUTSIDE["XLM"] |= {"pad_index": 1}


def tiny(name):
    config = getattr(transformers, name.removesuffix("Encoder") + "Config")(**(IN_THE_REGISTRY | OUTSIDE)[name])
    torch.manual_seed(0)
    return getattr(transformers, name + "Model")(config)


def rows():
    """Four rows of unequal length, the last two as short as a sentence can be."""
    mask = (torch.arange(9) < torch.tensor([9, 6, 2, 2])[:, None]).long()
    ids = torch.randint(5, 60, (4, 9), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids.masked_fill(mask == 0, 1), "attention_mask": mask}


@pytest.fixture
def quiet():
    """Without the note on the plain path, which has a test of its own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has no SDPA attention")
        yield


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", [*IN_THE_REGISTRY, *OUTSIDE])
def test_taps_read_what_the_model_hands_out(name):
    model, batch = tiny(name).eval(), rows()
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("eager")
    expected = plain(**batch, output_attentions=True, output_hidden_states=True)
    implementation = model.config._attn_implementation
    with taps(model, [2, 0], embeddings=True) as captured:
        states = model(**batch).last_hidden_state
    assert model.config._attn_implementation == implementation
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(captured.embeddings, expected.hidden_states[0])
    torch.testing.assert_close(states[real], expected.last_hidden_state[real], atol=1e-5, rtol=1e-5)
    assert sorted(captured.attention) == [0, 2]
    for layer in (0, 2):
        queries = real[:, None].expand(-1, 4, -1)
        for found in (captured.attention[layer].before_dropout, captured.attention[layer].after_dropout):
            torch.testing.assert_close(found[queries], expected.attentions[layer][queries], atol=1e-6, rtol=1e-5)
        to_padding = captured.attention[layer].before_dropout * ~real[:, None, None, :]
        assert to_padding[queries].abs().max().item() == 0
    with taps(model) as nothing:
        model(**batch)
    assert nothing.embeddings is None and not nothing.attention


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", [*IN_THE_REGISTRY, *OUTSIDE])
def test_dropout_stands_between_the_two_maps(name):
    """In training some cells of the second map are zero and the others are scaled up; the first still sums to one."""
    model, batch = tiny(name).train(), rows()
    for module in model.modules():
        for rate in ("attention_dropout", "attention_probs_dropout_prob", "dropout"):
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.25)
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.25
    with taps(model, [1]) as captured:
        model(**batch)
    before, after = captured.attention[1].before_dropout, captured.attention[1].after_dropout
    torch.testing.assert_close(before.sum(-1)[0], torch.ones(4, 9))
    open_cells = before[0] > 0  # a local layer closes some
    kept = after[0] != 0
    assert 0.5 < kept[open_cells].float().mean().item() < 0.95
    torch.testing.assert_close(after[0][kept], before[0][kept] / 0.75)


@pytest.mark.parametrize("name", OUTSIDE)
def test_outside_the_registry_ear_runs_the_plain_path_with_one_note(name, monkeypatch):
    monkeypatch.setattr(taps_module, "_noted", set())
    model = Classifier(tiny(name), 3, 0.0).eval()
    batch = rows() | {"labels": torch.tensor([0, 2])}
    with pytest.warns(UserWarning, match="no SDPA attention") as seen:
        terms = [EAR(layer=1, pull=form)(model, batch)["pull"] for form in ("published", "published", "masked")]
    assert len([one for one in seen if "no SDPA" in str(one.message)]) == 1
    plain = model.encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], output_attentions=True)
    first, second = plain.attentions[1].chunk(2)
    assert terms[0].item() == terms[1].item() == pytest.approx((first - second).square().mean().item(), rel=1e-5)
    terms[0].backward()
    gradient = model.encoder.get_input_embeddings().weight.grad
    assert gradient is not None and gradient.abs().max() > 0


@pytest.mark.parametrize("name", ["Bert", "DebertaV2"])
@pytest.mark.usefixtures("quiet")
def test_taps_leave_the_model_as_it_was_when_a_forward_fails(name):
    model, batch = tiny(name).eval(), rows()
    implementation, plain = model.config._attn_implementation, model(**batch).last_hidden_state
    with pytest.raises(IndexError), taps(model, [1], embeddings=True):
        model(input_ids=batch["input_ids"] + 60)
    with pytest.raises(RuntimeError, match="in the block"), taps(model, [1], embeddings=True):
        hook = model.encoder.layer[1].register_forward_pre_hook(
            lambda *_: (_ for _ in ()).throw(RuntimeError("in the block"))
        )
        try:
            model(**batch)
        finally:
            hook.remove()
    assert model.config._attn_implementation == implementation
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    torch.testing.assert_close(model(**batch).last_hidden_state, plain)
    assert not torch.overrides._get_current_function_mode_stack()


def test_errors_say_what_would_work():
    with pytest.raises(XltError, match=r"layers 0 to 2, not 5.*layer=2"), taps(tiny("Bert"), [5]):
        pass
    for options in ({"attention": [0]}, {"embeddings": True}):
        with (
            pytest.raises(XltError, match=r"Linear keeps no list of its .*blocks.*BERT"),
            taps(torch.nn.Linear(2, 2), **options),
        ):
            pass
