# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Make virtual multilingual sentences out of English
#
# The second stream: what a swap does to a sentence, and to its meaning.
#
# **What you will learn**
# - why the neighbours of an English word, in the encoder's own table of input vectors, are so often its translations;
# - how a *virtual* sentence is made from English text and that table alone, token by token, and why that is still
#   zero-shot;
# - three makers (neighbours, synonyms, noise) and their dials: how much changes, and how far a sentence moves;
# - how to audit a maker: foreign words, scripts, meaning kept, meaning lost, labels that flip;
# - where virtual sentences land among the languages, and which null says whether that means anything.
#
# **What you need**: Python and PyTorch basics. Notebook [01](01_the_embedding_cluster_gap.ipynb) explains pieces,
# layers and sentence vectors; nothing that it computed is needed.
#
# **Time and memory**: under 1 minute on two cores, about 1.6 GB.
#
# **Where it runs**: on a laptop, without a GPU and without a model hub; on Binder and Colab too.

# %%
import os
import unicodedata
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
import torch
import wordfreq
from IPython.display import Markdown, display

from xlt_tutorial import EmbeddingNoise, NeighbourSwap, SynonymSwap, load_encoder, load_task, swap_report
from xlt_tutorial.alignment import pooled_layers
from xlt_tutorial.batching import TwoStreamBatches, collate, encode_rows, row_generator
from xlt_tutorial.errors import XltError
from xlt_tutorial.exercises import check
from xlt_tutorial.figures import show
from xlt_tutorial.projection import project
from xlt_tutorial.quiz import quiz
from xlt_tutorial.styles import FONT, PALETTE, language_name, markdown_text, safe_text, styles
from xlt_tutorial.taps import embedding_noise

TASK = os.environ.get("XLT_TASK", "emoji")
ENCODER = os.environ.get("XLT_ENCODER", "e5-small")
RATE = 0.3  # the probability that a word is swapped
LOOK = {
    "template": "plotly_white",
    "font": {"family": FONT, "size": 13},
    "margin": {"l": 20, "r": 20, "t": 40, "b": 30},
}
pd.set_option("display.max_colwidth", 90)


def say(text):
    """Show a sentence whose numbers come from the code around it."""
    display(Markdown(text))


# %% [markdown]
# ## Two streams
#
# Vanilla fine-tuning shows the model an English sentence $x$. EAR shows it $x$ *and* a virtual copy $x'$ in which some
# words are replaced, and adds its terms on the pair:
#
# $$\mathcal L = \mathrm{CE}(f(x), y) + \mathrm{CE}(f(x'), y) + \alpha \cdot \mathrm{push}(x, x')
# + \beta \cdot \mathrm{pull}(x, x')$$
#
# Notebooks 04 to 06 take one term each. All of them stand on $x'$, and $x'$ is the subject here. The paper
# (Ding et al., 2022) swaps words for synonyms from a table. Our default needs no table at all: it asks the encoder.
#
# We load the task, and the encoder with its **whole** vocabulary. You will see why it must be the whole one.

# %%
task = load_task(TASK)
SOURCE, TARGETS, SPLIT = task.source, task.targets, task.evaluation_split
encoder = load_encoder(ENCODER)
model, tokenizer = encoder.model, encoder.tokenizer
matrix = model.get_input_embeddings().weight.detach()  # one input vector per piece
piece_of = {i: piece for piece, i in tokenizer.get_vocab().items() if i < len(matrix)}
LAST = model.config.num_hidden_layers

training = [split for split in task.splits if split != SPLIT and SOURCE in task.splits[split]]
if not training:
    raise XltError(f"{task.name} has no {SOURCE} text to train on: add train.{SOURCE}.tsv, or leave XLT_TASK out.")
english = [text for split in training for text in task.texts(split, SOURCE)]
some = task[training[0]][SOURCE]
rows = encode_rows(tokenizer, some.select(range(min(1000, len(some)))), task.text_columns, 128)
print(task)
say(
    f"The matrix of input vectors has {len(matrix):,} rows of {matrix.shape[1]} numbers. We have {len(english)} "
    f"{language_name(SOURCE)} texts, from {' and '.join(training)}; of {training[0]} we use {len(rows)} rows."
)

# %% [markdown]
# ## Ask the matrix for the neighbours of a word
#
# A piece goes into the encoder as a row of this matrix. No dictionary ever said which rows translate each other. But
# the encoder has read all its languages with one and the same set of blocks, and what is used alike tends to get rows
# that are alike, in whatever language. Take one word, and sort all other rows by their cosine with its own.
#
# *Predict before you run*: which kinds of words will come first?

# %%
MARK = "▁" if any(piece.startswith("▁") for piece in piece_of.values()) else ""  # what a word begins with
held = {piece: i for i, piece in piece_of.items()}
words = pd.Series([word for text in english for word in text.split() if len(word) > 2]).value_counts()
wish = [*"face hand heart dog woman water book three black red with closed".split(), *words.index]
wish = [MARK + word for word in wish if word in words.index and tokenizer.tokenize(word) == [MARK + word]]
WORD = wish[0]
lengths = matrix.norm(dim=1)


def by_cosine(piece, count, among=None):
    """The `count` pieces whose rows have the largest cosine with the row of `piece`, and those cosines."""
    own = held[piece]
    cosine = (matrix @ matrix[own]) / (lengths * lengths[own]).clamp(min=1e-9)
    if among is not None:
        cosine[[i not in among for i in range(len(matrix))]] = -1
    best = cosine.topk(count)
    return [(piece_of.get(i, ""), value) for i, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)]


found = by_cosine(WORD, 24)
table = pd.DataFrame(found, columns=["piece", "cosine"]).rename_axis("rank")
table["cosine"] = table["cosine"].map("{:.2f}".format)
display(pd.concat([table.iloc[i : i + 8].reset_index(drop=True) for i in (0, 8, 16)], axis=1))

# %% [markdown]
# ## What may stand in for a word
#
# Among the first stand the word itself, its other spellings, pieces from the middle of words, and translations. A swap
# for another spelling would change nothing, and a middle piece would break the row. So two rules:
#
# 1. A candidate is a **whole word**: a piece that opens a word (`▁`), of three letters or more, nothing but letters.
# 2. It is **no variant** of the word: another one after case and accents are folded away.
#
# With $V$ the pieces that are whole words, $[w]$ the variants of $w$ and $E$ the matrix, the candidates of $w$ are
#
# $$N_k(w) = \operatorname*{top-}k_{\;v \,\in\, V \setminus [w]}\; \cos(E_v, E_w), \qquad k=10$$
#
# `NeighbourSwap.fit` does this for all words of some texts (its test compares it with a plain loop over the matrix:
# `test_neighbours_equal_a_plain_loop_over_the_matrix`). By hand for one word, and then all of them:


