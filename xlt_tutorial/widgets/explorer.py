"""The explorer of the stored maps: two linked panels, their controls, and the numbers that move with them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from xlt_tutorial.styles import FONT, language_name, safe_text, styles
from xlt_tutorial.widgets import scene, tables
from xlt_tutorial.widgets.patient import figure_widget
from xlt_tutorial.widgets.scene import COLOURS, GREY, PROJECTIONS, adjusted, first_view, marks, remarks
from xlt_tutorial.widgets.stored import Maps, MapsError, read_maps

WIDTH, HEIGHT = 640, 490  # pixels; with the numbers beside it, what a small laptop has beside JupyterLab's files
_TICKS = ["0", "0.5", "1+"]
_AXIS = {"range": [-0.03, 1.03], "showticklabels": False, "ticks": "", "showgrid": False, "zeroline": False}
_AXIS |= {"showline": True, "mirror": True, "linecolor": "#bbbbbb"}
_LEGEND = {"orientation": "h", "x": 0, "itemclick": False, "itemdoubleclick": False, "font": {"size": 11}}
_LIT = {"mode": "markers+text", "textfont": {"size": 13}, "hoverinfo": "text"}


def explore(maps: Maps | None = None, webgl: bool = True, **wishes: Any) -> Explorer:
    """Return the explorer; shown where it is the last line of a cell.

    Args:
        maps: What to show; the stored maps by default. Where those are missing, the view says so.
        webgl: Draw with the graphics card, or its stand-in in the browser; ``False`` where points do not appear.
        **wishes: The first state, as in ``scene.View``: ``layer=3, colour="label", languages=["en", "ja"]``. What
            cannot be had is told in the view.
    """
    if maps is None:
        try:
            maps = read_maps()
        except MapsError as error:
            return Explorer(None, [str(error)])
    return Explorer(maps, webgl=webgl, wishes=wishes)


class Explorer:
    """The view and its controls.

    Attributes:
        maps: What it shows; ``None`` where there is nothing to show.
        view: The present state.
        messages: What the view says above the picture.
        figure: The plotly ``FigureWidget``.
        controls: The widgets by the name of what they set.
        box: The whole, an ipywidgets box.
        seconds: What the last redraw took here, without the browser's part.
    """

    def __init__(
        self,
        maps: Maps | None,
        messages: Sequence[str] = (),
        webgl: bool = True,
        wishes: Mapping[str, Any] | None = None,
    ) -> None:
        import ipywidgets as widgets

        self.maps, self.messages, self.seconds = maps, list(messages), 0.0
        self._message = widgets.HTML(tables.message_html(self.messages))
        self.controls: dict[str, Any] = {}
        if maps is None:
            self.box = widgets.VBox([self._message])
            return
        self.view, said = adjusted(maps, first_view(maps), **(wishes or {}))
        self._numbers, self._picked = widgets.HTML(), widgets.HTML()
        places = range(len(maps.languages))
        self._hovers = np.array([scene.hover_texts(maps, places, concept) for concept in range(len(maps.ids))]).T
        self._drawn = self._traces()
        self.figure = _figure(maps, webgl, self._drawn)
        self._quiet = False
        self._listen()
        picture = widgets.Box([self.figure], layout={"flex": "0 0 auto"})
        beside = widgets.Box([self._numbers], layout={"flex": "0 0 auto", "padding": "0 0 0 8px"})
        both = widgets.Box([picture, beside], layout={"display": "flex", "flex_flow": "row wrap"})
        self.box = widgets.VBox([*self._panel(), self._message, both, self._picked])
        self._draw(said)

    def __repr__(self) -> str:
        if self.maps is None:
            return " ".join(self.messages)
        view = self.view
        return (
            f"Explorer: {view.left} | {view.right}, layer {view.layer}, {view.projection}, by {view.colour}, "
            f"{len(view.languages)} languages, {len(view.concepts)} items. It needs a running kernel."
        )

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.box)

    def set(self, **wishes: Any) -> None:
        """Change the view; a wish that cannot be met is told in the view, which stays as it was there."""
        if self.maps is None:
            return
        self.view, said = adjusted(self.maps, self.view, **wishes)
        self._draw(said)

    def pick(self, name: Any) -> None:
        """Light up a concept, by number, emoji or name; none for ``None``."""
        self.set(picked=name)

    # --- drawing -----------------------------------------------------------------------------------------------------

    def _draw(self, said: list[str] | None = None) -> None:
        """Bring picture, numbers, messages and controls to the present view, all in one update of the figure."""
        assert self.maps is not None
        start = time.perf_counter()
        with self.figure.batch_update():
            for trace, wanted, drawn in zip(self.figure.data, self._traces(), self._drawn, strict=True):
                changed = {key: value for key, value in wanted.items() if not _same(value, drawn.get(key))}
                if changed:
                    trace.update(changed)
                    drawn.update(changed)
            for at, stage in enumerate((self.view.left, self.view.right)):
                if self.figure.layout.annotations[at].text != (title := safe_text(self.maps.title(stage))):
                    self.figure.layout.annotations[at].text = title
        self.messages = [*(said or []), *remarks(self.maps, self.view)]
        _put(self._message, tables.message_html(self.messages))
        _put(self._numbers, tables.numbers_html(self.maps, self.view))
        _put(self._picked, tables.picked_html(self.maps, self.view))
        self._follow()
        self.seconds = time.perf_counter() - start

    def _traces(self) -> list[dict[str, Any]]:
        """Return what changes of every trace, in the order of ``_figure``."""
        assert self.maps is not None
        view = self.view
        hovers = self._hovers[:, list(view.concepts)]
        sides = [marks(self.maps, view, stage) for stage in (view.left, view.right)]
        points = [trace | {"hovertext": hovers[at]} for side in sides for at, trace in enumerate(side)]
        lit = [trace for stage in (view.left, view.right) for trace in scene.lit(self.maps, view, stage)]
        looks = styles(self.maps.languages)
        shown = [
            {"visible": code in view.languages, "marker_color": looks[code][0] if view.colour == "language" else GREY}
            for code in self.maps.languages
        ]
        labels = [{"visible": view.colour == "label"} for _ in dict.fromkeys(self.maps.labels)]
        return [*points, *lit, *shown, *labels, {"visible": view.colour == "gap"}]

    # --- controls ----------------------------------------------------------------------------------------------------

    def _panel(self) -> list[Any]:
        """Make the controls, in rows that wrap."""
        import ipywidgets as widgets

        assert self.maps is not None
        maps, small = self.maps, {"width": "auto"}
        stages = [(maps.title(stage), stage) for stage in maps.stages]
        made = self.controls
        for side in ("left", "right"):
            made[side] = widgets.Dropdown(options=stages, description=side.capitalize(), layout={"width": "290px"})
        made["layer"] = widgets.SelectionSlider(
            options=[(str(at), at) for at in maps.layers], description="Layer", layout={"width": "330px"}
        )
        names = [(PROJECTIONS[name], name) for name in maps.projections]
        made["projection"] = widgets.ToggleButtons(options=names, style={"button_width": "64px"}, layout=small)
        names = [(name.capitalize(), name) for name in COLOURS]
        made["colour"] = widgets.ToggleButtons(options=names, style={"button_width": "84px"}, layout=small)
        for name in ("left", "right", "layer", "projection", "colour"):
            made[name].observe(partial(self._chosen, name), "value")

        for code in maps.languages:
            made[code] = widgets.ToggleButton(description=language_name(code), layout={"width": "98px"})
            made[code].observe(self._languages_chosen, "value")
        for name, codes in (("All", maps.languages), ("None", ())):
            made[name] = widgets.Button(description=name, layout={"width": "64px"})
            made[name].on_click(partial(self._all_or_none, codes))

        named = [str(text) for text in maps.texts[0]]
        made["find"] = widgets.Combobox(
            options=named, placeholder="a name or an emoji", description="Find", continuous_update=False,
            layout={"width": "290px"},
        )  # fmt: skip
        made["find"].observe(self._found, "value")
        made["clear"] = widgets.Button(description="Clear", layout={"width": "60px"})
        made["clear"].on_click(lambda _: self.set(picked=None))

        def row(*parts: Any) -> Any:
            return widgets.Box(parts, layout={"display": "flex", "flex_flow": "row wrap", "align_items": "center"})

        colour = [widgets.HTML("Colour:&nbsp;"), made["colour"]]
        return [
            row(made["left"], made["right"], made["layer"]),
            row(made["projection"], widgets.HTML("&emsp;"), *colour, made["find"], made["clear"]),
            row(*(made[code] for code in maps.languages), made["All"], made["None"]),
        ]

    def _follow(self) -> None:
        """Bring the controls to the view, without their acting on it."""
        assert self.maps is not None
        if not self.controls:
            return
        self._quiet = True
        try:
            for name in ("left", "right", "layer", "projection", "colour"):
                self.controls[name].value = getattr(self.view, name)
            for code in self.maps.languages:
                self.controls[code].value = code in self.view.languages
            picked = self.view.picked
            self.controls["find"].value = "" if picked is None else str(self.maps.texts[0, picked])
        finally:
            self._quiet = False

    def _chosen(self, name: str, change: Mapping[str, Any]) -> None:
        if not self._quiet:
            self.set(**{name: change["new"]})

    def _languages_chosen(self, _: Any) -> None:
        if not self._quiet:
            assert self.maps is not None
            self.set(languages=[code for code in self.maps.languages if self.controls[code].value])

    def _all_or_none(self, codes: tuple[str, ...], _: Any) -> None:
        self.set(languages=codes)

    def _found(self, change: Mapping[str, Any]) -> None:
        if not self._quiet:
            self.set(picked=change["new"] or None)

    def _listen(self) -> None:
        """Make every point answer a click: one lights its concept up, another one on the same puts it out."""
        assert self.maps is not None
        points = 2 * len(self.maps.languages)
        for trace in self.figure.data[:points]:
            trace.on_click(self._clicked)
        for at in (points + 1, points + 3):
            self.figure.data[at].on_click(lambda trace, clicked, state: self._clicked_lit(clicked))

    def _clicked(self, trace: Any, clicked: Any, state: Any) -> None:
        if clicked.point_inds:
            concept = self.view.concepts[clicked.point_inds[0]]
            self.set(picked=None if concept == self.view.picked else concept)

    def _clicked_lit(self, clicked: Any) -> None:
        if clicked.point_inds:
            self.set(picked=None)


def _figure(maps: Maps, webgl: bool, drawn: Sequence[Mapping[str, Any]]) -> Any:
    """Return the figure: points of the left, of the right, lines and lit points of each, then the legend.

    It is made whole before it becomes a widget: what is added to a widget before it is on the screen can get lost.
    """
    from plotly.subplots import make_subplots

    looks, labels = styles(maps.languages), styles(maps.labels.tolist(), "label")
    traces: list[tuple[dict[str, Any], int]] = []
    unlisted = {"showlegend": False}
    for column in (1, 2):
        for code in maps.languages:
            marker = {"symbol": looks[code][1], "size": scene.SIZE, "colorscale": scene.SHADES, "cmin": 0, "cmax": 1}
            kind = {"type": "scattergl" if webgl else "scatter", "mode": "markers", "hoverinfo": "text"}
            traces.append((unlisted | kind | {"marker": marker, "name": safe_text(language_name(code))}, column))
    for column in (1, 2):
        line = {"color": "#666666", "width": 1}
        traces.append((unlisted | {"type": "scatter", "mode": "lines", "line": line, "hoverinfo": "skip"}, column))
        marker = {"size": scene.LIT_SIZE, "line": {"color": "white", "width": 1}}
        traces.append((unlisted | {"type": "scatter", "marker": marker} | _LIT, column))
    nowhere = {"type": "scatter", "mode": "markers", "x": [None], "y": [None], "hoverinfo": "skip"}
    for code in maps.languages:
        marker = {"symbol": looks[code][1], "size": 9}
        traces.append((nowhere | {"name": safe_text(language_name(code)), "marker": marker}, 1))
    for label, (colour, _) in labels.items():
        marker = {"color": colour, "size": 9}
        traces.append((nowhere | {"name": safe_text(label), "marker": marker, "legend": "legend2"}, 1))
    bar = {"title": {"text": "gap", "side": "right"}, "thickness": 12, "tickvals": [0, 0.5, 1], "ticktext": _TICKS}
    bar |= {"orientation": "h", "len": 0.6, "y": -0.14, "yanchor": "top", "x": 0.5}
    marker = {"color": [0], "colorscale": scene.SHADES, "cmin": 0, "cmax": 1, "showscale": True, "colorbar": bar}
    traces.append((nowhere | unlisted | {"marker": marker}, 1))

    fig = make_subplots(rows=1, cols=2, subplot_titles=["left", "right"], horizontal_spacing=0.02)
    for (trace, column), state in zip(traces, drawn, strict=True):
        fig.add_trace(trace, row=1, col=column)
        fig.data[-1].update(state)
    fig.update_xaxes(_AXIS)
    fig.update_yaxes(_AXIS)
    fig.update_layout(
        template="plotly_white",
        font={"family": FONT, "size": 13, "color": "#222222"},
        hoverlabel={"font": {"family": FONT, "size": 14}, "align": "left"},
        legend=_LEGEND | {"y": -0.01, "entrywidth": 66},
        legend2=_LEGEND | {"y": -0.12, "entrywidth": 118},
        margin={"l": 8, "r": 8, "t": 28, "b": 92},
        width=WIDTH,
        height=HEIGHT,
        xaxis2_matches="x",
        yaxis2_matches="y",
        hovermode="closest",
    )
    return figure_widget(fig)


def _same(value: Any, drawn: Any) -> bool:
    """Return whether a trace shows a value already."""
    if value is drawn:
        return True
    if isinstance(value, np.ndarray) and isinstance(drawn, np.ndarray):
        return value.dtype == drawn.dtype and np.array_equal(value, drawn)
    return type(value) is type(drawn) and not isinstance(value, np.ndarray) and bool(value == drawn)


def _put(widget: Any, text: str) -> None:
    if widget.value != text:
        widget.value = text
