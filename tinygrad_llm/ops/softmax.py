"""From scores to probabilities, and to their logarithms."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, register, sample, true_gradient
from tinygrad_llm.autograd.axes import normalize_axis
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import require_float


def softmax_forward(xp: ArrayModule, x: Array, axis: int = -1) -> Array:
    """exp(x - max x) / sum; zeros where a row is all -inf."""
    y = xp.exp(x - finite_max(xp, x, axis))
    total = y.sum(axis=axis, keepdims=True)
    y /= xp.where(total == 0, 1, total)
    return y


def softmax_backward(xp: ArrayModule, dy: Array, y: Array, axis: int = -1) -> Array:
    """dx = y (dy - sum y dy)."""
    return y * (dy - (y * dy).sum(axis=axis, keepdims=True))


def log_softmax_forward(xp: ArrayModule, x: Array, axis: int = -1) -> Array:
    """x - log sum exp x; -inf where a row is all -inf."""
    shifted = x - finite_max(xp, x, axis)
    total = xp.exp(shifted).sum(axis=axis, keepdims=True)
    return shifted - xp.log(xp.where(total == 0, 1, total))


def log_softmax_backward(xp: ArrayModule, dy: Array, y: Array, axis: int = -1) -> Array:
    """dx = dy - softmax(x) sum dy."""
    return dy - xp.exp(y) * dy.sum(axis=axis, keepdims=True)


def finite_max(xp: ArrayModule, x: Array, axis: int) -> Array:
    """The largest element along ``axis`` (kept, length 1); 0 where all are -inf or there is none.

    Subtracting it leaves softmax as it was and keeps exp from overflowing.
    """
    if not x.shape[axis]:
        return x.sum(axis=axis, keepdims=True)
    top = x.max(axis=axis, keepdims=True)
    return xp.where(top == -xp.inf, xp.zeros_like(top), top)


def _rows(rng: np.random.Generator) -> list[Any]:
    return [
        sample(rng.normal(size=(3, 5))),
        sample(rng.normal(size=(2, 3, 4)), axis=1, label="middle axis"),
        sample(rng.normal(size=(2, 3)) * 3 + 700, label="large scores"),
    ]


class _Rowwise(Function):
    """Base of softmax and log_softmax: statistics in float32 at least, result in x's type."""

    fresh = True

    def widened(self, x: Array, axis: int) -> Array:
        """x to compute with; a tensor without axes is a row of one element."""
        x = x if x.ndim else x.reshape(1)
        require_float(self.name, x)
        self.axis = normalize_axis(self.name, axis, x.ndim)
        return x.astype(accumulate_dtype(x.dtype), copy=False)


def softmax_composed(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) divided by its sum, in small ops."""
    e = (x - x.max(axis=axis, keepdims=True).detach()).exp()
    return e / e.sum(axis=axis, keepdims=True)


@register(
    "softmax",
    family="probabilities",
    samples=_rows,
    wrong={
        "elementwise (sum forgotten)": lambda ctx, dy: dy * ctx.saved[0] * (1 - ctx.saved[0]),
        "dy not inside the sum": lambda ctx, dy: (
            ctx.saved[0] * (dy - dy.sum(axis=ctx.axis, keepdims=True))
        ),
    },
    composed=softmax_composed,
    kernel="softmax",
)
class Softmax(_Rowwise):
    """y_i = e^(x_i) / sum_j e^(x_j)

    The quotient rule, for i = j and for i != j, in one formula (d_ij is 1 where i = j, else 0):

        dy_i / dx_j = y_i (d_ij - y_j)

    Summed over all outputs, dx_j = sum_i dy_i y_i (d_ij - y_j), that is

        dx = y (dy - sum_i dy_i y_i)

    Adding a constant to all x changes nothing, so the largest is subtracted first, and the
    gradients of a row sum to zero. A row of -inf alone has no probabilities: it gives zeros.

    Shapes: x any, y the same.
    Source: Bridle, "Probabilistic interpretation of feedforward classification network outputs",
    1990; Goodfellow, Bengio & Courville, "Deep Learning", 2016, sections 4.1 and 6.2.2.3.
    """

    def forward(ctx, x: Array, axis: int = -1) -> Array:
        y = softmax_forward(ctx.xp, ctx.widened(x, axis), ctx.axis)
        y = y.astype(x.dtype, copy=False).reshape(x.shape)
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Any:
        (y,) = ctx.saved
        y = ctx.widened(y, ctx.axis)
        dx = softmax_backward(ctx.xp, dy.astype(y.dtype, copy=False), y, ctx.axis)
        return dx.astype(dy.dtype, copy=False).reshape(dy.shape)


@register(
    "log_softmax",
    family="probabilities",
    samples=_rows,
    wrong={
        "softmax's rule": lambda ctx, dy: softmax_backward(
            ctx.xp, dy, ctx.xp.exp(ctx.saved[0]), ctx.axis
        ),
        "sum forgotten": lambda ctx, dy: dy * (1 - ctx.xp.exp(ctx.saved[0])),
        "sign": lambda ctx, dy: -true_gradient(ctx, dy),
    },
    composed=lambda x, axis=-1: softmax_composed(x, axis).log(),
)
class LogSoftmax(_Rowwise):
    """y_i = log softmax(x)_i = x_i - log sum_j e^(x_j)

    With p = softmax(x): dy_i / dx_j = d_ij - p_j, and so

        dx = dy - p sum_i dy_i

    Shapes: x any, y the same.
    Source: Goodfellow, Bengio & Courville, "Deep Learning", 2016, section 6.2.2.3.
    """

    def forward(ctx, x: Array, axis: int = -1) -> Array:
        y = log_softmax_forward(ctx.xp, ctx.widened(x, axis), ctx.axis)
        ctx.save(y)
        return y.astype(x.dtype, copy=False).reshape(x.shape)

    def backward(ctx, dy: Array) -> Any:
        (y,) = ctx.saved
        dx = log_softmax_backward(ctx.xp, dy.astype(y.dtype, copy=False), y, ctx.axis)
        return dx.astype(dy.dtype, copy=False).reshape(dy.shape)
