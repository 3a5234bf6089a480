"""Notebook 07's playgrounds in JupyterLab, in a real browser: driven by clicks and drags, messages read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import test_browser
from conftest import ROOT
from nbformat import NotebookNode
from test_browser import MINUTE, Reader
from test_browser_widgets import BRIGHTNESS, PIXEL, Explorer, of_cells, put
from tiny_study import store_tiny_studies

from xlt_tutorial.widgets.grid import Scene, adjusted, first_view, read_grid, scene
from xlt_tutorial.widgets.toy import ALPHAS, CLASSES, STEPS, Dials, Toy

pytestmark = pytest.mark.browser

lab, browser, read = test_browser.lab, test_browser.browser, test_browser.read  # fixtures
TINY = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tests")!r})
from tiny_study import store_tiny_studies
from xlt_tutorial.widgets.grid import read_grid
from xlt_tutorial.widgets.playground import grid_playground, toy_playground
grid = read_grid(store_tiny_studies(Path("tiny-studies")))
"""
MEANS, COPY = 2, CLASSES  # traces: the mean gains of the grid; x' of the first sentence in the toy
FRAMES = """async ([plot, at, milliseconds]) => {
    const seen = new Set(), start = performance.now();
    while (performance.now() - start < milliseconds) {
        seen.add(plot.data[at].x[0]);
        await new Promise(requestAnimationFrame);
    }
    return 1000 * (seen.size - 1) / (performance.now() - start);
}"""


class Playground(Explorer):
    """The playground that a cell shows."""

    def __init__(self, reader: Reader, at: int) -> None:
        super().__init__(reader, at)
        # At first the figure is drawn without its traces.
        self.page.wait_for_function("plot => plot.data?.length > 3", arg=self.plot.element_handle())
        self.rest()

    def slide(self, label: str, share: float) -> str:
        """Drag a slider's handle to a share of its way, and return what the slider then says."""
        slider = self.cell.locator(".widget-inline-hbox", has=self.page.locator(".noUi-base"), has_text=label)
        grip, rail = slider.locator(".noUi-handle").bounding_box(), slider.locator(".noUi-base").bounding_box()
        y = grip["y"] + grip["height"] / 2
        self.page.mouse.move(grip["x"] + grip["width"] / 2, y)
        self.page.mouse.down()
        self.page.mouse.move(rail["x"] + share * rail["width"], y, steps=6)
        self.page.mouse.up()
        self.page.wait_for_timeout(600)
        return str(slider.locator(".widget-readout").inner_text())

    def tick(self, label: str) -> None:
        self.cell.locator(".widget-checkbox", has_text=label).locator("input").click()
        self.rest()

    def play(self) -> None:
        """Press the first button of the clock: play, or pause."""
        self.cell.locator(".widget-play button").first.click()

    def fits(self) -> None:
        box = self.cell.locator(".jp-OutputArea-output").first.bounding_box()
        drawn = self.plot.locator(".main-svg").first.bounding_box()
        assert drawn["width"] > 0.9 * box["width"], "as wide as there is room"
        assert drawn["x"] + drawn["width"] <= box["x"] + box["width"] + 1


@pytest.fixture(scope="module")
def notebook() -> NotebookNode:
    return of_cells(TINY, "grid_playground(grid)", "toy_playground()")


def test_the_grid_follows_clicks(read: Callable[[str], Reader], lab: str, notebook: NotebookNode, tmp_path: Path):
    put(lab, "grid", notebook)
    reader = read("grid")
    reader.run_all()
    view = Playground(reader, 1)
    view.fits()
    reader.shot("grid")
    grid = read_grid(store_tiny_studies(tmp_path / "studies"))
    state = first_view(grid)

    def shows(wanted: Scene) -> None:
        gains = np.array([100 * row.gain for row in wanted.rows])
        assert np.allclose(view.places(MEANS)[:, 0], gains)
        assert wanted.sentence in view.text()

    shows(scene(grid, state))
    start = reader.page.evaluate("performance.now()")
    view.cell.get_by_role("button", name="seed 4", exact=True).click()
    reader.page.wait_for_function(
        "([plot, at]) => plot.data[at].x.length === 4 * plot.data[2].x.length",
        arg=[view.plot.element_handle(), 1], timeout=MINUTE,
    )  # fmt: skip
    took = reader.page.evaluate("performance.now()") - start
    print(f"from a click to the picture: {took:.0f} ms")
    view.rest()
    state = adjusted(grid, state, seeds=[0, 1, 2, 3])[0]
    shows(scene(grid, state))
    for title, wishes in (("ear-R", {"setting": "ear-R"}), ("ear", {"setting": "ear"})):
        view.choose("Setting", title)
        state = adjusted(grid, state, **wishes)[0]
        shows(scene(grid, state))
    view.choose("Language", "Japanese")
    state = adjusted(grid, state, language="ja")[0]
    shows(scene(grid, state))
    view.press("All seeds")
    state = adjusted(grid, state, seeds=None)[0]
    shows(scene(grid, state))
    reader.shot("grid-japanese")

    gain = scene(grid, state).rows[3].gain
    left, top = view.plot.evaluate(PIXEL, [100 * gain, 3, 0])
    reader.page.mouse.move(left, top, steps=4)
    label = view.plot.locator(".hoverlayer .hovertext").first
    label.wait_for()
    assert "Japanese" in label.text_content()

    view.press("E push")  # off: A and R alone were not run
    assert "no run of the subset AR" in view.text()
    shows(scene(grid, state))
    view.press("All seeds")
    for seed in state.seeds:
        view.press(f"seed {seed}")
    assert "No seed is chosen" in view.text() and len(view.places(MEANS)) == 0
    reader.shot("grid-empty")
    view.choose("Study", "other")
    assert "2 seeds: bars are intervals over items" in view.text() and len(view.places(MEANS)) == 3
    assert "Traceback" not in view.text() and not reader.complaints


