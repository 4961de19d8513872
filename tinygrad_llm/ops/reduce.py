"""Sums, means, variances and extremes over axes.

A reduction gives many x one y. Backwards, that y's gradient is spread over all the x it came from.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_llm.autograd import Function, Tensor, prove, register, sample
from tinygrad_llm.autograd.axes import Axis, normalize_axes
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import FLOAT32, accumulate_dtype, is_integer
from tinygrad_llm.backend.promotion import as_float
from tinygrad_llm.errors import ShapeError
from tinygrad_llm.ops.select import where_or_zero


class Reduction(Function):
    """Base of the reductions: checks the axes, and spreads a gradient back over them."""

    def prepare(ctx, x: Array, axis: Axis, keepdims: bool) -> tuple[int, ...]:
        """The reduced axes, counted from the front; remembers the shapes."""
        axes = normalize_axes(ctx.name, axis, x.ndim)
        ctx.shape = x.shape
        ctx.kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
        ctx.count = math.prod([x.shape[i] for i in axes])
        return axes

    def spread(ctx, dy: Array) -> Array:
        """``dy`` with the reduced axes back, as long as they were (a view)."""
        return ctx.xp.broadcast_to(dy.reshape(ctx.kept), ctx.shape)


def wide_sum(x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    """The sum over ``axes`` in float32 for 16-bit floats, int64 for integers and bools."""
    if x.dtype is FLOAT32:
        return x.sum(axis=axes, keepdims=keepdims)
    wide = np.dtype(np.int64) if is_integer(x.dtype) else accumulate_dtype(x.dtype)
    return x.sum(axis=axes, keepdims=keepdims, dtype=wide)


@register("sum", family="reduction")
class Sum(Reduction):
    """y = sum_i x_i over the chosen axes

    dy/dx_i = 1: each element gets the whole gradient.

        dx_i = dy

    Integers and bools give int64.

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    """

    def forward(ctx, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        axes = ctx.prepare(x, axis, keepdims)
        y = wide_sum(x, axes, keepdims)
        return y if is_integer(y.dtype) else y.astype(x.dtype, copy=False)

    def backward(ctx, dy: Array) -> Array:
        return ctx.spread(dy)


@register("mean", family="reduction")
class Mean(Reduction):
    """y = (1/n) sum_i x_i over the chosen axes

        dx_i = dy / n

    Integers and bools give float32.

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    """

    fresh = True

    def forward(ctx, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        axes = ctx.prepare(x, axis, keepdims)
        y = wide_sum(x, axes, keepdims) / (ctx.count or math.nan)
        return y.astype(FLOAT32 if is_integer(x.dtype) else x.dtype, copy=False)

    def backward(ctx, dy: Array) -> Array:
        return ctx.spread(dy / ctx.count) + 0  # + 0 makes an array of its own


@register("var", family="reduction")
class Var(Reduction):
    """y = sum_i (x_i - m)^2 / (n - c),  m = (1/n) sum_i x_i,  c = correction

    By the chain rule dy/dx_i = 2/(n-c) [ (x_i - m) - (1/n) sum_j (x_j - m) ], and the second
    sum is zero, for deviations from the mean add up to nothing:

        dx_i = dy 2 (x_i - m) / (n - c)

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    c = 1 is the unbiased estimate (PyTorch's default), c = 0 that of layer_norm. With n <= c there
    is none: one element gives NaN, and a gradient of NaN.
    """

    fresh = True

    def forward(
        ctx, x: Array, axis: Axis = None, keepdims: bool = False, correction: int = 1
    ) -> Array:
        y = ctx.variance(x, axis, keepdims, correction)
        return y.astype(FLOAT32 if is_integer(x.dtype) else x.dtype, copy=False)

    def variance(ctx, x: Array, axis: Axis, keepdims: bool, correction: int) -> Array:
        """The variance, not yet rounded to 16 bits; saves the deviations from the mean."""
        axes = ctx.prepare(x, axis, keepdims)
        x = as_float(x)
        wide = x.astype(accumulate_dtype(x.dtype), copy=False)
        n = ctx.count or math.nan
        deviation = wide - wide.sum(axis=axes, keepdims=True) / n
        deviation -= deviation.sum(axis=axes, keepdims=True) / n  # what rounding left of the mean
        ctx.degrees = ctx.count - correction if ctx.count > correction else math.nan
        ctx.save(deviation)
        return (deviation * deviation).sum(axis=axes, keepdims=keepdims) / ctx.degrees

    def backward(ctx, dy: Array) -> Array:
        (deviation,) = ctx.saved
        return (ctx.spread(2 * dy / ctx.degrees) * deviation).astype(dy.dtype, copy=False)


@register("std", family="reduction")
class Std(Var):
    """y = (sum_i (x_i - m)^2 / (n - c))^(1/2): the square root of `var`

    By the chain rule that of the root, 1 / (2 y), times that of the variance. Where all elements
    are equal y is 0 and has a kink; there the gradient is 0, as that of a length (`norm`):

        dx_i = dy (x_i - m) / ((n - c) y)

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    """

    def forward(
        ctx, x: Array, axis: Axis = None, keepdims: bool = False, correction: int = 1
    ) -> Array:
        y = ctx.xp.sqrt(ctx.variance(x, axis, keepdims, correction))
        ctx.save(*ctx.saved, y)
        return y.astype(FLOAT32 if is_integer(x.dtype) else x.dtype, copy=False)

    def backward(ctx, dy: Array) -> Array:
        deviation, y = ctx.saved
        per_deviation = dy / (ctx.degrees * ctx.xp.where(y == 0, 1, y))
        return (ctx.spread(per_deviation) * deviation).astype(dy.dtype, copy=False)


class _Extreme(Reduction):
    """max and min: the gradient goes to the winner, and ties share it."""

    fresh = True

    def refuse_empty(ctx) -> None:
        """Raise a ShapeError where an extreme of no elements is asked for."""
        if not ctx.count:
            raise ShapeError(
                f"{ctx.name}: the chosen axes of a tensor of shape {ctx.shape} hold no element "
                "to choose from. Check for the length 0 before, or reduce along another axis."
            )

    def choose(ctx, y: Array, x: Array) -> None:
        winners = (x == y.reshape(ctx.kept)) | (x != x)  # a NaN is the result, and equals nothing
        ctx.save(winners)

    def backward(ctx, dy: Array) -> Array:
        (winners,) = ctx.saved
        axes = tuple(i for i, n in enumerate(ctx.kept) if n == 1)
        ties = winners.sum(axis=axes, keepdims=True)
        share = (dy.reshape(ctx.kept) / ties).astype(dy.dtype, copy=False)
        return where_or_zero(ctx.xp, winners, share)


@register("max", family="reduction")
class Max(_Extreme):
    """y = max_i x_i over the chosen axes

    Only the largest element moves y: dy/dx_i = 1 for it and 0 for the others. Where k elements
    are equally large the derivative does not exist; each gets 1/k, the middle of what is possible.

        dx_i = dy [x_i = y] / k

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    """

    def forward(ctx, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        axes = ctx.prepare(x, axis, keepdims)
        ctx.refuse_empty()
        y = x.max(axis=axes, keepdims=keepdims)
        ctx.choose(ctx.xp.asarray(y), x)
        return y


@register("min", family="reduction")
class Min(_Extreme):
    """y = min_i x_i over the chosen axes

        dx_i = dy [x_i = y] / k,  k the number of equally small elements (see max)

    Shapes: x any; y without the axes, or with length 1 there where keepdims.
    """

    def forward(ctx, x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
        axes = ctx.prepare(x, axis, keepdims)
        ctx.refuse_empty()
        y = x.min(axis=axes, keepdims=keepdims)
        ctx.choose(ctx.xp.asarray(y), x)
        return y


def _axes(rng: np.random.Generator) -> list[Sample]:
    x = rng.permutation(24).reshape(2, 3, 4) / 7.0  # all different: the largest one is unique
    return [
        sample(x),
        sample(x, axis=1),
        sample(x, axis=-1, keepdims=True, label="keepdims"),
        sample(x, axis=(0, 2), label="two axes"),
    ]


def _spreads(rng: np.random.Generator) -> list[Sample]:
    return [*_axes(rng), sample(rng.normal(size=(5,)), correction=0, label="biased")]


def std_composed(
    x: Tensor, axis: Axis = None, keepdims: bool = False, correction: int = 1
) -> Tensor:
    """The square root of the variance, in small ops."""
    return x.var(axis=axis, keepdims=keepdims, correction=correction).sqrt()


def _everyone_wins(ctx: _Extreme, dy: Array) -> Array:
    """Mistake: the sum's rule, dy for all elements."""
    return ctx.spread(dy) + 0


prove("sum", samples=_axes, wrong={"mean's rule": lambda ctx, dy: ctx.spread(dy) / ctx.count})
prove("mean", samples=_axes, wrong={"sum's rule": lambda ctx, dy: ctx.spread(dy) + 0})
prove(
    "var",
    samples=_spreads,
    wrong={"n for n - c": lambda ctx, dy: ctx.spread(2 * dy / ctx.count) * ctx.saved[0]},
)
prove(
    "std",
    samples=_spreads,
    wrong={"not divided by y": lambda ctx, dy: ctx.spread(dy / ctx.degrees) * ctx.saved[0]},
    composed=std_composed,
)
prove("max", samples=_axes, wrong={"everyone wins": _everyone_wins})
prove("min", samples=_axes, wrong={"everyone wins": _everyone_wins})
