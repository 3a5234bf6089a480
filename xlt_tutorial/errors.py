"""Errors that tell the reader what to type next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class XltError(ValueError):
    """Raised where the reader can mend the input; the message names the rule and the remedy."""


def unknown(kind: str, name: object, valid: Iterable[str]) -> XltError:
    """Return the error for a name that is not among the valid ones.

    Args:
        kind: What was named, such as ``"task"``.
        name: What the reader wrote.
        valid: The names that would have worked.

    Returns:
        An error whose message lists the valid names and, where one is close, the nearest.
    """
    names = [str(item) for item in valid]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    return XltError(f'Unknown {kind} "{name}".{hint} Valid: {", ".join(names)}.')
