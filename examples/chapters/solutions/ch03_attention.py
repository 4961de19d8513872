# %% [markdown]
# # Solutions: Chapter 3

# %%
from __future__ import annotations

import numpy as np

import tinygrad_llm as tg

F = tg.functional

# %% [markdown]
# ## 1. Without the division (easy)
#
# A product of two independent numbers of variance 1 has variance 1; D of them add up to variance D,
# so a standard deviation of 16 for D = 256. A softmax over scores that differ by 16 or so gives
# nearly all weight to one key. The softmax's gradient is p_i (dy_i - sum over j of p_j dy_j): with
# one p near 1 and the rest near 0 nothing is left, and the queries and keys do not learn.

# %%
D, T = 256, 32
q, k = tg.Generator(0).normal((2, 200, T, D))  # 200 sequences
scores = q @ k.swapaxes(-1, -2)  # (N, T, T)
dy = tg.Generator(1).normal(scores.shape)
sizes = {}
for name, scaled in (("not divided", scores), ("divided", scores / np.sqrt(D))):
    s = tg.tensor(scaled, requires_grad=True)
    weights = F.softmax(s)
    weights.backward(dy)
    sizes[name] = np.abs(s.grad).mean()
    print(
        f"-> {name}: scores deviate by {scaled.std():.1f}, largest weight "
        f"{weights.data.max(axis=-1).mean():.2f}, mean gradient {sizes[name]:.4f}"
    )
assert abs(scores.std() - 16) < 0.5
assert sizes["not divided"] < sizes["divided"] / 4

# %% [markdown]
# ## 2. A sliding window (medium)
#
# Position i sees j if j <= i and i - j < W. Results change only where something visible changes, so
# the gradient of the result at position 5 reaches positions 3, 4 and 5. With L layers on top of
# each other information still travels L (W - 1) places: that is how such models read long texts.

# %%
T, W = 8, 3
i, j = np.arange(T)[:, None], np.arange(T)[None, :]
visible = (j <= i) & (i - j < W)  # (T, T)
q, k, v = (tg.tensor(a, requires_grad=True) for a in tg.Generator(2).normal((3, 1, 1, T, 4)))
y = F.scaled_dot_product_attention(q, k, v, mask=visible)
y[0, 0, 5].sum().backward()
reached = np.flatnonzero(np.abs(v.grad[0, 0]).sum(axis=-1))
print(visible.astype(int))
print(f"-> the result at position 5 depends on positions {reached.tolist()}")
assert reached.tolist() == [3, 4, 5]
assert visible.sum(axis=1).tolist() == [1, 2, 3, 3, 3, 3, 3, 3]

# %% [markdown]
# ## 3. Backward by hand (hard)
#
# From the end to the beginning, with y = P v, P = softmax(s) by rows, s = q k^T / sqrt(D):
#
#     dv = P^T dy
#     dP = dy v^T
#     ds = P * (dP - r),      r_i = sum over j of dP_ij P_ij
#     dq = ds k / sqrt(D)
#     dk = ds^T q / sqrt(D)
#
# The sum in the softmax's line is one number per row. It equals the dot product of dy and y of that
# row, which is how the fused op gets it without the (T, T) matrix.

# %%
q, k, v, dy = tg.Generator(3).normal((4, 6, 5))  # (T, D) each
scale = 1 / np.sqrt(q.shape[1])
P = F.softmax(q @ k.T * scale).data
dv = P.T @ dy
dP = dy @ v.T
ds = P * (dP - (dP * P).sum(axis=1, keepdims=True))
dq, dk = ds @ k * scale, ds.T @ q * scale
assert np.allclose((dP * P).sum(axis=1), (dy * (P @ v)).sum(axis=1), atol=1e-5)

inputs = [tg.tensor(a[None, None], requires_grad=True) for a in (q, k, v)]
F.scaled_dot_product_attention(*inputs).backward(dy[None, None])
pairs = zip((dq, dk, dv), inputs, strict=True)
error = max(np.abs(mine - tensor.grad[0, 0]).max() for mine, tensor in pairs)
print(f"-> by hand and by the engine: the gradients differ by {error:.1e}")
assert error < 1e-5
