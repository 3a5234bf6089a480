"""The offline archive: a tiny course with wheels made on the fly, packed, unpacked, spoilt and installed for real.

The whole archive is tried by ``make test-bundle``, in a network namespace without routes; it takes minutes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import bundle
from packaging.requirements import Requirement

SETUPTOOLS = metadata.version("setuptools")
FILES = {
    "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    '[project]\nname = "xlt-tutorial"\nversion = "0.1.0"\n[tool.setuptools]\npackages = ["xlt_tutorial"]\n',
    "requirements.txt": "# The set.\nalpha-thing==1.0\nnowhere==3.0; sys_platform == 'nowhere'\n"
    f"setuptools=={SETUPTOOLS}\n",
    "xlt_tutorial/__init__.py": "",
    "xlt_tutorial/doctor.py": "import alpha_thing\n\n\ndef complaint():\n    return alpha_thing.COMPLAINT\n",
    "notebooks/00_start_here.ipynb": "{}\n",
    "notebooks/naïve name.txt": "ünïcode\n",
    "build/left.txt": "made\n",
    "dist/old.tar": "made\n",
    "runs/one/model.bin": "made\n",
    "xlt_tutorial/__pycache__/doctor.pyc": "made\n",
    "xlt_tutorial.egg-info/PKG-INFO": "made\n",
    ".venv/secret": "made\n",
}


def wheel(folder: Path, name: str, version: str, code: str = "", needs: str = "") -> Path:
    """Write a wheel of one module."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    needed = f"Requires-Dist: {needs}\n" if needs else ""
    files = {
        f"{module}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for where, text in files.items():
            archive.writestr(where, text)
    return path


def packed(folder: Path, name: str) -> None:
    """Write a wheel of an installed package."""
    held = metadata.distribution(name)
    info = next(str(path.parent) for path in held.files or [] if path.name == "WHEEL")
    with zipfile.ZipFile(
        folder / f"{name}-{held.version}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED, compresslevel=1
    ) as archive:
        kept = []
        for path in held.files or []:
            if ".." in path.parts or path.suffix == ".pyc" or path.name in {"INSTALLER", "REQUESTED", "RECORD"}:
                continue
            archive.write(path.locate(), str(path))
            kept.append(f"{path},,\n")
        archive.writestr(f"{info}/RECORD", "".join([*kept, f"{info}/RECORD,,\n"]))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The only place where pip finds wheels here."""
    folder = tmp_path_factory.mktemp("shelf")
    wheel(folder, "alpha-thing", "1.0", 'COMPLAINT = ""\n')
    for name in ("pip", "setuptools"):
        packed(folder, name)
    return folder


@pytest.fixture
def alone(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip looks at the shelf and nowhere else."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(shelf), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny course that is in no repository."""
    root = tmp_path_factory.mktemp("course")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def archive(course: Path, shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny course's archive; the environment is put back at once, for the other tests of the module."""
    patch = pytest.MonkeyPatch()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(shelf), "CONFIG_FILE": os.devnull}.items():
        patch.setenv(f"PIP_{name}", value)
    try:
        return bundle.bundle(course, tmp_path_factory.mktemp("dist"))
    finally:
        patch.undo()


@pytest.fixture
def unpacked(archive: Path, tmp_path: Path) -> Path:
    """The archive unpacked as INSTALL.txt says, by tar."""
    home = tmp_path / "a room with spaces"
    home.mkdir()
    subprocess.run(["tar", "-xf", str(archive)], cwd=home, check=True)
    (folder,) = home.iterdir()
    return folder


def ran(folder: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the installer with this Python."""
    command = [sys.executable, str(folder / "install.py"), *options]
    return subprocess.run(command, env=os.environ | env, capture_output=True, text=True)


def refused(folder: Path, *options: str) -> str:
    """Return why the installer refuses; it must not have begun, nor shown a traceback."""
    done = ran(folder, *options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and not (folder / "course" / ".venv").exists()
    return done.stderr


# --- what is in it --------------------------------------------------------------------------------------------------


def test_the_archive_holds_the_wheels_of_the_pins_the_course_and_the_sums(archive, unpacked):
    version = f"py{sys.version_info[0]}{sys.version_info[1]}"
    assert re.fullmatch(rf"xlt-tutorial-0\.1\.0-[a-z0-9]+-\w+-{version}\.tar", archive.name)
    wheels = sorted(path.name.split("-")[0] for path in (unpacked / "wheels").iterdir())
    assert wheels == ["alpha_thing", "pip", "setuptools"]
    course = {
        path.relative_to(unpacked / "course").as_posix() for path in (unpacked / "course").rglob("*") if path.is_file()
    }
    made = ("build/", "dist/", "runs/", ".venv/")
    assert course == {
        name for name in FILES if not name.startswith(made) and "pycache" not in name and "egg" not in name
    }
    sums = dict(
        line.split("  ", 1)[::-1] for line in (unpacked / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    )
    every = {path.relative_to(unpacked).as_posix(): path for path in unpacked.rglob("*") if path.is_file()}
    assert sums.keys() == every.keys() - {"SHA256SUMS"}
    assert all(hashlib.sha256(every[name].read_bytes()).hexdigest() == told for name, told in sums.items())
    text = (unpacked / "INSTALL.txt").read_text(encoding="utf-8")
    assert "sh install.sh" in text and "{" not in text
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in text


def test_the_archive_has_its_own_sum_beside_it(archive):
    told = archive.with_suffix(".tar.sha256").read_text()
    assert told == f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive.name}\n"


def test_two_archives_of_one_course_are_the_same_bytes(archive, course, alone, tmp_path):
    """Whatever the dates and owners of the files are; and the second fetches nothing."""
    time.sleep(0.01)
    for path in course.rglob("*"):
        if path.is_file() and path.suffix != ".whl":
            os.utime(path)
    os.environ["PIP_FIND_LINKS"] = str(tmp_path)
    assert bundle.bundle(course, tmp_path).read_bytes() == archive.read_bytes()
    with tarfile.open(archive) as tar:
        names = [entry.name for entry in tar]
        assert all(entry.isreg() and (entry.uid, entry.gid, entry.mtime, entry.uname) == (0, 0, 0, "") for entry in tar)
    top = archive.name.removesuffix(".tar")
    assert all(name.startswith(f"{top}/") for name in names) and names[-1] == f"{top}/SHA256SUMS"
    body = [name for name in names if "/wheels/" in name or "/course/" in name]
    assert body == sorted(body, key=lambda name: ("/course/" in name, name))


def test_in_a_repository_only_what_git_tracks_goes_in(tmp_path):
    for name in ("tracked.txt", "gone.txt", "untracked.txt", "exam-answers.md"):
        (tmp_path / name).write_text(name)
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), "add", "tracked.txt", "gone.txt"], check=True)
    (tmp_path / "gone.txt").unlink()
    assert bundle.course_files(tmp_path) == ["tracked.txt"]


def test_a_folder_of_the_readers_own_goes_beside_the_notebooks(course, alone, tmp_path):
    own = tmp_path / "my data"
    (own / "more").mkdir(parents=True)
    (own / "test.de.tsv").write_text("id\ttext\tlabel\n")
    (own / "more" / "notes.txt").write_text("x")
    with tarfile.open(bundle.bundle(course, tmp_path / "dist", [own])) as tar:
        names = {name.partition("/course/")[2] for name in tar.getnames()}
    assert {"notebooks/my data/test.de.tsv", "notebooks/my data/more/notes.txt"} <= names


@pytest.mark.parametrize("where", ["outside", "inside", "folder"])
def test_links_are_not_followed(course, alone, tmp_path, where):
    own = tmp_path / "own"
    own.mkdir()
    (own / "real.txt").write_text("x")
    target = {"outside": Path("/etc/passwd"), "inside": own / "real.txt", "folder": Path("/etc")}[where]
    (own / "link.txt").symlink_to(target)
    with pytest.raises(bundle.Refused, match=r"link\.txt is a link"):
        bundle.bundle(course, tmp_path / "dist", [own])
    assert not list((tmp_path / "dist").iterdir())


@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "a\\evil", "a\nevil"])
def test_a_name_outside_the_folder_is_not_written(tmp_path, name):
    writer = bundle.Archive(tmp_path / "x.tar", "top", 1)
    with pytest.raises(bundle.Refused, match="no name for a file of the archive"):
        writer.add(name, b"x")


# --- the wheels -----------------------------------------------------------------------------------------------------


def test_torch_is_asked_for_without_cuda_on_linux(monkeypatch):
    torch, numpy = Requirement("torch==2.13.0"), Requirement("numpy==2.4.6")
    monkeypatch.setattr(sys, "platform", "linux")
    assert [bundle.request(pin) for pin in (torch, numpy)] == ["torch==2.13.0+cpu", "numpy==2.4.6"]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert bundle.request(torch) == "torch==2.13.0"


def test_a_cuda_build_of_torch_never_serves(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    pin = Requirement("torch==2.13.0")
    for version, serves in (("2.13.0", False), ("2.13.0+cu130", False), ("2.13.1+cpu", False), ("2.13.0+cpu", True)):
        assert bundle.serves(wheel(tmp_path, "torch", version), pin) is serves, version


def test_half_a_wheel_is_fetched_again(course, shelf, alone, tmp_path):
    wanted = bundle.pins(course)
    assert [pin.name for pin in wanted] == ["alpha-thing", "setuptools", "pip"]
    first = bundle.gathered(wanted, tmp_path)
    whole = first[0].read_bytes()
    first[0].write_bytes(whole[: len(whole) // 2])
    assert not bundle.serves(first[0], wanted[0])
    assert bundle.gathered(wanted, tmp_path)[0].read_bytes() == whole


def test_a_wheel_that_is_nowhere_is_named(course, alone, tmp_path):
    with pytest.raises(bundle.Refused, match=r"pip could not do it.*no-such-thing==9\.9"):
        bundle.gathered([Requirement("no-such-thing==9.9")], tmp_path)


def test_torch_is_also_looked_for_at_its_own_index(alone, tmp_path, monkeypatch):
    asked = []

    def pip(arguments: list[str]) -> None:
        asked.append(arguments)
        raise bundle.Refused("not found")

    monkeypatch.setattr(bundle, "pip", pip)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(bundle.Refused, match=r"torch==2\.13\.0\+cpu was found, neither .*PIP_FIND_LINKS=FOLDER make"):
        bundle.gathered([Requirement("torch==2.13.0")], tmp_path)
    assert [bundle.CPU_INDEX in arguments for arguments in asked] == [False, True]


def test_wheels_that_need_another_one_make_no_archive(course, shelf, alone, tmp_path):
    root = tmp_path / "course"
    shutil.copytree(course, root, ignore=shutil.ignore_patterns("build"))
    wheel(shelf, "beta-thing", "2.0", needs="gamma-thing>=1")
    try:
        with (root / "requirements.txt").open("a") as file:
            file.write("beta-thing==2.0\n")
        with pytest.raises(bundle.Refused, match=r"do not install together: .*gamma-thing"):
            bundle.bundle(root, tmp_path / "dist")
    finally:
        (shelf / "beta_thing-2.0-py3-none-any.whl").unlink()
    assert not (tmp_path / "dist").exists()


def test_a_full_disk_is_told_and_leaves_no_half_archive(course, alone, tmp_path, monkeypatch):
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(bundle.Refused, match=r"No space left in .*the archive needs \d+\.\d GB"):
        bundle.bundle(course, tmp_path / "dist")
    assert not list((tmp_path / "dist").iterdir())


def test_the_command_says_in_a_sentence_why_not(monkeypatch, capsys):
    def refuse(*arguments: Any) -> Path:
        raise bundle.Refused("No wheel of torch was found.")

    monkeypatch.setattr(bundle, "bundle", refuse)
    assert bundle.main([]) == 1
    assert capsys.readouterr().err == "No wheel of torch was found.\n"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_the_oldest_glibc_is_that_of_the_most_demanding_wheel():
    names = ["a-1-py3-none-any.whl", "b-1-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"]
    assert bundle.glibc(map(Path, names)) == [2, 17]
    assert bundle.glibc(map(Path, [*names, "c-1-cp311-cp311-manylinux_2_28_x86_64.whl"])) == [2, 28]
    both = "d-1-cp311-cp311-manylinux_2_17_x86_64.manylinux_2_31_x86_64.whl"  # the wheel works with either
    assert bundle.glibc([Path(both)]) == [2, 17]


# --- the installer --------------------------------------------------------------------------------------------------


def test_it_installs_without_a_network_and_what_it_installed_runs(unpacked):
    """By the script, with settings of pip's that point elsewhere, where there is nothing."""
    env = {"PYTHON": sys.executable, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_FIND_LINKS": "/nowhere"}
    command = ["sh", str(unpacked / "install.sh"), "--no-start"]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr + (unpacked / "install.log").read_text()
    assert re.search(r"Compared \d+ files with their sums: all whole\.\n", done.stdout)
    assert re.search(r"Installed in \d+ seconds", done.stdout)
    python = unpacked / "course" / ".venv" / "bin" / "python"
    code = "import alpha_thing, pip, xlt_tutorial; print(xlt_tutorial.__file__)"
    told = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert Path(told.stdout.strip()) == unpacked / "course" / "xlt_tutorial" / "__init__.py"
    # make would install nothing more, and the second time the sums are not compared again.
    stamp = unpacked / "course" / ".venv" / ".installed"
    needed = [unpacked / "course" / name for name in ("requirements.txt", "pyproject.toml")]
    assert all(stamp.stat().st_mtime > path.stat().st_mtime for path in needed)
    (unpacked / "wheels" / "alpha_thing-1.0-py3-none-any.whl").unlink()
    again = ran(unpacked, "--no-start")
    assert again.returncode == 0 and "Compared" not in again.stdout


def test_it_starts_jupyterlab_as_make_lab_does(unpacked):
    """What is started is a stand-in that tells its arguments."""
    python = unpacked / "course" / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    (unpacked / "course" / ".venv" / ".installed").touch()
    done = ran(unpacked, "--no-browser", "--ServerApp.port=9999")
    where, *told = done.stdout.splitlines()
    assert Path(where) == unpacked / "course"
    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "jupyter lab" in line)
    wanted = shlex.split(
        line.replace("$(ARGS)", "--no-browser --ServerApp.port=9999").replace("$(BIN)/jupyter lab", "-m jupyterlab")
    )
    assert told == wanted


def test_check_compares_and_changes_nothing(unpacked):
    done = ran(unpacked, "--check")
    assert done.returncode == 0 and "all whole" in done.stdout
    assert not (unpacked / "course" / ".venv").exists() and not (unpacked / "install.log").exists()


@pytest.mark.parametrize(
    "name", ["wheels/alpha_thing-1.0-py3-none-any.whl", "course/xlt_tutorial/doctor.py", "install.sh"]
)
@pytest.mark.parametrize("options", [("--check",), ("--no-start",)])
def test_a_damaged_file_is_named(unpacked, name, options):
    path = unpacked / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    why = refused(unpacked, *options)
    assert why.startswith(f"{name} is damaged: its sum is not the one in SHA256SUMS. Copy the archive once more")


@pytest.mark.parametrize(
    "name", ["wheels/alpha_thing-1.0-py3-none-any.whl", "course/requirements.txt", "SHA256SUMS", "bundle.json"]
)
def test_a_missing_file_is_named(unpacked, name):
    (unpacked / name).unlink()
    why = refused(unpacked, "--no-start")
    assert why.startswith(f"{name} is missing") and "Copy the archive once more" in why


def test_what_a_reader_changed_stays_and_is_told(unpacked):
    notebook = unpacked / "course" / "notebooks" / "00_start_here.ipynb"
    notebook.write_text('{"mine": 1}')
    done = ran(unpacked, "--check")
    assert done.returncode == 0 and "left as they are: course/notebooks/00_start_here.ipynb" in done.stdout
    assert notebook.read_text() == '{"mine": 1}'


def test_a_wheel_that_was_put_there_is_refused(unpacked):
    wheel(unpacked / "wheels", "alpha-thing", "1.1", "print('not ours')")
    assert refused(unpacked, "--no-start").startswith(
        "wheels/alpha_thing-1.1-py3-none-any.whl does not belong to this bundle. Delete it"
    )


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "course/../../outside", "C:\\windows", "a\\..\\b"])
def test_a_sum_of_a_file_outside_is_refused(unpacked, name):
    outside = unpacked.parent / "outside"
    outside.write_text("x")
    with (unpacked / "SHA256SUMS").open("a") as sums:
        sums.write(f"{hashlib.sha256(b'x').hexdigest()}  {name}\n")
    assert re.search(r"SHA256SUMS, line \d+: .* is outside this folder", refused(unpacked, "--check"))


