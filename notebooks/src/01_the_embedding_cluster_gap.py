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
# # See the embedding cluster gap, and measure it
#
# One encoder, fourteen languages, layer by layer.
#
# **What you will learn**
# - how a text becomes one vector per layer, written out in three lines;
# - how to read a map of such vectors, and what it may not tell you;
# - five measures of alignment: what each one sees, its formula, and its code on two languages;
# - which part of the gap is a mere shift, and which part is more than that;
# - which languages are far from English here, and what goes with it.
#
# **What you need**: Python, PyTorch basics (tensors, a forward pass), a little statistics (mean, variance). Notebook
# [00](00_start_here.ipynb) helps, but nothing that it computed is needed.
#
# **Time and memory**: about 1 minute on two cores, about 1.6 GB.
#
# **Where it runs**: on a laptop, without a GPU and without a model hub; on Binder and Colab too.

# %%
import os

import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display
from scipy.stats import spearmanr

from xlt_tutorial import align, load_encoder, load_task, sentence_vectors
from xlt_tutorial.alignment import gap_ratio, knn_mixing, language_probe, pooled_layers, retrieval, silhouettes
from xlt_tutorial.exercises import check
from xlt_tutorial.figures import alignment_map, layer_curves, layer_map, show
from xlt_tutorial.projection import map_points, project
from xlt_tutorial.quiz import quiz
from xlt_tutorial.styles import language_name

TASK = os.environ.get("XLT_TASK", "emoji")
ENCODER = os.environ.get("XLT_ENCODER", "e5-small")


def say(text):
    """Show a sentence whose numbers come from the code around it."""
    display(Markdown(text))


# %% [markdown]
# ## The same things, in every language
#
# A *parallel task* has the same items in every language: row 7 is the same thing everywhere. In the task `emoji` an
# item is an emoji, and its text is its name, written by people for the Unicode consortium. That is a gift for
# pictures: you know every item by its face, in whatever language its name is.

# %%
task = load_task(TASK)
SPLIT = task.evaluation_split
SOURCE, TARGETS = task.source, task.targets
items = task[SPLIT][SOURCE]
print(task)


def text(language, row):
    return " / ".join(task[SPLIT][language][int(row)][column] for column in task.text_columns)


def face(row):
    return items[int(row)].get("emoji", f"item {row}")


few = np.linspace(0, len(items) - 1, 8).astype(int)[1:-2]
pd.DataFrame({face(row): {language_name(code): text(code, row) for code in task.languages} for row in few})

# %% [markdown]
# ## From a text to pieces
#
# The names mean the same and share little else: not the script, not the word order, not the number of words. If an
# encoder understands them, a column of this table should end up in one place. Does it?
#
# We load the encoder. `trim_to=task` keeps only the part of its vocabulary that this task needs: same answers, less
# memory. Then we look at how its tokenizer cuts one name in each language. `▁` marks the start of a word. All languages
# share one vocabulary and one table of input vectors. Frequent words are whole, rare ones in parts.

# %%
encoder = load_encoder(ENCODER, trim_to=task)
model, tokenizer = encoder.model, encoder.tokenizer
LAST = model.config.num_hidden_layers
say(
    f"`{encoder.name}` ({encoder.source}): {LAST} layers of width {model.config.hidden_size}, "
    f"{encoder.parameters / 1e6:.1f} million weights{' after trimming' * (encoder.kept_ids is not None)}."
)


def cut(code, row):
    return tokenizer.tokenize(text(code, row))


OTHER = TARGETS[-1]
differ = [int(row) for row in few if len(cut(SOURCE, row)) != len(cut(OTHER, row))]
ROW = differ[-1] if differ else int(few[1])
cuts = {code: cut(code, ROW) for code in task.languages}
table = {language_name(code): [len(parts), "  ".join(parts)] for code, parts in cuts.items()}
pd.DataFrame(table, index=["number", f"pieces of {face(ROW)}"]).T

# %% [markdown]
# ## From pieces to one vector per layer
#
# The encoder turns pieces into vectors, again and again: layer 0 is what its embedding block puts out, layer *k* what
# its block *k* puts out. Here are two names, one in the source language and one in another. The shorter one is
# padded, and the mask says which positions are real.

# %%
texts = [text(SOURCE, ROW), text(OTHER, ROW)]
batch = tokenizer(texts, padding=True, return_tensors="pt")
with torch.inference_mode():
    states = model(**batch, output_hidden_states=True).hidden_states
print(texts, batch["attention_mask"], f"{len(states)} layers, each {tuple(states[0].shape)}", sep="\n")

