"""Benchmarks by hub name: files of recorded shapes in a hub cache of the tests' own, and what the hub can raise."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
from datasets import ClassLabel, Dataset, Features, Translation, TranslationVariableLanguages, Value
from huggingface_hub import constants, errors

from xlt_tutorial.errors import XltError
from xlt_tutorial.hub_tasks import BENCHMARKS
from xlt_tutorial.tasks import _key, load_task

# Columns and label names as the hub's pages give them; rows are (split there, config there) -> rows.
NLI = ClassLabel(names=["entailment", "neutral", "contradiction"])
FEATURES = {
    "xnli": Features({"premise": Value("string"), "hypothesis": Value("string"), "label": NLI}),
    "pawsx": Features(
        {
            "id": Value("int32"),
            "sentence1": Value("string"),
            "sentence2": Value("string"),
            "label": ClassLabel(names=["0", "1"]),
        }
    ),
    "massive": Features(
        {
            "id": Value("string"),
            "locale": Value("string"),
            "intent": ClassLabel(names=["iot_cleaning", "alarm_set", "qa_maths"]),
            "utt": Value("string"),
            "annot_utt": Value("string"),
        }
    ),
}
XNLI = {
    ("train", "en"): [("A dog runs.", "A cat runs.", 2), ("It rains.", "It is wet.", 0), ("Who?", "Me.", 1)],
    ("validation", "en de sw"): [(("One.", "Eins.", "Moja."), ("Two.", "Zwei.", "Mbili."), 2)],
    ("test", "en de sw"): [
        (("I am home.", "Ich bin da.", "Niko nyumbani."), ("He is away.", "Er ist weg.", "Hayupo."), 1),
        (("I am home.", "Ich bin da.", "Niko nyumbani."), ("I am in.", "Ich bin drin.", "Nipo."), 0),
    ],
}
PAWSX = {
    ("train", "en"): [(1, "a b", "b a", 1), (2, "a c", "c b", 0)],
    **{("validation", code): [(7, f"{code} x", f"{code} y", 1)] for code in BENCHMARKS["pawsx"].configs},
    **{
        ("test", code): [(i, f"{code} {i}", f"{i} {code}", i % 2) for i in range(3, 23)]
        for code in BENCHMARKS["pawsx"].configs
    },
}
PAWSX["test", "de"][2] = (
    5,
    "de 5",
    "NS",
    0,
)  # as issue 15 of google-research-datasets/paws shows a gap, with its label
PAWSX["test", "ko"][4] = (7, "", "7 ko", 0)
SIB200 = {
    ("train", "eng_Latn"): [(4, "travel", "We fly."), (9, "sports", 'He said "go", twice.'), (2, "travel", "By bus.")],
    ("dev", "eng_Latn"): [(1, "sports", "A goal.")],
    ("dev", "deu_Latn"): [(1, "sports", "Ein Tor.")],
    ("dev", "yue_Hant"): [(1, "sports", "入球。")],
    ("test", "eng_Latn"): [(5, "travel", "A map."), (3, "sports", "null")],
    ("test", "deu_Latn"): [(3, "sports", "Null"), (5, "travel", 'Eine "Karte".')],
    ("test", "yue_Hant"): [(5, "travel", "地圖。"), (3, "sports", "零")],
}
MASSIVE = {
    ("train", "en-US"): [
        ("1", "en-US", 1, "wake me", ""),
        ("2", "en-US", 0, "clean up", ""),
        ("4", "en-US", 2, "add", ""),
    ],
    **{("validation", code): [("11", code, 0, f"{code} 11", "")] for code in ("en-US", "de-DE", "zh-CN", "zh-TW")},
    **{
        ("test", code): [("21", code, 2, f"{code} 21", ""), ("23", code, 1, f"{code} 23", "")]
        for code in ("en-US", "de-DE", "zh-CN", "zh-TW")
    },
}
ROWS = {"xnli": XNLI, "pawsx": PAWSX, "sib200": SIB200, "massive": MASSIVE}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def joint(rows: list[Any], languages: list[str]) -> Dataset:
    """XNLI's configuration all_languages: each text a mapping, of the one kind and of the other."""
    premises = [dict(zip(languages, row[0], strict=True)) for row in rows]
    hypotheses = [dict(zip(languages, row[1], strict=True)) for row in rows]
    features = Features(
        {"premise": Translation(languages), "hypothesis": TranslationVariableLanguages(languages), "label": NLI}
    )
    columns = {"premise": premises, "hypothesis": hypotheses, "label": [row[2] for row in rows]}
    return Dataset.from_dict(columns, features=features)


