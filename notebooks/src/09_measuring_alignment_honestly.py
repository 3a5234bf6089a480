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
# # Measure alignment honestly
#
# Languages whose gap we have built ourselves, and what each measure makes of it.
#
# **What you will learn**
# - what every measure of the alignment kit sees, and what it is blind to, by examples where it is wrong;
# - why "aligned" for the task and "aligned" for translation are two things, and how they part company;
# - the traps that CKA, silhouettes, P@1, probes, maps and averages set;
# - how to say that a value is more than nothing, and that a difference is a difference;
# - what choosing on the test set buys, simulated where the truth is known.
#
# **What you need**: notebook [01](01_the_embedding_cluster_gap.ipynb), which derives most of the measures. Nothing is
# trained here but a few linear classifiers.
#
# **Time and memory**: under 1 minute on two cores, about 1.5 GB.
#
# **Where it runs**: on a laptop, without a GPU and without a model hub; on Binder and Colab too.

# %%
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
from IPython.display import Markdown, display
from plotly.subplots import make_subplots
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from xlt_tutorial import align, load_encoder, load_task, sentence_vectors
from xlt_tutorial.alignment import (
    MEASURES,
    MORE_MEASURES,
    gap_ratio,
    knn_mixing,
    language_probe,
    linear_cka,
    mexa,
    retrieval,
    silhouettes,
)
from xlt_tutorial.exercises import check
from xlt_tutorial.figures import show
from xlt_tutorial.projection import project
from xlt_tutorial.quiz import quiz
from xlt_tutorial.styles import PALETTE, markdown_text
from xlt_tutorial.synthetic import concept_space, synthetic_languages

TASK = os.environ.get("XLT_TASK", "emoji")
ENCODER = os.environ.get("XLT_ENCODER", "e5-small")


def say(text):
    """Show a sentence whose numbers come from the code around it."""
    display(Markdown(text))


# %% [markdown]
# ## Build the gap yourself
#
# A thermometer is tried in melting ice, where the answer is known. A measure of alignment is usually tried on an
# encoder, where nobody knows the answer. So here we turn the order around. We take real sentence vectors of *English*
# texts as concepts, and make languages out of them by distorting the concepts in a way that we choose. Then we ask the
# measures.
#
# First the English vectors, of the last layer: up to 300 test items that will be measured, and training items, from
# which a classifier will learn. We keep the directions in which they differ most, and add some in which they do not
# differ at all: room *beside* the content. A real encoder has such room too. It is where it can note which language it
# is reading.

