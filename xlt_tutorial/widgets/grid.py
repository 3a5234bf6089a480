"""Stored studies as a grid that can be looked through: which setting, against which, which seeds, which language.

Data in, plain values and figures out, and no widget; ``playground`` puts it on the screen. A wish that cannot be met
becomes a sentence, never an exception: ``adjusted`` keeps what was shown instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from xlt_tutorial.ablation import SETTINGS, TERMS
from xlt_tutorial.compare import unpacked
from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.statistics import ENOUGH_SEEDS, LEVEL, detectable
from xlt_tutorial.stored import RESULTS, remedy, stored
from xlt_tutorial.styles import FONT, PALETTE, language_name, safe_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MEAN = "target_mean"  # the row that is no language's
FIRST = ("emoji_methods", "ear")  # study and setting that a grid opens with, where they are stored
NOTHING = "There is no run to show yet."


@dataclass(frozen=True)
class GridView:
    """A state of the grid.

    Attributes:
        study: Name of a stored study.
        setting: One of its settings.
        against: The setting that it is compared with.
        seeds: As the study writes them, such as ``("0", "1")``.
        language: The row that the sentence is about, or ``MEAN``.
    """

    study: str
    setting: str
    against: str
    seeds: tuple[str, ...]
    language: str = MEAN


@dataclass(frozen=True)
class Gain:
    """A row of the figure: accuracies, gains and the ends of intervals as shares from 0 to 1.

    Attributes:
        key: What it is about: a language, ``MEAN``, or a method.
        name: The same as readers know it.
        accuracy: Mean over seeds.
        baseline: The same of what it is compared with.
        by_seed: The gain of each seed.
        spans: An interval over items for each seed, or, from five seeds on, one over items and seeds.
    """

    key: str
    name: str
    accuracy: float
    baseline: float
    by_seed: tuple[float, ...]
    spans: tuple[tuple[float, float], ...]

    @property
    def gain(self) -> float:
        """Mean over seeds."""
        return self.accuracy - self.baseline


@dataclass(frozen=True)
class Scene:
    """What a view shows: rows, the sentence, and what there is to say above it."""

    rows: tuple[Gain, ...] = ()
    sentence: str = NOTHING
    messages: tuple[str, ...] = ()
    enough: bool = False  # seeds for an interval over seeds


@dataclass(frozen=True)
class Grid:
    """Stored studies with at least one run, and what there is to say about those that cannot be read."""

    studies: Mapping[str, Mapping[str, Any]]
    said: tuple[str, ...] = ()
    _answers: dict[tuple[str, str, str], dict[str, np.ndarray]] = field(default_factory=dict, repr=False, compare=False)

    def settings(self, study: str) -> tuple[str, ...]:
        """Return the settings of a study that have been run."""
        return tuple(name for name, seeds in self.studies[study]["runs"].items() if seeds)

    def seeds(self, study: str, *settings: str) -> tuple[str, ...]:
        """Return the seeds that all these settings have finished; those of any setting where none is named."""
        runs = self.studies[study]["runs"]
        if not settings:
            return tuple(sorted({seed for seeds in runs.values() for seed in seeds}, key=int))
        return tuple(seed for seed in self.seeds(study) if all(seed in runs[name] for name in settings))

    def languages(self, study: str) -> tuple[str, ...]:
        """Return the languages of a study, the source first."""
        return tuple(self.answers(study, self.settings(study)[0], self.seeds(study, self.settings(study)[0])[0]))

    def answers(self, study: str, setting: str, seed: str) -> dict[str, np.ndarray]:
        """Return ``{language: (items,) booleans}`` of one run."""
        key = study, setting, seed
        if key not in self._answers:
            bits = self.studies[study]["runs"][setting][seed]["correct"]
            self._answers[key] = {language: unpacked(text) for language, text in bits.items()}
        return self._answers[key]


def read_grid(folder: Path = RESULTS) -> Grid:
    """Read every stored grid of runs; one that cannot be read is told, and so is that there is none."""
    studies, said = {}, []
    for path in sorted(folder.glob("*.json")):
        try:
            study = stored(path.stem, folder)
            runs = _runs(study)
        except XltError as error:
            said.append(str(error))
        except (ValueError, KeyError, TypeError, AttributeError):  # no JSON, or not what a study holds
            said.append(f"{path.name} is damaged. Delete it; {remedy(path.stem)}")
        else:
            if runs:
                studies[path.stem] = study
    if not studies and not said:
        try:
            stored(FIRST[0], folder)
            said.append(f'The study "{FIRST[0]}" holds no finished run yet: `python -m studies {FIRST[0]}` goes on.')
        except XltError as error:
            said.append(str(error))
    return Grid(studies, tuple(said))


def _runs(study: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return all runs of a study; ValueError for one without answers."""
    runs = [run for seeds in study.get("runs", {}).values() for run in seeds.values()]
    for run in runs:
        if not run["correct"] or any(set(bits) - {"0", "1"} for bits in run["correct"].values()):
            raise ValueError(run)
    return runs


