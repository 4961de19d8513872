"""Fused attention, forward: the (T, S) matrix of scores never reaches memory.

    S = scale Q K^T (+ causal mask),   P = softmax(S),   Y = dropout(P) V
    logsum_i = log sum_j exp S_ij, kept for the backward pass

One program owns BLOCK_M queries and walks over the keys, BLOCK_N at a time. It keeps a running
maximum m, a running sum l and an unnormalized output acc; when a block of keys raises the maximum,
what was summed before is scaled down by exp(m_old - m_new). Blocks that every query of the program
sees in full skip the masks; the diagonal and the ragged end come last, with them, in the same loop,
so that keys are copied ahead to its end. The maximum begins at LOWEST and not at -inf, whose
difference to itself would be NaN. Exponentials are powers of two, which the hardware has, with
log2(e) folded into the scale.

On sm_90 and sm_100, without dropout, blocks of Q, K and V are copied through tensor descriptors: no
address takes a register, and rows past the end of a sequence are zeros whatever lies there.

Blocks of queries are taken in an order (order.py): a program takes the one at the place
of its own number, or, where PERSISTENT, one of every round until none is left.

A product of float32 tiles is three TF32 products on the matrix units ("tf32x3"), nearly as exact.
They take so many registers that a program owns only CHUNK columns of a wide head's output then, and
adds up its scores over all of them.

Causal with S keys and T queries aligns the ends: query i sees the keys j <= i + S - T. A query that
sees no key at all (S < T) gives zeros. The counter of a dropout bit is ((b H + h) T + i) S + j.

References: Dao, "FlashAttention-2" (2023), algorithm 1; Milakov and Gimelshein (2018) for the
running sum; Triton's tutorial 06.
"""

from __future__ import annotations

from collections.abc import Sequence

import triton
import triton.language as tl

from .._checks import checked_by, out_or_new, require_dropout, require_out
from .._common import dropout_threshold, load_key, split_key
from .._descriptors import Descriptor
from .._runtime import array_module, cdiv, launch, next_power_of_2, program_count
from .._types import Array, Key
from ..tuning import Config
from .configs import choose_and_run, configs, forward_configs
from .heads import (
    LOG2_E,
    aligned,
    as_heads,
    check_attention,
    check_qkv,
    element_strides,
    split_heads,
    unit_last_stride,
)
from .order import heads_together, nth_block, there_and_back
from .tiles import keep_mask, product_of_rows, row_counters, rows_of_head, store_tile

LOWEST: tl.constexpr = tl.constexpr(-3.0e38)  # a maximum of no scores


@triton.jit
def attend(
    q,  # (BLOCK_M, CHUNK); read from Q where a head is cut into chunks
    Q,  # this head's queries
    K,  # this head's keys, or the descriptor of all
    V,  # this head's values, or the descriptor of all
    q_row, k_row, v_row,  # strides between rows
    batch, head,
    full,  # keys 0..full are seen by every query
    end,  # keys 0..end are seen by some query
    rows,  # (BLOCK_M,) query numbers
    dims,  # (CHUNK,) columns of V and Y
    t, s,
    scale_log2,
    counters,  # (BLOCK_M,) dropout counter of each query's first key, uint32
    first, second, threshold,  # dropout key, and the least bits that are kept
    D: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    DROPOUT: tl.constexpr,
    DESCRIBED: tl.constexpr,
):
    """(acc, total, highest): unnormalized output, running sum and maximum in units of log2."""
    acc = tl.zeros([rows.shape[0], CHUNK], tl.float32)
    total = tl.zeros([rows.shape[0]], tl.float32)
    highest = tl.full([rows.shape[0]], LOWEST, tl.float32)
    for start in range(0, end, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        k = rows_of_head(K, batch, head, start, dims, k_row, s, D, CHUNK, BLOCK_N, DESCRIBED)
        scores = product_of_rows(q, Q, rows, q_row, t, k, K, columns, k_row, s, D, CHUNK)
        if start + BLOCK_N > full:  # a branch that all threads take alike
            if CAUSAL:  # which implies columns < s for every query that exists
                visible = columns[None, :] <= rows[:, None] + (s - t)
            else:
                visible = (columns < s)[None, :]
            scores = tl.where(visible, scores, -float("inf"))
        higher = tl.maximum(highest, tl.max(scores, 1) * scale_log2)
        p = tl.exp2(scores * scale_log2 - higher[:, None])
        shrink = tl.exp2(highest - higher)
        total = total * shrink + tl.sum(p, 1)
        if DROPOUT:
            p = tl.where(keep_mask(counters, columns, first, second, threshold), p, 0.0)
        v = rows_of_head(V, batch, head, start, dims, v_row, s, D, CHUNK, BLOCK_N, DESCRIBED)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision="tf32x3")
        highest = higher
    return acc, total, highest


