"""Notebook 08's explorer in JupyterLab, in a real browser: controls moved, points clicked, messages read."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable

import nbformat
import numpy as np
import pytest
import test_browser
from conftest import ROOT
from nbformat import NotebookNode
from test_browser import KERNEL, MINUTE, SCROLL, Reader

from xlt_tutorial.styles import language_name
from xlt_tutorial.widgets import Maps, MapsError, read_maps

sys.path.insert(0, str(ROOT / "tools"))
import publish

pytestmark = pytest.mark.browser

lab, browser, read = test_browser.lab, test_browser.browser, test_browser.read  # fixtures
SOURCE = ROOT / "notebooks" / "src" / "08_alignment_before_and_after.py"
# Of a plotly figure: coordinates of a trace, as they are on the screen now.
PLACES = "(plot, at) => Array.from(plot.data[at].x, (x, i) => [x, plot.data[at].y[i]])"
DRAWN = "([plot, at]) => plot.data?.[at]?.x"  # a slow browser draws an empty figure first
PIXEL = """(plot, [x, y, panel]) => {
    const {left, top} = plot.getBoundingClientRect(), number = panel ? 2 : '';
    const across = plot._fullLayout[`xaxis${number}`], up = plot._fullLayout[`yaxis${number}`];
    return [left + across._offset + across.l2p(x), top + up._offset + up.l2p(y)];
}"""
BRIGHTNESS = """element => {
    const light = colour => {
        const [r, g, b, a = 1] = colour.match(/[\\d.]+/g).map(Number);
        return a === 0 ? null : (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
    };
    let behind = element;
    while (behind && light(getComputedStyle(behind).backgroundColor) === null) behind = behind.parentElement;
    return [light(getComputedStyle(element).color), light(getComputedStyle(behind).backgroundColor)];
}"""


# Anywidget waits no time at all for a widget's script: every script is late.
NO_PATIENCE = """
const wait = AbortSignal.timeout.bind(AbortSignal);
AbortSignal.timeout = ms => wait(ms === 2000 ? 0 : ms);
"""
FIGURE = """
import plotly.graph_objects as go
from ipywidgets import Button, VBox
from xlt_tutorial.widgets.patient import figure_widget

figure, button = figure_widget(go.Figure(go.Scatter(x=[1, 2, 3], y=[3, 1, 2]))), Button(description="Move")
button.on_click(lambda _: figure.update_traces(y=[5, 5, 5], selector=0))
VBox([button, figure])
"""


def put(address: str, name: str, notebook: NotebookNode) -> None:
    """Save a notebook through the server's own interface."""
    base, token = address.split("/lab/")[0], address.rsplit("token=", 1)[1]
    body = json.dumps({"type": "notebook", "format": "json", "content": notebook}).encode()
    headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{base}/api/contents/notebooks/{name}.ipynb", body, headers, method="PUT")
    urllib.request.urlopen(request, timeout=60).close()


class Explorer:
    """The explorer that a cell shows."""

    def __init__(self, reader: Reader, at: int) -> None:
        self.reader, self.page = reader, reader.page
        self.page.evaluate(SCROLL, at)
        self.cell = self.page.locator(f'.jp-Cell[data-windowed-list-index="{at}"]')
        self.plot = self.cell.locator(".js-plotly-plot").first
        self.plot.wait_for()
        self.plot.locator(".main-svg").first.wait_for()
        reader.settle()

    def press(self, name: str) -> None:
        self.cell.get_by_role("button", name=name, exact=True).click()
        self.rest()

    def rest(self) -> None:
        """Until the kernel has answered and the browser has drawn."""
        self.page.wait_for_timeout(300)
        self.page.wait_for_function(f"{KERNEL} === 'idle'")
        self.page.wait_for_timeout(300)

    def choose(self, label: str, title: str) -> None:
        self.cell.locator(".widget-dropdown", has_text=label).locator("select").select_option(label=title)
        self.rest()

    def layer(self, steps: int) -> float:
        """Move the slider by keys; the milliseconds of the last step."""
        handle = self.cell.locator(".noUi-handle").first
        handle.focus()
        for _ in range(abs(steps)):
            before = self.plot.evaluate(PLACES, 1)
            start = self.page.evaluate("performance.now()")
            handle.press("ArrowRight" if steps > 0 else "ArrowLeft")
            changed = "([plot, before]) => plot.data[1].x[0] !== before[0][0] || plot.data[1].y[0] !== before[0][1]"
            self.page.wait_for_function(changed, arg=[self.plot.element_handle(), before], timeout=MINUTE)
            took = self.page.evaluate("performance.now()") - start
        self.rest()
        return float(took)

    def places(self, trace: int) -> np.ndarray:
        self.page.wait_for_function(DRAWN, arg=[self.plot.element_handle(), trace], timeout=MINUTE)
        return np.array(self.plot.evaluate(PLACES, trace), dtype=float).reshape(-1, 2)

    def click(self, x: float, y: float, panel: int) -> None:
        self.plot.scroll_into_view_if_needed()
        left, top = self.plot.evaluate(PIXEL, [float(x), float(y), panel])
        self.page.mouse.move(left, top, steps=4)
        self.page.wait_for_timeout(400)
        self.page.mouse.click(left, top)
        self.rest()

    def text(self) -> str:
        return str(self.cell.locator(".jp-Cell-outputArea").inner_text())


def most_alone(maps: Maps, stage: str, layer: int, projection: str) -> tuple[int, int]:
    """Language and concept of the point that is farthest from all others, so that a click on it means it."""
    xy = maps.coordinates(stage, layer, projection)
    flat = xy.reshape(-1, 2)
    near = [np.partition(np.hypot(*(flat - point).T), 1)[1] for point in flat]
    return divmod(int(np.argmax(near)), xy.shape[1])


@pytest.fixture(scope="module")
def maps() -> Maps:
    try:
        return read_maps()
    except MapsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def notebook() -> NotebookNode:
    return publish.read_source(SOURCE)


def test_the_maps_follow_their_controls(
    read: Callable[[str], Reader], lab: str, maps: Maps, notebook: NotebookNode
) -> None:
    put(lab, "explorer", notebook)
    reader = read("explorer")
    reader.run_all()
    cells = reader.cells()
    assert not reader.errors()
    view = Explorer(reader, next(i for i, cell in enumerate(cells) if "view = explore(maps)" in cell["source"]))
    reader.shot("explorer")
    languages, (before, _, after), last = len(maps.languages), maps.stages, maps.layers[-1]
    lit = (2 * languages + 1, 2 * languages + 3)

    def shown(stage: str, layer: int, projection: str = "umap") -> np.ndarray:
        return maps.coordinates(stage, layer, projection)

    assert np.allclose(view.places(2), shown(before, last)[2], atol=1e-5)
    took = view.layer(-4)
    print(f"a step of the slider, until the picture has changed: {took:.0f} ms")
    assert np.allclose(view.places(2), shown(before, last - 4)[2], atol=1e-5)
    assert np.allclose(view.places(languages + 2), shown(after, last - 4)[2], atol=1e-5)
    assert f"Layer {last - 4}, over all {maps.info['test_concepts']} test items" in view.text()
    gap = maps.measures(after, last - 4)["gap_ratio"]["mean"]
    assert f"{gap:.2f}" in view.text()
    reader.shot("layer")

    language, concept = most_alone(maps, after, last - 4, "umap")
    view.click(*shown(after, last - 4)[language, concept], panel=1)
    reader.shot("clicked")
    for trace, stage in zip(lit, (before, after), strict=True):
        assert np.allclose(view.places(trace), shown(stage, last - 4)[:, concept], atol=1e-5)
    alight = view.plot.evaluate("plot => [...plot.querySelectorAll('.scatterlayer .trace .points path')].length")
    assert alight == 2 * languages, "in both panels"
    assert str(maps.texts[maps.languages.index("ja"), concept]) in view.text()
    hover = view.plot.locator(".hoverlayer .hovertext").first
    hover.wait_for()
    view.press("Clear")
    assert [len(view.places(trace)) for trace in lit] == [0, 0]

    for colour in ("Label", "Gap"):
        view.press(colour)
        reader.shot(colour.lower())
    view.press("PCA")
    assert np.allclose(view.places(2), shown(before, last - 4, "pca")[2], atol=1e-5)
    view.choose("Left", maps.title(maps.stages[1]))
    assert np.allclose(view.places(2), shown(maps.stages[1], last - 4, "pca")[2], atol=1e-5)
    view.press("None")
    assert "No language is chosen" in view.text()
    for code in (maps.source, "ja"):
        view.press(language_name(code))
    assert view.plot.evaluate("plot => plot.data.filter(t => t.type === 'scattergl' && t.visible).length") == 4
    assert "0: no gap; Japanese" in view.text()
    view.press("All")
    find = view.cell.locator("input[type=text]").last
    find.fill(str(maps.texts[3, 7]))
    find.press("Enter")
    view.rest()
    assert np.allclose(view.places(lit[0]), shown(maps.stages[1], last - 4, "pca")[:, maps.find(maps.texts[3, 7])])
    reader.shot("found")
    assert not reader.complaints


def test_it_can_be_read_in_the_dark_theme_and_on_a_wide_screen(
    read: Callable[[str], Reader], lab: str, maps: Maps
) -> None:
    put(lab, "dark", of_cells("from xlt_tutorial.widgets import explore", "explore(picked=3)"))
    reader = read("dark")
    reader.page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
    reader.run_all()
    view = Explorer(reader, 1)
    for part in (view.cell.locator("table td").first, view.cell.locator("table th").nth(2)):
        text, behind = part.evaluate(BRIGHTNESS)
        assert abs(text - behind) > 0.5, "text stands out from what is behind it"
    reader.shot("dark")
    reader.page.evaluate("window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    reader.page.set_viewport_size({"width": 1920, "height": 1080})
    reader.settle()
    plot, table = view.plot.bounding_box(), view.cell.locator("table").first.bounding_box()
    assert table["x"] > plot["x"] + plot["width"] - 1, "the numbers stand beside the picture"
    reader.shot("wide")
    reader.page.set_viewport_size({"width": 1366, "height": 768})
    reader.settle()
    plot, table = view.plot.bounding_box(), view.cell.locator("table").first.bounding_box()
    assert table["x"] > plot["x"] + plot["width"] - 1, "on a small laptop too"
    assert table["x"] + table["width"] <= 1366
    assert not reader.complaints


TINY = """
import sys
from pathlib import Path
sys.path.insert(0, TESTS)
from tiny_maps import stored_tiny_maps
from xlt_tutorial.widgets import explore, read_maps
maps = stored_tiny_maps(Path("tiny-maps"))
"""
NOWHERE = """
import xlt_tutorial.widgets.explorer as explorer
explorer.read_maps = lambda: read_maps("nowhere")
explore()
"""


def of_cells(*sources: str) -> NotebookNode:
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    return nbformat.v4.new_notebook(cells=cells, metadata=publish.METADATA)


@pytest.mark.parametrize("again", ["figure", "VBox([figure])"], ids=["displayed", "boxed"])
@pytest.mark.parametrize("script", ["", NO_PATIENCE], ids=["in-time", "late"])
def test_a_figure_reaches_a_late_browser_too(read: Callable[..., Reader], lab: str, script: str, again: str) -> None:
    change = """
figure.add_scatter(x=[1, 2], y=[0, 1])
with figure.batch_update():
    figure.data[0].y, figure.data[1].x = [1, 1, 4], [3, 4]
"""
    put(lab, "late", of_cells(FIGURE, change, again))
    reader = read("late", script)
    reader.run_all()
    assert reader.late or not script, "the page waits as ever"
    view = Explorer(reader, 0)
    shows = """wanted => {
        const plots = [...document.querySelectorAll('.js-plotly-plot')];
        return plots.length === 2 && plots.every(plot =>
            JSON.stringify(plot.data?.map(t => [...(t.x ?? []), ...(t.y ?? [])])) === JSON.stringify(wanted));
    }"""
    reader.page.wait_for_function(shows, arg=[[1, 2, 3, 1, 1, 4], [3, 4, 0, 1]])
    view.press("Move")
    reader.page.wait_for_function(shows, arg=[[1, 2, 3, 5, 5, 5], [3, 4, 0, 1]])
    assert not reader.errors() and not reader.complaints


def test_bad_input_is_a_message_in_the_view(read: Callable[[str], Reader], lab: str) -> None:
    start = TINY.replace("TESTS", repr(str(ROOT / "tests")))
    odd = "explore(maps, layer=99, languages=['xx', 'ja'], concepts=['moon'], colour='hue')"
    put(lab, "odd", of_cells(start, odd, NOWHERE, 'read_maps("nowhere")'))
    reader = read("odd")
    reader.run_all()
    view = Explorer(reader, 1)
    for part in ('Unknown layer "99"', 'Unknown language "xx"', 'Unknown colour "hue"', "This is a single point"):
        assert part in view.text()
    assert "Traceback" not in view.text()
    view.press("None")
    assert "No language is chosen" in view.text() and "Unknown" not in view.text()
    view.press("English")
    view.press("German")
    assert len(view.places(0)) == len(view.places(1)) == 1
    reader.shot("odd")
    missing = reader.page.locator('.jp-Cell[data-windowed-list-index="2"]')
    assert "The stored maps are missing" in missing.inner_text()
    assert "python tools/make_maps.py" in missing.inner_text()
    (error,) = [o for cell in reader.cells() for o in cell["outputs"] if o["output_type"] == "error"]
    assert error["ename"] == "MapsError" and len(error["traceback"]) == 1, "one sentence, no traceback"
    assert not reader.complaints
