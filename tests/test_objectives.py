"""Taps and objectives against two plain forwards with every map of every layer, on tiny random encoders."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel, XLMRobertaConfig, XLMRobertaModel

from xlt_tutorial.encoders import Classifier
from xlt_tutorial.errors import XltError
from xlt_tutorial.objectives import EAR, Objective, Vanilla, make_objective
from xlt_tutorial.taps import embedding_noise

ARCHITECTURES = ("bert", "xlmr", "modernbert")
PAD = 1


def tiny(architecture, dropout=0.0):
    shape = dict(
        vocab_size=60, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=40, pad_token_id=PAD, attn_implementation="sdpa",
    )  # fmt: skip
    torch.manual_seed(0)
    if architecture == "modernbert":  # layers 0 and 2 attend globally, layer 1 to three tokens on either side
        config = ModernBertConfig(
            **shape, global_attn_every_n_layers=2, local_attention=6, attention_dropout=dropout, mlp_dropout=dropout,
            embedding_dropout=dropout, bos_token_id=2, cls_token_id=2, eos_token_id=3, sep_token_id=3,
        )  # fmt: skip
        encoder = ModernBertModel(config)
    else:
        config_class, model_class = {"bert": (BertConfig, BertModel), "xlmr": (XLMRobertaConfig, XLMRobertaModel)}[
            architecture
        ]
        config = config_class(**shape, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
        encoder = model_class(config, add_pooling_layer=False)
    model = Classifier(encoder, 3, dropout)
    torch.nn.init.normal_(model.head.weight, std=0.2)  # logits far enough apart to tell classes
    return model.train()


def stacked(lengths=((7, 7), (4, 5), (9, 6)), width=9):
    """A batch of three originals and their virtual rows, of unequal lengths."""
    generator = torch.Generator().manual_seed(1)
    sizes = [a for a, _ in lengths] + [b for _, b in lengths]
    ids = torch.full((len(sizes), width), PAD)
    mask = torch.zeros_like(ids)
    for i, size in enumerate(sizes):
        ids[i, :size] = torch.randint(4, 60, (size,), generator=generator)
        mask[i, :size] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([0, 2, 1])[: len(lengths)]}


def plain_forward(model, ids, mask, layer):
    """One stream, eager, keeping everything: logits, embedding output, one map."""
    encoder = model.encoder
    encoder.set_attn_implementation("eager")
    out = encoder(input_ids=ids, attention_mask=mask, output_attentions=True, output_hidden_states=True)
    encoder.set_attn_implementation("sdpa")
    vectors = []
    for row, real in zip(out.last_hidden_state, mask, strict=True):
        vectors.append(row[real.bool()].mean(0))
    logits = model.head(torch.stack(vectors))
    return logits, out.hidden_states[0], out.attentions[layer]


def plain_loss(model, batch, alpha, beta, layer):
    """DESIGN's formula on two separate forwards, in terms of means written out for this test."""
    half = len(batch["labels"])
    first = plain_forward(model, batch["input_ids"][:half], batch["attention_mask"][:half], layer)
    second = plain_forward(model, batch["input_ids"][half:], batch["attention_mask"][half:], layer)
    pooled = []
    for hidden, mask in ((first[1], batch["attention_mask"][:half]), (second[1], batch["attention_mask"][half:])):
        pooled.append(torch.stack([row[real.bool()].mean(0) for row, real in zip(hidden, mask, strict=True)]))
    picked = torch.arange(half), batch["labels"]
    terms = {
        "ce": -first[0].log_softmax(-1)[picked].mean(),
        "robust": -second[0].log_softmax(-1)[picked].mean(),
        "push": -((pooled[0] - pooled[1]) ** 2).mean(),
        "pull": ((first[2] - second[2]) ** 2).mean(),
    }
    return terms, terms["ce"] + terms["robust"] + alpha * terms["push"] + beta * terms["pull"]


