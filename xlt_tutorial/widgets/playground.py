"""The playgrounds on the screen: a stored grid whose settings can be compared, and a toy that the losses move.

What they show is made by ``grid`` and ``toy``. Where no widget can be drawn (while a notebook is published, or
without ipywidgets and anywidget), a figure and its sentence stand in.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

from xlt_tutorial.ablation import SETTINGS
from xlt_tutorial.styles import language_name
from xlt_tutorial.widgets.grid import (
    MEAN,
    Grid,
    adjusted,
    first_view,
    grid_axis,
    grid_figure,
    grid_traces,
    read_grid,
    scene,
)
from xlt_tutorial.widgets.patient import figure_widget
from xlt_tutorial.widgets.tables import message_html
from xlt_tutorial.widgets.toy import (
    ALPHAS,
    BETAS,
    CLASSES,
    STEPS,
    Dials,
    Frame,
    Toy,
    toy_after,
    toy_figure,
    toy_told,
    toy_traces,
    turned,
)

INTERVAL = 50  # milliseconds that the browser waits between two frames
STAND_IN = (("as published", Dials()), ("alpha 1", Dials(alpha=1.0)), ("alpha 10, hinge", Dials(10.0, push="hinge")))
STAND_IN_STEPS = 120
_ROW = {"display": "flex", "flex_flow": "row wrap", "align_items": "center"}


def grid_playground(grid: Grid | None = None, **wishes: Any) -> GridPlayground:
    """Return the view of the stored grid; shown where it is the last line of a cell.

    Args:
        grid: From ``grid.read_grid``; the package's own by default. Where nothing is stored, the view says so.
        **wishes: The first state, as in ``grid.adjusted``: ``setting="ear-E", seeds=[0, 1], language="de"``. What
            cannot be had is told in the view.
    """
    made = GridPlayground(read_grid() if grid is None else grid)
    if wishes:
        made.set(**wishes)
    return made


def toy_playground(seed: int = 0, **wishes: Any) -> ToyPlayground:
    """Return the toy; shown where it is the last line of a cell.

    Args:
        seed: Of the points.
        **wishes: Fields of ``toy.Dials``: ``alpha=1, push="hinge"``. What cannot be set is told in the view.
    """
    made = ToyPlayground(seed)
    if wishes:
        made.set(**wishes)
    return made


def can_draw() -> bool:
    """Return whether widgets make sense: they are installed, and the notebook is not run to be published."""
    lacking = [name for name in ("ipywidgets", "anywidget") if find_spec(name) is None]
    return not lacking and os.environ.get("XLT_PUBLISH") != "1"


class _Playground:
    """What both have in common: a box that is built when it is first shown, and what stands in for it."""

    messages: list[str]

    def __init__(self) -> None:
        self.controls: dict[str, Any] = {}
        self._box: Any = None
        self._quiet = False

    @property
    def box(self) -> Any:
        """The whole, an ipywidgets box."""
        if self._box is None:
            self._box = self._build()
        return self._box

    def _build(self) -> Any:
        raise NotImplementedError

    def stand_in(self) -> None:
        """Show a figure and its sentence in place of the view."""
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if can_draw():
            display(self.box)
        else:
            self.stand_in()

    def set(self, **wishes: Any) -> None:
        """Change the state; a wish that cannot be met is told in the view, which stays as it was there."""
        raise NotImplementedError

    def _turn(self, name: str, value: Any) -> None:
        if value is not None:
            self.set(**{name: value})

    def _listen(self, name: str, act: Any) -> None:
        """Call ``act`` with a control's new value when the reader changes it."""

        def changed(change: Mapping[str, Any]) -> None:
            if not self._quiet:
                act(change["new"])

        self.controls[name].observe(changed, "value")