# %%
def plain(word):
    """The word without capitals and accents: equal for all variants of a word."""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", word).casefold())
    return "".join(letter for letter in letters if unicodedata.category(letter)[0] != "M")


def whole_word(piece):
    """Opens a word, and is three letters or more; combining marks, as in हिन्दी, belong to a letter."""
    kinds = [unicodedata.category(letter)[0] for letter in piece.removeprefix(MARK)]
    return piece.startswith(MARK) and set(kinds) <= {"L", "M"} and kinds.count("L") >= 3


def text_of(piece):
    return piece.removeprefix(MARK)


mine = [(p, c) for p, c in by_cosine(WORD, 300) if whole_word(p) and plain(text_of(p)) != plain(text_of(WORD))][:10]
swap = NeighbourSwap.fit(encoder, english, rate=RATE, neighbours=10)
assert {piece for piece, _ in mine} == set(swap.table[WORD])
listed = ", ".join(f"{markdown_text(text_of(piece))} ({cosine:.2f})" for piece, cosine in mine)
say(f"**{markdown_text(text_of(WORD))}** → {listed}")
say(f"`fit` found candidates for **{len(swap.table)}** words of our texts: {len(swap.pieces):,} different pieces.")

# %% [markdown]
# ## Which languages are these?
#
# The vocabulary does not say which language a piece belongs to, and many belong to several. An honest **guess**: the
# language in which the word is commonest, by the word lists of `wordfreq`. Where no list has it, we name its script and
# say no more. The guess is for reading alone: nothing is chosen by it.

# %%
MORE = {"bn": "Bengali", "ca": "Catalan", "cs": "Czech", "da": "Danish", "fi": "Finnish", "fil": "Filipino"}
MORE |= {"he": "Hebrew", "hu": "Hungarian", "is": "Icelandic", "lt": "Lithuanian", "lv": "Latvian", "ms": "Malay"}
MORE |= {"mk": "Macedonian", "nb": "Norwegian", "nl": "Dutch", "pl": "Polish", "ro": "Romanian", "sk": "Slovak"}
MORE |= {"sh": "Serbo-Croatian", "sl": "Slovenian", "sv": "Swedish", "ta": "Tamil", "uk": "Ukrainian"}
wide = NeighbourSwap.fit(encoder, english, rate=1.0, neighbours=100)  # ten times as many, for later
best = {text_of(piece): (0.0, "") for piece in {*wide.pieces, *wide.table, *swap.pieces}}
for code in wordfreq.available_languages("small"):
    listed = wordfreq.get_frequency_dict(code, wordlist="small")
    for word, (most, _) in best.items():
        if (often := listed.get(unicodedata.normalize("NFC", word).casefold(), 0.0)) > most:
            best[word] = (often, code)
    wordfreq.get_frequency_dict.cache_clear()  # it would keep all lists, 200 MB
    wordfreq.get_frequency_list.cache_clear()


def script(word):
    letter = next((letter for letter in word if letter.isalpha()), " ")
    return unicodedata.name(letter, "unknown").split()[0].capitalize()


def guess(word):
    """The name of a language, or of a script where no word list has the word."""
    code = best[word][1] if word in best else ""
    return MORE.get(code, language_name(code)) if code else f"{script(word)} script"


examples = [piece for piece in wish if piece in swap.table][:12]
cells = {
    text_of(piece): [f"\u2068{text_of(near)}\u2069 · {guess(text_of(near))}" for near in swap.table[piece][:7]]
    for piece in examples
}
pd.DataFrame.from_dict(cells, orient="index").fillna("").rename(columns=lambda i: i + 1)

# %% [markdown]
# Read along a line: mostly one word in many languages. Some are other words of the same kind (a number for a number, a
# colour for a colour), and some merely look alike. Counted over all candidates:

# %%
kinds = pd.Series({piece: best[text_of(piece)][1] for piece in swap.pieces})
named = kinds[kinds != ""].map(lambda code: MORE.get(code, language_name(code))).value_counts()
scripts = pd.Series([script(text_of(piece)) for piece in swap.pieces]).value_counts(normalize=True)
plainly = kinds[[text_of(piece) in words.index for piece in kinds.index]]  # words of our own English texts
shares = {"other": ((kinds != "") & (kinds != SOURCE)).mean(), "own": (kinds == SOURCE).mean()}
bars = named.head(24)[::-1].rename("candidates").rename_axis("language").reset_index()
figure = px.bar(bars, x="candidates", y="language", orientation="h", color_discrete_sequence=[PALETTE[1]])
show(
    figure.update_layout(LOOK, height=560).update_yaxes(title=None),
    f"Guessed languages of the {len(kinds):,} candidates, the 24 most frequent. {shares['other']:.0%} are commonest in "
    f"another language than {language_name(SOURCE)}, {shares['own']:.0%} in {language_name(SOURCE)}, "
    f"{(kinds == '').mean():.0%} are in no list. {1 - scripts.get('Latin', 0):.0%} are not in Latin letters; there are "
    f"{len(scripts)} scripts. The guess errs: of the {len(plainly)} candidates that are words of our "
    f"{language_name(SOURCE)} texts, it gives {(plainly != SOURCE).sum()} to another language.",
)

# %% [markdown]
# ## Do they mean the same? Ask the parallel names
#
# Our task has texts in other languages, written by people. If a neighbour occurs as a word in such a text, we can
# look up which thing that is, and what English calls it: a gloss without a dictionary. It is for **display alone**;
# the candidates were chosen above and do not change.
#
# A neighbour counts as *kept* in as far as the English names of those things hold the original word.


# %%
def words_in(text):
    """The words of a text, case folded."""
    return "".join(c if unicodedata.category(c)[0] in "LM" else " " for c in text.casefold()).split()


items = task[SPLIT][SOURCE]
data = task[SPLIT]
texts = {
    code: [" / ".join(parts) for parts in zip(*(data[code][name] for name in task.text_columns), strict=True)]
    for code in task.languages
}
has = [set(words_in(name)) for name in texts[SOURCE]]
places = {}  # (language, word) -> the items whose text has it
for code in TARGETS:
    for row, name in enumerate(texts[code]):
        for word in set(words_in(name)):
            places.setdefault((code, word), []).append(row)


