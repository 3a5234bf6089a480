"""The training loop: what it computes, what it refuses, and what survives a kill."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import tiny_encoder, tiny_folder, tiny_maker, tiny_train

from xlt_tutorial.batching import TwoStreamBatches, encode_rows, slices
from xlt_tutorial.encoders import Classifier
from xlt_tutorial.errors import XltError
from xlt_tutorial.evaluation import evaluate
from xlt_tutorial.files import is_whole
from xlt_tutorial.objectives import EAR, Vanilla
from xlt_tutorial.tasks import load_task
from xlt_tutorial.training import Recipe, gradient_norms, gradient_shares, has_bfloat16, train

SCRIPT = Path(__file__).with_name("tiny_run.py")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights_of(run):
    return {name: value.clone() for name, value in run.model.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_loop_equals_a_hand_written_one(tmp_path):
    """Two epochs of vanilla without dropout, with AdamW and its schedule written out."""
    task, encoder = load_task(tiny_folder(tmp_path / "task")), tiny_encoder(dropout=0.0)
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=1e-3, warmup=0.25, weight_decay=0.1, dropout=0.0,
                    max_grad_norm=0.5, share_every=0)  # fmt: skip
    run = train(task, encoder, Vanilla(passes=1), recipe=recipe, seed=3, progress=False)

    bert = tiny_encoder(dropout=0.0).model.train()
    torch.manual_seed(3)
    model = Classifier(bert, 2, 0.0)
    rows = encode_rows(encoder.tokenizer, task["train"]["en"], ("text",), 32)
    batches = TwoStreamBatches(rows, encoder.tokenizer, 8, 3)
    first = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    second = {name: torch.zeros_like(weight) for name, weight in model.named_parameters()}
    steps, t, losses = 12, 0, []
    for epoch in range(2):
        for batch in batches.epoch(epoch):
            logits = model(batch["input_ids"], batch["attention_mask"])
            loss = -logits.log_softmax(-1)[torch.arange(len(logits)), batch["labels"]].mean()
            model.zero_grad()
            loss.backward()
            losses.append(loss.item())
            norm = math.sqrt(sum(float((w.grad**2).sum()) for w in model.parameters()))
            rate = 1e-3 * (t / 3 if t < 3 else (steps - t) / (steps - 3))
            t += 1
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    gradient = weight.grad * min(1.0, 0.5 / (norm + 1e-6))
                    first[name] = 0.9 * first[name] + 0.1 * gradient
                    second[name] = 0.999 * second[name] + 0.001 * gradient**2
                    weight.mul_(1 - rate * (0.1 if weight.ndim > 1 else 0.0))
                    update = (first[name] / (1 - 0.9**t)) / ((second[name] / (1 - 0.999**t)).sqrt() + 1e-8)
                    weight.sub_(rate * update)
    assert [row["terms"]["ce"] for row in run.history] == pytest.approx(losses, abs=1e-5)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(run.model.get_parameter(name), weight, atol=2e-5, rtol=1e-4)


def test_run_learns_and_leaves_the_given_encoder_alone(tmp_path):
    task, encoder = load_task(tiny_folder(tmp_path / "task")), tiny_encoder()
    before = {name: value.clone() for name, value in encoder.model.state_dict().items()}
    recipe = Recipe(epochs=12, batch_size=8, learning_rate=3e-3)
    run = train(task, encoder, EAR(layer=1), tiny_maker(tmp_path / "task"), recipe, progress=False)
    assert same(before, encoder.model.state_dict())
    ce = [row["terms"]["ce"] for row in run.history]
    assert np.mean(ce[-6:]) < 0.7 * np.mean(ce[:6])
    assert evaluate(run.model, encoder.tokenizer, task).accuracy["en"] >= 0.9
    assert not run.model.training


def test_history_names_every_term_and_its_share(tmp_path):
    run = tiny_train(tmp_path)
    assert [row["step"] for row in run.history] == list(range(1, 37))  # 48 rows x 2 copies / 8, three epochs
    for row in run.history:
        assert set(row["terms"]) == {"ce", "robust", "push", "pull"}
        by_hand = row["terms"]["ce"] + row["terms"]["robust"] + 0.1 * row["terms"]["push"] + row["terms"]["pull"]
        assert row["loss"] == pytest.approx(by_hand, abs=1e-6)
    measured = [row["step"] for row in run.history if "shares" in row]
    assert measured == list(range(1, 37, 4))
    for row in run.history:
        if "shares" in row:
            assert sum(row["shares"].values()) == pytest.approx(1)
    assert run.history[-1]["epoch"] == 3 and run.history[-1]["lr"] > 0


def test_gradient_shares_equal_separate_backwards():
    encoder = tiny_encoder(dropout=0.0)
    model = Classifier(encoder.model, 2, 0.0)
    ids = torch.tensor([[2, 5, 9, 3], [2, 7, 8, 3], [2, 6, 11, 3], [2, 13, 4, 3]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([0, 1])}
    objective = EAR(layer=1, alpha=2.0, beta=5.0)
    measured = gradient_shares(gradient_norms(model, objective(model, batch)), objective.weights)
    norms = {}
    for name in objective.weights:
        model.zero_grad()
        (objective.weights[name] * objective(model, batch)[name]).backward()
        norms[name] = math.sqrt(sum((w.grad**2).sum().item() for w in model.parameters() if w.grad is not None))
    for name, norm in norms.items():
        assert measured[name] == pytest.approx(norm / sum(norms.values()), rel=1e-4)


def test_accumulation_equals_the_larger_batch(tmp_path):
    task = load_task(tiny_folder(tmp_path / "task"))
    runs = []
    for batch_size, accumulate in ((48, 1), (12, 4)):
        recipe = Recipe(epochs=2, batch_size=batch_size, accumulate=accumulate, dropout=0.0, share_every=0)
        runs.append(train(task, tiny_encoder(0.0), Vanilla(1), recipe=recipe, progress=False))
    assert [len(run.history) for run in runs] == [2, 2]
    assert runs[0].history[1]["loss"] == pytest.approx(runs[1].history[1]["loss"], abs=1e-6)


def test_same_seed_same_weights_and_another_seed_others(tmp_path):
    first, second, third = tiny_train(tmp_path), tiny_train(tmp_path), tiny_train(tmp_path, seed=1)
    assert same(weights_of(first), weights_of(second)) and first.history == second.history
    assert not same(weights_of(first), weights_of(third))


def test_resumed_run_ends_in_the_same_bits(tmp_path):
    """Stopped in the middle of an epoch, by an error in a step, and resumed twice."""
    recipe = Recipe(epochs=3, batch_size=8, checkpoint_every=2, share_every=4, select="source")
    whole = tiny_train(tmp_path / "a", recipe=recipe, out=tmp_path / "a" / "run")

    class Stops(EAR):
        calls = 0

        def __call__(self, model, batch):
            type(self).calls += 1
            if type(self).calls in (6, 20):
                raise KeyboardInterrupt
            return super().__call__(model, batch)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tiny_train(tmp_path / "b", Stops(layer=1, copies=2), recipe=recipe, out=tmp_path / "b" / "run", resume=True)
        assert any(is_whole(path) for path in (tmp_path / "b" / "run").glob("step-*"))
    resumed = tiny_train(
        tmp_path / "b", Stops(layer=1, copies=2), recipe=recipe, out=tmp_path / "b" / "run", resume=True
    )
    assert same(weights_of(whole), weights_of(resumed))
    assert whole.history == resumed.history and whole.selected == resumed.selected


def test_killed_at_any_moment_and_resumed_it_ends_in_the_same_bits(tmp_path):
    """SIGKILL twice, at moments that nobody chose; the third process finishes."""
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])}

    def start(home):
        return subprocess.Popen([sys.executable, str(SCRIPT), str(home)], env=environment, stderr=subprocess.PIPE)

    unbroken = start(tmp_path / "a")
    killed_at = []
    for least in (2, 16):
        process = start(tmp_path / "b")
        while process.poll() is None:
            done = sorted((tmp_path / "b" / "run").glob("step-*"))
            if done and int(done[-1].name[5:]) >= least:
                time.sleep(float(np.random.default_rng().uniform(0, 0.4)))
                process.send_signal(signal.SIGKILL)
                killed_at.append(done[-1].name)
                break
            time.sleep(0.02)
        process.wait()
        assert process.returncode == -signal.SIGKILL, process.stderr.read().decode()[-2000:]
    assert len(killed_at) == 2
    last = start(tmp_path / "b")
    for process in (last, unbroken):
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()[-2000:]
    results = [torch.load(tmp_path / name / "finished.pt", weights_only=True) for name in ("a", "b")]
    assert same(results[0]["weights"], results[1]["weights"])
    assert results[0]["history"] == results[1]["history"]


def test_half_written_or_damaged_checkpoints_are_never_loaded(tmp_path):
    recipe = Recipe(epochs=3, batch_size=8, checkpoint_every=2, share_every=4)
    whole = tiny_train(tmp_path / "a", recipe=recipe)
    tiny_train(tmp_path / "b", recipe=recipe, out=tmp_path / "b" / "run")
    steps = sorted((tmp_path / "b" / "run").glob("step-*"))
    assert len(steps) == 2
    weights = steps[-1] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    (tmp_path / "b" / "run" / ".writing-left").mkdir()
    resumed = tiny_train(tmp_path / "b", recipe=recipe, out=tmp_path / "b" / "run", resume=True)
    assert same(weights_of(whole), weights_of(resumed))
    assert not list((tmp_path / "b" / "run").glob(".writing-*"))


def test_a_folder_is_never_overwritten(tmp_path):
    tiny_train(tmp_path, out=tmp_path / "run")
    with pytest.raises(XltError, match=r"already holds a run.*resume=True"):
        tiny_train(tmp_path, out=tmp_path / "run")
    with pytest.raises(XltError, match="another seed"):
        tiny_train(tmp_path, out=tmp_path / "run", seed=4, resume=True)
    with pytest.raises(XltError, match="another recipe"):
        tiny_train(tmp_path, out=tmp_path / "run", recipe=Recipe(epochs=4), resume=True)


@pytest.mark.parametrize(("term", "bad"), [("push", math.inf), ("robust", math.nan)])
def test_a_loss_that_is_not_finite_stops_with_its_name(tmp_path, term, bad):
    class Bad(EAR):
        calls = 0

        def __call__(self, model, batch):
            type(self).calls += 1
            terms = super().__call__(model, batch)
            return terms | ({term: terms[term] * bad} if type(self).calls == 8 else {})

    recipe = Recipe(epochs=3, batch_size=8, checkpoint_every=2, share_every=0)
    with pytest.raises(XltError, match=rf'Step 8: the term "{term}" became .*last checkpoint'):
        tiny_train(tmp_path, Bad(layer=1, copies=2), recipe=recipe, out=tmp_path / "run")
    good = max((tmp_path / "run").glob("step-*"))
    assert good.name == "step-000006" and is_whole(good)
    resumed = tiny_train(tmp_path, recipe=recipe, out=tmp_path / "run", resume=True)
    assert same(weights_of(resumed), weights_of(tiny_train(tmp_path, recipe=recipe)))


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_touched(tmp_path):
    class Bad(Vanilla):
        def __call__(self, model, batch):
            terms = super().__call__(model, batch)
            zero = (model.head.weight * 0).sum()
            return terms | {"ce": terms["ce"] + zero.abs().sqrt()}  # finite value, infinite slope at zero

    with pytest.raises(XltError, match="Step 1: the gradient norm became nan"):
        tiny_train(tmp_path, Bad(passes=1), recipe=Recipe(share_every=0, batch_size=8))


def test_selection_uses_source_data_only(tmp_path):
    recipe = Recipe(epochs=4, batch_size=8, learning_rate=2e-3, select="source")
    run = tiny_train(tmp_path / "a", recipe=recipe, oracle=True)
    assert run.selected["rule"] == "source" and run.selected["n"] == 12
    task = load_task(tmp_path / "a" / "task")
    chosen = evaluate(run.model, run.encoder.tokenizer, task, "dev", ["en"])
    assert chosen.accuracy["en"] == pytest.approx(run.selected["accuracy"])
    assert run.oracle is not None and "target languages" in run.oracle["rule"]
    # The same run on other target texts: nothing about the model may change.
    folder = tiny_folder(tmp_path / "b" / "task")
    path = folder / "test.xx.tsv"
    lines = path.read_text().splitlines()
    other_texts = [line.split("\t")[0] + "\tkizu kizu\t" + line.split("\t")[2] for line in lines[1:]]
    path.write_text("\n".join([lines[0], *other_texts]) + "\n")
    other = train(load_task(folder), tiny_encoder(), EAR(layer=1, copies=2), tiny_maker(folder), recipe, oracle=True,
                  progress=False)  # fmt: skip
    assert same(weights_of(run), weights_of(other)) and run.selected == other.selected
    assert run.oracle["accuracy"]["xx"] != other.oracle["accuracy"]["xx"]


def test_where_only_dev_scores_the_targets_train_is_held_out(tmp_path):
    folder = tiny_folder(tmp_path / "task")
    for path in folder.glob("test.*"):
        path.rename(folder / path.name.replace("test", "dev"))
    task = load_task(folder)
    assert task.evaluation_split == "dev"
    recipe = Recipe(epochs=1, batch_size=8, select="source")
    run = train(task, tiny_encoder(), Vanilla(1), recipe=recipe, progress=False)
    assert run.selected["n"] == 4 and len(run.history) == 6  # a tenth of 48 held out, 44 rows left


def test_inert_terms_are_named_once(tmp_path):
    recipe = Recipe(epochs=3, batch_size=8, share_every=1)
    with pytest.warns(UserWarning, match='"push" gave under 1 %') as caught:
        tiny_train(tmp_path, EAR(layer=1, alpha=1e-7), recipe=recipe)
    assert sum("almost inert" in str(item.message) and '"push"' in str(item.message) for item in caught) == 1
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        tiny_train(tmp_path, Vanilla(2), recipe=recipe)
    assert not any("inert" in str(item.message) for item in seen)


@pytest.mark.parametrize("objective", [EAR(layer=1, copies=2), EAR(layer=1, pull="row_kl", push="hinge"), Vanilla(2)])
@pytest.mark.parametrize("max_tokens", [1, 50])
def test_slices_take_the_same_steps(tmp_path, objective, max_tokens):
    """Without dropout, a run whose batches are cut ends where the uncut one does."""
    runs = {}
    for cells in (0, max_tokens):
        task_folder = tiny_folder(tmp_path / str(cells) / "task")
        recipe = Recipe(epochs=2, batch_size=8, dropout=0.0, share_every=0, max_tokens=cells, learning_rate=1e-3)
        runs[cells] = train(load_task(task_folder), tiny_encoder(dropout=0.0), objective, tiny_maker(task_folder),
                            recipe, progress=False)  # fmt: skip
    whole, cut = runs.values()
    assert len(whole.history) == len(cut.history)
    for row, other in zip(whole.history, cut.history, strict=True):
        assert other["terms"] == pytest.approx(row["terms"], abs=1e-5)
        assert other["grad_norm"] == pytest.approx(row["grad_norm"], rel=1e-3)
    for (name, weight), other in zip(whole.model.named_parameters(), cut.model.parameters(), strict=True):
        torch.testing.assert_close(weight, other, atol=2e-4, rtol=1e-3, msg=name)


def test_slices_hold_each_pair_once_and_keep_to_their_size(tmp_path):
    task_folder = tiny_folder(tmp_path / "task")
    encoder = tiny_encoder()
    rows = encode_rows(encoder.tokenizer, load_task(task_folder)["train"]["en"], ("text",), 32)
    batches = list(TwoStreamBatches(rows, encoder.tokenizer, 16, 3, 2, tiny_maker(task_folder)).epoch(0))
    for batch in batches:
        width = batch["input_ids"].shape[1]
        parts = list(slices(batch, 2, 5 * 2 * width + 1))
        assert [len(part["labels"]) for part, _ in parts] == [5, 5, 5, 1]
        assert [share for _, share in parts] == [5 / 16, 5 / 16, 5 / 16, 1 / 16]
        for stream in (0, 1):
            ids = torch.cat([part["input_ids"].chunk(2)[stream] for part, _ in parts])
            assert torch.equal(ids, batch["input_ids"][16 * stream : 16 * (stream + 1)])
        assert torch.equal(torch.cat([part["labels"] for part, _ in parts]), batch["labels"])
    assert len(list(slices(batches[0], 2, 0))) == 1


@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="this processor has no bfloat16 products")
def test_bfloat16_trains_float32_weights(tmp_path):
    runs = {}
    for precision in ("float32", "bfloat16"):
        recipe = Recipe(epochs=1, batch_size=8, share_every=1, precision=precision, dropout=0.0)
        task_folder = tiny_folder(tmp_path / precision / "task")
        runs[precision] = train(load_task(task_folder), tiny_encoder(dropout=0.0), EAR(layer=1),
                                tiny_maker(task_folder), recipe, progress=False)  # fmt: skip
    exact, rounded = runs["float32"].history[0], runs["bfloat16"].history[0]
    assert rounded["terms"] == pytest.approx(exact["terms"], rel=0.05)
    assert rounded["terms"] != exact["terms"]
    assert rounded["shares"] == pytest.approx(exact["shares"], abs=0.02)
    assert {weight.dtype for weight in runs["bfloat16"].model.parameters()} == {torch.float32}
    assert runs["bfloat16"].settings["recipe"]["precision"] == "bfloat16"


def test_bfloat16_is_refused_where_the_machine_lacks_it(tmp_path, monkeypatch):
    monkeypatch.setattr("xlt_tutorial.training.has_bfloat16", lambda device: False)
    with pytest.raises(XltError, match=r"no bfloat16 products.*precision='float32'"):
        tiny_train(tmp_path, recipe=Recipe(precision="bfloat16"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_bad_settings_are_refused(tmp_path):
    task = load_task(tiny_folder(tmp_path / "task"))
    with pytest.raises(XltError, match=r"layers 0 to 1, not 5\. Choose .*layer=1"):
        tiny_train(tmp_path, EAR(), out=tmp_path / "shallow")
    assert not (tmp_path / "shallow").exists(), "an encoder that does not fit must not claim the folder"
    with pytest.raises(XltError, match=r"pass maker="):
        train(task, tiny_encoder(), EAR(layer=1), progress=False)
    with pytest.raises(XltError, match=r'selection "dev".*last, source'):
        Recipe(select="dev")
    with pytest.raises(XltError, match=r'precision "fp16".*float32, bfloat16'):
        Recipe(precision="fp16")
    with pytest.raises(XltError, match="max_tokens is -1"):
        Recipe(max_tokens=-1)
    with pytest.raises(XltError, match="epochs is 0"):
        Recipe(epochs=0)
    with pytest.raises(XltError, match="learning_rate"):
        Recipe(learning_rate=0)
    (tmp_path / "task" / "train.en.tsv").unlink()
    with pytest.raises(XltError, match=r"no train\.en"):
        train(load_task(tmp_path / "task"), tiny_encoder(), Vanilla(), progress=False)
