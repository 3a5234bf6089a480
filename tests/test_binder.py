"""Binder: repo2docker reads the readers' set with a CPU torch, the launch grants threads, the image stays small."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

sys.path.insert(0, str(ROOT / "tools"))
import image_size

BINDER = ROOT / "binder"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if re.match(r"\w", line)]


def test_binder_installs_the_readers_set_with_a_cpu_torch() -> None:
    lines = [line for line in (BINDER / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    index, torch, readers = lines
    assert index == "--extra-index-url https://download.pytorch.org/whl/cpu"
    assert readers == "-r ../requirements.txt"
    (pinned,) = (pin for pin in PINS if pin.name == "torch")
    wanted = Requirement(torch)
    (clause,) = wanted.specifier
    assert wanted.name == "torch" and Version(clause.version).local == "cpu"
    assert clause.version in pinned.specifier, "pip has to satisfy both lines"


def test_no_file_there_makes_repo2docker_read_something_else() -> None:
    """Any of these would go before requirements.txt, or add to it."""
    names = {path.name for path in BINDER.iterdir()}
    assert names == {"requirements.txt", "runtime.txt", "postBuild", "start", "jupyterlab"}
    python = re.fullmatch(r"python-(3\.\d+)\n", (BINDER / "runtime.txt").read_text())
    assert python and f"{python[1]}.0" in SpecifierSet(PROJECT["requires-python"])
    assert f"python={python[1]}" in (ROOT / "environment.yml").read_text()
    for script in ("postBuild", "start"):
        assert os.access(BINDER / script, os.X_OK)
        assert (BINDER / script).read_text().startswith("#!/usr/bin/env bash\n")


def test_the_image_gives_jupyterlab_the_settings_of_make_lab(tmp_path: Path) -> None:
    """Python is a stand-in that installs nothing and tells another prefix."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$1" in -c) echo {tmp_path} ;; -m) ;; *) exit 1 ;; esac\n')
    python.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([BINDER / "postBuild"], cwd=ROOT, env=env, capture_output=True, check=True)
    told = json.loads((tmp_path / "share" / "jupyter" / "lab" / "settings" / "overrides.json").read_text())
    assert "--LabApp.app_settings_dir=binder/jupyterlab " in (ROOT / "Makefile").read_text()
    labapp = pytest.importorskip("jupyterlab.labapp")
    schemas = Path(labapp.LabApp().schemas_dir)
    for plugin, values in told.items():
        package, name = plugin.split(":")
        known = json.loads((schemas / package / f"{name}.json").read_text())["properties"]
        for key, value in values.items():
            assert value in [one["const"] for one in known[key]["oneOf"]]


@pytest.mark.parametrize(
    ("limit", "quota", "expected"),
    [
        ("1", None, "1"),
        ("2.0", None, "2"),
        ("0.5", None, "1"),
        ("many", None, "1"),
        ("2", "100000 100000", "2"),
        ("", "200000 100000", "2"),
        ("", "150000 100000", "1"),
        ("", "50000 100000", "1"),
        ("", "max 100000", "1"),
        ("", None, "1"),
    ],
)
def test_start_sets_the_threads_to_the_cores_granted(
    tmp_path: Path, limit: str, quota: str | None, expected: str
) -> None:
    if quota:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    env = {"PATH": os.environ["PATH"], "CGROUP": str(tmp_path)} | ({"CPU_LIMIT": limit} if limit else {})
    done = subprocess.run([BINDER / "start", "env"], env=env, capture_output=True, text=True, check=True)
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    threads = {name: value for name, value in said.items() if name.endswith("_NUM_THREADS")}
    assert len(threads) == 4 and set(threads.values()) == {expected}
    assert said["TOKENIZERS_PARALLELISM"] == "false"


def test_start_hands_on_the_command_as_it_is() -> None:
    command = [BINDER / "start", sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(3)", "a b", "*"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "['a b', '*']\n")


# --- the image's size ----------------------------------------------------------------------------------------------


def test_a_size_is_what_compressing_everything_gives(tmp_path: Path) -> None:
    noise, text = os.urandom(3_000_000), b"the cat sees the dog. " * 150_000
    files = []
    for i in range(6):
        files.append(tmp_path / f"{i}.bin")
        files[-1].write_bytes(noise if i % 2 else text)
    found = image_size.size("x", files)
    assert found.disk == pytest.approx(sum(path.stat().st_size for path in files) / 1e6)
    full = image_size.size("x", files, step=1)
    assert 9.0 < full.packed < 9.2
    assert found.packed == pytest.approx(full.packed, rel=0.15)
    assert image_size.size("nothing", []).packed == 0


def test_the_readers_set_is_what_is_counted() -> None:
    names = {name.lower() for name in image_size.pins()}
    assert {"torch", "transformers", "jupyterlab", "plotly"} <= names
    assert not names & {"pytest", "ruff", "mypy", "playwright", "kaleido", "jupytext"}
    assert not [name for name in names if name.startswith(("nvidia-", "cuda-", "triton"))]
    assert any(path.suffix == ".so" for path in image_size.installed("numpy"))


def test_the_image_stays_under_its_limit(capsys: pytest.CaptureFixture[str]) -> None:
    here = {canonicalize_name(found.name) for found in metadata.distributions()}
    if absent := {canonicalize_name(name) for name in image_size.pins()} - here:
        pytest.skip(f"the tested set is not installed here, without {', '.join(sorted(absent))}")
    assert image_size.main([]) == 0
    printed = capsys.readouterr().out
    together = re.search(r"\*\*together\*\* \|  \| \*\*(\d+)\*\*", printed)
    assert together and 1000 < int(together[1]) < 1500
    rows = dict(re.findall(r"\| ([\w.-]+) \| (\d+) \| \d+ \|", printed))
    # A CPU build; the build with CUDA takes more than a gigabyte by itself.
    assert 300 < int(rows["torch"]) < 900
