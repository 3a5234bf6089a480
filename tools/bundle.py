"""Write one archive from which a machine without a network installs and runs the course: ``make bundle``.

``dist/xlt-tutorial-<version>-<platform>.tar`` holds the wheels of requirements.txt for the Python and the platform that
run this (torch in its CPU build), the course's files as git knows them, an installer and the sum of every file. The
encoder and the data are in wheels, the stored results in the course. ``--add FOLDER`` puts a folder of your own beside
the notebooks, such as TSV files for ``XLT_TASK``. Wheels stay in ``build/bundle``: a second bundle fetches none again.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import io
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
import time
import tomllib
import zipfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = Path(__file__).resolve().parent / "offline"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# What the installed packages take beyond the files of their wheels, compiled code above all.
SPARE = 1.25


class Refused(Exception):
    """A reason why there is no archive; its message says what to do."""


def pins(root: Path) -> list[Requirement]:
    """Return the pins of requirements.txt that this Python on this platform takes, and pip itself, which installs."""
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    asked = [pin for pin in found if pin.marker is None or pin.marker.evaluate()]
    return [*asked, Requirement(f"pip=={metadata.version('pip')}")]


def request(pin: Requirement) -> str:
    """Return what to ask pip for: on Linux the CPU build of torch, whose usual build carries gigabytes of CUDA."""
    return f"{pin.name}{pin.specifier}{'+cpu' * (pin.name == 'torch' and sys.platform == 'linux')}"


def serves(wheel: Path, pin: Requirement) -> bool:
    """Tell whether a file is a whole wheel of a pinned release."""
    try:
        name, version, _, _ = parse_wheel_filename(wheel.name)
    except InvalidWheelFilename:
        return False
    wanted = re.sub("^.*==", "", request(pin))
    exact = Version(wanted) == version if "+" in wanted else Version(wanted).public == version.public
    return name == canonicalize_name(pin.name) and exact and zipfile.is_zipfile(wheel)


def gathered(wanted: list[Requirement], folder: Path) -> list[Path]:
    """Return a wheel for each pin, in their order; what ``folder`` does not hold yet is fetched, or built."""
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in folder.glob("*.whl"):
        if not zipfile.is_zipfile(wheel):  # half of one; pip would stop at it
            wheel.unlink()
    lacking = [pin for pin in wanted if not any(serves(wheel, pin) for wheel in folder.glob("*.whl"))]
    torch = [pin for pin in lacking if pin.name == "torch"]
    if others := [pin for pin in lacking if pin not in torch]:
        print(f"Fetching {len(others)} of {len(wanted)} wheels ...", flush=True)
        pip(["wheel", "--wheel-dir", str(folder), *map(request, others)])
    for pin in torch:
        print(f"Fetching {request(pin)} ...", flush=True)
        command = ["wheel", "--wheel-dir", str(folder), request(pin)]
        try:
            pip(command)
        except Refused:  # it is not on PyPI
            try:
                pip([*command, "--index-url", CPU_INDEX])
            except Refused as error:
                raise Refused(
                    f"{error}\nNo wheel of {request(pin)} was found, neither where pip looks nor at {CPU_INDEX}. Put "
                    "the file into a folder and name it: PIP_FIND_LINKS=FOLDER make bundle"
                ) from None
    found = []
    for pin in wanted:
        fitting = [wheel for wheel in sorted(folder.glob("*.whl")) if serves(wheel, pin)]
        if not fitting:
            raise Refused(f"pip gave no wheel of {request(pin)}: delete {folder} and type make bundle again.")
        found.append(fitting[0])
    return found


def pip(arguments: list[str]) -> None:
    """Run pip without resolving: the pins are all that is needed, and tests/test_packaging.py sees to it."""
    command = [sys.executable, "-m", "pip", *arguments[:1], "--no-deps", "-q", "--disable-pip-version-check"]
    stamp = {"SOURCE_DATE_EPOCH": "315532800"}  # wheels that are built here are the same each time
    done = subprocess.run([*command, *arguments[1:]], env=stamp | os.environ, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise Refused(f"pip could not do it: {' '.join(done.stderr.split())[-600:]}")


def complete(wheels: Iterable[Path], root: Path) -> None:
    """See that the wheels install together and need nothing else, without installing them."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    env |= {"PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-index", "-q"]
    command += ["--only-binary", ":all:", "--disable-pip-version-check", *map(str, wheels)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        told = " ".join(done.stderr.split())[-600:]
        raise Refused(f"The pins of {root / 'requirements.txt'} do not install together: {told}")


def course_files(root: Path) -> list[str]:
    """Return the course's files: those that git tracks, or all but what is made, where there is no git."""
    asked = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True) if _in_git(root) else None
    if asked is not None and asked.returncode == 0:
        names = [name for name in asked.stdout.decode().split("\0") if name and (root / name).exists()]
    else:
        inside = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
        names = [path.as_posix() for path in inside if not any(map(_made, path.parts[:-1]))]
    return sorted(names)


