"""The cache of vectors and maps: what is kept is what would be computed, and nothing else is ever served."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from tiny_run import tiny_encoder, tiny_folder

from xlt_tutorial import alignment, caching
from xlt_tutorial.alignment import sentence_vectors
from xlt_tutorial.batching import encode_rows, encoded_parts
from xlt_tutorial.caching import cached, content_hash, model_hash
from xlt_tutorial.evaluation import evaluate
from xlt_tutorial.objectives import Vanilla
from xlt_tutorial.projection import project, project_aligned
from xlt_tutorial.tasks import load_task
from xlt_tutorial.training import Recipe, train


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XLT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def task(tmp_path):
    return load_task(tiny_folder(tmp_path / "task"))


@pytest.fixture
def forwards(monkeypatch):
    """Count the forwards of ``sentence_vectors``."""
    seen, plain = [], alignment.pooled_layers
    monkeypatch.setattr(alignment, "pooled_layers", lambda *a: seen.append(1) or plain(*a))
    return seen


def clouds(seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    return {language: rng.normal(size=(20, 6)) + shift for language in ("en", "de")}


def same(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)


def test_vectors_are_computed_once(task, forwards):
    encoder = tiny_encoder()
    first = sentence_vectors(encoder.model, encoder.tokenizer, task)
    counted = len(forwards)
    assert counted > 0
    assert same(sentence_vectors(encoder.model, encoder.tokenizer, task), first)
    assert same(sentence_vectors(copy.deepcopy(encoder.model), encoder.tokenizer, task), first)
    assert len(forwards) == counted


def changed_weight(encoder):
    with torch.no_grad():
        encoder.model.encoder.layer[1].output.dense.bias[3] += 1e-6


def changed_setting(encoder):
    encoder.model.config.layer_norm_eps = 1e-5


@pytest.mark.parametrize("change", [changed_weight, changed_setting])
def test_another_model_is_another_entry(task, forwards, change):
    encoder = tiny_encoder()
    before, counted = model_hash(encoder.model), 0
    sentence_vectors(encoder.model, encoder.tokenizer, task)
    counted = len(forwards)
    change(encoder)
    assert model_hash(encoder.model) != before
    sentence_vectors(encoder.model, encoder.tokenizer, task)
    assert len(forwards) == 2 * counted


def test_texts_layers_and_cuts_are_part_of_the_key(tmp_path, task, forwards):
    encoder = tiny_encoder()
    whole = sentence_vectors(encoder.model, encoder.tokenizer, task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cut = sentence_vectors(encoder.model, encoder.tokenizer, task, max_length=3)
    assert not np.allclose(cut["en"], whole["en"])
    one = sentence_vectors(encoder.model, encoder.tokenizer, task, layers=[1])
    np.testing.assert_array_equal(one["en"][0], whole["en"][1])
    path = tmp_path / "task" / "test.xx.tsv"
    path.write_text(path.read_text().replace("bara", "deso", 1))
    counted = len(forwards)
    other = sentence_vectors(encoder.model, encoder.tokenizer, load_task(tmp_path / "task"))
    assert len(forwards) == counted + 1, "the changed language alone is encoded again"
    assert np.array_equal(other["en"], whole["en"]) and not np.array_equal(other["xx"], whole["xx"])


def test_a_cut_is_told_on_a_hit_too(task):
    encoder = tiny_encoder()
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"\d+ of 12 sequences are longer than 3 tokens and were cut") as seen:
            sentence_vectors(encoder.model, encoder.tokenizer, task, max_length=3)
        assert len([one for one in seen if "were cut" in str(one.message)]) == 2, "once for each language"


@pytest.mark.parametrize("aligned", [False, True])
def test_a_map_is_computed_once_and_then_needs_no_umap(aligned, monkeypatch):
    def draw(seed=0, shift=0.0):
        if aligned:
            return np.concatenate(project_aligned(clouds(1), clouds(2, shift), seed=seed))
        return project(clouds(1, shift), seed=seed)

    first = draw()
    monkeypatch.setitem(sys.modules, "umap", None)  # from here on, `import umap` fails
    np.testing.assert_array_equal(draw(), first)
    for other in ({"seed": 1}, {"shift": 0.1}):
        with pytest.raises(ImportError):
            draw(**other)


def test_a_process_that_only_reads_a_map_stays_light():
    code = (
        "import sys, numpy as np\nfrom xlt_tutorial.projection import project\n"
        "rng = np.random.default_rng(0)\nv = {t: rng.normal(size=(20, 6)) for t in ('en', 'de')}\n"
        "print(project(v).sum(), 'umap' in sys.modules)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    (first, loaded), (second, again) = (run.stdout.split() for run in runs)
    assert first == second and (loaded, again) == ("True", "False")


@pytest.mark.parametrize("damage", ["changed", "cut short", "gone"])
def test_a_damaged_entry_is_computed_again(cache, damage):
    key, calls = content_hash(["x"]), []

    def compute():
        calls.append(1)
        return np.arange(6.0).reshape(2, 3)

    cached("vectors", key, compute)
    file = cache / "vectors" / key / "array.npy"
    if damage == "gone":
        file.unlink()
    else:
        whole = file.read_bytes()
        file.write_bytes(whole[:-5] if damage == "cut short" else whole[:-1] + b"\x01")
    for _ in range(2):
        np.testing.assert_array_equal(cached("vectors", key, compute), np.arange(6.0).reshape(2, 3))
    assert len(calls) == 2


def test_a_failed_computation_leaves_nothing(cache):
    with pytest.raises(ZeroDivisionError):
        cached("vectors", "key", lambda: 1 / 0)
    assert not cache.exists() or not list((cache / "vectors").iterdir())


def test_a_cache_that_cannot_be_written_costs_only_the_keeping(cache):
    cache.write_text("a file is in the way")
    for _ in range(2):
        assert cached("vectors", "key", lambda: np.ones(3)).sum() == 3


def test_the_entries_unused_for_longest_make_room(cache, monkeypatch):
    monkeypatch.setattr(caching, "LIMIT", 3 * 8300)  # three arrays of 1,000 float64 with their sums
    for i, name in enumerate("abc"):
        cached("vectors", name, lambda: np.zeros(1000))
        os.utime(cache / "vectors" / name, (1000 + i, 1000 + i))
    cached("vectors", "a", lambda: pytest.fail("a is kept"))
    cached("vectors", "d", lambda: np.zeros(1000))
    assert sorted(path.name for path in (cache / "vectors").iterdir()) == ["a", "c", "d"]


def test_hashes_tell_types_and_shapes_apart():
    zeros = np.zeros(4, dtype=np.float32)
    parts = [[zeros], [zeros.reshape(2, 2)], [zeros.view(np.int32)], ["a", "b"], ["ab"], [1], ["1"], [(1, 2)], [1, 2]]
    assert len({content_hash(part) for part in parts}) == len(parts)


def test_parts_hold_what_the_whole_holds(task):
    encoder = tiny_encoder()
    train_split = task["train"]["en"]
    with pytest.warns(UserWarning, match=r"of 48 sequences are longer than 4 tokens") as seen:
        parts = list(encoded_parts(encoder.tokenizer, train_split, ("text",), 4, size=7))
    assert len(seen) == 1 and [len(part) for part in parts] == [7] * 6 + [6]
    with pytest.warns(UserWarning):
        whole = encode_rows(encoder.tokenizer, train_split, ("text",), 4)
    assert [row for part in parts for row in part] == whole


def test_small_parts_change_neither_scores_nor_vectors(task, monkeypatch, tmp_path):
    run = train(task, tiny_encoder(), Vanilla(1), recipe=Recipe(epochs=1, batch_size=8), progress=False)
    scores = evaluate(run.model, run.encoder.tokenizer, task)
    vectors = sentence_vectors(run.encoder.model, run.encoder.tokenizer, task)
    monkeypatch.setattr(encoded_parts, "__defaults__", (None, 5))
    monkeypatch.setenv("XLT_CACHE", str(tmp_path / "other"))
    assert same(evaluate(run.model, run.encoder.tokenizer, task).correct, scores.correct)
    for language, found in sentence_vectors(run.encoder.model, run.encoder.tokenizer, task).items():
        np.testing.assert_allclose(found, vectors[language], atol=1e-5)


def test_a_bar_shows_how_far_it_is(task, capsys):
    encoder = tiny_encoder()
    sentence_vectors(encoder.model, encoder.tokenizer, task, progress=True)
    assert "encoding: 100%" in (shown := capsys.readouterr().err) and "24/24" in shown
    sentence_vectors(encoder.model, encoder.tokenizer, task)
    assert capsys.readouterr().err == ""
