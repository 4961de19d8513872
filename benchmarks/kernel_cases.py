"""The kernels of single ops at a sweep of sizes; attention and products have files of their own."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from types import ModuleType

import numpy as np
from cases import CHECKED_ROWS, KEY, Case, Draw, by_array_code, double
from harness import relative_error

import tinygrad_llm.functional as F
from tinygrad_llm import kernels
from tinygrad_llm.backend import Array

FEW = slice(0, CHECKED_ROWS)
gelu = functools.partial(F.gelu, approximate="tanh")


def layer_norm(xp: ModuleType, dtype: str, m: int, n: int) -> Iterator[Case]:
    draw = Draw(xp, dtype)
    x, dy, w, b = draw.normal(m, n), draw.normal(m, n), draw.normal(n), draw.normal(n)
    yield _layer_norm_forward(dtype, x, dy, w, b)
    yield _add_layer_norm(dtype, x, dy, w, b)
    yield _layer_norm_backward(dtype, x, dy, w, b)


def _layer_norm_forward(dtype: str, x: Array, dy: Array, w: Array, b: Array) -> Case:
    def error() -> float:
        (expected,) = by_array_code(F.layer_norm, x[FEW], w, b)
        return relative_error(kernels.layer_norm(x, w, b)[0][FEW], expected)

    return Case(
        "layer_norm",
        _shape(x),
        dtype,
        lambda: kernels.layer_norm(x, w, b),
        error,
        2 * x.nbytes,
        8 * x.size,
        inputs={"x": x, "dy": dy, "w": w, "b": b},
    )


def _add_layer_norm(dtype: str, x: Array, dy: Array, w: Array, b: Array) -> Case:
    def error() -> float:
        s, y, _, _ = kernels.add_layer_norm(x, dy, w, b)
        total = double(x[FEW]) + double(dy[FEW])
        (expected,) = by_array_code(F.layer_norm, total, w, b)
        return max(relative_error(s[FEW], total), relative_error(y[FEW], expected))

    return Case(
        "add_layer_norm",
        _shape(x),
        dtype,
        lambda: kernels.add_layer_norm(x, dy, w, b),
        error,
        4 * x.nbytes,
        9 * x.size,
        inputs={"x": x, "dy": dy, "w": w, "b": b},
    )


def _layer_norm_backward(dtype: str, x: Array, dy: Array, w: Array, b: Array) -> Case:
    _, mean, rstd = kernels.layer_norm(x, w, b)

    def error() -> float:
        _, expected, *_ = by_array_code(F.layer_norm, x[FEW], w, b, dy=dy[FEW])
        dx, _, dbias = kernels.layer_norm_backward(dy, x, w, mean, rstd)
        total = double(dy).sum(0)
        return max(relative_error(dx[FEW], expected), relative_error(dbias, total))

    return Case(
        "layer_norm_backward",
        _shape(x),
        dtype,
        lambda: kernels.layer_norm_backward(dy, x, w, mean, rstd),
        error,
        3 * x.nbytes,
        14 * x.size,
        inputs={"x": x, "dy": dy, "w": w, "b": b},
    )


def _shape(x: Array) -> str:
    return "x".join(map(str, x.shape))


def softmax(xp: ModuleType, dtype: str, m: int, n: int) -> Iterator[Case]:
    x = Draw(xp, dtype).normal(m, n)

    def error() -> float:
        (expected,) = by_array_code(F.softmax, x[:CHECKED_ROWS])
        return relative_error(kernels.softmax(x)[:CHECKED_ROWS], expected)

    yield Case(
        "softmax",
        f"{m}x{n}",
        dtype,
        lambda: kernels.softmax(x),
        error,
        2 * x.nbytes,
        5 * x.size,
        inputs={"x": x},
    )


def bias_gelu(xp: ModuleType, dtype: str, m: int, n: int) -> Iterator[Case]:
    draw = Draw(xp, dtype)
    x, dy, bias = draw.normal(m, n), draw.normal(m, n), draw.normal(n)

    def forward_error() -> float:
        (expected,) = by_array_code(gelu, double(x[FEW]) + double(bias))
        return relative_error(kernels.bias_gelu(x, bias)[FEW], expected)

    def backward_error() -> float:
        _, expected = by_array_code(gelu, double(x[FEW]) + double(bias), dy=dy[FEW])
        return relative_error(kernels.bias_gelu_backward(dy, x, bias)[0][FEW], expected)

    inputs = {"x": x, "dy": dy, "b": bias}
    yield Case(
        "bias_gelu",
        f"{m}x{n}",
        dtype,
        lambda: kernels.bias_gelu(x, bias),
        forward_error,
        2 * x.nbytes,
        12 * x.size,
        inputs=inputs,
    )
    yield Case(
        "bias_gelu_backward",
        f"{m}x{n}",
        dtype,
        lambda: kernels.bias_gelu_backward(dy, x, bias),
        backward_error,
        3 * x.nbytes,
        20 * x.size,
        inputs=inputs,
    )


def dropout(xp: ModuleType, dtype: str, m: int, n: int) -> Iterator[Case]:
    x = Draw(xp, dtype).normal(m, n)

    def error() -> float:
        """Kept elements scaled; how many were kept lies within five standard deviations."""
        y, x64 = double(kernels.dropout(x, 0.1, KEY)), double(x)
        kept = y != 0
        expected = 0.9 * (x64 != 0).sum()
        if abs(kept.sum() - expected) > 5 * math.sqrt(0.09 * x.size) + 1:
            return math.inf
        return relative_error(y, np.where(kept, x64 / 0.9, 0))

    yield Case(
        "dropout",
        f"{m}x{n}",
        dtype,
        lambda: kernels.dropout(x, 0.1, KEY),
        error,
        2 * x.nbytes,
        12 * x.size,
        inputs={"x": x},
    )


def cross_entropy(xp: ModuleType, dtype: str, m: int, v: int, width: int) -> Iterator[Case]:
    """V classes in rows of W elements; the gradient goes over the logits of another array."""
    draw = Draw(xp, dtype)
    logits, targets = draw.normal(m, width), draw.integers(v, m)
    out = xp.empty_like(logits)

    def run() -> tuple[Array, Array]:
        return kernels.cross_entropy_with_gradient(logits, targets, 1.0, out=out, classes=v)

    def error() -> float:
        rows = min(CHECKED_ROWS, m)
        picked, one = double(targets[:rows]).astype(int), np.ones(rows)
        losses, expected = by_array_code(
            F.cross_entropy, logits[:rows, :v], dy=one, targets=picked, reduction="none"
        )
        got, gradient = run()
        return max(
            relative_error(got[:rows], losses), relative_error(gradient[:rows, :v], expected)
        )

    yield Case(
        "cross_entropy",
        f"{m}x{v} in {width}",
        dtype,
        run,
        error,
        2 * logits.nbytes,
        8 * logits.size,
        inputs={"logits": logits[:, :v], "targets": targets},
    )


def embedding(xp: ModuleType, dtype: str, m: int, c: int) -> Iterator[Case]:
    v = 50304 if m > 1000 else 97
    draw = Draw(xp, dtype)
    weight, ids, dy = draw.normal(v, c), draw.integers(v, m), draw.normal(m, c)

    def forward_error() -> float:
        rows = double(ids).astype(int)
        return relative_error(kernels.embedding(ids, weight), double(weight)[rows])

    def backward_error() -> float:
        expected = np.zeros((v, c))
        np.add.at(expected, double(ids).astype(int), double(dy))
        return relative_error(kernels.embedding_backward(dy, ids, v), expected)

    yield Case(
        "embedding",
        f"{m}x{c}",
        dtype,
        lambda: kernels.embedding(ids, weight),
        forward_error,
        2 * dy.nbytes,
        0,
        inputs={"ids": ids, "weight": weight},
    )
    yield Case(
        "embedding_backward",
        f"{m}x{c}",
        dtype,
        lambda: kernels.embedding_backward(dy, ids, v),
        backward_error,
        dy.nbytes + v * c * 8,
        dy.size,
    )


def adamw(xp: ModuleType, dtype: str, n: int) -> Iterator[Case]:
    draw = Draw(xp, dtype)
    gradients = draw.normal(n)
    p, m = draw.normal(n, dtype="float32"), draw.normal(n, dtype="float32")
    v = abs(draw.normal(n, dtype="float32"))
    weights = None if dtype == "float32" else xp.empty(n, gradients.dtype)

    def run() -> Array:
        return kernels.adamw(p, gradients, m, v, lr=1e-4, step=10, weights=weights)

    def error() -> float:
        part = slice(0, 4096)
        p64, g, m64, v64 = (double(a[part]) for a in (p, gradients, m, v))
        m64, v64 = 0.9 * m64 + 0.1 * g, 0.999 * v64 + 0.001 * g**2
        update = (m64 / (1 - 0.9**10)) / (np.sqrt(v64 / (1 - 0.999**10)) + 1e-8)
        run()
        return relative_error(p[part], p64 - 1e-4 * (update + 0.01 * p64))

    extra = 0 if weights is None else weights.nbytes
    yield Case(
        "adamw",
        f"{n}",
        dtype,
        run,
        error,
        6 * p.nbytes + gradients.nbytes + extra,
        14 * n,
        inputs={"p": p, "g": gradients},
    )


def grad_norm(xp: ModuleType, dtype: str, n: int) -> Iterator[Case]:
    g = Draw(xp, dtype).normal(n)

    def error() -> float:
        expected = np.array([np.linalg.norm(double(g))])
        return relative_error(kernels.clip_factor(g, 1.0)[:1], expected)

    yield Case(
        "clip_factor",
        f"{n}",
        dtype,
        lambda: kernels.clip_factor(g, 1.0),
        error,
        g.nbytes,
        2 * n,
        inputs={"x": g},
    )
