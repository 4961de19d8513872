# %% [markdown]
# # Chapter 5: Pretraining
#
# A GPT is trained on plain text to predict each next token. The loss is the cross-entropy: minus
# the logarithm of the probability it gave to what really came, on average. Its exponential, the
# perplexity, is the number of equally likely tokens among which it would be as unsure.
#
# The loop is written out here; `examples/train_gpt.py` is the same with everything that a long run
# needs (checkpoints, resuming, logs).
#
# **Expect**: the loss falls from log V below the bigram entropy, which is what counting pairs of
# tokens achieves. About half a minute on one core.

# %%
from __future__ import annotations

import math
import tempfile

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm.training.baselines import counting_baselines
from tinygrad_llm.training.evaluate import Evaluator

F = tg.functional
tg.manual_seed(0)

# %% [markdown]
# ## The loss, by hand
#
# Three positions, five tokens. The probability of the right token, its logarithm, the mean.

# %%
logits = tg.Generator(0).normal((3, 5))
targets = np.array([1, 4, 2])
probabilities = F.softmax(logits).data[np.arange(3), targets]
by_hand = -np.log(probabilities).mean()
loss = F.cross_entropy(logits, targets).item()
print(f"-> by hand {by_hand:.4f}, cross_entropy {loss:.4f}, perplexity {math.exp(loss):.2f} of 5")
assert abs(by_hand - loss) < 1e-6

# %% [markdown]
# ## Text
#
# The Python reference, with a vocabulary of 512 byte pairs. The last tenth is held out in one
# piece, since windows drawn at random would overlap.

# %%
CONTEXT = 64
documents = tg.data.corpora.load("pydoc")
tokenizer = tg.tokenizers.BPETokenizer.train(
    [d.text for d in documents], 512, special_tokens=["<|endoftext|>"]
)
ids = tg.data.encode_documents(documents, tokenizer)
train, validation = tg.data.split_ids(ids, 0.1, CONTEXT)
counted = counting_baselines(train, validation, tokenizer.vocab_size)
print(f"{len(train):,} tokens for training, {len(validation):,} held out")
print(
    f"-> guessing {math.log(512):.3f}, unigram entropy {counted.unigram:.3f}, "
    f"bigram entropy {counted.bigram:.3f}"
)
assert counted.bigram < counted.unigram < math.log(512)

# %% [markdown]
# ## Training

# %%
config = tg.nn.GPTConfig(tokenizer.vocab_size, CONTEXT, n_layer=3, n_head=4, n_embd=96)
model = tg.nn.GPT(config)
optimizer = tg.optim.AdamW(tg.optim.decay_groups(model, 0.1), lr=3e-3, betas=(0.9, 0.99))
STEPS = 400
schedule = tg.optim.CosineSchedule(optimizer, STEPS, warmup=40, min_lr=3e-4)
loader = tg.data.BatchLoader(tg.data.TokenDataset(train, CONTEXT), batch_size=16, seed=0)
evaluate = Evaluator(validation, CONTEXT, batch_size=16, max_tokens=8192)

start = evaluate(model).loss
curve, held_out = [], {0: start}
for step in range(1, STEPS + 1):
    inputs, targets = loader.next_batch()  # (B, T), (B, T)
    loss = model.loss(inputs, targets)
    optimizer.zero_grad()
    loss.backward()
    tg.optim.clip_grad_norm(optimizer, 1.0)
    optimizer.step()
    schedule.step()
    curve.append(loss.item())
    if step % 100 == 0:
        held_out[step] = evaluate(model).loss
        print(f"step {step}: training {curve[-1]:.3f}, held out {held_out[step]:.3f}", flush=True)
end = evaluate(model)
print(
    f"-> held-out loss: {start:.3f} before, {end.loss:.3f} after training "
    f"(perplexity {end.perplexity:.1f})"
)
assert abs(start - math.log(512)) < 0.1
assert end.loss < counted.bigram