def first_view(grid: Grid, study: str | None = None) -> GridView | None:
    """Return the state that a grid, or one of its studies, opens with: all seeds; ``None`` where nothing is stored."""
    if not grid.studies:
        return None
    name = study or (FIRST[0] if FIRST[0] in grid.studies else next(iter(grid.studies)))
    against, *others = grid.settings(name)
    setting = FIRST[1] if FIRST[1] in others else (others[0] if others else against)
    return GridView(name, setting, against, grid.seeds(name, setting, against))


def adjusted(grid: Grid, view: GridView, **wishes: Any) -> tuple[GridView, list[str]]:
    """Change a view as far as the stored runs allow.

    Args:
        grid: What is stored.
        view: The state before.
        **wishes: Fields of ``GridView``; ``seeds`` may be numbers or one number, and ``None`` means all that both
            settings have; ``language`` may be ``None`` for the mean; ``subset`` (``"EA"``) names a setting of EAR.

    Returns:
        The new view, and a sentence for each wish that could not be met; there the view is as before.
    """
    said: list[str] = []

    def known(kind: str, value: Any, valid: Iterable[str], before: str) -> str:
        if isinstance(value, str) and value in (names := tuple(valid)):
            return value
        said.append(str(unknown(kind, value, names if isinstance(value, str) else valid)))
        return before

    if odd := [name for name in wishes if name not in (*GridView.__dataclass_fields__, "subset")]:
        said.append(str(unknown("control", odd[0], (*GridView.__dataclass_fields__, "subset"))))
    all_before = view.seeds == grid.seeds(view.study, view.setting, view.against)
    if "study" in wishes and (name := known("study", wishes["study"], grid.studies, view.study)) != view.study:
        opened = first_view(grid, name)
        assert opened is not None
        kept = [one for one in (view.setting,) if one in grid.settings(name)]
        view = replace(opened, setting=kept[0] if kept else opened.setting, language=view.language)
        view = replace(view, seeds=grid.seeds(name, view.setting, view.against))
        if view.language not in (MEAN, *grid.languages(name)):
            view = replace(view, language=MEAN)
    if "subset" in wishes:
        asked = wishes["subset"].upper() if isinstance(wishes["subset"], str) else None
        letters = "".join(letter for letter in TERMS if asked and letter in asked)
        if asked is None or set(asked) - set(TERMS):
            said.append(f"Unknown subset {wishes['subset']!r}: give letters of EAR, such as EA, or none of them.")
        elif (name := SETTINGS[letters]) in grid.settings(view.study):
            wishes = {**wishes, "setting": name}
        else:
            said.append(f'The study "{view.study}" has no run of the subset {letters or "without any term"} yet.')
    for side in ("setting", "against"):
        if side in wishes:
            value = known("setting", wishes[side], grid.settings(view.study), getattr(view, side))
            view = replace(view, setting=value) if side == "setting" else replace(view, against=value)
    there = grid.seeds(view.study, view.setting, view.against)
    if "seeds" in wishes:
        view = replace(view, seeds=_seeds(wishes["seeds"], there, said))
    else:  # another setting may have other seeds
        left = tuple(seed for seed in view.seeds if seed in there)
        view = replace(view, seeds=there if all_before or (view.seeds and not left) else left)
    if "language" in wishes:
        language = MEAN if wishes["language"] is None else wishes["language"]
        valid = MEAN, *grid.languages(view.study)
        view = replace(view, language=known("language", language, valid, view.language))
    return view, said


