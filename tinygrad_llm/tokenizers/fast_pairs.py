"""Byte-pair encoding for texts of any size: what `byte_pair` says in few lines, in little time.

Both functions give what their readable counterparts give. They keep the places of each pair, so
that a merge costs as much as it changes, however long a piece is. Scripts that write no spaces
have such pieces: a sentence of Chinese is one, and so is a whole genome.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping

import numpy as np

from tinygrad_llm.tokenizers.byte_map import byte_order
from tinygrad_llm.tokenizers.byte_pair import Merge, byte_tokens

Pair = tuple[int, int]  # two neighbours by their ids
Counted = tuple[int, Pair, np.ndarray]  # -count, the pair, the places of its left token
Candidate = tuple[int, Pair, np.ndarray, Iterator[Counted]]  # and the pairs found with it
NO_TOKEN = -1


def merge_long_piece(piece: bytes, ranks: Mapping[bytes, int]) -> list[int]:
    """The token ids of one piece, as `byte_pair.merge_piece` finds them, in O(n log n).

    A heap holds each join that is possible, by its rank. One join makes at most two new ones, and
    those that it made impossible are skipped when their turn comes.
    """
    n = len(piece)
    stops = list(range(1, n + 1))  # where the part that starts here stops; 0 within a part
    before = list(range(-1, n))  # where the part before the one that starts here starts
    heap: list[tuple[int, int, int]] = []  # (rank, start, stop) of what a join would make

    def offer(start: int) -> None:
        middle = stops[start]
        rank = ranks.get(piece[start : stops[middle]]) if middle < n else None
        if rank is not None:
            heapq.heappush(heap, (rank, start, stops[middle]))

    for start in range(n):
        offer(start)
    while heap:
        _, start, stop = heapq.heappop(heap)
        middle = stops[start]
        if middle in (0, n) or stops[middle] != stop:
            continue
        stops[start], stops[middle], before[stop] = stop, 0, start
        offer(start)
        if before[start] >= 0:
            offer(before[start])
    return [ranks[piece[start:stop]] for start, stop in enumerate(stops) if stop]


def learn_merges(pieces: Mapping[bytes, int], n_merges: int) -> list[Merge]:
    """The ``n_merges`` most frequent merges, in order; fewer when no pair is left.

    The same as `byte_pair.learn_merges_readable`, which counts all pairs again for each merge.
    Two facts save the counting. A pair occurs for the first time when the newer of its tokens is
    made, and all its places are known then. From there its count only falls. So a heap of counts
    that may be too high is enough: the pair at its top is counted, and goes back if others have
    passed it.

    Takes 40 to 60 bytes of memory per byte of different pieces.

    Args:
        pieces: each different piece of the text -> how often it occurs.
    """
    tokens = byte_tokens()
    row = _Row(pieces)
    heap: list[Candidate] = []
    _offer_next(heap, row.all_pairs())
    merges: list[Merge] = []
    while heap and len(merges) < n_merges:
        bound, pair, places, others = heapq.heappop(heap)
        _offer_next(heap, others)
        places = row.where_still(pair, places)
        count = int(row.weights[places].sum(dtype=np.int64))
        if count == -bound:
            changed = row.join(pair, places, len(tokens))
            _offer_next(heap, row.pairs_at(changed))
            left, right = tokens[pair[0]], tokens[pair[1]]
            merges.append((left, right))
            tokens.append(left + right)
        elif count:
            heapq.heappush(heap, (-count, pair, places, iter(())))
    return merges


def _offer_next(heap: list[Candidate], pairs: Iterator[Counted]) -> None:
    """The next of the pairs that were found together; the heap holds one of them at a time."""
    for bound, pair, places in pairs:
        heapq.heappush(heap, (bound, pair, places, pairs))
        return


class _Row:
    """All pieces in one row of ids, with `NO_TOKEN` at both ends and between two pieces.

    A join leaves the new token at the place of the left one and `NO_TOKEN` at that of the right
    one; ``before`` and ``after`` hold each token's neighbours.

    Args:
        pieces: each different piece -> how often it occurs, the weight of its places.
    """

    def __init__(self, pieces: Mapping[bytes, int]) -> None:
        gap = b"\0"
        content = np.frombuffer(gap + gap.join([*pieces, b""]), np.uint8)
        n = len(content)
        place = np.int32 if n < 2**31 else np.int64
        id_of_byte = np.argsort(byte_order()).astype(np.int32)
        self.ids = id_of_byte[content]  # (n,)
        lengths = np.array([0, *map(len, pieces)]) + 1
        self.ids[np.cumsum(lengths) - 1] = NO_TOKEN
        self.after = np.arange(1, n + 1, dtype=place)
        self.before = np.arange(-1, n - 1, dtype=place)
        frequencies = np.array([0, *pieces.values()], np.int64)
        narrow = np.min_scalar_type(int(frequencies.max()))
        self.weights = np.repeat(frequencies.astype(narrow), lengths)  # (n,)

    def where_still(self, pair: Pair, places: np.ndarray) -> np.ndarray:
        """Those of the places where the pair stands yet."""
        left, right = pair
        there = (self.ids[places] == left) & (self.ids[self.after[places]] == right)
        return places[there]

    def join(self, pair: Pair, places: np.ndarray, token: int) -> np.ndarray:
        """Put ``token`` where the pair stands; returns the places of new pairs' left tokens."""
        if pair[0] == pair[1]:
            places = places[_every_other(self.after[places[:-1]] == places[1:])]
        seconds = self.after[places]
        before, after = self.before[places], self.after[seconds]
        self.ids[places], self.ids[seconds] = token, NO_TOKEN
        self.after[places], self.before[after] = after, places
        return np.concatenate([before[self.ids[before] != NO_TOKEN], places])

    def all_pairs(self) -> Iterator[Counted]:
        """The pairs at all places."""
        places = np.flatnonzero(self.ids != NO_TOKEN)
        return self.pairs_at(places.astype(self.after.dtype))

    def pairs_at(self, places: np.ndarray) -> Iterator[Counted]:
        """The pairs whose left tokens stand at ``places``: the most frequent first, then by id.

        Places of the same pair must be in ascending order.
        """
        places = places[self.ids[self.after[places]] != NO_TOKEN]
        keys = self.ids[places].astype(np.int64)  # changed in place: there are many at first
        keys <<= 32
        keys |= self.ids[self.after[places]]
        order = np.argsort(keys, kind="stable").astype(self.after.dtype)
        places, keys = places[order], keys[order]
        del order
        first = np.flatnonzero(np.diff(keys, prepend=-1))  # where the places of a pair begin
        counts = np.add.reduceat(self.weights[places], first, dtype=np.int64)
        return _most_frequent_first(keys[first], counts, places, np.append(first, len(places)))


def _most_frequent_first(
    keys: np.ndarray, counts: np.ndarray, places: np.ndarray, bounds: np.ndarray
) -> Iterator[Counted]:
    for i in np.argsort(-counts, kind="stable"):
        pair = (int(keys[i]) >> 32, int(keys[i]) & 0xFFFFFFFF)
        yield -int(counts[i]), pair, places[bounds[i] : bounds[i + 1]]


def _every_other(follows: np.ndarray) -> np.ndarray:
    """Which of the overlapping pairs in "aaaa" are joined: from the left, the 1st, 3rd, ...

    Args:
        follows: for each place but the first, whether it overlaps with the one before it.
    """
    overlaps = np.concatenate([[False], follows])
    index = np.arange(len(overlaps))
    first = np.maximum.accumulate(np.where(overlaps, 0, index))
    return (index - first) % 2 == 0
