"""The texts beside the picture, as HTML that takes its colours from the page around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from xlt_tutorial.styles import language_name, plain_text
from xlt_tutorial.widgets.scene import Number, View, lit_concept, numbers
from xlt_tutorial.widgets.stored import Maps

_TABLE = '<table style="border-collapse:collapse;font-size:12.5px;line-height:1.25">'
_CELL = 'style="padding:1px 4px;text-align:right;border-top:1px solid #8886;white-space:nowrap"'
_HEAD = 'style="padding:2px 6px;text-align:left;border-top:1px solid #8886;font-weight:normal"'
_NOTE = 'style="font-size:11px;opacity:.75"'
_NAMES = 'style="padding:1px 4px 1px 0;text-align:left;border-top:1px solid #8886;font-weight:normal;max-width:118px"'


def message_html(said: Sequence[str]) -> str:
    """Return what the view has to say, as a box that screen readers announce; empty where there is nothing."""
    if not said:
        return ""
    box = "border-left:4px solid #d55e00;padding:2px 10px;margin:2px 0"
    return f'<div role="status" style="{box}">' + "<br>".join(_text(one, 2000) for one in said) + "</div>"


def numbers_html(maps: Maps, view: View) -> str:
    """Return the table of the measures of both panels."""
    heads = "".join(f"<th {_CELL}>{escape(_short(maps, stage))}</th>" for stage in (view.left, view.right))
    rows = "".join(_row(number) for number in numbers(maps, view))
    scored = [maps.info["stages"][stage].get("target_mean") for stage in (view.left, view.right)]
    told = ["–" if score is None else f"{score:.1%}" for score in scored]
    if any(score is not None for score in scored):
        note = "mean of the targets; not of a layer"
        cells = "".join(f"<td {_CELL}>{cell}</td>" for cell in (*told, ""))
        rows += f"<tr><th {_NAMES}>Accuracy<br><span {_NOTE}>{note}</span></th>{cells}</tr>"
    title = f"Layer {view.layer}, over all {maps.info['test_concepts']} test items"
    return f"<b>{_text(title)}</b>{_TABLE}<tr><th></th>{heads}<th {_CELL}>change</th></tr>{rows}</table>"


def picked_html(maps: Maps, view: View) -> str:
    """Return the table of the picked concept: its names, and how far each is from the source's at both stages."""
    concept = lit_concept(view)
    if concept is None:
        return "Click on a point, or type a name above: its translations light up in both panels, and stand here."
    both = (view.left, view.right)
    gaps, ranks = [[get(stage, view.layer)[:, concept] for stage in both] for get in (maps.gaps, maps.ranks)]
    spans = "".join(f'<th {_CELL} colspan="2">{escape(name)}</th>' for name in ("gap", "rank"))
    sides = "".join(f"<th {_CELL}>{escape(_short(maps, stage))}</th>" for stage in (*both, *both))
    rows = ""
    for code in view.languages:
        at = maps.languages.index(code)
        values = [f"{gap[at]:.2f}" for gap in gaps] + [f"{rank[at]}" for rank in ranks]
        values = [""] * 4 if code == maps.source else values
        names = f"<td {_HEAD} dir='auto'>{_text(maps.texts[at, concept])}</td>"
        names += f"<td {_HEAD}><i>{_text(maps.romanised[at, concept])}</i></td>"
        cells = "".join(f"<td {_CELL}>{value}</td>" for value in values)
        rows += f"<tr><th {_HEAD}>{escape(language_name(code))}</th>{names}{cells}</tr>"
    english = language_name(maps.source)
    note = (
        f"Gap: 0 is on the {english} point, 1 as far from it as other {english} names are on average. Rank: 1 if the "
        f"{english} name is the nearest of all {maps.info['test_concepts']} in the full space."
    )
    label = f"<b>{_text(maps.emoji[concept])} {_text(maps.texts[0, concept])}</b> · {_text(maps.labels[concept])}"
    head = f"<tr><th {_HEAD} colspan='3'>{label}</th>{spans}</tr><tr><th {_HEAD} colspan='3'></th>{sides}</tr>"
    return f"{_TABLE}{head}{rows}</table><span {_NOTE}>{_text(note, len(note))}</span>"


def sentence(maps: Maps, left: str, right: str, layer: int) -> str:
    """Say what two panels show, in numbers of the alignment kit, whichever way they fall."""
    before, after = (maps.measures(stage, layer) for stage in (left, right))

    def told(name: str, get: str, form: str) -> str:
        one, two = (_value(row, get) for row in (before, after))
        if form.format(one) == form.format(two):
            return f"{name} stays at {form.format(one)}"
        return f"{name} {'rises' if two > one else 'falls'} from {form.format(one)} to {form.format(two)}"

    parts = [
        told("the gap ratio", "gap_ratio", "{:.2f}"),
        told("kNN mixing (1 is full mixing)", "knn_mixing", "{:.2f}"),
        told("centred P@1", "p1", "{:.0%}"),
        told("the silhouette by label", "silhouette", "{:.2f}"),
    ]
    kept = [f"{maps.kept(stage, layer):.0%}" for stage in (left, right)]
    return (
        f"Layer {layer}: {maps.title(left)} on the left, {maps.title(right)} on the right. Over all "
        f"{maps.info['test_concepts']} test items and {len(maps.languages)} languages, {'; '.join(parts)}. Of a "
        f"point's ten nearest on these UMAP maps, {kept[0]} and {kept[1]} are among its ten nearest in the full space: "
        "the numbers are the evidence, not the picture."
    )


def _value(row: Mapping[str, Any], measure: str) -> float:
    if measure == "p1":
        return float(row["p1"]["centred"]["from_source"]["mean"])
    return float(row["silhouette"]["label"] if measure == "silhouette" else row[measure]["mean"])


def _row(number: Number) -> str:
    cells = "".join(f"<td {_CELL}>{cell}</td>" for cell in number.cells())
    return f"<tr><th {_NAMES}>{number.name}<br><span {_NOTE}>{escape(number.note)}</span></th>{cells}</tr>"


def _short(maps: Maps, stage: str) -> str:
    return str(maps.info["stages"][stage].get("short", stage))


def _text(value: str | np.str_, longest: int = 300) -> str:
    text = plain_text(value)
    return escape(text if len(text) <= longest else f"{text[:longest]} …")
