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
# # Compare the map before and after training
#
# The picture that the method is about: fourteen languages, every layer, two stages of training side by side.
#
# **What you will learn**
# - to drive a linked map: choose layer, languages, projection and colour, click a point, follow its translations;
# - what training on English does to thirteen languages that it never sees, and which part of it is EAR's own;
# - what UMAP can show and what it cannot, with three tests that you can repeat on any map;
# - to write the numbers that stand beside the picture: ranks, kept neighbours, and how far a language moved.
#
# **What you need**: notebook [01](01_the_embedding_cluster_gap.ipynb) explains sentence vectors and the measures, and
# [07](07_full_training.ipynb) the training. Nothing that they computed is needed.
#
# **Time and memory**: under 1 minute on two cores, about 0.5 GB. The maps are stored; neither the encoder nor UMAP is
# loaded.
#
# **Where it runs**: on a laptop, without a GPU and without a model hub; on Binder and Colab too. The live view needs a
# running kernel; without one, the figures stand in for it.

# %%
import os
import time

import numpy as np
import pandas as pd
import plotly.express as px
from IPython.display import Markdown, display
from scipy.spatial import KDTree
from scipy.stats import spearmanr

from xlt_tutorial.alignment import gap_ratio
from xlt_tutorial.exercises import check
from xlt_tutorial.figures import layer_curves, layer_map, show
from xlt_tutorial.quiz import quiz
from xlt_tutorial.styles import language_name, markdown_text, styles
from xlt_tutorial.widgets import explore, read_maps, static_map
from xlt_tutorial.widgets.tables import sentence

TASK = os.environ.get("XLT_TASK", "emoji")
ENCODER = os.environ.get("XLT_ENCODER", "e5-small")
METHOD = os.environ.get("XLT_METHOD", "ear")
RECOMPUTE = False  # True: train and project anew, for TASK, ENCODER and METHOD


def say(text):
    """Show a sentence whose numbers come from the code around it."""
    display(Markdown(text))


# %% [markdown]
# ## Stored, and recomputed in one cell
#
# Two trainings, and UMAP at thirteen layers, are nothing to wait for in a lesson. So the coordinates come with the
# package: `results/maps.npz`, beside `maps.json` with the measures, seeds, versions, platform and seconds. Set
# `RECOMPUTE = True` above and this cell makes your own, with the function that made the stored ones
# (`tools/make_maps.py` calls it too). What is finished is kept, so it can be stopped and started again.

# %%
if RECOMPUTE:
    from xlt_tutorial.system import machine, versions
    from xlt_tutorial.widgets.make import make_maps

    facts = {"versions": versions(), "platform": machine()}
    maps = make_maps("runs/my-maps", TASK, ENCODER, METHOD, facts=facts)
else:
    maps = read_maps()
    if (TASK, ENCODER, METHOD) != (maps.info["task"], maps.info["encoder"], maps.info["method"]):
        say(f"The stored maps are of `{maps.info['task']}`, `{maps.info['encoder']}`, `{maps.info['method']}`.")

