"""Install the course from the folder of this file, without a network: ``sh install.sh``, or ``python install.py``.

Written so that an older Python too can read it, and say which one is needed.
"""

import argparse
import errno
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path, PurePosixPath

HERE = Path(__file__).resolve().parent
AGAIN = "Copy the archive once more, and unpack it into an empty folder."
# As `make lab` starts it; by its module, for `jupyter lab` may find another one on the path.
LAB = ["-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", "--ServerApp.root_dir=."]
LAB += ["--LabApp.app_settings_dir=binder/jupyterlab", "notebooks/00_start_here.ipynb"]
# A reader may change everything in the course but these; what differs elsewhere was damaged on its way.
FIXED = ("course/xlt_tutorial/", "course/pyproject.toml", "course/requirements.txt")


class Refused(Exception):
    """A reason not to install; its message is for the reader."""


def facts():
    """Return what the bundle says of itself."""
    try:
        return json.loads((HERE / "bundle.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise Refused("bundle.json is missing or damaged. " + AGAIN) from None


def machine():
    """Return system and processor, as bundle.json has them."""
    return [sys.platform, platform.machine()]


def misfit(told):
    """Say why this Python cannot take the packages; empty where it can."""
    running = [sys.implementation.name, *sys.version_info[:2]]
    wanted = told["python"]
    if running != wanted or sys.maxsize < 2**32:
        return (
            "This bundle is for {} {}.{} of 64 bits, and {} is {} {}.{}. Install that Python, then type: "
            "PYTHON=/path/to/python{}.{} sh install.sh"
        ).format(*wanted, sys.executable, *running, *wanted[1:])
    if machine() != told["machine"]:
        return "This bundle is for {} {}, and this machine is {} {}. Ask for a bundle made on such a one.".format(
            *told["machine"], *machine()
        )
    libc, version = platform.libc_ver()
    if told["glibc"] and (libc != "glibc" or [int(part) for part in version.split(".")[:2]] < told["glibc"]):
        return "This bundle needs glibc {}.{} or newer, and this system has {}. Take a newer system.".format(
            *told["glibc"], (libc + " " + version).strip() or "none"
        )
    return ""


def sums():
    """Return the sum of every file by its name, from SHA256SUMS."""
    try:
        lines = (HERE / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        raise Refused("SHA256SUMS is missing or damaged. " + AGAIN) from None
    found = {}
    for number, line in enumerate(lines, 1):
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if not match or match.group(2) in found:
            raise Refused(f"SHA256SUMS, line {number}: not a sum and a name. {AGAIN}")
        name = PurePosixPath(match.group(2))
        odd = name.is_absolute() or ".." in name.parts or "\\" in match.group(2) or ":" in match.group(2)
        if odd or not inside(HERE / name):
            raise Refused(f"SHA256SUMS, line {number}: {name} is outside this folder. {AGAIN}")
        found[match.group(2)] = match.group(1)
    return found


def inside(path):
    """Tell whether a path, links followed, is in this folder."""
    return HERE in path.resolve().parents


def sha256(path):
    """Return the sum of a file, in a memory that does not grow with it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def check():
    """Compare all files with their sums, and see that pip will find no others."""
    listed = sums()
    changed = []
    for number, (name, expected) in enumerate(listed.items(), 1):
        progress(f"Comparing file {number} of {len(listed)}")
        path = HERE / name
        fixed = not name.startswith("course/") or name.startswith(FIXED)
        if not path.is_file():
            if fixed:
                end("")
                raise Refused(f"{name} is missing. {AGAIN}")
            changed.append(name)
        elif sha256(path) != expected:
            if fixed:
                end("")
                raise Refused(f"{name} is damaged: its sum is not the one in SHA256SUMS. {AGAIN}")
            changed.append(name)
    for path in sorted((HERE / "wheels").rglob("*")):
        name = path.relative_to(HERE).as_posix()
        if name not in listed:
            end("")
            raise Refused(f"{name} does not belong to this bundle. Delete it, or: {AGAIN}")
    end(f"Compared {len(listed) - len(changed)} files with their sums: all whole.")
    if changed:
        print("Changed since, and left as they are: {}".format(", ".join(changed)))


def progress(text):
    """Renew the line at the bottom of a terminal; elsewhere nothing is said."""
    if sys.stdout.isatty():
        print("\r" + text[:100], end="\033[K", flush=True)


def end(text):
    """End that line."""
    if sys.stdout.isatty():
        print("\r", end="\033[K")
    if text:
        print(text, flush=True)


def room(told):
    """See that what is to be installed fits."""
    free = shutil.disk_usage(str(HERE)).free
    if free < told["needs"]:
        raise Refused(
            "The packages need {:.1f} GB in {}, and {:.1f} GB are free. Free some, or unpack the archive on a larger "
            "disk.".format(told["needs"] / 1e9, HERE, free / 1e9)
        )


def run(what, command, log, count=0):
    """Run a command whose output goes to the log; say what went wrong where it fails."""
    # Settings of pip's or Python's on this machine could fetch something, or look elsewhere.
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    env.update(PIP_CONFIG_FILE=os.devnull, PIP_DISABLE_PIP_VERSION_CHECK="1", PYTHONIOENCODING="utf-8")
    done, last = 0, []
    log.write("\n$ {}\n".format(" ".join(map(str, command))))
    with subprocess.Popen(
        [str(part) for part in command],
        cwd=str(HERE / "course"),
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace")
            log.write(line)
            last = [*last[-14:], line]
            done += line.startswith("Processing ")
            if line.startswith("Installing collected"):
                progress(f"{what}: putting them in their places, the longest part")
            elif count:
                progress(f"{what}: {min(done, count)} of {count}")
        code = process.wait()
    end("")
    if code:
        text = "".join(last)
        if "No space left" in text or "[Errno 28]" in text:
            raise Refused(f"{what}: the disk is full. Free some space, and type this again.")
        raise Refused(f"{what} failed; this is the end of install.log:\n{text.rstrip()}")


def install(told, log):
    """Make course/.venv and install what is in wheels/."""
    home = HERE / "course" / ".venv"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = home / ".installed"
    if stamp.exists() and python.exists():
        return python
    check()
    room(told)
    began = time.time()
    wheels = HERE / "wheels"
    (pip,) = wheels.glob("pip-*.whl")
    # pip comes from its wheel, so that a Python without it (Debian's, without python3-venv) will do.
    run("Making course/.venv", [sys.executable, "-m", "venv", "--without-pip", "--clear", home], log)
    options = ["install", "--no-index", "--find-links", wheels, "--only-binary", ":all:", "--no-input"]
    run("Installing pip", [python, pip / "pip", *options, "pip"], log)
    count = len(list(wheels.glob("*.whl"))) - 1
    print(f"Installing {count} packages; this takes some minutes ...", flush=True)
    needed = ["-r", "requirements.txt"]
    run("Packages", [python, "-m", "pip", *options, *needed], log, count)
    own = ["install", "--no-index", "--no-deps", "--no-build-isolation", "--editable", "."]
    run("The course", [python, "-m", "pip", *own], log)
    lacks = subprocess.run(
        [str(python), "-c", "from xlt_tutorial.doctor import complaint; print(complaint())"],
        cwd=str(HERE / "course"),
        stdout=subprocess.PIPE,
        check=True,
    ).stdout.decode()
    if lacks.strip():
        raise Refused("The course does not run yet. " + lacks.strip())
    stamp.touch()
    print(f"Installed in {time.time() - began:.0f} seconds. Next time, this opens the course at once.")
    return python


def main():
    """Install, and open the course; 1 where that cannot be."""
    parser = argparse.ArgumentParser(
        description="Install the course from this folder, without a network, and open it.",
        epilog="Any other option goes to JupyterLab, such as --no-browser.",
    )
    parser.add_argument("--check", action="store_true", help="only compare the files with their sums")
    parser.add_argument("--no-start", action="store_true", help="open nothing")
    parser.add_argument("--fits", action="store_true", help="only tell whether this Python can take the packages")
    options, more = parser.parse_known_args()
    try:
        told = facts()
        wrong = misfit(told)
        if wrong and not options.check:
            raise Refused(wrong)
        if options.check:
            check()
        if options.check or options.fits:
            return 0
        with (HERE / "install.log").open("w", encoding="utf-8") as log:
            python = install(told, log)
    except Refused as reason:
        print(reason, file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno == errno.ENOSPC:
            print("The disk is full. Free some space, and type this again.", file=sys.stderr)
        else:
            print(f"{error}: see that you may write to {HERE}.", file=sys.stderr)
        return 1
    if options.no_start:
        print("To open the course: sh install.sh (Windows: py install.py)")
        return 0
    return subprocess.call([str(python), *LAB[:-1], *more, LAB[-1]], cwd=str(HERE / "course"))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("Stopped. Type it again to go on.")
