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
# # Push the virtual sentence away
#
# The embedding push: the E of EAR, its gradient, four ways in which the published form fails, and what mends them.
#
# **What you will learn**
# - what the push asks of the encoder, as a formula, as three lines of code and as arrows on three points;
# - why a minus sign makes a loss without a floor, and what the hinge and the cosine form do about it;
# - how to find out whether a loss term does anything: its share of the gradient;
# - how much of the push on a real encoder is dropout noise, by measurement and by formula;
# - why the mean must run over real tokens alone.
#
# **What you need**: PyTorch basics (a tensor, `backward`). Notebook [01](01_the_embedding_cluster_gap.ipynb) explains
# sentence vectors, notebook [03](03_virtual_multilingual_embeddings.ipynb) the virtual stream; a sentence on each is
# repeated here.
#
# **Time and memory**: under 1 minute on two cores, about 1.6 GB.
#
# **Where it runs**: on a laptop, without a GPU and without a model hub; on Binder and Colab too.

# %%
import copy
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import plotly.express as px
import plotly.graph_objects as go
import torch
from IPython.display import Markdown, display

from xlt_tutorial import EAR, Classifier, NeighbourSwap, embedding_push, load_encoder, load_task
from xlt_tutorial.batching import collate, encode_rows, row_generator
from xlt_tutorial.encoders import masked_mean
from xlt_tutorial.exercises import check
from xlt_tutorial.figures import show
from xlt_tutorial.losses import PUSH_FORMS
from xlt_tutorial.quiz import quiz
from xlt_tutorial.styles import PALETTE, language_name
from xlt_tutorial.taps import taps
from xlt_tutorial.training import gradient_norms, gradient_shares

TASK = os.environ.get("XLT_TASK", "emoji")
ENCODER = os.environ.get("XLT_ENCODER", "e5-small")
LOOK = {"template": "plotly_white", "margin": {"l": 20, "r": 20, "t": 30, "b": 30}}


def say(text):
    """Show a sentence whose numbers come from the code around it."""
    display(Markdown(text))


# %% [markdown]
# ## One term of four
#
# EAR trains on English alone. Beside each sentence $x$ it puts a *virtual* one, $x'$: the same sentence with some words
# swapped for near neighbours. Then it adds up four terms:
#
# $$\mathcal{L} = \underbrace{\mathrm{CE}(f(x), y)}_{\text{the task}} +
# \underbrace{\mathrm{CE}(f(x'), y)}_{\text{robust target (06)}} +
# \alpha \underbrace{\mathcal{L}_\text{push}}_{\text{this notebook}} +
# \beta \underbrace{\mathcal{L}_\text{pull}}_{\text{attention pull (05)}}$$
#
# The idea behind the push: a sentence in another language has *other embeddings*. So let $x'$ have other embeddings
# than $x$, and ask the rest of the network (05 and 06) to treat it the same all the same. The push alone teaches
# nothing about the task. It makes the exercise harder that the other terms then solve.

# %% [markdown]
# ## The formula
#
# Let $h_0(x)_t$ be what the embedding block puts out for token $t$ (word, position and type vectors added, LayerNorm,
# dropout), a vector of width $d$. With the mean over the $n$ real tokens, $u$ for $x$ and $v$ for $x'$:
#
# $$u = \frac1n \sum_{t=1}^{n} h_0(x)_t, \qquad
# \mathcal{L}_\text{push} = -\frac1d \sum_{j=1}^{d} (u_j - v_j)^2, \qquad \text{mean over the batch.}$$
#
# | equation | function | test |
# |---|---|---|
# | $u$, the mean over real tokens | `encoders.masked_mean` | `tests/test_encoders.py` |
# | $\mathcal{L}_\text{push}$, and its forms `hinge` and `cosine` | `losses.embedding_push` | `tests/test_losses.py` |
# | reading $h_0$ during a forward | `taps.taps(embeddings=True)` | `tests/test_taps.py` |
# | the four terms and their weights | `objectives.EAR` | `tests/test_objectives.py` |
# | each term's share of the gradient | `training.gradient_shares` | `tests/test_training.py` |

