# %% [markdown]
# # Appendix: the original Transformer, and GPT beside it
#
# The Transformer of 2017 was made to translate. It has two halves. The **encoder** reads the whole
# source sentence, every word seeing every other. The **decoder** writes the translation word by
# word, sees only what it has written so far, and in every layer asks the encoder's result by
# **cross-attention**: queries from the decoder, keys and values from the encoder. GPT is the
# decoder alone: it gets the source as the beginning of the text that it continues.
#
# Here both learn to translate between a small English and a made-up language, on the spot.
# **Expect**: word-by-word translation with a perfect dictionary gets no sentence right; both
# networks translate at least 95 % of held-out sentences without any mistake, the encoder-decoder
# after fewer steps. Half a minute on one core.
# Source: Vaswani et al., "Attention is all you need", 2017.

# %%
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import takewhile

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm.data import translation
from tinygrad_llm.finetuning.collate import pad

F = tg.functional
tg.manual_seed(0)

# %% [markdown]
# ## Two languages
#
# `data/translation.py` draws sentences and translates them. In the second language adjectives
# follow the noun and agree with it, the article comes last, the object before the subject, and the
# verb at the end agrees with the subject. None of this can be done word by word.

# %%
train, held_out = translation.load()
assert not {source for source, _ in train} & {source for source, _ in held_out}
print(*(f"{source}  ->  {target}" for source, target in held_out[:3]), sep="\n")

# %% [markdown]
# ## Word by word
#
# To be beaten: each word replaced by the right one, even its ending, in the order of the source.

# %%
one_by_one = [[translation.DICTIONARY[word] for word in s.split()] for s, _ in held_out]
by_word = [w == translation.stems(t) for w, (_, t) in zip(one_by_one, held_out, strict=True)]
print(f"-> word by word, endings forgiven: {np.mean(by_word):.1%} of the sentences right")
assert np.mean(by_word) < 0.02

# %% [markdown]
# ## Tokens: one vocabulary for both languages; padding, "now translate", and the end

# %%
PAD, START, END = 0, 1, 2
words = {w for pair in [*train, *held_out] for sentence in pair for w in sentence.split()}
vocabulary = ["<pad>", "<start>", "<end>", *sorted(words)]
ids_of = {word: i for i, word in enumerate(vocabulary)}


def encode(sentence: str) -> list[int]:
    """Ids of the words."""
    return [ids_of[word] for word in sentence.split()]


def decode(ids: Sequence[int]) -> str:
    """The words before the end."""
    return " ".join(vocabulary[i] for i in takewhile(lambda i: i != END, ids))


def padded(rows: list[list[int]]) -> np.ndarray:
    """Rows of different lengths as one array (B, T), filled up with PAD."""
    return pad(rows, PAD)[0]


# %% [markdown]
# ## The encoder-decoder
#
# As in the paper: sine waves, ReLU, the norm *after* each sum; a `context` makes cross-attention.


# %%
def sine_positions(length: int, width: int) -> np.ndarray:
    """Sines and cosines of falling frequency, section 3.5: (T, C)."""
    frequency = 10000.0 ** (-np.arange(0, width, 2) / width)  # (C/2,)
    angle = np.arange(length)[:, None] * frequency  # (T, C/2)
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, width)


def feed_forward(width: int) -> tg.nn.Sequential:
    """Two layers with a ReLU between them, section 3.3."""
    wide, narrow = tg.nn.Linear(width, 4 * width), tg.nn.Linear(4 * width, width)
    return tg.nn.Sequential(wide, tg.nn.ReLU(), narrow)


class EncoderLayer(tg.nn.Module):
    """Every word looks at every word."""

    def __init__(self, width: int, heads: int) -> None:
        self.attention = tg.nn.MultiHeadAttention(width, heads, causal=False)
        self.norm1, self.norm2 = tg.nn.LayerNorm(width), tg.nn.LayerNorm(width)
        self.feed = feed_forward(width)

    def forward(self, x: tg.Tensor, visible: np.ndarray) -> tg.Tensor:
        """x (B, S, C), visible (B, 1, 1, S) -> (B, S, C)."""
        x = self.norm1(x + self.attention(x, mask=visible))
        return self.norm2(x + self.feed(x))