def test_a_link_out_of_the_folder_is_refused(unpacked, tmp_path):
    (tmp_path / "outside").write_text("x")
    (unpacked / "course" / "link").symlink_to(tmp_path / "outside")
    with (unpacked / "SHA256SUMS").open("a") as sums:
        sums.write(f"{hashlib.sha256(b'x').hexdigest()}  course/link\n")
    assert "course/link is outside this folder" in refused(unpacked, "--check")


@pytest.mark.parametrize("line", ["no sum at all", f"{'0' * 64} one space", "SAME"])
def test_sums_that_are_none_are_refused(unpacked, line):
    sums = unpacked / "SHA256SUMS"
    lines = sums.read_text(encoding="utf-8").splitlines()
    sums.write_text("\n".join([*lines, lines[0] if line == "SAME" else line]) + "\n", encoding="utf-8")
    assert re.match(rf"SHA256SUMS, line {len(lines) + 1}: not a sum and a name", refused(unpacked, "--check"))


MISFITS = {
    "python": (
        ["cpython", 3, 7],
        r"This bundle is for cpython 3\.7 of 64 bits.*PYTHON=/path/to/python3\.7 sh install\.sh",
    ),
    "machine": (["plan9", "vax"], r"This bundle is for plan9 vax, and this machine is .*made on such a one"),
    "glibc": ([99, 0], r"needs glibc 99\.0 or newer, and this system has"),
    "needs": (
        10**15,
        r"need 1000000\.0 GB in .*, and [\d.]+ GB are free\. Free some, or unpack the archive on a larger",
    ),
}


