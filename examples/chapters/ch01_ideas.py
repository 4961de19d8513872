# %% [markdown]
# # Chapter 1: The ideas, each as an experiment
#
# A language model is trained in **three stages**: pretraining on raw text, fine-tuning on a task,
# and tuning on instructions and preferences (chapters 5, 6 and 7). Before that, the four ideas that
# make the first stage worth its cost:
#
# 1. the labels come from the text itself (**self-supervised**);
# 2. a task can be put into the prompt, without training on it (**zero-shot**);
# 3. examples of a task can be put into the prompt (**few-shot**, learning *in context*);
# 4. abilities that nobody asked for **emerge**, some of them suddenly.
#
# GPT-2 and GPT-3 show this with billions of numbers. Here a network with a hundred thousand shows
# it on random symbols, where it is certain that nothing was learned by heart.
#
# **Expect**: a network with two layers learns to continue a sequence that it has never seen by
# looking up what followed last time; a network with one layer, trained alike, does not. Some
# seconds.
#
# Source: Olsson et al., "In-context learning and induction heads", 2022.

# %%
from __future__ import annotations

import math

import numpy as np

import tinygrad_llm as tg

pictures = tg.explain.pictures
tg.manual_seed(0)

# %% [markdown]
# ## Labels for free
#
# Nobody labels anything: at each position the label is the next token.

# %%
text = "the labels come from the text itself"
tokenizer = tg.tokenizers.CharTokenizer.train(text)
inputs, targets = tg.data.TokenDataset(np.array(tokenizer.encode(text)), context_length=8)[0]
for n in range(1, 5):
    print(f"{tokenizer.decode(inputs[:n])!r} -> {tokenizer.decode([targets[n - 1]])!r}")
assert (inputs[1:] == targets[:-1]).all()

# %% [markdown]
# ## A text that cannot be known by heart
#
# Each sequence begins with random symbols, none of them twice, and after some of them begins
# again, until it is full. Before the repetition nothing can be predicted. After it, everything can,
# by whoever looks back for the symbol at hand and reads what came after it. How far back that is
# differs from one sequence to the next.

# %%
SYMBOLS, LENGTH, MOST = 32, 32, 16


def repeated(random: tg.Generator, n: int, period: int | None = None) -> np.ndarray:
    """n sequences (n, LENGTH) that repeat after ``period`` symbols, or after 4 to MOST."""
    rows = []
    for _ in range(n):
        first = random.permutation(SYMBOLS)[: period or int(random.integers(4, MOST + 1))]
        rows.append(np.resize(first, LENGTH))
    return np.stack(rows)


def losses_by_half(model: tg.nn.GPT, ids: np.ndarray) -> tuple[float, float]:
    """Mean loss before and after the repetition of sequences with a period of 16."""
    with tg.no_grad():
        each = tg.functional.cross_entropy(model(ids[:, :-1]), ids[:, 1:], reduction="none")
    return float(each.data[:, : MOST - 1].mean()), float(each.data[:, MOST:].mean())


def train(n_layer: int, steps: int = 400) -> tuple[tg.nn.GPT, list[float]]:
    """A GPT, and its loss after the repetition every 20 steps."""
    tg.manual_seed(1)
    random, test = tg.Generator(2), repeated(tg.Generator(3), 64, period=MOST)
    config = tg.nn.GPTConfig(SYMBOLS, LENGTH, n_layer, n_head=2, n_embd=64, tie_weights=False)
    model = tg.nn.GPT(config)
    with tg.no_grad():  # GPT-2 begins with 0.02; with 0.5 it takes a tenth of the steps
        for table in (model.token_embedding, model.position_embedding):
            table.weight.copy_(25 * table.weight.data)
    optimizer = tg.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    curve = []
    for step in range(steps):
        if step % 20 == 0:
            curve.append(losses_by_half(model, test)[1])
        ids = repeated(random, 32)
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model, curve


two_layers, curve_two = train(n_layer=2)
one_layer, curve_one = train(n_layer=1)

# %% [markdown]
# ## Emergence
#
# One skill needs two attention layers in a row: the first tells each position which symbol stood
# *before* it; the second looks for the position whose "before" is the symbol at hand. A single
# layer cannot do both. With two, the loss does not fall evenly: it stays, then drops.

# %%
for n, (one, two) in enumerate(zip(curve_one, curve_two, strict=True)):
    print(f"step {20 * n:4}   one layer {one:5.2f}   two layers {two:5.2f} {'#' * round(9 * two)}")
