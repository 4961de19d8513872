"""Fused attention, backward, in one pass over the scores: five products in place of seven.

The pair in attention_backward_kernel.py computes S and dP twice, once for dK and dV and once for
dQ. Here a program owns BLOCK_N keys, walks over the queries that see them, computes both once and
uses them three times. dK and dV stay in registers; the part of dQ that these keys give is added in
float32 to memory, a block at a time, by the unit that copies tensors (a reduction of sm_90). Other
programs add to the same queries in any order, so the last bits of dQ change from run to run.

Everything that passes by comes through tensor descriptors: they give zeros for rows that do not
exist, take no address per lane and leave dK and dV room for 128 columns of 128 keys.

attention_one_pass.py launches it, attention_gradients.py chooses.

References: Dao, "FlashAttention-2" (2023), algorithm 2; Shah et al., "FlashAttention-3" (2024).
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._attention_common import keep_mask, row_counters, store_tile, tile
from ._common import load_key


@triton.jit(do_not_specialize=["k0", "k1", "threshold", "t", "s"])
def attention_backward_one_pass_kernel(
    Q, DO,  # (B, H, T, D) in blocks of (1, 1, BLOCK_M, BLOCK_D)
    K, V,  # (B, H, S, D) in blocks of (1, 1, BLOCK_N, BLOCK_D)
    LseLog2, Delta,  # (B H, PADDED) float32 in blocks of (1, BLOCK_M)
    DQ,  # (B H PADDED, D) float32 in blocks of (BLOCK_M, BLOCK_D), added to; without scale
    DK, DV,  # (B, H, S, D), of the same strides
    Key,  # (2,) int32 dropout key in device memory, or None
    k0, k1, threshold,
    keep_scale,  # 1 / (1 - p)
    scale,
    scale_log2,  # scale times log2(e)
    t, s,
    padded,  # rows of DQ per head
    dk_batch, dk_head, dk_row,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    DROPOUT: tl.constexpr,
):
    head, batch = tl.program_id(1), tl.program_id(2)
    first = tl.program_id(0) * BLOCK_N  # the longest walks start first
    lane = batch * tl.num_programs(1) + head
    columns = first + tl.arange(0, BLOCK_N)
    seen_from = columns - (s - t)  # the first query that sees a key
    k = K.load([batch, head, first, 0]).reshape(BLOCK_N, BLOCK_D)
    v = V.load([batch, head, first, 0]).reshape(BLOCK_N, BLOCK_D)
    seed0, seed1 = load_key(Key, k0, k1)
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    # Queries before `begin` see none of these keys, from `full` on they see all of them; keys past
    # s are seen by none. A query that does not exist has lse = inf, so that its P is zero.
    begin, full = 0, tl.where(first + BLOCK_N > s, t, 0)
    if CAUSAL:
        begin = tl.maximum(first - (s - t), 0) // BLOCK_M * BLOCK_M
        full = first + BLOCK_N - 1 - (s - t)
    for start in range(begin, t, BLOCK_M):
        q = Q.load([batch, head, start, 0]).reshape(BLOCK_M, BLOCK_D)
        lse_log2 = LseLog2.load([lane, start]).reshape(BLOCK_M)
        scores = tl.dot(k, tl.trans(q))  # (BLOCK_N, BLOCK_M)
        p = tl.exp2(scores * scale_log2 - lse_log2[None, :])
        rows = start + tl.arange(0, BLOCK_M)
        if start < full:  # alike in all threads, so a branch: blocks without masks do not pay
            if CAUSAL:
                p = tl.where(seen_from[:, None] <= rows[None, :], p, 0.0)
            else:
                p = tl.where((columns < s)[:, None], p, 0.0)
        do = DO.load([batch, head, start, 0]).reshape(BLOCK_M, BLOCK_D)
        kept = p
        if DROPOUT:
            keep = tl.trans(keep_mask(row_counters(lane, rows, t, s), columns, seed0, seed1,
                                      threshold))
            kept = tl.where(keep, p, 0.0)
        dv = tl.dot(kept.to(do.dtype), do, dv)
        dp = tl.dot(v, tl.trans(do))
        if DROPOUT:
            dp = tl.where(keep, dp * keep_scale, 0.0)
        delta = Delta.load([lane, start]).reshape(BLOCK_M)
        ds = (p * (dp - delta[None, :])).to(q.dtype)
        dk = tl.dot(ds, q, dk)
        DQ.atomic_add([lane * padded + start, 0], tl.dot(tl.trans(ds), k))
    dims = tl.arange(0, BLOCK_D)
    offset = batch.to(tl.int64) * dk_batch + head.to(tl.int64) * dk_head
    store_tile(DK + offset, columns, dims, dk_row, s, dk * scale, D)
    store_tile(DV + offset, columns, dims, dk_row, s, dv * keep_scale, D)


@triton.jit(do_not_specialize=["t"])
def attention_backward_convert_kernel(
    Sum,  # (B H, PADDED, D) float32
    DQ,  # (B, H, T, D) by strides; the last axis is contiguous
    scale,
    t,
    padded,
    dq_batch, dq_head, dq_row,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """dQ in its own type: scale times the sum."""
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, BLOCK_D)
    lane = batch * tl.num_programs(1) + head
    total = tile(Sum + lane * padded * D, rows, dims, D, t, D, BLOCK_D, True)
    store_tile(DQ + batch * dq_batch + head * dq_head, rows, dims, dq_row, t, total * scale, D)
