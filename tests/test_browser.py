"""The published notebooks in JupyterLab, in a real browser: opened, run and touched as a reader would."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

pytestmark = pytest.mark.browser

NOTEBOOKS = ROOT / "notebooks"
MINUTE = 60_000  # milliseconds, as playwright counts
PLOTLY = "application/vnd.plotly.v1+json"
FOLDERS = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")  # of Jupyter's, kept away from the user's own
# The cells of the notebook in front with their outputs, drawn or not, and the state of its kernel.
CELLS = "window.jupyterapp.shell.currentWidget.content.model.toJSON().cells"
KERNEL = "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status"
# JupyterLab draws only the cells near the window.
SCROLL = """async at => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    notebook.activeCellIndex = at;
    await notebook.scrollToItem(at, 'start');
}"""
# Anywidget's own word, where a widget's script took longer than it waits; ours then goes on without it.
LATE = "[anywidget] Failed to initialize model."


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """JupyterLab as ``make lab`` starts it, on a copy of the notebooks; yields the address of the one named NAME."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(NOTEBOOKS, home / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copytree(ROOT / "binder", home / "binder")
    recipe = re.search(r"jupyter (lab .*) \$\(ARGS\) (notebooks/\S+)", (ROOT / "Makefile").read_text())
    assert recipe, "the Makefile starts JupyterLab in another way than this test knows"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    options += ["--no-browser", "--LabApp.expose_app_in_browser=True"]
    options += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    env = os.environ | {f"JUPYTER_{name}": str(home / name.lower()) for name in FOLDERS}
    env |= {"JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "IPYTHONDIR": str(home / "ipython")}
    with (home / "jupyter.log").open("w") as log:
        command = [sys.executable, "-m", "jupyter", *recipe[1].split(), *options, recipe[2]]
        server = subprocess.Popen(command, cwd=home, env=env, stdout=log, stderr=log)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, home / "jupyter.log")
        # A workspace each, or a notebook opens with the tabs of the one before it.
        yield f"http://127.0.0.1:{port}/lab/workspaces/NAME/tree/notebooks/NAME.ipynb?token={token}"
    finally:
        server.terminate()  # it shuts its kernels down
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=options)
        yield started
        started.close()


class Reader:
    """A page of JupyterLab with one notebook open; ``complaints`` holds what the browser logged as an error.

    ``late`` tells whether a widget's script came later than anywidget waits for, as happens in a slow browser.
    """

    def __init__(self, page: Any, address: str, shots: Path) -> None:
        self.page, self.shots, self.complaints, self.late = page, shots, list[str](), False
        page.set_default_timeout(MINUTE)
        page.on("console", lambda said: self._complain(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self._complain(str(error)))
        page.goto(address)
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=2 * MINUTE)
        page.wait_for_function(f"{KERNEL} === 'idle'", timeout=2 * MINUTE)

    def _complain(self, said: str) -> None:
        if LATE in said:
            self.late = True
        else:
            self.complaints.append(said)

    def cells(self) -> list[dict[str, Any]]:
        return list(self.page.evaluate(CELLS))

    def errors(self) -> list[str]:
        """The tracebacks that the notebook shows."""
        outputs = [output for cell in self.cells() for output in cell.get("outputs", [])]
        return ["\n".join(output["traceback"]) for output in outputs if output["output_type"] == "error"]

    def ran_in_order(self) -> bool:
        """Whether this kernel has run every cell once, from the first to the last."""
        counts = [cell["execution_count"] for cell in self.cells() if cell["cell_type"] == "code"]
        return counts == list(range(1, len(counts) + 1))

    def run_all(self, minutes: int = 10) -> None:
        """Run > Run All Cells, until the last cell is done or one has failed."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_text("Run All Cells", exact=True).click()
        self.finished(minutes)

    def finished(self, minutes: int = 10) -> None:
        """Until the kernel, which has just been told to run all cells, is done with the last or one has failed."""
        self.page.wait_for_function(f"{KERNEL} === 'busy'")
        done = f"{KERNEL} === 'idle' && {CELLS}.every(c => c.cell_type !== 'code' || c.execution_count)"
        failed = f"{CELLS}.some(c => (c.outputs ?? []).some(o => o.output_type === 'error'))"
        self.page.wait_for_function(f"({done}) || {failed}", timeout=minutes * MINUTE, polling=500)

    def look_at(self, at: int) -> Any:
        """Scroll to a cell and return its figure, drawn; a stored one is a picture until the mouse enters it."""
        self.page.evaluate(SCROLL, at)
        plot = self.page.locator(f'.jp-Cell[data-windowed-list-index="{at}"] .jp-RenderedPlotly').first
        plot.wait_for()
        plot.scroll_into_view_if_needed()
        self.settle()
        box = plot.bounding_box()
        self.page.mouse.move(box["x"] + 40, box["y"] + 20, steps=3)
        plot.locator(".main-svg").first.wait_for()
        self.settle()
        return plot

    def settle(self) -> None:
        self.page.wait_for_timeout(1500)

    def shot(self, name: str) -> None:
        self.page.screenshot(path=str(self.shots / f"{name}.png"))


@pytest.fixture
def read(browser: Any, lab: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Reader]]:
    """Opens a notebook by its name, on the screen of a small laptop; a script runs before the page's own."""
    pages = []

    def start(name: str, script: str = "") -> Reader:
        pages.append(browser.new_page(viewport={"width": 1366, "height": 768}))
        pages[-1].add_init_script(script)
        return Reader(pages[-1], lab.replace("NAME", name), tmp_path_factory.mktemp("shots"))

    yield start
    for page in pages:
        page.close()


