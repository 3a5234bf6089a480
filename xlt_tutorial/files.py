"""Reads readers' files; writes files and folders that are either whole or absent: aside, then renamed into place."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xlt_tutorial.errors import XltError

_SUMS = "sums.json"
_ASIDE = ".writing-"


def read_text(path: Path) -> str:
    """Return a reader's UTF-8 file; ``XltError`` with path and line where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise XltError(f"{path} cannot be read ({error.strerror}): check the path.") from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise XltError(f"{path}, line {line}: not UTF-8; save the file as UTF-8.") from error


def read_json(path: Path) -> Any:
    """Return what a reader's JSON file holds; ``XltError`` with path and line where it is none."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise XltError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from error


def write_whole(path: Path, text: str) -> None:
    """Write a UTF-8 file in one stroke: a reader, or a kill, finds the old file or the new one."""
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON, in a file that is always whole."""
    write_whole(path, json.dumps(content, indent=1, ensure_ascii=False))


class DamagedError(RuntimeError):
    """A downloaded file is not the one that was asked for."""


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a scratch folder that becomes ``folder`` when the block ends well, and vanishes when it does not.

    A process killed inside the block leaves only a scratch folder, which ``sweep`` removes.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=_ASIDE, dir=folder.parent))
    try:
        yield work
        (work / _SUMS).write_text(json.dumps(_sums(work)), encoding="utf-8")
        for path in [*work.rglob("*"), work]:
            if os.name == "nt" and path.is_dir():  # Windows neither opens nor syncs folders
                continue
            handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
            os.fsync(handle)
            os.close(handle)
        try:
            work.rename(folder)
        except OSError:  # another process may have finished the same folder first
            if not is_whole(folder):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def is_whole(folder: Path) -> bool:
    """Tell whether every file of the folder is as it was written."""
    try:
        return bool(json.loads((folder / _SUMS).read_text(encoding="utf-8")) == _sums(folder))
    except (OSError, ValueError):
        return False


def sweep(parent: Path, older_than: float = 0.0) -> None:
    """Remove what killed processes left unfinished in ``parent``, where it is at least ``older_than`` seconds old.

    Give an age where other processes may be writing to the same parent at this moment.
    """
    for path in parent.glob(f"{_ASIDE}*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime >= older_than:
                shutil.rmtree(path, ignore_errors=True)


def check_download(path: Path) -> None:
    """Compare a file in the hub's cache with the checksum by which the cache names it, as the hub told it.

    That is sha256 for large files, and for the others git's: sha1 of ``blob``, the size, a zero byte and the content.
    Where the cache has no such name, as without symbolic links on Windows, there is nothing to compare with.

    Raises:
        DamagedError: They differ.
    """
    told = path.resolve().name
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", told):
        return
    digest = hashlib.sha256() if len(told) == 64 else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        if hashlib.file_digest(file, lambda: digest).hexdigest() != told:
            raise DamagedError(f"the {digest.name} of {path.name} is not the one that the hub told.")


def _sums(folder: Path) -> dict[str, str]:
    sums = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / _SUMS:
            with path.open("rb") as file:
                sums[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums
