"""Fused attention, backward, in one pass over the scores: five products in place of seven.

The pair in backward.py computes S and dP twice, once for dK and dV and once for
dQ. Here a program owns BLOCK_N keys, walks over the queries that see them, computes both once and
uses them three times. dK and dV stay in registers; the part of dQ that these keys give is added in
float32 to memory, a block at a time, by the unit that copies tensors (a reduction of sm_90). Other
programs add to the same queries in any order, so the last bits of dQ change from run to run.

Everything that passes by comes through tensor descriptors: they give zeros for rows that do not
exist, take no address per thread and leave dK and dV room for 128 columns of 128 keys.

gradients.py chooses between the two.

References: Dao, "FlashAttention-2" (2023), algorithm 2; Shah et al., "FlashAttention-3" (2024).
"""

from __future__ import annotations

from collections.abc import Sequence

import triton
import triton.language as tl

from .._common import dropout_threshold, load_key, split_key
from .._descriptors import Descriptor, why_no_descriptor
from .._runtime import array_module, capability, cdiv, launch, next_power_of_2
from .._types import Array, Key
from ..tuning import Config
from .configs import choose_and_run
from .heads import LOG2_E, block_d, element_strides
from .tiles import keep_mask, row_counters, store_tile, tile

CONVERTED = 4096  # elements that a program converts to the type of dq


@triton.jit
def queries_of_keys(first, t, s, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                    CAUSAL: tl.constexpr):
    """(begin, full): which of the queries 0 to t - 1 see the BLOCK_N keys from `first`.

    Queries before `begin` see none of these keys, from `full` on they see all of them; keys past s
    are seen by none. A query that does not exist has logsum = inf, so that its P is zero.
    """
    if CAUSAL:
        begin = tl.maximum(first - (s - t), 0) // BLOCK_M * BLOCK_M
        return begin, first + BLOCK_N - 1 - (s - t)
    else:
        return 0, tl.where(first + BLOCK_N > s, t, 0)


