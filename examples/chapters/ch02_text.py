# %% [markdown]
# # Chapter 2: Text and tokens
#
# A network computes with numbers, so text becomes a row of integers: **tokens**. Three ways, each
# with what it costs: whole words (short rows, but a word never seen has no number), characters
# (nothing is unknown, but rows are long), and byte-pair encoding, GPT's way between the two.
#
# **Expect**: byte-pair encoding with 1,000 tokens needs about a third of the tokens that
# characters need, and knows every text there is, even Chinese. Some seconds.

# %%
from __future__ import annotations

import numpy as np

import tinygrad_llm as tg

documents = tg.data.corpora.load("pydoc")
text = "\n".join(document.text for document in documents)
print(f"{len(documents)} pages, {len(text):,} characters; the first:\n{text[:200]}...")

# %% [markdown]
# ## Words
#
# The vocabulary is the sorted set of all words. A word that is not in it becomes `<|unk|>`: what
# it was is lost.

# %%
words = tg.tokenizers.WordTokenizer.train(text[:100_000])
ids = words.encode("The statement is wonderful.")
print(ids, "->", words.decode(ids))
unseen = words.encode(text[100_000:])
unknown = np.mean(np.array(unseen) == words.special_tokens["<|unk|>"])
print(f"-> words: vocabulary {words.vocab_size:,}; {unknown:.1%} of the words of the rest unknown")
assert "<|unk|>" in words.decode(ids)
assert 0.02 < unknown < 0.5

# %% [markdown]
# ## Characters
#
# Nothing is lost, and the vocabulary is tiny; but a window of 1,024 tokens is now half a page.

# %%
characters = tg.tokenizers.CharTokenizer.train(text)
assert characters.decode(characters.encode(text[:1000])) == text[:1000]
print(f"-> characters: vocabulary {characters.vocab_size}, 1.000 tokens per character")

# %% [markdown]
# ## Byte-pair encoding
#
# Begin with the 256 bytes. Count which two neighbours occur together most often, make one new
# token of them, and again, until the vocabulary is full. Frequent words end up as one token, rare
# ones as several, and what was never seen still as its bytes.

# %%
bpe = tg.tokenizers.BPETokenizer.train(text, 1000, special_tokens=["<|endoftext|>"])
for word in ("statement", "wonderful", "你好"):
    pieces = [bpe.token_bytes(i).decode("utf-8", "replace") for i in bpe.encode(word)]
    print(f"{word!r}: {pieces}")
    assert bpe.decode(bpe.encode(word)) == word
ids = bpe.encode(text)
ratio = len(ids) / len(text)
print(f"-> byte pairs: vocabulary {bpe.vocab_size}, {ratio:.3f} tokens per character")
assert bpe.decode(ids) == text
assert 0.28 < ratio < 0.4

# %% [markdown]
# A larger vocabulary makes rows shorter, each halving less than the one before. GPT-2 stopped at
# 50,257 (`tg.tokenizers.gpt2()`, downloaded when first used).

# %%
per_character = {characters.vocab_size: 1.0, bpe.vocab_size: ratio}
for size in (300, 500, 2000):
    n_tokens = len(tg.tokenizers.BPETokenizer.train(text, vocab_size=size).encode(text))
    per_character[size] = n_tokens / len(text)
    print(f"-> vocabulary {size:5}: {per_character[size]:.3f} tokens per character")


def vocabulary_and_frequency(figure) -> None:
    """How rows shorten with the vocabulary, and how unequal tokens are."""
    lengths, frequencies = figure.subplots(1, 2)
    sizes = sorted(per_character)
    lengths.plot(sizes, [per_character[size] for size in sizes], "o-")
    lengths.set(xscale="log", xlabel="vocabulary", ylabel="tokens per character", ylim=(0, 1.05))
    lengths.annotate("characters", (sizes[0], 1), (8, -3), textcoords="offset points")
    counts = np.sort(np.unique(ids, return_counts=True)[1])[::-1]
    frequencies.loglog(np.arange(1, len(counts) + 1), counts)
    frequencies.set(xlabel="token, by frequency (rank)", ylabel="occurrences")


tg.explain.pictures.show(
    vocabulary_and_frequency,
    "Tokens per character fall from 1 to about 0.3 as the vocabulary grows from 100 to 2,000; "
    "the most frequent tokens occur thousands of times, most a few dozen times.",
)

# %% [markdown]
# ## Special tokens
#
# `<|endoftext|>` stands between documents that have nothing to do with each other. It has a number
# of its own, and is only read as such where that is asked for: a user cannot smuggle it in.

# %%
end = bpe.end_of_text_id
assert bpe.encode("<|endoftext|>", allowed_special="all") == [end]
assert end not in bpe.encode_ordinary("<|endoftext|>")
stream = tg.data.encode_documents(documents, bpe)
print(f"{len(stream):,} tokens, {np.sum(stream == end)} ends of text")
assert np.sum(stream == end) == len(documents) - 1

# %% [markdown]
# ## Windows
#
# A language model is trained on windows of T tokens. The targets are the same tokens moved by one:
# each window is T exercises at once.

# %%
dataset = tg.data.TokenDataset(stream, context_length=6, stride=6)
inputs, targets = dataset[20]
for n in range(1, 7):
    print(f"{bpe.decode(inputs[:n])!r} -> {bpe.decode([targets[n - 1]])!r}")
loader = tg.data.BatchLoader(dataset, batch_size=8, seed=123)
inputs, targets = loader.next_batch()
print(f"-> a batch: inputs {inputs.shape}, targets {targets.shape}, {len(dataset):,} windows")
assert inputs.shape == targets.shape == (8, 6)
assert (inputs[:, 1:] == targets[:, :-1]).all()

# %% [markdown]
# With a stride smaller than T, windows overlap and there are more of them; each token is then a
# target several times, after a different number of tokens.

# %%
overlapping = tg.data.TokenDataset(stream, context_length=6, stride=1)
assert len(overlapping) == len(stream) - 6
print(f"-> stride 1: {len(overlapping):,} windows")

# %% [markdown]
# ## Exercises
#
# Solutions: `examples/chapters/solutions/ch02_text.py`.
#
#
# ### 1. How many windows? (easy)
#
# A text has n tokens. Derive how many windows `TokenDataset` makes of it with context length T and
# stride S. Do not forget the target of the last input. Check the formula for four cases, one of
# which fits exactly.
#
# ### 2. Byte-pair encoding in a dozen lines (medium)
#
# Write the training of a byte-pair encoding for a single long word: count, join, repeat. Let it
# learn 20 tokens and compare them, in order, with those of `BPETokenizer.train`. What has to be
# decided when two pairs are equally frequent?
#
# ### 3. Which loss is better? (hard)
#
# Model A has a vocabulary of 400 and a loss of 4.9 per token, model B one of 1,600 and a loss of
# 6.1. Which is better? Measure the unigram entropy of one text with four vocabularies, per token
# and in bits per byte, and say in which unit models may be compared.
