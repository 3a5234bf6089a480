"""Figures: data in, plotly figure out. Nothing is computed about a model here, and nothing is read or written.

Colours, markers and the treatment of text from data are those of ``styles``. All errors are ``XltError``, a
``ValueError``.
"""

from __future__ import annotations

import base64
import io
import json
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.styles import FONT, PALETTE, language_name, markdown_text, plain_text, safe_text, styles

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

COLUMNS = ("x", "y", "id", "language", "label", "text")
MEASURE_NAMES = {"gap_ratio": "Gap ratio", "knn_mixing": "kNN mixing", "p1": "P@1", "silhouette": "Silhouette"}
MEASURE_NAMES |= {"language_probe": "Accuracy of the language probe"}
DASHES = ("solid", "dash", "dot", "dashdot")
WEBGL_FROM = 3000  # points; below, SVG is as fast and sharper

_FAINT = 0.35
_BARE_AXIS: dict[str, Any] = {"showticklabels": False, "ticks": "", "showgrid": False, "zeroline": False}
_BARE_AXIS |= {"showline": True, "mirror": True, "linecolor": "#bbbbbb"}


def alignment_map(points: pd.DataFrame, colour: str = "language", title: str | None = None) -> Figure:
    """Draw translations in the plane, coloured and marked by ``language`` or by ``label``.

    Args:
        points: One row per item and language, as ``projection.map_points`` makes it: ``x``, ``y``, ``id``,
            ``language``, ``label`` and ``text``, optionally ``emoji`` and ``english`` for the hover.
        colour: ``language`` or ``label``.
        title: Title of the figure.

    Returns:
        A scatter figure with one trace per language or label; WebGL draws it from 3,000 points on.
    """
    import plotly.graph_objects as go

    _check_points(points, colour)
    fig = go.Figure()
    x, y = points[["x", "y"]].to_numpy(dtype=np.float32).T
    for trace, rows in _markers(points, colour, len(points)):
        fig.add_trace(trace | {"x": x[rows], "y": y[rows]})
    fig.update_xaxes(_BARE_AXIS)
    fig.update_yaxes(_BARE_AXIS)
    return _dressed(fig, 600, title, colour.capitalize())


def before_after_map(
    before: Mapping[int, pd.DataFrame],
    after: Mapping[int, pd.DataFrame],
    source: str = "en",
    colour: str = "language",
    layer: int | None = None,
    titles: tuple[str, str] = ("Before training", "After training"),
) -> Figure:
    """Draw two states of the same points side by side, with a slider over layers and lines joining translations.

    Thin lines go from the item in the source language to each translation; a button hides them. Slider and button work
    without a kernel. Both panels have the same axes.

    Args:
        before: Layer -> points as in ``alignment_map``; the coordinates of the panel on the left.
        after: The same layers and points; the panel on the right.
        source: The language from which the lines start.
        colour: ``language`` or ``label``.
        layer: The layer shown first, the last by default.
        titles: Of the two panels.
    """
    if sorted(before) != sorted(after) or not before:
        message = f"before has the layers {sorted(before)}, after {sorted(after)}"
        raise XltError(f"{message}: give both the same, at least one.")
    fig = _sliding((before, after), source, colour, layer, [safe_text(title) for title in titles])
    return fig.update_layout(xaxis2_matches="x", yaxis2_matches="y")


def layer_map(
    panels: Mapping[str, Mapping[int, pd.DataFrame]],
    source: str | None = None,
    colour: str = "language",
    layer: int | None = None,
) -> Figure:
    """Draw the same points in one panel or several, such as UMAP and PCA, with one slider over layers.

    The slider works without a kernel. Each panel has its own axes.

    Args:
        panels: Title -> layer -> points as in ``alignment_map``; the same layers and points in all.
        source: The language from which thin lines go to each translation; no lines where ``None``.
        colour: ``language`` or ``label``.
        layer: The layer shown first, the last by default.
    """
    held = [sorted(layers) for layers in panels.values()]
    if not held or not held[0] or any(layers != held[0] for layers in held):
        raise XltError(f"The panels {', '.join(panels)} have the layers {held}: give all the same, at least one.")
    return _sliding(list(panels.values()), source, colour, layer, [safe_text(title) for title in panels])