def _seeds(wish: Any, there: Sequence[str], said: list[str]) -> tuple[str, ...]:
    if wish is None:
        return tuple(there)
    asked = list(wish) if isinstance(wish, Iterable) and not isinstance(wish, str) else [wish]
    if lacking := [str(seed) for seed in asked if str(seed) not in there]:
        said.append(f"Seed {', '.join(lacking)}: not run by both settings. There are {', '.join(there) or 'none'}.")
    return tuple(seed for seed in there if seed in map(str, asked))


def scene(grid: Grid, view: GridView | None) -> Scene:
    """Return what a view shows. No resampling, so that it follows a click at once.

    Intervals are ``gain ± t se`` with the standard error of ``statistics.detectable``, which the bootstrap of
    ``gain_interval`` is scaled to: of each seed over items, or over items and seeds from five seeds on.
    """
    if view is None:
        return Scene(messages=grid.said)
    said = list(grid.said)
    names = {MEAN: "mean of targets"} | {t: language_name(t) for t in grid.languages(view.study)}
    if not view.seeds:
        shared = grid.seeds(view.study, view.setting, view.against)
        said.append(
            f"No seed is chosen: choose {', '.join(shared)}." if shared else
            f'"{view.setting}" and "{view.against}" have no seed in common yet.'
        )  # fmt: skip
        return Scene(sentence="", messages=tuple(said))
    both = [{seed: grid.answers(view.study, one, seed) for seed in view.seeds} for one in (view.setting, view.against)]
    source = next(iter(both[0][view.seeds[0]]))
    enough = len(view.seeds) >= ENOUGH_SEEDS
    if view.setting == view.against:
        said.append(f'"{view.setting}" is compared with itself: choose another setting on one side.')
        spans = np.zeros((1 if enough else len(view.seeds), len(names), 2))
    else:
        parts = [view.seeds] if enough else [(seed,) for seed in view.seeds]
        ours, others = ([{seed: side[seed] for seed in part} for part in parts] for side in both)
        groups, named = grid.studies[view.study].get("groups"), (view.setting, view.against)
        try:
            spans = np.array([_spans(*pair, source, groups, named) for pair in zip(ours, others, strict=True)])
        except XltError as error:  # one item, one language, or items that differ
            return Scene(sentence="", messages=(*said, f"These runs cannot be compared. {error}"))
    right, base = (np.array([_shares(found, source) for found in side.values()]) for side in both)
    if not enough:
        said.append(
            f"{len(view.seeds)} seed{'s' * (len(view.seeds) > 1)}: bars are intervals over items, one for each seed. "
            f"It takes {ENOUGH_SEEDS} seeds to speak of others."
        )
    rows = tuple(
        Gain(
            key, name, float(right[:, at].mean()), float(base[:, at].mean()),
            tuple((right - base)[:, at].tolist()), tuple((float(low), float(high)) for low, high in spans[:, at]),
        )
        for at, (key, name) in enumerate(names.items())
    )  # fmt: skip
    return Scene(rows, _sentence(view, rows, enough, both), tuple(said), enough)


def _shares(correct: Mapping[str, np.ndarray], source: str) -> list[float]:
    """Return the mean of the targets and the accuracy of each language."""
    found = {language: float(marks.mean()) for language, marks in correct.items()}
    targets = [share for language, share in found.items() if language != source]
    return [float(np.mean(targets)) if targets else 0.0, *found.values()]


def _spans(
    right: Mapping[str, Any],
    base: Mapping[str, Any],
    source: str,
    groups: Sequence[int] | None,
    named: tuple[str, str],
) -> np.ndarray:
    """Return the interval of each row, ``(rows, 2)``; ``named`` are the settings of both sides."""
    entries = detectable({named[1]: base, named[0]: right}, named[1], source, groups)[named[0]]
    gains = np.mean([_shares(right[seed], source) for seed in right], 0)
    gains -= np.mean([_shares(base[seed], source) for seed in base], 0)
    reach = [stats.t.ppf((1 + LEVEL) / 2, entry["df"]) * entry["se"] for entry in entries.values()]
    return gains[:, None] + np.outer(reach, (-1, 1))


