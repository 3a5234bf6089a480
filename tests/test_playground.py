"""The playgrounds of notebook 07: the stored grid, the toy under the losses, and both as widgets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tiny_study import LANGUAGES, store_tiny_studies, study

from xlt_tutorial.statistics import gain_interval, summary
from xlt_tutorial.stored import FORMAT
from xlt_tutorial.widgets import grid as module
from xlt_tutorial.widgets import playground, toy
from xlt_tutorial.widgets.grid import (
    MEAN,
    Grid,
    GridView,
    adjusted,
    effects_scene,
    first_view,
    grid_figure,
    read_grid,
    scene,
    summary_scene,
)
from xlt_tutorial.widgets.playground import grid_playground, toy_playground
from xlt_tutorial.widgets.toy import CLASSES, EDGE, RATE, TOKENS, Dials, Toy, toy_after, toy_figure, toy_told, turned

PLOTLY = "application/vnd.plotly.v1+json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return store_tiny_studies(tmp_path)


@pytest.fixture
def grid(folder: Path) -> Grid:
    return read_grid(folder)


def share(bits: str) -> float:
    return bits.count("1") / len(bits)


# --- reading -------------------------------------------------------------------------------------------------------


def test_studies_with_runs_are_read_and_facts_are_not(grid):
    assert list(grid.studies) == ["emoji_methods", "other"] and grid.said == ()
    assert grid.settings("emoji_methods") == ("vanilla", "ear", "ear-E", "ear-R")
    assert grid.seeds("emoji_methods", "vanilla", "ear-E") == ("0", "1", "2")
    assert grid.languages("other") == ("en", "tr")
    assert first_view(grid) == GridView("emoji_methods", "ear", "vanilla", ("0", "1", "2", "3", "4"))


def damaged(correct: object) -> str:
    return json.dumps({"format": FORMAT, "runs": {"ear": {"0": {"correct": correct}}}})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r'no stored study "emoji_methods".*`python -m studies emoji_methods`'),
        *(
            (content, "emoji_methods.json is damaged.*Delete it.*`python -m studies emoji_methods`")
            for content in ("{", "[]", damaged({}), damaged({"en": "01x"}), damaged("01"))
        ),
        (json.dumps({"format": FORMAT + 1}), "another version.*`python -m studies emoji_methods`"),
        (json.dumps(study({"vanilla": (0, 0.0)})), "no finished run yet.*`python -m studies emoji_methods`"),
    ],
)
def test_what_cannot_be_read_is_told_with_the_command(tmp_path, content, said):
    import re

    if content is not None:
        (tmp_path / "emoji_methods.json").write_text(content)
    empty = read_grid(tmp_path)
    assert empty.studies == {} and first_view(empty) is None
    shown = scene(empty, None)
    assert re.search(said, " ".join(shown.messages)) and shown.rows == ()
    view = grid_playground(empty)
    view.set(setting="ear")
    assert re.search(said, view.box.children[0].value.replace("&quot;", '"')) and len(view.box.children) == 1


# --- what a view shows ---------------------------------------------------------------------------------------------


def test_gains_are_those_of_a_loop_over_stored_answers(grid, folder):
    runs = json.loads((folder / "emoji_methods.json").read_text())["runs"]
    view, said = adjusted(grid, first_view(grid), setting="ear-R", seeds=[0, 2])
    shown = scene(grid, view)
    assert said == [] and [row.key for row in shown.rows] == [MEAN, *LANGUAGES] and not shown.enough
    for row in shown.rows:
        over = LANGUAGES[1:] if row.key == MEAN else (row.key,)
        for at, seed in enumerate(("0", "2")):
            one, other = (
                np.mean([share(runs[name][seed]["correct"][t]) for t in over]) for name in ("ear-R", "vanilla")
            )
            assert row.by_seed[at] == pytest.approx(one - other)
        assert row.gain == pytest.approx(np.mean(row.by_seed))


def test_one_seed_has_the_interval_of_a_paired_t_test(grid):
    shown = scene(grid, adjusted(grid, first_view(grid), setting="ear-R", seeds=1)[0])
    for row in shown.rows[1:]:
        one, other = (grid.answers("emoji_methods", name, "1")[row.key].astype(float) for name in ("ear-R", "vanilla"))
        wanted = stats.ttest_rel(one, other).confidence_interval(0.95)
        assert row.spans == (pytest.approx((wanted.low, wanted.high)),)


def test_five_seeds_have_about_the_interval_of_the_bootstrap(grid):
    shown = scene(grid, first_view(grid))
    assert shown.enough
    results = {name: {s: grid.answers("emoji_methods", name, s) for s in "01234"} for name in ("vanilla", "ear")}
    entries = gain_interval(results, "vanilla")["ear"]
    for row in shown.rows:
        assert row.gain == pytest.approx(entries[row.key]["gain"])
        assert row.spans[0] == pytest.approx(entries[row.key]["interval"], abs=0.02)


def test_the_sentence_is_right_whichever_way_the_numbers_fall(grid):
    view = first_view(grid)
    better = scene(grid, view)
    assert better.rows[0].spans[0][0] > 0 and "leaves zero out" in better.sentence
    turned_round = scene(grid, adjusted(grid, view, setting="vanilla", against="ear")[0])
    assert turned_round.rows[0].gain == pytest.approx(-better.rows[0].gain)
    even = Grid({"emoji_methods": study({"vanilla": (5, 0.0), "ear": (5, 0.0)})})
    shown = scene(even, first_view(even))
    assert shown.rows[0].spans[0][0] < 0 < shown.rows[0].spans[0][1] and "holds zero" in shown.sentence
    few = scene(grid, adjusted(grid, view, setting="ear-E")[0])
    out = sum(low > 0 or high < 0 for low, high in few.rows[0].spans)
    assert f"{out} of 3 intervals over items leave" in few.sentence and "It takes 5 seeds" in few.messages[-1]


def test_a_language_is_told_item_by_item(grid):
    view = adjusted(grid, first_view(grid), language="ja", seeds=[3])[0]
    one, other = (grid.answers("emoji_methods", name, "3")["ja"] for name in ("ear", "vanilla"))
    won, lost = np.mean(one & ~other), np.mean(~one & other)
    assert f"Right in ear alone: {won:.1%} of the items; in vanilla alone: {lost:.1%}." in scene(grid, view).sentence
    assert "Japanese" in scene(grid, view).sentence


def test_a_setting_against_itself_is_told(grid):
    shown = scene(grid, adjusted(grid, first_view(grid), setting="vanilla")[0])
    assert "compared with itself" in shown.messages[0] and all(row.gain == 0 for row in shown.rows)
    assert grid_figure(shown).data


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"study": "emoij_methods"}, 'Unknown study.*Did you mean "emoji_methods"'),
        ({"setting": "ear-X"}, "Unknown setting"),
        ({"setting": None}, "Unknown setting"),
        ({"against": 3}, "Unknown setting"),
        ({"language": "klingon"}, 'Unknown language "klingon".*ja'),
        ({"language": ["de", "ja"]}, "Unknown language"),
        ({"seeds": [11]}, "Seed 11: not run by both settings. There are 0, 1, 2, 3, 4"),
        ({"seeds": []}, ""),
        ({"seeds": 2.5}, "Seed 2.5: not run"),
        ({"subset": "A"}, "no run of the subset A"),
        ({"subset": "vanilla"}, "Unknown subset 'vanilla'"),
        ({"subset": None}, "Unknown subset None"),
        ({"colour": "red"}, 'Unknown control "colour"'),
    ],
)
def test_a_wish_that_cannot_be_met_is_told_and_nothing_breaks(grid, wishes, said):
    import re

    before = first_view(grid)
    view, told = adjusted(grid, before, **wishes)
    assert re.search(said, " ".join(told)) and bool(told) == bool(said)
    if "seeds" not in wishes:
        assert view == before
    else:
        assert scene(grid, view).rows == () and "No seed is chosen: choose 0, 1" in scene(grid, view).messages[0]
    assert grid_figure(scene(grid, view), view.language).data


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (study({"vanilla": (5, 0.0), "ear": (5, 0.9)}, items=1), "expected .* two or more"),
        (study({"vanilla": (2, 0.0), "ear": (2, 0.9)}, ("en",)), "The only language is the source en"),
        ({"runs": {**study({"vanilla": (2, 0.0)})["runs"], **study({"ear": (2, 0.0)}, items=9)["runs"]}}, "same items"),
        ({**study({"vanilla": (2, 0.0), "ear": (2, 0.9)}), "groups": [0] * 50}, "All 50 items are of one group"),
    ],
    ids=["one item", "one language", "other items", "one group"],
)
def test_runs_that_cannot_be_compared_are_told_in_the_view(content, said):
    import re

    view = grid_playground(Grid({"emoji_methods": content}))
    assert view.box and view.scene.rows == () and len(view.figure.data[2].x) == 0
    assert re.search(f"These runs cannot be compared.*{said}", view._message.value)
    view.controls["setting"].value = "vanilla"
    assert "compared with itself" in view._message.value and view.scene.rows


def test_items_of_one_group_are_no_separate_witnesses(grid):
    """Each item twice, told as groups: the intervals of the items once."""
    once = grid.studies["emoji_methods"]
    runs = {
        name: {s: {"correct": {t: bits * 2 for t, bits in run["correct"].items()}} for s, run in seeds.items()}
        for name, seeds in once["runs"].items()
    }
    twice, told = (Grid({"emoji_methods": one}) for one in ({"runs": runs}, {"runs": runs, "groups": [*range(50)] * 2}))
    for seeds in (None, [0]):
        view = adjusted(grid, first_view(grid), seeds=seeds)[0]
        wanted, wrong, found = ([row.spans for row in scene(one, view).rows] for one in (grid, twice, told))
        assert np.allclose(found, wanted) and not np.allclose(wrong, wanted, atol=1e-3)


def test_any_sequence_of_wishes_leaves_something_to_show(grid):
    rng = np.random.default_rng(0)
    values = {
        "study": ["emoji_methods", "other", "none"], "setting": ["ear", "ear-E", "base", "vanilla", ""],
        "against": ["vanilla", "ear-R", "base"], "language": ["de", "tr", None, "xx"],
        "seeds": [[], [0], ["1", "2"], None, 4, "9"], "subset": ["", "E", "EAR", "R", "AR"],
    }  # fmt: skip
    view = first_view(grid)
    for _ in range(300):
        names = rng.choice(list(values), size=rng.integers(1, 3), replace=False)
        view, _said = adjusted(grid, view, **{n: values[n][rng.integers(len(values[n]))] for n in names})
        shown = scene(grid, view)
        assert {view.setting, view.against} <= set(grid.settings(view.study))
        assert bool(shown.rows) == bool(view.seeds) and (shown.rows or shown.messages)
        assert set(view.seeds) <= set(grid.seeds(view.study, view.setting, view.against))
        assert view.language in (MEAN, *grid.languages(view.study))


def test_another_setting_brings_all_its_seeds_unless_some_were_chosen(grid):
    view = adjusted(grid, first_view(grid), setting="ear-E")[0]
    assert view.seeds == ("0", "1", "2")
    assert adjusted(grid, view, setting="ear")[0].seeds == ("0", "1", "2", "3", "4")
    chosen = adjusted(grid, view, seeds=[1])[0]
    assert adjusted(grid, chosen, setting="ear")[0].seeds == ("1",)
    assert adjusted(grid, view, study="other")[0] == GridView("other", "ear", "base", ("0", "1"))


def test_the_figure_draws_the_rows(grid):
    shown = scene(grid, adjusted(grid, first_view(grid), setting="ear-E")[0])
    bars, seeds, means, ring = grid_figure(shown, "de").data
    assert len(bars.x) == len(seeds.x) == 3 * len(shown.rows) and len(means.x) == len(shown.rows)
    assert np.allclose(means.x, [100 * row.gain for row in shown.rows])
    assert np.allclose(np.array(bars.x) - bars.error_x.array, [100 * low for row in shown.rows for low, _ in row.spans])
    assert np.allclose(seeds.x, [100 * gain for row in shown.rows for gain in row.by_seed])
    ticks = grid_figure(shown).layout.yaxis.ticktext
    assert ticks == ("mean of targets", "English", "German", "Japanese", "Arabic")
    assert (list(ring.x), list(ring.y)) == ([means.x[2]], [2]), "a ring around German"


# --- verdicts over many settings -----------------------------------------------------------------------------------


def results(settings: dict[str, tuple[int, float]]) -> dict[str, Any]:
    found = Grid({"s": study(settings, items=120)})
    return {name: {s: found.answers("s", name, s) for s in found.seeds("s", name)} for name in settings}


def test_verdicts_name_what_stands_out_and_say_so_where_nothing_does():
    made = summary_scene(
        summary(results({"vanilla": (5, 0.0), "same": (5, 0.0), "up": (5, 1.2), "down": (5, -1.2)}), "vanilla")
    )
    assert [row.name for row in made.rows] == ["up", "same", "down"] and made.enough
    told = made.sentence.split(". ")
    assert told[0].startswith(
        "Over the seeds 0, 1, 2, 3, 4, above vanilla beyond the 95 % interval over items and seeds: up (+"
    )
    assert told[1].startswith("Below it: down (-") and "same" not in told[0] + told[1]
    assert "go from down" in told[2] and "to up" in told[2]
    none = summary_scene(summary(results({"vanilla": (5, 0.0), "same": (5, 0.0)}), "vanilla")).sentence
    assert "nothing is above vanilla" in none and "Below" not in none
    few = summary_scene(summary(results({"vanilla": (3, 0.0), "up": (3, 1.2), "same": (3, 0.0)}), "vanilla"))
    assert few.sentence.startswith("In each of the seeds 0, 1, 2, above vanilla beyond its interval over items: up (+")
    assert "it takes 5" in few.sentence and len(few.rows[0].spans) == 3


def test_main_effects_are_rows_of_their_own():
    from xlt_tutorial.ablation import SETTINGS, main_effects

    lift = {name: (3, 1.0 * ("R" in subset) - 0.9 * ("A" in subset)) for subset, name in SETTINGS.items()}
    made = effects_scene(main_effects(results(lift), resamples=200))
    assert [row.name for row in made.rows] == ["E (push)", "A (pull)", "R (robust)"]
    assert "above zero beyond its interval over items: R (robust) (+" in made.sentence
    assert "Below it: A (pull) (-" in made.sentence


# --- the toy -------------------------------------------------------------------------------------------------------


def loss_by_hand(points: np.ndarray, dials: Dials) -> dict[str, float]:
    """The terms in NumPy, from the formulas; points (2, sentences, tokens, 2)."""
    angles = np.deg2rad([90, 210, 330])
    ways = np.stack([np.cos(angles), np.sin(angles)], 1)

    def ce(cloud: np.ndarray) -> float:
        logits = cloud.mean(1) @ ways.T
        return float(np.mean([np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(logits)]))

    def attention(cloud: np.ndarray) -> np.ndarray:
        scores = np.exp(np.array([[[a @ b for b in words] for a in words] for words in cloud]) / np.sqrt(2))
        return scores / scores.sum(-1, keepdims=True)

    squared = ((points[0].mean(1) - points[1].mean(1)) ** 2).mean(-1)
    push = {"published": -squared, "hinge": np.maximum(0, 1 - squared) - 1}[dials.push].mean()
    pull = ((attention(points[0]) - attention(points[1])) ** 2).mean()
    return {"ce": ce(points[0]), "robust": ce(points[1]), "push": float(push), "pull": float(pull)}


def total_by_hand(points: np.ndarray, dials: Dials) -> float:
    terms = loss_by_hand(points, dials)
    return terms["ce"] + dials.robust * terms["robust"] + dials.alpha * terms["push"] + dials.beta * terms["pull"]


@pytest.mark.parametrize("dials", [Dials(), Dials(2.0, 30.0, "hinge"), Dials(1.0, 0.0, robust=False)])
def test_a_step_goes_against_the_numerical_gradient_of_the_formulas(dials):
    made = Toy(3)
    start = made.points.numpy().astype(float)
    frame = made.frame(dials, 1)
    gradient = np.zeros_like(start)
    for at in np.ndindex(start.shape):
        up, down = start.copy(), start.copy()
        up[at], down[at] = start[at] + 1e-4, start[at] - 1e-4
        gradient[at] = (total_by_hand(up, dials) - total_by_hand(down, dials)) / 2e-4
    after = np.stack([frame.original, frame.virtual])
    assert np.allclose(after, start - RATE * gradient, atol=2e-5) and not np.allclose(after, start, atol=1e-3)
    wanted = loss_by_hand(after.astype(float), dials)
    assert frame.terms == pytest.approx({name: wanted[name] for name in frame.terms}, abs=1e-5)
    assert sum(frame.shares.values()) == pytest.approx(1)
    assert set(frame.shares) == {"ce"} | ({"robust"} if dials.robust else set()) | {"push"} | (
        {"pull"} if dials.beta else set()
    )


@pytest.mark.parametrize("name", ["embedding_push", "attention_pull"])
def test_the_losses_that_move_it_are_the_packages_own(name, monkeypatch):
    from xlt_tutorial import losses

    dials = Dials(alpha=3.0, beta=100.0)
    before = Toy().frame(dials, 3).virtual
    monkeypatch.setattr(losses, name, lambda one, *_: 0.0 * one.sum())
    assert not np.allclose(Toy().frame(dials, 3).virtual, before, atol=1e-3)


def test_the_start_is_the_seeds_and_reset_goes_back_to_it():
    one, same, other = Toy(1), Toy(1), Toy(2)
    start = one.frame(Dials(), 0)
    assert start.steps == 0 and start.original.shape == (CLASSES, TOKENS, 2)
    assert np.array_equal(start.original, same.frame(Dials(), 0).original)
    assert not np.array_equal(start.original, other.frame(Dials(), 0).original)
    assert np.array_equal(start.original[:, 2:], start.virtual[:, 2:]), "two tokens stand elsewhere, four do not"
    assert (np.abs(start.original[:, :2] - start.virtual[:, :2]).max(-1) > 0.01).all()
    assert one.frame(Dials(), 5).steps == 5
    one.reset()
    assert np.array_equal(one.frame(Dials(), 0).virtual, start.virtual)


def test_the_published_push_runs_away_and_stops_at_the_edge():
    dials = Dials(alpha=3.0)
    made = Toy()
    gone = made.frame(dials, 500)
    assert gone.stuck and gone.steps < 500 and gone.moved > 2
    assert np.abs(gone.original).max() < EDGE and np.isfinite(gone.virtual).all()
    again = made.frame(dials, 10)
    assert np.array_equal(again.virtual, gone.virtual) and again.steps == gone.steps
    assert "no floor" in toy_told(gone, dials)
    held = Toy().frame(Dials(alpha=3.0, push="hinge"), 300)
    assert not held.stuck and held.moved < gone.moved and "stands still" not in toy_told(held, Dials())


def test_the_pull_brings_the_maps_together():
    without, with_it = (Toy().frame(Dials(alpha=0.0, beta=beta), 60) for beta in (1.0, 300.0))
    assert with_it.terms["pull"] < without.terms["pull"] / 4


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"alpha": -0.1}, "alpha is -0.1; it must be a number, 0 or more"),
        ({"beta": "much"}, "beta is 'much'"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"alpha": None}, "alpha is None"),
        ({"push": "hing"}, 'Did you mean "hinge"'),
        ({"gamma": 1}, 'Unknown dial "gamma"'),
    ],
)
def test_a_dial_that_does_not_turn_so_far_is_told(wishes, said):
    dials, told = turned(Dials(), **wishes)
    assert dials == Dials() and said in told[0] and len(told) == 1
    view = toy_playground(**wishes)
    assert said in view.messages[0] and said.split()[0] in view.box.children[2].value
    view.set(alpha=0.7)
    assert view.messages == [] and view.dials.alpha == 0.7


def test_the_toys_figure_has_a_column_for_each_frame():
    frames = {"a": toy_after(0, Dials()), "b": toy_after(20, Dials(alpha=1.0))}
    fig = toy_figure(frames)
    assert len(fig.data) == 2 * (2 * CLASSES + 2)
    for column, frame in enumerate(frames.values()):
        traces = fig.data[column * 8 : column * 8 + 8]
        for sentence in range(CLASSES):
            assert np.allclose(np.stack([traces[sentence].x, traces[sentence].y], 1), frame.original[sentence])
            copied = traces[CLASSES + sentence]
            assert np.allclose(np.stack([copied.x, copied.y], 1), frame.virtual[sentence])
        assert traces[-1].y == pytest.approx([100 * frame.shares[term] for term in toy.TERMS], abs=1e-3)


# --- on the screen -------------------------------------------------------------------------------------------------


def test_the_controls_drive_the_grid(grid):
    view = grid_playground(grid, setting="ear-E")
    made, figure = (view.box, view.controls)[1], view.figure
    assert made["seed 4"].disabled and not made["seed 2"].disabled and made["E"].value and not made["R"].value
    made["E"].value, made["R"].value = False, True  # the letters go through vanilla to ear-R
    assert view.view.setting == made["setting"].value == "ear-R"
    assert np.allclose(figure.data[2].x, [100 * row.gain for row in view.scene.rows])
    made["language"].value = "ja"
    assert view.view.language == "ja" and "Japanese" in view._told.value
    made["seed 0"].value = made["seed 1"].value = made["seed 2"].value = False
    assert view.scene.rows == () and "No seed is chosen" in view._message.value and len(figure.data[2].x) == 0
    made["all"].click()
    assert view.view.seeds == ("0", "1", "2") and made["seed 1"].value
    made["study"].value = "other"
    assert view.view == GridView("other", "ear", "base", ("0", "1")) and view._letters.layout.display == "none"
    assert figure.layout.yaxis.ticktext == ("mean of targets", "English", "Turkish")
    made["setting"].value = "base"
    assert "compared with itself" in view._message.value and repr(view)
    view.set(language="xx")
    assert "Unknown language" in view._message.value


def test_a_subset_that_was_not_run_puts_the_letters_back(grid):
    view = grid_playground(grid)
    made = (view.box, view.controls)[1]
    made["E"].value = False  # EAR without E: not run
    assert "no run of the subset AR" in view._message.value
    assert view.view.setting == "ear" and made["E"].value


def test_the_clock_moves_the_toy_and_stops_at_the_edge():
    view = toy_playground()
    made, figure = (view.box, view.controls)[1], view.figure
    start = np.array(figure.data[3].x)
    made["play"].value = 1
    made["play"].value = 2
    assert view.shown.steps == 2 * toy.STEPS and view.rate > 0
    assert not np.array_equal(figure.data[3].x, start)
    assert np.allclose(figure.data[3].x, view.shown.virtual[0, :, 0])
    made["alpha"].value = 10.0
    made["robust"].value = False
    assert view.dials == Dials(alpha=10.0, robust=False) and view.shown.steps == 2 * toy.STEPS, "a dial moves nothing"
    clock = next(name for name in ("playing", "_playing") if made["play"].has_trait(name))  # of ipywidgets 8, and of 7
    setattr(made["play"], clock, True)
    for tick in range(3, 60):
        made["play"].value = tick
        if view.shown.stuck:
            break
    assert view.shown.stuck and not getattr(made["play"], clock) and "stands still" in view._told.value
    made["reset"].click()
    assert view.shown.steps == 0 and np.allclose(figure.data[3].x, start)
    made["push"].value = "hinge"
    made["frame"].click()
    assert view.dials.push == "hinge" and view.shown.steps == toy.STEPS and "After 4 steps" in repr(view)
    view.set(alpha=0.42)  # between two stops of the slider
    assert made["alpha"].value == 0.42


def displayed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda *things, **_: shown.extend(things))
    return shown


@pytest.mark.parametrize("why", ["published", "not installed"])
@pytest.mark.parametrize("make", [grid_playground, lambda grid: toy_playground()])
def test_where_no_widget_can_be_drawn_a_figure_and_its_sentence_stand_in(grid, make, why, monkeypatch):
    if why == "published":
        monkeypatch.setenv("XLT_PUBLISH", "1")
        monkeypatch.setattr("plotly.graph_objects.Figure.to_image", lambda *_, **__: b"\x89PNG")
        monkeypatch.setattr("xlt_tutorial.figures._small", lambda png: png)
    else:
        monkeypatch.setattr(playground, "find_spec", lambda name: None)
    shown = displayed(monkeypatch)
    view = make(grid)
    view._ipython_display_()
    assert view._box is None, "no widget was made"
    bundle, sentence = shown[-2:]
    assert bundle[PLOTLY]["data"] and sentence.data.strip("*").endswith(".")
    assert ("image/png" in bundle) == (why == "published")


def test_with_nothing_stored_the_stand_in_is_the_message(tmp_path, monkeypatch):
    monkeypatch.setenv("XLT_PUBLISH", "1")
    shown = displayed(monkeypatch)
    grid_playground(read_grid(tmp_path))._ipython_display_()
    assert len(shown) == 1 and "python -m studies emoji_methods" in shown[0].data


def test_with_a_kernel_the_widget_is_shown(grid, monkeypatch):
    monkeypatch.delenv("XLT_PUBLISH", raising=False)
    shown = displayed(monkeypatch)
    for view in (grid_playground(grid), toy_playground()):
        view._ipython_display_()
        assert shown.pop() is view.box


def test_the_stored_grid_of_the_package_opens(monkeypatch):
    view = grid_playground()
    assert view.messages or view.scene.rows
    assert view.grid.said or view.view is not None
    assert module.RESULTS.name == "studies"


# --- speed ---------------------------------------------------------------------------------------------------------


def seconds(call: Callable[[], object], times: int = 15) -> float:
    """Median processor time of one thread's worth of calls, so that a busy machine does not count."""
    took = []
    for _ in range(times):
        start = time.process_time()
        call()
        took.append(time.process_time() - start)
    return median(took)


@pytest.fixture
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_grid_follows_a_click_at_once(one_thread):
    large = study({"vanilla": (5, 0.0), "ear": (5, 0.1), "ear-E": (5, 0.0)}, tuple("abcdefghijklmn"), items=700)
    view = grid_playground(Grid({"emoji_methods": large}))
    names = iter(["ear", "ear-E"] * 20)
    assert view.box and seconds(lambda: view.set(setting=next(names))) < 0.2


def test_the_toy_makes_ten_frames_a_second_on_one_core(one_thread):
    view = toy_playground()
    assert view.box and seconds(view.step, 30) < 0.1
