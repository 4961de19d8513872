"""A shuffled order that is computed, not stored: number i of it is a function of i and a seed.

A permutation of billions of windows would fill gigabytes as a list. A Feistel network is a
permutation of the numbers of 2b bits that is computed in a few steps from a key: the two halves
(L, R) of a number become (R, L xor f(R)) in each round. This can be undone for any f, so no two
numbers meet. A number that lands outside 0 .. n - 1 is sent through again until it lands inside
("cycle walking"), which leaves a permutation of 0 .. n - 1.

Sources: Luby, Rackoff, "How to construct pseudorandom permutations", 1988; Black, Rogaway,
"Ciphers with arbitrary finite domains", 2002.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 6
_MULTIPLIER = np.uint64(0xBF58476D1CE4E5B9)  # of splitmix64


def round_keys(seed: int, epoch: int) -> np.ndarray:
    """The keys of an epoch's order, uint64 (ROUNDS + 1,), the same in every version of NumPy."""
    return np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(ROUNDS + 1)


def permuted(index: np.ndarray, n: int, keys: np.ndarray) -> np.ndarray:
    """Where the numbers ``index`` of 0 .. n - 1 stand in the shuffled order.

    Args:
        index: integers (k,), each below n.
        n: how many numbers are shuffled.
        keys: from `round_keys`.

    Returns:
        int64 (k,); over all of 0 .. n - 1 each value occurs once.
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    x = index.astype(np.uint64)
    outside = np.arange(len(x))
    while len(outside):
        x[outside] = _feistel(x[outside], half, keys)
        outside = outside[x[outside] >= n]
    return x.astype(np.int64)


def random_below(index: np.ndarray, n: int, keys: np.ndarray) -> np.ndarray:
    """For each number of ``index`` a random one of 0 .. n - 1, int64 (k,)."""
    return (_mix(index.astype(np.uint64), keys[ROUNDS]) % np.uint64(n)).astype(np.int64)


def _feistel(x: np.ndarray, half: np.uint64, keys: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = x >> half, x & mask
    for key in keys[:ROUNDS]:
        left, right = right, left ^ (_mix(right, key) & mask)
    return (left << half) | right


def _mix(x: np.ndarray, key: np.uint64) -> np.ndarray:
    """A well-spread 64-bit function of each number and a key; arithmetic modulo 2**64."""
    y = (x + key) * _MULTIPLIER
    y ^= y >> np.uint64(29)
    y = (y + key) * _MULTIPLIER
    return y ^ (y >> np.uint64(32))
