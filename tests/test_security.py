"""Hostile data, hostile weights and an open port: what the course shows, loads and listens on.

What is shown is read by a real parser: a page made of hostile data must have the very elements and attributes of the
same page made of harmless data. Loading is tried with files that would leave a trace if anything in them ran.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import pickle
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, tiny_encoder
from tiny_maps import tiny_maps
from tiny_run import tiny_train

from xlt_tutorial import figures
from xlt_tutorial.errors import XltError
from xlt_tutorial.styles import language_name, markdown_text, plain_text, safe_text
from xlt_tutorial.tasks import ParallelTask, load_task

# A script that runs sets ``pwned``; no cell of a TSV file can hold a tab or a line break.
HOSTILE = {
    "script": "</script><script>window.pwned = 1</script>",
    "handler": "<img src=x onerror='window.pwned = 1'><svg onload=window.pwned=1>",
    "attribute": '" onmouseover="window.pwned=1" x=\'',
    "comment": "<!-- --!> <![CDATA[ <plaintext> </td></tr></table><style>*{display:none}</style>",
    "entities": "&lt;script&gt;window.pwned = 1&lt;/script&gt; &#60;b&#62; &amp;lt;",
    "override": "\u202eevil\u202c \u2066isolated\u2069 \u200fmarked",
    "controls": "NUL\x00 escape\x1b[31mred\x1b]0;title\x07 line\x85two \u2028three",
    "long": "<b>" + "x" * 100_000,
    "words": "<i>word</i> " * 9_000,
    "formula": '=HYPERLINK("http://example.org","x")+cmd|calc!A0',
    "link": "[click](javascript:window.pwned=1) <https://a.example> https://b.example www.c.example d@e.example",
    "picture": "![x](http://example.org/x.png) [x]: http://example.org",
    "mathematics": r"$\href{javascript:window.pwned=1}{x}$ and $$x$$ \(x\) \begin{align}x\end{align}",
    "emphasis": "**bold** __bold__ *slant* `code` ~~gone~~ # head - item | cell \\",
    "template": "{{ 7 * 7 }} {% raw %} %{x} ${7*7}",
    "plotly": "<a href='javascript:window.pwned=1'>x</a><br><sup>x</sup>",
}
HARMLESS = {name: f"a harmless text about {name}" for name in HOSTILE}
# What the package itself writes into the text of a figure, which plotly reads as a small HTML of its own.
OWN_MARKS = {"<b>", "</b>", "<i>", "</i>", "<br>"}
PLOTLY = "application/vnd.plotly.v1+json"
BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066\u2067]")  # but U+2068 and U+2069, which safe_text sets


class Page(HTMLParser):
    """Elements with their attributes, the texts of scripts, and the text that is shown."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.other: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # The ids of plotly's boxes are drawn at random.
        kept = tuple((key, value) for key, value in attrs if not (key == "id" and len(value or "") == 36))
        self.tags.append((tag, kept))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    unknown_decl = handle_decl = handle_pi = handle_comment

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text += data


def assert_same_elements(hostile: str, harmless: str) -> Page:
    """Fail where data made an element, an attribute or a comment; return the page that was read."""
    page, expected = Page(hostile), Page(harmless)
    assert page.tags == expected.tags
    assert page.other == expected.other
    assert len(page.scripts) == len(expected.scripts)
    return page


def tsv_folder(folder: Path, texts: dict[str, str], marks: str) -> Path:
    """Write a task whose texts, ids and labels are given; ``marks`` goes into ids and labels."""
    folder.mkdir(parents=True)
    for split, language in (("train", "en"), ("dev", "en"), ("test", "en"), ("test", "de"), ("test", "ar")):
        lines = ["id\ttext\tlabel"]
        for i, text in enumerate(texts.values()):
            lines.append(f"{marks}{i}\t{language} {text}\t{marks} label {i % 2}")
        (folder / f"{split}.{language}.tsv").write_text("\n".join(lines), encoding="utf-8", newline="")
    return folder


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ParallelTask]:
    """The same task twice, read from folders: hostile and harmless."""
    home = tmp_path_factory.mktemp("data")
    marks = "\u202e<svg onload=window.pwned=1>\x00&quot;"
    evil = tsv_folder(home / "<img src=x onerror=window.pwned=1>\u202e", HOSTILE, marks)
    return {"hostile": load_task(evil), "harmless": load_task(tsv_folder(home / "plain", HARMLESS, "plain"))}


