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
# # Pull attention maps together
#
# The attention pull: the A of EAR, its gradient, what it cannot see, and four ways in which the published form fails.
#
# **What you will learn**
# - what a map of attention is, on three points and on a real sentence;
# - the pull as a formula, as code and as arrows, and why a turned sentence costs it nothing;
# - how padding and dropout get into an average, how much of it they are, and which forms keep them out;
# - which weights a loss on a map in the middle of an encoder can train at all.
#
# **What you need**: PyTorch basics (a tensor, `backward`), and what a softmax does. Notebook
# [03](03_virtual_multilingual_embeddings.ipynb) explains the virtual stream, notebook [04](04_embedding_push.ipynb) the
# push; a sentence on each is repeated here.
#
# **Time and memory**: under 1 minute on two cores, about 1.6 GB.
#
# **Where it runs**: on a laptop, without a GPU and without a model hub; on Binder and Colab too.

# %%
import copy
import os
import re
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from IPython.display import Markdown, display
from plotly.subplots import make_subplots

from xlt_tutorial import EAR, Classifier, NeighbourSwap, SynonymSwap, attention_pull, load_encoder, load_task
from xlt_tutorial.batching import collate, encode_rows, row_generator
from xlt_tutorial.exercises import check
from xlt_tutorial.figures import show
from xlt_tutorial.losses import PULL_FORMS
from xlt_tutorial.quiz import quiz
from xlt_tutorial.styles import PALETTE, safe_text
from xlt_tutorial.taps import taps
from xlt_tutorial.training import gradient_norms, gradient_shares

TASK = os.environ.get("XLT_TASK", "emoji")
ENCODER = os.environ.get("XLT_ENCODER", "e5-small")
LOOK = {"template": "plotly_white", "margin": {"l": 20, "r": 20, "t": 30, "b": 30}}


def say(text):
    """Show a sentence whose numbers come from the code around it."""
    display(Markdown(text))


# %% [markdown]
# ## The term
#
# EAR puts a virtual sentence $x'$, some words swapped for near neighbours, beside each English $x$. The push (04)
# drives their embeddings apart. The pull holds something together while that happens: *who looks at whom*. In every
# block of the encoder, each token asks all tokens (a query), and each of them answers with its key; the softmax turns
# the answers into shares. That is the block's **attention map** $A$, one for each head:
#
# $$A = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt{d_h}}\right), \qquad
# \mathcal{L}_\text{pull} = \frac{1}{H N^2} \sum_{h=1}^{H} \sum_{q=1}^{N} \sum_{k=1}^{N}
# \left(A_{hqk}(x) - A_{hqk}(x')\right)^2, \qquad \text{mean over the batch,}$$
#
# with $H$ heads and $N$ positions. Row $q$ says how query $q$ shares itself out among the keys. If a sentence in other
# words is read in the same way, then what follows can stay the same.
#
# | equation | function | test |
# |---|---|---|
# | $A$ of chosen layers, before and after dropout | `taps.taps(attention=[5])` | `tests/test_taps.py` |
# | $\mathcal{L}_\text{pull}$, and its forms `masked` and `row_kl` | `losses.attention_pull` | `tests/test_losses.py` |
# | the term with its weight $\beta$ and its layer | `objectives.EAR` | `tests/test_objectives.py` |
# | each term's share of the gradient | `training.gradient_shares` | `tests/test_training.py` |

# %% [markdown]
# ## Three points that look at each other
#
# Let a sentence be three points in the plane, and let query and key of a token be the point itself. Points look at what
# lies in their own direction. In $x'$, one point has moved: it was swapped for another word.

# %%
original = torch.tensor([[1.4, 0.2], [0.5, 1.3], [-1.0, 0.6]], requires_grad=True)
virtual = torch.tensor([[1.4, 0.2], [0.5, 1.3], [0.2, -1.4]], requires_grad=True)


def toy_map(points):
    return (points @ points.T / points.shape[-1] ** 0.5).softmax(dim=-1)  # (query, key); rows sum to one


A, B = toy_map(original), toy_map(virtual)
by_hand = (A - B).square().mean()
everywhere = torch.ones(1, 3)
package = attention_pull(A[None, None], B[None, None], everywhere, everywhere)  # a batch of one, with one head
assert torch.isclose(by_hand, package)
print(f"by hand {by_hand.item():.4f}, package {package.item():.4f}")
names = ["token 1", "token 2", "token 3"]
tables = [pd.DataFrame(one.detach().numpy().round(2), index=names, columns=names) for one in (A, B)]
pd.concat(dict(zip(["x", "x', token 3 swapped"], tables, strict=True)), axis=1)