def tsv(rows: list[tuple[Any, ...]]) -> str:
    """SIB-200's files: a header, and quotes where pandas puts them."""
    out = io.StringIO()
    csv.writer(out, delimiter="\t", lineterminator="\n").writerows([("index_id", "category", "text"), *rows])
    return out.getvalue()


class Hub:
    """Files under a commit, as the hub's cache has them after a download."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache

    def path(self, name: str, split: str, config: str, commit: str | None = None) -> Path:
        benchmark = BENCHMARKS[name]
        folder = self.cache / f"datasets--{benchmark.repo.replace('/', '--')}" / "snapshots"
        return folder / (commit or benchmark.revision) / benchmark.files.format(config=config, split=split)

    def write(self, name: str, rows: dict[Any, Any], commit: str | None = None) -> None:
        for (split, config), part in rows.items():
            languages = config.split()
            path = self.path(name, split, config if len(languages) == 1 else "all_languages", commit)
            path.parent.mkdir(parents=True, exist_ok=True)
            if name == "sib200":
                path.write_text(tsv(part), encoding="utf-8")
            elif len(languages) > 1:
                joint(part, languages).to_parquet(str(path))
            else:
                columns = zip(*part, strict=True)
                table = dict(zip(FEATURES[name], map(list, columns), strict=True))
                Dataset.from_dict(table, features=FEATURES[name]).to_parquet(str(path))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hub:
    """An empty cache, and benchmarks whose splits have as many rows as the tables above."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    assert constants.HF_HUB_OFFLINE, "conftest keeps the tests off the network"
    for name, rows in ROWS.items():
        sizes = {split: len(part) for (split, _), part in rows.items()}
        splits = {split: (there, sizes[there]) for split, (there, _) in BENCHMARKS[name].splits.items()}
        monkeypatch.setitem(BENCHMARKS, name, replace(BENCHMARKS[name], splits=splits))
    return Hub(tmp_path / "hub")


@pytest.fixture
def full(hub: Hub) -> Hub:
    """The cache with every file of the tables above."""
    for name, rows in ROWS.items():
        hub.write(name, rows)
    return hub


# What is known of the hub


def test_the_pinned_commits_files_and_sizes() -> None:
    found = {
        name: (one.repo, one.revision[:7], one.files.format(config="C", split="S"), [n for _, n in one.splits.values()])
        for name, one in BENCHMARKS.items()
    }
    shard = "C/S-00000-of-00001.parquet"
    assert found == {
        "xnli": ("facebook/xnli", "b8dd5d7", shard, [392702, 2490, 5010]),
        "pawsx": ("google-research-datasets/paws-x", "4cd8187", shard, [49401, 2000, 2000]),
        "sib200": ("Davlan/sib200", "38977a6", "data/C/S.tsv", [701, 99, 204]),
        "massive": ("AmazonScience/massive", "ed58ac4", "C/S/0000.parquet", [11514, 2033, 2974]),
    }
    assert {name: len(one.configs) for name, one in BENCHMARKS.items()} == dict(
        xnli=15, pawsx=7, sib200=205, massive=51
    )
    for one in BENCHMARKS.values():
        assert re.fullmatch("[0-9a-f]{40}", one.revision) and next(iter(one.configs)) == "en"
        assert len(set(one.configs.values())) == len(one.configs)
        for language in one.configs:  # a task from the hub may be kept as a folder
            assert _key(Path(f"test.{language}.tsv")) == ("test", language)
    assert set(BENCHMARKS["xnli"].configs) < set(BENCHMARKS["sib200"].default)
    assert len(BENCHMARKS["sib200"].default) == 23 and "zh-TW" in BENCHMARKS["massive"].default


# Good files


