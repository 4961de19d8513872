"""Pieces that several kernels share: random bits, the two-stage column sum, sizes of tiles."""

from __future__ import annotations

import numpy as np
import triton
import triton.language as tl

from ._checks import checked_by, contiguous, require_float
from ._runtime import array_module, cdiv, launch, next_power_of_2, program_count
from ._types import Array, DType, Key, Scalar

# ---------------------------------------------------------------- random bits
# A counter-based generator: the bits of element i depend on the key and on i alone, so that the
# backward pass draws the mask again instead of storing it, and so that NumPy, CuPy and Triton
# agree. The mixing function is "lowbias32" by Chris Wellons (Prospecting for Hash Functions, 2018).


@triton.jit
def mix32(x):
    return mix32_after_first_step(x ^ (x >> 16))


@triton.jit
def mix32_after_first_step(x):
    x *= 0x7FEB352D
    x ^= x >> 15
    x *= 0x846CA68B
    x ^= x >> 16
    return x


@triton.jit
def random_bits(counter, k0, k1):
    """32 random bits for each element of `counter` (uint32) under the key (k0, k1)."""
    return mix32(mix32(counter ^ k0) + k1)


@triton.jit
def load_key(Key, k0, k1):
    """The key as two uint32: from device memory where Key is given, else from the arguments."""
    if Key is not None:
        first, second = tl.load(Key), tl.load(Key + 1)
    else:
        first, second = k0, k1
    return first.to(tl.uint32), second.to(tl.uint32)


def split_key(key: Key | None) -> tuple[Array | None, int, int]:
    """(Key array or None, k0, k1) as `load_key` takes them.

    key: two Python integers of 32 bits, or a uint32 array (2,) on the device, which a CUDA graph
        reads anew in each replay. Integers travel as signed 32-bit ones of the same bits.
    """
    if key is None:
        return None, 0, 0
    if isinstance(key, tuple):
        k0, k1 = ((int(k) & 0xFFFFFFFF) for k in key)
        return None, _as_signed(k0), _as_signed(k1)
    return key.view("int32"), 0, 0


def split_scalar(value: Scalar) -> tuple[Array | None, float]:
    """(array or None, number): a value given as a number, or in device memory as one element.

    A CUDA graph reads device memory anew in each replay, while a number is recorded with it.
    """
    if isinstance(value, (int, float, np.generic)):
        return None, float(value)
    return value, 0.0


def _as_signed(bits: int) -> int:
    return bits - (1 << 32) if bits >= 1 << 31 else bits


def dropout_threshold(p: float) -> int:
    """An element is kept if its bits are at least this number (as signed 32-bit, see split_key)."""
    return _as_signed(min(round(p * 2**32), 2**32 - 1))


# ---------------------------------------------------------------- sums over rows
# A bias gradient is a sum over all rows. It is taken in two stages, since one program per group of
# columns would leave most of the device idle: each program of the first adds its share of the rows
# and writes a partial row, the second adds the partial rows. No atomics, so that the result is the
# same in every run. Few rows, as the second stage has, are cut into narrow columns instead: that
# gives as many programs, each with few loads that wait for each other.

FEW_ROWS = 1024


@triton.jit
def column_sum_kernel(
    X,  # (M, N)
    Out,  # (groups, N), group g adds its share of the rows
    m,
    n,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    group, groups = tl.program_id(1), tl.num_programs(1)
    columns = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = columns < n
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(group * ROWS, m, groups * ROWS):
        rows = start + tl.arange(0, ROWS)
        mask = (rows < m)[:, None] & inside[None, :]
        offset = rows.to(tl.int64)[:, None] * n + columns[None, :]
        total += tl.load(X + offset, mask=mask, other=0.0).to(tl.float32)
    sums = tl.sum(total, 0).to(Out.dtype.element_ty)
    tl.store(Out + group.to(tl.int64) * n + columns, sums, mask=inside)


def _check_column_sum(x: Array, dtype: DType | None = None) -> None:
    require_float(x=x)


@checked_by(_check_column_sum)
def column_sum(x: Array, dtype: DType | None = None) -> Array:
    """Sum of `x` (M, N) over its rows, in float32: (N,) in `dtype`, by default that of x."""
    x = contiguous(x)
    m, n = x.shape
    xp = array_module(x)
    out = xp.empty(n, x.dtype if dtype is None else dtype)
    if m > FEW_ROWS:
        rows, columns = 32, min(next_power_of_2(n), 64)
        blocks = cdiv(n, columns)
        groups = min(cdiv(program_count(x, 8), blocks), cdiv(m, 4 * rows))
        partial = xp.empty((groups, n), "float32")
        launch(column_sum_kernel, (blocks, groups), x, partial, m, n, ROWS=rows, COLUMNS=columns)
        x, m = partial, groups
    launch(column_sum_kernel, (cdiv(n, 16), 1), x, out, m, n, ROWS=128, COLUMNS=16)
    return out


def row_tile(n: int) -> tuple[int, int, int]:
    """(rows, columns, warps) of a tile that holds whole rows of `n` elements.

    Four short rows go together, so that a program has several loads in flight before it needs the
    first; its warps stand side by side along the columns, 8 elements of 16 bits to a thread, which
    makes sums over the four rows sums within a thread. A long row has a program to itself, with
    more warps the longer it is.
    """
    columns = max(next_power_of_2(n), 16)
    if columns <= 1024:
        return 4, columns, max(1, columns // 256)
    return 1, columns, min(32, columns // 512)
