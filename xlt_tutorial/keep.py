"""Keeps a reader's work in one file: notebooks and runs into a zip and back, for places that forget, as Binder does."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from xlt_tutorial import __version__
from xlt_tutorial.errors import XltError

NOTE = "xlt-work.json"  # tells our files from other zips
LIMIT_MB = 50.0  # of what is packed; a browser has to bring it home
FILE_MB = 20.0  # a larger file, such as a model's weights, is left out: it is trained again
UNPACKED_MB = 500.0  # of what is restored, however small the zip is


@dataclass(frozen=True, repr=False)
class Saved:
    """What ``save`` has packed; a sentence in a terminal, with a link to download in a notebook.

    Attributes:
        file: The zip.
        packed: Paths in it, relative to the course's folder.
        left_out: Paths that were too large.
    """

    file: Path
    packed: tuple[str, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        size = self.file.stat().st_size / 1e6
        files = "1 file" if len(self.packed) == 1 else f"{len(self.packed)} files"
        text = f"{self.file} ({size:.1f} MB) holds {files}: download it; `xlt restore` puts them back."
        return text + (f" Too large, left out: {', '.join(self.left_out)}." if self.left_out else "")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from html import escape
        from urllib.parse import quote

        here = quote(os.path.relpath(self.file).replace(os.sep, "/"))
        return f'{escape(str(self))} <a href="{here}" download>Download {escape(self.file.name)}</a>'


@dataclass(frozen=True, repr=False)
class Restored:
    """What ``restore`` has written.

    Attributes:
        written: Paths that are now as they were saved, relative to the course's folder.
        kept: Old path -> where its content is now.
        same: Paths that needed nothing.
    """

    written: tuple[str, ...]
    kept: dict[str, str]
    same: tuple[str, ...]

    def __str__(self) -> str:
        text = f"Restored: {len(self.written)}. The same already: {len(self.same)}."
        return text + "".join(f"\n{old}: what was there is now {new}" for old, new in self.kept.items())

    __repr__ = __str__


def save(file: str | Path = "work.zip", folder: str | Path = ".", limit_mb: float = LIMIT_MB) -> Saved:
    """Pack the notebooks that a reader has changed, with the answers in them, and the runs.

    Save the notebooks in Jupyter first: what is packed is what lies on the disk.

    Args:
        file: The zip to write; an older one is replaced.
        folder: The course's folder, or ``notebooks`` in it, as a notebook's own folder is.
        limit_mb: Of all files together, in MB before they are compressed; notebooks go first, then the newest runs.

    Raises:
        XltError: Where there is nothing to pack.
    """
    root, file = _course(Path(folder)), Path(file)
    packed: dict[str, Path] = {}
    left_out, room = [], limit_mb * 1e6
    for path in [*_notebooks(root), *_runs(root)]:
        name, size = path.relative_to(root).as_posix(), path.stat().st_size
        if size > min(room, FILE_MB * 1e6):
            left_out.append(name)
            continue
        room -= size
        packed[name] = path
    if not packed:
        raise XltError(f"No changed notebook and no run in {root.resolve()}: save the notebook in Jupyter first.")
    part = file.with_name(f"{file.name}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        archive.writestr(NOTE, json.dumps({"xlt_tutorial": __version__, "files": list(packed)}))
        for name, path in packed.items():
            archive.write(path, name)
    os.replace(part, file)
    return Saved(file, tuple(packed), tuple(left_out))


def restore(file: str | Path, folder: str | Path = ".") -> Restored:
    """Put saved work back; a file that is there and differs is renamed first, to ``NAME.old-N``, not overwritten.

    Args:
        file: From ``save``.
        folder: As for ``save``.

    Raises:
        XltError: Where the file is no zip from ``save``, is damaged, unpacks to more than 500 MB, or names a path
            outside the folder. Nothing has been written then.
    """
    root = _course(Path(folder))
    contents = _contents(Path(file))
    targets = {name: _target(root, name) for name in contents}
    written, same, kept = [], [], {}
    for name, data in contents.items():
        target = targets[name]
        if target.is_file() and target.read_bytes() == data:
            same.append(name)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() or target.is_symlink():
            aside = next(path for path in _asides(target) if not path.exists() and not path.is_symlink())
            target.rename(aside)
            kept[name] = aside.relative_to(root).as_posix()
        part = target.with_name(f"{target.name}.part")
        part.write_bytes(data)
        os.replace(part, target)
        written.append(name)
    return Restored(tuple(written), kept, tuple(same))


def _course(folder: Path) -> Path:
    """Return the course's folder, from itself or from ``notebooks`` in it."""
    inside = folder.resolve().name == "notebooks" and not (folder / "notebooks").is_dir()
    return folder.resolve().parent if inside else folder.resolve()


