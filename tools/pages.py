"""What the tools that generate a page share: write it, or with ``--check`` only compare."""

from __future__ import annotations

import argparse
from pathlib import Path

from xlt_tutorial.files import write_whole


def write_or_check(page: Path, text: str, command: str, arguments: list[str] | None = None) -> int:
    """Write the page; or say whether it is up to date, and return 1 where it is not.

    Args:
        page: The file.
        text: What it should hold.
        command: What writes it, for the message.
        arguments: Of the command line; those of this process when ``None``.
    """
    parser = argparse.ArgumentParser(description=f"Write {page.name} from what is stored.")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    if parser.parse_args(arguments).check:
        same = page.exists() and page.read_text(encoding="utf-8") == text
        print(f"{page.name}: {'up to date' if same else f'NOT up to date: {command}'}")
        return int(not same)
    page.parent.mkdir(exist_ok=True)
    write_whole(page, text)
    print(f"{page.name} written")
    return 0