class DecoderLayer(tg.nn.Module):
    """Look back at what is written, then at the source, then think."""

    def __init__(self, width: int, heads: int) -> None:
        self.attention = tg.nn.MultiHeadAttention(width, heads, causal=True)
        self.cross = tg.nn.MultiHeadAttention(width, heads)
        self.norm1, self.norm2 = tg.nn.LayerNorm(width), tg.nn.LayerNorm(width)
        self.norm3, self.feed = tg.nn.LayerNorm(width), feed_forward(width)

    def forward(self, y: tg.Tensor, memory: tg.Tensor, visible: np.ndarray) -> tg.Tensor:
        """y (B, T, C), memory (B, S, C), visible (B, 1, 1, S) -> (B, T, C)."""
        y = self.norm1(y + self.attention(y))
        y = self.norm2(y + self.cross(y, context=memory, mask=visible))
        return self.norm3(y + self.feed(y))


class Transformer(tg.nn.Module):
    """Encoder and decoder with one table of embeddings, also used as the output layer."""

    def __init__(self, vocab_size: int, width: int, heads: int, layers: int) -> None:
        self.embedding = tg.nn.Embedding(vocab_size, width)
        with tg.no_grad():
            self.embedding.weight.copy_(self.embedding.weight.data / math.sqrt(width))
        self.encoder = tg.nn.ModuleList(EncoderLayer(width, heads) for _ in range(layers))
        self.decoder = tg.nn.ModuleList(DecoderLayer(width, heads) for _ in range(layers))
        self.width, self.positions = width, sine_positions(64, width).astype(np.float32)

    def embed(self, ids: np.ndarray) -> tg.Tensor:
        """ids (B, T) -> (B, T, C)."""
        return self.embedding(ids) * math.sqrt(self.width) + self.positions[: ids.shape[1]]

    def encode(self, source: np.ndarray) -> tuple[tg.Tensor, np.ndarray]:
        """source (B, S) -> memory (B, S, C) and which of it is visible (B, 1, 1, S)."""
        visible = (source != PAD)[:, None, None, :]
        x = self.embed(source)
        for layer in self.encoder:
            x = layer(x, visible)
        return x, visible

    def decode(self, target: np.ndarray, memory: tg.Tensor, visible: np.ndarray) -> tg.Tensor:
        """target (B, T) -> logits (B, T, V) of each next word."""
        y = self.embed(target)
        for layer in self.decoder:
            y = layer(y, memory, visible)
        return F.linear(y, self.embedding.weight)


# %% [markdown]
# ## Training
#
# The decoder is given the right translation moved by one word, and predicts every next word at
# once ("teacher forcing"): the same self-supervision as in GPT.


# %%
def fit(model: tg.nn.Module, loss_of: Callable[[translation.Pairs], tg.Tensor], steps: int) -> None:
    """AdamW with warm-up and cosine decay; ``loss_of`` takes a list of pairs."""
    optimizer = tg.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = tg.optim.CosineSchedule(optimizer, steps, warmup=60, min_lr=1e-4)
    order = tg.Generator(2)
    for step in range(steps):
        loss = loss_of([train[i] for i in order.integers(0, len(train), (32,))])
        optimizer.zero_grad()
        loss.backward()
        tg.optim.clip_grad_norm(optimizer, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.4f}", flush=True)


transformer = Transformer(len(vocabulary), width=64, heads=4, layers=2)


def translation_loss(batch: translation.Pairs) -> tg.Tensor:
    """Cross-entropy of the translation's words; padding does not count."""
    source = padded([encode(s) for s, _ in batch])  # (B, S)
    given = padded([[START, *encode(t)] for _, t in batch])  # (B, T)
    wanted = padded([[*encode(t), END] for _, t in batch])  # (B, T)
    logits = transformer.decode(given, *transformer.encode(source))  # (B, T, V)
    return F.cross_entropy(logits, wanted, ignore_index=PAD)


fit(transformer, translation_loss, steps=400)

# %% [markdown]
# ## Translating
#
# The source is encoded once; the decoder writes the most probable word and reads it back, until
# all sentences have ended. Nothing of the held-out translations is shown to it.


