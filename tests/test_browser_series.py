"""Every notebook opened in JupyterLab and run from its menu, in a real browser: half an hour, by ``make test-lab``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import test_browser
from test_browser import NOTEBOOKS, SCROLL, Reader, figures

pytestmark = [pytest.mark.browser, pytest.mark.lab]

lab, browser, read = test_browser.lab, test_browser.browser, test_browser.read  # fixtures
SERIES = sorted(path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("name", SERIES)
def test_run_all_shows_every_figure_and_no_error(read: Callable[[str], Reader], name: str) -> None:
    reader = read(name)
    try:
        reader.run_all(minutes=40)
        cells = reader.cells()
        assert not reader.errors()
        assert reader.ran_in_order()
        drawn = 0
        for at, cell in enumerate(cells):
            if figures(cell):
                plot = reader.look_at(at)
                picture, place = plot.locator(".main-svg").first.bounding_box(), plot.bounding_box()
                assert picture["width"] <= place["width"] + 1, f"the figure of cell {at} is cut at its right"
                drawn += 1
            else:
                reader.page.evaluate(SCROLL, at)
                reader.page.wait_for_timeout(300)
            reader.shot(f"{name}-{at:02d}")
        assert drawn > 0
        shown = "[...document.querySelectorAll('.jp-OutputArea')].map(area => area.innerText).join('\\n')"
        assert "Error displaying widget" not in reader.page.evaluate(shown)
        assert not reader.complaints
        print(f"{name}: {len(cells)} cells, {drawn} figures; screens in {reader.shots}")
    finally:
        reader.page.evaluate("window.jupyterapp.commands.execute('kernelmenu:shutdown')")
