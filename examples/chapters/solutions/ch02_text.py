# %% [markdown]
# # Solutions: Chapter 2, text

# %%
from __future__ import annotations

from collections import Counter

import numpy as np

import tinygrad_llm as tg

# %% [markdown]
# ## 1. How many windows? (easy)
#
# A window needs T inputs and one more token as the last target, T + 1 in all. The first begins at 0
# and the last at n - T - 1 at most; between them one begins every S tokens. So there are
#
#     floor((n - T - 1) / S) + 1
#
# windows. With S = T no token is a target twice, and up to T - 1 at the end are none; with S = 1 a
# token is a target up to T times.

# %%
for n, length, stride in ((100, 6, 6), (100, 6, 1), (103, 10, 4), (11, 10, 3)):
    windows = (n - length - 1) // stride + 1
    dataset = tg.data.TokenDataset(np.arange(n), context_length=length, stride=stride)
    print(f"-> {n} tokens, context {length}, stride {stride}: {windows} windows")
    assert windows == len(dataset)

# %% [markdown]
# ## 2. Byte-pair encoding in a dozen lines (medium)
#
# Begin with single bytes. Count neighbours, join the most frequent pair everywhere, repeat. Of
# pairs that are equally frequent the one whose tokens were learned earlier is joined, so the order
# of all tokens has to be kept. Within one long word the tokenizer splits nothing off beforehand,
# and the two must agree token by token.


# %%
def learn(text: str, n_merges: int, order: list[bytes]) -> list[bytes]:
    """The tokens that are learned, in order; ``order`` begins with the 256 bytes."""
    parts, order = [bytes([b]) for b in text.encode()], list(order)
    for _ in range(n_merges):
        counts = Counter(zip(parts, parts[1:], strict=False))
        left, right = min(
            counts, key=lambda pair: (-counts[pair], order.index(pair[0]), order.index(pair[1]))
        )
        order.append(left + right)
        joined: list[bytes] = []
        for part in parts:
            if joined and joined[-1] == left and part == right:
                joined[-1] = left + right
            else:
                joined.append(part)
        parts = joined
    return order[256:]


word = "".join("statementassignmentexpression"[i % 29] for i in range(400))
trained = tg.tokenizers.BPETokenizer.train(word, 256 + 20)
first = [trained.token_bytes(i) for i in range(256)]
mine, theirs = learn(word, 20, first), [trained.token_bytes(i) for i in range(256, 276)]
print(*(token.decode() for token in mine))
print(f"-> {sum(a == b for a, b in zip(mine, theirs, strict=True))} of 20 merges agree")
assert mine == theirs

# %% [markdown]
# ## 3. Which loss is better? (hard)
#
# The unigram entropy per token, H = - sum over i of p_i log p_i, grows with the vocabulary: there
# is more to choose from. But each token also says more. Per character, H times tokens / characters,
# it falls. So losses of models with different tokenizers must not be compared per token; divided by
# log 2 and by the number of bytes they become bits per byte, and then they may. A and B have about
# the entropies that are measured here for their vocabularies: 3.7 bits per byte and 2.3. B is
# better, by far.

# %%
text = "\n".join(d.text for d in tg.data.corpora.load("pydoc"))[:100_000]
per_token, per_byte = [], []
for size in (260, 400, 800, 1600):
    ids = tg.tokenizers.BPETokenizer.train(text, size).encode(text)
    p = np.bincount(ids) / len(ids)
    p = p[p > 0]
    entropy = -(p * np.log(p)).sum()
    per_token.append(entropy)
    per_byte.append(entropy / np.log(2) * len(ids) / len(text.encode()))
    print(f"-> vocabulary {size:4}: {entropy:.3f} per token, {per_byte[-1]:.3f} bits per byte")
assert np.all(np.diff(per_token) > 0)
assert np.all(np.diff(per_byte) < 0)
