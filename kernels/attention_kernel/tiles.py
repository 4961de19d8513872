"""Tiles of a head: how the kernels of attention read, multiply and write them; dropout bits."""

from __future__ import annotations

import triton
import triton.language as tl

from .._common import random_bits


@triton.jit
def tile(Head, rows, dims, stride, n, D: tl.constexpr, CHUNK: tl.constexpr, MASKED: tl.constexpr):
    """Rows and CHUNK columns of a head; zeros past row n (where MASKED) and past column D."""
    pointers = Head + rows[:, None] * stride + dims[None, :]
    if MASKED:
        return tl.load(pointers, mask=(rows < n)[:, None] & (dims < D)[None, :], other=0.0)
    elif D % CHUNK:
        return tl.load(pointers, mask=(dims < D)[None, :], other=0.0)
    else:
        return tl.load(pointers)


@triton.jit
def rows_of_head(Head, batch, head, start, dims, stride, n, D: tl.constexpr, CHUNK: tl.constexpr,
                 BLOCK: tl.constexpr, DESCRIBED: tl.constexpr):
    """Rows start..start + BLOCK of a head as `tile` reads them.

    Head: a pointer to the head's first element; where DESCRIBED, a descriptor of the whole array
        (B, H, n, D) with blocks (1, 1, BLOCK, CHUNK), which gives zeros outside by itself
    """
    if DESCRIBED:
        return Head.load([batch, head, start, 0]).reshape(BLOCK, CHUNK)
    else:
        return tile(Head, start + tl.arange(0, BLOCK), dims, stride, n, D, CHUNK, True)


@triton.jit
def store_tile(Head, rows, dims, stride, n, value, D: tl.constexpr):
    """Write a tile back, rows below n and columns below D."""
    pointers = Head + rows[:, None] * stride + dims[None, :]
    mask = (rows < n)[:, None] & (dims < D)[None, :]
    tl.store(pointers, value.to(Head.dtype.element_ty), mask=mask)


@triton.jit
def product_of_rows(a, A, a_rows, a_stride, a_n, b, B, b_rows, b_stride, b_n, D: tl.constexpr,
                    CHUNK: tl.constexpr):
    """a b^T over all D columns of two heads: (rows of a, rows of b) float32.

    a, b: tiles of the rows a_rows and b_rows. Where they hold CHUNK columns of a wider head, all
        columns are read from the heads A and B instead, CHUNK at a time.
    """
    if D > CHUNK:
        product = tl.zeros([a_rows.shape[0], b_rows.shape[0]], tl.float32)
        for start in range(0, D, CHUNK):
            dims = start + tl.arange(0, CHUNK)
            part_a = tile(A, a_rows, dims, a_stride, a_n, D, CHUNK, True)
            part_b = tile(B, b_rows, dims, b_stride, b_n, D, CHUNK, True)
            product = tl.dot(part_a, tl.trans(part_b), product, input_precision="tf32x3")
        return product
    else:
        return tl.dot(a, tl.trans(b), input_precision="tf32x3")


@triton.jit
def row_counters(batch_head, rows, t, s):
    """The dropout counter of each query's first key: (batch_head T + row) S, modulo 2^32."""
    return (batch_head.to(tl.uint32) * t.to(tl.uint32) + rows.to(tl.uint32)) * s.to(tl.uint32)


@triton.jit
def keep_mask(counters, columns, first, second, threshold):
    """(rows, columns) whether dropout keeps an element; see _common.random_bits."""
    bits = random_bits(counters[:, None] + columns.to(tl.uint32)[None, :], first, second)
    return bits >= threshold.to(tl.uint32)