def _sentence(view: GridView, rows: Sequence[Gain], enough: bool, both: Sequence[Mapping[str, Any]]) -> str:
    """Say what one row shows, whichever way the numbers fall."""
    row = next(one for one in rows if one.key == view.language)
    seeds = f"seed{'s' * (len(view.seeds) > 1)} {', '.join(view.seeds)}"
    told = (
        f"{view.setting} against {view.against}, {seeds}, {row.name}: {row.accuracy:.1%} against {row.baseline:.1%}, "
        f"a gain of {100 * row.gain:+.1f} points"
    )
    if view.setting == view.against:
        return f"{view.setting}, {seeds}, {row.name}: {row.accuracy:.1%}."
    if enough:
        low, high = row.spans[0]
        verdict = "holds zero" if low <= 0 <= high else "leaves zero out"
        told += f"; the 95 % interval over items and seeds, {100 * low:+.1f} to {100 * high:+.1f}, {verdict}."
    else:
        out = sum(not low <= 0 <= high for low, high in row.spans)
        told += f" ({100 * min(row.by_seed):+.1f} to {100 * max(row.by_seed):+.1f} by seed)" * (len(row.by_seed) > 1)
        told += f"; {out} of {len(row.spans)} intervals over items leave{'s' * (out == 1)} zero out."
    if view.language == MEAN:
        return told
    ours, others = (np.array([found[view.language] for found in side.values()]) for side in both)
    mine, theirs = float(np.mean(ours & ~others)), float(np.mean(others & ~ours))
    return told + f" Right in {view.setting} alone: {mine:.1%} of the items; in {view.against} alone: {theirs:.1%}."


def summary_scene(found: Mapping[str, Any], row: str = MEAN) -> Scene:
    """Return the gains of all methods of a ``statistics.summary`` in one of its rows, the largest first."""
    methods = sorted(found["methods"], key=lambda method: -found["rows"][row]["gain"][method]["gain"])
    rows = tuple(_entry(found, method, method, row) for method in methods)
    return Scene(rows, _verdict(rows, found["seeds"], found["baseline"]), enough=len(found["seeds"]) >= ENOUGH_SEEDS)


def effects_scene(effects: Mapping[str, Mapping[str, Any]], row: str = MEAN) -> Scene:
    """Return the main effects of ``ablation.main_effects``, a row for each term of EAR."""
    rows = tuple(_entry(found, "with", f"{term} ({TERMS[term]})", row) for term, found in effects.items())
    seeds = next(iter(effects.values()))["seeds"]
    return Scene(rows, _verdict(rows, seeds, "zero"), enough=len(seeds) >= ENOUGH_SEEDS)


def _entry(found: Mapping[str, Any], method: str, name: str, row: str) -> Gain:
    line = found["rows"][row]
    entry = line["gain"][method]
    spans = [entry["interval"]] if entry["interval"] else [one["interval"] for one in entry["by_seed"]]
    return Gain(
        method, name, line["accuracy"][method]["mean"], line["accuracy"][found["baseline"]]["mean"],
        tuple(one["gain"] for one in entry["by_seed"]), tuple((low, high) for low, high in spans),
    )  # fmt: skip


def _verdict(rows: Sequence[Gain], seeds: Sequence[Any], against: str) -> str:
    """Say which rows stand out of their intervals, whichever way the numbers fall."""

    def listed(chosen: Sequence[Gain]) -> str:
        return ", ".join(f"{row.name} ({100 * row.gain:+.1f} points)" for row in chosen)

    best, worst = max(rows, key=lambda row: row.gain), min(rows, key=lambda row: row.gain)
    up = [row for row in rows if all(low > 0 for low, _ in row.spans)]
    down = [row for row in rows if all(high < 0 for _, high in row.spans)]
    if len(seeds) >= ENOUGH_SEEDS:
        where, beyond = f"Over the seeds {', '.join(map(str, seeds))}", "beyond the 95 % interval over items and seeds"
    else:
        many = f"each of the seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"the only seed, {seeds[0]}"
        where, beyond = f"In {many}", "beyond its interval over items"
    told = [f"{where}, {f'above {against}' if up else f'nothing is above {against}'} {beyond}"]
    told[0] += f": {listed(up)}." if up else "."
    if down:
        told.append(f"Below it: {listed(down)}.")
    if len(rows) > 1:
        told.append(f"The mean gains go from {listed([worst])} to {listed([best])}.")
    if len(seeds) < ENOUGH_SEEDS:
        told.append(f"Other seeds may fall otherwise: it takes {ENOUGH_SEEDS} for an interval that speaks of them.")
    return " ".join(told)


