"""Where the course lives: one setting, and every badge, link and install command that follows from it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import badges
import publish

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOME = PROJECT["tool"]["xlt_tutorial"]
ADDRESSES = {
    "colab": re.compile(r"colab\.research\.google\.com/github/([^/]+/[^/]+)/blob/([^/]+)/([^)\s]+)"),
    "binder": re.compile(r"mybinder\.org/v2/gh/([^/]+/[^/]+)/([^?]+)\?urlpath=lab/tree/([^)\s]+)"),
    "install": re.compile(r"git\+https://github\.com/([^@]+)@([^\"\\]+)()"),
}


def said(text: str) -> dict[str, set[tuple[str, str, str]]]:
    """Repository, tag and path of every address in a text."""
    return {kind: set(pattern.findall(text)) for kind, pattern in ADDRESSES.items()}


def expected(path: str, repository: str, tag: str) -> dict[str, set[tuple[str, str, str]]]:
    return {"colab": {(repository, tag, path)}, "binder": {(repository, tag, path)}, "install": {(repository, tag, "")}}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_says_where_the_course_lives(path: Path) -> None:
    assert said(path.read_text()) == expected(f"notebooks/{path.name}", **HOME)


def test_the_readme_has_both_badges() -> None:
    found = said((ROOT / "README.md").read_text())
    assert found == expected("notebooks/00_start_here.ipynb", **HOME) | {"install": set()}
    assert len(re.findall(r"\[!\[Open in \w+\]\(https://\S+\.svg\)\]\(https://", (ROOT / "README.md").read_text())) == 2


def test_no_other_page_says_something_else() -> None:
    listed = subprocess.run(["git", "ls-files", "*.md", "*.cff", "*.toml", "*.yml"], cwd=ROOT, capture_output=True)
    for name in listed.stdout.decode().split():
        for kind, found in said((ROOT / name).read_text()).items() if (ROOT / name).exists() else ():
            assert {place[:2] for place in found} <= {(HOME["repository"], HOME["tag"])}, (name, kind)


def test_the_tag_is_this_version() -> None:
    assert HOME["tag"] == f"v{PROJECT['project']['version']}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of what holds the setting, with notebooks 00 and 04 as they are published, in short."""
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "notebooks").mkdir()
    for source in publish.sources(["00", "04"]):
        notebook = publish.read_source(source)
        notebook.metadata["xlt"] = {"source_sha256": publish.sha256(source), "seconds": 60, "peak_memory_mb": 1000}
        for count, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
            cell.update(execution_count=count, outputs=[nbformat.v4.new_output("stream", text="é, 図: done\n")])
        publish.write(notebook, tmp_path / "notebooks" / f"{source.stem}.ipynb")
    return tmp_path


def test_one_command_moves_the_course(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = root / "notebooks" / "04_embedding_push.ipynb"
    before = nbformat.read(notebook, 4)
    assert badges.main(["--repo", "jane/a.course", "--tag", "v2.0"], root) == 0
    assert "not set" not in capsys.readouterr().out
    assert said(notebook.read_text()) == expected("notebooks/04_embedding_push.ipynb", "jane/a.course", "v2.0")
    assert said((root / "README.md").read_text())["binder"] == {
        ("jane/a.course", "v2.0", "notebooks/00_start_here.ipynb")
    }
    after = nbformat.read(notebook, 4)
    changed = [i for i, (old, new) in enumerate(zip(before.cells, after.cells, strict=True)) if old != new]
    first = next(i for i, cell in enumerate(after.cells) if cell.cell_type == "code")
    assert changed == [0, first]
    for i in changed:
        assert {key for key in after.cells[i] if after.cells[i][key] != before.cells[i][key]} == {"source"}
    assert after.metadata == before.metadata
    texts = {path: path.read_text() for path in root.rglob("*.*") if path.is_file()}
    assert badges.main([], root) == badges.main(["--check"], root) == 0
    assert {path: path.read_text() for path in texts} == texts
    settings = tomllib.loads(texts[root / "pyproject.toml"])
    assert settings["tool"].pop("xlt_tutorial") == {"repository": "jane/a.course", "tag": "v2.0"}
    assert settings["project"] == PROJECT["project"]


def test_the_way_back_restores_every_byte(root: Path) -> None:
    badges.main([], root)
    texts = {path: path.read_text() for path in root.rglob("*.*") if path.is_file()}
    badges.main(["--repo", "jane/course"], root)
    assert {path for path in texts if path.read_text() != texts[path]} == set(texts)
    badges.change(root, **HOME)
    badges.main([], root)
    assert {path: path.read_text() for path in texts} == texts


@pytest.mark.parametrize("name", ["README.md", "notebooks/04_embedding_push.ipynb"])
def test_check_finds_what_was_changed_by_hand(root: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    badges.main([], root)
    text = (root / name).read_text()
    (root / name).write_text(text.replace(f"gh/{HOME['repository']}", "gh/someone/else"))
    assert badges.main(["--check"], root) == 1
    assert f"{Path(name).name}: NOT up to date: make badges" in capsys.readouterr().out
    assert "someone/else" in (root / name).read_text()


def test_a_stand_in_is_called_one(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    badges.change(root, repository="owner.not.set/course")
    badges.main(["--check"], root)
    assert "owner is not set: make badges REPO=owner/name" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["jane", "jane/a/b", "https://github.com/jane/a", "jane/a b", 'jane/a"', "j.d/a"])
def test_a_wrong_name_changes_nothing(root: Path, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = (root / "pyproject.toml").read_text()
    with pytest.raises(SystemExit):
        badges.main(["--repo", wrong], root)
    assert "is not owner/name" in capsys.readouterr().err
    assert (root / "pyproject.toml").read_text() == before
