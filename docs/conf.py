"""How Sphinx makes the site: ``make docs``. Nothing is fetched and no notebook is run.

The published notebooks are copied to ``docs/notebooks`` (not in git) with their figures as HTML: the PNG first, plotly
on demand, from a copy of its script inside the site. Formulas become MathML, so no script draws them either.
"""

from __future__ import annotations

import html
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
NOTEBOOKS, COPIES = ROOT / "notebooks", DOCS / "notebooks"
PLOTLY = "application/vnd.plotly.v1+json"

sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "xlt_tutorial"
author = "The xlt_tutorial authors"
copyright = author
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
html_theme = "furo"
html_title = "Zero-shot cross-lingual transfer"
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["figures.js"]
# Headings of two notebooks may be equal; labels are only made within a page.
suppress_warnings = ["myst.header"]


def figure(output: dict[str, Any]) -> str:
    """Return a figure as HTML: its picture, and its data for plotly, drawn when the reader asks for it.

    The sentence, the third layer, is text of the page already: the output after this one.
    """
    data = output["data"]
    alt = output.get("metadata", {}).get("image/png", {}).get("alt") or data.get("text/plain", "")
    picture = "".join("".join(data["image/png"]).split())
    values = json.dumps(data[PLOTLY], separators=(",", ":")).replace("</", "<\\/").replace("<!--", "<\\!--")
    return (
        f'<div class="xlt-figure"><img alt="{html.escape("".join(alt))}" src="data:image/png;base64,{picture}">'
        '<button type="button" class="xlt-live" hidden>Make this figure interactive</button>'
        f'<script type="application/json">{values}</script></div>'
    )


def site_notebook(text: str) -> str:
    """Return a published notebook, as text, for the site: figures as HTML, one title, the common first cell folded."""
    notebook = json.loads(text)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    code[0]["metadata"] = {"tags": ["hide-cell"]}
    for cell in code:
        for output in cell["outputs"]:
            data = output.get("data", {})
            if PLOTLY in data and "image/png" in data:
                output["data"] = {"text/html": figure(output), "text/plain": data.get("text/plain", "")}
                output["metadata"] = {}
    titled = False
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            source = relinked("".join(cell["source"]), "notebooks/")
            cell["source"] = re.sub(r"(?m)^# ", "## ", source) if titled else source
            titled = True
    return json.dumps(notebook)


def relinked(text: str, page: str) -> str:
    """Return Markdown whose relative links, right in the repository, are right in the site.

    Args:
        text: The Markdown.
        page: The page, or the folder with a slash at its end, as the site names it: "teaching/plan", "notebooks/".
    """
    up = "../" * page.count("/")
    if page.startswith("notebooks/"):
        return text.replace("](../docs/", f"]({up}")
    return re.sub(r"\]\((?:\.\./)+notebooks/", f"]({up}notebooks/", text)


def copy_notebooks(source: Path = NOTEBOOKS, target: Path = COPIES) -> list[Path]:
    """Write the site's copies of the published notebooks and of their table; what has not changed keeps its time."""
    target.mkdir(exist_ok=True)
    wanted = {path.name: site_notebook(path.read_text(encoding="utf-8")) for path in sorted(source.glob("*.ipynb"))}
    wanted["README.md"] = relinked((source / "README.md").read_text(encoding="utf-8"), "notebooks/")
    for path in target.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        path = target / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    return [target / name for name in wanted]


def _math(display: bool) -> Any:
    def visit(self: Any, node: Any) -> None:
        from docutils import nodes
        from slides import mathml  # of tools

        formula = mathml(node.astext(), display)
        self.body.append(f'<div class="xlt-math">{formula}</div>' if display else formula)
        raise nodes.SkipNode

    return visit


def _relink(app: Any, docname: str, content: list[str]) -> None:
    if not docname.startswith("notebooks/"):
        content[0] = relinked(content[0], docname)


def setup(app: Any) -> None:
    """Prepare what Sphinx reads, and tell it how to write formulas."""
    import plotly

    script = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    app.config.html_static_path.append(str(script))
    copy_notebooks()
    app.add_html_math_renderer("mathml", (_math(False), None), (_math(True), None))
    app.connect("source-read", _relink)
