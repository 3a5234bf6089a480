"""Kinds of words, against wordfreq's own frequencies."""

import wordfreq

from xlt_tutorial.wordlists import word_kinds


def test_kinds_follow_from_the_frequencies():
    words = ["house", "Haus", "maison", "τράπεζα", "猫", "zzqxk", "ʼʼ", "plus", "the", "THE"]
    found = word_kinds(words)
    for word in ("house", "Haus", "maison", "plus", "the"):
        frequency = {
            language: wordfreq.word_frequency(word.casefold(), language, wordlist="small")
            for language in set(wordfreq.available_languages("small")) - {"ja", "zh", "ko"}
        }
        english = frequency.pop("en")
        assert found[word] == ("english" if english > max(frequency.values()) else "foreign"), word
    assert [found[word] for word in ("house", "Haus", "maison", "the")] == ["english", "foreign", "foreign", "english"]
    assert found["τράπεζα"] == found["猫"] == "foreign", "letters that are not Latin"
    assert found["zzqxk"] == "unknown"
    assert found["THE"] == found["the"] and word_kinds([]) == {}
