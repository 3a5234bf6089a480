"""The tables of the notebooks: what the heads say and what publishing measured, and no older text."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import contents
import publish

HEAD = """# %% [markdown]
# # Count the cats
#
# What cats cost, and
# why.
#
# **What you will learn**
# - how to count;
# - why a long objective that
#   takes two lines is one.
#
# **What you need**: patience.

# %%
1 + 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "_first_cell.py").write_text("import sys\n")
    for name, seconds in (("00_cats", 42), ("01_dogs", 200)):
        (tmp_path / "src" / f"{name}.py").write_text(HEAD.replace("cats", name[3:]).replace("1 + 1", f"1 + {seconds}"))
        cost = {"seconds": seconds, "peak_memory_mb": 1234}
        nbformat.write(nbformat.v4.new_notebook(metadata={"xlt": cost}), tmp_path / f"{name}.ipynb")
    return tmp_path


def test_entries_are_the_heads_and_the_costs(folder: Path) -> None:
    source = folder / "src" / "01_dogs.py"
    rows = [
        {"what": "notebook 01", "cores": 1, "seconds": 290.0, "source": publish.code_sha256(source)},
        {"what": "notebook 01", "cores": 2, "seconds": 190.0, "source": publish.code_sha256(source)},
        {"what": "notebook 01", "cores": 2, "seconds": 20.0, "source": publish.code_sha256(source)},  # kept results
        {"what": "notebook 00", "cores": 1, "seconds": 99.0, "source": "of another version"},
    ]
    (folder / "processes.json").write_text(json.dumps({"whole": rows}))
    cats, dogs = contents.entries(folder, folder / "processes.json")
    assert (cats.name, cats.title, cats.subtitle) == ("00_cats", "Count the cats", "What cats cost, and why.")
    assert cats.objectives == ("how to count", "why a long objective that takes two lines is one")
    assert (cats.memory_mb, cats.one_core, cats.two_cores) == (1234, None, None)
    assert (dogs.one_core, dogs.two_cores) == (290.0, 190.0)
    text = contents.page([cats, dogs])
    assert "| [01_dogs](01_dogs.ipynb) | Count the dogs | 5 | 3 | 1.2 |" in text
    assert "| [00_cats](00_cats.ipynb) | Count the cats | - | - | 1.2 |" in text
    assert "## [00 Count the cats](00_cats.ipynb)\n\nWhat cats cost, and why.\n\n- how to count\n- why a long" in text


def test_the_readme_is_changed_between_the_marks_alone(folder: Path) -> None:
    rows = [
        {"what": stem, "cores": 1, "seconds": seconds, "source": publish.code_sha256(folder / "src" / f"{stem}.py")}
        for stem, seconds in (("00_cats", 42.0), ("01_dogs", 200.0))
    ]
    (folder / "processes.json").write_text(json.dumps({"whole": rows}))
    found = contents.entries(folder, folder / "processes.json")
    text = contents.readme(found, f"before\n\n{contents.BEGIN}old\n{contents.END}\n\nafter\n")
    assert text.startswith(f"before\n\n{contents.BEGIN}") and text.endswith(f"{contents.END}\n\nafter\n")
    assert "old" not in text and "| [00_cats](notebooks/00_cats.ipynb) | What cats cost, and why. | under 1 |" in text
    assert "All of them run for 4 minutes on one core." in text, "42 and 200 seconds"
    assert "| what it shows | minutes on one core |" in text and "two cores" not in text
    assert contents.readme(found, text) == text
    unmeasured = contents.readme(contents.entries(folder, folder / "none.json"), text)
    assert "All of them" not in unmeasured and "| What cats cost, and why. | - |" in unmeasured


def test_the_tables_of_the_course_are_up_to_date() -> None:
    assert contents.main(["--check"]) == 0
    linked = {line.split("](")[0][3:] for line in contents.PAGE.read_text().splitlines() if line.startswith("| [")}
    assert linked == {path.stem for path in publish.sources()}