# %% [markdown]
# The **sentence vector** of a layer is the mean over the real positions: three lines. The package has the same for all
# layers at once, and the two must agree. Throughout this series, *the package is the answer key*.

# %%
mask = batch["attention_mask"].unsqueeze(-1)  # (texts, positions, 1)
total = (states[LAST] * mask).sum(dim=1)  # padding counts nothing
mine = total / mask.sum(dim=1)  # (texts, width)

with torch.inference_mode():
    theirs = pooled_layers(model, batch)  # (layers, texts, width)
assert torch.allclose(mine, theirs[LAST], atol=1e-5)
cosine = torch.cosine_similarity(theirs[:, 0], theirs[:, 1], dim=-1)
pd.DataFrame({"cosine of the two": [f"{value:.2f}" for value in cosine]}).rename_axis("layer").T

# %% [markdown]
# Beware of reading these cosines as they stand. Is 0.8 a lot? In many encoders *any* two texts have a high cosine. Only
# a comparison helps: sixty names in one language against sixty in the other, translations and strangers apart.

# %%
sixty = np.linspace(0, len(items) - 1, 60).astype(int)
names = [text(code, row) for code in (SOURCE, OTHER) for row in sixty]
with torch.inference_mode():
    pooled = pooled_layers(model, tokenizer(names, padding=True, truncation=True, return_tensors="pt"))
unit = torch.nn.functional.normalize(pooled, dim=-1)
every = unit[:, : len(sixty)] @ unit[:, len(sixty) :].mT  # (layers, source names, other names)
own = every.diagonal(dim1=1, dim2=2).mean(dim=1)
strange = (every.sum(dim=(1, 2)) - own * len(sixty)) / (len(sixty) * (len(sixty) - 1))
table = pd.DataFrame({"translations": own.numpy(), "strangers": strange.numpy()}).rename_axis("layer").T
display(table.map("{:.2f}".format))
say(
    f"At layer {LAST}, a name and its translation in {language_name(OTHER)} have a mean cosine of **{own[LAST]:.2f}**, "
    f"and a name and the name of something else **{strange[LAST]:.2f}**."
)

# %% [markdown]
# ## Layer 0 is a bag of word pieces
#
# At layer 0 no piece has looked at another one. Its vector knows the piece and the position, nothing else, so the mean
# is nearly a *bag*: what is in it counts, the order hardly does. Blocks mix the pieces. Let us turn the word order of
# some names around and see who notices.
#
# *Predict before you run*: at which layer will a name and its reversal be most alike?

# %%
ordered = [name for name in task.texts(SPLIT, SOURCE) if len(name.split()) >= 3][:100]
turned = [" ".join(reversed(name.split())) for name in ordered]
with torch.inference_mode():
    both = pooled_layers(model, tokenizer(ordered + turned, padding=True, truncation=True, return_tensors="pt"))
alike = torch.cosine_similarity(both[:, : len(ordered)], both[:, len(ordered) :], dim=-1).mean(dim=1)
strangers = torch.cosine_similarity(both[:, : len(ordered)], both[:, : len(ordered)].roll(1, 1), dim=-1).mean(dim=1)
rows = {f"“{ordered[0]}” and so on, reversed": alike, "for scale: another name": strangers}
display(pd.DataFrame({name: values.numpy().round(3) for name, values in rows.items()}).rename_axis("layer").T)
lost = (1 - alike) / (1 - strangers)  # 0: reversal changes nothing; 1: as much as another text
say(
    f"Reversing the order moves a name by **{lost[0]:.0%}** of the distance to another name at layer 0, and by "
    f"**{lost[LAST]:.0%}** at layer {LAST} (most at layer {int(lost.argmax())}: {lost.max():.0%}). So what languages "
    "share at layer 0, they share piece by piece: loan words, digits, and pieces whose input vectors happen to lie "
    "close together."
)

# %% [markdown]
# ## All items, all languages, all layers
#
# This is the long step of the notebook. One cloud of points per language and layer.

# %%
vectors = sentence_vectors(model, tokenizer, task, SPLIT)
n = len(items)
say(f"{len(vectors)} languages, each {vectors[SOURCE].shape}: layers, items, width.")


def at(layer):
    """The clouds of one layer: language -> (items, width)."""
    return {code: stack[layer] for code, stack in vectors.items()}


labels = [task.labels[label] for label in items["label"]]
LAYERS = sorted({round(LAST * i / 4) for i in range(5)})