BATCHES = {
    "unequal rows": {},
    "a batch of one": {"lengths": ((7, 5),)},
    "rows of two tokens": {"lengths": ((2, 2),) * 3, "width": 2},
    "rows of two tokens among padding": {"lengths": ((2, 2), (2, 2)), "width": 9},
    "rows at the encoder's maximum": {"lengths": ((38, 38), (38, 5)), "width": 38},
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("rows", BATCHES)
def test_ear_equals_two_eager_forwards(architecture, layer, rows):
    model, batch = tiny(architecture), stacked(**BATCHES[rows])
    other = copy.deepcopy(model)
    objective = EAR(alpha=0.7, beta=3.0, layer=layer)
    terms = objective(model, batch)
    objective.total(terms).backward()
    expected, loss = plain_loss(other, batch, 0.7, 3.0, layer)
    loss.backward()
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), abs=1e-6), name
    assert objective.total(terms).item() == pytest.approx(loss.item(), abs=1e-6)
    for (name, weight), reference in zip(model.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, reference.grad, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_forms_that_ignore_padding_end_to_end(architecture):
    model, narrow, wide = tiny(architecture), stacked(width=9), stacked(width=17)
    objective = EAR(push="hinge", pull="row_kl", layer=1)
    for name, value in objective(model, narrow).items():
        assert objective(model, wide)[name].item() == pytest.approx(value.item(), abs=1e-6), name
    published = EAR(layer=1)
    assert published(model, wide)["pull"].item() != pytest.approx(published(model, narrow)["pull"].item(), rel=0.05)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("pull", ["published", "masked", "row_kl"])
def test_order_of_the_batch_does_not_matter_end_to_end(architecture, pull):
    model, batch = tiny(architecture), stacked()
    order = torch.tensor([2, 0, 1])
    both = torch.cat([order, order + 3])
    turned = {"labels": batch["labels"][order]}
    turned |= {key: batch[key][both] for key in ("input_ids", "attention_mask")}
    objective = EAR(pull=pull, layer=1)
    for name, value in objective(model, batch).items():
        assert objective(model, turned)[name].item() == pytest.approx(value.item(), abs=1e-6), name


SUBSETS = [(push, pull, robust) for push in (0, 1) for pull in (0, 1) for robust in (0, 1)]


@pytest.mark.parametrize(("push", "pull", "robust"), SUBSETS)
def test_any_subset_of_the_terms(push, pull, robust):
    model, batch = tiny("bert"), stacked()
    objective = EAR(push=bool(push), pull=bool(pull), robust=bool(robust), alpha=0.1, beta=1.0, layer=1)
    terms = objective(model, batch)
    expected = {"ce": 1.0} | ({"robust": 1.0} if robust else {}) | ({"push": 0.1} if push else {})
    expected |= {"pull": 1.0} if pull else {}
    if not (push or pull or robust):
        expected["second_pass"] = 1.0
        assert objective.name == Vanilla(passes=2).name and not objective.virtual
    assert objective.weights == expected and set(terms) == set(expected)
    by_hand = sum(expected[name] * value.item() for name, value in terms.items())
    assert objective.total(terms).item() == pytest.approx(by_hand, abs=1e-6)


def test_vanilla_with_two_passes_draws_two_dropout_masks():
    model = tiny("bert", dropout=0.3)
    half = stacked()
    half = {key: value[:3] for key, value in half.items()}
    twice = {key: torch.cat([half[key]] * 2) for key in ("input_ids", "attention_mask")} | {"labels": half["labels"]}
    torch.manual_seed(5)
    terms = Vanilla(passes=2)(model, twice)
    assert terms["ce"].item() != terms["second_pass"].item()
    torch.manual_seed(5)
    empty = EAR(push=False, pull=False, robust=False)(model, twice)
    assert {name: value.item() for name, value in empty.items()} == {k: v.item() for k, v in terms.items()}
    model.eval()
    terms = Vanilla(passes=2)(model, twice)
    assert terms["ce"].item() == pytest.approx(terms["second_pass"].item(), abs=1e-6)
    assert Vanilla(passes=1)(model, half)["ce"].item() == pytest.approx(terms["ce"].item(), abs=1e-6)


def test_published_reads_the_map_after_dropout_and_other_forms_before():
    model, batch = tiny("bert", dropout=0.5), stacked()
    same = {"input_ids": torch.cat([batch["input_ids"][:3]] * 2), "labels": batch["labels"]}
    same["attention_mask"] = torch.cat([batch["attention_mask"][:3]] * 2)
    # Layer 0 sees embeddings with dropout; without that, the maps before dropout are equal and those after are not.
    model.encoder.embeddings.dropout.p = 0.0
    assert EAR(pull="masked", layer=0)(model, same)["pull"].item() == pytest.approx(0, abs=1e-9)
    assert EAR(pull="published", layer=0)(model, same)["pull"].item() > 1e-3


def test_noise_that_reaches_nothing_is_an_error():
    encoder = tiny("bert").encoder
    batch = {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.ones(1, 2, dtype=torch.long)}
    names = type(encoder).get_input_embeddings
    type(encoder).get_input_embeddings = lambda self: torch.nn.Embedding(60, 32)  # not the one that is looked into
    try:
        with pytest.raises(XltError, match="BertModel does not look its words up"):
            with embedding_noise(encoder, torch.ones(1, 2, 32)):
                encoder(**batch)
    finally:
        type(encoder).get_input_embeddings = names


def test_published_preset_has_the_papers_settings():
    preset = EAR.published(copies=3)
    assert preset.weights == {"ce": 1.0, "robust": 1.0, "push": 0.1, "pull": 1.0}
    assert (preset.layer, preset.copies, preset.pad_to, preset.push, preset.pull) == (
        5,
        3,
        128,
        "published",
        "published",
    )


def test_embedding_noise_moves_the_rows_it_is_given():
    model, batch = tiny("bert").eval(), stacked()
    noise = torch.zeros(6, 9, 32)
    noise[3:] = torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(2))
    inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
    with torch.no_grad():
        words = model.encoder.get_input_embeddings()(batch["input_ids"])
        with embedding_noise(model.encoder, noise):
            moved = model.encoder.get_input_embeddings()(batch["input_ids"])
            noisy = model(**inputs)
        torch.testing.assert_close(moved, words + noise)
        plain = model(**inputs)
        terms = EAR(layer=1)(model, batch | {"noise": noise})
    torch.testing.assert_close(noisy[:3], plain[:3])
    assert (noisy[3:] - plain[3:]).abs().max() > 1e-3
    expected = torch.nn.functional.cross_entropy(noisy[3:], batch["labels"])
    assert terms["robust"].item() == pytest.approx(expected.item(), abs=1e-6)


def test_errors_say_what_would_work():
    model, batch = tiny("bert"), stacked()
    with pytest.raises(XltError, match=r"layers 0 to 2, not 5.*layer=2"):
        EAR(layer=5)(model, batch)
    with pytest.raises(XltError, match=r'Unknown method "eer".*Did you mean "ear"'):
        make_objective("eer")
    with pytest.raises(XltError, match="push form"):
        EAR(push="bounded")
    with pytest.raises(XltError, match="copies is 0"):
        EAR(copies=0)
    with pytest.raises(XltError, match="passes"):
        Vanilla(passes=3)
    assert isinstance(make_objective("vanilla"), Objective) and make_objective("vanilla").streams == 2
