"""Make an environment with other versions than the tested ones: ``python tools/environments.py colab|lowest|latest``.

- ``colab``: what Colab's image carries, from the lists in ``../shared/colab`` (or in the folder ``XLT_COLAB``).
- ``lowest``: the lower end of each range in pyproject.toml. What those packages need in turn is not held down.
- ``latest``: the newest releases inside the ranges.

Each goes to ``.venvs/NAME``, with the versions it was asked for in ``.venvs/NAME.txt``; one that is there is kept until
these change. torch is the tested release, in a CPU build where pip is shown one; ``TORCH=torch==2.11.0`` asks for
another. The interpreter is the one that runs this. ``make test-colab`` and its like call it and run the tests there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("colab", "lowest", "latest")
# What the tests import; the browser, the linters and JupyterLab stay in .venv.
TOOLS = ("pytest", "pytest-xdist", "nbconvert", "ipykernel", "pyyaml")
# Not held to a list: torch is asked for by itself, and what builds the package is pip's own affair, on Colab too.
FREE = ("torch", "setuptools", "pip", "wheel")


def ranges(root: Path = ROOT) -> tuple[list[Requirement], list[Requirement]]:
    """Return what the package requires, and what its tests need beside that."""
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project, extras = settings["project"], settings["project"]["optional-dependencies"]
    base = [Requirement(text) for text in project["dependencies"]]
    tools = [need for need in map(Requirement, extras["dev"]) if need.name in TOOLS]
    return base, tools + [Requirement(text) for text in extras["publish"] + settings["build-system"]["requires"]]


def colab_list(root: Path = ROOT) -> Path:
    """Return the newest list of the packages in Colab's image, or leave with what to do."""
    folder = Path(os.environ.get("XLT_COLAB") or root.parent / "shared" / "colab")
    lists = sorted(folder.glob("colab-cpu-*.txt"))
    if not lists:
        raise SystemExit(f"No list of Colab's packages in {folder}: name its folder in XLT_COLAB.")
    return lists[-1]


def lowest(need: Requirement) -> str:
    """Return the pin of a range's lower end."""
    (version,) = (clause.version for clause in need.specifier if clause.operator in (">=", "=="))
    return f"{need.name}=={version}"


def constraints(kind: str, root: Path = ROOT) -> list[str]:
    """Return the versions that an environment is held to."""
    base = ranges(root)[0]
    if kind == "lowest":
        pins = [lowest(need) for need in base]
    elif kind == "latest":
        pins = []  # what the ranges allow
    else:
        lines = colab_list(root).read_text(encoding="utf-8").splitlines()
        pins = [line for line in lines if line and not line.startswith("#")]
    return [pin for pin in pins if canonicalize_name(Requirement(pin).name) not in FREE]


def torch(root: Path = ROOT) -> str:
    """Return the torch to install: ``TORCH`` in the environment, else the tested release."""
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return os.environ.get("TORCH") or next(line for line in lines if line.startswith("torch=="))


def make(kind: str, root: Path = ROOT) -> Path:
    """Make the environment where it is not there as asked; return its folder."""
    home, listed = root / ".venvs" / kind, root / ".venvs" / f"{kind}.txt"
    base, tools = ranges(root)
    asked = "\n".join([f"# {sys.version.split()[0]}, {torch(root)}", *constraints(kind, root)]) + "\n"
    asked += "".join(f"# {need}\n" for need in base + tools)
    if listed.exists() and listed.read_text(encoding="utf-8") == asked:
        return home
    listed.parent.mkdir(exist_ok=True)
    listed.unlink(missing_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
    part = listed.with_suffix(".part")
    part.write_text(asked, encoding="utf-8")
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--prefer-binary", "-q", "-c", str(part)]
    subprocess.run([*pip, torch(root)], check=True)
    subprocess.run([*pip, torch(root), *map(str, base + tools)], check=True)
    subprocess.run([*pip, "--no-deps", "--editable", str(root)], check=True)
    part.replace(listed)
    return home


def main(arguments: list[str] | None = None) -> int:
    """Make one environment and say where it is."""
    parser = argparse.ArgumentParser(description="Make an environment with other versions than the tested ones.")
    parser.add_argument("kind", choices=KINDS)
    print(make(parser.parse_args(arguments).kind))
    return 0


if __name__ == "__main__":
    sys.exit(main())
