"""Attention of one new token against cached keys and values, for generation.

    y = softmax(scale q K^T) V,   q one row, K and V the first `length` rows of the cache

One query cannot fill a GPU: the cache is read by several programs per head, each over its share of
the keys, which leave a partial sum, a maximum and a total; a second kernel joins them. The work is
reading the cache once, so no matrix units are needed.

Reference: Dao, Haziza, Massa and Sizov, "Flash-Decoding for long-context inference" (2023).
"""

from __future__ import annotations

import triton
import triton.language as tl

from .._checks import checked_by, out_or_new, require_out
from .._common import split_scalar
from .._runtime import array_module, cdiv, launch, next_power_of_2, program_count
from .._types import Array
from ..errors import KernelError
from .heads import LOG2_E, block_d, check_attention, element_strides, unit_last_stride
from .tiles import tile

TILE, MAX_SPLITS = 4096, 64  # elements of K held at once: more would not fit in registers


@triton.jit(do_not_specialize=["length"])
def attention_decode_kernel(
    Q,  # (B, H, 1, D) by strides, as K and V
    K,  # (B, H, S, D)
    V,  # (B, H, S, D)
    Partial,  # (B, H, splits, D) float32
    Highest,  # (B, H, splits) float32
    Total,  # (B, H, splits) float32
    Length,  # (1,) integer in device memory, or None
    length,  # keys in use where Length is None
    capacity,  # S
    scale_log2,
    q_batch, q_head,
    k_batch, k_head, k_row,
    v_batch, v_head, v_row,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    split, splits = tl.program_id(0), tl.num_programs(0)
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    if Length is not None:
        length = tl.minimum(tl.load(Length).to(tl.int32), capacity)
    share = tl.cdiv(tl.cdiv(length, splits), BLOCK_N) * BLOCK_N
    begin = split * share
    end = tl.minimum(begin + share, length)
    dims = tl.arange(0, BLOCK_D)
    q = tl.load(Q + batch * q_batch + head * q_head + dims, mask=dims < D, other=0.0)
    q = q.to(tl.float32) * scale_log2
    acc = tl.zeros([BLOCK_D], tl.float32)
    highest = tl.full([], -float("inf"), tl.float32)
    total = tl.zeros([], tl.float32)
    for start in range(begin, end, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        k = tile(K + batch * k_batch + head * k_head, columns, dims, k_row, end, D, BLOCK_D, True)
        scores = tl.sum(q[None, :] * k.to(tl.float32), 1)  # (BLOCK_N,)
        scores = tl.where(columns < end, scores, -float("inf"))
        higher = tl.maximum(highest, tl.max(scores, 0))
        reference = tl.where(higher == -float("inf"), 0.0, higher)
        p = tl.exp2(scores - reference)
        shrink = tl.exp2(highest - reference)
        v = tile(V + batch * v_batch + head * v_head, columns, dims, v_row, end, D, BLOCK_D, True)
        acc = acc * shrink + tl.sum(p[:, None] * v.to(tl.float32), 0)
        total = total * shrink + tl.sum(p, 0)
        highest = higher
    place = (batch * tl.num_programs(1) + head) * splits + split
    tl.store(Partial + place * D + dims, acc, mask=dims < D)
    tl.store(Highest + place, highest)
    tl.store(Total + place, total)


@triton.jit
def join_splits_kernel(
    Partial,  # (B, H, splits, D) float32
    Highest,  # (B, H, splits) float32
    Total,  # (B, H, splits) float32
    Y,  # (B, H, 1, D), contiguous
    splits,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_SPLITS: tl.constexpr,
):
    batch_head = tl.program_id(0).to(tl.int64)
    parts, dims = tl.arange(0, BLOCK_SPLITS), tl.arange(0, BLOCK_D)
    place, inside = batch_head * splits + parts, parts < splits
    highest = tl.load(Highest + place, mask=inside, other=-float("inf"))
    reference = tl.max(highest, 0)
    reference = tl.where(reference == -float("inf"), 0.0, reference)
    weight = tl.exp2(highest - reference)
    total = tl.sum(weight * tl.load(Total + place, mask=inside, other=0.0), 0)
    partial = tl.load(Partial + place[:, None] * D + dims[None, :],
                      mask=inside[:, None] & (dims < D)[None, :], other=0.0)
    y = tl.sum(weight[:, None] * partial, 0) / tl.where(total == 0.0, 1.0, total)
    tl.store(Y + batch_head * D + dims, y.to(Y.dtype.element_ty), mask=dims < D)


def _check(q: Array, k: Array, v: Array, length: int | Array | None = None,
           scale: float | None = None, out: Array | None = None) -> None:
    check_attention(q, k, v, scale)
    if q.shape[2] != 1:
        raise KernelError(f"q must have one row, (B, H, 1, D), got {q.shape}; "
                          "use attention for more")
    if isinstance(length, int) and not 0 <= length <= k.shape[2]:
        raise KernelError(f"length must be 0 to {k.shape[2]}, the rows of the "
                          f"cache, got {length}")
    require_out(out, q.shape, q)


@checked_by(_check)
def attention_decode(q: Array, k: Array, v: Array, length: int | Array | None = None,
                     scale: float | None = None, out: Array | None = None) -> Array:
    """One query per head against the first `length` rows of a cache.

    q: (B, H, 1, D); k, v: (B, H, S, D), the preallocated cache, of any strides
    length: rows in use, all S by default; an integer, or an array of one on the device, which a
        CUDA graph reads anew in each replay
    Returns y (B, H, 1, D); zeros where length is 0.
    """
    q, k, v = (unit_last_stride(a) for a in (q, k, v))
    y = out_or_new(out, q.shape, q)
    b, h, s, d = k.shape
    length_array, number = split_scalar(s if length is None else length)
    block_n = max(16, min(128, TILE // block_d(d)))
    splits = _splits(q, s if length_array is not None else int(number), b * h, block_n)
    xp = array_module(q)
    partial = xp.empty((b, h, splits, d), "float32")
    highest, total = xp.empty((b, h, splits), "float32"), xp.empty((b, h, splits), "float32")
    scale = d**-0.5 if scale is None else scale
    launch(attention_decode_kernel, (splits, h, b), q, k, v, partial, highest, total,
           length_array, int(number), s, scale * LOG2_E, *element_strides(q)[:2],
           *element_strides(k), *element_strides(v), D=d, BLOCK_D=block_d(d), BLOCK_N=block_n,
           max_registers=255)
    launch(join_splits_kernel, (b * h,), partial, highest, total, y, splits, D=d,
           BLOCK_D=block_d(d), BLOCK_SPLITS=next_power_of_2(splits), num_warps=4)
    return y


def _splits(q: Array, rows: int, heads: int, block_n: int) -> int:
    """Programs per head: enough to fill the device, none with less than a block of keys."""
    wanted = cdiv(program_count(q, 4), max(heads, 1))
    return max(1, min(wanted, cdiv(rows, block_n), MAX_SPLITS))