def language_bars(
    scores: Mapping[str, Mapping[str, float]],
    source: str = "en",
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    n: Mapping[str, int] | None = None,
    title: str | None = None,
) -> Figure:
    """Draw accuracy by language for one method or several, the source and the mean of the targets set apart on top.

    Args:
        scores: Method -> language -> accuracy from 0 to 1. The first method is the baseline, which sorts the targets.
        source: The source language.
        intervals: Method -> language (or ``"mean"``) -> (low, high), drawn as error bars.
        n: Language -> items tested, for the hover.
        title: Title of the figure.
    """
    import plotly.graph_objects as go

    if not scores:
        raise XltError('No scores: give {method: {language: accuracy}}, such as {"vanilla": {"en": 0.81, "de": 0.65}}.')
    baseline, first = next(iter(scores.items()))
    if odd := [method for method, values in scores.items() if set(values) != set(first)]:
        raise XltError(f"{', '.join(odd)} and {baseline} have scores for different languages: give all the same ones.")
    if source not in first:
        raise unknown("source language", source, first)
    if high := [score for row in scores.values() for score in row.values() if not 0 <= score <= 1]:
        raise XltError(f"{high[0]} is not an accuracy from 0 to 1: divide percentages by 100.")
    targets = sorted((language for language in first if language != source), key=lambda t: -first[t])
    means = {method: float(np.mean([row[t] for t in targets])) if targets else 0.0 for method, row in scores.items()}
    values = {method: {**row, "mean": means[method]} for method, row in scores.items()}
    names = {source: f"{safe_text(language_name(source))} (source)"}
    names |= {"mean": f"Mean of {len(targets)} targets"} if targets else {}
    names |= {target: safe_text(language_name(target)) for target in targets}
    at = [i if i < 2 else i + 0.5 for i in range(len(names))]  # half a row sets the targets apart

    def hover(method: str, row: str) -> str:
        lines = [f"<b>{names[row]}</b>", f"{safe_text(method)}: {values[method][row]:.1%}"]
        if method != baseline:
            gain = 100 * (values[method][row] - values[baseline][row])
            lines.append(f"{gain:+.1f} points on {safe_text(baseline)}")
        return "<br>".join(lines + ([f"n = {n[row]}"] if n and row in n else []))

    fig = go.Figure()
    for number, (method, score) in enumerate(values.items()):
        spans = [(intervals or {}).get(method, {}).get(row, (score[row], score[row])) for row in names]
        ends = list(zip(names, spans, strict=True))
        fig.add_bar(
            orientation="h",
            name=safe_text(method),
            x=[round(score[row], 4) for row in names],
            y=at,
            error_x={
                "array": [round(high - score[row], 4) for row, (_, high) in ends],
                "arrayminus": [round(score[row] - low, 4) for row, (low, _) in ends],
                "visible": intervals is not None,
                "color": "#333333",
                "thickness": 1.5,
                "width": 0,
            },
            marker_color=PALETTE[number % len(PALETTE)] if number else "#b8b8b8",
            text=[f"{100 * score[row]:.1f}" for row in names] if len(scores) <= 3 else None,
            textposition="inside",
            insidetextanchor="start",
            constraintext="none",
            textfont={"size": 12},
            hovertext=[hover(method, row) for row in names],
            hoverinfo="text",
        )
    fig.update_xaxes(tickformat=".0%", rangemode="tozero", title="Accuracy")
    fig.update_yaxes(tickvals=at, ticktext=list(names.values()), range=[at[-1] + 0.5, -0.5], showgrid=False)
    fig.update_yaxes(ticks="outside", ticklen=6, tickcolor="white", zeroline=False)
    fig.update_layout(barmode="group", bargap=0.2)
    return _dressed(fig, 130 + len(names) * (8 + (19 if len(scores) <= 3 else 9) * len(scores)), title, "Method")