def grid_traces(shown: Scene, picked: str = MEAN) -> list[dict[str, Any]]:
    """Return what the traces of ``grid_figure`` hold: intervals, single seeds, mean gains, and the row that is told."""
    rows = shown.rows
    spans = [(100 * low, 100 * high) for row in rows for low, high in row.spans]
    # Intervals of single seeds stand beside each other, the mean in the middle.
    at = np.array([place + move for place, row in enumerate(rows) for move in _beside(len(row.spans))])
    middle = np.array([(low + high) / 2 for low, high in spans])
    reach = np.array([(high - low) / 2 for low, high in spans])
    seeds, places = [], []
    for place, row in enumerate(rows):
        seeds += [100 * gain for gain in row.by_seed]
        places += [place + move for move in _beside(len(row.by_seed))]
    told = [
        f"<b>{safe_text(row.name)}</b><br>{row.accuracy:.1%} against {row.baseline:.1%}<br>{100 * row.gain:+.1f} points"
        for row in rows
    ]
    told_of = [place for place, row in enumerate(rows) if row.key == picked]
    gains = [100 * row.gain for row in rows]
    return [
        {"x": middle, "y": at, "error_x_array": reach},
        {"x": np.array(seeds), "y": np.array(places)},
        {"x": gains, "y": list(range(len(rows))), "hovertext": told},
        {"x": [gains[place] for place in told_of], "y": told_of},
    ]


def _beside(count: int) -> np.ndarray:
    """Return where so many marks stand beside each other in one row."""
    return np.linspace(-0.27, 0.27, count) if count > 1 else np.zeros(count)


def grid_figure(shown: Scene, picked: str = MEAN) -> Figure:
    """Draw the gain of each row with its intervals, the mean of the targets and the source on top."""
    import plotly.graph_objects as go

    bars, seeds, means, ring = grid_traces(shown, picked)
    fig = go.Figure()
    error = {"type": "data", "array": bars["error_x_array"], "color": "#999999", "thickness": 1.5, "width": 3}
    fig.add_scatter(
        x=bars["x"], y=bars["y"], error_x=error, mode="markers",
        marker={"size": 10, "symbol": "line-ew-open", "color": "#999999", "line": {"width": 1.5}},
        hoverinfo="skip", name="95 % interval",
    )  # fmt: skip
    fig.add_scatter(
        x=seeds["x"], y=seeds["y"], mode="markers", hoverinfo="skip", name="single seed",
        marker={"size": 7, "color": "rgba(0,0,0,0)", "line": {"color": "#444444", "width": 1}},
    )  # fmt: skip
    fig.add_scatter(
        x=means["x"], y=means["y"], hovertext=means["hovertext"], hoverinfo="text", mode="markers", name="mean gain",
        marker={"size": 11, "symbol": "diamond", "color": PALETTE[1]},
    )  # fmt: skip
    around = {"size": 20, "symbol": "circle-open", "color": PALETTE[6], "line": {"width": 2}}
    fig.add_scatter(**ring, mode="markers", marker=around, hoverinfo="skip", showlegend=False)
    fig.add_vline(x=0, line={"color": "#888888", "dash": "dot", "width": 1.5})
    fig.update_xaxes(title="Gain in points", zeroline=False)
    fig.update_yaxes(grid_axis(shown), showgrid=False, zeroline=False)
    fig.update_layout(
        template="plotly_white", font={"family": FONT, "size": 13, "color": "#222222"},
        height=120 + 24 * max(4, len(shown.rows)),
        legend={"orientation": "h", "y": 1, "yanchor": "bottom", "x": 0}, margin={"l": 20, "r": 20, "t": 40, "b": 40},
    )  # fmt: skip
    return fig


def grid_axis(shown: Scene) -> dict[str, Any]:
    """Return ticks and range of the axis of rows."""
    names = [safe_text(row.name) for row in shown.rows]
    return {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.4, -0.6]}