def seen_in_targets(table):
    """Each neighbour that is a word of target texts: of how many of these items does the English name keep the word?"""
    return [
        (text_of(piece), text_of(near), rank, code, at, np.mean([text_of(piece).casefold() in has[row] for row in at]))
        for piece, candidates in table.items()
        for rank, near in enumerate(candidates, start=1)
        for code in TARGETS
        if (at := places.get((code, text_of(near).casefold())))
    ]


seen = pd.DataFrame(seen_in_targets(wide.table), columns=["word", "neighbour", "rank", "code", "items", "kept"])
ten = seen[seen["rank"] <= 10]
say(f"{len(ten)} times, one of the ten neighbours of a word is also a word in the texts of a target language.")

# %% [markdown]
# Here are two examples per language, where there are any: a neighbour that keeps the meaning and one that does not.
# Read the last column but one against the first. Some words merely look alike. And some are a *no* only because
# English has another name for the thing, so the count below errs on the low side.


# %%
def examples_of(table, kept):
    """One line per language, the shortest text first, and no word twice."""
    size = [len(texts[line.code][line.items[0]]) for line in table.itertuples()]
    used, lines = set(), []
    for code in TARGETS:
        fits = table.assign(size=size)[(table["code"] == code) & (table["kept"] == kept) & ~table["word"].isin(used)]
        for line in fits.sort_values("size", kind="stable").head(1).itertuples():
            used.add(line.word)
            row = line.items[0]
            face, english_text = items[row].get("emoji", ""), texts[SOURCE][row]
            shown = [line.word, line.neighbour, language_name(code), face, texts[code][row][:60], english_text[:60]]
            lines.append([*shown, "yes" if kept else "no"])
    return lines


columns = ["word", "neighbour", "language", "", "a text that has it", "in the source", "kept"]
display(pd.DataFrame(examples_of(ten, 1) + examples_of(ten, 0), columns=columns))
common = pd.Series([word for words_of in has for word in words_of]).value_counts() / len(has)
asked = ten[ten["word"].str.casefold().isin(common.index)]
if len(asked):
    say(
        f"The texts can tell where the word itself occurs in them too: {len(asked)} times. There, on average, "
        f"**{asked['kept'].mean():.0%}** of the items whose text has the neighbour have the word in their "
        f"{language_name(SOURCE)} text. A neighbour drawn blindly would score as much as the word is frequent: "
        f"{common[asked['word'].str.casefold()].mean():.1%}."
    )

# %% [markdown]
# ## Why this is still zero-shot
#
# The candidates follow from two things: the English texts of the task, and a matrix that was there before the task.
# No text of a target language is read. (The encoder itself has read many languages, translated pairs among them, long
# before: that is what makes zero-shot transfer possible at all, with a swap or without.)
#
# Do not take our word for it. We delete every text in every target language, fit again, and compare. (The package's
# test: `test_real_candidates_do_not_see_target_languages`.)
#
# Then the trap. To save memory, the package can *trim* the vocabulary to the pieces of a task. But the task's texts
# include the tests in the target languages. Search the trimmed matrix, and every candidate is a piece of a test: the
# test has leaked into training. `fit` refuses. Below, by hand, is what it would have found.

# %%
deleted = {split: {SOURCE: task.splits[split][SOURCE]} for split in training}
left = [text for sets in deleted.values() for column in task.text_columns for text in sets[SOURCE][column]]
assert NeighbourSwap.fit(encoder, left, rate=RATE, neighbours=10).table == swap.table
say("Without a single text in a target language: **the same candidates**, for every word.")

try:
    NeighbourSwap.fit(replace(encoder, kept_ids=torch.arange(len(matrix))), english)  # marked as a trimmed one
except XltError as error:
    print(f"XltError: {error}\n")

needed = {i for texts_of in texts.values() for ids in tokenizer(texts_of)["input_ids"] for i in ids}
leaked = [p for p, _ in by_cosine(WORD, 200, needed) if whole_word(p) and plain(text_of(p)) != plain(text_of(WORD))]
print(f"{text_of(WORD)}, whole matrix:  ", ", ".join(text_of(piece) for piece in swap.table[WORD]))
print(f"{text_of(WORD)}, trimmed matrix:", ", ".join(text_of(piece) for piece in leaked[:10]))
tested = np.mean([held[piece] in needed for piece in swap.pieces])
say(
    f"Of all candidates from the whole matrix, {tested:.0%} happen to be a piece of a test text. Trimmed, all would be."
)

# %% [markdown]
# ## One row, token by token
#
# Eligible is a word that is one piece, three letters or more; parts of longer words, numbers and special tokens stay.
# Every eligible word tosses its own coin $u_i$, uniform between 0 and 1, and
#
# $$x'_i = \begin{cases} v \sim \mathrm{Uniform}\big(N_k(x_i)\big) & \text{if } i \text{ is eligible and } u_i < r \\
# x_i & \text{else} \end{cases}$$
#
# One piece takes the place of one piece, so the copy has the length of the original and position $i$ is still
# position $i$. The attention pull (notebook 05) compares maps position by position, and counts on that.


# %%
def eligible(tokens):
    """Places of whole words: the next token, closing punctuation aside, opens a word too or ends the text."""
    found = []
    for i, token in enumerate(tokens[:-1]):
        after = next(other for other in tokens[i + 1 :] if not set(other) <= set('.,;:!?)]}»”"…'))
        ends = after in tokenizer.all_special_tokens or (after.startswith(MARK) and not after.startswith("##"))
        if ends and whole_word(token) and token not in tokenizer.all_special_tokens:
            found.append(i)
    return found


def copy_of(maker, row, seed=0, epoch=0):
    return maker.virtual(row, tokenizer, row_generator(seed, epoch, 0, row.id))


def worth_showing(row):
    """A foreign word swapped in, three eligible words or more, a word in parts, and short."""
    copy, size = copy_of(swap, row), len(row.input_ids)
    agreed = copy.words == len(eligible(tokenizer.convert_ids_to_tokens(list(row.input_ids))))
    foreign = any(best[new][1] != SOURCE for _, new in copy.swaps)
    return agreed, foreign, min(3, copy.words), size - 2 > copy.words, -size