def _in_git(root: Path) -> bool:
    return (root / ".git").exists()


def _made(folder: str) -> bool:
    """Tell whether a folder of this name holds what was made, not written."""
    made = {"build", "dist", "runs", "__pycache__"}
    return folder in made or folder.startswith(".") or folder.endswith(".egg-info")


def own_files(folder: Path) -> dict[str, Path]:
    """Return the files of a folder of the reader's by their place in the course."""
    if not folder.is_dir():
        raise Refused(f"--add {folder}: there is no such folder.")
    base = folder.resolve()
    found = {f"notebooks/{base.name}/{path.relative_to(base).as_posix()}": path for path in sorted(base.rglob("*"))}
    return {name: path for name, path in found.items() if path.is_symlink() or path.is_file()}


def glibc(wheels: Iterable[Path]) -> list[int] | None:
    """Return the oldest glibc with which all wheels work; ``None`` where that is not what decides."""
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return None
    legacy = {"1": (2, 5), "2010": (2, 12), "2014": (2, 17)}
    needs = [(2, 17)]
    for wheel in wheels:
        own = []
        for tag in parse_wheel_filename(wheel.name)[3]:
            if match := re.match(r"manylinux_(\d+)_(\d+)_", tag.platform):
                own.append((int(match[1]), int(match[2])))
            elif match := re.match(r"manylinux(1|2010|2014)_", tag.platform):
                own.append(legacy[match[1]])
            elif tag.platform.startswith("linux_"):  # built here
                own.append(tuple(map(int, platform.libc_ver()[1].split(".")[:2])))
        needs += [min(own)] if own else []
    return list(max(needs))


class Archive:
    """A tar whose bytes follow from its files alone: no owner, no dates, the order in which they are added."""

    def __init__(self, path: Path, top: str, files: int) -> None:
        self.tar, self.top, self.files = tarfile.open(path, "w", format=tarfile.PAX_FORMAT), top, files
        self.sums: dict[str, str] = {}

    def add(self, name: str, source: Path | bytes) -> None:
        """Add a file under a name inside the folder; links and other things that are no files are refused."""
        if name.startswith("/") or ".." in name.split("/") or "\\" in name or "\n" in name:
            raise Refused(f"{name!r} is no name for a file of the archive: rename it, or leave it out.")
        if isinstance(source, Path) and (source.is_symlink() or not source.is_file()):
            raise Refused(f"{source} is a link, or no file: put the file itself in its place, or leave it out.")
        entry = tarfile.TarInfo(f"{self.top}/{name}")
        digest = hashlib.sha256()
        if isinstance(source, bytes):
            entry.size = len(source)
            digest.update(source)
            self.tar.addfile(entry, io.BytesIO(source))
        else:
            entry.size, entry.mode = source.stat().st_size, 0o755 if os.access(source, os.X_OK) else 0o644
            with source.open("rb") as file:
                self.tar.addfile(entry, file)
                file.seek(0)
                for block in iter(lambda: file.read(1 << 20), b""):
                    digest.update(block)
        self.sums[name] = digest.hexdigest()
        if sys.stdout.isatty():
            print(f"\rWriting file {len(self.sums)} of {self.files}\033[K", end="", flush=True)

    def close(self) -> None:
        """Add the sums of all files and end the archive."""
        lines = "".join(f"{digest}  {name}\n" for name, digest in self.sums.items()).encode()
        entry = tarfile.TarInfo(f"{self.top}/SHA256SUMS")
        entry.size = len(lines)
        self.tar.addfile(entry, io.BytesIO(lines))
        self.tar.close()
        if sys.stdout.isatty():
            print("\r\033[K", end="")


