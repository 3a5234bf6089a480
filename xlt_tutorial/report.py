"""The demo's report: one page that carries its own scripts and opens without a network.

Every sentence is worked out from the numbers beside it, and says what they say whichever way they fall.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from xlt_tutorial.demo import Maps

Results = Mapping[str, Any]
STATES = {"before": "before", "vanilla": "vanilla", "ear": "EAR"}
MEASURES = {  # heading -> how to read it, value of a layer, format
    "Gap ratio": ("lower is closer", lambda row: row["gap_ratio"]["mean"], "{:.2f}"),
    "kNN mixing": ("1 is full mixing", lambda row: row["knn_mixing"]["mean"], "{:.2f}"),
    "P@1, centred": ("from the source, %", lambda row: 100 * _p1(row), "{:.0f}"),
    "Silhouette by language": ("lower mixes more", lambda row: row["silhouette"]["language"], "{:.2f}"),
    "Language probe": ("accuracy, %", lambda row: 100 * row["language_probe"], "{:.0f}"),
}


def write_report(results: Results, maps: Maps, out: str | Path) -> None:
    """Write the page.

    Args:
        results: What ``run_demo`` returns.
        maps: ``{"before" | "after": {layer: points}}``, points as ``projection.map_points`` makes them.
        out: The file to write; replaced when it is whole.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from xlt_tutorial import figures

    source, *targets = results["vanilla"]["accuracy"]
    methods = {"vanilla": results["vanilla"], "EAR": results["ear"]}
    bars = figures.language_bars({m: r["accuracy"] for m, r in methods.items()}, source, n=results["vanilla"]["n"])
    moved = figures.before_after_map(maps["before"], maps["after"], source, titles=("Before training", "After EAR"))
    losses = figures.loss_history({m: r["history"] for m, r in methods.items()})
    drawn = max(maps["before"])
    points = maps["before"][drawn]
    environment = Environment(
        loader=PackageLoader("xlt_tutorial"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("report.html.j2").render(
        results=results,
        plotly=Markup(get_plotlyjs()),
        name=figures.language_name,
        source=source,
        targets=targets,
        minutes=sum(results["seconds"].values()) / 60,
        bars={"html": _html(bars), "sentence": bars_sentence(results)},
        map={"html": _html(moved), "sentence": map_sentence(results, drawn, points["id"].nunique())},
        losses={"html": _html(losses), "sentence": losses_sentence(results)},
        layers=_layers(results),
        measures=MEASURES,
        states=STATES,
        alignment_sentence=alignment_sentence(results),
    )
    part = Path(out).with_suffix(".part")
    part.write_text(page, encoding="utf-8")
    os.replace(part, out)


def bars_sentence(results: Results) -> str:
    """Say what the bars show."""
    from xlt_tutorial.figures import language_name

    vanilla, ear = results["vanilla"], results["ear"]
    source, *targets = vanilla["accuracy"]
    change = {t: ear["accuracy"][t] - vanilla["accuracy"][t] for t in targets}
    best, worst = max(targets, key=change.__getitem__), min(targets, key=change.__getitem__)
    ahead = sum(value > 0 for value in change.values())
    english = language_name(source)
    return (
        f"Trained on {english} alone, vanilla answers {vanilla['accuracy'][source]:.1%} of the {english} test items "
        f"rightly, and {vanilla['target_mean']:.1%} on average in the {len(targets)} other languages; EAR "
        f"{ear['accuracy'][source]:.1%} and {ear['target_mean']:.1%}. With EAR the target mean {_moves(results['gain'])}, "
        f"and the gap to {english} goes from {100 * vanilla['mean_gap']:.1f} to {100 * ear['mean_gap']:.1f} points. EAR "
        f"is ahead in {ahead} of {len(targets)} languages; the change runs from {100 * change[worst]:+.1f} points "
        f"({language_name(worst)}) to {100 * change[best]:+.1f} ({language_name(best)}). {results['gain_note']}"
    )


def map_sentence(results: Results, layer: int, concepts: int) -> str:
    """Say what the map shows, in numbers that do not come from the map."""
    rows = _layers(results)[layer]
    hits = {state: f"{_p1(rows[state]):.0%}" for state in STATES}
    gaps = {state: f"{rows[state]['gap_ratio']['mean']:.2f}" for state in STATES}
    count = len(results["languages"])
    return (
        f"{concepts} test concepts in {count} languages are {concepts * count} points, with a line from each source text "
        f"to its translations; the slider changes the layer. Over all test concepts of layer {layer}, the nearest "
        f"neighbour of a source text is its translation in {hits['before']} of cases before training, "
        f"{hits['vanilla']} after vanilla and {hits['ear']} after EAR (P@1, centred); the gap ratio is {gaps['before']}, "
        f"{gaps['vanilla']} and {gaps['ear']}. A change that vanilla makes too is not EAR's own. The map shows only who "
        "is near whom: its distances and the sizes of its clusters mean nothing."
    )


def losses_sentence(results: Results) -> str:
    """Say what the histories show."""
    parts = []
    for method in ("vanilla", "ear"):
        rows, shares = results[method]["history"], results[method]["gradient_shares"]
        tenth = max(1, len(rows) // 10)
        first, last = (sum(r["terms"]["ce"] for r in part) / tenth for part in (rows[:tenth], rows[-tenth:]))
        told = ", ".join(f"{term} {share:.2%}" for term, share in shares.items())
        parts.append(
            f"With {STATES[method]} the cross-entropy goes from {first:.2f} (mean of the first tenth of the steps) to "
            f"{last:.2f} (of the last)" + (f"; mean shares of the gradient: {told}." if told else ".")
        )
    shares = results["ear"]["gradient_shares"]
    inert = [term for term, share in shares.items() if share < 0.01]
    if inert:
        parts.append(f"A term under 1 % hardly steers training: here {' and '.join(inert)}.")
    elif shares:
        parts.append("No term of EAR stays under 1 % of the gradient.")
    return " ".join(parts)


def alignment_sentence(results: Results) -> str:
    """Say where along the layers the languages are closest, and which method moved the last layer more."""
    layers = _layers(results)
    last = max(layers)
    closest = {state: max(layers, key=lambda at: _p1(layers[at][state])) for state in STATES}
    moved = {m: _p1(layers[last][m]) - _p1(layers[last]["before"]) for m in ("vanilla", "ear")}
    return (
        f"Translations find each other best (P@1, centred) in layer {closest['before']} before training, "
        f"{closest['vanilla']} after vanilla and {closest['ear']} after EAR. In the last layer measured, {last}, "
        f"training changed it by {100 * moved['vanilla']:+.1f} points with vanilla, {100 * moved['ear']:+.1f} with EAR."
    )


def _moves(gain: float) -> str:
    points = f"{100 * abs(gain):.1f} points"
    return f"rises by {points}" if gain > 0 else f"falls by {points}" if gain < 0 else "stays where it was"


def _p1(row: Mapping[str, Any]) -> float:
    return float(row["p1"]["centred"]["from_source"]["mean"])


def _layers(results: Results) -> dict[int, dict[str, Any]]:
    """Return layer -> state -> the measures."""
    states = {state: {row["layer"]: row for row in results[state]["alignment"]} for state in STATES}
    return {layer: {state: states[state][layer] for state in STATES} for layer in states["before"]}


def _html(figure: Figure) -> Any:
    from markupsafe import Markup
    from plotly.io import to_html

    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"})
    return Markup(to_html(figure, {"displaylogo": False, "responsive": True}, include_plotlyjs=False, full_html=False))
