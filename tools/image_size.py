"""Estimate how much a Binder launch may have to pull: ``python tools/image_size.py``, a table by package.

``--write`` puts it into docs/where_it_runs.md.

The packages are the pins of ``requirements.txt``, as they are installed beside the interpreter that runs this. A layer
of an image is compressed as a stream, which is estimated by compressing every sixteenth block of a package. What
repo2docker brings itself (its base image and its conda environment) cannot be measured without building; ``BASE_MB`` is
an allowance for it. The encoder's row says what unpacking it at build time would add; it is not part of the sum.
"""

from __future__ import annotations

import subprocess
import sys
import zlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from xlt_tutorial.caching import cache_folder
from xlt_tutorial.files import write_whole
from xlt_tutorial.statistics import markdown_table

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "where_it_runs.md"
BEGIN, END = "<!-- image: written by tools/image_size.py -->\n", "<!-- end of image -->"
BLOCK, STEP = 2**16, 16
LIMIT_MB = 1500.0
BASE_MB = 650.0  # an allowance: buildpack-deps, conda, JupyterLab's server and node


@dataclass(frozen=True)
class Size:
    """Of one package, in MB of 10**6 bytes: on disk, and compressed."""

    name: str
    disk: float
    packed: float


def size(name: str, files: list[Path], step: int = STEP) -> Size:
    """Return the size of some files together; of many blocks, every ``step``-th is compressed."""
    blocks = [
        (path, start, total) for path in files for total in [path.stat().st_size] for start in range(0, total, BLOCK)
    ]
    chosen = blocks[:: step if len(blocks) >= 4 * step else 1]
    disk = sum(path.stat().st_size for path in files)
    read = packed = 0
    for path, start, _ in chosen:
        with path.open("rb") as file:
            file.seek(start)
            block = file.read(BLOCK)
        read, packed = read + len(block), packed + len(zlib.compress(block, 6))
    return Size(name, disk / 1e6, disk / 1e6 * packed / max(read, 1))


def pins(root: Path = ROOT) -> list[str]:
    """Return the names of the readers' set on this system."""
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [pin.name for pin in found if not pin.marker or pin.marker.evaluate()]


def installed(name: str) -> list[Path]:
    """Return a package's files, compiled ones too, which an image holds as well."""
    found = metadata.distribution(name)
    return [path for part in found.files or [] if (path := Path(str(found.locate_file(part)))).is_file()]


def course(root: Path = ROOT) -> list[Path]:
    """Return the files of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := root / name).is_file()]


def sizes() -> list[Size]:
    """Return what the image holds beside repo2docker's own layers, the largest first."""
    found = [size(name, installed(name)) for name in pins()] + [size("this repository", course())]
    return sorted(found, key=lambda one: -one.packed)


def total(found: list[Size]) -> float:
    """Return the estimate of the whole image, compressed, in MB."""
    return BASE_MB + sum(one.packed for one in found)


def table(found: list[Size], shown: int = 15) -> str:
    """Return the sizes as a Markdown table: the largest, the rest, repo2docker's, the sum."""
    rest = Size(
        f"{len(found) - shown} smaller ones", sum(s.disk for s in found[shown:]), sum(s.packed for s in found[shown:])
    )
    rows = [[one.name, f"{one.disk:.0f}", f"{one.packed:.0f}"] for one in [*found[:shown], rest]]
    rows.append(["repo2docker's base (an allowance)", "", f"{BASE_MB:.0f}"])
    rows.append(["**together**", "", f"**{total(found):.0f}**"])
    unpacked = next((p.parent for p in sorted(cache_folder().glob("e5-small-*/model.safetensors"))), None)
    if unpacked:
        extra = size(
            "the encoder, unpacked (not in the image)", [path for path in unpacked.iterdir() if path.is_file()]
        )
        rows.append([extra.name, f"{extra.disk:.0f}", f"{extra.packed:.0f}"])
    return markdown_table(["package", "MB on disk", "MB compressed"], rows)


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or write it into the page; 1 where the image is over its limit."""
    found = sizes()
    print(table(found))
    if "--write" in (sys.argv[1:] if arguments is None else arguments):
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN, 1)
        write_whole(PAGE, f"{before}{BEGIN}\n{table(found)}\n\n{END}{rest.split(END, 1)[1]}")
    over = total(found) > LIMIT_MB
    print(f"\n{'OVER' if over else 'Under'} the limit of {LIMIT_MB:.0f} MB.")
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
