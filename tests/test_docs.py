"""The site: what its settings, pages and copies of notebooks hold, without building it (`make docs` does)."""

from __future__ import annotations

import importlib.util
import json
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import xlt_tutorial

DOCS = ROOT / "docs"
# They hold the answers to the exercises, or start the command line.
LEFT_OUT = re.compile(r"xlt_tutorial\.(__main__|exercises\..+)")


def conf() -> Any:
    """The settings, as a module."""
    spec = importlib.util.spec_from_file_location("docs_conf", DOCS / "conf.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


CONF = conf()


def test_the_reference_lists_every_public_module_once() -> None:
    listed = re.findall(r"(?m)^   (xlt_tutorial\S+)$", (DOCS / "api" / "index.md").read_text(encoding="utf-8"))
    modules = [one.name for one in pkgutil.walk_packages(xlt_tutorial.__path__, "xlt_tutorial.")]
    assert sorted(listed) == sorted(name for name in modules if not LEFT_OUT.fullmatch(name))


def test_the_index_leads_to_every_page() -> None:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {line for line in text.splitlines() if re.fullmatch(r"[a-z_]+(/\w+)?", line)}
    pages = {path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md")}
    ours = {page for page in pages if not page.startswith(("_build/", "notebooks/", "api/generated/"))}
    assert ours - {"index"} == {page for page in listed if not page.startswith("notebooks/")}


def test_nothing_is_run_and_nothing_is_fetched() -> None:
    assert CONF.nb_execution_mode == "off"
    assert CONF.html_math_renderer == "mathml"
    assert "sphinx.ext.intersphinx" not in CONF.extensions
    for path in (*DOCS.glob("_static/*"), DOCS / "conf.py"):
        assert "http" not in path.read_text(encoding="utf-8"), path.name


def cell(kind: str, source: str, outputs: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"cell_type": kind, "source": source, "metadata": {}} | (
        {"outputs": outputs or []} if kind == "code" else {}
    )


def test_a_copy_shows_a_figure_in_three_layers() -> None:
    data = {
        CONF.PLOTLY: {"data": [{"text": "</script><b>"}], "layout": {}},
        "image/png": "QUJD\n",
        "text/plain": 'It is "5".',
    }
    figure = {"output_type": "display_data", "data": data, "metadata": {"image/png": {"alt": 'It is "5".'}}}
    told = {"output_type": "display_data", "data": {"text/markdown": "*It is 5.*"}, "metadata": {}}
    cells = [
        cell("markdown", "# One"),
        cell("code", "first"),
        cell("code", "x", [figure, told]),
        cell("markdown", "# Two"),
    ]
    made = json.loads(CONF.site_notebook(json.dumps({"cells": cells})))["cells"]
    html = made[2]["outputs"][0]["data"]["text/html"]
    assert 'alt="It is &quot;5&quot;."' in html and 'src="data:image/png;base64,QUJD"' in html
    assert html.count("</script>") == 1  # text from data does not end it
    stored = re.search(r'<script type="application/json">(.*)</script>', html)
    assert stored and json.loads(stored[1]) == data[CONF.PLOTLY]
    assert made[2]["outputs"][1] == told
    assert made[1]["metadata"] == {"tags": ["hide-cell"]} and made[2]["metadata"] == {}
    assert [made[0]["source"], made[3]["source"]] == ["# One", "## Two"]


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("crosswalk", "../notebooks/04_x.ipynb", "notebooks/04_x.ipynb"),
        ("teaching/plan", "../../notebooks/04_x.ipynb", "../notebooks/04_x.ipynb"),
        ("teaching/plan", "../crosswalk.md", "../crosswalk.md"),
        ("notebooks/", "../docs/results.md", "../results.md"),
        ("notebooks/", "05_y.ipynb", "05_y.ipynb"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(page: str, link: str, expected: str) -> None:
    assert CONF.relinked(f"See [it]({link}).", page) == f"See [it]({expected})."


def test_copies_follow_their_notebooks(tmp_path: Path) -> None:
    source, target = tmp_path / "notebooks", tmp_path / "copies"
    source.mkdir()
    (source / "01_a.ipynb").write_text(json.dumps({"cells": [cell("markdown", "# A"), cell("code", "1")]}))
    (source / "README.md").write_text("[a](01_a.ipynb)")
    assert {path.name for path in CONF.copy_notebooks(source, target)} == {"01_a.ipynb", "README.md"}
    (target / "09_gone.ipynb").write_text("{}")
    written = (target / "01_a.ipynb").stat().st_mtime_ns
    CONF.copy_notebooks(source, target)
    assert {path.name for path in target.iterdir()} == {"01_a.ipynb", "README.md"}
    assert (target / "01_a.ipynb").stat().st_mtime_ns == written  # so that a second build reads only what has changed


def test_every_local_link_of_a_page_leads_somewhere() -> None:
    wrong = []
    for path in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:\s]+)[)#]", path.read_text(encoding="utf-8")):
            if not (path.parent / target).exists():
                wrong.append(f"{path.name}: {target}")
    assert wrong == []


def pins(file: str) -> dict[str, Requirement]:
    lines = [line for line in (ROOT / file).read_text().splitlines() if re.match(r"[A-Za-z]", line)]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def test_the_sites_tools_are_pinned_and_leave_the_tested_set_alone() -> None:
    import tomllib

    tools = pins("requirements-docs.txt")
    assert (ROOT / "requirements-docs.txt").read_text().splitlines()[1] == "-r requirements-dev.txt"
    assert all([clause.operator for clause in pin.specifier] == ["=="] for pin in tools.values())
    assert not tools.keys() & (pins("requirements.txt").keys() | pins("requirements-dev.txt").keys())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in project["optional-dependencies"]["docs"]:
        wanted = Requirement(text)
        (clause,) = tools[canonicalize_name(wanted.name)].specifier
        assert clause.version in wanted.specifier, text