new = repeated(tg.Generator(4), 200, period=MOST)
first, second = losses_by_half(two_layers, new)
_, second_one = losses_by_half(one_layer, new)
print(f"-> two layers: loss {first:.2f} before the repetition, {second:.3f} after")
print(f"-> one layer:  loss {second_one:.2f} after the repetition")
print(f"-> pure guessing: {math.log(SYMBOLS):.2f}")
assert first > 2.5
assert second < 0.2
assert second_one > 1.5

# %% [markdown]
# Left: loss while training. Right: what a head of the second layer looks at, in a sequence with
# period 16. From the first repetition on its weights lie on a diagonal: each position looks at what
# came *after* its own symbol last time.


# %%
def induction(figure) -> None:
    """The two curves, and the weights of the head with the clearest diagonal."""
    curves, heads = figure.subplots(1, 2)
    for curve, label in ((curve_one, "one layer"), (curve_two, "two layers")):
        curves.plot(range(0, 20 * len(curve), 20), curve, label=label)
    curves.axhline(math.log(SYMBOLS), color="0.6", ls=":", label="guessing")
    curves.set(xlabel="step", ylabel="loss after the repetition", ylim=(0, None))
    curves.legend(loc="lower left")
    weights = pictures.attention_weights(two_layers, new[:1])[1][0]  # (H, T, T) of the second layer
    best = max(weights, key=lambda head: np.trace(head[MOST:], offset=1))
    image = heads.imshow(best, cmap="Blues", vmin=0, vmax=1)
    heads.set(xlabel="position looked at", ylabel="position that looks")
    figure.colorbar(image, ax=heads, label="weight")


pictures.show(
    induction,
    "The loss after the repetition stays near that of guessing with one layer and drops to zero "
    "with two; a head's weights form a diagonal in the lower left.",
)

# %% [markdown]
# ## Few-shot and zero-shot
#
# Make a task of it: the prompt shows pairs "symbol, its partner"; then a symbol is given and its
# partner asked for. The partners are random, so the task exists only in the prompt: nothing of it
# was ever trained. With no example shown (zero-shot) there is nothing to go by.


# %%
def accuracy(model: tg.nn.GPT, shown: int, random: tg.Generator, n: int = 300) -> float:
    """How often the partner is found when ``shown`` pairs stand in the prompt."""
    pairs = np.stack([random.permutation(SYMBOLS)[:14] for _ in range(n)])
    pairs = pairs[:, : 2 * max(shown, 1)].reshape(n, -1, 2)
    asked = random.integers(0, pairs.shape[1], (n,))
    question, answer = pairs[np.arange(n), asked].T  # (n,), (n,)
    prompt = np.concatenate([pairs.reshape(n, -1)[:, : 2 * shown], question[:, None]], axis=1)
    with tg.no_grad():
        return float((model(prompt).data[:, -1].argmax(axis=-1) == answer).mean())


shots = {k: accuracy(two_layers, k, tg.Generator(5 + k)) for k in (0, 1, 2, 4, 7)}
for k, share in shots.items():
    print(f"-> {k} examples in the prompt: {share:.0%} right")
assert shots[0] < 0.15
assert shots[1] > 0.7
assert shots[4] > 0.7

# %% [markdown]
# With a real GPT-2, the same with opinions of reviews: `python examples/few_shot.py gpt2`.

# %% [markdown]
# ## Exercises
#
# Solutions: `examples/chapters/solutions/ch01_ideas.py`.
#
#
# ### 1. The best possible guess (easy)
#
# Before the repetition a model cannot know which symbol comes next, but it can know which do not:
# those that were there already. Derive the smallest possible loss of the predictions of symbols 2
# to 16 of 16, on average, when it is known that none comes twice. Is it log 32? Check it with a
# guesser that gives probability 0 to what was seen.
#
# ### 2. Where an induction head looks (medium)
#
# In a sequence with period p, which position must be looked at from position t, so that copying
# what stands there is right? Predict the place, then measure with `attention_weights` how much of
# its weight each head of a trained model gives to it. Which layer can have such a head, and why
# only that one?
#
# ### 3. One layer, helped (hard)
#
# A single layer fails here because its keys know only their own symbol. Change the model's *input*
# so that one layer succeeds, train it, and get the loss after the repetition below 0.5.
