# %% [markdown]
# # Appendix: LoRA
#
# To change a large model a little, it is not necessary to change all of its numbers. LoRA keeps
# every matrix W as it is and learns a change of low rank beside it, the product of a thin and a
# flat matrix:
#
#     y = x W^T + (alpha / r) x A^T B^T          A (r, in), B (out, r)
#
# **Expect**: the model starts exactly as it was; a few per cent of its numbers, trained, suffice
# to teach it a new text; merged into the weights the change costs nothing. Half a minute on one
# core.
#
# Source: Hu et al., "LoRA: Low-rank adaptation of large language models", 2021.

# %%
from __future__ import annotations

import copy

import numpy as np

import tinygrad_llm as tg

TARGETS = ("attention.qkv", "attention.projection", "expand", "project")
tg.manual_seed(0)

# %% [markdown]
# ## A product of two thin matrices
#
# A matrix of rank 4 with 64 rows and 192 columns: 1,024 numbers in place of 12,288.

# %%
random = tg.Generator(0)
a, b = random.normal((4, 64)), random.normal((192, 4))
change = b @ a  # (192, 64)
singular = np.linalg.svd(change, compute_uv=False)
print(
    f"-> {a.size + b.size:,} numbers for {change.size:,}; "
    f"singular values above zero: {(singular > 1e-3).sum()}"
)
assert (singular > 1e-3).sum() == 4

# %% [markdown]
# ## A model that knows one text
#
# A small GPT learns half of the pages of the Python reference, all in lower case. The new task: the
# same kind of text in capitals, which it has never seen.

# %%
CONTEXT = 32
pages = "".join(d.text for d in tg.data.corpora.load("pydoc"))
old, new = pages[:60_000].lower(), pages[60_000:120_000].upper()
tokenizer = tg.tokenizers.CharTokenizer.train(old + new)


def loader(text: str, seed: int = 0) -> tg.data.BatchLoader:
    """Batches of 16 windows of a text."""
    dataset = tg.data.TokenDataset(np.array(tokenizer.encode(text)), CONTEXT)
    return tg.data.BatchLoader(dataset, batch_size=16, seed=seed)


def loss_on(model: tg.nn.GPT, text: str) -> float:
    """Mean loss over twenty batches."""
    batches = loader(text, seed=9)
    with tg.no_grad():
        return float(np.mean([model.loss(*batches.next_batch()).item() for _ in range(20)]))


def train(model: tg.nn.GPT, text: str, steps: int, rate: float) -> None:
    """AdamW on what is not frozen."""
    optimizer = tg.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    schedule = tg.optim.CosineSchedule(optimizer, steps, warmup=10, min_lr=rate / 10)
    batches = loader(text)
    for _ in range(steps):
        loss = model.loss(*batches.next_batch())
        optimizer.zero_grad()
        loss.backward()
        tg.optim.clip_grad_norm(optimizer, 1.0)
        optimizer.step()
        schedule.step()


base = tg.nn.GPT(tg.nn.GPTConfig(tokenizer.vocab_size, CONTEXT, n_layer=2, n_head=4, n_embd=64))
train(base, old, 400, 3e-3)
print(
    f"-> base model: loss {loss_on(base, old):.2f} on the old text, "
    f"{loss_on(base, new):.2f} on the new"
)
assert loss_on(base, new) > loss_on(base, old) + 1

# %% [markdown]
# ## The start
#
# B begins at zero, so the change begins at zero: the model gives the same numbers as before.

# %%
model = copy.deepcopy(base)
replaced = tg.nn.apply_lora(model, rank=4, alpha=16, targets=TARGETS)
ids = loader(new).next_batch()[0]
assert np.array_equal(model(ids).data, base(ids).data)
trained, whole = model.num_parameters(trainable_only=True), model.num_parameters()
print(
    f"-> {len(replaced)} layers; {trained:,} of {whole:,} parameters are trained "
    f"({trained / whole:.1%})"
)
assert trained / whole < 0.15

# %% [markdown]
# ## Training: LoRA, and everything

# %%
train(model, new, 200, 1e-2)
everything = copy.deepcopy(base)
train(everything, new, 200, 3e-3)
start, lora, full = (loss_on(m, new) for m in (base, model, everything))
print(f"-> on the new text: {start:.2f} before, {lora:.2f} with LoRA, {full:.2f} with everything")
assert lora < start - 1
gained = (start - lora) / (start - full)
print(f"-> LoRA gains {gained:.0%} of what training everything gains")
assert gained > 0.5


# %% [markdown]
# How many directions does the change that training everything makes really use? The singular values
# of three changes: a few are large, and LoRA's rank of 4 holds it to four.


# %%
def singular_values(figure) -> None:
    """Of the change of one matrix, by training everything and by LoRA."""
    axes = figure.subplots()
    names = ("blocks.0.attention.qkv", "blocks.1.expand")
    found = (
        dict(everything.named_modules()),
        dict(base.named_modules()),
        dict(model.named_modules()),
    )
    for color, name in enumerate(n for n in names if n in found[0]):
        whole, start, lora = (modules[name] for modules in found)
        changes = {
            "everything": whole.weight.data - start.weight.data,
            "LoRA": 4 * lora.lora_b.data @ lora.lora_a.data,  # alpha / rank = 4
        }
        for style, (kind, change) in zip("-:", changes.items(), strict=True):
            values = np.linalg.svd(change, compute_uv=False)
            axes.plot(range(1, 33), values[:32], f"C{color}{style}", label=f"{name}, {kind}")
    axes.axvline(4.5, color="0.6", lw=0.8)
    axes.set(xlabel="number of the singular value", ylabel="singular value", ylim=(0, None))
    axes.legend()


tg.explain.pictures.show(
    singular_values,
    "Singular values of the changes: those of training everything fall steeply and then slowly; "
    "those of LoRA are zero from the fifth on.",
)

# %%
untouched = base.blocks[0].attention.qkv.weight.data
assert np.array_equal(model.blocks[0].attention.qkv.weight.data, untouched)

# %% [markdown]
# ## Merging
#
# The change can be added to the weights: then it is an ordinary model again, as fast as before. And
# it can be taken out again, exactly. Several adapters for one base take only their own numbers.

# %%
separate = model(ids).data
tg.nn.merge_lora(model)
merged = np.abs(model(ids).data - separate).max()
print(f"-> merged: the logits differ by {merged:.1e}")
assert merged < 1e-4
tg.nn.unmerge_lora(model)
assert np.array_equal(model(ids).data, separate)

adapter = tg.nn.adapter_state_dict(model)
print(f"-> the adapter alone: {sum(t.size for t in adapter.values()):,} numbers")
tg.nn.remove_lora(model, keep_change=False)
assert np.array_equal(model(ids).data, base(ids).data)

# %% [markdown]
# ## Exercises
#
# Solutions: `examples/chapters/solutions/app_lora.py`.
#
#
# ### 1. Where it stops paying (easy)
#
# From which rank on does a LoRA adapter have as many numbers as the matrix beside which it stands?
# Derive it for any matrix, and check it for GPT-2's qkv matrix, 768 to 2304. What share has rank 8?
#
# ### 2. Why B begins at zero and A does not (medium)
#
# Derive the gradients of A and B. Which of them is zero in the first step, and what happens when
# both matrices begin at zero? Predict, then look at `lora_a.grad` and `lora_b.grad`.
#
# ### 3. The best change of rank r (hard)
#
# A matrix with singular values 5, 3, 1, 0.5, 0.2, 0.1 is to be approximated by B A of rank 2. What
# is the smallest squared error? Let AdamW find A and B from random first values, and see whether it
# gets there.