# %% [markdown]
# ## The gradient
#
# Three links of the chain rule, from the loss to the map, through the softmax to the scores $S' = X'X'^\top/\sqrt{d}$,
# and from the scores to the points:
#
# $$G = \frac{\partial \mathcal{L}}{\partial A'} = -\frac{2}{N^2}(A - A'), \qquad
# \frac{\partial \mathcal{L}}{\partial S'_{qk}} = A'_{qk}\Big(G_{qk} - \sum_j A'_{qj} G_{qj}\Big), \qquad
# \frac{\partial \mathcal{L}}{\partial X'} = \frac{1}{\sqrt d}
# \left(\frac{\partial \mathcal{L}}{\partial S'} + \frac{\partial \mathcal{L}}{\partial S'}^{\!\top}\right) X'.$$
#
# The gradient on the original is the same with $A$ and $A'$ exchanged: both sentences move.

# %%
found = torch.autograd.grad(package, [original, virtual])


def toy_gradient(own, other):
    """The gradient on the points of ``own``, by the formula."""
    mine, theirs = toy_map(own), toy_map(other)
    G = 2 * (mine - theirs) / mine.numel()
    scores = mine * (G - (mine * G).sum(dim=-1, keepdim=True))
    return (scores + scores.T) @ own / own.shape[-1] ** 0.5


formula = [toy_gradient(original, virtual), toy_gradient(virtual, original)]
assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(found, formula, strict=True))
columns = {"autograd": found[1].tolist(), "formula": formula[1].tolist()}
pd.DataFrame(columns, index=[f"{name} of x'" for name in names]).map(lambda pair: "({:+.3f}, {:+.3f})".format(*pair))

# %%
SCALE = 60  # the arrows are drawn longer than the steps are
figure = go.Figure(layout=LOOK | {"height": 460, "width": 720})
moves = []
for name, points, gradient, colour, symbol in (
    ("x", original, found[0], PALETTE[1], "circle"),
    ("x'", virtual, found[1], PALETTE[6], "diamond-open"),
):
    xy, move = points.detach().numpy(), -SCALE * gradient.numpy()
    moves.append(np.linalg.norm(gradient.numpy(), axis=1))
    text = [f"{name}: {i}" for i in (1, 2, 3)]
    figure.add_scatter(x=xy[:, 0], y=xy[:, 1], mode="markers+text", name=name, text=text)
    figure.data[-1].update(marker={"size": 13, "color": colour, "symbol": symbol, "line": {"width": 2}})
    figure.data[-1].textposition = "top left" if name == "x" else "bottom right"
    for (x, y), (dx, dy) in zip(xy, move, strict=True):
        place = {"x": x + dx, "y": y + dy, "ax": x, "ay": y, "xref": "x", "yref": "y", "axref": "x", "ayref": "y"}
        figure.add_annotation(place | {"arrowhead": 2, "arrowwidth": 2.5, "arrowcolor": colour, "text": ""})
figure.update_yaxes(scaleanchor="x", scaleratio=1)
most = int(moves[1].argmax())
show(
    figure,
    f"Minus the gradient of the pull, {SCALE} times as long. In x' the point with the largest gradient is token "
    f"{most + 1} ({moves[1][most]:.3f}); tokens 1 and 2, which are the same in both sentences, have gradients too "
    f"({moves[1][0]:.3f} and {moves[1][1]:.3f}), as their looks at token 3 changed.",
)

# %% [markdown]
# ## What the pull cannot see
#
# The scores are products of points with points, and products do not change when all points are *turned together*. So a
# turned sentence has the same map, and the pull is content, however far the push has moved the points. This is the room
# that the two terms leave each other: go somewhere else, and keep your shape.

# %%
rows = {}
for degrees in (0, 45, 90, 180):
    angle = torch.deg2rad(torch.tensor(float(degrees)))
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    turned = original.detach() @ turn.T
    rows[f"turned by {degrees} degrees"] = [
        (original.mean(0) - turned.mean(0)).square().mean().item(),
        (A - toy_map(turned)).square().mean().item(),
    ]
rows["token 3 swapped"] = [(original.mean(0) - virtual.mean(0)).square().mean().item(), by_hand.item()]
pd.DataFrame(rows, index=["squared distance (the push)", "pull"]).T.map("{:.4f}".format)