def texts_of(task: ParallelTask) -> list[str]:
    return task.texts("test", "de")


# --- text made safe -------------------------------------------------------------------------------------------------


def test_the_folder_is_read_as_it_is(tasks):
    task = tasks["hostile"]
    assert texts_of(task) == [f"de {text}" for text in HOSTILE.values()]
    assert max(map(len, texts_of(task))) > 100_000
    assert all("<svg" in label for label in task.labels)


@pytest.mark.parametrize("name", HOSTILE)
def test_text_in_a_figure_has_only_our_marks(name):
    safe = safe_text(f"x {HOSTILE[name]}")
    assert set(re.findall("<[^>]*>", safe)) <= {"<br>"} and safe.count("<br>") < 6
    assert "<" not in safe.replace("<br>", "") and "$" not in safe
    assert not BIDI.search(safe) and not re.search(r"[\x00-\x1f\x7f-\x9f]", safe)
    assert len(safe) < 2500


def test_what_is_cut_from_a_figure_is_marked():
    assert safe_text("x" * 100_000).endswith("…") and safe_text("word " * 20_000).endswith("…")


@pytest.mark.parametrize("name", HOSTILE)
def test_text_in_markdown_shows_as_it_is(name):
    """Through the Markdown of nbconvert, which knows raw HTML, mathematics, tables and bare addresses."""
    from nbconvert.filters import markdown2html

    if name in ("long", "words"):
        pytest.skip("as long as that, no sentence is; the characters are those of others")
    text = " ".join(plain_text(HOSTILE[name]).split())
    page = Page(markdown2html(f"*Of {markdown_text(HOSTILE[name])}, said.*"))
    assert [tag for tag, _ in page.tags] == ["p", "em"], page.tags
    assert page.text.strip() == f"Of {text}, said."


def test_the_sentence_below_a_figure_has_one_element(monkeypatch):
    from nbconvert.filters import markdown2html

    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", lambda thing, **options: shown.append(thing))
    monkeypatch.delenv("XLT_PUBLISH", raising=False)
    for text in HOSTILE.values():
        figures.show(figures.language_bars({"m": {"en": 0.5, "de": 0.4}}), f"The text {text[:300]}.")
    for bundle, sentence in zip(shown[::2], shown[1::2], strict=True):
        assert [tag for tag, _ in Page(markdown2html(sentence.data)).tags] == ["p", "em"]
        assert not BIDI.search(bundle["text/plain"] + sentence.data) and "\x1b" not in bundle["text/plain"]


# --- figures and the report -----------------------------------------------------------------------------------------


def points(task: ParallelTask, seed: int = 0) -> Any:
    from xlt_tutorial.projection import map_points

    size = sum(len(task["test"][language]) for language in task["test"])
    return map_points(np.random.default_rng(seed).normal(size=(size, 2)).astype(np.float32), task)


def marks_of(fig: Any) -> set[str]:
    """What stands in angle brackets anywhere in a figure's texts."""
    everything = json.dumps(fig.to_plotly_json(), default=lambda array: array.tolist(), ensure_ascii=False)
    assert not BIDI.search(everything) and "\\u0000" not in everything and "\\u001b" not in everything
    assert len(everything) < 400_000
    return set(re.findall("<[^>]*>", everything))


@pytest.mark.parametrize("colour", ["language", "label"])
def test_maps_of_hostile_data_have_our_marks_alone(tasks, colour):
    table, name = points(tasks["hostile"]), tasks["hostile"].name
    both = {0: table}, {0: points(tasks["hostile"], 1)}
    for fig in (
        figures.alignment_map(table, colour, title=name),
        figures.before_after_map(*both, colour=colour, titles=(name, name)),
        figures.layer_map({name: both[0]}, "en", colour),
    ):
        assert marks_of(fig) <= OWN_MARKS


