# %% [markdown]
# # Solutions: LoRA

# %%
from __future__ import annotations

import numpy as np

import tinygrad_llm as tg

tg.manual_seed(0)

# %% [markdown]
# ## 1. Where it stops paying (easy)
#
# The change has r (in + out) numbers, the matrix in * out. They are equal at
#
#     r = in * out / (in + out)
#
# For GPT-2's qkv matrix, 768 to 2304, that is r = 576; at r = 8 the change has 1.4 % of the
# numbers.

# %%
before, after = 768, 2304
even = before * after / (before + after)
linear = tg.nn.Linear(before, after)
for rank in (8, int(even)):
    adapter = tg.nn.LoRALinear(linear, rank=rank)
    own = adapter.lora_a.size + adapter.lora_b.size
    print(f"-> rank {rank:3}: {own:9,} of {before * after:,} ({own / (before * after):.1%})")
    assert own == rank * (before + after)
assert even == 576

# %% [markdown]
# ## 2. Why B begins at zero and A does not (medium)
#
# With k = alpha / r and dW = dy^T x, the gradient a full matrix would get:
#
#     dB = k dW A^T
#     dA = k B^T dW
#
# B = 0 makes the change zero, and dA too, but not dB: the first step moves B, and from then on both
# learn. If A began at zero as well, both gradients would be zero forever. If neither did, the
# model would not start as it was.

# %%
x, dy = tg.Generator(0).normal((6, 5)), tg.Generator(1).normal((6, 4))
layer = tg.nn.LoRALinear(tg.nn.Linear(5, 4), rank=2, alpha=4)
layer(x).backward(dy)
a, k, dw = layer.lora_a.data.copy(), 4 / 2, dy.T @ x
print(f"-> at the start: largest dA {np.abs(layer.lora_a.grad).max():.1f}")
print(f"-> dB derived and found differ by {np.abs(layer.lora_b.grad - k * dw @ a.T).max():.1e}")
assert not layer.lora_a.grad.any()
assert np.allclose(layer.lora_b.grad, k * dw @ a.T, atol=1e-5)

with tg.no_grad():
    layer.lora_a.copy_(np.zeros((2, 5)))
layer.zero_grad()
layer(x).backward(dy)
print("-> both at zero: no gradient at all")
assert not layer.lora_a.grad.any()
assert not layer.lora_b.grad.any()

# %% [markdown]
# ## 3. The best change of rank r (hard)
#
# Of all matrices of rank r the nearest to C keeps the r largest singular values s_i of C (Eckart
# and Young, 1936), and what is left is
#
#     |C - B A|^2 = sum over i > r of s_i^2
#
# Gradient descent on A and B finds it, although the problem is not convex: the bad stationary
# points are saddles. So if the change that full fine-tuning would make has fast falling singular
# values, LoRA can reach it.

# %%
RANK = 2
u = np.linalg.qr(tg.Generator(2).normal((12, 6)))[0]
v = np.linalg.qr(tg.Generator(3).normal((8, 6)))[0]
s = np.array([5.0, 3.0, 1.0, 0.5, 0.2, 0.1])
change = (u * s) @ v.T  # (12, 8) with these singular values
b = tg.nn.Parameter(tg.tensor(np.zeros((12, RANK), np.float32)))
a = tg.nn.Parameter(tg.tensor(tg.Generator(4).normal((RANK, 8)) * 0.3))
optimizer = tg.optim.AdamW([a, b], lr=0.05, weight_decay=0.0)
schedule = tg.optim.CosineSchedule(optimizer, 600)
for _ in range(600):
    error = b @ a - change
    loss = (error * error).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
best = (s[RANK:] ** 2).sum()
print(f"-> squared error found {loss.item():.4f}, least possible {best:.4f}")
assert best - 1e-3 < loss.item() < best + 0.01
