"""Byte-pair encoding itself: learning the merges, and applying them.

Source: Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword units"
(2016), on bytes as in GPT-2 (Radford et al. 2019). Start from single bytes. Again and again, join
the pair of neighbours that is most frequent: the list of joined pairs is the tokenizer. To encode,
join in the order in which the pairs were learned.

`learn_merges_readable` and `merge_piece` say it in the fewest lines. `learn_merges` finds the same
merges in a fraction of the time.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import TypeVar

from tinygrad_llm.tokenizers.byte_map import byte_order

Merge = tuple[bytes, bytes]
Pair = tuple[int, int]  # the same by ids
T = TypeVar("T")  # a token: its bytes, or its id


def byte_tokens() -> list[bytes]:
    """The first 256 tokens, one for each byte, in GPT-2's order."""
    return [bytes([b]) for b in byte_order()]


def merge_piece(piece: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """The token ids of one piece: the readable encoder.

    Args:
        piece: a piece of text as UTF-8.
        ranks: each token's bytes -> its id. Ids grow in the order in which tokens were learned,
            so the lowest id is the merge to do first.
    """
    parts = [bytes([b]) for b in piece]
    while len(parts) > 1:
        joined = [left + right for left, right in zip(parts, parts[1:], strict=False)]
        best = min(joined, key=lambda token: ranks.get(token, len(ranks)))
        if best not in ranks:
            break
        parts = _join_everywhere(parts, best)
    return [ranks[part] for part in parts]


def _join_everywhere(parts: list[bytes], token: bytes) -> list[bytes]:
    merged: list[bytes] = []
    i = 0
    while i < len(parts):
        if i + 1 < len(parts) and parts[i] + parts[i + 1] == token:
            merged.append(token)
            i += 2
        else:
            merged.append(parts[i])
            i += 1
    return merged


def learn_merges_readable(pieces: Mapping[bytes, int], n_merges: int) -> list[Merge]:
    """What `learn_merges` returns, by counting all pairs again before each merge: made to be read.

    Of pairs that are equally frequent the one with the lower ids is joined.
    """
    ids = {token: i for i, token in enumerate(byte_tokens())}
    words = {piece: [bytes([b]) for b in piece] for piece in pieces}
    merges: list[Merge] = []
    while len(merges) < n_merges:
        counts: Counter[Merge] = Counter()
        for piece, parts in words.items():
            for pair in zip(parts, parts[1:], strict=False):
                counts[pair] += pieces[piece]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], ids[pair[0]], ids[pair[1]]))
        token = best[0] + best[1]
        words = {piece: _join_pair(parts, best, token) for piece, parts in words.items()}
        ids[token] = len(ids)
        merges.append(best)
    return merges


def learn_merges(pieces: Mapping[bytes, int], n_merges: int) -> list[Merge]:
    """The ``n_merges`` most frequent merges, in order; fewer when no pair is left.

    Counting all pairs again for each merge takes (merges x text), see `learn_merges_readable`.
    Here the counts are kept, and a merge updates those of the pieces in which it happens. Ties go
    to the pair with the lower ids, so the result depends on the text alone.

    Args:
        pieces: each different piece of the text -> how often it occurs.
    """
    tokens = byte_tokens()
    ids = {token: i for i, token in enumerate(tokens)}
    words = [[ids[bytes([b])] for b in piece] for piece in pieces]
    frequencies = list(pieces.values())
    counts: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)  # pair -> indices of words with it
    for index, word in enumerate(words):
        for pair in _pairs(word):
            counts[pair] += frequencies[index]
            where[pair].add(index)
    heap = [(-count, pair) for pair, count in counts.items()]
    heapq.heapify(heap)
    merges: list[Merge] = []
    while len(merges) < n_merges and (best := _most_frequent(heap, counts)) is not None:
        new_id = len(tokens)
        changed: set[Pair] = set()
        for index in where.pop(best):
            for pair in _pairs(words[index]):
                counts[pair] -= frequencies[index]
                changed.add(pair)
            words[index] = _join_pair(words[index], best, new_id)
            for pair in _pairs(words[index]):
                counts[pair] += frequencies[index]
                where[pair].add(index)
                changed.add(pair)
        for pair in changed:
            heapq.heappush(heap, (-counts[pair], pair))
        left, right = tokens[best[0]], tokens[best[1]]
        merges.append((left, right))
        tokens.append(left + right)
    return merges


def _pairs(word: list[int]) -> Iterator[Pair]:
    return zip(word, word[1:], strict=False)


def _most_frequent(heap: list[tuple[int, Pair]], counts: Counter[Pair]) -> Pair | None:
    """Take the pair with the highest count; entries whose count has changed since are skipped."""
    while heap:
        negative, pair = heapq.heappop(heap)
        if counts[pair] == -negative and negative < 0:
            return pair
    return None


def _join_pair(word: list[T], pair: tuple[T, T], token: T) -> list[T]:
    joined: list[T] = []
    i = 0
    while i < len(word):
        if word[i] == pair[0] and i + 1 < len(word) and word[i + 1] == pair[1]:
            joined.append(token)
            i += 2
        else:
            joined.append(word[i])
            i += 1
    return joined