@pytest.mark.parametrize("key", MISFITS)
def test_a_machine_that_does_not_fit_is_told_why(unpacked, key):
    value, why = MISFITS[key]
    facts = json.loads((unpacked / "bundle.json").read_text()) | {key: value}
    text = json.dumps(facts)
    (unpacked / "bundle.json").write_text(text)
    sums = (unpacked / "SHA256SUMS").read_text(encoding="utf-8")
    sums = re.sub(r"(?m)^\w+(?=  bundle\.json$)", hashlib.sha256(text.encode()).hexdigest(), sums)
    (unpacked / "SHA256SUMS").write_text(sums, encoding="utf-8")
    assert re.search(why, refused(unpacked, "--no-start"))
    command, env = ["sh", str(unpacked / "install.sh"), "--no-start"], os.environ | {"PYTHON": sys.executable}
    script = subprocess.run(command, env=env, capture_output=True, text=True)
    assert script.returncode == 1 and re.search(why.split("PYTHON")[0].removesuffix(".*"), script.stderr)


def test_what_pip_says_is_passed_on_and_a_full_disk_is_told(unpacked, tmp_path):
    code = (unpacked / "install.py").read_text(encoding="utf-8")
    scope: dict[str, Any] = {"__name__": "installer", "__file__": str(unpacked / "install.py")}
    exec(compile(code, "install.py", "exec"), scope)
    for words, told in (
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("ERROR: odd", "ERROR: odd"),
    ):
        command = [sys.executable, "-c", f"print({words!r}); raise SystemExit(1)"]
        with (tmp_path / "log").open("w") as log, pytest.raises(scope["Refused"], match=told):
            scope["run"]("Packages", command, log)
        assert words in (tmp_path / "log").read_text()