# %% [markdown]
# ## A real batch
#
# The same batch as in notebook 04: 32 English training texts and their virtual copies, each eligible word swapped with
# a probability of 30 %. We also keep the pieces of a few synonyms that come into play later.

# %%
task = load_task(TASK)
SOURCE, SPLIT = task.source, task.evaluation_split
splits = [split for split in ("train", "dev") if split != SPLIT and SOURCE in task.splits.get(split, {})]
SYNONYMS = """face countenance, person individual, button pushbutton, sign signboard, woman gentlewoman, man gentleman,
cat kitten, dog puppy, car automobile, boat vessel, red crimson, blue azure, house dwelling, clock timepiece,
flower blossom, medal decoration, heart sweetheart, people folk, small diminutive, large enormous, good splendid"""
synonyms = SynonymSwap({word: [other] for word, other in (pair.split() for pair in SYNONYMS.split(","))}, rate=1.0)

full = load_encoder(ENCODER)
swap = NeighbourSwap.fit(full, [text for split in splits for text in task.texts(split, SOURCE)])
pieces = {piece for (word,) in synonyms.table.values() for piece in full.tokenizer.tokenize(word)}
del full
encoder = load_encoder(ENCODER, trim_to=task, keep=swap.pieces | pieces)
tokenizer, PAD = encoder.tokenizer, int(encoder.tokenizer.pad_token_id or 0)
LAYER = min(5, encoder.model.config.num_hidden_layers - 1)  # 0-based: the sixth block, as published

train_rows = task["train"][SOURCE]
drawn = np.sort(np.random.default_rng(0).choice(len(train_rows), min(32, len(train_rows)), replace=False))
rows = encode_rows(tokenizer, train_rows.select(drawn), task.text_columns, 32)
copies = [swap.virtual(row, tokenizer, row_generator(0, 0, 0, row.id)) for row in rows]
batch = collate([*rows, *copies], PAD, [row.label for row in rows])
swapped = [i for i, copy_ in enumerate(copies) if copy_.swaps] or [0]
say(
    f"{len(swapped)} of {len(rows)} texts have a swap. The stacked batch is {tuple(batch['input_ids'].shape)}, "
    f"{batch['attention_mask'].float().mean():.0%} of its positions are real."
)

# %% [markdown]
# ## The pull, read by taps
#
# In a modern encoder a map is never written down: SDPA, torch's fused attention, computes its effect without it. `taps`
# lets one layer compute its map step by step while the others stay fast, and keeps it before and after dropout. Dropout
# is off for now, so the two are the same.


# %%
def maps(*streams, width=None, layers=(LAYER,)):
    """Maps by layer, and masks, of streams that are stacked into one forward."""
    stack = collate([row for stream in streams for row in stream], PAD, width=width)
    with torch.no_grad(), taps(encoder.model, attention=layers) as captured:
        encoder.model(**stack)
    return captured.attention, stack["attention_mask"].chunk(len(streams))


attention, (mask, virtual_mask) = maps(rows, copies)
first, second = attention[LAYER].before_dropout.chunk(2)  # (batch, heads, query, key) each
assert torch.allclose(first.sum(dim=-1), torch.ones(()), atol=1e-5)

by_hand = (first - second).square().mean()
package = attention_pull(first, second, mask, virtual_mask)
torch.manual_seed(0)
model = Classifier(copy.deepcopy(encoder.model), len(task.labels)).eval()
with torch.no_grad():
    term = EAR(push=False, layer=LAYER)(model, batch)["pull"]
assert torch.isclose(by_hand, package) and torch.isclose(term, package, rtol=1e-4)
print(f"{tuple(first.shape)}: by hand {by_hand.item():.6f}, package {package.item():.6f}, in EAR {term.item():.6f}")

# %% [markdown]
# ## Look at one
#
# One text, its virtual copy, and one head: the one whose two maps differ most. Read a row: the token on the left shares
# its attention among the tokens below. Of the texts with a swap we take the longest whose map can still be read.