# %% [markdown]
# ## Two ways to draw 384 dimensions
#
# - **PCA** turns the cloud so that its two widest directions lie in the plane. It is a shadow: distances can only
#   shrink. What differs along other directions is invisible.
# - **UMAP** (McInnes et al., 2018) places points so that *neighbours stay neighbours*. Distances between clusters,
#   their sizes and their shapes **mean nothing**, and another seed gives another picture.
#
# We draw 50 random items in all languages, at five layers. (To draw others, change the 1 in `default_rng(1)`.) Move
# the slider. Hover over points: every point is a name, and the emoji says what it names. Click on a language in the
# legend to hide it, double-click to see it alone.

# %%
chosen = np.sort(np.random.default_rng(1).permutation(n)[:50])


def drawn(layer):
    return {code: cloud[chosen] for code, cloud in at(layer).items()}


maps = {
    name: {layer: map_points(project(drawn(layer), method), task, SPLIT, rows=chosen) for layer in LAYERS}
    for name, method in (("UMAP", "umap"), ("PCA", "pca"))
}
mixing = {layer: np.mean(list(knn_mixing(drawn(layer)).values())) for layer in LAYERS}
least, most = min(mixing, key=mixing.get), max(mixing, key=mixing.get)
show(
    layer_map(maps, layer=least),
    f"{len(chosen)} items in {len(vectors)} languages; the slider goes from layer 0 to {LAST}. Counted in all "
    f"dimensions, languages keep to themselves most at layer {least}: there a point has {mixing[least]:.0%} of the "
    f"foreign-language neighbours that it would have if language played no part. They mix most at layer {most}: "
    f"{mixing[most]:.0%}.",
)

# %% [markdown]
# The numbers in that sentence do not come from the picture: they were counted in the full space. Two checks tell why.
#
# *Trustworthiness* (Venna and Kaski, 2001): are neighbours on the map neighbours in the space? It is 1 if all are, and
# about 0.5 if the map is random.
#
# And *how far apart* are the languages? The **gap ratio** (measure 1, below) sets the distance between two languages
# against their width. Here it is in the full space, and as someone would compute it who takes the map for the
# territory.

# %%
from sklearn.manifold import trustworthiness


def trust(layer, table):
    space = np.concatenate(list(drawn(layer).values()))
    return trustworthiness(space, table[["x", "y"]], n_neighbors=10, metric="cosine")


def mean_gap(clouds):
    return np.mean([gap_ratio(clouds[SOURCE], clouds[code]) for code in TARGETS])


def flat(table):
    return {code: rows[["x", "y"]].to_numpy() for code, rows in table.groupby("language")}


rows = {("gap ratio", "full space"): [mean_gap(drawn(layer)) for layer in LAYERS]}
for name, tables in maps.items():
    rows["gap ratio", name] = [mean_gap(flat(table)) for table in tables.values()]
    rows["trustworthiness", name] = [trust(layer, table) for layer, table in tables.items()]
checks = pd.DataFrame(rows, index=[f"layer {layer}" for layer in LAYERS]).T.sort_index()
off = (checks.loc["gap ratio"].drop("full space") / checks.loc["gap ratio", "full space"]).stack()
display(checks.round(2))
say(f"A gap ratio read off a map is off by a factor of **{off.min():.1f} to {off.max():.1f}**. Get ideas; then count.")

# %% [markdown]
# One more picture before we count. The last layer again; now the colour is the *label*, and each item's face stands
# in the middle of its translations.

# %%
faces = maps["UMAP"][LAST]
fig = alignment_map(faces, colour="label").update_traces(marker={"size": 5, "opacity": 0.45})
if "emoji" in faces:
    for spot in faces.groupby(["id", "emoji"])[["x", "y"]].median().reset_index().itertuples():
        fig.add_annotation(x=spot.x, y=spot.y, text=spot.emoji, showarrow=False, font={"size": 17})
sample = silhouettes(drawn(LAST), [labels[row] for row in chosen])
tighter = "label" if sample["label"] > sample["language"] else "language"
show(
    fig,
    f"The {len(chosen)} items at layer {LAST}, coloured by label. In the full space, these points are grouped more by "
    f"{tighter}: the silhouette, explained below, is {sample['language']:.2f} by language and {sample['label']:.2f} "
    "by label.",
)

# %% [markdown]
# ## Measure 1: the gap ratio
#
# **Intuition.** How far apart are the centres of two clouds, in units of a cloud's own size?
#
# $$\text{gap}(s,t) = \frac{\lVert \mu_s-\mu_t \rVert}{\sqrt{\tfrac12 (V_s + V_t)}},
# \qquad V = \frac1n \sum_i \lVert x_i-\mu \rVert^2$$
#
# The gap ratio sees the *offset* of two centres and nothing else: two clouds can share a centre and still not match.
#
# First by hand, for two languages at one layer. On a line, a ratio below 1 would mean that the clouds overlap. In
# hundreds of dimensions it does not: *V* adds up the spread along all directions, and along the line from centre to
# centre a cloud may be thin. So the cell also takes its size along that line alone.

