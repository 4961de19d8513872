# %% [markdown]
# # Solutions: Chapter 2, embeddings

# %%
from __future__ import annotations

import numpy as np

import tinygrad_llm as tg

tg.manual_seed(0)

# %% [markdown]
# ## 1. The gradient of a table (easy)
#
# The loss is the sum of all numbers that were looked up, so the gradient that arrives at each of
# them is 1. Row i collects it once for each use: it is (n_i, ..., n_i) with n_i the number of times
# that i occurs. Rows that are not used get 0. (This is why rare tokens learn slowly.)

# %%
table = tg.nn.Embedding(6, 3)
ids = np.array([[1, 1, 4], [1, 0, 4]])
table(ids).sum().backward()
predicted = np.bincount(ids.ravel(), minlength=6)[:, None] * np.ones(3)
print(table.weight.grad)
print(f"-> largest difference: {np.abs(table.weight.grad - predicted).max():.0f}")
assert np.array_equal(table.weight.grad, predicted)

# %% [markdown]
# ## 2. Order without positions (medium)
#
# One layer: the last position takes a weighted mean over *what* stands before it; which of two
# words came first does not matter. Two layers: the mask itself tells order. Position 1 has seen
# itself and position 0, position 0 only itself, so after the first layer the vectors of the swapped
# words differ from what they would be the other way round, and the second layer sees that. A deep
# causal model therefore learns something of positions even without a table for them.


# %%
def change_by_swapping(n_layer: int) -> float:
    """Largest change of the last logits when two earlier words are swapped, without positions."""
    tg.manual_seed(1)
    config = tg.nn.GPTConfig(50, context_length=16, n_layer=n_layer, n_head=2, n_embd=32)
    model = tg.nn.GPT(config).eval()
    with tg.no_grad():
        for _, p in model.named_parameters():
            p.copy_(10 * p.data)  # GPT's first values are too small to see much
        model.position_embedding.weight.copy_(np.zeros((16, 32), np.float32))
        return float(np.abs((model([[7, 3, 9, 1]]) - model([[9, 3, 7, 1]])).data[0, -1]).max())


one, two = change_by_swapping(1), change_by_swapping(2)
print(f"-> swapping changes the last logits by {one:.1e} with one layer, {two:.1e} with two")
assert one < 1e-3 * two

# %% [markdown]
# ## 3. Positions as rotations (hard)
#
# With sines and cosines of frequency w, a position is the point (cos wt, sin wt) on a circle. Going
# k places on turns it by the angle wk:
#
#     cos(w (t + k)) = cos(w t) cos(w k) - sin(w t) sin(w k)
#     sin(w (t + k)) = sin(w t) cos(w k) + cos(w t) sin(w k)
#
# The matrix has cos(wk) and sin(wk) in it, and no t: "k places on" is the same linear map
# everywhere, and so one matrix of weights can learn it. The dot product of two positions is the sum
# of cos(w(t - s)): it depends on their distance only.

# %%
WIDTH, LENGTH, K = 16, 50, 7
w = 10000.0 ** (-np.arange(0, WIDTH, 2) / WIDTH)  # (C/2,)
angle = np.arange(LENGTH)[:, None] * w  # (T, C/2)
p = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)  # (T, C)

c, s = np.diag(np.cos(w * K)), np.diag(np.sin(w * K))
rotation = np.block([[c, -s], [s, c]])  # (C, C)
error = np.abs(p[:-K] @ rotation.T - p[K:]).max()
print(f"-> moved by {K} places with one matrix: largest error {error:.1e}")
assert error < 1e-12
assert np.allclose(rotation @ rotation.T, np.eye(WIDTH))  # a rotation keeps lengths

dots = p @ p.T
assert all(np.ptp(np.diagonal(dots, offset)) < 1e-12 for offset in range(LENGTH))
print("-> the dot product of two positions depends on their distance only")
