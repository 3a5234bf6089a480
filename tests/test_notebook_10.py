"""Notebook 10: it runs without any benchmark, and no published notebook passes benchmark texts on."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import publish

NOTEBOOKS = ROOT / "notebooks"
PUBLISHED = sorted(NOTEBOOKS.glob("*.ipynb"))
SOURCE = NOTEBOOKS / "src" / "10_real_benchmarks.py"
START = 30  # a text is recognised by so many first characters, without spaces
FREE = {"sib200": "CC BY-SA 4.0", "massive": "CC BY 4.0"}  # their texts may be passed on with source and licence


def starts(folder: Path) -> set[str]:
    """How the texts of a benchmark begin, in all its languages."""
    found = set()
    for path in folder.glob("*.tsv"):
        header, *rows = path.read_text(encoding="utf-8").splitlines()
        columns = [i for i, name in enumerate(header.split("\t")) if name not in ("id", "label")]
        texts = ("".join(row.split("\t")[i].split()) for row in rows for i in columns)
        found |= {text[:START] for text in texts if len(text) >= START}
    return found


def held(text: str, known: set[str]) -> set[str]:
    """The benchmark texts that a text holds."""
    plain = "".join(text.split())
    return {plain[i : i + START] for i in range(len(plain) - START + 1)} & known


def everything(path: Path) -> str:
    """All cells and outputs of a notebook but its pictures, as text."""
    notebook = nbformat.read(path, 4)
    parts = [cell.source for cell in notebook.cells]
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = {kind: value for kind, value in output.get("data", {}).items() if kind != "image/png"}
            parts += [output.get("text", ""), json.dumps(data, ensure_ascii=False)]
    return "\n".join(parts)


@pytest.mark.parametrize("name", ["xnli", "pawsx", *FREE])
def test_published_notebooks_hold_no_texts_of_benchmarks_but_named_examples(name: str, data_dir: Path) -> None:
    known = starts(data_dir / name)
    assert len(known) > 1000
    planted = next(iter(known))
    assert held(f"as was said: {planted[:10]} {planted[10:]}, and so on", known) == {planted}
    for path in PUBLISHED:
        text = everything(path)
        found = held(text, known)
        if name in FREE:
            assert len(found) <= 4, path.name
            assert not found or FREE[name] in text, path.name
        else:
            assert not found, path.name


@pytest.mark.notebooks
def test_it_runs_without_a_benchmark_and_without_a_network(tmp_path: Path) -> None:
    folder = tmp_path / "notebooks"
    shutil.copytree(NOTEBOOKS, folder, ignore=shutil.ignore_patterns(".ipynb_checkpoints", "runs"))
    notebook = publish.read_source(SOURCE)
    publish.execute(notebook, folder, XLT_DATA=str(tmp_path / "nothing"), HF_HUB_OFFLINE="1")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    told = "\n".join(output.get("data", {}).get("text/markdown", "") for output in outputs)
    assert "Nothing will be trained here: set `XLT_DATA`" in told
    assert "hours here" in json.dumps([output.get("data", {}).get("text/html", "") for output in outputs])
    figures = [output for output in outputs if publish.PLOTLY in output.get("data", {})]
    assert len(figures) >= 2, "what needs no benchmark is shown"
