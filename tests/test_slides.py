"""Slides: taken from notebooks piece by piece, whole in one file, and readable on a projector."""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import slides

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def tex(formula: str, display: bool) -> str:
    return f"<math>{formula}</math>"


def notebook() -> Any:
    v4 = nbformat.v4
    figure = {slides.PLOTLY: {"data": []}, "image/png": PIXEL, "text/plain": "Two < three."}
    table = {"text/html": "<style>td {color: red}</style><table><tr><td onclick='x()'>1<script>y()</script></table>"}
    outputs = [
        v4.new_output("display_data", figure, metadata={"image/png": {"alt": "Two < three."}}),
        v4.new_output("display_data", {"text/markdown": "*Two &lt; three.*"}),
        v4.new_output("display_data", {"text/markdown": "A **bold** sentence."}),
        v4.new_output("display_data", table),
        v4.new_output("stream", name="stdout", text="a <b>\n"),
        v4.new_output("stream", name="stderr", text="a warning"),
    ]
    text = (
        "# Title\n\nLead with $x$.\n\n## Part\n\nOne <script>z()</script>.\n\n$$y$$\n\n- a\n- b\n\n[there](01_x.ipynb)"
    )
    more = "Two.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n## Part\n\nThree, [out](https://example.org)."
    cells = [v4.new_markdown_cell(text), v4.new_code_cell("x < 1", outputs=outputs), v4.new_markdown_cell(more)]
    return v4.new_notebook(cells=cells)


def blocks() -> dict[str, dict[str, str]]:
    found = slides.sections(notebook(), tex)
    return {heading: {block.name: block.html for block in held} for heading, held in found.items()}


def test_a_section_is_cut_into_numbered_pieces() -> None:
    found = blocks()
    assert list(found) == ["", "Title", "Part"]
    assert list(found["Title"]) == ["paragraph 1"]
    assert list(found["Part"]) == [
        "paragraph 1", "math 1", "list 1", "paragraph 2", "code 1", "figure 1", "output 1", "output 2", "output 3",
        "paragraph 3", "table 1", "paragraph 4",
    ]  # fmt: skip
    assert "<math>x</math>" in found["Title"]["paragraph 1"] and "<math>y</math>" in found["Part"]["math 1"]


def test_a_figure_takes_its_sentence_along_and_nothing_else() -> None:
    part = blocks()["Part"]
    assert part["figure 1"].count("Two &lt; three.") == 2 and PIXEL in part["figure 1"]
    assert "<strong>bold</strong>" in part["output 1"]


def test_nothing_from_a_notebook_runs_or_leads_nowhere() -> None:
    part = blocks()["Part"]
    assert "<script" not in "".join(part.values()) and "onclick" not in "".join(part.values())
    assert "color: red" not in part["output 2"] and "<td>1" in part["output 2"]
    assert "a &lt;b&gt;" in part["output 3"] and "a warning" not in "".join(part.values())
    assert "href" not in part["paragraph 2"] and 'href="https://example.org"' in part["paragraph 4"]


def write(folder: Path, **slide: Any) -> Path:
    nbformat.write(notebook(), folder / "01_x.ipynb")
    values = {"notebook": "01_x", "heading": "Part", "show": ["paragraph 1"]} | slide
    lines = [
        f"{key} = {str(value)!r}" if isinstance(value, str) else f"{key} = {value}" for key, value in values.items()
    ]
    text = '[[deck]]\nfile = "one"\ntitle = "A & B"\nsubtitle = "c"\n[[deck.slide]]\n' + "\n".join(lines)
    (folder / "slides.toml").write_text(text, encoding="utf-8")
    return folder / "slides.toml"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"notebook": "09_y"}, "one, slide 1: no notebook 09_y"),
        ({"heading": "Parts"}, "no section 'Parts'. It has: Title; Part"),
        ({"show": ["figure 2", "math 1"]}, "no figure 2 in 'Part'. It holds: paragraph 1, math 1"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(slides.SlidesError, match=re.escape(told)):
        slides.decks(write(tmp_path, **wrong), tmp_path, tex)


def test_a_deck_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    (deck,) = slides.decks(write(tmp_path, show=["figure 1", "list 1"], note="say <this>"), tmp_path, tex)
    page = slides.page(deck)
    assert "<title>A &amp; B</title>" in page and "say &lt;this&gt;" in page and 'class="slide wide"' in page
    assert page.count('<section class="slide') == 2
    assert not re.findall(r'(?:src|href)="(?!data:|https://example)[^"]*"|url\(|@import', page)


def test_the_real_decks_ask_for_nothing_that_the_notebooks_lack() -> None:
    made = slides.decks(math=tex)
    assert {deck.file for deck in made} == {"session-90", "half-day"}
    assert all(10 <= len(deck.slides) <= 30 for deck in made)
    assert all(slide.blocks for deck in made for slide in deck.slides)


def test_formulas_become_mathml() -> None:
    pytest.importorskip("latex2mathml", reason="make docs installs it")
    assert slides.mathml(r"\operatorname*{top-}k + \arg\max_j x", True).startswith("<math")
    with pytest.raises(slides.SlidesError, match="nonsense"):
        slides.mathml(r"\nonsense x", False)


@pytest.mark.browser
def test_slides_turn_by_key_and_fit_a_projector(chromium: str, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    # The formulas themselves where their tool is there, else something of one line in their place.
    short = slides.mathml if find_spec("latex2mathml") else lambda formula, display: "<i>formula</i>"
    decks = slides.decks(math=short)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.set_default_timeout(120_000)
        loaded: list[str] = []
        page.on("request", lambda request: loaded.append(request.url))
        page.on("pageerror", lambda error: loaded.append(str(error)))
        for deck in decks:
            path = tmp_path / f"{deck.file}.html"
            path.write_text(slides.page(deck), encoding="utf-8")
            page.goto(path.as_uri())
            for number in range(1, len(deck.slides) + 2):
                assert page.evaluate("location.hash") == f"#{number}"
                over = page.evaluate(
                    "() => { const now = document.querySelector('.slide.now');"
                    "return [now, now.querySelector('.content') || now].map("
                    "e => Math.max(e.scrollHeight - e.clientHeight, e.scrollWidth - e.clientWidth)) }"
                )
                assert max(over) <= 1, (deck.file, number)
                page.keyboard.press("ArrowRight")
            page.keyboard.press("Home")
            page.keyboard.press("End")
            page.keyboard.press("ArrowLeft")
            assert page.evaluate("location.hash") == f"#{len(deck.slides)}"
            page.keyboard.press("n")
            assert page.evaluate("document.body.classList.contains('notes')")
        browser.close()
    assert [url for url in loaded if not url.startswith(("file:", "data:"))] == []
