# %% [markdown]
# # Chapter 6: Fine-tuning to classify
#
# The second stage. A pretrained GPT has read much and can do nothing in particular. Its output
# layer, which names a token, is replaced by a head with two outputs, ham and spam; then it is
# trained a little on labelled messages. What it learned from reading is kept and used.
#
# The messages here are 200 made-up ones that ship with the package, so the numbers below say how
# the method works, not how good it is on real spam. For that:
# `python examples/finetune_spam.py --data sms-spam`.
#
# **Expect**: at least 80 % of the test messages right, where always answering the same gets half,
# and counting words about as many. With 36 test messages one more or less is 3 %: which of the
# three ways wins is chance. About half a minute on one core.

# %%
from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm.finetuning.base_model import SMALL, pretrain
from tinygrad_llm.finetuning.baselines import BagOfWordsBaseline, MajorityBaseline
from tinygrad_llm.finetuning.classification import (
    TextClassifier,
    choose_trainable,
    fit_classifier,
    logits_of,
)
from tinygrad_llm.finetuning.labelled_texts import LabelledTexts, encode_labelled
from tinygrad_llm.finetuning.loop import FitSettings
from tinygrad_llm.finetuning.metrics import confusion_matrix, format_confusion, score

spam = tg.data.spam
tg.manual_seed(0)

# %% [markdown]
# ## Messages
#
# As many of each kind, in three parts: to train on, to choose by, and to judge by, once.

# %%
messages = spam.balanced(spam.load())
train, validation, test = spam.split(messages, train=0.6, validation=0.1)
for message in train[:4]:
    print(f"{message.label:4}  {message.text}")
labels = spam.class_ids(test)
texts = [m.text for m in test]
print(f"-> {len(train)} training, {len(validation)} validation, {len(test)} test messages")

# %% [markdown]
# ## Two opponents
#
# Whoever cannot beat "always the same" has learned nothing. Counting words is much harder to beat
# on short messages.

# %%
accuracies = {}
for name, baseline in (("majority", MajorityBaseline()), ("bag of words", BagOfWordsBaseline())):
    baseline.fit([m.text for m in train], spam.class_ids(train).tolist())
    accuracies[name] = score(labels, baseline.predict(texts)).accuracy

# %% [markdown]
# ## A small base model
#
# Pretrained on the Python reference and the training messages without their labels. It never sees
# a validation or test message.

# %%
size = replace(
    SMALL,
    n_layer=2,
    n_embd=64,
    vocab_size=512,
    context_length=64,
    steps=300,
    seed=0,
    learning_rate=3e-3,
    eval_every=0,
)
prose = [document.text for document in tg.data.corpora.load("pydoc")]
base = pretrain([*(m.text for m in train), *prose], size, name="messages and prose")


def encode(part: list[spam.Message]) -> LabelledTexts:
    """Messages as token ids, at most 60 each."""
    texts, labels = [m.text for m in part], [m.label for m in part]
    return encode_labelled(texts, labels, base.tokenizer, spam.LABELS, max_length=60)


encoded = [encode(part) for part in (train, validation, test)]

# %% [markdown]
# ## Fine-tuning
#
# Three ways: the head alone, on a model that stays as it is; the last block and the head, as in
# the book; everything. Each starts from the same base.

# %%
RATES = {"head": 1e-2, "last-block": 4e-3, "all": 2e-3}
called = {}
for which, rate in RATES.items():
    tg.manual_seed(1)
    classifier = TextClassifier(copy.deepcopy(base.model), 2, pooling="mean")
    trained = choose_trainable(classifier, which)
    settings = FitSettings(epochs=15, batch_size=16, learning_rate=rate, seed=1)
    history = fit_classifier(classifier, encoded[0], encoded[1], settings)
    called[which] = logits_of(classifier, encoded[2].rows).argmax(axis=-1)
    accuracies[f"GPT, {which}"] = score(labels, called[which]).accuracy
    print(
        f"{which}: {trained:,} of {classifier.num_parameters():,} parameters trained, "
        f"validation loss {min(history.column('loss')):.3f}"
    )

for name, accuracy in accuracies.items():
    print(f"-> {name}: {accuracy:.1%} of the test messages right")
assert accuracies["majority"] == 0.5
assert accuracies["GPT, all"] >= 0.8
assert min(accuracies["GPT, head"], accuracies["GPT, last-block"]) >= 0.65

# %% [markdown]
# ## What went wrong
#
# One number hides which mistakes were made: a lost message of a friend is worse than an
# advertisement that slipped through.

# %%
print(format_confusion(confusion_matrix(labels, called["all"], 2), spam.LABELS))
for i in np.flatnonzero(called["all"] != labels):
    print(f"is {test[i].label}: {test[i].text}")


# %%
def scores_and_mistakes(figure) -> None:
    """How often each way is right, and the confusion matrix of the last."""
    bars, matrix = figure.subplots(1, 2, width_ratios=[3, 2])
    bars.barh(list(accuracies), list(accuracies.values()))
    bars.invert_yaxis()
    bars.axvline(0.5, color="0.5", ls=":")
    bars.set(xlabel="share of the test messages right", xlim=(0, 1))
    counts = confusion_matrix(labels, called["all"], 2)
    image = matrix.imshow(counts, cmap="Blues", vmin=0)
    for i, j in np.ndindex(2, 2):
        color = "white" if counts[i, j] > counts.max() / 2 else "black"
        matrix.text(j, i, str(counts[i, j]), ha="center", va="center", color=color)
    matrix.set_xticks(range(2), spam.LABELS)
    matrix.set_yticks(range(2), spam.LABELS)
    matrix.set(xlabel="called", ylabel="is")
    figure.colorbar(image, ax=matrix, label="messages")


tg.explain.pictures.show(
    scores_and_mistakes,
    "Bars: always the same answer gets half right, counting words and the three fine-tuned models "
    "four fifths or so. Table: most messages lie on the diagonal of the confusion matrix.",
    size=(8, 3),
)

# %% [markdown]
# ## Exercises
#
# Solutions: `examples/chapters/solutions/ch06_spam.py`.
#
#
# ### 1. Four numbers, four scores (easy)
#
# A filter reads 100 messages, 20 of them spam. It finds 15 of these and calls 10 of the others
# spam. Compute accuracy, precision, recall and F1 by hand, and compare them with those of a filter
# that never says spam. Check with `score`.
#
# ### 2. A threshold from costs (medium)
#
# To lose a friend's message is ten times as bad as to read an advertisement. From which probability
# of spam on should a message be hidden? Derive it, then find the cheapest threshold by counting, on
# made-up messages whose probabilities are honest.
#
# ### 3. A mean without the padding (hard)
#
# The classifier averages the hidden states of a message's real tokens. Write that as a
# `tg.Function` with its backward, check it with `tg.gradcheck`, and show that padding gets no
# gradient and does not change the classifier's answer. What would go wrong with a division by T?
