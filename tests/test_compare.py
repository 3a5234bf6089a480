"""The grid of methods and seeds: it goes on where it was, loses nothing, and reports what was run."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from test_cli import home, invoke  # noqa: F401

from xlt_tutorial import compare as module
from xlt_tutorial.compare import compare, comparison_text, item_groups, run_grid, seed_range, unpacked
from xlt_tutorial.errors import XltError
from xlt_tutorial.experiment import Setting
from xlt_tutorial.training import Recipe


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture
def settings(home):  # noqa: F811
    recipe = Recipe(epochs=1, batch_size=8, max_length=12, select="source")
    base = Setting(task=str(home / "animals"), encoder=str(home / "encoder"), recipe=recipe)
    return {name: replace(base, method=name) for name in ("vanilla", "ear-R")}


def grid(settings, folder, seeds=(0, 1), **options):
    said = []
    return run_grid(settings, seeds, folder, progress=False, say=said.append, **options), said


def test_a_comparison_says_what_was_run(settings, tmp_path):
    found = compare(settings, [0, 1], tmp_path, progress=False, say=lambda _: None)
    assert json.loads((tmp_path / "compare.json").read_text()) == json.loads(json.dumps(found))
    runs = {
        (name, seed): json.loads((tmp_path / f"{name}-{seed}" / "result.json").read_text())
        for name in settings
        for seed in (0, 1)
    }
    for name in settings:
        told = found["runs"][name]
        assert told["target_mean"] == [runs[name, seed]["scores"]["target_mean"] for seed in (0, 1)]
        assert told["oracle"] == [runs[name, seed]["oracle"]["target_mean"] for seed in (0, 1)]
        assert told["forwards"] == 2 and all(seconds > 0 for seconds in told["seconds_a_step"])
    entry = found["summary"]["rows"]["target_mean"]["gain"]["ear-R"]
    gains = [
        runs["ear-R", seed]["scores"]["target_mean"] - runs["vanilla", seed]["scores"]["target_mean"] for seed in (0, 1)
    ]
    assert entry["gain"] == pytest.approx(np.mean(gains)) and entry["interval"] is None
    text = (tmp_path / "compare.md").read_text()
    assert text == comparison_text(found) and "| ear-R | 2 |" in text and "oracle (chosen on the targets)" in text
    page = (tmp_path / "compare.html").read_text()
    assert "gain over vanilla" in page and "mean of targets" in page
    assert not list(tmp_path.glob("*/step-*")) and not list(tmp_path.glob("*/model.safetensors"))


def test_methods_share_batches_and_virtual_dev(settings, tmp_path):
    found, _ = grid(settings, tmp_path, seeds=[3])
    first, second = (found[name][3] for name in settings)
    assert first["steps"] == second["steps"] and first["settings"]["maker"] is None
    assert first["settings"]["encoder"] == second["settings"]["encoder"]
    assert all("virtual" in row for result in (first, second) for row in result["epochs"])


def test_a_grid_goes_on_where_it_was(settings, tmp_path, monkeypatch):
    whole, _ = grid(settings, tmp_path / "whole")
    plain, runs = module.run_setting, []

    def stops(setting, *arguments, **options):
        if len(runs) == 2:
            raise KeyboardInterrupt
        runs.append((setting.method, setting.seed))
        return plain(setting, *arguments, **options)

    monkeypatch.setattr(module, "run_setting", stops)
    with pytest.raises(KeyboardInterrupt):
        grid(settings, tmp_path / "cut")
    monkeypatch.setattr(module, "run_setting", lambda s, *a, **o: runs.append((s.method, s.seed)) or plain(s, *a, **o))
    resumed, said = grid(settings, tmp_path / "cut")
    assert len(runs) == len(set(runs)) == 4 and len(said) == 2, "no run twice"
    for name in settings:
        for seed in (0, 1):
            assert resumed[name][seed]["correct"] == whole[name][seed]["correct"]
            assert resumed[name][seed]["epochs"] == whole[name][seed]["epochs"]


def test_a_run_that_was_cut_goes_on_from_its_checkpoint(settings, tmp_path, monkeypatch):
    from xlt_tutorial import training

    setting = {"vanilla": replace(settings["vanilla"], recipe=replace(settings["vanilla"].recipe, epochs=3))}
    plain, steps = training._step, []

    def stops(*arguments):
        steps.append(arguments[-1])
        if len(steps) == 12:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(training, "_step", stops)
    with pytest.raises(KeyboardInterrupt):
        grid(setting, tmp_path, seeds=[0])
    found, _ = grid(setting, tmp_path, seeds=[0])
    assert found["vanilla"][0]["steps"] == 15
    assert steps == [*range(12), *range(10, 15)], "it goes on from the second epoch's end"


def test_a_seed_that_fails_does_not_lose_the_others(settings, tmp_path, monkeypatch):
    plain = module.run_setting

    def fails(setting, *arguments, **options):
        if (setting.method, setting.seed) == ("ear-R", 1):
            raise RuntimeError("a bad moment")
        return plain(setting, *arguments, **options)

    monkeypatch.setattr(module, "run_setting", fails)
    said = []
    found = compare(settings, [0, 1, 2], tmp_path, progress=False, say=said.append)
    assert found["failed"] == ["ear-R-1"] and found["summary"]["seeds"] == [0, 2]
    assert "a bad moment" in json.loads((tmp_path / "ear-R-1" / "error.json").read_text())["error"]
    assert any("failed, the others go on" in line for line in said) and "ear-R-1" in comparison_text(found)
    monkeypatch.setattr(module, "run_setting", plain)
    again = compare(settings, [0, 1, 2], tmp_path, progress=False, say=said.append)
    assert again["failed"] == [] and not (tmp_path / "ear-R-1" / "error.json").exists()


def test_another_setting_in_the_folder_is_refused(settings, tmp_path):
    grid(settings, tmp_path, seeds=[0])
    changed = {name: replace(s, recipe=replace(s.recipe, epochs=2)) for name, s in settings.items()}
    with pytest.raises(XltError, match="another setting"):
        grid(changed, tmp_path, seeds=[0])


def test_bad_input(settings, tmp_path, monkeypatch):
    with pytest.raises(XltError, match='Unknown baseline "none"'):
        compare(settings, [0], tmp_path, baseline="none")
    monkeypatch.setattr(module, "run_setting", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("never")))
    with pytest.raises(XltError, match=r"No seed was finished by all methods; failed: vanilla-0, ear-R-0.*error\.json"):
        compare(settings, [0], tmp_path, say=lambda _: None)
    for text in ("", "a", "0-", "0,0", "3-1"):
        with pytest.raises(XltError, match="give a range such as 0-4"):
            seed_range(text)
    assert seed_range("0-2,7") == [0, 1, 2, 7]


def test_bits_unpack_and_premises_are_groups(tmp_path):
    assert unpacked("0110").tolist() == [False, True, True, False]
    folder = tmp_path / "pairs"
    folder.mkdir()
    for split, language in (("train", "en"), ("test", "en"), ("test", "de")):
        rows = "".join(f"{i}\tpremise {i // 3}\thypothesis {i}\t{'ab'[i % 2]}\n" for i in range(6))
        (folder / f"{split}.{language}.tsv").write_text("id\ttext1\ttext2\tlabel\n" + rows)
    assert item_groups(Setting(task=str(folder))) == [f"premise {i // 3}" for i in range(6)]


def test_the_command(home, tmp_path):  # noqa: F811
    config = tmp_path / "setting.json"
    written = invoke("train", "--task", home / "animals", "--encoder", home / "encoder", "--epochs", 1, "--batch-size",
                     8, "--max-length", 12, "--select", "source", "--write-config", config)  # fmt: skip
    assert written.exit_code == 0, written.output
    done = invoke(
        "compare", "--methods", "ear-R,rdrop", "--seeds", "0,1", "--config", config, "--out", tmp_path / "out"
    )
    assert done.exit_code == 0, done.output
    assert "**ear-R** against **vanilla**" in done.output and "**rdrop** against **vanilla**" in done.output
    steps = {}
    for text, copies in (("setting.json", 1), ("often.json", 2)):
        setting = Setting.from_file(config)
        path = tmp_path / text
        path.write_text(json.dumps(replace(setting, encoder="nowhere", options={"copies": copies}).as_dict()))
        done = invoke("compare", "--methods", "ear-R", "--seeds", "0", "--config", path, "--encoder", home / "encoder",
                      "--no-oracle", "--out", tmp_path / f"out-{copies}")  # fmt: skip
        assert done.exit_code == 0, done.output
        for result in (tmp_path / f"out-{copies}").glob("*/result.json"):
            steps.setdefault(copies, set()).add(json.loads(result.read_text())["steps"])
    assert all(len(found) == 1 for found in steps.values()), "every method takes the same steps"
    assert steps[2] == {2 * next(iter(steps[1]))}
    wrong = invoke("compare", "--methods", "eer", "--out", tmp_path / "out")
    assert wrong.exit_code == 1 and 'Unknown method "eer"' in wrong.output
