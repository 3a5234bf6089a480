"""Texts in Latin letters, for readers who do not know their script; worked out once, when the maps are made."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from typing import Any

from xlt_tutorial.styles import language_name
from xlt_tutorial.widgets.stored import MapsError, read_maps

PACKAGES = {"ja": "cutlet[unidic-lite]", "zh": "pypinyin"}  # as pip takes them; uroman for all else
# Codes that uroman knows; it reads other languages by their letters.
UROMAN = {"ar": "ara", "fa": "fas", "ko": "kor", "ru": "rus", "th": "tha", "hi": "hin", "ur": "urd", "el": "ell"}


def romanised(texts: Iterable[str], language: str) -> list[str]:
    """Return texts in Latin letters, empty for those that are so already.

    Japanese is read by ``cutlet``, Chinese by ``pypinyin``, all else letter by letter by ``uroman``. None of them is
    needed to read maps; where one is not installed, the shipped maps are asked for the same text. What they do not
    have stays empty, and a warning says which package would read it.
    """
    code = language.split("-")[0]
    package = PACKAGES.get(code, "uroman")
    read = {"ja": _japanese, "zh": _chinese}.get(code, _letters) if _installed(code) else _as_shipped
    asked = list(texts)
    found = ["" if _latin(text) else " ".join(read(text, code).split()) for text in asked]
    if (lost := sum(not (roman or _latin(text)) for text, roman in zip(asked, found, strict=True))) and (
        not _installed(code)
    ):
        warnings.warn(
            f"{lost} of {len(asked)} texts in {language_name(code)} have none in Latin letters beside them: "
            f"pip install '{package}' and run this again; what is finished is not computed again.",
            stacklevel=2,
        )
    return found


def _latin(text: str) -> bool:
    return all(ord(letter) < 0x250 or not letter.isalpha() for letter in text)


def _installed(code: str) -> bool:
    modules = {"ja": ("cutlet", "unidic_lite"), "zh": ("pypinyin",)}.get(code, ("uroman",))
    return all(find_spec(module) for module in modules)


def _japanese(text: str, code: str) -> str:
    return str(_cutlet().romaji(text)).lower()


def _chinese(text: str, code: str) -> str:
    import pypinyin

    return " ".join(pypinyin.lazy_pinyin(text, style=pypinyin.Style.TONE))


def _letters(text: str, code: str) -> str:
    return str(_uroman().romanize_string(text, lcode=UROMAN.get(code))).lower()


def _as_shipped(text: str, code: str) -> str:
    return _shipped().get((code, text), "")


@cache
def _cutlet() -> Any:
    import cutlet

    reader = cutlet.Cutlet()
    reader.use_foreign_spelling = False  # フォーク is foku, not fork
    return reader


@cache
def _uroman() -> Any:
    import uroman

    return uroman.Uroman()


@cache
def _shipped() -> dict[tuple[str, str], str]:
    try:
        maps = read_maps()
    except MapsError:
        return {}
    return {
        (code, str(text)): str(roman)
        for code, texts, romans in zip(maps.languages, maps.texts, maps.romanised, strict=True)
        for text, roman in zip(texts, romans, strict=True)
    }
