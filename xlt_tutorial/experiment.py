"""One experiment: everything that decides it as plain values, and the trained, tested result that follows from them."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.evaluation import Scores, evaluate
from xlt_tutorial.files import read_json, write_json
from xlt_tutorial.objectives import Objective, make_objective
from xlt_tutorial.system import machine, peak_memory_mb, release_memory, versions
from xlt_tutorial.training import Recipe, Run, train

if TYPE_CHECKING:
    from xlt_tutorial.batching import Maker
    from xlt_tutorial.encoders import Encoder
    from xlt_tutorial.tasks import ParallelTask

MAKERS = ("neighbours", "neighbours-source", "synonyms", "noise")
PAPER = {"xnli": (1, 3), "pawsx": (30, 1)}  # epochs, and visits of a sentence in each


@dataclass(frozen=True)
class Setting:
    """What decides a run.

    Attributes:
        task: A name or folder that ``load_task`` takes.
        task_options: Of ``load_task``, such as ``languages`` or ``limit``.
        encoder: A name or folder that ``load_encoder`` takes.
        source: Where ``e5-small`` comes from.
        method: One of ``objectives.METHODS``, or EAR's subset as in ``ear-ER``.
        options: Of the method's class.
        maker: What makes the virtual stream, one of ``MAKERS``, for methods that read one.
        maker_options: Of the maker, such as ``rate``.
        table: Word table of the maker ``synonyms``.
        recipe: Of the training loop.
        seed: Decides head, order, swaps and dropout.
    """

    task: str = "emoji"
    task_options: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = "e5-small"
    source: str = "auto"
    method: str = "ear"
    options: Mapping[str, Any] = field(default_factory=dict)
    maker: str = "neighbours"
    maker_options: Mapping[str, Any] = field(default_factory=dict)
    table: str | None = None
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.maker not in MAKERS:
            raise unknown("maker", self.maker, MAKERS)
        if (self.maker == "synonyms") != (self.table is not None):
            raise XltError("--maker synonyms and --table FILE go together: give both, or neither.")
        self.objective()

    @classmethod
    def for_task(cls, task: str, method: str) -> Setting:
        """Return the paper's setting for the paper's tasks, with as many steps for every method, else the lab's."""
        setting = cls(task=task)
        if task in PAPER:
            epochs, copies = PAPER[task]
            setting = replace(setting, recipe=Recipe.published(epochs), options={"copies": copies})
        return replace(setting, method=method)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Setting:
        """Read what ``as_dict`` wrote; what is left out has its default."""
        recipe = values.get("recipe", {})
        for kind, given, known in (("setting", values, cls), ("recipe's setting", recipe, Recipe)):
            names = [one.name for one in fields(known)]
            if odd := [name for name in given if name not in names]:
                raise unknown(kind, odd[0], names)
        try:
            return cls(**{**values, "recipe": Recipe(**recipe)})
        except TypeError as error:
            raise XltError(f"The setting holds a value of the wrong kind: {error}.") from None

    @classmethod
    def from_file(cls, path: str | Path) -> Setting:
        """Read a JSON file; errors name it."""
        values = read_json(Path(path))
        if not isinstance(values, dict):
            raise XltError(f"{path} must hold one object, as `xlt train --write-config FILE` writes it.")
        return cls.from_dict(values)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def objective(self) -> Objective:
        """Return the objective; a published pull is padded to the recipe's length, as it depends on the width."""
        made = make_objective(self.method, **self.options)
        if getattr(made, "pull", None) == "published" and "pad_to" not in self.options:
            made.pad_to = self.recipe.max_length
        return made


@dataclass
class Prepared:
    """What a setting needs before training; settings that differ in the rest can share it."""

    task: ParallelTask
    encoder: Encoder
    maker: Maker | None