ROW = max(rows, key=worth_showing)
tokens = tokenizer.convert_ids_to_tokens(list(ROW.input_ids))
rng, virtual = row_generator(0, 0, 0, ROW.id), list(tokens)  # seed 0, epoch 0, copy 0
coins = dict(zip(eligible(tokens), rng.random(len(eligible(tokens))), strict=True))
for i, coin in coins.items():
    candidates = swap.table.get(tokens[i])
    if candidates and coin < RATE:
        virtual[i] = candidates[rng.integers(len(candidates))]

copy = copy_of(swap, ROW)
assert tokenizer.convert_tokens_to_ids(virtual) == list(copy.input_ids) and copy.words == len(coins)
shown = {"x": tokens, "coin": [f"{coins[i]:.2f}" if i in coins else "stays" for i in range(len(tokens))]}
shown["x'"] = virtual
shown["guess"] = ["" if old == new else guess(text_of(new)) for old, new in zip(tokens, virtual, strict=True)]
display(pd.DataFrame(shown).T)
said = markdown_text(" / ".join(ROW.texts))
say(f"“{said}”: {len(coins)} of {len(tokens)} tokens are eligible, swapped: {len(copy.swaps)}.")

# %% [markdown]
# ## How many rows change at all?
#
# A swap that finds nothing to swap returns the row as it is: then $x' = x$. Push and pull compare the row with
# itself, so all they see is dropout, and the robust term is a second pass over the same sentence. A row with $n$
# words that have candidates is unchanged with probability $(1-r)^n$.
#
# *Predict before you run*: at rate 0.3, which share of the rows changes?

# %%
full = replace(swap, rate=1.0)
free = np.array([len(copy_of(full, row).swaps) for row in rows])  # words that can be swapped
changed = np.array([bool(copy_of(swap, row).swaps) for row in rows])
expected = np.mean(1 - (1 - RATE) ** free)
table = pd.DataFrame({"words": np.minimum(free, 8), "changed": changed}).value_counts().unstack(fill_value=0)
figure = go.Figure(layout=LOOK | {"barmode": "stack", "height": 360})
for state, name, colour in ((True, "changed", PALETTE[2]), (False, "as it is", "#b8b8b8")):
    figure.add_bar(x=table.index, y=table.get(state, 0 * table.index), name=name, marker_color=colour)
figure.update_xaxes(title="words that can be swapped", tickvals=[*range(9)], ticktext=[*range(8), "8 or more"])
figure.update_yaxes(title="rows")
show(
    figure,
    f"{(free == 0).mean():.0%} of {len(rows)} rows have no word that can be swapped, at any rate; the mean is "
    f"{free.mean():.1f}. At rate {RATE}, {changed.mean():.0%} of the rows change in the first epoch; the formula "
    f"expects {expected:.0%}. For the others, the two streams hold the same sentence.",
)

# %% [markdown]
# ## Chance that can be repeated
#
# Every copy has a random generator of its own, made from four values: **seed, epoch, number of the copy, id of the
# row**. Nothing else enters: not the batch size, not the order of the rows, not how many processes or workers share
# the work. So an interrupted run goes on exactly where it stopped, and two methods under one seed see the same copies.
# (Tests: `test_a_copy_depends_on_seed_epoch_copy_and_row_id_alone`, `test_two_processes_take_the_steps_of_one`.)
#
# Each epoch draws afresh. We look at one row over epochs, then make all copies of an epoch twice, in batches of 32 and
# of 5, and compare.


# %%
def in_words(copy):
    return tokenizer.decode(list(copy.input_ids), skip_special_tokens=True)


draws = {f"seed {seed}": [in_words(copy_of(swap, ROW, seed, epoch)) for epoch in range(5)] for seed in (0, 1)}
display(pd.DataFrame(draws, index=[f"epoch {epoch}" for epoch in range(5)]))