def test_other_figures_have_our_marks_alone(tasks):
    name = tasks["hostile"].labels[0]
    rows = [{"step": 1, "terms": {name: 1.0}, "shares": {name: 1.0}}]
    for fig in (
        figures.language_bars({name: {"en": 0.5, "de": 0.4}, "b": {"en": 0.5, "de": 0.4}}, title=name),
        figures.loss_history({name: rows}, title=name),
        figures.layer_curves({name: [report_row(0)]}, "gap_ratio", title=name),
    ):
        assert marks_of(fig) <= OWN_MARKS


def report_row(layer: int) -> dict[str, Any]:
    part = {"de": 0.5, "ar": 0.25, "mean": 0.375}
    return {
        "layer": layer, "concepts": 16, "gap_ratio": part, "knn_mixing": part,
        "p1": {form: {"from_source": part, "to_source": part} for form in ("raw", "centred")},
        "silhouette": {"language": 0.2, "label": 0.1}, "language_probe": 0.9, "chance": {"gap_ratio": None},
    }  # fmt: skip


def results(task: ParallelTask) -> dict[str, Any]:
    """What a demo returns, with the names of this task wherever a name goes."""
    accuracy = {"en": 0.75, "de": 0.5, "ar": 0.25}
    history = [{"step": step, "terms": {"ce": 1.0 / step}, "shares": {"ce": 1.0}} for step in (1, 2)]
    state = {"accuracy": accuracy, "n": dict.fromkeys(accuracy, 16), "target_mean": 0.375, "mean_gap": 0.375}
    state |= {"alignment": [report_row(0)], "history": history, "gradient_shares": {"ce": 1.0}}
    state |= {"steps": 2, "streams_per_step": 2, "swap_report": {"rate": 0.3, "words": 10}}
    settings = {"task": {"name": task.name}, "encoder": {"name": task.name, "source": task.labels[0]}}
    settings |= {"maker": {"name": task.labels[1]}, "objective": {"pad_to": 16}}
    return {
        "seed": 0, "seconds": {"all": 60.0}, "peak_memory_mb": 1000.0, "versions": {task.labels[0]: "1"},
        "platform": {"threads": 1, "device": task.labels[0]}, "languages": list(task.languages), "gain": 0.0,
        "gain_note": task.labels[1], "settings": {"ear": settings, "vanilla": settings},
        "before": state, "vanilla": state, "ear": state,
    }  # fmt: skip


@pytest.fixture(scope="module")
def reports(tasks, tmp_path_factory) -> dict[str, Path]:
    from xlt_tutorial.report import write_report

    home = tmp_path_factory.mktemp("reports")
    for name, task in tasks.items():
        maps = {state: {0: points(task, seed)} for seed, state in enumerate(("before", "after"))}
        write_report(results(task), maps, home / f"{name}.html")
    return {name: home / f"{name}.html" for name in tasks}


def test_the_report_of_hostile_data_has_no_element_of_theirs(reports):
    hostile, harmless = (reports[name].read_text(encoding="utf-8") for name in ("hostile", "harmless"))
    page = assert_same_elements(hostile, harmless)
    assert "<svg onload=window.pwned=1>" in page.text  # as text
    assert not BIDI.search(hostile) and "\x00" not in hostile
    assert len(hostile) < len(harmless) + 100_000


@pytest.mark.browser
def test_a_browser_runs_nothing_of_theirs(reports, chromium, tmp_path):
    """The report in chromium, the mouse over every point: no script, no link, no picture and no request."""
    from playwright.sync_api import sync_playwright

    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: asked.append(dialog.message))
        page.goto(reports["hostile"].as_uri())
        page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length > 2")
        hovers = page.evaluate(
            """async () => {
                const found = [];
                for (const plot of document.querySelectorAll('.js-plotly-plot')) {
                    for (const [curve, trace] of plot.data.entries()) {
                        if (!trace.hovertext || trace.visible === false) continue;
                        const subplot = (trace.xaxis || 'x') + (trace.yaxis || 'y');
                        for (const at of trace.hovertext.keys()) {
                            Plotly.Fx.hover(plot, [{curveNumber: curve, pointNumber: at}], subplot);
                            await new Promise(done => setTimeout(done, 80));  // plotly takes one in 50 ms
                            found.push(plot.querySelector('.hoverlayer').textContent);
                        }
                    }
                }
                return found;
            }"""
        )
        state = page.evaluate(
            """() => ({
                pwned: window.pwned ?? null,
                links: document.querySelectorAll('.plot a:not(.modebar-btn)').length,
                pictures: document.querySelectorAll('img, iframe, object, embed, foreignObject').length,
                handlers: document.querySelectorAll('[onload], [onerror], [onmouseover], [onclick]').length,
            })"""
        )
        browser.close()
    assert state == {"pwned": None, "links": 0, "pictures": 0, "handlers": 0}
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    # What was hidden in the data is read as text.
    assert any("<svg onload=window.pwned=1>" in text for text in hovers)