# %%
MIDDLE = LAYERS[2]
s, t = at(MIDDLE)[SOURCE].astype(float), at(MIDDLE)[OTHER].astype(float)
shift = np.linalg.norm(s.mean(axis=0) - t.mean(axis=0))
variance = [((cloud - cloud.mean(axis=0)) ** 2).sum(axis=1).mean() for cloud in (s, t)]
mine = shift / np.sqrt(np.mean(variance))
assert np.isclose(mine, gap_ratio(s, t))

line = (s.mean(axis=0) - t.mean(axis=0)) / shift
thin = np.sqrt(np.mean([(cloud @ line).var() for cloud in (s, t)]))
say(
    f"{language_name(SOURCE)} and {language_name(OTHER)} at layer {MIDDLE}: gap ratio **{mine:.2f}**. Along the line "
    f"between them, the centres are **{shift / thin:.1f}** standard deviations apart."
)

# %% [markdown]
# And for every language and layer: `align` computes any set of measures. The thick line is the mean.

# %%
report = align(vectors, labels, SOURCE, measures=("gap_ratio", "knn_mixing", "p1", "silhouette"))
gaps = [row["gap_ratio"]["mean"] for row in report]
ends = {code: report[LAST]["gap_ratio"][code] for code in TARGETS}
show(
    layer_curves(report, "gap_ratio"),
    f"The mean gap ratio is {gaps[0]:.2f} at layer 0, largest at layer {np.argmax(gaps)} ({max(gaps):.2f}), smallest "
    f"at layer {np.argmin(gaps)} ({min(gaps):.2f}), and {gaps[LAST]:.2f} at layer {LAST}. There, "
    f"{language_name(min(ends, key=ends.get))} is nearest to {language_name(SOURCE)} ({min(ends.values()):.2f}) and "
    f"{language_name(max(ends, key=ends.get))} farthest ({max(ends.values()):.2f}).",
)

# %% [markdown]
# ## Measure 2: kNN mixing
#
# **Intuition.** Ask a point for its ten nearest neighbours, by cosine, among all points of all languages. How many
# are foreign? Divide by what you would expect if language played no part. 0: languages keep to themselves. 1: fully
# mixed.
#
# $$\text{mixing} = \frac{\text{share of other languages among the } k \text{ nearest}}{(L-1)\,n \,/\, (L\,n-1)},
# \qquad k=10$$
#
# By hand, for two languages ($L=2$):

# %%
points = np.concatenate([s, t])
points /= np.linalg.norm(points, axis=1, keepdims=True)
similarity = points @ points.T
np.fill_diagonal(similarity, -np.inf)  # no point is its own neighbour
nearest = np.argsort(-similarity, axis=1)[:, :10]
language = np.repeat([0, 1], n)
foreign = (language[nearest] != language[:, None]).mean(axis=1)
mine = foreign.reshape(2, n).mean(axis=1) / (n / (2 * n - 1))
assert np.allclose(mine, list(knn_mixing({SOURCE: s, OTHER: t}).values()), atol=1e-3)
say(f"{language_name(SOURCE)}: **{mine[0]:.2f}**, {language_name(OTHER)}: **{mine[1]:.2f}**, at layer {MIDDLE}.")

# %%
mixed = [row["knn_mixing"]["mean"] for row in report]
ends = {code: report[LAST]["knn_mixing"][code] for code in task.languages}
show(
    layer_curves(report, "knn_mixing"),
    f"Among all {len(vectors)} languages, mixing is least at layer {np.argmin(mixed)} ({min(mixed):.2f}) and most at "
    f"layer {np.argmax(mixed)} ({max(mixed):.2f}); 1 would be full mixing. At layer {LAST}, "
    f"{language_name(min(ends, key=ends.get))} keeps most to itself ({min(ends.values()):.2f}) and "
    f"{language_name(max(ends, key=ends.get))} mixes most ({max(ends.values()):.2f}).",
)

# %% [markdown]
# ## Measure 3: P@1, raw and centred
#
# **Intuition.** Look a translation up: is the nearest point of the other language, by cosine, the same item? **P@1** is
# the share of hits. A blind guess hits one time in *n*.
#
# $$\text{P@1}(s \to t) = \frac1n \sum_i \mathbb 1\!\left[\arg\max_j \cos(x^s_i, x^t_j) = i\right]$$
#
# *Centred* P@1 first subtracts from every language its own mean, so it is blind to a mere shift between languages. The
# difference between the two says what the shift alone costs.

