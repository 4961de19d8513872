# %% [markdown]
# # Chapter 4: The GPT
#
# Around the attention: layer normalization, a feed-forward network with GELU, and shortcuts that
# let the gradient pass. A block has all of them; a GPT is a stack of blocks between two tables.
#
# **Expect**: with shortcuts the first layer gets a gradient as large as the last one's, without
# them almost none; GPT-2's smallest size comes out at 124,439,808 parameters; an untrained model
# is exactly as uncertain as one that guesses. Some seconds.

# %%
from __future__ import annotations

import math

import numpy as np

import tinygrad_llm as tg

F, pictures = tg.functional, tg.explain.pictures
tg.manual_seed(123)

# %% [markdown]
# ## Layer normalization
#
# Each row is brought to mean 0 and variance 1, whatever came before, then scaled and shifted by
# numbers that are learned. Rows do not touch each other, unlike in batch normalization.

# %%
rows = tg.tensor(tg.Generator(0).normal((4, 64)) * 50 + 7)
normal = tg.nn.LayerNorm(64)(rows)
print(
    f"-> before: mean {rows.data.mean():.1f}, variance {rows.data.var():.0f}; "
    f"after: mean {abs(normal.data.mean()):.4f}, variance {normal.data.var():.4f}"
)
assert np.abs(normal.data.mean(axis=1)).max() < 1e-5
assert np.abs(normal.data.var(axis=1) - 1).max() < 1e-3

# %% [markdown]
# ## GELU and ReLU
#
# ReLU has slope 0 for every negative number: what is there gets no gradient at all. GELU bends.

# %%
x = tg.tensor(np.array([-2.0, -1.0, -0.1, 0.0, 0.1, 1.0, 2.0]), requires_grad=True)
for name in ("relu", "gelu"):
    x.grad = None
    y = getattr(F, name)(x)
    y.sum().backward()
    print(f"{name}: ", " ".join(f"{v:6.3f}" for v in y.data))
    print("slope:", " ".join(f"{v:6.3f}" for v in x.grad))
assert np.count_nonzero(x.grad) == 7

# %% [markdown]
# ## Shortcuts
#
# Eight layers, the input added to the output of each, or not (the book's figure 4.12 with more of
# them). Without shortcuts the gradient is multiplied by every layer on its way back, and shrinks.


# %%
class Deep(tg.nn.Module):
    """Layers of Linear and GELU, each with or without a shortcut."""

    def __init__(self, shortcut: bool) -> None:
        self.shortcut = shortcut
        self.layers = tg.nn.ModuleList(tg.nn.Linear(16, 16) for _ in range(8))

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        """x (B, 16) -> (B, 16)."""
        for layer in self.layers:
            y = F.gelu(layer(x))
            x = x + y if self.shortcut else y
        return x


shares, sizes = {}, {}
for shortcut in (False, True):
    tg.manual_seed(1)
    deep = Deep(shortcut)
    out = deep(tg.Generator(3).normal((8, 16)))
    (out * out).mean().backward()
    norms = [float(np.abs(layer.weight.grad).mean()) for layer in deep.layers]
    shares[shortcut], sizes[shortcut] = norms[0] / norms[-1], norms
    print("shortcuts" if shortcut else "none     ", " ".join(f"{n:.1e}" for n in norms))
print(
    f"-> first layer's gradient / last layer's: {shares[False]:.1e} without shortcuts, "
    f"{shares[True]:.2f} with"
)
assert shares[False] < 0.01
assert shares[True] > 0.1


# %%
def activations_and_gradients(figure) -> None:
    """GELU, ReLU and their slopes; the gradient's size in each of the eight layers."""
    curves, layers = figure.subplots(1, 2)
    for name, color in (("relu", "C0"), ("gelu", "C1")):
        at = tg.tensor(np.linspace(-3, 3, 301), requires_grad=True)
        y = getattr(F, name)(at)
        y.sum().backward()
        curves.plot(at.data, y.data, color, label=name)
        curves.plot(at.data, at.grad, color, ls="--", label=f"slope of {name}")
    curves.set(xlabel="x", ylim=(-0.4, 2))
    curves.legend()
    for shortcut, label in ((True, "with shortcuts"), (False, "without")):
        layers.semilogy(range(1, 9), sizes[shortcut], "o-", label=label)
    layers.set(xlabel="layer", ylabel="mean size of the gradient", ylim=(1e-8, 1e1))
    layers.legend()


