"""Tasks: classification data whose rows are translations of one another across languages.

``load_task("emoji")`` needs no network; ``load_task("path/to/folder")`` reads ``<split>.<language>.tsv`` files;
``load_task("xnli")``, "pawsx", "sib200" and "massive" come from the Hugging Face hub.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.hub_tasks import BENCHMARKS, SOURCE, Key, read_benchmark

if TYPE_CHECKING:
    from datasets import Dataset

Table = Mapping[str, list[str]]  # column -> values
SPLITS = ("train", "dev", "test")


class Languages(dict[str, "Dataset"]):
    """The data sets of one split by language; asking for a language it lacks names those it has."""

    def __missing__(self, language: str) -> NoReturn:
        raise unknown("language of this split", language, self)


@dataclass(frozen=True, eq=False, repr=False)
class ParallelTask:
    """A classification task in a source language and at least one target language.

    ``task["test"]["de"]`` is a ``datasets.Dataset`` with the columns ``id`` (str), the text columns (str) and ``label``
    (int, an index into ``labels``); "emoji" adds ``emoji``, ``group`` and ``english``. Within a split, row i is the
    same item in every language. An unknown split or language raises ``XltError``.

    Attributes:
        name: "emoji", a benchmark's name, or the folder's; ``-generalized`` is added to it where that was asked for.
        source: The language to train and select in.
        languages: The source first, then the targets.
        labels: Names of the classes.
        text_columns: One name, or two for sentence pairs.
        splits: Split -> language -> data set.
        revision: The hub's commit, 40 hex digits; "" for what did not come from the hub.
    """

    name: str
    source: str
    languages: tuple[str, ...]
    labels: tuple[str, ...]
    text_columns: tuple[str, ...]
    splits: Mapping[str, Languages]
    revision: str = ""

    def __getitem__(self, split: str) -> Languages:
        if split not in self.splits:
            raise unknown("split", split, self.splits)
        return self.splits[split]

    def __repr__(self) -> str:
        counts = ", ".join(f"{split} {max(rows.values())} x {len(rows)}" for split, rows in self.summary().items())
        head = f"{len(self.labels)} labels, {self.source} -> {' '.join(self.targets)}"
        return f'ParallelTask "{self.name}": {head}; {counts} (rows x languages)'

    def summary(self) -> dict[str, dict[str, int]]:
        """Return split -> language -> number of rows."""
        return {split: {language: len(sets[language]) for language in sets} for split, sets in self.splits.items()}

    @property
    def targets(self) -> tuple[str, ...]:
        """Every language but the source."""
        return tuple(language for language in self.languages if language != self.source)

    @property
    def evaluation_split(self) -> str:
        """The split to report on: "test" where every language has one, else "dev"."""
        return "test" if set(self.languages) <= set(self.splits.get("test", ())) else "dev"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) over splits, languages, ids, label names and texts: same data, same value."""
        digest = hashlib.sha256()
        for split, sets in self.splits.items():
            for language, dataset in sets.items():
                labels = [self.labels[label] for label in dataset["label"][:]]
                columns = [dataset[column][:] for column in ("id", *self.text_columns)]
                digest.update(json.dumps([split, language, labels, columns]).encode())
        return digest.hexdigest()

    def texts(self, split: str | None = None, languages: str | Iterable[str] | None = None) -> list[str]:
        """Return all texts, split by split, language by language, column by column.

        Args:
            split: One split, or every split.
            languages: One or more languages, or all; a split that lacks one of them is passed over.
        """
        parts = [self[split]] if split is not None else list(self.splits.values())
        sets = [part[language] for part in parts for language in self._known(languages) if language in part]
        return [text for dataset in sets for column in self.text_columns for text in dataset[column][:]]

    def only(self, languages: str | Iterable[str]) -> ParallelTask:
        """Return the task with these targets alone, in the task's order; the source always stays."""
        kept = tuple(known for known in self.languages if known in {self.source, *self._known(languages)})
        if kept == (self.source,):
            raise XltError(f"No target language is left. Name at least one of: {', '.join(self.targets)}.")
        parts = {
            split: Languages((language, sets[language]) for language in kept if language in sets)
            for split, sets in self.splits.items()
        }
        return replace(self, languages=kept, splits=parts)

    def _known(self, languages: str | Iterable[str] | None) -> list[str]:
        wanted = {languages} if isinstance(languages, str) else set(self.languages if languages is None else languages)
        for language in sorted(wanted - set(self.languages)):
            raise unknown("language", language, self.languages)
        return [language for language in self.languages if language in wanted]


