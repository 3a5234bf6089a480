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
# # Start here: check your machine and take a short tour
#
# What runs on your machine, a short tour, and how to use the series.
#
# **What you will learn**
# - what runs on this machine, and how long it takes;
# - what a parallel task, a multilingual encoder and a sentence vector are, each on real data;
# - how to read an alignment map and the measure P@1;
# - how this series is built: its notebooks, its exercises, its switches.
#
# **What you need**: Python, and a first acquaintance with PyTorch (a tensor, a loss, a training step). No knowledge of
# language models or of research on them. This is the first notebook.
#
# **Time and memory**: under 1 minute on two cores, about 1.5 GB.
#
# **Where it runs**: on a laptop, without a GPU. On Linux (x86-64) and macOS (arm64) it needs no model hub either: data
# and weights come with the installed packages. The folder `binder` holds the settings for Binder, and the package
# accepts the versions that Colab preloads.

# %% [markdown]
# ## The question of this series
#
# A *multilingual encoder* has read text in about a hundred languages. Teach it a task with English examples alone, and
# it can do the task in Japanese too: this is **zero-shot cross-lingual transfer**. It works, but it costs: accuracy in
# Japanese stays below that in English. One suspect is the *embedding cluster gap*. Inside the encoder, the sentences
# of a language keep together, away from their own translations. Ding et al. (2022) try to close the gap with English
# text alone. They swap words, which makes *virtual* sentences, and add three terms to the loss: **E**mbedding-Push,
# **A**ttention-Pull and **R**obust targets (EAR). Does it work, and how would you know? By the end of the series you
# can answer both, with numbers that you have computed yourself.
#
# ## Is this the right kernel?
#
# The next cell is the first one of every notebook. When all is well, it prints nothing. Otherwise it says in one
# sentence what is missing and what to do.
#
# Run one cell after another with **Shift + Enter**, or all of them with **Run > Run All Cells**. The cell after it
# imports what this notebook uses all along.

# %%
import os

import numpy as np
import pandas as pd
from IPython.display import Markdown, display

from xlt_tutorial.exercises import check
from xlt_tutorial.quiz import quiz


def say(text):
    """Show a sentence whose numbers come from the code around it."""
    display(Markdown(text))


# %% [markdown]
# ## Ask the doctor
#
# The doctor looks at this machine and says what will run here and how long it will take. In a terminal it is `xlt
# doctor`.

# %%
from xlt_tutorial.doctor import examine

examine()

# %% [markdown]
# `ok` is fine, a `note` is good to know, and what is `missing` comes with the line to type. Two rows matter most.
# **Memory**: notebooks 00 to 02 stay under 2 GB each, so close the kernel of one before you open the next (*Kernel >
# Shut Down Kernel*). **Hub**: where it is not reachable, nothing here is lost, as long as the row *Encoder e5-small*
# is fine.

# %% [markdown]
# ## Choose what to look at
#
# Every notebook starts with switches. Leave them for now. Later, set `XLT_TASK` or `XLT_ENCODER` before you start
# Jupyter, or change the cell, and the same notebook runs on your own data or on another encoder.

# %%
TASK = os.environ.get("XLT_TASK", "emoji")
ENCODER = os.environ.get("XLT_ENCODER", "e5-small")

# %% [markdown]
# ## The data: the same things, named in many languages
#
# The Unicode consortium has every emoji named by people, in many languages. That gives us a small *parallel* data set:
# row 17 is the same thing in every language. Each thing also belongs to one of Unicode's groups, such as food or
# travel. Our task: **read the name, tell the group**.

# %%
from xlt_tutorial import load_task

task = load_task(TASK)
task

# %% [markdown]
# A task holds splits (`train`, `dev`, `test`), and a split holds one data set per language. Here is one row of the
# test split in every language. Pick another `ROW` and run the cell again.

# %%
from xlt_tutorial.styles import language_name, markdown_text

ROW = 0
evaluation = task[task.evaluation_split]


def name_of(language, row):
    return " / ".join(evaluation[language][row][column] for column in task.text_columns)


names = {language_name(language): name_of(language, ROW) for language in task.languages}
row = evaluation[task.source][ROW]
say(f"Row {ROW} {row.get('emoji', '')} has the label **{markdown_text(task.labels[row['label']])}**.")
pd.DataFrame({"text": names})

# %% [markdown]
# These are real translations, so they do not match word by word. Some languages name what the picture shows, others
# what it is used for. Keep that in mind when the encoder misses one.
#
# Now count the rows.

