"""One look for all figures: colours, markers, names of languages, fonts, and text from data made safe to draw.

A language has the same colour and marker in every figure. The palette keeps its distances under simulated protanopia,
deuteranopia and tritanopia, and the marker says the same again.
"""

from __future__ import annotations

import html
import re
import textwrap
import unicodedata
from collections.abc import Iterable

# Colours 1 to 6 are those of Okabe and Ito (2008); each later one is the farthest from all before it in CIELAB, at the
# worst of normal and the three kinds of colour-blind vision.
PALETTE = (
    "#111111 #0072b2 #e69f00 #009e73 #cc79a7 #56b4e9 #d55e00 #8800ff #663311 #222299 #99bb66 #553366 #bb55ff #882244 "
    "#dd1144 #8811cc #885577 #557744 #aa1199 #ff4477 #aa3300 #9999ff"
).split()
MARKERS = (
    "circle square diamond cross triangle-up x triangle-down star pentagon triangle-left hexagon triangle-right "
    "hexagram bowtie hourglass star-square diamond-tall star-triangle-up "
    "diamond-wide star-diamond star-triangle-down octagon"
).split()
# The order is that of the palette: a language that it is long enough for keeps its colour in every figure.
LANGUAGES = {
    **{"en": "English", "es": "Spanish", "ja": "Japanese", "ko": "Korean", "pt": "Portuguese", "it": "Italian"},
    **{"fr": "French", "de": "German", "fa": "Persian", "id": "Indonesian", "zh": "Chinese", "ru": "Russian"},
    **{"tr": "Turkish", "ar": "Arabic", "th": "Thai", "hi": "Hindi", "sw": "Swahili", "vi": "Vietnamese"},
    **{"bg": "Bulgarian", "el": "Greek", "ur": "Urdu", "yo": "Yoruba"},
    **{"fi": "Finnish"},
}
FONT = "Noto Sans, Segoe UI, Helvetica Neue, Arial, Noto Sans CJK JP, Noto Naskh Arabic, Noto Color Emoji, sans-serif"
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def language_name(code: str) -> str:
    """Return the English name of a language code, such as ``German`` for ``de``, or the code where none is known."""
    base = re.split("[-_]", code)[0]
    return LANGUAGES.get(code) or (f"{LANGUAGES[base]} ({code})" if base in LANGUAGES else code)


def styles(values: Iterable[str], kind: str = "language") -> dict[str, tuple[str, str]]:
    """Return ``{value: (colour, marker)}`` in drawing order, a different pair for each.

    The first languages of ``LANGUAGES``, as many as there are colours, have their own pairs; any other takes, in the
    order of its code, the next that is free.
    Labels take pairs in alphabetical order.
    """
    found = set(values)
    order = list(LANGUAGES)[: len(PALETTE)] if kind == "language" else []
    slot = {value: order.index(value) for value in order if value in found}
    free = (i for i in range(1, len(found) + len(PALETTE)) if i not in slot.values())
    slot |= {value: next(free) for value in sorted(found - set(slot))}
    size = len(PALETTE)
    return {value: (PALETTE[i % size], MARKERS[(i + i // size) % size]) for value, i in slot.items()}


def plain_text(value: object) -> str:
    """Return text without direction marks, and with spaces for control characters; joiners and emoji stay whole."""
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cs") else c for c in _DIRECTION.sub("", str(value)))


def safe_text(value: object, width: int = 60) -> str:
    """Return text from data for a figure: ``plain_text``, wrapped at ``width``, cut after six lines and escaped.

    Lines with right-to-left letters are isolated (U+2068 .. U+2069), so that they cannot reorder their surroundings.
    A dollar is written by its number, or plotly would set what stands between two of them as mathematics.
    """
    lines = textwrap.wrap(plain_text(str(value)[: 20 * width]), width, max_lines=6, placeholder=" …")
    backwards = [any(unicodedata.bidirectional(c) in ("R", "AL") for c in line) for line in lines]
    shown = [html.escape(line, quote=False).replace("$", "&#36;") for line in lines]
    return "<br>".join(f"\u2068{s}\u2069" if rtl else s for s, rtl in zip(shown, backwards, strict=True))


def markdown_text(value: object) -> str:
    """Return text from data for Markdown: ``plain_text`` in one line that shows as it is.

    Nothing in it becomes an element, emphasis, mathematics or a link, not even an address that stands there bare.
    """
    escaped = html.escape(" ".join(plain_text(value).split()), quote=False)
    escaped = re.sub(r"([`*_{}\[\]#$|~@\\])", r"\\\1", escaped).replace("\\\\", "&#92;")  # two would begin mathematics
    return re.sub(r"(?i):(?=//)|(?<=\bwww)\.", r"\\\g<0>", escaped)
