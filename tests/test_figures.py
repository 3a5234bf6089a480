"""Figures: what is drawn is what was given, each point and line is the right one, and text from data cannot act."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from xlt_tutorial import figures, projection, styles
from xlt_tutorial.figures import (
    alignment_map,
    before_after_map,
    language_bars,
    layer_curves,
    layer_map,
    loss_history,
    show,
)
from xlt_tutorial.projection import map_points, project, project_aligned
from xlt_tutorial.styles import LANGUAGES, MARKERS, PALETTE, language_name, safe_text

CODES = ("en", "de", "ja")


def points(seed: int = 0, codes: tuple[str, ...] = CODES, items: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = [
        {"x": rng.normal(), "y": rng.normal(), "id": f"c{i}", "language": code, "label": ("animals", "food")[i % 2]}
        | {"text": f"{code} text {i}", "english": f"en text {i}", "emoji": "🐱"}
        for code in codes
        for i in range(items)
    ]
    return pd.DataFrame(rows)


def drawn(fig: Any, mode: str = "markers") -> list[Any]:
    return [trace for trace in fig.data if trace.mode == mode]


def decoded(values: Any) -> list[float]:
    """Numbers of a slider step, which are packed where plotly reads that."""
    if isinstance(values, dict):
        assert values["dtype"] == "f4"
        return np.frombuffer(base64.b64decode(values["bdata"]), dtype="<f4").tolist()
    return [math.nan if value is None else value for value in values]


def close(found: Any, expected: Any) -> bool:
    return np.allclose(np.asarray(found, float), np.asarray(expected, float), atol=1e-4, equal_nan=True)


# Styles


def test_every_language_has_a_colour_and_a_marker_of_its_own() -> None:
    own = list(LANGUAGES)[:22]
    found = styles.styles(own)
    assert {"en", "ar", "yo"} < set(own) and list(LANGUAGES)[22:] == ["fi"]
    assert len({colour for colour, _ in found.values()}) == len({marker for _, marker in found.values()}) == 22
    assert styles.styles(["en", "fi"])["fi"] == (PALETTE[1], MARKERS[1])
    assert len(set(PALETTE)) == len(set(MARKERS)) == len(PALETTE) == len(MARKERS) == 22
    assert styles.styles(["fr", "de"])["de"] == found["de"]


def test_unknown_languages_and_many_labels_still_differ() -> None:
    many = styles.styles([*LANGUAGES, *(f"x{i}" for i in range(60))])
    assert len(set(many.values())) == len(many) == 83
    assert many["en"] == styles.styles(["en"])["en"]
    assert styles.styles(["xx", "en"])["xx"] == (PALETTE[1], MARKERS[1])
    labels = styles.styles([f"label {i}" for i in range(20)], "label")
    assert len({colour for colour, _ in labels.values()}) == 20


def test_palette_survives_colour_blindness() -> None:
    # Machado, Oliveira and Fernandes (2009), severity 1: protanopia, deuteranopia, tritanopia.
    visions = [
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]]
    )

    def lab(colour: str, vision: Any) -> np.ndarray:
        rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        xyz = to_xyz @ np.clip(np.array(vision) @ linear, 0, 1) / to_xyz.sum(1)
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])

    def least(colours: list[str]) -> float:
        pairs = [(a, b) for i, a in enumerate(colours) for b in colours[:i]]
        return min(float(np.linalg.norm(lab(a, v) - lab(b, v))) for v in visions for a, b in pairs)

    assert least(PALETTE[:14]) > 16
    assert least(PALETTE) > 13
    assert max(lab(colour, np.eye(3))[0] for colour in PALETTE) < 75  # dark enough on white


def test_names_of_languages() -> None:
    assert [language_name(code) for code in ("de", "zh-CN", "de_AT", "deu_Latn", "xx")] == [
        "German",
        "Chinese (zh-CN)",
        "German (de_AT)",
        "deu_Latn",
        "xx",
    ]


def test_text_from_data_is_made_safe() -> None:
    assert safe_text("<b>x</b> & <script>") == "&lt;b&gt;x&lt;/b&gt; &amp; &lt;script&gt;"
    assert safe_text("evil\u202etxt\u2067.exe\u200f\x00\n") == "eviltxt.exe"
    assert safe_text("وجه متعب") == "\u2068وجه متعب\u2069"
    assert safe_text("a\u2069<وجه") == "\u2068a&lt;وجه\u2069"
    assert safe_text("می\u200cشود 👨\u200d👩") == "\u2068می\u200cشود 👨\u200d👩\u2069"  # joiners stay
    assert safe_text("word " * 40).count("<br>") == 3
    assert safe_text("x" * 1000).endswith("…")


# The map


@pytest.mark.parametrize("colour", ["language", "label"])
def test_alignment_map_draws_every_point_once(colour: str) -> None:
    table = points()
    fig = alignment_map(table, colour=colour, title="Layer 3")
    assert fig.layout.title.text == "Layer 3"
    names = ["English", "Japanese", "German"] if colour == "language" else ["animals", "food"]
    assert [trace.name for trace in fig.data] == names
    assert (
        len({trace.marker.color for trace in fig.data})
        == len({trace.marker.symbol for trace in fig.data})
        == len(names)
    )
    found = {text: (x, y) for trace in fig.data for x, y, text in zip(trace.x, trace.y, trace.hovertext, strict=True)}
    assert len(found) == len(table)
    for row in table.itertuples():
        gloss = f"<br>English: {row.english}" if row.language != "en" else ""
        text = f"<b>🐱 {row.text}</b><br>{language_name(row.language)} · {row.label}{gloss}"
        assert close(found[text], (row.x, row.y))


def test_alignment_map_needs_neither_emoji_nor_english_and_has_thousands_in_webgl() -> None:
    fig = alignment_map(points().drop(columns=["emoji", "english"]))
    assert fig.data[0].hovertext[0] == "<b>en text 0</b><br>English · animals"
    assert fig.data[0].type == "scatter"
    assert alignment_map(points(items=1000)).data[0].type == "scattergl"


def test_text_from_data_is_escaped_everywhere() -> None:
    table = points()
    for column in ("text", "label", "english", "emoji", "language"):
        table.loc[table["language"] == "ja", column] = f"<script>{column}\u202e</script><b>"
    for fig in (alignment_map(table, "label"), alignment_map(table), before_after_map({0: table}, {0: table})):
        everything = json.dumps(fig.to_plotly_json(), default=lambda array: array.tolist(), ensure_ascii=False)
        assert "&lt;script&gt;" in everything
        assert "<script" not in everything and "\u202e" not in everything
        assert set(re.findall("<[^>]*>", everything)) <= {"<b>", "</b>", "<br>"}
    bars = language_bars({"<i>m</i>": {"en": 0.5, "<u>": 0.4}, "n": {"en": 0.5, "<u>": 0.4}}, n={"<u>": 3})
    history = loss_history({"<i>m": [{"step": 0, "terms": {"<u>ce": 1.0}}]})
    for fig in (bars, history):
        everything = json.dumps(fig.to_plotly_json()["data"], default=lambda array: array.tolist())
        everything += json.dumps([fig.layout.yaxis.ticktext, [note.text for note in fig.layout.annotations]])
        assert "<i>" not in everything and "<u>" not in everything


@pytest.mark.parametrize("colour", ["language", "label"])
def test_before_after_map_joins_the_right_points(colour: str) -> None:
    before, after = {0: points(1), 6: points(2)}, {0: points(3), 6: points(4).sample(frac=1, random_state=0)}
    fig = before_after_map(before, after, colour=colour)
    for state, axis in ((before[6], "x"), (after[6], "x2")):
        at = {(row.language, row.id): (row.x, row.y) for row in state.itertuples()}
        expected = sorted((*at["en", concept], *spot) for (code, concept), spot in at.items() if code != "en")
        found = []
        for trace in drawn(fig, "lines"):
            if (trace.xaxis or "x") == axis:
                assert np.isnan(trace.x[2::3]).all() and np.isnan(trace.y[2::3]).all()
                found += list(zip(trace.x[::3], trace.y[::3], trace.x[1::3], trace.y[1::3], strict=True))
        assert len(found) == 10
        assert close(sorted(map(tuple, np.array(found, float))), expected)
        dots = [trace for trace in drawn(fig) if (trace.xaxis or "x") == axis]
        spots = {}
        for trace in dots:
            for x, y, text in zip(trace.x, trace.y, trace.hovertext, strict=True):
                spots[text.split("</b>")[0].removeprefix("<b>🐱 ")] = (x, y)
        assert len(spots) == 15
        assert all(close(spots[row.text], (row.x, row.y)) for row in state.itertuples())
    listed = [trace.name for trace in fig.data if trace.showlegend is not False]
    assert len(listed) == len(set(listed)) == (3 if colour == "language" else 2)


def test_slider_has_the_layers_and_the_button_hides_the_lines() -> None:
    before = {layer: points(layer) for layer in (12, 0, 6)}
    after = {layer: points(100 + layer) for layer in (0, 6, 12)}
    fig = before_after_map(before, after, layer=6)
    slider, button = fig.layout.sliders[0], fig.layout.updatemenus[0].buttons[0]
    assert [step.label for step in slider.steps] == ["0", "6", "12"]
    assert slider.active == 1
    for layer, step in zip((0, 6, 12), slider.steps, strict=True):
        shown = before_after_map({layer: before[layer]}, {layer: after[layer]})
        (new,) = step.args
        assert step.method == "restyle" and set(new) == {"x", "y"}
        for axis in "xy":
            assert len(new[axis]) == len(fig.data)
            assert all(close(decoded(v), trace[axis]) for v, trace in zip(new[axis], shown.data, strict=True))
    assert all(close(trace.x, decoded(v)) for trace, v in zip(fig.data, slider.steps[1].args[0]["x"], strict=True))
    lines = [i for i, trace in enumerate(fig.data) if trace.mode == "lines"]
    assert button.args[0] == {"opacity": 0} and list(button.args[1]) == lines
    assert button.args2[0] == {"opacity": fig.data[lines[0]].opacity} and list(button.args2[1]) == lines


def test_layer_map_moves_all_panels_with_one_slider() -> None:
    umap, pca = {0: points(1), 6: points(2)}, {0: points(3), 6: points(4)}
    fig = layer_map({"<UMAP>": umap, "PCA": pca}, layer=0)
    assert [note.text for note in fig.layout.annotations] == ["&lt;UMAP&gt;", "PCA"]
    assert fig.layout.xaxis2.matches is None and not fig.layout.updatemenus and not drawn(fig, "lines")
    assert [(trace.name, trace.xaxis or "x") for trace in fig.data] == [
        (language_name(code), axis) for axis in ("x", "x2") for code in ("en", "ja", "de")
    ]
    (new,) = fig.layout.sliders[0].steps[1].args
    for state, now, row in ((umap, 0, 0), (umap, 6, 1), (pca, 0, 3), (pca, 6, 4)):
        code = ("en", "ja", "de")[row % 3]
        expected = state[now][state[now]["language"] == code]
        assert close(fig.data[row].x if now == 0 else decoded(new["x"][row]), expected["x"])
        assert close(fig.data[row].y if now == 0 else decoded(new["y"][row]), expected["y"])
    joined = layer_map({"one": umap}, source="de")
    assert len(drawn(joined, "lines")) == 2 and joined.layout.updatemenus[0].buttons[0].label == "Lines on / off"
    with pytest.raises(ValueError, match=r"panels UMAP, PCA have the layers \[\[0, 6\], \[0\]\]"):
        layer_map({"UMAP": umap, "PCA": {0: points()}})
    with pytest.raises(ValueError, match="at least one"):
        layer_map({})


def test_maps_say_what_is_wrong() -> None:
    table = points()
    with pytest.raises(ValueError, match=r"lack y, text\. Needed: x, y, id, language, label, text"):
        alignment_map(table.drop(columns=["y", "text"]))
    with pytest.raises(ValueError, match="no points to draw"):
        alignment_map(table.iloc[:0])
    with pytest.raises(ValueError, match=r'Unknown colour "lang".*Valid: language, label'):
        alignment_map(table, colour="lang")
    with pytest.raises(ValueError, match="'c0' in 'en' twice"):
        alignment_map(pd.concat([table, table.iloc[:1]]))
    with pytest.raises(ValueError, match="coordinates are missing"):
        alignment_map(table.assign(x=np.nan))
    with pytest.raises(ValueError, match=r"before has the layers \[0\], after \[1\]"):
        before_after_map({0: table}, {1: table})
    with pytest.raises(ValueError, match="at least one"):
        before_after_map({}, {})
    with pytest.raises(ValueError, match=r'Unknown layer "3".*Valid: 0'):
        before_after_map({0: table}, {0: table}, layer=3)
    with pytest.raises(ValueError, match="other points than layer 0"):
        before_after_map({0: table}, {0: table.iloc[:-1]})
    with pytest.raises(ValueError, match="Lines start at 'fr'"):
        before_after_map({0: table}, {0: table}, source="fr")


# Bars and losses


def test_language_bars_sort_by_the_baseline_and_set_the_source_apart() -> None:
    scores = {
        "vanilla": {"ja": 0.5, "en": 0.8, "de": 0.7, "fr": 0.6},
        "ear": {"ja": 0.6, "en": 0.8, "de": 0.7, "fr": 0.5},
    }
    intervals = {"ear": {"ja": (0.55, 0.68)}}
    fig = language_bars(scores, intervals=intervals, n={"ja": 618})
    assert list(fig.layout.yaxis.ticktext) == ["English (source)", "Mean of 3 targets", "German", "French", "Japanese"]
    steps = np.diff(fig.layout.yaxis.tickvals)
    assert steps[1] > steps[0] == steps[2] == steps[3]
    assert fig.layout.yaxis.range[0] > fig.layout.yaxis.range[1]  # the first row is on top
    assert [bar.name for bar in fig.data] == ["vanilla", "ear"]
    assert close(fig.data[0].x, [0.8, 0.6, 0.7, 0.6, 0.5])
    assert close(fig.data[1].x, [0.8, 0.6, 0.7, 0.5, 0.6])
    assert close(fig.data[1].error_x.array, [0, 0, 0, 0, 0.08]) and close(
        fig.data[1].error_x.arrayminus, [0, 0, 0, 0, 0.05]
    )
    assert not any(fig.data[0].error_x.array)
    assert fig.data[0].hovertext[4] == "<b>Japanese</b><br>vanilla: 50.0%<br>n = 618"
    assert fig.data[1].hovertext[4] == "<b>Japanese</b><br>ear: 60.0%<br>+10.0 points on vanilla<br>n = 618"
    assert len(language_bars({"vanilla": {"en": 0.8}}).layout.yaxis.ticktext) == 1


def test_language_bars_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="No scores"):
        language_bars({})
    with pytest.raises(ValueError, match="ear and vanilla have scores for different languages"):
        language_bars({"vanilla": {"en": 0.8, "de": 0.7}, "ear": {"en": 0.8}})
    with pytest.raises(ValueError, match=r'Unknown source language "en".*Valid: de'):
        language_bars({"vanilla": {"de": 0.7}})
    with pytest.raises(ValueError, match="70 is not an accuracy"):
        language_bars({"vanilla": {"en": 70}})


def history(steps: int = 100) -> list[dict[str, Any]]:
    return [
        {
            "step": 2 * i,
            "terms": {"ce": 2.0 / (i + 1), "push": -0.01 * i},
            "shares": {"ce": 0.99, "push": 0.01 * (i > 0)},
        }
        if i % 10 == 0
        else {"step": 2 * i, "terms": {"ce": 2.0 / (i + 1), "push": -0.01 * i}}
        for i in range(steps)
    ]


def test_loss_history_draws_values_means_and_shares() -> None:
    fig = loss_history(history())
    assert [note.text for note in fig.layout.annotations[:3]] == ["ce", "push", "Share of the gradient"]
    assert fig.layout.yaxis3.type == "log"
    raw, mean, share = (trace for trace in fig.data if trace.name == "push")
    assert raw.showlegend is False and raw.opacity < 0.5
    values = [-0.01 * i for i in range(100)]
    assert close(raw.x, range(0, 200, 2)) and close(raw.y, values)
    reach = len(values) // 40
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(100)]
    assert reach == 2 and close(mean.y, [sum(window) / len(window) for window in windows])
    assert share.yaxis == "y3" and close(share.x, range(0, 200, 20))
    assert close(share.y, [math.nan] + [0.01] * 9)  # a log axis has no zero


def test_loss_history_compares_methods_thins_long_runs_and_survives_nan() -> None:
    vanilla = [{"step": i, "terms": {"ce": 1.0}} for i in range(5000)]
    vanilla[0]["terms"] = {"ce": math.nan}
    fig = loss_history({"vanilla": vanilla, "ear": history()}, title="Losses")
    assert list(dict.fromkeys(trace.name for trace in fig.data)) == ["ce, vanilla", "ce, ear", "push, ear"]
    assert (
        len({trace.line.dash for trace in fig.data if trace.name.startswith("ce,") and trace.showlegend is None}) == 2
    )
    assert all(len(trace.x) <= 1100 for trace in fig.data)
    assert np.isnan(fig.data[0].y[0]) and np.isfinite(fig.data[1].y[0])
    assert fig.layout.yaxis3.type is None or len(loss_history(vanilla).layout.annotations) == 1


def test_loss_history_says_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="history is empty"):
        loss_history([])
    with pytest.raises(ValueError, match="history is empty"):
        loss_history({"vanilla": []})
    with pytest.raises(ValueError, match="of vanilla lacks terms"):
        loss_history({"vanilla": [{"step": 1}]})


def report(shift: float = 0.0) -> list[dict[str, Any]]:
    return [
        {"layer": layer, "chance": {"knn_mixing": 1.0}, "language_probe": 0.9 + shift}
        | {"knn_mixing": {"mean": 0.2 * layer + shift, "en": 0.3, "zh_CN": 0.1 * layer, "de": 0.3 * layer}}
        | {"p1": {"raw": {"to_source": {"mean": 0.5, "de": 0.4}}, "centred": {"to_source": {"mean": 0.6, "de": 0.5}}}}
        for layer in (0, 3)
    ]


def test_layer_curves_draw_means_strong_and_languages_thin() -> None:
    fig = layer_curves(report(), "knn_mixing", title="Mixing")
    found = {trace.name: (trace.line.width, list(trace.x), list(trace.y)) for trace in fig.data}
    assert found == {
        "English": (1, [0, 3], [0.3, 0.3]),
        "Chinese (zh_CN)": (1, [0, 3], [0, 0.3]),
        "German": (1, [0, 3], [0, 0.9]),
        "mean of targets": (4, [0, 3], [0, 0.6]),
    }
    assert {trace.name: trace.line.color for trace in fig.data}["English"] == PALETTE[0]
    assert [(line.y0, line.label.text) for line in fig.layout.shapes] == [(1, "full mixing")]
    parts = layer_curves(report(), "p1")
    assert [(t.name, list(t.y)) for t in parts.data] == [
        ("raw, to source", [0.5] * 2),
        ("centred, to source", [0.6] * 2),
    ]
    assert len({t.line.color for t in parts.data}) == 2 and not parts.layout.shapes
    assert [t.name for t in layer_curves(report(), "language_probe").data] == ["Accuracy of the language probe"]


def test_layer_curves_compare_states_by_their_means() -> None:
    fig = layer_curves({"before": report(), "after <b>": report(0.05)}, "knn_mixing")
    assert [trace.name for trace in fig.data] == ["mean of targets, before", "mean of targets, after &lt;b&gt;"]
    assert close([trace.y for trace in fig.data], [[0, 0.6], [0.05, 0.65]])
    assert len({trace.line.dash for trace in fig.data}) == 2


def test_layer_curves_say_what_is_wrong() -> None:
    for empty in ([], {}, {"before": []}):
        with pytest.raises(ValueError, match="report is empty"):
            layer_curves(empty, "p1")
    with pytest.raises(
        ValueError, match=r'Unknown measure of this report "gap".*Valid: knn_mixing, p1, language_probe'
    ):
        layer_curves(report(), "gap")


# Projection


def clouds(items: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {code: rng.normal(size=(items, 8)) + i for i, code in enumerate(CODES)}


def test_pca_is_that_of_scikit_learn_and_common_to_both_states() -> None:
    from sklearn.decomposition import PCA

    before, after = clouds(seed=1), clouds(seed=2)
    unit = [
        np.concatenate([rows / np.linalg.norm(rows, axis=1)[:, None] for rows in c.values()]) for c in (before, after)
    ]
    expected = PCA(2).fit_transform(unit[0])
    found = project(before, "pca")
    assert found.shape == (36, 2)
    assert close(np.abs(found), np.abs(expected))
    centred = [rows - rows.mean(0) for rows in unit]
    axes = PCA(2).fit(np.concatenate(centred)).components_.T
    for state, rows in zip(project_aligned(before, after, "pca"), centred, strict=True):
        assert close(np.abs(state), np.abs(rows @ axes))
    np.testing.assert_array_equal(project(before, "pca"), found)


def test_umap_is_seeded_and_ties_before_to_after() -> None:
    before, after = clouds(seed=1), clouds(seed=2)
    first, second = project_aligned(before, after, seed=3)
    again = project_aligned(before, after, seed=3)
    np.testing.assert_array_equal(first, again[0])
    np.testing.assert_array_equal(second, again[1])
    assert first.shape == second.shape == (36, 2) and np.isfinite([first, second]).all()
    still, same = project_aligned(before, before, seed=3)
    spread = np.linalg.norm(still - still.mean(0), axis=1).mean()
    assert np.linalg.norm(still - same, axis=1).mean() < 0.5 * spread
    np.testing.assert_array_equal(project(before, seed=1), project(before, seed=1))


def test_projection_says_what_is_wrong() -> None:
    vectors = clouds()
    with pytest.raises(ValueError, match=r'Unknown projection "tsne".*Valid: umap, pca'):
        project(vectors, "tsne")
    with pytest.raises(ValueError, match="umap needs 10 points or more and got 3"):
        project({code: rows[:1] for code, rows in vectors.items()})
    with pytest.raises(ValueError, match="one layer"):
        project({code: rows[None] for code, rows in vectors.items()}, "pca")
    with pytest.raises(ValueError, match="one layer"):
        project({}, "pca")
    with pytest.raises(ValueError, match="NaN"):
        project(vectors | {"en": vectors["en"] * np.nan}, "pca")
    with pytest.raises(ValueError, match="same languages and items"):
        project_aligned(vectors, {code: rows[1:] for code, rows in vectors.items()}, "pca")


def test_map_points_put_texts_beside_coordinates() -> None:
    from datasets import Dataset

    from xlt_tutorial.tasks import Languages, ParallelTask

    data = Languages()
    for code in ("en", "de"):
        texts = {"premise": [f"{code} p{i}" for i in range(4)], "hypothesis": [f"{code} h{i}" for i in range(4)]}
        data[code] = Dataset.from_dict({"id": [f"c{i}" for i in range(4)], "label": [0, 1, 0, 1], **texts})
    task = ParallelTask("pairs", "en", ("en", "de"), ("yes", "no"), ("premise", "hypothesis"), {"test": data})
    table = map_points(np.arange(8).reshape(4, 2), task, rows=[3, 0])
    assert list(table.columns) == ["x", "y", "id", "language", "label", "text", "english"]
    assert table.values.tolist() == [
        [0, 1, "c3", "en", "no", "en p3 / en h3", "en p3 / en h3"],
        [2, 3, "c0", "en", "yes", "en p0 / en h0", "en p0 / en h0"],
        [4, 5, "c3", "de", "no", "de p3 / de h3", "en p3 / en h3"],
        [6, 7, "c0", "de", "yes", "de p0 / de h0", "en p0 / en h0"],
    ]
    assert map_points(np.zeros((4, 2)), task, languages=["de"])["language"].tolist() == ["de"] * 4
    with pytest.raises(ValueError, match=r"3 coordinates for 8 points \(2 languages, 4 items each\)"):
        map_points(np.zeros((3, 2)), task)


# Publishing


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    calls: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr("IPython.display.display", lambda thing, **options: calls.append((thing, options)))
    return calls


def test_show_is_interactive_with_an_escaped_sentence(displayed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLT_PUBLISH", raising=False)
    show(alignment_map(points()), "Two *clouds* <b>\u202e& $x_1$,\n one [gap](http://x).")
    (bundle, options), (sentence, _) = displayed
    assert set(bundle) == {"application/vnd.plotly.v1+json", "text/plain"} and options == {"raw": True, "metadata": {}}
    json.dumps(bundle)
    assert bundle["text/plain"] == "Two *clouds* <b>& $x_1$, one [gap](http://x)."
    assert sentence.data == r"*Two \*clouds\* &lt;b&gt;&amp; \$x\_1\$, one \[gap\](http\://x).*"


@pytest.mark.browser
def test_show_publishes_a_picture(displayed: Any, monkeypatch: pytest.MonkeyPatch, chromium: str) -> None:
    monkeypatch.setenv("XLT_PUBLISH", "1")
    monkeypatch.setenv("BROWSER_PATH", chromium)
    show(before_after_map({0: points(1)}, {0: points(2)}), "Before & after.")
    (bundle, options), _ = displayed
    assert bundle["image/png"][:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", bundle["image/png"][16:24]) == (900, 620)
    assert len(bundle["image/png"]) > 5000
    assert options["metadata"] == {"image/png": {"alt": "Before & after."}}


def test_show_warns_where_no_picture_can_be_made(displayed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLT_PUBLISH", "1")
    fig = alignment_map(points())

    def fails(*args: Any, **options: Any) -> bytes:
        raise RuntimeError("no browser")

    monkeypatch.setattr(type(fig), "to_image", fails)
    with pytest.warns(UserWarning, match=r"install kaleido and chromium.*no browser"):
        show(fig, "A map.")
    assert "image/png" not in displayed[0][0]


def test_importing_the_modules_imports_nothing_heavy() -> None:
    names = [module.__name__ for module in (figures, projection, styles)]
    heavy = {"plotly", "umap", "pandas", "sklearn", "torch"}
    code = f"import sys, {', '.join(names)}; print(*set(sys.modules) & {heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
