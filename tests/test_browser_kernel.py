"""A kernel restarted half-way, and cells run in another order than they stand in, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import test_browser
from test_browser import KERNEL, MINUTE, SCROLL, Reader

pytestmark = pytest.mark.browser

lab, browser, read = test_browser.lab, test_browser.browser, test_browser.read  # fixtures
NAME = "08_alignment_before_and_after"
# Answers when the cell is done.
RUN_CELL = "async () => { await window.jupyterapp.commands.execute('notebook:run-cell'); }"


def code_cells(reader: Reader) -> list[int]:
    return [i for i, cell in enumerate(reader.cells()) if cell["cell_type"] == "code"]


def test_a_restarted_kernel_and_cells_out_of_order(read: Callable[[str], Reader]) -> None:
    reader = read(NAME)
    for at in code_cells(reader)[:3]:
        run_cell(reader, at)
    reader.page.get_by_role("menuitem", name="Kernel", exact=True).click()
    reader.page.get_by_text("Restart Kernel and Run All Cells", exact=False).click()
    reader.page.locator(".jp-Dialog button.jp-mod-accept").click()
    reader.finished()
    assert not reader.errors()
    assert reader.ran_in_order(), "the new kernel has run every cell once, in order"
    reader.shot("restarted")

    for at in reversed(code_cells(reader)):
        run_cell(reader, at)
    assert not reader.errors(), "every cell can be run again after those below it"
    view = next(i for i, cell in enumerate(reader.cells()) if "view = explore(maps)" in cell["source"])
    reader.page.evaluate(SCROLL, view)
    plot = reader.page.locator(f'.jp-Cell[data-windowed-list-index="{view}"] .js-plotly-plot').first
    plot.locator(".main-svg").first.wait_for()
    reader.settle()
    reader.shot("backwards")
    assert not reader.complaints


def run_cell(reader: Reader, at: int) -> None:
    """Run one cell and wait for it."""
    reader.page.evaluate(SCROLL, at)
    reader.page.evaluate(RUN_CELL)
    reader.page.wait_for_function(f"{KERNEL} === 'idle'", timeout=MINUTE)
