"""Which language a word belongs to, by wordfreq's lists."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def word_kinds(words: Iterable[str]) -> dict[str, str]:
    """Tell English words from others, by wordfreq's small lists of 42 languages.

    Args:
        words: In any case and normal form.

    Returns:
        For each word ``english`` where it is commoner in English than in any other language, ``foreign`` where it is
        not, or has letters that are not Latin, and ``unknown`` where no list has it. Many words are common in several
        languages ("plus", "formal"): a kind is a guess.
    """
    import wordfreq  # reading its lists takes seconds, and most runs need none

    key = {word: unicodedata.normalize("NFC", word).casefold() for word in words}
    best, english = dict.fromkeys(key, 0.0), wordfreq.get_frequency_dict("en", wordlist="small")
    for language in sorted(set(wordfreq.available_languages("small")) - {"en"}):
        listed = wordfreq.get_frequency_dict(language, wordlist="small")
        best = {word: max(most, listed.get(key[word], 0.0)) for word, most in best.items()}
        for cached in (wordfreq.get_frequency_dict, wordfreq.get_frequency_list):
            cached.cache_clear()  # wordfreq would keep all 42 lists, 200 MB
    found = {}
    for word, most in best.items():
        own = english.get(key[word], 0.0)
        unlisted = "unknown" if _latin(word) else "foreign"
        found[word] = "english" if own > most else "foreign" if most > 0 else unlisted
    return found


def _latin(word: str) -> bool:
    return all(unicodedata.name(letter, "").startswith("LATIN") for letter in word if letter.isalpha())