# %%
def translate(sentences: list[str], limit: int = 16) -> list[str]:
    """The most probable next word, again and again."""
    with tg.no_grad():
        memory, visible = transformer.encode(padded([encode(s) for s in sentences]))
        written = np.full((len(sentences), 1), START)
        while written.shape[1] < limit and not (written == END).any(axis=1).all():
            logits = transformer.decode(written, memory, visible)  # (B, T, V)
            newest = logits.data[:, -1].argmax(axis=-1)  # (B,)
            written = np.concatenate([written, newest[:, None]], axis=1)
    return [decode(row[1:].tolist()) for row in written]


def count_right(name: str, model: tg.nn.Module, translated: list[str]) -> None:
    """Print and check how many held-out sentences are right to the last word."""
    right = np.mean([mine == t for mine, (_, t) in zip(translated, held_out, strict=True)])
    name = f"{name}, {model.num_parameters():,} parameters"
    print(f"-> {name}: {right:.1%} of {len(held_out)} held-out sentences exactly right")
    assert right >= 0.95


translated = translate([source for source, _ in held_out])
for (source, target), mine in list(zip(held_out, translated, strict=True))[:4]:
    print(f"{source}\n    {mine}   {'right' if mine == target else f'WRONG: {target}'}")
count_right("encoder-decoder", transformer, translated)

# %% [markdown]
# ## What the cross-attention looks at
#
# The weights of the last decoder layer, averaged over the heads: one row per written word, the
# source word it looks at most. Nobody told the network which word belongs to which.


# %%
def cross_weights(source: str, target: str) -> np.ndarray:
    """softmax(q k^T / sqrt(D)) of the last layer, mean over the heads: (T, S)."""
    seen: list[tg.Tensor] = []
    cross = transformer.decoder[-1].cross
    remove = cross.qkv.register_forward_hook(lambda module, args, out: seen.append(out))
    with tg.no_grad():
        memory = transformer.encode(padded([encode(source)]))
        transformer.decode(padded([[START, *encode(target)]]), *memory)
    remove()
    of_target, of_source = (out.data[0] for out in seen)  # (T, 3C), (S, 3C)
    q, k = of_target[:, :64].reshape(-1, 4, 16), of_source[:, 64:128].reshape(-1, 4, 16)
    return F.softmax(np.einsum("thd,shd->hts", q, k) / 4).data.mean(axis=0)


source, target = held_out[0]
for word, row in zip([*target.split(), "<end>"], cross_weights(source, target), strict=True):
    bar, most = "#" * round(30 * row.max()), source.split()[row.argmax()]
    print(f"{word:8} {bar:30} {row.max():.2f} {most}")

# %% [markdown]
# ## The same with a GPT
#
# One stack, one sequence: source, mark, translation, whose words alone count in the loss. What
# cross-attention did, ordinary causal attention does by looking back over the mark.

# %%
gpt = tg.nn.GPT(tg.nn.GPTConfig(len(vocabulary), context_length=32, n_layer=4, n_head=4, n_embd=64))


def continuation_loss(batch: translation.Pairs) -> tg.Tensor:
    """Cross-entropy of what follows the mark."""
    rows = [[*encode(s), START, *encode(t), END] for s, t in batch]
    ids = padded(rows)  # (B, T + 1)
    targets = ids[:, 1:].copy()
    for row, (s, _) in zip(targets, batch, strict=True):
        row[: len(s.split())] = PAD
    return gpt.loss(ids[:, :-1], targets, ignore_index=PAD)


fit(gpt, continuation_loss, steps=700)
prompts = [[*encode(source), START] for source, _ in held_out]
answers = tg.generate(gpt, prompts, 16, temperature=0.0, stop_ids=[END])
continued = [decode(row[len(p) :].tolist()) for row, p in zip(answers, prompts, strict=True)]
count_right("GPT", gpt, continued)

# %% [markdown]
# An encoder reads both ways but needs pairs; a GPT learns from any text, and a task begins one.
#
# ## Exercises (solutions: `examples/chapters/solutions/app_translation.py`)
#
# ### 1. What the second half costs (easy)
#
# Derive the parameters of an encoder and a decoder layer as polynomials in the width C, and check.
#
# ### 2. Targets that are not moved (medium)
#
# Let the decoder predict the token that it is given. What does the loss do, and what is written?
#
# ### 3. A GPT that reads both ways (hard)
#
# Write the mask with which a GPT sees all of the source, but not its own future. What is lost?