@triton.jit(do_not_specialize=["k0", "k1", "threshold", "t", "s"])
def attention_backward_one_pass_kernel(
    Q, DY,  # (B, H, T, D) in blocks of (1, 1, BLOCK_M, BLOCK_D)
    K, V,  # (B, H, S, D) in blocks of (1, 1, BLOCK_N, BLOCK_D)
    LogsumLog2, Delta,  # (B H, PADDED) float32 in blocks of (1, BLOCK_M)
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
    batch_head = batch * tl.num_programs(1) + head
    columns = first + tl.arange(0, BLOCK_N)
    seen_from = columns - (s - t)  # the first query that sees a key
    k = K.load([batch, head, first, 0]).reshape(BLOCK_N, BLOCK_D)
    v = V.load([batch, head, first, 0]).reshape(BLOCK_N, BLOCK_D)
    seed0, seed1 = load_key(Key, k0, k1)
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    begin, full = queries_of_keys(first, t, s, BLOCK_M, BLOCK_N, CAUSAL)
    for start in range(begin, t, BLOCK_M):
        q = Q.load([batch, head, start, 0]).reshape(BLOCK_M, BLOCK_D)
        logsum_log2 = LogsumLog2.load([batch_head, start]).reshape(BLOCK_M)
        scores = tl.dot(k, tl.trans(q))  # (BLOCK_N, BLOCK_M)
        p = tl.exp2(scores * scale_log2 - logsum_log2[None, :])
        rows = start + tl.arange(0, BLOCK_M)
        if start < full:  # a branch that all threads take alike: other blocks skip the masks
            if CAUSAL:
                p = tl.where(seen_from[:, None] <= rows[None, :], p, 0.0)
            else:
                p = tl.where((columns < s)[:, None], p, 0.0)
        dy = DY.load([batch, head, start, 0]).reshape(BLOCK_M, BLOCK_D)
        kept = p
        if DROPOUT:
            keep = tl.trans(keep_mask(row_counters(batch_head, rows, t, s), columns, seed0, seed1,
                                      threshold))
            kept = tl.where(keep, p, 0.0)
        dv = tl.dot(kept.to(dy.dtype), dy, dv)
        dp = tl.dot(v, tl.trans(dy))
        if DROPOUT:
            dp = tl.where(keep, dp * keep_scale, 0.0)
        delta = Delta.load([batch_head, start]).reshape(BLOCK_M)
        ds = (p * (dp - delta[None, :])).to(q.dtype)
        dk = tl.dot(ds, q, dk)
        DQ.atomic_add([batch_head * padded + start, 0], tl.dot(tl.trans(ds), k))
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
    batch_head = batch * tl.num_programs(1) + head
    total = tile(Sum + batch_head * padded * D, rows, dims, D, t, D, BLOCK_D, True)
    store_tile(DQ + batch * dq_batch + head * dq_head, rows, dims, dq_row, t, total * scale, D)


def why_not_one_pass(dy: Array, q: Array, k: Array, v: Array) -> str | None:
    """The reason why these gradients need the pair of kernels, or None. All are (B, H, T, D)."""
    if q.itemsize != 2:
        return f"one pass needs 16-bit elements, got {q.dtype}: registers do not suffice for more"
    chip = capability(q)
    if chip >= 110:
        return f"sm_{chip} has too little shared memory for one pass"
    if block_d(q.shape[3]) not in {64, 128}:
        return f"one pass needs a head size of 33 to 128, got {q.shape[3]}"
    reasons = (why_no_descriptor(a, chip) for a in (dy, q, k, v))
    return next((reason for reason in reasons if reason is not None), None)


def one_pass_configs(q: Array, dropout: bool) -> list[Config]:
    """The configurations for arrays like q (B, H, T, D), the default first.

    None spills a register with Triton 3.6 to 3.9, and all fit into the 227 KiB of shared memory of
    sm_90 and sm_100. Four warps with 64 keys leave room for two programs on a multiprocessor, which
    hide each other's waiting, but add to dQ twice as often: on an H200 0.56 ms instead of 0.72 for
    32 sequences of 1024 tokens and 12 heads of 64.
    """
    if block_d(q.shape[3]) == 64:
        tiles = [(64, 64, 4, 3), (64, 128, 8, 2), (64, 64, 4, 2), (64, 128, 8, 3)]
    elif capability(q) >= 100:  # dK, dV, S, dP and dQ share 512 columns of accumulator memory
        tiles = [(64, 64, 8, 2), (64, 64, 4, 2)]
    elif dropout:  # its random bits take the registers of half the queries
        tiles = [(32, 128, 8, 2), (64, 64, 8, 2)]
    else:
        tiles = [(64, 128, 8, 2), (32, 128, 8, 2), (64, 64, 8, 2)]
    names = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages")
    return [{**dict(zip(names, tile, strict=True)), "max_registers": 255} for tile in tiles]


def one_pass(dy: Array, q: Array, k: Array, v: Array, logsum_log2: Array, delta: Array,
             gradients: Sequence[Array], causal: bool, scale: float, dropout_p: float,
             key: Key | None) -> None:
    """Write dq, dk and dv (B, H, T or S, D); logsum_log2 and delta are (B, H, PADDED) float32."""
    dq, dk, dv = gradients
    b, h, t, d = q.shape
    s, padded, width = k.shape[2], delta.shape[2], block_d(d)
    total = array_module(q).empty((b * h * padded, d), "float32")
    logsum_log2, delta = (a.reshape(b * h, padded) for a in (logsum_log2, delta))
    numbers = (*split_key(key if dropout_p else None), dropout_threshold(dropout_p),
               1.0 / (1.0 - dropout_p), scale, scale * LOG2_E, t, s, padded, *element_strides(dk))

    def run(chosen: Config) -> None:
        block_m, block_n = chosen["BLOCK_M"], chosen["BLOCK_N"]
        queries = [Descriptor(a, (1, 1, block_m, width)) for a in (q, dy)]
        keys = [Descriptor(a, (1, 1, block_n, width)) for a in (k, v)]
        rows = [Descriptor(a, (1, block_m)) for a in (logsum_log2, delta)]
        total.fill(0)
        launch(attention_backward_one_pass_kernel, (cdiv(s, block_n), h, b), *queries, *keys, *rows,
               Descriptor(total, (block_m, width)), dk, dv, *numbers, D=d, BLOCK_D=width,
               CAUSAL=causal, DROPOUT=dropout_p > 0.0, **chosen)

    sizes = (d, str(q.dtype), causal, dropout_p > 0.0, next_power_of_2(t), next_power_of_2(s))
    choose_and_run("attention_backward_one_pass", sizes, one_pass_configs(q, dropout_p > 0.0), q,
                   run)
    rows_each = CONVERTED // width
    launch(attention_backward_convert_kernel, (cdiv(t, rows_each), h, b), total, dq, scale, t,
           padded, *element_strides(dq), D=d, BLOCK_D=width, BLOCK_M=rows_each)