# %%
size = {i: len(rows[i].input_ids) for i in swapped}
legible = [i for i in swapped if size[i] <= 16] or [min(swapped, key=size.get)]
ROW = max(legible, key=size.get)
n = size[ROW]
HEAD = int((first - second)[ROW, :, :n, :n].square().mean((1, 2)).argmax())
one, other = (stream[ROW, HEAD, :n, :n].numpy() for stream in (first, second))
words = [tokenizer.convert_ids_to_tokens(list(stream[ROW].input_ids)) for stream in (rows, copies)]
labels = [[f"{i} {safe_text(piece)}" for i, piece in enumerate(pieces_)] for pieces_ in words]
figure = make_subplots(rows=1, cols=3, horizontal_spacing=0.09, subplot_titles=["x", "x'", "x' minus x"])
for column, (values, texts) in enumerate(zip((one, other, other - one), (*labels, labels[1]), strict=True), 1):
    axis = "coloraxis" if column < 3 else "coloraxis2"
    figure.add_heatmap(z=values.round(3), x=texts, y=texts, coloraxis=axis, texttemplate="%{z:.2f}", row=1, col=column)
figure.update_yaxes(autorange="reversed").update_xaxes(tickangle=45)
figure.update_yaxes(showticklabels=False, col=3)  # those of x'
bar = {"thickness": 10, "len": 0.8}
figure.update_layout(
    LOOK, height=380, coloraxis={"colorscale": "Blues", "showscale": False, "cmin": 0},
    coloraxis2={"colorscale": "RdBu", "cmid": 0, "colorbar": bar}, font={"size": 11},
)  # fmt: skip
q, k = np.unravel_index(np.abs(other - one).argmax(), one.shape)
show(
    figure,
    f"Layer {LAYER}, head {HEAD}: “{' / '.join(rows[ROW].texts)}” and its virtual copy "
    f"({', '.join(f'{old} → {new}' for old, new in copies[ROW].swaps)}). The cell that changes most is query "
    f"{q} {words[1][q]}, key {k} {words[1][k]}: from {one[q, k]:.2f} to {other[q, k]:.2f}.",
)

# %% [markdown]
# You may have seen one bright column. Many heads send most of their attention to a special token when they have nothing
# else to do. Such a head looks the same whatever the sentence says, so there is little to pull at.


# %%
def on_specials(maps_, stream, masks):
    """Attention that real queries pay to special tokens, ``(batch, heads)``."""
    special = torch.zeros_like(masks)
    for i, row in enumerate(stream):
        special[i, : len(row.input_ids)] = torch.tensor([piece in tokenizer.all_special_ids for piece in row.input_ids])
    paid = (maps_ * special[:, None, None, :] * masks[:, None, :, None]).sum((2, 3))
    return paid / masks.sum(1)[:, None]


sink = on_specials(first, rows, mask)[swapped].mean(0)
by_head = (first - second).square().sum((2, 3))[swapped].mean(0)
tie = np.corrcoef(sink, by_head)[0, 1]
say(
    f"At layer {LAYER}, real tokens pay {sink.mean():.0%} of their attention to special tokens (from {sink.min():.0%} "
    f"to {sink.max():.0%} by head). Over the {len(sink)} heads, that share and the head's part in the pull are "
    f"correlated with r = {tie:+.2f}."
)

# %% [markdown]
# ## Failure 1: positions are compared, words are not
#
# The pull compares cell $(q, k)$ with cell $(q, k)$. That makes sense as long as the same place holds the same word, or
# the one that was put in for it. `NeighbourSwap` sees to it: one piece takes the place of one piece. The published
# method swaps whole words for synonyms and cuts the text into pieces anew. Here is a little table of synonyms:
#
# *face → countenance, person → individual, cat → kitten, red → crimson, ...*

# %%
everything = encode_rows(tokenizer, train_rows.select(range(min(2000, len(train_rows)))), task.text_columns, 32)
redone = [(row, synonyms.virtual(row, tokenizer, row_generator(0, 0, 0, row.id))) for row in everything]
redone = [(row, copy_) for row, copy_ in redone if copy_.swaps]
kept = [len(row.input_ids) == len(copy_.input_ids) for row, copy_ in redone]
say(
    f"The table changes {len(redone)} of {len(everything)} training texts, and in "
    f"**{1 - np.mean(kept) if kept else 0:.0%}** of those the number of pieces changes."
)
pd.DataFrame([[tokenizer.tokenize(w), tokenizer.tokenize(o)] for w, (o,) in list(synonyms.table.items())[:6]],
             columns=["word", "synonym"])  # fmt: skip

# %% [markdown]
# After a word that got longer, every token has moved. The pull then asks each of them to look where its *neighbour*
# used to look. How much does that add? Same encoder, same texts; dropout is off.

