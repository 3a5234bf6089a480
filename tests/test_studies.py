"""Studies: what is stored is what was run, and the page says what is stored."""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from test_cli import home  # noqa: F401

import studies.__main__ as runner
from studies import grids, store
from studies.audit import audit
from studies.direction import frequency_matched
from studies.frozen import choose
from studies.languages import ties
from xlt_tutorial.batching import encode_rows, row_generator
from xlt_tutorial.errors import XltError
from xlt_tutorial.evaluation import predict
from xlt_tutorial.experiment import Setting
from xlt_tutorial.perturb import NeighbourSwap
from xlt_tutorial.stored import RESULTS, study_summary
from xlt_tutorial.stored import stored as stored_study
from xlt_tutorial.training import Recipe

spec = importlib.util.spec_from_file_location("results", ROOT / "tools" / "results.py")
results = importlib.util.module_from_spec(spec)
spec.loader.exec_module(results)


@pytest.fixture
def study(home, monkeypatch, tmp_path):  # noqa: F811
    """A study of two methods on the tiny task, run into a folder."""
    warnings.simplefilter("ignore")
    recipe = Recipe(epochs=2, batch_size=8, max_length=12, select="source", share_every=2)
    base = Setting(task=str(home / "animals"), encoder=str(home / "encoder"), recipe=recipe)
    settings = {"vanilla": replace(base, method="vanilla"), "ear (robust)": replace(base, method="ear-R")}
    made = grids.Study("Does it help?", settings, (0, 1), {"vanilla": (0, 1, 2)}, traced=("vanilla",))
    for place in (grids, store, runner, results):
        monkeypatch.setattr(place, "STUDIES", {"tiny": made}, raising=False)
    monkeypatch.setattr(grids, "data_folder", lambda: home)
    monkeypatch.setattr(store, "data_folder", lambda: home)
    runner.run_study("tiny", tmp_path / "runs", tmp_path / "results")
    return tmp_path


def test_a_study_is_stored_small_and_without_places(study):
    path = study / "results" / "tiny.json"
    stored = json.loads(path.read_text())
    assert {key: list(seeds) for key, seeds in stored["runs"].items()} == {
        "vanilla": ["0", "1", "2"],
        "ear (robust)": ["0", "1"],
    }
    assert {setting["task"] for setting in stored["settings"].values()} == {"XLT_DATA/animals"}
    run = json.loads((study / "runs" / "animals-float32" / "ear_robust_-1" / "result.json").read_text())
    kept = stored["runs"]["ear (robust)"]["1"]
    assert kept["correct"] == run["correct"] and kept["selected"] == run["selected"]
    assert "target_mean" not in kept["epochs"][0], "not traced"
    run = json.loads((study / "runs" / "animals-float32" / "vanilla-2" / "result.json").read_text())
    traced = stored["runs"]["vanilla"]["2"]["epochs"]
    assert [row["target_mean"] for row in traced] == [round(row["target_mean"], 4) for row in run["epochs"]]
    assert path.stat().st_size < 12_000


def test_what_is_stored_is_not_run_again(study, monkeypatch):
    path = study / "results" / "tiny.json"
    stored = json.loads(path.read_text())
    shutil.rmtree(study / "runs")  # as in a new clone
    ran, plain = [], runner.run_grid

    def counted(settings, seeds, *rest, **more):
        ran.extend((key, seed) for key in settings for seed in seeds)
        return plain(settings, seeds, *rest, **more)

    monkeypatch.setattr(runner, "run_grid", counted)
    runner.run_study("tiny", study / "runs", study / "results")
    assert not ran and json.loads(path.read_text()) == stored
    stored["settings"]["ear (robust)"]["recipe"]["learning_rate"] = 1.0  # stored under other settings
    del stored["runs"]["vanilla"]["2"]
    path.write_text(json.dumps(stored))
    runner.run_study("tiny", study / "runs", study / "results")
    assert ran == [("ear (robust)", 0), ("ear (robust)", 1), ("vanilla", 2)]


