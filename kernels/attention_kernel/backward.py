"""Fused attention, backward: the probabilities are computed again from Q, K and logsum.

    P_ij = exp(S_ij - logsum_i),   delta_i = sum_d dY_id Y_id
    dV = dropout(P)^T dY
    dP = dropout'(dY V^T),      dS = P * (dP - delta)
    dQ = scale dS K,            dK = scale dS^T Q

delta replaces the sum over a row that the derivative of a softmax needs; it holds with dropout too.
Two kernels: one owns keys and walks over queries (dK, dV), one owns queries and walks over keys
(dQ). That computes P twice but needs no atomics, so that the result is the same in every run, and
neither kernel runs out of registers. A third comes before them with what both need of a query. As
in the forward pass, a program owns CHUNK columns of a gradient: all of them, except in float32.

backward_one_pass.py is the form without that repetition; gradients.py launches both.

References: Dao, "FlashAttention-2" (2023), algorithm 2; Triton's tutorial 06.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .._common import load_key
from .tiles import keep_mask, product_of_rows, row_counters, store_tile, tile

ROW_PADDING = 128  # rows of LogsumLog2 and Delta are padded to a multiple of it


@triton.jit(do_not_specialize=["t"])
def attention_backward_rows_kernel(
    Y,  # (B, H, T, D)
    DY,  # (B, H, T, D)
    Logsum,  # (B, H, T) float32
    LogsumLog2,  # (B, H, PADDED) float32, in units of log2
    Delta,  # (B, H, PADDED) float32
    t,
    padded,  # t rounded up to ROW_PADDING
    y_batch, y_head, y_row,
    dy_batch, dy_head, dy_row,
    D: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,  # divides ROW_PADDING
):
    """What both walks need of each query, so that they can read it 16 bytes at a time, unmasked.

    A query that does not exist, or that saw no key, gets logsum = inf, which makes its P zero.
    """
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, BLOCK_D)
    y = tile(Y + batch * y_batch + head * y_head, rows, dims, y_row, t, D, BLOCK_D, True)
    dy = tile(DY + batch * dy_batch + head * dy_head, rows, dims, dy_row, t, D, BLOCK_D, True)
    batch_head = batch * tl.num_programs(1) + head
    logsum = tl.load(Logsum + batch_head * t + rows, mask=rows < t, other=-float("inf"))
    logsum = tl.where(logsum == -float("inf"), float("inf"), logsum * 1.4426950408889634)  # log2(e)
    tl.store(LogsumLog2 + batch_head * padded + rows, logsum)
    tl.store(Delta + batch_head * padded + rows, tl.sum(y.to(tl.float32) * dy.to(tl.float32), 1))


@triton.jit
def walk_queries(
    dk,  # (BLOCK_N, CHUNK) float32
    dv,  # (BLOCK_N, CHUNK) float32
    k,  # (BLOCK_N, CHUNK); read from K where a head is cut into chunks
    v,  # (BLOCK_N, CHUNK); read from V where a head is cut into chunks
    K,  # this head's keys
    V,  # this head's values
    Q,  # this head's queries
    DY,  # this head's output gradients
    LogsumLog2,  # (PADDED,) this head's
    Delta,  # (PADDED,) this head's
    k_row, v_row, q_row, dy_row,
    begin, blocks,  # the walk: so many blocks of queries from `begin` on
    straight, last,  # where MASKED: `straight` blocks of them, the others from `last` on
    dims,  # (CHUNK,) columns of dk and dv
    columns,  # (BLOCK_N,) key numbers
    batch_head, t, s, scale_log2,
    first, second, threshold, keep_scale,
    D: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    CAUSAL: tl.constexpr,
    MASKED: tl.constexpr,  # some query does not exist or does not see some key
    DROPOUT: tl.constexpr,
):
    """Add the queries of a walk to dk and dv."""
    for index in range(0, blocks):
        start = begin + index * BLOCK_M
        if MASKED:
            start = tl.where(index < straight, start, last + (index - straight) * BLOCK_M)
        rows = tl.multiple_of(start, BLOCK_M) + tl.arange(0, BLOCK_M)
        q = tile(Q, rows, dims, q_row, t, D, CHUNK, MASKED)  # (BLOCK_M, CHUNK)
        logsum_log2 = tl.load(LogsumLog2 + rows)
        scores = product_of_rows(k, K, columns, k_row, s, q, Q, rows, q_row, t, D, CHUNK)
        p = tl.exp2(scores * scale_log2 - logsum_log2[None, :])
        if MASKED and CAUSAL:
            p = tl.where(columns[:, None] <= rows[None, :] + (s - t), p, 0.0)
        dy = tile(DY, rows, dims, dy_row, t, D, CHUNK, MASKED)
        kept = p
        if DROPOUT:
            keep = tl.trans(keep_mask(row_counters(batch_head, rows, t, s), columns, first, second,
                                      threshold))
            kept = tl.where(keep, p, 0.0)
        dv = tl.dot(kept.to(dy.dtype), dy, dv, input_precision="tf32x3")
        # after dv, so that no more than one matrix of scores and one of dp are alive at a time
        dp = product_of_rows(v, V, columns, v_row, s, dy, DY, rows, dy_row, t, D, CHUNK)
        if DROPOUT:
            dp = tl.where(keep, dp * keep_scale, 0.0)
        delta = tl.load(Delta + rows)
        ds = p * (dp - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="tf32x3")
    return dk, dv


@triton.jit(do_not_specialize=["k0", "k1", "threshold", "t", "s"])
def attention_backward_keys_kernel(
    Q, K, V, DY,  # (B, H, T or S, D) by strides; the last axis is contiguous
    LogsumLog2, Delta,  # (B, H, PADDED) float32
    DK, DV,  # (B, H, S, D), of the same strides
    Key,  # (2,) int32 dropout key in device memory, or None
    k0, k1, threshold,
    keep_scale,  # 1 / (1 - p)
    scale,
    scale_log2,  # scale times log2(e)
    t, s,
    padded,  # t rounded up to ROW_PADDING
    q_batch, q_head, q_row,
    k_batch, k_head, k_row,
    v_batch, v_head, v_row,
    dy_batch, dy_head, dy_row,
    dk_batch, dk_head, dk_row,
    D: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    DROPOUT: tl.constexpr,
):
    chunks: tl.constexpr = (D + CHUNK - 1) // CHUNK
    block, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    columns = block * BLOCK_N + tl.arange(0, BLOCK_N)
    dims = chunk * CHUNK + tl.arange(0, CHUNK)
    K += batch * k_batch + head * k_head
    V += batch * v_batch + head * v_head
    k = tile(K, columns, dims, k_row, s, D, CHUNK, True)
    v = tile(V, columns, dims, v_row, s, D, CHUNK, True)
    Q += batch * q_batch + head * q_head
    DY += batch * dy_batch + head * dy_head
    batch_head = batch * tl.num_programs(1) + head
    LogsumLog2 += batch_head * padded
    Delta += batch_head * padded
    first, second = load_key(Key, k0, k1)
    dk = tl.zeros([BLOCK_N, CHUNK], tl.float32)
    dv = tl.zeros([BLOCK_N, CHUNK], tl.float32)
    # Queries begin..full do not see every key, full..whole see all, whole..t do not fill a block.
    # Masks take registers, so blocks with masks are half as long.
    STEP: tl.constexpr = BLOCK_M // 2 if BLOCK_M > 16 else 16
    begin, full, whole = 0, 0, t // BLOCK_M * BLOCK_M
    if CAUSAL:
        begin = tl.minimum(tl.maximum(block * BLOCK_N - (s - t), 0) // STEP * STEP, whole)
        sees_all = tl.maximum(block * BLOCK_N + BLOCK_N - 1 - (s - t), 0)
        full = tl.maximum(tl.minimum(tl.cdiv(sees_all, BLOCK_M) * BLOCK_M, whole), begin)
    straight = (full - begin) // STEP
    dk, dv = walk_queries(
        dk, dv, k, v, K, V, Q, DY, LogsumLog2, Delta, k_row, v_row, q_row, dy_row, begin,
        straight + tl.cdiv(t - whole, STEP), straight, whole, dims, columns, batch_head, t, s,
        scale_log2, first, second, threshold, keep_scale, D, CHUNK, STEP, CAUSAL, True, DROPOUT)
    dk, dv = walk_queries(
        dk, dv, k, v, K, V, Q, DY, LogsumLog2, Delta, k_row, v_row, q_row, dy_row, full,
        (whole - full) // BLOCK_M, 0, 0, dims, columns, batch_head, t, s, scale_log2, first, second,
        threshold, keep_scale, D, CHUNK, BLOCK_M, CAUSAL, False, DROPOUT)
    offset = batch * dk_batch + head * dk_head
    store_tile(DK + offset, columns, dims, dk_row, s, dk * scale, D)
    store_tile(DV + offset, columns, dims, dk_row, s, dv * keep_scale, D)


@triton.jit
def walk_keys(
    dq,  # (BLOCK_M, CHUNK) float32
    q,  # (BLOCK_M, CHUNK); read from Q where a head is cut into chunks
    dy,  # (BLOCK_M, CHUNK); read from DY where a head is cut into chunks
    Q,  # this head's queries
    DY,  # this head's output gradients
    logsum_log2,  # (BLOCK_M,) logsum in units of log2
    delta,  # (BLOCK_M,)
    K,  # this head's keys
    V,  # this head's values
    q_row, dy_row, k_row, v_row,
    begin, end,  # keys of the walk
    rows,  # (BLOCK_M,) query numbers
    dims,  # (CHUNK,) columns of dq
    batch_head, t, s, scale_log2,
    first, second, threshold, keep_scale,
    D: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    MASKED: tl.constexpr,
    DROPOUT: tl.constexpr,
):
    """Add the keys begin..end to dq."""
    for start in range(begin, end, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        k = tile(K, columns, dims, k_row, s, D, CHUNK, MASKED)  # (BLOCK_N, CHUNK)
        scores = product_of_rows(q, Q, rows, q_row, t, k, K, columns, k_row, s, D, CHUNK)
        p = tl.exp2(scores * scale_log2 - logsum_log2[:, None])
        if MASKED and CAUSAL:  # a query that exists, i < t, sees no key past s
            p = tl.where(columns[None, :] <= rows[:, None] + (s - t), p, 0.0)
        elif MASKED:
            p = tl.where((columns < s)[None, :], p, 0.0)
        v = tile(V, columns, dims, v_row, s, D, CHUNK, MASKED)  # (BLOCK_N, CHUNK)
        dp = product_of_rows(dy, DY, rows, dy_row, t, v, V, columns, v_row, s, D, CHUNK)
        if DROPOUT:
            counters = row_counters(batch_head, rows, t, s)
            keep = keep_mask(counters, columns, first, second, threshold)
            dp = tl.where(keep, dp * keep_scale, 0.0)
        ds = p * (dp - delta[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="tf32x3")
    return dq


@triton.jit(do_not_specialize=["k0", "k1", "threshold", "t", "s"])
def attention_backward_queries_kernel(
    Q, K, V, DY,  # (B, H, T or S, D) by strides; the last axis is contiguous
    LogsumLog2, Delta,  # (B, H, PADDED) float32
    DQ,  # (B, H, T, D)
    Key,  # (2,) int32 dropout key in device memory, or None
    k0, k1, threshold,
    keep_scale,  # 1 / (1 - p)
    scale,
    scale_log2,  # scale times log2(e)
    t, s,
    padded,  # t rounded up to ROW_PADDING
    q_batch, q_head, q_row,
    k_batch, k_head, k_row,
    v_batch, v_head, v_row,
    dy_batch, dy_head, dy_row,
    dq_batch, dq_head, dq_row,
    D: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    DROPOUT: tl.constexpr,
):
    chunks: tl.constexpr = (D + CHUNK - 1) // CHUNK
    block = (tl.num_programs(0) - 1 - tl.program_id(0)) // chunks  # the longest walks start first
    chunk = tl.program_id(0) % chunks
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = chunk * CHUNK + tl.arange(0, CHUNK)
    Q += batch * q_batch + head * q_head
    DY += batch * dy_batch + head * dy_head
    q = tile(Q, rows, dims, q_row, t, D, CHUNK, True)
    dy = tile(DY, rows, dims, dy_row, t, D, CHUNK, True)
    K += batch * k_batch + head * k_head
    V += batch * v_batch + head * v_head
    batch_head = batch * tl.num_programs(1) + head
    logsum_log2 = tl.load(LogsumLog2 + batch_head * padded + rows)
    delta = tl.load(Delta + batch_head * padded + rows)
    first, second = load_key(Key, k0, k1)
    full, end = s // BLOCK_N * BLOCK_N, s
    if CAUSAL:
        first_sees = tl.maximum(block * BLOCK_M + (s - t) + 1, 0)
        full = tl.minimum(full, first_sees // BLOCK_N * BLOCK_N)
        end = tl.minimum(s, tl.maximum(block * BLOCK_M + BLOCK_M + (s - t), 0))
    dq = tl.zeros([BLOCK_M, CHUNK], tl.float32)
    dq = walk_keys(
        dq, q, dy, Q, DY, logsum_log2, delta, K, V, q_row, dy_row, k_row, v_row, 0, full, rows,
        dims, batch_head, t, s, scale_log2, first, second, threshold, keep_scale, D, CHUNK,
        BLOCK_N, CAUSAL, False, DROPOUT)
    dq = walk_keys(
        dq, q, dy, Q, DY, logsum_log2, delta, K, V, q_row, dy_row, k_row, v_row, full, end, rows,
        dims, batch_head, t, s, scale_log2, first, second, threshold, keep_scale, D, CHUNK,
        BLOCK_N, CAUSAL, True, DROPOUT)
    store_tile(DQ + batch * dq_batch + head * dq_head, rows, dims, dq_row, t, dq * scale, D)