# %%
found = {}
for name, chosen in (("same number of pieces", True), ("another number", False)):
    pairs = [pair for pair, same_length in zip(redone, kept, strict=True) if same_length == chosen][:48]
    if len(pairs) >= 2:
        read, masks = maps(*zip(*pairs, strict=True))
        found[name] = [attention_pull(*read[LAYER].before_dropout.chunk(2), *masks, form).item() for form in PULL_FORMS]
        found[name].insert(0, len(pairs))
display(pd.DataFrame(found, index=["texts", *PULL_FORMS]).T.round(5))
if len(found) == 2:
    same_length, longer = (values[1 + PULL_FORMS.index("masked")] for values in found.values())
    say(f"Where the number of pieces changes, the masked pull is **{longer / same_length:.1f} times** as large.")

# %% [markdown]
# No form of the loss mends this; the maker of the stream does. That is why this course swaps piece for piece, and why a
# synonym table needs care.
#
# ## Failure 2: padding
#
# The published mean runs over all cells of the padded map. Its code pads every batch to 128 tokens. How many cells are
# real?

# %%
long, again = [rows[i] for i in swapped], [copies[i] for i in swapped]
own = max(len(row.input_ids) for row in long)
WIDTHS = sorted({own, 16, 32, 64, 128} - set(range(own)))
real = {width: float(np.mean([(len(row.input_ids) / width) ** 2 for row in long])) for width in WIDTHS}
say("Real cells of the map: " + ", ".join(f"**{share:.2%}** at width {width}" for width, share in real.items()) + ".")

# %% [markdown]
# Two forms of the package average over what is real in both sentences. Let $R$ be those positions:
#
# $$\text{masked:}\quad \frac{1}{H|R|^2}\sum_{h}\sum_{q,k \in R}\left(A_{hqk} - A'_{hqk}\right)^2, \qquad\qquad
# \text{row\_kl:}\quad \frac{1}{H|R|}\sum_{h}\sum_{q \in R}\sum_{k\in R} A_{hqk}\log\frac{A_{hqk}}{A'_{hqk}},$$
#
# the second with rows made to sum to one over $R$. It compares rows as what they are, distributions.

# %%
both = mask * virtual_mask
cells = both[:, None, :, None] * both[:, None, None, :]  # (batch, 1, query, key)
heads = first.shape[1]
masked = ((first - second).square() * cells).sum((1, 2, 3)) / (heads * cells.sum((1, 2, 3)))

p, q = ((stream * cells) / (stream * cells).sum(-1, keepdim=True).clamp(min=1e-30) for stream in (first, second))
ratio = torch.where(cells.bool(), p.clamp(min=1e-30).log() - q.clamp(min=1e-30).log(), 0.0)
row_kl = (p * ratio).sum((1, 2, 3)) / (heads * both.sum(1))

for form, mine in (("masked", masked), ("row_kl", row_kl)):
    theirs = attention_pull(first, second, mask, virtual_mask, form, reduction="none")
    assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-7)
    print(f"{form}: by hand {mine.mean().item():.6f}, package {theirs.mean().item():.6f}")

# %% [markdown]
# Now pad the same texts wider and wider. *Predict before you run*: what does each form do?

# %%
values, inside = {form: [] for form in PULL_FORMS}, []
for width in WIDTHS:
    read, masks = maps(long, again, width=width)
    one, other = read[LAYER].before_dropout.chunk(2)
    for form in PULL_FORMS:
        values[form].append(attention_pull(one, other, *masks, form).item())
    square = (one - other).square()
    inside.append(float((square * masks[0][:, None, :, None]).sum() / square.sum()))
figure = go.Figure(layout=LOOK | {"height": 400})
looks = {"published": (PALETTE[6], "solid"), "masked": (PALETTE[1], "dash"), "row_kl": (PALETTE[3], "dot")}
for form, line in looks.items():
    figure.add_scatter(x=WIDTHS, y=values[form], name=form, line={"color": line[0], "dash": line[1], "width": 3})
figure.update_xaxes(type="log", tickvals=WIDTHS, title="Padded to").update_yaxes(type="log", title="Pull")
figure.update_yaxes(exponentformat="power")
fall = {form: series[0] / series[-1] for form, series in values.items()}
show(
    figure,
    f"The same texts, padded from {WIDTHS[0]} to {WIDTHS[-1]} positions. The published value falls by a factor of "
    f"{fall['published']:.0f}; the masked form changes by a factor of {fall['masked']:.2f}, the row form by one of "
    f"{fall['row_kl']:.2f}.",
)

