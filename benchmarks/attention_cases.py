"""Attention at a sweep of lengths: forward, backward, and one token against a cache.

Operations are counted as in the papers on FlashAttention: 4 T S D per head forward, half of it if
causal, 2.5 times that backward.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from cases import Case, Draw, Input, by_array_code
from harness import relative_error

import tinygrad_llm.functional as F
from tinygrad_llm import kernels
from tinygrad_llm.backend import Array


def _reference(q: Array, k: Array, v: Array, dy: Array | None, causal: bool) -> tuple[Array, ...]:
    """(y, dq, dk, dv) of one head (T, D) in float64; y alone without dy."""
    heads = [a[None, None] for a in (q, k, v)]
    dy = None if dy is None else dy[None, None]
    found = by_array_code(F.scaled_dot_product_attention, *heads, dy=dy, causal=causal)
    return tuple(a[0, 0] for a in found)


def attention(
    xp: ModuleType, dtype: str, b: int, h: int, t: int, d: int, causal: bool = True
) -> Iterator[Case]:
    """Forward and backward of (B, H, T, D)."""
    draw = Draw(xp, dtype)
    q, k, v, dy = (draw.normal(b, h, t, d) for _ in range(4))
    y, logsum = kernels.attention(q, k, v, causal)
    last = (b - 1, h - 1)
    expected = _reference(q[last], k[last], v[last], dy[last], causal)

    def forward_error() -> float:
        return relative_error(kernels.attention(q, k, v, causal)[0][last], expected[0])

    def backward_error() -> float:
        got = kernels.attention_backward(dy, q, k, v, y, logsum, causal)
        return max(relative_error(g[last], e) for g, e in zip(got, expected[1:], strict=True))

    work = 4.0 * b * h * t * t * d / (2 if causal else 1)
    shape = f"{b}x{h}x{t}x{d}" + ("" if causal else " full")
    inputs: dict[str, Input] = {"q": q, "k": k, "v": v, "dy": dy, "causal": causal}
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
        lambda: kernels.attention_backward(dy, q, k, v, y, logsum, causal),
        backward_error,
        8 * q.nbytes,
        2.5 * work,
        "TFLOP/s",
        inputs,
    )


def decode(xp: ModuleType, dtype: str, b: int, h: int, s: int, d: int) -> Iterator[Case]:
    """One query per head against S cached keys."""
    draw = Draw(xp, dtype)
    q, k, v = draw.normal(b, h, 1, d), draw.normal(b, h, s, d), draw.normal(b, h, s, d)
    last = (b - 1, h - 1)

    def error() -> float:
        expected = _reference(q[last], k[last], v[last], None, False)[0]
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
