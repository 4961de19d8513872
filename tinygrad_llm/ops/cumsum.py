"""The running sum along an axis."""

from __future__ import annotations

import numpy as np

from tinygrad_llm.autograd import Function, prove, register, sample
from tinygrad_llm.autograd.axes import normalize_axis
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array
from tinygrad_llm.backend.dtypes import accumulate_dtype, is_integer


@register("cumsum", family="reduction")
class CumSum(Function):
    """y_i = x_1 + ... + x_i along an axis

    x_j is a summand of y_j and of all behind it, so its gradient is a running sum from the end:

        dx_j = sum_{i >= j} dy_i

    Shapes: x, y equal.
    """

    fresh = True

    def forward(ctx, x: Array, axis: int) -> Array:
        ctx.axis = normalize_axis("cumsum", axis, max(x.ndim, 1))
        return _running_sum(x, ctx.axis)

    def backward(ctx, dy: Array) -> Array:
        if not dy.ndim:
            return dy
        back = ctx.xp.flip(dy, ctx.axis)
        return ctx.xp.flip(_running_sum(back, ctx.axis), ctx.axis)


def _running_sum(x: Array, axis: int) -> Array:
    if not x.ndim:
        return x.astype(np.int64) if is_integer(x.dtype) else x.copy()
    if is_integer(x.dtype):
        return x.cumsum(axis=axis, dtype=np.int64)
    return x.cumsum(axis=axis, dtype=accumulate_dtype(x.dtype)).astype(x.dtype, copy=False)


def _rows(rng: np.random.Generator) -> list[Sample]:
    x = rng.normal(size=(2, 3, 4))
    return [sample(x, axis=-1), sample(x, axis=0, label="first axis")]


prove(
    "cumsum",
    samples=_rows,
    wrong={"summed from the front": lambda ctx, dy: dy.cumsum(axis=ctx.axis)},
)