def test_xnli(full: Hub) -> None:
    task = load_task("xnli", languages=iter(["sw", "de"]))
    assert task.name == "xnli" and task.languages == ("en", "de", "sw") and task.source == "en"
    assert task.labels == ("contradiction", "entailment", "neutral") and task.text_columns == ("premise", "hypothesis")
    one, two = dict.fromkeys(task.languages, 1), dict.fromkeys(task.languages, 2)
    assert task.summary() == {"train": {"en": 3}, "dev": one, "test": two}
    assert task.evaluation_split == "test" and task.revision == BENCHMARKS["xnli"].revision
    assert list(task["train"]["en"])[1] == {"id": "2", "premise": "It rains.", "hypothesis": "It is wet.", "label": 1}
    assert list(task["test"]["sw"]) == [
        {"id": "1", "premise": "Niko nyumbani.", "hypothesis": "Hayupo.", "label": 2},
        {"id": "2", "premise": "Niko nyumbani.", "hypothesis": "Nipo.", "label": 1},
    ]
    assert task.texts("test", "de") == ["Ich bin da.", "Ich bin da.", "Er ist weg.", "Ich bin drin."]


def test_an_untranslated_pair_of_pawsx_is_in_no_language_whichever_are_asked_for(full: Hub) -> None:
    task = load_task("pawsx", languages="fr")
    assert task.languages == ("en", "fr") and task.labels == ("0", "1")
    kept = [str(i) for i in range(3, 23) if i not in (5, 7)]
    for language in task.languages:
        assert task["test"][language]["id"][:] == kept
        assert task["test"][language]["label"][:] == [int(i) % 2 for i in kept]
    assert task["test"]["fr"][0] == {"id": "3", "sentence1": "fr 3", "sentence2": "3 fr", "label": 1}
    every = load_task("pawsx")
    assert every.languages == ("en", "de", "es", "fr", "ja", "ko", "zh")
    assert every["test"]["fr"]["id"][:] == kept and every.only("fr").fingerprint == task.fingerprint


def test_sib200_is_put_in_the_order_of_english(full: Hub) -> None:
    task = load_task("sib200", languages=["de", "yue_Hant"])
    assert task.languages == ("en", "de", "yue_Hant") and task.labels == ("sports", "travel")
    assert task["train"]["en"]["text"][1] == 'He said "go", twice.'
    for language in task.languages:
        assert task["test"][language]["id"][:] == ["5", "3"] and task["test"][language]["label"][:] == [1, 0]
    assert task["test"]["de"]["text"][:] == ['Eine "Karte".', "Null"] and task["test"]["en"]["text"][1] == "null"


def test_massive_has_intents_and_both_scripts_of_chinese(full: Hub) -> None:
    task = load_task("massive", languages=["de", "zh", "zh-TW"])
    assert task.languages == ("en", "de", "zh", "zh-TW") and task.labels == ("alarm_set", "iot_cleaning", "qa_maths")
    assert task.text_columns == ("text",)
    assert list(task["test"]["zh"]) == [
        {"id": "21", "text": "zh-CN 21", "label": 2},
        {"id": "23", "text": "zh-CN 23", "label": 0},
    ]
    assert task["test"]["zh-TW"]["text"][0] == "zh-TW 21"


@pytest.mark.data
def test_real_sib200_is_the_same_from_the_hubs_files_and_from_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_dir: Path
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    folder = load_task(data_dir / "sib200")
    for split, sets in folder.splits.items():
        for language, rows in sets.items():
            path = Hub(tmp_path / "hub").path("sib200", split, BENCHMARKS["sib200"].configs[language])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(tsv([(row["id"], folder.labels[row["label"]], row["text"]) for row in rows]), "utf-8")
    task = load_task("sib200", languages=folder.languages)
    assert task.fingerprint == folder.fingerprint and (task.name, folder.revision) == ("sib200", "")


def test_a_folder_of_the_same_name_is_not_taken_for_the_benchmark(
    full: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "massive").mkdir()
    for split in ("train.en", "test.en", "test.de"):
        (tmp_path / "massive" / f"{split}.tsv").write_text("id\ttext\tlabel\n1\tmine\tx\n")
    monkeypatch.chdir(tmp_path)
    assert load_task("massive", languages="de").labels != ("x",)
    assert load_task("./massive").labels == load_task(Path("massive")).labels == ("x",)


# What every task takes


