"""Fused attention, backward: the probabilities are computed again from Q, K and lse.

    P_ij = exp(S_ij - lse_i),   delta_i = sum_d dO_id O_id
    dV = dropout(P)^T dO
    dP = dropout'(dO V^T),      dS = P * (dP - delta)
    dQ = scale dS K,            dK = scale dS^T Q

delta replaces the sum over a row that the derivative of a softmax needs; it holds with dropout too.
Two kernels: one owns keys and walks over queries (dK, dV), one owns queries and walks over keys
(dQ). That computes P twice but needs no atomics, so that the result is the same in every run, and
neither kernel runs out of registers.

attention_gradients.py launches them.

References: Dao, "FlashAttention-2" (2023), algorithm 2; Triton's tutorial 06.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ._attention_common import keep_mask, row_counters, store_tile, tile
from ._common import load_key


@triton.jit
def delta_kernel(
    O,  # (B, H, T, D)
    DO,  # (B, H, T, D)
    Delta,  # (B, H, T) float32
    t,
    o_batch, o_head, o_row,
    do_batch, do_head, do_row,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, BLOCK_D)
    o = tile(O + batch * o_batch + head * o_head, rows, dims, o_row, t, D, BLOCK_D, True)
    do = tile(DO + batch * do_batch + head * do_head, rows, dims, do_row, t, D, BLOCK_D, True)
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    lane = batch * tl.num_programs(1) + head
    tl.store(Delta + lane * t + rows, delta, mask=rows < t)


@triton.jit
def walk_queries(
    dk,  # (BLOCK_N, BLOCK_D) float32
    dv,  # (BLOCK_N, BLOCK_D) float32
    k,  # (BLOCK_N, BLOCK_D)
    v,  # (BLOCK_N, BLOCK_D)
    Q,  # this head's queries
    DO,  # this head's output gradients
    Lse,  # (T,) this head's
    Delta,  # (T,) this head's
    q_row, do_row,
    begin, end,  # queries of the walk
    columns,  # (BLOCK_N,) key numbers
    lane, t, s, scale_log2,
    first, second, threshold, keep_scale,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    MASKED: tl.constexpr,  # some query does not see some key
    DROPOUT: tl.constexpr,
):
    """Add the queries begin..end to dk and dv."""
    dims = tl.arange(0, BLOCK_D)
    for start in range(begin, end, BLOCK_M):
        rows = start + tl.arange(0, BLOCK_M)
        inside = rows < t
        q = tile(Q, rows, dims, q_row, t, D, BLOCK_D, True)  # (BLOCK_M, BLOCK_D)
        lse = tl.load(Lse + rows, mask=inside, other=0.0)
        scores = tl.dot(k, tl.trans(q), input_precision="tf32x3")  # (BLOCK_N, BLOCK_M)
        p = tl.exp2(scores * scale_log2 - (lse * 1.4426950408889634)[None, :])  # log2(e)
        if MASKED:
            p = tl.where(columns[:, None] <= rows[None, :] + (s - t), p, 0.0)
        do = tile(DO, rows, dims, do_row, t, D, BLOCK_D, True)
        dp = tl.dot(v, tl.trans(do), input_precision="tf32x3")
        kept = p
        if DROPOUT:
            keep = tl.trans(keep_mask(row_counters(lane, rows, t, s), columns, first, second,
                                      threshold))
            kept = tl.where(keep, p, 0.0)
            dp = tl.where(keep, dp * keep_scale, 0.0)
        dv = tl.dot(kept.to(do.dtype), do, dv, input_precision="tf32x3")
        delta = tl.load(Delta + rows, mask=inside, other=0.0)
        ds = p * (dp - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="tf32x3")
    return dk, dv


@triton.jit(do_not_specialize=["k0", "k1", "threshold", "t", "s"])
def attention_backward_keys_kernel(
    Q, K, V, DO,  # (B, H, T or S, D) by strides; the last axis is contiguous
    Lse, Delta,  # (B, H, T) float32
    DK, DV,  # (B, H, S, D), of the same strides
    Key,  # (2,) int32 dropout key in device memory, or None
    k0, k1, threshold,
    keep_scale,  # 1 / (1 - p)
    scale,
    scale_log2,  # scale times log2(e)
    t, s,
    q_batch, q_head, q_row,
    k_batch, k_head, k_row,
    v_batch, v_head, v_row,
    do_batch, do_head, do_row,
    dk_batch, dk_head, dk_row,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    DROPOUT: tl.constexpr,
):
    block = tl.program_id(0)
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    columns = block * BLOCK_N + tl.arange(0, BLOCK_N)
    dims = tl.arange(0, BLOCK_D)
    k = tile(K + batch * k_batch + head * k_head, columns, dims, k_row, s, D, BLOCK_D, True)
    v = tile(V + batch * v_batch + head * v_head, columns, dims, v_row, s, D, BLOCK_D, True)
    Q += batch * q_batch + head * q_head
    DO += batch * do_batch + head * do_head
    lane = batch * tl.num_programs(1) + head
    Lse += lane * t
    Delta += lane * t
    first, second = load_key(Key, k0, k1)
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    full = 0  # from this query on, every query sees every key of the block
    if CAUSAL:
        begin = tl.maximum(block * BLOCK_N - (s - t), 0) // BLOCK_M * BLOCK_M
        sees_all = tl.maximum(block * BLOCK_N + BLOCK_N - 1 - (s - t), 0)
        full = tl.minimum((sees_all + BLOCK_M - 1) // BLOCK_M * BLOCK_M, t)
        dk, dv = walk_queries(
            dk, dv, k, v, Q, DO, Lse, Delta, q_row, do_row, begin, full, columns, lane, t, s,
            scale_log2, first, second, threshold, keep_scale, D, BLOCK_D, BLOCK_M, True, DROPOUT)
    dk, dv = walk_queries(
        dk, dv, k, v, Q, DO, Lse, Delta, q_row, do_row, full, t, columns, lane, t, s,
        scale_log2, first, second, threshold, keep_scale, D, BLOCK_D, BLOCK_M, False, DROPOUT)
    offset = batch * dk_batch + head * dk_head
    store_tile(DK + offset, columns, dims, dk_row, s, dk * scale, D)
    store_tile(DV + offset, columns, dims, dk_row, s, dv * keep_scale, D)


@triton.jit
def walk_keys(
    dq,  # (BLOCK_M, BLOCK_D) float32
    q,  # (BLOCK_M, BLOCK_D)
    do,  # (BLOCK_M, BLOCK_D)
    lse_log2,  # (BLOCK_M,) lse in units of log2
    delta,  # (BLOCK_M,)
    K,  # this head's keys
    V,  # this head's values
    k_row, v_row,
    begin, end,  # keys of the walk
    rows,  # (BLOCK_M,) query numbers
    lane, t, s, scale_log2,
    first, second, threshold, keep_scale,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    MASKED: tl.constexpr,
    DROPOUT: tl.constexpr,
):
    """Add the keys begin..end to dq."""
    dims = tl.arange(0, BLOCK_D)
    for start in range(begin, end, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        k = tile(K, columns, dims, k_row, s, D, BLOCK_D, MASKED)  # (BLOCK_N, BLOCK_D)
        v = tile(V, columns, dims, v_row, s, D, BLOCK_D, MASKED)
        scores = tl.dot(q, tl.trans(k), input_precision="tf32x3")  # (BLOCK_M, BLOCK_N)
        p = tl.exp2(scores * scale_log2 - lse_log2[:, None])
        if MASKED:
            visible = (columns < s)[None, :]
            if CAUSAL:
                visible = visible & (columns[None, :] <= rows[:, None] + (s - t))
            p = tl.where(visible, p, 0.0)
        dp = tl.dot(do, tl.trans(v), input_precision="tf32x3")
        if DROPOUT:
            keep = keep_mask(row_counters(lane, rows, t, s), columns, first, second, threshold)
            dp = tl.where(keep, dp * keep_scale, 0.0)
        ds = p * (dp - delta[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="tf32x3")
    return dq


@triton.jit(do_not_specialize=["k0", "k1", "threshold", "t", "s"])
def attention_backward_queries_kernel(
    Q, K, V, DO,  # (B, H, T or S, D) by strides; the last axis is contiguous
    Lse, Delta,  # (B, H, T) float32
    DQ,  # (B, H, T, D)
    Key,  # (2,) int32 dropout key in device memory, or None
    k0, k1, threshold,
    keep_scale,  # 1 / (1 - p)
    scale,
    scale_log2,  # scale times log2(e)
    t, s,
    q_batch, q_head, q_row,
    k_batch, k_head, k_row,
    v_batch, v_head, v_row,
    do_batch, do_head, do_row,
    dq_batch, dq_head, dq_row,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    DROPOUT: tl.constexpr,
):
    block = tl.num_programs(0) - 1 - tl.program_id(0)  # the longest walks start first
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, BLOCK_D)
    q = tile(Q + batch * q_batch + head * q_head, rows, dims, q_row, t, D, BLOCK_D, True)
    do = tile(DO + batch * do_batch + head * do_head, rows, dims, do_row, t, D, BLOCK_D, True)
    K += batch * k_batch + head * k_head
    V += batch * v_batch + head * v_head
    lane = batch * tl.num_programs(1) + head
    lse_log2 = tl.load(Lse + lane * t + rows, mask=rows < t, other=0.0) * 1.4426950408889634
    delta = tl.load(Delta + lane * t + rows, mask=rows < t, other=0.0)
    first, second = load_key(Key, k0, k1)
    full, end = s // BLOCK_N * BLOCK_N, s
    if CAUSAL:
        first_sees = tl.maximum(block * BLOCK_M + (s - t) + 1, 0)
        full = tl.minimum(full, first_sees // BLOCK_N * BLOCK_N)
        end = tl.minimum(s, tl.maximum(block * BLOCK_M + BLOCK_M + (s - t), 0))
    dq = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    dq = walk_keys(dq, q, do, lse_log2, delta, K, V, k_row, v_row, 0, full, rows, lane, t, s,
                   scale_log2, first, second, threshold, keep_scale, D, BLOCK_D, BLOCK_N, CAUSAL,
                   False, DROPOUT)
    dq = walk_keys(dq, q, do, lse_log2, delta, K, V, k_row, v_row, full, end, rows, lane, t, s,
                   scale_log2, first, second, threshold, keep_scale, D, BLOCK_D, BLOCK_N, CAUSAL,
                   True, DROPOUT)
    store_tile(DQ + batch * dq_batch + head * dq_head, rows, dims, dq_row, t, dq * scale, D)
