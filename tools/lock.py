"""Write the requirements files from what is installed beside the interpreter that runs this.

The direct dependencies come from pyproject.toml and everything that they need is found in the installed packages' own
metadata, so the files hold the set that was tested and nothing else that happens to be installed. The tools that build
the site have a file of their own, which stays as it is where they are not installed (`make docs` installs them). To
move to newer versions: upgrade them in a virtual environment, run the tests there, then run this file with its python.
"""

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent

# Needed on other systems than Linux, where the set is frozen, so these cannot be read from the installed packages.
ELSEWHERE = {
    "appnope": ("1.0.0", "sys_platform == 'darwin'"),
    "colorama": ("0.4.6", "sys_platform == 'win32'"),
    "pywinpty": ("3.1.2", "sys_platform == 'win32'"),
}

HEAD = """\
# The tested set, exactly. Written by tools/lock.py from pyproject.toml and a tested environment; do not edit by hand.
# On Linux, pip's usual torch carries several gigabytes of CUDA: CONTRIBUTING.md says how to have the CPU build instead.
"""
DEV_HEAD = """\
# The tested set plus what is needed to test, check and publish. Written by tools/lock.py; do not edit by hand.
-r requirements.txt
"""
DOCS_HEAD = """\
# The tested set plus what builds the site and the slides. Written by tools/lock.py; do not edit by hand.
-r requirements-dev.txt
"""


def closure(requirements: list[str]) -> dict[str, str]:
    """Pin lines, by canonical name, of the given requirements and of all that they need on this machine."""
    own_markers = {canonicalize_name(r.name): r.marker for r in map(Requirement, requirements)}
    pins: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    queue = [(Requirement(text), "") for text in requirements]
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name.startswith(("nvidia-", "cuda-", "triton")):
            continue  # brought and pinned by the GPU builds of torch; the CPU build must stay free of them
        for wanted in ("", *requirement.extras):
            if (name, wanted) in done:
                continue
            done.add((name, wanted))
            found = metadata.distribution(name)
            marker = own_markers.get(name)
            pins[name] = f"{found.name}=={Version(found.version).public}" + (f"; {marker}" if marker else "")
            queue += [(Requirement(text), wanted) for text in found.requires or []]
    return pins


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    tools = [r for r in extras["dev"] if Requirement(r).name != project["name"]]
    runtime = closure(project["dependencies"] + extras["lab"])
    everything = closure(project["dependencies"] + extras["lab"] + extras["publish"] + tools)
    runtime |= {name: f"{name}=={version}; {marker}" for name, (version, marker) in ELSEWHERE.items()}
    added = {name: pin for name, pin in everything.items() if name not in runtime}
    files = [("requirements.txt", HEAD, runtime), ("requirements-dev.txt", DEV_HEAD, added)]
    try:
        site = closure(extras["docs"])
        files.append(("requirements-docs.txt", DOCS_HEAD, {n: p for n, p in site.items() if n not in runtime | added}))
    except metadata.PackageNotFoundError as error:
        print(f"requirements-docs.txt: left as it is, {error.name} is not installed")
    for file, head, pins in files:
        lines = sorted((re.sub(r'"', "'", pin) for pin in pins.values()), key=str.lower)
        (ROOT / file).write_text(head + "\n".join(lines) + "\n")
        print(f"{file}: {len(lines)} pins")


if __name__ == "__main__":
    main()
