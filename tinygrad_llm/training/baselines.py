"""What counting alone achieves: the entropy of a unigram and a bigram model of the same text.

A GPT whose loss is at the unigram entropy knows how frequent each token is; at the bigram entropy
it also knows which token follows which. Everything below that it learned from further back.

Both models are counted on the training tokens and measured on the validation tokens, as the GPT
is, so neither may give an unseen event the probability 0:

    unigram   P(b)     = (c(b) + 1) / (N + V)                          add one (Laplace)
    bigram    P(b | a) = (c(a b) + n(a) P(b)) / (c(a) + n(a))          Witten and Bell

c counts, N tokens in all, V the size of the vocabulary, n(a) how many different tokens were seen
after a. The more different successors a token has, the less the counted ones are trusted.

Source: Witten, Bell, "The zero-frequency problem", 1991; Jurafsky, Martin, "Speech and language
processing", chapter 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinygrad_llm.data.sliding_window import TokenSource

MOST_TOKENS = 5_000_000  # counted and measured; keeps memory below 300 MB


@dataclass(frozen=True)
class Baselines:
    """Cross-entropies on the validation tokens, in nats per token (as the loss).

    Attributes:
        unigram: of the model that knows only how frequent each token is.
        bigram: of the model that also knows the token before.
    """

    unigram: float
    bigram: float


def counting_baselines(
    train_ids: TokenSource, validation_ids: TokenSource, vocab_size: int
) -> Baselines:
    """Count on ``train_ids`` (N,), measure on ``validation_ids`` (M,): arrays or shards."""
    train = np.asarray(train_ids[:MOST_TOKENS]).astype(np.int64)
    validation = np.asarray(validation_ids[:MOST_TOKENS]).astype(np.int64)
    counts = np.bincount(train, minlength=vocab_size)
    p_next = (counts + 1.0) / (len(train) + vocab_size)  # (V,)
    unigram = -float(np.log(p_next[validation]).mean())
    a, b = validation[:-1], validation[1:]
    if not len(a):
        return Baselines(unigram, unigram)

    pairs, pair_counts = np.unique(train[:-1] * vocab_size + train[1:], return_counts=True)
    kinds = np.bincount(pairs // vocab_size, minlength=vocab_size)  # n(a)
    starts = np.bincount(train[:-1], minlength=vocab_size)  # c(a), not counting the last token
    place = np.searchsorted(pairs, a * vocab_size + b).clip(max=len(pairs) - 1)
    seen = np.where(pairs[place] == a * vocab_size + b, pair_counts[place], 0)  # c(a b)
    weight = np.where(kinds[a] == 0, 1, kinds[a])  # a token never seen: P(b | a) = P(b)
    p = (seen + weight * p_next[b]) / (starts[a] + weight)
    return Baselines(unigram, -float(np.log(p).mean()))