# %%
similarity = points[:n] @ points[n:].T  # rows: source language; the vectors have length 1
raw = (similarity.argmax(axis=1) == np.arange(n)).mean()
centred = [cloud - cloud.mean(axis=0) for cloud in (s, t)]
centred = [cloud / np.linalg.norm(cloud, axis=1, keepdims=True) for cloud in centred]
without_shift = ((centred[0] @ centred[1].T).argmax(axis=1) == np.arange(n)).mean()
assert np.isclose(raw, retrieval(s, t)["from_source"], atol=1e-9)
assert np.isclose(without_shift, retrieval(s, t, centred=True)["from_source"], atol=1e-9)
say(
    f"{language_name(SOURCE)} → {language_name(OTHER)} at layer {MIDDLE}: **{raw:.0%}** raw, "
    f"**{without_shift:.0%}** centred. Chance is {1 / n:.2%}."
)


# %%
def p1(layer, form):
    """Mean over targets and both directions."""
    return np.mean([way["mean"] for way in report[layer]["p1"][form].values()])


bought = [p1(layer, "centred") - p1(layer, "raw") for layer in range(LAST + 1)]
show(
    layer_curves(report, "p1"),
    f"Raw P@1, over both directions, goes from {p1(0, 'raw'):.0%} at layer 0 to {p1(LAST, 'raw'):.0%} at layer {LAST}. "
    f"Centring changes it by {100 * bought[0]:+.0f} points at layer 0, {100 * bought[MIDDLE]:+.0f} at layer {MIDDLE} "
    f"and {100 * bought[LAST]:+.0f} at layer {LAST}.",
)

# %% [markdown]
# ### Which part of the gap is a mere shift?
#
# Centring sets the gap ratio to 0, by construction. If the gap were nothing but a shift, the languages would now be
# mixed. Are they?


# %%
def centre(clouds):
    return {code: cloud - cloud.mean(axis=0) for code, cloud in clouds.items()}


def mean_mixing(clouds):
    return np.mean([value for code, value in knn_mixing(clouds).items() if code != SOURCE])


shifted = pd.DataFrame(
    {f"layer {layer}": [mixed[layer], mean_mixing(centre(at(layer)))] for layer in LAYERS},
    index=["kNN mixing as it is", "kNN mixing after centring"],
)
display(shifted.map("{:.2f}".format))
say(
    f"At layer {LAST}, removing the shift takes the mixing from {shifted.iloc[0, -1]:.2f} to "
    f"**{shifted.iloc[1, -1]:.2f}**; full mixing would be 1. "
    + (
        "Most of what separates the languages is *not* the shift: the clouds differ in shape too."
        if shifted.iloc[1, -1] - shifted.iloc[0, -1] < 1 - shifted.iloc[1, -1]
        else "So the shift is the greater part of what separates the languages."
    )
)

# %% [markdown]
# ### Which things are found, and which never?
#
# Here are items whose translation is found in all target languages, or nearly all, and items with which it is found in
# the fewest, from the source language at the last layer.

# %%
final = {code: cloud / np.linalg.norm(cloud, axis=1, keepdims=True) for code, cloud in at(LAST).items()}
found = np.array([(final[SOURCE] @ final[code].T).argmax(axis=1) == np.arange(n) for code in TARGETS]).sum(axis=0)
order = np.argsort(-found, kind="stable")
ends = [*order[:5], *order[-7:]]
german, other = (next((code for code in codes if code in TARGETS), OTHER) for codes in (("de", "fr"), ("ja", "zh")))
columns = {"": [face(row) for row in ends], f"found in, of {len(TARGETS)}": found[ends]}
columns |= {language_name(code): [text(code, row) for row in ends] for code in (SOURCE, german, other)}
display(pd.DataFrame(columns))
say(
    f"{(found == len(TARGETS)).sum()} of {n} items are found in all {len(TARGETS)} target languages, "
    f"{(found == 0).sum()} in none. Read the list: does the encoder fail, or do the names say different things?"
)

# %% [markdown]
# ## Measure 4: silhouettes, by language and by label
#
# **Intuition.** Are points nearer to their own group than to the next one? With *a* the mean distance to one's own
# group and *b* that to the nearest other group,
#
# $$\text{silhouette} = \frac{b-a}{\max(a,b)} \in [-1, 1]$$
#
# averaged over points, with cosine distance. The same points can be grouped in two ways: by **language**, which we wish
# to be low, and by **label**, which we wish to be high. Small numbers are normal: in hundreds of dimensions all
# distances are alike, so *a* and *b* hardly differ. Compare silhouettes with each other, not with 1. And nobody has
# told the encoder about our labels yet.

# %%
from sklearn.metrics import silhouette_samples