def loss_history(
    history: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]], title: str | None = None
) -> Figure:
    """Draw every loss term over steps, each on its own axis, and below them each term's share of the gradient (log).

    Faint lines are the logged values, strong ones their mean over a moving twentieth of the run. A dotted line marks
    1 %, under which a term is next to inert.

    Args:
        history: Rows of ``Run.history``, with ``step``, ``terms`` and, in some rows, ``shares``; or method -> rows.
        title: Title of the figure.
    """
    from plotly.subplots import make_subplots

    runs = dict(history) if isinstance(history, Mapping) else {"": history}
    if not any(runs.values()):
        raise XltError("The history is empty: train for at least one step.")
    for method, rows in runs.items():
        for row in rows:
            if lacking := [key for key in ("step", "terms") if key not in row]:
                raise XltError(f"History row {dict(row)} of {method or 'the run'} lacks {', '.join(lacking)}.")
    terms = list(dict.fromkeys(term for rows in runs.values() for row in rows for term in row["terms"]))
    shared = any(row.get("shares") for rows in runs.values() for row in rows)
    fig = make_subplots(
        rows=2 if shared else 1,
        cols=len(terms),
        specs=[[{}] * len(terms)] + ([[{"colspan": len(terms)}] + [None] * (len(terms) - 1)] if shared else []),
        subplot_titles=[*map(safe_text, terms), *(["Share of the gradient"] if shared else [])],
        vertical_spacing=0.16,
        horizontal_spacing=0.07,
    )
    for number, (method, rows) in enumerate(runs.items()):
        for column, term in enumerate(terms, 1):
            line = {"color": PALETTE[column % len(PALETTE)], "dash": DASHES[number % len(DASHES)], "width": 2}
            name = ", ".join(safe_text(part) for part in (term, method) if part)
            base = {"type": "scatter", "mode": "lines", "name": name, "legendgroup": name, "line": line}
            steps, raw = _series(rows, "terms", term)
            if len(steps) == 0:
                continue
            faint = base | {"opacity": _FAINT, "hoverinfo": "skip", "showlegend": False}
            faint["line"] = {"color": line["color"], "width": 1}
            fig.add_trace(faint | {"x": steps, "y": raw}, row=1, col=column)
            fig.add_trace(base | {"x": steps, "y": _smoothed(raw, len(raw) // 40)}, row=1, col=column)
            steps, share = _series(rows, "shares", term)
            if len(steps):
                dots = base | {"mode": "lines+markers", "marker": {"size": 4}, "showlegend": False}
                fig.add_trace(dots | {"x": steps, "y": np.where(share > 0, share, np.nan)}, row=2, col=1)
    fig.update_xaxes(title="Step", title_standoff=4)
    fig.update_yaxes(exponentformat="e", nticks=6)
    fig.update_layout(legend_itemwidth=40)
    if shared:
        ticks = [*(10.0**power for power in range(-8, 0)), 0.5, 1.0]
        fig.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{100 * t:g} %" for t in ticks], row=2, col=1)
        fig.add_hline(y=0.01, line={"color": "#888888", "dash": "dot", "width": 1}, row=2, col=1)
    return _dressed(fig, 560 if shared else 340, title, "Loss term")


def layer_curves(
    report: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]],
    measure: str,
    title: str | None = None,
) -> Figure:
    """Draw one measure of alignment over the layers.

    The mean over targets is a strong line, each language a thin one. A measure of several parts (``p1``,
    ``silhouette``) has a strong line for each part. A dotted line marks no skill, or full mixing.

    Args:
        report: What ``alignment.align`` returned; or state -> that, such as before and after training, which draws the
            strong lines alone, dashed by state.
        measure: A measure that the report holds.
        title: Title of the figure.
    """
    import plotly.graph_objects as go

    states = dict(report) if isinstance(report, Mapping) else {"": report}
    if not states or not all(states.values()):
        raise XltError("The report is empty: give what align returned, for one layer or more.")
    held = [name for name in MEASURE_NAMES if all(name in row for rows in states.values() for row in rows)]
    if measure not in held:
        raise unknown("measure of this report", measure, held)
    fig = go.Figure()
    looks = styles({key for rows in states.values() for key, _, thin in _curves(rows, measure) if thin})
    strong = [key for key, _, thin in _curves(next(iter(states.values())), measure) if not thin]
    for number, (state, rows) in enumerate(states.items()):
        layers = [row["layer"] for row in rows]
        for key, values, thin in _curves(rows, measure):
            if thin and len(states) > 1:
                continue
            shade, symbol = looks[key] if thin else (PALETTE[strong.index(key) + (len(strong) > 1)], "circle")
            name = language_name(key) if thin else key or MEASURE_NAMES[measure]
            fig.add_scatter(
                x=layers,
                y=[round(value, 4) for value in values],
                name=", ".join(safe_text(part) for part in (name, state) if part),
                mode="lines+markers",
                line={"color": shade, "width": 1 if thin else 4, "dash": DASHES[number % len(DASHES)]},
                marker={"symbol": symbol, "size": 6},
                opacity=0.7 if thin else 1,
            )
    if (chance := next(iter(states.values()))[0]["chance"].get(measure)) is not None:
        label = {"text": "chance", "textposition": "start", "yanchor": "bottom"}
        label |= {"text": "full mixing", "yanchor": "top"} if measure == "knn_mixing" else {}
        fig.add_hline(y=chance, line={"color": "#888888", "dash": "dot", "width": 1.5}, label=label)
    layers = sorted({row["layer"] for rows in states.values() for row in rows})
    fig.update_xaxes(title="Layer (0: embedding block)", tickvals=layers, zeroline=False)
    fig.update_yaxes(title=MEASURE_NAMES[measure])
    return _dressed(fig, 440, title, "State" if len(states) > 1 else "Language" if looks else "Part")


def show(fig: Figure, sentence: str) -> None:
    """Display a figure in three layers: interactive plotly, a PNG, and the sentence that says what it shows.

    The PNG is made where ``XLT_PUBLISH=1`` is set, by kaleido and a chromium (``BROWSER_PATH`` names one that is not
    found); a warning says so when that fails. The sentence is its alternative text and stands below the figure.
    """
    from IPython.display import Markdown, display

    plain = " ".join(plain_text(sentence).split())
    figure = json.loads(fig.to_json()) | {"config": {"displaylogo": False}}
    bundle: dict[str, Any] = {"application/vnd.plotly.v1+json": figure, "text/plain": plain}
    if os.environ.get("XLT_PUBLISH") == "1":
        try:
            bundle["image/png"] = _small(fig.to_image(format="png", width=fig.layout.width or 900))
        except Exception as error:  # kaleido, choreographer and chromium each raise their own
            warnings.warn(f"No PNG was made; install kaleido and chromium, or set BROWSER_PATH: {error}", stacklevel=2)
    display(bundle, raw=True, metadata={"image/png": {"alt": plain}} if "image/png" in bundle else {})
    display(Markdown(f"*{markdown_text(plain)}*"))


def _check_points(points: pd.DataFrame, colour: str) -> None:
    if colour not in ("language", "label"):
        raise unknown("colour", colour, ("language", "label"))
    if missing := [column for column in COLUMNS if column not in points]:
        raise XltError(f"The points lack {', '.join(missing)}. Needed: {', '.join(COLUMNS)}; emoji and english may be.")
    if len(points) == 0:
        raise XltError("There are no points to draw: choose at least one language and one item.")
    # Counted without pandas, which takes texts for equal that differ after a NUL (before pandas 3).
    [((language, name), times)] = Counter(zip(points["language"], points["id"], strict=True)).most_common(1)
    if times > 1:
        raise XltError(f"The points hold {name!r} in {language!r} twice: one row per item and language.")
    if not np.isfinite(points[["x", "y"]].to_numpy(dtype=float)).all():
        raise XltError("Some coordinates are missing or infinite: project vectors without NaN.")


def _markers(points: pd.DataFrame, colour: str, drawn: int) -> list[tuple[dict[str, Any], list[int]]]:
    """One marker trace per language or label, without coordinates, and the rows of the points that it draws."""
    english = points["english"] if "english" in points else [""] * len(points)
    emoji = points["emoji"] if "emoji" in points else [""] * len(points)
    columns = (emoji, points["text"], points["language"], points["label"], english)
    hover = [
        f"<b>{f'{safe_text(face)} ' if face else ''}{safe_text(text)}</b><br>{safe_text(language_name(language))}"
        f" · {safe_text(label)}" + (f"<br>English: {safe_text(gloss)}" if gloss and gloss != text else "")
        for face, text, language, label, gloss in zip(*columns, strict=True)
    ]
    values = points[colour].to_numpy()
    traces = []
    for value, (shade, symbol) in styles(values, colour).items():
        rows = np.flatnonzero(values == value).tolist()
        name = safe_text(language_name(value) if colour == "language" else value)
        marker = {"color": shade, "symbol": symbol, "size": 8, "line": {"color": "white", "width": 0.5}}
        kind: dict[str, Any] = {
            "type": "scattergl" if drawn >= WEBGL_FROM else "scatter",
            "mode": "markers",
            "name": name,
        }
        kind |= {"legendgroup": name, "hoverinfo": "text", "hovertext": [hover[row] for row in rows]}
        traces.append((kind | {"marker": marker}, rows))
    return traces


def _sliding(
    states: Sequence[Mapping[int, pd.DataFrame]],
    source: str | None,
    colour: str,
    layer: int | None,
    titles: Sequence[str],
) -> Figure:
    """Maps of the same points, a panel for each state, one slider over layers and, from ``source`` if any, lines."""
    from plotly.subplots import make_subplots

    layers = sorted(states[0])
    shown = layers[-1] if layer is None else layer
    if shown not in layers:
        raise unknown("layer", shown, map(str, layers))
    for state in states:
        for points in state.values():
            _check_points(points, colour)
    points = states[0][shown]
    keys = list(zip(points["language"], points["id"], strict=True))
    place = {key: row for row, key in enumerate(keys)}
    if source is not None and any((source, concept) not in place for _, concept in keys):
        raise XltError(f"Lines start at {source!r}, and some items lack it: add it, or name another source language.")

    def frame(points: pd.DataFrame, at: int) -> np.ndarray:
        row = {key: i for i, key in enumerate(zip(points["language"], points["id"], strict=True))}
        if row.keys() != place.keys():
            raise XltError(f"Layer {at} holds other points than layer {shown}: give the same ids and languages in all.")
        return points[["x", "y"]].to_numpy(dtype=np.float32)[[row[key] for key in keys]]

    # What the traces of one panel draw, as rows of the points, of which the last is a gap in a line.
    markers = _markers(points, colour, len(states) * len(points))
    thin = {"mode": "lines", "opacity": _FAINT, "hoverinfo": "skip", "showlegend": False}
    traces, draws = [], []
    for trace, rows in markers:
        foreign = [row for row in rows if source is not None and keys[row][0] != source]
        if ends := [end for row in foreign for end in (place[source or "", keys[row][1]], row, -1)]:
            line = {"line": {"color": trace["marker"]["color"], "width": 0.7}}
            traces.append({key: trace[key] for key in ("type", "name", "legendgroup")} | line | thin)
            draws.append(ends)
    traces += [trace for trace, _ in markers]
    draws += [rows for _, rows in markers]

    gap = np.full((1, 2), np.nan, dtype=np.float32)
    steps, start = [], dict[str, list[np.ndarray]]()
    for at in layers:
        panels = [np.concatenate([frame(state[at], at), gap]) for state in states]
        xy = {name: [panel[rows, i] for panel in panels for rows in draws] for i, name in enumerate("xy")}
        start = xy if at == shown else start
        packed = {name: [_packed(values) for values in axis] for name, axis in xy.items()}
        steps.append({"label": str(at), "method": "restyle", "args": [packed]})
    fig = make_subplots(rows=1, cols=len(states), subplot_titles=titles, horizontal_spacing=0.03)
    for i, x in enumerate(start["x"]):
        column, number = divmod(i, len(traces))
        unlisted = {"showlegend": False} if column else {}
        fig.add_trace(traces[number] | unlisted | {"x": x, "y": start["y"][i]}, row=1, col=column + 1)
    joined = [i for i, trace in enumerate(traces * len(states)) if trace["mode"] == "lines"]
    button: dict[str, Any] = {"label": "Lines on / off", "method": "restyle"}
    button |= {"args": [{"opacity": 0}, joined], "args2": [{"opacity": _FAINT}, joined]}
    menu = {"type": "buttons", "buttons": [button], "active": -1, "showactive": False}
    menu |= {"x": 1.02, "y": -0.05, "xanchor": "left", "yanchor": "top"}
    slider = {"steps": steps, "active": layers.index(shown), "currentvalue": {"prefix": "Layer "}, "pad": {"t": 16}}
    fig.update_xaxes(_BARE_AXIS)
    fig.update_yaxes(_BARE_AXIS)
    fig.update_layout(sliders=[slider], updatemenus=[menu] if joined else [])
    return _dressed(fig, 620, None, colour.capitalize())


def _curves(rows: Sequence[Mapping[str, Any]], measure: str) -> list[tuple[str, list[float], bool]]:
    """Name, values over the rows, and whether it is one language's, of all curves of a measure; strong ones last."""

    def flat(value: Any, name: str) -> dict[tuple[str, bool], float]:
        if not isinstance(value, Mapping):
            return {(name, False): float(value)}
        if "mean" not in value:
            parts = [flat(part, f"{name}, {key}" if name else key) for key, part in value.items()]
            return {key: number for part in parts for key, number in part.items()}
        languages = {} if name else {(key, True): float(number) for key, number in value.items() if key != "mean"}
        return languages | {(name or "mean of targets", False): float(value["mean"])}

    curves = [flat(row[measure], "") for row in rows]
    names = {key: key[0] if key[1] else key[0].replace("_", " ") for key in curves[0]}
    return [(name, [curve[key] for curve in curves], key[1]) for key, name in names.items()]


def _packed(values: np.ndarray) -> Any:
    """Float32 values for a slider: in base64 as plotly 6 and later write a trace, else a list, three times the size."""
    import plotly

    if int(plotly.__version__.split(".")[0]) >= 6:
        return {"dtype": "f4", "bdata": base64.b64encode(values.astype("<f4").tobytes()).decode()}
    return [round(value, 4) for value in values.tolist()]


def _series(rows: Sequence[Mapping[str, Any]], part: str, term: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one term, at most about a thousand of them."""
    found = [(row["step"], row[part][term]) for row in rows if term in (row.get(part) or {})]
    steps, values = np.array(found, dtype=np.float32).reshape(-1, 2)[:: max(1, len(found) // 1000)].T
    return steps.astype(np.int32), values


def _smoothed(values: np.ndarray, reach: int) -> np.ndarray:
    """Mean of each value and the ``reach`` finite ones before and after it."""
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    finite = (window[np.isfinite(window)] for window in windows)
    return np.array([window.mean() if len(window) else np.nan for window in finite], dtype=np.float32)


def _small(png: bytes) -> bytes:
    """The picture in 128 colours, a third of the size, where Pillow is installed; else as it is."""
    try:
        from PIL import Image
    except ImportError:
        return png
    small = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(128).save(small, "PNG", optimize=True)
    return small.getvalue()


def _dressed(fig: Figure, height: int, title: str | None, legend: str) -> Figure:
    fig.update_layout(
        template="plotly_white",
        font={"family": FONT, "size": 13, "color": "#222222"},
        hoverlabel={"font": {"family": FONT, "size": 14}, "align": "left"},
        legend={"title": {"text": legend}, "itemsizing": "constant"},
        margin={"l": 20, "r": 20, "t": 60 if title else 40, "b": 30},
        height=height,
        title=safe_text(title, 110) if title else None,
    )
    return fig
