# %% [markdown]
# # Solutions: Chapter 1

# %%
from __future__ import annotations

import numpy as np

import tinygrad_llm as tg

SYMBOLS, LENGTH, MOST = 32, 32, 16


def repeated(random: tg.Generator, n: int, low: int = 4) -> np.ndarray:
    """n sequences (n, LENGTH) that repeat after low to MOST different symbols."""
    periods = random.integers(low, MOST + 1, (n,))
    return np.stack([np.resize(random.permutation(SYMBOLS)[:p], LENGTH) for p in periods])


def fit(model: tg.nn.Module, steps: int) -> float:
    """Train ``model.loss``; returns the mean loss of the last ten steps."""
    optimizer = tg.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    random, losses = tg.Generator(2), []
    for _ in range(steps):
        ids = repeated(random, 32)
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses[-10:]))


# %% [markdown]
# ## 1. The best possible guess (easy)
#
# After k different symbols, 32 - k are left, all equally likely: the best prediction gives each of
# them 1 / (32 - k) and the others nothing, and its loss is log(32 - k). The mean over k = 1 .. 15
# is 3.16, less than log 32 = 3.47, though nothing can be known of the next symbol. Anything lower
# would need luck.

# %%
ideal = np.mean([np.log(SYMBOLS - k) for k in range(1, MOST)])
ids = repeated(tg.Generator(0), 500, low=MOST)
losses = []
for row in ids:
    for k in range(1, MOST):
        logits = np.zeros(SYMBOLS)
        logits[row[:k]] = -1e9  # seen already
        losses.append(tg.functional.cross_entropy(logits[None], row[k : k + 1]).item())
print(f"-> derived {ideal:.4f}, measured {np.mean(losses):.4f}, log 32 = {np.log(SYMBOLS):.4f}")
assert abs(np.mean(losses) - ideal) < 1e-5

# %% [markdown]
# ## 2. Where an induction head looks (medium)
#
# With period p, the symbol at position t stood at t - p before, and what followed it stood at
# t - p + 1. So the head's weights lie on a diagonal p - 1 below the main one. All heads of both
# layers are measured; only the second layer can have such a head, since only there do the keys know
# which symbol came before.

# %%
tg.manual_seed(1)
model = tg.nn.GPT(tg.nn.GPTConfig(SYMBOLS, LENGTH, 2, n_head=2, n_embd=64, tie_weights=False))
with tg.no_grad():
    for table in (model.token_embedding, model.position_embedding):
        table.weight.copy_(25 * table.weight.data)
fit(model, 300)

period = MOST
t = np.arange(period, LENGTH)
weights = tg.explain.pictures.attention_weights(model, repeated(tg.Generator(7), 20, low=MOST))
on_diagonal = np.array([w[:, :, t, t - period + 1].mean(axis=(0, 2)) for w in weights])  # (L, H)
for layer, row in enumerate(on_diagonal):
    print(f"layer {layer}:", " ".join(f"head {h} {share:.2f}" for h, share in enumerate(row)))
print(f"-> the best head gives {on_diagonal.max():.0%} of its weight to the place it should")
assert on_diagonal.max() > 0.5
assert on_diagonal[1].max() > on_diagonal[0].max()

# %% [markdown]
# ## 3. One layer, helped (hard)
#
# The first layer's work is to write into each position which symbol stood before it. If the input
# carries that already, one layer is enough. The previous symbol gets a table of its own, and is
# added like a position.


# %%
class Helped(tg.nn.Module):
    """A GPT with one layer whose input also says which symbol came before."""

    def __init__(self) -> None:
        width = 64
        self.symbol, self.before = tg.nn.Embedding(SYMBOLS, width), tg.nn.Embedding(SYMBOLS, width)
        self.position = tg.nn.Embedding(LENGTH, width)
        self.block = tg.nn.TransformerBlock(width, 2)
        self.norm, self.head = tg.nn.LayerNorm(width), tg.nn.Linear(width, SYMBOLS)

    def forward(self, ids: np.ndarray) -> tg.Tensor:
        """ids (B, T) -> logits (B, T, V)."""
        previous = np.roll(ids, 1, axis=1)
        previous[:, 0] = ids[:, 0]  # nothing stands before the first
        x = self.symbol(ids) + self.before(previous) + self.position(np.arange(ids.shape[1]))
        return self.head(self.norm(self.block(x)))

    def loss(self, ids: np.ndarray, targets: np.ndarray) -> tg.Tensor:
        """Mean cross-entropy."""
        return tg.functional.cross_entropy(self(ids), targets)


tg.manual_seed(1)
helped = Helped()
fit(helped, 300)
new = repeated(tg.Generator(4), 100, low=MOST)
with tg.no_grad():
    after = tg.functional.cross_entropy(helped(new[:, :-1]), new[:, 1:], reduction="none")
after = after.data[:, MOST:].mean()
print(f"-> one layer, told what came before: loss {after:.3f} after the repetition")
assert after < 0.5