def pairs(listed, batch_size):
    """All (original, copy) pairs of epoch 3, without padding."""
    found = set()
    for batch in TwoStreamBatches(listed, tokenizer, batch_size, seed=0, streams=2, maker=swap).epoch(3):
        ids = [tuple(i for i in line if i != tokenizer.pad_token_id) for line in batch["input_ids"].tolist()]
        found |= set(zip(ids[: len(ids) // 2], ids[len(ids) // 2 :], strict=True))
    return found


assert pairs(rows, 32) == pairs(rows[::-1], 5)
say(f"Batches of 32, or of 5 with the rows listed backwards: the same {len(pairs(rows, 32))} pairs.")

# %% [markdown]
# ## First dial: the rate
#
# How far does a copy move? We turn the rate up and look at three curves: the share of eligible words that is replaced,
# and the cosine of $x$ and $x'$ at layer 0 (the embedding output, where the push acts) and at the last layer. A cosine
# alone says little (notebook 01), so dotted lines show the cosine of two *different* texts.
#
# *Predict before you run*: which of the two layers takes a swap harder?


# %%
def vectors(copies, layers):
    """Sentence vectors of rows or of virtual copies: (layers, copies, hidden)."""
    parts = []
    for start in range(0, len(copies), 64):
        batch = collate(copies[start : start + 64], tokenizer.pad_token_id)
        with torch.inference_mode(), embedding_noise(model, batch.pop("noise", None)):
            parts.append(pooled_layers(model, batch, layers).numpy())
    return np.concatenate(parts, axis=1)


def cosines(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


able = [row for row, words_of in zip(rows, free, strict=True) if words_of]
sample = [able[i] for i in np.unique(np.linspace(0, len(able) - 1, 100).astype(int))]
original = vectors(sample, (0, LAST))
strangers = cosines(original, np.roll(original, 1, axis=1)).mean(axis=1)
RATES = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
by_rate = {}
for rate in RATES:
    maker = replace(swap, rate=rate)
    near = cosines(original, vectors([copy_of(maker, row) for row in sample], (0, LAST))).mean(axis=1)
    by_rate[rate] = [swap_report(maker, sample, tokenizer)["rate"], *near]


# %%
def curves(x, series, **axis):
    """Lines over x; name -> (colour, values)."""
    figure = go.Figure(layout=LOOK | {"height": 400, "xaxis": axis})
    for name, (colour, values) in series.items():
        figure.add_scatter(x=list(x), y=np.round(values, 4), name=name, line={"color": colour, "width": 3})
    return figure.update_yaxes(range=[0, 1.05])


replaced, first, last = zip(*by_rate.values(), strict=True)
colours = {0: PALETTE[2], LAST: PALETTE[1]}
series = {"share of words replaced": (PALETTE[0], replaced), "cosine at layer 0": (colours[0], first)}
figure = curves(RATES, series | {f"cosine at layer {LAST}": (colours[LAST], last)}, title="rate", range=[0, 1.03])
for layer, value in zip((0, LAST), strangers, strict=True):
    label = {"text": f"two different texts, layer {layer}", "textposition": "start", "font": {"color": colours[layer]}}
    figure.add_hline(y=value, line={"color": colours[layer], "dash": "dot", "width": 1.5}, label=label)
way = {rate: (1 - np.array(near)) / (1 - strangers) for rate, (_, *near) in by_rate.items()}  # 1: like a stranger
less = "less" if way[1.0][1] < way[1.0][0] else "more"
same = abs(way[1.0][1] - way[1.0][0]) < 0.05
show(
    figure,
    f"{len(sample)} rows with a word to swap. At rate {RATE}, {by_rate[RATE][0]:.0%} of the eligible words are "
    f"replaced and a copy moves {way[RATE][0]:.0%} of the way to another text at layer 0, {way[RATE][1]:.0%} at layer "
    f"{LAST}; at rate 1, {way[1.0][0]:.0%} and {way[1.0][1]:.0%}. Against what sets texts apart there, a swap weighs "
    + (f"about as much at layer {LAST} as at layer 0." if same else f"{less} at layer {LAST} than at layer 0."),
)

# %% [markdown]
# ## Second dial: the neighbourhood
#
# A small $k$ keeps to the nearest words, a large one draws from farther away. All words are swapped here (rate 1).
# *Kept* is the measure by parallel texts from above.

# %%
by_size = {}
for size in (1, 3, 10, 30, 100):
    maker = replace(wide, table={piece: near[:size] for piece, near in wide.table.items()}, neighbours=size)
    copies = [copy_of(maker, row) for row in sample]
    news = [best[new][1] for made in copies for _, new in made.swaps]
    near = cosines(original, vectors(copies, (0, LAST))).mean(axis=1)
    kept = seen[(seen["rank"] <= size) & seen["word"].str.casefold().isin(common.index)]["kept"]
    abroad = np.mean([code not in ("", SOURCE) for code in news])
    by_size[size] = [abroad, kept.mean(), *((1 - near) / (1 - strangers))]
names = ["new words guessed foreign", "kept, by parallel texts"]
names += [f"way to another text, layer {layer}" for layer in (0, LAST)]
shades = [PALETTE[i] for i in (6, 3, 2, 1)]
series = dict(zip(names, zip(shades, zip(*by_size.values(), strict=True), strict=True), strict=True))
figure = curves(by_size, series, title="neighbours", type="log", tickvals=list(by_size))
one, many = by_size[1], by_size[100]
show(
    figure.update_yaxes(tickformat=".0%"),
    f"From 1 neighbour to 100: the share of new words guessed foreign goes from {one[0]:.0%} to {many[0]:.0%}, the "
    f"meaning kept (where the texts can tell) from {one[1]:.0%} to {many[1]:.0%}, and the way to another text from "
    f"{one[2]:.0%} to {many[2]:.0%} at layer 0, from {one[3]:.0%} to {many[3]:.0%} at layer {LAST}.",
)

# %% [markdown]
# ## The published maker: synonyms from a table
#
# The paper's stream swaps words for synonyms and tokenises the new text: `SynonymSwap`. A table is a dictionary. This
# one is a toy that we have made up; put in words of your own and run the cell again. A file of such a table is read
# by `SynonymSwap.from_file`; no table is shipped.
#
# Look at the numbers of pieces. Where a synonym is cut into another number of pieces than the word, every later
# position shifts: position 4 of $x'$ is no longer position 4 of $x$. That is a problem for the pull (notebook 05).

# %%
SYNONYMS = {
    "face": ["visage", "countenance"], "smiling": ["beaming", "grinning"], "person": ["human being", "individual"],
    "hand": ["palm", "fist"], "woman": ["lady"], "man": ["gentleman", "bloke"], "with": ["having", "sporting"],
    "heart": ["ticker"], "eyes": ["peepers"], "dog": ["hound"], "cat": ["tomcat"], "button": ["knob"],
    "child": ["youngster"], "car": ["automobile"], "boat": ["vessel"], "house": ["dwelling"], "small": ["tiny"],
}  # fmt: skip
synonyms = SynonymSwap(SYNONYMS, rate=1.0)
copies = [copy_of(synonyms, row) for row in rows]
swapped = [(row, made) for row, made in zip(rows, copies, strict=True) if made.swaps]
other_length = [len(made.input_ids) != len(row.input_ids) for row, made in swapped]
lines = []
for i in np.unique(np.linspace(0, len(swapped) - 1, 6).astype(int)) if swapped else []:
    x, virtual = (tokenizer.convert_ids_to_tokens(list(one.input_ids))[1:-1] for one in swapped[i])
    lines.append([" ".join(x), " ".join(virtual), f"{len(x)} → {len(virtual)}"])
display(pd.DataFrame(lines, columns=["x", "x'", "pieces"]))
if swapped:
    say(
        f"{len(SYNONYMS)} words of a table reach {len(swapped) / len(rows):.0%} of the rows. In "
        f"**{np.mean(other_length):.0%}** of the copies the number of pieces is another than in the original. With "
        "`NeighbourSwap` it never is."
    )

# %% [markdown]
# ## The plainest maker: noise
#
# `EmbeddingNoise` keeps the ids and moves each piece's input vector by $\rho\,\bar n$ in a uniformly random direction
# ($\bar n$ is the mean length of a row of the matrix, $\rho$ the radius; after Huang et al., 2021). Does noise make
# virtual *multilingual* words? We ask whether the moved vector still lies nearest to its own piece, and compare the
# radius with the distance to real neighbours.

# %%
picked = [piece for piece in wish if piece in swap.table][:20]
rows_of = torch.tensor([held[piece] for piece in picked])
nearest = torch.tensor([held[swap.table[piece][0]] for piece in picked])
to_near = (matrix[rows_of] - matrix[nearest]).norm(dim=1)
report = {}
for radius in (0.1, 0.3, 1.0, 2.0):
    noise = EmbeddingNoise.fit(encoder, radius)
    made = [copy_of(noise, row) for row in sample]
    shift = torch.from_numpy(np.concatenate([one.noise[1:-1] for one in made])[: len(picked)])
    moved = matrix[rows_of] + shift
    closest = ((moved @ matrix.T) / lengths.clamp(min=1e-9)).argmax(dim=1)
    near = cosines(original, vectors(made, (0, LAST))).mean(axis=1)
    share = (1 - near) / (1 - strangers)
    report[radius] = [f"{(closest == rows_of).float().mean():.0%}", f"{share[0]:.0%}", f"{share[1]:.0%}"]
columns = ["nearest row is still its own piece", "way to another text, layer 0", f"way to another text, layer {LAST}"]
display(pd.DataFrame.from_dict(report, orient="index", columns=columns).rename_axis("radius"))
say(
    f"The nearest neighbour of these {len(picked)} words lies at {float(to_near.mean()) / noise.mean_norm:.2f} mean "
    f"lengths on average. Noise of about that size (radius 1.0) leaves {report[1.0][0]} of them nearest to their own "
    "piece; a step of that size towards the neighbour would arrive at it. The direction counts, not the size."
)

# %% [markdown]
# ## The audit: two makers and two nulls
#
# Before a maker trains anything, look at what it does. We audit four:
#
# - **raw**: the ten neighbours, as above;
# - **filtered**: `only="source"` keeps words that are commoner in English than in any other language. It is the
#   control without foreign words;
# - **dealt**: the raw candidates, dealt to the wrong words. A null: as foreign as the raw ones, without the meaning;
# - **blind**: random whole words of like frequency (the vocabulary is sorted by frequency, so each candidate gives way
#   to one from the 50 places before or after it). A null: what any disturbance of this kind does.
#
# `swap_report` counts words, rate and scripts. Languages are guessed as above.


# %%
def blind(maker, seed):
    """Every candidate exchanged for a whole word of like frequency."""
    rng = np.random.default_rng([seed, 1])

    def other(piece):
        return order[int(np.clip(place[piece] + rng.integers(-50, 51), 0, len(order) - 1))]

    return replace(maker, table={piece: [other(near) for near in nears] for piece, nears in maker.table.items()})


def dealt(maker, seed):
    """The same candidates, dealt to other words."""
    lists = list(maker.table.values())
    turns = np.random.default_rng([seed, 2]).permutation(len(lists))
    return replace(maker, table={piece: lists[i] for piece, i in zip(maker.table, turns, strict=True)})


order = [piece for _, piece in sorted(piece_of.items()) if whole_word(piece)]  # by falling frequency
place = {piece: i for i, piece in enumerate(order)}
makers = {"raw": swap, "filtered": NeighbourSwap.fit(encoder, english, rate=RATE, only="source")}
makers |= {"dealt": dealt(swap, 0), "blind": blind(swap, 0)}
page = {}
for name, maker in makers.items():
    report, copies = swap_report(maker, rows, tokenizer), [copy_of(maker, row) for row in rows]
    codes = [best[new][1] for made in copies for _, new in made.swaps if new in best]
    page[name] = {"eligible words": report["words"], "replaced": f"{report['rate']:.0%}"}
    page[name]["rows changed"] = f"{np.mean([bool(made.swaps) for made in copies]):.0%}"
    page[name]["guessed foreign"] = f"{np.mean([code not in ('', SOURCE) for code in codes]):.0%}"
    page[name]["not in Latin letters"] = f"{1 - report['scripts'].get('LATIN', 0):.0%}"
    page[name] |= {f"copy {i}": new for i, (_, new) in enumerate(report["examples"][2:6])}
page["blind"]["guessed foreign"] = "not guessed"
pd.DataFrame(page)

# %% [markdown]
# ## Does the label survive?
#
# $x'$ keeps the label of $x$, whatever the swap has done to the text. If a swap turns a thing into another, the label
# is wrong, and the robust term (notebook 06) trains on it. We cannot read all copies, so we ask a model: a linear
# *probe* on frozen sentence vectors, trained on the unswapped English rows. A **probable flip** is a text that the
# probe got right before the swap and wrong after it. Probable, since the probe errs too.
#
# *Predict before you run*: which flips more labels, the raw swap with its foreign words, or the filtered one?

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

if len(training) > 1:
    learn, held_out = rows, encode_rows(tokenizer, task[training[1]][SOURCE], task.text_columns, 128)[:300]
else:
    learn, held_out = rows[: len(rows) * 4 // 5], rows[len(rows) * 4 // 5 :]
probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
probe.fit(vectors(learn, (LAST,))[0], [row.label for row in learn])
labels = np.array([row.label for row in held_out])
right = probe.predict(vectors(held_out, (LAST,))[0]) == labels

flips = {}
for name, maker in makers.items():
    made = [(i, copy_of(maker, held_out[i], epoch=epoch)) for epoch in range(5) for i in np.flatnonzero(right)]
    made = [(i, one) for i, one in made if one.swaps]
    wrong = probe.predict(vectors([one for _, one in made], (LAST,))[0]) != labels[[i for i, _ in made]]
    flips[name] = [len(made), int(wrong.sum()), wrong.mean()]
index = ["changed copies of texts that were right", "wrong after the swap", "probable flips"]
display(pd.DataFrame({name: [n, k, f"{share:.0%}"] for name, (n, k, share) in flips.items()}, index=index))
raw, control = flips["raw"][2], flips["filtered"][2]
say(
    f"The probe is right on {right.mean():.0%} of {len(labels)} unseen {language_name(SOURCE)} texts; their copies are "
    f"those of five epochs. The raw swap flips {raw:.0%}, the filtered one {control:.0%}."
    + (" A likely reason: the nearest foreign word is often the translation, the nearest English word another thing "
       "of the same kind." if 1.5 * raw < control else "")
)  # fmt: skip

# %% [markdown]
# ## Meaning lost for certain
#
# A probe can be wrong. A collision cannot: sometimes one swap turns the text into the *exact* text of another item. If
# that item has another label, the virtual row is mislabelled, and no model is needed to say so. We try every single
# swap that the raw maker could make.

# %%
known = {row.input_ids: row for row in [*rows, *held_out]}
every, hits = 0, []
for row in known.values():
    names_of = tokenizer.convert_ids_to_tokens(list(row.input_ids))
    for i in eligible(names_of):
        for near in swap.table.get(names_of[i], []):
            every += 1
            other = known.get((*row.input_ids[:i], held[near], *row.input_ids[i + 1 :]))
            if other is not None:
                pair = [" / ".join(one.texts) for one in (row, other)]
                hits.append([f"{text_of(names_of[i])} → {text_of(near)}", *pair, row.label, other.label])
hits = pd.DataFrame(hits, columns=["swap", "text", "becomes", "its label", "the label it should have"])
flipped = hits[hits["its label"] != hits["the label it should have"]]
same_label = hits.drop(flipped.index).drop_duplicates("swap").iloc[::5].head(7)
if len(flipped):
    display(flipped.replace(dict(enumerate(task.labels))).head(8).reset_index(drop=True))
say(
    f"Of {every:,} possible single swaps, {len(hits)} give exactly the text of another item, and {len(flipped)} of "
    f"these change the label."
    + (" Others keep it, whatever became of the meaning: " if len(same_label) else "")
    + ", ".join(f"*{markdown_text(line.text)}* → *{markdown_text(line.becomes)}*" for line in same_label.itertuples())
)

# %% [markdown]
# ## Where do virtual sentences land?
#
# The hope behind the name: a virtual sentence is *multilingual*, it lies on the way from English to the other
# languages. We measure that on test items whose English text has a word to swap. All such words are swapped (rate 1);
# nothing is trained, and nothing is chosen by it. Two questions:
#
# 1. **To the languages?** Let $d$ be the mean over items of $h(x') - h(x)$, and $c_t = \mu_t - \mu_\text{en}$ the way
#    from the centre of English to that of language $t$. Does $d$ point along $c_t$: is $\cos(d, c_t)$ large?
# 2. **To the translation?** Does each $x'$ have a larger cosine with its own translation in $t$ than $x$ has?
#
# The nulls are *dealt* and *blind*, and every stream is drawn five times. (`studies/direction.py` asks question 1 on
# all test items, with more draws.)
#
# The table has three layers; the figure below it is the middle one, with a point for each draw. What a null reaches as
# well is no evidence. *Predict before you run*: which stream will point best towards the other languages?

# %%
LAYERS = (0, LAST // 2, LAST)
full = replace(swap, rate=1.0)
encoded = {code: encode_rows(tokenizer, data[code], task.text_columns, 128) for code in task.languages}
able = [i for i, row in enumerate(encoded[SOURCE]) if copy_of(full, row).swaps]
chosen = [able[i] for i in np.unique(np.linspace(0, len(able) - 1, 80).astype(int))]
clouds = {code: vectors([encoded[code][i] for i in chosen], LAYERS) for code in task.languages}
x = clouds[SOURCE]  # (layers, items, hidden)
ways = {code: clouds[code].mean(axis=1) - x.mean(axis=1) for code in TARGETS}  # (layers, hidden) each

streams = {"neighbours": [full] * 5}
streams |= {"dealt": [dealt(full, i) for i in range(5)], "blind": [blind(full, i) for i in range(5)]}
landed, points = [], {}
for stream, drawn in streams.items():
    for draw, maker in enumerate(drawn):
        moved = vectors([copy_of(maker, encoded[SOURCE][i], seed=draw) for i in chosen], LAYERS)
        points.setdefault(stream, moved)
        d = moved.mean(axis=1) - x.mean(axis=1)
        along = np.mean([cosines(d, way) for way in ways.values()], axis=0)
        covered = np.mean([(d * way).sum(-1) / (way * way).sum(-1) for way in ways.values()], axis=0)
        near = np.mean([(cosines(moved, clouds[t]) - cosines(x, clouds[t])).mean(axis=1) for t in TARGETS], axis=0)
        landed += [[stream, layer, *values] for layer, *values in zip(LAYERS, along, covered, near, strict=True)]
measures = ["cos(d, c)", "share of the way", "change of the cosine with the translation"]
landed = pd.DataFrame(landed, columns=["stream", "layer", *measures])
landed.groupby(["layer", "stream"], sort=False)[measures].agg(["mean", "min", "max"]).map("{:+.3f}".format)

# %%
from plotly.subplots import make_subplots

LAYER = LAYERS[1]
at_layer = landed[landed["layer"] == LAYER]
titles = ("1. To the languages: cos(d, c)", "2. To the translation: change of cosine")
figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.12)
for (stream, group), colour in zip(at_layer.groupby("stream", sort=False), (1, 2, 6), strict=True):
    marker = {"size": 11, "opacity": 0.6, "color": PALETTE[colour]}
    for column, measure in enumerate((measures[0], measures[2]), 1):
        y = group[measure].round(4)
        figure.add_scatter(x=[stream] * 5, y=y, mode="markers", marker=marker, name=stream, row=1, col=column)
figure.add_hline(y=0, line={"color": "#888888", "dash": "dot"}, row=1, col=2)
mean = at_layer.groupby("stream")[measures].mean()
real, nulls = at_layer[at_layer["stream"] == "neighbours"], at_layer[at_layer["stream"] != "neighbours"]
verdict = {
    measure: "above every draw of the nulls"
    if real[measure].min() > nulls[measure].max()
    else "within the nulls' reach"
    for measure in measures
}


def told(measure, form):
    return ", ".join(f"{stream} {mean.loc[stream, measure]:{form}}" for stream in streams)


show(
    figure.update_layout(LOOK, height=380, showlegend=False),
    f"Layer {LAYER}, {len(chosen)} items, {len(TARGETS)} languages, five draws of each stream. Question 1: "
    f"{told(measures[0], '.2f')}; the real swap is {verdict[measures[0]]}. Question 2: {told(measures[2], '+.3f')}; it "
    f"is {verdict[measures[2]]}.",
)

# %% [markdown]
# How to read it. English is one corner of the space. Words from elsewhere lead out of it, and out of a corner most
# ways lead towards the others: that needs no translation, and a null may point there just as well. Question 2 asks for
# meaning. A stream that goes the way of the others *and stays with its items* has shown more than one that only goes.
#
# The same layer in two dimensions: axes by PCA over the English, virtual and target vectors, a line from each $x$ to
# its $x'$, and the centres of the languages.

# %%
shown = {"x": x[1], "x'": points["neighbours"][1]} | {code: clouds[code][1] for code in TARGETS}
plane = project(shown, "pca")
flat = dict(zip(shown, np.split(plane, len(shown)), strict=True))
space = np.concatenate(list(shown.values()))
space = space / np.linalg.norm(space, axis=1, keepdims=True)
ends = np.stack([flat["x"], flat["x'"], np.full_like(flat["x"], np.nan)], axis=1).reshape(-1, 2)
figure = go.Figure(layout=LOOK | {"height": 560})
thin = {"color": "#cccccc", "width": 1}
figure.add_scatter(x=ends[:, 0], y=ends[:, 1], mode="lines", line=thin, hoverinfo="skip", name="x to x'")
said = {"x": [texts[SOURCE][i] for i in chosen]}
said["x'"] = [in_words(copy_of(full, encoded[SOURCE][i])) for i in chosen]
looks = {"x": (PALETTE[0], "circle"), "x'": (PALETTE[14], "circle")} | {t: styles(task.languages)[t] for t in TARGETS}
for name, (colour, symbol) in looks.items():
    (a, b), marker = flat[name].T, {"color": colour, "symbol": symbol}
    if name in said:
        dots, hover = marker | {"size": 6, "opacity": 0.4}, [safe_text(line) for line in said[name]]
        figure.add_scatter(x=a, y=b, mode="markers", marker=dots, hovertext=hover, hoverinfo="text", name=name)
    marker |= {"size": 20 if name in said else 14, "line": {"color": "white", "width": 1}}
    title = f"centre of {name}" if name in said else language_name(name)
    figure.add_scatter(x=[a.mean()], y=[b.mean()], mode="markers", marker=marker, name=title)
show(
    figure.update_xaxes(showticklabels=False).update_yaxes(showticklabels=False),
    f"Layer {LAYER}: {len(chosen)} English texts x, their copies x' and the centres of {len(TARGETS)} languages, on "
    f"two axes that hold {plane.var(axis=0).sum() / space.var(axis=0).sum():.0%} of the variance. In the full space, "
    f"the centre of x' has gone {mean.loc['neighbours', 'share of the way']:.0%} of the way to the others, on average; "
    f"that of the blind copies, {mean.loc['blind', 'share of the way']:.0%}.",
)

# %% [markdown]
# ## Take-aways
#
# - The input vectors of a multilingual encoder hold translations as neighbours. English text and that matrix make a
#   multilingual stream; nothing in a target language is read. Search the *whole* matrix: a trimmed one leaks the test.
# - A swap exchanges one piece for one piece, so positions stay. Synonyms that are tokenised again move them.
# - Short texts often have nothing to swap. For those rows both streams are the same, and push and pull see dropout.
# - Audit a maker before you train with it: shares, scripts, examples, probable flips, collisions. Set a null beside it.
# - *Towards the other languages* is a weak claim: random words may go there too. *Still near its own translation* is a
#   strong one.
# - Every copy follows from seed, epoch, copy and row id alone.

# %% [markdown]
# ## Exercises
#
# **1. Predict.** At rate 0.3 and over eight epochs, how many *different* copies does a row have on average? It can be
# anything from 1 to 8. Put a number in place of the dots. (Think of the rows that nothing can happen to.)

# %%
prediction = ...

if prediction is ...:
    print("Exercise 1 is unfinished: write a number from 1 to 8.")
else:
    versions = [len({copy_of(swap, row, epoch=epoch).input_ids for epoch in range(8)}) for row in rows]
    movable = np.array(versions)[free > 0]
    print(f"On average {np.mean(versions):.2f}; you said {prediction}. Rows with a word to swap: {movable.mean():.2f}.")

# %% [markdown]
# **2. Find the neighbours.** `matrix` is a tensor `(words, hidden)`, `words` the list that names its rows. Return the
# `count` words with the largest cosine to `word`, nearest first, without the word itself and its other spellings.
# `plain` from above folds capitals and accents.


# %%
def my_neighbours(matrix, words, word, count):
    """The names of the nearest rows."""
    ...


check("neighbours", my_neighbours)

# %% [markdown]
# **3. Swap.** Given are the tokens of a row, the `places` of its eligible words, a table of candidates by piece, the
# rate and a seed. Return a new list of tokens. Use the draws as the package does: first one `rng.random()` for each of
# the places, in order; then, for each place that is swapped, one `rng.integers(number of candidates)`.


# %%
def my_swap(tokens, places, table, rate, seed):
    """The tokens of the virtual copy; begin with rng = np.random.default_rng(seed)."""
    ...


check("swap_tokens", my_swap)

# %% [markdown]
# **4. Count.** Two lists tell of every row how many eligible `words` it has and how many were `swapped`. Return the
# share of words replaced in all rows together.


# %%
def my_share(words, swapped):
    """A number from 0 to 1."""
    ...


check("share_replaced", my_share)

# %% [markdown]
# **5. Make noise.** `gaussian` is an array `(tokens, hidden)` of standard normal draws and `special` tells which tokens
# are special. Return the noise: every token moves by exactly `radius * mean_norm` in the direction of its draw, special
# tokens stay.


# %%
def my_noise(gaussian, radius, mean_norm, special):
    """An array like gaussian."""
    ...


check("noise_on_sphere", my_noise)

# %% [markdown]
# **6. Choose.** Put a letter in place of the dots, in as many questions as you like.

# %%
display(quiz("swap_zero_shot", ...))
display(quiz("swap_nothing", ...))
display(quiz("swap_null", ...))

# %% [markdown]
# ## Further reading
#
# - K. Ding et al., [A Simple and Effective Method to Improve Zero-Shot Cross-Lingual Transfer
#   Learning](https://aclanthology.org/2022.coling-1.385), COLING 2022. The virtual stream, from synonyms.
# - K.-H. Huang et al., [Improving Zero-Shot Cross-Lingual Transfer Learning via Robust
#   Training](https://arxiv.org/abs/2104.08645), EMNLP 2021. Noise in a ball round the embeddings, and synonyms.
# - T. Mikolov, Q. V. Le and I. Sutskever, [Exploiting Similarities among Languages for Machine
#   Translation](https://arxiv.org/abs/1309.4168), 2013. Why the vector spaces of two languages look alike.
# - A. Conneau et al., [Word Translation Without Parallel Data](https://arxiv.org/abs/1710.04087), ICLR 2018.
#   Translations from neighbours, and what hubs do to them.
# - L. Qin et al., [CoSDA-ML: Multi-Lingual Code-Switching Data Augmentation for Zero-Shot Cross-Lingual
#   NLP](https://arxiv.org/abs/2006.06402), IJCAI 2020. The same idea with dictionaries.
# - L. Wang et al., [Multilingual E5 Text Embeddings: A Technical Report](https://arxiv.org/abs/2402.05672), 2024. The
#   encoder, and what it was trained on.