class GridPlayground(_Playground):
    """The stored grid.

    Attributes:
        grid: What is stored.
        view: The present state; ``None`` where nothing is stored.
        scene: What it shows.
        messages: What the view says above the picture.
        figure: The plotly ``FigureWidget``, once the box was built.
        controls: The widgets by the name of what they set; likewise.
        seconds: What the last change took here, without the browser's part.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid, self.view, self.seconds = grid, first_view(grid), 0.0
        self._look([])

    def __repr__(self) -> str:
        return " ".join([*self.messages, self.scene.sentence])

    def set(self, **wishes: Any) -> None:
        """Change the view; a wish that cannot be met is told in the view, which stays as it was there."""
        start = time.perf_counter()
        said: list[str] = []
        if self.view is not None:
            self.view, said = adjusted(self.grid, self.view, **wishes)
        self._look(said)
        if self._box is not None and self.view is not None:
            self._draw()
        self.seconds = time.perf_counter() - start

    def stand_in(self) -> None:
        """Show the present state as a figure with its sentence."""
        from IPython.display import Markdown, display

        from xlt_tutorial.figures import show

        for said in self.messages:
            display(Markdown(said))
        if self.scene.rows and self.view is not None:
            show(grid_figure(self.scene, self.view.language), self.scene.sentence)

    def _look(self, said: list[str]) -> None:
        self.scene = scene(self.grid, self.view)
        self.messages = [*said, *self.scene.messages]

    def _build(self) -> Any:
        import ipywidgets as widgets

        self._message = widgets.HTML(message_html(self.messages))
        if self.view is None:
            return widgets.VBox([self._message])
        self._told = widgets.HTML()
        self.figure = figure_widget(grid_figure(self.scene, self.view.language).update_layout(autosize=True))
        box = widgets.VBox([*self._panel(), self._message, self.figure, self._told])
        self._draw()
        return box

    def _panel(self) -> list[Any]:
        """Make the controls, in rows that wrap."""
        import ipywidgets as widgets

        made = self.controls
        made["study"] = widgets.Dropdown(
            options=list(self.grid.studies), description="Study", layout={"width": "250px"}
        )
        for name, told in (("setting", "Setting"), ("against", "Against"), ("language", "Language")):
            made[name] = widgets.Dropdown(description=told, layout={"width": "310px"})
        for name in ("study", "setting", "against", "language"):
            self._listen(name, partial(self._turn, name))
        for letter, told in zip("EAR", ("push", "pull", "robust"), strict=True):
            made[letter] = widgets.ToggleButton(description=f"{letter} {told}", layout={"width": "88px"})
            self._listen(letter, lambda _: self.set(subset="".join(one for one in "EAR" if made[one].value)))
        seeds = sorted({seed for study in self.grid.studies for seed in self.grid.seeds(study)}, key=int)
        self._seeds = [f"seed {seed}" for seed in seeds]
        for name in self._seeds:
            made[name] = widgets.ToggleButton(description=name, layout={"width": "74px"})
            self._listen(name, lambda _: self.set(seeds=[s for s in seeds if made[f"seed {s}"].value]))
        made["all"] = widgets.Button(description="All seeds", layout={"width": "84px"})
        made["all"].on_click(lambda _: self.set(seeds=None))
        self._letters = widgets.Box([widgets.HTML("Terms of EAR:&nbsp;"), *(made[one] for one in "EAR")], layout=_ROW)
        return [
            widgets.Box([made["study"], made["setting"], made["against"]], layout=_ROW),
            widgets.Box([self._letters, widgets.HTML("&emsp;"), made["language"]], layout=_ROW),
            widgets.Box([*(made[name] for name in self._seeds), made["all"]], layout=_ROW),
        ]

    def _draw(self) -> None:
        """Bring picture, sentence, messages and controls to the present view, all in one update of the figure."""
        assert self.view is not None
        with self.figure.batch_update():
            for trace, wanted in zip(self.figure.data, grid_traces(self.scene, self.view.language), strict=True):
                trace.update(wanted)
            if self.scene.rows:
                self.figure.update_yaxes(grid_axis(self.scene))
        _put(self._message, message_html(self.messages))
        _put(self._told, _paragraph(self.scene.sentence))
        self._quiet = True
        try:
            self._follow()
        finally:
            self._quiet = False

    def _follow(self) -> None:
        """Bring the controls to the view, without their acting on it."""
        assert self.view is not None
        view, made = self.view, self.controls
        made["study"].value = view.study
        rows = [("mean of targets", MEAN), *((language_name(t), t) for t in self.grid.languages(view.study))]
        for name, options in (
            ("setting", self.grid.settings(view.study)),
            ("against", self.grid.settings(view.study)),
            ("language", tuple(rows)),
        ):
            if made[name].options != options:
                made[name].options = options
            made[name].value = getattr(view, name)
        parts = set(SETTINGS.values()) & set(self.grid.settings(view.study))
        self._letters.layout.display = "flex" if len(parts) > 2 else "none"  # vanilla and ear are in every study
        letters = next((subset for subset, name in SETTINGS.items() if name == view.setting), "")
        for letter in "EAR":
            made[letter].value = letter in letters
        there = self.grid.seeds(view.study, view.setting, view.against)
        for name in self._seeds:
            seed = name.removeprefix("seed ")
            made[name].value, made[name].disabled = seed in view.seeds, seed not in there


class ToyPlayground(_Playground):
    """The toy.

    Attributes:
        toy: The points.
        dials: What is set.
        shown: The last frame.
        messages: What the view says above the picture.
        figure: The plotly ``FigureWidget``, once the box was built.
        controls: The widgets by the name of what they set; likewise. ``play`` is the clock: it ticks in the browser.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.toy, self.dials, self.messages = Toy(seed), Dials(), []
        self.shown: Frame = self.toy.frame(self.dials, 0)
        self._times: deque[float] = deque(maxlen=20)

    def __repr__(self) -> str:
        return " ".join([*self.messages, toy_told(self.shown, self.dials)])

    @property
    def rate(self) -> float:
        """Frames a second over the last twenty, those on the way to the browser included; 0 before there are two."""
        if len(self._times) < 2:
            return 0.0
        return (len(self._times) - 1) / (self._times[-1] - self._times[0])

    def set(self, **wishes: Any) -> None:
        """Turn dials; a wish that cannot be met is told in the view."""
        self.dials, self.messages = turned(self.dials, **wishes)
        self._look(0)

    def step(self) -> None:
        """Take the steps of one frame and draw it; the clock stops once a point has reached the edge."""
        self._times.append(time.perf_counter())
        self._look(STEPS)

    def reset(self) -> None:
        """Put the points back to their start."""
        self.toy.reset()
        self._times.clear()
        self._look(0)

    def stand_in(self) -> None:
        """Show where three settings of the dials lead, and the sentence that compares them."""
        from xlt_tutorial.figures import show

        frames = {title: toy_after(STAND_IN_STEPS, dials) for title, dials in STAND_IN}
        told = "; ".join(
            f"{title}: after {frame.steps} steps{' a point is at the edge,' * frame.stuck} x and x' are "
            f"{frame.moved:.2f} apart on average and {frame.right} of {CLASSES} virtual sentences are classified right"
            for title, frame in frames.items()
        )
        show(toy_figure(frames), f"Three settings from one start. {told[0].upper()}{told[1:]}.")

    def _look(self, steps: int) -> None:
        self.shown = self.toy.frame(self.dials, steps)
        if self._box is not None:
            self._draw()
            if self.shown.stuck:
                self.stop()

    def stop(self) -> None:
        """Stop the clock."""
        play = self.controls.get("play")
        for name in ("playing", "_playing"):  # of ipywidgets 8, and of 7
            if play is not None and name in play.trait_names():
                setattr(play, name, False)

    def _build(self) -> Any:
        import ipywidgets as widgets

        from xlt_tutorial.losses import PUSH_FORMS

        made = self.controls
        made["play"] = widgets.Play(min=0, max=10**6, interval=INTERVAL, description="Play")
        made["play"].observe(lambda _: self.step(), "value")
        for name, values, told in (("alpha", ALPHAS, "alpha (push)"), ("beta", BETAS, "beta (pull)")):
            made[name] = widgets.SelectionSlider(
                options=_options(values, getattr(self.dials, name)), value=getattr(self.dials, name), description=told,
                continuous_update=True, layout={"width": "330px"},
            )  # fmt: skip
        made["push"] = widgets.ToggleButtons(options=PUSH_FORMS, value=self.dials.push, style={"button_width": "84px"})
        made["robust"] = widgets.Checkbox(
            value=self.dials.robust, description="x' must be classified (R)", indent=False
        )
        for name in ("alpha", "beta", "push", "robust"):
            self._listen(name, partial(self._turn, name))
        made["frame"] = widgets.Button(description="One frame", layout={"width": "92px"})
        made["frame"].on_click(lambda _: self.step())
        made["reset"] = widgets.Button(description="Reset", layout={"width": "72px"})
        made["reset"].on_click(lambda _: self.reset())
        self._message, self._told = widgets.HTML(), widgets.HTML()
        figure = toy_figure({"Three sentences and their virtual copies": self.shown})
        self.figure = figure_widget(figure.update_layout(autosize=True))
        self._draw()
        rows = [
            [made["play"], made["frame"], made["reset"], made["robust"]],
            [made["alpha"], made["beta"], made["push"]],
        ]
        bars = [widgets.Box(row, layout=_ROW) for row in rows]
        return widgets.VBox([*bars, self._message, self.figure, self._told])

    def _draw(self) -> None:
        """Bring points, shares, texts and controls to the last frame, all in one update of the figure."""
        with self.figure.batch_update():
            for trace, wanted in zip(self.figure.data, toy_traces(self.shown), strict=True):
                trace.update(wanted)
        _put(self._message, message_html(self.messages))
        pace = f" {self.rate:.0f} frames a second." if self.rate else ""
        _put(self._told, _paragraph(toy_told(self.shown, self.dials) + pace))
        self._quiet = True
        try:
            for name in ("alpha", "beta"):
                value = getattr(self.dials, name)
                if value not in [one for _, one in self.controls[name].options]:
                    self.controls[name].options = _options(ALPHAS if name == "alpha" else BETAS, value)
                self.controls[name].value = value
            self.controls["push"].value, self.controls["robust"].value = self.dials.push, self.dials.robust
        finally:
            self._quiet = False


def _options(values: tuple[float, ...], present: float) -> list[tuple[str, float]]:
    """Return the stops of a slider, the present value among them."""
    return [(f"{value:g}", value) for value in sorted({*values, present})]


def _paragraph(text: str) -> str:
    from html import escape

    return f'<div style="max-width:900px;line-height:1.4">{escape(text)}</div>'


def _put(widget: Any, text: str) -> None:
    if widget.value != text:
        widget.value = text