@triton.jit
def attend_from_block(
    place,  # of this block in the order of all
    blocks, batch_heads, heads, together,
    Q, K, V, Y, Logsum, first, second, threshold, keep_scale, scale_log2, t, s,
    q_batch, q_head, q_row,
    k_batch, k_head, k_row,
    v_batch, v_head, v_row,
    y_batch, y_head, y_row,
    D: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    DROPOUT: tl.constexpr,
    DESCRIBED: tl.constexpr,
):
    """Output and logsum of one block of queries and one chunk of columns."""
    chunks: tl.constexpr = (D + CHUNK - 1) // CHUNK
    part, batch_head = nth_block(place, blocks * chunks, batch_heads, together)
    block, chunk = part // chunks, part % chunks
    batch, head = batch_head // heads, batch_head % heads

    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = chunk * CHUNK + tl.arange(0, CHUNK)
    wide_batch, wide_head = batch.to(tl.int64), head.to(tl.int64)
    if not DESCRIBED:
        Q += wide_batch * q_batch + wide_head * q_head
        K += wide_batch * k_batch + wide_head * k_head
        V += wide_batch * v_batch + wide_head * v_head
    Y += wide_batch * y_batch + wide_head * y_head
    q = rows_of_head(Q, batch, head, block * BLOCK_M, dims, q_row, t, D, CHUNK, BLOCK_M, DESCRIBED)
    full, end = s // BLOCK_N * BLOCK_N, s
    if CAUSAL:
        full = tl.minimum(full, tl.maximum(block * BLOCK_M + (s - t) + 1, 0) // BLOCK_N * BLOCK_N)
        end = tl.minimum(s, tl.maximum(block * BLOCK_M + BLOCK_M + (s - t), 0))
    wide_batch_head = batch_head.to(tl.int64)
    acc, total, highest = attend(
        q, Q, K, V, q_row, k_row, v_row, batch, head, full, end, rows, dims, t, s, scale_log2,
        row_counters(wide_batch_head, rows, t, s), first, second, threshold, D, CHUNK, BLOCK_N,
        CAUSAL, DROPOUT, DESCRIBED)

    nonzero = tl.where(total == 0.0, 1.0, total)
    store_tile(Y, rows, dims, y_row, t, acc * (keep_scale / nonzero)[:, None], D)
    logsum = (highest + tl.log2(total)) * 0.6931471805599453  # ln 2; log 0 = -inf without a key
    tl.store(Logsum + wide_batch_head * t + rows, logsum, mask=(rows < t) & (chunk == 0))


@triton.jit(do_not_specialize=["k0", "k1", "threshold", "t", "s", "blocks", "batch_heads", "heads",
                               "together"])
def attention_forward_kernel(
    Q,  # (B, H, T, D) by strides, as K, V and Y; the last axis is contiguous. Where DESCRIBED,
    K,  # (B, H, S, D), Q, K and V are descriptors with blocks of BLOCK_M or BLOCK_N rows
    V,  # (B, H, S, D)
    Y,  # (B, H, T, D)
    Logsum,  # (B, H, T) float32
    Key,  # (2,) int32 dropout key in device memory, or None
    k0,
    k1,
    threshold,
    keep_scale,  # 1 / (1 - p)
    scale_log2,  # softmax scale times log2(e)
    t,
    s,
    blocks,  # of BLOCK_M queries in T
    batch_heads,  # B H, batch_head = b H + h
    heads,  # H
    together,  # heads that are walked side by side
    q_batch, q_head, q_row,
    k_batch, k_head, k_row,
    v_batch, v_head, v_row,
    y_batch, y_head, y_row,
    D: tl.constexpr,
    CHUNK: tl.constexpr,  # columns of a head that a program owns; mostly all, at least D
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    DROPOUT: tl.constexpr,
    DESCRIBED: tl.constexpr,
    PERSISTENT: tl.constexpr,  # programs per multiprocessor, each for many blocks; 0: one for each
):
    first, second = load_key(Key, k0, k1)
    program, programs = tl.program_id(0), tl.num_programs(0)
    if PERSISTENT:
        count = blocks * batch_heads * ((D + CHUNK - 1) // CHUNK)
        for begin in range(0, count, programs):
            place = there_and_back(begin, program, programs)
            if place < count:
                attend_from_block(
                    place, blocks, batch_heads, heads, together, Q, K, V, Y, Logsum, first, second,
                    threshold, keep_scale, scale_log2, t, s, q_batch, q_head, q_row, k_batch,
                    k_head, k_row, v_batch, v_head, v_row, y_batch, y_head, y_row, D, CHUNK,
                    BLOCK_M, BLOCK_N, CAUSAL, DROPOUT, DESCRIBED)
    else:
        attend_from_block(
            program, blocks, batch_heads, heads, together, Q, K, V, Y, Logsum, first, second,
            threshold, keep_scale, scale_log2, t, s, q_batch, q_head, q_row, k_batch, k_head, k_row,
            v_batch, v_head, v_row, y_batch, y_head, y_row, D, CHUNK, BLOCK_M, BLOCK_N, CAUSAL,
            DROPOUT, DESCRIBED)


def forward(q: Array, k: Array, v: Array, y: Array, causal: bool, scale: float | None,
            dropout_p: float, key: Key | None) -> Array:
    """Launch on checked arrays; writes y (B, H, T, D) of any strides, returns logsum (B, H, T)."""
    b, h, t, d = q.shape
    s = k.shape[2]
    scale = d**-0.5 if scale is None else scale
    logsum = array_module(q).empty((b, h, t), "float32")
    q, k, v, target = aligned(q), aligned(k), aligned(v), aligned(y, copy=False)
    device_key, k0, k1 = split_key(key if dropout_p else None)
    numbers = (k0, k1, dropout_threshold(dropout_p), 1.0 / (1.0 - dropout_p), scale * LOG2_E, t, s)
    strides = (*element_strides(q), *element_strides(k), *element_strides(v),
               *element_strides(target))
    together = heads_together(q, k) if causal else 1

    def run(chosen: Config) -> None:
        blocks = cdiv(t, chosen["BLOCK_M"])
        programs = blocks * b * h * cdiv(q.shape[3], chosen["CHUNK"])
        if chosen["PERSISTENT"]:
            programs = min(programs, program_count(q, chosen["PERSISTENT"]))
        inputs: Sequence[Array | Descriptor] = (q, k, v)
        if chosen["DESCRIBED"]:
            m, n, d = chosen["BLOCK_M"], chosen["BLOCK_N"], chosen["CHUNK"]
            inputs = [Descriptor(q, (1, 1, m, d)), Descriptor(k, (1, 1, n, d)),
                      Descriptor(v, (1, 1, n, d))]
        launch(attention_forward_kernel, (programs,), *inputs, target, logsum, device_key, *numbers,
               blocks, b * h, h, together, *strides, D=q.shape[3], CAUSAL=causal,
               DROPOUT=dropout_p > 0.0, **chosen)

    tiles = forward_configs(q, k, v, dropout_p > 0.0)
    sizes = (q.shape[3], str(q.dtype), causal, dropout_p > 0.0, next_power_of_2(t),
             next_power_of_2(s), max(c["DESCRIBED"] for c in tiles))  # an empty array has none
    choose_and_run("attention_forward", sizes, tiles, q, run)
    if target is not y:
        y[...] = target[..., :d]
    return logsum


def _check(q: Array, k: Array, v: Array, causal: bool = False, scale: float | None = None,
           dropout_p: float = 0.0, key: Key | None = None, out: Array | None = None) -> None:
    check_attention(q, k, v, scale)
    require_dropout(dropout_p, key)
    require_out(out, q.shape, q)
    configs("forward", q, dropout_p > 0.0)


@checked_by(_check)
def attention(q: Array, k: Array, v: Array, causal: bool = False, scale: float | None = None,
              dropout_p: float = 0.0, key: Key | None = None,
              out: Array | None = None) -> tuple[Array, Array]:
    """softmax(scale q k^T) v without the scores in memory: (y, logsum).

    q: (B, H, T, D); k, v: (B, H, S, D), D at most 256, any strides with a contiguous last axis
    scale: 1 / sqrt(D) by default; key: as in dropout
    Returns y (B, H, T, D) and logsum (B, H, T) float32.
    """
    q, k, v = (unit_last_stride(a) for a in (q, k, v))
    y = out_or_new(out, q.shape, q)
    return y, forward(q, k, v, y, causal, scale, dropout_p, key)


def _check_qkv(qkv: Array, n_head: int, causal: bool = True, dropout_p: float = 0.0,
               key: Key | None = None, out: Array | None = None) -> None:
    check_qkv(qkv, n_head)
    require_dropout(dropout_p, key)
    require_out(out, (*qkv.shape[:2], qkv.shape[2] // 3), qkv)


@checked_by(_check_qkv)
def attention_qkv(qkv: Array, n_head: int, causal: bool = True, dropout_p: float = 0.0,
                  key: Key | None = None, out: Array | None = None) -> tuple[Array, Array]:
    """Attention on packed projections, read and written where they lie: (y, logsum).

    qkv: (B, T, 3 C) with q, k and v side by side, as GPT-2's c_attn gives it
    Returns y (B, T, C), the heads side by side, and logsum (B, H, T) float32.
    """
    qkv = unit_last_stride(qkv)
    y = out_or_new(out, (*qkv.shape[:2], qkv.shape[2] // 3), qkv)
    q, k, v = split_heads(qkv, n_head)
    return y, forward(q, k, v, as_heads(y, n_head), causal, None, dropout_p, key)