# %%
task = load_task(TASK)
SOURCE, SPLIT = task.source, task.evaluation_split
items = task[SPLIT][SOURCE]
with_train = SOURCE in task.splits.get("train", {})
order = np.random.default_rng(0).permutation(len(items))
cut = min(300, len(items) if with_train else len(items) // 2)
measured = items.select(order[:cut])  # in a random order, so that the first n are n at random
lessons = task["train"][SOURCE] if with_train else items.select(order[cut:])
lessons = lessons.select(np.random.default_rng(1).permutation(len(lessons))[:700])
english = replace(task, languages=(SOURCE,), splits={"test": {SOURCE: measured}, "train": {SOURCE: lessons}})

encoder = load_encoder(ENCODER, trim_to=english)
LAST = encoder.model.config.num_hidden_layers
vectors = [
    sentence_vectors(encoder.model, encoder.tokenizer, english, split, layers=[LAST])[SOURCE][0]
    for split in ("test", "train")
]
content = min(96, (len(measured) + len(lessons)) // 3, vectors[0].shape[1])
space, kept = concept_space(np.concatenate(vectors), content, beside=32)
concepts, seen = space[: len(measured)], space[len(measured) :]
labels = [task.labels[label] for label in measured["label"]]
seen_labels = [task.labels[label] for label in lessons["label"]]
say(
    f"{len(concepts)} concepts to measure, {len(seen)} to learn from. {content} directions hold {kept:.0%} of the "
    f"variance of the {vectors[0].shape[1]}; {space.shape[1] - content} empty ones are beside them. "
    "Lengths are now in units of the cloud's own spread."
)

# %% [markdown]
# ## Eight ways to spoil a language
#
# `synthetic_languages` makes an English and as many targets as you like, and distorts them in eight ways, each with a
# strength:
#
# | | what it does | where you meet it |
# |---|---|---|
# | **shuffle** | a share of the items change places | wrong translations, files out of step |
# | **noise** | every vector, English too, is off by a random amount | a weak encoder |
# | **turn** | every vector turns by so many degrees | two encoders trained apart |
# | **scale** | the cloud grows or shrinks | another loss, another layer |
# | **shift** | the centre moves, along the content | the cluster gap |
# | **mark** | the centre moves, beside the content | a note of which language this is |
# | **collapse** | everything but the label shrinks, in English too | training on the task |
# | **rogue** | one wide direction holds values without meaning, in English too | text length, rogue dimensions |
#
# In the plane, with twelve concepts of three labels:

# %%
rng = np.random.default_rng(3)
toy_labels = [i % 3 for i in range(12)]
corners = 2.2 * np.array([[0, 1], [-1, -0.6], [1, -0.6]])[toy_labels]
plane, _ = concept_space(corners + rng.normal(size=(12, 2)), content=2, beside=0)
line, _ = concept_space(corners[:, :1] + rng.normal(size=(12, 1)), content=1, beside=1)
toys = {
    "shuffle": (plane, {"shuffle": 0.5}), "noise": (plane, {"noise": 0.4}), "turn": (plane, {"turn": 40}),
    "scale": (plane, {"scale": 1.8}), "shift": (plane, {"shift": 1.5}), "mark (upwards: beside)": (line, {"mark": 1.5}),
    "collapse, some shift": (plane, {"collapse": 0.8, "shift": 1}), "rogue (upwards: beside)": (line, {"rogue": 1}),
}  # fmt: skip

fig = make_subplots(2, 4, subplot_titles=list(toys), horizontal_spacing=0.02, vertical_spacing=0.1)
for at, (points, strengths) in enumerate(toys.values()):
    cell = {"row": at // 4 + 1, "col": at % 4 + 1, "showlegend": not at}
    clouds = synthetic_languages(points, 1, labels=toy_labels, seed=4, **strengths)
    joined = np.stack([*clouds.values(), np.full((12, 2), np.nan)], axis=1).reshape(-1, 2).round(3)
    fig.add_scatter(
        x=joined[:, 0], y=joined[:, 1], mode="lines", line={"color": "#bbbbbb", "width": 1}, name="translations", **cell
    )
    looks = (
        {"color": PALETTE[0], "symbol": "circle", "size": 9},
        {"color": PALETTE[5], "symbol": "diamond", "size": 6},
    )
    for name, cloud, marker in zip(("English", "target"), clouds.values(), looks, strict=True):
        fig.add_scatter(
            x=cloud[:, 0].round(3), y=cloud[:, 1].round(3), mode="markers", name=name, marker=marker, **cell
        )
fig.update_xaxes(showticklabels=False, zeroline=False, range=[-2.9, 2.9])
fig.update_yaxes(showticklabels=False, zeroline=False, range=[-2.9, 2.9])
fig.update_layout(template="plotly_white", height=470, margin={"t": 40, "b": 10, "l": 10, "r": 10})
show(
    fig,
    "Twelve concepts of three labels, in English (dots) and in one target language (diamonds). Lines join "
    "translations. Each panel shows one distortion, but for the collapse, which is added to a shift.",
)

# %% [markdown]
# ## The start, and the ten numbers that we watch
#
# Our worlds have four target languages. At the **start**, each has a moderate gap: noise 0.5 and a shift of 0.5. From
# there, one distortion at a time is turned up.
#
# Nine numbers come from the alignment kit. The tenth is what transfer is about: the **zero-shot accuracy**, the mean
# accuracy in the targets of a linear classifier that has learned its labels from the source alone.

# %%
START = {"noise": 0.5, "shift": 0.5}


def world(targets=4, seed=0, **strengths):
    """Languages at the start, but for the strengths that are given."""
    return synthetic_languages(concepts, targets, labels=labels, seed=seed, **START | strengths)


def zero_shot(languages, **strengths):
    """Mean accuracy over the targets of a classifier that has seen the source's training items alone."""
    own = {name: value for name, value in (START | strengths).items() if name in ("noise", "collapse", "rogue")}
    source = synthetic_languages(seen, 0, labels=seen_labels, seed=1, **own)["en"]
    with threadpool_limits(1):
        classifier = LogisticRegression(C=10, max_iter=500, tol=1e-3).fit(source, seen_labels)
        return float(np.mean([classifier.score(cloud, labels) for name, cloud in languages.items() if name != "en"]))


def measure(**strengths):
    """Every measure of one world; P@1 is the mean of both directions."""
    languages = world(**strengths)
    stacked = {name: cloud[None] for name, cloud in languages.items()}
    row = align(stacked, labels, measures=MEASURES + MORE_MEASURES, sample=200)[0]
    p1 = {form: float(np.mean([way["mean"] for way in ways.values()])) for form, ways in row["p1"].items()}
    return {
        "gap ratio": row["gap_ratio"]["mean"],
        "kNN mixing": row["knn_mixing"]["mean"],
        "silhouette, language": row["silhouette"]["language"],
        "language probe": row["language_probe"],
        "P@1": p1["raw"],
        "P@1, centred": p1["centred"],
        "MEXA": row["mexa"]["mean"],
        "CKA": row["linear_cka"]["mean"],
        "silhouette, label": row["silhouette"]["label"],
        "zero-shot accuracy": zero_shot(languages, **strengths),
    }


start = measure()
pd.DataFrame({"start": start}).T.map("{:.2f}".format)

# %% [markdown]
# Two of them were not in notebook 01.
#
# - **MEXA** (`mexa`) is the share of items that are closer to their translation than either is to any other item's:
#   P@1 in both directions at once.
# - **CKA** (`linear_cka`) asks whether two clouds differ from item to item in the same way. With $S$ and $T$ the
#   centred clouds, (items, width), it is $\lVert T^\top S\rVert^2 \,/\, (\lVert S^\top S\rVert\,\lVert
#   T^\top T\rVert)$, from 0 to 1.
#
# ## What sees what
#
# *Predict before you run*: which measures will notice that all pairs were shuffled? That every vector was turned by 90
# degrees? Think of each column as a question, and of each row as something that happened.

# %%
GRADES = {
    "shuffle": (0.3, 0.6, 1.0),
    "noise": (0.8, 1.2, 2.0),
    "turn": (30, 60, 90),
    "scale": (0.5, 2, 4),
    "shift": (1, 2, 4),
    "mark": (0.1, 1, 2),
    "collapse": (0.5, 0.8, 0.95),
    "rogue": (0.5, 1, 2),
}
found = {"start": start}
for name, strengths in GRADES.items():
    found |= {f"{name} {strength}": measure(**{name: strength}) for strength in strengths}
table = pd.DataFrame(found).T

# %%
SMALL = 0.02  # a change below this counts as none
up = pd.Series(1.0, table.columns)
up[["gap ratio", "silhouette, language", "language probe"]] = -1.0  # here less is more aligned
bounded = table.assign(**{"gap ratio": table["gap ratio"] / (1 + table["gap ratio"])})
change = (bounded - bounded.loc["start"]) * up
change = change.where((table - table.loc["start"]).abs() >= SMALL, 0.0)
colour = (np.sign(change) * np.sqrt(change.abs() / change.abs().max())).round(2)
fig = go.Figure(
    go.Heatmap(
        z=colour, x=list(table), y=list(table.index), texttemplate="%{text}",
        text=(table.round(2) + 0.0).map("{:.2f}".format),  # + 0.0 makes -0.0 a plain 0
        colorscale=[[0, "#d55e00"], [0.5, "#ffffff"], [1, "#0072b2"]], zmid=0, showscale=False, ygap=1, xgap=1,
    )
)  # fmt: skip
fig.add_vline(x=len(up) - 1.5, line={"color": "#111111", "width": 2})
for at in range(0, 3 * len(GRADES), 3):
    fig.add_hline(y=at + 0.5, line={"color": "#888888", "width": 1})
fig.update_yaxes(autorange="reversed").update_xaxes(side="top", tickangle=-30)
fig.update_layout(template="plotly_white", height=820, margin={"t": 120, "b": 10})
blind = (change == 0).drop(index="start").sum()
show(
    fig,
    f"Values, coloured by their change against the start: blue towards aligned, orange away from it, white for changes "
    f"below {SMALL}. Of {len(table) - 1} distorted worlds, each measure sees nothing in "
    + ", ".join(f"{count} ({name})" for name, count in blind.items())
    + ".",
)

# %% [markdown]
# Read it by columns. White is blindness. The next cell lists, for each measure, the distortions that it does not see at
# any strength; and those where it moves the *other way* from zero-shot accuracy at the strongest one.
#
# Some of the white is a theorem, and the cell after it checks that to rounding:
#
# - CKA does not see a shift, a turn, or a scale, of either cloud;
# - what looks at clouds as *sets* (gap ratio, kNN mixing, silhouette by language) cannot see a shuffle, nor can the
#   probe, but for the folds that it is tested on;
# - centred P@1 cannot see a shift or a mark.

# %%
last = {f"{name} {strengths[-1]}": name for name, strengths in GRADES.items()}
deeds = change.drop(index="start").groupby(lambda row: row.split()[0], sort=False)
unseen = deeds.agg(lambda column: bool((column == 0).all()))
against = change.loc[list(last)].rename(index=last)
against = against.mul(np.sign(against["zero-shot accuracy"]), axis=0) < 0
pd.DataFrame(
    {
        "does not see": {column: ", ".join(unseen.index[unseen[column]]) or "-" for column in table},
        "moves against zero-shot accuracy": {
            column: ", ".join(against.index[against[column]]) or "-" for column in table
        },
    }
).drop(index="zero-shot accuracy")

# %%
moved = synthetic_languages(concepts, 1, turn=90, scale=5, shift=2, mark=3)
assert np.isclose(linear_cka(moved["en"], moved["L1"]), 1, atol=1e-9)

still, mixed = world(), world(shuffle=1)
assert np.isclose(gap_ratio(still["en"], still["L1"]), gap_ratio(mixed["en"], mixed["L1"]), atol=1e-9)
assert np.isclose(knn_mixing(still)["L1"], knn_mixing(mixed)["L1"], atol=1e-3)  # equal items may swap their turn

away, near = world(shift=7), world(shift=0)
p1 = [retrieval(pair["en"], pair["L1"], centred=True)["from_source"] for pair in (away, near)]
assert np.isclose(*p1, atol=1e-2)

say(
    f"CKA of the concepts and of their copy, turned by 90 degrees, five times as large and far away: "
    f"**{linear_cka(moved['en'], moved['L1']):.6f}**. P@1 of the same pair: "
    f"**{retrieval(moved['en'], moved['L1'])['from_source']:.2f}**."
)

# %% [markdown]
# ## "Aligned", and wrong; "apart", and wrong
#
# For every measure, one world in which it does not move towards *apart*, while something that you care about, its
# witness, is lost. And one in which it raises an alarm, while the witness is as good as before, or better.
#
# The witness of MEXA may surprise. With a strong mark, every translation is still the nearest *between English and one
# target*. But in a search over all languages at once, an English question finds English answers only, and that is what
# kNN mixing counts.


# %%
found |= {"no shift": measure(shift=0), "no shift, turn 90": measure(shift=0, turn=90)}
found |= {"no shift, mark 0.1": measure(shift=0, mark=0.1)}
table = pd.DataFrame(found).T


def examples(rows):
    """One row per example (measure, world before, world after, witness)."""
    keys = ["measure", "what was done", "before", "after", "witness", "witness before", "witness after"]
    return pd.DataFrame(
        [
            (name, after, *table.loc[[before, after], name], witness, *table.loc[[before, after], witness])
            for name, before, after, witness in rows
        ],
        columns=keys,
    ).set_index("measure")


fooled = examples(
    [
        ("gap ratio", "start", "noise 2.0", "P@1"),
        ("kNN mixing", "start", "collapse 0.95", "P@1"),
        ("silhouette, language", "start", "noise 2.0", "P@1"),
        ("language probe", "no shift", "no shift, turn 90", "P@1"),
        ("P@1", "start", "shift 1", "zero-shot accuracy"),
        ("P@1, centred", "start", "shift 4", "zero-shot accuracy"),
        ("MEXA", "start", "mark 2", "kNN mixing"),
        ("CKA", "start", "turn 90", "P@1"),
        ("silhouette, label", "start", "collapse 0.95", "P@1"),
    ]
)
display(fooled.round(2))
towards = (fooled["after"] - fooled["before"]) * up[fooled.index]
held = int(((towards > -0.05) & (fooled["witness after"] < fooled["witness before"] - 0.05)).sum())
say(f"**{held} of {len(fooled)}** are fooled on these data: no worse by their own account, and the witness is lower.")

# %%
alarmed = examples(
    [
        ("gap ratio", "start", "mark 2", "zero-shot accuracy"),
        ("kNN mixing", "start", "mark 2", "zero-shot accuracy"),
        ("silhouette, language", "start", "mark 2", "P@1"),
        ("language probe", "no shift", "no shift, mark 0.1", "P@1"),
        ("P@1", "start", "collapse 0.95", "zero-shot accuracy"),
        ("P@1, centred", "start", "rogue 2", "zero-shot accuracy"),
        ("MEXA", "start", "rogue 2", "zero-shot accuracy"),
        ("CKA", "start", "rogue 2", "zero-shot accuracy"),
        ("silhouette, label", "start", "rogue 2", "zero-shot accuracy"),
    ]
)
display(alarmed.round(2))
towards = (alarmed["after"] - alarmed["before"]) * up[alarmed.index]
held = int(((towards < -SMALL) & (alarmed["witness after"] > alarmed["witness before"] - 0.05)).sum())
say(f"**{held} of {len(alarmed)}** raise a false alarm on these data: apart by their account, the witness as before.")

# %% [markdown]
# So no measure is wrong, and none is enough. Each answers its own question. Before you choose one, say what you need:
# a *search* across languages (P@1, MEXA, mixing), a *classifier* that carries over (accuracy), or an account of *where
# the languages lie* (gap ratio, silhouette, probe).
#
# ## Aligned for the task, lost for translation
#
# Training on the task pulls every item towards its label, whatever the language. Notebook 02 saw it on the real
# encoder: after training on English, a translation was harder to find. Here is the same in a world with a clear gap
# (shift 0.7 and mark 0.7). Our collapse moves items to their *true* label, so the accuracy must rise; look at the
# others.


# %%
def lines(points, x, y, by, ticks=None, **options):
    """One line for each value of ``by``, told apart by colour, marker and dash."""
    options = {"color_discrete_sequence": PALETTE[1:], "template": "plotly_white", "height": 420} | options
    by = {"color": by, "symbol": by, "line_dash": by}
    fig = px.line(pd.DataFrame(points).round(4), x=x, y=y, markers=True, **by, **options)
    return fig.update_xaxes(tickvals=ticks).update_layout(margin={"t": 20})


steps = np.round(np.linspace(0, 1, 11), 2)
path = pd.DataFrame([measure(shift=0.7, mark=0.7, collapse=float(step)) for step in steps], index=steps)
shown = path[["zero-shot accuracy", "kNN mixing", "P@1", "gap ratio", "silhouette, language"]]
long = shown.rename_axis("collapse").reset_index().melt("collapse", var_name="number", value_name="value")
ends = path.iloc[[0, -1]]
show(
    lines(long, "collapse", "value", by="number"),
    "As everything but the label shrinks, "
    + ", ".join(f"{name} goes from {ends[name].iloc[0]:.2f} to {ends[name].iloc[1]:.2f}" for name in shown)
    + ".",
)

# %% [markdown]
# Which of these is "alignment"? The languages mix, the gap closes, the task is solved, and translations are lost. A
# paper that reports mixing calls this a success; one that reports retrieval calls it a failure. Report both, and say
# which one your question needs.
#
# ## Does alignment foretell zero-shot accuracy?
#
# Papers often show that two such numbers correlate over models. Each line below is a path of worlds in which one
# distortion grows.

# %%
paths = pd.concat(
    [
        table.loc[["start", *(f"{name} {strength}" for strength in GRADES[name])]].assign(distortion=name)
        for name in ("noise", "turn", "shift", "collapse", "rogue")
    ]
)
both = ["P@1, centred", "zero-shot accuracy"]
moves = {name: part[both].iloc[-1] - part[both].iloc[0] for name, part in paths.groupby("distortion", sort=False)}
show(
    lines(paths, *both, by="distortion").update_traces(marker_size=9),
    "Centred P@1 and zero-shot accuracy, from the start to the strongest distortion: "
    + "; ".join(f"{name} {move.iloc[0]:+.2f} and {move.iloc[1]:+.2f}" for name, move in moves.items())
    + ".",
)

# %% [markdown]
# Over models that differ in noise the two go together, over models that differ in collapse they go against each other,
# over models that differ in a shift or a rogue direction one of them stands still. **A correlation over a set of models
# tells in what these models differ.** It does not say that raising one raises the other.
#
# ## Trap: a probe sees one direction, however small
#
# The probe standardises every direction before it looks. So it does not matter to it how *small* a mark is, only how
# clean. Here the mark grows from nothing, with no other gap.

# %%
rows = {}
for mark in (0, 0.001, 0.01, 0.1, 1):
    languages = world(shift=0, mark=mark)
    rows[f"mark {mark}"] = {
        "language probe": language_probe(languages, sample=100),
        "gap ratio": np.mean([gap_ratio(languages["en"], languages[f"L{i}"]) for i in range(1, 5)]),
        "kNN mixing": np.mean(list(knn_mixing(languages).values())),
    }
probed = pd.DataFrame(rows).T
display(probed.map("{:.3f}".format))
say(
    f"With a mark of a thousandth of the cloud's size, the probe is right in **{probed.iloc[1, 0]:.0%}** (chance: "
    f"{1 / 5:.0%}), and the gap ratio has moved by {abs(probed.iloc[1, 1] - probed.iloc[0, 1]):.4f}. *The language can "
    "be read off* says nothing about how much of the space it takes, nor whether anything downstream looks there."
)

# %% [markdown]
# ## Trap: a silhouette falls for the wrong reasons
#
# The silhouette by language is often shown before and after a treatment, and "it fell" is read as "the languages came
# closer". Two ways to make it fall without that: blur everything, or add close relatives of the languages that are
# there. (A *sister* has the same shift as its language, and noise of its own: think of Portuguese beside Spanish.)

# %%
clear, blurred = world(shift=0.7), world(shift=0.7, noise=2)
quiet, other = world(shift=0.7, noise=0), world(seed=1, shift=0)
sisters = {f"{name}, sister": quiet[name] + other[name] - concepts for name in clear if name != "en"}


def three(languages):
    targets = [name for name in languages if name != "en"]
    return {
        "silhouette, language": silhouettes(languages, labels)["language"],
        "gap ratio": np.mean([gap_ratio(languages["en"], languages[name]) for name in targets]),
        "P@1": np.mean([retrieval(languages["en"], languages[name])["from_source"] for name in targets]),
    }


fall = pd.DataFrame(
    {"shift 0.7": three(clear), "with more noise": three(blurred), "with four sisters": three(clear | sisters)}
).T
display(fall.map("{:.2f}".format))
before, noisier, joined = fall["silhouette, language"]
say(
    f"Noise takes the silhouette from {before:.2f} to **{noisier:.2f}**, and P@1 from {fall['P@1'].iloc[0]:.0%} to "
    f"{fall['P@1'].iloc[1]:.0%}. Four more languages take it to **{joined:.2f}**, though not one point of the first "
    f"five has moved, and every target is as far from English as before (gap ratio {fall['gap ratio'].iloc[2]:.2f}). "
    "Compare silhouettes over one set of languages only, and beside P@1."
)

# %% [markdown]
# ## Trap: CKA is high when items are few
#
# Two clouds that have nothing to do with each other do not have a CKA of 0. For round clouds of width $h$ and $n$ items
# it is about $h / (n + h)$. Real clouds are not round. There, mix up the pairs and look: `align` gives the mean over
# all ways to do so as `chance`. (What does the formula give for 50 sentences in 768 dimensions, a usual size?)

# %%
say(f"50 sentences in 768 dimensions have, for nothing, a CKA of about {768 / (768 + 50):.2f}.")
rng = np.random.default_rng(0)
sizes = [n for n in (10, 20, 40, 80, 160, 300) if n <= len(concepts)]
matched, strange, points = world(), world(shuffle=1), []
for n in sizes:
    some = rng.permutation(len(concepts))[:n]
    noise = [linear_cka(*rng.normal(size=(2, n, 128))) for _ in range(3)]
    chance = align({k: v[some][None] for k, v in matched.items()}, list(range(n)), measures=["linear_cka"])[0]["chance"]
    for name, value in (
        ("translations", linear_cka(matched["en"][some], matched["L1"][some])),
        ("strangers: pairs mixed up", linear_cka(strange["en"][some], strange["L1"][some])),
        ("chance, from align", chance["linear_cka"]),
        ("two clouds of noise, 128 wide", float(np.mean(noise))),
        ("128 / (items + 128)", 128 / (n + 128)),
    ):
        points.append({"items": n, "pair": name, "CKA": value})
curve = pd.DataFrame(points).pivot(index="items", columns="pair", values="CKA")
few, many = curve.iloc[0], curve.iloc[-1]
show(
    lines(points, "items", "CKA", by="pair", ticks=sizes, log_x=True, range_y=[0, 1.02]),
    f"With {sizes[0]} items, strangers have a CKA of {few['strangers: pairs mixed up']:.2f} and translations "
    f"{few['translations']:.2f}; with {sizes[-1]}, {many['strangers: pairs mixed up']:.2f} and "
    f"{many['translations']:.2f}. Two clouds of pure noise start at {few['two clouds of noise, 128 wide']:.2f}.",
)

# %% [markdown]
# ## Trap: P@1 belongs to a number of items
#
# The more items, the more rivals. Chance is $1/n$ for P@1, and for MEXA it is even less (exercise 5). Even far from
# chance, the same encoder looks better on a smaller test set. Noise is 1 here, and each point is a mean over 40 draws
# of items.

# %%
noisy, points = world(noise=1, shift=0), []
sizes = [n for n in (5, 10, 20, 50, 100, 200, 300) if n <= len(concepts)]
for n in sizes:
    draws = [rng.permutation(len(concepts))[:n] for _ in range(40)]
    pairs = [(noisy["en"][some], noisy[f"L{1 + i % 4}"][some]) for i, some in enumerate(draws)]
    p1 = [retrieval(*pair)["from_source"] for pair in pairs]
    rows = {"P@1": np.mean(p1), "MEXA": np.mean([mexa(*pair) for pair in pairs]), "chance of P@1": 1 / n}
    points += [{"items": n, "number": name, "value": value} for name, value in rows.items()]
curve = pd.DataFrame(points).pivot(index="items", columns="number", values="value")
show(
    lines(points, "items", "value", by="number", ticks=sizes, log_x=True),
    f"One world, the same noise everywhere: P@1 is {curve['P@1'].iloc[0]:.0%} of {curve.index[0]} items and "
    f"{curve['P@1'].iloc[-1]:.0%} of {curve.index[-1]}; MEXA {curve['MEXA'].iloc[0]:.0%} and "
    f"{curve['MEXA'].iloc[-1]:.0%}. A P@1 without its number of items cannot be compared with any other.",
)

# %% [markdown]
# ## Trap: hubs, and two directions
#
# P@1 has a direction: who asks, and who is found. When a language is shifted, all its items look the same way, and the
# English item that happens to lie there is everybody's nearest neighbour: a **hub**. Centring removes this cause of
# hubs. **CSLS** (Conneau et al., 2018) subtracts from a cosine how close its two ends are to anything at all:
# $2\cos(x, y) - r(x) - r(y)$, with $r$ the mean cosine to the ten nearest of the other language.


# %%
def unit(cloud):
    return cloud / np.linalg.norm(cloud, axis=1, keepdims=True)


def found_again(scores):
    """Which query (row) finds the key of its own number."""
    return scores.argmax(axis=1) == np.arange(len(scores))


rows, hub = {}, 0
for shift in (0.5, 1, 2, 3):
    languages = world(shift=shift)
    cosine = unit(languages["L1"]) @ unit(languages["en"]).T  # L1 asks, English is found
    r_target, r_english = (np.sort(scores, axis=1)[:, -10:].mean(axis=1) for scores in (cosine, cosine.T))
    csls = 2 * cosine - r_target[:, None] - r_english
    asked = np.bincount(cosine.argmax(axis=1), minlength=len(concepts))
    hub = int(asked.argmax())
    rows[f"shift {shift}"] = {
        "English asks": f"{found_again(cosine.T).mean():.0%}",
        "L1 asks": f"{found_again(cosine).mean():.0%}",
        "answers with the hub": f"{asked.max() / len(concepts):.0%}",
        "never an answer": f"{(asked == 0).mean():.0%}",
        "L1 asks, CSLS": f"{found_again(csls).mean():.0%}",
        "L1 asks, centred": f"{retrieval(languages['en'], languages['L1'], centred=True)['to_source']:.0%}",
    }
display(pd.DataFrame(rows).T)
name = markdown_text(" / ".join(measured[hub][column] for column in task.text_columns))
say(f"The hub at shift 3: {measured[hub].get('emoji', '')} “{name}”. Report both directions, or say which one.")

# %% [markdown]
# ## Trap: the mean hides the worst
#
# Six targets; five are fine and one is turned by 80 degrees. Which number tells?

# %%
good = world(targets=6, noise=0.6)
broken = good | {"L6": world(targets=6, noise=0.6, turn=80)["L6"]}
p1 = pd.Series({name: retrieval(broken["en"], cloud)["from_source"] for name, cloud in broken.items() if name != "en"})
display(pd.DataFrame({"P@1": p1}).T.map("{:.2f}".format))
say(
    f"Mean **{p1.mean():.2f}**, worst **{p1.min():.2f}** ({p1.idxmin()}), median {p1.median():.2f}. A second model "
    f"with {p1.mean():.2f} in every language would have the same mean. Print every language, or at least the worst."
)

# %% [markdown]
# ## Trap: distances on a map
#
# Notebook 01 said that distances between the clusters of a UMAP map mean nothing. Here we can see it, because we know
# the distance. The mark doubles from world to world; the gap ratio is taken in the space, and on the map. (The first
# call of UMAP takes a while: it compiles itself.)

# %%
few = min(75, len(concepts))
points = []
for mark in (0.5, 1, 2, 4, 8):
    clouds = {name: cloud[:few] for name, cloud in world(targets=3, shift=0, mark=mark).items()}
    drawn = project(clouds, "umap").reshape(len(clouds), few, 2)
    points.append(
        {
            "in the space": np.mean([gap_ratio(clouds["en"], clouds[f"L{i}"]) for i in (1, 2, 3)]),
            "on the map": np.mean([gap_ratio(drawn[0], drawn[i]) for i in (1, 2, 3)]),
        }
    )
maps = pd.DataFrame(points, index=[f"mark {mark}" for mark in (0.5, 1, 2, 4, 8)])
display(maps.T.map("{:.2f}".format))
factors = maps.iloc[1:].to_numpy() / maps.iloc[:-1].to_numpy()
say(
    f"In the space, the gap grows by a factor of {factors[:, 0].min():.1f} to {factors[:, 0].max():.1f} from one world "
    f"to the next. On the map, by {factors[:, 1].min():.1f} to {factors[:, 1].max():.0f}."
)

# %% [markdown]
# ## When is a value more than nothing? A permutation null
#
# "CKA is 0.5" is no news until you know what it is for nothing. A **permutation test** makes nothing out of your own
# data: mix up the pairs, which keeps both clouds as they are, measure, and do it again. The p-value is the share of all
# orders, the observed one included, whose value reaches the observed one: $p = (1 + \#\{\text{null} \ge
# \text{observed}\}) / (1 + \text{draws})$. Here with 30 items.

# %%
DRAWS = 499
few = min(30, len(concepts))
spread = world(noise=1)
source, target = spread["en"][:few], spread["L1"][:few]
null = np.array([linear_cka(source, target[rng.permutation(few)]) for _ in range(DRAWS)])
strangers = np.roll(target, 1, axis=0)  # each beside the next one's translation
seen_cka = {"translations": linear_cka(source, target), "strangers": linear_cka(source, strangers)}
p = {name: (1 + int((null >= value).sum())) / (1 + DRAWS) for name, value in seen_cka.items()}

fig = px.histogram(
    x=null.round(4), nbins=40, template="plotly_white", height=360, labels={"x": "CKA"},
    color_discrete_sequence=["#b8b8b8"],
)  # fmt: skip
for (name, value), colour in zip(seen_cka.items(), PALETTE[1:3], strict=True):
    fig.add_vline(x=value, line={"color": colour, "width": 3}, annotation_text=name)
show(
    fig,
    f"CKA of {few} items whose pairs were mixed up {DRAWS} times lies between {null.min():.2f} and {null.max():.2f}. "
    f"The translations have {seen_cka['translations']:.2f} (p = {p['translations']:.3f}), strangers "
    f"{seen_cka['strangers']:.2f} (p = {p['strangers']:.2f}).",
)

# %% [markdown]
# What is exchanged depends on what "nothing" means. For P@1, MEXA and CKA, nothing is *no translation*: exchange the
# pairs. For the gap ratio, nothing is *no language*: within each concept, let a coin decide which of its two vectors is
# called English. A gap ratio is never 0, not even for two halves of one language.

# %%
rows = {}
for shift in (0, 0.1, 0.3):
    languages = world(shift=shift)
    for target in ("L1", "L2"):
        one, two = languages["en"][:few], languages[target][:few]
        coins = rng.random((DRAWS, few, 1)) < 0.5
        drawn = np.array([gap_ratio(np.where(coin, two, one), np.where(coin, one, two)) for coin in coins])
        observed = gap_ratio(one, two)
        rows[f"shift {shift}, {target}"] = {
            "gap ratio": observed,
            "mean of the null": drawn.mean(),
            "95 % of the null below": np.quantile(drawn, 0.95),
            "p": (1 + (drawn >= observed).sum()) / (1 + DRAWS),
        }
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# ## When is a difference a difference? A bootstrap over concepts
#
# Two encoders, twelve languages, a hundred concepts: 1,200 hits and misses each. Encoder B is a little less noisy. How
# sure is the difference? The 1,200 are not independent. A hard concept is hard in every language, and all languages are
# compared with the same English vectors. So draw **concepts** with replacement, with all their languages, and for both
# encoders the same ones. Each concept keeps its hit or miss: the items that it was compared with stay the same.
#
# Does it matter? Ask a world in which there is *no* difference: the same noise on both sides, only drawn anew. A 95 %
# interval should exclude 0 in 5 of 100 such comparisons. (There with 1.96 standard errors, the quick form of the same
# two intervals.)


# %%
def hits(languages):
    """Which concepts each target finds again when English asks, (targets, concepts)."""
    pairs = [(unit(languages["en"]), unit(cloud)) for name, cloud in languages.items() if name != "en"]
    return np.array([found_again(source @ target.T) for source, target in pairs])


hundred = concepts[:100]


def encoder_hits(noise, seed):
    return hits(synthetic_languages(hundred, 12, noise=noise, seed=seed)).astype(float)


a, b = encoder_hits(1.0, seed=0), encoder_hits(0.9, seed=1)
gain = b - a
resampled = {
    "concepts": gain.mean(axis=0)[rng.integers(0, gain.shape[1], size=(2000, gain.shape[1]))].mean(axis=1),
    "single answers, as if independent": gain.ravel()[rng.integers(0, gain.size, size=(2000, gain.size))].mean(axis=1),
}
ends = pd.DataFrame({name: np.quantile(draws, [0.025, 0.975]) for name, draws in resampled.items()}).T
display(ends.set_axis(["from", "to"], axis=1).map("{:+.1%}".format))
widths = (ends[1] - ends[0]).to_numpy()
say(f"B gains {gain.mean():+.1%}. The interval over concepts is **{widths[0] / widths[1]:.1f} times** as wide.")

# %%
TRIALS = 150
alarms = {"concepts": 0, "single answers": 0}
for trial in range(TRIALS):
    gain = encoder_hits(1.0, seed=100 + 2 * trial) - encoder_hits(1.0, seed=101 + 2 * trial)
    for name, values in (("concepts", gain.mean(axis=0)), ("single answers", gain.ravel())):
        alarms[name] += int(abs(values.mean()) > 1.96 * values.std(ddof=1) / np.sqrt(len(values)))
say(
    f"Of {TRIALS} comparisons of equals, **{alarms['single answers'] / TRIALS:.0%}** look like a difference when "
    f"single answers are taken as independent, and **{alarms['concepts'] / TRIALS:.0%}** when concepts are. For "
    "accuracies with several seeds, `xlt compare` and notebook 07 use `statistics.gain_interval`; it draws seeds too."
)

# %% [markdown]
# ## What choosing on the test set buys
#
# Now no vectors, only coins. A run leaves $K$ checkpoints. All have the *same* true accuracy in 13 languages; on a test
# set of 300 items, chance makes one of them look best. Whoever picks that one and reports its score, reports luck. How
# much? If the scores are normal with standard deviation $\sigma$, the best of $K$ lies $\sigma\, e_K$ above the truth,
# $e_K$ being the mean of the largest of $K$ standard normal numbers.
#
# And $\sigma$? Checkpoints agree on most items. An item that is right with probability $p_i$ adds $p_i(1-p_i)$; and two
# checkpoints differ on it with probability $2p_i(1-p_i)$. So $\sigma^2 = d / 2n$, where $d$ is the share of items on
# which two checkpoints disagree. You can count $d$ in your own run.


# %%
def best_of(count):
    """The mean of the largest of ``count`` standard normal numbers."""
    z = np.linspace(-9, 9, 6001)
    return np.trapezoid(z * count * norm.pdf(z) * norm.cdf(z) ** (count - 1), z)


MANY, LANGUAGES, ITEMS = (1, 2, 4, 8, 16, 32, 64), 13, 300
luck = {name: np.zeros(len(MANY)) for name in ("each language its own", "one for the target mean", "English dev")}
REPEATS, disagree = 120, 0.0
for repeat in range(REPEATS):
    draw = np.random.default_rng(repeat)
    chances = draw.beta(0.45, 0.25, size=(LANGUAGES, ITEMS))  # many items are easy, many are hopeless
    right = draw.random((MANY[-1], LANGUAGES, ITEMS)) < chances
    above = right.mean(axis=2) - chances.mean(axis=1)  # observed accuracy over the true one, (checkpoints, languages)
    dev = draw.random(MANY[-1])  # English dev items tell equals apart by chance alone
    disagree += float((right[0] != right[1]).mean()) / REPEATS
    for at, count in enumerate(MANY):
        runs = above.reshape(-1, count, LANGUAGES)  # as many runs of so many checkpoints as there are
        chosen = dev.reshape(-1, count).argmax(axis=1)
        luck["each language its own"][at] += runs.max(axis=1).mean() / REPEATS
        luck["one for the target mean"][at] += runs.mean(axis=2).max(axis=1).mean() / REPEATS
        luck["English dev"][at] += runs[np.arange(len(runs)), chosen].mean() / REPEATS

# %%
sigma = np.sqrt(disagree / (2 * ITEMS))
theory = {"each language its own": sigma, "one for the target mean": sigma / np.sqrt(LANGUAGES), "English dev": 0.0}
rows = []
for name, values in luck.items():
    rows += [{"checkpoints": k, "chosen by": name, "points": v} for k, v in zip(MANY, 100 * values, strict=True)]
    rows += [
        {"checkpoints": k, "chosen by": f"{name}: theory", "points": 100 * theory[name] * best_of(k)} for k in MANY
    ]
fig = lines(
    rows, "checkpoints", "points", by="chosen by", ticks=MANY, log_x=True,
    symbol_sequence=["circle", "circle-open"] * 3,
    color_discrete_sequence=[PALETTE[i] for i in (1, 1, 2, 2, 3, 3)], line_dash_sequence=["solid", "dot"] * 3,
)  # fmt: skip
at = MANY.index(16)
show(
    fig,
    f"Points above the true accuracy, of {ITEMS} items and {LANGUAGES} languages; two checkpoints disagree on "
    f"{disagree:.0%} of the items. Of 16 equal checkpoints, the best in each language looks "
    f"{100 * luck['each language its own'][at]:.1f} points better than it is (theory "
    f"{100 * theory['each language its own'] * best_of(16):.1f}), the best for the target mean "
    f"{100 * luck['one for the target mean'][at]:.1f} (theory "
    f"{100 * theory['one for the target mean'] * best_of(16):.1f}), and the one that English dev items choose "
    f"{round(100 * luck['English dev'][at], 1) + 0.0:+.1f}.",
)

# %% [markdown]
# Here the languages answer independently. In a real run, a checkpoint that is lucky in German is often lucky in Dutch,
# so one choice for all lies between the two curves. And real checkpoints are *not* all equal: the oracle that notebook
# [02](02_zero_shot_baseline.ipynb) prints beside its result holds luck and true differences together, and no test set
# can take them apart afterwards. The remedy costs nothing: let English dev items choose, and print the oracle as what
# it is.
#
# ## What to report
#
# 1. The **question**: search, transfer, or where the languages lie; and a measure that answers it, beside one that can
#    contradict it.
# 2. Layer, pooling, number of items, of languages, and width. The **chance level** beside every value.
# 3. P@1 in both directions, raw and centred. Every language, or the worst one beside the mean.
# 4. An **interval over concepts** for every difference, and over seeds where something was trained.
# 5. What selected the checkpoint. A picture for ideas, never for distances.

# %% [markdown]
# ## Take-aways
#
# - Every measure has a blind spot: CKA for turns and scales, gap ratio and silhouette for pairs, centred P@1 for any
#   shift, the probe for size.
# - Alignment for the task is not translation: collapse closes the gap, mixes the languages, and loses the items.
# - Values depend on what you did not report: items, width, the set of languages, the direction of the search.
# - Compare with a null made of your own data, and draw concepts, not single answers.
# - The best of many equal checkpoints is not better. It is lucky, by an amount that you can compute beforehand.

# %% [markdown]
# ## Exercises
#
# **1. Predict.** Half of the pairs are shuffled, *but only within their label*: a fruit is taken for another fruit.
# Which numbers will change by more than 0.02? Write `True` (changes) or `False` (stays), then run the cell.

# %%
prediction = {
    "gap ratio": ...,
    "kNN mixing": ...,
    "P@1": ...,
    "CKA": ...,
    "label of the nearest English item": ...,
}

if ... in prediction.values():
    print("Exercise 1 is unfinished: put True or False in place of the dots.")
else:
    pair, names = world(targets=1), np.array(labels)
    place = np.arange(len(names))
    for label in task.labels:
        half = np.flatnonzero(names == label)[::2]
        place[half] = np.roll(half, 1)
    for name, expected in prediction.items():
        values = []
        for one, two in ((pair["en"], pair["L1"]), (pair["en"], pair["L1"][place])):
            same_label = names[(unit(two) @ unit(one).T).argmax(axis=1)] == names
            values.append(
                {
                    "gap ratio": gap_ratio(one, two),
                    "kNN mixing": np.mean(list(knn_mixing({"en": one, "L1": two}).values())),
                    "P@1": retrieval(one, two)["from_source"],
                    "CKA": linear_cka(one, two),
                }.get(name, same_label.mean())
            )
        verdict = "as you said" if (abs(values[0] - values[1]) > 0.02) == expected else "not as you said"
        print(f"{name:34} {values[0]:.2f} -> {values[1]:.2f}   {verdict}")

# %% [markdown]
# **2. Write centred P@1**, from the source to the target: after each language has lost its own mean, how many source
# items have their translation as the nearest target item, by cosine? Clouds are arrays (items, width).
#
# **3. Write linear CKA** from its formula: $\lVert T^\top S\rVert^2 \,/\, (\lVert S^\top S\rVert\,\lVert T^\top
# T\rVert)$, Frobenius norms, $S$ and $T$ centred.
#
# **4. Write the permutation test** of P@1. `orders` holds one new order of the target's items per row, (draws, items);
# the statistic is `retrieval(source, target)["from_source"]`. Return the one-sided p-value.
#
# **5. Write the chance of MEXA** for so many items. Which numbers must the translation's cosine beat?
#
# **6. Write the price of peeking.** `dev` holds the accuracy of each checkpoint on English dev items, `test` for each
# language an array with the accuracy of each checkpoint on its test items. By how much is the best target mean of any
# checkpoint above that of the checkpoint that dev chooses?


# %%
def my_centred_p1(source, target):
    """Share of source items whose cosine-nearest target item, both clouds centred, is the one of the same row."""
    ...


check("centred_p1", my_centred_p1)


# %%
def my_linear_cka(source, target):
    """Linear CKA of two clouds (items, width)."""
    ...


check("linear_cka", my_linear_cka)


# %%
def my_permutation_p(source, target, orders):
    """p-value of P@1 from source to target under the given orders of the target's items."""
    ...


check("permutation_p", my_permutation_p)


# %%
def my_mexa_chance(items):
    """Expected MEXA of two clouds of so many items that have nothing to do with each other."""
    ...


check("mexa_chance", my_mexa_chance)


# %%
def my_peeking_gain(dev, test, source):
    """What choosing the checkpoint on the targets adds to the target mean."""
    ...


check("peeking_gain", my_peeking_gain)

# %% [markdown]
# ### Questions

# %%
display(quiz("cka_of_one", ...), quiz("silhouette_fell", ...), quiz("probe_after_training", ...))
display(quiz("best_of_forty", ...))

# %% [markdown]
# ## Further reading
#
# - S. Kornblith et al., [Similarity of Neural Network Representations
#   Revisited](https://arxiv.org/abs/1905.00414), ICML 2019. Linear CKA.
# - A. Kargaran et al., [MEXA: Multilingual Evaluation of English-Centric LLMs via Cross-Lingual
#   Alignment](https://arxiv.org/abs/2410.05873), 2024.
# - A. Conneau et al., [Word Translation Without Parallel Data](https://arxiv.org/abs/1710.04087), ICLR 2018. Hubs, and
#   CSLS against them.
# - W. Timkey and M. van Schijndel, [All Bark and No Bite: Rogue Dimensions in Transformer Language Models Obscure
#   Representational Quality](https://aclanthology.org/2021.emnlp-main.372), EMNLP 2021.
# - R. Dror et al., [The Hitchhiker's Guide to Testing Statistical Significance in Natural Language
#   Processing](https://aclanthology.org/P18-1128), ACL 2018.
# - P. Keung et al., [Don't Use English Dev](https://aclanthology.org/2020.emnlp-main.40), EMNLP 2020. How unsure the
#   honest choice is.