def unpacked_size(wheels: Iterable[Path]) -> int:
    """Return the bytes that the files of the wheels take once unpacked."""
    total = 0
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as held:
            total += sum(entry.file_size for entry in held.infolist())
    return total


def bundle(root: Path = ROOT, out: Path | None = None, add: Iterable[Path] = ()) -> Path:
    """Write the archive and, beside it, its sum; return its path."""
    out = out or root / "dist"
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = sys.version_info
    system = {"darwin": "macos", "win32": "windows"}.get(sys.platform, sys.platform)
    top = f"{project['name']}-{project['version']}-{system}-{platform.machine()}-py{version[0]}{version[1]}"

    wheels = gathered(pins(root), root / "build" / "bundle" / f"wheels-py{version[0]}{version[1]}")
    print("Checking that the wheels need nothing else ...", flush=True)
    complete(wheels, root)
    files = {name: root / name for name in course_files(root)}
    for folder in add:
        files |= own_files(folder)
    needs = round(SPARE * unpacked_size(wheels))
    libc = glibc(wheels)
    facts = {
        "name": project["name"],
        "version": project["version"],
        "python": [sys.implementation.name, *version[:2]],
        "machine": [sys.platform, platform.machine()],
        "glibc": libc,
        "needs": needs,
    }
    install = (OFFLINE / "INSTALL.txt").read_text(encoding="utf-8")
    where = f"{system} on {platform.machine()}" + (f", glibc {libc[0]}.{libc[1]} or newer" if libc else "")
    running = f"{platform.python_implementation()} {version[0]}.{version[1]}"
    text = install.format(
        name=project["name"],
        version=project["version"],
        underline="=" * len(f"{project['name']} {project['version']}, for machines without a network"),
        fits=f"{where}, with {running} (the system's, or python.org's)",
        disk=f"{needs / 1e9:.1f} GB",
        python=f"{version[0]}.{version[1]}",
    )
    size = sum(path.stat().st_size for path in [*wheels, *files.values()] if path.is_file())
    out.mkdir(parents=True, exist_ok=True)
    target, part = out / f"{top}.tar", out / f"{top}.tar.part"
    print(f"Writing {target}: {len(wheels)} wheels, {len(files)} files, {size / 1e6:.0f} MB ...", flush=True)
    try:
        archive = Archive(part, top, len(wheels) + len(files) + 4)
        archive.add("INSTALL.txt", text.encode())
        archive.add("bundle.json", (json.dumps(facts, indent=1) + "\n").encode())
        for script in ("install.py", "install.sh"):
            archive.add(script, (OFFLINE / script).read_bytes())
        for wheel in sorted(wheels):
            archive.add(f"wheels/{wheel.name}", wheel)
        for name, path in sorted(files.items()):
            archive.add(f"course/{name}", path)
        archive.close()
        part.replace(target)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise Refused(f"No space left in {out}: the archive needs {size / 1e9:.1f} GB. Free some.") from None
        raise
    finally:
        part.unlink(missing_ok=True)
    with target.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    target.with_suffix(".tar.sha256").write_text(f"{digest}  {target.name}\n", encoding="utf-8")
    return target


def main(arguments: list[str] | None = None) -> int:
    """Write the archive and say where it is; 1 with a sentence where that cannot be."""
    parser = argparse.ArgumentParser(description="Write one archive from which the course installs without a network.")
    parser.add_argument("--out", type=Path, default=None, help="folder of the archive (default: dist)")
    parser.add_argument("--add", type=Path, action="append", default=[], help="a folder to put beside the notebooks")
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    try:
        target = bundle(ROOT, options.out, options.add)
    except Refused as reason:
        print(reason, file=sys.stderr)
        return 1
    seconds = time.perf_counter() - began
    print(f"{target}: {target.stat().st_size / 1e6:.0f} MB, in {seconds:.0f} seconds.")
    print("Unpack it with `tar -xf` on the other machine; INSTALL.txt inside says the rest.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
