"""Figures: data in, plotly figure out. Nothing is computed about a model here, and nothing is read or written.

Languages have one colour and one marker in every figure; the palette keeps its distances under simulated protanopia,
deuteranopia and tritanopia. Text from data is escaped, and right-to-left text is isolated from what surrounds it.
All errors are ``XltError``, a ``ValueError``.
"""

from __future__ import annotations

import html
import json
import os
import re
import textwrap
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xlt_tutorial.errors import XltError, unknown

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

# Colours 1 to 6 are those of Okabe and Ito (2008); each later one is the farthest from all before it in CIELAB, at the
# worst of normal and the three kinds of colour-blind vision.
PALETTE = (
    "#111111 #0072b2 #e69f00 #009e73 #cc79a7 #56b4e9 #d55e00 #8800ff #663311 #222299 #99bb66 #553366 #bb55ff #882244 "
    "#dd1144 #8811cc #885577 #557744 #aa1199 #ff4477 #aa3300 #9999ff"
).split()
MARKERS = (
    "circle square diamond cross triangle-up x triangle-down star pentagon triangle-left hexagon triangle-right "
    "hexagram bowtie hourglass star-square diamond-tall star-triangle-up diamond-wide star-diamond star-triangle-down octagon"
).split()
# The order is that of the palette: a language keeps its colour whatever else is in the figure.
LANGUAGES = {
    **{"en": "English", "es": "Spanish", "ja": "Japanese", "ko": "Korean", "pt": "Portuguese", "it": "Italian"},
    **{"fr": "French", "de": "German", "fa": "Persian", "id": "Indonesian", "zh": "Chinese", "ru": "Russian"},
    **{"tr": "Turkish", "ar": "Arabic", "th": "Thai", "hi": "Hindi", "sw": "Swahili", "vi": "Vietnamese"},
    **{"bg": "Bulgarian", "el": "Greek", "ur": "Urdu"},
}
FONT = "Noto Sans, Segoe UI, Helvetica Neue, Arial, Noto Sans CJK JP, Noto Naskh Arabic, Noto Color Emoji, sans-serif"
COLUMNS = ("x", "y", "id", "language", "label", "text")
WEBGL_FROM = 3000  # points; below, SVG is as fast and sharper

_FAINT = 0.35
_BARE_AXIS: dict[str, Any] = {
    "showticklabels": False,
    "showgrid": False,
    "zeroline": False,
    "showline": True,
    "mirror": True,
}
_BARE_AXIS |= {"linecolor": "#bbbbbb", "ticks": ""}
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def language_name(code: str) -> str:
    """Return the English name of a language code, such as ``German`` for ``de``, or the code where none is known."""
    base = re.split("[-_]", code)[0]
    return LANGUAGES.get(code) or (f"{LANGUAGES[base]} ({code})" if base in LANGUAGES else code)