# --- tables and widgets ---------------------------------------------------------------------------------------------


def test_tables_of_hostile_data_have_no_element_of_theirs(tasks):
    """As notebooks show rows of a task: a pandas table, with texts as cells, as index and as heads of columns."""
    import pandas as pd

    for form in (lambda frame: frame, lambda frame: frame.set_index("text"), lambda frame: frame.set_index("id").T):
        pages = []
        for task in (tasks["hostile"], tasks["harmless"]):
            frame = task["test"]["de"].to_pandas()
            frame["label"] = [task.labels[label] for label in frame["label"]]
            with pd.option_context("display.max_columns", None, "display.max_rows", None):
                pages.append(form(frame)._repr_html_())
        page = assert_same_elements(*pages)
        assert "<svg onload=window.pwned=1>" in page.text
        if "text" in form(frame).columns:  # pandas cuts cells, not the heads of rows and columns
            assert len(pages[0]) < 30_000


def test_a_notebook_of_hostile_data_has_no_element_of_theirs(tmp_path):
    """Notebook 00, run on a folder of hostile texts and labels: its sentences, its tables and its figures."""
    from nbconvert.filters import markdown2html

    sys.path.insert(0, str(ROOT / "tools"))
    import publish

    marks = "<svg onload='window.pwned=1'>&quot;"  # quoted, or Markdown takes it for text by itself
    texts = {f"{name} {i}": f"{text[:300]} {i}" for name, text in HOSTILE.items() for i in range(3)}
    folder = tsv_folder(tmp_path / "own", texts, marks)
    notebook = publish.read_source(publish.sources(["00"])[0])
    publish.execute(notebook, publish.NOTEBOOKS, XLT_TASK=str(folder))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output["data"] for output in outputs if "data" in output]
    sentences = [data["text/markdown"] for data in shown if "text/markdown" in data]
    pages = [Page(markdown2html(text)) for text in sentences]
    pages += [Page(data["text/html"]) for data in shown if "text/html" in data]
    assert any("<svg onload" in page.text for page in pages), "what is hostile was shown, as text"
    for page in pages:
        said = [name + " ".join(filter(None, (value for pair in kept for value in pair))) for name, kept in page.tags]
        assert not [one for one in said if re.search("pwned|javascript:|^(img|svg|script|iframe)", one)], said
        assert not any("pwned" in script for script in page.scripts)
    drawn = json.dumps([data[PLOTLY] for data in shown if PLOTLY in data], ensure_ascii=False)
    assert "&lt;svg" in drawn, "hostile texts are in the figures"
    assert set(re.findall("<[a-z/!][^>]*>", drawn)) <= OWN_MARKS | {"<extra>", "</extra>"}


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    """Maps whose texts, labels and faces are hostile, and the same with harmless ones."""
    maps, made = tiny_maps(), {}
    for name, texts in (("hostile", HOSTILE), ("harmless", HARMLESS)):
        cells = [text[:2000] for text in texts.values()][:7]
        rows = np.array([[f"{code} {cell}" for cell in cells] for code in maps.languages])
        title = cells[0]
        stages = {key: value | {"title": title, "short": title} for key, value in maps.info["stages"].items()}
        made[name] = replace(
            maps, info={**maps.info, "stages": stages}, texts=rows, romanised=rows, emoji=np.array(cells),
            ids=np.array([f"{i}{cell}" for i, cell in enumerate(cells)]),
            labels=np.array([cells[0], cells[1]] * 3 + [cells[1]]),
        )  # fmt: skip
    return made