def test_a_run_of_another_study_with_the_same_setting_serves(study, monkeypatch):
    tiny = grids.STUDIES["tiny"]
    settings = {"base": tiny.settings["vanilla"], "new": replace(tiny.settings["ear (robust)"], seed=0, method="rdrop")}
    other = grids.Study("Another?", settings, (0, 1), traced=("base", "new"))
    untraced = grids.Study("A third?", {"ear (robust)": tiny.settings["ear (robust)"]}, (0,), traced=("ear (robust)",))
    for place in (grids, store, runner, results):
        monkeypatch.setattr(place, "STUDIES", {"tiny": tiny, "other": other, "third": untraced}, raising=False)
    found = store.finished("other", study / "results")
    stored = stored_study("tiny", study / "results")
    assert {key: list(seeds) for key, seeds in found.items()} == {"base": [0, 1]}, "not seed 2, which it does not have"
    assert found["base"][1]["correct"] == stored["runs"]["vanilla"]["1"]["correct"]
    assert store.finished("third", study / "results") == {}, "its runs were not scored on the targets every epoch"


def test_english_dev_alone_freezes_a_variant():
    def study(**scores):
        runs = {name: {str(i): {"selected": {"accuracy": s}, "correct": {}} for i, s in enumerate(of)} for name, of in
                scores.items()}  # fmt: skip
        return {"settings": dict.fromkeys(scores), "runs": runs}

    emoji = study(vanilla=[0.99], a=[0.60, 0.70], b=[0.70, 0.70], c=[0.65, 0.70])
    sib = study(vanilla=[0.99], a=[0.90, 0.80], b=[0.75, 0.80], c=[0.80, 0.80])
    made = choose({"emoji": emoji, "sib": sib})
    assert made["variant"] == "a", "0.65 and 0.85, against 0.70 and 0.775, and 0.675 and 0.80"
    assert made["english_dev"]["b"] == pytest.approx({"emoji": 0.7, "sib": 0.775})
    del sib["runs"]["b"]["1"]
    with pytest.raises(XltError, match="sib is not finished: `python -m studies sib` goes on"):
        choose({"emoji": emoji, "sib": sib})
    with pytest.raises(XltError, match="do not hold the same variants"):
        choose({"emoji": emoji, "sib": study(vanilla=[0.9], a=[0.9], b=[0.8])})


def test_what_is_confirmed_is_what_was_frozen(tmp_path, monkeypatch):
    monkeypatch.setattr(grids, "RESULTS", tmp_path)
    assert list(grids.confirmed(grids.emoji)) == ["vanilla", "ear"]
    name = "R rate 0.6, 30 neighbours"
    (tmp_path / "frozen.json").write_text(json.dumps({"variant": name}))
    found = grids.confirmed(grids.emoji)
    assert list(found) == ["vanilla", "ear", name]
    assert grids.in_bfloat16(found[name]) == grids.STUDIES["emoji_variants"].settings[name]


