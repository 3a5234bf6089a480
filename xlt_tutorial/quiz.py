"""Multiple choice: ``quiz("zero_shot")`` asks, ``quiz("zero_shot", "B")`` says why that option is right or not.

The questions stand in ``questions/NN.toml``, NN the notebook's number: a table for each, with its text and options.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import ascii_uppercase
from types import EllipsisType
from typing import Any

from xlt_tutorial.errors import XltError, unknown
from xlt_tutorial.styles import markdown_text

FOLDER = Path(__file__).resolve().parent / "questions"


@dataclass(frozen=True)
class Option:
    """One of a question's options, with the reason why it is right or wrong."""

    text: str
    reason: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question and its options by letter; exactly one is right."""

    text: str
    options: Mapping[str, Option]


@dataclass(frozen=True)
class Shown:
    """Text that a notebook shows as Markdown and a terminal as it is."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


@cache
def questions() -> dict[str, Question]:
    """Return all questions by name."""
    found: dict[str, Question] = {}
    for path in sorted(FOLDER.glob("*.toml")):
        for name, question in read(path).items():
            if name in found:
                raise XltError(f'{path.name}: the question "{name}" is in another file too; give it another name.')
            found[name] = question
    return found


def read(path: Path) -> dict[str, Question]:
    """Return the questions of one file by name.

    Raises:
        XltError: The file is no TOML; a question has not two options or more, lettered A, B, ..., with exactly one
            right; a text or a reason is missing; or there is a key that nobody reads.
    """
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise XltError(f"{path.name} is no TOML: {error}. A text in quotes may hold no line break.") from None
    return {name: _question(f'{path.name}: the question "{name}"', entry) for name, entry in entries.items()}


def _question(where: str, entry: Mapping[str, Any]) -> Question:
    if (
        not isinstance(entry, dict)
        or entry.keys() != {"text", "options"}
        or not isinstance(entry["options"], dict)
        or not all(isinstance(option, dict) for option in entry["options"].values())
    ):
        raise XltError(f"{where} needs a text, and options as tables [name.options.A] and so on, and nothing else.")
    options = {}
    for letter, option in entry["options"].items():
        if not {"text", "reason"} <= option.keys() <= {"text", "reason", "right"}:
            raise XltError(f"{where}, option {letter}: give a text and a reason, and right = true to one of them.")
        options[letter] = Option(**option)
    if len(options) < 2 or list(options) != list(ascii_uppercase[: len(options)]):
        raise XltError(f"{where} has the options {', '.join(options)}: letter two or more A, B, C and so on.")
    if (right := [option.right for option in options.values()].count(True)) != 1:
        raise XltError(f"{where} has {right} right options: write right = true to exactly one.")
    if blank := [letter for letter, one in options.items() if not (one.text.strip() and one.reason.strip())]:
        raise XltError(f"{where}, option {blank[0]}: the text or the reason is blank.")
    return Question(entry["text"].strip(), options)


def quiz(name: str, choice: str | EllipsisType = ...) -> Shown:
    """Ask a question, or answer a choice.

    Args:
        name: Of the question.
        choice: A letter, such as ``"B"``; the dots, as they stand in the notebook, show the question and its options.

    Returns:
        The question, or whether the choice is right and why. A letter that is no option names those there are.

    Raises:
        XltError: There is no question of that name.
    """
    if name not in questions():
        raise unknown("question", name, questions())
    question = questions()[name]
    if choice is ... or choice == "...":
        lines = [f"- **{letter}** {option.text}" for letter, option in question.options.items()]
        told = f'*Answer with a letter in place of the dots, such as `quiz("{name}", "A")`.*'
        return Shown("\n".join([question.text, "", *lines, "", told]))
    option = question.options.get(str(choice).strip(" .:)('\"").upper())
    if option is None:
        return Shown(f"There is no option {markdown_text(repr(choice))}: choose {', '.join(question.options)}.")
    return Shown(f"**{'Right' if option.right else 'No'}.** {option.reason}")
