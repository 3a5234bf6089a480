"""Methods side by side: a grid of settings and seeds that can be stopped at any moment, and what it shows."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.experiment import Prepared, Setting, prepare, run_setting
from xlt_tutorial.files import write_json, write_whole
from xlt_tutorial.statistics import markdown, markdown_table, summary
from xlt_tutorial.styles import markdown_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from xlt_tutorial.tasks import ParallelTask

BASELINE = "vanilla"


def seed_range(text: str) -> list[int]:
    """Read seeds such as ``0-4`` or ``0,2,7``."""
    try:
        seeds: list[int] = []
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            seeds += range(int(first), int(last) + 1) if dash else [int(first)]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) != len(seeds):
        raise XltError(f'seeds are "{text}"; give a range such as 0-4, or a list such as 0,2,7, each seed once.')
    return seeds


def run_grid(
    settings: Mapping[str, Setting],
    seeds: Iterable[int],
    folder: Path,
    oracle: bool | Container[str] = True,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> dict[str, dict[int, dict[str, Any]]]:
    """Run every setting with every seed; what an earlier call has finished is read, not run.

    Args:
        settings: By name. Their own seed is replaced.
        seeds: The same for every setting, so that methods can be compared pair by pair.
        folder: Each run gets a folder ``<name>-<seed>`` in it. Models are not kept.
        oracle: Score the targets after every epoch too, of all settings or of those named; it changes no model.
        progress: Show bars.
        say: Told one line per run.

    Returns:
        ``{name: {seed: result}}``. A run that failed is left out; its folder holds ``error.json``.

    Raises:
        XltError: A finished run in ``folder`` has another setting.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in settings}
    ready: dict[str, Prepared] = {}
    cells = [(name, replace(setting, seed=seed)) for seed in seeds for name, setting in settings.items()]
    for name, setting in cells:
        cell = cell_folder(folder, name, setting.seed)
        if (cell / "result.json").exists():
            found[name][setting.seed] = _read(cell, setting)
            continue
        try:
            shared = _shared(setting)
            if shared not in ready:
                ready.clear()  # one at a time: encoders are large
                ready[shared] = prepare(setting, fit=True)
            say(f"{name}, seed {setting.seed}")
            traced = oracle if isinstance(oracle, bool) else name in oracle
            result = run_setting(
                setting, cell, (cell / "settings.json").exists(), traced, progress, ready[shared], keep_model=False
            )
        except (XltError, RuntimeError, MemoryError, OSError) as error:
            cell.mkdir(parents=True, exist_ok=True)
            write_json(cell / "error.json", {"error": f"{type(error).__name__}: {error}"})
            say(f"{name}, seed {setting.seed} failed, the others go on: {error}")
            continue
        (cell / "error.json").unlink(missing_ok=True)
        found[name][setting.seed] = result
    return found


def cell_folder(folder: Path, name: str, seed: int) -> Path:
    """Return the folder of one run; what a file name should not hold becomes ``_``."""
    return folder / f"{re.sub(r'[^0-9A-Za-z.+-]+', '_', name)}-{seed}"