def load_task(
    name: str | Path,
    source: str = "en",
    *,
    languages: str | Iterable[str] | None = None,
    limit: int | None = None,
    generalized: bool = False,
    revision: str | None = None,
) -> ParallelTask:
    """Load the embedded task "emoji", a benchmark from the Hugging Face hub, or a folder of TSV files.

    The benchmarks are "xnli", "pawsx", "sib200" and "massive" (its 60 intents): English train, dev and test in every
    language, targets scored on test. A name means the hub even where a folder of that name is at hand: type ``./xnli``.
    The hub could not be reached where this was written; ``hub_tasks`` says what that leaves untried.

    A folder holds ``<split>.<language>.tsv`` (split: train, dev or test): UTF-8, one header line, tab-separated, no
    quoting, columns ``id``, ``label`` and one or two texts. Rows at one place are translations of each other. Labels
    are the sorted names in the source's train, or in its evaluation split where there is no train.

    Args:
        name: "emoji", a benchmark, or the path of a folder.
        source: Language to train in; "emoji" and the benchmarks know "en" alone.
        languages: The targets to keep; all when ``None`` (of "sib200", the 22 with a code of two letters).
        limit: Train on at most so many rows of the source: always the same ones, and a larger limit adds to them.
        generalized: For sentence pairs: score pairs whose sentences are in two languages. "de-fr" has the first text
            in German and the second in French; the source alone stays as it is. Huang et al. 2021, arXiv:2104.08645.
        revision: Another commit, tag or branch of the benchmark than the pinned one.

    Raises:
        XltError: For an unknown name or language; with file, line and rule for data that cannot be used; with what to
            do where the hub does not answer.
    """
    if languages is not None and not isinstance(languages, str):
        languages = tuple(languages)
    if name in BENCHMARKS:
        task = _load_benchmark(str(name), source, languages, revision)
    elif revision is not None:
        raise XltError(f"revision= is for {', '.join(BENCHMARKS)}, not for {name}. Leave it out.")
    elif name == "emoji":
        task = _load_emoji(source)
    else:
        task = _load_folder(Path(name).expanduser(), source)
    if languages is not None:
        task = task.only(languages)
    if limit is not None:
        task = _limited(task, limit)
    return _generalized(task) if generalized else task


def _load_emoji(source: str) -> ParallelTask:
    from xlt_tutorial.emoji_task import LABELS, LANGUAGES, emoji_columns

    if source != "en":
        raise unknown("source language of the task emoji:", source, ["en"])
    return ParallelTask("emoji", source, LANGUAGES, LABELS, ("text",), _datasets(emoji_columns(), LABELS))


def _load_benchmark(
    name: str, source: str, languages: str | Iterable[str] | None, revision: str | None
) -> ParallelTask:
    if source != SOURCE:
        raise unknown(f"source language of the task {name}:", source, [SOURCE])
    tables, commit = read_benchmark(name, languages, revision)

    def place(key: Key, row: int | None = None) -> str:
        title = ".".join(key)
        return title if row is None else f"{BENCHMARKS[name].repo}, {title}, id {tables[key]['id'][row]}"

    return _aligned(name, source, tables, ("train", source), place, commit)


def _limited(task: ParallelTask, limit: int) -> ParallelTask:
    import numpy as np

    if limit < 1:
        raise XltError(f"limit={limit} leaves nothing to train on. Pass 1 or more.")
    if task.source not in task.splits.get("train", {}):
        raise XltError(f'The task "{task.name}" has no train.{task.source} to limit. Leave limit= out.')
    train = task["train"]
    rows = np.random.default_rng(0).permutation(len(train[task.source]))[:limit]
    part = Languages({**train, task.source: train[task.source].select(np.sort(rows))})
    return replace(task, splits={**task.splits, "train": part})


def _generalized(task: ParallelTask) -> ParallelTask:
    if len(task.text_columns) != 2:
        raise XltError(f'generalized=True is for sentence pairs; "{task.name}" has single texts. Leave it out.')
    from datasets import concatenate_datasets

    second, sets = task.text_columns[1], task[task.evaluation_split]
    columns = sets[task.source].column_names
    scored = Languages({task.source: sets[task.source]})
    for one, other in permutations(task.languages, 2):
        halves = [sets[one].remove_columns(second), sets[other].select_columns(second)]
        scored[f"{one}-{other}"] = concatenate_datasets(halves, axis=1).select_columns(columns)
    splits = {
        split: Languages({task.source: part[task.source]}) for split, part in task.splits.items() if task.source in part
    }
    splits[task.evaluation_split] = scored
    return replace(task, name=f"{task.name}-generalized", languages=tuple(scored), splits=splits)


def _datasets(splits: Mapping[str, Mapping[str, Table]], labels: tuple[str, ...]) -> dict[str, Languages]:
    from datasets import Dataset

    def dataset(table: Table) -> Dataset:
        return Dataset.from_dict({**table, "label": [labels.index(label) for label in table["label"]]})

    return {split: Languages((key, dataset(table)) for key, table in part.items()) for split, part in splits.items()}


