"""Write README's picture and main table from what is stored: ``python tools/front.py``; ``--check`` only compares.

The picture, docs/pictures/before_after.png, is drawn anew where the stored maps have changed; that needs a browser.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the tools

from pages import write_or_check

from xlt_tutorial.doctor import BROWSERS
from xlt_tutorial.statistics import markdown_table
from xlt_tutorial.stored import RESULTS, accuracies, stored
from xlt_tutorial.styles import language_name
from xlt_tutorial.widgets import Maps, read_maps, static_map
from xlt_tutorial.widgets.stored import FOLDER

ROOT = Path(__file__).resolve().parent.parent
README, PICTURE = ROOT / "README.md", ROOT / "docs" / "pictures" / "before_after.png"
BEGIN, END = "<!-- front: written by tools/front.py -->\n", "<!-- end of front -->"
CONCEPTS, SIZE = 48, (1000, 500)
STUDY = "emoji_methods"
SHOWN = {
    "vanilla": "vanilla, two passes (the baseline)",
    "rdrop": "R-Drop",
    "rsrp": "RSRP: random perturbation",
    "adversarial": "adversarial training",
    "rsda (neighbours in English)": "RSDA, on English neighbours",
    "ear": "**EAR as published**",
    "ear-normalised": "EAR, push and pull at 10 % of the gradient each",
}


def digest() -> str:
    """Return the sha256 of the stored maps, which the picture carries."""
    return hashlib.sha256((FOLDER / "maps.npz").read_bytes()).hexdigest()


def drawn_from(picture: Path) -> str | None:
    """Return the sha256 of the maps that a picture was drawn from; ``None`` where there is no such picture."""
    if not picture.exists():
        return None
    with Image.open(picture) as image:
        return image.info.get("maps")


def draw(maps: Maps, picture: Path) -> None:
    """Draw both ends of the maps' last layer, and write the PNG with the maps' sha256 in it."""
    from PIL.PngImagePlugin import PngInfo

    browser = next(filter(shutil.which, BROWSERS), None)
    if browser:
        os.environ.setdefault("BROWSER_PATH", str(shutil.which(browser)))
    some = np.linspace(0, len(maps.ids) - 1, CONCEPTS).round().astype(int).tolist()
    fig = static_map(maps, layers=[maps.layers[-1]], concepts=some)
    fig.layout.sliders, fig.layout.updatemenus = (), ()
    fig.update_layout(margin={"t": 40, "b": 10, "l": 10, "r": 10}, legend_font_size=12)
    picture.parent.mkdir(exist_ok=True)
    fig.write_image(picture, width=SIZE[0], height=SIZE[1], scale=1.5)
    facts = PngInfo()
    facts.add_text("maps", digest())
    with Image.open(picture) as image:
        image.convert("RGB").quantize(128).save(picture, pnginfo=facts, optimize=True)


def caption(maps: Maps) -> str:
    """Return what the picture shows and what the alignment kit says of it, the part of plain training told apart."""
    layer = maps.layers[-1]
    rows = {stage: maps.measures(stage, layer) for stage in maps.stages}
    gaps = [f"{row['gap_ratio']['mean']:.2f}" for row in rows.values()]
    found = [f"{100 * row['p1']['centred']['from_source']['mean']:.0f} %" for row in rows.values()]
    return (
        "One map of the last layer, before training and after EAR on English alone. A point is the name of an emoji in "
        f"one of {len(maps.languages)} languages, lines join translations. As it is, the encoder has a mean gap ratio "
        f"(distance between the centres of two languages, in units of their spread) of {gaps[0]}, after plain training "
        f"of {gaps[1]}, after EAR with the same work of {gaps[2]}. The nearest name in the other language is the "
        f"translation for {found[0]}, {found[1]} and {found[2]} of the names: languages can mix without meeting. One "
        "seed; notebook 08 has every layer, live."
    )


def table(study: Mapping[str, Any]) -> str:
    """Return the main table: accuracy on English and on the targets, and the gain over vanilla of the same seeds."""
    reached = {
        key: {seed: np.array(list(accuracies(run).values())) for seed, run in runs.items()}
        for key, runs in study["runs"].items()
    }
    base, lines = reached["vanilla"], []
    for key, title in SHOWN.items():
        if not (runs := reached.get(key)):
            continue
        english = [100 * run[0] for run in runs.values()]
        targets = [100 * run[1:].mean() for run in runs.values()]
        gains = [100 * (run[1:].mean() - base[seed][1:].mean()) for seed, run in runs.items() if seed in base]
        gain = "" if key == "vanilla" or not gains else _spread(gains, "+")
        lines.append([title, str(len(runs)), _spread(english), _spread(targets), gain])
    languages = next(iter(next(iter(study["runs"].values())).values()))["correct"]
    heads = ["trained on English with", "seeds", next(iter(map(language_name, languages))),
             f"mean of {len(languages) - 1} targets", "gain"]  # fmt: skip
    return markdown_table(heads, lines)


def _spread(values: list[float], sign: str = "") -> str:
    return f"{np.mean(values):{sign}.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")


def _caution(study: Mapping[str, Any]) -> str:
    fewest = min(len(runs) for key, runs in study["runs"].items() if key in SHOWN)
    told = f"{fewest} seed{'s' * (fewest != 1)}"
    return (
        ""
        if fewest >= 3
        else f"With as few as {told} so far, read no order into it: another seed would give another one. "
    )


def readme(text: str, maps: Maps, study: Mapping[str, Any] | None) -> str:
    """Return README.md with what is between the marks renewed."""
    before, rest = text.split(BEGIN, 1)
    parts = [f"![The map before training and after]({PICTURE.relative_to(ROOT)})", caption(maps)]
    if study:
        parts += [
            table(study),
            "Accuracy in per cent on test items of the task `emoji`, mean ± standard deviation over seeds; the gain is "
            "over vanilla with the same seeds. All take the same steps over the same rows and choose the epoch on "
            f"English. {_caution(study)}Intervals, all eight subsets of the terms and other tasks: "
            "[docs/results.md](docs/results.md).",
        ]
    return before + BEGIN + "\n" + "\n\n".join(parts) + "\n\n" + END + rest.split(END, 1)[1]


def main(arguments: list[str] | None = None) -> int:
    """Write, or compare; 1 where the table, the caption or the picture is not of what is stored."""
    maps = read_maps()
    study = stored(STUDY) if (RESULTS / f"{STUDY}.json").exists() else None
    old = drawn_from(PICTURE) != digest()
    command = "python tools/front.py"
    if "--check" in (sys.argv[1:] if arguments is None else arguments):
        print(f"{PICTURE.name}: {f'NOT up to date: {command}' if old else 'up to date'}")
    elif old:
        draw(maps, PICTURE)
    text = readme(README.read_text(encoding="utf-8"), maps, study)
    return max(write_or_check(README, text, command, arguments), int(drawn_from(PICTURE) != digest()))


if __name__ == "__main__":
    sys.exit(main())