def figures(cell: dict[str, Any]) -> list[dict[str, Any]]:
    return [output["data"][PLOTLY] for output in cell.get("outputs", []) if PLOTLY in output.get("data", {})]


def test_start_here_runs_and_its_map_answers(read: Callable[[str], Reader]) -> None:
    reader = read("00_start_here")
    reader.settle()
    assert reader.page.locator(".jp-toastContainer, .Toastify__toast").count() == 0, "nothing covers the first screen"
    reader.shot("opened")
    reader.run_all()
    cells = reader.cells()
    assert not reader.errors()
    assert reader.ran_in_order()
    for at in range(0, len(cells), 3):
        reader.page.evaluate(SCROLL, at)
        reader.page.wait_for_timeout(300)
        reader.shot(f"cell-{at:02d}")

    at = next(i for i, cell in enumerate(cells) if "alignment_map(" in cell["source"])
    plot = reader.look_at(at)
    languages = plot.locator(".scatterlayer .trace")
    points = languages.first.locator(".points path")
    (figure,) = figures(cells[at])
    assert languages.count() == len(figure["data"]) == 5
    assert points.count() == 40
    point = points.first.bounding_box()
    reader.page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2, steps=5)
    label = plot.locator(".hoverlayer .hovertext").first
    label.wait_for()
    assert figure["data"][0]["name"] in label.text_content()
    reader.shot("hover")

    height = plot.bounding_box()["height"]
    assert height > 300
    plot.locator(".legendtoggle").first.click()
    reader.settle()
    reader.shot("legend")
    assert languages.count() == 4
    assert plot.bounding_box()["height"] == pytest.approx(height, abs=5)
    assert not reader.complaints


def test_the_map_of_the_gap_follows_its_slider(read: Callable[[str], Reader]) -> None:
    name = "01_the_embedding_cluster_gap"
    if not (NOTEBOOKS / f"{name}.ipynb").exists():
        pytest.skip(f"{name} is not published yet")
    reader = read(name)
    found = [i for i, cell in enumerate(reader.cells()) for figure in figures(cell) if figure["layout"].get("sliders")]
    assert found, f"{name} has no figure with a slider"
    plot = reader.look_at(found[0])
    plot.locator(".slider-container").scroll_into_view_if_needed()
    reader.settle()
    reader.shot("slider-before")

    height = plot.bounding_box()["height"]
    assert height > 300
    state = "plot => [plot.layout.sliders[0].active ?? 0, plot.layout.sliders[0].steps.length]"
    active, steps = plot.evaluate(state)
    places = _places(plot)
    grip = plot.locator(".slider-grip-rect").first.bounding_box()
    rail = plot.locator(".slider-rail-rect").first.bounding_box()
    x, y = grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2
    reader.page.mouse.move(x, y)
    reader.page.mouse.down()
    reader.page.mouse.move(rail["x"] + rail["width"] * (0.25 if active > steps / 2 else 0.75), y, steps=8)
    reader.page.mouse.up()
    reader.settle()
    reader.shot("slider-after")
    assert plot.evaluate(state)[0] != active
    assert _places(plot) != places
    assert plot.bounding_box()["height"] == pytest.approx(height, abs=5)
    assert not reader.complaints


def _places(plot: Any) -> list[float]:
    """Coordinates of the first five points of the last trace, as plotly holds them decoded."""
    return list(plot.evaluate("plot => Array.from(plot.calcdata.at(-1).slice(0, 5), point => point.x)"))