def prepare(setting: Setting, fit: bool = False) -> Prepared:
    """Load task and encoder and fit the maker; the vocabulary is trimmed where that can be done.

    Args:
        setting: Its task, encoder and maker.
        fit: Fit the maker also where the setting's own method does not read it.
    """
    from xlt_tutorial.encoders import load_encoder
    from xlt_tutorial.perturb import EmbeddingNoise, NeighbourSwap, SynonymSwap
    from xlt_tutorial.tasks import load_task

    task = load_task(setting.task, **setting.task_options)
    options = dict(setting.maker_options)
    synonyms = None
    if setting.table is not None:
        synonyms = SynonymSwap.from_file(setting.table, max_length=setting.recipe.max_length, **options)
    release_memory()  # of what the caller has dropped: the whole vocabulary is the largest thing
    full = load_encoder(setting.encoder, setting.source)
    maker: Maker | None = synonyms
    keep: set[Any] = set()
    if not (fit or setting.objective().virtual):
        maker = None
    elif setting.maker.startswith("neighbours"):
        splits = [split for split in ("train", "dev") if task.source in task.splits.get(split, {})]
        english = [text for split in splits for text in task.texts(split, task.source)]
        only = "source" if setting.maker == "neighbours-source" else None
        maker = swap = NeighbourSwap.fit(full, english, only=only, **options)
        keep = set(swap.pieces)
    elif synonyms is not None:
        words = sorted({word for near in synonyms.table.values() for word in near})
        forms = [form for word in words for form in (word, word[:1].upper() + word[1:], word.upper())]
        keep = {i for ids in full.tokenizer(forms)["input_ids"] for i in ids}
    else:
        maker = EmbeddingNoise.fit(full, **options)
    del full
    release_memory()
    return Prepared(task, load_encoder(setting.encoder, setting.source, trim_to=task, keep=keep), maker)


def run_setting(
    setting: Setting,
    folder: Path,
    resume: bool = False,
    oracle: bool = False,
    progress: bool = True,
    prepared: Prepared | None = None,
    keep_model: bool = True,
) -> dict[str, Any]:
    """Train, test in every language, and write ``result.json`` (and model and history) to ``folder``.

    Returns:
        What ``result.json`` holds: ``setting``, ``settings`` (with fingerprints), ``versions``, ``platform``,
        ``selected``, ``oracle``, ``epochs``, ``scores``, ``correct`` (``{language: "0110..."}`` in the order of the
        items), ``gradient_shares``, ``forwards``, ``steps``, ``seconds`` and ``peak_memory_mb``. In a launch of several
        processes, only the first one tests and writes; the others return an empty dict.
    """
    start = time.perf_counter()
    ready, objective = prepared or prepare(setting), setting.objective()
    run = train(
        ready.task, ready.encoder, objective, ready.maker, setting.recipe, setting.seed,
        out=folder, resume=resume, oracle=oracle, progress=progress,
    )  # fmt: skip
    if not run.main:
        return {}
    width = setting.recipe.max_length
    scores = evaluate(run.model, ready.encoder.tokenizer, ready.task, max_length=width, progress=progress)
    result: dict[str, Any] = {"versions": versions(), "platform": machine(), "setting": setting.as_dict()}
    result |= {"settings": run.settings, "selected": run.selected, "oracle": run.oracle, "epochs": run.epochs}
    result |= {"scores": scores.as_dict(), "correct": bits(scores), "gradient_shares": run.shares()}
    result |= {"forwards": objective.forwards, "steps": len(run.history)}
    result["seconds"] = {"train": round(run.seconds, 2), "total": round(time.perf_counter() - start, 2)}
    if keep_model:
        _keep_model(run, ready.encoder, folder)
        write_json(folder / "history.json", run.history)
    else:
        for old in folder.glob("step-*"):
            shutil.rmtree(old, ignore_errors=True)
    write_json(folder / "result.json", result | {"peak_memory_mb": round(peak_memory_mb(), 1)})
    return result


def bits(scores: Scores) -> dict[str, str]:
    """Return which items were right, as a string of 0 and 1 per language."""
    return {language: "".join("01"[int(right)] for right in correct) for language, correct in scores.correct.items()}


def _keep_model(run: Run, base: Encoder, folder: Path) -> None:
    """Write the encoder under its own names with the head beside it: ``load_encoder(folder)`` reads what is its own."""
    from safetensors.torch import save_file

    weights = run.encoder.model.state_dict() | {f"head.{k}": v for k, v in run.model.head.state_dict().items()}
    save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.part", metadata={"format": "pt"})
    os.replace(folder / "model.part", folder / "model.safetensors")
    run.encoder.model.config.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
