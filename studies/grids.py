"""What was run: every study is a table of settings by name, with the seeds of each."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from xlt_tutorial.experiment import Setting
from xlt_tutorial.stored import RESULTS
from xlt_tutorial.training import Recipe

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 16  # of the published pull: the longest English name of "emoji" has 11 tokens
EMOJI = Setting(recipe=Recipe(select="source", share_every=20))


@dataclass(frozen=True)
class Study:
    """A grid.

    Attributes:
        question: What it answers.
        settings: By name; the first is the baseline. Studies of one task and of one precision of it give equal settings
            equal names, and share their runs.
        seeds: Of every setting that ``more_seeds`` does not name.
        more_seeds: Seeds of single settings.
        traced: Settings whose targets are scored after every epoch, to be shown beside the selected epoch; it costs
            more than the training does.
    """

    question: str
    settings: Mapping[str, Setting]
    seeds: tuple[int, ...] = (0, 1, 2)
    more_seeds: Mapping[str, tuple[int, ...]] | None = None
    traced: tuple[str, ...] = ()

    def seeds_of(self, name: str) -> tuple[int, ...]:
        """Return the seeds of a setting."""
        return (self.more_seeds or {}).get(name, self.seeds)


def data_folder() -> Path:
    """Return the folder of real data: ``XLT_DATA``, else ``../shared/data`` beside the repository."""
    return Path(os.environ.get("XLT_DATA") or ROOT.parent / "shared" / "data")


def emoji(
    method: str, maker_options: Mapping[str, Any] | None = None, maker: str = "neighbours", **options: Any
) -> Setting:
    """Return a setting of the offline lab; a published pull is padded to ``WIDTH``."""
    if method in ("ear", "ear-normalised", "ear-A", "ear-EA", "ear-AR"):
        options = {"pad_to": WIDTH} | options
    return replace(EMOJI, method=method, options=options, maker=maker, maker_options=maker_options or {})


def in_bfloat16(setting: Setting) -> Setting:
    """Return the setting trained in bfloat16: half the time here, at a price that ``emoji_precision`` tells."""
    return replace(setting, recipe=replace(setting.recipe, precision="bfloat16"))


def real_swapped(
    name: str, limit: int | None, epochs: int, method: str, maker_options: Mapping[str, Any], **options: Any
) -> Setting:
    """Return a setting on real files whose swap has options of its own."""
    return replace(real(name, method, limit, epochs, **options), maker_options=maker_options)


def real(name: str, method: str, limit: int | None, epochs: int, **options: Any) -> Setting:
    """Return a setting on real files in bfloat16; batches are padded to their longest row: fixed widths cost hours."""
    recipe = Recipe(epochs=epochs, select="source", share_every=20, max_length=64, max_tokens=4096)
    task_options = {} if limit is None else {"limit": limit}
    if method.startswith("ear") and "pad_to" not in options:
        options = {"pad_to": None} | options
    return in_bfloat16(Setting(str(data_folder() / name), task_options, method=method, options=options, recipe=recipe))


# The four variants of the third study, named before any of them was run.
VARIANTS = {
    "R rate 0.6": ("ear-R", {"rate": 0.6}, {}),
    "R rate 0.6, 30 neighbours": ("ear-R", {"rate": 0.6, "neighbours": 30}, {}),
    "R + KL, rate 0.6": ("ear-R", {"rate": 0.6}, {"consistency": 1.0}),
    "normalised EAR + KL, rate 0.6": ("ear-normalised", {"rate": 0.6}, {"consistency": 1.0}),
}

TRACED = ("vanilla", "ear", "ear-normalised")


def variants(setting: Callable[..., Setting]) -> dict[str, Setting]:
    """Return compute-matched vanilla and the four variants; ``setting`` takes method, maker's options and options."""
    made = {name: setting(method, swap, **options) for name, (method, swap, options) in VARIANTS.items()}
    return {"vanilla": setting("vanilla", {})} | made


