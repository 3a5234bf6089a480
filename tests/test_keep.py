"""Work kept in one file: what is packed, that it comes back, and what a hostile or a broken file cannot do."""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xlt_tutorial import keep
from xlt_tutorial.cli import app
from xlt_tutorial.errors import XltError


def put(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def tree(root: Path) -> dict[str, str]:
    found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in found.items() if not name.startswith(".git/")}


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """A folder with two published notebooks, known to git, and a run that git ignores."""
    root = tmp_path / "course"
    put(
        root, {"notebooks/00_a.ipynb": "a", "notebooks/01_b.ipynb": "b", "README.md": "readme", ".gitignore": "runs/\n"}
    )
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t.invalid"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "."]):
        subprocess.run([*git, *command], cwd=root, check=True)
    return root


def zipped(path: Path, files: dict[str, str], ours: bool = True) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        if ours:
            archive.writestr(keep.NOTE, "{}")
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_changed_and_new_notebooks_and_runs_are_packed_and_come_back(course: Path, tmp_path: Path) -> None:
    put(course, {"notebooks/01_b.ipynb": "b, answered: é", "notebooks/mine.ipynb": "new", "runs/x/result.json": "{}"})
    put(course, {"notebooks/.ipynb_checkpoints/01_b-checkpoint.ipynb": "copy", "README.md": "mine", "notes.txt": "no"})
    saved = keep.save(tmp_path / "work.zip", course)
    assert saved.packed == ("notebooks/01_b.ipynb", "notebooks/mine.ipynb", "runs/x/result.json")
    assert saved.left_out == ()
    assert "holds 3 files" in str(saved) and "xlt restore" in str(saved)

    new = tmp_path / "new"
    put(new, {"notebooks/00_a.ipynb": "a", "notebooks/01_b.ipynb": "b"})
    restored = keep.restore(tmp_path / "work.zip", new)
    assert tree(new) == {
        "notebooks/00_a.ipynb": "a",
        "notebooks/01_b.ipynb": "b, answered: é",
        "notebooks/01_b.old-1.ipynb": "b",
        "notebooks/mine.ipynb": "new",
        "runs/x/result.json": "{}",
    }
    assert restored.kept == {"notebooks/01_b.ipynb": "notebooks/01_b.old-1.ipynb"}
    assert "what was there is now notebooks/01_b.old-1.ipynb" in str(restored)
    again = keep.restore(tmp_path / "work.zip", new)
    assert (again.written, again.kept, len(again.same)) == ((), {}, 3)
    put(new, {"notebooks/01_b.ipynb": "newer"})
    assert list(keep.restore(tmp_path / "work.zip", new).kept.values()) == ["notebooks/01_b.old-2.ipynb"]
    assert (new / "notebooks" / "01_b.old-2.ipynb").read_text() == "newer"


def test_a_notebooks_own_folder_is_the_same_course(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(course, {"notebooks/01_b.ipynb": "answered", "notebooks/runs/r.json": "1"})
    monkeypatch.chdir(course / "notebooks")
    saved = keep.save()
    assert saved.packed == ("notebooks/01_b.ipynb", "notebooks/runs/r.json")
    assert '<a href="work.zip" download>Download work.zip</a>' in saved._repr_html_()
    assert keep.restore("work.zip").same == saved.packed


def test_without_git_every_notebook_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, {"course/notebooks/00_a.ipynb": "a", "course/x.ipynb": "x"})
    monkeypatch.setenv("PATH", "")
    assert keep.save(tmp_path / "w.zip", tmp_path / "course").packed == ("notebooks/00_a.ipynb", "x.ipynb")


def test_nothing_to_pack_is_said_and_leaves_no_file(course: Path, tmp_path: Path) -> None:
    with pytest.raises(XltError, match=r"No changed notebook and no run in .*: save the notebook in Jupyter first"):
        keep.save(tmp_path / "work.zip", course)
    assert not list(tmp_path.glob("work*"))


def test_large_files_are_left_out_and_named(course: Path, tmp_path: Path) -> None:
    put(course, {"notebooks/01_b.ipynb": "answered", "runs/old.json": "o" * 600, "runs/new.json": "n" * 600})
    os.utime(course / "runs" / "old.json", (1, 1))
    put(course, {"runs/model.safetensors": "x" * (int(keep.FILE_MB * 1e6) + 1)})
    saved = keep.save(tmp_path / "work.zip", course, limit_mb=0.001)
    assert saved.packed == ("notebooks/01_b.ipynb", "runs/new.json")
    assert set(saved.left_out) == {"runs/model.safetensors", "runs/old.json"}
    assert "Too large, left out: runs/model.safetensors" in str(saved)
    assert "runs/model.safetensors" in keep.save(tmp_path / "work.zip", course, limit_mb=1000).left_out


def test_links_are_not_followed(course: Path, tmp_path: Path) -> None:
    put(tmp_path, {"secret.ipynb": "secret"})
    put(course, {"notebooks/01_b.ipynb": "answered"})
    (course / "notebooks" / "link.ipynb").symlink_to(tmp_path / "secret.ipynb")
    assert keep.save(tmp_path / "work.zip", course).packed == ("notebooks/01_b.ipynb",)


