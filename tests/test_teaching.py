"""The instructor's pages: every notebook, section, exercise, question, function and file that they name is there."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import jupytext
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import publish

from xlt_tutorial import exercises, quiz

TEACHING = ROOT / "docs" / "teaching"
PAGES = sorted(TEACHING.glob("*.md"))
PLACE = re.compile(r"\[(\d\d), \*(.+?)\*\]\(\.\./\.\./notebooks/(\w+)\.ipynb\)")


def headings() -> dict[str, set[str]]:
    """Notebook -> its headings, from the sources."""
    found = {}
    for source in publish.sources():
        cells = [cell.source for cell in jupytext.read(source, fmt="py:percent").cells if cell.cell_type == "markdown"]
        found[source.stem] = set(re.findall(r"(?m)^#{1,4} (.+)$", "\n".join(cells)))
    return found


HEADINGS = headings()


def broken(text: str, folder: Path = TEACHING) -> list[str]:
    """What a page names that is not there."""
    wrong = []
    for number, heading, name in PLACE.findall(text):
        if name not in HEADINGS or name[:2] != number or heading not in HEADINGS[name]:
            wrong.append(f"{number}, {heading}")
    wrong += [
        f"check {name}" for name in re.findall(r'check\("(\w+)"', text) if name not in [*exercises.names(), "name"]
    ]
    wrong += [f"quiz {name}" for name in re.findall(r'quiz\("(\w+)"', text) if name not in [*quiz.questions(), "name"]]
    for module, name in re.findall(r"`([a-z]\w+)\.([A-Za-z]\w+)`", text):
        if name in ("toml", "html", "md"):
            continue  # a file of this folder
        if not hasattr(importlib.import_module(f"xlt_tutorial.{module}"), name):
            wrong.append(f"{module}.{name}")
    for target in re.findall(r"\]\(([^)#:\s]+)\)", text):
        path = (folder / target).resolve()
        if path.suffix == ".ipynb":  # published or not yet, it has a source
            path = path.parent / "src" / f"{path.stem}.py"
        if not path.exists():
            wrong.append(target)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_reference_is_there(page: Path) -> None:
    assert broken(page.read_text(encoding="utf-8")) == []


def test_a_wrong_reference_is_seen() -> None:
    good = "[04, *The gradient*](../../notebooks/04_embedding_push.ipynb)"
    assert broken(good) == []
    assert broken(good.replace("The gradient", "The gradients")) == ["04, The gradients"]
    assert broken(good.replace("[04", "[05")) == ["05, The gradient"]
    assert broken('`check("embedding_pull")` `quiz("push_pull")`') == ["check embedding_pull", "quiz push_pull"]
    assert broken("`losses.embedding_pull`") == ["losses.embedding_pull"]
    assert broken("[a page](nothing.md)") == ["nothing.md"]


def test_every_exercise_and_question_has_an_objective_in_the_row_of_its_notebook() -> None:
    text = (TEACHING / "objectives.md").read_text(encoding="utf-8")
    rows = {line[2:4]: line for line in text.splitlines() if re.match(r"\| \d\d \|", line)}
    assert sorted(rows) == [name[:2] for name in HEADINGS]
    assert sorted(re.findall(r'check\("(\w+)"\)', text)) == sorted(exercises.names())
    assert sorted(re.findall(r'quiz\("(\w+)"\)', text)) == sorted(quiz.questions())
    for source in publish.sources():
        code = source.read_text(encoding="utf-8")
        row = rows[source.stem[:2]]
        for kind in ("check", "quiz"):
            asked = set(re.findall(rf'\b{kind}\(\s*"(\w+)"', re.sub(r"(?m)^#.*$", "", code)))
            assert set(re.findall(rf'{kind}\("(\w+)"\)', row)) == asked, (source.stem, kind)


@pytest.mark.parametrize(("heading", "minutes"), [("One session of 90 minutes", 90), ("Half a day", 240)])
def test_the_minutes_add_up(heading: str, minutes: int) -> None:
    text = (TEACHING / "plan.md").read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    assert sum(map(int, re.findall(r"(?m)^\| (\d+) \|", text))) == minutes


def test_every_question_of_the_exam_has_an_answer_and_the_points_add_up() -> None:
    exam, answers = ((TEACHING / f"{name}.md").read_text(encoding="utf-8") for name in ("exam", "exam_answers"))
    points = {number: int(value) for number, value in re.findall(r"(?m)^\*\*(\d+)\.\*\* \((\d+)\)", exam)}
    said = re.search(r"(\d+) in all", exam)
    assert said and sum(points.values()) == int(said[1])
    parts = re.split(r"(?m)^\*\*(\d+)\.\*\* ", answers)
    given = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert list(given) == list(points)
    for number, answer in given.items():
        assert sum(map(int, re.findall(r" \((\d)\)", answer))) == points[number], number
        assert PLACE.search(answer), number


def test_the_glossary_has_each_term_once() -> None:
    terms = re.findall(r"(?m)^- \*\*(.+?)\*\*: ", (TEACHING / "glossary.md").read_text(encoding="utf-8"))
    assert len(terms) > 25 and len(set(terms)) == len(terms)


def test_every_page_is_in_the_site() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert [page.stem for page in PAGES if f"teaching/{page.stem}\n" not in index] == []