mine = silhouette_samples(np.concatenate([s, t]), np.repeat([0, 1], n), metric="cosine").mean()
assert np.isclose(mine, silhouettes({SOURCE: s, OTHER: t}, labels)["language"], atol=1e-3)
say(f"{language_name(SOURCE)} and {language_name(OTHER)} at layer {MIDDLE}, silhouette by language: **{mine:.3f}**.")

# %%
by_language = [row["silhouette"]["language"] for row in report]
by_label = [row["silhouette"]["label"] for row in report]
wins = [layer for layer in range(LAST + 1) if by_label[layer] > by_language[layer]]
show(
    layer_curves(report, "silhouette"),
    f"By language, the silhouette is highest at layer {np.argmax(by_language)} ({max(by_language):.2f}) and "
    f"{by_language[LAST]:.2f} at layer {LAST}; by label it lies between {min(by_label):.2f} and {max(by_label):.2f}. "
    + (
        f"Label beats language at layers {', '.join(map(str, wins))}."
        if wins
        else "At no layer does the label group these points better than the language does."
    ),
)

# %% [markdown]
# ## Measure 5: the language probe
#
# **Intuition.** Can a simple classifier read off which language a vector comes from? The *probe* is a logistic
# regression, tested on items that it has not seen in any language. Otherwise it could know an item and conclude from
# its translations. Chance is one over the number of languages. First two languages, then all of them with 200 items at
# five layers.

# %%
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

item = np.tile(np.arange(n), 2)
probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, tol=1e-3))
folds = GroupKFold(5, shuffle=True, random_state=0)
cloud = np.concatenate([s, t]).astype(np.float32)
mine = cross_val_score(probe, cloud, np.repeat([0, 1], n), groups=item, cv=folds).mean()
assert np.isclose(mine, language_probe({SOURCE: s, OTHER: t}, sample=None), atol=1e-3)
say(f"{language_name(SOURCE)} or {language_name(OTHER)}? At layer {MIDDLE} the probe is right in **{mine:.1%}**.")

# %%
probed = align(vectors, labels, SOURCE, LAYERS, ("language_probe",))
accuracy = [row["language_probe"] for row in probed]
blind = language_probe(centre(at(LAST)))
show(
    layer_curves(probed, "language_probe"),
    f"The probe names the language, one of {len(vectors)}, in {min(accuracy):.0%} to {max(accuracy):.0%} of cases, "
    f"depending on the layer; chance is {1 / len(vectors):.0%}. At layer {LAST} it is right in {accuracy[-1]:.0%}, "
    f"where P@1 is {p1(LAST, 'raw'):.0%}; after centring, in {blind:.0%}.",
)

# %% [markdown]
# Compare this curve with that of P@1. An encoder may bring translations together and still say, in other directions of
# its space, which language it is reading. *The language can be read off* and *translations do not match* are two
# different things, and no single measure sees both.
#
# And after centring: is the language gone? Careful, a **trap**. A linear probe starts at zero weights, and there its
# gradient is made of the class means alone. Centring makes all of these equal, so the probe has nowhere to go,
# whatever the clouds look like. It *must* fail, by construction, just as the gap ratio must be 0. kNN mixing is not
# bound to centres: above, it said how much is left.
#
# ## All measures on one page

# %%
page = pd.DataFrame(
    {
        "gap ratio": gaps,
        "kNN mixing": mixed,
        "P@1 raw": [p1(layer, "raw") for layer in range(LAST + 1)],
        "P@1 centred": [p1(layer, "centred") for layer in range(LAST + 1)],
        "silhouette, language": by_language,
        "silhouette, label": by_label,
    }
).rename_axis("layer")
page["language probe"] = pd.Series(accuracy, LAYERS)
display(page.map(lambda value: "" if np.isnan(value) else f"{value:.2f}"))
signs = {"gap ratio": 1, "kNN mixing": -1, "P@1 raw": -1, "silhouette, language": 1}
best = {name: int((sign * page[name]).idxmin()) for name, sign in signs.items()}
say(
    "Which layer is aligned best? "
    + ", ".join(f"layer {layer} by {name}" for name, layer in best.items())
    + (". The measures agree." if len(set(best.values())) == 1 else ". **It depends on the measure.**")
    + " Always say which measure, which layer and how many items."
)

# %% [markdown]
# ## Who is far from English?
#
# Per language, at the last layer, beside three facts about the *texts*: how many pieces a name takes, how many of
# those pieces also occur in English names, and how many names are spelled exactly as in English.

