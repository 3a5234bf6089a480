"""Every exercise that we ship: its answer passes, each of its mistakes gets its own hint, and a notebook asks it."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest
from conftest import ROOT

from xlt_tutorial.exercises import TOPICS, check, exercise, names

SOURCES = sorted((ROOT / "notebooks" / "src").glob("[0-9]*.py"))

each_name = pytest.mark.parametrize("name", names())
each_source = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


# --- the exercises -------------------------------------------------------------------------------------------------


def test_every_topic_has_a_bank_of_wrong_answers():
    for topic in TOPICS:
        assert list(Path(__file__).parent.glob(f"test_{topic}*.py")), topic


@each_name
def test_cases_are_two_or_more_and_always_the_same(name):
    task = exercise(name)
    first, again = list(task.cases()), list(task.cases())
    assert len(first) >= 2
    assert len({case.what for case in first}) == len(first) == len(again)
    assert all(not case.what.endswith(".") and not case.what[0].isspace() for case in first)
    assert [repr(case) for case in first] == [repr(case) for case in again] or "object at 0x" in repr(first)


@each_name
def test_the_answer_passes_twice(name):
    task = exercise(name)
    for _ in range(2):
        verdict = check(name, task.answer)
        assert verdict.status == "right", verdict.message
        assert verdict.message == task.praise


@each_name
def test_every_mistake_is_rejected_with_its_own_hint(name):
    task = exercise(name)
    hints = [hint for hint, _ in groupby(mistake.hint for mistake in task.mistakes)]  # variants of one stand together
    assert hints and len({*hints, task.praise}) == len(hints) + 1
    for mistake in task.mistakes:
        verdict = check(name, mistake.function)
        assert (verdict.status, verdict.message) == ("wrong", mistake.hint)


@each_name
def test_hints_are_short_sentences(name):
    task = exercise(name)
    for text in [task.praise, *(mistake.hint for mistake in task.mistakes)]:
        assert len(text) <= 320 and "\n" not in text and "  " not in text
        assert text.rstrip("`$)*").endswith((".", "?", "!"))


@each_name
def test_constants_and_untouched_arguments_fail(name):
    task = exercise(name)
    cases = list(task.cases())
    assert check(name, lambda *args, **kwargs: None).status == "unfinished"
    values = [task.answer(*(call := copy.deepcopy(case)).args, **call.kwargs) for case in cases]
    constants = [value.detach() if hasattr(value, "detach") else value for value in values]
    for constant in [*constants, 0, 1.0, {}, [], ""]:
        assert not check(name, lambda *args, constant=constant, **kwargs: copy.deepcopy(constant))
    for at in range(len(cases[0].args)):
        assert not check(name, lambda *args, at=at, **kwargs: args[at])


# --- the notebooks that ask them -----------------------------------------------------------------------------------


def asked(source: Path) -> Iterator[str]:
    """The names in a notebook's calls of check."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
            yield ast.literal_eval(node.args[0])


def test_every_exercise_is_asked_once():
    found = [name for source in SOURCES for name in asked(source)]
    assert sorted(found) == sorted(names())


@each_source
def test_a_notebook_has_three_to_six_exercises(source):
    foot = source.read_text(encoding="utf-8").split("\n# ## Exercises\n")
    assert len(foot) == 2
    numbers = [int(number) for number in re.findall(r"^# \*\*(\d+)\. ", foot[1], flags=re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1)) and 3 <= len(numbers) <= 6
