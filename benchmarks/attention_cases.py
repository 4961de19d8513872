"""Attention at a sweep of lengths: forward, backward, and one token against a cache.

Operations are counted as in the papers on FlashAttention: 4 T S D per head forward, half of it if
causal, 2.5 times that backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from harness import relative_error
from kernel_cases import Case, Draw, double

from tinygrad_llm import kernels


def _reference(q: Any, k: Any, v: Any, do: Any, causal: bool) -> tuple[np.ndarray, ...]:
    """(o, dq, dk, dv) of one head (T, D) in float64."""
    q, k, v, do = (double(a) for a in (q, k, v, do))
    scale = q.shape[-1] ** -0.5
    scores = scale * q @ k.T
    if causal:
        scores = np.where(np.tri(len(q), len(k), dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    dp = do @ v.T
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * scale
    return p @ v, ds @ k, ds.T @ q, p.T @ do


def attention(
    xp: Any, dtype: str, b: int, h: int, t: int, d: int, causal: bool = True
) -> Iterator[Case]:
    """Forward and backward of (B, H, T, D)."""
    draw = Draw(xp, dtype)
    q, k, v, do = (draw.normal(b, h, t, d) for _ in range(4))
    o, lse = kernels.attention(q, k, v, causal)
    last = (b - 1, h - 1)
    expected = _reference(q[last], k[last], v[last], do[last], causal)

    def forward_error() -> float:
        return relative_error(kernels.attention(q, k, v, causal)[0][last], expected[0])

    def backward_error() -> float:
        got = kernels.attention_backward(do, q, k, v, o, lse, causal)
        return max(relative_error(g[last], e) for g, e in zip(got, expected[1:], strict=True))

    work = 4.0 * b * h * t * t * d / (2 if causal else 1)
    shape = f"{b}x{h}x{t}x{d}" + ("" if causal else " full")
    inputs = {"q": q, "k": k, "v": v, "do": do, "causal": causal}
    yield Case(
        "attention",
        shape,
        dtype,
        lambda: kernels.attention(q, k, v, causal),
        forward_error,
        4 * q.nbytes,
        work,
        "TFLOP/s",
        inputs,
    )
    yield Case(
        "attention_backward",
        shape,
        dtype,
        lambda: kernels.attention_backward(do, q, k, v, o, lse, causal),
        backward_error,
        8 * q.nbytes,
        2.5 * work,
        "TFLOP/s",
        inputs,
    )


def decode(xp: Any, dtype: str, b: int, h: int, s: int, d: int) -> Iterator[Case]:
    """One query per head against S cached keys."""
    draw = Draw(xp, dtype)
    q, k, v = draw.normal(b, h, 1, d), draw.normal(b, h, s, d), draw.normal(b, h, s, d)
    last = (b - 1, h - 1)

    def error() -> float:
        expected = _reference(q[last], k[last], v[last], q[last], False)[0]
        return relative_error(kernels.attention_decode(q, k, v)[last], expected)

    yield Case(
        "attention_decode",
        f"{b}x{h}x{s}x{d}",
        dtype,
        lambda: kernels.attention_decode(q, k, v),
        error,
        2 * k.nbytes,
        4.0 * k.size,
        inputs={"q": q, "k": k, "v": v, "causal": False},
    )
