"""Errors that tell the reader what to type next."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

LONGEST = 4000  # of a message; a name of data may be as long as a book
# Characters of data that would steer a terminal, or turn the text around them: they are told by number.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class XltError(ValueError):
    """Raised where the reader can mend the input; the message names the rule and the remedy."""

    def __str__(self) -> str:
        text = _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", super().__str__())
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 500]} … {text[-400:]}"


def unknown(kind: str, name: object, valid: Iterable[str]) -> XltError:
    """Return the error for a name that is not among the valid ones.

    Args:
        kind: What was named, such as ``"task"``.
        name: What the reader wrote.
        valid: The names that would have worked.

    Returns:
        An error whose message lists the valid names and, where one is close, the nearest.
    """
    names = [_short(item) for item in valid]
    close = difflib.get_close_matches(_short(name), names, n=1, cutoff=0.5)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    return XltError(f'Unknown {kind} "{_short(name)}".{hint} Valid: {", ".join(names)}.')


def _short(name: object) -> str:
    text = str(name)
    return text if len(text) <= 200 else f"{text[:200]}…"