def test_limit_takes_the_same_rows_each_time_and_a_larger_one_adds_to_them(full: Hub) -> None:
    whole = load_task("pawsx", languages="de")
    rows = {limit: load_task("xnli", languages="de", limit=limit)["train"]["en"]["id"][:] for limit in (1, 2, 3, 9)}
    assert [len(ids) for ids in rows.values()] == [1, 2, 3, 3] and rows[3] == ["1", "2", "3"]
    assert set(rows[1]) < set(rows[2]) and rows[2] == sorted(rows[2])
    assert load_task("xnli", languages="de", limit=2)["train"]["en"]["id"][:] == rows[2]
    less = load_task("pawsx", languages="de", limit=1)
    assert less.labels == whole.labels and less.fingerprint != whole.fingerprint
    assert less.summary()["test"] == whole.summary()["test"]
    with pytest.raises(XltError, match=r"limit=0 leaves nothing to train on\. Pass 1 or more"):
        load_task("xnli", languages="de", limit=0)


def test_generalized_pairs_have_their_sentences_in_two_languages(full: Hub) -> None:
    task = load_task("xnli", languages=["de", "sw"], generalized=True)
    pairs = ("en-de", "en-sw", "de-en", "de-sw", "sw-en", "sw-de")
    assert task.name == "xnli-generalized" and task.languages == ("en", *pairs) and task.targets == pairs
    assert task.evaluation_split == "test" and task.source == "en"
    assert task.summary() == {"train": {"en": 3}, "dev": {"en": 1}, "test": dict.fromkeys(task.languages, 2)}
    plain = load_task("xnli", languages=["de", "sw"])
    for pair in pairs:
        one, other = pair.split("-")
        for mixed, first, second in zip(task["test"][pair], plain["test"][one], plain["test"][other], strict=True):
            assert mixed == {**first, "hypothesis": second["hypothesis"]}
    assert list(task["test"]["en"]) == list(plain["test"]["en"])
    assert set(task.texts()) == set(plain.texts()) - set(plain.texts("dev", ["de", "sw"]))
    assert task.only("de-sw").languages == ("en", "de-sw") and task.revision == plain.revision
    with pytest.raises(XltError, match=r'generalized=True is for sentence pairs; "massive" has single texts'):
        load_task("massive", languages="de", generalized=True)


def test_unknown_names_list_those_that_exist(full: Hub) -> None:
    with pytest.raises(
        XltError, match=r'task "xnil"\. Did you mean "xnli"\? Valid: emoji, xnli, pawsx, sib200, massive'
    ):
        load_task("xnil")
    with pytest.raises(XltError, match=r'language of pawsx "ru"\..* Valid: en, de, es, fr, ja, ko, zh\.'):
        load_task("pawsx", languages=["de", "ru"])
    with pytest.raises(XltError, match=r"No target language is left\. Name at least one of: de, es, fr"):
        load_task("pawsx", languages=["en"])
    with pytest.raises(XltError, match=r'source language of the task xnli: "de".* Valid: en\.'):
        load_task("xnli", source="de")
    with pytest.raises(XltError, match=r"revision= is for xnli, pawsx, sib200, massive, not for emoji\. Leave it out"):
        load_task("emoji", revision="main")


# Revisions