def test_tables_of_the_explorer_have_no_element_of_theirs(stored):
    from xlt_tutorial.widgets.scene import adjusted, first_view, hover_texts, remarks
    from xlt_tutorial.widgets.tables import message_html, numbers_html, picked_html

    pages: list[list[str]] = []
    for maps in stored.values():
        view, _ = adjusted(maps, first_view(maps), picked=1, concepts=[0, 2])
        said = [*remarks(maps, view), *adjusted(maps, view, picked=maps.texts[1, 1] + "?", left=maps.emoji[0])[1]]
        picked = [picked_html(maps, replace(first_view(maps), picked=at)) for at in range(7)]
        pages.append([message_html(said), numbers_html(maps, view), *picked])
        hovers = "".join(hover_texts(maps, range(4), 1) + hover_texts(maps, range(4), 6))
        assert set(re.findall("<[^>]*>", hovers)) <= OWN_MARKS and not BIDI.search(hovers)
    assert plain_text(HOSTILE["handler"])[:60] in Page(pages[0][0]).text, "a message shows a text as it is"
    for hostile, harmless in zip(*pages, strict=True):
        page = assert_same_elements(hostile, harmless)
        assert not BIDI.search(page.text) and "\x00" not in page.text and "\x1b" not in page.text


def test_figures_of_the_explorer_have_our_marks_alone(stored):
    from xlt_tutorial.widgets.explorer import explore
    from xlt_tutorial.widgets.scene import static_map

    assert marks_of(static_map(stored["hostile"], layers=[0, 2])) <= OWN_MARKS
    made = explore(stored["hostile"], picked=0)
    assert set(re.findall("<[^>]*>", json.dumps(made.figure.to_plotly_json(), default=str))) <= OWN_MARKS


def test_a_quiz_repeats_an_answer_as_text():
    from nbconvert.filters import markdown2html

    from xlt_tutorial.quiz import questions, quiz

    name = next(iter(questions()))
    for text in HOSTILE.values():
        tags = [tag for tag, _ in Page(markdown2html(quiz(name, text[:300])._repr_markdown_())).tags]
        assert tags == ["p"], tags


def test_a_comparison_of_oddly_named_methods_has_no_element_of_theirs():
    """compare.md and compare.html: the names of methods and settings are the caller's."""
    from nbconvert.filters import markdown2html

    from xlt_tutorial.compare import comparison_text, gain_figure
    from xlt_tutorial.statistics import summary

    rng, pages, marks = np.random.default_rng(0), [], set()
    answers = {seed: {code: rng.random(20) < 0.6 for code in ("en", "de")} for seed in (0, 1)}
    run = {"seeds": [0, 1], "forwards": 2, "seconds_a_step": [0.1], "source": [0.5], "target_mean": [0.5], "oracle": []}
    for texts in (HOSTILE, HARMLESS):
        names = [text[:200] for text in texts.values()]
        found = summary({name: answers for name in names}, names[0], "en")
        shown = {"runs": dict.fromkeys(names, run), "failed": names[:3], "summary": found}
        pages.append(markdown2html(comparison_text(shown)))
        marks |= marks_of(gain_figure(found))
    assert_same_elements(*pages)
    assert marks <= OWN_MARKS


@pytest.mark.parametrize("name", HOSTILE)
def test_an_error_about_data_steers_no_terminal(name, tmp_path):
    """Labels that train does not know, as long or as odd as they may be, told in a few lines."""
    folder = tsv_folder(tmp_path / "task", HARMLESS, "plain")
    path = folder / "test.en.tsv"
    path.write_text(path.read_text(encoding="utf-8").replace("plain label 1", HOSTILE[name]), encoding="utf-8")
    with pytest.raises(XltError, match="Unknown label") as error:
        load_task(folder)
    assert len(str(error.value)) <= 4000
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", str(error.value)) and not BIDI.search(str(error.value))