SOURCE, TARGETS = maps.source, maps.languages[1:]
BEFORE, VANILLA, AFTER = maps.stages
LAST = maps.layers[-1]
MIDDLE = maps.layers[len(maps.layers) // 2]
say(
    f"**{len(maps.ids)}** test items (a random sample, the same in every language) in **{len(maps.languages)}** "
    f"languages are {len(maps.ids) * len(maps.languages):,} points, at {len(maps.layers)} layers and "
    f"{len(maps.stages)} stages. Every measure is over all {maps.info['test_concepts']} test items. Seed "
    f"{maps.info['seed']}, torch {maps.info['versions']['torch']}, umap-learn {maps.info['umap-learn']}."
)
spent = {
    part: sum(took.values() if isinstance(took, dict) else took) / 60 for part, took in maps.info["seconds"].items()
}
say(
    f"Making them took {sum(spent.values()):.0f} minutes by the clock: {spent['train']:.0f} for two "
    f"trainings, {spent['measure']:.0f} for encoding and measuring, {spent['project']:.0f} for the projections "
    f"(the median of the layers is {np.median(maps.info['seconds']['project']):.0f} seconds)."
)

# %% [markdown]
# ## Three stages
#
# | stage | trained on | passes over a sentence in a step |
# |---|---|---|
# | the encoder as it is | nothing of this task | none |
# | after vanilla training | English names and their labels | two, with two dropout masks |
# | after EAR | English names and their labels | two: the name, and its virtual twin |
#
# Both trainings start from the first stage and take the same steps over the same rows. EAR is the published form:
# $\alpha=0.1$, $\beta=1$, the pull on the sixth block, and virtual names made of neighbours in the encoder's own input
# embedding (notebook [03](03_virtual_multilingual_embeddings.ipynb)). No text of a target language was used.
#
# | what | function | test |
# |---|---|---|
# | trains, measures and projects the stages | `widgets.make.make_maps` | `tests/test_widgets.py` |
# | one frame for all stages of a layer | `projection.project_stages` | `tests/test_widgets.py` |
# | the loss of EAR | `objectives.EAR` | `tests/test_objectives.py` |
# | the numbers | `alignment.align` | `tests/test_alignment.py` |
# | what a state of the view shows | `widgets.scene` | `tests/test_widgets.py`, `tests/test_browser_widgets.py` |

# %%
trained = {stage: maps.info["stages"][stage] for stage in (VANILLA, AFTER)}
scores = {
    facts["title"]: [facts["accuracy"][SOURCE], facts["target_mean"], facts["accuracy"][SOURCE] - facts["target_mean"]]
    for facts in trained.values()
}
columns = [language_name(SOURCE), f"mean of {len(TARGETS)} targets", "gap"]
display(pd.DataFrame(scores, index=columns).T.map("{:.1%}".format))
gain = trained[AFTER]["target_mean"] - trained[VANILLA]["target_mean"]
say(
    f"On this one seed, EAR is {abs(100 * gain):.1f} points {'above' if gain > 0 else 'below'} vanilla in the target "
    "mean. Notebook 07 has more seeds, and says how much of such a difference is chance. Here we ask what happens to "
    "the *vectors*."
)

# %% [markdown]
# ## The picture
#
# Every point is a name. Its colour and its marker say the language, thin lines join an English name with its
# translations. On the left the encoder as it is, on the right after EAR. Both panels are one UMAP, so a place on the
# left is the same place on the right. To keep this figure small it has a part of the items, and a few layers: move the
# slider.

# %%
few = [maps.layers[0], MIDDLE, LAST]
items = np.linspace(0, len(maps.ids) - 1, min(18, len(maps.ids))).round().astype(int)
show(static_map(maps, BEFORE, AFTER, layers=few, concepts=items), sentence(maps, BEFORE, AFTER, LAST))

# %% [markdown]
# ## Move through it
#
# The same picture, live, with all points and all layers. (On GitHub you see only the figure above.)
#
# - **Left, Right**: the stage in each panel. **Layer**: 0 is the output of the embedding block.
# - **UMAP, PCA**: the projection. **Colour**: by language, by label, or by *gap*, explained below.
# - **Languages**: those that are shown. The measures follow: a mean is over the targets that you chose.
# - **Click** a point: its translations light up in both panels, and stand in a table below. Click again to put them
#   out. **Find** does the same for a name or an emoji that you type.
# - Hover to read emoji, name, romanised name, English and label. Drag to zoom: both panels follow. Double-click to zoom
#   out.
#
# The *gap* of a point is its cosine distance to its English translation, divided by its mean distance to all other
# English names. 0: on its translation. 1: as far from it as from strangers. English itself is grey.

# %%
view = explore(maps)
view

# %% [markdown]
# ## Seven things to try
#
# 1. Layer 0, colour by language. Which languages lie together? Look at their scripts.
# 2. The same layer, PCA. Do you see the same groups? Both views are of the same vectors.
# 3. The last layer, colour by label. Which panel has the labels apart? Watch *Silhouette, label*.
# 4. Colour by gap, and go from layer 0 to the last. Where do the points turn light?
# 5. Click a point in the middle of a mixed group, then one at its rim. Compare the ranks in the table.
# 6. *None*, then English and Japanese: kNN mixing and P@1 change, as they are now those of Japanese. Then add Korean.
# 7. Vanilla on the left, EAR on the right. Now look for a difference.
#
# How long does a change take the kernel? The next cell runs the view above through its layers, and takes the time.

# %%
steps = [{"layer": layer} for layer in maps.layers] + [{"colour": "label"}, {"colour": "gap"}, {"picked": 0}]
seconds = []
for step in steps:
    began = time.perf_counter()
    view.set(**step)
    seconds.append(time.perf_counter() - began)
view.set(layer=LAST, colour="language", picked=None)
say(
    f"{len(steps)} updates of {2 * len(maps.ids) * len(maps.languages):,} points: {1000 * np.median(seconds):.0f} ms "
    f"in the middle, {1000 * max(seconds):.0f} ms at most, plus what the browser takes to draw. All changes of one "
    "step travel in one message (`batch_update`), and only what has changed."
)

# %% [markdown]
# ## What UMAP can show, and what it cannot
#
# UMAP (McInnes et al., 2018) connects each point with its nearest neighbours in the full space, here 15 by cosine. Then
# it looks for a layout in which connected points attract each other, and random others repel. *AlignedUMAP* lays out
# several stages together: beside the attractions within a stage, each point is tied to *itself* at the next stage.
# Where its neighbours have not changed, a point stays where it was.
#
# So it can show **who is near whom**, and **which points changed company** between the panels. Nothing in it asks that
# distances between groups, sizes of groups, or shapes mean anything. Three tests of that.

# %% [markdown]
# ### Test 1: are neighbours kept?
#
# For each point, take its ten nearest on the map and its ten nearest in the full space, by cosine. How many are in
# both? This share stands beside the picture as *neighbours kept*. You write it yourself in exercise 4.

# %%
kept = pd.DataFrame(
    [
        {"layer": layer, "projection": name.upper(), "stage": maps.title(stage), "share": maps.kept(stage, layer, name)}
        for name in maps.projections
        for stage in maps.stages
        for layer in maps.layers
    ]
)
figure = px.line(
    kept, x="layer", y="share", color="projection", line_dash="stage", range_y=[0, 1], template="plotly_white",
    height=420, labels={"share": "of ten neighbours on the map, kept", "layer": "layer"},
)  # fmt: skip
mean = kept.groupby("projection")["share"].mean()
low, high = kept.groupby("projection")["share"].min(), kept.groupby("projection")["share"].max()
by_chance = 10 / (len(maps.ids) * len(maps.languages) - 1)
show(
    figure,
    "Share of neighbours on the map that are neighbours in the full space, by layer. "
    + " ".join(f"{name}: {mean[name]:.0%} on average, from {low[name]:.0%} to {high[name]:.0%}." for name in mean.index)
    + f" Points thrown down at random would keep {by_chance:.1%}. The rest of what looks close on a map is not.",
)

# %% [markdown]
# ### Test 2: does it survive another layout?
#
# The vectors of the last layer after EAR, laid out twice more: from another seed, and with another number of
# neighbours. Nobody can say that one of the three is the right one. What they do not share is not in the vectors.

# %%
tried = maps.info["again"]
first, reseeded, wider = maps.coordinates(AFTER, LAST), *(layout / layout.max() for layout in maps.again)
table = maps.points(AFTER, LAST, concepts=items)
other = table.assign(x=wider[:, items, 0].ravel(), y=wider[:, items, 1].ravel())


def between(xy):
    """Distances between the centres of all pairs of labels on a map."""
    centres = [xy[:, maps.labels == label].mean(axis=(0, 1)) for label in np.unique(maps.labels)]
    return [np.linalg.norm(a - b) for i, a in enumerate(centres) for b in centres[:i]]


def near(xy):
    """The ten nearest of each point on a map."""
    flat = xy.reshape(-1, 2)
    return [set(found) for found in KDTree(flat).query(flat, 11)[1][:, 1:]]


def agreement(xy):
    """Share of the ten nearest that two maps have in common, and the rank correlation of their distances."""
    both = np.mean([len(a & b) / 10 for a, b in zip(near(first), near(xy), strict=True)])
    return f"{both:.0%} of a point's ten nearest, and {spearmanr(between(first), between(xy)).statistic:+.2f}"


names = [f"{count} neighbours" for count in (maps.info["neighbours"], tried["neighbours"])]
show(
    layer_map({names[0]: {LAST: table}, names[1]: {LAST: other}}, colour="label"),
    f"Layer {LAST} after training with {AFTER.upper()}, coloured by label: UMAP with {names[0]}, and with {names[1]}. "
    "What two layouts share, and the rank correlation of the distances between the centres of the labels: "
    f"{agreement(wider)} with {names[1]}; {agreement(reseeded)} with seed {tried['seed']} in place of "
    f"{maps.info['seed']}.",
)

# %% [markdown]
# ### Test 3: can the gap be read off?
#
# The gap ratio of a language, once from the vectors and once from the coordinates, as an eye would do it that takes the
# map for the territory. One point for each target language, layer and stage.

# %%
rows = []
for name in maps.projections:
    for stage in maps.stages:
        for layer in maps.layers:
            flat, true = maps.coordinates(stage, layer, name), maps.measures(stage, layer)["gap_ratio"]
            for at, code in enumerate(TARGETS, 1):
                seen = gap_ratio(flat[0], flat[at])
                rows.append({"projection": name.upper(), "language": language_name(code), "layer": layer})
                rows[-1] |= {"in the full space": round(true[code], 3), "on the map": round(seen, 3)}
seen = pd.DataFrame(rows)
figure = px.scatter(
    seen, x="in the full space", y="on the map", facet_col="projection", color="layer", template="plotly_white",
    height=420, opacity=0.5, color_continuous_scale="Cividis", hover_name="language",
)  # fmt: skip
figure.for_each_annotation(lambda note: note.update(text=note.text.split("=")[1]))
ties = {
    name: spearmanr(part["in the full space"], part["on the map"]).statistic
    for name, part in seen.groupby("projection")
}
off = (seen["on the map"] / seen["in the full space"]).quantile([0.05, 0.95])
show(
    figure,
    "Gap ratios read off the map against the true ones: rank correlation "
    + " and ".join(f"{tie:+.2f} with {name}" for name, tie in ties.items())
    + f". Nine of ten are between {off.iloc[0]:.1f} and {off.iloc[1]:.1f} times the true one.",
)

# %% [markdown]
# A test that a picture passes on average can still fail for the group that you are looking at. Rule: **the map
# suggests, the numbers decide**.

# %%
quiz("map_distance", ...)

# %%
quiz("map_one_frame", ...)

# %% [markdown]
# ## The numbers, layer by layer
#
# Now the evidence. Each measure was counted in the full space, over all test items. First the *gap ratio*: how far
# apart are the centres of English and of another language, in units of their own spread?

# %%
reports = {maps.title(stage): maps.info["measures"][stage] for stage in maps.stages}


def at_stage(stage, get):
    return np.array([get(maps.measures(stage, layer)) for layer in maps.layers])


def told(get, form="{:.2f}"):
    """The last layer at the three stages, in words."""
    values = {maps.title(stage): at_stage(stage, get)[-1] for stage in maps.stages}
    return ", ".join(f"{form.format(value)} ({title[0].lower()}{title[1:]})" for title, value in values.items())


gaps = {stage: at_stage(stage, lambda row: row["gap_ratio"]["mean"]) for stage in maps.stages}
moved = np.abs(gaps[AFTER] - gaps[BEFORE])
show(
    layer_curves(reports, "gap_ratio"),
    f"Mean gap ratio over {len(TARGETS)} targets. At layer {LAST}: {told(lambda row: row['gap_ratio']['mean'])}. "
    f"Training moves it most at layer {maps.layers[int(moved.argmax())]} and least at layer "
    f"{maps.layers[int(moved.argmin())]}.",
)

# %% [markdown]
# *kNN mixing*: of a point's ten nearest, how many are foreign, compared with what there would be if language played no
# part?

# %%
mixing = {stage: at_stage(stage, lambda row: row["knn_mixing"]["mean"]) for stage in maps.stages}
apart = mixing[AFTER] - mixing[VANILLA]
widest = int(np.abs(apart).argmax())
show(
    layer_curves(reports, "knn_mixing"),
    f"kNN mixing. At layer {LAST}: {told(lambda row: row['knn_mixing']['mean'])}. EAR and vanilla differ most at layer "
    f"{maps.layers[widest]}, by {apart[widest]:+.3f}.",
)

# %% [markdown]
# *Silhouettes*: are points grouped by language, or by label?

# %%
by_label = {stage: at_stage(stage, lambda row: row["silhouette"]["label"]) for stage in maps.stages}
parted = [layer for layer, more in zip(maps.layers, by_label[AFTER] - by_label[BEFORE], strict=True) if more > 0.05]
show(
    layer_curves(reports, "silhouette"),
    f"Silhouettes. By label at layer {LAST}: {told(lambda row: row['silhouette']['label'])}. By language: "
    f"{told(lambda row: row['silhouette']['language'])}. "
    + (
        f"EAR has labels apart by 0.05 more than the encoder as it is at {len(parted)} layers, first at {parted[0]}."
        if parted
        else "At no layer does EAR set labels apart by 0.05 more than the encoder as it is."
    ),
)

# %% [markdown]
# ## What of it is EAR's own?
#
# Any training on the task moves the vectors. To give EAR credit, take off what vanilla training does with the same
# work:
#
# $$\underbrace{m_\text{EAR} - m_\text{before}}_\text{what the picture shows} =
# \underbrace{m_\text{vanilla} - m_\text{before}}_\text{any training} +
# \underbrace{m_\text{EAR} - m_\text{vanilla}}_\text{EAR's own}$$

# %%
MEASURES = {
    "gap ratio": lambda row: row["gap_ratio"]["mean"],
    "kNN mixing": lambda row: row["knn_mixing"]["mean"],
    "P@1, raw": lambda row: row["p1"]["raw"]["from_source"]["mean"],
    "P@1, centred": lambda row: row["p1"]["centred"]["from_source"]["mean"],
    "silhouette by language": lambda row: row["silhouette"]["language"],
    "silhouette by label": lambda row: row["silhouette"]["label"],
    "language probe": lambda row: row["language_probe"],
}
parts = {}
for name, get in MEASURES.items():
    before, vanilla, after = (at_stage(stage, get)[-1] for stage in maps.stages)
    parts[name] = {"before": before, "change": after - before, "any training": vanilla - before, "own": after - vanilla}
parts = pd.DataFrame(parts).T
display(parts.map("{:+.3f}".format))
larger = [name for name, row in parts.iterrows() if abs(row["own"]) > abs(row["any training"])]
say(
    f"Layer {LAST}. EAR's own part is larger than that of any training for "
    + (", ".join(larger) if larger else "no measure")
    + f" ({len(larger)} of {len(parts)}). One seed: a part that is small beside the spread over seeds (notebook 07) is "
    "not yet a finding."
)

# %%
quiz("map_fair_pair", ...)

# %% [markdown]
# ## Language by language
#
# The mean hides who moves. The gap ratio of each target with English, in the middle of the encoder and at its end.

# %%
rows = [
    {"language": language_name(code), "layer": f"layer {layer}", "stage": maps.title(stage)}
    | {"gap ratio": round(maps.measures(stage, layer)["gap_ratio"][code], 4)}
    for layer in (MIDDLE, LAST)
    for stage in maps.stages
    for code in sorted(TARGETS, key=lambda code: maps.measures(BEFORE, LAST)["gap_ratio"][code])
]
figure = px.scatter(
    pd.DataFrame(rows), x="gap ratio", y="language", color="stage", symbol="stage", facet_col="layer", height=480,
    template="plotly_white", color_discrete_sequence=[style[0] for style in styles("abc", "label").values()],
)  # fmt: skip
figure.update_traces(marker_size=9).update_layout(legend={"orientation": "h", "y": -0.15})
figure.for_each_annotation(lambda note: note.update(text=note.text.split("=")[1]))
change = {
    code: maps.measures(AFTER, LAST)["gap_ratio"][code] - maps.measures(BEFORE, LAST)["gap_ratio"][code]
    for code in TARGETS
}
least, most = min(change, key=change.get), max(change, key=change.get)
show(
    figure,
    f"Gap ratio of each language at layers {MIDDLE} and {LAST}. At layer {LAST}, from the encoder as it is to EAR, "
    f"it changes by {change[least]:+.2f} for {language_name(least)} and {change[most]:+.2f} for {language_name(most)}, "
    f"the two extremes; it falls for {sum(value < 0 for value in change.values())} of {len(TARGETS)} languages.",
)

# %% [markdown]
# ## One item at a time
#
# For each point, at which place does its English name stand among all English names, nearest first? That is its *rank*.
# P@1 is the share of ones. Ranks tell more: a translation that is second is not lost.

# %%
ranks = {stage: maps.ranks(stage, LAST)[1:] for stage in maps.stages}
share = {
    maps.title(stage): {
        "first": np.mean(found == 1), "2 to 10": np.mean((found > 1) & (found <= 10)), "beyond 10": np.mean(found > 10),
    }
    for stage, found in ranks.items()
}  # fmt: skip
display(pd.DataFrame(share).T.map("{:.1%}".format))
beyond = {stage: np.mean(ranks[stage] > 10) for stage in maps.stages}
say(
    f"At layer {LAST}, the English name is beyond the ten nearest for {beyond[BEFORE]:.1%} of the points before "
    f"training and {beyond[AFTER]:.1%} after EAR ({beyond[VANILLA]:.1%} after vanilla). Training for labels does not "
    "ask that two items of one label stay apart."
)

# %% [markdown]
# Who gains, and who loses? The item whose translations have come closest to the English name, by the mean of the
# logarithms of their ranks, and the one that was lost most.

# %%
fall = np.log(ranks[BEFORE]).mean(axis=0) - np.log(ranks[AFTER]).mean(axis=0)
best, worst = int(fall.argmax()), int(fall.argmin())


def follow(item):
    """Names and ranks of one item at the three stages."""
    columns = {"name": maps.texts[1:, item], "romanised": maps.romanised[1:, item]}
    columns |= {maps.title(stage): found[:, item] for stage, found in ranks.items()}
    return pd.DataFrame(columns, index=[language_name(code) for code in TARGETS])


for title, item in (("Closer", best), ("Lost", worst)):
    text, label = markdown_text(maps.texts[0, item]), markdown_text(maps.labels[item])
    say(f"**{title}: {maps.emoji[item]} {text}** ({label}), rank of the English name:")
    display(follow(item))

# %% [markdown]
# Look at one of them: the next cell lights it up in the view above. Scroll up to see it, at several layers.

# %%
view.pick(worst)

# %% [markdown]
# ## Collapse onto labels
#
# The same maps, coloured by label. If all items of a label end in one place, every language is mixed, every gap ratio
# is small, and the vectors have forgotten *which* animal it was. Alignment numbers alone would praise that. Notebook
# [09](09_measuring_alignment_honestly.ipynb) builds such a case on purpose.

# %%
p1 = {stage: at_stage(stage, MEASURES["P@1, centred"])[-1] for stage in maps.stages}
label = {stage: by_label[stage][-1] for stage in maps.stages}
both = label[AFTER] > label[BEFORE] and p1[AFTER] < p1[BEFORE]
panels = {maps.title(stage): {LAST: maps.points(stage, LAST, concepts=items)} for stage in (BEFORE, AFTER)}
figure = layer_map(panels, colour="label").update_layout(xaxis2_matches="x", yaxis2_matches="y")
show(
    figure,
    f"Layer {LAST}, coloured by label. The silhouette by label goes from {label[BEFORE]:.2f} to {label[AFTER]:.2f} "
    f"({label[VANILLA]:.2f} after vanilla), centred P@1 from {p1[BEFORE]:.0%} to {p1[AFTER]:.0%} ({p1[VANILLA]:.0%}): "
    + (
        "labels apart, and translations harder to find, which is the direction of a collapse."
        if both
        else "not both of labels apart and translations harder to find, so this is no collapse onto labels."
    ),
)

# %%
quiz("map_pca_shadow", ...)

# %% [markdown]
# ## Take-aways
#
# - Two stages in one frame show which points changed company. Tie points to themselves, never to their translations.
# - UMAP keeps a part of the neighbourhoods and promises no distances. Test it: neighbours kept, another layout, gaps
#   read off.
# - The measures stand beside the picture and decide. They are over all items, the picture is of a sample.
# - Compare EAR with vanilla of the same work, not with the encoder as it is: most training moves most vectors.
# - Mixed languages are not yet alignment: look at ranks, and whether labels have swallowed the items.

# %% [markdown]
# ## Exercises
#
# **1. Predict.** Before you run it: at which layer do the stages after vanilla and after EAR differ most in centred
# P@1? Put a layer in place of the dots. Then look at that layer in the view.

# %%
prediction = ...

differ = np.abs(at_stage(AFTER, MEASURES["P@1, centred"]) - at_stage(VANILLA, MEASURES["P@1, centred"]))
if prediction is ...:
    print(f"Exercise 1 is unfinished: put a layer from {maps.layers[0]} to {LAST} in place of the dots.")
elif prediction not in maps.layers:
    print(f"There is no layer {prediction}: choose one from {maps.layers[0]} to {LAST}.")
else:
    true, own = maps.layers[int(differ.argmax())], differ[maps.layers.index(prediction)]
    print(
        "As you said." if prediction == true else f"Not as you said: layer {true}, by {100 * differ.max():.1f} points."
    )
    print(f"At layer {prediction} they differ by {100 * own:.1f} points.")

# %% [markdown]
# **2. Read the map.** Run the cell: it names an item. Light it up in the view at layer 0, in UMAP, the encoder as it is
# on the left. Which language's point *looks* farthest from the English one? Write its code, such as `"ja"`, in place
# of the dots. The cell compares your eye with the coordinates, and both with the full space.

# %%
farthest = ...

item = int(np.argmax(maps.ranks(BEFORE, maps.layers[0])[1:].std(axis=0)))
print(f"The item: {maps.emoji[item]} {maps.texts[0, item]}")
xy = maps.coordinates(BEFORE, maps.layers[0])[:, item]
looks = dict(zip(maps.languages, np.linalg.norm(xy - xy[0], axis=1), strict=True))
true = dict(zip(maps.languages, maps.gaps(BEFORE, maps.layers[0])[:, item], strict=True))
if farthest is ...:
    print("Exercise 2 is unfinished: write the code of a language in place of the dots.")
elif farthest not in TARGETS:
    print(f"No target language has the code {farthest!r}: choose one of {', '.join(TARGETS)}.")
else:
    order = sorted(TARGETS, key=looks.get, reverse=True)
    print(f"On the map, {language_name(farthest)} is number {order.index(farthest) + 1} from the far end.")
    print(f"In the full space, {language_name(max(TARGETS, key=true.get))} is the farthest: a gap of", end=" ")
    print(f"{max(true[code] for code in TARGETS):.2f}; {language_name(farthest)} has {true[farthest]:.2f}.")

# %% [markdown]
# **3. Write the rank.** `target` and `source` are (items, width), row *i* the same item. For each target item: at which
# place does its translation stand among all source items, nearest first by cosine? 1 is the nearest.


# %%
def my_ranks(target, source):
    """Whole numbers, one for each item."""
    ...


check("translation_ranks", my_ranks)

# %% [markdown]
# **4. Test a map.** `space` is (points, width), `plane` is (points, 2). Of each point's *k* nearest on the map, by
# distance, which share is among its *k* nearest in the space, by cosine? Return the mean over the points. A point is
# not its own neighbour.


# %%
def my_neighbours_kept(space, plane, k):
    """A number from 0 to 1."""
    ...


check("neighbours_kept", my_neighbours_kept)

# %% [markdown]
# **5. Write the centroid shift.** `before` and `after` are `{language: (items, width)}`. For each language: how far did
# its centre move, in units of its spread? The spread is the root of the mean of its two total variances, as in the gap
# ratio of notebook 01. Then think: all languages move far, and by the same vector. Has their alignment changed?


# %%
def my_centroid_shift(before, after):
    """{language: number}"""
    ...


check("centroid_shift", my_centroid_shift)

# %% [markdown]
# ## Further reading
#
# - L. McInnes, J. Healy and J. Melville, [UMAP: Uniform Manifold Approximation and Projection for Dimension
#   Reduction](https://arxiv.org/abs/1802.03426), 2018.
# - A. Coenen and A. Pearce, [Understanding UMAP](https://pair-code.github.io/understanding-umap/), 2019. What the
#   settings do, to play with.
# - M. Wattenberg, F. Viégas and I. Johnson, [How to Use t-SNE Effectively](https://distill.pub/2016/misread-tsne/),
#   Distill, 2016. The same warnings for UMAP's elder sister.
# - T. Chari and L. Pachter, [The specious art of single-cell genomics](https://doi.org/10.1371/journal.pcbi.1011288),
#   PLOS Computational Biology, 2023. How much two dimensions lose, counted.
# - K. Ding et al., [A Simple and Effective Method to Improve Zero-Shot Cross-Lingual Transfer
#   Learning](https://aclanthology.org/2022.coling-1.385), COLING 2022. EAR, the method of this series.
#
# Next: [09 Measuring alignment honestly](09_measuring_alignment_honestly.ipynb).