def test_a_branch_is_resolved_once_and_its_commit_recorded(full: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def dataset_info(self: Any, repo: str, revision: str) -> Any:
        asked.append((repo, revision))
        return huggingface_hub.hf_api.DatasetInfo(id=repo, sha=COMMIT, tags=[])

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    changed = {**XNLI, ("train", "en"): [("Old.", "Older.", label) for label in range(3)]}
    full.write("xnli", changed, COMMIT)
    task = load_task("xnli", languages="de", revision="refs/convert/parquet")
    assert task.revision == COMMIT and task["train"]["en"]["premise"][0] == "Old."
    assert asked == [("facebook/xnli", "refs/convert/parquet")]
    assert load_task("xnli", languages="de", revision=COMMIT).fingerprint == task.fingerprint and len(asked) == 1
    assert load_task("xnli", languages="de")["train"]["en"]["premise"][0] == "A dog runs."


# What can go wrong on the way


def response(kind: type[Exception], status: int) -> Exception:
    """An error of the hub's, made as huggingface_hub makes it."""
    library = __import__(errors.Response.__module__.split(".")[0])
    request = library.Request("GET", "https://huggingface.co/datasets/facebook/xnli")
    return kind(f"{status} Client Error.", response=library.Response(status, request=request))


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def unreachable() -> Exception:
    library = __import__(errors.Response.__module__.split(".")[0])
    return library.ConnectError("[Errno 111] Connection refused")


PIN = BENCHMARKS["xnli"].revision
COMMITS = "https://huggingface.co/datasets/facebook/xnli/commits/main"
DOWNLOAD: dict[str, tuple[Callable[[], Exception], str]] = {
    "the pinned revision is gone": (
        lambda: response(errors.RevisionNotFoundError, 404),
        rf"facebook/xnli has no revision {PIN} on the hub\. Pass revision= with one of {COMMITS}; load_task\(",
    ),
    "a file is gone": (
        lambda: response(errors.RemoteEntryNotFoundError, 404),
        r"does not hold the files {config}/{split}-00000-of-00001\.parquet\. Pass revision= with one of",
    ),
    "the repository is gone": (
        lambda: response(errors.RepositoryNotFoundError, 401),
        r"facebook/xnli is not on the hub, or closed to you\. Type: hf auth login, and try again",
    ),
    "the repository is gated": (lambda: response(errors.GatedRepoError, 403), r"closed to you\. Type: hf auth login"),
    "no connection": (
        lambda: caused(errors.LocalEntryNotFoundError("Please check your connection"), unreachable()),
        r"could not be fetched: \[Errno 111\] Connection refused\. Try again with a connection, what is whole is kept",
    ),
    "a connection lost": (unreachable, r"Connection refused\. Try again with a connection"),
    "an old kind of connection error": (lambda: ConnectionError("reset by peer"), r"reset by peer\. Try again with a"),
    "a timeout": (lambda: TimeoutError(), r"could not be fetched: TimeoutError\. Try again with a connection"),
    "the hub is ill": (lambda: response(errors.HfHubHTTPError, 503), r"fetched: 503 Client Error\. Try again with a"),
    "a short file": (
        lambda: OSError("Consistency check failed: file should be of size 9 but has size 4"),
        r"should be of size 9 but has size 4\. Try again",
    ),
    "a full disk": (lambda: OSError(28, "No space left on device"), r"No space left on device\. Try again"),
    "offline by choice": (
        lambda: caused(errors.LocalEntryNotFoundError("not in the cache"), errors.OfflineModeIsEnabled("offline")),
        r"is not in the cache, and HF_HUB_OFFLINE keeps it from being fetched\. Unset HF_HUB_OFFLINE and try again",
    ),
}
DAMAGED = r"A file of facebook/xnli cannot be read, as after a download cut short: .*hf cache rm dataset/facebook/xnli"
READING: dict[str, tuple[Callable[[], Exception], str]] = {
    "a file that is no parquet": (
        lambda: caused(datasets.exceptions.DatasetGenerationError("An error occurred"), ValueError("Parquet magic")),
        rf"cut short: Parquet magic\. Type: hf cache rm|{DAMAGED}",
    ),
    "a data set that is gone": (
        lambda: datasets.exceptions.DatasetNotFoundError("Dataset doesn't exist on the Hub"),
        r"not on the hub, or closed to you",
    ),
}


def one_sentence_and_a_remedy(error: XltError) -> None:
    told = str(error)
    assert "\n" not in told and len(re.findall(r"(?<=[a-z)]{2})\. (?=[A-Z])", told)) <= 1, told


@pytest.mark.parametrize(("fault", "message"), DOWNLOAD.values(), ids=DOWNLOAD)
def test_a_download_that_fails_says_what_to_do(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Exception], message: str
) -> None:
    def download(*_: Any, **__: Any) -> str:
        raise fault()

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(XltError, match=message) as caught:
        load_task("xnli", languages="de")
    one_sentence_and_a_remedy(caught.value)
    assert 'load_task("path/to/folder") reads TSV files instead.' in str(caught.value)
    assert type(caught.value.__cause__) is type(fault())


@pytest.mark.parametrize(("fault", "message"), READING.values(), ids=READING)
def test_a_file_that_cannot_be_read_says_what_to_do(
    full: Hub, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Exception], message: str
) -> None:
    def load_dataset(*_: Any, **__: Any) -> Any:
        raise fault()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(XltError, match=message) as caught:
        load_task("xnli", languages="de")
    one_sentence_and_a_remedy(caught.value)