def test_the_examination_shows_text_as_text():
    from xlt_tutorial.doctor import Check, Examination

    pages = [
        Examination(tuple(Check(text, "note", text, text) for text in texts.values()))._repr_html_()
        for texts in (HOSTILE, HARMLESS)
    ]
    assert_same_elements(*pages)


@pytest.mark.parametrize("name", ["test.<img src=x>.tsv", "test.d\u202ee.tsv", "test.de'onload='.tsv", "test.=1+1.tsv"])
def test_a_language_is_a_code_and_nothing_else(tasks, tmp_path, name):
    folder = tsv_folder(tmp_path / "task", HARMLESS, "plain")
    (folder / "test.de.tsv").rename(folder / name)
    with pytest.raises(XltError, match="no language code"):
        load_task(folder)
    assert language_name("de") == "German"


def test_formulas_stay_text(tasks):
    """Nothing is written for a spreadsheet, so a leading = is neither changed nor lost."""
    assert HOSTILE["formula"] in texts_of(tasks["hostile"])[list(HOSTILE).index("formula")]
    assert plain_text(HOSTILE["formula"]) == HOSTILE["formula"]
    written = [path for path in sources() if re.search(r"\.to_(csv|excel|clipboard)\(|csv\.writer", path.read_text())]
    assert written == []


# --- weights and checkpoints ----------------------------------------------------------------------------------------


class Bomb:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return Path.touch, (self.trace,)


@pytest.fixture
def trace(tmp_path) -> Iterator[Path]:
    """The file that appears where something ran that came with the data; at the end there is none."""
    path = tmp_path / "ran"
    pickle.loads(pickle.dumps(Bomb(path)))
    assert path.exists(), "the bomb of this test does not work"
    path.unlink()
    yield path
    assert not path.exists(), "code that came with the data was run"


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    encoder = tiny_encoder("bert")
    encoder.model.save_pretrained(folder)
    encoder.tokenizer.save_pretrained(folder)
    return folder


def torch_file(path: Path, content: Any) -> None:
    import torch

    torch.save(content, path)


def only_a_pickle(folder: Path, bomb: Bomb) -> None:
    (folder / "model.safetensors").unlink()
    torch_file(folder / "pytorch_model.bin", {"embeddings.word_embeddings.weight": bomb})


def an_old_pickle(folder: Path, bomb: Bomb) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"x": bomb}))