def test_rows_of_one_premise_are_stored_as_a_group_and_resampled_together(study, monkeypatch):
    stored = stored_study("tiny", study / "results")
    assert "groups" not in stored
    items = len(stored["runs"]["vanilla"]["0"]["correct"]["en"])
    monkeypatch.setattr(store, "item_groups", lambda setting: [f"premise {i // 2}" for i in range(items)][::-1])
    runs = store.finished("tiny", study / "results")
    store.export("tiny", runs, study / "grouped")
    grouped = stored_study("tiny", study / "grouped")
    assert len(grouped["groups"]) == items and len(set(grouped["groups"])) == -(-items // 2)
    assert all(a == b for a, b in zip(grouped["groups"][-2::-2], grouped["groups"][::-2], strict=False))
    assert study_summary(stored)["n_groups"] == items and study_summary(grouped)["n_groups"] == -(-items // 2)


def test_a_study_that_cannot_be_read_says_what_makes_it(study):
    with pytest.raises(XltError, match=r'no stored study "nothing" \(stored: tiny\).*python -m studies nothing'):
        stored_study("nothing", study / "results")
    path = study / "results" / "tiny.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))
    with pytest.raises(XltError, match=r"tiny.json was written by another version.*python -m studies tiny"):
        stored_study("tiny", study / "results")
    (study / "results" / "half.json").write_text('{"format": 1, "runs"')
    with pytest.raises(XltError, match=r"half.json is damaged .*python -m studies half"):
        stored_study("half", study / "results")


def test_the_page_says_what_is_stored(study):
    text, stored = results.page(study / "results"), stored_study("tiny", study / "results")
    assert "Does it help?" in text and "accelerate" not in text
    for key, seeds in stored["runs"].items():
        means = [
            np.mean([bits.count("1") / len(bits) for t, bits in run["correct"].items() if t != "en"])
            for run in seeds.values()
        ]
        english = [run["correct"]["en"].count("1") / 20 for run in seeds.values()]
        line = next(line for line in text.splitlines() if line.startswith(f"| {key} |"))
        assert f"| {len(seeds)} | 2 |" in line
        for values in (means, english):
            assert f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}" in line
    assert "With 2 seeds there is no interval over seeds" in text
    best = [max(row["target_mean"] for row in run["epochs"]) for run in stored["runs"]["vanilla"].values()]
    assert f"| oracle: best on the targets | {100 * np.mean(best):.1f} ±" in text
    assert "Not run yet: `python -m studies tiny`" in results.page(study / "nowhere")


def test_rules_take_the_epochs_they_name():
    epochs = [
        {"step": 1, "source": 0.5, "virtual": 0.6, "target_mean": 0.3},
        {"step": 2, "source": 0.7, "virtual": 0.4, "target_mean": 0.2},
        {"step": 3, "source": 0.7, "virtual": 0.6, "target_mean": 0.4},
    ]
    assert {rule: results._chosen(epochs, rule)["step"] for rule in results.RULES} == {
        "last": 3,
        "source": 2,
        "virtual": 1,
        "oracle": 3,
    }
    text = results.selection_table({"runs": {"vanilla": {"0": {"epochs": epochs}}}})
    assert "gains +10.00 points" in text and "50% of the way" in text
    assert results.selection_table({"runs": {"vanilla": {"0": {"epochs": [{"step": 1, "source": 0.5}]}}}}) is None


def test_the_verdict_turns_with_the_interval():
    def told(low, high):
        gain = {"ear": {"gain": (low + high) / 2, "interval": [low, high]}}
        return results._verdict({"baseline": "vanilla", "seeds": range(5), "rows": {"target_mean": {"gain": gain}}})

    assert told(0.01, 0.03) == "Above vanilla beyond the interval: ear (+2.0)."
    assert told(-0.01, 0.03) == "No method is above vanilla beyond its interval."
    assert told(-0.03, -0.01).endswith("Below it: ear (-2.0).")


def test_the_default_stays_unless_five_seeds_are_ahead_by_a_standard_error():
    def told(*gains, method="ear-normalised"):
        def run(right):
            return {"correct": {"en": "1" * 100, "de": "1" * right + "0" * (100 - right)}}

        runs = {"ear": {str(i): run(50 + i) for i in range(5)}}
        runs["other"] = {str(i): run(50 + i + gain) for i, gain in enumerate(gains)}
        return results.default_rule({"runs": runs, "settings": {"ear": {"method": "ear"}, "other": {"method": method}}})

    # Gains 0 to 4: mean 2, standard deviation sqrt(2.5), standard error sqrt(0.5) = 0.7.
    assert "other: +2.0 ± 0.7. By this rule the default becomes other." in told(0, 1, 2, 3, 4)
    # Gains -4, 4, -4, 4, 2: mean 0.4, deviations squared 19.36 x 2 + 12.96 x 2 + 2.56 = 67.2; sqrt(67.2 / 4 / 5) = 1.8.
    assert "other: +0.4 ± 1.8. So it stays." in told(-4, 4, -4, 4, 2)
    assert told(1, 2, 3, 4) is None, "four seeds"
    assert told(0, 1, 2, 3, 4, method="vanilla") is None


def test_stored_studies_and_the_page_agree():
    assert results.main(["--check"]) == 0
    for path in RESULTS.glob("*.json"):
        stored = json.loads(path.read_text())
        questions = {name: study.question for name, study in grids.STUDIES.items()} | runner.FACTS
        assert stored["question"] == questions[path.stem]
        assert path.stat().st_size < 2_000_000


def test_every_study_has_a_baseline_and_equal_recipes():
    for name, made in grids.STUDIES.items():
        first, *others = made.settings.values()
        assert first.method == "vanilla", name
        recipes = {replace(one.recipe, precision=first.recipe.precision) for one in others}
        assert recipes == {first.recipe}, "the same steps for every method"
        assert {one.task for one in others} == {first.task}


class Told:
    """A maker with known swaps."""

    name = "told"

    def __init__(self, swaps):
        self.swaps = swaps

    def virtual(self, row, tokenizer, rng):
        from xlt_tutorial.perturb import Virtual

        ids, swaps = list(row.input_ids), []
        for at, i in enumerate(ids):
            piece = tokenizer.convert_ids_to_tokens(i)
            if piece in self.swaps:
                ids[at] = tokenizer.convert_tokens_to_ids(self.swaps[piece])
                swaps.append((piece, self.swaps[piece]))
        return Virtual(tuple(ids), None, words=len(ids) - 2, swaps=tuple(swaps))


def test_the_audit_counts_what_was_swapped(full_encoder, emoji_task):
    rows = encode_rows(full_encoder.tokenizer, emoji_task["train"]["en"], ("text",))
    maker = Told({"▁face": "▁rostro", "▁hand": "▁which", "▁cat": "▁кот"})
    found = audit(maker, rows, full_encoder.tokenizer)
    pieces = [full_encoder.tokenizer.convert_ids_to_tokens(list(row.input_ids)) for row in rows]
    counts = {piece: sum(row.count(piece) for row in pieces) for piece in maker.swaps}
    total = sum(counts.values())
    assert total > 5
    assert found["foreign"] == pytest.approx((counts["▁face"] + counts["▁cat"]) / total)
    assert found["rows_changed"] == sum(any(p in maker.swaps for p in row) for row in pieces) / len(rows)
    assert found["replaced"] == pytest.approx(total / sum(len(row) - 2 for row in pieces)) and found["flips"] is None


def test_flips_are_counted_where_the_model_was_right(home, tmp_path):  # noqa: F811
    from xlt_tutorial.encoders import Classifier, load_encoder
    from xlt_tutorial.tasks import load_task

    warnings.simplefilter("ignore")
    encoder, task = load_encoder(str(home / "encoder")), load_task(home / "animals")
    rows = encode_rows(encoder.tokenizer, task["train"]["en"], ("text",))
    model, maker = Classifier(encoder.model, 2), Told({"▁cat": "▁tree"})
    found = audit(maker, rows, encoder.tokenizer, model)
    changed = [row for row in rows if encoder.tokenizer.convert_tokens_to_ids("▁cat") in row.input_ids]
    after = [maker.virtual(row, encoder.tokenizer, row_generator(0, 0, 0, row.id)) for row in changed]
    after = [replace(row, input_ids=copy.input_ids) for row, copy in zip(changed, after, strict=True)]
    labels = np.array([row.label for row in changed])
    right, still = predict(model, changed, 1) == labels, predict(model, after, 1) == labels
    expected = (right & ~still).sum() / right.sum() if right.any() else 0.0
    assert found["flips"] == pytest.approx(expected)


def test_the_null_swaps_for_pieces_of_like_frequency(full_encoder, emoji_task):
    swap = NeighbourSwap.fit(full_encoder, emoji_task.texts("train", "en"))
    null = frequency_matched(swap, full_encoder, seed=3)
    model = json.loads(full_encoder.tokenizer.backend_tokenizer.to_str())["model"]
    score = dict(model["vocab"])
    assert set(null.table) <= set(swap.table) and len(null.table) > 0.9 * len(swap.table)
    pairs = [
        (score[a], score[b])
        for piece in null.table
        for a, b in zip(
            [c for c in swap.table[piece] if c[1:].isalpha() and len(c) > 3], null.table[piece], strict=True
        )
    ]
    assert np.corrcoef(np.array(pairs).T)[0, 1] > 0.99
    kept = np.mean([a == b for piece in null.table for a, b in zip(swap.table[piece], null.table[piece], strict=False)])
    assert kept < 0.05, "the null has other words"
    assert frequency_matched(swap, full_encoder, seed=3).table == null.table


def test_ties_are_rank_correlations_with_their_range():
    names = list("abcdef")
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 0.0]
    facts = {t: {"gap_ratio": v, "knn_mixing": -v, "tokens_per_word": v**3} for t, v in zip(names, values, strict=True)}
    gains = dict(zip(names, [1.0, 2.0, 3.0, 4.0, 5.0, 9.0], strict=True)) | {"not known": 7.0}
    found = ties(facts, gains)
    ranks = np.array([[2, 3, 4, 5, 6, 1], [1, 2, 3, 4, 5, 6]])
    rho = np.corrcoef(ranks)[0, 1]
    assert found["gap_ratio"]["rho"] == pytest.approx(rho) == -found["knn_mixing"]["rho"]
    assert found["tokens_per_word"]["rho"] == pytest.approx(rho), "a monotone change moves no rank"
    assert found["gap_ratio"]["most"] == ["f", pytest.approx(1.0)] and found["gap_ratio"]["languages"] == 6
    assert found["knn_mixing"]["least"] == ["f", pytest.approx(-1.0)]