# %% [markdown]
# ## By hand
#
# One sentence of two tokens and a virtual one of one token, in the plane. The virtual one is padded to length two; its
# mask says so. This toy has three points that count, and a fourth that must not.

# %%
a, b, c, padding = (-1.0, 0.4), (-0.2, -0.6), (0.9, 0.5), (0.6, -1.0)
original = torch.tensor([[a, b]], requires_grad=True)  # (batch, tokens, width)
virtual = torch.tensor([[c, padding]], requires_grad=True)
original_mask, virtual_mask = torch.tensor([[1, 1]]), torch.tensor([[1, 0]])

u = (original * original_mask[..., None]).sum(1) / original_mask.sum(1, keepdim=True)  # (batch, width)
v = (virtual * virtual_mask[..., None]).sum(1) / virtual_mask.sum(1, keepdim=True)
by_hand = -(u - v).square().mean(-1).mean()

package = embedding_push(original, virtual, original_mask, virtual_mask)
assert torch.isclose(by_hand, package)
print(f"by hand {by_hand.item():.4f}, package {package.item():.4f}")

# %% [markdown]
# ## The gradient
#
# Write $B$ for the batch size. The chain rule first reaches the two means, then the tokens:
#
# $$\frac{\partial \mathcal{L}}{\partial u} = -\frac{2}{B d}\,(u - v), \qquad
# \frac{\partial \mathcal{L}}{\partial h_0(x)_t} = \frac{m_t}{n}\,\frac{\partial \mathcal{L}}{\partial u}, \qquad
# \frac{\partial \mathcal{L}}{\partial v} = -\frac{\partial \mathcal{L}}{\partial u},$$
#
# with $m_t = 1$ for a real token and $0$ for padding. Three things can be read off: every token of a sentence gets the
# *same* gradient; a long sentence shares it among more tokens; and it grows with the distance. PyTorch must agree.

# %%
found = torch.autograd.grad(package, [original, virtual])

d, batch_size = u.shape[-1], len(u)
on_u = -2 / (batch_size * d) * (u - v)
formula = [
    on_u[:, None] * original_mask[..., None] / original_mask.sum(),
    -on_u[:, None] * virtual_mask[..., None] / virtual_mask.sum(),
]
assert all(torch.allclose(one, other) for one, other in zip(found, formula, strict=True))
tokens = ["a (of x)", "b (of x)", "c (of x')", "padding (of x')"]
columns = {"autograd": torch.cat([*found], 1)[0].tolist(), "formula": torch.cat(formula, 1)[0].tolist()}
pd.DataFrame(columns, index=tokens).map(lambda pair: "({:+.3f}, {:+.3f})".format(*pair))

# %% [markdown]
# A step of gradient descent goes *against* the gradient. Here is where it takes the three points.

# %%
points = torch.cat([original, virtual], 1)[0].detach().numpy()
steps = -torch.cat([*found], 1)[0].numpy()


def arrow(x, y, dx, dy, colour):
    """An arrow as a plotly annotation."""
    place = {"x": x + dx, "y": y + dy, "ax": x, "ay": y, "xref": "x", "yref": "y", "axref": "x", "ayref": "y"}
    return place | {"showarrow": True, "arrowhead": 2, "arrowwidth": 2.5, "arrowcolor": colour, "text": ""}


figure = go.Figure(layout=LOOK | {"height": 430, "width": 720})
for name, rows, colour, symbol in (
    ("x: tokens a, b", [0, 1], PALETTE[1], "circle"),
    ("x': token c", [2], PALETTE[6], "diamond"),
    ("padding of x'", [3], "#999999", "x"),
):
    figure.add_scatter(x=points[rows, 0], y=points[rows, 1], mode="markers", name=name)
    figure.data[-1].marker = {"size": 13, "color": colour, "symbol": symbol}
    for row in rows:
        if steps[row].any():
            figure.add_annotation(arrow(*points[row], *steps[row], colour))
