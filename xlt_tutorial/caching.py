"""Results that cost minutes, kept on disk under the hash of everything they follow from."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xlt_tutorial import __version__
from xlt_tutorial.files import is_whole, sweep, whole_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LIMIT = 2 * 2**30  # bytes; the entries that were not used for longest go first
HOUR = 3600.0


def cache_folder() -> Path:
    """Return the folder of converted weights, vectors and maps: ``XLT_CACHE``, else ``~/.cache/xlt_tutorial``."""
    return Path(os.environ.get("XLT_CACHE") or Path.home() / ".cache" / "xlt_tutorial")


def content_hash(parts: Iterable[object]) -> str:
    """Return the sha256 of arrays (type, shape and bytes) and of everything else as it is written by ``repr``."""
    digest = hashlib.sha256(__version__.encode())
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(f"{part!r}\0".encode())
    return digest.hexdigest()


def model_hash(model: PreTrainedModel) -> str:
    """Return the sha256 of a model's weights and of the settings that decide what it computes from them."""
    settings = {key: value for key, value in model.config.to_dict().items() if not key.startswith("_")}
    parts: list[object] = [type(model).__name__, sorted(settings.items(), key=str)]
    for name, weight in sorted(model.state_dict().items()):
        plain = weight.detach().cpu()
        parts += [name, str(weight.dtype), (plain.float() if plain.is_floating_point() else plain).numpy()]
    return content_hash(parts)


def cached(kind: str, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array that ``key`` stands for, from the cache where it is whole, else computed and kept.

    Args:
        kind: Folder inside ``cache_folder()``.
        key: From ``content_hash`` of everything the array follows from.
        compute: Called where there is no whole entry. A full disk or a folder that cannot be written only costs the
            keeping, not the result.
    """
    if entry := kept(kind, key):
        return np.load(entry / "array.npy", allow_pickle=False)
    array = compute()
    keep(kind, key, lambda folder: np.save(folder / "array.npy", array, allow_pickle=False))
    return array


def kept(kind: str, key: str) -> Path | None:
    """Return the folder of an entry that is whole, else ``None``."""
    entry = cache_folder() / kind / key
    if not is_whole(entry):
        return None
    with suppress(OSError):
        os.utime(entry)
    return entry


def keep(kind: str, key: str, write: Callable[[Path], None]) -> None:
    """Keep what ``write`` puts into the folder that it is given; where the disk refuses, nothing is kept."""
    folder = cache_folder() / kind
    entry = folder / key
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder, older_than=HOUR)
        shutil.rmtree(entry, ignore_errors=True)
        with whole_folder(entry) as work:
            write(work)
        _make_room(folder, entry)


def _make_room(folder: Path, newest: Path) -> None:
    """Remove the entries that were not used for longest until the rest fits."""
    entries = [(path.stat().st_mtime, path) for path in folder.iterdir() if path.is_dir()]
    sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for _, path in entries}
    total = sum(sizes.values())
    for _, path in sorted(entries):
        if total <= LIMIT or path == newest:
            return
        shutil.rmtree(path, ignore_errors=True)
        total -= sizes[path]
