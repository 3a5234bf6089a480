"""The first cell of every notebook: on Colab it fetches the package; elsewhere it says what a kernel lacks."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from nbformat import NotebookNode

sys.path.insert(0, str(ROOT / "tools"))
import publish

SOURCES = publish.sources()
HOME = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["xlt_tutorial"]
CELL = next(cell for cell in publish.read_source(SOURCES[0]).cells if cell.cell_type == "code").source
# A kernel of this interpreter in which nothing that is installed can be found any more.
FORGET = """
import sys
sys.path[:] = [folder for folder in sys.path if folder.startswith(sys.base_prefix) and "-packages" not in folder]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
"""
# Only this package is not found; what it needs is, and what pip knows of it.
HIDE = f"""
import sys
sys.path[:] = [folder for folder in sys.path if folder not in ("", {str(ROOT)!r})]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
"""
COLAB = """
import sys, types
google, colab, output = (types.ModuleType(n) for n in ("google", "google.colab", "google.colab.output"))
output.enable_custom_widget_manager = lambda: print("WIDGETS ON")
google.colab, colab.output = colab, output
sys.modules |= {"google": google, "google.colab": colab, "google.colab.output": output}
"""
# In pip's place: writes down what it is asked, and, where it shall, puts the package where the kernel finds it.
PIP = """
import json, os, sys
from pathlib import Path
here = Path(__file__).parent
(here / "asked.json").write_text(json.dumps([*json.loads((here / "asked.json").read_text()), sys.argv[1:]]))
if os.environ["PIP_WORKS"] == "no":
    sys.exit("ERROR: Repository not found.")
os.symlink(os.environ["PACKAGE"], here / "xlt_tutorial")
"""
LOADED = "\nprint('LOADED', sorted({'torch', 'numpy', 'transformers', 'pandas'} & set(sys.modules)))"


class Kernel:
    """Runs code and the cell after it in a new process whose pip only writes down what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pip.py").write_text(PIP)
        (folder / "asked.json").write_text("[]")

    def run(self, before: str = "", after: str = "", pip_works: bool = True) -> tuple[list[str], list[str]]:
        """Return what was printed, and the last line of an error."""
        (self.folder / "cell.py").write_text("\n".join([before, CELL, after]))
        env = {"PYTHONPATH": str(self.folder), "PACKAGE": str(ROOT / "xlt_tutorial"), "PATH": "/usr/bin:/bin"}
        env |= {"PIP_WORKS": "yes" if pip_works else "no", "PYTHONSAFEPATH": "1"}
        done = subprocess.run(
            [sys.executable, "cell.py"], cwd=self.folder, env=env, capture_output=True, text=True, timeout=120
        )
        errors = done.stderr.splitlines()
        assert bool(errors) == bool(done.returncode), done.stderr
        return done.stdout.splitlines(), errors[-1:]

    @property
    def asked(self) -> list[list[str]]:
        """The arguments of each call of pip."""
        return json.loads((self.folder / "asked.json").read_text())


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_notebook_starts_with_it_and_no_source_holds_it(source: Path) -> None:
    code = [cell for cell in publish.read_source(source).cells if cell.cell_type == "code"]
    assert [i for i, cell in enumerate(code) if "first-cell" in cell.metadata.get("tags", [])] == [0]
    assert code[0].source == CELL
    assert "first-cell" not in source.read_text()
    folded = code[0].metadata
    assert folded["jupyter"] == {"source_hidden": True} and folded["cellView"] == "form"


def test_it_is_short_and_names_the_one_setting() -> None:
    assert len(CELL.splitlines()) <= 40
    assert 'git+https://github.com/{repository}@{tag}"'.format(**HOME) in CELL
    assert "OWNER/NAME" not in CELL


# --- on Colab ------------------------------------------------------------------------------------------------------


