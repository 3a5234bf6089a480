"""Real benchmarks by name, read from the Hugging Face hub: XNLI, PAWS-X, SIB-200 and MASSIVE.

Each file is fetched by name at a pinned commit into the hub's cache, whole or not at all, and read by ``datasets``; no
network is asked for a file that is there. A configuration of ``facebook/xnli`` would bring 58 MB of machine-translated
training text per language besides, which zero-shot transfer never reads. Two traits of the data are dealt with here:

- PAWS-X leaves some pairs untranslated: an empty text or "NS", with label 0 whatever the English label is
  (google-research-datasets/paws, issue 15).
- The files by language of XNLI swap two hypotheses of the Russian test set, so rows at one place are not all
  translations. The file of all languages was joined by pair id, and is the one read.

Commits, paths, columns and row counts come from the hub's pages and from public code that loads these commits. The hub
itself could not be reached where this was written: downloads were run against a stand-in server alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.files import check_download

if TYPE_CHECKING:
    from datasets import Dataset

Key = tuple[str, str]  # split, language
Tables = dict[Key, dict[str, list[str]]]  # -> column -> values
Rows = dict[str, tuple[Any, ...]]  # id -> the texts and the label
SOURCE = "en"


@dataclass(frozen=True)
class Benchmark:
    """Where a benchmark lies on the hub, and its shape there.

    Attributes:
        repo: Data set on the hub.
        revision: Commit that is read.
        files: Path of a file, with ``{config}`` and ``{split}``.
        splits: Split here -> its name there and its rows.
        configs: Language here -> its configuration there, the source first.
        texts: The text columns.
        label: The column of labels: class labels with names, or strings.
        id: The column of ids; "" for the row's number, from 1.
        joint: Configuration whose dev and test files hold every language, each text a mapping from language to string.
        gaps: What stands for a missing translation beside the empty text. Such rows are dropped in every language, so
            every language is read, whichever are asked for: the test set does not depend on the choice.
        reader: The builder of ``datasets`` that reads the files, and its options.
    """

    repo: str
    revision: str
    files: str
    splits: Mapping[str, tuple[str, int]]
    configs: Mapping[str, str]
    texts: tuple[str, ...]
    label: str
    id: str = ""
    joint: str = ""
    gaps: tuple[str, ...] = ()
    reader: tuple[str, Mapping[str, Any]] = ("parquet", {})

    @property
    def default(self) -> tuple[str, ...]:
        """The languages that are read when none are named: those with a code of two letters, or a locale."""
        return tuple(language for language in self.configs if "_" not in language)


def _splits(train: int, dev: int, test: int, dev_name: str = "validation") -> dict[str, tuple[str, int]]:
    return {"train": ("train", train), "dev": (dev_name, dev), "test": ("test", test)}


def _same(languages: str) -> dict[str, str]:
    return {language: language for language in languages.split()}


# FLORES-200's codes by script: SIB-200's configurations are <code>_<script>.
_FLORES = {
    "Latn": "ace afr aka als arb ast ayr azj bam ban bem bjn bos bug cat ceb ces cjk crh cym dan deu dik dyu eng "
    "epo est eus ewe fao fij fin fon fra fur fuv gaz gla gle glg grn hat hau hrv hun ibo ilo ind isl ita jav kab kac "
    "kam kbp kea kik kin kmb kmr knc kon lij lim lin lit lmo ltg ltz lua lug luo lus lvs min mlt mos mri nld nno nob "
    "nso nus nya oci pag pap plt pol por quy ron run sag scn slk slv smo sna som sot spa srd ssw sun swe swh szl taq "
    "tgl tpi tsn tso tuk tum tur twi umb uzn vec vie war wol xho yor zsm zul",
    "Arab": "ace acm acq aeb ajp apc arb ars ary arz azb bjn ckb kas knc min pbt pes prs snd uig urd",
    "Cyrl": "bak bel bul kaz khk kir mkd rus srp tat tgk ukr",
    "Deva": "awa bho hin hne kas mag mai mar npi san",
    "Beng": "asm ben mni",
    "Hans": "zho",
    "Hant": "yue zho",
    "Tibt": "bod dzo",
    "Ethi": "amh tir",
    "Hebr": "heb ydd",
    "Mymr": "mya shn",
    "Tfng": "taq tzm",
    **{"Armn": "hye", "Geor": "kat", "Grek": "ell", "Gujr": "guj", "Guru": "pan", "Hang": "kor", "Jpan": "jpn"},
    **{"Khmr": "khm", "Knda": "kan", "Laoo": "lao", "Mlym": "mal", "Nkoo": "nqo", "Olck": "sat", "Orya": "ory"},
    **{"Sinh": "sin", "Taml": "tam", "Telu": "tel", "Thai": "tha"},
}
# The languages of the other tasks under the codes they have there.
_SHORT = {
    "en": "eng_Latn", "ar": "arb_Arab", "bg": "bul_Cyrl", "de": "deu_Latn", "el": "ell_Grek", "es": "spa_Latn",
    "fa": "pes_Arab", "fi": "fin_Latn", "fr": "fra_Latn", "hi": "hin_Deva", "id": "ind_Latn", "it": "ita_Latn",
    "ja": "jpn_Jpan", "ko": "kor_Hang", "pt": "por_Latn", "ru": "rus_Cyrl", "sw": "swh_Latn", "th": "tha_Thai",
    "tr": "tur_Latn", "ur": "urd_Arab", "vi": "vie_Latn", "yo": "yor_Latn", "zh": "zho_Hans",
}  # fmt: skip
_LONG = sorted({f"{code}_{script}" for script, codes in _FLORES.items() for code in codes.split()} - {*_SHORT.values()})
# MASSIVE 1.0's 51 locales.
_LOCALES = (
    "en-US af-ZA am-ET ar-SA az-AZ bn-BD cy-GB da-DK de-DE el-GR es-ES fa-IR fi-FI fr-FR he-IL hi-IN hu-HU hy-AM id-ID "
    "is-IS it-IT ja-JP jv-ID ka-GE km-KH kn-IN ko-KR lv-LV ml-IN mn-MN ms-MY my-MM nb-NO nl-NL pl-PL pt-PT ro-RO ru-RU "
    "sl-SL sq-AL sv-SE sw-KE ta-IN te-IN th-TH tl-PH tr-TR ur-PK vi-VN zh-CN zh-TW"
).split()

BENCHMARKS: dict[str, Benchmark] = {
    "xnli": Benchmark(
        repo="facebook/xnli",
        revision="b8dd5d7af51114dbda02c0e3f6133f332186418e",
        files="{config}/{split}-00000-of-00001.parquet",
        splits=_splits(392_702, 2_490, 5_010),
        configs=_same("en ar bg de el es fr hi ru sw th tr ur vi zh"),
        texts=("premise", "hypothesis"),
        label="label",
        joint="all_languages",
    ),
    "pawsx": Benchmark(
        repo="google-research-datasets/paws-x",
        revision="4cd8187c404bda33cb1f62b49b001115862acf37",
        files="{config}/{split}-00000-of-00001.parquet",
        splits=_splits(49_401, 2_000, 2_000),
        configs=_same("en de es fr ja ko zh"),
        texts=("sentence1", "sentence2"),
        label="label",
        id="id",
        gaps=("NS",),
    ),
    "sib200": Benchmark(
        repo="Davlan/sib200",
        revision="38977a667f6fc264d5c26ec57a01e16db040b358",
        files="data/{config}/{split}.tsv",
        splits=_splits(701, 99, 204, "dev"),
        configs={**_SHORT, **{config: config for config in _LONG}},
        texts=("text",),
        label="category",
        id="index_id",
        reader=("csv", {"sep": "\t", "keep_default_na": False}),
    ),
    # Its main branch holds a loading script, which datasets no longer runs: this commit is of refs/convert/parquet.
    "massive": Benchmark(
        repo="AmazonScience/massive",
        revision="ed58ac423a2f4121720918bf5301577edce4ffd3",
        files="{config}/{split}/0000.parquet",
        splits=_splits(11_514, 2_033, 2_974),
        configs={locale if locale == "zh-TW" else locale[:2]: locale for locale in _LOCALES},
        texts=("utt",),
        label="intent",
        id="id",
    ),
}


def read_benchmark(
    name: str, languages: str | Iterable[str] | None = None, revision: str | None = None
) -> tuple[Tables, str]:
    """Read a benchmark: English train, dev and test of every chosen language, rows in English's order.

    Args:
        name: One of ``BENCHMARKS``.
        languages: One or more; English always comes along. Its ``default`` when ``None``.
        revision: Commit, tag or branch; the pinned commit when ``None``.

    Returns:
        ``(split, language)`` -> the columns ``id``, the texts (``text`` where there is one) and ``label`` (names), and
        the commit they came from. Rows without a translation in some language are in none.

    Raises:
        XltError: For an unknown language or revision, no connection, files that cannot be read, rows, labels or texts
            that are missing.
    """
    benchmark = BENCHMARKS[name]
    chosen = _chosen(name, benchmark, languages)
    commit = _resolved(benchmark, revision or benchmark.revision)
    columns = ("id", *(benchmark.texts if len(benchmark.texts) > 1 else ("text",)), "label")
    tables: Tables = {}
    for split in benchmark.splits:
        asked = (SOURCE,) if split == "train" else tuple(benchmark.configs) if benchmark.gaps else chosen
        sets = _load(benchmark, split, asked, commit)
        rows = {language: _rows(benchmark, f"{split}.{language}", sets[language], language) for language in asked}
        kept = _kept(benchmark, split, rows)
        for language in asked:
            if language in chosen:
                cells = zip(*([key, *rows[language][key]] for key in kept), strict=True)
                tables[split, language] = {column: list(part) for column, part in zip(columns, cells, strict=True)}
    return tables, commit


def _chosen(name: str, benchmark: Benchmark, languages: str | Iterable[str] | None) -> tuple[str, ...]:
    wanted = {languages} if isinstance(languages, str) else set(benchmark.default if languages is None else languages)
    for language in sorted(wanted - set(benchmark.configs)):
        raise unknown(f"language of {name}", language, benchmark.configs)
    if wanted <= {SOURCE}:
        raise XltError(f"No target language is left. Name at least one of: {', '.join(list(benchmark.configs)[1:])}.")
    return tuple(language for language in benchmark.configs if language in wanted or language == SOURCE)


def _resolved(benchmark: Benchmark, revision: str) -> str:
    """Return the commit, 40 hex digits, so that every file comes from the same one."""
    if re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(benchmark.repo, revision=revision).sha)
    except Exception as error:
        raise _failed(benchmark, revision, error) from error


def _load(benchmark: Benchmark, split: str, languages: tuple[str, ...], commit: str) -> dict[str, Dataset]:
    """Return the hub's data sets of a split by language; the same one for all where one file holds them all."""
    import datasets
    import huggingface_hub

    there, expected = benchmark.splits[split]
    joint = benchmark.joint if split != "train" else ""
    paths = {
        language: benchmark.files.format(config=joint or benchmark.configs[language], split=there)
        for language in languages
    }
    parts: dict[str, str] = {}  # path -> name of a split for datasets, which takes no "-"
    for language, path in paths.items():
        parts.setdefault(path, f"{split}_{language}".replace("-", "_"))
    try:
        whole = {
            part: huggingface_hub.hf_hub_download(benchmark.repo, path, repo_type="dataset", revision=commit)
            for path, part in parts.items()
        }
        for file in whole.values():
            check_download(Path(file))
        builder, options = benchmark.reader
        loaded = datasets.load_dataset(builder, data_files=whole, **options)
    except Exception as error:  # two HTTP libraries, pyarrow, pandas and the file system raise their own here
        raise _failed(benchmark, commit, error) from error
    columns = {benchmark.label, *benchmark.texts, *filter(None, [benchmark.id])}
    for path, part in parts.items():
        where = f"{benchmark.repo} at {commit}, {path}"
        if missing := sorted(columns - set(loaded[part].column_names)):
            raise XltError(
                f"{where}: no column {', '.join(missing)}. Leave revision= out: {benchmark.revision} has it."
            )
        if len(loaded[part]) != expected:
            raise XltError(f"{where}: {len(loaded[part])} rows where {expected} belong. {_mend(benchmark)}")
    return {language: loaded[parts[path]] for language, path in paths.items()}