def pickled_shards(folder: Path, bomb: Bomb) -> None:
    (folder / "model.safetensors").unlink()
    torch_file(folder / "pytorch_model-00001-of-00001.bin", {"x": bomb})
    index = {"metadata": {}, "weight_map": {"x": "pytorch_model-00001-of-00001.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def a_pickle_by_another_name(folder: Path, bomb: Bomb) -> None:
    torch_file(folder / "model.safetensors", {"x": bomb})


def shards_of_pickles(folder: Path, bomb: Bomb) -> None:
    (folder / "model.safetensors").unlink()
    torch_file(folder / "evil.bin", {"x": bomb})
    index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": "evil.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


PICKLES = [only_a_pickle, an_old_pickle, pickled_shards, a_pickle_by_another_name, shards_of_pickles]


@pytest.mark.parametrize("spoil", PICKLES, ids=lambda spoil: spoil.__name__)
def test_pickled_weights_are_refused_unread(saved, tmp_path, trace, spoil: Callable[[Path, Bomb], None]):
    from xlt_tutorial.encoders import load_encoder

    folder = shutil.copytree(saved, tmp_path / "copy")
    spoil(folder, Bomb(trace))
    with pytest.raises(XltError) as error:
        load_encoder(str(folder))
    assert f"The folder {folder} does not hold a usable encoder" in str(error.value)
    assert "needs config.json, model.safetensors and the tokenizer's files" in str(error.value)


def test_a_pickle_beside_good_weights_is_not_opened(saved, tmp_path, trace):
    from xlt_tutorial.encoders import load_encoder

    folder = shutil.copytree(saved, tmp_path / "copy")
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl", "scheduler.bin"):
        torch_file(folder / name, {"x": Bomb(trace)})
    (folder / "modeling_evil.py").write_text(f"open({str(trace)!r}, 'w')")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(f"open({str(trace)!r}, 'w')")
    assert load_encoder(str(folder)).parameters > 0


@pytest.mark.parametrize("name", ["optimizer.bin", "scheduler.bin", "random_states_0.pkl"])
@pytest.mark.filterwarnings("ignore:The term")
def test_a_checkpoint_of_someone_else_runs_nothing(tmp_path, trace, name):
    """accelerate writes these as pickles; they are read as plain values alone, even where the folder's sums fit."""
    from xlt_tutorial.files import is_whole
    from xlt_tutorial.training import Recipe

    recipe = Recipe(epochs=1, batch_size=8, checkpoint_every=2, share_every=0)
    tiny_train(tmp_path, recipe=recipe, out=tmp_path / "run")
    newest = max((tmp_path / "run").glob("step-*"))
    assert (newest / name).is_file()
    torch_file(newest / name, {"x": Bomb(trace)})
    sums = {
        path.relative_to(newest).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(newest.rglob("*"))
        if path.is_file() and path.name != "sums.json"
    }
    (newest / "sums.json").write_text(json.dumps(sums))
    assert is_whole(newest)
    if name == "random_states_0.pkl":  # accelerate goes on without those
        tiny_train(tmp_path, recipe=recipe, out=tmp_path / "run", resume=True)
    else:
        with pytest.raises(
            XltError, match=rf"{newest.name} does not hold a checkpoint of this run .*Delete that folder"
        ):
            tiny_train(tmp_path, recipe=recipe, out=tmp_path / "run", resume=True)


def test_pickled_arrays_are_refused(tmp_path, trace, monkeypatch):
    from xlt_tutorial import caching
    from xlt_tutorial.widgets.stored import MapsError, read_maps, write_maps

    write_maps(tiny_maps(), tmp_path)
    packed = io.BytesIO()
    np.savez(packed, **{name: np.array([Bomb(trace)], dtype=object) for name in ("xy", "again", "gap")})
    (tmp_path / "maps.npz").write_bytes(packed.getvalue())
    info = json.loads((tmp_path / "maps.json").read_text())
    info["npz_sha256"] = hashlib.sha256(packed.getvalue()).hexdigest()
    (tmp_path / "maps.json").write_text(json.dumps(info))
    with pytest.raises(MapsError, match="damaged"):
        read_maps(tmp_path)

    monkeypatch.setenv("XLT_CACHE", str(tmp_path / "cache"))
    evil = np.array([Bomb(trace)], dtype=object)
    caching.keep("kind", "key", lambda folder: np.save(folder / "array.npy", evil, allow_pickle=True))
    with pytest.raises(ValueError, match="allow_pickle"):
        caching.cached("kind", "key", lambda: np.zeros(1))


def sources() -> list[Path]:
    folders = ("xlt_tutorial", "studies", "benchmarks", "tools", "notebooks/src")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_source_unpickles_evaluates_or_trusts():
    """A list of calls that would run what a file says, looked for in every source of the course."""
    names = {"eval", "exec", "compile", "__import__"}
    methods = {("pickle", "load"), ("pickle", "loads"), ("pickle", "Unpickler"), ("torch", "load"), ("joblib", "load")}
    methods |= {("dill", "load"), ("dill", "loads"), ("marshal", "loads"), ("shelve", "open"), ("os", "system")}
    methods |= {("os", "popen"), ("yaml", "load"), ("yaml", "unsafe_load"), ("pd", "read_pickle"), ("os", "popen")}
    found = []
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            bad = isinstance(called, ast.Name) and called.id in names
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                bad |= (called.value.id, called.attr) in methods
            for word in node.keywords:
                value = getattr(word.value, "value", None)
                bad |= word.arg in ("trust_remote_code", "allow_pickle", "shell") and value is not False
                bad |= word.arg in ("weights_only", "use_safetensors", "verify") and value is not True
            if bad:
                found.append(f"{path.relative_to(ROOT)}, line {node.lineno}")
    assert found == []


def test_data_sets_are_read_at_pinned_commits_and_carry_no_code():
    from xlt_tutorial.hub_tasks import BENCHMARKS

    for benchmark in BENCHMARKS.values():
        assert re.fullmatch("[0-9a-f]{40}", benchmark.revision)
        assert Path(benchmark.files).suffix in {".parquet", ".tsv"}


# --- the server of make lab -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[tuple[int, int, str]]:
    """JupyterLab by the line that ``make lab`` runs, with no more than a port; yields its process, port and token."""
    if shutil.which("make") is None:
        pytest.skip("no make here")
    pytest.importorskip("jupyterlab")
    home = tmp_path_factory.mktemp("lab")
    (home / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "00_start_here.ipynb", home / "notebooks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    more = f"--no-browser --ServerApp.port={port} --ServerApp.port_retries=0"
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        more += " --allow-root"
    made = subprocess.run(["make", "-n", "lab", f"ARGS={more}"], cwd=ROOT, capture_output=True, text=True, check=True)
    (line,) = (line for line in made.stdout.splitlines() if " lab " in line and "jupyter" in line)
    _, _, *options = shlex.split(line)
    runtime = home / "runtime"
    env = {key: value for key, value in os.environ.items() if not key.startswith(("JUPYTER", "PYTEST"))}
    env |= {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    env |= {"JUPYTERLAB_WORKSPACES_DIR": str(home / "spaces"), "IPYTHONDIR": str(home / "ipython")}
    with (home / "log").open("w") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, cwd=home, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(600):
            told = list(runtime.glob("jpserver-*.json"))
            if (told and answer(port) is not None) or server.poll() is not None:
                break
            time.sleep(0.2)
        assert server.poll() is None and told, (home / "log").read_text()[-3000:]
        yield server.pid, port, json.loads(told[0].read_text())["token"]
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)  # it ends its kernels
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()


def answer(port: int, path: str = "/api", token: str = "", method: str = "GET", **headers: str) -> int | None:
    """Return the status of an answer, ``None`` where nobody answers."""
    data = b"{}" if method == "POST" else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers, method=method)
    if token:
        request.add_header("Authorization", f"token {token}")
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def listening(pid: int) -> set[tuple[str, int]]:
    """The addresses and ports at which a process and its children wait for others."""
    import psutil

    process = psutil.Process(pid)
    name = "net_connections" if hasattr(process, "net_connections") else "connections"  # before psutil 6
    found = (one for each in (process, *process.children(recursive=True)) for one in getattr(each, name)("inet"))
    return {tuple(one.laddr) for one in found if one.status == psutil.CONN_LISTEN}


def test_the_server_listens_on_this_machine_alone_and_asks_for_its_token(lab):
    pid, port, token = lab
    assert len(token) >= 40
    assert answer(port, "/api/contents") == 403
    assert answer(port, "/api/contents", token="0" * len(token)) == 403
    assert answer(port, f"/api/contents?token={token[:-1]}") == 403
    assert answer(port, "/api/contents", token=token) == 200
    assert answer(port, "/api/kernels", method="POST") == 403
    assert answer(port, "/api/terminals", method="POST") == 403
    # Another site's page that a name server sends here, and one that asks across sites.
    assert answer(port, "/api/contents", token=token, Host="evil.example") == 403
    assert answer(port, "/api/kernels", method="POST", Origin="http://evil.example", Cookie="x=y") in (403, 404)
    assert answer(port, "/files/..%2F..%2Fetc%2Fpasswd", token=token) in (403, 404)
    # A kernel has ports of its own.
    assert answer(port, "/api/kernels", token=token, method="POST") == 201
    import psutil

    for _ in range(300):
        if len(psutil.Process(pid).children(recursive=True)) and len(_ports(pid)) >= 5:
            break
        time.sleep(0.2)
    assert len(_ports(pid)) >= 5, "the kernel did not open its ports"
    assert {address for address, _ in listening(pid)} == {"127.0.0.1"}


def _ports(pid: int) -> set[int]:
    return {port for _, port in listening(pid)}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net/tcp")
def test_the_kernel_of_the_system_says_so_too(lab):
    _, port, _ = lab
    heads = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    ours = {local.split(":")[0] for _, local, _, state, *_ in heads if state == "0A" and local.endswith(f":{port:04X}")}
    assert ours == {"0100007F"}  # 127.0.0.1, its bytes reversed
