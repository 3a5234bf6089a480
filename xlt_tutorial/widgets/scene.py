"""What a state of the explorer shows: traces, numbers and messages. Data in, plain values out, and no widget.

Every wish that cannot be met becomes a sentence, never an exception: ``adjusted`` keeps what was shown instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.styles import language_name, plain_text, safe_text, styles

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from xlt_tutorial.widgets.stored import Maps

COLOURS = ("language", "label", "gap")
PROJECTIONS = {"umap": "UMAP", "pca": "PCA"}
GREY = "#8a8a8a"
SHADES = [[0.0, "#dcc300"], [0.35, "#8f8a6f"], [0.7, "#4c5a86"], [1.0, "#00204d"]]  # after cividis, darker at its start
STRONG, FAINT = 0.85, 0.12  # opacity of the points, and of the others while some are lit
SIZE, LIT_SIZE = 5, 12  # pixels
SIDES = ("top center", "middle right", "bottom center", "middle left", "top right", "bottom left", "top left")


@dataclass(frozen=True)
class View:
    """A state of the explorer.

    Attributes:
        left: The stage in the panel on the left.
        right: The stage in the panel on the right.
        layer: Of both panels.
        projection: ``umap`` or ``pca``.
        colour: One of ``COLOURS``.
        languages: Those shown, in the order of the maps.
        concepts: Numbers of those shown.
        picked: The concept whose points are lit, if any.
    """

    left: str
    right: str
    layer: int
    projection: str
    colour: str
    languages: tuple[str, ...]
    concepts: tuple[int, ...]
    picked: int | None = None


@dataclass(frozen=True)
class Number:
    """One line beside the picture: a measure at both stages, ``None`` where it cannot be taken."""

    name: str
    note: str
    left: float | None
    right: float | None
    form: str

    def cells(self) -> tuple[str, str, str]:
        """Return left, right and their difference as text."""
        if self.left is None or self.right is None:
            return "–", "–", "–"
        share = "%" in self.form  # the difference of two shares is in points
        distance = abs(self.right - self.left)
        step, unit = (f"{100 * distance:.0f}", " pts") if share else (self.form.format(distance), "")
        sign = "+" if self.right > self.left else "−"
        change = "0" if float(step) == 0 else f"{sign}{step}{unit}"
        left, right = (self.form.format(value).replace("-", "−") for value in (self.left, self.right))
        return left, right, change


def first_view(maps: Maps) -> View:
    """Return the state that an explorer opens with: first and last stage, last layer, everything shown."""
    return View(
        maps.stages[0], maps.stages[-1], maps.layers[-1], maps.projections[0], COLOURS[0], maps.languages,
        tuple(range(len(maps.ids))),
    )  # fmt: skip


def adjusted(maps: Maps, view: View, **wishes: Any) -> tuple[View, list[str]]:
    """Change a view as far as the maps allow.

    Args:
        maps: What there is to show.
        view: The state before.
        **wishes: Fields of ``View``. ``languages`` may be one code; ``concepts`` and ``picked`` may be numbers,
            emoji or names, and ``concepts=None`` means all.

    Returns:
        The new view, and a sentence for each wish that could not be met; there the view is as before.
    """
    said: list[str] = []

    def known(kind: str, value: Any, valid: Sequence[Any], before: Any) -> Any:
        if any(value == one and isinstance(value, type(one)) for one in valid):
            return value
        said.append(str(unknown(kind, value, map(str, valid))))
        return before

    def concept(name: Any) -> int | None:
        try:
            if isinstance(name, int | np.integer) and 0 <= name < len(maps.ids):
                return int(name)
            return maps.find(name)
        except XltError as error:
            said.append(str(error))
            return None

    changes: dict[str, Any] = {}
    for name, wish in wishes.items():
        if name in ("left", "right"):
            changes[name] = known("stage", wish, maps.stages, getattr(view, name))
        elif name == "layer":
            layer = int(wish) if isinstance(wish, np.integer) else wish
            changes[name] = known("layer", layer, maps.layers, view.layer)
        elif name == "projection":
            changes[name] = known("projection", wish, maps.projections, view.projection)
        elif name == "colour":
            changes[name] = known("colour", wish, COLOURS, view.colour)
        elif name == "languages":
            asked = [known("language", code, maps.languages, None) for code in _several(wish, maps.languages)]
            changes[name] = tuple(code for code in maps.languages if code in asked)
            if asked and not changes[name]:
                changes[name] = view.languages
        elif name == "concepts":
            found = [concept(one) for one in _several(wish, range(len(maps.ids)))]
            changes[name] = tuple(sorted({one for one in found if one is not None})) or view.concepts
        elif name == "picked":
            changes[name] = None if wish is None else concept(wish)
        else:
            said.append(str(unknown("setting", name, View.__dataclass_fields__)))
    return replace(view, **changes), said


def remarks(maps: Maps, view: View) -> list[str]:
    """Return what a reader should know about a view that shows little, or less than it seems to."""
    said = []
    shown = len(view.languages) * len(view.concepts)
    if not view.languages:
        said.append("No language is chosen, so there is nothing to draw: click on one below, or on All.")
    elif shown == 1:
        said.append("This is a single point: there is nothing to compare it with. Choose a second language.")
    elif len(view.languages) == 1:
        only = language_name(view.languages[0])
        said.append(f"{only} alone: alignment is between languages, so the measures need a second one.")
    if view.languages and view.left == view.right:
        said.append(f"Both panels show the same stage ({maps.title(view.left)}): choose another for one of them.")
    if view.picked is not None:
        face = plain_text(maps.emoji[view.picked] or maps.texts[0, view.picked])[:60]  # tables escape it
        if view.picked not in view.concepts:
            said.append(f"{face} is picked, but not among the {len(view.concepts)} items shown.")
        elif view.languages and (hidden := len(maps.languages) - len(view.languages)):
            said.append(f"{face}: {hidden} of its {len(maps.languages)} names are hidden with their languages.")
    return said


def numbers(maps: Maps, view: View) -> list[Number]:
    """Return the measures of both panels.

    Measures of a pair of languages are means over the chosen targets; the others are over all languages. All are over
    every test concept but the last, which is about the picture and so over the concepts on the map.
    """
    targets = [code for code in view.languages if code != maps.source]
    rows = [maps.measures(stage, view.layer) for stage in (view.left, view.right)]
    lines = []

    def line(name: str, note: str, values: list[float | None], form: str = "{:.2f}") -> None:
        lines.append(Number(name, note, values[0], values[1], form))

    def mean(parts: Any) -> float | None:
        return float(np.mean([parts[code] for code in targets])) if targets else None

    every = len(targets) == len(maps.languages) - 1 or not targets
    some = language_name(targets[0]) if len(targets) == 1 else f"{len(targets)} chosen targets"
    over = f"{len(maps.languages) - 1} targets" if every else some
    line("Gap ratio", f"0: no gap; {over}", [mean(row["gap_ratio"]) for row in rows])
    line("kNN mixing", f"1: full; {over}", [mean(row["knn_mixing"]) for row in rows])
    for form in ("raw", "centred"):
        found = [mean(row["p1"][form]["from_source"]) for row in rows]
        line(f"P@1, {form}", f"from {language_name(maps.source)}; {over}", found, "{:.0%}")
    for by in ("language", "label"):
        sense = "lower: mixed" if by == "language" else "higher: apart"
        line(f"Silhouette, {by}", f"{sense}", [row["silhouette"][by] for row in rows])
    if all("language_probe" in row for row in rows):
        chance = f"chance: {1 / len(maps.languages):.0%}"
        line("Language probe", chance, [row["language_probe"] for row in rows], "{:.0%}")
    kept: list[float | None] = [maps.kept(stage, view.layer, view.projection) for stage in (view.left, view.right)]
    line("Neighbours kept", "by this map, of 10", kept, "{:.0%}")
    return lines


def marks(maps: Maps, view: View, stage: str) -> list[dict[str, Any]]:
    """Return what changes about the points of one panel: a trace of each language of the maps, shown or not."""
    chosen = list(view.concepts)
    xy = maps.coordinates(stage, view.layer, view.projection)[:, chosen]
    gaps = maps.gaps(stage, view.layer)[:, chosen]
    looks, labels = styles(maps.languages), styles(maps.labels.tolist(), "label")
    by_label = [labels[label][0] for label in maps.labels[chosen]]
    traces = []
    for at, code in enumerate(maps.languages):
        colour: Any = {"language": looks[code][0], "label": by_label, "gap": gaps[at]}[view.colour]
        if view.colour == "gap" and code == maps.source:
            colour = GREY
        traces.append(
            {
                "x": xy[at, :, 0],
                "y": xy[at, :, 1],
                "marker_color": colour,
                "visible": code in view.languages,
                "opacity": STRONG if lit_concept(view) is None else FAINT,
            }
        )
    return traces


def lit_concept(view: View) -> int | None:
    """Return the picked concept where it can be seen."""
    return view.picked if view.languages and view.picked in view.concepts else None


def lit(maps: Maps, view: View, stage: str) -> list[dict[str, Any]]:
    """Return two traces: lines from the source's point (or the first language's) to each, and the points on top."""
    looks = styles(maps.languages)
    codes = view.languages if lit_concept(view) is not None else ()
    places = [maps.languages.index(code) for code in codes]
    xy = maps.coordinates(stage, view.layer, view.projection)[places, view.picked or 0].reshape(-1, 2)
    ends = [i for other in range(1, len(codes)) for i in (0, other, -1)]
    path = np.concatenate([xy, np.full((1, 2), np.nan, dtype=np.float32)])[ends].reshape(-1, 2)
    points = {"x": xy[:, 0], "y": xy[:, 1], "text": list(codes), "hovertext": hover_texts(maps, places, view.picked)}
    points["textposition"] = [SIDES[at % len(SIDES)] for at in places]  # codes of near points seldom collide
    points |= {"marker_color": [looks[code][0] for code in codes], "marker_symbol": [looks[code][1] for code in codes]}
    return [{"x": path[:, 0], "y": path[:, 1]}, points]


def hover_texts(maps: Maps, places: Iterable[int], concept: int | None) -> list[str]:
    """Return what the mouse shows over one concept, in the languages of these numbers."""
    return [] if concept is None else [hover_text(maps, at, concept) for at in places]


def hover_text(maps: Maps, language: int, concept: int) -> str:
    """Return emoji, text, romanised text, language, label and the text in the source language, safe to draw."""
    face, text = maps.emoji[concept], maps.texts[language, concept]
    code, roman = maps.languages[language], maps.romanised[language, concept]
    lines = [f"<b>{f'{safe_text(face)} ' if face else ''}{safe_text(text)}</b>"]
    lines += [f"<i>{safe_text(roman)}</i>"] if roman else []
    lines.append(f"{safe_text(language_name(code))} · {safe_text(maps.labels[concept])}")
    if language:
        lines.append(f"{safe_text(language_name(maps.source))}: {safe_text(maps.texts[0, concept])}")
    return "<br>".join(lines)


def static_map(
    maps: Maps,
    left: str | None = None,
    right: str | None = None,
    projection: str = "umap",
    colour: str = "language",
    layers: Sequence[int] | None = None,
    concepts: Sequence[int] | None = None,
) -> Figure:
    """Draw the two panels as a plain figure with a slider over layers, for where no kernel runs.

    Args:
        maps: What to draw.
        left: Stage on the left, the first by default.
        right: Stage on the right, the last by default.
        projection: ``umap`` or ``pca``.
        colour: ``language`` or ``label``.
        layers: Layers of the slider; five, evenly spread, by default.
        concepts: Numbers of the items; 60, evenly spread, by default: a figure in a file must stay small.
    """
    from xlt_tutorial.figures import before_after_map

    sides = [maps.stages[0] if left is None else left, maps.stages[-1] if right is None else right]
    spread = np.linspace(0, len(maps.layers) - 1, min(5, len(maps.layers))).round().astype(int)
    chosen = [maps.layers[i] for i in spread] if layers is None else list(layers)
    spaced = np.linspace(0, len(maps.ids) - 1, min(60, len(maps.ids))).round().astype(int).tolist()
    few = spaced if concepts is None else concepts
    before, after = ({at: maps.points(stage, at, projection, few) for at in chosen} for stage in sides)
    return before_after_map(before, after, maps.source, colour, titles=(maps.title(sides[0]), maps.title(sides[1])))


def _several(wish: Any, everything: Iterable[Any]) -> list[Any]:
    """Return a wish as a list; ``None`` is everything, and a text or a number is one."""
    if wish is None:
        return list(everything)
    return list(wish) if isinstance(wish, Iterable) and not isinstance(wish, str) else [wish]