def _rows(benchmark: Benchmark, title: str, dataset: Dataset, language: str) -> Rows:
    ids = dataset[benchmark.id][:] if benchmark.id else range(1, len(dataset) + 1)
    texts = ([_text(cell, language) for cell in dataset[column][:]] for column in benchmark.texts)
    labels, names = dataset[benchmark.label][:], getattr(dataset.features[benchmark.label], "names", None)
    if names:
        labels = [names[label] if label in range(len(names)) else label for label in labels]
    rows = dict(zip(map(str, ids), zip(*texts, labels, strict=True), strict=True))
    if len(rows) < len(dataset):
        raise XltError(f"{benchmark.repo}, {title}: an id is there twice. {_mend(benchmark)}")
    return rows


def _text(cell: Any, language: str) -> str:
    """Return the text of a cell: a string, ``{"de": ..}``, or ``{"language": [..], "translation": [..]}``."""
    if isinstance(cell, Mapping):
        pairs = zip(cell["language"], cell["translation"], strict=True) if "translation" in cell else cell.items()
        cell = dict(pairs).get(language)
    return cell or ""


def _kept(benchmark: Benchmark, split: str, rows: dict[str, Rows]) -> list[str]:
    """Return the ids of the rows that every language has a text for, in the source's order; check ids and labels."""
    first = rows[SOURCE]
    for language, own in rows.items():
        for odd in sorted(own.keys() ^ first.keys()):
            where = f"{benchmark.repo}, {split}.{language}"
            raise XltError(f"{where}: id {odd} is there or in {split}.{SOURCE}, not in both. {_mend(benchmark)}")
    gaps = {"", *benchmark.gaps}
    kept = [key for key in first if not any(gaps & {*map(str.strip, own[key][:-1])} for own in rows.values())]
    if len(kept) < 0.9 * len(first):
        lost = f"{len(first) - len(kept)} of {len(first)} rows lack a text"
        raise XltError(f"{benchmark.repo}, {split}: {lost}. {_mend(benchmark)}")
    for language, own in rows.items():
        for key in kept:
            if not isinstance(own[key][-1], str) or not own[key][-1].strip():
                raise XltError(
                    f"{benchmark.repo}, {split}.{language}, id {key}: no label, but {own[key][-1]!r}. "
                    'Take another revision=, or load_task("path/to/folder") with TSV files that have it.'
                )
    return kept


