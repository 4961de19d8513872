# %% [markdown]
# # Solutions: Chapter 5

# %%
from __future__ import annotations

import math

import numpy as np

import tinygrad_llm as tg

F = tg.functional

# %% [markdown]
# ## 1. Temperature (easy)
#
# With p the probabilities at temperature 1, x / T in place of x gives
#
#     q_i = e^(x_i / T) / s = p_i^(1 / T) / s'
#
# For T towards 0 the largest probability takes everything. For T towards infinity every power
# becomes p^0 = 1, and all tokens are equally likely. In between the order stays, and the entropy
# rises from 0 to log V.

# %%
logits = np.array([2.0, 1.0, 0.5, 0.0, -1.0])
p = F.softmax(logits).data.astype(np.float64)
entropies = []
for T in (0.02, 0.5, 1.0, 2.0, 1000.0):
    q = p ** (1 / T) / (p ** (1 / T)).sum()
    assert np.allclose(q, F.softmax(logits / T).data, atol=1e-5)
    entropies.append(-(q * np.log(q + 1e-300)).sum())
    print(f"-> temperature {T:6}: largest probability {q.max():.3f}, entropy {entropies[-1]:.3f}")
assert np.all(np.diff(entropies) > 0)
assert entropies[0] < 1e-3
assert abs(entropies[-1] - math.log(5)) < 1e-3

# %% [markdown]
# ## 2. What is learned first (medium)
#
# All logits the same at every position: x = b. The gradient of the mean loss is
#
#     db = softmax(b) - f,      f_i = share of token i among the targets
#
# It is zero when softmax(b) = f, for example b_i = log f_i. The loss is then the mean of - log f_i,
# weighted by f_i: the unigram entropy. How frequent the tokens are is learned first, since no
# position has to look at another for it: the curve of the chapter crosses the line "unigram" in its
# first fifty steps.

# %%
frequent_first = np.array([0.4, 0.65, 0.8, 0.9, 0.96, 1.0])  # running sums of the shares
targets = np.searchsorted(frequent_first, tg.Generator(1).uniform((500,)))
f = np.bincount(targets, minlength=6) / len(targets)
entropy = -(f * np.log(f)).sum()
b = tg.tensor(np.log(f), requires_grad=True)
same = np.zeros((500, 6)) + b  # one row of logits for every position
loss = F.cross_entropy(same, targets)
loss.backward()
print(f"-> loss {loss.item():.6f}, unigram entropy {entropy:.6f}")
print(f"-> largest gradient there: {np.abs(b.grad).max():.1e}")
assert abs(loss.item() - entropy) < 1e-6
assert np.abs(b.grad).max() < 1e-6

# %% [markdown]
# ## 3. The floor of a batch (hard)
#
# At the first position of both windows the model sees only the token 7, and must predict 1 once and
# 2 once. The best it can do is one half each: log 2 there, and 0 at all later positions, where the
# windows differ. The mean over T = 8 positions is log 2 / 8 = 0.0866. A model that gets below such
# a floor sees its targets; one that stays far above it has a mistake in model or optimizer. It is
# the cheapest test of a training loop.

# %%
T = 8
windows = np.array([[7, 1, 5, 3, 6, 8, 2, 4, 9], [7, 2, 8, 6, 1, 3, 9, 5, 4]])
inputs, targets = windows[:, :-1], windows[:, 1:]  # (2, T) each
tg.manual_seed(0)
model = tg.nn.GPT(tg.nn.GPTConfig(10, context_length=T, n_layer=2, n_head=2, n_embd=32))
optimizer = tg.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
for _ in range(300):
    loss = model.loss(inputs, targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
floor = math.log(2) / T
print(f"-> loss after 300 steps {loss.item():.4f}, floor {floor:.4f}")
assert floor - 1e-4 < loss.item() < floor + 0.01
