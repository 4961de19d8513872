# %% [markdown]
# # Appendix: Bells and whistles of the training loop
#
# Warm-up, cosine decay, clipping, weight decay, accumulation: each is one line of the loop. This
# appendix shows what each does, and what happens without it.
#
# **Expect**: one bad batch ruins a model that is trained without clipping, and one with clipping
# hardly notices; accumulated gradients equal those of the large batch to seven digits.
# Some seconds.

# %%
from __future__ import annotations

import math

import numpy as np

import tinygrad_llm as tg

text = "".join(document.text for document in tg.data.corpora.load("pydoc"))[:120_000]
tokenizer = tg.tokenizers.CharTokenizer.train(text)
ids = np.array(tokenizer.encode(text))
CONTEXT, STEPS = 32, 150


def new_model() -> tg.nn.GPT:
    """The same small GPT each time."""
    tg.manual_seed(0)
    return tg.nn.GPT(tg.nn.GPTConfig(tokenizer.vocab_size, CONTEXT, n_layer=2, n_head=2, n_embd=64))


def new_loader() -> tg.data.BatchLoader:
    """The same batches in the same order each time."""
    return tg.data.BatchLoader(tg.data.TokenDataset(ids, CONTEXT), batch_size=16, seed=0)


# %% [markdown]
# ## Warm-up
#
# AdamW divides each gradient by its usual size. In the first step that size is known from one
# gradient only, so every weight moves by the learning rate itself, however small its gradient. GPT
# weights begin at 0.02; with a learning rate of 0.01 the first step would move each by half of
# that. So the learning rate rises from zero.


# %%
def first_step(rate: float) -> float:
    """How far a step moves the weights, relative to their size."""
    model = new_model()
    weight = model.blocks[0].attention.qkv.weight
    before = weight.data.copy()
    optimizer = tg.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    model.loss(*new_loader().next_batch()).backward()
    optimizer.step()
    return float(np.linalg.norm(weight.data - before) / np.linalg.norm(before))


cold, warm = first_step(1e-2), first_step(1e-2 / 30)
print(f"-> the first step moves a matrix by {cold:.0%} of its size, with warm-up by {warm:.1%}")
assert 0.3 < cold < 0.7
assert warm < 0.05

# %% [markdown]
# ## Decay
#
# Gradients of batches are noisy, and steps of one size never come to rest: they jump about the
# minimum, the wider the larger they are. Least squares with noise shows it, since the minimum is
# known: the weights (1, 2, 3, 4).


# %%
def distance_from_minimum(decay: bool) -> float:
    """Where 400 steps of SGD end."""
    random, truth = tg.Generator(0), np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    w = tg.nn.Parameter(tg.tensor(np.zeros(4, np.float32)))
    optimizer = tg.optim.SGD([w], lr=0.1)
    schedule = tg.optim.CosineSchedule(optimizer, 400, min_lr=1e-3)
    for _ in range(400):
        x = random.normal((8, 4))
        error = x @ w - (x @ truth + random.normal((8,)))
        optimizer.zero_grad()
        (error * error).mean().backward()
        optimizer.step()
        if decay:
            schedule.step()
    return float(np.linalg.norm(w.data - truth))


constant, decayed = distance_from_minimum(False), distance_from_minimum(True)
print(f"-> distance from the minimum: {constant:.3f} with constant steps, {decayed:.3f} with decay")
assert decayed < constant / 2

optimizer = tg.optim.AdamW(new_model().parameters(), lr=1e-2)
schedule = tg.optim.CosineSchedule(optimizer, STEPS, warmup=30, min_lr=1e-3)
rates = [schedule.lr_at(step) for step in range(STEPS)]
for step in range(0, STEPS, 15):
    print(f"step {step:3}  {rates[step]:.5f} {'#' * round(4000 * rates[step])}")
assert abs(max(rates) - 1e-2) < 1e-9
assert rates[0] < 1e-3
assert abs(rates[-1] - 1e-3) < 1e-4

# %% [markdown]
# ## Clipping
#
# The gradient of all parameters together is one long vector. If it is longer than 1 it is made
# that long; its direction stays.

# %%
model = new_model()
(model.loss(*new_loader().next_batch()) * 50.0).backward()
before = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters()))
norm = tg.optim.clip_grad_norm(list(model.parameters()), 1.0)
after = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters()))
print(f"-> norm {before:.1f} before clipping, {after:.3f} after")
assert abs(float(norm) - before) < 1e-3 * before
assert abs(after - 1) < 1e-3

# %% [markdown]
# What it is for: one bad batch (a damaged page, a rare overflow) can undo all that was learned. At
# step 60 of this run the gradient is a thousand times too large.


# %%
def train_through_a_bad_batch(limit: float) -> list[float]:
    """Losses of 120 steps of SGD with clipping at ``limit``."""
    model, loader = new_model(), new_loader()
    optimizer = tg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for step in range(120):
        loss = model.loss(*loader.next_batch())
        losses.append(loss.item())
        optimizer.zero_grad()
        (loss * (1000.0 if step == 60 else 1.0)).backward()
        tg.optim.clip_grad_norm(optimizer, limit)
        optimizer.step()
    return losses