def compare(
    settings: Mapping[str, Setting],
    seeds: Sequence[int],
    folder: Path,
    baseline: str = BASELINE,
    oracle: bool = True,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Run a grid and write ``compare.json``, ``compare.md`` and ``compare.html`` to ``folder``.

    Returns:
        What ``compare.json`` holds: ``summary`` (``statistics.summary``, over the seeds that all methods finished),
        ``runs`` (per method: forwards and seconds a step, English, target mean and oracle of each seed, and mean
        gradient shares) and ``failed``.

    Raises:
        XltError: Unknown baseline, a finished run with another setting, or no seed that all methods finished.
    """
    if baseline not in settings:
        raise unknown("baseline", baseline, settings)
    folder.mkdir(parents=True, exist_ok=True)
    found = run_grid(settings, seeds, folder, oracle, progress, say)
    failed = [f"{name}-{seed}" for name in settings for seed in seeds if seed not in found[name]]
    correct = common_answers(found)
    if not correct[baseline]:
        raise XltError(
            f"No seed was finished by all methods; failed: {', '.join(failed)}. See error.json in their folders."
        )
    first = next(iter(found[baseline].values()))
    source = next(iter(first["correct"]))
    shown: dict[str, Any] = {"runs": {name: _told(runs) for name, runs in found.items()}, "failed": failed}
    shown |= {key: first[key] for key in ("versions", "platform")}
    shown["settings"] = {name: setting.as_dict() for name, setting in settings.items()}
    if len(settings) > 1:
        shown["summary"] = summary(correct, baseline, source, item_groups(settings[baseline]))
    write_json(folder / "compare.json", shown)
    write_whole(folder / "compare.md", comparison_text(shown))
    if "summary" in shown:
        write_whole(folder / "compare.html", gain_figure(shown["summary"]).to_html(include_plotlyjs=True))
    return shown


def common_answers(
    runs: Mapping[str, Mapping[Any, Mapping[str, Any]]],
) -> dict[str, dict[Any, dict[str, np.ndarray]]]:
    """Return ``{method: {seed: {language: correct}}}`` of the seeds that all have, as ``statistics`` takes it."""
    seeds = [seed for seed in next(iter(runs.values()), {}) if all(seed in found for found in runs.values())]
    return {
        name: {seed: {t: unpacked(bits) for t, bits in found[seed]["correct"].items()} for seed in seeds}
        for name, found in runs.items()
    }


def unpacked(bits: str) -> np.ndarray:
    """Return ``(items,)`` booleans of a string of 0 and 1."""
    return np.frombuffer(bits.encode(), dtype=np.uint8) == ord("1")


def item_groups(setting: Setting) -> list[Hashable] | None:
    """Return the first text of each test item where items share it (XNLI's premises); they are resampled together."""
    from xlt_tutorial.tasks import load_task

    task: ParallelTask = load_task(setting.task, **setting.task_options)
    if len(task.text_columns) < 2:
        return None
    first = task[task.evaluation_split][task.source][task.text_columns[0]][:]
    return first if len(set(first)) < len(first) else None


def comparison_text(results: Mapping[str, Any]) -> str:
    """Return the comparison as Markdown: what each method cost and reached, the tables of gains, and what failed."""
    heads = ["method", "forwards a step", "seconds a step", "source", "target mean", "oracle (chosen on the targets)"]
    lines = []
    for name, row in results["runs"].items():
        if row["seeds"]:
            spread = [f"{100 * np.mean(row[key]):.1f}" for key in ("source", "target_mean")]
            oracle = f"{100 * np.mean(row['oracle']):.1f}" if row["oracle"] else "not asked for"
            cost = [str(row["forwards"]), f"{np.median(row['seconds_a_step']):.2f}"]
            lines.append([markdown_text(name), *cost, *spread, oracle])
    parts = [
        markdown_table(heads, lines),
        "Accuracy in per cent, means over seeds. The oracle selects nothing: it is what choosing the epoch on the "
        "target languages would have shown.",
    ]
    if "summary" in results:
        parts.append(markdown(results["summary"]))
    if results["failed"]:
        parts.append(f"Failed, and left out: {', '.join(map(markdown_text, results['failed']))}.")
    return "\n\n".join(parts) + "\n"


def gain_figure(summary: Mapping[str, Any]) -> Figure:
    """Draw each method's gain over the baseline by language, with its interval, or its range over few seeds."""
    import plotly.graph_objects as go

    from xlt_tutorial.styles import PALETTE, language_name, safe_text

    rows = summary["rows"]
    names = ["mean of targets" if row == "target_mean" else safe_text(language_name(row)) for row in rows]
    fig = go.Figure()
    for number, method in enumerate(summary["methods"]):
        entries = [row["gain"][method] for row in rows.values()]
        gains = [100 * entry["gain"] for entry in entries]
        ends = [entry["interval"] or (entry["over_seeds"]["min"], entry["over_seeds"]["max"]) for entry in entries]
        fig.add_scatter(
            x=gains, y=[i + 0.12 * number for i in range(len(names))], name=safe_text(method), mode="markers",
            marker={"color": PALETTE[number % len(PALETTE)]}, customdata=names,
            error_x={
                "type": "data", "symmetric": False,
                "array": [100 * high - gain for (_, high), gain in zip(ends, gains, strict=True)],
                "arrayminus": [gain - 100 * low for (low, _), gain in zip(ends, gains, strict=True)],
            },
            hovertemplate="%{customdata}: %{x:+.1f} points",  # beside it stands the name
        )  # fmt: skip
    fig.add_vline(x=0, line_width=1)
    spans = "95 % intervals" if entries[0]["interval"] else "lowest to highest seed"
    over = f"gain over {safe_text(summary['baseline'])}, points ({spans})"
    fig.update_layout(template="plotly_white", xaxis_title=over)
    fig.update_yaxes(tickvals=list(range(len(names))), ticktext=names, autorange="reversed")
    return fig


def _shared(setting: Setting) -> str:
    """Return what two settings must have in common to use the same task, encoder and maker."""
    keys = ("task", "task_options", "encoder", "source", "maker", "maker_options", "table")
    return json.dumps([setting.as_dict()[key] for key in keys] + [setting.recipe.max_length], sort_keys=True)


def _read(cell: Path, setting: Setting) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((cell / "result.json").read_text(encoding="utf-8"))
    if result["setting"] != json.loads(json.dumps(setting.as_dict())):
        raise XltError(f"{cell} holds a finished run with another setting. Choose another folder, or delete this one.")
    for left in cell.glob("step-*"):
        shutil.rmtree(left, ignore_errors=True)
    return result


def _told(runs: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    results = list(runs.values())
    shares = [result["gradient_shares"] for result in results if result["gradient_shares"]]
    return {
        "seeds": list(runs),
        "forwards": results[0]["forwards"] if results else None,
        "seconds_a_step": [round(result["seconds"]["train"] / result["steps"], 4) for result in results],
        "source": [next(iter(result["scores"]["accuracy"].values())) for result in results],
        "target_mean": [result["scores"]["target_mean"] for result in results],
        "oracle": [result["oracle"]["target_mean"] for result in results if result["oracle"]],
        "gradient_shares": {term: float(np.mean([s[term] for s in shares])) for term in (shares[0] if shares else {})},
    }
