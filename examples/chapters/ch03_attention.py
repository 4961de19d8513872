# %% [markdown]
# # Chapter 3: Attention, one idea at a time
#
# Attention lets each position take what it needs from the others. It is built here in the steps of
# the book, each a class of its own in `tinygrad_llm/nn/attention_steps.py`, and each checked to
# equal the next where they overlap:
#
#     by hand -> SelfAttentionV1 -> SelfAttentionV2 -> CausalAttention
#             -> MultiHeadAttentionWrapper -> MultiHeadAttention -> one fused op
#
# **Expect**: all of them give the same numbers to seven digits or so; the future has weight 0. Some
# seconds.

# %%
from __future__ import annotations

import numpy as np

import tinygrad_llm as tg

F, pictures = tg.functional, tg.explain.pictures
tg.manual_seed(123)
words = "Your journey starts with one step".split()
x = tg.tensor(
    np.array(
        [
            [0.43, 0.15, 0.89],
            [0.55, 0.87, 0.66],
            [0.57, 0.85, 0.64],
            [0.22, 0.58, 0.33],
            [0.77, 0.25, 0.10],
            [0.05, 0.80, 0.55],
        ],
        np.float32,
    )
)  # (T, C) = (6, 3), the book's example

# %% [markdown]
# ## By hand, without any weights
#
# Scores are dot products: large where two vectors point the same way. A softmax turns each row into
# weights that sum to 1, and the result is the weighted mean of all vectors.

# %%
scores = x @ x.T  # (T, T)
weights = F.softmax(scores)  # (T, T)
context = weights @ x  # (T, C)
for word, row in zip(words, weights.data, strict=True):
    print(f"{word:8}", " ".join(f"{w:.2f}" for w in row))
print("-> context of 'journey': " + " ".join(f"{c:.4f}" for c in context.data[1]))
assert np.allclose(context.data[1], [0.4419, 0.6515, 0.5683], atol=1e-4)  # as in the book
assert np.allclose(weights.data.sum(axis=1), 1)

# %% [markdown]
# ## V1: queries, keys and values
#
# What a position looks for (query), what it is found by (key) and what it hands over (value) need
# not be the same, so each comes from a matrix of its own, learned. The division by the square root
# of the width keeps the softmax away from its flat ends: a sum of d products has d times the
# variance of one.

# %%
v1 = tg.nn.SelfAttentionV1(3, 2)
q, k, v = x @ v1.w_query, x @ v1.w_key, x @ v1.w_value  # (T, D)
by_hand = F.softmax(q @ k.T * (1 / np.sqrt(2))) @ v
assert np.allclose(v1(x).data, by_hand.data, atol=1e-6)

wide = tg.Generator(0).normal((1000, 2, 64))  # queries and keys
dots = (wide[:, 0] * wide[:, 1]).sum(axis=1)
print(
    f"-> dot products of width 64: standard deviation {dots.std():.1f}, "
    f"divided by 8: {(dots / 8).std():.2f}"
)
assert 7 < dots.std() < 9

# %% [markdown]
# ## V2: the same with Linear layers
#
# A Linear layer computes x W^T, so its weight is the transpose; the result is the same.

# %%
v2 = tg.nn.SelfAttentionV2(3, 2)
with tg.no_grad():
    for linear, matrix in ((v2.query, v1.w_query), (v2.key, v1.w_key), (v2.value, v1.w_value)):
        linear.weight.copy_(matrix.data.T)
difference = np.abs(v2(x).data - v1(x).data).max()
print(f"-> V1 and V2 differ by {difference:.1e}")
assert difference < 1e-6

# %% [markdown]
# ## Causal: the future is hidden
#
# A model that predicts the next word must not see it. The scores above the diagonal become minus
# infinity, so their weights are exactly 0, in the forward pass and in the gradient.

# %%
causal = tg.nn.CausalAttention(3, 2, context_length=6)
causal.load_state_dict(v2.state_dict())
weights = causal.attention_weights(x)
for word, row in zip(words, weights.data, strict=True):
    print(f"{word:8}", " ".join(f"{w:.2f}" if w else "  . " for w in row))
assert not np.triu(weights.data, k=1).any()
assert np.allclose(weights.data.sum(axis=1), 1)

inputs = tg.tensor(x.data, requires_grad=True)
causal(inputs)[2].sum().backward()  # the result at position 2 ...
reached = " ".join(f"{g:.3f}" for g in np.abs(inputs.grad).sum(axis=1))
print(f"-> gradient at positions 0 to 5: {reached}")
assert inputs.grad[:3].any()
assert not inputs.grad[3:].any()  # ... does not depend on positions 3, 4, 5


