"""Texts in Latin letters, for readers who do not know their script; worked out once, when the maps are made."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from typing import Any

from xlt_tutorial.widgets.stored import MapsError, read_maps

# Codes that uroman knows; it reads other languages by their letters.
UROMAN = {"ar": "ara", "fa": "fas", "ko": "kor", "ru": "rus", "th": "tha", "hi": "hin", "ur": "urd", "el": "ell"}


def romanised(texts: Iterable[str], language: str) -> list[str]:
    """Return texts in Latin letters, empty for those that are so already.

    Japanese is read by ``cutlet``, Chinese by ``pypinyin``, all else letter by letter by ``uroman``. None of them is
    needed to read maps; where one is not installed, the shipped maps are asked for the same text, else it stays empty.
    """
    return [_roman(text, language.split("-")[0]) for text in texts]


def _roman(text: str, language: str) -> str:
    if all(ord(letter) < 0x250 or not letter.isalpha() for letter in text):
        return ""
    if language == "ja" and find_spec("cutlet") and find_spec("unidic_lite"):
        return str(_cutlet().romaji(text)).lower()
    if language == "zh" and find_spec("pypinyin"):
        import pypinyin

        return " ".join(pypinyin.lazy_pinyin(text, style=pypinyin.Style.TONE))
    if language not in ("ja", "zh") and find_spec("uroman"):
        return str(_uroman().romanize_string(text, lcode=UROMAN.get(language))).lower()
    return _shipped().get((language, text), "")


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