# %% [markdown]
# It does not even fall as the share of real cells does. Padded positions ask, too: a padded *key* is closed, but a
# padded
# *query* still looks at the real tokens, and its row stands in the mean. At full width most of the loss is about rows
# that nothing ever reads.

# %%
say(
    "Part of the published pull that comes from real queries: "
    + ", ".join(f"**{share:.0%}** at width {width}" for width, share in zip(WIDTHS, inside, strict=True))
    + f". The value falls by a factor of {fall['published']:.0f}, the share of real cells by one of "
    f"{real[WIDTHS[0]] / real[WIDTHS[-1]]:.0f}."
)

# %% [markdown]
# So `beta` means nothing without the width that it was set at. The preset `EAR.published()` keeps the width as part of
# the method; all other forms leave it out.
#
# ## Failure 3: dropout inside the map
#
# Dropout strikes the map itself: with rate $p$, a cell becomes $0$ or $A/(1-p)$. The published pull reads the map after
# that, with separate masks for the two streams. On average over the masks of this layer, each cell adds its variance:
#
# $$\mathbb{E}\,(\tilde A - \tilde A')^2 = (A - A')^2 + \frac{p}{1-p}\left(A^2 + A'^2\right).$$
#
# And the maps $A$ and $A'$ themselves tremble, as dropout in the blocks below moved their inputs. To tell these parts
# from the signal, run three streams at once: $x$, $x'$ and $x$ *again*. What $x$ and $x$ again differ by is noise.

# %%
config = encoder.model.config
p = getattr(config, "attention_probs_dropout_prob", getattr(config, "attention_dropout", 0.0))
readings = defaultdict(list)
torch.manual_seed(0)
for training, times in ((False, 1), (True, 12)):
    encoder.model.train(training)
    for _ in range(times):
        read, masks = maps(rows, copies, rows)
        taken = {"before it": read[LAYER].before_dropout.chunk(3)}
        taken["after it, as published"] = read[LAYER].after_dropout.chunk(3)
        for place, streams in taken.items() if training else [("dropout off", taken["before it"])]:
            for name, i in (("x and x'", 1), ("x and x again", 2)):
                pair = streams[0], streams[i], masks[0], masks[i]
                readings[place, "published", name].append(attention_pull(*pair).item())
                readings[place, "masked", name].append(attention_pull(*pair, "masked").item())
        if training:
            one, other, _ = taken["before it"]
            readings["formula"].append((p / (1 - p) * (one.square() + other.square())).mean().item())
_ = encoder.model.eval()

# %%
table = defaultdict(dict)
for place in ("dropout off", "before it", "after it, as published"):
    for form in ("published", "masked"):
        signal, noise = (np.mean(readings[place, form, name]) for name in ("x and x'", "x and x again"))
        table["x and x'"][place, form] = f"{signal:.5f}"
        table["x and x again"][place, form] = f"{noise:.5f}"
        table["share that is noise"][place, form] = f"{noise / (signal or 1.0):.0%}"
display(pd.DataFrame(table).T)
before, after = (np.mean(readings[place, "published", "x and x'"]) for place in ("before it", "after it, as published"))
noise = np.mean(readings["after it, as published", "published", "x and x again"]) / (after or 1.0)
say(
    f"**{noise:.0%}** of the published pull on this batch is not about the swap at all. The formula says that dropout "
    f"in the map (rate {p:g}) takes the value from {before:.5f} to {before + np.mean(readings['formula']):.5f}; "
    f"measured is {after:.5f}."
)

# %% [markdown]
# The noise has a gradient, too: it rewards small $A^2$, that is, flat maps, in every sentence, swapped or not.
#
# What mends it: the forms `masked` and `row_kl` read the map *before* its dropout. That takes the largest part away.
# What is left comes from the blocks below, and goes away when both streams roll the **same dice**: two forwards, each
# begun with the same seed, instead of one stacked forward. It costs no more arithmetic.


# %%
def same_dice(*streams, seed=0):
    """The map of each stream before its dropout, all under the same dropout masks."""
    width = max(len(row.input_ids) for stream in streams for row in stream)
    found = []
    for stream in streams:
        torch.manual_seed(seed)
        found.append(maps(stream, width=width)[0][LAYER].before_dropout)
    return found


encoder.model.train()
one, other, again_ = same_dice(rows, copies, rows)
encoder.model.eval()
shared = attention_pull(one, other, mask, virtual_mask, "masked").item()
itself = attention_pull(one, again_, mask, mask, "masked").item()
off = np.mean(readings["dropout off", "masked", "x and x'"])
say(f"With the same dice: {shared:.5f} between x and x', {itself:.5f} between x and itself; without dropout {off:.5f}.")