def test_colab_installs_the_tagged_package_by_its_ranges_alone(kernel: Kernel) -> None:
    printed, errors = kernel.run(HIDE + COLAB, LOADED)
    assert errors == []
    assert kernel.asked == [
        ["install", "-q", "xlt-tutorial @ git+https://github.com/{repository}@{tag}".format(**HOME)]
    ]
    assert printed == ["Installing the course's package takes about a minute.", "WIDGETS ON", "LOADED []"]


def test_colab_installs_once(kernel: Kernel) -> None:
    printed, errors = kernel.run(COLAB)
    assert (printed, errors, kernel.asked) == (["WIDGETS ON"], [], [])
    kernel.run(HIDE + COLAB)
    again, errors = kernel.run(HIDE + COLAB)
    assert (again, errors, len(kernel.asked)) == (["WIDGETS ON"], [], 1)


def test_colab_tells_when_pip_fails(kernel: Kernel) -> None:
    printed, (sentence,) = kernel.run(HIDE + COLAB, pip_works=False)
    assert "WIDGETS ON" not in printed
    assert re.fullmatch(
        r"\S*NotReady: pip could not install 'xlt-tutorial @ git\+https://github\.com/\S+@\S+'; "
        r"its last words were: ERROR: Repository not found\.",
        sentence,
    )


# --- elsewhere -----------------------------------------------------------------------------------------------------


def test_where_all_is_well_it_says_nothing_and_loads_nothing(kernel: Kernel) -> None:
    clock = "\nimport time\nprint('CPU', time.process_time() < 1)"
    assert kernel.run("", LOADED + clock) == (["LOADED []", "CPU True"], [])
    assert kernel.asked == []


def test_without_the_package_nothing_is_installed_but_on_colab(kernel: Kernel) -> None:
    _, (sentence,) = kernel.run(HIDE)
    assert kernel.asked == []
    assert re.search(
        r"NotReady: This kernel \(\S*python\S*\) has no xlt_tutorial: choose .* or run `make lab` in [^.]*\.$", sentence
    )


def test_what_is_missing_or_of_another_range_is_told_in_one_sentence(kernel: Kernel) -> None:
    lies = """
from importlib import metadata
true = metadata.version
def version(name):
    if name == "umap-learn":
        raise metadata.PackageNotFoundError(name)
    return "1.26.4" if name == "numpy" else true(name)
metadata.version = version
"""
    _, (sentence,) = kernel.run(lies)
    found, advice = sentence.split(": run ", 1)
    assert re.search(r"NotReady: This kernel \(\S+\) has numpy 1\.26\.4 instead of \S+, no umap-learn$", found)
    asked = re.match(r'`%pip install "(numpy\S+)" "(umap-learn\S+)"` in a cell and restart the kernel, or ', advice)
    wanted = {
        re.sub(r"\s", "", text)
        for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    assert asked
    for text in asked.groups():
        name, *clauses = re.split(r"(?=[<>])|,", text)
        assert any(
            line.startswith(name) and set(filter(None, clauses)) <= set(re.split(r"(?=[<>])|,", line))
            for line in wanted
        )
    assert sentence.count(". ") == 0 and sentence.endswith("choose the kernel of .venv.")


def first_cell_after(code: str) -> list[NotebookNode]:
    """Outputs of the first cell in a kernel that has run some code before."""
    cells = [nbformat.v4.new_code_cell(text) for text in (code, CELL)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, kernel_name="python3", timeout=120, allow_errors=True).execute()
    return list(notebook.cells[1].outputs)


def test_jupyter_shows_the_sentence_alone() -> None:
    (output,) = first_cell_after(FORGET)
    assert output.output_type == "error"
    (sentence,) = output.traceback  # what JupyterLab shows
    assert re.fullmatch(r"This kernel \(\S*python\S*\) has no xlt_tutorial: choose the kernel of \.venv .*\.", sentence)


def test_the_right_kernel_is_told_nothing() -> None:
    assert first_cell_after("") == []


def test_a_python_without_any_packages_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cell.py").write_text(CELL)
    done = subprocess.run([sys.executable, "-I", "-S", "cell.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "has no xlt_tutorial: " in done.stderr.splitlines()[-1]