through = {}
for limit in (math.inf, 1.0):
    with np.errstate(all="ignore"):  # without clipping numbers overflow
        losses = through[limit] = train_through_a_bad_batch(limit)
    print(
        f"-> clipping at {limit}: loss {losses[60]:.2f} at the bad batch, "
        f"{np.mean(losses[61:71]):.2f} in the ten steps after it"
    )
    harmed = np.mean(losses[61:71]) > losses[60] + 1
    assert harmed == (limit == math.inf)


# %%
def rates_and_losses(figure) -> None:
    """The schedule, and the two runs through the bad batch."""
    schedule, runs = figure.subplots(1, 2)
    schedule.plot(rates)
    schedule.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
    for limit, label in ((math.inf, "without clipping"), (1.0, "clipped at 1")):
        runs.semilogy(through[limit], label=label)
    runs.axvline(60, color="0.6", ls=":")
    runs.annotate("bad batch", (60, 1.3), (4, 0), textcoords="offset points")
    runs.set(xlabel="step", ylabel="loss", ylim=(1, 1e4))
    runs.legend()


tg.explain.pictures.show(
    rates_and_losses,
    "Left: the learning rate rises in a straight line for 30 steps and falls along a cosine. "
    "Right: at the bad batch the loss jumps by powers of ten without clipping; "
    "with it nothing is seen.",
    size=(8, 3),
)

# %% [markdown]
# ## All of it
#
# The loop that trains a GPT, in ten lines.


# %%
def train(peak: float = 3e-3) -> list[float]:
    """Losses of a run with warm-up, decay and clipping."""
    model, loader = new_model(), new_loader()
    optimizer = tg.optim.AdamW(tg.optim.decay_groups(model, 0.1), lr=peak)
    schedule = tg.optim.CosineSchedule(optimizer, STEPS, warmup=30, min_lr=peak / 10)
    losses = []
    for _ in range(STEPS):
        loss = model.loss(*loader.next_batch())
        optimizer.zero_grad()
        loss.backward()
        tg.optim.clip_grad_norm(optimizer, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


losses = train()
print(" ".join(f"{loss:.2f}" for loss in losses[::15]))
print(f"-> loss {losses[0]:.2f} at the beginning, {np.mean(losses[-10:]):.2f} at the end")
assert np.mean(losses[-10:]) < 2.9

# %% [markdown]
# ## Accumulation
#
# A batch that does not fit into memory is cut into pieces. Gradients add up in `.grad`, so the
# mean over the large batch is the sum over the pieces, each divided by their number.

# %%
model = new_model()
inputs, targets = new_loader().next_batch()  # 16 windows
model.loss(inputs, targets).backward()
whole = {name: p.grad.copy() for name, p in model.named_parameters()}
model.zero_grad()
for piece in range(4):
    part = slice(4 * piece, 4 * piece + 4)
    (model.loss(inputs[part], targets[part]) / 4).backward()
difference = max(np.abs(whole[name] - p.grad).max() for name, p in model.named_parameters())
print(f"-> gradients of 1 x 16 and 4 x 4 windows differ by {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# ## Weight decay
#
# Matrices are pulled towards zero a little at each step; biases and norms are not, since they
# decide scale and position, not which input matters.

# %%
decaying, others = tg.optim.decay_groups(model, 0.1)
counts = [len(list(group["params"])) for group in (decaying, others)]
print(f"-> {counts[0]} parameters decay, {counts[1]} do not")
assert counts[0] == sum(p.ndim == 2 for p in model.parameters())
assert sum(counts) == len(list(model.parameters()))

# %% [markdown]
# ## Reproducible
#
# Order, dropout and first values come from seeds, so a run can be repeated bit by bit. So can one
# that was interrupted: `examples/train_gpt.py --resume` goes on with the same bits.

# %%
assert train() == losses
print("-> two runs with the same seed: the same losses, bit for bit")

# %% [markdown]
# ## Exercises
#
# Solutions: `examples/chapters/solutions/app_training_loop.py`.
#
#
# ### 1. The schedule as a formula (easy)
#
# Write the learning rate of step i as a function of peak, lowest rate, warm-up and number of steps,
# and compare it with `CosineSchedule` at all 150 steps.
#
# ### 2. The size of AdamW's first step (medium)
#
# The gradients of three weights are 0.001, -0.5 and 40. Derive how far AdamW moves each in its
# first step with learning rate 0.01 and no decay. What if the loss is multiplied by 1000? And with
# SGD?
#
# ### 3. AdamW in eight lines (hard)
#
# Write AdamW in NumPy, with bias correction and weight decay, and let it walk beside
# `tg.optim.AdamW` for 50 steps on a function whose gradient you can write down. The weights must
# agree to twelve digits. Why does the decay not stand in the gradient?