def styles(values: Iterable[str], kind: str = "language") -> dict[str, tuple[str, str]]:
    """Return ``{value: (colour, marker)}`` in drawing order, a different pair for each.

    A language of ``LANGUAGES`` has its own pair; any other takes, in the order of its code, the next that is free.
    Labels take pairs in alphabetical order.
    """
    found = set(values)
    order = list(LANGUAGES) if kind == "language" else []
    slot = {value: order.index(value) for value in order if value in found}
    free = (i for i in range(1, len(found) + len(PALETTE)) if i not in slot.values())
    slot |= {value: next(free) for value in sorted(found - set(slot))}
    size = len(PALETTE)
    return {value: (PALETTE[i % size], MARKERS[(i + i // size) % size]) for value, i in slot.items()}


def safe_text(value: object, width: int = 60) -> str:
    """Return text from data for a figure: direction and control characters out, wrapped at ``width``, escaped.

    Lines with right-to-left letters are isolated (U+2068 .. U+2069), so that they cannot reorder their surroundings.
    """
    plain = "".join(c if unicodedata.category(c) not in ("Cc", "Cs") else " " for c in _DIRECTION.sub("", str(value)))
    lines = textwrap.wrap(plain, width, max_lines=6, placeholder=" …")
    backwards = [any(unicodedata.bidirectional(c) in ("R", "AL") for c in line) for line in lines]
    shown = [html.escape(line, quote=False) for line in lines]
    return "<br>".join(f"\u2068{s}\u2069" if rtl else s for s, rtl in zip(shown, backwards, strict=True))


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
    xy = _rounded(points[["x", "y"]].to_numpy())
    for trace in _markers(points, colour, len(points)):
        rows = trace.pop("rows")
        fig.add_trace(trace | {"x": xy[rows, 0].tolist(), "y": xy[rows, 1].tolist()})
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
    from plotly.subplots import make_subplots

    layers = sorted(before)
    if not layers or layers != sorted(after):
        raise XltError(f"before has the layers {layers}, after {sorted(after)}: give both the same, at least one.")
    shown = layers[-1] if layer is None else layer
    if shown not in layers:
        raise unknown("layer", shown, map(str, layers))
    for state in (before, after):
        for points in state.values():
            _check_points(points, colour)
    points = before[shown]
    keys = list(zip(points["language"], points["id"], strict=True))
    place = {key: row for row, key in enumerate(keys)}
    if any((source, concept) not in place for _, concept in keys):
        raise XltError(f"Lines start at {source!r}, and some items lack it: add it, or name another source language.")

    def frame(points: pd.DataFrame, at: int) -> np.ndarray:
        row = {key: i for i, key in enumerate(zip(points["language"], points["id"], strict=True))}
        if row.keys() != place.keys():
            raise XltError(
                f"Layer {at} holds other points than layer {shown}: give the same ids and languages in each."
            )
        return points[["x", "y"]].to_numpy()[[row[key] for key in keys]]

    markers = _markers(points, colour, 2 * len(points))
    groups = [trace.pop("rows") for trace in markers]
    pairs = [[(place[source, keys[row][1]], row) for row in rows if keys[row][0] != source] for rows in groups]

    def panel(xy: np.ndarray) -> tuple[list[list[float | None]], list[list[float | None]]]:
        """x and y of a panel's traces: the lines of each group, then the markers of each group."""
        axes: tuple[list[list[float | None]], list[list[float | None]]] = ([], [])
        for axis, values in zip(axes, xy.T.tolist(), strict=True):
            axis += [[end for a, b in group for end in (values[a], values[b], None)] for group in pairs]
            axis += [[values[row] for row in rows] for rows in groups]
        return axes

    steps: list[dict[str, Any]] = []
    for at in layers:
        both = _rounded(np.concatenate([frame(before[at], at), frame(after[at], at)]))
        (x, y), (x2, y2) = panel(both[: len(keys)]), panel(both[len(keys) :])
        steps.append({"label": str(at), "method": "restyle", "args": [{"x": x + x2, "y": y + y2}]})
    lines = [
        {key: trace[key] for key in ("type", "name", "legendgroup")}
        | {"mode": "lines", "line": {"color": trace["marker"]["color"], "width": 0.7}, "opacity": _FAINT}
        | {"hoverinfo": "skip", "showlegend": False}
        for trace in markers
    ]
    fig = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.03)
    traces = lines + markers + lines + [trace | {"showlegend": False} for trace in markers]
    start = steps[layers.index(shown)]["args"][0]
    for i, (trace, xs, ys) in enumerate(zip(traces, start["x"], start["y"], strict=True)):
        fig.add_trace(trace | {"x": xs, "y": ys}, row=1, col=1 + i // (len(traces) // 2))
    joined = [i for i, trace in enumerate(traces) if trace["mode"] == "lines"]
    button: dict[str, Any] = {"label": "Lines on / off", "method": "restyle"}
    button |= {"args": [{"opacity": 0}, joined], "args2": [{"opacity": _FAINT}, joined]}
    slider = {"steps": steps, "active": layers.index(shown), "currentvalue": {"prefix": "Layer "}, "pad": {"t": 16}}
    menu = {"type": "buttons", "buttons": [button], "showactive": False}
    menu |= {"x": 1.02, "y": 0, "xanchor": "left", "yanchor": "bottom"}
    fig.update_xaxes(_BARE_AXIS | {"matches": "x"})
    fig.update_yaxes(_BARE_AXIS | {"matches": "y"})
    fig.update_layout(sliders=[slider], updatemenus=[menu])
    return _dressed(fig, 620, None, colour.capitalize())


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
    targets = sorted((language for language in first if language != source), key=lambda t: -first[t])
    values = {
        m: dict(row) | {"mean": float(np.mean([row[t] for t in targets] or [np.nan]))} for m, row in scores.items()
    }
    names = {source: f"{safe_text(language_name(source))} (source)", "mean": f"Mean of {len(targets)} targets"}
    names |= {target: safe_text(language_name(target)) for target in targets}
    rows: list[str] = [source, *(["mean", "", *targets] if targets else [])]
    fig = go.Figure()
    for number, (method, score) in enumerate(values.items()):
        present = [row for row in rows if row]
        hover = [
            f"<b>{names[row]}</b><br>{safe_text(method)}: {score[row]:.1%}"
            + (
                f"<br>{100 * (score[row] - values[baseline][row]):+.1f} points on {safe_text(baseline)}"
                if number
                else ""
            )
            + (f"<br>n = {n[row]}" if n and row in n else "")
            for row in present
        ]
        spans = [(intervals or {}).get(method, {}).get(row, (score[row], score[row])) for row in present]
        fig.add_bar(
            orientation="h",
            name=safe_text(method),
            y=[names[row] for row in present],
            x=[round(score[row], 4) for row in present],
            marker_color=PALETTE[number % len(PALETTE)] if number else "#a6a6a6",
            text=[f"{100 * score[row]:.1f}" for row in present],
            textposition="inside",
            insidetextanchor="start",
            textangle=0,
            hovertext=hover,
            hoverinfo="text",
            error_x=None
            if not intervals
            else {
                "array": [round(high - score[row], 4) for row, (_, high) in zip(present, spans, strict=True)],
                "arrayminus": [round(score[row] - low, 4) for row, (low, _) in zip(present, spans, strict=True)],
                "thickness": 1.2,
                "width": 3,
                "color": "#333333",
            },
        )
    categories = [names.get(row, " ") for row in rows]
    fig.update_xaxes(tickformat=".0%", rangemode="tozero", title="Accuracy")
    fig.update_yaxes(categoryorder="array", categoryarray=categories, range=[len(rows) - 0.5, -0.5], ticks="")
    fig.update_layout(barmode="group", bargap=0.25, uniformtext={"minsize": 9, "mode": "hide"})
    return _dressed(fig, 150 + len(rows) * (8 + 15 * len(scores)), title, "Method")


def loss_history(
    history: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]], title: str | None = None
) -> Figure:
    """Draw every loss term over steps, each on its own axis, and below them each term's share of the gradient (log).

    Faint lines are the logged values, strong ones their running mean over a twentieth of the run. A dotted line marks
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
    )
    dashes = ("solid", "dash", "dot", "dashdot")
    for number, (method, rows) in enumerate(runs.items()):
        for column, term in enumerate(terms, 1):
            line = {"color": PALETTE[column % len(PALETTE)], "dash": dashes[number % len(dashes)], "width": 2}
            name = ", ".join(safe_text(part) for part in (term, method) if part)
            base = {"type": "scatter", "mode": "lines", "name": name, "legendgroup": name, "line": line}
            steps, raw = _series(rows, "terms", term)
            if len(steps) == 0:
                continue
            faint = base | {"opacity": _FAINT, "hoverinfo": "skip", "showlegend": False}
            fig.add_trace(faint | {"line": line | {"width": 1}} | _path(steps, raw), row=1, col=column)
            fig.add_trace(base | _path(steps, _running_mean(raw, max(1, len(raw) // 20))), row=1, col=column)
            steps, share = _series(rows, "shares", term)
            if len(steps):
                dots = base | {"mode": "lines+markers", "marker": {"size": 4}, "showlegend": False}
                fig.add_trace(dots | _path(steps, np.where(share > 0, share, np.nan)), row=2, col=1)
    fig.update_xaxes(title="Step", title_standoff=4)
    if shared:
        ticks = [10.0**power for power in range(-8, 1)]
        fig.update_yaxes(type="log", tickvals=ticks, ticktext=[f"{100 * t:g} %" for t in ticks], row=2, col=1)
        fig.add_hline(y=0.01, line={"color": "#888888", "dash": "dot", "width": 1}, row=2, col=1)
    return _dressed(fig, 560 if shared else 340, title, "Loss term")


def show(fig: Figure, sentence: str) -> None:
    """Display a figure in three layers: interactive plotly, a PNG, and the sentence that says what it shows.

    The PNG is made where ``XLT_PUBLISH=1`` is set, by kaleido and a chromium (``BROWSER_PATH`` names one that is not
    found); a warning says so when that fails. The sentence is its alternative text and stands below the figure.
    """
    from IPython.display import Markdown, display

    plain = " ".join(_DIRECTION.sub("", sentence).split())
    figure = json.loads(fig.to_json()) | {"config": {"displaylogo": False, "responsive": True}}
    bundle: dict[str, Any] = {"application/vnd.plotly.v1+json": figure, "text/plain": plain}
    if os.environ.get("XLT_PUBLISH") == "1":
        try:
            bundle["image/png"] = fig.to_image(format="png", width=fig.layout.width or 960, height=fig.layout.height)
        except Exception as error:  # kaleido, choreographer and chromium each raise their own
            warnings.warn(f"No PNG was made; install kaleido and chromium, or set BROWSER_PATH: {error}", stacklevel=2)
    display(bundle, raw=True, metadata={"image/png": {"alt": plain}} if "image/png" in bundle else {})
    display(Markdown("*" + re.sub(r"([\\`*_{}\[\]#$|~])", r"\\\1", html.escape(plain, quote=False)) + "*"))


def _check_points(points: pd.DataFrame, colour: str) -> None:
    if colour not in ("language", "label"):
        raise unknown("colour", colour, ("language", "label"))
    if missing := [column for column in COLUMNS if column not in points]:
        raise XltError(f"The points lack {', '.join(missing)}. Needed: {', '.join(COLUMNS)}; emoji and english may be.")
    if len(points) == 0:
        raise XltError("There are no points to draw: choose at least one language and one item.")
    if (twice := points.duplicated(["language", "id"])).any():
        row = points[twice].iloc[0]
        raise XltError(f"The points hold {row['id']!r} in {row['language']!r} twice: one row per item and language.")
    if not np.isfinite(points[["x", "y"]].to_numpy(dtype=float)).all():
        raise XltError("Some coordinates are missing or infinite: project vectors without NaN.")


def _markers(points: pd.DataFrame, colour: str, drawn: int) -> list[dict[str, Any]]:
    """One marker trace per language or label, without coordinates; ``rows`` says which points it draws."""
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
        traces.append(kind | {"marker": marker, "rows": rows})
    return traces


def _rounded(xy: np.ndarray) -> np.ndarray:
    """Coordinates rounded to a five-hundredth of their span or finer, which keeps published figures small."""
    span = float(np.ptp(xy, axis=0).max())
    return np.round(xy.astype(np.float64), int(np.ceil(2.7 - np.log10(span))) if span > 0 else 3)


def _series(rows: Sequence[Mapping[str, Any]], part: str, term: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one term, at most about a thousand of them."""
    found = [(row["step"], row[part][term]) for row in rows if term in (row.get(part) or {})]
    steps, values = np.array(found, dtype=float).reshape(-1, 2)[:: max(1, len(found) // 1000)].T
    return steps, values


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean of the last ``width`` values (fewer at the start), over those that are finite."""
    windows = [values[max(0, i + 1 - width) : i + 1] for i in range(len(values))]
    return np.array([w[np.isfinite(w)].mean() if np.isfinite(w).any() else np.nan for w in windows])


def _path(steps: np.ndarray, values: np.ndarray) -> dict[str, list[float | None]]:
    y = [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]
    return {"x": [int(step) for step in steps], "y": y}


def _dressed(fig: Figure, height: int, title: str | None, legend: str) -> Figure:
    fig.update_layout(
        template="plotly_white",
        font={"family": FONT, "size": 13, "color": "#222222"},
        hoverlabel={"font": {"family": FONT, "size": 14}, "align": "left"},
        legend={"title": {"text": legend}, "itemsizing": "constant"},
        margin={"l": 20, "r": 20, "t": 60 if title else 40, "b": 30},
        height=height,
        title=title,
    )
    return fig