def test_the_toy_moves_and_follows_its_dials(read: Callable[[str], Reader], lab: str, notebook: NotebookNode):
    put(lab, "toy", notebook)
    reader = read("toy")
    reader.run_all()
    view = Playground(reader, 2)
    view.fits()
    reader.shot("toy")
    own = Toy()
    assert np.allclose(view.places(COPY), own.frame(Dials(), 0).virtual[0], atol=1e-5)
    view.press("One frame")
    assert np.allclose(view.places(COPY), own.frame(Dials()).virtual[0], atol=1e-5)
    assert f"After {STEPS} steps" in view.text()

    view.play()
    pace = view.plot.evaluate(f"plot => ({FRAMES})([plot, {COPY}, 4000])")
    print(f"frames a second, kernel and browser together: {pace:.1f}")
    assert pace > 0, "it moves"
    before = view.places(COPY)
    assert view.slide("alpha (push)", 1.0) == f"{ALPHAS[-1]:g}", "dragged while it plays"
    reader.page.wait_for_function(
        "([plot, at, x]) => Math.abs(plot.data[at].x[0] - x) > 0.05",
        arg=[view.plot.element_handle(), COPY, float(before[0, 0])], timeout=MINUTE,
    )  # fmt: skip
    reader.page.wait_for_function("cell => cell.innerText.includes('reached the edge')", arg=view.cell.element_handle())
    view.rest()
    reader.shot("toy-edge")
    still = view.places(COPY)
    reader.page.wait_for_timeout(1000)
    assert np.array_equal(view.places(COPY), still), "the clock has stopped"

    view.press("Reset")
    view.press("hinge")
    assert view.slide("beta (pull)", 0.0) == "0"
    assert view.slide("alpha (push)", 0.5) == f"{ALPHAS[len(ALPHAS) // 2]:g}"
    view.tick("must be classified")
    view.press("One frame")
    dials = Dials(ALPHAS[len(ALPHAS) // 2], 0.0, "hinge", robust=False)
    assert np.allclose(view.places(COPY), Toy().frame(dials).virtual[0], atol=1e-5)
    shares = view.plot.evaluate("plot => Array.from(plot.data.at(-1).y)")
    assert shares[1] == shares[3] == 0 and sum(shares) == pytest.approx(100, abs=0.1)
    view.play()
    reader.page.wait_for_timeout(1500)
    view.play()
    view.rest()
    reader.shot("toy-hinge")
    assert "Traceback" not in view.text() and not reader.complaints


def test_both_can_be_read_in_the_dark_theme_and_on_a_wide_screen(
    read: Callable[[str], Reader], lab: str, notebook: NotebookNode
):
    put(lab, "dark-playground", notebook)
    reader = read("dark-playground")
    theme = "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: `JupyterLab ${name}`})"
    reader.page.evaluate(theme, "Dark")
    reader.run_all()
    for at, name in ((1, "grid"), (2, "toy")):
        view = Playground(reader, at)
        view.plot.scroll_into_view_if_needed()
        for part in (view.cell.locator(".widget-label").first, view.cell.locator(".widget-html-content div").last):
            text, behind = part.evaluate(BRIGHTNESS)
            assert abs(text - behind) > 0.5, f"{name}: text stands out from what is behind it"
        reader.shot(f"{name}-dark")
        reader.page.set_viewport_size({"width": 1900, "height": 1000})
        reader.settle()
        view.fits()
        reader.shot(f"{name}-wide")
        reader.page.set_viewport_size({"width": 1366, "height": 768})
        reader.settle()
    reader.page.evaluate(theme, "Light")
    assert not reader.complaints


def test_bad_input_is_a_message_in_the_view(read: Callable[[str], Reader], lab: str):
    odd = "grid_playground(grid, setting='ear-X', language='xx', seeds=[])"
    one = "from tiny_study import study\nfrom xlt_tutorial.widgets.grid import Grid\n"
    one += "grid_playground(Grid({'single': study({'vanilla': (1, 0.0), 'ear': (1, 0.5)}, items=1)}))"
    nothing = "grid_playground(read_grid(Path('nowhere')))"
    put(lab, "odd-playground", of_cells(TINY, odd, one, nothing, "toy_playground(alpha=-1, push='hing')"))
    reader = read("odd-playground")
    reader.run_all()
    view = Playground(reader, 1)
    for part in ('Unknown setting "ear-X"', 'Unknown language "xx"', "No seed is chosen"):
        assert part in view.text()
    reader.shot("odd")
    view.press("All seeds")
    assert "Unknown" not in view.text() and len(view.places(MEANS)) == 5
    assert "These runs cannot be compared" in Playground(reader, 2).text()
    missing = reader.page.locator('.jp-Cell[data-windowed-list-index="3"]')
    assert "`python -m studies emoji_methods`" in missing.inner_text()
    toy = Playground(reader, 4)
    assert "alpha is -1; it must be a number, 0 or more" in toy.text() and 'Unknown push form "hing"' in toy.text()
    toy.press("One frame")
    assert f"After {STEPS} steps" in toy.text()
    assert not reader.errors()
    assert not reader.complaints
