"""Fused attention, forward: the (T, S) matrix of scores never reaches memory.

    S = scale Q K^T (+ causal mask),   P = softmax(S),   O = dropout(P) V
    lse_i = log sum_j exp S_ij, kept for the backward pass

One program owns BLOCK_M queries and walks over the keys, BLOCK_N at a time. It keeps a running
maximum m, a running sum l and an unnormalized output acc; when a block of keys raises the maximum,
what was summed before is scaled down by exp(m_old - m_new). Blocks that every query of the program
sees in full run without masks; the diagonal and the ragged end come last, with them. Exponentials
are powers of two, which the hardware has, with log2(e) folded into the scale.

A product of float32 tiles is three TF32 products on the matrix units ("tf32x3"), nearly as exact.
They take so many registers that a program owns only CHUNK columns of a wide head's output then, and
adds up its scores over all of them.

Causal with S keys and T queries aligns the ends: query i sees the keys j <= i + S - T. A query that
sees no key at all (S < T) gives zeros. The counter of a dropout bit is ((b H + h) T + i) S + j.

References: Dao, "FlashAttention-2" (2023), algorithm 1; Milakov and Gimelshein (2018) for the
running sum; Triton's tutorial 06.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from ._attention_common import (
    LOG2_E,
    aligned,
    as_heads,
    check_attention,
    check_qkv,
    element_strides,
    keep_mask,
    row_counters,
    split_heads,
    store_tile,
    tile,
    unit_last_stride,
    whole_product,
)
from ._attention_configs import choose_and_run, configs
from ._checks import checked_by, output
from ._common import dropout_threshold, load_key, split_key
from ._runtime import array_module, cdiv, launch, next_power_of_2
from .tuning import Config


@triton.jit
def attend(
    acc,  # (BLOCK_M, CHUNK) unnormalized output
    total,  # (BLOCK_M,) running sum
    highest,  # (BLOCK_M,) running maximum in units of log2
    q,  # (BLOCK_M, CHUNK); read from Q where a head is cut into chunks
    Q,  # this head's queries
    K,  # this head's keys
    V,  # this head's values
    q_stride, k_stride, v_stride,  # between rows
    begin,  # first key of the walk
    end,  # key after the last
    rows,  # (BLOCK_M,) query numbers
    dims,  # (CHUNK,) columns of V and O
    t, s,
    scale_log2,
    counters,  # (BLOCK_M,) dropout counter of each query's first key, uint32
    first,  # dropout key
    second,
    threshold,
    D: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    MASKED: tl.constexpr,  # some query does not see some key
    DROPOUT: tl.constexpr,
):
    """Let the queries attend to the keys begin..end."""
    for start in range(begin, end, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        if D > CHUNK:
            scores = whole_product(Q, rows, q_stride, t, K, columns, k_stride, s, D, CHUNK)
        else:
            k = tile(K, columns, dims, k_stride, s, D, CHUNK, MASKED)  # (BLOCK_N, CHUNK)
            scores = tl.dot(q, tl.trans(k), input_precision="tf32x3")  # (BLOCK_M, BLOCK_N)
        if MASKED:
            visible = (columns < s)[None, :]
            if CAUSAL:
                visible = visible & (columns[None, :] <= rows[:, None] + (s - t))
            scores = tl.where(visible, scores, -float("inf"))
        higher = tl.maximum(highest, tl.max(scores, 1) * scale_log2)
        reference = higher
        if MASKED:  # a query may not have seen any key yet; -inf - -inf would be NaN
            reference = tl.where(higher == -float("inf"), 0.0, higher)
        p = tl.exp2(scores * scale_log2 - reference[:, None])
        shrink = tl.exp2(highest - reference)
        total = total * shrink + tl.sum(p, 1)
        if DROPOUT:
            p = tl.where(keep_mask(counters, columns, first, second, threshold), p, 0.0)
        v = tile(V, columns, dims, v_stride, s, D, CHUNK, MASKED)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision="tf32x3")
        highest = higher
    return acc, total, highest


@triton.jit(do_not_specialize=["k0", "k1", "threshold", "t", "s"])
def attention_forward_kernel(
    Q,  # (B, H, T, D) by strides, as K, V and O; the last axis is contiguous
    K,  # (B, H, S, D)
    V,  # (B, H, S, D)
    O,  # (B, H, T, D)
    Lse,  # (B, H, T) float32
    Key,  # (2,) int32 dropout key in device memory, or None
    k0,
    k1,
    threshold,
    keep_scale,  # 1 / (1 - p)
    scale_log2,  # softmax scale times log2(e)
    t,
    s,
    q_batch, q_head, q_row,
    k_batch, k_head, k_row,
    v_batch, v_head, v_row,
    o_batch, o_head, o_row,
    D: tl.constexpr,
    CHUNK: tl.constexpr,  # columns of a head that a program owns; mostly all, at least D
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr,
    DROPOUT: tl.constexpr,
):
    # the last queries of a causal head have the most keys: they start first
    chunks: tl.constexpr = (D + CHUNK - 1) // CHUNK
    block = (tl.num_programs(0) - 1 - tl.program_id(0)) // chunks
    chunk = tl.program_id(0) % chunks
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = chunk * CHUNK + tl.arange(0, CHUNK)
    Q += batch * q_batch + head * q_head
    q = tile(Q, rows, dims, q_row, t, D, CHUNK, True)
    K += batch * k_batch + head * k_head
    V += batch * v_batch + head * v_head

    lane = batch * tl.num_programs(1) + head
    counters = row_counters(lane, rows, t, s)
    first, second = load_key(Key, k0, k1)

    full, end = s // BLOCK_N * BLOCK_N, s
    if CAUSAL:
        full = tl.minimum(full, tl.maximum(block * BLOCK_M + (s - t) + 1, 0) // BLOCK_N * BLOCK_N)
        end = tl.minimum(s, tl.maximum(block * BLOCK_M + BLOCK_M + (s - t), 0))
    acc = tl.zeros([BLOCK_M, CHUNK], tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    highest = tl.full([BLOCK_M], -float("inf"), tl.float32)
    acc, total, highest = attend(
        acc, total, highest, q, Q, K, V, q_row, k_row, v_row, 0, full, rows, dims, t, s,
        scale_log2, counters, first, second, threshold, D, CHUNK, BLOCK_N, CAUSAL, False, DROPOUT)
    acc, total, highest = attend(
        acc, total, highest, q, Q, K, V, q_row, k_row, v_row, full, end, rows, dims, t, s,
        scale_log2, counters, first, second, threshold, D, CHUNK, BLOCK_N, CAUSAL, True, DROPOUT)

    nonzero = tl.where(total == 0.0, 1.0, total)
    o = acc * (keep_scale / nonzero)[:, None]
    store_tile(O + batch * o_batch + head * o_head, rows, dims, o_row, t, o, D)
    lse = (highest + tl.log2(total)) * 0.6931471805599453  # ln 2
    tl.store(Lse + lane * t + rows, lse, mask=(rows < t) & (chunk == 0))


def forward(q: Any, k: Any, v: Any, o: Any, causal: bool, scale: float | None, dropout_p: float,
            key: Any) -> Any:
    """Launch on checked arrays; writes o (B, H, T, D) of any strides, returns lse (B, H, T)."""
    b, h, t, d = q.shape
    s = k.shape[2]
    scale = d**-0.5 if scale is None else scale
    lse = array_module(q).empty((b, h, t), "float32")
    device_key, k0, k1 = split_key(key if dropout_p else None)
    q, k, v, target = aligned(q), aligned(k), aligned(v), aligned(o, copy=False)
    wide = q.shape[3]

    def run(chosen: Config) -> None:
        programs = cdiv(t, chosen["BLOCK_M"]) * cdiv(wide, chosen["CHUNK"])
        launch(attention_forward_kernel, (programs, h, b), q, k, v, target, lse, device_key, k0,
               k1, dropout_threshold(dropout_p), 1.0 / (1.0 - dropout_p), scale * LOG2_E, t, s,
               *element_strides(q), *element_strides(k), *element_strides(v),
               *element_strides(target), D=wide, CAUSAL=causal, DROPOUT=dropout_p > 0.0, **chosen)

    sizes = (wide, str(q.dtype), causal, dropout_p > 0.0, next_power_of_2(t), next_power_of_2(s))
    choose_and_run("attention_forward", sizes, configs("forward", q, dropout_p > 0.0), q, run)
    if target is not o:
        o[...] = target[..., :d]
    return lse


def _check(q: Any, k: Any, v: Any, causal: bool = False, scale: float | None = None,
           dropout_p: float = 0.0, key: Any = None, out: Any = None) -> None:
    check_attention("attention", q, k, v, scale, dropout_p, key)
    configs("forward", q, dropout_p > 0.0)


@checked_by(_check)
def attention(q: Any, k: Any, v: Any, causal: bool = False, scale: float | None = None,
              dropout_p: float = 0.0, key: Any = None, out: Any = None) -> tuple[Any, Any]:
    """softmax(scale q k^T) v without the scores in memory: (o, lse).

    q: (B, H, T, D); k, v: (B, H, S, D), D at most 256, any strides with a contiguous last axis
    scale: 1 / sqrt(D) by default; key: as in dropout
    Returns o (B, H, T, D) and lse (B, H, T) float32.
    """
    _check(q, k, v, causal, scale, dropout_p, key)
    q, k, v = (unit_last_stride(a) for a in (q, k, v))
    o = output(out, "attention", q.shape, q)
    return o, forward(q, k, v, o, causal, scale, dropout_p, key)


def _check_qkv(qkv: Any, n_head: int, causal: bool = True, dropout_p: float = 0.0,
               key: Any = None, out: Any = None) -> None:
    check_qkv("attention_qkv", qkv, n_head, dropout_p, key)


@checked_by(_check_qkv)
def attention_qkv(qkv: Any, n_head: int, causal: bool = True, dropout_p: float = 0.0,
                  key: Any = None, out: Any = None) -> tuple[Any, Any]:
    """Attention on packed projections, read and written where they lie, without copies: (y, lse).

    qkv: (B, T, 3 C) with q, k and v side by side, as GPT-2's c_attn gives it
    Returns y (B, T, C), the heads side by side, and lse (B, H, T) float32.
    """
    _check_qkv(qkv, n_head, causal, dropout_p, key)
    qkv = unit_last_stride(qkv)
    y = output(out, "attention_qkv", (*qkv.shape[:2], qkv.shape[2] // 3), qkv)
    q, k, v = split_heads(qkv, n_head)
    return y, forward(q, k, v, as_heads(y, n_head), causal, None, dropout_p, key)
