"""The benchmarks of a training step: what is compared is the same computation, and the table says what was measured."""

from __future__ import annotations

import json
import statistics

import pytest
import torch
from test_objectives import stacked, tiny

from benchmarks import measure, methods, slices, steps, straightforward, trainer
from xlt_tutorial.objectives import EAR, METHODS


@pytest.mark.parametrize("architecture", ["bert", "xlmr"])
def test_the_straightforward_step_computes_the_same_loss_and_gradient(architecture, monkeypatch):
    monkeypatch.setattr(straightforward, "LAYER", 2)
    model, batch, objective = tiny(architecture), stacked(), EAR(layer=2)
    objective.total(objective(model, batch)).backward()
    ours = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    model.encoder.set_attn_implementation("eager")
    straightforward.loss(model, batch).backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, ours[name], atol=1e-6, rtol=1e-4, msg=name)


def test_a_straightforward_step_moves_the_weights_and_puts_attention_back(monkeypatch):
    monkeypatch.setattr(straightforward, "LAYER", 0)
    model = tiny("bert")
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    straightforward.step(model, torch.optim.AdamW(model.parameters(), lr=1e-2), stacked())
    moved = [name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])]
    assert len(moved) > 0.9 * len(before) and model.encoder.config._attn_implementation == "sdpa"


def test_typical_batches_are_the_middles_of_equal_parts():
    class Made:
        def epoch(self, number):
            for width in (40, 10, 60, 20, 50, 30, 5):
                yield {"input_ids": torch.zeros(32, width), "labels": torch.zeros(32 if width > 5 else 7)}

    assert [(40, 10, 60, 20, 50, 30)[i] for i in steps._typical(Made(), 3)] == [20, 40, 60]


def test_steps_run_small_and_the_table_says_what_they_took():
    results = steps.run(small=True)
    json.dumps(results)
    found, shown = results["emoji"]["steps"], steps.table(results)
    assert {"vanilla", "EAR", "EAR in slices", "EAR published", "straightforward"} <= set(found)
    assert all(row["seconds"] > 0 and row["peak_mb"] >= 0 for row in found.values())
    for name, row in found.items():
        assert row["seconds"] == pytest.approx(
            statistics.fmean(statistics.median(part) for part in row["all"]), abs=1e-3
        )
        line = next(line for line in shown.splitlines() if line.startswith(f"| {name} |"))
        assert f"{row['seconds'] / found['vanilla']['seconds']:.2f} x" in line
        assert f"{found['straightforward']['seconds'] / row['seconds']:.1f} x as long" in line
    products = results["emoji"]["matrix_products"]
    share = products["gflops_of_a_step"] / products["gflops_of_a_product"]
    assert f"timed in turns with the steps: {share:.0%}." in shown


def test_goals_are_judged_by_the_numbers():
    def found(ear, short, peak, share):
        seconds = {"vanilla": 2.0, "EAR": ear, "EAR, bfloat16": short, "EAR in slices": ear, "straightforward": 12.0}
        rows = {name: {"seconds": value, "peak_mb": 900.0} for name, value in seconds.items()}
        rows["EAR in slices"]["peak_mb"] = peak
        rates = {"gflops_of_a_step": 50 * share, "gflops_of_a_product": 50.0}
        return {"steps": rows, "profile": {"matrix products": 0.8}, "matrix_products": rates}

    good, bad = steps._goals(found(4.0, 2.0, 300.0, 0.8)), steps._goals(found(4.4, 2.5, 310.0, 0.7))
    assert good.count("| met |") == 6 and bad.count("| missed |") == 6
    assert "| at most 2.10 x | 2.00 x | met |" in good and "| at least 6.00 x | 4.80 x | missed |" in bad
    assert "would be 1.67 times as fast. Reached is 2.00 times" in good and "to be 2.00 times: EAR passes two" in good


def test_slices_run_small_and_the_table_says_what_they_took():
    results = slices.run(small=True)
    json.dumps(results)
    found, shown = results["steps"], slices.table(results)
    assert {"0|float32", "2048|float32", "512|float32", "straightforward"} <= set(found)
    ratio = found["512|float32"]["seconds"] / found["0|float32"]["seconds"]
    line = next(line for line in shown.splitlines() if line.startswith("| EAR, float32, slices of 512 |"))
    assert f"{ratio:.2f} x" in line
    assert f"{found['512|float32']['peak_mb'] / found['straightforward']['peak_mb']:.0%}" in line


def test_every_method_is_timed_against_vanilla():
    results = json.loads(json.dumps(methods.run(small=True)))
    rows = {row["method"]: row for row in results["methods"]}
    assert set(METHODS) | {"vanilla, one pass"} == set(rows)
    assert all(row["seconds"] > 0 and row["peak_mb"] >= 0 for row in rows.values())
    assert rows["vanilla, one pass"]["forwards"] == 1 and rows["vanilla"]["forwards"] == rows["ear"]["forwards"] == 2
    assert rows["adversarial"]["forwards"] > 2
    line = next(line for line in methods.table(results).splitlines() if line.startswith("| rdrop |"))
    assert (
        f"| 2 | {rows['rdrop']['seconds']:.3g} | {rows['rdrop']['seconds'] / rows['vanilla']['seconds']:.2f} x |"
        in line
    )


def test_both_loops_see_the_same_batches_and_learn_alike():
    results = trainer.run(small=True)
    json.dumps(results)
    assert results["steps"] == 22
    first, second = results["mean_loss"].values()
    assert first == pytest.approx(second, abs=0.03), "another head and other dropout masks, but the same training"
    ratio = results["seconds"]["xlt_tutorial"] / results["seconds"]["Trainer"]
    assert f"takes {ratio:.2f} times as long" in trainer.table(results)


def test_peaks_and_medians_are_measured():
    def allocate():
        return torch.ones(50 * 2**20).sum()  # 200 MB

    found = measure.medians({"big": allocate, "none": lambda: None}, rounds=3)
    assert found["big"]["peak_mb"] == pytest.approx(200, abs=30) and found["none"]["peak_mb"] < 20
    assert found["big"]["seconds"] == pytest.approx(statistics.median(found["big"]["all"]), abs=1e-4)