@pytest.mark.parametrize("kind", ["sha256", "git"])
@pytest.mark.parametrize("whole", [True, False])
def test_files_are_compared_with_the_sums_that_the_cache_names_them_by(full: Hub, kind: str, whole: bool) -> None:
    name, split, config = ("xnli", "test", "all_languages") if kind == "sha256" else ("sib200", "test", "deu_Latn")
    path = full.path(name, split, config)
    if kind == "sha256":
        told = hashlib.sha256(path.read_bytes()).hexdigest()
    elif not shutil.which("git"):
        pytest.skip("git tells what its sum is")
    else:
        told = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True).stdout.strip()
    blob = path.parent / (told if whole else told[:-1] + ("0" if told[-1] != "0" else "1"))
    path.rename(blob)
    path.symlink_to(blob)
    if whole:
        assert load_task(name, languages="de").languages
    else:
        with pytest.raises(XltError, match=rf"{path.name} is not the one .* told\. Type: hf cache rm") as caught:
            load_task(name, languages="de")
        one_sentence_and_a_remedy(caught.value)


def test_an_unknown_revision_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: Any, **__: Any) -> Any:
        raise response(errors.RevisionNotFoundError, 404)

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", gone)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", gone)
    for revision in ("v1", COMMIT):
        with pytest.raises(XltError, match=rf"xnli has no revision {revision} on the hub\. Leave revision= out; load_"):
            load_task("xnli", languages="de", revision=revision)


def test_offline_with_nothing_in_the_cache(hub: Hub) -> None:
    """What the real client raises under HF_HUB_OFFLINE, which the tests run under."""
    for revision in (None, "main"):
        with pytest.raises(XltError, match=r"HF_HUB_OFFLINE keeps it from being fetched") as caught:
            load_task("massive", languages="de", revision=revision)
        one_sentence_and_a_remedy(caught.value)