def _notebooks(root: Path) -> list[Path]:
    """Return the notebooks that differ from the course's, or all where git does not know."""
    command = ["git", "ls-files", "--modified", "--others", "-z", "--", "*.ipynb"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, encoding="utf-8", timeout=60)
        names = done.stdout.split("\0") if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired):  # no git here
        names = None
    found = root.rglob("*.ipynb") if names is None else (root / name for name in names if name)
    return sorted(path for path in set(found) if _plain(path, root))


def _runs(root: Path) -> list[Path]:
    """Return the files of runs, the newest first."""
    folders = [root / "runs", root / "notebooks" / "runs"]
    found = [path for folder in folders for path in folder.rglob("*") if _plain(path, root)]
    return sorted(found, key=lambda path: -path.stat().st_mtime)


def _plain(path: Path, root: Path) -> bool:
    """Tell whether a path is a file of the reader's: no link, no copy that a tool keeps in a hidden folder."""
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.is_file() and not path.is_symlink() and not hidden


def _contents(file: Path) -> dict[str, bytes]:
    """Return what a zip of ours holds, checked as far as that goes without a folder."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = [info.filename for info in archive.infolist()]
            if NOTE not in names:
                raise XltError(
                    f"{file} was not written by `xlt save`: choose the file that it wrote, such as work.zip."
                )
            if len(set(names)) != len(names):
                raise XltError(f"{file} holds a path twice and was not restored: save the work again.")
            room, contents = int(UNPACKED_MB * 1e6), {}
            for info in archive.infolist():
                if stat.S_ISLNK(info.external_attr >> 16):
                    raise XltError(f"{file} holds a link, {info.filename}, and was not restored: save the work again.")
                with archive.open(info) as packed:
                    data = packed.read(room + 1)  # what a zip says of its sizes may be untrue
                room -= len(data)
                if room < 0:
                    raise XltError(f"{file} unpacks to more than {UNPACKED_MB:.0f} MB and was not restored.")
                contents[info.filename] = data
    except (OSError, EOFError, zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError) as error:
        raise XltError(f"{file} cannot be read as a zip ({error}): download it again.") from error
    del contents[NOTE]
    return contents


def _target(root: Path, name: str) -> Path:
    """Return where a saved file goes, or raise where that is not inside the course's folder."""
    parts = PurePosixPath(name).parts
    outside = XltError(f"The file names a path outside the course's folder, {name!r}, and was not restored.")
    if not parts or name.startswith("/") or name.endswith("/") or set(name) & set("\\:\0") or {"..", "."} & set(parts):
        raise outside
    if any(part.startswith(".") for part in parts) or not (
        parts[0] == "runs" or parts[:2] == ("notebooks", "runs") or name.endswith(".ipynb")
    ):
        raise XltError(f"The file holds {name!r}, which `xlt save` never packs, and was not restored.")
    target = root.joinpath(*parts)
    if not target.parent.resolve().is_relative_to(root):  # by way of a link in the folder
        raise outside
    return target


def _asides(target: Path) -> Iterator[Path]:
    """Yield names for what is there, the suffix last, so that Jupyter still opens it."""
    number = 1
    while True:
        yield target.with_name(f"{target.stem}.old-{number}{target.suffix}")
        number += 1