@pytest.mark.parametrize(
    "name",
    [
        "../up.ipynb",
        "notebooks/../../up.ipynb",
        "/abs.ipynb",
        "notebooks\\..\\..\\up.ipynb",
        "C:up.ipynb",
        "runs/../../x",
    ],
)
def test_no_path_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    file = zipped(tmp_path / "bad.zip", {"notebooks/fine.ipynb": "fine", name: "bad"})
    put(tmp_path, {"course/notebooks/00_a.ipynb": "a"})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(XltError, match="outside the course's folder"):
        keep.restore(file, tmp_path / "course")
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/abs.ipynb").exists()


@pytest.mark.parametrize(
    "name", [".bashrc", ".ipython/profile_default/startup/x.ipynb", "binder/start", "a.py", "notebooks/.x/a.ipynb"]
)
def test_only_what_save_packs_is_restored(tmp_path: Path, name: str) -> None:
    with pytest.raises(XltError, match="never packs"):
        keep.restore(zipped(tmp_path / "bad.zip", {name: "x"}), tmp_path)
    assert not (tmp_path / name).exists()


def test_a_link_in_the_folder_or_in_the_file_leads_nowhere(tmp_path: Path) -> None:
    put(tmp_path, {"course/notebooks/00_a.ipynb": "a", "elsewhere/x.ipynb": "theirs"})
    (tmp_path / "course" / "runs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(XltError, match="outside"):
        keep.restore(zipped(tmp_path / "a.zip", {"runs/x.ipynb": "mine"}), tmp_path / "course")
    link = zipfile.ZipInfo("notebooks/l.ipynb")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr(keep.NOTE, "{}")
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(XltError, match="holds a link"):
        keep.restore(tmp_path / "b.zip", tmp_path / "course")
    # A file that is a link is renamed; what it points to stays.
    (tmp_path / "course" / "notebooks" / "x.ipynb").symlink_to(tmp_path / "elsewhere" / "x.ipynb")
    keep.restore(zipped(tmp_path / "c.zip", {"notebooks/x.ipynb": "mine"}), tmp_path / "course")
    assert (tmp_path / "elsewhere" / "x.ipynb").read_text() == "theirs"
    assert (tmp_path / "course" / "notebooks" / "x.ipynb").read_text() == "mine"


def test_a_small_zip_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "UNPACKED_MB", 0.01)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(keep.NOTE, "{}")
        archive.writestr("notebooks/a.ipynb", "0" * 1_000_000)
    with pytest.raises(XltError, match="unpacks to more than"):
        keep.restore(tmp_path / "bomb.zip", tmp_path)
    assert not (tmp_path / "notebooks").exists()


def test_broken_absent_and_foreign_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "half.zip").write_bytes(zipped(tmp_path / "w.zip", {"notebooks/a.ipynb": "a"}).read_bytes()[:60])
    for name in ("half.zip", "absent.zip"):
        with pytest.raises(XltError, match=r"cannot be read as a zip .*: download it again"):
            keep.restore(tmp_path / name, tmp_path)
    spoilt = bytearray(zipped(tmp_path / "w.zip", {"notebooks/a.ipynb": "content " * 9}).read_bytes())
    spoilt[spoilt.index(b"content ") + 20] ^= 1
    (tmp_path / "spoilt.zip").write_bytes(bytes(spoilt))
    with pytest.raises(XltError, match=r"cannot be read as a zip \(Bad CRC"):
        keep.restore(tmp_path / "spoilt.zip", tmp_path)
    with pytest.raises(XltError, match="not written by `xlt save`"):
        keep.restore(zipped(tmp_path / "theirs.zip", {"a.ipynb": "x"}, ours=False), tmp_path)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "w.zip", "a") as archive:
        archive.writestr("notebooks/a.ipynb", "again")
    with pytest.raises(XltError, match="holds a path twice"):
        keep.restore(tmp_path / "w.zip", tmp_path)
    assert not (tmp_path / "notebooks").exists()


def test_on_the_command_line(course: Path, tmp_path: Path) -> None:
    put(course, {"notebooks/01_b.ipynb": "answered"})
    file = tmp_path / "w.zip"
    done = CliRunner().invoke(app, ["save", str(file), "--folder", str(course)])
    assert done.exit_code == 0 and "holds 1 file:" in done.output
    with zipfile.ZipFile(file) as archive:
        assert json.loads(archive.read(keep.NOTE))["files"] == ["notebooks/01_b.ipynb"]
    put(course, {"notebooks/01_b.ipynb": "spoilt"})
    done = CliRunner().invoke(app, ["restore", str(file), "--folder", str(course)])
    assert done.exit_code == 0 and "01_b.old-1.ipynb" in done.output
    assert (course / "notebooks" / "01_b.ipynb").read_text() == "answered"
    done = CliRunner().invoke(app, ["restore", str(tmp_path / "none.zip")])
    assert done.exit_code == 1 and "Error: " in done.output