# %% [markdown]
# ## Failure 4: almost inert
#
# As for the push, what counts is each term's share of the gradient at the start of training, with the published weight
# $\beta = 1$. A width of 128 takes much memory, so the norms are means over four small batches of two texts.

# %%
torch.manual_seed(0)
model.train()
few = [*swapped, *(i for i in range(len(rows)) if i not in swapped)][:8]
pairs = [([*(rows[i] for i in two), *(copies[i] for i in two)], [rows[i].label for i in two])
         for two in (few[i : i + 2] for i in range(0, len(few), 2))]  # fmt: skip
inert = {}
for form, width in (("published", 128), ("published", 32), ("published", None), ("masked", None), ("row_kl", None)):
    objective, norms, value = EAR(push=False, pull=form, layer=LAYER, pad_to=width), defaultdict(float), 0.0
    for stream, labels_ in pairs:
        terms = objective(model, collate(stream, PAD, labels_, width))
        value += terms["pull"].item() / len(pairs)
        for term, norm in gradient_norms(model, terms).items():
            norms[term] += norm / len(pairs)
        del terms
    inert[form, f"width {width}" if width else "longest text"] = {
        "value": f"{value:.5f}",
        "gradient": f"{norms['pull']:.4f}",
        "of both cross-entropies": f"{norms['ce'] + norms['robust']:.2f}",
        "share": f"{gradient_shares(norms, objective.weights)['pull']:.2%}",
    }
display(pd.DataFrame(inert).T)
published, unpadded = (list(inert.values())[i]["share"] for i in (0, 2))
say(f"Padding alone takes the share of the published pull from {unpadded} to **{published}**.")

# %% [markdown]
# ## What it can train
#
# A loss on the map of layer $l$ is computed from that layer's queries and keys and from everything *below*. Values and
# output of layer $l$ come after its map. So the pull trains a part of the encoder only.

# %%
stream, labels_ = pairs[0]
term = EAR(push=False, pull="masked", layer=LAYER)(model, collate(stream, PAD, labels_))["pull"]
weights = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
gradients = torch.autograd.grad(term, [weight for _, weight in weights], allow_unused=True)
squares = defaultdict(float)
for (name, _), gradient in zip(weights, gradients, strict=True):
    block = re.search(r"(?:layers?|blocks?)\.(\d+)\.", name)
    place = f"block {int(block[1])}" if block else ("embeddings" if "embed" in name else "head and rest")
    squares[place] += 0.0 if gradient is None else float(gradient.square().sum())
reach = {place: square**0.5 for place, square in squares.items()}
figure = go.Figure(layout=LOOK | {"height": 360})
figure.add_bar(x=list(reach), y=[round(norm, 6) for norm in reach.values()], marker_color=PALETTE[1])
figure.update_yaxes(title="Norm of the pull's gradient")
dead = [name for (name, _), g in zip(weights, gradients, strict=True) if g is None or not g.any()]
own_dead = [name for name in dead if re.search(rf"(?:layers?|blocks?)\.{LAYER}\.", name)]
show(
    figure,
    f"Where the pull at layer {LAYER} has a gradient: it is zero for {len(dead)} of {len(weights)} weight tensors, all "
    f"above that map, {len(own_dead)} of them in block {LAYER} itself.",
)
del model, term, gradients

# %% [markdown]
# ## Which layer?
#
# The published layer is 5, the sixth block. What does a swap do to the maps of the others? For scale: the same texts,
# each beside *another* training text of its length. All layers in one forward, masked form, texts with a swap only.

# %%
LAYERS = range(encoder.model.config.num_hidden_layers)
by_length = defaultdict(list)
for row in everything:
    by_length[len(row.input_ids)].append(row)
others = [by_length[len(row.input_ids)] for row in long]
others = [group[int(np.random.default_rng(i).integers(len(group)))] for i, group in enumerate(others)]
curves = {}
for name, pair in (("x and x'", (long, again)), ("x and another text", (long, others))):
    read, masks = maps(*pair, layers=LAYERS)
    curves[name] = [attention_pull(*read[i].before_dropout.chunk(2), *masks, "masked").item() for i in LAYERS]
