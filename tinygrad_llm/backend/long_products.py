"""Products along a vocabulary: tens of thousands of terms in a sum, or as many rows in a result.

Both are cut along the vocabulary, so that a slice of the weight is read once and what is added up
stays in the cache.
"""

from __future__ import annotations

import numpy as np

from tinygrad_llm.backend import Array, ArrayModule, bf16_products, pool
from tinygrad_llm.backend.compute import each, empty, matmul_of_block
from tinygrad_llm.backend.products import Product
from tinygrad_llm.backend.threads import even_parts, num_threads, parallel

LONG_SLICE = 16384  # terms of a long sum that one task adds up
TURNED_SLICE = 1024  # terms whose weights are turned, packed and multiplied in the cache
ROWS_SLICE = 2048  # rows of a long result that are added to at a time, in the cache


def long_sum(xp: ArrayModule, a: Array, b: Array, out: Array) -> None:
    """out (n, C) = a (n, V) b (V, C): slices of the sum over V are shared out and added."""
    if xp is np and bf16_products.takes(a, b):
        _long_sum_of_rounded(a, b, out)
        return
    slices = even_parts(len(b), LONG_SLICE)
    parts = empty(xp, (len(slices), len(a), b.shape[1]), a.dtype)
    each(
        xp, lambda i: matmul_of_block(xp, a[:, slices[i]], b[slices[i]], out=parts[i]), len(slices)
    )
    for part in parts[1:]:
        parts[0] += part
    out[...] = parts[0]


def _long_sum_of_rounded(a: Array, b: Array, out: Array) -> None:
    """The same from bfloat16 operands: each thread adds up its share, in slices that it turns."""
    slices = even_parts(len(b), TURNED_SLICE)
    n = min(num_threads(), len(slices))
    parts = pool.empty((n, *out.shape), out.dtype)

    def add_up(thread: int) -> None:
        for i in range(thread, len(slices), n):
            terms = slices[i]
            one = Product(a[:, terms], b[terms], parts[thread])
            bf16_products.compute_all([one], add=i > thread)

    parallel(add_up, n)
    np.sum(parts, axis=0, out=out)


def long_result(xp: ArrayModule, a: Array, b: Array, out: Array, add: bool) -> None:
    """out (V, C) = a (V, n) b (n, C), or out += a b: a slice of rows at a time."""
    if xp is np and bf16_products.takes(a, b):
        bf16_products.compute_all([Product(a, b, out)], add=add)
        return
    slices = even_parts(len(out), ROWS_SLICE)

    def compute(i: int) -> None:
        rows = slices[i]
        if add:
            part = empty(xp, out[rows].shape, out.dtype)
            out[rows] += matmul_of_block(xp, a[rows], b, out=part)
        else:
            matmul_of_block(xp, a[rows], b, out=out[rows])

    each(xp, compute, len(slices))