# %%
def loss_curve(figure) -> None:
    """The loss of each batch, the held-out loss, and what counting achieves."""
    axes = figure.subplots()
    axes.plot(range(1, STEPS + 1), curve, lw=0.8, alpha=0.6, label="training, each batch")
    axes.plot(list(held_out), list(held_out.values()), "o-", label="held out")
    lines = {"log V": math.log(512), "unigram": counted.unigram, "bigram": counted.bigram}
    for name, value in lines.items():
        axes.axhline(value, color="0.6", ls=":")
        axes.annotate(name, (STEPS, value), (0, 3), textcoords="offset points", ha="right")
    axes.set(xlabel="step", ylabel="loss per token")
    axes.legend(loc="upper center")


pictures = tg.explain.pictures
pictures.show(
    loss_curve,
    "The loss falls from log V = 6.24 past the unigram entropy within a few steps and reaches the "
    "bigram entropy after about 300; the held-out loss ends a little above the training loss.",
)

# %% [markdown]
# ## Writing
#
# The model gives probabilities; which token is taken is another question. Temperature 0 takes the
# most probable one and soon repeats itself; 1 draws as the model says; top-k leaves the tail out.

# %%
prompt = tokenizer.encode("The statement")
for settings in ({"temperature": 0.0}, {"temperature": 1.0}, {"temperature": 0.8, "top_k": 20}):
    out = tg.generate(model, prompt, 40, seed=1, **settings)
    print(settings, "\n   ", tokenizer.decode(out).replace("\n", " / "))

scores = np.array([2.0, 1.0, 0.0])
for temperature in (0.5, 1.0, 2.0):
    shown = " ".join(f"{p:.2f}" for p in F.softmax(scores / temperature).data)
    print(f"temperature {temperature}: {shown}")


# %%
def temperatures(figure) -> None:
    """The ten likeliest tokens after the prompt."""
    with tg.no_grad():
        last = model([prompt]).data[0, -1]  # (V,)
    likeliest = np.argsort(-last)[:10]
    axes = figure.subplots()
    for n, temperature in enumerate((0.5, 1.0, 2.0)):
        p = F.softmax(last / temperature).data[likeliest]
        axes.bar(np.arange(10) + 0.27 * (n - 1), p, 0.27, label=f"temperature {temperature}")
    axes.set_xticks(range(10), [repr(tokenizer.decode([i])) for i in likeliest])
    axes.set(xlabel='token after "The statement"', ylabel="probability")
    axes.legend()


pictures.show(
    temperatures,
    "Probabilities of the ten likeliest next tokens: a low temperature gives nearly all to the "
    "first, a high one makes them more alike.",
)

# %% [markdown]
# ## Is it learned by heart?
#
# A fair question with so little text: the loss on the training text itself, compared.

# %%
seen = Evaluator(train, CONTEXT, batch_size=16, max_tokens=8192)(model).loss
print(f"-> on text it was trained on {seen:.3f}, on new text {end.loss:.3f}")
assert seen < end.loss + 0.05

# %% [markdown]
# ## Saving and opening
#
# The folder has GPT-2's format: Hugging Face transformers opens it as it is, and GPT-2's own
# weights come in the same way, `tg.nn.GPT.from_pretrained("gpt2")`.

# %%
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    again = tg.nn.GPT.from_pretrained(folder)
difference = np.abs(again(inputs).data - model(inputs).data).max()
print(f"-> saved and opened again, the logits differ by {difference:.1e}")
assert difference == 0

# %% [markdown]
# ## Exercises
#
# Solutions: `examples/chapters/solutions/ch05_pretraining.py`.
#
#
# ### 1. Temperature (easy)
#
# Let p be the probabilities at temperature 1. Derive those at temperature T as powers of p, without
# logits. What becomes of them for T towards 0 and towards infinity, and what does their entropy do
# in between? Check all three.
#
# ### 2. What is learned first (medium)
#
# A model whose logits are the same at every position has only a vector b to learn. Derive the
# gradient of its loss with respect to b, find a b where it vanishes, and show that the loss there
# is the unigram entropy. At which place of the curve above has the GPT learned just that?
#
# ### 3. The floor of a batch (hard)
#
# The first sanity check of a training loop is to overfit one batch. Take two windows that begin
# with the same token and then differ, (7, 1, 5, ...) and (7, 2, 8, ...), with 8 targets each.
# Derive the smallest loss that any model can reach on them, then train a small GPT until it is
# there.
