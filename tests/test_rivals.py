"""The rivals of EAR, each against its formula written out, on tiny random encoders."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from test_objectives import ARCHITECTURES, stacked, tiny
from tiny_run import tiny_encoder, tiny_folder, tiny_maker, tiny_train

from xlt_tutorial.errors import XltError
from xlt_tutorial.objectives import (
    EAR,
    METHODS,
    RSDA,
    RSRP,
    Adversarial,
    NormalisedEAR,
    RDrop,
    Vanilla,
    make_objective,
)
from xlt_tutorial.taps import embedding_noise
from xlt_tutorial.tasks import load_task
from xlt_tutorial.training import Recipe, gradient_norms, train


def repeated():
    """A batch whose second stream repeats the first."""
    batch = stacked()
    return {key: torch.cat([batch[key][:3]] * 2) for key in ("input_ids", "attention_mask")} | {
        "labels": batch["labels"]
    }


def entropy(logits, labels):
    return -logits.log_softmax(-1)[torch.arange(len(labels)), labels].mean()


def halves(batch):
    return {key: batch[key][:3] for key in ("input_ids", "attention_mask")}


def mean_norm(model, batch):
    """Mean norm of the word embeddings of the real tokens, token by token."""
    table = model.encoder.get_input_embeddings().weight
    norms = [
        table[token].norm().item()
        for ids, mask in zip(batch["input_ids"][:3], batch["attention_mask"][:3], strict=True)
        for token, real in zip(ids, mask, strict=True)
        if real
    ]
    return sum(norms) / len(norms)


@pytest.fixture
def noises(monkeypatch):
    """Keep what is added to the embeddings in each forward."""
    from xlt_tutorial import objectives

    kept = []

    def spy(model, noise):
        kept.append(None if noise is None else noise.detach().clone())
        return embedding_noise(model, noise)

    monkeypatch.setattr(objectives, "embedding_noise", spy)
    return kept


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rsda_is_the_robust_target_alone(architecture):
    model, batch = tiny(architecture), stacked()
    terms = RSDA()(model, batch)
    assert list(terms) == ["ce", "robust"] and RSDA().weights == {"ce": 1.0, "robust": 1.0}
    for part, name in ((slice(0, 3), "ce"), (slice(3, 6), "robust")):
        logits = model(batch["input_ids"][part], batch["attention_mask"][part])
        assert terms[name].item() == pytest.approx(entropy(logits, batch["labels"]).item(), abs=1e-6)
    ear = EAR(push=False, pull=False)(model, batch)
    assert {k: v.item() for k, v in ear.items()} == {k: v.item() for k, v in terms.items()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rsrp_moves_each_real_token_inside_the_ball(architecture, noises):
    model, batch = tiny(architecture), repeated()
    torch.manual_seed(3)
    terms = RSRP(radius=0.5)(model, batch)
    (noise,) = noises
    radius = 0.5 * mean_norm(model, batch)
    lengths = noise.norm(dim=-1)
    real = batch["attention_mask"][:3].bool()
    assert lengths[:3].abs().max() == 0, "the original stream is not moved"
    assert lengths[3:][~real].abs().max() == 0, "nor is padding"
    assert 0 < lengths[3:][real].min() and lengths[3:][real].max() <= radius * (1 + 1e-5)
    plain = entropy(model(**halves(batch)), batch["labels"])
    with embedding_noise(model.encoder, noise[3:]):
        moved = entropy(model(**halves(batch)), batch["labels"])
    assert terms["ce"].item() == pytest.approx(plain.item(), abs=1e-6)
    assert terms["robust"].item() == pytest.approx(moved.item(), abs=1e-6)
    assert terms["robust"].item() != pytest.approx(plain.item(), abs=1e-4)


def test_rsrp_is_uniform_in_the_ball(noises):
    """In 32 dimensions a uniform point's length over the radius has mean 32/33, and its directions average out."""
    model = tiny("bert")
    batch = {
        "input_ids": torch.randint(4, 60, (200, 9)).repeat(2, 1),
        "attention_mask": torch.ones(400, 9, dtype=torch.long),
        "labels": torch.zeros(200, dtype=torch.long),
    }
    torch.manual_seed(0)
    RSRP(radius=1.0)(model, batch)
    table = model.encoder.get_input_embeddings().weight
    radius = table[batch["input_ids"][:200]].norm(dim=-1).mean()
    points = (noises[0][200:] / radius).reshape(-1, 32)
    assert points.norm(dim=-1).mean().item() == pytest.approx(32 / 33, abs=0.003)
    assert points.mean(0).abs().max().item() < 0.02


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("steps", [1, 3])
def test_adversarial_is_projected_ascent(architecture, steps, noises):
    model, batch = tiny(architecture), repeated()
    objective = Adversarial(radius=0.3, steps=steps, rate=0.7)
    torch.manual_seed(5)
    terms = objective(model, batch)
    start, final = noises[0], noises[-1]
    assert len(noises) == steps + 1 and objective.forwards == steps + 2
    radius, words = 0.3 * mean_norm(model, batch), model.encoder.get_input_embeddings()
    move = start.clone()
    for _ in range(steps):  # the ascent by hand: token by token, on a copy of the embeddings
        other = copy.deepcopy(model)
        embedded = (words(batch["input_ids"][:3]) + move).detach().requires_grad_(True)
        other.encoder.get_input_embeddings().register_forward_hook(lambda *_, e=embedded: e)
        entropy(other(**halves(batch)), batch["labels"]).backward()
        for row in range(3):
            for place in range(9):
                if not batch["attention_mask"][row, place]:
                    continue
                gradient = embedded.grad[row, place]
                risen = move[row, place] + 0.7 * radius * gradient / gradient.norm()
                move[row, place] = risen if risen.norm() <= radius else risen * radius / risen.norm()
    torch.testing.assert_close(final[3:], move, atol=1e-5, rtol=1e-3)
    assert final[:3].abs().max() == 0
    plain = entropy(model(**halves(batch)), batch["labels"]).item()
    assert terms["ce"].item() == pytest.approx(plain, abs=1e-6)
    assert terms["robust"].item() > plain, "ascent must raise the loss"


