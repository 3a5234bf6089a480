"""The demo's report: one page that carries its own scripts and opens without a network.

Each sentence is worked out from the numbers beside it and says what they say, whichever way they fall.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlt_tutorial.figures import before_after_map, language_bars, language_name, loss_history
from xlt_tutorial.files import write_whole
from xlt_tutorial.styles import plain_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from xlt_tutorial.demo import Maps

Results = Mapping[str, Any]
STATES = {"before": "before", "vanilla": "vanilla", "ear": "EAR"}
MEASURES = {  # heading: how to read it, the value, its format
    "Gap ratio": ("lower is closer", lambda row: row["gap_ratio"]["mean"], "{:.2f}"),
    "kNN mixing": ("1 is full mixing", lambda row: row["knn_mixing"]["mean"], "{:.2f}"),
    "P@1, centred": ("from the source", lambda row: row["p1"]["centred"]["from_source"]["mean"], "{:.0%}"),
    "Silhouette by language": ("lower mixes more", lambda row: row["silhouette"]["language"], "{:.2f}"),
    "Silhouette by label": ("higher sets classes apart", lambda row: row["silhouette"]["label"], "{:.2f}"),
    "Language probe": ("lower tells less apart", lambda row: row["language_probe"], "{:.0%}"),
}


def write_report(results: Results, maps: Maps, out: str | Path) -> None:
    """Write the page.

    Args:
        results: What ``run_demo`` returns.
        maps: ``{"before" | "after": {layer: points}}``, points as ``projection.map_points`` makes them.
        out: The file; it is replaced once the page is whole.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    source, *targets = results["vanilla"]["accuracy"]
    methods = {STATES[method]: results[method] for method in ("vanilla", "ear")}
    last, concepts = max(maps["before"]), next(iter(maps["before"].values()))["id"].nunique()
    bars = language_bars({name: r["accuracy"] for name, r in methods.items()}, source, n=results["vanilla"]["n"])
    moved = before_after_map(maps["before"], maps["after"], source, titles=("Before training", "After EAR"))
    losses = loss_history({name: r["history"] for name, r in methods.items()})
    environment = Environment(
        loader=PackageLoader("xlt_tutorial"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        finalize=lambda value: plain_text(value) if type(value) is str else value,  # what is Markup has its own kind
    )  # fmt: skip
    page = environment.get_template("report.html.j2").render(
        results=results, source=source, targets=targets, name=language_name, plotly=Markup(get_plotlyjs()),
        bars={"html": _html(bars), "sentence": bars_sentence(results)},
        map={"html": _html(moved), "sentence": map_sentence(results, last, concepts)},
        losses={"html": _html(losses), "sentence": losses_sentence(results)},
        layers=_layers(results), measures=MEASURES, states=STATES,
    )  # fmt: skip
    write_whole(Path(out), page)


def bars_sentence(results: Results) -> str:
    """Say what the bars show."""
    vanilla, ear, gain = results["vanilla"], results["ear"], 100 * results["gain"]
    source, *targets = vanilla["accuracy"]
    change = {t: 100 * (ear["accuracy"][t] - vanilla["accuracy"][t]) for t in targets}
    worst, best = min(targets, key=change.__getitem__), max(targets, key=change.__getitem__)
    english, moves = language_name(source), "rises" if gain > 0 else "falls" if gain < 0 else "changes"
    return (
        f"Trained on {english} alone, vanilla answers {vanilla['accuracy'][source]:.1%} of the {english} test items "
        f"rightly, and {vanilla['target_mean']:.1%} on average in the {len(targets)} other languages; EAR "
        f"{ear['accuracy'][source]:.1%} and {ear['target_mean']:.1%}. With EAR the target mean {moves} by "
        f"{abs(gain):.1f} points, and the gap to {english} goes from {100 * vanilla['mean_gap']:.1f} to "
        f"{100 * ear['mean_gap']:.1f} points. EAR is ahead in {sum(c > 0 for c in change.values())} of {len(targets)} "
        f"languages; the change runs from {change[worst]:+.1f} points ({language_name(worst)}) to {change[best]:+.1f} "
        f"({language_name(best)}). {results['gain_note']}"
    )


def map_sentence(results: Results, layer: int, concepts: int) -> str:
    """Say what the map shows, in numbers of the alignment kit."""
    rows, languages = _layers(results)[layer], len(results["languages"])
    hits, gaps, classes = (
        [form.format(value(rows[state])) for state in STATES]
        for _, value, form in (MEASURES[name] for name in ("P@1, centred", "Gap ratio", "Silhouette by label"))
    )
    return (
        f"{concepts} test concepts in {languages} languages are {concepts * languages} points, with a line from each "
        "source text to its translations; the slider changes the layer. Over all test concepts of layer "
        f"{layer}, the nearest neighbour of a source text is its translation in {hits[0]} of cases before training, "
        f"{hits[1]} after vanilla and {hits[2]} after EAR (P@1, centred); the gap ratio is {gaps[0]}, {gaps[1]} and "
        f"{gaps[2]}. How far the classes stand apart, whatever the language (silhouette by label): {classes[0]}, "
        f"{classes[1]} and {classes[2]}. A change that vanilla makes too is not EAR's own. The map shows only "
        "who is near whom: its distances and the sizes of its clusters mean nothing."
    )


def losses_sentence(results: Results) -> str:
    """Say what the histories show."""
    parts = []
    for method in ("vanilla", "ear"):
        losses, shares = [row["terms"]["ce"] for row in results[method]["history"]], results[method]["gradient_shares"]
        tenth = -(-len(losses) // 10)
        first, last = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
        told = ", ".join(f"{term} {share:.2%}" for term, share in shares.items()) or "not measured"
        parts.append(
            f"With {STATES[method]} the cross-entropy goes from {first:.2f} (mean of the first tenth of the steps) to "
            f"{last:.2f} (of the last); mean shares of the gradient: {told}."
        )
    inert = [term for term, share in results["ear"]["gradient_shares"].items() if share < 0.01]
    parts += [f"A term under 1 % hardly steers the training; here: {', '.join(inert)}."] if inert else []
    return " ".join(parts)


def _layers(results: Results) -> dict[int, dict[str, Any]]:
    """Return layer -> state -> measures."""
    states = {state: {row["layer"]: row for row in results[state]["alignment"]} for state in STATES}
    return {layer: {state: states[state][layer] for state in STATES} for layer in states["before"]}


def _html(figure: Figure) -> Any:
    from markupsafe import Markup
    from plotly.io import to_html

    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1.04, "xanchor": "left", "yanchor": "bottom"})
    figure.update_layout(modebar_orientation="v")  # beside the legend, not over it
    return Markup(to_html(figure, {"displaylogo": False, "responsive": True}, include_plotlyjs=False, full_html=False))
