# %% [markdown]
# # Solutions: The original Transformer

# %%
from __future__ import annotations

import numpy as np

import tinygrad_llm as tg

F = tg.functional
tg.manual_seed(0)

# %% [markdown]
# ## 1. What the second half costs (easy)
#
# An attention has 4 C^2 + 4 C numbers, the feed-forward network 8 C^2 + 5 C, a norm 2 C:
#
#     encoder layer     (4 + 8) C^2 + (4 + 5 + 2 * 2) C = 12 C^2 + 13 C
#     decoder layer     (4 + 4 + 8) C^2 + (4 + 4 + 5 + 3 * 2) C = 16 C^2 + 19 C
#
# An encoder layer is as large as a block of GPT; cross-attention makes a decoder layer a third
# larger. Two of each are 56 C^2, what nearly five blocks of GPT take.

# %%
C = 64
attention = tg.nn.MultiHeadAttention(C, 4).num_parameters()
feed = tg.nn.Linear(C, 4 * C).num_parameters() + tg.nn.Linear(4 * C, C).num_parameters()
norm = tg.nn.LayerNorm(C).num_parameters()
encoder, decoder = attention + feed + 2 * norm, 2 * attention + feed + 3 * norm
print(f"-> encoder layer {encoder:,}, decoder layer {decoder:,}, at width {C}")
assert encoder == 12 * C**2 + 13 * C == tg.nn.TransformerBlock(C, 4).num_parameters()
assert decoder == 16 * C**2 + 19 * C

# %% [markdown]
# ## 2. Targets that are not moved (medium)
#
# If position t is to predict the very token that it is given, copying solves the task: the loss
# falls to 0 within a hundred steps. The model has learned nothing of what comes next; when it
# writes, each token is the one before, again. A training loss that is too good is a reason to look
# at inputs and targets side by side.


# %%
def sequences(n: int, random: tg.Generator) -> np.ndarray:
    """Counting from a random number, modulo 10: (n, 9)."""
    return (random.integers(0, 10, (n, 1)) + np.arange(9)) % 10


def trained(moved: int) -> tuple[float, list[int]]:
    """The loss at the end, and what the model writes after 3, 4, 5."""
    tg.manual_seed(1)
    model = tg.nn.GPT(tg.nn.GPTConfig(10, context_length=16, n_layer=2, n_head=2, n_embd=32))
    optimizer, random = tg.optim.AdamW(model.parameters(), lr=5e-3), tg.Generator(2)
    for _ in range(150):
        ids = sequences(16, random)
        loss = model.loss(ids[:, :8], ids[:, moved : moved + 8])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item(), tg.generate(model, [3, 4, 5], 5, temperature=0.0).tolist()


for moved in (1, 0):
    loss, written = trained(moved)
    print(f"-> targets moved by {moved}: loss {loss:.3f}, writes {written}")
    assert loss < 0.1
    assert written[-5:] == ([6, 7, 8, 9, 0] if moved else [5] * 5)

# %% [markdown]
# ## 3. A GPT that reads both ways (hard)
#
# The first S columns are visible to every row; after them the mask is causal:
#
#     visible_ij = j < S or j <= i
#
# The source's positions now see all of the source, like an encoder, with one stack of layers (a
# "prefix language model"). The answer still must not see its own future. What is lost: the source's
# positions see their own next tokens, so they cannot be trained to predict them, and a batch gives
# fewer targets.

# %%
T, S = 9, 4
i, j = np.arange(T)[:, None], np.arange(T)[None, :]
visible = (j < S) | (j <= i)  # (T, T)
x = tg.tensor(tg.Generator(3).normal((1, T, 16)), requires_grad=True)
attention = tg.nn.MultiHeadAttention(16, 2, causal=False)


def seen_from(position: int) -> list[int]:
    """The positions whose inputs change the result at a position."""
    x.grad = None
    attention(x, mask=visible)[0, position].sum().backward()
    return np.flatnonzero(np.abs(x.grad[0]).sum(axis=-1)).tolist()


print(f"-> position 0, in the source, sees {seen_from(0)}")
print(f"-> position 6, in the answer, sees {seen_from(6)}")
assert seen_from(0) == [0, 1, 2, 3]
assert seen_from(6) == [0, 1, 2, 3, 4, 5, 6]
