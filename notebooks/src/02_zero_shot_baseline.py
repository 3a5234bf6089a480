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
# # Train on English, test on thirteen others
#
# The zero-shot baseline, and the price of the gap in each language.
#
# **What you will learn**
# - what *zero-shot* forbids, and how a split can break it without anyone noticing;
# - a training step, by hand and by the package;
# - how to read an accuracy: its interval over items, its spread over seeds;
# - which languages pay, for which items, and what goes with it;
# - what choosing a checkpoint on the test languages would have bought, and why that is not allowed.
#
# **What you need**: Python and PyTorch basics (a loss, a gradient, an optimiser step). Notebook
# [01](01_the_embedding_cluster_gap.ipynb) explains sentence vectors and the measures of alignment that come back
# here.
#
# **Time and memory**: about 7 minutes on two cores, about 1.6 GB.
#
# **Where it runs**: on a laptop, without a GPU and without a model hub; on Binder and Colab too.

# %%
import copy
import os

import numpy as np
import pandas as pd
import plotly.express as px
import torch
from IPython.display import Markdown, display
from scipy.stats import binomtest, spearmanr

from xlt_tutorial import (
    Classifier,
    NeighbourSwap,
    Recipe,
    Vanilla,
    align,
    evaluate,
    load_encoder,
    load_task,
    sentence_vectors,
    train,
)
from xlt_tutorial.batching import collate, encode_rows
from xlt_tutorial.evaluation import predict
from xlt_tutorial.exercises import check
from xlt_tutorial.figures import language_bars, loss_history, show
from xlt_tutorial.objectives import make_objective
from xlt_tutorial.quiz import quiz
from xlt_tutorial.styles import language_name, markdown_text
from xlt_tutorial.trained import trained

TASK = os.environ.get("XLT_TASK", "emoji")
ENCODER = os.environ.get("XLT_ENCODER", "e5-small")
METHOD = os.environ.get("XLT_METHOD", "vanilla")
SEEDS = (0, 1, 2)


def say(text):
    """Show a sentence whose numbers come from the code around it."""
    display(Markdown(text))


# %% [markdown]
# ## The task, and its three splits
#
# An item is an emoji, its text is its name, its label is the group that Unicode puts it in. Training texts are
# English alone. The test items are *other* emoji, named in every language.

# %%
task = load_task(TASK)
SOURCE, TARGETS, SPLIT = task.source, task.targets, task.evaluation_split
print(task)
shares = {
    split: pd.Series(task[split][SOURCE]["label"]).value_counts(normalize=True).sort_index()
    for split in task.splits
    if SOURCE in task.splits[split]
}
pd.DataFrame(shares).set_axis(task.labels, axis=0).map("{:.0%}".format)

# %% [markdown]
# ## The floor: always say the commonest label
#
# An accuracy means nothing without the one that you get for free. Here is what a model scores that has read no text
# at all, and always gives the label that is commonest in train.

# %%
commonest = int(pd.Series(task["train"][SOURCE]["label"]).mode()[0])
floor = float(np.mean(np.array(task[SPLIT][SOURCE]["label"]) == commonest))
say(f"Always **{markdown_text(task.labels[commonest])}**: {floor:.1%} of the test items.")

# %% [markdown]
# ## A split that does not cheat
#
# Some names are made from one template: *one o'clock*, *two o'clock*, ...; *red heart*, *blue heart*, ... If one of
# them is in train and its sibling in test, a model scores by remembering the template, and the score says nothing
# about understanding. So siblings stay together, in one split. The next cell looks for families that were torn apart.

# %%
if "group" in task["train"][SOURCE].column_names:
    families = {split: pd.Series(task[split][SOURCE]["group"]) for split in shares}
    torn = set(families["train"]) & set(families[SPLIT])
    biggest = families[SPLIT].value_counts().head(5)
    say(f"Families in both train and {SPLIT}: **{len(torn)}**. The biggest of {SPLIT}: ")
    names = dict(zip(task[SPLIT][SOURCE]["group"], task[SPLIT][SOURCE]["text"], strict=True))
    display(pd.DataFrame({"items": biggest, "such as": [names[group] for group in biggest.index]}))
