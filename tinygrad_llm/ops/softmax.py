"""From scores to probabilities, and to their logarithms."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Function, Sample, Tensor, prove, register, sample
from tinygrad_llm.autograd.axes import normalize_axis
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import require_float


@register("softmax", family="probabilities", kernel="softmax")
class Softmax(Function):
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

    fresh = True

    def forward(ctx, x: Array, axis: int = -1) -> Array:
        wide, ctx.axis = widened("softmax", x, axis)
        y = softmax_forward(ctx.xp, wide, ctx.axis).astype(x.dtype, copy=False).reshape(x.shape)
        ctx.save(y)
        return y

    def backward(ctx, dy: Array) -> Array:
        (y,) = ctx.saved
        y, _ = widened("softmax", y, ctx.axis)
        dx = softmax_backward(ctx.xp, dy.astype(y.dtype, copy=False), y, ctx.axis)
        return dx.astype(dy.dtype, copy=False).reshape(dy.shape)


def softmax_forward(xp: ArrayModule, x: Array, axis: int = -1) -> Array:
    """exp(x - max x) / sum; zeros where a row is all -inf."""
    y = xp.exp(x - finite_max(xp, x, axis))
    total = y.sum(axis=axis, keepdims=True)
    y /= xp.where(total == 0, 1, total)
    return y


def softmax_backward(xp: ArrayModule, dy: Array, y: Array, axis: int = -1) -> Array:
    """dx = y (dy - sum y dy)."""
    return y * (dy - (y * dy).sum(axis=axis, keepdims=True))


def finite_max(xp: ArrayModule, x: Array, axis: int) -> Array:
    """The largest element along ``axis`` (kept, length 1); 0 where all are -inf or there is none.

    Subtracting it leaves softmax as it was and keeps exp from overflowing.
    """
    if not x.shape[axis]:
        return x.sum(axis=axis, keepdims=True)
    top = x.max(axis=axis, keepdims=True)
    return xp.where(top == -xp.inf, xp.zeros_like(top), top)


@register("log_softmax", family="probabilities")
class LogSoftmax(Function):
    """y_i = log softmax(x)_i = x_i - log sum_j e^(x_j)

    With p = softmax(x): dy_i / dx_j = d_ij - p_j, and so

        dx = dy - p sum_i dy_i

    Shapes: x any, y the same.
    Source: Goodfellow, Bengio & Courville, "Deep Learning", 2016, section 6.2.2.3.
    """

    fresh = True

    def forward(ctx, x: Array, axis: int = -1) -> Array:
        wide, ctx.axis = widened("log_softmax", x, axis)
        y = log_softmax_forward(ctx.xp, wide, ctx.axis)
        ctx.save(y)
        return y.astype(x.dtype, copy=False).reshape(x.shape)

    def backward(ctx, dy: Array) -> Array:
        (y,) = ctx.saved
        dx = log_softmax_backward(ctx.xp, dy.astype(y.dtype, copy=False), y, ctx.axis)
        return dx.astype(dy.dtype, copy=False).reshape(dy.shape)


def log_softmax_forward(xp: ArrayModule, x: Array, axis: int = -1) -> Array:
    """x - log sum exp x; -inf where a row is all -inf."""
    shifted = x - finite_max(xp, x, axis)
    total = xp.exp(shifted).sum(axis=axis, keepdims=True)
    return shifted - xp.log(xp.where(total == 0, 1, total))


def log_softmax_backward(xp: ArrayModule, dy: Array, y: Array, axis: int = -1) -> Array:
    """dx = dy - softmax(x) sum dy."""
    return dy - xp.exp(y) * dy.sum(axis=axis, keepdims=True)


def softmax_composed(x: Tensor, axis: int = -1) -> Tensor:
    """exp(x) divided by its sum, in small ops."""
    e = (x - x.max(axis=axis, keepdims=True).detach()).exp()
    return e / e.sum(axis=axis, keepdims=True)


def widened(op: str, x: Array, axis: int) -> tuple[Array, int]:
    """x with statistics in float32 at least, and the axis as a number from 0.

    A tensor without axes is a row of one element.
    """
    x = x if x.ndim else x.reshape(1)
    require_float(op, x)
    return x.astype(accumulate_dtype(x.dtype), copy=False), normalize_axis(op, axis, x.ndim)


def _diagonal_only(ctx: Softmax, dy: Array) -> Array:
    """Mistake: y_i (1 - y_i) dy_i, as if y_i depended on x_i alone."""
    (y,) = ctx.saved
    return dy * y * (1 - y)


def _sum_not_weighted(ctx: Softmax, dy: Array) -> Array:
    (y,) = ctx.saved
    return y * (dy - dy.sum(axis=ctx.axis, keepdims=True))


def _rule_of_softmax(ctx: LogSoftmax, dy: Array) -> Array:
    (y,) = ctx.saved
    return softmax_backward(ctx.xp, dy, ctx.xp.exp(y), ctx.axis)


def _log_diagonal_only(ctx: LogSoftmax, dy: Array) -> Array:
    (y,) = ctx.saved
    return dy * (1 - ctx.xp.exp(y))


def _rows(rng: np.random.Generator) -> list[Sample]:
    return [
        sample(rng.normal(size=(3, 5))),
        sample(rng.normal(size=(2, 3, 4)), axis=1, label="middle axis"),
        sample(rng.normal(size=(2, 3)) * 3 + 700, label="large scores"),
    ]


prove(
    "softmax",
    samples=_rows,
    wrong={"sum forgotten": _diagonal_only, "y in the sum forgotten": _sum_not_weighted},
    composed=softmax_composed,
)
prove(
    "log_softmax",
    samples=_rows,
    wrong={"softmax's rule": _rule_of_softmax, "sum forgotten": _log_diagonal_only},
    composed=lambda x, axis=-1: softmax_composed(x, axis).log(),
)
