"""The crosswalk: every function it names exists, and so does every test."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

from conftest import ROOT

PAGE = ROOT / "docs" / "crosswalk.md"
STATUSES = {"same", "added", "mended", "differs", "same maker, no table"}


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, without heads and rules."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in cells] for cells in lines if cells[0] not in ("what", "---")]


def broken(cells: list[str], folder: Path = ROOT / "tests") -> list[str]:
    """What a row names that is not there."""
    found = []
    _, functions, tests, *_, status = cells
    names = re.findall(r"`([\w.]+)`", functions)
    for name in names:
        module, *path = name.split(".")
        thing = importlib.import_module(f"xlt_tutorial.{module}")
        for part in path:
            thing = getattr(thing, part, None)
        if thing is None:
            found.append(name)
    for file, test in re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", tests):
        held = ast.parse((folder / file).read_text()).body if (folder / file).exists() else []
        known = {node.name for node in held if isinstance(node, ast.FunctionDef)}
        if not known or (test and test not in known):
            found.append(f"{file}::{test}")
    if not names or "test_" not in tests or status not in STATUSES or len(cells) != 6:
        found.append(f"form of: {cells[0]}")
    return found


def test_every_reference_is_there() -> None:
    found = rows(PAGE.read_text(encoding="utf-8"))
    assert len(found) > 15
    assert [wrong for cells in found for wrong in broken(cells)] == []


def test_a_wrong_reference_is_seen() -> None:
    good = ["what", "`losses.embedding_push`", "`test_losses.py::test_push_equals_the_loop`", "a", "b", "same"]
    assert broken(good) == []
    assert broken([*good[:1], "`losses.embedding_pull`", *good[2:]]) == ["losses.embedding_pull"]
    assert broken([*good[:2], "`test_losses.py::test_no_such`", *good[3:]]) == ["test_losses.py::test_no_such"]
    assert broken([*good[:2], "`test_nothing.py`", *good[3:]]) == ["test_nothing.py::"]
    assert broken([*good[:5], "perfect"]) == ["form of: what"]


def test_the_terms_of_the_paper_are_all_in() -> None:
    named = " ".join(cells[1] for cells in rows(PAGE.read_text(encoding="utf-8")))
    for name in ("EAR", "embedding_push", "attention_pull", "Vanilla", "SynonymSwap", "NormalisedEAR", "Recipe"):
        assert name in named