# %%
counts = pd.DataFrame(task.summary()).reindex(task.languages).fillna(0).astype(int)
counts.index = [language_name(language) for language in counts.index]
display(counts)
trained = [language_name(language) for language in task.splits.get("train", {})]
say(
    f"Languages with training text: **{', '.join(trained) or 'none'}**. The other {len(task.languages) - len(trained)} "
    "are for testing: no word of theirs ever trains, selects or tunes anything. That is what *zero-shot* means."
)

# %% [markdown]
# ## A smaller task for a short tour
#
# Five languages, 40 test items and 320 training items are enough to see how everything fits together. A task is data
# sets per split and language, so a smaller one is made by selecting rows.

# %%
from dataclasses import replace

others = [language for language in ("de", "ja", "zh", "ar") if language in task.targets] or task.targets[:4]
LANGUAGES = (task.source, *others)


def some(rows, n):
    """At most n rows, evenly spread."""
    return rows.select(np.unique(np.linspace(0, len(rows) - 1, n).astype(int)))


splits = {"test": {language: some(evaluation[language], 40) for language in LANGUAGES}}
if "train" in task.splits:
    splits["train"] = {task.source: some(task["train"][task.source], 320)}
tour = replace(task, languages=LANGUAGES, splits=splits)
tour

# %% [markdown]
# ## The encoder
#
# `e5-small` is multilingual-e5-small: twelve layers, each token a vector of 384 numbers, trained on text in about a
# hundred languages. `trim_to=task` drops the rows of its vocabulary that the task never uses. Its answers stay the
# same, and the memory shrinks.

# %%
from xlt_tutorial import load_encoder

encoder = load_encoder(ENCODER, trim_to=task)
layers = encoder.model.config.num_hidden_layers
say(
    f"`{encoder.name}` has {layers} layers, vectors of {encoder.model.config.hidden_size} numbers and "
    f"{encoder.parameters / 1e6:.1f} million weights here. It comes from: {encoder.source}."
)

# %% [markdown]
# An encoder does not read words. A *tokenizer* cuts the text into pieces of a fixed vocabulary, and `▁` marks the
# start of a word. Frequent words are one piece, rare ones several. All languages share the one vocabulary.

# %%
pieces = {
    language_name(language): "  ".join(encoder.tokenizer.tokenize(name_of(language, ROW))) for language in LANGUAGES
}
pd.DataFrame({"pieces": pieces})

# %% [markdown]
# ## From pieces to one vector
#
# The encoder gives every piece a vector at every layer. Layer 0 is what goes in, layer 12 of `e5-small` is what comes
# out. The mean over the pieces of a text is its **sentence vector**. Everything in this series that is called a
# distance between sentences is a distance between such vectors.
#
# Read the shapes below as *(layers, items, numbers per vector)*. Row 3 of every language is the same thing.

# %%
from xlt_tutorial import sentence_vectors

vectors = sentence_vectors(encoder.model, encoder.tokenizer, tour)
{language_name(language): stack.shape for language, stack in vectors.items()}

# %% [markdown]
# ## A first alignment map
#
# 384 numbers cannot be drawn, so we project them to the two directions in which the points differ most (PCA). Every
# point is one name in one language.
#
# *Predict before you run*: will a point lie near its translations, or near other names in its own language?

# %%
from xlt_tutorial.alignment import knn_mixing
from xlt_tutorial.figures import alignment_map, show
from xlt_tutorial.projection import map_points, project

LAYER = 0
at_layer = {language: stack[LAYER] for language, stack in vectors.items()}
points = map_points(project(at_layer, "pca"), tour, languages=LANGUAGES)

# %% [markdown]
# A map of two dimensions leaves most of the space out. So the sentence below it does not describe the picture: it
# reports what was measured in all dimensions. **kNN mixing** asks each point for its ten nearest neighbours and counts
# how many of them are in other languages. 0 % means that languages keep to themselves; 100 % means that language plays
# no part.

# %%
mixing = np.mean(list(knn_mixing(at_layer).values()))
show(
    alignment_map(points, title=f"Layer {LAYER}: {len(tour['test'][tour.source])} items in {len(LANGUAGES)} languages"),
    f"At layer {LAYER}, a point has {mixing:.0%} of the neighbours in other languages that it would have if language "
    "played no part.",
)

# %% [markdown]
# Hover over a point to see what it is. Click on a language in the legend to hide it, double-click to see it alone.
# Then set `LAYER` to the last layer, run these two cells again, and compare.

# %% [markdown]
# ## Look up a translation
#
# No dictionary was given to the encoder. Still, we can ask it for a translation: take the vector of an English name,
# and find the nearest vector among the names of another language. Near means a large *cosine*: a small angle between
# the two.