figure = go.Figure(layout=LOOK | {"height": 380})
for (name, series), colour in zip(curves.items(), (PALETTE[6], "#888888"), strict=True):
    figure.add_scatter(x=list(LAYERS), y=series, name=name, line={"color": colour, "width": 3})
figure.update_xaxes(title="Layer (0-based)", tickvals=list(LAYERS)).update_yaxes(
    title="Masked pull", rangemode="tozero"
)
least, most = int(np.argmin(curves["x and x'"])), int(np.argmax(curves["x and x'"]))
relative = np.divide(*curves.values())
show(
    figure,
    f"How far the maps of a text and its virtual copy differ, layer by layer: least at layer {least}, most at layer "
    f"{most}. At layer {LAYER} the swap changes the map by {relative[LAYER]:.0%} of what another text of the same "
    "length changes it by.",
)

# %% [markdown]
# A layer is a setting like any other: English data may choose it, target languages may not. Notebook 07 reads what
# other layers and forms bring.
#
# ## Take-aways
#
# - A row of a map says how a token shares its attention out. The pull compares maps cell by cell.
# - It cannot see a common turn of all points: push and pull can both be content.
# - It compares positions. Keep the number of pieces, or it compares a word with its neighbour.
# - An average over padding depends on the width, and so does its weight. Padded queries make it worse.
# - Run the same sentence twice before you believe a distance measured in training mode.
# - A loss in the middle of a network trains what lies below it.

# %% [markdown]
# ## Exercises
#
# **1. Predict.** Swap nothing and leave dropout off, but pad the virtual stream's sentences with one more *real* token,
# a full stop. Is the masked pull at this layer then zero? Write `"zero"` or `"not zero"`.

# %%
prediction = ...

if prediction is ...:
    print('Exercise 1 is unfinished: write "zero" or "not zero".')
else:
    encoded = [tokenizer(rows[0].texts[0] + end)["input_ids"] for end in ("", " .")]
    plain, stopped = (replace(rows[0], input_ids=tuple(ids), token_type_ids=None) for ids in encoded)
    read, masks = maps([plain], [stopped])
    value = attention_pull(*read[LAYER].before_dropout.chunk(2), *masks, "masked").item()
    print(f"It is {value:.5f};", "as you said." if (value < 1e-9) == (prediction == "zero") else "not as you said.")

# %% [markdown]
# **2. Write the map** of a batch from queries and keys, both `(batch, heads, tokens, width)`, and the mask
# `(batch, tokens)`: what `taps` reads before dropout.


# %%
def my_map(query, key, mask):
    """The attention map, ``(batch, heads, query, key)``."""
    ...


check("attention_map", my_map)

# %% [markdown]
# **3. Write the pull** in its published form.


# %%
def my_pull(original, virtual, original_mask, virtual_mask):
    """The published pull of two maps, ``(batch, heads, tokens, tokens)`` each."""
    ...


check("attention_pull", my_pull)

# %% [markdown]
# **4. Leave the padding out.**


# %%
def my_masked_pull(original, virtual, original_mask, virtual_mask):
    """The masked form: a mean over each sentence's real cells, then over the batch."""
    ...


check("masked_pull", my_masked_pull)

# %% [markdown]
# **5. Compare distributions** instead of cells (harder).


# %%
def my_row_kl(original, virtual, original_mask, virtual_mask):
    """The row form: KL of each real query's row, over the real keys."""
    ...


check("row_kl_pull", my_row_kl)

# %% [markdown]
# **6. Four questions.** Put a letter in place of the dots.

# %%
quiz("pull_padding", ...)

# %%
quiz("pull_positions", ...)

# %%
quiz("pull_dropout", ...)

# %%
quiz("pull_reach", ...)

# %% [markdown]
# ## Further reading
#
# - K. Ding et al., [A Simple and Effective Method to Improve Zero-Shot Cross-Lingual Transfer
#   Learning](https://aclanthology.org/2022.coling-1.385), COLING 2022. EAR, with the pull as its second term.
# - A. Vaswani et al., [Attention Is All You Need](https://arxiv.org/abs/1706.03762), NeurIPS 2017. The map.
# - K. Clark et al., [What Does BERT Look At?](https://aclanthology.org/W19-4828), BlackboxNLP 2019. Heads that look at
#   special tokens, and what others look at.
# - S. Jain and B. C. Wallace, [Attention is not Explanation](https://aclanthology.org/N19-1357), NAACL 2019. What a map
#   may not be taken for.
#
# Next: [06 Make predictions survive the move](06_robust_target.ipynb).