def test_settings_are_chosen_by_the_rule():
    def run(source, virtual, target):
        bits = "1" * target + "0" * (10 - target)
        rows = [{"step": 1, "source": 0.0, "virtual": 0.0}, {"step": 2, "source": source, "virtual": virtual}]
        return {"epochs": rows, "selected": {"step": 2}, "correct": {"en": "1" * 10, "de": bits}}

    runs = {"a": {"0": run(0.9, 0.1, 2)}, "b": {"0": run(0.5, 0.8, 4)}, "c": {"0": run(0.6, 0.7, 6)}}
    swap = {"task": "x", "maker": "neighbours", "maker_options": {}}
    settings = dict.fromkeys("abc", swap) | {"d": swap | {"maker_options": {"rate": 0.6}}}
    runs["d"] = {"0": run(0.95, 0.95, 9)}
    text = results.settings_table({"runs": runs, "settings": settings})
    assert "Left out: 1 whose swap differs" in text
    assert "| best on English dev | a | 20.0 |" in text
    assert "| best on the virtual dev set | b | 40.0 |" in text
    assert "| oracle: best on the targets | c | 60.0 |" in text
    assert "is -0.50 for English dev and +0.50 for the virtual dev set" in text
    assert results.settings_table({"runs": {key: runs[key] for key in "abd"}, "settings": settings}) is None


def test_hours_of_what_was_not_run_follow_from_its_size():
    """XNLI: 392,702 pairs, 3 visits, 2 streams, 5 seeds, 2 methods, 128 tokens, 6 x 85e6 operations each, 20e12/s."""
    text = results._not_run()
    hours = 392702 * 3 * 2 * 5 * 2 * 128 * 6 * 85e6 / 20e12 / 3600
    command = "xlt compare --task xnli --encoder FacebookAI/xlm-roberta-base --methods vanilla,ear --seeds 0-4"
    assert f"| `{command}` | 1 epoch, 3 copies, lr 2e-05, batch 32 | {hours:.0f} |" in text
    assert "| mBERT on full pawsx |" in text and "30 epochs, 1 copy" in text