means = torch.cat([u, v]).detach().numpy()
figure.add_scatter(x=means[:, 0], y=means[:, 1], mode="lines+markers", name="the two means u and v")
figure.data[-1].update(line={"dash": "dot", "color": "#666666"}, marker={"symbol": "cross-thin-open", "size": 12})
figure.update_yaxes(scaleanchor="x", scaleratio=1)
lengths = np.linalg.norm(steps, axis=1)
show(
    figure,
    f"Minus the gradient, drawn as arrows. Tokens a and b move the same way, each by {lengths[0]:.2f}, away from the "
    f"mean of x'; token c moves the other way, by {lengths[2]:.2f}; the padded position moves by {lengths[3]:.0f}.",
)

# %% [markdown]
# ## The sign
#
# The minus is easy to lose, and nothing crashes without it: the loss then *pulls* the two sentences together, falls
# nicely, and teaches the opposite. One step with each sign:

# %%
before = (u - v).norm().item()
after = {}
for sign, name in ((1, "as published"), (-1, "minus sign lost")):
    moved = [(p - 0.5 * sign * g).detach() for p, g in zip((original, virtual), found, strict=True)]
    after[name] = (masked_mean(moved[0], original_mask) - masked_mean(moved[1], virtual_mask)).norm().item()
say(
    f"Distance of the two means: {before:.2f} before the step; "
    + "; ".join(f"**{distance:.2f}** {name}" for name, distance in after.items())
    + "."
)

# %% [markdown]
# ## A real batch
#
# Now the same on a real encoder. We fit the swap on English train and dev texts and load the encoder with its
# vocabulary trimmed to the task and to the words that the swap may put in. Then we draw 32 training sentences and make
# their virtual copies, as a training step does. Every eligible word is swapped with a probability of 30 %.

# %%
task = load_task(TASK)
SOURCE, TARGETS, SPLIT = task.source, task.targets, task.evaluation_split
splits = [split for split in ("train", "dev") if split != SPLIT and SOURCE in task.splits.get(split, {})]
swap = NeighbourSwap.fit(load_encoder(ENCODER), [text for split in splits for text in task.texts(split, SOURCE)])
encoder = load_encoder(ENCODER, trim_to=task, keep=swap.pieces)
tokenizer, PAD = encoder.tokenizer, int(encoder.tokenizer.pad_token_id or 0)
train_rows = task["train"][SOURCE]
drawn = np.sort(np.random.default_rng(0).choice(len(train_rows), min(32, len(train_rows)), replace=False))
rows = encode_rows(tokenizer, train_rows.select(drawn), task.text_columns, 32)
copies = [swap.virtual(row, tokenizer, row_generator(0, 0, 0, row.id)) for row in rows]
swapped = torch.tensor([bool(copy_.swaps) for copy_ in copies])
swapped[0] |= not swapped.any()  # so that the cells below have a row to show, whatever the task
batch = collate([*rows, *copies], PAD, [row.label for row in rows])
shape = tuple(batch["input_ids"].shape)
say(f"{int(swapped.sum())} of {len(rows)} sentences have a swap; the stacked batch is {shape}.")

# %%
shown = [i for i in range(len(rows)) if swapped[i]][:6]
pd.DataFrame(
    {
        "x": [" / ".join(rows[i].texts) for i in shown],
        "x'": [tokenizer.decode(list(copies[i].input_ids), skip_special_tokens=True) for i in shown],
        "swapped": [", ".join(f"{old} → {new}" for old, new in copies[i].swaps) for i in shown],
    }
)

# %% [markdown]
# `taps` keeps what the embedding block hands to the first attention block while the encoder runs. The rows of the batch
# are the originals and then, in the same order, their copies; so `chunk(2)` cuts the streams apart. The encoder is in
# evaluation mode here: no dropout.

# %%
inputs = {key: value for key, value in batch.items() if key != "labels"}
mask, virtual_mask = batch["attention_mask"].chunk(2)
with torch.no_grad(), taps(encoder.model, embeddings=True) as captured:
    encoder.model(**inputs)
first, second = captured.embeddings.chunk(2)  # (32, tokens, width) each