def test_a_hub_that_goes_down_half_way_leaves_what_is_whole_for_the_next_try(
    full: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The client puts a file in place when it is whole; what it holds already is not asked for again."""
    far, fetched, real = tmp_path / "far", [], huggingface_hub.hf_hub_download
    shutil.move(full.cache, far)

    def download(repo: str, path: str, repo_type: str, revision: str) -> str:
        file = full.cache / f"datasets--{repo.replace('/', '--')}" / "snapshots" / revision / path
        if not file.exists():
            if len(fetched) == 3:
                raise unreachable()
            fetched.append(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(far / file.relative_to(full.cache), file)
        return real(repo, path, repo_type=repo_type, revision=revision)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(XltError, match="Try again with a connection"):
        load_task("massive", languages="de")
    assert fetched == ["en-US/train/0000.parquet", "en-US/validation/0000.parquet", "de-DE/validation/0000.parquet"]
    fetched.clear()
    task = load_task("massive", languages="de")
    assert fetched == ["en-US/test/0000.parquet", "de-DE/test/0000.parquet"]
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", real)
    assert load_task("massive", languages="de").fingerprint == task.fingerprint


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_file_cut_short_is_never_read_as_data(full: Hub) -> None:
    cut(full.path("xnli", "test", "all_languages"))
    with pytest.raises(XltError, match=DAMAGED) as caught:
        load_task("xnli", languages="de")
    one_sentence_and_a_remedy(caught.value)
    path = full.path("sib200", "test", "deu_Latn")
    path.write_text(path.read_text().rpartition("5\t")[0])
    with pytest.raises(XltError, match=r"data/deu_Latn/test\.tsv: 1 rows where 2 belong\. Type: hf cache rm dataset/"):
        load_task("sib200", languages="de")


# Data that does not fit


def test_other_columns_are_named(full: Hub) -> None:
    rows = Dataset.from_dict({"premise": ["a"], "hypo": ["b"], "gold": [0]})
    rows.to_parquet(str(full.path("xnli", "train", "en")))
    with pytest.raises(XltError, match=r"en/train-00000-of-00001\.parquet: no column hypothesis, label\. Leave"):
        load_task("xnli", languages="de")


@pytest.mark.parametrize(
    ("name", "key", "row", "message"),
    [
        (
            "pawsx",
            ("test", "fr"),
            (8, "a", "b", -1),
            r"paws-x, test\.fr, id 8: no label, but -1\. Take another revision=",
        ),
        ("pawsx", ("test", "fr"), (8, "a", "b", None), r"test\.fr, id 8: no label, but None\."),
        (
            "pawsx",
            ("test", "fr"),
            (8, "a", "b", 1),
            r"paws-x, test\.fr, id 8: label 1 where test\.en has 0\. Rows must be",
        ),
        ("pawsx", ("test", "fr"), (99, "a", "b", 0), r"test\.fr: id 8 is there or in test\.en, not in both\. Type: hf"),
        ("pawsx", ("test", "fr"), (9, "a", "b", 0), r"test\.fr: an id is there twice\. Type: hf cache rm"),
        ("sib200", ("test", "deu_Latn"), (5, "", "x"), r"sib200, test\.de, id 5: no label, but ''\."),
        (
            "sib200",
            ("test", "deu_Latn"),
            (5, "trips", "x"),
            r'test\.de, id 5: Unknown label "trips".* Those are in train\.en',
        ),
        (
            "sib200",
            ("test", "deu_Latn"),
            (5, "travel", " "),
            r"sib200, test: 1 of 2 rows lack a text\. Type: hf cache rm",
        ),
    ],
)
def test_rows_that_do_not_fit_are_named(
    full: Hub, name: str, key: tuple[str, str], row: tuple[Any, ...], message: str
) -> None:
    rows = [row if given[0] == (5 if name == "sib200" else 8) else given for given in ROWS[name][key]]
    full.write(name, {key: rows})
    with pytest.raises(XltError, match=message) as caught:
        load_task(name, languages={"fr", "de"} - ({"fr"} if name == "sib200" else set()))
    assert "\n" not in str(caught.value)


def test_a_missing_label_is_no_label_even_where_train_lacks_it(full: Hub) -> None:
    rows = [(*row[:2], -1 if i == 1 else row[2]) for i, row in enumerate(XNLI["train", "en"])]
    full.write("xnli", {("train", "en"): rows})
    with pytest.raises(XltError, match=r"facebook/xnli, train\.en, id 2: no label, but -1\."):
        load_task("xnli", languages="de")


def test_numbers_without_names_are_no_labels(full: Hub) -> None:
    rows = [{"premise": "a", "hypothesis": "b", "label": 0}] * 3
    Dataset.from_list(rows).to_parquet(str(full.path("xnli", "train", "en")))
    with pytest.raises(XltError, match=r"train\.en, id 1: no label, but 0\."):
        load_task("xnli", languages="de")


def test_a_translation_that_a_joint_file_lacks_is_a_gap(full: Hub) -> None:
    with pytest.raises(XltError, match=r"facebook/xnli, dev: 1 of 1 rows lack a text"):
        load_task("xnli", languages="fr")


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)


@pytest.mark.data
@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_real_folders_load_as_the_benchmarks_do(data_dir: Path, name: str) -> None:
    """Same columns, labels, languages and ids as the loader by name gives; rows counted by the csv module."""
    task, benchmark = load_task(data_dir / name), BENCHMARKS[name]
    counted = {}
    for path in sorted((data_dir / name).glob("*.tsv")):
        split, language = path.name.split(".")[:2]
        rows = list(rows_of(path))
        counted.setdefault(split, {})[language] = len(rows)
        assert [row["id"] for row in rows] == task[split][language]["id"][:]
        assert [row["label"] for row in rows] == [task.labels[label] for label in task[split][language]["label"][:]]
    assert task.summary() == counted and task.revision == ""
    assert task.evaluation_split == ("test" if name == "sib200" else "dev")
    assert set(task.languages) <= set(benchmark.configs)
    assert task.text_columns == (benchmark.texts if len(benchmark.texts) == 2 else ("text",))
    sizes = {split: rows for split, (_, rows) in benchmark.splits.items()}
    exact = {"xnli": ["dev"], "pawsx": [], "sib200": ["train", "dev", "test"], "massive": ["train", "dev"]}[name]
    assert all(set(counted[split].values()) == {sizes[split]} for split in exact)
    if name == "pawsx":  # 152 of the 2,000 pairs are untranslated in some language
        assert set(counted["dev"].values()) == {1848} and sizes["dev"] == 2000
