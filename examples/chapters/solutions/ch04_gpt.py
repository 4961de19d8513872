# %% [markdown]
# # Solutions: Chapter 4

# %%
from __future__ import annotations

import math

import numpy as np

import tinygrad_llm as tg

F = tg.functional
tg.manual_seed(0)

# %% [markdown]
# ## 1. Counting a block (easy)
#
# Weights and biases, with C the width:
#
#     norms            2 * 2 C
#     qkv              3 C * C + 3 C
#     projection       C * C + C
#     feed-forward     4 C * C + 4 C,  C * 4 C + C
#     together         12 C^2 + 13 C
#
# Two thirds of the weights are in the feed-forward network, and doubling C makes a block four times
# as large, while doubling the number of heads changes nothing.

# %%
for width, heads in ((64, 4), (64, 8), (768, 12)):
    block = tg.nn.TransformerBlock(width, heads)
    derived = 12 * width**2 + 13 * width
    print(f"-> width {width}, {heads} heads: {derived:,} parameters")
    assert block.num_parameters() == derived

# %% [markdown]
# ## 2. The loss at the start (medium)
#
# The loss is log(sum over j of e^(x_j)) - x_target. With logits near 0 the sum is V, and the loss
# is log V. For independent normal logits of deviation s, a mean of e^x is e^(s^2 / 2), so the sum
# is about V e^(s^2 / 2); the target's own logit is 0 on average:
#
#     L = log V + s^2 / 2
#
# A loss far above log V before the first step therefore means that the first values are too large.
# A loss far *below* it means that the model sees its targets.

# %%
V = 2000
for s in (0.1, 0.5, 1.0, 2.0):
    logits = tg.Generator(0).normal((400, V)) * s
    loss = F.cross_entropy(logits, tg.Generator(1).integers(0, V, (400,))).item()
    print(f"-> deviation {s}: loss {loss:.3f}, formula {math.log(V) + s * s / 2:.3f}")
    assert abs(loss - math.log(V) - s * s / 2) < 0.15

model = tg.nn.GPT(tg.nn.GPTConfig(200, context_length=32, n_layer=2, n_head=4, n_embd=64))
ids, targets = tg.Generator(2).integers(0, 200, (2, 8, 32))
before = model.loss(ids, targets).item()
with tg.no_grad():
    model.token_embedding.weight.copy_(20 * model.token_embedding.weight.data)  # the output layer
after = model.loss(ids, targets).item()
print(f"-> log V {math.log(200):.2f}; loss {before:.2f}, with 20 times the weights {after:.2f}")
assert abs(before - math.log(200)) < 0.1
assert after > before + 2

# %% [markdown]
# ## 3. An op of your own: unit length (hard)
#
# With n = |x| the quotient rule gives dy_i / dx_j = (delta_ij - y_i y_j) / n, so
#
#     dx = (dy - y (y . dy)) / n
#
# It is at right angles to x: making x longer changes nothing in y, so there is no slope in that
# direction. LayerNorm has the same property twice, for stretching and for adding a constant.


# %%
class UnitLength(tg.Function):
    """y = x / |x|, by rows."""

    def forward(ctx, x):
        length = ctx.xp.sqrt((x * x).sum(axis=-1, keepdims=True))
        y = x / length
        ctx.save(y, length)
        return y

    def backward(ctx, dy):
        y, length = ctx.saved
        return (dy - y * (y * dy).sum(axis=-1, keepdims=True)) / length


x = tg.tensor(tg.Generator(3).normal((4, 5)), requires_grad=True)
report = tg.gradcheck(UnitLength.apply, [x])
print(f"-> gradient check: largest error {report.error:.1e}")
assert report.error < 1e-6

dy = tg.Generator(4).normal((4, 5))
UnitLength.apply(x).backward(dy)
print(f"-> dot product of dx and x: {np.abs((x.grad * x.data).sum(axis=1)).max():.1e}")
assert np.abs((x.grad * x.data).sum(axis=1)).max() < 1e-5

x.grad = None
F.layer_norm(x, np.ones(5, np.float32), np.zeros(5, np.float32)).backward(dy)
centred = x.data - x.data.mean(axis=1, keepdims=True)
assert np.abs((x.grad * centred).sum(axis=1)).max() < 1e-3
assert np.abs(x.grad.sum(axis=1)).max() < 1e-5