# %%
pieces = {code: [cut(code, row) for row in range(n)] for code in task.languages}
known = {piece for parts in pieces[SOURCE] for piece in parts} - {"▁"}
source_texts = task.texts(SPLIT, SOURCE)
facts = pd.DataFrame(
    {
        code: {
            "gap ratio": report[LAST]["gap_ratio"][code],
            "kNN mixing": report[LAST]["knn_mixing"][code],
            "P@1": np.mean([way[code] for way in report[LAST]["p1"]["raw"].values()]),
            "P@1 centred": np.mean([way[code] for way in report[LAST]["p1"]["centred"].values()]),
            "pieces per text": np.mean([len(parts) for parts in pieces[code]]),
            "pieces shared": np.mean([piece in known for parts in pieces[code] for piece in parts]),
            "same spelling": np.mean(np.array(task.texts(SPLIT, code)) == source_texts),
        }
        for code in TARGETS
    }
).T.sort_values("P@1", ascending=False)
display(facts.rename(index=language_name).round(2))


def script(code):
    """Latin, or not: the share of letters below U+0250."""
    letters = [letter for name in task.texts(SPLIT, code) for letter in name if letter.isalpha()]
    return "Latin script" if np.mean([ord(letter) < 0x250 for letter in letters]) > 0.5 else "another script"


groups = facts.groupby([script(code) for code in facts.index])[["gap ratio", "kNN mixing", "P@1", "P@1 centred"]]
display(groups.mean().assign(languages=groups.size()).round(2))
columns = ["gap ratio", "kNN mixing", "P@1"]
ranks = facts.corr(method="spearman").loc[["pieces per text", "pieces shared", "same spelling"], columns]
display(ranks.round(2))
say(
    f"Rank correlations over {len(facts)} languages. Read them with care: with so few points, chance alone gives "
    f"correlations up to about {min(1.0, 1.96 / np.sqrt(len(facts) - 1)):.2f} in size, nineteen times in twenty. "
    "Related languages are not independent points, and script, spelling and the amount of training data go together."
)

# %% [markdown]
# ## What does the gap mean for transfer? A preview
#
# The task is to tell the label from the text. Take the crudest classifier that there is: the *mean vector of every
# label*, computed from training texts in the source language alone. A text gets the label whose mean is nearest.
# Nothing is trained. Does it work in the other languages?

# %%
if "train" in task.splits:
    seen = sentence_vectors(model, tokenizer, task, "train", [SOURCE], LAYERS)[SOURCE]
    answers = np.array(task["train"][SOURCE]["label"])
    truth = np.array(items["label"])
    crude = {}
    for row, layer in enumerate(LAYERS):
        means = np.array([seen[row][answers == label].mean(axis=0) for label in range(len(task.labels))])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        right = {code: ((cloud @ means.T).argmax(axis=1) == truth).mean() for code, cloud in at(layer).items()}
        crude[f"layer {layer}"] = {
            language_name(SOURCE): right[SOURCE],
            f"mean of {len(TARGETS)} targets": np.mean([right[code] for code in TARGETS]),
        }
    display(pd.DataFrame(crude).map("{:.0%}".format))
    at_end = pd.Series({code: right[code] for code in facts.index})
    guess = np.bincount(truth).max() / n
    here, there = crude[f"layer {LAST}"].values()
    tied = {name: spearmanr(facts[name], at_end)[0] for name in ("gap ratio", "P@1", "P@1 centred")}
    say(
        f"At layer {LAST}: **{here:.1%}** in {language_name(SOURCE)}, **{there:.1%}** on average elsewhere; always "
        f"naming the most frequent label gives {guess:.0%}. "
        + (
            f"So transfer works before anything is trained, and it costs {100 * (here - there):.1f} points. "
            if there > guess + 0.05
            else "So hardly anything carries over before training. "
        )
        + f"Over the {len(facts)} target languages, the rank correlation of this accuracy is "
        + ", ".join(f"{value:+.2f} with {name}" for name, value in tied.items())
        + ". Notebook 02 trains the encoder and asks again."
    )

# %% [markdown]
# ## Take-aways
#
# - A sentence vector is the mean over real pieces, at one layer. Layer 0 is nearly a bag of pieces.
# - PCA is a shadow, UMAP keeps neighbours and nothing else. Look for ideas, then count in the full space.
# - The gap ratio sees an offset, kNN mixing sees neighbourhoods, P@1 sees matches, the silhouette compares groupings,
#   the probe sees what can be read off. They need not agree, and together they tell more than any one of them.
# - Centring removes a shift for free. What is left after it is the harder part of the gap.
# - No target-language label was used here. But means and maps were computed from target *texts*: that describes an
#   encoder, and would not be allowed inside a zero-shot method.
#
# ## Exercises
#
# **1. Predict.** We add one and the same random vector to all points of one language. Which measures will change? Write
# `True` (changes) or `False` (stays) for each, then run the cell.

