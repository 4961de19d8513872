"""The kernels at a sweep of sizes, each with a float64 reference and a count of its work.

A case is built for an array module: CuPy to be timed, NumPy at the smallest sizes to check the
cases themselves in the interpreter. References look at a part of the rows, so that checking a
large case stays quick; the rows are drawn anew each time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from harness import relative_error

from tinygrad_llm import kernels

# Largest relative error of a right kernel. float32: products in three TF32 parts lie within 1e-6 of
# exact ones where sums are rounded, but Hopper's tensor cores cut off the sum's lowest bits.
TOLERANCE = {"float32": 2e-5, "float16": 2e-3, "bfloat16": 1.5e-2}
CHECKED_ROWS = 64
KEY = (0x12345678, 0x9ABCDEF0)
Outputs = Callable[[], Any]


@dataclass
class Case:
    """One kernel at one size: run() launches it, error() compares it with float64."""

    op: str
    shape: str
    dtype: str
    run: Outputs
    error: Callable[[], float]
    bytes: float  # that must move: every input read once, every output written once
    operations: float  # floating point, counted by hand and only roughly where memory is the limit
    unit: str = "GB/s"  # what limits it: "GB/s" or "TFLOP/s"
    inputs: dict[str, Any] = field(default_factory=dict)  # for peers that do the same

    @property
    def work(self) -> float:
        return self.bytes if self.unit == "GB/s" else self.operations

    @property
    def tolerance(self) -> float:
        return TOLERANCE[self.dtype]


class Draw:
    """Random arrays of one module and dtype."""

    def __init__(self, xp: Any, dtype: str, seed: int = 0) -> None:
        self.xp, self.dtype = xp, _as_dtype(dtype)
        self.rng = xp.random.default_rng(seed)

    def normal(self, *shape: int, dtype: Any = None) -> Any:
        drawn = self.rng.standard_normal(shape, dtype="float32")
        return drawn.astype(self.dtype if dtype is None else dtype)

    def integers(self, high: int, *shape: int) -> Any:
        return self.rng.integers(0, high, shape)


def _as_dtype(name: str) -> np.dtype[Any]:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def double(array: Any) -> np.ndarray:
    host = array.get() if hasattr(array, "get") else array
    return host.astype(np.float64)


def layer_norm(xp: Any, dtype: str, m: int, n: int) -> Iterator[Case]:
    draw = Draw(xp, dtype)
    x, dy, w, b = draw.normal(m, n), draw.normal(m, n), draw.normal(n), draw.normal(n)
    y, mean, rstd = kernels.layer_norm(x, w, b)
    rows = slice(0, CHECKED_ROWS)
    x64 = double(x[rows])
    xhat = (x64 - x64.mean(-1, keepdims=True)) / np.sqrt(x64.var(-1, keepdims=True) + 1e-5)

    def forward_error() -> float:
        expected = xhat * double(w) + double(b)
        return relative_error(kernels.layer_norm(x, w, b)[0][rows], expected)

    def backward_error() -> float:
        wdy = double(w) * double(dy[rows])
        std = np.sqrt(x64.var(-1, keepdims=True) + 1e-5)
        expected = (
            wdy - wdy.mean(-1, keepdims=True) - xhat * (wdy * xhat).mean(-1, keepdims=True)
        ) / std
        dx, _, db = kernels.layer_norm_backward(dy, x, w, mean, rstd)
        total = double(dy).sum(0)
        return max(relative_error(dx[rows], expected), relative_error(db, total))

    def add_error() -> float:
        s, y, _, _ = kernels.add_layer_norm(x, dy, w, b)
        z = x64 + double(dy[rows])
        zhat = (z - z.mean(-1, keepdims=True)) / np.sqrt(z.var(-1, keepdims=True) + 1e-5)
        expected = zhat * double(w) + double(b)
        return max(relative_error(s[rows], z), relative_error(y[rows], expected))

    size = x.nbytes
    inputs = {"x": x, "dy": dy, "w": w, "b": b}
    yield Case(
        "layer_norm",
        f"{m}x{n}",
        dtype,
        lambda: kernels.layer_norm(x, w, b),
        forward_error,
        2 * size,
        8 * x.size,
        inputs=inputs,
    )
    yield Case(
        "add_layer_norm",
        f"{m}x{n}",
        dtype,
        lambda: kernels.add_layer_norm(x, dy, w, b),
        add_error,
        4 * size,
        9 * x.size,
        inputs=inputs,
    )
    yield Case(
        "layer_norm_backward",
        f"{m}x{n}",
        dtype,
        lambda: kernels.layer_norm_backward(dy, x, w, mean, rstd),
        backward_error,
        3 * size,
        14 * x.size,
        inputs=inputs,
    )


def softmax(xp: Any, dtype: str, m: int, n: int) -> Iterator[Case]:
    x = Draw(xp, dtype).normal(m, n)

    def error() -> float:
        e = np.exp(double(x[:CHECKED_ROWS]))
        return relative_error(kernels.softmax(x)[:CHECKED_ROWS], e / e.sum(-1, keepdims=True))

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


def bias_gelu(xp: Any, dtype: str, m: int, n: int) -> Iterator[Case]:
    draw = Draw(xp, dtype)
    x, dy, bias = draw.normal(m, n), draw.normal(m, n), draw.normal(n)
    z = double(x[:CHECKED_ROWS]) + double(bias)
    inner = math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)

    def forward_error() -> float:
        expected = 0.5 * z * (1 + np.tanh(inner))
        return relative_error(kernels.bias_gelu(x, bias)[:CHECKED_ROWS], expected)

    def backward_error() -> float:
        slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)
        derivative = 0.5 * (1 + np.tanh(inner)) + 0.5 * z * slope / np.cosh(inner) ** 2
        dx, _ = kernels.bias_gelu_backward(dy, x, bias)
        return relative_error(dx[:CHECKED_ROWS], double(dy[:CHECKED_ROWS]) * derivative)

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


def dropout(xp: Any, dtype: str, m: int, n: int) -> Iterator[Case]:
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


def cross_entropy(xp: Any, dtype: str, m: int, v: int, width: int) -> Iterator[Case]:
    """V classes in rows of W elements; the gradient goes over the logits of another array."""
    draw = Draw(xp, dtype)
    logits, targets = draw.normal(m, width), draw.integers(v, m)
    out = xp.empty_like(logits)

    def run() -> Any:
        return kernels.cross_entropy_with_gradient(logits, targets, 1.0, out=out, classes=v)

    def error() -> float:
        rows = min(CHECKED_ROWS, m)
        e = np.exp(double(logits[:rows, :v]))
        p = e / e.sum(-1, keepdims=True)
        picked = np.arange(rows), double(targets[:rows]).astype(int)
        losses = -np.log(p[picked])
        p[picked] -= 1
        got, gradient = run()
        return max(relative_error(got[:rows], losses), relative_error(gradient[:rows, :v], p))

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


def embedding(xp: Any, dtype: str, m: int, c: int) -> Iterator[Case]:
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


def adamw(xp: Any, dtype: str, n: int) -> Iterator[Case]:
    draw = Draw(xp, dtype)
    gradients = draw.normal(n)
    p, m = draw.normal(n, dtype="float32"), draw.normal(n, dtype="float32")
    v = abs(draw.normal(n, dtype="float32"))
    weights = None if dtype == "float32" else xp.empty(n, gradients.dtype)

    def run() -> Any:
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


def grad_norm(xp: Any, dtype: str, n: int) -> Iterator[Case]:
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