pictures.show(
    activations_and_gradients,
    "Left: GELU bends below zero where ReLU is flat, and its slope dips below zero and rises above "
    "one. Right: without shortcuts the gradient shrinks by powers of ten towards the first layer; "
    "with them it stays.",
    size=(8, 3.2),
)

# %% [markdown]
# ## The block and the model

# %%
config = tg.nn.GPTConfig(vocab_size=200, context_length=32, n_layer=2, n_head=4, n_embd=64)
model = tg.nn.GPT(config)
print(model)
ids = tg.Generator(4).integers(0, 200, (2, 32))
assert model.blocks[0](tg.tensor(tg.Generator(5).normal((2, 32, 64)))).shape == (2, 32, 64)
assert model(ids).shape == (2, 32, 200)

# %% [markdown]
# Untrained, it knows nothing: its loss is that of guessing among 200 tokens, log 200.

# %%
loss = model.loss(ids, tg.Generator(6).integers(0, 200, (2, 32)))
print(f"-> loss {loss.item():.3f}, guessing {math.log(200):.3f}")
assert abs(loss.item() - math.log(200)) < 0.1

# %% [markdown]
# ## How large
#
# Counted by formula, so nothing needs to be built. The book builds GPT-2 without tied weights
# first: the output layer is then a table of its own, 38.6 million numbers more.

# %%
SIZES = {
    "124M": (12, 12, 768),
    "355M": (24, 16, 1024),
    "774M": (36, 20, 1280),
    "1558M": (48, 25, 1600),
}
for name, (layers, heads, width) in SIZES.items():
    size = tg.nn.GPTConfig(50257, 1024, layers, heads, width)
    n = tg.nn.num_parameters_of(size)
    print(f"-> GPT-2 {name:>5}: {n:13,} parameters, {n * 4 / 2**20:6,.0f} MiB in float32")
gpt2 = tg.nn.GPTConfig(50257, 1024, 12, 12, 768)
untied = tg.nn.GPTConfig(50257, 1024, 12, 12, 768, qkv_bias=False, tie_weights=False)
print(f"-> GPT-2 124M untied, without qkv bias: {tg.nn.num_parameters_of(untied):,}")
assert tg.nn.num_parameters_of(gpt2) == 124_439_808
assert tg.nn.num_parameters_of(untied) == 163_009_536  # as in the book
assert tg.nn.num_parameters_of(config) == model.num_parameters()

# %% [markdown]
# ## Writing
#
# Read the prompt, take the most probable next token, append it, again. With a cache the keys and
# values of what was read already are kept: the same tokens come out, and each step reads one token
# instead of all.

# %%
prompt = [5, 17, 3]
with_cache = tg.generate(model, prompt, 10, temperature=0.0)
without = tg.generate(model, prompt, 10, temperature=0.0, use_cache=False)
print(with_cache.tolist())
assert (with_cache == without).all()

# %% [markdown]
# Nonsense, of course: it has read nothing yet. That is chapter 5.

# %% [markdown]
# ## Exercises
#
# Solutions: `examples/chapters/solutions/ch04_gpt.py`.
#
#
# ### 1. Counting a block (easy)
#
# Derive the number of parameters of a `TransformerBlock` of width C with all biases, as a
# polynomial in C. What changes when the number of heads is doubled, what when C is? Check with
# `num_parameters`.
#
# ### 2. The loss at the start (medium)
#
# Why is the loss of an untrained GPT log V? Now let its logits be independent and normal with
# deviation s: derive the loss, to second order in s, and check it for s = 0.5, 1 and 2. What would
# you suspect if your own model began with a loss of 24, and what if it began with 2?
#
# ### 3. An op of your own: unit length (hard)
#
# Write y = x / |x| (by rows) as a `tg.Function` with its backward, and let `tg.gradcheck` judge it.
# Then show that dx is at right angles to x, say why that must be so, and which two such directions
# LayerNorm has.
