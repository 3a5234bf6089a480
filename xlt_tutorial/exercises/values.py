"""What functions return: compared number by number, whatever library holds the numbers, and put into words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def plain(value: Any) -> Any:
    """Return a NumPy array for a tensor, an array, a number, a table, or a list of these; anything else as it is."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().to_dense()
        return value.double().numpy() if value.is_floating_point() else value.resolve_conj().numpy()
    if isinstance(value, bool | int | float | np.ndarray | np.generic):
        return np.asarray(value)
    if hasattr(value, "to_numpy"):  # pandas
        return value.to_numpy()
    if isinstance(value, list | tuple) and value:
        parts = [plain(part) for part in value]
        if all(isinstance(part, np.ndarray) and part.shape == parts[0].shape for part in parts):
            return np.stack(parts)
    return value


def same(given: Any, wanted: Any, tolerance: float) -> bool:
    """Return whether two values are the same up to a tolerance; types of containers and of numbers do not matter.

    The tolerance is relative to each number, and a hundredth of it to the largest of an array (to 1 where all are
    nearly 0). NaN equals NaN.
    """
    if isinstance(wanted, Mapping):
        given = given.to_dict() if not isinstance(given, Mapping) and hasattr(given, "to_dict") else given
        return (
            isinstance(given, Mapping)
            and given.keys() == wanted.keys()
            and all(same(given[key], wanted[key], tolerance) for key in wanted)
        )
    one, other = plain(given), plain(wanted)
    if isinstance(other, np.ndarray):
        if not isinstance(one, np.ndarray) or one.shape != other.shape:
            return False
        if not {one.dtype.kind, other.dtype.kind} <= set("biuf"):
            return bool(one.dtype.kind == other.dtype.kind and np.array_equal(one, other))
        finite = np.abs(other[np.isfinite(other)], dtype=float)
        scale = finite.max(initial=0.0)
        least = tolerance / 100 * (scale if scale > 1e-6 else 1.0)
        return bool(np.allclose(one, other, rtol=tolerance, atol=least, equal_nan=True))
    if isinstance(wanted, list | tuple):
        parts = list(one) if isinstance(one, np.ndarray) and one.ndim else given
        return (
            isinstance(parts, list | tuple)
            and len(parts) == len(wanted)
            and all(same(part, right, tolerance) for part, right in zip(parts, wanted, strict=True))
        )
    try:
        return given is wanted or bool(given == wanted)
    except Exception:  # whatever their own comparison raises
        return False


def tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors in nested lists, tuples, mappings and models; the order of a mapping's keys plays no part."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, torch.nn.Module):
        return list(value.parameters())
    if isinstance(value, Mapping):
        value = [value[key] for key in sorted(value, key=str)]
    return [tensor for part in value for tensor in tensors(part)] if isinstance(value, list | tuple) else []


def difference(given: Any, wanted: Any, tolerance: float) -> str:
    """Say what a value is and what it should be, as words that follow "it returns"."""
    if isinstance(given, Mapping) and isinstance(wanted, Mapping):
        if given.keys() != wanted.keys():
            return f"the keys {short(sorted(map(str, given)))}, expected {short(sorted(map(str, wanted)))}"
        key = next(key for key in wanted if not same(given[key], wanted[key], tolerance))
        return f"at the key {key!r} {difference(given[key], wanted[key], tolerance)}"
    one, other = plain(given), plain(wanted)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if one.shape != other.shape:
            return f"{_shape(one)}, expected {_shape(other)}"
        if {one.dtype.kind, other.dtype.kind} <= set("biuf") and (np.isnan(one) & ~np.isnan(other)).any():
            return (
                f"{short(given)}, where nan is no number: look for a division of 0 by 0, a logarithm or a root of what "
                f"is negative, or an infinity minus an infinity. Expected {short(wanted)}"
            )
    elif isinstance(one, np.ndarray) or isinstance(other, np.ndarray) or type(given) is not type(wanted):
        return f"{short(given)}, of type {type(given).__name__}; expected {short(wanted)}"
    digits = next((n for n in (5, 9, 15) if short(given, n) != short(wanted, n)), 5)
    return f"{short(given, digits)}, expected {short(wanted, digits)}"


def factor(given: list[Any], wanted: list[Any]) -> float | None:
    """Return the one number, other than 1, that all wanted values were multiplied by; ``None`` where there is none."""
    rows = [(plain(one), plain(other)) for one, other in zip(given, wanted, strict=True)]
    for row in rows:
        if any(not isinstance(value, np.ndarray) or value.dtype.kind != "f" for value in row):
            return None
        if row[0].shape != row[1].shape:
            return None
    one, other = (np.concatenate([row[side].ravel() for row in rows]) for side in (0, 1))
    if len(one) < 2 or not np.isfinite([one, other]).all() or not other.any():
        return None
    by = float(one @ other / (other @ other))
    return by if abs(by) > 1e-3 and abs(by - 1) > 1e-3 and np.allclose(one, by * other, rtol=1e-3, atol=1e-7) else None


def short(value: Any, digits: int = 5) -> str:
    """Return a value as a short text: numbers with a few digits, long arrays with dots."""
    value = plain(value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        text = np.array2string(
            value, separator=", ", threshold=12, edgeitems=3, formatter={"float_kind": lambda x: f"{x:.{digits}g}"}
        )
    else:
        text = str(value.tolist() if isinstance(value, np.ndarray) else value)
    text = " ".join(text.split())
    return text if len(text) <= 160 else text[:157] + "..."


def _shape(value: np.ndarray) -> str:
    return f"the shape {value.shape}" if value.ndim else "one number"