u = (first * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
v = (second * virtual_mask[..., None]).sum(1) / virtual_mask.sum(1, keepdim=True)
by_hand = -(u - v).square().mean(-1)  # one value for each sentence; the mean over the batch comes last
package = embedding_push(first, second, mask, virtual_mask, reduction="none")
assert torch.allclose(by_hand, package, atol=1e-7)

torch.manual_seed(0)
model = Classifier(copy.deepcopy(encoder.model), len(task.labels)).eval()
with torch.no_grad():
    term = EAR(pull=False)(model, batch)["push"]
assert torch.isclose(term, by_hand.mean(), atol=1e-7)
print(f"by hand {by_hand.mean().item():.6f}, package {package.mean().item():.6f}, in EAR {term.item():.6f}")

# %% [markdown]
# The embedding block is only the first step of the encoder, so we may also call it alone. That is fast, and it is all
# that the push ever sees. The rest of the notebook uses this.


# %%
def h0(batch, block=None):
    """The embedding block's output, ``(rows, tokens, width)``."""
    ids = {key: batch[key] for key in ("input_ids", "token_type_ids") if key in batch}
    return (block or encoder.model.embeddings)(**ids)


def pooled(rows, block=None):
    """One vector for each row: the mean of the embedding block over its real tokens."""
    stacked = collate(rows, PAD)
    return masked_mean(h0(stacked, block), stacked["attention_mask"])


assert torch.allclose(h0(batch), captured.embeddings, atol=1e-6)
signal = -by_hand
say(
    f"The mean squared distance is {signal[swapped].mean():.4f} where a word was swapped, and "
    f"{signal[~swapped].mean() if (~swapped).any() else 0:.4f} where none was: "
    f"**{(~swapped).float().mean():.0%}** of these sentences give the push nothing to push on."
)

# %% [markdown]
# ## How far is far?
#
# A number such as this needs a scale. Three distances at the same place, for the same items: from a name to its virtual
# copy (every eligible word swapped, items without any left out), to the *name of something else* in English, and to its
# own *translation*. The translations are only looked at; nothing below is set by them.

# %%
some = range(min(300, len(task[SPLIT][SOURCE])))
items = {code: encode_rows(tokenizer, task[SPLIT][code].select(some), task.text_columns, 32) for code in task.languages}
all_words = replace(swap, rate=1.0)
made = [all_words.virtual(row, tokenizer, row_generator(0, 0, 0, row.id)) for row in items[SOURCE]]
with torch.no_grad():
    clouds = {code: pooled(found) for code, found in items.items()}
    moved = pooled(made)


def squared(one, other):
    return (one - other).square().mean(-1)  # mean over the width, as in the push


touched = torch.tensor([bool(copy_.swaps) for copy_ in made])
distances = {"virtual copy": squared(clouds[SOURCE], moved)[touched].mean().item()}
distances["another English name"] = squared(clouds[SOURCE], clouds[SOURCE].roll(1, 0)).mean().item()
distances |= {language_name(code): squared(clouds[SOURCE], clouds[code]).mean().item() for code in TARGETS}

# %%
translated = [distances[language_name(code)] for code in TARGETS]
colours = [PALETTE[6], "#999999"] + [PALETTE[1]] * len(TARGETS)
figure = px.bar(x=list(distances), y=list(distances.values()), height=400).update_layout(LOOK)
figure.update_traces(marker_color=colours).update_xaxes(title="").update_yaxes(title="Mean squared distance")
show(
    figure,
    f"Distance from an English text to three kinds of other text, in the embedding block. A virtual copy lies at "
    f"{distances['virtual copy']:.4f}, that is {distances['virtual copy'] / np.mean(translated):.0%} of the mean "
    f"distance to a translation ({np.mean(translated):.4f}); another English text lies at "
    f"{distances['another English name']:.4f}.",
)

# %% [markdown]
# The push makes such a distance grow. It has no idea *where* the translations are; it only knows "away".
#
# ## Failure 1: no floor
#
# Two sentences alone, gradient descent with rate $\eta$ on the push alone. Both means move, so one step takes the
# difference from $u - v$ to $(1 + 4\eta/d)(u - v)$: it grows by the same factor again and again, for ever. The package
# has two bounded forms. With $D$ for the mean squared distance:
#
# - `hinge`: $\max(0, \text{margin} - D) - \text{margin}$. No force once the margin is reached.
# - `cosine`: $\cos(u, v) - 1$. Between $-2$ and $0$; only the angle counts.

# %%
D = (u - v).square().mean(-1)
margin = 0.5 * D.max().item()
forms = {
    "published": -D,
    "hinge": (margin - D).clamp(min=0) - margin,
    "cosine": (u * v).sum(-1) / (u.norm(dim=-1) * v.norm(dim=-1)) - 1,
}
for form, mine in forms.items():
    theirs = embedding_push(first, second, mask, virtual_mask, form, margin)
    assert torch.isclose(mine.mean(), theirs, atol=1e-6)
    print(f"{form}: by hand {mine.mean().item():.6f}, package {theirs.item():.6f}")

# %%
RATE, STEPS, MARGIN = 0.1, 60, 4.0
one = torch.ones(1, 1)
paths = {}
for form in PUSH_FORMS:
    pair = [torch.tensor([[[-0.6, -0.1]]], requires_grad=True), torch.tensor([[[0.9, 0.5]]], requires_grad=True)]
    paths[form] = []
    for _ in range(STEPS):
        loss = embedding_push(*pair, one, one, form, MARGIN)
        grads = torch.autograd.grad(loss, pair)
        paths[form].append((pair[0] - pair[1]).square().mean().item())
        pair = [(p - RATE * g).detach().requires_grad_() for p, g in zip(pair, grads, strict=True)]
growth = np.sqrt(np.divide(paths["published"][1:], paths["published"][:-1]))
assert np.allclose(growth, 1 + 4 * RATE / 2)
looks = {"published": (PALETTE[6], "solid"), "hinge": (PALETTE[1], "dash"), "cosine": (PALETTE[3], "dot")}
figure = go.Figure(layout=LOOK | {"height": 400})
for form, values in paths.items():
    colour, dash = looks[form]
    figure.add_scatter(y=np.round(values, 4), name=form, line={"color": colour, "dash": dash, "width": 3})
figure.update_yaxes(type="log", title="Mean squared distance", exponentformat="power").update_xaxes(title="Step")
show(
    figure,
    f"Gradient descent on the push alone, for two points in the plane. The published form multiplies the difference by "
    f"{growth[0]:.2f} in every step and reaches {paths['published'][-1]:,.0f}; the hinge stops past its margin of "
    f"{MARGIN:g}, at {paths['hinge'][-1]:.2f}; the cosine form ends at {paths['cosine'][-1]:.2f}.",
)

# %% [markdown]
# ### Does a real encoder run away, too?
#
# Its embedding block ends in a LayerNorm, which gives every token the same length before a learned gain $\gamma$
# stretches each coordinate. That is a lid on the distance, but one that training can lift: $\gamma$ is a weight like
# any other. Let us train the embedding block on the push alone, without dropout, at ten times the lab's learning rate.
#
# The hinge needs a margin. We may not take it from the translations above: that would tune on target languages. The
# distance between two English *training* texts is ours to use.

# %%
with torch.no_grad():
    english = pooled(rows)
MARGIN = squared(english, english.roll(1, 0)).mean().item()
STEPS = 80
tracks = {}
for form in PUSH_FORMS:
    block = copy.deepcopy(encoder.model.embeddings).eval()
    optimizer = torch.optim.AdamW(block.parameters(), lr=1e-3, weight_decay=0.0)
    gain = next((part.weight for part in block.modules() if isinstance(part, torch.nn.LayerNorm)), torch.ones(1))
    tracks[form] = []
    for _ in range(STEPS):
        one, other = h0(batch, block).chunk(2)
        values = -embedding_push(one, other, mask, virtual_mask, reduction="none").detach()
        tracks[form].append((values[swapped].mean().item(), gain.abs().mean().item()))
        loss = embedding_push(one, other, mask, virtual_mask, form, MARGIN)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    del block, optimizer

# %%
figure = go.Figure(layout=LOOK | {"height": 400})
for form, track in tracks.items():
    colour, dash = looks[form]
    line = {"color": colour, "dash": dash, "width": 3}
    figure.add_scatter(y=np.round(np.array(track)[:, 0], 5), name=form, line=line)
figure.add_hline(y=MARGIN, line={"color": "#888888", "dash": "dot", "width": 1.5}, label={"text": "margin"})
figure.update_yaxes(title="Mean squared distance, swapped rows", rangemode="tozero").update_xaxes(title="Step")
ends = {form: (np.array(track)[-1] / np.array(track)[0]).tolist() for form, track in tracks.items()}
show(
    figure,
    f"The push alone on the real embedding block, {STEPS} steps. The distance grows by a factor of "
    + ", ".join(f"{grown:.1f} ({form})" for form, (grown, _) in ends.items())
    + "; the mean size of LayerNorm's gain by a factor of "
    + ", ".join(f"{stretched:.2f} ({form})" for form, (_, stretched) in ends.items())
    + ".",
)

# %% [markdown]
# ## Failure 2: almost inert
#
# A term without a floor sounds dangerous. Whether it is depends on how much of the training it gets hold of. To find
# out, do not compare the *values* of the loss terms, for a constant moves nothing. Compare their **gradients**. With
# $g_i$ the gradient of term $i$ over all weights and $w_i$ its weight:
#
# $$\text{share}_i = \frac{\lVert w_i g_i \rVert}{\sum_j \lVert w_j g_j \rVert},
# \qquad \text{all from the same batch and the same dropout masks.}$$

# %%
torch.manual_seed(0)
model.train()
objective = EAR(pull=False)  # cross-entropies and push; alpha is 0.1, as published
few = max(4, 320 // batch["input_ids"].shape[1])  # the whole batch where texts are short: memory goes with the tokens
terms = objective(model, collate([*rows[:few], *copies[:few]], PAD, [row.label for row in rows[:few]]))
norms = gradient_norms(model, terms)
by_hand = {term: abs(objective.weights[term]) * norm for term, norm in norms.items()}
by_hand = {term: value / sum(by_hand.values()) for term, value in by_hand.items()}
shares = gradient_shares(norms, objective.weights)
assert all(np.isclose(by_hand[term], shares[term]) for term in shares)
table = pd.DataFrame(
    {"value": {t: value.item() for t, value in terms.items()}, "gradient": norms, "weight": objective.weights}
)
table["share of the gradient"] = pd.Series(shares).map("{:.3%}".format)
table.round(4)

# %%
alone = gradient_norms(model.encoder.embeddings, terms)  # over the weights that the push can reach at all
inside = gradient_shares(alone, objective.weights)
rest = sum(objective.weights[term] * norm for term, norm in norms.items() if term != "push")
needed = 0.1 / (1 - 0.1) * rest / norms["push"]  # the weight that would give the push a tenth
ratio = rest / (objective.weights["push"] * norms["push"])
say(
    f"At the start of training the cross-entropies weigh **{ratio:,.0f} times** as much as the weighted push. The push "
    f"reaches the embedding block alone; even there its share is {inside['push']:.2%}. For a tenth of the "
    f"gradient, alpha would have to be **{needed:,.0f}** instead of {objective.weights['push']}."
)

# %% [markdown]
# That number changes with the encoder, the batch and the step, so a fixed one is no cure. The package monitors the
# shares during training (`Recipe(share_every=10)`), warns when a term stays under 1 % for an epoch, and has
# `objectives.NormalisedEAR`, which sets the weights so that push and pull get the shares you ask for
# (`tests/test_rivals.py`). Whether a push that is felt *helps* is another question, and notebook 07 asks it.
#
# Adam divides by the size of the gradient, but of the *summed* one, coordinate by coordinate. So it does not bring the
# push back where the cross-entropies are large in the same coordinate.

# %%
del model, terms

# %% [markdown]
# ## Failure 3: dropout noise
#
# In training, $h_0$ is read *after* dropout, and each stream has its own mask. So the push is not zero even between
# a sentence and itself. For dropout with rate $p$, a coordinate $h$ becomes $0$ or $h/(1-p)$: its mean stays, and its
# variance is $h^2\, p/(1-p)$. The mean over $n$ tokens then has, on average over the masks, a mean squared distance of
#
# $$\mathbb{E}\,D(x, x) = \frac{2p}{1-p}\; \frac1d \sum_j \frac{1}{n^2} \sum_t h_0(x)_{tj}^2, \qquad
# \mathbb{E}\,D(x, x') = D_\text{no dropout}(x, x') + \text{half of it from } x \text{, half from } x'.$$
#
# *Predict before you run*: on short texts with few swaps, how much of the push is noise?


# %%
def noise_of(hidden, mask, p):
    """Half of the expected distance of a sentence from itself under dropout, ``(batch,)``."""
    squares = (hidden.square() * mask[..., None]).sum(1).mean(-1)
    return p / (1 - p) * squares / mask.sum(1) ** 2


dropout = [part for part in encoder.model.embeddings.modules() if isinstance(part, torch.nn.Dropout)]
p = dropout[0].p if dropout else 0.0
expected = noise_of(first, mask, p) + noise_of(second, virtual_mask, p)

torch.manual_seed(0)
same = collate([*rows, *rows], PAD)
encoder.model.train()
with torch.no_grad():
    draws = [
        [-embedding_push(*h0(stack).chunk(2), *stack["attention_mask"].chunk(2)).item() for stack in (batch, same)]
        for _ in range(60)
    ]
encoder.model.eval()
with_swap, without = np.mean(draws, axis=0)
total = with_swap or 1.0
table = {
    "measured, 60 draws": [with_swap, without, without / total],
    "by the formula": [(signal + expected).mean().item(), 2 * noise_of(first, mask, p).mean().item(), np.nan],
}
table["by the formula"][2] = table["by the formula"][1] / (table["by the formula"][0] or 1.0)
columns = ["x and x'", "x and x again", "share that is noise"]
pd.DataFrame(table, index=columns).T.map("{:.4f}".format)

# %%
full = squared(*(pooled(stream).detach() for stream in (items[SOURCE], made))).mean().item()
stack = collate(items[SOURCE], PAD)
floor = 2 * noise_of(h0(stack).detach(), stack["attention_mask"], p).mean().item()
words = batch["attention_mask"].sum(1).float().mean().item()
say(
    f"**{without / total:.0%}** of the published push on this batch is distance between two dropout masks (dropout "
    f"{p:g}, {words:.1f} tokens a text). On English texts with every eligible word swapped, it would be "
    f"{floor / (floor + full or 1.0):.0%}. The noise falls with the length of a text."
)

# %% [markdown]
# Noise is not idle. Its expectation is minus a sum of squares, so the published push rewards *longer token vectors* in
# every sentence, swapped or not: one more reason for the gain to grow. What mends it: read $h_0$ a second time with
# dropout off. The embedding block alone is a small part of a forward.

# %%
encoder.model.train()
with torch.no_grad():
    encoder.model.embeddings.eval()  # this block alone; the rest of the encoder keeps its dropout
    again = [embedding_push(*h0(stack).chunk(2), *stack["attention_mask"].chunk(2)).item() for stack in (batch, same)]
encoder.model.eval()
again = [abs(value) for value in again]
say(f"Read without dropout: {again[0]:.6f} between x and x', {again[1]:.6f} between x and itself. Nothing but signal.")

# %% [markdown]
# The published code reads $h_0$ after dropout, and so does the package's `EAR`, to be comparable; the hinge and the
# cosine form do not change that. Notebook 05 finds the same fault in the attention pull, where a form of the loss does
# mend it.
#
# ## Failure 4: averaging over padding
#
# Padding has embeddings too. A plain mean over all positions dilutes the sentence with them, and the more the
# batch is padded, the more. The published push gets this right: its mean runs over real tokens. It is worth seeing
# what happens if it does not, as the published *pull* makes this very mistake.

# %%
widths = [batch["input_ids"].shape[1], 32, 64, 128]
found = {}
for width in sorted(set(widths)):
    stack = collate([*rows, *copies], PAD, width=width)
    with torch.no_grad():
        one, other = h0(stack).chunk(2)
    masks = stack["attention_mask"].chunk(2)
    plain = torch.ones_like(masks[0])
    found[width] = {
        "mean over real tokens": embedding_push(one, other, *masks).item(),
        "mean over all positions": embedding_push(one, other, plain, plain).item(),
    }
shrunk = found[min(found)]["mean over all positions"] / (found[max(found)]["mean over all positions"] or -1.0)
display(pd.DataFrame(found).rename_axis(columns="padded to").map("{:.2e}".format))
say(f"Over all positions, the push at width {max(found)} is {shrunk:,.0f} times weaker than at width {min(found)}.")

# %% [markdown]
# ## Take-aways
#
# - The push is minus a mean squared distance between two sentence means. Every real token of a sentence gets the same
#   gradient, and padding gets none.
# - It has no floor. LayerNorm is a lid that training can lift; the hinge and the cosine form are bounded by themselves.
# - Compare gradients, not values. At its published weight the push is almost inert.
# - A distance between two forwards in training mode is partly a distance between two dropout masks. Measure it with the
#   *same* sentence twice.
# - The margin of the hinge is a setting: English data may set it, translations may not.

# %% [markdown]
# ## Exercises
#
# **1. Predict.** A sentence without any swap passes twice, in *training* mode. Is the gradient of its push on the
# encoder's weights zero? Write `"zero"` or `"not zero"`.

# %%
prediction = ...

if prediction is ...:
    print('Exercise 1 is unfinished: write "zero" or "not zero".')
else:
    block = copy.deepcopy(encoder.model.embeddings).train()
    value = embedding_push(*h0(same, block).chunk(2), *same["attention_mask"].chunk(2))
    norm = gradient_norms(block, {"push": value})["push"]
    print(f"Its norm is {norm:.4f};", "as you said." if (norm < 1e-9) == (prediction == "zero") else "not as you said.")

# %% [markdown]
# **2. Write the push** in its published form, for a whole batch: `(batch, tokens, width)` in, one number out.


# %%
def my_push(original, virtual, original_mask, virtual_mask):
    """The published push."""
    ...


check("embedding_push", my_push)

# %% [markdown]
# **3. Write its gradient** on the tokens of the original, `(batch, tokens, width)`, by the formula above and without
# `backward`.


# %%
def my_push_gradient(original, virtual, original_mask, virtual_mask):
    """The derivative of the published push by the original's embeddings."""
    ...


check("push_gradient", my_push_gradient)

# %% [markdown]
# **4. Give it a floor.** Write the hinge form: zero for equal sentences, no force beyond the margin.


# %%
def my_hinge_push(original, virtual, original_mask, virtual_mask, margin):
    """The hinge form of the push."""
    ...


check("hinge_push", my_hinge_push)

# %% [markdown]
# **5. Four questions.** Put a letter in place of the dots.

# %%
quiz("push_sign", ...)

# %%
quiz("push_margin", ...)

# %%
quiz("push_inert", ...)

# %%
quiz("push_noise", ...)

# %% [markdown]
# ## Further reading
#
# - K. Ding et al., [A Simple and Effective Method to Improve Zero-Shot Cross-Lingual Transfer
#   Learning](https://aclanthology.org/2022.coling-1.385), COLING 2022. EAR, with the push as its first term.
# - J. L. Ba, J. R. Kiros and G. E. Hinton, [Layer Normalization](https://arxiv.org/abs/1607.06450), 2016. The lid.
# - N. Srivastava et al., [Dropout: A Simple Way to Prevent Neural Networks from
#   Overfitting](https://jmlr.org/papers/v15/srivastava14a.html), JMLR 2014.
# - R. Hadsell, S. Chopra and Y. LeCun, [Dimensionality Reduction by Learning an Invariant
#   Mapping](https://doi.org/10.1109/CVPR.2006.100), CVPR 2006. Pushing apart with a margin.
#
# Next: [05 Pull attention maps together](05_attention_pull.ipynb), which keeps the structure that the push moves.
