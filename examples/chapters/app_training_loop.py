# %% [markdown]
# # Appendix: Bells and whistles of the training loop
#
# Warm-up, cosine decay, clipping, weight decay, accumulation: each is one line of the loop. This
# appendix shows what each does, and what happens without.
#
# **Expect**: without warm-up and clipping a high learning rate ruins the model in the first steps;
# with them the same rate trains well. Accumulated gradients equal those of the large batch to
# seven digits. Half a minute on one core.

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


# %% [markdown]
# ## Learning-rate schedule
#
# AdamW divides each step by how large gradients usually are. In the first steps it does not know
# that yet, so they should be small (**warm-up**). At the end small steps settle into the minimum
# that large ones jump across (**cosine decay**).

# %%
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
loader = tg.data.BatchLoader(tg.data.TokenDataset(ids, CONTEXT), batch_size=16, seed=0)
loss = model.loss(*loader.next_batch()) * 50.0
loss.backward()
before = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters()))
norm = tg.optim.clip_grad_norm(list(model.parameters()), 1.0)
after = math.sqrt(sum(float((p.grad**2).sum()) for p in model.parameters()))
print(f"-> norm {before:.3f} before clipping, {after:.3f} after")
assert abs(float(norm) - before) < 1e-3 * before
assert abs(after - 1) < 1e-3


# %% [markdown]
# ## With and without
#
# The same model, the same batches in the same order, the same high learning rate.


# %%
def train(peak: float, bells: bool) -> list[float]:
    """Losses of a run, with warm-up, decay and clipping or without."""
    model = new_model()
    optimizer = tg.optim.AdamW(tg.optim.decay_groups(model, 0.1), lr=peak)
    schedule = tg.optim.CosineSchedule(optimizer, STEPS, warmup=30, min_lr=peak / 10)
    loader = tg.data.BatchLoader(tg.data.TokenDataset(ids, CONTEXT), batch_size=16, seed=0)
    losses = []
    for _ in range(STEPS):
        loss = model.loss(*loader.next_batch())
        optimizer.zero_grad()
        loss.backward()
        if bells:
            tg.optim.clip_grad_norm(optimizer, 1.0)
        optimizer.step()
        if bells:
            schedule.step()
        losses.append(loss.item())
    return losses


ends = {}
for peak in (3e-3, 3e-2):
    for bells in (False, True):
        if bells or peak > 1e-2:
            losses = train(peak, bells)
            ends[peak, bells] = float(np.mean(losses[-10:]))
            how = "all" if bells else "none"
            shown = " ".join(f"{loss:.2f}" for loss in losses[9::20])
            print(f"learning rate {peak:.3f}, {how:4}: {shown}")
plain, ringing, usual = ends[3e-2, False], ends[3e-2, True], ends[3e-3, True]
print(f"-> learning rate 0.03: loss {plain:.2f} without, {ringing:.2f} with warm-up, decay and "
      f"clipping; learning rate 0.003 with them {usual:.2f}")  # fmt: skip
assert ringing < plain - 0.05
assert usual < 2.7

# %% [markdown]
# ## Accumulation
#
# A batch that does not fit into memory is cut into pieces. Gradients add up in `.grad`, so the
# mean over the large batch is the sum over the pieces, each divided by their number.

# %%
model = new_model()
inputs, targets = loader.next_batch()  # 16 windows
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
assert all(p.ndim == 2 for _, p in model.named_parameters() if p.ndim > 1)
assert sum(counts) == len(list(model.parameters()))

# %% [markdown]
# ## Reproducible
#
# Order, dropout and first values come from seeds, so a run can be repeated bit by bit. So can one
# that was interrupted: `examples/train_gpt.py --resume` goes on with the same bits.

# %%
assert train(3e-3, True) == train(3e-3, True)
print("-> two runs with the same seed: the same losses, bit for bit")
