"""Settings as plain values, and the result that a setting leaves behind."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from test_cli import home, invoke, tiny  # noqa: F401

from xlt_tutorial.batching import row_generator
from xlt_tutorial.errors import XltError
from xlt_tutorial.evaluation import predict
from xlt_tutorial.experiment import Setting, prepare, run_setting
from xlt_tutorial.objectives import EAR, METHODS
from xlt_tutorial.training import Recipe


@pytest.fixture
def setting(home):  # noqa: F811
    recipe = Recipe(epochs=2, batch_size=8, max_length=12, select="source")
    return Setting(task=str(home / "animals"), encoder=str(home / "encoder"), recipe=recipe, seed=4)


def run(setting, folder, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_setting(setting, folder, progress=False, **options)


def test_the_papers_setting_in_one_command(tmp_path):
    """Ding et al.: lr 2e-5 with linear decay and nothing else, batch 32, length 128; 1 epoch with 3 copies on XNLI."""
    path = tmp_path / "setting.json"
    done = invoke("train", "--task", "xnli", "--encoder", "FacebookAI/xlm-roberta-base", "--method", "ear",
                  "--write-config", path)  # fmt: skip
    assert done.exit_code == 0 and f"xlt train --config {path}" in done.output
    found = json.loads(path.read_text())
    assert found["recipe"] | {"epochs": 1, "learning_rate": 2e-5, "batch_size": 32, "max_length": 128, "warmup": 0.0,
                              "weight_decay": 0.0, "max_grad_norm": 1.0} == found["recipe"]  # fmt: skip
    objective = Setting.from_file(path).objective()
    assert isinstance(objective, EAR) and (objective.copies, objective.pad_to, objective.layer) == (3, 128, 5)
    assert objective.weights == {"ce": 1.0, "robust": 1.0, "push": 0.1, "pull": 1.0}
    assert Setting.for_task("pawsx", "ear").recipe.epochs == 30 and Setting.for_task("emoji", "ear").recipe == Recipe()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_visits_the_papers_sentences_as_often(method):
    """Three copies of a sentence are three visits for its rivals too, so that all take the same steps."""
    assert [Setting.for_task(task, method).objective().copies for task in ("xnli", "pawsx", "emoji")] == [3, 1, 1]
    with pytest.raises(XltError, match="copies is 0"):
        Setting(method=method, options={"copies": 0})


def test_a_setting_is_its_json(setting, tmp_path):
    rich = replace(setting, method="ear-normalised", options={"shares": {"push": 0.2}}, maker_options={"rate": 0.5})
    path = tmp_path / "setting.json"
    path.write_text(json.dumps(rich.as_dict()))
    assert Setting.from_file(path) == rich
    assert Setting.from_dict({"task": "emoji", "recipe": {"epochs": 3}}) == Setting(recipe=Recipe(epochs=3))


def test_options_override_the_file(setting, tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    first.write_text(json.dumps(setting.as_dict()))
    done = invoke("train", "--config", first, "--seed", 9, "--epochs", 5, "--option", "push=hinge", "--option",
                  "margin=2.5", "--maker-option", "rate=0.5", "--write-config", second)  # fmt: skip
    assert done.exit_code == 0, done.output
    expected = replace(setting, seed=9, recipe=replace(setting.recipe, epochs=5),
                       options={"push": "hinge", "margin": 2.5}, maker_options={"rate": 0.5})  # fmt: skip
    assert Setting.from_file(second) == expected


@pytest.mark.parametrize(
    ("method", "on"), [("ear-E", "E"), ("ear-AR", "AR"), ("ear-EA", "EA"), ("ear-R", "R"), ("ear", "EAR")]
)
def test_subsets_by_name(method, on):
    objective = Setting(method=method).objective()
    assert (bool(objective.push), bool(objective.pull), objective.robust) == tuple(letter in on for letter in "EAR")
    assert objective.name == method
    assert objective.pad_to == (32 if "A" in on else None), "only the published pull depends on the width"


def test_the_result_says_how_each_item_was_answered(setting, tmp_path):
    ready = prepare(setting)
    result = run(setting, tmp_path / "run", prepared=ready, oracle=True)
    stored = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    assert {k: v for k, v in stored.items() if k != "peak_memory_mb"} == json.loads(json.dumps(result))
    for language, answers in result["correct"].items():
        assert len(answers) == 20 and set(answers) <= {"0", "1"}
        assert answers.count("1") / 20 == pytest.approx(result["scores"]["accuracy"][language])
    assert result["steps"] == 10 and result["forwards"] == 2
    assert Setting.from_dict(result["setting"]) == setting
    epochs = result["epochs"]
    assert [row["step"] for row in epochs] == [5, 10]
    chosen = max(epochs, key=lambda row: row["source"])
    assert result["selected"]["step"] == chosen["step"] and result["selected"]["accuracy"] == chosen["source"]
    best = max(epochs, key=lambda row: row["target_mean"])
    assert result["oracle"]["target_mean"] == best["target_mean"]
    assert all(0 <= row["virtual"] <= 1 and row["targets"]["xx"] == row["target_mean"] for row in epochs)


def test_the_virtual_dev_set_is_swapped_dev(setting, tmp_path, monkeypatch):
    from xlt_tutorial import training

    seen = []
    monkeypatch.setattr(training, "predict", lambda model, rows, pad: seen.append(rows) or predict(model, rows, pad))
    ready = prepare(setting)
    run(setting, tmp_path / "run", prepared=ready, keep_model=False)
    virtual, held_out = seen[0], seen[1]
    assert [row.id for row in virtual] == [row.id for row in held_out] and len(held_out) == 10
    changed = sum(a.input_ids != b.input_ids for a, b in zip(virtual, held_out, strict=True))
    once = [ready.maker.virtual(row, ready.encoder.tokenizer, row_generator(4, 0, 0, row.id)) for row in held_out]
    at_rate = sum(len(copy.swaps) for copy in once)
    eligible = sum(copy.words for copy in once)
    moved = sum(
        sum(x != y for x, y in zip(a.input_ids, b.input_ids, strict=True))
        for a, b in zip(virtual, held_out, strict=True)
    )
    assert changed > 0.5 * len(held_out) and at_rate < moved == eligible, "every eligible word is swapped"
    assert not list((tmp_path / "run").glob("step-*")) and not (tmp_path / "run" / "model.safetensors").exists()


def test_without_a_maker_there_is_no_virtual_dev_set(setting, tmp_path):
    result = run(replace(setting, method="vanilla"), tmp_path / "run", keep_model=False)
    assert all("virtual" not in row and "target_mean" not in row for row in result["epochs"])
    assert np.isclose(result["scores"]["target_mean"], result["scores"]["accuracy"]["xx"])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "setting.json, line 1: not JSON"),
        ("[1]", "must hold one object"),
        ('{"tsak": "emoji"}', 'Unknown setting "tsak".*Did you mean "task"'),
        ('{"recipe": {"epoch": 1}}', 'Unknown recipe\'s setting "epoch".*Did you mean "epochs"'),
        ('{"recipe": {"epochs": 0}}', "epochs is 0"),
        ('{"method": "eer"}', 'Unknown method "eer"'),
        ('{"method": "ear", "options": {"alhpa": 1}}', "alhpa"),
        ('{"maker": "noize"}', 'Unknown maker "noize"'),
        ('{"recipe": {"epochs": "three"}}', "wrong kind"),
    ],
)
def test_bad_files_are_named(content, told, tmp_path):
    path = tmp_path / "setting.json"
    path.write_text(content)
    with pytest.raises(XltError, match=told):
        Setting.from_file(path)
    with pytest.raises(XltError, match=r"nowhere.json cannot be read"):
        Setting.from_file(tmp_path / "nowhere.json")