def test_the_ascent_leaves_no_gradient_behind():
    model, batch = tiny("bert"), repeated()
    objective = Adversarial(radius=0.3, steps=2)
    objective.total(objective(model, batch))
    assert all(weight.grad is None for weight in model.parameters())


def test_no_step_of_ascent_is_random_perturbation():
    model, batch = tiny("bert"), repeated()
    torch.manual_seed(7)
    first = RSRP(0.2)(model, batch)
    torch.manual_seed(7)
    second = Adversarial(0.2, steps=0)(model, batch)
    assert {k: v.item() for k, v in first.items()} == {k: v.item() for k, v in second.items()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rdrop_is_two_passes_and_their_divergence(architecture):
    model, batch = tiny(architecture, dropout=0.3), repeated()
    torch.manual_seed(11)
    terms = RDrop(alpha=0.7)(model, batch)
    torch.manual_seed(11)
    logits = model(batch["input_ids"], batch["attention_mask"])
    p, q = (part.softmax(-1).double() for part in logits.detach().chunk(2))
    divergence = 0.0
    for first, second in zip(p.tolist(), q.tolist(), strict=True):
        there = sum(a * math.log(a / b) for a, b in zip(first, second, strict=True))
        back = sum(b * math.log(b / a) for a, b in zip(first, second, strict=True))
        divergence += (there + back) / 2 / 3
    assert terms["kl"].item() == pytest.approx(divergence, rel=1e-4) and divergence > 1e-3
    torch.manual_seed(11)
    vanilla = Vanilla(passes=2)(model, batch)
    assert [terms[k].item() for k in ("ce", "second_pass")] == [v.item() for v in vanilla.values()]
    total = RDrop(alpha=0.7).total(terms).item()
    assert total == pytest.approx(sum(v.item() for v in vanilla.values()) + 0.7 * divergence, rel=1e-5)
    model.eval()
    assert RDrop()(model, batch)["kl"].item() == pytest.approx(0, abs=1e-7)


def test_consistency_is_the_divergence_of_the_two_streams():
    model, batch = tiny("bert"), stacked()
    objective = EAR(push=False, pull=False, consistency=0.4)
    assert objective.name == "ear-R-kl" and objective.weights == {"ce": 1.0, "robust": 1.0, "kl": 0.4}
    terms = objective(model, batch)
    p, q = (
        model(batch["input_ids"][part], batch["attention_mask"][part]).softmax(-1) for part in (slice(3), slice(3, 6))
    )
    by_hand = torch.nn.functional.kl_div(q.log(), p, reduction="batchmean")
    by_hand = (by_hand + torch.nn.functional.kl_div(p.log(), q, reduction="batchmean")) / 2
    assert terms["kl"].item() == pytest.approx(by_hand.item(), rel=1e-4) and by_hand > 1e-4
    assert EAR(push=False, pull=False, robust=False, consistency=1.0).virtual
    with pytest.raises(XltError, match="consistency is -1"):
        EAR(consistency=-1)


def test_normalised_weights_give_the_shares_asked_for():
    model, batch = tiny("bert"), stacked()
    objective = NormalisedEAR({"push": 0.2, "pull": 0.3}, layer=1)
    terms = objective(model, batch)
    objective.adapt(gradient_norms(model, terms))
    weights, norms = objective.current_weights(), {}
    for name, value in terms.items():  # by hand, one term at a time
        model.zero_grad()
        (weights[name] * value).backward(retain_graph=True)
        norms[name] = math.sqrt(sum(float((w.grad**2).sum()) for w in model.parameters() if w.grad is not None))
    whole = sum(norms.values())
    assert norms["push"] / whole == pytest.approx(0.2, rel=1e-4)
    assert norms["pull"] / whole == pytest.approx(0.3, rel=1e-4)
    assert objective.weights == EAR(layer=1).weights, "what was set is kept apart from what is measured"
    expected = sum(weights[name] * value.item() for name, value in terms.items())
    assert objective.total(terms).item() == pytest.approx(expected, rel=1e-5)


def test_normalised_norms_are_averaged_and_weights_limited():
    objective = NormalisedEAR({"push": 0.5}, limit=50.0)
    assert objective.name == "ear-normalised-ER" and "pull" not in objective.weights
    objective.adapt({"ce": 1.0, "robust": 1.0, "push": 0.1})
    assert objective.current_weights()["push"] == pytest.approx(0.5 / 0.5 * 2.0 / 0.1)
    objective.adapt({"ce": 3.0, "robust": 1.0, "push": 0.2})
    assert objective.current_weights()["push"] == pytest.approx((0.9 + 0.3 + 1.0) / (0.09 + 0.02))
    objective.adapt({"ce": 1.0, "robust": 1.0, "push": 0.0})
    again = NormalisedEAR({"push": 0.5}, limit=50.0)
    again.restore(json.loads(json.dumps(objective.state())))
    assert again.current_weights() == objective.current_weights() and again.state() == objective.state()
    for _ in range(60):
        objective.adapt({"ce": 1.0, "robust": 1.0, "push": 0.0})
    assert objective.current_weights()["push"] == 50.0


def test_normalised_training_holds_its_shares_and_resumes_to_the_bit(tmp_path):
    recipe = Recipe(epochs=3, batch_size=8, checkpoint_every=2, share_every=2)
    run = tiny_train(tmp_path / "a", NormalisedEAR(layer=1, copies=2), recipe=recipe)
    shares = run.shares()
    assert shares["push"] == pytest.approx(0.1, abs=0.04) and shares["pull"] == pytest.approx(0.1, abs=0.04)
    assert all("weights" in row for row in run.history)
    assert run.settings["objective"]["shares"] == {"push": 0.1, "pull": 0.1}
    assert not any(key.startswith("_") for key in run.settings["objective"])

    class Stops(NormalisedEAR):
        def __call__(self, model, batch):
            Stops.steps += 1
            if Stops.steps > 21:
                raise KeyboardInterrupt
            return super().__call__(model, batch)

    Stops.steps = 0
    out = tmp_path / "b" / "run"
    with pytest.raises(KeyboardInterrupt):
        tiny_train(tmp_path / "b", Stops(layer=1, copies=2), recipe=recipe, out=out)
    resumed = tiny_train(tmp_path / "b", NormalisedEAR(layer=1, copies=2), recipe=recipe, out=out, resume=True)
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in run.history]
    for name, weight in run.model.state_dict().items():
        assert torch.equal(weight, resumed.model.state_dict()[name]), name


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_the_same_steps(tmp_path, method):
    options = {"layer": 1} if method.startswith("ear") else {}
    task = load_task(tiny_folder(tmp_path / "task"))
    objective = make_objective(method, **options)
    recipe = Recipe(epochs=8, batch_size=8, learning_rate=3e-3, share_every=2)
    run = train(task, tiny_encoder(), objective, tiny_maker(tmp_path / "task"), recipe, progress=False)
    assert objective.streams == 2 and len(run.history) == 48
    assert objective.forwards == (3 if method == "adversarial" else 2)
    first, last = (sum(row["terms"]["ce"] for row in rows) / 6 for rows in (run.history[:6], run.history[-6:]))
    assert last < 0.8 * first
    assert make_objective(method, **options).name == objective.name


def test_errors_say_what_would_work(tmp_path):
    with pytest.raises(XltError, match=r'Unknown term "robust".*push, pull'):
        NormalisedEAR({"robust": 0.1})
    for shares in ({"push": 0.0}, {"push": 0.5, "pull": 0.5}, {"push": -0.1}):
        with pytest.raises(XltError, match="each must be above 0, and together"):
            NormalisedEAR(shares)
    with pytest.raises(XltError, match="radius is 0"):
        RSRP(0)
    with pytest.raises(XltError, match="steps is -1"):
        Adversarial(steps=-1)
    with pytest.raises(XltError, match="alpha is 0"):
        RDrop(0)
    with pytest.raises(XltError, match=r"rdrop: .*radius.*docstring"):
        make_objective("rdrop", radius=1)
    with pytest.raises(XltError, match=r"Recipe\(share_every=10\)"):
        tiny_train(tmp_path, NormalisedEAR(layer=1), recipe=Recipe(share_every=0))
