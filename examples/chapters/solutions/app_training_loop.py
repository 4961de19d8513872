# %% [markdown]
# # Solutions: The training loop

# %%
from __future__ import annotations

import math

import numpy as np

import tinygrad_llm as tg

# %% [markdown]
# ## 1. The schedule as a formula (easy)
#
# In the warm-up step i has (i + 1) / (w + 1) of the peak. After it, with u rising from 0 to 1,
#
#     lr = low + (peak - low) (1 + cos(pi u)) / 2,      u = (i - w) / (n - w)
#
# The cosine is flat at both ends: it stays high for long, and lands softly.

# %%
PEAK, LOW, WARMUP, STEPS = 1e-2, 1e-3, 30, 150


def rate(i: int) -> float:
    """The learning rate of step i."""
    if i < WARMUP:
        return PEAK * (i + 1) / (WARMUP + 1)
    u = (i - WARMUP) / (STEPS - WARMUP)
    return LOW + (PEAK - LOW) * (1 + math.cos(math.pi * u)) / 2


w = tg.nn.Parameter(tg.tensor([0.0]))
optimizer = tg.optim.AdamW([w], lr=PEAK)
schedule = tg.optim.CosineSchedule(optimizer, STEPS, warmup=WARMUP, min_lr=LOW)
difference = max(abs(rate(i) - schedule.lr_at(i)) for i in range(STEPS))
print(f"-> formula and schedule differ by {difference:.1e}")
assert difference < 1e-12

# %% [markdown]
# ## 2. The size of AdamW's first step (medium)
#
# In the first step m = (1 - b1) g and v = (1 - b2) g^2, and the bias correction divides by exactly
# these factors. So the step is lr * g / (|g| + eps) = lr * sign(g), for a gradient of 0.001 as for
# one of 1000. Scaling the loss changes nothing with Adam and everything with SGD. A weight whose
# gradient is pure noise takes a full step, too: hence warm-up.

# %%
g = np.array([1e-3, -0.5, 40.0], np.float32)
for scale in (1.0, 1000.0):
    moved = {}
    for kind in (tg.optim.AdamW, tg.optim.SGD):
        w = tg.nn.Parameter(tg.tensor(np.zeros(3, np.float32)))
        optimizer = kind([w], lr=0.01, weight_decay=0.0)
        (w * (scale * g)).sum().backward()  # its gradient is scale * g
        optimizer.step()
        moved[kind.__name__] = w.data.copy()
    print(f"-> loss times {scale:6}: AdamW moves by {moved['AdamW']}, SGD by {moved['SGD']}")
    assert np.allclose(moved["AdamW"], -0.01 * np.sign(g), rtol=1e-4)
    assert np.allclose(moved["SGD"], -0.01 * scale * g)

# %% [markdown]
# ## 3. AdamW in eight lines (hard)
#
# In step t, with m and v running means that begin at 0:
#
#     m = b1 m + (1 - b1) g
#     v = b2 v + (1 - b2) g^2
#     w = w - lr wd w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
#
# The decay stands beside the division, not in the gradient: that is the W of AdamW. Put into g, it
# would be divided by sqrt(v) too, and weights with large gradients would hardly decay.

# %%
LR, B1, B2, EPS, DECAY = 0.05, 0.9, 0.99, 1e-8, 0.1
target = np.array([1.0, -2.0, 3.0])
theirs = tg.nn.Parameter(tg.tensor(np.ones(3), dtype="float64"))
optimizer = tg.optim.AdamW([theirs], lr=LR, betas=(B1, B2), eps=EPS, weight_decay=DECAY)
mine, m, v = np.ones(3), np.zeros(3), np.zeros(3)
for t in range(1, 51):
    error = theirs - target
    optimizer.zero_grad()
    (error * error).sum().backward()
    optimizer.step()

    g = 2 * (mine - target)
    m = B1 * m + (1 - B1) * g
    v = B2 * v + (1 - B2) * g**2
    mine = mine - LR * DECAY * mine
    mine = mine - LR * (m / (1 - B1**t)) / (np.sqrt(v / (1 - B2**t)) + EPS)
print(f"-> after 50 steps the weights differ by {np.abs(mine - theirs.data).max():.1e}")
assert np.allclose(mine, theirs.data, atol=1e-12)