# %%
def nearest(queries, keys):
    """For each row of `queries`, the number of the row of `keys` with the largest cosine."""
    queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    keys = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    return (queries @ keys.T).argmax(axis=1)


OTHER = "ja" if "ja" in LANGUAGES else LANGUAGES[1]
found = nearest(vectors[tour.source][-1], vectors[OTHER][-1])
found

# %% [markdown]
# `found[3]` is the row that was found for row 3. It is a **hit** where the two numbers are equal. Let us read some
# hits first.


# %%
def text(language, row):
    return " / ".join(tour["test"][language][int(row)][column] for column in tour.text_columns)


answers = pd.DataFrame(
    {
        "": [item.get("emoji", item["id"]) for item in tour["test"][tour.source]],
        "asked for": [text(tour.source, row) for row in range(len(found))],
        f"nearest in {language_name(OTHER)}": [text(OTHER, row) for row in found],
        "which means": [text(tour.source, row) for row in found],
    }
)
hit = found == np.arange(len(found))
say(f"**{hit.sum()} hits** out of {len(hit)} items. Some of them:")
answers[hit].iloc[:: max(1, hit.sum() // 6), :3]

# %% [markdown]
# And the misses, 16 of them at most. The last column tells in English what was found instead.

# %%
say(f"**{(~hit).sum()} misses** out of {len(hit)} items.")
if not hit.all():
    display(answers[~hit].head(16))

# %% [markdown]
# Read them closely. Are they nonsense, or near misses? One way to tell: does the wrong answer at least belong to the
# same group?

# %%
labels = np.array(tour["test"][tour.source]["label"])
misses = np.flatnonzero(~hit)
same = (labels[found[misses]] == labels[misses]).sum()
chance = sum((np.delete(labels, row) == labels[row]).mean() for row in misses)
say(
    f"**{same} of {len(misses)} misses** have the label of what was asked for. Blind guesses among the other "
    f"{len(hit) - 1} items would give about {chance:.0f}."
    if len(misses)
    else "There is none to read: a task so easy says little about the encoder."
)

# %% [markdown]
# Another way is to ask which answers come back again and again.

# %%
times = pd.Series(found[misses]).value_counts()
if len(times):
    often = times.index[0]
    say(
        f"The wrong answer given most often is **{markdown_text(text(OTHER, often))}** "
        f"({markdown_text(text(tour.source, often))}): {times.iloc[0]} of {len(misses)} times."
        + (" Such a point, near to far too many others, is called a *hub*." if times.iloc[0] > 2 else "")
    )

# %% [markdown]
# ## One number for it: P@1
#
# **P@1** ("precision at one") is the share of hits. The last layer of `e5-small` was trained for look-ups of this
# kind. What about the first?
#
# *Predict before you run*: by how much does P@1 differ between layer 0 and the last layer? Is the order of the
# languages the same?

# %%
from xlt_tutorial.alignment import retrieval

targets = LANGUAGES[1:]
p1 = pd.DataFrame(
    {
        f"layer {layer}": [retrieval(vectors[tour.source][layer], vectors[t][layer])["from_source"] for t in targets]
        for layer in (0, layers)
    },
    index=[language_name(language) for language in targets],
)
p1.map("{:.0%}".format)

# %%
first, last = p1.iloc[:, 0], p1.iloc[:, -1]
top = [" and ".join(column.index[column == column.max()]) for column in (first, last)]
change = "rises" if last.mean() > first.mean() else "falls" if last.mean() < first.mean() else "stays"
say(
    f"Mean P@1 from {language_name(tour.source)} to the {len(targets)} others {change} from **{first.mean():.0%}** at "
    f"layer 0 to **{last.mean():.0%}** at layer {layers}. A blind guess hits {1 / len(hit):.1%}. Highest is {top[0]} "
    f"at layer 0 and {top[1]} at layer {layers}."
)
say(
    f"With {len(hit)} candidates the question is an easy one, and the numbers are rough: one more hit is "
    f"{100 / len(hit):.1f} points. Notebook 01 asks it of all test items, at every layer and in all languages."
)

# %% [markdown]
# ## Ten steps of training
#
# Now the encoder learns the task: a linear layer on the sentence vector gives one score per label, and the usual
# cross-entropy pulls the right score up. `Vanilla` is this plain fine-tuning. A step takes 32 English names. With so
# few steps, the learning rate is five times the usual one. Watch the loss beside the progress bar.

# %%
from xlt_tutorial import Recipe, Vanilla, train

if "train" in tour.splits:
    recipe = Recipe(epochs=1, learning_rate=5 * Recipe.learning_rate, share_every=0)
    run = train(tour, encoder, Vanilla(), recipe=recipe, seed=0)
    say(f"{len(run.history)} steps in {run.seconds:.0f} seconds.")

# %%
from xlt_tutorial.figures import loss_history

if "train" in tour.splits:
    losses = [row["loss"] for row in run.history]
    begin, end = np.mean(losses[:3]), np.mean(losses[-3:])
    show(
        loss_history(run.history, title=f"Cross-entropy on {language_name(tour.source)} training texts"),
        f"The mean loss of the first three steps is {begin:.2f}, of the last three {end:.2f}; giving all "
        f"{len(tour.labels)} labels the same score costs {np.log(len(tour.labels)):.2f}.",
    )

# %% [markdown]
# Has it learned anything for the languages that it was not trained on? We score the same 40 items in each language.

# %%
from xlt_tutorial import evaluate

if "train" in tour.splits:
    scores = evaluate(run.model, encoder.tokenizer, tour)
    accuracy = pd.Series(scores.accuracy).rename(index=language_name)
    display(accuracy.map("{:.0%}".format).to_frame("accuracy"))
    largest = pd.Series(tour["test"][tour.source]["label"]).value_counts(normalize=True).iloc[0]
    say(
        f"After {len(run.history)} steps: {scores.accuracy[tour.source]:.0%} in {language_name(tour.source)}, "
        f"{scores.target_mean:.0%} on average in the others. Always naming the most frequent label of these items "
        f"would give {largest:.0%}. So few steps and items prove nothing: notebook 02 trains and tests in earnest."
    )

# %% [markdown]
# ## How the series is built
#
# | notebook | what it does |
# |---|---|
# | 00 Start here | what runs, and this tour (you are here) |
# | [01 The embedding cluster gap][01] | one encoder, fourteen languages, layer by layer |
# | [02 Zero-shot baseline][02] | train on English, test on thirteen others: the price |
# | [03 Virtual multilingual embeddings][03] | make the second stream; what a swap does to meaning |
# | [04 Embedding push][04] | the first term: idea, code, gradient, how it fails |
# | [05 Attention pull][05] | the second term |
# | [06 Robust target][06] | the third term |
# | [07 Full training][07] | all together, and each subset of the terms |
# | [08 Alignment before and after][08] | interactive maps |
# | [09 Measuring alignment honestly][09] | which measure sees what |
# | [10 Real benchmarks][10] | XNLI, PAWS-X, SIB-200, MASSIVE; larger encoders |
#
# Every notebook runs by itself: none needs what another has computed.
#
# [01]: 01_the_embedding_cluster_gap.ipynb
#
# [02]: 02_zero_shot_baseline.ipynb
# [03]: 03_virtual_multilingual_embeddings.ipynb
# [04]: 04_embedding_push.ipynb
# [05]: 05_attention_pull.ipynb
# [06]: 06_robust_target.ipynb
# [07]: 07_full_training.ipynb
# [08]: 08_alignment_before_and_after.ipynb
# [09]: 09_measuring_alignment_honestly.ipynb
# [10]: 10_real_benchmarks.ipynb
#
# ## How to work with it
#
# - **Predict first.** Where a cell says *predict before you run*, write your guess down. A wrong guess teaches most.
# - **Exercises** stand at the end. Put your answer where `...` is and run the cell. `check` tries your function on
#   hidden cases, against the package's own. It says that it is right, or gives a hint for the mistake it has found. A
#   cell that you leave alone says that it is unfinished, and the notebook runs on.
# - **Questions** have letters. `quiz("name", ...)` asks; put a letter in place of the dots, and it says why that
#   option is right, or why it is not. The wrong ones are worth a look too.
# - **The package is the answer key.** Every function that a notebook explains is in the folder `xlt_tutorial`, short
#   enough to read. `??retrieval` in a cell shows the source of a function.
# - **Figures** are interactive here. On GitHub you see a picture, and the sentence below it says the same in words.

# %% [markdown]
# ## Use your own data, or another encoder
#
# | switch | value | example |
# |---|---|---|
# | `XLT_TASK` | `emoji`, or a folder of `<split>.<language>.tsv` files | `XLT_TASK=my_data make lab` |
# | `XLT_ENCODER` | `e5-small`, `xlm-roberta-base`, a hub name or a folder | `XLT_ENCODER=mbert make lab` |
# | `XLT_METHOD` | `vanilla` or `ear`, where a notebook trains | `XLT_METHOD=ear make lab` |
#
# Live cells follow the switches. Stored tables stay those of `emoji` and say so.
#
# ## Where things are kept
#
# - **Your runs**: `train(..., out="runs/my_run")` keeps checkpoints there; an interrupted run goes on with
#   `resume=True`. `make demo` writes a whole comparison to `runs/demo`: open its `report.html` in a browser.
# - **The encoder's weights** are unpacked once, to `~/.cache/xlt_tutorial`, or to the folder that `XLT_CACHE` names.
#   You may delete that folder at any time: it is made again.
# - **This notebook** is written from a text file in `notebooks/src`. Save changes of your own under another name.
#
# ## If something fails
#
# 1. Read the last line of the error. It says what to type next.
# 2. Restart the kernel and run from the top: **Kernel > Restart Kernel and Run All Cells**.
# 3. Run `make setup` in the course's folder, and start again with `make lab`.
# 4. Still stuck? Open an issue on the course's repository, with the error and what `xlt doctor` prints.

# %% [markdown]
# ## Take-aways
#
# - A parallel task has the same rows in every language. Training text is English alone: that makes the transfer
#   zero-shot.
# - An encoder turns a text into one vector per layer. Layers differ in how near they bring translations.
# - A map shows neighbours and hides most dimensions. Claims come from measures such as kNN mixing and P@1.
# - A small sample makes a rough number. Say how many items stand behind it.

# %% [markdown]
# ## Exercises
#
# **1. Predict.** In which language will P@1 gain most from layer 0 to the last layer? Write its name where `...` is,
# for example `"German"`, and only then run the cell.

# %%
guess = ...

gain = (last - first).sort_values(ascending=False)
if guess is ...:
    print("Exercise 1 is unfinished: put the name of a language in place of the dots.")
elif guess not in gain:
    print(f"There is no {guess!r} in this tour. Choose one of {', '.join(gain.index)}.")
else:
    best = ", ".join(gain.index[np.isclose(gain, gain.max())])
    print(f"{guess} gains {100 * gain[guess]:+.0f} points. The largest gain is {100 * gain.max():+.0f}, in {best}.")

# %% [markdown]
# **2. Write the sentence vector** of each text in a batch. `hidden` holds a vector for every position, `(texts,
# positions, numbers)`. `mask` is `(texts, positions)`: 1 at a real piece, 0 at the padding that fills a short text up.


# %%
def sentence_vector(hidden, mask):
    """The mean over the real pieces of each text: (texts, numbers)."""
    ...


check("sentence_vector", sentence_vector)

# %% [markdown]
# **3. Write the measure.** Complete `hit_share`, which is P@1 in one direction. You have `nearest` from above, or you
# can do without it.


# %%
def hit_share(queries, keys):
    """The share of rows whose nearest row of the other language has the same number, from 0 to 1."""
    ...


check("hit_share", hit_share)

# %% [markdown]
# **4. Guess blindly.** Above, some misses had the label of what was asked for. What would blind guesses give? An item
# is drawn at random, and an answer at random among the *other* items. Write the chance that both have one label.


# %%
def label_chance(labels):
    """The chance that another item, drawn blindly, has the same label; labels is a list of whole numbers from 0 on."""
    ...


check("label_chance", label_chance)

# %% [markdown]
# **5. Look again.** Set `LAYER` to 6 and then to 12 in *A first alignment map*. What happens to kNN mixing? Does the
# picture change as much as the number does? Then set the 40 in *A smaller task* to 160, and run all again. Which way
# does P@1 move, and why?
#
# **6. Two questions.** Put a letter in place of the dots.

# %%
display(
    quiz("zero_shot", ...),
    quiz("flat_map", ...),
)

# %% [markdown]
# ## Further reading
#
# - K. Ding et al., [A Simple and Effective Method to Improve Zero-Shot Cross-Lingual Transfer
#   Learning](https://aclanthology.org/2022.coling-1.385), COLING 2022. The method of this series.
# - L. Wang et al., [Multilingual E5 Text Embeddings: A Technical Report](https://arxiv.org/abs/2402.05672), 2024. The
#   encoder.
# - T. Pires, E. Schlinger and D. Garrette, [How Multilingual is Multilingual
#   BERT?](https://aclanthology.org/P19-1493), ACL 2019. Zero-shot transfer, observed and taken apart.
# - M. Radovanović, A. Nanopoulos and M. Ivanović, [Hubs in Space](https://jmlr.org/papers/v11/radovanovic10a.html),
#   JMLR
#   2010. Why some points are the nearest neighbour of so many.
# - Unicode CLDR, [Emoji names and keywords](https://cldr.unicode.org). Where the names come from.
#
# Next: [01 The embedding cluster gap](01_the_embedding_cluster_gap.ipynb).