# %%
def who_looks_at_whom(figure) -> None:
    """The weights of V2 and those behind the mask; what is hidden is grey."""
    axes = figure.subplots(1, 2)
    titles = ("every word sees every word", "causal: the future is hidden")
    for axis, title, layer in zip(axes, titles, (v2, causal), strict=True):
        shown = layer.attention_weights(x).data
        hidden = np.ma.masked_equal(shown, 0)
        axis.set_facecolor("0.85")
        image = axis.imshow(hidden, cmap="Blues", vmin=0, vmax=1)
        axis.set_xticks(range(len(words)), words, rotation=45, ha="right")
        axis.set_yticks(range(len(words)), words)
        axis.set(title=title, xlabel="word looked at", ylabel="word that looks")
        for i, j in np.argwhere(shown):
            color = "white" if shown[i, j] > 0.5 else "black"
            axis.text(j, i, f"{shown[i, j]:.2f}", ha="center", va="center", color=color, size=7)
    figure.colorbar(image, ax=axes, label="weight")


pictures.show(
    who_looks_at_whom,
    "Two tables of attention weights for six words: without a mask all weights are near one sixth; "
    "with it everything above the diagonal is hidden, and each row sums to one below it.",
    size=(8, 3.8),
)

# %% [markdown]
# ## Several heads
#
# One softmax can look at one thing at a time. Several attentions side by side look at several. The
# wrapper runs them one after the other; `MultiHeadAttention` makes all queries, keys and values
# with one matrix, and adds a projection that mixes the heads' results.

# %%
wrapper = tg.nn.MultiHeadAttentionWrapper(4, 2, context_length=6, num_heads=2)
together = tg.nn.MultiHeadAttention(4, n_head=2, qkv_bias=False)
with tg.no_grad():
    parts = [
        head.get_submodule(name).weight.data
        for name in ("query", "key", "value")
        for head in wrapper.heads
    ]
    together.qkv.weight.copy_(np.concatenate(parts))  # (3C, C)
    together.projection.weight.copy_(np.eye(4))
    together.projection.bias.copy_(np.zeros(4))
batch = tg.tensor(tg.Generator(1).normal((2, 6, 4)))  # (B, T, C)
difference = np.abs(wrapper(batch).data - together(batch).data).max()
print(f"-> wrapper and MultiHeadAttention differ by {difference:.1e}")
assert difference < 1e-6

# %% [markdown]
# ## One op
#
# In training, attention is one op that never keeps the (T, T) weights of all heads at once; its
# derivation is docs/derivations/attention.md. It must equal the small steps, gradients included.

# %%
qkv = [tg.tensor(tg.Generator(2 + i).normal((1, 2, 6, 4)), requires_grad=True) for i in range(3)]
fused = F.scaled_dot_product_attention(*qkv, causal=True)  # (B, H, T, D)
hidden = np.triu(np.ones((6, 6), bool), k=1)
scores = (qkv[0] @ qkv[1].swapaxes(-1, -2) * 0.5).masked_fill(hidden, -np.inf)
small = F.softmax(scores) @ qkv[2]
assert np.allclose(fused.data, small.data, atol=1e-6)

gradients = []
for result in (fused, small):
    for tensor in qkv:
        tensor.grad = None
    (result * result).sum().backward()
    gradients.append([tensor.grad.copy() for tensor in qkv])
difference = max(np.abs(a - b).max() for a, b in zip(*gradients, strict=True))
print(f"-> fused and small ops: gradients differ by {difference:.1e}")
assert difference < 1e-5

report = tg.gradcheck(together, [batch])
print(f"-> gradient check of MultiHeadAttention: largest error {report.error:.1e}")
assert report.error < 1e-6

# %% [markdown]
# ## Exercises
#
# Solutions: `examples/chapters/solutions/ch03_attention.py`.
#
#
# ### 1. Without the division (easy)
#
# Queries and keys are random with variance 1 and width 256. Predict the standard deviation of the
# scores when they are not divided by sqrt(D). What does that do to the largest weight of a row, and
# to the gradient that reaches the scores? Measure all three, with and without the division.
#
# ### 2. A sliding window (medium)
#
# Change the mask so that each position sees itself and the two before it, and nothing else. Predict
# from which positions the result at position 5 can depend, and check it with a gradient. How far
# back can a model with L such layers see?
#
# ### 3. Backward by hand (hard)
#
# Derive dq, dk and dv of one head, y = softmax(q k^T / sqrt(D)) v, as products of matrices, and
# compare them with the engine's. Where does the sum in the softmax's backward come from, and how
# can it be had without the (T, T) matrix?