else:
    say("This task does not name families of items; look for near-copies in it yourself.")

# %% [markdown]
# ## The rules of zero-shot
#
# 1. No text and no label of a target language trains, selects, tunes or normalises anything.
# 2. English data decide everything: when to stop, which checkpoint to keep, which setting to use.
# 3. Target-language data are looked at once, at the end, to measure.
#
# The second rule is the one that is broken most. The code that was released with the EAR paper chose its checkpoints
# on the test sets of the target languages. Further down you will see what that would buy here.

# %% [markdown]
# ## The model
#
# The encoder gives one vector per piece. We take the mean over the real ones and put one linear layer on top of it.
# Encoder and layer are trained together.

# %%
objective = Vanilla(passes=1) if METHOD == "vanilla" else make_objective(METHOD)
maker, keep = None, ()
if objective.virtual:
    english = [text for split in shares if split != SPLIT for text in task.texts(split, SOURCE)]
    maker = NeighbourSwap.fit(load_encoder(ENCODER), english)
    keep = maker.pieces
encoder = load_encoder(ENCODER, trim_to=task, keep=keep)

torch.manual_seed(0)
by_hand = Classifier(copy.deepcopy(encoder.model), len(task.labels), dropout=0.0)
say(
    f"`{encoder.name}`: {encoder.parameters / 1e6:.1f} million weights in the encoder"
    f"{' (after its vocabulary was trimmed to this task)' * (encoder.kept_ids is not None)}, "
    f"{sum(p.numel() for p in by_hand.head.parameters()):,} in the linear layer."
)

# %% [markdown]
# ## One training step by hand
#
# Eight English names, tokenised and padded to one length.

# %%
rows = encode_rows(encoder.tokenizer, task["train"][SOURCE].select(range(8)), task.text_columns, 32)
batch = collate(rows, encoder.tokenizer.pad_token_id, [row.label for row in rows])
print(rows[0].texts, encoder.tokenizer.convert_ids_to_tokens(rows[0].input_ids), task.labels[rows[0].label])
print({name: tuple(tensor.shape) for name, tensor in batch.items()})

# %% [markdown]
# The loss is the mean over the batch of minus the logarithm of the probability that the model gives to the right
# label. Before training the probabilities are nearly equal, so the loss is near $\log(\text{number of labels})$.

# %%
logits = by_hand(batch["input_ids"], batch["attention_mask"])
probabilities = logits.softmax(dim=-1)
right = probabilities[torch.arange(len(rows)), batch["labels"]]
loss = -right.log().mean()
print(f"by hand {loss.item():.4f}, torch {torch.nn.functional.cross_entropy(logits, batch['labels']).item():.4f}, ")
print(f"log({len(task.labels)}) = {np.log(len(task.labels)):.4f}")

# %% [markdown]
# One step against the gradient, and the same batch again.

# %%
optimizer = torch.optim.AdamW(by_hand.parameters(), lr=1e-4)
loss.backward()
optimizer.step()
with torch.no_grad():
    again = torch.nn.functional.cross_entropy(by_hand(batch["input_ids"], batch["attention_mask"]), batch["labels"])
say(f"The loss on these eight names went from {loss.item():.3f} to {again.item():.3f}.")
del by_hand, optimizer, logits, probabilities, right, loss, again

# %% [markdown]
# ## All steps, by the package
#
# `train` does the same in a loop: warm-up and decay of the learning rate, clipping, batches of like length, one row
# of history a step. `select="source"` keeps the epoch that is best on the English dev items. `oracle=True` also
# writes down which epoch the *target* languages would have chosen. It changes nothing about the model, and we look at
# it later. We call it through `trained`, which keeps a finished run on disk: run this notebook again, or open one that
# builds on it, and the run is read instead.

