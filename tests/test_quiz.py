"""Multiple choice: what is asked and answered, the rules of a file of questions, and every question that we ship."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from conftest import ROOT

from xlt_tutorial import quiz as module
from xlt_tutorial.errors import XltError
from xlt_tutorial.quiz import questions, quiz, read

FILES = sorted(module.FOLDER.glob("*.toml"))
SOURCES = sorted((ROOT / "notebooks" / "src").glob("[0-9]*.py"))

GOOD = """
[sky]
text = "What colour is the sky?"
[sky.options.A]
text = "Green."
reason = "Grass is."
[sky.options.B]
text = "Blue."
reason = "Short waves are scattered most."
right = true
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of questions of the test's own."""
    (tmp_path / "00.toml").write_text(GOOD, encoding="utf-8")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(module, "questions", questions.__wrapped__)  # not what is kept of the shipped ones
    return tmp_path


# --- asking and answering ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dots", [(), (...,), ("...",)])
def test_dots_ask(folder, dots):
    shown = quiz("sky", *dots)
    assert shown.text.splitlines()[:4] == ["What colour is the sky?", "", "- **A** Green.", "- **B** Blue."]
    assert 'quiz("sky", "A")' in shown.text
    assert "scattered" not in shown.text and "Right" not in shown.text, "a question does not give its answer away"
    assert repr(shown) == shown._repr_markdown_() == shown.text


@pytest.mark.parametrize("choice", ["B", "b", " b ", "B.", "(b)", "'B'"])
def test_the_right_letter_is_told_why(folder, choice):
    assert quiz("sky", choice).text == "**Right.** Short waves are scattered most."


def test_a_wrong_letter_is_told_why(folder):
    assert quiz("sky", "A").text == "**No.** Grass is."


@pytest.mark.parametrize("choice", ["C", "", "Blue.", 2, None, True])
def test_a_choice_that_is_none(folder, choice):
    assert quiz("sky", choice).text == f"There is no option {choice!r}: choose A, B."


def test_an_unknown_question(folder):
    with pytest.raises(XltError, match=r'Unknown question "sy".* Did you mean "sky"'):
        quiz("sy", "A")


# --- the rules of a file -------------------------------------------------------------------------------------------


FAULTS = {
    "no TOML": ("text =", "text", "00.toml is no TOML"),
    "a line break": ('"Green."', '"Gre\nen."', "no line break"),
    "two right": ('reason = "Grass is."', 'reason = "Grass is."\nright = true', "has 2 right options"),
    "none right": ("right = true", "", "has 0 right options"),
    "right that is a text": ("right = true", 'right = "yes"', "has 0 right options"),
    "no reason": ('reason = "Grass is."\n', "", "option A: give a text and a reason"),
    "blank reason": ("Grass is.", "  ", "option A: the text or the reason is blank"),
    "blank option": ("Green.", "", "option A: the text or the reason is blank"),
    "an odd key": ("right = true", "right = true\nwhy = 1", "option B: give a text and a reason"),
    "other letters": ("options.B", "options.C", "has the options A, C"),
    "no text": ('text = "What colour is the sky?"', "", "needs a text"),
    "no options": (GOOD[GOOD.index("[sky.options.A]") :], "", "needs a text, and options"),
    "options that are no tables": (GOOD[GOOD.index("[sky.options.A]") :], "options.A = 1", "needs a text, and options"),
    "one option": (GOOD[GOOD.index("[sky.options.A]") : GOOD.index("[sky.options.B]")], "", "has the options B"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_names_file_question_and_remedy(folder, fault):
    old, new, words = FAULTS[fault]
    assert old in GOOD
    (folder / "00.toml").write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(XltError, match=re.escape(words)) as caught:
        quiz("sky")
    assert str(caught.value).startswith("00.toml")
    assert "no TOML" in str(caught.value) or '"sky"' in str(caught.value)


def test_a_name_is_used_once_in_all_files(folder):
    (folder / "01.toml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(XltError, match=r'01\.toml: the question "sky" is in another file too'):
        quiz("sky")


# --- the questions that we ship ------------------------------------------------------------------------------------


def test_files_are_named_after_notebooks():
    assert {path.stem for path in FILES} == {path.name[:2] for path in SOURCES}
    assert sum(len(read(path)) for path in FILES) == len(questions())


@pytest.mark.parametrize("name", questions())
def test_a_question_is_well_made(name):
    question = questions()[name]
    letters = [letter for letter, option in question.options.items() if option.right]
    assert len(letters) == 1 and 2 <= len(question.options) <= 5
    assert quiz(name, letters[0]).text.startswith("**Right.** ")
    assert all(quiz(name, one).text.startswith("**No.** ") for one in question.options if one not in letters)
    reasons = [option.reason for option in question.options.values()]
    assert len(set(reasons)) == len(reasons), "each option has a reason of its own"
    assert len({option.text for option in question.options.values()}) == len(reasons)
    texts = [question.text, *reasons, *(option.text for option in question.options.values())]
    assert all("\n" not in text and len(text) < 400 for text in texts), "short enough to read, one paragraph each"
    assert all(reason.rstrip("`*$)").endswith((".", "!", "?")) for reason in reasons)


def test_no_letter_is_always_right():
    right = Counter(letter for one in questions().values() for letter, option in one.options.items() if option.right)
    assert max(right.values()) <= 0.6 * sum(right.values())


def asked(source: Path) -> list[str]:
    """The names in a notebook's calls of quiz, each of which must still have its dots."""
    calls = [node for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    calls = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "quiz"]
    assert all([ast.unparse(argument) for argument in call.args[1:]] in ([], ["..."]) for call in calls), (
        "dots are left"
    )
    return [ast.literal_eval(call.args[0]) for call in calls]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_asks_the_questions_of_its_file_once_each(source):
    names = asked(source)
    assert 2 <= len(names) <= 4
    assert sorted(names) == sorted(read(module.FOLDER / f"{source.name[:2]}.toml"))