def test_a_folder_that_may_not_be_written_is_told(unpacked):
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    unpacked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert "see that you may write to" in refused(unpacked, "--no-start")
    finally:
        unpacked.chmod(stat.S_IRWXU)


def test_the_installer_can_be_read_by_old_pythons():
    """It must come as far as to say which Python is needed: no syntax that is newer than 3.6."""
    import ast

    text = (ROOT / "tools" / "offline" / "install.py").read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 7))
    assert ":=" not in text and "removeprefix" not in text and "from __future__" not in text


# --- the whole ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif("XLT_BUNDLE" not in os.environ, reason="takes minutes and gigabytes: make test-bundle")
def test_the_whole_course_installs_and_runs_without_a_network(tmp_path):
    """``XLT_BUNDLE`` names the archive: unpacked, installed, notebook 00 run, in a network namespace without routes."""
    archive = Path(os.environ["XLT_BUNDLE"]).resolve()
    subprocess.run(["tar", "-xf", str(archive)], cwd=tmp_path, check=True)
    (folder,) = tmp_path.iterdir()
    home = tmp_path / "home"
    home.mkdir()
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHON": sys.executable}
    inside = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    lost = subprocess.run(
        [*inside, "sh", "-c", "ip route | wc -l"], env=env, capture_output=True, text=True, check=True
    )
    assert lost.stdout.strip() == "0"
    times = {}
    for name, command in {
        "install": ["sh", str(folder / "install.sh"), "--no-start"],
        "notebook": [
            str(folder / "course" / ".venv" / "bin" / "python"), "-m", "jupyter", "nbconvert", "--to", "notebook",
            "--execute", "--ExecutePreprocessor.timeout=1200", "--output", str(tmp_path / "00.ipynb"),
            str(folder / "course" / "notebooks" / "00_start_here.ipynb"),
        ],
    }.items():  # fmt: skip
        began = time.perf_counter()
        done = subprocess.run([*inside, *command], env=env, capture_output=True, text=True)
        times[name] = round(time.perf_counter() - began)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    cells = json.loads((tmp_path / "00.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all(cell["execution_count"] for cell in code)
    assert not [output for cell in code for output in cell["outputs"] if output["output_type"] == "error"]
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    print(f"\n{archive.stat().st_size / 1e6:.0f} MB; installed {size / 1e9:.2f} GB; seconds: {times}")