def confirmed(setting: Callable[..., Setting]) -> dict[str, Setting]:
    """Return vanilla, published EAR and what ``studies.frozen`` has chosen; without that until it has."""
    settings = {"vanilla": setting("vanilla", {}), "ear": setting("ear", {})}
    path = RESULTS / "frozen.json"
    if path.exists():
        name = json.loads(path.read_text(encoding="utf-8"))["variant"]
        method, swap, options = VARIANTS[name]
        settings[name] = setting(method, swap, **options)
    return settings


STUDIES = {
    "emoji_methods": Study(
        'Which method helps on "emoji", each on its stream?',
        {
            "vanilla": emoji("vanilla"),
            "rdrop": emoji("rdrop"),
            "rsrp": emoji("rsrp"),
            "adversarial": emoji("adversarial"),
            "rsda (neighbours in English)": emoji("rsda", maker="neighbours-source"),
            "ear": emoji("ear"),
            "ear (neighbours in English)": emoji("ear", maker="neighbours-source"),
            "ear (noise)": emoji("ear", maker="noise"),
            "ear-normalised": emoji("ear-normalised"),
            **{f"ear-{subset}": emoji(f"ear-{subset}") for subset in ("E", "A", "R", "EA", "ER", "AR")},
        },
        more_seeds={name: (0, 1, 2, 3, 4) for name in TRACED},
        traced=TRACED,
    ),
    "emoji_settings": Study(
        "What does one setting of EAR change, the others left as published? Trained in bfloat16.",
        {
            name: in_bfloat16(one)
            for name, one in {
                "vanilla": emoji("vanilla"),
                "ear": emoji("ear"),
                "alpha 1": emoji("ear", alpha=1.0),
                "alpha 10": emoji("ear", alpha=10.0),
                "beta 10": emoji("ear", beta=10.0),
                "beta 100": emoji("ear", beta=100.0),
                "layer 2": emoji("ear", layer=2),
                "layer 10": emoji("ear", layer=10),
                "hinge push": emoji("ear", push="hinge"),
                "cosine push": emoji("ear", push="cosine"),
                "masked pull": emoji("ear", pull="masked", pad_to=None),
                "rate 0.15": emoji("ear", maker_options={"rate": 0.15}),
                "rate 0.6": emoji("ear", maker_options={"rate": 0.6}),
                "30 neighbours": emoji("ear", maker_options={"neighbours": 30}),
            }.items()
        },
    ),
    "emoji_variants": Study(
        "Which of four variants of the multilingual stream would English data alone choose? Trained in bfloat16.",
        {name: in_bfloat16(one) for name, one in variants(emoji).items()},
    ),
    "emoji_precision": Study(
        "Does training in bfloat16 change what is reached?",
        {name: emoji(name) for name in ("vanilla", "ear")}
        | {f"{name}, bfloat16": in_bfloat16(emoji(name)) for name in ("vanilla", "ear")},
    ),
    "sib200": Study(
        "Topics of sentences in 12 languages, trained in bfloat16.",
        {name: real("sib200", name, None, 8) for name in ("vanilla", "ear", "ear-normalised")},
    ),
    "sib200_variants": Study(
        "Which of the four variants would English data alone choose here, in bfloat16 too?",
        variants(partial(real_swapped, "sib200", None, 8)),
    ),
    "massive": Study(
        "Intents of 3,000 English utterances, trained in bfloat16, tested in 12 languages.",
        {name: real("massive", name, 3000, 5) for name in ("vanilla", "ear", "ear-normalised")},
    ),
    "massive_confirmation": Study(
        "Does what was frozen help where nothing was chosen?",
        confirmed(partial(real_swapped, "massive", 3000, 5)),
    ),
    "xnli_confirmation": Study(
        "The same on natural language inference: 4,000 English pairs, tested in 15 languages.",
        confirmed(partial(real_swapped, "xnli", 4000, 3)),
        seeds=(0, 1),
    ),
}