def _mend(benchmark: Benchmark) -> str:
    return f"Type: hf cache rm dataset/{benchmark.repo}, and load it again."


def _failed(benchmark: Benchmark, revision: str, error: BaseException | None) -> XltError:
    """Return the error that says what to do about a failed download, told by the names of what was raised."""
    raised, reason = "", ""
    while error is not None:
        raised = f"{raised} {type(error).__name__} {error}"
        first = next(filter(None, map(str.strip, str(error).splitlines())), type(error).__name__)
        reason = first.split(". ")[0].rstrip(".")
        error = error.__cause__
    repo, folder = benchmark.repo, 'load_task("path/to/folder") reads TSV files instead.'
    pages = f"https://huggingface.co/datasets/{repo}/commits/main"
    other = f"Pass revision= with one of {pages}" if revision == benchmark.revision else "Leave revision= out"

    def told(*names: str) -> bool:
        return any(name in raised for name in names)

    if told("RevisionNotFoundError"):
        return XltError(f"{repo} has no revision {revision} on the hub. {other}; {folder}")
    if told("OfflineModeIsEnabled", "HF_HUB_OFFLINE"):
        there = f"{repo} at {revision} is not in the cache, and HF_HUB_OFFLINE keeps it from being fetched"
        return XltError(f"{there}. Unset HF_HUB_OFFLINE and try again; {folder}")
    if told("RemoteEntryNotFoundError"):
        return XltError(f"{repo} at {revision} does not hold the files {benchmark.files}. {other}; {folder}")
    if told("DatasetNotFoundError", "RepositoryNotFoundError", "GatedRepoError"):
        return XltError(f"{repo} is not on the hub, or closed to you. Type: hf auth login, and try again; {folder}")
    if told("DamagedError", "DatasetGeneration", "ArrowInvalid", "ParserError", "UnicodeDecodeError"):
        return XltError(f"A file of {repo} cannot be read, as after a download cut short: {reason}. {_mend(benchmark)}")
    return XltError(
        f"{repo} could not be fetched: {reason}. Try again with a connection, what is whole is kept; {folder}"
    )