# %%
prediction = {
    "gap ratio": ...,
    "kNN mixing": ...,
    "P@1 raw": ...,
    "P@1 centred": ...,
}

push = np.random.default_rng(0).normal(size=s.shape[1])
moved = t + 0.5 * np.linalg.norm(s - s.mean(axis=0), axis=1).mean() * push / np.linalg.norm(push)


def four(a, b):
    pair = {SOURCE: a, OTHER: b}
    p1s = [retrieval(a, b, centred=centred)["from_source"] for centred in (False, True)]
    return dict(zip(prediction, [gap_ratio(a, b), np.mean(list(knn_mixing(pair).values())), *p1s], strict=True))


if ... in prediction.values():
    print("Exercise 1 is unfinished: put True or False in place of the dots.")
else:
    before, now = four(s, t), four(s, moved)
    for name, expected in prediction.items():
        changed = not np.isclose(before[name], now[name], atol=1e-6)
        verdict = "as you said" if changed == expected else "not as you said"
        print(f"{name:12} {before[name]:.3f} -> {now[name]:.3f}   {verdict}")

# %% [markdown]
# **2. Write the gap ratio** for two clouds of shape `(items, width)`, from the formula, without looking up.


# %%
def my_gap_ratio(source, target):
    """Distance of the centres over the root of the mean total variance."""
    ...


check("gap_ratio", my_gap_ratio)

# %% [markdown]
# **3. Write kNN mixing** for any number of languages. Above, the code knew that there were two. `clouds` maps each
# language to an array `(items, width)`, all of one shape; the answer maps each language to its mixing.


# %%
def my_knn_mixing(clouds, k):
    """For each language, the share of other languages among the k nearest, over that of full mixing."""
    ...


check("knn_mixing", my_knn_mixing)

# %% [markdown]
# **4. Leave out the special tokens** `<s>` and `</s>` when you take the mean. They are the same in every language, and
# weigh more in a short text than in a long one. Return the mask with 0 at the first and at the last *real* token of
# every row. *Predict before you run*: will the gap ratio at layer 0 grow or shrink? When your function is right, the
# cell tells.


# %%
def without_specials(mask):
    """The attention mask, (texts, positions), padded on the right, without the first and the last real token."""
    ...


verdict = check("without_specials", without_specials)
if verdict:
    clouds = {"with": [], "without": []}
    for code in (SOURCE, OTHER):
        batch = tokenizer(task.texts(SPLIT, code)[:200], padding=True, truncation=True, return_tensors="pt")
        masks = {"with": batch["attention_mask"], "without": without_specials(batch["attention_mask"])}
        with torch.inference_mode():
            for kind, mask in masks.items():
                clouds[kind].append(pooled_layers(model, {**batch, "attention_mask": mask}, [0])[0].numpy())
    print({f"gap ratio at layer 0, {kind} special tokens": round(gap_ratio(*two), 3) for kind, two in clouds.items()})
verdict

# %% [markdown]
# **5. Four questions.** Put a letter in place of the dots.

# %%
display(
    quiz("own_turn", ...),
    quiz("far_clusters", ...),
    quiz("blind_probe", ...),
    quiz("high_cosine", ...),
)

# %% [markdown]
# ## Further reading
#
# - T. Pires, E. Schlinger and D. Garrette, [How Multilingual is Multilingual
#   BERT?](https://aclanthology.org/P19-1493), ACL 2019. Retrieval by layer, and subtracting the mean of a language.
# - J. Libovický, R. Rosa and A. Fraser, [On the Language Neutrality of Pre-trained Multilingual
#   Representations](https://aclanthology.org/2020.findings-emnlp.150), Findings of EMNLP 2020. Centring, and probes.
# - A. Conneau et al., [Unsupervised Cross-lingual Representation Learning at
#   Scale](https://aclanthology.org/2020.acl-main.747), ACL 2020. XLM-R, whose vocabulary this encoder has.
# - L. Wang et al., [Multilingual E5 Text Embeddings: A Technical Report](https://arxiv.org/abs/2402.05672), 2024.
# - L. McInnes, J. Healy and J. Melville, [UMAP: Uniform Manifold Approximation and Projection for Dimension
#   Reduction](https://arxiv.org/abs/1802.03426), 2018.
# - P. J. Rousseeuw, [Silhouettes](https://doi.org/10.1016/0377-0427(87)90125-7), Journal of Computational and Applied
#   Mathematics, 1987.
#
# Next: [02 Zero-shot baseline](02_zero_shot_baseline.ipynb).