# %%
recipe = Recipe(select="source", share_every=0 if METHOD == "vanilla" else 10)
run = trained(task, encoder, objective, maker, recipe, seed=SEEDS[0], oracle=True)
say(
    f"{len(run.history)} steps in {run.seconds:.0f} seconds (scoring every epoch for the oracle included). "
    f"Kept: step {run.selected['step']}, with {run.selected['accuracy']:.1%} on {run.selected['n']} English items."
)

# %%
ce = [row["terms"]["ce"] for row in run.history]
tenth = max(1, len(ce) // 10)
show(
    loss_history(run.history, title="Training on English"),
    f"The cross-entropy falls from {np.mean(ce[:tenth]):.2f}, the mean over the first tenth of the steps, to "
    f"{np.mean(ce[-tenth:]):.2f} over the last tenth.",
)

# %% [markdown]
# ## The test, once
#
# Fourteen languages, the same items in each. The bars carry Wilson intervals: how far the accuracy would move if
# other items of this kind had been drawn. They say nothing yet about another seed.

# %%
scores = evaluate(run.model, encoder.tokenizer, task, max_length=recipe.max_length)


def wilson(correct):
    interval = binomtest(int(correct.sum()), len(correct)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


intervals = {language: wilson(correct) for language, correct in scores.correct.items()}
name = run.settings["objective"]["name"]
worst, best = max(scores.gap, key=scores.gap.get), min(scores.gap, key=scores.gap.get)
low, high = intervals[SOURCE]
show(
    language_bars({name: scores.accuracy}, SOURCE, {name: intervals}, scores.n),
    f"Trained on {language_name(SOURCE)} alone, the model is right on {scores.accuracy[SOURCE]:.1%} of the "
    f"{language_name(SOURCE)} test items (95 % interval {low:.1%} to {high:.1%}) and on {scores.target_mean:.1%} on "
    f"average in {len(TARGETS)} other languages, from {scores.accuracy[worst]:.1%} ({language_name(worst)}) to "
    f"{scores.accuracy[best]:.1%} ({language_name(best)}). The floor is {floor:.1%}.",
)

# %% [markdown]
# ## The price, language by language
#
# The *zero-shot gap* of a language is the English accuracy minus its own. The items are the same, so we can pair
# them: how many does only English get right, and how many only the other language?

# %%
english_right = scores.correct[SOURCE]
price = pd.DataFrame(
    {
        "accuracy": scores.accuracy,
        "gap": {language: scores.gap.get(language, 0.0) for language in task.languages},
        "right in the source alone": {t: np.mean(english_right & ~scores.correct[t]) for t in task.languages},
        "right here alone": {t: np.mean(~english_right & scores.correct[t]) for t in task.languages},
    }
).rename(index=language_name)
display(price.sort_values("gap").map("{:.1%}".format))
back = float(np.mean([np.mean(~english_right & scores.correct[t]) for t in TARGETS]))
say(
    f"The mean gap is **{100 * (scores.accuracy[SOURCE] - scores.target_mean):.1f} points**. It is not one-way: on "
    f"average {back:.1%} of the items are right in the other language and wrong in {language_name(SOURCE)}."
)

# %% [markdown]
# ## What goes wrong
#
# Here are items that the model gets right in English and wrong in many other languages. Read a few before you go on:
# is it the translation, the label, or the model?

# %%
hits = np.stack([scores.correct[t] for t in TARGETS])
lost = np.flatnonzero(english_right)[np.argsort(hits[:, english_right].sum(axis=0), kind="stable")][:8]
predicted = {}
for language in task.languages:
    encoded = encode_rows(encoder.tokenizer, task[SPLIT][language], task.text_columns)
    predicted[language] = predict(run.model, encoded, encoder.tokenizer.pad_token_id)

table = []
for item in lost:
    wrong = [t for t in TARGETS if not scores.correct[t][item]]
    example = wrong[int(item) % len(wrong)]
    row = task[SPLIT][example][int(item)]
    english_row = task[SPLIT][SOURCE][int(item)]
    table.append(
        {
            "": row.get("emoji", ""),
            "text": " / ".join(row[column] for column in task.text_columns),
            "language": language_name(example),
            "in the source": " / ".join(english_row[column] for column in task.text_columns),
            "label": task.labels[row["label"]],
            "predicted": task.labels[predicted[example][item]],
            "wrong in": f"{len(wrong)} of {len(TARGETS)}",
        }
    )
pd.DataFrame(table)

# %% [markdown]
# ## Which labels are mixed up
#
# The confusion matrix of all target languages together: rows are the true labels, columns the predicted ones, each
# row sums to one.

# %%
truth = np.array(task[SPLIT][SOURCE]["label"])
counts = np.zeros((len(task.labels), len(task.labels)))
for language in TARGETS:
    np.add.at(counts, (truth, predicted[language]), 1)
confusion = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
off = confusion - np.diag(np.diag(confusion))
true_label, said = np.unravel_index(off.argmax(), off.shape)
figure = px.imshow(
    np.round(confusion, 4), x=task.labels, y=task.labels, color_continuous_scale="Blues", zmin=0, zmax=1,
    text_auto=".0%", labels={"x": "predicted", "y": "true", "color": "share"}, template="plotly_white", height=560,
)  # fmt: skip
hardest = int(np.diag(confusion).argmin())
show(
    figure,
    f"Over the target languages, {task.labels[hardest]} is hit least often ({confusion[hardest, hardest]:.0%}). The "
    f"commonest mistake is to take {task.labels[true_label]} for {task.labels[said]} "
    f"({off[true_label, said]:.0%} of its items).",
)

# %% [markdown]
# ## Does the gap in the encoder foretell the price?
#
# Notebook 01 measured how far each language is from English *before* training. If the embedding cluster gap is what
# transfer costs, then languages that are far away should pay more. We have one point per language, so this can
# suggest something, and prove nothing.

# %%
LAST = encoder.model.config.num_hidden_layers
labels = [task.labels[label] for label in truth]
before = align(
    sentence_vectors(encoder.model, encoder.tokenizer, task, SPLIT, layers=[LAST]),
    labels,
    SOURCE,
    layers=[LAST],
    measures=["gap_ratio", "knn_mixing", "p1", "silhouette"],
)[0]
points = pd.DataFrame(
    {
        "language": [language_name(t) for t in TARGETS],
        "accuracy": [scores.accuracy[t] for t in TARGETS],
        "P@1, centred, before training": [before["p1"]["centred"]["from_source"][t] for t in TARGETS],
        "gap ratio before training": [before["gap_ratio"][t] for t in TARGETS],
    }
)
ties = {column: spearmanr(points[column], points["accuracy"]) for column in points.columns[2:]}
figure = px.scatter(
    points.round(4),
    x="P@1, centred, before training",
    y="accuracy",
    text="language",
    template="plotly_white",
    height=480,
).update_traces(textposition="top center", marker_size=9)
show(
    figure,
    f"One point per language ({len(TARGETS)}). Spearman's rank correlation of accuracy with "
    + " and with ".join(f"the {column} is {tie.statistic:+.2f} (p = {tie.pvalue:.2f})" for column, tie in ties.items())
    + ". So few points move a lot when one language is left out, and a third thing may stand behind both.",
)

# %% [markdown]
# ## What peeking would have bought
#
# We kept the epoch that English dev items chose. The *oracle* keeps the epoch that is best on the target test sets.
# That is a number nobody could have in earnest: it needs labels in every target language.

# %%
oracle = run.oracle
say(
    f"Target mean of the epoch that English chose (step {run.selected['step']}): **{scores.target_mean:.1%}**. "
    f"Of the one that the targets would choose (step {oracle['step']}; not allowed, for comparison only): "
    f"{oracle['target_mean']:.1%}. Peeking buys {100 * (oracle['target_mean'] - scores.target_mean):+.1f} points here, "
    "without any better method. A paper that peeks reports them as its own."
)

# %% [markdown]
# ## Another seed
#
# The seed decides the linear layer's first weights, the order of the examples and the dropout masks. Nothing about it
# is better or worse, so the results of several seeds show how much a single one can be trusted.

# %%
means, sources = {SEEDS[0]: scores.target_mean}, {SEEDS[0]: scores.accuracy[SOURCE]}
for seed in SEEDS[1:]:
    again = trained(task, encoder, objective, maker, recipe, seed).model
    other = evaluate(again, encoder.tokenizer, task, max_length=recipe.max_length)
    means[seed], sources[seed] = other.target_mean, other.accuracy[SOURCE]
display(pd.DataFrame({language_name(SOURCE): sources, "target mean": means}).rename_axis("seed").map("{:.1%}".format))
values = np.array(list(means.values()))
say(
    f"Over {len(values)} seeds the target mean is {values.mean():.1%} with a standard deviation of "
    f"{100 * values.std(ddof=1):.1f} points; the extremes are {100 * np.ptp(values):.1f} points apart. A method that "
    f"gains less than that on one seed has shown nothing yet. Later notebooks compare methods over several seeds, with "
    "the same seed and the same work on both sides."
)

# %% [markdown]
# ## Did training on English move the languages together?
#
# The encoder was trained too. Its sentence vectors now serve the labels. The same measures again, on the last layer.

# %%
after = align(
    sentence_vectors(run.encoder.model, encoder.tokenizer, task, SPLIT, layers=[LAST]),
    labels,
    SOURCE,
    layers=[LAST],
    measures=["gap_ratio", "knn_mixing", "p1", "silhouette"],
)[0]
rows = {
    "gap ratio (0 is no gap)": lambda m: m["gap_ratio"]["mean"],
    "kNN mixing (1 is full mixing)": lambda m: m["knn_mixing"]["mean"],
    "P@1 raw": lambda m: m["p1"]["raw"]["from_source"]["mean"],
    "P@1 centred": lambda m: m["p1"]["centred"]["from_source"]["mean"],
    "silhouette by language": lambda m: m["silhouette"]["language"],
    "silhouette by label": lambda m: m["silhouette"]["label"],
}
moved = pd.DataFrame({name: {"before": get(before), "after": get(after)} for name, get in rows.items()}).T
display(moved.map("{:.3f}".format))
by_label, p1 = moved.loc["silhouette by label"], moved.loc["P@1 centred"]
say(
    f"The labels stand {'farther' if by_label['after'] > by_label['before'] else 'no farther'} apart than before, "
    f"and a translation is {'easier' if p1['after'] > p1['before'] else 'harder'} to find: vectors that serve a label "
    "may forget what told two items of that label apart. A smaller gap ratio alone would not be a success; notebook 09 "
    "is about such traps."
)

# %% [markdown]
# ## Take-aways
#
# - Zero-shot means that target-language data measure, and do nothing else. A split must keep siblings together.
# - The price of transfer is a gap per language, and the items behind it can be read.
# - Intervals over items and spread over seeds are two different doubts. Name both.
# - Choosing on the test languages buys points without a method. Print the oracle beside the result, labelled.
# - This is the number to beat. EAR does twice the work in each step, so the fair opponent is vanilla training with two
#   passes, `Vanilla(passes=2)`: that is what `make demo` and notebook 07 compare with.

# %% [markdown]
# ## Exercises
#
# **1. Predict.** Before you run it: if the linear layer alone were trained and the encoder kept as it is, would the
# gap between English and the others be smaller or larger than above? Put `"smaller"` or `"larger"` in place of the
# dots.

# %%
prediction = ...

if prediction is ...:
    print('Exercise 1 is unfinished: write "smaller" or "larger".')
else:
    frozen = load_encoder(ENCODER, trim_to=task)
    frozen.model.requires_grad_(False)
    probe = train(task, frozen, Vanilla(passes=1), recipe=Recipe(learning_rate=1e-2, select="source", share_every=0))
    found = evaluate(probe.model, frozen.tokenizer, task, max_length=recipe.max_length).as_dict()
    gap, trained_gap = found["mean_gap"], scores.as_dict()["mean_gap"]
    print(f"Gap {100 * gap:.1f} points with a frozen encoder, {100 * trained_gap:.1f} with a trained one;", end=" ")
    print("as you said." if (gap < trained_gap) == (prediction == "smaller") else "not as you said.")
    print(f"Accuracy: {found['accuracy'][SOURCE]:.1%} in the source, {found['target_mean']:.1%} in the targets.")

# %% [markdown]
# **2. Write the target mean** from a dictionary of accuracies: every target language counts the same, the source does
# not count.


# %%
def my_target_mean(accuracy, source):
    """Mean accuracy over every language but the source."""
    ...


check("target_mean", my_target_mean)

# %% [markdown]
# **3. Keep an epoch.** `run.epochs` holds one row an epoch, as below: its step, and what it scores on English dev, on
# each target and on average over them. Write the rule that a zero-shot method may follow: return the `step` of the
# epoch to keep, the first one where several are equally good.

# %%
pd.DataFrame(run.epochs).drop(columns="targets").round(3)


# %%
def select_epoch(epochs):
    """The step to keep; each row has "step", "source", "target_mean" and "targets" (language -> accuracy)."""
    ...


verdict = check("select_epoch", select_epoch)
if verdict:
    print(f"You keep step {select_epoch(run.epochs)}; the package has kept step {run.selected['step']}.")
verdict

# %% [markdown]
# **4. How sure is a gap?** The Wilson interval treats items as independent draws, and asks about one language. For the
# *gap* the same items are answered twice, so pair them. Each row of `draws` holds the numbers of items drawn with
# replacement: take the gap of each draw, and return the 2.5 % and the 97.5 % point of all these gaps. When your
# function is right, the cell compares it with what the two Wilson intervals would make you think.


# %%
def gap_interval(english, other, draws):
    """english, other: (items,) booleans, right or not; draws: (draws, items) whole numbers. Returns (low, high)."""
    ...


verdict = check("gap_interval", gap_interval)
if verdict:
    drawn = np.random.default_rng(0).integers(len(english_right), size=(2000, len(english_right)))
    low, high = gap_interval(english_right, scores.correct[worst], drawn)
    apart = intervals[SOURCE][0] - intervals[worst][1], intervals[SOURCE][1] - intervals[worst][0]
    print(f"{language_name(worst)}: gap {scores.gap[worst]:.1%}, 95 % interval {low:.1%} to {high:.1%},")
    print(f"{high - low:.1%} wide; from end to end of the two Wilson intervals it would be {apart[1] - apart[0]:.1%}.")
verdict

# %% [markdown]
# **5. Could it be chance?** Take the items that are right in exactly one of two languages. Were both languages
# equally easy, each of these items would be a toss of a fair coin. Return the chance of a split at least as uneven as
# the one observed, in either direction. (`scipy.stats.binomtest` is allowed. No case is without such items.)


# %%
def paired_p(english, other):
    """The two-sided p-value of a sign test on paired answers; english, other: (items,) booleans, right or not."""
    ...


check("paired_p", paired_p)

# %% [markdown]
# **6. Four questions.** Put a letter in place of the dots.

# %%
quiz("target_dev", ...)

# %%
quiz("siblings", ...)

# %%
quiz("one_seed", ...)

# %%
quiz("oracle_gain", ...)

# %% [markdown]
# ## Further reading
#
# - A. Conneau et al., [XNLI: Evaluating Cross-lingual Sentence
#   Representations](https://aclanthology.org/D18-1269), EMNLP 2018. The benchmark most used for zero-shot transfer.
# - J. Hu et al., [XTREME: A Massively Multilingual Multi-task Benchmark](https://arxiv.org/abs/2003.11080), ICML 2020.
# - P. Keung et al., [Don't Use English Dev: On the Zero-Shot Cross-Lingual Evaluation of Contextual
#   Embeddings](https://aclanthology.org/2020.emnlp-main.40), EMNLP 2020. How unsure English selection is.
# - K. Ding et al., [A Simple and Effective Method to Improve Zero-Shot Cross-Lingual Transfer
#   Learning](https://aclanthology.org/2022.coling-1.385), COLING 2022. EAR, the method of this series.
