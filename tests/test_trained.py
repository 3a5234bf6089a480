"""Kept training runs: the same run is read, any other is trained, and a broken entry is trained again."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_run import tiny_encoder, tiny_folder, tiny_maker

from xlt_tutorial import trained as module
from xlt_tutorial.objectives import EAR, Vanilla
from xlt_tutorial.tasks import load_task
from xlt_tutorial.trained import trained
from xlt_tutorial.training import Recipe

RECIPE = Recipe(epochs=1, batch_size=16, select="source", share_every=2)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XLT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def task(tmp_path):
    return load_task(tiny_folder(tmp_path / "task"))


@pytest.fixture
def trainings(monkeypatch):
    """Count the calls of ``train``."""
    seen, plain = [], module.train
    monkeypatch.setattr(module, "train", lambda *a, **k: seen.append(1) or plain(*a, **k))
    return seen


def run(task, objective=None, recipe=RECIPE, encoder=None, maker=None, **more):
    return trained(task, encoder or tiny_encoder(), objective or Vanilla(1), maker, recipe, progress=False, **more)


def test_the_second_run_is_the_first(task, trainings):
    first, second = run(task, oracle=True), run(task, oracle=True)
    assert len(trainings) == 1
    weights, others = first.model.state_dict(), second.model.state_dict()
    assert weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)
    for name in ("history", "settings", "selected", "oracle", "seconds", "epochs", "main"):
        assert getattr(second, name) == getattr(first, name), name
    assert second.shares() == first.shares()
    assert not second.model.training and second.encoder.model is second.model.encoder
    ids = torch.tensor([[2, 5, 6, 3]])
    assert torch.equal(first.model(ids, torch.ones_like(ids)), second.model(ids, torch.ones_like(ids)))


def test_the_given_encoder_is_left_as_it_was(task):
    encoder = tiny_encoder()
    before = {name: value.clone() for name, value in encoder.model.state_dict().items()}
    run(task, encoder=encoder)
    read = run(task, encoder=encoder)
    assert all(torch.equal(value, before[name]) for name, value in encoder.model.state_dict().items())
    assert any(not torch.equal(v, before[k]) for k, v in read.encoder.model.state_dict().items())


def test_every_setting_has_its_own_run(task, trainings, tmp_path):
    encoder = tiny_encoder()
    with torch.no_grad():
        encoder.model.embeddings.word_embeddings.weight[7, 0] += 0.5
    swap = tiny_maker(tmp_path / "task")
    ear = EAR(layer=1)
    variants = [
        {}, {"recipe": replace(RECIPE, learning_rate=2e-4)}, {"seed": 1}, {"objective": Vanilla(2)},
        {"encoder": encoder}, {"objective": ear, "maker": swap}, {"objective": ear, "maker": replace(swap, rate=0.9)},
        {"task": load_task(changed(tmp_path))},
    ]  # fmt: skip
    for variant in variants:
        run(**({"task": task} | variant))
    assert len(trainings) == len(variants)
    run(task, objective=ear, maker=swap)
    assert len(trainings) == len(variants)


def changed(tmp_path):
    folder = tiny_folder(tmp_path / "other")
    path = folder / "train.en.tsv"
    path.write_text(path.read_text().replace("first\n", "second\n", 1))
    return folder


def test_a_run_with_its_oracle_serves_where_none_was_asked_for(task, trainings):
    with_oracle = run(task, oracle=True)
    without = run(task)
    assert len(trainings) == 1 and without.oracle == with_oracle.oracle
    run(task, seed=1)
    assert run(task, seed=1, oracle=True).oracle is not None
    assert len(trainings) == 3, "but not the other way round"


def test_a_broken_entry_is_trained_again(task, trainings, cache):
    first = run(task)
    (path,) = cache.rglob("model.safetensors")
    path.write_bytes(path.read_bytes()[:-3])
    again = run(task)
    assert len(trainings) == 2
    assert all(torch.equal(v, first.model.state_dict()[k]) for k, v in again.model.state_dict().items())
    run(task)
    assert len(trainings) == 2


def test_a_cache_that_cannot_be_written_costs_only_the_keeping(task, trainings, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XLT_CACHE", str(tmp_path / "file" / "below"))
    run(task)
    run(task)
    assert len(trainings) == 2
