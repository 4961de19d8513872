# %% [markdown]
# # Solutions: Chapter 7

# %%
from __future__ import annotations

import math

import numpy as np

import tinygrad_llm as tg

F = tg.functional
IGNORE = -100

# %% [markdown]
# ## 1. The gradient behind the mask (easy)
#
# The loss is the mean over the positions that count, here three of five. So a counted row's
# gradient is (softmax(x) - one_hot(target)) / 3, and a masked row's is exactly 0: nothing that the
# user says is imitated. The masked positions are not wasted, though: the answer's positions attend
# to them, so the weights do learn to *read* the question.

# %%
x = tg.tensor(tg.Generator(0).normal((5, 4)), requires_grad=True)
targets = np.array([IGNORE, IGNORE, 2, 0, 3])
F.cross_entropy(x, targets, ignore_index=IGNORE).backward()
counted = targets != IGNORE
predicted = (F.softmax(x.data).data - np.eye(4)[np.where(counted, targets, 0)]) / counted.sum()
predicted[~counted] = 0
print(x.grad.round(3))
print(f"-> predicted and found differ by {np.abs(x.grad - predicted).max():.1e}")
assert np.allclose(x.grad, predicted, atol=1e-6)
assert not x.grad[:2].any()

# %% [markdown]
# ## 2. The slope of DPO (medium)
#
# With m = log-ratio of the better answer less that of the worse one, and s the logistic function,
#
#     L = - log s(beta m),      dL/dm = - beta s(- beta m)
#
# At the start policy and reference are equal, so m = 0, L = log 2, and the slope is - beta / 2 for
# every pair. It vanishes for pairs that are ranked right by a wide margin, and tends to - beta for
# those ranked wrong: the hard pairs drive the training.

# %%
beta = 0.1
for m in (-30.0, 0.0, 30.0):
    margin = tg.tensor(m, requires_grad=True, dtype="float64")
    loss = (1 + (-beta * margin).exp()).log()  # -log s(z) = log(1 + e^(-z))
    loss.backward()
    derived = -beta / (1 + math.exp(beta * m))
    print(f"-> margin {m:5}: loss {loss.item():.3f}, slope {float(margin.grad):.4f}")
    assert abs(float(margin.grad) - derived) < 1e-12
    assert m or abs(loss.item() - math.log(2)) < 1e-12

# %% [markdown]
# ## 3. Accumulating batches of different length (hard)
#
# Let piece i have n_i counted tokens and mean loss L_i. The loss of the whole batch is the mean
# over all tokens,
#
#     L = (n_1 L_1 + n_2 L_2) / (n_1 + n_2)
#
# so each piece must be weighted by n_i / n, not by 1/2. With equal weights every token of a short
# answer counts more than one of a long answer. Pieces of one length, as in pretraining, hide the
# mistake; the libraries of instruction tuning had it for years.

# %%
tg.manual_seed(0)
model = tg.nn.GPT(tg.nn.GPTConfig(20, context_length=8, n_layer=1, n_head=2, n_embd=16))
ids, targets = tg.Generator(1).integers(0, 20, (2, 4, 8))
targets[:2, 1:] = IGNORE  # two short answers: 1 token each; the other two have 8


def gradients(weights: list[float], pieces: list[slice]) -> dict[str, np.ndarray]:
    """Of the weighted sum of the pieces' losses."""
    model.zero_grad()
    for weight, piece in zip(weights, pieces, strict=True):
        (weight * model.loss(ids[piece], targets[piece], IGNORE)).backward()
    return {name: p.grad.copy() for name, p in model.named_parameters()}


pieces = [slice(0, 2), slice(2, 4)]
counts = [int((targets[piece] != IGNORE).sum()) for piece in pieces]  # 2 and 16
whole = gradients([1.0], [slice(0, 4)])
by_tokens = gradients([n / sum(counts) for n in counts], pieces)
by_halves = gradients([0.5, 0.5], pieces)
for name, found in (("by tokens", by_tokens), ("by halves", by_halves)):
    off = math.sqrt(sum(float(((found[n] - whole[n]) ** 2).sum()) for n in whole))
    size = math.sqrt(sum(float((g**2).sum()) for g in whole.values()))
    print(f"-> weighted {name}: the gradient is off by {off / size:.1e} of its length")
    assert (off / size < 1e-5) == (name == "by tokens")