def _load_folder(folder: Path, source: str) -> ParallelTask:
    if not folder.is_dir():
        known = ["emoji", *BENCHMARKS]
        raise XltError(f"{unknown('task', folder, known)} The path of an existing folder of TSV files works too.")
    paths = {_key(path): path for path in sorted(folder.glob("[!.]*.tsv"))}
    found = sorted({language for _, language in paths})
    if not found:
        raise XltError(f"{folder}: no .tsv files. Add train.{source}.tsv, test.{source}.tsv and test.<target>.tsv.")
    if source not in found:
        raise XltError(f"{folder}: {unknown('source language', source, found)} Add its files, or pass source=.")
    if found == [source]:
        raise XltError(f"{folder}: no target language beside {source}. Add test.<target>.tsv or dev.<target>.tsv.")
    for language in found:
        if not {("test", language), ("dev", language)} & paths.keys():
            raise XltError(f"{folder}: {language} has neither test nor dev. Add test.{language}.tsv.")
    shared = [split for split in ("test", "dev") if all((split, language) in paths for language in found)]
    if not shared:
        raise XltError(f"{folder}: neither test nor dev is there in all of {', '.join(found)}. Complete one of them.")

    tables = {key: _read(paths[key]) for key in sorted(paths, key=lambda key: found.index(key[1]))}
    first = ("train" if ("train", source) in paths else shared[0], source)

    def place(key: Key, row: int | None = None) -> str:
        return paths[key].name if row is None else f"{paths[key]}, line {row + 2}"

    return _aligned(folder.resolve().name, source, tables, first, place)


def _aligned(
    name: str,
    source: str,
    tables: Mapping[Key, Table],
    first: Key,
    place: Callable[..., str],
    revision: str = "",
) -> ParallelTask:
    """Return the task of these tables, where they have the same columns, labels and rows.

    Args:
        name: The task's name.
        source: Its source language.
        tables: The data; the targets keep their order.
        first: The table that says which columns and labels there are.
        place: ``place(key)`` is what a table is called, ``place(key, row)`` how a message begins; row -1 is the header.
        revision: The hub's commit.
    """
    languages = (source, *dict.fromkeys(language for _, language in tables if language != source))
    texts = tuple(column for column in tables[first] if column not in ("id", "label"))
    labels = tuple(sorted(set(tables[first]["label"])))
    splits: dict[str, dict[str, Table]] = {}
    for key in sorted(tables, key=lambda key: (SPLITS.index(key[0]), languages.index(key[1]))):
        (split, language), table = key, tables[key]
        if texts != tuple(column for column in table if column not in ("id", "label")):
            rule = f"the text columns must be {' and '.join(texts)}, as in {place(first)}."
            raise XltError(f"{place(key, -1)}: {rule}")
        for row, label in enumerate(table["label"]):
            if label not in labels:
                rule = f"{unknown('label', label, labels)} Those are in {place(first)}."
                raise XltError(f"{place(key, row)}: {rule}")
        splits.setdefault(split, {})[language] = table
        other, reference = next(iter(splits[split].items()))
        for column in ("id", "label"):
            for row, (mine, theirs) in enumerate(zip_longest(table[column], reference[column])):
                if mine != theirs:
                    rule = f"{column} {mine} where {place((split, other))} has {theirs}"
                    raise XltError(f"{place(key, row)}: {rule}. Rows must be the same items in the same order.")
    return ParallelTask(name, source, languages, labels, texts, _datasets(splits, labels), revision)


def _key(path: Path) -> tuple[str, str]:
    split, _, language = path.name.removesuffix(".tsv").partition(".")
    if split not in SPLITS:
        raise XltError(f"{path}: {unknown('split', split, SPLITS)} Name the file <split>.<language>.tsv.")
    if not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*", language):
        raise XltError(f'{path}: "{language}" is no language code. Name the file like {split}.de.tsv.')
    return split, language


def _broken(path: Path, line: int, rule: str) -> XltError:
    return XltError(f"{path}, line {line}: {rule}")


def _read(path: Path) -> Table:
    try:
        text = path.read_bytes().decode("utf-8-sig").removesuffix("\n")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise _broken(path, line, "broken UTF-8. Save the file as UTF-8.") from None
    header, *rows = [line.removesuffix("\r").split("\t") for line in text.split("\n")]
    if not rows:
        raise _broken(path, 1, "no rows below a header. Add some, or delete the file.")
    if not {"id", "label"} < set(header) or len(set(header)) < len(header) or len(header) > 4:
        rule = "must be id, label and one or two text columns, each once, separated by tabs"
        raise _broken(path, 1, f'the header is "{" ".join(header)}"; it {rule}.')
    lines: dict[str, int] = {}
    for line, cells in enumerate(rows, start=2):
        if len(cells) != len(header):
            raise _broken(path, line, f"{len(cells)} cells, the header has {len(header)}. Mend tabs and line breaks.")
        row = dict(zip(header, cells, strict=True))
        for column in header:
            if not row[column].strip():
                raise _broken(path, line, f"empty {column}. Fill it, or drop the row in every language.")
        if lines.setdefault(row["id"], line) != line:
            raise _broken(path, line, f'id "{row["id"]}" repeats line {lines[row["id"]]}. Every row needs its own id.')
    return {column: list(cells) for column, cells in zip(header, zip(*rows, strict=True), strict=True)}
